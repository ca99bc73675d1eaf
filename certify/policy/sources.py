"""What each source of telemetry exposes of a device (R13): the table ``configs/sources.yaml``."""

from __future__ import annotations

from functools import cache
from typing import Literal

from bench.record import Document, Name, Text, config_path, read_yaml

Quantity = Literal["power", "clock", "temperature", "throttle", "ecc", "processes"]


class SourceRow(Document, frozen=True, kw_only=True):
    """One source of one kind of back end, the quantities that it always exposes, and the evidence of that."""

    kind: Name
    source: Name | None
    exposes: tuple[Quantity, ...]
    evidence: Text


@cache
def source_table() -> tuple[SourceRow, ...]:
    """Return the table, in its order."""
    return read_yaml(config_path("sources.yaml"), tuple[SourceRow, ...])


@cache
def exposed_by(kind: str, source: str | None) -> frozenset[str] | None:
    """Return the quantities that a source exposes; None where the table has nothing on the kind of back end.

    A record cannot escape by naming a source that its kind does not have: it is judged by the first of the kind.

    Args:
        kind: of back end, as in a device's name.
        source: that a record names.
    """
    rows = [row for row in source_table() if row.kind == kind]
    # a record that names no listed source would otherwise owe no readings
    row = next((row for row in rows if row.source == source), rows[0] if rows else None)
    return None if row is None else frozenset(row.exposes)
