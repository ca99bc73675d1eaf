"""HTTP under one deadline for a whole call: connecting, TLS, headers and body, however slowly the server sends.

A time-out for each read alone is none: a server that sends a byte a second for ever never keeps anybody waiting long.
Gigabytes must get through all the same, so that what is carried at `SLOWEST_BYTES_S` or faster extends the deadline.
Everything here is of `httpcore`'s public interface, on which `httpx` stands.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import httpcore
import httpx

SLOWEST_BYTES_S = 65_536  # half a megabit: records of 1 GB may take four hours and a half
PIECE = 2**14  # bytes of one write, after which the deadline is looked at
KEPT_S = 5.0  # how long an idle connection is kept


class Deadline:
    """The time that a call has left; it runs while the call is on the network, not while it waits to be repeated."""

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit_s = limit_s
        self._clock = clock
        self._spent_s = 0.0
        self._begun: float | None = None
        self._carried = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Let the time run for one attempt."""
        self._begun = self._clock()
        try:
            yield
        finally:
            self._spent_s, self._begun = self._spent(), None

    def carry(self, count: int) -> None:
        """Note bytes that were sent or received."""
        self._carried += count

    @property
    def left_s(self) -> float:
        """Seconds that are left; not positive once it is over."""
        return self.limit_s + self._carried / SLOWEST_BYTES_S - self._spent()

    def within(self, timeout_s: float | None, late: type[Exception]) -> float:
        """Return how long one operation may take.

        Raises:
            Exception: `late`, the deadline is over.
        """
        left_s = self.left_s
        if left_s <= 0:
            raise late(f"the deadline of {self.limit_s:g} s over the whole call")
        return left_s if timeout_s is None else min(timeout_s, left_s)

    def _spent(self) -> float:
        return self._spent_s + (0.0 if self._begun is None else self._clock() - self._begun)


class _Stream(httpcore.NetworkStream):
    """A connection each of whose operations ends with the deadline of the call that it serves."""

    def __init__(self, inner: httpcore.NetworkStream, current: Callable[[], Deadline]) -> None:
        self._inner, self._current = inner, current

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        deadline = self._current()
        content = self._inner.read(max_bytes, deadline.within(timeout, httpcore.ReadTimeout))
        deadline.carry(len(content))
        return content

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        deadline = self._current()
        for start in range(0, len(buffer), PIECE):
            piece = buffer[start : start + PIECE]
            self._inner.write(piece, deadline.within(timeout, httpcore.WriteTimeout))
            deadline.carry(len(piece))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        limit_s = self._current().within(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, limit_s), self._current)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Network(httpcore.NetworkBackend):
    """Connections that know the deadline of the call in their thread: one that is kept open serves several calls."""

    def __init__(self) -> None:
        self._inner = httpcore.SyncBackend()
        self._of_thread = threading.local()

    @contextlib.contextmanager
    def call(self, deadline: Deadline) -> Iterator[None]:
        """Let a deadline hold for what this thread does."""
        self._of_thread.deadline = deadline
        with deadline.running():
            yield

    def _current(self) -> Deadline:
        deadline: Deadline = self._of_thread.deadline
        return deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        limit_s = self._current().within(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.connect_tcp(host, port, limit_s, local_address, socket_options), self._current)


class DeadlineTransport(httpx.BaseTransport):
    """The network, for one registry.

    Args:
        url: of the registry, for which the environment may name a proxy.
        context: how TLS is checked; None where the registry is reached without.
    """

    def __init__(self, url: httpx.URL, context: ssl.SSLContext | None) -> None:
        self._network = _Network()
        # a proxy of the environment would take what is meant for this machine to another one
        proxy = proxy_of(url.host) if url.scheme == "https" else None
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            proxy=proxy,
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=KEPT_S,
            network_backend=self._network,
        )

    def call(self, deadline: Deadline) -> contextlib.AbstractContextManager[None]:
        """Return the context in which this thread's requests end with a deadline."""
        return self._network.call(deadline)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        assert isinstance(request.stream, httpx.SyncByteStream)
        asked = httpcore.Request(
            method=request.method,
            url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with _in_words_of_httpx():
            answer = self._pool.handle_request(asked)
        assert isinstance(answer.stream, Iterable)
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions)

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    """The body of an answer, as it comes."""

    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        with _in_words_of_httpx():
            yield from self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()


@contextlib.contextmanager
def _in_words_of_httpx() -> Iterator[None]:
    """Raise the errors of `httpcore` as those of the same name in `httpx`."""
    try:
        yield
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError) as error:
        kind: type[httpx.TransportError] = getattr(httpx, type(error).__name__)
        raise kind(str(error)) from error


def proxy_of(host: str) -> httpcore.Proxy | None:
    """Return the proxy that the environment names for a host (HTTPS_PROXY, ALL_PROXY, NO_PROXY)."""
    known = urllib.request.getproxies()
    named = known.get("https") or known.get("all")
    if not named or urllib.request.proxy_bypass(host):
        return None
    url = httpx.URL(named if "://" in named else f"http://{named}")
    auth = (url.username, url.password) if url.username else None
    return httpcore.Proxy(str(url.copy_with(username=None, password=None)), auth=auth)
