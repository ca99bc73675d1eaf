"""Which devices of a node are parts of one board: dies by the serial number that they share. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bench.devices.source import Listed
from bench.record.node import identifier

MOST_PARTS = 4  # devices on one board of any vendor


def with_parts(rows: Sequence[Listed]) -> list[Listed]:
    """Return the devices of a node with those marked that are dies of one board, by the board's serial as parent.

    A serial number is a board's: where two devices report one, each is a die of it. A device that its source knows for
    a die by its name or PCI id stays one where the container hides the others. Slices name their whole themselves.
    More devices than any board has do not share a board, but the base board of a chassis: its serial is none of theirs.

    Args:
        rows: all devices of one vendor on one node.
    """
    boards = Counter(identifier(row.serial) for row in rows if row.count_unit != "slice")
    return [_marked(row, boards) for row in rows]


def _marked(row: Listed, boards: Counter[str | None]) -> Listed:
    board = identifier(row.serial)
    if row.count_unit != "slice" and board is not None and boards[board] > MOST_PARTS:
        row, board = row._replace(serial=None), None
    shared = board is not None and boards[board] > 1
    if row.count_unit == "slice" or not (shared or row.count_unit == "die"):
        return row
    return row._replace(count_unit="die", parent=row.parent or row.serial, serial=None)
