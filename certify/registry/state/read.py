"""Reading the latest statement of each chain: a few queries, whatever the length of history."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, case, func, or_, select

from bench.units import utc_ns, utc_text
from certify.documents.caps import CAPS
from certify.registry.api.nodes import StepSum
from certify.registry.api.views import ClassCapacity
from certify.registry.base.rehearsal import is_rehearsal
from certify.registry.state.assembly import NEVER, CentreRows, OnlineNodes, PoolRow, capacity_of_row, latest_statement
from certify.registry.state.feeds.models import (
    EVIDENCE_COLUMNS,
    INVENTORY_COLUMNS,
    MODEL_COLUMNS,
    MODEL_STEP_COLUMNS,
    models_by_pool,
    rmax_by_pool,
    steps_by_key,
)
from certify.registry.state.model import CentreState, Contested, LatestStatement, Revision, StatementEnd, StatementFacts
from certify.registry.state.previous import previous_valid
from certify.registry.storage.city_tables import fabric_lines, missing_lines
from certify.registry.storage.tables import (
    alarms,
    chains,
    changes,
    class_lines,
    external_ids,
    node_lines,
    pool_lines,
    pool_transitions,
    presence,
    revocations,
    statements,
    step_lines,
    vendor_lines,
    verifications,
    witnesses,
)
from certify.trust.trusted_set import skewed

FACTS = tuple(statements.c[name] for name in StatementFacts.__struct_fields__)
CLASS_COLUMNS = tuple(class_lines.c[name] for name in ClassCapacity.__struct_fields__)
# An expression has no index, so that the planner goes from each chain to its statement, and never from all statements
# to their chains.
LATEST = func.coalesce(chains.c.statement, "")
POOL_COLUMNS = tuple(pool_lines.c[name] for name in PoolRow._fields)
VENDOR_COLUMNS = tuple(
    vendor_lines.c[name]
    for name in (
        "statement",
        "pool",
        "vendor",
        "devices",
        "certified_mflop_s",
        "sustained_mflop_s",
        "nominal_mflop_s",
    )
)
SUMMED = ("devices", "certified_mflop_s", "sustained_mflop_s", "nominal_mflop_s")
PART_COLUMNS = ("devices", "mflop_s", "sustained_mflop_s", "nominal_mflop_s")  # the same of a part of the devices
STEP_COLUMNS = (step_lines.c.statement, step_lines.c.pool, *(step_lines.c[name] for name in StepSum.__struct_fields__))


_REVISION = "SELECT (SELECT max(id) FROM changes), (SELECT max(id) FROM alarms)"


def revision_of(connection: Connection) -> Revision:
    """Return up to where changes and alarms are written."""
    row = connection.exec_driver_sql(_REVISION).one()  # before every answer: as it stands, on both databases
    return Revision(*(number or 0 for number in row))


def change_digest(connection: Connection, change: int) -> str:
    """Return a short digest of one change: after a restore another one may bear its number. Of none it is empty."""
    row = connection.execute(select(changes).where(changes.c.id == change)).one_or_none()
    return "" if row is None else hashlib.sha256(repr(tuple(row)).encode()).hexdigest()[:16]


def read_centre_states(
    connection: Connection, at: str, stale_after_s: int, only: Sequence[str] | None = None
) -> dict[str, CentreState]:
    """Read the states of centres in the snapshot of a connection.

    Args:
        only: centres; None: all.
    """
    heard = HeardBetween.at(at, stale_after_s)
    named, contested = _alarms(connection)
    rows = CentreRows(
        pools=_grouped(connection, _of_latest(only, *POOL_COLUMNS)),
        vendors=_grouped(connection, _of_latest(only, *VENDOR_COLUMNS)),
        classes=_grouped(connection, _of_latest(only, class_lines.c.statement, *CLASS_COLUMNS)),
        steps=steps_by_key(connection.execute(_of_latest(only, *STEP_COLUMNS)).all()),
        models=models_by_pool(
            connection.execute(_of_latest(only, *INVENTORY_COLUMNS)).all(),
            connection.execute(_of_latest(only, *MODEL_COLUMNS)).all(),
            connection.execute(_of_latest(only, *MODEL_STEP_COLUMNS)).all(),
        ),
        rmax=rmax_by_pool(connection.execute(_of_latest(only, *EVIDENCE_COLUMNS)).all()),
        witnessed=set(connection.scalars(_of_latest(only, witnesses.c.statement))),
        recomputed=set(connection.scalars(_of_latest(only, verifications.c.statement).where(_RECOMPUTED))),
        revoked=_revoked(connection, only),
        pool_transitions=_transitions(connection, only),
        online=_online(connection, only, heard),
        ids=_external_ids(connection, only),
        alarms=contested,
        rehearsal=is_rehearsal(connection),
        missing=_grouped(connection, _of_latest(only, *missing_lines.c)),
        fabric=_grouped(connection, _of_latest(only, *fabric_lines.c)),
    )
    latest_statements: dict[str, list[LatestStatement]] = {}
    for row in connection.execute(_of_latest(only, *FACTS, key=statements.c.payload_sha256)).all():
        latest = latest_statement(StatementFacts(*row), rows, at)
        latest_statements.setdefault(latest.facts.centre_id, []).append(latest)
    every = [latest for of_centre in latest_statements.values() for latest in of_centre]
    previous = previous_valid(connection, every, rows, CLASS_COLUMNS, at)
    moments_of = _presence_moments(connection, rows, only, heard)
    accepted = _by_centre(connection, func.count(), statements, only)
    centre_states = {}
    for centre_id, of_centre in latest_statements.items():
        moments = [latest.facts.valid_until for latest in of_centre]
        moments += [
            end.at for latest in of_centre if (end := rows.revoked.get(latest.facts.payload_sha256)) is not None
        ]
        moments += [moment for latest in of_centre for moment in previous.moments.get(latest.facts.chain, ())]
        moments += moments_of.get(centre_id, ())
        centre_states[centre_id] = CentreState(
            latest_statements=tuple(
                latest._replace(
                    previous_valid=previous.statements.get(latest.facts.chain),
                    came_before=latest.facts.chain in previous.came,
                )
                for latest in sorted(of_centre, key=lambda latest: latest.facts.chain)
            ),
            since=max((moment for moment in moments if moment <= at), default=NEVER),
            until=min((moment for moment in moments if moment > at), default=None),
            alarms=named.get(centre_id, 0),
            statements=accepted[centre_id],
        )
    return centre_states


class HeardBetween(NamedTuple):
    """Between which times a heartbeat keeps its node on-line: after the one, and up to the other."""

    after: str
    until: str  # clocks differ a little; what lies further ahead was heard under a clock that was wrong
    stale_ns: int

    @classmethod
    def at(cls, at: str, stale_after_s: int) -> HeardBetween:
        """Return them as of a time."""
        stale_ns = stale_after_s * 10**9
        return cls(utc_text(utc_ns(at) - stale_ns), skewed(at), stale_ns)

    def has(self, seen_at: str | None) -> bool:
        """Return whether a node is on-line that was last heard of at a time; None: never."""
        return seen_at is not None and self.after < seen_at <= self.until


def _presence_moments(
    connection: Connection, rows: CentreRows, only: Sequence[str] | None, heard: HeardBetween
) -> dict[str, list[str]]:
    """Return for each centre when time alone last changed which of its nodes are on-line, and when it will next."""
    seen_at, skew_ns = presence.c.seen_at, CAPS.time_skew_s * 10**9
    within = func.max(case((seen_at <= heard.until, seen_at)))
    silent, ahead = func.max(case((seen_at <= heard.after, seen_at))), func.min(case((seen_at > heard.until, seen_at)))
    query: Select[Any] = select(presence.c.centre_id, within, silent, ahead).where(seen_at.is_not(None))
    query = _narrowed(query.group_by(presence.c.centre_id), presence, only)
    moments: dict[str, list[str]] = {}
    for (centre_id, _, _), online in rows.online.items():
        moments.setdefault(centre_id, []).append(utc_text(utc_ns(online.oldest) + heard.stale_ns))
    for centre_id, newest, last_silent, first_ahead in connection.execute(query):
        of_centre = moments.setdefault(centre_id, [])
        of_centre += [utc_text(utc_ns(one) - skew_ns) for one in (newest, first_ahead) if one is not None]
        if last_silent is not None:
            of_centre.append(utc_text(utc_ns(last_silent) + heard.stale_ns))
    return moments


def _by_centre(
    connection: Connection, value: ColumnElement[Any], table: Table, only: Sequence[str] | None, *where: Any
) -> dict[str, Any]:
    query = select(table.c.centre_id, value).where(*where).group_by(table.c.centre_id)
    return {row[0]: row[1] for row in connection.execute(_narrowed(query, table, only)).all()}


def _narrowed(query: Select[Any], table: Table, only: Sequence[str] | None) -> Select[Any]:
    return query if only is None else query.where(table.c.centre_id.in_(only))


_RECOMPUTED = verifications.c.level == "recomputed"


def _of_latest(only: Sequence[str] | None, *columns: Any, key: Any = None) -> Select[Any]:
    """Select columns of a table for the newest statements only; the first is the statement unless `key` is."""
    key = columns[0] if key is None else key
    return _narrowed(select(*columns).select_from(chains.join(key.table, key == LATEST)), chains, only)


def _grouped(connection: Connection, query: Select[Any]) -> dict[str, list[Any]]:
    """Return rows by their statement, the first column."""
    groups: dict[str, list[Any]] = {}
    for row in connection.execute(query).all():
        groups.setdefault(row[0], []).append(row)
    return groups


def _revoked(connection: Connection, only: Sequence[str] | None) -> dict[str, StatementEnd]:
    rows = connection.execute(_of_latest(only, revocations.c.statement, revocations.c.effective_at, revocations.c.code))
    ends: dict[str, StatementEnd] = {}
    for statement, at, code in rows:
        # several causes may end one statement: the earliest holds
        if statement not in ends or at < ends[statement].at:
            ends[statement] = StatementEnd("revoked", at, code)
    return ends


def _transitions(connection: Connection, only: Sequence[str] | None) -> dict[tuple[str, str, str], tuple[str, ...]]:
    """Return the latest transition of each pair (register, deregister; manage, release) by centre, project, pool."""
    columns = (
        pool_transitions.c.centre_id,
        pool_transitions.c.project_id,
        pool_transitions.c.pool,
        pool_transitions.c.act,
    )
    query = _narrowed(select(*columns).order_by(pool_transitions.c.id), pool_transitions, only)
    latest: dict[tuple[str, str, str], tuple[str, ...]] = {}
    for centre_id, project_id, pool, act in connection.execute(query).all():
        pool_key = (centre_id, project_id, pool)
        other_pair = tuple(one for one in latest.get(pool_key, ()) if (one in _REGISTRATION) != (act in _REGISTRATION))
        latest[pool_key] = (*other_pair, act)
    return latest


_REGISTRATION = ("register", "deregister")  # the other pair: manage, release


def _online(
    connection: Connection, only: Sequence[str] | None, heard: HeardBetween
) -> dict[tuple[str, str, str], OnlineNodes]:
    # key and devices too: a node whose cards were swapped is on-line, but not with what was certified
    same = and_(
        presence.c.centre_id == chains.c.centre_id,
        presence.c.node_id == node_lines.c.node_id,
        presence.c.keyid == node_lines.c.keyid,
        presence.c.devices_sha256 == node_lines.c.devices_sha256,
    )
    key = (chains.c.centre_id, chains.c.project_id, node_lines.c.pool)  # in the order of indexes: nothing is sorted
    schedulable = (
        node_lines.c[name] - node_lines.c[f"never_scheduled_{part}"]
        for name, part in zip(SUMMED, PART_COLUMNS, strict=True)
    )
    more = (node_lines.c[f"with_witness_{part}"] for part in PART_COLUMNS)
    query = (
        select(*key, func.count(), *(func.sum(one) for one in (*schedulable, *more)), func.min(presence.c.seen_at))
        .select_from(chains.join(node_lines, node_lines.c.statement == LATEST).join(presence, same))
        .where(presence.c.seen_at > heard.after, presence.c.seen_at <= heard.until)
        .group_by(*key)
    )
    return {
        (centre_id, project_id, pool): OnlineNodes(
            nodes, capacity_of_row(*sums[:4]), capacity_of_row(*sums[4:]), oldest
        )
        for centre_id, project_id, pool, nodes, *sums, oldest in connection.execute(
            _narrowed(query, chains, only)
        ).all()
    }


def _external_ids(
    connection: Connection, only: Sequence[str] | None
) -> dict[tuple[str, str], list[tuple[str | None, str]]]:
    """Return what the newest statements and the platform name, by centre and project."""
    same = and_(chains.c.centre_id == external_ids.c.centre_id, chains.c.project_id == external_ids.c.project_id)
    # what an older statement named is history; what the platform issued stays
    in_force = or_(external_ids.c.statement.is_(None), external_ids.c.statement == chains.c.statement)
    columns = (external_ids.c[name] for name in ("centre_id", "project_id", "pool", "scheme", "value"))
    query = select(*columns).select_from(external_ids.join(chains, same)).where(in_force)
    identifiers: dict[tuple[str, str], list[tuple[str | None, str]]] = {}
    for centre_id, project_id, pool, scheme, value in connection.execute(_narrowed(query, chains, only)):
        identifiers.setdefault((centre_id, project_id), []).append((pool, f"{scheme}:{value}"))
    return identifiers


def _alarms(connection: Connection) -> tuple[dict[str, int], dict[str, list[Contested]]]:
    """Return how many alarms name a centre, and those that name a statement."""
    columns = ("code", "payload_sha256", "other_sha256", "centre_id", "other_centre_id", "devices")
    named: Counter[str] = Counter()
    of_statement: dict[str, list[Contested]] = {}
    for code, payload, other, centre, other_centre, devices in connection.execute(
        select(*(alarms.c[name] for name in columns)).order_by(alarms.c.id)
    ):
        named.update({centre, other_centre} - {None})
        of_statement.setdefault(payload, []).append(Contested(code, other_centre or centre, devices))
        if other is not None:
            of_statement.setdefault(other, []).append(Contested(code, centre, devices))
    return dict(named), of_statement


def changed_centres(connection: Connection, after: Revision, until: Revision) -> set[str]:
    """Return the centres about which something was written after one revision, and up to another."""
    raised = and_(alarms.c.id > after.alarm, alarms.c.id <= until.alarm)
    queries = (
        select(changes.c.centre_id).where(changes.c.id > after.change, changes.c.id <= until.change).distinct(),
        select(alarms.c.centre_id).where(raised),
        select(alarms.c.other_centre_id).where(raised, alarms.c.other_centre_id.is_not(None)),
    )
    return {centre_id for query in queries for centre_id in connection.scalars(query)}
