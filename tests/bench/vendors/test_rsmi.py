"""ROCm's older library, which Hygon's stack ships, by ctypes: a real shared object in Hygon's folder."""

from __future__ import annotations

import ctypes
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.devices.libraries import rsmi as rsmi_module
from bench.devices.libraries.loading import Library
from bench.devices.libraries.rsmi import ErrorCount, Frequencies, OlderFrequencies, RsmiSource, RsmiVersion
from bench.devices.source import ListedDevice
from bench.devices.vendors.hygon import INSTANCE, SHARES, Hygon
from bench.errors import InputError
from bench.telemetry import Reading
from tests.bench.vendors.tools import bus
from tests.bindings import Spy, alike, published
from tests.fake_libraries import compile_library, install, lines, of_another_machine, write_script

FOLDER = "opt/hyhal/lib"


def rsmi(*without: str, older: bool = False) -> Path:
    return compile_library("rsmi.c", "librocm_smi64.so", without=without, options=("-DOLDER",) if older else ())


def dcu(index: int = 0, more: tuple[str, ...] = (), **changes: object) -> str:
    """Return the lines of one device; a change of None leaves a line out."""
    values: dict[str, object] = {
        "name": "FAKE_AI",
        "serial": f"D31{index:09d}",
        "vbios": "113-FAKE-017",
        "pci": (0x9F + index) << 8,
        "unique": 0x3A5A1C0F2E4D6B80 + index,
        "memory": 64 * 2**30,
        "power": 287_000_000,
        "junction": 62_500,
        "edge": 55_000,
        "usage": 98,
        "cap": 350_000_000,
        "cap_default": 350_000_000,
        "cap_max": 400_000_000,
        "clock": 1400,
        "uncorrected": 3,
        "energy": 1_000_000,
    }
    return lines("device", values | changes, more)


def opened(monkeypatch: pytest.MonkeyPatch, root: Path, script: str, library: Path | None = None) -> Any:
    install(rsmi() if library is None else library, root, FOLDER)
    monkeypatch.setenv("FAKE_RSMI", str(write_script(root, script)))
    return RsmiSource.open(root)


WHOLE = Reading(
    power_mw=287_000,
    temperature_c=62,
    clock_mhz=1400,
    utilisation_ppm=980_000,
    ecc_uncorrected=3,
    energy_mj=15_300,
)


@pytest.mark.parametrize("older", [False, True])
def test_hygon_is_read_through_rocms_older_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, older: bool
) -> None:
    """Also where the frequencies have the layout of ROCm 5."""
    source = opened(monkeypatch, tmp_path, dcu(0) + dcu(1), rsmi(older=older))
    path = tmp_path / FOLDER / "librocm_smi64.so"
    assert (source.name, source.path, source.version) == ("rsmi", str(path), "7.4.1")
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    rows = source.devices()
    assert rows[0] == ListedDevice(
        number=0,
        model="FAKE_AI",
        keys=("GPU-3a5a1c0f2e4d6b80",),
        uuid="0x3a5a1c0f2e4d6b80",
        serial="D31000000000",
        pci_address="0000:9f:00.0",
        firmware="113-FAKE-017",
        driver="petaseal-fake-1.0",
        memory_bytes=64 * 2**30,
        power_limit_mw=350_000,
        power_limit_default_mw=350_000,
        power_limit_max_mw=400_000,
    )
    assert [row.pci_address for row in rows] == ["0000:9f:00.0", "0000:a0:00.0"]
    looks = source.readings(rows)
    assert set(looks) == {0, 1}
    assert looks[0]._replace(energy_mj=WHOLE.energy_mj) == WHOLE
    assert abs(looks[0].energy_mj - 15_300) <= 1  # the resolution is a float


@pytest.mark.parametrize("absent", [True, False])
@pytest.mark.parametrize(
    ("field", "function"),
    [
        ("clock_mhz", "rsmi_dev_gpu_clk_freq_get"),
        ("utilisation_ppm", "rsmi_dev_busy_percent_get"),
        ("ecc_uncorrected", "rsmi_dev_ecc_count_get"),
        ("energy_mj", "rsmi_dev_energy_count_get"),
    ],
)
def test_a_function_that_is_missing_or_refuses_costs_one_quantity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, function: str, absent: bool
) -> None:
    script = dcu(more=() if absent else (f"answer {function} 2",))
    source = opened(monkeypatch, tmp_path, script, rsmi(function) if absent else None)
    reading = source.readings(source.devices())[0]
    assert [name for name, value in reading._asdict().items() if value is None] == sorted(
        {field, "processes", "throttled"}, key=Reading._fields.index
    )


def test_an_older_release_reports_its_power_by_another_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = opened(monkeypatch, tmp_path, dcu(), rsmi("rsmi_dev_power_get", older=True))
    assert source.readings(source.devices())[0].power_mw == 287_000
    source = opened(monkeypatch, tmp_path / "newer", dcu(current_power=301_500_000))
    assert source.readings(source.devices())[0].power_mw == 301_500


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"junction": -4_000}, "temperature_c", 0),
        ({"junction": None}, "temperature_c", 55),
        ({"junction": 2**63 - 1, "edge": None}, "temperature_c", None),
        ({"power": 2**64 - 1}, "power_mw", None),
        ({"power": 2**32 - 1}, "power_mw", None),
        ({"usage": 2**32 - 1}, "utilisation_ppm", None),
        ({"usage": 101}, "utilisation_ppm", None),
        ({"power": 287}, "power_mw", None),  # not in microwatts
        ({"power": 0}, "power_mw", None),
        ({"uncorrected": 2**64 - 1}, "ecc_uncorrected", None),
        ({"clock": 0}, "clock_mhz", None),
        ({"energy": 0}, "energy_mj", None),
        ({"energy": 2**64 - 1}, "energy_mj", None),
    ],
)
@pytest.mark.parametrize("older", [False, True])
def test_strange_values_are_unknown(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, object],
    field: str,
    value: int | None,
    older: bool,
) -> None:
    source = opened(monkeypatch, tmp_path, dcu(0, (), **change), rsmi(older=older))
    assert getattr(source.readings(source.devices())[0], field) == value


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"name": "FAKE_AI  "}, "model", "FAKE_AI"),
        ({"name": "FAKE_AI\0older"}, "model", "FAKE_AI"),
        ({"serial": "N/A"}, "serial", None),
        ({"serial": None}, "serial", None),
        ({"unique": 0}, "uuid", None),
        ({"unique": None}, "keys", ()),
        ({"unique": 2**64 - 1}, "uuid", None),
        ({"pci": 0}, "pci_address", None),
        ({"pci": 2**64 - 1}, "pci_address", None),
        ({"pci": 1 << 32 | 3 << 8 | 2 << 3 | 1}, "pci_address", "0001:03:02.1"),
        ({"memory": 2**64 - 1}, "memory_bytes", None),
        ({"memory": 0}, "memory_bytes", None),
        ({"cap": None}, "power_limit_mw", None),
    ],
)
def test_strange_facts_are_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object], field: str, value: object
) -> None:
    (row,) = opened(monkeypatch, tmp_path, dcu(0, (), **change)).devices()
    assert getattr(row, field) == value
    assert row.fault is None


def test_one_device_without_a_name_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = opened(monkeypatch, tmp_path, dcu(0) + dcu(1, ("answer * 3",)) + dcu(2))
    rows = source.devices()
    assert [row.fault is None for row in rows] == [True, False, True]
    assert set(source.readings(rows)) == {0, 2}


def test_a_count_that_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = opened(monkeypatch, tmp_path, f"count 2 @1 1 @2 3\n{dcu(0)}{dcu(1)}")
    first, second, third = source.devices(), source.devices(), source.devices()
    assert (len(first), len(second)) == (2, 1)
    assert [row.fault is None for row in third] == [True, True, False]
    assert set(source.readings(first)) == {0, 1}


# Bad libraries
def test_a_missing_library(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        RsmiSource.open(tmp_path)
    assert caught.value.code == "device-library-missing"


def test_a_library_of_another_architecture(tmp_path: Path) -> None:
    of_another_machine(rsmi(), tmp_path / FOLDER)
    with pytest.raises(InputError) as caught:
        RsmiSource.open(tmp_path)
    assert caught.value.code == "device-library-unusable"


def test_a_library_that_is_too_old(tmp_path: Path) -> None:
    install(rsmi("rsmi_dev_temp_metric_get"), tmp_path, FOLDER)
    with pytest.raises(InputError, match="has no rsmi_dev_temp_metric_get") as caught:
        RsmiSource.open(tmp_path)
    assert caught.value.code == "device-library-unusable"


@pytest.mark.parametrize("function", ["rsmi_init", "rsmi_num_monitor_devices"])
@pytest.mark.parametrize(("answer", "code"), [(4, "device-permission"), (8, "device-library-unusable")])
def test_a_library_that_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, answer: int, code: str
) -> None:
    with pytest.raises(InputError) as caught:
        opened(monkeypatch, tmp_path, f"answer {function} {answer}\n{dcu()}").devices()
    assert caught.value.code == code


@pytest.mark.parametrize("module", ["hycu", "hydcu"])
def test_the_drivers_version_is_also_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    file = tmp_path / "sys/module" / module / "version"
    file.parent.mkdir(parents=True)
    file.write_text("6.3.8-V1.2\n")
    (row,) = opened(monkeypatch, tmp_path, dcu(), rsmi("rsmi_version_str_get")).devices()
    assert row.driver == "6.3.8-V1.2"


# Shares of a card
def node(monkeypatch: pytest.MonkeyPatch, root: Path) -> Hygon:
    bus(root, Hygon, "0x0b4000", ("0000:9f:00.0", "0000:a0:00.0"))
    opened(monkeypatch, root, dcu(0) + dcu(1))
    monkeypatch.setenv("PATH", str(root))
    return Hygon(root)


def test_a_virtual_dcu_of_a_container_is_a_slice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = node(monkeypatch, tmp_path)
    (tmp_path / SHARES).mkdir(parents=True)
    (tmp_path / SHARES / "vdev0.conf").write_text("PciBusId: 0000:a0:00.0\ncu_count: 60\nmem: 4096 MiB\n")
    first, second = backend.look(None)
    assert (first.model.count_unit, first.device.serial) == ("card", "D31000000000")
    assert (second.model.count_unit, second.device.parent, second.device.serial) == ("slice", "D31000000001", None)
    assert (second.model.units, second.device.uuid) == (None, None)


def test_an_instance_of_a_container_is_a_slice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = node(monkeypatch, tmp_path)
    monkeypatch.setenv(INSTANCE, "MIG-0a1b")
    assert [one.model.count_unit for one in backend.look(None)] == ["slice", "slice"]


def test_a_whole_card_through_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = node(monkeypatch, tmp_path).look(None)
    assert [(one.model.source, one.model.count_unit, one.model.simulated) for one in found] == [
        ("rsmi", "card", True),
        ("rsmi", "card", True),
    ]
    assert found[0].visibility == (("ROCR_VISIBLE_DEVICES", "GPU-3a5a1c0f2e4d6b80"),)


# The published binding
def test_functions_are_called_as_the_published_binding_calls_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binding: Any = published(monkeypatch, "gpustack_runtime/detector/pyrocmsmi/__init__.py")
    theirs, ours = Spy(), Spy()
    binding.rocmsmiLib = theirs
    for name, value in {  # of ROCm's own rsmiBindings, which the binding looks for beside the library
        "rsmi_status_t": SimpleNamespace(RSMI_STATUS_SUCCESS=0),
        "rsmi_sw_component_t": SimpleNamespace(RSMI_SW_COMP_DRIVER=0),
        "rsmi_memory_type_t": SimpleNamespace(RSMI_MEM_TYPE_VRAM=0),
        "rsmi_temperature_metric_t": SimpleNamespace(RSMI_TEMP_CURRENT=0),
        "rsmi_gpu_block_t": SimpleNamespace(RSMI_GPU_BLOCK_UMC=1),
        "rsmi_power_type_t": ctypes.c_uint32,
        "rsmi_error_count_t": ErrorCount,
    }.items():
        setattr(binding, name, value)
    for call in (
        binding.rsmi_driver_version_get,
        binding.rsmi_num_monitor_devices,
        binding.rsmi_dev_name_get,
        binding.rsmi_dev_serial_number_get,
        binding.rsmi_dev_unique_id_get,
        binding.rsmi_dev_busy_percent_get,
        binding.rsmi_dev_memory_total_get,
        binding.rsmi_dev_power_cap_get,
        binding.rsmi_dev_power_ave_get,
        binding.rsmi_dev_power_get,
        binding.rsmi_dev_pci_id_get,
        binding.rsmi_dev_ecc_count_get,
        lambda: binding.rsmi_dev_temp_metric_get(0, 1),
    ):
        call()
    monkeypatch.setattr(rsmi_module, "reported_text", lambda text: "a name")  # without one nothing more is asked
    source = RsmiSource(tmp_path, Library(ours, None, None))
    source.devices()
    source._row(0, {})
    source._reading(0)
    source._number("rsmi_dev_power_ave_get", 0, 0)
    called, expected = ours.take(), theirs.take()
    assert not [name for name, arguments in expected.items() if not alike(called[name], arguments)]
    # what the binding does not call is compared with the header by hand
    assert set(called) - set(expected) == {
        "rsmi_init",
        "rsmi_version_get",
        "rsmi_dev_vbios_version_get",
        "rsmi_dev_power_cap_default_get",
        "rsmi_dev_power_cap_range_get",
        "rsmi_dev_gpu_clk_freq_get",
        "rsmi_dev_energy_count_get",
    }


def test_layouts_are_the_headers() -> None:
    """rocm_smi.h of 6.2 and of 5.0."""
    assert [getattr(Frequencies, name).offset for name, _ in Frequencies._fields_] == [0, 4, 8, 16]
    assert ctypes.sizeof(Frequencies) == 16 + 33 * 8
    assert [getattr(OlderFrequencies, name).offset for name, _ in OlderFrequencies._fields_] == [0, 4, 8]
    assert ctypes.sizeof(OlderFrequencies) == 8 + 32 * 8
    assert ErrorCount.uncorrectable_err.offset == 8
    assert [getattr(RsmiVersion, name).offset for name, _ in RsmiVersion._fields_] == [0, 4, 8, 16]
    assert ctypes.sizeof(RsmiVersion) == 24


def test_a_version_that_was_not_filled_in_is_unknown(tmp_path: Path) -> None:
    assert RsmiSource(tmp_path, Library(Spy(), None, None)).version is None
