"""Samples of a record: gzip-compressed CSV (``docs/formats.md``), read strictly and in bounded memory.

Level ``audited`` of ``petaseal verify`` stands here: the samples of each record are the ones that it binds, and they
support its 30 numbers. ``petaseal audit`` reads with the same reader, and makes everything else anew from the rows.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from bench.errors import RefusedError
from bench.record import SUBWINDOWS, NodeRecord, read_bytes
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import Opened, parse_payload
from certify.statement.records import chunks_of, envelopes

SAMPLES_SUFFIX = ".samples.csv.gz"
LINE_MAX_BYTES = 4096  # a row takes 120; a bomb in one line is never held whole
FLOOR_BYTES = 1 << 20  # unpacked; below, no ratio is looked at, as with a package
MAX_FIGURES = 8192  # 1,024 devices in eight workloads
HEADER = "device,workload,phase,offset_ns,quantity,value"
PHASES = {phase: place for place, phase in enumerate(("prepare", "trial", "warmup", "window", "guard"))}
IN_TIME = frozenset({"warmup", "window", "guard"})  # where one quantity is read once at a time
MARK = re.compile(r"subwindow_(0[1-9]|[12][0-9]|30)_ns")
MAX_DIGITS = 18
_INTEGER = re.compile(rf"-?(0|[1-9][0-9]{{0,{MAX_DIGITS - 1}}})")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_STRANGE = re.compile(rb"[^A-Za-z0-9_.:/+,\n-]")  # no field has any of these: quotes, spaces, control characters


class Row(NamedTuple):
    """One line of the samples: what was read when, relative to the opening of the core window."""

    device: str
    workload: str
    phase: str
    offset_ns: int
    quantity: str
    value: str


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
    content = bound_samples(opened, path)
    stated = {
        (figure.device, str(measurement.workload)): figure.subwindow_ns
        for measurement in opened.predicate.measurements
        for figure in measurement.figures()
    }
    for key, rows in figures(content, path):
        marks = [integer(row.value, path) for row in rows if MARK.fullmatch(row.quantity)]
        if len(marks) > SUBWINDOWS:
            raise RefusedError("samples-invalid", "have more sub-windows than a record can", where=path)
        if key in stated and stated.pop(key) != marks:
            raise RefusedError("samples-differ", f"do not support the 30 numbers of {' in '.join(key)}", where=path)
    for key in stated:
        raise RefusedError("samples-differ", f"do not support the 30 numbers of {' in '.join(key)}", where=path)


def bound_samples(opened: Opened[NodeRecord], path: Path) -> bytes:
    """Return the samples in a file, which are those that a record binds.

    Raises:
        RefusedError: `samples-missing`, `samples-differ`.
    """
    if not path.exists():
        raise RefusedError("samples-missing", "there are no samples of this record", where=path)
    content = read_bytes(path, CAPS.samples_bytes)
    if hashlib.sha256(content).hexdigest() != opened.subject_digest:
        raise RefusedError("samples-differ", "are not the samples that the record binds", where=path)
    return content


def figures(content: bytes, path: Path) -> Iterator[tuple[tuple[str, str], Iterator[Row]]]:
    """Yield ((device, workload), rows) of each, one after another, so that only one is ever held.

    Raises:
        RefusedError: as `read_rows`, and `samples-invalid` for more of them than a record can have.
    """
    for count, (key, rows) in enumerate(groupby(read_rows(content, path), lambda row: (row.device, row.workload))):
        if count == MAX_FIGURES:
            raise RefusedError("samples-invalid", f"have more than {MAX_FIGURES} devices and workloads", where=path)
        yield key, rows


def read_rows(content: bytes, path: Path) -> Iterator[Row]:
    """Yield the rows of a sidecar in the one order that they have, and no reading twice.

    Args:
        content: the file.
        path: where it lies, for the error text.

    Raises:
        RefusedError: `samples-invalid`, `samples-too-large`.
    """
    lines = _lines(content, path)
    if next(lines, None) != HEADER:
        raise RefusedError("samples-invalid", "are not a table of samples", where=path)
    before = Row("", "", "", 0, "", "")
    last: tuple[str, str, int, int, str, str] = ("", "", 0, 0, "", "")
    read: str | None = None
    at = of_figure = 0
    for line in lines:
        try:
            device, workload, phase, offset, quantity, value = line.split(",")
            order = PHASES[phase]
            if not (device and workload and quantity and value):
                raise ValueError
        except (ValueError, KeyError):
            raise RefusedError("samples-invalid", "have a row that is none", where=path) from None
        if offset != read:  # a reading is of several quantities
            at, read = integer(offset, path), offset
        _check_value(phase, quantity, value, path)
        place = (device, workload, order, at, quantity, value)
        if device != before.device or workload != before.workload:
            of_figure = 0
        elif quantity == before.quantity and place[:5] == last[:5] and phase in IN_TIME:
            raise RefusedError("samples-invalid", f"have {quantity} of {device} twice at one time", where=path)
        if place <= last:
            raise RefusedError("samples-invalid", "have rows out of order, or one row twice", where=path)
        of_figure += 1
        if of_figure > CAPS.samples_rows:
            raise RefusedError("samples-too-large", f"have more than {CAPS.samples_rows} rows of {device}", where=path)
        last, before = place, Row(device, workload, phase, at, quantity, value)
        yield before


def _check_value(phase: str, quantity: str, value: str, path: Path) -> None:
    """Refuse a value in another spelling than its only one: an integer, a digest, the reasons of throttling.

    Raises:
        RefusedError: `samples-invalid`.
    """
    if quantity == "throttled":
        reasons = value.split("+")
        good = value == "none" or ("none" not in reasons and all(reasons) and reasons == sorted(set(reasons)))
    elif quantity.endswith("_sha256"):
        good = _DIGEST.fullmatch(value) is not None
    elif phase == "trial" and value == "out-of-memory":
        return
    else:
        integer(value, path)
        return
    if not good:
        raise RefusedError("samples-invalid", f"have a value of {quantity} that is none", where=path)


def integer(text: str, path: Path) -> int:
    """Return an integer in its one spelling, |n| < 10^18.

    Raises:
        RefusedError: `samples-invalid`.
    """
    if text.isdigit() and text[0] != "0" and len(text) <= MAX_DIGITS:  # nearly all: ASCII was made sure of
        return int(text)
    if not _INTEGER.fullmatch(text) or text == "-0":
        raise RefusedError("samples-invalid", "hold a number that is none", where=path)
    return int(text)


def _lines(content: bytes, path: Path) -> Iterator[str]:
    """Yield the lines of a gzip file, never unpacking more than the caps: a small file may hold a large one."""
    most = min(CAPS.samples_unpacked_bytes, max(CAPS.package_ratio * len(content), FLOOR_BYTES))
    unpacker = zlib.decompressobj(wbits=31)
    total, data, rest = 0, content, b""
    while data:
        try:
            unpacked = unpacker.decompress(data, 1 << 20)
        except zlib.error as error:
            raise RefusedError("samples-invalid", f"are not gzip ({error})", where=path) from None
        data = unpacker.unconsumed_tail
        total += len(unpacked)
        if total > most:
            raise RefusedError("samples-too-large", f"unpack to more than {most} bytes", where=path)
        whole, newline, rest = (rest + unpacked).rpartition(b"\n")
        if len(rest) > LINE_MAX_BYTES:
            raise RefusedError("samples-invalid", f"have a line of more than {LINE_MAX_BYTES} bytes", where=path)
        if newline:
            yield from _texts(whole, path)
    if not unpacker.eof or unpacker.unused_data or rest:
        raise RefusedError("samples-invalid", "are truncated, or something follows them", where=path)


def _texts(lines: bytes, path: Path) -> list[str]:
    if _STRANGE.search(lines):
        raise RefusedError("samples-invalid", "hold a character that no row has", where=path)
    texts = lines.decode("ascii").split("\n")
    if max(map(len, texts)) > LINE_MAX_BYTES:
        raise RefusedError("samples-invalid", f"have a line of more than {LINE_MAX_BYTES} bytes", where=path)
    return texts
