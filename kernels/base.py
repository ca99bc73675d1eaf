"""What a kernel is: a problem with its exact work, prepared operands, launches, and the check of its own product.

Pure values and protocols; nothing numeric, no vendor library and no judgement of a residual may enter it (the bounds
stand in ``certify``).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Literal, NamedTuple, Protocol, get_args

Precision = Literal["fp16", "bf16", "fp32", "fp64"]
Accumulate = Literal["fp32", "fp64"]
Method = Literal["native", "upcast"]
Size = tuple[int, int]  # rows and columns
Role = Literal["path", "ceiling", "bandwidth"]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
ITEM_BYTES: dict[Precision, int] = {"fp16": 2, "bf16": 2, "fp32": 4, "fp64": 8}
MIN_DIMENSION = 32  # below it R5's constants would refuse honest products (docs/residuals.md)
MAX_DIMENSION = 2**20
ENTRY_POINTS = "petaseal.kernels"
KERNELS: dict[str, str] = {
    "gemm-numpy": "kernels.gemm_numpy:GemmNumpy",
    "gemm-torch": "kernels.gemm_torch:GemmTorch",
    "gemm-cupy": "kernels.gemm_cupy:GemmCupy",
}
SOLVERS: dict[str, str] = {  # of solves (R15): what goes with a library's kernel of products, and no choice of its own
    "lu-numpy": "kernels.lu:LuNumpy",
    "lu-torch": "kernels.lu:LuTorch",
    "lu-cupy": "kernels.lu:LuCupy",
    "mixed-numpy": "kernels.lu_mixed:MixedNumpy",
    "mixed-torch": "kernels.lu_mixed:MixedTorch",
}
REFERENCES: dict[str, str] = {
    "issue-mma": "kernels.issue_rate:IssueMma",
    "issue-wgmma": "kernels.issue_rate:IssueWgmma",
    "issue-fma": "kernels.issue_rate:IssueFma",
    "triad": "kernels.triad:Triad",
}


@dataclass(frozen=True)
class GemmProblem:
    """One product C (m x n) = A (m x k) B (k x n) by one kernel in one precision.

    Args:
        kernel: name of the kernel, a key of `KERNELS` or of the entry points ``petaseal.kernels``.
        precision: of the operands and of the result: fp16, bf16, fp32 or fp64.
        m, n, k: dimensions, `MIN_DIMENSION` to `MAX_DIMENSION`.

    Raises:
        ValueError: unknown precision, or a dimension that is no integer or out of range.
    """

    kernel: str
    precision: Precision
    m: int
    n: int
    k: int

    def __post_init__(self) -> None:
        if not isinstance(self.kernel, str) or not self.kernel:
            raise ValueError(f"kernel {self.kernel!r} is not a name")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision {self.precision!r} is none of {', '.join(PRECISIONS)}")
        for name in ("m", "n", "k"):
            size = getattr(self, name)
            # Not isinstance: True is an int.
            if type(size) is not int or not MIN_DIMENSION <= size <= MAX_DIMENSION:
                raise ValueError(f"dimension {name} = {size!r} is not an integer in {MIN_DIMENSION}..{MAX_DIMENSION}")

    @property
    def flop(self) -> int:
        """Work of one launch, FLOP, exact: 2mnk."""
        return 2 * self.m * self.n * self.k

    @property
    def sizes(self) -> tuple[Size, Size, Size]:
        """Rows and columns of A, B and the output."""
        return (self.m, self.k), (self.k, self.n), (self.m, self.n)

    @property
    def set_bytes(self) -> int:
        """The bytes of A and B of one operand set."""
        return sum(rows * columns for rows, columns in self.sizes[:2]) * ITEM_BYTES[self.precision]


@dataclass(frozen=True)
class SolveProblem(GemmProblem):
    """One solution x of A x = b, of order n = m = k, by LU factors of A in partial pivoting (R15), or mixed ones.

    Raises:
        ValueError: as `GemmProblem`; the precision is not FP64, or the dimensions differ.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.precision != "fp64" or not self.m == self.n == self.k:
            raise ValueError(f"a solve is of FP64 and one order, not {self.precision} {self.m} x {self.n} x {self.k}")

    @property
    def flop(self) -> int:
        """Work of one launch, FLOP: (2/3)n^3 + (3/2)n^2, truncated."""
        return self.n * self.n * (4 * self.n + 9) // 6

    @property
    def sizes(self) -> tuple[Size, Size, Size]:
        """Rows and columns of A, the right side and the solution."""
        return (self.n, self.n), (self.n, 1), (self.n, 1)


class Residual(NamedTuple):
    """How far a product is from the true one (R5), in millionths of R5's unit, rounded up.

    The unit is u for fp16 and bf16 and u(sqrt k + sqrt n) for fp32 and fp64, u of the claimed type of the result. None
    is a product with a NaN or an Inf: poisoned, stale, or overflowed. The row error of a solve is its residual (R15),
    in millionths, and it has no other: None.
    """

    row_error_ppm: int | None
    rms_error_ppm: int | None

    @staticmethod
    def worst(one: Residual, other: Residual) -> Residual:
        """Return the larger of each error; None dominates."""
        return Residual(*(None if a is None or b is None else max(a, b) for a, b in zip(one, other, strict=True)))


class PreparedTrial(Protocol):
    """Operands of a trial on a device: launched and timed, never checked."""

    problem: GemmProblem

    def launch(self, first: int, count: int) -> None:
        """Enqueue launches first..first+count-1; launch i multiplies set i % operand_sets into that set's output."""

    def synchronize(self) -> None:
        """Wait until every launch has ended."""

    def close(self) -> None:
        """Free the operands; further use is an error."""


class Prepared(PreparedTrial, Protocol):
    """Operands on a device, ready to be launched, checked and thrown away."""

    accumulate: Accumulate
    method: Method
    operand_sets: int
    operand_bytes: int  # A and B of all sets together
    operand_sha256: dict[str, str]  # "0/a", "0/b", "0/grading" -> hex SHA-256 of the operand as it is multiplied

    def poison(self, set_index: int) -> None:
        """Fill the output of one set with NaN, so that a product that is not written again is seen."""

    def check(self, set_index: int, seed: int) -> Residual:
        """Probe the output of one set where it lies (R5), with vector arithmetic only.

        The reference A(B r) belongs to (set, seed) and is kept for the last seed of each set: a further check with the
        same seed costs one pass over the output.
        """

    def check_on_host(self, set_index: int, seed: int) -> Residual:
        """Probe the output of one set on the host, in FP64, against operands regenerated from their keys."""


class Kernel(Protocol):
    """One way to compute a product: one file and one line in `KERNELS`."""

    name: str

    def supports(self, precision: Precision, target: str) -> str | None:
        """Return None if this kernel computes `precision` on `target`, else the reason in one clause.

        Raises:
            Exception: that cannot be decided, since a library is missing or broken, or the device fails.
        """

    def switches(self) -> dict[str, str]:
        """Set every reduced-precision switch off (R1) and return what each then reads as; never raises.

        "unreadable" stands for a switch that is there and cannot be read, "absent" for one that this release lacks.
        """

    def prepare(
        self,
        problem: GemmProblem,
        challenge: str,
        device: str,
        target: str,
        min_operand_bytes: int,
        min_sets: int = 2,
    ) -> Prepared:
        """Generate operands (R2) in as many sets as R3 asks for and put them on `target`.

        Args:
            problem: what to compute.
            challenge: nonce of the campaign, hex.
            device: text that names the device in the operands' keys.
            target: "cpu" or the device string of the library, such as "cuda:0".
            min_operand_bytes: what the operands of all sets together must at least take.
            min_sets: least number of operand sets.

        Raises:
            ValueError: this kernel does not support the problem on `target`.
        """

    def prepare_trial(self, problem: GemmProblem, target: str) -> PreparedTrial:
        """Make two operand sets of standard normal numbers by the device's own generator: to try how fast a shape is.

        Raises:
            ValueError: this kernel does not support the problem on `target`.
        """


def kernel_names() -> list[str]:
    """Return the names that `load_kernel` knows: the project's, then those of entry points."""
    return [*KERNELS, *sorted({e.name for e in entry_points(group=ENTRY_POINTS)} - set(KERNELS))]


def load_kernel(name: str) -> Kernel:
    """Return the kernel called `name`; its module is imported now.

    Raises:
        ValueError: no such kernel.
    """
    # Our own names first: no installed plug-in can take the place of the kernel whose figure counts.
    if name in KERNELS:
        module, _, attribute = KERNELS[name].partition(":")
        kernel: Kernel = getattr(importlib.import_module(module), attribute)()
        return kernel
    for entry in entry_points(group=ENTRY_POINTS):
        if entry.name == name:
            plugged: Kernel = entry.load()()
            return plugged
    raise ValueError(f"there is no kernel {name!r}; known are {', '.join(kernel_names())}")


def load_solver(name: str) -> Kernel:
    """Return the kernel of solves called `name`; its module is imported now.

    Raises:
        ValueError: no such kernel: the library that it would belong to computes products alone.
    """
    if name not in SOLVERS:
        raise ValueError(f"there is no kernel {name!r} for solves; known are {', '.join(SOLVERS)}")
    module, _, attribute = SOLVERS[name].partition(":")
    kernel: Kernel = getattr(importlib.import_module(module), attribute)()
    return kernel


class PreparedReference(Protocol):
    """A reference kernel on a device, ready to be launched, checked and thrown away."""

    launch_flop: int  # exact work of one launch, FLOP; 0 for a bandwidth
    launch_bytes: int  # bytes that one launch reads and writes in memory, exact; 0 for a ceiling

    def launch(self, count: int) -> None:
        """Enqueue `count` launches."""

    def synchronize(self) -> None:
        """Wait until every launch has ended."""

    def verify(self) -> bool:
        """Return whether what the last launch left on the device is exactly what it must be."""

    def close(self) -> None:
        """Free the memory; further use is an error."""


class ReferenceKernel(Protocol):
    """A kernel of a reference measurement, which never counts: the rate of issue of the silicon, or memory bandwidth.

    A cross-check (role "path"), a second way to the product, needs none of its own: any `Kernel` is one.
    """

    name: str
    role: Role

    def supports(self, precision: Precision, target: str) -> str | None:
        """Return None if this kernel measures in `precision` on `target`, else the reason in one clause."""

    def prepare(self, precision: Precision, target: str, seed: int) -> PreparedReference:
        """Put what is needed on `target`, drawn from `seed`.

        Raises:
            ValueError: `supports` gives a reason.
        """


def load_reference(name: str) -> ReferenceKernel:
    """Return the reference kernel called `name`; its module is imported now.

    Raises:
        ValueError: no such kernel.
    """
    if name not in REFERENCES:
        raise ValueError(f"there is no reference kernel {name!r}; known are {', '.join(REFERENCES)}")
    module, _, attribute = REFERENCES[name].partition(":")
    kernel: ReferenceKernel = getattr(importlib.import_module(module), attribute)()
    return kernel
