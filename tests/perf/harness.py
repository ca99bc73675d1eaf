"""The harness against a bare loop of the same call on the same operands: what measuring costs, as a ratio of rates."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.record import SUBWINDOWS, Choice, Shape, Workload
from kernels.base import GemmProblem
from tests.perf.rig import CHALLENGE, SECOND_NS, Part, Rig, Setup, alone, bare_product, only, profile_of

if TYPE_CHECKING:
    from kernels.base import Prepared

ROUNDS = 3
LIMIT, CPU_LIMIT = 0.995, 0.98
SOLVE_LIMIT = 0.97  # of FP64 solves against the same call of LAPACK


class Overhead(Part, frozen=True, kw_only=True):
    """Rounds of bare, harness, bare: each ratio is the harness to the mean of the two bare loops around it."""

    shape: str
    launches_each_wait: int
    operand_sets: int
    ratios: tuple[float, ...]
    bare_drift: tuple[float, ...]  # relative, between the two bare loops of a round
    limit: float


def measure(setup: Setup, n: int | None = None, rounds: int = ROUNDS, choice: Choice = "fixed") -> Overhead:
    """Return the ratio of rates, interleaved.

    Args:
        setup: what to measure.
        n: order of the product; None for the shape that the profile ``certification`` chooses.
        rounds: how many.
        choice: "solve" for solves of order n in place of products.
    """
    workload = Workload(setup.precision, choice)
    if n is not None:
        # A sub-window holds at least four launches (R4), of which a busy machine makes the first ones slow.
        setup = setup._replace(seconds=max(setup.seconds, 5 * SUBWINDOWS * alone(launch_s, setup, n)))
    # small shapes come in many sets
    changes: dict[str, Any] = {"verified_launches": 1} if setup.device.startswith("cpu") else {}
    changes |= {"measured": {"intelligent": (str(workload),)}}
    if n is None:
        profile = profile_of(setup, **changes)
    elif workload.is_solve:
        changes |= {"solve_shapes": {setup.precision: (Shape(m=n, n=n, k=n),)}}
        profile = profile_of(setup, warmup_ns=SECOND_NS // 2, **changes)
    else:  # the bare loop has warmed it
        profile = only(setup, Shape(m=n, n=n, k=n), warmup_ns=SECOND_NS // 2, **changes)
    rig = Rig(setup, profile)
    facts = rig.prepare()
    batch, length_ns = rig.ready.batch, round(setup.seconds * SECOND_NS) // 2
    bare_rate(rig.prepared, batch, length_ns)  # warm
    ratios, drifts = [], []
    for _ in range(rounds):
        before = bare_rate(rig.prepared, batch, length_ns)
        rate = rig.run().rate / 1000
        after = bare_rate(rig.prepared, batch, length_ns)
        ratios.append(rate / ((before + after) / 2))
        drifts.append(abs(before - after) / before)
    limit = SOLVE_LIMIT if workload.is_solve else CPU_LIMIT if rig.found.model.kind == "cpu" else LIMIT
    shape = f"{facts.m} x {facts.n} x {facts.k}"
    shown = ", ".join(f"{r:.3f}" for r in ratios)
    line = (
        f"harness / bare loop, {workload} {shape}: median {median(ratios):.3f} of {shown} (limit {limit});"
        f" the bare loop itself drifted by {median(drifts):.1%}"
    )
    return Overhead(
        part="overhead",
        precision=setup.precision,
        lines=(line,),
        shape=shape,
        launches_each_wait=batch,
        operand_sets=facts.operand_sets,
        ratios=tuple(ratios),
        bare_drift=tuple(drifts),
        limit=limit,
    )


def launch_s(setup: Setup, n: int) -> float:
    """Return about how long one product of order n takes, s."""
    rig = Rig(setup, profile_of(setup))
    kernel = rig.opened.kernel()
    prepared = kernel.prepare(
        GemmProblem(kernel.name, setup.precision, n, n, n), CHALLENGE, rig.name, rig.opened.target, 0
    )
    return prepared.problem.flop / bare_rate(prepared, 1, SECOND_NS) / SECOND_NS


def bare_rate(prepared: Prepared, batch: int, length_ns: int) -> float:
    """Return FLOP/ns of a loop that launches, waits once for every `batch` launches, and does nothing else."""
    product = bare_product(prepared)
    sets: Sequence[tuple[Any, Any, Any]] = prepared._sets  # type: ignore[attr-defined]
    launches, count = 0, len(sets)
    begin = at = time.perf_counter_ns()
    while at - begin < length_ns:
        for i in range(launches, launches + batch):
            product(*sets[i % count])
        prepared.synchronize()
        launches += batch
        at = time.perf_counter_ns()
    return launches * prepared.problem.flop / (at - begin)
