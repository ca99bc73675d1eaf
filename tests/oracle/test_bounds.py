"""R9 in two ways: exact fractions against scaled integers. The oracle borrows nothing from the product's judges."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.record import throughput_bounds
from certify.policy.reasons import effect_of, reasons
from tests.importing import imports
from tests.oracle import bounds
from tests.oracle.judging import CODES, RECOMPUTED

ROOM = Path(bounds.__file__).parent
FORBIDDEN = (  # modules and names of the product that judge or compute
    "certify.judge",
    "certify.policy.verdicts",
    "certify.samples.observed",
    "certify.samples.rebuild",
    "certify.samples.telemetry",
    "bench.record.interval",
    *(
        f"bench.record.{name}"
        for name in ("throughput_bounds", "bounds_above", "bounds_of", "spread_above", "window_trend")
    ),
)
ALLOWED = ("certify.policy.verdicts.Verdict",)  # the type of what is compared
times = st.integers(1, 2 * 10**10)


def test_the_room_borrows_no_arithmetic() -> None:
    for path in sorted(path for path in ROOM.glob("*.py") if not path.name.startswith("test_")):
        for name in (one.name for one in imports(path.read_text(), f"tests/oracle/{path.name}")):
            borrowed = any(f"{name}.".startswith(f"{one}.") for one in FORBIDDEN)
            assert not borrowed or name in ALLOWED, f"{path.name} imports {name}"


@settings(max_examples=300)
@given(st.integers(0, 10**13), st.lists(times, min_size=30, max_size=30), st.integers(0, 10**6))
def test_fractions_and_integers_give_one_interval(work: int, x: list[int], spread: int) -> None:
    for series in (x, [10**8 + value % (spread + 1) for value in x]):
        mine, theirs = bounds.interval(work, series), throughput_bounds(work, series)
        assert (mine.sustained_mflop_s, mine.certified_mflop_s, mine.upper_mflop_s) == theirs[:3]
        assert mine.rho * 10**6 // 1 == theirs.autocorrelation_ppm


@pytest.mark.parametrize("series", [[7] * 30, [1] * 15 + [2] * 15, [1, 3] * 15, [5] * 29 + [10**9]])
def test_intervals_at_the_edges(series: list[int]) -> None:
    for work in (0, 1, 3, 10**9):
        mine, theirs = bounds.interval(work, series), throughput_bounds(work, series)
        assert (mine.sustained_mflop_s, mine.certified_mflop_s, mine.upper_mflop_s) == theirs[:3]


@pytest.mark.parametrize("series", [[1] * 29, [1] * 31, [0] + [1] * 29, [-1] + [1] * 29])
def test_what_is_no_window(series: list[int]) -> None:
    with pytest.raises(ValueError, match="R9"):
        bounds.interval(1, series)


def test_every_code_that_is_made_anew_is_one_of_a_figure() -> None:
    assert sum(map(len, RECOMPUTED.values())) == len(CODES)
    for code in CODES:
        assert effect_of(code) in ("note", "hold", "void")
        assert code in reasons()
