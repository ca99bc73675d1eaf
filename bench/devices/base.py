"""What a back end must offer, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from bench.clock import Clock
from bench.devices.pci import PciFunction
from bench.engine.measure import EventTimer
from bench.errors import DeviceError, InputError
from bench.record import Device, DeviceModel, NodeClock, Precision
from bench.record.identities import IDENTITY_FIELDS, identities
from bench.record.node import FailureCode
from bench.telemetry import Reading, Source
from bench.units import some

if TYPE_CHECKING:
    from kernels.base import Kernel


class Found(NamedTuple):
    """A device that is there.

    Args:
        model: its model.
        device: its own identity, whose index into a record's models is still 0.
        visibility: environment variables, with their values, that make it the only device of its kind for a process.
        skipped: why sources that come before the one that lists it do not, a clause each.
    """

    model: DeviceModel
    device: Device
    visibility: tuple[tuple[str, str], ...] = ()
    skipped: tuple[str, ...] = ()


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

    def __new__(
        cls, model: DeviceModel, device: Device, code: FailureCode, what: str, skipped: tuple[str, ...] = ()
    ) -> Faulty:
        faulty = super().__new__(cls, model, device, (), skipped)
        faulty.code, faulty.what = code, what
        return faulty


def sound(found: Iterable[Found]) -> list[Found]:
    """Return the devices that can be measured: all but those that are lost or broken."""
    return [one for one in found if not isinstance(one, Faulty)]


class StackFacts(NamedTuple):
    """What the stack that computes reports of a device; None is what it does not.

    Args:
        cache_bytes: of the last level (R3).
        units: that compute matrix products (R12).
    """

    cache_bytes: int | None = None
    units: int | None = None

    def of(self, model: DeviceModel) -> DeviceModel:
        """Return a device's model with these facts: a cache that its source does not report, and the fewer units.

        A share's units stay its source's: what the stack reports may be the whole's.
        """
        known = [units for units in (model.units, self.units) if units]
        units = model.units if model.count_unit == "slice" or not known else min(known)
        return msgspec.structs.replace(model, cache_bytes=model.cache_bytes or self.cache_bytes, units=units)


def with_stack_facts(found: Sequence[Found], reported: Mapping[str, StackFacts]) -> list[Found]:
    """Return devices with what their stacks reported, so that devices of one model stay one model.

    Args:
        found: devices.
        reported: by device. One without has what all others of its model have, where that is the same.
    """
    merged = []
    for one in found:
        alike = {reported[o.device.device] for o in found if o.model == one.model and o.device.device in reported}
        facts = reported.get(one.device.device) or (alike.pop() if len(alike) == 1 else None)
        merged.append(Found(one.model if facts is None else facts.of(one.model), one.device))
    return merged


class UnusableError(InputError):
    """Devices that are there and told what they are, and that nothing can be computed on as the node is now."""

    def __init__(self, why: InputError, found: list[Found]) -> None:
        super().__init__(why.code, why.what, where=why.where, fix=why.fix)
        self.found = found


class UnknownAcceleratorError(InputError):
    """Accelerators on the bus that no back end speaks for: nothing is measured in their place without a word.

    Args:
        functions: on the PCI bus, all of one vendor.
    """

    def __init__(self, functions: Sequence[PciFunction]) -> None:
        vendor_id, name = functions[0].vendor_id, functions[0].vendor
        vendor = f"PCI vendor 0x{vendor_id:04x}" if name is None else f"{name} (PCI vendor 0x{vendor_id:04x})"
        count = "an accelerator" if len(functions) == 1 else f"{len(functions)} accelerators"
        super().__init__(
            "accelerator-unknown",
            f"{count} of {vendor}, which petaseal has no back end for",
            where=some(one.pci_address for one in functions),
            fix="install a plug-in for that vendor, or the vendor's own for torch (--device torch:0)",
        )
        self.functions = tuple(functions)


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

    def stack_facts(self) -> StackFacts | None:
        """Return what the stack reports of the device, once `kernel` was asked; None where it adds nothing."""
        ...

    def timer(self) -> EventTimer | None:
        """Return the device's own time, where it has one."""
        ...

    def begin(self, precision: Precision, opens_ns: int) -> None:
        """Take note that load for a window begins, which opens at a monotonic time, ns."""
        ...


class Watch(Protocol):
    """All devices of one kind that are measured on a node, being read: in the process that reads, by nobody else."""

    def read(self) -> dict[str, Reading | DeviceError]:
        """Return one look at all of them, by device; one without a reading is left out.

        A `DeviceError` in place of a reading says that the device is lost or faulty, which ends its measurement.

        Raises:
            InputError: the look failed as a whole, which costs one reading of each.
        """
        ...

    def close(self) -> None:
        """Stop reading."""
        ...


class Watched(Protocol):
    """One kind of device that the node's reader reads (`bench.devices.reader`), not the process that measures one."""

    def watch(self, found: Sequence[Found]) -> Watch:
        """Begin to read devices that `find` found. Called in the process that reads, once for all of them.

        Raises:
            InputError: no source can be opened.
        """
        ...


class Backend(Protocol):
    """One kind of device; where it is also `Watched`, `Opened.source` is not asked."""

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


def is_same(found: Device, there: Device, *, of_one_source: bool) -> bool | None:
    """Return whether a device that is listed anew is the one that was found, by what both say; None if nothing.

    Two sources may write identities in two forms: the place on the bus decides then, or else whether one is equal.

    Args:
        found: the device.
        there: as it is listed now.
        of_one_source: whether one source listed both.
    """
    told = {name: (getattr(found, name), getattr(there, name)) for name in IDENTITY_FIELDS}
    both = {name: values for name, values in told.items() if None not in values}
    if of_one_source:
        return all(first == second for first, second in both.values()) if both else None
    if (places := both.get("pci_address")) is not None:
        return bool(places[0] == places[1])
    first, second = set(identities(found).values()), set(identities(there).values())
    return bool(first & second) if first and second else None


def not_there(found: Device, *, is_listed: bool) -> DeviceError:
    """Return why a device that was found is not measured.

    Args:
        found: the device.
        is_listed: whether there is another one in its place.
    """
    if not is_listed:
        return DeviceError("device-failed", "is not listed any more", where=found.device)
    known = next(iter(identities(found).values()), found.pci_address)
    what = f"{found.device} is no longer the device with the identity {known}"
    return DeviceError("device-differs", what, where=found.device)


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
