from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.clock import SimulatedClock
from bench.telemetry import (
    LoadReading,
    Reading,
    Sample,
    Sampler,
    load_between,
    other_load_now,
    read,
    read_load,
    summary,
)

S = 10**9


def samples(readings: list[Reading], every_ns: int = S // 2) -> list[Sample]:
    return [Sample(index * every_ns, reading) for index, reading in enumerate(readings)]


def test_a_window_of_readings() -> None:
    readings = [
        Reading(power_mw=100 + i, temperature_c=50 + i, clock_mhz=1000 + 10 * i, throttled=()) for i in range(8)
    ]
    watch = summary(samples(readings), None, 0, 4 * S)
    assert watch.samples == 8
    assert watch.power_mean_mw == 103
    assert watch.temperature_max_c == 57
    assert (watch.clock_mean_mhz, watch.clock_max_mhz) == (1035, 1070)
    assert (watch.throttled_ppm, watch.throttle_reasons) == (0, ())


def test_what_is_not_exposed_is_none_and_never_zero() -> None:
    watch = summary(samples([Reading()] * 4), None, 0, 2 * S)
    assert watch.samples == 4
    assert watch[1:5] == (0, None, 0, None)
    assert watch[5:12] == (None,) * 7
    assert summary([], None, 0, 2 * S)[:3] == (0, 0, None)


def test_a_gap_is_the_longest_time_without_a_reading_of_one_quantity() -> None:
    readings = [Reading(clock_mhz=1, power_mw=2 if at in (3, 4, 9) else None) for at in range(12)]
    watch = summary(samples(readings, S), None, S, 11 * S)
    assert (watch.clock_samples, watch.clock_gap_ns) == (10, S)
    assert (watch.power_samples, watch.power_gap_ns) == (3, 5 * S)  # from 4 to 9 s; 2 s to both edges
    late = summary(samples(readings, S)[9:10], None, 0, 11 * S)
    assert (late.power_samples, late.power_gap_ns) == (1, 9 * S)
    assert summary(samples(readings, S), None, 5 * S, 8 * S).power_gap_ns is None


def test_only_readings_inside_the_window_count_but_errors_count_from_before_the_load() -> None:
    readings = [Reading(power_mw=1, ecc_uncorrected=n) for n in (3, 4, 4, 5, 9)]
    watch = summary(samples(readings, S), Reading(ecc_uncorrected=2), 2 * S, 4 * S)
    assert watch.samples == 2
    assert watch.ecc_uncorrected == 3  # 5 - 2; the 9 came after the window
    assert summary(samples(readings, S), Reading(), 2 * S, 4 * S).ecc_uncorrected == 2


def test_throttling_is_a_share_of_readings_with_its_reasons() -> None:
    readings = [Reading(throttled=t) for t in ((), ("power",), ("thermal", "power"), ())]
    watch = summary(samples(readings), None, 0, 2 * S)
    assert (watch.throttled_ppm, watch.throttle_reasons) == (500_000, ("power", "thermal"))


@pytest.mark.parametrize(
    ("before", "later", "foreign"),
    [(0, [1, 1], 0), (0, [1, 2], 1), (1, [2, 2], 1), (2, [1, 1], 2), (0, [0, 0], 0), (None, [3], 2), (None, [], None)],
)
def test_foreign_processes_are_those_before_us_or_all_but_us(
    before: int | None, later: list[int], foreign: int | None
) -> None:
    readings = [Reading(processes=n) for n in later]
    assert summary(samples(readings), Reading(processes=before), 0, S).foreign_processes == foreign


class Broken:
    def __init__(self) -> None:
        self.calls = 0

    def read(self) -> Reading | None:
        self.calls += 1
        if self.calls % 3 == 0:
            raise OSError("the driver does not answer")
        return None if self.calls % 3 == 1 else Reading(clock_mhz=self.calls)


def test_a_source_that_fails_costs_samples_and_nothing_else() -> None:
    clock, source = SimulatedClock(), Broken()
    sampler = Sampler(source, clock, S, None)
    sampler.start()
    clock.sleep_ns(8 * S)
    sampler.stop()
    clock.sleep_ns(8 * S)
    assert source.calls == 9
    assert [sample.at_ns for sample in sampler.samples] == [S, 4 * S, 7 * S]
    assert sampler.latest().clock_mhz == 8
    assert read(Broken()) is None


class Counts:
    """A source of a list of processes."""

    def __init__(self, *counts: int) -> None:
        self.counts = list(counts)

    def read(self) -> Reading | None:
        return Reading(processes=self.counts.pop(0))


class Streamed:
    """Readings that another process takes, every 10 s and two at once."""

    def __init__(self, clock: SimulatedClock) -> None:
        self.clock = clock

    def before(self) -> Reading | None:
        return None

    def after(self, at_ns: int) -> list[Sample]:
        times = [at + part for at in range(0, self.clock.monotonic_ns() + 1, 10 * S) for part in (0, 1)]
        return [Sample(at, Reading(power_mw=at + 1, processes=0)) for at in times if at > at_ns]


def test_processes_that_a_container_hides_are_unknown() -> None:
    """None before our own context is plausible; none after it means that the list tells nothing."""
    source, clock = Counts(0, 0, 2, 0), SimulatedClock()
    before = read(source)
    sampler = Sampler(source, clock, S, before)
    sampler.start()
    clock.sleep_ns(2 * S)
    sampler.stop()
    assert before == Reading(processes=0)
    assert [sample.reading.processes for sample in sampler.samples] == [None, 2, None]
    assert summary(sampler.samples[:1], before, 0, S).foreign_processes is None


def test_a_reading_that_another_process_took_counts_once_by_its_own_time() -> None:
    clock = SimulatedClock()
    clock.sleep_ns(5 * S)
    sampler = Sampler(Streamed(clock), clock, 2 * S, None)
    sampler.start()
    clock.sleep_ns(20 * S)
    sampler.stop()
    assert [sample.at_ns for sample in sampler.samples] == [10 * S, 10 * S + 1, 20 * S, 20 * S + 1]
    assert {sample.reading.processes for sample in sampler.samples} == {None}
    assert sampler.latest().power_mw == 20 * S + 2


def proc(folder: Path, stat: str, **processes: str) -> Path:
    (folder / "stat").write_text(stat + "\n")
    (folder / "self").symlink_to(str(os.getpid()))
    for pid, text in processes.items():
        (folder / pid.strip("p")).mkdir()
        (folder / pid.strip("p") / "stat").write_text(text)
    return folder


def test_load_of_the_node_and_our_own(tmp_path: Path) -> None:
    me = {f"p{os.getpid()}": f"{os.getpid()} (python (x) y) S 1 " + "0 " * 9 + "25 10 4 1"}
    root = proc(tmp_path, "cpu  100 5 20 800 10 1 2 62 50 0", p77="77 (w) R 1 " + "0 " * 9 + "40 2 0 0", **me)
    assert read_load([77], (), root) == LoadReading(total=1000, busy=128, steal=62, ours=82)
    assert read_load([4711], (), root) == LoadReading(total=1000, busy=128, steal=62, ours=40)


def test_only_the_cpus_that_may_be_used_are_looked_at(tmp_path: Path) -> None:
    """A neighbour on other CPUs takes nothing; a container may show its own CPUs alone, counted from 0."""
    every = "cpu 90 0 0 30 0 0 0 0\ncpu0 40 0 0 0 0 0 0 0\ncpu1 40 0 0 0 0 0 0 0\ncpu7 10 0 0 30 0 0 0 0"
    root = proc(tmp_path, every)
    assert read_load([], {7}, root) == LoadReading(total=40, busy=10, steal=0, ours=0)
    assert read_load([], {0, 7}, root) == LoadReading(total=80, busy=50, steal=0, ours=0)
    assert read_load([], {6, 7}, root) == LoadReading(total=120, busy=90, steal=0, ours=0)


def test_a_procfs_of_another_pid_namespace_says_nothing(tmp_path: Path) -> None:
    root = proc(tmp_path, "cpu  100 5 20 800 10 1 2 62 50 0")
    (root / "self").unlink()
    (root / "self").symlink_to(str(os.getpid() + 1))
    assert read_load([], (), root) is None


OURS = """
import subprocess, sys, time
from bench.telemetry import read_load
burn = "import time\\nwhile time.process_time() < 0.4: pass\\n"
wait = "print(flush=True); input()"
worker = subprocess.Popen([sys.executable, "-c", burn + wait], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
first = read_load([worker.pid])
begun = time.process_time()
worker.stdout.readline()  # it has computed, and lives
subprocess.run([sys.executable, "-c", burn], check=True)  # a child of ours that has ended
while time.process_time() < begun + 0.4:
    pass
last = read_load([worker.pid])
worker.communicate(b"end")
print(last.ours - first.ours)
"""


@pytest.mark.parametrize("isolated", [(), ("unshare", "--pid", "--fork", "--mount-proc")], ids=["here", "namespace"])
def test_our_own_load_is_that_of_this_process_its_workers_and_their_children(isolated: tuple[str, ...]) -> None:
    if isolated and os.geteuid():
        assert not os.environ.get("CI"), "a PID namespace needs root"
        pytest.skip("a PID namespace needs root")
    ran = subprocess.run([*isolated, sys.executable, "-c", OURS], capture_output=True, text=True, check=True)
    assert int(ran.stdout) >= 100  # ticks of 10 ms, of three times 0.4 s


def test_load_of_others_before_a_measurement_is_the_least_of_some_looks() -> None:
    """What ends by itself is no load, and one look is enough where there is none."""

    def others(*busy: int) -> tuple[int | None, int]:
        readings = iter([0, *(sum(busy[: i + 1]) for i in range(len(busy)) for _ in (0, 1))])
        clock, looks = SimulatedClock(), 0

        def look() -> LoadReading:
            nonlocal looks
            looks += 1
            return LoadReading(looks // 2 * 1000, next(readings), 0, 0)

        return other_load_now(clock, look), looks // 2

    assert others(380, 400, 500) == (380_000, 3)
    assert others(380, 50, 500) == (50_000, 2)
    assert others(0, 500, 500) == (0, 1)
    assert other_load_now(SimulatedClock(), lambda: None) is None


def test_load_between_two_readings() -> None:
    first, last = LoadReading(1000, 100, 10, 90), LoadReading(2000, 900, 60, 690)
    assert load_between(first, last) == (50_000, 200_000)
    assert load_between(first, first) == (None, None)
    assert load_between(None, last) == (None, None)
    assert load_between(first, LoadReading(2000, 500, 10, 690)) == (0, 0)  # ticks are coarse: never below nothing


@pytest.mark.parametrize("stat", ["", "cpu", "cpu a b c d e f g h"])
def test_a_kernel_that_does_not_tell_its_load(tmp_path: Path, stat: str) -> None:
    assert read_load([], (), proc(tmp_path, stat)) is None
    assert read_load([], (), tmp_path / "absent") is None


def test_a_look_that_shows_nothing_is_no_reading() -> None:
    """It leaves no row in the samples, from which a verifier counts; what never shows anything was looked at."""
    mixed = [Reading(power_mw=100), Reading(), Reading(power_mw=300)]
    watch = summary(samples(mixed), None, 0, 2 * S)
    assert (watch.samples, watch.power_samples, watch.power_mean_mw) == (2, 2, 200)
    assert summary(samples([Reading()] * 3), None, 0, 2 * S).samples == 3
