"""The history of the tables (Alembic). A change of `storage.tables` is a new file under ``versions``."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from bench.errors import InputError
from certify.registry.storage.store import LOCK, Store

HERE = Path(__file__).parent


def head() -> str:
    """Return the revision of this version's tables."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None
    return revision


def current(connection: Connection) -> str | None:
    """Return the revision of a database, None where it is empty."""
    return MigrationContext.configure(connection).get_current_revision()


def migrate(store: Store) -> None:
    """Bring a database to this version's tables; a second process that does so at the same time waits.

    Raises:
        InputError: `database-newer`, a later version of petaseal made it.
    """
    config = _config()
    with store.engine.connect() as connection:
        if store.is_sqlite:
            connection.exec_driver_sql("ROLLBACK")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        revision = current(connection)
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        # an older program would write rows that the newer tables do not expect
        if revision is not None and revision not in known:
            fix = "use the petaseal that made it, or a later one"
            what = f"is of revision {revision}, which this version does not know"
            raise InputError("database-newer", what, where="database", fix=fix)
        if revision != head():
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        connection.commit()


def _config() -> Config:
    config = Config()
    # configparser would take a % in a path for a variable
    config.set_main_option("script_location", str(HERE).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
