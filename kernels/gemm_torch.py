"""Matrix products by torch, on any of its devices. torch is imported where it is used, never with this module."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels import cublas, torch_switches, verify
from kernels.base import MIN_DIMENSION, Precision, Problem
from kernels.cuda_module import first_line
from kernels.gemm import PreparedGemm, Size, says_missing, trial_value
from kernels.operands import Array, Operands, random_normals

PROBED_ELEMENTS = 1 << 23  # elements of a matrix that are probed at a time: their products stay in a large cache
FAULTS = frozenset(
    {"OutOfMemoryError", "MemoryError", "AcceleratorError"}
)  # they tell nothing of what a device can compute


class GemmTorch:
    """The kernel gemm-torch: fp16, bf16, fp32 and fp64 on any torch device (`kernels.base.Kernel`)."""

    name = "gemm-torch"

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

    def prepare(
        self,
        problem: Problem,
        challenge: str,
        device: str,
        target: str,
        min_operand_bytes: int,
        min_sets: int = 2,
    ) -> TorchGemm:
        """Generate the operand sets of a problem and copy them to `target` (`kernels.base.Kernel.prepare`)."""
        return self._prepare(problem, target, Operands(problem, challenge, device), min_operand_bytes, min_sets)

    def prepare_trial(self, problem: Problem, target: str) -> TorchGemm:
        """Make two operand sets for a trial on `target` (`kernels.base.Kernel.prepare_trial`)."""
        return self._prepare(problem, target, None, 0, 2)

    def _prepare(
        self, problem: Problem, target: str, operands: Operands | None, min_operand_bytes: int, min_sets: int
    ) -> TorchGemm:
        reason = self.supports(problem.precision, target)
        if reason is not None:
            raise ValueError(f"{self.name} does not compute {problem.precision} on {target}: {reason}")
        self.switches()
        compile_nothing()
        return TorchGemm(problem, operands, target, min_operand_bytes, min_sets)


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
    """Return whether an error tells nothing of what a device can compute."""
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

    def __init__(
        self, problem: Problem, operands: Operands | None, target: str, min_operand_bytes: int, min_sets: int
    ) -> None:
        import torch

        self._torch = torch
        self._target = torch.device(target)
        self._dtype = _dtype(problem.precision)
        self._sum_dtype = torch.float64 if problem.precision == "fp64" else torch.float32
        # What a CPU does with 16 bits depends on its instructions, which torch does not tell: never claimed as native.
        upcast = self._target.type == "cpu" and problem.precision in ("fp16", "bf16")
        self.method = "upcast" if upcast else "native"
        self._probe_in_numpy = self._target.type == "cpu"  # the same memory, without a pass for every vector
        super().__init__(problem, operands, min_operand_bytes, min_sets)

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

    def _project_output(self, set_index: int, sign: NDArray[np.int8]) -> Array:
        if self._probe_in_numpy:
            return super()._project_output(set_index, sign)
        edges = verify.block_edges(self.problem.precision, self.problem.n)
        return np.asarray(self._project(self._sets[set_index][2], self._signs(sign), edges).cpu().numpy())

    def _reference(self, set_index: int, sign: NDArray[np.int8]) -> Array:
        if self._probe_in_numpy:
            return super()._reference(set_index, sign)
        a, b, _ = self._sets[set_index]
        partial = self._project(b, self._signs(sign), verify.block_edges(self.problem.precision, self.problem.n))
        vectors = partial.reshape(len(partial), -1).T.contiguous()
        truth = self._project(a, vectors, (0, self.problem.k)).reshape(len(a), *partial.shape[1:])
        return np.asarray(truth.cpu().numpy())

    def _signs(self, sign: NDArray[np.int8]) -> Any:
        return self._torch.from_numpy(sign).to(self._target).to(self._dtype)  # +-1 times any value is exact

    def _project(self, matrix: Any, vectors: Any, edges: tuple[int, ...]) -> Any:
        """Return the dot products of rows with vectors, block by block (`verify.project`), where the matrix lies."""
        (rows, length), blocks = matrix.shape, len(edges) - 1
        out = self._torch.empty((rows, blocks, len(vectors)), dtype=self._sum_dtype, device=self._target)
        step = max(1, PROBED_ELEMENTS // length)
        for first in range(0, rows, step):
            part = matrix[first : first + step]
            for index, vector in enumerate(vectors):
                product = part * vector
                if length % blocks == 0:  # all are of one width
                    sums = product.reshape(-1, blocks, length // blocks).sum(2, dtype=self._sum_dtype)
                    out[first : first + step, :, index] = sums
                    continue
                for block, (low, high) in enumerate(pairwise(edges)):
                    out[first : first + step, block, index] = product[:, low:high].sum(1, dtype=self._sum_dtype)
        return out
