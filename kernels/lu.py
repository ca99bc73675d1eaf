"""Solves of A x = b by LU factors in partial pivoting, through each library's LAPACK, and their check (R15).

A launch factorises a copy of the matrix, which is destroyed, and solves with the factors: the copy is part of its time.
No library that is called here multiplies by Strassen's method. torch and cupy are imported where they are used.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from kernels import verify
from kernels.base import MIN_DIMENSION, GemmProblem, Precision, Residual, SolveProblem
from kernels.gemm import GemmKernel, PreparedGemm, says_missing
from kernels.gemm_cupy import CupyGemm, GemmCupy
from kernels.gemm_numpy import GemmNumpy, NumpyGemm
from kernels.gemm_torch import GemmTorch, TorchGemm
from kernels.operands import Array, Operands, OperandSet, SolveOperands, random_uniforms

_NO_LAPACK = re.compile(r"lapack|magma|cusolver|linalg", re.IGNORECASE)  # of a build or device type without a solver


class PreparedSolve(PreparedGemm):
    """Sets of a matrix and its right side, and the check of their solutions (`kernels.base.Prepared`)."""

    def __init__(
        self, problem: GemmProblem, operands: Operands | None, target: str, min_operand_bytes: int, min_sets: int
    ) -> None:
        self._right: list[Array] = []
        self._solved: dict[int, list[Array]] = {}  # of each set: the solutions that were checked where they lay
        super().__init__(problem, operands, target, min_operand_bytes, min_sets)

    def _placed(self, made: OperandSet, set_index: int) -> tuple[Any, Any]:
        self._right.append(made.b[:, 0])
        return super()._placed(made, set_index)

    def _random_set(self) -> tuple[Any, Any]:
        size_a, size_b, _ = self.problem.sizes
        return self._on_device(random_uniforms(size_a)), self._on_device(random_uniforms(size_b))

    def _solution(self, set_index: int) -> Array:
        return np.array(self._on_host(self._sets[set_index][2]), np.float64)[:, 0]

    def check(self, set_index: int, seed: int) -> Residual:
        """Return the residual of the solution of one set, and keep the solution for the check on the host.

        Args:
            set_index: of the set.
            seed: of no account: a solution has one residual.
        """
        x = self._solution(set_index)
        self._solved.setdefault(set_index, []).append(x)
        product = self._project(self._sets[set_index][0], x[None, :], (0, self.problem.n))[:, 0, 0]
        return verify.solve_residual(x, product, self._right[set_index], self._row_norms[set_index])

    def check_on_host(self, set_index: int, seed: int) -> Residual:
        """Return the worst residual of the last solution, of one set, and of all that were checked while timing.

        Each is computed on the host in FP64 against the matrix regenerated from the challenge.
        """
        assert self._operands is not None, "the solutions of a trial are never checked"
        solved = {one: list(solutions) for one, solutions in self._solved.items()}
        solved.setdefault(set_index, []).append(self._solution(set_index))
        worst = Residual(0, None)
        for one, solutions in solved.items():
            for residual in verify.check_solutions(self._operands, one, np.array(solutions)):
                worst = Residual.worst(worst, residual)
        return worst


class SolveKernel(GemmKernel):
    """A kernel of solves by one library (`kernels.base.Kernel`): the products of that library, and its LAPACK."""

    mixed = False

    def _operands(self, problem: GemmProblem, challenge: str, device: str) -> Operands:
        return SolveOperands(problem, challenge, device, mixed=self.mixed)

    def supports(self, precision: Precision, target: str) -> str | None:
        """Return None where this kernel solves in `precision` on `target`, else the reason; tries a small solve.

        Raises:
            Exception: as the library's products, or the solve fails for another reason than that it is missing.
        """
        if precision != "fp64":
            return "solves are of FP64"
        if (reason := super().supports(precision, target)) is not None:  # type: ignore[safe-super]  # of the library
            return reason
        n = MIN_DIMENSION
        problem = SolveProblem(self.name, "fp64", n, n, n)
        try:
            small = self.sets(problem, SolveOperands(problem, "0" * 32, "trial", mixed=self.mixed), target, 0, 1)
            small.launch(0, 1)
            small.synchronize()
            residual = small.check(0, 0).row_error_ppm
        except (ImportError, NotImplementedError, RuntimeError) as error:
            if not (says_missing(error) or _NO_LAPACK.search(str(error))):
                raise
            return str(error).strip().partition("\n")[0]
        return None if residual is not None and residual < RESIDUAL_LIMIT_PPM else "a small solve has a wrong solution"


RESIDUAL_LIMIT_PPM = 16 * 10**6  # R15


class NumpyLu(PreparedSolve, NumpyGemm):
    """Matrices in main memory, column by column: LAPACK wants them so."""

    def _on_device(self, matrix: Array) -> Array:
        return np.asfortranarray(matrix)

    def launch(self, first: int, count: int) -> None:
        """Solve; when this returns, it is done."""
        for i in range(first, first + count):
            a, b, out = self._sets[i % self.operand_sets]
            try:
                out[...] = np.linalg.solve(a, b)  # LAPACK's dgesv, on a copy of both
            except np.linalg.LinAlgError:  # a pivot of 0: there is no solution, and its check says so
                out.fill(np.nan)

    def _project(self, matrix: Array, vectors: Array, edges: tuple[int, ...]) -> Array:
        # Column after column as they lie, in plain loops.
        with np.errstate(invalid="ignore", over="ignore"):
            return np.asarray(np.einsum("ji,vj->iv", matrix.T, vectors))[:, None, :]


class TorchLu(PreparedSolve, TorchGemm):
    """Matrices in a device's memory."""

    def _take(self, target: str) -> None:
        super()._take(target)
        n, empty = self.problem.n, self._torch.empty
        self._factors = empty((n, n), dtype=self._dtype, device=self._target).mT  # column by column
        self._pivots = empty((n,), dtype=self._torch.int32, device=self._target)
        self._info = empty((), dtype=self._torch.int32, device=self._target)

    def launch(self, first: int, count: int) -> None:
        """Enqueue solves; `synchronize` waits for them."""
        linalg, into = self._torch.linalg, (self._factors, self._pivots, self._info)
        for i in range(first, first + count):
            a, b, out = self._sets[i % self.operand_sets]
            linalg.lu_factor_ex(a, out=into)  # copies the matrix first
            linalg.lu_solve(self._factors, self._pivots, b, out=out)

    def close(self) -> None:
        """Free the matrices and the factors."""
        del self._factors, self._pivots, self._info
        super().close()


class CupyLu(PreparedSolve, CupyGemm):
    """Matrices in a device's memory, factorised by cuSOLVER."""

    def launch(self, first: int, count: int) -> None:
        """Enqueue solves; `synchronize` waits for them."""
        from cupyx.scipy.linalg import lu_factor, lu_solve

        with self._device:
            for i in range(first, first + count):
                a, b, out = self._sets[i % self.operand_sets]
                factors = lu_factor(a, overwrite_a=False, check_finite=False)
                out[...] = lu_solve(factors, b, check_finite=False)


class LuNumpy(SolveKernel, GemmNumpy):
    """The kernel lu-numpy: FP64 solves by numpy's LAPACK on the CPU (`kernels.base.Kernel`)."""

    name = "lu-numpy"
    sets = NumpyLu


class LuTorch(SolveKernel, GemmTorch):
    """The kernel lu-torch: FP64 solves on any torch device whose build has LAPACK (`kernels.base.Kernel`)."""

    name = "lu-torch"
    sets = TorchLu


class LuCupy(SolveKernel, GemmCupy):
    """The kernel lu-cupy: FP64 solves by cuSOLVER on CUDA devices (`kernels.base.Kernel`)."""

    name = "lu-cupy"
    sets = CupyLu
