"""R12 on one figure: its row of the ratings, its limits (`ceilings`), and facts that no device has."""

from __future__ import annotations

from collections.abc import Sequence

from bench.record import DeviceModel, Figure, NodeRecord, Precision, Workload
from certify.judge import ceilings
from certify.judge.case import VENDORS, Case, Codes, Reference, Setting, reference_kernels
from certify.judge.ceilings import WHOLE, CeilingFacts, Ceilings, Issued, RateLimit
from certify.judge.parts import RatedModel, Whole, share_of
from certify.policy.rating import Rating, plain
from certify.policy.ratings import Ratings

OTHER_PRECISION: dict[Precision, Precision] = {"fp16": "fp64", "fp64": "fp16"}  # R12: compared on one device
MAX_ENERGY_DISAGREEMENT_PPM = 100_000  # R12: power readings are averages over up to a second


def row_of(model: DeviceModel, ratings: Ratings) -> RatedModel:
    """Return a device model's row, and judge what the record says of the model against it (R12)."""
    rating = ratings.match(
        model.vendor, model.model, model.memory_bytes, model.count_unit, simulated=model.simulated, plays=model.plays
    )
    share = share_of(model, rating)
    if model.kind == "cpu":
        return RatedModel(rating, share, ())
    codes = ["share-unknown"] if model.count_unit == "slice" and share is None else []
    if rating is None or rating.kind == "cpu":  # a processor's row gives nominal rates alone
        return RatedModel(rating, share, tuple(codes))
    if model.count_unit == "die" and rating.part != "die":
        codes.append("die-not-rated")
    # a driver that gives every card of a family one name gives the bin too: both must lead to one row
    named = ratings.match(model.vendor, model.bin, model.memory_bytes, model.count_unit) if model.bin else None
    if named is not None and named.accelerator != rating.accelerator:
        codes.append("bin-differs")
    # a slice has a share of the memory that no table lists
    if model.count_unit != "slice" and model.memory_bytes and not rating.fits_memory(model.memory_bytes):
        codes.append("memory-differs")
    whole = rating.whole()
    if model.units and whole.units is not None:
        units = whole.units if share is None or model.count_unit == "slice" else whole.units * share.part // share.of
        if model.units != units and (model.units > units or model.count_unit != "slice"):
            codes.append("units-above-row" if model.units > units else "units-below-row")
    return RatedModel(whole, share, tuple(codes))


def lowest_limit(case: Case) -> RateLimit | None:
    """Return the limit of R12 that binds a figure; of a part that of its unit in proportion, where that is lower."""
    binding, whole = case.ceilings.binding, case.whole
    unit = None if whole is None else whole.ceilings.binding
    if whole is None or unit is None or not whole.rate_mflop_s:
        return binding
    part = unit._replace(mflop_s=unit.mflop_s * case.figure.sustained_mflop_s // whole.rate_mflop_s)
    return part if binding is None or part.mflop_s < binding.mflop_s else binding


def ceilings_of(setting: Setting, facts: CeilingFacts, whole: Whole | None = None) -> Ceilings:
    """Return all limits of R12 that exist for one figure by itself."""
    model, m, row = setting.model, setting.measurement, setting.row
    if model.kind == "cpu":
        return ceilings.cpu_ceilings(m.computed, m.method, model.instruction_set, model.units, model.max_clock_mhz)
    if whole is None:
        return ceilings.figure_limits(facts, setting.limits_of_model)
    return ceilings.ceilings(facts, row.rating, setting.highest_mflop_s, row.share or WHOLE, lone=False)


def facts_of(setting: Setting, figure: Figure, references: Sequence[Reference] = ()) -> CeilingFacts:
    """Return the facts of a device that bound its figure (R12)."""
    issued: list[Issued] = []
    if references:  # what was measured beside the fixed figure bounds the tuned one too
        fixed = Workload(setting.measurement.computed, "fixed")
        wanted = setting.profile.references_of(figure.device.partition(":")[0], fixed)
        issued = [
            Issued(b.rate_mflop_s, b.clock_mean_mhz)
            for b in (s.figure for s in references if s.measurement.kernel in wanted)
            if b.exact and b.rate_mflop_s and b.clock_mean_mhz
        ]
    return CeilingFacts(
        setting.measurement.computed,
        figure.sustained_mflop_s,
        setting.model.units,
        setting.model.max_clock_mhz,
        figure.clock_max_mhz,
        figure.clock_mean_mhz,
        figure.clock_samples,
        tuple(issued),
    )


def r12_announced(record: NodeRecord, rating: Rating | None) -> Codes:
    """R12: no device was measured before the year in which its row was announced; T0 says when it was measured."""
    year = None if rating is None else rating.year
    return ("before-first-year",) if isinstance(year, int) and int(record.starts_at[:4]) < year else ()


def r12_ceilings(case: Case) -> Codes:
    """R12: nothing above what silicon, clocks, ratings and publications allow, alone and with all parts of its unit."""
    setting, limits = case.setting, case.ceilings
    codes = limits.passed(case.figure.sustained_mflop_s)
    if case.whole is not None:
        codes += tuple(c for c in case.whole.ceilings.passed(case.whole.rate_mflop_s) if c not in codes)
    if setting.model.kind == "cpu":
        return codes
    row = setting.row
    return codes + ceilings.notes(case.facts, row.rating, limits, row.share or WHOLE)


def r12_power(case: Case) -> Codes:
    """R12: a power that a device can take, and at which it can compute so fast; parts are judged by their unit's."""
    f, whole, row = case.figure, case.whole, case.setting.row
    rate, power, most = (f.sustained_mflop_s, f.power_mean_mw, f.power_mean_mw)
    if whole is not None:
        rate, power, most = whole.rate_mflop_s, whole.power_mean_mw, whole.power_most_mw
    codes: Codes = ("power-with-parent",) if whole is not None and whole.power_with_parent else ()
    is_processor = "cpu" in (case.setting.model.kind, row.rating.kind if row.rating else None)
    if row.rating is None or power is None or most is None or is_processor:
        return codes
    if whole is None and row.share not in (None, WHOLE):  # what a lone part does, as if all parts of its unit did so
        rate, power, most = (value * row.share.of // row.share.part for value in (rate, power, most))
    # boards run above their rated power for moments, and none by half for a whole window
    if row.rating.tdp_mw is not None and power * 2 > row.rating.tdp_mw * 3:
        codes += ("power-impossible",)
    low = ceilings.power_too_low(case.setting.measurement.computed, rate, most, row.rating)
    return (*codes, "power-too-low") if low else codes


def r12_ratio(case: Case) -> Codes:
    """R12: the FP16 and FP64 rates of one device fit its silicon."""
    precision, rating = case.setting.measurement.precision, case.setting.row.rating
    other = OTHER_PRECISION.get(precision)
    if rating is None or other is None:
        return ()
    rate, other_rate = case.figure.sustained_mflop_s, case.other_rates.get(other)
    impossible = other_rate is not None and ceilings.ratio_impossible(precision, rate, other, other_rate, rating)
    return ("precision-ratio-impossible",) if impossible else ()


def r12_possible(case: Case) -> Codes:
    """R12: no fact that no device and no clock gives."""
    f, rating, codes = case.figure, case.setting.row.rating, []
    highest = None if rating is None or case.setting.model.kind == "cpu" else rating.highest_clock_mhz
    # drivers round: a hundredth above the highest clock is no other device
    if highest is not None and (f.clock_max_mhz or 0) * 100 > highest * 101:
        codes.append("clock-impossible")
    if f.row_error_ppm is not None and f.rms_error_ppm is not None and f.row_error_ppm + 1 < f.rms_error_ppm:
        codes.append("errors-impossible")  # the largest of many errors is no smaller than their mean square's root
    # each verified launch is one under load: the loaded time holds no more of them than it holds launches
    loaded_ns = f.warmup_ns + f.covered_until_ns - f.opened_ns
    if (f.verified_launches - 1) * case.elapsed_ns * 100 > f.launches * loaded_ns * 101:
        codes.append("verified-impossible")
    if f.duty_ppm == 0:
        codes.append("duty-zero")
    # where others of the kind gave event times, these were left out
    if f.event_over_ns is None and f.device.partition(":")[0] in case.setting.timed:
        codes.append("events-missing")
    return tuple(codes)


def r12_references(case: Case) -> Codes:
    """R12: every rate of issue or bandwidth that the profile wants as a reference gave right results."""
    wanted = reference_kernels(case)
    references = [s.figure for s in case.references if s.measurement.role != "path" and s.measurement.kernel in wanted]
    return ("companion-wrong",) if any(b.exact is False for b in references) else ()


def r12_energy(case: Case) -> Codes:
    """R12: the device's energy counter agrees with its power readings within 10 %; some releases of AMD's are wrong."""
    counter, mean = case.figure.power_counter_mw, case.figure.power_mean_mw
    if counter is None or mean is None:
        return ()
    if abs(counter - mean) * 10**6 <= MAX_ENERGY_DISAGREEMENT_PPM * mean:
        return ()
    is_amd = plain(case.setting.model.vendor) == plain(VENDORS["rocm"])
    return ("energy-counter-doubtful",) if is_amd else ("energy-disagrees",)
