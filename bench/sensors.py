"""What Linux reports of its processors while they run: clock, temperature, power, throttling.

Every path is below an injectable root; what a kernel or a container does not expose is None.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean

from bench.clock import Clock
from bench.host.files import line
from bench.telemetry import Reading

EXPOSES = ("power", "clock", "temperature", "throttle")  # where kernel and permissions allow
MOST_CPUS = 16  # reading a frequency interrupts its core: a few stand for all
CPU_HWMON = {"coretemp", "k10temp", "zenpower", "cpu_thermal", "soc_thermal"}
CPU_ZONES = ("x86_pkg_temp", "cpu", "soc")
COOLEST_MC, HOTTEST_MC = -40_000, 150_000  # millidegrees: outside these a sensor is not connected


class CpuSource:
    """Telemetry of the processors of this machine.

    Args:
        cpus: logical CPUs in use.
        clock: for the time between two readings of an energy counter.
        root: the file system's root.
    """

    def __init__(self, cpus: Sequence[int], clock: Clock, root: Path = Path("/")) -> None:
        self._clock = clock
        self._root = root
        cpu_dir = root / "sys/devices/system/cpu"
        sampled = cpus[:: max(1, len(cpus) // MOST_CPUS)][:MOST_CPUS]
        self._frequencies = [p for c in sampled if (p := cpu_dir / f"cpu{c}/cpufreq/scaling_cur_freq").exists()]
        self._throttles = [
            p for c in sampled if (p := cpu_dir / f"cpu{c}/thermal_throttle/package_throttle_count").exists()
        ]
        self._temperatures = temperature_files(root)
        self._energies = energy_files(root)
        self._last_energy: tuple[int, list[int]] | None = None
        self._last_throttle: int | None = None

    def read(self) -> Reading:
        """Return the present reading."""
        return Reading(
            power_mw=self._power_mw(),
            temperature_c=self._temperature_c(),
            clock_mhz=self._clock_mhz(),
            throttled=self._throttled(),
        )

    def _clock_mhz(self) -> int | None:
        khz = _numbers(self._frequencies)
        if khz:
            return round(fmean(khz) / 1000)
        try:
            text = (self._root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        mhz = [float(m) for m in re.findall(r"^cpu MHz\s*:\s*([0-9.]+)\s*$", text, re.MULTILINE)]
        return round(fmean(mhz)) if mhz else None

    def _temperature_c(self) -> int | None:
        values = [v for v in _numbers(self._temperatures) if COOLEST_MC < v < HOTTEST_MC and v != 0]
        return max(0, max(values) // 1000) if values else None

    def _power_mw(self) -> int | None:
        """Return the mean power of all packages since the last reading."""
        if not self._energies:
            return None
        now = self._clock.monotonic_ns()
        counters = [_number(energy) for energy, _ in self._energies]
        known = [c for c in counters if c is not None]
        if len(known) < len(counters):
            return None  # readable by root only, since power betrays what is computed (CVE-2020-8694)
        last, self._last_energy = self._last_energy, (now, known)
        if last is None or now <= last[0]:
            return None
        ranges = [range_uj for _, range_uj in self._energies]
        used = [energy_between(*one) for one in zip(last[1], known, ranges, strict=True)]
        total = sum(microjoule for microjoule in used if microjoule is not None)
        return None if None in used else total * 10**6 // (now - last[0])  # uJ/ns * 10^6 = mW

    def _throttled(self) -> tuple[str, ...] | None:
        if not self._throttles:
            return None
        count = sum(_numbers(self._throttles))
        last, self._last_throttle = self._last_throttle, count
        return ("thermal",) if last is not None and count > last else ()


def temperature_files(root: Path) -> list[Path]:
    """Return the files with the processors' temperatures in millidegrees: hwmon, else thermal zones."""
    files: list[Path] = []
    for folder in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if line(folder / "name") in CPU_HWMON:
            files += sorted(folder.glob("temp*_input"))
    if files:
        return files
    zones = sorted((root / "sys/class/thermal").glob("thermal_zone*"))
    return [zone / "temp" for zone in zones if line(zone / "type").lower().startswith(CPU_ZONES)]


def energy_files(root: Path) -> list[tuple[Path, int]]:
    """Return each package's RAPL energy counter with the range after which it starts again, both in microjoules."""
    packages = sorted((root / "sys/class/powercap").glob("intel-rapl:*"))
    return [
        (folder / "energy_uj", _number(folder / "max_energy_range_uj") or 0)
        for folder in packages
        if line(folder / "name").startswith("package")
    ]


def energy_between(first_uj: int, last_uj: int, range_uj: int) -> int | None:
    """Return the energy between two readings of a counter, microjoules; None where it cannot be known.

    A counter that went back began again at its range. Where that is not known, or where more than half of it would have
    passed between two readings, it was reset.

    Args:
        first_uj: the counter's first reading.
        last_uj: its second.
        range_uj: after which it begins again; 0 where it is not known.
    """
    # Intel's counter has 32 bits in steps of 61 uJ: at 300 W it wraps every quarter of an hour.
    if last_uj >= first_uj:
        return last_uj - first_uj
    wrapped_uj = last_uj - first_uj + range_uj
    return wrapped_uj if 0 <= 2 * wrapped_uj <= range_uj and first_uj <= range_uj else None


def _number(path: Path) -> int | None:
    try:
        return int(line(path))
    except ValueError:
        return None


def _numbers(paths: Iterable[Path]) -> list[int]:
    return [value for path in paths if (value := _number(path)) is not None]
