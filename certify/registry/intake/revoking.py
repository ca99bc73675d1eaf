"""What ends a statement before its time: a revocation of it, of a key that signed it, or of one of its machines.

The rows say since when; that a statement has ended is seen by whoever looks at that time
(`certify.registry.state.model`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, func, select

from bench.errors import RefusedError
from certify.registry.intake.vouching import drop_revoked
from certify.registry.service.registry import Registry, record_change
from certify.registry.storage import tables
from certify.trust.trusted_set import TrustedSet


def refresh_trust(registry: Registry) -> int:
    """End every statement that the trust of now does not carry any more, and return how many there were.

    Raises:
        RefusedError, InputError: the trust root is refused or cannot be read.
    """
    trust, at = registry.trust().trusted, registry.now
    if not trust.revoked and not trust.withdrawn:
        return 0
    with registry.store.writing() as connection:
        drop_revoked(connection, trust, at)
        return end_revoked(connection, trust, at)


def end_revoked(connection: Connection, trust: TrustedSet, at: str, only: str | None = None) -> int:
    """Write the endings that revocations demand, of all statements or of one, and return how many there are.

    A key that was revoked before a statement was received signed nothing of it, whatever became of the key in the root
    since; a machine's key signed the record of its node.
    """
    statements, signers, lines, endings = tables.statements, tables.signers, tables.node_lines, tables.endings
    signed = select(signers.c.statement).where(signers.c.keyid.in_(trust.revoked))
    measured = select(lines.c.statement).where(lines.c.keyid.in_(trust.revoked))
    of_keys = statements.c.payload_sha256.in_(signed.union(measured))
    named = of_keys | statements.c.payload_sha256.in_(trust.withdrawn)
    over = select(endings.c.statement).where(endings.c.effective_at <= at)  # one of the future may come earlier yet
    query = select(statements).where(named, statements.c.payload_sha256.not_in(over))
    if only is not None:
        query = query.where(statements.c.payload_sha256 == only)
    written = 0
    for row in connection.execute(query).all():
        sha256 = row.payload_sha256
        keys = set(connection.execute(select(signers.c.keyid).where(signers.c.statement == sha256)).scalars())
        machines = connection.execute(select(lines.c.keyid).where(lines.c.statement == sha256).distinct()).scalars()
        causes = list(_causes(trust, row, keys, set(machines), at))
        known = connection.execute(select(func.min(endings.c.effective_at)).where(endings.c.statement == sha256))
        before = known.scalar()
        if not causes or (before is not None and before <= min(causes)[0]):
            continue
        effective_at, code, reason = min(causes)
        end = {"statement": sha256, "at": at, "effective_at": effective_at, "code": code, "reason": reason}
        connection.execute(endings.insert(), end)
        record_change(connection, at, "ending", row.centre_id, row.project_id, sha256)
        written += 1
    return written


def _causes(trust: TrustedSet, row: Any, keys: set[str], machines: set[str], at: str) -> Iterator[tuple[str, str, str]]:
    """Yield what ends a statement: from when, with which code, and why."""
    if (entry := trust.withdrawn.get(row.payload_sha256)) is not None:
        yield max(at, entry.revoked_at), "statement-revoked", entry.reason
    lost = {keyid for keyid in keys | machines if _was_revoked(trust, keyid, row.received_at)}
    if not lost:
        return
    left = frozenset(keys - lost)
    try:
        if not lost & machines:
            trust.check("capacity-statement", left, row.centre_id, row.received_at, dated=row.received_at)
            return  # others signed it too, and they are enough
    except RefusedError:
        pass
    yield at, "key-revoked", trust.revoked[min(lost)].reason


def _was_revoked(trust: TrustedSet, keyid: str, received_at: str) -> bool:
    entry = trust.revoked.get(keyid)
    return entry is not None and received_at >= entry.revoked_at
