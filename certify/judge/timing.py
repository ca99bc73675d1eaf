"""R6 to R11: the window, its statistics and its clocks: what a figure's own times say of it. Pure functions."""

from __future__ import annotations

from bench.record import GRADES, SUBWINDOWS, Grade, NodeRecord, bounds_above, window_trend
from bench.record.closing import Closing, bound_ns
from bench.units import work_mflop
from certify.judge.case import SECOND_NS, Case, Codes

MIN_COVERAGE_PPM = 990_000  # R10
RAMP_TOLERANCE_NS = 2 * SECOND_NS  # R10: a launch that was going on, and a busy host, may put off a load by so much
MAX_CLOCK_DISAGREEMENT_PPM = 10_000  # R11
UTC_READING_NS = 50_000_000  # R11: resolution allowed to two readings of the UTC clock
# R6: by how much the rate may move over the window, in percent and in half-widths of R9's interval
MOST_TREND: dict[Grade | None, int] = {"certification": 1, "standard": 2}
WARMUP_TRENDS = {  # R6
    "rate-trend": "warmup-rate-trend",
    "clock-trend": "warmup-clock-trend",
    "temperature-trend": "warmup-temperature-trend",
}
MAX_AUTOCORRELATION_PPM = 500_000  # R9
STEERED = frozenset({"kernel", "chrony", "ptp"})  # R10: what knows a clock within some bound, never exactly


def r6_steady(case: Case) -> Codes:
    """R6: under load for half of the warm-up at least, and no falling rate over the window.

    The bounds are those of the grade that is claimed, `standard` at most for a self-issued figure: a longer window must
    not be held where a shorter one counts.
    """
    f, codes = case.figure, []
    if f.warmup_ns * 2 < case.setting.profile.warmup_ns:
        codes.append("not-warm")
    if f.warmup_end in WARMUP_TRENDS:
        codes.append(WARMUP_TRENDS[f.warmup_end])
    most = MOST_TREND.get(case.grade)
    trend = window_trend(f.subwindow_min_ns, f.subwindow_over_ns, most) if most else None
    if trend is not None:
        codes.append("not-steady" if trend == "falling" else "still-rising")
    return tuple(codes)


def r7_window(case: Case) -> Codes:
    """R7: long enough for the grade that the campaign's profile names; a self-issued campaign's cap applies."""
    if case.grade is None:
        return ("window-too-short",)
    return ("below-profile",) if GRADES.index(case.grade) < GRADES.index(case.setting.wanted) else ()


def r8_whole_window(case: Case) -> Codes:
    """R8: work and time are those of all launches but a remainder: no slow end of the window is left uncounted."""
    f = case.figure
    uncounted_ns = f.covered_until_ns - f.counted_until_ns
    # a quarter more than the remainder may last: the launches at the end may be slower than their mean
    too_long = uncounted_ns * 4 > longest_remainder_ns(case) * 5 and not min(f.subwindow_over_ns)
    return ("remainder-too-long",) if too_long else ()


def r9_statistics(case: Case) -> Codes:
    """R9: the record's three rates are what its own 30 numbers give."""
    codes = _statistics(case)
    # where R8 is broken the rates are of other launches than the window's, and its code says so alone
    return () if codes and r8_whole_window(case) else codes


def _statistics(case: Case) -> Codes:
    m, f = case.setting.measurement, case.figure
    if 0 not in f.subwindow_over_ns:  # each time is written as what it has over the shortest
        return ("statistics-differ",)
    bounds = bounds_above(work_mflop(m.choice, m.m, m.n, m.k, f.launches), f.subwindow_min_ns, f.subwindow_over_ns)
    if (f.sustained_mflop_s, f.certified_mflop_s, f.upper_mflop_s) != bounds[:3]:
        return ("statistics-differ",)
    codes = ("autocorrelated",) if bounds.autocorrelation_ppm > MAX_AUTOCORRELATION_PPM else ()
    return (*codes, "wide-interval") if f.certified_mflop_s * 10 < f.sustained_mflop_s * 9 else codes


def longest_remainder_ns(case: Case) -> int:
    """Return how long fewer than 30 uncounted units last: a unit is one launch, or shorter than the profile's wish."""
    profile = case.setting.profile
    wish = profile.window_ns // (SUBWINDOWS * profile.launches_per_subwindow)
    return SUBWINDOWS * max(case.elapsed_ns // case.figure.launches, wish)


def r10_simultaneous(case: Case) -> Codes:
    """R10: whole launches inside the core window, which they cover to 99 % even after the clock's uncertainty."""
    f, window = case.figure, case.setting.window
    length = window.closes_ns - window.opens_ns if window else -1
    if not 0 <= f.opened_ns <= f.counted_until_ns <= f.covered_until_ns <= length:
        return ("outside-window",)
    clock = case.setting.record.clock
    uncertainty = clock.uncertainty_ns
    invented = clock.source == "fake" and not case.setting.model.simulated
    if uncertainty is None or invented or (clock.source == "self" and not case.setting.self_issued):
        return ("clock-unknown",)
    codes = ("clock-uncertain",) if uncertainty > SECOND_NS else ()
    if uncertainty == 0 and clock.source in STEERED:
        codes = ("clock-bound-zero",)
    covered = f.covered_until_ns - f.opened_ns - 2 * uncertainty
    return (*codes, "not-simultaneous") if covered * 10**6 < MIN_COVERAGE_PPM * length else codes


def r10_ramp(case: Case) -> Codes:
    """R10: loaded from its ramp slot on: before it, the step is what the ramp was to avoid; after it, it was late."""
    setting, f = case.setting, case.figure
    if setting.window is None:
        return ()
    place_ns = setting.places[f.device] * setting.profile.stagger_ns
    due_ns = setting.window.load_ns + setting.slot_ns + place_ns
    late_ns = setting.window.opens_ns - due_ns - f.warmup_ns
    if abs(late_ns) <= RAMP_TOLERANCE_NS:
        return ()
    return ("late-load",) if late_ns > 0 else ("ramp-not-kept",)


def r11_clocks_agree(case: Case) -> Codes:
    """R11: device-event time, host time and UTC agree over the counted launches."""
    f, elapsed, codes = case.figure, case.elapsed_ns, []
    if f.event_over_ns is not None and abs(f.event_over_ns) * 10**6 > MAX_CLOCK_DISAGREEMENT_PPM * elapsed:
        codes.append("event-clock-disagrees")
    off = abs(f.counted_until_ns - f.opened_ns - elapsed)
    if (off - UTC_READING_NS) * 10**6 > MAX_CLOCK_DISAGREEMENT_PPM * elapsed:
        codes.append("utc-clock-disagrees")
    return tuple(codes)


def r10_clocks_compared(record: NodeRecord, closing: Closing | None) -> Codes:
    """R10: the node's clock was compared with the coordinator's, and differs by no more than both bounds and the trip.

    The bound is the one that the node signed in its record: what it said before the start is not signed. A coordinator
    whose own clock may be off by more than a second, which is noted of a node, is no measure for the others.
    """
    exchange = None if closing is None else closing.exchanges.get(record.node_id)
    if closing is None or exchange is None:
        return ("clock-not-compared",)
    if exchange.off_ns(bound_ns(record.clock, closing.clock)):
        return ("clock-differs",)
    return ("clock-not-compared",) if bound_ns(closing.clock) > SECOND_NS else ()
