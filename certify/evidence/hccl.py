"""The table of hccl_test, by its labels: size, time, the algorithm's bandwidth, and whether the values were checked."""

from __future__ import annotations

import re
from dataclasses import replace

from certify.evidence.buses import RawBus, named_collective
from certify.evidence.numbers import printed, whole_number

_LABELS = {  # the program prints aveg_time, its manual avg_time
    "data_size": "size",
    "aveg_time": "time",
    "avg_time": "time",
    "alg_bandwidth": "algorithm",
    "check_result": "check",
}
_ERRORS = re.compile(r"total err is ([0-9]{1,15})")
_VERDICTS = ("success", "failed", "NULL")
_FAILED = "check result failed"  # of one rank, on a line of its own before or after the row


class HcclReader:
    """Reads a table line by line."""

    tool = "hccl_test"

    def __init__(self, most_runs: int) -> None:
        self.rows: list[tuple[RawBus, str | None]] = []  # each with the collective that was named last
        self._collective: str | None = None
        self._most = most_runs
        self._rows = 0
        self._labels: tuple[str, ...] = ()
        self._errors = 0
        self._has_failed = False  # a rank's values, of the next row or of the last

    @property
    def is_full(self) -> bool:
        """Whether there are more rows than a document holds."""
        return self._rows > self._most

    def feed(self, line: str) -> None:
        """Read one line."""
        if _FAILED in line:
            self._has_failed = True
            self.rows[-1:] = [
                (replace(raw, has_failed=True, wrong=raw.wrong or 1), name) for raw, name in self.rows[-1:]
            ]
        elif "|" in line:
            cells = [cell.strip() for cell in line.split("|")]
            names = tuple(_LABELS.get(cell.split("(")[0].rstrip(":"), "") for cell in cells)
            if {"size", "time", "algorithm"} <= set(names):
                self._labels = names
            elif self._labels:
                self._row(dict(zip(self._labels, cells, strict=False)))
        elif match := _ERRORS.search(line):
            self._errors = max(self._errors, int(match[1]))
        elif (name := named_collective(line)) is not None:
            self._collective = name

    def _row(self, cells: dict[str, str]) -> None:
        size = whole_number(cells.get("size", ""))
        if size is None:
            return  # a foreign line with bars
        self._rows += 1
        if self.is_full:
            return
        verdict = cells.get("check", "").split(" ")[0]
        time, algorithm = printed(cells.get("time", "")), printed(cells.get("algorithm", ""))
        has_failed = verdict == "failed" or self._has_failed
        wrong = max(self._errors, 1) if has_failed else 0 if verdict == "success" else None
        is_known = verdict in _VERDICTS or "check" not in self._labels
        raw = RawBus(size, time if is_known else None, algorithm, None, wrong, None, has_failed, is_rounded=True)
        self.rows.append((raw, self._collective))
        self._has_failed = False
        self._errors = 0
