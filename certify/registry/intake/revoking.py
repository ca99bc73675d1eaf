"""Who vouches for a statement, and what ends it early: a revocation of it, of a key that signed it, of a machine.

The rows say since when; that a statement has ended is seen by whoever looks at that time
(`certify.registry.state.model`). A witness's document is accepted before anybody knows whether it fits (its statement
may come later); it vouches for the statement only where it holds against it. What counts with a witness only
(`accept_with_witness` of a policy) counts from then on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, delete, func, select

from bench.errors import RefusedError
from certify.documents.kinds import OpenedDocument
from certify.documents.statement import CapacityStatement
from certify.registry.base.registry import Registry
from certify.registry.intake.decisions import supporting_decisions
from certify.registry.storage import tables
from certify.registry.storage.store import Objects, record_change
from certify.registry.storage.tables import statements, witnesses
from certify.trust.dating import Witnessed, gather_witnesses
from certify.trust.opening import Verifier
from certify.trust.revocations import RevokedRecords
from certify.trust.trusted_set import TrustedSet


def witnesses_of(
    connection: Connection, objects: Objects, statement: OpenedDocument[CapacityStatement], trust: TrustedSet, at: str
) -> tuple[Witnessed, ...]:
    """Return the witnesses of a statement whose documents hold against it."""
    documents = supporting_decisions(connection, "witness", statement.payload_sha256)
    files = [objects.path(row.object_sha256) for row in documents]
    # by the trust of now, not of the moment at which they came: a key may have been revoked since
    return gather_witnesses((), files, statement, Verifier(trust, at))[0]


def store_witnesses(
    connection: Connection, objects: Objects, statement: OpenedDocument[CapacityStatement], trust: TrustedSet, at: str
) -> int:
    """Store who vouches for a stored statement and was not known to, and return how many there were."""
    sha256, written = statement.payload_sha256, 0
    known = set(connection.scalars(select(witnesses.c.keyid).where(witnesses.c.statement == sha256)))
    for one in witnesses_of(connection, objects, statement, trust, at):
        # each witness counts once, however many documents it signs
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


def refresh_trust(registry: Registry) -> int:
    """End every statement that the trust of now does not carry any more, and return how many there were.

    Raises:
        InputError: `trust-not-current`, the grace of the last trust root is over.
    """
    trust, at = registry.last_trust().trusted, registry.now
    # most of the time, and asked every minute: without the writer's lock
    if not trust.revoked and not trust.withdrawn:
        return 0
    with registry.store.writing() as connection:
        # before statements are looked at: a witness whose key is revoked vouches for none of them
        drop_revoked(connection, trust, at)
        return end_revoked(connection, trust, at)


def end_revoked(connection: Connection, trust: TrustedSet, at: str, only: str | None = None) -> int:
    """Store the revocations that end statements, all of them or one, and return how many were written.

    A key that was revoked before a statement was received signed nothing of it, whatever the root says of the key
    since; a machine's key signed the record of its node.
    """
    statements, signers, lines, revocations = tables.statements, tables.signers, tables.node_lines, tables.revocations
    signed = select(signers.c.statement).where(signers.c.keyid.in_(trust.revoked))
    measured = select(lines.c.statement).where(lines.c.keyid.in_(trust.revoked))
    of_keys = statements.c.payload_sha256.in_(signed.union(measured))
    named = of_keys | statements.c.payload_sha256.in_(trust.withdrawn)
    # over revoked records, whichever statement states them: which start of a campaign is meant `_causes` sees
    named |= statements.c.records_root.in_(trust.revoked_records.roots)
    named |= statements.c.campaign_sha256.in_(trust.revoked_records.campaigns)
    over = select(revocations.c.statement).where(
        revocations.c.effective_at <= at
    )  # one of the future may come earlier yet
    query = select(statements).where(named, statements.c.payload_sha256.not_in(over))
    if only is not None:
        query = query.where(statements.c.payload_sha256 == only)
    written = 0
    for row in connection.execute(query).all():
        sha256 = row.payload_sha256
        keys = set(connection.execute(select(signers.c.keyid).where(signers.c.statement == sha256)).scalars())
        machines = connection.execute(select(lines.c.keyid).where(lines.c.statement == sha256).distinct()).scalars()
        causes = list(_causes(trust, row, keys, set(machines), at))
        known = connection.execute(
            select(func.min(revocations.c.effective_at)).where(revocations.c.statement == sha256)
        )
        before = known.scalar()
        if not causes or (before is not None and before <= min(causes)[0]):
            continue
        effective_at, code, reason = min(causes)
        end = {"statement": sha256, "at": at, "effective_at": effective_at, "code": code, "reason": reason}
        connection.execute(revocations.insert(), end)
        record_change(connection, at, "ending", row.centre_id, row.project_id, sha256)
        written += 1
    return written


def _causes(trust: TrustedSet, row: Any, keys: set[str], machines: set[str], at: str) -> Iterator[tuple[str, str, str]]:
    """Yield what ends a statement: from when, with which code, and why."""
    if (entry := trust.withdrawn.get(row.payload_sha256)) is not None:
        yield max(at, entry.revoked_at), "statement-revoked", entry.reason
    records = RevokedRecords(
        records_root=row.records_root, campaign_sha256=row.campaign_sha256, starts_at=row.starts_at
    )
    if (entry := trust.revoked_records.of(records)) is not None and entry.payload_sha256 != row.payload_sha256:
        yield max(at, entry.revoked_at), "records-revoked", entry.reason
    lost = {keyid for keyid in keys | machines if _was_revoked(trust, keyid, row.received_at)}
    if not lost:
        return
    left = frozenset(keys - lost)
    try:
        # a machine's key cannot be replaced by another signature: its record is what was measured
        if not lost & machines:
            trust.check("capacity-statement", left, row.centre_id, row.received_at, attested_before=row.received_at)
            return  # others signed it too, and they are enough
    except RefusedError:
        pass
    yield at, "key-revoked", trust.revoked[min(lost)].reason


def _was_revoked(trust: TrustedSet, keyid: str, received_at: str) -> bool:
    entry = trust.revoked.get(keyid)
    return entry is not None and received_at >= entry.revoked_at
