"""What a back end must offer, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from bench.clock import Clock
from bench.devices.pci import PciFunction
from bench.engine.measure import EventTimer
from bench.errors import DeviceError, InputError
from bench.record import Device, DeviceModel, NodeClock, Precision
from bench.record.identities import IDENTITY_FIELDS, identities
from bench.record.node import FailureCode
from bench.telemetry import Reading, ReadingSource
from bench.units import shortened_list

if TYPE_CHECKING:
    from kernels.base import Kernel


def described_model(**known: Any) -> DeviceModel:
    """Return the model of a device of which these fields are known; the others are null, or say that nothing is."""
    unknown = dict.fromkeys(DeviceModel.__struct_fields__)
    return DeviceModel(**{**unknown, "simulated": False, "modes": {}, "exposes": (), **known})


def described_device(**known: Any) -> Device:
    """Return a device, whose model is still the first, of which these fields are known; the others are null."""
    return Device(**{**dict.fromkeys(Device.__struct_fields__), "model": 0, **known})


class LocalDevice(NamedTuple):
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


class Faulty(LocalDevice):
    """A device that is lost or broken, with what a record says of it; the other devices are measured all the same.

    Args:
        model: null in what the device no longer reports.
        device: its name and identity.
        code: of the record's failures.
        what: is wrong with it, one clause.
    """

    code: FailureCode
    what: str

    def __new__(
        cls, model: DeviceModel, device: Device, code: FailureCode, what: str, skipped: tuple[str, ...] = ()
    ) -> Faulty:
        # A named tuple takes no further fields in a subclass, and is compared as the tuple of its first ones.
        faulty = super().__new__(cls, model, device, (), skipped)
        faulty.code, faulty.what = code, what
        return faulty


def sound(devices: Iterable[LocalDevice]) -> list[LocalDevice]:
    """Return the devices that can be measured: all but those that are lost or broken."""
    return [one for one in devices if not isinstance(one, Faulty)]


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


def with_stack_facts(devices: Sequence[LocalDevice], reported: Mapping[str, StackFacts]) -> list[LocalDevice]:
    """Return devices with what their stacks reported, so that devices of one model stay one model.

    Args:
        devices: devices.
        reported: by device. One without has what all others of its model have, where that is the same.
    """
    merged = []
    for one in devices:
        # A model that differed from device to device, by who was asked, would be split in two in the record.
        alike = {reported[o.device.device] for o in devices if o.model == one.model and o.device.device in reported}
        facts = reported.get(one.device.device) or (alike.pop() if len(alike) == 1 else None)
        merged.append(LocalDevice(one.model if facts is None else facts.of(one.model), one.device))
    return merged


class UnusableError(InputError):
    """Devices are listed with their models, and this node's stack cannot compute on any of them."""

    def __init__(self, why: InputError, devices: list[LocalDevice]) -> None:
        super().__init__(why.code, why.what, where=why.where, fix=why.fix)
        self.devices = devices


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
            where=shortened_list(one.pci_address for one in functions),
            fix="install a plug-in for that vendor, or the vendor's own for torch (--device torch:0)",
        )
        self.functions = tuple(functions)


class OpenDevice(Protocol):
    """A device that the present process measures."""

    target: str  # what the kernel computes on, e.g. "cpu" or "cuda:0"

    def kernel(self) -> Kernel:
        """Return the kernel that is measured unless the profile or the user names another."""

    def unsupported(self, precision: Precision) -> str | None:
        """Return why the vendor's stack does not compute a precision natively (one clause), or None where it does."""

    def memory_bytes(self) -> int | None:
        """Return how much memory operands may take at present; None where it is unknown."""

    def source(self) -> ReadingSource:
        """Return the source from which the device's telemetry is read."""

    def stack_facts(self) -> StackFacts | None:
        """Return what the stack reports of the device, once `kernel` was asked; None where it adds nothing."""

    def timer(self) -> EventTimer | None:
        """Return the device's own time, where it has one."""

    def begin(self, precision: Precision, opens_ns: int) -> None:
        """Take note that load for a window begins, which opens at a monotonic time, ns."""


class DeviceWatch(Protocol):
    """Reads the telemetry of all measured devices of one kind on a node, in one process that opens their source."""

    def read(self) -> dict[str, Reading | DeviceError]:
        """Return the present reading of each device by its name; one without a reading is left out.

        A `DeviceError` in place of a reading says that the device is lost or faulty, which ends its measurement.

        Raises:
            InputError: the source did not answer, which costs one reading of each device.
        """

    def close(self) -> None:
        """Close the source; no reading follows."""


class WatchedKind(Protocol):
    """One kind of device that the node's reader reads (`bench.devices.reader`), not the process that measures one."""

    def watch(self, devices: Sequence[LocalDevice]) -> DeviceWatch:
        """Begin to read devices that `find` found. Called in the process that reads, once for all of them.

        Raises:
            InputError: no source can be opened.
        """


class Backend(Protocol):
    """One kind of device; where it is also `WatchedKind`, `OpenDevice.source` is not asked."""

    def find(self, argument: str | None) -> list[LocalDevice]:
        """Return the devices of this kind on this node: all (none where the node has none), or what `argument` names.

        One that is lost or broken keeps its place among them as `Faulty`; it never stops the others.

        Raises:
            InputError: there is no such device; or the node has one that cannot be used, and why (no driver, no
                library, no permission).
        """

    def open(self, local: LocalDevice, clock: Clock) -> OpenDevice:
        """Return a device for measuring that `find` found. Called in the process that measures it.

        Raises:
            DeviceError: `device-differs`: another device has taken its place.
        """

    def node_clock(self) -> NodeClock | None:
        """Return how well the node's clock is known if this kind scripts it; None for every real device."""


def index_of(local: LocalDevice) -> int:
    """Return a device's index on the node."""
    return int(local.device.device.partition(":")[2])


def check_same(local: LocalDevice, there: Device) -> None:
    """Refuse to measure one device under the identity of another.

    Args:
        local: what is to be measured.
        there: what is at its place now.

    Raises:
        DeviceError: they differ in what identifies them.
    """
    meant = msgspec.structs.replace(local.device, numa_node=there.numa_node)  # which the host tells, not the device
    if meant != there:
        raise DeviceError(
            "device-differs",
            f"{there.device} is no longer the device with the uuid {local.device.uuid}",
            where=local.device.device,
        )


def is_same(recorded: Device, there: Device, *, of_one_source: bool) -> bool | None:
    """Return whether a device that is listed anew is the one that was found, by what both say; None if nothing.

    Two sources may write identities in two forms: the place on the bus decides then, or else whether one is equal.

    Args:
        recorded: the device.
        there: as it is listed now.
        of_one_source: whether one source listed both.
    """
    identities_of_both = {name: (getattr(recorded, name), getattr(there, name)) for name in IDENTITY_FIELDS}
    both = {name: values for name, values in identities_of_both.items() if None not in values}
    if of_one_source:
        return all(first == second for first, second in both.values()) if both else None
    # The place on the bus is written alike by all sources; identities may not be.
    if (places := both.get("pci_address")) is not None:
        return bool(places[0] == places[1])
    first, second = set(identities(recorded).values()), set(identities(there).values())
    return bool(first & second) if first and second else None


def not_there(recorded: Device, *, is_listed: bool) -> DeviceError:
    """Return why a device that was found is not measured.

    Args:
        recorded: the device.
        is_listed: whether there is another one in its place.
    """
    if not is_listed:
        return DeviceError("device-failed", "is not listed any more", where=recorded.device)
    known = next(iter(identities(recorded).values()), recorded.pci_address)
    what = f"{recorded.device} is no longer the device with the identity {known}"
    return DeviceError("device-differs", what, where=recorded.device)


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
