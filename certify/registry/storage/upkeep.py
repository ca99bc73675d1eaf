"""The tables of a registry's upkeep: what is said of alarms, what was dropped, what an upgrade has yet to fill."""

from __future__ import annotations

import sqlalchemy as sa

from certify.registry.storage import columns

acknowledgements = columns.new_table(
    "acknowledgements",  # what an official said of an alarm: the latest line of each alarm holds
    columns.serial_column(),
    columns.time_column("at"),
    sa.Column("alarm_id", sa.BigInteger, sa.ForeignKey("alarms.id"), nullable=False, index=True),
    sa.Column("acknowledged", sa.Boolean, nullable=False),  # false: an earlier acknowledgement is withdrawn
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("token_id", sa.Integer),  # null: a command on the registry's own machine
)

dropped = columns.new_table(
    "dropped",  # bodies of refused submissions that are no longer stored; their decisions stay
    columns.serial_column(),
    columns.time_column("at"),
    columns.sha256_column("object_sha256", index=True),
    sa.Column("decision_id", sa.BigInteger, nullable=False),  # the last one that named it then
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("cause", sa.String(16), nullable=False),  # age | room
)

refills = columns.new_table(
    "refills",  # statements of before this revision, whose facts in newer tables are not filled yet
    columns.statement_column(primary_key=True),
)

APPEND_ONLY = (acknowledgements, dropped)
