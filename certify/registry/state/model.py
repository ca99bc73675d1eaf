"""The present state as values: the newest statement of each chain, its pools, and how far each came.

Pure: rows and the time come in. What is in force, and since when not, is decided here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import msgspec

from bench.record import Choice, Grade, PoolClass, Precision
from bench.units import MFLOP_PER_PFLOP
from certify.documents.kinds import Level
from certify.policy.centre import CLASSES, Bilingual
from certify.policy.evidence import Sums
from certify.registry.api import (
    REACHED,
    CentreSummary,
    ClassCapacity,
    PoolCapacity,
    Rates,
    State,
    StatementSummary,
)

Kind = tuple[PoolClass, Precision]
Totals = Mapping[Kind, tuple[int, Rates]]  # pools and their sum


class Mark(NamedTuple):
    """Up to where something is written: the numbers of the last change and of the last alarm."""

    change: int
    alarm: int


class Pool(NamedTuple):
    """One pool of a head. What of it is online counts 0 unless it is schedulable."""

    shown: PoolCapacity
    counted: Sums
    witnessed: Sums  # what counts beside that because a witness vouches for the statement; 0 where none does
    on_hold_mflop_s: int
    untested: Sums
    vendors: tuple[tuple[str, Sums], ...]  # `counted` of each vendor
    online: Rates  # what stands on nodes that can be scheduled now; 0 unless the pool is schedulable


class Facts(msgspec.Struct, frozen=True):
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


class End(NamedTuple):
    """Since when a statement is not in force, and why."""

    state: State
    at: str
    code: str


class Contested(NamedTuple):
    """An alarm that names a head."""

    code: str
    other_centre_id: str
    devices: int


class Head(NamedTuple):
    """The newest statement of a centre and project."""

    facts: Facts
    level: Level
    end: End | None
    pools: tuple[Pool, ...]
    classes: tuple[ClassCapacity, ...]
    alarms: tuple[Contested, ...]

    @property
    def state(self) -> State:
        """The furthest that any of its pools reached."""
        return self.end.state if self.end else furthest(pool.shown.state for pool in self.pools)

    @property
    def in_sums(self) -> bool:
        """Whether it is in any sum of what is in force: what is only declared is the centre's word."""
        return self.end is None and not self.facts.simulated and self.level == "recomputed"

    def summary(self) -> StatementSummary:
        """Return it as the API tells it."""
        return statement_summary(self.facts, self.state, self.end, self.level, self.classes, len(self.alarms))


def furthest(states: Iterable[State]) -> State:
    """Return the furthest of states in force."""
    return max(states, key=REACHED.index, default="declared")


def pflops(rate_mflop_s: int) -> str:
    """Return a rate in PFLOPS with six decimals, truncated: it never rounds up."""
    whole, rest = divmod(rate_mflop_s, MFLOP_PER_PFLOP)
    return f"{whole}.{rest // 1000:06d}"


def end_of(valid_until: str, revoked: End | None, at: str) -> End | None:
    """Return what ended a head by now: a revocation before everything else."""
    if revoked is not None and revoked.at <= at:
        return revoked
    return End("expired", valid_until, "expired") if at >= valid_until else None


def pool_state(end: End | None, level: Level, acts: Collection[str], *, schedulable: bool) -> State:
    """Return how far a pool of a head came.

    Args:
        acts: the latest of register and deregister, and the latest of manage and release, where there are any.
        schedulable: whether any of its capacity that may be scheduled stands on nodes that were heard of a moment ago.
    """
    if end is not None:
        return end.state
    if level != "recomputed":
        return "declared"
    if "register" not in acts:
        return "certified"
    if "manage" not in acts:
        return "registered"
    return "schedulable" if schedulable else "managed"


def statement_summary(
    facts: Facts, state: State, end: End | None, level: Level, classes: tuple[ClassCapacity, ...], alarms: int
) -> StatementSummary:
    """Return a statement as the API tells it."""
    return StatementSummary(
        payload_sha256=facts.payload_sha256,
        centre_id=facts.centre_id,
        name=Bilingual(zh=facts.name_zh, en=facts.name_en),
        project_id=facts.project_id or None,
        sequence=facts.sequence,
        previous_sha256=facts.previous_sha256,
        issued_at=facts.issued_at,
        valid_until=facts.valid_until,
        received_at=facts.received_at,
        state=state,
        ended_at=end.at if end else None,
        ended_code=end.code if end else None,
        level=level,
        grade=facts.grade,
        simulated=facts.simulated,
        district=facts.district,
        classes=classes,
        alarms=alarms,
    )


@dataclass(frozen=True)
class Part:
    """How a centre stands. It holds from `since` until just before `until`, as long as nothing is written of it."""

    heads: tuple[Head, ...]  # in the order of projects
    since: str  # the last moment up to now at which time alone changed something
    until: str | None  # the next one; null: there is none
    alarms: int  # that name the centre
    statements: int  # that were accepted

    def holds(self, at: str) -> bool:
        """Return whether it is still so."""
        return self.since <= at and (self.until is None or at < self.until)

    @cached_property
    def summary(self) -> CentreSummary:
        """The centre as the API tells it."""
        newest = max(self.heads, key=lambda head: head.facts.issued_at)
        in_force = [head for head in self.heads if head.end is None]
        facts = newest.facts
        return CentreSummary(
            centre_id=facts.centre_id,
            name=Bilingual(zh=facts.name_zh, en=facts.name_en),
            operator=facts.operator,
            district=facts.district,
            jurisdiction=facts.jurisdiction,
            tier=facts.tier,
            domestic=facts.domestic,
            state=furthest(head.state for head in in_force) if in_force else newest.state,
            statements=self.statements,
            in_force=len(in_force),
            simulated=any(head.facts.simulated for head in in_force),
            valid_until=min((head.facts.valid_until for head in in_force), default=None),
            classes=added([line for head in in_force if head.in_sums for line in head.classes]),
            schedulable_mflop_s=sum(pool.shown.schedulable_mflop_s for head in self.heads for pool in head.pools),
            alarms=self.alarms,
        )


@dataclass(frozen=True)
class View:
    """The present state of all centres, in the order of their ids."""

    mark: Mark  # up to where it was written
    trace: str  # of the last change: what tells one history from another
    parts: Mapping[str, Part]
    answers: dict[Any, Any] = field(default_factory=dict)  # what was made of it already

    def holds(self, mark: Mark, at: str) -> bool:
        """Return whether it is still the present."""
        return mark == self.mark and self.since <= at and (self.until is None or at < self.until)

    @cached_property
    def since(self) -> str:
        """The last moment at which time alone changed something."""
        return max((part.since for part in self.parts.values()), default="")

    @cached_property
    def until(self) -> str | None:
        """The next one."""
        return min((part.until for part in self.parts.values() if part.until is not None), default=None)

    @cached_property
    def heads(self) -> tuple[Head, ...]:
        """The newest statements, in the order of centres and projects."""
        return tuple(head for part in self.parts.values() for head in part.heads)

    @cached_property
    def pools(self) -> tuple[PoolCapacity, ...]:
        """All lines of the feed."""
        return tuple(pool.shown for head in self.heads for pool in head.pools)

    @cached_property
    def by_statement(self) -> dict[str, Head]:
        """The heads by their payload digest."""
        return {head.facts.payload_sha256: head for head in self.heads}

    @cached_property
    def centres(self) -> dict[str, CentreSummary]:
        """All centres."""
        return {centre_id: part.summary for centre_id, part in self.parts.items()}


def add_rates(a: Rates, b: Rates) -> Rates:
    """Return the sum of two sums."""
    return Rates(
        devices=a.devices + b.devices,
        certified_mflop_s=a.certified_mflop_s + b.certified_mflop_s,
        sustained_mflop_s=a.sustained_mflop_s + b.sustained_mflop_s,
        nominal_mflop_s=a.nominal_mflop_s + b.nominal_mflop_s,
    )


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
    uppers = [line.upper_mflop_s for line in lines]
    return ClassCapacity(
        pool_class=lines[0].pool_class,
        precision=lines[0].precision,
        choice=lines[0].choice,
        devices=sum(line.devices for line in lines),
        certified_mflop_s=sum(line.certified_mflop_s for line in lines),
        sustained_mflop_s=sum(line.sustained_mflop_s for line in lines),
        upper_mflop_s=None if None in uppers else sum(upper or 0 for upper in uppers),
        nominal_mflop_s=sum(line.nominal_mflop_s for line in lines),
        never_scheduled_mflop_s=sum(line.never_scheduled_mflop_s for line in lines),
        with_witness_mflop_s=sum(line.with_witness_mflop_s for line in lines),
        untested_devices=sum(line.untested_devices for line in lines),
        nodes_missing=sum(line.nodes_missing for line in lines),
    )
