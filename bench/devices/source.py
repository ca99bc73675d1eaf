"""What lists and reads all devices of one vendor on a node: a library of the vendor, files of the kernel, or a tool.

A source is opened once on a node, in the process that reads (`bench.devices.reader`): no worker touches one. It lists
and it reads; it sets nothing. Vendors' back ends (`bench.devices.vendor`) name theirs in the order of preference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple, Self

from bench.errors import DeviceError, InputError
from bench.record.identities import identifier
from bench.record.node import CountUnit
from bench.telemetry import Reading

MOST_PARTS = 4  # devices on one board of any vendor


class Fault(NamedTuple):
    """Why one device cannot be used although its source lists others; the parts of an `InputError`."""

    code: str
    what: str
    where: str | None = None
    fix: str | None = None

    @staticmethod
    def of(error: InputError) -> Fault:
        """Return the fault of one device that a device error describes."""
        return Fault(error.code, error.what, error.where, error.fix)

    def error(self) -> InputError:
        """Return the device error that the fault stands for."""
        return InputError(self.code, self.what, where=self.where, fix=self.fix)


class ListedDevice(NamedTuple):
    """One device as its source lists it; None is what the source does not report."""

    number: int  # on the node, in the source's order
    model: str
    keys: tuple[str, ...] = ()  # other names by which a visibility variable may mean it
    uuid: str | None = None
    serial: str | None = None
    die_id: str | None = None
    pci_address: str | None = None
    parent: str | None = None
    bin: str | None = None
    board_part: str | None = None
    count_unit: CountUnit = "card"
    firmware: str | None = None
    driver: str | None = None
    memory_bytes: int | None = None
    units: int | None = None
    max_clock_mhz: int | None = None
    locked_clock_mhz: int | None = None
    power_limit_mw: int | None = None
    power_limit_default_mw: int | None = None
    power_limit_max_mw: int | None = None
    modes: tuple[tuple[str, str], ...] = ()  # as in `bench.record.DeviceModel`
    exposes: tuple[str, ...] | None = None  # where it differs from the source's: a slice has no power of its own
    place: tuple[str, ...] = ()  # what the source needs to speak of this device alone
    fault: Fault | None = None


class DeviceSource:
    """One source of one vendor's devices, opened.

    Args:
        root: the file system's root (tests).
        name: as in ``configs/sources.yaml``.
        path: of the library or tool that answers; None for files of the kernel.
        sha256: of that file; None where it may not be read.
        version: that it reports of itself; None where it does not.
    """

    exposes: ClassVar[tuple[str, ...]]  # quantities that its readings have, on every release (R13)

    def __init__(self, root: Path, name: str, path: str | None, sha256: str | None, version: str | None = None) -> None:
        self.root = root
        self.name = name
        self.path = path
        self.sha256 = sha256
        self.version = version

    @classmethod
    def label(cls) -> str:
        """Return how a source is named before it is opened."""
        return cls.__name__.removesuffix("Source").lower()

    @classmethod
    def open(cls, root: Path) -> Self:
        """Open the source.

        Raises:
            InputError: it is not on this node (`device-library-missing`, `device-tool-missing`), cannot be used
                (`device-library-unusable`: of another architecture, too old), or refuses (`device-permission`).
        """
        raise NotImplementedError

    def devices(self) -> list[ListedDevice]:
        """Return all devices of the node; one that is lost or broken stands in its place with its fault.

        Raises:
            InputError: the source fails as a whole, or what it reports has an unknown form.
        """
        raise NotImplementedError

    def complete(self, row: ListedDevice) -> ListedDevice:
        """Return a device with what takes further questions to know.

        Raises:
            InputError: the source fails for this device.
        """
        return row

    def readings(self, rows: Sequence[ListedDevice]) -> dict[int, Reading | DeviceError]:
        """Return one look at all devices at once, by their numbers; a device without a reading is left out.

        A `DeviceError` in place of a reading says that the device is lost or faulty, which ends its measurement.

        Raises:
            InputError: the look failed as a whole, which costs one reading of every device.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close the source: its library or tool is used no more."""


def usable(rows: list[ListedDevice]) -> list[ListedDevice]:
    """Return listed devices, faulty ones among them, unless all are faulty.

    Raises:
        InputError: every device is: the cause is the driver, the source or the form of its answer.
    """
    faults = [row.fault for row in rows if row.fault is not None]
    if faults and len(faults) == len(rows):
        raise faults[0].error()
    return rows


def with_parts(rows: Sequence[ListedDevice]) -> list[ListedDevice]:
    """Return the devices of a node with those marked that are dies of one board, by the board's serial as parent.

    A serial number is a board's: where two devices report one, each is a die of it. A device that its source knows for
    a die by its name or PCI id stays one where the container hides the others. Slices name their whole themselves.
    More devices than any board has do not share a board, but the base board of a chassis: its serial is none of theirs.

    Args:
        rows: all devices of one vendor on one node.
    """
    boards = Counter(identifier(row.serial) for row in rows if row.count_unit != "slice")
    return [_marked(row, boards) for row in rows]


def _marked(row: ListedDevice, boards: Counter[str | None]) -> ListedDevice:
    board = identifier(row.serial)
    if row.count_unit != "slice" and board is not None and boards[board] > MOST_PARTS:
        row, board = row._replace(serial=None), None
    shared = board is not None and boards[board] > 1
    if row.count_unit == "slice" or not (shared or row.count_unit == "die"):
        return row
    return row._replace(count_unit="die", parent=row.parent or row.serial, serial=None)
