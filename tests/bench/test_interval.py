"""R9 against an independent computation with 60 decimal digits, edge cases, coverage on simulated series; and R6."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal, localcontext
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.record import Bounds, throughput_bounds, window_trend


def by_decimal(work_mflop: int, x: list[int]) -> tuple[int, int, int | None]:
    """R9 as it is written, in 60-digit decimals."""
    with localcontext() as context:
        context.prec = 60
        total = Decimal(sum(x))
        mean = total / 30
        d = sum((value - mean) ** 2 for value in map(Decimal, x))
        c = sum((Decimal(a) - mean) * (Decimal(b) - mean) for a, b in pairwise(x))
        rho = max(Decimal(0), c / d) if d else Decimal(0)
        rho = min(Decimal("0.9"), rho + (1 + 4 * rho) / 30)
        f = (1 + rho) / (1 - rho)
        h = Decimal("1.699127") * (30 * d * f / 29).sqrt()
        work = Decimal(work_mflop) * 10**9
        ceil_h = h.to_integral_value(ROUND_CEILING)
        upper = None if ceil_h >= total else int((work / (total - h)).to_integral_value(ROUND_CEILING))
        return int(work // total), int(work // (total + ceil_h)), upper


@given(
    st.integers(0, 10**15),
    st.integers(10**6, 2 * 10**10),
    st.lists(st.integers(0, 10**8), min_size=30, max_size=30),
)
def test_agrees_with_sixty_digits(work_mflop: int, least: int, over: list[int]) -> None:
    x = [least + value for value in over]
    assert throughput_bounds(work_mflop, x)[:3] == by_decimal(work_mflop, x)


def test_a_constant_series_has_no_width() -> None:
    assert throughput_bounds(30, [10**9] * 30) == Bounds(1, 1, 1, 0)


def test_an_unbounded_upper_is_none() -> None:
    bounds = throughput_bounds(10**6, [1] * 15 + [10**9] * 15)
    assert bounds.upper_mflop_s is None
    assert bounds.certified_mflop_s < bounds.sustained_mflop_s
    assert bounds.autocorrelation_ppm == 900_000


def test_order_matters_only_through_autocorrelation() -> None:
    trend = [10**9 + i * 10**6 for i in range(30)]
    mixed = trend[::2] + trend[1::2][::-1]
    assert throughput_bounds(10**9, trend).sustained_mflop_s == throughput_bounds(10**9, mixed).sustained_mflop_s
    alternating = [value for pair in zip(trend[:15], trend[15:][::-1], strict=True) for value in pair]
    assert throughput_bounds(10**9, trend).certified_mflop_s < throughput_bounds(10**9, alternating).certified_mflop_s


@pytest.mark.parametrize("x", [[10**9] * 29, [10**9] * 31, [10**9] * 29 + [0], [], [10**9] * 29 + [-1]])
def test_anything_but_thirty_positive_times_is_refused(x: list[int]) -> None:
    with pytest.raises(ValueError, match="30 positive"):
        throughput_bounds(1, x)


def test_negative_work_is_refused() -> None:
    with pytest.raises(ValueError, match="work"):
        throughput_bounds(-1, [1] * 30)


@pytest.mark.parametrize("rho", [0.0, 0.2, 0.3, 0.5])
def test_coverage_on_autocorrelated_noise(rho: float) -> None:
    """The true rate lies above `certified`, and below `upper`, in 93 to 97 % of 6,000 simulated windows."""
    random = np.random.default_rng(20260301)
    series = 6_000
    noise = random.standard_normal((series, 130))
    ar = np.zeros_like(noise)
    for step in range(1, 130):
        ar[:, step] = rho * ar[:, step - 1] + noise[:, step]
    times = (1e9 * (1 + 0.01 * ar[:, -30:] * np.sqrt(1 - rho**2))).astype(np.int64)
    true_rate = 10**9
    bounds = [throughput_bounds(30 * true_rate, row) for row in times.tolist()]
    above_lower = sum(b.certified_mflop_s <= true_rate for b in bounds) / series
    below_upper = sum(b.upper_mflop_s is not None and b.upper_mflop_s >= true_rate for b in bounds) / series
    assert 0.93 <= above_lower <= 0.97
    assert 0.93 <= below_upper <= 0.97


def trend(x: list[int], most: int) -> str | None:
    return window_trend(min(x), [value - min(x) for value in x], most)


def line(first: int, step: int) -> list[int]:
    return [first + i * step for i in range(30)]


def bounds_of_r6(x: list[int]) -> tuple[Fraction, Fraction]:
    """Return 600 T / 31 S and (6 T / 31 h)^2: a rate falls where they exceed p and c^2."""
    t, total = sum((2 * i - 29) * value for i, value in enumerate(x)), sum(x)
    away = [Fraction(value) - Fraction(total, 30) for value in x]
    d, c = sum((a * a for a in away), Fraction()), sum((a * b for a, b in pairwise(away)), Fraction())
    positive = max(c / d, Fraction())
    rho = min(Fraction(9, 10), positive + (1 + 4 * positive) / 30)
    h_squared = Fraction(1_699_127, 10**6) ** 2 * 30 * d * (1 + rho) / (1 - rho) / 29
    return Fraction(600 * t, 31 * total), Fraction(36 * t * t, 961) / h_squared


# A line whose fall is exactly p %: 600 T = 31 S p with T = 4495 step and S = 30 first + 435 step.
EXACTLY = {1: line(1_789_010_000, 620_000), 2: line(890_010_000, 620_000)}


@pytest.mark.parametrize("most", [1, 2])
def test_r6_the_bound_in_percent_is_exact_to_one_nanosecond(most: int) -> None:
    x = EXACTLY[most]
    assert bounds_of_r6(x)[0] == most
    assert trend(x, most) is None
    assert trend([*x[:-1], x[-1] + 1], most) == "falling"
    assert trend([*x[:-1], x[-1] - 1], most) is None
    rise = [2 * (sum(x) // 30) - value for value in x]  # the same line, mirrored
    assert bounds_of_r6(rise)[0] == -most
    assert trend(rise, most) is None
    assert trend([*rise[:-1], rise[-1] - 1], most) == "rising"


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("most", [1, 2])
def test_r6_the_bound_of_the_noise_is_exact_to_one_nanosecond(most: int, sign: int) -> None:
    """A longer and longer time in the middle is noise and no trend: at some length a fall of 5 % does not stand out."""
    calm = line(10**9, sign * 1_700_000)

    def disturbed(by_ns: int) -> list[int]:
        return [*calm[:15], calm[15] + by_ns, *calm[16:]]

    stands_out, drowned = 0, 10**9
    while drowned - stands_out > 1:
        middle = (stands_out + drowned) // 2
        stands_out, drowned = (middle, drowned) if trend(disturbed(middle), most) else (stands_out, middle)
    assert trend(disturbed(stands_out), most) == ("falling" if sign > 0 else "rising")
    assert trend(disturbed(drowned), most) is None
    before, after = bounds_of_r6(disturbed(stands_out)), bounds_of_r6(disturbed(drowned))
    assert before[1] > most**2 >= after[1]
    assert min(abs(before[0]), abs(after[0])) > most


def test_r6_either_bound_alone_is_not_enough() -> None:
    small = line(10**9, 170_000)  # 0.5 %, and no noise
    assert bounds_of_r6(small)[1] > 1
    assert trend(small, 1) is None
    wild = [value + 400_000_000 * (10 <= i < 20) for i, value in enumerate(line(10**9, 1_700_000))]
    assert bounds_of_r6(wild)[0] > 2
    assert trend(wild, 1) is None


def test_r6_a_constant_series_has_no_trend() -> None:
    assert trend([10**9] * 30, 1) is None
    assert trend([1] * 30, 2) is None


@given(
    st.integers(1, 2 * 10**10),
    st.integers(-(10**8), 10**8),
    st.lists(st.integers(0, 10**8), min_size=30, max_size=30),
    st.integers(1, 2),
)
def test_r6_agrees_with_fractions(least: int, step: int, noise: list[int], most: int) -> None:
    x = [value + i * step for i, value in enumerate(noise)]
    x = [value - min(x) + least for value in x]
    if len(set(x)) == 1:
        return
    percent, noises = bounds_of_r6(x)
    beyond = abs(percent) > most and noises > most**2
    assert trend(x, most) == (("falling" if percent > 0 else "rising") if beyond else None)
