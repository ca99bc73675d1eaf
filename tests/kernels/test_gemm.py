"""Both kernels through the one protocol: sets, launches, poison, checks, and what they say of themselves."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.base import ITEM_BYTES, PRECISIONS, Kernel, Precision, Prepared, Problem, Residual, load_kernel
from kernels.gemm_numpy import GemmNumpy, NumpyGemm
from kernels.gemm_torch import GemmTorch, TorchGemm
from kernels.operands import Array, Operands, decode

from .bounds import verdict
from .products import CHALLENGE

AnyGemm = NumpyGemm | TorchGemm
NAMES = ("gemm-numpy", "gemm-torch")
BOTH: list[tuple[str, Precision]] = [(name, p) for name in NAMES for p in PRECISIONS if (name, p) != (NAMES[0], "bf16")]


def prepare(name: str, precision: Precision, *, sets: int = 2, least: int = 0, n: int = 64) -> Prepared:
    problem = Problem(name, precision, 48, n, 40)
    return load_kernel(name).prepare(problem, CHALLENGE, "cpu:0", "cpu", least, sets)


@pytest.fixture(params=BOTH, ids=lambda both: "-".join(both))
def prepared(request: pytest.FixtureRequest) -> Iterator[AnyGemm]:
    subject = prepare(*request.param)
    assert isinstance(subject, (NumpyGemm, TorchGemm))
    yield subject
    subject.close()


def good(prepared: Prepared, set_index: int, seed: int = 1) -> bool:
    return verdict(prepared.problem.precision, prepared.check(set_index, seed)) == "good"


def test_a_launch_multiplies_its_own_set_only(prepared: AnyGemm) -> None:
    prepared.launch(3, 1)
    prepared.synchronize()
    assert prepared.check(0, 1) == Residual(None, None)  # never written
    assert good(prepared, 1)
    prepared.launch(4, 1)
    prepared.synchronize()
    assert good(prepared, 0)
    assert good(prepared, 1)


def test_a_stale_product_is_seen_even_where_it_was_right(prepared: AnyGemm) -> None:
    prepared.launch(0, 2)
    prepared.synchronize()
    assert good(prepared, 0)
    prepared.poison(0)
    assert prepared.check(0, 1) == prepared.check_on_host(0, 1) == Residual(None, None)
    assert good(prepared, 1)
    prepared.launch(0, 1)
    prepared.synchronize()
    assert good(prepared, 0)


def test_a_product_of_another_set_is_seen_in_every_set(prepared: AnyGemm) -> None:
    prepared.launch(0, 2)
    prepared.synchronize()
    first, second = (prepared._on_host(index)[2] for index in range(2))
    second[...] = first  # right for the first set only
    assert good(prepared, 0)
    precision = prepared.problem.precision
    assert verdict(precision, prepared.check(1, 1)) == verdict(precision, prepared.check_on_host(1, 1)) == "void"


def test_device_and_host_agree(prepared: AnyGemm) -> None:
    prepared.launch(0, 2)
    prepared.synchronize()
    for set_index in range(2):
        here, there = prepared.check(set_index, 9), prepared.check_on_host(set_index, 9)
        for one, other in zip(here, there, strict=True):
            assert one is not None
            assert other is not None
            assert abs(one - other) < (5_000 if prepared.problem.precision in ("fp16", "bf16") else 300_000)


def test_the_product_is_the_product(prepared: AnyGemm) -> None:
    prepared.launch(0, 1)
    prepared.synchronize()
    precision = prepared.problem.precision
    made = Operands(prepared.problem, CHALLENGE, "cpu:0").make(0)
    exact = decode(made.a, precision, np.float64) @ decode(made.b, precision, np.float64)
    product = decode(prepared._on_host(0)[2], precision, np.float64)
    tolerance = {"fp16": 2**-10, "bf16": 2**-7, "fp32": 1e-6, "fp64": 1e-14}[precision]
    np.testing.assert_allclose(product, exact, rtol=tolerance, atol=10 * tolerance)


def test_operand_digests_are_those_that_anybody_computes(prepared: AnyGemm) -> None:
    source = Operands(prepared.problem, CHALLENGE, "cpu:0")
    assert prepared.operand_sha256 == {
        f"{set_index}/{name}": value for set_index in range(2) for name, value in source.make(set_index).sha256.items()
    }
    assert ("0/grading" in prepared.operand_sha256) == (prepared.problem.precision == "fp64")


def test_the_reference_of_a_seed_is_kept_and_that_of_another_is_not(
    prepared: AnyGemm, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared.launch(0, 2)
    prepared.synchronize()
    made: list[int] = []
    original = prepared._reference

    def counted(set_index: int, sign: NDArray[np.int8]) -> Array:
        made.append(set_index)
        return original(set_index, sign)

    monkeypatch.setattr(prepared, "_reference", counted)
    results = [prepared.check(*which) for which in ((0, 1), (0, 1), (1, 1), (0, 2), (0, 1))]
    assert made == [0, 1, 0, 0]
    assert results[0] == results[1] == results[4] != results[3]


def test_accumulation_and_method_are_told() -> None:
    told = {(name, p): (prepare(name, p).accumulate, prepare(name, p).method) for name, p in BOTH}
    assert told[NAMES[0], "fp16"] == told[NAMES[1], "fp16"] == told[NAMES[1], "bf16"] == ("fp32", "upcast")
    assert told[NAMES[0], "fp32"] == told[NAMES[1], "fp32"] == ("fp32", "native")
    assert told[NAMES[0], "fp64"] == told[NAMES[1], "fp64"] == ("fp64", "native")


@pytest.mark.parametrize("name", NAMES)
def test_there_are_as_many_sets_as_the_cache_asks_for(name: str) -> None:
    one_set = (48 * 40 + 40 * 64) * 8
    for least, sets in ((0, 2), (2 * one_set, 2), (2 * one_set + 1, 3), (10 * one_set, 10)):
        prepared = prepare(name, "fp64", least=least)
        assert (prepared.operand_sets, prepared.operand_bytes) == (sets, sets * one_set)
        assert prepared.operand_bytes >= least
        prepared.close()


def test_what_numpy_does_not_do_is_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"^gemm-numpy does not compute bf16 on cpu: numpy has no bf16$"):
        prepare("gemm-numpy", "bf16")
    assert GemmNumpy().supports("fp64", "cuda:0") == "numpy computes on the CPU only, not on cuda:0"


def test_what_torch_does_not_do_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = GemmTorch()
    assert all(kernel.supports(precision, "cpu") is None for precision in PRECISIONS)
    for target in ("frob", "xpu:99"):
        reason = kernel.supports("fp64", target)
        assert reason
        assert "\n" not in reason
    monkeypatch.setitem(sys.modules, "torch", None)
    assert kernel.supports("fp16", "cpu") == "torch is not installed (pip install 'petaseal[torch]')"
    with pytest.raises(ValueError, match=r"^gemm-torch does not compute fp16 on cpu: torch is not installed"):
        prepare("gemm-torch", "fp16")


def test_a_torch_that_computes_in_another_type_is_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    original = torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b: original(a.float(), b.float()))  # as some back ends do with doubles
    assert GemmTorch().supports("fp64", "cpu") == "torch's fp64 product on cpu has another type or value"


def test_torch_switches_are_set_off_and_recorded() -> None:
    import torch

    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = True
    torch.set_float32_matmul_precision("medium")
    found = GemmTorch().switches()
    assert found["torch.float32_matmul_precision"] == "highest"
    assert found["torch.mkldnn.matmul.fp32_precision"] == "ieee"
    off = [
        "torch.cuda.matmul.allow_tf32",
        "torch.cuda.matmul.allow_fp16_reduced_precision_reduction",
        "torch.cuda.matmul.allow_bf16_reduced_precision_reduction",
        "torch.cudnn.allow_tf32",
    ]
    assert [found[name] for name in off] == ["false"] * len(off)
    assert not torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction
    assert torch.get_float32_matmul_precision() == "highest"
    assert found["torch.npu.matmul.allow_hf32"] == "absent"


def test_a_switch_that_torch_refuses_to_read_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    class Refusing:
        def __getattr__(self, name: str) -> bool:
            raise RuntimeError("mixed use of old and new settings")

        def __setattr__(self, name: str, value: object) -> None:
            """Take any value."""

    monkeypatch.setattr(torch.backends.cuda, "matmul", Refusing())
    found = GemmTorch().switches()
    assert found["torch.cuda.matmul.allow_tf32"] == "unreadable"
    assert found["torch.mkldnn.matmul.fp32_precision"] == "ieee"


@pytest.mark.parametrize("kernel", [GemmNumpy(), GemmTorch()], ids=NAMES)
def test_switches_are_names_and_short_texts(kernel: Kernel) -> None:
    found = kernel.switches()
    assert found
    for name, value in found.items():
        assert name == name.lower()
        assert len(name) <= 63
        assert 0 < len(value) <= 256


def test_a_smaller_problem_is_launched_on_the_memory_of_a_larger_one(prepared: AnyGemm) -> None:
    name, precision = prepared.problem.kernel, prepared.problem.precision
    prepared.launch(0, 2)
    prepared.synchronize()
    a, b, _ = (decode(matrix, precision, np.float64).copy() for matrix in prepared._on_host(1))
    smaller = prepared.reshaped(Problem(name, precision, 32, 40, 33))
    assert (smaller.problem.m, smaller.problem.n, smaller.problem.k) == (32, 40, 33)
    assert smaller.operand_bytes == smaller.operand_sets * (32 * 33 + 33 * 40) * ITEM_BYTES[precision]
    assert (smaller.accumulate, smaller.method) == (prepared.accumulate, prepared.method)
    assert smaller.operand_sha256 == {}
    smaller.launch(1, 1)
    smaller.synchronize()
    product = decode(smaller._on_host(1)[2], precision, np.float64)
    wanted = a.reshape(-1)[: 32 * 33].reshape(32, 33) @ b.reshape(-1)[: 33 * 40].reshape(33, 40)
    tolerance = {"fp16": 2**-9, "bf16": 2**-6, "fp32": 1e-5, "fp64": 1e-13}[precision]
    np.testing.assert_allclose(product, wanted, rtol=tolerance, atol=tolerance * np.abs(wanted).max())
    here, there = (gemm._on_host(1)[2].reshape(-1) for gemm in (smaller, prepared))
    assert np.array_equal(here, there[: here.size])  # the larger one's own output
    for check in (smaller.check, smaller.check_on_host):
        with pytest.raises(RuntimeError, match="cannot be checked"):
            check(0, 1)
    smaller.close()
    prepared.launch(0, 2)
    prepared.synchronize()
    assert good(prepared, 0)
    assert good(prepared, 1)
    assert verdict(precision, prepared.check_on_host(1, 2)) == "good"


def test_a_problem_of_equal_size_fits(prepared: AnyGemm) -> None:
    p = prepared.problem
    same = prepared.reshaped(Problem(p.kernel, p.precision, p.m, p.n, p.k))
    same.launch(0, 1)
    same.synchronize()
    assert good(prepared, 0)


@pytest.mark.parametrize(
    ("kernel", "precision", "m", "n", "k", "said"),
    [
        ("gemm-numpy", "fp64", 48, 64, 41, "needs more memory"),
        ("gemm-numpy", "fp64", 49, 64, 32, "needs more memory"),  # only its output does not fit
        ("gemm-numpy", "fp64", 32, 96, 32, "needs more memory"),  # only B
        ("gemm-numpy", "fp32", 32, 32, 32, "has other operands"),
        ("gemm-torch", "fp64", 32, 32, 32, "has other operands"),
    ],
)
def test_what_does_not_fit_is_refused(kernel: str, precision: Precision, m: int, n: int, k: int, said: str) -> None:
    prepared = prepare("gemm-numpy", "fp64")
    assert isinstance(prepared, NumpyGemm)
    with pytest.raises(ValueError, match=said):
        prepared.reshaped(Problem(kernel, precision, m, n, k))


def test_a_device_without_memory_is_not_one_without_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def full(*args: object, **named: object) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(torch, "ones", full)
    with pytest.raises(torch.OutOfMemoryError):
        GemmTorch().supports("fp16", "cpu")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("n", [64, 600])
def test_the_probes_of_an_accelerator_agree_with_the_host(
    precision: Precision, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kernels.gemm_torch.PROBED_ELEMENTS", 4096)  # several pieces
    prepared = prepare("gemm-torch", precision, n=n)
    assert isinstance(prepared, TorchGemm)
    prepared._probe_in_numpy = False
    prepared.launch(0, 2)
    prepared.synchronize()
    assert good(prepared, 0)
    here, there = prepared.check(1, 3), prepared.check_on_host(1, 3)
    assert here.rms_error_ppm is not None
    assert there.rms_error_ppm is not None
    assert abs(here.rms_error_ppm - there.rms_error_ppm) < (5_000 if precision in ("fp16", "bf16") else 150_000)
    prepared.poison(1)
    assert prepared.check(1, 3) == Residual(None, None)
