"""Series that an honest device gives, made with noise as sensors and timers have it, and means to change them."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from certify.samples.observed import Observed, SubwindowEnd

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


def with_marks(seen: Observed, times: Sequence[int]) -> Observed:
    marks, ends = [], 5_000_000
    for i, elapsed in enumerate(times):
        ends += elapsed
        marks.append(SubwindowEnd(f"subwindow_{i + 1:02d}_ns", ends, elapsed))
    return seen._replace(marks=tuple(marks))


def bent(power: Sequence[int]) -> Observed:
    seen = observed(1, power)
    return seen._replace(readings={k: v for k, v in seen.readings.items() if k != "energy_mj"})


HONEST = observed(1)
IN_WINDOW = HONEST.inside("power_mw", LENGTH)[:, 1].tolist()
SLOWEST = sum(HONEST.times_ns) // 30
