"""What is checked of a run of HPL: its numbers against one another, its residual against 16, its times.

Every check compares ranges of printed numbers, never with a tolerance in per cent: that would refuse honest short runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Protocol

from bench.units import SECOND_NS, launch_sixths, utc_text
from certify.documents.evidence import SolveRun
from certify.evidence.linpack import PrintedBlock, RawRun
from certify.evidence.numbers import Printed, printed, scaled
from certify.evidence.output import ReaderOptions

PASSES_BELOW = 16  # of the scaled residual, whatever threshold the operator chose
EPS = Fraction(1, 2**53)  # of FP64, as every HPL takes it
CAN_EMULATE = (25, 4)  # HPL-NVIDIA computes FP64 by emulation since then, and no line says whether it did
_TIME_HALF = Fraction(5, 1000)  # the table prints hundredths of a second
_FIVE_DIGITS = Fraction(1, 10**5)  # to which a residual is made anew from its norms
_LEAST_DIGITS = 4  # of a rate: no tool prints fewer
_GIGA = 10**9


class PrintedResidual(Protocol):
    """The residual of a run with what stands around it. None: not printed, or cut off."""

    residual: str | None
    verdict: str | None
    norms: dict[str, Printed]


def work(n: int) -> Fraction:
    """Return the floating-point operations that HPL counts for a system of order `n`."""
    return Fraction(launch_sixths("solve", n, n, n), 6)


def solve_run(run: RawRun, block: PrintedBlock, options: ReaderOptions) -> SolveRun:
    """Return a run as documents hold it, with the codes of what was checked."""
    time = run.exact_time or run.time
    start, end = _utc_ns(run, options)
    codes = [*run.codes, *_checked(run, block)]
    if start is None or end is None:
        codes.append("solve-times-unknown")
    rate = scaled(run.rate.value, 1000) if run.rate else None
    residual = printed(run.residual) if run.residual else None
    return SolveRun(
        n=run.n,
        nb=run.nb,
        p=run.p,
        q=run.q,
        elapsed_ms=scaled(time.value + Fraction(1, 2000), 1000) or None if time else None,
        rate_mflop_s=rate or 0,
        residual_ppm=scaled(residual.value, 10**6) if residual else None,
        started_at=None if start is None else utc_text(start),
        ended_at=None if end is None else utc_text(end),
        codes=tuple(dict.fromkeys(codes)),
    )


def _checked(run: RawRun, block: PrintedBlock) -> Iterator[str]:
    if run.is_damaged or _is_impossible(run):
        yield "hpl-row-unreadable"
    else:
        yield from _rate_codes(run)
        if any(block.parameters.get(name, {value}).isdisjoint({value}) for name, value in _shape(run).items()):
            yield "hpl-parameters-differ"
    yield from _residual_codes(run, block)
    if run.has_odd_time or not _times_agree(run):
        yield "hpl-times-differ"
    if not block.is_mixed and can_emulate(block):
        yield "emulation-not-excluded"


def can_emulate(block: PrintedBlock) -> bool:
    """Return whether the tool may have computed FP64 by emulation: one that can, or whose version is not printed."""
    if block.is_nvidia:
        return not block.version or block.version >= CAN_EMULATE
    return block.is_per_device or not block.has_header


def _shape(run: RawRun) -> dict[str, int | None]:
    return {"N": run.n, "NB": run.nb, "P": run.p, "Q": run.q}


def _is_impossible(run: RawRun) -> bool:
    """Whether a number of the row is none that a tool prints: below 0, or with too few digits to be checked."""
    rate, time = run.rate, run.time
    if rate is None or time is None or scaled(rate.value, 1000) is None or scaled(time.value, 1000) is None:
        return True
    return rate.value <= 0 or rate.digits < _LEAST_DIGITS


def _rate_codes(run: RawRun) -> Iterator[str]:
    """Compare rate, time and order of one row, and the rates that are printed twice."""
    if run.rate is None or run.time is None or run.n is None:
        return
    shortest, longest = run.time.value - _TIME_HALF, run.time.value + _TIME_HALF
    if run.exact_time:  # an exact time narrows that of the row, and one of few digits does not widen it
        shortest, longest = max(shortest, run.exact_time.low), min(longest, run.exact_time.high)
    least = work(run.n) / (longest * _GIGA)
    most = work(run.n) / (shortest * _GIGA) if shortest > 0 else None
    if most is None:
        yield "hpl-time-too-short"
    ranks = (run.p or 1) * (run.q or 1)
    agrees = (
        run.rate.meets(least, most),
        run.score is None or run.score.meets(run.rate.low, run.rate.high),
        run.per_device is None or run.per_device.meets(run.rate.low / ranks, run.rate.high / ranks),
    )
    if not all(agrees):
        yield "hpl-rate-differs"


def _residual_codes(run: RawRun, block: PrintedBlock) -> Iterator[str]:
    if block.is_unchecked:
        yield "hpl-check-skipped"
        return
    yield from residual_codes(run, EPS, run.n)
    if block.threshold is not None and block.threshold.value != PASSES_BELOW:
        yield "hpl-threshold-differs"


def residual_codes(run: PrintedResidual, eps: Fraction | None, n: int | None) -> Iterator[str]:
    """Yield what is wrong with a residual, the tool's verdict on it, and the norms that it was computed from.

    Args:
        run: as printed.
        eps: with which the tool scaled it; None: by one that is none of FP64.
        n: order of the system; None: unreadable.
    """
    residual = printed(run.residual) if run.residual else None
    if run.residual is None or run.verdict is None:
        yield "hpl-residual-missing"
    elif residual is None or residual.value < 0:
        yield "hpl-residual-not-a-number"
    else:
        if residual.value >= PASSES_BELOW:
            yield "hpl-residual-too-large"
        elif run.verdict == "failed":
            yield "hpl-failed"
        if eps is None or (n is not None and not residual_agrees(residual, run.norms, eps, n)):
            yield "hpl-residual-differs"


def residual_agrees(residual: Printed, norms: dict[str, Printed], eps: Fraction, n: int) -> bool:
    """Return whether a scaled residual is what its norms give, to five digits; true where not all are printed."""
    if not {"ax-b", "a", "x", "b"} <= norms.keys():
        return True
    error, a, x, b = (norms[name] for name in ("ax-b", "a", "x", "b"))
    low, high = a.low * x.low + b.low, a.high * x.high + b.high
    if low <= 0:
        return False
    least, most = error.low / (eps * high * n), error.high / (eps * low * n)
    return residual.meets(least * (1 - _FIVE_DIGITS), most * (1 + _FIVE_DIGITS))


def _times_agree(run: RawRun) -> bool:
    """Whether start and end, in whole seconds, are as far apart as the time that the run took."""
    time = run.exact_time or run.time
    if time is None:
        return True
    started, ended = run.epochs
    if started is not None and ended is not None and ended - started + 1 < time.low:
        return False
    if run.start is None or run.end is None:
        return True
    elapsed = run.end - run.start
    # both are cut to the second; what runs between the two clocks besides the solve is a barrier
    return elapsed >= 0 and elapsed + 1 >= time.low and elapsed - 2 <= time.high * Fraction(101, 100)


def _utc_ns(run: RawRun, options: ReaderOptions) -> tuple[int | None, int | None]:
    """Return start and end in UTC: HPCC prints seconds since the epoch around its section, HPL only local time."""
    if run.epochs != (None, None):
        started, ended = run.epochs
    elif options.utc_offset_minutes is not None:
        offset = options.utc_offset_minutes * 60
        started = None if run.start is None else run.start - offset
        ended = None if run.end is None else run.end - offset
    else:
        return None, None
    if started is None or ended is None:
        return None, None
    return started * SECOND_NS, ended * SECOND_NS


def lists_too_many(block: PrintedBlock) -> bool:
    """Return whether a block has more runs than the tool counted at its end, or more that passed."""
    passed = sum(run.verdict == "passed" for run in block.runs)
    has_more = not block.is_mixed and block.finished is not None and block.finished < len(block.runs)
    return has_more or (block.passed is not None and block.passed < passed)


def lists_too_few(block: PrintedBlock) -> bool:
    """Return whether the tool counted more runs at its end than a block has."""
    return block.finished is not None and block.finished > len(block.runs)


def mark_repeated(blocks: list[PrintedBlock]) -> None:
    """Mark each run that is printed a second time, as where a file was appended to itself: one run is one item."""
    seen = set()
    for run in (run for block in blocks for run in block.runs):
        norms = tuple(sorted(run.norms.items()))
        row = (run.variant, *_shape(run).values(), run.time, run.rate, run.residual, run.start, run.end, norms)
        if row in seen:
            run.codes.append("hpl-run-twice")
        seen.add(row)
