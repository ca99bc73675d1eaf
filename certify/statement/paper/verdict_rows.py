"""The verdicts of a policy as rows of a page: demand, value and outcome on each basis, and what explains them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.language import LANGUAGES, both
from bench.units import percent_text, rate_text
from certify.policy.policies import Condition, Policy, condition_code
from certify.policy.reasons import reasons
from certify.policy.verdict_lines import missing_lines, net_devices, net_text, observed_text
from certify.policy.verdicts import BasisVerdict, Growth, Verdict
from certify.statement.paper.summary import Texts, alike


def policy_rows(policy: Policy, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return a policy and its verdicts in both languages, as pages show them."""
    draft = policy.document.status == "draft"
    date = policy.document.date
    titles = {condition.condition: condition for condition in policy.judged}
    return {
        "title": policy.title,
        "status_zh": f"{'征求意见稿：如按草案印发' if draft else '已印发'}{f'（{date}）' if date else ''}。",
        "status_en": f"{'Draft: if issued as drafted' if draft else 'In force'}{f' ({date})' if date else ''}.",
        "verdicts": [_verdict_row(titles[v.condition], v) for v in verdicts if v.policy == policy.policy],
    }


def _verdict_row(condition: Condition, verdict: Verdict) -> dict[str, Any]:
    """Return a verdict: what was demanded, the value on each basis and what comes of it, and why."""
    row: dict[str, Any] = {
        "zh": condition.title.zh,
        "en": condition.title.en,
        "kind": condition_code(condition),
        "clause": verdict.clause,
        "demand": _demand(verdict),
        "growth": _growth_rows(verdict.growth),
        "bases": [_basis_row(basis, verdict) for basis in verdict.bases],
        "missing": _missing_text(verdict),
        "meaning": both("meaning", verdict.verdict),
    }
    return row | _outcome_row(verdict.verdict, verdict.reason) | {"lines": _lines(row)}


def _demand(verdict: Verdict) -> Texts | None:
    """Return what a condition demands, in signs; None where the text names no number."""
    sign = {">=": "≥", ">": ">"}.get(verdict.operator or "", "")
    if verdict.threshold_mflop_s is not None:
        return alike(f"{sign} {rate_text(verdict.threshold_mflop_s)}")
    return None if verdict.threshold_ppm is None else alike(f"{sign} {percent_text(verdict.threshold_ppm)}")


def _lines(row: dict[str, Any]) -> list[str]:
    """Return the numbers of a verdict as lines, for a form that has no room for rows."""

    def in_both(value: Texts) -> str:
        return value["zh"] if value["zh"] == value["en"] else f"{value['zh']} {value['en']}"

    lines = [f"要求 demanded: {row['demand']['zh']}"] if row["demand"] else []
    lines += [f"{one['zh']} {one['en']}: {in_both(one['value'])}" for one in row["growth"]]
    for one in row["bases"]:
        why = f" [{one['reason']}]" if one["reason"] else ""
        of = f" ({one['of']})" if one["of"] else ""
        outcome = f"{one['verdict_zh']} {one['verdict_en']}{why}"
        lines.append(f"{one['zh']} {one['en']} {in_both(one['value'])}{of}: {outcome}")
    return lines + ([in_both(row["missing"])] if row["missing"] else [])


def _outcome_row(verdict: str, reason: str | None) -> dict[str, Any]:
    word = both("outcome", verdict)
    why = reasons().get(reason or "")
    return {
        "verdict": verdict,
        "verdict_zh": word["zh"],
        "verdict_en": word["en"],
        "reason": reason,
        "reason_zh": why.zh if why else "",
        "reason_en": why.en if why else "",
    }


def _basis_row(basis: BasisVerdict, verdict: Verdict) -> dict[str, Any]:
    """Return one basis: its name, the value on it as a text, of a share the part and the whole, and the outcome."""
    of = None
    if basis.whole_mflop_s is not None:
        of = f"{rate_text(basis.observed_mflop_s)} / {rate_text(basis.whole_mflop_s)}"
    return {
        **both("basis", basis.basis),
        "value": {one: observed_text(basis, verdict, one) for one in LANGUAGES},
        "of": of,
    } | _outcome_row(basis.verdict, basis.reason)


def _growth_rows(growth: Growth | None) -> list[dict[str, Any]]:
    """Return the numbers of "newly added", each with its name in both languages; none elsewhere."""
    if growth is None:
        return []
    before = growth.baseline_devices
    values = {
        "baseline": alike(f"{before:,}") if before else both("statement_lines", "no-baseline"),
        "still_present": alike(f"{growth.still_present_devices:,}"),
        "new": alike(f"{growth.new_devices:,}"),
        "new_certified": alike(rate_text(growth.newly_added_mflop_s)),
        "net_devices": alike(f"{net_devices(growth):+,}"),
        "net_certified": {one: net_text(growth, one) for one in LANGUAGES},
    }
    return [{**both("statement", key), "value": value} for key, value in values.items()]


def _missing_text(verdict: Verdict) -> Texts | None:
    """Return what nodes without a record could add to the values that a verdict compares; None where all have one."""
    said: Texts = {one: " ".join(missing_lines(verdict, one)) for one in LANGUAGES}
    return said if verdict.nodes_missing else None
