"""What a centre's own scheduler calls its nodes: records bear no host names, and a job must be sent to one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, delete, select

from bench.errors import RefusedError, one_line
from bench.record import encode
from certify.documents.dsse import check_text
from certify.registry.api.nodes import MOST_ALIASES, AliasAsk, Aliases, AliasesAsk, AliasLine
from certify.registry.base.registry import Registry
from certify.registry.storage.node_tables import node_aliases
from certify.registry.storage.store import record_change
from certify.registry.storage.tables import chains, node_lines

MOST_NAMED = 2000  # nodes that a change names one by one; more of them are a change of the whole centre
CHUNK = 500  # rows that one DELETE names


def replace_aliases(registry: Registry, centre_id: str, ask: AliasesAsk) -> Aliases:
    """Give the nodes of a centre these names, and no others.

    Raises:
        RefusedError: `request-invalid`: a name is no plain text, a node or a name stands there twice, or there are too
            many.
    """
    return _set(registry, centre_id, ask.aliases, whole=True)


def change_aliases(registry: Registry, centre_id: str, ask: AliasesAsk) -> Aliases:
    """Give some nodes of a centre other names, or none; the others stay as they are.

    Raises:
        RefusedError: `request-invalid`: as in `replace_aliases`.
    """
    return _set(registry, centre_id, ask.aliases, whole=False)


def aliases_of(connection: Connection, centre_id: str) -> Aliases:
    """Return the names of a centre's nodes."""
    known = set(
        connection.scalars(
            select(node_lines.c.node_id)
            .select_from(chains.join(node_lines, node_lines.c.statement == chains.c.statement))
            .where(chains.c.centre_id == centre_id)
        )
    )
    names = _names(connection, centre_id)
    return Aliases(
        centre_id=centre_id,
        aliases=tuple(AliasLine(node_id=node_id, alias=alias) for node_id, alias in sorted(names.items())),
        unknown=tuple(sorted(names.keys() - known)),
    )


def _set(registry: Registry, centre_id: str, asked: tuple[AliasAsk, ...], *, whole: bool) -> Aliases:
    _check_names(asked)
    at = registry.now
    with registry.store.writing() as connection:
        before = _names(connection, centre_id)
        wanted = {} if whole else dict(before)
        for one in asked:
            if one.alias is None:
                wanted.pop(one.node_id, None)
            else:
                wanted[one.node_id] = one.alias
        if len(wanted) > MOST_ALIASES:  # many small changes must not do what one large one may not
            raise _invalid(f"of {centre_id} would be {len(wanted)}, more than {MOST_ALIASES}")
        _check_unique(wanted)
        changed = {node_id for node_id, _ in before.items() ^ wanted.items()}
        # all of them first: two nodes may exchange their names
        _delete(connection, centre_id, sorted(changed & before.keys()))
        rows: list[dict[str, Any]] = [
            {"centre_id": centre_id, "node_id": node_id, "alias": wanted[node_id]}
            for node_id in sorted(changed & wanted.keys())
        ]
        if rows:
            connection.execute(node_aliases.insert(), rows)
        if changed:
            nodes = changed if len(changed) <= MOST_NAMED else ()
            record_change(connection, at, "alias", centre_id, "", nodes=nodes)
        return aliases_of(connection, centre_id)


def _names(connection: Connection, centre_id: str) -> dict[str, str]:
    query = select(node_aliases.c.node_id, node_aliases.c.alias).where(node_aliases.c.centre_id == centre_id)
    return {row.node_id: row.alias for row in connection.execute(query)}


def _delete(connection: Connection, centre_id: str, nodes: list[str]) -> None:
    for start in range(0, len(nodes), CHUNK):
        these = node_aliases.c.node_id.in_(nodes[start : start + CHUNK])
        connection.execute(delete(node_aliases).where(node_aliases.c.centre_id == centre_id, these))


def _check_names(asked: Iterable[AliasAsk]) -> None:
    """Refuse what would break a line of a file or of a terminal, or look like another name."""
    nodes = set()
    for one in asked:
        if one.node_id in nodes:
            raise _invalid(f"names the node {one.node_id} twice")
        nodes.add(one.node_id)
        if one.alias is None:
            continue
        if one.alias != one.alias.strip():
            raise _invalid(f"the alias of {one.node_id} begins or ends with a space")
        try:
            check_text(encode(one.alias))
        except RefusedError as error:
            raise _invalid(f"the alias of {one.node_id}: {one_line(error.what)}") from None


def _check_unique(names: dict[str, str]) -> None:
    nodes: dict[str, str] = {}
    for node_id, alias in sorted(names.items()):
        if alias in nodes:
            raise _invalid(f"the nodes {nodes[alias]} and {node_id} have the same alias {one_line(alias, 64)}")
        nodes[alias] = node_id


def _invalid(what: str) -> RefusedError:
    return RefusedError("request-invalid", what, where="aliases")
