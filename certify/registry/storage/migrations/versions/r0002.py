"""The second tables: what a scheduler, an auditor and the keepers of a whole city ask for.

What new columns and tables hold of statements that came before is filled from the stored documents
(`certify.registry.maintenance.refill`): SQL alone cannot read a record.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add each area's columns and tables."""
    _feed()
    _intake()
    _keeping()
    _cities()


SHA = sa.String(length=64)
NAME = sa.String(length=64)
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _feed() -> None:
    """Where and what a node is."""

    def lines(table: str, *more: sa.Column[Any], key: tuple[str, ...] = ("statement", "pool", "number")) -> None:
        op.create_table(
            table,
            sa.Column("statement", SHA, nullable=False),
            sa.Column("pool", NAME, nullable=False),
            *([sa.Column("node_id", NAME, nullable=False)] if "node_id" in key else []),
            sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
            *more,
            sa.PrimaryKeyConstraint(*key, name=f"pk_{table}"),
            sa.ForeignKeyConstraint(
                ["statement"], ["statements.payload_sha256"], name=f"fk_{table}_statement_statements"
            ),
        )
        only_grows(table)

    def needed(kind: Any, *names: str) -> list[sa.Column[Any]]:
        return [sa.Column(name, kind, nullable=False) for name in names]

    def shown() -> list[sa.Column[Any]]:
        memory = [sa.Column(name, sa.BigInteger()) for name in ("memory_bytes", "memory_bytes_most")]
        return [*memory, sa.Column("devices_without_rating", sa.Integer())]

    names = ("vendor", "model", "count_unit")
    lines("evidence_lines", *needed(sa.Text(), "content"))
    per_node = ("nodes", "devices", "devices_per_node", "devices_per_node_most")
    lines("inventory_lines", *needed(sa.Text(), *names), *needed(sa.Integer(), "devices"))
    lines(
        "model_step_lines",
        *needed(sa.Text(), "vendor", "model"),
        *needed(NAME, "step"),
        *needed(sa.Integer(), "devices"),
        *needed(sa.BigInteger(), "certified_mflop_s"),
    )
    lines("model_lines", *needed(sa.Text(), *names), *needed(sa.Integer(), *per_node), *shown())
    key = ("statement", "pool", "node_id", "number")
    lines("node_models", *needed(sa.Text(), *names), *needed(sa.Integer(), "devices"), *shown(), key=key)
    op.create_table(
        "node_changes",
        sa.Column("change", SERIAL, nullable=False, autoincrement=False),
        sa.Column("node_id", NAME, nullable=False),
        sa.PrimaryKeyConstraint("change", "node_id", name="pk_node_changes"),
        sa.ForeignKeyConstraint(["change"], ["changes.id"], name="fk_node_changes_change_changes"),
    )
    only_grows("node_changes")
    op.create_table(
        "node_aliases",
        *needed(NAME, "centre_id", "node_id"),
        sa.Column("alias", sa.String(length=253), nullable=False),
        sa.PrimaryKeyConstraint("centre_id", "node_id", name="pk_node_aliases"),
        sa.UniqueConstraint("centre_id", "alias", name="uq_node_aliases_centre_id_alias"),
    )


def _intake() -> None:
    """Which petaseals made the records of a statement, and which keys signed for several of its nodes."""
    op.create_table(
        "tool_lines",
        sa.Column("statement", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("version", sa.String(256), nullable=False),
        sa.Column("records", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("statement", "sha256", "version", name="pk_tool_lines"),
        sa.ForeignKeyConstraint(["statement"], ["statements.payload_sha256"], name="fk_tool_lines_statement"),
    )
    only_grows("tool_lines")
    op.create_table(
        "key_lines",
        sa.Column("statement", sa.String(64), nullable=False),
        sa.Column("keyid", sa.String(64), nullable=False),
        sa.Column("nodes", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("statement", "keyid", name="pk_key_lines"),
        sa.ForeignKeyConstraint(["statement"], ["statements.payload_sha256"], name="fk_key_lines_statement"),
    )
    only_grows("key_lines")


def _keeping() -> None:
    """Alarms that were acknowledged, bodies that were dropped, statements whose new facts are to be filled."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite counts up only its own integer type
    op.create_table(
        "acknowledgements",
        sa.Column("id", number, autoincrement=True, nullable=False),
        sa.Column("at", sa.String(27), nullable=False),
        sa.Column("alarm_id", sa.BigInteger(), nullable=False),
        sa.Column("acknowledged", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("token_id", sa.Integer()),
        sa.PrimaryKeyConstraint("id", name="pk_acknowledgements"),
        sa.ForeignKeyConstraint(["alarm_id"], ["alarms.id"], name="fk_acknowledgements_alarm_id"),
    )
    op.create_index("ix_acknowledgements_alarm_id", "acknowledgements", ["alarm_id"])
    only_grows("acknowledgements")
    op.create_table(
        "dropped",
        sa.Column("id", number, autoincrement=True, nullable=False),
        sa.Column("at", sa.String(27), nullable=False),
        sa.Column("object_sha256", sa.String(64), nullable=False),
        sa.Column("decision_id", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("cause", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_dropped"),
    )
    op.create_index("ix_dropped_object_sha256", "dropped", ["object_sha256"])
    only_grows("dropped")
    op.create_table(
        "refills",
        sa.Column("statement", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("statement", name="pk_refills"),
        sa.ForeignKeyConstraint(["statement"], ["statements.payload_sha256"], name="fk_refills_statement"),
    )
    # within the upgrade's own transaction: no statement can slip between the old tables and this list
    op.execute("INSERT INTO refills (statement) SELECT payload_sha256 FROM statements")


def _cities() -> None:
    """What a city's verdicts rest on, and what the registry is."""
    for table, key, more in (
        (
            "missing_lines",
            "pool_class",
            (
                sa.Column("pool_class", sa.String(length=16), nullable=False),
                sa.Column("at_most_mflop_s", sa.BigInteger(), nullable=True),
            ),
        ),
        (
            "verdict_lines",
            "number",
            (
                sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
                sa.Column("policy", sa.String(length=64), nullable=False),
                sa.Column("condition", sa.String(length=64), nullable=False),
                sa.Column("verdict", sa.String(length=32), nullable=False),
                sa.Column("content", sa.Text(), nullable=False),
            ),
        ),
    ):
        op.create_table(
            table,
            sa.Column("statement", sa.String(length=64), nullable=False),
            *more,
            sa.PrimaryKeyConstraint("statement", key, name=f"pk_{table}"),
            sa.ForeignKeyConstraint(["statement"], ["statements.payload_sha256"], name=f"fk_{table}_statement"),
        )
        only_grows(table)
    op.create_table(
        "fabric_lines",
        sa.Column("statement", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("groups", sa.Integer(), nullable=False),
        sa.Column("network_loss_ppm", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("statement", name="pk_fabric_lines"),
        sa.ForeignKeyConstraint(["statement"], ["statements.payload_sha256"], name="fk_fabric_lines_statement"),
    )
    only_grows("fabric_lines")
    op.create_table(
        "schedulable_samples",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", sa.String(length=27), nullable=False),
        sa.Column("policy", sa.String(length=64), nullable=False),
        sa.Column("pool_class", sa.String(length=16), nullable=False),
        sa.Column("schedulable_mflop_s", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_schedulable_samples"),
    )
    op.create_index("ix_schedulable_samples_policy_at", "schedulable_samples", ["policy", "at"])
    only_grows("schedulable_samples")
    op.create_table(
        "registry_kinds",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("at", sa.String(length=27), nullable=False),
        sa.PrimaryKeyConstraint("kind", name="pk_registry_kinds"),
    )
    only_grows("registry_kinds")


def only_grows(table: str) -> None:
    """Let the database refuse every change of a table's rows, as it does for the first tables."""
    postgresql = op.get_bind().dialect.name == "postgresql"
    for change in ("UPDATE", "DELETE", "TRUNCATE") if postgresql else ("UPDATE", "DELETE"):
        name = f"{table}_no_{change.lower()}"
        if postgresql:
            each = f"BEFORE {change} ON {table} FOR EACH STATEMENT"
            op.execute(f"CREATE TRIGGER {name} {each} EXECUTE FUNCTION petaseal_append_only()")
        else:
            fault = f"SELECT RAISE(ABORT, 'the table {table} only grows')"
            op.execute(f"CREATE TRIGGER {name} BEFORE {change} ON {table} BEGIN {fault}; END")
