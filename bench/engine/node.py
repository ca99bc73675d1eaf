"""All devices of this node at once: a worker process for each, a watchdog over them, and the record at the end.

R10 and R14. A worker that hangs is killed after its deadline; one that dies is recorded; its neighbours finish.
Whatever happens, no worker outlives `measure_node`.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, Protocol

import msgspec

from bench.clock import Clock, SystemClock
from bench.devices import load_backend
from bench.devices.base import Faulty, Found, StackFacts, sound, with_stack_facts
from bench.devices.reader import interrupt_left_to_parent
from bench.engine import messages
from bench.engine.assemble import NodeFacts, Shares, node_record, samples_gz
from bench.engine.fit import refuse_unfit
from bench.engine.measure import Row
from bench.engine.readings import NodeReadings
from bench.engine.schedule import check_campaign, check_start, preheats_ns, self_issued, utc_window
from bench.engine.session import Facts, Result, UtcWindow
from bench.environment import worst_switches
from bench.errors import InputError, public_text
from bench.host.share import Place, Share, divide, read_host
from bench.host.threads import worker_environment
from bench.node_clock import node_clock
from bench.record import Campaign, Failure, NodeClock, NodeRecord, Profile, Shape, Window, Workload
from bench.record.node import FailureCode
from bench.record.plan import role_of
from bench.record.shapes import ChosenShape, SettledShape, product_of
from bench.record.windows import BEFORE_THE_NEXT_WINDOW
from bench.reference.companions import Beside, absent
from bench.telemetry import MOST_OTHER_LOAD_PPM, LoadReading, load_between, other_load_now, read_load
from bench.units import percent_text, utc_ns, utc_text

SECOND_NS = 10**9
TICK_NS = 200_000_000
GATHER_NS = 10 * SECOND_NS  # of a node that is late: how long its first ready device waits for the others
START = "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); from bench.engine.worker import main; main()"


class Limits(NamedTuple):
    """How long a worker may take before it counts as hung, ns."""

    prepare_ns: int = 1800 * SECOND_NS
    settle_ns: int = 600 * SECOND_NS  # a shape is already chosen: no trials, and smaller operands as a rule
    grace_ns: int = 15 * SECOND_NS  # after the end of its load
    conclude_ns: int = 1800 * SECOND_NS  # a large product is checked on the host, in FP64
    accompany_ns: int = 60 * SECOND_NS  # for each, beside its own time: its first launch may load or compile


class Start(Protocol):
    """What all nodes of a campaign agree on: one shape for each model, and T0 once all are ready."""

    def known_ns(self) -> int | None:
        """Return T0, UTC ns, where it is agreed already."""
        ...

    def settle(self, chosen: tuple[ChosenShape, ...]) -> tuple[SettledShape, ...]:
        """Tell which shapes this node's devices chose, wait, and return those that are settled."""
        ...

    def wait_ns(self, devices: int) -> int:
        """Tell that so many devices of this node are ready, wait, and return T0, UTC ns."""
        ...


class FixedStart(NamedTuple):
    """A T0 that was agreed before."""

    at_ns: int

    def known_ns(self) -> int | None:
        return self.at_ns

    def settle(self, chosen: tuple[ChosenShape, ...]) -> tuple[SettledShape, ...]:
        return ()  # nobody settles anything: devices keep their own choice

    def wait_ns(self, devices: int) -> int:
        return self.at_ns


class Request(NamedTuple):
    """What to measure on this node."""

    found: Sequence[Found]
    profile: Profile
    workloads: tuple[Workload, ...]  # of a campaign: () for all that its pool measures
    node_id: str
    signer_spki: str
    campaign: Campaign | None = None  # None: one that this node issues itself
    start: Start | None = None  # of the campaign
    kernel: str | None = None  # None: each device's own
    limits: Limits = Limits()
    replace_identities: bool = False  # in the record, which then counts 0: it is for publication
    unset: tuple[str, ...] = ()  # environment variables that were taken away (`bench.environment.refuse_emulation`)


class Event(NamedTuple):
    """Something that happened: for people who watch."""

    # preparing, ready, remark, campaign, start, preheat, warmup, window, a companion's name, measured, failed,
    # concluding
    what: str
    device: str | None = None
    workload: str | None = None
    rate_mflop_s: int | None = None
    text: str | None = None


def measure_node(
    request: Request, tell: Callable[[Event], None] = lambda event: None, clock: Clock | None = None
) -> tuple[NodeRecord, bytes]:
    """Measure all devices at once and return the record and the samples' bytes.

    Args:
        request: what to measure.
        tell: called with every event, from this thread.
        clock: this machine's clocks.

    Raises:
        InputError: the campaign does not expect this node, is for another profile, or its time has passed; or the host
            has too little memory (`host-memory`).
        RefusedError: `window-invalid`, of the campaign or its T0.
    """
    node = _Node(request, tell, clock or SystemClock())
    try:
        return node.run()
    finally:
        for worker in node.workers:
            worker.end()
        node.readings.stop()


def workloads_of(request: Request) -> tuple[Workload, ...]:
    """Return what a request measures, in order; in a campaign what this node's pool measures of it."""
    if request.campaign is None:
        return request.workloads
    own = (window.workload for window in request.campaign.windows_of(request.node_id))
    return tuple(workload for workload in own if not request.workloads or workload in request.workloads)


@contextlib.contextmanager
def bound_to(cpus: tuple[int, ...] | None) -> Iterator[None]:
    """While this holds, processes that this thread starts run on some of its CPUs only; None for all of them."""
    if cpus is None:
        yield
        return
    before = os.sched_getaffinity(0)
    with contextlib.suppress(OSError):  # a CPU may have gone offline: then they are not bound
        os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class _Worker:
    """One worker process, as its node sees it."""

    def __init__(self, found: Found, share: Share, readings: socket.socket | None) -> None:
        self.found = found
        self.share = share
        self.name = found.device.device
        self.alive = True
        self.answer: messages.Answer | None = None
        self.last_words = ""  # of an error that ended it
        self.concluded = False  # its figures have been handed over: nothing that happens to it takes them back
        self.ready: dict[Workload, Facts] = {}
        ours, theirs = socket.socketpair()
        received = [] if readings is None else [readings.fileno()]
        with theirs, interrupt_left_to_parent(), bound_to(share.cpus):
            numbers = (theirs.fileno(), os.getpid(), *(received or [-1]))
            # The parent's own search path: what a user's folder holds must not pass for a module of ours.
            self.process = subprocess.Popen(
                [sys.executable, "-c", START, *map(str, numbers), json.dumps(sys.path)],
                pass_fds=[theirs.fileno(), *received],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=worker_environment(os.environ, share.threads, found.model.kind == "cpu"),
            )
        self.connection: Connection[Any, Any] = Connection(ours.detach())

    def chosen(self) -> dict[Workload, Shape]:
        """Return the shape of each fixed workload that is ready."""
        return {w: Shape(m=f.m, n=f.n, k=f.k) for w, f in self.ready.items() if w.choice == "fixed"}

    def send(self, message: messages.Order) -> None:
        """Tell the worker something; one that is gone is found out while waiting for its answer."""
        self.answer = None
        with contextlib.suppress(OSError):
            self.connection.send_bytes(messages.encode(message))

    def end(self) -> int | None:
        """Kill the worker, if it still runs, and return its exit status."""
        self.alive = False
        self.connection.close()
        if self.process.poll() is None:
            self.process.kill()
        try:
            return self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:  # stuck in a driver: it goes when the driver lets it
            return None


class _Node:
    def __init__(self, request: Request, tell: Callable[[Event], None], clock: Clock) -> None:
        self.request = request
        self.tell = tell
        self.clock = clock
        self.workers: list[_Worker] = []
        self.failures: list[Failure] = []
        self.results: list[Result] = []
        self.beside: list[Beside] = []
        self.rows: list[Row] = []
        self.libraries: dict[str, str] = {}
        self.switches: dict[str, str] = {}
        self.stacks: dict[str, StackFacts] = {}
        self.shares: dict[Workload, Shares] = {}
        self.workloads = workloads_of(request)
        self.first_ready_ns: int | None = None  # monotonic
        self.starts_ns = 0  # T0
        self.readings = NodeReadings(sound(request.found), request.profile.telemetry_interval_ns)

    def run(self) -> tuple[NodeRecord, bytes]:
        """Prepare, measure each window, conclude, assemble."""
        request, started_ns = self.request, self.clock.utc_ns()
        given = request.campaign
        if given is not None:
            check_campaign(given, request.profile, request.node_id, started_ns)
            if not self.workloads:
                what = f"the pool of {request.node_id} measures nothing of what is asked for"
                raise InputError("unknown-precision", what, where=given.campaign_id, fix="leave --precision out")
        refuse_unfit(sound(request.found), request.profile, self.workloads)
        challenge = given.challenge if given else secrets.token_hex(16)
        self.prepare(challenge)
        if request.start is not None:
            self.settle(request.start)
        ready_ns = self.clock.utc_ns()
        campaign = given or self_issued(request.profile, request.workloads, request.node_id, challenge, ready_ns)
        self.tell(Event("campaign", text=campaign.campaign_id))
        start = request.start or FixedStart(utc_ns(campaign.starts_from))
        self.starts_ns = start.wait_ns(sum(bool(worker.ready) for worker in self.alive()))
        check_start(campaign, self.starts_ns)
        self.tell(Event("start", text=utc_text(self.starts_ns)))
        for window in campaign.windows:
            if window.workload in self.workloads:
                self.measure(window, campaign)
        self.conclude()
        self.accompany()
        self.readings.stop()
        self.pass_remarks_on()
        facts = NodeFacts(
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
            found=with_stack_facts(request.found, self.stacks),
            results=self.results,
            beside=self.beside,
            failures=sorted(self.failures, key=lambda f: (f.device, f.precision, f.choice)),
            shares=self.shares,
            rows=self.rows,
            replace_identities=request.replace_identities,
            unset=request.unset,
        )
        return node_record(facts), samples_gz(self.rows)

    def prepare(self, challenge: str) -> None:
        """Start all workers and wait until their operands are in place; an agreed start does not wait for them."""
        request = self.request
        measured = sound(request.found)
        for found in request.found:
            if isinstance(found, Faulty):
                self.failed(found.device.device, self.workloads, found.code, public_text(found.what))
        used_by_others = self.used_by_others()  # looked at before anything of ours computes
        places = [Place(found.model.kind == "cpu", found.device.numa_node) for found in measured]
        shares = divide(places, read_host(places))
        self.readings.start()
        for found, share in zip(measured, shares, strict=True):
            self.workers.append(_Worker(found, share, self.readings.worker_end(found.device.device)))

        def setup(worker: _Worker) -> messages.Setup:
            found, threads = worker.found, worker.share.threads
            return messages.Setup(
                found, request.profile, challenge, request.node_id, self.workloads, request.kernel, threads
            )

        for worker in self.workers:
            if used_by_others and worker.found.model.kind == "cpu":
                worker.end()
                self.fail(worker, self.workloads, "device-busy", used_by_others)
                continue
            self.tell(Event("preparing", worker.name))
            if worker.share.remark is not None:
                self.tell(Event("remark", worker.name, text=worker.share.remark))
            worker.send(setup(worker))
        limit_ns = request.limits.prepare_ns
        self.wait_for(self.workers, limit_ns, self.workloads, "was not ready in time", hurry=self.until_load_ns)
        self.take_ready(self.workers)

    def settle(self, start: Start) -> None:
        """Have devices prepare anew for whose model another fixed shape than theirs is settled (R4)."""
        chosen = Counter(
            (product_of(worker.found.model), workload.precision, shape)
            for worker in self.alive()
            for workload, shape in worker.chosen().items()
        )
        answer = start.settle(tuple(ChosenShape(*one, devices) for one, devices in chosen.items()))
        settled = {(one.product, one.precision): one.shape for one in answer}
        changing = []
        for worker in self.alive():
            product, changes = product_of(worker.found.model), []
            for workload, own in worker.chosen().items():
                shape = settled.get((product, workload.precision), own)
                changes += [(workload, shape)] if shape != own else []
            if changes:
                changing.append(worker)
                worker.send(messages.Settle(tuple(changes)))
        self.first_ready_ns = None
        limit_ns = self.request.limits.settle_ns
        self.wait_for(changing, limit_ns, self.workloads, "did not settle in time", hurry=self.until_load_ns)
        self.take_ready(changing)

    def take_ready(self, workers: Sequence[_Worker]) -> None:
        """Take note of what workers have prepared, and of what they could not."""
        for worker in workers:
            if not worker.alive:
                continue
            assert isinstance(worker.answer, messages.Ready)
            if worker.answer.stack is not None:
                self.stacks[worker.name] = worker.answer.stack
            worker.ready = {facts.workload: facts for facts in worker.answer.facts}
            self.libraries |= worker.answer.libraries
            self.switches = worst_switches(self.switches, worker.answer.switches)
            for trouble in worker.answer.troubles:
                self.fail(worker, (trouble.workload,), trouble.code, trouble.detail)
            for remark in worker.answer.remarks:
                self.tell(Event("remark", worker.name, text=remark))
            for facts in worker.answer.facts:
                text = f"{facts.m} x {facts.n} x {facts.k}, {facts.operand_sets} operand sets"
                self.tell(Event("ready", worker.name, str(facts.workload), text=text))

    def used_by_others(self) -> str | None:
        """Return what others take of the CPUs that are to be measured, where the profile refuses that; None: nothing.

        Once a measurement runs, their load is recorded as a foreign process on an accelerator is: it stops nothing.
        """
        request = self.request
        if request.profile.busy != "refuse" or all(found.model.kind != "cpu" for found in request.found):
            return None
        others_ppm = other_load_now(self.clock, lambda: read_load(()))
        if others_ppm is None or others_ppm <= MOST_OTHER_LOAD_PPM:
            return None
        return f"{percent_text(others_ppm, 0)} of the CPUs' time is used by other processes"

    def until_load_ns(self) -> int | None:
        """Return how long a device that is not ready is still waited for: until the others' load, once T0 is agreed."""
        request = self.request
        if request.campaign is None or request.start is None:
            return None
        if not any(isinstance(worker.answer, messages.Ready) for worker in self.workers):
            return None
        now = self.clock.monotonic_ns()
        if self.first_ready_ns is None:
            self.first_ready_ns = now
        if (starts_ns := request.start.known_ns()) is None:
            return None
        first = next(w for w in request.campaign.windows if w.workload in self.workloads)
        load_ns = self.own_window(first, request.campaign, starts_ns).load_ns
        return max(load_ns - self.clock.utc_ns(), self.first_ready_ns + GATHER_NS - now)

    def own_window(self, window: Window, campaign: Campaign, starts_ns: int, place: int = 0) -> UtcWindow:
        """Return a window as one device of this node sees it."""
        slot_ns = campaign.slot_ns(self.request.node_id)
        return utc_window(window, self.request.profile, starts_ns, slot_ns, place)

    def measure(self, window: Window, campaign: Campaign) -> None:
        """Have all devices that are ready for a workload measure it in its window, and what stands beside it."""
        request, workload = self.request, window.workload
        busy = [worker for worker in self.alive() if workload in worker.ready]
        if not busy:
            return
        core = self.own_window(window, campaign, self.starts_ns)
        now_ns = self.clock.utc_ns()
        late_ns = now_ns - core.load_ns
        if (core.opens_ns - now_ns) * 2 < request.profile.warmup_ns:  # R6: what is left does not warm a device up
            for worker in busy:
                self.fail(worker, (workload,), "late", f"{late_ns // SECOND_NS} s after its load was due")
            return
        places = {one.device.device: place for place, one in enumerate(request.found)}  # as in the record
        for worker in busy:
            place = places[worker.name]
            own = self.own_window(window, campaign, self.starts_ns, place)
            begins_ns = preheats_ns(own, campaign, request.profile, place, now_ns)
            worker.send(messages.Measure(workload, msgspec.structs.replace(own, preheats_ns=begins_ns)))
        loads: list[LoadReading | None] = []

        def look() -> None:
            """Read the node's load at the opening and at the end of the core window."""
            now = self.clock.utc_ns()
            if len(loads) < 2 and now >= (core.opens_ns, core.closes_ns)[len(loads)]:
                loads.append(read_load([*(w.process.pid for w in self.workers), *self.readings.pids()]))

        limit_ns = core.stops_ns - self.clock.utc_ns() + request.limits.grace_ns
        limit_ns += request.profile.accompanied_ns(workload, BEFORE_THE_NEXT_WINDOW)
        later = self.workloads[self.workloads.index(workload) :]
        self.wait_for(busy, limit_ns, later, "did not end its load in time", look)
        self.shares[workload] = Shares(*load_between(*loads)) if len(loads) == 2 else Shares(None, None)
        for worker in busy:
            if worker.alive and isinstance(worker.answer, messages.Measured):
                trouble = worker.answer.trouble
                if trouble is not None:
                    self.fail(worker, (workload,), trouble.code, trouble.detail)
                else:
                    self.tell(Event("measured", worker.name, str(workload)))

    def conclude(self) -> None:
        """Have all workers check their last outputs on the host and hand over their figures."""
        failed = {(f.device, Workload(f.precision, f.choice)) for f in self.failures}
        busy = [w for w in self.alive() if any((w.name, one) not in failed for one in w.ready)]
        for worker in busy:
            self.tell(Event("concluding", worker.name))
            worker.send(messages.Conclude())
        self.wait_for(busy, self.request.limits.conclude_ns, self.workloads, "did not end its check in time")
        for worker in busy:
            if worker.alive and isinstance(worker.answer, messages.Concluded):
                self.results += worker.answer.results
                self.beside += worker.answer.beside
                self.rows += worker.answer.rows
                worker.concluded = True
                for trouble in worker.answer.troubles:
                    self.fail(worker, (trouble.workload,), trouble.code, trouble.detail)

    def accompany(self) -> None:
        """Have all workers measure what of our own stands beside their figures, which by now nothing can take away."""
        profile, expected = self.request.profile, {}
        given = {(result.figure.device, result.facts.workload) for result in self.results}
        for worker in self.alive():
            kind = worker.name.partition(":")[0]
            wanted = [
                (one, workload)
                for workload in self.workloads
                if (worker.name, workload) in given
                for one in profile.companions_of(kind, workload)
                if role_of(one) not in BEFORE_THE_NEXT_WINDOW
            ]
            if wanted:
                expected[worker] = wanted
                worker.send(messages.Accompany())
        most = max(map(len, expected.values()), default=0)
        limit_ns = most * (profile.companion_ns + self.request.limits.accompany_ns)
        self.wait_for(list(expected), limit_ns, (), "did not end what stands beside its figures in time")
        for worker, wanted in expected.items():
            if isinstance(worker.answer, messages.Accompanied):
                self.beside += worker.answer.beside
            else:
                text = "the process that measured it was lost or ended"
                self.beside += [absent(one, w.precision, worker.name, text) for one, w in wanted]

    def wait_for(
        self,
        workers: Sequence[_Worker],
        limit_ns: int,
        workloads: Sequence[Workload],
        late: str,
        look: Callable[[], None] = lambda: None,
        hurry: Callable[[], int | None] = lambda: None,
    ) -> None:
        """Wait for every worker's answer; end those that are late, and take note of those that are gone.

        Args:
            workers: to wait for.
            limit_ns: how long.
            workloads: what a late worker does not give.
            late: what it is said to have failed to do.
            look: called now and then.
            hurry: returns how long to wait from now on where that is less, ns.
        """
        deadline = self.clock.monotonic_ns() + limit_ns
        pending = [worker for worker in workers if worker.alive]
        while pending:
            look()
            self.pass_remarks_on()
            left = deadline - self.clock.monotonic_ns()
            if (sooner := hurry()) is not None:
                left = min(left, sooner)
            if left <= 0:
                for worker in pending:
                    worker.end()
                    self.fail(worker, workloads, "device-hung", f"the worker {late} and was ended")
                return
            for connection in wait([w.connection for w in pending], timeout=min(left, TICK_NS) / SECOND_NS):
                worker = next(w for w in pending if w.connection is connection)
                try:
                    message = messages.answer(worker.connection.recv_bytes())
                except (EOFError, OSError):
                    pending.remove(worker)
                    self.lost(worker, workloads)
                    continue
                if isinstance(message, messages.Progress):
                    self.tell(Event(message.phase, worker.name, str(message.workload), message.rate_mflop_s))
                elif isinstance(message, messages.Ended):
                    worker.last_words = f": {message.text}"
                else:
                    worker.answer = message
                    pending.remove(worker)
        look()

    def pass_remarks_on(self) -> None:
        """Tell what is to be said of the devices' readings."""
        for text in self.readings.remarks():
            self.tell(Event("remark", text=text))

    def lost(self, worker: _Worker, workloads: Sequence[Workload]) -> None:
        """Take note of a worker that is gone."""
        try:
            status: int | None = worker.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            status = None
        worker.end()
        if status is None or status >= 0:
            self.fail(worker, workloads, "device-failed", f"the worker ended with status {status}{worker.last_words}")
        else:
            self.fail(worker, workloads, "device-lost", f"the worker was ended by signal {-status}")

    def fail(self, worker: _Worker, workloads: Sequence[Workload], code: FailureCode, detail: str) -> None:
        """Record that a device gives no figure; what was recorded before stands."""
        if worker.concluded and not worker.alive:
            self.tell(Event("remark", worker.name, text=f"{code}: {detail}"))
            return
        if not worker.alive:  # with it goes what it had measured but not handed over
            workloads = self.workloads
        self.failed(worker.name, workloads, code, detail)

    def failed(self, device: str, workloads: Sequence[Workload], code: FailureCode, detail: str) -> None:
        """Record that a device gives no figure for some workloads, and tell so; what was recorded before stands."""
        known = {(f.device, Workload(f.precision, f.choice)) for f in self.failures}
        for workload in workloads:
            if (device, workload) not in known:
                self.failures.append(
                    Failure(
                        device=device,
                        precision=workload.precision,
                        choice=workload.choice,
                        code=code,
                        detail=detail,
                    )
                )
                self.tell(Event("failed", device, str(workload), text=f"{code}: {detail}"))

    def alive(self) -> list[_Worker]:
        """Return the workers that still run."""
        return [worker for worker in self.workers if worker.alive]

    def node_clock(self, campaign: Campaign) -> NodeClock:
        """Return how well this node's clock is known against the campaign's, which may be its own."""
        if campaign.self_issued:
            return NodeClock(source="self", uncertainty_ns=0)
        return clock_of(self.request.found)


def clock_of(found: Sequence[Found]) -> NodeClock:
    """Return how well this node's clock is known; fakes tell what their scenario says."""
    kinds = sorted({one.device.device.partition(":")[0] for one in found})
    scripted = [clock for kind in kinds if (clock := load_backend(kind).node_clock()) is not None]
    return scripted[0] if scripted else node_clock()
