"""What the first page shows, put in order: groups of the life cycle, one unit for a column, the curves of a trend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from bench.record import PoolClass, Precision
from bench.units import MFLOP_PER_UNIT, truncated, utc_ns
from certify.policy.centre import CLASSES
from certify.registry.api.cities import City, LifecycleLine
from certify.registry.api.common import ENDED, REACHED
from certify.registry.api.reached import Trend, TrendPoint
from certify.registry.web.chart import EDGE, HEIGHT, WIDTH
from certify.registry.web.wording import NBSP, rate

SERIES = ("certified", "managed", "schedulable")
DECIMALS = 6  # of the smallest figures: what is less is shown as such


class Group(NamedTuple):
    """The life cycle of one class in one precision."""

    pool_class: PoolClass
    precision: str
    reached: tuple[LifecycleLine, ...]
    ended: tuple[LifecycleLine, ...]

    @property
    def top_mflop_s(self) -> int:
        """What stands in force altogether."""
        return max((line.reached.certified_mflop_s for line in self.reached), default=0)

    @property
    def unit(self) -> str:
        """The one unit of all rates of its table."""
        lines = (*self.reached, *self.ended)
        return unit_of([value for line in lines for value in (line.own.sustained_mflop_s, self.top_mflop_s)])


def groups(lines: Iterable[LifecycleLine]) -> list[Group]:
    """Return the life cycle by class and precision, in the order of classes."""

    def kind(line: LifecycleLine) -> tuple[int, PoolClass, str]:
        return CLASSES.index(line.pool_class), line.pool_class, line.precision

    ordered = []
    for (_, pool_class, precision), group in groupby(sorted(lines, key=kind), kind):
        by_state = {line.state: line for line in group}
        reached, ended = (tuple(by_state[s] for s in states if s in by_state) for states in (REACHED, ENDED))
        ordered.append(Group(pool_class, precision, reached, ended))
    return ordered


# --- figures ----------------------------------------------------------------------------------------------------------


def unit_of(rates: Iterable[int | None]) -> str:
    """Return the unit of a column of rates: PFLOPS, or a smaller one where all of them are less than one of those."""
    top = max((rate for rate in rates if rate is not None), default=0)
    return next((unit for unit in ("PFLOPS", "TFLOPS", "GFLOPS") if top >= MFLOP_PER_UNIT[unit]), "PFLOPS")


def unit_of_components(city: City) -> str:
    """Return the unit of a city's table of components."""
    return unit_of(
        [value for one in city.components for value in (one.counted.sustained_mflop_s, one.counted.nominal_mflop_s)]
    )


def in_unit(mflop_s: int | None, unit: str | None, *, bare: bool = False) -> str:
    """Return a rate in one unit, truncated: with as many digits as make sense, and never as 0 unless it is.

    Args:
        mflop_s: the rate; None where it is not known.
        unit: None for the largest that leaves a whole digit.
        bare: whether the unit stands elsewhere, at the head of a column.
    """
    if mflop_s is None or unit is None:
        return rate(mflop_s)
    per = MFLOP_PER_UNIT[unit]
    decimals = 1 if mflop_s >= 100 * per else 3 if mflop_s >= per else DECIMALS
    text = "0" if mflop_s == 0 else truncated(mflop_s, per, decimals)
    if 0 < mflop_s * 10**DECIMALS < per:
        text = f"<{truncated(1, 10**DECIMALS, DECIMALS)}"
    return text if bare else f"{text}{NBSP}{unit}"


# --- trends -----------------------------------------------------------------------------------------------------------


class Curve(NamedTuple):
    """One sum over time as a path of steps; a figure holds until the next one."""

    series: str
    path: str
    latest_mflop_s: int


@dataclass(frozen=True)
class TrendChart:
    """The sums of one class over time, in one picture: they share its axes."""

    pool_class: PoolClass
    precision: Precision
    curves: tuple[Curve, ...]
    area: str
    top_mflop_s: int
    first: str
    last: str
    days: int
    width: int = WIDTH
    height: int = HEIGHT

    @property
    def unit(self) -> str:
        """The one unit of its figures."""
        return unit_of([self.top_mflop_s])


def trend_charts(trend: Trend) -> tuple[TrendChart, ...]:
    """Return a chart for each class in which anything ever counted."""
    charts = []
    for pool_class in CLASSES:
        points = [point for point in trend.points if point.pool_class == pool_class]
        if any(point.certified_mflop_s for point in points):
            charts.append(_chart(points))
    return tuple(charts)


def _chart(points: Sequence[TrendPoint]) -> TrendChart:
    begin = utc_ns(points[0].at)
    span = max(utc_ns(points[-1].at) - begin, 1)
    top = max(point.certified_mflop_s for point in points)
    values: dict[str, Callable[[TrendPoint], int | None]] = {
        "certified": lambda point: point.certified_mflop_s,
        "managed": lambda point: point.managed_mflop_s,
        "schedulable": lambda point: point.schedulable_mflop_s,
    }
    curves = []
    for series in SERIES:
        found = [(point.at, value) for point in points if (value := values[series](point)) is not None]
        if found:
            places = [
                (EDGE + (WIDTH - 2 * EDGE) * (utc_ns(at) - begin) // span, _height(value, top)) for at, value in found
            ]
            curves.append(Curve(series, _steps(places), found[-1][1]))
    return TrendChart(
        pool_class=points[0].pool_class,
        precision=points[0].precision,
        curves=tuple(curves),
        area=f"{curves[0].path}V{HEIGHT - EDGE}H{EDGE}Z",
        top_mflop_s=top,
        first=points[0].at,
        last=points[-1].at,
        days=len(points),
    )


def _height(value: int, top: int) -> int:
    # a sample may lie above what counted at the day's end
    return HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * min(value, top) // max(top, 1)


def _steps(places: list[tuple[int, int]]) -> str:
    first, *further = places
    return f"M{first[0]} {first[1]}{''.join(f'H{x}V{y}' for x, y in further)}H{WIDTH - EDGE}"
