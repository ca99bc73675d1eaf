"""HTTP/1.1 as the registry takes it: strict about what a request is, and with an end to slow clients.

Where two programs read the same bytes as different requests, whoever sends them can pass one by the first (request
smuggling). What RFC 9112 lets a server forgive is therefore refused with status 400, before any of it is carried out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import uuid
from typing import Any

import h11
import msgspec
from uvicorn.protocols.http.h11_impl import H11Protocol

from certify.policy.reasons import reasons
from certify.registry.api.common import Problem
from certify.registry.service.middleware import PROTECTING
from certify.registry.service.openapi import PROBLEM
from certify.registry.state.traffic import Traffic

LINGER_S = 5  # for which the rest of a body is thrown away after an early answer: closing at once could lose the answer
HEAD_BYTES = 16_384  # of a request line with all headers
HEADERS = 100  # of one request
PIECE = 2**14  # bytes that are read at once: `StrictConnection` looks at what is left for each chunk of a body
BROKEN_LINE = re.compile(rb"(?<!\r)\n|\r(?!\n)")
FOLDED = re.compile(rb"\r\n[ \t]")
CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
CHUNK_LINE = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r[^\n]")  # what no line between chunks may have
LENGTHS = re.compile(rb"(?i)\r\ncontent-length:([^\r\n]*)")
HOST = re.compile(rb"(?:[A-Za-z0-9._~-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
LENGTH = b"content-length"
CODING = b"transfer-encoding"


class StrictConnection(h11.Connection):
    """One client's connection; refuses what another reader of the same bytes could take for another request."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, HEAD_BYTES)
        self.fault: str | None = None  # in one sentence, for the answer

    def next_event(self) -> Any:
        """Return the next event, as h11 does.

        Raises:
            h11.RemoteProtocolError: the bytes are no request that every reader reads alike.
        """
        before, _ = self.trailing_data
        event = super().next_event()
        # h11 joins folded lines and ends a line at a bare LF: only the bytes themselves still show it
        if isinstance(event, (h11.Request, h11.EndOfMessage)):
            left, _ = self.trailing_data
            self._refuse(_fault_of_lines(before[: len(before) - len(left)]))
        elif self.their_state is h11.SEND_BODY:
            self._refuse(self._fault_of_chunk(before, event))
        if isinstance(event, h11.Request):
            self._refuse(_fault_of_request(event))
        elif isinstance(event, h11.EndOfMessage) and event.headers:
            self._refuse("a chunked body has trailers, which are not taken")
        return event

    def _fault_of_chunk(self, before: bytes, event: Any) -> str | None:
        """Return what is wrong with the line before a chunk: another reader could see its end elsewhere."""
        left, _ = self.trailing_data
        content = len(event.data) if isinstance(event, h11.Data) else 0
        read = before[: len(before) - len(left) - content]
        return "the line before a chunk has a control character" if CHUNK_LINE.search(read) else None

    def _refuse(self, fault: str | None) -> None:
        if fault is not None:
            self.fault = fault
            raise h11.RemoteProtocolError(fault)


def _fault_of_lines(content: bytes) -> str | None:
    """Return what is wrong with the lines of a head, or of the end of a chunked body."""
    if BROKEN_LINE.search(content):
        return "a line ends in LF or CR without the other"
    if FOLDED.search(content):
        return "a header is folded over several lines"
    if CONTROL.search(content):
        return "a header has a control character"
    # RFC 9112, section 6.3: equal ones may be forgiven, and whoever reads only one of them need not know that
    lengths = LENGTHS.findall(content)
    if len(lengths) > 1 or b"," in b"".join(lengths):
        return "the request has more than one Content-Length"
    if len(content) > HEAD_BYTES:
        return f"the request line and the headers are longer than {HEAD_BYTES} bytes"
    return None


def _fault_of_request(request: h11.Request) -> str | None:
    """Return what is wrong with a request that is well-formed by itself."""
    names = [name for name, _ in request.headers]
    if len(names) > HEADERS:
        return f"the request has more than {HEADERS} headers"
    if LENGTH in names and CODING in names:
        return "the request has Content-Length and Transfer-Encoding both"
    if request.http_version not in (b"1.0", b"1.1"):
        return "the request is not of HTTP/1.0 or HTTP/1.1"
    # RFC 9112, section 6.1: a sender of HTTP/1.0 knows no chunks, so that its length is not known
    if CODING in names and request.http_version == b"1.0":
        return "the request is of HTTP/1.0 and has Transfer-Encoding"
    # `//host/path` is a path here and another host's address to a browser; there is no proxy behind this server
    if not request.target.startswith(b"/") or request.target.startswith(b"//"):
        return "the target is not a path of this server"
    # RFC 9112, section 3.2; with a slash or a # in it, an address that is put together of it would have another path
    if any(name == b"host" and not HOST.fullmatch(value) for name, value in request.headers):
        return "the Host is no name or address with a port"
    return None


class Protocol(H11Protocol):
    """HTTP/1.1 whose requests must begin, and whose refused bodies must end, in time."""

    header_s = 20.0
    traffic: Traffic | None = None  # counts what is no request; None: nobody counts

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.conn = self._strict = StrictConnection()
        self._timer: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None  # until a client takes something of its answer

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timeout of the first request."""
        super().connection_made(transport)
        self._wait(self.header_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timeouts of a closed connection."""
        self._stop()
        if self._unread is not None:
            self._unread.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Receive bytes; the headers of a request must be complete within `header_s` of its first byte."""
        # a header that comes byte by byte (slowloris) is cut off; a quick one is not delayed
        if self._timer is None and self.conn.their_state is h11.IDLE:
            self._wait(self.header_s)
        was_idle = self.conn.their_state is h11.IDLE
        for begin in range(0, len(data), PIECE):
            if not self.transport.is_closing():
                super().data_received(data[begin : begin + PIECE])
        if was_idle and self.conn.their_state is not h11.IDLE:
            self._stop()

    def on_response_complete(self) -> None:
        """Go on with the next request; what is left of this one's body must arrive within `LINGER_S`."""
        # RFC 9112, section 9.6: a close with unread bytes resets the connection, and the answer may be lost
        if self.conn.their_state is h11.SEND_BODY:
            self._wait(LINGER_S)
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Start the timeout of a client that does not read its response."""
        super().pause_writing()
        # else readers that never read hold memory for ever (a slow-read attack)
        self._unread = self.loop.call_later(self.header_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Cancel that timeout: the client has read."""
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are not HTTP with a problem document (RFC 9457), status 400."""
        problem = Problem(
            type="urn:petaseal:reason:request-invalid",
            title=reasons()["request-invalid"].en,
            status=400,
            detail=self._strict.fault or msg,
            code="request-invalid",
            instance=str(uuid.uuid4()),
        )
        content = msgspec.json.encode(problem)
        headers = [
            ("Content-Type", PROBLEM),
            ("Content-Length", str(len(content))),
            ("Connection", "close"),
            *PROTECTING.items(),
        ]
        if self.traffic is not None:
            self.traffic.answered("", None, 400, 0.0)
        logging.getLogger("petaseal.registry").info("no request", extra={"fields": {"detail": problem.detail}})
        # the answer may have begun before the fault came, and one to HEAD has no body
        with contextlib.suppress(h11.LocalProtocolError):
            for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=content), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _wait(self, seconds: float) -> None:
        self._stop()
        self._timer = self.loop.call_later(seconds, self._close)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()
