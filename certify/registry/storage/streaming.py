"""All of a registry, piece by piece: what is larger than memory is never read at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import Connection, select

from certify.registry.storage import tables

BATCH = 1000  # rows that are in memory at once
STREAMED = {"yield_per": BATCH}
BLOCK = 2**20  # bytes
NAMED = (  # columns that name objects
    tables.statements.c.envelope_sha256,
    tables.verifications.c.records_sha256,
    tables.decisions.c.object_sha256,
    tables.campaigns.c.envelope_sha256,
    tables.campaign_records.c.envelope_sha256,
)

Progress = Callable[[str, int], None]  # what is done ("rows", "objects"), and how many so far


def named(connection: Connection) -> Iterator[str]:
    """Yield the SHA-256 of every object that the tables name, ascending."""
    first, *others = [select(column.label("sha256")).where(column.is_not(None)) for column in NAMED]
    whole = first.union(*others).order_by("sha256")
    for part in connection.execute(whole, execution_options=STREAMED).partitions():
        yield from (row.sha256 for row in part)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, block by block."""
    with path.open("rb") as file:
        whole = hashlib.sha256()
        while block := file.read(BLOCK):
            whole.update(block)
        return whole.hexdigest()
