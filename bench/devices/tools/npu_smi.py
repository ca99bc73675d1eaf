"""Huawei Ascend: ``npu-smi``.

A card ("NPU ID") has one or more chips; frameworks count chips by "Chip Logic ID". A chip that shares its card counts
as a die of it, and so does each of the two that make up a 910C. Throttling is unknown here.

A run takes up to 5.4 s, under a lock of the driver. One look at all chips is one run of ``npu-smi info``; what that
does not show, clocks and memory errors, is asked for as far as a look stays below `LOOK_S`, card after card.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from bench.devices.libraries import answers
from bench.devices.source import ListedDevice
from bench.devices.tools.npu_smi_forms import POWER, REFUSED, NpuSmiOverview, flat, mapping, of_chip, overview
from bench.devices.tools.texts import MIB, address, quantity, reported_text, whole
from bench.devices.tools.tool import ToolSource, VendorTool
from bench.devices.vendors.ascend_chips import is_share, name_of, on_its_card
from bench.errors import DeviceError, InputError
from bench.record.identities import readable_identifier
from bench.telemetry import Reading

LOOK_S = 5.0
MOST_CORES, MOST_ERRORS = 4096, 2**31
_BELOW_ZERO = re.compile(r"-\d{1,4}(?:\.\d+)?", re.ASCII)
Arguments = tuple[str, ...]


class NpuSmi(ToolSource):
    """The devices that ``npu-smi`` lists, and their readings."""

    tools: ClassVar[tuple[str, ...]] = ("npu-smi",)
    exposes: ClassVar[tuple[str, ...]] = ("power", "temperature", "processes")
    folder: ClassVar[str] = "/usr/local/sbin"

    def __init__(self, tool: VendorTool, root: Path = Path("/")) -> None:
        super().__init__(tool, root)
        self._chips: dict[str, int] = {}  # that compute, by card
        self._listing = NpuSmiOverview(None, {}, {}, frozenset())  # the overview of the last listing
        self._of_cards: dict[Arguments, str] = {}  # answers of the last listing that are of a whole card
        self._turn = 0  # the further question with which the next look goes on
        self._answered: set[Arguments] = set()
        self._useless: set[Arguments] = set()  # questions that were never answered

    def devices(self) -> list[ListedDevice]:
        """Return the chips of ``npu-smi info -m``, without those that manage."""
        printed = self.tool.run("info", "-m")
        if (said := next((line for line in printed.splitlines() if REFUSED.search(line)), None)) is not None:
            raise self.tool.failed(("info", "-m"), said.strip(), denied=True)
        chips = [] if "There is no NPU card" in printed else mapping(printed)
        if chips is None:
            raise self.tool.unknown("table of chips")
        cards = [chip.card for chip in chips]
        self._chips, self._of_cards = {card: cards.count(card) for card in cards}, {}
        self._listing = overview(self._text("info"))
        self.version = self._listing.version
        return [
            ListedDevice(
                number=c.logic,
                model=name_of(c.name),
                serial=readable_identifier(flat(self._of_card("board", c.card)).get("Serial Number")),
                place=(c.card,) if c.chip is None else (c.card, c.chip),
            )
            for c in chips
        ]

    def complete(self, row: ListedDevice) -> ListedDevice:
        """Return a chip with what the tool reports of it and of its card.

        Raises:
            InputError: the tool fails for the chip's own board.
        """
        card, at = row.place[0], _at(row)
        board = flat(self._of_card("board", card))
        of_device = board if board and len(row.place) == 1 else flat(self.tool.run("info", "-t", "board", *at))
        common = of_chip(self._of_card("common", card), _chip(row))
        shown = self._listing.chips.get((card, _chip(row)), {})
        model = (
            row.model
            if is_share(row.model)
            else name_of(of_device.get("Chip Name") or row.model, of_device.get("NPU Name"))
        )
        die = next(
            (of_device[name] for name in ("VDie ID", "DDie ID", "Die ID") if reported_text(of_device.get(name))), None
        )
        bus = (of_device.get("PCIe Bus Info"), board.get("PCIe Bus Info"), shown.get("Bus-Id"))
        filled = row._replace(
            model=model,
            pci_address=next(filter(None, map(address, bus)), None),
            board_part=reported_text(board.get("Product Name")),
            firmware=reported_text(of_device.get("Firmware Version")) or reported_text(board.get("Firmware Version")),
            driver=reported_text(board.get("Software Version")),
            memory_bytes=self._memory(row, shown),
            units=answers.bounded(quantity(common.get("Aicore Count"), ""), 1, MOST_CORES),
            max_clock_mhz=answers.clock_mhz(quantity(common.get("Aicore Freq(MHZ)"), "")),
        )
        together = self._chips.get(card, 1) > 1 or row.count_unit == "die"
        serial = board.get("Serial Number") if is_share(model) else row.serial or row.parent
        return on_its_card(filled, serial, die, together=together, exposes=self.exposes)

    def readings(self, rows: Sequence[ListedDevice]) -> dict[int, Reading | DeviceError]:
        """Return one look at all chips: one run of the tool, and as many further questions as its time allows."""
        begun = time.monotonic()
        shown = overview(self.tool.run("info"))
        if not shown.chips:
            raise self.tool.unknown("chip in its overview", shown.version)
        took = time.monotonic() - begun
        more: dict[Arguments, str] = {}
        for question in self._questions(rows):
            before = time.monotonic()
            if before - begun + took > LOOK_S:
                break
            more[question] = self._text(*question)
            self._turn += 1
            (self._answered if any(flat(more[question]).values()) else self._useless).add(question)
            took = max(took, time.monotonic() - before)
        self._useless -= self._answered  # a failure of once costs a reading
        read: dict[int, Reading | DeviceError] = {}
        cards: set[str] = set()
        for row in rows:
            reading = self._seen(row, shown, more, with_power=row.place[0] not in cards)
            if reading != Reading():
                read[row.number] = reading
                cards.add(row.place[0])
        return read

    def _questions(self, rows: Sequence[ListedDevice]) -> Iterator[Arguments]:
        """Yield the further questions, each once, from the one that is next in turn on."""
        every = list(
            dict.fromkeys(
                question
                for row in rows
                for question in (("info", "-t", "common", "-i", row.place[0]), ("info", "-t", "ecc", *_at(row)))
                if question not in self._useless
            )
        )
        begin = self._turn
        for place in range(len(every)):
            yield every[(begin + place) % len(every)]

    def _seen(
        self, row: ListedDevice, shown: NpuSmiOverview, more: dict[Arguments, str], *, with_power: bool
    ) -> Reading:
        """Return the reading of one chip from what a look printed.

        Args:
            row: the chip.
            shown: the overview.
            more: answers of further questions.
            with_power: whether no other chip of its card has the card's power.
        """
        card, chip = row.place[0], _chip(row)
        cells = shown.chips.get((card, chip), {})
        of_card = more.get(("info", "-t", "common", "-i", card), "")
        common = of_chip(of_card, chip)
        errors = flat(more.get(("info", "-t", "ecc", *_at(row)), ""))
        counts = [quantity(errors.get(f"{memory} Double Bit Error Count"), "") for memory in ("HBM", "DDR")]
        counted = [known for count in counts if (known := answers.bounded(count, 0, MOST_ERRORS)) is not None]
        power = None
        if with_power and row.count_unit != "slice":
            chips = [chip] if self._chips.get(card, 1) == 1 else [at for on, at in shown.chips if on == card]
            # some cards tell their power with the chip that manages them, and none of those that compute has any
            fields = [shown.chips.get((card, at), {}).get("Power(W)") for at in chips]
            fields += [common[POWER]] if POWER in common else [flat(of_card).get(POWER)]
            watts = (whole(quantity(text, ""), 1000) for text in fields)
            power = next((known for mw in watts if (known := answers.power_mw(mw)) is not None), None)
        use = cells.get("AICore(%)") or cells.get("NPU Util(%)") or common.get("Aicore Usage Rate(%)")
        return Reading(
            power_mw=power,
            temperature_c=_celsius(cells.get("Temp(C)") or common.get("Temperature(C)")),
            clock_mhz=answers.clock_mhz(quantity(common.get("Aicore curFreq(MHZ)"), "")),
            utilisation_ppm=answers.utilisation_ppm(quantity(use, "")),
            ecc_uncorrected=sum(counted) if counted else None,
            processes=shown.processes.get((card, chip), 0) if card in shown.listed else None,
        )

    def _memory(self, row: ListedDevice, shown: dict[str, str]) -> int | None:
        """Return the size of a chip's memory, bytes: of its HBM, else of its DDR."""
        totals = [shown.get(name, "").rpartition("/")[2] for name in ("HBM-Usage(MB)", "Memory-Usage(MB)")]
        sizes = [whole(quantity(text, ""), MIB) for text in totals]
        if not any(sizes):
            usages = flat(self._text("info", "-t", "usages", *_at(row)))
            sizes = [whole(quantity(usages.get(f"{kind} Capacity(MB)"), ""), MIB) for kind in ("HBM", "DDR")]
        return next(filter(None, sizes), None)

    def _of_card(self, kind: str, card: str) -> str:
        """Return what the tool prints of a whole card, asked once a listing; "" where it refuses."""
        question = ("info", "-t", kind, "-i", card)
        if question not in self._of_cards:
            self._of_cards[question] = self._text(*question)
        return self._of_cards[question]

    def _text(self, *arguments: str) -> str:
        """Return what the tool prints; "" where it fails: one question that it does not know costs no other."""
        try:
            return self.tool.run(*arguments)
        except InputError:
            return ""


def _at(row: ListedDevice) -> Arguments:
    """Return the arguments by which the tool is asked for one chip."""
    return ("-i", row.place[0]) if len(row.place) == 1 else ("-i", row.place[0], "-c", row.place[1])


def _chip(row: ListedDevice) -> str:
    return row.place[1] if len(row.place) == 2 else "0"


def _celsius(text: str | None) -> int | None:
    return 0 if text is not None and _BELOW_ZERO.fullmatch(text) else answers.temperature_c(quantity(text, ""))
