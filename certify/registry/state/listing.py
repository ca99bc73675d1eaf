"""Lists of what stands in the registry, in pages: statements, nodes, centres, attempts, identifiers of others.

Lists are paged by the keys of their rows, never by counting them: a cursor costs the same wherever it stands. What is
not everybody's to see is left out by who calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import BindParameter, Connection, Row, Select, and_, bindparam, exists, func, select, tuple_

from bench.record import PoolClass
from certify.documents.kinds import Level
from certify.registry.api import (
    AttemptLine,
    CentreSummary,
    ClassCapacity,
    ExternalIdentifier,
    NodeCapacity,
    Page,
    State,
    StatementSummary,
)
from certify.registry.intake import campaigns
from certify.registry.state.cursors import ByOne, ByTwo, by_id_page, page_of, unwrap
from certify.registry.state.model import End, Facts, View, statement_summary
from certify.registry.state.read import CLASS_COLUMNS, FACTS, class_capacity
from certify.registry.storage.tables import (
    alarms,
    chains,
    class_lines,
    external_ids,
    node_lines,
    presence,
    statements,
    verifications,
)

_NEXT = statements.alias("next")


class WantedStatements(NamedTuple):
    """Which statements are asked for. None: all."""

    centre: str | None = None
    project: str | None = None
    pool_class: PoolClass | None = None
    district: str | None = None
    state: State | None = None
    level: Level | None = None


class WantedCentres(NamedTuple):
    """Which centres are asked for. None: all; `q` stands somewhere in a centre's id, names or operator."""

    q: str | None = None
    district: str | None = None
    pool_class: PoolClass | None = None
    state: State | None = None

    def fits(self, centre: CentreSummary) -> bool:
        """Return whether a centre is among them."""
        named = (centre.centre_id, centre.name.zh, centre.name.en, centre.operator)
        return (
            (self.q is None or any(self.q.casefold() in text.casefold() for text in named))
            and self.district in (None, centre.district)
            and self.state in (None, centre.state)
            and (self.pool_class is None or any(line.pool_class == self.pool_class for line in centre.classes))
        )


def statements_page(
    connection: Connection, view: View, wanted: WantedStatements, limit: int, cursor: str | None = None
) -> Page[StatementSummary]:
    """Return statements, the newest received first."""
    if cursor is None and wanted == WantedStatements(centre=wanted.centre) and wanted.centre is not None:
        found = connection.execute(_OF_CENTRE, {"centre": wanted.centre, "most": limit + 1}).all()
    else:
        found = connection.execute(_query(view, wanted, cursor).limit(limit + 1)).all()
    items = summaries(connection, view, found[:limit])
    return page_of(items, len(found) > limit, lambda last: ByTwo(last.received_at, last.payload_sha256))


def _query(view: View, wanted: WantedStatements, cursor: str | None) -> Select[Any]:
    where: list[Any] = []
    if cursor is not None:
        where.append(tuple_(statements.c.received_at, statements.c.payload_sha256) < unwrap(cursor, ByTwo))
    if wanted.state == "superseded":
        where.append(~exists().where(chains.c.statement == statements.c.payload_sha256))
    elif wanted.state is not None:
        of_state = [head.facts.payload_sha256 for head in view.heads if head.state == wanted.state]
        where.append(statements.c.payload_sha256.in_(of_state))
    for column, value in (
        (statements.c.centre_id, wanted.centre),
        (statements.c.project_id, wanted.project),
        (statements.c.district, wanted.district),
    ):
        if value is not None:
            where.append(column == value)
    if wanted.pool_class is not None:
        same = class_lines.c.statement == statements.c.payload_sha256
        where.append(exists().where(same, class_lines.c.pool_class == wanted.pool_class))
    if wanted.level is not None:
        where.append(_RECOMPUTED if wanted.level == "recomputed" else ~_RECOMPUTED)
    return ROWS.where(*where).order_by(*_NEWEST)


_RECOMPUTED = exists().where(
    verifications.c.statement == statements.c.payload_sha256, verifications.c.level == "recomputed"
)
_FOLLOWS = and_(
    _NEXT.c.centre_id == statements.c.centre_id,
    _NEXT.c.project_id == statements.c.project_id,
    _NEXT.c.sequence > statements.c.sequence,
)


def next_of(column: str) -> Any:
    return select(_NEXT.c[column]).where(_FOLLOWS).order_by(_NEXT.c.sequence).limit(1).scalar_subquery()


ROWS: Select[Any] = select(*FACTS, _RECOMPUTED.label("recomputed"), next_of("received_at").label("until"))
_NEWEST = (statements.c.received_at.desc(), statements.c.payload_sha256.desc())
# Queries that many ask are built once: that takes longer than what the database does with them.
_OF_CENTRE = ROWS.where(statements.c.centre_id == bindparam("centre")).order_by(*_NEWEST).limit(bindparam("most"))
_OLDER: BindParameter[Any] = bindparam("older", expanding=True)
_CLASSES = select(class_lines.c.statement, *CLASS_COLUMNS).where(class_lines.c.statement.in_(_OLDER))
_ALARMS = tuple(
    select(column, func.count()).where(column.in_(_OLDER)).group_by(column)
    for column in (alarms.c.payload_sha256, alarms.c.other_sha256)
)


def summaries(connection: Connection, view: View, rows: Sequence[Row[Any]]) -> tuple[StatementSummary, ...]:
    """Return statements as the API tells them: heads as they stand now, all others superseded."""
    heads = view.by_statement
    older = [row[0] for row in rows if row[0] not in heads]
    classes: dict[str, list[ClassCapacity]] = {}
    told: Counter[str] = Counter()
    if older:
        for statement, *values in connection.execute(_CLASSES, {"older": older}).all():
            classes.setdefault(statement, []).append(class_capacity(values))
    if older and any(view.parts[centre_id].alarms for centre_id in {row.centre_id for row in rows}):
        for query in _ALARMS:
            told.update({row[0]: row[1] for row in connection.execute(query, {"older": older})})
    return tuple(
        head.summary()
        if (head := heads.get(row[0])) is not None
        else _superseded(tuple(row), tuple(classes.get(row[0], ())), told[row[0]])
        for row in rows
    )


def _superseded(row: tuple[Any, ...], classes: tuple[ClassCapacity, ...], alarms: int) -> StatementSummary:
    facts = Facts(*row[: len(FACTS)])
    recomputed, until = row[len(FACTS) : len(FACTS) + 2]
    end = End("superseded", until or facts.received_at, "superseded")
    level: Level = "recomputed" if recomputed else "trusted"
    return statement_summary(facts, "superseded", end, level, classes, alarms)


def nodes_page(
    connection: Connection, row: Row[Any], heard_after: str, limit: int, cursor: str | None = None
) -> Page[NodeCapacity]:
    """Return what each node of a statement contributes, by pool and name.

    Args:
        row: the statement's.
        heard_after: a node that was not heard of after this time is not on-line.
    """
    same = and_(presence.c.centre_id == row.centre_id, presence.c.node_id == node_lines.c.node_id)
    same_devices = and_(
        presence.c.keyid == node_lines.c.keyid, presence.c.devices_sha256 == node_lines.c.devices_sha256
    )
    query = select(node_lines, presence.c.seen_at, same_devices.label("same")).select_from(
        node_lines.outerjoin(presence, same)
    )
    query = query.where(node_lines.c.statement == row.payload_sha256)
    if cursor is not None:
        query = query.where(tuple_(node_lines.c.pool, node_lines.c.node_id) > unwrap(cursor, ByTwo))
    found = connection.execute(query.order_by(node_lines.c.pool, node_lines.c.node_id).limit(limit + 1)).all()
    items = tuple(
        NodeCapacity(
            centre_id=row.centre_id,
            pool=line.pool,
            node_id=line.node_id,
            devices=line.devices,
            certified_mflop_s=line.certified_mflop_s,
            sustained_mflop_s=line.sustained_mflop_s,
            nominal_mflop_s=line.nominal_mflop_s,
            never_scheduled_mflop_s=line.never_scheduled_mflop_s,
            with_witness_mflop_s=line.with_witness_mflop_s,
            online=bool(line.same) and line.seen_at is not None and line.seen_at > heard_after,
            seen_at=line.seen_at,
        )
        for line in found[:limit]
    )
    return page_of(items, len(found) > limit, lambda last: ByTwo(last.pool, last.node_id))


def centres_page(view: View, wanted: WantedCentres, limit: int, cursor: str | None = None) -> Page[CentreSummary]:
    """Return centres, by their ids."""
    after = "" if cursor is None else unwrap(cursor, ByOne).key
    found = [one for one in view.centres.values() if one.centre_id > after and wanted.fits(one)]
    return page_of(tuple(found[:limit]), len(found) > limit, lambda last: ByOne(last.centre_id))


def attempts_page(
    connection: Connection, at: str, limit: int, cursor: str | None = None, centre: str | None = None
) -> Page[AttemptLine]:
    """Return measurements that were opened, newest first."""
    found = campaigns.attempts(connection, at, centre)
    if cursor is not None:
        last = unwrap(cursor, ByTwo)
        found = [one for one in found if (one.opened_at, one.challenge) < last]
    return page_of(tuple(found[:limit]), len(found) > limit, lambda last: ByTwo(last.opened_at, last.challenge))


def identifiers_page(
    connection: Connection, scheme: str, value: str, limit: int, cursor: str | None = None
) -> Page[ExternalIdentifier]:
    """Return what bears an identifier that somebody else issued, the newest first."""
    query = select(external_ids).where(external_ids.c.scheme == scheme, external_ids.c.value == value)
    return by_id_page(connection, query, external_ids, identifier_of, limit, cursor)


def identifier_of(row: Row[Any]) -> ExternalIdentifier:
    return ExternalIdentifier(
        scheme=row.scheme,
        value=row.value,
        issued_by=row.issued_by,
        centre_id=row.centre_id,
        project_id=row.project_id or None,
        pool=row.pool,
        source="platform" if row.statement is None else "statement",
    )
