"""How bodies are read: with a cap on what comes and on what it unpacks to, and a limit on silence.

Nothing here knows what a body means. Memory is constant: a piece is written before the next one is taken.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import anyio
import msgspec
from anyio import CapacityLimiter, to_thread
from fastapi import Request

from bench.errors import InputError, RefusedError

T = TypeVar("T")
PIECE = 2**18  # bytes that are handed to a thread at once
UNPACKED = 2**20  # bytes that are unpacked at once
SMALL = 2**16  # bytes for which a thread costs more than it saves
GZIP_MEMBERS = 100_000  # 64 KiB each in a body of the largest size; empty ones would only burn time
GZIP = 16 + zlib.MAX_WBITS
ASK_BYTES = 2**16

JSON = ("application/json",)
ENVELOPE = ("application/json", "application/vnd.petaseal.dsse+json")
LINES = ("application/jsonl", "application/x-ndjson", "application/octet-stream")


class BodyRule(NamedTuple):
    """The limits of a request's body: media types, size and time."""

    kinds: tuple[str, ...]
    cap_bytes: int  # of what comes, and of what it unpacks to
    idle_s: float  # between two pieces
    whole_s: float | None = None  # for all of it; None where its size says nothing about its time


async def read(request: Request, how: BodyRule, threads: CapacityLimiter) -> bytes:
    """Return a request's body, of at most `how.cap_bytes` bytes.

    Raises:
        RefusedError, InputError: as in `read_into`.
    """
    pieces: list[bytes] = []
    await read_into(request, how, pieces.append, threads)
    return b"".join(pieces)


async def read_ask(request: Request, kind: type[T], idle_s: float, threads: CapacityLimiter) -> T:
    """Return a small JSON body as a value of a strict type.

    Raises:
        msgspec.ValidationError: it does not fit.
        RefusedError, InputError: as in `read_into`.
    """
    content = await read(request, BodyRule(JSON, ASK_BYTES, idle_s, idle_s), threads)
    return msgspec.json.decode(content, type=kind)


async def read_into(request: Request, how: BodyRule, write: Callable[[bytes], Any], threads: CapacityLimiter) -> None:
    """Read a body, unpack it and write it piece by piece; `write` runs in a thread where a piece is large.

    Raises:
        RefusedError: `media-type-wrong`, `document-too-large`, `body-slow`.
        InputError: `body-cut-off` the client went away, `body-invalid` it cannot be unpacked.
    """
    packed = _check_headers(request, how)
    sink = _Unpacker(write, how.cap_bytes) if packed else _Plain(write, how.cap_bytes)
    deadline_s = None if how.whole_s is None else anyio.current_time() + how.whole_s
    came, more, waiting = 0, True, bytearray()
    while more:
        piece, more = await _next(request, how.idle_s, deadline_s)
        came += len(piece)
        # of what comes, and `_Plain` of what it unpacks to: a bomb is small outside, and big inside
        if came > how.cap_bytes:
            raise _too_large(how.cap_bytes)
        waiting += piece
        if len(waiting) < PIECE and more:
            continue
        if packed or len(waiting) > SMALL:
            await to_thread.run_sync(sink.feed, bytes(waiting), limiter=threads)
        else:
            sink.feed(bytes(waiting))
        waiting.clear()
    sink.finish()


def _check_headers(request: Request, how: BodyRule) -> bool:
    """Refuse a body by its headers where they suffice, and return whether it is packed by gzip."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in how.kinds:
        named = " or ".join(how.kinds)
        raise RefusedError("media-type-wrong", f"the body is {kind or 'of no type'}, not {named}")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    # RFC 9110, section 8.4.1.3: x-gzip is the same as gzip
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise RefusedError("media-type-wrong", f"Content-Encoding {encoding} is not known", fix="use gzip, or none")
    # refused before a byte is read, where the client is honest; the count below holds for all others
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > how.cap_bytes:
        raise _too_large(how.cap_bytes)
    return encoding.endswith("gzip")


async def _next(request: Request, idle_s: float, deadline_s: float | None) -> tuple[bytes, bool]:
    """Return the next piece, and whether more will come."""
    wait_s = idle_s if deadline_s is None else min(idle_s, deadline_s - anyio.current_time())
    try:
        with anyio.fail_after(max(0.0, wait_s)):
            message = await request.receive()
    except TimeoutError:
        raise RefusedError("body-slow", "the body did not come in time", fix="send it again") from None
    if message["type"] == "http.disconnect":
        raise InputError("body-cut-off", "the body ended too early; nothing was stored")
    return message.get("body", b""), message.get("more_body", False)


class _Plain:
    """Writes what comes."""

    def __init__(self, write: Callable[[bytes], Any], cap_bytes: int) -> None:
        self._write = write
        self._cap_bytes = cap_bytes
        self._size = 0

    def feed(self, piece: bytes) -> None:
        """Write a piece."""
        self._size += len(piece)
        if self._size > self._cap_bytes:
            raise _too_large(self._cap_bytes)
        if piece:
            self._write(piece)

    def finish(self) -> None:
        """There is no more."""


class _Unpacker(_Plain):
    """Writes what comes out of gzip; stops at the cap, however much would still come out."""

    def __init__(self, write: Callable[[bytes], Any], cap_bytes: int) -> None:
        super().__init__(write, cap_bytes)
        self._member: Any = None  # zlib's type has no name
        self._members = 0

    def feed(self, piece: bytes) -> None:
        """Unpack a piece and write what comes out."""
        try:
            self._unpack(piece)
        except zlib.error:
            raise InputError("body-invalid", "the body is not gzip, or is damaged") from None

    def _unpack(self, piece: bytes) -> None:
        while piece:
            if self._member is None:
                self._members += 1
                if self._members > GZIP_MEMBERS:
                    raise InputError("body-invalid", f"the body has more than {GZIP_MEMBERS} gzip members")
                self._member = zlib.decompressobj(GZIP)
            full = True
            while full:
                # bounded output: a bomb is stopped after a megabyte, wherever it would end
                out = self._member.decompress(piece, UNPACKED)
                super().feed(out)
                piece = self._member.unconsumed_tail
                full = len(out) == UNPACKED or bool(piece)
            if self._member.eof:
                piece, self._member = self._member.unused_data, None

    def finish(self) -> None:
        """Refuse a body that ended inside of a member, or that has none."""
        if self._member is not None or not self._members:
            raise InputError("body-invalid", "the gzip stream ended too early")


def _too_large(cap_bytes: int) -> RefusedError:
    return RefusedError("document-too-large", f"the body is larger than {cap_bytes} bytes")
