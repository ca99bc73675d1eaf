"""The harness against a bare loop of the same call on the same operands: what measuring costs, as a ratio of rates."""

from __future__ import annotations

import time
from statistics import median

import numpy as np
from msgspec.structs import replace

from bench.clock import SystemClock
from bench.devices import load_backend
from bench.profile import load_profile
from bench.record import SUBWINDOWS, Shape, Workload
from bench.session import Session, UtcWindow

ROUNDS = 3
WORKLOAD = Workload("fp64")
SECOND_NS = 10**9


def measure(n: int) -> None:
    """Print the ratio for FP64 products of order n, interleaved bare, harness, bare."""
    clock = SystemClock()
    backend = load_backend("cpu")
    (found,) = backend.find(None)
    shape = Shape(m=n, n=n, k=n)
    base = load_profile("smoke")
    square = np.ones((n, n))
    launch_ns = max(1, bare([(square, square, np.empty((n, n)))], 4) // 4)
    window_ns = max(4 * SECOND_NS, 5 * SUBWINDOWS * launch_ns)
    profile = replace(base, shapes={"fp64": (shape,)}, launches_per_subwindow=4, window_ns=window_ns)
    session = Session(found, backend.open(found, clock), profile, "5eed" * 8, clock)
    session.prepare(WORKLOAD)
    sets = session._ready[WORKLOAD].prepared._sets  # type: ignore[attr-defined]
    ratios, drifts = [], []
    for _ in range(ROUNDS):
        launches = max(4, window_ns // 2 // launch_ns)
        before = bare(sets, launches) / launches
        now = clock.utc_ns()
        window = UtcWindow(
            now, now + SECOND_NS // 2, now + SECOND_NS // 2 + window_ns, now + SECOND_NS // 2 + window_ns
        )
        session.measure(WORKLOAD, window)
        figure = session._measured[WORKLOAD].figure
        harness = (30 * figure.subwindow_min_ns + sum(figure.subwindow_over_ns)) / figure.launches
        after = bare(sets, launches) / launches
        ratios.append((before + after) / 2 / harness)
        drifts.append(abs(before - after) / before)
    print(
        f"harness / bare loop, FP64 n = {n}: median {median(ratios):.3f} of {', '.join(f'{r:.3f}' for r in ratios)}"
        f" (limit 0.98); the bare loop itself drifted by {median(drifts):.1%}"
    )


def bare(sets: list[tuple[object, object, object]], launches: int) -> int:
    """Return the nanoseconds of so many products and nothing else."""
    begin = time.perf_counter_ns()
    for i in range(launches):
        a, b, out = sets[i % len(sets)]
        np.matmul(a, b, out=out)  # type: ignore[call-overload]
    return time.perf_counter_ns() - begin
