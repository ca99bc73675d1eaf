"""Telemetry and times that no honest device gives: pure functions of series, each with its limit and its argument.

A limit is chosen so that a fleet of 100,000 honest devices in four workloads gives fewer than one false alarm in a
thousand audits; docs/audit.md says what each is worth against a forger. Simulated devices are never looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import count
from math import gcd, log2, pi, sqrt
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.record import SUBWINDOWS
from certify.samples.observed import Observed, power_by_area_mw, series, total, within
from certify.samples.summary import FigureFingerprint, Fingerprint, Samples
from certify.samples.table import Integers

MIN_READINGS = 60  # below, a series says too little of itself
FINE_MW = 100  # a sensor of finer steps shows noise in any stretch; a coarser one is asked for noise in a whole window
SMOOTH_WHOLE_WATTS = 600  # a regulator at its cap may hold a whole watt for minutes, not for ten of them
WHOLE_WATT_MW = 1000
# Two stretches of readings that agree by chance: so improbable that the pairs of one window (2^18), or of all devices
# of all centres (2^40), do not make it happen. Bits are counted for changes of value only: a plateau proves nothing.
GRAM_BITS = 96.0
MIN_VALUES = 8  # a regulator may swing between a few values for ever; more of them are noise
GRAMS = (30, 60, 120)  # readings in a stretch; coarse sensors need long ones to be told apart
# Readings are compared as they are, and rounded to steps in which a copy that was changed by a milliwatt is alike for
# most: of a sensor that resolves milliwatts, tenths of a watt or watts. What a step says is bounded by the noise.
GRIDS_MW = (1, 16, 100, 1000)
SKETCH = 6  # stretches kept of one series and grid: those of the least hashes, which a shifted or cut copy has too
ROUND_NS = 1000  # a clock that ticks in microseconds is no clock for R9, and a person rounds to them
NEAR_NS = 2
NEAR_PPM = 1  # 30 times of two devices that all agree within a millionth: each does so by chance once in hundreds
SPREAD_NS = 1_000_000  # between the shortest and the longest of 30 times: of closer ones, coarse clocks give equal ones
SHARED_TIMES = 10  # of 30 that two devices share within 2 ns: one number in thousands does by chance
MOST_PAIRS = 20_000_000  # compared at the most, the closest first: copies stand among them
MIN_STAMPS = 10  # gaps; six of ten that are multiples of 1,000 ns by chance: 2 x 10^-16
MAX_AREA_DISAGREEMENT_PPM = 100_000  # as R12's limit for means: readings may be averages over a second
MIN_AREA_READINGS = 10
FLAT_PPM = 900_000  # power is flat where no reading, from the first on, is below this part of the window's mean
MIN_CLOCK_READINGS = 10  # in one sub-window: the highest of so many is not below the mean clock, but for 1 in 1,000
CLOCK_SLACK = (102, 100)  # as R12's: what is left after it is that a kernel gives 102 % of what the silicon issues
MAX_RATE_ABOVE_WARMUP = (3, 2)  # a window follows its warm-up, whose best stretch is cooler and no slower

Hashes = NDArray[np.uint64]
_MIX = 0x9E3779B97F4A7C15
_BASE = 0xD1342543DE82EF95  # odd: it has an inverse modulo 2^64


class Implausible(NamedTuple):
    """Something implausible: a reason code and what was seen."""

    code: str
    detail: str


class About(NamedTuple):
    """What is known of the device and its window besides the samples."""

    accelerator: bool
    length_ns: int  # of the core window
    first: bool  # the first workload of the campaign: the device was idle before
    work_mflop: int  # of all 30 sub-windows
    sustained_mflop_s: int
    flop_per_clock: int | None  # of the whole device, in the workload's precision; None where no silicon is certain
    counter_is_trusted: bool = True  # the vendor's energy counter is right on every release


def implausible(seen: Observed, about: About) -> list[Implausible]:
    """Return what is implausible in the samples of one device and workload."""
    found = [*rounded_times(seen.times_ns), *regular_stamps(_stamps(seen, about.length_ns))]
    whole = seen.whole("power_mw")
    power = within(whole, about.length_ns)
    found += repeated(power[:, 1])
    if about.counter_is_trusted:
        found += energy(power, seen.inside("energy_mj", about.length_ns))
    if about.accelerator:
        found += smooth(power[:, 1], int(np.gcd.reduce(whole[:, 1])) if len(whole) else 0)
        found += flat(whole, about.length_ns) if about.first else ()
        found += above_warmup(about.sustained_mflop_s, series(seen.warmup_rates)[:, 1])
        found += above_clock(seen, about)
    return found


def rounded_times(times_ns: Sequence[int]) -> list[Implausible]:
    """Sub-window times are read from a clock of nanoseconds: that all share a factor of 1,000 is no accident."""
    step = gcd(*times_ns) if times_ns else 0
    return [Implausible("subwindows-rounded", f"all 30 are multiples of {step:,} ns")] if step >= ROUND_NS else []


def regular_stamps(stamps_ns: ArrayLike) -> list[Implausible]:
    """A timer wakes a microsecond or more late, and never by the same: most gaps are neither equal nor round."""
    gaps = np.diff(np.asarray(stamps_ns, np.int64))
    if len(gaps) < MIN_STAMPS:
        return []
    values, counts = np.unique(gaps, return_counts=True)
    if 2 * int(counts.max()) > len(gaps):
        what = f"{int(counts.max())} of {len(gaps)} gaps are of exactly {int(values[counts.argmax()]):,} ns"
        return [Implausible("timestamps-regular", what)]
    round_gaps = int((np.mod(gaps, ROUND_NS) == 0).sum())
    what = f"{round_gaps} of {len(gaps)} gaps are multiples of {ROUND_NS:,} ns"
    return [Implausible("timestamps-regular", what)] if 2 * round_gaps > len(gaps) else []


def smooth(power_mw: ArrayLike, resolution_mw: int) -> list[Implausible]:
    """Power under load never stays the same, or on a straight line, for 60 readings, unless the sensor is too coarse.

    A sensor that resolves less than a watt shows the noise of its regulator, some tenths of a per cent of hundreds of
    watts. One of a tenth of a watt or coarser must hold still for the whole window, one of whole watts for 600 of them.

    Args:
        power_mw: readings within the window.
        resolution_mw: greatest common divisor of all readings of the device.
    """
    values = np.asarray(power_mw, np.int64)
    least = MIN_READINGS if resolution_mw % WHOLE_WATT_MW else SMOOTH_WHOLE_WATTS
    if resolution_mw >= FINE_MW:
        least = max(least, len(values))
    if len(values) < least:
        return []
    steps = np.diff(values)
    edges = np.flatnonzero(np.concatenate(([True], steps[1:] != steps[:-1], [True])))
    runs = np.diff(edges)  # of equal steps
    longest = int(runs.argmax())
    if (readings := int(runs[longest]) + 1) < least:
        return []
    how = "the same" if not steps[edges[longest]] else "on one straight line"
    return [Implausible("power-too-smooth", f"{readings} readings of power one after another are {how}")]


def repeated(power_mw: ArrayLike) -> list[Implausible]:
    """A stretch of noisy readings never comes twice in one window."""
    values = np.asarray(power_mw, np.int64)
    for _, length, places, hashes in _stretches(values):
        if not len(places):
            continue
        order = np.argsort(hashes, kind="stable")  # places ascend within one hash
        begins = np.flatnonzero(np.concatenate(([True], hashes[order][1:] != hashes[order][:-1])))[: len(hashes)]
        first, last = places[order[begins]], places[order[np.append(begins[1:], len(hashes)) - 1]]
        if len(apart := np.flatnonzero(last - first >= length)):
            begin, again = first[apart[0]] + 1, last[apart[0]] + 1
            what = f"{length} readings from number {begin} on stand again from number {again} on"
            return [Implausible("telemetry-repeated", what)]
    return []


def energy(power: Integers, counter: Integers) -> list[Implausible]:
    """The area under the power readings is what the energy counter counted over the same time, within 10 %."""
    if len(power) < MIN_AREA_READINGS or len(counter) < 2:
        return []
    first, last = max(power[0, 0], counter[0, 0]), min(power[-1, 0], counter[-1, 0])
    counted = counter[(counter[:, 0] >= first) & (counter[:, 0] <= last)]
    area = power_by_area_mw(power[(power[:, 0] >= first) & (power[:, 0] <= last)])
    if area is None or len(counted) < 2 or counted[-1, 0] <= counted[0, 0] or (np.diff(counted[:, 1]) < 0).any():
        return []  # a counter that fell began anew
    (from_ns, least), (until_ns, most) = counted[0].tolist(), counted[-1].tolist()
    mean = (most - least) * 10**9 // (until_ns - from_ns)
    if abs(mean - area) * 10**6 <= MAX_AREA_DISAGREEMENT_PPM * max(area, 1):
        return []
    return [
        Implausible("energy-integral-disagrees", f"{mean:,} mW by the counter, {area:,} mW under the power readings")
    ]


def flat(power: ArrayLike, length_ns: int) -> list[Implausible]:
    """An accelerator draws less before its load than under it: the first reading is taken as the load begins."""
    whole = series(power)
    window = within(whole, length_ns)[:, 1]
    if len(window) < MIN_READINGS or whole[0, 0] >= 0:
        return []
    least = int(whole[:, 1].min())
    if least * 10**6 < FLAT_PPM * (total(window) // len(window)):
        return []
    return [Implausible("power-flat", f"power was never below {least:,} mW, not even as the load began")]


def above_warmup(sustained_mflop_s: int, rates_mflop_s: ArrayLike) -> list[Implausible]:
    """A window is not half as fast again as the best stretch of its own warm-up: launches may have been invented."""
    best = int(np.asarray(rates_mflop_s, np.int64).max(initial=0))
    if not best or sustained_mflop_s * MAX_RATE_ABOVE_WARMUP[1] <= best * MAX_RATE_ABOVE_WARMUP[0]:
        return []
    what = f"{sustained_mflop_s:,} MFLOP/s, and no stretch of the warm-up was above {best:,}"
    return [Implausible("rate-above-warmup", what)]


def above_clock(seen: Observed, about: About) -> list[Implausible]:
    """No sub-window is faster than FLOP per clock x the highest clock that was read in it allows."""
    if about.flop_per_clock is None:
        return []
    clocks = seen.inside("clock_mhz", about.length_ns)
    for mark in seen.marks:
        begin, end = np.searchsorted(clocks[:, 0], (mark.ends_ns - mark.elapsed_ns, mark.ends_ns + 1))
        if end - begin < MIN_CLOCK_READINGS:
            continue
        highest = int(clocks[begin:end, 1].max())
        ceiling = about.flop_per_clock * highest  # FLOP x MHz is MFLOP/s
        # (work / 30) / time against ceiling x slack, in integers
        if about.work_mflop * 10**9 * CLOCK_SLACK[1] > ceiling * CLOCK_SLACK[0] * mark.elapsed_ns * len(seen.marks):
            what = f"{mark.name.removesuffix('_ns')} is faster than {highest:,} MHz allow"
            return [Implausible("subwindow-above-clock", what)]
    return []


def prints(seen: Observed, length_ns: int) -> Fingerprint:
    """Return what a copy of one figure's samples would share with it.

    Of the power these are the least hashes of any stretch, so that a copy that was shifted or cut has them too; in each
    grid a few, so that one that was changed by some milliwatts has some of them.
    """
    sketch: dict[int, list[int]] = {}
    for grid, _, _, hashes in _stretches(seen.inside("power_mw", length_ns)[:, 1]):
        if len(hashes):
            sketch.setdefault(grid, np.unique(hashes)[:SKETCH].tolist())  # of the shortest stretches that say enough
    return Fingerprint(
        times_ns=seen.times_ns if len(set(seen.times_ns)) > 1 else (),
        power=tuple(one for hashes in sketch.values() for one in hashes),
    )


def report_copies(found: Samples) -> None:
    """Report each figure whose times or telemetry are those of another one."""
    for place, finding in copies(found.prints):
        found.issues.report(finding.code, place, finding.detail)


def copies(figures: Sequence[FigureFingerprint]) -> Iterator[tuple[str, Implausible]]:
    """Yield each figure whose times or readings of power are those of one that stands before it, and whose."""
    for figure, other in sorted(_copied_power(figures).items()):
        yield (
            figures[figure].place,
            Implausible("telemetry-copied", f"readings of power are those of {figures[other].place}"),
        )
    timed = [figure for figure in figures if len(figure.own.times_ns) == SUBWINDOWS]
    times = np.array([figure.own.times_ns for figure in timed], np.int64).reshape(-1, SUBWINDOWS)
    whole, first, where = np.unique(times, axis=0, return_index=True, return_inverse=True)
    fine = np.flatnonzero((np.gcd.reduce(whole, axis=1) < ROUND_NS) & (np.ptp(whole, axis=1) >= SPREAD_NS))
    near = [*near_pairs(whole), *((int(fine[a]), int(fine[b])) for a, b in shared_times(whole[fine]))]
    pairs = [(int(first[a]), int(first[b])) for a, b in near]
    pairs += [(int(one), i) for i, one in enumerate(first[where.reshape(-1)].tolist()) if one != i]
    for figure, other in sorted(_first_of_each(pairs).items()):
        yield timed[figure].place, Implausible("subwindows-copied", f"the 30 times are those of {timed[other].place}")


def _first_of_each(pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Return for each figure of a group of copies, all but the first, which that is."""
    first: dict[int, int] = {}

    def root(one: int) -> int:
        while (above := first.get(one, one)) != one:
            first[one] = one = first.get(above, above)
        return one

    for a, b in pairs:
        low, high = sorted((root(a), root(b)))
        if low != high:
            first[high] = low
    return {one: root(one) for one in first}


def _copied_power(figures: Sequence[FigureFingerprint]) -> dict[int, int]:
    """Return each figure that shares a hash with an earlier one, with which it stands on no board."""
    hashes = np.array([one for figure in figures for one in figure.own.power], np.uint64)
    of = np.repeat(np.arange(len(figures)), [len(figure.own.power) for figure in figures])
    order = np.argsort(hashes, kind="stable")  # figures ascend within one hash
    hashes, of = hashes[order], of[order]
    copied: dict[int, int] = {}
    begin = 0
    for i in (np.flatnonzero(hashes[1:] == hashes[:-1]) + 1).tolist():
        begin = begin if hashes[begin] == hashes[i] else i - 1
        figure, first = int(of[i]), int(of[begin])
        if figure != first and (figures[figure].board is None or figures[figure].board != figures[first].board):
            copied.setdefault(figure, first)
    return copied


def near_pairs(rows: Integers) -> list[tuple[int, int]]:
    """Return pairs (a < b) of rows that agree in every column within `NEAR_PPM`, so many that every such row has one.

    Rows, shape (n, columns), are sorted by the column in which fewest pairs are near, and only those pairs are looked
    at, the closest first and `MOST_PAIRS` at the most; two rows that were both found need not be compared.
    """
    if len(rows) < 2:
        return []
    _, order, until = min(map(_candidates, rows.T), key=itemgetter(0))
    found: list[tuple[int, int]] = []
    alone = np.full(len(rows), True)  # by place in the order
    ahead, looked = np.arange(len(rows)), 0
    for step in count(1):
        ahead = ahead[until[ahead] > ahead + step]
        ahead_alone = ahead[alone[ahead] | alone[np.minimum(ahead + step, len(rows) - 1)]]
        looked += len(ahead_alone)
        if not len(ahead) or looked > MOST_PAIRS:
            return sorted(found)
        here, there = order[ahead_alone], order[ahead_alone + step]
        alike = (np.abs(rows[here] - rows[there]) <= _near(np.minimum(rows[here], rows[there]))).all(axis=1)
        alone[ahead_alone[alike]] = alone[ahead_alone[alike] + step] = False
        found += [(min(pair), max(pair)) for pair in zip(here[alike].tolist(), there[alike].tolist(), strict=True)]
    raise AssertionError


def shared_times(rows: Integers) -> list[tuple[int, int]]:
    """Return the pairs (a < b) of rows of which `SHARED_TIMES` numbers agree within `NEAR_NS`, wherever they stand.

    Numbers are looked at in their order, the closest first, `MOST_PAIRS` pairs at the most.
    """
    if len(rows) < 2:
        return []
    order = np.argsort(rows, axis=None, kind="stable")
    numbers, of = rows.reshape(-1)[order], order // rows.shape[1]
    until = np.searchsorted(numbers, numbers + NEAR_NS, side="right")
    ahead, agreeing, looked = np.arange(len(numbers)), [np.empty(0, np.int64)], 0
    for step in count(1):
        ahead = ahead[until[ahead] > ahead + step]
        looked += len(ahead)
        if not len(ahead) or looked > MOST_PAIRS:
            break
        a, b = of[ahead], of[ahead + step]
        agreeing.append((np.minimum(a, b) * len(rows) + np.maximum(a, b))[a != b])
    pairs, counts = np.unique(np.concatenate(agreeing), return_counts=True)
    return [divmod(pair, len(rows)) for pair in pairs[counts >= SHARED_TIMES].tolist()]


def _candidates(column: Integers) -> tuple[int, Integers, Integers]:
    """Return how many pairs of a column are near, its order, and up to where in it each one's near ones stand."""
    order = np.argsort(column, kind="stable")
    value = column[order]
    until = np.searchsorted(value, value + _near(value), side="right")
    return int(until.sum()) - len(value) * (len(value) + 1) // 2, order, until


def _near(values: Integers) -> Integers:
    return np.maximum(NEAR_NS, values * NEAR_PPM // 10**6)


def _stamps(seen: Observed, length_ns: int) -> Integers:
    longest = max((series(pairs) for pairs in seen.readings.values()), key=len, default=series(()))
    return within(longest, length_ns)[:, 0]


def _stretches(values: Integers) -> Iterator[tuple[int, int, Integers, Hashes]]:
    """Yield (grid, length, places, hashes) of all stretches of readings that no other series has by chance.

    Two readings agree with probability c: the larger of sum p^2 over the values that occur (two independent series),
    and of what the noise leaves to chance where all else could be foretold (a drift, a regulator's swing). A stretch
    with so many changes agrees with another one with at most c to that power.
    """
    if len(values) < GRAMS[0]:
        return
    resolution, noise_mw = int(np.gcd.reduce(np.diff(values))), _noise(values)
    for grid in GRIDS_MW:
        coarse = (values + grid // 2) // grid
        counts = np.unique(coarse, return_counts=True)[1].astype(float)
        if len(counts) < MIN_VALUES:
            continue
        foretold = max(grid, resolution) / (2 * sqrt(pi) * noise_mw) if noise_mw else 1.0
        chance = max(float((counts**2).sum()) / len(coarse) ** 2, foretold)
        if chance >= 1:
            continue
        least = GRAM_BITS / -log2(chance)
        changed = np.concatenate(([0], np.cumsum(coarse[1:] != coarse[:-1])))
        powers, inverses = _powers(len(coarse) + 1)
        mixed = _mixed(coarse.astype(np.uint64) + np.uint64(grid * _MIX % 2**64))
        sums = np.concatenate(([np.uint64(0)], np.cumsum(mixed * powers[:-1], dtype=np.uint64)))
        for length in GRAMS:
            if len(coarse) >= length:
                changes = changed[length - 1 :] - changed[: len(changed) - length + 1]
                places = np.flatnonzero(changes >= least)
                # sum of mixed[place + j] x power[j], modulo 2^64
                yield grid, length, places, _mixed((sums[places + length] - sums[places]) * inverses[places])
                if len(places) == len(changes):
                    break  # whatever agrees over a longer stretch agrees over these


def _noise(values: Integers) -> float:
    """Return the noise of one reading, mW, by second differences: a drift has none; a tenth, jumps, is left out."""
    bends = np.sort(np.abs(np.diff(values, n=2)))[: len(values) * 9 // 10].astype(float)
    return float(np.sqrt((bends**2).mean() / 6))


@lru_cache(maxsize=8)
def _powers(count: int) -> tuple[Hashes, Hashes]:
    """Return the first powers of an odd number and of its inverse modulo 2^64."""
    bases = np.full((2, count), 1, np.uint64)
    bases[0, 1:], bases[1, 1:] = _BASE, pow(_BASE, -1, 2**64)
    powers = np.cumprod(bases, axis=1, dtype=np.uint64)
    return powers[0], powers[1]


def _mixed(values: Hashes) -> Hashes:
    """Return 64-bit values mixed well (the finaliser of SplitMix64), so that their least ones are drawn at random."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
