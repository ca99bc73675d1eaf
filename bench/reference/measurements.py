"""Reference measurements: what is measured next to a figure, so that it can be believed. They never count.

A cross-check, a second way to the same product, must agree with the figure, so it runs right after its window, while
the device is as warm as in it. A ceiling and a bandwidth say what the silicon and its memory give, clock for clock.
They are CUDA C of our own, which may break a context for good or hang: they run last, when all figures have been handed
over. Only facts are made here: what they are worth is judged in ``certify.judge.rules``.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec

from bench.clock import Clock
from bench.errors import explained, public_text
from bench.record import Precision, ReferenceFigure
from bench.record.plan import ReferenceRole, role_of
from bench.reference.checks import Worst, probe_seed
from bench.telemetry import Sampler

if TYPE_CHECKING:
    from kernels.base import Prepared, PreparedReference

CHECKED_SETS = 4  # of a cross-check: small shapes come in hundreds of sets, and the next window waits
UNIT_NS = 50_000_000  # launches that are waited for together take about this long


class ReferenceTask(NamedTuple):
    """One reference measurement of a workload: its kernel, prepared, or the reason why it is not."""

    kernel: str
    role: ReferenceRole
    precision: Precision
    prepared: Prepared | PreparedReference | None
    trouble: str | None


class ReferenceResult(msgspec.Struct, frozen=True):
    """One reference measurement as a worker hands it over: what its kernel gave on one device."""

    kernel: str
    role: ReferenceRole
    precision: Precision
    figure: ReferenceFigure


class _CrossCheck:
    """A second kernel's product, launched as a reference kernel is (`kernels.base.PreparedReference`)."""

    launch_bytes = 0

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._next = 0
        self.launch_flop = prepared.problem.flop
        self.synchronize = prepared.synchronize

    def launch(self, count: int) -> None:
        self._prepared.launch(self._next, count)
        self._next += count

    def errors(self, seed: int) -> Worst:
        """Launch some operand sets once more into poisoned outputs and return the worst errors (R5)."""
        worst = Worst()
        for operand_set in range(min(CHECKED_SETS, self._prepared.operand_sets)):
            self._prepared.poison(operand_set)
            self._prepared.launch(operand_set, 1)
            self._prepared.synchronize()
            worst.add(self._prepared.check(operand_set, seed))
        return worst


def cross_check_seed(challenge: str, device: str, precision: Precision, kernel: str) -> int:
    """Return the seed of a cross-check's probe vectors (R5)."""
    return probe_seed(challenge, device, f"{precision}/{kernel}/beside", 0)


def try_cross_check(prepared: Prepared, seed: int) -> None:
    """Launch and check some operand sets before any window: what that compiles or breaks must not come after one."""
    _CrossCheck(prepared).errors(seed)


def launch_once(task: ReferenceTask) -> None:
    """Launch a ceiling or a bandwidth once; an error will come again when it is measured, and is recorded then."""
    with suppress(Exception):
        prepared: Any = task.prepared
        prepared.launch(1)
        prepared.synchronize()


def lost_reference(kernel: str, precision: Precision, device: str, text: str) -> ReferenceResult:
    """Return what is recorded of a reference whose process was lost before it answered."""
    return ReferenceResult(kernel, role_of(kernel), precision, _trouble(device, text))


def measure_reference(
    task: ReferenceTask, device: str, challenge: str, clock: Clock, sampler: Sampler, ends_utc_ns: int
) -> ReferenceResult:
    """Launch one kernel until a time, back to back, then verify what it left; an error is recorded as its trouble.

    Args:
        task: the kernel.
        device: name of the device.
        challenge: of the campaign, for the seed of a cross-check's probes.
        clock: this machine's clocks.
        sampler: telemetry of the device, for the clock that it ran at.
        ends_utc_ns: when to stop, UTC ns.
    """
    seed = cross_check_seed(challenge, device, task.precision, task.kernel)
    figure = _trouble(device, task.trouble or "")
    if task.prepared is not None:
        sampler.start()
        try:
            figure = _run(task, device, seed, clock, sampler, ends_utc_ns)
        except Exception as error:  # a vendor's library raises what it likes; the figure stands all the same
            figure = _trouble(device, explained(error))
        finally:
            sampler.stop()
    return ReferenceResult(task.kernel, task.role, task.precision, figure)


def _run(
    task: ReferenceTask, device: str, seed: int, clock: Clock, sampler: Sampler, ends_utc_ns: int
) -> ReferenceFigure:
    prepared: Any = _CrossCheck(cast("Prepared", task.prepared)) if task.role == "path" else task.prepared
    monotonic, utc = clock.pair_ns()
    ends = ends_utc_ns + monotonic - utc
    # The first launch may compile or load, the second is timed for the size of a batch: the host must neither wait for
    # each short launch nor find out about the end of the slot only after seconds of queued ones.
    prepared.launch(1)
    prepared.synchronize()
    first = clock.monotonic_ns()
    prepared.launch(1)
    prepared.synchronize()
    begun = at = clock.monotonic_ns()
    batch = max(1, UNIT_NS // max(1, begun - first))
    launches, unit_ns = 0, batch * (begun - first)
    while at + unit_ns <= ends:  # a batch that would end after the slot is not begun: the next reference waits
        prepared.launch(batch)
        prepared.synchronize()
        launches += batch
        last, at = at, clock.monotonic_ns()
        unit_ns = at - last
    if not launches:
        return _trouble(device, "not one launch fits into its time")
    elapsed = at - begun
    clocks = [s.reading.clock_mhz for s in sampler.samples if s.at_ns >= begun and s.reading.clock_mhz is not None]
    worst = prepared.errors(seed) if task.role == "path" else None
    return ReferenceFigure(
        device=device,
        elapsed_ns=elapsed,
        rate_mflop_s=launches * prepared.launch_flop * 1000 // elapsed if prepared.launch_flop else None,
        rate_mb_s=launches * prepared.launch_bytes * 1000 // elapsed if prepared.launch_bytes else None,
        clock_mean_mhz=sum(clocks) // len(clocks) if clocks else None,
        row_error_ppm=worst.row_error_ppm if worst else None,
        rms_error_ppm=worst.rms_error_ppm if worst else None,
        exact=prepared.verify() if worst is None else None,
        trouble=None,
    )


def _trouble(device: str, text: str) -> ReferenceFigure:
    return ReferenceFigure(device, 0, None, None, None, None, None, None, public_text(text) or "unknown")
