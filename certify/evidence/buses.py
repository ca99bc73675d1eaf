"""What collective benchmarks share: names of collectives, what the bus carries of each, the checks of a size."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from msgspec.structs import replace

from certify.documents.evidence import BusRun
from certify.evidence.numbers import Printed, scaled

# How much of the algorithm's bandwidth one device's link carries, as (factor, whether of (n-1)/n).
FACTORS = {
    "all-reduce": (2, True),
    "all-gather": (1, True),
    "reduce-scatter": (1, True),
    "all-to-all": (1, True),
    "gather": (1, True),
    "scatter": (1, True),
    "broadcast": (1, False),
    "reduce": (1, False),
    "send-receive": (1, False),
}
UNKNOWN = "unknown"
_WHOLE = ("all-reduce", "broadcast", "reduce", "send-receive")  # each rank's buffer is of the whole size
_VALUE_BYTES = 8  # of the largest type
_MOST_RANKS = 4096  # where their number is not known: of small sizes only little is checked then
_PROGRAMS = {  # the names of the programs of nccl-tests and hccl_test
    "all_reduce": "all-reduce",
    "all_gather": "all-gather",
    "reduce_scatter": "reduce-scatter",
    "alltoall": "all-to-all",
    "gather": "gather",
    "scatter": "scatter",
    "broadcast": "broadcast",
    "reduce": "reduce",
    "sendrecv": "send-receive",
}
_PROGRAM = re.compile(rf"\b({'|'.join(_PROGRAMS)})_(?:perf|test)(?:_mpi)?\b")


def named_collective(text: str) -> str | None:
    """Return the collective whose benchmark a line names, in a header or in the command that started it."""
    match = _PROGRAM.search(text)
    return _PROGRAMS[match[1]] if match else None


@dataclass(frozen=True, slots=True)
class RawBus:
    """One size as printed. None: not printed, or unreadable.

    Args:
        size: bytes.
        time: microseconds.
        algorithm: GB/s of 10^9 bytes.
        bus: the same.
        wrong: values that differ; None: not checked.
        is_rounded: whether a rate is of the size rounded up to one value a rank, while the size is printed as asked.
    """

    size: int
    time: Printed | None
    algorithm: Printed | None
    bus: Printed | None
    wrong: int | None
    in_place: bool | None = None
    has_failed: bool = False
    is_rounded: bool = False


def bus_factor(collective: str, ranks: int | None) -> Fraction | None:
    """Return bus bandwidth / algorithm bandwidth of a collective; None where it or the ranks are not known."""
    if collective not in FACTORS:
        return None
    factor, is_shared = FACTORS[collective]
    if not is_shared:
        return Fraction(factor)
    return Fraction(factor * (ranks - 1), ranks) if ranks and ranks > 1 else None


def bus_run(raw: RawBus, collective: str, ranks: int | None) -> BusRun:
    """Return a size as documents hold it, with the codes of what was checked."""
    factor = bus_factor(collective, ranks)
    algorithm = scaled(raw.algorithm.value, 1000) if raw.algorithm else None
    bus = scaled(raw.bus.value, 1000) if raw.bus else None
    if raw.bus is None and raw.algorithm is not None and factor is not None:
        bus = scaled(raw.algorithm.value * factor, 1000)  # hccl_test prints the algorithm's alone
    return BusRun(
        collective=collective,
        size_bytes=raw.size,
        ranks=ranks,
        elapsed_ns=(scaled(raw.time.value, 1000) or None) if raw.time else None,
        algorithm_mb_s=algorithm or 0,
        bus_mb_s=bus,
        wrong=raw.wrong,
        in_place=raw.in_place,
        codes=tuple(_checked(raw, collective, ranks)),
    )


def _checked(raw: RawBus, collective: str, ranks: int | None) -> Iterator[str]:
    time, algorithm, bus, factor = raw.time, raw.algorithm, raw.bus, bus_factor(collective, ranks)
    if time is None or algorithm is None or scaled(algorithm.value, 1000) is None or time.value <= 0:
        yield "bus-row-unreadable"
    elif collective in FACTORS:
        # bytes a microsecond are 10^6 byte/s, and a bandwidth is printed in 10^9
        least = raw.size / (time.high * 1000)
        parts = 1 if collective in _WHOLE else ranks or _MOST_RANKS
        largest = raw.size + _VALUE_BYTES * parts if raw.is_rounded else raw.size
        most = largest / (time.low * 1000) if time.low > 0 else None
        agrees = algorithm.meets(least, most)
        if bus is not None and factor is not None:
            agrees &= bus.meets(algorithm.low * factor, algorithm.high * factor)
        if not agrees:
            yield "bus-rate-differs"
    if collective not in FACTORS or (bus is not None and factor is None):
        yield "bus-factor-unknown"
    if raw.has_failed or (raw.wrong or 0) > 0:
        yield "bus-wrong-values"
    elif raw.wrong is None:
        yield "bus-not-checked"


def average_agrees(rows: Sequence[RawBus], average: Printed) -> bool:
    """Return whether a printed average bus bandwidth is that of the sizes above it."""
    buses = [row.bus for row in rows]
    known = [bus for bus in buses if bus is not None]
    if not known or len(known) < len(buses):
        return True
    low, high = (sum(ends, Fraction(0)) for ends in ([bus.low for bus in known], [bus.high for bus in known]))
    return average.meets(low / len(known), high / len(known))


def with_code(runs: Sequence[BusRun], code: str) -> list[BusRun]:
    """Return sizes with one code more."""
    return [replace(run, codes=tuple(dict.fromkeys((*run.codes, code)))) for run in runs]
