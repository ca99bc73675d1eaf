"""R12: is a figure possible on the silicon that it is claimed for? Pure functions of values, in exact integers.

Every ceiling is compared by cross-multiplication. What a reason code does to a figure (note, hold, void) stands in
``configs/reasons.yaml``; a missing input is said, never assumed.
"""

from __future__ import annotations

from typing import NamedTuple

from bench.record import Grade, Precision
from certify.policy.ratings import Rating

MIN_CLOCK_SAMPLES = 60  # below, the highest observed clock may have been missed
CLOCK_SLACK = (102, 100)  # a clock sampled once a second misses short peaks
RATING_SLACK = (110, 100)  # ratings are rounded, and boards may boost above the rating clock
MAX_BOOST = (5, 4)  # the widest in the table is 3105 over 2520 MHz
LOW_POWER = (1, 4)  # of the rated power, while giving at least HIGH_RATE of the nominal rate
HIGH_RATE = (1, 2)
# Public measurements reach between 0.33 and 1.03 of the ratings in the table: two honest figures of one device, each
# taken as a share of what its silicon does, differ by less than this factor.
MAX_SHARE_RATIO = 4


class Facts(NamedTuple):
    """What is known of one figure. Rates are `sustained`; None is what could not be read."""

    precision: Precision
    rate_mflop_s: int
    units: int | None  # SMs, CUs or AI cores, as the device reports them
    max_clock_mhz: int | None  # the highest that the device supports
    clock_max_mhz: int | None  # the highest that was observed in the window
    clock_samples: int
    power_mean_mw: int | None
    fp16_mflop_s: int | None  # sustained rates of the same device in the same record
    fp64_mflop_s: int | None


def check(facts: Facts, rating: Rating | None, grade: Grade) -> tuple[str, ...]:
    """Return the reason codes of R12 that a figure earns, the gravest first; none for a figure that passed all checks.

    Args:
        facts: the figure and what was read from the device.
        rating: the device's nominal rating, None where the table has none.
        grade: of the figure; at `certification` a check that could not be made holds the figure.
    """
    unchecked = "plausibility-unproven" if grade == "certification" else "plausibility-not-checked"
    if rating is None:
        return (unchecked,)
    codes = []
    facts = facts._replace(
        max_clock_mhz=_believable(facts.max_clock_mhz, rating, facts.precision),
        clock_max_mhz=_believable(facts.clock_max_mhz, rating, facts.precision),
    )
    flop_per_clock = most_flop_per_clock(facts.precision, facts.units, rating)
    silicon = _above(facts.rate_mflop_s, flop_per_clock, facts.max_clock_mhz, (1, 1))
    observed_mhz = facts.clock_max_mhz if facts.clock_samples >= MIN_CLOCK_SAMPLES else None
    observed = _above(facts.rate_mflop_s, flop_per_clock, observed_mhz, CLOCK_SLACK)
    nominal = rating.nominal_mflop_s(facts.precision)
    if silicon:
        codes.append("above-silicon-ceiling")
    if observed:
        codes.append("above-observed-clock-ceiling")
    if nominal is not None and facts.rate_mflop_s > nominal:
        codes.append(_above_nominal(facts, rating, nominal))
    if _power_too_low(facts, rating, nominal):
        codes.append("power-too-low")
    if _ratio_impossible(facts, rating):
        codes.append("precision-ratio-impossible")
    if silicon is None or observed is None or nominal is None:
        codes.append(unchecked)
    return tuple(codes)


def most_flop_per_clock(precision: Precision, units: int | None, rating: Rating) -> int | None:
    """Return how much a device does in one clock at most; None where its silicon is not known.

    Of the units reported and rated the fewer count: a driver cannot add silicon.
    """
    known = min((count for count in (units, rating.units) if count is not None), default=None)
    return _product(rating.flop_per_clock_per_unit(precision), known)


def _believable(clock_mhz: int | None, rating: Rating, precision: Precision) -> int | None:
    """Return a reported clock, but no more than any board boosts above its rating clock: a report is not a ceiling."""
    base = rating.rating_clock_mhz(precision)
    return clock_mhz if clock_mhz is None or base is None else min(clock_mhz, base * MAX_BOOST[0] // MAX_BOOST[1])


def _product(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a * b


def _above(rate_mflop_s: int, flop_per_clock: int | None, clock_mhz: int | None, slack: tuple[int, int]) -> bool | None:
    """Return whether a rate exceeds FLOP/clock x clock x slack (FLOP x MHz is MFLOP/s); None where that is unknown."""
    ceiling_mflop_s = _product(flop_per_clock, clock_mhz)
    return None if ceiling_mflop_s is None else rate_mflop_s * slack[1] > ceiling_mflop_s * slack[0]


def _above_nominal(facts: Facts, rating: Rating, nominal: int) -> str:
    """Return the code of a rate above nominal: beyond 1.10 x nominal x max(1, observed/rating clock) it is no note."""
    clock = rating.rating_clock_mhz(facts.precision)
    known = clock is not None and facts.clock_max_mhz is not None and facts.clock_max_mhz > clock
    observed, base = (facts.clock_max_mhz or 1, clock or 1) if known else (1, 1)
    if facts.rate_mflop_s * RATING_SLACK[1] * base <= nominal * RATING_SLACK[0] * observed:
        return "above-nominal"
    return "above-rating" if rating.confidence == "high" else "rating-doubtful"


def _power_too_low(facts: Facts, rating: Rating, nominal: int | None) -> bool:
    if facts.power_mean_mw is None or rating.tdp_mw is None or nominal is None:
        return False
    fast = facts.rate_mflop_s * HIGH_RATE[1] >= nominal * HIGH_RATE[0]
    return fast and facts.power_mean_mw * LOW_POWER[1] < rating.tdp_mw * LOW_POWER[0]


def _ratio_impossible(facts: Facts, rating: Rating) -> bool:
    """Return whether this figure is too high for what the same device gives in the other precision."""
    rates = {"fp16": facts.fp16_mflop_s, "fp64": facts.fp64_mflop_s}
    if facts.precision not in rates:
        return False
    other: Precision = "fp64" if facts.precision == "fp16" else "fp16"
    mine, theirs = _silicon_rates(rating, facts.precision, other)
    other_rate = rates[other]
    if mine is None or theirs is None or other_rate is None:
        return False
    return facts.rate_mflop_s * theirs > MAX_SHARE_RATIO * other_rate * mine


def _silicon_rates(rating: Rating, a: Precision, b: Precision) -> tuple[int | None, int | None]:
    """Return what the silicon does in two precisions, in one unit: FLOP per clock if both are known, else nominal."""
    clocks = rating.flop_per_clock_per_unit(a), rating.flop_per_clock_per_unit(b)
    return clocks if None not in clocks else (rating.nominal_mflop_s(a), rating.nominal_mflop_s(b))
