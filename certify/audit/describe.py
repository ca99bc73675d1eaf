"""An audit's report, for people and for machines: which rule, which clause, which numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

from bench.errors import one_line
from bench.units import percent_text, rate_text
from certify.audit.ground import Added, Chain
from certify.audit.judging import RECOMPUTED
from certify.audit.run import Report
from certify.audit.sums import added, totals
from certify.audit.thresholds import Judged
from certify.policy.policies import Share, Threshold, demand
from certify.policy.reasons import effect_of

SHOWN = 30  # findings of one code for people; all that are kept are in the JSON


def lines(report: Report) -> list[str]:
    """Return a report for people."""
    s, part = report.statement, report.part
    signers = ", ".join(f"{keyid[:16]}…" for keyid in report.signers)
    said = [
        f"statement  {report.payload_sha256}",
        f"           {s.centre.centre_id}, number {s.issue.sequence}, valid until {s.issue.valid_until}; key {signers}",
        f"records    {part.records:,}, of which {part.with_samples:,} with samples; {part.figures:,} figures made anew",
        f"rules      made anew: {', '.join(RECOMPUTED)}",
        "",
    ]
    for chain in report.part.chains:
        said += [*_chain(chain), ""]
    for pool in s.pools:
        said += [*_pool(report, pool.pool), ""]
    for one in report.judged:
        said += [*_condition(one), ""]
    others = [v for v in s.verdicts if (v.policy, v.condition) not in _named(report.judged)]
    said += [
        f"{v.policy}/{v.condition} ({v.clause}): {v.verdict}{_because(v.reason)}; no number decides it, NOT CHECKED"
        for v in others
    ]
    said += [f"NOT CHECKED: {what}" for what in report.not_checked]
    shown: dict[str, int] = {}
    for issue in report.issues:
        shown[issue.code] = shown.get(issue.code, 0) + 1
        if shown[issue.code] <= SHOWN:
            said.append(f"{'FOUND' if issue.weighs else 'note'}: {one_line(str(issue))}")
    for code, count in sorted(part.issue_counts.items()):
        if count > SHOWN:
            said.append(f"FOUND: [{code}] {count:,} times in all")
    if report.against:
        said.append(f"The samples do not bear the statement out: {report.against:,} finding(s).")
    else:
        said.append("Everything that was made anew is what the statement says.")
    return said


def as_json(report: Report) -> dict[str, Any]:
    """Return a report for machines."""
    s, part = report.statement, report.part
    return {
        "at": report.at,
        "payload_sha256": report.payload_sha256,
        "signers": list(report.signers),
        "centre_id": s.centre.centre_id,
        "agrees": not report.against,
        "records": part.records,
        "records_with_samples": part.with_samples,
        "figures": part.figures,
        "recomputed": {rule: list(codes) for rule, codes in RECOMPUTED.items()},
        "not_checked": list(report.not_checked),
        "findings": [
            {"code": i.code, "effect": effect_of(i.code), "where": i.where, "what": i.what} for i in report.issues
        ],
        "counts": dict(sorted(part.issue_counts.items())),
        "pools": {pool.pool: _added_json(_of_pool(report, pool.pool)) for pool in s.pools},
        "verdicts": [_judged_json(one) for one in report.judged],
        "figures_of_nodes": [_chain_json(chain) for chain in part.chains],
    }


def _of_pool(report: Report, name: str) -> Added:
    return added(report.part, lambda group: group.pool == name and group.counted)


def _added_json(one: Added) -> dict[str, Any]:
    ends = {"smallest": one.smallest, "largest": one.largest}
    return {**totals(one), **{name: None if end is None else end._asdict() for name, end in ends.items()}}


def _pool(report: Report, name: str) -> Iterator[str]:
    line = next(pool for pool in report.statement.pools if pool.pool == name)
    one = _of_pool(report, name)
    what = f"{line.precision}, accumulate {line.accumulate}, {line.choice} shape"
    yield f"pool {name} ({line.pool_class}, {what}): {one.devices:,} of {report.part.found[name]:,} devices count"
    for title, made, told in (
        ("certified", one.certified_mflop_s, line.counted.certified_mflop_s),
        ("sustained", one.sustained_mflop_s, line.counted.sustained_mflop_s),
        ("upper", None if one.unbounded else one.upper_mflop_s, line.counted.upper_mflop_s),
        ("nominal", one.nominal_mflop_s, line.counted.nominal_mflop_s),
    ):
        same = "as stated" if made == told else f"STATED {told}"
        yield f"  {title:10} {rate_text(made)} ({'n/a' if made is None else f'{made:,}'} MFLOP/s), {same}"
    if one.smallest is not None and one.largest is not None:
        for title, end in (("smallest", one.smallest), ("largest", one.largest)):
            yield f"  {title:10} {end.place}: {end.certified_mflop_s:,} MFLOP/s certified"


def _named(judged: Iterable[Judged]) -> set[tuple[str, str]]:
    return {(one.policy.policy, one.condition.condition) for one in judged}


def _because(reason: str | None) -> str:
    return f" ({reason})" if reason else ""


def _condition(one: Judged) -> Iterator[str]:
    c, status = one.condition, one.policy.document.status
    drafted = "draft: as if issued as drafted" if status == "draft" else "in force"
    yield f"{one.policy.policy}/{c.condition} ({c.clause.ref}): {c.clause.text}  [{drafted}]"
    yield f"  demands    {demand(c)}"
    for pool, part in one.pools.items():
        ends = ""
        if part.smallest is not None and part.largest is not None:
            ends = f", each {part.smallest.certified_mflop_s:,} to {part.largest.certified_mflop_s:,}"
        yield f"  of pool    {pool}: {part.devices:,} devices, {part.certified_mflop_s:,} MFLOP/s certified{ends}"
    if one.untested.devices:
        rated = f"rated {rate_text(one.untested.nominal_mflop_s)}, {one.untested.without_rating:,} without a rating"
        yield f"  count 0    {one.untested.devices:,} devices, {rated}"
    for line in one.lines:
        seen = f"{line.span.observed:,} MFLOP/s,"
        if isinstance(c, Threshold):
            most = "no bound" if line.span.most is None else f"at most {line.span.most:,} with all that counts 0"
            against = f"demanded {c.operator} {c.value_mflop_s:,}; {most}"
        else:
            whole = line.span.observed + (line.whole.observed if line.whole else 0)
            against = f"of {whole:,}, demanded {c.operator} {percent_text(c.value_ppm)}"
        yield f"  {line.basis:10} {seen} {against}: {line.answer[0]}{_because(line.answer[1])}"
    told = "" if one.agrees else f"; STATED {one.told[0]}{_because(one.told[1])}"
    yield f"  verdict    {one.answer[0]}{_because(one.answer[1])}{told}"


def _judged_json(one: Judged) -> dict[str, Any]:
    kind = "share" if isinstance(one.condition, Share) else "threshold"
    return {
        "policy": one.policy.policy,
        "condition": one.condition.condition,
        "kind": kind,
        "clause": one.condition.clause.ref,
        "text": one.condition.clause.text,
        "demand": demand(one.condition),
        "pools": {name: _added_json(part) for name, part in one.pools.items()},
        "bases": [
            {
                "basis": line.basis,
                "observed_mflop_s": line.span.observed,
                "verdict": line.answer[0],
                "reason": line.answer[1],
            }
            for line in one.lines
        ],
        "verdict": one.answer[0],
        "reason": one.answer[1],
        "agrees": one.agrees,
    }


def _decimal(value: Fraction, digits: int = 6) -> str:
    scaled = abs(value) * 10**digits
    text = f"{int(scaled):0{digits + 1}d}"
    return f"{'-' if value < 0 else ''}{text[:-digits]}.{text[-digits:]}"


def _chain(one: Chain) -> Iterator[str]:
    case = one.case
    m, f, r = case.measurement, case.figure, case.rates
    yield f"{one.place} in {m.workload}, pool {one.pool}{'' if one.counted else ' (shown, counts nowhere)'}"
    if r is not None:
        yield f"  work       {f.launches:,} launches of {m.m} x {m.n} x {m.k}: W = floor(2mnk x launches / 10^6)"
        yield f"             = {r.work_mflop:,} MFLOP (the number of launches is the record's word)"
        yield f"  R8         S = {r.sum_ns:,} ns over 30 sub-windows; sustained = floor(10^9 W / S)"
        yield f"             = {r.sustained_mflop_s:,} MFLOP/s"
        yield f"  R9         D = {_decimal(r.squares, 1)} ns^2, rho = {_decimal(r.rho)}, rho' = {_decimal(r.rho_used)}"
        yield f"             f = {_decimal(r.factor)}, h = {r.half_ns:,} ns (1.699127 sqrt(30 D f / 29), rounded up)"
        yield f"             certified = floor(10^9 W / (S + h)) = {r.certified_mflop_s:,} MFLOP/s"
        upper = "unbounded" if r.upper_mflop_s is None else f"{r.upper_mflop_s:,} MFLOP/s"
        yield f"             upper = ceil(10^9 W / (S - h)) = {upper}"
    yield f"  R7         {r.sum_ns / 10**9 if r else 0:.3f} s counted: grade {one.grade or 'none'}"
    covered = f"{f.opened_ns:,} to {f.covered_until_ns:,} ns after the opening"
    yield f"  R10        {covered}, clock {case.record.clock.source}"
    if one.watched is None:
        yield "  R13        NOT CHECKED: there are no samples of this record"
    else:
        w = one.watched
        clock = f"{_text(w.clock_mean_mhz, 'MHz')} (highest {_text(w.clock_max_mhz, 'MHz')})"
        heat = f"{_text(w.temperature_max_c, '°C')} at most, throttled {percent_text(w.throttled_ppm)}"
        yield f"  R13        {w.samples} readings over {percent_text(w.coverage_ppm)} of the window's seconds"
        yield f"             power {_text(w.power_mean_mw, 'mW')}, clock {clock}, {heat}"
    for code in one.codes:
        yield f"  {effect_of(code):10} {code}"
    for code in one.said:
        yield f"  {effect_of(code):10} {code} (by the statement; NOT CHECKED)"
    if one.counted:
        yield f"  counts     {'yes' if one.counts else 'no: 0'}"


def _text(value: int | None, unit: str) -> str:
    return "n/a" if value is None else f"{value:,} {unit}"


def _chain_json(one: Chain) -> dict[str, Any]:
    case, r = one.case, one.case.rates
    return {
        "place": one.place,
        "workload": str(case.measurement.workload),
        "pool": one.pool,
        "counted_workload": one.counted,
        "counts": one.counts,
        "grade": one.grade,
        "launches": case.figure.launches,
        "shape": [case.measurement.m, case.measurement.n, case.measurement.k],
        "rates": None
        if r is None
        else {name: str(value) if isinstance(value, Fraction) else value for name, value in r._asdict().items()},
        "telemetry": None if one.watched is None else {**one.watched._asdict(), "reasons": sorted(one.watched.reasons)},
        "codes": {code: effect_of(code) for code in one.codes},
        "not_recomputed_codes": list(one.said),
    }
