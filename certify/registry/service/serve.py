"""The HTTP server: uvicorn, with an end to clients that are slow on purpose."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h11
import msgspec
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from bench.errors import InputError, PetasealError
from certify.policy.reasons import reasons
from certify.registry.api.common import Problem
from certify.registry.base.registry import Registry
from certify.registry.intake.revoking import refresh_trust
from certify.registry.service.app import MAX_REQUESTS, create_app
from certify.registry.service.middleware import PROTECTING, JsonLines
from certify.registry.service.openapi import PROBLEM
from certify.registry.state.cache import current_snapshot

LINGER_S = 5  # for which the rest of a body is thrown away after an early answer: closing at once could lose the answer
TRUST_S = 60  # between two looks at the trust root
SHUTDOWN_S = 120  # for which requests that are running may run on when the service ends


class Protocol(H11Protocol):
    """HTTP/1.1 whose requests must begin, and whose refused bodies must end, in time."""

    header_s = 20.0

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
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
        super().data_received(data)
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
            detail=msg,
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


class Server(uvicorn.Server):
    """Prints the service's address once it listens."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the listening socket, and print its address."""
        await super().startup(sockets)
        if self.started:
            address = self.servers[0].sockets[0].getsockname()
            host = f"[{address[0]}]" if ":" in address[0] else address[0]
            scheme = "https" if self.config.is_ssl else "http"
            print(f"the registry answers at {scheme}://{host}:{address[1]}", flush=True)  # noqa: T201


def run(
    registry: Registry,
    host: str = "127.0.0.1",
    port: int = 8600,
    ssl_certfile: Path | None = None,
    ssl_keyfile: Path | None = None,
    ssl_keyfile_password: str | None = None,
    trusted_proxies: tuple[str, ...] = (),
    limit_concurrency: int = MAX_REQUESTS,
) -> None:
    """Serve a registry until SIGTERM or SIGINT, and then until the requests that are running are answered.

    Args:
        registry: an open one; closing it is the caller's.
        host: address to listen on.
        port: 0 for any that is free; the line that says so names it.
        ssl_certfile: PEM file of the certificates; None for plain HTTP, which is for a reverse proxy on this machine.
        ssl_keyfile: PEM file of the key; None where it stands in `ssl_certfile`.
        ssl_keyfile_password: of the key.
        trusted_proxies: addresses whose X-Forwarded-For and X-Forwarded-Proto are believed.
        limit_concurrency: requests at once.

    Raises:
        InputError: `tls-invalid`, `address-in-use`.
    """
    _log_as_json()
    app = create_app(registry, limit_concurrency)
    # uvicorn takes a class, and not an instance with settings
    kind = type("Protocol", (Protocol,), {"header_s": float(registry.settings.limits.header_s)})
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="asyncio",
        http=kind,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # believed from nobody else: with a forged X-Forwarded-For the limit of an address would be another's
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies),
        timeout_graceful_shutdown=SHUTDOWN_S,
        ssl_certfile=ssl_certfile,
        ssl_keyfile=ssl_keyfile,
        ssl_keyfile_password=ssl_keyfile_password or "none",  # else OpenSSL would ask on a terminal for one
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one
        raise InputError("tls-invalid", f"the certificate or its key cannot be used ({error.strerror})") from None
    # once at a start: what a killed service left half-written
    registry.store.objects.sweep()
    current_snapshot(registry.store, registry.now, registry.settings)  # the first reader does not wait for it
    ended = threading.Event()
    threading.Thread(target=_watch_trust, args=(registry, ended), name="trust", daemon=True).start()
    try:
        with _ending_well():
            Server(config).run()
    except SystemExit:  # uvicorn could not listen, and has said why
        raise InputError("address-in-use", "cannot be listened on", where=f"{host}:{port}") from None
    finally:
        ended.set()


def _watch_trust(registry: Registry, ended: threading.Event) -> None:
    """End what the trust root revokes, now and every minute: its keepers may have put the next version in its place."""
    while True:
        try:
            refresh_trust(registry)
        except Exception as error:  # told, and tried again: /readyz says that the root is refused
            code = error.code if isinstance(error, PetasealError) else type(error).__name__
            logging.getLogger("petaseal.registry").warning("the trust root could not be looked at: %s", code)
        if ended.wait(TRUST_S):
            return


@contextlib.contextmanager
def _ending_well() -> Iterator[None]:
    """Make nothing of the signal that ended the service: uvicorn raises it again when all is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {ending: signal.signal(ending, lambda *_: None) for ending in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for ending, handler in before.items():
            signal.signal(ending, handler)


def _log_as_json() -> None:
    """Write what is logged to stderr, a JSON object each line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("petaseal.registry", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO if name.startswith("petaseal") else logging.WARNING)
