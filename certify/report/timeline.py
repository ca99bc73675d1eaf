"""The plot of one node over time: throughput, power, clock, temperature and when its devices throttled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.units import MFLOP_PER_UNIT
from certify.report.canvas import COLOURS, SOFT, WIDTH_PX, AxisRange, Style, scaled, titled, unit_of
from certify.report.figures import DrawnFigure
from certify.report.losses import Cause
from certify.report.series import GAP, DeviceSeries
from certify.report.svg import STYLE, svg_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

AT_ONCE = len(COLOURS)  # devices in one plot
WINDOW_FILL = "#eaf0f8"
CAUSE_FILLS: Mapping[Cause, str] = {"power": "#d55e00", "thermal": "#cc79a7", "other": "#8c8c8c"}
PANELS = (  # quantity, its title and unit, how many of it make one, and as what a source exposes it
    ("power_mw", "Power, W", 1000, "power"),
    ("clock_mhz", "Clock, MHz", 1, "clock"),
    ("temperature_c", "Temperature, °C", 1, "temperature"),
)
Points = NDArray[np.float64]


class TimedNode(NamedTuple):
    """The figures of some devices of one node in one workload with what their samples show, for one plot."""

    figures: tuple[DrawnFigure, ...]  # at most `AT_ONCE`
    series: tuple[DeviceSeries | None, ...]  # None: there are no samples
    title: str
    prefix: str


class TimeFrame(NamedTuple):
    """The axes that the plots of one model and workload have in common, so that nodes can be compared by eye."""

    seconds: AxisRange
    rate: AxisRange  # in `unit`
    readings: tuple[AxisRange | None, ...]  # of `PANELS`; None where nobody read it
    unit: str
    length_s: float  # of the core window


def frame_of(figures: Sequence[DrawnFigure], series: Sequence[DeviceSeries]) -> TimeFrame:
    """Return the axes for all devices of one model in one workload."""
    unit = unit_of(max(one.reading.sustained_mflop_s for one in figures))
    length_s = max(one.length_ns for one in figures) / 1e9
    rates = [window_rates(one)[1] for one in figures]
    usual = float(np.median(np.concatenate(rates)))
    # The first launches load or compile: their rates would squeeze all others into a line.
    rates += [warm[warm > usual / 2] for warm in (_values(one.warmup_rates) for one in series)]
    ends, readings = [0.0, length_s], []
    for name, _, per, _ in PANELS:
        read = [one.readings[name] for one in series if name in one.readings]
        ends += [float(at) / 1e9 for one in read for at in (one[0, 0], one[-1, 0])]
        values = [float(end) / per for one in read for end in (_values(one).min(), _values(one).max())]
        readings.append(AxisRange.around(values) if values else None)
    every = np.concatenate(rates) / MFLOP_PER_UNIT[unit]
    rate = AxisRange.around([float(every.min()), float(every.max())])
    return TimeFrame(AxisRange(min(ends), max(ends)), rate, tuple(readings), unit, length_s)


def _values(series: NDArray[np.int64]) -> Points:
    value: Points = series[series[:, 1] != GAP, 1].astype(np.float64)
    return value


def window_rates(one: DrawnFigure) -> tuple[Points, Points]:
    """Return the edges of a figure's 30 sub-windows in seconds, and the rate in each, MFLOP/s."""
    times = np.asarray(one.figure.subwindow_ns, np.float64)
    edges = (one.figure.opened_ns + np.concatenate(([0.0], np.cumsum(times)))) / 1e9
    return edges, one.work_mflop / len(times) * 1e9 / times


def node_plot(node: TimedNode, frame: TimeFrame) -> str:
    """Return one node's devices over time."""
    with Style():
        figure, rows = _blank(frame, len(node.figures))
        drawn = [*_draw_rates(rows[0], node, frame)]
        for axes, (name, _, per, exposed) in zip(rows[1:4], PANELS, strict=True):
            drawn += _draw_readings(axes, node, name, per) or [_said(axes, _why_empty(node, exposed))]
        drawn += _draw_throttling(rows[4], node)
        try:
            return svg_of(figure, node.title, node.prefix)
        finally:
            for one in drawn:
                one.remove()


@lru_cache(maxsize=8)
def _blank(frame: TimeFrame, devices: int) -> tuple[Canvas, Sequence[Axes]]:
    """Return the empty axes of a frame: most of the time of a plot goes into them, and all nodes have the same."""
    figure = Style.canvas(WIDTH_PX, 420 + 7 * devices)
    rows = figure.subplots(5, 1, sharex=True, height_ratios=(1.25, 1, 1, 1, 0.13 * devices + 0.15))
    figure.subplots_adjust(left=0.125, right=0.965, top=0.955, bottom=0.085, hspace=0.36)
    titles = (f"Throughput, {frame.unit}", *(title for _, title, *_ in PANELS), "Throttled, by device")
    for axes, title, limits in zip(rows, titles, (frame.rate, *frame.readings, None), strict=True):
        axes.axvspan(0, frame.length_s, color=WINDOW_FILL, lw=0)
        axes.set_xlim(*frame.seconds)
        axes.tick_params(length=0)
        titled(axes, title)
        if limits is not None:
            scaled(axes, limits)
        else:
            axes.set_yticks([])
    low, high = frame.seconds
    # Without one at the very end, whose label would reach beyond the plot.
    ticks = [at for at in rows[4].get_xticks() if low <= at <= high - 0.02 * (high - low)]
    rows[4].set_xticks(ticks)
    for axes in rows[:4]:  # an axis of its own for each panel would take a third of the time, and show nothing
        axes.vlines(ticks, 0, 1, color=STYLE["grid.color"], lw=0.8, transform=axes.get_xaxis_transform(), zorder=0.5)
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)
    rows[4].set_ylim(devices - 0.4, -0.6)
    rows[4].grid(False)
    rows[4].hlines(range(devices), *frame.seconds, color="#c9d1db", lw=0.6)
    rows[4].set_xlabel("seconds from the opening of the core window", labelpad=2)
    return figure, rows


def _draw_rates(axes: Axes, node: TimedNode, frame: TimeFrame) -> list[Any]:
    """Draw the warm-up's rates, and each sub-window's as a step; what is far below the axis lies at its edge."""
    per = MFLOP_PER_UNIT[frame.unit]
    drawn: list[Any] = []
    for index, (one, series) in enumerate(zip(node.figures, node.series, strict=True)):
        edges, rates = window_rates(one)
        at, value = np.repeat(edges, 2)[1:-1], np.repeat(rates, 2)
        if series is not None and len(series.warmup_rates):
            warm_at, warm = _points(series.warmup_rates)
            at, value = np.concatenate((warm_at, [np.nan], at)), np.concatenate((warm, [np.nan], value))
        drawn += axes.plot(at, np.clip(value / per, *frame.rate), color=COLOURS[index], clip_on=False)
        if not index:  # the ends of the sub-windows, once: those of the other devices differ by less than a pixel
            drawn.append(axes.vlines(edges, 0, 0.05, color=SOFT, lw=0.6, transform=axes.get_xaxis_transform()))
    return drawn


def _draw_readings(axes: Axes, node: TimedNode, name: str, per: int) -> list[Any]:
    drawn: list[Any] = []
    for index, series in enumerate(node.series):
        if series is not None and (read := series.readings.get(name)) is not None:
            at, value = _points(read)
            marker = "o" if len(read) < 3 else None  # a line needs two points
            drawn += axes.plot(at, value / per, color=COLOURS[index], clip_on=False, marker=marker, markersize=3)
    return drawn


def _points(read: NDArray[np.int64]) -> tuple[Points, Points]:
    """Return a series for drawing, with nothing in the long times without a reading."""
    value = read[:, 1].astype(np.float64)
    value[read[:, 1] == GAP] = np.nan
    return read[:, 0] / 1e9, value


def _draw_throttling(axes: Axes, node: TimedNode) -> list[Any]:
    """Draw one row a device, filled where it reported that something lowers its clock."""
    if all(series is None or series.throttled is None for series in node.series):
        return [_said(axes, _why_empty(node, "throttle"))]
    drawn: list[Any] = []
    for index, (one, series) in enumerate(zip(node.figures, node.series, strict=True)):
        number = one.reading.device.rpartition(":")[2]
        style: Any = {
            "transform": axes.get_yaxis_transform(),
            "fontsize": 7.5,
            "ha": "right",
            "va": "center",
            "color": SOFT,
        }
        drawn.append(axes.text(-0.012, index, number, **style))
        spans = () if series is None else series.throttled or ()
        for cause in dict.fromkeys(span.cause for span in spans):
            wide = [(s.from_ns / 1e9, (s.until_ns - s.from_ns) / 1e9) for s in spans if s.cause == cause]
            drawn.append(axes.broken_barh(wide, (index - 0.4, 0.8), color=CAUSE_FILLS[cause], lw=0))
    return drawn


def _said(axes: Axes, text: str) -> Any:
    """Say in an empty panel why it is empty."""
    return axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=SOFT, style="italic")


def _why_empty(node: TimedNode, quantity: str) -> str:
    """Return why a panel is empty: nothing is drawn as 0 that was not read."""
    if all(series is None for series in node.series):
        return "no samples"
    if any(quantity in one.exposes for one in node.figures):
        return "no readings in the samples"
    sources = sorted({one.source for one in node.figures if one.source})
    return f"not exposed by the source ({', '.join(sources)[:40]})" if sources else "no source of telemetry"
