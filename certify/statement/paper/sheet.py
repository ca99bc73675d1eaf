"""What the PDF of a statement holds, in the order of its pages, and where lists end: values for ``statement.typ``.

Which words and figures a statement has is `view`'s to say; how they look is the template's. Only what depends on the
signed bytes and the policies that they bind may enter, so that a verifier draws the same pages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from bench.language import both
from bench.record import Choice, PoolClass, Precision
from bench.units import SOLVES, full_name, percent_text, rate_text, shortened_list
from certify.documents.statement import CapacityStatement, ClassLine, NotCounted, PoolLine, StepLine, Totals
from certify.policy.reasons import reasons
from certify.statement.bounds import LIMITS, STEP_NAMES
from certify.statement.paper.drawable import MOST_NOTES, DrawnText
from certify.statement.paper.verdict_rows import MOST_GROUPS
from certify.statement.paper.view import StatementView, limitations_of, moment_text, nominal_text

MOST_LINES = 300  # of the annex: thousands take a gigabyte to set, and nobody reads them on paper
FIRST_PAGE_POOLS, MOST_POOLS = 4, 40  # rows of pools on the first page, and on the second
FIRST_PAGE_CEILINGS = 4
MOST_FINDINGS = 8  # in the main part; all of them stand in the annex
MODELS = 2  # of a pool
SHORT = 46  # of a fact: two such share a row
FEW_NODES, FEW_NOT_COUNTED = 12, 6  # that are named on the first page
WATERMARKS = {
    "simulated": {"zh": "模拟", "en": "SIMULATED"},
    "smoke-grade": {"zh": "冒烟测试", "en": "SMOKE TEST"},
    "nothing-counted": {"zh": "无计入结果", "en": "NOTHING COUNTS"},
}

_STEPS: Mapping[str, str] = {str(step): name for step, name in STEP_NAMES.items()}
ClassNames = Mapping[PoolClass, Mapping[str, str]]


class Listing(NamedTuple):
    """A list of the annex: its first lines, and how many it has in all."""

    kind: str
    lines: list[list[Any]]
    total: int


def sheet_of(view: StatementView, number: str, draw: DrawnText) -> dict[str, Any]:
    """Return what the PDF of a statement holds, as one JSON value.

    Args:
        view: what the statement says.
        number: of the statement.
        draw: makes its texts drawable.
    """
    sheet: dict[str, Any] = draw.value(_texts(view, number))
    sheet |= _tables(view, draw)
    for row in sheet["classes"]:
        row |= {name: draw.narrow(row[name]) for name in ("tested", "total")}
    sheet["fabric"] = draw.value(_fabric(view))
    sheet["policies"] = draw.value(msgspec.to_builtins(view.policies))
    # Last: by now every text has been drawn, and the notes are complete.
    notes = draw.notes()
    sheet["notes"] = notes[:MOST_NOTES] + ([f"… (+{len(notes) - MOST_NOTES})"] if len(notes) > MOST_NOTES else [])
    sheet["not_bold"] = draw.not_bold()
    return sheet


def _texts(view: StatementView, number: str) -> dict[str, Any]:
    """Return what stands in the main part, but for its tables, as anybody's text."""
    s = view.statement
    few_not_counted, few_nodes = len(s.not_counted) <= FEW_NOT_COUNTED, len(s.campaign.nodes) <= FEW_NODES
    return {
        "number": number,
        "running": f"{s.centre.centre_id} · {s.issue.sequence}",
        "warnings": view.warnings,
        "watermark": [WATERMARKS[w["code"]] for w in view.warnings],
        "centre": {"zh": s.centre.name.zh, "en": s.centre.name.en},
        # What a statement proves in one sentence; one that proves nothing has its warnings there.
        "summary": [] if view.warnings else view.summary[:1],
        "facts": _facts(view),
        "classes": [_class_row(line, view.class_names) for line in s.classes],
        "sum": {
            "certified": rate_text(s.bookkeeping.certified_mflop_s),
            "sustained": rate_text(s.bookkeeping.sustained_mflop_s),
            "nominal": rate_text(s.bookkeeping.nominal_mflop_s) if s.bookkeeping.nominal_mflop_s else "—",
            "share": percent_text(s.bookkeeping.intelligent_share_ppm),
        },
        "remarks": [*_remarks(view), *view.assumptions],
        "evidence": view.evidence,
        "steps": view.steps,
        "limitations": limitations_of(view.statement),
        "absent": [] if few_not_counted else view.absent,
        "not_counted": [_absence(one) for one in s.not_counted] if few_not_counted else [],
        "nodes": [f"{one.node_id} ({one.pool})" for one in s.campaign.nodes] if few_nodes else [],
        "keyids": view.keyid.split(),
        "digests": _digests(view),
    }


def _tables(view: StatementView, draw: DrawnText) -> dict[str, Any]:
    """Return the tables of the main part, as far as they go there, and the annex."""
    s = view.statement
    pools, ceilings, findings = _pools(view, draw), _ceilings(s, draw), _findings(view, draw)
    few_ceilings = len(ceilings) <= FIRST_PAGE_CEILINGS
    lists = [
        Listing("findings", findings[MOST_FINDINGS:], len(findings[MOST_FINDINGS:])),
        Listing("pools", pools[MOST_POOLS:], len(pools[MOST_POOLS:])),
    ]
    if not few_ceilings:
        lists.append(Listing("ceilings", ceilings, len(ceilings)))
    if len(groups := _groups(view)) > MOST_GROUPS:
        rest = [draw.value(group) for group in groups[MOST_GROUPS : MOST_GROUPS + MOST_LINES]]
        lists.append(Listing("groups", rest, len(groups) - MOST_GROUPS))
    if len(s.not_counted) > FEW_NOT_COUNTED:
        lists.append(Listing("not_counted", _not_counted(s, draw), len(s.not_counted)))
    if len(s.campaign.nodes) > FEW_NODES:
        lists.append(Listing("nodes", _nodes(s, draw), len(s.campaign.nodes)))
    return {
        "pools": pools[:MOST_POOLS],
        "pools_total": f"{len(pools):,}",
        "pools_left": max(0, len(pools) - MOST_POOLS),
        "pools_first": len(pools) <= FIRST_PAGE_POOLS,
        "ceilings": ceilings if few_ceilings else [],
        "ceilings_total": f"{len(ceilings):,}",
        "findings": findings[:MOST_FINDINGS],
        "findings_left": max(0, len(findings) - MOST_FINDINGS),
        "annex": _annex(lists),
        "codes": draw.value(_codes(s)),
    }


def _annex(lists: Sequence[Listing]) -> list[dict[str, Any]]:
    """Return the lists that have lines, each with how many of them are left to the attachment."""
    parts = []
    room = MOST_LINES
    for kind, lines, total in lists:
        if total:
            shown = lines[:room]
            parts.append({"kind": kind, "lines": shown, "total": f"{total:,}", "left": f"{total - len(shown):,}"})
            room -= len(shown)
    return parts


def _facts(view: StatementView) -> list[list[dict[str, str]]]:
    """Return the rows below the title, of one or two facts: the centre, the measurement, the statement's own times."""
    s = view.statement
    facts = [(row["zh"], row["en"], row["value"]) for row in view.centre_rows]
    facts.append(("测试时间", "Measured (UTC)", f"{moment_text(s.measured_from)} – {moment_text(s.measured_until)}"))
    facts.append(("签发", "Issued (UTC)", moment_text(s.issue.issued_at)))
    facts.append(("失效", "Valid until (UTC)", moment_text(s.issue.valid_until)))
    facts.append(("级别", "Grade", f"{view.grade['zh']} {view.grade['en']}"))
    if not s.campaign.self_issued:
        what = f"{s.campaign.campaign_id}：共同起点 one start {moment_text(s.starts_at)} UTC；"
        what += f"记录 records {s.records:,} / {len(s.campaign.nodes):,} 预期节点 expected nodes"
        if s.campaign.earlier:
            before = shortened_list([f"{a.campaign_id} ({a.outcome})" for a in s.campaign.earlier])
            what += f"；此前尝试 attempts before: {before}"
        facts.append(("测试活动", "Campaign", what))
    return _in_rows([{"zh": zh, "en": en, "value": value} for zh, en, value in facts])


def _in_rows(facts: Sequence[dict[str, str]]) -> list[list[dict[str, str]]]:
    """Return facts in rows: two short ones share a row, a long one has its own."""
    rows: list[list[dict[str, str]]] = []
    waiting: list[dict[str, str]] | None = None
    for fact in facts:
        if _width(fact["value"]) > SHORT:
            rows.append([fact])
        elif waiting is None:
            rows.append(waiting := [fact])
        else:
            waiting.append(fact)
            waiting = None
    return rows


def _width(text: str) -> int:
    """Return about how wide a text is, in halves of a Chinese character; the same in every release of Python."""
    return sum(2 if character >= "\u2e80" else 1 for character in text)


def _figures(totals: Totals) -> dict[str, str]:
    return {
        "certified": rate_text(totals.certified_mflop_s),
        "sustained": rate_text(totals.sustained_mflop_s),
        "upper": rate_text(totals.upper_mflop_s),
        "nominal": nominal_text(totals),
    }


def _class_row(line: ClassLine, names: ClassNames) -> dict[str, Any]:
    return {
        **names[line.pool_class],
        "precision": line.precision.upper(),
        "choice": _choice_text(line.choice) + _solve_note(line.choice),
        **_figures(line.counted),
        "tested": f"{line.counted.devices:,}",
        "total": f"{line.counted.devices + line.untested.devices:,}",
        "steps": _steps_text(line.steps),
        "missing": line.nodes_missing,
    }


def _choice_text(choice: Choice) -> str:
    names = both("choice", choice)
    return f"{names['zh']} {names['en']}"


def _solve_note(choice: Choice) -> str:
    if choice not in SOLVES:
        return ""
    notes = both("choice", f"{choice}-note")
    return f"（{notes['zh']} {notes['en']}）"


def _workload_text(precision: Precision, choice: Choice) -> str:
    """Return a precision, and what is computed where that is no product in the fixed shape."""
    return precision.upper() + ("" if choice == "fixed" else f" {_choice_text(choice)}")


def _steps_text(steps: Sequence[StepLine]) -> str:
    return "；".join(
        f"{_STEPS.get(one.step, one.step)} {one.step} {rate_text(one.certified_mflop_s)} ({one.devices:,})"
        for one in steps
    )


def _pools(view: StatementView, draw: DrawnText) -> list[list[Any]]:
    """Return a row for each pool: name, class, models, figures, coverage, steps of evidence."""
    s, names = view.statement, view.class_names
    models: dict[str, list[str]] = {}
    for one in s.inventory:
        name = f"{full_name(one.vendor, one.model)} × {one.devices:,} {one.count_unit}"
        models.setdefault(one.pool, []).append(name)
    return [[draw.narrow(cell) for cell in _pool_row(pool, names, models.get(pool.pool, []))] for pool in s.pools]


def _pool_row(pool: PoolLine, names: ClassNames, models: list[str]) -> Iterator[str]:
    figures = _figures(pool.counted)
    yield pool.pool
    yield names[pool.pool_class]["zh"]
    yield shortened_list(models, MODELS) or "—"
    yield from (figures[name] for name in ("certified", "sustained", "upper", "nominal"))
    yield f"{pool.counted.devices:,} / {pool.counted.devices + pool.untested.devices:,}"
    yield " ".join(_STEPS.get(one.step, one.step) for one in pool.steps) or "—"


def _ceilings(s: CapacityStatement, draw: DrawnText) -> list[list[Any]]:
    """Return a row for each line of ceilings: pool, model, precision, step, binding limit, at most, held, certified."""
    return [
        [
            draw.narrow(line.pool),
            draw.narrow(full_name(line.vendor, line.model)),
            _workload_text(line.precision, line.choice),
            f"{_STEPS.get(line.step, line.step)} {line.step}",
            {"zh": "无", "en": "none"} if line.limit is None else LIMITS[line.limit],  # type: ignore[index]
            rate_text(line.least_mflop_s),
            f"{line.counted:,} / {line.figures:,}",
            rate_text(line.certified_mflop_s),
        ]
        for line in s.ceilings
    ]


def _groups(view: StatementView) -> list[dict[str, Any]]:
    """Return the groups of the fabric by size; none where the campaign had no runs of the network."""
    known: list[dict[str, Any]] = view.fabric["groups"] if view.fabric else []
    return [{**one, "nodes": f"{one['nodes']:,}", "devices": f"{one['devices']:,}"} for one in known]


def _fabric(view: StatementView) -> dict[str, Any] | None:
    """Return what the network's runs show, as far as it goes into the main part."""
    if view.fabric is None:
        return None
    groups = _groups(view)
    return {**view.fabric, "groups": groups[:MOST_GROUPS], "groups_left": max(0, len(groups) - MOST_GROUPS)}


def _remarks(view: StatementView) -> Iterator[dict[str, str]]:
    """Yield what stands below the figures: what is not scheduled, what needs a witness, what is shown only."""
    s = view.statement
    for line in s.classes:
        zh, en = view.class_names[line.pool_class]["zh"], view.class_names[line.pool_class]["en"]
        if line.counted.never_scheduled_mflop_s:
            rate = rate_text(line.counted.never_scheduled_mflop_s)
            yield {
                "zh": f"{zh}：其中 {rate} 没有可用的上限，任何平台都不据此调度。",
                "en": f"{en}: nothing known bounds {rate} of it, which no platform schedules.",
            }
        if line.with_witness.devices:
            rate, devices = rate_text(line.with_witness.certified_mflop_s), line.with_witness.devices
            yield {
                "zh": f"{zh}：另有 {rate}（{devices:,} 台）须有针对本声明的见证文件才计入。",
                "en": f"{en}: another {rate} ({devices:,} devices) count only with a witness document.",
            }
        if line.nodes_missing:
            yield {
                "zh": f"{zh}：{line.nodes_missing:,} 个预期节点没有记录，未计入。",
                "en": f"{en}: expected nodes without a record, which count nothing: {line.nodes_missing:,}.",
            }
    if s.shown:
        shown = [
            f"{x.pool} {_workload_text(x.precision, x.choice)}{_solve_note(x.choice)}"
            f" {rate_text(x.shown.certified_mflop_s)} ({x.shown.devices:,})"
            for x in s.shown
        ]
        yield {"zh": "另测、仅展示、不计入", "en": f"Measured and shown, not counted: {shortened_list(shown, 6)}"}


def _findings(view: StatementView, draw: DrawnText) -> list[list[Any]]:
    """Return a line for each code: its effect with the devices by workload, and what it means in both languages."""
    lines: dict[str, list[Any]] = {}
    for f in view.findings:
        many = f"{'' if f['workload'] == '-' else f['workload'].upper() + ' '}× {f['devices']:,}"
        if f["code"] in lines:
            lines[f["code"]][1] += f", {many}"
        else:
            lines[f["code"]] = [f["code"], f"{f['effect']}; {many}", f["zh"], f["en"]]
    return [[draw.text(cell) for cell in line] for line in lines.values()]


def _absence(one: NotCounted) -> dict[str, str]:
    """Return which device or node counts 0, and why, in both languages."""
    table = reasons()
    why = [table[code] for code in one.codes[:1] if code in table]
    what = " ".join(filter(None, (one.node_id, one.device, (one.workload or "").upper())))
    return {
        "what": f"{what}：{shortened_list(one.codes, 4)}",
        "zh": "".join(reason.zh for reason in why),
        "en": "".join(reason.en for reason in why),
    }


def _not_counted(s: CapacityStatement, draw: DrawnText) -> list[list[Any]]:
    """Return a line for each device that counts 0 and each node without a record: node, device, workload, why."""
    return [
        [
            draw.narrow(one.node_id),
            draw.narrow(one.device or "—"),
            draw.narrow((one.workload or "—").upper()),
            draw.text(shortened_list(one.codes, 4)),
        ]
        for one in s.not_counted[:MOST_LINES]
    ]


def _codes(s: CapacityStatement) -> list[dict[str, str]]:
    """Return what the codes of the annex mean, each once."""
    table = reasons()
    named = dict.fromkeys(code for one in s.not_counted[:MOST_LINES] for code in one.codes)
    return [{"code": code, "zh": table[code].zh, "en": table[code].en} for code in named if code in table]


def _nodes(s: CapacityStatement, draw: DrawnText) -> list[list[Any]]:
    return [[draw.narrow(one.node_id), draw.narrow(one.pool)] for one in s.campaign.nodes[:MOST_LINES]]


def _digests(view: StatementView) -> list[dict[str, str]]:
    s = view.statement
    rows = (
        ("正文摘要", "Payload SHA-256", view.payload_sha256),
        ("记录", "Records, root", f"{s.records:,} · {s.records_root}"),
        ("规则 / 方案", "Rules / profile", f"{s.rules} / {s.profile}"),
    )
    return [{"zh": zh, "en": en, "value": value} for zh, en, value in rows]
