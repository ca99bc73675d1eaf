"""The tables of what nodes have and are called, and of who made and signed their records (see `tables`)."""

from __future__ import annotations

import sqlalchemy as sa

from certify.registry.storage import columns

inventory_lines = columns.new_table(
    "inventory_lines",  # `certify.documents.statement.Inventory`, as signed: what was found, before records are read
    *columns.numbered_columns(),
    *columns.model_columns(),
    sa.Column("devices", sa.Integer, nullable=False),
)

model_step_lines = columns.new_table(
    "model_step_lines",  # what counts of a model in the counted workload, by step of evidence, from `CeilingLine`
    *columns.numbered_columns(),
    sa.Column("vendor", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("step", columns.NAME, nullable=False),
    sa.Column("devices", sa.Integer, nullable=False),
    sa.Column("certified_mflop_s", sa.BigInteger, nullable=False),
)

evidence_lines = columns.new_table(
    "evidence_lines",  # `certify.documents.statement.EvidenceLine` of one pool: what another tool measured there
    *columns.numbered_columns(),
    sa.Column("content", sa.Text, nullable=False),  # JSON, as signed
)

model_lines = columns.new_table(
    "model_lines",  # what the records show of the devices of a model in a pool: the sum of `node_models`
    *columns.numbered_columns(),
    *columns.model_columns(),
    sa.Column("nodes", sa.Integer, nullable=False),
    sa.Column("devices", sa.Integer, nullable=False),
    sa.Column("devices_per_node", sa.Integer, nullable=False),  # the least of its nodes
    sa.Column("devices_per_node_most", sa.Integer, nullable=False),
    *columns.memory_columns(),
    sa.Column("devices_without_rating", sa.Integer),  # null: the table of ratings is not known here
)

node_models = columns.new_table(
    "node_models",  # the devices of a model that the record of a node shows in a pool
    columns.statement_column(primary_key=True),
    sa.Column("pool", columns.NAME, primary_key=True),
    sa.Column("node_id", columns.NAME, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    *columns.model_columns(),
    sa.Column("devices", sa.Integer, nullable=False),
    *columns.memory_columns(),
    sa.Column("devices_without_rating", sa.Integer),
)

node_changes = columns.new_table(
    "node_changes",  # the nodes that a change is about; a change without a line here is about a whole centre
    sa.Column("change", columns.Serial, sa.ForeignKey("changes.id"), primary_key=True, autoincrement=False),
    sa.Column("node_id", columns.NAME, primary_key=True),
)

node_aliases = columns.new_table(
    "node_aliases",  # what a centre's own scheduler calls a node: its operator's word, not for the public
    sa.Column("centre_id", columns.NAME, primary_key=True),
    sa.Column("node_id", columns.NAME, primary_key=True),
    sa.Column("alias", sa.String(253), nullable=False),
    sa.UniqueConstraint("centre_id", "alias"),
)

tool_lines = columns.new_table(
    "tool_lines",  # which petaseals made the records of a statement
    columns.statement_column(primary_key=True),
    sa.Column("sha256", columns.SHA, primary_key=True),  # of the sources, as the records tell it
    sa.Column("version", sa.String(256), primary_key=True),  # as they tell it: anybody's word
    sa.Column("records", sa.Integer, nullable=False),
)

key_lines = columns.new_table(
    "key_lines",  # keys that signed for several nodes of a statement, and so tell no machine
    columns.statement_column(primary_key=True),
    sa.Column("keyid", columns.SHA, primary_key=True),
    sa.Column("nodes", sa.Integer, nullable=False),
)

NODE_APPEND_ONLY = (
    inventory_lines,
    model_step_lines,
    evidence_lines,
    model_lines,
    node_models,
    node_changes,
    tool_lines,
    key_lines,
)
