"""The report of HPCG: lines `Section::Key=value`, of which the last says whether the result is valid."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from certify.documents.evidence import SolveRun
from certify.evidence.numbers import Printed, printed, scaled, whole_number

OFFICIAL_S = 1800  # a result that is submitted ran for at least so long
_SIX_DIGITS = Fraction(5, 10**6)  # half a unit of the last, of the number at most: a rate of one digit is as exact
_FINAL = re.compile(r"HPCG result is (VALID|INVALID)\b\.?(?: with a GFLOP/s rating of\s*[=:]\s*(\S+))?")
_INVALID = re.compile(r"HPCG result is\s*[=:]\s*(INVALID)")
_PAIR = re.compile(r"^[# ]*([A-Z][^:=]*)::([^=]+)=(.*)$")
_CHECKS = ("Spectral Convergence Tests", "Departure from Symmetry", "Iteration Count", "Reproducibility Information")
_NVIDIA = re.compile(r"(HPCG-NVIDIA)\s+v?([0-9][0-9.]{0,20})\s+--")
_VERSION = re.compile(r"^[# ]*version=([0-9][0-9.]{0,20})")
_RATING, _RAW, _FLOP, _TOTAL = (
    "GFLOP/s Summary::Total with convergence and optimization phase overhead",
    "GFLOP/s Summary::Raw Total",
    "Floating Point Operations Summary::Total",
    "Benchmark Time Summary::Total",
)
_READ = (_RATING, _RAW, _FLOP, _TOTAL, "Linear System Information::Number of Equations")


@dataclass
class HpcgRun:
    """One report, as printed."""

    values: dict[str, str] = field(default_factory=dict)
    has_failed_check: bool = False
    verdict: str | None = None
    rating: str = ""


class HpcgReader:
    """Reads the reports line by line."""

    def __init__(self, most_runs: int) -> None:
        self.runs: list[HpcgRun] = []
        self.tool = "HPCG"  # as its output names itself
        self._most = most_runs
        self._open: HpcgRun | None = None

    @property
    def is_full(self) -> bool:
        """Whether there are more reports than a document holds."""
        return len(self.runs) > self._most

    def feed(self, line: str) -> None:
        """Read one line."""
        if match := _INVALID.search(line) or _FINAL.search(line):
            self._end(match[1], match[2] if match.lastindex == 2 else "")
        elif match := _PAIR.match(line):
            self._pair(f"{match[1]}::{match[2]}", match[3].strip())
        elif match := _NVIDIA.search(line):
            self.tool = f"{match[1]} {match[2]}"
        elif self.tool == "HPCG" and (match := _VERSION.match(line)):
            self.tool = f"HPCG {match[1]}"
        elif line.strip(" #") == "Machine Summary=":
            self._open = None

    def _run(self) -> HpcgRun:
        if self._open is None:
            self._open = HpcgRun()
            if not self.is_full:
                self.runs.append(self._open)
        return self._open

    def _pair(self, key: str, value: str) -> None:
        if key in _READ:
            self._run().values[key] = value[:64]
        elif key.startswith(_CHECKS) and key.endswith("::Result") and value == "FAILED":
            self._run().has_failed_check = True

    def _end(self, verdict: str, rating: str) -> None:
        run = self._run()
        run.verdict, run.rating = verdict, rating[:64]
        self._open = None


def hpcg_run(run: HpcgRun) -> SolveRun:
    """Return a report as documents hold it, with the codes of what was checked."""
    numbers = {key: _number(run.values.get(key, "")) for key in _READ}
    rate = _number(run.rating) or numbers[_RATING]
    time = numbers[_TOTAL]
    return SolveRun(
        n=whole_number(run.values.get("Linear System Information::Number of Equations", "")),
        nb=None,
        p=None,
        q=None,
        elapsed_ms=scaled(time.value, 1000) or None if time else None,
        rate_mflop_s=(scaled(rate.value, 1000) if rate else None) or 0,
        residual_ppm=None,
        started_at=None,
        ended_at=None,
        codes=tuple(dict.fromkeys([*_checked(run, numbers), "solve-times-unknown"])),
    )


def _number(text: str) -> Printed | None:
    """Return a number as C++ prints it: to six digits, without the zeros at its end."""
    number = printed(text)
    return None if number is None else number._replace(half=min(number.half, abs(number.value) * _SIX_DIGITS))


def _checked(run: HpcgRun, numbers: dict[str, Printed | None]) -> Iterator[str]:
    if run.verdict != "VALID" or run.has_failed_check:
        yield "hpcg-invalid"
    stated, rating, raw, flop, time = (_number(run.rating), *(numbers[key] for key in (_RATING, _RAW, _FLOP, _TOTAL)))
    if rating is None or raw is None or flop is None or time is None or time.low <= 0 or rating.value <= 0:
        yield "hpcg-incomplete"
        return
    agrees = (
        stated is None or stated.meets(rating.low, rating.high),
        raw.meets(flop.low / (time.high * 10**9), flop.high / (time.low * 10**9)),
        rating.low <= raw.high,
    )
    if not all(agrees) or (stated is None and run.verdict == "VALID"):
        yield "hpcg-rate-differs"
    if time.high < OFFICIAL_S:
        yield "hpcg-below-official-time"
