"""R12: is a figure possible on the silicon that it is claimed for? Pure functions of values, in exact integers.

All limits that exist apply together, and the lowest binds (docs/run-rules.md, L1 to L7). The step that is shown names
the strongest evidence there is; it decides nothing. A reference measurement can lower a limit and never raise
one: a forger writes it too. What a reason code does to a figure (note, hold, void) stands in ``configs/reasons.yaml``.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import msgspec

from bench.record import Precision
from bench.record.node import Method
from certify.policy.rating import Rating

# FP64 FLOP of one core in one clock: vector units x lanes x 2 (a multiply-add). Sources: the vendors' optimisation
# guides. Two units of 256 bits from Intel Haswell and AMD Zen 2 on, in Arm Neoverse V1 and Loongson LA464; four of 128
# bits in Arm Neoverse V2; two of 512 bits in Intel Xeon Scalable, AMD Zen 5 and Fujitsu A64FX.
FP64_FLOP_PER_CLOCK = {
    "sse2": 16,
    "avx": 16,
    "avx2": 16,
    "avx512": 32,
    "neon": 16,
    "sve128": 16,
    "sve256": 16,
    "sve512": 32,
    "lsx": 16,
    "lasx": 16,
}
WIDEST_FP64_FLOP_PER_CLOCK = 128  # matrix extensions (Arm SME, Intel AMX), and whatever the table does not name
NATIVE_16_BIT_FLOP_PER_CLOCK = 1_024  # Intel AMX: 16 x 16 x 32 multiply-adds every 16 clocks
HIGHEST_CLOCK_MHZ = 6_200  # of any processor sold (Intel Core i9-14900KS)
MOST_CORES = 2_048  # of one node: sixteen sockets of 128 cores
SLACK = (105, 100)  # boards may run the clock reference a little above its nominal value


def most_mflop_s(
    precision: Precision, method: Method, instruction_set: str | None, cores: int | None, max_clock_mhz: int | None
) -> int:
    """Return the rate that processors cannot exceed, 5 % of slack included, MFLOP/s.

    Args:
        precision: of the operands.
        method: `upcast` where they were computed in FP32.
        instruction_set: the widest that the processors have; None where it was not reported.
        cores: physical cores (logical ones, where siblings are not known); None is judged as one.
        max_clock_mhz: the highest that was reported; None, 0 and all above `HIGHEST_CLOCK_MHZ` is judged as that.
    """
    clock_mhz = min(max_clock_mhz or HIGHEST_CLOCK_MHZ, HIGHEST_CLOCK_MHZ)
    flop_per_clock = flop_per_clock_per_core(precision, method, instruction_set) * min(cores or 1, MOST_CORES)
    return flop_per_clock * clock_mhz * SLACK[0] // SLACK[1]  # FLOP x MHz is MFLOP/s


def flop_per_clock_per_core(precision: Precision, method: Method, instruction_set: str | None) -> int:
    """Return how many FLOP a core does in one clock at most: FP32 twice FP64, and 16-bit operands up-cast as FP32."""
    if precision in ("fp16", "bf16") and method == "native":
        return NATIVE_16_BIT_FLOP_PER_CLOCK
    fp64 = FP64_FLOP_PER_CLOCK.get(instruction_set or "", WIDEST_FP64_FLOP_PER_CLOCK)
    return fp64 if precision == "fp64" else 2 * fp64


Step = Literal["measured", "silicon", "rating", "none"]
LimitName = Literal[
    "silicon", "observed-clock", "mean-clock", "issue-rate", "rating", "best-known", "highest-rating", "cpu"
]
STEPS: tuple[Step, ...] = get_args(Step)  # the strongest first
PERCENT = 100
MIN_CLOCK_SAMPLES = 60  # L2: below, the highest observed clock may have been missed
CLOCK_SLACK = 102  # L2, L3: a clock read once a second misses short peaks
MEAN_CLOCK_SLACK = 105  # L2b: the mean of a clock that is read under load may be biased
RATING_SLACK = 105  # L4: ratings are rounded
BEST_KNOWN_SLACK = 115  # L5: a better library than the one of the publication
BEST_KNOWN_LEAST = 60  # L5: in percent of the rating, where what is publicly known is poor
HIGHEST_SLACK = 125  # L6
ISSUE_LEAST = 95  # L3: in percent of FLOP/clock; a kernel that issues less shows nothing of the silicon
PLAUSIBLE_CONFIDENCE = ("high", "medium")  # L4
# Holds of figures that nothing known bounds: where a policy accepts them plainly, they count and are never scheduled.
NEVER_SCHEDULED = frozenset({"no-ceiling", "above-best-known"})
LOW_POWER = (1, 4)  # of the rated power, while giving at least HIGH_RATE of the nominal rate
HIGH_RATE = (1, 2)
SLOW_PRECISION = 32  # a precision whose silicon is below this part of FP16's does not load the device
# Public measurements reach between 0.33 and 1.03 of the ratings in the table: two honest figures of one device, each
# taken as a share of what its silicon does, differ by less than this factor.
MAX_SHARE_RATIO = 4


class UnitShare(NamedTuple):
    """Which part of its row's unit a device is: `part` of `of`; (1, 1) is the whole."""

    part: int
    of: int


WHOLE = UnitShare(1, 1)


class Issued(NamedTuple):
    """The rate of issue that a reference measurement with right results reached, and at which clock."""

    rate_mflop_s: int
    clock_mean_mhz: int


class CeilingFacts(msgspec.Struct, frozen=True, gc=False):
    """What is known of one figure, or of all parts of one unit together. None is what could not be read."""

    precision: Precision
    rate_mflop_s: int  # sustained
    units: int | None  # SMs, CUs or AI cores, as the device reports them
    max_clock_mhz: int | None  # the highest that the device supports
    clock_max_mhz: int | None  # the highest that was observed in the window
    clock_mean_mhz: int | None
    clock_samples: int
    issued: tuple[Issued, ...] = ()


class RateLimit(NamedTuple):
    """The highest rate that one limit allows, and the code of a figure above it."""

    name: LimitName
    mflop_s: int
    code: str


def bound_of(limit: RateLimit | None) -> tuple[LimitName | None, int | None]:
    """Return the name and the rate, MFLOP/s, of the limit that binds a figure; None and None where nothing does."""
    return (None, None) if limit is None else (limit.name, limit.mflop_s)


class Ceilings(NamedTuple):
    """All limits that exist for a figure, and the strongest evidence among them."""

    step: Step
    limits: tuple[RateLimit, ...]

    @property
    def binding(self) -> RateLimit | None:
        """The lowest limit that a figure may not pass; the mean clock's is for the reader alone."""
        lowest: RateLimit | None = None
        for one in self.limits:
            if one.name != "mean-clock" and (lowest is None or one.mflop_s < lowest.mflop_s):
                lowest = one
        return lowest

    def passed(self, rate_mflop_s: int) -> tuple[str, ...]:
        """Return the codes of the limits that a rate is above."""
        return tuple([one.code for one in self.limits if rate_mflop_s > one.mflop_s])


def ceilings(
    facts: CeilingFacts,
    rating: Rating | None,
    highest_mflop_s: int | None,
    share: UnitShare = WHOLE,
    *,
    lone: bool = True,
) -> Ceilings:
    """Return the limits of an accelerator's figure.

    Args:
        facts: the figure and what was read from the device.
        rating: of the whole unit that the device is, or is a part of; None where the table has none.
        highest_mflop_s: the table's highest rating of the precision (L6).
        share: the device's part of the unit.
        lone: whether L5 and L6, which hold for a whole unit, are to be judged on this figure: not on a part whose
            unit is judged as a sum.
    """
    row = model_limits(facts.precision, facts.units, facts.max_clock_mhz, rating, highest_mflop_s, share, lone=lone)
    return figure_limits(facts, row)


class ModelLimits(NamedTuple):
    """The limits that all figures of one device model have in common: they are found once for all of its devices."""

    ceilings: Ceilings
    # MFLOP/s for each MHz (FLOP x MHz is MFLOP/s) of certain silicon, which the clocks of a figure bound further
    flop_per_clock: int | None


def model_limits(
    precision: Precision,
    units: int | None,
    max_clock_mhz: int | None,
    rating: Rating | None,
    highest_mflop_s: int | None,
    share: UnitShare = WHOLE,
    *,
    lone: bool = True,
) -> ModelLimits:
    """Return the limits of an accelerator before anything of a figure is known: L1 and L4 to L6 (see `ceilings`)."""
    limits: list[RateLimit] = []
    if lone and highest_mflop_s is not None:
        limits.append(RateLimit("highest-rating", highest_mflop_s * HIGHEST_SLACK // PERCENT, "above-every-rating"))
    if rating is None or rating.kind == "cpu":  # a processor's row gives nominal rates alone
        return ModelLimits(Ceilings("none", tuple(limits)), None)
    nominal = rating.nominal_mflop_s(precision)
    known = rating.best_known_mflop_s(precision)
    if lone and known is not None and nominal is not None:
        most = max(known * BEST_KNOWN_SLACK, nominal * BEST_KNOWN_LEAST)
        limits.append(RateLimit("best-known", most * share.part // (share.of * PERCENT), "above-best-known"))
    if rating.silicon_is_certain(precision):
        work = most_flop_per_clock(precision, units, rating, share) or 0
        clock = min(mhz for mhz in (max_clock_mhz or None, rating.highest_clock_mhz) if mhz is not None)
        silicon = RateLimit("silicon", work * clock, "above-silicon-ceiling")
        return ModelLimits(Ceilings("silicon", (silicon, *limits)), work)
    if nominal is None or rating.confidence not in PLAUSIBLE_CONFIDENCE:
        return ModelLimits(Ceilings("none", tuple(limits)), None)
    most = nominal * RATING_SLACK * share.part // (share.of * PERCENT)
    return ModelLimits(Ceilings("rating", (RateLimit("rating", most, "above-rating-unproven"), *limits)), None)


def figure_limits(facts: CeilingFacts, model: ModelLimits) -> Ceilings:
    """Return the limits of one figure: its model's, and L2 and L3: certain silicon at its clocks, what it issued."""
    work = model.flop_per_clock
    limits: list[RateLimit] = []
    if work is None:
        return model.ceilings
    if facts.clock_samples >= MIN_CLOCK_SAMPLES and facts.clock_max_mhz is not None:
        most = work * facts.clock_max_mhz * CLOCK_SLACK // PERCENT
        limits.append(RateLimit("observed-clock", most, "above-observed-clock-ceiling"))
        if facts.clock_mean_mhz is not None:
            most = work * facts.clock_mean_mhz * MEAN_CLOCK_SLACK // PERCENT
            limits.append(RateLimit("mean-clock", most, "above-mean-clock"))
    # Clock for clock: only what came near the silicon tells of it, and of several kernels the fastest.
    step, mean = model.ceilings.step, facts.clock_mean_mhz
    if facts.issued and mean is not None:
        near = [one for one in facts.issued if one.rate_mflop_s * PERCENT >= work * one.clock_mean_mhz * ISSUE_LEAST]
        if near:
            most = max(one.rate_mflop_s * mean * CLOCK_SLACK // (one.clock_mean_mhz * PERCENT) for one in near)
            limits.append(RateLimit("issue-rate", most, "above-measured-ceiling"))
            step = "measured"
    if not limits:
        return model.ceilings
    silicon, *others = model.ceilings.limits
    return Ceilings(step, (silicon, *limits, *others))


def cpu_ceilings(
    precision: Precision, method: Method, instruction_set: str | None, cores: int | None, max_clock_mhz: int | None
) -> Ceilings:
    """Return the one limit of a CPU's figure (L7), whose step is the silicon's."""
    most = most_mflop_s(precision, method, instruction_set, cores, max_clock_mhz)
    return Ceilings("silicon", (RateLimit("cpu", most, "above-cpu-ceiling"),))


def most_flop_per_clock(
    precision: Precision, units: int | None, rating: Rating, share: UnitShare = WHOLE
) -> int | None:
    """Return how much a device does in one clock at most; None where its silicon is not known.

    Of the units reported and rated the fewer count: a driver cannot add silicon.
    """
    rated = None if rating.units is None else rating.units * share.part // share.of
    known = min((count for count in (units or None, rated) if count is not None), default=None)
    each = rating.flop_per_clock_per_unit(precision)
    return None if each is None or known is None else each * known


def notes(facts: CeilingFacts, rating: Rating | None, bounds: Ceilings, share: UnitShare = WHOLE) -> tuple[str, ...]:
    """Return the codes of what the limits of a figure rest on, and of what the device did not report."""
    codes = ["no-ceiling"] if bounds.step == "none" else []
    if rating is None:
        return tuple(codes)
    nominal = rating.nominal_mflop_s(facts.precision)
    if nominal is not None and facts.rate_mflop_s * share.of > nominal * share.part:
        codes.append("above-nominal")
    if rating.silicon_is_certain(facts.precision):
        codes += [] if facts.units else ["units-not-told"]
        codes += [] if facts.max_clock_mhz else ["clock-not-told"]
    elif _above_uncertain(facts, rating, share):
        codes.append("above-uncertain-silicon")
    return tuple(codes)


def _above_uncertain(facts: CeilingFacts, rating: Rating, share: UnitShare) -> bool:
    """Return whether a rate is above what silicon that is not certain does at the clock and with the units reported."""
    rated = None if rating.units is None else rating.units * share.part // share.of
    units, each = facts.units or rated, rating.flop_per_clock_per_unit(facts.precision)
    clock = facts.max_clock_mhz or rating.highest_clock_mhz or rating.rating_clock_mhz(facts.precision)
    return None not in (units, each, clock) and facts.rate_mflop_s > (units or 0) * (each or 0) * (clock or 0)


def power_too_low(precision: Precision, rate_mflop_s: int, power_mean_mw: int | None, rating: Rating) -> bool:
    """Return whether a whole unit gives a high rate at a power at which no device computes."""
    nominal = rating.nominal_mflop_s(precision)
    if power_mean_mw is None or rating.tdp_mw is None or nominal is None:
        return False
    low = power_mean_mw * LOW_POWER[1] < rating.tdp_mw * LOW_POWER[0]
    return low and rate_mflop_s * HIGH_RATE[1] >= nominal * HIGH_RATE[0] and not _is_slow(precision, rating)


def _is_slow(precision: Precision, rating: Rating) -> bool:
    """Return whether a precision's silicon is so small a part of FP16's that it does not load the device."""
    silicon, fp16 = _silicon_rates(rating, precision, "fp16")
    return silicon is not None and fp16 is not None and silicon * SLOW_PRECISION < fp16


def ratio_impossible(
    precision: Precision, rate_mflop_s: int, other: Precision, other_rate_mflop_s: int | None, rating: Rating
) -> bool:
    """Return whether a figure is too high for what the same device gives in the other precision."""
    silicon, other_silicon = _silicon_rates(rating, precision, other)
    if silicon is None or other_silicon is None or other_rate_mflop_s is None:
        return False
    return rate_mflop_s * other_silicon > MAX_SHARE_RATIO * other_rate_mflop_s * silicon


def _silicon_rates(rating: Rating, a: Precision, b: Precision) -> tuple[int | None, int | None]:
    """Return what the silicon does in two precisions, in one unit: FLOP per clock if both are known, else nominal."""
    clocks = rating.flop_per_clock_per_unit(a), rating.flop_per_clock_per_unit(b)
    return clocks if None not in clocks else (rating.nominal_mflop_s(a), rating.nominal_mflop_s(b))
