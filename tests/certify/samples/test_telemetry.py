"""Implausible telemetry: series that no honest device gives, and many honest ones, none of which is called so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import numpy as np
import pytest

from certify.policy.reasons import effect_of
from certify.samples import telemetry
from certify.samples.observed import Observed, SubwindowEnd
from certify.samples.summary import FigureFingerprint, Fingerprint, Samples
from certify.samples.telemetry import About, Implausible, prints

SECOND = 10**9
LENGTH = 66 * SECOND
FLOP_PER_CLOCK = 304 * 2048
CLOCK = 1_700


def noisy(seed: object, count: int, mean: int = 650_000, sd: float = 3000.0, step: int = 1) -> list[int]:
    """Return honest power in mW of a sensor with a resolution of `step` mW."""
    random = Random(str(seed))
    drift, found = 0.0, []
    for _ in range(count):
        drift = 0.9 * drift + random.gauss(0, sd / 3)
        found.append(round((mean + drift + random.gauss(0, sd)) / step) * step)
    return found


def stamps(seed: object, count: int, start: int, interval: int) -> list[int]:
    random, at, found = Random(f"{seed}/stamps"), start, []
    for _ in range(count):
        found.append(at)
        at += interval + random.randrange(50_000, 300_000)
    return found


def observed(seed: object = 0, power: Sequence[int] | None = None, window: int = LENGTH, step: int = 1) -> Observed:
    """Return an honest device: 20 s of warm-up, then the window, a reading each half second."""
    random = Random(f"{seed}/times")
    interval = SECOND // 2
    warm, inside = 40, window // interval
    at = stamps(seed, warm + inside + 4, -warm * interval - 7_000_000, interval)
    values = noisy(seed, len(at), step=step)
    values[0] = 90_000
    if power is not None:
        first = next(i for i, moment in enumerate(at) if moment >= 0)
        values[first : first + len(power)] = power
    energy, counted = 0, []
    for i, moment in enumerate(at):
        counted.append((moment, energy))
        if i + 1 < len(at):
            energy += (values[i] + values[i + 1]) * (at[i + 1] - moment) // (2 * SECOND)
    marks, ends = [], 5_000_000
    for i in range(30):
        elapsed = round(random.gauss((window - 2 * SECOND) / 30, 500_000))
        ends += elapsed
        marks.append(SubwindowEnd(f"subwindow_{i + 1:02d}_ns", ends, elapsed))
    readings = {
        "power_mw": tuple(zip(at, values, strict=True)),
        "clock_mhz": tuple((moment, CLOCK + 5 * random.randrange(-2, 3)) for moment in at),
        "energy_mj": tuple(counted),
    }
    rates = [(moment, 300_000_000 + random.randrange(10**6)) for moment in at[1:warm]]
    return Observed(tuple(marks), readings, [(moment, 0) for moment in at], ("none",), rates)


def about(**changes: object) -> About:
    found = About(
        accelerator=True,
        length_ns=LENGTH,
        first=True,
        work_mflop=64 * 300_000_000,
        sustained_mflop_s=300_000_000,
        flop_per_clock=FLOP_PER_CLOCK,
    )
    return found._replace(**changes)  # type: ignore[arg-type]


def codes(found: Sequence[Implausible]) -> list[str]:
    return [one.code for one in found]


@pytest.mark.parametrize("step", [1, 100, 1000])
@pytest.mark.parametrize("seed", range(40))
def test_honest_devices_are_never_called_implausible(seed: int, step: int) -> None:
    assert telemetry.implausible(observed(seed, step=step), about()) == []


def with_marks(seen: Observed, times: Sequence[int]) -> Observed:
    marks, ends = [], 5_000_000
    for i, elapsed in enumerate(times):
        ends += elapsed
        marks.append(SubwindowEnd(f"subwindow_{i + 1:02d}_ns", ends, elapsed))
    return seen._replace(marks=tuple(marks))


def with_series(seen: Observed, name: str, change: Callable[[int, int], tuple[int, int]]) -> Observed:
    return seen._replace(
        readings={**seen.readings, name: [change(at, value) for at, value in seen.whole(name).tolist()]}
    )


def all_at_round_times(seen: Observed) -> Observed:
    at = {moment: i * SECOND // 2 for i, (moment, _) in enumerate(seen.whole("power_mw").tolist())}
    return at_other_times(seen, lambda moment: at[moment] - 20 * SECOND)


def in_microseconds(seen: Observed) -> Observed:
    return at_other_times(seen, lambda moment: moment // 1000 * 1000)


def at_other_times(seen: Observed, change: Callable[[int], int]) -> Observed:
    moved = {name: [(change(at), value) for at, value in seen.whole(name).tolist()] for name in seen.readings}
    return seen._replace(readings=moved)


HONEST = observed(1)
IN_WINDOW = HONEST.inside("power_mw", LENGTH)[:, 1].tolist()
NO_COUNTER = HONEST._replace(readings={k: v for k, v in HONEST.readings.items() if k != "energy_mj"})


def bent(power: Sequence[int]) -> Observed:
    seen = observed(1, power)
    return seen._replace(readings={k: v for k, v in seen.readings.items() if k != "energy_mj"})


SLOWEST = sum(HONEST.times_ns) // 30
LIES: dict[str, tuple[Observed, dict[str, object], list[str]]] = {
    "constant power": (bent([650_123] * len(IN_WINDOW)), {}, ["power-too-smooth"]),
    "power on a line": (bent([650_000 + 7 * i for i in range(len(IN_WINDOW))]), {}, ["power-too-smooth"]),
    "constant power of a CPU": (bent([650_123] * len(IN_WINDOW)), {"accelerator": False}, []),
    "a minute said twice": (bent(IN_WINDOW[:60] + IN_WINDOW[:60]), {}, ["telemetry-repeated"]),
    "half a minute said again later": (
        bent(IN_WINDOW[:31] + IN_WINDOW[31:75] + IN_WINDOW[:31]),
        {},
        ["telemetry-repeated"],
    ),
    "a short period": (bent((IN_WINDOW[:9] * 20)[: len(IN_WINDOW)]), {}, ["telemetry-repeated"]),
    "timer of whole half seconds": (all_at_round_times(NO_COUNTER), {}, ["timestamps-regular"]),
    "timer of whole microseconds": (in_microseconds(NO_COUNTER), {}, ["timestamps-regular"]),
    "power a fifth too high": (
        with_series(HONEST, "power_mw", lambda at, value: (at, value * 6 // 5)),
        {},
        ["energy-integral-disagrees"],
    ),
    "counter that stands": (
        with_series(HONEST, "energy_mj", lambda at, value: (at, 7)),
        {},
        ["energy-integral-disagrees"],
    ),
    "counter that began anew": (
        with_series(HONEST, "energy_mj", lambda at, value: (at, value if at < LENGTH // 2 else 0)),
        {},
        [],
    ),
    "power before the load": (
        with_series(NO_COUNTER, "power_mw", lambda at, value: (at, max(value, 640_000))),
        {},
        ["power-flat"],
    ),
    "power before a later load": (
        with_series(NO_COUNTER, "power_mw", lambda at, value: (at, max(value, 640_000))),
        {"first": False},
        [],
    ),
    "twice the launches": (
        HONEST,
        {"sustained_mflop_s": 600_000_000, "work_mflop": 64 * 600_000_000},
        ["rate-above-warmup"],
    ),
    "round times": (with_marks(HONEST, [x // 1000 * 1000 for x in HONEST.times_ns]), {}, ["subwindows-rounded"]),
    "equal times": (with_marks(HONEST, [SLOWEST] * 30), {}, ["subwindows-rounded"]),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_called_so(lie: str) -> None:
    seen, changes, expected = LIES[lie]
    found = telemetry.implausible(seen, about(**changes))
    assert codes(found) == expected
    assert all(effect_of(one.code) in ("note", "hold", "void") and one.detail for one in found)


def test_a_sensor_of_whole_watts_may_hold_still_for_minutes() -> None:
    assert telemetry.smooth([650_000] * 599, 1000) == []
    assert codes(telemetry.smooth([650_000] * 600, 1000)) == ["power-too-smooth"]
    assert codes(telemetry.smooth([650_000] * 60, 100)) == ["power-too-smooth"]
    assert telemetry.smooth([650_000] * 59, 100) == []


def test_coarse_sensors_repeat_themselves_by_chance() -> None:
    """Two values that alternate at random agree with themselves over long stretches; that proves nothing."""
    for seed in range(200):
        random = Random(seed)
        assert telemetry.repeated([700_000 + 1000 * random.randrange(2) for _ in range(600)]) == []
    plateau = [700_000] * 200 + [701_000] * 200 + [700_000] * 200
    assert telemetry.repeated(plateau) == []
    assert telemetry.repeated([650_000, 600_000] * 300) == []  # a regulator that swings


def window_of(length: int) -> Observed:
    """Return a device with ten readings and more in each sub-window."""
    return observed(3, window=length)


@pytest.mark.parametrize(("ppm", "expected"), [(1_015_000, []), (1_030_000, ["subwindow-above-clock"])])
def test_each_sub_window_against_its_own_clock(ppm: int, expected: list[str]) -> None:
    """One stretch of lower clock and unchanged rate: the highest clock of the whole window would hide it."""
    length = 600 * SECOND
    seen = window_of(length)
    tenth = seen.marks[9]
    begins = tenth.ends_ns - tenth.elapsed_ns
    low = with_series(seen, "clock_mhz", lambda at, value: (at, 1_000 if begins <= at <= tenth.ends_ns else value))
    work = FLOP_PER_CLOCK * 1_000 * ppm // 10**6 * tenth.elapsed_ns * 30 // SECOND
    facts = about(length_ns=length, work_mflop=work)
    assert codes(telemetry.above_clock(low, facts)) == expected
    assert telemetry.above_clock(seen, facts) == []
    assert telemetry.above_clock(low, facts._replace(flop_per_clock=None)) == []


def test_few_readings_of_the_clock_bound_nothing() -> None:
    seen = observed(1)  # four in each sub-window
    facts = about(work_mflop=10**15)
    assert telemetry.above_clock(seen, facts) == []


def seen_by(before: list[FigureFingerprint], place: str, seen: Observed, board: str | None = None) -> list[str]:
    """Add a figure to those that were seen, and return what is said of it."""
    before.append(FigureFingerprint(place, prints(seen, LENGTH), board))
    return sorted(finding.code for at, finding in telemetry.copies(before) if at == place)


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
    assert prints(bent([650_000] * len(IN_WINDOW)), LENGTH).power == ()
    assert prints(HONEST, LENGTH).power
    equal = with_marks(HONEST, [SLOWEST] * 30)
    assert prints(equal, LENGTH).times_ns == ()  # `subwindows-rounded` says it


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


def test_a_loop_whose_rounds_differ_by_a_milliwatt_is_seen() -> None:
    random = Random("loop")
    loop = noisy("loop", 40)
    values = [loop[i % 40] + random.randrange(-1, 2) for i in range(len(IN_WINDOW))]
    assert codes(telemetry.repeated(values)) == ["telemetry-repeated"]


def test_near_pairs_are_those_that_agree_in_every_column() -> None:
    rows = np.array([[10**9 + i * 5_000, 2 * 10**9, 7] for i in range(50)])
    assert telemetry.near_pairs(rows) == []
    near = np.concatenate((rows, rows[[3, 40]] + [[1_000, -1_999, 2], [-1_000, 2_000, 3]]))
    assert telemetry.near_pairs(near) == [(3, 50)]  # the last column of the other pair is 3 apart
    assert telemetry.near_pairs(rows[:1]) == []


def test_pairs_beyond_the_cap_are_the_farthest(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is copied stands close together, and is compared first."""
    random = Random("dense")
    rows = np.array([[10**9 + random.randrange(1000) for _ in range(30)] for _ in range(200)])
    rows[150:, :] += 10**6 * np.arange(30)
    rows[199] = rows[120] + 1
    monkeypatch.setattr(telemetry, "MOST_PAIRS", 2_000)
    assert (120, 199) in telemetry.near_pairs(rows)


def test_ten_thousand_copies_are_all_named_at_once() -> None:
    random = Random("many")
    times = [random.randrange(10**10, 2 * 10**10) for _ in range(30)]
    figures = [
        FigureFingerprint(f"n{i}", Fingerprint(tuple(x + random.randrange(-2, 3) * (i % 2) for x in times), ()), None)
        for i in range(3000)
    ]
    found = Samples(prints=figures)
    telemetry.report_copies(found)
    assert found.issues.counts == {"subwindows-copied": 2999}


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
