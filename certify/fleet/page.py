"""``index.html`` of a diagnosis: one self-contained bilingual page, for the centre itself. It holds no script.

Only words and layout may enter this room: what is found is computed in `certify.fleet.fleet`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.units import rate_text, truncated
from certify.fleet.findings import Reason, Side
from certify.policy.centre import Centre
from certify.policy.reasons import reasons

if TYPE_CHECKING:
    from certify.fleet.diagnose import FleetReport

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
        report: what was found.
        pictures: one SVG for each of the report's, in their order.
        centre: that was measured.
    """
    from importlib.metadata import version

    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    from certify.fleet.diagnose import not_compared
    from certify.statement.describe import PROVES_NOTHING

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters.update(
        rate=rate_text, percent=_percent, moment=_moment, node=lambda node_id: report.names.get(node_id, node_id)
    )
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


def _moment(text: str) -> str:
    return f"{text[:10]} {text[11:19]}"


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
