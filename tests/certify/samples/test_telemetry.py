"""Implausible telemetry: series that no honest device gives, and many honest ones, none of which is called so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

import pytest

from certify.policy.reasons import effect_of
from certify.samples import telemetry
from certify.samples.observed import Observed
from certify.samples.telemetry import About, Implausible
from tests.certify.samples.series import (
    FLOP_PER_CLOCK,
    HONEST,
    IN_WINDOW,
    LENGTH,
    SECOND,
    SLOWEST,
    bent,
    noisy,
    observed,
    with_marks,
)


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


NO_COUNTER = HONEST._replace(readings={k: v for k, v in HONEST.readings.items() if k != "energy_mj"})


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


def test_a_loop_whose_rounds_differ_by_a_milliwatt_is_seen() -> None:
    random = Random("loop")
    loop = noisy("loop", 40)
    values = [loop[i % 40] + random.randrange(-1, 2) for i in range(len(IN_WINDOW))]
    assert codes(telemetry.repeated(values)) == ["telemetry-repeated"]
