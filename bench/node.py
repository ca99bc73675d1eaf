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
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from bench import messages
from bench.assemble import NodeFacts, Shares, node_record, samples_gz
from bench.clock import Clock, SystemClock
from bench.companions import Beside, absent
from bench.devices import load_backend
from bench.devices.base import Found
from bench.environment import kernel_clock
from bench.measure import Row
from bench.record import Campaign, Failure, NodeClock, NodeRecord, Precision, Profile, Window, Workload
from bench.record.node import FailureCode
from bench.record.plan import role_of
from bench.schedule import BEFORE_THE_NEXT_WINDOW, check_campaign, self_issued, utc_window, workloads
from bench.session import Result
from bench.telemetry import LoadReading, load_between, read_load
from bench.units import utc_ns

SECOND_NS = 10**9
TICK_NS = 200_000_000
START = "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); from bench.worker import main; main()"


class Limits(NamedTuple):
    """How long a worker may take before it counts as hung, ns."""

    prepare_ns: int = 1800 * SECOND_NS
    grace_ns: int = 15 * SECOND_NS  # after the end of its load
    conclude_ns: int = 1800 * SECOND_NS  # a large product is checked on the host, in FP64
    accompany_ns: int = 60 * SECOND_NS  # beside the time of the companions themselves


class Request(NamedTuple):
    """What to measure on this node."""

    found: Sequence[Found]
    profile: Profile
    precisions: tuple[Precision, ...]
    node_id: str
    signer_spki: str
    campaign: Campaign | None = None  # None: one that this node issues itself
    kernel: str | None = None  # None: each device's own
    limits: Limits = Limits()


class Event(NamedTuple):
    """Something that happened: for people who watch."""

    what: str  # preparing, ready, remark, campaign, warmup, window, a companion's name, measured, failed, concluding
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
        InputError: the campaign does not expect this node, is for another profile, or has begun.
    """
    node = _Node(request, tell, clock or SystemClock())
    try:
        return node.run()
    finally:
        for worker in node.workers:
            worker.end()


def workloads_of(request: Request) -> tuple[Workload, ...]:
    """Return what a request measures, in order: its precisions in the campaign's windows, else in its profile's."""
    if request.campaign is None:
        return workloads(request.profile, request.precisions)
    return tuple(w.workload for w in request.campaign.windows if w.precision in request.precisions)


class _Worker:
    """One worker process, as its node sees it."""

    def __init__(self, found: Found) -> None:
        self.found = found
        self.name = found.device.device
        self.alive = True
        self.answer: messages.Answer | None = None
        self.concluded = False  # its figures have been handed over: nothing that happens to it takes them back
        self.ready: set[Workload] = set()
        ours, theirs = socket.socketpair()
        with theirs:
            # The parent's own search path: what a user's folder holds must not pass for a module of ours.
            self.process = subprocess.Popen(
                [sys.executable, "-c", START, str(theirs.fileno()), str(os.getpid()), json.dumps(sys.path)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        self.connection: Connection[Any, Any] = Connection(ours.detach())

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
        self.shares: dict[Workload, Shares] = {}
        self.workloads = workloads_of(request)

    def run(self) -> tuple[NodeRecord, bytes]:
        """Prepare, measure each window, conclude, assemble."""
        request, started_ns = self.request, self.clock.utc_ns()
        given = request.campaign
        if given is not None:
            check_campaign(given, request.profile, request.node_id, started_ns)
        challenge = given.challenge if given else secrets.token_hex(16)
        self.prepare(challenge)
        if given is not None and not self.alive():
            check_campaign(given, request.profile, request.node_id, self.clock.utc_ns())
        campaign = given or self_issued(
            request.profile, request.precisions, request.node_id, challenge, self.clock.utc_ns()
        )
        self.tell(Event("campaign", text=campaign.campaign_id))
        for window in campaign.windows:
            if window.workload in self.workloads:
                self.measure(window, campaign)
        self.conclude()
        self.accompany()
        facts = NodeFacts(
            node_id=request.node_id,
            signer_spki=request.signer_spki,
            profile=request.profile,
            campaign=campaign,
            started_ns=started_ns,
            ended_ns=self.clock.utc_ns(),
            clock=self.node_clock(campaign),
            libraries=self.libraries,
            switches=self.switches,
            found=request.found,
            results=self.results,
            beside=self.beside,
            failures=sorted(self.failures, key=lambda f: (f.device, f.precision, f.choice)),
            shares=self.shares,
            rows=self.rows,
        )
        return node_record(facts), samples_gz(self.rows)

    def prepare(self, challenge: str) -> None:
        """Start all workers and wait until their operands are in place; a campaign's load does not wait for them."""
        request = self.request
        self.workers.extend(_Worker(found) for found in request.found)
        for worker in self.workers:
            self.tell(Event("preparing", worker.name))
            worker.send(messages.Setup(worker.found, request.profile, challenge, self.workloads, request.kernel))
        limit_ns = request.limits.prepare_ns
        if request.campaign is not None:
            limit_ns = min(limit_ns, utc_ns(request.campaign.windows[0].load_at) - self.clock.utc_ns())
        self.wait_for(self.workers, limit_ns, self.workloads, "was not ready in time")
        for worker in self.alive():
            assert isinstance(worker.answer, messages.Ready)
            worker.ready = {facts.workload for facts in worker.answer.facts}
            self.libraries |= worker.answer.libraries
            self.switches |= worker.answer.switches
            for trouble in worker.answer.troubles:
                self.fail(worker, (trouble.workload,), trouble.code, trouble.detail)
            for remark in worker.answer.remarks:
                self.tell(Event("remark", worker.name, text=remark))
            for facts in worker.answer.facts:
                text = f"{facts.m} x {facts.n} x {facts.k}, {facts.operand_sets} operand sets"
                self.tell(Event("ready", worker.name, str(facts.workload), text=text))

    def measure(self, window: Window, campaign: Campaign) -> None:
        """Have all devices that are ready for a workload measure it in its window, and what stands beside it."""
        request, workload = self.request, window.workload
        busy = [worker for worker in self.alive() if workload in worker.ready]
        if not busy:
            return
        slots = {worker.name: slot for slot, worker in enumerate(self.workers)}
        for worker in busy:
            worker.send(messages.Measure(workload, utc_window(window, request.profile, slots[worker.name])))
        core = utc_window(window, request.profile, 0)
        loads: list[LoadReading | None] = []

        def look() -> None:
            """Read the node's load at the opening and at the end of the core window."""
            now = self.clock.utc_ns()
            if len(loads) < 2 and now >= (core.opens_ns, core.closes_ns)[len(loads)]:
                loads.append(read_load(w.process.pid for w in self.workers))

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
        limit_ns = most * profile.companion_ns + self.request.limits.accompany_ns
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
    ) -> None:
        """Wait for every worker's answer; end those that are late, and take note of those that are gone."""
        deadline = self.clock.monotonic_ns() + limit_ns
        pending = [worker for worker in workers if worker.alive]
        while pending:
            look()
            left = deadline - self.clock.monotonic_ns()
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
                else:
                    worker.answer = message
                    pending.remove(worker)
        look()

    def lost(self, worker: _Worker, workloads: Sequence[Workload]) -> None:
        """Take note of a worker that is gone."""
        try:
            status: int | None = worker.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            status = None
        worker.end()
        if status is None or status >= 0:
            self.fail(worker, workloads, "device-failed", f"the worker ended with status {status}")
        else:
            self.fail(worker, workloads, "device-lost", f"the worker was ended by signal {-status}")

    def fail(self, worker: _Worker, workloads: Sequence[Workload], code: FailureCode, detail: str) -> None:
        """Record that a device gives no figure; what was recorded before stands."""
        if worker.concluded and not worker.alive:
            self.tell(Event("remark", worker.name, text=f"{code}: {detail}"))
            return
        if not worker.alive:  # with it goes what it had measured but not handed over
            workloads = self.workloads
        known = {(f.device, Workload(f.precision, f.choice)) for f in self.failures}
        for workload in workloads:
            if (worker.name, workload) not in known:
                self.failures.append(
                    Failure(
                        device=worker.name,
                        precision=workload.precision,
                        choice=workload.choice,
                        code=code,
                        detail=detail,
                    )
                )
                self.tell(Event("failed", worker.name, str(workload), text=f"{code}: {detail}"))

    def alive(self) -> list[_Worker]:
        """Return the workers that still run."""
        return [worker for worker in self.workers if worker.alive]

    def node_clock(self, campaign: Campaign) -> NodeClock:
        """Return how well this node's clock is known against the campaign's, which may be its own."""
        if campaign.self_issued:
            return NodeClock(source="self", uncertainty_ns=0)
        kinds = sorted({found.device.device.partition(":")[0] for found in self.request.found})
        scripted = [clock for kind in kinds if (clock := load_backend(kind).node_clock()) is not None]
        return scripted[0] if scripted else kernel_clock()
