"""Alembic's entry: runs migrations on the connection that `certify.registry.storage.migrations.migrate` hands over."""

from __future__ import annotations

from alembic import context

from certify.registry.storage.columns import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=False,
    render_as_batch=False,
)
context.run_migrations()
