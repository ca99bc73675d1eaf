"""The run rules R1 to R14 as judgements: what each fact of a node record is worth (docs/run-rules.md).

One function for each rule, in order, each a pure function of values that yields reason codes; the effect of a code
(note, hold, void) stands in ``configs/reasons.yaml``. R8 and R9 are the exact statistics of ``bench.record``; R12 is
``certify.judge.plausibility``; R2 is for an auditor, who makes the operands anew. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from bench.record import (
    COMPANION_ROLES,
    GRADES,
    ITEM_BYTES,
    MINIMUM_WINDOW_NS,
    SUBWINDOWS,
    Campaign,
    Companion,
    CompanionFigure,
    DeviceModel,
    Figure,
    Grade,
    Measurement,
    NodeRecord,
    Precision,
    Profile,
    Window,
    Workload,
    bounds_above,
    least_operand_bytes,
)
from bench.units import gemm_mflop, utc_ns
from certify.judge import plausibility
from certify.policy.ratings import Rating, plain

SECOND_NS = 10**9
ACCUMULATION = {"fp16": "fp32", "bf16": "fp32", "fp32": "fp32", "fp64": "fp64"}  # R1
MIN_COVERAGE_PPM = 990_000  # R10
SLOT_NS = 2 * SECOND_NS  # R10: a launch that was going on, and a busy host, may put off a load by so much
MAX_CLOCK_DISAGREEMENT_PPM = 10_000  # R11
UTC_READING_NS = 50_000_000  # R11: resolution allowed to two readings of the UTC clock
MAX_AUTOCORRELATION_PPM = 500_000  # R9
MIN_TELEMETRY_COVERAGE_PPM = 950_000  # R13
MAX_PATH_DISAGREEMENT_PPM = 20_000  # R5: of two independent libraries on one device
MAX_ENERGY_DISAGREEMENT_PPM = 100_000  # R12: power readings are averages over up to a second
SMOKE_MIN_SAMPLES = 2  # R13
SELF_ISSUED_CAP: Grade = "standard"  # docs/formats.md
SWITCHED_OFF = frozenset({"off"})  # R1
LEAST_PATH_PARTS = 4  # R5: a path that ran for less than this part of its time was not measured
# The vendor of each kind of device that is one vendor's (`bench.devices`): profiles speak of kinds, ratings of vendors.
VENDORS = {
    "cuda": "NVIDIA",
    "rocm": "AMD",
    "npu": "Huawei",
    "mlu": "Cambricon",
    "dcu": "Hygon",
    "musa": "Moore Threads",
    "maca": "MetaX",
    "corex": "Iluvatar CoreX",
    "kunlun": "Kunlunxin",
}
KINDS = {plain(vendor): name for name, vendor in VENDORS.items()}


Codes = tuple[str, ...]


class ResidualLimits(NamedTuple):
    """R5's bounds in millionths of its unit: u for 16-bit outputs, u(sqrt k + sqrt n) for FP32 and FP64."""

    row_ppm: int
    rms_ppm: int  # above: suspicious
    rms_void_ppm: int  # above: void
    rms_least_ppm: int  # below: no rounding of random products is that small; constants or zeros were multiplied


class Setting(NamedTuple):
    """What the figures of one measurement on one device model share. Made by `setting_of`."""

    record: NodeRecord
    measurement: Measurement
    model: DeviceModel
    rating: Rating | None
    profile: Profile
    self_issued: bool
    window: Window | None  # the campaign's for the workload, None where the record cannot have run in one
    slot_ns: int  # the node's ramp slot
    wanted: Grade  # of the campaign's profile, with the cap on self-issued campaigns
    limits: ResidualLimits
    companions: Mapping[str, Codes]  # kernels that the profile wants beside the figures, by kind of device
    larger: tuple[int, ...]  # m n k of the registered shapes that are larger
    places: Mapping[str, int]  # of the node's devices, in their order (R10)
    codes: Codes  # of the rules that look at nothing else


class Case(NamedTuple):
    """One device's figure with everything that the rules look at."""

    setting: Setting
    figure: Figure
    elapsed_ns: int  # S: the host time of all counted launches
    grade: Grade | None  # what the numbers reach (R7), None below all grades
    other_rates: Mapping[Precision, int]  # sustained MFLOP/s of the same device by precision (R12)
    beside: Sequence[Standing]  # what was measured beside the device's fixed figure of this precision


def setting_of(
    record: NodeRecord, measurement: Measurement, model: DeviceModel, rating: Rating | None, plan: Plan
) -> Setting:
    """Return what the figures of a measurement share, and judge what needs no figure (R1, R3, R4)."""
    m = measurement
    return Setting(
        record,
        m,
        model,
        rating,
        plan.profile,
        plan.campaign.self_issued,
        window_of(record, plan.campaign, m.workload),
        plan.campaign.slot_ns(record.node_id),
        capped(plan.profile.grade, plan.campaign.self_issued),
        residual_limits(m.precision, m.m, m.n, m.k),
        {kind: names for kind in plan.profile.kernels if (names := plan.profile.companions_of(kind, m.workload))},
        tuple(size for s in plan.profile.registered(m.workload) if (size := s.m * s.n * s.k) > m.m * m.n * m.k),
        {device.device: place for place, device in enumerate(record.devices)},
        (
            *r1_native_arithmetic(record, m, model),
            *r3_operands_beyond_cache(m, model),
            *r4_registered(m, plan),
        ),
    )


class Plan(NamedTuple):
    """How the campaign said that everything is measured."""

    campaign: Campaign
    profile: Profile


class Standing(NamedTuple):
    """One companion's result on one device, and what it was."""

    companion: Companion
    figure: CompanionFigure


def standing_of(record: NodeRecord) -> dict[tuple[str, Precision], list[Standing]]:
    """Return what was measured beside the figures of a record, by device and precision."""
    found: dict[tuple[str, Precision], list[Standing]] = {}
    for companion in record.companions:
        for figure in companion.figures():
            found.setdefault((figure.device, companion.precision), []).append(Standing(companion, figure))
    return found


def judge(
    setting: Setting,
    figure: Figure,
    other_rates: Mapping[Precision, int],
    beside: Sequence[Standing] = (),
) -> tuple[list[str], Grade | None]:
    """Return the reason codes of one figure under all rules, in the order of the rules, and the grade it reaches."""
    elapsed_ns = SUBWINDOWS * figure.subwindow_min_ns + sum(figure.subwindow_over_ns)
    case = Case(setting, figure, elapsed_ns, grade_of(elapsed_ns, setting.self_issued), other_rates, beside)
    codes = list(setting.codes)
    for rule in FIGURE_RULES:
        codes += rule(case)
    return codes, case.grade


def window_of(record: NodeRecord, campaign: Campaign, workload: Workload) -> Window | None:
    """Return a campaign's window for a workload, None where the record cannot have run in one."""
    starts_ns = utc_ns(record.starts_at)
    from_ns, until_ns = utc_ns(record.ready_at) - starts_ns, utc_ns(record.ended_at) - starts_ns
    for window in campaign.windows:
        if window.workload == workload and from_ns <= window.opens_ns and window.closes_ns <= until_ns:
            return window
    return None


def capped(grade: Grade, self_issued: bool) -> Grade:
    """Return a grade with the cap on self-issued campaigns (docs/formats.md)."""
    return min(grade, SELF_ISSUED_CAP, key=GRADES.index) if self_issued else grade


def grade_of(elapsed_ns: int, self_issued: bool) -> Grade | None:
    """Return the grade that so much counted time reaches (R7); a self-issued campaign reaches `standard` at most."""
    for grade, minimum in MINIMUM_WINDOW_NS.items():
        if elapsed_ns >= minimum:
            return capped(grade, self_issued)
    return None


def identity(keys: Collection[str], model: DeviceModel) -> Codes:
    """docs/formats.md: a device without any stable identity counts 0; what nobody can check says so."""
    if not keys:
        return ("no-identity",)
    known = {model.obtained.get(key.partition(":")[0], "asserted") for key in keys}
    if "device_attested" in known:
        return ("attestation-unchecked",)
    return () if "host_attested" in known else ("identity-asserted",)


def kind(device: str, model: DeviceModel, rating: Rating | None) -> Codes:
    """R12: a device's name, kind and vendor belong together, so that no rule of another kind applies to it."""
    named = device.partition(":")[0]
    if model.kind == "cpu":
        differs = rating is not None or (named in VENDORS and not model.simulated)
    else:
        own = KINDS.get(plain(model.vendor))  # None where the vendor has no kind of its own: then neither has the name
        differs = not model.simulated and (named == "cpu" or own != (named if named in VENDORS else None))
    return ("kind-differs",) if differs else ()


def r1_native_arithmetic(record: NodeRecord, m: Measurement, model: DeviceModel) -> Codes:
    """R1: dense, accumulated as claimed, native; up-casting only on CPUs; no reduced-precision switch left on."""
    codes = []
    if m.accumulate != ACCUMULATION[m.precision]:
        codes.append("accumulation-differs")
    if m.method == "upcast":
        codes.append("upcast" if model.kind == "cpu" and m.precision in ("fp16", "bf16") else "upcast-not-allowed")
    switches = record.environment.switches
    if not switches or any(state not in SWITCHED_OFF for state in switches.values()):  # nothing recorded is no proof
        codes.append("reduced-precision-switch")
    return tuple(codes)


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


def r5_products_verified(case: Case) -> Codes:
    """R5: every operand set verified while timing, and every error within its bound."""
    f, limits = case.figure, case.setting.limits
    if is_wrong(f, limits):
        return ("wrong-product",)
    if is_constant(f, limits):
        return ("operands-not-random",)
    codes = ("products-not-verified",) if f.verified_launches < case.setting.measurement.operand_sets else ()
    return (*codes, "reduced-precision-reduction") if (f.rms_error_ppm or 0) > limits.rms_ppm else codes


def is_wrong(f: Figure | CompanionFigure, limits: ResidualLimits) -> bool:
    """Return whether a product was wrong: NaN, Inf or stale, or an error beyond its bound."""
    if f.row_error_ppm is None or f.rms_error_ppm is None:
        return True
    return f.row_error_ppm > limits.row_ppm or f.rms_error_ppm > limits.rms_void_ppm


def is_constant(f: Figure | CompanionFigure, limits: ResidualLimits) -> bool:
    """Return whether the errors are smaller than those of any random product."""
    return f.rms_error_ppm is not None and f.rms_error_ppm < limits.rms_least_ppm


def residual_limits(precision: Precision, m: int, n: int, k: int) -> ResidualLimits:
    """Return the bounds of R5 for one shape. Derived and simulated in ``docs/residuals.md``."""
    if precision in ("fp16", "bf16"):
        return ResidualLimits(3_500_000, 650_000, 1_100_000, 200_000)
    return ResidualLimits(4_000_000, 1_000_000, 1_000_000, 1)


def r6_steady(case: Case) -> Codes:
    """R6: under load for the warm-up, and no trend in throughput, temperature or clock when the window opened."""
    warmed = case.figure.warmup_ns * 2 >= case.setting.profile.warmup_ns
    return () if warmed and case.figure.warmup_end == "steady" else ("not-steady",)


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


def r12_plausible(case: Case) -> Codes:
    """R12: nothing above what the silicon, its clock and its rating allow; what cannot be checked is said."""
    f, model = case.figure, case.setting.model
    facts = plausibility.Facts(
        precision=case.setting.measurement.precision,
        rate_mflop_s=f.sustained_mflop_s,
        units=model.units,
        max_clock_mhz=model.max_clock_mhz,
        clock_max_mhz=f.clock_max_mhz,
        clock_samples=f.samples,
        power_mean_mw=f.power_mean_mw,
        fp16_mflop_s=case.other_rates.get("fp16"),
        fp64_mflop_s=case.other_rates.get("fp64"),
    )
    return (*plausibility.check(facts, case.setting.rating, case.grade or "smoke"), *_above_ceiling(case))


def _above_ceiling(case: Case) -> Codes:
    """R12: not faster, clock for clock, than the silicon was seen to issue beside it, with right results.

    A note: a kernel of ours that does not reach the silicon must not cost a centre its figure.
    """
    f, wanted = case.figure, wanted_beside(case)
    if not wanted:
        return ()
    beside = [s.figure for s in case.beside if s.companion.role != "path" and s.companion.kernel in wanted]
    codes = ("companion-wrong",) if any(b.exact is False for b in beside) else ()
    ceilings = [(b.rate_mflop_s, b.clock_mean_mhz) for b in beside if b.exact and b.rate_mflop_s and b.clock_mean_mhz]
    if not ceilings or f.clock_mean_mhz is None:
        return codes
    # rate / clock of the figure against each: one of the kernels reaches the silicon, the others need not
    above = all(f.sustained_mflop_s * clock * 100 > rate * f.clock_mean_mhz * 102 for rate, clock in ceilings)
    return (*codes, "above-measured-ceiling") if above else codes


def r12_energy(case: Case) -> Codes:
    """R12: the device's energy counter and its power readings tell of one device."""
    counter, mean = case.figure.power_counter_mw, case.figure.power_mean_mw
    if counter is None or mean is None:
        return ()
    return ("energy-disagrees",) if abs(counter - mean) * 10**6 > MAX_ENERGY_DISAGREEMENT_PPM * mean else ()


def wanted_beside(case: Case) -> Codes:
    """Return the kernels that the profile wants beside a figure."""
    wanted = case.setting.companions
    return wanted.get(case.figure.device.partition(":")[0], ()) if wanted else ()


def r5_paths_agree(case: Case) -> Codes:
    """R5: the second path to the same product, where the profile names one, is right and agrees within 2 %."""
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
        apart = abs((there.rate_mflop_s or 0) - sustained)
        if apart * 10**6 > MAX_PATH_DISAGREEMENT_PPM * sustained:
            codes.append("paths-disagree")
    return tuple(dict.fromkeys(codes))


def r13_telemetry(case: Case) -> Codes:
    """R13: an accelerator was watched while it ran, alone, without uncorrected memory errors."""
    f, codes = case.figure, []
    if f.ecc_uncorrected:
        codes.append("ecc-errors")
    if f.foreign_processes:
        codes.append("foreign-process")
    if f.throttled_ppm:
        codes.append("throttled")
    if case.setting.model.kind != "cpu":
        if case.grade in (None, "smoke"):
            complete = f.samples >= SMOKE_MIN_SAMPLES
        else:
            complete = f.samples * SECOND_NS >= case.elapsed_ns and (f.coverage_ppm or 0) >= MIN_TELEMETRY_COVERAGE_PPM
            watched = (f.power_mean_mw, f.temperature_max_c, f.clock_mean_mhz, f.throttled_ppm, f.foreign_processes)
            if complete and None in watched:
                codes.append("telemetry-not-exposed")
            if f.ecc_uncorrected is None:
                codes.append("ecc-unknown")
        if not complete:
            codes.append("telemetry-incomplete")
    return tuple(codes)


FIGURE_RULES: tuple[Callable[[Case], Codes], ...] = (
    r4_short_launches,
    r4_largest_shape,
    r5_products_verified,
    r5_paths_agree,
    r6_steady,
    r7_window,
    r9_statistics,
    r10_simultaneous,
    r10_ramp,
    r11_clocks_agree,
    r12_plausible,
    r12_energy,
    r13_telemetry,
)
