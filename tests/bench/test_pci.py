from __future__ import annotations

from pathlib import Path

import pytest

from bench.devices.pci import present

NVIDIA, HUAWEI, INTEL = 0x10DE, 0x19E5, 0x8086


def function(root: Path, address: str, vendor: str, kind: str) -> None:
    folder = root / "sys/bus/pci/devices" / address
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{vendor}\n")
    (folder / "class").write_text(f"{kind}\n")


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
