"""The tables of what a statement says that no figure says, which a city's verdicts rest on (see `tables`)."""

from __future__ import annotations

import sqlalchemy as sa

from certify.registry.storage import columns

missing_lines = columns.new_table(
    "missing_lines",  # what nodes without a record could at most add to a class, from `ClassLine`, as signed
    columns.statement_column(primary_key=True),
    sa.Column("pool_class", sa.String(16), primary_key=True),
    sa.Column("at_most_mflop_s", sa.BigInteger),  # null: nobody knows
)

verdict_lines = columns.new_table(
    "verdict_lines",  # `certify.policy.verdicts.Verdict` of a statement, as signed
    columns.statement_column(primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("policy", columns.NAME, nullable=False),
    sa.Column("condition", columns.NAME, nullable=False),
    sa.Column("verdict", sa.String(32), nullable=False),
    sa.Column("content", sa.Text, nullable=False),  # JSON
)

fabric_lines = columns.new_table(
    "fabric_lines",  # what the network's runs show of a statement's devices; none where its campaign had no such runs
    columns.statement_column(primary_key=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("groups", sa.Integer, nullable=False),
    sa.Column("network_loss_ppm", sa.BigInteger),  # for the first T; null: none was measured
)

schedulable_samples = columns.new_table(
    "schedulable_samples",  # of now and then: presence has no history, and a trend of it needs one
    columns.serial_column(),
    columns.time_column("at"),
    sa.Column("policy", columns.NAME, nullable=False),
    sa.Column("pool_class", sa.String(16), nullable=False),
    sa.Column("schedulable_mflop_s", sa.BigInteger, nullable=False),
    sa.Index("ix_schedulable_samples_policy_at", "policy", "at"),
)

registry_kinds = columns.new_table(
    "registry_kinds",  # one row for ever: what this registry is
    sa.Column("kind", sa.String(16), primary_key=True),  # registry | rehearsal
    columns.time_column("at"),
)

CITY_APPEND_ONLY = (missing_lines, verdict_lines, fabric_lines, schedulable_samples, registry_kinds)
