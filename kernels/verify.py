"""The check of a product without computing it again: Freivalds' probes (R5; docs/residuals.md).

For a sign vector r, C r must equal A (B r) but for rounding. `residual` is the pure core, on arrays of any origin; the
rest computes both sides in numpy with dot products only, never through the matrix path that is being checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kernels.base import Precision, Residual
from kernels.operands import Array, Operands, absolute_sums, decode, side_by_side, stream, stream_key

PROBES = 8
SIGNIFICANT_BITS: dict[Precision, int] = {"fp16": 11, "bf16": 8, "fp32": 24, "fp64": 53}
MAX_PPM = 2**53 - 1
TILE = 1 << 18  # elements that one thread probes at a time: few enough for the cache, enough to be worth a thread
HOST_ROWS_ELEMENTS = 1 << 22  # elements of a product, or of a regenerated operand, that the host holds at a time


def unit(precision: Precision, n: int, k: int) -> float:
    """Return R5's unit of error: u of the result's type for 16 bits, u(sqrt k + sqrt n) for fp32 and fp64."""
    u = 0.5 ** SIGNIFICANT_BITS[precision]
    return u if precision in ("fp16", "bf16") else u * (math.sqrt(k) + math.sqrt(n))


def block_edges(precision: Precision, n: int) -> tuple[int, ...]:
    """Return the edges of the column blocks that are probed on their own: 0 = e0 < e1 < ... < n.

    A wrong element stands out from the rounding of its w neighbours only while its error is well above u sqrt(w k).
    Blocks of at most w = 1/(16 u)^2 columns (fp16: 16,384, bf16: 256) keep one of 0.25 sqrt(k) at 4u, above R5's 3.5u.
    """
    u_bits = SIGNIFICANT_BITS[precision]
    blocks = -(-n // 4 ** (u_bits - 4)) if precision in ("fp16", "bf16") else 1
    return tuple(n * i // blocks for i in range(blocks + 1))


def signs(seed: int, n: int) -> NDArray[np.int8]:
    """Return the probes, PROBES x n of +-1: probe p in column j is bit p of byte j of the Philox stream of the seed."""
    column = stream(stream_key("petaseal/probe/v1", seed, n), "|u1", 0, n)
    bits = np.unpackbits(column[None, :], axis=0, bitorder="little")
    return np.int8(1) - np.int8(2) * bits.astype(np.int8)


def residual(
    precision: Precision, n: int, k: int, product: Array, reference: Array, row_norms: NDArray[np.float64]
) -> Residual:
    """Return the residual of a product from its probes (R5).

    Args:
        precision: claimed type of the result.
        n, k: columns of the product; length of its sums.
        product: C r for every row, block of columns and probe: m x blocks x PROBES.
        reference: A (B r), likewise.
        row_norms: 2-norms of the rows of the ungraded A, length m.
    """
    widths = np.diff(block_edges(precision, n)).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(product.astype(np.float64) - reference.astype(np.float64))
        error /= row_norms[:, None, None] * np.sqrt(widths)[None, :, None]
        row, rms = float(error.max()), math.sqrt(float(np.mean(np.square(error, out=error))))
    if not (math.isfinite(row) and math.isfinite(rms)):
        return Residual(None, None)
    scale = 10**6 / unit(precision, n, k)
    return Residual(*(min(math.ceil(value * scale), MAX_PPM) for value in (row, rms)))


def project(
    matrix: Array, precision: Precision, vectors: Array, edges: tuple[int, ...], out: Array | None = None
) -> Array:
    """Return the dot products of every row, block by block, with every vector: rows x blocks x vectors.

    Args:
        matrix: rows x length, in `precision` (bf16 as uint16).
        precision: of the matrix.
        vectors: count x length, float32 or float64: the type in which products are summed.
        edges: of the blocks of columns, from 0 to length.
        out: where to put the result, if not into a new array.
    """
    result = np.empty((len(matrix), len(edges) - 1, len(vectors)), vectors.dtype) if out is None else out
    step = max(1, TILE // matrix.shape[1])

    def tile(first: int) -> None:
        with np.errstate(invalid="ignore", over="ignore"):  # of this thread: a wrong product may hold anything
            part = decode(matrix[first : first + step], precision, vectors.dtype)
            for block, (low, high) in enumerate(pairwise(edges)):
                result[first : first + step, block] = _dots(part[:, low:high], vectors[:, low:high])

    side_by_side(tile, range(0, len(matrix), step))
    return result


def _dots(rows: Array, vectors: Array) -> Array:
    if hasattr(np, "vecdot"):  # numpy >= 2: dot products at the speed of the cache
        result: Array = np.vecdot(rows[:, None, :], vectors[None, :, :])
        return result
    return np.asarray(np.einsum("ij,vj->iv", rows, vectors))  # without optimize: plain loops


def solve_residual(solution: Array, product: Array, right: Array, row_sums: NDArray[np.float64]) -> Residual:
    """Return ||A x - b|| / (eps (||A|| ||x|| + ||b||) n), eps = 2^-53 (R15), in millionths, rounded up.

    All norms are infinity norms.

    Args:
        solution: x, length n.
        product: A x, computed with dot products in FP64, length n.
        right: b, length n.
        row_sums: sums of the absolute values of the rows of A, length n.
    """
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        size = float(row_sums.max()) * float(np.abs(solution).max()) + float(np.abs(right).max())
        value = float(np.abs(product - right).max()) / (0.5**53 * size * len(right)) if size else math.nan
    return Residual(min(math.ceil(value * 10**6), MAX_PPM) if math.isfinite(value) else None, None)


def check_solutions(operands: Operands, set_index: int, solutions: Array) -> list[Residual]:
    """Return the residuals of solutions of one set against its matrix and right side, regenerated piece by piece.

    Args:
        operands: where both come from.
        set_index: which set was solved.
        solutions: one a row: count x n, FP64.
    """
    n = operands.problem.n
    products, row_sums = np.empty((n, 1, len(solutions))), np.empty(n)
    step = max(1, HOST_ROWS_ELEMENTS // n)
    for first in range(0, n, step):
        rows = operands.rows(set_index, "a", first, min(step, n - first))
        project(rows, "fp64", solutions, (0, n), out=products[first : first + step])
        row_sums[first : first + step] = absolute_sums(rows)
    right = operands.rows(set_index, "b", 0, n)[:, 0]
    return [solve_residual(x, products[:, 0, i], right, row_sums) for i, x in enumerate(solutions)]


def as_vectors(partial: Array) -> Array:
    """Return B r of all blocks and probes (k x blocks x PROBES) as vectors to project A on: (blocks PROBES) x k."""
    return np.ascontiguousarray(partial.reshape(len(partial), -1).T)


def check_on_host(
    operands: Operands,
    set_index: int,
    product: Callable[[int, int], Array],
    row_norms: NDArray[np.float64],
    seed: int,
) -> Residual:
    """Return the residual of a product in FP64 against operands that are regenerated; all piece by piece.

    Args:
        operands: where the operands come from.
        set_index: which set was multiplied.
        product: returns rows of the product, from the first on, so many: in its precision (bf16 as uint16).
        row_norms: as in `residual`.
        seed: of the probes.
    """
    p = operands.problem
    edges, sign = block_edges(p.precision, p.n), signs(seed, p.n).astype(np.float64)

    def projected(rows: Callable[[int, int], Array], count: int, vectors: Array, spans: tuple[int, ...]) -> Array:
        out = np.empty((count, len(spans) - 1, len(vectors)))
        step = max(1, HOST_ROWS_ELEMENTS // vectors.shape[1])
        for first in range(0, count, step):
            part = rows(first, min(step, count - first))
            project(part, p.precision, vectors, spans, out=out[first : first + step])
        return out

    partial = projected(lambda first, count: operands.rows(set_index, "b", first, count), p.k, sign, edges)
    vectors = as_vectors(partial)
    truth = projected(lambda first, count: operands.rows(set_index, "a", first, count), p.m, vectors, (0, p.k))
    truth = truth.reshape(p.m, len(edges) - 1, PROBES)
    return residual(p.precision, p.n, p.k, projected(product, p.m, sign, edges), truth, row_norms)
