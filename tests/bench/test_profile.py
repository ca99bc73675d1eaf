from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from bench.errors import DeviceError, InputError
from bench.profile import (
    Trial,
    batch_of,
    check_profile,
    choose_fixed,
    choose_tuned,
    chosen_workloads,
    counted_ns,
    load_profile,
    longest_launch_ns,
    needed_bytes,
)
from bench.record import (
    MINIMUM_WINDOW_NS,
    Kernels,
    Profile,
    Shape,
    Workload,
    config_names,
    config_path,
    least_operand_bytes,
)
from certify.policy.policies import load_policy
from tests.bench.fleet import simulate

SMOKE = load_profile("smoke")
FP64, TUNED = Workload("fp64"), Workload("fp64", "tuned")


def cube(n: int) -> Shape:
    return Shape(m=n, n=n, k=n)


def with_shapes(*sizes: int) -> Profile:
    shapes = {"fp64": tuple(cube(n) for n in sizes)}
    launch = {"window_ns": 4_000_000_000, "launches_per_subwindow": 20}  # 6.7 ms at most
    return replace(SMOKE, shapes=shapes, tuned_shapes=shapes, **launch)


@pytest.mark.parametrize("name", config_names("profiles"))
def test_every_installed_profile_keeps_what_it_promises(name: str) -> None:
    profile = load_profile(name)
    assert profile.profile == name == profile.grade
    assert counted_ns(profile) >= MINIMUM_WINDOW_NS[profile.grade]
    assert {"fp16", "fp32", "fp64", "bf16"} == set(profile.shapes)
    assert profile.telemetry_interval_ns <= 500_000_000  # R13: at least one a second, with room for a slow reading
    assert profile.warmup_ns >= 4 * 16 * profile.stagger_ns  # sixteen devices ramp up in a quarter of it
    samples = profile.warmup_ns // profile.telemetry_interval_ns
    assert samples >= 3 * profile.steady_state.min_samples // 2
    for shapes in profile.shapes.values():
        assert len(set(shapes)) == len(shapes)


def test_there_is_one_profile_for_each_grade() -> None:
    assert config_names("profiles") == ["certification", "smoke", "standard"]


def test_smoke_has_room_for_a_shape_that_costs_little_of_a_processors_rate() -> None:
    def of_two_cores(shape: Shape) -> int:
        return 2 * shape.m * shape.n * shape.k * 10 // 1_120  # 112 GFLOP/s

    assert choose_fixed(SMOKE, FP64, 2**26, None, of_two_cores).shape == cube(896)
    # R10: the launches that are cut at both edges cost less than 1 % of the window
    assert 2 * longest_launch_ns(SMOKE) * 100 < SMOKE.window_ns


@pytest.mark.parametrize(
    ("grade", "window_ns"),
    [("certification", 10**9), ("certification", 600 * 10**9), ("standard", 60 * 10**9), ("smoke", 3 * 10**9)],
)
def test_a_window_that_may_count_less_than_its_grade_is_refused(tmp_path: Path, grade: str, window_ns: int) -> None:
    text = config_path("profiles", "smoke.yaml").read_text()
    text = text.replace("grade: smoke", f"grade: {grade}").replace(
        "window_ns: 4_000_000_000", f"window_ns: {window_ns}"
    )
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as refused:
        load_profile(str(file))
    assert refused.value.code == "profile-below-grade"
    assert str(file) in str(refused.value)


@pytest.mark.parametrize(
    "broken",
    [
        replace(SMOKE, shapes={"fp64": (cube(64),)}),
        replace(SMOKE, measured=UNSET),
        replace(SMOKE, measured={}),
        replace(SMOKE, measured={"edge": ("fp16", "fp16")}),
        replace(SMOKE, measured={"edge": ("fp16-tuned",)}),
        replace(SMOKE, measured={"edge": ("fp16",)}, shapes={"fp16": ()}),
        replace(SMOKE, measured={"edge": ("fp16",)}, shapes={"fp16": (Shape(m=64, n=31, k=64),)}),
        replace(SMOKE, kernels={"cpu": Kernels(figure="gemm-numpy", companions={"fp16": ("triad", "triad")})}),
    ],
)
def test_a_profile_with_nothing_to_run_is_refused(broken: Profile) -> None:
    with pytest.raises(InputError) as refused:
        check_profile(broken, "x")
    assert refused.value.code == "profile-invalid"


def test_what_is_measured_is_what_was_asked_for_in_that_order_else_what_counts_in_the_class() -> None:
    def chosen(pool_class: str, wanted: str = "", also: str = "") -> str:
        return " ".join(map(str, chosen_workloads(load_profile("standard"), pool_class, wanted.split(), also.split())))

    assert chosen("intelligent") == chosen("edge") == "fp16"
    assert chosen("supercomputing") == "fp64 fp64-solve"
    assert chosen("general") == "fp32"
    assert chosen("intelligent", also="fp64 fp16-tuned fp16") == "fp16 fp64 fp16-tuned"
    assert chosen("intelligent", "fp64-tuned bf16", "fp32") == "fp64-tuned bf16 fp32"


@pytest.mark.parametrize(
    ("pool_class", "wanted", "code"),
    [("ai", "", "usage"), ("intelligent", "fp8", "unknown-precision"), ("edge", "fp16 fp16", "unknown-precision")],
)
def test_what_the_profile_does_not_measure_is_refused(pool_class: str, wanted: str, code: str) -> None:
    with pytest.raises(InputError) as refused:
        chosen_workloads(load_profile("standard"), pool_class, wanted.split(), [])
    assert refused.value.code == code


def test_what_the_installed_policies_count_is_what_the_profiles_measure_first() -> None:
    for policy in map(load_policy, config_names("policies")):
        for pool_class, counting in policy.counting.items():
            for profile in ("certification", "standard"):
                solve = (Workload("fp64", "solve"),) if pool_class == "supercomputing" else ()  # shown beside it
                assert load_profile(profile).workloads_of(pool_class) == (counting.workload, *solve)
            assert counting.workload in SMOKE.workloads_of(pool_class)


def test_operands_where_the_cache_is_unknown() -> None:
    gpu = simulate(profile=SMOKE, precisions=("fp16",)).models[0]
    assert least_operand_bytes(gpu) == 2 * (gpu.cache_bytes or 0)
    assert least_operand_bytes(replace(gpu, cache_bytes=None)) == 2**30
    assert least_operand_bytes(replace(gpu, cache_bytes=None, kind="cpu")) == 256 * 2**20


def test_memory_of_a_shape_holds_all_sets_and_products() -> None:
    assert needed_bytes(cube(1024), FP64, 0) == 2 * 3 * 2**23 * 3 // 2
    assert needed_bytes(cube(1024), FP64, 2**30) == 64 * 3 * 2**23 * 3 // 2


def test_batches_fill_half_of_the_longest_launch() -> None:
    longest = longest_launch_ns(SMOKE)
    assert batch_of(SMOKE, longest) == 1
    assert batch_of(SMOKE, longest // 100) == 50
    assert batch_of(SMOKE, 0) == longest // 2


class Machine:
    """A device with a rate for each size, GFLOP/s; unlisted sizes must never be tried."""

    def __init__(self, **gflop_s: int) -> None:
        self._rates = {int(name.strip("n")): rate for name, rate in gflop_s.items()}
        self.tried: list[int] = []

    def trial(self, shape: Shape) -> int | None:
        self.tried.append(shape.n)
        if self._rates[shape.n] == 0:  # too large for the memory after all
            return None
        return 2 * shape.n**3 // self._rates[shape.n]


def test_the_largest_shape_that_is_fast_enough_is_chosen() -> None:
    machine = Machine(n128=6, n256=21, n512=41, n1024=80)
    chosen = choose_fixed(with_shapes(1024, 128, 512, 256), FP64, 0, None, machine.trial)
    assert chosen.shape == cube(512)  # 6.5 ms at 41 GFLOP/s; 1024 would take 52 ms by the rate of 512
    assert machine.tried == [128, 256, 512]
    assert chosen == Trial(cube(512), 2 * 512**3 // 41)


def test_a_device_that_is_slow_on_large_shapes_never_runs_them() -> None:
    machine = Machine(n128=40, n256=2, n512=2)
    chosen = choose_fixed(with_shapes(128, 256, 512, 1024), FP64, 0, None, machine.trial)
    assert chosen.shape == cube(128)  # 256 seemed right by the rate of 128, and was not
    assert machine.tried == [128, 256]


def test_a_fast_device_skips_shapes() -> None:
    rates = {f"n{2**i}": 10**6 for i in range(7, 15)}
    machine = Machine(**rates)
    chosen = choose_fixed(with_shapes(*(2**i for i in range(7, 15))), FP64, 0, None, machine.trial)
    assert chosen.shape == cube(8192)
    assert machine.tried == [128, 8192, 16384]  # the last might have been twice as fast


def test_memory_limits_the_shape() -> None:
    machine = Machine(n128=10**6, n1024=10**6)
    chosen = choose_fixed(with_shapes(128, 1024, 8192), FP64, 0, 10**8, machine.trial)
    assert chosen.shape == cube(1024)
    with pytest.raises(DeviceError) as refused:
        choose_fixed(with_shapes(8192), FP64, 0, 10**8, machine.trial)
    assert refused.value.code == "no-shape"


def test_the_smallest_shape_may_be_slower_than_wished_while_r4_holds() -> None:
    longest = longest_launch_ns(with_shapes(128))
    slow = Trial(cube(128), 4 * longest)
    assert choose_fixed(with_shapes(128), FP64, 0, None, lambda shape: slow.launch_ns).shape == cube(128)
    with pytest.raises(DeviceError) as refused:
        choose_fixed(with_shapes(128), FP64, 0, None, lambda shape: 6 * longest)
    assert refused.value.code == "no-shape"


def test_a_shape_that_does_not_fit_after_all_makes_room_for_a_smaller_one() -> None:
    machine = Machine(n128=10**6, n1024=10**6, n2048=10**6, n8192=0)
    chosen = choose_fixed(with_shapes(128, 1024, 2048, 8192), FP64, 0, None, machine.trial)
    assert chosen.shape == cube(2048)
    with pytest.raises(DeviceError) as refused:
        choose_fixed(with_shapes(128), FP64, 0, None, Machine(n128=0).trial)
    assert refused.value.code == "out-of-memory"


def test_the_tuned_shape_is_the_fastest_of_those_tried_and_not_the_largest() -> None:
    machine = Machine(n256=30, n384=45, n512=41)
    seen = Trial(cube(256), 2 * 256**3 // 30)
    chosen = choose_tuned(with_shapes(256, 384, 512, 4096), TUNED, 0, None, machine.trial, seen)
    assert chosen.shape == cube(384)
    assert machine.tried == [512, 384, 256]  # the largest first, whose memory the others are tried in; 4096 never


def test_a_tuned_shape_that_is_too_slow_or_too_large_is_not_chosen() -> None:
    seen = Trial(cube(256), 2 * 256**3 // 30)
    machine = Machine(n256=30, n384=0, n512=4)
    assert choose_tuned(with_shapes(256, 384, 512), TUNED, 0, None, machine.trial, seen).shape == cube(256)
    with pytest.raises(DeviceError) as refused:
        choose_tuned(with_shapes(256), TUNED, 0, None, Machine(n256=0).trial, seen)
    assert refused.value.code == "no-shape"


def test_the_fastest_shapes_are_tried_again_for_longer_before_one_is_chosen() -> None:
    burst = Machine(n128=29, n256=30, n384=45, n512=41)
    loaded = Machine(n256=28, n384=33, n512=40)
    seen = Trial(cube(256), 2 * 256**3 // 30)
    chosen = choose_tuned(with_shapes(128, 256, 384, 512), TUNED, 0, None, burst.trial, seen, loaded.trial)
    assert chosen.shape == cube(512)
    assert sorted(loaded.tried) == [256, 384, 512]  # 128 was the slowest of four
