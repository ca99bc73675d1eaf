"""Who vouches for a statement: the witnesses whose documents a registry accepted, and who hold under today's trust.

A document is accepted before anybody knows whether it fits (its statement may come later); it vouches for the statement
only where it holds against it. What counts with a witness only (`accept_with_witness` of a policy) counts from then on.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from certify.documents.kinds import Opened
from certify.registry.intake.decisions import beside
from certify.registry.service.registry import record_change
from certify.registry.storage.store import Objects
from certify.registry.storage.tables import statements, witnesses
from certify.statement.build import CapacityStatement
from certify.trust.trusted_set import TrustedSet
from certify.trust.witness import Witnessed, gather_witnesses


def witnesses_of(
    connection: Connection, objects: Objects, statement: Opened[CapacityStatement], trust: TrustedSet, at: str
) -> tuple[Witnessed, ...]:
    """Return the witnesses of a statement whose documents hold against it."""
    found = beside(connection, "witness", statement.payload_sha256)
    files = [objects.path(row.object_sha256) for row in found]
    return gather_witnesses((), files, statement, trust, at)[0]


def keep_witnesses(
    connection: Connection, objects: Objects, statement: Opened[CapacityStatement], trust: TrustedSet, at: str
) -> int:
    """Store who vouches for a stored statement and was not known to, and return how many there were."""
    sha256, written = statement.payload_sha256, 0
    known = set(connection.scalars(select(witnesses.c.keyid).where(witnesses.c.statement == sha256)))
    for one in witnesses_of(connection, objects, statement, trust, at):
        if one.keyid not in known:
            row = {"statement": sha256, "keyid": one.keyid, "witnessed_at": one.witnessed_at, "at": at}
            connection.execute(witnesses.insert(), row)
            written += 1
    if written:
        chain = select(statements.c.centre_id, statements.c.project_id).where(statements.c.payload_sha256 == sha256)
        record_change(connection, at, "witness", *connection.execute(chain).one(), sha256)
    return written


def drop_revoked(connection: Connection, trust: TrustedSet, at: str) -> None:
    """Forget witnesses whose keys were revoked: no date of theirs is believed, and nothing counts by them."""
    revoked = witnesses.c.keyid.in_(trust.revoked)
    named = select(statements.c.centre_id, statements.c.project_id, statements.c.payload_sha256).where(
        statements.c.payload_sha256.in_(select(witnesses.c.statement).where(revoked))
    )
    for centre_id, project_id, sha256 in connection.execute(named).all():
        record_change(connection, at, "witness", centre_id, project_id, sha256)
    connection.execute(delete(witnesses).where(revoked))
