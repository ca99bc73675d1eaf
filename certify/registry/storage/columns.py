"""The columns that several tables share, and the names of their keys and indexes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, MetaData, String, Table, Text
from sqlalchemy.schema import SchemaItem

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


def project_key(project_id: str | None) -> str:
    """Return a project as the tables hold it."""
    return project_id or ""


def new_table(name: str, *parts: SchemaItem) -> Table:
    """Return a table of these columns and constraints, which `metadata` then knows."""
    return Table(name, metadata, *parts)


def key_column(name: str) -> Column[Any]:
    """Return a primary key that is a SHA-256."""
    return Column(name, SHA, primary_key=True)


def serial_column() -> Column[Any]:
    """Return the primary key `id`, which counts up."""
    return Column("id", Serial, primary_key=True, autoincrement=True)


def sha256_column(name: str, *, nullable: bool = False, index: bool = False) -> Column[Any]:
    """Return a column of SHA-256 digests, lower-case hex."""
    return Column(name, SHA, nullable=nullable, index=index)


def statement_column(*, primary_key: bool = False, nullable: bool = False) -> Column[Any]:
    """Return the column `statement`, which refers to a stored statement."""
    return Column(
        "statement",
        SHA,
        ForeignKey("statements.payload_sha256"),
        primary_key=primary_key,
        nullable=nullable,
        index=not primary_key,
    )


def time_column(name: str, *, nullable: bool = False) -> Column[Any]:
    """Return a column of times, in the form of `UtcTime`."""
    return Column(name, TIME, nullable=nullable)


def chain_columns() -> list[Column[Any]]:
    """Return the columns that name a chain of statements: centre and project."""
    return [Column("centre_id", NAME, nullable=False), Column("project_id", Text, nullable=False)]


def rate_columns() -> list[Column[Any]]:
    """Sum over devices, as in `certify.documents.statement.Totals`."""
    return [
        Column("devices", Integer, nullable=False),
        Column("certified_mflop_s", BigInteger, nullable=False),
        Column("sustained_mflop_s", BigInteger, nullable=False),
        Column("upper_mflop_s", BigInteger),  # null: unbounded
        Column("nominal_mflop_s", BigInteger, nullable=False),
        Column("devices_without_rating", Integer, nullable=False),
    ]


def part_columns(name: str) -> list[Column[Any]]:
    """Sum over some of the devices; ``<name>_mflop_s`` is what is certified of them."""
    return [
        Column(f"{name}_devices", Integer, nullable=False),
        Column(f"{name}_mflop_s", BigInteger, nullable=False),
        Column(f"{name}_sustained_mflop_s", BigInteger, nullable=False),
        Column(f"{name}_nominal_mflop_s", BigInteger, nullable=False),
    ]


def figure_columns() -> list[Column[Any]]:
    """What counts of a pool or class, what counts with a witness only, and what was not tested."""
    return [
        *rate_columns(),
        Column("on_accepted_hold_mflop_s", BigInteger, nullable=False),
        Column("never_scheduled_mflop_s", BigInteger, nullable=False),  # part of it that nothing known bounds
        *part_columns("with_witness"),  # beside what counts, and among what was not tested
        Column("with_witness_upper_mflop_s", BigInteger),  # null: unbounded
        Column("with_witness_without_rating", Integer, nullable=False),
        Column("untested_devices", Integer, nullable=False),
        Column("untested_nominal_mflop_s", BigInteger, nullable=False),
        Column("untested_without_rating", Integer, nullable=False),
    ]


def numbered_columns() -> list[Column[Any]]:
    """Return the key of lines of a statement's pool: names of models are too long for one."""
    return [
        statement_column(primary_key=True),
        Column("pool", NAME, primary_key=True),
        Column("number", Integer, primary_key=True, autoincrement=False),
    ]


def model_columns() -> list[Column[Any]]:
    """Return the columns that name a device model and how it counts."""
    return [Column(name, Text, nullable=False) for name in ("vendor", "model", "count_unit")]


def memory_columns() -> list[Column[Any]]:
    """Return the least and the most memory that devices report; null where one of them reports none."""
    return [Column(name, BigInteger) for name in ("memory_bytes", "memory_bytes_most")]
