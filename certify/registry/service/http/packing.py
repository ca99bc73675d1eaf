"""Answers packed with gzip, where that pays and tells nobody anything.

Lists, feeds and pages are packed; stored documents are handed out as they were signed. What was packed stays in memory
under the digest of its content, so that hundreds of readers of one answer cost one packing.

A packed answer's length says something of its content. No answer of the registry bears a secret (tokens are never shown
again, nonces are none), but lists that only a holder of a right may see stand beside what an address asks for. Who can
make a browser ask, with the password that it stores, could measure that (BREACH): what is asked for with Basic is never
packed. A bearer token is sent along by no browser on its own.
"""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections import OrderedDict

from anyio import CapacityLimiter, to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LEAST_BYTES = 1024  # below, a packet of the network is not saved
AT_ONCE_BYTES = 2**15  # that are packed in the event loop's thread: in less time than another thread takes to begin
FAST_BYTES = 2**20  # from here on packed quickly rather than tightly
STORED_BYTES = 2**25  # of everything that is packed and stays
TYPES = frozenset(
    [
        "application/json",
        "application/problem+json",
        "text/html",
        "text/csv",
        "text/css",
        "text/javascript",
        "text/plain",
        "image/svg+xml",
    ]
)
THREADS = 2


class PackedBodies:
    """Packed bodies by the digest of what they hold; the least recently used are dropped first."""

    def __init__(self, most_bytes: int = STORED_BYTES) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._bodies: OrderedDict[bytes, bytes] = OrderedDict()
        self._bytes = 0
        self.packings = 0

    def packed(self, body: bytes) -> bytes:
        """Return a body as gzip, the same bytes for the same body."""
        key = hashlib.blake2b(body, digest_size=20).digest()
        with self._lock:
            if (before := self._bodies.get(key)) is not None:
                self._bodies.move_to_end(key)
                return before
        # without the time: the same body must give the same bytes
        packed = gzip.compress(body, 1 if len(body) > FAST_BYTES else 6, mtime=0)
        with self._lock:
            self.packings += 1
            if key not in self._bodies and len(packed) <= self._most_bytes // 4:
                self._bodies[key] = packed
                self._bytes += len(packed)
            while self._bytes > self._most_bytes:
                _, oldest = self._bodies.popitem(last=False)
                self._bytes -= len(oldest)
        return packed


class GzipMiddleware:
    """ASGI middleware inside of `RequestMiddleware` that packs whole answers; what is streamed goes out as it comes."""

    def __init__(self, app: ASGIApp, bodies: PackedBodies) -> None:
        self.app = app
        self.bodies = bodies
        self.threads = CapacityLimiter(THREADS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        started: Message | None = None
        wanted = may_pack(Headers(scope=scope))

        async def packing(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                # RFC 9110, section 12.5.5: of 304 too
                MutableHeaders(scope=message).add_vary_header("Accept-Encoding")
                started = message
                return
            if started is not None:
                first, started = started, None
                if wanted and not message.get("more_body", False):
                    message = await self._pack(first, message)
                await send(first)
            await send(message)

        await self.app(scope, receive, packing)

    async def _pack(self, start: Message, message: Message) -> Message:
        """Return the message with the body packed where that pays, and change the headers to that."""
        body, headers = message.get("body", b""), MutableHeaders(scope=start)
        media_type = headers.get("content-type", "").partition(";")[0].strip()
        if start["status"] != 200 or len(body) < LEAST_BYTES or media_type not in TYPES:
            return message
        if "content-encoding" in headers:
            return message
        if len(body) <= AT_ONCE_BYTES:
            packed = self.bodies.packed(body)
        else:
            packed = await to_thread.run_sync(self.bodies.packed, body, limiter=self.threads)
        headers["Content-Encoding"] = "gzip"
        headers["Content-Length"] = str(len(packed))
        # RFC 9110, section 8.8.1: a strong tag is of these very bytes, and these are others
        if (tag := headers.get("etag")) is not None and not tag.startswith("W/"):
            headers["ETag"] = f"W/{tag}"
        return {**message, "body": packed}


def may_pack(headers: Headers) -> bool:
    """Return whether a client takes gzip, and nobody else made it ask with a right of its own."""
    if headers.get("authorization", "").strip().lower().startswith("basic"):
        return False
    for given in headers.get("accept-encoding", "").split(","):
        name, _, weight = given.partition(";")
        if name.strip().lower() in ("gzip", "x-gzip"):
            return weight.replace(" ", "").lower() not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
