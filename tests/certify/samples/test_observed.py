"""What readings come to: unknown is None, never less than nothing."""

from __future__ import annotations

import pytest

from certify.samples.observed import Observed, watched
from certify.samples.rebuild import _at_least

SECOND = 10**9


def seen(**readings: list[tuple[int, int]]) -> Observed:
    return Observed((), readings, (), (), ())


@pytest.mark.parametrize(("processes", "expected"), [([], None), ([(1, 0)], 0), ([(1, 1)], 0), ([(1, 3), (2, 1)], 2)])
def test_others_on_the_device(processes: list[tuple[int, int]], expected: int | None) -> None:
    assert watched(seen(processes=processes), SECOND).others_seen == expected


@pytest.mark.parametrize(
    ("errors", "expected"), [([], None), ([(1, 5)], 0), ([(1, 5), (2, 7)], 2), ([(1, 5), (2, 1)], 1)]
)
def test_new_errors(errors: list[tuple[int, int]], expected: int | None) -> None:
    assert watched(seen(ecc_uncorrected=errors), SECOND).ecc_seen == expected


@pytest.mark.parametrize(
    ("stated", "shown", "expected"),
    [(None, None, None), (None, 0, None), (None, 2, 2), (0, None, None), (3, None, 3), (0, 0, 0), (1, 4, 4), (4, 1, 4)],
)
def test_a_count_that_also_rests_on_a_reading_before(
    stated: int | None, shown: int | None, expected: int | None
) -> None:
    assert _at_least(stated, shown) == expected


def test_sums_are_exact_whatever_their_size() -> None:
    huge = [(i, 10**17 + i) for i in range(200)]
    assert watched(seen(power_mw=huge), SECOND).power_mean_mw == sum(value for _, value in huge) // 200
