"""From the rows of one device and workload to what they say: 30 times, telemetry, load. Pure.

Everything is made from the rows alone; nothing of the record is looked at.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

SECOND_NS = 10**9
IN_TIME = frozenset({"warmup", "window", "guard"})
MARK = re.compile(r"subwindow_[0-9]{2}_ns")
READINGS = frozenset(
    {"power_mw", "temperature_c", "clock_mhz", "utilisation_ppm", "ecc_uncorrected", "processes", "energy_mj"}
)
Series = Sequence[tuple[int, int]]  # offset ns from the opening of the core window, value


class Row(NamedTuple):
    """One line of the samples."""

    device: str
    workload: str
    phase: str
    offset_ns: int
    quantity: str
    value: str


def figures(content: bytes) -> Iterator[tuple[tuple[str, str], Iterator[Row]]]:
    """Yield ((device, workload), rows) of a sidecar, by the readers of the standard library."""
    lines = csv.reader(gzip.decompress(content).decode("ascii").splitlines()[1:])
    rows = (Row(a, b, phase, int(at), quantity, value) for a, b, phase, at, quantity, value in lines)
    yield from groupby(rows, key=lambda row: (row.device, row.workload))


class Mark(NamedTuple):
    """The end of a sub-window, ns after the opening of the core window, and how long it was."""

    name: str
    ends_ns: int
    elapsed_ns: int


class Watched(NamedTuple):
    """What the readings within the core window come to, under the names that a figure gives them."""

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


class Observed(NamedTuple):
    """One device in one workload, as its rows have it."""

    marks: tuple[Mark, ...]
    readings: Mapping[str, Series]  # by quantity, all phases
    throttled: Sequence[tuple[int, str]]
    warmup_rates: Series  # MFLOP/s

    @property
    def times_ns(self) -> tuple[int, ...]:
        """The 30 sub-window times."""
        return tuple(mark.elapsed_ns for mark in self.marks)

    def inside(self, quantity: str, length_ns: int) -> Series:
        """Return the readings of a quantity within a core window of that length."""
        return [(at, value) for at, value in self.readings.get(quantity, ()) if 0 <= at < length_ns]


def observe(rows: Iterable[Row]) -> Observed:
    """Return what the rows of one device and workload say."""
    marks: list[Mark] = []
    readings: dict[str, list[tuple[int, int]]] = {}
    throttled: list[tuple[int, str]] = []
    rates: list[tuple[int, int]] = []
    for row in rows:
        if row.phase not in IN_TIME:
            continue
        if row.quantity in READINGS:
            readings.setdefault(row.quantity, []).append((row.offset_ns, int(row.value)))
        elif row.quantity == "throttled":
            throttled.append((row.offset_ns, row.value))
        elif row.quantity == "rate_mflop_s" and row.phase == "warmup":
            rates.append((row.offset_ns, int(row.value)))
        elif MARK.fullmatch(row.quantity):
            marks.append(Mark(row.quantity, row.offset_ns, int(row.value)))
    return Observed(tuple(marks), {k: tuple(v) for k, v in readings.items()}, throttled, rates)


def watched(seen: Observed, length_ns: int) -> Watched:
    """Return what the readings within the core window come to (R13).

    Args:
        seen: the rows.
        length_ns: of the campaign's core window.
    """

    def values(quantity: str) -> list[int]:
        return [value for _, value in seen.inside(quantity, length_ns)]

    states = [text for at, text in seen.throttled if 0 <= at < length_ns]
    times = {at for series in seen.readings.values() for at, _ in series if 0 <= at < length_ns}
    times |= {at for at, _ in seen.throttled if 0 <= at < length_ns}
    clocks = values("clock_mhz")
    energy = seen.inside("energy_mj", length_ns)
    return Watched(
        samples=len(times),
        clock_samples=len(clocks),
        clock_gap_ns=_longest(seen.inside("clock_mhz", length_ns), length_ns),
        power_samples=len(values("power_mw")),
        power_gap_ns=_longest(seen.inside("power_mw", length_ns), length_ns),
        power_mean_mw=_mean(values("power_mw")),
        power_counter_mw=_slope(energy),
        temperature_max_c=max(values("temperature_c"), default=None),
        clock_mean_mhz=_mean(clocks),
        clock_max_mhz=max(clocks, default=None),
        throttled_ppm=sum(text != "none" for text in states) * 10**6 // len(states) if states else None,
    )


def _longest(readings: Series, length_ns: int) -> int | None:
    """Return the longest time without a reading, from the window's opening to its end; None without any."""
    last, longest = 0, None
    for at, _ in readings:
        longest, last = max(longest or 0, at - last), at
    return None if longest is None else max(longest, length_ns - last)


def _mean(values: Sequence[int]) -> int | None:
    return sum(values) // len(values) if values else None


def _slope(energy: Series) -> int | None:
    """Return the mean power by an energy counter in mJ, mW; None where it fell: it began anew."""
    if len(energy) < 2 or energy[-1][0] <= energy[0][0] or any(b[1] < a[1] for a, b in pairwise(energy)):
        return None
    return (energy[-1][1] - energy[0][1]) * SECOND_NS // (energy[-1][0] - energy[0][0])
