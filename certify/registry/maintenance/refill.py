"""Facts of stored statements that newer tables hold, filled from the stored documents after an upgrade.

The upgrade lists every statement in the table `refills`, and intake fills the newer tables itself for what comes later.
One transaction fills everything of one statement and takes it off the list, so that a kill loses nothing and repeats
nothing. One statement is in memory at a time, and of its records one line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy import Connection, delete, func, select

from bench.errors import InputError, RefusedError
from certify.registry.base.stored import StoredStatement, stored_statement
from certify.registry.intake.facts import refill_record_facts, refill_statement_facts
from certify.registry.storage.store import Progress, Store
from certify.registry.storage.upkeep import refills

Filler = Callable[[Connection, StoredStatement], None]

# Each is called once for a statement, in the writer's transaction; its rows are those that intake would have stored.
FILLERS: tuple[Filler, ...] = (refill_statement_facts, refill_record_facts)


class Refilled(NamedTuple):
    """How many statements were filled, and those whose stored documents are damaged, which stay on the list."""

    filled: int
    left: tuple[str, ...]  # a sentence each


def refill(store: Store, progress: Progress = lambda what, done: None) -> Refilled:
    """Fill the newer tables for every statement on the list; quick where there is none.

    Args:
        store: at this version's tables.
        progress: called after each statement.

    Raises:
        InputError: `database-older`, there is something to fill and the folder cannot be written.
    """
    filled, left, after = 0, [], ""
    if store.read_only:
        if _next(store, after) is not None:
            what = "holds statements that its upgrade has yet to fill, and its folder cannot be written"
            fix = "do that where it can be, with: petaseal registry migrate"
            raise InputError("database-older", what, where="database", fix=fix)
        return Refilled(0, ())
    while (sha256 := _next(store, after)) is not None:
        after = sha256
        try:
            filled += _fill(store, sha256)
        # one damaged object must not keep a city's registry from being served: `check` names it again
        except RefusedError as error:
            left.append(f"statement {sha256}: {error}")
        progress("statements filled", filled)
    return Refilled(filled, tuple(left))


def _next(store: Store, after: str) -> str | None:
    """Return the digest of the next statement on the list."""
    with store.reading() as connection:
        query = select(func.min(refills.c.statement)).where(refills.c.statement > after)
        sha256: str | None = connection.execute(query).scalar()
        return sha256


def _fill(store: Store, sha256: str) -> bool:
    """Fill the tables of one statement, unless another process did so meanwhile."""
    with store.writing() as connection:
        if not connection.execute(delete(refills).where(refills.c.statement == sha256)).rowcount:
            return False
        stored = stored_statement(connection, store.objects, sha256)
        for filler in FILLERS:
            filler(connection, stored)
        return True
