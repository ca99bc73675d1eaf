"""Moore Threads' library, real shared objects that answer as a script says: values, bad answers, and its binding."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.devices.libraries import mtml
from bench.devices.libraries.mtml import FOLDERS, MtmlDeviceProperty, MtmlPciInfo, MtmlSource
from bench.devices.source import ListedDevice
from bench.devices.vendors.mthreads import MooreThreads
from bench.errors import InputError
from bench.telemetry import Reading
from tests.bench.vendors.tools import VENDORS, bus
from tests.bench.vendors.tools import install as install_tool
from tests.bindings import published
from tests.fake_libraries import compile_library, install, lines, of_another_machine, write_script

GIB = 2**30
ONES = 2**32 - 1
UUID = "7c1f0d2e-93a4-4b5c-8d6e-{:012x}"
Opening = Callable[..., MtmlSource]
BUSY = Reading(power_mw=401_550, temperature_c=71, clock_mhz=1650, utilisation_ppm=980_000)


def gpu(index: int = 0, *more: str, begin: str = "device", **changes: object) -> str:
    """Return the lines of a GPU; a change of None leaves a line out."""
    values: dict[str, object] = {
        "name": "MTT S4000",
        "uuid": UUID.format(index),
        "serial": f"MTS40{index:06d}",
        "bios": "3.4.8",
        "sbdf": f"00000000:{0x12 + index:02x}:00.0",
        "memory": 48 * GIB,
        "cores": 8,
        "max_clock": 1750,
        "power": 401_550,
        "clock": 1650,
        "temperature": 71,
        "usage": 98,
    }
    return lines(begin, values | changes, more)


@pytest.fixture
def opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opening]:
    """Return what opens the library on a node that a script describes."""
    opened: list[MtmlSource] = []

    def build(*script: str, without: tuple[str, ...] = ()) -> MtmlSource:
        if not (tmp_path / FOLDERS[-1]).exists():  # a file that is mapped must not be written again
            install(compile_library("mtml.c", "libmtml.so", without=without), tmp_path, FOLDERS[-1])
        monkeypatch.setenv("FAKE_MTML", str(write_script(tmp_path, "".join(script))))
        opened.append(MtmlSource.open(tmp_path))
        return opened[-1]

    yield build
    for source in opened:
        source.close()


def test_a_gpu_and_its_reading(opening: Opening) -> None:
    source = opening(gpu(0), gpu(1, ecc=1, ecc_pending=0, uncorrected=3, sbdf=None, segment=1, bus=0x36, slot=2))
    first, second = source.devices()
    assert first == ListedDevice(
        number=0,
        model="MTT S4000",
        uuid=UUID.format(0),
        serial="MTS40000000",
        pci_address="0000:12:00.0",
        firmware="3.4.8",
        driver="petaseal-fake-1.0",
        memory_bytes=48 * GIB,
        units=8,
        max_clock_mhz=1750,
    )
    assert (second.number, second.pci_address) == (1, "0001:36:02.0")
    assert second.modes == (("ecc", "on"), ("ecc-pending", "off"))
    assert source.readings([first, second]) == {0: BUSY, 1: BUSY._replace(ecc_uncorrected=3)}
    assert source.readings([second]) == {1: BUSY._replace(ecc_uncorrected=3)}
    assert (source.name, source.version) == ("mtml", "2.2.0")


def test_a_reading_changes_with_the_device(opening: Opening) -> None:
    source = opening(gpu(0, power="90000 @3 402000"))
    rows = source.devices()
    looks = [source.readings(rows)[0] for _ in range(4)]
    assert [look.power_mw for look in looks if isinstance(look, Reading)] == [90_000, 90_000, 402_000, 402_000]


def test_all_that_is_initialised_is_freed(opening: Opening, tmp_path: Path) -> None:
    source = opening(gpu(0, mpc=1), gpu(1, begin="part", mpc=2), gpu(2))
    for _ in range(3):
        source.readings(source.devices())
    source.close()
    library = ctypes.CDLL(str(tmp_path / FOLDERS[-1] / "libmtml.so"))
    assert library.fake_open_handles() == 0


def test_a_library_with_nothing_but_what_is_needed_lists_names(opening: Opening) -> None:
    source = opening(gpu(0), without=tuple({*mtml.FUNCTIONS} - {*mtml.NEEDED}))
    assert source.devices() == [ListedDevice(number=0, model="MTT S4000")]
    with pytest.raises(InputError, match="no GPU has a reading"):
        source.readings(source.devices())


def test_older_releases_free_nothing_and_newer_ones_need_it_no_more(opening: Opening) -> None:
    gone = ("mtmlDeviceFreeGpu", "mtmlDeviceFreeMemory", "mtmlLibraryFreeDevice", "mtmlLibraryFreeSystem")
    source = opening(gpu(0), without=gone)
    assert source.readings(source.devices()) == {0: BUSY}


# Shares of a GPU
def test_an_instance_is_a_slice_and_its_parent_no_device(opening: Opening) -> None:
    parent, other = UUID.format(0xAAAA), gpu(5)
    instances = [gpu(i, begin="part", mpc=2, cores=4, memory=16 * GIB) for i in (1, 2)]
    rows = opening(gpu(0, mpc=1, uuid=parent), *instances, other).devices()
    assert [row.number for row in rows] == [0, 1, 2]
    for row in rows[:2]:
        assert (row.count_unit, row.parent, row.serial, row.units) == ("slice", parent, None, 4)
        assert row.exposes == ("clock", "temperature")
    assert rows[0].uuid != rows[1].uuid
    assert (rows[2].count_unit, rows[2].parent, rows[2].serial) == ("card", None, "MTS40000005")


@pytest.mark.parametrize("role", [1, 2])
def test_a_virtual_gpu_is_a_slice(opening: Opening, role: int) -> None:
    source = opening(gpu(0, virt=role, whole=UUID.format(0xBBBB)))
    (row,) = source.devices()
    assert (row.count_unit, row.parent) == ("slice", UUID.format(0xBBBB))
    assert source.readings([row]) == {0: Reading(temperature_c=71, clock_mhz=1650)}  # the power is not its own


def test_what_a_gpu_exposes_beyond_what_is_promised(opening: Opening) -> None:
    source = opening(
        gpu(0), gpu(1, ecc=1, uncorrected=0), gpu(2, virt=2), gpu(3, "answer mtmlLibraryInitDeviceByIndex 2")
    )
    rows = [source.complete(row) for row in source.devices()]
    assert [row.exposes for row in rows] == [
        ("power", "clock", "temperature"),
        ("power", "clock", "temperature", "ecc"),
        ("clock", "temperature"),
        None,
    ]


def test_a_slice_of_an_unknown_card_has_its_serial_as_parent(opening: Opening) -> None:
    (row,) = opening(gpu(0, virt=2)).devices()
    assert (row.parent, row.serial) == ("MTS40000000", None)


# Bad input
def test_a_library_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        MtmlSource.open(tmp_path)
    assert error.value.code == "device-library-missing"


def test_a_library_of_another_architecture(tmp_path: Path) -> None:
    of_another_machine(compile_library("mtml.c", "libmtml.so"), tmp_path / FOLDERS[-1])
    with pytest.raises(InputError, match="cannot be used") as error:
        MtmlSource.open(tmp_path)
    assert error.value.code == "device-library-unusable"


@pytest.mark.parametrize("function", mtml.NEEDED)
def test_a_library_that_is_too_old(opening: Opening, function: str) -> None:
    with pytest.raises(InputError, match=f"has no {function}") as error:
        opening(gpu(0), without=(function,))
    assert error.value.code == "device-library-unusable"


def test_functions_that_an_older_library_lacks_cost_what_they_tell(opening: Opening) -> None:
    optional = sorted({*mtml.FUNCTIONS} - {*mtml.NEEDED})
    source = opening(gpu(0, ecc=1, uncorrected=0))
    for function in optional:
        before, source._functions[function] = source._functions[function], None
        rows = source.devices()
        assert rows[0].model == "MTT S4000", function
        assert isinstance(source.readings(rows)[0], Reading), function
        source._functions[function] = before


@pytest.mark.parametrize(
    ("code", "said", "reason"),
    [
        (1, "the driver is not loaded", "device-library-unusable"),
        (5, "no permission", "device-permission"),
        (9, "too old", "device-library-unusable"),
        (10, "newer than the library", "device-library-unusable"),
        (999, "code 999", "device-library-unusable"),
    ],
)
def test_a_library_that_does_not_begin(opening: Opening, code: int, said: str, reason: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        opening(f"answer mtmlLibraryInit {code}\n", gpu(0))
    assert error.value.code == reason


@pytest.mark.parametrize("script", ["answer mtmlLibraryCountDevice 2\n", "count 4294967295\n"])
def test_devices_that_cannot_be_counted(opening: Opening, script: str) -> None:
    with pytest.raises(InputError, match="mtmlLibraryCountDevice"):
        opening(script, gpu(0)).devices()


def test_an_error_for_one_device_only(opening: Opening) -> None:
    source = opening(gpu(0), gpu(1, "answer mtmlLibraryInitDeviceByIndex 2"), gpu(2, name=None), gpu(3))
    rows = source.devices()
    assert [row.fault is None for row in rows] == [True, False, False, True]
    assert rows[1].fault is not None
    assert "the driver cannot be accessed" in rows[1].fault.what
    assert {0, 3} <= source.readings(rows).keys() <= {0, 2, 3}


def test_a_device_that_stops_answering_costs_its_readings_alone(opening: Opening) -> None:
    source = opening(gpu(0, "answer * 0 @2 2"), gpu(1))
    rows = source.devices()
    assert source.readings(rows) == {0: BUSY, 1: BUSY}
    assert source.readings(rows) == {1: BUSY}


def test_no_device_that_answers(opening: Opening) -> None:
    with pytest.raises(InputError, match="mtmlLibraryInitDeviceByIndex"):
        opening(
            gpu(0, "answer mtmlLibraryInitDeviceByIndex 5"), gpu(1, "answer mtmlLibraryInitDeviceByIndex 5")
        ).devices()
    source = opening(gpu(0, "answer * 0 @2 2"))
    rows = source.devices()
    source.readings(rows)
    with pytest.raises(InputError, match="no GPU has a reading"):
        source.readings(rows)


def test_a_count_that_changes_between_two_calls(opening: Opening) -> None:
    source = opening("count 2 @1 3 @2 1\n", gpu(0), gpu(1))
    two = source.devices()
    assert len(two) == 2
    three = source.devices()  # one more than there are
    assert [row.fault is None for row in three] == [True, True, False]
    assert [row.number for row in source.devices()] == [0]
    assert source.readings(two).keys() == {0}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("MTT S4000   ", "MTT S4000"),
        ("MTT S4000\0rest", "MTT S4000"),
        ("  MTT  S4000", "MTT S4000"),
        ("MTT S4000\\xff", None),
        ("\0", None),
        ("x" * 64, None),  # longer than the header allows
    ],
)
def test_names_with_blanks_and_nul_bytes(opening: Opening, written: str, read: str | None) -> None:
    row = opening(gpu(0, name=written), gpu(1)).devices()[0]
    assert row.model == (read or ("MTT S4000�" if "xff" in written else "unknown"))
    assert (row.fault is None) == (row.model != "unknown")


@pytest.mark.parametrize("identity", ["", "N/A", "0", "00000000-0000-0000-0000-000000000000", "None"])
def test_placeholders_are_no_identities(opening: Opening, identity: str) -> None:
    (row,) = opening(gpu(0, uuid=identity, serial=identity)).devices()
    assert (row.uuid, row.serial) == (None, None)


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({"power": ONES}, "power_mw", None),
        ({"power": 2**31 - 1}, "power_mw", None),
        ({"power": 0}, "power_mw", None),
        ({"power": 402}, "power_mw", None),  # in W
        ({"power": 401_550_000}, "power_mw", None),  # in microwatts
        ({"temperature": ONES}, "temperature_c", None),
        ({"temperature": 2**31 - 1}, "temperature_c", None),
        ({"temperature": -(2**31)}, "temperature_c", None),
        ({"temperature": -12}, "temperature_c", 0),
        ({"temperature": 0}, "temperature_c", 0),
        ({"temperature": None}, "temperature_c", None),
        ({"clock": ONES}, "clock_mhz", None),
        ({"clock": 0}, "clock_mhz", None),
        ({"clock": 1_650_000_000}, "clock_mhz", None),  # in Hz
        ({"usage": ONES}, "utilisation_ppm", None),
        ({"usage": 101}, "utilisation_ppm", None),
        ({"usage": 100}, "utilisation_ppm", 1_000_000),
        ({"usage": 0}, "utilisation_ppm", 0),
        ({"ecc": 1, "uncorrected": 2**64 - 1}, "ecc_uncorrected", None),
        ({"ecc": 1, "uncorrected": 0}, "ecc_uncorrected", 0),
        ({"ecc": 0, "uncorrected": 9}, "ecc_uncorrected", None),
        ({"uncorrected": 9}, "ecc_uncorrected", None),
    ],
)
def test_values_that_no_device_has(opening: Opening, changes: dict[str, Any], field: str, expected: int | None) -> None:
    source = opening(gpu(0, **changes))
    reading = source.readings(source.devices())[0]
    assert isinstance(reading, Reading)
    assert getattr(reading, field) == expected


@pytest.mark.parametrize("word", ["memory", "cores", "max_clock"])
def test_facts_at_their_types_limits_are_unknown(opening: Opening, word: str) -> None:
    limit = 2**64 - 1 if word == "memory" else ONES
    field = {"memory": "memory_bytes", "cores": "units", "max_clock": "max_clock_mhz"}[word]
    for value in (limit, 0, None):
        changes: dict[str, Any] = {word: value}
        assert getattr(opening(gpu(0, **changes)).devices()[0], field) is None


def test_two_versions_on_the_path(tmp_path: Path) -> None:
    """The newest name is taken, and what was loaded is recorded: in a process that has loaded no other."""
    old = compile_library("mtml.c", "libmtml.so", without=("mtmlDeviceGetMtBiosVersion",))
    new = compile_library("mtml.c", "libmtml.so.2")
    places = [install(old, tmp_path, "old"), install(new, tmp_path, "new")]
    code = """if True:
        from pathlib import Path
        from bench.devices.libraries.mtml import MtmlSource
        source = MtmlSource.open(Path("/nowhere"))
        print(source.path, source.sha256, source.version, len(source.devices()))
    """
    script = write_script(tmp_path, "version 2.2.1\n" + gpu(0))
    folders = ":".join(str(place.parent) for place in places)
    environment = {"LD_LIBRARY_PATH": folders, "FAKE_MTML": str(script), "PATH": "/usr/bin:/bin"}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    path, sha256, version, count = ran.stdout.split()
    assert (path, version, count) == (str(places[1]), "2.2.1", "1")
    assert len(sha256) == 64


# Through the back end
def test_the_library_comes_before_the_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opening: Opening) -> None:
    opening(gpu(0), gpu(1, sbdf="00000000:36:00.0"))
    vendor = VENDORS["musa"]
    backend = MooreThreads(bus(tmp_path, MooreThreads, vendor.pci_class, vendor.functions))
    install_tool(tmp_path / "bin", vendor.tool, vendor.answers)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    first, _ = backend.look(None)
    assert (first.model.source, first.model.simulated, first.model.driver) == ("mtml", True, "petaseal-fake-1.0")
    assert first.model.exposes == ("power", "clock", "temperature")
    assert first.device.uuid == UUID.format(0)
    assert backend.watch([first]).read() == {"musa:0": BUSY}
    (tmp_path / FOLDERS[-1] / "libmtml.so").unlink()
    first, _ = backend.look(None)
    assert (first.model.source, first.model.simulated) == ("mthreads-gmi", False)
    assert "libmtml" in first.skipped[0]


# The published binding


def layout(kind: Any) -> list[tuple[int, int]]:
    """Return offset and size of each field of a structure, and of the whole."""
    places = [(getattr(kind, field[0]).offset, getattr(kind, field[0]).size) for field in kind._fields_]
    return [*places, (0, ctypes.sizeof(kind))]


@pytest.fixture
def binding(monkeypatch: pytest.MonkeyPatch) -> Any:
    return published(monkeypatch, "pymtml.py")


def test_structures_and_constants_are_the_published_ones(binding: Any) -> None:
    assert layout(MtmlPciInfo) == layout(binding.c_mtmlPciInfo_t)
    assert ctypes.sizeof(MtmlDeviceProperty) == ctypes.sizeof(binding.c_mtmlDeviceProperty_t)
    assert [field[0::2] for field in MtmlDeviceProperty._fields_] == [
        field[0::2] for field in binding.c_mtmlDeviceProperty_t._fields_
    ]
    sizes = ctypes.CDLL(str(compile_library("mtml.c", "libmtml.so")))
    assert list((ctypes.c_uint * 2).in_dll(sizes, "fake_sizes")) == [
        ctypes.sizeof(kind) for kind in (MtmlPciInfo, MtmlDeviceProperty)
    ]
    assert (mtml.MPC_PARENT, mtml.MPC_INSTANCE) == (binding.MTML_MPC_TYPE_PARENT, binding.MTML_MPC_TYPE_INSTANCE)
    roles = binding.MTML_VIRT_ROLE_HOST_VIRTDEVICE, binding.MTML_VIRT_ROLE_GUEST_VIRTDEVICE
    assert roles == (mtml.HOST_VIRTUAL, mtml.GUEST_VIRTUAL)
    assert (mtml.UNCORRECTED, mtml.VOLATILE, mtml.DRAM) == (
        binding.MTML_MEMORY_ERROR_TYPE_UNCORRECTED,
        binding.MTML_VOLATILE_ECC,
        binding.MTML_MEMORY_LOCATION_DRAM,
    )
    assert (mtml.NO_PERMISSION, mtml.SUCCESS) == (binding.MTML_ERROR_NO_PERMISSION, binding.MTML_SUCCESS)
    assert set(mtml.FUNCTIONS) <= set(dir(binding))


def test_the_published_binding_reads_the_same(opening: Opening, binding: Any, tmp_path: Path) -> None:
    """It calls the same functions of the same library, with its own order of arguments."""
    source = opening(
        gpu(0, ecc=1, ecc_pending=0, uncorrected=4, vbios="3.4.7"), gpu(1, mpc=1), gpu(2, begin="part", mpc=2)
    )
    row, instance = source.devices()
    reading = source.readings([row])[0]
    assert isinstance(reading, Reading)
    binding.mtmlLib = ctypes.CDLL(str(tmp_path / FOLDERS[-1] / "libmtml.so"))
    binding.mtmlLibraryInit()
    assert binding.mtmlLibraryGetVersion() == source.version
    assert binding.mtmlLibraryCountDevice() == 3
    system = binding.mtmlLibraryInitSystem()
    assert binding.mtmlSystemGetDriverVersion(system) == row.driver
    binding.mtmlLibraryFreeSystem(system)
    device = binding.mtmlLibraryInitDeviceByIndex(0)
    assert binding.mtmlDeviceGetName(device) == row.model
    assert binding.mtmlDeviceGetUUID(device) == row.uuid
    assert binding.mtmlDeviceGetSerialNumber(device) == row.serial
    assert binding.mtmlDeviceGetMtBiosVersion(device) == row.firmware
    assert binding.mtmlDeviceGetVbiosVersion(device) == "3.4.7"
    assert binding.mtmlDeviceGetPciInfo(device).sbdf == "00000000:12:00.0"
    assert binding.mtmlDeviceCountGpuCores(device) == row.units
    assert binding.mtmlDeviceGetPowerUsage(device) == reading.power_mw
    assert binding.mtmlDeviceGetProperty(device).mpcType == 0
    with binding.mtmlGpuContext(device) as core:
        assert binding.mtmlGpuGetTemperature(core) == reading.temperature_c
        assert binding.mtmlGpuGetClock(core) == reading.clock_mhz
        assert binding.mtmlGpuGetMaxClock(core) == row.max_clock_mhz
        assert binding.mtmlGpuGetUtilization(core) * 10_000 == reading.utilisation_ppm
    with binding.mtmlMemoryContext(device) as memory:
        assert binding.mtmlMemoryGetTotal(memory) == row.memory_bytes
        assert binding.mtmlMemoryGetEccMode(memory) == (1, 0)
        assert binding.mtmlMemoryGetEccErrorCounter(memory, 1, 0, 1) == reading.ecc_uncorrected
    binding.mtmlLibraryFreeDevice(device)
    part = binding.mtmlLibraryInitDeviceByIndex(2)
    assert binding.mtmlDeviceGetProperty(part).mpcType == mtml.MPC_INSTANCE
    assert binding.mtmlDeviceGetUUID(binding.mtmlDeviceGetMpcParentDevice(part)) == instance.parent
    binding.mtmlLibraryFreeDevice(part)
    binding.mtmlLibraryShutDown()
