"""The last valid statement of a chain whose newest one was revoked or is simulated: what bounds a missing centre."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, and_, select

from certify.registry.state.assembly import CentreRows, PoolRow, latest_statement
from certify.registry.state.model import LatestStatement, StatementFacts
from certify.registry.storage.city_tables import fabric_lines, missing_lines
from certify.registry.storage.tables import chains, class_lines, pool_lines, revocations, statements

BATCH = 500  # values of one query


class Previous(NamedTuple):
    """What precedes the statements that hold no longer."""

    statements: dict[tuple[str, str], LatestStatement]  # by centre and project
    came: set[tuple[str, str]]  # of which any statement came that is not simulated
    moments: dict[tuple[str, str], list[str]]  # at which a revocation of an earlier statement takes effect


def previous_valid(
    connection: Connection, latest_statements: Iterable[LatestStatement], rows: CentreRows, class_columns: Any, at: str
) -> Previous:
    """Return the newest statement before each that is revoked or simulated, that is neither.

    Args:
        connection: a snapshot.
        latest_statements: the newest of all chains that are asked for.
        rows: that they were made from.
        class_columns: of `class_lines`, in the order of the API's type.
        at: the present.
    """
    wanted = [one.facts.payload_sha256 for one in latest_statements if one.last_valid is None]
    if not wanted:
        return Previous({}, set(), {})
    facts, came, moments = _newest_valid(connection, wanted, rows, at)
    chosen = [one.payload_sha256 for one in facts.values()]
    pools = [pool_lines.c[name] for name in PoolRow._fields]
    of_chosen = replace(
        rows,
        pools=_grouped(connection, pools, chosen),
        vendors={},
        classes=_grouped(connection, [class_lines.c.statement, *class_columns], chosen),
        missing=_grouped(connection, list(missing_lines.c), chosen),
        fabric=_grouped(connection, list(fabric_lines.c), chosen),
    )
    found = {chain: latest_statement(one, of_chosen, at) for chain, one in facts.items()}
    return Previous(found, came, moments)


def _newest_valid(
    connection: Connection, latest: list[str], rows: CentreRows, at: str
) -> tuple[dict[tuple[str, str], StatementFacts], set[tuple[str, str]], dict[tuple[str, str], list[str]]]:
    """Return the newest earlier statement of each chain that was not revoked, and when others of them will be."""
    columns = [statements.c[name] for name in StatementFacts.__struct_fields__]
    same_chain = and_(statements.c.centre_id == chains.c.centre_id, statements.c.project_id == chains.c.project_id)
    facts: dict[tuple[str, str], StatementFacts] = {}
    came: set[tuple[str, str]] = set()
    moments: dict[tuple[str, str], list[str]] = {}
    for part in _batches(latest):
        earlier = and_(
            chains.c.statement.in_(part),
            statements.c.payload_sha256 != chains.c.statement,
            statements.c.simulated.is_(rows.rehearsal),
        )
        source = statements.join(chains, same_chain)
        ends = select(revocations.c.statement, revocations.c.effective_at).select_from(
            source.join(revocations, revocations.c.statement == statements.c.payload_sha256)
        )
        revoked_at: dict[str, str] = {}
        for statement, effective_at in connection.execute(ends.where(earlier)):
            revoked_at[statement] = min(effective_at, revoked_at.get(statement, effective_at))
        query = select(*columns).select_from(source).where(earlier).order_by(statements.c.sequence)
        for row in connection.execute(query):
            one = StatementFacts(*row)
            came.add(one.chain)
            end = revoked_at.get(one.payload_sha256)
            if end is not None:
                moments.setdefault(one.chain, []).append(end)
            if end is None or end > at:
                facts[one.chain] = one
    return facts, came, moments


def _grouped(connection: Connection, columns: list[Column[Any]], chosen: list[str]) -> dict[str, list[Any]]:
    """Return rows of some statements by their statement, the first column."""
    groups: dict[str, list[Any]] = {}
    for part in _batches(chosen):
        for row in connection.execute(select(*columns).where(columns[0].in_(part))).all():
            groups.setdefault(row[0], []).append(row)
    return groups


def _batches(values: list[str]) -> Iterable[list[str]]:
    return (values[i : i + BATCH] for i in range(0, len(values), BATCH))
