"""One picture of how fast all devices of a model were in a workload: a self-contained SVG without scripts.

Up to `DOTS` devices are dots, more are bars. The width shows the usual range and `REACH` times as much on both sides;
what lies further out is counted at the edge, so that one dead device does not squeeze the rest into one column.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

from bench.errors import one_line
from bench.terminal.summary import counted
from bench.units import MFLOP_PER_UNIT, rate_text, truncated
from certify.fleet.findings import Diagnosis, FleetReading, Outlier, Population, Side, Spread

DOTS = 240
WIDTH, LEFT, RIGHT, PLOT, LANE = 960, 64, 64, 220, 17
NARROW = 440  # of a picture in a page that says its title and legend itself
COLUMN = 8  # px
NAMED = 12
REACH = 2  # times as far as the limits are apart
FILLS = ("#dbe7f5", "#e4efd9")
LINES = ("#1f4e8c", "#4a7a1e")
BARS = "#5b7fae"
COLOURS: dict[Side, str] = {"slow": "#c0392b", "fast": "#8e44ad"}


class _View(NamedTuple):
    """The rates that the width shows, MFLOP/s."""

    low: float
    high: float
    width: int

    @property
    def is_narrow(self) -> bool:
        """Whether title, legend and warning are left to the page around."""
        return self.width < WIDTH

    def x(self, rate: float) -> float:
        """Return the place of a rate, px; at the edge for one that is further out."""
        part = (rate - self.low) / (self.high - self.low)
        return LEFT + min(max(part, 0.0), 1.0) * (self.width - LEFT - RIGHT)


class _Named(NamedTuple):
    """A label of a mark."""

    rate_mflop_s: int
    text: str
    fill: str


def plots(
    diagnosis: Diagnosis, readings: Sequence[FleetReading], names: Mapping[str, str], warning: str | None = None
) -> dict[tuple[str, str], str]:
    """Return a picture for each model and workload of a diagnosis.

    Args:
        diagnosis: of these readings.
        readings: all of them.
        names: the engine's name of each node, where it is known.
        warning: such as that the devices were simulated; stands on every picture.
    """
    rates: dict[tuple[str, str], list[int]] = {}
    for reading in readings:
        rates.setdefault((reading.model, reading.workload), []).append(reading.sustained_mflop_s)
    odd: dict[tuple[str, str], list[Outlier]] = {}
    for outlier in diagnosis.outliers:
        odd.setdefault((outlier.model, outlier.workload), []).append(outlier)
    return {
        (kind := (spread.model, spread.workload)): distribution_svg(
            spread, rates[kind], odd.get(kind, []), names, warning
        )
        for spread in diagnosis.spreads
    }


def distribution_svg(
    spread: Spread,
    rates: Sequence[int],
    outliers: Sequence[Outlier],
    names: Mapping[str, str],
    warning: str | None = None,
    width: int = WIDTH,
) -> str:
    """Return the picture of one model in one workload.

    Args:
        spread: what is usual.
        rates: sustained MFLOP/s of all its devices.
        outliers: those of it, the worst first.
        names: the engine's name of each node, where it is known.
        warning: a line in red, if any.
        width: px; `NARROW` leaves the lines of text to the page around.
    """
    view = _view(spread, rates, width)
    named = _named(outliers, names, 18 if view.is_narrow else 40)
    labels, lanes = _labels(named[:NAMED], view)
    top = (8 if view.is_narrow else 50 + 20 * (warning is not None)) + lanes * LANE + 14
    base = top + PLOT
    size = f"{counted(spread.devices, 'device', 'en')} on {counted(spread.nodes, 'node', 'en')}"
    head = f"{one_line(spread.model, 60)} {spread.workload}: {size}"
    height = base + (56 if view.is_narrow else 96)
    # Later elements lie on top: names over dots, dots over bands.
    body = [
        *([] if view.is_narrow else _lines(head, _legend(spread, outliers), warning)),
        *_bands(spread, view, top, base),
        *_devices(rates, outliers, view, top, base),
        *_axis(spread, view, base),
        *_edges(rates, view, base),
        *_marks(outliers, view, base),
        *(f'<path d="M{x:.1f},{top - 10 - lane * LANE}V{base + 3}" stroke="#999"/>' for x, _, lane, _, _ in labels),
        *(_text(at, top - 14 - lane * LANE, text, fill=fill, halo=True) for _, at, lane, text, fill in labels),
        "" if view.is_narrow else _text(LEFT, height - 10, _rest(len(named)), fill="#555"),
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
            'font-family="sans-serif" font-size="12">',
            f"<title>{escape(head)}</title>",
            f'<rect width="{width}" height="{height}" fill="white"/>',
            *filter(None, body),
            "</svg>",
            "",
        ]
    )


def _lines(head: str, legend: str, warning: str | None) -> list[str]:
    warned = [] if warning is None else [_text(LEFT, 62, one_line(warning, 140), fill=COLOURS["slow"], size=13)]
    return [_text(LEFT, 24, head, size=16), _text(LEFT, 43, legend, fill="#555"), *warned]


def _view(spread: Spread, rates: Sequence[int], width: int) -> _View:
    """Return the shown range: the usual range, and `REACH` times its width on both sides."""
    ends = [end for p in spread.populations for end in (p.low_mflop_s, p.high_mflop_s) if end is not None]
    low, high = (min(ends), max(ends)) if ends else (min(rates), max(rates))
    reach = REACH * (high - low)
    shown = [low, high, *(rate for rate in rates if low - reach <= rate <= high + reach)]
    pad = max((max(shown) - min(shown)) * 0.06, high * 0.005, 1)
    return _View(min(shown) - pad, max(shown) + pad, width)


def _text(
    x: float, y: float, text: str, *, fill: str = "#222", size: int = 12, anchor: str = "start", halo: bool = False
) -> str:
    around = ' stroke="white" stroke-width="3" paint-order="stroke"' if halo else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" font-size="{size}" text-anchor="{anchor}"{around}>'
        f"{escape(text)}</text>"
    )


def _legend(spread: Spread, outliers: Sequence[Outlier]) -> str:
    if any(p.low_mflop_s is None for p in spread.populations):
        return "too few devices to tell what is usual; line: median"
    slow = sum(one.side == "slow" for one in outliers)
    two = "two populations; " if len(spread.populations) > 1 else ""
    return f"{two}shaded: what is usual; line: median, the % from it; {slow:,} slow, {len(outliers) - slow:,} too fast"


def _rest(count: int) -> str:
    return f"and {count - NAMED:,} more, not named here" if count > NAMED else ""


def _bands(spread: Spread, view: _View, top: float, base: float) -> list[str]:
    drawn = []
    for index, one in enumerate(spread.populations):
        if one.low_mflop_s is not None and one.high_mflop_s is not None:
            left, right = view.x(one.low_mflop_s), view.x(one.high_mflop_s)
            size = f'width="{right - left:.1f}" height="{base - top:.1f}"'
            drawn.append(f'<rect x="{left:.1f}" y="{top}" {size} fill="{FILLS[index]}" fill-opacity="0.7"/>')
            drawn += [
                f'<path d="M{x:.1f},{top}V{base}" stroke="{LINES[index]}" stroke-dasharray="4 3"/>'
                for x in (left, right)
            ]
    for index, one in enumerate(spread.populations):
        x = view.x(one.median_mflop_s)
        drawn.append(f'<path d="M{x:.1f},{top}V{base}" stroke="{LINES[index]}" stroke-width="1.5"/>')
        anchor, shift = ("start", 6) if x < view.width / 2 else ("end", -6)
        drawn.append(_text(x + shift, top + 16 + 18 * index, _median(one), fill=LINES[index], anchor=anchor, halo=True))
    return drawn


def _median(one: Population) -> str:
    return f"median {rate_text(one.median_mflop_s)} ({one.devices:,})"


def _devices(rates: Sequence[int], outliers: Sequence[Outlier], view: _View, top: float, base: float) -> list[str]:
    inside = [rate for rate in rates if view.low <= rate <= view.high]
    columns = Counter(int((view.x(rate) - LEFT) // COLUMN) for rate in inside)
    most = max(columns.values(), default=1)
    room = base - top - 56  # below the names of the medians
    if len(rates) > DOTS:  # dots would lie on one another, and a page of thousands of circles opens slowly
        return [
            f'<rect x="{LEFT + column * COLUMN}" y="{base - count / most * room:.1f}" width="{COLUMN - 1}" '
            f'height="{count / most * room:.1f}" fill="{BARS}"/>'
            for column, count in sorted(columns.items())
        ] + [
            _text(LEFT - 6, base - room + 4, f"{most:,}", fill="#555", anchor="end"),
            _text(LEFT - 6, base + 4, "0", fill="#555", anchor="end"),
        ]
    step = min(COLUMN, room / most)  # dots of a full column move closer rather than leave the picture
    fills = {one.sustained_mflop_s: COLOURS[one.side] for one in outliers}
    stacked: Counter[int] = Counter()
    dots = []
    for rate in sorted(inside):
        column = int((view.x(rate) - LEFT) // COLUMN)
        y = base - (stacked[column] + 0.5) * step
        stacked[column] += 1
        dots.append(
            f'<circle cx="{LEFT + (column + 0.5) * COLUMN}" cy="{y:.1f}" r="3.2" fill="{fills.get(rate, BARS)}"/>'
        )
    return dots


def _axis(spread: Spread, view: _View, base: float) -> list[str]:
    step = _round_step((view.high - view.low) / (3.5 if view.is_narrow else 5))
    centre = max(spread.populations[-1].median_mflop_s, 1)
    first = -(-int(view.low) // step) * step
    drawn = [f'<path d="M{LEFT},{base}H{view.width - RIGHT}" stroke="#222"/>']
    for rate in range(max(first, 0), int(view.high) + 1, step):
        off = (rate - centre) / centre
        x = view.x(rate)
        drawn.append(f'<path d="M{x:.1f},{base}v5" stroke="#222"/>')
        drawn.append(_text(x, base + 32, _short(rate, step), anchor="middle"))
        drawn.append(_text(x, base + 47, f"{off:+.1%}", fill="#777", size=11, anchor="middle"))
    return drawn


def _round_step(least: float) -> int:
    """Return the smallest 1, 2 or 5 times a power of ten that is not below `least`, at least 1."""
    power = 1
    while power * 10 <= least:
        power *= 10
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= min(least, 10 * power))


def _short(rate: int, step: int) -> str:
    """Return a rate with the digits that a step of the axis needs."""
    for unit in ("PFLOPS", "TFLOPS", "GFLOPS"):
        if rate >= (per := MFLOP_PER_UNIT[unit]):
            decimals = next((n for n in range(6) if step * 10**n % per == 0), 6)
            return f"{truncated(rate, per, decimals)} {unit}"
    return rate_text(rate)


def _edges(rates: Sequence[int], view: _View, base: float) -> list[str]:
    below = sum(rate < view.low for rate in rates)
    above = sum(rate > view.high for rate in rates)
    drawn = []
    if below:
        drawn.append(_text(LEFT - 6, base - 12, f"◀ {below:,}", fill=COLOURS["slow"], anchor="end"))
    if above:
        drawn.append(_text(view.width - RIGHT + 6, base - 12, f"{above:,} ▶", fill=COLOURS["fast"]))
    return drawn


def _marks(outliers: Sequence[Outlier], view: _View, base: float) -> list[str]:
    places = {(round(view.x(one.sustained_mflop_s)), COLOURS[one.side]) for one in outliers}
    return [f'<path d="M{x},{base + 2}l4,9h-8z" fill="{fill}"/>' for x, fill in sorted(places)]


def _named(outliers: Sequence[Outlier], names: Mapping[str, str], most: int) -> list[_Named]:
    """Return what to name, the worst first: each device, but a node that is slow as a whole once."""
    of_node: dict[tuple[str, str], list[Outlier]] = {}
    for one in outliers:
        of_node.setdefault((one.node_id, one.side if one.scope == "node" else one.device), []).append(one)
    named = []
    for together in of_node.values():
        middle = sorted(together, key=lambda o: o.sustained_mflop_s)[len(together) // 2]
        sign = "+" if middle.off_ppm > 0 else ""
        what = middle.device if len(together) == 1 else f"({len(together)} devices)"
        text = f"{one_line(names.get(middle.node_id, middle.node_id), most)} {one_line(what, most)}"
        text += f" {sign}{truncated(middle.off_ppm, 10_000, 1)} %"
        named.append(_Named(middle.sustained_mflop_s, text, COLOURS[middle.side]))
    return named


def _labels(named: Sequence[_Named], view: _View) -> tuple[list[tuple[float, float, int, str, str]], int]:
    """Return the mark, the place, the lane, the text and the colour of each name, and how many lanes they take."""
    ends: list[float] = []  # of each lane, px
    labels = []
    for one in sorted(named):
        # A reader has no font metrics: the width is estimated, wide where East Asian letters are.
        width = sum(13 if unicodedata.east_asian_width(c) in "WF" else 7 for c in one.text)
        x = view.x(one.rate_mflop_s)
        at = max(4.0, min(x - 4, view.width - 4 - width))
        # The first lane in which the name fits behind the one before it: names never cover each other.
        lane = next((index for index, end in enumerate(ends) if end <= at), len(ends))
        ends[lane:] = [at + width + 12, *ends[lane + 1 :]]
        labels.append((x, at, lane, one.text, one.fill))
    return labels, len(ends)
