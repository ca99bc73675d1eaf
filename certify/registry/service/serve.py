"""The HTTP server: uvicorn, which speaks by `certify.registry.service.http.protocol`."""

from __future__ import annotations

import contextlib
import gc
import logging
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from bench.errors import InputError
from certify.registry.base.registry import Registry
from certify.registry.maintenance.watch import watch_refused, watch_samples, watch_trust
from certify.registry.service.app import create_app
from certify.registry.service.http.protocol import Protocol
from certify.registry.service.http.subpath import checked_root_path
from certify.registry.service.middleware import JsonLines
from certify.registry.state.feed import PoolFilter, feed

SWITCH_S = 0.0005  # for which a thread may compute while another waits
SHUTDOWN_S = 120  # for which requests that are running may run on when the service ends


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
    root_path: str = "",
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
        root_path: path of its host below which the registry is reached, as ``/petaseal``; empty: at the host itself.

    Raises:
        InputError: `usage` for a wrong `root_path`, `tls-invalid`, `address-in-use`.
    """
    _log_as_json()
    # The event loop gives the interpreter away with each write to a socket, and gets it back when the thread that took
    # it has had its share: 5 ms by default, of which an answer needs several.
    sys.setswitchinterval(SWITCH_S)
    app = create_app(registry, root_path=checked_root_path(root_path))
    # uvicorn takes a class, and not an instance with settings
    header_s = float(registry.settings.limits.header_s)
    kind = type("Protocol", (Protocol,), {"header_s": header_s, "traffic": app.state.metrics.traffic})
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
    # the first reader, and the first follower of the feed, wait for nothing that can be made before
    feed(registry.store, registry.now, registry.settings.stale_after_s, PoolFilter())
    # what stands now stays: to look through all of it again and again would let every reader wait
    gc.collect()
    gc.freeze()
    ended = threading.Event()
    for name, watch in (("trust", watch_trust), ("refused", watch_refused), ("samples", watch_samples)):
        threading.Thread(target=watch, args=(registry, ended), name=name, daemon=True).start()
    try:
        with _ending_well():
            Server(config).run()
    except SystemExit:  # uvicorn could not listen, and has said why
        raise InputError("address-in-use", "cannot be listened on", where=f"{host}:{port}") from None
    finally:
        ended.set()


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
