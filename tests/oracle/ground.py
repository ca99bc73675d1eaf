"""What all records of one statement are audited against, and what an audit keeps of them. Values only."""

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
from tests.oracle.judging import Case
from tests.oracle.observed import Watched

KEY_CODES = frozenset({"node-key-differs", "node-key-not-enrolled"})  # of a record, and so of all its figures


@dataclass(frozen=True)
class Ground:
    """What every record is audited against; travels to worker processes."""

    statement: CapacityStatement
    profile: Profile
    policies: tuple[Policy, ...]
    ratings: Ratings
    existing: frozenset[tuple[str, str]] | None  # (field, identity) in the baseline; None: there is one, and not given
    nodes: frozenset[str] = frozenset()  # whose chain of reasoning is wanted

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


class Standing(NamedTuple):
    """A counted device's place and certified MFLOP/s: the smallest and largest of a sum are shown."""

    certified_mflop_s: int
    place: str


@dataclass
class Added:
    """A sum over devices, MFLOP/s, with the smallest and the largest of them."""

    devices: int = 0
    certified_mflop_s: int = 0
    sustained_mflop_s: int = 0
    upper_mflop_s: int = 0
    unbounded: int = 0
    nominal_mflop_s: int = 0
    without_rating: int = 0
    smallest: Standing | None = None
    largest: Standing | None = None

    def add(self, other: Added) -> None:
        """Add another sum."""
        for name in ("devices", "certified_mflop_s", "sustained_mflop_s", "upper_mflop_s", "unbounded"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.nominal_mflop_s += other.nominal_mflop_s
        self.without_rating += other.without_rating
        ends = [one for one in (self.smallest, self.largest, other.smallest, other.largest) if one is not None]
        self.smallest, self.largest = min(ends, default=None), max(ends, default=None)


class Group(NamedTuple):
    """What sums are kept apart by."""

    pool: str
    counted: bool  # else: counts 0, and only its nominal rate matters
    on_hold: bool  # counted because the policies accept its holds
    existing: bool  # in the baseline inventory


class Chain(NamedTuple):
    """Everything that was found about one figure, for the chain of reasoning of its node."""

    place: str
    pool: str
    counted: bool  # the workload is the one that counts in its pool
    case: Case
    watched: Watched | None  # None: there were no samples
    codes: tuple[str, ...]  # recomputed
    said: tuple[str, ...]  # further codes that the statement gives, and the audit does not recompute
    grade: Grade | None
    counts: bool


@dataclass
class Part:
    """What an audit keeps of some records; `add` merges another one."""

    records: int = 0
    figures: int = 0
    with_samples: int = 0
    digests: list[str] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)
    sums: dict[Group, Added] = field(default_factory=dict)
    nodes_in: Counter[str] = field(default_factory=Counter)  # pool -> records with a device in it
    found: Counter[str] = field(default_factory=Counter)  # pool -> devices
    existing: int = 0
    findings: Counter[tuple[str, str]] = field(default_factory=Counter)  # code, workload
    grades: set[Grade] = field(default_factory=set)
    simulated: bool = False
    issues: list[Issue] = field(default_factory=list)
    not_checked: Counter[str] = field(default_factory=Counter)  # what -> how many figures or records
    chains: list[Chain] = field(default_factory=list)

    def tell(self, code: str, where: str, what: str) -> None:
        """Take an issue."""
        self.issues.append(Issue(code, where, what))

    def add(self, other: Part) -> None:
        """Merge another part."""
        self.records += other.records
        self.figures += other.figures
        self.with_samples += other.with_samples
        self.digests += other.digests
        self.nodes += other.nodes
        for group, value in other.sums.items():
            self.sums.setdefault(group, Added()).add(value)
        self.nodes_in += other.nodes_in
        self.found += other.found
        self.existing += other.existing
        self.findings += other.findings
        self.grades |= other.grades
        self.simulated |= other.simulated
        self.issues += other.issues
        self.not_checked += other.not_checked
        self.chains += other.chains
