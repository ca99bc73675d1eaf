"""All devices of this node at once: prepared, measured in each window of the campaign, and joined into one record.

R10 and R14. A worker process measures each device (`bench.engine.workers`); this room says what they do and when, and
what becomes of their answers. Whatever happens, no worker outlives `measure_node`.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from bench.clock import Clock, SystemClock
from bench.devices import load_backend
from bench.devices.base import Faulty, LocalDevice, StackFacts, sound, with_stack_facts
from bench.engine import messages
from bench.engine.assemble import RecordParts, Shares, node_record, samples_gz
from bench.engine.compute import DeviceRequest
from bench.engine.fit import refuse_unfit
from bench.engine.measure import SampleRow
from bench.engine.network import NetworkResult, NetworkTask, measure_network
from bench.engine.readings import NodeReadings
from bench.engine.schedule import (
    CampaignStart,
    FixedStart,
    UtcWindow,
    check_campaign,
    check_start,
    preheats_ns,
    self_issued,
    utc_window,
)
from bench.engine.session import Result
from bench.engine.workers import Event, Supervisor, WorkerProcess, WorkerTimeouts
from bench.environment import worst_switches
from bench.errors import InputError, public_text
from bench.host.share import DevicePlace, divide, read_host
from bench.node_clock import node_clock
from bench.record import Campaign, NodeClock, NodeRecord, Profile, Window, Workload
from bench.record.campaign import BEFORE_THE_NEXT_WINDOW
from bench.record.plan import role_of
from bench.record.shapes import ChosenShape, product_of
from bench.reference.measurements import ReferenceResult, lost_reference
from bench.telemetry import MOST_OTHER_LOAD_PPM, LoadReading, load_between, other_load_now, read_load
from bench.units import SECOND_NS, percent_text, utc_ns, utc_text

GATHER_NS = 10 * SECOND_NS  # of a node that is late: how long its first ready device waits for the others


class NodeRequest(NamedTuple):
    """What is to be measured on this node, and for which campaign."""

    devices: Sequence[LocalDevice]
    profile: Profile
    workloads: tuple[Workload, ...]  # of a campaign: () for all that its pool measures
    node_id: str
    signer_spki: str
    campaign: Campaign | None = None  # None: one that this node issues itself
    start: CampaignStart | None = None  # of the campaign
    kernel: str | None = None  # None: each device's own
    timeouts: WorkerTimeouts = WorkerTimeouts()
    replace_identities: bool = False  # in the record, which then counts 0: it is for publication
    unset: tuple[str, ...] = ()  # environment variables that were taken away (`bench.environment.refuse_emulation`)


def measure_node(
    request: NodeRequest, report: Callable[[Event], None] = lambda event: None, clock: Clock | None = None
) -> tuple[NodeRecord, bytes]:
    """Measure all devices at once and return the record and the samples' bytes.

    Args:
        request: what to measure.
        report: called with every event, from this thread.
        clock: this machine's clocks.

    Raises:
        InputError: the campaign does not expect this node, is for another profile, or its time has passed; or the host
            has too little memory (`host-memory`).
        RefusedError: `window-invalid`, of the campaign or its T0.
    """
    node = _Node(request, report, clock or SystemClock())
    try:
        return node.run()
    finally:
        node.supervisor.end()
        node.readings.stop()


def workloads_of(request: NodeRequest) -> tuple[Workload, ...]:
    """Return what a request measures, in order; in a campaign what this node's pool measures of it."""
    if request.campaign is None:
        return request.workloads
    of_pool = (window.workload for window in request.campaign.windows_of(request.node_id))
    return tuple(workload for workload in of_pool if not request.workloads or workload in request.workloads)


class _Node:
    """The measurement of one node, from its workers' start to its record."""

    def __init__(self, request: NodeRequest, report: Callable[[Event], None], clock: Clock) -> None:
        self.request = request
        self.report = report
        self.clock = clock
        self.results: list[Result] = []
        self.references: list[ReferenceResult] = []
        self.rows: list[SampleRow] = []
        self.libraries: dict[str, str] = {}
        self.switches: dict[str, str] = {}
        self.stacks: dict[str, StackFacts] = {}
        self.shares: dict[Workload, Shares] = {}
        self.workloads = workloads_of(request)
        self.first_ready_ns: int | None = None  # monotonic
        self.starts_ns = 0  # T0
        self.readings = NodeReadings(sound(request.devices), request.profile.telemetry_interval_ns)
        self.supervisor = Supervisor(self.workloads, self.readings, report, clock)

    def run(self) -> tuple[NodeRecord, bytes]:
        """Prepare, measure each window, conclude, assemble."""
        request, started_ns = self.request, self.clock.utc_ns()
        given = request.campaign
        if given is not None:
            check_campaign(given, request.profile, request.node_id, started_ns)
            if not self.workloads:
                what = f"the pool of {request.node_id} measures nothing of what is asked for"
                raise InputError("unknown-precision", what, where=given.campaign_id, fix="leave --precision out")
        refuse_unfit(sound(request.devices), request.profile, self.workloads)
        challenge = given.challenge if given else secrets.token_hex(16)
        self.prepare(challenge)
        if request.start is not None:
            self.settle(request.start)
        ready_ns = self.clock.utc_ns()
        campaign = given or self_issued(request.profile, request.workloads, request.node_id, challenge, ready_ns)
        self.report(Event("campaign", text=campaign.campaign_id))
        start = request.start or FixedStart(utc_ns(campaign.starts_from))
        self.starts_ns = start.wait_ns(sum(bool(worker.ready) for worker in self.supervisor.alive()))
        check_start(campaign, self.starts_ns)
        windows = [window for window in campaign.windows if window.workload in self.workloads]
        seen = {str(window.workload): self.window_of(window, campaign, self.starts_ns) for window in windows}
        self.report(Event("start", text=utc_text(self.starts_ns), windows=seen))
        for window in windows:
            self.measure(window, campaign)
        # Figures first: a reference that takes its process with it afterwards takes none of them.
        self.conclude()
        self.measure_references()
        network = self.measure_network(campaign, start)  # last of all: nothing that fails there touches a figure
        self.readings.stop()
        self.supervisor.forward_remarks()
        parts = RecordParts(
            node_id=request.node_id,
            signer_spki=request.signer_spki,
            profile=request.profile,
            campaign=campaign,
            starts_ns=self.starts_ns,
            started_ns=started_ns,
            ready_ns=ready_ns,
            ended_ns=self.clock.utc_ns(),
            clock=self.node_clock(campaign),
            libraries=self.libraries,
            switches=self.switches,
            devices=with_stack_facts(request.devices, self.stacks),
            results=self.results,
            references=self.references,
            failures=sorted(self.supervisor.failures, key=lambda f: (f.device, f.precision, f.choice)),
            shares=self.shares,
            rows=self.rows,
            replace_identities=request.replace_identities,
            unset=request.unset,
            network=network,
        )
        return node_record(parts), samples_gz(self.rows)

    def prepare(self, challenge: str) -> None:
        """Start all workers and wait until their operands are in place; an agreed start does not wait for them."""
        request, supervisor = self.request, self.supervisor
        measured = sound(request.devices)
        for one in request.devices:
            if isinstance(one, Faulty):
                supervisor.record_failure(one.device.device, self.workloads, one.code, public_text(one.what))
        foreign_load = self.foreign_load()  # looked at before anything of ours computes
        places = [DevicePlace(one.model.kind == "cpu", one.device.numa_node) for one in measured]
        shares = divide(places, read_host(places))
        self.readings.start()  # its first look comes before a worker touches a device (R13)
        supervisor.start(measured, shares)
        for worker in supervisor.workers:
            if foreign_load and worker.detected.model.kind == "cpu":
                worker.end()
                supervisor.fail(worker, self.workloads, "device-busy", foreign_load)
                continue
            self.report(Event("preparing", worker.name))
            if worker.share.remark is not None:
                self.report(Event("remark", worker.name, text=worker.share.remark))
            asked = DeviceRequest(
                worker.detected,
                request.profile,
                challenge,
                request.node_id,
                request.kernel,
                worker.share.threads,
                worker.share.parts,
            )
            worker.send(messages.Setup(asked, self.workloads))
        self.wait_until_ready(supervisor.workers, request.timeouts.prepare_ns, "was not ready in time")

    def settle(self, start: CampaignStart) -> None:
        """Have devices prepare anew for whose model another fixed shape than theirs is settled (R4)."""
        chosen = Counter(
            (product_of(worker.detected.model), workload.precision, shape)
            for worker in self.supervisor.alive()
            for workload, shape in worker.chosen().items()
        )
        answer = start.settle(tuple(ChosenShape(*one, devices) for one, devices in chosen.items()))
        settled = {(one.product, one.precision): one.shape for one in answer}
        changing = []
        for worker in self.supervisor.alive():
            product, changes = product_of(worker.detected.model), []
            for workload, before in worker.chosen().items():
                shape = settled.get((product, workload.precision), before)
                changes += [(workload, shape)] if shape != before else []
            if changes:
                changing.append(worker)
                worker.send(messages.Settle(tuple(changes)))
        self.first_ready_ns = None  # the devices that prepare anew get the whole time to gather again
        self.wait_until_ready(changing, self.request.timeouts.settle_ns, "did not settle in time")

    def wait_until_ready(self, workers: Sequence[WorkerProcess], limit_ns: int, late: str) -> None:
        """Wait until workers have prepared, and take note of what they have, and of what they could not."""
        self.supervisor.wait_for(workers, limit_ns, self.workloads, late, hurry=self.until_load_ns)
        for worker in workers:
            if not worker.alive:
                continue
            assert isinstance(worker.answer, messages.WorkerReady)
            if worker.answer.stack is not None:
                self.stacks[worker.name] = worker.answer.stack
            worker.ready = {facts.workload: facts for facts in worker.answer.facts}
            self.libraries |= worker.answer.libraries
            self.switches = worst_switches(self.switches, worker.answer.switches)
            for trouble in worker.answer.troubles:
                self.supervisor.fail(worker, (trouble.workload,), trouble.code, trouble.detail)
            for remark in worker.answer.remarks:
                self.report(Event("remark", worker.name, text=remark))
            for facts in worker.answer.facts:
                text = f"{facts.m} x {facts.n} x {facts.k}, {facts.operand_sets} operand sets"
                self.report(Event("ready", worker.name, str(facts.workload), text=text))

    def foreign_load(self) -> str | None:
        """Return what other processes take of the CPUs to be measured, where the profile refuses that; None: nothing.

        Once a measurement runs, their load is recorded as a foreign process on an accelerator is: it stops nothing.
        """
        request = self.request
        if request.profile.busy != "refuse" or all(one.model.kind != "cpu" for one in request.devices):
            return None
        load_ppm = other_load_now(self.clock, lambda: read_load(()))
        if load_ppm is None or load_ppm <= MOST_OTHER_LOAD_PPM:
            return None
        return f"{percent_text(load_ppm, 0)} of the CPUs' time is used by other processes"

    def until_load_ns(self) -> int | None:
        """Return how long a device that is not ready is still waited for: until the others' load, once T0 is agreed.

        A campaign of a thousand nodes does not wait for one device; a node that is late gathers its devices for a while
        all the same, since one that loads alone would warm up no neighbour. None: as long as the worker's own limit.
        """
        request = self.request
        if request.campaign is None or request.start is None:
            return None
        if not any(isinstance(worker.answer, messages.WorkerReady) for worker in self.supervisor.workers):
            return None
        now = self.clock.monotonic_ns()
        if self.first_ready_ns is None:
            self.first_ready_ns = now
        if (starts_ns := request.start.known_ns()) is None:
            return None
        first = next(w for w in request.campaign.windows if w.workload in self.workloads)
        load_ns = self.window_of(first, request.campaign, starts_ns).load_ns
        return max(load_ns - self.clock.utc_ns(), self.first_ready_ns + GATHER_NS - now)

    def window_of(self, window: Window, campaign: Campaign, starts_ns: int, place: int = 0) -> UtcWindow:
        """Return a window as one device of this node sees it."""
        slot_ns = campaign.slot_ns(self.request.node_id)
        return utc_window(window, self.request.profile, starts_ns, slot_ns, place)

    def measure(self, window: Window, campaign: Campaign) -> None:
        """Have all devices that are ready for a workload measure it in its window, and their cross-checks after it."""
        request, workload = self.request, window.workload
        busy = [worker for worker in self.supervisor.alive() if workload in worker.ready]
        if not busy:
            return
        core = self.window_of(window, campaign, self.starts_ns)
        now_ns = self.clock.utc_ns()
        late_ns = now_ns - core.load_ns
        if (core.opens_ns - now_ns) * 2 < request.profile.warmup_ns:  # R6: what is left does not warm a device up
            for worker in busy:
                self.supervisor.fail(worker, (workload,), "late", f"{late_ns // SECOND_NS} s after its load was due")
            return
        # By the place in the record, faulty devices counted: a verifier computes the same slots from it.
        places = {one.device.device: place for place, one in enumerate(request.devices)}  # as in the record
        for worker in busy:
            place = places[worker.name]
            seen = self.window_of(window, campaign, self.starts_ns, place)
            begins_ns = preheats_ns(seen, campaign, request.profile, place, now_ns)
            worker.send(messages.Measure(workload, msgspec.structs.replace(seen, preheats_ns=begins_ns)))
        loads: list[LoadReading | None] = []

        def look() -> None:
            """Read the node's load at the opening and at the end of the core window."""
            now = self.clock.utc_ns()
            if len(loads) < 2 and now >= (core.opens_ns, core.closes_ns)[len(loads)]:
                pids = [*(w.process.pid for w in self.supervisor.workers), *self.readings.pids()]
                loads.append(read_load(pids))

        # Bounded by the window itself: a worker that is not back by then holds up the next one on all nodes.
        limit_ns = core.stops_ns - self.clock.utc_ns() + request.timeouts.grace_ns
        limit_ns += request.profile.references_ns(workload, BEFORE_THE_NEXT_WINDOW)
        # A worker that is ended gives none of the windows that are still to come either.
        later = self.workloads[self.workloads.index(workload) :]
        self.supervisor.wait_for(busy, limit_ns, later, "did not end its load in time", look)
        self.shares[workload] = Shares(*load_between(*loads)) if len(loads) == 2 else Shares(None, None)
        for worker in busy:
            if worker.alive and isinstance(worker.answer, messages.WindowDone):
                trouble = worker.answer.trouble
                if trouble is not None:
                    self.supervisor.fail(worker, (workload,), trouble.code, trouble.detail)
                else:
                    self.report(Event("measured", worker.name, str(workload)))

    def conclude(self) -> None:
        """Have all workers check their last outputs on the host and hand over their figures."""
        # A worker without any figure has nothing to hand over, and its check would take minutes.
        failed = {(f.device, Workload(f.precision, f.choice)) for f in self.supervisor.failures}
        busy = [w for w in self.supervisor.alive() if any((w.name, one) not in failed for one in w.ready)]
        for worker in busy:
            self.report(Event("concluding", worker.name))
            worker.send(messages.Conclude())
        limit_ns = self.request.timeouts.conclude_ns
        self.supervisor.wait_for(busy, limit_ns, self.workloads, "did not end its check in time")
        for worker in busy:
            if worker.alive and isinstance(worker.answer, messages.Concluded):
                self.results += worker.answer.results
                self.references += worker.answer.references
                self.rows += worker.answer.rows
                worker.concluded = True
                for trouble in worker.answer.troubles:
                    self.supervisor.fail(worker, (trouble.workload,), trouble.code, trouble.detail)

    def measure_references(self) -> None:
        """Have all workers measure the ceilings and bandwidths that their profile names, after all figures."""
        profile, expected = self.request.profile, {}
        figures = {(result.figure.device, result.facts.workload) for result in self.results}
        for worker in self.supervisor.alive():
            kind = worker.name.partition(":")[0]
            wanted = [
                (kernel, workload)
                for workload in self.workloads
                if (worker.name, workload) in figures
                for kernel in profile.references_of(kind, workload)
                if role_of(kernel) not in BEFORE_THE_NEXT_WINDOW
            ]
            if wanted:
                expected[worker] = wanted
                worker.send(messages.MeasureReferences())
        most = max(map(len, expected.values()), default=0)
        limit_ns = most * (profile.companion_ns + self.request.timeouts.reference_ns)
        late = "did not end its reference measurements in time"
        self.supervisor.wait_for(list(expected), limit_ns, (), late)
        for worker, wanted in expected.items():
            if isinstance(worker.answer, messages.ReferencesDone):
                self.references += worker.answer.references
            else:
                text = "the process that measured it was lost or ended"
                self.references += [lost_reference(kernel, w.precision, worker.name, text) for kernel, w in wanted]

    def measure_network(self, campaign: Campaign, start: CampaignStart) -> NetworkResult:
        """Have all devices with a figure take part in the network's runs, where the campaign has such."""
        request = self.request
        measured: dict[str, Workload] = {}
        for workload in self.workloads:
            if workload.choice in ("fixed", "tuned"):  # the others compute no products
                for result in self.results:
                    if result.facts.workload == workload:
                        measured.setdefault(result.figure.device, workload)
        devices = with_stack_facts(request.devices, self.stacks)
        task = NetworkTask(campaign, request.profile, request.node_id, devices, self.starts_ns, start)
        return measure_network(task, measured, self.supervisor, self.report, self.clock)

    def node_clock(self, campaign: Campaign) -> NodeClock:
        """Return how well this node's clock is known against the campaign's, which may be its own."""
        if campaign.self_issued:
            return NodeClock(source="self", uncertainty_ns=0)
        return clock_of(self.request.devices)


def clock_of(devices: Sequence[LocalDevice]) -> NodeClock:
    """Return how well this node's clock is known; that of fakes is what their scenario says."""
    kinds = sorted({one.device.device.partition(":")[0] for one in devices})
    scripted = [clock for kind in kinds if (clock := load_backend(kind).node_clock()) is not None]
    return scripted[0] if scripted else node_clock()
