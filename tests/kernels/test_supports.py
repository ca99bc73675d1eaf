"""Whether a device lacks a precision, which is a fact about it, or its stack is broken: a failure with its text."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from bench.engine.compute import failure_of
from kernels.base import PRECISIONS, GemmProblem, Precision
from kernels.gemm import says_missing
from kernels.gemm_cupy import GemmCupy
from kernels.gemm_torch import GemmTorch
from kernels.operands import Array

from .fake_cupy import FakeCupy
from .products import CHALLENGE

Ones = Callable[..., torch.Tensor]
# What plug-ins of torch, libraries and torch itself say of a type that they do not multiply.
MISSING = (
    "call aclnnMm failed, detail:EZ1001: [PID: 1] Tensor self not implemented for DT_DOUBLE, should be in dtype support"
    " list [DT_FLOAT,DT_FLOAT16,DT_BFLOAT16].",
    "NPU function error: call aclnnMm failed, error code is 161002",
    "mm failed: NOT_SUPPORTED",
    "\"addmm_impl_cpu_\" not implemented for 'Half'",
    "Double and complex datatype matmul is not supported in oneDNN",
    "Required aspect fp64 is not supported on the device",
    "CUBLAS_STATUS_ARCH_MISMATCH",
)
BROKEN = (
    "call aclnnMm failed, detail:EZ9999: Inner Error! error code is 507011",
    "NPU function error: call aclnnMm failed, error code is 561107\nEZ9999: Inner Error! Get regInfo failed, the"
    " binary_info_config.json of socVersion [ascend910b] does not support opType [MatMulV2].",
    "dlopen libopapi.so failed, error:libnnopbase.so: cannot open shared object file",
    "CNRT error: cnrtErrorNoDevice",
    "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
    "CUDA error: no kernel image is available for execution on the device",
)


def prepare(precision: Precision) -> None:
    GemmTorch().prepare(GemmProblem("gemm-torch", precision, 32, 32, 32), CHALLENGE, "cpu:0", "cpu", 0)


def refusing(real: Ones, refuses: Callable[[torch.dtype], bool], said: str) -> Ones:
    """Return torch.ones of a device that refuses some types, as a plug-in does: by a plain RuntimeError."""

    def ones(*args: Any, dtype: torch.dtype, **named: Any) -> torch.Tensor:
        if refuses(dtype):
            raise RuntimeError(said)
        return real(*args, dtype=dtype, **named)

    return ones


def test_the_cpu_has_all() -> None:
    assert [GemmTorch().supports(precision, "cpu") for precision in PRECISIONS] == [None] * len(PRECISIONS)


@pytest.mark.parametrize("said", BROKEN)
def test_a_stack_that_does_not_even_add_is_broken(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "ones", refusing(torch.ones, lambda dtype: True, said))
    for precision in PRECISIONS:
        with pytest.raises(RuntimeError) as error:
            GemmTorch().supports(precision, "cpu")
        assert failure_of(error.value)[0] == "device-failed"
        assert said.split(":")[0] in failure_of(error.value)[1]


def test_a_type_that_cannot_be_added_is_missing_whatever_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "ones", refusing(torch.ones, lambda d: d == torch.float64, "EZ9999: inner error.\nmore"))
    assert GemmTorch().supports("fp64", "cpu") == "EZ9999: inner error"
    assert GemmTorch().supports("fp16", "cpu") is None


def test_a_device_that_fails_at_the_second_sum_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    sums: list[torch.dtype] = []

    def refuses(dtype: torch.dtype) -> bool:
        sums.append(dtype)
        return len(sums) > 1

    monkeypatch.setattr(torch, "ones", refusing(torch.ones, refuses, "the device is gone"))
    with pytest.raises(RuntimeError, match="the device is gone"):
        GemmTorch().supports("fp16", "cpu")
    assert sums == [torch.float32, torch.float16, torch.float32]


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("full"), RuntimeError("NPU out of memory. Tried to allocate 2.00 MiB"), MemoryError()],
)
def test_a_device_without_memory_is_not_one_without_the_precision(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = torch.ones

    def full(*args: Any, dtype: torch.dtype, **named: Any) -> torch.Tensor:
        if dtype == torch.float16:
            raise error
        return real(*args, dtype=dtype, **named)

    monkeypatch.setattr(torch, "ones", full)
    with pytest.raises(type(error)):
        GemmTorch().supports("fp16", "cpu")


def test_a_sum_that_is_wrong_is_a_broken_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "ones", lambda *args, **named: torch.zeros(*args, **named))
    with pytest.raises(RuntimeError, match="torch's fp32 sum of 1 and 1 on cpu is not 2"):
        GemmTorch().supports("fp16", "cpu")


@pytest.mark.parametrize(("said", "missing"), [*((s, True) for s in MISSING), *((s, False) for s in BROKEN)])
def test_a_product_that_fails_is_missing_only_where_that_is_said(
    said: str, missing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mm(*args: Any, **named: Any) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(torch, "mm", mm)
    assert says_missing(RuntimeError(said)) is missing
    if missing:
        assert GemmTorch().supports("fp64", "cpu") == said.rstrip(".")
        with pytest.raises(ValueError, match="gemm-torch does not compute fp64 on cpu: "):
            prepare("fp64")
    else:
        with pytest.raises(RuntimeError) as error:
            GemmTorch().supports("fp64", "cpu")
        assert failure_of(error.value)[0] == "device-failed"


def test_a_product_that_is_never_written_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that is given again still holds the product of before, which once "supported" FP64."""
    real = torch.mm
    value = 1 + 2.0**-30
    before = torch.full((32, 32), 32 * value, dtype=torch.float64)

    def mm(a: torch.Tensor, b: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
        if a.dtype == torch.float64:
            return before if out is None else out
        return real(a, b) if out is None else real(a, b, out=out)

    monkeypatch.setattr(torch, "mm", mm)
    assert GemmTorch().supports("fp64", "cpu") == "torch's fp64 product on cpu has another type or value"
    assert GemmTorch().supports("fp32", "cpu") is None


def test_a_torch_that_computes_in_another_type_is_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    """As some plug-ins do with FP64: the product is cast, or every matrix of that type is."""
    real_mm, real_ones = torch.mm, torch.ones
    monkeypatch.setattr(torch, "mm", lambda a, b, out: out.copy_(real_mm(a.float(), b.float())))
    said = "torch's fp64 product on cpu has another type or value"
    assert GemmTorch().supports("fp64", "cpu") == said
    monkeypatch.setattr(torch, "mm", real_mm)
    monkeypatch.setattr(torch, "ones", lambda *args, dtype, **named: real_ones(*args, dtype=torch.float32, **named))
    assert GemmTorch().supports("fp64", "cpu") == said


def test_a_device_that_there_is_not_or_a_missing_torch_is_no_missing_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for target in ("frob", "xpu:99"):
        with pytest.raises(Exception) as error:
            GemmTorch().supports("fp64", target)
        assert failure_of(error.value)[0] == "device-failed"
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"^torch is not installed \(pip install 'petaseal\[torch\]'\)$"):
        prepare("fp16")


# --- cupy ---


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeCupy:
    return FakeCupy().install(monkeypatch)


@pytest.mark.parametrize(("said", "missing"), [("CUBLAS_STATUS_NOT_SUPPORTED", True), ("cudaErrorUnknown", False)])
def test_an_error_of_cublas_is_missing_only_where_it_says_so(fake: FakeCupy, said: str, missing: bool) -> None:
    def fail(product: Array) -> Array:
        raise RuntimeError(said)

    fake.cublas.spoil = fail
    if missing:
        assert GemmCupy().supports("fp64", "cuda:0") == said
    else:
        with pytest.raises(RuntimeError, match=said):
            GemmCupy().supports("fp64", "cuda:0")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_cublas_that_writes_nothing_is_seen(
    fake: FakeCupy, precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the output's memory still holds the right product, only NaN before the launch shows it."""
    cupy: Any = sys.modules["cupy"]
    value = 32 * (1 + 2.0**-30 if precision == "fp64" else 1.0)
    bits = 0x4200 if precision == "bf16" else value  # 32 in BF16
    monkeypatch.setattr(cupy, "zeros", lambda size, dtype: cupy.full(size, bits, dtype))
    monkeypatch.setattr(cupy, "empty", lambda size, dtype: cupy.full(size, bits, dtype))
    monkeypatch.setattr(fake.cublas, "gemmEx", lambda *args: None)
    assert GemmCupy().supports(precision, "cuda:0") == f"cuBLAS's {precision} product on cuda:0 has another value"
