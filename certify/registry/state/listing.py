"""Paged lists of the registry: statements, nodes, centres, attempts and foreign identifiers.

Lists are paged by the keys of their rows, never by counting them: a cursor costs the same wherever it stands. It is an
opaque text, no secret and no right: one that was made up shows what its maker could have asked for anyway. What is not
everybody's to see is left out by who calls.
"""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Row,
    Select,
    Table,
    and_,
    bindparam,
    exists,
    false,
    func,
    select,
    tuple_,
)

from bench.errors import InputError
from bench.record import Count, PoolClass
from bench.record.fields import filled
from certify.documents.kinds import Level
from certify.policy.verdicts import area_prefix, lies_within
from certify.registry.api.common import Page, State
from certify.registry.api.views import (
    AttemptLine,
    CentreSummary,
    ClassCapacity,
    ExternalIdentifier,
    StatementSummary,
)
from certify.registry.state import attempts
from certify.registry.state.assembly import class_capacity
from certify.registry.state.feeds.filters import has_model, is_named
from certify.registry.state.model import PoolState, Snapshot, StatementEnd, StatementFacts, statement_summary
from certify.registry.state.read import CLASS_COLUMNS, FACTS
from certify.registry.storage.node_tables import inventory_lines
from certify.registry.storage.tables import (
    alarms,
    chains,
    class_lines,
    external_ids,
    statements,
    verifications,
)

T = TypeVar("T")
Plain = Annotated[str, msgspec.Meta(max_length=256, pattern=r"^[^\x00]*$(?!\n)")]  # PostgreSQL knows no NUL in a text


def wrap(place: object) -> str:
    """Return a place, a tuple of texts and numbers, as a cursor."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def unwrap(cursor: str, kind: type[T]) -> T:
    """Return the place that a cursor names.

    Raises:
        InputError: `cursor-invalid`, it is none that was given for this list.
    """
    try:
        # strict: by default b64decode skips characters that it does not know
        content = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(content, type=kind)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise InputError("cursor-invalid", "is no cursor of this list", where="cursor", fix="ask without it") from None


class ByTwo(NamedTuple):
    """Where a list that is ordered by two texts goes on."""

    first: Plain
    second: Plain


class ByOne(NamedTuple):
    """Where a list that is ordered by a text goes on."""

    key: Plain


class ById(NamedTuple):
    """Where a list that is ordered by a number goes on."""

    id: Count


KINDS = (ByTwo, ByOne, ById)


def by_id_page(
    connection: Connection,
    query: Select[Any],
    table: Table,
    shown: Callable[[Row[Any]], T],
    limit: int,
    cursor: str | None,
) -> Page[T]:
    """Return a page of a list that is ordered by the number of its rows, the newest first."""
    if cursor is not None:
        query = query.where(table.c.id < unwrap(cursor, ById).id)
    # one more than asked for says whether there is a next page
    rows = connection.execute(query.order_by(table.c.id.desc()).limit(limit + 1)).all()
    items = tuple(map(shown, rows[:limit]))
    return Page(items=items, next=wrap(ById(rows[limit - 1].id)) if len(rows) > limit else None)


def page_of(items: tuple[T, ...], more: bool, place: Callable[[T], NamedTuple]) -> Page[T]:
    """Return a page whose cursor names the place of its last item."""
    return Page(items=items, next=wrap(place(items[-1])) if more else None)


_NEXT = statements.alias("next")


class WantedStatements(NamedTuple):
    """Which statements are asked for. None: all."""

    centre: str | None = None
    project: str | None = None
    pool_class: PoolClass | None = None
    district: str | None = None
    state: State | None = None
    level: Level | None = None
    jurisdiction: str | None = None  # that of the centre lies within
    vendor: str | None = None  # of a model, as `filters.is_named` compares
    model: str | None = None


class WantedCentres(NamedTuple):
    """Which centres are asked for. None: all; `q` stands somewhere in a centre's id, names or operator."""

    q: str | None = None
    district: str | None = None
    pool_class: PoolClass | None = None
    state: State | None = None
    jurisdiction: str | None = None
    vendor: str | None = None
    model: str | None = None

    def fits(self, centre: CentreSummary, pools: Iterable[PoolState]) -> bool:
        """Return whether a centre is among them, whose pools these are."""
        named = (centre.centre_id, centre.name.zh, centre.name.en, centre.operator)
        return (
            (self.q is None or any(self.q.casefold() in text.casefold() for text in named))
            and self.district in (None, centre.district)
            and self.state in (None, centre.state)
            and lies_within(self.jurisdiction, centre.jurisdiction)
            and has_model((line for pool in pools for line in pool.shown.models), self.vendor, self.model)
            and (self.pool_class is None or any(line.pool_class == self.pool_class for line in centre.classes))
        )


def statements_page(
    connection: Connection, snapshot: Snapshot, wanted: WantedStatements, limit: int, cursor: str | None = None
) -> Page[StatementSummary]:
    """Return statements, the newest received first."""
    # by far the most frequent question: its query is built once
    if cursor is None and wanted == WantedStatements(centre=wanted.centre) and wanted.centre is not None:
        rows = connection.execute(_OF_CENTRE, {"centre": wanted.centre, "most": limit + 1}).all()
    else:
        rows = connection.execute(_query(connection, snapshot, wanted, cursor).limit(limit + 1)).all()
    items = summaries(connection, snapshot, rows[:limit])
    return page_of(items, len(rows) > limit, lambda last: ByTwo(last.received_at, last.payload_sha256))


def _query(connection: Connection, snapshot: Snapshot, wanted: WantedStatements, cursor: str | None) -> Select[Any]:
    where: list[Any] = []
    if cursor is not None:
        # row values: one comparison that the index answers
        where.append(tuple_(statements.c.received_at, statements.c.payload_sha256) < unwrap(cursor, ByTwo))
    if wanted.state == "superseded":
        where.append(~exists().where(chains.c.statement == statements.c.payload_sha256))
    elif wanted.state is not None:
        of_state = [
            latest.facts.payload_sha256 for latest in snapshot.latest_statements if latest.state == wanted.state
        ]
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
    if wanted.jurisdiction is not None:
        where.append(statements.c.jurisdiction.startswith(area_prefix(wanted.jurisdiction), autoescape=True))
    if wanted.vendor is not None or wanted.model is not None:
        same = inventory_lines.c.statement == statements.c.payload_sha256
        where.append(exists().where(same, is_of_model(connection, inventory_lines, (wanted.vendor, wanted.model))))
    if wanted.level is not None:
        where.append(_RECOMPUTED if wanted.level == "recomputed" else ~_RECOMPUTED)
    return ROWS.where(*where).order_by(*_NEWEST)


def is_of_model(
    connection: Connection, table: Table, names: tuple[str | None, str | None], *within: ColumnElement[bool]
) -> ColumnElement[bool]:
    """Return the condition that a line is of such a model: names are compared here, as no database compares them.

    Args:
        connection: that reads the names that there are.
        table: of the lines.
        names: of the vendor and the model; None: all.
        within: of which lines the names are read: nodes have hundreds of thousands of them.
    """
    vendor, model = names
    known = connection.execute(select(table.c.vendor, table.c.model).where(*within).distinct()).all()
    asked = [(one.vendor, one.model) for one in known if is_named(vendor, one.vendor) and is_named(model, one.model)]
    return tuple_(table.c.vendor, table.c.model).in_(asked) if asked else false()


_RECOMPUTED = exists().where(
    verifications.c.statement == statements.c.payload_sha256, verifications.c.level == "recomputed"
)
_FOLLOWS = and_(
    _NEXT.c.centre_id == statements.c.centre_id,
    _NEXT.c.project_id == statements.c.project_id,
    _NEXT.c.sequence > statements.c.sequence,
)


def next_of(column: str) -> Any:
    """Return a subquery for a column of the statement that follows another in its chain."""
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


def summaries(connection: Connection, snapshot: Snapshot, rows: Sequence[Row[Any]]) -> tuple[StatementSummary, ...]:
    """Return summaries of statements: the latest of each chain in its present state, all others superseded."""
    by_statement = snapshot.by_statement
    older = [row[0] for row in rows if row[0] not in by_statement]
    classes: dict[str, list[ClassCapacity]] = {}
    alarm_counts: Counter[str] = Counter()
    if older:
        for statement, *values in connection.execute(_CLASSES, {"older": older}).all():
            classes.setdefault(statement, []).append(class_capacity(values))
    # most centres have no alarm: the query is saved
    if older and any(snapshot.centre_states[centre_id].alarms for centre_id in {row.centre_id for row in rows}):
        for query in _ALARMS:
            alarm_counts.update({row[0]: row[1] for row in connection.execute(query, {"older": older})})
    return tuple(
        latest.summary()
        if (latest := by_statement.get(row[0])) is not None
        else _superseded(tuple(row), tuple(classes.get(row[0], ())), alarm_counts[row[0]])
        for row in rows
    )


def _superseded(row: tuple[Any, ...], classes: tuple[ClassCapacity, ...], alarms: int) -> StatementSummary:
    facts = StatementFacts(*row[: len(FACTS)])
    recomputed, until = row[len(FACTS) : len(FACTS) + 2]
    end = StatementEnd("superseded", until or facts.received_at, "superseded")
    level: Level = "recomputed" if recomputed else "trusted"
    return statement_summary(facts, "superseded", end, level, classes, alarms)


def centres_page(
    snapshot: Snapshot, wanted: WantedCentres, limit: int, cursor: str | None = None
) -> Page[CentreSummary]:
    """Return centres, by their ids."""
    after = "" if cursor is None else unwrap(cursor, ByOne).key
    centres = [
        one
        for one in snapshot.centres.values()
        if one.centre_id > after and wanted.fits(one, snapshot.pools_of(one.centre_id))
    ]
    return page_of(tuple(centres[:limit]), len(centres) > limit, lambda last: ByOne(last.centre_id))


def attempts_page(
    connection: Connection, at: str, limit: int, cursor: str | None = None, centre: str | None = None
) -> Page[AttemptLine]:
    """Return measurements that were opened, newest first."""
    lines = attempts.list_attempts(connection, at, centre)
    if cursor is not None:
        last = unwrap(cursor, ByTwo)
        lines = [one for one in lines if (one.opened_at, one.challenge) < last]
    return page_of(tuple(lines[:limit]), len(lines) > limit, lambda last: ByTwo(last.opened_at, last.challenge))


def identifiers_page(
    connection: Connection, scheme: str, value: str, limit: int, cursor: str | None = None
) -> Page[ExternalIdentifier]:
    """Return the centres and pools that bear an identifier, the newest first."""
    query = select(external_ids).where(external_ids.c.scheme == scheme, external_ids.c.value == value)
    return by_id_page(connection, query, external_ids, identifier_of, limit, cursor)


def identifier_of(row: Row[Any]) -> ExternalIdentifier:
    """Return a row of `external_ids` as a type of the API."""
    return filled(
        ExternalIdentifier,
        row,
        project_id=row.project_id or None,
        source="platform" if row.statement is None else "statement",
    )
