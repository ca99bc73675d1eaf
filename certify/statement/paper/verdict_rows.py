"""The verdicts of a policy as rows of a page: demand, value and outcome on each basis, and what explains them; and what
the network's runs show, which stands beside the condition of one facility."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.language import LANGUAGES, Language, both, text_in
from bench.units import bandwidth_text, percent_text, rate_text, truncated
from certify.documents.statement import Fabric, FabricGroup
from certify.policy.policies import Condition, Policy, condition_code
from certify.policy.reasons import reasons
from certify.policy.verdict_lines import missing_lines, net_devices, net_text, observed_text
from certify.policy.verdicts import BasisVerdict, Growth, Verdict
from certify.statement.paper.summary import Texts, alike

SINGLE_FACILITY = "single-facility"  # the condition that the fabric stands beside
MOST_GROUPS = 12  # of the fabric, that are named: the largest
NOTHING_BESIDE: Mapping[str, dict[str, str]] = {}


def policy_rows(
    policy: Policy, verdicts: Sequence[Verdict], beside: Mapping[str, dict[str, str]] = NOTHING_BESIDE
) -> dict[str, Any]:
    """Return a policy and its verdicts in both languages, as pages show them.

    Args:
        policy: with the titles of its conditions.
        verdicts: of a statement, those of other policies among them.
        beside: what is shown with a condition, by its name, and decides nothing (`fabric_beside`).
    """
    draft = policy.document.status == "draft"
    date = policy.document.date
    titles = {condition.condition: condition for condition in policy.judged}
    return {
        "title": policy.title,
        "status_zh": f"{'征求意见稿：如按草案印发' if draft else '已印发'}{f'（{date}）' if date else ''}。",
        "status_en": f"{'Draft: if issued as drafted' if draft else 'In force'}{f' ({date})' if date else ''}.",
        "verdicts": [
            _verdict_row(titles[v.condition], v, beside.get(v.condition)) for v in verdicts if v.policy == policy.policy
        ],
    }


def _verdict_row(condition: Condition, verdict: Verdict, beside: dict[str, str] | None) -> dict[str, Any]:
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
        "beside": beside,
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
    lines += [in_both(row["beside"])] if row["beside"] else []
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


# --- what the network's runs show ---


def fabric_beside(fabric: Fabric | None) -> dict[str, str]:
    """Return what stands beside the condition of one facility, in both languages, and its code."""
    return {one: fabric_headline(fabric, one) for one in LANGUAGES} | {"code": headline_code(fabric)}


def fabric_headline(fabric: Fabric | None, lang: Language) -> str:
    """Return whether the devices are connected and what the network costs, such as "fabric: connected, network ..."."""
    state = text_in(lang, "fabric", fabric.state if fabric and fabric.state != "partly" else "not-shown")
    if fabric is not None and fabric.state == "partly":
        count = len(fabric.groups)
        state = text_in(lang, "fabric", "one-group") if count == 1 else text_in(lang, "fabric", "partly", count=count)
    if fabric is None or not fabric.losses:
        return state
    return text_in(lang, "fabric", "with-loss", state=state, loss=_loss_text(fabric.losses[0].network_loss_ppm))


def headline_code(fabric: Fabric | None) -> str:
    """Return the code of the headline: why the fabric is not shown, or that it is."""
    if fabric is None:
        return "fabric-not-measured"
    return "fabric-shown" if fabric.state == "connected" or not fabric.codes else fabric.codes[0]


def fabric_rows(fabric: Fabric) -> dict[str, Any]:
    """Return what pages show of the network's runs: groups by size, losses with their assumption, bandwidths."""
    table = reasons()
    devices, of = f"{fabric.devices:,}", f"{fabric.of_devices:,}"
    return {
        **fabric_beside(fabric),
        "covers": both("fabric", "covers", devices=devices, of=of),
        "proves": both("fabric", "proves"),
        "assumption": both("fabric", "assumption") if fabric.losses else None,
        "groups": [
            {"name": {one: group_name(group, one) for one in LANGUAGES}, "nodes": group.nodes, "devices": group.devices}
            for group in fabric.groups
        ],
        "losses": [
            [
                f"{line.tokens:,}",
                _loss_text(line.network_loss_ppm),
                _loss_text(line.contention_ppm),
                percent_text(line.retained_ppm),
                *map(rate_text, (line.compute_mflop_s, line.node_mflop_s, line.fabric_mflop_s)),
                f"{line.devices:,}",
            ]
            for line in fabric.losses
        ],
        "bandwidths": [
            [
                _bytes_text(line.size_bytes),
                f"{line.ranks:,}",
                bandwidth_text(line.algorithm_mb_s),
                bandwidth_text(line.bus_mb_s),
            ]
            for line in fabric.bandwidths
        ],
        "codes": [{"code": one, "zh": table[one].zh, "en": table[one].en} for one in fabric.codes if one in table],
    }


def fabric_details(fabric: Fabric, lang: Language, shown: int) -> list[tuple[str, str]]:
    """Return lines on the network's runs, each with its code.

    Args:
        fabric: of a statement.
        lang: of the lines.
        shown: groups that are named.
    """
    devices, of = f"{fabric.devices:,}", f"{fabric.of_devices:,}"
    lines = [(text_in(lang, "fabric", "covers", devices=devices, of=of), headline_code(fabric))]
    names = [
        text_in(lang, "fabric", "group", name=group_name(one, lang), nodes=f"{one.nodes:,}", devices=f"{one.devices:,}")
        for one in fabric.groups[:shown]
    ]
    if names:
        joined, more = "; ".join(names), len(fabric.groups) - shown
        joined = text_in(lang, "statement_lines", "and-more", names=joined, count=more) if more > 0 else joined
        lines.append((text_in(lang, "fabric", "groups", names=joined), "fabric-groups"))
    for line in fabric.losses:
        said = text_in(
            lang,
            "fabric",
            "loss",
            loss=_loss_text(line.network_loss_ppm),
            contention=_loss_text(line.contention_ppm),
            retained=percent_text(line.retained_ppm),
            tokens=f"{line.tokens:,}",
            devices=f"{line.devices:,}",
        )
        lines.append((said, "network-loss"))
    for band in fabric.bandwidths:
        size, bus, algorithm = (
            _bytes_text(band.size_bytes),
            bandwidth_text(band.bus_mb_s),
            bandwidth_text(band.algorithm_mb_s),
        )
        said = text_in(lang, "fabric", "bandwidth", size=size, ranks=f"{band.ranks:,}", bus=bus, algorithm=algorithm)
        lines.append((said, "network-bandwidth"))
    if fabric.codes:
        lines.append((text_in(lang, "fabric", "codes", codes=", ".join(fabric.codes)), headline_code(fabric)))
    return [*lines, (text_in(lang, "fabric", "proves"), "fabric-shown")] if fabric.groups else lines


def group_name(group: FabricGroup, lang: Language) -> str:
    """Return what a group is called."""
    return group.group or text_in(lang, "fabric", "all-nodes")


def _loss_text(ppm: int) -> str:
    """Return a loss as per cent, rounded up to a tenth: never less than it is."""
    return percent_text(-(-ppm // 1000) * 1000)


def _bytes_text(size: int) -> str:
    """Return a size in the unit of which all-reduces are powers of two."""
    for unit, per in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= per:
            return f"{truncated(size, per, 1 if size % per else 0)} {unit}"
    return f"{size} B"
