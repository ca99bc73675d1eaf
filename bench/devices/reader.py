"""The process that lists and reads vendors' devices, as its parent sees it: one a node, and no other touches a vendor.

A vendor's library may hang or end its process, and its tool may hold a lock that the centre's own monitoring needs. So
both run in a child of the node's parent, which is never killed: it is asked to end, and ends when the call that it is
in returns. `bench.devices.reader_main` is its other side.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec

from bench.devices.base import Faulty, LocalDevice, UnusableError
from bench.errors import DeviceError, InputError
from bench.host.python_start import start_code
from bench.record.node import FailureCode
from bench.telemetry import Reading

FIND_S = 90.0  # a driver that wakes eight devices up takes seconds, a node's tool some more
END_S = 2.0  # how long a reader is waited for once it was asked to end
TICK_S = 0.5


class SourceClass(msgspec.Struct, frozen=True):
    """Where a back end's class is, and its file system's root: the reader makes one of its own."""

    module: str
    name: str
    root: str | None

    @staticmethod
    def of(backend: object) -> SourceClass:
        """Return the class of a back end as the reader process imports it."""
        root = getattr(backend, "root", None)
        return SourceClass(type(backend).__module__, type(backend).__qualname__, None if root is None else str(root))


class Find(msgspec.Struct, tag=True, frozen=True):
    """Order to the reader process to list the devices of one kind. It answers `ReaderListing` or `ListingRefused`."""

    place: SourceClass
    argument: str | None
    skip: dict[str, str]  # sources that hung or ended a reader before, and what they did


class Kind(msgspec.Struct, frozen=True):
    """Devices of one kind that are to be read."""

    place: SourceClass
    devices: tuple[LocalDevice, ...]
    skip: dict[str, str]
    is_resumed: bool = False  # they are measured already: what a new listing lacks costs readings alone


class Read(msgspec.Struct, tag=True, frozen=True):
    """To a reader: read devices until the connection is closed. It answers `FirstReading` once for each kind."""

    kinds: tuple[Kind, ...]
    sockets: dict[str, int]  # descriptor of the socket to each device's worker
    interval_ns: int


class ReaderListing(msgspec.Struct, tag=True, frozen=True):
    """From a reader: the devices, and of those that are lost or broken code and clause by their places."""

    listed: tuple[LocalDevice, ...]
    faults: dict[int, tuple[FailureCode, str]]

    @staticmethod
    def of(devices: Sequence[LocalDevice]) -> ReaderListing:
        """Return listed devices as a message to the parent process."""
        faults = {place: (one.code, one.what) for place, one in enumerate(devices) if isinstance(one, Faulty)}
        return ReaderListing(tuple(LocalDevice(*one) for one in devices), faults)

    def devices(self) -> list[LocalDevice]:
        """Return the listed devices, faulty ones as `Faulty`."""
        return [
            Faulty(one.model, one.device, *self.faults[place], one.skipped) if place in self.faults else one
            for place, one in enumerate(self.listed)
        ]


class ListingRefused(msgspec.Struct, tag=True, frozen=True):
    """From a reader: why the devices cannot be listed, the parts of an `InputError`."""

    code: str
    what: str
    where: str | None
    fix: str | None
    unusable: ReaderListing | None  # of an `UnusableError`

    @staticmethod
    def of(error: InputError) -> ListingRefused:
        """Return a refused listing as a message to the parent process."""
        unusable = ReaderListing.of(error.devices) if isinstance(error, UnusableError) else None
        return ListingRefused(error.code, error.what, error.where, error.fix, unusable)

    def error(self) -> InputError:
        """Return the error that the reader process met, to be raised in the parent."""
        error = InputError(self.code, self.what, where=self.where, fix=self.fix)
        return error if self.unusable is None else UnusableError(error, self.unusable.devices())


class Trying(msgspec.Struct, tag=True, frozen=True):
    """From a reader: which source of a kind it opens now."""

    vendor: str
    source: str  # its label
    is_last: bool  # no other comes after it


class Calling(msgspec.Struct, tag=True, frozen=True):
    """From a reader of several kinds: a call of one begins or ends, so that a crash costs no other kind's source."""

    vendor: str
    begins: bool


class FirstReading(msgspec.Struct, tag=True, frozen=True):
    """From a reader: the first look at a kind's devices is taken, or failed."""

    kind: int  # its place in `Read`


class Remark(msgspec.Struct, tag=True, frozen=True):
    """Message of the reader process: a remark for the operator, a sentence."""

    text: str


class Taken(msgspec.Struct, frozen=True, array_like=True):
    """From a reader to a worker: one look at its device.

    Args:
        at_ns: monotonic time of the reading, ns.
        reading: None where there is a fault.
        fault: code and clause of a `DeviceError`.
    """

    at_ns: int
    reading: Reading | None
    fault: tuple[str, str] | None = None

    @staticmethod
    def of(at_ns: int, reading: Reading | DeviceError) -> Taken:
        """Return a look as a message."""
        if isinstance(reading, DeviceError):
            return Taken(at_ns, None, (reading.code, reading.what))
        return Taken(at_ns, reading)


Order = Find | Read
Answer = ReaderListing | ListingRefused | Trying | Calling | FirstReading | Remark
_ANSWERS = msgspec.json.Decoder(Answer)


@contextlib.contextmanager
def interrupt_left_to_parent() -> Iterator[None]:
    """While this holds, processes that are started never see Ctrl-C, which reaches the whole group."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class ReaderProcess:
    """A reader that runs.

    Args:
        descriptors: that it inherits.

    Raises:
        InputError: it cannot be started.
    """

    def __init__(self, descriptors: Sequence[int] = ()) -> None:
        try:
            ours, theirs = socket.socketpair()
            with contextlib.ExitStack() as unless_started, theirs, interrupt_left_to_parent():
                unless_started.enter_context(ours)
                # What a library prints reaches no terminal, and a reader that stays behind holds nobody's pipe open.
                # In a session of its own no terminal ends or stops it in a vendor's call.
                self.process = subprocess.Popen(
                    [
                        sys.executable,
                        "-c",
                        start_code("bench.devices.reader_main"),
                        str(theirs.fileno()),
                        str(os.getpid()),
                    ],
                    pass_fds=[theirs.fileno(), *descriptors],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
                unless_started.pop_all()
        except OSError as error:
            raise InputError(
                "device-tool-failed",
                f"the process that reads devices cannot be started ({error.strerror})",
                where=error.filename,
                fix="see the limits of processes, open files and memory (ulimit -a)",
            ) from None
        self._connection: Connection[Any, Any] = Connection(ours.detach())

    def send(self, order: Order) -> None:
        """Send an order to the reader process; `receive` raises where it is gone."""
        with contextlib.suppress(OSError):
            self._connection.send_bytes(msgspec.json.encode(order))

    def receive(self, timeout_s: float) -> Answer | None:
        """Return the next message; None where there is none in time.

        Raises:
            EOFError: the reader is gone.
        """
        until_s = time.monotonic() + timeout_s
        try:
            while not self._connection.poll(max(0.0, min(TICK_S, until_s - time.monotonic()))):
                # A process that a library left behind may hold the other end of the socket open.
                if self.process.poll() is not None and not self._connection.poll(0):
                    raise EOFError
                if time.monotonic() >= until_s:
                    return None
            return _ANSWERS.decode(self._connection.recv_bytes())  # type: ignore[no-any-return]
        except (OSError, msgspec.MsgspecError):
            raise EOFError from None

    def end(self, wait_s: float = END_S) -> int | None:
        """Ask the reader to end and wait a little; one that is in a vendor's call is left to end by itself.

        Returns:
            its exit status, negative for a signal; None where it still runs.
        """
        self._connection.close()
        try:
            return self.process.wait(timeout=wait_s)
        except subprocess.TimeoutExpired:
            threading.Thread(target=self.process.wait, name="left reader", daemon=True).start()
            return None


# Sources that hung or ended a reader of this process, and what they did: they are not tried again.
skipped: dict[str, str] = {}


def find_apart(backend: object, argument: str | None, within_s: float = FIND_S) -> list[LocalDevice]:
    """Return the devices that a back end's `look` lists, in a process of its own.

    Where a source hangs or ends that process, those that come after it are tried.

    Args:
        backend: whose class can be imported by its name.
        argument: of `Backend.find`.
        within_s: how long each source may take.

    Raises:
        InputError: as `look`; `device-tool-failed`: the last source hung or ended the process.
    """
    while True:
        answer, trying, what = _ask(Find(SourceClass.of(backend), argument, skipped), within_s)
        if isinstance(answer, ReaderListing):
            return answer.devices()
        if isinstance(answer, ListingRefused):
            raise answer.error()
        if trying is None or trying.is_last or trying.source in skipped:
            raise InputError(
                "device-tool-failed",
                f"what lists {getattr(backend, 'vendor', 'these')} devices {what}",
                where=None if trying is None else trying.source,
                fix="see whether the vendor's own tool answers; restart the node if it does not either",
            )
        skipped[trying.source] = what


def _ask(order: Find, within_s: float) -> tuple[Answer | None, Trying | None, str]:
    """Return a reader's answer, which source it tried last, and what happened where it gave none."""
    reader = ReaderProcess()
    trying: Trying | None = None
    until_s, wait_s = time.monotonic() + within_s, 0.0
    try:
        reader.send(order)
        while (left_s := until_s - time.monotonic()) > 0:
            answer = reader.receive(left_s)
            if isinstance(answer, ReaderListing | ListingRefused):
                wait_s = END_S  # it is idle: the next reader starts once it is gone
                return answer, trying, ""
            if isinstance(answer, Trying):
                trying, until_s = answer, time.monotonic() + within_s
        return None, trying, f"did not answer within {within_s:g} s"
    except EOFError:
        return None, trying, ended_with(reader.end())
    finally:
        reader.end(wait_s)


def ended_with(status: int | None) -> str:
    """Return how a source ended the process that read it, a clause."""
    if status is None:
        return "closed the connection of the process that reads it"
    if status < 0:
        return f"ended the process that reads it (signal {-status})"
    return f"ended the process that reads it (exit status {status})"


def backend_at(place: SourceClass) -> Any:
    """Return a back end of the class at a place."""
    owner: Any = importlib.import_module(place.module)
    for part in place.name.split("."):
        owner = getattr(owner, part)
    return owner() if place.root is None else owner(Path(place.root))
