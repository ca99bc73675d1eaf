"""What the loops' sums must be, against an emulation of the instructions by CUTLASS's description of their layouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels import triad
from kernels.base import PRECISIONS, REFERENCES, Precision, load_reference
from kernels.issue_rate import (
    INSTRUCTIONS,
    LOOPS,
    MMA_FP16,
    WGMMA_FP16,
    IssueFma,
    IssueMma,
    IssueWgmma,
    Loop,
    draw,
    expected,
    in_registers,
)
from kernels.operands import Array

from .fake_cupy import FakeCupy
from .machine_code import Nvrtc

# Strides of (thread % 4, thread // 4, ...) and of the bits of the value's index, lowest first, in a matrix whose first
# index is M (A, D) or N (B) and runs fastest; from CUTLASS's MMA traits for the same instructions.
TRAITS: dict[str, dict[str, tuple[tuple[int, ...], tuple[int, ...]]]] = {
    "fp16_m16n8k16": {
        "a": ((32, 1), (16, 8, 128)),
        "b": ((16, 1), (8, 64)),
        "d": ((32, 1), (16, 8)),
    },
    "fp64_m8n8k4": {"a": ((8, 1), ()), "b": ((8, 1), ()), "d": ((16, 1), (8,))},
    "fp64_m16n8k16": {
        "a": ((16, 1), (8, 64, 128)),
        "b": ((8, 1), (32, 64)),
        "d": ((32, 1), (16, 8)),
    },
    "fp16_m64n256k16": {
        "a": ((128, 1, 16), (64, 8, 512)),
        "d": ((128, 1, 16), (64, 8, 512, 1024, 2048, 4096, 8192)),
    },
}
SMALL = [(loop, 2 * max(32, INSTRUCTIONS[loop.instruction].threads)) for loop in LOOPS]


def place(strides: tuple[tuple[int, ...], tuple[int, ...]], first: int, thread: int, value: int) -> tuple[int, int]:
    """Return the two indexes of one value of one thread by its strides."""
    threads = (thread % 4, thread // 4 % 8, thread // 32)
    at = sum(part * stride for part, stride in zip(threads, strides[0], strict=False))
    at += sum((value >> bit & 1) * stride for bit, stride in enumerate(strides[1]))
    return at % first, at // first


def emulated(loop: Loop, a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums by running the instruction on every group of threads, value by value."""
    instruction = INSTRUCTIONS[loop.instruction]
    if loop.instruction == "fma":
        return np.asarray(a * b * loop.times)
    traits, width = TRAITS[loop.instruction], instruction.threads
    sums = np.empty((loop.accumulators, len(a), instruction.d_values))
    for start in range(0, len(a), width):
        one = np.full((instruction.m, instruction.k), np.nan)
        for thread, value in np.ndindex(width, a.shape[1]):
            one[place(traits["a"], instruction.m, thread, value)] = a[start + thread, value]
        for index in range(loop.accumulators):
            if b.ndim == 2:  # the tile in shared memory: core matrices of 8 columns (N) by 8 (K)
                other = np.array([[b[n % 8, k % 8] for k in range(instruction.k)] for n in range(instruction.n)])
            else:
                other = np.full((instruction.n, instruction.k), np.nan)
                for thread, value in np.ndindex(width, b.shape[2]):
                    other[place(traits["b"], instruction.n, thread, value)] = b[index, start + thread, value]
            product = loop.times * np.einsum("mk,nk->mn", one, other)
            for thread, value in np.ndindex(width, instruction.d_values):
                sums[index, start + thread, value] = product[place(traits["d"], instruction.m, thread, value)]
    return sums


@pytest.mark.parametrize(("loop", "threads"), SMALL, ids=lambda part: getattr(part, "function", ""))
def test_the_sums_are_what_the_layouts_say(loop: Loop, threads: int) -> None:
    values = draw(loop, threads, 3)
    meant = emulated(loop, values.a.astype(np.float64), values.b.astype(np.float64))
    np.testing.assert_array_equal(expected(INSTRUCTIONS[loop.instruction], values, loop.times), meant)


@pytest.mark.parametrize(("loop", "threads"), SMALL, ids=lambda part: getattr(part, "function", ""))
def test_every_sum_is_exact_in_its_accumulator(loop: Loop, threads: int) -> None:
    instruction, values = INSTRUCTIONS[loop.instruction], draw(loop, threads, 3)
    assert loop.limit**2 * instruction.k * loop.times < (2**40 if loop.precision == "fp64" else 2**22)
    for part in values:
        assert part.size
        assert np.abs(part).min() >= 1
        assert np.abs(part).max() <= loop.limit
    assert not np.array_equal(values.a, draw(loop, threads, 4).a)
    np.testing.assert_array_equal(values.b, draw(loop, threads, 3).b)


@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.function)
def test_the_work_is_that_of_every_instruction(loop: Loop) -> None:
    instruction = INSTRUCTIONS[loop.instruction]
    each = {"fp16_m16n8k16": 4096, "fp64_m8n8k4": 512, "fp64_m16n8k16": 4096, "fp16_m64n256k16": 524_288, "fma": 2}
    groups = 3 * loop.threads // {"fp16_m64n256k16": 128, "fma": 1}.get(loop.instruction, 32)
    assert instruction.flop == each[loop.instruction]
    assert loop.flop(3) == groups * loop.accumulators * loop.unroll * loop.rounds * each[loop.instruction]


def test_no_result_of_wgmma_depends_on_the_descriptor_s_strides_or_direction() -> None:
    core = draw(WGMMA_FP16, 128, 5).b
    np.testing.assert_array_equal(core, core.T)
    tile = np.frombuffer(in_registers(core.reshape(1, -1), "fp16").tobytes() * 64, np.float16)  # as the kernel lays it
    for along_k, along_n in ((64, 128), (128, 64), (2048, 64), (64, 64)):  # elements between core matrices
        n, k = np.indices((256, 16))
        start = (k // 8 * along_k + n // 8 * along_n) % len(tile)
        for row, column in ((n % 8, k % 8), (k % 8, n % 8)):
            np.testing.assert_array_equal(tile[start + 8 * row + column], np.tile(core, (32, 2)))


def fragments(registers: Array, values: int, precision: Precision) -> NDArray[np.float64]:
    """Undo `in_registers` as a thread reads its registers: element [i][thread]."""
    columns = np.ascontiguousarray(np.moveaxis(registers, -2, -1))
    halves = columns.view(np.float16) if precision == "fp16" else columns
    assert halves.shape[-1] == values
    return halves.astype(np.float64)


def device(fake: FakeCupy, loop: Loop, spoil: Callable[[Array], object] = lambda sums: None) -> None:
    """Let the fake compute a loop as the device must, and then spoil it."""

    def launch(function: str, arguments: tuple[Any, ...]) -> None:
        a, b, out, rounds = (np.asarray(argument) for argument in arguments)
        assert function == loop.function
        instruction = INSTRUCTIONS[loop.instruction]
        if instruction.b_values:
            other = fragments(b, instruction.b_values, loop.precision)
        else:
            other = fragments(b, 64, loop.precision).reshape(8, 8)
        done = loop._replace(rounds=int(rounds))
        sums = emulated(done, fragments(a, instruction.a_values, loop.precision), other)
        out[...] = np.moveaxis(sums, -1, -2)
        spoil(out)

    fake.launch = launch


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeCupy:
    made = FakeCupy()
    made.nvrtc = Nvrtc()
    made.attributes["MultiProcessorCount"] = 1
    return made.install(monkeypatch)


CASES: list[tuple[str, Precision, str, Loop]] = [
    (name, loop.precision, "90" if "wgmma" in name or "m16n8k16" in loop.instruction else "80", loop)
    for loop in LOOPS
    for name in REFERENCES
    if loop.file == name.replace("-", "_") + ".cu"
]


@pytest.mark.parametrize(
    ("name", "precision", "capability", "loop"), CASES, ids=lambda part: getattr(part, "function", "")
)
def test_a_launch_is_believed_only_with_every_sum(
    fake: FakeCupy, name: str, precision: Precision, capability: str, loop: Loop
) -> None:
    fake.capability = capability
    reference = load_reference(name)
    assert (reference.name, reference.role) == (name, "ceiling")
    prepared = reference.prepare(precision, "cuda:0", 11)
    assert (prepared.launch_flop, prepared.launch_bytes) == (loop.flop(1), 0)
    assert not prepared.verify()  # nothing was launched
    device(fake, loop)
    prepared.launch(1)
    prepared.synchronize()
    assert fake.launched == [(loop.function, (1,), (loop.threads,))]
    assert prepared.verify()
    assert not prepared.verify()  # poisoned: needs a launch of its own

    def swap(sums: Array) -> None:
        sums[..., [0, 1]] = sums[..., [1, 0]]

    def stop_short(sums: Array) -> None:
        sums *= 1 - 1 / loop.times

    def leave_out(sums: Array) -> None:
        sums[-1, -1, -1] = np.nan

    for spoil in (swap, stop_short, leave_out):
        device(fake, loop, spoil)
        prepared.launch(1)
        assert not prepared.verify(), spoil.__name__
    prepared.close()


@pytest.mark.parametrize(
    ("reference", "precision", "capability", "said"),
    [
        (IssueMma(), "fp16", "80", MMA_FP16),
        (IssueMma(), "fp16", "120", MMA_FP16),
        (IssueMma(), "bf16", "80", "issue-mma measures fp16 and fp64, not bf16"),
        (IssueMma(), "fp16", "75", "compute capability 7.5 lacks these shapes of mma.sync, which began with 8.0"),
        (
            IssueMma(),
            "fp16",
            "100",
            "mma.sync is not the ceiling of compute capability 10.0: tcgen05 is, which petaseal does not measure",
        ),
        (IssueMma(), "fp64", "86", "compute capability 8.6 is not known to have FP64 tensor cores"),
        (IssueWgmma(), "fp16", "90", WGMMA_FP16),
        (IssueWgmma(), "fp16", "100", "wgmma exists on compute capability 9.0 only"),
        (IssueWgmma(), "fp64", "90", "issue-wgmma measures fp16, not fp64"),
        (IssueFma(), "fp16", "90", "issue-fma measures fp64 and fp32, not fp16"),
    ],
)
def test_each_loop_runs_where_it_is_the_ceiling(
    reference: IssueMma | IssueWgmma | IssueFma, precision: Precision, capability: str, said: Loop | str
) -> None:
    assert reference.loop(precision, capability) == said


def test_the_full_rate_shape_of_fp64_is_chosen() -> None:
    chosen = {c: IssueMma().loop("fp64", c) for c in ("80", "90", "100")}
    names = {c: loop.instruction for c, loop in chosen.items() if isinstance(loop, Loop)}
    assert names == {"80": "fp64_m8n8k4", "90": "fp64_m16n8k16", "100": "fp64_m8n8k4"}


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_reference_kernel_refuses_a_cpu_in_one_clause(name: str, precision: Precision) -> None:
    reference = load_reference(name)
    said = reference.supports(precision, "cpu")
    assert said
    assert "\n" not in said
    with pytest.raises(ValueError, match=f"{name} does not measure {precision} on cpu: "):
        reference.prepare(precision, "cpu", 1)


def test_a_kernel_that_does_not_compile_is_a_reason(fake: FakeCupy) -> None:
    fake.capability = "999"
    said = IssueFma().supports("fp64", "cuda:0")
    assert said is not None
    assert said.startswith("NVRTC does not compile issue_fma.cu for sm_999: ")


def test_the_triad_is_believed_only_with_every_element(fake: FakeCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triad, "PERIOD", 1021)
    monkeypatch.setattr(triad, "REPEATS", 6)
    fake.attributes["L2CacheSize"] = 8 * 1021
    wrong: list[int] = []

    def launch(function: str, arguments: tuple[Any, ...]) -> None:
        a, b, c, scale, pairs = (np.asarray(argument) for argument in arguments)
        assert (function, int(pairs)) == ("triad_fp64", 3 * 1021)
        a[...] = b + scale * c
        for where in wrong:
            a[where] = np.nextafter(a[where], np.inf)

    fake.launch = launch
    reference = load_reference("triad")
    assert (reference.role, reference.supports("fp64", "cuda:0")) == ("bandwidth", None)
    assert reference.supports("fp16", "cuda:0") == "triad measures fp64, not fp16"
    prepared = reference.prepare("fp64", "cuda:0", 5)
    assert (prepared.launch_flop, prepared.launch_bytes) == (0, 3 * 8 * 6 * 1021)
    assert not prepared.verify()
    prepared.launch(1)
    assert fake.launched[-1] == ("triad_fp64", (-(-3 * 1021 // 256),), (256,))
    assert prepared.verify()
    assert not prepared.verify()
    for where in (0, -1):
        wrong[:] = [where]
        prepared.launch(1)
        assert not prepared.verify()
    prepared.close()


@pytest.mark.parametrize(
    ("free_bytes", "cache_bytes", "times"),
    [
        (80 << 30, 50 << 20, 128),
        (2 << 30, 50 << 20, 42),
        (1 << 30, 50 << 20, None),
        (1 << 24, 1 << 20, None),
        (3 * 8 * triad.PERIOD * 8, 4 << 20, 4),
    ],
)
def test_the_arrays_fit_the_memory_and_not_the_cache(free_bytes: int, cache_bytes: int, times: int | None) -> None:
    assert triad.repeats(free_bytes, cache_bytes) == times
