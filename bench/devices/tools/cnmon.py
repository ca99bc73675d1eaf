"""Cambricon MLU: ``cnmon info``, which reports all cards in one run.

No whole output of ``cnmon info`` is published: the names are those that public scripts look for. Clocks, memory errors,
throttling and shares of a card are unknown here. Its JSON is written to a file of the working folder, and is not asked
for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from bench.devices.libraries import answers
from bench.devices.libraries.cndev import chip_of_two
from bench.devices.pci import present
from bench.devices.source import Fault, ListedDevice, usable
from bench.devices.tools.texts import MIB, VERSION, address, fields, quantity, reported_text, whole
from bench.devices.tools.tool import ToolSource, VendorTool
from bench.errors import DeviceError
from bench.record.identities import readable_identifier
from bench.telemetry import Reading

CAMBRICON = frozenset({0xCABC})  # PCI vendor id
PLACE = ("Domain ID", "Bus num", "Device", "Function")
_VERSION = re.compile(rf"\bCNMON\s+{VERSION}")
Heading = tuple[str, ...]


class CnmonCard(NamedTuple):
    """What is printed of one card: its fields by headings and name, and how many processes."""

    fields: dict[Heading, str]
    processes: int


class Cnmon(ToolSource):
    """The devices that ``cnmon`` lists, and their readings."""

    tools: ClassVar[tuple[str, ...]] = ("cnmon",)
    exposes: ClassVar[tuple[str, ...]] = ("power", "temperature", "processes")
    folder: ClassVar[str] = "/usr/bin"

    def devices(self) -> list[ListedDevice]:
        """Return the cards of ``cnmon info``."""
        functions = present(CAMBRICON, self.root)
        printed = cards(self.tool, self.tool.run("info"))
        listed = usable([self._listed(index, card.fields, functions) for index, card in printed.items()])
        # in the head of the table for people: no whole output of ``cnmon version`` is published
        self.version = self.tool.version(_VERSION)
        return listed

    def readings(self, rows: Sequence[ListedDevice]) -> dict[int, Reading | DeviceError]:
        """Return one look at the cards: one run of the tool."""
        printed = cards(self.tool, self.tool.run("info"))
        read = {row.number: reading_of(printed[row.number]) for row in rows if row.number in printed}
        return {number: reading for number, reading in read.items() if reading != Reading()}

    def _listed(self, index: int, card: dict[Heading, str], functions: Sequence[str]) -> ListedDevice:
        model = reported_text(card.get(("Product Name",)))
        if model is None:
            return ListedDevice(
                number=index, model="unknown", fault=Fault.of(self.tool.unknown("product name of a card"))
            )
        place = address("{}:{}:{}.{}".format(*(card.get(("PCI", name), "") for name in PLACE)))
        row = ListedDevice(
            number=index,
            model=model,
            uuid=readable_identifier(card.get(("UUID",))),
            serial=readable_identifier(card.get(("SN",))),
            # whether the numbers are hexadecimal is not documented: only an address that exists is one
            pci_address=place if place in functions else None,
            firmware=reported_text(card.get(("Firmware",))),
            driver=reported_text(card.get(("Driver",))),
            memory_bytes=whole(quantity(card.get(("Physical Memory Usage", "Total")), "MiB"), MIB) or None,
            power_limit_mw=answers.power_mw(whole(quantity(card.get(("Power", "Cap")), "W"), 1000)),
        )
        return chip_of_two(row)


def reading_of(card: CnmonCard) -> Reading:
    """Return the reading of one card's report; what it does not say is None."""
    printed = card.fields
    return Reading(
        power_mw=answers.power_mw(whole(quantity(printed.get(("Power", "Usage")), "W"), 1000)),
        temperature_c=answers.temperature_c(quantity(printed.get(("Temperature", "Chip")), "C")),
        utilisation_ppm=answers.utilisation_ppm(quantity(printed.get(("Utilization", "MLU Average")), "%")),
        processes=card.processes or None,
    )


def cards(tool: VendorTool, printed: str) -> dict[int, CnmonCard]:
    """Return what is printed of each "Card N", by N.

    Raises:
        InputError: there is no card.
    """
    by_number: dict[int, CnmonCard] = {}
    index: int | None = None
    for path, value in fields(printed[: printed.rfind("\n") + 1]):  # a line without its end is cut off
        if (match := re.fullmatch(r"Card (\d{1,4})", path[-1])) is not None:
            index = int(match[1])
            by_number.setdefault(index, CnmonCard({}, 0))
        elif index is not None:
            card = by_number[index]
            card.fields.setdefault(tuple(name for name in path if not name.startswith("Card ")), value)
            if path[-1] == "PID" and value.isdigit():
                by_number[index] = card._replace(processes=card.processes + 1)
    if not by_number:
        raise tool.unknown("card")
    return by_number
