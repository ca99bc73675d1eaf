"""Pool transitions: the platform enters a pool in the register, and takes it under management (纳管)."""

from __future__ import annotations

from sqlalchemy import Connection, select

from bench.errors import RefusedError
from bench.record.fields import filled
from certify.registry.api.common import ActAsk, ActDone
from certify.registry.base.registry import Registry
from certify.registry.base.tokens import Token
from certify.registry.storage import tables
from certify.registry.storage.columns import project_key
from certify.registry.storage.store import record_change

REGISTER, MANAGE = ("register", "deregister"), ("manage", "release")  # of each pair the latest act holds


def apply_transition(registry: Registry, ask: ActAsk, token: Token) -> ActDone:
    """Apply a transition to a pool of a centre's latest statement.

    Raises:
        RefusedError: `token-scope`; `pool-unknown`; `act-out-of-order`: what is managed was registered before.
    """
    if token.scope != "platform":
        raise RefusedError("token-scope", "the register is the platform's")
    at, project = registry.now, project_key(ask.project_id)
    with registry.store.writing() as connection:
        # what ends something needs no pool in the newest statement: it may be gone from it
        if ask.act in ("register", "manage"):
            _check_pool(connection, ask.centre_id, project, ask.pool)
        standing = register_state(connection, ask.centre_id, project, ask.pool)
        if ask.act == "manage" and "registered" not in standing:
            fix = "register the pool first"
            raise RefusedError("act-out-of-order", "is not in the register", where=ask.pool, fix=fix)
        row = {
            "at": at,
            "act": ask.act,
            "centre_id": ask.centre_id,
            "project_id": project,
            "pool": ask.pool,
            "reason": ask.reason,
            "token_id": token.id,
        }
        if ask.act == "deregister" and "managed" in standing:  # who registers it again takes it under management anew
            connection.execute(tables.pool_transitions.insert(), {**row, "act": "release"})
        done = connection.execute(
            tables.pool_transitions.insert().returning(tables.pool_transitions.c.id), row
        ).scalar_one()
        for one in ask.external_ids:
            identifier = {
                "at": at,
                "scheme": one.scheme,
                "value": one.value,
                "issued_by": one.issued_by,
                "centre_id": ask.centre_id,
                "project_id": project,
                "pool": ask.pool,
                "statement": None,
            }
            connection.execute(tables.external_ids.insert(), identifier)
        # in the same transaction, so that no follower hears of what is undone again
        record_change(connection, at, "act", ask.centre_id, project)
    return filled(ActDone, ask, id=done, at=at)


def register_state(connection: Connection, centre_id: str, project: str, pool: str) -> frozenset[str]:
    """Return which of ``registered`` and ``managed`` are true of a pool."""
    transitions = tables.pool_transitions
    query = select(transitions.c.act).where(
        transitions.c.centre_id == centre_id, transitions.c.project_id == project, transitions.c.pool == pool
    )
    done = list(connection.execute(query.order_by(transitions.c.id)).scalars())
    latest = {pair: next((act for act in reversed(done) if act in pair), None) for pair in (REGISTER, MANAGE)}
    return frozenset(name for name, pair in (("registered", REGISTER), ("managed", MANAGE)) if latest[pair] == pair[0])


def _check_pool(connection: Connection, centre_id: str, project: str, pool: str) -> None:
    chains, lines = tables.chains, tables.pool_lines
    query = (
        select(lines.c.pool)
        .join(chains, chains.c.statement == lines.c.statement)
        .where(chains.c.centre_id == centre_id, chains.c.project_id == project, lines.c.pool == pool)
    )
    if connection.execute(query).first() is None:
        what = f"the newest statement of {centre_id} has no pool {pool}"
        raise RefusedError("pool-unknown", what, fix="name the project too, where its statements name one")
