"""R8 and R9 from their text, in exact fractions: the rates of one window from its 30 sub-window times."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import count, pairwise
from math import ceil, isqrt
from typing import NamedTuple

N = 30
T = Fraction(1_699_127, 10**6)  # one-sided 95 % quantile of Student's t, 29 degrees of freedom
NS_PER_S = 10**9


class Interval(NamedTuple):
    """A window's rates and every step to them: times in ns, rates in MFLOP/s. `upper` is None where S <= h."""

    work_mflop: int  # W
    sum_ns: int  # S
    squares: Fraction  # D, ns^2
    rho: Fraction  # lag-1 autocorrelation
    rho_used: Fraction  # rho', raised for its bias and capped
    factor: Fraction  # f
    square_of_h: Fraction  # ns^2
    half_ns: int  # h, rounded up
    sustained_mflop_s: int
    certified_mflop_s: int
    upper_mflop_s: int | None


def interval(work_mflop: int, times_ns: Sequence[int]) -> Interval:
    """Return the rates of a window (R8, R9).

    Args:
        work_mflop: all work of the window, MFLOP.
        times_ns: host time of each of the 30 consecutive sub-windows, ns.

    Raises:
        ValueError: there are not 30 positive times.
    """
    if len(times_ns) != N or min(times_ns) <= 0:
        raise ValueError("R9 needs 30 positive times")
    total = sum(times_ns)
    away = [x - Fraction(total, N) for x in times_ns]
    squares = sum((a * a for a in away), Fraction())
    lagged = sum((a * b for a, b in pairwise(away)), Fraction())
    rho = lagged / squares if squares else Fraction()
    positive = max(Fraction(), rho)
    used = min(Fraction(9, 10), positive + (1 + 4 * positive) / N)
    factor = (1 + used) / (1 - used)
    square_of_h = T * T * N * squares * factor / (N - 1)
    least = ceil(square_of_h)  # an integer's square is at least h^2 from here on
    half = isqrt(least - 1) + 1 if least else 0
    work = work_mflop * NS_PER_S
    return Interval(
        work_mflop,
        total,
        squares,
        rho,
        used,
        factor,
        square_of_h,
        half,
        work // total,
        work // (total + half),
        _upper(work, total, square_of_h) if half < total else None,
    )


def change(times_ns: Sequence[int]) -> Fraction:
    """Return by which part of their mean the least-squares line through the times rises, from the first to the last."""
    middle, mean = Fraction(N - 1, 2), Fraction(sum(times_ns), N)
    shared = sum(((i - middle) * (x - mean) for i, x in enumerate(times_ns)), Fraction())
    slope = shared / sum(((i - middle) ** 2 for i in range(N)), Fraction())
    return (N - 1) * slope / mean


def _upper(work: int, total: int, square_of_h: Fraction) -> int:
    """Return the least integer that is at least work / (total - h).

    Where h is irrational so is the quotient, and two decimals that close in on h give one integer at last.
    """
    root = Fraction(isqrt(square_of_h.numerator), isqrt(square_of_h.denominator))
    if root * root == square_of_h:
        return ceil(work / (total - root))
    for scale in (10**digits for digits in count(9, 9)):
        below = isqrt(square_of_h.numerator * scale * scale // square_of_h.denominator)
        low, high = Fraction(below, scale), Fraction(below + 1, scale)
        if high < total and (least := ceil(work / (total - low))) == ceil(work / (total - high)):
            return least
    raise AssertionError
