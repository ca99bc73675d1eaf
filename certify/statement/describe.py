"""What a record, a statement and a verification say, in lines for people on a terminal. Nothing is computed here."""

from __future__ import annotations

from collections.abc import Sequence

from bench.errors import one_line
from bench.language import Language, text_in
from bench.record import (
    Campaign,
    Choice,
    Figure,
    Measurement,
    NodeRecord,
    PoolClass,
    Precision,
    Profile,
    ReferenceFigure,
    ReferenceMeasurement,
    Workload,
)
from bench.record.judged import Explained, Judged
from bench.terminal.summary import cells, padded
from bench.units import efficiency, full_name, percent_text, rate_text, truncated
from certify.documents.statement import CapacityStatement, CeilingLine, ClassLine, StepLine, Totals
from certify.judge.case import MeasurementPlan
from certify.judge.ceilings import bound_of
from certify.judge.identities import identity_codes, record_codes
from certify.judge.rules import figures_of
from certify.judge.telemetry import has_foreign_load
from certify.policy.ratings import installed_ratings
from certify.policy.reasons import effect_of
from certify.policy.verdict_lines import coded, describe_verdict, meaning_lines
from certify.statement.bounds import bound_text, bounds_text
from certify.statement.brought.words import evidence_lines_in
from certify.statement.paper.summary import summary_of
from certify.statement.paper.verdict_rows import SINGLE_FACILITY, fabric_details, fabric_headline, headline_code

SHOWN = 5  # names of nodes, of thousands
PROVES_NOTHING = {
    "simulated": "SIMULATED: measured on simulated devices; it proves nothing about capacity.",
    "smoke": "SMOKE: a test of the installation; it proves nothing about capacity.",
    "nothing": "NOTHING COUNTS: no figure met the rules; it proves nothing about capacity.",
}


# What a line of the kinds above is a case of.
WARNING_CODES = {"simulated": "simulated", "smoke": "smoke-grade", "nothing": "nothing-counted"}


def judge_record(record: NodeRecord, campaign: Campaign, profile: Profile) -> Judged:
    """Return what the rules make of a record's figures, before any centre or policy is known."""
    explained: Judged = {}
    figures = figures_of(record, installed_ratings(), MeasurementPlan(campaign, profile))
    of_node = record_codes(record)
    for device in record.devices:
        model = record.models[device.model]
        crowded = ["too-many-parts"] if device.device in figures.crowded else []
        device_codes = (*of_node, *identity_codes(device, model), *crowded)
        for workload, judged in figures.judged[device.device].items():
            judgement = judged.judgement
            effects = {code: effect_of(code) for code in (*device_codes, *judgement.codes)}
            bound = bound_of(judgement.limit)
            explained[device.device, str(workload)] = Explained(effects, judgement.step, *bound)
    return explained


def describe_record(record: NodeRecord, judged: Judged) -> list[str]:
    """Return a record's figures, what bounds them and what the rules say; a void figure is not called certified."""
    lines = []
    for measurement in record.measurements:
        for figure in measurement.figures():
            effects, step, limit, most = judged[figure.device, str(measurement.workload)]
            codes = [f"{code} ({effect})" for code, effect in effects.items()]
            lower = "VOID" if "void" in effects.values() else rate_text(figure.certified_mflop_s)
            lines += [
                f"{figure.device:9} {measurement.workload!s:10}"
                f"  certified {lower:>14}"
                f"  sustained {rate_text(figure.sustained_mflop_s):>14}"
                f"  {measurement.m} x {measurement.n} x {measurement.k}{_per_watt(figure)}",
                f"    {bound_text(step, limit, most)}",
                f"    {', '.join(codes) or 'clean'}",
                *_foreign_load_lines(record, measurement, figure),
            ]
    for reference in record.companions:
        for result in reference.figures():
            lines.append(f"{result.device:9} {reference.precision:10}  {_reference_text(reference, result)}")
    lines += [
        f"{f.device:9} {Workload(f.precision, f.choice)!s:10}  {f.code}: {f.detail or ''}".rstrip()
        for f in record.failures
    ]
    return lines


def _foreign_load_lines(record: NodeRecord, m: Measurement, figure: Figure) -> list[str]:
    (device,) = (device for device in record.devices if device.device == figure.device)
    if record.models[device.model].kind != "cpu" or not has_foreign_load(m):
        return []
    other_processes, hypervisor = percent_text(m.other_load_ppm), percent_text(m.steal_ppm)
    return [f"    of the CPUs' time other processes used {other_processes}, the hypervisor {hypervisor}"]


def _per_watt(figure: Figure) -> str:
    rate = efficiency(figure.sustained_mflop_s, figure.power_mean_mw)
    return "" if rate is None else f"  {rate_text(rate)}/W"


def _reference_text(reference: ReferenceMeasurement, figure: ReferenceFigure) -> str:
    """Return the result of one reference measurement, which never counts."""
    name = f"reference: {reference.kernel} ({reference.role})"
    if figure.trouble is not None:
        return f"{name}: not measured, {figure.trouble}"
    rate = rate_text(figure.rate_mflop_s)
    if figure.rate_mb_s is not None:
        rate = f"{truncated(figure.rate_mb_s, 1000, 1)} GB/s"
    clock = "" if figure.clock_mean_mhz is None else f" at {figure.clock_mean_mhz} MHz"
    return f"{name}: {rate}{clock}"


def warnings_of(statement: CapacityStatement) -> list[str]:
    """Return the keys of `PROVES_NOTHING` that hold for a statement."""
    kinds = {
        "simulated": statement.simulated,
        "smoke": statement.grade == "smoke",
        "nothing": not any(line.counted.devices for line in statement.classes),  # a witness may yet make it count
    }
    return [kind for kind, holds in kinds.items() if holds]


def describe_statement(statement: CapacityStatement, witnessed: bool = False, lang: Language = "en") -> list[str]:
    """Return a statement's figures, verdicts and gaps.

    Args:
        statement: to be described.
        witnessed: whether a witness of this statement is known, so that what needs one counts.
        lang: of the lines.
    """
    lines = [
        title_line(statement, lang),
        grade_line(statement, lang),
        *_campaign_lines(statement, lang),
        *warning_lines(statement, lang),
        *(sentence[lang] for sentence in summary_of(statement)),
    ]
    for line in statement.classes:
        what = class_name(line.pool_class, line.precision, line.choice, lang)
        lines += [
            coded(text_in(lang, "statement_lines", "counted", what=what, count=line.counted.devices), "counted-sum"),
            *_totals(line.counted, lang),
            *_evidence_lines(line, witnessed, lang),
        ]
        if line.untested.devices or line.nodes_missing:
            devices, nodes = line.untested.devices, line.nodes_missing
            missing = text_in(lang, "statement_lines", "counted-nothing", devices=devices, nodes=nodes)
            lines.append(coded(f"  {missing}", "counted-nothing"))
    for shown in statement.shown:
        of_pool = f"{shown.pool} {workload_text(shown.precision, shown.choice, lang)}"
        not_counted = text_in(lang, "statement_lines", "shown", what=of_pool, count=shown.shown.devices)
        lines.append(coded(not_counted, "shown-not-counted"))
        lines += _totals(shown.shown, lang)
    lines += evidence_lines_in(statement.evidence, lang)
    lines += [coded(_ceiling_text(one, lang), "binding-limit") for one in statement.ceilings]
    if len(statement.classes) > 1:
        lines.append(coded(_total_text(statement, lang), "mixed-share"))
    share = percent_text(statement.bookkeeping.intelligent_share_ppm)
    lines.append(coded(text_in(lang, "statement_lines", "share", share=share), "mixed-share"))
    for verdict in statement.verdicts:
        lines += describe_verdict(verdict, lang)
        if verdict.condition == SINGLE_FACILITY:
            headline = fabric_headline(statement.fabric, lang)
            lines.append(coded(f"  {headline}", headline_code(statement.fabric)))
    lines += meaning_lines(statement.verdicts, lang)
    if (fabric := statement.fabric) is not None:
        if not any(verdict.condition == SINGLE_FACILITY for verdict in statement.verdicts):
            lines.append(coded(fabric_headline(fabric, lang), headline_code(fabric)))
        lines += [coded(what, code) for what, code in fabric_details(fabric, lang, SHOWN)]
    held = [f"{f.code} x {f.devices} ({f.workload})" for f in statement.findings if f.effect in ("hold", "void")]
    if held:
        lines.append(text_in(lang, "statement_lines", "held", codes=", ".join(held)))
    return lines


def _total_text(statement: CapacityStatement, lang: Language) -> str:
    """Return the sum across classes with its parts, which differ in precision."""
    parts = " + ".join(
        f"{class_name(line.pool_class, line.precision, line.choice, lang)} {rate_text(line.counted.certified_mflop_s)}"
        for line in statement.classes
    )
    total = rate_text(statement.bookkeeping.certified_mflop_s)
    return text_in(lang, "statement_lines", "total", count=len(statement.classes), total=total, parts=parts)


def title_line(statement: CapacityStatement, lang: Language) -> str:
    """Return which statement of which centre it is."""
    centre, sequence = statement.centre, statement.issue.sequence
    title = text_in(
        lang, "statement_lines", "title", centre=centre.centre_id, zh=centre.name.zh, en=centre.name.en, number=sequence
    )
    return one_line(title)


def grade_line(statement: CapacityStatement, lang: Language) -> str:
    """Return a statement's grade and until when it is valid."""
    grade, until = f"grade-{statement.grade or 'none'}", statement.issue.valid_until
    return coded(
        text_in(lang, "statement_lines", "grade", grade=text_in(lang, "statement_lines", grade), until=until),
        "statement-grade",
    )


def warning_lines(statement: CapacityStatement, lang: Language) -> list[str]:
    """Return why a statement proves nothing, if so."""
    return [coded(text_in(lang, "warning", kind), WARNING_CODES[kind]) for kind in warnings_of(statement)]


def class_name(pool_class: PoolClass, precision: Precision, choice: Choice, lang: Language) -> str:
    """Return a class and what counts in it, such as "intelligent fp16"."""
    return f"{text_in(lang, 'class_code', pool_class)} {workload_text(precision, choice, lang)}"


def workload_text(precision: Precision, choice: Choice, lang: Language) -> str:
    """Return a workload's name, and of a solve what it is: never the HPL of a machine."""
    workload = Workload(precision, choice)
    return f"{workload} ({text_in(lang, 'choice', f'{choice}-note')})" if workload.is_solve else str(workload)


def absent_nodes(statement: CapacityStatement) -> dict[str, list[str]]:
    """Return the nodes without a record by the reason that the operator gives."""
    explained: dict[str, list[str]] = {}
    for entry in statement.not_counted:
        if entry.device is None:
            explained.setdefault(entry.codes[0], []).append(entry.node_id)
    return explained


def _campaign_lines(statement: CapacityStatement, lang: Language) -> list[str]:
    campaign = statement.campaign
    if campaign.self_issued:
        return []
    ramp = text_in(lang, "statement_lines", "ramp", seconds=f"{campaign.ramp_ns / 1e9:g}") if campaign.ramp_ns else ""
    what = text_in(
        lang,
        "statement_lines",
        "campaign",
        campaign=campaign.campaign_id,
        starts=f"{statement.starts_at}{ramp}",
        records=statement.records,
        nodes=len(campaign.nodes),
    )
    lines = [coded(what, "one-start")]
    for attempt in campaign.earlier:
        outcome = text_in(lang, "attempt", attempt.outcome)
        before, opened = attempt.campaign_id, attempt.issued_at
        what = text_in(lang, "statement_lines", "attempt", campaign=before, opened=opened, outcome=outcome)
        lines.append(coded(f"  {what}", "attempt-before"))
    for code, nodes in absent_nodes(statement).items():
        lines.append(f"  {code}: {names_text(nodes, lang)}")
    return lines


def names_text(names: Sequence[str], lang: Language, shown: int = SHOWN) -> str:
    """Return the first of many names, and how many more there are."""
    rest = len(names) - shown
    first = ", ".join(names[:shown])
    return text_in(lang, "statement_lines", "and-more", names=first, count=rest) if rest > 0 else first


def _totals(totals: Totals, lang: Language) -> list[str]:
    nominal = rate_text(totals.nominal_mflop_s)
    if totals.devices_without_rating == totals.devices:
        nominal = text_in(lang, "total", "none")
    certified, sustained = rate_text(totals.certified_mflop_s), rate_text(totals.sustained_mflop_s)
    rows = (
        (("certified", certified), ("sustained", sustained)),
        (("upper", rate_text(totals.upper_mflop_s)), ("nominal", nominal)),
    )
    wide = max(cells(text_in(lang, "total", name)) for name in ("certified", "sustained", "upper", "nominal"))
    return [
        "  "
        + "   ".join(f"{padded(text_in(lang, 'total', name), wide)} {padded(rate, 14, True)}" for name, rate in row)
        for row in rows
    ]


def _evidence_lines(line: ClassLine, witnessed: bool, lang: Language) -> list[str]:
    """Return what a class's sum rests on, what of it no platform schedules, and what a witness adds to it."""
    lines = []
    if line.steps:
        steps = text_in(lang, "statement_lines", "steps", steps=steps_text(line.steps))
        lines.append(coded(f"  {steps}", "evidence-steps"))
    if never := line.counted.never_scheduled_mflop_s:
        what = text_in(lang, "statement_lines", "never-scheduled", rate=rate_text(never))
        lines.append(coded(f"  {what}", "never-scheduled"))
    if line.with_witness.devices:
        lines.append(coded(f"  {witness_text(line.with_witness, witnessed, lang)}", "needs-witness"))
    return lines


def steps_text(steps: tuple[StepLine, ...]) -> str:
    """Return the certified sum on each step of evidence."""
    return ", ".join(f"{one.step} {rate_text(one.certified_mflop_s)} ({one.devices})" for one in steps)


def witness_text(totals: Totals, witnessed: bool, lang: Language = "en") -> str:
    """Return what a witness of the statement adds to a sum, or would add."""
    key, rate = ("witnessed" if witnessed else "needs-witness"), rate_text(totals.certified_mflop_s)
    return text_in(lang, "statement_lines", key, rate=rate, devices=totals.devices)


def _ceiling_text(line: CeilingLine, lang: Language) -> str:
    return text_in(
        lang,
        "statement_lines",
        "ceiling",
        what=f"{line.pool} {workload_text(line.precision, line.choice, lang)}",
        figures=line.figures,
        model=one_line(full_name(line.vendor, line.model)),
        counted=line.counted,
        bound=bounds_text(line.step, line.limit, line.least_mflop_s, line.figures, lang),
    )
