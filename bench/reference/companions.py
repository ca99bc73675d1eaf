"""What is measured beside a figure; it never counts.

A second path to the same product must agree with the figure, so it runs right after its window, while the device is as
warm as in it. A ceiling and a bandwidth say what the silicon and its memory give, clock for clock; they are CUDA C of
our own, which may break a context for good or hang: they run last, when all figures have been handed over. Facts only:
what they are worth is judged in ``certify.judge.rules``.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec

from bench.clock import Clock
from bench.engine.measure import Worst
from bench.errors import explained, public_text
from bench.record import CompanionFigure, Precision
from bench.record.plan import CompanionRole, role_of
from bench.reference.checks import probe_seed
from bench.telemetry import Sampler

if TYPE_CHECKING:
    from kernels.base import Prepared, PreparedCompanion

CHECKED_SETS = 4  # of a path: small shapes come in hundreds of sets, and the next window waits
UNIT_NS = 50_000_000  # launches that are waited for together take about this long


class Stand(NamedTuple):
    """One kernel beside a workload: prepared, or the reason why it is not."""

    kernel: str
    role: CompanionRole
    precision: Precision
    prepared: Prepared | PreparedCompanion | None
    trouble: str | None


class Beside(msgspec.Struct, frozen=True):
    """What one kernel gave on one device."""

    kernel: str
    role: CompanionRole
    precision: Precision
    figure: CompanionFigure


class _Path:
    """A second kernel's product, launched like a companion."""

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


def seed_beside(challenge: str, device: str, precision: Precision, kernel: str) -> int:
    """Return the seed of the probes of a path."""
    return probe_seed(challenge, device, f"{precision}/{kernel}/beside", 0)


def try_path(prepared: Prepared, seed: int) -> None:
    """Launch and check some operand sets: what that compiles, or breaks, shall not wait until after a window."""
    _Path(prepared).errors(seed)


def first_launch(stand: Stand) -> None:
    """Launch a ceiling or a bandwidth once; an error will come again when it is measured, and is recorded then."""
    with suppress(Exception):
        prepared: Any = stand.prepared
        prepared.launch(1)
        prepared.synchronize()


def absent(kernel: str, precision: Precision, device: str, text: str) -> Beside:
    """Return what is recorded of a companion that never answered."""
    return Beside(kernel, role_of(kernel), precision, _trouble(device, text))


def run_beside(stand: Stand, device: str, challenge: str, clock: Clock, sampler: Sampler, ends_utc_ns: int) -> Beside:
    """Launch one kernel until a time, back to back, then verify what it left; an error is its trouble, nobody else's.

    Args:
        stand: the kernel.
        device: name of the device.
        challenge: of the campaign, for the seed of a path's probes.
        clock: this machine's clocks.
        sampler: telemetry of the device, for the clock that it ran at.
        ends_utc_ns: when to stop, UTC ns.
    """
    seed = seed_beside(challenge, device, stand.precision, stand.kernel)
    figure = _trouble(device, stand.trouble or "")
    if stand.prepared is not None:
        sampler.start()
        try:
            figure = _run(stand, device, seed, clock, sampler, ends_utc_ns)
        except Exception as error:
            figure = _trouble(device, explained(error))
        finally:
            sampler.stop()
    return Beside(stand.kernel, stand.role, stand.precision, figure)


def _run(stand: Stand, device: str, seed: int, clock: Clock, sampler: Sampler, ends_utc_ns: int) -> CompanionFigure:
    prepared: Any = _Path(cast("Prepared", stand.prepared)) if stand.role == "path" else stand.prepared
    monotonic, utc = clock.pair_ns()
    ends = ends_utc_ns + monotonic - utc
    prepared.launch(1)  # the first may compile or load
    prepared.synchronize()
    first = clock.monotonic_ns()
    prepared.launch(1)
    prepared.synchronize()
    begun = at = clock.monotonic_ns()
    batch = max(1, UNIT_NS // max(1, begun - first))
    launches, unit_ns = 0, batch * (begun - first)
    while at + unit_ns <= ends:
        prepared.launch(batch)
        prepared.synchronize()
        launches += batch
        last, at = at, clock.monotonic_ns()
        unit_ns = at - last
    if not launches:
        return _trouble(device, "not one launch fits into its time")
    elapsed = at - begun
    clocks = [s.reading.clock_mhz for s in sampler.samples if s.at_ns >= begun and s.reading.clock_mhz is not None]
    worst = prepared.errors(seed) if stand.role == "path" else None
    return CompanionFigure(
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


def _trouble(device: str, text: str) -> CompanionFigure:
    return CompanionFigure(device, 0, None, None, None, None, None, None, public_text(text) or "unknown")
