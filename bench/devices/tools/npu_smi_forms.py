"""The forms in which ``npu-smi`` prints, read by their headings. Pure: text in, values out.

Source: Huawei, npu-smi command reference; the source of npu-smi in CANN's open driver (npu_info_print.c).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from bench.devices.tools.texts import fields

REFUSED = re.compile(r"-80(?:05|20)(?!\d)", re.ASCII)
POWER = "NPU Real-time Power(W)"
_COLUMN = re.compile(r"NPU ID|Slot ID|Chip ID|Chip Logic ID|Chip Phy-ID|Chip Name|\S+(?: \S+)*")
_HEADING = re.compile(r"NPU ID|NPU Util\(%\)|Process id|Process name|Process memory\(MB\)|\S+")
_BANNER = re.compile(r"npu-smi\s+(\S+)\s+Version:\s*(\S+)")
_IDLE = re.compile(r"No running processes found in NPU\s+(\d+)", re.ASCII)
_NUMBER = re.compile(r"\d{1,5}", re.ASCII)


class NpuSmiChip(NamedTuple):
    """One row of ``npu-smi info -m``.

    Args:
        card: "NPU ID".
        chip: place on the card; None where the tool does not accept it (950).
        logic: by which frameworks mean it.
        name: as it is printed.
    """

    card: str
    chip: str | None
    logic: int
    name: str


class NpuSmiOverview(NamedTuple):
    """What ``npu-smi info`` shows.

    Args:
        version: of the tool.
        chips: (card, chip) -> heading -> value; the chip is "0" where none is printed (950).
        processes: (card, chip) -> how many processes have memory on it.
        listed: cards whose processes are shown, also where there are none.
    """

    version: str | None
    chips: dict[tuple[str, str], dict[str, str]]
    processes: dict[tuple[str, str], int]
    listed: frozenset[str]


def mapping(printed: str) -> list[NpuSmiChip] | None:
    """Return the chips of ``npu-smi info -m`` that compute; None for a table of an unknown form.

    910A, 910B and 310P have the columns NPU ID, Chip ID, Chip Logic ID and Chip Name, 910C has Chip Phy-ID too. 950 has
    Slot ID and no logic id: frameworks take the NPU ID.
    """
    lines = iter(printed.splitlines())
    columns = next((_COLUMN.findall(line) for line in lines if "NPU ID" in line and "Chip Name" in line), [])
    of_cards = {"Slot ID", "Chip Phy-ID"} <= set(columns) and "Chip Logic ID" not in columns
    if not {"NPU ID", "Chip ID", "Chip Name", *(() if of_cards else ("Chip Logic ID",))} <= set(columns):
        return None
    chips: list[NpuSmiChip] = []
    for line in filter(str.strip, lines):
        row = _row(line, columns)
        if row is None or not (_NUMBER.fullmatch(row["NPU ID"]) and _NUMBER.fullmatch(row["Chip ID"])):
            if chips and not line.strip()[0].isdigit():  # a warning behind the table
                break
            return None
        logic = row["NPU ID" if of_cards else "Chip Logic ID"]
        if logic == "-" or row["Chip Name"].lower() == "mcu":  # it manages the card, and computes nothing
            continue
        if _NUMBER.fullmatch(logic) is None:
            return None
        chips.append(NpuSmiChip(row["NPU ID"], None if of_cards else row["Chip ID"], int(logic), row["Chip Name"]))
    return chips if len({chip.logic for chip in chips}) == len(chips) else None


def _row(line: str, columns: list[str]) -> dict[str, str] | None:
    """Return a row as column -> value, of which the name alone may have blanks; None where values are missing."""
    words, at = line.split(), columns.index("Chip Name")
    behind = len(columns) - at - 1
    if len(words) < len(columns):
        return None
    values = [*words[:at], " ".join(words[at : len(words) - behind]), *words[len(words) - behind :]]
    return dict(zip(columns, values, strict=True))


def overview(printed: str) -> NpuSmiOverview:
    """Return what ``npu-smi info`` shows: of each chip two lines, whose headings stand above them in two lines too.

    What is not closed by a rule, as where the output is cut, does not count.
    """
    version, headings, state = None, [], ""
    chips: dict[tuple[str, str], dict[str, str]] = {}
    processes: dict[tuple[str, str], int] = {}
    listed: set[str] = set()
    for block in _blocks(printed):
        text = " ".join(cell for line in block for cell in line)
        if banner := _BANNER.search(text):
            version = banner[1]
        elif "Process id" in text:
            headings, state = [list(map(_HEADING.findall, line)) for line in block[:1]], "processes"
        elif "Power(W)" in text and "Bus-Id" in text:
            headings, state = [list(map(_HEADING.findall, line)) for line in block], "chips"
        elif state == "chips" and len(block) == len(headings):
            values = {
                k: v for line, names in zip(block, headings, strict=True) for k, v in _values(line, names).items()
            }
            if (card := values.get("NPU ID") or values.get("NPU")) is not None:
                chips[card, values.get("Chip", "0")] = values
        elif state == "processes":
            for line in block:
                if idle := _IDLE.search(" ".join(line)):
                    listed.add(idle[1])
                    continue
                values = _values(line, headings[0])
                if (card := values.get("NPU ID") or values.get("NPU")) is not None and values.get("Process id"):
                    listed.add(card)
                    place = card, values.get("Chip", "0")
                    processes[place] = processes.get(place, 0) + 1
    return NpuSmiOverview(version, chips, processes, frozenset(listed))


def _blocks(printed: str) -> list[list[list[str]]]:
    """Return the cells of the lines between the rules of a table, block by block."""
    blocks: list[list[list[str]]] = []
    block: list[list[str]] = []
    for line in map(str.strip, printed.splitlines()):
        if line.startswith("+"):
            blocks += [block] if block else []
            block = []
        elif line.startswith("|") and line.endswith("|") and len(line) > 1:
            block.append([cell.strip() for cell in line[1:-1].split("|")])
    return blocks


def _values(line: list[str], headings: list[list[str]]) -> dict[str, str]:
    """Return the values of a table's line by their headings; a cell with another number of them tells nothing."""
    values: dict[str, str] = {}
    for cell, names in zip(line, headings, strict=False):
        words = re.sub(r"\s*/\s*", "/", cell).split()
        if len(names) == 1 and words:
            values[names[0]] = " ".join(words)
        elif "Name" in names and len(words) > len(names):
            at, behind = names.index("Name"), len(words) - (len(names) - names.index("Name") - 1)
            values |= zip(names, [*words[:at], " ".join(words[at:behind]), *words[behind:]], strict=True)
        elif len(names) == len(words):
            values |= zip(names, words, strict=True)
    return values


def flat(printed: str) -> dict[str, str]:
    """Return the fields of an output as name -> value; of fields with one name the first."""
    values: dict[str, str] = {}
    for path, value in fields(printed):
        values.setdefault(path[-1], value)
    return values


def of_chip(printed: str, chip: str | None) -> dict[str, str]:
    """Return the fields under one "Chip ID" of an output that lists all chips of a card; empty where it is absent.

    Where no chip has a number, as on cards of one chip, all fields are that chip's.
    """
    values: dict[str, str] = {}
    printed_fields = list(fields(printed))
    here = all(path[-1] != "Chip ID" for path, _ in printed_fields)
    for path, value in printed_fields:
        if path[-1] == "Chip ID":
            here = value == (chip or "0")
        elif path[-1] == "Chip Name" and value.lower() in ("mcu", "3559"):  # has a name and no id
            here = False
        elif here:
            values.setdefault(path[-1], value)
    return values
