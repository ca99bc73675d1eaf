"""What ``petaseal devices --json`` prints on a node, as far as others read it: nobody signs it (docs/devices.md)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from bench.errors import InputError
from bench.record import Count, Device, DeviceModel, DeviceName, Document, Text
from bench.record.fields import filled, in_words


class ListingEntry(Document, frozen=True, kw_only=True):
    """One device of a node, as ``petaseal devices --json`` prints it."""

    device: DeviceName
    model: DeviceModel
    nominal_mflop_s: dict[str, int]
    uuid: Text | None
    serial: Text | None
    die_id: Text | None
    pci_address: Text | None
    parent: Text | None
    numa_node: Count | None
    expected: dict[str, Any] | UnsetType = UNSET  # an answer of that day's tables and policies
    exposed: tuple[Text, ...] | UnsetType = UNSET  # likewise
    source: Text | UnsetType | None = UNSET  # these two stand in the model too
    source_version: Text | UnsetType | None = UNSET
    skipped: tuple[str, ...] | UnsetType = UNSET

    @property
    def identity(self) -> Device:
        """The device as a record has it."""
        return filled(Device, self, model=0)


class Unusable(Document, frozen=True, kw_only=True):
    """Devices that are there and cannot be used, and why."""

    code: str
    text: str
    devices: tuple[ListingEntry, ...]


class DeviceListing(Document, frozen=True, kw_only=True):
    """All devices of a node."""

    devices: tuple[ListingEntry, ...]
    problems: tuple[Unusable, ...]
    unknown_accelerators: tuple[dict[str, Any], ...] | UnsetType = UNSET


def decode_listing(content: bytes, where: object = None) -> DeviceListing:
    """Return the devices of a node.

    Raises:
        InputError: `devices-file-invalid`.
    """
    try:
        listing = msgspec.json.decode(content, type=DeviceListing)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        what = f"is not what petaseal devices --json prints: {in_words(error)}"
        raise InputError("devices-file-invalid", what, where=where) from None
    names = [one.device for one in listing.devices]
    names += [one.device for problem in listing.problems for one in problem.devices]
    for name, count in Counter(names).items():
        if count > 1:
            raise InputError("devices-file-invalid", f"lists the device {name} {count} times", where=where)
    return listing
