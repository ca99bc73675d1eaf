"""Products made on purpose, honest and not, and how R5 judges them: computed in FP64 and rounded by hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels import verify
from kernels.base import GemmProblem, Precision, Residual
from kernels.operands import Operands, decode

from .bounds import verdict

Matrix = NDArray[np.float64]
CHALLENGE = "00112233445566778899aabbccddeeff"


def rounded(value: Matrix, bits: int) -> Matrix:
    """Return `value` rounded to nearest even at `bits` significant bits, without limits of exponent."""
    fraction, exponent = np.frexp(value)
    return np.asarray(np.ldexp(np.rint(fraction * 2.0**bits), exponent - bits))


def rounding(bits: int) -> Callable[[Matrix], Matrix]:
    return lambda value: rounded(value, bits)


bf16, tf32, fp32 = rounding(8), rounding(11), rounding(24)
TO: dict[str, Callable[[Matrix], Matrix]] = {
    "fp16": lambda value: value.astype(np.float16).astype(np.float64),
    "bf16": bf16,
    "fp32": fp32,
    "fp64": lambda value: value,
}


class Case:
    """The operands of one problem in FP64, its honest product, and the judgement of any other one."""

    def __init__(self, precision: Precision, m: int, n: int, k: int) -> None:
        self.precision: Precision = precision
        self.n, self.k = n, k
        operands = Operands(GemmProblem("gemm-numpy", precision, m, n, k), CHALLENGE, "cpu:0")
        made = operands.make(0)
        self.a: Matrix = decode(made.a, precision, np.float64)
        self.b: Matrix = decode(made.b, precision, np.float64)
        self.norms = made.row_norms
        self.grading = operands.grading(0)
        self.exact: Matrix = self.a @ self.b
        self.honest = TO[precision](self.exact)
        self._edges = verify.block_edges(precision, n)

    def residual(self, product: Matrix, seed: int = 7) -> Residual:
        signs = verify.signs(seed, self.n).astype(np.float64)
        truth = self._truth(seed)
        probed = verify.project(np.ascontiguousarray(product), "fp64", signs, self._edges)
        return verify.residual(self.precision, self.n, self.k, probed, truth, self.norms)

    def verdict(self, product: Matrix, seed: int = 7) -> str:
        return verdict(self.precision, self.residual(product, seed))

    @cache  # noqa: B019
    def _truth(self, seed: int) -> NDArray[Any]:
        signs = verify.signs(seed, self.n).astype(np.float64)
        partial = verify.project(self.b, "fp64", signs, self._edges)
        truth = verify.project(self.a, "fp64", verify.as_vectors(partial), (0, self.k))
        return np.asarray(truth.reshape(len(self.a), len(self._edges) - 1, verify.PROBES))


@cache
def case(precision: Precision, m: int, n: int, k: int) -> Case:
    return Case(precision, m, n, k)


def accumulated_in_fp16(a: Matrix, b: Matrix, step: int) -> Matrix:
    """Return a product whose sums of `step` summands are exact and are added up, one after the other, in FP16."""
    total = np.zeros((len(a), b.shape[1]))
    for at in range(0, a.shape[1], step):
        total = TO["fp16"](total + a[:, at : at + step] @ b[at : at + step])
    return total


def tree_in_fp16(a: Matrix, b: Matrix, leaf: int) -> Matrix:
    """Return a product whose sums of `leaf` summands are rounded to FP16 and added up pairwise in FP16."""
    parts = [TO["fp16"](a[:, at : at + leaf] @ b[at : at + leaf]) for at in range(0, a.shape[1], leaf)]
    while len(parts) > 1:
        parts = [TO["fp16"](one + other) for one, other in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def lanes_in_fp16(a: Matrix, b: Matrix, lanes: int) -> Matrix:
    """Return a product that is summed in FP16 in `lanes` interleaved sums, which are then added up pairwise in FP16."""
    parts = [accumulated_in_fp16(a[:, lane::lanes], b[lane::lanes], 1) for lane in range(lanes)]
    while len(parts) > 1:
        parts = [TO["fp16"](one + other) for one, other in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def from_slices(a: Matrix, b: Matrix, count: int, bits: int) -> Matrix:
    """Return an FP64 product emulated after Ozaki, from `count` slices of `bits` bits (int8: 7, bf16: 8).

    Each row of A and column of B has one exponent; products of slices are exact, and summed in FP64 from the smallest.
    """

    def slices(value: Matrix, axis: int) -> tuple[list[Matrix], Matrix]:
        scale = np.exp2(np.ceil(np.log2(np.abs(value).max(axis=axis, keepdims=True))))
        rest, parts = value / scale, []
        for _ in range(count):
            rest = rest * 2.0**bits
            parts.append(np.rint(rest))
            rest = rest - parts[-1]
        return parts, scale

    (sa, scale_a), (sb, scale_b) = slices(a, 1), slices(b, 0)
    total = np.zeros((len(a), b.shape[1]))
    for weight in range(count - 1, -1, -1):
        for i in range(weight + 1):
            total += (sa[i] @ sb[weight - i]) * 2.0 ** (-bits * (weight + 2))
    return total * scale_a * scale_b
