"""Cambricon's library, real shared objects that answer as a script says: values, bad answers, and its binding."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.devices.libraries import cndev
from bench.devices.libraries import cndev_api as api
from bench.devices.libraries.cndev import CndevSource
from bench.devices.libraries.loading import digest_of
from bench.devices.source import ListedDevice
from bench.devices.vendors.cambricon import Cambricon
from bench.errors import DeviceError, InputError
from bench.telemetry import Reading
from tests.bench.vendors.tools import VENDORS, bus
from tests.bench.vendors.tools import install as install_tool
from tests.bindings import DETECTOR, published
from tests.fake_libraries import compile_library, install, lines, of_another_machine, write_script

MIB = 2**20
LEAST, MOST = -(2**31), 2**31 - 1
FOLDER = f"{cndev.HOME}/lib64"
UUID = "2d7e5a10-48c3-4f6b-b1a9-{:012x}"
Opening = Callable[..., CndevSource]
BUSY = Reading(
    power_mw=331_000,
    temperature_c=64,
    clock_mhz=1400,
    utilisation_ppm=970_000,
    throttled=(),
    ecc_uncorrected=0,
    processes=1,
)


def mlu(index: int = 0, *more: str, **changes: object) -> str:
    """Return the lines of a card; a change of None leaves a line out."""
    values: dict[str, object] = {
        "name": "MLU590-M9",
        "uuid": UUID.format(index),
        "sn": f"{0x512312080000 + index:x}",
        "bus": 0x4F + index,
        "memory": 81_920,
        "cores": 32,
        "power": 331,
        "cap": 550,
        "power_default": 550,
        "power_max": 600,
        "temperature": 64,
        "clock": 1400,
        "max_clock": 1600,
        "usage": 97,
        "uncorrected": 0,
        "processes": 1,
        "throttle": 0,
        "ecc": 1,
    }
    return lines("device", values | changes, more)


@pytest.fixture
def opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opening]:
    """Return what opens the library on a node that a script describes."""
    monkeypatch.delenv("NEUWARE_HOME", raising=False)
    opened: list[CndevSource] = []

    def build(*script: str, without: tuple[str, ...] = ()) -> CndevSource:
        if not (tmp_path / FOLDER).exists():  # a file that is mapped must not be written again
            install(compile_library("cndev.c", "libcndev.so", without=without), tmp_path, FOLDER)
        monkeypatch.setenv("FAKE_CNDEV", str(write_script(tmp_path, "".join(script))))
        opened.append(CndevSource.open(tmp_path))
        return opened[-1]

    yield build
    for source in opened:
        source.close()


def test_a_card_and_its_reading(opening: Opening) -> None:
    source = opening(mlu(0), mlu(1, domain=1, slot=3, function=1, ecc=1, ecc_pending=0, throttle=0b100001))
    first, second = source.devices()
    assert first == ListedDevice(
        number=0,
        model="MLU590-M9",
        uuid=UUID.format(0),
        serial="512312080000",
        pci_address="0000:4f:00.0",
        firmware="1.1.6",
        driver="petaseal-fake-1.0",
        memory_bytes=81_920 * MIB,
        units=32,
        max_clock_mhz=1600,
        power_limit_mw=550_000,
        power_limit_default_mw=550_000,
        power_limit_max_mw=600_000,
        modes=(("ecc", "on"),),
    )
    assert (second.pci_address, second.modes) == ("0001:50:03.1", (("ecc", "on"), ("ecc-pending", "off")))
    look = source.readings([first, second])
    assert look == {0: BUSY, 1: BUSY._replace(throttled=("tdp", "thermal_slowdown"))}
    assert source.readings([second]).keys() == {1}
    assert (source.name, source.version) == ("cndev", "3.12.4")


def test_a_real_library_reports_the_drivers_version_in_numbers(opening: Opening) -> None:
    (row,) = opening(mlu(0, numbers="6 2 11"), without=("petasealFakeDriver",)).devices()
    assert row.driver == "6.2.11"


def test_a_reading_changes_with_the_card(opening: Opening) -> None:
    source = opening(mlu(0, power="90 @3 331", processes="0 @2 1"))
    rows = source.devices()
    looks = [source.readings(rows)[0] for _ in range(4)]
    assert all(isinstance(look, Reading) for look in looks)
    assert [look.processes for look in looks if isinstance(look, Reading)] == [0, 1, 1, 1]
    assert [look.power_mw for look in looks if isinstance(look, Reading)] == [90_000, 90_000, 90_000, 331_000]


@pytest.mark.parametrize(("name_id", "model"), [(26, "MLU590"), (23, "MLU370"), (999, "unknown")])
def test_older_releases_name_a_card_by_a_number(opening: Opening, name_id: int, model: str) -> None:
    gone = ("cndevGetCardNameStringByDevId",)
    rows = opening(mlu(0, name_id=name_id), mlu(1, name_id=26), without=gone).devices()
    assert rows[0].model == model
    assert (rows[0].fault is None) == (model != "unknown")


def test_older_releases_answer_by_older_functions(opening: Opening) -> None:
    gone = ("cndevGetPCIeInfoV2", "cndevGetMemoryUsageV2", "cndevGetDevicePowerInfo", "cndevGetCardHealthStateV2")
    source = opening("structs 5\n", mlu(0), without=gone)
    (row,) = source.devices()
    assert (row.pci_address, row.memory_bytes, row.power_limit_mw) == ("0000:4f:00.0", 81_920 * MIB, 550_000)
    assert source.readings([row]) == {0: BUSY}
    assert source.version == "3.12.4"


def test_a_library_that_knows_no_version_of_the_structures(opening: Opening) -> None:
    with pytest.raises(InputError, match="knows no version of the structures"):
        opening("structs 4\n", mlu(0)).devices()


# Shares of a card, and chips that share one
@pytest.mark.parametrize("share", ["smlu", "mim", "vf"])
def test_a_card_that_is_shared_is_a_slice(opening: Opening, share: str) -> None:
    source = opening(mlu(0, **{share: 1}), mlu(1, **{share: 0}))
    part, card = source.devices()
    assert (part.count_unit, part.parent, part.serial, part.uuid) == ("slice", "512312080000", None, None)
    assert (part.units, part.power_limit_mw) == (None, None)
    assert part.exposes == ("temperature", "ecc", "processes")
    assert (card.count_unit, card.parent, card.serial, card.exposes) == ("card", None, "512312080001", None)
    looks = source.readings([part, card])
    assert looks == {0: BUSY._replace(power_mw=None, utilisation_ppm=None), 1: BUSY}


def test_what_a_card_exposes_beyond_what_is_promised(opening: Opening) -> None:
    source = opening(
        mlu(0), mlu(1, clock=None, throttle=None), mlu(2, power=None), mlu(3, smlu=1), mlu(4, "answer * 0 @1 18")
    )
    exposed = [source.complete(row).exposes for row in source.devices()[:4]]
    assert exposed == [
        ("power", "clock", "temperature", "throttle", "ecc", "processes"),
        ("power", "temperature", "ecc", "processes"),
        ("power", "clock", "temperature", "throttle", "ecc", "processes"),  # promised: a record without it is held
        ("clock", "temperature", "throttle", "ecc", "processes"),
    ]
    fault = source.complete(source.devices()[4]).fault
    assert fault is not None
    assert fault.code == "device-failed"


def test_a_slice_without_a_serial_has_its_cards_uuid_as_parent(opening: Opening) -> None:
    (row,) = opening(mlu(0, smlu=1, sn=None)).devices()
    assert row.parent == UUID.format(0)


def test_two_chips_bear_one_serial(opening: Opening) -> None:
    chips = [mlu(i, name="MLU370-X8", sn="372311084321", memory=23_308) for i in range(2)]
    rows = opening(*chips).devices()
    for row in rows:  # also where one is alone in a container: its memory tells
        assert (row.count_unit, row.parent, row.serial) == ("die", "372311084321", None)
    assert rows[0].uuid != rows[1].uuid
    (whole,) = opening(mlu(0, name="MLU370-X8", memory=46_616)).devices()
    assert whole.count_unit == "card"


# Bad input
def test_a_library_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        CndevSource.open(tmp_path)
    assert error.value.code == "device-library-missing"


def test_a_library_where_neuware_home_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(compile_library("cndev.c", "libcndev.so"), tmp_path, "opt/neuware-3.7/lib")
    monkeypatch.setenv("FAKE_CNDEV", str(write_script(tmp_path, mlu(0))))
    monkeypatch.setenv("NEUWARE_HOME", "/opt/neuware-3.7")
    assert len(CndevSource.open(tmp_path).devices()) == 1


def test_a_library_of_another_architecture(tmp_path: Path) -> None:
    of_another_machine(compile_library("cndev.c", "libcndev.so"), tmp_path / FOLDER)
    with pytest.raises(InputError, match="cannot be used") as error:
        CndevSource.open(tmp_path)
    assert error.value.code == "device-library-unusable"


@pytest.mark.parametrize("function", cndev.NEEDED)
def test_a_library_that_is_too_old(opening: Opening, function: str) -> None:
    with pytest.raises(InputError, match=f"has no {function}") as error:
        opening(mlu(0), without=(function,))
    assert error.value.code == "device-library-unusable"


def test_functions_that_an_older_library_lacks_cost_what_they_tell(opening: Opening) -> None:
    optional = sorted({*api.FUNCTIONS} - {*cndev.NEEDED})
    source = opening(mlu(0, name_id=26))
    for function in optional:
        before, source._functions[function] = source._functions[function], None
        rows = source.devices()
        assert rows[0].model == ("MLU590" if function == "cndevGetCardNameStringByDevId" else "MLU590-M9"), function
        assert isinstance(source.readings(rows)[0], Reading), function
        source._functions[function] = before


@pytest.mark.parametrize(
    ("code", "said", "reason"),
    [
        (1, "the driver is not loaded", "device-library-unusable"),
        (2, "too old", "device-library-unusable"),
        (12, "no card that can be used", "device-library-unusable"),
        (13, "no permission", "device-permission"),
        (7, "code 7", "device-library-unusable"),
    ],
)
def test_a_library_that_does_not_begin(opening: Opening, code: int, said: str, reason: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        opening(f"answer cndevInit {code}\n", mlu(0))
    assert error.value.code == reason


@pytest.mark.parametrize("script", ["answer cndevGetDeviceCount 7\n", "count 4294967295\n"])
def test_cards_that_cannot_be_counted(opening: Opening, script: str) -> None:
    with pytest.raises(InputError, match="cndevGetDeviceCount"):
        opening(script, mlu(0)).devices()


def test_an_error_for_one_card_only(opening: Opening) -> None:
    cards = [mlu(0), mlu(1, "answer cndevGetDeviceHandleByIndex 6"), mlu(2, name=None), mlu(3, "answer * 18"), mlu(4)]
    source = opening(*cards)
    rows = source.devices()
    assert [row.fault is None for row in rows] == [True, False, False, False, True]
    assert rows[3].fault is not None
    assert cndev.ERRORS[18] in rows[3].fault.what
    healthy = [row for row in rows if row.fault is None]
    assert source.readings(healthy) == {0: BUSY, 4: BUSY}


@pytest.mark.parametrize("without", [(), ("cndevGetCardHealthStateV2",)])
def test_a_card_that_is_not_sound(opening: Opening, without: tuple[str, ...]) -> None:
    source = opening(mlu(0, problem="0 @2 1"), mlu(1, problem=1), mlu(2, link=1), without=without)
    rows = source.devices()
    assert [row.fault is None for row in rows] == [True, False, True]  # a link that is down is not the card
    sound = [rows[0], rows[2]]
    assert source.readings(sound) == {0: BUSY, 2: BUSY}
    source.readings(sound)
    look = source.readings(sound)
    assert isinstance(look[0], DeviceError)
    assert (look[0].code, look[2]) == ("device-failed", BUSY)


def test_a_card_that_falls_into_problem_while_it_is_read(opening: Opening) -> None:
    source = opening(mlu(0, "answer cndevGetDevicePowerInfo 0 @1 18"), mlu(1))
    rows = source.devices()
    source.readings(rows)
    look = source.readings(rows)
    assert isinstance(look[0], DeviceError)
    assert look[1] == BUSY


def test_no_card_that_answers(opening: Opening) -> None:
    with pytest.raises(InputError, match="cndevGetDeviceHandleByIndex") as error:
        opening("answer cndevGetDeviceHandleByIndex 13\n", mlu(0), mlu(1)).devices()
    assert error.value.code == "device-permission"
    source = opening(mlu(0, "answer * 0 @1 7"))
    rows = source.devices()
    source.readings(rows)
    with pytest.raises(InputError, match="no card has a reading"):
        source.readings(rows)


def test_a_count_that_changes_between_two_calls(opening: Opening) -> None:
    source = opening("count 2 @1 3 @2 1\n", mlu(0), mlu(1))
    two = source.devices()
    assert len(two) == 2
    assert [row.fault is None for row in source.devices()] == [True, True, False]  # one more than there are
    assert [row.number for row in source.devices()] == [0]
    assert source.readings(two).keys() == {0}


@pytest.mark.parametrize(
    ("written", "read"),
    [("MLU590-M9   ", "MLU590-M9"), ("MLU590-M9\0rest", "MLU590-M9"), ("  MLU590-M9", "MLU590-M9"), ("\0", "unknown")],
)
def test_names_with_blanks_and_nul_bytes(opening: Opening, written: str, read: str) -> None:
    row = opening(mlu(0, name=written), mlu(1)).devices()[0]
    assert row.model == read
    assert (row.fault is None) == (read != "unknown")


@pytest.mark.parametrize("identity", ["", "N/A", "0", "00000000-0000-0000-0000-000000000000"])
def test_placeholders_are_no_identities(opening: Opening, identity: str) -> None:
    (row,) = opening(mlu(0, uuid=identity or None, sn="0")).devices()
    assert (row.uuid, row.serial) == (None, None)
    (row,) = opening(mlu(0, sn="ffffffffffffffff")).devices()
    assert (row.uuid, row.serial) == (UUID.format(0), None)


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({"power": -1}, "power_mw", None),
        ({"power": MOST}, "power_mw", None),
        ({"power": LEAST}, "power_mw", None),
        ({"power": 0}, "power_mw", None),
        ({"power": 331_000}, "power_mw", None),  # in mW
        ({"power": None}, "power_mw", None),
        ({"temperature": -1}, "temperature_c", None),
        ({"temperature": MOST}, "temperature_c", None),
        ({"temperature": LEAST}, "temperature_c", None),
        ({"temperature": -9}, "temperature_c", 0),
        ({"temperature": None}, "temperature_c", None),
        ({"clock": MOST}, "clock_mhz", None),
        ({"clock": 0}, "clock_mhz", None),
        ({"clock": -1}, "clock_mhz", None),
        ({"clock": None}, "clock_mhz", None),
        ({"usage": MOST}, "utilisation_ppm", None),
        ({"usage": 101}, "utilisation_ppm", None),
        ({"usage": 0}, "utilisation_ppm", 0),
        ({"uncorrected": 2**64 - 1}, "ecc_uncorrected", None),
        ({"uncorrected": 5}, "ecc_uncorrected", 5),
        ({"uncorrected": None}, "ecc_uncorrected", None),
        ({"processes": 0}, "processes", 0),
        ({"processes": 100}, "processes", 100),  # more than there is room for
        ({"processes": 2**32 - 1}, "processes", None),
        ({"processes": None}, "processes", None),
        ({"throttle": 0b11110}, "throttled", ("power_setting", "clock_setting", "frequency_locked", "power_brake")),
        ({"throttle": None}, "throttled", None),
    ],
)
def test_values_that_no_card_has(opening: Opening, changes: dict[str, Any], field: str, expected: object) -> None:
    source = opening(mlu(0, **changes))
    reading = source.readings(source.devices())[0]
    assert isinstance(reading, Reading)
    assert getattr(reading, field) == expected


@pytest.mark.parametrize(
    ("word", "field", "limit"),
    [
        ("memory", "memory_bytes", 2**63 - 1),
        ("cores", "units", -1),
        ("max_clock", "max_clock_mhz", MOST),
        ("cap", "power_limit_mw", MOST),
        ("power_default", "power_limit_default_mw", 0xFFFF),
        ("power_max", "power_limit_max_mw", 0xFFFF),
    ],
)
def test_facts_at_their_types_limits_are_unknown(opening: Opening, word: str, field: str, limit: int) -> None:
    for value in (limit, 0, None):
        changes: dict[str, Any] = {word: value}
        assert getattr(opening(mlu(0, **changes)).devices()[0], field) is None


@pytest.mark.parametrize(("without", "taken"), [((), 0), (("cndevGetUUID",), 1)])
def test_two_versions_on_the_path(tmp_path: Path, without: tuple[str, ...], taken: int) -> None:
    """The first that can be used is taken, and recorded: in a process that has loaded no other library before."""
    first = install(compile_library("cndev.c", "libcndev.so", without=without), tmp_path, "first")
    second = install(compile_library("cndev.c", "libcndev.so"), tmp_path, "neuware/lib64")
    code = """if True:
        from pathlib import Path
        from bench.devices.libraries.cndev import CndevSource
        source = CndevSource.open(Path("/"))
        print(source.path, source.sha256, source.version, len(source.devices()))
    """
    environment = {
        "LD_LIBRARY_PATH": str(first.parent),
        "NEUWARE_HOME": str(tmp_path / "neuware"),
        "FAKE_CNDEV": str(write_script(tmp_path, "version 2 9 1\n" + mlu(0))),
        "PATH": "/usr/bin:/bin",
    }
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    path, sha256, version, count = ran.stdout.split()
    assert (path, version, count) == (str((first, second)[taken]), "2.9.1", "1")
    assert sha256 == digest_of(path)


# Through the back end
def test_the_library_comes_before_the_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opening: Opening) -> None:
    opening(mlu(0), mlu(1))
    vendor = VENDORS["mlu"]
    backend = Cambricon(bus(tmp_path, Cambricon, vendor.pci_class, vendor.functions))
    install_tool(tmp_path / "bin", vendor.tool, vendor.answers)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    first, _ = backend.look(None)
    assert (first.model.source, first.model.simulated, first.model.driver) == ("cndev", True, "petaseal-fake-1.0")
    assert first.model.exposes == ("power", "clock", "temperature", "throttle", "ecc", "processes")
    assert backend.watch([first]).read() == {"mlu:0": BUSY}
    (tmp_path / FOLDER / "libcndev.so").unlink()
    first, _ = backend.look(None)
    assert (first.model.source, first.model.simulated) == ("cnmon", False)
    assert "libcndev" in first.skipped[0]


# The published binding, and the header
PUBLISHED = {
    api.CndevCardInfo: "c_cndevCardInfo_t",
    api.CndevVersionInfo: "c_cndevVersionInfo_t",
    api.CndevUUID: "c_cndevUUID_t",
    api.CndevCardName: "c_cndevCardName_t",
    api.CndevPCIeInfoV2: "c_cndevPCIeInfoV2_t",
    api.CndevMemoryInfoV2: "c_cndevMemoryInfoV2_t",
    api.CndevDevicePowerInfo: "c_cndevDevicePowerInfo_t",
    api.CndevTemperatureInfo: "c_cndevTemperatureInfo_t",
    api.CndevUtilizationInfo: "c_cndevUtilizationInfo_t",
    api.CndevECCInfo: "c_cndevECCInfo_t",
    api.CndevHealth: "c_cndevCardHealthState_t",
    api.CndevHealthV2: "c_cndevCardHealthStateV2_t",
}
IN_THE_HEADER_ALONE = {
    "cndevGetLibVersion",
    "cndevGetCardSN",
    "cndevGetPCIeInfo",
    "cndevGetMemoryUsage",
    "cndevGetPowerInfo",
    "cndevGetPowerManagementDefaultLimitation",
    "cndevGetPowerManagementLimitationRange",
    "cndevGetFrequencyInfo",
    "cndevGetPerformanceThrottleReason",
    "cndevGetProcessInfo",
    "cndevGetCoreCount",
    "cndevGetMimMode",
    "cndevGetSMLUMode",
    "cndevGetCardVfState",
    "cndevGetEccMode",
}


def layout(kind: Any) -> list[tuple[int, int]]:
    """Return offset and size of each field of a structure, and of the whole."""
    places = [(getattr(kind, field[0]).offset, getattr(kind, field[0]).size) for field in kind._fields_]
    return [*places, (0, ctypes.sizeof(kind))]


@pytest.fixture
def binding(monkeypatch: pytest.MonkeyPatch) -> Any:
    return published(monkeypatch, f"{DETECTOR}/pycndev/__init__.py")


def test_structures_and_constants_are_the_published_ones(binding: Any) -> None:
    for ours, theirs in PUBLISHED.items():
        kind = getattr(binding, theirs)
        assert ctypes.sizeof(ours) == ctypes.sizeof(kind), theirs
        if ours is not api.CndevVersionInfo:  # three numbers each in an array
            assert layout(ours) == layout(kind), theirs
    assert (cndev.OTHER_VERSION, cndev.TOO_MANY) == (
        binding.CNDEV_ERROR_UNSUPPORTED_API_VERSION,
        binding.CNDEV_ERROR_INSUFFICIENT_SPACE,
    )
    assert (cndev.NO_PERMISSION, cndev.IN_PROBLEM) == (
        binding.CNDEV_ERROR_NO_PERMISSION,
        binding.CNDEV_ERROR_IN_PROBLEM,
    )
    assert cndev.VERSIONS[0] == binding.CNDEV_VERSION_6
    assert set(api.FUNCTIONS) - set(dir(binding)) == IN_THE_HEADER_ALONE


def test_structures_are_as_large_as_a_compiler_makes_them() -> None:
    """The fake declares them as the header does."""
    library = ctypes.CDLL(str(compile_library("cndev.c", "libcndev.so")))
    kinds = [kind for kind in vars(api).values() if isinstance(kind, type) and kind.__name__.startswith("Cndev")]
    sizes = (ctypes.c_uint * len(kinds)).in_dll(library, "fake_sizes")
    assert list(sizes) == [ctypes.sizeof(kind) for kind in kinds]


def test_the_published_binding_reads_the_same(opening: Opening, binding: Any, tmp_path: Path) -> None:
    """It calls the same functions of the same library, with its own order of arguments."""
    source = opening(mlu(0, uncorrected=4, numbers="6 2 11"))
    (row,) = source.devices()
    reading = source.readings([row])[0]
    assert isinstance(reading, Reading)
    binding.cndevLib = ctypes.CDLL(str(tmp_path / FOLDER / "libcndev.so"))
    binding.cndevInit()
    assert binding.cndevGetDeviceCount() == 1
    card = binding.cndevGetDeviceHandleByIndex(0)
    assert binding.cndevGetCardNameByDevId(card) == row.model
    assert binding.cndevGetUUID(card) == f"MLU-{row.uuid}"
    assert binding.cndevGetPCIeBusId(card) == row.pci_address
    assert binding.cndevGetMemoryUsageV2(card).physicalMemoryTotal * MIB == row.memory_bytes
    assert binding.cndevGetVersionInfo(card).mcuBuildVersion == 6
    assert binding.cndevGetVersionInfo(card).driverMinorVersion == 2
    assert binding.cndevGetDevicePowerInfo(card).usage * 1000 == reading.power_mw
    assert binding.cndevGetTemperatureInfo(card).chip == reading.temperature_c
    assert binding.cndevGetDeviceUtilizationInfo(card).averageCoreUtilization * 10_000 == reading.utilisation_ppm
    assert binding.cndevGetECCInfo(card).uncorrectedError == reading.ecc_uncorrected
    assert binding.cndevGetCardHealthStateV2(card).health == 1
    assert binding.cndevGetCardHealthState(card).deviceState == 1
    binding.cndevRelease()
