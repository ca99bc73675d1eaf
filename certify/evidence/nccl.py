"""The table of nccl-tests, by its labels: out of place and in place, one size a row, and what is said below it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from certify.documents.evidence import BusRun
from certify.evidence.buses import UNKNOWN, RawBus, average_agrees, bus_run, named_collective, with_code
from certify.evidence.numbers import Printed, count, printed, whole_number

_VERSION = re.compile(r"nccl-tests version ([0-9][0-9.]{0,20})")
_PLAN = re.compile(r"^#\s*nThread ([0-9]{1,6}) nGpus ([0-9]{1,6})\b")
_RANK = re.compile(r"^#\s+Rank\s+([0-9]{1,7})(?:\s+Group\s+([0-9]{1,7}))?\s+Pid\b")
_WRONG = re.compile(r"^#\s*Out of bounds values\s*:\s*([0-9]{1,15})\s*(\S*)")
_AVERAGE = re.compile(r"^#\s*Avg bus bandwidth\s*:\s*(\S+)")
_PLACES = {"out-of-place": False, "in-place": True}
_NEEDED = ("algbw", "busbw")


@dataclass
class NcclTable:
    """One run of one benchmark: what stands above its table, the rows, and what is said below."""

    collective: str | None = None
    plan: int | None = None  # nThread x nGpus, of one process
    ranks: int = 0
    groups: set[int] = field(default_factory=set)
    rows: list[RawBus] = field(default_factory=list)
    has_failed: bool = False
    average: Printed | None = None

    @property
    def size(self) -> int | None:
        """Ranks that reduce together; None where the benchmark ran in several groups, or does not say."""
        return None if len(self.groups) > 1 else self.ranks or self.plan


class NcclReader:
    """Reads tables line by line."""

    def __init__(self, most_runs: int) -> None:
        self.tables: list[NcclTable] = []
        self.version = ""
        self._most = most_runs
        self._rows = 0
        self._labels: tuple[str, ...] = ()
        self._places: list[bool] = []
        self._collective: str | None = None  # that was named above the next table

    @property
    def tool(self) -> str:
        """The tool, as its output names itself."""
        return f"nccl-tests {self.version}".strip()

    @property
    def is_full(self) -> bool:
        """Whether there are more rows than a document holds."""
        return self._rows > self._most

    def feed(self, line: str) -> None:
        """Read one line."""
        text = line.strip()
        if text.startswith("#"):
            self._said(text)
        elif self._labels and text[:1].isdigit():
            self._row(text.split())
        elif (name := named_collective(text)) is not None:
            self._collective = name

    def _table(self) -> NcclTable:
        if not self.tables:
            self.tables.append(NcclTable(self._collective))
        return self.tables[-1]

    def _said(self, line: str) -> None:
        """Read a line of the header or of the footer."""
        words = line[1:].split()
        if "size" in words and set(_NEEDED) <= set(words):
            self._labels = tuple(words)
        elif any(word in _PLACES for word in words):
            self._places = [_PLACES[word] for word in words if word in _PLACES]
        elif match := _PLAN.match(line):
            self._begin(int(match[1]) * int(match[2]))
        elif match := _RANK.match(line):
            table = self._table()
            table.ranks = max(table.ranks, int(match[1]) + 1)
            if match[2] is not None and len(table.groups) < 2:
                table.groups.add(int(match[2]))
        elif match := _VERSION.search(line):
            self.version = match[1]
        elif match := _WRONG.match(line):
            self._table().has_failed = int(match[1]) > 0 or match[2] != "OK"
        elif match := _AVERAGE.match(line):
            self._table().average = printed(match[1])
        elif (name := named_collective(line)) is not None:
            self._collective = name
            if "concluded" in line:  # older versions name it below the table alone
                self._table().collective, self._collective = name, None

    def _begin(self, plan: int) -> None:
        """Begin a table; its header names the collective, or a line above it."""
        if self.tables and not self.tables[-1].rows:
            self.tables.pop()
        self.tables.append(NcclTable(self._collective, plan))
        self._labels, self._places, self._collective = (), [], None

    def _row(self, cells: list[str]) -> None:
        size = whole_number(cells[0])
        if size is None or len(cells) < 2 or whole_number(cells[1]) is None:
            return  # a foreign line, or a size of less than one value a rank, which is printed as 0
        self._rows += self._labels.count("algbw")
        if self.is_full:
            return
        table = self._table()
        first = [at for at, label in enumerate(self._labels) if label in ("time", "cputime")]
        is_whole = len(cells) >= len(self._labels) - self._labels.count("timestamp")
        for place, start in enumerate(first):
            in_place = self._places[place] if place < len(self._places) else None
            end = first[place + 1] if place + 1 < len(first) else len(self._labels)
            values = dict(zip(self._labels[start:end], cells[start:end], strict=False)) if is_whole else {}
            time = printed(values.get(self._labels[start], ""))
            algorithm, bus = (printed(values.get(label, "")) for label in _NEEDED)
            wrong = count(values.get("#wrong", ""))
            is_odd = bus is None or (wrong is None and values.get("#wrong") not in (None, "N/A"))
            table.rows.append(RawBus(size, None if is_odd else time, algorithm, bus, wrong, in_place))


def nccl_runs(table: NcclTable) -> list[BusRun]:
    """Return the sizes of a table as documents hold them, with the codes of what was checked."""
    collective = table.collective or UNKNOWN
    runs = [bus_run(row, collective, table.size) for row in table.rows]
    counted = sum(row.wrong or 0 for row in table.rows)
    if table.has_failed and not counted:
        runs = with_code(runs, "bus-wrong-values")
    if table.average is not None and not average_agrees(table.rows, table.average):
        runs = with_code(runs, "bus-average-differs")
    return runs
