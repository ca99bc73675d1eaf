"""The measuring loop of one device and one precision (R5, R6, R8 to R11): values in, one `Figure` out.

Time, kernel and telemetry are handed in, so that the same loop runs on an accelerator and on a scripted fake. Nothing
in here knows a vendor, a process or a file, and nothing in here rests: a chip that cools is not sustained.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, Protocol

from bench.clock import Clock
from bench.engine.progress import Report, SoFar, silent
from bench.errors import DeviceError
from bench.record import SUBWINDOWS, Figure, Profile, Workload, throughput_bounds
from bench.record.node import WarmupEnd
from bench.reference.checks import Check, Worst
from bench.steady import SteadyTest
from bench.telemetry import Sample, Sampler, summary
from bench.units import launch_sixths, work_mflop

if TYPE_CHECKING:
    from kernels.base import Prepared

# The window is entered this late and left this early: a launch that lies within it by the monotonic clock must do so by
# UTC too, which is what is recorded, and the two are never read at one instant.
EDGE_NS = 100_000


class WindowSpan(NamedTuple):
    """One window on this machine's monotonic clock, ns; `opens_utc_ns` ties it to the campaign's."""

    load_ns: int
    opens_ns: int
    closes_ns: int
    stops_ns: int
    opens_utc_ns: int


class EventTimer(Protocol):
    """Time as the device itself counts it (R11)."""

    def mark(self) -> object:
        """Put a mark behind what was launched so far."""

    def between_ns(self, first: object, last: object) -> int:
        """Return the device's own time between two marks that it has passed, ns."""


class SampleRow(NamedTuple):
    """One line of the samples: what was read when, relative to the opening of the core window."""

    device: str
    workload: str
    phase: str
    offset_ns: int
    quantity: str
    value: int | str


class Task(NamedTuple):
    """One workload on one device: its profile, its window, and the checks of its products."""

    device: str
    workload: Workload
    profile: Profile
    span: WindowSpan
    batch: int  # launches that are stamped together
    checks: Sequence[Check]


class Boundary(NamedTuple):
    """The end of one unit of launches: monotonic and UTC ns, and the device's mark."""

    at_ns: int
    utc_ns: int
    mark: object


class WindowResult(NamedTuple):
    """What one window gave: its figure, without the errors that the check on the host will find, and its samples."""

    figure: Figure
    throttle_reasons: tuple[str, ...]
    rows: list[SampleRow]
    last_set: int


def measure(
    prepared: Prepared,
    task: Task,
    clock: Clock,
    sampler: Sampler,
    timer: EventTimer | None = None,
    report: Report = silent,
) -> WindowResult:
    """Load a device from its ramp slot, or from before it, to the end of the guard, and measure in between.

    Args:
        prepared: operands on the device.
        task: what to measure, when, and what to verify.
        clock: this machine's clocks.
        sampler: telemetry of the device.
        timer: the device's own time, where it has one.
        report: called now and then with the phase, the rate in MFLOP/s, and what returns the rest so far.

    Raises:
        DeviceError: fewer than 30 units of launches were finished in the core window, or telemetry reports a fault.
    """
    loop = _Loop(prepared, task, clock, timer, sampler)
    sampler.start()
    try:
        loop.preheat(report)
        warm, steady = loop.warm_up(report)
        boundaries = loop.window(report)
        loop.guard()
    finally:
        sampler.stop()
    figure, reasons = _figure(loop, task, boundaries, sampler, steady)
    rows = [*warm, *_window_rows(task, boundaries, figure, sampler.samples)]
    return WindowResult(figure, reasons, rows, loop.last_set)


class _Loop:
    """The launches of one window, in units of `batch`: what is shorter than a stamp costs is stamped by the dozen."""

    def __init__(
        self, prepared: Prepared, task: Task, clock: Clock, timer: EventTimer | None, sampler: Sampler
    ) -> None:
        self.prepared = prepared
        self.task = task
        self.clock = clock
        self.timer = timer
        self.sampler = sampler
        self.next = 0  # number of the next launch: its operand set is that modulo the number of sets
        self.preheat_ns = 0
        self.verified = 0
        self.worst = Worst()
        self.boundaries: list[Boundary] = []  # of the window's units so far
        self.checking: list[tuple[int, int]] = []  # end of each check, monotonic ns, and how long it took
        problem = prepared.problem
        self.unit_sixths = launch_sixths(task.workload.choice, problem.m, problem.n, problem.k) * task.batch

    @property
    def last_set(self) -> int:
        """The operand set of the last launch."""
        return (self.next - 1) % self.prepared.operand_sets

    def rate(self, units: int, elapsed_ns: int) -> int:
        """Return MFLOP/s of so many units in so much time."""
        return units * self.unit_sixths * 1000 // (6 * max(1, elapsed_ns))

    def so_far(self) -> SoFar:
        """Return what the window has given so far: a few integers are copied, for the device waits meanwhile."""
        units, problem, choice = len(self.boundaries) - 1, self.prepared.problem, self.task.workload.choice
        each = units // SUBWINDOWS or units  # as R9 cuts the whole window; in one piece where that is too little
        cuts = self.boundaries[::each][: SUBWINDOWS + 1] if units > 0 else []
        parts_ns = tuple([b.at_ns - a.at_ns for a, b in pairwise(cuts)])
        work = work_mflop(choice, problem.m, problem.n, problem.k, each * len(parts_ns) * self.task.batch)
        worst = self.worst
        return SoFar(work, parts_ns, self.verified, worst.row_error_ppm, worst.rms_error_ppm, self.sampler.latest())

    def unit(self) -> None:
        """Launch one unit and wait for it.

        Raises:
            DeviceError: the sampler's thread has seen that the device is lost or faulty.
        """
        if self.sampler.fault is not None:
            raise self.sampler.fault
        self.prepared.launch(self.next, self.task.batch)
        self.prepared.synchronize()
        self.next += self.task.batch

    def preheat(self, report: Report) -> None:
        """Load until the device's ramp slot; where that has come already, not at all. It is no part of the warm-up."""
        # Devices that are ready early would stand idle and cool: what they load before their slot is recorded apart.
        begun = at = self.clock.monotonic_ns()
        while at < self.task.span.load_ns:
            self.unit()
            last, at = at, self.clock.monotonic_ns()
            report("preheat", self.rate(1, at - last), self.so_far)
        self.preheat_ns = at - begun

    def warm_up(self, report: Report) -> tuple[list[SampleRow], WarmupEnd]:
        """Load until the core window opens, whatever trends there are; return its samples and what had a trend."""
        task, now = self.task, self.clock.monotonic_ns
        profile, span = task.profile, task.span
        test = SteadyTest(profile.steady_state)
        rows: list[SampleRow] = []
        self.loaded_ns = last = at = now()
        units = 0
        while at < span.opens_ns + EDGE_NS:
            self.unit()
            units += 1
            at = now()
            # As often as telemetry is read: a rate for each clock and temperature that it is tested with (R6).
            if at - last >= profile.telemetry_interval_ns:
                rate, reading = self.rate(units, at - last), self.sampler.latest()
                test.add(rate, reading.clock_mhz, reading.temperature_c)
                rows.append(
                    SampleRow(task.device, str(task.workload), "warmup", at - span.opens_ns, "rate_mflop_s", rate)
                )
                report("warmup", rate, self.so_far)
                last, units = at, 0
        return rows, test.reason()

    def window(self, report: Report) -> list[Boundary]:
        """Launch until the core window has closed; return the boundaries of all units that lie within it."""
        task, clock, mark = self.task, self.clock, self.timer.mark if self.timer else lambda: None
        span, closes = task.span, task.span.closes_ns - EDGE_NS
        length = span.closes_ns - span.opens_ns
        # Reversed, so that the next check is the last item: popping it moves nothing in the timed loop.
        due = [(span.opens_ns + check.at_parts * length // 2**16, check) for check in reversed(task.checks)]
        boundaries = self.boundaries = [Boundary(*clock.pair_ns(), mark())]
        at = reported = boundaries[0].at_ns
        units = 0
        while at < closes:
            if due and due[-1][0] <= at:
                now_due: list[Check] = []
                while due and due[-1][0] <= at and len(now_due) < task.batch:
                    now_due.append(due.pop()[1])
                self.verified_unit(now_due)
            else:
                self.unit()
            device_mark = mark()
            at, utc = clock.pair_ns()
            boundaries.append(Boundary(at, utc, device_mark))
            units += 1
            if at - reported >= task.profile.telemetry_interval_ns:
                report("window", self.rate(units, at - reported), self.so_far)
                reported, units = at, 0
        if boundaries[-1].at_ns > closes:  # R8: only whole launches in the window count
            boundaries.pop()
        return boundaries

    def verified_unit(self, checks: Sequence[Check]) -> None:
        """Launch one unit of which some launches are verified: poisoned just before, checked just after."""
        prepared, sets = self.prepared, self.prepared.operand_sets
        for check in checks:
            self.next += (check.operand_set - self.next) % sets  # this set's turn; those between lose theirs
            prepared.poison(check.operand_set)  # a launch that writes nothing would leave an earlier, right product
            prepared.launch(self.next, 1)
            prepared.synchronize()
            begun = self.clock.monotonic_ns()
            self.worst.add(prepared.check(check.operand_set, check.seed))
            ended = self.clock.monotonic_ns()
            self.checking.append((ended, ended - begun))
            self.next += 1
        rest = self.task.batch - len(checks)
        if rest:
            prepared.launch(self.next, rest)
            prepared.synchronize()
            self.next += rest
        self.verified += len(checks)

    def guard(self) -> None:
        """Keep the load on until the end of the guard (R10).

        A neighbour may still be measuring by a clock that is behind, and its power must not rise with our rest.
        """
        while self.clock.monotonic_ns() < self.task.span.stops_ns:
            self.unit()


def _figure(
    loop: _Loop, task: Task, boundaries: list[Boundary], sampler: Sampler, steady: WarmupEnd
) -> tuple[Figure, tuple[str, ...]]:
    """Return a window's figure (R8, R9) and the reasons for throttling that telemetry gave.

    Raises:
        DeviceError: fewer units of launches were finished than there are sub-windows.
    """
    each = (len(boundaries) - 1) // SUBWINDOWS
    if each < 1:
        raise DeviceError(
            "device-failed",
            f"only {len(boundaries) - 1} units of launches were finished in the core window, {SUBWINDOWS} are needed",
            where=task.device,
        )
    # 30 equal sub-windows from the first unit on; the remainder at the end is not counted (R9).
    cuts = boundaries[: each * SUBWINDOWS + 1 : each]
    first, counted, last = boundaries[0], cuts[-1], boundaries[-1]
    times = [b.at_ns - a.at_ns for a, b in pairwise(cuts)]
    problem = loop.prepared.problem
    launches = each * SUBWINDOWS * task.batch
    work = work_mflop(task.workload.choice, problem.m, problem.n, problem.k, launches)
    bounds = throughput_bounds(work, times)
    watch = summary(sampler.samples, sampler.before, task.span.opens_ns, task.span.closes_ns)
    # The time of checks stays in the figure: a stack that checks slowly pays for it, and the duty says how much.
    checking = sum(elapsed for ended, elapsed in loop.checking if ended <= counted.at_ns)
    figure = Figure(
        device=task.device,
        launches=launches,
        subwindow_min_ns=min(times),
        subwindow_over_ns=tuple(x - min(times) for x in times),
        sustained_mflop_s=bounds.sustained_mflop_s,
        certified_mflop_s=bounds.certified_mflop_s,
        upper_mflop_s=bounds.upper_mflop_s,
        opened_ns=first.utc_ns - task.span.opens_utc_ns,
        counted_until_ns=counted.utc_ns - task.span.opens_utc_ns,
        covered_until_ns=last.utc_ns - task.span.opens_utc_ns,
        event_over_ns=loop.timer.between_ns(first.mark, counted.mark) - sum(times) if loop.timer else None,
        preheat_ns=loop.preheat_ns,
        first_launch_ns=None,
        threads=None,
        warmup_ns=first.at_ns - loop.loaded_ns,
        warmup_end=steady,
        duty_ppm=max(0, 10**6 - checking * 10**6 // sum(times)),
        verified_launches=loop.verified,
        row_error_ppm=loop.worst.row_error_ppm,
        rms_error_ppm=loop.worst.rms_error_ppm,
        **{k: v for k, v in watch._asdict().items() if k != "throttle_reasons"},
    )
    return figure, watch.throttle_reasons


READINGS = ("power_mw", "temperature_c", "clock_mhz", "utilisation_ppm", "ecc_uncorrected", "processes", "energy_mj")


def _window_rows(
    task: Task, boundaries: Sequence[Boundary], figure: Figure, samples: Sequence[Sample]
) -> list[SampleRow]:
    """Return the sub-window marks and the telemetry of one window as samples."""
    opens, workload = task.span.opens_ns, str(task.workload)
    rows, at = [], boundaries[0].at_ns
    for index, elapsed in enumerate(figure.subwindow_ns):
        at += elapsed
        rows.append(SampleRow(task.device, workload, "window", at - opens, f"subwindow_{index + 1:02d}_ns", elapsed))
    for sample in samples:
        phase = "warmup" if sample.at_ns < opens else "window" if sample.at_ns < task.span.closes_ns else "guard"
        reading = sample.reading
        values: dict[str, int | str | None] = {name: getattr(reading, name) for name in READINGS}
        if reading.throttled is not None:
            values["throttled"] = "+".join(reading.throttled) or "none"
        rows += [
            SampleRow(task.device, workload, phase, sample.at_ns - opens, name, value)
            for name, value in values.items()
            if value is not None
        ]
    return rows
