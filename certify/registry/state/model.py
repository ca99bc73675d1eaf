"""The present state as values: the newest statement of each chain, its pools, and how far each came.

Pure: rows and the time come in. What is in force, and since when not, is decided here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import msgspec

from bench.record import Choice, Grade, PoolClass, Precision
from bench.record.fields import filled
from bench.units import MFLOP_PER_PFLOP
from certify.documents.kinds import Level
from certify.policy.capacity import Capacity
from certify.policy.centre import CLASSES, Bilingual
from certify.registry.api.common import REACHED, State
from certify.registry.api.views import CentreSummary, ClassCapacity, PoolCapacity, StatementSummary

T = TypeVar("T")
Kind = tuple[PoolClass, Precision]
KindTotals = Mapping[Kind, tuple[int, Capacity]]  # how many pools, and their sum


class Revision(NamedTuple):
    """Up to where something is written: the numbers of the last change and of the last alarm."""

    change: int
    alarm: int


class PoolState(NamedTuple):
    """One pool of a latest statement."""

    shown: PoolCapacity
    counted: Capacity
    witnessed: Capacity  # what counts beside that because a witness vouches for the statement; 0 where none does
    on_hold_mflop_s: int
    untested: Capacity
    vendors: tuple[tuple[str, Capacity], ...]  # `counted` of each vendor
    online: Capacity  # what stands on nodes that can be scheduled now; 0 unless the pool is schedulable
    managed: bool = False  # the platform has it under management, whatever its statement is worth now


class StatementFacts(msgspec.Struct, frozen=True):
    """What a statement says of itself, as its row holds it."""

    payload_sha256: str
    centre_id: str
    project_id: str  # "": none
    sequence: int
    previous_sha256: str | None
    issued_at: str
    valid_until: str
    received_at: str
    grade: Grade | None
    simulated: bool
    name_zh: str
    name_en: str
    operator: str
    uscc: str | None
    jurisdiction: str | None
    district: str | None
    tier: str
    domestic: bool | None

    @property
    def chain(self) -> tuple[str, str]:
        """Centre and project."""
        return self.centre_id, self.project_id


class StatementEnd(NamedTuple):
    """Since when a statement is not in force, and why."""

    state: State
    at: str
    code: str


class Contested(NamedTuple):
    """An alarm that names a latest statement."""

    code: str
    other_centre_id: str
    devices: int


class LatestStatement(NamedTuple):
    """The newest statement of a centre and project."""

    facts: StatementFacts
    level: Level
    end: StatementEnd | None
    pools: tuple[PoolState, ...]
    classes: tuple[ClassCapacity, ...]
    alarms: tuple[Contested, ...]
    missing_at_most: Mapping[PoolClass, int | None] = MappingProxyType({})  # by its own word; none: nobody knows
    previous_valid: LatestStatement | None = None  # the newest before it that holds, where it is revoked or simulated
    came_before: bool = False  # a statement that is not simulated, if none of them holds
    rehearsal: bool = False  # of a registry in which simulated statements add up, and they alone

    @property
    def in_no_sum(self) -> bool:
        """Whether it is simulated where real ones add up, or real where simulated ones do."""
        return self.facts.simulated != self.rehearsal

    @property
    def last_valid(self) -> LatestStatement | None:
        """The newest statement of the chain that was not revoked and is not simulated; expired, it still bounds."""
        revoked = self.end is not None and self.end.state == "revoked"
        return self.previous_valid if revoked or self.in_no_sum else self

    @property
    def state(self) -> State:
        """The furthest that any of its pools reached."""
        return self.end.state if self.end else furthest(pool.shown.state for pool in self.pools)

    @property
    def in_sums(self) -> bool:
        """Whether it is in any sum of what is in force: what is only declared is the centre's word."""
        return self.end is None and not self.in_no_sum and self.level == "recomputed"

    def summary(self) -> StatementSummary:
        """Return its summary."""
        return statement_summary(self.facts, self.state, self.end, self.level, self.classes, len(self.alarms))


def furthest(states: Iterable[State]) -> State:
    """Return the furthest of states in force."""
    # states are ordered by how much the platform can do with a pool
    return max(states, key=REACHED.index, default="declared")


def pflops(rate_mflop_s: int) -> str:
    """Return a rate in PFLOPS with six decimals, truncated: it never rounds up."""
    whole, rest = divmod(rate_mflop_s, MFLOP_PER_PFLOP)
    return f"{whole}.{rest // 1000:06d}"


def end_of(valid_until: str, revoked: StatementEnd | None, at: str) -> StatementEnd | None:
    """Return what ended a statement before `at`; a revocation takes precedence over expiry."""
    # first: who asks must learn that a statement was withdrawn, and not merely that it grew old
    if revoked is not None and revoked.at <= at:
        return revoked
    return StatementEnd("expired", valid_until, "expired") if at >= valid_until else None


def pool_state(end: StatementEnd | None, level: Level, transitions: Collection[str], *, schedulable: bool) -> State:
    """Return the state of a pool of a latest statement.

    Args:
        transitions: the latest of register and deregister, and the latest of manage and release, where there are any.
        schedulable: whether any of its capacity that may be scheduled stands on nodes that were heard of a moment ago.
    """
    if end is not None:
        return end.state
    # before the register is looked at: what nobody recomputed is not certified by being registered
    if level != "recomputed":
        return "declared"
    if "register" not in transitions:
        return "certified"
    if "manage" not in transitions:
        return "registered"
    return "schedulable" if schedulable else "managed"


def statement_summary(
    facts: StatementFacts,
    state: State,
    end: StatementEnd | None,
    level: Level,
    classes: tuple[ClassCapacity, ...],
    alarms: int,
) -> StatementSummary:
    """Return the summary of a statement."""
    return filled(
        StatementSummary,
        facts,
        name=Bilingual(zh=facts.name_zh, en=facts.name_en),
        project_id=facts.project_id or None,
        state=state,
        ended_at=end.at if end else None,
        ended_code=end.code if end else None,
        level=level,
        classes=classes,
        alarms=alarms,
    )


@dataclass(frozen=True)
class CentreState:
    """The state of a centre. It holds from `since` until just before `until`, unless something is written about it."""

    latest_statements: tuple[LatestStatement, ...]  # in the order of projects
    since: str  # the last moment up to now at which time alone changed something
    until: str | None  # the next one; null: there is none
    alarms: int  # that name the centre
    statements: int  # that were accepted

    def holds(self, at: str) -> bool:
        """Return whether it is the state at a time."""
        return self.since <= at and (self.until is None or at < self.until)

    @cached_property
    def summary(self) -> CentreSummary:
        """The summary of the centre."""
        newest = max(self.latest_statements, key=lambda latest: latest.facts.issued_at)
        in_force = [latest for latest in self.latest_statements if latest.end is None]
        facts = newest.facts
        return filled(
            CentreSummary,
            facts,
            name=Bilingual(zh=facts.name_zh, en=facts.name_en),
            state=furthest(latest.state for latest in in_force) if in_force else newest.state,
            statements=self.statements,
            in_force=len(in_force),
            simulated=any(latest.facts.simulated for latest in in_force),
            valid_until=min((latest.facts.valid_until for latest in in_force), default=None),
            # simulated and merely declared ones are in no sum of a centre
            classes=added([line for latest in in_force if latest.in_sums for line in latest.classes]),
            schedulable_mflop_s=sum(
                pool.shown.schedulable_mflop_s for latest in self.latest_statements for pool in latest.pools
            ),
            alarms=self.alarms,
        )


@dataclass(frozen=True)
class Snapshot:
    """The present state of all centres, in the order of their ids."""

    revision: Revision  # up to where it was written
    change_digest: str  # of the last change: what tells one history from another
    centre_states: Mapping[str, CentreState]
    _derived: dict[Any, Any] = field(default_factory=dict)

    def derive(self, key: Hashable, make: Callable[[], T], limit: int | None = None) -> T:
        """Return a value that is computed from this snapshot, once: it is dropped together with the snapshot.

        Two threads that ask for it first may both compute it; they compute the same.

        Args:
            key: that names the value.
            make: computes it.
            limit: number of values from which on no more are stored, where askers choose the keys.
        """
        if key in self._derived:
            stored: T = self._derived[key]
            return stored
        value = make()
        if limit is None or len(self._derived) < limit:
            self._derived[key] = value
        return value

    def pools_of(self, centre_id: str) -> list[PoolState]:
        """Return the pools of a centre; none where the centre is not known."""
        centre = self.centre_states.get(centre_id)
        return [] if centre is None else [pool for latest in centre.latest_statements for pool in latest.pools]

    def holds(self, revision: Revision, at: str) -> bool:
        """Return whether it is still the present."""
        return revision == self.revision and self.since <= at and (self.until is None or at < self.until)

    @cached_property
    def since(self) -> str:
        """The last moment at which time alone changed something."""
        return max((centre.since for centre in self.centre_states.values()), default="")

    @cached_property
    def until(self) -> str | None:
        """The earliest time at which the state of any centre changes by itself; None where there is none."""
        return min((centre.until for centre in self.centre_states.values() if centre.until is not None), default=None)

    @cached_property
    def latest_statements(self) -> tuple[LatestStatement, ...]:
        """The newest statements, in the order of centres and projects."""
        return tuple(latest for centre in self.centre_states.values() for latest in centre.latest_statements)

    @cached_property
    def pools(self) -> tuple[PoolCapacity, ...]:
        """Every pool, as the capacity feed shows it."""
        return tuple(pool.shown for latest in self.latest_statements for pool in latest.pools)

    @cached_property
    def by_statement(self) -> dict[str, LatestStatement]:
        """The latest statements by their payload digest."""
        return {latest.facts.payload_sha256: latest for latest in self.latest_statements}

    @cached_property
    def centres(self) -> dict[str, CentreSummary]:
        """A summary of every centre."""
        return {centre_id: centre.summary for centre_id, centre in self.centre_states.items()}


def added(lines: list[ClassCapacity]) -> tuple[ClassCapacity, ...]:
    """Return one line for each class and workload: precisions are never mixed."""
    groups: dict[tuple[PoolClass, Precision, Choice], list[ClassCapacity]] = {}
    for line in lines:
        groups.setdefault((line.pool_class, line.precision, line.choice), []).append(line)
    order = sorted(groups, key=lambda key: (CLASSES.index(key[0]), key[1:]))
    return tuple(_sum(groups[key]) for key in order)


def _sum(lines: list[ClassCapacity]) -> ClassCapacity:
    if len(lines) == 1:
        return lines[0]
    whole = sum((_capacity(line) for line in lines), Capacity())
    return filled(
        ClassCapacity,
        whole,
        pool_class=lines[0].pool_class,
        precision=lines[0].precision,
        choice=lines[0].choice,
        never_scheduled_mflop_s=sum(line.never_scheduled_mflop_s for line in lines),
        with_witness_mflop_s=sum(line.with_witness_mflop_s for line in lines),
        untested_devices=sum(line.untested_devices for line in lines),
        nodes_missing=sum(line.nodes_missing for line in lines),
    )


def _capacity(line: ClassCapacity) -> Capacity:
    return Capacity(
        line.devices, line.certified_mflop_s, line.sustained_mflop_s, line.upper_mflop_s, line.nominal_mflop_s
    )
