"""``statement.html``: one self-contained bilingual page. A rendering; the signed document is the JSON."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from bench.units import full_name, percent_text, rate_text
from certify.statement.bounds import LIMITS, STEP_NAMES
from certify.statement.describe import SHOWN
from certify.statement.paper.tables import columns, labelled, lines
from certify.statement.paper.verdict_rows import MOST_GROUPS
from certify.statement.paper.view import StatementView, limitations_of, moment_text, nominal_text
from certify.statement.paper.visible import visible_text

LAST_COMMON = "\uffff"  # beyond the Basic Multilingual Plane

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent
LISTED = 300  # lines of one table: a page of thousands is read by nobody, and the signed document has them all


def render(view: StatementView) -> str:
    """Return the page of a statement.

    Args:
        view: what it says.
    """
    shown = {field.name: getattr(view, field.name) for field in fields(view)}
    return (
        page_environment(HERE)
        .get_template("statement.html.j2")
        .render(
            s=view.statement,
            step_names=STEP_NAMES,
            limit_names=LIMITS,
            limitations=limitations_of(view.statement),
            listed=LISTED,
            groups_listed=MOST_GROUPS,
            attempts=SHOWN,
            **shown,
        )
    )


def page_environment(folder: Path) -> Environment:
    """Return what fills in the templates of a folder, with the sheet and the parts that all pages share.

    Everything is escaped, what steers a terminal or the order of letters is written out, and a name that is missing is
    an error.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import escape

    environment = Environment(
        loader=FileSystemLoader([folder, HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=_shown,
    )
    environment.filters.update(
        plain=lambda text: escape(visible_text(text)),  # where no element may stand
        count="{:,}".format,
        rate=rate_text,
        percent=percent_text,
        moment=moment_text,
        nominal=nominal_text,
        full_name=full_name,
        labelled=labelled,
        columns=columns,
        lines=lines,
    )
    return environment


def _shown(value: object) -> object:
    """Return what stands in a template's place for a value: of a text, what may be shown.

    A browser that has no font for the first character of a run shows none of the run; so each character that few fonts
    have is a run of its own, with its code point.
    """
    from markupsafe import Markup, escape

    if type(value) is not str:
        return value
    text = visible_text(value)
    if not text or max(text) <= LAST_COMMON:
        return text
    return Markup().join(
        Markup('<span class="rare">{}<sub>U+{:04X}</sub></span>').format(c, ord(c)) if c > LAST_COMMON else escape(c)
        for c in text
    )
