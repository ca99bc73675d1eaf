"""MetaX: a torch of the CUDA style, watched through ``mx-smi``.

The overview table tells models and readings, ``mx-smi -L`` the uuids. Clocks, memory errors, throttling and serial
numbers have options of their own, whose form is not published: they are unknown here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar, NamedTuple

from bench.devices.smi import MIB, Tool, address, quantity, told, whole
from bench.devices.smi_backend import SmiBackend, Told, usable
from bench.errors import InputError
from bench.record.node import readable_identifier
from bench.telemetry import Reading

_HEAD = re.compile(r"\|\s*Temp\s+Pwr:Usage/Cap\s+Perf\s*\|\s*Memory-Usage\s*\|\s*GPU-State\s*\|")
_FIRST = re.compile(r"\|\s*(\d{1,4})\s+(\S.*?)\s+(?:On|Off|N/A)\s*\|\s*(\S+)\s*\|\s*(\S+)\s+\S.*?\s*\|")
_SECOND = re.compile(r"\|\s*(\S+)\s+(\S+)\s*/\s*\S+\s+\S+\s*\|\s*(\S+)\s*/\s*(\S+\s*\w*)\s*\|.*\|")
_PROCESS = re.compile(r"\|\s*(\d{1,4})\s+(\d+)\s+\S.*\|")
_LISTED = re.compile(r"GPU#\d+\s+\S+\s+(\S+)\s+\S+\s*\(UUID:\s*(\S+?)\)\s*")


class Row(NamedTuple):
    """One GPU of the overview."""

    number: int
    name: str
    bus: str
    use: str
    temperature: str
    power: str
    total: str


class MetaX(SmiBackend):
    """Back end of MetaX GPUs."""

    kind: ClassVar[str] = "maca"
    vendor: ClassVar[str] = "MetaX"
    vendor_ids: ClassVar[frozenset[int]] = frozenset({0x9999})
    tools: ClassVar[tuple[str, ...]] = ("mx-smi",)
    exposes: ClassVar[tuple[str, ...]] = ("power", "temperature", "processes")
    folder: ClassVar[str] = "/opt/mxdriver/bin"
    files: ClassVar[tuple[str, ...]] = ("dev/mxcd", "dev/dri/renderD*")
    variables: ClassVar[tuple[tuple[str, ...], ...]] = (("CUDA_VISIBLE_DEVICES",),)

    def rows(self, tool: Tool) -> list[Told]:
        """Return the GPUs of the overview, with the uuids of the list."""
        printed = tool.run()
        try:
            listed = tool.run("-L")
        except InputError:
            listed = ""  # an older tool: the devices stand without uuids
        uuids = {
            address(match[1]): match[2] for line in listed.splitlines() if (match := _LISTED.fullmatch(line.strip()))
        }
        rows, driver = [], version(printed, "Kernel Mode Driver Version")
        for row in overview(tool, printed):
            place = address(row.bus)
            told_of = Told(
                number=row.number,
                model=row.name,
                uuid=readable_identifier(uuids.get(place)) if place else None,
                pci_address=place,
                firmware=version(printed, "BIOS Version"),
                driver=driver,
                memory_bytes=whole(quantity(row.total, "MiB"), MIB) or None,
                fault=None if row.total else tool.unknown(f"second line of GPU {row.number}", driver),
            )
            rows.append(told_of._replace(keys=(told_of.uuid,) if told_of.uuid else ()))
        return usable(rows)

    def reader(self, tool: Tool, row: Told) -> Callable[[], Reading | None]:
        """Return what takes one reading."""

        def take() -> Reading | None:
            printed = tool.run()
            found = next((one for one in overview(tool, printed) if one.number == row.number), None)
            if found is None:
                return None
            return Reading(
                power_mw=whole(quantity(found.power, "W"), 1000),
                temperature_c=whole(quantity(found.temperature, "C")),
                utilisation_ppm=whole(quantity(found.use, "%"), 10_000),
                processes=processes(printed, row.number),
            )

        return take


def overview(tool: Tool, printed: str) -> list[Row]:
    """Return the GPUs of the overview table, each of two lines; a second of another form tells nothing.

    Raises:
        InputError: the table's heading is missing.
    """
    lines = printed.splitlines()
    if not any(_HEAD.fullmatch(line.strip()) for line in lines):
        raise tool.unknown("heading of the GPUs' table", version(printed, "MX-SMI"))
    rows = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if line.strip().startswith("| Process"):
            break
        if (first := _FIRST.fullmatch(line.strip())) is not None:
            second = _SECOND.fullmatch(following.strip())
            rest = ("", "", "") if second is None else (second[1], second[2], second[4])
            rows.append(Row(int(first[1]), first[2], first[3], first[4], *rest))
    return rows


def processes(printed: str, index: int) -> int | None:
    """Return how many processes the table at the end lists for a GPU; None where there is no such table."""
    _, found, table = printed.partition("| Process")
    if not found:
        return None
    listed = [match[1] for line in table.splitlines() if (match := _PROCESS.fullmatch(line.strip()))]
    return listed.count(str(index)) if listed or "no process found" in table else None


def version(printed: str, name: str) -> str | None:
    """Return a version that the head of the table tells."""
    match = re.search(re.escape(name) + r"[: ]\s*([\w.+-]+)", printed)
    return None if match is None else told(match[1])
