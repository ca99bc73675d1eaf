"""Libraries that copy NVML, read by ctypes: real shared objects behind Iluvatar's and Hygon's names."""

from __future__ import annotations

import ctypes
import hashlib
from pathlib import Path
from typing import Any

import pytest

from bench.devices.libraries.loading import Library
from bench.devices.libraries.nvidia.api import (
    FUNCTIONS,
    MemoryInfo,
    NvmlApi,
    NvmlLikeError,
    PciInfo,
    Utilization,
)
from bench.devices.libraries.nvml_like import HgmlSource, IxmlSource
from bench.devices.source import ListedDevice, with_parts
from bench.devices.vendors.hygon import Hygon
from bench.devices.vendors.iluvatar import Iluvatar
from bench.errors import DeviceError, InputError
from bench.telemetry import Reading
from tests.bench.vendors.nvml_copies import HYGON, ILUVATAR, T_HEAD, chip, hgml, ixml, opened
from tests.bench.vendors.tools import bus
from tests.bindings import Spy, alike, published
from tests.fake_libraries import compile_library, install, of_another_machine, write_script

GPUSTACK = "gpustack_runtime/detector"
UNLIKE = {"nvmlInit_v2", "nvmlInitWithFlags", "nvmlShutdown"}  # which each binding wraps in its own way


# What is read
def test_iluvatar_is_read_through_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = opened(monkeypatch, tmp_path, chip(reasons=4))
    path = tmp_path / "usr/local/corex/lib64/libixml.so"
    assert (source.name, source.path) == ("ixml", str(path))
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert source.version == "12.550.54.14"
    (row,) = source.devices()
    uuid = "GPU-00000000-1111-2222-3333-444455556666"
    assert row == ListedDevice(
        number=0,
        model="Fake BI",
        keys=(uuid,),
        uuid=uuid,
        serial="310000000",
        pci_address="0000:31:00.0",
        board_part="BI-0031-7",
        firmware="3.1.2.0017",
        driver="petaseal-fake-1.0",
        memory_bytes=32 * 2**30,
        max_clock_mhz=1500,
        power_limit_mw=250_000,
        power_limit_default_mw=250_000,
        power_limit_max_mw=300_000,
        modes=(("compute", "default"), ("ecc", "on"), ("persistence", "off")),
    )
    assert source.readings([row]) == {
        0: Reading(
            power_mw=187_000,
            temperature_c=58,
            clock_mhz=1350,
            utilisation_ppm=970_000,
            throttled=("sw_power_cap",),
            ecc_uncorrected=2,
            processes=1,
        )
    }
    # energy is what this library has no function for
    assert source.complete(row).exposes == ("power", "clock", "temperature", "throttle", "ecc", "processes")


def test_a_library_with_another_prefix_has_all_of_nvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = opened(monkeypatch, tmp_path, chip(pci_ids=hex(HYGON), virtualization=1), HgmlSource)
    (row,) = source.devices()
    assert (source.name, row.count_unit) == ("hgml", "card")
    reading = source.readings([row])[0]
    assert reading.energy_mj >= 1_000_000
    assert reading._replace(energy_mj=None) == Reading(187_000, 58, 1350, 970_000, (), 2, 1)


def test_another_makers_devices_in_a_library_of_the_same_name_are_not_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libhgml.so is also the name of T-Head's."""
    script = chip(0, pci_ids=hex(T_HEAD)) + chip(1, pci_ids=hex(HYGON)) + chip(2, pci_ids=hex(0x10000 | T_HEAD))
    assert [row.number for row in opened(monkeypatch, tmp_path, script, HgmlSource).devices()] == [1]


def test_a_share_of_a_virtual_machine_is_a_slice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = opened(monkeypatch, tmp_path, chip(pci_ids=hex(HYGON), virtualization=2), HgmlSource)
    (row,) = source.devices()
    assert row.count_unit == "slice"
    reading = source.readings([row])[0]
    assert (reading.power_mw, reading.energy_mj, reading.temperature_c) == (None, None, 58)
    assert "power" not in source.complete(row).exposes


@pytest.mark.parametrize("name", ["Iluvatar BI-V150S", "Iluvatar BI-V150", "Iluvatar XX-9"])
def test_two_devices_of_one_serial_are_dies_of_one_board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    script = "".join(chip(i, name=name, serial="77001") for i in range(2)) + chip(2, name=name, serial="77002")
    rows = with_parts(opened(monkeypatch, tmp_path, script).devices())
    assert [(row.count_unit, row.parent, row.serial) for row in rows[:2]] == [("die", "77001", None)] * 2
    assert rows[2].count_unit == ("card" if "XX" in name else "die")  # the other chip is hidden


# Functions that a release lacks, or that refuse
WITHOUT = {
    "power_mw": "nvmlDeviceGetPowerUsage",
    "clock_mhz": "nvmlDeviceGetClockInfo",
    "temperature_c": "nvmlDeviceGetTemperature",
    "utilisation_ppm": "nvmlDeviceGetUtilizationRates",
    "throttled": "nvmlDeviceGetCurrentClocksThrottleReasons",
    "ecc_uncorrected": "ixmlDeviceGetEccErros",
    "processes": "nvmlDeviceGetComputeRunningProcesses",
}


@pytest.mark.parametrize("absent", [True, False])
@pytest.mark.parametrize("field", WITHOUT)
def test_a_function_that_is_missing_or_refuses_costs_one_quantity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, absent: bool
) -> None:
    lines = chip(more=() if absent else (f"answer {WITHOUT[field]} 3",))
    source = opened(monkeypatch, tmp_path, lines, library=ixml(WITHOUT[field]) if absent else None)
    (row,) = source.devices()
    reading = source.readings([row])[0]
    assert [name for name, value in reading._asdict().items() if value is None] == [
        name for name in Reading._fields if name in (field, "energy_mj")
    ]
    always = ("power_mw", "clock_mhz", "temperature_c")  # the source promises them: a verifier asks for them
    assert len(source.complete(row).exposes) == 6 - (field != "utilisation_ppm" and field not in always)


@pytest.mark.parametrize(
    ("field", "function"),
    [
        ("uuid", "nvmlDeviceGetUUID"),
        ("serial", "nvmlDeviceGetSerial"),
        ("pci_address", "nvmlDeviceGetPciInfo_v3"),
        ("board_part", "nvmlDeviceGetBoardPartNumber"),
        ("firmware", "nvmlDeviceGetVbiosVersion"),
        ("memory_bytes", "nvmlDeviceGetMemoryInfo"),
        ("max_clock_mhz", "nvmlDeviceGetMaxClockInfo"),
        ("power_limit_mw", "nvmlDeviceGetPowerManagementLimit"),
        ("power_limit_default_mw", "nvmlDeviceGetPowerManagementDefaultLimit"),
        ("power_limit_max_mw", "nvmlDeviceGetPowerManagementLimitConstraints"),
        ("driver", "nvmlSystemGetDriverVersion"),
    ],
)
def test_a_fact_that_the_library_does_not_report_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, function: str
) -> None:
    (row,) = opened(monkeypatch, tmp_path, chip(), library=ixml(function)).devices()
    assert getattr(row, field) is None
    assert row.fault is None


# Bad libraries
def test_a_missing_library_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Iluvatar CoreX is not on the loader's path") as caught:
        IxmlSource.open(tmp_path)
    assert caught.value.code == "device-library-missing"


def test_a_library_of_another_architecture_says_so(tmp_path: Path) -> None:
    of_another_machine(ixml(), tmp_path / "usr/local/corex/lib64")
    with pytest.raises(InputError, match=r"cannot be used: .*libixml\.so") as caught:
        IxmlSource.open(tmp_path)
    assert caught.value.code == "device-library-unusable"


@pytest.mark.parametrize("function", ["nvmlDeviceGetCount_v2", "nvmlDeviceGetName"])
def test_a_library_without_a_needed_function_is_too_old(tmp_path: Path, function: str) -> None:
    install(ixml(function), tmp_path, "usr/local/corex/lib")
    with pytest.raises(InputError, match=f"has no {function}: it is older") as caught:
        IxmlSource.open(tmp_path)
    assert caught.value.code == "device-library-unusable"


def test_of_two_versions_the_one_that_can_be_read_is_taken_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library of XML that UPnP brings has the same name too, and no function of NVML."""
    stranger = tmp_path / "ixmlDocument.c"
    stranger.write_text("int ixmlDocument_createDocument(void) { return 0; }\n")
    install(compile_library(str(stranger), "libixml.so"), tmp_path, "usr/local/corex/lib64")
    source = opened(monkeypatch, tmp_path, chip(), folder="usr/local/corex/lib")
    assert source.path == str(tmp_path / "usr/local/corex/lib/libixml.so")
    assert source.sha256 == hashlib.sha256(Path(source.path).read_bytes()).hexdigest()
    assert len(source.devices()) == 1


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("nvml_init 4", "device-permission"),
        ("answer nvmlInit_v2 17", "device-permission"),
        ("nvml_init 9", "device-library-unusable"),
        ("answer nvmlInit_v2 999", "device-library-unusable"),
    ],
)
def test_a_library_that_does_not_start_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, code: str
) -> None:
    with pytest.raises(InputError, match="does not start") as caught:
        opened(monkeypatch, tmp_path, f"{line}\n{chip()}", library=ixml("nvmlInitWithFlags"))
    assert caught.value.code == code


@pytest.mark.parametrize(("answer", "code"), [(4, "device-permission"), (999, "device-library-unusable")])
def test_a_count_that_is_refused_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int, code: str
) -> None:
    source = opened(monkeypatch, tmp_path, f"answer nvmlDeviceGetCount_v2 {answer}\n{chip()}")
    with pytest.raises(InputError, match="how many devices") as caught:
        source.devices()
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("line", "code", "what"),
    [
        ("answer nvmlDeviceGetHandleByIndex_v2 4", "device-permission", "refuses device 1"),
        ("answer nvmlDeviceGetHandleByIndex_v2 999", "device-failed", "cannot reach"),
        ("answer nvmlDeviceGetName 3", "device-library-unusable", "refuses device 1"),
        ("lost 1", "device-lost", "is lost"),
        ("answer nvmlDeviceGetSerial 16", "device-failed", "must be reset"),
    ],
)
def test_one_device_that_fails_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, code: str, what: str
) -> None:
    source = opened(monkeypatch, tmp_path, chip(0) + chip(1, more=(line,)) + chip(2))
    rows = source.devices()
    assert [row.fault is None for row in rows] == [True, False, True]
    assert rows[1].fault.code == code
    assert what in rows[1].fault.what
    assert set(source.readings(rows)) == {0, 2}


def test_a_container_that_may_use_no_device_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "answer nvmlDeviceGetHandleByIndex_v2 4\n" + chip(0) + chip(1)
    with pytest.raises(InputError) as caught:
        opened(monkeypatch, tmp_path, lines).devices()
    assert caught.value.code == "device-permission"


def test_a_device_that_is_lost_while_it_is_read_ends_its_own_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = opened(monkeypatch, tmp_path, chip(0) + chip(1, lost="0 @3 1"))
    rows = source.devices()
    for _ in range(2):
        assert all(isinstance(one, Reading) for one in source.readings(rows).values())
    found = source.readings(rows)
    assert isinstance(found[0], Reading)
    assert isinstance(found[1], DeviceError)
    assert found[1].code == "device-lost"


@pytest.mark.parametrize("count", ["3", "1"])
def test_a_count_that_is_not_the_devices_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: str) -> None:
    """More than there are is no error; what is listed is read also where another count is told later."""
    source = opened(monkeypatch, tmp_path, f"count {count} @1 2\n{chip(0)}{chip(1)}")
    first, second = source.devices(), source.devices()
    assert [row.number for row in first] == list(range(min(2, int(count))))
    assert [row.number for row in second] == [0, 1]
    assert set(source.readings(second)) == {0, 1}


# Strange values
@pytest.mark.parametrize(
    ("answer", "model"),
    [
        ("Fake BI   ", "Fake BI"),
        ("  Fake   BI", "Fake BI"),
        ("Fake BI\0rest of an older text", "Fake BI"),
        ("Fake BI\n", "Fake BI"),
    ],
)
def test_blanks_and_nul_bytes_in_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, model: str
) -> None:
    (row,) = opened(monkeypatch, tmp_path, chip(name=answer, serial="31000417  ", uuid="GPU-10a4c\0\0")).devices()
    assert (row.model, row.serial, row.uuid) == (model, "31000417", "GPU-10a4c")


def test_a_name_that_is_no_text_is_a_fault_of_that_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (chip(0) + chip(1)).replace("name Fake BI", r"name \xff\xfe", 1)
    first, second = opened(monkeypatch, tmp_path, script).devices()
    assert first.fault is not None
    assert "no text" in first.fault.what
    assert second.fault is None


LIMITS = (2**31 - 1, 2**32 - 1)


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize(("word", "field"), [("power", "power_mw"), ("clock", "clock_mhz")])
def test_a_value_at_its_types_limit_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, field: str, limit: int
) -> None:
    source = opened(monkeypatch, tmp_path, chip(0, (), **{word: limit}))
    assert getattr(source.readings(source.devices())[0], field) is None


@pytest.mark.parametrize("power", [187, 187_000_000])
def test_a_power_that_must_be_in_another_unit_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, power: int
) -> None:
    source = opened(monkeypatch, tmp_path, chip(power=power))
    assert source.readings(source.devices())[0].power_mw is None


def test_a_value_in_another_unit_or_at_a_narrower_limit_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a GPU that does not answer Iluvatar's stack says 65,535 W, which is -1 of 16 bits; others say W for mW."""
    for power, clock in ((65_535_000, 65_535), (187, 1_350_000), (187_000_000, 1_350_000_000)):
        source = opened(monkeypatch, tmp_path / str(power), chip(power=power, clock=clock))
        reading = source.readings(source.devices())[0]
        assert (reading.power_mw, reading.clock_mhz, reading.temperature_c) == (None, None, 58)


@pytest.mark.parametrize("memory", [0, 2**63 - 1, 2**64 - 1, 2**53])
def test_a_memory_that_cannot_be_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int) -> None:
    (row,) = opened(monkeypatch, tmp_path, chip(memory=memory, free=0)).devices()
    assert row.memory_bytes is None


@pytest.mark.parametrize(("answer", "celsius"), [(-5, 0), (1, 1), (4294967295, None)])
def test_a_temperature_below_zero_is_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int, celsius: int | None
) -> None:
    source = opened(monkeypatch, tmp_path, chip(temperature=answer))
    assert source.readings(source.devices())[0].temperature_c == celsius


@pytest.mark.parametrize(("processes", "usage", "seen"), [(0, 97, None), (0, 0, 0), (2, 97, 2), (2, 0, 2)])
def test_processes_that_a_container_hides_are_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int, usage: int, seen: int | None
) -> None:
    source = opened(monkeypatch, tmp_path, chip(processes=processes, usage=usage))
    assert source.readings(source.devices())[0].processes == seen


def test_an_address_of_zeros_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = opened(monkeypatch, tmp_path, chip(pci="0:0")).devices()
    assert row.pci_address is None


# The vendors' back ends
def test_iluvatars_devices_come_through_the_library_before_the_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus(tmp_path, Iluvatar, "0x120000", ("0000:31:00.0", "0000:32:00.0"))
    install(ixml(), tmp_path, "usr/local/corex/lib64")
    script = "".join(chip(i, serial="77001", name="Iluvatar BI-V150S") for i in range(2))
    monkeypatch.setenv("FAKE_NVIDIA", str(write_script(tmp_path, script)))
    monkeypatch.setenv("PATH", str(tmp_path))
    found = Iluvatar(tmp_path).look(None)
    assert [(one.model.source, one.model.count_unit, one.device.parent) for one in found] == [
        ("ixml", "die", "77001"),
        ("ixml", "die", "77001"),
    ]
    assert all(one.model.simulated for one in found)
    assert found[0].model.source_version == "12.550.54.14"


def test_a_library_of_t_heads_is_no_source_of_hygons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bus(tmp_path, Hygon, "0x0b4000", ("0000:31:00.0",))
    install(hgml(), tmp_path, "opt/hyhal/lib")
    monkeypatch.setenv("FAKE_NVIDIA", str(write_script(tmp_path, chip(pci_ids=hex(T_HEAD)))))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError) as caught:
        Hygon(tmp_path).look(None)
    assert caught.value.code == "device-tool-missing"
    assert "lists no device" in caught.value.what


# The published bindings
@pytest.mark.parametrize(
    ("file", "prefix", "library"),
    [
        (f"{GPUSTACK}/pyixml/__init__.py", "nvml", "nvmlLib"),
        (f"{GPUSTACK}/pyhgml/__init__.py", "hgml", "hgmlLib"),
        ("pynvml.py", "nvml", "nvmlLib"),
    ],
)
def test_functions_are_called_as_published_bindings_call_them(
    monkeypatch: pytest.MonkeyPatch, file: str, prefix: str, library: str
) -> None:
    binding, spy = published(monkeypatch, file), Spy()
    setattr(binding, library, spy)
    theirs: dict[str, Any] = {}
    for name in FUNCTIONS.keys() - UNLIKE:
        function = FUNCTIONS[name]
        renamed = name.replace("nvml", prefix, 1).replace("GetNVML", f"Get{prefix.upper()}")
        handle = getattr(binding, f"c_{prefix}Device_t")()
        arguments = [handle if kind is ctypes.c_void_p else 1 for kind in function.arguments]
        getattr(binding, renamed)(*arguments)
        theirs |= spy.take()
    api = NvmlApi(Library(spy, None, None), prefix)
    for name in FUNCTIONS.keys() - UNLIKE:
        getattr(api, name)(*[1] * len(FUNCTIONS[name].arguments))
    ours = spy.take()
    if prefix == "hgml":  # the version of the library is asked for under the library's own name
        theirs["hgmlSystemGetNVMLVersion"] = theirs.pop("hgmlSystemGetHGMLVersion")
    assert set(ours) == set(theirs)
    assert not [name for name, call in ours.items() if not alike(call, theirs[name])]


@pytest.mark.parametrize("prefix", ["nvml", "hgml"])
def test_structures_have_the_layout_of_published_bindings(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    name = "ixml" if prefix == "nvml" else "hgml"
    binding = published(monkeypatch, f"{GPUSTACK}/py{name}/__init__.py")
    for ours, theirs in (
        (PciInfo, f"{prefix}PciInfo_t"),
        (MemoryInfo, f"c_{prefix}Memory_t"),
        (Utilization, f"c_{prefix}Utilization_t"),
    ):
        other = getattr(binding, theirs)
        assert ctypes.sizeof(ours) == ctypes.sizeof(other)
        for field, *_ in ours._fields_:
            assert getattr(ours, field).offset == getattr(other, field).offset


def test_an_unknown_function_is_no_function() -> None:
    api = NvmlApi(Library(object(), None, None), "nvml")
    with pytest.raises(AttributeError):
        api.nvmlDeviceSetPowerManagementLimit(0, 0)
    with pytest.raises(AttributeError):
        api.nvmlDeviceGetName(0)
    assert NvmlLikeError(3).value == 3
    assert ILUVATAR in Iluvatar.vendor_ids
    assert HYGON in Hygon.vendor_ids
