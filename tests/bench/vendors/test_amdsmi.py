"""AMD's management library: the real source over a real shared object that answers as a script says."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bench.devices.libraries.amd import smi_api as api
from bench.devices.libraries.amdsmi import AmdSmiSource
from bench.devices.source import ListedDevice
from bench.devices.vendors.amd import Amd
from bench.errors import InputError
from bench.telemetry import Reading
from tests.bench.vendors.tools import bus
from tests.fake_libraries import compile_library, install, lines, of_another_machine, write_script

FOLDER = "opt/rocm/lib"
LIBRARY = "libamd_smi.so"
GPU: dict[str, object] = {
    "name": "AMD Instinct MI300X OAM",
    "market": "AMD Instinct MI300X",
    "unique": "0x6B1F2E3D4C5A6978",
    "serial": "692512000317",
    "board": "102-G30211-0C",
    "bdf": "0000:1b:00.0",
    "kfd": 51_234,
    "node": 2,
    "mode": "SPX",
    "units": 304,
    "vbios": "113-M3000100-103",
    "memory": 206_141_652_992,
    "cap": 750_000_000,
    "default_cap": 750_000_000,
    "max_cap": 750_000_000,
    "current": 731,
    "hotspot": 74,
    "clock": 1_688,
    "max_clock": 2_100,
    "usage": 100,
    "uncorrected": 0,
    "processes": 2,
    "energy": 1_000_000,
    "unit": 16,
    "residency": "01000",
}
SECOND = GPU | {"unique": "0x6B1F2E3D4C5A6979", "serial": "692512000318", "bdf": "0000:3d:00.0", "kfd": 6, "node": 3}
READING = Reading(731_000, 74, 1688, 10**6, None, 0, 2, 16_000)

Node = Callable[..., AmdSmiSource]


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """Give a node with the library, opened, that answers as the lines of some devices say."""

    def opened(*gpus: dict[str, object] | str, library: str = "", without: tuple[str, ...] = ()) -> AmdSmiSource:
        texts = [gpu if isinstance(gpu, str) else lines("device", gpu) for gpu in gpus]
        monkeypatch.setenv("FAKE_AMDSMI", str(write_script(tmp_path, library + "".join(texts))))
        (tmp_path / FOLDER / LIBRARY).unlink(missing_ok=True)  # one that is loaded must not change below its reader
        install(compile_library("amdsmi.c", LIBRARY, without=without), tmp_path, FOLDER)
        return AmdSmiSource.open(tmp_path)

    return opened


def look(source: AmdSmiSource) -> dict[int, Any]:
    return source.readings(source.devices())


def test_what_is_listed_and_read(node: Node) -> None:
    source = node(GPU, SECOND)
    first, second = source.devices()
    assert first == ListedDevice(
        number=0,
        model="AMD Instinct MI300X OAM",
        keys=("GPU-6b1f2e3d4c5a6978",),
        uuid="0x6b1f2e3d4c5a6978",
        serial="692512000317",
        pci_address="0000:1b:00.0",
        board_part="102-G30211-0C",
        count_unit="package",
        firmware="113-M3000100-103",
        driver="petaseal-fake-1.0",
        memory_bytes=206_141_652_992,
        units=304,
        max_clock_mhz=2100,
        power_limit_mw=750_000,
        power_limit_default_mw=750_000,
        power_limit_max_mw=750_000,
        place=first.place,
    )
    assert (second.number, second.uuid) == (1, "0x6b1f2e3d4c5a6979")
    assert (source.name, source.version) == ("amdsmi", "26.0.2")
    assert (source.path or "").endswith(f"{FOLDER}/{LIBRARY}")
    assert len(source.sha256 or "") == 64
    source.close()


def test_throttling_is_asked_of_one_device_a_look(node: Node) -> None:
    """The library watches for a tenth of a second to answer it."""
    source = node(GPU, SECOND | {"residency": "10101"})
    rows = source.devices()
    looks = [source.readings(rows) for _ in range(2)]
    states = [[getattr(seen[number], "throttled", "lost") for number in range(2)] for seen in looks]
    assert states == [[None, ("hbm_thermal", "prochot", "socket_thermal")], [("ppt",), None]]
    assert looks[0][0] == READING


def test_the_order_is_that_of_the_nodes(node: Node) -> None:
    assert [row.pci_address for row in node(GPU | {"node": 9}, SECOND).devices()] == ["0000:3d:00.0", "0000:1b:00.0"]
    # where one has none, the library's own
    assert next(row.pci_address for row in node(GPU | {"node": None}, SECOND).devices()) == "0000:1b:00.0"


def test_partitions_are_slices(node: Node, tmp_path: Path) -> None:
    """The library writes the partition's place where the function's stands; the bus does not have such functions."""
    bus(tmp_path, Amd, "0x120000", ("0000:1b:00.0",))
    parts = [GPU | {"mode": "CPX", "kfd": 40 + n, "bdf": f"0000:1b:00.{n}", "units": 38} for n in range(3)]
    source = node(parts[0], *(part | {"socket": 0} for part in parts[1:]))
    rows = source.devices()
    assert [(row.count_unit, row.parent, row.uuid, row.serial) for row in rows] == [
        ("slice", "0x6b1f2e3d4c5a6978", f"0x6b1f2e3d4c5a6978-{40 + n}", None) for n in range(3)
    ]
    assert {row.pci_address for row in rows} == {"0000:1b:00.0"}
    assert rows[0].exposes == ("clock", "temperature")
    seen = source.readings(rows)[0]
    assert seen == READING._replace(power_mw=None, utilisation_ppm=None, energy_mj=None)


def test_dies_by_id(node: Node) -> None:
    (row,) = node(GPU | {"name": None, "market": "A maker's board", "id": 0x740C, "mode": None}).devices()
    assert (row.model, row.count_unit) == ("A maker's board", "die")


@pytest.mark.parametrize(
    ("word", "value", "quantity", "expected"),
    [
        ("current", 0xFFFF, "power_mw", None),
        ("current", 0xFFFFFFFF, "power_mw", None),
        ("current", 731_000, "power_mw", None),  # in another unit
        ("current", 0, "power_mw", None),
        ("hotspot", -12, "temperature_c", 0),
        ("hotspot", 2**63 - 1, "temperature_c", None),
        ("hotspot", 74_000, "temperature_c", None),
        ("clock", 0xFFFFFFFF, "clock_mhz", None),
        ("clock", 0, "clock_mhz", None),
        ("usage", 0xFFFF, "utilisation_ppm", None),
        ("usage", 101, "utilisation_ppm", None),
        ("uncorrected", 2**64 - 1, "ecc_uncorrected", None),
        ("uncorrected", None, "ecc_uncorrected", None),
        ("processes", 0xFFFFFFFF, "processes", None),
        ("processes", 0, "processes", 0),
        ("energy", 0, "energy_mj", None),
        ("energy", 2**64 - 1, "energy_mj", None),
        ("unit", "nan", "energy_mj", None),
        ("unit", "inf", "energy_mj", None),
        ("unit", -1, "energy_mj", None),
    ],
)
def test_values_that_are_none(node: Node, word: str, value: object, quantity: str, expected: int | None) -> None:
    found = look(node(GPU | {"residency": None} | {word: value}))[0]
    assert found._asdict() == READING._asdict() | {quantity: expected}


def test_the_average_power_and_the_edge_where_there_is_nothing_else(node: Node) -> None:
    found = look(node(GPU | {"residency": None, "current": None, "average": 401, "hotspot": None, "edge": 52}))[0]
    assert (found.power_mw, found.temperature_c) == (401_000, 52)


def test_throttlers_that_are_not_told(node: Node) -> None:
    assert look(node(GPU | {"residency": "?????"}))[0].throttled is None
    assert look(node(GPU | {"residency": "0?000"}))[0].throttled == ()


def test_texts_with_blanks_and_nul_bytes(node: Node) -> None:
    (row,) = node(GPU | {"name": "  AMD  Instinct MI300X \0rest", "serial": "\0", "board": "N/A"}).devices()
    assert (row.model, row.serial, row.board_part) == ("AMD Instinct MI300X", None, None)


def test_an_error_for_one_device_only(node: Node) -> None:
    failing = lines("device", SECOND, ["answer amdsmi_get_gpu_asic_info 12"])
    first, second = node(GPU, failing).devices()
    assert first.fault is None
    assert second.fault is not None
    assert "status 12" in second.fault.what
    silent = lines("device", SECOND, ["answer amdsmi_get_power_info 30", "answer amdsmi_get_temp_metric 30"])
    found = look(node(GPU, silent))
    assert (found[1].power_mw, found[1].temperature_c, found[1].clock_mhz) == (None, None, 1688)
    mute = lines("device", SECOND, ["answer * 2"])
    source = node(GPU, SECOND)
    rows = source.devices()
    source = node(GPU, mute)
    source._ask("amdsmi_init", api.AMD_GPUS)
    assert list(source.readings(rows)) == [0]


def test_a_count_that_changes_between_two_calls(node: Node) -> None:
    source = node(GPU, SECOND, library="count 2 @1 1\n")
    assert len(source.devices()) == 1


def test_devices_that_all_fail_are_one_error(node: Node) -> None:
    with pytest.raises(InputError, match="amdsmi_get_gpu_asic_info") as raised:
        node(GPU, SECOND, library="answer amdsmi_get_gpu_asic_info 7\n").devices()
    assert raised.value.code == "device-library-unusable"
    with pytest.raises(InputError, match="amdsmi_get_socket_handles"):
        node(GPU, library="answer amdsmi_get_socket_handles 7\n").devices()


@pytest.mark.parametrize(
    ("library", "code", "said"),
    [
        ("answer amdsmi_init 10\n", "device-permission", "status 10"),
        ("answer amdsmi_init 34\n", "device-library-unusable", "status 34"),
        ("major 25\n", "device-library-unusable", "of version 25"),
        ("major 27\n", "device-library-unusable", "of version 27"),
        ("answer amdsmi_get_lib_version 3\n", "device-library-unusable", "of version 0"),
    ],
)
def test_a_library_that_cannot_be_used(node: Node, library: str, code: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as raised:
        node(GPU, library=library)
    assert raised.value.code == code


def test_a_library_that_is_missing_old_or_of_another_machine(node: Node, tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        AmdSmiSource.open(tmp_path)
    assert raised.value.code == "device-library-missing"
    with pytest.raises(InputError, match="has no amdsmi_get_gpu_asic_info") as raised:
        node(GPU, without=("amdsmi_get_gpu_asic_info",))
    assert raised.value.code == "device-library-unusable"
    (tmp_path / FOLDER / LIBRARY).unlink()
    of_another_machine(compile_library("amdsmi.c", LIBRARY), tmp_path / FOLDER)
    with pytest.raises(InputError) as raised:
        AmdSmiSource.open(tmp_path)
    assert raised.value.code == "device-library-unusable"


def test_of_two_versions_on_the_path_the_known_one_is_loaded(node: Node, tmp_path: Path) -> None:
    known = install(compile_library("amdsmi.c", "libamd_smi.so.26"), tmp_path, FOLDER)
    assert node(GPU).path == str(known)


def test_an_older_library_without_some_questions(node: Node) -> None:
    lacks = ("amdsmi_get_violation_status", "amdsmi_get_gpu_kfd_info", "amdsmi_get_energy_count")
    found = look(node(GPU, without=lacks))[0]
    assert found == READING._replace(energy_mj=None)


def test_the_back_end_asks_the_library_where_there_are_no_files(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    shared = {"name": "A maker's board", "mode": None}
    node(GPU | shared, SECOND | shared | {"serial": GPU["serial"]})
    backend = Amd(bus(tmp_path, Amd, "0x120000", ("0000:1b:00.0", "0000:3d:00.0")))
    found = backend.look(None)
    assert {(one.model.source, one.model.simulated, one.model.count_unit) for one in found} == {("amdsmi", True, "die")}
    assert {one.device.parent for one in found} == {"692512000317"}
    assert "topology" in found[0].skipped[0]


# The published bindings
@pytest.fixture(scope="module")
def published() -> ModuleType:
    """Return AMD's own wrapper, over the fake library in place of the one that it asks for."""
    spec = importlib.util.find_spec("amdsmi")
    if spec is None or not spec.submodule_search_locations:
        assert not os.environ.get("CI"), "the package amdsmi is not installed"
        pytest.skip("the package amdsmi is not installed")
    path = Path(spec.submodule_search_locations[0]) / "amdsmi_wrapper.py"
    # every function of the wrapper is asked of the library while it is imported
    text = path.read_text().replace("_libraries['libamd_smi.so'], location = find_smi_library()", "raise OSError('no')")
    module = ModuleType("published_amdsmi_wrapper")
    module.__file__ = str(path)
    text = text.replace("_libraries = {}", "_libraries = {'libamd_smi.so': _Any()}")
    module.__dict__["_Any"] = _Recorder
    exec(compile(text, str(path), "exec"), module.__dict__)
    return module


class _Recorder:
    """A library that has every function, to which argument types can be given."""

    def __getattr__(self, name: str) -> Any:
        made = type("Function", (), {})()
        setattr(self, name, made)
        return made


STRUCTURES = {
    "AmdSmiVersion": "amdsmi_version_t",
    "AmdSmiAsic": "amdsmi_asic_info_t",
    "AmdSmiBoard": "amdsmi_board_info_t",
    "AmdSmiKfd": "amdsmi_kfd_info_t",
    "AmdSmiVbios": "amdsmi_vbios_info_t",
    "AmdSmiDriver": "amdsmi_driver_info_t",
    "AmdSmiPower": "amdsmi_power_info_t",
    "AmdSmiPowerCap": "amdsmi_power_cap_info_t",
    "AmdSmiClock": "amdsmi_clk_info_t",
    "AmdSmiUsage": "amdsmi_engine_usage_t",
    "AmdSmiErrors": "amdsmi_error_count_t",
    "AmdSmiViolations": "amdsmi_violation_status_t",
}
OURS_ALONE = {"acc", "per", "acc_per_xcc", "per_per_xcc", "active_per_xcc", "reserved"}  # several of theirs as one


@pytest.mark.parametrize("ours", STRUCTURES)
def test_structures_are_the_published_ones(published: ModuleType, ours: str) -> None:
    declared, theirs = getattr(api, ours), getattr(published, STRUCTURES[ours])
    assert ctypes.sizeof(declared) == ctypes.sizeof(theirs)
    for name, *_ in declared._fields_:
        if name in OURS_ALONE and not hasattr(theirs, name):
            continue
        assert getattr(declared, name).offset == getattr(theirs, name).offset, name
        if name not in OURS_ALONE:
            assert getattr(declared, name).size == getattr(theirs, name).size, name


@pytest.mark.parametrize("name", api.FUNCTIONS)
def test_functions_are_the_published_ones(published: ModuleType, name: str) -> None:
    ours, theirs = api.FUNCTIONS[name], getattr(published, name).argtypes
    assert len(ours) == len(theirs)
    assert list(map(ctypes.sizeof, ours)) == list(map(ctypes.sizeof, theirs))
    assert [hasattr(kind, "contents") for kind in ours if kind is not ctypes.c_void_p] == [
        hasattr(kind, "contents")
        for kind, declared in zip(theirs, ours, strict=True)
        if declared is not ctypes.c_void_p
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AMDSMI_STATUS_SUCCESS", api.SUCCESS),
        ("AMDSMI_STATUS_NO_PERM", api.NO_PERMISSION),
        ("AMDSMI_INIT_AMD_GPUS", api.AMD_GPUS),
        ("AMDSMI_CLK_TYPE_GFX", api.GFX_CLOCK),
        ("AMDSMI_TEMPERATURE_TYPE_EDGE", api.EDGE),
        ("AMDSMI_TEMPERATURE_TYPE_HOTSPOT", api.HOTSPOT),
        ("AMDSMI_TEMP_CURRENT", api.CURRENT),
        ("AMDSMI_MEM_TYPE_VRAM", api.VRAM),
    ],
)
def test_constants_are_the_published_ones(published: ModuleType, name: str, value: int) -> None:
    assert getattr(published, name) == value
