"""Backup and restore: everything that a registry stores, in one folder that fills either kind of database.

    backup/
      backup.json     what is in here: counts, digests, the number of the last change
      registry.db     all tables, as SQLite, read in one snapshot while the service runs
      registry.yaml   the settings, without the URL of a database, which may hold a password
      objects/        what the tables name, by SHA-256
      state/          accepted trust roots and revocation lists
      trust-root.json and further policies and profiles, where they lie in the registry's folder

No secret is copied: of tokens there are only hashes, and the registry's private key has its owner's own copy.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, NamedTuple

import msgspec
import yaml
from msgspec import Meta
from sqlalchemy import Connection, func, inspect, select, text
from sqlalchemy.exc import DBAPIError

from bench.errors import InputError, RefusedError
from bench.record import Count, Document, Sha256, Text, UtcTime, encode, read_bytes, refuse_existing, write_atomic
from bench.record.fields import in_words
from certify.documents.merkle import Tree
from certify.registry.base.registry import FILE, Registry, Settings, load_place
from certify.registry.storage.columns import metadata
from certify.registry.storage.migrations import current, head, migrate
from certify.registry.storage.naming import named
from certify.registry.storage.store import BATCH, BLOCK, STREAMED, Objects, Progress, Store, sha256_of

MANIFEST = "backup.json"
DATABASE = "registry.db"
VERSION = 1
_MANIFEST_BYTES = 16 * 2**20


class File(Document, frozen=True, kw_only=True):
    """A small file of a backup."""

    path: Annotated[str, Meta(pattern=r"^(?!/)[^\x00]+$")]
    sha256: Sha256


class Objectset(Document, frozen=True, kw_only=True):
    """The objects of a backup: an RFC 6962 Merkle root over their digests, ascending."""

    count: Count
    size_bytes: Count
    root: Sha256


class Manifest(Document, frozen=True, kw_only=True):
    """The contents of a backup. It is not signed: an operator who notes its digest elsewhere can detect a change."""

    version: Annotated[int, Meta(ge=1)]
    made_at: UtcTime
    revision: Text  # of the tables
    change: Count  # number of the last change that is in it
    rows: dict[str, Count]  # by table
    database_sha256: Sha256
    objects: Objectset
    files: tuple[File, ...]
    left_out: tuple[Text, ...]  # files that the settings name outside the registry's folder


class BackupInfo(NamedTuple):
    """A backup that was made or read."""

    folder: Path
    manifest: Manifest
    sha256: str  # of the manifest


def backup(registry: Registry, out: Path, progress: Progress = lambda what, done: None) -> BackupInfo:
    """Copy everything into a new folder, which appears whole or not at all, while the service runs.

    Args:
        registry: the open registry.
        out: folder to make.
        progress: called now and then.

    Raises:
        InputError: `output-exists`, or `output-not-writable`.
        RefusedError: `object-missing` or `object-differs`: what is stored is damaged.
    """
    # a backup in the place of another would leave none if it fails
    refuse_existing(out, "name a new folder")
    made_at = registry.now
    with _folder(out) as folder:
        store = Store(f"sqlite:///{folder / DATABASE}", folder / "objects")
        try:
            migrate(store)
            with registry.store.reading() as source, store.writing() as target:
                # in the one snapshot that the rows are copied from: service and backup run side by side
                change = registry.store.seq(source)
                rows = _copy_rows(source, target, progress)
            with store.reading() as connection:  # the same snapshot: what is named there is on the disk
                revision = current(connection)
                objects = _copy_objects(registry.store.objects, store.objects, named(connection), progress)
        finally:
            store.close()
        assert revision is not None
        _close_file(folder / DATABASE)
        files, left_out = _copy_files(registry, folder)
        manifest = Manifest(
            version=VERSION,
            made_at=made_at,
            revision=revision,
            change=change,
            rows=rows,
            database_sha256=sha256_of(folder / DATABASE),
            objects=objects,
            files=files,
            left_out=left_out,
        )
        content = encode(manifest) + b"\n"
        write_atomic(folder / MANIFEST, content)
    return BackupInfo(out, manifest, hashlib.sha256(content).hexdigest())


def restore(
    folder: Path, root: Path, database: str = "sqlite", progress: Progress = lambda what, done: None
) -> BackupInfo:
    """Fill a new registry's folder and its database from a backup, which holds no private key: the owner adds that.

    Args:
        folder: of the backup. Every digest in it is checked before anything is there.
        root: the registry's folder, which is missing or empty.
        database: as the settings name it; an empty one.
        progress: called now and then.

    Raises:
        InputError: `restore-not-empty`, `backup-version`, `output-not-writable`, or a file cannot be read.
        RefusedError: `backup-damaged`, `object-missing` or `object-differs`.
    """
    if os.path.lexists(root) and (not root.is_dir() or any(root.iterdir())):
        raise InputError("restore-not-empty", "is there already, and not empty", where=root, fix="name a new folder")
    source_info = read_backup(folder)
    manifest = source_info.manifest
    with _folder(root) as new:
        if _copied(folder / DATABASE, new / DATABASE) != manifest.database_sha256:
            raise _damaged("is not the database that was backed up", folder / DATABASE)
        for file in manifest.files:
            if _copied(folder / file.path, new / file.path) != file.sha256:
                raise _damaged("is not the file that was backed up", folder / file.path)
        _set_database(new / FILE, database)
        store = Store(f"sqlite:///{new / DATABASE}", new / "objects")
        try:
            migrate(store)  # a backup of an older version
            with store.reading() as source:
                if not _same_counts(source, manifest):
                    raise _damaged("holds other numbers of rows than were backed up", folder / DATABASE)
                objects = _copy_objects(Objects(folder / "objects"), store.objects, named(source), progress)
                if objects != manifest.objects:
                    raise _damaged("holds other objects than were backed up", folder / "objects")
                if database != "sqlite":
                    _fill(source, load_place(new).url, new / "objects", progress)
        finally:
            store.close()
        if database != "sqlite":
            (new / DATABASE).unlink()
    return source_info


def read_backup(folder: Path) -> BackupInfo:
    """Return what a backup says of itself.

    Raises:
        InputError: `backup-version`, or it cannot be read.
        RefusedError: `backup-damaged`.
    """
    content = read_bytes(folder / MANIFEST, _MANIFEST_BYTES)
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except msgspec.MsgspecError as error:
        raise _damaged(f"is not a backup's list ({in_words(error)})", folder / MANIFEST) from None
    if manifest.version > VERSION:
        what = f"is of version {manifest.version}, which this petaseal does not know"
        raise InputError("backup-version", what, where=folder / MANIFEST, fix="use a later petaseal")
    # a manipulated backup must not write outside of the registry's folder
    if any(".." in Path(file.path).parts for file in manifest.files):
        raise _damaged("names a file outside the backup", folder / MANIFEST)
    return BackupInfo(folder, manifest, hashlib.sha256(content).hexdigest())


def _copy_rows(source: Connection, target: Connection, progress: Progress) -> dict[str, int]:
    """Copy all tables, batch by batch; return how many rows each has."""
    rows, done = {}, 0
    for table in metadata.sorted_tables:
        begun = done
        result = source.execute(select(table), execution_options=STREAMED)
        for part in result.mappings().partitions():
            target.execute(table.insert(), [dict(row) for row in part])
            done += len(part)
            progress("rows", done)
        rows[table.name] = done - begun
    return rows


def _copy_objects(source: Objects, target: Objects, wanted: Iterable[str], progress: Progress) -> Objectset:
    """Copy objects; each must have the SHA-256 that it is named by."""
    tree, size = Tree(), 0
    for sha256 in wanted:
        path = source.path(sha256)
        try:
            file = path.open("rb")
        except FileNotFoundError:
            raise RefusedError("object-missing", "is named in the tables and is not there", where=path) from None
        new = target.path(sha256)
        new.parent.mkdir(mode=0o700, exist_ok=True)
        with file, new.open("wb") as out:
            digest = _copy(file, out)
        if digest != sha256:
            raise RefusedError("object-differs", "is not what its name says", where=path)
        new.chmod(0o400)
        tree.add(bytes.fromhex(sha256))
        size += new.stat().st_size
        if tree.size % BATCH == 0:
            progress("objects", tree.size)
    progress("objects", tree.size)
    return Objectset(count=tree.size, size_bytes=size, root=tree.root().hex())


def _copy_files(registry: Registry, folder: Path) -> tuple[tuple[File, ...], tuple[str, ...]]:
    """Copy settings, what they name and the remembered trust; return them, and what lies elsewhere."""
    place, settings = registry.place, registry.settings
    copied: dict[str, str] = {}
    left_out = []
    for name in dict.fromkeys((settings.trust, *settings.policies, *settings.profiles)):
        path = Path(os.path.normpath(place.path(name)))
        if path.is_relative_to(place.root) and path.is_file():
            within = path.relative_to(place.root).as_posix()
            copied[within] = _copied(path, folder / within)
        else:
            left_out.append(name)
    for path in sorted(place.state.rglob("*.dsse.json")):
        if not path.name.startswith("."):
            within = path.relative_to(place.root).as_posix()
            copied[within] = _copied(path, folder / within)
    # the URL of a database may hold a password, and the copy is SQLite anyway
    portable = msgspec.structs.replace(settings, database="sqlite")
    _write_settings(folder / FILE, portable)
    copied[FILE] = sha256_of(folder / FILE)
    return tuple(File(path=path, sha256=sha256) for path, sha256 in sorted(copied.items())), tuple(left_out)


def _fill(source: Connection, url: str, objects: Path, progress: Progress) -> None:
    """Load all rows into an empty PostgreSQL database, in one transaction."""
    store = Store(url, objects)
    try:
        with store.engine.connect() as connection:
            there = set(inspect(connection).get_table_names()) - {"alembic_version"}
            ours = {table.name for table in metadata.sorted_tables}
            # tables that something else uses: a restore must not mix with them
            if there - ours or any(_count(connection, name) for name in sorted(there)):
                fix = "make a new database"
                raise InputError("restore-not-empty", "holds something already", where="database", fix=fix)
        migrate(store)
        with store.writing() as target:
            _copy_rows(source, target, progress)
            for table in metadata.sorted_tables:
                if "id" in table.c:  # numbers go on where they stood
                    last = func.max(table.c.id)
                    sequence = func.pg_get_serial_sequence(table.name, "id")
                    target.execute(select(func.setval(sequence, last)).select_from(table).having(last.is_not(None)))
    finally:
        store.close()


def _same_counts(source: Connection, manifest: Manifest) -> bool:
    """Return whether the tables hold as many rows as a backup says; an older one knows nothing of newer tables."""
    ours = {table.name for table in metadata.sorted_tables}
    listed = manifest.rows.keys()
    if not listed <= ours or (manifest.revision == head() and listed != ours):
        return False
    return all(_count(source, name) == count for name, count in manifest.rows.items())


def _count(connection: Connection, name: str) -> int:
    return int(connection.execute(text(f'SELECT count(*) FROM "{name}"')).scalar() or 0)  # noqa: S608 - a table's name


@contextlib.contextmanager
def _folder(out: Path) -> Iterator[Path]:
    """Yield a folder that is `out` when all is well, and is removed otherwise."""
    temporary = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
        yield temporary
        os.sync()  # once, for what may be a hundred thousand files
        temporary.rename(out)
        os.sync()
    except (OSError, DBAPIError) as error:
        cause = error.strerror if isinstance(error, OSError) else str(error.orig)
        raise InputError("output-not-writable", f"cannot be made ({cause})", where=out) from None
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)


def _close_file(path: Path) -> None:
    """Merge the write-ahead log of a SQLite database into its one file."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.close()


def _write_settings(path: Path, settings: Settings) -> None:
    write_atomic(path, yaml.safe_dump(msgspec.to_builtins(settings), allow_unicode=True, sort_keys=False).encode())


def _set_database(path: Path, database: str) -> None:
    """Write which database a restored registry uses; the settings are read as a registry reads them."""
    settings = load_place(path.parent).settings
    _write_settings(path, msgspec.structs.replace(settings, database=database))
    load_place(path.parent)


def _copied(source: Path, target: Path) -> str:
    """Copy a regular file and return its SHA-256."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # a link in a backup could name any file of this machine
    if source.is_symlink() or not source.is_file():
        raise _damaged("is missing", source)
    with source.open("rb") as file, target.open("wb") as out:
        return _copy(file, out)


def _copy(source: BinaryIO, target: BinaryIO) -> str:
    whole = hashlib.sha256()
    while block := source.read(BLOCK):
        whole.update(block)
        target.write(block)
    return whole.hexdigest()


def _damaged(what: str, where: Path) -> RefusedError:
    return RefusedError("backup-damaged", what, where=where, fix="use another backup")
