"""MetaX's library: the real source over a real shared object that answers as a script says."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bench.devices.libraries import mxsml_api as api
from bench.devices.libraries.mxsml import (
    C_SERIES,
    HOTSPOT,
    MODE_VF,
    N_SERIES,
    VERSION_BIOS,
    VERSION_DRIVER,
    MxsmlSource,
)
from bench.devices.source import ListedDevice
from bench.devices.vendor import VendorBackend
from bench.devices.vendors.metax import MetaX
from bench.errors import DeviceError, InputError
from bench.telemetry import Reading
from tests.bench.vendors.tools import VENDORS, Vendor, bus
from tests.bindings import DETECTOR, published
from tests.fake_libraries import compile_library, install, lines, of_another_machine, write_script

FOLDER = "opt/mxdriver/lib"
GPU: dict[str, object] = {
    "name": "MXC500",
    "bdf": "0000:0e:00.0",
    "uuid": "GPU-7f3e1c52-0a9b-4d6e-8c11-55aa00000001",
    "serial": "AZTB250300117",
    "chip": "QF81C0047E22",
    "bios": "1.27.5.0",
    "memory": 64 * 2**20,
    "power": "112000+113000+114500",
    "limit": 350_000,
    "temperature": 6_390,
    "clock": 1_500,
    "clocks": "800 1200 1600",
    "usage": 99,
    "ecc": 1,
    "sram": 1,
    "dram": 2,
    "reasons": "0x5",
    "processes": 2,
    "state": 1,
}
SECOND = GPU | {
    "bdf": "0000:21:00.0",
    "uuid": "GPU-7f3e1c52-0a9b-4d6e-8c11-55aa00000002",
    "serial": "AZTB250300118",
    "chip": "QF81C0047E23",
}
READING = Reading(
    power_mw=339_500,
    temperature_c=63,
    clock_mhz=1_500,
    utilisation_ppm=990_000,
    throttled=("over_power",),
    ecc_uncorrected=3,
    processes=2,
)
MACA = "maca 3.3.0.15\n"
Open = Callable[..., MxsmlSource]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Return what opens the source on a node with some devices."""

    def build(*devices: str, library: str = MACA, without: tuple[str, ...] = ()) -> MxsmlSource:
        monkeypatch.setenv("FAKE_MXSML", str(write_script(tmp_path / "script", library + "".join(devices))))
        install(compile_library("mxsml.c", "libmxsml.so", without=without), tmp_path, FOLDER)
        return MxsmlSource.open(tmp_path)

    return build


def device(values: dict[str, object], *more: str, **changes: object) -> str:
    return lines("device", values | changes, more)


def look(source: MxsmlSource) -> dict[int, Reading | DeviceError]:
    return source.readings(source.devices())


def test_a_gpu_is_listed_with_all_that_identifies_it(opened: Open) -> None:
    source = opened(device(GPU), device(SECOND))
    first, second = source.devices()
    assert first == ListedDevice(
        number=0,
        model="MXC500",
        keys=(str(GPU["uuid"]),),
        uuid=str(GPU["uuid"]),
        serial="AZTB250300117",
        die_id="QF81C0047E22",
        pci_address="0000:0e:00.0",
        firmware="1.27.5.0",
        driver="petaseal-fake-1.0",
        memory_bytes=64 * 2**30,
        max_clock_mhz=1_600,
        power_limit_mw=350_000,
        modes=(("ecc", "on"),),
        exposes=("power", "clock", "temperature", "processes", "throttle", "ecc"),
        place=("11", "4"),
    )
    assert (second.number, second.pci_address, second.serial) == (1, "0000:21:00.0", "AZTB250300118")
    assert source.version == "MACA 3.3.0.15"
    assert (source.name, Path(source.path or "").name) == ("mxsml", "libmxsml.so")
    assert source.sha256 is not None


def test_one_look_reads_all_devices(opened: Open) -> None:
    assert look(opened(device(GPU), device(SECOND, power="50000", reasons="0"))) == {
        0: READING,
        1: READING._replace(power_mw=50_000, throttled=()),
    }


def test_the_n_series_has_its_cores_elsewhere(opened: Open) -> None:
    source = opened(device(GPU, brand=1, name="MXN260"))
    (row,) = source.devices()
    assert (row.model, row.max_clock_mhz, row.place) == ("MXN260", 1_600, ("1", "0"))
    assert source.readings([row]) == {0: READING}


# What the driver of another release, or another device, does not have
OPTIONAL = {
    "mxSmlGetBoardSerial": ("serial", None),
    "mxSmlGetChipSerial": ("die_id", None),
    "mxSmlGetMemoryInfo": ("memory_bytes", None),
    "mxSmlGetBoardPowerLimit": ("power_limit_mw", None),
    "mxSmlGetDpmIpClockInfo": ("max_clock_mhz", None),
    "mxSmlGetEccState": ("modes", ()),
    "mxSmlGetMacaVersion": (None, None),
    "mxSmlGetErrorString": (None, None),
    "mxSmlGetDeviceState": (None, None),
    "mxSmlGetDeviceUnavailableReason": (None, None),
    "mxSmlGetSgpuCount": (None, None),
    "mxSmlGetSgpuToggle": (None, None),
    "mxSmlGetSgpuInfo": (None, None),
    "mxSmlGetPfDeviceCount": (None, None),
    "mxSmlGetLimitedDeviceInfo": (None, None),
    "mxSmlGetVirtualDevicesByPhysicalId": (None, None),
}
REFUSALS = [(code, "device-library-unusable") for code in (2, 4)] + [(code, "device-permission") for code in (8, 21)]
READ = {
    "mxSmlGetTemperatureInfo": "temperature_c",
    "mxSmlGetDeviceIpUsage": "utilisation_ppm",
    "mxSmlGetCurrentClocksThrottleReason": "throttled",
    "mxSmlGetTotalEccErrors": "ecc_uncorrected",
    "mxSmlGetSingleGpuProcess": "processes",
}


@pytest.mark.parametrize("function", OPTIONAL)
def test_a_function_that_an_older_release_lacks_is_unknown(function: str, opened: Open) -> None:
    field, expected = OPTIONAL[function]
    source = opened(device(GPU), without=(function,))
    (row,) = source.devices()
    assert row.model == "MXC500"
    assert field is None or getattr(row, field) == expected
    assert source.readings([row]) == {0: READING}


@pytest.mark.parametrize("function", READ)
def test_a_quantity_that_an_older_release_lacks_is_not_exposed(function: str, opened: Open) -> None:
    source = opened(device(GPU), without=(function,))
    (row,) = source.devices()
    assert source.readings([row]) == {0: READING._replace(**{READ[function]: None})}
    assert ("throttle" in (row.exposes or ())) == (function != "mxSmlGetCurrentClocksThrottleReason")
    assert ("ecc" in (row.exposes or ())) == (function != "mxSmlGetTotalEccErrors")


@pytest.mark.parametrize("function", ["mxSmlGetBoardPowerInfo", "mxSmlGetClocks", "mxSmlGetDeviceCount"])
def test_a_library_older_than_a_needed_function_is_refused(function: str, opened: Open) -> None:
    with pytest.raises(InputError, match=function) as error:
        opened(device(GPU), without=(function,))
    assert error.value.code == "device-library-unusable"


@pytest.mark.parametrize("function", [*READ, "mxSmlGetBoardPowerInfo", "mxSmlGetClocks", "mxSmlGetEccState"])
@pytest.mark.parametrize("code", [3, 4, 8])
def test_an_error_for_one_device_costs_that_quantity_of_it_alone(function: str, code: int, opened: Open) -> None:
    field = READ.get(function, {"mxSmlGetBoardPowerInfo": "power_mw", "mxSmlGetClocks": "clock_mhz"}.get(function))
    missing = READING if field is None else READING._replace(**{field: None})
    assert look(opened(device(GPU, f"answer {function} {code}"), device(SECOND))) == {0: missing, 1: READING}


def test_a_device_that_the_library_refuses_stands_in_its_place_with_its_fault(opened: Open) -> None:
    source = opened(device(GPU), device(SECOND, "answer mxSmlGetDeviceInfo 4"))
    sound, faulty = source.devices()
    assert sound.fault is None
    assert (faulty.number, faulty.pci_address, faulty.uuid) == (1, "0000:21:00.0", None)
    assert faulty.fault is not None
    assert "fake error 4 (code 4)" in faulty.fault.what
    assert source.readings([sound, faulty]) == {0: READING}


@pytest.mark.parametrize(("code", "expected"), REFUSALS)
@pytest.mark.parametrize("function", ["mxSmlInit", "mxSmlGetDeviceInfo"])
def test_a_library_that_refuses_is_one_sentence(function: str, code: int, expected: str, opened: Open) -> None:
    with pytest.raises(InputError, match=f"{function} fails: fake error {code}") as error:
        opened(device(GPU), library=f"{MACA}answer {function} {code}\n").devices()
    assert error.value.code == expected


def test_a_library_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="MetaX") as error:
        MxsmlSource.open(tmp_path)
    assert (error.value.code, error.value.where) == ("device-library-missing", "libmxsml.so")


def test_a_library_of_another_architecture_is_refused(tmp_path: Path) -> None:
    of_another_machine(compile_library("mxsml.c", "libmxsml.so"), tmp_path / FOLDER)
    with pytest.raises(InputError, match="MetaX") as error:
        MxsmlSource.open(tmp_path)
    assert error.value.code == "device-library-unusable"


def test_of_two_versions_the_one_of_the_driver_answers(opened: Open, tmp_path: Path) -> None:
    install(compile_library("mxsml.c", "libmxsml.so", without=("mxSmlInit",)), tmp_path, "opt/maca/lib")
    source = opened(device(GPU))
    assert source.devices()[0].model == "MXC500"
    assert source.path == str(tmp_path / FOLDER / "libmxsml.so")


# Devices that go
def test_a_device_that_is_lost_later_ends_its_measurement_alone(opened: Open) -> None:
    source = opened(device(GPU), device(SECOND, "answer mxSmlGetDeviceInfo 0 @1 6"))
    rows = source.devices()
    found = source.readings(rows)
    assert found[0] == READING
    assert isinstance(found[1], DeviceError)
    assert found[1].code == "device-lost"


def test_fewer_devices_than_were_counted(opened: Open) -> None:
    source = opened(device(GPU), device(SECOND), library=f"{MACA}count 2 @1 1\n")
    rows = source.devices()
    assert [row.fault is None for row in rows] == [True, False]
    assert source.readings(rows) == {0: READING}


def test_another_device_at_the_index_is_a_lost_one(opened: Open) -> None:
    source = opened(device(GPU), device(SECOND))
    rows = [source.devices()[0]._replace(number=1)]
    error = source.readings(rows)[1]
    assert isinstance(error, DeviceError)
    assert "0000:0e:00.0 is no longer at its index 1" in error.what


@pytest.mark.parametrize("reason", ["xcore hang", "", None])
def test_a_device_that_is_not_available_is_faulty(reason: str | None, opened: Open) -> None:
    source = opened(device(GPU), device(SECOND, state="1 @1 0", reason=reason))
    rows = source.devices()
    assert [row.fault is None for row in rows] == [True, False]
    assert rows[1].fault is not None
    assert (reason or "it gives no reason") in rows[1].fault.what
    error = source.readings([rows[1]._replace(fault=None)])[1]
    assert isinstance(error, DeviceError)
    assert error.code == "device-failed"


# Values at the limit of their type, or that cannot be
@pytest.mark.parametrize(
    ("word", "value", "field", "expected"),
    [
        ("power", "0xffffffff", "power_mw", None),
        ("power", "100000+0xffffffff+1", "power_mw", None),
        ("power", "0", "power_mw", None),
        ("power", "4000000000", "power_mw", None),
        ("power", "1+2+3+4+5+6+7+8+9", "power_mw", None),
        ("temperature", "0x7fffffff", "temperature_c", None),
        ("temperature", "-2147483648", "temperature_c", None),
        ("temperature", "-1250", "temperature_c", 0),
        ("temperature", "99", "temperature_c", 0),
        ("clock", "0xffffffff", "clock_mhz", None),
        ("clock", "0", "clock_mhz", None),
        ("clock", "1500000", "clock_mhz", None),
        ("usage", "-1", "utilisation_ppm", None),
        ("usage", "101", "utilisation_ppm", None),
        ("usage", "0", "utilisation_ppm", 0),
        ("reasons", "0xffffffffffffffff", "throttled", None),
        ("reasons", "0xffffffff", "throttled", None),
        ("reasons", "1", "throttled", ()),
        ("reasons", "0x80000900", "throttled", ("other", "power_brake", "reason_0x800")),
        ("dram", "0xffffffff", "ecc_uncorrected", None),
        ("sram", "0xffffffff", "ecc_uncorrected", None),
        ("ecc", "0", "ecc_uncorrected", None),
        ("processes", "0", "processes", 0),
        ("processes", "0xffffffff", "processes", None),
        ("processes", "65", "processes", 65),
    ],
)
def test_an_impossible_value_is_unknown(word: str, value: str, field: str, expected: Any, opened: Open) -> None:
    assert look(opened(device(GPU, **{word: value}))) == {0: READING._replace(**{field: expected})}


@pytest.mark.parametrize(
    ("word", "value", "field", "expected"),
    [
        ("memory", "0", "memory_bytes", None),
        ("memory", "-1", "memory_bytes", None),
        ("memory", str(2**63 - 1), "memory_bytes", None),
        ("limit", "0xffffffff", "power_limit_mw", None),
        ("clocks", "0 4294967295", "max_clock_mhz", None),
        ("serial", "AZTB250300117  ", "serial", "AZTB250300117"),
        ("serial", r"AZTB250300117\x00rest", "serial", "AZTB250300117"),
        ("serial", "unknown", "serial", None),
        ("serial", r"\xff\xfe", "serial", None),
        ("serial", "x" * 40, "serial", None),
        ("name", r"MXC500  \x00\x00", "model", "MXC500"),
        ("bdf", "0000:00:00.0", "pci_address", None),
        ("bdf", "", "pci_address", None),
        ("uuid", "N/A", "uuid", None),
        ("bios", "unknown", "firmware", None),
    ],
)
def test_a_field_that_says_nothing_is_unknown(
    word: str, value: str, field: str, expected: object, opened: Open
) -> None:
    assert getattr(opened(device(GPU, **{word: value})).devices()[0], field) == expected


def test_a_device_without_a_name_is_faulty(opened: Open) -> None:
    rows = opened(device(GPU), device(SECOND, name=None)).devices()
    assert rows[1].fault is not None
    assert "no name" in rows[1].fault.what


def test_a_device_without_any_reading_is_left_out(opened: Open) -> None:
    plain = {name: value for name, value in SECOND.items() if name in ("name", "bdf", "uuid", "serial")}
    source = opened(device(GPU), device(plain))
    assert source.readings(source.devices()) == {0: READING}


# Shares
SHARE = {"exposes": ("clock", "temperature", "processes", "throttle", "ecc"), "count_unit": "slice", "serial": None}


def reported_of(row: ListedDevice, *fields: str) -> dict[str, object]:
    return {name: getattr(row, name) for name in fields}


def test_a_slice_is_no_card(opened: Open) -> None:
    cut = device(GPU, sgpu=1, sgpus="2", sgpu_quota=16_000, sgpu_uuid="GPU-7f3e1c52-0a9b-4d6e-8c11-55aa00000001-02")
    source = opened(cut, device(SECOND, sgpu=1))
    share, whole = source.devices()
    assert reported_of(share, *SHARE) == SHARE
    assert (share.parent, share.uuid) == (GPU["uuid"], f"{GPU['uuid']}-02")
    assert share.memory_bytes == 16_000 * 2**20
    assert (share.power_limit_mw, share.die_id) == (None, None)
    assert (whole.count_unit, whole.parent, whole.modes) == ("card", None, (("ecc", "on"), ("sgpu", "on")))
    readings = source.readings([share, whole])
    assert readings == {0: READING._replace(power_mw=None, utilisation_ppm=None), 1: READING}


@pytest.mark.parametrize("refused", ["", "answer mxSmlGetSgpuInfo 3"])
def test_a_gpu_in_several_slices_is_one_share_of_unknown_size(refused: str, opened: Open) -> None:
    (row,) = opened(device(GPU, *filter(None, [refused]), sgpu=1, sgpus="0 5", sgpu_quota=16_000)).devices()
    assert (row.count_unit, row.parent, row.uuid) == ("slice", GPU["uuid"], None)
    assert row.memory_bytes is None


def test_virtual_functions_are_slices_of_their_gpu(opened: Open) -> None:
    whole = device(GPU, mode=1)
    shares = [device(SECOND, mode=2, of=100, bdf=f"0000:0e:00.{n}", uuid=f"GPU-5{n}") for n in (1, 2)]
    rows = opened(whole, *shares).devices()
    assert [row.pci_address for row in rows] == ["0000:0e:00.1", "0000:0e:00.2"]
    assert [reported_of(row, *SHARE) for row in rows] == [SHARE, SHARE]
    assert [row.parent for row in rows] == [GPU["uuid"]] * 2


@pytest.mark.parametrize("serial", ["AZTB250300118", None])
def test_a_virtual_function_in_a_guest_has_its_boards_serial_as_its_parent(serial: str | None, opened: Open) -> None:
    (row,) = opened(device(SECOND, mode=2, serial=serial)).devices()
    assert (row.count_unit, row.parent, row.serial) == ("slice", serial, None)


def test_a_node_whose_gpus_are_all_virtualised_away_lists_none(opened: Open) -> None:
    assert opened(device(GPU, mode=1)).devices() == []


# The whole back end
def test_the_back_end_takes_the_library_before_the_tool(opened: Open, tmp_path: Path) -> None:
    opened(device(GPU), device(SECOND, name="MetaX C550"))
    backend = MetaX(bus(tmp_path, MetaX, "0x038000", ("0000:0e:00.0", "0000:21:00.0")))
    first, second = backend.look(None)
    assert (first.model.source, first.model.library) == ("mxsml", str(tmp_path / FOLDER / "libmxsml.so"))
    assert first.model.simulated  # by its driver
    assert (first.model.model, second.model.model) == ("MXC500", "MetaX C550")
    assert (first.device.serial, first.device.die_id) == ("AZTB250300117", "QF81C0047E22")
    assert dict(first.visibility) == {"CUDA_VISIBLE_DEVICES": "0"}


def test_gpus_with_one_boards_serial_are_its_dies(opened: Open, tmp_path: Path) -> None:
    opened(device(GPU), device(SECOND, serial=GPU["serial"]))
    found = MetaX(bus(tmp_path, MetaX, "0x038000", ("0000:0e:00.0", "0000:21:00.0"))).look(None)
    assert [(one.model.count_unit, one.device.parent, one.device.serial) for one in found] == [
        ("die", GPU["serial"], None)
    ] * 2


@pytest.mark.parametrize("library", ["missing", "old", "denied"])
def test_the_tool_stands_in_for_a_library_that_cannot_be_used(
    library: str, opened: Open, tmp_path: Path, node: Callable[[Vendor], VendorBackend]
) -> None:
    backend = node(VENDORS["maca"])
    if library != "missing":
        with pytest.raises(InputError):
            opened(
                device(GPU),
                library="" if library == "old" else "answer mxSmlInit 8\n",
                without=("mxSmlGetClocks",) if library == "old" else (),
            )
    first, _ = backend.look(None)
    assert (first.model.source, first.model.model) == ("mx-smi", "MetaX C500")
    why = {"missing": "not on the loader's path", "old": "no mxSmlGetClocks", "denied": "mxSmlInit fails"}
    assert why[library] in "".join(first.skipped)


# The published binding
@pytest.fixture
def binding(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return published(monkeypatch, f"{DETECTOR}/pymxsml/__init__.py")


def shape(kind: Any) -> object:
    """Return what of a type the machine sees: size and place of its fields."""
    if issubclass(kind, ctypes.Array):
        return shape(kind._type_)
    if not issubclass(kind, ctypes.Structure):
        return ctypes.sizeof(kind), kind._type_ in "bhilq"  # signed
    fields = [(getattr(kind, name).offset, getattr(kind, name).size, shape(of)) for name, of, *_ in kind._fields_]
    return ctypes.sizeof(kind), fields


def passed(argument: Any) -> object:
    """Return the shape of what the binding passes."""
    if hasattr(argument, "_obj"):
        return "pointer", shape(type(argument._obj))
    if isinstance(argument, ctypes.Array):
        return "pointer", shape(type(argument))
    return shape(ctypes.c_uint if isinstance(argument, int) else type(argument))


def declared(kind: Any) -> object:
    """Return the shape of a declared argument."""
    if kind is ctypes.c_char_p:
        return "pointer", shape(ctypes.c_char)
    return ("pointer", shape(kind._type_)) if hasattr(kind, "contents") else shape(kind)


HEADER_ALONE = {"mxSmlGetDeviceState", "mxSmlGetSgpuToggle", "mxSmlGetSgpuCount", "mxSmlGetSgpuInfo"}


@pytest.mark.parametrize("function", [name for name in api.FUNCTIONS if name not in HEADER_ALONE | {"mxSmlInit"}])
def test_arguments_are_those_of_the_published_binding(
    function: str, binding: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, list[object]]] = []

    def pointer(name: str) -> Any:
        def call(*arguments: Any) -> int:
            calls.append((name, [passed(argument) for argument in arguments]))
            return 0

        return call

    monkeypatch.setattr(binding, "_mxsmlGetFunctionPointer", pointer)
    wrapper: Any = getattr(binding, function)
    needed = (getattr(wrapper, "__wrapped__", wrapper)).__code__.co_argcount
    with contextlib.suppress(binding.MXSMLError):  # the binding asks some twice, for the size first
        wrapper(*[0] * needed)
    assert calls[0] == (function, [declared(kind) for kind in api.FUNCTIONS[function]])


def test_constants_are_those_of_the_published_binding(binding: ModuleType) -> None:
    for name in ("SUCCESS", "ERROR_NO_DEVICE", "ERROR_INVALID_DEVICE_ID", "ERROR_INSUFFICIENT_SIZE"):
        assert getattr(binding, f"MXSML_{name}") == getattr(api, name.removeprefix("ERROR_"))
    assert binding.MXSML_ERROR_PERMISSION_DENIED == api.PERMISSION_DENIED
    assert binding.MXSML_ERROR_OPEN_DEVICE_FILE_FAILURE == api.OPEN_DEVICE_FILE_FAILURE
    assert (C_SERIES.clock, N_SERIES.clock) == (binding.MXSML_CLOCK_XCORE, binding.MXSML_CLOCK_DLA)
    assert (C_SERIES.levels, N_SERIES.levels) == (binding.MXSML_DPM_XCORE, binding.MXSML_DPM_DLA)
    assert (C_SERIES.usage, N_SERIES.usage) == (binding.MXSML_USAGE_XCORE, binding.MXSML_USAGE_DLA)
    assert (binding.MXSML_VERSION_BIOS, binding.MXSML_VERSION_DRIVER) == (VERSION_BIOS, VERSION_DRIVER)
    assert (binding.MXSML_TEMPERATURE_HOTSPOT, binding.MXSML_VIRTUALIZATION_MODE_VF) == (HOTSPOT, MODE_VF)
