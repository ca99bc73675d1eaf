"""The coordinator: hands a campaign's gangs to the engine, settles one shape for each model, publishes T0, watches.

It keeps nothing that the folder and the engine do not: killed at any moment, it goes on where it was when it is started
again. It ends only what it has to, and decides nothing about a figure: success is counted by records.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import msgspec

from bench.campaign.board import OVER, Overview, overview, silent_ns
from bench.campaign.preflight import fleet_problems, twins
from bench.clock import Clock
from bench.errors import InputError, RefusedError
from bench.launchers.base import Gang, GangState, Launcher
from bench.record import Campaign, Profile, exclusive_lock
from bench.record.folder import Folder, Launched, Published, Roster, State, Status, survey
from bench.record.shapes import Settled, settle
from bench.units import some, utc_ns, utc_text

SECOND_NS = 10**9
ENGINE_NS = 10 * SECOND_NS  # from one question to the engine to the next
MOST_SUBMISSIONS = 3  # of one gang by one launch: an engine that keeps ending it has a reason
GIVEN_UP_NS = 10 * SECOND_NS  # of a node that the engine itself has given up


class Plan(NamedTuple):
    """How a launch is done."""

    engine: str
    command: tuple[str, ...]  # what every node runs
    options: tuple[str, ...] = ()
    reservation: str | None = None
    ready_timeout_ns: int = 1800 * SECOND_NS  # from the moment when the first gang runs
    settle_timeout_ns: int = 660 * SECOND_NS  # from publishing shapes, for nodes that prepare anew
    lead_ns: int = 15 * SECOND_NS  # from publishing T0 to T0
    retries: int = 1  # of nodes that failed before T0
    require_all: bool = False  # start with every node or not at all
    refresh_ns: int = 2 * SECOND_NS
    finish_ns: int = 1800 * SECOND_NS  # after the last window, until every record must be there
    check_only: bool = False  # look at the nodes and measure nothing


class Coordinator:
    """One launch of a campaign.

    Args:
        folder: of the campaign.
        campaign: signed.
        profile: that it names.
        roster: its nodes.
        plan: how to launch it.
        launcher: the engine; None where the nodes are started by somebody else.
        clock: this machine's clocks.
        show: called with every overview.
        remark: called with what happened, a sentence each.
    """

    def __init__(
        self,
        folder: Folder,
        campaign: Campaign,
        profile: Profile,
        roster: Roster,
        plan: Plan,
        launcher: Launcher | None,
        clock: Clock,
        show: Callable[[Overview], None] = lambda view: None,
        remark: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.folder, self.campaign, self.profile, self.roster, self.plan = folder, campaign, profile, roster, plan
        self.launcher = launcher
        self.clock = clock
        self.show = show
        self.remark = remark
        self.known: dict[str, Status] = {}
        self.ids = frozenset(node.node_id for node in roster.nodes)
        self.names = {node.node_id: node.name for node in roster.nodes}
        self.by_name = {node.name: node.node_id for node in roster.nodes}
        self.changed_ns: dict[str, tuple[str, int]] = {}  # node -> its latest status' time, and when it was first seen
        self.prepared_ns: dict[str, int] = {}  # node -> when it was first seen to have prepared, in this launch
        self.lost: set[str] = set()
        self.launched = self._launched()
        self.gangs = gangs(folder, campaign, profile, roster, plan)
        self.states: dict[str, GangState] = {}
        self.asked_ns = -ENGINE_NS
        self.submitted: dict[str, int] = {}
        self.retried: dict[str, int] = {}
        self.first_runs_ns: int | None = None
        self.unreachable = False
        self.workloads = {pool.pool: pool.workload for pool in roster.pools}
        self.told: set[str] = set()

    def run(self) -> Overview:
        """Launch or go on, until every node is over or the campaign's deadline has passed.

        Raises:
            InputError: the campaign's time has passed, the engine refuses it, or another launch is going on.
            RefusedError: too few nodes were ready.
        """
        with only_launch(self.folder):
            self.check()
            began = self.folder.launched()
            self.lost |= set(began.lost if began is not None and began.ended_at is None else ())  # said before
            self.launched = began if began is not None and began.ended_at is None else self._launched()
            self.folder.write_launched(self.launched)
            view = self.watch()
            self.end()
            return view

    def look(self) -> dict[str, Status]:
        """Have every node look at itself, and return what each told before the ready timeout.

        Raises:
            InputError: the campaign has started or is being launched, its time has passed, or the engine refuses it.
        """
        with only_launch(self.folder):
            self.check()
            nodes_busy = self.launcher is not None and any(
                self.launcher.state(gang).phase in ("queued", "running")
                for gang in gangs(
                    self.folder, self.campaign, self.profile, self.roster, self.plan._replace(check_only=False)
                )
            )
            if nodes_busy or self.folder.started() is not None:
                raise InputError("launch-running", "is going on already", where=self.folder.root)
            deadline = self.clock.monotonic_ns() + self.plan.ready_timeout_ns
            self.ask_engine()
            self.submit_missing()
            while True:
                survey(self.folder, self.known, self.ids)
                self.ask_engine()
                told = {node for node, s in self.known.items() if s.state in ("checked", "failed", "aborted")}
                ended = all(state.phase in ("ended", "absent") for state in self.states.values())
                if told >= self.ids or ended or self.clock.monotonic_ns() > deadline:
                    self.cancel()
                    return self.known
                self.clock.sleep_ns(self.plan.refresh_ns)

    def check(self) -> None:
        """Refuse what cannot go on, and say why.

        Raises:
            InputError: it was aborted, or its time has passed.
        """
        where, fix = self.campaign.campaign_id, "measure again with: petaseal campaign rerun"
        if self.folder.aborted():
            raise InputError("campaign-aborted", "was aborted", where=where, fix=fix)
        if self.folder.started() is None and self.clock.utc_ns() > utc_ns(self.campaign.starts_until):
            what = f"was to start until {self.campaign.starts_until}, and did not"
            raise InputError("campaign-window-passed", what, where=where, fix=fix)

    def watch(self) -> Overview:
        """Follow the campaign to its end."""
        while True:
            survey(self.folder, self.known, self.ids)
            published = self.folder.started()
            self.ask_engine()
            lost = frozenset(self.lost)
            self.find_lost(published)
            if self.lost != lost:
                self.remember()  # for whoever looks from another window
            self.tell_uncounted()
            if published is None and not self.folder.aborted():
                published = self.before_start()
            now = self.clock.utc_ns()
            settled = self.folder.settled()
            view = overview(self.roster, self.campaign, published, self.known, self.lost, now, settled)
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
        beside = sum(self.profile.accompanied_ns(window.workload) for window in self.campaign.windows)
        over = utc_ns(published.starts_at) + self.campaign.closes_ns + self.profile.guard_ns + beside
        return over + self.plan.finish_ns

    def ask_engine(self, at_once: bool = False) -> None:
        """Ask the engine for all gangs, now and then; that it does not answer tells nothing about them."""
        now = self.clock.monotonic_ns()
        recently = now - self.asked_ns < min(ENGINE_NS, 2 * self.plan.refresh_ns)
        if self.launcher is None or (recently and not at_once):
            return
        self.asked_ns = now
        try:
            self.states = {gang.name: self.launcher.state(gang) for gang in self.gangs}
        except InputError as error:
            if error.code != "engine-unreachable":
                raise
            if not self.unreachable:
                self.remark(f"{self.plan.engine} does not answer; the campaign goes on without it")
            self.unreachable = True
            return
        if self.unreachable:
            self.remark(f"{self.plan.engine} answers again")
        self.unreachable = False

    def find_lost(self, published: Published | None) -> None:
        """Take note of nodes that have told nothing for long, or that came too late for every window."""
        now = self.clock.monotonic_ns()
        gone = set()
        for gang in self.gangs:
            state = self.states.get(gang.name, _ABSENT)
            names = gang.nodes if state.phase == "ended" else state.lost
            gone |= {self.by_name[name] for name in names if name in self.by_name}
        for node_id, status in self.known.items():
            at, since = self.changed_ns.get(node_id, ("", now))
            if status.at != at:
                at, since = status.at, now
                if node_id in self.lost:
                    self.lost.discard(node_id)
                    self.remark(f"{self.names[node_id]} is heard of again")
            self.changed_ns[node_id] = at, since
            silent = now - since
            ended = status.state in ("done", "failed", "aborted", "checked")
            if not ended and (silent > silent_ns(self.roster) or (node_id in gone and silent > GIVEN_UP_NS)):
                self.lose(node_id, f"has told nothing for {silent // SECOND_NS} s")
        if published is not None and self.clock.utc_ns() > utc_ns(published.starts_at) + self.campaign.closes_ns:
            for node_id in self.ids - self.known.keys():
                self.lose(node_id, "was never heard of")

    def lose(self, node_id: str, why: str) -> None:
        """Take a node as lost."""
        if node_id not in self.lost:
            self.lost.add(node_id)
            self.remark(f"{self.names[node_id]} {why} and is taken as lost")

    def tell_uncounted(self) -> None:
        """Say once of every node with a record how many of its devices count 0."""
        for node in self.roster.nodes:
            status = self.known.get(node.node_id)
            if status is not None and status.state == "done" and node.node_id not in self.told:
                self.told.add(node.node_id)
                own = status.sums.get(self.workloads[node.pool])
                if own is None:
                    self.remark(f"{node.name} has measured nothing of what counts")
                elif idle := own.held + own.void:
                    self.remark(f"{node.name}: {idle} of its {own.devices + idle} devices count 0")

    def before_start(self) -> Published | None:
        """Submit what is not submitted, retry what failed, settle the shapes, and publish T0 once everything is ready.

        Raises:
            InputError: the campaign's time has passed.
            RefusedError: `campaign-not-ready`.
        """
        if any(status.state in ("failed", "aborted") for status in self.known.values()):
            self.ask_engine(at_once=True)  # did they fail, or did the engine end their gang?
        now, utc = self.clock.monotonic_ns(), self.clock.utc_ns()
        self.submit_missing()
        running = {gang.pool for gang in self.gangs if self.states.get(gang.name, _ABSENT).phase == "running"}
        if self.launcher is None or running:  # each gang's time limit counts from its own start
            self.first_runs_ns = self.first_runs_ns or now
        self.retry_failed(running)
        settled = self.folder.settled()
        ready = self.nodes_in("ready") if settled else self.nodes_in("prepared", "ready")
        if utc + self.plan.lead_ns > utc_ns(self.campaign.starts_until):
            self.cancel()
            what = f"was to start until {self.campaign.starts_until}; {len(ready)} of {len(self.ids)} nodes are ready"
            fix = "measure again with: petaseal campaign rerun"
            raise InputError("campaign-window-passed", what, where=self.campaign.campaign_id, fix=fix)
        is_due = utc + self.plan.lead_ns >= utc_ns(self.campaign.starts_from)
        if self.awaited(settled, is_due):
            return None
        refused = self.refused()
        ready -= refused.keys()
        are_enough = ready and not (self.plan.require_all and len(ready) < len(self.ids))
        if not is_due and (settled or not are_enough):
            return None
        if not are_enough:
            self.cancel()
            self.tell_problems()
            what = f"{len(ready)} of {len(self.ids)} nodes are ready"
            fix = "petaseal campaign status says why; mend them and launch again"
            raise RefusedError("campaign-not-ready", what, where=self.campaign.campaign_id, fix=fix)
        if settled is None:
            self.publish_shapes(ready)
            return None
        return self.publish(len(ready), refused)

    def nodes_in(self, *states: State) -> set[str]:
        """Return the nodes that are in one of some states and not lost."""
        return {node for node, status in self.known.items() if status.state in states} - self.lost

    def awaited(self, settled: Settled | None, is_due: bool) -> set[str]:
        """Return the nodes that the next step still waits for: that shapes are settled, or that T0 is published."""
        now = self.clock.monotonic_ns()
        late = is_due and self.first_runs_ns is not None and now - self.first_runs_ns > self.plan.ready_timeout_ns
        over = {node for node in self.known if self.is_given_up(node)} | self.lost
        prepared = self.nodes_in("prepared")
        unprepared = set() if late else set(self.ids) - over - self.nodes_in("prepared", "ready")
        if settled is None:
            return unprepared
        # Each has its time from when it could begin: it may have come, or have been launched again, long after.
        settled_ns = now - (self.clock.utc_ns() - utc_ns(settled.settled_at))
        begun = {node: max(settled_ns, self.prepared_ns.setdefault(node, now)) for node in prepared}
        return unprepared | {node for node, ns in begun.items() if now - ns <= self.plan.settle_timeout_ns}

    def publish_shapes(self, nodes: set[str]) -> None:
        """Publish the smallest shape that devices of each model chose, and say where not all chose the same."""
        chosen = {node: self.known[node].chosen for node in sorted(nodes)}
        shapes = settle((one for own in chosen.values() for one in own), self.profile)
        settled = self.folder.settle(Settled(utc_text(self.clock.utc_ns()), shapes))
        for one in settled.shapes:
            if one.chosen_by < one.devices:
                own = (one.product, one.precision, one.shape)
                by = [n for n, told in chosen.items() if any((c.product, c.precision, c.shape) == own for c in told)]
                self.remark(f"{one}, on {some(self.names[node] for node in by)}; the others prepare anew")

    def refused(self) -> dict[str, str]:
        """Return the nodes that are not to measure, and why: no record of theirs could be collected."""
        there = {node: s for node, s in self.known.items() if s.state in ("preparing", "prepared", "ready")}
        return twins({node: s.facts for node, s in there.items() if s.facts is not None}, self.names)

    def tell_problems(self) -> None:
        """Say what is wrong with the nodes before the start."""
        facts = {node_id: status.facts for node_id, status in self.known.items() if status.facts is not None}
        for problem in fleet_problems(facts, self.roster):
            self.remark(f"before the start: {problem}")
        for node_id in sorted(self.nodes_in("ready")):
            if message := self.known[node_id].message:
                self.remark(f"before the start: {self.names[node_id]}: {message}")

    def publish(self, ready: int, refused: dict[str, str]) -> Published:
        """Agree on T0: whole seconds, after the lead, not before the campaign's time; say what is wrong before it."""
        self.tell_problems()
        utc = self.clock.utc_ns()
        starts = max(utc + self.plan.lead_ns, utc_ns(self.campaign.starts_from))
        starts = -(-starts // SECOND_NS) * SECOND_NS
        starts = min(starts, utc_ns(self.campaign.starts_until))
        published = self.folder.publish(Published(utc_text(starts), utc_text(utc), ready, refused))
        self.remark(f"{ready} of {len(self.ids)} nodes are ready; all start at {published.starts_at}")
        return published

    def submit_missing(self) -> None:
        """Submit every gang that the engine does not have and whose nodes have something left to do."""
        if self.launcher is None or self.unreachable:
            return
        for gang in self.gangs:
            phase = self.states.get(gang.name, _ABSENT).phase
            if phase in ("queued", "running"):
                self.submitted.setdefault(gang.name, 1)
                continue
            nodes = [self.by_name[name] for name in gang.nodes]
            over = all(self.is_given_up(node) or self.state_of(node) == "done" for node in nodes)
            if over and gang.name in self.submitted:
                continue
            times = self.submitted.get(gang.name, 0)
            if times >= MOST_SUBMISSIONS:
                reason = self.states[gang.name].reason or "without a reason"
                what = f"the engine has ended the gang of pool {gang.pool} {times} times ({reason})"
                raise InputError("engine-ends-gang", what, where=gang.name, fix=f"look into {gang.log_dir}")
            if times and phase == "ended":
                self.remark(f"the gang of pool {gang.pool} ended before the start and is launched again")
            for node in nodes:
                self.count_retry(node)
            self.forget(nodes)
            try:
                self.launcher.submit(gang)
            except InputError as error:
                if error.code not in ("gang-exists", "engine-unreachable"):
                    raise
                self.asked_ns = -ENGINE_NS  # it may have it all the same: ask before trying again
                return
            self.submitted[gang.name] = times + 1
            self.states[gang.name] = GangState("queued")
            self.asked_ns = self.clock.monotonic_ns()
            self.remark(f"pool {gang.pool}: {len(gang.nodes)} nodes handed to {self.plan.engine} as {gang.name}")

    def retry_failed(self, running: set[str]) -> None:
        """Start nodes once more that failed before T0; a gang that is over is for `submit_missing`."""
        for gang in self.gangs:
            failed = [
                name
                for name in gang.nodes
                if self.state_of(node := self.by_name[name]) in ("failed", "aborted") and not self.is_given_up(node)
            ]
            if self.launcher is None or gang.pool not in running or not failed:
                continue
            try:
                self.launcher.retry(gang, failed)
            except InputError as error:
                if error.code == "node-unusable":  # what the engine has lost is waited for no longer
                    for name in failed:
                        self.count_retry(self.by_name[name])
                elif error.code not in ("gang-over", "engine-unreachable"):
                    raise
                continue
            for name in failed:
                self.count_retry(self.by_name[name])
                self.remark(f"{name} failed ({self.known[self.by_name[name]].message}) and is started again")
            self.forget([self.by_name[name] for name in failed])

    def state_of(self, node_id: str) -> State | None:
        """Return what a node last told of itself."""
        status = self.known.get(node_id)
        return None if status is None else status.state

    def is_given_up(self, node_id: str) -> bool:
        """Return whether a node is not started again, so often has it failed; to be ended is no fault of its own."""
        state = self.state_of(node_id)
        allowed = self.plan.retries + (state == "aborted") if self.launcher is not None else 0
        return state in ("failed", "aborted") and self.retried.get(node_id, 0) >= allowed

    def count_retry(self, node_id: str) -> None:
        """Take note that a node which failed is started again."""
        if self.state_of(node_id) in ("failed", "aborted"):
            self.retried[node_id] = self.retried.get(node_id, 0) + 1

    def forget(self, nodes: list[str]) -> None:
        """Take away what nodes told of an attempt that is over."""
        for node_id in nodes:
            if node_id not in self.known or self.known[node_id].state != "done":
                self.known.pop(node_id, None)
                self.changed_ns.pop(node_id, None)
                self.prepared_ns.pop(node_id, None)
                self.lost.discard(node_id)
                with contextlib.suppress(OSError):
                    self.folder.status_file(node_id).unlink()

    def cancel(self) -> None:
        """End all gangs, as far as the engine answers."""
        try:
            for gang in self.gangs:
                if self.launcher is not None:
                    self.launcher.cancel(gang)
        except InputError as error:
            self.remark(f"the gangs could not be ended: {error}")

    def end(self) -> None:
        """Free the engine's nodes, remember that it is over, and say which nodes gave no record."""
        self.cancel()
        self.remember(utc_text(self.clock.utc_ns()))
        missing = sum(self.state_of(node_id) != "done" for node_id in self.ids)
        if missing:
            what = f"{missing} of {len(self.ids)} nodes gave no record"
            choice = "certify what there is, or " if missing < len(self.ids) else ""
            self.remark(f"{what}: {choice}measure everything again with: petaseal campaign rerun")

    def remember(self, ended_at: str | None = None) -> None:
        """Remember which nodes are lost."""
        done = {node for node, status in self.known.items() if status.state == "done"}
        lost = tuple(sorted(self.lost - done))
        self.launched = msgspec.structs.replace(self.launched, ended_at=ended_at, lost=lost)
        self.folder.write_launched(self.launched)

    def _launched(self) -> Launched:
        plan = self.plan
        return Launched(plan.engine, plan.options, plan.reservation, plan.command, utc_text(self.clock.utc_ns()))


_ABSENT = GangState("absent")


def gangs(folder: Folder, campaign: Campaign, profile: Profile, roster: Roster, plan: Plan) -> list[Gang]:
    """Return one gang for each pool that has a node, with the engine's limit on its time."""
    beside = sum(profile.accompanied_ns(window.workload) for window in campaign.windows)
    load_ns = campaign.closes_ns + profile.guard_ns + beside
    limit_ns = plan.ready_timeout_ns + plan.settle_timeout_ns + plan.lead_ns + load_ns + plan.finish_ns
    suffix = "-check" if plan.check_only else ""
    found = []
    for pool in roster.pools:
        nodes = tuple(node.name for node in roster.nodes if node.pool == pool.pool)
        if nodes:
            found.append(
                Gang(
                    name=f"petaseal-{campaign.campaign_id}-{pool.pool}{suffix}",
                    pool=pool.pool,
                    nodes=nodes,
                    command=(*plan.command, "--check") if plan.check_only else plan.command,
                    log_dir=folder.logs,
                    time_limit_s=-(-limit_ns // SECOND_NS),
                    partition=pool.partition,
                    gres=pool.gres,
                    reservation=plan.reservation,
                    options=plan.options,
                )
            )
    return found


def only_launch(folder: Folder) -> AbstractContextManager[bool]:
    """Keep a second launch of one campaign from this folder.

    Raises:
        InputError: `launch-running`.
    """
    fix = "watch it with: petaseal campaign status"
    held = InputError("launch-running", "is being launched by another process", where=folder.root, fix=fix)
    return exclusive_lock(folder.lock_file, held, needed=False)  # T0 is published only once all the same
