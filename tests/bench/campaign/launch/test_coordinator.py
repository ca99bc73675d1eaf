"""The coordinator under simulated time: a scripted engine, scripted nodes, and a start that is published once."""

from __future__ import annotations

import fcntl
import itertools
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bench.campaign.board import Overview
from bench.campaign.launch.clocks import FIX
from bench.campaign.launch.coordinator import Coordinator
from bench.campaign.launch.gangs import MOST_SUBMISSIONS
from bench.campaign.launch.plan import LaunchPlan, gangs, handed_over, launched_by
from bench.campaign.opening import OpenCampaign
from bench.campaign.room import Room
from bench.campaign.show import lines
from bench.clock import SimulatedClock
from bench.errors import InputError, PetasealError, RefusedError
from bench.launchers.base import Gang, GangState
from bench.record import Campaign, digest, encode, write_atomic
from bench.record.closing import Closing
from bench.record.folder import Folder, read_question
from bench.record.roster import EngineNode
from bench.record.status import ClockAnswer, Launched, NodeFacts, Published, Question, ReportedSums, State, Status
from bench.units import MAX_INTEGER, utc_ns, utc_text
from tests.bench.campaigns import PROFILE, SECOND_NS, at, campaign_of, chose, lay, pool_of, roster_of
from tests.bench.campaigns import done as told_done
from tests.bench.fleet import BEGIN_NS

PLAN = LaunchPlan(
    engine="fake",
    command=("petaseal", "campaign", "join", "campaign"),
    ready_timeout_ns=60 * SECOND_NS,
    lead_ns=15 * SECOND_NS,
    finish_ns=120 * SECOND_NS,
)
NEVER = 10**6


class Killed(BaseException):
    """The coordinator's process is killed."""


class MortalClock(SimulatedClock):
    """Time in which the sleeper is killed once."""

    def __init__(self) -> None:
        super().__init__(BEGIN_NS)
        self.dies_ns: int | None = None

    def sleep_ns(self, duration_ns: int) -> None:
        super().sleep_ns(duration_ns)
        if self.dies_ns is not None and self.monotonic_ns() >= self.dies_ns:
            self.dies_ns = None
            raise Killed


@dataclass
class Node:
    """What one node does, in seconds after its process starts; each start takes the next of `fails`."""

    ready: float = 5
    fails: tuple[float, ...] = ()  # of the first starts, before T0
    silent: tuple[float, float] = (NEVER, NEVER)  # seconds of the campaign in which it tells nothing
    dies: float = NEVER  # second of the campaign from which on it is gone
    driver: str = "570.1"
    serial: str = ""  # of a device
    chooses: int = 8192  # m, n and k of its fixed shape
    anew: float = 0  # seconds that it takes to prepare another shape
    says: str | None = None
    devices: int = 2  # that are ready, when it is
    ahead: float = 0  # seconds by which its clock is ahead; below 0 behind
    bound_ns: int = 1_000_000  # that it states
    answers: bool = True  # what its clock says


def facts_of(node: Node) -> NodeFacts:
    own = {node.serial: "serial of cuda:0"} if node.serial else {}
    return NodeFacts(8, ("NVIDIA H200",), (node.driver,), "kernel", node.bound_ns, 10**12, (), device_ids=own)


@dataclass
class Engine:
    """A centre's engine that does what its script says, and writes the nodes' statuses as they would."""

    clock: MortalClock
    folder: Folder
    campaign: Campaign
    nodes: dict[str, Node]  # by the engine's names
    queued_s: float = 0
    ends: tuple[float, ...] = ()  # seconds after its start at which each submission ends
    away: tuple[float, float] = (NEVER, NEVER)  # seconds in which it does not answer
    gives_up: tuple[str, ...] = ()  # nodes that it calls lost
    submissions: list[str] = field(default_factory=list)
    began: dict[str, float] = field(default_factory=dict)  # gang -> second
    started: dict[str, float] = field(default_factory=dict)  # node -> second
    starts: dict[str, int] = field(default_factory=dict)  # node -> times
    states: dict[str, State] = field(default_factory=dict)
    retried: list[str] = field(default_factory=list)
    cancelled: int = 0
    settled_s: float | None = None  # when shapes were first seen
    asked: list[Question] = field(default_factory=list)
    gangs: dict[str, Gang] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ids = {node.name: node.node_id for node in self.folder.roster().nodes}
        self.clock.every(SECOND_NS, self.tick)

    @property
    def now(self) -> float:
        return self.clock.monotonic_ns() / SECOND_NS

    def answer(self) -> None:
        if self.away[0] <= self.now < self.away[1]:
            raise InputError("engine-unreachable", "does not answer")

    def discover(self, partitions: Sequence[str]) -> list[EngineNode]:
        return []

    def describe(self, gang: Gang) -> list[str]:
        return []

    def submit(self, gang: Gang) -> None:
        self.answer()
        if self.state(gang).phase in ("queued", "running"):
            raise InputError("gang-exists", "is there already")
        self.submissions.append(gang.name)
        self.gangs[gang.name] = gang
        self.began[gang.name] = self.now + self.queued_s
        for name in gang.nodes:
            self.start(name, self.now + self.queued_s)

    def start(self, name: str, second: float) -> None:
        self.started[name] = second
        self.starts[name] = self.starts.get(name, 0) + 1
        self.states.pop(name, None)

    def state(self, gang: Gang) -> GangState:
        self.answer()
        if gang.name not in self.began:
            return GangState("absent")
        since = self.now - self.began[gang.name]
        submission = self.submissions.count(gang.name) - 1
        if submission < len(self.ends) and since >= self.ends[submission]:
            return GangState("ended", reason="preempted")
        return GangState("queued") if since < 0 else GangState("running", lost=self.gives_up)

    def retry(self, gang: Gang, nodes: Sequence[str]) -> None:
        self.answer()
        if self.state(gang).phase != "running":
            raise InputError("gang-over", "does not run")
        for name in nodes:
            self.retried.append(name)
            self.start(name, self.now)

    def cancel(self, gang: Gang) -> None:
        self.answer()
        self.cancelled += 1
        for name in gang.nodes:
            self.started.pop(name, None)

    def tick(self) -> None:
        """Let every node tell what it does just now."""
        away, self.away = self.away, (NEVER, NEVER)  # the nodes go on whether the engine answers or not
        ended = {name for gang in self.gangs.values() if self.state(gang).phase == "ended" for name in gang.nodes}
        self.away = away
        published, settled = self.folder.started(), self.folder.settled()
        if settled is not None and self.settled_s is None:
            self.settled_s = self.now
        question = read_question(self.folder)
        if question is not None and question not in self.asked[-1:]:
            self.asked.append(question)
        for name, since in list(self.started.items()):
            node = self.nodes[name]
            if name in ended or not since <= self.now < node.dies or node.silent[0] <= self.now < node.silent[1]:
                continue
            if self.states.get(name) in ("done", "failed", "aborted"):
                continue
            self.states[name] = state = self.state_of(name, node, self.now - since, published)
            ready_at = utc_text(BEGIN_NS + int((since + node.ready) * SECOND_NS))
            chosen = () if state in ("preparing", "failed") else (chose(node.chooses),)
            sums = {"fp16": ReportedSums(2, 1000, 0, 0)} if state == "done" else {}
            self.folder.write_status(
                Status(
                    self.ids[name],
                    state,
                    utc_text(self.clock.utc_ns()),
                    at(since),
                    ready_at=ready_at if self.now - since >= node.ready else None,
                    facts=facts_of(node),
                    chosen=chosen,
                    ready_devices=node.devices if state == "ready" else 0,
                    sums=sums,
                    message="out of memory" if state == "failed" else node.says,
                    clock=self.answer_of(name, node),
                )
            )

    def answer_of(self, name: str, node: Node) -> ClockAnswer | None:
        """Return what a node's clock says to the latest question that it has read and is to answer."""
        own = [one for one in self.asked if one.nodes and self.ids[name] in one.nodes]
        if not own or not node.answers:
            return None
        known = self.folder.status(self.ids[name])
        if known is not None and known.clock is not None and known.clock.round == own[-1].round:
            return known.clock
        return ClockAnswer(own[-1].round, utc_text(self.clock.utc_ns() + int(node.ahead * SECOND_NS)))

    def state_of(self, name: str, node: Node, since: float, published: Published | None) -> State:
        start = self.starts[name] - 1
        if start < len(node.fails) and since >= node.fails[start]:
            return "failed"
        if self.folder.aborted():
            return "aborted"
        if since < node.ready:
            return "preparing"
        if self.settled_s is None or self.now < self.settled_s + node.anew:
            return "prepared"
        if published is None or self.clock.utc_ns() < utc_ns(published.starts_at):
            return "ready" if published is None or self.ids[name] not in published.refused else "failed"
        over = self.clock.utc_ns() > utc_ns(published.starts_at) + self.campaign.closes_ns
        return "done" if over else "measuring"


@dataclass
class Run:
    """A campaign with an engine, which may be launched again and again."""

    folder: Folder
    campaign: Campaign
    engine: Engine
    clock: MortalClock
    plan: LaunchPlan
    remarks: list[str] = field(default_factory=list)
    settled: set[bytes] = field(default_factory=set)
    published: list[tuple[float, Published, frozenset[str]]] = field(default_factory=list)  # when, what, who was ready

    @property
    def opened(self) -> OpenCampaign:
        """The campaign as a launch reads it."""
        return OpenCampaign(self.folder, self.campaign, PROFILE, self.folder.roster())

    def watch(self, view: Overview) -> None:
        """Note each T0 that is ever seen, who was ready by then, and each settlement of shapes."""
        self.settled.add(encode(self.folder.settled()))
        found = self.folder.started()
        if found is not None and (not self.published or self.published[-1][1] != found):
            ready = frozenset(line.name for line in view.nodes if line.place == "ready")
            self.published.append((self.clock.monotonic_ns() / SECOND_NS, found, ready))

    def launch(self, launcher: Engine | None = None) -> Overview:
        coordinator = Coordinator(
            self.opened,
            self.plan,
            launcher or self.engine,
            self.clock,
            self.watch,
            self.remarks.append,
        )
        return coordinator.run()

    def refused(self, code: str) -> PetasealError:
        with pytest.raises((InputError, RefusedError)) as caught:
            self.launch()
        assert caught.value.code == code
        assert self.folder.started() is None
        return caught.value


def a_run(place: Path, nodes: int = 4, plan: LaunchPlan = PLAN, pools: str = "", **script: Any) -> Run:
    """Return a campaign of nodes n0, n1, ...; `script` holds what the engine does, and under their names the nodes."""
    own = {name: script.pop(name) for name in list(script) if name[0] == "n" and name[1:].isdigit()}
    changes = {name: script.pop(name) for name in ("starts_from", "starts_until") if name in script}
    campaign = campaign_of(nodes, pools=pools or None, **changes)
    roster = roster_of(campaign, tuple(pool_of(name) for name in sorted(set(pools))) if pools else None)
    folder, clock = lay(place / "campaign", campaign, roster), MortalClock()
    behaviour = {f"n{i}": own.get(f"n{i}", Node()) for i in range(nodes)}
    return Run(folder, campaign, Engine(clock, folder, campaign, behaviour, **script), clock, plan)


def places(view: Overview) -> dict[str, str]:
    return {line.name: line.place for line in view.nodes}


# --- the start ---


def test_all_are_ready_and_start_at_one_time(tmp_path: Path) -> None:
    run = a_run(tmp_path, n1=Node(ready=9))
    view = run.launch()
    assert view.places["done"] == 4
    ((second, published, ready),) = run.published
    assert second >= 9
    assert ready == {"n0", "n1", "n2", "n3"}
    assert published.ready == 4
    starts = utc_ns(published.starts_at)
    assert starts % SECOND_NS == 0
    assert starts >= utc_ns(published.published_at) + run.plan.lead_ns
    assert run.engine.submissions == ["petaseal-c1-main"]
    launched = run.folder.launched()
    assert launched is not None
    assert launched.ended_at is not None
    assert launched.lost == ()


def test_what_is_not_uniform_is_said_before_the_start(tmp_path: Path) -> None:
    run = a_run(tmp_path, n2=Node(driver="565.9"))
    run.launch()
    (said,) = [remark for remark in run.remarks if "drivers" in remark]
    assert said == "before the start: pool main has different drivers: mostly 570.1; n2: 565.9"
    assert run.remarks.index(said) < run.remarks.index(next(r for r in run.remarks if "all start at" in r))
    assert not any("before the start" in remark for remark in a_launch(tmp_path / "same").remarks)


def test_nodes_with_one_device_are_refused_before_the_start(tmp_path: Path) -> None:
    plan = PLAN._replace(least={"main": 2})
    run = a_run(tmp_path, plan=plan, n1=Node(serial="s1"), n2=Node(serial="s1", ready=9), n3=Node(serial="s3"))
    view = run.launch()
    ((_, published, _),) = run.published
    assert published.ready == 2
    assert [run.engine.ids[name] in published.refused for name in ("n0", "n1", "n2", "n3")] == [0, 1, 1, 0]
    assert places(view) == {"n0": "done", "n1": "failed", "n2": "failed", "n3": "done"}
    assert view.certified_mflop_s == {"intelligent": 2 * 1000}
    said, other, _ = [remark for remark in run.remarks if "duplicate-device" in remark]
    assert said.startswith("before the start: serial of cuda:0 on n1, serial of cuda:0 on n2 are the same")
    assert other.startswith("starts without: n1: not to measure: the serial of cuda:0 is the serial of cuda:0 of n2")


def test_a_node_that_never_comes_refuses_nobody(tmp_path: Path) -> None:
    run = a_run(tmp_path, n1=Node(serial="s1"), n2=Node(serial="s1", fails=(2, 2, 2)))
    view = run.launch()
    assert places(view)["n1"] == "done"
    assert run.published[0][1].refused == {}


def test_with_every_node_two_that_are_one_are_not_all(tmp_path: Path) -> None:
    plan = PLAN._replace(least={"main": 4})
    run = a_run(tmp_path, plan=plan, n1=Node(serial="s1"), n2=Node(serial="s1"))
    assert "2 of 4 nodes are ready" in str(run.refused("campaign-not-ready"))
    assert any("duplicate-device" in remark for remark in run.remarks)


# --- clocks ---


def closing(run: Run) -> Closing:
    found: Closing = msgspec.json.decode(run.folder.closing_file.read_bytes(), type=Closing)
    assert found.problem(run.campaign, digest(run.campaign), run.published[0][1].starts_at) is None
    return found


@pytest.mark.parametrize(("ahead", "way"), [(5.0, "ahead of"), (-5.0, "behind")])
def test_a_node_whose_clock_is_five_seconds_off_is_refused_before_the_start(
    tmp_path: Path, ahead: float, way: str
) -> None:
    run = a_run(tmp_path, n2=Node(ahead=ahead, bound_ns=1000))
    view = run.launch()
    ((second, published, _),) = run.published
    assert second < 30  # one bad clock costs the others seconds
    assert published.ready == 3
    assert list(published.refused) == [run.engine.ids["n2"]]
    said = f"its clock is at least {published.refused[run.engine.ids['n2']].split()[5]} s {way} the coordinator's"
    assert published.refused[run.engine.ids["n2"]] == f"{said}: {FIX} [clock-differs]"
    assert 2.9 <= float(said.split()[5]) <= 5
    assert f"starts without: n2: not to measure: {said}: {FIX} [clock-differs]" in run.remarks
    assert places(view) == {"n0": "done", "n1": "done", "n2": "failed", "n3": "done"}
    off = {node: one.off_ns(1000) for node, one in closing(run).exchanges.items()}
    assert {node for node, ns in off.items() if ns} == {run.engine.ids["n2"]}
    assert len(off) == 4


def test_a_coordinator_whose_own_clock_is_off_starts_nothing_and_names_a_few_nodes(tmp_path: Path) -> None:
    nodes: dict[str, Any] = {f"n{i}": Node(ahead=5 + i / 100) for i in range(40)}
    run = a_run(tmp_path, nodes=40, **nodes)
    assert "0 of 40 nodes are ready" in str(run.refused("campaign-not-ready"))
    assert 1 <= sum("clock-differs" in remark for remark in run.remarks) <= 15


def test_with_every_node_one_clock_that_differs_stops_all(tmp_path: Path) -> None:
    run = a_run(tmp_path, plan=PLAN._replace(least={"main": 4}), n1=Node(ahead=5))
    assert "3 of 4 nodes are ready" in str(run.refused("campaign-not-ready"))
    assert any("n1: not to measure: its clock is at least" in remark for remark in run.remarks)


def test_a_bound_that_is_stated_excuses_as_much_and_no_more(tmp_path: Path) -> None:
    run = a_run(tmp_path, n1=Node(ahead=5, bound_ns=4 * SECOND_NS), n2=Node(ahead=5, bound_ns=2 * SECOND_NS))
    run.launch()
    assert list(run.published[0][1].refused) == [run.engine.ids["n2"]]


def test_the_comparison_of_clocks_that_are_right_delays_nothing(tmp_path: Path) -> None:
    run = a_run(tmp_path, n1=Node(ready=9, ahead=0.4), n2=Node(ahead=-0.0005))
    run.launch()
    ((second, published, _),) = run.published
    assert published.refused == {}
    assert second <= 9 + 3 * 2  # shapes, ready, T0: a look each
    assert len(closing(run).node_id) == 4


def test_a_slow_folder_refuses_nobody(tmp_path: Path) -> None:
    """The coordinator needs 20 s for a look at all nodes, which is how long each exchange then takes."""
    run = a_run(
        tmp_path, plan=PLAN._replace(refresh_ns=20 * SECOND_NS, ready_timeout_ns=600 * SECOND_NS), n2=Node(ahead=5)
    )
    run.launch()
    assert list(run.published[0][1].refused) == [run.engine.ids["n2"]]
    trips = [one.seen_ns - one.asked_ns for one in closing(run).exchanges.values()]
    assert min(trips) >= 19 * SECOND_NS


def test_a_node_that_does_not_answer_is_waited_for_seconds_and_then_starts(tmp_path: Path) -> None:
    run = a_run(tmp_path, n1=Node(answers=False))
    view = run.launch()
    ((second, published, _),) = run.published
    assert second < 30
    assert published.refused == {}
    assert view.places["done"] == 4
    assert set(closing(run).node_id) == set(run.engine.ids.values()) - {run.engine.ids["n1"]}


def test_a_node_that_comes_after_the_start_is_asked_until_the_first_window_opens(tmp_path: Path) -> None:
    opens = campaign_of(1).windows[0].opens_ns / SECOND_NS
    plan = PLAN._replace(ready_timeout_ns=10 * SECOND_NS, lead_ns=60 * SECOND_NS, least={"main": 2})
    run = a_run(tmp_path, plan=plan, n2=Node(ready=30), n3=Node(ready=60 + opens + 60))
    run.launch()
    assert run.published[0][0] < 30
    assert set(closing(run).node_id) == {run.engine.ids[name] for name in ("n0", "n1", "n2")}


def test_what_a_killed_coordinator_knew_of_clocks_is_taken_over(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    run.clock.dies_ns = 20 * SECOND_NS
    with pytest.raises(Killed):
        run.launch()
    before = closing(run)
    assert len(before.node_id) == 4
    for node in run.engine.nodes.values():
        node.answers = False
    run.launch()
    assert closing(run) == before


def test_a_node_is_not_done_before_the_start_whatever_its_status_says(tmp_path: Path) -> None:
    """A colleague's file would have the coordinator wait for the node until the timeout, and look at it no more."""
    run = a_run(tmp_path)
    run.folder.write_status(told_done(1, 10**6))
    view = run.launch()
    ((second, published, _),) = run.published
    assert second < 30
    assert (published.ready, view.places["done"]) == (4, 4)


@pytest.mark.parametrize("forged", [{"node_id": ("zz-nobody",)}, {"campaign_sha256": "ab" * 32}])
def test_what_somebody_else_wrote_in_its_place_is_not_taken_over(tmp_path: Path, forged: dict[str, Any]) -> None:
    """A node of no campaign in it would make `collect` refuse all records."""
    run = a_run(tmp_path)
    run.clock.dies_ns = 20 * SECOND_NS
    with pytest.raises(Killed):
        run.launch()
    columns = {name: getattr(closing(run), name)[:1] for name in ("node_id", "asked_ns", "answered_ns", "seen_ns")}
    run.folder.closing_file.write_bytes(encode(replace(closing(run), **(columns | forged))))
    for node in run.engine.nodes.values():
        node.answers = False
    run.launch()
    assert closing(run).node_id == ()


def test_a_question_of_the_last_round_that_there_can_be_stops_no_comparison(tmp_path: Path) -> None:
    """Whoever writes the folder before the launch would otherwise have every clock pass, since no node could answer."""
    run = a_run(tmp_path, n2=Node(ahead=5))
    write_atomic(run.folder.clock_file, encode(Question(MAX_INTEGER, utc_text(run.clock.utc_ns()), None)))
    run.launch()
    assert list(run.published[0][1].refused) == [run.engine.ids["n2"]]


def a_launch(place: Path) -> Run:
    run = a_run(place)
    run.launch()
    return run


def test_a_node_that_is_never_ready_is_waited_for_and_then_not(tmp_path: Path) -> None:
    run = a_run(tmp_path, n2=Node(ready=NEVER), queued_s=100)
    view = run.launch()
    ((second, published, ready),) = run.published
    assert second >= 100 + 60  # the timeout runs from when the gang runs
    assert ready == {"n0", "n1", "n3"}
    assert published.ready == 3
    assert places(view)["n2"] == "preparing"
    assert view.places["done"] == 3


def test_with_every_node_or_not_at_all(tmp_path: Path) -> None:
    run = a_run(tmp_path, plan=PLAN._replace(least={"main": 4}), n2=Node(ready=NEVER))
    assert "3 of 4 nodes are ready" in str(run.refused("campaign-not-ready"))
    assert run.engine.cancelled


def test_nobody_is_ready(tmp_path: Path) -> None:
    run = a_run(tmp_path, 2, n0=Node(ready=NEVER), n1=Node(ready=NEVER))
    run.refused("campaign-not-ready")


def test_too_few_are_ready_and_the_launch_stops_with_names_and_reasons(tmp_path: Path) -> None:
    run = a_run(tmp_path, n1=Node(fails=(6,) * 9), n2=Node(ready=NEVER), n3=Node(fails=(6,) * 9))
    said = str(run.refused("campaign-not-ready"))
    assert "pool main: 1 of 4 nodes are ready (3 needed)" in said
    assert "or go on with those that are ready: --least main=1" in said
    assert [remark for remark in run.remarks if remark.startswith("not ready: ")] == [
        "not ready: n1, n3: failed: out of memory",
        "not ready: n2: is still preparing",
    ]
    assert run.engine.cancelled
    launched = run.folder.launched()
    assert launched is not None
    assert launched.ended_at is not None
    assert launched.refused == said
    assert [f"not ready: {line}" for line in launched.unready] == [
        line for line in run.remarks if line.startswith("not ready: ")
    ]
    statuses = [run.folder.status(run.engine.ids[name]) for name in ("n1", "n3")]
    assert [status and status.message for status in statuses] == ["out of memory"] * 2


def test_a_launch_that_stopped_is_launched_again(tmp_path: Path) -> None:
    """Once with the nodes mended, and once with those that are ready."""
    for name, mended, least in (("1", True, {}), ("2", False, {"main": 2})):
        run = a_run(tmp_path / name, n1=Node(fails=(6,) * 9), n2=Node(fails=(6,) * 9))
        run.refused("campaign-not-ready")
        run.clock.sleep_ns(100 * SECOND_NS)
        run.engine.began.clear()  # the engine has ended the job
        if mended:
            run.engine.nodes = {node: Node() for node in run.engine.nodes}
        run.plan = run.plan._replace(least=least)
        assert run.launch().places["done"] == (4 if mended else 2)
        launched = run.folder.launched()
        assert launched is not None
        assert (launched.refused, launched.unready) == (None, ())


def test_a_pool_that_failed_stops_the_launch_though_enough_nodes_of_all_are_ready(tmp_path: Path) -> None:
    run = a_run(tmp_path / "1", 20, pools="a" * 19 + "b", n19=Node(fails=(1,) * 9))
    said = str(run.refused("campaign-not-ready"))
    assert "pool b: 0 of 1 nodes are ready (1 needed)" in said
    assert "pool a" not in said
    assert "--least b=0" in said
    assert "not ready: n19: failed: out of memory" in run.remarks
    plan = PLAN._replace(least={"b": 0})
    run = a_run(tmp_path / "2", 20, plan=plan, pools="a" * 19 + "b", n19=Node(fails=(1,) * 9))
    assert run.launch().places["done"] == 19
    assert "starts without: n19: failed: out of memory" in run.remarks


def test_a_node_none_of_whose_devices_is_ready_is_not_ready(tmp_path: Path) -> None:
    dead = Node(devices=0, says="cuda:0 fp16: out-of-memory: 141 GB are taken")
    run = a_run(tmp_path / "1", n1=dead, n2=dead)
    assert "2 of 4 nodes are ready (3 needed)" in str(run.refused("campaign-not-ready"))
    assert f"not ready: n1, n2: none of its devices is ready: {dead.says}" in run.remarks
    run = a_run(tmp_path / "2", n1=dead)
    run.launch()
    ((_, published, _),) = run.published
    assert published.ready == 3
    assert f"starts without: n1: none of its devices is ready: {dead.says}" in run.remarks


def test_a_pool_that_waits_in_the_queue_is_named_with_it(tmp_path: Path) -> None:
    run = a_run(tmp_path, pools="aabb")
    state = run.engine.state

    def waiting(gang: Gang) -> GangState:
        return GangState("queued", reason="Resources") if gang.pool == "b" else state(gang)

    run.engine.state = waiting  # type: ignore[method-assign]
    submit = run.engine.submit
    run.engine.submit = lambda gang: None if gang.pool == "b" else submit(gang)  # type: ignore[method-assign]
    assert "pool b: 0 of 2 nodes are ready (1 needed)" in str(run.refused("campaign-not-ready"))
    assert "not ready: n2, n3: has told nothing: its job waits (Resources)" in run.remarks


def test_nodes_that_are_missing_at_the_start_are_named(tmp_path: Path) -> None:
    run = a_run(tmp_path, n2=Node(ready=NEVER))
    run.launch()
    said = "starts without: n2: is still preparing"
    assert run.remarks.index(said) < run.remarks.index(next(r for r in run.remarks if "all start at" in r))
    assert not any("starts without" in remark for remark in a_launch(tmp_path / "same").remarks)


def test_a_node_that_fails_after_the_start_is_said_with_its_reason_once(tmp_path: Path) -> None:
    run = a_run(tmp_path, n1=Node(fails=(24,)))
    view = run.launch()
    assert run.remarks.count("n1 failed: out of memory") == 1
    assert places(view)["n1"] == "failed"


@pytest.mark.parametrize("at_start", [True, False])
def test_without_room_for_the_records_nothing_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_start: bool
) -> None:
    """A disk that is full at once, and one that others fill while the nodes prepare."""
    run = a_run(tmp_path)

    def room_in(folder: Path, try_bytes: int) -> Room:
        return Room(3 * 10**6 if at_start or run.clock.monotonic_ns() else 10**12, None)

    monkeypatch.setattr("bench.campaign.launch.coordinator.room_in", room_in)
    said = str(run.refused("no-room"))
    assert "has 3.0 MB left, and the records of 4 nodes need 4." in said
    assert bool(run.engine.submissions) != at_start
    assert run.folder.settled() is None
    monkeypatch.undo()
    run.engine.began.clear()
    assert run.launch().places["done"] == 4


def test_two_pools_start_together_when_both_run(tmp_path: Path) -> None:
    run = a_run(tmp_path, pools="aabb")
    view = run.launch()
    assert run.engine.submissions == ["petaseal-c1-a", "petaseal-c1-b"]
    assert view.places["done"] == 4
    assert len(run.published) == 1


@pytest.mark.parametrize(("starts_from", "earliest"), [(0, 5 + 15), (300, 300)])
def test_not_before_the_campaign_may(tmp_path: Path, starts_from: int, earliest: int) -> None:
    run = a_run(tmp_path, starts_from=at(starts_from))
    run.launch()
    ((_, published, _),) = run.published
    starts = utc_ns(published.starts_at) - BEGIN_NS
    assert earliest * SECOND_NS <= starts <= (earliest + 10) * SECOND_NS
    assert run.campaign.start_problem(published.starts_at) is None


def test_the_campaign_s_time_passes_while_all_wait(tmp_path: Path) -> None:
    run = a_run(tmp_path, starts_until=at(50), n0=Node(ready=NEVER))
    assert "3 of 4" in str(run.refused("campaign-window-passed"))
    assert run.engine.cancelled
    assert run.clock.utc_ns() <= utc_ns(at(50))


def test_the_campaign_s_time_has_passed_before(tmp_path: Path) -> None:
    run = a_run(tmp_path, starts_until=at(50))
    run.clock.sleep_ns(51 * SECOND_NS)
    run.refused("campaign-window-passed")
    assert run.engine.submissions == []


# --- shapes ---


def settled_shape(run: Run) -> tuple[int, int, int]:
    """Return the one settled shape: its size, the devices that told a choice, and those that chose it."""
    settled = run.folder.settled()
    assert settled is not None
    (one,) = settled.shapes
    return one.shape.m, one.devices, one.chosen_by


def test_the_smallest_choice_is_settled_before_the_start_and_said(tmp_path: Path) -> None:
    run = a_run(tmp_path, n1=Node(chooses=4096), n2=Node(anew=20))
    view = run.launch()
    assert settled_shape(run) == (4096, 8, 2)
    ((second, _, ready),) = run.published
    assert ready == {"n0", "n1", "n2", "n3"}
    assert second >= 5 + 20  # a node that prepares anew is waited for
    (said,) = [remark for remark in run.remarks if "4096" in remark]
    choice = "fp16 of NVIDIA H200: 4096 x 4096 x 4096, the choice of 2 of 8 devices"
    assert said == f"{choice}, on n1; the others prepare anew"
    assert [str(shape) for shape in view.shapes] == [choice]
    assert f"shape      {choice}" in lines(view)
    assert not any("prepare anew" in remark for remark in a_launch(tmp_path / "same").remarks)


def test_a_node_that_is_late_has_no_say(tmp_path: Path) -> None:
    run = a_run(tmp_path, n2=Node(ready=70, chooses=4096))
    view = run.launch()
    assert settled_shape(run) == (8192, 6, 6)
    assert places(view)["n2"] == "done"


def test_a_node_has_a_say_as_long_as_the_campaign_may_not_start(tmp_path: Path) -> None:
    run = a_run(tmp_path, starts_from=at(300), n2=Node(ready=100, chooses=4096))
    run.launch()
    assert settled_shape(run) == (4096, 8, 2)


def test_a_node_that_is_refused_has_no_say(tmp_path: Path) -> None:
    plan = PLAN._replace(least={"main": 2})
    run = a_run(tmp_path, plan=plan, n1=Node(serial="s", chooses=4096), n2=Node(serial="s"))
    run.launch()
    assert settled_shape(run) == (8192, 4, 4)


def test_a_choice_that_is_not_registered_is_none(tmp_path: Path) -> None:
    run = a_run(tmp_path, n1=Node(chooses=77))
    run.launch()
    assert settled_shape(run) == (8192, 6, 6)


def test_a_node_that_never_ends_to_prepare_anew_is_not_waited_for(tmp_path: Path) -> None:
    run = a_run(tmp_path, plan=PLAN._replace(settle_timeout_ns=90 * SECOND_NS), n1=Node(anew=NEVER))
    view = run.launch()
    ((second, published, ready),) = run.published
    assert second >= 5 + 90
    assert published.ready == 3
    assert ready == {"n0", "n2", "n3"}
    assert places(view)["n1"] == "prepared"


def test_a_node_that_fails_while_it_prepares_anew_is_started_again(tmp_path: Path) -> None:
    run = a_run(tmp_path, n1=Node(chooses=4096), n2=Node(anew=30, fails=(15,)))
    view = run.launch()
    assert run.engine.retried == ["n2"]
    assert view.places["done"] == 4
    assert settled_shape(run) == (4096, 8, 2)


def test_killed_between_the_shapes_and_the_start_it_settles_nothing_anew(tmp_path: Path) -> None:
    run = a_run(tmp_path, n1=Node(chooses=4096), n2=Node(anew=40))
    run.clock.dies_ns = 20 * SECOND_NS
    with pytest.raises(Killed):
        run.launch()
    before = run.folder.settled()
    assert (before is not None, run.folder.started()) == (True, None)
    run.engine.nodes["n3"].chooses = 1024  # what is told after the shapes were settled changes nothing
    assert run.launch().places["done"] == 4
    assert run.folder.settled() == before
    ((_, _, ready),) = run.published
    assert ready == {"n0", "n1", "n2", "n3"}


def test_launched_again_long_after_the_shapes_it_waits_for_nodes_that_prepare_anew(tmp_path: Path) -> None:
    """The time for that runs from when a node could begin, not from when the shapes were settled."""
    plan = PLAN._replace(least={"main": 4}, settle_timeout_ns=90 * SECOND_NS)
    run = a_run(tmp_path, plan=plan, n1=Node(chooses=4096), n2=Node(anew=NEVER))
    run.refused("campaign-not-ready")
    run.clock.sleep_ns(300 * SECOND_NS)
    run.engine.nodes = {name: Node(anew=40) for name in run.engine.nodes}
    run.engine.settled_s = run.engine.now + 5  # seen by nodes once they have prepared again
    run.engine.began.clear()
    assert run.launch().places["done"] == 4
    assert run.remarks.count("4 of 4 nodes are ready; all start at " + run.published[0][1].starts_at) == 1


def test_what_a_ready_node_cannot_measure_is_said_before_the_start(tmp_path: Path) -> None:
    reason = "fake:0 fp16: shape-not-settled: 8192 x 8192 x 8192 is settled for its model"
    run = a_run(tmp_path, n1=Node(says=reason))
    run.launch()
    said = f"before the start: n1: {reason}"
    assert run.remarks.index(said) < run.remarks.index(next(r for r in run.remarks if "all start at" in r))


# --- failures ---


def test_a_node_that_fails_once_is_started_again(tmp_path: Path) -> None:
    run = a_run(tmp_path, n1=Node(fails=(6,)), n2=Node(ready=30))
    view = run.launch()
    assert run.engine.retried == ["n1"]
    assert view.places["done"] == 4
    assert any("n1 failed (out of memory) and is started again" in remark for remark in run.remarks)


def test_a_node_is_not_started_again_for_ever(tmp_path: Path) -> None:
    run = a_run(tmp_path, plan=PLAN._replace(retries=2), n1=Node(fails=(6,) * 9), n2=Node(ready=50))
    view = run.launch()
    assert run.engine.retried == ["n1", "n1"]
    assert places(view)["n1"] == "failed"
    ((_, published, _),) = run.published
    assert published.ready == 3


def test_without_retries_a_failed_node_is_not_waited_for(tmp_path: Path) -> None:
    run = a_run(tmp_path, plan=PLAN._replace(retries=0), n1=Node(fails=(6,)))
    run.launch()
    ((second, _, ready),) = run.published
    assert second < 60
    assert ready == {"n0", "n2", "n3"}
    assert run.engine.retried == []


def test_a_node_that_falls_silent_is_lost_and_may_come_back(tmp_path: Path) -> None:
    run = a_run(tmp_path, n1=Node(silent=(8, 50)), n2=Node(ready=55))
    view = run.launch()
    said = [remark for remark in run.remarks if remark.startswith("n1 ")]
    assert "is taken as lost" in said[0]
    assert said[1] == "n1 is heard of again"
    assert view.places["done"] == 4


def test_a_node_that_dies_is_lost_and_remembered(tmp_path: Path) -> None:
    run = a_run(tmp_path, n1=Node(dies=24))
    view = run.launch()
    assert places(view) == {"n0": "done", "n1": "lost", "n2": "done", "n3": "done"}
    launched = run.folder.launched()
    assert launched is not None
    assert launched.lost == (run.engine.ids["n1"],)


def test_nodes_of_a_running_gang_that_wait_are_said_once(tmp_path: Path) -> None:
    """As pods whose image is not there: their count changes, their cause does not."""
    run = a_run(tmp_path)
    ask = run.engine.state

    class Partial:
        """An engine in whose gang some pods wait for a while."""

        def __getattr__(self, name: str) -> Any:
            return getattr(run.engine, name)

        def state(self, gang: Gang) -> GangState:
            found, now = ask(gang), int(run.engine.now)
            if found.phase != "running" or now > 20:
                return found
            return found._replace(reason=f"{now} of 30 waiting pods: ErrImagePull: not found", since=at(0))

    run.launch(Partial())  # type: ignore[arg-type]
    (said,) = [remark for remark in run.remarks if "have not begun" in remark]
    assert said.startswith(f"pool main: nodes of it have not begun, since {at(0)}: ")
    assert said.endswith("of 30 waiting pods: ErrImagePull: not found")


class Seldom(Engine):
    """An engine that is to be asked every 30 s, and notes when its coordinator asks."""

    asks_every_ns = 30 * SECOND_NS

    def retry(self, gang: Gang, nodes: Sequence[str]) -> None:
        self.answer()
        for name in nodes:
            self.retried.append(name)
            self.start(name, self.now)


def asked_s(run: Run) -> list[float]:
    """Launch, and return the seconds at which the engine was asked for its gang."""
    seconds: list[float] = []
    ask = run.engine.state

    class Noting:
        """The coordinator's way to the engine."""

        def __getattr__(self, name: str) -> Any:
            return getattr(run.engine, name)

        def state(self, gang: Gang) -> GangState:
            seconds.append(run.engine.now)
            return ask(gang)

    run.launch(Noting())  # type: ignore[arg-type]
    return seconds


def test_an_engine_says_how_seldom_it_is_asked(tmp_path: Path) -> None:
    """Also with a node that fails for good and one that is retried, which make the question urgent."""
    run = a_run(tmp_path / "usual", n1=Node(fails=(2, 2, 2)), n2=Node(ready=50))
    usual = asked_s(run)
    run = a_run(tmp_path / "seldom", n1=Node(fails=(2, 2, 2)), n2=Node(ready=50))
    run.engine.__class__ = Seldom
    seldom = asked_s(run)
    assert run.engine.retried == ["n1"]
    gaps = [later - sooner for sooner, later in itertools.pairwise(seldom)]
    assert min(gaps) >= 10
    assert sum(gap < 30 for gap in gaps) <= 2
    assert len(usual) >= 5 * len(seldom)


def test_a_node_that_the_engine_gives_up_is_lost_sooner(tmp_path: Path) -> None:
    noticed: list[float] = []
    for gives_up in ((), ("n1", "a node of somebody else")):
        run = a_run(tmp_path / str(len(noticed)), n1=Node(dies=8), n2=Node(ready=50), gives_up=gives_up)
        lost: list[float] = []
        look = run.watch

        def watch(view: Overview, run: Run = run, lost: list[float] = lost, look: Any = look) -> None:
            look(view)
            if places(view)["n1"] == "lost":
                lost.append(run.engine.now)

        run.watch = watch  # type: ignore[method-assign]
        run.launch()
        noticed.append(lost[0])
    assert noticed[1] + 10 < noticed[0]


def test_nodes_that_never_told_anything_are_said_once_their_time_is_over(tmp_path: Path) -> None:
    run = a_run(tmp_path, n3=Node(dies=0))
    view = run.launch()
    assert places(view)["n3"] == "lost"
    assert [remark for remark in run.remarks if remark.startswith("n3 was never heard of")]
    assert view.is_over


def test_records_that_never_come_end_at_the_deadline(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    run.engine.state_of = lambda name, node, since, published: (  # type: ignore[method-assign]
        "measuring" if published else "ready" if since >= 5 else "preparing"
    )
    view = run.launch()
    ((_, published, _),) = run.published
    assert view.places["measuring"] == 4
    over = utc_ns(published.starts_at) + run.campaign.closes_ns
    assert over + run.plan.finish_ns <= run.clock.utc_ns() <= over + run.plan.finish_ns + 60 * SECOND_NS


def test_an_abort_ends_it(tmp_path: Path) -> None:
    run = a_run(tmp_path, n1=Node(ready=NEVER))

    def abort() -> None:
        if run.engine.now >= 20:
            run.folder.abort_file.write_bytes(b"aborted")

    run.clock.every(20 * SECOND_NS, abort)
    view = run.launch()
    assert view.places["aborted"] == 4
    assert run.clock.monotonic_ns() < 30 * SECOND_NS
    assert run.folder.started() is None
    run.refused("campaign-aborted")


# --- the engine ---


def test_an_engine_that_does_not_answer_for_a_while(tmp_path: Path) -> None:
    run = a_run(tmp_path, away=(0, 40))
    assert run.launch().places["done"] == 4
    assert run.engine.submissions == ["petaseal-c1-main"]
    assert run.remarks[:2] == ["fake does not answer; the campaign goes on without it", "fake answers again"]


def test_an_engine_that_does_not_answer_once_the_nodes_run(tmp_path: Path) -> None:
    run = a_run(tmp_path, away=(8, NEVER - 1), n1=Node(ready=20))
    assert run.launch().places["done"] == 4
    assert run.remarks[-1].startswith("petaseal-c1-main could not be ended: ")


def test_a_gang_that_ends_is_launched_again_and_not_for_ever(tmp_path: Path) -> None:
    nodes: dict[str, Any] = {f"n{i}": Node(ready=13) for i in range(4)}
    run = a_run(tmp_path / "1", ends=(12, 12), **nodes)
    assert run.launch().places["done"] == 4
    assert len(run.engine.submissions) == 3
    assert sum("is launched again" in remark for remark in run.remarks) == 2
    run = a_run(tmp_path / "2", ends=(3,) * 9)
    assert "preempted" in str(run.refused("engine-ends-gang"))
    assert run.engine.cancelled
    assert len(run.engine.submissions) == MOST_SUBMISSIONS


def test_an_engine_that_does_not_answer_when_a_node_is_to_be_started_again(tmp_path: Path) -> None:
    run = a_run(tmp_path, away=(8, 40), n1=Node(fails=(9,)), n2=Node(ready=50))
    assert run.launch().places["done"] == 4
    assert run.engine.retried == ["n1"]


def test_a_node_that_fails_at_once_is_started_again_too(tmp_path: Path) -> None:
    nodes: dict[str, Any] = {f"n{i}": Node(ready=1) for i in range(4)} | {"n1": Node(ready=2, fails=(1,))}
    run = a_run(tmp_path, **nodes)
    view = run.launch()
    assert run.engine.retried == ["n1"]
    assert view.places["done"] == 4


def test_a_gang_that_ends_after_the_start_is_not_launched_again(tmp_path: Path) -> None:
    run = a_run(tmp_path, ends=(24,))  # within the window
    view = run.launch()
    assert view.places["lost"] == 4
    assert run.engine.submissions == ["petaseal-c1-main"]


def test_an_engine_that_refuses(tmp_path: Path) -> None:
    run = a_run(tmp_path)

    def refuse(gang: Gang) -> None:
        raise InputError("unknown-reservation", "there is no reservation")

    run.engine.submit = refuse  # type: ignore[method-assign]
    run.refused("unknown-reservation")


def test_somebody_else_starts_the_nodes(tmp_path: Path) -> None:
    run = a_run(tmp_path, 2)
    for name in ("n0", "n1"):
        run.engine.start(name, 4)
    coordinator = Coordinator(run.opened, run.plan, None, run.clock, run.watch)
    assert coordinator.run().places["done"] == 2
    assert len(run.published) == 1
    assert run.engine.submissions == []


# --- killed and started again ---


def test_a_second_launch_waits_for_nothing(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    run.launch()
    before = run.folder.started()
    view = run.launch()
    assert view.places["done"] == 4
    assert run.folder.started() == before
    assert run.engine.submissions == ["petaseal-c1-main"]


def test_two_launches_at_once(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    descriptor = os.open(run.folder.lock_file, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    run.refused("launch-running")
    os.close(descriptor)
    assert run.launch().places["done"] == 4


SCRIPTS: tuple[dict[str, Any], ...] = (
    {},
    {"n1": Node(ready=30)},
    {"n1": Node(fails=(6,)), "n2": Node(ready=25)},
    {"n1": Node(ready=NEVER)},
    {"n1": Node(dies=22), "n2": Node(silent=(10, 45))},
    {"queued_s": 20, "away": (5, 33)},
    {"pools": "aabb", "queued_s": 7},
    {"n1": Node(chooses=4096), "n2": Node(anew=30)},
)


@settings(deadline=None, max_examples=25)
@given(script=st.sampled_from(SCRIPTS), moments=st.lists(st.integers(0, 130), max_size=4))
def test_killed_at_any_moment_it_goes_on(script: dict[str, Any], moments: list[int]) -> None:
    """T0 is published once, and only when all were ready, settled or the timeout had passed."""
    with tempfile.TemporaryDirectory() as name:
        run = a_run(Path(name), **script)
        view = None
        for moment in [*sorted(moments), None]:
            run.clock.dies_ns = None if moment is None else moment * SECOND_NS
            try:
                view = run.launch()
            except Killed:
                run.clock.sleep_ns(3 * SECOND_NS)
        assert view is not None
        assert len(run.published) == 1
        ((second, published, ready),) = run.published
        assert run.folder.started() == published
        assert run.settled <= {b"null", run.folder.shapes_file.read_bytes().strip()}  # shapes are settled once too
        assert run.campaign.start_problem(published.starts_at) is None
        nodes = run.engine.nodes
        unready = nodes.keys() - ready
        if any(nodes[n].ready == NEVER for n in unready):
            assert second >= 60
        elif "n2" in unready and nodes["n2"].silent[0] < NEVER:
            assert second >= 40  # lost by then
        else:
            assert not unready - {n for n in unready if nodes[n].fails or nodes[n].dies < NEVER}
        assert len(run.engine.submissions) == len(set(run.engine.submissions))  # no gang twice
        good = sum(node.ready < NEVER and node.dies == NEVER for node in nodes.values())
        assert view.places["done"] >= good - bool(moments and script.get("n1", Node()).fails)


# --- looking at the nodes ---


def checking(run: Run) -> Coordinator:
    """Return what checks the nodes of a campaign."""
    plan = run.plan._replace(check_only=True)
    return Coordinator(run.opened, plan, run.engine, run.clock)


def test_a_check_that_finds_no_room_is_not_remembered_as_a_launch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(tmp_path, 3)
    monkeypatch.setattr("bench.campaign.launch.coordinator.room_in", lambda folder, try_bytes: Room(0, None))
    with pytest.raises(RefusedError) as caught:
        checking(run).look()
    assert caught.value.code == "no-room"
    assert run.folder.launched() is None
    assert not run.engine.submissions


def test_who_knows_no_engine_keeps_the_one_that_was_launched_on(tmp_path: Path) -> None:
    """A coordinator on the cluster itself, started again after it has stopped before the start."""
    run = a_run(tmp_path, 2)
    stopped = Launched("kubernetes", ("image=x",), None, ("join",), at(0), at(9), least={"main": 0}, refused="too few")
    run.folder.write_launched(stopped)
    run.engine.submit(gangs(run.opened, PLAN)[0])
    Coordinator(run.opened, PLAN._replace(engine="none"), None, run.clock).run()
    launched = run.folder.launched()
    assert launched is not None
    assert (launched.engine, launched.options, launched.least) == ("kubernetes", ("image=x",), {"main": 0})
    assert launched.refused is None


def test_a_check_measures_nothing(tmp_path: Path) -> None:
    run = a_run(tmp_path, 3)
    run.engine.state_of = lambda name, node, since, published: "checked"  # type: ignore[method-assign]
    known, _ = checking(run).look()
    assert {status.state for status in known.values()} == {"checked"}
    assert len(known) == 3
    assert run.engine.submissions == ["petaseal-c1-main-check"]
    assert run.engine.gangs["petaseal-c1-main-check"].command[-1] == "--check"
    assert run.folder.started() is None
    del run.engine.state_of
    assert run.launch().places["done"] == 3  # and what the nodes told then is not in the way


def test_a_check_that_every_node_answered_says_of_no_job_that_it_waits(tmp_path: Path) -> None:
    """The nodes may be faster than the next question to the engine, which was last seen to have queued the gang."""
    run = a_run(tmp_path, 3)
    run.engine.asks_every_ns = 30 * SECOND_NS  # type: ignore[attr-defined]
    run.engine.state_of = lambda name, node, since, published: "checked"  # type: ignore[method-assign]
    known, silence = checking(run).look()
    assert len(known) == 3
    assert silence == ({}, ())


def test_a_check_names_the_jobs_of_silent_nodes_alone(tmp_path: Path) -> None:
    """The jobs of both pools were last seen in the engine's queue, and the nodes of one have reported since."""
    run = a_run(tmp_path, 2, pools="ab", n1=Node(silent=(0, NEVER)))
    run.engine.state_of = lambda name, node, since, published: "checked"  # type: ignore[method-assign]
    own = run.engine.state
    run.engine.state = lambda gang: GangState("queued", "7") if own(gang).phase != "absent" else own(gang)  # type: ignore[method-assign]
    known, silence = checking(run).look()
    assert set(known) == {run.engine.ids["n0"]}
    assert silence.waiting == (("b", "pool b: job 7 waits in the queue of fake"),)


def test_a_gang_has_time_for_everything() -> None:
    campaign = campaign_of(2)
    (gang,) = gangs(OpenCampaign(Folder(Path("/shared")), campaign, PROFILE, roster_of(campaign)), PLAN)
    assert gang.time_limit_s * SECOND_NS >= (
        PLAN.ready_timeout_ns + PLAN.lead_ns + campaign.closes_ns + PROFILE.guard_ns + PLAN.finish_ns
    )
    assert gang.nodes == ("n0", "n1")


def test_a_gang_knows_whether_the_campaign_names_its_nodes_keys() -> None:
    """An engine that starts nodes afresh each time must then keep their keys."""
    campaign = campaign_of(2)
    first, *others = campaign.nodes
    named = msgspec.structs.replace(campaign, nodes=(msgspec.structs.replace(first, keyid="ab" * 32), *others))
    for one, expected in ((campaign, False), (named, True)):
        (gang,) = gangs(OpenCampaign(Folder(Path("/shared")), one, PROFILE, roster_of(one)), PLAN)
        assert gang.node_keys is expected


def test_a_coordinator_elsewhere_waits_as_long_as_was_asked_for_at_the_launch() -> None:
    asked = LaunchPlan("kubernetes", ("join",), least={"main": 3}, ready_timeout_ns=7, lead_ns=8, finish_ns=9)
    own = handed_over(launched_by(asked, at(0)), "none")
    assert own == LaunchPlan("none", (), least={"main": 3}, ready_timeout_ns=7, lead_ns=8, finish_ns=9)
    assert handed_over(None, "none") == LaunchPlan("none", ())
