"""The run rules R1 to R14 as judgements: what each fact of a node record is worth (docs/run-rules.md).

One function for each rule, in order, each a pure function of values that yields reason codes; the effect of a code
(note, hold, void) stands in ``configs/reasons.yaml``. R8 and R9 are the exact statistics of ``bench.record``; R12 is
``certify.judge.ceilings``; R2 is for an auditor, who makes the operands anew. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bench.record import (
    COMPANION_ROLES,
    GRADES,
    ITEM_BYTES,
    SUBWINDOWS,
    Device,
    DeviceModel,
    Figure,
    Grade,
    Measurement,
    NodeRecord,
    Precision,
    bounds_above,
    least_operand_bytes,
    window_trend,
)
from bench.record.identities import own_identities
from bench.units import gemm_mflop
from certify.judge.case import (
    KINDS,
    SECOND_NS,
    VENDORS,
    Case,
    Codes,
    Judgement,
    Plan,
    Reference,
    Setting,
    capped,
    grade_of,
    is_constant,
    is_wrong,
    kind_of,
    residual_limits,
    wanted_beside,
    window_of,
)
from certify.judge.cpu import MOST_CORES
from certify.judge.identities import has_other_form, is_incomplete
from certify.judge.parts import Row, Whole
from certify.judge.plausibility import (
    ceilings_of,
    facts_of,
    lowest_limit,
    r12_announced,
    r12_beside,
    r12_ceilings,
    r12_energy,
    r12_possible,
    r12_power,
    r12_ratio,
)
from certify.judge.software import (
    UNREADABLE,
    is_same_library,
    r1_kernel_exists,
    r1_native_arithmetic,
    r1_switches_readable,
)
from certify.judge.telemetry import r13_telemetry
from certify.policy.ratings import Rating, plain

MIN_COVERAGE_PPM = 990_000  # R10
SLOT_NS = 2 * SECOND_NS  # R10: a launch that was going on, and a busy host, may put off a load by so much
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
MAX_PATH_DISAGREEMENT_PPM = 20_000  # R5: of two independent libraries on one device
STEERED = frozenset({"kernel", "chrony", "ptp"})  # R10: what knows a clock within some bound, never exactly
MAX_DEVICES = 64  # R12: 8 cards in 8 partitions each; no server holds more
LEAST_PATH_PARTS = 4  # R5: a path that ran for less than this part of its time was not measured


def setting_of(
    record: NodeRecord,
    measurement: Measurement,
    model: DeviceModel,
    row: Row,
    plan: Plan,
    highest_mflop_s: int | None = None,
    timed: frozenset[str] = frozenset(),
) -> Setting:
    """Return what the figures of a measurement share, and judge what needs no figure (R1, R3, R4, R12's row).

    Args:
        record: of one node.
        measurement: of the record.
        model: of the devices.
        row: of the model.
        plan: of the campaign.
        highest_mflop_s: the table's highest rating of the precision.
        timed: kinds of device that gave event times somewhere in the record (`timed_kinds`).
    """
    m = measurement
    return Setting(
        record,
        m,
        model,
        row,
        highest_mflop_s,
        plan.profile,
        plan.campaign.self_issued,
        window_of(record, plan.campaign, m.workload),
        plan.campaign.slot_ns(record.node_id),
        capped(plan.profile.grade, plan.campaign.self_issued),
        residual_limits(m.precision, m.m, m.n, m.k),
        {kind: names for kind in plan.profile.kernels if (names := plan.profile.companions_of(kind, m.workload))},
        tuple(
            size
            for s in plan.profile.registered_for(m.workload, model.units)
            if (size := s.m * s.n * s.k) > m.m * m.n * m.k
        ),
        {device.device: place for place, device in enumerate(record.devices)},
        timed,
        UNREADABLE in record.environment.switches.values(),
        (
            *row.codes,
            *r1_native_arithmetic(record, m, model),
            *r3_operands_beyond_cache(m, model),
            *r4_registered(m, plan),
            *r12_announced(record, row.rating),
        ),
    )


def timed_kinds(record: NodeRecord) -> frozenset[str]:
    """Return the kinds of device that gave event times somewhere in a record."""
    return frozenset(
        kind_of(device)
        for one in record.measurements
        for device, over_ns in zip(one.device, one.event_over_ns, strict=True)
        if over_ns is not None
    )


def judge(
    setting: Setting,
    figure: Figure,
    other_rates: Mapping[Precision, int],
    beside: Sequence[Reference] = (),
    whole: Whole | None = None,
) -> Judgement:
    """Judge one figure under all rules, in their order."""
    elapsed_ns = SUBWINDOWS * figure.subwindow_min_ns + sum(figure.subwindow_over_ns)
    grade = grade_of(elapsed_ns, setting.wanted)
    facts = facts_of(setting, figure, beside)
    found = ceilings_of(setting, facts, whole)
    case = Case(setting, figure, elapsed_ns, grade, other_rates, beside, facts, found, whole)
    codes = list(setting.codes)
    for rule in FIGURE_RULES:
        codes += rule(case)
    return Judgement(codes, grade, found.step, lowest_limit(case))


def identity(device: Device, model: DeviceModel) -> Codes:
    """docs/formats.md: without a stable identity of its own a device counts 0; an unverifiable one is a note."""
    own = own_identities(device)
    if not own:
        return ("no-identity",)
    codes: Codes = ("identity-incomplete",) if is_incomplete(own, model) else ()
    codes += ("identity-form-differs",) if has_other_form(own, model) else ()
    known = {model.obtained.get(name, "asserted") for name in own}
    if "device_attested" in known:
        return (*codes, "attestation-unchecked")
    return codes if "host_attested" in known else (*codes, "identity-asserted")


def whole_record(record: NodeRecord) -> Codes:
    """What is wrong with all devices of a record: identities that are made up (R2, formats.md), or too many (R12)."""
    return (*(("identities-replaced",) if record.identities_replaced else ()), *crowd(record))


def crowd(record: NodeRecord) -> Codes:
    """R12: no node has more than 64 accelerators, partitions included, nor more than 64 CPUs or 2,048 cores of them."""
    cpus = [model.units or 1 for d in record.devices if (model := record.models[d.model]).kind == "cpu"]
    # One CPU alone is judged as 2,048 cores at most (L7); several together are no more.
    too_many = max(len(cpus), len(record.devices) - len(cpus)) > MAX_DEVICES or (
        len(cpus) > 1 and sum(cpus) > MOST_CORES
    )
    return ("too-many-devices",) if too_many else ()


def kind(device: str, model: DeviceModel, rating: Rating | None) -> Codes:
    """R12: a device's name, kind and vendor belong together, so that no rule of another kind applies to it."""
    named = kind_of(device)
    if model.kind == "cpu":
        other = rating is not None and rating.kind != "cpu"
        differs = other or (named in VENDORS and not model.simulated)
    else:
        own = KINDS.get(plain(model.vendor))  # None where the vendor has no kind of its own: then neither has the name
        differs = not model.simulated and (named == "cpu" or own != (named if named in VENDORS else None))
        differs |= rating is not None and rating.kind == "cpu"
    return ("kind-differs",) if differs else ()


def r3_operands_beyond_cache(m: Measurement, model: DeviceModel) -> Codes:
    """R3: at least two operand sets, as large as their shape says, together at least twice the last-level cache."""
    if m.operand_bytes > m.operand_sets * (m.m * m.k + m.k * m.n) * ITEM_BYTES[m.precision]:
        return ("operands-in-cache",)
    least = least_operand_bytes(model)
    return ("operands-in-cache",) if m.operand_sets < 2 or m.operand_bytes < least else ()


def r4_registered(m: Measurement, plan: Plan) -> Codes:
    """R4: a shape that the profile lists for the workload, by the kernel that it names for the kind of device."""
    shapes = plan.profile.registered(m.workload)
    codes = () if any((m.m, m.n, m.k) == (s.m, s.n, s.k) for s in shapes) else ("shape-not-registered",)
    kernels = [plan.profile.kernels.get(device.partition(":")[0]) for device in m.device]
    other = any(kernel is not None and kernel.figure != m.kernel for kernel in kernels)
    return (*codes, "kernel-not-registered") if other else codes


def r4_short_launches(case: Case) -> Codes:
    """R4: in equal sub-windows, one launch at most a quarter of one."""
    launches = case.figure.launches
    if launches % SUBWINDOWS:
        return ("unequal-subwindows",)
    return ("launch-too-long",) if launches < 4 * SUBWINDOWS else ()


def r4_largest_shape(case: Case) -> Codes:
    """R4: the fixed shape is the largest that is short enough, if memory allows; on accelerators rates grow with it."""
    setting, f = case.setting, case.figure
    m, profile = setting.measurement, setting.profile
    if not setting.larger or m.choice != "fixed" or setting.model.kind == "cpu":
        return ()
    longest_ns = profile.window_ns // (SUBWINDOWS * profile.launches_per_subwindow)
    # twice as long as its rate says: what would have been short enough by far, and was not taken
    passed_over = 2 * case.elapsed_ns * min(setting.larger) <= longest_ns * f.launches * m.m * m.n * m.k
    return ("smaller-shape",) if passed_over else ()


def r4_every_core(case: Case) -> Codes:
    """R4: a processor's figure is that of all cores that may be used; fewer threads make it low."""
    threads, model = case.figure.threads, case.setting.model
    fewer = model.kind == "cpu" and threads is not None and threads < (model.units or 0)
    return ("threads-below-cores",) if fewer else ()


def r5_products_verified(case: Case) -> Codes:
    """R5: every operand set verified while timing, and every error within its bound."""
    f, limits = case.figure, case.setting.limits
    if is_wrong(f, limits):
        return ("wrong-product",)
    if is_constant(f, limits):
        return ("operands-not-random",)
    codes = ("products-not-verified",) if f.verified_launches < case.setting.measurement.operand_sets else ()
    return (*codes, "reduced-precision-reduction") if (f.rms_error_ppm or 0) > limits.rms_ppm else codes


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


def r9_statistics(case: Case) -> Codes:
    """R8 and R9: the record's three rates are what its own 30 numbers give."""
    m, f = case.setting.measurement, case.figure
    if min(f.subwindow_over_ns):
        return ("statistics-differ",)
    if (f.covered_until_ns - f.counted_until_ns) * 4 > longest_remainder_ns(case) * 5:
        return ("remainder-too-long",)
    bounds = bounds_above(gemm_mflop(m.m, m.n, m.k, f.launches), f.subwindow_min_ns, f.subwindow_over_ns)
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
    if abs(late_ns) <= SLOT_NS:
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


def r5_paths_agree(case: Case) -> Codes:
    """R5: the second path to the same product, where the profile names one, is right, and the figure is not above it.

    Where the path is faster by more than 2 %, the figure is low. A path through the same library as the figure's is no
    second one, and says so; it is held against the figure all the same.
    """
    setting, sustained = case.setting, case.figure.sustained_mflop_s
    wanted = wanted_beside(case)
    if not wanted:
        return ()
    codes: list[str] = []
    found = {s.companion.kernel: s.figure for s in case.beside}
    for name in wanted:
        there = found.get(name)
        absent = there is None or there.trouble is not None
        if name in COMPANION_ROLES:
            codes += ["companion-missing"] if absent else []
            continue
        if there is None or absent or there.elapsed_ns * LEAST_PATH_PARTS < setting.profile.companion_ns:
            codes.append("path-missing")
            continue
        if is_wrong(there, setting.limits) or is_constant(there, setting.limits):
            codes.append("path-wrong")
        if is_same_library(setting.record, setting.measurement.kernel, name):
            codes.append("same-library")
        above = (there.rate_mflop_s or 0) - sustained
        if abs(above) * 10**6 > MAX_PATH_DISAGREEMENT_PPM * sustained:
            codes.append("second-path-faster" if above > 0 else "paths-disagree")
    return tuple(dict.fromkeys(codes))


FIGURE_RULES: tuple[Callable[[Case], Codes], ...] = (
    r1_switches_readable,
    r1_kernel_exists,
    r4_short_launches,
    r4_largest_shape,
    r4_every_core,
    r5_products_verified,
    r5_paths_agree,
    r6_steady,
    r7_window,
    r9_statistics,
    r10_simultaneous,
    r10_ramp,
    r11_clocks_agree,
    r12_ceilings,
    r12_power,
    r12_ratio,
    r12_possible,
    r12_beside,
    r12_energy,
    r13_telemetry,
)
