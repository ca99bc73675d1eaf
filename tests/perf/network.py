"""What the network's runs cost themselves, and what they show on the CPUs of this machine.

Run A of the network against the counted window of the same operands: what measuring it costs, as a ratio of rates.

The other runs are compared with run A. What the harness itself lost in it, it would seem to lose in none of them, and
the network's loss would look smaller than it is.
"""

from __future__ import annotations

import os
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import msgspec
import pytest
import yaml
from msgspec.structs import replace

from bench.collective.runs import Products, RunSpan, RunTally, compute_alone
from bench.profile import load_profile
from bench.record import SUBWINDOWS, Shape
from bench.record.network import NETWORK_RUNS, NetworkPlan, NetworkRunName
from tests.network.relay import missing as relay_missing
from tests.network.switch import FABRIC
from tests.network.wired import wired_slurm
from tests.perf.harness import launch_s
from tests.perf.rig import SECOND_NS, Part, Rig, Setup, alone, only
from tests.slurm.cluster import missing as slurm_missing
from tests.slurm.trial import Trial, opened

ROUNDS = 5
LIMIT = 0.99
WARM_NS = SECOND_NS // 2


class RunAgainstWindow(Part, frozen=True, kw_only=True):
    """Rounds of window, run A, window: each ratio is the run to the mean of the two windows around it."""

    block_launches: int
    ratios: tuple[float, ...]
    window_drift: tuple[float, ...]  # relative, between the two windows of a round
    limit: float


def measure(setup: Setup, n: int, rounds: int = ROUNDS) -> RunAgainstWindow:
    """Return the ratio of rates, interleaved.

    Args:
        setup: what to measure.
        n: order of the product.
        rounds: how many.
    """
    if not setup.device.startswith("fake"):  # of a simulated one, products are timed waits, whoever else computes
        # A sub-window holds at least four launches (R4), of which a busy machine makes the first ones slow.
        setup = setup._replace(seconds=max(setup.seconds, 5 * SUBWINDOWS * alone(launch_s, setup, n)))
    rig = Rig(setup, only(setup, Shape(m=n, n=n, k=n), warmup_ns=WARM_NS, verified_launches=1))
    rig.prepare()
    before = window_rate(rig)
    ratios, drifts, launches = [], [], 0
    for _ in range(rounds):
        launches, run = run_rate(rig, round(setup.seconds * SECOND_NS))
        after = window_rate(rig)
        ratios.append(run / ((before + after) / 2))
        drifts.append(abs(before - after) / before)
        before = after
    shown = ", ".join(f"{ratio:.3f}" for ratio in ratios)
    line = (
        f"run A of the network, blocks of {launches} / the counted window, {setup.device} {setup.precision},"
        f" {n} x {n} x {n}: median {median(ratios):.3f} of {shown} (limit {LIMIT});"
        f" the window itself drifted by {median(drifts):.1%}"
    )
    return RunAgainstWindow(
        part="network",
        precision=setup.precision,
        lines=(line,),
        block_launches=launches,
        ratios=tuple(ratios),
        window_drift=tuple(drifts),
        limit=LIMIT,
    )


def window_rate(rig: Rig) -> float:
    """Return launches/ns of a window that begins now."""
    figure = rig.run().figure
    return figure.launches / (figure.counted_until_ns - figure.opened_ns)


def run_rate(rig: Rig, length_ns: int) -> tuple[int, float]:
    """Return the launches of a block, as the network's part of a worker would choose them, and launches/ns of run A."""
    plan = load_profile("certification").network
    assert plan
    prepared, launch_ns = rig.session.products_of(rig.workload)
    launches = max(1, round(plan.block_ns / launch_ns))
    now_ns = rig.clock.monotonic_ns()
    span = RunSpan(now_ns + WARM_NS, now_ns + WARM_NS + length_ns)
    counted = RunTally(span, launches)
    compute_alone(Products(prepared, launches), span, rig.clock, counted)
    return launches, counted.launches / counted.elapsed_ns


TOKENS = 16_384
PLAN = NetworkPlan(
    tokens=(TOKENS,),
    warmup_ns=SECOND_NS,
    window_ns=4 * SECOND_NS,
    block_ns=SECOND_NS // 20,
    join_ns=15 * SECOND_NS,
    reduction_ns=10 * SECOND_NS,
    sweep_bytes=(2**20,),
)


def shown() -> str:
    """Return what two nodes of CPUs on this machine lose, and its load: nothing is asserted of it.

    Products and reductions want the same cores, so it is the host's figure and no network's.
    """
    if (why := slurm_missing() or relay_missing()) is not None:
        return f"network of CPUs: not shown, {why}"
    profile = replace(load_profile("smoke"), profile="shown", measured={"general": ("fp64",)}, network=PLAN)
    with TemporaryDirectory() as base, wired_slurm(2) as cluster, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", cluster.env["SLURM_CONF"])
        trial = Trial(cluster, Path(base))
        trial.profile.write_text(yaml.safe_dump(msgspec.to_builtins(profile)))
        trial.pools({"pool": "ai", "class": "general", "nodes": [*cluster.names], "devices": "all"})
        for node in cluster.names:
            trial.set(node, PETASEAL_NETWORK_INTERFACE=FABRIC)
        trial.create("--network", device="cpu")
        answer = trial.launch().end()
        alone_, inside, together = (rate_of(trial, run) for run in NETWORK_RUNS)
    load = f"a load of {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs"
    if not (alone_ and inside and together):
        return f"network of CPUs: no figure at {load}: {answer.out}"
    return (
        f"network of 2 nodes of CPUs on this machine, T = {TOKENS} (an assumption): loss {1 - together / inside:.1%},"
        f" contention {1 - inside / alone_:.1%} at {load}; shown, no limit"
    )


def rate_of(trial: Trial, run: NetworkRunName) -> float:
    """Return what all nodes computed in a run, launches/ns; 0 where one has no figure."""
    nodes = trial.cluster.names
    figures = [
        figure
        for node in nodes
        for record in trial.folder().records(node).glob(f"{node}.record.dsse.json")
        for measurement in opened("node-record", record).network
        if measurement.run == run
        for figure in measurement.figures()
    ]
    if len(figures) < len(nodes) or any(figure.trouble for figure in figures):
        return 0.0
    return float(sum(figure.launches / figure.elapsed_ns for figure in figures))
