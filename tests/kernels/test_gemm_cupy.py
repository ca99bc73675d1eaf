"""gemm-cupy on a fake device: the GEMM's arguments, its checks, what it refuses; and cuBLAS's switches."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels import cublas, cuda_module
from kernels.base import ITEM_BYTES, PRECISIONS, GemmProblem, Precision, Residual, load_kernel
from kernels.gemm import trial_value
from kernels.gemm_cupy import CupyGemm, GemmCupy, arguments
from kernels.operands import DTYPE, Array, Operands, decode

from .bounds import verdict
from .fake_cupy import DeviceArray, FakeCupy, column_major
from .products import CHALLENGE

UNREADABLE = dict.fromkeys(("cublas.math_mode", "cublas.emulation_strategy"), "unreadable")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeCupy:
    return FakeCupy().install(monkeypatch)


@pytest.fixture(params=PRECISIONS)
def prepared(request: pytest.FixtureRequest, fake: FakeCupy) -> Iterator[CupyGemm]:
    problem = GemmProblem("gemm-cupy", request.param, 48, 64, 40)
    subject = load_kernel("gemm-cupy").prepare(problem, CHALLENGE, "cuda:0", "cuda:0", 0, 2)
    assert isinstance(subject, CupyGemm)
    yield subject
    subject.close()


def good(prepared: CupyGemm, set_index: int, seed: int = 1) -> bool:
    return verdict(prepared.problem.precision, prepared.check(set_index, seed)) == "good"


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (7, 4, 3), (5, 5, 5)])
def test_the_row_major_product_comes_out_of_a_column_major_gemm(shape: tuple[int, int, int]) -> None:
    m, n, k = shape
    generator = np.random.default_rng(7)
    a, b, c = generator.random((m, k)), generator.random((k, n)), np.full((m, n), np.nan)
    s = arguments(m, n, k)
    assert (s.transa, s.transb) == (0, 0)
    first = column_major(b.ctypes.data, 1, s.lda, s.m, s.k)
    second = column_major(a.ctypes.data, 1, s.ldb, s.k, s.n)
    column_major(c.ctypes.data, 1, s.ldc, s.m, s.n)[...] = first @ second
    np.testing.assert_allclose(c, a @ b, rtol=1e-14)


def test_the_product_is_the_product(prepared: CupyGemm) -> None:
    prepared.launch(0, 1)
    prepared.synchronize()
    precision = prepared.problem.precision
    made = Operands(prepared.problem, CHALLENGE, "cuda:0").make(0)
    exact = decode(made.a, precision, np.float64) @ decode(made.b, precision, np.float64)
    product = decode(prepared._on_host(prepared._sets[0][2]), precision, np.float64)
    tolerance = {"fp16": 2**-10, "bf16": 2**-7, "fp32": 1e-6, "fp64": 1e-14}[precision]
    np.testing.assert_allclose(product, exact, rtol=tolerance, atol=10 * tolerance)
    assert prepared.operand_sha256["0/a"] == made.sha256["a"]
    assert (prepared.method, prepared.accumulate) == ("native", "fp64" if precision == "fp64" else "fp32")


def test_a_launch_multiplies_its_own_set_and_poison_is_seen(prepared: CupyGemm) -> None:
    prepared.launch(3, 1)
    assert prepared.check(0, 1) == Residual(None, None)
    assert good(prepared, 1)
    prepared.launch(0, 1)
    assert good(prepared, 0)
    prepared.poison(0)
    assert prepared.check(0, 1) == prepared.check_on_host(0, 1) == Residual(None, None)


def test_device_and_host_agree(prepared: CupyGemm) -> None:
    prepared.launch(0, 2)
    for here, there in zip(prepared.check(1, 9), prepared.check_on_host(1, 9), strict=True):
        assert here is not None
        assert there is not None
        assert abs(here - there) < (5_000 if prepared.problem.precision in ("fp16", "bf16") else 500_000)


@pytest.mark.parametrize("has_random", [True, False])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_trial_multiplies_random_numbers_of_the_devices_own(
    fake: FakeCupy, monkeypatch: pytest.MonkeyPatch, precision: Precision, has_random: bool
) -> None:
    def refuse(*unused: object) -> None:
        raise AssertionError("a trial makes no operands of R2 on the host")

    monkeypatch.setattr(Operands, "make", refuse)
    fake.has_random = has_random
    trial = GemmCupy().prepare_trial(GemmProblem("gemm-cupy", precision, 96, 160, 64), "cuda:0")
    assert trial.operand_sets == 2
    for matrix in (part for one in trial._sets for part in one[:2]):
        assert matrix.dtype == DTYPE[precision]
        assert abs(decode(matrix.get(), precision, np.float64).std() - 1) < 0.1
    trial.launch(0, 2)
    product = decode(trial._sets[1][2].get(), precision, np.float64)
    assert product.shape == (96, 160)
    assert abs(product.std() - 8) < 1.5  # sums of 64 products


def test_the_check_on_the_host_copies_the_product_only_and_by_pieces(
    prepared: CupyGemm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kernels.verify.HOST_ROWS_ELEMENTS", 16 * 64)
    prepared.launch(0, 2)
    copied: list[int] = []
    original = DeviceArray.get

    def counted(matrix: DeviceArray) -> Array:
        copied.append(matrix.nbytes)
        return original(matrix)

    monkeypatch.setattr(DeviceArray, "get", counted)
    precision = prepared.problem.precision
    assert verdict(precision, prepared.check_on_host(1, 5)) == "good"
    assert copied == [16 * 64 * ITEM_BYTES[precision]] * 3  # 48 rows, and nothing of A and B


def test_the_compute_type_is_named_in_every_call(fake: FakeCupy, prepared: CupyGemm) -> None:
    prepared.launch(0, 2)
    meant = {"fp16": 68, "bf16": 68, "fp32": 68, "fp64": 70}[prepared.problem.precision]
    assert set(fake.cublas.computed) == {meant}
    assert fake.cublas.mode == cublas.DISALLOW_REDUCED_PRECISION_REDUCTION


def test_a_wrong_product_is_seen(fake: FakeCupy, prepared: CupyGemm) -> None:
    def wrong(product: Array) -> Array:
        product[3, 5] += 30
        return product

    fake.cublas.spoil = wrong
    prepared.launch(0, 2)
    precision = prepared.problem.precision
    assert verdict(precision, prepared.check(0, 1)) == verdict(precision, prepared.check_on_host(0, 1)) == "void"


def test_fp64_through_fp32_is_no_fp64(fake: FakeCupy) -> None:
    fake.cublas.spoil = lambda product: product.astype(np.float32).astype(product.dtype)
    kernel = GemmCupy()
    assert kernel.supports("fp64", "cuda:0") == "cuBLAS's fp64 product on cuda:0 has another value"
    assert kernel.supports("fp32", "cuda:0") is None
    with pytest.raises(ValueError, match="gemm-cupy does not compute fp64 on cuda:0: cuBLAS's fp64 product"):
        kernel.prepare(GemmProblem("gemm-cupy", "fp64", 32, 32, 32), CHALLENGE, "cuda:0", "cuda:0", 0)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_trial_is_exact_and_a_cast_is_seen(precision: Precision) -> None:
    value = trial_value(precision)
    assert float(np.float32(value)) == value or precision == "fp64"
    if precision != "bf16":
        one = np.ones((32, 32), DTYPE[precision])
        assert ((one * one.dtype.type(value)) @ one == 32 * value).all()
    assert np.float32(trial_value("fp64")) == 1


@pytest.mark.parametrize(
    ("target", "state", "said"),
    [
        ("cpu", {}, "cupy computes on CUDA devices only, not on cpu"),
        ("npu:0", {}, "cupy computes on CUDA devices only, not on npu:0"),
        ("cuda", {}, "cupy computes on CUDA devices only, not on cuda"),
        ("cuda:0", {"capability": "75"}, "compute capability 7.5 has no bf16 products"),
    ],
)
def test_what_it_does_not_do_is_one_clause(
    monkeypatch: pytest.MonkeyPatch, target: str, state: dict[str, Any], said: str
) -> None:
    fake = FakeCupy()
    vars(fake).update(state)
    fake.install(monkeypatch)
    assert GemmCupy().supports("bf16", target) == said


@pytest.mark.parametrize(
    ("target", "state", "said"),
    [
        ("cuda:1", {}, "CUDA has 1 devices, and none is cuda:1"),
        ("cuda:0", {"driver": "cudaErrorNoDevice: no device\nmore"}, "cudaErrorNoDevice: no device"),
        ("cuda:0", {"hip": True}, "this cupy was built for ROCm"),
    ],
)
def test_a_broken_cuda_is_no_missing_precision(
    monkeypatch: pytest.MonkeyPatch, target: str, state: dict[str, Any], said: str
) -> None:
    fake = FakeCupy()
    vars(fake).update(state)
    fake.install(monkeypatch)
    with pytest.raises(RuntimeError, match=f"^{said}$"):
        GemmCupy().supports("bf16", target)


def test_without_cupy_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cupy", "cupy.cuda"):
        monkeypatch.setitem(sys.modules, name, None)
    said = "cupy is not installed (pip install 'petaseal[cuda12]' or 'petaseal[cuda13]')"
    assert cuda_module.unavailable("cuda:0") == said
    with pytest.raises(RuntimeError, match="cupy is not installed"):
        GemmCupy().supports("fp16", "cuda:0")
    assert GemmCupy().switches() == UNREADABLE


@pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="cupy is not installed")
def test_the_real_cupy_says_why_it_cannot() -> None:
    from cupy.cuda import runtime

    try:
        count = runtime.getDeviceCount()
    except RuntimeError:
        count = 0
    if count:
        assert GemmCupy().supports("fp64", "cuda:0") is None
    else:
        with pytest.raises(RuntimeError):
            GemmCupy().supports("fp64", "cuda:0")


class Library:
    """A cuBLAS of some version: its getters answer with a status and a value."""

    def __init__(self, **getters: tuple[int, int]) -> None:
        for name, answer in getters.items():
            setattr(self, name, self.getter(*answer))

    @staticmethod
    def getter(status: int, answer: int) -> Any:
        def get(handle: Any, value: Any) -> int:
            assert handle.value == 4711
            value._obj.value = answer
            return status

        return get


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        (0, "off"),
        (2, "off"),
        (16, "off"),
        (18, "off"),
        (1, "tensor-op"),
        (3, "tf32"),
        (19, "tf32"),
        (4, "fp32-emulated-bf16x9"),
        (8, "fp64-emulated-fixedpoint"),
        (12, "fp32-emulated-bf16x9+fp64-emulated-fixedpoint"),
        (64, "mode-64"),
        (-1, "mode--1"),
    ],
)
def test_a_math_mode_is_off_only_where_it_is_known_to_be(mode: int, said: str) -> None:
    found = cublas.switches(Library(cublasGetMathMode=(0, mode)), 4711)
    assert found == {"cublas.math_mode": said, "cublas.emulation_strategy": "absent"}


def test_emulation_is_named_and_a_refusal_is_not_off() -> None:
    for value, said in ((0, "off"), (1, "performant"), (2, "eager"), (9, "strategy-9")):
        library = Library(cublasGetMathMode=(0, 0), cublasGetEmulationStrategy=(0, value))
        assert cublas.switches(library, 4711) == {"cublas.math_mode": "off", "cublas.emulation_strategy": said}
    refused = cublas.switches(Library(cublasGetMathMode=(1, 0)), 4711)
    assert refused == {"cublas.math_mode": "unreadable", "cublas.emulation_strategy": "absent"}
    assert cublas.switches(Library(), 4711) == UNREADABLE
    assert cublas.switches(ctypes.CDLL(None), 4711) == UNREADABLE


def test_the_library_that_a_product_is_in_is_named_by_its_digest(tmp_path: Path) -> None:
    """Whatever the name under which a library was opened, it is the file in which the symbol is found."""
    source, shared = tmp_path / "cublas.c", tmp_path / "libcublas.so.13"
    source.write_text("int cublasGemmEx(void) { return 0; }\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shared, source], check=True)
    digest = hashlib.sha256(shared.read_bytes()).hexdigest()
    assert cublas.named("torch.blas", ctypes.CDLL(str(shared))) == {"torch.blas": f"libcublas.so.13 sha256 {digest}"}
    assert cublas.named("torch.blas", ctypes.CDLL(None)) == {}
    assert cublas.named("torch.blas", Library()) == {}


def test_the_kernel_sets_its_handle_exact_and_tells(fake: FakeCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.cublas.mode = 8
    assert GemmCupy().switches() == {**UNREADABLE, "cublas.math_mode": "off"}
    monkeypatch.setattr(fake.cublas, "getMathMode", lambda handle: 8)
    assert GemmCupy().switches() == {**UNREADABLE, "cublas.math_mode": "fp64-emulated-fixedpoint"}


def test_torch_on_a_cpu_has_no_cublas() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_initialized():
        assert cublas.torch_switches() == {}


def test_torch_on_cuda_is_asked_through_its_own_library(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_blas_handle", lambda: 4711)
    asked: list[str] = []

    def load(path: Any) -> Library:
        asked.append(path.name)
        return Library(cublasGetMathMode=(0, 3))

    monkeypatch.setattr(cublas, "load", load)
    assert cublas.torch_switches() == {"cublas.math_mode": "tf32", "cublas.emulation_strategy": "absent"}
    assert asked == ["libtorch_cuda.so"]
    monkeypatch.setattr(cublas, "load", lambda path: None)
    assert cublas.torch_switches() == UNREADABLE
