"""What is known of a campaign's nodes: what each reported last, and which of them are lost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence

from bench.campaign.board import silent_ns
from bench.campaign.launch.readiness import in_states
from bench.clock import Clock
from bench.launchers.base import Gang
from bench.record.folder import Folder, survey
from bench.record.roster import Roster, RosterNode
from bench.record.status import FINAL, State, Status
from bench.units import SECOND_NS

GIVEN_UP_NS = 10 * SECOND_NS  # of a node that the engine itself has given up


class KnownNodes:
    """The nodes of a campaign, as one launch knows them.

    Args:
        folder: of the campaign.
        roster: its nodes.
        clock: this machine's clocks.
        remark: called with what happened, a sentence each.
    """

    def __init__(self, folder: Folder, roster: Roster, clock: Clock, remark: Callable[[str], None]) -> None:
        self._folder, self._roster, self._clock, self._remark = folder, roster, clock, remark
        self.known: dict[str, Status] = {}
        self.ids = frozenset(node.node_id for node in roster.nodes)
        self.names = {node.node_id: node.name for node in roster.nodes}
        self.by_name = {node.name: node.node_id for node in roster.nodes}
        self.changed_ns: dict[str, tuple[str, int]] = {}  # node -> its latest status' time, and when it was first seen
        self.prepared_ns: dict[str, int] = {}  # node -> when it was first seen to have prepared, in this launch
        self.lost: set[str] = set()
        self._workloads = {pool.pool: pool.workload for pool in roster.pools}
        self._said_ended: set[str] = set()

    def survey(self) -> None:
        """Read the latest status of every node from the campaign's folder."""
        survey(self._folder, self.known, self.ids)

    def drop_finished(self) -> None:
        """Drop the statuses of nodes that report an end: before T0 they are of an earlier attempt."""
        # A status of the last attempt may lie there still, until the node has started again and written another.
        for node_id in in_states(self.known, *FINAL):
            del self.known[node_id]

    def state_of(self, node_id: str) -> State | None:
        """Return the state that a node reported last; None before its first status."""
        status = self.known.get(node_id)
        return None if status is None else status.state

    def in_states(self, *states: State) -> set[str]:
        """Return the nodes that are in one of some states and not lost."""
        return in_states(self.known, *states) - self.lost

    def silent(self, gang: Gang) -> list[str]:
        """Return the engine's names of a gang's nodes that have reported nothing."""
        return [name for name in gang.nodes if self.by_name[name] not in self.known]

    def find_lost(self, given_up: Collection[str], is_too_late: bool) -> None:
        """Mark nodes as lost that have reported nothing for long, or that came too late for every window.

        Args:
            given_up: the engine's names of nodes that it has given up itself.
            is_too_late: whether a node that was never heard of could take part in no window any more.
        """
        now = self._clock.monotonic_ns()
        gone = {self.by_name[name] for name in given_up if name in self.by_name}
        for node_id, status in self.known.items():
            at, since = self.changed_ns.get(node_id, ("", now))
            # Only the coordinator's own clock measures silence: a node's time is compared with nothing but its earlier
            # one.
            if status.at != at:
                at, since = status.at, now
                if node_id in self.lost:
                    self.lost.discard(node_id)
                    self._remark(f"{self.names[node_id]} is heard of again")
            self.changed_ns[node_id] = at, since
            silent = now - since
            ended = status.state in ("done", "failed", "aborted", "checked")
            if not ended and (silent > silent_ns(self._roster) or (node_id in gone and silent > GIVEN_UP_NS)):
                self.lose(node_id, f"has told nothing for {silent // SECOND_NS} s")
        if is_too_late:
            for node_id in self.ids - self.known.keys():
                self.lose(node_id, "was never heard of")

    def lose(self, node_id: str, why: str) -> None:
        """Mark a node as lost, and say so to the operator."""
        if node_id not in self.lost:
            self.lost.add(node_id)
            self._remark(f"{self.names[node_id]} {why} and is taken as lost")

    def report_ended(self, has_started: bool) -> None:
        """Say once of every node with a record how many of its devices count 0, and of one that failed after T0 why."""
        for node in self._roster.nodes:
            status = self.known.get(node.node_id)
            if has_started and status is not None and status.state == "failed":
                if node.node_id not in self._said_ended and status.ready_at is not None:
                    self._said_ended.add(node.node_id)
                    self._remark(f"{node.name} failed: {status.message}")
            elif status is not None and status.state == "done" and node.node_id not in self._said_ended:
                self._said_ended.add(node.node_id)
                sums = [status.sums[name] for name in self._counted_in(node) if name in status.sums]
                if not sums:
                    self._remark(f"{node.name} has measured nothing of what counts")
                elif idle := sum(one.held + one.void for one in sums):
                    devices = sum(one.devices for one in sums) + idle
                    self._remark(f"{node.name}: {idle} of its {devices} devices count 0")

    def _counted_in(self, node: RosterNode) -> set[str]:
        """Return the workloads that count in a node's pools."""
        return {self._workloads[name] for name in node.pools}

    def forget(self, nodes: Sequence[str]) -> None:
        """Delete what nodes reported of an attempt that is over, but for records that are done."""
        for node_id in nodes:
            if node_id not in self.known or self.known[node_id].state != "done":
                self.known.pop(node_id, None)
                self.changed_ns.pop(node_id, None)
                self.prepared_ns.pop(node_id, None)
                self.lost.discard(node_id)
                with contextlib.suppress(OSError):
                    self._folder.status_file(node_id).unlink()
