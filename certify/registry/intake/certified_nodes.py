"""What the statements in force say of each node, held in memory: ten thousand nodes beat every two minutes.

A centre is read when one of its nodes is first heard of, and again once a change was written about it. Only the rows of
`presence` are read for each heartbeat: what they hold is good once.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from certify.registry.storage.store import Store
from certify.registry.storage.tables import chains, changes, node_lines, statements

CENTRES = 4096  # that are held at once; beyond, the one that was read first is dropped

_CHANGE = select(changes.c.id, changes.c.at, changes.c.kind, changes.c.centre_id, changes.c.statement)


class CertifiedNode(NamedTuple):
    """A node of a statement in force, in one pool of it."""

    keyid: str  # that signed its record
    devices_sha256: str
    project_id: str


class CertifiedNodes:
    """The nodes of the newest statements, by centre and name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: tuple[Any, ...] | None = None  # the last change up to which it was read
        self._centres: dict[str, Mapping[str, tuple[CertifiedNode, ...]]] = {}

    def of(self, connection: Connection, centre_id: str) -> Mapping[str, tuple[CertifiedNode, ...]]:
        """Return the nodes of a centre in the snapshot of a connection; empty where it is not known."""
        with self._lock:
            self._forget_changed(connection)
            nodes = self._centres.get(centre_id)
            if nodes is None:
                nodes = _read(connection, centre_id)
                # names that nobody certified cost no memory
                if nodes:
                    self._centres[centre_id] = nodes
                if len(self._centres) > CENTRES:
                    del self._centres[next(iter(self._centres))]
            return nodes

    def _forget_changed(self, connection: Connection) -> None:
        """Drop the centres about which something was written since."""
        last = self._last
        since = [] if last is None else connection.execute(_CHANGE.where(changes.c.id >= last[0]).order_by("id")).all()
        # Of an older snapshot, or of another history (a backup was restored): nothing of it holds there.
        if not since or tuple(since[0]) != last:
            self._centres.clear()
            newest = connection.execute(_CHANGE.order_by(changes.c.id.desc()).limit(1)).one_or_none()
            self._last = None if newest is None else tuple(newest)
            return
        for change in since[1:]:
            # a node that comes on-line changes no statement
            if change.kind != "presence":
                self._centres.pop(change.centre_id, None)
        self._last = tuple(since[-1])


def _read(connection: Connection, centre_id: str) -> dict[str, tuple[CertifiedNode, ...]]:
    """Return all nodes of the newest statements of a centre that were recomputed here."""
    query = (
        select(node_lines.c.node_id, node_lines.c.keyid, node_lines.c.devices_sha256, statements.c.project_id)
        .join(chains, chains.c.statement == node_lines.c.statement)
        .join(statements, statements.c.payload_sha256 == node_lines.c.statement)
        .where(chains.c.centre_id == centre_id)
    )
    nodes: dict[str, tuple[CertifiedNode, ...]] = {}
    for node_id, *line in connection.execute(query):
        nodes[node_id] = (*nodes.get(node_id, ()), CertifiedNode(*line))
    return nodes


_known: weakref.WeakKeyDictionary[Store, CertifiedNodes] = weakref.WeakKeyDictionary()
_known_lock = threading.Lock()


def certified_nodes(store: Store) -> CertifiedNodes:
    """Return what is held of a store."""
    with _known_lock:
        return _known.setdefault(store, CertifiedNodes())
