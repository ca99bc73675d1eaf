"""The feed that a scheduler consumes: all pools now, or those of the centres where something changed since.

Whatever is told twice does no harm, and nothing may be left out: centres are named as changed for anything that was
written of them, and for every moment that passed at which time alone may have changed them.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Column, ColumnElement, Connection, and_, select

from bench.errors import InputError
from bench.record import Count, PoolClass, Precision, UtcTime
from bench.units import utc_ns, utc_text
from certify.registry.api import PoolCapacity, State
from certify.registry.state.cursors import unwrap, wrap
from certify.registry.state.model import Mark, View
from certify.registry.state.read import trace_of, written_of
from certify.registry.state.snapshot import viewer
from certify.registry.storage.store import Store
from certify.registry.storage.tables import chains, endings, presence, statements

FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would compute
_KEPT = 64  # answers of one view
_NUMBERS = ("certified_pflops", "sustained_pflops", "nominal_pflops", "schedulable_pflops")


class Wanted(NamedTuple):
    """Which pools are asked for. None: all."""

    centre: str | None = None
    district: str | None = None
    pool_class: PoolClass | None = None
    precision: Precision | None = None
    state: State | None = None

    def fits(self, pool: PoolCapacity) -> bool:
        """Return whether a pool is among them."""
        told = (pool.centre_id, pool.district, pool.pool_class, pool.precision, pool.state)
        return all(asked is None or asked == found for asked, found in zip(self, told, strict=True))


class Fed(NamedTuple):
    """An answer of the feed; `content` is JSON of its items, or the whole CSV."""

    at: str
    next: str
    changed: tuple[str, ...] | None
    content: bytes
    tag: str | None  # of the content, where it is the whole state

    def json(self) -> bytes:
        """Return the whole answer (`types.Capacity`)."""
        items = msgspec.Raw(self.content)
        return msgspec.json.encode({"at": self.at, "next": self.next, "changed": self.changed, "items": items})


class Place(NamedTuple):
    """What a cursor holds."""

    change: Count
    alarm: Count
    at: UtcTime
    trace: str  # what the change was


def feed(
    store: Store, at: str, stale_after_s: int, wanted: Wanted, since: str | None = None, as_csv: bool = False
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
        view = viewer(store).now(at, stale_after_s)
        content, tag = _whole(view, wanted, as_csv)
        return Fed(at, _cursor(view, at), None, content, tag)
    place = _place(since, stale_after_s * 10**9)
    with store.reading() as connection:
        view = viewer(store).present(connection, at, stale_after_s)
        changed = _changed(connection, view, place, at, stale_after_s)
    pools = [
        pool.shown
        for centre_id in sorted(changed)
        for head in (view.parts[centre_id].heads if centre_id in view.parts else ())
        for pool in head.pools
        if wanted.fits(pool.shown)
    ]
    named = sorted(changed if wanted.centre is None else changed & {wanted.centre})
    return Fed(at, _cursor(view, at), tuple(named), _content(pools, as_csv), None)


def _place(since: str, stale_ns: int) -> Place:
    place = unwrap(since, Place)
    try:
        utc_text(utc_ns(place.at) - stale_ns)
    except (ValueError, OverflowError):
        raise _not_ours() from None
    return place


def _cursor(view: View, at: str) -> str:
    return wrap(Place(*view.mark, at, view.trace))


def _whole(view: View, wanted: Wanted, as_csv: bool) -> tuple[bytes, str]:
    """Return all pools that are asked for, and the tag of that; made once for each view."""
    key = (wanted, as_csv)
    found = view.answers.get(key)
    if found is None:
        content = _content([pool for pool in _pools(view, wanted.centre) if wanted.fits(pool)], as_csv)
        found = content, hashlib.sha256(content).hexdigest()[:32]
        if wanted.centre is None and len(view.answers) < _KEPT:  # of one centre it is soon made again
            view.answers[key] = found
    return found


def _pools(view: View, centre_id: str | None) -> Sequence[PoolCapacity]:
    """Return the pools of a centre; None: of all."""
    if centre_id is None:
        return view.pools
    part = view.parts.get(centre_id)
    return [] if part is None else [pool.shown for head in part.heads for pool in head.pools]


def _content(pools: list[PoolCapacity], as_csv: bool) -> bytes:
    return csv_of(pools) if as_csv else msgspec.json.encode(pools)


def _changed(connection: Connection, view: View, place: Place, at: str, stale_after_s: int) -> set[str]:
    """Return the centres where anything may have changed since."""
    change, alarm, then, trace = place
    if change > view.mark.change or alarm > view.mark.alarm or trace_of(connection, change) != trace:
        raise _not_ours()
    if (change, alarm) == view.mark and view.since <= then and (view.until is None or then < view.until):
        return set()
    first, last = sorted((then, at))  # a clock may have been set back
    silence_ns = stale_after_s * 10**9
    heard_after, heard_until = (utc_text(utc_ns(moment) - silence_ns) for moment in (first, last))
    of_heads = chains.join(statements, statements.c.payload_sha256 == chains.c.statement)
    of_ended = chains.join(endings, endings.c.statement == chains.c.statement)
    queries = (
        select(chains.c.centre_id).select_from(of_heads).where(_within(statements.c.valid_until, first, last)),
        select(chains.c.centre_id).select_from(of_ended).where(_within(endings.c.effective_at, first, last)),
        select(presence.c.centre_id).where(_within(presence.c.seen_at, heard_after, heard_until)).distinct(),
    )
    by_time = {centre_id for query in queries for centre_id in connection.scalars(query)}
    return by_time | written_of(connection, Mark(change, alarm), view.mark)


def _not_ours() -> InputError:
    fix = "take the whole feed again, without since"
    return InputError("cursor-invalid", "is not of this registry's history", where="since", fix=fix)


def _within(column: Column[Any], first: str, last: str) -> ColumnElement[bool]:
    return and_(column > first, column <= last)


def csv_of(pools: list[PoolCapacity]) -> bytes:
    """Return pools as CSV (RFC 4180): rates as integers, and beside them in PFLOPS."""
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
    return f"'{text}" if text.startswith(FORMULAS) and name not in _NUMBERS else text
