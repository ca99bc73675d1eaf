"""Sums over all that is in force: of each state of the life cycle, and of a city against its policy.

Pure functions of values. A device counts once by construction: a statement that claims a device of another one in force
is refused. What is in force and does not count is listed with its code, and taken into account for what it could add:
a condition is not met only where it would not be met with that either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce

from msgspec import structs

from bench.record import GRADES, PoolClass, Precision
from bench.record.fields import filled
from bench.units import ratio_ppm
from certify.policy.capacity import Capacity
from certify.policy.centre import CLASSES
from certify.policy.policies import Condition, Counting, Policy, Share, Threshold
from certify.policy.thresholds import Absent, CapacityBounds, ClassEvidence, PolicyEvidence, evidence_bounds, writable
from certify.policy.verdicts import BasisVerdict, Verdict, evaluate
from certify.registry.api.cities import (
    AbsentCentre,
    AbsentClass,
    City,
    CityCondition,
    Component,
    Gap,
    Lifecycle,
    LifecycleLine,
    Missing,
)
from certify.registry.api.common import ENDED, REACHED, Rates, State
from certify.registry.state.city.evidence import (
    AbsentChain,
    CityLine,
    Expected,
    absent_chains,
    could_add_absent,
    counting_of,
    evidence_in,
    lines_in,
    writable_absent,
)
from certify.registry.state.model import KindTotals, LatestStatement

EXPECTED = Expected()
EXAMPLES = 20  # centres that are named for a reason
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
        for pool in () if latest.in_no_sum else latest.pools:
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


def roll_up(
    policy: Policy, latest_statements: Iterable[LatestStatement], at: str, expected: Expected = EXPECTED
) -> City:
    """Return what the statements in force say about each condition of a city's policy.

    Args:
        policy: of the city: all thresholds come from it.
        latest_statements: the newest statements of all chains, as they stand at `at`.
        at: the present.
        expected: which centres are missing if they have no statement in force, besides those that ever had one.
    """
    every = tuple(latest_statements)
    lines, absent = lines_in(policy, every), absent_chains(policy, every, expected)
    counted = [line for line in lines if line.code is None]
    conditions = _conditions(policy, lines, absent)
    inside = {line.latest.facts.payload_sha256: line.latest for line in lines}
    active = [latest for latest in inside.values() if latest.in_sums]
    return City(
        policy=policy.policy,
        title=policy.title,
        document_status=policy.document.status,
        jurisdiction=policy.jurisdiction,
        at=at,
        conditions=conditions,
        components=tuple(_component(name, counting, counted) for name, counting in counting_of(policy)),
        bookkeeping=_added([line for line in counted if line.pool.shown.pool_class in policy.counting]),
        missing=_missing(lines),
        absent=tuple(_absent(policy, one) for one in absent),
        tiers=dict(
            sorted(Counter(tier for _, tier in {(one.facts.centre_id, one.facts.tier) for one in active}).items())
        ),
        operators=len({latest.facts.uscc or latest.facts.operator for latest in active}),
        domestic_ppm=_domestic_ppm(conditions),
        devices_contested=sum(_contested(latest) for latest in active),
    )


def _conditions(policy: Policy, lines: list[CityLine], absent: tuple[AbsentChain, ...]) -> tuple[CityCondition, ...]:
    """Judge every condition; one that asks what is under management, over managed pools only."""
    grades = [line.latest.facts.grade for line in lines if line.code is None]
    whole = PolicyEvidence(
        classes=evidence_in(policy, lines, absent),
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
        classes=evidence_in(policy, lines, absent, managed=True),
        declarations=frozenset({"managed"}),  # by the platform, whose register this is
    )
    judged = zip(policy.judged, evaluate(policy, whole), evaluate(policy, managed), strict=True)
    return tuple(
        _condition(condition, *((of_managed, managed) if _asks_managed(condition) else (of_all, whole)))
        for condition, of_all, of_managed in judged
    )


def _condition(condition: Condition, verdict: Verdict, evidence: PolicyEvidence) -> CityCondition:
    """Return a condition with its verdict, and how far the sum is from the target on each basis."""
    compared = isinstance(condition, Threshold | Share)
    absent = reduce(Absent.plus, (evidence.classes[name].absent for name in _classes_of(condition, evidence)), Absent())
    absent = writable_absent(absent)
    return CityCondition(
        title=condition.title,
        clause_text=condition.clause.text,
        verdict=verdict,
        gaps=tuple(_gap(condition, line, evidence) for line in verdict.bases) if compared else (),
        target=condition.value if isinstance(condition, Threshold) else None,
        target_unit=condition.unit if isinstance(condition, Threshold) else None,
        absent_at_most_mflop_s=absent.measured_at_most_mflop_s if compared else None,
        absent_at_most_nominal_mflop_s=absent.nominal_at_most_mflop_s if compared else None,
    )


def _classes_of(condition: Condition, evidence: PolicyEvidence) -> tuple[PoolClass, ...]:
    """Return the classes that a condition compares, as far as the policy counts them."""
    names: tuple[PoolClass, ...] = ()
    if isinstance(condition, Share):
        names = condition.of
    elif isinstance(condition, Threshold):
        names = condition.classes
    return tuple(name for name in names if name in evidence.classes)


def _asks_managed(condition: Condition) -> bool:
    return isinstance(condition, Threshold) and "managed" in condition.requires


def _gap(condition: Condition, line: BasisVerdict, evidence: PolicyEvidence) -> Gap:
    """Return what is missing on one basis, and the bounds; above a value begins at the next whole unit."""
    part = _bounds(evidence, line, condition.classes if isinstance(condition, Threshold | Share) else ())
    if isinstance(condition, Threshold):
        wanted = condition.value_mflop_s + (condition.operator == ">")
        return Gap(
            basis=line.basis,
            gap_mflop_s=max(0, wanted - line.observed_mflop_s),
            gap_ppm=None,
            reached_ppm=ratio_ppm(line.observed_mflop_s, condition.value_mflop_s),
            least_mflop_s=part.proven,
            most_mflop_s=_most(part),
        )
    assert isinstance(condition, Share)
    rest = _bounds(evidence, line, tuple(name for name in condition.of if name not in condition.classes))
    most, most_rest = _most(part), _most(rest)
    bounds = Gap(
        basis=line.basis,
        gap_mflop_s=None,
        gap_ppm=None,
        # an end that nothing bounds is the end of the scale
        least_ppm=0 if most_rest is None else ratio_ppm(part.proven, part.proven + most_rest),
        most_ppm=10**6 if most is None else _ratio_up(most, most + rest.proven),
    )
    if line.observed_ppm is None or line.whole_mflop_s is None:
        return bounds
    share, whole = line.observed_mflop_s * 10**6, condition.value_ppm * line.whole_mflop_s
    reached = share > whole or (share == whole and condition.operator == ">=")
    wanted = condition.value_ppm + (condition.operator == ">")
    return structs.replace(
        bounds,
        gap_ppm=0 if reached else min(10**6, wanted - line.observed_ppm),
        reached_ppm=ratio_ppm(share, whole),
    )


def _bounds(evidence: PolicyEvidence, line: BasisVerdict, names: tuple[PoolClass, ...]) -> CapacityBounds:
    classes = (evidence.classes[name] for name in names if name in evidence.classes)
    return evidence_bounds(reduce(ClassEvidence.plus, classes, ClassEvidence()), line.basis)


def _most(bounds: CapacityBounds) -> int | None:
    return None if bounds.most_wary is None else writable(bounds.most_wary)


def _ratio_up(part: int, whole: int) -> int | None:
    """Return part / whole in ppm, rounded up: an upper bound must not be cut off."""
    return None if whole == 0 else -(-part * 10**6 // whole)


def _absent(policy: Policy, one: AbsentChain) -> AbsentCentre:
    classes = []
    for name, counting in counting_of(policy):
        bound = writable_absent(could_add_absent(name, counting, one, managed=False))
        if bound.measured_at_most_mflop_s != 0 or bound.nominal_at_most_mflop_s != 0:
            classes.append(
                AbsentClass(
                    pool_class=name,
                    at_most_mflop_s=bound.measured_at_most_mflop_s,
                    at_most_nominal_mflop_s=bound.nominal_at_most_mflop_s,
                )
            )
    return AbsentCentre(
        centre_id=one.centre_id,
        project_id=one.project_id or None,
        code=one.code,
        since=one.since,
        last_valid=None if one.last_valid is None else one.last_valid.facts.payload_sha256,
        could_add=tuple(classes),
    )


def _component(name: PoolClass, counting: Counting, counted: list[CityLine]) -> Component:
    of_class = [line for line in counted if line.pool.shown.pool_class == name]
    return Component(
        pool_class=name,
        precision=counting.precision,
        centres=len({line.latest.facts.centre_id for line in of_class}),
        counted=_added(of_class),
        managed=_added([line for line in of_class if line.managed]),
        schedulable_mflop_s=sum(line.pool.shown.schedulable_mflop_s for line in of_class),
    )


def _added(lines: list[CityLine]) -> Rates:
    return filled(Rates, sum((line.pool.counted + line.pool.witnessed for line in lines), Capacity()))


def _missing(lines: list[CityLine]) -> tuple[Missing, ...]:
    codes: dict[str, list[CityLine]] = {}
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


def _by_vendor(lines: Iterable[CityLine]) -> dict[PoolClass, dict[str, Capacity]]:
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
