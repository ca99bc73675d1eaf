"""The doctor's report on a terminal: one table, the gravest first, a summary of one screen and the whole with --all.

Elsewhere than on a terminal the same lines come whole and without colours: a script must not meet one broken in two.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby, zip_longest
from typing import NamedTuple

from bench.doctor.report import DoctorReport, ReportedFinding, filled
from bench.doctor.table import WEIGHT, Moves
from bench.language import language, text
from bench.terminal.columns import Line, painted, surface_of
from bench.terminal.show import say
from bench.terminal.summary import cells, padded, wrapped

MOST_LINES = 25  # of a summary
NARROW = 60  # columns, below which nothing stands in columns
WHERE = 24  # columns of devices and nodes at most
OF_A_CHECK = 3  # findings of one check in a summary
GAP = "  "
STYLES: dict[Moves, str] = {"zero": "bad", "figure": "warn", "nothing": ""}


class Cell(NamedTuple):
    """One row of the table before it is broken into lines."""

    effect: str
    where: str
    what: str
    style: str


class CheckBlock(NamedTuple):
    """The findings of one check, with what may be left out where there is no room: why first, then what to do."""

    findings: tuple[Cell, ...]
    why: Cell
    do: Cell

    def rows(self, left_out: int) -> tuple[Cell, ...]:
        """Return the block without its last parts: 0 none, 1 why, 2 what to do as well."""
        return (*self.findings, *((self.why, self.do), (self.do,), ())[left_out])


def show_report(report: DoctorReport, whole: bool) -> None:
    """Print a report for people.

    Args:
        report: what the checks came to.
        whole: every check, and every line of it.
    """
    surface = surface_of(sys.stdout, os.environ)
    for line in report_lines(report, whole, surface.columns):
        say(painted(line, surface))


def report_lines(report: DoctorReport, whole: bool, width: int | None) -> list[Line]:
    """Return a report as lines.

    Args:
        report: what the checks came to.
        whole: every check, and every line of it; else at most `MOST_LINES`.
        width: of the terminal in columns; None: lines are not broken.
    """
    blocks = [
        _block(list(findings), whole)
        for _, findings in groupby(report.findings, key=lambda one: (one.moves, one.check))
    ]
    quiet = list(_quiet_rows(report)) if whole else []
    rows = [row for block in blocks for row in block.rows(0)] + quiet
    layout = TableLayout(rows, width)
    first, last = (
        layout.plain(_head(report, whole), "head"),
        [*layout.plain(_counts(report)), *layout.plain(_close(report, whole))],
    )
    head = [*first, *(layout.lines(_heading()) if rows else [])]
    if whole:
        return [*head, *(line for row in rows for line in layout.lines(row)), *last]
    room = MOST_LINES - len(head) - len(last)
    # Each block in three lengths: with why and what to do, without why, and without both.
    lengths = [
        [[line for row in block.rows(part) for line in layout.lines(row)] for part in range(3)] for block in blocks
    ]
    chosen = [0] * len(blocks)
    # From the lightest up: first why goes, then what to do. What makes a device count 0 keeps its lines longest.
    for part in (1, 2):
        for place in reversed(range(len(blocks))):
            if sum(len(parts[its]) for parts, its in zip(lengths, chosen, strict=True)) > room:
                chosen[place] = part
    shown = [line for parts, its in zip(lengths, chosen, strict=True) for line in parts[its]]
    if len(shown) > room:
        more = layout.plain(text("doctor", "more", lines=len(shown) - room + 1))
        shown = [*shown[: room - len(more)], *more]
    return [*head, *shown, *last]


class TableLayout:
    """Where the table's columns stand, and how a row is broken into lines.

    Args:
        rows: all of them.
        width: of the terminal; None: rows are not broken.
    """

    def __init__(self, rows: Sequence[Cell], width: int | None) -> None:
        self._width = width
        self._effect = max(cells(row.effect) for row in (*rows, _heading()))
        most = WHERE if width is None else min(WHERE, width // 4)
        self._where = min(most, max(cells(row.where) for row in (*rows, _heading())))
        self._is_narrow = width is not None and width < NARROW

    def plain(self, line: str, style: str = "") -> list[Line]:
        """Return a line that stands in no column."""
        return [(part, style) for part in self._broken(line, self._width or 0)]

    def lines(self, row: Cell) -> list[Line]:
        """Return a row as lines."""
        width = self._width or 0
        if self._is_narrow:
            first = " ".join(filter(None, (row.effect, row.where)))
            parts = self._broken(first, width) if first else []
            parts += [f"  {part}" for part in self._broken(row.what, width - 2)]
        else:
            left = self._effect + self._where + 2 * len(GAP)
            columns = (
                self._broken(row.effect, self._effect),
                self._broken(row.where, self._where),
                self._broken(row.what, width - left),
            )
            parts = [
                GAP.join((padded(effect, self._effect), padded(where, self._where), what)).rstrip()
                for effect, where, what in zip_longest(*columns, fillvalue="")
            ]
        return [(part, row.style) for part in parts]

    def _broken(self, text: str, width: int) -> list[str]:
        """Return a text as lines of a column; where lines are not broken, as it is."""
        return [text] if self._width is None else wrapped(text, max(width, 2), hanging="")


def _heading() -> Cell:
    return Cell(text("doctor", "effect"), text("doctor", "where"), text("doctor", "what"), "dim")


def _effect(moves: Moves) -> str:
    return text("effect", moves)


def _block(findings: Sequence[ReportedFinding], whole: bool) -> CheckBlock:
    """Return the findings of one check as rows: in a summary a few, and how many more."""
    first = findings[0]
    shown = findings if whole else findings[:OF_A_CHECK]
    style = STYLES[first.moves]
    here = text("doctor", "campaign" if any(one.nodes for one in findings) else "node")
    rows = [Cell(_effect(one.moves), one.where or here, one.sentence(language()), style) for one in shown]
    if rest := len(findings) - len(shown):
        rows.append(Cell("", "", text("doctor", "alike", count=rest), style))
    why, do = filled(first.row.why, first.values)[language()], filled(first.row.do, first.values)[language()]
    rule = f" [{first.check}; docs/{first.row.rule}]" if whole else ""
    return CheckBlock(
        tuple(rows),
        Cell("", "", text("doctor", "why", text=f"{why}{rule}"), "dim"),
        Cell("", "", text("doctor", "do", text=do), ""),
    )


def _quiet_rows(report: DoctorReport) -> Iterator[Cell]:
    """Yield a row for each check that found nothing."""
    for check, why in report.unread.items():
        title = report.rows[check].title.in_language(language())
        yield Cell(text("effect", "unread"), "", f"{title}: {text('unread', why)} [{check}]", "")
    for effect, checks in (("fine", report.fine), ("absent", report.absent)):
        for check in checks:
            title = report.rows[check].title.in_language(language())
            yield Cell(text("effect", effect), "", f"{title} [{check}]", "dim")


def _head(report: DoctorReport, whole: bool) -> str:
    named = [one.described if whole else f"{one.devices} x {one.name}" for one in report.models]
    models = ", ".join(named) or text("doctor", "none")
    if report.is_campaign:
        return text("doctor", "head_campaign", nodes=report.nodes, devices=models)
    return text("doctor", "head", devices=models)


def _counts(report: DoctorReport) -> str:
    """Return how many findings there are of each weight."""
    if not report.findings:
        return text("doctor", "nothing")
    return text("doctor", "counts", **{moves: report.number(moves) for moves in WEIGHT})


def _close(report: DoctorReport, whole: bool) -> str:
    counts = {"fine": len(report.fine), "unread": len(report.unread), "absent": len(report.absent)}
    return text("doctor", "close" if whole else "close_summary", **counts)
