"""A city's sums over time, derived from what is stored: statements, their records, revocations, validity and acts.

Every statement is a stretch of time in which its pools count, and every pair of acts one in which a pool is managed. A
sum at a moment is what lies over it. Nothing is replayed: one pass over all ends of stretches, in the order of time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, select

from bench.record import GRADES, PoolClass
from certify.policy.policies import Policy
from certify.policy.verdicts import lies_within
from certify.registry.api.reached import Trend, TrendPoint
from certify.registry.base.rehearsal import is_rehearsal
from certify.registry.state.city.evidence import counting_of
from certify.registry.storage.city_tables import schedulable_samples
from certify.registry.storage.tables import (
    pool_lines,
    pool_transitions,
    revocations,
    statements,
    verifications,
    witnesses,
)

_FACTS = (
    "payload_sha256",
    "centre_id",
    "project_id",
    "sequence",
    "received_at",
    "valid_until",
    "grade",
    "jurisdiction",
    "simulated",
)
_DAY = len("2027-03-01")  # of a time as a text
NEVER = "9"  # after all times
Chain = tuple[str, str]
Pool = tuple[str, str, str]  # centre, project, pool
Delta = tuple[str, PoolClass, int, int]  # when, of which class, and what is added to the certified and managed sum


class Stretch(NamedTuple):
    """From when until when something holds."""

    since: str
    until: str

    def within(self, other: Stretch) -> Stretch:
        """Return the part of both; it is empty where its ends are reversed."""
        return Stretch(max(self.since, other.since), min(self.until, other.until))


class PoolSum(NamedTuple):
    """What a pool of a statement counts, and in which workload."""

    pool: str
    pool_class: PoolClass
    workload: tuple[str, str, str]
    certified_mflop_s: int
    with_witness_mflop_s: int


class PastStatement(NamedTuple):
    """A statement that was accepted at some time, with all that decides from when until when it counts."""

    chain: Chain
    sequence: int
    received_at: str
    valid_until: str
    grade: str | None
    jurisdiction: str | None
    simulated: bool
    recomputed_at: str | None
    revoked_at: str | None
    witnessed_at: str | None
    pools: tuple[PoolSum, ...]


class History(NamedTuple):
    """All that the sums of cities followed from."""

    statements: list[PastStatement]
    transitions: list[tuple[Pool, str, str]]  # pool, act, when; in their order
    rehearsal: bool


Samples = dict[tuple[str, PoolClass], int]  # by day and class: the last of what was schedulable


def read_history(connection: Connection) -> History:
    """Return what the sums of cities followed from."""
    recomputed = _by_statement(connection, verifications, verifications.c.at, verifications.c.level == "recomputed")
    revoked = _by_statement(connection, revocations, revocations.c.effective_at)
    witnessed = _by_statement(connection, witnesses, witnesses.c.at)
    pools: dict[str, list[PoolSum]] = defaultdict(list)
    names = ("statement", "pool", "pool_class", "precision", "choice", "accumulate", "certified_mflop_s")
    for statement, pool, name, precision, choice, accumulate, certified, witness in connection.execute(
        select(*(pool_lines.c[name] for name in (*names, "with_witness_mflop_s")))
    ):
        pools[statement].append(PoolSum(pool, name, (precision, choice, accumulate), certified, witness))
    past = [
        PastStatement(
            chain=(row.centre_id, row.project_id),
            sequence=row.sequence,
            received_at=row.received_at,
            valid_until=row.valid_until,
            grade=row.grade,
            jurisdiction=row.jurisdiction,
            simulated=row.simulated,
            recomputed_at=recomputed.get(row.payload_sha256),
            revoked_at=revoked.get(row.payload_sha256),
            witnessed_at=witnessed.get(row.payload_sha256),
            pools=tuple(pools[row.payload_sha256]),
        )
        for row in connection.execute(select(*(statements.c[name] for name in _FACTS)))
    ]
    of = pool_transitions.c
    query = select(of.centre_id, of.project_id, of.pool, of.act, of.at).order_by(of.id)
    return History(
        rehearsal=is_rehearsal(connection),
        statements=past,
        transitions=[
            ((centre, project, pool), act, at) for centre, project, pool, act, at in connection.execute(query)
        ],
    )


def read_samples(connection: Connection, policy: Policy) -> Samples:
    """Return the last sample of each day of what was schedulable in a city."""
    found = schedulable_samples.c
    last = (
        select(func.max(found.id))
        .where(found.policy == policy.policy)
        .group_by(found.pool_class, func.substr(found.at, 1, _DAY))
    )
    query = select(found.at, found.pool_class, found.schedulable_mflop_s).where(found.id.in_(last))
    return {(at[:_DAY], name): rate for at, name, rate in connection.execute(query)}


def _by_statement(connection: Connection, table: Any, column: Any, *where: Any) -> dict[str, str]:
    """Return the earliest time of each statement."""
    query = select(table.c.statement, func.min(column)).where(*where).group_by(table.c.statement)
    return {row[0]: row[1] for row in connection.execute(query)}


def derive_trend(policy: Policy, history: History, samples: Samples, at: str) -> Trend:
    """Return the sums of a city at the end of each day on which one of them changed, and now."""
    deltas = sorted(_deltas(policy, history))
    days = sorted({when[:_DAY] for when, *_ in deltas if when <= at} | {day for day, _ in samples})
    if not days:
        return Trend(policy=policy.policy, at=at, rehearsal=history.rehearsal, points=())
    moments = [f"{day}T23:59:59.999999Z" for day in days if day < at[:_DAY]] + [at]
    precisions = {name: counting.precision for name, counting in counting_of(policy)}
    sums = {name: [0, 0] for name in precisions}
    points, place = [], 0
    for moment in moments:
        end = bisect_right(deltas, moment, key=lambda delta: delta[0])
        for _, name, certified, managed in deltas[place:end]:
            sums[name][0] += certified
            sums[name][1] += managed
        place = end
        points += [
            TrendPoint(
                at=moment,
                pool_class=name,
                precision=precisions[name],
                certified_mflop_s=certified,
                managed_mflop_s=managed,
                schedulable_mflop_s=samples.get((moment[:_DAY], name)),
            )
            for name, (certified, managed) in sums.items()
        ]
    return Trend(policy=policy.policy, at=at, rehearsal=history.rehearsal, points=tuple(points))


def _deltas(policy: Policy, history: History) -> Iterator[Delta]:
    """Yield what is added to the sums and taken from them, and when."""
    counting = {name: (one.precision, one.choice, one.accumulate) for name, one in counting_of(policy)}
    managed = _managed(history.transitions)
    for one, newest in _newest(history.statements):
        if not _counts(policy, one, history.rehearsal) or one.recomputed_at is None:
            continue
        holds = newest.within(Stretch(one.recomputed_at, min(one.valid_until, one.revoked_at or NEVER)))
        witnessed = holds.within(Stretch(one.witnessed_at or NEVER, NEVER))
        for pool in one.pools:
            if counting.get(pool.pool_class) != pool.workload:
                continue
            stretches = managed.get((*one.chain, pool.pool), ())
            for stretch, rate in ((holds, pool.certified_mflop_s), (witnessed, pool.with_witness_mflop_s)):
                yield from _ends(stretch, pool.pool_class, rate, 0)
                for under_management in stretches:
                    yield from _ends(stretch.within(under_management), pool.pool_class, 0, rate)


def _ends(stretch: Stretch, name: PoolClass, certified: int, managed: int) -> Iterator[Delta]:
    if stretch.since < stretch.until and (certified or managed):
        yield stretch.since, name, certified, managed
        yield stretch.until, name, -certified, -managed


def _counts(policy: Policy, one: PastStatement, rehearsal: bool) -> bool:
    """Return whether a statement is of the city and of a grade that its policy counts."""
    graded = one.grade is not None and GRADES.index(one.grade) >= GRADES.index(policy.minimum_grade)
    return graded and one.simulated == rehearsal and lies_within(policy.jurisdiction, one.jurisdiction)


def _newest(past: list[PastStatement]) -> Iterator[tuple[PastStatement, Stretch]]:
    """Yield each statement that ever was the newest of its chain, and from when until when it was."""
    chains: dict[Chain, list[PastStatement]] = defaultdict(list)
    for one in past:
        chains[one.chain].append(one)
    for of_chain in chains.values():
        # in the order in which they came: one with a lower number than the newest never takes its place
        of_chain.sort(key=lambda one: (one.received_at, one.sequence))
        newest: list[PastStatement] = []
        for one in of_chain:
            if not newest or one.sequence > newest[-1].sequence:
                newest.append(one)
        ends = [one.received_at for one in newest[1:]] + [NEVER]
        yield from ((one, Stretch(one.received_at, end)) for one, end in zip(newest, ends, strict=True))


def _managed(transitions: Iterable[tuple[Pool, str, str]]) -> dict[Pool, list[Stretch]]:
    """Return when each pool stood in the register and under management, both."""
    holds: dict[Pool, dict[str, bool]] = defaultdict(dict)
    since: dict[Pool, str] = {}
    stretches: dict[Pool, list[Stretch]] = defaultdict(list)
    for pool, act, at in transitions:
        holds[pool]["register" if act in ("register", "deregister") else "manage"] = act in ("register", "manage")
        both = holds[pool].get("register", False) and holds[pool].get("manage", False)
        if both and pool not in since:
            since[pool] = at
        elif not both and pool in since:
            stretches[pool].append(Stretch(since.pop(pool), at))
    for pool, began in since.items():
        stretches[pool].append(Stretch(began, NEVER))
    return stretches
