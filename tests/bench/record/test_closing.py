"""The arithmetic of an exchange between two clocks, and a campaign's closing document as a value."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bench.record import ExpectedNode, NodeClock, digest, encode
from bench.record.closing import Closing, Exchange, bound_ns, closing_of
from bench.record.shapes import settle
from bench.units import MAX_INTEGER, utc_ns
from tests.bench.campaigns import PROFILE, SECOND_NS, at, campaign_of, chose, node_id

T0 = at(100)
CAMPAIGN = campaign_of(3)
SHA256 = digest(CAMPAIGN)
Seconds = st.integers(0, 20 * SECOND_NS)
Bound = st.integers(0, SECOND_NS)


def exchange(forth_ns: int, back_ns: int, ahead_ns: int = 0, asked_ns: int = 0) -> Exchange:
    """Return the exchange with a clock that is ahead, through a folder that takes its time on both ways."""
    return Exchange(asked_ns, asked_ns + forth_ns + ahead_ns, asked_ns + forth_ns + back_ns)


@given(st.integers(0, 2 * SECOND_NS), Seconds, Bound, Bound, st.booleans())
def test_a_clock_within_its_bound_fits_however_late_its_answer_is_seen(
    forth_ns: int, back_ns: int, own_ns: int, node_ns: int, behind: bool
) -> None:
    off = -own_ns - node_ns if behind else own_ns + node_ns
    assert exchange(forth_ns, back_ns, off).off_ns(own_ns + node_ns) == 0


@given(Seconds, Seconds, Bound, st.sampled_from([-1, 1]))
def test_what_is_said_is_never_more_than_the_clock_is_off_where_the_question_came_in_time(
    forth_ns: int, back_ns: int, bound: int, way: int
) -> None:
    forth_ns = min(forth_ns, 2 * SECOND_NS)
    off = exchange(forth_ns, back_ns, way * 5 * SECOND_NS).off_ns(bound)
    assert 0 <= way * off <= 5 * SECOND_NS
    assert off != 0 or bound >= SECOND_NS


@pytest.mark.parametrize("trip_s", [0, 1, 2, 20])
def test_five_seconds_never_fit_and_a_folder_of_twenty_seconds_hides_two(trip_s: int) -> None:
    trip_ns = trip_s * SECOND_NS
    assert exchange(0, trip_ns, 5 * SECOND_NS).off_ns(2000) == 5 * SECOND_NS - min(trip_ns, 2 * SECOND_NS) - 2000
    assert exchange(0, trip_ns, -5 * SECOND_NS).off_ns(2000) == -5 * SECOND_NS + 2000
    assert exchange(0, trip_ns).off_ns(0) == 0


def test_how_much_of_the_trip_excuses_is_the_askers_to_say() -> None:
    slow = exchange(10 * SECOND_NS, 10 * SECOND_NS)  # the question itself came late
    assert slow.off_ns(0) == 8 * SECOND_NS
    assert slow.off_ns(0, 2**62) == 0
    assert exchange(10 * SECOND_NS, SECOND_NS, 5 * SECOND_NS).off_ns(0, 2**62) == 4 * SECOND_NS


def test_an_answer_that_is_seen_before_it_was_asked_never_fits() -> None:
    assert Exchange(0, 0, -SECOND_NS).off_ns(0) != 0


def test_a_bound_that_nobody_knows_adds_nothing() -> None:
    known, unknown = (NodeClock(source="kernel", uncertainty_ns=ns) for ns in (1000, None))
    assert bound_ns(known, unknown) == 1000
    assert bound_ns(known, known) == 2000


def a_closing(**changes: Any) -> Closing:
    exchanges = {node_id(i): exchange(SECOND_NS // 2, SECOND_NS, i, utc_ns(at(80))) for i in (2, 0)}
    clock = NodeClock(source="kernel", uncertainty_ns=None)
    found = closing_of(SHA256, T0, at(85), clock, exchanges, settle([chose(8192), chose(4096)], PROFILE))
    return replace(found, **changes)


def test_a_closing_document_says_what_the_coordinator_knew_relative_to_t0() -> None:
    closing = a_closing()
    assert closing.node_id == (node_id(0), node_id(2))
    assert closing.exchanges[node_id(2)] == Exchange(
        -20 * SECOND_NS, -195 * SECOND_NS // 10 + 2, -185 * SECOND_NS // 10
    )
    assert [(one.m, one.devices, one.chosen_by) for one in closing.shapes] == [(4096, 4, 2)]
    assert closing.problem(CAMPAIGN, SHA256, T0) is None
    assert msgspec.json.decode(encode(closing), type=Closing) == closing


def test_a_clock_that_is_centuries_off_gives_a_document_all_the_same() -> None:
    closing = closing_of(SHA256, T0, T0, NodeClock(source="self", uncertainty_ns=0), {"a": Exchange(0, 2**62, 0)}, ())
    assert closing.answered_ns == (MAX_INTEGER,)
    assert msgspec.json.decode(encode(closing), type=Closing) == closing


def test_it_is_small_for_a_city() -> None:
    """12,600 nodes take some 70 bytes each in the statement."""
    exchanges = {f"node-{i:012x}": exchange(SECOND_NS // 2, SECOND_NS, i, utc_ns(at(80))) for i in range(12_600)}
    closing = closing_of(SHA256, T0, T0, NodeClock(source="kernel", uncertainty_ns=1), exchanges, ())
    assert len(encode(closing)) < 70 * 12_600


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"campaign_sha256": "0" * 64}, "is of another campaign"),
        ({"starts_at": at(101)}, "is of a start at"),
        ({"published_at": at(101)}, "says that the start was published at"),
        ({"node_id": (node_id(0), node_id(0))}, "names a node twice"),
        ({"node_id": (node_id(2), node_id(0))}, "names a node twice, or not in ascending order"),
        ({"node_id": (node_id(0), "node-99999")}, "names the node node-99999"),
        ({"shapes": a_closing().shapes * 2}, "settles two shapes"),
    ],
)
def test_what_is_not_this_campaigns_is_said(changes: dict[str, Any], says: str) -> None:
    assert (a_closing(**changes).problem(CAMPAIGN, SHA256, T0) or "").startswith(says)


def test_what_a_node_issued_for_itself_has_none() -> None:
    own = replace(CAMPAIGN, self_issued=True, nodes=(ExpectedNode(node_id=node_id(0), pool="main"),))
    assert a_closing().problem(own, SHA256, T0) is not None


@pytest.mark.parametrize("column", ["node_id", "asked_ns", "answered_ns", "seen_ns"])
def test_columns_are_of_one_length(column: str) -> None:
    plain = msgspec.to_builtins(a_closing())
    plain[column] = plain[column][:-1]
    with pytest.raises(msgspec.ValidationError, match="one length"):
        msgspec.convert(plain, Closing)
