"""How fast the silicon issues: register-only loops whose sums are all known exactly (references of role "ceiling").

A rate is believed only with its sums: each thread multiplies small integers that were drawn from the seed, adds the
products so often that the sums still fit, and writes every sum out. What they must be follows from the layouts of the
fragments in the PTX ISA (Matrix fragments for mma and wgmma), which `INSTRUCTIONS` states and `expected` applies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels import cuda_module
from kernels.base import Precision, Role
from kernels.operands import Array

Index = NDArray[np.intp]
Place = Callable[[Index, Index, Index], tuple[Index, Index]]  # (thread // 4, thread % 4, value) -> row, column
FP64_TENSOR = frozenset({"80", "90", "100"})  # compute capabilities with FP64 tensor cores at more than a token rate
CORE = 8  # rows of a core matrix of wgmma, and its columns in fp16


class Instruction(NamedTuple):
    """A matrix instruction D += A B: its size, and which values of A, B and D each of its threads holds."""

    m: int
    n: int
    k: int
    threads: int
    a_values: int  # per thread
    b_values: int  # 0: B comes from shared memory, made of one symmetric core matrix
    d_values: int
    a: Place
    b: Place
    d: Place

    @property
    def flop(self) -> int:
        """The work of one instruction, FLOP."""
        return 2 * self.m * self.n * self.k


def _pairs(group: Index, place: Index, i: Index) -> tuple[Index, Index]:
    """Two neighbours in a row, the next two eight rows below, then eight columns further; a warp is 16 rows."""
    return group // 8 * 16 + group % 8 + 8 * (i // 2 % 2), 2 * place + i % 2 + 8 * (i // 4)


INSTRUCTIONS: dict[str, Instruction] = {
    "fp16_m16n8k16": Instruction(
        *(16, 8, 16, 32, 8, 4, 4), _pairs, lambda group, place, i: (2 * place + i % 2 + 8 * (i // 2), group), _pairs
    ),
    "fp64_m8n8k4": Instruction(
        *(8, 8, 4, 32, 1, 1, 2),
        lambda group, place, i: (group, place),
        lambda group, place, i: (place, group),
        lambda group, place, i: (group, 2 * place + i),
    ),
    "fp64_m16n8k16": Instruction(
        *(16, 8, 16, 32, 8, 4, 4),
        lambda group, place, i: (group + 8 * (i % 2), place + 4 * (i // 2)),
        lambda group, place, i: (place + 4 * i, group),
        _pairs,
    ),
    "fp16_m64n256k16": Instruction(*(64, 256, 16, 128, 8, 0, 128), _pairs, _pairs, _pairs),
    "fma": Instruction(*(1, 1, 1, 1, 1, 1, 1), *(lambda group, place, i: (0 * i, 0 * i),) * 3),
}


class Loop(NamedTuple):
    """One kernel in ``kernels/cuda`` and its loop: `rounds` x `unroll` instructions for each of its accumulators."""

    file: str
    function: str
    precision: Precision
    instruction: str
    threads: int  # per block; one block on each multiprocessor
    accumulators: int  # independent sums of each thread: latency is hidden by them and by the warps
    unroll: int
    rounds: int
    limit: int  # operands are integers of -limit..limit, without 0

    @property
    def times(self) -> int:
        """The number of times that each product is accumulated."""
        return self.unroll * self.rounds

    @property
    def defines(self) -> dict[str, int]:
        """The macros that the source is compiled with."""
        return {"THREADS": self.threads, "ACCUMULATORS": self.accumulators, "UNROLL": self.unroll}

    def flop(self, blocks: int) -> int:
        """Return the exact work of one launch over `blocks` blocks, FLOP."""
        instruction = INSTRUCTIONS[self.instruction]
        return blocks * (self.threads // instruction.threads) * self.accumulators * self.times * instruction.flop


# Rounds make a launch about a millisecond on the devices that the instruction is for. Sums stay below 2^22 in FP32
# and 2^40 in FP64: exact in any order.
MMA_FP16 = Loop("issue_mma.cu", "issue_mma_fp16_m16n8k16", "fp16", "fp16_m16n8k16", 512, 4, 8, 2048, 3)
MMA_FP64 = Loop("issue_mma.cu", "issue_mma_fp64_m8n8k4", "fp64", "fp64_m8n8k4", 512, 4, 8, 512, 2**12)
MMA_FP64_90 = Loop("issue_mma.cu", "issue_mma_fp64_m16n8k16", "fp64", "fp64_m16n8k16", 512, 4, 8, 256, 2**12)
WGMMA_FP16 = Loop("issue_wgmma.cu", "issue_wgmma_fp16_m64n256k16", "fp16", "fp16_m64n256k16", 256, 1, 16, 512, 3)
FMA_FP64 = Loop("issue_fma.cu", "issue_fma_fp64", "fp64", "fma", 512, 8, 8, 2048, 2**12)
FMA_FP32 = Loop("issue_fma.cu", "issue_fma_fp32", "fp32", "fma", 512, 8, 8, 8192, 7)
LOOPS = (MMA_FP16, MMA_FP64, MMA_FP64_90, WGMMA_FP16, FMA_FP64, FMA_FP32)


class Values(NamedTuple):
    """The operands of a launch, integers: `a` threads x values; `b` accumulators x threads x values, or 8 x 8."""

    a: NDArray[np.int64]
    b: NDArray[np.int64]


def draw(loop: Loop, threads: int, seed: int) -> Values:
    """Return operands drawn from the seed for so many threads in all."""
    instruction, generator = INSTRUCTIONS[loop.instruction], np.random.default_rng(seed)

    def integers(*shape: int) -> NDArray[np.int64]:
        sizes = generator.integers(1, loop.limit, shape, endpoint=True)
        return np.asarray(sizes * generator.choice((-1, 1), shape), np.int64)

    a = integers(threads, instruction.a_values)
    if instruction.b_values:
        return Values(a, integers(loop.accumulators, threads, instruction.b_values))
    # One symmetric core matrix for all of B: no result then depends on which of the descriptor's strides is which, nor
    # on whether B is read by rows or by columns, which is not confirmed on hardware yet.
    half = np.triu(integers(CORE, CORE))
    return Values(a, half + np.triu(half, 1).T)


def expected(instruction: Instruction, values: Values, times: int) -> NDArray[np.float64]:
    """Return what every thread's sums must be, accumulators x threads x values: `times` times the product A B."""
    groups = len(values.a) // instruction.threads

    def matrices(fragments: Array, place: Place, rows: int, columns: int) -> NDArray[np.float64]:
        made = np.zeros((*fragments.shape[:-2], groups, rows, columns))
        where = positions(instruction.threads, fragments.shape[-1], place)
        made[..., where[0], where[1]] = fragments.reshape(
            *fragments.shape[:-2], groups, instruction.threads, fragments.shape[-1]
        )
        return made

    a = matrices(values.a, instruction.a, instruction.m, instruction.k)
    if instruction.b_values:
        b = matrices(values.b, instruction.b, instruction.k, instruction.n)
    else:
        b = np.tile(values.b.astype(np.float64), (instruction.k // CORE, instruction.n // CORE))[None]
    product = np.matmul(a, b) * times  # exact: integers far below 2^53
    rows, columns = positions(instruction.threads, instruction.d_values, instruction.d)
    return np.asarray(product[..., rows, columns].reshape(-1, len(values.a), instruction.d_values))


def positions(threads: int, values: int, place: Place) -> tuple[Index, Index]:
    """Return row and column of each value of each thread, threads x values."""
    thread, value = np.indices((threads, values))
    return place(thread // 4, thread % 4, value)


def in_registers(values: NDArray[np.int64], precision: Precision) -> Array:
    """Return fragments (..., threads, values) as the kernel loads them: (..., registers, threads), fp16 in pairs."""
    dtype = {"fp16": np.float16, "fp32": np.float32, "fp64": np.float64}[precision]
    registers = np.ascontiguousarray(values, dtype)
    if precision == "fp16":
        registers = registers.view(np.uint32)
    return np.ascontiguousarray(np.swapaxes(registers, -1, -2))


class PreparedIssue(cuda_module.PreparedCuda):
    """One loop on one device (`kernels.base.PreparedReference`)."""

    launch_bytes = 0

    def __init__(self, loop: Loop, target: str, seed: int) -> None:
        import cupy

        super().__init__(target)
        self._threads = loop.threads
        with self._device:
            self._blocks = int(self._device.attributes["MultiProcessorCount"])
            self._kernel = cuda_module.load(loop.file, loop.function, self._device.compute_capability, loop.defines)
            instruction, threads = INSTRUCTIONS[loop.instruction], self._blocks * loop.threads
            values = draw(loop, threads, seed)
            b = values.b if instruction.b_values else values.b.reshape(1, -1)  # a core matrix is copied as it is
            operands = [cupy.asarray(in_registers(part, loop.precision)) for part in (values.a, b)]
            shape = (loop.accumulators, instruction.d_values, threads)
            self._result = cupy.full(shape, float("nan"), np.float64 if loop.precision == "fp64" else np.float32)
        self._expected = np.swapaxes(expected(instruction, values, loop.times), -1, -2).astype(self._result.dtype)
        self._arguments = (*operands, self._result, np.int32(loop.rounds))
        self.launch_flop = loop.flop(self._blocks)

    def _is_exact(self) -> bool:
        return cuda_module.identical(self._result, self._expected)


class _Issue:
    """What the three reference kernels of this file have in common (`kernels.base.ReferenceKernel`)."""

    name: str
    role: Role = "ceiling"

    def loop(self, precision: Precision, capability: str) -> Loop | str:
        """Return the loop for a precision on a compute capability, or in one clause why there is none."""
        raise NotImplementedError

    def supports(self, precision: Precision, target: str) -> str | None:
        """Return None where `precision` is measured on `target`, else the reason; compiles the kernel."""
        reason = cuda_module.unavailable(target)
        if reason is not None:
            return reason
        try:
            device = cuda_module.device(target)
            loop = self.loop(precision, device.compute_capability)
            if isinstance(loop, str):
                return loop
            with device:
                cuda_module.load(loop.file, loop.function, device.compute_capability, loop.defines)
        except (RuntimeError, ValueError, ImportError) as error:
            return cuda_module.first_line(error)
        return None

    def prepare(self, precision: Precision, target: str, seed: int) -> PreparedIssue:
        """Put the operands drawn from `seed` on `target`.

        Raises:
            ValueError: `supports` gives a reason.
        """
        reason = self.supports(precision, target)
        if reason is not None:
            raise ValueError(f"{self.name} does not measure {precision} on {target}: {reason}")
        loop: Any = self.loop(precision, cuda_module.device(target).compute_capability)
        return PreparedIssue(loop, target, seed)


class IssueMma(_Issue):
    """The reference kernel issue-mma: tensor cores through mma.sync, fp16 with FP32 accumulation and fp64."""

    name = "issue-mma"

    def loop(self, precision: Precision, capability: str) -> Loop | str:
        """Return the loop of the shape that runs at full rate; m16n8k16 in fp64 is one instruction on 9.0 only."""
        if precision not in ("fp16", "fp64"):
            return f"{self.name} measures fp16 and fp64, not {precision}"
        major, shown = int(capability[:-1]), f"compute capability {capability[:-1]}.{capability[-1]}"
        if major < 8:
            return f"{shown} lacks these shapes of mma.sync, which began with 8.0"
        if precision == "fp64":
            if capability not in FP64_TENSOR:
                return f"{shown} is not known to have FP64 tensor cores"
            return MMA_FP64_90 if capability == "90" else MMA_FP64
        if major in (10, 11):
            return f"mma.sync is not the ceiling of {shown}: tcgen05 is, which petaseal does not measure"
        return MMA_FP16


class IssueWgmma(_Issue):
    """The reference kernel issue-wgmma: Hopper's tensor cores through wgmma, fp16 with FP32 accumulation."""

    name = "issue-wgmma"

    def loop(self, precision: Precision, capability: str) -> Loop | str:
        """Return the one loop, for compute capability 9.0."""
        if precision != "fp16":
            return f"{self.name} measures fp16, not {precision}"
        return WGMMA_FP16 if capability == "90" else "wgmma exists on compute capability 9.0 only"


class IssueFma(_Issue):
    """The reference kernel issue-fma: the vector units' fused multiply-add, fp64 and fp32."""

    name = "issue-fma"

    def loop(self, precision: Precision, capability: str) -> Loop | str:
        """Return the loop of a precision."""
        loops: dict[Precision, Loop] = {"fp64": FMA_FP64, "fp32": FMA_FP32}
        return loops.get(precision, f"{self.name} measures fp64 and fp32, not {precision}")
