"""A campaign's gangs at the engine: asked for, submitted, retried and ended by one launch.

What the engine does not have, it is given; what it says of a gang that waits or of nodes that report nothing is passed
on once. It decides nothing about the start.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from bench.campaign.launch.nodes import KnownNodes
from bench.campaign.launch.plan import LaunchPlan
from bench.campaign.launch.queue import Unheard, is_waiting, waiting_line, waiting_lines
from bench.clock import Clock
from bench.errors import InputError
from bench.launchers.base import Gang, GangState, Launcher
from bench.record.folder import Folder
from bench.record.status import Status
from bench.units import SECOND_NS, utc_text

ENGINE_NS = 10 * SECOND_NS  # from one question to the engine to the next, where its launcher says no other time
MOST_SUBMISSIONS = 3  # of one gang by one launch: an engine that keeps ending it has a reason


class Silence(NamedTuple):
    """Why some nodes have reported nothing."""

    nodes: dict[str, str]  # node -> why, as far as that is known
    waiting: tuple[tuple[str, str], ...]  # pool -> the line that says why its job still waits


class Gangs:
    """The gangs of one launch with the states that the engine reports of them.

    Args:
        gangs: of the campaign, one for each pool.
        plan: how to launch it.
        folder: of the campaign.
        nodes: what is known of them.
        launcher: the engine; None where the operator starts the nodes.
        clock: this machine's clocks.
        remark: called with what happened, a sentence each.
    """

    def __init__(
        self,
        gangs: Sequence[Gang],
        plan: LaunchPlan,
        folder: Folder,
        nodes: KnownNodes,
        launcher: Launcher | None,
        clock: Clock,
        remark: Callable[[str], None],
    ) -> None:
        self.all = gangs
        self.states: dict[str, GangState] = {}
        self._plan, self._folder, self._nodes, self._launcher = plan, folder, nodes, launcher
        self._clock, self._remark = clock, remark
        self._unheard = Unheard(launcher)
        self._said_waiting: dict[str, tuple[str | None, str | None]] = {}  # gang -> job and reason
        self._partial: dict[str, str] = {}  # gang -> why some of its nodes have not begun
        self._submitted: dict[str, int] = {}
        self._retried: dict[str, int] = {}
        self._unreachable = False
        self._asks_every_ns: int = getattr(launcher, "asks_every_ns", min(ENGINE_NS, 2 * plan.refresh_ns))
        # However urgent the question, an engine that is to be asked seldom is left alone for a while.
        self._asks_least_ns = ENGINE_NS if self._asks_every_ns > ENGINE_NS else 0
        self._asked_ns = -self._asks_every_ns

    def ask(self, at_once: bool = False) -> None:
        """Ask the engine for the states of all gangs, at most once an interval; without an answer the old ones stay."""
        now = self._clock.monotonic_ns()
        if self._launcher is None or now - self._asked_ns < (self._asks_least_ns if at_once else self._asks_every_ns):
            return
        self._asked_ns = now
        try:
            self.states = {gang.name: self._launcher.state(gang) for gang in self.all}
        except InputError as error:
            if error.code != "engine-unreachable":
                raise
            if not self._unreachable:
                self._remark(f"{self._plan.engine} does not answer; the campaign goes on without it")
            self._unreachable = True
            return
        if self._unreachable:
            self._remark(f"{self._plan.engine} answers again")
        self._unreachable = False
        self._report_waiting()
        self._report_partial()
        self._take_unheard()

    def waiting(self) -> tuple[str, ...]:
        """Return a line for each gang that waits in the engine's queue."""
        return waiting_lines(self.all, self.states, self._plan.engine, self._clock.utc_ns())

    def state_of(self, gang: Gang) -> GangState:
        """Return the state that the engine reported last of a gang."""
        return self.states.get(gang.name, _ABSENT)

    def running_pools(self) -> set[str]:
        """Return the pools of which the engine runs the gang."""
        return {gang.pool for gang in self.all if self.state_of(gang).phase == "running"}

    def given_up_nodes(self) -> set[str]:
        """Return the engine's names of the nodes that it has given up, or whose gang has ended."""
        given_up: set[str] = set()
        for gang in self.all:
            state = self.state_of(gang)
            given_up.update(gang.nodes if state.phase == "ended" else state.lost)
        return given_up

    def silence(self) -> Silence:
        """Return why nodes have reported nothing: what the jobs of their pools wait for, or what their logs say."""
        nodes: dict[str, str] = {}
        waiting = []
        now_ns = self._clock.utc_ns()
        for gang in self.all:
            state = self.state_of(gang)
            silent = self._nodes.silent(gang)
            if not silent:
                continue  # whatever the engine said last: it is not asked again once every node has reported
            words = self._unheard.reasons(gang, state, silent)
            nodes |= {self._nodes.by_name[name]: why for name, why in words.items()}
            if is_waiting(state):
                waiting.append((gang.pool, waiting_line(gang.pool, state, self._plan.engine, now_ns)))
        return Silence(nodes, tuple(waiting))

    def _report_waiting(self) -> None:
        """Say of each gang that waits why it does, once for each reason."""
        for gang in self.all:
            state = self.states[gang.name]
            said = state.job_id, state.reason
            if state.phase == "queued" and state.reason and self._said_waiting.get(gang.name) != said:
                self._said_waiting[gang.name] = said
                self._remark(waiting_line(gang.pool, state, self._plan.engine))

    def _take_unheard(self) -> None:
        """Take nodes as failed that report nothing and whose log says why, in their stead: they cannot."""
        now = self._clock.monotonic_ns()
        for gang in self.all:
            for name, why in self._unheard.find(gang, self.states[gang.name], self._nodes.silent(gang), now).items():
                at = utc_text(self._clock.utc_ns())
                node_id = self._nodes.by_name[name]
                self._nodes.known[node_id] = Status(node_id, "failed", at, at, ended_at=at, message=why)
                self._remark(f"{name} {why}")
                with contextlib.suppress(InputError):
                    self._folder.write_status(self._nodes.known[node_id])

    def _report_partial(self) -> None:
        """Say once for each cause, and whenever another comes, that some of a running gang's nodes have not begun."""
        for gang in self.all:
            state = self.states[gang.name]
            cause = (state.reason or "").partition(": ")[2] if state.phase == "running" else ""  # without its counts
            if cause and self._partial.get(gang.name) != cause:
                since = "" if state.since is None else f", since {state.since}"
                self._remark(f"pool {gang.pool}: nodes of it have not begun{since}: {state.reason}")
            self._partial[gang.name] = cause

    def submit_missing(self) -> None:
        """Submit every gang that the engine does not have and whose nodes have something left to do."""
        if self._launcher is None or self._unreachable:
            return
        for gang in self.all:
            phase = self.state_of(gang).phase
            if phase in ("queued", "running"):
                self._submitted.setdefault(gang.name, 1)
                continue
            nodes = [self._nodes.by_name[name] for name in gang.nodes]
            over = all(self.is_given_up(node) or self._nodes.state_of(node) == "done" for node in nodes)
            if over and gang.name in self._submitted:
                continue
            times = self._submitted.get(gang.name, 0)
            if times >= MOST_SUBMISSIONS:
                reason = self._unheard.ended(gang, self.states[gang.name])
                what = f"the engine has ended the gang of pool {gang.pool} {times} times ({reason})"
                raise InputError("engine-ends-gang", what, where=gang.name, fix=f"look into {gang.log_dir}")
            if times and phase == "ended":
                self._remark(f"the gang of pool {gang.pool} ended before the start and is launched again")
            for node in nodes:
                self._count_retry(node)
            self._forget(nodes)
            try:
                self._launcher.submit(gang)
            except InputError as error:
                if error.code not in ("gang-exists", "engine-unreachable"):
                    raise
                self._asked_ns = -self._asks_every_ns  # it may have it all the same: ask before trying again
                return
            self._submitted[gang.name] = times + 1
            self.states[gang.name] = GangState("queued")
            self._asked_ns = self._clock.monotonic_ns()
            self._remark(f"pool {gang.pool}: {len(gang.nodes)} nodes handed to {self._plan.engine} as {gang.name}")

    def retry_failed(self) -> None:
        """Start nodes of running gangs once more that failed before T0; one that is over is for `submit_missing`."""
        running, by_name = self.running_pools(), self._nodes.by_name
        for gang in self.all:
            failed = [
                name
                for name in gang.nodes
                if self._nodes.state_of(node := by_name[name]) in ("failed", "aborted") and not self.is_given_up(node)
            ]
            if self._launcher is None or gang.pool not in running or not failed:
                continue
            try:
                self._launcher.retry(gang, failed)
            except InputError as error:
                if error.code == "node-unusable":  # what the engine has lost is waited for no longer
                    for name in failed:
                        self._count_retry(by_name[name])
                elif error.code not in ("gang-over", "engine-unreachable"):
                    raise
                continue
            for name in failed:
                self._count_retry(by_name[name])
                self._remark(f"{name} failed ({self._nodes.known[by_name[name]].message}) and is started again")
            self._forget([by_name[name] for name in failed])

    def is_given_up(self, node_id: str) -> bool:
        """Return whether a node is not started again, so often has it failed; to be ended is no fault of its own."""
        state = self._nodes.state_of(node_id)
        allowed = self._plan.retries + (state == "aborted") if self._launcher is not None else 0
        return state in ("failed", "aborted") and self._retried.get(node_id, 0) >= allowed

    def _count_retry(self, node_id: str) -> None:
        """Take note that a node which failed is started again."""
        if self._nodes.state_of(node_id) in ("failed", "aborted"):
            self._retried[node_id] = self._retried.get(node_id, 0) + 1

    def _forget(self, nodes: list[str]) -> None:
        """Take away what nodes told of an attempt that is over."""
        self._unheard.forget([self._nodes.names[node_id] for node_id in nodes])
        self._nodes.forget(nodes)

    def cancel(self) -> None:
        """End all gangs, as far as the engine answers."""
        for gang in self.all:
            try:
                if self._launcher is not None:
                    self._launcher.cancel(gang)
            except InputError as error:
                self._remark(f"{gang.name} could not be ended: {error}")


_ABSENT = GangState("absent")
