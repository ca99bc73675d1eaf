"""What matrix products have in common whatever computes them: their operand sets, and when a reference is made anew.

Each library adds its launch and its dot products in a file of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from kernels import verify
from kernels.base import ITEM_BYTES, Accumulate, Method, Precision, Problem, Residual
from kernels.operands import Array, Operands, OperandSet

Gemm = TypeVar("Gemm", bound="PreparedGemm")


def trial_value(precision: Precision) -> float:
    """Return what fills the A of a trial product with a B of ones, exact in any order; FP64 cast to FP32 loses it."""
    return 1 + 2.0**-30 if precision == "fp64" else 1.0


class PreparedGemm(ABC):
    """Operand sets of one problem and the check of their products (`kernels.base.Prepared`)."""

    accumulate: Accumulate
    method: Method

    def __init__(self, problem: Problem, challenge: str, device: str, min_operand_bytes: int, min_sets: int) -> None:
        set_bytes = bytes_of_set(problem)
        self._sets: list[tuple[Any, Any, Any]] = []  # A, B and output of each set, contiguous
        self._checked = True
        self.problem = problem
        self.accumulate = "fp64" if problem.precision == "fp64" else "fp32"
        self._sum_type = np.float64 if problem.precision == "fp64" else np.float32
        self.operand_sets = max(min_sets, -(-min_operand_bytes // set_bytes))
        self.operand_bytes = self.operand_sets * set_bytes
        self.operand_sha256: dict[str, str] = {}
        self._operands = Operands(problem, challenge, device)
        self._row_norms: list[NDArray[np.float64]] = []
        self._references: dict[int, tuple[int, Array]] = {}
        for set_index in range(self.operand_sets):
            made = self._operands.make(set_index)
            self._row_norms.append(made.row_norms)
            self.operand_sha256 |= {f"{set_index}/{name}": value for name, value in made.sha256.items()}
            self._add(made)

    @abstractmethod
    def _add(self, made: OperandSet) -> None:
        """Put one more set on the device, with an output of its own."""

    @abstractmethod
    def _on_host(self, set_index: int) -> tuple[Array, Array, Array]:
        """Return A, B and the last output of a set as host arrays (bf16 as uint16), without a copy on a CPU."""

    def reshaped(self: Gemm, problem: Problem) -> Gemm:
        """Return another problem on the memory of this one: for trials of shapes, whose operands need not be made anew.

        Its matrices are the beginnings of this one's, so that it is launched, timed and closed, and never checked. It
        overwrites this one's outputs, and holds its memory until it is closed too.

        Args:
            problem: of the same kernel and precision; each of its matrices at most as large as this one's.

        Raises:
            ValueError: it is of another kernel or precision, or does not fit.
        """
        own, sizes = self.problem, sizes_of(problem)
        if (problem.kernel, problem.precision) != (own.kernel, own.precision):
            raise ValueError(
                f"{problem.kernel} {problem.precision} has other operands than {own.kernel} {own.precision}"
            )
        if any(rows * columns > r * c for (rows, columns), (r, c) in zip(sizes, sizes_of(own), strict=True)):
            raise ValueError(
                f"{problem.m} x {problem.n} x {problem.k} needs more memory than {own.m} x {own.n} x {own.k}"
            )
        other = copy(self)
        other.problem = problem
        other.operand_bytes = self.operand_sets * bytes_of_set(problem)
        other.operand_sha256, other._references, other._checked = {}, {}, False
        other._sets = [
            (beginning(a, sizes[0]), beginning(b, sizes[1]), beginning(out, sizes[2])) for a, b, out in self._sets
        ]
        return other

    def _refuse_trial(self) -> None:
        if not self._checked:
            raise RuntimeError("the operands of a trial are not those of its problem: its products cannot be checked")

    def _project_output(self, set_index: int, sign: NDArray[np.int8]) -> Array:
        """Return C r for every row, block and probe, computed where C lies."""
        output = self._on_host(set_index)[2]
        precision = self.problem.precision
        edges = verify.block_edges(precision, self.problem.n)
        return verify.project(output, precision, sign.astype(self._sum_type), edges)

    def _reference(self, set_index: int, sign: NDArray[np.int8]) -> Array:
        """Return A (B r) for every row, block and probe, computed where the operands lie."""
        a, b, _ = self._on_host(set_index)
        return verify.reference(a, b, self.problem.precision, sign, self._sum_type)

    def check(self, set_index: int, seed: int) -> Residual:
        """Probe the output of one set where it lies (`Prepared.check`)."""
        self._refuse_trial()
        p = self.problem
        sign = verify.signs(seed, p.n)
        known = self._references.get(set_index)
        if known is None or known[0] != seed:
            known = self._references[set_index] = (seed, self._reference(set_index, sign))
        product = self._project_output(set_index, sign)
        return verify.residual(p.precision, p.n, p.k, product, known[1], self._row_norms[set_index])

    def check_on_host(self, set_index: int, seed: int) -> Residual:
        """Probe the output of one set on the host against regenerated operands (`Prepared.check_on_host`)."""
        self._refuse_trial()
        output = self._on_host(set_index)[2]
        return verify.check_on_host(self._operands, set_index, output, self._row_norms[set_index], seed)


def bytes_of_set(problem: Problem) -> int:
    """Return the bytes of A and B of one operand set."""
    return (problem.m * problem.k + problem.k * problem.n) * ITEM_BYTES[problem.precision]


def beginning(matrix: Any, size: tuple[int, int]) -> Any:
    """Return the first elements of a contiguous matrix of any array library as one of another size, without a copy."""
    return matrix.reshape(-1)[: size[0] * size[1]].reshape(size)


def sizes_of(problem: Problem) -> tuple[tuple[int, int], ...]:
    """Return rows and columns of A, B and C."""
    m, n, k = problem.m, problem.n, problem.k
    return (m, k), (k, n), (m, n)
