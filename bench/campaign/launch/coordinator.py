"""The coordinator: hands a campaign's gangs to the engine, settles one shape for each model, publishes T0, watches.

It keeps nothing that the folder and the engine do not: killed at any moment, it goes on where it was when it is started
again. It ends only what it has to, and decides nothing about a figure: success is counted by records.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import NoReturn

from bench.campaign.board import OVER, CampaignProgress, Overview, overview
from bench.campaign.launch.clocks import Clocks
from bench.campaign.launch.gangs import Gangs, Silence
from bench.campaign.launch.memory import LaunchMemory
from bench.campaign.launch.nodes import KnownNodes
from bench.campaign.launch.plan import LaunchPlan, gangs
from bench.campaign.launch.readiness import (
    complaints,
    go_on,
    in_states,
    refused_twins,
    too_few,
    unprepared,
    unready,
    waits_of,
    without_devices,
)
from bench.campaign.opening import OpenCampaign
from bench.campaign.room import needed_bytes, no_room, room_in
from bench.clock import Clock
from bench.errors import InputError, RefusedError
from bench.launchers.base import Launcher
from bench.record import exclusive_lock
from bench.record.campaign import load_ends_ns
from bench.record.folder import Folder
from bench.record.shapes import Settled, settle
from bench.record.status import Published, Status
from bench.units import SECOND_NS, shortened_list, utc_ns, utc_text


class Coordinator:
    """One launch of a campaign.

    Args:
        opened: the campaign, with its folder, profile and roster.
        plan: how to launch it.
        launcher: the engine; None where the operator starts the nodes.
        clock: this machine's clocks.
        show: called with every overview.
        remark: called with what happened, a sentence each.
    """

    def __init__(
        self,
        opened: OpenCampaign,
        plan: LaunchPlan,
        launcher: Launcher | None,
        clock: Clock,
        show: Callable[[Overview], None] = lambda view: None,
        remark: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.opened, self.plan = opened, plan
        self.folder, self.campaign, self.roster = opened.folder, opened.campaign, opened.roster
        self.launcher = launcher
        self.clock = clock
        self.show = show
        self.remark = remark
        self.nodes = KnownNodes(self.folder, self.roster, clock, remark)
        self.gangs = Gangs(gangs(opened, plan), plan, self.folder, self.nodes, launcher, clock, remark)
        self.memory = LaunchMemory(self.folder, plan, self.nodes, clock, remark, knows_engine=launcher is not None)
        self.first_runs_ns: int | None = None
        self.clocks = Clocks(self.folder, self.campaign, clock, remark)

    def run(self) -> Overview:
        """Launch or go on, until every node is over or the campaign's deadline has passed.

        Raises:
            InputError: the campaign's time has passed, the engine refuses it, or another launch is going on.
            RefusedError: `campaign-not-ready`: too few nodes of a pool were ready; or `no-room`.
        """
        with only_launch(self.folder):
            self.check()
            if self.folder.started() is None:
                self.refuse_without_room(self.nodes.ids)
            self.memory.begin()
            try:
                view = self.watch()
            except InputError as error:
                if error.code in ("output-not-writable", "engine-ends-gang"):
                    self.gangs.cancel()  # nobody will watch the others, and a folder that takes nothing takes no record
                raise
            self.end()
            return view

    def look(self) -> tuple[dict[str, Status], Silence]:
        """Let every node check itself; return the statuses, and why some nodes reported none in time.

        Raises:
            InputError: the campaign has started or is being launched, its time has passed, or the engine refuses it.
            RefusedError: `no-room`: the campaign's folder has no room for what the nodes report.
        """
        with only_launch(self.folder):
            self.check()
            if (error := self.room_error(self.nodes.ids)) is not None:  # no launch, which would be remembered as such
                raise error
            nodes_busy = self.launcher is not None and any(
                self.launcher.state(gang).phase in ("queued", "running")
                for gang in gangs(self.opened, self.plan._replace(check_only=False))
            )
            if nodes_busy or self.folder.started() is not None:
                raise InputError("launch-running", "is going on already", where=self.folder.root)
            deadline = self.clock.monotonic_ns() + self.plan.ready_timeout_ns
            self.gangs.ask()
            self.gangs.submit_missing()
            while True:
                self.nodes.survey()
                self.clocks.compare(self.nodes.known, self.nodes.lost, None)
                self.gangs.ask()
                reported = {node for node, s in self.nodes.known.items() if s.state in ("checked", "failed", "aborted")}
                ended = all(state.phase in ("ended", "absent") for state in self.gangs.states.values())
                if reported >= self.nodes.ids or ended or self.clock.monotonic_ns() > deadline:
                    if self.nodes.ids - reported:
                        self.gangs.ask(at_once=True)  # why the others have not begun
                    silence = self.gangs.silence()
                    self.gangs.cancel()
                    return self.nodes.known, silence
                self.clock.sleep_ns(self.plan.refresh_ns)

    def check(self) -> None:
        """Refuse what cannot go on, and say why.

        Raises:
            InputError: it was aborted, or its time has passed.
        """
        where, fix = self.campaign.campaign_id, f"measure again with: {self.folder.command('rerun')}"
        if self.folder.aborted():
            raise InputError("campaign-aborted", "was aborted", where=where, fix=fix)
        if self.folder.started() is None and self.clock.utc_ns() > utc_ns(self.campaign.starts_until):
            what = f"was to start until {self.campaign.starts_until}, and did not"
            raise InputError("campaign-window-passed", what, where=where, fix=fix)

    def watch(self) -> Overview:
        """Follow the campaign until every record is there or its time is over, and return the last board."""
        while True:
            self.nodes.survey()
            published = self.folder.started()
            if published is None:
                self.nodes.drop_finished()
            self.clocks.compare(self.nodes.known, self.nodes.lost, published)
            self.gangs.ask()
            lost = frozenset(self.nodes.lost)
            is_too_late = published is not None and self.clock.utc_ns() > self.closes_ns(published)
            self.nodes.find_lost(self.gangs.given_up_nodes(), is_too_late)
            if self.nodes.lost != lost:
                self.memory.write()  # for whoever looks from another window
            self.nodes.report_ended(published is not None)
            if published is None and not self.folder.aborted():
                published = self.before_start()
            now = self.clock.utc_ns()
            settled = self.folder.settled()
            waiting = self.gangs.waiting()
            progress = CampaignProgress(self.nodes.known, published, self.nodes.lost, settled, waiting)
            view = overview(self.roster, self.campaign, progress, now)
            self.show(view)
            if self.is_over(view, published, now):
                return view
            self.clock.sleep_ns(self.plan.refresh_ns)

    def is_over(self, view: Overview, published: Published | None, now_ns: int) -> bool:
        """Return whether there is nothing more to wait for."""
        if published is None and not self.folder.aborted():
            return False  # what has failed is started again
        if view.is_over:
            return True
        if self.folder.aborted():
            return all(line.place in OVER or line.place == "expected" for line in view.nodes)
        return published is not None and now_ns > self.deadline_ns(published)

    def deadline_ns(self, published: Published) -> int:
        """Return when every record must be there, UTC ns."""
        over_ns = load_ends_ns(self.campaign, self.opened.profile)
        return utc_ns(published.starts_at) + over_ns + self.plan.finish_ns

    def closes_ns(self, published: Published) -> int:
        """Return when the last window closes, UTC ns."""
        return utc_ns(published.starts_at) + self.campaign.closes_ns

    def before_start(self) -> Published | None:
        """Submit what is not submitted, retry what failed, settle the shapes, and publish T0 once everything is ready.

        Raises:
            InputError: the campaign's time has passed.
            RefusedError: `campaign-not-ready` or `no-room`.
        """
        if any(
            status.state in ("failed", "aborted") and not self.gangs.is_given_up(n)
            for n, status in self.nodes.known.items()
        ):
            self.gangs.ask(at_once=True)  # did they fail, or did the engine end their gang?
        now, utc = self.clock.monotonic_ns(), self.clock.utc_ns()
        self.gangs.submit_missing()
        if self.launcher is None or self.gangs.running_pools():  # each gang's time limit counts from its own start
            self.first_runs_ns = self.first_runs_ns or now
        self.gangs.retry_failed()
        settled = self.folder.settled()
        ready = self.nodes.in_states("ready") if settled else self.nodes.in_states("prepared", "ready")
        if utc + self.plan.lead_ns > utc_ns(self.campaign.starts_until):
            self.gangs.cancel()
            there = f"{len(ready)} of {len(self.nodes.ids)} nodes are ready"
            what = f"was to start until {self.campaign.starts_until}; {there}"
            fix = f"measure again with: {self.folder.command('rerun')}"
            raise InputError("campaign-window-passed", what, where=self.campaign.campaign_id, fix=fix)
        is_due = utc + self.plan.lead_ns >= utc_ns(self.campaign.starts_from)
        if self.awaited(settled, is_due):
            return None
        refused = self.refused()
        ready -= refused.keys() | without_devices(self.nodes.known)
        short = too_few(self.roster, ready, self.plan.least)
        if not is_due and (settled or short):
            return None
        if short:
            lines = self.report_problems(ready, refused, "not ready")
            what = "; ".join(f"pool {pool}: {numbers}" for pool, numbers in short.items())
            fix = go_on(self.roster, ready, short)
            self.refuse(RefusedError("campaign-not-ready", what, where=self.campaign.campaign_id, fix=fix), lines)
        self.refuse_without_room(ready)
        if settled is None:
            self.publish_shapes(ready)
            return None
        return self.publish(ready, refused)

    def refuse(self, error: RefusedError, unready: Collection[str] = ()) -> NoReturn:
        """End the launch before T0, with all load, and leave in the folder why: its nodes say that they were ended.

        Args:
            error: why.
            unready: which nodes were not ready, by reason.

        Raises:
            RefusedError: always.
        """
        self.gangs.cancel()
        with contextlib.suppress(InputError):  # there may be no room for that either
            self.memory.write(utc_text(self.clock.utc_ns()), str(error), unready)
        raise error

    def refuse_without_room(self, nodes: Collection[str]) -> None:
        """End the launch where the folder does not take what some nodes will write.

        Raises:
            RefusedError: `no-room`.
        """
        if (error := self.room_error(nodes)) is not None:
            self.refuse(error)

    def room_error(self, nodes: Collection[str]) -> RefusedError | None:
        """Return what to say where the folder does not take what some nodes will write, None where it does."""
        each_bytes = needed_bytes(self.opened, nodes, self.nodes.known)
        problem = no_room(room_in(self.folder.root, max(each_bytes, default=0)), each_bytes)
        fix = "make room, or ask for a larger quota, and launch again"
        return None if problem is None else RefusedError("no-room", problem, where=self.folder.root, fix=fix)

    def awaited(self, settled: Settled | None, is_due: bool) -> set[str]:
        """Return the nodes that the next step still waits for: that shapes are settled, or that T0 is published."""
        now = self.clock.monotonic_ns()
        late = is_due and self.first_runs_ns is not None and now - self.first_runs_ns > self.plan.ready_timeout_ns
        given_up = {node for node in self.nodes.known if self.gangs.is_given_up(node)}
        missing = set() if late else unprepared(self.nodes.ids, self.nodes.known, given_up | self.nodes.lost)
        if settled is None:
            return missing
        # Each has its time from when it could begin: it may have come, or have been launched again, long after.
        settled_ns = now - (self.clock.utc_ns() - utc_ns(settled.settled_at))
        prepared = self.nodes.in_states("prepared")
        begun = {node: max(settled_ns, self.nodes.prepared_ns.setdefault(node, now)) for node in prepared}
        settling = {node for node, ns in begun.items() if now - ns <= self.plan.settle_timeout_ns}
        return missing | settling | self.clocks.awaited(self.nodes.in_states("ready"))

    def publish_shapes(self, nodes: set[str]) -> None:
        """Publish the smallest shape that devices of each model chose, and say where not all chose the same."""
        chosen = {node: self.nodes.known[node].chosen for node in sorted(nodes)}
        shapes = settle((one for shapes in chosen.values() for one in shapes), self.opened.profile)
        settled = self.folder.settle(Settled(utc_text(self.clock.utc_ns()), shapes))
        for one in settled.shapes:
            if one.chosen_by < one.devices:
                shape = (one.product, one.precision, one.shape)
                by = [
                    n
                    for n, of_node in chosen.items()
                    if any((c.product, c.precision, c.shape) == shape for c in of_node)
                ]
                self.remark(
                    f"{one}, on {shortened_list(self.nodes.names[node] for node in by)}; the others prepare anew"
                )

    def refused(self) -> dict[str, str]:
        """Return the nodes that are not to measure, and why: their clocks differ, or no record could be collected."""
        there = in_states(self.nodes.known, "preparing", "prepared", "ready")
        differing = {node: why for node, why in self.clocks.refused(self.nodes.known).items() if node in there}
        return differing | refused_twins(self.nodes.known, self.nodes.names)

    def report_problems(self, ready: set[str], refused: dict[str, str], rest: str) -> list[str]:
        """Say what is wrong with the nodes before the start, and why the others are not ready; return the latter."""
        for problem in complaints(self.roster, self.nodes.known, ready & self.nodes.in_states("ready")):
            self.remark(f"before the start: {problem}")
        waits = waits_of(self.gangs.all, self.gangs.states)
        lines = unready(self.roster, self.nodes.known, ready, self.nodes.lost, refused, waits)
        for problem in lines:
            self.remark(f"{rest}: {problem}")
        return lines

    def publish(self, ready: set[str], refused: dict[str, str]) -> Published:
        """Agree on T0: whole seconds, after the lead, not before the campaign's time; say what is wrong before it."""
        self.report_problems(ready, refused, "starts without")
        utc = self.clock.utc_ns()
        starts = max(utc + self.plan.lead_ns, utc_ns(self.campaign.starts_from))
        starts = -(-starts // SECOND_NS) * SECOND_NS
        starts = min(starts, utc_ns(self.campaign.starts_until))
        published = self.folder.publish(Published(utc_text(starts), utc_text(utc), len(ready), refused))
        self.remark(f"{len(ready)} of {len(self.nodes.ids)} nodes are ready; all start at {published.starts_at}")
        return published

    def end(self) -> None:
        """Free the engine's nodes, remember that it is over, and say which nodes gave no record."""
        self.gangs.cancel()
        self.memory.write(utc_text(self.clock.utc_ns()))
        missing = sum(self.nodes.state_of(node_id) != "done" for node_id in self.nodes.ids)
        if missing:
            what = f"{missing} of {len(self.nodes.ids)} nodes gave no record"
            choice = "certify what there is, or " if missing < len(self.nodes.ids) else ""
            self.remark(f"{what}: {choice}measure everything again with: {self.folder.command('rerun')}")


def only_launch(folder: Folder) -> AbstractContextManager[bool]:
    """Keep a second launch of one campaign from this folder.

    Raises:
        InputError: `launch-running`.
    """
    fix = f"watch it with: {folder.command('status')}"
    held = InputError("launch-running", "is being launched by another process", where=folder.root, fix=fix)
    return exclusive_lock(folder.lock_file, held, needed=False)  # T0 is published only once all the same
