"""What the page of a report says: figures as texts, what they are compared with, and where their ceilings went.

Only words and numbers enter this module: plots are drawn in `certify.report.plots`, and layout is the template's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from bench.errors import one_line
from bench.language import both
from bench.units import percent_text, rate_text, ratio_ppm, truncated
from certify.fleet.findings import Diagnosis, FleetReading
from certify.policy.reasons import effect_of, reasons
from certify.report.canvas import COLOURS
from certify.report.figures import DrawnFigure, DrawnRecord
from certify.report.losses import Why, why
from certify.report.series import DeviceSeries
from certify.report.source import SourceProblem
from certify.statement.bounds import LIMITS, STEP_NAMES, STEPS_MEAN

ABSENT = "—"  # what was not read, or what the source does not expose
ROWS = 100  # of a list of findings
HEAT_NODES = 128  # rows of one heat map
STEPS_OF_HEAT = 10  # colours on either side of the median
HEAT_REACH_PPM = 100_000  # off the median, from which on the colour is the darkest
LossKey = str
# The segments of the bar of one figure, in their order; the colours are told apart with any colour vision.
LOSS_COLOURS: Mapping[LossKey, str] = {
    "reached": "#0072b2",
    "clock_power": "#d55e00",
    "clock_thermal": "#cc79a7",
    "clock_other": "#7a5195",
    "clock_unreported": "#e69f00",
    "clock_unknown": "#e69f00",
    "checks": "#009e73",
    "gaps": "#56b4e9",
    "waves": "#5b6878",
    "rest": "#d8dee6",
}


class WhyPart(NamedTuple):
    """One part of a ceiling: a key of the catalogue, its share as a text, and of the bar in per cent."""

    key: LossKey
    share: str
    width: float
    colour: str


class FigureRow(NamedTuple):
    """One device's figure as the page shows it."""

    device: str
    colour: str
    state: str  # "counts", "held" or "void"
    cells: tuple[str, ...]
    why: tuple[WhyPart, ...]
    ceiling: dict[str, str] | None
    lack: str | None
    unknown: tuple[LossKey, ...]
    waves_most: str | None
    limit: str | None  # that binds it, by its name
    step: str
    near_cap: str | None  # mean power as a share of its limit, where no reason of throttling is told
    codes: tuple[str, ...]


class HeatCell(NamedTuple):
    """One device in the heat map: its distance from the median of its kind as a class and a text."""

    style: str
    text: str
    title: str


def figure_row(one: DrawnFigure, series: DeviceSeries | None, index: int, common: frozenset[str]) -> FigureRow:
    """Return one figure as the page shows it.

    Args:
        one: the figure.
        series: what its samples show; None without samples.
        index: its place in the plot, for its colour.
        common: codes that all figures of its table have.
    """
    reading, use = one.reading, one.use
    because = why(one.ceiling, one.figure, one.waves, series.utilisation_ppm if series else None)
    parts, unknown = why_parts(because, series)
    limit_mflop_s = one.limit[1]
    flop = ABSENT if use.milli_flop is None else truncated(use.milli_flop, 1000, 0)
    held = {effect_of(code) for code in one.blocking}
    mean, cap = one.figure.power_mean_mw, one.power_limit_mw
    return FigureRow(
        reading.device,
        COLOURS[index % len(COLOURS)],
        "counts" if not held else "held" if held == {"hold"} else "void",
        (
            short_rate(reading.sustained_mflop_s),
            short_rate(reading.certified_mflop_s),
            share_text(reading.sustained_mflop_s, one.nominal_mflop_s),
            share_text(reading.sustained_mflop_s, limit_mflop_s),
            ABSENT if one.per_watt is None else f"{short_rate(one.per_watt)}/W",
            f"{flop} / {f'{use.most_flop:,}' if use.most_flop else ABSENT}"
            + (f" = {percent_text(use.ppm)}" if use.ppm is not None else ""),
            known(reading.clock_mean_mhz, "MHz"),
            ABSENT if mean is None else f"{truncated(mean, 1000, 0)} W",
            known(reading.temperature_max_c, "°C"),
            ABSENT if reading.throttled_ppm is None else percent_text(reading.throttled_ppm),
        ),
        parts,
        None
        if one.ceiling is None
        else both("report", f"ceiling_{one.ceiling.kind}") | {"rate": rate_text(one.ceiling.mflop_s)},
        one.lack,
        unknown,
        None if because is None or because.waves_most_ppm is None else percent_text(because.waves_most_ppm),
        None if limit_mflop_s is None else f"{one.limit[0]} {rate_text(limit_mflop_s)}",
        one.step,
        percent_text(mean * 10**6 // cap) if mean and cap and (series is None or series.throttled is None) else None,
        tuple(code for code in one.codes if code not in common),
    )


def short_rate(rate_mflop_s: int) -> str:
    """Return a rate, truncated: with one decimal where many stand in one table, below 100 with three that part them."""
    number, _, unit = rate_text(rate_mflop_s).partition(" ")
    return f"{number[:-2]} {unit}" if len(number) > len("99.999") and "." in number else f"{number} {unit}"


def known(value: int | None, unit: str) -> str:
    """Return a value with its unit; a dash where it is not known."""
    return ABSENT if value is None else f"{value:,} {unit}"


def share_text(part: int, whole: int | None) -> str:
    """Return a share in per cent; a dash where the whole is not known."""
    return ABSENT if not whole else percent_text(ratio_ppm(part, whole))


def why_parts(because: Why | None, series: DeviceSeries | None) -> tuple[tuple[WhyPart, ...], tuple[LossKey, ...]]:
    """Return the parts of a figure's ceiling in their order, and what is not known of it; none without a ceiling."""
    if because is None:
        return (), ()
    shares: list[tuple[LossKey, int]] = [("reached", because.reached_ppm)]
    unknown: list[LossKey] = []
    for name, ppm in because.losses:
        if ppm is None:
            unknown.append(name)
        elif name != "clock":
            shares.append((name, ppm))
        elif series is not None and series.clock_causes and ppm > 0:
            shares += [(f"clock_{cause}", ppm * part // 10**6) for cause, part in sorted(series.clock_causes.items())]
        else:
            is_known = series is not None and series.throttled is not None
            shares.append(("clock_unreported" if is_known else "clock_unknown", ppm))
    shares.append(("rest", because.rest_ppm))
    return tuple(
        WhyPart(key, percent_text(ppm), max(0, ppm) / 10_000, LOSS_COLOURS[key]) for key, ppm in shares
    ), tuple(unknown)


def summary(figures: Sequence[DrawnFigure]) -> list[tuple[str, str]]:
    """Return what is said of all figures of one model in one workload: a key of the catalogue and a text."""
    compared = [one for one in figures if not one.blocking]
    shown = compared or figures
    rates = [one.reading.sustained_mflop_s for one in shown]
    watts = [one.per_watt for one in shown if one.per_watt is not None]
    uses = [one.use.ppm for one in shown if one.use.ppm is not None]
    nominal = [one.reading.sustained_mflop_s * 10**6 // one.nominal_mflop_s for one in shown if one.nominal_mflop_s]
    limit = [one.reading.sustained_mflop_s * 10**6 // one.limit[1] for one in shown if one.limit[1]]
    return [
        ("sum_devices", f"{len(compared):,} / {len(figures):,}"),
        ("sum_sustained", short_rate(sum(one.reading.sustained_mflop_s for one in compared))),
        ("sum_certified", short_rate(sum(one.reading.certified_mflop_s for one in compared))),
        ("median_device", short_rate(int(median(rates)))),
        ("of_nominal", percent_text(int(median(nominal))) if nominal else ABSENT),
        ("of_limit", percent_text(int(median(limit))) if limit else ABSENT),
        ("per_watt", f"{short_rate(int(median(watts)))}/W" if watts else ABSENT),
        ("normalised", percent_text(int(median(uses))) if uses else ABSENT),
    ]


def bounds_of(figures: Sequence[DrawnFigure]) -> list[dict[str, Any]]:
    """Return the steps and limits that bind some figures, with how many of them, the most frequent first."""
    counts = Counter((one.step, one.limit[0]) for one in figures)
    rates: dict[tuple[Any, Any], list[int]] = {}
    for one in figures:
        if one.limit[1] is not None:
            rates.setdefault((one.step, one.limit[0]), []).append(one.limit[1])
    return [
        {
            "count": count,
            "step": step,
            "step_zh": STEP_NAMES[step],
            "means": STEPS_MEAN[step],
            "limit": LIMITS[name] if name else None,
            "name": name,
            "rate": _range_text(rates.get((step, name), [])),
        }
        for (step, name), count in sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    ]


def _range_text(rates: Sequence[int]) -> str:
    """Return the lowest and the highest of some limits: a statement has the lowest, which holds for few figures."""
    texts = list(dict.fromkeys(rate_text(rate) for rate in (min(rates), max(rates)))) if rates else [ABSENT]
    return " – ".join(texts)


def findings(diagnosis: Diagnosis, name: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return what a diagnosis found as rows, each kind with the worst first: the place, what it is and how far off."""

    def row(place: str, key: str, kind: str, off_ppm: int | None, detail: Iterable[str | None] = ()) -> dict[str, Any]:
        off = ABSENT if off_ppm is None else signed(off_ppm)
        return {
            "place": place,
            "what": both("report", key),
            "kind": kind,
            "off": off,
            "detail": list(filter(None, detail)),
        }

    rows = []
    for node in diagnosis.odd_nodes:
        kind = f"{node.model} {node.workload}"
        rows.append(row(name[node.node_id], f"node_{node.side}", kind, node.off_ppm, [f"{node.devices} x"]))
    for one in diagnosis.outliers:
        if one.scope != "node":
            detail = (
                None if one.clock_off_ppm is None else f"clock {signed(one.clock_off_ppm)}",
                None if one.power_off_ppm is None else f"power {signed(one.power_off_ppm)}",
                None if one.temperature_max_c is None else f"{one.temperature_max_c} °C",
                None if not one.throttled_ppm else f"throttled {percent_text(one.throttled_ppm)}",
            )
            place, kind = f"{name[one.node_id]} {one.device}", f"{one.model} {one.workload}"
            rows.append(row(place, f"device_{one.side}", kind, one.off_ppm, detail))
    for group in diagnosis.slow_groups:
        rows.append(row(group.group, "slow_group", f"{group.model} {group.workload}", group.off_ppm))
    for hot in diagnosis.throttling:
        rows.append(row(name[hot.node_id], "throttling", "", None, [f"{hot.devices} x", percent_text(hot.worst_ppm)]))
    return rows


def signed(ppm: int) -> str:
    """Return a difference in per cent with its sign, truncated."""
    text = truncated(abs(ppm), 10_000, 1)
    return f"{'' if text == '0.0' else '+' if ppm > 0 else '-'}{text} %"


def heat_rows(
    readings: Sequence[FleetReading], blocked: Mapping[tuple[str, str], str], numbers: Mapping[str, int], middle: int
) -> list[tuple[int, list[HeatCell]]]:
    """Return the heat map of one model and workload: nodes by number, and their devices in the order of the record.

    Args:
        readings: of all devices, also those that are not compared.
        blocked: code of a figure that counts 0, by node and device.
        numbers: of the nodes in this report.
        middle: the median, sustained MFLOP/s.
    """
    rows: dict[int, list[HeatCell]] = {}
    for one in readings:
        off_ppm = one.sustained_mflop_s * 10**6 // middle - 10**6 if middle else 0
        step = min(STEPS_OF_HEAT, abs(off_ppm) * STEPS_OF_HEAT // HEAT_REACH_PPM + (abs(off_ppm) >= 1000))
        code = blocked.get((one.node_id, one.device))
        style = f"{'s' if off_ppm < 0 else 'f'}{step}" + (" x" if code else "")
        title = f"{one.device}: {rate_text(one.sustained_mflop_s)}, {signed(off_ppm)}" + (f", {code}" if code else "")
        rows.setdefault(numbers[one.node_id], []).append(HeatCell(style, signed(off_ppm)[:-2], title))
    if len(rows) <= HEAT_NODES:
        return sorted(rows.items())
    # Of thousands of nodes those with the furthest device are shown.
    furthest = sorted(rows, key=lambda number: (-max(int(cell.style[1:].split()[0]) for cell in rows[number]), number))
    return [(number, rows[number]) for number in sorted(furthest[:HEAT_NODES])]


def code_table(
    records: Sequence[DrawnRecord], problems: Sequence[SourceProblem], others: Iterable[str]
) -> list[dict[str, Any]]:
    """Return every reason code of a report with its effect, how often it is there, and its meaning."""
    counts = Counter(code for record in records for one in record.figures for code in one.codes)
    counts.update(code for record in records for one in record.absent for code in one.codes)
    counts.update(problem.code for problem in problems)
    counts.update(others)
    table = reasons()
    return [
        {"code": code, "count": count, "effect": table[code].effect, "zh": table[code].zh, "en": table[code].en}
        for code, count in sorted(counts.items())
        if code in table
    ]


def node_name(node_id: str, names: Mapping[str, str]) -> str:
    """Return the engine's name of a node, else its id, on one line."""
    return one_line(names.get(node_id, node_id), 256)
