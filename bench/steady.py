"""Trends of the warm-up (R6), which are notes: pure, fed with numbers, never with a device.

A quantity has a trend if its change over the later half of the samples is both larger than the profile allows and
larger than independent noise explains (Mann-Kendall test). Honest series are correlated, so that no figure is held for
it: whether a figure is steady is judged on its own window (`bench.record.window_trend`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from math import sqrt
from statistics import median
from typing import get_args

from bench.record import SteadyState
from bench.record.node import WarmupEnd

STEADY: WarmupEnd = "steady"
MAX_POINTS = 40  # longer series are reduced to medians of blocks: the test is quadratic
SIGNIFICANT_Z = 2.576  # two-sided 99 %
REASONS: tuple[WarmupEnd, ...] = get_args(WarmupEnd)


class SteadyTest:
    """Decides from samples of throughput, clock and temperature which of them shows a trend.

    Args:
        limits: how much change over the later samples still counts as none.
    """

    def __init__(self, limits: SteadyState) -> None:
        self._limits = limits
        self._rate: list[float] = []
        self._clock: list[float] = []
        self._temperature: list[float] = []

    def add(self, rate: float, clock_mhz: float | None = None, temperature_c: float | None = None) -> None:
        """Take one sample: throughput in any unit, clock in MHz, temperature in degrees C; None where unknown."""
        self._rate.append(rate)
        if clock_mhz is not None:
            self._clock.append(clock_mhz)
        if temperature_c is not None:
            self._temperature.append(temperature_c)

    def reason(self) -> WarmupEnd:
        """Return "steady", or which quantity still shows a trend (the first of throughput, clock, temperature)."""
        limits = self._limits
        if len(self._rate) < limits.min_samples:
            return "too-few-samples"
        if self._trends(self._rate, limits.max_rate_trend_ppm):
            return "rate-trend"
        if self._trends(self._clock, limits.max_clock_trend_ppm):
            return "clock-trend"
        if self._trends(self._temperature, None):
            return "temperature-trend"
        return STEADY

    def _trends(self, series: list[float], limit_ppm: int | None) -> bool:
        if len(series) < self._limits.min_samples:
            return False  # not exposed by this device
        # The later half: a device that warms up first and is steady then has no trend.
        later = series[-max(self._limits.min_samples, len(series) // 2) :]
        points = blocks(later, MAX_POINTS)
        limit = self._limits.max_temperature_trend_c if limit_ppm is None else abs(median(later)) * limit_ppm / 1e6
        return abs(change(points)) > limit and abs(trend_z(points)) > SIGNIFICANT_Z


def blocks(series: Sequence[float], most: int) -> list[float]:
    """Return at most `most` medians of consecutive blocks of a series."""
    size = -(-len(series) // most)
    return [median(series[i : i + size]) for i in range(0, len(series), size)]


def change(series: Sequence[float]) -> float:
    """Return the change from the first to the last of a series by its Theil-Sen slope (the median of all slopes)."""
    slopes = [(b - a) / (j - i) for (i, a), (j, b) in combinations(enumerate(series), 2)]
    return median(slopes) * (len(series) - 1) if slopes else 0.0


def trend_z(series: Sequence[float]) -> float:
    """Return the normal score of the Mann-Kendall trend test, corrected for ties; 0 where nothing changes."""
    n = len(series)
    score = sum((b > a) - (b < a) for a, b in combinations(series, 2))
    ties = sum(t * (t - 1) * (2 * t + 5) for t in Counter(series).values())
    variance = (n * (n - 1) * (2 * n + 5) - ties) / 18
    if variance <= 0 or score == 0:
        return 0.0
    return (score - (1 if score > 0 else -1)) / sqrt(variance)
