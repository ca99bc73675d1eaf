"""How a page comes out of a template: its language, its words, and what templates call."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bench.units import full_name, truncated
from certify.registry.api.cities import CityCondition, Gap
from certify.registry.api.views import PoolCapacity, StatementSummary
from certify.registry.web import wording
from certify.registry.web.overview import in_unit, unit_of, unit_of_components
from certify.registry.web.wording import Frame, Lang
from certify.statement.paper import tables


@cache
def environment(lang: Lang) -> Environment:
    """Return the templates with the words of a language."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        said=lambda text: wording.said(text, lang),
        reason=lambda code: wording.reason_text(code, lang),
        missing=lambda code: wording.missing_text(code, lang),
        in_unit=in_unit,
        column_unit=unit_of_components,
        unit=unit_of,
        full_name=full_name,
        labelled=tables.labelled,
        columns=tables.columns,
        known=lambda value, prefix: wording.known(prefix, value, lang),
        rate=wording.rate,
        percent=wording.percent,
        points=lambda ppm: truncated(ppm, 10_000, 1 if ppm >= 1000 else 4),
        moment=wording.moment,
        count=wording.count,
        operator=lambda sign: "≥" if sign == ">=" else sign,
    )
    made.globals.update(t=wording.wording(lang), tags=wording.TAGS, doubt=doubt, gaps=gaps)
    return made


def render(frame: Frame, template: str, room: str | None, **values: Any) -> str:
    """Return a page of a template; `room` is the place in the navigation that it belongs to."""
    return environment(frame.lang).get_template(f"{template}.html.j2").render(frame=frame, room=room, **values)


def doubt(one: StatementSummary | PoolCapacity) -> str | None:
    """Return which warning a statement or pool bears."""
    return wording.proves_nothing(one.simulated, one.grade)


def gaps(condition: CityCondition) -> Mapping[str, Gap]:
    """Return what is missing to a condition, by basis."""
    return {gap.basis: gap for gap in condition.gaps}
