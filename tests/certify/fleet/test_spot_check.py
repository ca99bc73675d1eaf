"""The draw cannot be foreseen and can be repeated; the bounds are those of a brute-force oracle, boundary included."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from itertools import combinations
from math import comb
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import InputError
from certify.fleet.spot_check import (
    TOLERANCE_PPM,
    NodeClaim,
    SpotCheck,
    draw,
    exceeds,
    judge,
    lines,
    most_bad,
    nodes_to_draw,
)
from certify.fleet.statistics import at_most

SEED = "5e" * 16
ROOT = "ab" * 32
NODES = tuple(f"node-{n:03d}" for n in range(100))
RATE = 8_000_000


def claims(nodes: int = 10, rate: int = RATE) -> dict[str, NodeClaim]:
    return {node_id: NodeClaim(rate, rate - 1000) for node_id in NODES[:nodes]}


def honest(claim: Mapping[str, NodeClaim], drawn: tuple[str, ...]) -> dict[str, int]:
    return {node_id: claim[node_id].sustained_mflop_s for node_id in drawn}


# The draw
def test_the_draw_is_the_order_of_documented_digests() -> None:
    def rank(node_id: str) -> str:
        text = json.dumps(["petaseal/spot-check/v1", SEED, ROOT, node_id], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    assert draw(NODES, SEED, ROOT, 70_000) == tuple(sorted(NODES, key=rank)[:7])


@given(st.integers(1, 60), st.integers(1, 10**6))
def test_the_fraction_is_rounded_up_and_at_least_one_is_drawn(nodes: int, fraction_ppm: int) -> None:
    drawn = draw(NODES[:nodes], SEED, ROOT, fraction_ppm)
    assert len(drawn) == max(1, -((-nodes * fraction_ppm) // 10**6))
    assert len(set(drawn)) == len(drawn)


def test_the_draw_depends_on_the_seed_and_the_claim_and_not_on_the_order_of_nodes() -> None:
    drawn = draw(NODES, SEED, ROOT, 100_000)
    assert draw(NODES[::-1], SEED, ROOT, 100_000) == drawn
    assert draw(NODES, "5f" * 16, ROOT, 100_000) != drawn
    assert draw(NODES, SEED, "ac" * 32, 100_000) != drawn
    assert draw(NODES, SEED, ROOT, 200_000)[:10] == drawn


def test_every_node_is_drawn_equally_often() -> None:
    drawn = Counter(node for n in range(2000) for node in draw(NODES[:20], f"{n:032x}", ROOT, 250_000))
    assert len(drawn) == 20
    assert all(400 < count < 600 for count in drawn.values())  # 500 expected, 19 the standard deviation


@pytest.mark.parametrize(
    ("nodes", "seed", "root", "fraction_ppm"),
    [
        ((), SEED, ROOT, 1),
        (("a", "a"), SEED, ROOT, 1),
        (NODES, "5E" * 16, ROOT, 1),
        (NODES, "5e" * 15, ROOT, 1),
        (NODES, SEED + "\n", ROOT, 1),
        (NODES, SEED, "ab" * 31, 1),
        (NODES, SEED, ROOT, 0),
        (NODES, SEED, ROOT, 10**6 + 1),
    ],
)
def test_a_draw_that_cannot_be_is_refused(nodes: tuple[str, ...], seed: str, root: str, fraction_ppm: int) -> None:
    with pytest.raises(InputError) as caught:
        draw(nodes, seed, root, fraction_ppm)
    assert caught.value.code == "spot-check-invalid"


# The hypergeometric bound
def enumerated(found: int, population: int, bad: int, drawn: int) -> Fraction:
    draws = [sum(item < bad for item in one) for one in combinations(range(population), drawn)]
    return Fraction(sum(count <= found for count in draws), len(draws))


def test_the_tail_is_what_listing_every_draw_gives() -> None:
    for population in range(1, 9):
        for bad in range(population + 1):
            for drawn in range(population + 1):
                for found in range(drawn + 1):
                    expected = enumerated(found, population, bad, drawn)
                    assert Fraction(*at_most(found, population, bad, drawn)) == expected


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 30), st.data())
def test_the_bound_is_the_largest_number_that_the_draw_does_not_contradict(nodes: int, data: st.DataObject) -> None:
    drawn = data.draw(st.integers(0, nodes))
    bad = data.draw(st.integers(0, drawn))
    confidence_ppm = data.draw(st.sampled_from([500_000, 900_000, 950_000, 990_000, 999_999]))
    alpha = 1 - Fraction(confidence_ppm, 10**6)

    def chance(total: int) -> Fraction:
        ways = [comb(total, i) * comb(nodes - total, drawn - i) for i in range(bad + 1)]
        return Fraction(sum(ways), comb(nodes, drawn))

    possible = [total for total in range(nodes + 1) if chance(total) > alpha]
    bound = most_bad(nodes, drawn, bad, confidence_ppm)
    assert bound == max(possible)
    assert bad <= bound <= nodes - drawn + bad


def test_a_chance_of_exactly_five_per_cent_contradicts() -> None:
    assert Fraction(*at_most(0, 20, 1, 19)) == Fraction(1, 20)
    assert most_bad(20, 19, 0) == 0
    assert most_bad(20, 19, 0, 950_001) == 1
    assert Fraction(*at_most(0, 100_000, 1, 95_000)) == Fraction(1, 20)
    assert (most_bad(100_000, 95_000, 0), most_bad(100_000, 94_999, 0)) == (0, 1)


def test_the_bound_holds_as_often_as_it_says() -> None:
    for nodes, bad_in_all, drawn in ((40, 5, 10), (25, 1, 20), (60, 30, 6)):
        missed = Fraction(0)
        for found in range(min(bad_in_all, drawn) + 1):
            if most_bad(nodes, drawn, found) < bad_in_all:
                ways = comb(bad_in_all, found) * comb(nodes - bad_in_all, drawn - found)
                missed += Fraction(ways, comb(nodes, drawn))
        assert missed <= Fraction(1, 20)


def test_a_large_claim_has_its_bound_to_the_last_node() -> None:
    bound = most_bad(100_000, 5_000, 3)
    chances = [Fraction(*at_most(3, 100_000, total, 5_000)) for total in (bound, bound + 1)]
    assert chances[0] > Fraction(1, 20) >= chances[1]
    assert bound == 152


@given(st.integers(1, 40), st.data())
def test_so_many_are_drawn_and_no_fewer(nodes: int, data: st.DataObject) -> None:
    bad_at_most = data.draw(st.integers(0, nodes - 1))
    confidence_ppm = data.draw(st.sampled_from([500_000, 950_000, 990_000]))
    drawn = nodes_to_draw(nodes, bad_at_most, confidence_ppm)
    enough = [n for n in range(nodes + 1) if most_bad(nodes, n, 0, confidence_ppm) <= bad_at_most]
    assert drawn == min(enough)


@pytest.mark.parametrize("numbers", [(10, 11, 0), (10, 5, 6), (10, 5, -1), (10, -1, 0)])
def test_numbers_that_cannot_be_are_refused(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(InputError):
        most_bad(*numbers)


@pytest.mark.parametrize("arguments", [(10, 10), (10, -1), (10, 1, 0), (10, 1, 10**6)])
def test_a_statement_that_no_draw_supports_is_refused(arguments: tuple[int, ...]) -> None:
    with pytest.raises(InputError):
        nodes_to_draw(*arguments)


# The judgement
def test_an_honest_claim_passes() -> None:
    claim = claims(100)
    drawn = draw(list(claim), SEED, ROOT, 50_000)
    check = judge(claim, drawn, honest(claim, drawn))
    assert check.passed
    assert (check.nodes, len(check.drawn), check.bad, check.bad_at_most) == (100, 5, 0, most_bad(100, 5, 0))
    assert check.certified_mflop_s == 100 * (RATE - 1000)
    assert check.stands_mflop_s == (100 - check.bad_at_most) * (RATE - 1000)


def test_two_per_cent_exactly_is_good_and_one_more_is_not() -> None:
    assert not exceeds(1_020_000, 1_000_000)
    assert exceeds(1_020_001, 1_000_000)
    assert not exceeds(0, 0)
    assert exceeds(1, 0)


@given(st.integers(1, 2**53), st.integers(0, 2**53), st.integers(0, 10**6))
def test_a_claim_exceeds_as_rationals_do(claimed: int, measured: int, tolerance_ppm: int) -> None:
    assert exceeds(claimed, measured, tolerance_ppm) == (claimed > measured * (1 + Fraction(tolerance_ppm, 10**6)))


def test_one_overstated_node_fails_the_claim_though_the_sum_agrees() -> None:
    claim = claims(10)
    drawn = draw(list(claim), SEED, ROOT, 500_000)
    measured = honest(claim, drawn)
    measured[drawn[0]] -= RATE // 20
    measured[drawn[1]] += RATE // 20
    check = judge(claim, drawn, measured)
    assert [one.outcome for one in check.drawn] == ["overstated", "good", "good", "good", "good"]
    assert (check.passed, check.sum_differs, check.bad) == (False, False, 1)


def test_a_node_that_was_not_re_measured_is_bad_and_adds_nothing() -> None:
    claim = claims(10)
    drawn = draw(list(claim), SEED, ROOT, 500_000)
    measured = honest(claim, drawn)
    del measured[drawn[2]]
    check = judge(claim, drawn, measured)
    assert check.drawn[2].outcome == "not-measured"
    assert (check.passed, check.sum_differs, check.bad) == (False, True, 1)
    assert check.measured_mflop_s == 4 * RATE
    assert not judge(claim, drawn, {}).passed


@pytest.mark.parametrize(("measured", "differs"), [(8_163_265, False), (8_163_266, True)])
def test_a_sum_that_is_much_higher_differs_too(measured: int, differs: bool) -> None:
    """8,000,000 is 2 % below 8,163,265.3: then it was not the same thing that was measured again."""
    check = judge(claims(1), (NODES[0],), {NODES[0]: measured})
    assert (check.bad, check.sum_differs, check.passed) == (0, differs, not differs)


def test_what_stands_is_the_claim_without_the_largest_that_may_be_bad() -> None:
    claim = {node_id: NodeClaim(1000 + n, 900 + n) for n, node_id in enumerate(NODES[:20])}
    drawn = draw(list(claim), SEED, ROOT, 500_000)
    measured = honest(claim, drawn)
    measured[drawn[0]] = 1
    check = judge(claim, drawn, measured)
    others = sorted(claim[node_id].certified_mflop_s for node_id in claim if node_id not in drawn)
    good = sum(claim[node_id].certified_mflop_s for node_id in drawn[1:])
    extra = check.bad_at_most - 1
    assert 0 < extra < len(others)
    assert check.stands_mflop_s == good + sum(others[: len(others) - extra])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.data())
def test_no_choice_of_bad_nodes_leaves_less_than_what_stands(nodes: int, data: st.DataObject) -> None:
    rates = data.draw(st.lists(st.integers(1, 50), min_size=nodes, max_size=nodes))
    claim = {node_id: NodeClaim(rate, rate) for node_id, rate in zip(NODES, rates, strict=False)}
    drawn = draw(list(claim), SEED, ROOT, data.draw(st.integers(1, 10**6)))
    lying = data.draw(st.sets(st.sampled_from(drawn)))
    measured = {node_id: 0 if node_id in lying else claim[node_id].sustained_mflop_s for node_id in drawn}
    check = judge(claim, drawn, measured)
    unseen = [node_id for node_id in claim if node_id not in drawn]
    worst = min(
        sum(one.certified_mflop_s for node_id, one in claim.items() if node_id not in lying and node_id not in bad)
        for count in range(check.bad_at_most - len(lying) + 1)
        for bad in map(set, combinations(unseen, count))
    )
    assert check.stands_mflop_s == worst


def test_drawing_everything_leaves_no_doubt() -> None:
    claim = claims(10)
    drawn = draw(list(claim), SEED, ROOT, 10**6)
    check = judge(claim, drawn, honest(claim, drawn))
    assert (check.bad_at_most, check.stands_mflop_s) == (0, check.certified_mflop_s)


def wrong_input() -> list[tuple[dict[str, NodeClaim], tuple[str, ...], dict[str, int]]]:
    claim, one = claims(3), NODES[0]
    return [
        (claim, (), {}),
        (claim, (one, one), {one: RATE}),
        (claim, (NODES[9],), {NODES[9]: RATE}),
        (claim, (one,), {one: RATE, NODES[1]: RATE}),
        (claim, (one,), {one: -1}),
        ({**claim, NODES[1]: NodeClaim(RATE, 0)}, (one,), {one: RATE}),
        ({}, (), {}),
    ]


@pytest.mark.parametrize("number", range(len(wrong_input())))
def test_a_judgement_that_cannot_be_is_refused(number: int) -> None:
    with pytest.raises(InputError) as caught:
        judge(*wrong_input()[number])
    assert caught.value.code == "spot-check-invalid"


def test_a_cheat_is_caught_as_often_as_the_formula_says() -> None:
    """One in ten nodes claims twice what it does: 22 of 100 drawn miss all of them with P(X = 0)."""
    claim, rng = claims(100), Random(5)
    caught = 0
    for _ in range(300):
        liars = set(rng.sample(NODES, 10))
        drawn = draw(NODES, f"{rng.getrandbits(128):032x}", ROOT, 220_000)
        caught += not judge(claim, drawn, {node: RATE // 2 if node in liars else RATE for node in drawn}).passed
    expected = 300 * (1 - Fraction(*at_most(0, 100, 10, 22)))
    assert abs(caught - expected) < 20


# For people
def shown(measured_share: float) -> tuple[SpotCheck, list[str]]:
    claim = claims(40)
    drawn = draw(list(claim), SEED, ROOT, 50_000)
    check = judge(claim, drawn, {drawn[0]: int(RATE * measured_share)} | {drawn[1]: RATE})
    return check, lines(check, {drawn[0]: "gpu-007"})


def test_lines_say_what_was_found() -> None:
    check, said = shown(0.9)
    assert "gpu-007" in said[1]
    assert "7.200 TFLOPS (claim 11.11 % above)" in said[1]
    assert said[1].endswith("OVERSTATED")
    assert check.drawn[1].node_id in said[2]
    assert said[2].endswith("good")
    assert f"at most {check.bad_at_most} of all 40 nodes are bad (1 found)" in said[-2]
    assert said[-1].startswith("The claim FAILS: 1 of 2 claiming more than 2.0 % too much")
    assert "(claim 0.99 % below)" in shown(1.01)[1][1]
    assert "(claim equal)" in shown(1.0)[1][1]
    assert shown(1.0)[1][-1] == "The claim passes."


def test_the_page_tells_the_numbers_that_the_code_gives() -> None:
    """The worked example of docs/spot-check.md."""
    assert TOLERANCE_PPM == 20_000
    assert (most_bad(1000, 50, 0), most_bad(1000, 50, 1)) == (56, 89)
    assert nodes_to_draw(1000, 10) == 238
