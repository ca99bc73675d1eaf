"""The process that measures one device. It dies with its parent, ignores Ctrl-C (the parent ends it), writes no file.

Started by ``bench.node`` as ``python -c "..." FD PARENT``, with a socket on descriptor FD.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

from bench import messages
from bench.clock import SystemClock
from bench.devices import load_backend
from bench.record import Precision
from bench.session import Facts, Session, failure_of

PR_SET_PDEATHSIG = 1
PROGRESS_NS = 500_000_000


def main() -> None:
    """Serve the node on the descriptor named first, as long as the process named second lives."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with(parent)
    connection: Connection[Any, Any] = Connection(descriptor)
    try:
        serve(connection)
    except (EOFError, OSError):  # the node is gone, or wants no more
        os._exit(0)


def die_with(parent: int) -> None:
    """End this process when its parent ends, at once where the kernel offers it, else within half a second."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def serve(connection: Connection[Any, Any]) -> None:
    """Answer the node's orders until it closes the connection.

    Raises:
        EOFError: the node closed the connection.
    """
    setup = messages.order(connection.recv_bytes())
    assert isinstance(setup, messages.Setup)
    kind, _, index = setup.found.device.device.partition(":")
    clock = SystemClock()
    ready: list[Facts] = []
    troubles: list[messages.Trouble] = []
    session: Session | None = None
    libraries: dict[str, str] = {}
    switches: dict[str, str] = {}
    try:
        opened = load_backend(kind).open(int(index), clock)
        session = Session(setup.found, opened, setup.profile, setup.challenge, clock, setup.kernel)
        switches = session.switches()
    except Exception as error:
        session = None
        troubles = [trouble(precision, error) for precision in setup.precisions]
    for precision in setup.precisions if session else ():
        assert session is not None
        try:
            ready.append(session.prepare(precision, len(setup.precisions)))
        except Exception as error:
            troubles.append(trouble(precision, error))
    if session:
        libraries = session.libraries()
    connection.send_bytes(messages.encode(messages.Ready(tuple(ready), tuple(troubles), libraries, switches)))
    measured: list[Precision] = []
    while session is not None:
        order = messages.order(connection.recv_bytes())
        if isinstance(order, messages.Measure):
            connection.send_bytes(messages.encode(measure(session, order, measured, connection)))
        else:
            connection.send_bytes(messages.encode(conclude(session, measured)))
    connection.recv_bytes()  # nothing to do but to wait for the end


def measure(
    session: Session, order: messages.Measure, measured: list[Precision], connection: Connection[Any, Any]
) -> messages.Measured:
    """Measure one precision; add it to those that were measured."""
    told_ns = 0

    def tell(phase: str, rate_mflop_s: int) -> None:
        nonlocal told_ns
        now = time.monotonic_ns()
        if now - told_ns >= PROGRESS_NS:
            told_ns = now
            connection.send_bytes(messages.encode(messages.Progress(order.precision, phase, rate_mflop_s)))

    try:
        session.measure(order.precision, order.window, tell)
    except Exception as error:
        return messages.Measured(order.precision, trouble(order.precision, error))
    measured.append(order.precision)
    return messages.Measured(order.precision, None)


def conclude(session: Session, measured: list[Precision]) -> messages.Concluded:
    """Check the last outputs on the host and return everything."""
    results, troubles = [], []
    for precision in measured:
        try:
            results.append(session.conclude(precision))
        except Exception as error:
            troubles.append(trouble(precision, error))
    return messages.Concluded(tuple(results), tuple(troubles), tuple(session.rows))


def trouble(precision: Precision, error: BaseException) -> messages.Trouble:
    """Return an error as what is recorded of it."""
    return messages.Trouble(precision, *failure_of(error))
