from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from bench.reference.checks import PARTS, draw_checks, final_seed, probe_seed

CHALLENGE = "00112233445566778899aabbccddeeff"


def test_the_draw_is_reproducible_and_bound_to_all_that_it_is_for() -> None:
    base = draw_checks(CHALLENGE, "cuda:0", "fp16", 2, 2)
    assert draw_checks(CHALLENGE, "cuda:0", "fp16", 2, 2) == base
    others = [
        draw_checks("f" * 32, "cuda:0", "fp16", 2, 2),
        draw_checks(CHALLENGE, "cuda:1", "fp16", 2, 2),
        draw_checks(CHALLENGE, "cuda:0", "fp64", 2, 2),
    ]
    assert all(other != base for other in others)


def test_the_draw_never_changes_between_versions() -> None:
    checks = draw_checks(CHALLENGE, "cpu:0", "fp64", 2, 1)
    assert [check.operand_set for check in checks] == GOLDEN_SETS
    assert [check.at_parts for check in checks] == GOLDEN_PARTS


GOLDEN_SETS = [1, 0]
GOLDEN_PARTS = [11531, 40601]


@pytest.mark.parametrize(("sets", "per_set"), [(2, 1), (2, 4), (7, 2), (14, 2), (3, 9), (64, 1), (700, 1)])
def test_every_set_is_checked_equally_often_in_order_of_time_within_the_window(sets: int, per_set: int) -> None:
    checks = draw_checks(CHALLENGE, "fake:0", "fp16", sets, per_set)
    assert set(Counter(check.operand_set for check in checks).values()) == {per_set}
    assert len({check.operand_set for check in checks}) == sets
    places = [check.at_parts for check in checks]
    assert places == sorted(places)
    assert places[0] >= 0
    assert places[-1] < PARTS * 28 // 30


@pytest.mark.parametrize(("total", "apart"), [(2, 2), (8, 2), (14, 2), (15, 1), (28, 1)])
def test_no_two_fall_into_one_subwindow_while_that_can_be_avoided(total: int, apart: int) -> None:
    for device in range(50):
        checks = draw_checks(CHALLENGE, f"fake:{device}", "fp16", total, 1)
        subwindows = [check.at_parts * 30 // PARTS for check in checks]
        assert min(b - a for a, b in pairwise(subwindows)) >= apart


def test_one_seed_for_each_set_and_another_for_the_host() -> None:
    checks = draw_checks(CHALLENGE, "fake:0", "fp16", 3, 4)
    for check in checks:
        assert check.seed == probe_seed(CHALLENGE, "fake:0", "fp16", check.operand_set)
    seeds = {check.seed for check in checks} | {final_seed(CHALLENGE, "fake:0", "fp16")}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)
