"""Operands that an auditor can make again from a challenge (R2): Philox, a table of quantiles, plain IEEE steps.

What may not enter: anything whose bits depend on the host (its libm, its byte order, its number of cores).

The exact recipe, for an auditor in another language:

1. key: SHA-256 of the canonical JSON array ``["petaseal/operand/v1",challenge,device,precision,[m,n,k],set,operand]``
   (UTF-8, no spaces, numbers as integers; operand is "a", "b" or "grading"); its first 16 bytes are the two 64-bit
   key words of Philox4x64-10, each little-endian, first word first.
2. stream: block j = 1, 2, 3, ... is Philox4x64-10 of the counter words (j, 0, 0, 0); its four 64-bit words in order,
   each written little-endian, make 32 bytes. The concatenation of all blocks is cut into little-endian words of 16 bits
   (fp16, bf16), 32 bits (fp32, grading) or 64 bits (fp64). Word i is value i of the matrix in row-major order.
3. table: q[i], i = 0..65535, is the committed float64 table of normal quantiles at (i + 1/2)/65536, and
   d[i] = (q[i+1] - q[i-1])/2, at both ends the one-sided q[1] - q[0].
4. fp16, bf16: q[word], rounded once from float64 to nearest even.
   fp32, fp64: i is the word's top 16 bits and f its F = 16 or 48 low ones; t = (2f + 1 - 2^F) / 2^(F+1) is exact;
   the value is q[i] + t d[i] in float64, one rounding for the product and one for the sum (no fused multiply-add);
   fp32 rounds it once more to nearest even. The complement of a word gives exactly the negative value.
5. grading (fp64 only): e[j] = floor(65 w / 2^32) - 32 for the 32-bit word w number j, j = 0..k-1. Column j of A is
   multiplied by 2^e[j] and row j of B by 2^-e[j], both exactly: the product is the same, its summands too, but who
   splits operands into slices with common exponents loses up to 64 bits.
6. digests: SHA-256 of the operand as it is multiplied (graded), row-major, little-endian; of the grading as signed
   bytes.

A solve A x = b of order n (R15) has streams of its own: the array of step 1 begins with "petaseal/solve/v1", or of a
mixed one with "petaseal/mixed/v1", and its shape is [n,n,n]. Value i of A (row-major) or of b is (w >> 11) / 2^53 - 1/2
of the 64-bit word w number i, exactly: uniform in [-1/2, 1/2). A mixed solve adds floor(sqrt n), exactly an integer,
to each element of A's diagonal, and rounds once: FP16 factors without pivoting are then stable, and the matrix is
neither symmetric nor diagonally dominant. Digests are those of step 6.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from kernels.base import GemmProblem, Precision

Array = NDArray[Any]

TABLE_SHA256 = "4c2f5f42f122b6bd035838527b999a2a71644434978501f302767ff79fd4dada"
GRADING_LIMIT = 32  # e is uniform in [-32, 32]
CHUNK = 1 << 16  # values made at a time by one thread: what they need stays in its cache
WORD: dict[Precision, str] = {"fp16": "<u2", "bf16": "<u2", "fp32": "<u4", "fp64": "<u8"}
DTYPE: dict[Precision, DTypeLike] = {"fp16": np.float16, "bf16": np.uint16, "fp32": np.float32, "fp64": np.float64}


def side_by_side(work: Callable[[int], None], starts: Sequence[int]) -> None:
    """Run `work` for every start on as many threads as this process may use (`use_threads`)."""
    for _ in map(work, starts) if len(starts) == 1 else _pool(os.getpid(), pool_threads()).map(work, starts):
        pass


def use_threads(count: int) -> None:
    """Let `side_by_side` use so many threads of this process from now on: its share of the host's cores."""
    global _threads
    _threads = count


def pool_threads() -> int:
    """Return how many threads `side_by_side` uses: without a share, one for every CPU of the affinity mask."""
    affinity = getattr(os, "sched_getaffinity", None)
    return _threads or (len(affinity(0)) if affinity else os.cpu_count() or 1)


_threads: int | None = None


@cache
def _pool(pid: int, threads: int) -> ThreadPoolExecutor:  # one for each process: threads do not survive a fork
    return ThreadPoolExecutor(threads, f"petaseal-{pid}")


@cache
def quantiles() -> NDArray[np.float64]:
    """Return the committed table of 65,536 normal quantiles at (i + 1/2)/65536, float64.

    Raises:
        ValueError: the table is not the one that this version was released with.
    """
    table: NDArray[np.float64] = np.load(Path(__file__).with_name("normal_quantiles.npy"), allow_pickle=False)
    if digest(table) != TABLE_SHA256:
        raise ValueError("kernels/normal_quantiles.npy is not the table of this version; install petaseal again")
    table.setflags(write=False)
    return table


def make_quantiles() -> NDArray[np.float64]:
    """Return the table made anew: how the committed one came to be. Its last bits depend on the host's libm."""
    from statistics import NormalDist

    low = [NormalDist().inv_cdf((2 * i + 1) / 131072) for i in range(32768)]
    return np.array(low + [-value for value in reversed(low)])


@cache
def _steps() -> NDArray[np.float64]:
    q = quantiles()
    step = np.empty_like(q)
    step[1:-1] = (q[2:] - q[:-2]) * 0.5
    step[0] = step[-1] = q[1] - q[0]
    return step


@cache
def _table16(precision: Precision) -> Array:
    q = quantiles()
    if precision == "fp16":
        return q.astype(np.float16)
    fraction, exponent = np.frexp(q)  # bf16 has 8 significant bits; rint rounds to nearest even, once
    rounded: Array = np.ldexp(np.rint(fraction * 256), exponent - 8).astype(np.float32)
    return np.asarray(rounded.view(np.uint32) >> np.uint32(16), np.uint16)


def digest(array: Array) -> str:
    """Return the hex SHA-256 of an array's values, row-major and little-endian."""
    little: Array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return hashlib.sha256(little.reshape(-1).view(np.uint8).data).hexdigest()


def stream_key(*parts: object) -> bytes:
    """Return the 16 bytes that key a Philox stream: of the SHA-256 of the canonical JSON array of `parts`."""
    return hashlib.sha256(json.dumps(parts, separators=(",", ":"), ensure_ascii=False).encode()).digest()[:16]


def stream(key: bytes, word: str, first: int, count: int) -> Array:
    """Return words first..first+count-1 of the Philox stream of `key`, cut into words of the numpy type `word`."""
    per_block = 32 // np.dtype(word).itemsize
    block, skip = divmod(first, per_block)
    generator = np.random.Philox(key=int.from_bytes(key, "little"), counter=block)  # numpy steps, then draws
    raw: Array = np.asarray(generator.random_raw(-(-(skip + count) // per_block) * 4))
    return raw.astype("<u8", copy=False).view(word)[skip : skip + count]


def normals(key: bytes, precision: Precision, first: int, count: int) -> Array:
    """Return values first..first+count-1 of a stream of standard normals, in `precision` (bf16 as uint16)."""
    word = stream(key, WORD[precision], first, count)
    if precision in ("fp16", "bf16"):
        return np.asarray(np.take(_table16(precision), word))
    bits = 48 if precision == "fp64" else 16
    index = (word >> word.dtype.type(bits)).astype(np.intp)
    low = (word & word.dtype.type((1 << bits) - 1)).astype(np.int64)
    value = (2 * low + (1 - (1 << bits))).astype(np.float64)
    value *= 0.5 ** (bits + 1)
    value *= np.take(_steps(), index)
    value += np.take(quantiles(), index)
    return np.asarray(value, DTYPE[precision])


def uniforms(key: bytes, precision: Precision, first: int, count: int) -> Array:
    """Return values first..first+count-1 of a stream of FP64 numbers that are uniform in [-1/2, 1/2), exactly."""
    value: Array = (stream(key, "<u8", first, count) >> np.uint64(11)).astype(np.float64)
    value *= 0.5**53
    value -= 0.5
    return value


Values = Callable[[bytes, Precision, int, int], Array]


def _matrix(key: bytes, precision: Precision, first: int, size: tuple[int, int], values: Values = normals) -> Array:
    """Return rows of a stream of numbers from row `first` on, made on all cores."""
    rows, width = size
    out = np.empty(rows * width, DTYPE[precision])

    def fill(at: int) -> None:
        count = min(CHUNK, len(out) - at)
        out[at : at + count] = values(key, precision, first * width + at, count)

    side_by_side(fill, range(0, len(out), CHUNK))
    return out.reshape(size)


def random_normals(precision: Precision, size: tuple[int, int]) -> Array:
    """Return a matrix of standard normals for a trial: from no challenge, without digests or norms."""
    return _matrix(os.urandom(16), precision, 0, size)


def random_uniforms(size: tuple[int, int]) -> Array:
    """Return a matrix that is uniform in [-1/2, 1/2) for a trial of a solve: from no challenge."""
    return _matrix(os.urandom(16), "fp64", 0, size, uniforms)


def decode(array: Array, precision: Precision, dtype: DTypeLike) -> Array:
    """Return values of `precision` as `dtype` (float32 or float64), exactly; a view where that is possible."""
    if precision == "bf16":
        array = (array.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return array.astype(dtype, copy=False)


@dataclass(frozen=True)
class OperandSet:
    """The operands of one set on the host, as they are multiplied."""

    a: Array  # m x k
    b: Array  # k x n
    row_norms: NDArray[np.float64]  # of the ungraded A, length m
    sha256: dict[str, str]  # "a", "b" and, for fp64, "grading"


@dataclass(frozen=True)
class Operands:
    """Where all operands of a problem come from.

    Args:
        problem: gives precision and shape.
        challenge: nonce of the campaign, hex.
        device: text that names the device.
    """

    problem: GemmProblem
    challenge: str
    device: str

    def key(self, set_index: int, operand: str) -> bytes:
        """Return the Philox key of one operand ("a", "b" or "grading") of one set."""
        p = self.problem
        shape = [p.m, p.n, p.k]
        return stream_key("petaseal/operand/v1", self.challenge, self.device, p.precision, shape, set_index, operand)

    def grading(self, set_index: int) -> NDArray[np.int8] | None:
        """Return the exponents e of a set, length k; None where operands are not graded (all but fp64)."""
        if self.problem.precision != "fp64":
            return None
        word = stream(self.key(set_index, "grading"), "<u4", 0, self.problem.k).astype(np.uint64)
        return ((word * np.uint64(2 * GRADING_LIMIT + 1) >> np.uint64(32)).astype(np.int64) - GRADING_LIMIT).astype(
            np.int8
        )

    def rows(self, set_index: int, operand: str, first: int, count: int, *, graded: bool = True) -> Array:
        """Return rows first..first+count-1 of "a" (m x k) or "b" (k x n) of one set; bf16 as uint16."""
        p = self.problem
        width = p.k if operand == "a" else p.n
        matrix = _matrix(self.key(set_index, operand), p.precision, first, (count, width))
        exponents = self.grading(set_index) if graded else None
        if exponents is not None:
            e = exponents.astype(np.int64)
            matrix *= np.ldexp(1.0, e) if operand == "a" else np.ldexp(1.0, -e[first : first + count])[:, None]
        return matrix

    def make(self, set_index: int) -> OperandSet:
        """Return both operands of one set, with their digests and the row norms that errors are measured against."""
        p = self.problem
        a = self.rows(set_index, "a", 0, p.m, graded=False)
        norms = np.empty(p.m)

        def norm(at: int) -> None:
            part = decode(a[at : at + step], p.precision, np.float64)
            norms[at : at + step] = np.sqrt(np.einsum("ij,ij->i", part, part))

        step = max(1, CHUNK // p.k)
        side_by_side(norm, range(0, p.m, step))
        b = self.rows(set_index, "b", 0, p.k)
        sha256 = {}
        exponents = self.grading(set_index)
        if exponents is not None:
            a *= np.ldexp(1.0, exponents.astype(np.int64))
            sha256["grading"] = digest(exponents)
        return OperandSet(a, b, norms, {"a": digest(a), "b": digest(b), **sha256})


@dataclass(frozen=True)
class SolveOperands(Operands):
    """Where the matrix and the right side of a solve come from (R15): uniform numbers, and no grading.

    Args:
        mixed: the diagonal is raised for factors in FP16.
    """

    mixed: bool = False

    def key(self, set_index: int, operand: str) -> bytes:
        """Return the Philox key of the matrix "a" or of the right side "b" of one set."""
        p, domain = self.problem, "petaseal/mixed/v1" if self.mixed else "petaseal/solve/v1"
        return stream_key(domain, self.challenge, self.device, p.precision, [p.m, p.n, p.k], set_index, operand)

    def rows(self, set_index: int, operand: str, first: int, count: int, *, graded: bool = True) -> Array:
        """Return rows first..first+count-1 of the matrix "a" (n x n) or of the right side "b" (n x 1) of one set."""
        width = self.problem.n if operand == "a" else 1
        matrix = _matrix(self.key(set_index, operand), "fp64", first, (count, width), uniforms)
        if self.mixed and operand == "a":
            raise_diagonal(matrix, first, width)
        return matrix

    def make(self, set_index: int) -> OperandSet:
        """Return the matrix and the right side of one set, with the sums of the rows' absolute values."""
        n = self.problem.n
        a, b = self.rows(set_index, "a", 0, n), self.rows(set_index, "b", 0, n)
        return OperandSet(a, b, absolute_sums(a), {"a": digest(a), "b": digest(b)})


def raise_diagonal(matrix: Array, first: int, n: int) -> None:
    """Add floor(sqrt n) to the diagonal of rows first... of a matrix of order n."""
    at = np.arange(len(matrix))
    matrix[at, first + at] += isqrt(n)


def absolute_sums(matrix: Array) -> NDArray[np.float64]:
    """Return the sum of the absolute values of each row of an FP64 matrix, whose largest is its infinity norm."""
    sums = np.empty(len(matrix))
    step = max(1, CHUNK // matrix.shape[1])

    def add(at: int) -> None:
        sums[at : at + step] = np.abs(matrix[at : at + step]).sum(axis=1)

    side_by_side(add, range(0, len(matrix), step))
    return sums
