"""Records and samples of a report's source, read and checked in worker processes; a bad file stops no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bench.errors import PetasealError, RefusedError
from bench.record import digest, read_bytes
from bench.record.identities import DeviceKeys, Uniqueness, device_keys
from certify.documents.caps import CAPS
from certify.documents.kinds import RECORD_SUFFIX
from certify.report.figures import DrawnRecord, Judge
from certify.report.series import DeviceSeries, device_series
from certify.report.source import WITHOUT_KEYS, ReportSource, SourceProblem
from certify.samples.table import SAMPLES_SUFFIX, figures, samples_of_digest
from certify.statement.records import PARALLEL_FROM_BYTES, check_file_name
from certify.trust.opening import Verifier
from certify.workers import spread

SHARE = 64  # records in one share of the work
PARALLEL_SAMPLES_BYTES = 2**18  # of samples; below, starting processes costs more than it saves


@dataclass
class ReadRecords:
    """The records that could be read, by name, and what was wrong with the others."""

    records: list[DrawnRecord] = field(default_factory=list)
    problems: list[SourceProblem] = field(default_factory=list)
    devices: list[tuple[str, list[DeviceKeys]]] = field(default_factory=list)  # of each record, to see none twice


@dataclass(frozen=True)
class RecordReader:
    """Opens and judges the records of one share; runs in a worker process."""

    judge: Judge
    at: str

    def __call__(self, paths: Sequence[Path]) -> ReadRecords:
        """Return the judged share."""
        result = ReadRecords()
        verifier = Verifier(WITHOUT_KEYS, self.at)
        for path in paths:
            try:
                opened = verifier.record(read_bytes(path, CAPS.record_bytes), path)
                check_file_name(path, opened)
                record = opened.predicate
                drawn = self.judge.drawn(record, path.name, opened.payload_sha256, opened.subject_digest)
            except PetasealError as error:
                result.problems.append(SourceProblem.of(error, path.name))
            else:
                result.records.append(drawn)
                result.devices.append((record.node_id, [device_keys(device) for device in record.devices]))
        return result


def read_records(source: ReportSource, at: str, progress: Callable[[int], None]) -> ReadRecords:
    """Return the records of a source; of two that hold one device the second is left out, by the order of names.

    Args:
        source: where they lie.
        at: the time that signatures are judged at.
        progress: called with the number of records done so far.

    Raises:
        RefusedError: none can be read; the problem of the first.
    """
    paths = source.records
    judge = Judge(source.campaign, digest(source.campaign), source.profile, source.scope)
    shares = [paths[i : i + SHARE] for i in range(0, len(paths), SHARE)]
    size = sum(path.lstat().st_size for path in paths)
    whole, unique, done = ReadRecords(), Uniqueness(), 0
    for part in spread(RecordReader(judge, at), shares, parallel=size >= PARALLEL_FROM_BYTES, where=source.folder):
        whole.problems += part.problems
        for record, (node_id, devices) in zip(part.records, part.devices, strict=True):
            try:
                unique.see(node_id, devices)
            except RefusedError as error:
                whole.problems.append(SourceProblem.of(error, record.file))
            else:
                whole.records.append(record)
        done += len(part.records) + len(part.problems)
        progress(done)
    if not whole.records:
        first = whole.problems[0]
        raise RefusedError(first.code, f"no record can be drawn; the first: {first.what}", where=first.where)
    whole.problems.sort()
    return whole


class ReadSamples(NamedTuple):
    """What the samples of one record show; none, and the problem, where they are away or not the record's."""

    file: str
    series: tuple[DeviceSeries, ...]
    problem: SourceProblem | None


class SampledRecord(NamedTuple):
    """What is needed of one record to read its samples: the window and the ceiling's clock of each figure."""

    path: Path
    sha256: str
    windows: dict[tuple[str, str], tuple[int, int | None]]  # (device, workload) -> length ns, MHz
    columns: int  # that a plot has for a series

    @classmethod
    def of(cls, record: DrawnRecord, path: Path, columns: int) -> SampledRecord:
        """Return what is needed of a record, whose file is `path`."""
        return cls(
            path.with_name(path.name.removesuffix(RECORD_SUFFIX) + SAMPLES_SUFFIX),
            record.samples_sha256,
            {
                (one.reading.device, one.reading.workload): (
                    one.length_ns,
                    one.ceiling.clock_mhz if one.ceiling else None,
                )
                for one in record.figures
            },
            columns,
        )


def read_one(sampled: SampledRecord) -> ReadSamples:
    """Return what one file of samples shows of the figures of its record; runs in a worker process."""
    path = sampled.path
    try:
        content = samples_of_digest(sampled.sha256, path)
        series = tuple(
            device_series(rows, *sampled.windows[rows.device, rows.workload], sampled.columns)
            for rows in figures(content, path)
            if (rows.device, rows.workload) in sampled.windows
        )
    except PetasealError as error:
        return ReadSamples(path.name, (), SourceProblem.of(error, path.name))
    return ReadSamples(path.name, series, None)


def read_samples(wanted: Sequence[SampledRecord], where: Path, progress: Callable[[int], None]) -> list[ReadSamples]:
    """Return what the samples of some records show, in their order.

    Args:
        wanted: of each record.
        where: the folder, for an error's text.
        progress: called with the number of files done so far.
    """
    size = sum(one.path.lstat().st_size for one in wanted if one.path.exists())
    done: list[ReadSamples] = []
    for one in spread(read_one, wanted, parallel=size >= PARALLEL_SAMPLES_BYTES, where=where):
        done.append(one)
        progress(len(done))
    return done
