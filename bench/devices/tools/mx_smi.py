"""MetaX: ``mx-smi``.

One run of the overview reads all GPUs: a table of two lines a GPU, whose columns differ between releases (2.1.6 to
2.3.1) and are found by their headings; then the slices (sGPU) where there are any, then the processes. ``mx-smi -L``
gives the uuids. Clocks, memory errors, throttling and serial numbers have options of their own, whose form is not
published: they are unknown here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import ClassVar

from bench.devices.libraries import answers
from bench.devices.source import Fault, ListedDevice, usable
from bench.devices.tools.texts import MIB, address, quantity, reported_text, whole
from bench.devices.tools.tool import ToolSource, VendorTool
from bench.errors import DeviceError, InputError
from bench.record.identities import readable_identifier
from bench.telemetry import Reading

Cells = dict[str, str]  # values by the names of their columns, in small letters
NEEDED = ("gpu", "name", "bus-id", "temp", "power", "memory-usage")
ALIASES = {"pwr:usage/cap": "power", "persistence-m": "persist-m"}
MOST_LETTERS = 500  # of a line of a table
SWITCH = {"on": "on", "enabled": "on", "off": "off", "disabled": "off"}
_HEADING = re.compile(r"Vram Quota|Process Name|GPU Memory|\S+")
# What a column's values look like where they are more, or less, than any one word.
_WORD = r"\S+"
_OF_ALL = r"[^\s/]+\s*/\s*[^\s/]+(?:\s+[A-Za-z]+)?|N/?A|-+"
_VALUES = {
    "gpu": r"\d{1,4}",
    "board": r"\d{1,4}",
    "name": r"\S.*?",
    "power": r"(?:N/A|[^\s/]+)(?:\s*/\s*\S+)?",
    "memory-usage": _OF_ALL,
    "vram quota": _OF_ALL,
    "gpu-state": r"\S.*?",
}
_LISTED = re.compile(r"GPU#\d+\s+.*\s([0-9a-fA-F:.]+)\s+\S.*\(UUID:\s*(\S+?)\)")


class MxSmi(ToolSource):
    """The devices that ``mx-smi`` lists, and their readings."""

    tools: ClassVar[tuple[str, ...]] = ("mx-smi",)
    exposes: ClassVar[tuple[str, ...]] = ("power", "temperature", "processes")
    folder: ClassVar[str] = "/opt/mxdriver/bin"

    def devices(self) -> list[ListedDevice]:
        """Return the GPUs of the overview, with the uuids of the list."""
        printed = self.tool.run()
        self.version = version(printed, "MX-SMI")
        gpus, shares = overview(self.tool, printed), slices(printed)
        attached = re.search(r"Attached GPUs\s*:\s*(\d{1,4})", printed)
        if attached is not None and len(gpus) < int(attached[1]) and "End of Log" not in printed:
            raise self.tool.unknown(
                f"more than {len(gpus)} of {int(attached[1])} GPUs, nor the log's end", self.version
            )
        uuids, boards = self._uuids(), [gpu["board"] for gpu in gpus.values() if "board" in gpu]
        driver, firmware = version(printed, "Kernel Mode Driver Version"), version(printed, "BIOS Version")
        rows = []
        for number, gpu in gpus.items():
            place = address(gpu.get("bus-id"))
            uuid = readable_identifier(uuids.get(place)) if place else None
            row = ListedDevice(
                number,
                reported_text(gpu.get("name")) or "unknown",
                keys=() if uuid is None else (uuid,),
                uuid=uuid,
                pci_address=place,
                # that two GPUs are on one board is shown, and not which board that is
                count_unit="die" if boards.count(gpu.get("board", "")) > 1 else "card",
                firmware=firmware,
                driver=driver,
                memory_bytes=whole(quantity(last_of(gpu, "memory-usage"), "MiB"), MIB) or None,
                power_limit_mw=answers.power_mw(whole(quantity(last_of(gpu, "power"), "W"), 1000)),
                modes=modes(gpu),
                fault=self._fault(number, gpu),
            )
            rows.append(self._share(row, shares.get(number, [])))
        return usable(rows)

    def readings(self, rows: Sequence[ListedDevice]) -> dict[int, Reading | DeviceError]:
        """Return one look at all GPUs, by one run of the tool."""
        printed = self.tool.run()
        gpus, running = overview(self.tool, printed), processes(printed)
        read: dict[int, Reading | DeviceError] = {}
        for row in rows:
            gpu = gpus.get(row.number)
            if gpu is None or address(gpu.get("bus-id")) != row.pci_address:
                continue
            if (why := unavailable(gpu)) is not None:
                read[row.number] = DeviceError("device-failed", why)
                continue
            is_slice = row.count_unit == "slice"
            reading = Reading(
                power_mw=None if is_slice else whole(quantity(first_of(gpu, "power"), "W"), 1000),
                temperature_c=whole(quantity(gpu.get("temp"), "C")),
                utilisation_ppm=None if is_slice else whole(quantity(gpu.get("gpu-util"), "%"), 10_000),
                processes=None if running is None else running.count(row.number),
            )
            if (reading := answers.believed(reading))._replace(processes=None) != Reading():
                read[row.number] = reading
        return read

    def _uuids(self) -> dict[str | None, str]:
        """Return the uuids of the list by PCI address; none of a tool that has no such option."""
        try:
            listed = self.tool.run("-L")
        except InputError:
            return {}
        matches = (_LISTED.search(line[:MOST_LETTERS]) for line in listed.splitlines())
        return {address(match[1]): match[2] for match in matches if match is not None}

    def _fault(self, number: int, gpu: Cells) -> Fault | None:
        missing = [name for name in NEEDED if name not in gpu]
        if missing:
            return Fault.of(self.tool.unknown(f"{missing[0]} of GPU {number}", self.version))
        why = unavailable(gpu)
        return None if why is None else Fault("device-tool-failed", why, self.tool.name)

    def _share(self, row: ListedDevice, shares: Sequence[Cells]) -> ListedDevice:
        """Return a GPU that is cut into slices, or is a virtual function, as the share that it is."""
        function = self.root / "sys/bus/pci/devices" / str(row.pci_address) / "physfn"
        if not shares and not function.exists():
            return row
        quota = whole(quantity(last_of(shares[0], "vram quota"), "MiB"), MIB) if len(shares) == 1 else None
        return row._replace(
            count_unit="slice",
            parent=(row.uuid or row.pci_address) if shares else address(function.resolve().name),
            uuid=None if shares else row.uuid,
            memory_bytes=(quota or None) if shares else row.memory_bytes,
            power_limit_mw=None,
            exposes=tuple(name for name in self.exposes if name != "power"),
        )


def overview(tool: VendorTool, printed: str) -> dict[int, Cells]:
    """Return what the overview reports of each GPU, by its number, from its two lines.

    Raises:
        InputError: there is no such table, or its heading lacks a column that is needed.
    """
    lines = [line.strip() for line in printed.splitlines()]
    border = next((i for i, line in enumerate(lines) if line.startswith("|==") and _above(lines, i, 1)), None)
    if border is None or not any("gpu" in columns(cell) for cell in _above(lines, border, 2)):
        raise tool.unknown("heading of the GPUs' table", version(printed, "MX-SMI"))
    headings = [[columns(cell) for cell in _above(lines, border, above)] for above in (2, 1)]
    names = {name for line in headings for cell in line for name in cell}
    for name in NEEDED:
        if name not in names:
            raise tool.unknown(f'column "{name}" in the heading of the GPUs\' table', version(printed, "MX-SMI"))
    patterns = [[_pattern(cell) for cell in line] for line in headings]
    by_number: dict[int, Cells] = {}
    body = list(_body(lines[border + 1 :]))
    for line, following in pairwise([*body, ""]):
        gpu, rest = _matched(patterns[0], headings[0], line), _matched(patterns[1], headings[1], following)
        if gpu is not None and "gpu" in gpu:
            by_number.setdefault(int(gpu["gpu"]), (rest or {}) | gpu)
    return by_number


def slices(printed: str) -> dict[int, list[Cells]]:
    """Return what is reported of the slices of each GPU, by the GPU's number; those that the tool's process may see."""
    lines = [line.strip() for line in printed.splitlines()]
    by_number: dict[int, list[Cells]] = {}
    title = next((i for i, line in enumerate(lines) if line.startswith("| Sliced GPU")), len(lines))
    border = next((i for i in range(title, len(lines)) if lines[i].startswith("|==")), len(lines))
    headings = [columns(cell) for cell in _above(lines, border, 1)]
    patterns = [_pattern(cell) for cell in headings]
    for line in _body(lines[border + 1 :]):
        share = _matched(patterns, headings, line)
        if share is not None and "gpu" in share:
            by_number.setdefault(int(share["gpu"]), []).append(share)
    return by_number


def processes(printed: str) -> list[int] | None:
    """Return the GPU of each process that the table at the end lists; None where there is no such table."""
    _, title, table = printed.partition("| Process:")
    lines = [line.strip() for line in table.splitlines()]
    heading = next(
        (columns(line.strip("|")) for line in lines if {"gpu", "pid"} <= set(columns(line.strip("|")))), None
    )
    if not title or heading is None:
        return None
    # words are counted from the side of the process's name, which may have blanks, that they stand on
    name = heading.index("process name") if "process name" in heading else len(heading)
    gpu, pid = (i if i < name else i - len(heading) for i in (heading.index("gpu"), heading.index("pid")))
    running = []
    for line in lines:
        words = line.strip("|").split() if line.startswith("|") and len(line) <= MOST_LETTERS else []
        if len(words) >= len(heading) and words[gpu].isdecimal() and words[pid].isdecimal():
            running.append(int(words[gpu][:9]))
    return running if running or "no process found" in table else None


def columns(cell: str) -> list[str]:
    """Return the names of a heading's columns, in small letters, each release's own as one."""
    names = (name.lower() for name in _HEADING.findall(cell[:MOST_LETTERS]))
    return [ALIASES.get(name, name) for name in names]


def first_of(gpu: Cells, column: str) -> str | None:
    """Return what is used, of "used / most"."""
    return re.split(r"\s*/\s*", gpu[column])[0] if column in gpu else None


def last_of(gpu: Cells, column: str) -> str | None:
    """Return the most, of "used / most"; None where only what is used is reported."""
    parts = re.split(r"\s*/\s*", gpu.get(column, ""))
    return parts[-1] if len(parts) > 1 else None


def modes(gpu: Cells) -> tuple[tuple[str, str], ...]:
    """Return the switches that the overview shows."""
    switches = {name: SWITCH.get(gpu.get(column, "").lower()) for name, column in _MODES.items()}
    return tuple((name, state) for name, state in switches.items() if state is not None)


_MODES = {"persistence": "persist-m", "sgpu": "sgpu-m"}


def unavailable(gpu: Cells) -> str | None:
    """Return why a GPU cannot be used, one clause; None where it can."""
    state = gpu.get("gpu-state", "")
    return f"mx-smi reports its state as {state}" if re.match(r"un-?available|not\b", state, re.IGNORECASE) else None


def version(printed: str, name: str) -> str | None:
    """Return a version that the head of the table reports."""
    match = re.search(re.escape(name) + r"[: ]\s*([\w.+-]+)", printed)
    return None if match is None else reported_text(match[1])


def _above(lines: Sequence[str], border: int, lines_above: int) -> list[str]:
    """Return the cells of a line above the border of a heading; none where there is no such line."""
    line = lines[border - lines_above] if 0 <= border - lines_above < len(lines) else ""
    return line.strip("|").split("|") if line.startswith("|") and not line.startswith("|-") else []


def _body(lines: Sequence[str]) -> Iterator[str]:
    """Yield the lines of a table's body, up to what is no table."""
    for line in lines:
        if not line.startswith(("|", "+")):
            return
        if line.startswith("|") and len(line) <= MOST_LETTERS:
            yield line


def _pattern(names: Sequence[str]) -> re.Pattern[str]:
    """Return what a cell with values of these columns looks like."""
    return re.compile(r"\s*" + r"\s+".join(f"({_VALUES.get(name, _WORD)})" for name in names) + r"\s*")


def _matched(patterns: Sequence[re.Pattern[str]], headings: Sequence[Sequence[str]], line: str) -> Cells | None:
    """Return the values of a line by its heading; of two columns of one name the first. None for another form."""
    cells = line.strip("|").split("|")
    if not line.startswith("|") or len(cells) != len(patterns):
        return None
    matched: Cells = {}
    for pattern, names, cell in zip(patterns, headings, cells, strict=True):
        match = pattern.fullmatch(cell) if names else None
        if names and cell.strip() and match is None:
            return None
        for name, value in zip(names, () if match is None else match.groups(), strict=match is not None):
            matched.setdefault(name, value.strip())
    return matched
