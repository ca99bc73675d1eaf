from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from bench.record import SteadyState
from bench.steady import REASONS, SteadyTest, blocks, change, trend_z

LIMITS = SteadyState(min_samples=20, max_rate_trend_ppm=10_000, max_clock_trend_ppm=10_000, max_temperature_trend_c=2)


def judged(
    rate: Callable[[int], float],
    clock: Callable[[int], float | None],
    temperature: Callable[[int], float | None],
    samples: int = 120,
) -> str:
    test = SteadyTest(LIMITS)
    for i in range(samples):
        test.add(rate(i), clock(i), temperature(i))
    return test.reason()


def flat(value: float) -> Callable[[int], float]:
    return lambda i: value


def nothing(i: int) -> None:
    return None


def test_constant_series_are_steady() -> None:
    assert judged(flat(300), flat(1755), flat(62)) == "steady"


def test_quantities_that_are_not_exposed_do_not_count() -> None:
    assert judged(flat(300), nothing, nothing) == "steady"


def test_too_few_samples_are_no_proof() -> None:
    assert judged(flat(300), nothing, nothing, samples=19) == "too-few-samples"


def test_a_ramp_of_the_rate_is_a_trend() -> None:
    assert judged(lambda i: 300 - 0.1 * i, flat(1755), flat(62)) == "rate-trend"


def test_a_ramp_that_has_ended_is_none() -> None:
    assert judged(lambda i: 300 + 2 * max(0, 50 - i), flat(1755), flat(62)) == "steady"


def test_a_falling_clock_is_a_trend_though_the_rate_holds() -> None:
    assert judged(flat(300), lambda i: 1755 - i, flat(62)) == "clock-trend"


def test_a_rising_temperature_in_whole_degrees_is_a_trend() -> None:
    assert judged(flat(300), flat(1755), lambda i: 40 + i // 12) == "temperature-trend"


def test_one_degree_up_and_down_is_none() -> None:
    assert judged(flat(300), flat(1755), lambda i: 62 + i % 2) == "steady"


def test_a_small_but_certain_trend_is_within_the_limit() -> None:
    assert judged(lambda i: 300 + 0.01 * i, flat(1755), flat(62)) == "steady"


def test_noise_alone_is_rarely_called_a_trend() -> None:
    random = Random(7)
    wrong = sum(judged(lambda i: random.gauss(300, 15), nothing, nothing) != "steady" for _ in range(200))
    assert wrong <= 8  # the test's level is 1 %


def test_a_trend_is_found_under_noise() -> None:
    random = Random(7)
    found = sum(judged(lambda i: random.gauss(300 - 0.5 * i, 6), nothing, nothing) == "rate-trend" for _ in range(50))
    assert found >= 49


def test_one_stalled_sample_does_not_hide_or_make_a_trend() -> None:
    assert judged(lambda i: 3 if i == 119 else 300, nothing, nothing) == "steady"
    assert judged(lambda i: 3 if i == 90 else 300 - 0.1 * i, nothing, nothing) == "rate-trend"


def test_reasons_are_those_of_the_record() -> None:
    assert REASONS == ("steady", "rate-trend", "clock-trend", "temperature-trend", "too-few-samples")


@pytest.mark.parametrize(("series", "expected"), [([5.0], 0.0), ([1.0, 2.0, 3.0], 2.0), ([3.0, 3.0, 9.0, 3.0], 0.0)])
def test_change_is_the_median_slope_over_the_whole_length(series: list[float], expected: float) -> None:
    assert change(series) == pytest.approx(expected)


def test_mann_kendall_of_published_extremes() -> None:
    rising = [float(i) for i in range(10)]
    assert trend_z(rising) == pytest.approx(44 / 125**0.5)  # S = 45, Var = 10 9 25 / 18 = 125
    assert trend_z(rising[::-1]) == pytest.approx(-44 / 125**0.5)
    assert trend_z([1.0] * 10) == 0.0


def test_blocks_are_medians() -> None:
    assert blocks([1, 2, 9, 4, 4, 4, 7], 3) == [2, 4, 7]
