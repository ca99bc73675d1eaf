"""The first launch of a shape loads or compiles, for 20 s on some stacks: it is recorded and changes nothing."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from msgspec.structs import replace

from bench.clock import SimulatedClock
from bench.devices.fake import Fake
from bench.devices.opened_fake import FakeKernel
from bench.engine.compute import DeviceRequest
from bench.engine.schedule import UtcWindow
from bench.engine.session import Session, WorkloadFacts
from bench.profile import MOST_SETS, choose_fixed, load_profile, operand_sets
from bench.record import Choice, Kernels, Precision, Profile, Shape, Workload, config_names
from bench.reference.measurements import ReferenceTask, launch_once, measure_reference
from bench.scenario import Scenario, Script
from bench.telemetry import Sampler
from bench.trials import FAR_TOO_LONG, Trials
from kernels.base import GemmProblem
from tests.bench.fleet import CACHE_BYTES, NODE, simulate

SLOW_NS = 20 * 10**9
SMOKE = load_profile("smoke")
COUNTED: tuple[Precision, ...] = ("fp16", "fp64")
RATES: dict[Precision, int] = {"fp16": 300_000, "bf16": 300_000, "fp32": 40_000, "fp64": 40_000}


def opened(
    profile: Profile, first_launch_ns: int = 0, rates: dict[Precision, int] | None = None, **fields: Any
) -> Session:
    script = Script(rate_gflop_s=rates or RATES, first_launch_ns=first_launch_ns)
    backend = Fake(Scenario(default=script, **{"cache_bytes": CACHE_BYTES, **fields}))
    (found,) = backend.find("1")
    clock = SimulatedClock()
    return Session(DeviceRequest(found, profile, "ab" * 16, NODE), backend.open(found, clock), clock)


def wanted(profile: Profile) -> list[Workload]:
    """Return FP16 and FP64 in each choice of a shape that the profile has."""
    every = (Workload(p, c) for p in COUNTED for c in get_args(Choice))
    return [workload for workload in every if profile.registered(workload)]


def choices(first_launch_ns: int, profile: Profile) -> list[WorkloadFacts]:
    session = opened(profile, first_launch_ns)
    return [session.prepare(workload) for workload in wanted(profile)]


@pytest.mark.parametrize("name", config_names("profiles"))
def test_a_first_launch_of_20_s_chooses_the_same_shapes(name: str) -> None:
    profile = load_profile(name)
    assert choices(SLOW_NS, profile) == choices(0, profile)


def test_a_first_launch_is_recorded_in_the_figure_and_for_each_trial() -> None:
    session = opened(SMOKE, SLOW_NS)
    facts = session.prepare(Workload("fp16"))
    size = f"{facts.m}x{facts.n}x{facts.k}_ns"
    trials = {row.quantity: int(row.value) for row in session.rows if row.phase == "trial"}
    assert trials[f"first_launch_{size}"] >= SLOW_NS > 1000 * trials[f"launch_{size}"]
    begins = {name.removeprefix("first_") for name in trials if name.startswith("first_")}
    assert begins == {name for name in trials if name.startswith("launch_")}  # every shape that was tried has one
    now = session._clock.utc_ns()
    opens = now + SMOKE.warmup_ns
    window = UtcWindow(now, opens, opens + SMOKE.window_ns, opens + SMOKE.window_ns + SMOKE.guard_ns)
    session.measure(Workload("fp16"), window)
    figure = session.conclude(Workload("fp16")).figure
    assert (figure.first_launch_ns or 0) >= SLOW_NS
    assert figure.sustained_mflop_s == pytest.approx(300_000_000, rel=0.002)  # nothing of it in the window
    assert figure.warmup_ns == pytest.approx(SMOKE.warmup_ns, rel=0.01)


def test_the_record_has_it_for_each_device() -> None:
    slow = Scenario(cache_bytes=CACHE_BYTES, devices={"1": {"first_launch_ns": 10**9}})
    (measurement,) = simulate(slow, 2, SMOKE, ("fp16",)).measurements
    first, second = measurement.first_launch_ns
    assert first is not None
    assert second is not None
    assert first < 10**8 < 10**9 <= second


class Slow:
    """Operands on which every launch but the first takes long."""

    problem = GemmProblem("gemm-slow", "fp16", 64, 64, 64)

    def __init__(self, clock: SimulatedClock, first_ns: int, other_ns: int) -> None:
        self._clock = clock
        self._first_ns = first_ns
        self._other_ns = other_ns
        self.launches = 0

    def launch(self, first: int, count: int) -> None:
        self._clock.sleep_ns(count * self._other_ns if self.launches else self._first_ns)
        self.launches += count

    def synchronize(self) -> None: ...

    def close(self) -> None: ...


def test_a_device_that_is_truly_slow_is_judged_by_its_second_launch() -> None:
    clock = SimulatedClock()
    longest_ns = 10**6
    slow = Slow(clock, 1, FAR_TOO_LONG * longest_ns + 1)
    trials = Trials(lambda shape: slow, clock, longest_ns)
    shape = Shape(m=64, n=64, k=64)
    assert trials(shape) == FAR_TOO_LONG * longest_ns + 1
    assert slow.launches == 2
    assert trials.first_launch_ns == {shape: 1}


# The rates of an integrated GPU, an inference card, an A100 and a B200.
@pytest.mark.parametrize("gflop_s", [1_000, 60_000, 300_000, 1_700_000])
@pytest.mark.parametrize("name", config_names("profiles"))
def test_an_unknown_cache_asks_for_no_thousands_of_operand_sets(
    name: str, gflop_s: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = load_profile(name)
    tried: list[Any] = []
    original = FakeKernel.prepare_trial

    def prepare_trial(kernel: FakeKernel, problem: GemmProblem, target: str) -> Any:
        tried.append(original(kernel, problem, target))
        return tried[-1]

    monkeypatch.setattr(FakeKernel, "prepare_trial", prepare_trial)
    session = opened(profile, rates=dict.fromkeys(RATES, gflop_s), cache_bytes=None)
    facts = [session.prepare(workload) for workload in wanted(profile)]
    for one in facts:
        assert one.operand_bytes >= 2**30  # R3 stands
        assert one.operand_sets <= MOST_SETS
    assert {one.operand_sets for one in tried} == {2}  # and no small shape that is only tried takes 1 GiB


def test_a_device_too_slow_for_few_sets_takes_more_of_them_rather_than_none() -> None:
    small, large = Shape(m=256, n=256, k=256), Shape(m=2048, n=2048, k=2048)
    profile = replace(SMOKE, shapes={"fp16": (small, large)})
    tried: list[Shape] = []
    fp16 = Workload("fp16")

    def trial(shape: Shape) -> int:
        tried.append(shape)
        return 2 * shape.m**3 // 10  # 10 GFLOP/s

    assert operand_sets(small, fp16, 2**30) > MOST_SETS >= operand_sets(large, fp16, 2**30)
    assert choose_fixed(profile, fp16, 2**30, None, trial, most_sets=MOST_SETS).shape == small
    assert tried == [large, small]


class Loading:
    """A companion whose first launch compiles."""

    launch_flop, launch_bytes = 10**6, 0

    def __init__(self, clock: SimulatedClock) -> None:
        self._clock = clock
        self._loaded = False

    def launch(self, count: int) -> None:
        self._clock.sleep_ns(count * 10**6 + (0 if self._loaded else SLOW_NS))
        self._loaded = True

    def synchronize(self) -> None: ...

    def verify(self) -> bool:
        return True

    def close(self) -> None: ...


def test_the_first_launch_of_a_reference_kernel_has_no_part_in_its_time() -> None:
    clock = SimulatedClock()
    stand = ReferenceTask("issue-mma", "ceiling", "fp16", Loading(clock), None)
    launch_once(stand)
    source = opened(SMOKE)._source
    ends = clock.utc_ns() + 10 * 10**9
    figure = measure_reference(stand, "fake:0", "ab" * 16, clock, Sampler(source, clock, 10**9, None), ends).figure
    assert figure.trouble is None
    assert figure.elapsed_ns == pytest.approx(10 * 10**9, rel=0.01)
    assert figure.rate_mflop_s == 10**6 * 1000 // 10**6


def test_a_path_is_launched_before_the_window_that_it_stands_beside() -> None:
    beside = replace(
        SMOKE,
        companion_ns=10**9,
        kernels={"fake": Kernels(figure="gemm-fake", companions={"fp16": ("gemm-fake",)})},
    )
    record = simulate({"first_launch_ns": 2 * 10**9}, 1, beside, ("fp16",))
    (path,) = record.companions
    (figure,) = path.figures()
    assert figure.trouble is None
    assert figure.elapsed_ns > 9 * 10**8


def test_shapes_of_so_many_units_are_for_devices_that_have_them() -> None:
    def chosen(units: int | None, precision: Precision) -> tuple[int, int, int]:
        session = opened(load_profile("certification"), rates=dict.fromkeys(RATES, 700_000), units=units)
        facts = session.prepare(Workload(precision))
        return facts.m, facts.n, facts.k

    cube = (8192, 8192, 8192)
    for precision in ("fp16", "fp64"):
        assert chosen(304, precision) == (9728, 8192, 8192)  # MI300X
        assert chosen(132, precision) == (8448, 8192, 8192)  # Hopper
        assert chosen(108, precision) == chosen(None, precision) == cube
