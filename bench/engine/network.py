"""The network's part of a node, after its figures: its workers join the others of the campaign and measure each run.

Nothing in here touches a figure, and nothing raises: what fails is a text in the record, within a bounded time.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from msgspec.structs import replace

from bench.clock import Clock
from bench.collective import orders
from bench.collective.address import Interface, interface_here
from bench.collective.orders import NetworkOpened, Rendezvous, Timing
from bench.collective.roll_call import clipped
from bench.devices.base import LocalDevice
from bench.engine.schedule import CampaignStart
from bench.engine.workers import Event, Supervisor, WorkerProcess
from bench.errors import Interrupted, PetasealError, explained
from bench.record import Campaign, Profile, Workload, digest
from bench.record.campaign import SWEEP_NS
from bench.record.network import NetworkMeasurement, NetworkPlan, NetworkWindow, RankFigure, SweepPoint
from bench.units import SECOND_NS, utc_text

OPEN_NS = 120 * SECOND_NS  # to import torch
HOST_NS = 30 * SECOND_NS
TURN_NS = 2 * SECOND_NS  # for which each node of a group waits for the one before it to host the store
GRACE_NS = 2 * SECOND_NS  # after the time of a reduction
LOOK_NS = SECOND_NS // 2
SETUP_SHARE = 4  # of the time to join: its last quarter is for connecting those that are listed
T = TypeVar("T")


class NetworkResult(NamedTuple):
    """What a node has to record of the network."""

    measurements: tuple[NetworkMeasurement, ...] = ()
    sweep: tuple[SweepPoint, ...] = ()


class NetworkTask(NamedTuple):
    """What a node needs to know for it."""

    campaign: Campaign
    profile: Profile
    node_id: str
    devices: Sequence[LocalDevice]  # as the record lists them
    starts_ns: int  # T0, UTC
    start: CampaignStart


def measure_network(
    task: NetworkTask,
    measured: Mapping[str, Workload],
    supervisor: Supervisor,
    report: Callable[[Event], None],
    clock: Clock,
) -> NetworkResult:
    """Have a node's devices take part in the network's runs, and return what came of it.

    Args:
        task: of the node.
        measured: device -> the workload that it has a figure of, whose products the runs compute.
        supervisor: of the node's workers.
        report: called with every event.
        clock: this machine's clocks.
    """
    plan = task.profile.network
    workers = [worker for worker in supervisor.alive() if worker.name in measured]
    if not plan or not task.campaign.network or not workers:
        return NetworkResult()
    part = _NodeNetwork(task, plan, workers, supervisor, report, clock)
    try:
        part.run(measured)
    except Interrupted:
        raise
    except Exception as error:  # such as a folder that is away: the figures are there, and so is what was measured
        report(Event("remark", text=f"the network's part ended early: {explained(error)}"))
    return NetworkResult(tuple(part.measurements), part.sizes)


class _NodeNetwork:
    """One node's part, from loading what reduces to the last sweep."""

    def __init__(
        self,
        task: NetworkTask,
        plan: NetworkPlan,
        workers: list[WorkerProcess],
        supervisor: Supervisor,
        report: Callable[[Event], None],
        clock: Clock,
    ) -> None:
        self.task = task
        self.plan = plan
        self.workers = workers
        self.supervisor = supervisor
        self.report = report
        self.clock = clock
        places = [node.node_id for node in task.campaign.nodes]
        self.place = places.index(task.node_id)
        self.group = task.campaign.nodes[self.place].group
        peers = [node.node_id for node in task.campaign.nodes if node.group == self.group]
        self.turn = peers.index(task.node_id)
        self.campaign_sha256, self.starts_at = digest(task.campaign), utc_text(task.starts_ns)
        self.opened: dict[str, NetworkOpened] = {}
        self.joined: dict[str, orders.GroupJoined] = {}
        self.measurements: list[NetworkMeasurement] = []
        self.sizes: tuple[SweepPoint, ...] = ()
        load_ns = task.starts_ns + task.campaign.network[0].load_ns
        self.timing = Timing(load_ns - plan.join_ns // SETUP_SHARE, plan.reduction_ns, GRACE_NS)

    def run(self, measured: Mapping[str, Workload]) -> None:
        """Open, join, measure each run, then the sizes."""
        trouble, interface = None, None
        try:
            interface = interface_here()
        except PetasealError as error:
            trouble = str(error)
        self.open(measured, interface)
        if trouble is None and interface is not None:
            rendezvous = self.rendezvous(interface)
            trouble = self.join(rendezvous)
        if trouble is not None:
            self.step(trouble)
        for window in self.task.campaign.network:
            self.measurements += self.measure(window, trouble)
        if trouble is None:
            self.sizes = self.sweep()

    def open(self, measured: Mapping[str, Workload], interface: Interface | None) -> None:
        """Have all workers load what reduces, and say what they compute."""
        self.step("loading what reduces")
        places = {one.device.device: place for place, one in enumerate(self.task.devices)}
        for worker in self.workers:
            worker.send(
                orders.OpenNetwork(
                    workload=measured[worker.name],
                    node=self.place,
                    place=places[worker.name],
                    node_id=self.task.node_id,
                    device=self.task.devices[places[worker.name]].device,
                    campaign_sha256=self.campaign_sha256,
                    starts_at=self.starts_at,
                    block_ns=self.plan.block_ns,
                    interface=None if interface is None else interface.name,
                )
            )
        self.opened = self.answers(NetworkOpened, OPEN_NS, "did not load what reduces in time", self.workers)
        for name, answer in self.opened.items():
            if answer.trouble is not None:
                self.step(f"{name}: {answer.trouble}")

    def rendezvous(self, interface: Interface) -> Rendezvous | None:
        """Return where the group's ranks meet: found in the campaign's folder, or hosted by this node in its turn."""
        host = next((w for w in self.workers if w.alive and self.can_reduce(w)), None)
        begun_ns, tried = self.clock.utc_ns(), False
        while self.clock.utc_ns() < self.timing.joins_until_ns:
            known = self.task.start.meet(self.group, None)
            if known is not None:
                return known
            its_turn_ns = begun_ns + min(self.turn * TURN_NS, self.plan.join_ns // 4)
            if host is not None and not tried and self.clock.utc_ns() >= its_turn_ns:
                tried = True
                offered = self.host(host, interface)
                if offered is not None and (known := self.task.start.meet(self.group, offered)) is not None:
                    return known
            self.clock.sleep_ns(LOOK_NS)
        return None

    def host(self, worker: WorkerProcess, interface: Interface) -> Rendezvous | None:
        """Have a worker host the store, and return where it is."""
        token = secrets.token_hex(16)
        worker.send(orders.HostStore(interface.address, token))
        hosted = self.answers(orders.StoreHosted, HOST_NS, "did not host the store in time", [worker])
        answer = hosted.get(worker.name)
        if answer is None or answer.port is None:
            self.step(f"{worker.name} cannot host the store: {answer.trouble if answer else worker.trouble}")
            return None
        return Rendezvous(
            campaign_sha256=self.campaign_sha256,
            starts_at=self.starts_at,
            group=self.group,
            node_id=self.task.node_id,
            device=worker.name,
            address=interface.address,
            port=answer.port,
            token=token,
        )

    def join(self, rendezvous: Rendezvous | None) -> str | None:
        """Have all workers join the ranks of their group; return why none could."""
        if rendezvous is None:
            missing = next((o.trouble for o in self.opened.values() if o.trouble is not None), None)
            if missing is None and self.clock.utc_ns() >= self.timing.joins_until_ns:
                return "the list of ranks was closed before this node was ready to join, or could host it"
            return missing or "no node of the group offered a place to meet"
        self.step("joining the ranks of all nodes")
        asked = self.alive()
        for worker in asked:
            worker.send(orders.JoinGroup(rendezvous, self.timing, self.task.campaign.rails))
        limit_ns = self.timing.joins_until_ns - self.clock.utc_ns() + 4 * (self.plan.reduction_ns + 2 * GRACE_NS)
        self.joined = self.answers(orders.GroupJoined, limit_ns, "did not join the others in time", asked)
        for name, answer in self.joined.items():
            self.opened[name] = replace(self.opened[name], block_launches=answer.block_launches)
            self.step(f"{name}: {answer.trouble or f'rank {answer.rank} of {answer.ranks}, {answer.backend}'}")
        return None

    def measure(self, window: NetworkWindow, trouble: str | None) -> Iterable[NetworkMeasurement]:
        """Yield what the devices measured in one run, those that compute the same together."""
        task, reduces = self.task, window.run != "compute"
        asked = [] if reduces and trouble is not None else self.alive()
        if asked:
            tokens = "" if window.tokens is None else f", {window.tokens} tokens"
            self.step(f"run {window.run}{tokens}")
        for worker in asked:
            worker.send(orders.MeasureRun(window, task.starts_ns))
        closes_ns = task.starts_ns + window.closes_ns
        # Two more reductions end it, and the roll is called for as long as one may take.
        limit_ns = closes_ns - self.clock.utc_ns() + 3 * self.plan.reduction_ns + 8 * GRACE_NS
        answers = self.answers(orders.RunMeasured, limit_ns, "did not end its run in time", asked)
        alike: dict[NetworkOpened, list[tuple[RankFigure, int]]] = {}
        for worker in self.workers:
            if (problem := self.opened.get(worker.name)) is None:
                continue
            if (answer := answers.get(worker.name)) is not None:
                row = (answer.figure, answer.reduction_bytes)
            else:
                row = (self.lost_figure(worker, (trouble if reduces else None) or worker.trouble), 0)
            if row[0].trouble is not None:
                self.step(f"{worker.name}: {row[0].trouble}")
            alike.setdefault(_without_trouble(problem), []).append(row)
        for problem, rows in alike.items():
            yield self.measurement(window, problem, rows)

    def measurement(
        self, window: NetworkWindow, problem: NetworkOpened, rows: Sequence[tuple[RankFigure, int]]
    ) -> NetworkMeasurement:
        """Return one run of devices that compute the same."""
        backends = {answer.backend for answer in self.joined.values() if answer.backend is not None}
        columns = zip(*(figure for figure, _ in rows), strict=True)
        return NetworkMeasurement(
            run=window.run,
            tokens=window.tokens,
            group=self.group,
            backend=min(backends) if backends and window.run != "compute" else None,
            kernel=problem.kernel,
            precision=problem.precision,
            m=problem.m,
            n=problem.n,
            k=problem.k,
            block_launches=problem.block_launches,
            reduction_bytes=max(size for _, size in rows),
            **dict(zip(RankFigure._fields, columns, strict=True)),
        )

    def lost_figure(self, worker: WorkerProcess, trouble: str | None) -> RankFigure:
        """Return the row of a device that answered nothing."""
        joined = self.joined.get(worker.name)
        rank, ranks = (None, None) if joined is None else (joined.rank, joined.ranks)
        text = clipped(trouble or "its process is gone")
        return RankFigure(worker.name, rank, ranks or 1, 0, None, 0, 0, 0, None, None, text)

    def sweep(self) -> tuple[SweepPoint, ...]:
        """Have all devices reduce without products, by size; return what the first of this node saw.

        Without sizes too: it is in this order that ranks leave the store, whose host waits for all of them.
        """
        if self.plan.sweep_bytes:
            self.step("all-reduces by size")
        asked = self.alive()
        for worker in asked:
            worker.send(orders.MeasureSweep(self.plan.sweep_bytes))
        limit_ns = len(self.plan.sweep_bytes) * SWEEP_NS + 5 * self.plan.reduction_ns + 10 * GRACE_NS
        answers = self.answers(orders.SweepMeasured, limit_ns, "did not end its all-reduces in time", asked)
        first = next((answers[worker.name] for worker in asked if worker.name in answers), None)
        if first is not None and first.trouble is not None:
            self.step(f"all-reduces by size: {first.trouble}")
        return tuple(
            SweepPoint(
                group=self.group,
                ranks=one.ranks,
                size_bytes=one.size_bytes,
                reductions=one.reductions,
                elapsed_ns=max(1, one.elapsed_ns),
                wrong_reductions=one.wrong_reductions,
            )
            for one in (() if first is None else first.figures)
            if one.reductions
        )

    def can_reduce(self, worker: WorkerProcess) -> bool:
        """Return whether a worker has loaded what reduces."""
        answer = self.opened.get(worker.name)
        return answer is not None and answer.trouble is None

    def alive(self) -> list[WorkerProcess]:
        """Return the workers of the network's part that still run."""
        return [worker for worker in self.workers if worker.alive and worker.name in self.opened]

    def answers(self, kind: type[T], limit_ns: int, late: str, asked: Sequence[WorkerProcess]) -> dict[str, T]:
        """Wait for workers' answers of one kind, and return those that came, by device."""
        self.supervisor.wait_for(asked, max(limit_ns, SECOND_NS), (), late)
        return {w.name: w.answer for w in asked if w.alive and isinstance(w.answer, kind)}

    def step(self, text: str) -> None:
        """Report a step to whoever watches."""
        self.report(Event("network", text=text))


def _without_trouble(problem: NetworkOpened) -> NetworkOpened:
    """Return what a device computes, without what keeps it from reducing: devices that compute alike stand together."""
    return replace(problem, trouble=None)
