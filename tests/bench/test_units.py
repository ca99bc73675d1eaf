"""What people see is truncated, never rounded up; times have exactly one form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.units import (
    gemm_mflop,
    percent_text,
    pflops_text,
    rate_text,
    ratio_ppm,
    shortened_list,
    size_text,
    truncated,
    utc_ns,
    utc_text,
)


def test_no_file_has_the_size_0_mb() -> None:
    assert [size_text(size) for size in (1, 37_500, 999_999, 10**6, 15 * 10**6)] == [
        *("1 KB", "38 KB", "1000 KB", "1.0 MB", "15.0 MB")
    ]


def test_1999_96_never_prints_2000() -> None:
    assert pflops_text(1_999_960_000_000) == "1,999.9"
    assert pflops_text(1_999_999_999_999, 3) == "1,999.999"
    assert pflops_text(2_000_000_000_000) == "2,000.0"


@given(st.integers(-(10**15), 10**15), st.sampled_from([1, 10, 10**6, 10**9]), st.integers(0, 6))
def test_truncation_never_moves_away_from_zero(value: int, per: int, decimals: int) -> None:
    text = truncated(value, per, decimals).replace(",", "")
    sign, _, digits = text.rpartition("-")
    whole, _, rest = digits.partition(".")
    shown = int(whole + rest) if decimals else int(whole)
    assert shown == abs(value) * 10**decimals // per
    assert (sign == "" and text[0] != "-") == (value >= 0)


def test_rates_use_the_largest_unit_that_fits() -> None:
    assert rate_text(2_310_100_000_000) == "2,310.100 PFLOPS"
    assert rate_text(66_900_000) == "66.900 TFLOPS"
    assert rate_text(35_123) == "35.123 GFLOPS"
    assert rate_text(12) == "12 MFLOPS"
    assert rate_text(0) == "0 MFLOPS"
    assert rate_text(None) == "n/a"


def test_work_is_truncated_once_per_window() -> None:
    assert gemm_mflop(100, 100, 100, 1) == 2
    assert gemm_mflop(99, 99, 99, 1000) == 1940
    assert 1000 * gemm_mflop(99, 99, 99, 1) == 1000


def test_ratio_without_a_whole_is_none() -> None:
    assert ratio_ppm(1, 0) is None
    assert ratio_ppm(2, 3) == 666_666
    assert percent_text(666_666) == "66.6 %"
    assert percent_text(None) == "n/a"


@given(st.integers(0, 253402300799 * 10**6))
def test_times_go_round(microseconds: int) -> None:
    assert utc_ns(utc_text(microseconds * 1000)) == microseconds * 1000


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-01T08:00:00Z",
        "2026-03-01T08:00:00.000000+00:00",
        "2026-03-01 08:00:00.000000Z",
        "2026-3-1T08:00:00.000000Z",
        "2026-03-01T08:00:00.000Z",
        "2026-13-01T08:00:00.000000Z",
        "2026-02-29T08:00:00.000000Z",
        "2026-03-01T24:00:00.000000Z",
        "２026-03-01T08:00:00.000000Z",
        "2026-03-01T08:00:00.000000Z\n",
        "",
    ],
)
def test_any_other_form_of_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        utc_ns(text)


def test_some_of_many() -> None:
    assert shortened_list("abc") == "a, b, c"
    assert shortened_list("abcd") == "a, b, c and 1 more"
