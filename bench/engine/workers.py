"""The worker processes of one node: how they are started, what they are waited for, and how they end (R10, R14).

A worker that hangs is killed after its deadline; one that dies is recorded; its neighbours finish. A process for each
device, since a driver that crashes takes its process with it, and a call that hangs cannot be interrupted from inside.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from bench.clock import Clock
from bench.devices.base import LocalDevice
from bench.devices.reader import interrupt_left_to_parent
from bench.engine import messages
from bench.engine.progress import SoFar
from bench.engine.readings import NodeReadings
from bench.engine.schedule import UtcWindow
from bench.engine.session import WorkloadFacts
from bench.host.python_start import start_code
from bench.host.share import WorkerShare
from bench.host.threads import worker_environment
from bench.record import Failure, Shape, Workload
from bench.record.node import FailureCode
from bench.units import SECOND_NS

TICK_NS = 200_000_000  # how often the node's load and its readers' remarks are looked at while workers compute


class WorkerTimeouts(NamedTuple):
    """How long a worker may take before it counts as hung, ns."""

    prepare_ns: int = 1800 * SECOND_NS
    settle_ns: int = 600 * SECOND_NS  # a shape is already chosen: no trials, and smaller operands as a rule
    grace_ns: int = 15 * SECOND_NS  # after the end of its load
    conclude_ns: int = 1800 * SECOND_NS  # a large product is checked on the host, in FP64
    reference_ns: int = 60 * SECOND_NS  # for each, on top of its own time: its first launch may load or compile


class Event(NamedTuple):
    """An event while a node measures, which is printed to the operator."""

    # preparing, ready, remark, campaign, start, preheat, warmup, window, a reference's kernel, measured, failed,
    # concluding, network
    what: str
    device: str | None = None
    workload: str | None = None
    rate_mflop_s: int | None = None
    text: str | None = None
    so_far: SoFar | None = None
    windows: Mapping[str, UtcWindow] | None = None  # of "start": each workload's, in order, as the node sees it


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


class WorkerProcess:
    """One worker process, as its node sees it.

    Args:
        detected: the device that it measures.
        share: its part of the host's cores.
        readings: the socket on which its device's readings come; None where it reads them itself.
    """

    def __init__(self, detected: LocalDevice, share: WorkerShare, readings: socket.socket | None) -> None:
        self.detected = detected
        self.share = share
        self.name = detected.device.device
        self.alive = True
        self.answer: messages.Answer | None = None
        self.last_words = ""  # of an error that ended it
        self.trouble: str | None = None  # why it was ended, or is gone
        self.concluded = False  # its figures have been handed over: nothing that happens to it takes them back
        self.ready: dict[Workload, WorkloadFacts] = {}
        node_end, worker_end = socket.socketpair()
        inherited = [] if readings is None else [readings.fileno()]
        with worker_end, interrupt_left_to_parent(), bound_to(share.cpus):
            numbers = (worker_end.fileno(), os.getpid(), *(inherited or [-1]))
            # The parent's search path for modules: what a user's folder holds must not pass for a module of ours.
            self.process = subprocess.Popen(
                [sys.executable, "-c", start_code("bench.engine.worker"), *map(str, numbers)],
                pass_fds=[worker_end.fileno(), *inherited],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # vendors' libraries print there what they like, and --json is ours
                env=worker_environment(os.environ, share.threads, detected.model.kind == "cpu"),
            )
        self.connection: Connection[Any, Any] = Connection(node_end.detach())

    def chosen(self) -> dict[Workload, Shape]:
        """Return the shape of each fixed workload that is ready."""
        return {w: Shape(m=f.m, n=f.n, k=f.k) for w, f in self.ready.items() if w.choice == "fixed"}

    def send(self, message: messages.Order) -> None:
        """Give the worker an order; that it is gone is noticed while its answer is waited for."""
        self.answer = None
        with contextlib.suppress(OSError):
            self.connection.send_bytes(messages.encode(message))

    def end(self) -> int | None:
        """Kill the worker, if it still runs, and return its exit status; None where it cannot be killed now."""
        self.alive = False
        self.connection.close()
        if self.process.poll() is None:
            self.process.kill()
        try:
            return self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:  # stuck in a driver: it goes when the driver lets it
            return None


class Supervisor:
    """Watches over a node's workers: waits for their answers, ends those that are late, and records what fails.

    Args:
        workloads: that the node measures: a worker that is lost before it has handed over gives none of them.
        readings: of the node's devices.
        report: called with every event, from the thread that waits.
        clock: this machine's clocks.
    """

    def __init__(
        self,
        workloads: tuple[Workload, ...],
        readings: NodeReadings,
        report: Callable[[Event], None],
        clock: Clock,
    ) -> None:
        self.workloads = workloads
        self.readings = readings
        self.report = report
        self.clock = clock
        self.workers: list[WorkerProcess] = []
        self.failures: list[Failure] = []

    def start(self, detected: Sequence[LocalDevice], shares: Sequence[WorkerShare]) -> None:
        """Start one worker for each device, on its share of the host."""
        for one, share in zip(detected, shares, strict=True):
            self.workers.append(WorkerProcess(one, share, self.readings.worker_end(one.device.device)))

    def alive(self) -> list[WorkerProcess]:
        """Return the workers that still run."""
        return [worker for worker in self.workers if worker.alive]

    def end(self) -> None:
        """Kill all workers that still run."""
        for worker in self.workers:
            worker.end()

    def wait_for(
        self,
        workers: Sequence[WorkerProcess],
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
            late: what a late worker is recorded to have failed to do.
            look: called now and then.
            hurry: returns how long to wait from now on where that is less, ns.
        """
        deadline = self.clock.monotonic_ns() + limit_ns
        pending = [worker for worker in workers if worker.alive]
        while pending:
            look()
            self.forward_remarks()
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
                if self._has_answered(worker, workloads):
                    pending.remove(worker)
        look()

    def _has_answered(self, worker: WorkerProcess, workloads: Sequence[Workload]) -> bool:
        """Take one message of a worker, and return whether it is waited for no longer: it has answered, or is gone."""
        try:
            message = messages.answer(worker.connection.recv_bytes())
        except (EOFError, OSError):
            self._lose(worker, workloads)
            return True
        if isinstance(message, messages.Progress):
            rate, so_far = message.rate_mflop_s, message.so_far
            self.report(Event(message.phase, worker.name, str(message.workload), rate, so_far=so_far))
        elif isinstance(message, messages.Ended):
            worker.last_words = f": {message.text}"  # its exit status comes next
        else:
            worker.answer = message
            return True
        return False

    def forward_remarks(self) -> None:
        """Report what there is to say of the devices' readings."""
        for text in self.readings.remarks():
            self.report(Event("remark", text=text))

    def _lose(self, worker: WorkerProcess, workloads: Sequence[Workload]) -> None:
        """Record a worker that is gone: by a signal the device is lost, by a status it has failed."""
        try:
            status: int | None = worker.process.wait(timeout=5)  # its socket closes before its status can be read
        except subprocess.TimeoutExpired:
            status = None
        worker.end()
        if status is None or status >= 0:
            self.fail(worker, workloads, "device-failed", f"the worker ended with status {status}{worker.last_words}")
        else:
            self.fail(worker, workloads, "device-lost", f"the worker was ended by signal {-status}")

    def fail(self, worker: WorkerProcess, workloads: Sequence[Workload], code: FailureCode, detail: str) -> None:
        """Record that a device gives no figure; an earlier failure stands, and so does what was handed over."""
        worker.trouble = detail
        if worker.concluded and not worker.alive:
            self.report(Event("remark", worker.name, text=f"{code}: {detail}"))
            return
        if not worker.alive:  # with it goes what it had measured but not handed over
            workloads = self.workloads
        self.record_failure(worker.name, workloads, code, detail)

    def record_failure(self, device: str, workloads: Sequence[Workload], code: FailureCode, detail: str) -> None:
        """Record and report that a device gives no figure for some workloads; what was recorded before stands."""
        known = {(f.device, Workload(f.precision, f.choice)) for f in self.failures}
        for workload in workloads:
            if (device, workload) not in known:
                self.failures.append(Failure(device=device, **workload._asdict(), code=code, detail=detail))
                self.report(Event("failed", device, str(workload), text=f"{code}: {detail}"))
