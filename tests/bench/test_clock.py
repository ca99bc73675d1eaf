from __future__ import annotations

import threading

from bench.clock import SimulatedClock, SystemClock, sleep_until_utc


def test_simulated_time_passes_only_by_sleeping() -> None:
    clock = SimulatedClock(utc_ns=1_000)
    assert (clock.monotonic_ns(), clock.utc_ns()) == (0, 1_000)
    clock.sleep_ns(50)
    clock.sleep_ns(-5)
    assert clock.pair_ns() == (50, 1_050)


def test_simulated_utc_drifts_and_jumps_and_monotonic_does_not() -> None:
    clock = SimulatedClock(utc_ns=0, drift_ppm=100)
    clock.step_utc(2_000_000, -500_000)
    clock.sleep_ns(1_000_000)
    assert clock.pair_ns() == (1_000_000, 1_000_100)
    clock.sleep_ns(1_000_000)
    assert clock.pair_ns() == (2_000_000, 1_500_200)


def test_simulated_calls_fall_due_in_order_until_they_are_stopped() -> None:
    clock = SimulatedClock()
    seen: list[tuple[str, int]] = []
    stop_a = clock.every(30, lambda: seen.append(("a", clock.monotonic_ns())))
    clock.every(50, lambda: seen.append(("b", clock.monotonic_ns())))
    clock.sleep_ns(60)
    stop_a()
    clock.sleep_ns(40)
    assert seen == [("a", 0), ("b", 0), ("a", 30), ("b", 50), ("a", 60), ("b", 100)]
    assert clock.monotonic_ns() == 100


def test_sleeping_until_a_utc_time_follows_a_step_of_the_clock() -> None:
    clock = SimulatedClock(utc_ns=0)
    clock.step_utc(600_000_000, 3_000_000_000)
    sleep_until_utc(clock, 5_000_000_000)
    assert clock.monotonic_ns() == 2_000_000_000


def test_the_system_clock_steps_only_where_it_is_told_to() -> None:
    clock = SystemClock()
    monotonic, utc = clock.pair_ns()
    clock.step_utc(monotonic, 3_600_000_000_000)
    assert clock.utc_ns() - utc > 3_599_000_000_000
    assert clock.monotonic_ns() - monotonic < 60_000_000_000


def test_the_system_clock_calls_until_it_is_stopped() -> None:
    clock, called = SystemClock(), threading.Semaphore(0)
    stop = clock.every(1_000_000, called.release)
    assert all(called.acquire(timeout=10) for _ in range(3))
    stop()
    while called.acquire(blocking=False):
        pass
    clock.sleep_ns(20_000_000)
    assert not called.acquire(blocking=False)
