"""One device from its first trial to its figures: what a worker process does, and a test does in its own process.

No process, pipe or file in here. An error in one precision is the caller's to record: the next one can be measured all
the same.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from bench.clock import Clock, sleep_until_utc
from bench.devices.base import OpenDevice
from bench.engine.compute import Compute, DeviceRequest, failure_of
from bench.engine.measure import SampleRow, Task, WindowResult, WindowSpan, measure
from bench.engine.progress import Report, silent
from bench.engine.schedule import UtcWindow
from bench.errors import DeviceError
from bench.profile import MOST_SETS, Trial, batch_of, choose_fixed, choose_tuned, longest_launch_ns, needed_bytes
from bench.record import Choice, Figure, Precision, Profile, Shape, Workload
from bench.record.node import Method
from bench.record.plan import ROLES, ReferenceRole, role_of
from bench.reference.checks import Worst, draw_checks, final_seed, probe_seed
from bench.reference.measurements import (
    ReferenceResult,
    ReferenceTask,
    cross_check_seed,
    launch_once,
    measure_reference,
    try_cross_check,
)
from bench.telemetry import ReadingSource, Sampler, Stream, read
from bench.trials import Trials, is_out_of_memory, timed_launch

if TYPE_CHECKING:
    from kernels.base import Prepared


class WorkloadFacts(msgspec.Struct, frozen=True):
    """The problem that was measured, and how: devices that agree in all of it share one `Measurement` of the record."""

    kernel: str
    precision: Precision
    choice: Choice
    accumulate: Precision
    method: Method
    m: int
    n: int
    k: int
    operand_sets: int
    operand_bytes: int

    @property
    def workload(self) -> Workload:
        """The precision, and the choice of its shape."""
        return Workload(self.precision, self.choice)


class PreparedWorkload(NamedTuple):
    """A workload whose operands are on the device, and how many of its launches are stamped together."""

    facts: WorkloadFacts
    batch: int
    prepared: Prepared


class Result(NamedTuple):
    """The figure of a finished workload, as a worker hands it over."""

    facts: WorkloadFacts
    figure: Figure
    throttle_reasons: tuple[str, ...]


class Session:
    """The measurement of one device.

    Args:
        request: what to measure, on which device.
        opened: the device, opened by this process.
        clock: this machine's clocks.
        stream: the device's readings, where the node's reader takes them; None where this process does.
    """

    def __init__(self, request: DeviceRequest, opened: OpenDevice, clock: Clock, stream: Stream | None = None) -> None:
        self._name, self._kind = request.name, request.kind
        self._place = f"{request.node_id}/{request.name}"
        self._opened = opened
        self._profile = request.profile
        self._challenge = request.challenge
        self._clock = clock
        self._source: ReadingSource | Stream
        # Read before a context of this process is on the device: whoever is there now is a foreign process (R13).
        if stream is None:
            self._source = opened.source()
            self._before = read(self._source)
        else:
            self._source, self._before = stream, stream.before()
        self.compute = Compute(request, opened)
        self._fixed_trials: dict[Workload, Trial] = {}
        self._first_launch_ns: dict[tuple[Workload, Shape], int] = {}
        self._memory_shares: dict[Workload, int | None] = {}  # of the device's memory, bytes
        self._ready: dict[Workload, PreparedWorkload] = {}
        self._measured: dict[Workload, WindowResult] = {}
        self._reference_tasks: dict[Workload, list[ReferenceTask]] = {}
        self.references: list[ReferenceResult] = []
        self.rows: list[SampleRow] = []
        self.remarks: list[str] = []

    def prepare(self, workload: Workload, shared_by: int = 1) -> WorkloadFacts:
        """Choose a shape by trial (R4), put the operands on the device (R3) and compute the checks' references.

        Args:
            workload: to prepare.
            shared_by: how many workloads, this one among them, have still to find room in the device's memory.

        Raises:
            DeviceError: the device is in use, the precision is not supported, or no shape fits.
        """
        if self._profile.busy == "refuse" and self._before is not None and self._before.processes:
            raise DeviceError(
                "device-busy", f"{self._before.processes} other process(es) have a context on it", where=self._name
            )
        if (reason := self.compute.unsupported(workload)) is not None:
            raise DeviceError("unsupported-precision", reason, where=self._name)
        # All workloads stay on the device until their windows, and each reference takes a part of the memory too.
        names = self._profile.references_of(self._kind, workload)
        memory = self._opened.memory_bytes()
        share = None if memory is None else memory // (shared_by + len(names))
        self._memory_shares[workload] = share
        chosen, prepared = self._choose(self._profile, workload, share)
        return self._make_ready(workload, chosen, prepared)

    def settle(self, workload: Workload, shape: Shape) -> WorkloadFacts:
        """Prepare a workload anew, in the shape that its campaign settled for all devices of this model (R4).

        Raises:
            DeviceError: `shape-not-settled`: it does not fit into the memory, or one launch takes too long.
        """
        # Both sets of operands together need not fit: the earlier ones go first.
        self._ready.pop(workload).prepared.close()
        for task in self._reference_tasks.pop(workload):
            if task.prepared is not None:
                task.prepared.close()
        self.rows = [row for row in self.rows if (row.workload, row.phase) != (str(workload), "prepare")]
        only = msgspec.structs.replace(self._profile, shapes={workload.precision: (shape,)})
        try:
            chosen, prepared = self._choose(only, workload, self._memory_shares[workload])
        except DeviceError as error:
            if error.code not in ("no-shape", "out-of-memory"):
                raise
            text = f"only {shape.m} x {shape.n} x {shape.k} is settled for its model: {error.what}"
            raise DeviceError("shape-not-settled", text, where=self._name) from None
        return self._make_ready(workload, chosen, prepared)

    def _make_ready(self, workload: Workload, chosen: Trial, prepared: Prepared) -> WorkloadFacts:
        """Compute the checks' references, and prepare the reference measurements of the workload."""
        # With the checks' references computed now, a check in the window costs one pass over the output (R5).
        for operand_set in range(prepared.operand_sets):
            self._first_launch(workload, chosen.shape, timed_launch(prepared, self._clock, operand_set))
            prepared.check(operand_set, probe_seed(self._challenge, self._place, str(workload), operand_set))
        for operand, digest in prepared.operand_sha256.items():
            self._row(workload, "prepare", f"operand_{operand}_sha256", digest)
        facts = WorkloadFacts(
            **asdict(prepared.problem),
            choice=workload.choice,
            accumulate=prepared.accumulate,
            method=prepared.method,
            operand_sets=prepared.operand_sets,
            operand_bytes=prepared.operand_bytes,
        )
        assert chosen.launch_ns is not None
        self._ready[workload] = PreparedWorkload(facts, batch_of(self._profile, chosen.launch_ns), prepared)
        names = self._profile.references_of(self._kind, workload)
        self._reference_tasks[workload] = [self._reference_task(name, workload, chosen.shape) for name in names]
        self.remarks += [remark for remark in self.compute.settle_threads() if remark not in self.remarks]
        return facts

    def measure(self, workload: Workload, window: UtcWindow, report: Report = silent) -> None:
        """Wait for the device's ramp slot and measure one workload in its window.

        Args:
            workload: that is prepared.
            window: as this device sees it.
            report: called now and then with the phase, the rate in MFLOP/s, and what returns the rest so far.

        Raises:
            DeviceError: too few launches were finished in the window, or telemetry reports a fault.
        """
        facts, batch, prepared = self._ready[workload]
        profile = self._profile
        checks = draw_checks(self._challenge, self._place, str(workload), facts.operand_sets, profile.verified_launches)
        sampler = self._sampler()
        # UTC decides when to begin, since all nodes share it.
        begins_ns = window.load_ns if window.preheats_ns is None else window.preheats_ns
        sleep_until_utc(self._clock, begins_ns)
        # From here on only the monotonic clock decides: a step of UTC during the window would move its end.
        monotonic, utc = self._clock.pair_ns()
        apart = monotonic - utc
        span = WindowSpan(
            load_ns=window.load_ns + apart,
            opens_ns=window.opens_ns + apart,
            closes_ns=window.closes_ns + apart,
            stops_ns=window.stops_ns + apart,
            opens_utc_ns=window.opens_ns,
        )
        self._opened.begin(workload.precision, span.opens_ns)
        task = Task(self._name, workload, profile, span, batch, checks)
        self._measured[workload] = measure(prepared, task, self._clock, sampler, self._opened.timer(), report)

    def launch_references(self, workload: Workload, roles: Collection[ReferenceRole]) -> None:
        """Launch a workload's references once: a first launch loads or compiles, and has no part in their time."""
        for task in self._reference_tasks[workload]:
            if task.role in roles:
                launch_once(task)

    def measure_references(
        self,
        workload: Workload,
        window: UtcWindow,
        report: Report = silent,
        roles: Collection[ReferenceRole] = ROLES,
    ) -> None:
        """Measure a workload's references, one after another from the end of a window's guard on.

        Args:
            workload: that was measured.
            window: after which they begin.
            report: called before each with its kernel's name.
            roles: those to measure now.
        """
        for slot, task in enumerate(t for t in self._reference_tasks[workload] if t.role in roles):
            ends_utc_ns = window.stops_ns + (slot + 1) * self._profile.companion_ns
            report(task.kernel, 0)
            result = measure_reference(task, self._name, self._challenge, self._clock, self._sampler(), ends_utc_ns)
            self.references.append(result)

    def conclude(self, workload: Workload) -> Result:
        """Check the last output on the host (R5), after all windows, and return the figure."""
        facts, _, prepared = self._ready[workload]
        measured = self._measured[workload]
        # The checks of the window ran on the device that they check: the host has arithmetic and operands of its own.
        worst = Worst()
        worst.row_error_ppm, worst.rms_error_ppm = measured.figure.row_error_ppm, measured.figure.rms_error_ppm
        worst.add(prepared.check_on_host(measured.last_set, final_seed(self._challenge, self._place, str(workload))))
        self.rows += measured.rows
        figure = measured.figure._replace(
            row_error_ppm=worst.row_error_ppm,
            rms_error_ppm=worst.rms_error_ppm,
            threads=self.compute.threads(),
            first_launch_ns=self._first_launch_ns[workload.launched, Shape(m=facts.m, n=facts.n, k=facts.k)],
        )
        return Result(facts, figure, measured.throttle_reasons)

    def products_of(self, workload: Workload) -> tuple[Prepared, int]:
        """Return a measured workload's operands, and how long one launch took, ns; those of the others are freed.

        For what follows the figures (`bench.collective`), which needs room in the device's memory too.
        """
        for other, ready in self._ready.items():
            if other != workload:
                ready.prepared.close()
        figure = self._measured[workload].figure
        return self._ready[workload].prepared, (figure.counted_until_ns - figure.opened_ns) // figure.launches

    @property
    def target(self) -> str:
        """What the device's kernel computes on, such as "cuda:0"."""
        return self._opened.target

    def contributes_wrongly(self) -> bool:
        """Return whether the device is scripted to contribute wrong numbers to sums at present."""
        scripted = getattr(self._opened, "contributes_wrongly", None)
        return scripted is not None and bool(scripted())

    def _choose(self, profile: Profile, workload: Workload, memory_bytes: int | None) -> tuple[Trial, Prepared]:
        """Return the chosen shape with operands in place: as many sets as R3 asks for.

        Args:
            profile: with the shapes that may be chosen.
            workload: to choose for.
            memory_bytes: of the device that the operands may take; None where it is not known.
        """
        least = self.compute.least_operand_bytes
        while True:
            trials = Trials(
                lambda shape: self.compute.prepare_trial(shape, workload), self._clock, longest_launch_ns(profile)
            )
            chosen = self._chosen_by_trial(profile, workload, memory_bytes, trials)
            self._note_trials(workload, trials)
            try:
                return chosen, self.compute.prepare(chosen.shape, workload)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            # All its operand sets together did not fit: as if the device had less memory, without this shape.
            self._too_large(workload, chosen.shape)
            memory_bytes = needed_bytes(chosen.shape, workload, least) - 1

    def _chosen_by_trial(self, profile: Profile, workload: Workload, memory_bytes: int | None, trials: Trials) -> Trial:
        """Return the shape of a workload; that of a tuned one is sought from the fixed one's on (R4)."""
        model = self.compute.model
        least, most_sets = self.compute.least_operand_bytes, None if model.kind == "cpu" else MOST_SETS
        fixed = self._fixed_trials.get(workload.launched) if workload.choice == "tuned" else None
        if fixed is None:
            fixed = choose_fixed(profile, workload, least, memory_bytes, trials, model.units, most_sets)
        if workload.choice == "tuned":
            return choose_tuned(profile, workload, least, memory_bytes, trials, fixed, trials.longer, most_sets)
        self._fixed_trials[workload.launched] = fixed
        return fixed

    def _note_trials(self, workload: Workload, trials: Trials) -> None:
        """Put what the trials gave among the samples: an auditor chooses again from it."""
        for shape, first_ns in trials.first_launch_ns.items():
            self._row(workload, "trial", f"first_launch_{shape.m}x{shape.n}x{shape.k}_ns", first_ns)
            self._first_launch(workload, shape, first_ns)
        for shape, launch_ns in trials.times.items():
            name = f"launch_{shape.m}x{shape.n}x{shape.k}_ns"
            self._row(workload, "trial", name, "out-of-memory" if launch_ns is None else launch_ns)
            if launch_ns is None:
                self._too_large(workload, shape)

    def _reference_task(self, name: str, workload: Workload, shape: Shape) -> ReferenceTask:
        """Return a reference measurement of a workload, prepared, or with the reason why it cannot be."""
        from kernels.base import load_reference

        role, precision, target = role_of(name), workload.precision, self._opened.target
        try:
            if role != "path":
                reference = load_reference(name)
                if (reason := reference.supports(precision, target)) is not None:
                    return ReferenceTask(name, role, precision, None, reason)
                seed = probe_seed(self._challenge, self._name, f"{workload}/{name}", 0)
                return ReferenceTask(name, role, precision, reference.prepare(precision, target, seed), None)
            kernel = self.compute.kernel_named(name)
            if (reason := kernel.supports(precision, target)) is not None:
                return ReferenceTask(name, role, precision, None, reason)
            prepared = self.compute.prepare_cross_check(kernel, shape, workload)
            try_cross_check(prepared, cross_check_seed(self._challenge, self._name, precision, name))
            return ReferenceTask(name, role, precision, prepared, None)
        except Exception as error:  # what fails here is the reference's trouble; the figure is measured all the same
            return ReferenceTask(name, role, precision, None, failure_of(error)[1])

    def _first_launch(self, workload: Workload, shape: Shape, elapsed_ns: int) -> None:
        """Take note of the first launch of a shape, or of an operand set of it: the longest is recorded."""
        # Without `units`: a shape that is registered twice, for other numbers of units, loads the same kernel.
        key = workload.launched, Shape(m=shape.m, n=shape.n, k=shape.k)
        self._first_launch_ns[key] = max(elapsed_ns, self._first_launch_ns.get(key, 0))

    def _sampler(self) -> Sampler:
        return Sampler(self._source, self._clock, self._profile.telemetry_interval_ns, self._before)

    def _too_large(self, workload: Workload, shape: Shape) -> None:
        self.remarks.append(f"{workload}: {shape.m} x {shape.n} x {shape.k} does not fit into the memory")

    def _row(self, workload: Workload, phase: str, quantity: str, value: int | str) -> None:
        self.rows.append(SampleRow(self._name, str(workload), phase, 0, quantity, value))
