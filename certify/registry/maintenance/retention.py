"""Bodies of refused submissions are dropped after a time, and the oldest of them where they take too much room.

Whoever holds a token can submit what is refused, again and again. The decision stays for ever, with the digest of what
was submitted; the table `dropped` says that its body is no longer stored, when that was, and why. What anything
accepted rests on is never dropped, also where it was refused before.

A row says that a body is dropped before its file goes, and both happen under the lock of the one writer, where
`decide` looks whether the file is there: a submission of the same bytes at that moment is asked to come again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import Connection, and_, func, select, true, union

from bench.units import DAY_NS, utc_ns, utc_text
from certify.registry.base.registry import Registry
from certify.registry.storage.naming import accepted_objects, is_refused_body
from certify.registry.storage.store import BATCH, Progress, Store, audit
from certify.registry.storage.tables import decisions
from certify.registry.storage.upkeep import dropped

FILE_BYTES = 4096  # what a small file takes on a disk: a million empty bodies are not nothing


class RefusedBody(NamedTuple):
    """The stored body of a submission that was refused, each time that it came."""

    object_sha256: str
    decision_id: int  # the last one
    size_bytes: int
    cause: str  # why it is dropped: age | room


class Dropped(NamedTuple):
    """How many bodies were dropped, and what they took."""

    bodies: int
    size_bytes: int


def drop_refused(
    registry: Registry, progress: Progress = lambda what, done: None, *, unfinished: bool = True
) -> Dropped:
    """Drop the bodies of refused submissions that are older, or take more, than the settings say.

    Args:
        registry: the open registry.
        progress: called after each batch.
        unfinished: whether to look for what a process that died has said to be dropped and did not remove.
    """
    now, settings, store = registry.now, registry.settings, registry.store
    before = utc_text(utc_ns(now) - settings.refused_days * DAY_NS)
    with store.reading() as connection:
        left = list(_unlinked(store, connection)) if unfinished else []
        bodies = list(_droppable(store, connection, before, settings.refused_bytes))
    for first in range(0, len(bodies), BATCH):
        part = bodies[first : first + BATCH]
        with store.writing() as connection:
            # what was submitted again meanwhile is looked at by the next run
            still = _last_decisions(connection, [body.object_sha256 for body in part])
            part = [body for body in part if still.get(body.object_sha256) == body.decision_id]
            if part:
                connection.execute(dropped.insert(), [{"at": now, **body._asdict()} for body in part])
        left += [body.object_sha256 for body in part]
        progress("bodies dropped", first + len(part))
    _unlink(store, left)
    done = Dropped(len(bodies), sum(body.size_bytes for body in bodies))
    if bodies:
        with store.writing() as connection:
            audit(connection, now, None, "drop-refused", f"{done.bodies} bodies, {done.size_bytes} bytes", "done", "")
    return done


def _last_decisions(connection: Connection, only: list[str] | None = None) -> dict[str, int]:
    """Return the last decision on each refused body that nothing accepted rests on, the oldest first.

    Args:
        only: digests of the bodies that are asked for; None: all.
    """
    kept = union(*accepted_objects()).subquery()
    asked = true() if only is None else decisions.c.object_sha256.in_(only)
    last = func.max(decisions.c.id)
    query = (
        select(decisions.c.object_sha256, last)
        .where(asked, is_refused_body(), decisions.c.object_sha256.not_in(select(kept.c.sha256)))
        .group_by(decisions.c.object_sha256)
        .order_by(last)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def _droppable(store: Store, connection: Connection, before: str, room_bytes: int) -> Iterator[RefusedBody]:
    """Yield the bodies that are to be dropped: those of before a time, and the oldest until the rest has room."""
    sizes = []
    for sha256, number in _last_decisions(connection).items():
        path = store.objects.path(sha256)
        # what somebody deleted by hand was not dropped by the registry, and `check` is to miss it
        if path.is_file():
            sizes.append((sha256, number, path.stat().st_size))
    taken = sum(max(size, FILE_BYTES) for _, _, size in sizes)
    oldest_kept = connection.scalar(select(func.min(decisions.c.id)).where(decisions.c.at >= before))
    for sha256, number, size in sizes:
        aged = oldest_kept is None or number < oldest_kept
        if not aged and taken <= room_bytes:
            return
        taken -= max(size, FILE_BYTES)
        yield RefusedBody(sha256, number, size, "age" if aged else "room")


def _unlinked(store: Store, connection: Connection) -> Iterator[str]:
    """Yield bodies that are said to be dropped and that still lie there."""
    for (sha256,) in connection.execute(select(dropped.c.object_sha256).distinct()):
        if store.objects.path(sha256).exists():
            yield sha256


def _unlink(store: Store, wanted: list[str]) -> None:
    """Remove the files of dropped bodies, unless a submission or something accepted names them again by now."""
    for first in range(0, len(wanted), BATCH):
        part = wanted[first : first + BATCH]
        with store.writing() as connection:
            again = select(decisions.c.object_sha256).where(
                and_(decisions.c.object_sha256.in_(part), is_refused_body())
            )
            named = {row.object_sha256 for row in connection.execute(again)}
            for query in accepted_objects():
                named.update(row.sha256 for row in connection.execute(query.where(query.selected_columns[0].in_(part))))
            for sha256 in part:
                if sha256 not in named:
                    store.objects.path(sha256).unlink(missing_ok=True)
