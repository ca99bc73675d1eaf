from __future__ import annotations

from pathlib import Path

import pytest

from bench.devices.pci import present, unknown_accelerators

NVIDIA, HUAWEI, INTEL = 0x10DE, 0x19E5, 0x8086


def function(root: Path, address: str, vendor: str, kind: str, device: str = "0x0001") -> None:
    folder = root / "sys/bus/pci/devices" / address
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{vendor}\n")
    (folder / "class").write_text(f"{kind}\n")
    (folder / "device").write_text(f"{device}\n")


@pytest.mark.parametrize(
    ("kind", "counts"),
    [
        ("0x030000", True),  # VGA
        ("0x030200", True),  # 3D controller
        ("0x038000", True),
        ("0x120000", True),  # processing accelerator
        ("0x0b4000", True),  # co-processor
        ("0x0b3000", False),
        ("0x040300", False),  # the sound of a graphics card
        ("0x0c0330", False),
        ("0x068000", False),  # NVSwitch: a bridge
        ("0x020000", False),  # a network card of the same vendor
        ("display", False),
        ("", False),
    ],
)
def test_what_computes_is_told_by_its_class(tmp_path: Path, kind: str, counts: bool) -> None:
    function(tmp_path, "0000:17:00.0", "0x19e5", kind)
    assert present({HUAWEI}, tmp_path) == (["0000:17:00.0"] if counts else [])


def test_functions_of_the_asked_vendors_in_order(tmp_path: Path) -> None:
    for address, vendor in (("0000:C1:00.0", "0x10de"), ("0000:17:00.0", "0x10DE"), ("0001:02:00.0", "0x19e5")):
        function(tmp_path, address, vendor, "0x120000")
    assert present([NVIDIA], tmp_path) == ["0000:17:00.0", "0000:c1:00.0"]
    assert present({NVIDIA, HUAWEI}, tmp_path) == ["0000:17:00.0", "0000:c1:00.0", "0001:02:00.0"]
    assert present({INTEL}, tmp_path) == present((), tmp_path) == []


def test_a_machine_without_a_bus_or_with_unreadable_files(tmp_path: Path) -> None:
    assert present({NVIDIA}, tmp_path) == []
    function(tmp_path, "0000:17:00.0", "0x10de", "0x030200")
    (tmp_path / "sys/bus/pci/devices/0000:18:00.0").mkdir()
    (tmp_path / "sys/bus/pci/devices/0000:17:00.0/class").unlink()
    assert present({NVIDIA}, tmp_path) == []


def test_an_engine_of_the_processors_is_no_accelerator(tmp_path: Path) -> None:
    """Kunpeng's compression calls itself a processing accelerator of the vendor of Ascend."""
    for address, device in (("0000:75:00.0", "0xa250"), ("0000:75:00.1", "0xa251"), ("0000:c1:00.0", "0xd802")):
        function(tmp_path, address, "0x19e5", "0x120000", device)
    assert present({HUAWEI}, tmp_path) == ["0000:c1:00.0"]


@pytest.mark.parametrize(
    ("vendor", "kind", "counts"),
    [
        ("0x1ded", "0x120000", True),
        ("0x1e36", "0x120000", True),
        ("0x1ee0", "0x030200", True),
        ("0xfff0", "0x120100", True),  # a vendor without a name here
        ("0x1ded", "0x020000", False),  # its network card
        ("0x1ded", "0x060400", False),
        ("0x1ee0", "0x030000", False),
        ("0x10de", "0x030200", False),  # a back end speaks for it, and says what is wrong
        ("0x1a03", "0x030000", False),  # the console of a server
        ("0x1234", "0x030000", False),  # of a virtual machine
        ("0x1af4", "0x038000", False),
        ("0x1414", "0x030200", False),  # Hyper-V and WSL
        ("0x8086", "0x120000", False),  # torch speaks for Intel; the NPU of a processor, FPGAs and coders for radio
        ("0x8086", "0x0b4000", False),  # QAT
        ("0x8086", "0x088000", False),  # DSA and IAA
        ("0x1d0f", "0x088000", False),
        ("0x1dd8", "0x120000", False),  # DPUs
        ("0x15b3", "0x120000", False),
        ("0x10ee", "0x120000", False),  # FPGAs
        ("0x19e5", "0x120000", False),
        ("0x1d94", "0x0b4000", False),
    ],
)
def test_what_is_an_accelerator_of_an_unknown_vendor(tmp_path: Path, vendor: str, kind: str, counts: bool) -> None:
    function(tmp_path, "0000:A8:00.0", vendor, kind)
    (*unknown,) = unknown_accelerators({NVIDIA, HUAWEI, INTEL, 0x1D94}, (), tmp_path)
    assert [one.pci_address for one in unknown] == (["0000:a8:00.0"] if counts else [])


def test_a_device_that_was_found_and_virtual_functions_are_not_unknown(tmp_path: Path) -> None:
    for address in ("0000:a8:00.0", "0000:a8:00.1", "0000:a9:00.0"):
        function(tmp_path, address, "0x1ded", "0x120000", "0x6001")
    (tmp_path / "sys/bus/pci/devices/0000:a8:00.1/physfn").symlink_to("../0000:a8:00.0")
    unknown = unknown_accelerators((), {None, "0000:a9:00.0"}, tmp_path)
    assert [one._asdict() for one in unknown] == [
        {
            "pci_address": "0000:a8:00.0",
            "vendor_id": 0x1DED,
            "device_id": 0x6001,
            "pci_class": 0x1200,
            "is_virtual": False,
        }
    ]
    assert unknown[0].vendor == "T-Head"
