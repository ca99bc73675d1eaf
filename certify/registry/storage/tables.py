"""Every table of the registry, in one place; `migrations` makes them, and a test sees that both agree.

The tables named in `APPEND_ONLY` are never changed: the database itself refuses UPDATE and DELETE on them. The others
hold what is derived (`chains`), what is only of now (`presence`), and the state of tokens. Times are texts of the one
form of documents, whose order is their order in time. Rates are integers in MFLOP/s. `project_id` is "" where a centre
declares no project: null is never equal to null.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
Serial = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up INTEGER only
TIME = String(27)
SHA = String(64)
NAME = String(64)


def _key(name: str) -> Column[Any]:
    return Column(name, SHA, primary_key=True)


def _serial() -> Column[Any]:
    return Column("id", Serial, primary_key=True, autoincrement=True)


def _sha(name: str, *, nullable: bool = False, index: bool = False) -> Column[Any]:
    return Column(name, SHA, nullable=nullable, index=index)


def _of_statement(*, primary_key: bool = False, nullable: bool = False) -> Column[Any]:
    return Column(
        "statement",
        SHA,
        ForeignKey("statements.payload_sha256"),
        primary_key=primary_key,
        nullable=nullable,
        index=not primary_key,
    )


def _time(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, TIME, nullable=nullable)


def _rates() -> list[Column[Any]]:
    """Sum over devices, as in `certify.statement.build.Totals`."""
    return [
        Column("devices", Integer, nullable=False),
        Column("certified_mflop_s", BigInteger, nullable=False),
        Column("sustained_mflop_s", BigInteger, nullable=False),
        Column("upper_mflop_s", BigInteger),  # null: unbounded
        Column("nominal_mflop_s", BigInteger, nullable=False),
        Column("devices_without_rating", Integer, nullable=False),
    ]


def _part(name: str) -> list[Column[Any]]:
    """Sum over some of the devices; ``<name>_mflop_s`` is what is certified of them."""
    return [
        Column(f"{name}_devices", Integer, nullable=False),
        Column(f"{name}_mflop_s", BigInteger, nullable=False),
        Column(f"{name}_sustained_mflop_s", BigInteger, nullable=False),
        Column(f"{name}_nominal_mflop_s", BigInteger, nullable=False),
    ]


def _figures() -> list[Column[Any]]:
    """What counts of a pool or class, what counts with a witness only, and what was not tested."""
    return [
        *_rates(),
        Column("on_accepted_hold_mflop_s", BigInteger, nullable=False),
        Column("never_scheduled_mflop_s", BigInteger, nullable=False),  # part of it that nothing known bounds
        *_part("with_witness"),  # beside what counts, and among what was not tested
        Column("with_witness_upper_mflop_s", BigInteger),  # null: unbounded
        Column("with_witness_without_rating", Integer, nullable=False),
        Column("untested_devices", Integer, nullable=False),
        Column("untested_nominal_mflop_s", BigInteger, nullable=False),
        Column("untested_without_rating", Integer, nullable=False),
    ]


# --- what was taken in

statements = Table(
    "statements",  # every statement that was accepted, at level trusted or above
    metadata,
    _key("payload_sha256"),
    Column("centre_id", NAME, nullable=False),
    Column("project_id", Text, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    _sha("previous_sha256", nullable=True, index=True),
    _time("issued_at"),
    _time("valid_until"),
    _time("received_at"),  # of the receipt that accepted it
    _time("measured_from"),
    _time("measured_until"),
    _time("busy_from"),  # from the first load until the last window closes: its devices were busy here
    _time("busy_until"),
    Column("grade", String(16)),  # null: nothing counts
    Column("simulated", Boolean, nullable=False),
    Column("records", Integer, nullable=False),
    _sha("records_root"),
    Column("campaign_id", NAME, nullable=False),
    _sha("campaign_sha256", index=True),
    _time("starts_at"),
    Column("challenge", String(128), nullable=False, index=True),
    Column("challenge_source", String(16), nullable=False),
    Column("name_zh", Text, nullable=False),
    Column("name_en", Text, nullable=False),
    Column("operator", Text, nullable=False),
    Column("uscc", String(18)),
    Column("jurisdiction", String(16)),
    Column("district", Text),
    Column("tier", String(16), nullable=False),
    Column("domestic", Boolean),
    Column("park", Text),
    Column("facility", Text),
    _sha("envelope_sha256"),  # an object
    UniqueConstraint("centre_id", "project_id", "sequence"),
    Index("ix_statements_received_at_payload_sha256", "received_at", "payload_sha256"),
)

signers = Table(
    "signers",  # keys whose signatures on a statement's envelope hold and counted
    metadata,
    _of_statement(primary_key=True),
    Column("keyid", SHA, primary_key=True, index=True),
)

class_lines = Table(
    "class_lines",  # `certify.statement.build.ClassLine`, as signed
    metadata,
    _of_statement(primary_key=True),
    Column("pool_class", String(16), primary_key=True),
    Column("precision", String(8), nullable=False),
    Column("choice", String(8), nullable=False),
    *_figures(),
    Column("nodes_missing", Integer, nullable=False),
)

pool_lines = Table(
    "pool_lines",  # `certify.statement.build.PoolLine`, as signed
    metadata,
    _of_statement(primary_key=True),
    Column("pool", NAME, primary_key=True),
    Column("pool_class", String(16), nullable=False),
    Column("precision", String(8), nullable=False),
    Column("choice", String(8), nullable=False),
    Column("accumulate", String(8), nullable=False),
    *_figures(),
    Column("nodes_recorded", Integer, nullable=False),
)

step_lines = Table(
    "step_lines",  # `certify.statement.build.StepLine` of a pool, as signed
    metadata,
    _of_statement(primary_key=True),
    Column("pool", NAME, primary_key=True),
    Column("step", NAME, primary_key=True),
    Column("devices", Integer, nullable=False),
    Column("certified_mflop_s", BigInteger, nullable=False),
)

vendor_lines = Table(
    "vendor_lines",  # `certify.statement.build.VendorLine`, as signed
    metadata,
    _of_statement(primary_key=True),
    Column("pool", NAME, primary_key=True),
    Column("vendor", Text, primary_key=True),
    Column("devices", Integer, nullable=False),
    Column("certified_mflop_s", BigInteger, nullable=False),
    Column("sustained_mflop_s", BigInteger, nullable=False),
    Column("nominal_mflop_s", BigInteger, nullable=False),
)

verifications = Table(
    "verifications",  # a level that the registry itself reached with a statement
    metadata,
    _of_statement(primary_key=True),
    Column("level", String(16), primary_key=True),  # trusted | recomputed
    _time("at"),
    _sha("records_sha256", nullable=True),  # of records.jsonl: an object
    Column("records_bytes", BigInteger),
)

node_lines = Table(
    "node_lines",  # what each node contributes to a pool in the counted workload: recomputed here
    metadata,
    _of_statement(primary_key=True),
    Column("pool", NAME, primary_key=True),
    Column("node_id", NAME, primary_key=True),
    _sha("keyid"),  # that signed its record
    *_rates(),
    *_part("never_scheduled"),  # of these rates
    *_part("with_witness"),  # beside them
    Column("devices_sha256", SHA, nullable=False),  # of all its devices: `identities.devices_digest`
)

record_lines = Table(
    "record_lines",  # where the record of a node lies in the object `verifications.records_sha256`
    metadata,
    _of_statement(primary_key=True),
    Column("payload_sha256", SHA, primary_key=True, index=True),
    Column("node_id", NAME, nullable=False),
    Column("position", BigInteger, nullable=False),  # byte of the object
    Column("length", Integer, nullable=False),  # bytes, line end included
)

identities = Table(
    "identities",  # what `certify.statement.claim.Holdings` holds of a statement's records
    metadata,
    _serial(),
    _of_statement(),
    Column("kind", String(8), nullable=False),  # device | parent | machine | samples
    Column("value", Text, nullable=False),  # an identity as it is compared, a key id, a digest
    Column("place", Text, nullable=False),  # node/device; of samples the record's payload digest
    Column("claimed", Boolean, nullable=False),  # stands in a pool
    Index("ix_identities_kind_value", "kind", "value"),
)

decisions = Table(
    "decisions",  # every submission and what was decided; nothing is submitted without leaving one
    metadata,
    _serial(),
    _time("at"),
    Column("kind", String(16), nullable=False),  # statement | records | baseline | witness | campaign | record | ...
    Column("decision", String(8), nullable=False),  # accepted | refused
    Column("code", String(64)),  # reason code of a refusal
    Column("detail", Text),  # its sentence
    Column("level", String(16)),  # that was reached
    _sha("payload_sha256", nullable=True, index=True),  # null: no document could be read from it
    _sha("object_sha256", nullable=True),  # what was submitted, kept as it came; null where it was cut off at a cap
    Column("centre_id", NAME, index=True),  # of the token, or of the document where nobody's token was needed
    Column("token_id", Integer),
    Column("receipt", LargeBinary),  # signed; null where nothing could be named in it
)

endings = Table(
    "endings",  # revoked: from `effective_at` on a statement ends
    metadata,
    _serial(),
    _of_statement(),
    _time("at"),
    _time("effective_at"),
    Column("code", String(64), nullable=False),  # statement-revoked | key-revoked
    Column("reason", Text, nullable=False),
)

alarms = Table(
    "alarms",  # what two statements cannot both be right about, or what an official should look at
    metadata,
    _serial(),
    _time("at"),
    Column("code", String(64), nullable=False),
    _sha("payload_sha256", index=True),  # that was submitted; it may have been refused for it
    _sha("other_sha256", nullable=True, index=True),
    Column("centre_id", NAME, nullable=False),
    Column("other_centre_id", NAME),
    Column("devices", Integer, nullable=False),  # that both name; 0 where devices are not the matter
    Column("what", Text, nullable=False),
    UniqueConstraint("code", "payload_sha256", "other_sha256", name="uq_alarms"),
)

external_ids = Table(
    "external_ids",  # identifiers that somebody else issued (算力标识): stored and looked up, never minted
    metadata,
    _serial(),
    _time("at"),
    Column("scheme", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("issued_by", Text),
    Column("centre_id", NAME, nullable=False),
    Column("project_id", Text, nullable=False),
    Column("pool", NAME),  # null: the centre
    _of_statement(nullable=True),  # whose centre file names it; null: the platform said so
    Index("ix_external_ids_scheme_value", "scheme", "value"),
)

acts = Table(
    "acts",  # what the platform did with a pool: the latest of each pair holds
    metadata,
    _serial(),
    _time("at"),
    Column("act", String(16), nullable=False),  # register | deregister | manage | release
    Column("centre_id", NAME, nullable=False),
    Column("project_id", Text, nullable=False),
    Column("pool", NAME, nullable=False),
    Column("reason", Text, nullable=False),
    Column("token_id", Integer, nullable=False),
    Index("ix_acts_centre_id_project_id_pool", "centre_id", "project_id", "pool"),
)

challenges = Table(
    "challenges",  # each opens one campaign of one centre
    metadata,
    Column("challenge", String(128), primary_key=True),
    Column("centre_id", NAME, nullable=False, index=True),
    _time("issued_at"),
    _time("expires_at"),  # a campaign that is opened later does not answer it
    Column("token_id", Integer, nullable=False),
)

campaigns = Table(
    "campaigns",  # signed by the operator and shown to the registry before or with its records
    metadata,
    _key("campaign_sha256"),
    Column("campaign_id", NAME, nullable=False),
    Column("centre_id", NAME, nullable=False, index=True),
    Column("series", NAME, nullable=False),
    Column("challenge", String(128), nullable=False, unique=True),
    Column("challenge_source", String(16), nullable=False),
    _time("issued_at"),
    _time("received_at"),
    _time("expires_at"),  # the last moment at which its windows can close
    Column("nodes", Integer, nullable=False),
    _sha("envelope_sha256"),
)

campaign_records = Table(
    "campaign_records",  # posted by nodes that share no directory
    metadata,
    Column("campaign_sha256", SHA, ForeignKey("campaigns.campaign_sha256"), primary_key=True),
    Column("node_id", NAME, primary_key=True),
    _sha("payload_sha256"),
    _sha("envelope_sha256"),
    _time("received_at"),
)

changes = Table(
    "changes",  # what a follower of the feed asks for; written under the one lock, so that numbers appear in order
    metadata,
    _serial(),
    _time("at"),
    Column(
        "kind", String(16), nullable=False
    ),  # statement | verification | witness | ending | act | presence | identifier
    Column("centre_id", NAME, nullable=False),
    Column("project_id", Text, nullable=False),
    _sha("statement", nullable=True),
)

audit = Table(
    "audit",  # who did what with the registry itself
    metadata,
    _serial(),
    _time("at"),
    Column("token_id", Integer),
    Column("action", String(64), nullable=False),
    Column("target", Text, nullable=False),
    Column("outcome", String(64), nullable=False),
    Column("request_id", String(36), nullable=False),
)

# --- what is derived, or of now

chains = Table(
    "chains",  # the highest number of each centre and project: all before it are superseded
    metadata,
    Column("centre_id", NAME, primary_key=True),
    Column("project_id", Text, primary_key=True),
    _of_statement(),
)

witnesses = Table(
    "witnesses",  # keys whose documents vouch for a statement, as the trust of now carries them
    metadata,
    _of_statement(primary_key=True),
    Column("keyid", SHA, primary_key=True, index=True),
    _time("witnessed_at"),
    _time("at"),  # when it was accepted
)

presence = Table(
    "presence",  # nodes that were heard of since their records came
    metadata,
    Column("centre_id", NAME, primary_key=True),
    Column("node_id", NAME, primary_key=True),
    _sha("keyid"),
    Column("nonce", String(64), nullable=False),  # that the next heartbeat must carry
    _time("seen_at", nullable=True),  # of the last heartbeat that was accepted
    Column("beats", BigInteger, nullable=False),  # accepted one after the other
    Column("devices_sha256", SHA),  # that the last heartbeat told
    Column("heartbeat_sha256", SHA),  # payload digest of the last one
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False),
    _sha("secret_sha256"),  # of a random secret of 256 bits: nothing slower is needed
    Column("scope", String(16), nullable=False),  # operator | platform | reader | metrics
    Column("centre_id", NAME),  # of an operator
    _time("created_at"),
    _time("expires_at"),
    _time("revoked_at", nullable=True),
    UniqueConstraint("secret_sha256"),
)

APPEND_ONLY = (
    statements,
    signers,
    class_lines,
    pool_lines,
    step_lines,
    vendor_lines,
    verifications,
    node_lines,
    record_lines,
    identities,
    decisions,
    endings,
    alarms,
    external_ids,
    acts,
    challenges,
    campaigns,
    campaign_records,
    changes,
    audit,
)
