"""R9 and R6: the throughput bounds of one window and its trend, in exact integers, from the 30 sub-window times.

Pure arithmetic that the harness and every verifier share; no I/O and no floating point may enter it.
The steps stand in ``docs/run-rules.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from operator import mul
from typing import Literal, NamedTuple

SUBWINDOWS = 30
FINE_BITS = 32
T_95_29_MILLIONTHS = 1_699_127  # one-sided 95 % quantile of Student's t, 29 degrees of freedom, times 10^6
_NUM = T_95_29_MILLIONTHS**2 * SUBWINDOWS
_DEN = 10**12 * (SUBWINDOWS - 1) * SUBWINDOWS**2
TREND_WEIGHTS = tuple(range(1 - SUBWINDOWS, SUBWINDOWS, 2))  # -29, -27 ... 29: their sum is 0

Trend = Literal["falling", "rising"]


class Bounds(NamedTuple):
    """Throughput of one window in MFLOP/s. `upper_mflop_s` is None where the spread allows no finite bound."""

    sustained_mflop_s: int
    certified_mflop_s: int
    upper_mflop_s: int | None
    autocorrelation_ppm: int


def throughput_bounds(work_mflop: int, subwindow_ns: Sequence[int]) -> Bounds:
    """Return sustained, lower (certified) and upper throughput of a window (R8, R9).

    Args:
        work_mflop: all work of the window, MFLOP.
        subwindow_ns: host time of each of the 30 consecutive sub-windows of equal launch count, ns.

    Raises:
        ValueError: there are not exactly 30 positive times, or the work is negative.
    """
    least = min(subwindow_ns, default=0)
    if len(subwindow_ns) != SUBWINDOWS or least <= 0 or work_mflop < 0:
        raise ValueError(f"R9 needs {SUBWINDOWS} positive sub-window times and work >= 0")
    return bounds_above(work_mflop, least, [x - least for x in subwindow_ns])


def bounds_above(work_mflop: int, least_ns: int, over_ns: Sequence[int]) -> Bounds:
    """Return the bounds of a window whose sub-windows took x_i = least_ns + over_ns[i], ns: the form of records."""
    return bounds_of(work_mflop, spread_above(least_ns, over_ns))


class WindowSpread(NamedTuple):
    """The steps of R9 before work is looked at: D = d / n^2, rho = c / d, rho' = p / q, h^2 = num / den."""

    total_ns: int  # S
    d: int
    c: int
    p: int
    q: int
    num: int
    den: int
    h_fine: int  # h in units of 2^-32 ns, truncated
    h_ceil_ns: int


def spread_above(least_ns: int, over_ns: Sequence[int]) -> WindowSpread:
    """Return S and h of a window whose sub-windows took x_i = least_ns + over_ns[i], ns."""
    n, e = SUBWINDOWS, over_ns
    rest = sum(e)
    total = n * least_ns + rest  # S; D and C do not depend on where the x_i begin
    # With y_i = n x_i - S (integers): n^2 D = sum y_i^2 and n^2 C = sum y_i y_{i+1}; rho = C / D.
    d = n * n * sum(map(mul, e, e)) - n * rest * rest
    c = n * n * sum(map(mul, e, e[1:])) - n * rest * (2 * rest - e[0] - e[-1]) + (n - 1) * rest * rest
    # rho' = min(0.9, rho+ + (1 + 4 rho+)/30) = p/q with rho+ = max(0, rho); f = (q + p)/(q - p).
    p, q = (34 * max(c, 0) + d, 30 * d) if d else (1, 30)
    if 10 * p > 9 * q:
        p, q = 9, 10
    # h^2 = t^2 * 30 * D * f / 29 = num/den, D = d / n^2.
    num = _NUM * d * (q + p)
    den = _DEN * (q - p)
    h_fine = isqrt((num << 2 * FINE_BITS) // den)
    h_floor = h_fine >> FINE_BITS
    h_ceil = h_floor if h_floor * h_floor * den == num else h_floor + 1
    return WindowSpread(total, d, c, p, q, num, den, h_fine, h_ceil)


def bounds_of(work_mflop: int, spread: WindowSpread) -> Bounds:
    """Return the bounds of a window with so much work, MFLOP."""
    total, d, c, _, _, num, den, h_fine, h_ceil = spread
    work = work_mflop * 10**9
    return Bounds(
        work // total,
        work // (total + h_ceil),
        _upper(work, total, num, den, h_fine) if h_ceil < total else None,
        c * 10**6 // d if d else 0,
    )


def _upper(work: int, total: int, num: int, den: int, h_fine: int) -> int:
    """Return ceil(work / (total - h)) for h = sqrt(num/den), exactly: the least U >= 0 with U (total - h) >= work."""
    # h to 32 binary places bounds U from both sides, nearly always to one integer; the rest is found by bisection.
    low = -((-work << FINE_BITS) // ((total << FINE_BITS) - h_fine))
    high = -((-work << FINE_BITS) // ((total << FINE_BITS) - h_fine - 1))
    while low < high:
        middle = (low + high) // 2
        slack = middle * total - work  # U (total - h) >= work  <=>  slack >= U h  <=>  slack^2 den >= U^2 num
        if slack >= 0 and slack * slack * den >= middle * middle * num:
            high = middle
        else:
            low = middle + 1
    return low


def window_trend(least_ns: int, over_ns: Sequence[int], most: int) -> Trend | None:
    """Return which way the rate of a window went beyond R6's two bounds; None where it kept within one of them.

    With T = sum (2 i - 29) x_i the least-squares line through x_i = least_ns + over_ns[i] rises by 6 T / (31 S) of
    their mean from the first to the last: times that grow are a rate that falls.

    Args:
        least_ns: shortest sub-window, ns.
        over_ns: how much longer each of the 30 sub-windows took, ns.
        most: the change that is allowed, both in percent and in half-widths h of R9.
    """
    t = sum(map(mul, TREND_WEIGHTS, over_ns))  # T: the weights leave nothing of least_ns
    if 600 * abs(t) <= 31 * most * (SUBWINDOWS * least_ns + sum(over_ns)):
        return None
    spread = spread_above(least_ns, over_ns)
    if 36 * t * t * spread.den <= (31 * most) ** 2 * spread.num:  # 6 |T| <= 31 most h, squared: h is a root
        return None
    return "falling" if t > 0 else "rising"
