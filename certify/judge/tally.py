"""The sums over a statement's records: tallies of any shares of them add up, in any order (policies.md). Values only.

`certify.judge.record` adds a record to a tally, `certify.statement.build` makes a statement of one; nothing is
extrapolated.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from bench.record import Grade, Workload
from certify.judge.ceilings import LimitName, Step
from certify.judge.fabric.sums import FabricSums
from certify.judge.nodes import NodeMeans
from certify.judge.scope import Scope
from certify.policy.capacity import Capacity, CapacitySum, NodeMost

# Why a figure is in a sum: it has no hold; the policies accept its holds (`unbounded`: and nothing known bounds it); or
# they accept them in a statement that a witness vouches for, and nothing counts before (`witness`).
Standing = Literal["clean", "on_hold", "unbounded", "witness"]


class Key(NamedTuple):
    """What one sum is of: devices of one pool in one workload that count for the same reason."""

    pool: str
    workload: Workload
    in_baseline: bool
    standing: Standing


class CeilingKey(NamedTuple):
    """What one line of R12 is of: figures of one model in one workload, under one limit and step of evidence."""

    pool: str
    workload: Workload
    vendor: str
    model: str
    step: Step
    limit: LimitName | None  # the lowest that exists


@dataclass
class CeilingSum:
    """The number and sum of figures that one limit of R12 bounds."""

    figures: int = 0
    counted: int = 0
    certified_mflop_s: int = 0  # of those counted
    least_mflop_s: int | None = None  # the lowest of their limits

    def add_figure(self, counts: bool, certified_mflop_s: int, limit_mflop_s: int | None) -> None:
        """Add one figure and the limit that binds it."""
        self.figures += 1
        if counts:
            self.counted += 1
            self.certified_mflop_s += certified_mflop_s
        if limit_mflop_s is not None and (self.least_mflop_s is None or limit_mflop_s < self.least_mflop_s):
            self.least_mflop_s = limit_mflop_s

    def add(self, other: CeilingSum) -> None:
        """Add other figures under the same limit."""
        self.figures += other.figures
        self.counted += other.counted
        self.certified_mflop_s += other.certified_mflop_s
        known = [limit for limit in (self.least_mflop_s, other.least_mflop_s) if limit is not None]
        self.least_mflop_s = min(known, default=None)


@dataclass
class Tally:
    """Everything that a statement needs of a set of records; `add` merges another one."""

    node_ids: set[str] = field(default_factory=set)
    nodes: Counter[str] = field(default_factory=Counter)  # pool -> records with a device in it
    devices: Counter[str] = field(default_factory=Counter)  # pool -> devices in the records
    largest: dict[str, NodeMost] = field(default_factory=dict)  # pool -> what no node of it exceeds
    lacking: dict[str, set[str]] = field(default_factory=dict)  # pool -> its nodes whose record has no device of it
    inventory: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)  # pool, vendor, model, count unit
    sums: dict[Key, CapacitySum] = field(default_factory=dict)
    untested: dict[tuple[str, bool], CapacitySum] = field(default_factory=dict)  # pool, in the baseline: what counts 0
    ceilings: dict[CeilingKey, CeilingSum] = field(default_factory=dict)
    vendors: dict[tuple[str, str], CapacitySum] = field(default_factory=dict)  # pool, vendor: what counts there
    in_baseline: int = 0  # devices in the records that the baseline inventory lists
    findings: Counter[tuple[str, str]] = field(default_factory=Counter)  # code, workload
    not_counted: list[tuple[str, str, str, tuple[str, ...]]] = field(default_factory=list)  # node, device, workload
    grades: set[Grade] = field(default_factory=set)  # of what counts
    with_witness_grades: set[Grade] = field(default_factory=set)  # of what counts once a witness vouches
    simulated: bool = False
    measured_from: str = "9999-12-31T23:59:59.999999Z"
    measured_until: str = "0001-01-01T00:00:00.000000Z"
    fabric: FabricSums = field(default_factory=FabricSums)
    means: dict[str, NodeMeans] = field(default_factory=dict)  # of the nodes of `Scope.evidence_nodes`

    def add(self, other: Tally) -> None:
        """Merge another tally into this one."""
        self.node_ids |= other.node_ids
        self.nodes += other.nodes
        self.devices += other.devices
        for name, most in other.largest.items():
            self.largest[name] = most.or_other(self.largest.get(name))
        for name, nodes in other.lacking.items():
            self.lacking.setdefault(name, set()).update(nodes)
        self.inventory += other.inventory
        for key, value in other.sums.items():
            self.sums.setdefault(key, CapacitySum()).add(value)
        for place, value in other.untested.items():
            self.untested.setdefault(place, CapacitySum()).add(value)
        for kind_of, under in other.ceilings.items():
            self.ceilings.setdefault(kind_of, CeilingSum()).add(under)
        for of_vendor, value in other.vendors.items():
            self.vendors.setdefault(of_vendor, CapacitySum()).add(value)
        self.in_baseline += other.in_baseline
        self.findings += other.findings
        self.not_counted += other.not_counted
        self.grades |= other.grades
        self.with_witness_grades |= other.with_witness_grades
        self.simulated |= other.simulated
        self.measured_from = min(self.measured_from, other.measured_from)
        self.measured_until = max(self.measured_until, other.measured_until)
        self.fabric.add(other.fabric)
        self.means |= other.means


class PoolSums(NamedTuple):
    """What counts of a pool, its part that nothing known bounds, and what counts in addition once a witness vouches."""

    counted: Capacity = Capacity()
    never_scheduled: Capacity = Capacity()
    with_witness: Capacity = Capacity()


def counted_sums(tally: Tally, scope: Scope) -> tuple[tuple[str, PoolSums], ...]:
    """Return what a tally counts in each pool, in the workload of the pool's class."""
    sums = dict.fromkeys(tally.nodes, PoolSums())
    classes = {pool.pool: pool.pool_class for pool in scope.centre.pools}
    for key, value in tally.sums.items():
        if key.workload != scope.counting[classes[key.pool]].workload:
            continue
        counted, never_scheduled, with_witness = sums[key.pool]
        if key.standing == "witness":
            with_witness += value.capacity
        else:
            counted += value.capacity
        if key.standing == "unbounded":
            never_scheduled += value.capacity
        sums[key.pool] = PoolSums(counted, never_scheduled, with_witness)
    return tuple(sums.items())
