"""Where a follower of a feed stands, and what time alone changed since then.

Whatever is told twice does no harm, and nothing may be left out: centres and nodes are named as changed for anything
that was written of them, and for every moment that passed at which time alone may have changed them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Column, ColumnElement, Connection, and_, or_, select

from bench.errors import InputError
from bench.record import Count, UtcTime
from bench.units import utc_ns, utc_text
from certify.registry.state.listing import unwrap, wrap
from certify.registry.state.model import Revision, Snapshot
from certify.registry.state.read import change_digest
from certify.registry.storage.tables import chains, presence, revocations, statements
from certify.trust.trusted_set import skewed


class FeedPosition(NamedTuple):
    """The position that a cursor of a feed encodes."""

    change: Count
    alarm: Count
    at: UtcTime
    change_digest: str  # what the change was

    @property
    def revision(self) -> Revision:
        """Up to where the follower knows what was written."""
        return Revision(self.change, self.alarm)

    def is_current(self, snapshot: Snapshot) -> bool:
        """Return whether neither writing nor time changed anything since."""
        return (
            self.revision == snapshot.revision
            and snapshot.since <= self.at
            and (snapshot.until is None or self.at < snapshot.until)
        )


def position_of(since: str, stale_after_s: int) -> FeedPosition:
    """Return the position of a cursor.

    Raises:
        InputError: `cursor-invalid`, no feed gave it.
    """
    position = unwrap(since, FeedPosition)
    try:
        utc_text(utc_ns(position.at) - stale_after_s * 10**9)
    except (ValueError, OverflowError):
        raise _not_ours() from None
    return position


def cursor_of(snapshot: Snapshot, at: str) -> str:
    """Return the cursor of an answer that shows a snapshot at a time."""
    return wrap(FeedPosition(*snapshot.revision, at, snapshot.change_digest))


def check_history(connection: Connection, snapshot: Snapshot, position: FeedPosition) -> None:
    """Refuse a position of another history: the registry was restored from a backup since.

    Raises:
        InputError: `cursor-invalid`.
    """
    ahead = position.change > snapshot.revision.change or position.alarm > snapshot.revision.alarm
    if ahead or change_digest(connection, position.change) != position.change_digest:
        raise _not_ours()


def _not_ours() -> InputError:
    fix = "take the whole feed again, without since"
    return InputError("cursor-invalid", "is not of this registry's history", where="since", fix=fix)


class PassedTime(NamedTuple):
    """The time between a follower's position and now."""

    first: str
    last: str
    stale_after_s: int  # how long a node may be silent

    @classmethod
    def until(cls, at: str, position: FeedPosition, stale_after_s: int) -> PassedTime:
        """Return the time from a position until now; a clock may have been set back meanwhile."""
        return cls(min(position.at, at), max(position.at, at), stale_after_s)

    def ended_centres(self, connection: Connection) -> set[str]:
        """Return the centres of which a statement expired or a revocation took effect."""
        of_latest = chains.join(statements, statements.c.payload_sha256 == chains.c.statement)
        of_ended = chains.join(revocations, revocations.c.statement == chains.c.statement)
        queries = (
            select(chains.c.centre_id).select_from(of_latest).where(self._within(statements.c.valid_until)),
            select(chains.c.centre_id).select_from(of_ended).where(self._within(revocations.c.effective_at)),
        )
        return {centre_id for query in queries for centre_id in connection.scalars(query)}

    def changed_presence(self) -> ColumnElement[bool]:
        """Return the condition that time alone may have made a node of `presence` fall silent, or come on-line."""
        # a node falls silent `stale_after_s` after its last heartbeat: the same window, moved back
        silence_ns = self.stale_after_s * 10**9
        heard_after, heard_until = (utc_text(utc_ns(moment) - silence_ns) for moment in (self.first, self.last))
        silent = and_(presence.c.seen_at > heard_after, presence.c.seen_at <= heard_until)
        # heard in the future, under a clock that was set right since
        ahead = and_(presence.c.seen_at > skewed(self.first), presence.c.seen_at <= skewed(self.last))
        return or_(silent, ahead)

    def _within(self, column: Column[Any]) -> ColumnElement[bool]:
        return and_(column > self.first, column <= self.last)
