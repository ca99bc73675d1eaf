"""What a statement says, in Chinese and English: the rows that every form of it (page, PDF) draws.

Only words may enter this module: every number stands in the statement, and layout in the forms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from bench.language import both
from bench.record import Choice, PoolClass
from bench.units import SOLVES, rate_text, shortened_list
from certify.documents.statement import CapacityStatement, Totals
from certify.policy.centre import CLASSES
from certify.policy.policies import Policy
from certify.policy.reasons import homes, reasons
from certify.statement import describe
from certify.statement.bounds import STEP_NAMES, STEPS_MEAN
from certify.statement.brought.words import evidence_rows
from certify.statement.paper.summary import summary_of
from certify.statement.paper.verdict_rows import SINGLE_FACILITY, fabric_beside, fabric_rows, policy_rows
from certify.statement.paper.visible import visible

MOST_SUBSIDIES = 20  # named on the page
_NETWORK_UNKNOWN = {
    "zh": "稀疏算力、模型训练吞吐、网络与存储性能。",
    "en": "Sparse rates, training throughput, network and storage.",
}
_NETWORK_SHOWN = {
    "zh": "稀疏算力、模型训练吞吐、存储性能，以及网络在一次测试和固定假设之外的表现。",
    "en": "Sparse rates, training throughput, storage, and the network beyond one run under a fixed assumption.",
}
_LIMITATIONS = (
    {"zh": "窗口以外的长期运行与可用度。", "en": "Long-term operation and availability outside the window."},
    {
        "zh": "其他中心是否也计入了相同设备（未接入登记平台）。",
        "en": "Whether another centre counts the same devices (no registry was asked).",
    },
    {
        "zh": "“产业园区内”“新增”“单体”的法律含义，以及资格、价格与补贴。",
        "en": "What the law means by park, newly added and single facility; eligibility, prices and subsidies.",
    },
)


def limitations_of(statement: CapacityStatement) -> tuple[dict[str, str], ...]:
    """Return what a statement does not show, in both languages."""
    has_loss = statement.fabric is not None and bool(statement.fabric.losses)
    return (_NETWORK_SHOWN if has_loss else _NETWORK_UNKNOWN, *_LIMITATIONS)


@dataclass(frozen=True, kw_only=True)
class StatementView:
    """What a statement says, ready to be drawn; a text in two languages is a mapping with ``zh`` and ``en``.

    Args:
        statement: what was signed, its texts as they may be shown (`visible`).
        version: of the petaseal that draws it.
        summary: sentences for an official, to stand on top.
        class_names: of the classes of pools.
        choice_names: of what is computed, beside a precision.
        choice_notes: of solves, which are no HPL of a machine.
        warnings: why it proves nothing, if so, each with its code.
        centre_rows: what the centre says of itself, label and value; ``parts`` are the texts that make up the value,
            each to be set by itself, so that letters from right to left do not move the others.
        grade: of the statement.
        assumptions: behind what the policies count.
        policies: each with its verdicts (`policy_rows`); the numbers of "newly added" are ``growth`` of its verdict.
        fabric: what the network's runs show (`fabric_rows`); None where the campaign had none.
        steps: of evidence that figures stand on, the strongest first.
        evidence: what other tools measured, and who brought it.
        findings: what holds, voids or notes figures.
        absent: nodes without a record, by reason.
        codes: where each code leads.
        keyid: of the signing keys.
        payload_sha256: of the signed payload.
    """

    statement: CapacityStatement
    version: str
    summary: list[dict[str, str]]
    class_names: dict[PoolClass, dict[str, str]]
    choice_names: dict[Choice, dict[str, str]]
    choice_notes: dict[str, dict[str, str]]
    warnings: list[dict[str, str]]
    centre_rows: list[dict[str, Any]]
    grade: dict[str, str]
    assumptions: list[dict[str, str]]
    policies: list[dict[str, Any]]
    fabric: dict[str, Any] | None
    steps: list[dict[str, str]]
    evidence: list[dict[str, Any]]
    findings: list[dict[str, Any]]
    absent: list[dict[str, Any]]
    codes: list[dict[str, str]]
    keyid: str
    payload_sha256: str


def view_of(
    statement: CapacityStatement, policies: tuple[Policy, ...], keyid: str, payload_sha256: str
) -> StatementView:
    """Return what every form of a statement draws.

    Args:
        statement: what was signed.
        policies: those of its verdicts, for their titles.
        keyid: of the signing keys.
        payload_sha256: of the signed payload.
    """
    from importlib.metadata import version

    statement, policies = visible(statement), visible(policies)
    beside = {SINGLE_FACILITY: fabric_beside(statement.fabric)}
    judged = [policy_rows(policy, statement.verdicts, beside) for policy in policies]
    return StatementView(
        statement=statement,
        version=version("petaseal"),
        summary=summary_of(statement, policies),
        class_names={one: both("class", one) for one in CLASSES},
        choice_names={one: both("choice", one) for one in get_args(Choice)},
        choice_notes={one: both("choice", f"{one}-note") for one in SOLVES},
        warnings=[
            {**both("warning", kind), "code": describe.WARNING_CODES[kind]} for kind in describe.warnings_of(statement)
        ],
        centre_rows=_centre_rows(statement),
        grade=both("grade", statement.grade or "none"),
        assumptions=_assumptions(statement, policies),
        policies=judged,
        fabric=None if statement.fabric is None else fabric_rows(statement.fabric),
        steps=_steps(statement),
        evidence=[row._asdict() for row in evidence_rows(statement.evidence)],
        findings=_findings(statement),
        absent=_absent(statement),
        codes=_codes(statement, judged),
        keyid=keyid,
        payload_sha256=payload_sha256,
    )


def moment_text(text: str) -> str:
    return f"{text[:10]} {text[11:19]}"


def nominal_text(totals: Totals) -> str:
    if totals.devices_without_rating == totals.devices:
        return "无标称 none"
    missing = f" + {totals.devices_without_rating:,} 台无标称 without rating" if totals.devices_without_rating else ""
    return rate_text(totals.nominal_mflop_s) + missing


def _centre_rows(statement: CapacityStatement) -> list[dict[str, Any]]:
    centre = statement.centre
    park, facility, subsidies = centre.park, centre.facility, centre.other_subsidies
    baseline = (centre.baseline_date, "（已签名清单 signed inventory）") if centre.baseline_date else ("无 none",)
    listed = [part for one in subsidies[:MOST_SUBSIDIES] for part in (one.name, "；")][:-1]
    more = len(subsidies) - MOST_SUBSIDIES
    rows: tuple[tuple[str, str, Sequence[str | None]], ...] = (
        ("运营方", "Operator", (centre.operator,)),
        ("统一社会信用代码", "USCC", (centre.uscc,)),
        ("辖区", "Jurisdiction", (centre.jurisdiction, " ", centre.district)),
        ("园区", "Park", (park.name, "（声明 declared）") if park else ()),
        ("单体", "Facility", (facility.id, ": ", facility.definition, "（声明 declared）") if facility else ()),
        ("项目", "Project", (centre.project_id,)),
        ("层级", "Tier", (centre.tier,)),
        ("申报指南", "Guide year", (str(centre.guide_year) if centre.guide_year else None,)),
        ("新增基线", "Baseline", baseline),
        (
            "其他支持",
            "Other subsidies",
            (*listed, f"；另有 {more} 项 and {more} more" if more > 0 else None)
            if subsidies
            else ("操作方声明：无 declared: there are none",),
        ),
    )
    shown = [(zh, en, [part for part in parts if part]) for zh, en, parts in rows]
    return [{"zh": zh, "en": en, "value": "".join(p).strip(), "parts": p} for zh, en, p in shown if "".join(p).strip()]


def _assumptions(statement: CapacityStatement, policies: tuple[Policy, ...]) -> list[dict[str, str]]:
    seen = {}
    for policy in policies:
        for line in statement.classes:
            if (counting := policy.counting.get(line.pool_class)) is not None:
                seen[counting.assumption.en] = {"zh": counting.assumption.zh, "en": counting.assumption.en}
    return list(seen.values())


def _codes(statement: CapacityStatement, judged: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Return where each code on the page leads: its rule, the function that enforces it, the test that attacks it."""
    classes = statement.classes
    lines = {
        "statement-grade": True,
        "one-start": not statement.campaign.self_issued,
        "attempt-before": bool(statement.campaign.earlier),
        "counted-sum": True,
        "counted-nothing": True,
        "mixed-share": True,
        "shown-not-counted": bool(statement.shown),
        "evidence-brought": bool(statement.evidence),
        "evidence-steps": True,
        "never-scheduled": any(line.counted.never_scheduled_mflop_s for line in classes),
        "needs-witness": any(line.with_witness.devices for line in classes),
        "binding-limit": bool(statement.ceilings),
    }
    named = [describe.WARNING_CODES[kind] for kind in describe.warnings_of(statement)] + [
        code for code, shown in lines.items() if shown
    ]
    verdicts = [verdict for policy in judged for verdict in policy["verdicts"]]
    named += [code for verdict in verdicts for code in (verdict["kind"], verdict["reason"]) if code]
    named += [code for one in statement.evidence for code in one.codes]
    named += [verdict["beside"]["code"] for verdict in verdicts if verdict["beside"]]
    named += list(statement.fabric.codes) if statement.fabric else []
    named += [finding.code for finding in statement.findings] + list(describe.absent_nodes(statement))
    return [
        {
            "code": code,
            "rule": f"docs/{reasons()[code].rule}",
            "function": home.functions[0].function,
            "test": home.test or "",
        }
        for code in dict.fromkeys(named)
        if (home := homes().get(code)) is not None and code in reasons()
    ]


def _steps(statement: CapacityStatement) -> list[dict[str, str]]:
    """Return what the steps mean that figures of the statement stand on, the strongest first."""
    named = {line.step for line in statement.ceilings} | {s.step for line in statement.classes for s in line.steps}
    return [{"step": step, "name": STEP_NAMES[step], **STEPS_MEAN[step]} for step in STEP_NAMES if step in named]


def _absent(statement: CapacityStatement) -> list[dict[str, Any]]:
    table = reasons()
    return [
        {
            "code": code,
            "nodes": len(nodes),
            "names": shortened_list(nodes, describe.SHOWN),
            "zh": table[code].zh,
            "en": table[code].en,
        }
        for code, nodes in describe.absent_nodes(statement).items()
    ]


def _findings(statement: CapacityStatement) -> list[dict[str, Any]]:
    table = reasons()
    return [
        {
            "code": f.code,
            "effect": f.effect,
            "workload": f.workload,
            "devices": f.devices,
            "zh": table[f.code].zh if f.code in table else "",
            "en": table[f.code].en if f.code in table else "",
        }
        for f in statement.findings
    ]
