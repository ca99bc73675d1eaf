"""The feed of nodes: every node of the newest statements now, or those that changed since.

One silent node of a centre of thousands is one line: what is about single nodes names them (`node_changes`, heartbeats
that did not come), and only what is about a statement or a pool names the whole centre.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, and_, select, tuple_

from bench.record.fields import filled
from certify.registry.api.common import State
from certify.registry.api.nodes import NodeFeed, NodeLine, NodeModelLine, NodeName
from certify.registry.api.views import PoolCapacity
from certify.registry.state.cache import reader_of
from certify.registry.state.feed import PoolFilter
from certify.registry.state.feeds.positions import PassedTime, check_history, cursor_of, position_of
from certify.registry.state.model import Revision, Snapshot
from certify.registry.state.read import LATEST, HeardBetween
from certify.registry.storage.node_tables import node_aliases, node_changes, node_models
from certify.registry.storage.store import Store
from certify.registry.storage.tables import chains, changes, node_lines, presence

Node = tuple[str, str]  # centre and node
FEW = 300  # nodes, or centres, that a query names one by one
MOST = 2000  # nodes that an answer names one by one: beyond, their centres are sent whole
_NO_NODE_LINE = ("identifier",)  # kinds of changes that no line of a node shows
_KEY = (node_lines.c.statement, node_lines.c.pool, node_lines.c.node_id)
_RATES = tuple(
    node_lines.c[name]
    for name in (
        "devices",
        "certified_mflop_s",
        "sustained_mflop_s",
        "nominal_mflop_s",
        "never_scheduled_mflop_s",
        "with_witness_mflop_s",
    )
)
_HEARD = and_(presence.c.centre_id == chains.c.centre_id, presence.c.node_id == node_lines.c.node_id)
_SAME = and_(presence.c.keyid == node_lines.c.keyid, presence.c.devices_sha256 == node_lines.c.devices_sha256)
_CALLED = and_(node_aliases.c.centre_id == chains.c.centre_id, node_aliases.c.node_id == node_lines.c.node_id)
_OF_LATEST = chains.join(node_lines, node_lines.c.statement == LATEST)
_LINES = (
    select(*_KEY, *_RATES, presence.c.seen_at, _SAME.label("same"), node_aliases.c.alias)
    .select_from(_OF_LATEST.outerjoin(presence, _HEARD).outerjoin(node_aliases, _CALLED))
    .order_by(chains.c.centre_id, chains.c.project_id, node_lines.c.pool, node_lines.c.node_id)
)
_SAME_NODE = and_(*(node_models.c[column.name] == column for column in _KEY))
_MODELS = (
    select(*_KEY, *(node_models.c[name] for name in NodeModelLine.__struct_fields__))
    .select_from(_OF_LATEST.join(node_models, _SAME_NODE))
    .order_by(node_models.c.number)
)


class ChangedNodes(NamedTuple):
    """What may look different: all nodes of some centres, and some of further ones."""

    centres: frozenset[str]
    nodes: frozenset[Node]

    def of(self, centre_id: str | None) -> ChangedNodes:
        """Return those of one centre; None: all."""
        if centre_id is None:
            return self
        return ChangedNodes(self.centres & {centre_id}, frozenset(one for one in self.nodes if one[0] == centre_id))


def node_feed(store: Store, at: str, stale_after_s: int, wanted: PoolFilter, since: str | None = None) -> NodeFeed:
    """Return nodes as they stand now.

    Args:
        store: to look them up in.
        at: the present.
        stale_after_s: how long a node may be silent.
        wanted: which; its state is that of the node.
        since: cursor of an earlier answer: only what changed after it.

    Raises:
        InputError: `cursor-invalid`, it was not given by this registry, or before it was restored from a backup.
    """
    position = None if since is None else position_of(since, stale_after_s)
    heard = HeardBetween.at(at, stale_after_s)
    with store.reading() as connection:
        snapshot = reader_of(store).present(connection, at, stale_after_s)
        changed = None
        if position is not None:
            check_history(connection, snapshot, position)
            passed = PassedTime.until(at, position, stale_after_s)
            known = position.is_current(snapshot)
            changed = NOTHING if known else _changed(connection, position.revision, snapshot, passed)
            changed = changed.of(wanted.centre)
        items = tuple(line for line in _lines(connection, snapshot, heard, wanted, changed) if wanted.fits(line))
    named = () if changed is None else sorted(changed.nodes)
    return NodeFeed(
        at=at,
        next=cursor_of(snapshot, at),
        changed=None if changed is None else tuple(sorted(changed.centres)),
        changed_nodes=tuple(NodeName(centre_id=centre_id, node_id=node_id) for centre_id, node_id in named),
        items=items,
    )


NOTHING = ChangedNodes(frozenset(), frozenset())


def _changed(connection: Connection, after: Revision, snapshot: Snapshot, passed: PassedTime) -> ChangedNodes:
    """Return what was written after a revision, and what time alone changed."""
    query = (
        select(changes.c.centre_id, node_changes.c.node_id)
        .select_from(changes.outerjoin(node_changes, node_changes.c.change == changes.c.id))
        .where(changes.c.id > after.change, changes.c.id <= snapshot.revision.change)
        .where(changes.c.kind.not_in(_NO_NODE_LINE))
        .distinct()
    )
    centres, nodes = passed.ended_centres(connection), set[Node]()
    silent = select(presence.c.centre_id, presence.c.node_id).where(passed.changed_presence())
    for row in (*connection.execute(query), *connection.execute(silent)):
        if row.node_id is None:
            centres.add(row.centre_id)
        else:
            nodes.add((row.centre_id, row.node_id))
    # after a long absence names of nodes say no more than their centres do
    if len(nodes) > MOST:
        centres |= {centre_id for centre_id, _ in nodes}
    return ChangedNodes(frozenset(centres), frozenset(one for one in nodes if one[0] not in centres))


def _lines(
    connection: Connection, snapshot: Snapshot, heard: HeardBetween, wanted: PoolFilter, changed: ChangedNodes | None
) -> Iterator[NodeLine]:
    """Yield the lines of nodes, by centre, project, pool and node; of those that changed where some did."""
    if changed is None and wanted.centre is not None:
        changed = ChangedNodes(frozenset([wanted.centre]), frozenset())
    pools = {
        (pool.shown.statement, pool.shown.pool): pool.shown
        for latest in snapshot.latest_statements
        for pool in latest.pools
    }
    for narrowed in _narrowed(changed):
        models: dict[tuple[str, str, str], list[NodeModelLine]] = {}
        for row in connection.execute(narrowed(_MODELS)):
            names = dict(zip(NodeModelLine.__struct_fields__, row[3:], strict=True))
            models.setdefault((row[0], row[1], row[2]), []).append(NodeModelLine(**names))
        for row in connection.execute(narrowed(_LINES)):
            online = bool(row.same) and heard.has(row.seen_at)
            of_node = tuple(models.get((row.statement, row.pool, row.node_id), ()))
            yield _line(pools[row.statement, row.pool], row, online, of_node)


def _narrowed(changed: ChangedNodes | None) -> Iterator[Callable[[Select[Any]], Select[Any]]]:
    """Yield what narrows a query to a part of what changed, so that no query names too much."""
    if changed is None:
        yield lambda query: query
        return
    for centres in _chunks(changed.centres):
        yield partial(_of_centres, centres)
    for nodes in _chunks(changed.nodes):
        yield partial(_of_nodes, nodes)


def _of_centres(centres: Collection[str], query: Select[Any]) -> Select[Any]:
    return query.where(chains.c.centre_id.in_(centres))


def _of_nodes(nodes: Collection[Node], query: Select[Any]) -> Select[Any]:
    few = _of_centres(sorted({centre_id for centre_id, _ in nodes}), query)
    return few.where(tuple_(chains.c.centre_id, node_lines.c.node_id).in_(nodes))


def _chunks(values: Collection[Any]) -> Iterator[list[Any]]:
    left = iter(sorted(values))
    while chunk := list(islice(left, FEW)):
        yield chunk


def _line(pool: PoolCapacity, row: Row[Any], online: bool, models: tuple[NodeModelLine, ...]) -> NodeLine:
    """Return a node as it stands now: what it could run of its pool's class, and whether it can."""
    certified_mflop_s = row.certified_mflop_s - row.never_scheduled_mflop_s
    if pool.witnessed:
        certified_mflop_s += row.with_witness_mflop_s
    state: State = pool.state
    # of a pool that can be scheduled, one node may run while another is silent
    if state == "schedulable" and not (online and certified_mflop_s > 0):
        state = "managed"
    figures = {column.name: getattr(row, column.name) for column in _RATES}
    return filled(
        NodeLine,
        pool,
        node_id=row.node_id,
        alias=row.alias,
        state=state,
        schedulable_mflop_s=certified_mflop_s if state == "schedulable" else 0,
        online=online,
        seen_at=row.seen_at,
        models=models,
        **figures,
    )
