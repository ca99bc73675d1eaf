"""The first tables, and the triggers that keep what was taken in as it is."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

APPEND_ONLY = (
    "statements",
    "signers",
    "class_lines",
    "pool_lines",
    "step_lines",
    "vendor_lines",
    "verifications",
    "node_lines",
    "record_lines",
    "identities",
    "decisions",
    "endings",
    "alarms",
    "external_ids",
    "acts",
    "challenges",
    "campaigns",
    "campaign_records",
    "changes",
    "audit",
)

REFUSE_POSTGRESQL = """
CREATE FUNCTION petaseal_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the table % only grows', TG_TABLE_NAME;
END $$
"""


TIME = sa.String(length=27)
NAME = sa.String(length=64)
WORD = sa.String(length=16)
SHORT = sa.String(length=8)
TEXT = sa.Text()
COUNT = sa.Integer()
BIG = sa.BigInteger()


def required(kind: Any, *names: str) -> list[sa.Column[Any]]:
    """Return columns of one type that always have a value."""
    return [sa.Column(name, kind, nullable=False) for name in names]


def optional(kind: Any, *names: str) -> list[sa.Column[Any]]:
    """Return columns of one type that may have no value."""
    return [sa.Column(name, kind, nullable=True) for name in names]


def statement(table: str) -> sa.Column[str]:
    """Return the column of a table by which a row belongs to a statement."""
    of = sa.ForeignKey("statements.payload_sha256", name=f"fk_{table}_statement")
    return sa.Column("statement", NAME, of, nullable=False)


def line_sums() -> list[sa.Column[Any]]:
    """Return the sums that a statement's line of a class has, and its line of a pool."""
    return [
        *required(COUNT, "devices"),
        *required(BIG, "certified_mflop_s", "sustained_mflop_s"),
        *optional(BIG, "upper_mflop_s"),
        *required(BIG, "nominal_mflop_s"),
        *required(COUNT, "devices_without_rating"),
        *required(BIG, "on_accepted_hold_mflop_s", "never_scheduled_mflop_s"),
        *required(COUNT, "with_witness_devices"),
        *required(BIG, "with_witness_mflop_s", "with_witness_sustained_mflop_s", "with_witness_nominal_mflop_s"),
        *optional(BIG, "with_witness_upper_mflop_s"),
        *required(COUNT, "with_witness_without_rating", "untested_devices"),
        *required(BIG, "untested_nominal_mflop_s"),
        *required(COUNT, "untested_without_rating"),
    ]


def make_table(name: str, key: tuple[str, ...], *items: Any) -> None:
    """Make a table of columns and constraints, with the name of its primary key."""
    op.create_table(name, *items, sa.PrimaryKeyConstraint(*key, name=f"pk_{name}"))


def make_numbered(name: str, *items: Any) -> None:
    """Make a table whose rows are numbered as they come."""
    # SQLite numbers rows by itself only where the key is of its own integer type
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    make_table(name, ("id",), sa.Column("id", number, autoincrement=True, nullable=False), *items)


def upgrade() -> None:
    """Make everything."""
    make_numbered(
        "acts",
        *required(TIME, "at"),
        *required(WORD, "act"),
        *required(NAME, "centre_id"),
        *required(TEXT, "project_id"),
        *required(NAME, "pool"),
        *required(TEXT, "reason"),
        *required(COUNT, "token_id"),
    )
    op.create_index("ix_acts_centre_id_project_id_pool", "acts", ["centre_id", "project_id", "pool"])
    make_numbered(
        "alarms",
        *required(TIME, "at"),
        *required(NAME, "code", "payload_sha256"),
        *optional(NAME, "other_sha256"),
        *required(NAME, "centre_id"),
        *optional(NAME, "other_centre_id"),
        *required(COUNT, "devices"),
        *required(TEXT, "what"),
        sa.UniqueConstraint("code", "payload_sha256", "other_sha256", name="uq_alarms"),
    )
    op.create_index("ix_alarms_other_sha256", "alarms", ["other_sha256"])
    op.create_index("ix_alarms_payload_sha256", "alarms", ["payload_sha256"])
    make_numbered(
        "audit",
        *required(TIME, "at"),
        *optional(COUNT, "token_id"),
        *required(NAME, "action"),
        *required(TEXT, "target"),
        *required(NAME, "outcome"),
        *required(sa.String(length=36), "request_id"),
    )
    make_table(
        "campaigns",
        ("campaign_sha256",),
        *required(NAME, "campaign_sha256", "campaign_id", "centre_id", "series"),
        *required(sa.String(length=128), "challenge"),
        *required(WORD, "challenge_source"),
        *required(TIME, "issued_at", "received_at", "expires_at"),
        *required(COUNT, "nodes"),
        *required(NAME, "envelope_sha256"),
        sa.UniqueConstraint("challenge", name="uq_campaigns_challenge"),
    )
    op.create_index("ix_campaigns_centre_id", "campaigns", ["centre_id"])
    make_table(
        "challenges",
        ("challenge",),
        *required(sa.String(length=128), "challenge"),
        *required(NAME, "centre_id"),
        *required(TIME, "issued_at", "expires_at"),
        *required(COUNT, "token_id"),
    )
    op.create_index("ix_challenges_centre_id", "challenges", ["centre_id"])
    make_numbered(
        "changes",
        *required(TIME, "at"),
        *required(WORD, "kind"),
        *required(NAME, "centre_id"),
        *required(TEXT, "project_id"),
        *optional(NAME, "statement"),
    )
    make_numbered(
        "decisions",
        *required(TIME, "at"),
        *required(WORD, "kind"),
        *required(SHORT, "decision"),
        *optional(NAME, "code"),
        *optional(TEXT, "detail"),
        *optional(WORD, "level"),
        *optional(NAME, "payload_sha256", "object_sha256", "centre_id"),
        *optional(COUNT, "token_id"),
        *optional(sa.LargeBinary(), "receipt"),
    )
    op.create_index("ix_decisions_centre_id", "decisions", ["centre_id"])
    op.create_index("ix_decisions_payload_sha256", "decisions", ["payload_sha256"])
    make_table(
        "presence",
        ("centre_id", "node_id"),
        *required(NAME, "centre_id", "node_id", "keyid", "nonce"),
        *optional(TIME, "seen_at"),
        *required(BIG, "beats"),
        *optional(NAME, "devices_sha256", "heartbeat_sha256"),
    )
    make_table(
        "statements",
        ("payload_sha256",),
        *required(NAME, "payload_sha256", "centre_id"),
        *required(TEXT, "project_id"),
        *required(BIG, "sequence"),
        *optional(NAME, "previous_sha256"),
        *required(
            TIME,
            "issued_at",
            "valid_until",
            "received_at",
            "measured_from",
            "measured_until",
            "busy_from",
            "busy_until",
        ),
        *optional(WORD, "grade"),
        *required(sa.Boolean(), "simulated"),
        *required(COUNT, "records"),
        *required(NAME, "records_root", "campaign_id", "campaign_sha256"),
        *required(TIME, "starts_at"),
        *required(sa.String(length=128), "challenge"),
        *required(WORD, "challenge_source"),
        *required(TEXT, "name_zh", "name_en", "operator"),
        *optional(sa.String(length=18), "uscc"),
        *optional(WORD, "jurisdiction"),
        *optional(TEXT, "district"),
        *required(WORD, "tier"),
        *optional(sa.Boolean(), "domestic"),
        *optional(TEXT, "park", "facility"),
        *required(NAME, "envelope_sha256"),
        sa.UniqueConstraint("centre_id", "project_id", "sequence", name="uq_statements_centre_id_project_id_sequence"),
    )
    op.create_index("ix_statements_campaign_sha256", "statements", ["campaign_sha256"])
    op.create_index("ix_statements_challenge", "statements", ["challenge"])
    op.create_index("ix_statements_previous_sha256", "statements", ["previous_sha256"])
    op.create_index("ix_statements_received_at_payload_sha256", "statements", ["received_at", "payload_sha256"])
    make_table(
        "tokens",
        ("id",),
        sa.Column("id", COUNT, autoincrement=True, nullable=False),
        *required(TEXT, "name"),
        *required(NAME, "secret_sha256"),
        *required(WORD, "scope"),
        *optional(NAME, "centre_id"),
        *required(TIME, "created_at", "expires_at"),
        *optional(TIME, "revoked_at"),
        sa.UniqueConstraint("secret_sha256", name="uq_tokens_secret_sha256"),
    )
    make_table(
        "campaign_records",
        ("campaign_sha256", "node_id"),
        *required(NAME, "campaign_sha256", "node_id", "payload_sha256", "envelope_sha256"),
        *required(TIME, "received_at"),
        sa.ForeignKeyConstraint(
            ["campaign_sha256"], ["campaigns.campaign_sha256"], name="fk_campaign_records_campaign_sha256"
        ),
    )
    make_table(
        "chains",
        ("centre_id", "project_id"),
        *required(NAME, "centre_id"),
        *required(TEXT, "project_id"),
        statement("chains"),
    )
    op.create_index("ix_chains_statement", "chains", ["statement"])
    make_table(
        "class_lines",
        ("statement", "pool_class"),
        statement("class_lines"),
        *required(WORD, "pool_class"),
        *required(SHORT, "precision", "choice"),
        *line_sums(),
        *required(COUNT, "nodes_missing"),
    )
    make_numbered(
        "endings",
        statement("endings"),
        *required(TIME, "at", "effective_at"),
        *required(NAME, "code"),
        *required(TEXT, "reason"),
    )
    op.create_index("ix_endings_statement", "endings", ["statement"])
    make_numbered(
        "external_ids",
        *required(TIME, "at"),
        *required(TEXT, "scheme", "value"),
        *optional(TEXT, "issued_by"),
        *required(NAME, "centre_id"),
        *required(TEXT, "project_id"),
        *optional(NAME, "pool", "statement"),
        sa.ForeignKeyConstraint(["statement"], ["statements.payload_sha256"], name="fk_external_ids_statement"),
    )
    op.create_index("ix_external_ids_scheme_value", "external_ids", ["scheme", "value"])
    op.create_index("ix_external_ids_statement", "external_ids", ["statement"])
    make_numbered(
        "identities",
        statement("identities"),
        *required(SHORT, "kind"),
        *required(TEXT, "value", "place"),
        *required(sa.Boolean(), "claimed"),
    )
    op.create_index("ix_identities_kind_value", "identities", ["kind", "value"])
    op.create_index("ix_identities_statement", "identities", ["statement"])
    make_table(
        "node_lines",
        ("statement", "pool", "node_id"),
        statement("node_lines"),
        *required(NAME, "pool", "node_id", "keyid"),
        *required(COUNT, "devices"),
        *required(BIG, "certified_mflop_s", "sustained_mflop_s"),
        *optional(BIG, "upper_mflop_s"),
        *required(BIG, "nominal_mflop_s"),
        *required(COUNT, "devices_without_rating", "never_scheduled_devices"),
        *required(
            BIG, "never_scheduled_mflop_s", "never_scheduled_sustained_mflop_s", "never_scheduled_nominal_mflop_s"
        ),
        *required(COUNT, "with_witness_devices"),
        *required(BIG, "with_witness_mflop_s", "with_witness_sustained_mflop_s", "with_witness_nominal_mflop_s"),
        *required(NAME, "devices_sha256"),
    )
    make_table(
        "pool_lines",
        ("statement", "pool"),
        statement("pool_lines"),
        *required(NAME, "pool"),
        *required(WORD, "pool_class"),
        *required(SHORT, "precision", "choice", "accumulate"),
        *line_sums(),
        *required(COUNT, "nodes_recorded"),
    )
    make_table(
        "record_lines",
        ("statement", "payload_sha256"),
        statement("record_lines"),
        *required(NAME, "payload_sha256", "node_id"),
        *required(BIG, "position"),
        *required(COUNT, "length"),
    )
    op.create_index("ix_record_lines_payload_sha256", "record_lines", ["payload_sha256"])
    make_table(
        "signers",
        ("statement", "keyid"),
        statement("signers"),
        *required(NAME, "keyid"),
    )
    op.create_index("ix_signers_keyid", "signers", ["keyid"])
    make_table(
        "step_lines",
        ("statement", "pool", "step"),
        statement("step_lines"),
        *required(NAME, "pool", "step"),
        *required(COUNT, "devices"),
        *required(BIG, "certified_mflop_s"),
    )
    make_table(
        "vendor_lines",
        ("statement", "pool", "vendor"),
        statement("vendor_lines"),
        *required(NAME, "pool"),
        *required(TEXT, "vendor"),
        *required(COUNT, "devices"),
        *required(BIG, "certified_mflop_s", "sustained_mflop_s", "nominal_mflop_s"),
    )
    make_table(
        "verifications",
        ("statement", "level"),
        statement("verifications"),
        *required(WORD, "level"),
        *required(TIME, "at"),
        *optional(NAME, "records_sha256"),
        *optional(BIG, "records_bytes"),
    )
    make_table(
        "witnesses",
        ("statement", "keyid"),
        statement("witnesses"),
        *required(NAME, "keyid"),
        *required(TIME, "witnessed_at", "at"),
    )
    op.create_index("ix_witnesses_keyid", "witnesses", ["keyid"])
    postgresql = op.get_bind().dialect.name == "postgresql"
    if postgresql:
        op.execute(REFUSE_POSTGRESQL)
    for table in APPEND_ONLY:
        for change in ("UPDATE", "DELETE", "TRUNCATE") if postgresql else ("UPDATE", "DELETE"):
            name = f"{table}_no_{change.lower()}"
            if postgresql:
                each = f"BEFORE {change} ON {table} FOR EACH STATEMENT"
                op.execute(f"CREATE TRIGGER {name} {each} EXECUTE FUNCTION petaseal_append_only()")
            else:
                fault = f"SELECT RAISE(ABORT, 'the table {table} only grows')"
                op.execute(f"CREATE TRIGGER {name} BEFORE {change} ON {table} BEGIN {fault}; END")
