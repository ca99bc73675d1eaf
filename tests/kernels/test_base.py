"""Problems, residuals, and the one table of kernels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import kernels
from kernels import base
from kernels.base import KERNELS, MIN_DIMENSION, GemmProblem, Kernel, Residual, kernel_names, load_kernel
from kernels.gemm_cupy import GemmCupy
from kernels.gemm_numpy import GemmNumpy
from kernels.gemm_torch import GemmTorch


def test_flop_is_exact_beyond_the_integers_of_a_double() -> None:
    assert GemmProblem("x", "fp16", 999_983, 999_979, 999_961).flop == 2 * 999_983 * 999_979 * 999_961
    assert GemmProblem("x", "fp64", 32, 33, 34).flop == 71_808


@pytest.mark.parametrize(
    "wrong", [{"m": 31}, {"n": 0}, {"k": -64}, {"m": 2**20 + 1}, {"n": True}, {"k": 64.0}, {"k": "64"}]
)
def test_a_dimension_is_an_integer_in_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"dimension {next(iter(wrong))} = .* 32..1048576"):
        GemmProblem("x", "fp32", **({"m": 64, "n": 64, "k": 64} | wrong))


def test_unknown_precision_and_empty_kernel_are_refused() -> None:
    with pytest.raises(ValueError, match="precision 'fp8' is none of fp16, bf16, fp32, fp64"):
        GemmProblem("x", "fp8", 64, 64, 64)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="kernel '' is not a name"):
        GemmProblem("", "fp16", 64, 64, 64)


def test_worst_takes_the_larger_of_each_and_none_dominates() -> None:
    assert Residual.worst(Residual(1, 20), Residual(2, 10)) == Residual(2, 20)
    assert Residual.worst(Residual(None, None), Residual(2, 10)) == Residual(None, None)
    assert Residual.worst(Residual(1, None), Residual(2, 10)) == Residual(2, None)


def test_table_and_files_agree() -> None:
    files = {path.stem for path in Path(kernels.__file__).parent.glob("gemm_*.py")}
    assert {entry.split(":")[0] for entry in KERNELS.values()} == {f"kernels.{stem}" for stem in files}
    assert {name: load_kernel(name).name for name in KERNELS} == {name: name for name in KERNELS}
    typed: list[Kernel] = [GemmNumpy(), GemmTorch(), GemmCupy()]  # mypy: they are what the protocol says
    assert [kernel.name for kernel in typed] == list(KERNELS)


def test_an_unknown_kernel_is_one_clear_sentence() -> None:
    with pytest.raises(
        ValueError, match=r"^there is no kernel 'gemm-cuda'; known are gemm-numpy, gemm-torch, gemm-cupy$"
    ):
        load_kernel("gemm-cuda")


def test_third_parties_plug_in_but_cannot_replace_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        def __init__(self, name: str) -> None:
            self.name = name

        def load(self) -> type[GemmNumpy]:
            return type("Plugged", (GemmNumpy,), {"name": self.name})

    def entries(group: str) -> list[Entry]:
        return [Entry("zeta"), Entry("gemm-torch")] if group == "petaseal.kernels" else []

    monkeypatch.setattr(base, "entry_points", entries)
    assert kernel_names() == ["gemm-numpy", "gemm-torch", "gemm-cupy", "zeta"]
    assert load_kernel("zeta").name == "zeta"
    assert type(load_kernel("gemm-torch")) is GemmTorch


def test_importing_kernels_imports_neither_torch_nor_our_other_rooms() -> None:
    code = (
        "import sys, kernels.gemm_torch, kernels.gemm_numpy, kernels.gemm_cupy, kernels.issue_rate, kernels.triad;"
        "print({'torch', 'cupy', 'bench', 'certify'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_the_smallest_dimension_is_the_documented_one() -> None:
    text = (Path(kernels.__file__).parents[1] / "docs" / "residuals.md").read_text(encoding="utf-8")
    assert f"below {MIN_DIMENSION} in any dimension" in text
