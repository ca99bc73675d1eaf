"""An audit's report for people and for machines, with the rule, the clause and the numbers of each step.

The steps of R9 are shown with the product's own functions: a reader can follow them with a pocket calculator.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import msgspec

from bench.errors import one_line
from bench.record import SUBWINDOWS
from bench.record.interval import Bounds, WindowSpread, bounds_of, spread_above
from bench.units import percent_text, rate_text, work_mflop
from certify.audit.run import AuditReport
from certify.documents.statement import PoolLine
from certify.judge.ceilings import bound_of
from certify.policy.policies import Condition, Policy, demand
from certify.policy.reasons import effect_of, reasons
from certify.policy.verdict_lines import missing_lines
from certify.policy.verdicts import Verdict
from certify.samples.summary import TelemetrySummary
from certify.statement.bounds import bound_text
from certify.statement.records import Chain

SHOWN = 30  # findings of one code for people; all that are kept are in the JSON


def lines(report: AuditReport) -> list[str]:
    """Return an audit's report as printed lines."""
    s, samples = report.statement, report.examined.samples
    signers = ", ".join(f"{keyid[:16]}…" for keyid in report.signers)
    records, with_samples = len(report.examined.seen), samples.records
    text = [
        f"statement  {report.payload_sha256}",
        f"           {s.centre.centre_id}, number {s.issue.sequence}, valid until {s.issue.valid_until}; key {signers}",
        f"records    {records:,}, of which {with_samples:,} with samples; {samples.figures:,} figures rebuilt",
        "",
    ]
    for chain in report.examined.chains:
        text += [*_chain(chain), ""]
    for pool in report.again.pools if report.again else ():
        text += [*_pool(report, pool), ""]
    for policy, condition, verdict in _conditions(report):
        text += [*_condition(report, policy, condition, verdict), ""]
    text += [f"NOT CHECKED: {what}" for what in report.not_checked]
    shown: dict[str, int] = {}
    for issue in report.issues:
        shown[issue.code] = shown.get(issue.code, 0) + 1
        if shown[issue.code] <= SHOWN:
            text.append(f"{'FOUND' if issue.weighs else 'note'}: {one_line(str(issue))}")
    for code, count in sorted(report.all_issues.counts.items()):
        if count > SHOWN:
            text.append(f"{'note' if effect_of(code) == 'note' else 'FOUND'}: [{code}] {count:,} times in all")
    if report.against:
        text.append(f"The samples do not bear the statement out: {report.against:,} finding(s).")
    else:
        text.append("Everything that was recomputed is what the statement says.")
    return text


def as_json(report: AuditReport) -> dict[str, Any]:
    """Return an audit's report as the JSON value of ``--json``."""
    s, samples = report.statement, report.examined.samples
    return {
        "at": report.at,
        "payload_sha256": report.payload_sha256,
        "signers": list(report.signers),
        "centre_id": s.centre.centre_id,
        "agrees": not report.against,
        "records": len(report.examined.seen),
        "records_with_samples": samples.records,
        "figures": samples.figures,
        # rules whose facts stand in the record alone (R2, products, R6) are judged by its word: see "not_checked"
        "recomputed": {"R1 to R13": sorted(code for code in reasons() if effect_of(code) in ("note", "hold", "void"))},
        "not_checked": list(report.not_checked),
        "findings": [
            {"code": i.code, "effect": effect_of(i.code), "where": i.where, "what": i.what} for i in report.issues
        ],
        "counts": dict(sorted(report.all_issues.counts.items())),
        "pools": {pool.pool: _pool_json(report, pool) for pool in (report.again.pools if report.again else ())},
        "verdicts": [_condition_json(report, condition, verdict) for _, condition, verdict in _conditions(report)],
        "figures_of_nodes": [_chain_json(chain) for chain in report.examined.chains],
    }


def _pool_json(report: AuditReport, pool: PoolLine) -> dict[str, Any]:
    ends = report.examined.ends.get(pool.pool)
    return {
        **msgspec.to_builtins(pool.counted),
        "steps": msgspec.to_builtins(pool.steps),
        "with_witness": msgspec.to_builtins(pool.with_witness),
        **{
            name: None
            if ends is None
            else {"certified_mflop_s": getattr(ends, name)[0], "place": getattr(ends, name)[1]}
            for name in ("smallest", "largest")
        },
    }


def _pool(report: AuditReport, pool: PoolLine) -> Iterator[str]:
    stated = next((line for line in report.statement.pools if line.pool == pool.pool), None)
    what = f"{pool.precision}, accumulate {pool.accumulate}, {pool.choice} shape"
    counted, present = pool.counted, pool.devices_found
    yield f"pool {pool.pool} ({pool.pool_class}, {what}): {counted.devices:,} of {present:,} devices count"
    for title in ("certified", "sustained", "upper", "nominal"):
        made = getattr(counted, f"{title}_mflop_s")
        stated_rate = None if stated is None else getattr(stated.counted, f"{title}_mflop_s")
        same = "as stated" if stated is not None and made == stated_rate else f"STATED {stated_rate}"
        yield f"  {title:10} {rate_text(made)} ({'n/a' if made is None else f'{made:,}'} MFLOP/s), {same}"
    stated_steps = () if stated is None else stated.steps
    for step in pool.steps:
        devices, same = f"{step.devices:,} devices", "as stated" if step in stated_steps else "NOT as stated"
        yield f"  {step.step:10} {rate_text(step.certified_mflop_s)} certified on this step, {devices}, {same}"
    if (more := pool.with_witness).devices:
        added = f"{rate_text(more.certified_mflop_s)}, {more.devices:,} devices"
        yield f"  witness    {added}: counts with a witness of the statement only"
    if never := counted.never_scheduled_mflop_s:
        yield f"  never      {rate_text(never)} of the certified sum is scheduled by no platform: nothing bounds it"
    if (ends := report.examined.ends.get(pool.pool)) is not None:
        for title, (certified_mflop_s, place) in ends._asdict().items():
            yield f"  {title:10} {place}: {certified_mflop_s:,} MFLOP/s certified"


def _conditions(report: AuditReport) -> Iterator[tuple[Policy, Condition, Verdict]]:
    """Yield each condition of the policies with the verdict that records and samples give."""
    verdicts = {(v.policy, v.condition): v for v in (report.again.verdicts if report.again else ())}
    for policy in report.policies:
        for condition in policy.judged:
            yield policy, condition, verdicts[policy.policy, condition.condition]


def _because(reason: str | None) -> str:
    return f" ({reason})" if reason else ""


def _condition(report: AuditReport, policy: Policy, c: Condition, verdict: Verdict) -> Iterator[str]:
    drafted = "draft: as if issued as drafted" if policy.document.status == "draft" else "in force"
    yield f"{policy.policy}/{c.condition} ({c.clause.ref}): {c.clause.text}  [{drafted}]"
    yield f"  demands    {demand(c)}"
    for line in verdict.bases:
        seen = f"{line.observed_mflop_s:,} MFLOP/s,"
        if verdict.operator is None:
            against = f"of {line.whole_mflop_s:,}: {percent_text(line.observed_ppm)}, nothing is demanded"
        elif line.whole_mflop_s is not None:
            wanted = f"{verdict.operator} {percent_text(verdict.threshold_ppm)}"
            against = f"of {line.whole_mflop_s:,}, demanded {wanted}"
        else:
            against = f"demanded {verdict.operator} {verdict.threshold_mflop_s:,}"
        yield f"  {line.basis:10} {seen} {against}: {line.verdict}{_because(line.reason)}"
    if verdict.untested_nominal_mflop_s:
        without = f"{verdict.without_rating:,} devices without a rating"
        yield f"  count 0    devices rated {rate_text(verdict.untested_nominal_mflop_s)}; {without}"
    for text in missing_lines(verdict):
        yield f"  missing    {text}"
    stated = {(v.policy, v.condition): v for v in report.statement.verdicts}.get((policy.policy, c.condition))
    stated_text = "; STATED nothing" if stated is None else f"; STATED {stated.verdict}{_because(stated.reason)}"
    if stated is not None and (stated.verdict, stated.reason) == (verdict.verdict, verdict.reason):
        stated_text = ""
    decided = "" if verdict.bases else "; no number decides it"
    yield f"  verdict    {verdict.verdict}{_because(verdict.reason)}{stated_text}{decided}"


def _condition_json(report: AuditReport, condition: Condition, verdict: Verdict) -> dict[str, Any]:
    again = report.again
    return {
        **msgspec.to_builtins(verdict),
        "kind": type(condition).__name__.lower(),
        "text": condition.clause.text,
        "demand": demand(condition),
        "pools": {
            p.pool: _pool_json(report, p) for p in (again.pools if again else ()) if p.pool_class in verdict.classes
        },
        "agrees": verdict in report.statement.verdicts,
    }


def _decimal(value: Fraction, digits: int = 6) -> str:
    scaled = abs(value) * 10**digits
    text = f"{int(scaled):0{digits + 1}d}"
    return f"{'-' if value < 0 else ''}{text[:-digits]}.{text[-digits:]}"


def _steps(one: Chain) -> tuple[int, WindowSpread, Bounds]:
    """Return the work of a figure, MFLOP, the steps of R9, and its bounds."""
    m, f = one.judged.setting.measurement, one.judged.figure
    work = work_mflop(m.choice, m.m, m.n, m.k, f.launches)
    spread = spread_above(f.subwindow_min_ns, f.subwindow_over_ns)
    return work, spread, bounds_of(work, spread)


def _ratios(spread: WindowSpread) -> dict[str, Fraction]:
    """Return D, rho, rho' and f."""
    used = Fraction(spread.p, spread.q)
    return {
        "squares": Fraction(spread.d, SUBWINDOWS**2),
        "rho": Fraction(spread.c, spread.d) if spread.d else Fraction(),
        "rho_used": used,
        "factor": (1 + used) / (1 - used),
    }


def _chain(one: Chain) -> Iterator[str]:
    judged = one.judged
    m, f, record = judged.setting.measurement, judged.figure, judged.setting.record
    work, spread, bounds = _steps(one)
    shown = "" if judged.counted else " (shown, counts nowhere)"
    yield f"{judged.node_id}/{f.device} in {m.workload}, pool {judged.pool}{shown}"
    each = "((2/3)n^3 + (3/2)n^2)" if m.workload.is_solve else "2mnk"
    yield f"  work       {f.launches:,} launches of {m.m} x {m.n} x {m.k}: W = floor({each} x launches / 10^6)"
    yield f"             = {work:,} MFLOP (the number of launches is the record's word)"
    yield f"  R8         S = {spread.total_ns:,} ns over 30 sub-windows; sustained = floor(10^9 W / S)"
    yield f"             = {bounds.sustained_mflop_s:,} MFLOP/s"
    squares, rho, used, factor = _ratios(spread).values()
    yield f"  R9         D = {_decimal(squares, 1)} ns^2, rho = {_decimal(rho)}, rho' = {_decimal(used)}"
    yield f"             f = {_decimal(factor)}, h = {spread.h_ceil_ns:,} ns (1.699127 sqrt(30 D f / 29), rounded up)"
    yield f"             certified = floor(10^9 W / (S + h)) = {bounds.certified_mflop_s:,} MFLOP/s"
    upper = "unbounded" if bounds.upper_mflop_s is None else f"{bounds.upper_mflop_s:,} MFLOP/s"
    yield f"             upper = ceil(10^9 W / (S - h)) = {upper}"
    yield f"  R7         {spread.total_ns / 10**9:.3f} s counted: grade {judged.grade or 'none'}"
    covered = f"{f.opened_ns:,} to {f.covered_until_ns:,} ns after the opening"
    yield f"  R10        {covered}, clock {record.clock.source}"
    yield f"  R12        {bound_text(judged.step, *bound_of(judged.limit))}"
    yield from _telemetry(one)
    for code in judged.codes:
        yield f"  {effect_of(code):10} {code}"
    if judged.counted:
        yield f"  counts     {'yes' if judged.counts else 'no: 0'}"


def _telemetry(one: Chain) -> Iterator[str]:
    if one.watched is None:
        yield "  R13        NOT CHECKED: there are no samples of this record"
        return
    w = one.watched
    clock = f"{_text(w.clock_mean_mhz, 'MHz')} (highest {_text(w.clock_max_mhz, 'MHz')})"
    heat = f"{_text(w.temperature_max_c, '°C')} at most, throttled {percent_text(w.throttled_ppm)}"
    gaps = (f"of the {name} {count} (longest gap {_text(gap, 'ns')})" for name, count, gap in _readings(w))
    yield f"  R13        {w.samples} readings, {', '.join(gaps)}"
    yield f"             power {_text(w.power_mean_mw, 'mW')}, clock {clock}, {heat}"


def _readings(w: TelemetrySummary) -> tuple[tuple[str, int, int | None], ...]:
    return ("clock", w.clock_samples, w.clock_gap_ns), ("power", w.power_samples, w.power_gap_ns)


def _text(value: int | None, unit: str) -> str:
    return "n/a" if value is None else f"{value:,} {unit}"


def _chain_json(one: Chain) -> dict[str, Any]:
    judged = one.judged
    m, f = judged.setting.measurement, judged.figure
    work, spread, bounds = _steps(one)
    return {
        "place": f"{judged.node_id}/{f.device}",
        "workload": str(m.workload),
        "pool": judged.pool,
        "counted_workload": judged.counted,
        "counts": judged.counts,
        "grade": judged.grade,
        "step": judged.step,
        "limit": None if judged.limit is None else judged.limit.name,
        "limit_mflop_s": None if judged.limit is None else judged.limit.mflop_s,
        "launches": f.launches,
        "shape": [m.m, m.n, m.k],
        "rates": {
            "work_mflop": work,
            "sum_ns": spread.total_ns,
            **{name: str(value) for name, value in _ratios(spread).items()},
            "half_ns": spread.h_ceil_ns,
            **bounds._asdict(),
        },
        "telemetry": None if one.watched is None else {**one.watched._asdict(), "reasons": sorted(one.watched.reasons)},
        "codes": {code: effect_of(code) for code in judged.codes},
        "not_recomputed_codes": [],  # empty since there is one rule book; readers of the JSON expect the key
    }
