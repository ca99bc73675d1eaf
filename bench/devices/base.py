"""What a back end must offer, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from bench.clock import Clock
from bench.engine.measure import EventTimer
from bench.errors import DeviceError, InputError
from bench.record import Device, DeviceModel, NodeClock, Precision
from bench.record.node import FailureCode
from bench.telemetry import Source

if TYPE_CHECKING:
    from kernels.base import Kernel


class Found(NamedTuple):
    """A device that is there: its model, and its own identity (whose index into a record's models is still 0)."""

    model: DeviceModel
    device: Device


class Faulty(Found):
    """A device that is lost or broken, which stops no other: what is known of it, for the record.

    Args:
        model: null in what it does not tell any more.
        device: its name and identity.
        code: of the record's failures.
        what: is wrong with it, one clause.
    """

    code: FailureCode
    what: str

    def __new__(cls, model: DeviceModel, device: Device, code: FailureCode, what: str) -> Faulty:
        faulty = super().__new__(cls, model, device)
        faulty.code, faulty.what = code, what
        return faulty


def sound(found: Iterable[Found]) -> list[Found]:
    """Return the devices that can be measured: all but those that are lost or broken."""
    return [one for one in found if not isinstance(one, Faulty)]


class UnusableError(InputError):
    """Devices that are there and told what they are, and that nothing can be computed on as the node is now."""

    def __init__(self, why: InputError, found: list[Found]) -> None:
        super().__init__(why.code, why.what, where=why.where, fix=why.fix)
        self.found = found


class Opened(Protocol):
    """A device that the present process measures."""

    target: str
    """What the kernel computes on, e.g. "cpu" or "cuda:0"."""

    def kernel(self) -> Kernel:
        """Return the kernel that is measured unless the profile or the user names another."""
        ...

    def unsupported(self, precision: Precision) -> str | None:
        """Return why the vendor's stack does not compute a precision natively (one clause), or None where it does."""
        ...

    def memory_bytes(self) -> int | None:
        """Return how much memory operands may take at present; None where it is unknown."""
        ...

    def source(self) -> Source:
        """Return where telemetry is read."""
        ...

    def timer(self) -> EventTimer | None:
        """Return the device's own time, where it has one."""
        ...

    def begin(self, precision: Precision, opens_ns: int) -> None:
        """Take note that load for a window begins, which opens at a monotonic time, ns."""
        ...


class Backend(Protocol):
    """One kind of device."""

    def find(self, argument: str | None) -> list[Found]:
        """Return the devices of this kind on this node: all (none where the node has none), or what `argument` names.

        One that is lost or broken keeps its place among them as `Faulty`; it never stops the others.

        Raises:
            InputError: there is no such device; or the node has one that cannot be used, and why (no driver, no
                library, no permission).
        """
        ...

    def open(self, found: Found, clock: Clock) -> Opened:
        """Return a device for measuring that `find` found. Called in the process that measures it.

        Raises:
            DeviceError: `device-differs`: at its place there is another device by now.
        """
        ...

    def node_clock(self) -> NodeClock | None:
        """Return how well the node's clock is known if this kind scripts it; None for every real device."""
        ...


def index_of(found: Found) -> int:
    """Return a device's index on the node."""
    return int(found.device.device.partition(":")[2])


def check_same(found: Found, there: Device) -> None:
    """Refuse to measure one device under the identity of another.

    Args:
        found: what is to be measured.
        there: what is at its place now.

    Raises:
        DeviceError: they differ in what identifies them.
    """
    meant = msgspec.structs.replace(found.device, numa_node=there.numa_node)  # which the host tells, not the device
    if meant != there:
        raise DeviceError(
            "device-differs",
            f"{there.device} is no longer the device with the uuid {found.device.uuid}",
            where=found.device.device,
        )


def parse_index(kind: str, argument: str | None, count: int) -> list[int]:
    """Return the indexes that "kind" or "kind:index" names among `count` devices.

    Raises:
        InputError: the index is not a number, or there is no such device.
    """
    if argument is None:
        return list(range(count))
    if not (argument.isascii() and argument.isdigit()) or len(argument) > 5 or int(argument) >= count:
        raise InputError(
            "no-device", "there is no such device on this node", where=f"{kind}:{argument}", fix="see: petaseal devices"
        )
    return [int(argument)]
