"""Matrix products by numpy's BLAS, on the CPU. FP16 is up-cast inside every launch, whose time includes it (R1)."""

from __future__ import annotations

import numpy as np

from kernels.base import Precision, Size
from kernels.blas import numpy_blas
from kernels.gemm import GemmKernel, PreparedGemm
from kernels.operands import DTYPE, Array, random_normals


class NumpyGemm(PreparedGemm):
    """Operand sets in main memory (`kernels.base.Prepared`)."""

    def _take(self, target: str) -> None:
        self.method = "upcast" if self.problem.precision == "fp16" else "native"
        sizes = self.problem.sizes if self.method == "upcast" else ()
        self._wide = [np.empty(size, np.float32) for size in sizes]

    def _empty(self, size: Size) -> Array:
        return np.empty(size, DTYPE[self.problem.precision])

    def _random(self, size: Size) -> Array:
        return random_normals(self.problem.precision, size)

    def _on_device(self, matrix: Array) -> Array:
        return matrix

    def launch(self, first: int, count: int) -> None:
        """Multiply; when this returns, it is done."""
        for i in range(first, first + count):
            a, b, out = self._sets[i % self.operand_sets]
            if not self._wide:  # fp32 and fp64 have BLAS routines of their own
                np.matmul(a, b, out=out)
                continue
            # In every launch, into the same buffers: operands that were widened once would be FP32 operands (R1).
            wide_a, wide_b, wide_out = self._wide
            np.copyto(wide_a, a)
            np.copyto(wide_b, b)
            np.matmul(wide_a, wide_b, out=wide_out)
            np.copyto(out, wide_out, casting="same_kind")

    def synchronize(self) -> None:
        """Return at once: launches on the CPU are done when they return."""

    def poison(self, set_index: int) -> None:
        """Fill the output of one set with NaN."""
        self._sets[set_index][2].fill(np.nan)

    def close(self) -> None:
        """Free the operands."""
        self._sets.clear()
        self._wide.clear()
        self._references.clear()

    def _on_host(self, matrix: Array) -> Array:
        return matrix


class GemmNumpy(GemmKernel):
    """The kernel gemm-numpy: fp32 and fp64 natively, fp16 by up-casting (`kernels.base.Kernel`)."""

    name = "gemm-numpy"
    sets = NumpyGemm

    def supports(self, precision: Precision, target: str) -> str | None:
        """Return None where this kernel computes `precision` on `target`, else the reason."""
        if target != "cpu":
            return f"numpy computes on the CPU only, not on {target}"
        return "numpy has no bf16" if precision == "bf16" else None

    def switches(self) -> dict[str, str]:
        """Return which BLAS numpy calls: it has no switches, and its environment is the caller's to judge."""
        return numpy_blas()
