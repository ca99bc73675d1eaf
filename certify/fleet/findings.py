"""Readings of a fleet and the findings of `certify.fleet.fleet`: frozen values.

Only types may enter this room; how each finding is made stands in docs/fleet.md.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from bench.record import Document

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
