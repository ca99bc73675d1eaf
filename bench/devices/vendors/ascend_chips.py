"""What the names of Ascend chips say, for every source of them: model, bin, and whether one is a die or a share."""

from __future__ import annotations

import re
import struct

from bench.devices.source import ListedDevice
from bench.record.identities import readable_identifier

# Virtual NPUs: vir04, 910B3-vir10_3c_32g, Ascend910-8c.
_SHARE = re.compile(r"vir\d|-\d+c(?:\.|$)", re.IGNORECASE)
_NUMBER = re.compile(r"9\d{3}|95\d[a-z]|95[A-Z]\d?", re.ASCII)  # of a bin: 9392 of Ascend910, 9579, 957b of Ascend950PR
_WHOLE = re.compile(r"(?:Ascend)?\d{3}[A-Z_].*", re.ASCII)  # a name and no number
_BIN = re.compile(r"Ascend(?:(910B\d[A-Z]?(?:-\d)?)|(?:910|950[A-Z]*)_(9\d{3}|95\d[a-z]|95[A-Z]\d?))", re.ASCII)
_910C = re.compile(r"Ascend910_9[1-4]\d\d", re.ASCII)


def name_of(chip: str, number: str | None = None) -> str:
    """Return a chip's name as the frameworks write it: "Ascend910B3", "Ascend910_9382", "Ascend950PR_9579".

    Args:
        chip: its name, with "Ascend" before it or not, such as "Ascend 910B3".
        number: its "NPU Name", where the source has one: a bin's number, or a whole name.
    """
    bare = "".join(chip.split())
    named = "".join((number or "").split())
    if _NUMBER.fullmatch(bare):  # the bin alone
        bare = f"Ascend{'950' if bare.startswith('95') else '910'}_{bare}"
    elif not bare.lower().startswith("ascend"):
        bare = f"Ascend{bare}"
    if is_share(bare):
        return bare
    if _NUMBER.fullmatch(named):
        return bare if bare.endswith(f"_{named}") else f"{bare}_{named}"
    return name_of(named) if _WHOLE.fullmatch(named) else bare


def bin_of(model: str) -> str | None:
    """Return the grade of silicon that a name says: 910B1 .. 910B4-1, 910B2C, 9381 .. 9392, 9579; None without one."""
    match = _BIN.fullmatch(model)
    return None if match is None else match[1] or match[2]


def is_share(name: str) -> bool:
    """Return whether a chip's name is that of a virtual NPU."""
    return _SHARE.search(name) is not None


def names_another(uuid: str, die_id: str) -> bool:
    """Return whether torch's uuid of a device is that of another die than a die id.

    The driver's uuid has 16 bytes and a die id five words of 32 bits, and no page says what the one is of the other. So
    a uuid speaks of dies where at least two of its words stand in the die id in one row, which does not happen by
    chance: then all of them must. Any other says nothing.

    Args:
        uuid: 32 hex digits, with punctuation or without.
        die_id: five words in hex, as npu-smi prints them.
    """
    digits = re.sub(r"[^0-9a-fA-F]", "", uuid)
    if len(digits) != 32 or not re.fullmatch(r"[0-9a-fA-F]{1,8}(?: [0-9a-fA-F]{1,8}){4}", die_id):
        return False
    raw, die, like = bytes.fromhex(digits), [int(word, 16) for word in die_id.split()], False
    for words in (struct.unpack(">4I", raw), struct.unpack("<4I", raw)):
        for first in (0, 1):
            there = tuple(die[first : first + 4])
            if words == there:
                return False
            like = like or sum(word == other != 0 for word, other in zip(words, there, strict=True)) >= 2
    return like


def on_its_card(
    row: ListedDevice, serial: str | None, die_id: str | None, *, together: bool, exposes: tuple[str, ...]
) -> ListedDevice:
    """Return a chip with what it is of its card: the whole, a die whose card the serial number names, or a share.

    Args:
        row: the chip, its model known.
        serial: of the card.
        die_id: of the chip.
        together: whether the card has other chips that compute.
        exposes: what the source reads of a whole chip. A share has no power of its own.
    """
    serial, die_id = readable_identifier(serial), readable_identifier(die_id)
    if is_share(row.model):
        without_power = tuple(quantity for quantity in exposes if quantity != "power")
        # its cores are not counted here: what is reported may be the whole chip's
        return row._replace(count_unit="slice", parent=die_id or serial, serial=None, units=None, exposes=without_power)
    if together or _910C.fullmatch(row.model):
        return row._replace(bin=bin_of(row.model), count_unit="die", parent=serial, serial=None, die_id=die_id)
    return row._replace(bin=bin_of(row.model), serial=serial, die_id=die_id)
