"""The campaign: when and where a centre is measured. Its windows are relative to T0, the one start of all its nodes.

T0 is not in the document: it is agreed once every node is ready, and each record and the statement name it.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

from msgspec import Meta

from bench.record.fields import (
    Challenge,
    Choice,
    Count,
    Document,
    Name,
    Positive,
    Precision,
    Sha256,
    Text,
    UtcTime,
    Workload,
    WorkloadName,
    workload_of,
)
from bench.units import DAY_NS, utc_ns

Outcome = Literal["submitted", "not-submitted", "aborted"]


class Window(Document, frozen=True, kw_only=True):
    """The common window of one workload (R10): load, and count only within the core window; ns after T0."""

    precision: Precision
    choice: Choice
    load_ns: Count  # of the first ramp slot
    opens_ns: Positive
    closes_ns: Positive

    @property
    def workload(self) -> Workload:
        """What is measured in it."""
        return Workload(self.precision, self.choice)


class ExpectedPool(Document, frozen=True, kw_only=True):
    """What the nodes of a pool measure; in the windows of other workloads they stand idle."""

    pool: Name
    workloads: Annotated[tuple[WorkloadName, ...], Meta(min_length=1)]


class ExpectedNode(Document, frozen=True, kw_only=True):
    """A node that the campaign expects a record from, and the pool that its devices count in."""

    node_id: Name
    pool: Name
    keyid: Sha256 | None = None  # of the key that is enrolled for it: a record under another one counts 0


class LeftOutNode(Document, frozen=True, kw_only=True):
    """A node of the centre that the campaign leaves out from the beginning: it counts 0."""

    node_id: Name
    pool: Name
    reason: Text  # in the words of the centre's engine or of who excluded it


class Attempt(Document, frozen=True, kw_only=True):
    """An earlier campaign of the same series, and what became of it: who measures again says so."""

    campaign_id: Name
    campaign_sha256: Sha256
    issued_at: UtcTime
    outcome: Outcome


class Campaign(Document, frozen=True, kw_only=True, dict=True):
    """One measurement of one centre. A self-issued campaign has one node and no centre, and its grade is capped."""

    campaign_id: Name
    self_issued: bool
    purpose: Literal["capacity", "spot-check"]
    centre_id: Name | None
    centre_sha256: Sha256 | None  # of the centre file at that time; null where self-issued
    challenge: Challenge
    challenge_source: Literal["self", "witness", "registry"]
    profile: Name
    profile_sha256: Sha256
    policies: dict[Name, Sha256]  # that it is meant for; empty where self-issued
    issued_at: UtcTime
    starts_from: UtcTime  # T0 lies between these
    starts_until: UtcTime
    ramp_ns: Count  # from the first node's load to the last one's: thousands of cards at once are a megawatt step
    windows: Annotated[tuple[Window, ...], Meta(min_length=1)]
    pools: Annotated[tuple[ExpectedPool, ...], Meta(min_length=1)]
    nodes: Annotated[tuple[ExpectedNode, ...], Meta(max_length=200_000)]
    left_out: Annotated[tuple[LeftOutNode, ...], Meta(max_length=200_000)]
    series: Name  # the same for every attempt at one measurement
    earlier: Annotated[tuple[Attempt, ...], Meta(max_length=1000)]

    def windows_problem(self) -> str | None:
        """Return what is wrong with the windows: each is of another workload, and begins after the one before.

        Each pool that nodes are of has a window for all that it measures, and every window is some pool's.
        """
        opened = {str(window.workload) for window in self.windows}
        if len(opened) != len(self.windows):
            return "the campaign has two windows for one workload"
        if len({pool.pool for pool in self.pools}) != len(self.pools):
            return "the campaign names a pool twice"
        if unlisted := {node.pool for node in self.nodes} - {pool.pool for pool in self.pools}:
            return f"the campaign does not say what the pool {min(unlisted)} measures"
        if opened != (measured := {name for pool in self.pools for name in pool.workloads}):
            return f"the campaign has windows for {sorted(opened)}, and its pools measure {sorted(measured)}"
        if not self.issued_at <= self.starts_until or self.starts_from > self.starts_until:
            return "the campaign may start only before it is issued, or until before it may"
        before_ns = 0
        for window in self.windows:
            if not before_ns <= window.load_ns <= window.opens_ns < window.closes_ns:
                return f"the {window.workload} window is reversed, or begins before the window before it ends"
            before_ns = window.closes_ns
        if before_ns > DAY_NS:  # age and validity count from the last window: no empty one may put them off
            return "the campaign ends more than a day after its start"
        return None

    def start_problem(self, starts_at: str) -> str | None:
        """Return what is wrong with a T0: it lies within the campaign's time."""
        if max(self.issued_at, self.starts_from) <= starts_at <= self.starts_until:
            return None
        return f"starts at {starts_at}, and the campaign from {self.starts_from} until {self.starts_until}"

    @property
    def closes_ns(self) -> int:
        """When its last core window closes, ns after T0."""
        return self.windows[-1].closes_ns

    def slot_ns(self, node_id: str) -> int:
        """Return a node's ramp slot: how long after a window's load begins its own does, ns."""
        return self.ramp_ns * self._places[node_id] // len(self.nodes)

    def load_ns(self, node_id: str) -> int:
        """Return when a node's first load is due, ns after T0; one in no window has its slot in the first."""
        return (self.windows_of(node_id) or self.windows)[0].load_ns + self.slot_ns(node_id)

    def windows_of(self, node_id: str) -> tuple[Window, ...]:
        """Return the windows in which a node takes part; none where the campaign does not expect it."""
        return self._windows.get(self._pools.get(node_id, ""), ())

    @cached_property
    def _pools(self) -> dict[str, str]:
        return {node.node_id: node.pool for node in self.nodes}

    @cached_property
    def _windows(self) -> dict[str, tuple[Window, ...]]:
        measured = {pool.pool: set(map(workload_of, pool.workloads)) for pool in self.pools}
        return {pool: tuple(w for w in self.windows if w.workload in own) for pool, own in measured.items()}

    @cached_property
    def _places(self) -> dict[str, int]:
        return {node.node_id: place for place, node in enumerate(self.nodes)}


def over_ns(campaign: Campaign, starts_at: str) -> int:
    """Return when a campaign that started at T0 has closed its last core window, UTC ns."""
    return utc_ns(starts_at) + campaign.closes_ns
