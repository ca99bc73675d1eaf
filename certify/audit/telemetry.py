"""Telemetry and times that no honest device gives: pure functions of series, each with its limit and its argument.

A limit is chosen so that a fleet of 100,000 honest devices in four workloads gives fewer than one false alarm in a
thousand audits; docs/audit.md says what each is worth against a forger. Simulated devices are never looked at.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import gcd, log2
from typing import NamedTuple

from certify.audit.observed import Observed, Series, power_by_area_mw

MIN_READINGS = 60  # below, a series says too little of itself
SMOOTH_WHOLE_WATTS = 600  # a regulator at its cap may hold a whole watt for minutes, not for ten of them
WHOLE_WATT_MW = 1000
# Two stretches of readings that agree by chance: so improbable that the pairs of one window (2^18), or of all devices
# of all centres (2^40), do not make it happen. Bits are counted for changes of value only: a plateau proves nothing.
GRAM_BITS = 96.0
MIN_VALUES = 8  # a regulator may swing between a few values for ever; more of them are noise
GRAMS = (30, 60, 120)  # readings in a stretch; coarse sensors need long ones to be told apart
ROUND_NS = 1000  # a clock that ticks in microseconds is no clock for R9, and a person rounds to them
MIN_STAMPS = 10  # ten gaps that all are multiples of 1,000 ns by chance: 10^-30
MAX_AREA_DISAGREEMENT_PPM = 100_000  # as R12's limit for means: readings may be averages over a second
MIN_AREA_READINGS = 10
FLAT_PPM = 900_000  # power is flat where no reading, from the first on, is below this part of the window's mean
MIN_CLOCK_READINGS = 10  # in one sub-window: the highest of so many is not below the mean clock, but for 1 in 1,000
CLOCK_SLACK = (102, 100)  # as R12's: what is left after it is that a kernel gives 102 % of what the silicon issues
MAX_RATE_ABOVE_WARMUP = (3, 2)  # a window follows its warm-up, whose best stretch is cooler and no slower


class Finding(NamedTuple):
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
    flop_per_clock: int | None  # of the whole device, in the workload's precision; None where there is no rating


def implausible(seen: Observed, about: About) -> list[Finding]:
    """Return what is implausible in the samples of one device and workload."""
    found = [*rounded_times(seen.times_ns), *regular_stamps(_stamps(seen, about.length_ns))]
    power = seen.inside("power_mw", about.length_ns)
    found += repeated([value for _, value in power])
    found += energy(power, seen.inside("energy_mj", about.length_ns))
    if about.accelerator:
        whole = [value for _, value in seen.readings.get("power_mw", ())]
        found += smooth([value for _, value in power], gcd(*whole) if whole else 0)
        found += flat(seen.readings.get("power_mw", ()), about.length_ns) if about.first else ()
        found += above_warmup(about.sustained_mflop_s, [rate for _, rate in seen.warmup_rates])
        found += above_clock(seen, about)
    return found


def rounded_times(times_ns: Sequence[int]) -> list[Finding]:
    """Sub-window times are read from a clock of nanoseconds: that all share a factor of 1,000 is no accident."""
    step = gcd(*times_ns) if times_ns else 0
    return [Finding("subwindows-rounded", f"all 30 are multiples of {step:,} ns")] if step >= ROUND_NS else []


def regular_stamps(stamps_ns: Sequence[int]) -> list[Finding]:
    """A timer wakes a microsecond or more late, and never by the same: gaps are neither equal nor round."""
    gaps = [b - a for a, b in pairwise(stamps_ns)]
    if len(gaps) < MIN_STAMPS:
        return []
    if len(set(gaps)) == 1:
        return [Finding("timestamps-regular", f"{len(gaps)} gaps of exactly {gaps[0]:,} ns")]
    step = gcd(*gaps)
    return [Finding("timestamps-regular", f"all gaps are multiples of {step:,} ns")] if step >= ROUND_NS else []


def smooth(power_mw: Sequence[int], resolution_mw: int) -> list[Finding]:
    """Power under load never stays the same, or on a straight line, for 60 readings, unless the sensor is too coarse.

    A sensor that resolves less than a watt shows the noise of its regulator, some tenths of a per cent of hundreds of
    watts. One of whole watts may hide it: it must hold still for ten times as long.

    Args:
        power_mw: readings within the window.
        resolution_mw: greatest common divisor of all readings of the device.
    """
    least = MIN_READINGS if resolution_mw % WHOLE_WATT_MW else SMOOTH_WHOLE_WATTS
    if len(power_mw) < least:
        return []
    steps = {b - a for a, b in pairwise(power_mw)}
    if len(steps) > 1:
        return []
    how = "the same" if steps == {0} else "on one straight line"
    return [Finding("power-too-smooth", f"{len(power_mw)} readings of power are all {how}")]


def repeated(values: Sequence[int]) -> list[Finding]:
    """A stretch of noisy readings never comes twice in one window."""
    for length in GRAMS:
        first: dict[int, int] = {}
        for place, print_ in _grams(values, length):
            before = first.setdefault(print_, place)
            if place - before >= length:
                what = f"{length} readings from number {before + 1} on stand again from number {place + 1} on"
                return [Finding("telemetry-repeated", what)]
    return []


def energy(power: Series, counter: Series) -> list[Finding]:
    """The area under the power readings is what the energy counter counted over the same time, within 10 %."""
    if len(power) < MIN_AREA_READINGS or len(counter) < 2:
        return []
    first, last = max(power[0][0], counter[0][0]), min(power[-1][0], counter[-1][0])
    counted = [(at, value) for at, value in counter if first <= at <= last]
    area = power_by_area_mw([(at, value) for at, value in power if first <= at <= last])
    if area is None or len(counted) < 2 or counted[-1][0] <= counted[0][0] or counted[-1][1] < counted[0][1]:
        return []
    mean = (counted[-1][1] - counted[0][1]) * 10**9 // (counted[-1][0] - counted[0][0])
    if abs(mean - area) * 10**6 <= MAX_AREA_DISAGREEMENT_PPM * max(area, 1):
        return []
    return [Finding("energy-integral-disagrees", f"{mean:,} mW by the counter, {area:,} mW under the power readings")]


def flat(power: Series, length_ns: int) -> list[Finding]:
    """An accelerator draws less before its load than under it: the first reading is taken as the load begins."""
    window = [value for at, value in power if 0 <= at < length_ns]
    if len(window) < MIN_READINGS or power[0][0] >= 0:
        return []
    least = min(value for _, value in power)
    if least * 10**6 < FLAT_PPM * (sum(window) // len(window)):
        return []
    return [Finding("power-flat", f"power was never below {least:,} mW, not even as the load began")]


def above_warmup(sustained_mflop_s: int, rates_mflop_s: Sequence[int]) -> list[Finding]:
    """A window is not half as fast again as the best stretch of its own warm-up: launches may have been invented."""
    best = max(rates_mflop_s, default=0)
    if not best or sustained_mflop_s * MAX_RATE_ABOVE_WARMUP[1] <= best * MAX_RATE_ABOVE_WARMUP[0]:
        return []
    what = f"{sustained_mflop_s:,} MFLOP/s, and no stretch of the warm-up was above {best:,}"
    return [Finding("rate-above-warmup", what)]


def above_clock(seen: Observed, about: About) -> list[Finding]:
    """No sub-window is faster than FLOP per clock x the highest clock that was read in it allows."""
    if about.flop_per_clock is None:
        return []
    clocks = seen.inside("clock_mhz", about.length_ns)
    at = 0
    for mark in seen.marks:
        while at < len(clocks) and clocks[at][0] < mark.ends_ns - mark.elapsed_ns:
            at += 1
        inside = []
        while at < len(clocks) and clocks[at][0] <= mark.ends_ns:
            inside.append(clocks[at][1])
            at += 1
        if len(inside) < MIN_CLOCK_READINGS:
            continue
        ceiling = about.flop_per_clock * max(inside)  # FLOP x MHz is MFLOP/s
        # (work / 30) / time against ceiling x slack, in integers
        if about.work_mflop * 10**9 * CLOCK_SLACK[1] > ceiling * CLOCK_SLACK[0] * mark.elapsed_ns * len(seen.marks):
            what = f"{mark.name.removesuffix('_ns')} is faster than {max(inside):,} MHz allow"
            return [Finding("subwindow-above-clock", what)]
    return []


class Prints(NamedTuple):
    """Fingerprints that two devices never share; None where there is too little to tell them apart by."""

    times: int | None
    power: int | None


def prints(seen: Observed, length_ns: int) -> Prints:
    """Return the fingerprints of the 30 times and of the power within the window.

    That of the power is the least hash of any stretch, so that a copy that was shifted or cut has it too.
    """
    values = [value for _, value in seen.inside("power_mw", length_ns)]
    of_power = (min((print_ for _, print_ in _grams(values, length)), default=None) for length in GRAMS)
    return Prints(
        times=_hash(array("q", seen.times_ns)) if len(set(seen.times_ns)) > 1 else None,
        power=next((least for least in of_power if least is not None), None),
    )


class Copies:
    """Sees the fingerprints of all figures once, and tells of the second sight of any."""

    def __init__(self) -> None:
        self._times: dict[int, str] = {}
        self._power: dict[int, tuple[str, str | None]] = {}

    def see(self, place: str, own: Prints, board: str | None) -> list[Finding]:
        """Take the fingerprints of one figure.

        Args:
            place: node, device and workload.
            own: its fingerprints.
            board: what it shares a power sensor with: the dies of one card may read one value. None: nothing.
        """
        found = []
        if own.times is not None and (other := self._times.setdefault(own.times, place)) != place:
            found.append(Finding("subwindows-copied", f"the 30 times are those of {other}"))
        if own.power is not None:
            other, shared = self._power.setdefault(own.power, (place, board))
            if other != place and (board is None or board != shared):
                found.append(Finding("telemetry-copied", f"readings of power are those of {other}"))
        return found


def _stamps(seen: Observed, length_ns: int) -> list[int]:
    series = max(seen.readings.values(), key=len, default=())
    return [at for at, _ in series if 0 <= at < length_ns]


def _grams(values: Sequence[int], length: int) -> Iterator[tuple[int, int]]:
    """Yield (place, hash) of every stretch of so many values that no other series has by chance.

    Two independent readings agree with probability c = sum p^2 over the values that occur; a stretch with so many
    changes agrees with another one with at most c to that power.
    """
    if len(values) < length:
        return
    size, counted = len(values), Counter(values)
    if len(counted) < MIN_VALUES:
        return
    chance = sum(n * n for n in counted.values()) / (size * size)
    least = GRAM_BITS / -log2(chance)
    packed, item = array("q", values).tobytes(), array("q").itemsize
    changes = sum(a != b for a, b in pairwise(values[:length]))
    for place in range(size - length + 1):
        if place:
            changes -= values[place - 1] != values[place]
            changes += values[place + length - 2] != values[place + length - 1]
        if changes >= least:
            yield place, _hash(packed[place * item : (place + length) * item])


def _hash(content: bytes | array[int]) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")
