"""Nodes between two certifications: heartbeats under fresh nonces, signed by the keys of their records.

A heartbeat says that whoever holds the key of a certified record answers now, and which devices it sees. It measures
nothing: what the node sustains is what its record says. Many are decided in one transaction: signatures are checked
before it, and the disk is flushed once for all of them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, bindparam, select, tuple_

from bench.errors import RefusedError
from bench.units import utc_ns, utc_text
from certify.documents.kinds import Heartbeat, OpenedDocument
from certify.registry.api.common import Beat, Nonce
from certify.registry.base.registry import Registry
from certify.registry.intake.certified_nodes import CertifiedNode, certified_nodes
from certify.registry.storage.store import Store, record_change
from certify.registry.storage.tables import presence
from certify.trust.opening import Verifier
from certify.trust.trusted_set import skewed

T = TypeVar("T")
NONCE_BYTES = 32

Key = tuple[str, str]  # centre and node


class NodePresence(NamedTuple):
    """The row of a node: the columns of `presence`."""

    centre_id: str
    node_id: str
    keyid: str
    nonce: str
    seen_at: str | None
    beats: int
    devices_sha256: str | None
    heartbeat_sha256: str | None


class RefusedBeatError(RefusedError):
    """A heartbeat that was read, and is refused. `nonce` is due where the signer is the right one."""

    def __init__(self, code: str, what: str, heartbeat: Heartbeat, fix: str = "", nonce: str | None = None) -> None:
        super().__init__(code, what, where=heartbeat.node_id, fix=fix or None)
        self.heartbeat, self.nonce = heartbeat, nonce


_COLUMNS = tuple(presence.c[name] for name in NodePresence._fields)
_THIS = (presence.c.centre_id == bindparam("of_centre"), presence.c.node_id == bindparam("of_node"))
_CHANGING = NodePresence._fields[2:]
_UPDATE = presence.update().where(*_THIS).values({name: bindparam(f"new_{name}") for name in _CHANGING})


def nonce(registry: Registry, centre_id: str, node_id: str) -> Nonce:
    """Return what the next heartbeat of a node must carry.

    Raises:
        RefusedError: `node-unknown`: no statement in force has a record of it.
    """
    (answer,) = nonces(registry, centre_id, (node_id,))
    if isinstance(answer, RefusedError):
        raise answer
    return answer


def nonces(registry: Registry, centre_id: str, node_ids: Sequence[str]) -> list[Nonce | RefusedError]:
    """Return what the next heartbeats of nodes must carry, or `node-unknown`, in the order of the nodes."""
    keys = [(centre_id, node_id) for node_id in node_ids]
    with registry.store.reading() as connection:
        rows = _present(connection, keys)
        certified = certified_nodes(registry.store).of(connection, centre_id)
    missing = dict.fromkeys(key for key in keys if key not in rows and key[1] in certified)
    if missing:
        with registry.store.writing() as connection:
            # again under the lock: two that ask at once must be given the same nonce
            there = _present(connection, missing)
            fresh = [
                NodePresence(*key, certified[key[1]][0].keyid, secrets.token_hex(NONCE_BYTES), None, 0, None, None)
                for key in missing
                if key not in there
            ]
            if fresh:
                connection.execute(presence.insert(), [row._asdict() for row in fresh])
            rows |= there | {row[:2]: row for row in fresh}
    return [
        Nonce(centre_id=centre_id, node_id=key[1], nonce=rows[key].nonce) if key in rows else _unknown(*key)
        for key in keys
    ]


def beat(registry: Registry, content: bytes) -> Beat:
    """Check a heartbeat and update the presence of its node.

    Raises:
        RefusedError: as `beats` returns it.
    """
    (answer,) = beats(registry, (content,))
    if isinstance(answer, Exception):
        raise answer
    return answer


def beats(registry: Registry, contents: Sequence[bytes]) -> list[Beat | Exception]:
    """Check heartbeats and update the presence of their nodes, in one transaction.

    Args:
        registry: that listens.
        contents: the signed documents, of any nodes.

    Returns:
        For each in order what became of it. A refused one changes nothing, and nothing for the others: `node-unknown`,
        `signer-mismatch`, `nonce-differs`, `heartbeat-time`, or a code of `Verifier.node_document`.

    Raises:
        InputError: `trust-not-current`, the grace of the last trust root is over, which none of them can help.
    """
    now_ns = registry.clock_ns()
    # signed by the key of the node's record, which stands in no trust root: whose it is says the record
    verifier = Verifier(registry.last_trust().trusted, utc_text(now_ns))
    # before the lock: signatures cost more than all that is done under it
    opened = [_attempt(verifier.node_document, "heartbeat", content) for content in contents]
    good = [one for one in opened if not isinstance(one, Exception)]
    if not good:
        return [one for one in opened if isinstance(one, Exception)]
    with registry.store.writing() as connection:
        decisions = _Decisions(registry, connection, now_ns, {_key(one.predicate) for one in good})
        answers = [one if isinstance(one, Exception) else _attempt(decisions.decide, one) for one in opened]
        decisions.write()
    return answers


def take_back(store: Store, at: str) -> int:
    """Take back what was heard in the future, once the clock is set right again; return of how many nodes.

    Readers pass it over already (`state.read`), and a heartbeat replaces it. Without this a node that is gone would
    come to life by itself at that time.
    """
    ahead = presence.c.seen_at > skewed(at)
    query = select(presence.c.centre_id).where(ahead)
    with store.reading() as connection:
        # nearly always none: then nobody waits for the writer's lock
        if connection.execute(query.limit(1)).one_or_none() is None:
            return 0
    with store.writing() as connection:
        centres = connection.scalars(query).all()
        connection.execute(presence.update().where(ahead).values(seen_at=None, beats=0))
        for centre_id in sorted(set(centres)):
            record_change(connection, at, "presence", centre_id, "")
    return len(centres)


class _Decisions:
    """The decisions of one transaction: each sees what the ones before it changed."""

    def __init__(self, registry: Registry, connection: Connection, now_ns: int, keys: Collection[Key]) -> None:
        self._connection, self._now_ns, self._at = connection, now_ns, utc_text(now_ns)
        self._stale_ns = registry.settings.stale_after_s * 10**9
        known = certified_nodes(registry.store)
        self._certified = {centre_id: known.of(connection, centre_id) for centre_id in {key[0] for key in keys}}
        self._rows = _present(connection, keys)
        self._heard: dict[Key, NodePresence] = {}
        self._changed: dict[Key, set[str]] = {}  # centre and project -> nodes

    def decide(self, opened: OpenedDocument[Heartbeat]) -> Beat:
        """Return the answer to a heartbeat.

        Raises:
            RefusedError: see `beats`.
        """
        heartbeat, at, stale_ns = opened.predicate, self._at, self._stale_ns
        (keyid,) = opened.signers
        lines, row = self._due(heartbeat, keyid)
        whole = all(line.devices_sha256 == heartbeat.devices_sha256 for line in lines)
        # Clocks differ a little, and what was heard in time stays so. What lies further ahead is of a clock that was
        # wrong, and is taken back.
        before = None if row.seen_at is None or row.seen_at > skewed(at) else row.seen_at
        seen_at = max(at, before or at)
        silent_ns = None if before is None else utc_ns(before) + stale_ns
        was_fresh = silent_ns is not None and self._now_ns < silent_ns
        # What comes late may be seen by nobody before the node was silent: followers are told a little too often.
        in_time = silent_ns is not None and self._now_ns < silent_ns - stale_ns // 10
        heard = row._replace(
            keyid=keyid,
            nonce=secrets.token_hex(NONCE_BYTES),
            seen_at=seen_at,
            beats=row.beats + 1 if was_fresh else 1,
            devices_sha256=heartbeat.devices_sha256,
            heartbeat_sha256=opened.payload_sha256,
        )
        self._rows[_key(heartbeat)] = self._heard[_key(heartbeat)] = heard
        # only what changes an answer is a change: ten thousand nodes beat every minute
        if not in_time or (row.devices_sha256, row.keyid) != (heartbeat.devices_sha256, keyid):
            for line in lines:
                self._changed.setdefault((heartbeat.centre_id, line.project_id), set()).add(heartbeat.node_id)
        return Beat(
            centre_id=heartbeat.centre_id,
            node_id=heartbeat.node_id,
            online=whole,
            code=None if whole else "devices-differ",
            seen_at=seen_at,
            nonce=heard.nonce,
            stale_at=utc_text(utc_ns(seen_at) + stale_ns),
        )

    def _due(self, heartbeat: Heartbeat, keyid: str) -> tuple[list[CertifiedNode], NodePresence]:
        """Return what the signer's record says, and the node's row, of a heartbeat that is the one due."""
        of_node = self._certified[heartbeat.centre_id].get(heartbeat.node_id)
        if of_node is None:
            unknown = _unknown(heartbeat.centre_id, heartbeat.node_id)
            raise RefusedBeatError(unknown.code, unknown.what, heartbeat)
        lines = [line for line in of_node if line.keyid == keyid]
        if not lines:
            fix = "sign it as the user, and with the PETASEAL_STATE, that measured, or give --key"
            what = "is signed by another key than the node's record"
            raise RefusedBeatError("signer-mismatch", what, heartbeat, fix)
        row = self._rows.get(_key(heartbeat))
        # good once, so that a heartbeat that was overheard keeps no dead node on-line
        if row is None or not secrets.compare_digest(row.nonce, heartbeat.nonce):
            fix = "ask for the nonce of this node, and sign it"
            what = "does not carry the nonce that is due"
            raise RefusedBeatError("nonce-differs", what, heartbeat, fix, None if row is None else row.nonce)
        # a heartbeat that was signed in advance, or held back, says nothing of now
        if heartbeat.sent_at > skewed(self._at) or self._at > skewed(heartbeat.sent_at):
            what = f"was sent at {heartbeat.sent_at} by the node's clock, and it is {self._at}"
            raise RefusedBeatError("heartbeat-time", what, heartbeat, "set the node's clock")
        return lines, row

    def write(self) -> None:
        """Store what was decided."""
        if self._heard:
            rows = [
                {"of_centre": row.centre_id, "of_node": row.node_id}
                | {f"new_{name}": getattr(row, name) for name in _CHANGING}
                for row in self._heard.values()
            ]
            self._connection.execute(_UPDATE, rows)
        for (centre_id, project_id), nodes in self._changed.items():
            record_change(self._connection, self._at, "presence", centre_id, project_id, nodes=nodes)


def _key(heartbeat: Heartbeat) -> Key:
    return heartbeat.centre_id, heartbeat.node_id


def _present(connection: Connection, keys: Collection[Key]) -> dict[Key, NodePresence]:
    """Return the rows of nodes that were asked for or heard of."""
    these = tuple_(presence.c.centre_id, presence.c.node_id).in_(sorted(keys))
    rows = (NodePresence(*row) for row in connection.execute(select(*_COLUMNS).where(these)))
    return {row[:2]: row for row in rows}


def _unknown(centre_id: str, node_id: str) -> RefusedError:
    what = f"no statement in force of {centre_id} has a record of the node {node_id} that was recomputed here"
    return RefusedError("node-unknown", what)


def _attempt(action: Callable[..., T], *arguments: Any) -> T | Exception:
    """Return what an action returns, or the error that it raises: one bad envelope must not spoil the others."""
    try:
        return action(*arguments)
    except Exception as error:
        return error
