"""The tables of every revision's migration are those of `storage.tables`, column by column, on both databases."""

from __future__ import annotations

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from certify.registry.storage.columns import metadata
from certify.registry.storage.migrations import migrate
from certify.registry.storage.store import Store


def test_migrations_make_the_tables(database: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'registry.db'}" if database == "sqlite" else database
    store = Store(url, tmp_path / "objects")
    migrate(store)
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    store.close()
