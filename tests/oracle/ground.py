"""What the oracle judges all records of one statement against, and what it keeps of them. Values only."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from bench.record import DeviceModel, Grade, Measurement, NodeRecord, Profile, Workload
from certify.documents.statement import CapacityStatement, NotCounted
from certify.policy.centre import Pool
from certify.policy.policies import Counting, Policy
from certify.policy.ratings import Ratings
from certify.samples.summary import SampleIssue

# Of a record, and so of all its figures, and of a figure's shape: what the campaign says rather than the numbers.
GROUND_CODES = frozenset(
    {
        "node-key-differs",
        "node-key-not-enrolled",
        "identities-replaced",
        "clock-differs",
        "clock-not-compared",
        "shape-differs",
    }
)


@dataclass(frozen=True)
class Ground:
    """What every record is judged against."""

    statement: CapacityStatement
    profile: Profile
    policies: tuple[Policy, ...]
    ratings: Ratings
    existing: frozenset[str] | None  # identities in the baseline; None: there is one, and not given

    @cached_property
    def counting(self) -> dict[str, Counting]:
        """What each class is counted in; the policies of one statement agree on it."""
        return {name: entry for policy in self.policies for name, entry in policy.counting.items()}

    @cached_property
    def accept(self) -> frozenset[str]:
        """Hold codes that all policies accept."""
        return frozenset.intersection(*(frozenset(policy.accept) for policy in self.policies))

    @cached_property
    def places(self) -> dict[str, int]:
        """Each expected node's place in the ramp."""
        return {node.node_id: place for place, node in enumerate(self.statement.campaign.nodes)}

    @cached_property
    def _enrolled(self) -> dict[str, str | None]:
        """Each node's key by the campaign. A campaign that a node issued for itself vouches for nobody's key."""
        campaign = self.statement.campaign
        return {} if campaign.self_issued else {node.node_id: node.keyid for node in campaign.nodes}

    def key_codes(self, node_id: str, keyid: str) -> tuple[str, ...]:
        """Return what is wrong with the key that sealed a node's record."""
        enrolled = self._enrolled.get(node_id)
        if enrolled is None:
            demanded = any(policy.node_keys == "enrolled" for policy in self.policies)
            return ("node-key-not-enrolled",) if demanded else ()
        return () if keyid == enrolled else ("node-key-differs",)

    def clock_codes(self, record: NodeRecord) -> tuple[str, ...]:
        """Return whether a node's clock, by the bound that it signed, can have been right when it was compared."""
        closing, campaign = self.statement.closing, self.statement.campaign
        if campaign.self_issued:
            return ()
        if closing is None or record.node_id not in closing.node_id:
            return ("clock-not-compared",)
        row = closing.node_id.index(record.node_id)
        asked, told, seen = closing.asked_ns[row], closing.answered_ns[row], closing.seen_ns[row]
        bounds = [record.clock.uncertainty_ns, closing.clock.uncertainty_ns]
        slack = sum(bound for bound in bounds if bound is not None)
        if not asked - slack <= told <= min(seen, asked + 2 * 10**9) + slack:
            return ("clock-differs",)
        return () if (closing.clock.uncertainty_ns or 0) <= 10**9 else ("clock-not-compared",)

    def shape_codes(self, measurement: Measurement, model: DeviceModel) -> tuple[str, ...]:
        """Return whether a figure of the fixed choice has another shape than its model was to run."""
        if self.statement.closing is None or measurement.choice != "fixed":
            return ()
        told = (model.kind, model.vendor, model.model, model.bin, model.count_unit, model.simulated, model.plays)
        for one in self.statement.closing.shapes:
            p = one.product
            own = (p.kind, p.vendor, p.model, p.bin, p.count_unit, p.simulated, p.plays) == told
            own &= p.count_unit != "slice" or p.units == model.units
            if own and one.precision == measurement.precision:
                same = (one.m, one.n, one.k) == (measurement.m, measurement.n, measurement.k)
                return () if same else ("shape-differs",)
        return ()

    @cached_property
    def excluded(self) -> dict[tuple[str, str], NotCounted]:
        """What the statement says of each device that counts 0."""
        return {(one.node_id, one.device): one for one in self.statement.not_counted if one.device is not None}

    @cached_property
    def _members(self) -> list[tuple[Pool, frozenset[str] | None, frozenset[str] | None]]:
        def names(listed: str | tuple[str, ...]) -> frozenset[str] | None:
            return None if isinstance(listed, str) else frozenset(listed)

        return [(pool, names(pool.nodes), names(pool.devices)) for pool in self.statement.centre.pools]

    @cached_property
    def _placed(self) -> dict[str, tuple[str, ...]]:
        """The pools of each node by the campaign; one that a node issued for itself says nothing of pools."""
        campaign = self.statement.campaign
        return {} if campaign.self_issued else {node.node_id: (node.pool, *node.also) for node in campaign.nodes}

    def expected_in(self, node_id: str) -> tuple[str, ...]:
        """Return the pools that the campaign has a node in."""
        return self._placed.get(node_id, ())

    def pool_of(self, node_id: str, device: str) -> Pool | None:
        """Return the pool that a device stands in."""
        for pool, nodes, devices in self._members:
            placed = pool.pool in self._placed.get(node_id, (pool.pool,))
            if placed and (nodes is None or node_id in nodes) and (devices is None or device in devices):
                return pool
        return None

    def misplaced(self, node_id: str, device: str) -> bool:
        """Return whether campaign and centre file put a device into different pools."""
        taking = [
            pool
            for pool, nodes, devices in self._members
            if (nodes is None or node_id in nodes) and (devices is None or device in devices)
        ]
        taking = [pool for pool in taking if pool.nodes != "all"] or taking  # a list is stronger than a partition
        own = self.pool_of(node_id, device)
        if self.statement.campaign.self_issued:
            return len(taking) > 1
        return any(pool.partition is None for pool in taking) if own is None else own not in taking

    def length_ns(self, workload: Workload) -> int | None:
        """Return how long the core window of a workload is."""
        lengths = (w.closes_ns - w.opens_ns for w in self.statement.campaign.windows if w.workload == workload)
        return next(lengths, None)


@dataclass
class Added:
    """A sum over devices, MFLOP/s."""

    devices: int = 0
    certified_mflop_s: int = 0
    sustained_mflop_s: int = 0
    upper_mflop_s: int = 0
    unbounded: int = 0
    nominal_mflop_s: int = 0
    without_rating: int = 0

    def add(self, other: Added) -> None:
        """Add another sum."""
        for name in ("devices", "certified_mflop_s", "sustained_mflop_s", "upper_mflop_s", "unbounded"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.nominal_mflop_s += other.nominal_mflop_s
        self.without_rating += other.without_rating


class Group(NamedTuple):
    """What sums are kept apart by."""

    pool: str
    counted: bool  # else: counts 0, and only its nominal rate matters
    on_hold: bool  # counted because the policies accept its holds
    existing: bool  # in the baseline inventory


Bounds = tuple[int | None, int | None]  # of one device: of its figure unless that is void, and its rating


@dataclass
class Part:
    """What the oracle keeps of all records."""

    records: int = 0
    figures: int = 0
    digests: list[str] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)
    sums: dict[Group, Added] = field(default_factory=dict)
    nodes_in: Counter[str] = field(default_factory=Counter)  # pool -> records with a device in it
    bare: dict[str, set[str]] = field(default_factory=dict)  # pool -> its nodes that recorded no device of it
    found: Counter[str] = field(default_factory=Counter)  # pool -> devices
    machines: dict[str, list[list[Bounds]]] = field(default_factory=dict)  # pool -> each node's devices
    vendors: dict[tuple[str, str], Added] = field(default_factory=dict)  # pool, vendor: what counts
    existing: int = 0
    findings: Counter[tuple[str, str]] = field(default_factory=Counter)  # code, workload
    grades: set[Grade] = field(default_factory=set)
    simulated: bool = False
    issues: list[SampleIssue] = field(default_factory=list)

    def tell(self, code: str, where: str, what: str) -> None:
        """Take an issue."""
        self.issues.append(SampleIssue(code, where, what))
