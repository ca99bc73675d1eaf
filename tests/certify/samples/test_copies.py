"""Copies among figures: each is reported with the figure that it copies, and no honest neighbour is."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from certify.samples import copies as searched
from certify.samples.copies import fingerprint_of
from certify.samples.observed import Observed
from certify.samples.summary import FigureFingerprint, Fingerprint, Samples
from tests.certify.samples.series import (
    HONEST,
    IN_WINDOW,
    LENGTH,
    SLOWEST,
    bent,
    noisy,
    observed,
    with_marks,
)


def seen_by(before: list[FigureFingerprint], place: str, seen: Observed, board: str | None = None) -> list[str]:
    """Add a figure to those that were seen, and return what is said of it."""
    before.append(FigureFingerprint(place, fingerprint_of(seen, LENGTH), board))
    return sorted(finding.code for at, finding in searched.copies(before) if at == place)


def test_copies_are_told_from_honest_neighbours() -> None:
    copies: list[FigureFingerprint] = []
    for i in range(200):
        assert seen_by(copies, f"n{i}", observed(f"neighbour {i}")) == []
    copied = observed("neighbour 7")
    assert seen_by(copies, "copy", copied) == ["subwindows-copied", "telemetry-copied"]
    times = with_marks(observed("other"), copied.times_ns)
    assert seen_by(copies, "times only", times) == ["subwindows-copied"]


def test_a_copy_that_was_shifted_is_seen() -> None:
    copies: list[FigureFingerprint] = []
    values = noisy("long", 140)
    assert seen_by(copies, "a", bent(values[:130])) == []
    shifted = with_marks(bent(values[4:134]), observed("b").times_ns)
    assert seen_by(copies, "b", shifted) == ["telemetry-copied"]


def test_dies_of_one_board_may_share_a_sensor() -> None:
    copies: list[FigureFingerprint] = []
    one = observed("board")
    other = with_marks(one, observed("other die").times_ns)
    assert seen_by(copies, "n1/a", one, "n1") == []
    assert seen_by(copies, "n1/b", other, "n1") == []
    assert seen_by(copies, "n2/a", with_marks(one, observed("third").times_ns), "n2") == ["telemetry-copied"]


def test_a_series_without_information_has_no_print() -> None:
    assert fingerprint_of(bent([650_000] * len(IN_WINDOW)), LENGTH).power == ()
    assert fingerprint_of(HONEST, LENGTH).power
    equal = with_marks(HONEST, [SLOWEST] * 30)
    assert fingerprint_of(equal, LENGTH).times_ns == ()  # `subwindows-rounded` says it


@pytest.mark.parametrize("seed", range(20))
def test_a_copy_that_was_changed_by_a_milliwatt_or_two_nanoseconds_is_seen(seed: int) -> None:
    random = Random(f"near {seed}")
    copies: list[FigureFingerprint] = []
    for i in range(20):
        assert seen_by(copies, f"n{i}", observed(f"near {seed}/{i}")) == []
    victim = observed(f"near {seed}/7")
    near_times = with_marks(observed("own"), [x + random.randrange(-2, 3) for x in victim.times_ns])
    assert seen_by(copies, "times", near_times) == ["subwindows-copied"]
    values = [value + random.randrange(-1, 2) for value in victim.inside("power_mw", LENGTH)[:, 1].tolist()]
    shifted = with_marks(bent(values[5:]), observed(f"other {seed}").times_ns)
    assert seen_by(copies, "power", shifted) == ["telemetry-copied"]


def test_near_pairs_are_those_that_agree_in_every_column() -> None:
    rows = np.array([[10**9 + i * 5_000, 2 * 10**9, 7] for i in range(50)])
    assert searched.near_pairs(rows) == []
    near = np.concatenate((rows, rows[[3, 40]] + [[1_000, -1_999, 2], [-1_000, 2_000, 3]]))
    assert searched.near_pairs(near) == [(3, 50)]  # the last column of the other pair is 3 apart
    assert searched.near_pairs(rows[:1]) == []


def test_pairs_beyond_the_cap_are_the_farthest(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is copied stands close together, and is compared first."""
    random = Random("dense")
    rows = np.array([[10**9 + random.randrange(1000) for _ in range(30)] for _ in range(200)])
    rows[150:, :] += 10**6 * np.arange(30)
    rows[199] = rows[120] + 1
    monkeypatch.setattr(searched, "MOST_PAIRS", 2_000)
    assert (120, 199) in searched.near_pairs(rows)


def test_a_thousand_copies_are_all_named_at_once() -> None:
    random = Random("many")
    times = [random.randrange(10**10, 2 * 10**10) for _ in range(30)]
    figures = [
        FigureFingerprint(f"n{i}", Fingerprint(tuple(x + random.randrange(-2, 3) * (i % 2) for x in times), ()), None)
        for i in range(1200)  # more pairs than `MOST_PAIRS`
    ]
    found = Samples(fingerprints=figures)
    searched.report_copies(found)
    assert found.issues.counts == {"subwindows-copied": 1199}


def test_times_that_were_turned_round_or_changed_in_part_are_copies() -> None:
    copies: list[FigureFingerprint] = []
    victim = observed("victim")
    assert seen_by(copies, "victim", victim) == []
    turned = with_marks(observed("turned"), [*victim.times_ns[7:], *victim.times_ns[:7]])
    assert seen_by(copies, "turned", turned) == ["subwindows-copied"]
    part = with_marks(observed("part"), [*victim.times_ns[:12], *observed("part").times_ns[12:]])
    assert seen_by(copies, "part", part) == ["subwindows-copied"]


def test_equal_times_of_a_coarse_clock_are_no_copies() -> None:
    """Thirty short sub-windows by a clock that ticks each 279 ns share many numbers with thirty others."""
    random = Random("coarse")
    copies: list[FigureFingerprint] = []
    for i in range(60):
        times = [100_000_000 + 279 * random.randrange(400) for _ in range(30)]
        assert seen_by(copies, f"n{i}", with_marks(observed(f"coarse {i}"), times)) == []
