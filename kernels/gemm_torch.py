"""Matrix products by torch, on any of its devices. torch is imported where it is used, never with this module."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from kernels import cublas, torch_switches
from kernels.base import MIN_DIMENSION, Precision, Size
from kernels.cuda_module import first_line
from kernels.gemm import GemmKernel, PreparedGemm, project_by_products, says_missing, trial_value
from kernels.operands import Array, random_normals

# They say nothing of what a device can compute.
FAULTS = frozenset({"OutOfMemoryError", "MemoryError", "AcceleratorError"})


def compile_nothing() -> None:
    """Have an Ascend processor use the kernels that its stack ships, not ones compiled at each shape's first launch."""
    import torch

    npu = getattr(torch, "npu", None)
    if npu is not None:
        with suppress(Exception):  # an old plug-in has no such mode, and raises what it likes
            npu.set_compile_mode(jit_compile=False)


def _add(precision: Precision, target: str) -> Any:
    """Return a matrix of ones of a type, after a sum of two of them was read back from the device.

    Raises:
        RuntimeError: the sum is wrong.
        Exception: the sum fails; a vendor's plug-in raises what it likes.
    """
    import torch

    one = torch.ones((MIN_DIMENSION, MIN_DIMENSION), dtype=_dtype(precision), device=target)
    if not bool((one + one == 2).all().item()):
        raise RuntimeError(f"torch's {precision} sum of 1 and 1 on {target} is not 2")
    return one


def _is_fault(error: BaseException) -> bool:
    """Return whether an error says nothing of what a device can compute."""
    return type(error).__name__ in FAULTS or "out of memory" in str(error).lower()


def _dtype(precision: Precision) -> Any:
    import torch

    return {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32, "fp64": torch.float64}[precision]


def _function(target: Any, name: str) -> Any:
    """Return a function of a device type's own module, or torch's for any accelerator where that lacks it."""
    import torch

    module = None if target.type == "mps" else getattr(torch, target.type, None)  # those of torch.mps take no device
    return getattr(module, name, None) or getattr(torch.accelerator, name)


class TorchGemm(PreparedGemm):
    """Operand sets in a device's memory (`kernels.base.Prepared`)."""

    def _take(self, target: str) -> None:
        import torch

        torch_switches.set_off()
        compile_nothing()
        precision = self.problem.precision
        self._torch = torch
        self._target = torch.device(target)
        self._dtype = _dtype(precision)
        # What a CPU does with 16 bits depends on its instructions, which torch does not report: never called native.
        upcast = self._target.type == "cpu" and precision in ("fp16", "bf16")
        self.method = "upcast" if upcast else "native"
        self._probe_in_numpy = self._target.type == "cpu"  # the same memory, without a pass for every vector

    def _empty(self, size: Size) -> Any:
        return self._torch.empty(size, dtype=self._dtype, device=self._target)

    def _random(self, size: Size) -> Any:
        try:
            return self._torch.randn(size, dtype=self._dtype, device=self._target)
        except (RuntimeError, NotImplementedError) as error:  # not every device type makes random numbers of every type
            if type(error).__name__ in FAULTS:
                raise
            return self._on_device(random_normals(self.problem.precision, size))

    def _on_device(self, matrix: Array) -> Any:
        if matrix.dtype == np.uint16:
            return self._torch.from_numpy(matrix.view(np.int16)).view(self._torch.bfloat16).to(self._target)
        return self._torch.from_numpy(matrix).to(self._target)

    def launch(self, first: int, count: int) -> None:
        """Enqueue products; `synchronize` waits for them."""
        for i in range(first, first + count):
            a, b, out = self._sets[i % self.operand_sets]
            self._torch.mm(a, b, out=out)

    def synchronize(self) -> None:
        """Wait until every launch has ended."""
        if self._target.type != "cpu":
            _function(self._target, "synchronize")(self._target)

    def poison(self, set_index: int) -> None:
        """Fill the output of one set with NaN."""
        self._sets[set_index][2].fill_(float("nan"))

    def close(self) -> None:
        """Free the operands."""
        self._sets.clear()
        self._references.clear()
        if self._target.type != "cpu":
            with suppress(AttributeError, NotImplementedError, RuntimeError):  # not every device type caches memory
                _function(self._target, "empty_cache")()

    def _on_host(self, matrix: Any) -> Array:
        matrix = matrix.cpu()
        if self.problem.precision == "bf16":
            return np.asarray(matrix.view(self._torch.int16).numpy()).view(np.uint16)
        return np.asarray(matrix.numpy())

    def _project(self, matrix: Any, vectors: Array, edges: tuple[int, ...]) -> Array:
        if self._probe_in_numpy:
            return super()._project(matrix, vectors, edges)
        sum_dtype = _dtype("fp64" if self.problem.precision == "fp64" else "fp32")
        there = self._torch.from_numpy(vectors).to(self._target)
        if vectors.dtype == np.int8:
            there = there.to(self._dtype)  # +-1 times any value is exact
        out = self._torch.empty((len(matrix), len(edges) - 1, len(vectors)), dtype=sum_dtype, device=self._target)
        return np.asarray(project_by_products(matrix, there, edges, out, lambda part: part).cpu().numpy())


class GemmTorch(GemmKernel):
    """The kernel gemm-torch: fp16, bf16, fp32 and fp64 on any torch device (`kernels.base.Kernel`)."""

    name = "gemm-torch"
    sets = TorchGemm

    def supports(self, precision: Precision, target: str) -> str | None:
        """Return None where this kernel computes `precision` on `target`, else the reason; tries a sum and a product.

        Raises:
            ImportError: torch is not installed.
            Exception: the stack is broken, whatever the precision; it raises what it likes.
        """
        try:
            import torch
        except ImportError:
            raise ImportError("torch is not installed (pip install 'petaseal[torch]')") from None
        _add("fp32", target)  # every stack has this sum: one that fails here lacks no precision, it is broken
        try:
            one = _add(precision, target)
        except Exception as error:
            if _is_fault(error):
                raise
            _add("fp32", target)  # again: the device may have failed since
            return first_line(error)
        value = trial_value(precision)
        try:
            product = torch.full_like(one, float("nan"))  # memory may still hold the same product of before
            torch.mm(one * value, one, out=product)
            exact = product.dtype == _dtype(precision) and bool((product == MIN_DIMENSION * value).all().item())
        except Exception as error:
            if _is_fault(error) or not says_missing(error):
                raise
            return first_line(error)
        return None if exact else f"torch's {precision} product on {target} has another type or value"

    def switches(self) -> dict[str, str]:
        """Set every reduced-precision switch off and return what each reads as afterwards."""
        return torch_switches.set_off() | cublas.torch_switches()
