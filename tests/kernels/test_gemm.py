"""Both kernels through the one protocol: sets, launches, poison, checks, and what they say of themselves."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.base import ITEM_BYTES, PRECISIONS, GemmProblem, Kernel, Precision, Prepared, Residual, load_kernel
from kernels.gemm_numpy import GemmNumpy, NumpyGemm
from kernels.gemm_torch import GemmTorch, TorchGemm
from kernels.operands import Array, Operands, decode

from .bounds import verdict
from .products import CHALLENGE

AnyGemm = NumpyGemm | TorchGemm
NAMES = ("gemm-numpy", "gemm-torch")
BOTH: list[tuple[str, Precision]] = [(name, p) for name in NAMES for p in PRECISIONS if (name, p) != (NAMES[0], "bf16")]


def prepare(name: str, precision: Precision, *, sets: int = 2, least: int = 0, n: int = 64) -> Prepared:
    problem = GemmProblem(name, precision, 48, n, 40)
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
    first, second = (prepared._sets[index][2] for index in range(2))
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
    product = decode(prepared._on_host(prepared._sets[0][2]), precision, np.float64)
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


@pytest.mark.parametrize(("name", "precision"), BOTH)
def test_a_trial_multiplies_random_numbers_of_the_devices_own(
    name: str, precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*unused: object) -> None:
        raise AssertionError("a trial makes no operands of R2 on the host")

    monkeypatch.setattr(Operands, "make", refuse)
    trial: Any = load_kernel(name).prepare_trial(GemmProblem(name, precision, 96, 160, 64), "cpu")
    assert (trial.operand_sets, trial.operand_sha256) == (2, {})
    trial.launch(0, 2)
    trial.synchronize()
    values = [decode(trial._on_host(part), precision, np.float64) for one in trial._sets for part in one[:2]]
    assert [part.shape for part in values] == [(96, 64), (64, 160)] * 2
    assert all(abs(part.mean()) < 0.1 and abs(part.std() - 1) < 0.1 for part in values)  # standard normal
    assert len({part.reshape(-1)[:8].tobytes() for part in values}) == 4  # and varied
    tolerance = {"fp16": 2**-9, "bf16": 2**-6, "fp32": 1e-5, "fp64": 1e-13}[precision]
    for index, one in enumerate(trial._sets):
        wanted = values[2 * index] @ values[2 * index + 1]
        product = decode(trial._on_host(one[2]), precision, np.float64)
        np.testing.assert_allclose(product, wanted, rtol=tolerance, atol=tolerance * np.abs(wanted).max())
    trial.close()


def test_a_device_without_random_numbers_of_a_type_is_given_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def lacks(*unused: object, **named: object) -> None:
        raise NotImplementedError("normal_ is not implemented for Double")

    monkeypatch.setattr(torch, "randn", lacks)
    trial = GemmTorch().prepare_trial(GemmProblem("gemm-torch", "fp64", 96, 160, 64), "cpu")
    assert abs(trial._sets[0][0].std().item() - 1) < 0.1


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_check_on_the_host_copies_the_product_only_and_by_pieces(
    precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr("kernels.verify.HOST_ROWS_ELEMENTS", 64 * 64)
    prepared = load_kernel("gemm-torch").prepare(
        GemmProblem("gemm-torch", precision, 512, 64, 128), CHALLENGE, "cpu:0", "cpu", 0
    )
    prepared.launch(0, 2)
    copied: list[int] = []
    original = torch.Tensor.cpu

    def counted(tensor: torch.Tensor) -> torch.Tensor:
        copied.append(tensor.numel() * tensor.element_size())
        return original(tensor)

    monkeypatch.setattr(torch.Tensor, "cpu", counted)
    assert verdict(precision, prepared.check_on_host(1, 5)) == "good"
    item = ITEM_BYTES[precision]
    assert sum(copied) == 512 * 64 * item  # not A and B: they are made again from their keys
    assert max(copied) == 64 * 64 * item


def test_an_ascend_processor_compiles_nothing_at_a_first_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    modes: list[bool] = []
    npu = SimpleNamespace(set_compile_mode=lambda jit_compile: modes.append(jit_compile))
    monkeypatch.setattr(torch, "npu", npu, raising=False)
    prepare("gemm-torch", "fp32").close()
    GemmTorch().prepare_trial(GemmProblem("gemm-torch", "fp32", 32, 32, 32), "cpu").close()
    assert modes == [False, False]
    monkeypatch.delattr(npu, "set_compile_mode")
    prepare("gemm-torch", "fp32").close()  # an old plug-in


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("n", [64, 600])
def test_the_probes_of_an_accelerator_agree_with_the_host(
    precision: Precision, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kernels.gemm.PROBED_ELEMENTS", 4096)  # several pieces
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
