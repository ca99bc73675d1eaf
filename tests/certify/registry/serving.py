"""A registry that runs as a process of its own, as ``petaseal registry serve`` starts it."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.units import utc_text
from certify.registry.api.common import Scope
from certify.registry.base import tokens
from certify.registry.service.init import open_store
from tests.certify.registry.laid import CENTRE

READY = re.compile(r"the registry answers at (\S+)")


@contextlib.contextmanager
def serving(root: Path, *options: str, port: int = 0) -> Iterator[str]:
    """Serve a registry's folder and yield its URL; it ends when the block does."""
    command = [sys.executable, "-m", "certify", "registry", "serve", str(root), "--port", str(port), *options]
    log = root / "serve.log"
    with log.open("ab") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
    try:
        assert process.stdout is not None
        found = READY.match(process.stdout.readline())
        assert found, log.read_text()
        yield found.group(1)
    finally:
        process.terminate()
        process.wait(60)
        assert process.stdout is not None
        process.stdout.close()


def new_token(root: Path, scope: Scope = "operator", centre_id: str | None = CENTRE) -> str:
    """Make a token as an administrator does, and return its secret."""
    store = open_store(root)
    try:
        with store.writing() as connection:
            of = centre_id if scope == "operator" else None
            return tokens.create_token(connection, f"test {scope}", scope, of, utc_text(time.time_ns()), 30)[1]
    finally:
        store.close()
