"""The tuned choice of the profile against an exhaustive search, as the public finders of achievable matmul rates do it.

Those try every m, n and k that are multiples of a step, each for some launches after a few that are not timed, and
report the best trial. Here the winner, like the tuned choice, is measured again for as long as the other.
"""

from __future__ import annotations

import time
from dataclasses import replace as changed
from itertools import product
from statistics import median
from typing import TYPE_CHECKING

import msgspec

from bench.profile import longest_launch_ns
from bench.record import Shape, Workload
from bench.units import rate_text
from kernels.base import GemmProblem
from tests.perf.rig import SECOND_NS, Part, Rig, Setup, alone, only, profile_of

if TYPE_CHECKING:
    from kernels.base import PreparedTrial

WARM_LAUNCHES, TIMED_LAUNCHES = 5, 20
ALIGNED = 64  # steps are multiples of it
MOST_STEPS = 64
ROUNDS = 2
RATE_LIMIT, TIME_LIMIT = 0.98, 1 / 20


class Found(msgspec.Struct, frozen=True):
    """What the exhaustive search found."""

    shape: tuple[int, int, int]
    trial_mflop_s: int
    step: int
    top: int
    tried: int
    complete: bool
    seconds: float


class Search(Part, frozen=True, kw_only=True):
    """The two choices, each measured sustained in turn."""

    tuned_shape: str
    tuned_seconds: float  # all of the set-up: trials, operands and references
    tuned_mflop_s: tuple[int, ...]
    winner: Found
    winner_mflop_s: tuple[int, ...]
    rate_ratio: float
    rate_limit: float = RATE_LIMIT
    time_ratio: float
    time_limit: float = TIME_LIMIT


def measure(setup: Setup, budget_s: float) -> Search:
    """Return both choices; each step in a process of its own, so that the device's memory is free for it.

    Args:
        setup: what to measure.
        budget_s: how long the exhaustive search may take; its grid of shapes is as fine as that allows.
    """
    tuned, tuned_s, rate = alone(choose_tuned, setup)
    winner = alone(search, setup, rate, budget_s)
    tuned_rates, winner_rates = alone(sustained, setup, tuned, winner.shape)
    rate_ratio = median(a / b for a, b in zip(tuned_rates, winner_rates, strict=True))
    time_ratio = tuned_s / winner.seconds
    name, best = (" x ".join(map(str, shape)) for shape in (tuned, winner.shape))
    kept = rate_text(int(median(winner_rates)))
    lines = (
        f"tuned choice, {setup.precision}: {name}, sustained {rate_text(int(median(tuned_rates)))},"
        f" set up in {tuned_s:.1f} s",
        f"exhaustive search, {setup.precision}: {winner.tried} shapes in steps of {winner.step} up to {winner.top}"
        f" in {winner.seconds:.1f} s{'' if winner.complete else ', NOT COMPLETE'}; best in trial {best}"
        f" with {rate_text(winner.trial_mflop_s)}, sustained {kept}",
        f"tuned / search, {setup.precision}: sustained rate {rate_ratio:.3f} (limit {RATE_LIMIT}),"
        f" time {time_ratio:.3f} (limit {TIME_LIMIT})",
    )
    return Search(
        part="search",
        precision=setup.precision,
        lines=lines,
        tuned_shape=name,
        tuned_seconds=tuned_s,
        tuned_mflop_s=tuple(tuned_rates),
        winner=winner,
        winner_mflop_s=tuple(winner_rates),
        rate_ratio=rate_ratio,
        time_ratio=time_ratio,
    )


def choose_tuned(setup: Setup) -> tuple[tuple[int, int, int], float, float]:
    """Return the tuned shape, the seconds until it was ready to be measured, and its rate by trial, FLOP/ns."""
    rig = Rig(setup, profile_of(setup, measured={"intelligent": (f"{setup.precision}-tuned",)}))
    facts = rig.prepare()
    name = f"launch_{facts.m}x{facts.n}x{facts.k}_ns"
    launch_ns = next(int(row.value) for row in rig.session.rows if row.quantity == name)
    return (facts.m, facts.n, facts.k), rig.prepare_s, rig.prepared.problem.flop / launch_ns


def search(setup: Setup, rate_flop_ns: float, budget_s: float) -> Found:
    """Try every shape of a grid and return the fastest.

    Args:
        setup: what to measure.
        rate_flop_ns: what the device does about, by which the grid is laid out.
        budget_s: how long the search may take; it ends unfinished after twice as long.
    """
    profile = profile_of(setup)
    rig = Rig(setup, profile)
    step, top = grid(rate_flop_ns, budget_s, longest_launch_ns(profile), largest(setup))
    kernel = rig.opened.kernel()
    kernel.switches()
    whole = GemmProblem(kernel.name, setup.precision, top, top, top)
    sizes = range(step, top + 1, step)
    best, best_rate, tried = (top, top, top), 0.0, 0
    begin = time.perf_counter()
    for m, n, k in product(sizes, repeat=3):
        if time.perf_counter() - begin > 2 * budget_s:
            break
        problem = changed(whole, m=m, n=n, k=k)
        prepared = kernel.prepare_trial(problem, rig.opened.target)
        rate = trial(prepared)
        prepared.close()
        tried += 1
        if rate > best_rate:
            best, best_rate = (m, n, k), rate
    seconds = time.perf_counter() - begin
    return Found(best, int(best_rate * 1000), step, top, tried, tried == len(sizes) ** 3, seconds)


def trial(prepared: PreparedTrial) -> float:
    """Return the rate of some launches, FLOP/ns."""
    prepared.launch(0, WARM_LAUNCHES)
    prepared.synchronize()
    begin = time.perf_counter_ns()
    prepared.launch(0, TIMED_LAUNCHES)
    prepared.synchronize()
    return TIMED_LAUNCHES * prepared.problem.flop / (time.perf_counter_ns() - begin)


def largest(setup: Setup) -> int:
    """Return the largest dimension that the profile lists for the tuned choice."""
    shapes = profile_of(setup).registered(Workload(setup.precision, "tuned"))
    return max(max(s.m, s.n, s.k) for s in shapes)


def grid(rate_flop_ns: float, budget_s: float, longest_ns: int, largest_size: int) -> tuple[int, int]:
    """Return step and top of the finest grid that the budget allows; both multiples of `ALIGNED`.

    Args:
        rate_flop_ns: of the device.
        budget_s: for all trials together.
        longest_ns: how long a launch may take (R4): the winner has to be measured in the same window.
        largest_size: top of the grid where launches are short enough.
    """
    within = (rate_flop_ns * longest_ns / 2) ** (1 / 3)
    top = max(ALIGNED, min(largest_size, int(within)) // ALIGNED * ALIGNED)
    launches, flop = WARM_LAUNCHES + TIMED_LAUNCHES, budget_s * SECOND_NS * rate_flop_ns
    for steps in range(min(MOST_STEPS, top // ALIGNED), 1, -1):
        step = -(-top // steps // ALIGNED) * ALIGNED
        highest = top // step * step
        side = sum(range(step, highest + 1, step))
        if 2 * launches * side**3 <= flop:
            return step, highest
    return top, top


def sustained(setup: Setup, tuned: tuple[int, int, int], winner: tuple[int, int, int]) -> tuple[list[int], list[int]]:
    """Return the sustained rates of both shapes, measured in turn, MFLOP/s."""
    rigs = [Rig(setup, only(setup, Shape(m=m, n=n, k=k))) for m, n, k in (tuned, winner)]
    for rig in rigs:
        rig.prepare()
    rates: tuple[list[int], list[int]] = ([], [])
    for _ in range(ROUNDS):
        for rig, found in zip(rigs, rates, strict=True):
            found.append(rig.run().rate)
    return rates
