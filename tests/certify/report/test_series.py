"""Series are thinned out without losing what an operator looks for: peaks, gaps and stretches of throttling."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from certify.report.series import GAP, ThrottleSpan, device_series, thinned
from certify.report.svg import _shortened
from certify.samples.rows import Rows
from certify.samples.table import figures
from tests.bench.fleet import simulate_node
from tests.certify.report.campaign import HEAT, POWER_CAP

SECOND = 10**9


def series(values: list[int], step_ns: int = SECOND) -> NDArray[np.int64]:
    return np.array([(place * step_ns, value) for place, value in enumerate(values)], np.int64).reshape(-1, 2)


@given(st.lists(st.integers(0, 10**6), max_size=3000), st.integers(1, 200))
def test_every_peak_of_every_column_stays(values: list[int], columns: int) -> None:
    whole = series(values)
    thin = thinned(whole, columns)
    assert len(thin) <= max(2, 2 * columns + 2, min(len(values), 2 * columns))
    if values:
        assert (thin[:, 1].min(), thin[:, 1].max()) == (min(values), max(values))
        assert thin[0, 0] == 0
        assert thin[-1, 0] == whole[-1, 0]
        assert (np.diff(thin[:, 0]) >= 0).all()
        known = {tuple(row) for row in whole.tolist()}
        assert all(tuple(row) in known for row in thin.tolist())


def test_a_plateau_is_its_two_ends() -> None:
    assert thinned(series([5] * 1000 + [6] * 1000)).tolist() == [
        [0, 5],
        [999 * SECOND, 5],
        [1000 * SECOND, 6],
        [1999 * SECOND, 6],
    ]


def test_a_long_time_without_a_reading_breaks_the_line() -> None:
    whole = series([7] * 500)
    whole[250:, 0] += 100 * SECOND
    thin = thinned(whole)
    assert thin[:, 1].tolist() == [7, 7, GAP, 7, 7]
    assert thin[1:4, 0].tolist() == [249 * SECOND, 350 * SECOND, 350 * SECOND]


def rows_of(script: dict[str, object]) -> Rows:
    simulated = simulate_node({"noise_ppm": 0, **script}, 1, precisions=("fp16",))
    return next(iter(figures(simulated.samples, Path("samples"))))


def test_throttling_is_stretches_with_their_cause_and_its_share_of_the_clock() -> None:
    rows = rows_of({"throttle": [POWER_CAP | {"to_s": 30.0}, HEAT]})
    seen = device_series(rows, 65 * SECOND, 1_800)
    assert seen.throttled is not None
    assert [span.cause for span in seen.throttled] == ["power", "thermal"]
    for span, (begin, end) in zip(seen.throttled, ((20, 30), (30, 50)), strict=True):
        assert abs(span.from_ns / 1e9 - begin) < 2
        assert abs(span.until_ns / 1e9 - end) < 2
    assert seen.utilisation_ppm == 10**6
    # 45 MHz below the highest clock all the time without a reason; 256 for 10 s by power, 396 for 20 s by heat
    assert set(seen.clock_causes) == {"power", "thermal", "unreported"}
    assert sum(seen.clock_causes.values()) in range(999_990, 1_000_001)
    assert seen.clock_causes["thermal"] > 2 * seen.clock_causes["power"]


def test_a_device_that_throttles_for_moments_is_drawn_in_few_stretches() -> None:
    moments = [{"from_s": at, "to_s": at + 0.6, "rate_ppm": 900_000} for at in range(0, 60, 2)]
    seen = device_series(rows_of({"throttle": moments}), 65 * SECOND, 1_800, columns=10)
    assert seen.throttled is not None
    assert 1 <= len(seen.throttled) <= 20
    assert all(isinstance(span, ThrottleSpan) for span in seen.throttled)


def test_what_was_not_read_is_not_there() -> None:
    seen = device_series(rows_of({"telemetry": False}), 65 * SECOND, 1_800)
    assert (seen.readings, seen.throttled, seen.utilisation_ppm, seen.clock_causes) == ({}, None, None, {})
    assert len(seen.warmup_rates)


@given(st.lists(st.tuples(st.floats(0, 400), st.floats(0, 400)), min_size=2, max_size=50))
def test_a_shortened_path_is_the_path_to_a_twentieth_of_a_pixel(points: list[tuple[float, float]]) -> None:
    path = "".join(f"{'ML'[bool(place)]} {x:.6f} {y:.6f} \n" for place, (x, y) in enumerate(points))
    numbers = [float(one) for one in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", _shortened(path))]
    steps = np.array(numbers).reshape(-1, 2)
    drawn = np.cumsum(steps, axis=0)
    wanted = np.round(np.array(points), 1)
    keep = np.concatenate(([True], (np.diff(wanted, axis=0) != 0).any(axis=1)))
    assert drawn.shape[0] <= keep.sum() + 1
    assert np.abs(drawn[-1] - points[-1]).max() <= 0.051


def test_curves_and_closed_paths_stay_as_they_are() -> None:
    assert _shortened("M 0 1.5 \nC 1 2 3 4 5 6 \nz\n") == "M 0 1.5 C 1 2 3 4 5 6 z"
