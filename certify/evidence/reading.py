"""The front door: bytes of another tool's output in, its runs with their codes out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from bench.errors import InputError
from certify.documents.evidence import EvidenceKind, SolveRun
from certify.evidence.buses import UNKNOWN, bus_run
from certify.evidence.hccl import HcclReader
from certify.evidence.hpcc import HpccReader
from certify.evidence.hpcg import HpcgReader, hpcg_run
from certify.evidence.lines import Lines
from certify.evidence.linpack import LinpackReader, PrintedBlock
from certify.evidence.linpack_checks import lists_too_few, lists_too_many, mark_repeated, solve_run
from certify.evidence.mxp import MxpReader, mxp_run
from certify.evidence.nccl import NcclReader, NcclTable, nccl_runs
from certify.evidence.nccl_json import read_report
from certify.evidence.output import MOST_RUNS, Family, ReaderOptions, ToolOutput, partition_runs

NOTHING_MORE = ReaderOptions()
_SIGNS: dict[Family, tuple[str, ...]] = {  # by which the output of each family is known
    "hpl": ("HPLinpack ", "HPL MxP Result", "HPCG result is", "HPC Challenge Benchmark version"),
    "nccl-tests": ("# nThread ", "# Out of bounds values", '"nccl_version":'),
    "hccl-test": ("data_size(Bytes):",),
}


def read_output(family: Family, content: bytes, where: object, options: ReaderOptions = NOTHING_MORE) -> ToolOutput:
    """Return what a file of another tool says, each run with the codes of what was checked of it.

    Args:
        family: which tools are looked for.
        content: of the file.
        where: how an error names the file.
        options: what the tool does not print.

    Raises:
        InputError: not text, too large, of no tool of the family or of two, more runs than a document holds.
    """
    lines = Lines(content, where)
    if family == "hpl":
        return _Hpl(options).read(lines)
    return _read_nccl(lines, options) if family == "nccl-tests" else _read_hccl(lines, options)


class _Watched:
    """Lines of one file, and the first that is of another family's tools."""

    def __init__(self, lines: Lines, family: Family) -> None:
        self.lines = lines
        self.stranger: Family | None = None
        self._signs = [(sign, other) for other, signs in _SIGNS.items() if other != family for sign in signs]

    def __iter__(self) -> Iterator[str]:
        for line in self.lines:
            if self.stranger is None:
                self.stranger = next((other for sign, other in self._signs if sign in line), None)
            yield line

    def check(self, tools: Iterable[str], what: str, is_full: bool) -> None:
        """Check that the file is output of one tool.

        Raises:
            InputError: of none, of two, or with too many runs.
        """
        known = list(dict.fromkeys(tools))
        where = self.lines.where
        if is_full:
            fix = "bring the benchmark's runs in several files"
            raise InputError("evidence-too-many-runs", f"has more than {MOST_RUNS} runs", where=where, fix=fix)
        if not known:
            other = f"it is output of {self.stranger}: petaseal import {self.stranger}" if self.stranger else None
            raise InputError("evidence-not-recognised", f"has no run of {what}", where=where, fix=other)
        others = [*known, *([self.stranger] if self.stranger else [])]
        if len(others) > 1:
            what = f"holds output of two tools, {others[0]} and {others[1]}"
            raise InputError("evidence-two-tools", what, where=where, fix="bring each tool's output as its own file")


class _Hpl:
    """Reads the output of HPL, of what descends from it, and of HPCG."""

    def __init__(self, options: ReaderOptions) -> None:
        self._options = options
        self._table = LinpackReader(MOST_RUNS)
        self._hpcc = HpccReader(self._table)
        self._mxp = MxpReader(MOST_RUNS)
        self._hpcg = HpcgReader(MOST_RUNS)

    def read(self, lines: Lines) -> ToolOutput:
        watched = _Watched(lines, "hpl")
        for line in watched:
            self._mxp.feed(line)
            if not self._mxp.is_inside:
                self._hpcc.feed(line)
                self._table.feed(line)
                self._hpcg.feed(line)
        self._hpcc.finish()
        blocks = [block for block in self._table.blocks if block.runs]
        mark_repeated(blocks)
        tools = [(_tool(block), _kind(block)) for block in blocks]
        if self._mxp.runs:
            tools.append((self._mxp.tool, "hpl-mxp"))
        if self._hpcg.runs:
            tools.append((self._hpcg.tool, "hpcg"))
        is_full = self._table.is_full or self._mxp.is_full or self._hpcg.is_full
        watched.check([f"{tool} ({kind})" for tool, kind in tools], "HPL, HPCC, HPL-MxP or HPCG", is_full)
        tool, kind = tools[0]
        output = ToolOutput(
            tool,
            kind,
            codes=tuple(_file_codes(blocks, lines.skipped)),
            is_per_device=kind == "hpl-mxp" or any(block.is_per_device for block in blocks),
        )
        return partition_runs(output, self._runs(blocks))

    def _runs(self, blocks: Sequence[PrintedBlock]) -> list[SolveRun]:
        for block in blocks:
            if lists_too_many(block):
                for run in block.runs:
                    run.codes.append("hpl-counts-differ")
        return [
            *(solve_run(run, block, self._options) for block in blocks for run in block.runs),
            *_each_once([(str(raw), mxp_run(raw)) for raw in self._mxp.runs]),
            *_each_once([(str(raw), hpcg_run(raw)) for raw in self._hpcg.runs]),
        ]


def _each_once(runs: Sequence[tuple[str, SolveRun]]) -> Iterator[SolveRun]:
    """Yield runs, those with a code more that are printed as one before them is."""
    seen = set[str]()
    for printed_as, run in runs:
        yield replace(run, codes=(*run.codes, "hpl-run-twice")) if printed_as in seen else run
        seen.add(printed_as)


def _kind(block: PrintedBlock) -> EvidenceKind:
    return "hpl-mxp" if block.is_mixed else "hpl"


def _tool(block: PrintedBlock) -> str:
    return f"rocHPL, {block.tool}" if any(run.score for run in block.runs) else block.tool


def _file_codes(blocks: Sequence[PrintedBlock], skipped: int) -> Iterator[str]:
    if blocks and not blocks[-1].has_end:
        yield "evidence-cut-off"
    if any(map(lists_too_few, blocks)):
        yield "hpl-runs-missing"
    if skipped:
        yield "evidence-lines-skipped"


def _read_nccl(lines: Lines, options: ReaderOptions) -> ToolOutput:
    """Read the JSON of nccl-tests, which begins with a brace, or its table."""
    watched = _Watched(lines, "nccl-tests")
    if lines.content.lstrip().startswith(b"{"):
        table, is_whole = read_report(lines.content, lines.where, MOST_RUNS)
        tables, tool, is_full = [table], "nccl-tests", False
    else:
        reader = NcclReader(MOST_RUNS)
        for line in watched:
            reader.feed(line)
        tables, tool, is_full = reader.tables, reader.tool, reader.is_full
        is_whole = all(table.average is not None for table in tables if table.rows)
    tables = [table for table in tables if table.rows]
    watched.check([tool] if tables else [], "nccl-tests", is_full)
    codes = [*([] if is_whole else ["evidence-cut-off"]), *(["evidence-lines-skipped"] if lines.skipped else [])]
    buses = [run for table in tables for run in nccl_runs(_completed(table, options))]
    return ToolOutput(tool, "nccl-tests", buses=tuple(buses), codes=tuple(codes), is_per_device=True)


def _completed(table: NcclTable, options: ReaderOptions) -> NcclTable:
    """Return a table with what its file does not say, where who brought it did."""
    table.collective = table.collective or options.collective
    table.plan = table.plan or options.ranks
    return table


def _read_hccl(lines: Lines, options: ReaderOptions) -> ToolOutput:
    reader = HcclReader(MOST_RUNS)
    watched = _Watched(lines, "hccl-test")
    for line in watched:
        reader.feed(line)
    watched.check([reader.tool] if reader.rows else [], "hccl_test", reader.is_full)
    buses = [bus_run(raw, named or options.collective or UNKNOWN, options.ranks) for raw, named in reader.rows]
    codes = ("evidence-lines-skipped",) if lines.skipped else ()
    return ToolOutput(reader.tool, "hccl-test", buses=tuple(buses), codes=codes, is_per_device=True)
