"""Who is lost when a reduction fails: each rank that is left says so in the store, and who says nothing is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from bench.collective.meeting import Meeting
from bench.collective.members import Member
from bench.collective.orders import JoinGroup
from bench.errors import one_line
from bench.units import SECOND_NS, shortened_list

MOST_TEXT = 250
FAILED = "a reduction failed"
T = TypeVar("T")


class RollCall(NamedTuple):
    """The roll of a group's ranks after a failure."""

    meeting: Meeting
    members: tuple[Member, ...]
    order: JoinGroup
    begun_ns: int  # when the reduction began that failed, monotonic: the others wait for theirs from about then on

    def lost(self, run: str, ranks: tuple[int, ...], rank: int, text: str) -> str:
        """Return who does not answer, or else what those say that do, as a text for the record.

        Args:
            run: its name in the store.
            ranks: that take part in it.
            rank: of this process.
            text: what failed here.
        """
        timing, there = self.order.timing, self.order.rendezvous
        until_ns = self.begun_ns + timing.reduction_ns + 2 * timing.grace_ns

        def call() -> dict[int, str]:
            self.meeting.report(run, rank, FAILED)
            return self.meeting.roll_call(run, set(ranks), until_ns)

        try:
            said = bounded(call, max(0, until_ns - time.monotonic_ns()) + timing.grace_ns)
        except Exception:
            host = f"{there.node_id} {there.device}"
            return clipped(f"lost {host}: it hosts the store at which ranks meet, which does not answer")
        if lost := [self.members[one].name for one in ranks if one not in said]:
            return clipped(f"lost {shortened_list(lost)}, which did not answer in time")
        troubled = [f"{self.members[one].name}: {why}" for one, why in said.items() if why != FAILED]
        return clipped("; ".join(troubled) or f"a reduction failed, and no rank is lost: {text}")


def clipped(text: str) -> str:
    """Return a text as long as a record takes it."""
    return one_line(text, MOST_TEXT)


def bounded(call: Callable[[], T], limit_ns: int) -> T:
    """Return what a call returns, which may hang in a library: it is then left in its thread.

    Raises:
        TimeoutError: it did not return in time.
        Exception: what it raised.
    """
    answers: list[T] = []
    errors: list[Exception] = []

    def ask() -> None:
        try:
            answers.append(call())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=ask, name="bounded", daemon=True)
    thread.start()
    thread.join(limit_ns / SECOND_NS)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError("no answer in time")
    return answers[0]


def bounded_quietly(call: Callable[[], object], limit_ns: int) -> None:
    """Make a call within a limit, as `bounded` does, whose failure does not matter."""
    try:
        bounded(lambda: (call(),), limit_ns)
    except Exception:
        return
