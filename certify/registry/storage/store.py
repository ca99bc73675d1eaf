"""The storage of a registry: a database (SQLite or PostgreSQL), and a folder of objects named by their SHA-256.

One writer at a time, so that what depends on what is stored (one device in one statement, numbers of a chain, a
challenge used once) is decided on what is really there, and change numbers appear in order. Readers see one snapshot.
An object is on the disk before a row names it: after a crash there may be an object too many, never one too few.
Writers append to two logs: changes, which the feed follows, and the audit log. What
is larger than memory is never read at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, select, text
from sqlalchemy.engine import make_url

from bench.errors import InputError
from bench.record.files import Draft, flush_folder
from certify.registry.storage import tables
from certify.registry.storage.node_tables import node_changes

LOCK = 0x70657461  # of PostgreSQL's advisory locks: the one writer
BUSY_MS = 60_000  # SQLite: how long a writer waits for another
LEFT_S = 86_400  # no body takes a day
POOL = 20  # connections of PostgreSQL; SQLite takes as many as there are threads


class Staged:
    """An object that is being written. `keep` gives it its name; without that nothing of it remains."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._hash = hashlib.sha256()
        self._draft = Draft(objects.temporary, "staged", 0o400)
        self.path = self._draft.path
        self.size = 0
        self._sha256: str | None = None

    def write(self, content: bytes) -> None:
        """Append bytes."""
        self._draft.file.write(content)
        self._hash.update(content)
        self.size += len(content)

    def close(self) -> None:
        """Hand everything to the disk; `path` can be read from now on."""
        self._draft.close()

    def keep(self) -> str:
        """Give it its name for good, and return its SHA-256."""
        # a second call must not move what lies there already
        if self._sha256 is None:
            self.close()
            self._sha256 = self._hash.hexdigest()
            target = self._objects.path(self._sha256)
            if not target.parent.exists():
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                flush_folder(self._objects.folder)
            self._draft.take_place(target)  # the same name means the same bytes
            # the name must be on the disk as well as the bytes, before a row names it
            flush_folder(target.parent)
            self.path = target
        return self._sha256

    def discard(self) -> None:
        """Remove the object unless `keep` was called."""
        self._draft.discard()


class Objects:
    """Files by SHA-256: written once, never changed."""

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.folder = folder
        self.temporary = folder / "tmp"
        if not read_only:
            self.temporary.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Return where an object lies, or would."""
        return self.folder / sha256[:2] / sha256

    def put(self, content: bytes) -> str:
        """Keep bytes and return their SHA-256."""
        sha256 = hashlib.sha256(content).hexdigest()
        # the name is a digest of the content: what is there is the same
        if not self.path(sha256).exists():
            with self.staging() as staged:
                staged.write(content)
                staged.keep()
        return sha256

    def read(self, sha256: str) -> bytes:
        """Return an object.

        Raises:
            KeyError: there is none.
        """
        try:
            return self.path(sha256).read_bytes()
        except FileNotFoundError:
            raise KeyError(sha256) from None

    @contextlib.contextmanager
    def staging(self) -> Iterator[Staged]:
        """Yield an object to write; it is removed unless `Staged.keep` is called."""
        staged = Staged(self)
        try:
            yield staged
        finally:
            staged.discard()

    def sweep(self) -> int:
        """Remove what a killed process left half-written a day ago or earlier; what is younger may still be written."""
        old = [path for path in self.temporary.iterdir() if path.stat().st_mtime < time.time() - LEFT_S]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)


class Store:
    """The database and the objects of one registry."""

    def __init__(self, url: str, objects: Path, *, read_only: bool = False) -> None:
        self.engine = make_engine(url, read_only=read_only)
        self.read_only = read_only
        self._writer = threading.Lock()
        try:
            self.objects = Objects(objects, read_only=read_only)
        except OSError as error:
            raise InputError("output-not-writable", f"cannot be used ({error.strerror})", where=objects) from None

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is the embedded one."""
        return self.engine.dialect.name == "sqlite"

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection that sees one snapshot and writes nothing."""
        with self.engine.connect() as connection:
            if not self.is_sqlite:
                # one snapshot for all queries of an answer: SQLite's WAL gives the same
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            yield connection
            connection.rollback()

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yield the one writer's connection; everything is committed at the end, or nothing."""
        with self._writer, self.engine.connect() as connection:  # who waits here holds no connection
            if self.is_sqlite:
                connection.exec_driver_sql("ROLLBACK")  # the reader's BEGIN of `make_engine`
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                # between processes too (a `registry` command beside the service); freed with the transaction
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            yield connection
            connection.commit()

    def seq(self, connection: Connection) -> int:
        """Return the number of the last change, 0 where there is none."""
        return int(connection.execute(select(func.max(tables.changes.c.id))).scalar() or 0)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def make_engine(url: str, *, read_only: bool = False) -> Engine:
    """Return an engine whose transactions are what `Store` says.

    Args:
        url: the database as SQLAlchemy names it.
        read_only: whether SQLite's file cannot be written, so that nothing of it can be set either.

    Raises:
        InputError: `settings-invalid`, the URL cannot be read.
    """
    try:
        parsed = make_url(url)
    except Exception:
        raise InputError("settings-invalid", "names no database that can be read", where="database") from None
    if parsed.get_backend_name() != "sqlite":
        return create_engine(parsed, pool_size=POOL, max_overflow=POOL, pool_pre_ping=True)
    engine = create_engine(
        parsed, pool_size=POOL, max_overflow=POOL, connect_args={"timeout": BUSY_MS / 1000, "check_same_thread": False}
    )

    def opened(connection: Any, record: object) -> None:
        connection.isolation_level = None  # pysqlite's own BEGIN comes too late for a snapshot
        if read_only:
            return
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",  # an acknowledged statement survives a loss of power
            "foreign_keys=ON",
            f"busy_timeout={BUSY_MS}",
            "cache_size=-65536",
        ):
            connection.execute(f"PRAGMA {pragma}")

    def begun(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    event.listen(engine, "connect", opened)
    event.listen(engine, "begin", begun)
    return engine


def record_change(
    connection: Connection,
    now: str,
    kind: str,
    centre_id: str,
    project_id: str,
    statement: str | None = None,
    nodes: Collection[str] = (),
) -> None:
    """Record that something of a chain changed, for the followers of the feeds.

    Args:
        connection: the writer's.
        now: the present.
        kind: of the change.
        centre_id, project_id: the chain.
        statement: that it is about.
        nodes: that it is about; none: the whole centre may look different.
    """
    # written under the one lock: numbers appear in order, and a follower misses none
    row = {"at": now, "kind": kind, "centre_id": centre_id, "project_id": project_id, "statement": statement}
    key = connection.execute(tables.changes.insert(), row).inserted_primary_key
    if nodes:
        assert key is not None
        lines = [{"change": key[0], "node_id": node_id} for node_id in sorted(nodes)]
        connection.execute(node_changes.insert(), lines)


def audit(
    connection: Connection, now: str, token_id: int | None, action: str, target: str, outcome: str, request_id: str
) -> None:
    """Append a line to the audit log: who did what with the registry itself."""
    row = {
        "at": now,
        "token_id": token_id,
        "action": action,
        "target": target,
        "outcome": outcome,
        "request_id": request_id,
    }
    connection.execute(tables.audit.insert(), row)


BATCH = 1000  # rows that are in memory at once
STREAMED = {"yield_per": BATCH}
BLOCK = 2**20  # bytes
Progress = Callable[[str, int], None]  # what is done ("rows", "objects"), and how many so far


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, block by block."""
    with path.open("rb") as file:
        whole = hashlib.sha256()
        while block := file.read(BLOCK):
            whole.update(block)
        return whole.hexdigest()
