"""The store at which ranks meet, in this process: whose it is, and who takes which place."""

from __future__ import annotations

import time
from typing import Any

import pytest
from msgspec.structs import replace

from bench.collective.meeting import Meeting, hosted_store
from bench.collective.members import Member
from bench.collective.orders import JoinGroup, Rendezvous, Timing
from bench.collective.roll_call import RollCall
from bench.errors import RefusedError
from tests.bench.collective.ranks import MS
from tests.bench.collective.test_members import member

pytest.importorskip("torch")
STARTS_AT = "2026-03-01T08:00:00.000000Z"


@pytest.fixture(scope="module")
def hosted() -> Any:
    return hosted_store("127.0.0.1")


def rendezvous(hosted: Any, token: str) -> Rendezvous:
    return Rendezvous("c1", STARTS_AT, "pod1", "node-0", "cuda:0", "127.0.0.1", hosted.port, token)


@pytest.mark.parametrize(
    "other", [{"campaign_sha256": "c2"}, {"starts_at": "2026-03-01T09:00:00.000000Z"}, {"group": "pod2"}]
)
def test_the_store_of_another_campaign_start_or_group_is_refused(hosted: Any, other: dict[str, str]) -> None:
    there = rendezvous(hosted, f"binding-{next(iter(other))}")
    Meeting(there, hosted)
    Meeting(there)
    with pytest.raises(RefusedError) as caught:
        Meeting(replace(there, **other))
    assert caught.value.code == "rendezvous-differs"


def test_a_place_is_taken_once(hosted: Any) -> None:
    there = rendezvous(hosted, "places")
    first, second = Meeting(there, hosted), Meeting(there)
    first.claim(member(1, 0))
    second.claim(member(0, 0))
    with pytest.raises(RefusedError, match="rank-taken") as caught:
        second.claim(member(1, 0))
    assert caught.value.where == "node-1 cuda:0"
    first.close()
    assert second.ranks(time.monotonic_ns()) == (member(0, 0), member(1, 0))


def test_nobody_came(hosted: Any) -> None:
    there = rendezvous(hosted, "nobody")
    alone = Meeting(there, hosted)
    with pytest.raises(TimeoutError):
        alone.ranks(time.monotonic_ns())
    alone.close()
    assert alone.ranks(time.monotonic_ns()) == ()


def roll(meeting: Meeting, members: tuple[Member, ...]) -> RollCall:
    order = JoinGroup(rendezvous(meeting._base, "roll"), Timing(0, 200 * MS, 100 * MS), False)
    return RollCall(meeting, members, order, time.monotonic_ns())


def test_who_says_nothing_is_lost_and_who_says_why_is_quoted(hosted: Any) -> None:
    members = (member(0, 0), member(1, 0), member(2, 0))
    meeting = Meeting(rendezvous(hosted, "roll"), hosted)
    meeting.report("one", 1, "out of memory")
    assert roll(meeting, members).lost("one", (0, 1, 2), 0, "x") == "lost node-2 cuda:0, which did not answer in time"
    assert roll(meeting, members).lost("one", (0, 1), 0, "x") == "node-1 cuda:0: out of memory"
    assert roll(meeting, members).lost("two", (0,), 0, "reset") == "a reduction failed, and no rank is lost: reset"
