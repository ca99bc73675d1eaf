"""The present state, its sums, and the response cache: each is used again while nothing of its content has changed.

The state is read once for all readers. Change numbers tell what was written. What time alone changes (a statement
expires, a revocation takes effect, a node falls silent) has a next moment, until which a centre stands as it stood. A
heartbeat of a node that is heard of anyway changes neither: at that moment its centre alone is looked up anew.
The basis of an answer is the state that it was made of (a centre's, or the whole snapshot), and, where it shows
more than that, on numbers which every such writing raises, and on the time. Before it is given again it is seen, in one
snapshot, that all of them are the same. An answer that depends on the client is never stored.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

from anyio import to_thread
from msgspec.structs import replace
from sqlalchemy import Connection, TextClause, and_, func, select, text
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from certify.policy.capacity import Capacity
from certify.registry.api.cities import Lifecycle
from certify.registry.base.registry import Registry, Settings
from certify.registry.base.rehearsal import is_rehearsal
from certify.registry.state.assembly import capacity_of_row
from certify.registry.state.model import CentreState, Kind, KindTotals, Revision, Snapshot
from certify.registry.state.read import SUMMED, change_digest, changed_centres, read_centre_states, revision_of
from certify.registry.state.rollup import lifecycle
from certify.registry.storage.store import Store
from certify.registry.storage.tables import changes, pool_lines, statements

FEW = 300  # centres that are looked up one by one


class SnapshotReader:
    """Reads the present state of one store, and shares it between readers."""

    def __init__(self, store: Store) -> None:
        self._store = weakref.ref(store)  # weak: this reader must not keep its store alive
        self._lock = threading.Lock()
        self._last: Snapshot | None = None
        self.read_at: str | None = None  # when the snapshot in memory was read
        self._totals: tuple[int, KindTotals] = (-1, {})

    def now(self, at: str, stale_after_s: int) -> Snapshot:
        """Return the present state."""
        store = self._store()
        assert store is not None
        with store.reading() as connection:
            revision = revision_of(connection)
        last = self._last
        if last is not None and last.holds(revision, at):
            return last
        with self._lock:  # one looks it up, the others wait for that
            last = self._last
            if last is not None and last.revision >= revision and last.holds(last.revision, at):
                return last
            with store.reading() as connection:
                return self._look_up(connection, revision_of(connection), at, stale_after_s)

    def present(self, connection: Connection, at: str, stale_after_s: int) -> Snapshot:
        """Return the present state as of a connection's snapshot, so that it agrees with further queries there."""
        revision = revision_of(connection)
        last = self._last
        if last is not None and last.holds(revision, at):
            return last
        with self._lock:
            last = self._last
            if last is not None and last.holds(revision, at):
                return last
            return self._look_up(connection, revision, at, stale_after_s)

    def _look_up(self, connection: Connection, revision: Revision, at: str, stale_after_s: int) -> Snapshot:
        """Read the centres that were written about or that time changed, and take the others from the last snapshot."""
        last = self._last
        only: set[str] | None = None
        if (
            last is not None
            and last.revision <= revision
            # a restored backup may give a number of the past to another change
            and change_digest(connection, last.revision.change) == last.change_digest
        ):
            only = changed_centres(connection, last.revision, revision)
            only |= {centre_id for centre_id, centre in last.centre_states.items() if not centre.holds(at)}
        # a list of thousands of ids in a query is slower than reading everything
        if last is None or only is None or len(only) > FEW:
            centres = read_centre_states(connection, at, stale_after_s)
        else:
            centres = {**last.centre_states, **read_centre_states(connection, at, stale_after_s, sorted(only))}
        snapshot = Snapshot(revision, change_digest(connection, revision.change), dict(sorted(centres.items())))
        # a reader in an old snapshot must not turn the state back for all others
        if last is None or last.revision <= revision:
            self._last, self.read_at = snapshot, at
        return snapshot

    def totals(self, connection: Connection) -> KindTotals:
        """Return the sums over all statements that were ever accepted, of each class and precision.

        They only grow: what was added is added.
        """
        seq = revision_of(connection).change
        with self._lock:
            until, totals = self._totals
            if until < 0 or until > seq:
                totals = _totals(connection, None)
            elif until < seq:
                totals = _plus(totals, _totals(connection, (until, seq)))
            self._totals = (seq, totals)
        return totals


_readers: weakref.WeakKeyDictionary[Store, SnapshotReader] = weakref.WeakKeyDictionary()
_readers_lock = threading.Lock()


def reader_of(store: Store) -> SnapshotReader:
    """Return the one reader of a store."""
    with _readers_lock:
        return _readers.setdefault(store, SnapshotReader(store))


def current_snapshot(store: Store, at: str, settings: Settings) -> Snapshot:
    """Return the present state.

    Args:
        at: the present.
    """
    return reader_of(store).now(at, settings.stale_after_s)


# --- all that was ever accepted ---------------------------------------------------------------------------------------


def _totals(connection: Connection, between: tuple[int, int] | None) -> KindTotals:
    """Sum up all statements, or those that were accepted with a change number after the first and up to the last."""
    key = (pool_lines.c.pool_class, pool_lines.c.precision)
    query = (
        select(*key, func.count(), *(func.sum(pool_lines.c[name]) for name in SUMMED))
        .select_from(pool_lines.join(statements, statements.c.payload_sha256 == pool_lines.c.statement))
        .where(statements.c.simulated.is_(is_rehearsal(connection)))
        .group_by(*key)
    )
    if between is not None:
        accepted = and_(changes.c.kind == "statement", changes.c.id > between[0], changes.c.id <= between[1])
        query = query.where(pool_lines.c.statement.in_(select(changes.c.statement).where(accepted)))
    return {
        (name, precision): (pools, capacity_of_row(*sums))
        for name, precision, pools, *sums in connection.execute(query)
    }


def _plus(a: KindTotals, b: KindTotals) -> KindTotals:
    whole: dict[Kind, tuple[int, Capacity]] = dict(a)
    for key, (pools, capacity) in b.items():
        before = whole.get(key, (0, Capacity()))
        whole[key] = (before[0] + pools, before[1] + capacity)
    return whole


MAX_RESPONSES = 8192  # answers
MAX_TOTAL_BYTES = 128 * 2**20  # of all of them
MAX_RESPONSE_BYTES = 2**20  # of one
DECIDED = text("SELECT max(id) FROM decisions WHERE payload_sha256 = :it")
# A campaign and each of its records leave a decision of their centre; a challenge leaves none.
OPENED = text(
    "SELECT (SELECT max(id) FROM decisions WHERE centre_id = :it),"
    " (SELECT count(*) FROM challenges WHERE centre_id = :it)"
)


class WriteCounts(NamedTuple):
    """Numbers that grow with everything that is written about one statement or centre."""

    query: TextClause  # `DECIDED` or `OPENED`
    of: str  # a statement's payload digest, or a centre
    counts: tuple[int | None, ...]

    def again(self, connection: Connection) -> WriteCounts:
        """Return the same numbers in another snapshot."""
        return write_counts(connection, self.query, self.of)


def write_counts(connection: Connection, query: TextClause, of: str) -> WriteCounts:
    """Return the numbers of a statement or centre in the snapshot of a connection."""
    return WriteCounts(query, of, tuple(connection.execute(query, {"it": of}).one()))


class ResponseBasis(NamedTuple):
    """What must be unchanged for a stored answer to be given again."""

    part: weakref.ref[Snapshot | CentreState]  # no past state stays in memory for an answer
    centre_id: str | None  # whose part it is; None: it is all of the present state
    numbers: WriteCounts | None = None
    since: str = ""  # when it was made, where time alone changes it
    until: str | None = None  # the moment at which it does

    def holds(self, connection: Connection, snapshot: Snapshot, at: str) -> bool:
        """Return whether nothing of it changed."""
        part = snapshot if self.centre_id is None else snapshot.centre_states.get(self.centre_id)
        return (
            part is not None
            and self.part() is part
            and self.since <= at
            and (self.until is None or at < self.until)
            and (self.numbers is None or self.numbers.again(connection) == self.numbers)
        )


def basis_of(
    snapshot: Snapshot,
    centre_id: str | None = None,
    numbers: WriteCounts | None = None,
    since: str = "",
    until: str | None = None,
) -> ResponseBasis | None:
    """Return the basis of an answer; None where the centre is not known."""
    part = snapshot if centre_id is None else snapshot.centre_states.get(centre_id)
    return None if part is None else ResponseBasis(weakref.ref(part), centre_id, numbers, since, until)


class _CachedResponse(NamedTuple):
    content: bytes
    headers: Mapping[str, str]
    basis: ResponseBasis


Key = tuple[str, bytes]  # path and query, as they were asked


class ResponseCache:
    """The public answers of one registry; the least recently used are dropped first."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._public = registry.settings.public_read
        self._lock = threading.Lock()
        self._responses: OrderedDict[Key, _CachedResponse] = OrderedDict()
        self._bytes = 0

    def may_have(self, scope: Scope) -> Key | None:
        """Return the cache key of a request; None where its answer depends on the client."""
        # with a token the same address may answer more: such an answer is nobody else's
        if not self._public or scope["method"] != "GET" or scope["state"]["token"] is not None:
            return None
        if any(name == b"accept" and b"text/csv" in value for name, value in scope["headers"]):
            return None
        return scope["path"], scope["query_string"]

    def keep(self, request: Request, content: bytes, headers: Mapping[str, str], basis: ResponseBasis | None) -> None:
        """Store a JSON answer of status 200 if it is public."""
        key = self.may_have(request.scope)
        # a few large answers must not push out thousands of small ones
        if key is None or basis is None or len(content) > MAX_RESPONSE_BYTES:
            return
        with self._lock:
            self._forget(key)
            self._responses[key] = _CachedResponse(content, headers, basis)
            self._bytes += len(content)
            # an asker chooses the query, and could else fill the memory with it
            while len(self._responses) > MAX_RESPONSES or self._bytes > MAX_TOTAL_BYTES:
                self._forget(next(iter(self._responses)))

    def has(self, key: Key) -> bool:
        """Return whether there is an answer, that may hold no longer."""
        return key in self._responses

    def find(self, key: Key) -> tuple[bytes, dict[str, str]] | None:
        """Return an answer and its headers if it still holds."""
        with self._lock:
            cached = self._responses.get(key)
            if cached is None:
                return None
            self._responses.move_to_end(key)
        at, settings = self._registry.now, self._registry.settings
        with self._registry.store.reading() as connection:
            # the state and the counts of one snapshot: between two of them something could be written
            snapshot = reader_of(self._registry.store).present(connection, at, settings.stale_after_s)
            holds = cached.basis.holds(connection, snapshot, at)
        if holds:
            return cached.content, dict(cached.headers)
        with self._lock:
            # another thread may have stored a newer one meanwhile
            if self._responses.get(key) is cached:
                self._forget(key)
        return None

    def _forget(self, key: Key) -> None:
        before = self._responses.pop(key, None)
        if before is not None:
            self._bytes -= len(before.content)


class CacheMiddleware:
    """ASGI middleware inside of `RequestMiddleware` that answers from the response cache where it can."""

    def __init__(self, app: ASGIApp, answers: ResponseCache) -> None:
        self.app = app
        self.answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = self.answers.may_have(scope) if scope["type"] == "http" else None
        if key is not None and self.answers.has(key):
            cached = await to_thread.run_sync(self.answers.find, key)
            if cached is not None:
                content, headers = cached
                answer = not_modified(Request(scope), headers) or Response(content, 200, headers, "application/json")
                await answer(scope, receive, send)
                return
        await self.app(scope, receive, send)


def not_modified(request: Request, headers: dict[str, str]) -> Response | None:
    """Return 304 where the asker names the ETag that is in `headers`."""
    asked = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
    not_modified = "*" in asked or headers["ETag"].removeprefix("W/") in asked
    return Response(status_code=304, headers=headers) if not_modified else None


def lifecycle_of(store: Store, connection: Connection, snapshot: Snapshot, at: str) -> Lifecycle:
    """Return the sums of the present state, computed once for it.

    Args:
        snapshot: the state that `connection` sees.
    """
    # as old as the snapshot, which is replaced with each change
    sums = snapshot.derive(
        "lifecycle", lambda: lifecycle(snapshot.latest_statements, reader_of(store).totals(connection), at)
    )
    return replace(sums, at=at, rehearsal=is_rehearsal(connection))
