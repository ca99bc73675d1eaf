"""One stored statement as its documents say it, for whoever fills tables from what was stored before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, select

from bench.errors import RefusedError
from bench.record import NodeRecord
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import OpenedDocument, parse_payload
from certify.documents.statement import CapacityStatement
from certify.registry.storage.store import Objects, sha256_of
from certify.registry.storage.tables import statements, verifications


@dataclass(frozen=True)
class StoredStatement:
    """A statement that was accepted, and the file of its records where they were."""

    payload_sha256: str
    received_at: str
    statement: CapacityStatement
    records_path: Path | None  # records.jsonl; None: the statement was not recomputed
    recomputed_at: str | None  # when its records were accepted

    def records(self) -> Iterator[OpenedDocument[NodeRecord]]:
        """Yield the records one by one, in the order of the file. Their signatures were checked when they came in."""
        if self.records_path is None:
            return
        with self.records_path.open("rb") as file:
            # the verifier refused longer lines when the file came in: this reads one record at a time
            while line := file.readline(CAPS.record_bytes + 1):
                yield parse_payload("node-record", parse_envelope(line, CAPS.record_bytes).payload)


def stored_statement(connection: Connection, objects: Objects, payload_sha256: str) -> StoredStatement:
    """Return a stored statement, after the SHA-256 of its files was checked.

    Args:
        connection: a reader's or the writer's.
        objects: of the same registry.
        payload_sha256: of a statement in the tables.

    Raises:
        RefusedError: `object-missing` or `object-differs`: what is stored is damaged.
    """
    row = connection.execute(select(statements).where(statements.c.payload_sha256 == payload_sha256)).one()
    of_records = select(verifications.c.records_sha256, verifications.c.at).where(
        verifications.c.statement == payload_sha256, verifications.c.level == "recomputed"
    )
    verified = connection.execute(of_records).one_or_none()
    envelope_path = _checked(objects, row.envelope_sha256)
    payload = parse_envelope(envelope_path.read_bytes(), CAPS.statement_bytes).payload
    opened: OpenedDocument[CapacityStatement] = parse_payload("capacity-statement", payload, envelope_path)
    if hashlib.sha256(payload).hexdigest() != payload_sha256:
        raise RefusedError("object-differs", "is not the statement that its row names", where=envelope_path)
    path = None if verified is None else _checked(objects, verified.records_sha256)
    at = None if verified is None else verified.at
    return StoredStatement(payload_sha256, row.received_at, opened.predicate, path, at)


def _checked(objects: Objects, sha256: str) -> Path:
    """Return the path of an object that is there and is what its name says."""
    path = objects.path(sha256)
    if not path.is_file():
        raise RefusedError("object-missing", "is named in the tables and is not there", where=path)
    # what an altered disk holds must not become rows that look as if they had been verified
    if sha256_of(path) != sha256:
        raise RefusedError("object-differs", "is not what its name says", where=path)
    return path
