"""A registry in a process of its own, on a port of the loopback address, with its memory and its log in view."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from certify.registry.api.common import Scope
from certify.registry.base import tokens
from certify.registry.base.registry import Registry, open_registry
from tests.certify.registry.laid import CENTRE

PROGRAM = """
import json, sys
from pathlib import Path
from certify.registry.service.serve import run
from certify.registry.base.registry import open_registry
registry = open_registry(Path(sys.argv[1]))
named = json.loads(sys.argv[2])
run(registry, port=0, **{**named, "trusted_proxies": tuple(named.get("trusted_proxies", ()))})
registry.close()
"""


class Served:
    """A running service."""

    def __init__(self, root: Path, **named: Any) -> None:
        self.log = root.parent / "served.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(root), json.dumps(named)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert " at http" in line, self.log.read_text()
        self.url = line.split()[-1]

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def client(self, secret: str | None = None) -> httpx.Client:
        """Return a client that bears a token."""
        headers = {} if secret is None else {"authorization": f"Bearer {secret}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)

    def connect(self) -> socket.socket:
        """Return a bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def requests(self) -> list[dict[str, Any]]:
        """Return the log's lines of requests."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["message"] == "request"]

    def peak_bytes(self) -> int:
        """Return the most memory that the process ever held."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))

    def cpu_s(self) -> float:
        """Return the processor time that its own process has used."""
        times = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> int:
        """End it as a service manager does, and return its status."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


@contextlib.contextmanager
def served(root: Path, **named: Any) -> Iterator[Served]:
    """Yield a running service of a registry's folder."""
    service = Served(root, **named)
    try:
        yield service
    finally:
        if service.process.poll() is None:
            assert service.stop() == 0, service.log.read_text()


@contextlib.contextmanager
def opened(root: Path) -> Iterator[Registry]:
    """Yield a registry of a folder, for what a service does not do."""
    registry = open_registry(root)
    try:
        yield registry
    finally:
        registry.close()


def new_token(root: Path, scope: Scope = "operator", centre_id: str | None = None, days: int = 30) -> tuple[int, str]:
    """Make a token as an administrator does, and return its id and its secret."""
    of = centre_id or (CENTRE if scope == "operator" else None)
    with opened(root) as registry, registry.store.writing() as connection:
        token, secret = tokens.create_token(connection, f"test {scope}", scope, of, registry.now, days)
    return token.id, secret
