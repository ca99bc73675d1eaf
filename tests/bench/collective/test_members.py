"""Who reduces with whom and how much; the numbers that are reduced; by which address a node is reached."""

from __future__ import annotations

import pytest

from bench.collective.address import Interface, interface_here, interfaces
from bench.collective.members import (
    LEAST_BYTES,
    Member,
    agreed_launches,
    backend_for,
    common_backend,
    in_order,
    reduced_bytes,
    together,
)
from bench.errors import InputError

torch = pytest.importorskip("torch")


def member(
    node: int, place: int, kind: str = "cuda", backend: str = "nccl", flop: int = 10**11, launches: int = 10
) -> Member:
    return Member(node, place, f"node-{node}", f"{kind}:{place}", backend, flop, launches)


FOUR = in_order(member(node, place) for place in (1, 0) for node in (1, 0))


def test_ranks_follow_the_campaign_and_the_record() -> None:
    assert [(one.node, one.place) for one in FOUR] == [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.mark.parametrize(
    ("run", "rails", "expected"),
    [
        ("compute", False, (2,)),
        ("node", False, (2, 3)),
        ("node", True, (2, 3)),
        ("fabric", False, (0, 1, 2, 3)),
        ("fabric", True, (0, 2)),
    ],
)
def test_who_reduces_together(run: str, rails: bool, expected: tuple[int, ...]) -> None:
    assert together(FOUR, 2, run, rails) == expected  # type: ignore[arg-type]


def test_two_bytes_for_each_6_t_flop_of_the_largest_block() -> None:
    assert reduced_bytes(FOUR, 4096) == 81_380_212  # 10^12 / (3 x 4,096), up to a whole item
    assert reduced_bytes((*FOUR, member(2, 0, flop=2 * 10**11)), 4096) == 162_760_420
    assert reduced_bytes((member(0, 0, flop=10**5),), 16384) == LEAST_BYTES


def test_equal_devices_compute_equal_blocks() -> None:
    """Their launches differ by what a busy host took of them; those of another product keep their own."""
    members = (*FOUR, member(2, 0, launches=12), member(3, 0, flop=10**12, launches=3))
    assert [agreed_launches(members, rank) for rank in range(6)] == [12] * 5 + [3]
    assert reduced_bytes(members, 4096) == reduced_bytes((member(0, 0, flop=3 * 10**11),), 4096)


@pytest.mark.parametrize(
    ("target", "backend"),
    [("cuda:3", "nccl"), ("npu:0", "hccl"), ("mlu:0", "cncl"), ("musa:1", "mccl"), ("cpu", "gloo"), ("fake", "gloo")],
)
def test_what_reduces_on_a_kind_of_device(target: str, backend: str) -> None:
    assert backend_for(target) == backend


def test_devices_of_several_kinds_reduce_in_the_hosts_memory() -> None:
    assert common_backend(FOUR) == "nccl"
    assert common_backend((*FOUR, member(2, 0, "npu", "hccl"))) == "gloo"


# --- the numbers ---


def reduced(sizes: tuple[int, ...], number: int = 3, **wrong: int) -> list[object]:
    """Return the buffers of ranks after an exact sum; `wrong` names a rank that contributes what is stale."""
    from bench.collective.sums import Buffer

    buffers = [Buffer(size, place, len(sizes), "seed", "cpu") for place, size in enumerate(sizes)]
    for place, buffer in enumerate(buffers):
        buffer.fill(number, goes_on=place != wrong.get("ends"), alarmed=False, is_wrong=place == wrong.get("stale"))
    total = sum(buffer.tensor for buffer in buffers)
    for buffer in buffers:
        buffer.tensor.copy_(total)
    return list(buffers)


@pytest.mark.parametrize("size", [1024, 4096, 40_004, 4 * (1024 * 3 + 5)])
def test_an_exact_sum(size: int) -> None:
    for buffer in reduced((size,) * 3):
        assert buffer.check(3) == (True, False, True, ())  # type: ignore[attr-defined]
        assert buffer.check(2).is_exact is False  # type: ignore[attr-defined]


def test_a_rank_that_ends_ends_all() -> None:
    buffer = reduced((4096,) * 3, ends=1)[0]
    assert buffer.check(3) == (False, False, True, ())  # type: ignore[attr-defined]
    assert not buffer.all_go_on()  # type: ignore[attr-defined]


def test_a_stale_contribution_is_seen_and_named() -> None:
    result = reduced((4096,) * 3, stale=1)[0].check(3)  # type: ignore[attr-defined]
    assert (result.is_exact, result.wrong) == (False, (1,))


@pytest.mark.parametrize("place", [-1, 700])
@pytest.mark.parametrize("value", [1.0, float("nan")])
def test_one_wrong_number_is_seen(place: int, value: float) -> None:
    buffer = reduced((5000,) * 2)[0]
    buffer.tensor[place] += value  # type: ignore[attr-defined]
    assert not buffer.check(3).is_exact  # type: ignore[attr-defined]


def test_a_rank_that_is_missing_or_counted_twice_is_seen() -> None:
    """The others' signals and places in order, the pattern of one in place of another's."""
    from bench.collective.sums import Buffer

    buffers = [Buffer(4096, place, 3, "seed", "cpu") for place in range(3)]
    for buffer in buffers:
        buffer.fill(0, goes_on=True, alarmed=False)
    total = sum(buffer.tensor for buffer in buffers)
    total[5:] += buffers[0].tensor[5:] - buffers[1].tensor[5:]
    buffers[0].tensor.copy_(total)
    result = buffers[0].check(0)
    assert (result.is_exact, result.wrong) == (False, ())


def test_sums_of_very_many_ranks_stay_exact() -> None:
    from bench.collective.sums import PATTERN_MASK, RANK_SHARES
    from bench.record.network.vector import MOST_RANKS

    assert MOST_RANKS // 2 * (PATTERN_MASK + RANK_SHARES) < 2**24


# --- the address ---


def test_the_interface_that_is_named_or_the_one_that_leads_to_others() -> None:
    assert interfaces()["lo"] == "127.0.0.1"
    assert interface_here({"PETASEAL_NETWORK_INTERFACE": "lo"}) == Interface("lo", "127.0.0.1")
    assert interface_here({"GLOO_SOCKET_IFNAME": "lo,eth7"}) == Interface("lo", "127.0.0.1")
    assert interface_here({}).address in interfaces().values()


def test_an_interface_that_is_not_there() -> None:
    with pytest.raises(InputError) as caught:
        interface_here({"PETASEAL_NETWORK_INTERFACE": "ib9"})
    assert caught.value.code == "network-interface-unknown"
