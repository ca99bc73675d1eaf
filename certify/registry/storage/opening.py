"""How a registry's database is opened: where SQLite can be used at all, and from a folder that can only be read."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from urllib.parse import quote

from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from bench.errors import InputError, one_line
from certify.registry.storage.filesystems import network_file_system
from certify.registry.storage.migrations import current, head, migrate
from certify.registry.storage.store import Store


def open_database(url: str, objects: Path, where: Path, *, reading: bool = False) -> Store:
    """Return a registry's database and objects, at this version's tables.

    Args:
        url: the database as SQLAlchemy names it.
        objects: folder of the objects.
        where: the settings, for the error text.
        reading: whether nothing is going to be stored: then a folder that cannot be written will do, and SQLite on a
            network file system, from where a backup leads away.

    Raises:
        InputError: `database-unavailable`, `database-on-network`, `database-newer`, `database-foreign`,
            `database-older` (it cannot be upgraded where it cannot be written), or `output-not-writable`.
    """
    file = sqlite_file(url)
    is_writable = file is None or os.access(file.parent, os.W_OK)
    if file is not None and not reading:
        if (name := network_file_system(file.parent)) is not None:
            what = f"lies on a network file system ({name}), which corrupts SQLite's write-ahead log"
            fix = "move the registry to a local disk, or use PostgreSQL"
            raise InputError("database-on-network", what, where=file, fix=fix)
        if not is_writable:
            fix = 'only "check" and "backup" do without that'
            raise InputError("output-not-writable", "cannot be written", where=file.parent, fix=fix)
    try:
        with contextlib.ExitStack() as undo:
            store = _read_only(file, objects) if file is not None and not is_writable else Store(url, objects)
            undo.callback(store.close)
            if store.read_only:
                _check_revision(store, file)
            else:
                migrate(store)
            undo.pop_all()
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).strip().splitlines()[:1]
        what = f"the database does not answer ({one_line(' '.join(cause), 200)})"
        fix = "see whether it runs, and what registry.yaml says of it"
        raise InputError("database-unavailable", what, where=where, fix=fix) from None
    return store


def sqlite_file(url: str) -> Path | None:
    """Return the file of a SQLite database, None where the URL names another one or cannot be read."""
    try:
        parsed = make_url(url)
    except Exception:  # `make_engine` says so
        return None
    is_file = parsed.get_backend_name() == "sqlite" and parsed.database
    return Path(str(parsed.database)) if is_file else None


def _read_only(file: Path, objects: Path) -> Store:
    """Return a database of a folder that cannot be written."""
    log = file.with_name(f"{file.name}-wal")
    # SQLite needs no file next to a database that cannot change; one that is being served has a log that counts
    is_still = not log.exists() or not log.stat().st_size
    uri = f"file:{quote(str(file))}?mode=ro{'&immutable=1' if is_still else ''}&uri=true"
    return Store(f"sqlite:///{uri}", objects, read_only=True)


def _check_revision(store: Store, file: Path | None) -> None:
    with store.reading() as connection:
        revision = current(connection)
    if revision != head():
        what = f"is of revision {revision}, not {head()}, and its folder cannot be written"
        fix = "upgrade it where it can be, with: petaseal registry migrate"
        raise InputError("database-older", what, where=file, fix=fix)
