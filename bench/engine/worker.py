"""The process that measures one device. It dies with its parent, ignores Ctrl-C (the parent ends it), writes no file.

Started by ``bench.engine.node`` as ``python -c "..." FD PARENT READINGS``, with a socket on descriptor FD, and on
READINGS that on which its device's readings come; -1 where it reads them itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from bench.clock import SystemClock
from bench.collective.orders import NetworkOrder, OpenNetwork
from bench.collective.part import DeviceOperands, NetworkPart
from bench.devices import load_backend
from bench.engine import messages
from bench.engine.compute import failure_of
from bench.engine.progress import Report, SoFar
from bench.engine.readings import ReceivedReadings
from bench.engine.schedule import UtcWindow
from bench.engine.session import Session, WorkloadFacts
from bench.record import Workload
from bench.record.campaign import BEFORE_THE_NEXT_WINDOW
from bench.record.plan import ROLES

PR_SET_PDEATHSIG = 1
PROGRESS_NS = 500_000_000
AT_THE_END = frozenset(ROLES) - frozenset(BEFORE_THE_NEXT_WINDOW)


def main() -> None:
    """Serve the node on the descriptor named first, as long as the process named second lives."""
    descriptor, parent, readings = map(int, sys.argv[1:4])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes; the node ends its workers
    die_with(parent)
    connection: Connection[Any, Any] = Connection(descriptor)
    try:
        serve(connection, ReceivedReadings(socket.socket(fileno=readings)) if readings >= 0 else None)
    except (EOFError, ConnectionError):  # the node is gone, or has all that it wants
        os._exit(0)  # without the exit handlers of vendors' libraries, which may hang
    except Exception as error:
        with contextlib.suppress(OSError):
            connection.send_bytes(messages.encode(messages.Ended(failure_of(error)[1])))
        os._exit(1)


def die_with(parent: int) -> None:
    """End this process when its parent ends, at once where the kernel offers it, else within half a second."""
    # The kernel's way sends the signal when the *thread* that forked this process ends; the loop below holds anyway.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def serve(connection: Connection[Any, Any], stream: ReceivedReadings | None) -> None:
    """Answer the node's orders until it closes the connection.

    Args:
        connection: to the node.
        stream: of the device's readings; None where this process reads them.

    Raises:
        EOFError: the node closed the connection.
    """
    setup = messages.order(connection.recv_bytes())
    assert isinstance(setup, messages.Setup)
    clock = SystemClock()
    facts: list[WorkloadFacts] = []
    troubles: list[messages.Trouble] = []
    session: Session | None = None
    try:
        opened = load_backend(setup.request.kind).open(setup.request.detected, clock)
        session = Session(setup.request, opened, clock, stream)
    except Exception as error:
        troubles = [trouble(workload, error) for workload in setup.workloads]
    for place, workload in enumerate(setup.workloads if session else ()):
        assert session is not None
        try:
            facts.append(session.prepare(workload, len(setup.workloads) - place))
        except Exception as error:  # one precision that a device has not takes none of the others with it
            troubles.append(trouble(workload, error))
    connection.send_bytes(messages.encode(ready(session, facts, troubles)))
    measured: list[Workload] = []
    part: NetworkPart | None = None
    while session is not None:
        order = messages.order(connection.recv_bytes())
        if isinstance(order, messages.Settle):
            facts, troubles = settle(session, order, facts)
            connection.send_bytes(messages.encode(ready(session, facts, troubles)))
        elif isinstance(order, messages.Measure):
            connection.send_bytes(messages.encode(measure(session, order, measured, connection)))
        elif isinstance(order, messages.MeasureReferences):
            connection.send_bytes(messages.encode(measure_references(session, measured, clock, connection)))
        elif isinstance(order, NetworkOrder):
            part = network_part(session, order, clock) if isinstance(order, OpenNetwork) else part
            assert part is not None
            connection.send_bytes(messages.encode(part.answer(order)))
        else:
            connection.send_bytes(messages.encode(conclude(session, measured)))
    connection.recv_bytes()  # nothing to do but to wait for the end


def ready(
    session: Session | None, facts: list[WorkloadFacts], troubles: list[messages.Trouble]
) -> messages.WorkerReady:
    """Return what a worker reports once operands are in place.

    Args:
        session: None where the device could not be opened.
        facts: of the workloads that are ready.
        troubles: of those that are not.
    """
    if session is None:
        return messages.WorkerReady(tuple(facts), (), tuple(troubles), {}, {})
    switches = session.compute.switches()  # first: a library is known by its digest once its switches were read
    libraries, stack = session.compute.libraries(), session.compute.stack
    remarks, session.remarks = tuple(session.remarks), []  # each is reported once
    return messages.WorkerReady(tuple(facts), remarks, tuple(troubles), libraries, switches, stack)


def settle(
    session: Session, order: messages.Settle, facts: list[WorkloadFacts]
) -> tuple[list[WorkloadFacts], list[messages.Trouble]]:
    """Prepare workloads in their settled shapes; return what is ready now, and what is not any more."""
    troubles, settled = [], {one.workload: one for one in facts}
    for workload, shape in order.shapes:
        del settled[workload]
        try:
            settled[workload] = session.settle(workload, shape)
        except Exception as error:
            troubles.append(trouble(workload, error))
    return list(settled.values()), troubles


def measure(
    session: Session, order: messages.Measure, measured: list[Workload], connection: Connection[Any, Any]
) -> messages.WindowDone:
    """Measure one workload, and its cross-checks while the device is as warm; add it to those that were measured."""
    report = progress_reporter(order.workload, connection)
    try:
        session.measure(order.workload, order.window, report)
    except Exception as error:
        return messages.WindowDone(order.workload, trouble(order.workload, error))
    measured.append(order.workload)
    session.measure_references(order.workload, order.window, report, BEFORE_THE_NEXT_WINDOW)
    return messages.WindowDone(order.workload, None)


def measure_references(
    session: Session, measured: list[Workload], clock: SystemClock, connection: Connection[Any, Any]
) -> messages.ReferencesDone:
    """Measure the ceilings and bandwidths of the device with CUDA C code, which may crash the process."""
    done = len(session.references)
    for workload in measured:
        session.launch_references(workload, AT_THE_END)
        now = clock.utc_ns()
        report = progress_reporter(workload, connection)
        session.measure_references(workload, UtcWindow(now, now, now, now), report, AT_THE_END)
    return messages.ReferencesDone(tuple(session.references[done:]))


def network_part(session: Session, order: OpenNetwork, clock: SystemClock) -> NetworkPart:
    """Return this device's part in the network's runs, with the operands of the workload that was measured."""
    prepared, launch_ns = session.products_of(order.workload)
    precision = order.workload.precision
    operands = DeviceOperands(prepared, launch_ns, session.target, precision, session.contributes_wrongly)
    return NetworkPart(order, operands, clock)


def progress_reporter(workload: Workload, connection: Connection[Any, Any]) -> Report:
    """Return a function that reports to the node, now and then, a workload's phase, rate in MFLOP/s, and more.

    The measuring loop calls it as often as it likes: a message each time would cost the rate that it reports.
    """
    reported_ns = 0

    def report(phase: str, rate_mflop_s: int, look: Callable[[], SoFar] | None = None) -> None:
        nonlocal reported_ns
        now = time.monotonic_ns()
        if now - reported_ns >= PROGRESS_NS:
            reported_ns = now
            so_far = None if look is None else look()
            connection.send_bytes(messages.encode(messages.Progress(workload, phase, rate_mflop_s, so_far)))

    return report


def conclude(session: Session, measured: list[Workload]) -> messages.Concluded:
    """Check the last outputs on the host and return everything."""
    results, troubles = [], []
    for workload in measured:
        try:
            results.append(session.conclude(workload))
        except Exception as error:
            troubles.append(trouble(workload, error))
    return messages.Concluded(tuple(results), tuple(troubles), tuple(session.references), tuple(session.rows))


def trouble(workload: Workload, error: BaseException) -> messages.Trouble:
    """Return an error as what is recorded of it."""
    return messages.Trouble(workload, *failure_of(error))
