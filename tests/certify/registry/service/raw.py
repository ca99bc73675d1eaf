"""HTTP by bytes: what a client sends that no library would send, and every answer that comes back."""

from __future__ import annotations

import contextlib
import io
import socket
from http.client import HTTPResponse
from typing import NamedTuple

WAIT_S = 0.5  # for a further answer, where the server keeps the connection


class RawAnswer(NamedTuple):
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes


def exchange(port: int, sent: bytes, piece: int) -> list[RawAnswer]:
    """Send bytes in pieces, and return all answers until the server closes or says no more."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):  # refused before everything was sent
            for begin in range(0, len(sent), piece):
                connection.sendall(sent[begin : begin + piece])
        return _answers(_received(connection))


def _received(connection: socket.socket) -> bytes:
    whole = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        while piece := connection.recv(2**16):
            whole += piece
            connection.settimeout(WAIT_S)
    return whole


class _Stream:
    """What http.client reads of a socket."""

    def __init__(self, content: bytes) -> None:
        self.file = io.BytesIO(content)
        self.file.close = lambda: None  # type: ignore[method-assign]

    def makefile(self, *_: object) -> io.BytesIO:
        return self.file


def _answers(content: bytes) -> list[RawAnswer]:
    stream, answers = _Stream(content), []
    while stream.file.tell() < len(content):
        response = HTTPResponse(stream)  # type: ignore[arg-type]
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        answers.append(RawAnswer(response.status, headers, response.read()))
    return answers
