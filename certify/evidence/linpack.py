"""The table that HPL and its descendants print, read by its labels: HPL 2.0 to 2.3, rocHPL, HPL-NVIDIA, Intel, HPCC.

Lines of other programs may stand between any two: a line is read where it bears a label, and passed by where not. What
a run is worth is decided afterwards (`linpack_checks`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timezone

from certify.evidence.numbers import Printed, printed, whole_number

_LABELS = ("T/V", "N", "NB", "P", "Q", "Time", "Gflops")
_PARAMETER = re.compile(r"(N|NB|P|Q)\s*:((?:\s+[0-9]+)+)\s*")
_MORE = re.compile(r"\s{8,}[0-9]+(?:\s+[0-9]+)*\s*")  # a list of parameters goes on
_ROW = re.compile(r"W[RC][0-9A-Z]*(?:\s|$)")
_SHORT_VARIANT = re.compile(r"W[RC][0-9]")  # of HPL-NVIDIA and of rocHPL-MxP
_NVIDIA = re.compile(r"HPL-NVIDIA\s+v?([0-9][0-9.]{0,20})?")
_VERSION = re.compile(r"HPLinpack\s+([0-9]{1,4}\.[0-9]{1,4})")
_TIME = re.compile(r"HPL(MXP)?_pdgesv\(\) (start|end) time\s+(.*)")
_MIXED = re.compile(r"^(HPL-AI\S{0,16}|HPL-MxP|rocHPL-MxP)\s+v?([0-9][0-9.]{0,20})?.*--")
_CTIME = re.compile(r"([A-Z][a-z]{2}) ([A-Z][a-z]{2}) ([0-9]{1,2}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([0-9]{4})")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MOST_PARAMETERS = 1000  # of one list; HPL itself takes 20
RESIDUAL = re.compile(r"\|\|ax-b\|\|_oo/\(eps\*\(.*?\)\*n\)=(.*?)(?:\.{3,}(passed|failed)?|$)")
NORM = re.compile(r"\|\|(ax-b|a|x|b)\|\|_oo[.=]*=(.+)$")
_THRESHOLD = re.compile(r"scaled residuals are less than\s+(\S+)")
_FINISHED = re.compile(r"Finished\s+([0-9]+) tests with the following results")
_COUNT = re.compile(r"([0-9]+) tests completed and passed residual checks,")
_SCORE = re.compile(r"Final Score:\s+(\S+)\s+GFLOPS")


@dataclass
class RawRun:
    """One row of the table with what stands below it, as printed. None: not printed, or unreadable."""

    variant: str
    n: int | None = None
    nb: int | None = None
    p: int | None = None
    q: int | None = None
    time: Printed | None = None
    rate: Printed | None = None
    per_device: Printed | None = None
    score: Printed | None = None  # rocHPL says its rate twice
    is_damaged: bool = False
    start: int | None = None  # seconds since the epoch of a local time, as if it were UTC
    end: int | None = None
    has_odd_time: bool = False  # a start or end that is no time, or whose weekday is not that of its date
    residual: str | None = None
    verdict: str | None = None
    norms: dict[str, Printed] = field(default_factory=dict)
    epochs: tuple[int | None, int | None] = (None, None)  # of the clock that HPCC prints before and after the section
    exact_time: Printed | None = None  # of HPCC's summary
    codes: list[str] = field(default_factory=list)


@dataclass
class PrintedBlock:
    """What was printed from one header to the end of its tests.

    `runs` are the rows; `finished` and `passed` are what the tool counted at the end.
    """

    tool: str
    version: tuple[int, ...] = ()
    is_nvidia: bool = False
    is_mixed: bool = False
    has_header: bool = True
    parameters: dict[str, set[int]] = field(default_factory=dict)
    threshold: Printed | None = None
    runs: list[RawRun] = field(default_factory=list)
    finished: int | None = None
    passed: int | None = None
    is_unchecked: bool = False  # a threshold of 0 or less: the tool says so at the end, and prints no threshold
    has_end: bool = False

    @property
    def is_per_device(self) -> bool:
        """Whether one rank computes on one device, and the table says so."""
        return self.is_nvidia or any(run.per_device for run in self.runs)


class LinpackReader:
    """Reads the tables line by line. Memory grows with the number of rows alone."""

    def __init__(self, most_runs: int) -> None:
        self.blocks: list[PrintedBlock] = []
        self._most = most_runs
        self._rows = 0
        self._labels: tuple[str, ...] = _LABELS
        self._list: str | None = None  # the parameter whose list may go on
        self._open: RawRun | None = None
        self._awaits_header = False  # HPL-NVIDIA prints HPL's own header below its own
        self._is_inside = False  # the section of HPL in the output of HPCC
        self._epoch: int | None = None
        self._running: list[RawRun] = []  # whose section's end was not printed yet

    @property
    def is_full(self) -> bool:
        """Whether there are more rows than a document holds."""
        return self._rows > self._most

    def feed(self, line: str) -> None:
        """Read one line."""
        squashed = line.strip()
        if self._list is not None and _MORE.fullmatch(line):
            self._note_parameters(self._list, squashed)
            return
        self._list = None
        if _ROW.match(squashed):
            self._row(squashed)
        elif squashed.startswith("T/V") and set(_LABELS) <= set(squashed.split()):
            self._labels = tuple(one for one in squashed.split("(")[0].split() if one in _LABELS)
            self._open = None
        elif "||" in squashed:
            self._norm("".join(squashed.split()).lower())
        elif "HPL" in squashed:
            self._named(squashed)
        elif match := _PARAMETER.fullmatch(squashed):
            self._list = match[1]
            self._note_parameters(match[1], match[2])
        elif "residual" in squashed or "tests" in squashed or "Tests" in squashed:
            self._counted(squashed)
        elif self._open and (match := _SCORE.search(squashed)):
            self._open.score = printed(match[1])

    def clock(self, epoch: int) -> None:
        """Note the time that HPCC prints between its sections; what ran since the one before ended by now."""
        for run in self._running:
            run.epochs = (run.epochs[0], epoch)
        self._running = []
        self._epoch = epoch

    def inside(self, name: str | None) -> None:
        """Note that what follows belongs to a suite that prints HPL's header within its own output; None: no more."""
        if name is None:
            self._is_inside = False
            return
        self._start(PrintedBlock(name))
        self._is_inside = True

    def _block(self) -> PrintedBlock:
        if not self.blocks:
            self.blocks.append(PrintedBlock("HPL", has_header=False))
        return self.blocks[-1]

    def _note_parameters(self, name: str, text: str) -> None:
        values = self._block().parameters.setdefault(name, set())
        if len(values) < _MOST_PARAMETERS:
            values.update(int(one) for one in text.split()[:_MOST_PARAMETERS] if len(one) < 16)

    def _start(self, block: PrintedBlock) -> None:
        if self.blocks and not self.blocks[-1].runs:
            self.blocks.pop()  # memory does not grow with headers that nothing follows
        self.blocks.append(block)
        self._labels, self._open, self._awaits_header = _LABELS, None, False

    def _named(self, line: str) -> None:
        """Read a line that names HPL: a header, or when a run started and ended."""
        if match := _TIME.search(line):
            if match[1]:
                self._block().is_mixed = True
            self._time(match[2], match[3].strip())
        elif (match := _NVIDIA.search(line)) and "--" in line:
            version = tuple(int(part) for part in (match[1] or "").split(".") if part.isascii() and part.isdigit())
            self._start(PrintedBlock(f"HPL-NVIDIA {match[1] or ''}".strip(), version, is_nvidia=True))
            self._awaits_header = True
        elif match := _VERSION.search(line):
            if self._awaits_header or self._is_inside:
                self._awaits_header = False
            else:
                self._start(PrintedBlock(f"HPLinpack {match[1]}"))
        elif match := _MIXED.search(line):
            self._start(PrintedBlock(f"{match[1]} {match[2] or ''}".strip(), is_mixed=True))
            self._awaits_header = True

    def _row(self, line: str) -> None:
        self._rows += 1
        if self.is_full:
            return
        block = self._block()
        text, _, device = line.partition("(")
        cells = dict(zip(self._labels, text.split(), strict=False))
        n, nb, p, q = (whole_number(cells.get(label, "")) for label in ("N", "NB", "P", "Q"))
        time, rate = printed(cells.get("Time", "")), printed(cells.get("Gflops", ""))
        run = RawRun(cells.get("T/V", "")[:32], n, nb, p, q, time, rate, epochs=(self._epoch, None))
        run.per_device = printed(device.strip(" )")) if device else None
        known = None not in (n, nb, p, q, time, rate)
        is_whole = len(text.split()) == len(self._labels) and (not device or run.per_device is not None)
        # Below two rows of one header, nothing says of which of them the residual is that follows.
        shares_residual = self._open is not None and self._open.residual is None and not block.is_unchecked
        run.is_damaged = not known or not is_whole or shares_residual
        if _SHORT_VARIANT.fullmatch(run.variant) and not block.is_nvidia and not device:
            block.is_mixed = True  # no other tool that prints this table leaves out the algorithm
        block.runs.append(run)
        if self._epoch is not None:
            self._running.append(run)
        self._open = run

    def _time(self, which: str, text: str) -> None:
        if self._open is None:
            return
        moment = _local_s(" ".join(text.split()))
        if moment is None:
            self._open.has_odd_time = True
        elif which == "start":
            self._open.start = moment
        else:
            self._open.end = moment

    def _norm(self, squashed: str) -> None:
        """Read a residual or a norm; the line that explains the residual has no value, and is none."""
        if self._open is None:
            return
        if (at := squashed.find("||ax-b||_oo/(eps*")) >= 0:
            self._residual(self._open, squashed[at:])
        elif (match := NORM.search(squashed)) and (value := printed(match[2])) is not None:
            self._open.norms.setdefault(match[1], value)

    @staticmethod
    def _residual(run: RawRun, squashed: str) -> None:
        if match := RESIDUAL.match(squashed):
            run.is_damaged |= run.residual is not None  # two residuals below one row
            run.residual, run.verdict = match[1], match[2]

    def _counted(self, line: str) -> None:
        """Read the threshold, or how many tests the tool counted at the end."""
        block = self._block()
        if match := _THRESHOLD.search(line):
            block.threshold = printed(match[1])
            block.is_unchecked = block.threshold is not None and block.threshold.value <= 0
        elif "tests completed without checking" in line:
            block.is_unchecked = True
        elif match := _FINISHED.search(line):
            block.finished = int(match[1][:15])
            self._open = None
        elif block.finished is not None and (match := _COUNT.search(line)):
            block.passed = int(match[1][:15])
        elif line.startswith("End of Tests."):
            block.has_end = True


def _local_s(text: str) -> int | None:
    """Return a local time as C prints it in seconds since the epoch as if it were UTC; None for no such time."""
    match = _CTIME.fullmatch(text)
    if match is None or match[2] not in _MONTHS or not "1970" <= match[7] <= "2999":
        return None
    day, hour, minute, second, year = (int(match[group]) for group in (3, 4, 5, 6, 7))
    try:
        moment = datetime(year, _MONTHS.index(match[2]) + 1, day, hour, minute, min(second, 59), tzinfo=timezone.utc)
    except ValueError:
        return None
    is_that_day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[moment.weekday()] == match[1]
    return int(moment.timestamp()) if is_that_day else None
