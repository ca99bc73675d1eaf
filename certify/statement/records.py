"""Record sets at the rim: a folder of record envelopes or a ``records.jsonl``, read in parallel and bounded memory.

Each record is opened (its own seal), judged and added to a tally; what comes back is small. The same code serves
``certify`` and ``verify``, so that nothing is judged in two ways.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import msgspec

from bench.errors import InputError, RefusedError
from bench.record import NodeRecord, read_bytes
from bench.record.identities import DeviceKeys, Uniqueness
from certify.documents.caps import CAPS
from certify.documents.kinds import RECORD_SUFFIX, OpenedDocument
from certify.documents.merkle import record_root
from certify.documents.statement import CapacityStatement
from certify.judge.models import NodeModel, models_of
from certify.judge.record import JudgedFigure, add_record, tally_record
from certify.judge.scope import Scope, foreign_facts
from certify.judge.tally import PoolSums, Tally, counted_sums
from certify.samples.summary import Samples, TelemetrySummary
from certify.trust.opening import Verifier
from certify.workers import spread

if TYPE_CHECKING:
    from certify.samples.rebuild import Inspector

PARALLEL_FROM_BYTES = 8 * 2**20  # below, starting processes costs more than it saves
CHUNK_FILES = 128
CHUNK_BYTES = 2**19  # small, so that no core waits long for the last share of another
READ_BYTES = 2**18  # in blocks of the usual 8 KiB, reading takes a fifteenth of the time of judging
PARALLEL_FROM_BYTES_WITH_SAMPLES = 2**18  # some ten records
FILES_AT_ONCE = 8  # records of one share with their samples
BYTES_AT_ONCE = 2**17


class RecordSummary(NamedTuple):
    """What stays in memory of one judged record: its digests, devices, signer and sums."""

    payload_sha256: str
    samples_sha256: str  # that the record binds
    envelope_sha256: str  # of the line, so that what is copied later is what was checked
    node_id: str
    devices: list[DeviceKeys]
    signer: str  # key id
    self_asserted: bool
    tool: tuple[str, str]  # version and digest of the petaseal that made it
    sums: tuple[tuple[str, PoolSums], ...] = ()  # by pool, in the workload that it counts; only where asked for
    models: tuple[NodeModel, ...] = ()  # likewise


@dataclass
class Examined:
    """A judged set of records: its sums, and what is kept of each record, in the order of reading."""

    tally: Tally = field(default_factory=Tally)
    seen: list[RecordSummary] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)  # of a folder: where each of `seen` lies
    samples: Samples = field(default_factory=Samples)  # what the records' samples said, where they were given
    chains: list[Chain] = field(default_factory=list)  # of the nodes whose figures are to be explained
    ends: dict[str, Ends] = field(default_factory=dict)  # by pool

    # From a worker process it travels packed: pickled value by value, the devices take five times as long.
    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "seen": msgspec.msgpack.encode(self.seen)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, seen=_summaries().decode(state["seen"]))


@cache
def _summaries() -> msgspec.msgpack.Decoder[list[RecordSummary]]:
    return msgspec.msgpack.Decoder(list[RecordSummary])


class Chain(NamedTuple):
    """One judged figure with the summary of its samples' telemetry, where samples are given."""

    judged: JudgedFigure
    watched: TelemetrySummary | None


class Ends(NamedTuple):
    """The smallest and the largest device that counts in a pool: certified MFLOP/s, and where it stands."""

    smallest: tuple[int, str]
    largest: tuple[int, str]

    def joined(self, other: Ends) -> Ends:
        """Return the smallest and the largest device of both."""
        return Ends(min(self.smallest, other.smallest), max(self.largest, other.largest))


@dataclass(frozen=True)
class Chunk:
    """A share of the work: some files of a folder, or a byte range of one ``records.jsonl``."""

    paths: tuple[Path, ...] = ()
    start: int = 0
    end: int = 0


Envelopes = Iterator[tuple[Path | str, bytes]]


def chunks_of(source: Path) -> tuple[list[Chunk], int]:
    """Return the shares of a folder or of a ``records.jsonl``, and their size in bytes.

    Raises:
        InputError: there is no record, or the source is neither a folder nor a regular file.
    """
    if source.is_dir():
        paths = sorted(p for p in source.iterdir() if p.name.endswith(RECORD_SUFFIX) and not p.name.startswith("."))
        if not paths:
            raise InputError("no-records", f"holds no file named *{RECORD_SUFFIX}", where=source)
        if len(paths) > CAPS.records:
            raise RefusedError("records-too-many", f"holds more than {CAPS.records} records", where=source)
        shares = [Chunk(tuple(paths[i : i + CHUNK_FILES])) for i in range(0, len(paths), CHUNK_FILES)]
        return shares, sum(path.lstat().st_size for path in paths)
    with _open_lines(source) as file:
        size = os.fstat(file.fileno()).st_size
    if not size:
        raise InputError("no-records", "is empty", where=source)
    if size > CAPS.records_bytes:
        raise RefusedError("document-too-large", f"has {size} bytes, more than {CAPS.records_bytes}", where=source)
    return [Chunk((), i, min(i + CHUNK_BYTES, size)) for i in range(0, size, CHUNK_BYTES)], size


def envelopes(source: Path, chunk: Chunk) -> Envelopes:
    """Yield (where, envelope) of every record in a share; a line belongs to the share that it begins in."""
    for path in chunk.paths:
        yield path, read_bytes(path, CAPS.record_bytes)
    if chunk.paths:
        return
    with _open_lines(source) as file:
        at = chunk.start
        if at:
            file.seek(at - 1)
            at += len(_line(file, source)) - 1
        # counted here: `tell` asks the system for each line
        while at < chunk.end and (line := _line(file, source)):
            yield f"{source}, byte {at}", line
            at += len(line)


def _open_lines(source: Path) -> BinaryIO:
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        code = "file-missing" if isinstance(error, FileNotFoundError) else "not-regular-file"
        raise InputError(code, f"cannot be read ({error.strerror})", where=source) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError("not-regular-file", "is not a regular file", where=source)
    return open(descriptor, "rb", READ_BYTES)


def _line(file: BinaryIO, source: Path) -> bytes:
    line = file.readline(CAPS.record_bytes + 1)
    if len(line) > CAPS.record_bytes:
        raise RefusedError("document-too-large", f"has a line of more than {CAPS.record_bytes} bytes", where=source)
    return line


@dataclass(frozen=True)
class Audit:
    """How an audit examines records: every fault becomes an issue, and figures are judged as their samples have them.

    The figures of the named nodes are explained.
    """

    nodes: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Examiner:
    """Opens and judges the records of one share; runs in a worker process."""

    source: Path
    scope: Scope
    verifier: Verifier  # of the statement that binds them
    by_node: bool = False  # whether each record's own sums are wanted
    inspector: Inspector | None = None  # holds each record against its samples, the moment it was opened
    audit: Audit | None = None

    def __call__(self, chunk: Chunk) -> Examined:
        """Return the judged share.

        Raises:
            RefusedError: a record is not whole, or does not belong to the campaign.
        """
        result = Examined()
        for where, content in envelopes(self.source, chunk):
            opened = self.verifier.record(content, where)
            if isinstance(where, Path):
                check_file_name(where, opened)
                result.paths.append(where)
            tally = Tally() if self.by_node else result.tally
            devices = self._judge(opened, tally, result)
            if self.by_node:
                result.tally.add(tally)
            result.seen.append(
                RecordSummary(
                    opened.payload_sha256,
                    opened.subject_digest,
                    hashlib.sha256(content).hexdigest(),
                    opened.predicate.node_id,
                    devices,
                    signer := next(iter(opened.signers)),
                    opened.self_asserted and self.scope.enrolled.get(opened.predicate.node_id) != signer,
                    (opened.predicate.tool.version, opened.predicate.tool.sha256),
                    counted_sums(tally, self.scope) if self.by_node else (),
                    self._models(opened.predicate) if self.by_node else (),
                )
            )
        return result

    def _models(self, record: NodeRecord) -> tuple[NodeModel, ...]:
        scope = self.scope
        precisions = {pool.pool: scope.counting[pool.pool_class].precision for pool in scope.centre.pools}
        return models_of(record, scope.places, precisions, scope.ratings)

    def _judge(self, opened: OpenedDocument[NodeRecord], tally: Tally, result: Examined) -> list[DeviceKeys]:
        """Hold one record against its samples, add it to a tally, and return its devices.

        Raises:
            RefusedError: the record does not belong to the campaign, and this is no audit.
        """
        record = opened.predicate
        seen = {} if self.inspector is None else self.inspector.inspect(opened, result.samples)
        if self.audit is None:
            return tally_record(record, self.scope, tally)
        from certify.samples.rebuild import rebuilt

        for code, what in foreign_facts(record, self.scope):
            result.samples.issues.report(code, record.node_id, f"the record {what}")
        if record.node_id not in self.scope.expected:
            return []

        def explain(judged: JudgedFigure) -> None:
            if judged.counts:
                here = judged.figure.certified_mflop_s, f"{record.node_id}/{judged.figure.device}"
                ends = Ends(here, here)
                result.ends[judged.pool] = result.ends.get(judged.pool, ends).joined(ends)
            if record.node_id in self.audit.nodes:  # type: ignore[union-attr]
                one = seen.get((judged.figure.device, judged.setting.measurement.workload))
                result.chains.append(Chain(judged, one.watched if one else None))

        return add_record(rebuilt(record, seen), self.scope, tally, explain)


def check_file_name(path: Path, opened: OpenedDocument[NodeRecord]) -> None:
    """Refuse a record whose file is named after another node: the file was renamed or copied."""
    if path.name != opened.predicate.node_id + RECORD_SUFFIX:
        raise RefusedError("file-name-differs", f"is the record of node {opened.predicate.node_id}", where=path)


def examine(
    examiner: Examiner,
    progress: Callable[[int], None] = lambda records: None,
    collect: Callable[[RecordSummary], None] = lambda seen: None,
) -> Examined:
    """Judge all records of a source and see that every node and device is there once.

    Args:
        examiner: what to judge, and against what.
        progress: called with the number of records done so far.
        collect: called with each record in turn, whose devices are not kept.

    Raises:
        RefusedError, InputError: with the code of the first fault.
    """
    shares, size = chunks_of(examiner.source)
    whole, unique = Examined(), Uniqueness()
    for part in _parts(examiner, shares, size):
        for seen in part.seen:
            try:
                unique.see(seen.node_id, seen.devices)
            except RefusedError as error:
                _go_on(examiner, whole, error)
            collect(seen)
        whole.tally.add(part.tally)
        whole.samples.add(part.samples)
        whole.chains += part.chains
        for pool, ends in part.ends.items():
            whole.ends[pool] = whole.ends.get(pool, ends).joined(ends)
        # the identities are kept once, in `unique`
        whole.seen += [seen._replace(devices=[], sums=()) for seen in part.seen]
        whole.paths += part.paths
        if len(whole.seen) > CAPS.records:
            raise RefusedError("records-too-many", f"has more than {CAPS.records} records", where=examiner.source)
        progress(len(whole.seen))
    try:
        unique.check_parents()
    except RefusedError as error:
        _go_on(examiner, whole, error)
    if examiner.inspector is not None:
        from certify.samples.copies import report_copies

        report_copies(whole.samples)
    return whole


def _go_on(examiner: Examiner, whole: Examined, error: RefusedError) -> None:
    """Make a refusal an issue, where this is an audit."""
    if examiner.audit is None:
        raise error
    whole.samples.issues.report(error.code, str(error.where), error.what)


def _parts(examiner: Examiner, shares: list[Chunk], size: int) -> Iterable[Examined]:
    from_bytes = PARALLEL_FROM_BYTES
    if examiner.inspector is not None:  # the samples of one record are a hundred times its size
        from_bytes = PARALLEL_FROM_BYTES_WITH_SAMPLES
        shares = [piece for share in shares for piece in _pieces(share)]
    return spread(examiner, shares, parallel=size >= from_bytes, where=examiner.source)


def _pieces(share: Chunk) -> Iterator[Chunk]:
    for i in range(0, len(share.paths), FILES_AT_ONCE):
        yield Chunk(share.paths[i : i + FILES_AT_ONCE])
    if not share.paths:
        for at in range(share.start, share.end, BYTES_AT_ONCE):
            yield Chunk((), at, min(at + BYTES_AT_ONCE, share.end))


def inspector_of(folders: tuple[Path, ...], scope: Scope, audit: bool = False) -> Inspector:
    """Return what holds the records of a statement against their samples in some folders."""
    from certify.samples.rebuild import Inspector

    return Inspector(folders, scope.campaign, scope.profile, scope.ratings, audit)


def check_record_set(examined: Examined, statement: CapacityStatement, where: object, *, in_order: bool) -> None:
    """Refuse records that are not all those that a statement binds, no more and no less.

    Args:
        examined: the records, in the order of their source.
        statement: that binds them.
        where: the statement, for the error text.
        in_order: whether their order is that of a file; a folder has none of its own.

    Raises:
        RefusedError: `records-count`, `records-root`, or a code of `record_root`.
    """
    digests = [record.payload_sha256 for record in examined.seen]
    if not in_order:
        digests.sort()
    if len(digests) != statement.records:
        what = f"counts {statement.records} records, and there are {len(digests)}"
        raise RefusedError("records-count", what, where=where)
    if record_root(digests) != statement.records_root:
        raise RefusedError("records-root", "binds other records: the Merkle root differs", where=where)
