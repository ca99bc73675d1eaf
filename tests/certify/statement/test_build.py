"""What a statement says about 2000P, one MFLOP/s apart, from sums that no measurement stands behind."""

from __future__ import annotations

from collections import Counter
from functools import reduce
from typing import Any, get_args

import pytest
from msgspec.structs import replace

from bench.errors import RefusedError
from bench.profile import load_profile
from bench.record import ExpectedNode, Grade, Workload
from certify.documents.kinds import Baseline, BaselineDevice, make_document, parse_payload
from certify.documents.statement import CapacityStatement
from certify.judge.ceilings import STEPS, LimitName
from certify.judge.tally import CeilingKey, CeilingSum, Key, Tally
from certify.policy.capacity import CapacitySum, NodeMost
from certify.policy.verdict_lines import describe_verdict
from certify.policy.verdicts import Verdict
from certify.statement.attendance import unrecorded_in
from certify.statement.bounds import LIMITS, STEP_NAMES, STEPS_MEAN, bounds_text
from certify.statement.build import build
from certify.statement.describe import describe_statement
from certify.statement.paper.page import render
from certify.statement.paper.view import view_of
from certify.verify.statement_checks import check_sums
from tests.certify.judged import ISSUE, ROOT, basis_of, centre_of, policy_of
from tests.certify.measured import node_name, test_campaign

P = 10**9  # MFLOP/s in a PFLOPS
T = 2000 * P
CERTIFICATION = load_profile("certification")
CAMPAIGN = test_campaign(CERTIFICATION, ("fp16",), 1)
OLD = Baseline(
    centre_id="gz-test",
    taken_at="2026-01-01T00:00:00.000000Z",
    devices=tuple(BaselineDevice(uuid=f"gpu-a1b2c3-{i}", serial=None, die_id=None) for i in range(3)),
)
DECLARED: dict[str, Any] = {"baseline": "baseline.dsse.json", "baseline_date": "2026-01-01"}


def amount(lower: int, upper: int | None = None, nominal: int | None = None, devices: int = 1) -> CapacitySum:
    """Return the sum over some devices: certified, sustained and nominal alike where they are not given."""
    return CapacitySum(
        devices=devices,
        certified_mflop_s=lower,
        sustained_mflop_s=lower,
        upper_mflop_s=upper or lower,
        nominal_mflop_s=lower if nominal is None else nominal,
    )


def tally(
    new: CapacitySum | None = None,
    old: CapacitySum | None = None,
    held: CapacitySum | None = None,
    untested: CapacitySum | None = None,
    **more: Any,
) -> Tally:
    """Return what a set of records might add up to."""
    parts = {(False, False): new, (True, False): old, (False, True): held}
    sums = {
        Key("main", Workload("fp16"), existing, "on_hold" if on_hold else "clean"): value
        for (existing, on_hold), value in parts.items()
        if value is not None
    }
    devices = sum(value.devices for value in (*sums.values(), *([untested] if untested else [])))
    values: dict[str, Any] = {
        "node_ids": {node_name(0)},
        "sums": sums,
        "untested": {("main", False): untested} if untested else {},
        "devices": Counter({"main": devices}),
        "in_baseline": old.devices if old else 0,
        "grades": {"certification"} if sums else set(),
        "measured_from": "2026-03-01T08:00:00.000000Z",
        "measured_until": "2026-03-01T09:00:00.000000Z",
    }
    return Tally(**{**values, **more})


def bounded() -> Tally:
    """Return a tally of sums on every step: most on ratings, a part that nothing bounds, a part for a witness."""
    fp16 = Workload("fp16")
    sums = {
        Key("main", fp16, False, "clean"): amount(300 * P, devices=1000),
        Key("main", fp16, False, "unbounded"): amount(7 * P, devices=20),
        Key("main", fp16, False, "witness"): amount(5 * P, devices=10),
    }
    ceilings = {
        CeilingKey("main", fp16, "NVIDIA", "H100", "measured", "issue-rate"): CeilingSum(100, 100, 60 * P, 790_000_000),
        CeilingKey("main", fp16, "NVIDIA", "H100", "silicon", "best-known"): CeilingSum(110, 100, 60 * P, 913_675_000),
        CeilingKey("main", fp16, "Huawei", "910B3", "rating", "rating"): CeilingSum(800, 800, 180 * P, 328_650_000),
        CeilingKey("main", fp16, "Nobody", "X1", "none", None): CeilingSum(20, 20, 7 * P, None),
    }
    found = Counter({"main": 1030})
    rest = amount(0, nominal=9, devices=10)
    return tally(sums=sums, ceilings=ceilings, devices=found, untested=rest, grades={"certification"})


def statement(
    found: Tally, baseline: Baseline | None = OLD, accept: tuple[str, ...] = (), nodes: int = 1, **centre: Any
) -> CapacityStatement:
    """Return the statement of a tally by guangzhou-2000p on the basis `certified` (its own text names none)."""
    policy = policy_of(accept=accept)
    conditions = tuple(replace(c, basis="certified") if c.condition == "scale-2000p" else c for c in policy.conditions)
    campaign = replace(CAMPAIGN, nodes=tuple(ExpectedNode(node_id=node_name(i), pool="main") for i in range(nodes)))
    place = centre_of(**{**(DECLARED if baseline else {}), **centre})
    basis = basis_of(campaign, CERTIFICATION, place, (replace(policy, conditions=conditions),), baseline)
    return build(found, ROOT, basis, ISSUE)


def scale(found: CapacityStatement, condition: str = "scale-2000p") -> Verdict:
    return next(v for v in found.verdicts if v.condition == condition)


def outcome(found: CapacityStatement, condition: str = "scale-2000p") -> tuple[str, str | None]:
    verdict = scale(found, condition)
    return verdict.verdict, verdict.reason


INSUFFICIENT = "insufficient_evidence"


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (amount(T), ("met", None)),
        (amount(T + 1), ("met", None)),
        (amount(T - 1, T - 1), ("not_met", None)),
        (amount(T - 1, T), (INSUFFICIENT, "within-bounds")),
        (amount(T - 1, T + 1), (INSUFFICIENT, "within-bounds")),
        (amount(1, 2), ("not_met", None)),
    ],
)
def test_the_limit_is_2000_pflops_exactly(new: CapacitySum, expected: tuple[str, str | None]) -> None:
    assert outcome(statement(tally(new))) == expected


@pytest.mark.parametrize(
    ("nominal", "expected"),
    [
        (0, ("not_met", None)),
        (1, (INSUFFICIENT, "untested-devices")),
        (2, (INSUFFICIENT, "untested-devices")),
    ],
)
def test_untested_devices_may_make_the_difference(nominal: int, expected: tuple[str, str | None]) -> None:
    rest = CapacitySum(devices=1, nominal_mflop_s=nominal)
    assert outcome(statement(tally(amount(T - 1, T - 1), untested=rest))) == expected
    assert outcome(statement(tally(amount(T), untested=rest))) == ("met", None)


def test_what_has_no_rating_has_no_bound() -> None:
    rest = CapacitySum(devices=1, without_rating=1)
    assert outcome(statement(tally(amount(P), untested=rest))) == (INSUFFICIENT, "rating-missing")


def test_what_has_no_upper_bound_is_never_not_met() -> None:
    new = amount(P)
    new.unbounded = 1
    found = statement(tally(new))
    assert outcome(found) == (INSUFFICIENT, "upper-unbounded")
    assert found.classes[0].counted.upper_mflop_s is None


def test_a_missing_node_may_make_the_difference() -> None:
    assert outcome(statement(tally(amount(T - 1, T - 1)), nodes=2)) == (INSUFFICIENT, "nodes-missing")
    assert outcome(statement(tally(amount(T)), nodes=2)) == ("met", None)


@pytest.mark.parametrize(
    ("devices", "nodes", "at_most", "expected"),
    [
        ([(0, 0)], 2, 0, ("not_met", None)),
        ([(1, 0)], 2, 1, (INSUFFICIENT, "nodes-missing")),
        ([(0, 1)], 2, 1, (INSUFFICIENT, "nodes-missing")),  # it may be better than the largest that was measured
        ([(None, 1), (1, None)], 3, 4, (INSUFFICIENT, "nodes-missing")),
        ([(None, None)], 2, None, (INSUFFICIENT, "nodes-missing")),
        ([(0, 0), (None, None)], 2, None, (INSUFFICIENT, "nodes-missing")),
    ],
)
def test_what_the_largest_node_of_the_pool_gives_bounds_the_missing(
    devices: list[tuple[int | None, int | None]], nodes: int, at_most: int | None, expected: tuple[str, str | None]
) -> None:
    largest = reduce(NodeMost.plus, (NodeMost.of_device(*device) for device in devices))
    found = statement(tally(amount(T - 1, T - 1), largest={"main": largest}), nodes=nodes)
    (line,) = found.classes
    assert (line.nodes_missing, line.missing_at_most_mflop_s) == (nodes - 1, at_most)
    verdict = scale(found)
    assert (verdict.nodes_missing, verdict.missing_at_most_mflop_s) == (nodes - 1, at_most)
    assert (verdict.verdict, verdict.reason) == expected


def test_each_missing_node_adds_what_its_own_pools_could() -> None:
    """Pools of one class and one of another, split by node and by device; what is in no list may be in all."""
    pools = [
        {"pool": "small", "class": "intelligent", "nodes": [node_name(0), node_name(1)], "devices": ["cuda:0"]},
        {"pool": "large", "class": "intelligent", "nodes": [node_name(1), node_name(2)], "devices": ["cuda:1"]},
        {"pool": "hosts", "class": "general", "nodes": [node_name(i) for i in range(4)], "devices": ["cpu:0"]},
    ]
    largest = {"small": NodeMost(3), "large": NodeMost(500), "hosts": NodeMost(20_000)}

    def told(found: Tally, nodes: int = 4) -> list[tuple[int, int | None]]:
        made = statement(found, nodes=nodes, pools=pools)
        return [(line.nodes_missing, line.missing_at_most_mflop_s) for line in made.classes]

    assert told(tally(node_ids=set(), largest=largest)) == [(3, 2 * 3 + 2 * 500), (4, 4 * 20_000)]
    assert told(tally(node_ids={node_name(i) for i in (0, 2, 3)}, largest=largest)) == [(1, 503), (1, 20_000)]
    assert told(tally(node_ids={node_name(i) for i in range(4)}, largest=largest), 5) == [(1, 503), (1, 20_000)]
    del largest["large"]  # no node of it left a record
    assert told(tally(node_ids={node_name(1)}, largest=largest)) == [(2, None), (3, 60_000)]
    assert told(tally(node_ids={node_name(1), node_name(2)}, largest=largest)) == [(1, 3), (2, 40_000)]


@pytest.mark.parametrize(
    ("placed", "also", "expected"),
    [
        ("cards", (), {"intelligent": 5, "supercomputing": 0, "general": 70}),  # partitions tell; a host is no card
        ("hpc", (), {"intelligent": 0, "supercomputing": 300, "general": 70}),
        ("hosts", (), {"intelligent": 5, "supercomputing": 300, "general": 70}),
        ("hosts", ("cards",), {"intelligent": 5, "supercomputing": 0, "general": 70}),
        ("nowhere", (), {"intelligent": 5, "supercomputing": 300, "general": 70}),
    ],
)
def test_the_campaign_says_in_which_pool_a_missing_node_is(
    placed: str, also: tuple[str, ...], expected: dict[str, int]
) -> None:
    pools = [
        {"pool": "cards", "class": "intelligent", "nodes": "all", "devices": ["cuda:0"], "partition": "ai"},
        {"pool": "hpc", "class": "supercomputing", "nodes": "all", "devices": ["cuda:0"], "partition": "hpc"},
        {"pool": "hosts", "class": "general", "nodes": "all", "devices": ["cpu:0"]},
    ]
    largest = {"cards": NodeMost(5), "hpc": NodeMost(300), "hosts": NodeMost(70)}
    node = ExpectedNode(node_id="n1", pool=placed, also=also)
    found = unrecorded_in(centre_of(pools=pools), [node], largest)
    assert {name: one.at_most_mflop_s for name, one in found.items()} == expected
    assert {name: one.nodes for name, one in found.items()} == {name: int(most > 0) for name, most in expected.items()}


def test_what_no_document_can_hold_bounds_nothing() -> None:
    largest = {"main": NodeMost(2**52)}
    assert statement(tally(amount(P), largest=largest), nodes=2).classes[0].missing_at_most_mflop_s == 2**52
    found = statement(tally(amount(P), largest=largest), nodes=3)
    assert found.classes[0].missing_at_most_mflop_s is None
    assert parse_payload("capacity-statement", make_document("capacity-statement", found, ROOT)).predicate == found


def test_no_missing_node_adds_nothing() -> None:
    found = statement(bounded(), accept=("no-ceiling",))
    check_sums(found, "a statement")
    (line,) = found.classes
    assert (line.nodes_missing, line.missing_at_most_mflop_s) == (0, 0)
    for lie in (1, None):
        with pytest.raises(RefusedError, match="no node of class intelligent is missing"):
            check_sums(replace(found, classes=(replace(line, missing_at_most_mflop_s=lie),)), "a statement")


def test_what_missing_nodes_could_add_stands_by_the_verdict() -> None:
    found = statement(tally(amount(P), largest={"main": NodeMost(48 * P // 10)}), nodes=3)
    assert outcome(found) == ("not_met", None)
    said = "2 nodes without a record could add at most 9.600 PFLOPS"
    assert f"  {said} [verdict-missing]" in describe_verdict(scale(found))
    assert f"  {said} [verdict-missing]" in describe_verdict(scale(found, "newly-added"))
    page = render(view_of(found, (policy_of(),), "ab" * 32, "cd" * 32))
    assert page.count("2 个无记录的节点至多增加 9.600 PFLOPS") == 2
    assert page.count(said) == 2
    unknown = render(view_of(statement(tally(amount(P)), nodes=2), (policy_of(),), "ab" * 32, "cd" * 32))
    assert "nobody knows what 1 node without a record could add" in unknown


def test_what_rests_on_an_accepted_hold_is_said() -> None:
    assert outcome(statement(tally(amount(T - 1, T - 1), held=amount(1)))) == (INSUFFICIENT, "depends-on-flagged")
    assert outcome(statement(tally(amount(T), held=amount(1)))) == ("met", None)
    counted = statement(tally(amount(T - 1), held=amount(1))).classes[0].counted
    assert (counted.certified_mflop_s, counted.on_accepted_hold_mflop_s) == (T, 1)


def test_what_stood_there_before_is_not_newly_added() -> None:
    found = statement(tally(amount(T - 1, T - 1), old=amount(5 * T)))
    assert outcome(found) == ("not_met", None)
    assert scale(found).counted == "newly_added"
    assert (found.classes[0].counted.certified_mflop_s, found.classes[0].in_baseline.certified_mflop_s) == (
        6 * T - 1,
        5 * T,
    )
    growth = scale(found, "newly-added").growth
    assert growth is not None
    assert (growth.baseline_devices, growth.still_present_devices, growth.new_devices) == (3, 1, 1)
    assert growth.newly_added_mflop_s == T - 1
    assert "baseline: 3 device(s), 1 of them still there; 1 new" in "\n".join(
        describe_verdict(scale(found, "newly-added"))
    )
    assert "net growth: -1 device(s); certified not known" in "\n".join(describe_verdict(scale(found, "newly-added")))
    assert growth.net_mflop_s is None
    assert outcome(found, "newly-added") == ("declared", None)
    assert outcome(statement(tally(old=amount(5 * T))), "newly-added") == ("not_met", "nothing-new")


def test_without_a_baseline_nothing_is_known_to_be_new() -> None:
    found = statement(tally(amount(5 * T)), baseline=None)
    assert outcome(found) == (INSUFFICIENT, "no-baseline")
    assert outcome(found, "newly-added") == (INSUFFICIENT, "no-baseline")


@pytest.mark.parametrize("missing", [{"project_id": None}, {"park": None}, {"facility": None}])
def test_without_a_declared_project_park_and_facility_nothing_is_eligible(missing: dict[str, Any]) -> None:
    assert outcome(statement(tally(amount(5 * T)), **missing)) == (INSUFFICIENT, "not-declared")


@pytest.mark.parametrize(
    ("jurisdiction", "expected"),
    [
        ("CN-440100", ("met", None)),
        ("CN-440115", ("met", None)),
        ("CN-420100", (INSUFFICIENT, "outside-jurisdiction")),
        ("CN-440000", (INSUFFICIENT, "outside-jurisdiction")),
        (None, (INSUFFICIENT, "outside-jurisdiction")),
    ],
)
def test_the_policy_holds_where_it_holds(jurisdiction: str | None, expected: tuple[str, str | None]) -> None:
    assert outcome(statement(tally(amount(T)), jurisdiction=jurisdiction)) == expected


@pytest.mark.parametrize(("grade", "reason"), [("smoke", "grade-too-low"), ("standard", "grade-too-low")])
def test_a_lower_grade_is_no_evidence(grade: Grade, reason: str) -> None:
    assert outcome(statement(tally(amount(T), grades={"certification", grade}))) == (INSUFFICIENT, reason)


def test_simulated_devices_prove_nothing() -> None:
    found = statement(tally(amount(T), simulated=True))
    assert outcome(found) == (INSUFFICIENT, "simulated")
    assert found.simulated
    assert any("SIMULATED" in line and "proves nothing" in line for line in describe_statement(found))


def test_nothing_counted_is_no_verdict() -> None:
    found = statement(tally(untested=CapacitySum(devices=1, nominal_mflop_s=5)))
    assert outcome(found) == (INSUFFICIENT, "nothing-counted")
    assert any("NOTHING COUNTS" in line for line in describe_statement(found))


def test_an_unstated_basis_needs_all_three_to_agree() -> None:
    def verdict(new: CapacitySum) -> Verdict:
        place = centre_of(**DECLARED)
        return scale(build(tally(new), ROOT, basis_of(CAMPAIGN, CERTIFICATION, place, baseline=OLD), ISSUE))

    agree = verdict(amount(T))
    assert (agree.verdict, agree.basis) == ("met", "unstated")
    assert [line.basis for line in agree.bases] == ["certified", "sustained", "nominal"]
    differ = verdict(amount(T - 1, T - 1, nominal=2 * T))
    assert (differ.verdict, differ.reason) == (INSUFFICIENT, "basis-unstated")
    assert [line.verdict for line in differ.bases] == ["not_met", "not_met", "met"]
    assert (verdict(amount(T - 1, T - 1)).verdict) == "not_met"


def test_a_draft_reads_as_one_in_every_line() -> None:
    found = statement(tally(amount(T)))
    assert {v.document_status for v in found.verdicts} == {"draft"}
    assert all("(if issued as drafted)" in "".join(describe_verdict(v)) for v in found.verdicts)


def test_there_are_five_conditions_and_no_overall_one() -> None:
    found = statement(tally(amount(T)))
    assert {v.condition: v.verdict for v in found.verdicts} == {
        "park": "declared",
        "newly-added": "declared",
        "single-facility": "declared",
        "scale-2000p": "met",
        "guide": INSUFFICIENT,
    }
    fields = set(CapacityStatement.__struct_fields__)
    assert not fields & {"verdict", "passed", "score", "eligible"}


def test_a_statement_is_a_document_that_parses_to_itself() -> None:
    found = statement(
        tally(amount(T), old=amount(1), held=amount(2), untested=CapacitySum(devices=3, without_rating=1))
    )
    payload = make_document("capacity-statement", found, ROOT)
    assert parse_payload("capacity-statement", payload).predicate == found


def test_missing_nodes_are_listed_in_the_order_of_the_campaign() -> None:
    found = statement(tally(amount(T)), nodes=4)
    assert [entry.node_id for entry in found.not_counted] == [node_name(i) for i in (1, 2, 3)]
    assert {entry.codes for entry in found.not_counted} == {("node-missing",)}
    assert found.classes[0].nodes_missing == 3


def test_sums_stand_by_the_step_that_they_rest_on() -> None:
    made = statement(bounded(), accept=("no-ceiling",))
    (line,) = made.classes
    assert [(step.step, step.devices, step.certified_mflop_s) for step in line.steps] == [
        ("measured", 100, 60 * P),
        ("silicon", 100, 60 * P),
        ("rating", 800, 180 * P),
        ("none", 20, 7 * P),
    ]
    assert (line.counted.never_scheduled_mflop_s, line.counted.on_accepted_hold_mflop_s) == (7 * P, 7 * P)
    assert (line.counted.devices, line.with_witness.devices, line.with_witness.certified_mflop_s) == (1020, 10, 5 * P)
    assert made.pools[0].steps == line.steps
    check_sums(made, "a statement")
    text = "\n".join(describe_statement(made))
    for said in (
        "by step of evidence: measured 60.000 PFLOPS (100), silicon 60.000 PFLOPS (100), rating 180.000 PFLOPS (800)",
        "never scheduled, for nothing known bounds it: 7.000 PFLOPS",
        "counts nothing without a witness: 5.000 PFLOPS (10 device(s))",
        "800 figure(s) of Huawei 910B3, 800 not held or void; bounded by the rating: at most 328.650 TFLOPS (rating)",
        "bounded by the best published measurement: at most 913.675 TFLOPS (silicon)",
        "20 figure(s) of Nobody X1, 20 not held or void; bounded by nothing (none)",
    ):
        assert said in text, said
    # Each figure's clock makes that limit: the lowest is not what holds for all.
    assert bounds_text("silicon", "observed-clock", 1_462 * P // 1000, 1) == (
        "bounded by the silicon at the highest observed clock: at most 1.462 PFLOPS (silicon)"
    )
    assert bounds_text("silicon", "observed-clock", 1_462 * P // 1000, 1_192) == (
        "each bounded by the silicon at the highest observed clock,"
        " the lowest of their limits at 1.462 PFLOPS (silicon)"
    )
    assert "counts with the witness: +5.000 PFLOPS" in "\n".join(describe_statement(made, witnessed=True))


def test_every_step_and_limit_has_words() -> None:
    assert tuple(STEPS_MEAN) == tuple(STEP_NAMES) == STEPS
    assert tuple(LIMITS) == get_args(LimitName)
