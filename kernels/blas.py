"""Which BLAS computes on the host: read from the library that is loaded, not from what it was built against.

The libraries of a distribution can be exchanged under numpy (Debian's alternatives, conda, LD_PRELOAD), and a reference
BLAS is slower by a factor of ten or more: a figure says what computed it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Netlib's and others' translations of it, and products without any BLAS: nothing of it is fitted to a processor.
REFERENCE = "reference BLAS"
NAMES = {"openblas": "OpenBLAS", "mkl": "MKL", "blis": "BLIS", "flexiblas": "FlexiBLAS"}
# cblas_dgemm as OpenBLAS's builds for Python name it, and as all others do.
GEMM_SYMBOLS = ("scipy_cblas_dgemm64_", "scipy_cblas_dgemm", "cblas_dgemm64_", "cblas_dgemm")


def numpy_blas() -> dict[str, str]:
    """Return the BLAS that numpy calls as "numpy.blas": its name, version and threads."""
    import numpy as np

    from kernels.cublas import file_of, load

    inner = sys.modules.get("numpy._core._multiarray_umath") or sys.modules.get("numpy.core._multiarray_umath")
    library = load(Path(str(getattr(inner, "__file__", ""))))
    symbols = (getattr(library, name, None) for name in GEMM_SYMBOLS) if library is not None else ()
    path = file_of(next((symbol for symbol in symbols if symbol is not None), None))
    built = np.show_config(mode="dicts")["Build Dependencies"].get("blas", {})
    return {"numpy.blas": described(path, _pools(), built)}


def torch_blas() -> dict[str, str]:
    """Return the BLAS that torch calls on a processor as "torch.blas": names, versions and threads."""
    import torch

    return {"torch.blas": described_torch(torch.__config__.show(), _pools(), torch.get_num_threads())}


def described(path: Path | None, pools: list[dict[str, Any]], built: Mapping[str, Any]) -> str:
    """Return name, version and threads of the BLAS in a file.

    Args:
        path: in which the product is computed; None where numpy has linked it in, or has none.
        pools: what threadpoolctl reports of the libraries that are loaded.
        built: what numpy was built against; it says what is linked in statically.
    """
    pool = next((one for one in pools if path is not None and _is_same(one["filepath"], path)), None)
    if pool is not None:
        return _pool_text(pool)
    if path is not None and "blas" in path.name and "atlas" not in path.name:
        return f"{REFERENCE} ({path.resolve().name}), 1 thread"
    name = str(built.get("name", ""))
    if path is None and (name in ("", "none") or not built.get("found", True)):
        return f"{REFERENCE} (numpy's own loops), 1 thread"
    return path.resolve().name if path is not None else f"{name} {built.get('version', 'unknown')}"


def described_torch(config: str, pools: list[dict[str, Any]], threads: int) -> str:
    """Return names, versions and threads of the BLAS that torch was built with.

    Args:
        config: torch's own description of its build.
        pools: what threadpoolctl reports of the libraries that are loaded.
        threads: that torch computes with.
    """
    built = (re.search(r"BLAS_INFO=(\w+)", config) or ["", "unknown"])[1]  # "generic": Netlib's
    mkl = re.search(r"Math Kernel Library Version (\S+)", config)
    onednn = re.search(r"(?:MKL-DNN|oneDNN) v?(\S+)", config)
    shipped = next((one for one in pools if "torch" in Path(one["filepath"]).parent.as_posix()), None)
    if built == "mkl" and mkl is not None:
        names = [f"MKL {mkl[1].removesuffix('-Product')}"]
    elif shipped is not None or built == "open":
        names = [_pool_text(shipped, threads=False) if shipped is not None else "OpenBLAS"]
    else:
        names = [f"{REFERENCE} ({built})" if built == "generic" else built]
    names += [f"oneDNN {onednn[1]}"] if onednn is not None else []
    return ", ".join((*names, _threads_text(threads)))


def _pools() -> list[dict[str, Any]]:
    from threadpoolctl import threadpool_info

    return [dict(pool) for pool in threadpool_info() if pool["user_api"] == "blas"]


def _pool_text(pool: Mapping[str, Any], *, threads: bool = True) -> str:
    api, backend = str(pool["internal_api"]), str(pool.get("current_backend") or "")
    if backend.casefold() in ("netlib", "__fallback__"):  # FlexiBLAS passes every call on
        return f"{REFERENCE} (FlexiBLAS, {backend}), 1 thread"
    name = f"{NAMES.get(api, api)} {pool['version'] or 'unknown'}"
    more = [str(pool[key]) for key in ("current_backend", "architecture", "threading_layer") if pool.get(key)]
    text = f"{name} ({', '.join(more)})" if more else name
    return f"{text}, {_threads_text(int(pool['num_threads']))}" if threads else text


def _threads_text(threads: int) -> str:
    return f"{threads} thread{'s' if threads != 1 else ''}"


def _is_same(one: str, other: Path) -> bool:
    return Path(one).resolve() == other.resolve()
