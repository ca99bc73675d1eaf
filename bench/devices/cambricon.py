"""Cambricon MLU: ``torch_mlu``, watched through ``cnmon info``.

No whole output of ``cnmon info`` is published: the names are those that public scripts look for. Clocks, memory errors
and throttling are unknown here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar, Literal

from bench.devices.pci import present
from bench.devices.smi import MIB, Tool, address, fields, quantity, told, whole
from bench.devices.smi_backend import SmiBackend, Told, usable
from bench.record.node import CountUnit, readable_identifier
from bench.telemetry import Reading

TWO_CHIPS = {"MLU370-X8": 48 * 10**9}  # cards on which the driver lists each chip, with the memory of the whole card
Heading = tuple[str, ...]


class Cambricon(SmiBackend):
    """Back end of Cambricon MLUs."""

    kind: ClassVar[str] = "mlu"
    record_kind: ClassVar[Literal["gpu", "npu"]] = "npu"
    vendor: ClassVar[str] = "Cambricon"
    vendor_ids: ClassVar[frozenset[int]] = frozenset({0xCABC})
    tools: ClassVar[tuple[str, ...]] = ("cnmon",)
    exposes: ClassVar[tuple[str, ...]] = ("power", "temperature", "processes")
    folder: ClassVar[str] = "/usr/bin"
    files: ClassVar[tuple[str, ...]] = ("dev/cambricon_dev[0-9]*", "dev/cambricon_ctl")
    tool_in_pod: ClassVar[str] = "let the device plug-in put it there: its option --cnmon-path"
    variables: ClassVar[tuple[tuple[str, ...], ...]] = (("MLU_VISIBLE_DEVICES",),)
    torch_type: ClassVar[str] = "mlu"
    plugin: ClassVar[str | None] = "torch_mlu"
    no_fp64: ClassVar[str | None] = "torch_mlu computes FP64 products as FP32: the processor has no FP64 path"

    def rows(self, tool: Tool) -> list[Told]:
        """Return the cards of ``cnmon info``."""
        functions = present(self.vendor_ids, self.root)
        rows = []
        for index, card in cards(tool, tool.run("info")).items():
            model = told(card.get(("Product Name",)))
            if model is None:
                rows.append(Told(number=index, model="unknown", fault=tool.unknown("product name of a card")))
                continue
            memory = whole(quantity(card.get(("Physical Memory Usage", "Total")), "MiB"), MIB)
            parts = [card.get(("PCI", name), "") for name in ("Domain ID", "Bus num", "Device", "Function")]
            place = address("{}:{}:{}.{}".format(*parts))
            unit: CountUnit = "die" if memory and memory * 3 < TWO_CHIPS.get(model, 0) * 2 else "card"
            serial = readable_identifier(card.get(("SN",)))
            row = Told(
                number=index,
                model=model,
                uuid=readable_identifier(card.get(("UUID",))),
                serial=None if unit == "die" else serial,  # of the card: its chips share it
                parent=serial if unit == "die" else None,
                # whether the numbers are hexadecimal is not documented: only an address that exists is one
                pci_address=place if place in functions else None,
                count_unit=unit,
                firmware=told(card.get(("Firmware",))),
                driver=told(card.get(("Driver",))),
                memory_bytes=memory or None,
            )
            rows.append(row)
        return usable(rows)

    def reader(self, tool: Tool, row: Told) -> Callable[[], Reading | None]:
        """Return what takes one reading."""

        def take() -> Reading | None:
            printed = tool.run("info", "-c", str(row.number))
            card = cards(tool, printed).get(row.number)
            if card is None:
                return None
            processes = len(re.findall(r"^\s*PID\s*:\s*\d+", printed, re.MULTILINE))
            return Reading(
                power_mw=whole(quantity(card.get(("Power", "Usage")), "W"), 1000),
                temperature_c=whole(quantity(card.get(("Temperature", "Chip")), "C")),
                utilisation_ppm=whole(quantity(card.get(("Utilization", "MLU Average")), "%"), 10_000),
                processes=processes or None,
            )

        return take


def cards(tool: Tool, printed: str) -> dict[int, dict[Heading, str]]:
    """Return the fields of each "Card N", by N and by headings within the card.

    Raises:
        InputError: there is no card.
    """
    found: dict[int, dict[Heading, str]] = {}
    card: dict[Heading, str] | None = None
    for path, value in fields(printed):
        if (match := re.fullmatch(r"Card (\d{1,4})", path[-1])) is not None:
            card = found.setdefault(int(match[1]), {})
        elif card is not None:
            card.setdefault(tuple(name for name in path if not name.startswith("Card ")), value)
    if not found:
        raise tool.unknown("card")
    return found
