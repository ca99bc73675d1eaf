"""How often R6 holds a window, simulated: honest series, and series whose rate falls. The table of docs/run-rules.md.

    python -m tests.simulation.steadiness [--runs 10000] [--seed 20261130]

A unit of equal work takes about 0.55 s. Noise of the rate is AR(1) from one unit to the next.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bench.record import SUBWINDOWS, Grade, throughput_bounds, window_trend
from certify.judge.timing import MOST_TREND

RUNS, SEED = 10_000, 20261130  # of the table in docs/run-rules.md
UNIT_S = 0.55
UNIT_MFLOP = 55 * 10**7  # so that a rate of 1 is 10^9 MFLOP/s
BATCH = 1_000  # runs that are in memory at once
HALL_S = 600.0  # period of the air in the hall
HEAT_SINK_S = 90.0  # time constant
LOADED_S = 90.0  # how long the device was under load when the window opens
WINDOWS: dict[Grade, int] = {"certification": 1_200, "standard": 120}  # units in a window: 660 s, 66 s


class Series(NamedTuple):
    """A rate around 1, by what moves it."""

    name: str
    noise: float  # standard deviation of one unit's rate
    rho: float  # autocorrelation of the noise from one unit to the next
    hall: float = 0.0  # amplitude of the swing with the air in the hall
    cold: float = 0.0  # how much faster the device is when load begins and its heat sink is cold
    fall: float = 0.0  # by how much the rate falls over the window, on a line

    def rates(self, runs: int, units: int, random: np.random.Generator) -> npt.NDArray[np.float64]:
        """Return the rates of all units of so many runs, one column a run."""
        fresh = random.standard_normal((units, runs)) * self.noise
        noise = np.empty_like(fresh)
        noise[0] = fresh[0]
        for i in range(1, units):
            noise[i] = self.rho * noise[i - 1] + (1 - self.rho**2) ** 0.5 * fresh[i]
        at_s = ((np.arange(units) + 0.5) * UNIT_S)[:, None]
        phase = random.uniform(0, 2 * np.pi, runs)
        hall = self.hall * np.sin(2 * np.pi * at_s / HALL_S + phase)
        cold = self.cold * np.exp(-(LOADED_S + at_s) / HEAT_SINK_S)
        fall = self.fall * (at_s / (units * UNIT_S) - 0.5)
        return np.asarray((1 + noise) * (1 + hall + cold - fall))


SERIES = (
    Series("sd 0.3 %, rho 0.5", 0.003, 0.5),
    Series("sd 0.3 %, rho 0.9", 0.003, 0.9),
    Series("sd 1 %, rho 0.9", 0.01, 0.9),
    Series("sd 1 %, rho 0.98", 0.01, 0.98),
    Series("hall ±0.5 % in 10 min, sd 0.3 %, rho 0.5", 0.003, 0.5, hall=0.005),
    Series("cold heat sink, tau 90 s, 2 %, sd 0.3 %, rho 0.5", 0.003, 0.5, cold=0.02),
    Series("falls by 2 %, sd 0.3 %, rho 0.5", 0.003, 0.5, fall=0.02),
    Series("falls by 2 %, sd 1 %, rho 0.9", 0.01, 0.9, fall=0.02),
    Series("falls by 5 %, sd 0.3 %, rho 0.5", 0.003, 0.5, fall=0.05),
    Series("falls by 5 %, sd 1 %, rho 0.9", 0.01, 0.9, fall=0.05),
)


class Seen(NamedTuple):
    """What became of all windows of one series."""

    runs: int
    held: int  # windows with `not-steady`
    rising: int  # windows with `still-rising`
    excess: float | None  # of those not held: by how much `certified` exceeds the rate of their last third at most

    def __str__(self) -> str:
        """Return two cells of the table, in percent."""
        excess = "–" if self.excess is None else f"{100 * self.excess:.2f}"
        return f"{100 * self.held / self.runs:.2f} | {excess}"


def windows(series: Series, units: int, runs: int, random: np.random.Generator) -> Iterator[list[int]]:
    """Yield the 30 sub-window times of each run, ns."""
    for first in range(0, runs, BATCH):
        unit_ns = UNIT_S * 1e9 / series.rates(min(BATCH, runs - first), units, random)
        yield from unit_ns.reshape(SUBWINDOWS, units // SUBWINDOWS, -1).sum(1).astype(np.int64).T.tolist()


def simulate(series: Series, grade: Grade, runs: int, seed: int) -> Seen:
    """Return what R6 makes of so many windows of a series at a grade, in the product's own integers."""
    units, third = WINDOWS[grade], SUBWINDOWS // 3
    random = np.random.default_rng([seed, SERIES.index(series), units])
    held = rising = 0
    excess: float | None = None
    for times in windows(series, units, runs, random):
        least = min(times)
        trend = window_trend(least, [x - least for x in times], MOST_TREND[grade])
        held += trend == "falling"
        rising += trend == "rising"
        if trend != "falling":
            certified = throughput_bounds(units * UNIT_MFLOP, times).certified_mflop_s
            over = certified * sum(times[-third:]) / (units // 3 * UNIT_MFLOP * 1e9) - 1
            excess = over if excess is None else max(excess, over)
    return Seen(runs, held, rising, excess)


def main() -> None:
    """Print the table of docs/run-rules.md."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.steadiness")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--seed", type=int, default=SEED)
    asked = parser.parse_args()
    for series in SERIES:
        cells = [str(simulate(series, grade, asked.runs, asked.seed)) for grade in WINDOWS]
        print(f"| {series.name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
