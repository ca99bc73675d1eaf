"""The result of a diagnosis: the type of ``diagnosis.json`` and the page ``index.html``.

Only types, words and layout: the findings are computed in `certify.fleet.fleet`. The page is self-contained, bilingual
and without a script."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.record import Document, Name, Sha256, Text, UtcTime
from bench.units import truncated
from certify.documents.statement import NotCounted
from certify.fleet.findings import Diagnosis, Reason, Side
from certify.fleet.readings import RefusedRecord
from certify.policy.centre import Centre
from certify.policy.reasons import reasons
from certify.statement.attendance import Absence
from certify.statement.describe import PROVES_NOTHING
from certify.statement.paper.page import page_environment


class Picture(Document, frozen=True, kw_only=True):
    """Where the picture of one model in one workload lies."""

    model: str
    workload: str
    file: str


class FleetReport(Document, frozen=True, kw_only=True):
    """``diagnosis.json``, the whole result of a diagnosis. It stays in the centre, since it names the nodes."""

    centre_id: Name
    campaign_id: Name
    campaign_sha256: Sha256
    starts_at: UtcTime
    simulated: bool
    previous: Name | None  # campaign that drift is against
    remarks: tuple[str, ...]  # on what could be compared
    names: dict[Name, Text]  # the engine's name of each node
    expected: int  # nodes
    absent: tuple[Absence, ...]  # of them
    refused: tuple[RefusedRecord, ...]
    not_counted: tuple[NotCounted, ...]  # figures that are void or held, or were not measured: no readings
    diagnosis: Diagnosis
    pictures: tuple[Picture, ...]


def not_compared(report: FleetReport) -> list[str]:
    """Return the figures that are void or held or were not measured, one line for each node and reason."""
    devices: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for one in report.not_counted:
        devices.setdefault((one.node_id, one.codes), []).append(f"{one.device} {one.workload}")
    return [
        f"{report.names.get(node_id, node_id)}, {', '.join(what)}: {', '.join(codes)}"
        for (node_id, codes), what in devices.items()
    ]


ROWS = 100  # of a table; all of them are in the JSON
SIDES: dict[Side, dict[str, str]] = {"slow": {"zh": "偏慢", "en": "slow"}, "fast": {"zh": "过快", "en": "too fast"}}
TAKE_OUT: dict[Reason, dict[str, str]] = {
    "slow-device": {"zh": "设备偏慢", "en": "slow device"},
    "fast-device": {"zh": "设备过快", "en": "device too fast"},
    "slow-node": {"zh": "整个节点偏慢", "en": "slow as a whole"},
    "fast-node": {"zh": "整个节点过快", "en": "too fast as a whole"},
    "drifted": {"zh": "降幅明显大于同型号", "en": "fell much more than its model"},
}
SIMULATED_ZH = "模拟：在模拟设备上测得，不能证明任何算力。"


def render_fleet(report: FleetReport, pictures: Sequence[str], centre: Centre) -> str:
    """Return the page of a diagnosis.

    Args:
        report: the diagnosis.
        pictures: one SVG for each of the report's, in their order.
        centre: that was measured.
    """
    from importlib.metadata import version

    from markupsafe import Markup

    environment = page_environment(Path(__file__).parent)
    environment.filters.update(percent=_percent, node=lambda node_id: report.names.get(node_id, node_id))
    return environment.get_template("fleet.html.j2").render(
        r=report,
        d=report.diagnosis,
        centre=centre,
        version=version("petaseal"),
        warning={"zh": SIMULATED_ZH, "en": PROVES_NOTHING["simulated"]} if report.simulated else None,
        pictures=list(zip(report.pictures, map(Markup, pictures), strict=True)),
        take_out=TAKE_OUT,
        sides=SIDES,
        rows=ROWS,
        alone=[one for one in report.diagnosis.outliers if one.scope != "node"],
        not_compared=not_compared(report),
        codes=_codes(report),
    )


def _percent(ppm: int | None) -> str:
    """Return a change for people, its sign with it."""
    if ppm is None:
        return "—"
    text = truncated(abs(ppm), 10_000, 1)
    sign = "" if text == "0.0" else "+" if ppm > 0 else "-"
    return f"{sign}{text} %"


def _codes(report: FleetReport) -> list[dict[str, Any]]:
    """Return the reason codes of everything that is not compared, how often each is there, and their texts."""
    table = reasons()
    counts: dict[str, int] = {}
    for code in [one.code for one in report.absent] + [code for one in report.not_counted for code in one.codes]:
        counts[code] = counts.get(code, 0) + 1
    return [
        {"code": code, "count": count, "zh": table[code].zh, "en": table[code].en}
        for code, count in sorted(counts.items())
        if code in table
    ]
