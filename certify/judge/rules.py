"""The run rules R1 to R15 in their order: what each fact of a node record is worth (docs/run-rules.md).

Each rule is one or more functions of its number, pure functions of values that yield reason codes; they stand by what
they look at: `products` (R1 to R5, R15), `timing` (R6 to R11), `plausibility` and `identities` (R12), `telemetry`
(R13); R14 stands here. What a centre, its pools and its policies make of the figures is `certify.judge.tally`'s to add.
The effect of a code (note, hold, void) stands in ``configs/reasons.yaml``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from bench.record import SUBWINDOWS, DeviceModel, Figure, Measurement, NodeRecord, Precision, Workload
from certify.judge import plausibility, products, telemetry, timing
from certify.judge.case import (
    Case,
    Codes,
    Judgement,
    MeasurementPlan,
    Reference,
    Setting,
    capped,
    grade_of,
    kind_of,
    references_of,
    residual_limits,
    window_of,
)
from certify.judge.ceilings import WHOLE, model_limits
from certify.judge.parts import PARTS, RatedModel, Whole, too_many_parts, wholes_of
from certify.policy.ratings import Ratings


def setting_of(
    record: NodeRecord,
    measurement: Measurement,
    model: DeviceModel,
    row: RatedModel,
    plan: MeasurementPlan,
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
    larger = (s.m * s.n * s.k for s in plan.profile.registered_for(m.workload, model.units))
    return Setting(
        record=record,
        measurement=m,
        model=model,
        row=row,
        highest_mflop_s=highest_mflop_s,
        limits_of_model=model_limits(
            m.computed, model.units, model.max_clock_mhz, row.rating, highest_mflop_s, row.share or WHOLE
        ),
        profile=plan.profile,
        self_issued=plan.campaign.self_issued,
        window=window_of(record, plan.campaign, m.workload),
        slot_ns=plan.campaign.slot_ns(record.node_id),
        wanted=capped(plan.profile.grade, plan.campaign.self_issued),
        limits=residual_limits(m.precision, m.choice),
        reference_kernels={
            kind: names for kind in plan.profile.kernels if (names := plan.profile.references_of(kind, m.workload))
        },
        larger=tuple(size for size in larger if size > m.m * m.n * m.k),
        places={device.device: place for place, device in enumerate(record.devices)},
        timed=timed,
        unreadable=products.UNREADABLE in record.environment.switches.values(),
        codes=(  # once for a measurement: they look at no figure
            *row.codes,
            *products.r1_native_arithmetic(record, m, model),
            *products.r3_operands_beyond_cache(m, model),
            *products.r4_registered(m, plan),
            *plausibility.r12_announced(record, row.rating),
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
    references: Sequence[Reference] = (),
    whole: Whole | None = None,
) -> Judgement:
    """Judge one figure under all rules, in their order."""
    elapsed_ns = SUBWINDOWS * figure.subwindow_min_ns + sum(figure.subwindow_over_ns)
    grade = grade_of(elapsed_ns, setting.wanted)
    facts = plausibility.facts_of(setting, figure, references)
    bounds = plausibility.ceilings_of(setting, facts, whole)
    case = Case(setting, figure, elapsed_ns, grade, other_rates, references, facts, bounds, whole)
    codes = list(setting.codes)
    for rule in FIGURE_RULES:
        if broken := rule(case):  # most rules say nothing of most figures
            codes += broken
    return Judgement(codes, grade, bounds.step, plausibility.lowest_limit(case))


# In this order the codes of a figure stand in signed statements: to change it is to change what a verifier recomputes.
# R2 stands before R5, and R8 before R9, which say nothing of a figure where those do.
FIGURE_RULES: tuple[Callable[[Case], Codes], ...] = (
    products.r1_switches_readable,
    products.r1_kernel_exists,
    products.r4_short_launches,
    products.r4_largest_shape,
    products.r4_every_core,
    products.r4_optimised_blas,
    products.r2_operands_random,
    products.r5_products_verified,
    products.r5_paths_agree,
    timing.r6_steady,
    timing.r7_window,
    timing.r8_whole_window,
    timing.r9_statistics,
    timing.r10_simultaneous,
    timing.r10_ramp,
    timing.r11_clocks_agree,
    plausibility.r12_ceilings,
    plausibility.r12_power,
    plausibility.r12_ratio,
    plausibility.r12_possible,
    plausibility.r12_references,
    plausibility.r12_energy,
    telemetry.r13_telemetry,
    products.r15_solutions_verified,
)


class JudgedMeasurement(msgspec.Struct, frozen=True, gc=False):
    """One figure with what the rules made of it."""

    setting: Setting
    figure: Figure
    judgement: Judgement


class RecordFigures(NamedTuple):
    """The figures of one record."""

    rows: tuple[RatedModel, ...]  # of the record's models, in their order
    crowded: frozenset[str]  # devices that are more parts of one unit than it has
    judged: dict[str, dict[Workload, JudgedMeasurement]]  # by device
    failures: dict[str, dict[Workload, str]]  # by device


def r14_failures(record: NodeRecord) -> dict[str, dict[Workload, str]]:
    """R14: return why devices gave no figure, by device and workload: each counts 0, and stops no other device."""
    failures: dict[str, dict[Workload, str]] = {}
    for failure in record.failures:
        failures.setdefault(failure.device, {})[Workload(failure.precision, failure.choice)] = failure.code
    return failures


def figures_of(record: NodeRecord, ratings: Ratings, plan: MeasurementPlan) -> RecordFigures:
    """Return a record's figures, each judged with everything that the rules look at."""
    rows = tuple(plausibility.row_of(model, ratings) for model in record.models)
    highest = {m.computed: ratings.highest_mflop_s(m.computed) for m in record.measurements}
    model_of = {device.device: device.model for device in record.devices}
    timed = timed_kinds(record)
    measured: dict[str, dict[Workload, tuple[Setting, Figure]]] = {name: {} for name in model_of}
    rates: dict[tuple[str, str], dict[Precision, int]] = {}  # of one choice of shape: like is compared with like
    for measurement in record.measurements:
        settings: dict[int, Setting] = {}
        workload = measurement.workload
        for figure in measurement.figures():
            index = model_of[figure.device]
            if index not in settings:
                settings[index] = setting_of(
                    record, measurement, record.models[index], rows[index], plan, highest[workload.computed], timed
                )
            measured[figure.device].setdefault(workload, (settings[index], figure))
            rates.setdefault((figure.device, workload.choice), {})[workload.precision] = figure.sustained_mflop_s
    references = references_of(record)
    wholes: dict[tuple[str, Workload], Whole] = {}
    if any(model.count_unit in PARTS for model in record.models):
        wholes = wholes_of(
            record,
            rows,
            {d: {w: f for w, (_, f) in figures.items()} for d, figures in measured.items()},
            highest,
        )
    return RecordFigures(
        rows,
        too_many_parts(record, rows),
        {
            device: {
                workload: JudgedMeasurement(
                    setting,
                    figure,
                    judge(
                        setting,
                        figure,
                        rates[device, workload.choice],
                        references.get((device, workload.computed), ()) if references else (),
                        wholes.get((device, workload)) if wholes else None,
                    ),
                )
                for workload, (setting, figure) in figures.items()
            }
            for device, figures in measured.items()
        },
        r14_failures(record),
    )
