"""Nodes: what each gives to a statement."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, and_, exists, select, tuple_

from bench.record.fields import filled
from certify.registry.api.common import Page
from certify.registry.api.views import NodeCapacity
from certify.registry.state.feeds.filters import ModelNames
from certify.registry.state.listing import ByTwo, is_of_model, page_of, unwrap
from certify.registry.state.read import HeardBetween
from certify.registry.storage.node_tables import node_aliases, node_models
from certify.registry.storage.tables import node_lines, presence


def nodes_page(
    connection: Connection,
    row: Row[Any],
    heard: HeardBetween,
    limit: int,
    cursor: str | None = None,
    models: ModelNames | None = None,
) -> Page[NodeCapacity]:
    """Return what each node of a statement contributes, by pool and name.

    Args:
        row: the statement's.
        models: of the nodes that are asked for; None: all.
        heard: between which times a node must have been heard of to be on-line.
    """
    same = and_(presence.c.centre_id == row.centre_id, presence.c.node_id == node_lines.c.node_id)
    same_devices = and_(
        presence.c.keyid == node_lines.c.keyid, presence.c.devices_sha256 == node_lines.c.devices_sha256
    )
    called = and_(node_aliases.c.centre_id == row.centre_id, node_aliases.c.node_id == node_lines.c.node_id)
    query = select(node_lines, presence.c.seen_at, same_devices.label("same"), node_aliases.c.alias).select_from(
        node_lines.outerjoin(presence, same).outerjoin(node_aliases, called)
    )
    query = query.where(node_lines.c.statement == row.payload_sha256)
    if models is not None:
        of_node = and_(*(node_models.c[name] == node_lines.c[name] for name in ("statement", "pool", "node_id")))
        of_statement = node_models.c.statement == row.payload_sha256
        query = query.where(exists().where(of_node, is_of_model(connection, node_models, models, of_statement)))
    if cursor is not None:
        query = query.where(tuple_(node_lines.c.pool, node_lines.c.node_id) > unwrap(cursor, ByTwo))
    lines = connection.execute(query.order_by(node_lines.c.pool, node_lines.c.node_id).limit(limit + 1)).all()
    items = tuple(
        filled(
            NodeCapacity,
            line,
            centre_id=row.centre_id,
            online=bool(line.same) and heard.has(line.seen_at),
        )
        for line in lines[:limit]
    )
    return page_of(items, len(lines) > limit, lambda last: ByTwo(last.pool, last.node_id))
