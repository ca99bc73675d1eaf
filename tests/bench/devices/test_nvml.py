"""NVIDIA's telemetry: the real pynvml over a fake libnvidia-ml.so.1 compiled from C (tests/fake_nvidia)."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.devices.libraries.nvidia.telemetry import throttle_reasons
from bench.devices.libraries.nvml import loaded_library
from tests.fake_nvidia import built, environment, gpu, mig, mig_uuid, uuid

READ = """
import json, sys
from bench.devices.libraries.nvml import Nvml
from bench.devices.libraries.nvidia.telemetry import NvmlSource
from bench.errors import DeviceError
source = NvmlSource(Nvml(), sys.argv[1])
told = []
for number in range(int(sys.argv[2])):
    try:
        told.append(source.read()._asdict())
    except DeviceError as error:
        told.append([error.code, error.what])
print(json.dumps(told))
"""


def readings(folder: Path, script: str, count: int, name: str = uuid(0), **more: Any) -> Any:
    env = environment(folder, script, **more)
    command = [sys.executable, "-c", READ, name, str(count)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_readings_follow_the_script(tmp_path: Path) -> None:
    script = gpu(
        0, power="700000 @3 350000", clock="1980 @3 1200", temperature="60 @2 85", usage=97, reasons="4 @3 72",
        uncorrected="2 @3 5", processes="0 @2 1 @3 2",
    )  # fmt: skip
    first, second, third = readings(tmp_path, script, 3)
    assert first | {"energy_mj": 0} == {
        "power_mw": 700_000,
        "temperature_c": 60,
        "clock_mhz": 1980,
        "utilisation_ppm": 970_000,
        "throttled": ["sw_power_cap"],
        "ecc_uncorrected": 2,
        "processes": 0,
        "energy_mj": 0,
    }
    assert 1_000_000 <= first["energy_mj"] <= second["energy_mj"] <= third["energy_mj"]
    assert (second["temperature_c"], second["processes"]) == (85, 1)
    assert (third["power_mw"], third["clock_mhz"], third["ecc_uncorrected"]) == (350_000, 1200, 5)
    assert (third["throttled"], third["processes"]) == (["hw_slowdown", "hw_thermal_slowdown"], 2)


LACKING: dict[str, str] = {
    "power_mw": "nvmlDeviceGetPowerUsage",
    "clock_mhz": "nvmlDeviceGetClockInfo",
    "utilisation_ppm": "nvmlDeviceGetUtilizationRates",
    "processes": "nvmlDeviceGetComputeRunningProcesses_v3",
    "energy_mj": "nvmlDeviceGetTotalEnergyConsumption",
    "ecc_uncorrected": "nvmlDeviceGetTotalEccErrors",
}


@pytest.mark.parametrize("code", [4, 13])
@pytest.mark.parametrize("field", LACKING)
def test_a_query_that_fails_costs_one_field(tmp_path: Path, field: str, code: int) -> None:
    (told,) = readings(tmp_path, f"answer {LACKING[field]} {code}\n" + gpu(), 1)
    assert [name for name, value in told.items() if value is None] == [field]


def test_an_older_driver_tells_by_its_older_functions(tmp_path: Path) -> None:
    (told,) = readings(tmp_path, gpu(reasons=4), 1, libraries=built(old=True))
    assert [name for name, value in told.items() if value is None] == ["energy_mj"]
    assert (told["temperature_c"], told["throttled"]) == (61, ["sw_power_cap"])


@pytest.mark.parametrize(("ecc", "count"), [(0, None), (1, 3), (2, 3)])  # off; on; aggregate counters only
def test_memory_errors_are_unknown_where_ecc_is_off(tmp_path: Path, ecc: int, count: int | None) -> None:
    (told,) = readings(tmp_path, gpu(ecc=ecc, uncorrected=3), 1)
    assert told["ecc_uncorrected"] == count


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"lost": "0 @2 1"}, "device-lost", "lost"),
        ({"xid": "0 @1 79"}, "device-lost", "XID 79"),
        ({"xid": "0 @1 48"}, "device-failed", "XID 48"),
        ({"xid": "31 @1 119"}, "device-failed", "XID 119"),
    ],
)
def test_a_fault_of_the_gpu_is_raised_for_good(tmp_path: Path, change: dict[str, object], code: str, text: str) -> None:
    first, second, third = readings(tmp_path, gpu(**change), 3)  # type: ignore[arg-type]
    assert first["power_mw"] == 650_000
    assert second[0] == code
    assert text in second[1]
    assert third == second


def test_a_gpu_that_must_be_reset_has_failed(tmp_path: Path) -> None:
    ((code, text),) = readings(tmp_path, "answer nvmlDeviceGetPowerUsage 16\n" + gpu(), 1)
    assert (code, "reset" in text) == ("device-failed", True)


@pytest.mark.parametrize("xid", [13, 31, 43, 45])
def test_an_error_of_an_application_is_no_fault(tmp_path: Path, xid: int) -> None:
    assert [told["power_mw"] for told in readings(tmp_path, gpu(xid=f"0 @1 {xid}"), 3)] == [650_000] * 3


@pytest.mark.parametrize("function", ["nvmlEventSetCreate", "nvmlDeviceRegisterEvents"])
def test_a_driver_without_events_is_read_all_the_same(tmp_path: Path, function: str) -> None:
    told = readings(tmp_path, f"answer {function} 3\n" + gpu(xid="0 @1 79"), 2)
    assert [one["power_mw"] for one in told] == [650_000] * 2


def test_an_instance_tells_what_is_its_own(tmp_path: Path) -> None:
    script = gpu(0, mig_mode=1, reasons=4, uncorrected=2) + mig(1, processes=3) + mig(2, xid="0 @1 48")
    first, second = readings(tmp_path, script, 2, mig_uuid(1))
    assert first == {
        "power_mw": None,
        "temperature_c": 61,
        "clock_mhz": 1755,
        "utilisation_ppm": None,
        "throttled": ["sw_power_cap"],
        "ecc_uncorrected": 2,
        "processes": 3,
        "energy_mj": None,
    }
    assert second == first  # the error was the other instance's
    assert readings(tmp_path, script, 2, mig_uuid(2))[1] == [
        "device-failed",
        "the GPU reports a critical error (XID 48)",
    ]
    script = gpu(0, mig_mode=1, xid="0 @1 79") + mig(1)
    assert readings(tmp_path, script, 2, mig_uuid(1))[1][0] == "device-lost"  # the whole GPU's


@pytest.mark.parametrize(
    ("mask", "reasons"),
    [
        (0, ()),
        (0x1, ()),  # idle
        (0x4, ("sw_power_cap",)),
        (0x1 | 0x8 | 0x40, ("hw_slowdown", "hw_thermal_slowdown")),
        (
            0x2 | 0x10 | 0x20 | 0x80 | 0x100,
            ("applications_clocks_setting", "display_clock", "hw_power_brake", "sw_thermal_slowdown", "sync_boost"),
        ),
        (0x4000, ("reason_0x4000",)),
    ],
)
def test_throttle_reasons(mask: int, reasons: tuple[str, ...]) -> None:
    assert throttle_reasons(mask) == reasons


def test_every_reason_of_the_published_header_has_a_name() -> None:
    """pynvml has all constants of nvml.h: nvmlClocksEventReason* and nvmlClocksThrottleReason*."""
    import pynvml

    masks = {
        name: value
        for name, value in vars(pynvml).items()
        if re.fullmatch(r"nvmlClocks(Event|Throttle)Reason\w+", name)
    }
    assert {0x200, 0x400} <= set(masks.values())
    for name, mask in masks.items():
        assert not [reason for reason in throttle_reasons(mask) if reason.startswith("reason_")], name


def test_a_virtual_gpu_in_a_guest_has_no_power_of_its_own(tmp_path: Path) -> None:
    (told,) = readings(tmp_path, gpu(virtualization=2), 1)
    assert (told["power_mw"], told["energy_mj"], told["utilisation_ppm"]) == (None, None, None)
    assert (told["temperature_c"], told["clock_mhz"]) == (61, 1755)


@pytest.mark.parametrize(("told", "celsius"), [(-5, 0), (2**32 - 1, None), (2**31 - 1, None)])
def test_a_temperature_below_zero_or_at_its_limit(tmp_path: Path, told: int, celsius: int | None) -> None:
    (reading,) = readings(tmp_path, gpu(temperature=told), 1, libraries=built(old=True))
    assert reading["temperature_c"] == celsius


def test_a_library_that_was_replaced_has_no_digest(tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    maps.write_text("7f00-7f01 r-xp 00000000 08:01 42    /lib/libnvidia-ml.so.550.54 (deleted)\n")
    assert loaded_library(maps) == ("/lib/libnvidia-ml.so.550.54 (deleted)", None)
    assert loaded_library(tmp_path / "none") == (None, None)
    maps.write_text("")
    assert loaded_library(maps) == (None, None)
