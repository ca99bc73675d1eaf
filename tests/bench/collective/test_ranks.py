"""Real ranks over the loopback: what they measure together, and what becomes of the others when one misbehaves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import msgspec
import pytest

from bench.record.network import RankFigure
from bench.record.network.vector import contribution, reduced_sha256
from tests.bench.collective.ranks import GRACE_NS, LAUNCH_NS, WINDOW_NS, Fault, Player, Scene, Times, Told, device_of

pytest.importorskip("torch")
Play = Callable[[str], list[Told | None]]
A, B, C = 0, 1, 2
REDUCTION_NS = 1_500_000_000
LOST_WITHIN_NS = REDUCTION_NS + 3 * GRACE_NS  # from the opening of the window: the rank was lost before it


def misbehaving(name: Fault, reduction_ns: int = Scene("", ()).reduction_ns) -> Scene:
    """Return three ranks on two nodes, of which the last, on a node of its own, misbehaves."""
    return Scene(name, (Player(0, 0), Player(0, 1), Player(1, 0, name)), reduction_ns=reduction_ns)


STRANGERS: tuple[Fault, ...] = ("again", "elsewhere", "led-astray", "late")
SCENES = (
    Scene("whole", (Player(0, 0), Player(0, 1), Player(1, 0))),
    Scene("strangers", (Player(0, 0), Player(1, 0), *(Player(1 + i, 0, f) for i, f in enumerate(STRANGERS)))),
    misbehaving("wrong"),
)
MORE_SCENES = (
    Scene("rails", tuple(Player(node, place) for node in (0, 1) for place in (0, 1)), rails=True),
    misbehaving("error"),
    misbehaving("die", REDUCTION_NS),
    misbehaving("hang", REDUCTION_NS),
    Scene("host-dies", (Player(0, 0, "die"), Player(1, 0)), reduction_ns=REDUCTION_NS),
    Scene("host-stops", (Player(0, 0, "stop"), Player(1, 0)), reduction_ns=REDUCTION_NS),
)


def played(scenes: tuple[Scene, ...]) -> Play:
    """Play scenes and return what their players were told, by the scene's name."""
    command = [sys.executable, "-m", "tests.bench.collective.ranks"]
    ran = subprocess.run(command, input=msgspec.json.encode(scenes), capture_output=True, timeout=200, check=True)
    answers = msgspec.json.decode(ran.stdout, type=dict[str, list[Told | None]])
    return answers.__getitem__


@pytest.fixture(scope="module")
def play() -> Play:
    return played(SCENES)


@pytest.fixture(scope="module")
def play_more() -> Play:
    return played(MORE_SCENES)


def figures(told: list[Told | None], run: int) -> list[RankFigure]:
    """Return a run of those who came to their end."""
    return [one.figures[run] for one in told if one is not None]


def told_by(scene: str, play: Play) -> list[Told]:
    """Return what all players of a scene were told, who all came to its end."""
    told = play(scene)
    assert None not in told
    return [one for one in told if one is not None]


def vector(told: list[Told], places: tuple[int, ...], run: int) -> str:
    """Return the digest that players give together, recomputed from what their records would hold."""
    window = Times(0).windows[run]
    given = []
    for place in places:
        nonce = told[place].figures[run].nonce
        assert nonce is not None
        where = (f"node-{told[place].player.node}", device_of(told[place].player))
        given.append(contribution("c1", told[place].starts_at, window.opens_ns, where, nonce))
    return reduced_sha256(map(sum, zip(*given, strict=True)))


def test_all_ranks_compute_and_reduce_together(play: Play) -> None:
    told = told_by("whole", play)
    for run, (ranks, sizes) in enumerate((((0, 1, 2), (3, 3, 3)), ((0, 1, 0), (2, 2, 1)), ((0, 1, 2), (3, 3, 3)))):
        rows = figures([*told], run)
        assert [(row.rank, row.ranks, row.trouble) for row in rows] == list(zip(ranks, sizes, [None] * 3, strict=True))
        for row in rows:
            assert row.opened_ns is not None
            assert 0 <= row.opened_ns <= WINDOW_NS - row.elapsed_ns
            assert row.elapsed_ns >= row.launches * LAUNCH_NS > 0
            assert row.wrong_reductions == 0
            assert row.reductions == (0 if run == A else row.launches // 4)


def test_the_reduced_vector_is_what_the_list_of_devices_gives(play: Play) -> None:
    told = told_by("whole", play)
    assert {row.reduced_sha256 for row in figures([*told], A)} == {None}
    node = vector(told, (0, 1), B)
    assert [row.reduced_sha256 for row in figures([*told], B)] == [node, node, vector(told, (2,), B)]
    assert {row.reduced_sha256 for row in figures([*told], C)} == {vector(told, (0, 1, 2), C)}
    nonces = [row.nonce for run in (B, C) for row in figures([*told], run)]
    assert len(set(nonces)) == len(nonces)


@pytest.mark.long
def test_rails_join_devices_of_one_index(play_more: Play) -> None:
    told = told_by("rails", play_more)
    rows = figures([*told], C)
    assert [(row.rank, row.ranks) for row in rows] == [(0, 2), (0, 2), (1, 2), (1, 2)]
    assert [row.reduced_sha256 for row in rows] == [vector(told, rail, C) for rail in ((0, 2), (1, 3)) * 2]


def test_the_sweep_reduces_each_size_and_checks_its_sums(play: Play) -> None:
    for one in told_by("whole", play):
        assert one.sweep is not None
        assert [(point.size_bytes, point.ranks) for point in one.sweep.figures] == [(4096, 3), (65536, 3)]
        assert all(point.reductions > 0 < point.elapsed_ns for point in one.sweep.figures)
        assert not any(point.wrong_reductions for point in one.sweep.figures)


def test_who_does_not_belong_is_refused_by_name_and_the_others_measure_all_the_same(play: Play) -> None:
    told = told_by("strangers", play)
    assert [(row.rank, row.ranks, row.trouble) for row in figures([*told[:2]], C)] == [(0, 2, None), (1, 2, None)]
    assert {row.reduced_sha256 for row in figures([*told[:2]], C)} == {vector(told, (0, 1), C)}
    expected = {
        "again": "node-1 fake:0: its place among the ranks is taken by another process [rank-taken]",
        "elsewhere": "[rendezvous-differs]",
        "led-astray": "[rendezvous-differs]",
        "late": "came after the list of ranks was closed",
    }
    for fault, one in zip(STRANGERS, told[2:], strict=True):
        assert one.joined.rank is None, fault
        assert expected[fault] in (one.joined.trouble or ""), fault
        assert one.figures[A].trouble is None  # products alone can be computed all the same
        assert [row.trouble for row in one.figures[B:]] == [one.joined.trouble] * 2
        assert {row.reduced_sha256 for row in one.figures} == {None}


@pytest.mark.long
@pytest.mark.parametrize(
    ("scene", "trouble"),
    [
        ("die", "lost node-1 fake:0, which did not answer in time"),
        ("hang", "lost node-1 fake:0, which did not answer in time"),
        ("host-dies", "lost node-0 fake:0: it hosts the store at which ranks meet, which does not answer"),
        ("host-stops", "lost node-0 fake:0: it hosts the store at which ranks meet, which does not answer"),
    ],
)
def test_a_rank_that_is_lost_ends_the_run_within_a_bounded_time_and_is_named(
    scene: str, trouble: str, play_more: Play
) -> None:
    left = [one for one in play_more(scene) if one is not None]
    assert len(left) == (1 if "host" in scene else 2)
    for one in left:
        assert [row.trouble for row in one.figures] == [None, None, trouble]
        assert (one.figures[C].reduced_sha256, one.figures[C].wrong_reductions) == (None, 0)
        assert one.took_ns[C] < LOST_WITHIN_NS
        assert one.sweep is not None
        assert one.sweep.trouble == f"after an earlier run: {trouble}"


@pytest.mark.long
def test_a_device_that_fails_in_its_products_tells_the_others(play_more: Play) -> None:
    *others, failed = told_by("error", play_more)
    trouble = "RuntimeError: an illegal memory access"
    assert failed.figures[C].trouble == trouble
    for one in others:
        assert [row.trouble for row in one.figures] == [None, None, f"node-1 fake:0: {trouble}"]


def test_wrong_sums_end_the_run_at_once_and_say_whose_they_are(play: Play) -> None:
    for row, one in zip(figures(play("wrong"), C), told_by("wrong", play), strict=True):
        assert row.trouble == "sums are wrong: node-1 fake:0 contributed other numbers than were due"
        assert row.wrong_reductions > 0
        assert row.reduced_sha256 is None
        assert one.took_ns[C] < WINDOW_NS
        assert one.sweep is not None
        assert all(point.wrong_reductions for point in one.sweep.figures)
