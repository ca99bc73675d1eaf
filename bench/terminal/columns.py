"""Tables of text that fit a terminal: columns are dropped in a fixed order, and nothing is wrapped or cut in a word.

Pure: widths are handed in. Chinese takes two columns a character, and counts as such.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TextIO

from bench.terminal.screen import is_terminal
from bench.terminal.summary import cells, padded

USUAL_SIZE = (80, 24)  # of a terminal that does not say
GAPS = (2, 1)  # between columns: the wider where there is room
DUMB = ("", "dumb", "unknown")
PAINTED = {"bad": "\x1b[1;31m", "warn": "\x1b[33m", "dim": "\x1b[2m", "head": "\x1b[1m"}
Line = tuple[str, str]  # a line and its style, a key of `PAINTED`; "" for none


class Column(NamedTuple):
    """One column of a table.

    Args:
        heading: its first line.
        cells: its other lines.
        importance: columns of the highest number are dropped first; 0 is never dropped.
        right: whether it is aligned to the right, as numbers are.
        short: a heading for where there is little room; empty for none.
    """

    heading: str
    cells: Sequence[str]
    importance: int
    right: bool = True
    short: str = ""

    def width(self) -> int:
        """Return how many columns of a terminal it takes."""
        return max(map(cells, (self.heading, *self.cells)))


class Surface(NamedTuple):
    """What a stream can show.

    Args:
        columns: of a terminal; None elsewhere, where nothing is wrapped or dropped.
        rows: of a terminal; None elsewhere.
        is_coloured: whether colours may be shown.
        moves: whether the cursor can be moved, so that a table is redrawn in place.
    """

    columns: int | None
    rows: int | None
    is_coloured: bool
    moves: bool


def surface_of(stream: TextIO | None, environment: Mapping[str, str]) -> Surface:
    """Return what a stream can show at this moment: a terminal may have been resized since."""
    if stream is None or not is_terminal(stream):
        return Surface(None, None, False, False)
    can_move = environment.get("TERM", "") not in DUMB
    try:
        columns, rows = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        columns, rows = 0, 0
    columns = columns or _number(environment.get("COLUMNS")) or USUAL_SIZE[0]
    rows = rows or _number(environment.get("LINES")) or USUAL_SIZE[1]
    # https://no-color.org: whatever value it has, an empty one aside.
    return Surface(columns, rows, can_move and not environment.get("NO_COLOR"), can_move)


def painted(line: Line, surface: Surface) -> str:
    """Return a line in its colour, where a stream shows colours."""
    text, style = line
    return f"{PAINTED[style]}{text}\x1b[0m" if style and surface.is_coloured else text


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


def table(columns: Sequence[Column], width: int | None) -> list[str]:
    """Return a table as lines, its headings first.

    Args:
        columns: in their order, all of one length; those with an empty heading and empty cells are left out.
        width: that lines may have; None for any.
    """
    shown = [one for one in columns if one.width()]
    gap = GAPS[0]
    if width is not None:
        gap = next((gap for gap in GAPS if _total(shown, gap) <= width), GAPS[-1])
        if _total(shown, gap) > width:
            shown = [one._replace(heading=one.short or one.heading) for one in shown]
        while _total(shown, gap) > width and (droppable := [one for one in shown if one.importance]):
            shown.remove(max(droppable, key=lambda one: one.importance))
    widths = [one.width() for one in shown]
    lines = []
    for row in zip(*((one.heading, *one.cells) for one in shown), strict=True):
        line = [padded(cell, each, right=one.right) for cell, one, each in zip(row, shown, widths, strict=True)]
        lines.append((" " * gap).join(line).rstrip())
    return lines


def _total(columns: Sequence[Column], gap: int) -> int:
    return sum(one.width() for one in columns) + gap * (len(columns) - 1)


def fitted(parts: Sequence[str], width: int | None) -> str:
    """Return parts of a line, the most important first, as many as fit."""
    line, *rest = parts
    for part in rest:
        if width is None or cells(line) + 2 + cells(part) <= width:
            line += "  " + part
    return line
