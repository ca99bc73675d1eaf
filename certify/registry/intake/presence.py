"""Nodes between two certifications: heartbeats under fresh nonces, signed by the keys of their records.

A heartbeat says that whoever holds the key of a certified record answers now, and which devices it sees. It measures
nothing: what the node sustains is what its record says.
"""

from __future__ import annotations

import secrets
from typing import Any

from sqlalchemy import Connection, Row, select

from bench.errors import RefusedError
from bench.units import utc_ns, utc_text
from certify.documents.caps import CAPS
from certify.documents.kinds import Heartbeat, OpenedDocument
from certify.registry.api.common import Beat, Nonce
from certify.registry.base.registry import Registry
from certify.registry.storage.store import record_change
from certify.registry.storage.tables import chains, node_lines, presence, statements
from certify.trust.opening import Verifier
from certify.trust.trusted_set import skewed

NONCE_BYTES = 32


def nonce(registry: Registry, centre_id: str, node_id: str) -> Nonce:
    """Return what the next heartbeat of a node must carry.

    Raises:
        RefusedError: `node-unknown`: no statement in force has a record of it.
    """
    with registry.store.reading() as connection:
        # again under the lock: two that ask at once must be given the same nonce
        row = _present(connection, centre_id, node_id)
        if row is not None:
            return Nonce(centre_id=centre_id, node_id=node_id, nonce=row.nonce)
        line = _lines(connection, centre_id, node_id)[0]
    with registry.store.writing() as connection:
        row = _present(connection, centre_id, node_id)
        fresh = secrets.token_hex(NONCE_BYTES) if row is None else row.nonce
        if row is None:
            first = {"centre_id": centre_id, "node_id": node_id, "keyid": line.keyid, "nonce": fresh, "beats": 0}
            connection.execute(presence.insert(), first)
    return Nonce(centre_id=centre_id, node_id=node_id, nonce=fresh)


def beat(registry: Registry, content: bytes) -> Beat:
    """Check a heartbeat and update the presence of its node.

    Args:
        registry: that listens.
        content: the signed document.

    Raises:
        RefusedError: `node-unknown`, `signer-mismatch`, `nonce-differs`, `heartbeat-time`, or a code of
            `Verifier.node_document`.
    """
    now_ns = registry.clock_ns()
    at = utc_text(now_ns)
    # signed by the key of the node's record, which stands in no trust root: whose it is says the record
    opened: OpenedDocument[Heartbeat] = Verifier(registry.trust().trusted, at).node_document("heartbeat", content)
    heartbeat = opened.predicate
    (keyid,) = opened.signers
    with registry.store.writing() as connection:
        lines = [line for line in _lines(connection, heartbeat.centre_id, heartbeat.node_id) if line.keyid == keyid]
        if not lines:
            fix = "sign it as the user, and with the PETASEAL_STATE, that measured, or give --key"
            what = "is signed by another key than the node's record"
            raise RefusedError("signer-mismatch", what, where=heartbeat.node_id, fix=fix)
        row = _present(connection, heartbeat.centre_id, heartbeat.node_id)
        # good once, so that a heartbeat that was overheard keeps no dead node on-line
        if row is None or not secrets.compare_digest(row.nonce, heartbeat.nonce):
            fix = "ask for the nonce of this node, and sign it"
            raise RefusedError(
                "nonce-differs", "does not carry the nonce that is due", where=heartbeat.node_id, fix=fix
            )
        # a heartbeat that was signed in advance, or held back, says nothing of now
        if heartbeat.sent_at > skewed(at) or at > skewed(heartbeat.sent_at):
            what = f"was sent at {heartbeat.sent_at} by the node's clock, and it is {at}"
            raise RefusedError("heartbeat-time", what, where=heartbeat.node_id, fix="set the node's clock")
        stale_ns = registry.settings.stale_after_s * 10**9
        whole = all(line.devices_sha256 == heartbeat.devices_sha256 for line in lines)
        seen_at = max(at, row.seen_at or at)  # a clock that was set back takes nothing back
        was_fresh = row.seen_at is not None and now_ns < utc_ns(row.seen_at) + stale_ns
        # What comes late may be seen by nobody before the node was silent: followers are told a little too often.
        in_time = row.seen_at is not None and now_ns < utc_ns(row.seen_at) + stale_ns - stale_ns // 10
        fresh = secrets.token_hex(NONCE_BYTES)
        this = (presence.c.centre_id == heartbeat.centre_id) & (presence.c.node_id == heartbeat.node_id)
        changed = {
            "keyid": keyid,
            "nonce": fresh,
            "seen_at": seen_at,
            "beats": row.beats + 1 if was_fresh else 1,
            "devices_sha256": heartbeat.devices_sha256,
            "heartbeat_sha256": opened.payload_sha256,
        }
        connection.execute(presence.update().where(this).values(**changed))
        # only what changes an answer is a change: ten thousand nodes beat every minute
        if not in_time or (row.devices_sha256, row.keyid) != (heartbeat.devices_sha256, keyid):
            for project in {line.project_id for line in lines}:
                record_change(connection, at, "presence", heartbeat.centre_id, project)
    return Beat(
        centre_id=heartbeat.centre_id,
        node_id=heartbeat.node_id,
        online=whole,
        code=None if whole else "devices-differ",
        seen_at=seen_at,
        nonce=fresh,
        stale_at=utc_text(utc_ns(seen_at) + stale_ns),
    )


def _present(connection: Connection, centre_id: str, node_id: str) -> Row[Any] | None:
    this = (presence.c.centre_id == centre_id) & (presence.c.node_id == node_id)
    return connection.execute(select(presence).where(this)).one_or_none()


def _lines(connection: Connection, centre_id: str, node_id: str) -> list[Any]:
    """Return what a node contributes to the newest statements of its centre.

    Raises:
        RefusedError: `node-unknown`.
    """
    query = (
        select(node_lines.c.keyid, node_lines.c.devices_sha256, statements.c.project_id)
        .join(chains, chains.c.statement == node_lines.c.statement)
        .join(statements, statements.c.payload_sha256 == node_lines.c.statement)
        .where(chains.c.centre_id == centre_id, node_lines.c.node_id == node_id)
        .limit(CAPS.package_witnesses * 32)  # pools and projects that one node stands in
    )
    lines = list(connection.execute(query))
    if not lines:
        what = f"no statement in force of {centre_id} has a record of the node {node_id} that was recomputed here"
        raise RefusedError("node-unknown", what)
    return lines
