"""Iluvatar CoreX: a torch of the CUDA style, watched through ``ixsmi --query-gpu`` (CSV, as nvidia-smi's).

A BI-V150 card is two chips, each listed as a device. Clocks, memory errors, processes and throttling are unknown here.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from typing import ClassVar

from bench.devices.smi import MIB, Tool, address, quantity, told, whole
from bench.devices.smi_backend import SmiBackend, Told, usable
from bench.errors import InputError
from bench.record.node import CountUnit, readable_identifier
from bench.telemetry import Reading

LIST = ("index", "name", "uuid", "serial", "pci.bus_id", "memory.total", "driver_version")
WATCH = ("index", "temperature.gpu", "utilization.gpu")
POWERS = ("gpu.power.draw", "power.draw")  # of CoreX 4 and of CoreX 3
TWO_CHIPS = {"iluvatarbi-v150": 64 * 10**9}  # with the memory of the whole card


class Iluvatar(SmiBackend):
    """Back end of Iluvatar CoreX GPUs."""

    kind: ClassVar[str] = "corex"
    vendor: ClassVar[str] = "Iluvatar CoreX"
    vendor_ids: ClassVar[frozenset[int]] = frozenset({0x1E3E})
    tools: ClassVar[tuple[str, ...]] = ("ixsmi",)
    exposes: ClassVar[tuple[str, ...]] = ("power", "temperature")
    folder: ClassVar[str] = "/usr/local/corex/bin"
    files: ClassVar[tuple[str, ...]] = ("dev/iluvatar[0-9]*",)
    variables: ClassVar[tuple[tuple[str, ...], ...]] = (("CUDA_VISIBLE_DEVICES",),)

    def rows(self, tool: Tool) -> list[Told]:
        """Return the GPUs that a query tells."""
        rows = []
        for number, values in enumerate(query(tool, LIST)):
            _, name, uuid, serial, bus, memory, driver = values
            place, model = address(bus), told(name)
            if place is None or model is None:  # the tool writes an error in place of the values of a lost GPU
                fault = tool.unknown("name and PCI address in a row", told(driver))
                rows.append(Told(number=number, model="unknown", pci_address=place, fault=fault))
                continue
            total = whole(quantity(memory, "MiB"), MIB) or None
            whole_card = TWO_CHIPS.get("".join(model.lower().split()), 0)
            unit: CountUnit = "die" if total and total * 3 < whole_card * 2 else "card"
            own = readable_identifier(uuid)
            card = readable_identifier(serial)
            row = Told(
                number=index_of(tool, values),
                model=model,
                keys=(own,) if own else (),
                uuid=own,
                serial=None if unit == "die" else card,  # of the card: its chips share it
                parent=card if unit == "die" else None,
                pci_address=place,
                count_unit=unit,
                driver=told(driver),
                memory_bytes=total,
            )
            rows.append(row)
        return usable(rows)

    def reader(self, tool: Tool, row: Told) -> Callable[[], Reading | None]:
        """Return what takes one reading, with the name of the power that this release knows."""
        names: list[tuple[str, ...]] = []

        def take() -> Reading | None:
            if not names:
                names.append(watchable(tool))
            values = next((v for v in query(tool, names[0]) if index_of(tool, v) == row.number), None)
            if values is None:
                return None
            found = dict(zip(names[0], values, strict=True))
            power = next((found[name] for name in POWERS if name in found), None)
            return Reading(
                power_mw=whole(quantity(power, "W"), 1000),
                temperature_c=whole(quantity(found["temperature.gpu"], "C") or quantity(found["temperature.gpu"], "")),
                utilisation_ppm=whole(quantity(found["utilization.gpu"], "%"), 10_000),
            )

        return take


def watchable(tool: Tool) -> tuple[str, ...]:
    """Return what this release of the tool can be asked for: with the power under one of its names, or without."""
    for power in POWERS:
        try:
            query(tool, (*WATCH, power))
        except InputError:
            continue
        return (*WATCH, power)
    return WATCH


def query(tool: Tool, names: Sequence[str]) -> list[list[str]]:
    """Return the answer to a query, a list of values for each GPU.

    Raises:
        InputError: a row has another number of values, as where the tool does not know one of the names.
    """
    printed = tool.run(f"--query-gpu={','.join(names)}", "--format=csv,noheader")
    try:
        rows = [[value.strip() for value in row] for row in csv.reader(printed.splitlines()) if row]
    except csv.Error:
        raise tool.unknown("CSV") from None
    if not rows or any(len(row) != len(names) for row in rows):
        raise tool.unknown(f"rows of {len(names)} values")
    return rows


def index_of(tool: Tool, values: Sequence[str]) -> int:
    """Return the index that a row begins with.

    Raises:
        InputError: it begins with none.
    """
    index = whole(quantity(values[0], ""))
    if index is None:
        raise tool.unknown("index of a GPU")
    return index
