"""What a record, a statement and a verification say, in lines for people on a terminal. Nothing is computed here."""

from __future__ import annotations

from bench.record import (
    Campaign,
    Figure,
    Measurement,
    NodeRecord,
    Profile,
    ReferenceFigure,
    ReferenceMeasurement,
    Workload,
)
from bench.record.judged import Explained, Judged
from bench.units import efficiency, full_name, percent_text, rate_text, shortened_list, truncated
from certify.documents.statement import CapacityStatement, CeilingLine, ClassLine, StepLine, Totals
from certify.judge.case import MeasurementPlan
from certify.judge.ceilings import bound_of
from certify.judge.identities import identity_codes, record_codes
from certify.judge.rules import figures_of
from certify.judge.telemetry import has_foreign_load
from certify.policy.ratings import installed_ratings
from certify.policy.reasons import effect_of
from certify.policy.verdicts import BasisVerdict, Growth, Verdict
from certify.statement.bounds import bound_text

SHOWN = 5  # names of nodes, of thousands
PROVES_NOTHING = {
    "simulated": "SIMULATED: measured on simulated devices; it proves nothing about capacity.",
    "smoke": "SMOKE: a test of the installation; it proves nothing about capacity.",
    "nothing": "NOTHING COUNTS: no figure met the rules; it proves nothing about capacity.",
}


# What a line of the kinds above is a case of.
WARNING_CODES = {"simulated": "simulated", "smoke": "smoke-grade", "nothing": "nothing-counted"}


def coded(line: str, code: str) -> str:
    """Return a printed line with the code that leads to its rule."""
    return f"{line} [{code}]"


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


def describe_statement(statement: CapacityStatement, witnessed: bool = False) -> list[str]:
    """Return a statement's figures, verdicts and gaps.

    Args:
        statement: to be described.
        witnessed: whether a witness of this statement is known, so that what needs one counts.
    """
    centre, issue = statement.centre, statement.issue
    lines = [
        f"{centre.centre_id} ({centre.name.zh} {centre.name.en}), statement {issue.sequence}",
        coded(f"grade {statement.grade or 'none'}, valid until {issue.valid_until}", "statement-grade"),
        *_campaign_lines(statement),
        *(coded(PROVES_NOTHING[kind], WARNING_CODES[kind]) for kind in warnings_of(statement)),
    ]
    for line in statement.classes:
        workload = Workload(line.precision, line.choice)
        lines += [
            coded(f"{line.pool_class} {workload}: {line.counted.devices} device(s) counted", "counted-sum"),
            *_totals(line.counted),
            *_evidence_lines(line, witnessed),
        ]
        if line.untested.devices or line.nodes_missing:
            missing = f"  counted 0: {line.untested.devices} device(s); nodes missing: {line.nodes_missing}"
            lines.append(coded(missing, "counted-nothing"))
    for shown in statement.shown:
        workload = Workload(shown.precision, shown.choice)
        what = f"{shown.pool} {workload}: {shown.shown.devices} device(s) shown, not counted"
        lines.append(coded(what, "shown-not-counted"))
        lines += _totals(shown.shown)
    lines += [coded(_ceiling_text(one), "binding-limit") for one in statement.ceilings]
    share = percent_text(statement.bookkeeping.intelligent_share_ppm)
    lines.append(coded(f"share of intelligent compute: {share}", "mixed-share"))
    for verdict in statement.verdicts:
        lines += describe_verdict(verdict)
    held = [f"{f.code} x {f.devices} ({f.workload})" for f in statement.findings if f.effect in ("hold", "void")]
    if held:
        lines.append(f"held or void: {', '.join(held)}; see petaseal explain CODE")
    return lines


def absent_nodes(statement: CapacityStatement) -> dict[str, list[str]]:
    """Return the nodes without a record by the reason that the operator gives."""
    explained: dict[str, list[str]] = {}
    for entry in statement.not_counted:
        if entry.device is None:
            explained.setdefault(entry.codes[0], []).append(entry.node_id)
    return explained


def _campaign_lines(statement: CapacityStatement) -> list[str]:
    campaign = statement.campaign
    if campaign.self_issued:
        return []
    ramp = f", ramp {campaign.ramp_ns / 1e9:g} s" if campaign.ramp_ns else ""
    what = (
        f"campaign {campaign.campaign_id}: all nodes at {statement.starts_at}{ramp}; {statement.records} of"
        f" {len(campaign.nodes)} expected nodes have a record"
    )
    lines = [coded(what, "one-start")]
    for attempt in campaign.earlier:
        what = f"  attempt before: {attempt.campaign_id}, opened at {attempt.issued_at}, {attempt.outcome}"
        lines.append(coded(what, "attempt-before"))
    for code, nodes in absent_nodes(statement).items():
        lines.append(f"  {code}: {shortened_list(nodes, SHOWN)}")
    return lines


def _totals(totals: Totals) -> list[str]:
    nominal = "none" if totals.devices_without_rating == totals.devices else rate_text(totals.nominal_mflop_s)
    certified, sustained = rate_text(totals.certified_mflop_s), rate_text(totals.sustained_mflop_s)
    return [
        f"  certified {certified:>14}   sustained {sustained:>14}",
        f"  upper     {rate_text(totals.upper_mflop_s):>14}   nominal   {nominal:>14}",
    ]


def _evidence_lines(line: ClassLine, witnessed: bool) -> list[str]:
    """Return what a class's sum rests on, what of it no platform schedules, and what a witness adds to it."""
    lines = [coded(f"  by step of evidence: {steps_text(line.steps)}", "evidence-steps")] if line.steps else []
    if never := line.counted.never_scheduled_mflop_s:
        what = f"  never scheduled, for nothing known bounds it: {rate_text(never)}"
        lines.append(coded(what, "never-scheduled"))
    if line.with_witness.devices:
        lines.append(coded(f"  {witness_text(line.with_witness, witnessed)}", "needs-witness"))
    return lines


def steps_text(steps: tuple[StepLine, ...]) -> str:
    """Return the certified sum on each step of evidence."""
    return ", ".join(f"{one.step} {rate_text(one.certified_mflop_s)} ({one.devices})" for one in steps)


def witness_text(totals: Totals, witnessed: bool) -> str:
    """Return what a witness of the statement adds to a sum, or would add."""
    said = f"{rate_text(totals.certified_mflop_s)} ({totals.devices} device(s))"
    return f"counts with the witness: +{said}" if witnessed else f"counts nothing without a witness: {said}"


def _ceiling_text(line: CeilingLine) -> str:
    figures = f"{line.figures} figure(s) of {full_name(line.vendor, line.model)}, {line.counted} not held or void"
    bound = bound_text(line.step, line.limit, line.least_mflop_s)
    return f"{line.pool} {Workload(line.precision, line.choice)}: {figures}; {bound}"


def describe_verdict(verdict: Verdict) -> list[str]:
    """Return one verdict with what decides it."""
    reason = f": {verdict.reason}" if verdict.reason else ""
    status = " (if issued as drafted)" if verdict.document_status == "draft" else ""
    first = f"{verdict.policy}/{verdict.condition}: {verdict.verdict}{reason}{status}"
    lines = [
        *(coded(line, "verdict-growth") for line in growth_lines(verdict)),
        *(coded(line, "verdict-bases") for line in bases_lines(verdict)),
        *(coded(line, "verdict-missing") for line in missing_lines(verdict)),
    ]
    return [first, *(f"  {line}" for line in lines)]


def missing_lines(verdict: Verdict) -> list[str]:
    """Return what nodes without a record could add to the values that a verdict compares; none where all have one."""
    if not verdict.nodes_missing:
        return []
    nodes = f"{verdict.nodes_missing} node{'' if verdict.nodes_missing == 1 else 's'} without a record"
    if verdict.missing_at_most_mflop_s is None:
        return [f"nobody knows what {nodes} could add"]
    return [f"{nodes} could add at most {rate_text(verdict.missing_at_most_mflop_s)}"]


def growth_lines(verdict: Verdict) -> list[str]:
    """Return the lines under "newly added": the baseline, the new devices, and the net growth; none elsewhere."""
    if (growth := verdict.growth) is None:
        return []
    before = "nothing, as is declared"
    if growth.baseline_devices:
        before = f"{growth.baseline_devices} device(s), {growth.still_present_devices} of them still there"
    added = f"newly added {rate_text(growth.newly_added_mflop_s)} certified"
    return [
        f"baseline: {before}; {growth.new_devices} new device(s); {added}",
        f"net growth: {net_devices(growth):+} device(s); certified {net_text(growth)}",
    ]


def net_devices(growth: Growth) -> int:
    """Return how many devices more there are now than the baseline lists."""
    return growth.still_present_devices + growth.new_devices - growth.baseline_devices


def net_text(growth: Growth) -> str:
    """Return the certified capacity now less that of the baseline."""
    if (net := growth.net_mflop_s) is None:
        return "not known: nothing says what the baseline's devices sustained"
    return f"{'-' if net < 0 else '+'}{rate_text(abs(net))}"


def bases_lines(verdict: Verdict) -> list[str]:
    """Return the values that a verdict compares and what comes of each, one line for each basis; none for no value."""
    if verdict.threshold_mflop_s is not None:
        against = f"demanded {verdict.operator} {rate_text(verdict.threshold_mflop_s)}"
        shown = [(b, _observed(b, verdict)) for b in verdict.bases]
    elif verdict.threshold_ppm is not None:
        against = f"demanded {verdict.operator} {percent_text(verdict.threshold_ppm)}"
        shown = [(b, percent_text(b.observed_ppm)) for b in verdict.bases]
    else:  # shown, and no number is demanded
        of = [(b, f"{rate_text(b.observed_mflop_s)} of {rate_text(b.whole_mflop_s)}") for b in verdict.bases]
        return [f"{b.basis}: {percent_text(b.observed_ppm)}, {parts}" for b, parts in of]
    return [f"{b.basis}: {value}; {against}: {b.verdict}{f' ({b.reason})' if b.reason else ''}" for b, value in shown]


def _observed(basis: BasisVerdict, verdict: Verdict) -> str:
    """Return the value on one basis; a missing rating is said, never shown as 0."""
    if basis.basis != "nominal" or not verdict.without_rating:
        return rate_text(basis.observed_mflop_s)
    missing = f"{verdict.without_rating} device(s) without rating"
    return f"{rate_text(basis.observed_mflop_s)} + {missing}" if basis.observed_mflop_s else missing
