"""The campaign: when and where a centre is measured. Its windows are relative to T0, the one start of all its nodes.

T0 is not in the document: it is agreed once every node is ready, and each record and the statement name it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Literal, get_args

from msgspec import Meta

from bench.errors import InputError
from bench.record.fields import (
    Challenge,
    Choice,
    Count,
    DeviceName,
    Document,
    Name,
    Positive,
    Precision,
    Sha256,
    Text,
    UtcTime,
    Workload,
    WorkloadName,
)
from bench.record.network import NetworkRunName, NetworkWindow
from bench.record.plan import Profile, ReferenceRole
from bench.units import DAY_NS, utc_ns

LEAD_NS = 500_000_000  # from "all are ready" to the first load, and between the end of one load and the next
SWEEP_NS = 1_000_000_000  # for the all-reduces of one size without products (docs/network.md)
BEFORE_THE_NEXT_WINDOW: tuple[ReferenceRole, ...] = ("path",)  # other references run last of all
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
    """What the nodes of a pool measure, and which of their devices count in it; in other windows they stand idle."""

    pool: Name
    devices: Literal["all"] | tuple[DeviceName, ...] = "all"  # as in the centre file
    workloads: Annotated[tuple[WorkloadName, ...], Meta(min_length=1)]


class ExpectedNode(Document, frozen=True, kw_only=True):
    """A node that the campaign expects a record from, and the pools that its devices count in."""

    node_id: Name
    pool: Name
    also: tuple[Name, ...] = ()  # other pools with devices on it: a mixed node is split by device
    keyid: Sha256 | None = None  # of the key that is enrolled for it: a record under another one counts 0
    group: Name | None = None  # within which it reduces (docs/network.md), such as a pod; null: with all nodes

    @property
    def pools(self) -> tuple[str, ...]:
        """All pools with devices on it, its own first."""
        return (self.pool, *self.also)


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
    network: Annotated[tuple[NetworkWindow, ...], Meta(max_length=16)] = ()  # after the counted windows
    rails: bool = False  # run C joins the devices of one index only: a fabric of rails

    def windows_problem(self) -> str | None:
        """Return what is wrong with the windows: each is of another workload, and begins after the one before.

        Each pool that nodes are of has a window for all that it measures, and every window is some pool's.
        """
        opened = {str(window.workload) for window in self.windows}
        if len(opened) != len(self.windows):
            return "the campaign has two windows for one workload"
        if len({pool.pool for pool in self.pools}) != len(self.pools):
            return "the campaign names a pool twice"
        if unlisted := {pool for node in self.nodes for pool in node.pools} - {pool.pool for pool in self.pools}:
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
        # Age and validity count from the last window: none may put them off.
        if max(before_ns, self.last_closes_ns) > DAY_NS:
            return "the campaign ends more than a day after its start"
        return self.network_problem()

    def network_problem(self) -> str | None:
        """Return what is wrong with the network's windows: they follow the counted ones, each after the one before."""
        runs = [(window.run, window.tokens) for window in self.network]
        if len(set(runs)) != len(runs):
            return "the campaign has two windows for one run of the network"
        before_ns = self.closes_ns
        for window in self.network:
            if not before_ns <= window.load_ns <= window.opens_ns < window.closes_ns:
                return f"the network's {window.run} window is reversed, or begins before the window before it ends"
            if (window.run == "compute") != (window.tokens is None):
                return f"the network's {window.run} window has tokens where nothing is reduced, or none where it is"
            before_ns = window.closes_ns
        return None

    def split_problem(self) -> str | None:
        """Return what is wrong with the pools of its nodes: a device of a node counts in one of them."""
        holders: dict[str, set[str]] = {}  # device -> the pools that take it
        for pool, devices in self._devices.items():
            for device in devices or ():
                holders.setdefault(device, set()).add(pool)
        sharing: dict[str, set[str]] = {}  # pool -> those that share a device with it, and itself
        for pools, node_id in {node.pools: node.node_id for node in self.nodes if node.also}.items():
            seen: set[str] = set()
            for pool in pools:
                devices = self._devices.get(pool)
                if devices is not None and pool not in sharing:
                    sharing[pool] = {pool}.union(*(holders[device] for device in devices))
                if devices is None or not seen.isdisjoint(sharing[pool]):
                    what = f"{', '.join(pools[:8])}{', …' if len(pools) > 8 else ''}"
                    return f"the campaign has the node {node_id} in pools that share devices: {what}"
                seen.add(pool)
        return None

    def start_problem(self, starts_at: str) -> str | None:
        """Return what is wrong with a T0: it lies within the campaign's time."""
        if max(self.issued_at, self.starts_from) <= starts_at <= self.starts_until:
            return None
        return f"starts at {starts_at}, and the campaign from {self.starts_from} until {self.starts_until}"

    @property
    def closes_ns(self) -> int:
        """When its last counted core window closes, ns after T0: age and validity count from it."""
        return self.windows[-1].closes_ns

    @property
    def last_closes_ns(self) -> int:
        """When its last window closes, one of the network's where it has such, ns after T0."""
        return self.network[-1].closes_ns if self.network else self.closes_ns

    def slot_ns(self, node_id: str) -> int:
        """Return a node's ramp slot: how long after a window's load begins its own does, ns."""
        return self.ramp_ns * self._places[node_id] // len(self.nodes)

    def load_ns(self, node_id: str) -> int:
        """Return when a node's first load is due, ns after T0; one in no window has its slot in the first."""
        return (self.windows_of(node_id) or self.windows)[0].load_ns + self.slot_ns(node_id)

    def windows_of(self, node_id: str) -> tuple[Window, ...]:
        """Return the windows in which a node takes part, those of all its pools; none where it is not expected."""
        return self._windows.get(self._pools.get(node_id, ()), ())

    def pools_of(self, node_id: str) -> tuple[str, ...]:
        """Return the pools that a node has devices in; none where it is not expected."""
        return self._pools.get(node_id, ())

    def pool_of(self, node_id: str, device: str) -> str | None:
        """Return the pool that a node's device counts in by this campaign; None where it names none."""
        for pool in self._pools.get(node_id, ()):
            devices = self._devices.get(pool, frozenset())
            if devices is None or device in devices:
                return pool
        return None

    # Indices by node: a campaign of 200,000 nodes is asked for each of them while records are judged.
    @cached_property
    def _pools(self) -> dict[str, tuple[str, ...]]:
        return {node.node_id: node.pools for node in self.nodes}

    @cached_property
    def _devices(self) -> dict[str, frozenset[str] | None]:
        return {one.pool: None if isinstance(one.devices, str) else frozenset(one.devices) for one in self.pools}

    @cached_property
    def _windows(self) -> dict[tuple[str, ...], tuple[Window, ...]]:
        measured = {pool.pool: set(pool.workloads) for pool in self.pools}
        windows = {}
        for pools in set(self._pools.values()):
            names = set[str]().union(*(measured.get(pool, ()) for pool in pools))
            windows[pools] = tuple(window for window in self.windows if str(window.workload) in names)
        return windows

    @cached_property
    def _places(self) -> dict[str, int]:
        return {node.node_id: place for place, node in enumerate(self.nodes)}


def ends_ns(campaign: Campaign, starts_at: str) -> int:
    """Return when a campaign that started at T0 has closed its last core window, UTC ns."""
    return utc_ns(starts_at) + campaign.closes_ns


def named_workloads(profile: Profile, names: Sequence[str]) -> tuple[Workload, ...]:
    """Return the workloads that were asked for by their texts, such as fp16 or fp16-tuned, in that order.

    Raises:
        InputError: the profile has no shapes for one, or one is named twice.
    """
    both = (Workload(p, c) for p in get_args(Precision) for c in get_args(Choice))
    known = {str(workload): workload for workload in both if profile.registered(workload)}
    for name in names:
        if name not in known:
            raise InputError(
                "unknown-precision",
                f"there is no precision {name!r} in profile {profile.profile}",
                fix=f"choose from {', '.join(sorted(known))}",
            )
        if names.count(name) > 1:
            raise InputError("unknown-precision", f"the precision {name} is named twice", fix="name each once")
    return tuple(known[name] for name in names)


def windows(profile: Profile, workloads: Sequence[Workload], ramp_ns: int = 0) -> tuple[Window, ...]:
    """Return one window for each workload, one after another, relative to T0.

    Args:
        profile: with the lengths.
        workloads: in the order in which they are measured.
        ramp_ns: from the first node's load to the last one's, which still has its whole warm-up.
    """
    made = []
    load_ns = 0
    for workload in workloads:
        opens_ns = load_ns + ramp_ns + profile.warmup_ns
        closes_ns = opens_ns + profile.window_ns
        made.append(Window(**workload._asdict(), load_ns=load_ns, opens_ns=opens_ns, closes_ns=closes_ns))
        # The next window waits for the cross-checks of this one, which need the device as warm as it was.
        load_ns = closes_ns + profile.guard_ns + profile.references_ns(workload, BEFORE_THE_NEXT_WINDOW) + LEAD_NS
    return tuple(made)


def network_windows(profile: Profile, counted: Sequence[Window], ramp_ns: int = 0) -> tuple[NetworkWindow, ...]:
    """Return the windows of the network's runs, after everything that the counted windows need; none without a plan.

    Args:
        profile: with the network's plan.
        counted: the campaign's windows of workloads.
        ramp_ns: from the first node's load to the last one's.
    """
    plan = profile.network
    if not plan:
        return ()
    reducing: tuple[NetworkRunName, ...] = ("node", "fabric")
    runs: list[tuple[NetworkRunName, int | None]] = [("compute", None)]
    runs += [(run, tokens) for tokens in plan.tokens for run in reducing]
    # Last of all: what the figures need has ended by then, and nothing that happens here can touch it.
    references_ns = sum(profile.references_ns(window.workload) for window in counted)
    load_ns = counted[-1].closes_ns + profile.guard_ns + references_ns + plan.join_ns
    made = []
    for run, tokens in runs:
        opens_ns = load_ns + ramp_ns + plan.warmup_ns
        closes_ns = opens_ns + plan.window_ns
        made.append(NetworkWindow(run=run, tokens=tokens, load_ns=load_ns, opens_ns=opens_ns, closes_ns=closes_ns))
        load_ns = closes_ns + plan.reduction_ns + LEAD_NS  # a run that hangs has ended by then
    return tuple(made)


def load_ends_ns(campaign: Campaign, profile: Profile) -> int:
    """Return when a campaign's last load ends at the latest, that of references and of the network too, ns after T0."""
    references_ns = sum(profile.references_ns(window.workload) for window in campaign.windows)
    counted_ns = campaign.closes_ns + profile.guard_ns + references_ns
    plan = profile.network
    if not plan or not campaign.network:
        return counted_ns
    # A size takes its share of time, and the last reduction may hang until it counts as lost.
    return max(counted_ns, campaign.last_closes_ns + len(plan.sweep_bytes) * SWEEP_NS + 2 * plan.reduction_ns)
