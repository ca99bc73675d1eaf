"""The process that lists and reads vendors' devices (`bench.devices.reader`): the only one that touches a vendor.

Started as ``python -c "..." FD PARENT``, with a socket on descriptor FD. All vendors' calls are made by threads, one
for each kind of device. The first thread only waits: for the parent to close the socket or to be gone, or for a signal
that asks it to end. Then the process ends as soon as no thread is in a call and no tool that it started runs: one that
ends in a call may leave a lock behind that the centre's own monitoring needs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import msgspec

from bench.devices import check_recordable, stuck
from bench.devices import reader as protocol
from bench.devices.reader import END_S, backend_at
from bench.devices.tools import turns
from bench.errors import DeviceError, InputError, explained
from bench.telemetry import Reading
from bench.units import SECOND_NS

if TYPE_CHECKING:
    from bench.devices.base import DeviceWatch

TOOL_NS = SECOND_NS  # the least time between two starts of a tool
HUNG_NS = 30 * SECOND_NS  # a call that takes longer is said to hang
TICK_S = 1.0
MOST_PAUSE_S = 30.0  # between two tries to open what cannot be opened
_ORDERS = msgspec.json.Decoder(protocol.Order)


def main() -> None:
    """Serve the process named second, on the descriptor named first."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.set_inheritable(descriptor, False)
    reader = ReaderLoop(Connection(descriptor), parent)
    # A handler, which a tool does not inherit: it ends when it is asked to.
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, reader.asked_to_end)
    status = 0
    try:
        reader.serve()
    except (EOFError, OSError):
        pass
    except Exception as error:
        reader.say(protocol.Remark(f"telemetry: the process that reads failed: {explained(error)}"))
        status = 1
    reader.finish()
    os._exit(status)


class ReaderLoop:
    """What a reader does.

    Args:
        connection: to the parent.
        parent: its process id.
    """

    def __init__(self, connection: Connection[Any, Any], parent: int) -> None:
        self.ending = threading.Event()
        self._connection = connection
        self._parent = parent
        self._asked_to_end = False
        self._sending = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._kinds: list[KindReader] = []
        self._sources: dict[str, str] = {}  # opened or being opened, by vendor: their names in `stuck`

    def serve(self) -> None:
        """Serve the parent process's orders until it closes the connection or is gone.

        Raises:
            EOFError: the connection is closed.
        """
        while not self._asked_to_end:
            for kind in self._kinds:
                kind.say_whether_hung()
            if self._connection.poll(TICK_S):
                self._begin(_ORDERS.decode(self._connection.recv_bytes()))
            elif os.getppid() != self._parent:
                raise EOFError

    def asked_to_end(self, number: int, frame: object) -> None:
        """Note that a signal asks the loop to end."""
        self._asked_to_end = True

    def finish(self) -> None:
        """Wait until no thread is in a vendor's call, and no tool runs."""
        self.ending.set()
        turns.ending.set()
        until_s = time.monotonic() + END_S
        for thread in self._threads:
            thread.join(max(0.0, until_s - time.monotonic()))
        held = stuck.mark(self._sources.values()) if any(thread.is_alive() for thread in self._threads) else []
        for thread in self._threads:
            thread.join()
        for one in held:
            one.close()
        turns.wait_for_left()

    def say(self, message: protocol.Answer) -> None:
        """Send a message to the parent process; one that is gone is ignored."""
        with self._sending, contextlib.suppress(OSError):
            self._connection.send_bytes(msgspec.json.encode(message))

    def _begin(self, order: protocol.Order) -> None:
        if isinstance(order, protocol.Find):
            self._start(lambda: self.say(self._listing(order)))
            return
        sockets = {device: socket.socket(fileno=descriptor) for device, descriptor in order.sockets.items()}
        for one in sockets.values():
            one.set_inheritable(False)
        for place, kind in enumerate(order.kinds):
            reader = KindReader(self, place, kind, sockets, order.interval_ns, is_only_watcher=len(order.kinds) == 1)
            self._kinds.append(reader)
            self._start(reader.run)

    def _start(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _listing(self, order: protocol.Find) -> protocol.ReaderListing | protocol.ListingRefused:
        try:
            devices = self.backend(order.place, order.skip).look(order.argument)
            for one in devices:
                check_recordable(one)
            return protocol.ReaderListing.of(devices)
        except InputError as error:
            return protocol.ListingRefused.of(error)
        except Exception as error:  # a plug-in raises what it likes
            what = f"its back end failed: {explained(error)}"
            return protocol.ListingRefused(
                "device-tool-failed", what, order.place.name, "report it to whoever wrote the back end", None
            )

    def backend(self, place: protocol.SourceClass, skip: dict[str, str], *, is_resumed: bool = False) -> Any:
        """Return a back end that says which source it opens, and leaves those out that hung or crashed."""
        backend = backend_at(place)
        root = str(getattr(backend, "root", "/"))
        backend.skip = stuck.known((one.label() for one in getattr(backend, "sources", ())), root) | skip
        backend.is_resumed = is_resumed

        def trying(source: str, is_last: bool) -> None:
            message = protocol.Trying(str(getattr(backend, "vendor", place.name)), source, is_last)
            self._sources[message.vendor] = stuck.name_of(source, root)
            self.say(message)
            # Each run of a tool has its own limit: on a node of sixteen devices they take minutes together.
            turns.starting[0] = lambda: self.say(message)

        backend.trying = trying
        return backend


class KindReader:
    """What reads the devices of one kind, in a thread of its own.

    Args:
        reader: of the node.
        place: of the kind in the order.
        kind: the devices.
        sockets: to their workers.
        interval_ns: from the begin of one look to that of the next.
        is_alone: whether no other kind is read: then whose call ended the process is known.
    """

    def __init__(
        self,
        reader: ReaderLoop,
        place: int,
        kind: protocol.Kind,
        sockets: dict[str, socket.socket],
        interval_ns: int,
        *,
        is_only_watcher: bool,
    ) -> None:
        self._is_only_watcher = is_only_watcher
        self._reader = reader
        self._place = place
        self._kind = kind
        self._sockets = sockets
        self._interval_ns = interval_ns
        self._name = kind.devices[0].device.device.partition(":")[0]
        self._called_ns: int | None = None  # since when a vendor's call is under way
        self._hung = False
        self._said: set[str] = set()

    def run(self) -> None:
        """Open the kind's source and read through it, until the reader ends."""
        pause_s, ending = 1.0, self._reader.ending
        while not ending.is_set():
            watch = self._opened()
            if watch is None:
                self._looked()
                ending.wait(pause_s)
                pause_s = min(2 * pause_s, MOST_PAUSE_S)
                continue
            due_ns = time.monotonic_ns()
            while not ending.wait(max(0, due_ns - time.monotonic_ns()) / SECOND_NS):
                begun_ns = time.monotonic_ns()
                self._look(watch)
                self._looked()
                interval_ns = max(self._interval_ns, TOOL_NS if getattr(watch, "starts_tool", False) else 0)
                due_ns = max(due_ns + interval_ns, begun_ns + interval_ns, time.monotonic_ns())
            self._call(watch.close)

    def say_whether_hung(self) -> None:
        """Say it once where a call takes too long, and again where it has returned."""
        called_ns = self._called_ns
        hangs = called_ns is not None and time.monotonic_ns() - called_ns > HUNG_NS
        if hangs and not self._hung:
            self._say(f"the source has not answered for {HUNG_NS // SECOND_NS} s: readings are missing until it does")
        elif self._hung and not hangs:
            self._say("the source answers again")
        self._hung = hangs

    def _opened(self) -> DeviceWatch | None:
        try:
            backend = self._reader.backend(self._kind.place, self._kind.skip, is_resumed=self._kind.is_resumed)
            watch: DeviceWatch = self._call(lambda: backend.watch(self._kind.devices))
            if (text := getattr(watch, "remark", None)) is not None:
                self._say_once(text)
            return watch
        except Exception as error:
            self._say_once(f"no source can be opened ({explained(error)}): there are no readings")
            return None

    def _look(self, watch: DeviceWatch) -> None:
        try:
            readings: dict[str, Reading | DeviceError] = self._call(watch.read)
            at_ns = time.monotonic_ns()
            messages = {device: msgspec.json.encode(protocol.Taken.of(at_ns, one)) for device, one in readings.items()}
        except Exception as error:  # it costs one reading
            self._say_once(f"a look at all devices failed ({explained(error)}): readings are missing")
            return
        for device, message in messages.items():
            if (end := self._sockets.get(device)) is not None:
                # A worker that is gone, or does not listen, stops nobody.
                with contextlib.suppress(OSError):
                    end.send(message, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def _call(self, call: Callable[[], Any]) -> Any:
        self._called_ns = time.monotonic_ns()
        vendor = str(self._kind.devices[0].model.vendor)
        if not self._is_only_watcher:
            self._reader.say(protocol.Calling(vendor, True))
        try:
            return call()
        finally:
            self._called_ns = None
            if not self._is_only_watcher:
                self._reader.say(protocol.Calling(vendor, False))

    def _looked(self) -> None:
        if self._place >= 0:
            self._reader.say(protocol.FirstReading(self._place))
            self._place = -1

    def _say(self, text: str) -> None:
        self._reader.say(protocol.Remark(f"telemetry of {self._name}: {text}"))

    def _say_once(self, text: str) -> None:
        if text not in self._said and len(self._said) < 100:
            self._said.add(text)
            self._say(text)
