"""The sensors of one AMD GPU: files of its hwmon, its error counts and its table of metrics, as quantities. No state.

What a file does not hold, or holds beyond what can be, is None; the table is asked where there is no file.
Source: Linux, Documentation/gpu/amdgpu/thermal.rst and ras.rst (drivers/gpu/drm/amd/pm/amdgpu_pm.c, amdgpu_ras.c).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from bench.devices.libraries import answers
from bench.devices.libraries.amd import kfd
from bench.devices.libraries.amd.gpu_metrics import ENERGY_UNITS_PER_J, GpuMetrics
from bench.telemetry import Reading
from bench.units import MAX_INTEGER


class Sensors(NamedTuple):
    """The files of one device that are read at every look; None for one that it does not have."""

    function: str
    power: str | None
    temperature: str | None
    clock: str | None
    errors: tuple[str, ...]


def sensors_of(function: Path) -> Sensors:
    """Return the sensors of a PCI function.

    Args:
        function: its folder in sysfs.
    """
    hwmon = next((path for path in sorted(function.glob("hwmon/hwmon*")) if kfd.text(path / "name") == "amdgpu"), None)
    errors = tuple(str(path) for path in sorted(function.glob("ras/*_err_count")))
    if hwmon is None:
        return Sensors(str(function), None, None, None, errors)
    # the average where there is one: newer chips report the present power only
    power = next((str(p) for n in ("power1_average", "power1_input") if (p := hwmon / n).exists()), None)
    labels = {kfd.text(path): path for path in sorted(hwmon.glob("temp*_label"))}
    hottest = next((labels[label] for label in ("junction", "edge") if label in labels), None)
    temperature = hwmon / "temp1_input" if hottest is None else Path(str(hottest).replace("_label", "_input"))
    return Sensors(str(function), power, str(temperature), str(hwmon / "freq1_input"), errors)


def _scaled(path: str | None, divisor: int) -> int | None:
    value = None if path is None else kfd.number(path)
    return None if value is None else value // divisor


def power_mw_of(path: str | None) -> int | None:
    """Return a power that stands in microwatts, in mW; None for 0: a second die shows it in place of its parent's."""
    return answers.power_mw(_scaled(path, 1000))


def reading_of(sensors: Sensors, table: GpuMetrics | None, *, whole: bool) -> Reading:
    """Return what the sensors of a device show; throttling and processes are not theirs.

    Args:
        sensors: of its function.
        table: its table of metrics, where its form is known.
        whole: False for a partition, whose GPU's power, use and energy are not its own.
    """
    seen = table or GpuMetrics()
    temperature_c, clock_mhz = _scaled(sensors.temperature, 1000), _scaled(sensors.clock, 10**6)
    reading = Reading(
        temperature_c=answers.temperature_c(seen.temperature_c if temperature_c is None else temperature_c),
        clock_mhz=answers.clock_mhz(clock_mhz or seen.clock_mhz),
        ecc_uncorrected=_uncorrected_errors(sensors),
    )
    if not whole:
        return reading
    table_mw = None if seen.power_w is None else seen.power_w * 1000
    percent = kfd.number(f"{sensors.function}/gpu_busy_percent")
    energy_mj = (seen.energy or 0) * 1000 // ENERGY_UNITS_PER_J
    return reading._replace(
        power_mw=power_mw_of(sensors.power) or answers.power_mw(table_mw),
        utilisation_ppm=answers.utilisation_ppm(seen.activity_percent if percent is None else percent),
        energy_mj=energy_mj if 0 < energy_mj <= MAX_INTEGER else None,  # 0 is what a chip without a counter shows
    )


_UNCORRECTED = re.compile(rb"^ue:\s*(\d{1,15})\s*$", re.MULTILINE)


def _uncorrected_errors(sensors: Sensors) -> int | None:
    """Return the uncorrected errors of all blocks; None where one does not answer: a sum without it would jump."""
    counts = [_UNCORRECTED.search(kfd.read(path) or b"") for path in sensors.errors]
    known = [int(count[1]) for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None
