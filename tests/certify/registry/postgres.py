"""A PostgreSQL server of the tests' own, from Debian's packages: started, stopped and started again where a test asks.

The server refuses to run as root, so that there it runs as the user that Debian's package made for it. It ends with
the process that started it, however that ends.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest

USER = "postgres"
START_S = 60.0


def binaries() -> Path | None:
    """Return the folder of the server's programs, the newest version's; None where there is none."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name.partition(".")[0]))
    found = shutil.which("postgres")
    places = [*reversed(debian), *([Path(found).resolve().parent] if found else [])]
    return next((place for place in places if (place / "initdb").exists() and (place / "postgres").exists()), None)


# Where a test takes seconds on each: on SQLite always, on the server in the long tests.
SERVER_IS_LONG = pytest.mark.parametrize(
    "database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)], indirect=True
)


class Postgres:
    """A server in a folder of its own, reached by a unix socket there and by a port of the loopback address."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._server: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        self.folder = Path(tempfile.mkdtemp(prefix="petaseal-pg-"))
        self.log = self.folder / "log"
        if os.geteuid() == 0:
            account = pwd.getpwnam(USER)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        told = ("-D", self._data, "-U", USER, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        subprocess.run(
            self._as_user("initdb", *told, "--no-instructions"), check=True, capture_output=True, cwd=self.folder
        )

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def _as_user(self, program: str, *arguments: str) -> list[str]:
        """Return a command that ends when this process does."""
        who = ["--reuid", USER, "--regid", USER, "--init-groups"] if os.geteuid() == 0 else []
        return ["setpriv", *who, "--pdeathsig", "INT", "--", str(self._programs / program), *arguments]

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = {
            "unix_socket_directories": str(self.folder),
            "listen_addresses": "127.0.0.1",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "max_connections": "200",
            "shared_buffers": "64MB",
            "autovacuum": "off",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self._server = subprocess.Popen(
                self._as_user("postgres", "-D", self._data, "-p", str(self.port), *options),
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        until = time.monotonic() + START_S
        while not self._answers():
            if self._server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"PostgreSQL did not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the server at once, whoever is connected, as a planned restart does."""
        if self._server is not None:
            self._server.send_signal(2)  # "fast": clients are thrown out, everything is written
            self._server.wait(START_S)
            self._server = None

    def remove(self) -> None:
        """Stop the server and remove everything of it."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str, *, by_socket: bool = False) -> str:
        """Return a database as the registry's settings name it."""
        if by_socket:
            return f"postgresql+psycopg://{USER}@/{database}?host={self.folder}&port={self.port}"
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self.port}/{database}"

    def new_database(self, template: str | None = None) -> str:
        """Make a database and return its name."""
        name = f"test_{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
        return name

    def drop(self, database: str) -> None:
        """Remove a database, whoever is connected to it."""
        self._execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    def _execute(self, sql: Any) -> None:
        with self._connected() as connection:
            connection.execute(sql)

    def _connected(self) -> Any:
        import psycopg

        place = {"host": str(self.folder), "port": self.port, "user": USER, "dbname": "postgres"}
        return psycopg.connect(**place, autocommit=True)  # type: ignore[arg-type]

    def _answers(self) -> bool:
        import psycopg

        try:
            self._connected().close()
        except psycopg.OperationalError:
            return False
        return True
