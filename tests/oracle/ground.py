"""What the oracle judges all records of one statement against, and what it keeps of them. Values only."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from bench.record import Grade, Profile, Workload
from certify.policy.centre import Pool
from certify.policy.policies import Counting, Policy
from certify.policy.ratings import Ratings
from certify.samples.issues import Issue
from certify.statement.build import CapacityStatement, NotCounted

# Of a record, and so of all its figures.
KEY_CODES = frozenset({"node-key-differs", "node-key-not-enrolled", "identities-replaced"})


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

    @cached_property
    def excluded(self) -> dict[tuple[str, str], NotCounted]:
        """What the statement says of each device that counts 0."""
        return {(one.node_id, one.device): one for one in self.statement.not_counted if one.device is not None}

    @cached_property
    def _members(self) -> list[tuple[Pool, frozenset[str] | None, frozenset[str] | None]]:
        def names(listed: str | tuple[str, ...]) -> frozenset[str] | None:
            return None if isinstance(listed, str) else frozenset(listed)

        return [(pool, names(pool.nodes), names(pool.devices)) for pool in self.statement.centre.pools]

    def pool_of(self, node_id: str, device: str) -> Pool | None:
        """Return the pool that a device stands in."""
        for pool, nodes, devices in self._members:
            if (nodes is None or node_id in nodes) and (devices is None or device in devices):
                return pool
        return None

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


@dataclass
class Part:
    """What the oracle keeps of all records."""

    records: int = 0
    figures: int = 0
    digests: list[str] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)
    sums: dict[Group, Added] = field(default_factory=dict)
    nodes_in: Counter[str] = field(default_factory=Counter)  # pool -> records with a device in it
    found: Counter[str] = field(default_factory=Counter)  # pool -> devices
    vendors: dict[tuple[str, str], Added] = field(default_factory=dict)  # pool, vendor: what counts
    existing: int = 0
    findings: Counter[tuple[str, str]] = field(default_factory=Counter)  # code, workload
    grades: set[Grade] = field(default_factory=set)
    simulated: bool = False
    issues: list[Issue] = field(default_factory=list)

    def tell(self, code: str, where: str, what: str) -> None:
        """Take an issue."""
        self.issues.append(Issue(code, where, what))
