"""Readings on their way: a node runs one reader, and each worker receives what it read of its device.

The reader (`bench.devices.reader`) writes straight into a socket of each worker, one message a reading, so that the
node's own thread has no part in it. One that ends is started again; one that hangs leaves a gap.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from bisect import bisect_right
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import msgspec

from bench.devices import load_backend
from bench.devices import reader as protocol
from bench.devices.base import LocalDevice
from bench.devices.reader import END_S, ReaderProcess, ended_with, skipped
from bench.errors import DeviceError, InputError
from bench.telemetry import Reading, Sample

FIRST_LOOK_S = 30.0  # without any sign of the reader
MOST_FIRST_LOOK_S = 240.0
MOST_PAUSE_S = 30.0
CRASHES = 2  # of a reader, after which the sources that it had open are left to the next ones
TICK_S = 0.5
MESSAGE_BYTES = 65536  # a reading takes some hundred
_TAKEN = msgspec.json.Decoder(protocol.Taken)


class NodeReadings:
    """The readings of a node's devices: one reader process, which is started again whenever it ends.

    Args:
        devices: that are measured; those that their own workers read are left out.
        interval_ns: between two looks.
    """

    def __init__(self, devices: Sequence[LocalDevice], interval_ns: int) -> None:
        def kind_of(one: LocalDevice) -> str:
            return one.device.device.partition(":")[0]

        self._kinds = []
        self._backends: list[Any] = []
        for name, of_kind in groupby(sorted(devices, key=kind_of), kind_of):
            backend = load_backend(name)
            if hasattr(backend, "watch"):
                self._backends.append(backend)
                self._kinds.append(tuple(of_kind))
        self._interval_ns = interval_ns
        names = [one.device.device for kind in self._kinds for one in kind]
        # A reading is one message: a reader that dies while it writes leaves no half of one behind.
        self._sockets = {name: socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for name in names}
        self._remarks: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._waiting = set(range(len(self._kinds)))  # for their first look
        self._first_look = threading.Event()
        self._sign_s = 0.0  # when the reader last gave one, monotonic
        self._is_begun = False  # workers may use their devices
        self._reader: ReaderProcess | None = None
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the reader and wait for its first look, which is before any worker touches a device."""
        if not self._kinds:
            return
        self._thread = threading.Thread(target=self._run, name="readings", daemon=True)
        begun_s = self._sign_s = time.monotonic()
        self._thread.start()
        while not self._first_look.is_set():
            left_s = min(self._sign_s + FIRST_LOOK_S, begun_s + MOST_FIRST_LOOK_S) - time.monotonic()
            if left_s <= 0:
                text = f"no reading within {round(time.monotonic() - begun_s, 1):g} s"
                self._remarks.put(f"telemetry: {text}; the measurement goes on without")
                break
            self._first_look.wait(left_s)
        self._is_begun = True

    def worker_end(self, device: str) -> socket.socket | None:
        """Return the socket on which a device's worker receives its readings; None where it reads by itself."""
        ends = self._sockets.get(device)
        return None if ends is None else ends[1]

    def pids(self) -> list[int]:
        """Return the process that reads: what it and its tools take of the CPUs is no foreign load."""
        reader = self._reader
        return [] if reader is None else [reader.process.pid]

    def remarks(self) -> list[str]:
        """Return the remarks for the operator, each once."""
        texts = []
        with contextlib.suppress(queue.Empty):
            while True:
                texts.append(self._remarks.get_nowait())
        return texts

    def stop(self) -> None:
        """Have the reader end; one that is in a vendor's call ends when that returns."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()  # before its sockets are closed, whose numbers others may get
        for ends in self._sockets.values():
            for end in ends:
                end.close()

    def _run(self) -> None:
        crashes: dict[str, int] = {}  # of sources, by class
        pause_s = 1.0
        while not self._ending.is_set():
            try:
                tried, status = self._serve()
                what = f"a source {ended_with(status)}"
            except InputError as error:  # a node without room for a process may have some later
                tried, status, what = [], None, error.what
            if self._ending.is_set():
                return
            self._remarks.put(f"telemetry: {what}: it is started again in {pause_s:g} s")
            for one in tried:
                crashes[one.source] = crashes.get(one.source, 0) + 1
                if crashes[one.source] >= CRASHES and not one.is_last:
                    skipped[one.source] = ended_with(status)
                    self._remarks.put(f"telemetry: {one.source} of {one.vendor} is left out: the next source is read")
            self._ending.wait(pause_s)
            pause_s = min(2 * pause_s, MOST_PAUSE_S)

    def _serve(self) -> tuple[list[protocol.Trying], int | None]:
        """Start a reader and listen to it until it ends; return the sources that may have ended it, and its status.

        Raises:
            InputError: it cannot be started.
        """
        sockets = {name: ends[0].fileno() for name, ends in self._sockets.items()}
        self._reader = reader = ReaderProcess(list(sockets.values()))
        tried: dict[str, protocol.Trying] = {}
        calling: set[str] = set()
        kinds = tuple(
            protocol.Kind(protocol.SourceClass.of(backend), devices, skipped, self._is_begun)
            for backend, devices in zip(self._backends, self._kinds, strict=True)
        )
        try:
            reader.send(protocol.Read(kinds, sockets, self._interval_ns))
            while not self._ending.is_set():
                message = reader.receive(TICK_S)
                if isinstance(message, protocol.Remark):
                    self._remarks.put(message.text)
                elif isinstance(message, protocol.Trying):
                    tried[message.vendor] = message
                    self._sign_s = time.monotonic()
                elif isinstance(message, protocol.Calling):
                    (calling.add if message.begins else calling.discard)(message.vendor)
                elif isinstance(message, protocol.FirstReading):
                    self._waiting.discard(message.kind)
                    if not self._waiting:
                        self._first_look.set()
        except EOFError:
            pass
        return [one for one in tried.values() if one.vendor in calling or not calling], reader.end(END_S)


class ReceivedReadings:
    """Readings of one device that the node's reader takes, in the process that measures it.

    Args:
        end: of the socket on which they come.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._taken: list[protocol.Taken] = []
        self._receive(socket.MSG_DONTWAIT)
        self._before = list(self._taken)
        # A thread that does nothing but take them: a socket that fills up while a launch is waited for would lose some.
        threading.Thread(target=self._receive, args=(0,), name="readings", daemon=True).start()

    def before(self) -> Reading | None:
        """Return what was read before this process touched the device: of each quantity its first reading.

        Raises:
            DeviceError: the device is lost or faulty.
        """
        samples = _samples(self._before)
        if not samples:
            return None
        columns = zip(*(sample.reading for sample in samples), strict=True)
        return Reading(*(next((value for value in column if value is not None), None) for column in columns))

    def after(self, at_ns: int) -> list[Sample]:
        """Return the readings that were taken after a monotonic time, ns, each with its own.

        Raises:
            DeviceError: one of them says that the device is lost or faulty.
        """
        first = bisect_right(self._taken, at_ns, key=lambda one: one.at_ns)
        return _samples(self._taken[first:])

    def _receive(self, flags: int) -> None:
        """Take the readings that come, until the socket is closed or, without waiting, until there is none."""
        with contextlib.suppress(OSError):
            while data := self._end.recv(MESSAGE_BYTES, flags):
                with contextlib.suppress(msgspec.DecodeError):  # a plug-in's may be none that can be read
                    self._taken.append(_TAKEN.decode(data))


def _samples(taken: Sequence[protocol.Taken]) -> list[Sample]:
    """Return readings as samples.

    Raises:
        DeviceError: one of them is none, but says that the device is lost or faulty.
    """
    fault = next((one.fault for one in taken if one.fault is not None), None)
    if fault is not None:
        raise DeviceError(*fault)
    return [Sample(one.at_ns, one.reading) for one in taken if one.reading is not None]
