"""What distinguishes devices: the identities that are compared, and the set in which none may stand twice. Pure.

Identities are compared without the names of their fields: the uuid of one device and the serial number of another are
one device if they are equal (docs/formats.md). A part (slice or die) shares the identities of its whole with the other
parts of it: its parent, and the serial number, which is the board's. What is refused of records is refused by the same
code before anything is measured.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import msgspec

from bench.errors import RefusedError
from bench.record.node import Device
from bench.units import shortened_list

IDENTITY_FIELDS = ("uuid", "serial", "die_id", "pci_address", "parent")  # of a `Device`: what names it or its place
_PLACEHOLDERS = frozenset(
    [
        "na",
        "none",
        "null",
        "nil",
        "unknown",
        "notavailable",
        "notapplicable",
        "notspecified",
        "notpresent",
        "unspecified",
        "invalid",
        "default",
        "defaultstring",
        "tobefilledbyoem",
        "systemserialnumber",
        "baseboardserialnumber",
        "chassisserialnumber",
        "serialnumber",
        "123456789",
        "1234567890",
        "4294967295",  # -1 as an unsigned number of 32 bits, of 64 bits
        "18446744073709551615",
        # what a tool prints in place of a value
        "notsupported",
        "notsupport",
        "unsupported",
        "notfound",
        "notset",
        "notprogrammed",
        "unavailable",
        "undefined",
        "unassigned",
        "empty",
        "reserved",
        "nodata",
        "tbd",
        "err",
        "error",
        "failed",
        "unknownerror",
        "insufficientpermissions",
        "nopermission",
        "permissiondenied",
        "islost",  # "GPU is lost"
        "nasecondarydie",
    ]
)
_MIN_DIGITS = 4  # of a bare number that distinguishes devices; "1" and "-1" do not
# What vendors put before an identity: its kind, "0x", leading zeros. No word consists of hex digits alone.
_PREFIXES = re.compile("(?:uuid|gpu|mig|npu|mlu|dcu|hcu|gcu|xpu|ppu|0x(?!pu)|0)+")
_NOT_ALPHANUMERIC = re.compile(r"[^0-9a-z]+")
# The same for ASCII, with its case: a fifth of the time, of hundreds of thousands of identities.
_ASCII = {code: chr(code).lower() if chr(code).isalnum() else None for code in range(128)}


def identifier(text: object) -> str | None:
    """Return a device identifier in the one form that is compared, or None for what identifies nothing.

    One device must not become two by spelling: width, case, punctuation, leading zeros and what vendors put before an
    identity ("GPU-", "MIG-GPU-", "UUID: 0x"), however often, do not count. Drivers write placeholders where they know
    nothing ("N/A", "0", "Unknown"); a placeholder is no identity.
    """
    return None if text is None else _compared(str(text))


@lru_cache(maxsize=1024)  # a device's identities are asked for several times while its record is judged
def _compared(text: str) -> str | None:
    if text.isascii():
        flat = text.lower().replace("-", "")  # nearly all that drivers report, in a third of the time
        if not flat.isalnum():
            flat = text.translate(_ASCII)
    else:
        flat = _NOT_ALPHANUMERIC.sub("", unicodedata.normalize("NFKC", text).casefold())
    prefix = _PREFIXES.match(flat)
    bare = flat if prefix is None else flat[prefix.end() :]
    too_short = len(bare) < _MIN_DIGITS and (not bare or bare.isdigit())
    return None if too_short or bare in _PLACEHOLDERS or not bare.strip("fx") else bare


def readable_identifier(text: object) -> str | None:
    """Return a device identifier as a record holds it: as the driver reports it, trimmed; None for a placeholder."""
    return str(text).strip() if identifier(text) is not None else None


# Hundreds of thousands of both are held at once: left out of the search for circles, which they cannot be part of.
class DeviceKeys(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What one device of a record is compared by."""

    device: str
    unshared: tuple[str, ...]  # identities that no other device has
    parent: str | None = None  # of a part
    board: str | None = None  # serial number of the board that a part is on
    place: str | None = None  # PCI address of a whole device: no two of one node sit in one place

    @property
    def wholes(self) -> tuple[str, ...]:
        """What the whole goes by that this is a part of, which the other parts of it share."""
        return tuple(key for key in (self.parent, self.board) if key is not None)

    @property
    def known(self) -> tuple[str, ...]:
        """All that it is known by, of itself and of its whole."""
        return self.unshared + self.wholes


def identities(device: Device) -> dict[str, str]:
    """Return the identities of a device in the form that is compared, by field; empty where it has none."""
    shown = {}
    for name, value in (("uuid", device.uuid), ("serial", device.serial), ("die_id", device.die_id)):
        if value is not None and (text := identifier(value)) is not None:
            shown[name] = text
    return shown


def unshared_identities(device: Device) -> dict[str, str]:
    """Return the identities that a device shares with no other: the serial number of a part is that of its board."""
    shown = identities(device)
    if identifier(device.parent) is not None:
        shown.pop("serial", None)
    return shown


def device_keys(device: Device, shown: Mapping[str, str] | None = None) -> DeviceKeys:
    """Return what one device of a record is compared by.

    Args:
        device: of the record.
        shown: its `unshared_identities`, where they are known.
    """
    unshared = tuple((unshared_identities(device) if shown is None else shown).values())
    parent = identifier(device.parent)
    if parent is None:
        return DeviceKeys(device.device, unshared, None, None, _place(device.pci_address))
    return DeviceKeys(device.device, unshared, parent, identifier(device.serial))


_place = lru_cache(maxsize=1024)(identifier)  # all nodes have their devices in the same few places


class Sight(msgspec.Struct, frozen=True, gc=False):
    """Where a device was seen."""

    node_id: str
    device: str
    parent: str | None

    def __str__(self) -> str:
        return f"{self.node_id}/{self.device}"


class Uniqueness:
    """Sees every device of a record set once; refuses the second sight of a node or of any identity."""

    def __init__(self) -> None:
        self._nodes: set[str] = set()
        self._devices: dict[str, Sight] = {}  # identity -> the device that has it
        self._parts: dict[str, dict[str | None, Sight]] = {}  # identity of a whole -> a part of each parent

    def see(self, node_id: str, devices: Iterable[DeviceKeys]) -> None:
        """Add one record's devices.

        Raises:
            RefusedError: the node has another record, a device was seen before, or parts of its whole on another node.
        """
        if node_id in self._nodes:
            raise RefusedError("node-twice", "there are two records of this node", where=node_id, fix="keep one")
        self._nodes.add(node_id)
        places: dict[str, Sight] = {}
        for keys in devices:
            sight = Sight(node_id, keys.device, keys.parent)
            for key in keys.unshared:
                if (other := self._devices.setdefault(key, sight)) != sight:
                    raise RefusedError("duplicate-device", f"is the same device as {other}", where=sight)
            if keys.place is not None and (other := places.setdefault(keys.place, sight)) != sight:
                raise RefusedError("duplicate-device", f"has the PCI address of {other}", where=sight)
            if keys.parent is None and keys.board is None:
                continue  # most devices are no parts
            for key in keys.wholes:
                parts = self._parts.setdefault(key, {})
                if (other := next(iter(parts.values()), sight)).node_id != node_id:
                    what = f"is a part of one card with {other}, on another node"
                    raise RefusedError("parent-on-two-nodes", what, where=sight)
                parts.setdefault(keys.parent, sight)

    def check_parents(self) -> None:
        """Refuse a slice or die that is counted as well as the device it belongs to.

        Parts of one parent on one node are left out: some vendors name a board by one of its chips.
        """
        for key, parts in self._parts.items():
            if (whole := self._devices.get(key)) is None:
                continue
            for part in parts.values():
                if (whole.node_id, whole.parent) != (part.node_id, part.parent):
                    raise RefusedError("parent-and-slice", f"is a part of {whole}", where=part)


def collisions(devices: Sequence[Device]) -> list[RefusedError]:
    """Return why no statement can hold a node's devices together: one identity on two of them, or a part and its whole.

    Args:
        devices: that one record would hold.
    """
    holders: dict[str, dict[str, str]] = {}  # identity -> device -> what it reports it as
    for device in devices:
        for field, key in unshared_identities(device).items():
            holders.setdefault(key, {})[device.device] = f"{field} {getattr(device, field)}"
    shared: dict[tuple[str, ...], list[str]] = {}  # what is reported by the devices that share it
    for reported in holders.values():
        if len(reported) > 1:
            shared.setdefault(tuple(reported), []).append(next(iter(reported.values())))
    if shared:
        return [_collision(names, reported) for names, reported in shared.items()]
    whole = Uniqueness()
    try:
        whole.see("this node", map(device_keys, devices))
        whole.check_parents()
    except RefusedError as error:
        return [RefusedError(error.code, error.what, where=error.where, fix=ONE_OF_THEM)]
    return []


ONE_OF_THEM = "name the devices to measure with --device, without one of these"


def _collision(names: Sequence[str], reported: Sequence[str]) -> RefusedError:
    dies = ", as dies of one board do" if all(text.startswith("serial ") for text in reported) else ""
    what = f"report one {', one '.join(reported)}{dies}: no statement can hold a record of both"
    return RefusedError("duplicate-device", what, where=shortened_list(names), fix=ONE_OF_THEM)
