"""The newest statement of each chain out of the database: few queries, whatever the length of history."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, func, or_, select

from bench.units import utc_ns, utc_text
from certify.documents.kinds import Level
from certify.judge.ceilings import STEPS
from certify.policy.evidence import Sums
from certify.registry.api import ClassCapacity, PoolCapacity, Rates, StepSum
from certify.registry.state.model import (
    Contested,
    End,
    Facts,
    Head,
    Mark,
    Part,
    Pool,
    add_rates,
    end_of,
    pflops,
    pool_state,
)
from certify.registry.storage.tables import (
    acts,
    alarms,
    chains,
    changes,
    class_lines,
    endings,
    external_ids,
    node_lines,
    pool_lines,
    presence,
    statements,
    step_lines,
    vendor_lines,
    verifications,
    witnesses,
)

NEVER = ""  # before all times
FACTS = tuple(statements.c[name] for name in Facts.__struct_fields__)
CLASS_COLUMNS = tuple(class_lines.c[name] for name in ClassCapacity.__struct_fields__)
# An expression, for which there is no index: each head is looked up among all statements, and not the other way.
HEAD = func.coalesce(chains.c.statement, "")
POOL_COLUMNS = tuple(
    pool_lines.c[name]
    for name in (
        "statement",
        "pool",
        "pool_class",
        "precision",
        "choice",
        "accumulate",
        "devices",
        "certified_mflop_s",
        "sustained_mflop_s",
        "upper_mflop_s",
        "nominal_mflop_s",
        "devices_without_rating",
        "on_accepted_hold_mflop_s",
        "never_scheduled_mflop_s",
        "with_witness_devices",
        "with_witness_mflop_s",
        "with_witness_sustained_mflop_s",
        "with_witness_upper_mflop_s",
        "with_witness_nominal_mflop_s",
        "with_witness_without_rating",
        "untested_devices",
        "untested_nominal_mflop_s",
        "untested_without_rating",
        "nodes_recorded",
    )
)
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
PARTS = ("devices", "mflop_s", "sustained_mflop_s", "nominal_mflop_s")  # the same of a part of the devices
STEP_COLUMNS = (step_lines.c.statement, step_lines.c.pool, *(step_lines.c[name] for name in StepSum.__struct_fields__))


_MARK = "SELECT (SELECT max(id) FROM changes), (SELECT max(id) FROM alarms)"


def mark_of(connection: Connection) -> Mark:
    """Return up to where changes and alarms are written."""
    row = connection.exec_driver_sql(_MARK).one()  # before every answer: as it stands, on both databases
    return Mark(*(number or 0 for number in row))


def trace_of(connection: Connection, change: int) -> str:
    """Return a short digest of one change: after a restore another one may bear its number. Of none it is empty."""
    row = connection.execute(select(changes).where(changes.c.id == change)).one_or_none()
    return "" if row is None else hashlib.sha256(repr(tuple(row)).encode()).hexdigest()[:16]


class _Online(NamedTuple):
    """The nodes of a pool that were heard of a moment ago, with the devices that were certified."""

    nodes: int = 0
    rates: Rates = Rates()  # without what is never scheduled
    with_witness: Rates = Rates()
    oldest: str = NEVER


_OFFLINE = _Online()


@dataclass(frozen=True)
class _Rows:
    """What heads are made from. Keys are payload digests, or centre, project and pool."""

    pools: Mapping[str, list[Any]]  # rows of `POOL_COLUMNS`
    vendors: Mapping[str, list[Any]]  # rows of `VENDOR_COLUMNS`
    classes: Mapping[str, list[Any]]  # rows of the statement and `CLASS_COLUMNS`
    steps: Mapping[tuple[str, str], tuple[StepSum, ...]]  # by statement and pool
    recomputed: set[str]
    witnessed: set[str]
    revoked: Mapping[str, End]
    acts: Mapping[tuple[str, str, str], tuple[str, ...]]
    online: Mapping[tuple[str, str, str], _Online]
    ids: Mapping[tuple[str, str], list[tuple[str | None, str]]]
    alarms: Mapping[str, list[Contested]]


def read_parts(
    connection: Connection, at: str, stale_after_s: int, only: Sequence[str] | None = None
) -> dict[str, Part]:
    """Look up how centres stand in one snapshot.

    Args:
        only: centres; None: all.
    """
    stale_ns = stale_after_s * 10**9
    heard_after = utc_text(utc_ns(at) - stale_ns)
    named, contested = _alarms(connection)
    rows = _Rows(
        pools=_grouped(connection, _of_heads(only, *POOL_COLUMNS)),
        vendors=_grouped(connection, _of_heads(only, *VENDOR_COLUMNS)),
        classes=_grouped(connection, _of_heads(only, class_lines.c.statement, *CLASS_COLUMNS)),
        steps=_steps(connection, only),
        witnessed=set(connection.scalars(_of_heads(only, witnesses.c.statement))),
        recomputed=set(connection.scalars(_of_heads(only, verifications.c.statement).where(_RECOMPUTED))),
        revoked=_revoked(connection, only),
        acts=_acts(connection, only),
        online=_online(connection, only, heard_after),
        ids=_external_ids(connection, only),
        alarms=contested,
    )
    heads: dict[str, list[Head]] = {}
    for row in connection.execute(_of_heads(only, *FACTS, key=statements.c.payload_sha256)).all():
        head = _head(Facts(*row), rows, at)
        heads.setdefault(head.facts.centre_id, []).append(head)
    oldest: dict[str, str] = {}
    for (centre_id, _, _), online in rows.online.items():
        oldest[centre_id] = min(online.oldest, oldest.get(centre_id, online.oldest))
    silent = _by_centre(connection, func.max(presence.c.seen_at), presence, only, presence.c.seen_at <= heard_after)
    counted = _by_centre(connection, func.count(), statements, only)
    parts = {}
    for centre_id, mine in heads.items():
        moments = [head.facts.valid_until for head in mine]
        moments += [end.at for head in mine if (end := rows.revoked.get(head.facts.payload_sha256)) is not None]
        heard = [found[centre_id] for found in (oldest, silent) if found.get(centre_id) is not None]
        moments += [utc_text(utc_ns(seen_at) + stale_ns) for seen_at in heard]
        parts[centre_id] = Part(
            heads=tuple(sorted(mine, key=lambda head: head.facts.chain)),
            since=max((moment for moment in moments if moment <= at), default=NEVER),
            until=min((moment for moment in moments if moment > at), default=None),
            alarms=named.get(centre_id, 0),
            statements=counted[centre_id],
        )
    return parts


def _by_centre(
    connection: Connection, value: ColumnElement[Any], table: Table, only: Sequence[str] | None, *where: Any
) -> dict[str, Any]:
    query = select(table.c.centre_id, value).where(*where).group_by(table.c.centre_id)
    return {row[0]: row[1] for row in connection.execute(_narrowed(query, table, only)).all()}


def _narrowed(query: Select[Any], table: Table, only: Sequence[str] | None) -> Select[Any]:
    return query if only is None else query.where(table.c.centre_id.in_(only))


_RECOMPUTED = verifications.c.level == "recomputed"


def _of_heads(only: Sequence[str] | None, *columns: Any, key: Any = None) -> Select[Any]:
    """Select columns of a table for the newest statements only; the first is the statement unless `key` is."""
    key = columns[0] if key is None else key
    return _narrowed(select(*columns).select_from(chains.join(key.table, key == HEAD)), chains, only)


def class_capacity(row: Any) -> ClassCapacity:
    """Return a row of `CLASS_COLUMNS` as the API tells it."""
    return ClassCapacity(**dict(zip(ClassCapacity.__struct_fields__, row, strict=True)))


def _grouped(connection: Connection, query: Select[Any]) -> dict[str, list[Any]]:
    """Return rows by their statement, the first column."""
    found: dict[str, list[Any]] = {}
    for row in connection.execute(query).all():
        found.setdefault(row[0], []).append(row)
    return found


def _steps(connection: Connection, only: Sequence[str] | None) -> dict[tuple[str, str], tuple[StepSum, ...]]:
    """Return what rests on each step of evidence, by statement and pool, the strongest first."""
    found: dict[tuple[str, str], tuple[StepSum, ...]] = {}
    for statement, pool, *values in connection.execute(_of_heads(only, *STEP_COLUMNS)):
        one = StepSum(**dict(zip(StepSum.__struct_fields__, values, strict=True)))
        found[statement, pool] = (*found.get((statement, pool), ()), one)
    order: dict[str, int] = {name: place for place, name in enumerate(STEPS)}
    return {key: tuple(sorted(each, key=lambda one: order.get(one.step, len(order)))) for key, each in found.items()}


def _revoked(connection: Connection, only: Sequence[str] | None) -> dict[str, End]:
    rows = connection.execute(_of_heads(only, endings.c.statement, endings.c.effective_at, endings.c.code))
    found: dict[str, End] = {}
    for statement, at, code in rows:
        if statement not in found or at < found[statement].at:
            found[statement] = End("revoked", at, code)
    return found


def _acts(connection: Connection, only: Sequence[str] | None) -> dict[tuple[str, str, str], tuple[str, ...]]:
    """Return the latest act of each pair on a pool of a centre and project."""
    columns = (acts.c.centre_id, acts.c.project_id, acts.c.pool, acts.c.act)
    query = _narrowed(select(*columns).order_by(acts.c.id), acts, only)
    found: dict[tuple[str, str, str], tuple[str, ...]] = {}
    for centre_id, project_id, pool, act in connection.execute(query).all():
        place = (centre_id, project_id, pool)
        kept = tuple(one for one in found.get(place, ()) if (one in _ENTERING) != (act in _ENTERING))
        found[place] = (*kept, act)
    return found


_ENTERING = ("register", "deregister")  # the other pair: manage, release


def _online(
    connection: Connection, only: Sequence[str] | None, heard_after: str
) -> dict[tuple[str, str, str], _Online]:
    same = and_(
        presence.c.centre_id == chains.c.centre_id,
        presence.c.node_id == node_lines.c.node_id,
        presence.c.keyid == node_lines.c.keyid,
        presence.c.devices_sha256 == node_lines.c.devices_sha256,
    )
    key = (chains.c.centre_id, chains.c.project_id, node_lines.c.pool)  # in the order of indexes: nothing is sorted
    kept = (
        node_lines.c[name] - node_lines.c[f"never_scheduled_{part}"] for name, part in zip(SUMMED, PARTS, strict=True)
    )
    more = (node_lines.c[f"with_witness_{part}"] for part in PARTS)
    query = (
        select(*key, func.count(), *(func.sum(one) for one in (*kept, *more)), func.min(presence.c.seen_at))
        .select_from(chains.join(node_lines, node_lines.c.statement == HEAD).join(presence, same))
        .where(presence.c.seen_at > heard_after)
        .group_by(*key)
    )
    query = _narrowed(query, chains, only)
    return {
        (centre_id, project_id, pool): _Online(nodes, rates_of_row(*sums[:4]), rates_of_row(*sums[4:]), oldest)
        for centre_id, project_id, pool, nodes, *sums, oldest in connection.execute(
            _narrowed(query, chains, only)
        ).all()
    }


def rates_of_row(devices: Any, certified_mflop_s: Any, sustained_mflop_s: Any, nominal_mflop_s: Any) -> Rates:
    """Return sums as integers: PostgreSQL adds up big ones as decimals."""
    return Rates(
        devices=int(devices),
        certified_mflop_s=int(certified_mflop_s),
        sustained_mflop_s=int(sustained_mflop_s),
        nominal_mflop_s=int(nominal_mflop_s),
    )


def _external_ids(
    connection: Connection, only: Sequence[str] | None
) -> dict[tuple[str, str], list[tuple[str | None, str]]]:
    """Return what the newest statements and the platform name, by centre and project."""
    same = and_(chains.c.centre_id == external_ids.c.centre_id, chains.c.project_id == external_ids.c.project_id)
    in_force = or_(external_ids.c.statement.is_(None), external_ids.c.statement == chains.c.statement)
    columns = (external_ids.c[name] for name in ("centre_id", "project_id", "pool", "scheme", "value"))
    query = select(*columns).select_from(external_ids.join(chains, same)).where(in_force)
    found: dict[tuple[str, str], list[tuple[str | None, str]]] = {}
    for centre_id, project_id, pool, scheme, value in connection.execute(_narrowed(query, chains, only)):
        found.setdefault((centre_id, project_id), []).append((pool, f"{scheme}:{value}"))
    return found


def _alarms(connection: Connection) -> tuple[dict[str, int], dict[str, list[Contested]]]:
    """Return how many alarms name a centre, and those that name a statement."""
    columns = ("code", "payload_sha256", "other_sha256", "centre_id", "other_centre_id", "devices")
    named: Counter[str] = Counter()
    found: dict[str, list[Contested]] = {}
    for code, payload, other, centre, other_centre, devices in connection.execute(
        select(*(alarms.c[name] for name in columns)).order_by(alarms.c.id)
    ):
        named.update({centre, other_centre} - {None})
        found.setdefault(payload, []).append(Contested(code, other_centre or centre, devices))
        if other is not None:
            found.setdefault(other, []).append(Contested(code, centre, devices))
    return dict(named), found


def _head(facts: Facts, rows: _Rows, at: str) -> Head:
    statement = facts.payload_sha256
    level: Level = "recomputed" if statement in rows.recomputed else "trusted"
    end = end_of(facts.valid_until, rows.revoked.get(statement), at)
    told = tuple(rows.alarms.get(statement, ()))
    return Head(
        facts=facts,
        level=level,
        end=end,
        pools=tuple(_pool(facts, tuple(row), level, end, rows, len(told)) for row in sorted(rows.pools[statement])),
        classes=tuple(class_capacity(row[1:]) for row in rows.classes[statement]),
        alarms=told,
    )


def _pool(facts: Facts, row: tuple[Any, ...], level: Level, end: End | None, rows: _Rows, alarms: int) -> Pool:
    statement, pool, pool_class, precision, choice, accumulate, *sums = row  # at once: a row's names are slow
    devices, certified, sustained, upper, nominal, unrated, on_hold, never, *sums = sums
    *with_witness, untested, idle_nominal, idle_unrated, nodes = sums
    more, idle = Sums(*with_witness), Sums(untested, 0, 0, 0, idle_nominal, idle_unrated)
    witnessed = level == "recomputed" and statement in rows.witnessed
    place = (facts.centre_id, facts.project_id, pool)
    heard, ids = rows.online.get(place, _OFFLINE), rows.ids.get(facts.chain, ())
    heard_of = add_rates(heard.rates, heard.with_witness) if witnessed else heard.rates
    can_run = heard_of.certified_mflop_s > 0 and not facts.simulated
    state = pool_state(end, level, rows.acts.get(place, ()), schedulable=can_run)
    online = heard_of if state == "schedulable" else _OFFLINE.rates
    shown = PoolCapacity(
        centre_id=facts.centre_id,
        project_id=facts.project_id or None,
        pool=pool,
        pool_class=pool_class,
        precision=precision,
        choice=choice,
        accumulate=accumulate,
        state=state,
        level=level,
        grade=facts.grade,
        simulated=facts.simulated,
        statement=statement,
        sequence=facts.sequence,
        issued_at=facts.issued_at,
        valid_until=facts.valid_until,
        ended_at=end.at if end else None,
        ended_code=end.code if end else None,
        district=facts.district,
        devices=devices,
        certified_mflop_s=certified,
        certified_pflops=pflops(certified),
        sustained_mflop_s=sustained,
        sustained_pflops=pflops(sustained),
        nominal_mflop_s=nominal,
        nominal_pflops=pflops(nominal),
        steps=rows.steps.get((statement, pool), ()),
        never_scheduled_mflop_s=never,
        with_witness_mflop_s=more.certified_mflop_s,
        witnessed=witnessed,
        schedulable_mflop_s=online.certified_mflop_s,
        schedulable_pflops=pflops(online.certified_mflop_s),
        nodes=nodes,
        nodes_online=0 if end else heard.nodes,
        external_ids=tuple(sorted({name for of, name in ids if of in (None, pool)})) if ids else (),
        alarms=alarms,
    )
    counted = Sums(devices, certified, sustained, upper, nominal, unrated)
    vendors = _vendors(rows, statement, pool)
    if not witnessed:
        return Pool(shown, counted, Sums(), on_hold, idle, vendors, online)
    rest = Sums(
        untested - more.devices, 0, 0, 0, idle_nominal - more.nominal_mflop_s, idle_unrated - more.without_rating
    )
    return Pool(shown, counted, more, on_hold, rest, vendors, online)


def _vendors(rows: _Rows, statement: str, pool: str) -> tuple[tuple[str, Sums], ...]:
    """Return what counts of each vendor in a pool."""
    return tuple(
        (vendor, Sums(devices, certified, sustained, None, nominal))
        for _, of_pool, vendor, devices, certified, sustained, nominal in rows.vendors.get(statement, ())
        if of_pool == pool
    )


def written_of(connection: Connection, after: Mark, until: Mark) -> set[str]:
    """Return the centres of which something was written after one mark, and up to another."""
    told = and_(alarms.c.id > after.alarm, alarms.c.id <= until.alarm)
    queries = (
        select(changes.c.centre_id).where(changes.c.id > after.change, changes.c.id <= until.change).distinct(),
        select(alarms.c.centre_id).where(told),
        select(alarms.c.other_centre_id).where(told, alarms.c.other_centre_id.is_not(None)),
    )
    return {centre_id for query in queries for centre_id in connection.scalars(query)}
