"""Level ``audited``: the samples of each record are the ones that it binds, and they support its 30 numbers.

Samples are gzip-compressed CSV (``docs/formats.md``), read in bounded memory; they stay at the centre and are fetched
for an audit.
"""

from __future__ import annotations

import csv
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path

from bench.errors import RefusedError
from bench.record import SUBWINDOWS, NodeRecord, read_bytes
from certify.caps import CAPS
from certify.documents import Opened, parse_payload
from certify.dsse import parse_envelope
from certify.records import chunks_of, envelopes

SAMPLES_SUFFIX = ".samples.csv.gz"
LINE_MAX_BYTES = 4096  # a row takes 120; a bomb in one line is never held whole
MAX_FIGURES = 8192  # 1,024 devices in eight workloads
HEADER = ["device", "workload", "phase", "offset_ns", "quantity", "value"]


def audit(records: Path, samples: Path) -> int:
    """Check the samples of every record and return how many records there are.

    Args:
        records: folder of records, or ``records.jsonl``; already verified.
        samples: folder with ``NODE.samples.csv.gz`` for each of them.

    Raises:
        RefusedError: `samples-missing`, `samples-differ`, `samples-invalid`, `samples-too-large`.
    """
    count = 0
    shares, _ = chunks_of(records)
    for share in shares:
        for where, content in envelopes(records, share):
            envelope = parse_envelope(content, CAPS.record_bytes, where)
            audit_record(parse_payload("node-record", envelope.payload, where), samples)
            count += 1
    return count


def audit_record(opened: Opened[NodeRecord], samples: Path) -> None:
    """Check the samples of one record (see `audit`)."""
    path = samples / f"{opened.predicate.node_id}{SAMPLES_SUFFIX}"
    if not path.exists():
        raise RefusedError("samples-missing", "there are no samples of this record", where=path)
    content = read_bytes(path, CAPS.samples_bytes)
    if hashlib.sha256(content).hexdigest() != opened.subject_digest:
        raise RefusedError("samples-differ", "are not the samples that the record binds", where=path)
    marks = _subwindows(content, path)
    for measurement in opened.predicate.measurements:
        for figure in measurement.figures():
            if marks.get((figure.device, str(measurement.workload))) != figure.subwindow_ns:
                what = f"do not support the 30 numbers of {figure.device} in {measurement.workload}"
                raise RefusedError("samples-differ", what, where=path)


def _subwindows(content: bytes, path: Path) -> dict[tuple[str, str], list[int]]:
    marks: dict[tuple[str, str], list[int]] = {}
    rows = csv.reader(_lines(content, path), strict=True)
    try:
        if next(rows, None) != HEADER:
            raise RefusedError("samples-invalid", "are not a table of samples", where=path)
        for device, workload, _phase, _offset, quantity, value in rows:
            if quantity.startswith("subwindow_"):
                mine = marks.setdefault((device, workload), [])
                if len(mine) == SUBWINDOWS or len(marks) > MAX_FIGURES:
                    raise RefusedError("samples-invalid", "have more sub-windows than a record can", where=path)
                mine.append(int(value))
    except (csv.Error, ValueError) as error:
        raise RefusedError("samples-invalid", f"are not a table of samples ({error})", where=path) from None
    return marks


def _lines(content: bytes, path: Path) -> Iterator[str]:
    """Yield the lines of a gzip file, never unpacking more than the cap: a small file may hold a large one."""
    unpacker = zlib.decompressobj(wbits=31)
    total, data, rest = 0, content, b""
    while data:
        try:
            unpacked = unpacker.decompress(data, 1 << 20)
        except zlib.error as error:
            raise RefusedError("samples-invalid", f"are not gzip ({error})", where=path) from None
        data = unpacker.unconsumed_tail
        total += len(unpacked)
        if total > CAPS.samples_unpacked_bytes:
            raise RefusedError(
                "samples-too-large", f"unpack to more than {CAPS.samples_unpacked_bytes} bytes", where=path
            )
        *whole, rest = (rest + unpacked).split(b"\n")
        if len(rest) > LINE_MAX_BYTES:
            raise RefusedError("samples-invalid", f"have a line of more than {LINE_MAX_BYTES} bytes", where=path)
        for line in whole:
            yield _text(line, path)
    if not unpacker.eof or unpacker.unused_data or rest:
        raise RefusedError("samples-invalid", "are truncated, or something follows them", where=path)


def _text(line: bytes, path: Path) -> str:
    try:
        return line.decode("ascii")
    except UnicodeDecodeError:
        raise RefusedError("samples-invalid", "hold something else than ASCII", where=path) from None
