"""Telemetry: what is read while a device is measured (R13), and what a window's readings come to.

A source that fails costs samples, never the measurement. What the platform does not expose is None, never 0.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from bench.clock import Clock
from bench.errors import DeviceError
from bench.units import SECOND_NS, ratio_ppm

LOOK_NS = 3 * SECOND_NS // 2  # how long the load of others is looked at before a measurement
LOOKS = 3  # whose least counts: what ends by itself, like the shell that started this run, is no load
MOST_OTHER_LOAD_PPM = 50_000  # 5 %: a node's agents and interrupts take less, a job that computes takes more


class Reading(NamedTuple):
    """One look at a device. `throttled` are the reasons in force: () for none, None where they are not exposed."""

    power_mw: int | None = None
    temperature_c: int | None = None
    clock_mhz: int | None = None
    utilisation_ppm: int | None = None
    throttled: tuple[str, ...] | None = None
    ecc_uncorrected: int | None = None  # counter since the driver was loaded
    processes: int | None = None  # with a context on the device, ours among them
    energy_mj: int | None = None  # the device's own energy counter, since any fixed moment


class Sample(NamedTuple):
    """A reading and the monotonic time at which it was taken, ns."""

    at_ns: int
    reading: Reading


class ReadingSource(Protocol):
    """Where readings of one device come from."""

    def read(self) -> Reading | None:
        """Return the present reading; None where there is none.

        Raises:
            DeviceError: the device is lost or reports a fault that ends its measurement. Any other error costs one
                reading and nothing else.
        """


@runtime_checkable
class Stream(Protocol):
    """Readings of one device that another process takes."""

    def before(self) -> Reading | None:
        """Return what was read before this process touched the device; None for nothing.

        Raises:
            DeviceError: the device is lost or faulty.
        """

    def after(self, at_ns: int) -> list[Sample]:
        """Return the readings that were taken after a monotonic time, ns.

        Raises:
            DeviceError: one of them says that the device is lost or reports a fault that ends its measurement.
        """


class WindowTelemetry(NamedTuple):
    """The summary of one window's readings: the telemetry columns of a `Figure`."""

    samples: int
    clock_samples: int
    clock_gap_ns: int | None
    power_samples: int
    power_gap_ns: int | None
    power_mean_mw: int | None
    power_counter_mw: int | None
    temperature_max_c: int | None
    clock_mean_mhz: int | None
    clock_max_mhz: int | None
    throttled_ppm: int | None
    ecc_uncorrected: int | None
    foreign_processes: int | None
    throttle_reasons: tuple[str, ...]


class Sampler:
    """Collects readings at an interval, from `start` to `stop`: each once, by the time at which it was taken.

    This process has a context on the device meanwhile: a count of 0 processes means that they are hidden.

    Args:
        source: what is read, by this process or by another.
        clock: gives the time and calls at each interval.
        interval_ns: between two readings, ns.
        before: reading from before our own context was on the device (foreign processes, ECC counter).
    """

    def __init__(self, source: ReadingSource | Stream, clock: Clock, interval_ns: int, before: Reading | None) -> None:
        self._source = source
        self._clock = clock
        self._interval_ns = interval_ns
        self.before = before
        self.samples: list[Sample] = []
        self.fault: DeviceError | None = None  # what the source says ends the measurement

    def start(self) -> None:
        """Begin to read, at once and then at each interval."""
        self.samples = []
        self.fault = None
        self._begun_ns = self._clock.monotonic_ns()
        self._stop = self._clock.every(self._interval_ns, self._take)

    def stop(self) -> None:
        """Stop the reading thread; later readings are not taken."""
        self._stop()
        if isinstance(self._source, Stream):  # what was taken since the last interval
            self._take()

    def latest(self) -> Reading:
        """Return the last reading; an empty one before the first."""
        return self.samples[-1].reading if self.samples else Reading()

    def _take(self) -> None:
        try:
            self.samples += map(_without_hidden, self._new())
        except DeviceError as error:  # raised in the loop's thread by its next unit: this one belongs to the clock
            self.fault = self.fault or error

    def _new(self) -> list[Sample]:
        if isinstance(self._source, Stream):
            return self._source.after(self.samples[-1].at_ns if self.samples else self._begun_ns)
        reading = read(self._source)
        return [] if reading is None else [Sample(self._clock.monotonic_ns(), reading)]


def _without_hidden(sample: Sample) -> Sample:
    """Return a sample without its count of processes where that is 0: in a container the driver hides even ours."""
    reading = sample.reading
    return sample._replace(reading=reading._replace(processes=None)) if reading.processes == 0 else sample


def read(source: ReadingSource) -> Reading | None:
    """Return the source's reading, or None where it fails.

    Raises:
        DeviceError: the source says that the device is lost or faulty; nothing else in telemetry ends a measurement.
    """
    try:
        return source.read()
    except DeviceError:
        raise
    except Exception:
        return None


def summary(samples: Sequence[Sample], before: Reading | None, opens_ns: int, closes_ns: int) -> WindowTelemetry:
    """Return the summary of the readings within [opens_ns, closes_ns).

    A gap is the longest time without a reading of one quantity, from the window's opening to its end. ECC errors count
    from before the load until the window's end. Foreign processes are those there before our context, or all but ours
    where more came later.

    Args:
        samples: in order of time.
        before: reading from before our own context was on the device.
        opens_ns: opening of the window, monotonic ns.
        closes_ns: its end, monotonic ns.
    """
    inside = [s for s in samples if opens_ns <= s.at_ns < closes_ns]
    # A failed look must not count as a reading that showed no throttling.
    inside = [s for s in inside if s.reading != Reading()] or inside  # a look that showed nothing leaves no row
    readings = [s.reading for s in inside]
    clocks = [r.clock_mhz for r in readings if r.clock_mhz is not None]
    clock_at = [s.at_ns for s in inside if s.reading.clock_mhz is not None]
    power_at = [s.at_ns for s in inside if s.reading.power_mw is not None]
    states = [r.throttled for r in readings if r.throttled is not None]
    so_far = [before or Reading(), *(s.reading for s in samples if s.at_ns < closes_ns)]
    errors = [r.ecc_uncorrected for r in so_far if r.ecc_uncorrected is not None]
    return WindowTelemetry(
        samples=len(inside),
        clock_samples=len(clock_at),
        clock_gap_ns=_gap(clock_at, opens_ns, closes_ns),
        power_samples=len(power_at),
        power_gap_ns=_gap(power_at, opens_ns, closes_ns),
        power_mean_mw=_mean(r.power_mw for r in readings),
        power_counter_mw=_counter_power(inside),
        temperature_max_c=max((r.temperature_c for r in readings if r.temperature_c is not None), default=None),
        clock_mean_mhz=_mean(clocks),
        clock_max_mhz=max(clocks, default=None),
        throttled_ppm=ratio_ppm(sum(map(bool, states)), len(states)),
        # a counter that was reset began anew: what it shows then is new
        ecc_uncorrected=sum(b - a if b >= a else b for a, b in pairwise(errors)) if len(errors) > 1 else None,
        foreign_processes=_foreign(before, readings),
        throttle_reasons=tuple(sorted({reason for state in states for reason in state})),
    )


def _gap(times_ns: Sequence[int], opens_ns: int, closes_ns: int) -> int | None:
    """Return the longest time without a reading, ns; None without any."""
    return max(b - a for a, b in pairwise([opens_ns, *times_ns, closes_ns])) if times_ns else None


def _mean(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) // len(known) if known else None


def _counter_power(samples: Sequence[Sample]) -> int | None:
    """Return the mean power by the device's energy counter, mW; None where it has none or it was reset."""
    counts = [(s.at_ns, s.reading.energy_mj) for s in samples if s.reading.energy_mj is not None]
    if len(counts) < 2 or counts[-1][0] <= counts[0][0] or any(b[1] < a[1] for a, b in pairwise(counts)):
        return None
    return (counts[-1][1] - counts[0][1]) * SECOND_NS // (counts[-1][0] - counts[0][0])


def _foreign(before: Reading | None, readings: Sequence[Reading]) -> int | None:
    """Return how many foreign processes were on the device; None where it was not read both before and within."""
    there = before.processes if before is not None else None
    later = max((r.processes for r in readings if r.processes is not None), default=None)
    known = [count for count in (there, None if later is None else later - 1) if count is not None]
    if any(count > 0 for count in known):
        return max(known)
    return 0 if len(known) == 2 else None  # what was not read is unknown, which is not the same as none


class LoadReading(NamedTuple):
    """Time of the CPUs that this process may use, since the node's start, in clock ticks."""

    total: int
    busy: int  # used by anybody on this node
    steal: int  # taken by the hypervisor
    ours: int  # used by the processes of the measurement, anywhere


def read_load(
    pids: Iterable[int], cpus: Collection[int] | None = None, proc: Path = Path("/proc")
) -> LoadReading | None:
    """Return the time of the CPUs and the part that this measurement used; None where the kernel does not say.

    Args:
        pids: of the workers; this process is added. The time of their children that have ended is theirs.
        cpus: that may be used; None for those of this process. A container may count its CPUs anew in what it shows:
            where not all of them are there, what is shown is taken as a whole.
        proc: where procfs is mounted.
    """
    if cpus is None:
        cpus = os.sched_getaffinity(0)
    ours = [_process_ticks(proc / str(pid) / "stat") for pid in {os.getpid(), *pids}]
    try:
        if (proc / "self").readlink() != Path(str(os.getpid())):
            return None  # procfs of another PID namespace: our own load would be taken for that of others
        lines = {name: fields for name, *fields in map(str.split, (proc / "stat").read_text().splitlines()) if fields}
        names = [f"cpu{cpu}" for cpu in cpus]
        shown = [lines[name] for name in names] if names and lines.keys() >= set(names) else [lines["cpu"]]
        # user nice system idle iowait irq softirq steal; guest time is contained in user and nice.
        ticks = [[int(field) for field in fields[:8]] for fields in shown]
        user, nice, system, idle, wait, irq, softirq, steal = map(sum, zip(*ticks, strict=True))
    except (OSError, ValueError, KeyError):
        return None
    busy = user + nice + system + irq + softirq
    return LoadReading(busy + idle + wait + steal, busy, steal, sum(ours))


def _process_ticks(path: Path) -> int:
    try:
        after_name = path.read_text().rpartition(")")[2].split()
        return sum(int(field) for field in after_name[11:15])  # utime, stime, and those of children that have ended
    except (OSError, ValueError):
        return 0


def load_between(first: LoadReading | None, last: LoadReading | None) -> tuple[int | None, int | None]:
    """Return (steal, load of others) between two readings, each in parts per million of the CPUs' time."""
    if first is None or last is None or last.total <= first.total:
        return None, None
    total = last.total - first.total
    foreign = (last.busy - first.busy) - (last.ours - first.ours)
    return _share(last.steal - first.steal, total), _share(foreign, total)


def other_load_now(clock: Clock, look: Callable[[], LoadReading | None]) -> int | None:
    """Return how much of the CPUs' time others use at present, ppm: the least of some looks, one where that is little.

    Args:
        clock: this machine's clocks.
        look: reads the load.
    """
    shares = []
    for _ in range(LOOKS):
        first = look()
        clock.sleep_ns(LOOK_NS)
        _, foreign_ppm = load_between(first, look())
        if foreign_ppm is None or foreign_ppm <= MOST_OTHER_LOAD_PPM:
            return foreign_ppm
        shares.append(foreign_ppm)
    return min(shares)


def _share(part: int, whole: int) -> int:
    return min(10**6, max(0, part) * 10**6 // whole)
