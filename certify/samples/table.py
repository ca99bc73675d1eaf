"""Samples of a record: gzip-compressed CSV (``docs/formats.md``), read strictly, by columns, in bounded memory.

One node of eight devices and four windows of ten minutes leaves half a million rows. They are read in blocks of whole
lines with numpy: where commas and newlines stand, which rows share device, workload and phase, and every integer at
once. A row is refused for the same faults as by a reader that goes line by line, whose rules stand in `Block`.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.errors import RefusedError
from bench.record import NodeRecord, read_bytes
from certify.documents.caps import CAPS
from certify.documents.kinds import OpenedDocument
from certify.samples.block import LINE_MAX_BYTES, Block, TableState
from certify.samples.rows import Rows, Segment

SAMPLES_SUFFIX = ".samples.csv.gz"
BLOCK_BYTES = 1 << 20  # unpacked at a time
FLOOR_BYTES = 1 << 20  # unpacked; below, no ratio is looked at, as with a package
MAX_FIGURES = 8192  # 1,024 devices in eight workloads
HEADER = b"device,workload,phase,offset_ns,quantity,value"


def bound_samples(opened: OpenedDocument[NodeRecord], path: Path) -> bytes:
    """Return the samples in a file, which are those that a record binds.

    Raises:
        RefusedError: `samples-missing`, `samples-differ`.
    """
    return samples_of_digest(opened.subject_digest, path)


def samples_of_digest(sha256: str, path: Path) -> bytes:
    """Return the samples in a file, which have the digest that their record binds (see `bound_samples`)."""
    if not path.exists():
        raise RefusedError("samples-missing", "there are no samples of this record", where=path)
    content = read_bytes(path, CAPS.samples_bytes)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise RefusedError("samples-differ", "are not the samples that the record binds", where=path)
    return content


def figures(content: bytes, path: Path) -> Iterator[Rows]:
    """Yield the rows of each device and workload, one after another, so that only one figure's are ever held.

    Args:
        content: the file.
        path: where it lies, for the error text.

    Raises:
        RefusedError: `samples-invalid`, `samples-too-large`.
    """
    state = TableState(path)
    held: list[Segment] = []
    count = 1
    for segment in _segments(content, state):
        if held and held[0][:2] != segment[:2]:
            yield _joined(held, state)
            held, count = [], count + 1
            if count > MAX_FIGURES:
                raise state.refused(f"have more than {MAX_FIGURES} devices and workloads")
        held.append(segment)
        if state.of_figure > CAPS.samples_rows:
            what = f"have more than {CAPS.samples_rows} rows of {segment.device}"
            raise RefusedError("samples-too-large", what, where=path)
    if held:
        yield _joined(held, state)


def _joined(held: list[Segment], state: TableState) -> Rows:
    """Return the segments of one figure as one."""
    phases = np.repeat([part.phase for part in held], [len(part.offset_ns) for part in held]).astype(np.int8)
    offset_ns, quantity, value = (
        np.concatenate([getattr(part, name) for part in held]) for name in ("offset_ns", "quantity", "value")
    )
    return Rows(*held[0][:2], phases, offset_ns, quantity, value, state.names.listed, state.texts.listed)


def _segments(content: bytes, state: TableState) -> Iterator[Segment]:
    """Yield the segments of a file in their order."""
    state.texts.number("none")  # so that its number is 0: `Block` compares it as a word, without a look-up
    first = True
    for block in _blocks(content, state.path):
        if first:
            header, _, block = block.partition(b"\n")
            if header != HEADER:
                raise state.refused("are not a table of samples")
            first = False
        if block:
            yield from Block(block, state).segments()
    if first:
        raise state.refused("are not a table of samples")


def _blocks(content: bytes, path: Path) -> Iterator[bytes]:
    """Yield the whole lines of a gzip file in blocks, never unpacking more than the caps: a small file may hold much.

    Raises:
        RefusedError: `samples-invalid`, `samples-too-large`.
    """
    # A fixed cap bounds memory and time; a ratio, which honest tables stay below, stops a bomb long before that.
    most = min(CAPS.samples_unpacked_bytes, max(CAPS.package_ratio * len(content), FLOOR_BYTES))
    unpacker = zlib.decompressobj(wbits=31)
    total, data, rest = 0, content, b""
    while data:
        try:
            unpacked = unpacker.decompress(data, BLOCK_BYTES)
        except zlib.error as error:
            raise RefusedError("samples-invalid", f"are not gzip ({error})", where=path) from None
        data = unpacker.unconsumed_tail
        total += len(unpacked)
        if total > most:
            raise RefusedError("samples-too-large", f"unpack to more than {most} bytes", where=path)
        lines, newline, rest = (rest + unpacked).rpartition(b"\n")
        if len(rest) > LINE_MAX_BYTES:
            raise RefusedError("samples-invalid", f"have a line of more than {LINE_MAX_BYTES} bytes", where=path)
        if newline:
            yield lines + newline
    if not unpacker.eof or unpacker.unused_data or rest:
        raise RefusedError("samples-invalid", "are truncated, or something follows them", where=path)
