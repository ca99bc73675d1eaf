"""Verdicts from synthetic evidence, each edge one MFLOP/s apart."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.record import PoolClass, encode
from certify.policy import thresholds, verdicts
from certify.policy.capacity import Capacity
from certify.policy.centre import Bilingual
from certify.policy.policies import (
    BASES,
    Clause,
    Condition,
    Counting,
    NewlyAdded,
    Operator,
    Policy,
    Share,
    StatedBasis,
    Threshold,
    load_policy,
)
from certify.policy.thresholds import Absent, BaselineMatch, ClassEvidence, PolicyEvidence, Unrecorded
from certify.policy.verdict_lines import describe_verdict, missing_lines
from certify.policy.verdicts import Verdict, evaluate

P = 10**9
T = 2000 * P
TEXT = Bilingual(zh="甲", en="A")
CLAUSE = Clause(ref="一", text="甲")
ALL: tuple[PoolClass, ...] = ("intelligent", "supercomputing", "general", "edge")


def threshold(
    sign: Operator = ">=", basis: StatedBasis = "certified", classes: tuple[PoolClass, ...] = ALL[:1]
) -> Threshold:
    return Threshold(
        condition="scale",
        title=TEXT,
        clause=CLAUSE,
        classes=classes,
        operator=sign,
        value=2000,
        unit="PFLOPS",
        basis=basis,
    )


def share(basis: StatedBasis = "certified") -> Share:
    return Share(
        condition="share",
        title=TEXT,
        clause=CLAUSE,
        classes=("intelligent",),
        of=ALL,
        operator=">=",
        value_ppm=650_000,
        basis=basis,
    )


NEW = NewlyAdded(condition="new", title=TEXT, clause=CLAUSE, classes=("intelligent",))


def policy(*conditions: Condition, scope: str = "centre") -> Policy:
    base = load_policy("guangzhou-2000p")
    return msgspec.structs.replace(base, policy="mine", jurisdiction=None, scope=scope, conditions=conditions)


def same(rate: int, devices: int = 1) -> Capacity:
    """Return devices whose every rate is the same."""
    return Capacity(devices, rate, rate, rate, rate)


def evidence(
    clean: Capacity = Capacity(),  # noqa: B008 (immutable)
    on_hold: Capacity = Capacity(),  # noqa: B008
    untested: Capacity = Capacity(),  # noqa: B008
    unrecorded: Unrecorded = Unrecorded(),  # noqa: B008
) -> PolicyEvidence:
    classes = {"intelligent": ClassEvidence(clean, on_hold, untested, unrecorded)}
    return PolicyEvidence(
        classes=classes,  # type: ignore[arg-type]
        grade="certification",
        simulated=False,
        jurisdiction="CN-440100",
        declarations=frozenset({"project", "park", "facility"}),
        baseline=BaselineMatch(devices=10, still_present=10, new_devices=5),
        newly_added=classes,  # type: ignore[arg-type]
    )


def missing(at_most_mflop_s: int | None, nodes: int = 1) -> Unrecorded:
    """Return nodes without a record, and what all of them could at most add."""
    return Unrecorded(unnamed=nodes, at_most_mflop_s=at_most_mflop_s)


NONE = Unrecorded()


def judged(condition: Condition, found: PolicyEvidence, scope: str = "centre") -> Verdict:
    (verdict,) = evaluate(policy(condition, scope=scope), found)
    return verdict


def brief(verdict: Verdict) -> tuple[str, str | None]:
    return verdict.verdict, verdict.reason


INSUFFICIENT = "insufficient_evidence"


@pytest.mark.parametrize(
    ("sign", "lower", "upper", "expected"),
    [
        (">=", T, T, ("met", None)),
        (">=", T - 1, T - 1, ("not_met", None)),
        (">=", T - 1, T, (INSUFFICIENT, "within-bounds")),
        (">=", T, T + 5, ("met", None)),
        (">", T + 1, T + 1, ("met", None)),
        (">", T, T + 1, (INSUFFICIENT, "within-bounds")),
        (">", T, T, ("not_met", None)),
        (">", T - 1, T, ("not_met", None)),
        (">=", 0, None, (INSUFFICIENT, "upper-unbounded")),
        (">=", T, None, ("met", None)),
    ],
)
def test_certified_basis(sign: Operator, lower: int, upper: int | None, expected: tuple[str, str | None]) -> None:
    verdict = judged(threshold(sign), evidence(Capacity(1, lower, lower, upper, lower)))
    assert brief(verdict) == expected
    assert verdict.bases[0].observed_mflop_s == lower
    assert (verdict.operator, verdict.threshold_mflop_s, verdict.upper_mflop_s) == (sign, T, upper)


@pytest.mark.parametrize(
    ("untested", "missing", "expected"),
    [
        (Capacity(devices=1, nominal_mflop_s=P - 1), NONE, ("not_met", None)),
        (Capacity(devices=1, nominal_mflop_s=P), NONE, (INSUFFICIENT, "untested-devices")),
        (Capacity(devices=1, without_rating=1), NONE, (INSUFFICIENT, "rating-missing")),
        (Capacity(), missing(None), (INSUFFICIENT, "nodes-missing")),
        (Capacity(), missing(P - 1), ("not_met", None)),
        (Capacity(), missing(P), (INSUFFICIENT, "nodes-missing")),
        (Capacity(devices=1, nominal_mflop_s=P), missing(P), (INSUFFICIENT, "untested-devices")),
        (Capacity(devices=1, nominal_mflop_s=P // 2), missing(P // 2 - 1), ("not_met", None)),
        (Capacity(devices=1, nominal_mflop_s=P // 2), missing(P // 2), (INSUFFICIENT, "nodes-missing")),
        (Capacity(devices=1, without_rating=1), missing(1), (INSUFFICIENT, "rating-missing")),
        (Capacity(devices=1, without_rating=1), missing(None), (INSUFFICIENT, "nodes-missing")),
    ],
)
@pytest.mark.parametrize("basis", BASES)
def test_untested_devices_and_missing_nodes_may_hold_what_is_missing(
    basis: StatedBasis, untested: Capacity, missing: Unrecorded, expected: tuple[str, str | None]
) -> None:
    assert brief(judged(threshold(basis=basis), evidence(same(T - P), Capacity(), untested, missing))) == expected


@pytest.mark.parametrize("at_most", [None, 0, 5 * T])
@pytest.mark.parametrize("basis", BASES)
def test_missing_nodes_never_stand_against_what_is_met_nor_help(basis: StatedBasis, at_most: int | None) -> None:
    assert brief(judged(threshold(basis=basis), evidence(same(T), unrecorded=missing(at_most)))) == ("met", None)
    assert judged(threshold(basis=basis), evidence(same(T - 1), unrecorded=missing(at_most))).verdict != "met"


def test_a_verdict_says_what_missing_nodes_could_add() -> None:
    found = evidence(same(P), unrecorded=missing(3 * P, 2))
    for condition in (threshold(), share(), NEW):
        verdict = judged(condition, found)
        assert (verdict.nodes_missing, verdict.missing_at_most_mflop_s) == (2, 3 * P)
        assert (
            describe_verdict(verdict)[-1]
            == "  2 nodes without a record could add at most 3.000 PFLOPS [verdict-missing]"
        )
    (line,) = missing_lines(judged(threshold(), evidence(same(P), unrecorded=missing(None))))
    assert line == "nobody knows what 1 node without a record could add"
    whole = judged(threshold(), evidence(same(P)))
    assert (whole.nodes_missing, whole.missing_at_most_mflop_s, missing_lines(whole)) == (0, 0, [])


def test_missing_nodes_like_devices_without_a_rating_are_unknown_on_nominal_only() -> None:
    found = evidence(same(P), unrecorded=missing(P)._replace(without_rating=True))
    assert [brief(judged(threshold(basis=basis), found)) for basis in BASES] == [
        ("not_met", None),
        ("not_met", None),
        (INSUFFICIENT, "rating-missing"),
    ]


def test_missing_nodes_may_all_be_new() -> None:
    found = evidence()._replace(newly_added={"intelligent": ClassEvidence(unrecorded=missing(P))})
    assert brief(judged(NEW, found)) == (INSUFFICIENT, "nodes-missing")
    assert brief(judged(NEW, evidence(same(P), unrecorded=missing(P)))) == ("declared", None)
    scale = msgspec.structs.replace(threshold(), counted="newly_added")
    for at_most, expected in ((T - 1, ("not_met", None)), (T, (INSUFFICIENT, "nodes-missing"))):
        new = {"intelligent": ClassEvidence(unrecorded=missing(at_most))}
        assert brief(judged(scale, evidence(same(5 * T))._replace(newly_added=new))) == expected  # type: ignore[arg-type]


def test_what_no_document_can_hold_is_unknown() -> None:
    most = 2**53 - 1
    assert missing(most).plus(missing(0)).at_most_mflop_s == most
    assert missing(most).plus(missing(1)).at_most_mflop_s is None


def test_untested_devices_never_help_to_meet() -> None:
    found = evidence(same(T - 1), untested=Capacity(devices=100, nominal_mflop_s=100 * T))
    for basis in BASES:
        assert judged(threshold(basis=basis), found).verdict == INSUFFICIENT


def test_within_bounds_is_not_blamed_on_untested_devices() -> None:
    found = evidence(Capacity(1, T - 1, T - 1, T, T - 1), untested=Capacity(devices=1, nominal_mflop_s=1))
    assert judged(threshold(), found).reason == "within-bounds"


def test_a_missing_rating_is_never_zero() -> None:
    found = evidence(Capacity(2, T, T, T, T - 1, without_rating=1))
    assert brief(judged(threshold(basis="nominal"), found)) == (INSUFFICIENT, "rating-missing")
    assert judged(threshold(basis="nominal"), found).without_rating == 1
    assert judged(threshold(basis="nominal"), evidence(Capacity(2, T, T, T, T, 1))).verdict == "met"
    assert judged(threshold(), found).verdict == "met"  # on certified no rating is needed


@pytest.mark.parametrize(
    ("clean", "held", "held_nominal", "expected"),
    [
        (T, P, P, ("met", None)),
        (T - P, P, P, (INSUFFICIENT, "depends-on-flagged")),
        (T - P, P - 1, P - 1, ("not_met", None)),
        (T - P, P - 1, P, (INSUFFICIENT, "depends-on-flagged")),  # their nominal rate would reach it
    ],
)
def test_a_verdict_that_needs_accepted_holds(
    clean: int, held: int, held_nominal: int, expected: tuple[str, str | None]
) -> None:
    found = evidence(same(clean), Capacity(1, held, held, held, held_nominal))
    verdict = judged(threshold(), found)
    assert brief(verdict) == expected
    assert verdict.bases[0].observed_mflop_s == clean + held  # counted, and its subtotal stands beside it
    assert verdict.on_hold_certified_mflop_s == held


def test_held_devices_without_a_rating_prove_nothing_small() -> None:
    found = evidence(same(P), Capacity(1, P, P, P, 0, without_rating=1))
    assert brief(judged(threshold(), found)) == (INSUFFICIENT, "depends-on-flagged")


@pytest.mark.parametrize(
    ("sums", "expected", "outcomes"),
    [
        (Capacity(1, T, T, T, T), ("met", None), ("met", "met", "met")),
        (Capacity(1, P, P, P, P), ("not_met", None), ("not_met", "not_met", "not_met")),
        (Capacity(1, P, P, P, T), (INSUFFICIENT, "basis-unstated"), ("not_met", "not_met", "met")),
        (Capacity(1, P, T, T, T), (INSUFFICIENT, "basis-unstated"), (INSUFFICIENT, "met", "met")),
    ],
)
def test_where_the_text_is_silent_all_bases_must_agree(
    sums: Capacity, expected: tuple[str, str | None], outcomes: tuple[str, ...]
) -> None:
    verdict = judged(threshold(basis="unstated"), evidence(sums))
    assert brief(verdict) == expected
    assert tuple(line.basis for line in verdict.bases) == BASES
    assert tuple(line.verdict for line in verdict.bases) == outcomes


def test_the_mock_up_of_a_statement() -> None:
    """Nominal 2310.1 P, sustained 1924.3 P (1909 to 1940): met, not met, not met, and so nothing overall."""
    sums = Capacity(6144, 1_909_000_000_000, 1_924_300_000_000, 1_940_000_000_000, 2_310_144_000_000)
    verdict = judged(threshold(basis="unstated"), evidence(sums))
    assert brief(verdict) == (INSUFFICIENT, "basis-unstated")
    assert [line.verdict for line in verdict.bases] == ["not_met", "not_met", "met"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"simulated": True}, "simulated"),
        ({"grade": "standard"}, "grade-too-low"),
        ({"grade": "smoke"}, "grade-too-low"),
        ({"grade": None}, "nothing-counted"),
        ({"simulated": True, "grade": "smoke"}, "simulated"),
    ],
)
@pytest.mark.parametrize("rate", [0, T])
def test_weak_evidence_proves_nothing_either_way(change: dict[str, object], reason: str, rate: int) -> None:
    found = evidence(same(rate))._replace(**change)  # type: ignore[arg-type]
    for condition in (threshold(basis="unstated"), share("unstated")):
        verdict = judged(condition, found)
        assert brief(verdict) == (INSUFFICIENT, reason)
        assert {(line.verdict, line.reason) for line in verdict.bases} == {(INSUFFICIENT, reason)}
        assert verdict.bases[0].observed_mflop_s == rate


def test_no_overall_verdict() -> None:
    verdicts = evaluate(load_policy("guangzhou-2000p"), evidence(same(T)))
    assert [(v.condition, v.verdict, v.reason) for v in verdicts] == [
        ("park", "declared", None),
        ("newly-added", "declared", None),
        ("single-facility", "declared", None),
        ("scale-2000p", "met", None),
        ("guide", INSUFFICIENT, "guide-not-issued"),
    ]
    assert {v.document_status for v in verdicts} == {"draft"}


def test_2000p_counts_only_what_is_newly_added() -> None:
    new = {"intelligent": ClassEvidence(same(T - 1))}
    found = evidence(same(3 * T))._replace(newly_added=new)  # type: ignore[arg-type]
    scale = evaluate(load_policy("guangzhou-2000p"), found)[3]
    assert (scale.verdict, scale.counted) == ("not_met", "newly_added")
    assert scale.bases[0].observed_mflop_s == T - 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"baseline": None}, "no-baseline"),
        ({"declarations": frozenset({"project", "park"})}, "not-declared"),
        ({"declarations": frozenset()}, "not-declared"),
    ],
)
def test_2000p_without_what_makes_devices_eligible(change: dict[str, object], reason: str) -> None:
    for rate, expected in ((T, (INSUFFICIENT, reason)), (T - 1, ("not_met", None))):
        found = evidence(same(rate))._replace(**change)  # type: ignore[arg-type]
        assert brief(evaluate(load_policy("guangzhou-2000p"), found)[3]) == expected


def test_2000p_undeclared() -> None:
    found = evidence(same(T))._replace(declarations=frozenset(), baseline=None)
    verdicts = evaluate(load_policy("guangzhou-2000p"), found)
    assert [v.reason for v in verdicts] == [
        "not-declared",
        "no-baseline",
        "not-declared",
        "not-declared",
        "guide-not-issued",
    ]
    assert {v.verdict for v in verdicts} == {INSUFFICIENT}


@pytest.mark.parametrize(
    ("place", "inside"),
    [
        ("CN-440100", True),
        ("CN-440115", True),
        ("CN-440300", False),
        ("CN-420100", False),
        ("CN", False),
        (None, False),
    ],
)
def test_a_policy_holds_where_it_holds(place: str | None, inside: bool) -> None:
    verdicts = evaluate(load_policy("guangzhou-2000p"), evidence(same(T))._replace(jurisdiction=place))
    assert (verdicts[0].verdict == "declared") is inside
    assert (verdicts[3].verdict == "met") is inside
    if not inside:
        assert {v.reason for v in verdicts[:4]} == {"outside-jurisdiction"}


def test_growth_stands_beside_newly_added() -> None:
    condition = NEW
    base = BaselineMatch(devices=8, still_present=6, new_devices=4, certified_mflop_s=9 * P)
    new = {"intelligent": ClassEvidence(same(3 * P))}
    found = evidence(same(7 * P))._replace(baseline=base, newly_added=new)  # type: ignore[arg-type]
    verdict = judged(condition, found)
    assert brief(verdict) == ("declared", None)
    assert verdict.growth is not None
    assert (verdict.growth.newly_added_mflop_s, verdict.growth.net_mflop_s) == (3 * P, -2 * P)
    assert (verdict.growth.baseline_devices, verdict.growth.still_present_devices, verdict.growth.new_devices) == (
        8,
        6,
        4,
    )
    unknown = judged(condition, found._replace(baseline=base._replace(certified_mflop_s=None)))
    assert unknown.growth is not None
    assert unknown.growth.net_mflop_s is None
    nothing_of_the_class = found._replace(newly_added={"supercomputing": ClassEvidence(same(3 * P))})
    assert brief(judged(condition, nothing_of_the_class)) == ("not_met", "nothing-new")
    assert brief(judged(condition, found._replace(simulated=True))) == (INSUFFICIENT, "simulated")


def test_one_centre_cannot_miss_a_citys_target() -> None:
    for rate, expected in ((T - 1, (INSUFFICIENT, "city-scope")), (T, ("met", None))):
        assert brief(judged(threshold(basis="unstated"), evidence(same(rate)), scope="city")) == expected
    for found in (evidence(same(T)), evidence()):
        verdict = judged(share(), found, scope="city")
        assert brief(verdict) == (INSUFFICIENT, "city-scope")
    city = evidence(same(T - 1))._replace(scope="city")
    assert judged(threshold(), city, scope="city").verdict == "not_met"


def test_city_policies_over_one_centre() -> None:
    classes = {"intelligent": ClassEvidence(same(1500 * P)), "supercomputing": ClassEvidence(same(500 * P))}
    found = evidence()._replace(classes=classes, newly_added=classes)  # type: ignore[arg-type]
    for name in ("guangzhou-2027", "wuhan-2025"):
        place = load_policy(name).jurisdiction
        verdicts = {v.condition: v for v in evaluate(load_policy(name), found._replace(jurisdiction=place))}
        assert all(v.verdict in ("met", INSUFFICIENT) for v in verdicts.values())
        if name == "wuhan-2025":
            assert verdicts["supercomputing-annex"].verdict == "met"  # 500 P alone is more than 400 P
            assert verdicts["total-annex"].bases[0].observed_mflop_s == 2000 * P
            assert verdicts["latency-city"].reason == "not-measured"
            assert verdicts["storage"].reason == "out-of-scope"
        else:
            assert verdicts["intelligent-share"].bases[0].observed_ppm == 750_000
            assert verdicts["under-management"].reason == "city-scope"


@pytest.mark.parametrize(
    ("intelligent", "other", "expected"),
    [
        (same(65), same(35), ("met", None)),
        (same(64), same(35), ("not_met", None)),
        (Capacity(1, 64, 64, 66, 64), same(35), (INSUFFICIENT, "within-bounds")),
        (same(65), Capacity(1, 35, 35, None, 35), (INSUFFICIENT, "upper-unbounded")),
        (Capacity(), Capacity(), (INSUFFICIENT, "nothing-counted")),
    ],
)
def test_share(intelligent: Capacity, other: Capacity, expected: tuple[str, str | None]) -> None:
    classes = {"intelligent": ClassEvidence(intelligent), "general": ClassEvidence(other)}
    verdict = judged(share(), evidence()._replace(classes=classes))  # type: ignore[arg-type]
    assert brief(verdict) == expected
    assert verdict.threshold_ppm == 650_000
    assert verdict.threshold_mflop_s is None


def test_share_with_untested_and_held_devices() -> None:
    def shown(part: ClassEvidence, rest: ClassEvidence) -> tuple[str, str | None]:
        classes = {"intelligent": part, "general": rest}
        return brief(judged(share(), evidence()._replace(classes=classes)))  # type: ignore[arg-type]

    tested = ClassEvidence(same(65))
    assert shown(tested, ClassEvidence(same(34), untested=Capacity(1, nominal_mflop_s=1))) == ("met", None)
    assert shown(tested, ClassEvidence(same(34), untested=Capacity(1, nominal_mflop_s=2))) == (
        INSUFFICIENT,
        "untested-devices",
    )
    assert shown(tested, ClassEvidence(same(34), untested=Capacity(1, without_rating=1))) == (
        INSUFFICIENT,
        "rating-missing",
    )
    assert shown(tested, ClassEvidence(same(34), unrecorded=missing(None))) == (INSUFFICIENT, "nodes-missing")
    assert shown(tested, ClassEvidence(same(34), unrecorded=missing(1))) == ("met", None)
    assert shown(tested, ClassEvidence(same(34), unrecorded=missing(2))) == (INSUFFICIENT, "nodes-missing")
    small = ClassEvidence(same(60), unrecorded=missing(4))
    assert shown(small, ClassEvidence(same(35))) == ("not_met", None)
    assert shown(small, ClassEvidence(same(34))) == (INSUFFICIENT, "nodes-missing")
    assert shown(ClassEvidence(same(60), same(5)), ClassEvidence(same(35))) == (INSUFFICIENT, "depends-on-flagged")


@pytest.mark.parametrize(
    ("part", "rest", "expected"),
    [
        (missing(None), NONE, ("met", None)),  # what is unknown of the part can but raise the share
        (NONE, missing(None), (INSUFFICIENT, "nodes-missing")),
    ],
)
def test_each_end_of_a_share_needs_one_bound_only(
    part: Unrecorded, rest: Unrecorded, expected: tuple[str, str | None]
) -> None:
    classes = {"intelligent": ClassEvidence(same(65), unrecorded=part)}
    classes["general"] = ClassEvidence(same(35), unrecorded=rest)
    assert brief(judged(share(), evidence()._replace(classes=classes))) == expected  # type: ignore[arg-type]
    classes["intelligent"] = ClassEvidence(same(64), unrecorded=part)
    swapped = ("not_met", None) if rest.at_most_mflop_s is None else (INSUFFICIENT, "nodes-missing")
    assert brief(judged(share(), evidence()._replace(classes=classes))) == swapped  # type: ignore[arg-type]


def test_sums_of_classes_are_sums() -> None:
    one, two = missing(P)._replace(named=frozenset("ab"), unnamed=0), missing(P)._replace(named=frozenset("bc"))
    classes = {
        "intelligent": ClassEvidence(same(T - P), unrecorded=one),
        "edge": ClassEvidence(same(P), unrecorded=two),
    }
    verdict = judged(threshold(classes=ALL), evidence()._replace(classes=classes))  # type: ignore[arg-type]
    assert brief(verdict) == ("met", None)
    assert verdict.classes == ALL
    assert (verdict.nodes_missing, verdict.missing_at_most_mflop_s) == (4, 2 * P)  # a, b and c, and one without a name
    both = Capacity(1, 2, 3, None, 4, 5) + Capacity(1, 2, 3, 4, 5, 6)
    assert both == Capacity(2, 4, 6, None, 9, 11)
    assert ClassEvidence(same(1), same(2)).counted == same(3, devices=2)


rates = st.integers(0, 2 * T)


@given(rates, rates, rates, rates, rates, st.sampled_from([">=", ">"]))
def test_met_and_not_met_are_proofs(lower: int, extra: int, held: int, nominal: int, rest: int, sign: Operator) -> None:
    """Whatever the truth within the bounds is, a verdict that was given holds for it."""
    found = evidence(
        Capacity(1, lower, lower, lower + extra, 0),
        Capacity(1, held, held, held, nominal),
        Capacity(1, nominal_mflop_s=rest),
    )
    verdict = judged(threshold(sign), found).verdict
    least, most = lower, lower + extra + max(held, nominal) + rest
    edge = T if sign == ">=" else T + 1
    assert (verdict == "met") == (least >= edge)
    assert (verdict == "not_met") == (most < edge)


groups = st.builds(
    ClassEvidence,
    clean=st.builds(
        lambda low, extra, nominal: Capacity(1, low, low + extra // 2, low + extra, nominal), rates, rates, rates
    ),
    on_hold=st.builds(lambda low, extra: Capacity(1, low, low, low + extra, low), st.just(0) | rates, rates),
    untested=st.builds(lambda nominal: Capacity(1, nominal_mflop_s=nominal), rates),
    unrecorded=st.builds(missing, st.none() | rates),
    # named, since what is not is drawn from the type: a bound below 0 is none
    absent=st.builds(Absent, st.just(1), st.none() | rates, st.none() | rates),
)


@given(groups, groups, st.data(), st.sampled_from(BASES), st.sampled_from([">=", ">"]))
def test_no_figure_of_missing_nodes_contradicts_a_verdict(
    part: ClassEvidence, rest: ClassEvidence, data: st.DataObject, basis: StatedBasis, sign: Operator
) -> None:
    """Whatever the nodes without a record would have given up to their bound: what was said holds with it."""
    conditions = (threshold(sign, basis), msgspec.structs.replace(share(basis), operator=sign))

    def said(part: ClassEvidence, rest: ClassEvidence) -> list[str]:
        classes = {"intelligent": part, "general": rest}
        return [judged(one, evidence()._replace(classes=classes)).verdict for one in conditions]  # type: ignore[arg-type]

    def recorded(group: ClassEvidence) -> ClassEvidence:
        most = group.unrecorded.at_most_mflop_s
        rate = data.draw(st.integers(0, 4 * T if most is None else most))
        return group._replace(clean=group.clean + same(rate), unrecorded=NONE)

    before, after = said(part, rest), said(recorded(part), recorded(rest))
    for first, then in zip(before, after, strict=True):
        assert first in (INSUFFICIENT, then)


def test_verdicts_are_documents() -> None:
    for name in ("guangzhou-2000p", "guangzhou-2027", "wuhan-2025"):
        for verdict in evaluate(load_policy(name), evidence(same(T))):
            assert msgspec.json.decode(encode(verdict), type=Verdict) == verdict


def test_a_class_of_a_policy_has_its_counting() -> None:
    assert all(isinstance(c, Counting) for c in policy(threshold()).counting.values())


def test_the_page_explains_every_reason() -> None:
    page = (Path(__file__).parents[3] / "docs" / "policies.md").read_text(encoding="utf-8")
    source = "".join(Path(str(module.__file__)).read_text(encoding="utf-8") for module in (verdicts, thresholds))
    reasons = set(re.findall(r'"([a-z]+(?:-[a-z]+)+)"', source)) | {"simulated", "not-measured", "out-of-scope"}
    assert len(reasons) > 15
    for reason in reasons:
        assert f"`{reason}`" in page, reason
