"""The binary table ``gpu_metrics`` of the amdgpu driver: which of its forms are known, and what a form holds. Pure.

A table begins with its size, the revision of its format and the revision of its content; the place of every field
follows from these three together, and a table of any other three is not read at all.
Source: Linux, drivers/gpu/drm/amd/include/kgd_pp_interface.h (native alignment, no packing); of 1.9, which describes
itself, drivers/gpu/drm/amd/pm/swsmu/smu_cmn.h (packed).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

HEADER = struct.Struct("<HBB")  # size in bytes, format revision, content revision
FORMAT = 1  # of boards; 2 and 3 are of processors with graphics
SELF_DESCRIBING = 9  # content revision
ATTRIBUTE_TYPES = "BbHhIiQq"
ENERGY_UNITS_PER_J = 2**16

# Fields that are read, in the order of `GpuMetrics`: (offset, type) each; None where a form has none, or where what
# it holds depends on the chip. Several values of one type follow each other: (offset, type, count).
Field = tuple[int, str] | tuple[int, str, int] | None


class Layout(NamedTuple):
    """Where the fields of one form stand."""

    temperature: Field
    power: Field
    activity: Field
    clock: Field
    energy: Field = None
    status: Field = None  # independent of the chip, one bit a reason
    counter: Field = None  # of the firmware's cycles; the residencies, in its unit, follow it


_EARLY = Layout((6, "H"), (22, "H"), (16, "H"), (54, "H"))
_SIX = Layout((4, "H"), (10, "H"), (12, "H"), (264, "H", 8), (16, "Q"), None, (32, "I", 6))
LAYOUTS = {  # (content revision, size): of one revision the kernel's and AMD's own driver may have different tails
    (0, 80): Layout((18, "H"), (34, "H"), (28, "H"), (54, "H")),
    (1, 96): _EARLY,
    (2, 104): _EARLY,
    (3, 120): _EARLY._replace(status=(112, "Q")),
    # the driver writes 0 as the throttle status of 1.4 and 1.5, whatever is in force
    (4, 288): Layout((4, "H"), (10, "H"), (12, "H"), (240, "H", 8), (24, "Q")),
    (5, 360): Layout((4, "H"), (10, "H"), (12, "H"), (312, "H", 8), (88, "Q")),
    (6, 312): _SIX,
    (6, 384): Layout((4, "H"), (10, "H"), (12, "H"), (336, "H", 8), (88, "Q"), None, (104, "I", 6)),
    (6, 1664): _SIX,
    (7, 2208): Layout((4, "H"), (10, "H"), (12, "H"), (296, "H", 8), (24, "Q"), None, (40, "I", 6)),
    (8, 3360): Layout((4, "H"), (10, "H"), (12, "H"), (296, "H", 8), (24, "Q"), None, (40, "I", 6)),
    (8, 3872): Layout((4, "H"), (10, "H"), (12, "H"), (296, "H", 8), (24, "Q"), None, (40, "I", 6)),
}
# Attributes of 1.9, by number: what is read, with the unit that it must bear (enum amdgpu_metrics_attr_unit)
TEMPERATURE_ID, POWER_ID, ACTIVITY_ID, ENERGY_ID, COUNTER_ID, CLOCK_ID = 0, 3, 4, 7, 9, 33
UNITS = {TEMPERATURE_ID: 2, POWER_ID: 3, CLOCK_ID: 1}  # degrees Celsius, watts, MHz

RESIDENCIES = ("prochot", "ppt", "socket_thermal", "vr_thermal", "hbm_thermal")  # as they follow the counter
STATUS_BITS = {  # Linux, drivers/gpu/drm/amd/pm/swsmu/inc/amdgpu_smu.h: SMU_THROTTLER_*_BIT
    **{bit: f"ppt{bit}" for bit in range(4)},
    4: "spl",
    5: "fppt",
    6: "sppt",
    7: "sppt_apu",
    16: "tdc_gfx",
    17: "tdc_soc",
    18: "tdc_mem",
    19: "tdc_vdd",
    20: "tdc_cvip",
    21: "edc_cpu",
    22: "edc_gfx",
    23: "apcc",
    32: "temp_gpu",
    33: "temp_core",
    34: "temp_mem",
    35: "temp_edge",
    36: "temp_hotspot",
    37: "temp_soc",
    38: "temp_vr_gfx",
    39: "temp_vr_soc",
    40: "temp_vr_mem0",
    41: "temp_vr_mem1",
    42: "temp_liquid0",
    43: "temp_liquid1",
    44: "vrhot0",
    45: "vrhot1",
    46: "prochot_cpu",
    47: "prochot_gfx",
    56: "ppm",
    57: "fit",
}


class GpuMetrics(NamedTuple):
    """What one table holds; None is what its form has not, or what the driver left unset (all bits 1).

    Args:
        temperature_c: of the hottest spot.
        power_w: of the socket.
        activity_percent: of the compute engines.
        clock_mhz: the highest of the compute engines.
        energy: counter, in 2^-16 J.
        status: throttle reasons in force, one bit each (`STATUS_BITS`).
        counter: of the firmware's cycles.
        residencies: how many of those cycles each of `RESIDENCIES` was in force.
    """

    temperature_c: int | None = None
    power_w: int | None = None
    activity_percent: int | None = None
    clock_mhz: int | None = None
    energy: int | None = None
    status: int | None = None
    counter: int | None = None
    residencies: tuple[int, ...] | None = None

    @property
    def has_throttle_reasons(self) -> bool:
        """Whether tables of this form hold throttle reasons."""
        return self.status is not None or self.residencies is not None


def gpu_metrics(content: bytes) -> GpuMetrics | None:
    """Return what a table holds; None for a form that is not known, a cut one among them.

    Args:
        content: of the file, whole.
    """
    if len(content) < HEADER.size:
        return None
    size, form, revision = HEADER.unpack_from(content)
    if form != FORMAT or size != len(content):
        return None
    if revision == SELF_DESCRIBING:
        return _self_described(content)
    layout = LAYOUTS.get((revision, size))
    return None if layout is None else _laid_out(content, layout)


def reasons_of(status: int) -> tuple[str, ...]:
    """Return the names of the reasons in a status; one without a name here is "reason_0x..."."""
    bits = [bit for bit in range(status.bit_length()) if status >> bit & 1]
    return tuple(sorted(STATUS_BITS.get(bit, f"reason_{1 << bit:#x}") for bit in bits))


def reasons_between(before: GpuMetrics, after: GpuMetrics) -> tuple[str, ...] | None:
    """Return the reasons that were in force between two tables; None where that cannot be said.

    Some firmware copies the counter into the residencies, which would be throttling without an end.

    Args:
        before: an earlier table of the same device.
        after: a later one, with another counter.
    """
    if before.residencies is None or after.residencies is None or after.counter is None or before.counter is None:
        return None
    if after.counter < before.counter or after.counter in after.residencies:
        return None
    grown = [b - a for a, b in zip(before.residencies, after.residencies, strict=True)]
    if min(grown) < 0:
        return None
    return tuple(sorted(name for name, cycles in zip(RESIDENCIES, grown, strict=True) if cycles))


def _values(content: bytes, field: Field) -> list[int]:
    """Return the values of a field that are set."""
    if field is None:
        return []
    offset, kind, count = field if len(field) == 3 else (*field, 1)
    unset = (1 << 8 * struct.calcsize(f"<{kind}")) - 1
    return [value for value in struct.unpack_from(f"<{count}{kind}", content, offset) if value != unset]


def _laid_out(content: bytes, layout: Layout) -> GpuMetrics:
    first = [next(iter(_values(content, field)), None) for field in layout]
    cycles = _values(content, layout.counter)
    whole = len(cycles) == 1 + len(RESIDENCIES)
    return GpuMetrics(
        temperature_c=first[0],
        power_w=first[1],
        activity_percent=first[2],
        clock_mhz=max(_values(content, layout.clock), default=None),
        energy=first[4],
        status=first[5],
        counter=cycles[0] if whole else None,
        residencies=tuple(cycles[1:]) if whole else None,
    )


def _self_described(content: bytes) -> GpuMetrics | None:
    try:
        attributes = dict(_attributes(content))
    except (struct.error, KeyError):
        return None
    first = {number: next(iter(values), None) for number, values in attributes.items()}
    cycles = [first.get(COUNTER_ID + place) for place in range(1 + len(RESIDENCIES))]
    known = [value for value in cycles if value is not None]
    whole = len(known) == len(cycles)
    return GpuMetrics(
        temperature_c=first.get(TEMPERATURE_ID),
        power_w=first.get(POWER_ID),
        activity_percent=first.get(ACTIVITY_ID),
        clock_mhz=max(attributes.get(CLOCK_ID, ()), default=None),
        energy=first.get(ENERGY_ID),
        counter=known[0] if whole else None,
        residencies=tuple(known[1:]) if whole else None,
    )


def _attributes(content: bytes) -> Iterator[tuple[int, list[int]]]:
    """Yield (number, values that are set) of a table that describes itself.

    Raises:
        struct.error: it ends before its attributes do, or goes on behind them.
        KeyError: a type or unit is not known.
    """
    (count,) = struct.unpack_from("<i", content, HEADER.size)
    offset = HEADER.size + 4
    for _ in range(count):
        (encoding,) = struct.unpack_from("<Q", content, offset)
        unit, kind, number, instances = (
            encoding >> 24 & 0xFF,
            encoding >> 20 & 0xF,
            encoding >> 10 & 0x3FF,
            encoding & 0x3FF,
        )
        if kind >= len(ATTRIBUTE_TYPES) or unit != UNITS.get(number, unit):
            raise KeyError(number)
        field = (offset + 8, ATTRIBUTE_TYPES[kind], instances)
        yield number, _values(content, field)
        offset += 8 + instances * struct.calcsize(f"<{ATTRIBUTE_TYPES[kind]}")
    if offset != len(content):
        raise struct.error
