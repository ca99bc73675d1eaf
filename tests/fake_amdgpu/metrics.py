"""Tables ``gpu_metrics`` as the kernel's C structures lay them out: fields in order, placed by C's own alignment.

Written from the structures' fields and not from the reader's offsets, which it checks.
Source: Linux, drivers/gpu/drm/amd/include/kgd_pp_interface.h.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

Fields = tuple[tuple[str, str], ...]  # (name, type with a count)

_HEAD: Fields = (("size", "H"), ("format", "B"), ("content", "B"))
_SENSORS: Fields = (
    ("edge", "H"),
    ("hotspot", "H"),
    ("mem", "H"),
    ("vr", "3H"),
    ("gfx_activity", "H"),
    ("umc_activity", "H"),
    ("mm_activity", "H"),
    ("power", "H"),
)
_CLOCKS: Fields = (("average_clocks", "7H"), ("gfxclk", "H"), ("other_clocks", "6H"), ("throttle_status", "I"))
_LATER: Fields = (("fan", "H"), ("pcie", "2H"), ("padding", "H"), ("activity_acc", "2I"), ("hbm", "4H"))
_ENERGY: Fields = (("energy", "Q"), ("system_clock", "Q"))
_FOUR: Fields = (
    ("hotspot", "H"),
    ("mem", "H"),
    ("vrsoc", "H"),
    ("power", "H"),
    ("gfx_activity", "H"),
    ("umc_activity", "H"),
)
_STATUS: Fields = (("throttle_status", "I"), ("lock", "I"), ("links", "4H"), ("activity_acc", "2I"), ("pcie", "5Q"))
_CYCLES: Fields = (
    ("counter", "I"),
    ("prochot", "I"),
    ("ppt", "I"),
    ("socket", "I"),
    ("vr", "I"),
    ("hbm", "I"),
)
_LINKS: Fields = (
    ("lock", "I"),
    ("links", "4H"),
    ("activity_acc", "2I"),
    ("pcie", "5Q"),
    ("nak", "2I"),
    ("xgmi", "16Q"),
)
_ENGINES: Fields = (("firmware_time", "Q"), ("gfxclk", "8H"), ("clocks", "12H"), ("uclk", "H"))
_XCP = "8I32H4H8Q"  # of one partition
_XCP_1 = "8I32H4H16Q"
_XCP_2 = "8I40H4H32Q"
_XCP_2_LATER = "8I40H4H40Q"


def _with_partitions(xcp: str) -> Fields:
    return (("partitions", "H"), *((f"xcp{place}", xcp) for place in range(8)), ("recovery", "I"))


_STATE: Fields = (("xgmi_state", "8H"), ("padding", "H"))
_SEVEN: Fields = (*_HEAD, *_FOUR, ("bandwidth", "Q"), *_ENERGY, *_CYCLES, *_LINKS, *_STATE, *_ENGINES)

STRUCTURES: Mapping[str, Fields] = {
    "1.0": (*_HEAD, ("system_clock", "Q"), *_SENSORS, ("energy", "I"), *_CLOCKS, ("fan", "H"), ("pcie", "2B")),
    "1.1": (*_HEAD, *_SENSORS, *_ENERGY, *_CLOCKS, *_LATER),
    "1.2": (*_HEAD, *_SENSORS, *_ENERGY, *_CLOCKS, *_LATER, ("firmware_time", "Q")),
    "1.3": (
        *(*_HEAD, *_SENSORS, *_ENERGY, *_CLOCKS, *_LATER, ("firmware_time", "Q")),
        *(("voltages", "3H"), ("padding1", "H"), ("status", "Q")),
    ),
    "1.4": (*_HEAD, *_FOUR, ("vcn", "4H"), *_ENERGY, *_STATUS, ("xgmi", "16Q"), *_ENGINES, ("padding", "H")),
    "1.5": (
        *(*_HEAD, *_FOUR, ("vcn", "4H"), ("jpeg", "32H"), *_ENERGY, *_STATUS, ("nak", "2I"), ("xgmi", "16Q")),
        *(*_ENGINES, ("padding", "H")),
    ),
    "1.6 of 6.11": (
        *(*_HEAD, *_FOUR, ("vcn", "4H"), ("jpeg", "32H"), *_ENERGY, *_CYCLES, ("throttle_status", "I"), *_LINKS),
        *(*_ENGINES, ("padding", "H")),
    ),
    "1.6 of 6.12": (*_HEAD, *_FOUR, *_ENERGY, *_CYCLES, *_LINKS, *_ENGINES, ("padding", "H")),
    "1.6": (*_HEAD, *_FOUR, *_ENERGY, *_CYCLES, *_LINKS, *_ENGINES, *_with_partitions(_XCP)),
    "1.7": (*_SEVEN, *_with_partitions(_XCP_1)),
    "1.8": (*_SEVEN, *_with_partitions(_XCP_2)),
    "1.8 with totals": (*_SEVEN, *_with_partitions(_XCP_2_LATER)),
}
RESIDENCIES = ("prochot", "ppt", "socket", "vr", "hbm")
# Of 1.9: attribute number, unit (enum amdgpu_metrics_attr_unit), type
ATTRIBUTES = {
    "hotspot": (0, 2, "H"),
    "mem": (1, 2, "H"),
    "power": (3, 3, "H"),
    "gfx_activity": (4, 10, "H"),
    "energy": (7, 0, "Q"),
    "system_clock": (8, 4, "Q"),
    "counter": (9, 0, "I"),
    "prochot": (10, 0, "I"),
    "ppt": (11, 0, "I"),
    "socket": (12, 0, "I"),
    "vr": (13, 0, "I"),
    "hbm": (14, 0, "I"),
    "gfxclk": (33, 1, "8H"),
}


def table(version: str, **values: int | tuple[int, ...]) -> bytes:
    """Return a table of a version; what is not given is unset, all bits 1, as the driver leaves it.

    Args:
        version: of `STRUCTURES`, or "1.9".
        values: of its fields, by name.
    """
    form, content = map(int, version.split()[0].split("."))
    if content == 9:
        return _described(values)
    fields = STRUCTURES[version]
    # "@" places fields as C does, "0Q" aligns the end to the widest of them
    whole = struct.Struct("@" + "".join(kind for _, kind in fields) + "0Q")
    fixed = {"size": whole.size, "format": form, "content": content}
    numbers: list[int] = []
    for name, kind in fields:
        unset = struct.unpack(f"={kind}", b"\xff" * struct.calcsize(f"={kind}"))
        given = {**values, **fixed}.get(name, unset)
        one = given if isinstance(given, tuple) else (given,)
        numbers += one + unset[len(one) :]
    assert set(values) <= {name for name, _ in fields}, f"{version} has no {set(values) - {n for n, _ in fields}}"
    return whole.pack(*numbers)


def cycles(counter: int, **residencies: int) -> dict[str, int]:
    """Return the fields of a counter and its residencies, 0 where none is given."""
    return {"counter": counter, **dict.fromkeys(RESIDENCIES, 0), **residencies}


def _described(values: Mapping[str, int | tuple[int, ...]]) -> bytes:
    body = b""
    for name, value in values.items():
        number, unit, kind = ATTRIBUTES[name]
        many = value if isinstance(value, tuple) else (value,)
        encoding = unit << 24 | "BbHhIiQq".index(kind[-1]) << 20 | number << 10 | len(many)
        body += struct.pack("<Q", encoding) + struct.pack(f"<{len(many)}{kind[-1]}", *many)
    return struct.pack("<HBBi", 8 + len(body), 1, 9, len(values)) + body
