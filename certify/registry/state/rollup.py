"""Sums over all that is in force: of each state of the life cycle, and of a city against its policy.

Pure functions of values. A device counts once by construction: a statement that claims a device of another one in force
is refused. What is in force and does not count is listed with its code, and taken into account for what it could add:
a condition is not met only where it would not be met with that either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from typing import NamedTuple

from bench.record import GRADES, PoolClass, Precision
from bench.record.fields import filled
from certify.policy.capacity import Capacity
from certify.policy.centre import CLASSES
from certify.policy.policies import Condition, Counting, Policy, Share, Threshold
from certify.policy.thresholds import ClassEvidence, PolicyEvidence, Unrecorded
from certify.policy.verdicts import BasisVerdict, evaluate, lies_within
from certify.registry.api.common import ENDED, REACHED, Rates, State
from certify.registry.api.views import City, CityCondition, Component, Gap, Lifecycle, LifecycleLine, Missing
from certify.registry.state.model import KindTotals, LatestStatement, PoolState

EXAMPLES = 20  # centres that are named for a reason
COULD_ADD = ("declared-only", "grade-too-low", "precision-differs")  # in force, and not known to be worth nothing
_TAKEN_TWICE = "device-claimed-twice"


def lifecycle(latest_statements: Iterable[LatestStatement], accepted: KindTotals, at: str) -> Lifecycle:
    """Return the sum of each state, class and precision; empty ones are left out.

    A pool that is partly on-line is schedulable with the nodes that are, and managed with the others and with what
    is never scheduled.

    Args:
        latest_statements: the newest statement of each chain.
        accepted: the sums over all statements that were ever accepted; the others of them are superseded.
        at: the present.
    """
    by_state: dict[tuple[State, PoolClass, Precision], tuple[int, Capacity]] = {}

    def add(state: State, kind: tuple[PoolClass, Precision], pools: int, capacity: Capacity) -> None:
        before = by_state.get((state, *kind), (0, Capacity()))
        by_state[(state, *kind)] = before[0] + pools, before[1] + capacity

    for kind, (pools, capacity) in accepted.items():
        add("superseded", kind, pools, capacity)
    for latest in latest_statements:
        for pool in () if latest.facts.simulated else latest.pools:
            kind, whole = (pool.shown.pool_class, pool.shown.precision), pool.counted + pool.witnessed
            add("superseded", kind, -1, Capacity() - pool.counted)
            add(pool.shown.state, kind, 1, pool.online if pool.shown.state == "schedulable" else whole)
            if pool.shown.state == "schedulable":
                add("managed", kind, 0, whole - pool.online)
    kinds = sorted({key[1:] for key in by_state}, key=lambda kind: (CLASSES.index(kind[0]), kind[1]))
    lines = [line for kind in kinds for line in _lifecycle_lines(by_state, kind)]
    return Lifecycle(at=at, lines=tuple(lines))


def _lifecycle_lines(
    by_state: Mapping[tuple[State, PoolClass, Precision], tuple[int, Capacity]], kind: tuple[PoolClass, Precision]
) -> Iterator[LifecycleLine]:
    for state in (*REACHED, *ENDED):
        pools, capacity = by_state.get((state, *kind), (0, Capacity()))
        further = REACHED[REACHED.index(state) + 1 :] if state in REACHED else ()
        sums_further = (by_state[(other, *kind)][1] for other in further if (other, *kind) in by_state)
        reached = filled(Rates, sum(sums_further, capacity))
        rates = filled(Rates, capacity)
        if pools or rates != Rates() or reached != Rates():
            yield LifecycleLine(
                state=state, pool_class=kind[0], precision=kind[1], pools=pools, own=rates, reached=reached
            )


# --- a city -----------------------------------------------------------------------------------------------------------


class _Line(NamedTuple):
    """A pool of a statement in the city, and why it does not count, if so."""

    latest: LatestStatement
    pool: PoolState
    code: str | None

    @property
    def managed(self) -> bool:
        """Whether it counts and the platform manages it."""
        return self.code is None and self.pool.shown.state in ("managed", "schedulable")


def roll_up(policy: Policy, latest_statements: Iterable[LatestStatement], at: str) -> City:
    """Return what the statements in force say about each condition of a city's policy.

    Args:
        policy: of the city: all thresholds come from it.
        latest_statements: the newest statements of all chains, as they stand at `at`.
        at: the present.
    """
    # a city counts what stands in it, and its districts
    inside = [latest for latest in latest_statements if lies_within(policy.jurisdiction, latest.facts.jurisdiction)]
    lines = [
        _Line(latest, pool, not_counted(policy, latest, pool))
        for latest in inside
        for pool in sorted(latest.pools, key=_name)
    ]
    counted = [line for line in lines if line.code is None]
    conditions = _conditions(policy, lines)
    active = [latest for latest in inside if latest.in_sums]
    return City(
        policy=policy.policy,
        title=policy.title,
        document_status=policy.document.status,
        jurisdiction=policy.jurisdiction,
        at=at,
        conditions=conditions,
        components=tuple(_component(name, counting, counted) for name, counting in _counting(policy)),
        missing=_missing(lines),
        tiers=dict(
            sorted(Counter(tier for _, tier in {(one.facts.centre_id, one.facts.tier) for one in active}).items())
        ),
        operators=len({latest.facts.uscc or latest.facts.operator for latest in active}),
        domestic_ppm=_domestic_ppm(conditions),
        devices_contested=sum(_contested(latest) for latest in active),
    )


def not_counted(policy: Policy, latest: LatestStatement, pool: PoolState) -> str | None:
    """Return why a pool counts nothing in a policy's sums, or None."""
    if latest.facts.simulated:
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
    shown = pool.shown
    if counting is None:
        return "precision-differs"
    same = (shown.precision, shown.choice, shown.accumulate) == (
        counting.precision,
        counting.choice,
        counting.accumulate,
    )
    return None if same else "precision-differs"


def _name(pool: PoolState) -> str:
    return pool.shown.pool


def _counting(policy: Policy) -> list[tuple[PoolClass, Counting]]:
    return [(name, policy.counting[name]) for name in CLASSES if name in policy.counting]


def _conditions(policy: Policy, lines: list[_Line]) -> tuple[CityCondition, ...]:
    """Judge every condition; one that asks what is under management, over managed pools only."""
    grades = [line.latest.facts.grade for line in lines if line.code is None]
    whole = PolicyEvidence(
        classes=_evidence(policy, lines),
        grade=min((grade for grade in grades if grade is not None), key=GRADES.index, default=None),
        simulated=False,
        jurisdiction=policy.jurisdiction,
        declarations=frozenset(),
        baseline=None,
        newly_added={},
        scope="city",
        vendors=_by_vendor(lines),
    )
    managed = whole._replace(
        classes=_evidence(policy, [line for line in lines if line.managed]),
        declarations=frozenset({"managed"}),  # by the platform, whose register this is
    )
    return tuple(
        CityCondition(
            title=condition.title,
            clause_text=condition.clause.text,
            verdict=of_managed if _asks_managed(condition) else of_all,
            gaps=tuple(
                _gap(condition, line)
                for line in (of_managed if _asks_managed(condition) else of_all).bases
                if isinstance(condition, Threshold | Share)
            ),
        )
        for condition, of_all, of_managed in zip(
            policy.judged, evaluate(policy, whole), evaluate(policy, managed), strict=True
        )
    )


def _asks_managed(condition: Condition) -> bool:
    return isinstance(condition, Threshold) and "managed" in condition.requires


def _evidence(policy: Policy, lines: list[_Line]) -> dict[PoolClass, ClassEvidence]:
    """Return what is known of each class: what counts, and what could come to it."""
    return {name: _class_evidence(name, counting, lines) for name, counting in _counting(policy)}


def _class_evidence(name: PoolClass, counting: Counting, lines: list[_Line]) -> ClassEvidence:
    clean, on_hold, untested = Capacity(), Capacity(), Capacity()
    missing: dict[str, Unrecorded] = {}
    for line in lines:
        pool = line.pool
        if pool.shown.pool_class != name or not (line.code is None or line.code in COULD_ADD):
            continue
        untested += pool.untested
        missing[pool.shown.statement] = _unrecorded(name, line.latest)
        if line.code is not None:
            untested += _could_add(pool, counting)
            continue
        on_hold += pool.witnessed  # a hold keeps them from counting alone
        if pool.on_hold_mflop_s:
            on_hold += pool.counted  # all of it: which devices are on hold is not in the sums
        else:
            clean += pool.counted
    return ClassEvidence(clean, on_hold, untested, reduce(Unrecorded.plus, missing.values(), Unrecorded()))


def _unrecorded(name: PoolClass, latest: LatestStatement) -> Unrecorded:
    """Return how many nodes of one class a statement lacks records of; what they could add stands in no table."""
    nodes = sum(one.nodes_missing for one in latest.classes if one.pool_class == name)
    return Unrecorded(unnamed=nodes, at_most_mflop_s=None if nodes else 0)


def _could_add(pool: PoolState, counting: Counting) -> Capacity:
    """Return the devices of a pool that does not count: rated, or not known where the rating is of something else."""
    counted = pool.counted + pool.witnessed
    if pool.shown.precision != counting.precision:
        # measured in another precision: what they reach in this one nobody knows
        return Capacity(devices=counted.devices, without_rating=counted.devices)
    return Capacity(
        devices=counted.devices, nominal_mflop_s=counted.nominal_mflop_s, without_rating=counted.without_rating
    )


def _gap(condition: Condition, line: BasisVerdict) -> Gap:
    """Return what is missing on one basis; above a value begins at the next whole unit."""
    if isinstance(condition, Threshold):
        wanted = condition.value_mflop_s + (condition.operator == ">")
        return Gap(basis=line.basis, gap_mflop_s=max(0, wanted - line.observed_mflop_s), gap_ppm=None)
    assert isinstance(condition, Share)
    if line.observed_ppm is None or line.whole_mflop_s is None:
        return Gap(basis=line.basis, gap_mflop_s=None, gap_ppm=None)
    part, whole = line.observed_mflop_s * 10**6, condition.value_ppm * line.whole_mflop_s
    reached = part > whole or (part == whole and condition.operator == ">=")
    wanted = condition.value_ppm + (condition.operator == ">")
    return Gap(basis=line.basis, gap_mflop_s=None, gap_ppm=0 if reached else min(10**6, wanted - line.observed_ppm))


def _component(name: PoolClass, counting: Counting, counted: list[_Line]) -> Component:
    of_class = [line for line in counted if line.pool.shown.pool_class == name]
    return Component(
        pool_class=name,
        precision=counting.precision,
        centres=len({line.latest.facts.centre_id for line in of_class}),
        counted=_added(of_class),
        managed=_added([line for line in of_class if line.managed]),
        schedulable_mflop_s=sum(line.pool.shown.schedulable_mflop_s for line in of_class),
    )


def _added(lines: list[_Line]) -> Rates:
    return filled(Rates, sum((line.pool.counted + line.pool.witnessed for line in lines), Capacity()))


def _missing(lines: list[_Line]) -> tuple[Missing, ...]:
    codes: dict[str, list[_Line]] = {}
    for line in lines:
        if line.code is not None:
            codes.setdefault(line.code, []).append(line)
    return tuple(
        Missing(
            code=code,
            statements=len({line.pool.shown.statement for line in of_code}),
            certified_mflop_s=sum(line.pool.shown.certified_mflop_s for line in of_code),
            examples=tuple(sorted({line.latest.facts.centre_id for line in of_code})[:EXAMPLES]),
        )
        for code, of_code in sorted(codes.items())
    )


def _domestic_ppm(conditions: Iterable[CityCondition]) -> int | None:
    """Return the share of certified intelligent compute on devices of domestic vendors; None where no policy asks."""
    shown = (one.verdict for one in conditions if one.verdict.operator is None)
    shares = (line for verdict in shown if verdict.classes == ("intelligent",) for line in verdict.bases)
    return next((line.observed_ppm for line in shares if line.basis == "certified"), None)


def _by_vendor(lines: Iterable[_Line]) -> dict[PoolClass, dict[str, Capacity]]:
    """Return what counts of each vendor in each class."""
    by_class: dict[PoolClass, dict[str, Capacity]] = {}
    for line in lines:
        of_class = by_class.setdefault(line.pool.shown.pool_class, {}) if line.code is None else {}
        for vendor, sums in line.pool.vendors:
            of_class[vendor] = of_class.get(vendor, Capacity()) + sums
    return by_class


def _contested(latest: LatestStatement) -> int:
    """Return how many devices of a statement others claimed too, at least: who tries again claims the same."""
    most: dict[str, int] = {}
    for alarm in latest.alarms:
        if alarm.code == _TAKEN_TWICE:
            # the same devices in a second attempt are not more devices
            most[alarm.other_centre_id] = max(alarm.devices, most.get(alarm.other_centre_id, 0))
    return min(sum(most.values()), sum(pool.shown.devices for pool in latest.pools))
