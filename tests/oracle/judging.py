"""The run rules that numbers decide, judged anew: R3, R4 (length), R5 (bounds), R7, R9 to R13. Pure, in integers.

Written from docs/run-rules.md and docs/residuals.md. R1, R2, R6, registered shapes, the second path, identity and kind
of devices are not here: they are taken from the statement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from bench.record import (
    Campaign,
    Device,
    DeviceModel,
    Figure,
    Grade,
    Measurement,
    NodeRecord,
    Precision,
    Profile,
    Window,
)
from bench.units import utc_ns
from certify.policy.ratings import Rating
from tests.oracle.bounds import Interval

SECOND_NS = 10**9
GRADES: tuple[tuple[Grade, int], ...] = (
    ("certification", 600 * SECOND_NS),
    ("standard", 60 * SECOND_NS),
    ("smoke", 3 * SECOND_NS),
)
ORDER = [grade for grade, _ in reversed(GRADES)]
ITEM_BYTES = {"fp16": 2, "bf16": 2, "fp32": 4, "fp64": 8}
LEAST_OPERANDS = {"cpu": 256 * 2**20, "gpu": 2**30, "npu": 2**30}  # R3, where the cache is not known

RECOMPUTED: dict[str, tuple[str, ...]] = {  # rule -> the codes that this module may give
    "R3": ("operands-in-cache",),
    "R4 (length of a launch)": ("unequal-subwindows", "launch-too-long"),
    "R5 (bounds of the errors)": (
        "wrong-product",
        "operands-not-random",
        "products-not-verified",
        "reduced-precision-reduction",
    ),
    "R7": ("window-too-short", "below-profile"),
    "R8, R9": ("statistics-differ", "remainder-too-long", "autocorrelated", "wide-interval"),
    "R10": (
        "outside-window",
        "clock-unknown",
        "clock-uncertain",
        "not-simultaneous",
        "late-load",
        "ramp-not-kept",
    ),
    "R11": ("event-clock-disagrees", "utc-clock-disagrees"),
    "R12 (ceilings, energy)": (
        "above-silicon-ceiling",
        "above-observed-clock-ceiling",
        "above-nominal",
        "above-rating",
        "rating-doubtful",
        "power-too-low",
        "precision-ratio-impossible",
        "plausibility-unproven",
        "plausibility-not-checked",
        "energy-disagrees",
    ),
    "R13": (
        "ecc-errors",
        "foreign-process",
        "throttled",
        "telemetry-incomplete",
        "telemetry-not-exposed",
        "ecc-unknown",
    ),
}
CODES = frozenset(code for codes in RECOMPUTED.values() for code in codes)


class Case(NamedTuple):
    """One figure and what it is judged by. Telemetry is that of the samples, where there are any."""

    record: NodeRecord
    measurement: Measurement
    figure: Figure
    rates: Interval | None  # from the samples' 30 times; None where the launches or times are none
    device: Device
    model: DeviceModel
    rating: Rating | None
    campaign: Campaign
    profile: Profile
    slot_ns: int
    place: int  # of the device on its node
    other_rates: Mapping[Precision, int]  # sustained MFLOP/s of the same device and choice of shape, by precision

    @property
    def elapsed_ns(self) -> int:
        """S."""
        return sum(self.figure.subwindow_ns)


def judge(case: Case) -> tuple[list[str], Grade | None]:
    """Return the codes that a figure earns under the rules of `RECOMPUTED`, and the grade that it reaches."""
    grade = grade_of(case)
    codes = [
        *_operands(case),
        *_launches(case),
        *_errors(case),
        *_length(case, grade),
        *_statistics(case),
        *_simultaneous(case),
        *_ramp(case),
        *_clocks(case),
        *_plausible(case, grade),
        *_watched(case, grade),
    ]
    return codes, grade


def core_window(case: Case) -> Window | None:
    """Return the campaign's window of the workload, if the node was there from before it until after it."""
    record, start = case.record, utc_ns(case.record.starts_at)
    for window in case.campaign.windows:
        inside = utc_ns(record.ready_at) <= start + window.opens_ns and start + window.closes_ns <= utc_ns(
            record.ended_at
        )
        if inside and (window.precision, window.choice) == (case.measurement.precision, case.measurement.choice):
            return window
    return None


def grade_of(case: Case) -> Grade | None:
    """R7: what the counted time reaches; a node that issued its own campaign reaches `standard` at most."""
    for grade, least_ns in GRADES:
        if case.elapsed_ns >= least_ns and not (grade == "certification" and case.campaign.self_issued):
            return grade
    return None


def _operands(case: Case) -> Iterator[str]:
    m = case.measurement
    whole = m.operand_sets * (m.m * m.k + m.k * m.n) * ITEM_BYTES[m.precision]
    least = 2 * case.model.cache_bytes if case.model.cache_bytes else LEAST_OPERANDS[case.model.kind]
    if m.operand_sets < 2 or m.operand_bytes < least or m.operand_bytes > whole:
        yield "operands-in-cache"


def _launches(case: Case) -> Iterator[str]:
    if case.figure.launches % 30:
        yield "unequal-subwindows"
    elif case.figure.launches < 120:
        yield "launch-too-long"


def _errors(case: Case) -> Iterator[str]:
    f, half = case.figure, case.measurement.precision in ("fp16", "bf16")
    row_most, rms_most, rms_good, rms_least = (
        (3_500_000, 1_100_000, 650_000, 200_000) if half else (4_000_000, 1_000_000, 1_000_000, 1)
    )
    row, rms = f.row_error_ppm, f.rms_error_ppm
    if row is None or rms is None or row > row_most or rms > rms_most:
        yield "wrong-product"
    elif rms < rms_least:
        yield "operands-not-random"
    else:
        if f.verified_launches < case.measurement.operand_sets:
            yield "products-not-verified"
        if rms > rms_good:
            yield "reduced-precision-reduction"


def _length(case: Case, grade: Grade | None) -> Iterator[str]:
    wanted = case.profile.grade
    if case.campaign.self_issued and wanted == "certification":
        wanted = "standard"
    if grade is None:
        yield "window-too-short"
    elif ORDER.index(grade) < ORDER.index(wanted):
        yield "below-profile"


def _statistics(case: Case) -> Iterator[str]:
    f, profile, rates = case.figure, case.profile, case.rates
    if min(f.subwindow_over_ns):
        yield "statistics-differ"
        return
    wished = profile.window_ns // (30 * profile.launches_per_subwindow)
    remainder = 30 * max(case.elapsed_ns // f.launches, wished)
    if 4 * (f.covered_until_ns - f.counted_until_ns) > 5 * remainder:
        yield "remainder-too-long"
        return
    stated = (f.sustained_mflop_s, f.certified_mflop_s, f.upper_mflop_s)
    if rates is None or stated != (rates.sustained_mflop_s, rates.certified_mflop_s, rates.upper_mflop_s):
        yield "statistics-differ"
        return
    if rates.rho * 10**6 // 1 > 500_000:  # in whole millionths, as it is recorded
        yield "autocorrelated"
    if 10 * rates.certified_mflop_s < 9 * rates.sustained_mflop_s:
        yield "wide-interval"


def _simultaneous(case: Case) -> Iterator[str]:
    f, clock, window = case.figure, case.record.clock, core_window(case)
    length = window.closes_ns - window.opens_ns if window else -1
    if not 0 <= f.opened_ns <= f.counted_until_ns <= f.covered_until_ns <= length:
        yield "outside-window"
        return
    known = clock.uncertainty_ns is not None and not (clock.source == "self" and not case.campaign.self_issued)
    if not known or (clock.source == "fake" and not case.model.simulated):
        yield "clock-unknown"
        return
    uncertain = clock.uncertainty_ns or 0
    if uncertain > SECOND_NS:
        yield "clock-uncertain"
    if 100 * (f.covered_until_ns - f.opened_ns - 2 * uncertain) < 99 * length:
        yield "not-simultaneous"


def _ramp(case: Case) -> Iterator[str]:
    if (window := core_window(case)) is None:
        return
    loaded = window.opens_ns - case.figure.warmup_ns
    late = loaded - (window.load_ns + case.slot_ns + case.place * case.profile.stagger_ns)
    if late > 2 * SECOND_NS:
        yield "late-load"
    elif late < -2 * SECOND_NS:
        yield "ramp-not-kept"


def _clocks(case: Case) -> Iterator[str]:
    f, elapsed = case.figure, case.elapsed_ns
    if f.event_over_ns is not None and 100 * abs(f.event_over_ns) > elapsed:
        yield "event-clock-disagrees"
    if 100 * (abs(f.counted_until_ns - f.opened_ns - elapsed) - 50_000_000) > elapsed:
        yield "utc-clock-disagrees"


def flop_per_clock(case: Case) -> int | None:
    """Return how much a device does in one clock at most: of the units reported and rated, the fewer."""
    if case.rating is None:
        return None
    each = case.rating.flop_per_clock_per_unit(case.measurement.precision)
    units = [n for n in (case.model.units, case.rating.units) if n is not None]
    return each * min(units) if each is not None and units else None


def _plausible(case: Case, grade: Grade | None) -> Iterator[str]:
    f, rating, precision = case.figure, case.rating, case.measurement.precision
    unchecked = "plausibility-unproven" if grade == "certification" else "plausibility-not-checked"
    rate, power = f.sustained_mflop_s, f.power_mean_mw
    if rating is None:
        yield unchecked
    else:
        base, nominal, work = (
            rating.rating_clock_mhz(precision),
            rating.nominal_mflop_s(precision),
            flop_per_clock(case),
        )
        # no board boosts more than a quarter above its rating clock, whatever it reports
        most = base * 5 // 4 if base else None
        highest = _least(case.model.max_clock_mhz, most)
        seen = _least(f.clock_max_mhz, most)
        silicon = None if work is None or highest is None else rate > work * highest
        observed = None if work is None or seen is None or f.samples < 60 else 100 * rate > 102 * work * seen
        if silicon:
            yield "above-silicon-ceiling"
        if observed:
            yield "above-observed-clock-ceiling"
        if nominal is not None and rate > nominal:
            over, under = (seen, base) if seen and base and seen > base else (1, 1)
            if 100 * rate * under <= 110 * nominal * over:
                yield "above-nominal"
            else:
                yield "above-rating" if rating.confidence == "high" else "rating-doubtful"
        fast = nominal is not None and 2 * rate >= nominal
        if fast and power is not None and rating.tdp_mw is not None and 4 * power < rating.tdp_mw:
            yield "power-too-low"
        if _ratio_impossible(case, rating):
            yield "precision-ratio-impossible"
        if None in (silicon, observed, nominal):
            yield unchecked
    if f.power_counter_mw is not None and power is not None and 10 * abs(f.power_counter_mw - power) > power:
        yield "energy-disagrees"


def _ratio_impossible(case: Case, rating: Rating) -> bool:
    """Return whether FP16 and FP64 of one device stand further apart than four times what its silicon does."""
    mine = case.measurement.precision
    if mine not in ("fp16", "fp64"):
        return False
    other: Precision = "fp64" if mine == "fp16" else "fp16"
    beside = case.other_rates.get(other)
    a, b = rating.flop_per_clock_per_unit(mine), rating.flop_per_clock_per_unit(other)
    if a is None or b is None:
        a, b = rating.nominal_mflop_s(mine), rating.nominal_mflop_s(other)
    return None not in (a, b, beside) and case.figure.sustained_mflop_s * (b or 0) > 4 * (beside or 0) * (a or 0)


def _watched(case: Case, grade: Grade | None) -> Iterator[str]:
    f = case.figure
    for count, code in (
        (f.ecc_uncorrected, "ecc-errors"),
        (f.foreign_processes, "foreign-process"),
        (f.throttled_ppm, "throttled"),
    ):
        if count:
            yield code
    if case.model.kind == "cpu":
        return
    if grade in (None, "smoke"):
        if f.samples < 2:
            yield "telemetry-incomplete"
        return
    if f.samples * SECOND_NS < case.elapsed_ns or (f.coverage_ppm or 0) < 950_000:
        yield "telemetry-incomplete"
    elif None in (f.power_mean_mw, f.temperature_max_c, f.clock_mean_mhz, f.throttled_ppm, f.foreign_processes):
        yield "telemetry-not-exposed"
    if f.ecc_uncorrected is None:
        yield "ecc-unknown"


def _least(a: int | None, b: int | None) -> int | None:
    return a if b is None else None if a is None else min(a, b)
