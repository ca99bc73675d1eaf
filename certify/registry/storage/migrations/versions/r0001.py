"""The first tables, and the triggers that keep what was taken in as it is."""

from __future__ import annotations

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


def upgrade() -> None:
    """Make everything."""
    serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "acts",
        sa.Column("id", serial, autoincrement=True, nullable=False),
        sa.Column("at", sa.String(length=27), nullable=False),
        sa.Column("act", sa.String(length=16), nullable=False),
        sa.Column("centre_id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("token_id", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_acts"),
    )
    op.create_index("ix_acts_centre_id_project_id_pool", "acts", ["centre_id", "project_id", "pool"])
    op.create_table(
        "alarms",
        sa.Column("id", serial, autoincrement=True, nullable=False),
        sa.Column("at", sa.String(length=27), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("payload_sha256", sa.String(length=64), nullable=False),
        sa.Column("other_sha256", sa.String(length=64), nullable=True),
        sa.Column("centre_id", sa.String(length=64), nullable=False),
        sa.Column("other_centre_id", sa.String(length=64), nullable=True),
        sa.Column("devices", sa.Integer(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_alarms"),
        sa.UniqueConstraint("code", "payload_sha256", "other_sha256", name="uq_alarms"),
    )
    op.create_index("ix_alarms_other_sha256", "alarms", ["other_sha256"])
    op.create_index("ix_alarms_payload_sha256", "alarms", ["payload_sha256"])
    op.create_table(
        "audit",
        sa.Column("id", serial, autoincrement=True, nullable=False),
        sa.Column("at", sa.String(length=27), nullable=False),
        sa.Column("token_id", sa.Integer(), nullable=True),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("outcome", sa.String(length=64), nullable=False),
        sa.Column("request_id", sa.String(length=36), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_table(
        "campaigns",
        sa.Column("campaign_sha256", sa.String(length=64), nullable=False),
        sa.Column("campaign_id", sa.String(length=64), nullable=False),
        sa.Column("centre_id", sa.String(length=64), nullable=False),
        sa.Column("series", sa.String(length=64), nullable=False),
        sa.Column("challenge", sa.String(length=128), nullable=False),
        sa.Column("challenge_source", sa.String(length=16), nullable=False),
        sa.Column("issued_at", sa.String(length=27), nullable=False),
        sa.Column("received_at", sa.String(length=27), nullable=False),
        sa.Column("expires_at", sa.String(length=27), nullable=False),
        sa.Column("nodes", sa.Integer(), nullable=False),
        sa.Column("envelope_sha256", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("campaign_sha256", name="pk_campaigns"),
        sa.UniqueConstraint("challenge", name="uq_campaigns_challenge"),
    )
    op.create_index("ix_campaigns_centre_id", "campaigns", ["centre_id"])
    op.create_table(
        "challenges",
        sa.Column("challenge", sa.String(length=128), nullable=False),
        sa.Column("centre_id", sa.String(length=64), nullable=False),
        sa.Column("issued_at", sa.String(length=27), nullable=False),
        sa.Column("expires_at", sa.String(length=27), nullable=False),
        sa.Column("token_id", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("challenge", name="pk_challenges"),
    )
    op.create_index("ix_challenges_centre_id", "challenges", ["centre_id"])
    op.create_table(
        "changes",
        sa.Column("id", serial, autoincrement=True, nullable=False),
        sa.Column("at", sa.String(length=27), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("centre_id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("statement", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_changes"),
    )
    op.create_table(
        "decisions",
        sa.Column("id", serial, autoincrement=True, nullable=False),
        sa.Column("at", sa.String(length=27), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("decision", sa.String(length=8), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("level", sa.String(length=16), nullable=True),
        sa.Column("payload_sha256", sa.String(length=64), nullable=True),
        sa.Column("object_sha256", sa.String(length=64), nullable=True),
        sa.Column("centre_id", sa.String(length=64), nullable=True),
        sa.Column("token_id", sa.Integer(), nullable=True),
        sa.Column("receipt", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_decisions"),
    )
    op.create_index("ix_decisions_centre_id", "decisions", ["centre_id"])
    op.create_index("ix_decisions_payload_sha256", "decisions", ["payload_sha256"])
    op.create_table(
        "presence",
        sa.Column("centre_id", sa.String(length=64), nullable=False),
        sa.Column("node_id", sa.String(length=64), nullable=False),
        sa.Column("keyid", sa.String(length=64), nullable=False),
        sa.Column("nonce", sa.String(length=64), nullable=False),
        sa.Column("seen_at", sa.String(length=27), nullable=True),
        sa.Column("beats", sa.BigInteger(), nullable=False),
        sa.Column("devices_sha256", sa.String(length=64), nullable=True),
        sa.Column("heartbeat_sha256", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("centre_id", "node_id", name="pk_presence"),
    )
    op.create_table(
        "statements",
        sa.Column("payload_sha256", sa.String(length=64), nullable=False),
        sa.Column("centre_id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("previous_sha256", sa.String(length=64), nullable=True),
        sa.Column("issued_at", sa.String(length=27), nullable=False),
        sa.Column("valid_until", sa.String(length=27), nullable=False),
        sa.Column("received_at", sa.String(length=27), nullable=False),
        sa.Column("measured_from", sa.String(length=27), nullable=False),
        sa.Column("measured_until", sa.String(length=27), nullable=False),
        sa.Column("busy_from", sa.String(length=27), nullable=False),
        sa.Column("busy_until", sa.String(length=27), nullable=False),
        sa.Column("grade", sa.String(length=16), nullable=True),
        sa.Column("simulated", sa.Boolean(), nullable=False),
        sa.Column("records", sa.Integer(), nullable=False),
        sa.Column("records_root", sa.String(length=64), nullable=False),
        sa.Column("campaign_id", sa.String(length=64), nullable=False),
        sa.Column("campaign_sha256", sa.String(length=64), nullable=False),
        sa.Column("starts_at", sa.String(length=27), nullable=False),
        sa.Column("challenge", sa.String(length=128), nullable=False),
        sa.Column("challenge_source", sa.String(length=16), nullable=False),
        sa.Column("name_zh", sa.Text(), nullable=False),
        sa.Column("name_en", sa.Text(), nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("uscc", sa.String(length=18), nullable=True),
        sa.Column("jurisdiction", sa.String(length=16), nullable=True),
        sa.Column("district", sa.Text(), nullable=True),
        sa.Column("tier", sa.String(length=16), nullable=False),
        sa.Column("domestic", sa.Boolean(), nullable=True),
        sa.Column("park", sa.Text(), nullable=True),
        sa.Column("facility", sa.Text(), nullable=True),
        sa.Column("envelope_sha256", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("payload_sha256", name="pk_statements"),
        sa.UniqueConstraint("centre_id", "project_id", "sequence", name="uq_statements_centre_id_project_id_sequence"),
    )
    op.create_index("ix_statements_campaign_sha256", "statements", ["campaign_sha256"])
    op.create_index("ix_statements_challenge", "statements", ["challenge"])
    op.create_index("ix_statements_previous_sha256", "statements", ["previous_sha256"])
    op.create_index("ix_statements_received_at_payload_sha256", "statements", ["received_at", "payload_sha256"])
    op.create_table(
        "tokens",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("scope", sa.String(length=16), nullable=False),
        sa.Column("centre_id", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("expires_at", sa.String(length=27), nullable=False),
        sa.Column("revoked_at", sa.String(length=27), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
        sa.UniqueConstraint("secret_sha256", name="uq_tokens_secret_sha256"),
    )
    op.create_table(
        "campaign_records",
        sa.Column("campaign_sha256", sa.String(length=64), nullable=False),
        sa.Column("node_id", sa.String(length=64), nullable=False),
        sa.Column("payload_sha256", sa.String(length=64), nullable=False),
        sa.Column("envelope_sha256", sa.String(length=64), nullable=False),
        sa.Column("received_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_sha256"], ["campaigns.campaign_sha256"], name="fk_campaign_records_campaign_sha256"
        ),
        sa.PrimaryKeyConstraint("campaign_sha256", "node_id", name="pk_campaign_records"),
    )
    op.create_table(
        "chains",
        sa.Column("centre_id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("statement", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["statement"], ["statements.payload_sha256"], name="fk_chains_statement"),
        sa.PrimaryKeyConstraint("centre_id", "project_id", name="pk_chains"),
    )
    op.create_index("ix_chains_statement", "chains", ["statement"])
    op.create_table(
        "class_lines",
        sa.Column("statement", sa.String(length=64), nullable=False),
        sa.Column("pool_class", sa.String(length=16), nullable=False),
        sa.Column("precision", sa.String(length=8), nullable=False),
        sa.Column("choice", sa.String(length=8), nullable=False),
        sa.Column("devices", sa.Integer(), nullable=False),
        sa.Column("certified_mflop_s", sa.BigInteger(), nullable=False),
        sa.Column("sustained_mflop_s", sa.BigInteger(), nullable=False),
        sa.Column("upper_mflop_s", sa.BigInteger(), nullable=True),
        sa.Column("nominal_mflop_s", sa.BigInteger(), nullable=False),
        sa.Column("devices_without_rating", sa.Integer(), nullable=False),
        sa.Column("on_accepted_hold_mflop_s", sa.BigInteger(), nullable=False),
        sa.Column("never_scheduled_mflop_s", sa.BigInteger(), nullable=False),
        sa.Column("with_witness_devices", sa.Integer(), nullable=False),
        sa.Column("with_witness_mflop_s", sa.BigInteger(), nullable=False),
        sa.Column("with_witness_sustained_mflop_s", sa.BigInteger(), nullable=False),
        sa.Column("with_witness_nominal_mflop_s", sa.BigInteger(), nullable=False),
        sa.Column("with_witness_upper_mflop_s", sa.BigInteger(), nullable=True),
        sa.Column("with_witness_without_rating", sa.Integer(), nullable=False),
        sa.Column("untested_devices", sa.Integer(), nullable=False),
        sa.Column("untested_nominal_mflop_s", sa.BigInteger(), nullable=False),
        sa.Column("untested_without_rating", sa.Integer(), nullable=False),
        sa.Column("nodes_missing", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["statement"], ["statements.payload_sha256"], name="fk_class_lines_statement"),
        sa.PrimaryKeyConstraint("statement", "pool_class", name="pk_class_lines"),
    )
    op.create_table(
        "endings",
        sa.Column("id", serial, autoincrement=True, nullable=False),
        sa.Column("statement", sa.String(length=64), nullable=False),
        sa.Column("at", sa.String(length=27), nullable=False),
        sa.Column("effective_at", sa.String(length=27), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["statement"], ["statements.payload_sha256"], name="fk_endings_statement"),
        sa.PrimaryKeyConstraint("id", name="pk_endings"),
    )
    op.create_index("ix_endings_statement", "endings", ["statement"])
    op.create_table(
        "external_ids",
        sa.Column("id", serial, autoincrement=True, nullable=False),
        sa.Column("at", sa.String(length=27), nullable=False),
        sa.Column("scheme", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("issued_by", sa.Text(), nullable=True),
        sa.Column("centre_id", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=True),
        sa.Column("statement", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(["statement"], ["statements.payload_sha256"], name="fk_external_ids_statement"),
        sa.PrimaryKeyConstraint("id", name="pk_external_ids"),
    )
    op.create_index("ix_external_ids_scheme_value", "external_ids", ["scheme", "value"])
    op.create_index("ix_external_ids_statement", "external_ids", ["statement"])
    op.create_table(
        "identities",
        sa.Column("id", serial, autoincrement=True, nullable=False),
        sa.Column("statement", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("claimed", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["statement"], ["statements.payload_sha256"], name="fk_identities_statement"),
        sa.PrimaryKeyConstraint("id", name="pk_identities"),
    )
    op.create_index("ix_identities_kind_value", "identities", ["kind", "value"])
    op.create_index("ix_identities_statement", "identities", ["statement"])
    op.create_table(
        "node_lines",
        sa.Column("statement", sa.String(length=64), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("node_id", sa.String(length=64), nullable=False),
        sa.Column("keyid", sa.String(length=64), nullable=False),
        sa.Column("devices", sa.Integer(), nullable=False),
        sa.Column("certified_mflop_s", sa.BigInteger(), nullable=False),
        sa.Column("sustained_mflop_s", sa.BigInteger(), nullable=False),
        sa.Column("upper_mflop_s", sa.BigInteger(), nullable=True),
        sa.Column("nominal_mflop_s", sa.BigInteger(), nullable=False),
        sa.Column("devices_without_rating", sa.Integer(), nullable=False),
        sa.Column("never_scheduled_devices", sa.Integer(), nullable=False),
        sa.Column("never_scheduled_mflop_s", sa.BigInteger(), nullable=False),
        sa.Column("never_scheduled_sustained_mflop_s", sa.BigInteger(), nullable=False),
        sa.Column("never_scheduled_nominal_mflop_s", sa.BigInteger(), nullable=False),
        sa.Column("with_witness_devices", sa.Integer(), nullable=False),
        sa.Column("with_witness_mflop_s", sa.BigInteger(), nullable=False),
        sa.Column("with_witness_sustained_mflop_s", sa.BigInteger(), nullable=False),
        sa.Column("with_witness_nominal_mflop_s", sa.BigInteger(), nullable=False),
        sa.Column("devices_sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["statement"], ["statements.payload_sha256"], name="fk_node_lines_statement"),
        sa.PrimaryKeyConstraint("statement", "pool", "node_id", name="pk_node_lines"),
    )
    op.create_table(
        "pool_lines",
        sa.Column("statement", sa.String(length=64), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("pool_class", sa.String(length=16), nullable=False),
        sa.Column("precision", sa.String(length=8), nullable=False),
        sa.Column("choice", sa.String(length=8), nullable=False),
        sa.Column("accumulate", sa.String(length=8), nullable=False),
        sa.Column("devices", sa.Integer(), nullable=False),
        sa.Column("certified_mflop_s", sa.BigInteger(), nullable=False),
        sa.Column("sustained_mflop_s", sa.BigInteger(), nullable=False),
        sa.Column("upper_mflop_s", sa.BigInteger(), nullable=True),
        sa.Column("nominal_mflop_s", sa.BigInteger(), nullable=False),
        sa.Column("devices_without_rating", sa.Integer(), nullable=False),
        sa.Column("on_accepted_hold_mflop_s", sa.BigInteger(), nullable=False),
        sa.Column("never_scheduled_mflop_s", sa.BigInteger(), nullable=False),
        sa.Column("with_witness_devices", sa.Integer(), nullable=False),
        sa.Column("with_witness_mflop_s", sa.BigInteger(), nullable=False),
        sa.Column("with_witness_sustained_mflop_s", sa.BigInteger(), nullable=False),
        sa.Column("with_witness_nominal_mflop_s", sa.BigInteger(), nullable=False),
        sa.Column("with_witness_upper_mflop_s", sa.BigInteger(), nullable=True),
        sa.Column("with_witness_without_rating", sa.Integer(), nullable=False),
        sa.Column("untested_devices", sa.Integer(), nullable=False),
        sa.Column("untested_nominal_mflop_s", sa.BigInteger(), nullable=False),
        sa.Column("untested_without_rating", sa.Integer(), nullable=False),
        sa.Column("nodes_recorded", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["statement"], ["statements.payload_sha256"], name="fk_pool_lines_statement"),
        sa.PrimaryKeyConstraint("statement", "pool", name="pk_pool_lines"),
    )
    op.create_table(
        "record_lines",
        sa.Column("statement", sa.String(length=64), nullable=False),
        sa.Column("payload_sha256", sa.String(length=64), nullable=False),
        sa.Column("node_id", sa.String(length=64), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("length", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["statement"], ["statements.payload_sha256"], name="fk_record_lines_statement"),
        sa.PrimaryKeyConstraint("statement", "payload_sha256", name="pk_record_lines"),
    )
    op.create_index("ix_record_lines_payload_sha256", "record_lines", ["payload_sha256"])
    op.create_table(
        "signers",
        sa.Column("statement", sa.String(length=64), nullable=False),
        sa.Column("keyid", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["statement"], ["statements.payload_sha256"], name="fk_signers_statement"),
        sa.PrimaryKeyConstraint("statement", "keyid", name="pk_signers"),
    )
    op.create_index("ix_signers_keyid", "signers", ["keyid"])
    op.create_table(
        "step_lines",
        sa.Column("statement", sa.String(length=64), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("step", sa.String(length=64), nullable=False),
        sa.Column("devices", sa.Integer(), nullable=False),
        sa.Column("certified_mflop_s", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["statement"], ["statements.payload_sha256"], name="fk_step_lines_statement"),
        sa.PrimaryKeyConstraint("statement", "pool", "step", name="pk_step_lines"),
    )
    op.create_table(
        "vendor_lines",
        sa.Column("statement", sa.String(length=64), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("vendor", sa.Text(), nullable=False),
        sa.Column("devices", sa.Integer(), nullable=False),
        sa.Column("certified_mflop_s", sa.BigInteger(), nullable=False),
        sa.Column("sustained_mflop_s", sa.BigInteger(), nullable=False),
        sa.Column("nominal_mflop_s", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["statement"], ["statements.payload_sha256"], name="fk_vendor_lines_statement"),
        sa.PrimaryKeyConstraint("statement", "pool", "vendor", name="pk_vendor_lines"),
    )
    op.create_table(
        "verifications",
        sa.Column("statement", sa.String(length=64), nullable=False),
        sa.Column("level", sa.String(length=16), nullable=False),
        sa.Column("at", sa.String(length=27), nullable=False),
        sa.Column("records_sha256", sa.String(length=64), nullable=True),
        sa.Column("records_bytes", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["statement"], ["statements.payload_sha256"], name="fk_verifications_statement"),
        sa.PrimaryKeyConstraint("statement", "level", name="pk_verifications"),
    )
    op.create_table(
        "witnesses",
        sa.Column("statement", sa.String(length=64), nullable=False),
        sa.Column("keyid", sa.String(length=64), nullable=False),
        sa.Column("witnessed_at", sa.String(length=27), nullable=False),
        sa.Column("at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(["statement"], ["statements.payload_sha256"], name="fk_witnesses_statement"),
        sa.PrimaryKeyConstraint("statement", "keyid", name="pk_witnesses"),
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
