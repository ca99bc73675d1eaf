"""The feed that a scheduler consumes: all pools now, or those of the centres where something changed since."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, select

from bench.record import PoolClass, Precision
from certify.policy.verdicts import lies_within
from certify.registry.api.common import State, TrustStatus
from certify.registry.api.nodes import NodeLine
from certify.registry.api.views import PoolCapacity
from certify.registry.state.cache import reader_of
from certify.registry.state.feeds.filters import has_model
from certify.registry.state.feeds.positions import FeedPosition, PassedTime, check_history, cursor_of, position_of
from certify.registry.state.feeds.sheets import csv_of
from certify.registry.state.model import Snapshot
from certify.registry.state.read import changed_centres
from certify.registry.storage.store import Store
from certify.registry.storage.tables import presence

_MAX_CONTENTS = 64  # of one snapshot: an asker chooses the filter, and each answer may have megabytes


class PoolFilter(NamedTuple):
    """Which pools are asked for. None: all."""

    centre: str | None = None
    district: str | None = None
    pool_class: PoolClass | None = None
    precision: Precision | None = None
    state: State | None = None
    jurisdiction: str | None = None  # that of the centre lies within
    vendor: str | None = None  # of a model in the pool, as `filters.is_named` compares
    model: str | None = None

    def fits(self, pool: PoolCapacity | NodeLine) -> bool:
        """Return whether a pool, or a node in one, is among them."""
        values = (pool.centre_id, pool.district, pool.pool_class, pool.precision, pool.state)
        return (
            all(asked is None or asked == has for asked, has in zip(self[:5], values, strict=True))
            and lies_within(self.jurisdiction, pool.jurisdiction)
            and has_model(pool.models, self.vendor, self.model)
        )


EVERYTHING = PoolFilter()


class Fed(NamedTuple):
    """An answer of the feed; `content` is JSON of its items, or the whole CSV."""

    at: str
    next: str
    changed: tuple[str, ...] | None
    content: bytes
    tag: str | None  # of the content, where it is the whole state
    rehearsal: bool = False

    def json(self, trust: TrustStatus | None = None) -> bytes:
        """Return the whole answer (`CapacityFeed`)."""
        items = msgspec.Raw(self.content)
        head = {"at": self.at, "next": self.next, "changed": self.changed, "rehearsal": self.rehearsal}
        return msgspec.json.encode({**head, "items": items, "trust": trust})


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
        # answers of one second are the same bytes, which are packed once; what comes since is told, maybe once more
        at = max(snapshot.since, f"{at[:19]}.000000Z")
        return Fed(at, cursor_of(snapshot, at), None, content, tag)
    # before the snapshot: a cursor that is nonsense costs no query
    position = position_of(since, stale_after_s)
    with store.reading() as connection:
        snapshot = reader_of(store).present(connection, at, stale_after_s)
        changed = _changed(connection, snapshot, position, at, stale_after_s)
    pools = [
        pool.shown for centre_id in sorted(changed) for pool in snapshot.pools_of(centre_id) if wanted.fits(pool.shown)
    ]
    named = sorted(changed if wanted.centre is None else changed & {wanted.centre})
    return Fed(at, cursor_of(snapshot, at), tuple(named), _content(pools, as_csv), None)


def _whole(snapshot: Snapshot, wanted: PoolFilter, as_csv: bool) -> tuple[bytes, str]:
    """Return all pools that are asked for, and the tag of that."""

    def make() -> tuple[bytes, str]:
        if wanted.centre is None:
            pools: Iterable[PoolCapacity] = snapshot.pools
        else:
            pools = (pool.shown for pool in snapshot.pools_of(wanted.centre))
        # of all of them none is looked at: that costs more than to write them
        asked = list(pools) if wanted == EVERYTHING else [pool for pool in pools if wanted.fits(pool)]
        content = _content(asked, as_csv)
        return content, hashlib.sha256(content).hexdigest()[:32]

    # of one centre it is soon made again, and there are thousands of them
    return snapshot.derive((wanted, as_csv), make, limit=_MAX_CONTENTS if wanted.centre is None else 0)


def _content(pools: list[PoolCapacity], as_csv: bool) -> bytes:
    return csv_of(PoolCapacity, pools) if as_csv else msgspec.json.encode(pools)


def _changed(
    connection: Connection, snapshot: Snapshot, position: FeedPosition, at: str, stale_after_s: int
) -> set[str]:
    """Return the centres where anything may have changed since a position."""
    check_history(connection, snapshot, position)
    if position.is_current(snapshot):
        return set()
    passed = PassedTime.until(at, position, stale_after_s)
    heard = set(connection.scalars(select(presence.c.centre_id).where(passed.changed_presence()).distinct()))
    written = changed_centres(connection, position.revision, snapshot.revision)
    return heard | written | passed.ended_centres(connection)
