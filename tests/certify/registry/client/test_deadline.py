"""A time-out is a deadline over a whole call: no server keeps a client waiting by answering a byte at a time."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.errors import InputError
from certify.registry.client import deadline as deadlines
from certify.registry.client.client import RegistryClient
from certify.registry.client.deadline import SLOWEST_BYTES_S, Deadline
from certify.registry.client.transport import Transport, TransportRequest

LIMIT_S = 0.6
EVERY_S = 0.05  # between two bytes: far below any time-out of a single read
NONCE = {"centre_id": "a", "node_id": "b", "nonce": "ab" * 32, "expires_at": "2026-03-01T08:00:00.000000Z"}
ANSWER = json.dumps(NONCE).encode()
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


def drip(connection: socket.socket, content: bytes) -> None:
    for byte in content:
        connection.sendall(bytes([byte]))
        time.sleep(EVERY_S)


def head_by_bytes(connection: socket.socket) -> None:
    connection.recv(65_536)
    drip(connection, b"HTTP/1.1 200 OK\r\nx-filler: " + b"x" * 10_000)


def body_by_bytes(connection: socket.socket) -> None:
    connection.recv(65_536)
    connection.sendall(HEAD % 10_000)
    drip(connection, b"x" * 10_000)


def second_answer_by_bytes(connection: socket.socket) -> None:
    """A good answer first, so that the connection is kept and no new one is made."""
    connection.recv(65_536)
    connection.sendall(HEAD % len(ANSWER) + ANSWER)
    head_by_bytes(connection)


def tls_by_bytes(connection: socket.socket) -> None:
    connection.recv(65_536)
    drip(connection, b"\x16\x03\x03\x40\x00" + bytes(10_000))  # the head of a handshake record of 16 KiB


def request_by_bytes(connection: socket.socket) -> None:
    """Reads no more of what is sent than keeps it moving."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    while connection.recv(512):
        time.sleep(EVERY_S)


Serve = Callable[[socket.socket], None]
DRIPPING: dict[str, tuple[Serve, str]] = {
    "a server that sends its headers a byte at a time": (head_by_bytes, "registry-unreachable"),
    "a server that sends its body a byte at a time": (body_by_bytes, "registry-unreachable"),
    "a server that sends its second answer a byte at a time": (second_answer_by_bytes, "registry-unreachable"),
    "a server that shakes hands a byte at a time": (tls_by_bytes, "registry-unreachable"),
    "a server that reads a byte at a time": (request_by_bytes, "registry-unreachable"),
}


@contextlib.contextmanager
def serving(serve: Serve) -> Iterator[int]:
    """Serve every connection in a thread of its own, and yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def one(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                serve(connection)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    threading.Thread(target=one, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield int(server.getsockname()[1])
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def connected() -> Iterator[Callable[..., Transport]]:
    """Return what makes a client; all of them are closed at the end."""
    with contextlib.ExitStack() as stack:

        def make(url: str, limit_s: float = LIMIT_S, attempts: int = 1) -> Transport:
            client = Transport(url, None, limit_s, None, attempts, sleep=lambda s: None)
            stack.callback(client.close)
            return client

        yield make


@pytest.mark.parametrize("name", DRIPPING)
def test_a_call_ends_with_its_deadline(
    name: str, connected: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    serve, code = DRIPPING[name]
    scheme = "https" if serve is tls_by_bytes else "http"
    # what this machine sends is not slow: the kernel's buffers take megabytes before a slow reader is felt
    monkeypatch.setattr(deadlines, "SLOWEST_BYTES_S", 2**40)
    with serving(serve) as port:
        client = connected(f"{scheme}://127.0.0.1:{port}", attempts=4)
        request = TransportRequest("GET", "/nodes/a/b/nonce")
        if serve is request_by_bytes:
            request = TransportRequest("PUT", "/statements/x/records", body=lambda: iter([bytes(2**20)] * 64))
        if serve is second_answer_by_bytes:
            assert client.ask(request).content == ANSWER
        begun = time.monotonic()
        with pytest.raises(InputError) as refused:
            client.ask(request)
        took_s = time.monotonic() - begun
    assert refused.value.code == code
    assert f"{LIMIT_S:g} s" in refused.value.what
    assert LIMIT_S - 0.1 < took_s < LIMIT_S + 5, "one deadline for all attempts"


def test_what_comes_fast_enough_may_take_longer_than_the_time_out(connected: Callable[..., Transport]) -> None:
    size = 2**20

    def steadily(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(HEAD % size)
        for _ in range(16):
            connection.sendall(bytes(size // 16))
            time.sleep(LIMIT_S / 10)

    with serving(steadily) as port:
        file = io.BytesIO()
        client = connected(f"http://127.0.0.1:{port}")
        begun = time.monotonic()
        answer = client.ask(TransportRequest("GET", "/statements/x/records", into=lambda: file))
        assert time.monotonic() - begun > LIMIT_S
    assert (answer.status, len(file.getvalue())) == (200, size)


def test_a_download_without_an_end_is_cut_off(
    connected: Callable[..., Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    from certify.registry.client import transport

    monkeypatch.setattr(transport, "DOWNLOAD_BYTES", 2**16)

    def endless(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/jsonl\r\n\r\n")
        while True:
            connection.sendall(bytes(4096))

    with serving(endless) as port:
        client = connected(f"http://127.0.0.1:{port}", limit_s=30)
        with pytest.raises(InputError) as refused:
            client.ask(TransportRequest("GET", "/statements/x/records", into=io.BytesIO))
    assert refused.value.code == "registry-answer-invalid"


def test_time_runs_on_the_network_only_and_what_is_carried_extends_it() -> None:
    now = [0.0]
    deadline = Deadline(10, lambda: now[0])
    with deadline.running():
        now[0] += 4
        assert deadline.left_s == 6
    now[0] += 1000  # it waits for a server that asked it to
    with deadline.running():
        deadline.carry(3 * SLOWEST_BYTES_S)
        now[0] += 8
        assert deadline.left_s == 1
        assert deadline.within(30, TimeoutError) == 1
        now[0] += 1
        with pytest.raises(TimeoutError):
            deadline.within(30, TimeoutError)


def test_over_tls_and_a_connection_that_is_kept(tmp_path: Path) -> None:
    pair = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=registry", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run([*command, *names, "-out", pair[0], "-keyout", pair[1]], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    connections = []

    def answer(raw: socket.socket) -> None:
        connections.append(raw)
        with context.wrap_socket(raw, server_side=True) as connection:
            while connection.recv(65_536):
                connection.sendall(HEAD % len(ANSWER) + ANSWER)

    with serving(answer) as port, RegistryClient(f"https://127.0.0.1:{port}", timeout_s=10, ca=pair[0]) as registry:
        assert registry.nonce("a", "b").nonce == registry.nonce("a", "c").nonce == NONCE["nonce"]
    assert len(connections) == 1


@pytest.mark.parametrize(
    ("environment", "host", "expected"),
    [
        ({"https_proxy": "http://user:secret@proxy.test:3128"}, "registry.test", ("proxy.test", 3128, True)),
        ({"all_proxy": "proxy.test:3128"}, "registry.test", ("proxy.test", 3128, False)),
        ({"https_proxy": "http://proxy.test:3128", "no_proxy": "registry.test"}, "registry.test", None),
        ({}, "registry.test", None),
    ],
)
def test_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    host: str,
    expected: tuple[str, int, bool] | None,
) -> None:
    for name in ("https_proxy", "all_proxy", "no_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    proxy = deadlines.proxy_of(host)
    if expected is None:
        assert proxy is None
        return
    assert proxy is not None
    assert (proxy.url.host.decode(), proxy.url.port, proxy.auth is not None) == expected
