"""Telemetry and times that no honest device gives: pure functions of series, each with its limit and its argument.

A limit is chosen so that a fleet of 100,000 honest devices in four workloads gives fewer than one false alarm in a
thousand audits; docs/audit.md says what each is worth against a forger. Simulated devices are never looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from certify.samples.observed import Observed, power_by_area_mw, series, total, within
from certify.samples.rows import Integers, stretches

MIN_READINGS = 60  # below, a series says too little of itself
FINE_MW = 100  # a sensor of finer steps shows noise in any stretch; a coarser one is asked for noise in a whole window
SMOOTH_WHOLE_WATTS = 600  # a regulator at its cap may hold a whole watt for minutes, not for ten of them
WHOLE_WATT_MW = 1000
ROUND_NS = 1000  # a clock that ticks in microseconds is no clock for R9, and a person rounds to them
MIN_STAMPS = 10  # gaps; six of ten that are multiples of 1,000 ns by chance: 2 x 10^-16
MAX_AREA_DISAGREEMENT_PPM = 100_000  # as R12's limit for means: readings may be averages over a second
MIN_AREA_READINGS = 10
FLAT_PPM = 900_000  # power is flat where no reading, from the first on, is below this part of the window's mean
MIN_CLOCK_READINGS = 10  # in one sub-window: the highest of so many is not below the mean clock, but for 1 in 1,000
CLOCK_SLACK = (102, 100)  # as R12's: what is left after it is that a kernel gives 102 % of what the silicon issues
MAX_RATE_ABOVE_WARMUP = (3, 2)  # a window follows its warm-up, whose best stretch is cooler and no slower


class Implausible(NamedTuple):
    """An implausible series: a reason code and a sentence with its numbers."""

    code: str
    detail: str


class About(NamedTuple):
    """Facts of the device and its window that its samples do not hold."""

    accelerator: bool
    length_ns: int  # of the core window
    first: bool  # the first workload of the campaign: the device was idle before
    work_mflop: int  # of all 30 sub-windows
    sustained_mflop_s: int
    flop_per_clock: int | None  # of the whole device, in the workload's precision; None where no silicon is certain
    counter_is_trusted: bool = True  # the vendor's energy counter is right on every release


def implausible(seen: Observed, about: About) -> list[Implausible]:
    """Return every implausible series of one device and workload, in the order of the checks."""
    findings = [*rounded_times(seen.times_ns), *regular_stamps(_stamps(seen, about.length_ns))]
    whole = seen.whole("power_mw")
    power = within(whole, about.length_ns)
    findings += repeated(power[:, 1])
    if about.counter_is_trusted:
        findings += energy(power, seen.inside("energy_mj", about.length_ns))
    if about.accelerator:
        findings += smooth(power[:, 1], int(np.gcd.reduce(whole[:, 1])) if len(whole) else 0)
        findings += flat(whole, about.length_ns) if about.first else ()
        findings += above_warmup(about.sustained_mflop_s, series(seen.warmup_rates)[:, 1])
        findings += above_clock(seen, about)
    return findings


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
    for _, length, places, hashes in stretches(values):
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


def _stamps(seen: Observed, length_ns: int) -> Integers:
    longest = max((series(pairs) for pairs in seen.readings.values()), key=len, default=series(()))
    return within(longest, length_ns)[:, 0]
