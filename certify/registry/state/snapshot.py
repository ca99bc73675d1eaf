"""The present state out of the database: few queries, kept in the process while nothing changes, in writing or by time.

Change numbers tell what was written. What time alone changes (a statement expires, a revocation takes effect, a node
falls silent) has a next moment, until which a centre stands as it stood. A heartbeat of a node that is heard of anyway
changes neither: at that moment its centre is looked up anew, and no other one.
"""

from __future__ import annotations

import threading
import weakref

from sqlalchemy import Connection, and_, func, select

from certify.registry.api import Rates
from certify.registry.service.settings import Settings
from certify.registry.state.model import (
    Kind,
    Mark,
    Totals,
    View,
    add_rates,
)
from certify.registry.state.read import SUMMED, mark_of, rates_of_row, read_parts, trace_of, written_of
from certify.registry.storage.store import Store
from certify.registry.storage.tables import (
    changes,
    pool_lines,
    statements,
)

FEW = 300  # centres that are looked up one by one


class Viewer:
    """Keeps the present state of one store."""

    def __init__(self, store: Store) -> None:
        self._store = weakref.ref(store)  # whose viewer this is: it must not keep it
        self._lock = threading.Lock()
        self._kept: View | None = None
        self._all: tuple[int, Totals] = (-1, {})

    def now(self, at: str, stale_after_s: int) -> View:
        """Return the present state."""
        store = self._store()
        assert store is not None
        with store.reading() as connection:
            mark = mark_of(connection)
        kept = self._kept
        if kept is not None and kept.holds(mark, at):
            return kept
        with self._lock:  # one looks it up, the others wait for that
            kept = self._kept
            if kept is not None and kept.mark >= mark and kept.holds(kept.mark, at):
                return kept
            with store.reading() as connection:
                return self._look_up(connection, mark_of(connection), at, stale_after_s)

    def present(self, connection: Connection, at: str, stale_after_s: int) -> View:
        """Return the present state as one snapshot has it, for who compares it with more of that snapshot."""
        mark = mark_of(connection)
        kept = self._kept
        if kept is not None and kept.holds(mark, at):
            return kept
        with self._lock:
            kept = self._kept
            if kept is not None and kept.holds(mark, at):
                return kept
            return self._look_up(connection, mark, at, stale_after_s)

    def _look_up(self, connection: Connection, mark: Mark, at: str, stale_after_s: int) -> View:
        """Look up the centres of which something was written, or that time changed; the others stand as they stood."""
        kept = self._kept
        only: set[str] | None = None
        if kept is not None and kept.mark <= mark and trace_of(connection, kept.mark.change) == kept.trace:
            only = written_of(connection, kept.mark, mark)
            only |= {centre_id for centre_id, part in kept.parts.items() if not part.holds(at)}
        if kept is None or only is None or len(only) > FEW:
            parts = read_parts(connection, at, stale_after_s)
        else:
            parts = {**kept.parts, **read_parts(connection, at, stale_after_s, sorted(only))}
        made = View(mark, trace_of(connection, mark.change), dict(sorted(parts.items())))
        if kept is None or kept.mark <= mark:
            self._kept = made
        return made

    def totals(self, connection: Connection) -> Totals:
        """Return the sums over all statements that were ever accepted, of each class and precision.

        They only grow: what was added is added.
        """
        seq = mark_of(connection).change
        with self._lock:
            last, found = self._all
            if last < 0 or last > seq:
                found = _totals(connection, None)
            elif last < seq:
                found = _plus(found, _totals(connection, (last, seq)))
            self._all = (seq, found)
        return found


_viewers: weakref.WeakKeyDictionary[Store, Viewer] = weakref.WeakKeyDictionary()
_viewers_lock = threading.Lock()


def viewer(store: Store) -> Viewer:
    """Return the one viewer of a store."""
    with _viewers_lock:
        return _viewers.setdefault(store, Viewer(store))


def current(store: Store, at: str, settings: Settings) -> View:
    """Return the present state.

    Args:
        at: the present.
    """
    return viewer(store).now(at, settings.stale_after_s)


# --- all that was ever accepted ---------------------------------------------------------------------------------------


def _totals(connection: Connection, between: tuple[int, int] | None) -> Totals:
    """Sum up all statements, or those that were accepted with a change number after the first and up to the last."""
    key = (pool_lines.c.pool_class, pool_lines.c.precision)
    query = (
        select(*key, func.count(), *(func.sum(pool_lines.c[name]) for name in SUMMED))
        .select_from(pool_lines.join(statements, statements.c.payload_sha256 == pool_lines.c.statement))
        .where(statements.c.simulated.is_(False))
        .group_by(*key)
    )
    if between is not None:
        accepted = and_(changes.c.kind == "statement", changes.c.id > between[0], changes.c.id <= between[1])
        query = query.where(pool_lines.c.statement.in_(select(changes.c.statement).where(accepted)))
    return {
        (name, precision): (pools, rates_of_row(*sums)) for name, precision, pools, *sums in connection.execute(query)
    }


def _plus(a: Totals, b: Totals) -> Totals:
    whole: dict[Kind, tuple[int, Rates]] = dict(a)
    for key, (pools, rates) in b.items():
        before = whole.get(key, (0, Rates()))
        whole[key] = (before[0] + pools, add_rates(before[1], rates))
    return whole
