"""Iluvatar CoreX: ``ixsmi --query-gpu`` (CSV, as nvidia-smi's), read in the order of the names that were asked.

A BI-V150 card is two chips, each listed as a device. Clocks, memory errors, processes and throttling are unknown here.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import ClassVar

from bench.devices.libraries.answers import believed
from bench.devices.libraries.nvml_like import chip_or_card
from bench.devices.source import Fault, ListedDevice, usable
from bench.devices.tools.texts import MIB, VERSION, address, quantity, reported_text, whole
from bench.devices.tools.tool import ToolSource, VendorTool
from bench.errors import DeviceError, InputError, one_line
from bench.record.identities import readable_identifier
from bench.telemetry import Reading

LIST = ("index", "name", "uuid", "serial", "pci.bus_id", "memory.total", "driver_version")
POWERS = ("gpu.power.draw", "power.draw")  # of CoreX 4 and of CoreX 3
WATCH = ("index", "temperature.gpu", "utilization.gpu", *POWERS)
OPTIONAL = ("driver_version", "serial", *POWERS)  # that a release may not know
_VERSION = re.compile(rf"\b(IX-ML):\s*{VERSION}")  # of the library that the tool reads: it prints no other
OVERDUE = "did not end"  # a tool that hangs is not asked again


class Ixsmi(ToolSource):
    """The devices that ``ixsmi`` lists, and their readings."""

    tools: ClassVar[tuple[str, ...]] = ("ixsmi",)
    exposes: ClassVar[tuple[str, ...]] = ("power", "temperature")
    folder: ClassVar[str] = "/usr/local/corex/bin"

    def __init__(self, tool: VendorTool, root: Path = Path("/")) -> None:
        super().__init__(tool, root)
        self._watched: tuple[str, ...] | None = None  # what this release can be asked for

    def devices(self) -> list[ListedDevice]:
        """Return the GPUs that a query lists."""
        _, rows = known(self.tool, LIST)
        listed = usable([self._listed(number, values) for number, values in enumerate(rows)])
        self.version = self.tool.version(_VERSION)  # in the head of the table for people, and in no query
        return listed

    def _listed(self, number: int, values: dict[str, str]) -> ListedDevice:
        place, model = address(values["pci.bus_id"]), reported_text(values["name"])
        driver = reported_text(values.get("driver_version"))
        if place is None or model is None:  # the tool writes an error in place of the values of a lost GPU
            fault = Fault.of(self.tool.unknown("name and PCI address in a row", driver))
            return ListedDevice(number=number, model="unknown", pci_address=place, fault=fault)
        total = whole(quantity(values["memory.total"], "MiB"), MIB) or 0
        uuid = readable_identifier(values["uuid"])
        return ListedDevice(
            number=index_of(self.tool, values),
            model=model,
            keys=(uuid,) if uuid else (),
            uuid=uuid,
            serial=readable_identifier(values.get("serial")),
            pci_address=place,
            count_unit=chip_or_card(model, total),
            driver=driver,
            memory_bytes=total or None,
        )

    def reading(self, row: ListedDevice) -> Reading | None:
        """Return the present reading of one GPU, out of a look at all."""
        read = self.readings([row]).get(row.number)
        return read if isinstance(read, Reading) else None

    def readings(self, rows: Sequence[ListedDevice]) -> dict[int, Reading | DeviceError]:
        """Return one look at all GPUs, by one run of the tool."""
        if self._watched is None:
            self._watched, answers = known(self.tool, WATCH)
        else:
            answers = query(self.tool, self._watched)
        looks = {index_of(self.tool, values): believed(_reading(values)) for values in answers}
        return {row.number: looks[row.number] for row in rows if looks.get(row.number, Reading()) != Reading()}


def _reading(values: dict[str, str]) -> Reading:
    powers = (whole(quantity(values.get(name), "W"), 1000) for name in POWERS)
    hot = values.get("temperature.gpu")
    return Reading(
        power_mw=next((power for power in powers if power is not None), None),
        temperature_c=next((whole(one) for unit in ("C", "") if (one := quantity(hot, unit)) is not None), None),
        utilisation_ppm=whole(quantity(values.get("utilization.gpu"), "%"), 10_000),
    )


def known(tool: VendorTool, names: Sequence[str]) -> tuple[tuple[str, ...], list[dict[str, str]]]:
    """Return the names that this release of the tool knows, and its answer to them.

    Those that it complains of are left out; where it does not say which, as few as possible.

    Args:
        tool: that is asked.
        names: of which some are `OPTIONAL`.

    Raises:
        InputError: it does not answer the others alone.
    """
    optional = [name for name in names if name in OPTIONAL]
    tried = [gone for count in range(len(optional) + 1) for gone in combinations(reversed(optional), count)]
    first: InputError | None = None
    while True:
        left = tuple(name for name in names if name not in tried[0])
        try:
            return left, query(tool, left)
        except InputError as error:
            blamed = {name for name in optional if re.search(rf"(?<![\w.]){re.escape(name)}(?![\w.])", error.what)}
            tried = [gone for gone in tried[1:] if len(blamed) == len(optional) or blamed <= set(gone)]
            first = first or error
            if not tried or OVERDUE in error.what:
                raise first from None


def query(tool: VendorTool, names: Sequence[str]) -> list[dict[str, str]]:
    """Return the answer to a query: for each GPU the values by their names.

    Raises:
        InputError: it has no row of as many values, or one with another number of them.
    """
    printed = tool.run(f"--query-gpu={','.join(names)}", "--format=csv,noheader")
    try:
        rows = [[value.strip() for value in row] for row in csv.reader(printed.splitlines()) if row]
    except csv.Error:
        raise tool.unknown("CSV") from None
    rows = [row for row in rows if row[0].isdecimal()]  # not a banner before them
    if not rows or any(len(row) != len(names) for row in rows):
        said = next((line.strip() for line in printed.splitlines() if line.strip()), "nothing")
        raise tool.unknown(f"rows of {len(names)} values in: {one_line(said, 80)}")
    return [dict(zip(names, row, strict=True)) for row in rows]


def index_of(tool: VendorTool, values: dict[str, str]) -> int:
    """Return the index that a row begins with.

    Raises:
        InputError: it begins with none.
    """
    index = whole(quantity(values["index"], ""))
    if index is None:
        raise tool.unknown("index of a GPU")
    return index
