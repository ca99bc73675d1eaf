"""What records say of the network's runs, added up: shares of them merge in any order. Values only."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from bench.record.network.vector import VectorSum


class PartKey(NamedTuple):
    """The rows of one run C that claim one reduced vector."""

    tokens: int
    group: str | None
    digest: str | None  # null: the devices that give none


@dataclass
class RunRates:
    """Devices with a figure of all three runs, and the sums of those."""

    devices: int = 0
    compute_mflop_s: int = 0  # A
    node_mflop_s: int = 0  # B
    fabric_mflop_s: int = 0  # C
    counted_mflop_s: int = 0  # what they sustained in their counted window
    unrated: set[str] = field(default_factory=set)  # why further devices are in no sum

    def add(self, other: RunRates) -> None:
        """Merge other devices."""
        self.devices += other.devices
        self.compute_mflop_s += other.compute_mflop_s
        self.node_mflop_s += other.node_mflop_s
        self.fabric_mflop_s += other.fabric_mflop_s
        self.counted_mflop_s += other.counted_mflop_s
        self.unrated |= other.unrated


@dataclass
class VectorPart:
    """What the records say of one reduced vector."""

    vector: VectorSum = field(default_factory=VectorSum)
    ranks: list[int] = field(default_factory=list)
    sizes: set[int] = field(default_factory=set)  # that the rows give for the group
    nodes: int = 0  # records with a row in it
    indices: set[str] = field(default_factory=set)  # of the devices on their nodes
    faults: set[str] = field(default_factory=set)
    in_run_b: bool = False  # a record has the same digest in run B, which is another vector
    rates: RunRates = field(default_factory=RunRates)

    def add(self, other: VectorPart) -> None:
        """Merge what other records say of the same vector."""
        self.vector.add(other.vector)
        self.ranks += other.ranks
        self.sizes |= other.sizes
        self.nodes += other.nodes
        self.indices |= other.indices
        self.faults |= other.faults
        self.in_run_b |= other.in_run_b
        self.rates.add(other.rates)

    def is_counted_out(self, *, whole: bool) -> bool:
        """Return whether each rank stands once, of the n that all rows give.

        Args:
            whole: whether they must be all of 0 to n-1: inside a node, and in a rail, a rank may be that of the group.
        """
        count, ranks = len(self.ranks), sorted(self.ranks)
        if whole:
            return self.sizes == {count} and ranks == list(range(count))
        return len(self.sizes) == 1 and len(set(ranks)) == count and 0 <= ranks[0] <= ranks[-1] < min(self.sizes)


class PointKey(NamedTuple):
    """All-reduces of one size over the groups of one name and size."""

    group: str | None
    ranks: int
    size_bytes: int


class PointSum(NamedTuple):
    """How many nodes measured a size, the slowest of them, and whether all sums were right."""

    nodes: int
    algorithm_mb_s: int
    right: bool

    def joined(self, other: PointSum | None) -> PointSum:
        """Return both."""
        if other is None:
            return self
        slowest = min(self.algorithm_mb_s, other.algorithm_mb_s)
        return PointSum(self.nodes + other.nodes, slowest, self.right and other.right)


@dataclass
class FabricSums:
    """What the network's runs of a set of records add up to."""

    devices: int = 0
    without_row: Counter[int] = field(default_factory=Counter)  # tokens -> devices with no row in that run C
    parts: dict[PartKey, VectorPart] = field(default_factory=dict)
    points: dict[PointKey, PointSum] = field(default_factory=dict)
    faults: set[str] = field(default_factory=set)  # of measurements that are of no run of the campaign

    def add(self, other: FabricSums) -> None:
        """Merge other records."""
        self.devices += other.devices
        self.without_row += other.without_row
        for key, part in other.parts.items():
            self.parts.setdefault(key, VectorPart()).add(part)
        for point, value in other.points.items():
            self.points[point] = value.joined(self.points.get(point))
        self.faults |= other.faults
