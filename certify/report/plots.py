"""The plots of a fleet: the roofline of a model in a workload, and FLOPS per watt by device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bench.units import MFLOP_PER_UNIT
from certify.report.canvas import COLOURS, SOFT, WIDTH_PX, AxisRange, Style, scaled, titled, unit_of
from certify.report.svg import svg_of

MANY_DOTS = 2000  # above, dots are one image: a page of ten thousand elements opens slowly


class Roof(NamedTuple):
    """One model in one workload against what bounds it; rates in MFLOP/s."""

    intensity: float
    sustained: Sequence[int]  # of each device
    bandwidth_mb_s: int | None  # of memory, by the reference measurement
    lines: Sequence[tuple[str, int]]  # label, rate
    title: str
    prefix: str


def roofline(roof: Roof) -> str:
    """Return the roofline of one model in one workload: rate over FLOP for each byte of memory traffic."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    unit = unit_of(max([*(rate for _, rate in roof.lines), *roof.sustained]))
    per = MFLOP_PER_UNIT[unit]
    entries = len(roof.lines) + 1 + (roof.bandwidth_mb_s is not None)
    legend_px = 16 * -(-entries // 2)
    highest = max([*(rate for _, rate in roof.lines), *roof.sustained]) / per
    lowest = min(roof.sustained) / per
    with Style() as canvas:
        height = 270 + legend_px
        figure = canvas(WIDTH_PX, height)
        axes = figure.add_subplot()
        figure.subplots_adjust(left=0.135, right=0.965, top=1 - 20 / height, bottom=(42 + legend_px) / height)
        titled(axes, f"Rate, {unit}")
        ridge = None if roof.bandwidth_mb_s is None else highest * per / roof.bandwidth_mb_s
        left, right = min(1.0, (ridge or 10.0) / 10), max(10 * roof.intensity, 10 * (ridge or 1.0))
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(left, right)
        bottom = min(lowest / 2, highest / 8)
        axes.set_ylim(bottom, highest * 1.5)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(length=0, which="both")
        axes.set_xlabel("FLOP for each byte of memory traffic", labelpad=2)
        for index, (label, rate) in enumerate(roof.lines):
            axes.axhline(rate / per, color=COLOURS[index], lw=1.6, ls=("-", "--", "-.", ":")[index % 4], label=label)
        if roof.bandwidth_mb_s is not None and ridge is not None:
            across = np.array([left, ridge])
            slope = np.maximum(across * roof.bandwidth_mb_s / per, bottom)
            across = np.maximum(across, bottom * per / roof.bandwidth_mb_s)
            label = f"memory, triad {roof.bandwidth_mb_s / 1e3:,.0f} GB/s"
            axes.plot(across, slope, color=SOFT, lw=1.6, label=label)
        dots = [rate / per for rate in roof.sustained]
        axes.plot(
            [roof.intensity] * len(dots),
            dots,
            "o",
            color="#000000",
            ms=5,
            mfc="none",
            label="sustained",
            rasterized=len(dots) > MANY_DOTS,
        )
        # Below the plot: inside it would lie on the dots of a slow device.
        figure.legend(loc="lower left", fontsize=9, frameon=False, ncols=2, borderpad=0.2, labelspacing=0.3)
        return svg_of(figure, roof.title, roof.prefix)


def per_watt_plot(values: Sequence[tuple[int, int | None]], title: str, prefix: str) -> str:
    """Return MFLOP/s for each watt by device.

    Args:
        values: of each device in the order of the page: the node's number, and the figure if its power is known, as
            that of at least one is.
        title, prefix: as for `svg_of`.
    """
    unit = unit_of(max(value or 0 for _, value in values))
    per = MFLOP_PER_UNIT[unit]
    known = [(place, node, value / per) for place, (node, value) in enumerate(values) if value is not None]
    with Style() as canvas:
        figure = canvas(WIDTH_PX, 220)
        axes = figure.add_subplot()
        figure.subplots_adjust(left=0.135, right=0.965, top=0.91, bottom=0.19)
        titled(axes, f"Sustained for each watt, {unit}/W")
        axes.set_xlim(-0.7, len(values) - 0.3)
        axes.tick_params(length=0)
        starts = {node: place for place, (node, _) in reversed(list(enumerate(values)))}
        step = -(-len(starts) // 8)
        ticks = sorted(starts.items())[::step]
        axes.set_xticks([place for _, place in ticks], [f"#{node}" for node, _ in ticks])
        axes.set_xlabel("node, by its number in this report; each dot a device", labelpad=2)
        scaled(axes, AxisRange.around([value for *_, value in known]))
        for parity in (0, 1):  # neighbouring nodes in two colours, so that each one's devices stand together
            dots = [(place, value) for place, node, value in known if node % 2 == parity]
            axes.plot(
                [x for x, _ in dots],
                [y for _, y in dots],
                "o",
                ms=4 if len(values) < 200 else 2.2,
                color=COLOURS[parity],
                mew=0,
                rasterized=len(values) > MANY_DOTS,
            )
        return svg_of(figure, title, prefix)
