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
from pathlib import Path
from typing import BinaryIO, NamedTuple

from bench.errors import InputError, RefusedError
from bench.record import NodeRecord, read_bytes
from certify.documents.caps import CAPS
from certify.documents.kinds import Opened, open_record
from certify.judge.aggregate import DeviceKeys, Scope, Sum, Tally, Uniqueness, counted_sums, tally_record
from certify.trust.trusted_set import TrustedSet
from certify.workers import spread

RECORD_SUFFIX = ".record.dsse.json"
PARALLEL_FROM_BYTES = 8 * 2**20  # below, starting processes costs more than it saves
CHUNK_FILES = 128
CHUNK_BYTES = 2 * 2**20


class Seen(NamedTuple):
    """What is kept of one record."""

    payload_sha256: str
    samples_sha256: str  # that the record binds
    envelope_sha256: str  # of the line, so that what is copied later is what was checked
    node_id: str
    devices: list[DeviceKeys]
    signer: str  # key id
    self_asserted: bool
    sums: tuple[tuple[str, Sum], ...] = ()  # by pool, in the workload that it counts; only where asked for


@dataclass
class Examined:
    """A judged set of records: its sums, and what is kept of each record, in the order of reading."""

    tally: Tally = field(default_factory=Tally)
    seen: list[Seen] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)  # of a folder: where each of `seen` lies


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
        if chunk.start:
            file.seek(chunk.start - 1)
            _line(file, source)
        while (at := file.tell()) < chunk.end and (line := _line(file, source)):
            yield f"{source}, byte {at}", line


def _open_lines(source: Path) -> BinaryIO:
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        code = "file-missing" if isinstance(error, FileNotFoundError) else "not-regular-file"
        raise InputError(code, f"cannot be read ({error.strerror})", where=source) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError("not-regular-file", "is not a regular file", where=source)
    return open(descriptor, "rb")


def _line(file: BinaryIO, source: Path) -> bytes:
    line = file.readline(CAPS.record_bytes + 1)
    if len(line) > CAPS.record_bytes:
        raise RefusedError("document-too-large", f"has a line of more than {CAPS.record_bytes} bytes", where=source)
    return line


@dataclass(frozen=True)
class Examiner:
    """Opens and judges the records of one share; runs in a worker process."""

    source: Path
    scope: Scope
    trust: TrustedSet
    at: str
    dated: str | None = None  # when somebody else saw the statement that binds them
    by_node: bool = False  # whether each record's own sums are wanted

    def __call__(self, chunk: Chunk) -> Examined:
        """Return the judged share.

        Raises:
            RefusedError: a record is not whole, or does not belong to the campaign.
        """
        result = Examined()
        for where, content in envelopes(self.source, chunk):
            opened = open_record(content, self.trust, self.at, where, self.dated)
            if isinstance(where, Path):
                check_file_name(where, opened)
                result.paths.append(where)
            tally = Tally() if self.by_node else result.tally
            devices = tally_record(opened.predicate, self.scope, tally)
            if self.by_node:
                result.tally.add(tally)
            result.seen.append(
                Seen(
                    opened.payload_sha256,
                    opened.subject_digest,
                    hashlib.sha256(content).hexdigest(),
                    opened.predicate.node_id,
                    devices,
                    signer := next(iter(opened.signers)),
                    opened.self_asserted and self.scope.enrolled.get(opened.predicate.node_id) != signer,
                    counted_sums(tally, self.scope) if self.by_node else (),
                )
            )
        return result


def check_file_name(path: Path, opened: Opened[NodeRecord]) -> None:
    """Refuse a record whose file is named after another node: somebody renamed or copied it."""
    if path.name != opened.predicate.node_id + RECORD_SUFFIX:
        raise RefusedError("file-name-differs", f"is the record of node {opened.predicate.node_id}", where=path)


def examine(
    examiner: Examiner,
    progress: Callable[[int], None] = lambda records: None,
    collect: Callable[[Seen], None] = lambda seen: None,
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
            unique.see(seen.node_id, seen.devices)
            collect(seen)
        whole.tally.add(part.tally)
        # the identities are kept once, in `unique`
        whole.seen += [seen._replace(devices=[], sums=()) for seen in part.seen]
        whole.paths += part.paths
        if len(whole.seen) > CAPS.records:
            raise RefusedError("records-too-many", f"has more than {CAPS.records} records", where=examiner.source)
        progress(len(whole.seen))
    unique.check_parents()
    return whole


def _parts(examiner: Examiner, shares: list[Chunk], size: int) -> Iterable[Examined]:
    return spread(examiner, shares, parallel=size >= PARALLEL_FROM_BYTES, where=examiner.source)
