"""The history of the tables (Alembic). A change of `storage.tables` is a new file under ``versions``."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from bench.errors import InputError, one_line
from certify.registry.storage import tables
from certify.registry.storage.columns import metadata
from certify.registry.storage.store import LOCK, Store

VERSIONS = "alembic_version"
NAMED = 5  # foreign tables that a sentence names
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
        InputError: `database-newer`, a later version of petaseal made it; `database-foreign`, it is something else's.
    """
    config = _config()
    with store.engine.connect() as connection:
        if store.is_sqlite:
            connection.exec_driver_sql("ROLLBACK")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        revision = current(connection)
        others = foreign_tables(connection)
        # a version of the same number may be another program's, which uses the same library
        if others and (revision is None or not inspect(connection).has_table(tables.statements.name)):
            what = f"holds tables of something else ({listed(others)})"
            raise InputError("database-foreign", what, where="database", fix="use one of the registry's own")
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


def foreign_tables(connection: Connection) -> list[str]:
    """Return the names of a database's tables that are not the registry's."""
    revision = current(connection)
    ours = {table.name for table in metadata.sorted_tables} | {VERSIONS}
    # without a revision nothing is ours, whatever its name
    names = set(inspect(connection).get_table_names())
    return sorted(names - (ours if revision is not None else {VERSIONS}))


def listed(names: list[str]) -> str:
    """Return the first of some names as one text, and how many more there are."""
    shown = ", ".join(one_line(name, 64) for name in names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"


def _config() -> Config:
    config = Config()
    # configparser would take a % in a path for a variable
    config.set_main_option("script_location", str(HERE).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
