"""What the platform does with a pool: it enters it in the register, and takes it under management (纳管)."""

from __future__ import annotations

from sqlalchemy import Connection, select

from bench.errors import RefusedError
from certify.registry.api import ActAsk, ActDone
from certify.registry.service.registry import Registry, project_key, record_change
from certify.registry.service.tokens import Token
from certify.registry.storage import tables

REGISTER, MANAGE = ("register", "deregister"), ("manage", "release")  # of each pair the latest act holds


def act(registry: Registry, ask: ActAsk, token: Token) -> ActDone:
    """Do something with a pool of a centre's newest statement.

    Raises:
        RefusedError: `token-scope`; `pool-unknown`; `act-out-of-order`: what is managed was registered before.
    """
    if token.scope != "platform":
        raise RefusedError("token-scope", "the register is the platform's")
    at, project = registry.now, project_key(ask.project_id)
    with registry.store.writing() as connection:
        if ask.act in ("register", "manage"):
            _check_pool(connection, ask.centre_id, project, ask.pool)
        standing = standing_of(connection, ask.centre_id, project, ask.pool)
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
            connection.execute(tables.acts.insert(), {**row, "act": "release"})
        done = connection.execute(tables.acts.insert().returning(tables.acts.c.id), row).scalar_one()
        for one in ask.external_ids:
            told = {
                "at": at,
                "scheme": one.scheme,
                "value": one.value,
                "issued_by": one.issued_by,
                "centre_id": ask.centre_id,
                "project_id": project,
                "pool": ask.pool,
                "statement": None,
            }
            connection.execute(tables.external_ids.insert(), told)
        record_change(connection, at, "act", ask.centre_id, project)
    return ActDone(
        id=done,
        at=at,
        act=ask.act,
        centre_id=ask.centre_id,
        project_id=ask.project_id,
        pool=ask.pool,
        reason=ask.reason,
    )


def standing_of(connection: Connection, centre_id: str, project: str, pool: str) -> frozenset[str]:
    """Return of ``registered`` and ``managed`` what holds of a pool."""
    acts = tables.acts
    query = select(acts.c.act).where(acts.c.centre_id == centre_id, acts.c.project_id == project, acts.c.pool == pool)
    done = list(connection.execute(query.order_by(acts.c.id)).scalars())
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
