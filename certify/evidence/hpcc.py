"""The summary at the end of an output of HPCC: the best HPL run with more digits, and whether all tests passed."""

from __future__ import annotations

import re

from certify.evidence.linpack import LinpackReader, PrintedBlock, RawRun
from certify.evidence.linpack_checks import EPS, residual_agrees, work
from certify.evidence.numbers import Printed, printed, whole_number

_VERSION = re.compile(r"HPC Challenge Benchmark version ([0-9][0-9.]{0,20})")
_CLOCK = re.compile(r"Current time \(([0-9]{1,10})\) is ")
_PAIR = re.compile(r"^(Success|CommWorldProcs|HPL_[A-Za-z0-9]+)=(.*)$")
_NORMS = {"ax-b": "HPL_RnormI", "a": "HPL_AnormI", "x": "HPL_XnormI", "b": "HPL_BnormI"}
_MOST_KEYS = 100


class HpccReader:
    """Reads what HPCC prints around HPL's own table, line by line."""

    def __init__(self, linpack: LinpackReader) -> None:
        self._linpack = linpack
        self._summary: dict[str, str] = {}
        self._blocks: list[PrintedBlock] = []
        self._is_inside = False

    def feed(self, line: str) -> None:
        """Read one line."""
        if match := _VERSION.search(line):
            self.finish()
            self._is_inside = True
            self._linpack.inside(f"HPCC {match[1]}")
            self._blocks = self._linpack.blocks[-1:]
        elif not self._is_inside:
            return
        elif match := _CLOCK.match(line):
            self._linpack.clock(int(match[1]))
        elif (match := _PAIR.match(line)) and len(self._summary) < _MOST_KEYS:
            self._summary[match[1]] = match[2].strip()[:64]
        elif line.startswith("End of HPC Challenge tests"):
            self.finish()

    def finish(self) -> None:
        """Compare the summary with the table, once both are read, or the file ends."""
        if not self._is_inside:
            return
        self._is_inside = False
        self._linpack.inside(None)
        for block in self._blocks:
            compare(block, self._summary)
        self._summary = {}


def compare(block: PrintedBlock, summary: dict[str, str]) -> None:
    """Give the best run the summary's exact time; mark every run where the two contradict each other."""
    if not summary.keys() >= {"Success", "HPL_Tflops", "HPL_time", "HPL_N"}:
        _mark(block.runs, "hpcc-summary-missing")
        return
    if summary["Success"] != "1":
        _mark(block.runs, "hpcc-not-successful")
    time = printed(summary["HPL_time"])
    matching = [run for run in block.runs if time is not None and _is_same(run, time, summary)]
    if not matching:
        _mark(block.runs, "hpcc-summary-differs")
    for run in matching[:1]:
        run.exact_time = time
    ranks = whole_number(summary.get("CommWorldProcs", ""))
    _mark([run for run in block.runs if ranks and (run.p or 1) * (run.q or 1) > ranks], "hpl-grid-does-not-fit")


def _mark(runs: list[RawRun], code: str) -> None:
    for run in runs:
        run.codes.append(code)


def _is_same(run: RawRun, time: Printed, summary: dict[str, str]) -> bool:
    """Whether the summary speaks of this row: the same shape, time and rate, and a residual that its norms give."""
    shape = [whole_number(summary.get(key, "")) for key in ("HPL_N", "HPL_NB", "HPL_nprow", "HPL_npcol")]
    rate = printed(summary["HPL_Tflops"])
    if shape != [run.n, run.nb, run.p, run.q] or run.n is None or run.time is None or run.rate is None or rate is None:
        return False
    norms = {name: value for name, key in _NORMS.items() if (value := printed(summary.get(key, ""))) is not None}
    residual = printed(run.residual or "")
    return time.low > 0 and all(
        (
            run.time.meets(time.low, time.high),
            run.rate.meets(rate.low * 1000, rate.high * 1000),
            rate.meets(work(run.n) / (time.high * 10**12), work(run.n) / (time.low * 10**12)),
            residual is None or residual_agrees(residual, norms, EPS, run.n),
        )
    )
