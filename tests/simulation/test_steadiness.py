"""The table of docs/run-rules.md on R6 against other runs, and what a window that counts may exceed its own end by."""

from __future__ import annotations

import re
from math import exp, lgamma
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from bench.record import Grade
from certify.judge.timing import MOST_TREND
from tests.simulation.steadiness import RUNS, SEED, SERIES, WINDOWS, simulate, windows

DOCS = (Path(__file__).parents[2] / "docs" / "run-rules.md").read_text()
UNLIKELY = 1e-5  # of one side of one cell: of 40 sides, once in 2,500 changes of the seed
MOST_EXCESS = 0.005


def log_comb(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def chance(k: int, n: int, listed: int, of: int) -> float:
    """Return how likely a count as far off as k of n is, beside `listed` of `of` (Fisher's exact test, one side)."""
    both = k + listed

    def of_exactly(j: int) -> float:
        return exp(log_comb(n, j) + log_comb(of, both - j) - log_comb(n + of, both))

    return min(
        sum(map(of_exactly, range(max(0, both - of), k + 1))),
        sum(map(of_exactly, range(k, min(n, both) + 1))),
    )


def listed(name: str) -> dict[Grade, int]:
    """Return how many of `RUNS` windows of a series are held by the documentation."""
    (row,) = re.findall(rf"^\| {re.escape(name)} \|(.*)\|$", DOCS, re.M)
    cells = row.split("|")
    return {grade: round(float(cell) * RUNS / 100) for grade, cell in zip(WINDOWS, cells[::2], strict=True)}


@pytest.mark.parametrize(("runs", "seed"), [(400, 1), pytest.param(10_000, 2, marks=pytest.mark.long)])
def test_the_table_of_the_documentation_holds_for_other_runs(runs: int, seed: int) -> None:
    assert seed != SEED
    for series in SERIES:
        for grade, held in listed(series.name).items():
            seen = simulate(series, grade, runs, seed)
            assert chance(seen.held, runs, held, RUNS) > UNLIKELY, (series.name, grade, seen, held)
            if not series.fall:  # what has no direction rises as often as it falls
                assert chance(seen.rising, runs, held, RUNS) > UNLIKELY, (series.name, grade, seen, held)
            assert seen.excess is None or seen.excess <= MOST_EXCESS, (series.name, grade, seen)


def test_the_documentation_names_runs_and_seed() -> None:
    assert f"{RUNS:,} runs a cell, seed {SEED}" in DOCS
    assert len(re.findall(r"^\| .*\b(?:sd|falls) .*\|$", DOCS, re.M)) == len(SERIES)
    assert RUNS >= 2_000


def test_a_share_that_differs_is_told_from_one_that_does_not() -> None:
    assert chance(4, 400, 100, 10_000) > 0.1
    assert chance(30, 400, 100, 10_000) < UNLIKELY
    assert chance(0, 400, 500, 10_000) < UNLIKELY
    assert chance(0, 400, 0, 10_000) == pytest.approx(1)
    assert chance(399, 400, 10_000, 10_000) > UNLIKELY


def test_series_have_the_noise_the_swing_and_the_fall_of_their_names() -> None:
    for series in SERIES:
        sd, rho = (float(x) for x in re.findall(r"(?:sd|rho) ([\d.]+)", series.name))
        rates = series.rates(400, 1_200, np.random.default_rng(3))
        if not series.hall:
            noise = rates / rates.mean(1, keepdims=True) - 1
            lagged = (noise[1:] * noise[:-1]).mean() / (noise**2).mean()
            assert noise.std() == pytest.approx(sd / 100, rel=0.1), series.name
            assert lagged == pytest.approx(rho, abs=0.05), series.name
        first, last = rates[0].mean(), rates[-1].mean()
        assert first - last == pytest.approx(series.fall + series.cold * exp(-1), abs=0.003), series.name


def test_windows_last_as_long_as_they_are_called() -> None:
    for grade, units in WINDOWS.items():
        (times,) = windows(SERIES[0], units, 1, np.random.default_rng(1))
        assert sum(times) / 1e9 == pytest.approx(units * 0.55, rel=0.01)
        assert grade in get_args(Grade)
    assert {grade for grade in MOST_TREND if grade is not None} == set(WINDOWS)
