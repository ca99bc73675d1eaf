"""Thresholds and shares, judged anew from the audit's own sums (docs/policies.md). Pure, in integers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from bench.record import GRADES
from certify.policy.policies import Basis, Domestic, Policy, Share, Threshold
from certify.policy.verdicts import Verdict
from tests.oracle.ground import Added, Ground, Part
from tests.oracle.sums import added, missing_most, nodes_missing

Answer = tuple[str, str | None]  # verdict and reason
INSUFFICIENT = "insufficient_evidence"


class Span(NamedTuple):
    """What is known of a sum on one basis, MFLOP/s. None: no bound can be named."""

    proven: int  # without what rests on accepted holds
    observed: int  # over all counted devices
    counted_most: int | None = None  # over counted devices
    there: int | None = None  # with the nominal rate of what is not counted
    most: int | None = None  # and with what missing nodes could add
    wary: int | None = None  # and with the nominal rate of devices on accepted holds, where it is higher
    why: str | None = None  # there is no bound


class Line(NamedTuple):
    """A condition on one basis: what was observed, in a share also of how much, and the answer."""

    basis: Basis
    span: Span
    whole: Span | None
    answer: Answer


class Judged(NamedTuple):
    """A condition that was judged anew."""

    condition: Threshold | Share
    policy: Policy
    pools: dict[str, Added]  # counted, by pool: the parts of the sum
    untested: Added
    lines: tuple[Line, ...]
    missing: tuple[int, int | None]  # nodes, and what they could at most add
    answer: Answer
    stated: Verdict

    @property
    def told(self) -> Answer:
        """What the statement says."""
        return self.stated.verdict, self.stated.reason

    @property
    def agrees(self) -> bool:
        """Whether the statement says the same, on every basis, and of the nodes that are missing."""
        told = [(line.basis, line.observed_mflop_s, line.verdict, line.reason) for line in self.stated.bases]
        made = [(line.basis, line.span.observed, *line.answer) for line in self.lines]
        missing = self.stated.nodes_missing, self.stated.missing_at_most_mflop_s
        return told == made and self.told == self.answer and missing == self.missing


def judged(ground: Ground, part: Part) -> Iterator[Judged]:
    """Yield every threshold and share of the statement's policies, judged anew."""
    stated = {(v.policy, v.condition): v for v in ground.statement.verdicts}
    for policy in ground.policies:
        for condition in policy.judged:
            told = stated.get((policy.policy, condition.condition))
            if isinstance(condition, Threshold | Share) and told is not None:
                yield _judge(condition, policy, told, ground, part)


def shares_shown(ground: Ground, part: Part) -> Iterator[tuple[Verdict, list[tuple[int, int, int | None]]]]:
    """Yield what the statement says of each share that is only shown, with part, whole and ppm on each basis."""
    stated = {(v.policy, v.condition): v for v in ground.statement.verdicts}
    for policy in ground.policies:
        for condition in policy.judged:
            if isinstance(condition, Domestic):
                classes = {p.pool: p.pool_class for p in ground.statement.centre.pools}
                own = {"".join(vendor.lower().split()) for vendor in condition.vendors}
                lines = []
                for basis in ("certified", "sustained", "nominal"):
                    sums = {True: 0, False: 0}
                    for (pool, vendor), one in part.vendors.items():
                        if classes[pool] in condition.classes:
                            sums["".join(vendor.lower().split()) in own] += getattr(one, f"{basis}_mflop_s")
                    whole = sum(sums.values())
                    lines.append((sums[True], whole, sums[True] * 10**6 // whole if whole else None))
                yield stated[policy.policy, condition.condition], lines


def _judge(condition: Threshold | Share, policy: Policy, told: Verdict, ground: Ground, part: Part) -> Judged:
    has_baseline = ground.statement.baseline_sha256 is not None
    new = isinstance(condition, Threshold) and condition.counted == "newly_added"
    pools = [pool for pool in ground.statement.centre.pools if pool.pool_class in condition.classes]
    names = {pool.pool for pool in pools}
    bases: tuple[Basis, ...] = (
        ("certified", "sustained", "nominal") if condition.basis == "unstated" else (condition.basis,)
    )
    lines = []
    of = condition.of if isinstance(condition, Share) else ()
    for basis in bases:
        span, whole = _span(basis, names, ground, part, new and has_baseline), None
        if isinstance(condition, Threshold):
            answer = _against(span, condition, _ineligible(condition, ground))
        else:
            rest = {p.pool for p in ground.statement.centre.pools if p.pool_class in condition.of} - names
            whole = _span(basis, rest, ground, part, False)
            answer = _share(span, whole, condition)
        lines.append(Line(basis, span, whole, answer))
    counted = {
        name: added(part, lambda g, n=name: g.pool == n and g.counted and not (new and has_baseline and g.existing))  # type: ignore[misc]
        for name in sorted(names)
    }
    of_these = added(part, lambda g: g.pool in names and g.counted).devices
    if blocked := _blocked(policy, ground, part, of_these > 0):
        lines = [line._replace(answer=(INSUFFICIENT, blocked)) for line in lines]
    elif policy.scope == "city":  # other centres can only add to a sum, and may move a share either way
        firm = isinstance(condition, Threshold)
        lines = [
            line if firm and line.answer[0] == "met" else line._replace(answer=(INSUFFICIENT, "city-scope"))
            for line in lines
        ]
    answers = {line.answer for line in lines}
    answer = lines[0].answer if len(answers) == 1 else (INSUFFICIENT, "basis-unstated")
    untested = added(part, lambda g: g.pool in names and not g.counted and not (new and has_baseline and g.existing))
    compared = {p.pool for p in ground.statement.centre.pools if p.pool_class in (*condition.classes, *of)}
    missing = len(nodes_missing(ground, part, compared)), missing_most(ground, part, compared)
    return Judged(condition, policy, counted, untested, tuple(lines), missing, answer, told)


def _blocked(policy: Policy, ground: Ground, part: Part, of_these: bool) -> str | None:
    """Return why nothing measured can be judged, if so."""
    if part.simulated:
        return "simulated"
    if not part.grades:
        return "nothing-counted"
    if min(map(GRADES.index, part.grades)) < GRADES.index(policy.minimum_grade):
        return "grade-too-low" if of_these else "nothing-counted"
    area = re.sub(r"(00)+$", "", policy.jurisdiction or "")  # GB/T 2260 nests: CN-4401 holds CN-440115
    return None if (ground.statement.centre.jurisdiction or "").startswith(area) else "outside-jurisdiction"


def _ineligible(condition: Threshold, ground: Ground) -> str | None:
    if not set(condition.requires) <= ground.statement.centre.declarations:
        return "not-declared"
    missing = condition.counted == "newly_added" and ground.statement.baseline_sha256 is None
    return "no-baseline" if missing else None


def _span(basis: Basis, pools: set[str], ground: Ground, part: Part, new_only: bool) -> Span:
    def over(counted: bool, on_hold: bool) -> Added:
        return added(
            part,
            lambda g: (
                g.pool in pools and (g.counted, g.on_hold) == (counted, on_hold) and not (new_only and g.existing)
            ),
        )

    firm, held, rest = over(True, False), over(True, True), over(False, False)
    proven, most_firm = _ends(firm, basis)
    observed_held, most_held = _ends(held, basis)
    observed = proven + observed_held
    if most_firm is None or most_held is None:
        return Span(proven, observed, why="upper-unbounded" if basis == "certified" else "rating-missing")
    counted_most = most_firm + most_held
    if missing_most(ground, part, pools) is None:
        return Span(proven, observed, counted_most, why="nodes-missing")
    missing = missing_most(ground, part, pools, basis)
    if missing is None or rest.without_rating:
        return Span(proven, observed, counted_most, why="rating-missing")
    wary = most_firm + max(most_held, held.nominal_mflop_s) + rest.nominal_mflop_s + missing
    there = counted_most + rest.nominal_mflop_s
    return Span(proven, observed, counted_most, there, there + missing, None if held.without_rating else wary)


def _ends(one: Added, basis: Basis) -> tuple[int, int | None]:
    if basis == "certified":
        return one.certified_mflop_s, None if one.unbounded else one.upper_mflop_s
    if basis == "sustained":
        return one.sustained_mflop_s, one.sustained_mflop_s
    return one.nominal_mflop_s, None if one.without_rating else one.nominal_mflop_s


def _reaches(value: int, sign: str, wanted: int) -> bool:
    return value > wanted or (value == wanted and sign == ">=")


def _against(span: Span, condition: Threshold, ineligible: str | None) -> Answer:
    sign, wanted = condition.operator, condition.value_mflop_s
    if ineligible is None and _reaches(span.proven, sign, wanted):
        return "met", None
    if ineligible is None and _reaches(span.observed, sign, wanted):
        return INSUFFICIENT, "depends-on-flagged"
    if span.most is None:
        return INSUFFICIENT, ineligible or span.why
    if _reaches(span.most, sign, wanted):
        assert span.counted_most is not None
        assert span.there is not None
        inside, seen = (_reaches(value, sign, wanted) for value in (span.counted_most, span.there))
        reason = "within-bounds" if inside else "untested-devices" if seen else "nodes-missing"
        return INSUFFICIENT, ineligible or reason
    if span.wary is None or _reaches(span.wary, sign, wanted):
        return INSUFFICIENT, "depends-on-flagged"
    return "not_met", None


def _share(part: Span, rest: Span, condition: Share) -> Answer:
    def reaches(a: int, b: int) -> bool:
        return _reaches(a * 10**6, condition.operator, condition.value_ppm * (a + b))

    if not part.observed + rest.observed:
        return INSUFFICIENT, "nothing-counted"
    lowest = rest.wary is not None and reaches(part.proven, rest.wary)
    highest = part.wary is None or reaches(part.wary, rest.proven)
    if lowest or not highest:
        return "met" if lowest else "not_met", None
    if part.most is None or rest.most is None:
        return INSUFFICIENT, part.why or rest.why
    if reaches(part.observed, rest.most) or not reaches(part.most, rest.observed):
        return INSUFFICIENT, "depends-on-flagged"
    if part.most != part.there or rest.most != rest.there:
        return INSUFFICIENT, "nodes-missing"
    exact = (part.most, rest.most) == (part.counted_most, rest.counted_most)
    return INSUFFICIENT, "within-bounds" if exact else "untested-devices"
