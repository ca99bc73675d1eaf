"""Strict POSIX tar, plain or gzip: one pass over bytes that somebody sent, in bounded memory; and the same headers out.

Only regular files come out of an archive. Everything by which one could write elsewhere, be read in two ways or unpack
without end is refused with a reason code of its own. Which names belong into it is not known here.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from typing import BinaryIO, Protocol

from bench.errors import InputError, RefusedError

BLOCK = 512
RECORD = 20 * BLOCK  # POSIX: an archive ends with two zero blocks, and is filled up with zeros to a multiple of this
MAX_SIZE = 8**11 - 1  # 11 octal digits
GZIP_MAGIC = b"\x1f\x8b"
CHUNK = 1 << 20
PAX_BYTES = 4096  # a header of a few times and names
_PAX_HARMLESS = frozenset({"atime", "comment", "ctime", "gid", "gname", "mtime", "uid", "uname"})
_POSIX, _GNU = b"ustar\x0000", b"ustar  \x00"
_OCTAL = re.compile(rb" *([0-7]{1,12})[ \x00]*")
_REFUSED = {
    b"1": ("archive-hardlink", "is a hard link"),
    b"2": ("archive-symlink", "is a symbolic link"),
    b"3": ("archive-device", "is a device"),
    b"4": ("archive-device", "is a device"),
    b"6": ("archive-fifo", "is a FIFO"),
    b"S": ("archive-sparse", "is a sparse file"),
}

Place = Callable[[str, int, bool], "BinaryIO | None"]


class _Source(Protocol):
    def read(self, count: int, /) -> bytes: ...


class _Gunzip:
    """One gzip member, unpacked only as far as it is asked for."""

    def __init__(self, file: BinaryIO, where: object) -> None:
        self._file, self._where = file, where
        self._unpacker = zlib.decompressobj(wbits=31)

    def read(self, count: int) -> bytes:
        """Return so many bytes, fewer at the end."""
        parts = []
        while count and not self._unpacker.eof:
            packed = self._unpacker.unconsumed_tail or self._file.read(CHUNK)
            try:
                part = self._unpacker.decompress(packed, count)
            except zlib.error as error:
                raise RefusedError("archive-invalid", f"is damaged gzip ({error})", where=self._where) from None
            if not packed and not part and not self._unpacker.eof:
                raise RefusedError("archive-truncated", "ends in the middle of its gzip", where=self._where)
            parts.append(part)
            count -= len(part)
        if self._unpacker.eof and (self._unpacker.unused_data or self._file.read(1)):
            raise RefusedError("archive-trailing-bytes", "has bytes after the end of its gzip", where=self._where)
        return b"".join(parts)


class ArchiveReader:
    """Reads one archive, once.

    Args:
        file: the archive, at its beginning.
        max_bytes: cap on its size, unpacked.
        where: what the archive is, for the error text.
    """

    def __init__(self, file: BinaryIO, max_bytes: int, where: object = None) -> None:
        self._where, self._left = where, max_bytes
        packed = file.read(2) == GZIP_MAGIC
        file.seek(0)
        self._source: _Source = _Gunzip(file, where) if packed else file
        self._packed = packed

    def unpack(self, place: Place) -> None:
        """Hand on every member, in the order of the archive.

        Args:
            place: called with name, size and whether it is a folder; returns the file that the content is written to
                (and that is closed here), or None to pass over it. What it refuses ends the reading.

        Raises:
            RefusedError: `archive-*`, with the code of the first fault.
        """
        block = self._exactly(BLOCK)
        if self._packed and block.startswith(GZIP_MAGIC):
            raise self._refusal("archive-gzip-nested", "is gzip within gzip")
        while block.strip(b"\0"):
            self._member(block, place)
            block = self._exactly(BLOCK)
        if self._exactly(BLOCK).strip(b"\0"):
            raise self._refusal("archive-trailing-bytes", "goes on after its end")
        rest = self._read(RECORD)
        if rest.strip(b"\0") or len(rest) % BLOCK or len(rest) == RECORD:
            raise self._refusal("archive-trailing-bytes", "has bytes after its end")

    def _member(self, block: bytes, place: Place) -> None:
        if block[257:265] not in (_POSIX, _GNU) or _octal(block[148:156]) != _checksum(block):
            raise self._refusal("archive-invalid", "is not a POSIX tar, or is damaged")
        kind = block[156:157]
        name = self._name(block)
        size = _octal(block[124:136])
        if size is None:
            raise self._refusal("archive-size-invalid", f"gives {name!r} a size that is no octal number")
        if kind in b"xg":
            if size > PAX_BYTES:
                raise self._refusal("archive-extension", "has an extended header of more than a few times and names")
            self._check_pax(self._exactly(size), name)
            self._padding(size)
            return
        if kind in _REFUSED:
            code, what = _REFUSED[kind]
            raise self._refusal(code, f"{name!r} {what}")
        if kind not in b"05\0":
            raise self._refusal("archive-extension", f"{name!r} is of the kind {kind!r}, no regular file")
        self._check_name(name)
        folder = kind == b"5"
        if folder and size:
            raise self._refusal("archive-size-invalid", f"gives the folder {name!r} a content")
        out = place(name.removesuffix("/") if folder else name, size, folder)
        with out or nullcontext():
            for start in range(0, size, CHUNK):
                part = self._exactly(min(CHUNK, size - start))
                if out is not None:
                    out.write(part)
        self._padding(size)

    def _name(self, block: bytes) -> str:
        name, _, hidden = block[:100].partition(b"\0")
        prefix = block[345:500].rstrip(b"\0") if block[257:265] == _POSIX else b""
        raw = prefix + b"/" + name if prefix else name
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            text = ""
        if not text.isprintable() or not text or hidden.strip(b"\0"):
            raise self._refusal("archive-name-invalid", f"has a member named {raw[:100]!r}")
        return text

    def _check_name(self, name: str) -> None:
        for broken, code, what in (
            ("\\" in name, "archive-name-backslash", "holds a backslash"),
            (name.startswith("/") or name[1:2] == ":", "archive-name-absolute", "is absolute"),
            (".." in name.split("/"), "archive-name-parent", "leads out of the folder"),
        ):
            if broken:
                raise self._refusal(code, f"the name {name!r} {what}")

    def _check_pax(self, content: bytes, name: str) -> None:
        """Refuse an extended header that is more than times, owner and comment: others rename, resize or redefine."""
        at, keys = 0, set()
        while at < len(content):
            length = content[at : at + 7].partition(b" ")[0]
            end = at + int(length) if length.isdigit() else at
            entry = content[at + len(length) : end]
            key, equals, _ = entry[1:].partition(b"=")
            if not (entry.startswith(b" ") and entry.endswith(b"\n") and equals and end <= len(content)) or key in keys:
                raise self._refusal("archive-invalid", "has a damaged extended header")
            if key.startswith(b"GNU.sparse."):
                raise self._refusal("archive-sparse", f"{name!r} is a sparse file")
            if key.decode("latin-1") not in _PAX_HARMLESS:
                raise self._refusal("archive-extension", f"an extended header sets {key[:100]!r}")
            keys.add(key)
            at = end

    def _padding(self, size: int) -> None:
        if self._exactly(-size % BLOCK).strip(b"\0"):
            raise self._refusal("archive-trailing-bytes", "has bytes between a member's end and the next one")

    def _exactly(self, count: int) -> bytes:
        content = self._read(count)
        if len(content) < count:
            raise self._refusal("archive-truncated", "ends in the middle")
        return content

    def _read(self, count: int) -> bytes:
        try:
            content = self._source.read(min(count, self._left + 1))
        except OSError as error:
            raise InputError("file-unreadable", f"cannot be read ({error.strerror})", where=self._where) from None
        self._left -= len(content)
        if self._left < 0:
            raise self._refusal("archive-too-large", "unpacks to more than its cap")
        return content

    def _refusal(self, code: str, what: str) -> RefusedError:
        return RefusedError(code, what, where=self._where)


def header(name: str, size: int) -> bytes:
    """Return the header block of a regular file: owner, group and time are 0, mode 0644.

    Args:
        name: at most 100 ASCII characters.
        size: bytes, at most `MAX_SIZE`.
    """
    fields = (
        name.encode("ascii").ljust(100, b"\0"),
        b"0000644\x00" + 2 * b"0000000\x00",  # mode, then user and group
        b"%011o\0" % size,
        b"%011o\0" % 0,  # time
        b" " * 8,  # the check sum, which is taken over spaces
        b"0".ljust(101, b"\0"),  # a regular file, and no link
        _POSIX,
    )
    block = b"".join(fields).ljust(BLOCK, b"\0")
    if len(block) != BLOCK or size > MAX_SIZE:
        raise ValueError(f"{name!r} of {size} bytes does not fit into a header")
    return block[:148] + b"%06o\0 " % _checksum(block) + block[156:]


def _octal(field: bytes) -> int | None:
    match = _OCTAL.fullmatch(field)
    return int(match[1], 8) if match else None


def _checksum(block: bytes) -> int:
    return sum(block[:148]) + 8 * ord(" ") + sum(block[156:BLOCK])
