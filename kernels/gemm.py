"""What matrix products have in common whatever computes them: operand sets, and the references of their checks.

Each library adds its launch and its dot products in a file of its own.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels import verify
from kernels.base import Accumulate, GemmProblem, Method, Precision, Residual, Size
from kernels.operands import Array, Operands, OperandSet

PROBED_ELEMENTS = 1 << 23  # elements of a matrix that are probed at a time: their products stay in a large cache


def trial_value(precision: Precision) -> float:
    """Return what fills the A of a trial product with a B of ones, exact in any order; FP64 cast to FP32 loses it."""
    return 1 + 2.0**-30 if precision == "fp64" else 1.0


# What libraries say of a type that they do not multiply. Many plug-ins of torch raise a plain RuntimeError for this and
# for a broken installation alike. 161002: Ascend's code for an argument that an operator does not take.
_MISSING = re.compile(
    r"(?:not|n't)[ _](?:been[ _]|yet[ _]|currently[ _])*(?:implement|support)|unsupported|unimplemented"
    r"|dtype support list|arch_mismatch|\b161002\b",
    re.IGNORECASE,
)
_BROKEN = re.compile(r"\b561\d{3}\b")  # Ascend: something is wrong inside an operator, its kernels are not installed


def says_missing(error: BaseException) -> bool:
    """Return whether a product failed since the library does not have it in this type, and not for another reason."""
    if _BROKEN.search(str(error)):
        return False  # although its text may say "does not support opType"
    return isinstance(error, NotImplementedError) or _MISSING.search(str(error)) is not None


class GemmKernel(ABC):
    """A kernel of matrix products by one library (`kernels.base.Kernel`): it says what it supports and prepares it."""

    name: str
    sets: type[PreparedGemm]  # how the library holds operand sets

    @abstractmethod
    def supports(self, precision: Precision, target: str) -> str | None:
        """Return None where this kernel computes `precision` on `target`, else the reason (`Kernel.supports`)."""

    def prepare(
        self,
        problem: GemmProblem,
        challenge: str,
        device: str,
        target: str,
        min_operand_bytes: int,
        min_sets: int = 2,
    ) -> PreparedGemm:
        """Generate the operand sets of a problem and put them on `target` (`Kernel.prepare`).

        Raises:
            ValueError: this kernel does not support the problem there.
        """
        self._refuse_unsupported(problem, target)
        return self.sets(problem, self._operands(problem, challenge, device), target, min_operand_bytes, min_sets)

    def prepare_trial(self, problem: GemmProblem, target: str) -> PreparedGemm:
        """Make two operand sets for a trial on `target` (`Kernel.prepare_trial`).

        Raises:
            ValueError: this kernel does not support the problem there.
        """
        self._refuse_unsupported(problem, target)
        return self.sets(problem, None, target, 0, 2)

    def _operands(self, problem: GemmProblem, challenge: str, device: str) -> Operands:
        return Operands(problem, challenge, device)

    def _refuse_unsupported(self, problem: GemmProblem, target: str) -> None:
        if (reason := self.supports(problem.precision, target)) is not None:
            raise ValueError(f"{self.name} does not compute {problem.precision} on {target}: {reason}")


class PreparedGemm(ABC):
    """Operand sets of one problem and the check of their products (`kernels.base.Prepared`).

    Args:
        problem: what to compute.
        operands: where the operands come from (R2); None for a trial, whose operands are random numbers of the device's
            own: they need no copy from the host, and its products are never checked.
        target, min_operand_bytes, min_sets: as in `kernels.base.Kernel.prepare`.
    """

    accumulate: Accumulate
    method: Method

    def __init__(
        self, problem: GemmProblem, operands: Operands | None, target: str, min_operand_bytes: int, min_sets: int
    ) -> None:
        set_bytes = problem.set_bytes
        self._sets: list[tuple[Any, Any, Any]] = []  # A, B and output of each set, contiguous
        self.problem = problem
        self._take(target)
        self.accumulate = "fp64" if problem.precision == "fp64" else "fp32"
        self._edges = verify.block_edges(problem.precision, problem.n)
        self._sum_type = np.float64 if problem.precision == "fp64" else np.float32
        self.operand_sets = max(min_sets, -(-min_operand_bytes // set_bytes))
        self.operand_bytes = self.operand_sets * set_bytes
        self.operand_sha256: dict[str, str] = {}
        self._operands = operands
        self._row_norms: list[NDArray[np.float64]] = []
        self._references: dict[int, tuple[int, Array]] = {}
        for set_index in range(self.operand_sets):
            a, b = self._random_set() if operands is None else self._placed(operands.make(set_index), set_index)
            self._sets.append((a, b, self._empty(problem.sizes[2])))
            self.poison(set_index)

    def _placed(self, made: OperandSet, set_index: int) -> tuple[Any, Any]:
        """Return A and B of one set on the device; what they are checked by stays here."""
        self._row_norms.append(made.row_norms)
        self.operand_sha256 |= {f"{set_index}/{name}": value for name, value in made.sha256.items()}
        return self._on_device(made.a), self._on_device(made.b)

    def _random_set(self) -> tuple[Any, Any]:
        """Return A and B of a trial."""
        size_a, size_b, _ = self.problem.sizes
        return self._random(size_a), self._random(size_b)

    @abstractmethod
    def _take(self, target: str) -> None:
        """Get the library and the device ready for the problem, before any matrix is made."""

    @abstractmethod
    def launch(self, first: int, count: int) -> None:
        """Enqueue products, or compute them at once; `synchronize` waits for them."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until every launch has ended."""

    @abstractmethod
    def close(self) -> None:
        """Free the operands."""

    @abstractmethod
    def poison(self, set_index: int) -> None:
        """Fill the output of one set with NaN."""

    @abstractmethod
    def _empty(self, size: Size) -> Any:
        """Return a matrix on the device that holds anything."""

    @abstractmethod
    def _random(self, size: Size) -> Any:
        """Return a matrix of standard normal numbers made on the device."""

    @abstractmethod
    def _on_device(self, matrix: Array) -> Any:
        """Return a host array (bf16 as uint16) as a matrix on the device, without a copy on a CPU."""

    @abstractmethod
    def _on_host(self, matrix: Any) -> Array:
        """Return a matrix on the device as a host array (bf16 as uint16), without a copy on a CPU."""

    def _project(self, matrix: Any, vectors: Array, edges: tuple[int, ...]) -> Array:
        """Return the dot products of rows with vectors, block by block (`verify.project`), where the matrix lies."""
        given = vectors.astype(self._sum_type, copy=False)
        return verify.project(self._on_host(matrix), self.problem.precision, given, edges)

    def _reference(self, set_index: int, sign: NDArray[np.int8]) -> Array:
        """Return A (B r) for every row, block and probe, computed where the operands lie."""
        a, b, _ = self._sets[set_index]
        partial = self._project(b, sign, self._edges)
        truth = self._project(a, verify.as_vectors(partial), (0, self.problem.k))
        return truth.reshape(len(truth), *partial.shape[1:])

    def check(self, set_index: int, seed: int) -> Residual:
        """Probe the output of one set where it lies (`Prepared.check`)."""
        p = self.problem
        sign = verify.signs(seed, p.n)
        known = self._references.get(set_index)
        if known is None or known[0] != seed:
            known = self._references[set_index] = (seed, self._reference(set_index, sign))
        product = self._project(self._sets[set_index][2], sign, self._edges)
        return verify.residual(p.precision, p.n, p.k, product, known[1], self._row_norms[set_index])

    def check_on_host(self, set_index: int, seed: int) -> Residual:
        """Probe the output of one set on the host against regenerated operands (`Prepared.check_on_host`)."""
        assert self._operands is not None, "the products of a trial are never checked"
        output = self._sets[set_index][2]

        def rows(first: int, count: int) -> Array:
            return self._on_host(output[first : first + count])

        return verify.check_on_host(self._operands, set_index, rows, self._row_norms[set_index], seed)


def project_by_products(
    matrix: Any, vectors: Any, edges: tuple[int, ...], out: Any, decoded: Callable[[Any], Any]
) -> Any:
    """Return the dot products of rows with vectors, block by block, by an accelerator's element-wise products and sums.

    Args:
        matrix: on the device.
        vectors: there too.
        edges: of the blocks of columns.
        out: where the result is put: rows x blocks x vectors, of the type in which products are summed.
        decoded: returns some rows as numbers that the library multiplies.
    """
    (rows, length), blocks = matrix.shape, len(edges) - 1
    step = max(1, PROBED_ELEMENTS // length)
    for first in range(0, rows, step):
        part = decoded(matrix[first : first + step])
        for index, vector in enumerate(vectors):
            product = part * vector
            if length % blocks == 0:  # all are of one width
                sums = product.reshape(-1, blocks, length // blocks).sum(2, dtype=out.dtype)
                out[first : first + step, :, index] = sums
                continue
            for block, (low, high) in enumerate(pairwise(edges)):
                out[first : first + step, block, index] = product[:, low:high].sum(1, dtype=out.dtype)
    return out
