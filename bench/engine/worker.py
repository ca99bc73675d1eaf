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
from bench.devices import load_backend
from bench.engine import messages
from bench.engine.readings import Received
from bench.engine.session import Facts, Session, UtcWindow, failure_of
from bench.record import Workload
from bench.record.plan import ROLES
from bench.record.windows import BEFORE_THE_NEXT_WINDOW

PR_SET_PDEATHSIG = 1
PROGRESS_NS = 500_000_000
AT_THE_END = frozenset(ROLES) - frozenset(BEFORE_THE_NEXT_WINDOW)


def main() -> None:
    """Serve the node on the descriptor named first, as long as the process named second lives."""
    descriptor, parent, readings = map(int, sys.argv[1:4])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with(parent)
    connection: Connection[Any, Any] = Connection(descriptor)
    try:
        serve(connection, Received(socket.socket(fileno=readings)) if readings >= 0 else None)
    except (EOFError, ConnectionError):  # the node is gone, or wants no more
        os._exit(0)
    except Exception as error:
        with contextlib.suppress(OSError):
            connection.send_bytes(messages.encode(messages.Ended(failure_of(error)[1])))
        os._exit(1)


def die_with(parent: int) -> None:
    """End this process when its parent ends, at once where the kernel offers it, else within half a second."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def serve(connection: Connection[Any, Any], stream: Received | None) -> None:
    """Answer the node's orders until it closes the connection.

    Args:
        connection: to the node.
        stream: of the device's readings; None where this process reads them.

    Raises:
        EOFError: the node closed the connection.
    """
    setup = messages.order(connection.recv_bytes())
    assert isinstance(setup, messages.Setup)
    kind = setup.found.device.device.partition(":")[0]
    clock = SystemClock()
    facts: list[Facts] = []
    troubles: list[messages.Trouble] = []
    session: Session | None = None
    try:
        opened = load_backend(kind).open(setup.found, clock)
        session = Session(
            setup.found,
            opened,
            setup.profile,
            setup.challenge,
            clock,
            setup.kernel,
            setup.node_id,
            setup.threads,
            stream,
        )
    except Exception as error:
        session = None
        troubles = [trouble(workload, error) for workload in setup.workloads]
    for place, workload in enumerate(setup.workloads if session else ()):
        assert session is not None
        try:
            facts.append(session.prepare(workload, len(setup.workloads) - place))
        except Exception as error:
            troubles.append(trouble(workload, error))
    connection.send_bytes(messages.encode(ready(session, facts, troubles)))
    measured: list[Workload] = []
    while session is not None:
        order = messages.order(connection.recv_bytes())
        if isinstance(order, messages.Settle):
            facts, troubles = settle(session, order, facts)
            connection.send_bytes(messages.encode(ready(session, facts, troubles)))
        elif isinstance(order, messages.Measure):
            connection.send_bytes(messages.encode(measure(session, order, measured, connection)))
        elif isinstance(order, messages.Accompany):
            connection.send_bytes(messages.encode(accompany(session, measured, clock, connection)))
        else:
            connection.send_bytes(messages.encode(conclude(session, measured)))
    connection.recv_bytes()  # nothing to do but to wait for the end


def ready(session: Session | None, facts: list[Facts], troubles: list[messages.Trouble]) -> messages.Ready:
    """Return what the node is told once operands are in place."""
    if session is None:
        return messages.Ready(tuple(facts), (), tuple(troubles), {}, {})
    switches = session.switches()  # first: a library is known by its digest once its switches were read
    remarks, session.remarks = tuple(session.remarks), []  # each is told once
    return messages.Ready(tuple(facts), remarks, tuple(troubles), session.libraries(), switches, session.stack)


def settle(session: Session, order: messages.Settle, facts: list[Facts]) -> tuple[list[Facts], list[messages.Trouble]]:
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
) -> messages.Measured:
    """Measure one workload; add it to those that were measured."""
    tell = teller(order.workload, connection)
    try:
        session.measure(order.workload, order.window, tell)
    except Exception as error:
        return messages.Measured(order.workload, trouble(order.workload, error))
    measured.append(order.workload)
    session.accompany(order.workload, order.window, tell, BEFORE_THE_NEXT_WINDOW)
    return messages.Measured(order.workload, None)


def accompany(
    session: Session, measured: list[Workload], clock: SystemClock, connection: Connection[Any, Any]
) -> messages.Accompanied:
    """Measure ceilings and bandwidths beside what was measured: our own code, which may take the process with it."""
    known = len(session.beside)
    for workload in measured:
        session.load_companions(workload, AT_THE_END)
        now = clock.utc_ns()
        session.accompany(workload, UtcWindow(now, now, now, now), teller(workload, connection), AT_THE_END)
    return messages.Accompanied(tuple(session.beside[known:]))


def teller(workload: Workload, connection: Connection[Any, Any]) -> Callable[[str, int], None]:
    """Return what tells the node, now and then, what is done for a workload and at which rate in MFLOP/s."""
    told_ns = 0

    def tell(phase: str, rate_mflop_s: int) -> None:
        nonlocal told_ns
        now = time.monotonic_ns()
        if now - told_ns >= PROGRESS_NS:
            told_ns = now
            connection.send_bytes(messages.encode(messages.Progress(workload, phase, rate_mflop_s)))

    return tell


def conclude(session: Session, measured: list[Workload]) -> messages.Concluded:
    """Check the last outputs on the host and return everything."""
    results, troubles = [], []
    for workload in measured:
        try:
            results.append(session.conclude(workload))
        except Exception as error:
            troubles.append(trouble(workload, error))
    return messages.Concluded(tuple(results), tuple(troubles), tuple(session.beside), tuple(session.rows))


def trouble(workload: Workload, error: BaseException) -> messages.Trouble:
    """Return an error as what is recorded of it."""
    return messages.Trouble(workload, *failure_of(error))
