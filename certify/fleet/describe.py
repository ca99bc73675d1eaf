"""A diagnosis on a terminal: a summary of one screen, and the whole; in two languages, and nothing is computed here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from bench.errors import one_line
from bench.language import Language, said_in, text_in
from bench.terminal.summary import Part, counted, fixed, listing, whole_part
from bench.units import rate_text, truncated
from certify.documents.kinds import RECORD_SUFFIX
from certify.fleet.findings import (
    Diagnosis,
    Drift,
    Drifted,
    OddNode,
    Outlier,
    SlowGroup,
    Spread,
    TakeOut,
    WorkloadSum,
)
from certify.fleet.report import FleetReport, not_compared
from certify.statement.attendance import Absence


class Section(NamedTuple):
    """One kind of finding: its title, and a line for each."""

    title: str
    entries: list[str]

    def whole(self) -> list[str]:
        """Return the title and every line; nothing for no findings."""
        return [f"{self.title} ({len(self.entries):,}):", *map(_indented, self.entries)] if self.entries else []

    def part(self, lang: Language) -> Part:
        """Return the section as a part of a summary; at its shortest it is the title with its count."""
        title, count = self.title, f"{len(self.entries):,}"
        short = text_in(lang, "diagnose", "title-only", title=title, count=count)
        return listing(f"{title} ({count}):", [_indented(entry) for entry in self.entries], "findings", lang, (short,))


def _indented(line: str) -> str:
    return f"  {line}"


def describe(report: FleetReport, lang: Language = "en") -> list[str]:
    """Return the whole of a diagnosis as printed lines."""
    return [
        *_head(report, lang),
        *(line for section in not_judged(report, lang) for line in section.whole()),
        *_remarks(report, lang),
        *describe_findings(report.diagnosis, report.names, lang),
    ]


def describe_findings(diagnosis: Diagnosis, names: dict[str, str], lang: Language = "en") -> list[str]:
    """Return the findings of a campaign as printed lines.

    Args:
        diagnosis: the findings of one campaign.
        names: the engine's name of each node, where it is known.
        lang: of the lines.
    """
    slow, changed, taken = _slow(diagnosis, names, lang), _changed(diagnosis, names, lang), []
    taken.append(_take_out(diagnosis, names, lang))
    return [
        *(line for spread in diagnosis.spreads for line in _spread_lines(spread, lang)),
        *(line for section in slow for line in section.whole()),
        *_untold(diagnosis, lang),
        *_drift_lines(diagnosis, lang),
        *(line for section in (*changed, *taken) for line in section.whole()),
        *_sum_lines(diagnosis, lang),
    ]


def summary_of(report: FleetReport, lang: Language, written: str) -> list[Part]:
    """Return the parts of a diagnosis's summary: the sums, whom to take out, and why.

    Args:
        report: the diagnosis.
        lang: of the lines.
        written: line that says where the page is.
    """
    diagnosis, names = report.diagnosis, report.names
    spreads = [line for spread in diagnosis.spreads for line in _spread_lines(spread, lang)]
    remarks = [*_remarks(report, lang), *_untold(diagnosis, lang), *_drift_lines(diagnosis, lang)]
    return [
        fixed(*_head(report, lang)),
        listing("", list(_sum_lines(diagnosis, lang)), "sums", lang),
        replace(_take_out(diagnosis, names, lang).part(lang), worth=2),
        *(section.part(lang) for section in (*not_judged(report, lang), *_slow(diagnosis, names, lang))),
        listing("", remarks, "findings", lang, ()),
        *(section.part(lang) for section in _changed(diagnosis, names, lang)),
        listing("", spreads, "findings", lang, (text_in(lang, "diagnose", "kinds", count=len(diagnosis.spreads)),)),
        whole_part(len(describe(report, lang)) + 1, lang),
        fixed(written, is_copied=True),
    ]


def _head(report: FleetReport, lang: Language) -> list[str]:
    present = report.expected - len(report.absent)
    head = text_in(
        lang,
        "diagnose",
        "head",
        campaign=report.campaign_id,
        centre=report.centre_id,
        present=f"{present:,}",
        expected=f"{report.expected:,}",
    )
    return [head, *([text_in(lang, "warning", "simulated")] if report.simulated else [])]


def not_judged(report: FleetReport, lang: Language) -> list[Section]:
    """Return what could not be compared: nodes without a record, files of no node, figures that count 0."""
    absent = [f"{report.names.get(one.node_id, one.node_id)}: {_why(one)}" for one in report.absent]
    strangers = [one for one in report.refused if one.file.removesuffix(RECORD_SUFFIX) not in report.names]
    return [
        Section(text_in(lang, "diagnose", "absent"), absent),
        Section(text_in(lang, "diagnose", "strangers"), [f"{r.file}: {r.what} [{r.code}]" for r in strangers]),
        Section(text_in(lang, "diagnose", "not-compared"), not_compared(report)),
    ]


def _remarks(report: FleetReport, lang: Language) -> list[str]:
    return [said_in(lang, "remark", remark) for remark in report.remarks]


def _why(one: Absence) -> str:
    return one.code if one.detail is None else f"{one.code} ({one.detail})"


def _name(names: dict[str, str], node_id: str) -> str:
    return one_line(names.get(node_id, node_id), 64)


def _slow(d: Diagnosis, names: dict[str, str], lang: Language) -> list[Section]:
    single = [_outlier_line(one, _name(names, one.node_id), lang) for one in d.outliers if one.scope != "node"]
    throttling = [
        text_in(
            lang,
            "diagnose",
            "throttled-node",
            node=_name(names, one.node_id),
            devices=counted(one.devices, "device", lang),
            worst=_percent(one.worst_ppm),
        )
        for one in d.throttling
    ]
    nodes = [_node_line(one, _name(names, one.node_id), lang) for one in d.odd_nodes]
    return [
        Section(text_in(lang, "diagnose", "odd-nodes"), nodes),
        Section(text_in(lang, "diagnose", "single"), single),
        Section(text_in(lang, "diagnose", "groups"), [_group_line(one, lang) for one in d.slow_groups]),
        Section(text_in(lang, "diagnose", "throttling"), throttling),
    ]


def _changed(d: Diagnosis, names: dict[str, str], lang: Language) -> list[Section]:
    drifted = [
        f"{_name(names, one.node_id)} ({', '.join(one.devices)}), {_kind(one)}: {_signed(one.worst_ppm)}"
        for one in d.drifted
    ]
    return [Section(text_in(lang, "diagnose", "drifted"), drifted)]


def _take_out(d: Diagnosis, names: dict[str, str], lang: Language) -> Section:
    lines = [f"{_name(names, one.node_id)}: {', '.join((*_reasons(one, lang), *one.devices))}" for one in d.take_out]
    return Section(text_in(lang, "diagnose", "take-out"), lines)


def _reasons(one: TakeOut, lang: Language) -> list[str]:
    return [text_in(lang, "take_out", reason) for reason in one.reasons]


def _untold(d: Diagnosis, lang: Language) -> list[str]:
    untold = d.throttling_untold
    return [text_in(lang, "diagnose", "untold", count=f"{untold:,}")] if untold else []


def _drift_lines(d: Diagnosis, lang: Language) -> list[str]:
    return [
        text_in(
            lang,
            "diagnose",
            "drift",
            kind=_kind(one),
            change=_signed(one.median_ppm),
            devices=counted(one.pairs, "device", lang),
        )
        for one in d.drifts
    ]


def _kind(one: Spread | OddNode | Outlier | SlowGroup | Drift | Drifted) -> str:
    return f"{one_line(one.model, 64)} {one.workload}"


def _percent(ppm: int) -> str:
    return f"{truncated(ppm, 10_000, 1)} %"


def _signed(ppm: int) -> str:
    return f"{'+' if ppm > 0 else ''}{_percent(ppm)}"


def _spread_lines(spread: Spread, lang: Language) -> Iterator[str]:
    devices, nodes = counted(spread.devices, "device", lang), counted(spread.nodes, "node", lang)
    median = rate_text(spread.median_mflop_s)
    yield text_in(lang, "diagnose", "spread", kind=_kind(spread), devices=devices, nodes=nodes, median=median)
    if len(spread.populations) > 1:
        yield _indented(text_in(lang, "diagnose", "two"))
    for one in spread.populations:
        if one.low_mflop_s is None:
            yield _indented(text_in(lang, "diagnose", "too-few"))
            continue
        groups = ", ".join(map(one_line, one.groups))
        yield _indented(
            text_in(
                lang,
                "diagnose",
                "population",
                devices=counted(one.devices, "device", lang),
                nodes=counted(one.nodes, "node", lang),
                place=text_in(lang, "diagnose", "all-in", groups=groups) if groups else "",
                median=rate_text(one.median_mflop_s),
                low=rate_text(one.low_mflop_s),
                high=rate_text(one.high_mflop_s),
            )
        )


def _node_line(one: OddNode, name: str, lang: Language) -> str:
    side, devices = text_in(lang, "side", one.side), counted(one.devices, "device", lang)
    return text_in(
        lang, "diagnose", "odd", what=f"{name}, {_kind(one)}", side=side, off=_signed(one.off_ppm), over=devices
    )


def _outlier_line(one: Outlier, name: str, lang: Language) -> str:
    facts = []
    if one.scope == "only":
        facts.append(text_in(lang, "diagnose", "only"))
    if one.clock_off_ppm is not None:
        facts.append(text_in(lang, "diagnose", "clock", off=_signed(one.clock_off_ppm)))
    if one.power_off_ppm is not None:
        facts.append(text_in(lang, "diagnose", "power", off=_signed(one.power_off_ppm)))
    if one.temperature_max_c is not None:
        facts.append(f"{one.temperature_max_c} °C")
    if one.throttled_ppm:
        facts.append(text_in(lang, "diagnose", "throttled", share=_percent(one.throttled_ppm)))
    side = f"{text_in(lang, 'side', one.side)}, {_signed(one.off_ppm)}"
    return f"{name} {one.device}, {_kind(one)}: {side}" + (f" ({', '.join(facts)})" if facts else "")


def _group_line(one: SlowGroup, lang: Language) -> str:
    group, nodes = one_line(one.group, 64), counted(one.nodes, "node", lang)
    return text_in(lang, "diagnose", "group", group=group, kind=_kind(one), off=_signed(one.off_ppm), over=nodes)


def _sum_lines(d: Diagnosis, lang: Language) -> Iterator[str]:
    for one in d.sums:
        yield _sum_line(one, lang)


def _sum_line(one: WorkloadSum, lang: Language) -> str:
    whole = text_in(
        lang,
        "diagnose",
        "sum",
        workload=one.workload,
        devices=counted(one.devices, "device", lang),
        rate=rate_text(one.certified_mflop_s),
    )
    if one.devices_without == one.devices:
        return text_in(lang, "diagnose", "sum-whole", whole=whole)
    rest, rate = counted(one.devices_without, "device", lang), rate_text(one.certified_without_mflop_s)
    return text_in(lang, "diagnose", "sum-without", whole=whole, devices=rest, rate=rate)
