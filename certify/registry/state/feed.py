"""The feed that a scheduler consumes: all pools now, or those of the centres where something changed since.

Whatever is told twice does no harm, and nothing may be left out: centres are named as changed for anything that was
written of them, and for every moment that passed at which time alone may have changed them.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Column, ColumnElement, Connection, and_, select

from bench.errors import InputError
from bench.record import Count, PoolClass, Precision, UtcTime
from bench.units import utc_ns, utc_text
from certify.registry.api.common import State
from certify.registry.api.views import PoolCapacity
from certify.registry.state.cache import reader_of
from certify.registry.state.listing import unwrap, wrap
from certify.registry.state.model import Revision, Snapshot
from certify.registry.state.read import change_digest, changed_centres
from certify.registry.storage.store import Store
from certify.registry.storage.tables import chains, presence, revocations, statements

FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would compute
_MAX_CONTENTS = 64  # of one snapshot: an asker chooses the filter, and each answer may have megabytes
_NUMBERS = ("certified_pflops", "sustained_pflops", "nominal_pflops", "schedulable_pflops")


class PoolFilter(NamedTuple):
    """Which pools are asked for. None: all."""

    centre: str | None = None
    district: str | None = None
    pool_class: PoolClass | None = None
    precision: Precision | None = None
    state: State | None = None

    def fits(self, pool: PoolCapacity) -> bool:
        """Return whether a pool is among them."""
        values = (pool.centre_id, pool.district, pool.pool_class, pool.precision, pool.state)
        return all(asked is None or asked == has for asked, has in zip(self, values, strict=True))


class Fed(NamedTuple):
    """An answer of the feed; `content` is JSON of its items, or the whole CSV."""

    at: str
    next: str
    changed: tuple[str, ...] | None
    content: bytes
    tag: str | None  # of the content, where it is the whole state

    def json(self) -> bytes:
        """Return the whole answer (`CapacityFeed`)."""
        items = msgspec.Raw(self.content)
        return msgspec.json.encode({"at": self.at, "next": self.next, "changed": self.changed, "items": items})


class FeedPosition(NamedTuple):
    """The position that a cursor of the feed encodes."""

    change: Count
    alarm: Count
    at: UtcTime
    change_digest: str  # what the change was


def feed(
    store: Store, at: str, stale_after_s: int, wanted: PoolFilter, since: str | None = None, as_csv: bool = False
) -> Fed:
    """Return the state of pools.

    Args:
        store: to look them up in.
        at: the present.
        stale_after_s: how long a node may be silent.
        wanted: which.
        since: cursor of an earlier answer.
        as_csv: whether as CSV.

    Raises:
        InputError: `cursor-invalid`, it was not given by this registry, or before it was restored from a backup.
    """
    if since is None:
        snapshot = reader_of(store).now(at, stale_after_s)
        content, tag = _whole(snapshot, wanted, as_csv)
        return Fed(at, _cursor(snapshot, at), None, content, tag)
    # before the snapshot: a cursor that is nonsense costs no query
    position = _position(since, stale_after_s * 10**9)
    with store.reading() as connection:
        snapshot = reader_of(store).present(connection, at, stale_after_s)
        changed = _changed(connection, snapshot, position, at, stale_after_s)
    pools = [
        pool.shown for centre_id in sorted(changed) for pool in snapshot.pools_of(centre_id) if wanted.fits(pool.shown)
    ]
    named = sorted(changed if wanted.centre is None else changed & {wanted.centre})
    return Fed(at, _cursor(snapshot, at), tuple(named), _content(pools, as_csv), None)


def _position(since: str, stale_ns: int) -> FeedPosition:
    position = unwrap(since, FeedPosition)
    try:
        utc_text(utc_ns(position.at) - stale_ns)
    except (ValueError, OverflowError):
        raise _not_ours() from None
    return position


def _cursor(snapshot: Snapshot, at: str) -> str:
    return wrap(FeedPosition(*snapshot.revision, at, snapshot.change_digest))


def _whole(snapshot: Snapshot, wanted: PoolFilter, as_csv: bool) -> tuple[bytes, str]:
    """Return all pools that are asked for, and the tag of that."""

    def make() -> tuple[bytes, str]:
        if wanted.centre is None:
            pools: Iterable[PoolCapacity] = snapshot.pools
        else:
            pools = (pool.shown for pool in snapshot.pools_of(wanted.centre))
        content = _content([pool for pool in pools if wanted.fits(pool)], as_csv)
        return content, hashlib.sha256(content).hexdigest()[:32]

    # of one centre it is soon made again, and there are thousands of them
    return snapshot.derive((wanted, as_csv), make, limit=_MAX_CONTENTS if wanted.centre is None else 0)


def _content(pools: list[PoolCapacity], as_csv: bool) -> bytes:
    return csv_of(pools) if as_csv else msgspec.json.encode(pools)


def _changed(
    connection: Connection, snapshot: Snapshot, position: FeedPosition, at: str, stale_after_s: int
) -> set[str]:
    """Return the centres where anything may have changed since a position."""
    written, then = Revision(position.change, position.alarm), position.at
    # of a later history: the registry was restored from a backup since
    ahead = written.change > snapshot.revision.change or written.alarm > snapshot.revision.alarm
    if ahead or change_digest(connection, written.change) != position.change_digest:
        raise _not_ours()
    if written == snapshot.revision and snapshot.since <= then and (snapshot.until is None or then < snapshot.until):
        return set()
    first, last = sorted((then, at))  # a clock may have been set back
    silence_ns = stale_after_s * 10**9
    # a node falls silent `stale_after_s` after its last heartbeat: the same window, moved back
    heard_after, heard_until = (utc_text(utc_ns(moment) - silence_ns) for moment in (first, last))
    of_latest = chains.join(statements, statements.c.payload_sha256 == chains.c.statement)
    of_ended = chains.join(revocations, revocations.c.statement == chains.c.statement)
    queries = (
        select(chains.c.centre_id).select_from(of_latest).where(_within(statements.c.valid_until, first, last)),
        select(chains.c.centre_id).select_from(of_ended).where(_within(revocations.c.effective_at, first, last)),
        select(presence.c.centre_id).where(_within(presence.c.seen_at, heard_after, heard_until)).distinct(),
    )
    by_time = {centre_id for query in queries for centre_id in connection.scalars(query)}
    return by_time | changed_centres(connection, written, snapshot.revision)


def _not_ours() -> InputError:
    fix = "take the whole feed again, without since"
    return InputError("cursor-invalid", "is not of this registry's history", where="since", fix=fix)


def _within(column: Column[Any], first: str, last: str) -> ColumnElement[bool]:
    return and_(column > first, column <= last)


def csv_of(pools: list[PoolCapacity]) -> bytes:
    """Return pools as CSV (RFC 4180): rates as integers in MFLOP/s, and again in PFLOPS."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(PoolCapacity.__struct_fields__)
    for pool in pools:
        writer.writerow([_cell(name, getattr(pool, name)) for name in PoolCapacity.__struct_fields__])
    return out.getvalue().encode()


def _cell(name: str, value: object) -> object:
    """Return a value as a cell; a text that a spreadsheet would compute gets an apostrophe before it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, int):
        return value
    text = " ".join(str(one) for one in value) if isinstance(value, tuple) else str(value)
    # CSV injection (OWASP): a pool named =HYPERLINK(...) runs in whoever opens the file
    return f"'{text}" if text.startswith(FORMULAS) and name not in _NUMBERS else text
