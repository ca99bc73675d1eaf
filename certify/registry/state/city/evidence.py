"""What the statements in a city prove of each class, and what all that is missing could add.

Pure functions of values. In force and not counted, in force and incomplete, out of force, never submitted: each of
these could turn a verdict, and is bounded by what was signed of it, or by nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import NamedTuple

from bench.record import GRADES, PoolClass
from certify.policy.capacity import Capacity
from certify.policy.centre import CLASSES
from certify.policy.policies import Counting, Policy
from certify.policy.thresholds import Absent, ClassEvidence, Unrecorded, writable
from certify.policy.verdicts import lies_within
from certify.registry.api.cities import Absence
from certify.registry.state.model import LatestStatement, PoolState

# in force, and not known to be worth nothing
COULD_ADD = ("declared-only", "nothing-counted", "grade-too-low", "precision-differs")
UNKNOWN = Absent(1, None, None)


class CityLine(NamedTuple):
    """A pool of a statement in the city, and why it does not count, if so."""

    latest: LatestStatement
    pool: PoolState
    code: str | None

    @property
    def managed(self) -> bool:
        """Whether it counts and the platform manages it."""
        return self.code is None and self.pool.shown.state in ("managed", "schedulable")


class AbsentChain(NamedTuple):
    """A centre, or one of its projects, that is expected and has no statement in force."""

    centre_id: str
    project_id: str
    code: Absence
    since: str | None
    latest: LatestStatement | None  # its newest statement; None: there never was one
    last_valid: LatestStatement | None  # what bounds it; None: nothing does


class Expected(NamedTuple):
    """Which centres are expected besides those that a statement came of."""

    centres: frozenset[str] = frozenset()
    closed: frozenset[str] = frozenset()  # of these nothing is expected any more


def counting_of(policy: Policy) -> list[tuple[PoolClass, Counting]]:
    """Return how a policy counts each class, in the order of classes."""
    return [(name, policy.counting[name]) for name in CLASSES if name in policy.counting]


def lines_in(policy: Policy, latest_statements: Iterable[LatestStatement]) -> list[CityLine]:
    """Return the pools of the newest statements that lie in a city or one of its districts."""
    return [
        CityLine(latest, pool, not_counted(policy, latest, pool))
        for latest in latest_statements
        if lies_within(policy.jurisdiction, latest.facts.jurisdiction)
        for pool in sorted(latest.pools, key=_name)
    ]


def _name(pool: PoolState) -> str:
    return pool.shown.pool


def not_counted(policy: Policy, latest: LatestStatement, pool: PoolState) -> str | None:
    """Return why a pool counts nothing in a policy's sums, or None."""
    if latest.in_no_sum:
        return "simulated"
    if latest.end is not None:
        return latest.end.state
    if latest.level != "recomputed":
        return "declared-only"
    if latest.facts.grade is None:
        return "nothing-counted"
    if GRADES.index(latest.facts.grade) < GRADES.index(policy.minimum_grade):
        return "grade-too-low"
    counting = policy.counting.get(pool.shown.pool_class)
    return "precision-differs" if counting is None or not _same_workload(pool, counting) else None


def _same_workload(pool: PoolState, counting: Counting) -> bool:
    shown = pool.shown
    return (shown.precision, shown.choice, shown.accumulate) == (
        counting.precision,
        counting.choice,
        counting.accumulate,
    )


def absent_chains(
    policy: Policy, latest_statements: Iterable[LatestStatement], expected: Expected
) -> tuple[AbsentChain, ...]:
    """Return who is expected in a city and has no statement in force, in the order of centres and projects.

    A chain whose only statements are simulated is none: what is made up came from no machine.
    """
    absent, heard = [], set()
    for latest in latest_statements:
        facts, last = latest.facts, latest.last_valid
        came = not latest.in_no_sum or last is not None or latest.came_before
        if came:
            heard.add(facts.centre_id)
        inside = any(
            one is not None and lies_within(policy.jurisdiction, one.facts.jurisdiction) for one in (latest, last)
        )
        ended = latest.end is not None or latest.in_no_sum
        if not (inside and ended and came) or facts.centre_id in expected.closed:
            continue
        code: Absence = "superseded"
        if latest.end is not None:
            code = "revoked" if latest.end.state == "revoked" else "expired"
        since = facts.received_at if latest.end is None else latest.end.at
        absent.append(AbsentChain(*facts.chain, code, since, latest, last))
    never = expected.centres - heard - expected.closed
    absent += [AbsentChain(centre_id, "", "never-submitted", None, None, None) for centre_id in never]
    return tuple(sorted(absent, key=lambda one: (one.centre_id, one.project_id)))


def evidence_in(
    policy: Policy, lines: list[CityLine], absent: Iterable[AbsentChain], *, managed: bool = False
) -> dict[PoolClass, ClassEvidence]:
    """Return what is known of each class: what counts, and what could come to it.

    Args:
        policy: of the city.
        lines: all pools of newest statements in it.
        absent: who is expected and has nothing in force.
        managed: whether only what the platform has under its management is asked for: a pool of a statement that
            does not count now is managed again with the next one, and a centre that never came is not.
    """
    asked = [line for line in lines if line.pool.managed] if managed else lines
    return {
        name: _class_evidence(name, counting, asked)._replace(
            absent=reduce(
                Absent.plus, (could_add_absent(name, counting, one, managed=managed) for one in absent), Absent()
            )
        )
        for name, counting in counting_of(policy)
    }


def _class_evidence(name: PoolClass, counting: Counting, lines: list[CityLine]) -> ClassEvidence:
    clean, on_hold, untested = Capacity(), Capacity(), Capacity()
    missing: dict[str, Unrecorded] = {}
    for line in lines:
        pool = line.pool
        if pool.shown.pool_class != name or not (line.code is None or line.code in COULD_ADD):
            continue
        untested += pool.untested
        known = missing.get(pool.shown.statement)
        # a class may have pools of two workloads by another policy: one that differs leaves the bound without a unit
        if known is None or known.at_most_mflop_s is not None:
            missing[pool.shown.statement] = _unrecorded(name, counting, line.latest, pool)
        if line.code is not None:
            untested += _could_add(pool, counting)
            continue
        on_hold += pool.witnessed  # a hold keeps them from counting alone
        if pool.on_hold_mflop_s:
            on_hold += pool.counted  # all of it: which devices are on hold is not in the sums
        else:
            clean += pool.counted
    return ClassEvidence(clean, on_hold, untested, reduce(Unrecorded.plus, missing.values(), Unrecorded()))


def _unrecorded(name: PoolClass, counting: Counting, latest: LatestStatement, pool: PoolState) -> Unrecorded:
    """Return how many nodes of one class a statement lacks records of, and what it says that they could add."""
    nodes = sum(one.nodes_missing for one in latest.classes if one.pool_class == name)
    if not nodes:
        return Unrecorded()
    # of another workload its bound says nothing
    at_most = latest.missing_at_most.get(name) if _same_workload(pool, counting) else None
    unrated = pool.counted.without_rating + pool.untested.without_rating + pool.witnessed.without_rating
    return Unrecorded(unnamed=nodes, at_most_mflop_s=at_most, without_rating=unrated > 0)


def _could_add(pool: PoolState, counting: Counting) -> Capacity:
    """Return the devices of a pool that does not count: bounded, or not known where the figures are of something else.

    Once it counts, it gives no more than its upper bound, or than its rating.
    """
    counted = pool.counted + pool.witnessed
    if pool.shown.precision != counting.precision:
        # measured in another precision: what they reach in this one nobody knows
        return Capacity(devices=counted.devices, without_rating=counted.devices)
    return Capacity(
        devices=counted.devices,
        nominal_mflop_s=max(counted.nominal_mflop_s, counted.upper_mflop_s or 0, counted.sustained_mflop_s),
        without_rating=counted.without_rating,
    )


def could_add_absent(name: PoolClass, counting: Counting, one: AbsentChain, *, managed: bool) -> Absent:
    """Return what an absent chain could add to a class: as much as its last valid statement, or nobody knows."""
    if one.last_valid is None:
        pools = () if one.latest is None else one.latest.pools
        could = any(pool.managed and pool.shown.pool_class == name for pool in pools) if managed else True
        return UNKNOWN if could else Absent()
    pools = tuple(
        pool for pool in one.last_valid.pools if pool.shown.pool_class == name and (pool.managed or not managed)
    )
    if not pools:
        return Absent()
    nodes = [_unrecorded(name, counting, one.last_valid, pool) for pool in pools]
    parts = [_of_absent(pool, counting) for pool in pools]
    missing = next((most for most in nodes if most.at_most_mflop_s is None), nodes[0])
    parts.append(Absent(0, missing.at_most_on("certified"), missing.at_most_on("nominal")))
    return reduce(Absent.plus, parts, Absent(1))


def _of_absent(pool: PoolState, counting: Counting) -> Absent:
    """Return what a pool of an absent chain could give again: its upper bound, and the rating of untested devices."""
    counted, untested = pool.counted + pool.witnessed, pool.untested
    if pool.shown.precision != counting.precision:
        return Absent(0, None, None) if counted.devices + untested.devices else Absent()
    nominal = None if counted.without_rating + untested.without_rating else counted.nominal_mflop_s
    measured = counted.upper_mflop_s if _same_workload(pool, counting) or not counted.devices else None
    if measured is None or untested.without_rating:
        return Absent(0, None, None if nominal is None else nominal + untested.nominal_mflop_s)
    # a figure on a hold may be wrong either way, and a witnessed one rests on a hold
    wary = counted.nominal_mflop_s if pool.on_hold_mflop_s or pool.witnessed.devices else 0
    unknown = (pool.on_hold_mflop_s or pool.witnessed.devices) and counted.without_rating
    most = max(measured, counted.sustained_mflop_s, wary) + untested.nominal_mflop_s
    return Absent(
        0,
        None if unknown else most,
        None if nominal is None else nominal + untested.nominal_mflop_s,
    )


def writable_absent(absent: Absent) -> Absent:
    """Return a bound as the API can hold it; a smaller number would be none."""
    measured, nominal = absent.measured_at_most_mflop_s, absent.nominal_at_most_mflop_s
    return absent._replace(
        measured_at_most_mflop_s=None if measured is None else writable(measured),
        nominal_at_most_mflop_s=None if nominal is None else writable(nominal),
    )
