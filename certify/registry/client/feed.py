"""Following the change feed: what a platform must apply, one step after the other, whatever happens in between."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, TypeVar

from bench.errors import PetasealError
from certify.registry.api.views import CapacityFeed, PoolCapacity

T = TypeVar("T")
Answer = TypeVar("Answer", covariant=True)
LONGEST_WAIT_S = 60.0
OUTLIVED = frozenset(["registry-unreachable", "unavailable", "rate-limited", "internal"])

Pool = tuple[str, str | None, str]  # centre, project, pool


class FeedTransport(Protocol[Answer]):
    """Fetches a feed of a registry, over HTTP or by a test's fake."""

    def __call__(self, *, since: str | None) -> Answer:
        """Return it, or what changed since."""
        ...


class Changes(NamedTuple):
    """A step of the feed. Who has applied it goes on with `since` = `cursor`, now or after a restart of its own."""

    at: str
    cursor: str
    centres: tuple[str, ...] | None  # whose lines `items` replaces, all of them; None: those of all centres
    items: tuple[PoolCapacity, ...]
    gone: tuple[Pool, ...]  # that this follower knew, and that is not there any more


class Feed:
    """The feed as one follower knows it."""

    def __init__(self, ask: FeedTransport[CapacityFeed], since: str | None = None) -> None:
        self._ask = ask
        self.cursor = since
        self.pools: dict[Pool, PoolCapacity] = {}  # since it began

    def poll(self) -> Changes | None:
        """Return what changed; None where nothing did.

        Raises:
            RefusedError, InputError: the registry says no, or cannot be reached.
        """
        capacity = asked_since(self._ask, self.cursor)
        self.cursor = capacity.next
        centres = capacity.changed
        replaced = {pool: item for pool, item in self.pools.items() if centres is None or pool[0] in centres}
        items = {_pool(item): item for item in capacity.items}
        # whole centres are replaced, because a pool that is gone is named by nothing
        for pool in replaced:
            del self.pools[pool]
        self.pools |= items
        # the registry names centres rather too often: what did not change is not passed on
        if centres is not None and (not centres or (replaced and replaced == items)):
            return None
        gone = tuple(pool for pool in replaced if pool not in items)
        return Changes(capacity.at, capacity.next, centres, capacity.items, gone)

    def follow(
        self, every_s: float, report: Callable[[PetasealError], None], sleep: Callable[[float], None]
    ) -> Iterator[Changes]:
        """Yield changes for ever; an error that passes by itself is reported, and asked again after a growing wait."""
        return following(self.poll, every_s, report, sleep)


def _pool(item: PoolCapacity) -> Pool:
    return item.centre_id, item.project_id, item.pool


def asked_since(ask: FeedTransport[T], cursor: str | None) -> T:
    """Return what a feed answers to a cursor, or all of it where the cursor is good no more."""
    try:
        return ask(since=cursor)
    except PetasealError as error:
        if error.code != "cursor-invalid" or cursor is None:
            raise
        return ask(since=None)  # the cursor was another registry's, or of before a restore


def following(
    poll: Callable[[], T | None],
    every_s: float,
    report: Callable[[PetasealError], None],
    sleep: Callable[[float], None],
) -> Iterator[T]:
    """Yield what changes for ever; an error that passes by itself is reported, and asked again after a growing wait.

    Args:
        poll: asks once; None where nothing changed.
        every_s: how often it asks.
        report: called with each failure that is outlived.
        sleep: waits for so many seconds.
    """
    failures = 0
    while True:
        try:
            changes = poll()
        except PetasealError as error:
            if error.code not in OUTLIVED:
                raise
            report(error)
            failures += 1
            wait_s = min(LONGEST_WAIT_S, 2.0 ** min(failures, 10) / 2)
            sleep(wait_s * random.uniform(0.75, 1.25))  # noqa: S311 (spreads followers)
            continue
        failures = 0
        if changes is not None:
            yield changes
        sleep(every_s)
