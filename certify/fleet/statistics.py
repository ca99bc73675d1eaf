"""Statistics that a few bad values cannot move: limits of what is usual, two populations in one, exact tails.

Pure functions of numbers, in plain Python: a verifier needs no numpy. Why each limit is what it is: docs/fleet.md.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from statistics import NormalDist
from typing import NamedTuple

MILLION = 10**6
LEAST_VALUES = 6  # with fewer, nobody can tell an outlier from the spread
LEAST_Z = 3.5  # Iglewicz and Hoaglin, How to Detect and Handle Outliers (1993)
CHANCE = 0.05  # that a set of normal values of any size has an outlier
SMALL_SETS = 6  # the limit is (1 + SMALL_SETS / n) times as wide: the spread of few values is itself uncertain
LEAST_DISTANCE = 0.02  # of the median: what is nearer is no outlier, however narrow the rest is
MAD_TO_SIGMA = 1.4826
MEAN_TO_SIGMA = 1.2533  # of the mean absolute deviation
TRIMMED_TO_SIGMA = 1.521  # of the mean of the nine nearest tenths of the absolute deviations
LEAST_PART_DEVICES = 3
LEAST_PART_SHARE = 20  # a population is at least 1/20 of all
LEAST_SEPARATION = 4.0


class UsualRange(NamedTuple):
    """What is usual: everything from `low` to `high`."""

    median: float
    low: float
    high: float

    def side(self, value: float) -> int:
        """Return -1 for what is below the limits, 1 for what is above, else 0."""
        return (value > self.high) - (value < self.low)


def median(ascending: Sequence[float]) -> float:
    """Return the median of values in ascending order, of which there is at least one."""
    middle = len(ascending) // 2
    return ascending[middle] if len(ascending) % 2 else (ascending[middle - 1] + ascending[middle]) / 2


def limits(ascending: Sequence[float]) -> UsualRange | None:
    """Return the limits of values in ascending order; None where the median is not above 0.

    The half width is z times the scaled median absolute deviation, and at least `LEAST_DISTANCE` of the median. Where
    more than half of the values are equal, that deviation is 0 and the mean absolute deviation stands in for it.
    """
    n, centre = len(ascending), median(ascending)
    if centre <= 0:
        return None
    deviations = sorted(abs(value - centre) for value in ascending)
    sigma = MAD_TO_SIGMA * median(deviations) or MEAN_TO_SIGMA * math.fsum(deviations) / n
    z = max(LEAST_Z, NormalDist().inv_cdf(1 - CHANCE / (2 * n))) * (1 + SMALL_SETS / n)
    half = max(z * sigma, LEAST_DISTANCE * centre)
    return UsualRange(centre, centre - half, centre + half)


def two_populations(ascending: Sequence[int]) -> int | None:
    """Return how many of the values, in ascending order, are a lower population; None for one population.

    The cut is where the sum of distances to the two medians is least. It stands if the medians are far apart,
    compared with the spread within (`LEAST_SEPARATION`) and the whole (`LEAST_DISTANCE`), and a valley lies between.
    """
    n = len(ascending)
    least = max(LEAST_PART_DEVICES, -(-n // LEAST_PART_SHARE))
    if n < 2 * least:
        return None
    sums = [0, *accumulate(ascending)]

    def cost(first: int, end: int) -> int:
        half = (end - first) // 2
        return sums[end] - sums[end - half] - sums[first + half] + sums[first]

    def both(cut: int) -> int:
        return cost(0, cut) + cost(cut, n)

    cut = min(range(least, n - least + 1), key=both)
    if min(both(cut - 1), both(cut + 1)) < both(cut):  # the least is beyond: what was cut off is too small a part
        return None
    # Any set can be cut in two where its parts are tightest. Two populations are claimed only where the cut is wide by
    # three measures: against the whole, against the spread of each part, and with a valley between them.
    low, high = ascending[:cut], ascending[cut:]
    apart = median(high) - median(low)
    if apart <= LEAST_DISTANCE * median(ascending) or apart < LEAST_SEPARATION * max(_spread(low), _spread(high)):
        return None
    return cut if _has_valley(ascending, median(low), median(high)) else None


def _spread(ascending: Sequence[int]) -> float:
    """Return a part's standard deviation as if normal, a few strays aside; wider where it has few values."""
    n, centre = len(ascending), median(ascending)
    deviations = sorted(abs(value - centre) for value in ascending)[: n - n // 10]
    return TRIMMED_TO_SIGMA * math.fsum(deviations) / (len(deviations) - 1) * (1 + 2 / n)


def _has_valley(ascending: Sequence[int], low: float, high: float) -> bool:
    """Return whether fewer than half as many values lie midway between two medians as around the rarer of them."""
    reach = (high - low) / 6

    def near(centre: float) -> int:
        return bisect_right(ascending, centre + reach) - bisect_left(ascending, centre - reach)

    return 2 * near((low + high) / 2) < min(near(low), near(high))


def at_most(observed: int, population: int, bad: int, drawn: int) -> tuple[int, int]:
    """Return the hypergeometric P(X <= observed) as an exact numerator and denominator, not reduced.

    X is how many of `bad` items are among `drawn`, taken at random and not put back from a `population`.
    """
    small, large = sorted((bad, drawn))  # the distribution is symmetric in them, and small binomials are quick
    whole = math.comb(population, small)
    first = max(0, bad + drawn - population)
    if observed < first:
        return 0, whole
    term = total = math.comb(large, first) * math.comb(population - large, small - first)
    for i in range(first, min(observed, small)):
        term = term * (large - i) * (small - i) // ((i + 1) * (population - large - small + i + 1))
        total += term
    return total, whole


def difference_ppm(ratio: float) -> int:
    """Return how far a ratio is from 1, ppm."""
    return round((ratio - 1) * MILLION)
