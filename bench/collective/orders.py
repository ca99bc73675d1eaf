"""What a node orders its workers for the network's part, and what they answer; the node's part of the conversation is
``bench.engine.network``.
"""

from __future__ import annotations

import msgspec

from bench.record import Device, Precision, Workload
from bench.record.network import NetworkWindow, RankFigure


class Rendezvous(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the ranks of a group meet: published once by the node that hosts the store, read by all others."""

    campaign_sha256: str
    starts_at: str  # T0
    group: str | None
    node_id: str  # of the host
    device: str  # whose process hosts the store
    address: str
    port: int
    token: str  # what the store's keys begin with: who has not read this finds nothing there


class Timing(msgspec.Struct, frozen=True):
    """How the ranks of a campaign keep time; UTC, ns, where it is no duration."""

    joins_until_ns: int  # then the list of ranks is closed
    reduction_ns: int  # within which a reduction ends
    grace_ns: int  # after it: what hangs below torch has no better limit


class OpenNetwork(msgspec.Struct, tag=True, frozen=True):
    """Order to a worker that has concluded: load what reduces. It answers `NetworkOpened`."""

    workload: Workload  # whose products are computed
    node: int  # the node's place in the campaign
    place: int  # the device's place in the record
    node_id: str
    device: Device  # as the record lists it
    campaign_sha256: str
    starts_at: str
    block_ns: int
    interface: str | None  # the network interface by which others reach this node


class NetworkOpened(msgspec.Struct, tag=True, frozen=True):
    """Message of a worker: the products that it computes, or why it can reduce nothing."""

    kernel: str
    precision: Precision
    m: int
    n: int
    k: int
    block_launches: int
    trouble: str | None = None  # of the reductions; products alone can be computed all the same


class HostStore(msgspec.Struct, tag=True, frozen=True):
    """Order to a worker: host the store of its group. It answers `StoreHosted`."""

    address: str
    token: str


class StoreHosted(msgspec.Struct, tag=True, frozen=True):
    """Message of a worker: the port of the store, or why there is none."""

    port: int | None
    trouble: str | None = None


class JoinGroup(msgspec.Struct, tag=True, frozen=True):
    """Order to a worker: join the ranks of its group. It answers `GroupJoined`."""

    rendezvous: Rendezvous
    timing: Timing
    rails: bool


class GroupJoined(msgspec.Struct, tag=True, frozen=True):
    """Message of a worker: its rank and the group's size, or why it joined none."""

    rank: int | None
    ranks: int | None
    backend: str | None
    block_launches: int  # of all devices that compute equal products, as many
    trouble: str | None = None


class MeasureRun(msgspec.Struct, tag=True, frozen=True):
    """Order to a worker: measure one run in its window. It answers `RunMeasured`."""

    window: NetworkWindow
    starts_ns: int  # T0, UTC ns


class RunMeasured(msgspec.Struct, tag=True, frozen=True):
    """Message of a worker: a run on its device."""

    figure: RankFigure
    reduction_bytes: int


class MeasureSweep(msgspec.Struct, tag=True, frozen=True):
    """Order to a worker: all-reduces by size, without products. It answers `SweepMeasured`."""

    sizes: tuple[int, ...]


class SizeFigure(msgspec.Struct, frozen=True):
    """All-reduces of one size."""

    size_bytes: int
    ranks: int
    reductions: int
    elapsed_ns: int
    wrong_reductions: int


class SweepMeasured(msgspec.Struct, tag=True, frozen=True):
    """Message of a worker: all-reduces by size, as far as they came."""

    figures: tuple[SizeFigure, ...]
    trouble: str | None = None


NetworkOrder = OpenNetwork | HostStore | JoinGroup | MeasureRun | MeasureSweep
NetworkAnswer = NetworkOpened | StoreHosted | GroupJoined | RunMeasured | SweepMeasured
