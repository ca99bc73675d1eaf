"""The page of a report: fleet plots and tables, one section a node, what it was drawn from; one file, no scripts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from bench.language import both, messages_of
from bench.record.fields import workload_of
from bench.units import rate_text
from certify.fleet.findings import Diagnosis, Spread
from certify.fleet.plots import NARROW, distribution_svg
from certify.report import view
from certify.report.figures import DrawnFigure, DrawnRecord, DrawnReference
from certify.report.plots import Roof, per_watt_plot, roofline
from certify.report.series import DeviceSeries
from certify.report.source import ReportSource, SourceProblem
from certify.report.timeline import AT_ONCE, PANELS, TimedNode, TimeFrame, frame_of
from certify.statement.describe import WARNING_CODES

Kind = tuple[str, str]  # model, workload


class SampleState(NamedTuple):
    """What came of one record's samples: a key of the catalogue, and the series by device and workload."""

    state: str
    series: Mapping[tuple[str, str], DeviceSeries]


@dataclass(frozen=True)
class ReportContent:
    """Everything that a page is made of; plots of nodes are drawn before, in worker processes.

    Args:
        source: what it was drawn from.
        records: by name.
        diagnosis: of the figures that are compared.
        samples: by node; a node that is not drawn has none.
        plots: of nodes, as `timed_nodes` orders them.
        problems: all that is wrong with the source.
        absent: nodes of the campaign without a record here.
    """

    source: ReportSource
    records: Sequence[DrawnRecord]
    diagnosis: Diagnosis
    samples: Mapping[str, SampleState]
    plots: Mapping[str, str] = field(default_factory=dict)  # by prefix
    problems: Sequence[SourceProblem] = ()
    absent: Sequence[str] = ()

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each node in the report."""
        return numbers_of(self.records)

    @cached_property
    def names(self) -> dict[str, str]:
        """The shown name of each node."""
        known = [record.node_id for record in self.records] + list(self.absent)
        return {node_id: view.node_name(node_id, self.source.names) for node_id in known}


def numbers_of(records: Sequence[DrawnRecord]) -> dict[str, int]:
    """Return the number of each node in a report of some records, in their order."""
    return {record.node_id: index for index, record in enumerate(records, 1)}


def timed_nodes(record: DrawnRecord, samples: SampleState, number: int) -> list[tuple[Kind, TimedNode]]:
    """Return the plots of one node: for each model and workload its devices, at most `AT_ONCE` in one plot."""
    of_kind: dict[Kind, list[DrawnFigure]] = defaultdict(list)
    for one in record.figures:
        of_kind[one.kind].append(one)
    nodes = []
    for place, (kind, figures) in enumerate(of_kind.items()):
        for first in range(0, len(figures), AT_ONCE):
            together = tuple(figures[first : first + AT_ONCE])
            series = tuple(samples.series.get((f.reading.device, f.reading.workload)) for f in together)
            title = f"Node {number}, {kind[1]}: throughput, power, clock, temperature and throttling over time"
            nodes.append((kind, TimedNode(together, series, title, f"n{number}k{place}p{first}")))
    return nodes


def render_report(content: ReportContent) -> str:
    """Return the page."""
    from importlib.metadata import version

    from certify.statement.paper.page import page_environment

    figures = [one for record in content.records for one in record.figures]
    environment = page_environment(Path(__file__).parent)
    return environment.get_template("report.html.j2").render(
        w={key: both("report", key) for key in messages_of("report")},
        version=version("petaseal"),
        source=content.source,
        centre=content.source.scope.centre if content.source.scope else None,
        warnings=_warnings(content),
        records=content.records,
        devices=len({(one.reading.node_id, one.reading.device) for one in figures}),
        tools=sorted({record.tool_version for record in content.records}),
        measured=(min(r.started_at for r in content.records), max(r.ended_at for r in content.records)),
        problems=content.problems,
        absent=[content.names[node_id] for node_id in content.absent],
        kinds=[_kind(content, kind, index) for index, kind in enumerate(kinds_of(figures))],
        findings=view.findings(content.diagnosis, content.names),
        take_out=[content.names[one.node_id] for one in content.diagnosis.take_out],
        nodes=[_node(content, record) for record in content.records if record.node_id in content.samples],
        names=content.names,
        numbers=content.numbers,
        samples=content.samples,
        codes=view.code_table(content.records, content.problems, [one["code"] for one in _warnings(content)]),
        rows=view.ROWS,
        heat_nodes=view.HEAT_NODES,
        colours=view.LOSS_COLOURS,
    )


def kinds_of(figures: Sequence[DrawnFigure]) -> list[Kind]:
    """Return the models and workloads of figures, sorted."""
    return sorted({one.kind for one in figures})


def _warnings(content: ReportContent) -> list[dict[str, str]]:
    """Return why the figures prove nothing about capacity, if so: as on every view of them."""
    figures = [one for record in content.records for one in record.figures]
    compared = [one for one in figures if not one.blocking]
    applies = {
        "simulated": any(record.simulated for record in content.records),
        "smoke": any(one.grade == "smoke" for one in compared) or content.source.profile.grade == "smoke",
        "nothing": not compared,
    }
    return [{**both("warning", name), "code": WARNING_CODES[name]} for name, holds in applies.items() if holds]


def _kind(content: ReportContent, kind: Kind, index: int) -> dict[str, Any]:
    """Return the fleet's part of the page for one model in one workload."""
    from markupsafe import Markup

    figures = [one for record in content.records for one in record.figures if one.kind == kind]
    spread = next((one for one in content.diagnosis.spreads if (one.model, one.workload) == kind), None)
    outliers = [one for one in content.diagnosis.outliers if (one.model, one.workload) == kind]
    rates = [one.reading.sustained_mflop_s for one in figures if not one.blocking]
    middle = spread.median_mflop_s if spread else sorted(one.reading.sustained_mflop_s for one in figures)[0]
    blocked = {(one.reading.node_id, one.reading.device): one.blocking[0] for one in figures if one.blocking}
    heat = view.heat_rows([one.reading for one in figures], blocked, content.numbers, middle)
    title = f"{kind[0]} {kind[1]}"
    watts = [(content.numbers[one.reading.node_id], one.per_watt) for one in figures]
    return {
        "model": kind[0],
        "workload": kind[1],
        "solve": both("choice", f"{workload_of(kind[1]).choice}-note") if workload_of(kind[1]).is_solve else None,
        "summary": view.summary(figures),
        "bounds": view.bounds_of(figures),
        "distribution": Markup(distribution_svg(spread, rates, outliers, content.names, width=NARROW))  # noqa: S704
        if spread
        else None,
        "legend": _usual(spread),
        "heat": heat,
        "cells": max(len(cells) for _, cells in heat),
        "heat_of": len({one.reading.node_id for one in figures}),
        "roofline": Markup(roofline(roof_of(content, kind, figures, index))),  # noqa: S704
        "has_triad": _bandwidth(content, kind[0]) is not None,
        "watts": Markup(per_watt_plot(watts, f"{title}: FLOPS per watt by device", f"w{index}"))  # noqa: S704
        if any(value is not None for _, value in watts)
        else None,
        "watts_known": sum(value is not None for _, value in watts),
        "count": len(figures),
    }


def _usual(spread: Spread | None) -> dict[str, Any] | None:
    """Return what is usual for one model in one workload, as texts."""
    if spread is None:
        return None
    parts = [
        {
            "devices": f"{one.devices:,}",
            "median": rate_text(one.median_mflop_s),
            "low": rate_text(one.low_mflop_s),
            "high": rate_text(one.high_mflop_s),
            "is_known": one.low_mflop_s is not None,
        }
        for one in spread.populations
    ]
    return {"parts": parts, "is_two": len(parts) > 1}


def roof_of(content: ReportContent, kind: Kind, figures: Sequence[DrawnFigure], index: int) -> Roof:
    """Return one model in one workload against what bounds it, as medians over its devices."""
    model, workload = kind
    precision = workload_of(workload).computed
    issued: dict[str, list[int]] = defaultdict(list)
    for one in _references(content, model):
        if one.role == "ceiling" and one.precision == precision and one.rate_mflop_s:
            issued[one.kernel].append(one.rate_mflop_s)
    nominal = next((one.nominal_mflop_s for one in figures if one.nominal_mflop_s), None)
    limits = sorted(one.limit[1] for one in figures if one.limit[1] is not None)
    lines = [(f"{kernel} {rate_text(_middle(rates))}", _middle(rates)) for kernel, rates in sorted(issued.items())]
    if nominal:
        lines.insert(0, (f"nominal {rate_text(nominal)}", nominal))
    if limits:
        lines.append((f"binding limit {rate_text(_middle(limits))}", _middle(limits)))
    return Roof(
        figures[0].intensity,
        [one.reading.sustained_mflop_s for one in figures],
        _bandwidth(content, model),
        lines[-6:],
        f"{model} {workload}: roofline",
        f"r{index}",
    )


def _references(content: ReportContent, model: str) -> list[DrawnReference]:
    return [one for record in content.records for one in record.references if one.model == model]


def _bandwidth(content: ReportContent, model: str) -> int | None:
    """Return the median bandwidth of a model's memory by the reference measurement, MB/s; None where nobody took it."""
    rates = [one.rate_mb_s for one in _references(content, model) if one.role == "bandwidth" and one.rate_mb_s]
    return _middle(rates) if rates else None


def _middle(values: Sequence[int]) -> int:
    return sorted(values)[len(values) // 2]


def _node(content: ReportContent, record: DrawnRecord) -> dict[str, Any]:
    """Return one node's section: its plots with their tables, and what was not measured."""
    from markupsafe import Markup

    number, samples = content.numbers[record.node_id], content.samples[record.node_id]
    parts = []
    for kind, timed in timed_nodes(record, samples, number):
        every = [set(one.codes) for one in timed.figures]
        common = frozenset.intersection(*map(frozenset, every))
        first = timed.figures[0]
        parts.append(
            {
                "model": kind[0],
                "workload": kind[1],
                "svg": Markup(content.plots[timed.prefix]),  # noqa: S704
                "shape": " x ".join(map(str, first.shape)),
                "kernel": first.kernel,
                "bounds": view.bounds_of(timed.figures),
                "nominal": rate_text(first.nominal_mflop_s) if first.nominal_mflop_s else view.ABSENT,
                "common": sorted(common),
                "missing": _missing(timed),
                "rows": [
                    view.figure_row(one, series, index, common)
                    for index, (one, series) in enumerate(zip(timed.figures, timed.series, strict=True))
                ],
            }
        )
    references = [
        {
            "device": one.device,
            "what": f"{one.kernel} ({one.role}, {one.precision})",
            "rate": _reference_text(one),
        }
        for one in record.references
    ]
    return {
        "number": number,
        "name": content.names[record.node_id],
        "node_id": record.node_id,
        "group": content.source.groups.get(record.node_id),
        "parts": parts,
        "absent": record.absent,
        "references": references,
        "state": samples.state,
    }


def _reference_text(one: DrawnReference) -> str:
    if one.rate_mb_s is not None:
        return f"{one.rate_mb_s / 1000:,.1f} GB/s"
    return view.ABSENT if one.rate_mflop_s is None else rate_text(one.rate_mflop_s)


def _missing(timed: TimedNode) -> list[dict[str, Any]]:
    """Return what the samples of some devices lack, by reason and devices; quantities and reasons are keys of texts."""
    lacking: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one, series in zip(timed.figures, timed.series, strict=True):
        if series is None:
            continue
        read = {exposed for name, _, _, exposed in PANELS if name in series.readings}
        read |= {"throttle"} if series.throttled is not None else set()
        for quantity in ("power", "clock", "temperature", "throttle"):
            if quantity not in read:
                reason = "not_read" if quantity in one.exposes else "not_exposed" if one.source else "no_source"
                lacking[quantity, reason].append(one.reading.device)
    together: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for (quantity, reason), devices in lacking.items():
        together[reason, tuple(devices)].append(quantity)
    return [
        {"quantities": quantities, "reason": reason, "devices": devices if len(devices) < len(timed.figures) else ()}
        for (reason, devices), quantities in together.items()
    ]


def frames_of(records: Sequence[DrawnRecord], samples: Mapping[str, SampleState]) -> dict[Kind, TimeFrame]:
    """Return the axes of each model and workload over all nodes that are drawn."""
    figures: dict[Kind, list[DrawnFigure]] = defaultdict(list)
    series: dict[Kind, list[DeviceSeries]] = defaultdict(list)
    for record in records:
        if record.node_id in samples:
            for one in record.figures:
                figures[one.kind].append(one)
                seen = samples[record.node_id].series.get((one.reading.device, one.reading.workload))
                if seen is not None:
                    series[one.kind].append(seen)
    return {kind: frame_of(of_kind, series[kind]) for kind, of_kind in figures.items()}
