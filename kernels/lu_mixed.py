"""Mixed solves of A x = b (R15): LU factors in FP16, refined to FP64 in at most 50 iterations. Shown, never counted.

The matrix is non-symmetric with a raised diagonal (`kernels.operands`), so that it needs no pivoting. Blocks on the
diagonal and their panels are factorised in FP32; the products that take them off the rest, nearly all the work, have
FP16 operands and are accumulated in FP32. Residuals of the refinement are computed in FP64.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np

from kernels.base import GemmProblem
from kernels.gemm_numpy import GemmNumpy, NumpyGemm
from kernels.gemm_torch import GemmTorch, TorchGemm
from kernels.lu import PreparedSolve, SolveKernel
from kernels.operands import Array, Operands, OperandSet, absolute_sums, raise_diagonal, random_uniforms

MAX_ITERATIONS = 50
BLOCK = 256  # columns that are factorised in FP32 at a time
LEAF = 32  # order of a block that is eliminated column by column
EPS = 0.5**53


class PreparedMixed(PreparedSolve):
    """Sets of a matrix and its right side, and the one place of the factors (`kernels.base.Prepared`).

    The arithmetic is written once, on arrays of either library; what they call differently has a method of its own.
    """

    def __init__(
        self, problem: GemmProblem, operands: Operands | None, target: str, min_operand_bytes: int, min_sets: int
    ) -> None:
        self._norms: list[tuple[float, float]] = []  # of A and of b, infinity norms
        super().__init__(problem, operands, target, min_operand_bytes, min_sets)
        self.accumulate = "fp32"
        self._inverses: list[tuple[Any, Any]] = []  # of the factors' blocks on the diagonal, of the last launch

    def _placed(self, made: OperandSet, set_index: int) -> tuple[Any, Any]:
        self._norms.append((float(made.row_norms.max()), float(np.abs(made.b).max())))
        return super()._placed(made, set_index)

    def _random_set(self) -> tuple[Any, Any]:
        size_a, size_b, _ = self.problem.sizes
        a, b = random_uniforms(size_a), random_uniforms(size_b)
        raise_diagonal(a, 0, self.problem.n)
        self._norms.append((float(absolute_sums(a).max()), float(np.abs(b).max())))
        return self._on_device(a), self._on_device(b)

    @abstractmethod
    def _single(self, matrix: Any) -> Any:
        """Return a matrix in FP32; a copy."""

    @abstractmethod
    def _double(self, vector: Any) -> Any:
        """Return a vector in FP64."""

    @abstractmethod
    def _product(self, a: Any, b: Any) -> Any:
        """Return the product of two FP32 matrices that are rounded to FP16, accumulated in FP32."""

    @abstractmethod
    def _split(self, block: Any) -> tuple[Any, Any]:
        """Return the inverses of both factors of a small FP32 matrix."""

    def launch(self, first: int, count: int) -> None:
        """Solve: factors in FP16, then refinement, whose end the host waits for."""
        for i in range(first, first + count):
            self._solve(i % self.operand_sets)

    def _solve(self, set_index: int) -> None:
        a, b, out = self._sets[set_index]
        norm_a, norm_b = self._norms[set_index]
        factors = self._single(a)
        self._factorise(factors)
        x = self._double(self._substitute(factors, self._single(b)))
        for _ in range(MAX_ITERATIONS):
            rest = b - a @ x
            size = norm_a * float(abs(x).max()) + norm_b
            error = float(abs(rest).max())
            if not math.isfinite(error) or error <= EPS * math.sqrt(self.problem.n) * size:
                break
            x = x + self._double(self._substitute(factors, self._single(rest)))
        else:
            error = math.inf
        out[...] = x
        if not math.isfinite(error):  # it does not converge: there is no solution, and its check says so
            self.poison(set_index)

    def _blocks(self) -> Iterator[tuple[int, int]]:
        n = self.problem.n
        return ((at, min(at + BLOCK, n)) for at in range(0, n, BLOCK))

    def _factorise(self, a: Any) -> None:
        """Put the factors into the place of an FP32 matrix, but for the blocks on its diagonal, whose inverses stay."""
        self._inverses = []
        for at, end in self._blocks():
            lower, upper = self._split(a[at:end, at:end])
            self._inverses.append((lower, upper))
            right, below = lower @ a[at:end, end:], a[end:, at:end] @ upper
            a[at:end, end:], a[end:, at:end] = right, below
            a[end:, end:] -= self._product(below, right)

    def _substitute(self, factors: Any, vector: Any) -> Any:
        """Return about A^-1 times a vector, by the factors and in FP32, in the place of the vector."""
        spans = list(zip(self._blocks(), self._inverses, strict=True))
        for (at, end), (lower, _) in spans:
            vector[at:end] = lower @ vector[at:end]
            vector[end:] -= factors[end:, at:end] @ vector[at:end]
        for (at, end), (_, upper) in reversed(spans):
            vector[at:end] = upper @ vector[at:end]
            vector[:at] -= factors[:at, at:end] @ vector[at:end]
        return vector


def inverse_factors(block: Array) -> tuple[Array, Array]:
    """Return L^-1 and U^-1 of a small FP32 matrix L U, without pivoting: by halves, and column by column at the last.

    Args:
        block: the matrix, which stays as it is.
    """
    n = len(block)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        if n <= LEAF:
            u, lower = np.array(block, np.float64), np.eye(n)  # FP64 costs nothing here, and L^-1 comes with it
            for i in range(n - 1):
                share = u[i + 1 :, i, None] / u[i, i]
                u[i + 1 :] -= share * u[i]
                lower[i + 1 :] -= share * lower[i]
            upper = np.zeros((n, n))
            for i in reversed(range(n)):
                upper[i, i] = 1 / u[i, i]
                upper[i, i + 1 :] = -(u[i, i + 1 :] @ upper[i + 1 :, i + 1 :]) / u[i, i]
            return lower.astype(np.float32), upper.astype(np.float32)
        half = n // 2
        l1, u1 = inverse_factors(block[:half, :half])
        right, below = l1 @ block[:half, half:], block[half:, :half] @ u1
        l2, u2 = inverse_factors(block[half:, half:] - below @ right)
        lower, upper = np.zeros((n, n), np.float32), np.zeros((n, n), np.float32)
        lower[:half, :half], lower[half:, half:], lower[half:, :half] = l1, l2, -(l2 @ below @ l1)
        upper[:half, :half], upper[half:, half:], upper[:half, half:] = u1, u2, -(u1 @ right @ u2)
    return lower, upper


class NumpyMixed(PreparedMixed, NumpyGemm):
    """Matrices in main memory; FP16 operands are up-cast, in every launch."""

    def _take(self, target: str) -> None:
        super()._take(target)
        self.method = "upcast"

    def _single(self, matrix: Array) -> Array:
        return matrix.astype(np.float32)

    def _double(self, vector: Array) -> Array:
        return vector.astype(np.float64)

    def _product(self, a: Array, b: Array) -> Array:
        wide_a, wide_b = (one.astype(np.float16).astype(np.float32) for one in (a, b))
        return np.asarray(wide_a @ wide_b)

    def _split(self, block: Array) -> tuple[Array, Array]:
        return inverse_factors(block)

    def launch(self, first: int, count: int) -> None:
        """Solve; when this returns, it is done."""
        with np.errstate(invalid="ignore", over="ignore"):
            super().launch(first, count)


class TorchMixed(PreparedMixed, TorchGemm):
    """Matrices in a device's memory; on a CPU FP16 operands are up-cast, in every launch."""

    def _take(self, target: str) -> None:
        super()._take(target)
        self.method = "upcast" if self._target.type == "cpu" else "native"
        self._wide_output = False
        if self._target.type == "cuda":
            one = self._torch.ones((LEAF, LEAF), dtype=self._torch.float16, device=self._target)
            try:
                self._torch.mm(one, one, out_dtype=self._torch.float32)
                self._wide_output = True
            except (TypeError, RuntimeError, NotImplementedError):
                pass  # an older release: the sums are in FP32 all the same, and rounded to FP16

    def _single(self, matrix: Any) -> Any:
        return matrix.to(self._torch.float32, copy=True)

    def _double(self, vector: Any) -> Any:
        return vector.to(self._torch.float64)

    def _product(self, a: Any, b: Any) -> Any:
        a16, b16 = a.half(), b.half()
        if self.method == "upcast":
            return a16.float() @ b16.float()
        return self._torch.mm(a16, b16, out_dtype=self._torch.float32) if self._wide_output else (a16 @ b16).float()

    def _split(self, block: Any) -> tuple[Any, Any]:
        lower, upper = inverse_factors(np.asarray(block.cpu().numpy()))
        return self._torch.from_numpy(lower).to(self._target), self._torch.from_numpy(upper).to(self._target)


class MixedNumpy(SolveKernel, GemmNumpy):
    """The kernel mixed-numpy: mixed solves on the CPU, FP16 by up-casting (`kernels.base.Kernel`)."""

    name = "mixed-numpy"
    sets = NumpyMixed
    mixed = True


class MixedTorch(SolveKernel, GemmTorch):
    """The kernel mixed-torch: mixed solves on any torch device (`kernels.base.Kernel`)."""

    name = "mixed-torch"
    sets = TorchMixed
    mixed = True
