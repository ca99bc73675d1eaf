"""``statement.html``: one self-contained bilingual page of a statement. A rendering; the signed document is the JSON.

Only words and layout may enter this room: every number on the page stands in the statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.record import PoolClass
from bench.units import full_name, percent_text, rate_text, shortened_list
from certify.documents.statement import CapacityStatement, Totals
from certify.policy.policies import Policy, condition_code
from certify.policy.reasons import homes, reasons
from certify.policy.verdicts import Verdict
from certify.statement import describe
from certify.statement.bounds import LIMITS, STEP_NAMES, STEPS_MEAN

if TYPE_CHECKING:
    from jinja2 import Environment

CLASS_NAMES: dict[PoolClass, dict[str, str]] = {
    "intelligent": {"zh": "智能算力", "en": "Intelligent compute"},
    "supercomputing": {"zh": "超算算力", "en": "Supercomputing"},
    "general": {"zh": "通用算力", "en": "General-purpose compute"},
    "edge": {"zh": "边缘算力", "en": "Edge compute"},
}
VERDICTS = {
    "met": {"zh": "达到", "en": "met"},
    "not_met": {"zh": "未达到", "en": "not met"},
    "declared": {"zh": "操作方声明，未核验", "en": "declared, not verified"},
    "insufficient_evidence": {"zh": "证据不足", "en": "insufficient evidence"},
}
BASES = {"certified": "可核验下限", "sustained": "实测持续", "nominal": "标称"}
MISSING_ZH = {True: "缺失节点无上限", False: "缺失节点至多"}  # by whether nobody knows what they could add
GRADES = {
    "certification": {"zh": "正式（≥ 600 秒）", "en": "certification: counted for at least 600 s"},
    "standard": {"zh": "标准（≥ 60 秒）", "en": "standard: counted for at least 60 s"},
    "smoke": {"zh": "冒烟测试（≥ 3 秒）", "en": "smoke: counted for at least 3 s"},
    None: {"zh": "无计入结果", "en": "nothing is counted"},
}
WARNINGS_ZH = {
    "simulated": "模拟：在模拟设备上测得，不能证明任何算力。",
    "smoke": "冒烟测试：仅检验安装，不能证明任何算力。",
    "nothing": "无计入结果：没有符合规则的测量，不能证明任何算力。",
}
LIMITATIONS = (
    {"zh": "稀疏算力、模型训练吞吐、网络与存储性能。", "en": "Sparse rates, training throughput, network and storage."},
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


def render(statement: CapacityStatement, policies: tuple[Policy, ...], keyid: str, payload_sha256: str) -> str:
    """Return the page of a statement.

    Args:
        statement: what was signed.
        policies: those of its verdicts, for their titles.
        keyid: of the signing key.
        payload_sha256: of the signed payload.
    """
    from importlib.metadata import version

    judged = [policy_rows(policy, statement.verdicts) for policy in policies]
    return (
        page_environment(Path(__file__).parent)
        .get_template("statement.html.j2")
        .render(
            s=statement,
            version=version("petaseal"),
            warnings=[
                {"zh": WARNINGS_ZH[kind], "en": describe.PROVES_NOTHING[kind], "code": describe.WARNING_CODES[kind]}
                for kind in describe.warnings_of(statement)
            ],
            centre_rows=_centre_rows(statement),
            grade=GRADES[statement.grade],
            class_names=CLASS_NAMES,
            assumptions=_assumptions(statement, policies),
            policies=judged,
            steps=_steps(statement),
            step_names=STEP_NAMES,
            limit_names=LIMITS,
            findings=_findings(statement),
            absent=_absent(statement),
            limitations=LIMITATIONS,
            codes=_codes(statement, judged),
            keyid=keyid,
            payload_sha256=payload_sha256,
        )
    )


def page_environment(folder: Path) -> Environment:
    """Return what fills in the templates of a folder: everything is escaped, and a name that is missing is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters.update(
        rate=rate_text, percent=percent_text, moment=_moment, nominal=_nominal, full_name=full_name
    )
    return environment


def _moment(text: str) -> str:
    return f"{text[:10]} {text[11:19]}"


def _nominal(totals: Totals) -> str:
    if totals.devices_without_rating == totals.devices:
        return "无标称 none"
    missing = f" + {totals.devices_without_rating} 台无标称" if totals.devices_without_rating else ""
    return rate_text(totals.nominal_mflop_s) + missing


def _centre_rows(statement: CapacityStatement) -> list[dict[str, str]]:
    centre = statement.centre
    baseline = f"{centre.baseline_date}（已签名清单 signed inventory）" if centre.baseline_date else "无 none"
    rows = (
        ("运营方", "Operator", centre.operator),
        ("统一社会信用代码", "USCC", centre.uscc),
        ("辖区", "Jurisdiction", " ".join(filter(None, (centre.jurisdiction, centre.district)))),
        ("园区", "Park", centre.park and f"{centre.park.name}（声明 declared）"),
        (
            "单体",
            "Facility",
            centre.facility and f"{centre.facility.id}: {centre.facility.definition}（声明 declared）",
        ),
        ("项目", "Project", centre.project_id),
        ("层级", "Tier", centre.tier),
        ("申报指南", "Guide year", str(centre.guide_year) if centre.guide_year else ""),
        ("新增基线", "Baseline", baseline),
        (
            "其他支持",
            "Other subsidies",
            "；".join(s.name for s in centre.other_subsidies) or "操作方声明：无 declared: there are none",
        ),
    )
    return [{"zh": zh, "en": en, "value": value} for zh, en, value in rows if value]


def _assumptions(statement: CapacityStatement, policies: tuple[Policy, ...]) -> list[dict[str, str]]:
    seen = {}
    for policy in policies:
        for line in statement.classes:
            if (counting := policy.counting.get(line.pool_class)) is not None:
                seen[counting.assumption.en] = {"zh": counting.assumption.zh, "en": counting.assumption.en}
    return list(seen.values())


def policy_rows(policy: Policy, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return a policy and its verdicts in both languages, as pages show them."""
    draft = policy.document.status == "draft"
    table = reasons()
    titles = {condition.condition: condition for condition in policy.judged}
    date = policy.document.date
    return {
        "title": policy.title,
        "status_zh": f"{'征求意见稿：如按草案印发' if draft else '已印发'}{f'（{date}）' if date else ''}。",
        "status_en": f"{'Draft: if issued as drafted' if draft else 'In force'}{f' ({date})' if date else ''}.",
        "verdicts": [
            {
                "zh": titles[v.condition].title.zh,
                "en": titles[v.condition].title.en,
                "kind": condition_code(titles[v.condition]),
                "clause": v.clause,
                "lines": [
                    *_growth_rows(v),
                    *(f"{BASES[b.basis]} {line}" for b, line in zip(v.bases, describe.bases_lines(v), strict=False)),
                    *(f"{MISSING_ZH[v.missing_at_most_mflop_s is None]} {line}" for line in describe.missing_lines(v)),
                ],
                "verdict": v.verdict,
                "verdict_zh": VERDICTS[v.verdict]["zh"],
                "verdict_en": VERDICTS[v.verdict]["en"],
                "reason": v.reason,
                "reason_zh": table[v.reason].zh if v.reason in table else "",
            }
            for v in verdicts
            if v.policy == policy.policy
        ],
    }


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


def _growth_rows(verdict: Verdict) -> list[str]:
    """Return what stands beside "newly added", in both languages."""
    if (growth := verdict.growth) is None:
        return []
    net = "未知 not known" if growth.net_mflop_s is None else describe.net_text(growth)
    return [
        f"存量清单 baseline: {growth.baseline_devices} 台 device(s)，仍在 still there {growth.still_present_devices}",
        f"新增 new: {growth.new_devices} 台 device(s)，可核验下限 certified {rate_text(growth.newly_added_mflop_s)}",
        f"净增 net growth: {describe.net_devices(growth):+} 台 device(s)，可核验下限 certified {net}",
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
