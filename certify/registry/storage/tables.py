"""Every table of the registry, in one place; `migrations` makes them, and a test sees that both agree.

The tables named in `APPEND_ONLY` are never changed: the database itself refuses UPDATE and DELETE on them. The others
hold what is derived (`chains`), what is only of now (`presence`), and the state of tokens. Times are texts of the one
form of documents, whose order is their order in time. Rates are integers in MFLOP/s. `project_id` is "" where a centre
declares no project: null is never equal to null.
"""

from __future__ import annotations

import sqlalchemy as sa

from certify.registry.storage import columns, upkeep
from certify.registry.storage.city_tables import CITY_APPEND_ONLY
from certify.registry.storage.node_tables import NODE_APPEND_ONLY

# --- what was taken in

statements = columns.new_table(
    "statements",  # every statement that was accepted, at level trusted or above
    columns.key_column("payload_sha256"),
    *columns.chain_columns(),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    columns.sha256_column("previous_sha256", nullable=True, index=True),
    columns.time_column("issued_at"),
    columns.time_column("valid_until"),
    columns.time_column("received_at"),  # of the receipt that accepted it
    columns.time_column("measured_from"),
    columns.time_column("measured_until"),
    columns.time_column("busy_from"),  # from the first load until the last window closes: its devices were busy here
    columns.time_column("busy_until"),
    sa.Column("grade", sa.String(16)),  # null: nothing counts
    sa.Column("simulated", sa.Boolean, nullable=False),
    sa.Column("records", sa.Integer, nullable=False),
    columns.sha256_column("records_root"),
    sa.Column("campaign_id", columns.NAME, nullable=False),
    columns.sha256_column("campaign_sha256", index=True),
    columns.time_column("starts_at"),
    sa.Column("challenge", sa.String(128), nullable=False, index=True),
    sa.Column("challenge_source", sa.String(16), nullable=False),
    sa.Column("name_zh", sa.Text, nullable=False),
    sa.Column("name_en", sa.Text, nullable=False),
    sa.Column("operator", sa.Text, nullable=False),
    sa.Column("uscc", sa.String(18)),
    sa.Column("jurisdiction", sa.String(16)),
    sa.Column("district", sa.Text),
    sa.Column("tier", sa.String(16), nullable=False),
    sa.Column("domestic", sa.Boolean),
    sa.Column("park", sa.Text),
    sa.Column("facility", sa.Text),
    columns.sha256_column("envelope_sha256"),  # an object
    sa.UniqueConstraint("centre_id", "project_id", "sequence"),
    sa.Index("ix_statements_received_at_payload_sha256", "received_at", "payload_sha256"),
)

signers = columns.new_table(
    "signers",  # keys whose signatures on a statement's envelope hold and counted
    columns.statement_column(primary_key=True),
    sa.Column("keyid", columns.SHA, primary_key=True, index=True),
)

class_lines = columns.new_table(
    "class_lines",  # `certify.documents.statement.ClassLine`, as signed
    columns.statement_column(primary_key=True),
    sa.Column("pool_class", sa.String(16), primary_key=True),
    sa.Column("precision", sa.String(8), nullable=False),
    sa.Column("choice", sa.String(8), nullable=False),
    *columns.figure_columns(),
    sa.Column("nodes_missing", sa.Integer, nullable=False),
)

pool_lines = columns.new_table(
    "pool_lines",  # `certify.documents.statement.PoolLine`, as signed
    columns.statement_column(primary_key=True),
    sa.Column("pool", columns.NAME, primary_key=True),
    sa.Column("pool_class", sa.String(16), nullable=False),
    sa.Column("precision", sa.String(8), nullable=False),
    sa.Column("choice", sa.String(8), nullable=False),
    sa.Column("accumulate", sa.String(8), nullable=False),
    *columns.figure_columns(),
    sa.Column("nodes_recorded", sa.Integer, nullable=False),
)

step_lines = columns.new_table(
    "step_lines",  # `certify.documents.statement.StepLine` of a pool, as signed
    columns.statement_column(primary_key=True),
    sa.Column("pool", columns.NAME, primary_key=True),
    sa.Column("step", columns.NAME, primary_key=True),
    sa.Column("devices", sa.Integer, nullable=False),
    sa.Column("certified_mflop_s", sa.BigInteger, nullable=False),
)

vendor_lines = columns.new_table(
    "vendor_lines",  # `certify.documents.statement.VendorLine`, as signed
    columns.statement_column(primary_key=True),
    sa.Column("pool", columns.NAME, primary_key=True),
    sa.Column("vendor", sa.Text, primary_key=True),
    sa.Column("devices", sa.Integer, nullable=False),
    sa.Column("certified_mflop_s", sa.BigInteger, nullable=False),
    sa.Column("sustained_mflop_s", sa.BigInteger, nullable=False),
    sa.Column("nominal_mflop_s", sa.BigInteger, nullable=False),
)

verifications = columns.new_table(
    "verifications",  # a level that the registry itself reached with a statement
    columns.statement_column(primary_key=True),
    sa.Column("level", sa.String(16), primary_key=True),  # trusted | recomputed
    columns.time_column("at"),
    columns.sha256_column("records_sha256", nullable=True),  # of records.jsonl: an object
    sa.Column("records_bytes", sa.BigInteger),
)

node_lines = columns.new_table(
    "node_lines",  # what each node contributes to a pool in the counted workload: recomputed here
    columns.statement_column(primary_key=True),
    sa.Column("pool", columns.NAME, primary_key=True),
    sa.Column("node_id", columns.NAME, primary_key=True),
    columns.sha256_column("keyid"),  # that signed its record
    *columns.rate_columns(),
    *columns.part_columns("never_scheduled"),  # of these rates
    *columns.part_columns("with_witness"),  # beside them
    sa.Column("devices_sha256", columns.SHA, nullable=False),  # of all its devices: `identities.devices_digest`
)

record_lines = columns.new_table(
    "record_lines",  # where the record of a node lies in the object `verifications.records_sha256`
    columns.statement_column(primary_key=True),
    sa.Column("payload_sha256", columns.SHA, primary_key=True, index=True),
    sa.Column("node_id", columns.NAME, nullable=False),
    sa.Column("position", sa.BigInteger, nullable=False),  # byte of the object
    sa.Column("length", sa.Integer, nullable=False),  # bytes, line end included
)

identities = columns.new_table(
    "identities",  # what `certify.statement.claim.DeviceIndex` holds of a statement's records
    columns.serial_column(),
    columns.statement_column(),
    sa.Column("kind", sa.String(8), nullable=False),  # device | parent | machine | samples
    sa.Column("value", sa.Text, nullable=False),  # an identity as it is compared, a key id, a digest
    sa.Column("place", sa.Text, nullable=False),  # node/device; of samples the record's payload digest
    sa.Column("claimed", sa.Boolean, nullable=False),  # stands in a pool
    sa.Index("ix_identities_kind_value", "kind", "value"),
)

decisions = columns.new_table(
    "decisions",  # every submission and what was decided; nothing is submitted without leaving one
    columns.serial_column(),
    columns.time_column("at"),
    # statement | records | baseline | witness | campaign | record | ...
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("decision", sa.String(8), nullable=False),  # accepted | refused
    sa.Column("code", sa.String(64)),  # reason code of a refusal
    sa.Column("detail", sa.Text),  # its sentence
    sa.Column("level", sa.String(16)),  # that was reached
    columns.sha256_column("payload_sha256", nullable=True, index=True),  # null: no document could be read from it
    columns.sha256_column("object_sha256", nullable=True),  # submitted, as it came; null where it was cut off at a cap
    # of the token, or of the document where nobody's token was needed
    sa.Column("centre_id", columns.NAME, index=True),
    sa.Column("token_id", sa.Integer),
    sa.Column("receipt", sa.LargeBinary),  # signed; null where nothing could be named in it
)

revocations = columns.new_table(
    "endings",  # revoked: from `effective_at` on a statement ends
    columns.serial_column(),
    columns.statement_column(),
    columns.time_column("at"),
    columns.time_column("effective_at"),
    sa.Column("code", sa.String(64), nullable=False),  # statement-revoked | records-revoked | key-revoked
    sa.Column("reason", sa.Text, nullable=False),
)

alarms = columns.new_table(
    "alarms",  # what two statements cannot both be right about, or what an official should look at
    columns.serial_column(),
    columns.time_column("at"),
    sa.Column("code", sa.String(64), nullable=False),
    columns.sha256_column("payload_sha256", index=True),  # that was submitted; it may have been refused for it
    columns.sha256_column("other_sha256", nullable=True, index=True),
    sa.Column("centre_id", columns.NAME, nullable=False),
    sa.Column("other_centre_id", columns.NAME),
    sa.Column("devices", sa.Integer, nullable=False),  # that both name; 0 where devices are not the matter
    sa.Column("what", sa.Text, nullable=False),
    sa.UniqueConstraint("code", "payload_sha256", "other_sha256", name="uq_alarms"),
)

external_ids = columns.new_table(
    "external_ids",  # identifiers that somebody else issued (算力标识): stored and looked up, never minted
    columns.serial_column(),
    columns.time_column("at"),
    sa.Column("scheme", sa.Text, nullable=False),
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("issued_by", sa.Text),
    *columns.chain_columns(),
    sa.Column("pool", columns.NAME),  # null: the centre
    columns.statement_column(nullable=True),  # whose centre file names it; null: the platform said so
    sa.Index("ix_external_ids_scheme_value", "scheme", "value"),
)

pool_transitions = columns.new_table(
    "acts",  # what the platform did with a pool: the latest of each pair holds
    columns.serial_column(),
    columns.time_column("at"),
    sa.Column("act", sa.String(16), nullable=False),  # register | deregister | manage | release
    *columns.chain_columns(),
    sa.Column("pool", columns.NAME, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("token_id", sa.Integer, nullable=False),
    sa.Index("ix_acts_centre_id_project_id_pool", "centre_id", "project_id", "pool"),
)

challenges = columns.new_table(
    "challenges",  # each opens one campaign of one centre
    sa.Column("challenge", sa.String(128), primary_key=True),
    sa.Column("centre_id", columns.NAME, nullable=False, index=True),
    columns.time_column("issued_at"),
    columns.time_column("expires_at"),  # a campaign that is opened later does not answer it
    sa.Column("token_id", sa.Integer, nullable=False),
)

campaigns = columns.new_table(
    "campaigns",  # signed by the operator and shown to the registry before or with its records
    columns.key_column("campaign_sha256"),
    sa.Column("campaign_id", columns.NAME, nullable=False),
    sa.Column("centre_id", columns.NAME, nullable=False, index=True),
    sa.Column("series", columns.NAME, nullable=False),
    sa.Column("challenge", sa.String(128), nullable=False, unique=True),
    sa.Column("challenge_source", sa.String(16), nullable=False),
    columns.time_column("issued_at"),
    columns.time_column("received_at"),
    columns.time_column("expires_at"),  # the last moment at which its windows can close
    sa.Column("nodes", sa.Integer, nullable=False),
    columns.sha256_column("envelope_sha256"),
)

campaign_records = columns.new_table(
    "campaign_records",  # posted by nodes that share no directory
    sa.Column("campaign_sha256", columns.SHA, sa.ForeignKey("campaigns.campaign_sha256"), primary_key=True),
    sa.Column("node_id", columns.NAME, primary_key=True),
    columns.sha256_column("payload_sha256"),
    columns.sha256_column("envelope_sha256"),
    columns.time_column("received_at"),
)

changes = columns.new_table(
    "changes",  # what a follower of the feed asks for; written under the one lock, so that numbers appear in order
    columns.serial_column(),
    columns.time_column("at"),
    # statement | verification | witness | ending | act | presence | identifier
    sa.Column("kind", sa.String(16), nullable=False),
    *columns.chain_columns(),
    columns.sha256_column("statement", nullable=True),
)

audit = columns.new_table(
    "audit",  # who did what with the registry itself
    columns.serial_column(),
    columns.time_column("at"),
    sa.Column("token_id", sa.Integer),
    sa.Column("action", sa.String(64), nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("outcome", sa.String(64), nullable=False),
    sa.Column("request_id", sa.String(36), nullable=False),
)

# --- what is derived, or of now

chains = columns.new_table(
    "chains",  # the highest number of each centre and project: all before it are superseded
    sa.Column("centre_id", columns.NAME, primary_key=True),
    sa.Column("project_id", sa.Text, primary_key=True),
    columns.statement_column(),
)

witnesses = columns.new_table(
    "witnesses",  # keys whose documents vouch for a statement, as the trust of now carries them
    columns.statement_column(primary_key=True),
    sa.Column("keyid", columns.SHA, primary_key=True, index=True),
    columns.time_column("witnessed_at"),
    columns.time_column("at"),  # when it was accepted
)

presence = columns.new_table(
    "presence",  # nodes that were heard of since their records came
    sa.Column("centre_id", columns.NAME, primary_key=True),
    sa.Column("node_id", columns.NAME, primary_key=True),
    columns.sha256_column("keyid"),
    sa.Column("nonce", sa.String(64), nullable=False),  # that the next heartbeat must carry
    columns.time_column("seen_at", nullable=True),  # of the last heartbeat that was accepted
    sa.Column("beats", sa.BigInteger, nullable=False),  # accepted one after the other
    sa.Column("devices_sha256", columns.SHA),  # that the last heartbeat told
    sa.Column("heartbeat_sha256", columns.SHA),  # payload digest of the last one
)

tokens = columns.new_table(
    "tokens",
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("name", sa.Text, nullable=False),
    columns.sha256_column("secret_sha256"),  # of a random secret of 256 bits: nothing slower is needed
    sa.Column("scope", sa.String(16), nullable=False),  # operator | platform | reader | metrics
    sa.Column("centre_id", columns.NAME),  # of an operator
    columns.time_column("created_at"),
    columns.time_column("expires_at"),
    columns.time_column("revoked_at", nullable=True),
    sa.UniqueConstraint("secret_sha256"),
)

_OF_STATEMENTS = (statements, signers, class_lines, pool_lines, step_lines, vendor_lines, verifications, node_lines)
APPEND_ONLY = (
    *_OF_STATEMENTS,
    record_lines,
    identities,
    decisions,
    revocations,
    alarms,
    external_ids,
    pool_transitions,
    challenges,
    campaigns,
    campaign_records,
    changes,
    audit,
    *CITY_APPEND_ONLY,
    *upkeep.APPEND_ONLY,
    *NODE_APPEND_ONLY,
)
