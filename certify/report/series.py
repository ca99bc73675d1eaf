"""What the samples of one device and workload show over time, thinned out to what a plot of some width can show.

Of each column of a plot the least and the highest value stay, so that no peak is lost; numbers are integers until they
are drawn. Pure functions of arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from certify.report.losses import Cause, cause_of
from certify.samples.observed import within
from certify.samples.rows import THROTTLED, Integers, Rows

PLOTTED = ("power_mw", "clock_mhz", "temperature_c")
COLUMNS = 180  # of a plot 360 px wide
LONG_GAP = 5  # usual intervals without a reading: the line is broken there
GAP = -(2**62)  # the value that stands for nothing in such a gap
MILLION = 10**6


class ThrottleSpan(NamedTuple):
    """A stretch of time in which a device reported reasons of throttling, ns from the opening of the core window."""

    from_ns: int
    until_ns: int
    cause: Cause


@dataclass(frozen=True)
class DeviceSeries:
    """One device in one workload over time; every series has rows (offset ns, value).

    Args:
        device, workload: whose.
        readings: of `PLOTTED`, thinned out; what the samples do not hold is not there.
        warmup_rates: MFLOP/s, each up to its time.
        throttled: stretches; None where the samples do not tell.
        utilisation_ppm: mean in the core window; None where it was not read.
        clock_causes: share of the clock's readings in the window under each cause, weighted by how far they are below
            the highest clock that was read, ppm of all of it; empty where nothing was below, or reasons are not told.
    """

    device: str
    workload: str
    readings: dict[str, Integers] = field(default_factory=dict)
    warmup_rates: Integers = field(default_factory=lambda: np.empty((0, 2), np.int64))
    throttled: tuple[ThrottleSpan, ...] | None = None
    utilisation_ppm: int | None = None
    clock_causes: dict[Cause, int] = field(default_factory=dict)


def device_series(rows: Rows, length_ns: int, ceiling_mhz: int | None, columns: int = COLUMNS) -> DeviceSeries:
    """Return what one device's rows show.

    Args:
        rows: of one device and workload.
        length_ns: of the core window.
        ceiling_mhz: the clock that its ceiling rests on; None where there is none.
        columns: of the plot that they are drawn in.
    """
    whole = {name: rows.series(name) for name in (*PLOTTED, "utilisation_ppm", THROTTLED)}
    busy = within(whole["utilisation_ppm"], length_ns)[:, 1]
    states = whole[THROTTLED]
    texts = {int(value): cause_of(rows.text(int(value))) for value in np.unique(states[:, 1])}
    return DeviceSeries(
        rows.device,
        rows.workload,
        {name: thinned(whole[name], columns) for name in PLOTTED if len(whole[name])},
        thinned(rows.series("rate_mflop_s", "warmup"), columns),
        tuple(_spans(states, texts, columns)) if len(states) else None,
        int(busy.mean()) if len(busy) else None,
        _causes(within(whole["clock_mhz"], length_ns), states, texts, ceiling_mhz),
    )


def thinned(series: Integers, columns: int = COLUMNS) -> Integers:
    """Return a series with at most two values for each column of its width, and `GAP` where nothing was read for long.

    Of a plateau its ends stay.
    """
    if len(series) <= 2:
        return series
    at, value = series[:, 0], series[:, 1]
    gaps = np.diff(at)
    breaks = np.flatnonzero(gaps > LONG_GAP * max(1, int(np.median(gaps)))) + 1
    places = np.arange(len(series))
    if len(series) > 2 * columns:
        column = _columns(at, columns)
        # In each column the first of the least and the last of the highest values, in order of time.
        order = np.lexsort((places, value, column))
        first = np.flatnonzero(np.diff(column[order], prepend=-1))
        last = np.append(first[1:], len(order)) - 1
        places = np.unique(np.concatenate((order[first], order[last], breaks, breaks - 1, [0, len(series) - 1])))
    at, value = at[places], value[places]
    behind = np.searchsorted(places, breaks)
    at, value = np.insert(at, behind, at[behind]), np.insert(value, behind, GAP)
    plateau = np.zeros(len(value), bool)
    plateau[1:-1] = (value[1:-1] == value[:-2]) & (value[1:-1] == value[2:])
    return np.stack((at, value), axis=1)[~plateau]


def _columns(at: Integers, columns: int) -> Integers:
    """Return the column of a plot that each time falls into."""
    column: Integers = (at - at[0]) * columns // max(1, int(at[-1] - at[0]) + 1)
    return column


def _spans(states: Integers, texts: dict[int, Cause], columns: int) -> Iterator[ThrottleSpan]:
    """Yield the stretches under one cause; each reading holds until the next, and a column of the plot has one cause.

    A device that throttles for moments does so thousands of times.
    """
    at = states[:, 0]
    until = np.append(at[1:], at[-1])
    column = _columns(at, 2 * columns)
    last: tuple[ThrottleSpan, int] | None = None  # and the place of its last reading
    for place in np.flatnonzero([texts[int(value)] != "unreported" for value in states[:, 1]]).tolist():
        cause = texts[int(states[place, 1])]
        if last is not None:
            apart = int(column[place] - column[last[1]])
            is_next = place == last[1] + 1 or apart <= 1
            if apart == 0 or (is_next and cause == last[0].cause):
                last = last[0]._replace(until_ns=int(until[place])), place
                continue
            yield last[0]
        last = ThrottleSpan(int(at[place]), int(until[place]), cause), place
    if last is not None:
        yield last[0]


def _causes(clock: Integers, states: Integers, texts: dict[int, Cause], ceiling_mhz: int | None) -> dict[Cause, int]:
    """Return how much of the clock's distance below a ceiling falls on each cause, ppm."""
    if not len(clock) or not len(states) or not ceiling_mhz:
        return {}
    below = np.maximum(0, ceiling_mhz - clock[:, 1])
    if not (whole := int(below.sum())):
        return {}
    place = np.clip(np.searchsorted(states[:, 0], clock[:, 0], side="right") - 1, 0, None)
    value = states[place, 1]
    causes: dict[Cause, int] = {}
    for code, cause in texts.items():
        causes[cause] = causes.get(cause, 0) + int(below[value == code].sum()) * MILLION // whole
    return {cause: ppm for cause, ppm in causes.items() if ppm}
