"""The BLAS of a processor's figure, named by what is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from certify.judge.products import REFERENCE_BLAS
from kernels.blas import REFERENCE, described, described_torch, numpy_blas, torch_blas

OPENBLAS: dict[str, Any] = {
    "user_api": "blas",
    "internal_api": "openblas",
    "version": "0.3.21",
    "num_threads": 64,
    "filepath": "/usr/lib/openblas-pthread/libblas.so.3",
    "architecture": "Zen",
    "threading_layer": "pthreads",
}
NETLIB = {**OPENBLAS, "internal_api": "flexiblas", "current_backend": "NETLIB", "threading_layer": None}
BUILT = {"name": "blas", "version": "3.9.0", "found": True}
MKL = (
    "PyTorch built with:\n  - Intel(R) oneAPI Math Kernel Library Version 2024.2-Product Build 20240605 for Intel(R)\n"
)
ONEDNN = "  - Intel(R) MKL-DNN v3.7.1 (Git Hash 8d2)\n"


def test_the_libraries_of_this_process_are_named() -> None:
    (name, text), *none = numpy_blas().items()
    assert name == "numpy.blas"
    assert not none
    assert text.startswith(("OpenBLAS 0.3.", "MKL 20"))
    assert text.endswith((" thread", " threads"))
    assert torch_blas()["torch.blas"].split()[0] in ("MKL", "OpenBLAS")


@pytest.mark.parametrize(
    ("path", "pools", "built", "text"),
    [
        (OPENBLAS["filepath"], [OPENBLAS], BUILT, "OpenBLAS 0.3.21 (Zen, pthreads), 64 threads"),
        (
            "/opt/intel/libmkl_rt.so.2",
            [
                OPENBLAS,
                {"internal_api": "mkl", "version": "2024.2-Product", "num_threads": 1}
                | {"filepath": "/opt/intel/libmkl_rt.so.2"},
            ],
            BUILT,
            "MKL 2024.2-Product, 1 thread",
        ),
        ("/usr/lib/blas/libblas.so.3", [OPENBLAS], BUILT, "reference BLAS (libblas.so.3), 1 thread"),
        ("/usr/lib/libcblas.so.3", [], BUILT, "reference BLAS (libcblas.so.3), 1 thread"),
        (NETLIB["filepath"], [NETLIB], BUILT, "reference BLAS (FlexiBLAS, NETLIB), 1 thread"),
        ("/usr/lib/atlas/libtatlas.so.3", [], BUILT, "libtatlas.so.3"),
        ("/usr/lib/libkml.so", [], BUILT, "libkml.so"),
        (None, [OPENBLAS], {"name": "none", "found": False}, "reference BLAS (numpy's own loops), 1 thread"),
        (None, [], {}, "reference BLAS (numpy's own loops), 1 thread"),
        (None, [], {"name": "accelerate", "version": "unknown", "found": True}, "accelerate unknown"),
    ],
)
def test_what_numpy_calls(path: str | None, pools: list[dict[str, Any]], built: dict[str, Any], text: str) -> None:
    assert described(None if path is None else Path(path), pools, built) == text


@pytest.mark.parametrize(
    ("config", "shipped", "text"),
    [
        (f"{MKL}{ONEDNN} BLAS_INFO=mkl, USE_MKL=ON", None, "MKL 2024.2, oneDNN 3.7.1, 8 threads"),
        ("BLAS_INFO=open, USE_MKL=OFF", "/env/torch.libs/libopenblas.so", "OpenBLAS 0.3.21 (Zen, pthreads), 8 threads"),
        ("BLAS_INFO=open", None, "OpenBLAS, 8 threads"),
        ("BLAS_INFO=generic", None, "reference BLAS (generic), 8 threads"),
        ("no word of it", None, "unknown, 8 threads"),
        (f"{ONEDNN} BLAS_INFO=nvpl", None, "nvpl, oneDNN 3.7.1, 8 threads"),
    ],
)
def test_what_torch_calls(config: str, shipped: str | None, text: str) -> None:
    pools = [{**OPENBLAS, "filepath": shipped}] if shipped else [OPENBLAS]  # that of numpy is none of torch's
    assert described_torch(config, pools, 8) == text


def test_the_judge_knows_a_reference_blas_by_the_same_words() -> None:
    assert REFERENCE == REFERENCE_BLAS
