"""R9 against an independent computation with 60 decimal digits, edge cases, and its coverage on simulated series."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal, localcontext
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.record import Bounds, throughput_bounds


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
