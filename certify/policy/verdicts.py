"""Verdicts: what the evidence of a statement says about each condition of a policy (docs/policies.md).

Pure functions of values, in integers. There is no overall verdict, no score and no conversion between precisions: a
condition is met, not met, declared, or there is insufficient evidence, and then a reason code says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Literal

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from bench.record import GRADES, Count, Document, Name, PoolClass, Ppm, Signed, Text
from bench.units import ratio_ppm
from certify.policy.capacity import Capacity
from certify.policy.policies import (
    BASES,
    Basis,
    Condition,
    Declared,
    Domestic,
    Guide,
    NewlyAdded,
    Operator,
    Paper,
    Policy,
    Share,
    StatedBasis,
    Threshold,
    items_of,
)
from certify.policy.rating import plain
from certify.policy.thresholds import (
    INSUFFICIENT,
    ClassEvidence,
    Outcome,
    PolicyEvidence,
    against_share,
    against_threshold,
    evidence_bounds,
    interval_of,
)

WEAKEST_FIRST: tuple[Outcome, ...] = ("not_met", INSUFFICIENT, "declared", "met")


class BasisVerdict(Document, frozen=True, kw_only=True):
    """One condition on one basis. `observed` is over counted devices; for a share it is the part, `whole` the whole."""

    basis: Basis
    observed_mflop_s: Count
    whole_mflop_s: Count | None
    observed_ppm: Ppm | None
    verdict: Outcome
    reason: Name | None


class Growth(Document, frozen=True, kw_only=True):
    """What stands beside "newly added": devices, and certified capacity of those absent from the baseline."""

    baseline_devices: Count
    still_present_devices: Count
    new_devices: Count
    newly_added_mflop_s: Count
    net_mflop_s: Signed | None  # certified now less certified then; null where then is unknown


class Verdict(Document, frozen=True, kw_only=True):
    """What the evidence says about one condition, with the numbers that decide it."""

    policy: Name
    condition: Name
    clause: Text
    document_status: Literal["draft", "in_force"]  # a draft reads "if issued as drafted"
    attribute: Literal["expected", "binding"] | None
    verdict: Outcome
    reason: Name | None
    classes: tuple[PoolClass, ...] = ()
    operator: Operator | None = None
    threshold_mflop_s: Count | None = None
    threshold_ppm: Ppm | None = None
    basis: StatedBasis | None = None
    counted: Literal["all", "newly_added"] | None = None
    bases: tuple[BasisVerdict, ...] = ()
    upper_mflop_s: Count | None = None
    on_hold_certified_mflop_s: Count | None = None  # part of the certified sum that rests on accepted holds
    untested_nominal_mflop_s: Count | None = None
    without_rating: Count | None = None
    nodes_missing: Count | None = None  # that may have devices of what is compared; null where nothing is
    missing_at_most_mflop_s: Count | None = None  # what they could at most add; null: nobody knows
    growth: Growth | None = None
    by_rmax: tuple[PoolClass, ...] | UnsetType = UNSET  # classes whose capacity is Rmax; left out where none is


def evaluate(policy: Policy, evidence: PolicyEvidence) -> tuple[Verdict, ...]:
    """Return the verdict on each condition of a policy, in the policy's order; a guide's items follow it."""
    return tuple(_verdict(policy, condition, evidence) for condition in policy.judged)


def _verdict(policy: Policy, condition: Condition, evidence: PolicyEvidence) -> Verdict:
    if isinstance(condition, Threshold):
        return _threshold(policy, condition, evidence)
    if isinstance(condition, Share):
        return _share(policy, condition, evidence)
    if isinstance(condition, NewlyAdded):
        return _newly_added(policy, condition, evidence)
    if isinstance(condition, Declared | Paper):
        declared = evidence.declarations if isinstance(condition, Declared) else evidence.papers
        wanted = condition.fact if isinstance(condition, Declared) else condition.paper
        reason = _elsewhere(policy, evidence) if wanted in declared else "not-declared"
        return _line(policy, condition, INSUFFICIENT if reason else "declared", reason)
    if isinstance(condition, Guide):
        return _guide(policy, condition, evidence)
    if isinstance(condition, Domestic):
        return _domestic(policy, condition, evidence)
    return _line(policy, condition, INSUFFICIENT, condition.reason)


def _guide(policy: Policy, condition: Guide, evidence: PolicyEvidence) -> Verdict:
    """Return the weakest verdict of a guide's items: what is missed, not shown, or only declared."""
    items = [_verdict(policy, item, evidence) for item in items_of(condition)]
    if not items:
        return _line(policy, condition, INSUFFICIENT, "guide-not-issued")
    # items of another year's guide say nothing of this one
    if evidence.guide_year != policy.document.guide_year:
        return _line(policy, condition, INSUFFICIENT, "guide-year-differs")
    weakest = min(items, key=lambda item: WEAKEST_FIRST.index(item.verdict))
    return _line(policy, condition, weakest.verdict, weakest.reason)


def _domestic(policy: Policy, condition: Domestic, evidence: PolicyEvidence) -> Verdict:
    """Return the share of what counts on devices of domestic vendors, on every basis; nothing is judged by it."""
    domestic = {plain(vendor) for vendor in condition.vendors}
    part, whole = Capacity(), Capacity()
    for name in condition.classes:
        for vendor, sums in evidence.vendors.get(name, {}).items():
            whole += sums
            part += sums if plain(vendor) in domestic else Capacity()
    reason = _blocked(policy, evidence) or "no-number"
    lines = [
        _basis_line(basis, interval_of(part, basis)[0], interval_of(whole, basis)[0], (INSUFFICIENT, reason))
        for basis in BASES
    ]
    line = _with_missing(_line(policy, condition, INSUFFICIENT, reason), _over(evidence.classes, condition.classes))
    return replace(line, classes=condition.classes, without_rating=whole.without_rating, bases=tuple(lines))


def _line(policy: Policy, condition: Condition, verdict: Outcome, reason: str | None) -> Verdict:
    return Verdict(
        policy=policy.policy,
        condition=condition.condition,
        clause=condition.clause.ref,
        document_status=policy.document.status,
        attribute=condition.attribute,
        verdict=verdict,
        reason=reason,
    )


def lies_within(area: str | None, jurisdiction: str | None) -> bool:
    """Return whether a centre declares that it lies where a policy holds; None is everywhere, and nowhere declared.

    GB/T 2260 codes nest: CN-440100 (a city) holds CN-440115 (a district of it).
    """
    return (jurisdiction or "").startswith(area_prefix(area))


def area_prefix(area: str | None) -> str:
    """Return what the codes of all places in an area begin with: all of them, where it is None."""
    area = area or ""
    # 00 at the end stands for all of the next level: a province, or a city, as a whole
    while area.endswith("00"):
        area = area[:-2]
    return area


def _elsewhere(policy: Policy, evidence: PolicyEvidence) -> str | None:
    """Return `outside-jurisdiction` unless the centre declares that it lies where the policy holds."""
    return None if lies_within(policy.jurisdiction, evidence.jurisdiction) else "outside-jurisdiction"


def _blocked(policy: Policy, evidence: PolicyEvidence) -> str | None:
    """Return why nothing measured can be judged at all, if so."""
    # the gravest first: of simulated figures the grade says nothing
    if evidence.simulated:
        return "simulated"
    if evidence.grade is None:
        return "nothing-counted"
    if GRADES.index(evidence.grade) < GRADES.index(policy.minimum_grade):
        return "grade-too-low"
    return _elsewhere(policy, evidence)


def _newly_added(policy: Policy, condition: NewlyAdded, evidence: PolicyEvidence) -> Verdict:
    base = evidence.baseline
    if base is None:
        return _line(policy, condition, INSUFFICIENT, "no-baseline")
    now = _over(evidence.classes, condition.classes).counted.certified_mflop_s
    added = _over(evidence.newly_added, condition.classes)
    new = added.counted.certified_mflop_s
    growth = Growth(
        baseline_devices=base.devices,
        still_present_devices=base.still_present,
        new_devices=base.new_devices,
        newly_added_mflop_s=new,
        net_mflop_s=None if base.certified_mflop_s is None else now - base.certified_mflop_s,
    )
    blocked = "simulated" if evidence.simulated else _elsewhere(policy, evidence)
    if blocked:
        verdict, reason = INSUFFICIENT, blocked
    elif added.counted.devices + added.untested.devices:
        verdict, reason = "declared", None
    elif added.unrecorded.nodes:
        verdict, reason = INSUFFICIENT, "nodes-missing"  # their devices may all be new
    else:
        verdict, reason = "not_met", "nothing-new"
    line = _with_missing(_line(policy, condition, verdict, reason), added)
    return replace(line, classes=condition.classes, growth=growth)


def _with_missing(line: Verdict, evidence: ClassEvidence) -> Verdict:
    missing = evidence.unrecorded
    return replace(line, nodes_missing=missing.nodes, missing_at_most_mflop_s=missing.at_most_mflop_s)


def _threshold(policy: Policy, condition: Threshold, evidence: PolicyEvidence) -> Verdict:
    # without a baseline the sum of all is shown, and `ineligible` keeps it from being met
    new_only = condition.counted == "newly_added" and evidence.baseline is not None
    ineligible = None  # why no device is known to be one that the condition counts
    if not set(condition.requires) <= evidence.declarations:
        ineligible = "not-declared"
    elif condition.counted == "newly_added" and evidence.baseline is None:
        ineligible = "no-baseline"
    rmax = _by_rmax(policy, condition.classes)
    sums = evidence.newly_added if new_only else evidence.classes
    judged = _over(sums, condition.classes, rmax, "certified")
    lines = []
    for basis in _judged(condition.basis):
        bounds = evidence_bounds(_over(sums, condition.classes, rmax, basis), basis)
        outcome = against_threshold(bounds, condition.operator, condition.value_mflop_s, ineligible)
        lines.append(_basis_line(basis, bounds.observed, None, outcome))
    if _lacks_rmax(sums, rmax):
        lines = [_withheld(line, "rmax-not-shown") for line in lines]
    line = _with_missing(_combined(policy, condition, evidence, lines), judged)
    return replace(
        line,
        threshold_mflop_s=condition.value_mflop_s,
        counted="newly_added" if new_only else "all",
        upper_mflop_s=judged.counted.upper_mflop_s,
        on_hold_certified_mflop_s=judged.on_hold.certified_mflop_s,
        untested_nominal_mflop_s=judged.untested.nominal_mflop_s,
        without_rating=judged.counted.without_rating + judged.untested.without_rating,
        by_rmax=rmax or UNSET,
    )


def _share(policy: Policy, condition: Share, evidence: PolicyEvidence) -> Verdict:
    rest_classes = tuple(name for name in condition.of if name not in condition.classes)
    rmax = _by_rmax(policy, condition.of)
    sums = evidence.classes
    lines = []
    for basis in _judged(condition.basis):
        part, rest = _over(sums, condition.classes, rmax, basis), _over(sums, rest_classes, rmax, basis)
        bounds, of_rest = evidence_bounds(part, basis), evidence_bounds(rest, basis)
        outcome = against_share(bounds, of_rest, condition)
        lines.append(_basis_line(basis, bounds.observed, bounds.observed + of_rest.observed, outcome))
    if _lacks_rmax(sums, rmax):
        lines = [_withheld(line, "rmax-not-shown") for line in lines]
    line = _with_missing(_combined(policy, condition, evidence, lines), _over(sums, condition.of))
    return replace(line, threshold_ppm=condition.value_ppm, counted="all", by_rmax=rmax or UNSET)


def _combined(
    policy: Policy, condition: Threshold | Share, evidence: PolicyEvidence, lines: list[BasisVerdict]
) -> Verdict:
    """Return the verdict over the bases of a condition: met or not met only where they agree."""
    blocked = _blocked(policy, evidence)
    if blocked == "grade-too-low" and not _over(evidence.classes, condition.classes).counted.devices:
        blocked = "nothing-counted"  # of these classes: a longer run would not help
    if blocked:
        lines = [_withheld(line, blocked) for line in lines]
    elif policy.scope == "city" and evidence.scope == "centre":
        # The other centres are not in evidence: they can only add to a sum, and may move a share either way.
        sound = isinstance(condition, Threshold)
        lines = [line if sound and line.verdict == "met" else _withheld(line, "city-scope") for line in lines]
    outcomes = {(line.verdict, line.reason) for line in lines}
    verdict, reason = outcomes.pop() if len(outcomes) == 1 else (INSUFFICIENT, "basis-unstated")
    return replace(
        _line(policy, condition, verdict, reason),
        classes=condition.classes,
        operator=condition.operator,
        basis=condition.basis,
        bases=tuple(lines),
    )


def _withheld(line: BasisVerdict, reason: str) -> BasisVerdict:
    return replace(line, verdict=INSUFFICIENT, reason=reason)


def _judged(basis: StatedBasis) -> tuple[Basis, ...]:
    return BASES if basis == "unstated" else (basis,)


def _basis_line(basis: Basis, observed: int, whole: int | None, outcome: tuple[Outcome, str | None]) -> BasisVerdict:
    return BasisVerdict(
        basis=basis,
        observed_mflop_s=observed,
        whole_mflop_s=whole,
        observed_ppm=None if whole is None else ratio_ppm(observed, whole),
        verdict=outcome[0],
        reason=outcome[1],
    )


def _over(
    classes: Mapping[PoolClass, ClassEvidence],
    names: Iterable[PoolClass],
    by_rmax: Iterable[PoolClass] = (),
    basis: Basis = "certified",
) -> ClassEvidence:
    """Return the evidence over several classes, those by Rmax as it has them: a bookkeeping sum."""
    chosen = ((classes.get(name, ClassEvidence()), name in by_rmax) for name in names)
    return reduce(ClassEvidence.plus, (one.by_rmax(basis) if by else one for one, by in chosen), ClassEvidence())


def _by_rmax(policy: Policy, names: Iterable[PoolClass]) -> tuple[PoolClass, ...]:
    """Return those of some classes whose capacity the policy takes from Rmax."""
    return tuple(name for name in names if name in policy.counting and policy.counting[name].is_by_rmax)


def _lacks_rmax(classes: Mapping[PoolClass, ClassEvidence], by_rmax: Iterable[PoolClass]) -> bool:
    """Return whether a class is to be taken from Rmax, and none is shown: the sum of its nodes never stands in."""
    return any(classes.get(name, ClassEvidence()).rmax.shown_mflop_s is None for name in by_rmax)
