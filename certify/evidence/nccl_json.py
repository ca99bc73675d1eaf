"""The JSON that nccl-tests 2.17 and later write with ``-J``: the same sizes as in its table, with more digits."""

from __future__ import annotations

import msgspec

from bench.errors import InputError
from certify.evidence.buses import RawBus, named_collective
from certify.evidence.nccl import NcclTable
from certify.evidence.numbers import Printed, count, printed

_VERSIONS = (1, 2, 3)  # of the file's form
_MOST_RANKS = 10**7
Number = msgspec.Raw  # as written: its digits say how exact it is


class _Place(msgspec.Struct):
    time: Number = Number()
    cpu_time: Number = Number()
    alg_bw: Number = Number()
    bus_bw: Number = Number()
    nwrong: Number = Number()


class _SizeRow(msgspec.Struct):
    size: int
    out_of_place: _Place | None = None
    in_place: _Place | None = None


class _Config(msgspec.Struct):
    nthreads: int = 1
    ngpus: int = 1
    devices: list[dict[str, object]] = []


class _Bounds(msgspec.Struct):
    count: int
    okay: str | bool = "true"


class _Average(msgspec.Struct):
    bandwidth: Number = Number()


class NcclReport(msgspec.Struct):
    """The members of the file that are read. The environment of the process, which it holds too, is not."""

    version: int
    results: list[_SizeRow]
    args: list[str] = []
    config: _Config | None = None
    out_of_bounds: _Bounds | None = None
    average_bus_bandwidth: _Average | None = None


def read_report(content: bytes, where: object, most_runs: int) -> tuple[NcclTable, bool]:
    """Return the table that a report holds, and whether it is whole.

    Raises:
        InputError: not the JSON of nccl-tests, cut off, or with more sizes than a document holds.
    """
    try:
        report = msgspec.json.decode(content, type=NcclReport)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        what = f"is not the JSON that nccl-tests writes with -J ({error})"
        raise InputError("evidence-json-invalid", what, where=where, fix="bring the whole file") from None
    if report.version not in _VERSIONS:
        what = f"is in form {report.version} of nccl-tests' JSON, which this petaseal does not know"
        raise InputError("evidence-json-invalid", what, where=where, fix="bring the printed table in its place")
    if 2 * len(report.results) > most_runs:
        raise InputError("evidence-too-many-runs", f"has more than {most_runs} sizes", where=where)
    table = NcclTable(next((name for text in report.args if (name := named_collective(text))), None))
    table.ranks = _ranks(report.config)
    table.rows = [raw for row in report.results if 0 < row.size < 2**53 for raw in _raws(row)]
    if report.out_of_bounds is not None:
        table.has_failed = report.out_of_bounds.count > 0 or report.out_of_bounds.okay not in (True, "true")
    if report.average_bus_bandwidth is not None:
        table.average = _printed(report.average_bus_bandwidth.bandwidth)
    return table, report.out_of_bounds is not None and report.average_bus_bandwidth is not None


def _ranks(config: _Config | None) -> int:
    """Return the ranks of the run: each process lists its first device, and computes on as many as are planned."""
    if config is None:
        return 0
    ranks = len(config.devices) * max(config.nthreads, 1) * max(config.ngpus, 1)
    return ranks if ranks <= _MOST_RANKS else 0


def _raws(row: _SizeRow) -> list[RawBus]:
    return [
        _raw(row.size, place, is_in_place)
        for place, is_in_place in ((row.out_of_place, False), (row.in_place, True))
        if place is not None
    ]


def _raw(size: int, place: _Place, in_place: bool) -> RawBus:
    wrong = count(_text(place.nwrong))
    return RawBus(
        size=size,
        time=_printed(place.time) or _printed(place.cpu_time),
        algorithm=_printed(place.alg_bw),
        bus=_printed(place.bus_bw),
        wrong=wrong,
        in_place=in_place,
        has_failed=wrong is None and _text(place.nwrong) not in ("", "null"),
    )


def _printed(raw: Number) -> Printed | None:
    return printed(_text(raw))


def _text(raw: Number) -> str:
    return bytes(raw).decode("ascii", "replace")
