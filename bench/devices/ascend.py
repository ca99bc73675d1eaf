"""Huawei Ascend: ``torch_npu``, watched through ``npu-smi``.

A card ("NPU ID") has one or more chips; frameworks count chips by "Chip Logic ID". A chip that shares its card counts
as a die of it, and so does each of the two that make up a 910C. Throttling is unknown here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar, Literal

from bench.devices.smi import MIB, Tool, address, fields, quantity, told, whole
from bench.devices.smi_backend import SmiBackend, Told
from bench.record.node import CountUnit, readable_identifier
from bench.telemetry import Reading

_MAP = re.compile(
    r"\s*(\d{1,5})\s+(\d{1,3})\s+(\d{1,5})\s+(\S.*?)\s*", re.ASCII
)  # NPU ID, Chip ID, Chip Logic ID, name
_MANAGEMENT = re.compile(r"\s*\d+\s+\d+\s+-\s+(?:Mcu|MCU|mcu).*", re.ASCII)  # has no logic id: computes nothing
_PROCESS = re.compile(r"^\s*Process id\s*:\s*\d+", re.ASCII | re.IGNORECASE | re.MULTILINE)
_REFUSED = re.compile(r"-80(?:05|20)(?!\d)", re.ASCII)
POWER = "NPU Real-time Power(W)"
_SLICE = re.compile(r"vir|-\d+c", re.IGNORECASE)  # virtual NPUs: vir04, Ascend910-8c


class Ascend(SmiBackend):
    """Back end of Ascend processors."""

    kind: ClassVar[str] = "npu"
    record_kind: ClassVar[Literal["gpu", "npu"]] = "npu"
    vendor: ClassVar[str] = "Huawei"
    vendor_ids: ClassVar[frozenset[int]] = frozenset({0x19E5})
    vga_counts: ClassVar[bool] = False  # the console graphics of Huawei's servers
    tools: ClassVar[tuple[str, ...]] = ("npu-smi",)
    exposes: ClassVar[tuple[str, ...]] = ("power", "clock", "temperature", "ecc", "processes")
    folder: ClassVar[str] = "/usr/local/sbin"
    variables: ClassVar[tuple[tuple[str, ...], ...]] = (("ASCEND_RT_VISIBLE_DEVICES",),)
    torch_type: ClassVar[str] = "npu"
    plugin: ClassVar[str | None] = "torch_npu"
    files: ClassVar[tuple[str, ...]] = (
        "dev/davinci[0-9]*",
        "dev/davinci_manager",
        "dev/devmm_svm",
        "dev/hisi_hdc",
    )
    tool_in_pod: ClassVar[str] = "let Ascend Docker Runtime put it there: the plug-in is to be started after it"
    no_fp64: ClassVar[str | None] = "torch_npu computes FP64 products in FP32: the processor has no FP64 matrix path"

    def hint(self, what: str) -> str | None:
        """Return what -8005 and -8020 of the driver mean; None for the rest."""
        meaning = "the device belongs to another container, or this process is not in the group of its device files"
        return meaning if _REFUSED.search(what) else None

    def rows(self, tool: Tool) -> list[Told]:
        """Return the chips of ``npu-smi info -m``, without those that manage."""
        printed = tool.run("info", "-m")
        if (said := next((line for line in printed.splitlines() if _REFUSED.search(line)), None)) is not None:
            raise tool.failed(("info", "-m"), said.strip(), denied=True)
        head, *lines = [line for line in printed.splitlines() if line.strip()] or [""]
        if not re.search(r"NPU ID\s+Chip ID\s+Chip Logic ID\s+Chip Name", head):
            raise tool.unknown("heading of the chips' table")
        found = []
        for line in lines:
            if _MANAGEMENT.fullmatch(line):
                continue
            match = _MAP.fullmatch(line)
            if match is None:
                raise tool.unknown("chip in a row of its table")
            found.append(Told(number=int(match[3]), model=name_of(match[4]), place=(match[1], match[2])))
        if len({row.number for row in found}) != len(found):
            raise tool.unknown("distinct logic id of each chip")
        cards = [row.place[0] for row in found]
        return [r._replace(count_unit="die") if cards.count(r.place[0]) > 1 else r for r in found]

    def fill(self, tool: Tool, row: Told) -> Told:
        """Return a chip with what its card and itself tell."""
        card, chip = row.place
        board = flat(tool.run("info", "-t", "board", "-i", card))
        own = flat(tool.run("info", "-t", "board", "-i", card, "-c", chip))
        memory = flat(tool.run("info", "-t", "usages", "-i", card, "-c", chip))
        common = of_chip(tool.run("info", "-t", "common", "-i", card), chip)
        model = name_of(own.get("NPU Name") or own.get("Chip Name") or row.model)
        unit: CountUnit = "die" if row.count_unit == "die" or model.startswith("Ascend910_") else "card"
        die = readable_identifier(own.get("VDie ID") or own.get("Die ID"))
        serial = readable_identifier(board.get("Serial Number"))
        parent = serial if unit == "die" else None
        if _SLICE.search(model) or _SLICE.search(row.model):
            model, unit, parent, die = row.model, "slice", die or serial, None
        capacity = quantity(memory.get("HBM Capacity(MB)"), "") or quantity(memory.get("DDR Capacity(MB)"), "")
        return row._replace(
            model=model,
            serial=serial if unit == "card" else None,  # of the card: its chips share it
            die_id=die,
            pci_address=address(own.get("PCIe Bus Info")) or address(board.get("PCIe Bus Info")),
            parent=parent,
            bin=bin_of(model),
            board_part=told(board.get("Product Name")),
            count_unit=unit,
            firmware=told(own.get("Firmware Version")) or told(board.get("Firmware Version")),
            driver=told(board.get("Software Version")),
            memory_bytes=whole(capacity, MIB) or None,
            units=whole(quantity(common.get("Aicore Count"), "")) or None,
            max_clock_mhz=whole(quantity(common.get("Aicore Freq(MHZ)"), "")) or None,
        )

    def reader(self, tool: Tool, row: Told) -> Callable[[], Reading | None]:
        """Return what takes one reading: three runs at once, since no one of them tells errors and processes too."""
        card, chip = row.place
        commands = (
            ("info", "-t", "common", "-i", card),
            ("info", "-t", "ecc", "-i", card, "-c", chip),
            ("info", "-t", "proc-mem", "-i", card, "-c", chip),
        )

        def take() -> Reading | None:
            of_card, of_memory, processes = tool.run_together(*commands)
            common, errors = of_chip(of_card, chip), flat(of_memory)
            # some cards tell their power with the chip that manages them: of one that computes alone it is its own
            power = common.get(POWER) or (flat(of_card).get(POWER) if row.count_unit == "card" else None)
            counts = [errors.get(f"{memory} Double Bit Error Count") for memory in ("HBM", "DDR")]
            known = [count for text in counts if (count := whole(quantity(text, ""))) is not None]
            return Reading(
                power_mw=whole(quantity(power, ""), 1000),
                temperature_c=whole(quantity(common.get("Temperature(C)"), "")),
                clock_mhz=whole(quantity(common.get("Aicore curFreq(MHZ)"), "")),
                utilisation_ppm=whole(quantity(common.get("Aicore Usage Rate(%)"), ""), 10_000),
                ecc_uncorrected=sum(known) if known else None,
                processes=count_processes(processes),
            )

        return take


def flat(printed: str) -> dict[str, str]:
    """Return the fields of an output as name -> value; of fields with one name the first."""
    found: dict[str, str] = {}
    for path, value in fields(printed):
        found.setdefault(path[-1], value)
    return found


def of_chip(printed: str, chip: str) -> dict[str, str]:
    """Return the fields under one "Chip ID" of an output that tells all chips of a card; empty where it is absent.

    Where no chip has a number, as on cards of one chip, what stands there is that chip's.
    """
    found: dict[str, str] = {}
    told = list(fields(printed))
    here = all(path[-1] != "Chip ID" for path, _ in told)
    for path, value in told:
        if path[-1] in ("Chip ID", "Chip Name"):  # a management chip has a name and no id
            here = path[-1] == "Chip ID" and value == chip
        elif here:
            found.setdefault(path[-1], value)
    return found


def name_of(text: str) -> str:
    """Return a chip's name as the frameworks write it: "Ascend910B3", "Ascend910_9382"."""
    bare = "".join(text.split())
    if re.fullmatch(r"93\d\d", bare):
        return f"Ascend910_{bare}"
    return bare if bare.lower().startswith("ascend") else f"Ascend{bare}"


def bin_of(model: str) -> str | None:
    """Return the grade of silicon that a name tells: 910B1 .. 910B4-1, 9381 .. 9392; None where it tells none."""
    match = re.fullmatch(r"Ascend(910B\d(?:-\d)?|910_(93\d\d))", model)
    return None if match is None else match[2] or match[1]


def count_processes(printed: str) -> int | None:
    """Return how many processes an output of ``-t proc-mem`` lists; None where its form is unknown."""
    if "No process in device" in printed:
        return 0
    return len(_PROCESS.findall(printed)) or None
