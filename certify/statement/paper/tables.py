"""Tables that can be read in a window of any width: each cell bears its column's name, so that rows can become cards.

Style sheets do the rest (`sheet.css`; the registry's `assets/site.css`): a table with many columns is stacked in a
window in which one with few still stands side by side. Nothing here depends on scripts.
"""

from __future__ import annotations

import re
from itertools import count, islice

from markupsafe import Markup

_ROW = re.compile(r"<tr\b(?P<attributes>[^>]*)>(?P<cells>.*?)</tr>", re.DOTALL)
_CELL = re.compile(r"<(?P<tag>th|td)\b(?P<attributes>[^>]*)>(?P<content>.*?)</(?P=tag)>", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_SPAN = re.compile(r'colspan="(\d+)"')
# Rows that a style sheet lays out as blocks are no rows any more to a screen reader, unless their roles say so.
_ROLES = {"table": "table", "thead": "rowgroup", "tbody": "rowgroup"}


def labelled(table: str) -> Markup:
    """Return a table whose cells bear the names of their columns (`data-label`) and whose parts bear their roles.

    Args:
        table: markup of one table of templates, which are escaped: each ``<t`` in it is a tag.
    """
    head, body = re.split(r"(?<=</thead>)", table, maxsplit=1)
    names = [" ".join(_TAG.sub(" ", cell["content"]).split()) for cell in _CELL.finditer(head)]

    def heading(row: re.Match[str]) -> str:
        cells = _CELL.sub(lambda cell: _tag(cell, "columnheader"), row["cells"])
        return f'<tr role="row"{row["attributes"]}>{cells}</tr>'

    def line(row: re.Match[str]) -> str:
        places = count()

        def cell(one: re.Match[str]) -> str:
            place = next(places)
            role = "rowheader" if one["tag"] == "th" else "cell"
            # what spans columns names its row or the lines under it, and is of no column
            if span := _SPAN.search(one["attributes"]):
                list(islice(places, int(span[1]) - 1))
            label = "" if span else f' data-label="{names[place]}"'
            return _tag(one, role, label)

        return f'<tr role="row"{row["attributes"]}>{_CELL.sub(cell, row["cells"])}</tr>'

    made = _ROW.sub(heading, head) + _ROW.sub(line, body)
    for tag, role in _ROLES.items():
        made = re.sub(rf"<{tag}\b", f'<{tag} role="{role}"', made)
    return Markup(made)  # noqa: S704 - the template's own markup, escaped there


def columns(table: str) -> int:
    """Return the number of columns of a table."""
    return len(_CELL.findall(table.partition("</thead>")[0]))


def lines(table: str) -> int:
    """Return the number of rows under a table's head."""
    return len(_ROW.findall(table.partition("</thead>")[2]))


def _tag(cell: re.Match[str], role: str, label: str = "") -> str:
    return f'<{cell["tag"]} role="{role}"{label}{cell["attributes"]}>{cell["content"]}</{cell["tag"]}>'
