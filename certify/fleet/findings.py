"""Readings of a fleet and the findings of `certify.fleet.fleet`: frozen values, and lines of them for people.

Only types and words may enter this room; how each finding is made stands in docs/fleet.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from bench.errors import one_line
from bench.record import Document
from bench.units import rate_text, truncated

Side = Literal["slow", "fast"]
Scope = Literal["device", "node", "only"]  # only: the sole device of its node, so that the two cannot be told apart
Reason = Literal["slow-device", "fast-device", "slow-node", "fast-node", "drifted"]
Kind = tuple[str, str]  # model, workload


def side_of(difference: float) -> Side:
    """Return on which side of the usual a difference from it is."""
    return "slow" if difference < 0 else "fast"


class FleetReading(msgspec.Struct, frozen=True):
    """One device's figure in one workload (such as fp16 or fp64-tuned); None is what the device does not report."""

    node_id: str
    device: str
    model: str
    workload: str
    sustained_mflop_s: int
    certified_mflop_s: int
    clock_mean_mhz: int | None = None
    temperature_max_c: int | None = None
    power_mean_mw: int | None = None
    throttled_ppm: int | None = None


class Population(Document, frozen=True, kw_only=True):
    """Devices of one model that are as fast as each other, and the limits of what is usual among them."""

    devices: int
    nodes: int
    median_mflop_s: int
    low_mflop_s: int | None  # None: too few devices to tell
    high_mflop_s: int | None
    groups: tuple[str, ...]  # that all its nodes are in, where these are few


class Spread(Document, frozen=True, kw_only=True):
    """All devices of one model in one workload. Two populations, the slower first, where there are two."""

    model: str
    workload: str
    devices: int
    nodes: int
    median_mflop_s: int
    populations: tuple[Population, ...]


class Outlier(Document, frozen=True, kw_only=True):
    """A device outside of the limits; each difference is from the median of its population."""

    node_id: str
    device: str
    model: str
    workload: str
    side: Side
    scope: Scope
    sustained_mflop_s: int
    off_ppm: int
    clock_off_ppm: int | None
    power_off_ppm: int | None
    temperature_max_c: int | None
    throttled_ppm: int | None


class OddNode(Document, frozen=True, kw_only=True):
    """A node whose devices are slow, or fast, as a whole."""

    node_id: str
    model: str
    workload: str
    side: Side
    devices: int
    off_ppm: int  # median of its devices


class SlowGroup(Document, frozen=True, kw_only=True):
    """A rack or switch that is slow as a group."""

    group: str
    model: str
    workload: str
    nodes: int
    off_ppm: int  # its median node from the median of all other nodes


class Throttling(Document, frozen=True, kw_only=True):
    """A node of which devices throttled for more than `THROTTLED_PPM` of a window."""

    node_id: str
    devices: int
    worst_ppm: int


class Drift(Document, frozen=True, kw_only=True):
    """How a model changed since the previous campaign: device by device, where both measured it."""

    model: str
    workload: str
    pairs: int
    median_ppm: int


class Drifted(Document, frozen=True, kw_only=True):
    """A node of which devices changed much more than their model did."""

    node_id: str
    model: str
    workload: str
    side: Side
    devices: tuple[str, ...]
    worst_ppm: int  # change since the previous campaign


class TakeOut(Document, frozen=True, kw_only=True):
    """A node to take out and look at, and why."""

    node_id: str
    devices: tuple[str, ...]  # single ones that it is about
    reasons: tuple[Reason, ...]


class WorkloadSum(Document, frozen=True, kw_only=True):
    """One workload's certified MFLOP/s over all readings, and over those of the nodes that stay."""

    workload: str
    devices: int
    certified_mflop_s: int
    devices_without: int
    certified_without_mflop_s: int


class Diagnosis(Document, frozen=True, kw_only=True):
    """All findings of one campaign, each list with the worst first."""

    spreads: tuple[Spread, ...]
    outliers: tuple[Outlier, ...]
    odd_nodes: tuple[OddNode, ...]
    slow_groups: tuple[SlowGroup, ...]
    throttling: tuple[Throttling, ...]
    throttling_untold: int  # readings
    drifts: tuple[Drift, ...]
    drifted: tuple[Drifted, ...]
    take_out: tuple[TakeOut, ...]
    sums: tuple[WorkloadSum, ...]


SHOWN = 10  # of each kind of finding; all of them are in the JSON


def lines(diagnosis: Diagnosis, names: Mapping[str, str], shown: int = SHOWN) -> list[str]:
    """Return a diagnosis as printed lines.

    Args:
        diagnosis: the findings of one campaign.
        names: the engine's name of each node, where it is known.
        shown: at most so many findings of each kind.
    """

    def name(node_id: str) -> str:
        return one_line(names.get(node_id, node_id), 64)

    d = diagnosis
    text = [line for spread in d.spreads for line in _spread_lines(spread)]
    text += shortened("Nodes slow or fast as a whole", [_node_line(n, name(n.node_id)) for n in d.odd_nodes], shown)
    single = [_outlier_line(one, name(one.node_id)) for one in d.outliers if one.scope != "node"]
    text += shortened("Devices slow or fast by themselves", single, shown)
    text += shortened(
        "Racks or switches slow as a whole: look at what their nodes share",
        [_group_line(g) for g in d.slow_groups],
        shown,
    )
    throttling = [
        f"{name(t.node_id)}: {counted(t.devices, 'device')}, {_percent(t.worst_ppm)} at worst" for t in d.throttling
    ]
    text += shortened("Nodes that throttled, of the window", throttling, shown)
    if d.throttling_untold:
        text.append(f"Throttling was not told for {d.throttling_untold:,} readings.")
    text += [
        f"{_kind(one)}: {_signed(one.median_ppm)} since the campaign before, median of {counted(one.pairs, 'device')}."
        for one in d.drifts
    ]
    drifted = [
        f"{name(one.node_id)} ({', '.join(one.devices)}), {_kind(one)}: {_signed(one.worst_ppm)}" for one in d.drifted
    ]
    text += shortened("Nodes that drifted more than their model", drifted, shown)
    taken = [f"{name(t.node_id)}: {', '.join((*t.reasons, *t.devices))}" for t in d.take_out]
    text += shortened("Nodes to take out and look at", taken, shown)
    return text + list(_sum_lines(d))


def shortened(title: str, entries: Sequence[str], shown: int) -> list[str]:
    """Return a titled list of at most so many entries and a count of the rest; nothing for no entries."""
    if not entries:
        return []
    more = [f"  and {len(entries) - shown:,} more"] if len(entries) > shown else []
    return [f"{title} ({len(entries):,}):", *(f"  {line}" for line in entries[:shown]), *more]


def _kind(one: Spread | OddNode | Outlier | SlowGroup | Drift | Drifted) -> str:
    return f"{one_line(one.model, 64)} {one.workload}"


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, such as "3 nodes"."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _percent(ppm: int) -> str:
    return f"{truncated(ppm, 10_000, 1)} %"


def _signed(ppm: int) -> str:
    return f"{'+' if ppm > 0 else ''}{_percent(ppm)}"


def _spread_lines(spread: Spread) -> Iterator[str]:
    median = rate_text(spread.median_mflop_s)
    yield f"{_kind(spread)}: {counted(spread.devices, 'device')} on {counted(spread.nodes, 'node')}, median {median}"
    if len(spread.populations) > 1:
        yield "  two populations: compare their firmware, power limits and cooling"
    for one in spread.populations:
        if one.low_mflop_s is None:
            yield "  too few devices to tell what is usual"
            continue
        place = f", all in {', '.join(map(one_line, one.groups))}" if one.groups else ""
        usual = f"usual {rate_text(one.low_mflop_s)} to {rate_text(one.high_mflop_s)}"
        size = f"{counted(one.devices, 'device')} on {counted(one.nodes, 'node')}"
        yield f"  {size}{place}: {rate_text(one.median_mflop_s)}, {usual}"


def _node_line(one: OddNode, name: str) -> str:
    return f"{name}, {_kind(one)}: {one.side}, {_signed(one.off_ppm)} over its {counted(one.devices, 'device')}"


def _outlier_line(one: Outlier, name: str) -> str:
    seen = [
        None if one.clock_off_ppm is None else f"clock {_signed(one.clock_off_ppm)}",
        None if one.power_off_ppm is None else f"power {_signed(one.power_off_ppm)}",
        None if one.temperature_max_c is None else f"{one.temperature_max_c} °C",
        f"throttled {_percent(one.throttled_ppm)}" if one.throttled_ppm else None,
    ]
    only = "the only device of its node" if one.scope == "only" else None
    facts = ", ".join(filter(None, [only, *seen]))
    return f"{name} {one.device}, {_kind(one)}: {one.side}, {_signed(one.off_ppm)}{f' ({facts})' * bool(facts)}"


def _group_line(one: SlowGroup) -> str:
    return f"{one_line(one.group, 64)}, {_kind(one)}: {_signed(one.off_ppm)} over its {counted(one.nodes, 'node')}"


def _sum_lines(diagnosis: Diagnosis) -> Iterator[str]:
    for one in diagnosis.sums:
        whole = f"{one.workload}: {counted(one.devices, 'device')}, {rate_text(one.certified_mflop_s)} certified"
        if one.devices_without == one.devices:
            yield f"{whole}."
        else:
            rest = f"{counted(one.devices_without, 'device')}, {rate_text(one.certified_without_mflop_s)}"
            yield f"{whole}; without the nodes to take out {rest}."
