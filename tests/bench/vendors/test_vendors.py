"""Vendors' whole back ends without their hardware: an executable on PATH stands in for the tool."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.clock import SimulatedClock
from bench.devices import opened_vendor, select_devices, vendor
from bench.devices.opened_vendor import OpenedVendor
from bench.devices.tools import tool as tool_module
from bench.devices.tools.tool import ToolSource
from bench.devices.vendor import VendorBackend
from bench.devices.vendors.amd import Amd
from bench.errors import DeviceError, InputError
from bench.record.identities import unshared_identities
from tests.bench.vendors.tools import READINGS, VENDORS, Vendor, backend_of, bus, install, opened_at, script


# Whole back ends against a fake tool on PATH
@pytest.mark.parametrize("kind", VENDORS)
def test_find(kind: str, node: Callable[[Vendor], VendorBackend]) -> None:
    vendor = VENDORS[kind]
    backend = node(vendor)
    found = backend.find(None)
    assert [f.device.device for f in found] == [f"{kind}:0", f"{kind}:1"]
    assert [f.device.pci_address for f in found] == list(vendor.functions)
    keys = [key for f in found for key in unshared_identities(f.device).values()]
    assert len(keys) == len(set(keys)) >= 2
    for f in found:
        assert f.model.vendor == backend.vendor
        assert (f.model.library or "").endswith(f"bin/{vendor.tool}")
        assert f.model.library_sha256 is not None
        assert f.model.memory_bytes
        assert f.model.count_unit not in ("die", "slice") or f.device.parent
        told_fields = {"vendor": f.model.vendor, "model": f.model.model, "uuid": f.device.uuid, "bin": f.model.bin}
        for name, value in told_fields.items():
            assert (name in f.model.obtained) == (value is not None)
        assert set(f.model.obtained.values()) == {"host_attested"}
    assert backend.find("1") == found[1:]
    with pytest.raises(InputError, match="no such device"):
        backend.find("2")


@pytest.mark.parametrize("kind", VENDORS)
def test_open_leaves_one_device_visible(
    kind: str, node: Callable[[Vendor], VendorBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor, number = VENDORS[kind], READINGS[kind][0]
    backend = node(vendor)
    opened = backend.open(backend.find("0")[0], SimulatedClock())
    assert os.environ[vendor.variable] == vendor.chosen
    assert opened.target == f"{backend.torch_type}:0"
    monkeypatch.delenv(vendor.variable)
    found = backend.find(str(number))[0]
    assert backend.watch([found]).read() == {f"{kind}:{number}": READINGS[kind][1]}


def test_a_tool_that_fails_later_costs_a_look_only(tmp_path: Path, node: Callable[[Vendor], VendorBackend]) -> None:
    vendor = VENDORS["musa"]
    backend = node(vendor)
    watch = backend.watch(backend.find("0"))
    script(tmp_path / "bin" / vendor.tool, "exit 1")
    with pytest.raises(InputError):
        watch.read()
    install(tmp_path / "bin", vendor.tool, vendor.answers)
    assert watch.read() == {"musa:0": READINGS["musa"][1]}


def test_no_hardware_is_no_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for kind in VENDORS:
        assert backend_of(kind, tmp_path).find(None) == []
        with pytest.raises(InputError):
            backend_of(kind, tmp_path).find("0")


TROUBLES = {
    "exit status 1": ("echo 'driver not loaded' >&2; exit 1", "device-tool-failed", "driver not loaded"),
    "says nothing": ("exit 1", "device-tool-failed", "says nothing"),
    "no permission": ("echo 'dcmi: Permission denied' >&2; exit 255", "device-permission", "Permission denied"),
    "must be root": ("echo 'this command needs root'; exit 9", "device-permission", "root"),
    "hangs": ("sleep 60 & wait", "device-tool-failed", "did not end within 0.5 s"),
    "hangs with closed outputs": ("exec >&- 2>&-; sleep 60", "device-tool-failed", "did not end within 0.5 s"),
    "floods": ("yes 'NPU ID : 0'", "device-tool-failed", "printed more than"),
    "lists nothing": ("echo", "device-tool-unknown", "unknown form"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("kind", ["rocm", "npu", "kunlun"])
def test_a_tool_that_fails(
    kind: str, trouble: str, tmp_path: Path, node: Callable[[Vendor], VendorBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    body, code, said = TROUBLES[trouble]
    monkeypatch.setattr(tool_module, "TIMEOUT_S", 0.5 if "hang" in trouble else 20.0)
    backend = node(VENDORS[kind])
    script(tmp_path / "bin" / VENDORS[kind].tool, body)
    with pytest.raises(InputError) as error:
        backend.find(None)
    assert error.value.code == code
    assert said in str(error.value)
    assert VENDORS[kind].tool in str(error.value)


def test_a_tool_that_is_missing_or_cannot_run(
    tmp_path: Path, node: Callable[[Vendor], VendorBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = node(VENDORS["mlu"])
    path = tmp_path / "bin" / "cnmon"
    path.write_bytes(b"\x7fELF nothing")
    with pytest.raises(InputError, match="cannot be started"):
        backend.find(None)
    path.unlink()
    with pytest.raises(InputError, match="cnmon is not on PATH") as error:
        backend.find(None)
    assert error.value.code == "device-tool-missing"
    told = str(error.value)
    assert f"is not on PATH ({os.environ['PATH']})" in told
    assert "in a container let the device plug-in put it there: its option --cnmon-path" in told
    assert "no device file is here (/dev/cambricon_dev[0-9]*, /dev/cambricon_ctl)" in told


@pytest.mark.parametrize("tool", ["npu-smi", "cnmon", "hy-smi", "mx-smi"])
def test_a_tool_that_a_pod_lacks_is_named_with_where_it_was_sought(
    tool: str, tmp_path: Path, node: Callable[[Vendor], VendorBackend]
) -> None:
    (vendor,) = (vendor for vendor in VENDORS.values() if vendor.tool == tool)
    backend = node(vendor)
    (tmp_path / "bin" / tool).unlink()
    with pytest.raises(InputError, match=tool) as error:
        backend.find(None)
    told, last = str(error.value), backend.sources[-1]
    assert os.environ["PATH"] in told
    assert issubclass(last, ToolSource)
    assert f"add {last.folder} to PATH; in a container let" in told


@pytest.mark.parametrize("number", ["-8005", "-8020"])
@pytest.mark.parametrize("status", [0, 1])
def test_what_npu_smi_means_by_a_number_is_said(
    number: str, status: int, tmp_path: Path, node: Callable[[Vendor], VendorBackend]
) -> None:
    """Of a device of another container and of a missing group it says the same."""
    backend = node(VENDORS["npu"])
    script(tmp_path / "bin" / "npu-smi", f"echo 'DrvMngGetConsoleLogLevel failed. ret={number}'; exit {status}")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/davinci0").touch()
    with pytest.raises(InputError, match=number) as error:
        backend.find(None)
    assert error.value.code == ("device-permission" if status == 0 else "device-tool-failed")
    assert "belongs to another container, or this process is not in the group of its device files" in str(error.value)


# Which devices may be used
@pytest.mark.parametrize(
    ("kind", "variables", "expected"),
    [
        ("musa", {"MUSA_VISIBLE_DEVICES": "1"}, ["0000:36:00.0"]),
        ("musa", {"MUSA_VISIBLE_DEVICES": "1,0"}, ["0000:36:00.0", "0000:12:00.0"]),
        ("musa", {"MUSA_VISIBLE_DEVICES": "1,7,0"}, ["0000:36:00.0"]),
        ("musa", {"MUSA_VISIBLE_DEVICES": "1,1"}, ["0000:36:00.0"]),
        ("musa", {"CUDA_VISIBLE_DEVICES": "0"}, ["0000:12:00.0", "0000:36:00.0"]),  # of another vendor
        ("rocm", {"ROCR_VISIBLE_DEVICES": "GPU-00A1B2C3D4E5F607"}, ["0000:22:00.0"]),
        ("rocm", {"ROCR_VISIBLE_DEVICES": "1,0", "HIP_VISIBLE_DEVICES": "1"}, ["0000:0c:00.0"]),
        ("rocm", {"HIP_VISIBLE_DEVICES": "0", "CUDA_VISIBLE_DEVICES": "1"}, ["0000:0c:00.0"]),
        ("corex", {"CUDA_VISIBLE_DEVICES": "GPU-7a6b5c4d-3e2f-5101-9182-73a4b5c6d7e9"}, ["0000:8d:00.0"]),
        ("npu", {"ASCEND_RT_VISIBLE_DEVICES": "1"}, ["0000:c5:00.0"]),
    ],
)
def test_visibility_variables_are_respected(
    kind: str,
    variables: dict[str, str],
    expected: list[str],
    node: Callable[[Vendor], VendorBackend],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend = node(VENDORS[kind])
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = backend.find(None)
    assert [f.device.pci_address for f in found] == expected
    assert [f.device.device for f in found] == [f"{kind}:{index}" for index in range(len(expected))]
    if found:
        backend.open(found[0], SimulatedClock())
        assert [name for group in backend.variables for name in group if name in os.environ] == [
            backend.variables[0][0]
        ]


@pytest.mark.parametrize("value", ["", "-1", "9", "none", "GPU-1", "0x0", "٣"])
def test_a_variable_that_names_no_device_is_named(
    value: str, node: Callable[[Vendor], VendorBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = node(VENDORS["npu"])
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", value)
    with pytest.raises(InputError, match="ASCEND_RT_VISIBLE_DEVICES") as error:
        backend.find(None)
    assert error.value.code == "device-not-visible"


def test_a_variable_that_several_vendors_obey_may_speak_of_another(
    tmp_path: Path, node: Callable[[Vendor], VendorBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = node(VENDORS["maca"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-of-an-nvidia")
    with pytest.raises(InputError, match="CUDA_VISIBLE_DEVICES"):
        backend.find(None)
    nvidia = tmp_path / "sys/bus/pci/devices/0000:01:00.0"
    nvidia.mkdir()
    (nvidia / "vendor").write_text("0x10de\n")
    (nvidia / "class").write_text("0x030200\n")
    assert backend.find(None) == []
    with pytest.raises(InputError, match="CUDA_VISIBLE_DEVICES"):
        backend.find("0")


def test_the_second_device_is_opened_under_the_variable(
    node: Callable[[Vendor], VendorBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = node(VENDORS["musa"])
    monkeypatch.setenv("MUSA_VISIBLE_DEVICES", "1,0")
    backend.open(backend.find("1")[0], SimulatedClock())
    assert os.environ["MUSA_VISIBLE_DEVICES"] == "0"


@pytest.mark.parametrize("kind", ["rocm", "npu"])
def test_graphics_of_a_console_are_no_accelerator(
    kind: str, tmp_path: Path, node: Callable[[Vendor], VendorBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = node(VENDORS[kind]._replace(pci_class="0x030000"))
    assert len(backend.find(None)) == 2  # the tool answers: then they are
    script(tmp_path / "bin" / VENDORS[kind].tool, "exit 1")
    assert backend.find(None) == []
    with pytest.raises(InputError):
        backend.find("0")


def test_two_vendors_in_one_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_bus = {0x1002: VENDORS["rocm"].functions, 0x1ED5: VENDORS["musa"].functions}
    for kind in ("rocm", "musa"):
        install(tmp_path, VENDORS[kind].tool, VENDORS[kind].answers)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(vendor, "present", lambda ids, root: [a for i in ids for a in on_bus.get(i, ())])
    names = [f.device.device for f in select_devices("all")]
    assert [n for n in names if not n.startswith("torch")] == ["rocm:0", "rocm:1", "musa:0", "musa:1"]
    monkeypatch.setenv("MUSA_VISIBLE_DEVICES", "1")
    assert [f.device.pci_address for f in select_devices("musa,rocm:0")] == ["0000:36:00.0", "0000:0c:00.0"]


def test_a_tool_that_lists_another_vendors_devices_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The DTK has a rocm-smi of its own: on a node with both vendors it must not make one device two."""
    bus(tmp_path, Amd, "0x120000", ("0000:0c:00.0",))
    install(tmp_path / "bin", "rocm-smi", VENDORS["rocm"].answers)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert [f.device.pci_address for f in Amd(tmp_path).find(None)] == ["0000:0c:00.0"]


# torch
def opened(kind: str, place: str | None = "0000:0c:00.0") -> OpenedVendor:
    return opened_at(kind, place)


@pytest.mark.parametrize(("kind", "package"), [("npu", "torch_npu"), ("mlu", "torch_mlu"), ("musa", "torch_musa")])
def test_a_missing_package_of_the_vendor_is_named(kind: str, package: str) -> None:
    pytest.importorskip("torch")
    with pytest.raises(InputError, match=f"{package} cannot be imported") as error:
        opened(kind).kernel()
    assert error.value.code == "missing-library"


def test_the_package_of_the_vendor_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    (tmp_path / "torch_npu.py").write_text("registered = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert opened("npu").kernel().name == "gemm-torch"
    assert sys.modules.pop("torch_npu").registered
    (tmp_path / "torch_mlu.py").write_text("raise OSError('libcndrv.so: cannot open shared object file')\n")
    with pytest.raises(InputError, match=r"libcndrv\.so"):
        opened("mlu").kernel()


def test_torch_must_compute_on_the_device_that_was_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    for seen, place in (("0000:0c:00", "0000:0c:00.0"), (None, "0000:0c:00.0"), ("0000:22:00", None)):
        monkeypatch.setattr(opened_vendor, "_torch_address", lambda torch_type, seen=seen: seen)
        assert opened("rocm", place).kernel().name == "gemm-torch"
    monkeypatch.setattr(opened_vendor, "_torch_address", lambda torch_type: "0000:22:00")
    with pytest.raises(DeviceError, match="0000:22:00") as error:
        opened("rocm").kernel()
    assert error.value.code == "device-differs"


@pytest.mark.parametrize(
    ("parts", "address"),
    [
        ((0, 0x0C, 0), "0000:0c:00"),
        ((1, 0, 0), "0001:00:00"),
        ((0, 0, 0), None),  # left as they were made: unknown, and no other device
        ((-1, -1, -1), None),
        ((0, -1, 0), None),
        ((None, None, None), None),
        ((), None),
    ],
)
def test_an_all_zero_address_of_torch_is_unknown(
    monkeypatch: pytest.MonkeyPatch, parts: tuple[int | None, ...], address: str | None
) -> None:
    torch = pytest.importorskip("torch")
    properties = SimpleNamespace(**{f"pci_{name}_id": n for name, n in zip(PCI_PARTS, parts, strict=False)})
    monkeypatch.setattr(torch, "cuda", SimpleNamespace(get_device_properties=lambda index: properties))
    assert opened_vendor._torch_address("cuda") == address
    if address is None:
        assert opened_at("rocm", "0000:22:00.0").kernel().name == "gemm-torch"


PCI_PARTS = ("domain", "bus", "device")


def test_fp64_that_a_stack_casts_is_unsupported_with_its_reason() -> None:
    for kind in VENDORS:
        reason = opened(kind).unsupported("fp64")
        assert (reason is not None) == (kind in ("npu", "mlu"))
        assert opened(kind).unsupported("fp16") is None
