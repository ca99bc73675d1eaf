"""Matrix products by cuBLAS through cupy: a way to the product that shares no code with torch's.

The compute type is named in every call (R1). cupy is imported where it is used, never with this module.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kernels import cublas, cuda_module
from kernels.base import MIN_DIMENSION, Precision, Size
from kernels.gemm import GemmKernel, PreparedGemm, project_by_products, says_missing, trial_value
from kernels.operands import DTYPE, Array, decode, random_normals

BF16_NAN = 0x7FC0
BF16_CAPABILITY = 80  # least compute capability with bf16 products


class Types(NamedTuple):
    """How cuBLAS calls the operands, the computation and the scalars of a precision (cudaDataType_t and others)."""

    data: int
    compute: int
    scalar: type[np.floating[Any]]


R_32F, R_64F, R_16F, R_16BF = 0, 1, 2, 14
COMPUTE_32F, COMPUTE_64F = 68, 70
OP_N, GEMM_DEFAULT = 0, -1
TYPES: dict[Precision, Types] = {
    "fp16": Types(R_16F, COMPUTE_32F, np.float32),
    "bf16": Types(R_16BF, COMPUTE_32F, np.float32),
    # Not the pedantic types: they may choose other, slower kernels than the figure's, and what turns FP32 into TF32 or
    # emulates is the math mode, which is off.
    "fp32": Types(R_32F, COMPUTE_32F, np.float32),
    "fp64": Types(R_64F, COMPUTE_64F, np.float64),
}


class Arguments(NamedTuple):
    """The sizes that a column-major GEMM is called with."""

    transa: int
    transb: int
    m: int
    n: int
    k: int
    lda: int
    ldb: int
    ldc: int


def arguments(m: int, n: int, k: int) -> Arguments:
    """Return how a column-major GEMM makes the row-major C (m x n) = A B: as C^T = B^T A^T, so that B comes first."""
    return Arguments(OP_N, OP_N, n, m, k, n, k, n)


def _trial(precision: Precision, device: Any) -> bool:
    """Return whether a small product, whose operands are exact, is exact."""
    import cupy

    size, value = MIN_DIMENSION, trial_value(precision)
    one = np.ones((size, size), np.float32 if precision == "bf16" else DTYPE[precision])
    a, b = one * one.dtype.type(value), one
    if precision == "bf16":
        a, b = ((part.view(np.uint32) >> np.uint32(16)).astype(np.uint16) for part in (a, b))
    with device:
        # Memory may still hold the same product of before.
        out = cupy.full((size, size), BF16_NAN if precision == "bf16" else float("nan"), DTYPE[precision])
        _Gemm(precision, size, size, size, device)(cupy.asarray(a), cupy.asarray(b), out)
        product = decode(out.get(), precision, np.float64)
    return bool((product == size * value).all())


class _Gemm:
    """cuBLAS's call for one precision and shape on one device."""

    def __init__(self, precision: Precision, m: int, n: int, k: int, device: Any) -> None:
        from cupy_backends.cuda.libs import cublas as binding

        self._call = binding.gemmEx
        self._types = TYPES[precision]
        self._sizes = arguments(m, n, k)
        self._handle = int(device.cublas_handle)
        binding.setMathMode(self._handle, cublas.DISALLOW_REDUCED_PRECISION_REDUCTION)
        self._scalars = np.array([1, 0], self._types.scalar)  # alpha and beta, read by the host
        self._one = int(self._scalars.ctypes.data)
        self._zero = self._one + self._scalars.itemsize

    def __call__(self, a: Any, b: Any, out: Any) -> None:
        s, (data, compute, _) = self._sizes, self._types
        first, second, third = b.data.ptr, a.data.ptr, out.data.ptr  # see `arguments`
        self._call(
            *(self._handle, s.transa, s.transb, s.m, s.n, s.k),
            *(self._one, first, data, s.lda, second, data, s.ldb),
            *(self._zero, third, data, s.ldc, compute, GEMM_DEFAULT),
        )


class CupyGemm(PreparedGemm):
    """Operand sets in a device's memory (`kernels.base.Prepared`); bf16 lies there as uint16."""

    def _take(self, target: str) -> None:
        import cupy

        problem = self.problem
        self.method = "native"
        self._cupy = cupy
        self._device = cuda_module.device(target)
        self._gemm = _Gemm(problem.precision, problem.m, problem.n, problem.k, self._device)

    def _empty(self, size: Size) -> Any:
        with self._device:
            return self._cupy.empty(size, DTYPE[self.problem.precision])

    def _random(self, size: Size) -> Any:
        precision = self.problem.precision
        try:
            with self._device:
                made = self._cupy.random.standard_normal(size, np.float64 if precision == "fp64" else np.float32)
                # the upper half of an FP32 number is a BF16 number
                return made.view(np.uint16)[:, 1::2].copy() if precision == "bf16" else made.astype(DTYPE[precision])
        except ImportError:  # cupy without cuRAND
            return self._on_device(random_normals(precision, size))

    def _on_device(self, matrix: Array) -> Any:
        with self._device:
            return self._cupy.asarray(matrix)

    def launch(self, first: int, count: int) -> None:
        """Enqueue products; `synchronize` waits for them."""
        with self._device:
            for i in range(first, first + count):
                self._gemm(*self._sets[i % self.operand_sets])

    def synchronize(self) -> None:
        """Wait until every launch has ended."""
        self._device.synchronize()

    def poison(self, set_index: int) -> None:
        """Fill the output of one set with NaN."""
        with self._device:
            self._sets[set_index][2].fill(BF16_NAN if self.problem.precision == "bf16" else float("nan"))

    def close(self) -> None:
        """Free the operands."""
        self._sets.clear()
        self._references.clear()
        with self._device:
            self._cupy.get_default_memory_pool().free_all_blocks()

    def _on_host(self, matrix: Any) -> Array:
        return np.asarray(matrix.get())

    def _project(self, matrix: Any, vectors: Array, edges: tuple[int, ...]) -> Array:
        with self._device:
            there = self._cupy.asarray(vectors.astype(self._sum_type, copy=False))
            out = self._cupy.empty((len(matrix), len(edges) - 1, len(vectors)), self._sum_type)
            decoded = partial(decode, precision=self.problem.precision, dtype=self._sum_type)
            return np.asarray(project_by_products(matrix, there, edges, out, decoded).get())


class GemmCupy(GemmKernel):
    """The kernel gemm-cupy: fp16, bf16, fp32 and fp64 on CUDA devices (`kernels.base.Kernel`)."""

    name = "gemm-cupy"
    sets = CupyGemm

    def supports(self, precision: Precision, target: str) -> str | None:
        """Return None where this kernel computes `precision` on `target`, else the reason; tries a small product.

        Raises:
            RuntimeError: cupy or CUDA is missing or broken, whatever the precision.
        """
        reason = cuda_module.unavailable(target)
        if reason is not None:
            if not target.startswith("cuda:"):
                return reason
            raise RuntimeError(reason)
        device = cuda_module.device(target)
        capability = device.compute_capability
        if precision == "bf16" and int(capability) < BF16_CAPABILITY:
            return f"compute capability {capability[:-1]}.{capability[-1]} has no bf16 products"
        try:
            exact = _trial(precision, device)
        except RuntimeError as error:
            if not says_missing(error):
                raise
            return cuda_module.first_line(error)
        return None if exact else f"cuBLAS's {precision} product on {target} has another value"

    def switches(self) -> dict[str, str]:
        """Set the math mode of the current device's handle to exact and return what its switches read as."""
        unreadable = dict.fromkeys(cublas.SWITCHES, "unreadable")
        try:
            import cupy
            from cupy_backends.cuda.libs import cublas as binding

            handle = int(cupy.cuda.Device().cublas_handle)
        except Exception:  # there is no cuBLAS to ask; what computes says why
            return unreadable
        with suppress(Exception):
            binding.setMathMode(handle, cublas.DISALLOW_REDUCED_PRECISION_REDUCTION)
        library = cublas.load(Path(binding.__file__))  # symbols are looked up in the cuBLAS that it is linked against
        states = unreadable if library is None else cublas.switches(library, handle)
        with suppress(Exception):
            states |= {"cublas.math_mode": cublas.math_mode(int(binding.getMathMode(handle)))}
        return states if library is None else states | cublas.named("cupy.blas", library)
