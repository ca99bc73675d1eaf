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
from certify.policy.centre import CLASSES
from certify.policy.evidence import ClassEvidence, Evidence, Sums, Unrecorded
from certify.policy.policies import Condition, Counting, Policy, Share, Threshold
from certify.policy.verdicts import BasisVerdict, evaluate, lies_within
from certify.registry.api import (
    ENDED,
    REACHED,
    City,
    CityCondition,
    Component,
    Gap,
    Lifecycle,
    LifecycleLine,
    Missing,
    Rates,
    State,
)
from certify.registry.state.model import Head, Pool, Totals, add_rates

EXAMPLES = 20  # centres that are named for a reason
COULD_ADD = ("declared-only", "grade-too-low", "precision-differs")  # in force, and not known to be worth nothing
_TAKEN_TWICE = "device-claimed-twice"


def lifecycle(heads: Iterable[Head], accepted: Totals, at: str) -> Lifecycle:
    """Return the sum of each state, class and precision; where two of them come to nothing they are left out.

    A pool that is partly on-line is schedulable with the nodes that are, and managed with the others and with what
    is never scheduled.

    Args:
        heads: the newest statements.
        accepted: the sums over all statements that were ever accepted; what is no head of them is superseded.
        at: the present.
    """
    own: dict[tuple[State, PoolClass, Precision], tuple[int, Rates]] = {}

    def add(state: State, kind: tuple[PoolClass, Precision], pools: int, rates: Rates) -> None:
        before = own.get((state, *kind), (0, Rates()))
        own[(state, *kind)] = before[0] + pools, add_rates(before[1], rates)

    for kind, (pools, rates) in accepted.items():
        add("superseded", kind, pools, rates)
    for head in heads:
        for pool in () if head.facts.simulated else head.pools:
            kind, whole = (pool.shown.pool_class, pool.shown.precision), rates_of(pool)
            add("superseded", kind, -1, _less(Rates(), _rates(pool.counted)))
            add(pool.shown.state, kind, 1, pool.online if pool.shown.state == "schedulable" else whole)
            if pool.shown.state == "schedulable":
                add("managed", kind, 0, _less(whole, pool.online))
    kinds = sorted({key[1:] for key in own}, key=lambda kind: (CLASSES.index(kind[0]), kind[1]))
    lines = [line for kind in kinds for line in _lifecycle_lines(own, kind)]
    return Lifecycle(at=at, lines=tuple(lines))


def _lifecycle_lines(
    own: Mapping[tuple[State, PoolClass, Precision], tuple[int, Rates]], kind: tuple[PoolClass, Precision]
) -> Iterator[LifecycleLine]:
    for state in (*REACHED, *ENDED):
        pools, rates = own.get((state, *kind), (0, Rates()))
        further = REACHED[REACHED.index(state) + 1 :] if state in REACHED else ()
        reached = rates
        for other in further:
            reached = add_rates(reached, own.get((other, *kind), (0, Rates()))[1])
        if pools or rates != Rates() or reached != Rates():
            yield LifecycleLine(
                state=state, pool_class=kind[0], precision=kind[1], pools=pools, own=rates, reached=reached
            )


def rates_of(pool: Pool) -> Rates:
    """Return the sum over a pool's counted devices, those among them that count because of a witness."""
    return add_rates(_rates(pool.counted), _rates(pool.witnessed))


def _rates(sums: Sums) -> Rates:
    return Rates(
        devices=sums.devices,
        certified_mflop_s=sums.certified_mflop_s,
        sustained_mflop_s=sums.sustained_mflop_s,
        nominal_mflop_s=sums.nominal_mflop_s,
    )


def _less(a: Rates, b: Rates) -> Rates:
    return Rates(
        devices=a.devices - b.devices,
        certified_mflop_s=a.certified_mflop_s - b.certified_mflop_s,
        sustained_mflop_s=a.sustained_mflop_s - b.sustained_mflop_s,
        nominal_mflop_s=a.nominal_mflop_s - b.nominal_mflop_s,
    )


# --- a city -----------------------------------------------------------------------------------------------------------


class _Line(NamedTuple):
    """A pool of a statement in the city, and why it does not count, if so."""

    head: Head
    pool: Pool
    code: str | None

    @property
    def managed(self) -> bool:
        """Whether it counts and the platform manages it."""
        return self.code is None and self.pool.shown.state in ("managed", "schedulable")


def roll_up(policy: Policy, heads: Iterable[Head], at: str) -> City:
    """Return what the statements in force say about each condition of a city's policy.

    Args:
        policy: of the city: all thresholds come from it.
        heads: the newest statements of all chains, as they stand at `at`.
        at: the present.
    """
    inside = [head for head in heads if lies_within(policy.jurisdiction, head.facts.jurisdiction)]
    lines = [
        _Line(head, pool, not_counted(policy, head, pool)) for head in inside for pool in sorted(head.pools, key=_name)
    ]
    counted = [line for line in lines if line.code is None]
    conditions = _conditions(policy, lines)
    active = [head for head in inside if head.in_sums]
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
        operators=len({head.facts.uscc or head.facts.operator for head in active}),
        domestic_ppm=_domestic_ppm(conditions),
        devices_contested=sum(_contested(head) for head in active),
    )


def not_counted(policy: Policy, head: Head, pool: Pool) -> str | None:
    """Return why a pool counts nothing in a policy's sums, or None."""
    if head.facts.simulated:
        return "simulated"
    if head.end is not None:
        return head.end.state
    if head.level != "recomputed":
        return "declared-only"
    if head.facts.grade is None:
        return "nothing-counted"
    if GRADES.index(head.facts.grade) < GRADES.index(policy.minimum_grade):
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


def _name(pool: Pool) -> str:
    return pool.shown.pool


def _counting(policy: Policy) -> list[tuple[PoolClass, Counting]]:
    return [(name, policy.counting[name]) for name in CLASSES if name in policy.counting]


def _conditions(policy: Policy, lines: list[_Line]) -> tuple[CityCondition, ...]:
    """Judge every condition; one that asks what is under management, over managed pools only."""
    grades = [line.head.facts.grade for line in lines if line.code is None]
    whole = Evidence(
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
    clean, on_hold, untested = Sums(), Sums(), Sums()
    missing: dict[str, Unrecorded] = {}
    for line in lines:
        pool = line.pool
        if pool.shown.pool_class != name or not (line.code is None or line.code in COULD_ADD):
            continue
        untested = untested.plus(pool.untested)
        missing[pool.shown.statement] = _unrecorded(name, line.head)
        if line.code is not None:
            untested = untested.plus(_could_add(pool, counting))
            continue
        on_hold = on_hold.plus(pool.witnessed)  # a hold keeps them from counting alone
        if pool.on_hold_mflop_s:
            on_hold = on_hold.plus(pool.counted)  # all of it: which devices are on hold is not in the sums
        else:
            clean = clean.plus(pool.counted)
    return ClassEvidence(clean, on_hold, untested, reduce(Unrecorded.plus, missing.values(), Unrecorded()))


def _unrecorded(name: PoolClass, head: Head) -> Unrecorded:
    """Return how many nodes of one class a statement lacks records of; what they could add stands in no table."""
    nodes = sum(one.nodes_missing for one in head.classes if one.pool_class == name)
    return Unrecorded(unnamed=nodes, at_most_mflop_s=None if nodes else 0)


def _could_add(pool: Pool, counting: Counting) -> Sums:
    """Return the devices of a pool that does not count: rated, or not known where the rating is of something else."""
    counted = pool.counted.plus(pool.witnessed)
    if pool.shown.precision != counting.precision:
        return Sums(devices=counted.devices, without_rating=counted.devices)
    return Sums(devices=counted.devices, nominal_mflop_s=counted.nominal_mflop_s, without_rating=counted.without_rating)


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
    mine = [line for line in counted if line.pool.shown.pool_class == name]
    return Component(
        pool_class=name,
        precision=counting.precision,
        centres=len({line.head.facts.centre_id for line in mine}),
        counted=_added(mine),
        managed=_added([line for line in mine if line.managed]),
        schedulable_mflop_s=sum(line.pool.shown.schedulable_mflop_s for line in mine),
    )


def _added(lines: list[_Line]) -> Rates:
    whole = Rates()
    for line in lines:
        whole = add_rates(whole, rates_of(line.pool))
    return whole


def _missing(lines: list[_Line]) -> tuple[Missing, ...]:
    codes: dict[str, list[_Line]] = {}
    for line in lines:
        if line.code is not None:
            codes.setdefault(line.code, []).append(line)
    return tuple(
        Missing(
            code=code,
            statements=len({line.pool.shown.statement for line in found}),
            certified_mflop_s=sum(line.pool.shown.certified_mflop_s for line in found),
            examples=tuple(sorted({line.head.facts.centre_id for line in found})[:EXAMPLES]),
        )
        for code, found in sorted(codes.items())
    )


def _domestic_ppm(conditions: Iterable[CityCondition]) -> int | None:
    """Return the share of certified intelligent compute on devices of domestic vendors; None where no policy asks."""
    shown = (one.verdict for one in conditions if one.verdict.operator is None)
    shares = (line for verdict in shown if verdict.classes == ("intelligent",) for line in verdict.bases)
    return next((line.observed_ppm for line in shares if line.basis == "certified"), None)


def _by_vendor(lines: Iterable[_Line]) -> dict[PoolClass, dict[str, Sums]]:
    """Return what counts of each vendor in each class."""
    found: dict[PoolClass, dict[str, Sums]] = {}
    for line in lines:
        of_class = found.setdefault(line.pool.shown.pool_class, {}) if line.code is None else {}
        for vendor, sums in line.pool.vendors:
            of_class[vendor] = of_class.get(vendor, Sums()).plus(sums)
    return found


def _contested(head: Head) -> int:
    """Return how many devices of a statement others claimed too, at least: who tries again claims the same."""
    most: dict[str, int] = {}
    for alarm in head.alarms:
        if alarm.code == _TAKEN_TWICE:
            most[alarm.other_centre_id] = max(alarm.devices, most.get(alarm.other_centre_id, 0))
    return min(sum(most.values()), sum(pool.shown.devices for pool in head.pools))
