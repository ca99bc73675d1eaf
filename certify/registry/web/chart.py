"""The history of a centre's certified capacity as coordinates of a small picture; words and colours are the template's.

A class has a picture of its own, in each precision: no two of them share an axis.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bench.record import PoolClass, Precision
from bench.units import utc_ns
from certify.registry.api.views import StatementSummary
from certify.registry.web.wording import proves_nothing

WIDTH, HEIGHT, EDGE = 360, 120, 6  # EDGE: room for half a dot


@dataclass(frozen=True)
class Point:
    """A statement: when it was issued and what it certified."""

    x: int
    y: int
    at: str
    certified_mflop_s: int


@dataclass(frozen=True)
class Chart:
    """One class in one precision over time, the oldest first. A figure holds until the next statement."""

    pool_class: PoolClass
    precision: Precision
    proves_nothing: str | None
    points: tuple[Point, ...]
    first: str
    last: str
    width: int = WIDTH
    height: int = HEIGHT

    @property
    def top_mflop_s(self) -> int:
        """The highest figure."""
        return max(point.certified_mflop_s for point in self.points)

    @property
    def curve(self) -> str:
        """The path: steps from statement to statement, the last one up to the right edge."""
        first, *further = self.points
        return f"M{first.x} {first.y}{''.join(f'H{point.x}V{point.y}' for point in further)}H{WIDTH - EDGE}"

    @property
    def area(self) -> str:
        """The same, closed along the bottom."""
        return f"{self.curve}V{HEIGHT - EDGE}H{self.points[0].x}Z"


def charts(statements: Iterable[StatementSummary], at: str) -> tuple[Chart, ...]:
    """Return a chart for each class and precision; statements that prove nothing get charts of their own.

    Args:
        statements: of one centre, in any order.
        at: the present: the right edge, where the statements still hold.
    """
    curves: dict[tuple[str | None, PoolClass, Precision], dict[str, int]] = {}
    for one in statements:
        for line in one.classes:
            key = (proves_nothing(one.simulated, one.grade), line.pool_class, line.precision)
            rates = curves.setdefault(key, {})  # projects that were stated at one moment are added
            rates[one.issued_at] = rates.get(one.issued_at, 0) + line.certified_mflop_s
    ordered = sorted(curves.items(), key=lambda item: (item[0][0] is not None, item[0][1:]))
    return tuple(_chart(*key, sorted(rates.items()), at) for key, rates in ordered)


def _chart(
    doubt: str | None, pool_class: PoolClass, precision: Precision, rates: list[tuple[str, int]], at: str
) -> Chart:
    first, last = rates[0][0], max(at, rates[-1][0])
    begin, span = utc_ns(first), max(utc_ns(last) - utc_ns(first), 1)
    top = max(max(rate for _, rate in rates), 1)
    points = tuple(
        Point(
            x=EDGE + (WIDTH - 2 * EDGE) * (utc_ns(moment) - begin) // span,
            y=HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * rate // top,
            at=moment,
            certified_mflop_s=rate,
        )
        for moment, rate in rates
    )
    return Chart(pool_class, precision, doubt, points, first, last)
