"""What a campaign looks like just now: pure, from the latest status of every node, with the time passed in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Literal, get_args

import msgspec
from msgspec.structs import replace

from bench.campaign.launch.preflight import twins
from bench.language import text_in
from bench.record import Campaign, PoolClass
from bench.record.roster import Roster, RosterNode
from bench.record.shapes import Settled, SettledShape
from bench.record.status import Published, Status
from bench.units import SECOND_NS, utc_ns, utc_text

SILENT_HEARTBEATS = 6
LEAST_SILENT_NS = 30 * SECOND_NS
SLOW_PERCENT = 90  # of the median rate of the pool's nodes
MOST_READY_PERCENT = 90  # from then on those that are not ready are stragglers

Place = Literal[
    "expected",
    "arrived",
    "preparing",
    "prepared",
    "ready",
    "measuring",
    "concluding",
    "done",
    "void",
    "failed",
    "aborted",
    "lost",
]
PLACES: tuple[Place, ...] = get_args(Place)
WITH_FIGURES: frozenset[Place] = frozenset({"measuring", "concluding", "done", "void"})
OVER: frozenset[Place] = frozenset({"done", "void", "failed", "aborted", "lost"})
UNREADY: frozenset[Place] = frozenset({"expected", "arrived", "preparing"})
NO_RECORD: frozenset[Place] = frozenset({"expected", "failed", "aborted", "lost"})


class BoardLine(msgspec.Struct, frozen=True):
    """What the status board shows of one node of a campaign."""

    node_id: str
    name: str
    pool: str
    place: Place
    late: bool
    straggler: str | None  # why it is one
    rate_mflop_s: int | None
    message: str | None
    arrived_at: str | None
    ready_at: str | None
    ended_at: str | None


class Against(msgspec.Struct, frozen=True):
    """The running sum against a threshold."""

    name: str
    certified_mflop_s: int
    threshold_mflop_s: int


class Overview(msgspec.Struct, frozen=True):
    """A campaign at one moment. Sums are what the nodes say; `petaseal campaign collect` recomputes them."""

    at: str
    starts_at: str | None
    ends_at: str | None  # the end of the last window, as far as T0 is known
    phase: str
    expected: int
    places: dict[Place, int]
    late: int
    missing: int  # over without a record, or not heard of
    left_out: int
    live_mflop_s: dict[str, int]  # by workload: what the nodes that measure it do just now, sustained
    certified_mflop_s: dict[str, int]  # by class, of the workload that counts in it
    shapes: tuple[SettledShape, ...]  # one for each model and precision, once they are settled
    against: tuple[Against, ...]
    nodes: tuple[BoardLine, ...]
    waiting: tuple[str, ...] = ()  # a line for each gang that waits in the engine's queue
    unready: tuple[str, ...] = ()  # of a launch that ended before T0: which nodes were not ready, by reason

    @property
    def is_over(self) -> bool:
        """Return whether every node has reported its last status."""
        return all(line.place in OVER for line in self.nodes)


@dataclass(frozen=True)
class CampaignProgress:
    """What is known of a campaign at one moment, from its folder and its engine.

    Args:
        known: node -> its latest status.
        published: T0, where it is agreed.
        lost: nodes that give no sign of life any more.
        settled: the shapes of the campaign, where they are settled.
        waiting: a line for each gang that waits in the engine's queue.
        ended: how the campaign came to its end, where the folder or the clock says so.
    """

    known: Mapping[str, Status]
    published: Published | None = None
    lost: Collection[str] = ()
    settled: Settled | None = None
    waiting: tuple[str, ...] = ()
    ended: str | None = None


def silent_ns(roster: Roster) -> int:
    """Return after how long without a sign of life a node is taken as lost, ns."""
    return max(LEAST_SILENT_NS, SILENT_HEARTBEATS * roster.heartbeat_ns)


def place_of(status: Status | None, lost: bool, workloads: Collection[str]) -> Place:
    """Return where a node stands.

    Args:
        status: its latest.
        lost: whether it gives no sign of life any more.
        workloads: what counts in its pools.
    """
    if status is not None and status.state == "done":
        counted = any(status.sums[name].devices for name in workloads if name in status.sums)
        return "done" if counted else "void"
    if status is not None and status.state in ("failed", "aborted"):
        return status.state  # it said so itself
    if lost:
        return "lost"
    if status is None or status.state == "checked":
        return "expected"
    return status.state


def overview(roster: Roster, campaign: Campaign, progress: CampaignProgress, now_ns: int) -> Overview:
    """Return a campaign at one moment.

    Args:
        roster: its nodes and pools.
        campaign: signed.
        progress: what is known of it by then.
        now_ns: UTC, ns.
    """
    published, settled = progress.published, progress.settled
    starts = None if published is None else utc_ns(published.starts_at)
    due_ns = {} if starts is None else {n.node_id: starts + campaign.load_ns(n.node_id) for n in roster.nodes}
    counted = _counted(roster)
    places = {
        n.node_id: place_of(progress.known.get(n.node_id), n.node_id in progress.lost, counted[n.pools])
        for n in roster.nodes
    }
    # Before anything is summed: a device that two nodes report would else count twice on the screen, and never in a
    # statement.
    known = _without_twins(roster, progress.known, places)
    slow = _slow(roster, known, places)
    unready: frozenset[Place] = UNREADY if settled is None else UNREADY | {"prepared"}
    ready = sum(place not in unready for place in places.values())
    few_left = ready * 100 >= MOST_READY_PERCENT * len(roster.nodes)
    lines = []
    for node in roster.nodes:
        node_id, place = node.node_id, places[node.node_id]
        few = few_left and place in unready
        lines.append(_line(node, known.get(node_id), place, due_ns.get(node_id), slow.get(node_id), few))
    sums = _certified(roster, known, places, counted)
    counts = Counter(places.values())
    ends = None if starts is None else starts + campaign.last_closes_ns
    return Overview(
        at=utc_text(now_ns),
        starts_at=published.starts_at if published else None,
        ends_at=None if ends is None else utc_text(ends),
        phase=_phase(campaign, starts, now_ns, places.values(), bool(progress.waiting), progress.ended),
        expected=len(roster.nodes),
        places={place: counts[place] for place in PLACES},
        late=sum(line.late for line in lines),
        missing=sum(counts[place] for place in NO_RECORD),
        left_out=len(roster.left_out),
        live_mflop_s=_live(known, places),
        certified_mflop_s={str(name): value for name, value in sorted(sums.items())},
        shapes=() if settled is None else settled.shapes,
        against=tuple(
            Against(t.name, sum(value for name, value in sums.items() if name in t.classes), t.value_mflop_s)
            for t in roster.targets
        ),
        nodes=tuple(lines),
        waiting=progress.waiting,
    )


def _certified(
    roster: Roster,
    known: Mapping[str, Status],
    places: Mapping[str, Place],
    counted: Mapping[tuple[str, ...], Mapping[str, PoolClass]],
) -> dict[PoolClass, int]:
    """Return what the nodes that are done report as certified, by class, MFLOP/s."""
    sums: dict[PoolClass, int] = {}
    for node in roster.nodes:
        if places[node.node_id] == "done":
            reported = known[node.node_id].sums
            for workload, of_class in counted[node.pools].items():
                rate_mflop_s = reported[workload].certified_mflop_s if workload in reported else 0
                sums[of_class] = sums.get(of_class, 0) + rate_mflop_s
    return sums


def _counted(roster: Roster) -> dict[tuple[str, ...], dict[str, PoolClass]]:
    """Return, by the pools of nodes, the workloads that count there, each with its class."""
    known = {pool.pool: (pool.workload, pool.pool_class) for pool in roster.pools}
    return {pools: dict(known[name] for name in reversed(pools)) for pools in {node.pools for node in roster.nodes}}


def _without_twins(roster: Roster, known: Mapping[str, Status], places: dict[str, Place]) -> Mapping[str, Status]:
    """Return what is known without the rates of nodes that report one device: collecting will refuse their records.

    Args:
        roster: of the campaign.
        known: node -> its latest status.
        places: of the nodes; such a node that is done becomes void.
    """
    at_work = {n: s.facts for n, s in known.items() if places.get(n) in WITH_FIGURES and s.facts is not None}
    refused = twins(at_work, {node.node_id: node.name for node in roster.nodes})
    places |= {node_id: "void" for node_id in refused if places[node_id] == "done"}
    return {**known, **{n: replace(known[n], rate_mflop_s=None, message=why) for n, why in refused.items()}}


def _line(
    node: RosterNode, status: Status | None, place: Place, due_ns: int | None, slow: str | None, few_left: bool
) -> BoardLine:
    late = (
        due_ns is not None and status is not None and status.ready_at is not None and utc_ns(status.ready_at) > due_ns
    )
    waiting = place != "expected" or status is None
    reason = text_in("en", "straggler", "not-ready") if few_left and waiting else slow
    return BoardLine(
        node_id=node.node_id,
        name=node.name,
        pool=node.pool,
        place=place,
        late=late,
        straggler=reason,
        rate_mflop_s=status.rate_mflop_s if status else None,
        message=status.message if status else None,
        arrived_at=status.arrived_at if status else None,
        ready_at=status.ready_at if status else None,
        ended_at=status.ended_at if status else None,
    )


def _live(known: Mapping[str, Status], places: Mapping[str, Place]) -> dict[str, int]:
    """Return the sum of the rates that nodes under load tell of, by workload, MFLOP/s."""
    live: dict[str, int] = {}
    for node_id, status in known.items():
        if places.get(node_id) == "measuring" and status.workload is not None and status.rate_mflop_s:
            live[status.workload] = live.get(status.workload, 0) + status.rate_mflop_s
    return dict(sorted(live.items()))


def _slow(roster: Roster, known: Mapping[str, Status], places: Mapping[str, Place]) -> dict[str, str]:
    """Return the nodes that are well below the median of their pool in the same phase, and by how much."""
    rates: dict[tuple[str, str | None, str | None], dict[str, int]] = {}
    for node in roster.nodes:
        status = known.get(node.node_id)
        if places[node.node_id] == "measuring" and status is not None and status.rate_mflop_s:
            rates.setdefault((node.pool, status.workload, status.phase), {})[node.node_id] = status.rate_mflop_s
    slow = {}
    for group in rates.values():
        middle = median(group.values())
        for node_id, rate in group.items():
            if rate * 100 < SLOW_PERCENT * middle:
                slow[node_id] = text_in("en", "straggler", "slow", percent=f"{rate * 100 / middle:.0f}")
    return slow


def _phase(
    campaign: Campaign,
    starts_ns: int | None,
    now_ns: int,
    places: Collection[Place],
    is_waiting: bool,
    ended: str | None,
) -> str:
    """Return what the campaign does just now, in English words, as its JSON has them."""
    if starts_ns is not None and all(place in OVER for place in places):
        return text_in("en", "campaign_phase", "over")
    if ended is not None:
        return text_in("en", "campaign_phase", "ended", how=ended)
    if starts_ns is None and now_ns > utc_ns(campaign.starts_until):
        return text_in("en", "campaign_phase", "too-late", until=campaign.starts_until)
    if starts_ns is None and is_waiting:
        return text_in("en", "campaign_phase", "queued")
    if starts_ns is None and all(place == "expected" for place in places):
        return text_in("en", "campaign_phase", "silent")
    if starts_ns is None:
        return text_in("en", "campaign_phase", "readying")
    since = now_ns - starts_ns
    if since < 0:
        return text_in("en", "campaign_phase", "starting", seconds=-since // SECOND_NS + 1)
    for window in campaign.windows:
        for key, until_ns in (("warming", window.opens_ns), ("measuring", window.closes_ns)):
            if since < until_ns:
                left = (until_ns - since) // SECOND_NS
                return text_in("en", "campaign_phase", key, workload=window.workload, seconds=left)
    for run in campaign.network:
        for key, until_ns in (("joining", run.load_ns), ("reducing", run.closes_ns)):
            if since < until_ns:
                left = (until_ns - since) // SECOND_NS
                return text_in("en", "campaign_phase", key, run=run.run, seconds=left)
    silent = sum(place == "expected" for place in places)
    if silent < len(places) and all(place in OVER or place == "expected" for place in places):
        return text_in("en", "campaign_phase", "over-without", silent=silent, nodes=len(places))
    return text_in("en", "campaign_phase", "writing")
