"""A latest statement and its pools out of rows: pure, and the one place where rows become the state of a pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from bench.record import Choice, PoolClass, Precision
from certify.documents.kinds import Level
from certify.policy.capacity import Capacity
from certify.policy.centre import Bilingual, city_code
from certify.registry.api.nodes import RmaxLine, StepSum
from certify.registry.api.views import ClassCapacity, PoolCapacity
from certify.registry.state.feeds.models import PoolModels
from certify.registry.state.model import (
    Contested,
    LatestStatement,
    PoolState,
    StatementEnd,
    StatementFacts,
    end_of,
    pflops,
    pool_state,
)

NEVER = ""  # before all times


class PoolRow(NamedTuple):
    """The columns of `pool_lines` that are read. A row of SQLAlchemy would look each name up in a table."""

    statement: str
    pool: str
    pool_class: PoolClass
    precision: Precision
    choice: Choice
    accumulate: Precision
    devices: int
    certified_mflop_s: int
    sustained_mflop_s: int
    upper_mflop_s: int | None
    nominal_mflop_s: int
    devices_without_rating: int
    on_accepted_hold_mflop_s: int
    never_scheduled_mflop_s: int
    with_witness_devices: int
    with_witness_mflop_s: int
    with_witness_sustained_mflop_s: int
    with_witness_upper_mflop_s: int | None
    with_witness_nominal_mflop_s: int
    with_witness_without_rating: int
    untested_devices: int
    untested_nominal_mflop_s: int
    untested_without_rating: int
    nodes_recorded: int

    @property
    def counted(self) -> Capacity:
        """The counted capacity of the pool."""
        return Capacity(
            self.devices,
            self.certified_mflop_s,
            self.sustained_mflop_s,
            self.upper_mflop_s,
            self.nominal_mflop_s,
            self.devices_without_rating,
        )

    @property
    def with_witness(self) -> Capacity:
        """What counts besides that once a witness vouches for the statement."""
        return Capacity(
            self.with_witness_devices,
            self.with_witness_mflop_s,
            self.with_witness_sustained_mflop_s,
            self.with_witness_upper_mflop_s,
            self.with_witness_nominal_mflop_s,
            self.with_witness_without_rating,
        )

    def untested(self, witnessed: Capacity) -> Capacity:
        """What was not tested, less what a witness made count: its devices stood among the untested ones until then."""
        return Capacity(
            devices=self.untested_devices - witnessed.devices,
            nominal_mflop_s=self.untested_nominal_mflop_s - witnessed.nominal_mflop_s,
            without_rating=self.untested_without_rating - witnessed.without_rating,
        )


class OnlineNodes(NamedTuple):
    """The nodes of a pool that were heard of a moment ago, with the devices that were certified."""

    nodes: int = 0
    capacity: Capacity = Capacity()  # without what is never scheduled
    with_witness: Capacity = Capacity()
    oldest: str = NEVER


OFFLINE = OnlineNodes()


@dataclass(frozen=True)
class CentreRows:
    """What latest statements are made from. Keys are payload digests, or centre, project and pool."""

    pools: Mapping[str, list[Any]]  # rows of `POOL_COLUMNS`
    vendors: Mapping[str, list[Any]]  # rows of `VENDOR_COLUMNS`
    classes: Mapping[str, list[Any]]  # rows of the statement and `CLASS_COLUMNS`
    steps: Mapping[tuple[Any, ...], tuple[StepSum, ...]]  # by statement and pool
    models: Mapping[tuple[str, str], PoolModels]  # likewise
    rmax: Mapping[tuple[str, str], RmaxLine]  # likewise
    recomputed: set[str]
    witnessed: set[str]
    revoked: Mapping[str, StatementEnd]
    pool_transitions: Mapping[tuple[str, str, str], tuple[str, ...]]
    online: Mapping[tuple[str, str, str], OnlineNodes]
    ids: Mapping[tuple[str, str], list[tuple[str | None, str]]]
    alarms: Mapping[str, list[Contested]]
    rehearsal: bool  # simulated statements add up, and they alone
    missing: Mapping[str, list[Any]]  # rows of the statement, class and what its missing nodes could at most add
    fabric: Mapping[str, list[Any]]  # rows of `fabric_lines`, one at most


def capacity_of_row(devices: Any, certified_mflop_s: Any, sustained_mflop_s: Any, nominal_mflop_s: Any) -> Capacity:
    """Return what the columns `SUMMED` say of a group of devices; no upper bound is read."""
    # integers: PostgreSQL adds up big ones as decimals
    return Capacity(int(devices), int(certified_mflop_s), int(sustained_mflop_s), None, int(nominal_mflop_s))


def latest_statement(facts: StatementFacts, rows: CentreRows, at: str) -> LatestStatement:
    """Return a latest statement as it stands at a time."""
    statement = facts.payload_sha256
    level: Level = "recomputed" if statement in rows.recomputed else "trusted"
    end = end_of(facts.valid_until, rows.revoked.get(statement), at)
    alarms = tuple(rows.alarms.get(statement, ()))
    return LatestStatement(
        facts=facts,
        level=level,
        end=end,
        pools=tuple(
            _pool(facts, PoolRow(*row), level, end, rows, len(alarms)) for row in sorted(rows.pools[statement])
        ),
        classes=tuple(class_capacity(row[1:]) for row in rows.classes[statement]),
        alarms=alarms,
        rehearsal=rows.rehearsal,
        missing_at_most={pool_class: at_most for _, pool_class, at_most in rows.missing.get(statement, ())},
    )


def _pool(
    facts: StatementFacts, row: PoolRow, level: Level, end: StatementEnd | None, rows: CentreRows, alarms: int
) -> PoolState:
    """Return a pool as it stands now: its state, and what of it counts, could count, or runs."""
    # what counts with a witness is known from the records only
    has_witness = level == "recomputed" and row.statement in rows.witnessed
    pool_key = (facts.centre_id, facts.project_id, row.pool)
    heard, ids = rows.online.get(pool_key, OFFLINE), rows.ids.get(facts.chain, ())
    heard_of = heard.capacity + heard.with_witness if has_witness else heard.capacity
    # nobody may schedule onto devices that are made up
    can_run = heard_of.certified_mflop_s > 0 and facts.simulated == rows.rehearsal
    transitions = rows.pool_transitions.get(pool_key, ())
    state = pool_state(end, level, transitions, schedulable=can_run)
    online = heard_of if state == "schedulable" else Capacity()
    models = rows.models.get((row.statement, row.pool), PoolModels())
    shown = PoolCapacity(
        centre_id=facts.centre_id,
        project_id=facts.project_id or None,
        pool=row.pool,
        pool_class=row.pool_class,
        precision=row.precision,
        choice=row.choice,
        accumulate=row.accumulate,
        state=state,
        level=level,
        grade=facts.grade,
        simulated=facts.simulated,
        statement=row.statement,
        sequence=facts.sequence,
        issued_at=facts.issued_at,
        valid_until=facts.valid_until,
        ended_at=end.at if end else None,
        ended_code=end.code if end else None,
        district=facts.district,
        devices=row.devices,
        certified_mflop_s=row.certified_mflop_s,
        certified_pflops=pflops(row.certified_mflop_s),
        sustained_mflop_s=row.sustained_mflop_s,
        sustained_pflops=pflops(row.sustained_mflop_s),
        nominal_mflop_s=row.nominal_mflop_s,
        nominal_pflops=pflops(row.nominal_mflop_s),
        steps=rows.steps.get((row.statement, row.pool), ()),
        never_scheduled_mflop_s=row.never_scheduled_mflop_s,
        with_witness_mflop_s=row.with_witness_mflop_s,
        witnessed=has_witness,
        schedulable_mflop_s=online.certified_mflop_s,
        schedulable_pflops=pflops(online.certified_mflop_s),
        nodes=row.nodes_recorded,
        nodes_online=0 if end else heard.nodes,  # its nodes may still beat, but nothing certifies them any more
        external_ids=tuple(sorted({name for of, name in ids if of in (None, row.pool)})) if ids else (),
        alarms=alarms,
        name=Bilingual(zh=facts.name_zh, en=facts.name_en),
        jurisdiction=facts.jurisdiction,
        city=city_code(facts.jurisdiction),
        devices_without_rating=row.devices_without_rating,
        models=models.lines,
        models_left_out=models.left_out,
        **_uncounted(row, rows),
    )
    witnessed = row.with_witness if has_witness else Capacity()
    vendors = _vendors(rows, row.statement, row.pool)
    untested = row.untested(witnessed)
    managed = "register" in transitions and "manage" in transitions
    return PoolState(shown, row.counted, witnessed, row.on_accepted_hold_mflop_s, untested, vendors, online, managed)


def _uncounted(row: PoolRow, rows: CentreRows) -> dict[str, Any]:
    """Return what stands beside a pool's capacity and is no part of it: Rmax, and the fabric of its statement."""
    rmax = rows.rmax.get((row.statement, row.pool))
    ((_, fabric, groups, network_loss_ppm),) = rows.fabric.get(row.statement) or [(None, None, None, None)]
    return {
        "rmax_mflop_s": None if rmax is None else rmax.rate_mflop_s,
        "rmax_pflops": None if rmax is None else pflops(rmax.rate_mflop_s),
        "rmax": rmax,
        "fabric": fabric,
        "fabric_groups": groups,
        "network_loss_ppm": network_loss_ppm,
    }


def _vendors(rows: CentreRows, statement: str, pool: str) -> tuple[tuple[str, Capacity], ...]:
    """Return what counts of each vendor in a pool."""
    return tuple(
        (vendor, Capacity(devices, certified, sustained, None, nominal))
        for _, of_pool, vendor, devices, certified, sustained, nominal in rows.vendors.get(statement, ())
        if of_pool == pool
    )


def class_capacity(row: Any) -> ClassCapacity:
    """Return a row of `CLASS_COLUMNS` as a type of the API."""
    return ClassCapacity(**dict(zip(ClassCapacity.__struct_fields__, row, strict=True)))
