"""From the rows of one device and workload to its 30 times and its telemetry. Pure functions.

Everything is computed from the rows alone and nothing is read from the record, so that the two can contradict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from bench.record import SUBWINDOWS
from certify.samples.rows import MARK, THROTTLED, Integers, Rows
from certify.samples.summary import TelemetrySummary

SECOND_NS = 10**9
EXACT = 2**62  # a sum of so much is exact in 64 bits
READINGS = frozenset(
    {"power_mw", "temperature_c", "clock_mhz", "utilisation_ppm", "ecc_uncorrected", "processes", "energy_mj"}
)


class SubwindowEnd(NamedTuple):
    """The end of a sub-window, ns after the opening of the core window, and how long it was."""

    name: str
    ends_ns: int
    elapsed_ns: int


class Observed(NamedTuple):
    """One device in one workload as its rows show it. A series has rows (offset ns, value) in order of time."""

    marks: tuple[SubwindowEnd, ...]
    readings: Mapping[str, ArrayLike]  # by quantity, from the warm-up on
    throttled: ArrayLike  # (offset ns, index in `states`)
    states: tuple[str, ...]  # reasons of throttling, joined by "+", or "none"
    warmup_rates: ArrayLike  # MFLOP/s

    @property
    def times_ns(self) -> tuple[int, ...]:
        """The 30 sub-window times x_i, ns."""
        return tuple(mark.elapsed_ns for mark in self.marks)

    @property
    def opened_ns(self) -> int:
        """The time at which the first sub-window began, ns."""
        return self.marks[0].ends_ns - self.marks[0].elapsed_ns

    def whole(self, quantity: str) -> Integers:
        """Return all readings of a quantity, shape (n, 2)."""
        return series(self.readings.get(quantity, ()))

    def inside(self, quantity: str, length_ns: int) -> Integers:
        """Return the readings of a quantity within a core window of that length, shape (n, 2)."""
        return within(self.whole(quantity), length_ns)

    def gap(self) -> str | None:
        """Return what is wrong with the marks: each is named in turn and begins where the one before ends."""
        if [mark.name for mark in self.marks] != [f"subwindow_{i:02d}_ns" for i in range(1, SUBWINDOWS + 1)]:
            return f"there are {len(self.marks)} marks of sub-windows, or not in their order"
        for before, mark in pairwise(self.marks):
            if mark.ends_ns - mark.elapsed_ns != before.ends_ns:
                return f"{mark.name} does not begin where the one before it ends"
        return None


def series(pairs: ArrayLike) -> Integers:
    """Return (offset, value) pairs as an array of shape (n, 2)."""
    return np.asarray(pairs, np.int64).reshape(-1, 2)


def within(readings: Integers, length_ns: int) -> Integers:
    """Return the readings that lie within a core window of that length."""
    at = readings[:, 0]
    return readings[(at >= 0) & (at < length_ns)]


def observe(rows: Rows) -> Observed:
    """Return the marks and series in the rows of one device and workload."""
    marks = [
        SubwindowEnd(name, ends, elapsed)
        for name in rows.in_time
        if MARK.fullmatch(name)
        for ends, elapsed in rows.series(name).tolist()
    ]
    throttled = rows.series(THROTTLED)
    codes, states = np.unique(throttled[:, 1], return_inverse=True)
    return Observed(
        marks=tuple(sorted(marks, key=lambda mark: (mark.ends_ns, mark.name))),
        readings={name: rows.series(name) for name in READINGS & rows.in_time.keys()},
        throttled=np.stack((throttled[:, 0], states), axis=1),
        states=tuple(rows.text(value) for value in codes.tolist()),
        warmup_rates=rows.series("rate_mflop_s", "warmup"),
    )


def watched(seen: Observed, length_ns: int) -> TelemetrySummary:
    """Return the telemetry of a figure, computed from the readings within the core window (R13).

    Args:
        seen: the rows.
        length_ns: of the campaign's core window.
    """

    def values(quantity: str) -> Integers:
        return seen.inside(quantity, length_ns)[:, 1]

    states = within(series(seen.throttled), length_ns)
    occurring = Counter(states[:, 1].tolist())
    times = _times([within(series(pairs), length_ns)[:, 0] for pairs in seen.readings.values()] + [states[:, 0]])
    clock, power = seen.inside("clock_mhz", length_ns), seen.inside("power_mw", length_ns)
    processes = values("processes")
    # From the warm-up on: an error under load counts although the window had not opened. What follows it does not.
    errors = seen.whole("ecc_uncorrected")
    errors = errors[errors[:, 0] < length_ns][:, 1]
    reasons = [i for i in occurring if seen.states[i] != "none"]
    return TelemetrySummary(
        samples=len(times),
        clock_samples=len(clock),
        clock_gap_ns=_gap(clock[:, 0], length_ns),
        power_samples=len(power),
        power_gap_ns=_gap(power[:, 0], length_ns),
        power_mean_mw=_mean(power[:, 1]),
        power_counter_mw=_slope(seen.inside("energy_mj", length_ns)),
        temperature_max_c=_highest(values("temperature_c")),
        clock_mean_mhz=_mean(clock[:, 1]),
        clock_max_mhz=_highest(clock[:, 1]),
        throttled_ppm=sum(occurring[i] for i in reasons) * 10**6 // len(states) if len(states) else None,
        ecc_seen=_counted(errors),
        others_seen=max(0, int(processes.max()) - 1) if len(processes) else None,
        reasons=frozenset(reason for i in reasons for reason in seen.states[i].split("+")),
    )


def _times(stamps: Sequence[Integers]) -> Integers:
    """Return the times of all readings, each once and in order: those of one look at a device share theirs."""
    longest = max(stamps, key=len)
    if all(np.array_equal(longest, one) for one in stamps if len(one)) and (np.diff(longest) > 0).all():
        return longest
    return np.unique(np.concatenate(stamps))


def _gap(times_ns: Integers, length_ns: int) -> int | None:
    """Return the longest time of a core window without a reading, ns; None without any."""
    return int(np.diff(times_ns, prepend=0, append=length_ns).max()) if len(times_ns) else None


def power_by_area_mw(power: Integers) -> int | None:
    """Return the mean power under the line through the readings (trapezoids), mW; None below two readings."""
    if len(power) < 2 or power[-1, 0] <= power[0, 0]:
        return None
    at, mw = power[:, 0], power[:, 1]
    steps, sums = np.diff(at), mw[1:] + mw[:-1]
    area = total(steps, sums)
    return area // (2 * int(at[-1] - at[0]))


def total(values: Integers, weights: Integers | None = None) -> int:
    """Return a sum, or a sum of products, exactly, whatever the size of its terms."""
    if not len(values):
        return 0
    # numpy wraps silently at 2^63, and a forger may choose the terms: the bound decides before anything is added.
    most = int(np.abs(values).max()) * (1 if weights is None else int(np.abs(weights).max()))
    if most * len(values) < EXACT:
        return int(values.sum() if weights is None else (values * weights).sum())
    if weights is None:
        return sum(values.tolist())
    return sum(a * b for a, b in zip(values.tolist(), weights.tolist(), strict=True))


def _mean(values: Integers) -> int | None:
    return total(values) // len(values) if len(values) else None


def _highest(values: Integers) -> int | None:
    return int(values.max()) if len(values) else None


def _counted(counter: Integers) -> int | None:
    """Return how far a counter rose, None without a reading; where it fell it began anew, and all it shows is new."""
    if not len(counter):
        return None
    # A driver that is loaded again starts its counter at 0.
    rises = np.diff(counter)
    return total(np.where(rises >= 0, rises, counter[1:]))


def _slope(energy: Integers) -> int | None:
    """Return the mean power by an energy counter in mJ, mW; None where it fell: it began anew."""
    if len(energy) < 2 or energy[-1, 0] <= energy[0, 0] or (np.diff(energy[:, 1]) < 0).any():
        return None
    first, last = energy[0].tolist(), energy[-1].tolist()
    return int((last[1] - first[1]) * SECOND_NS // (last[0] - first[0]))
