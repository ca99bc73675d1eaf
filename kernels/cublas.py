"""What is switched on in a live cuBLAS (R1): math mode and emulation strategy, read from the handle that computes.

The values are those of ``cublasMath_t`` and ``cublasEmulationStrategy_t``. A library that lacks a function lacks its
switch.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

DISALLOW_REDUCED_PRECISION_REDUCTION = 16  # a bit of the math mode that only ever makes products more exact
MATH_MODES = {
    0: "off",  # the default
    1: "tensor-op",  # FP32 through FP16
    2: "off",  # pedantic
    3: "tf32",
    4: "fp32-emulated-bf16x9",
    8: "fp64-emulated-fixedpoint",
    12: "fp32-emulated-bf16x9+fp64-emulated-fixedpoint",
}
STRATEGIES = {0: "off", 1: "performant", 2: "eager"}


def math_mode(value: int) -> str:
    """Return what a math mode switches on; "off" where that is nothing that R1 forbids."""
    mode = value & ~DISALLOW_REDUCED_PRECISION_REDUCTION
    return MATH_MODES.get(mode, f"mode-{value}")


def emulation_strategy(value: int) -> str:
    """Return the name of an emulation strategy; the default emulates only where the math mode asks for it."""
    return STRATEGIES.get(value, f"strategy-{value}")


SWITCHES: dict[str, tuple[str, Callable[[int], str]]] = {
    "cublas.math_mode": ("cublasGetMathMode", math_mode),
    "cublas.emulation_strategy": ("cublasGetEmulationStrategy", emulation_strategy),
}


def switches(library: Any, handle: int) -> dict[str, str]:
    """Return what each switch of a handle reads as; "unreadable" where it refuses to say, "absent" in older ones.

    Args:
        library: the cuBLAS that made the handle, loaded by ctypes (or a library that is linked against it).
        handle: cublasHandle_t.
    """
    functions = {name: getattr(library, symbol, None) for name, (symbol, _) in SWITCHES.items()}
    if not any(functions.values()):
        return dict.fromkeys(SWITCHES, "unreadable")  # cuBLAS is linked so that nothing of it can be called from here
    states = {}
    for name, (_, text) in SWITCHES.items():
        if (function := functions[name]) is None:
            states[name] = "absent"
            continue
        value = ctypes.c_int(0)
        status = function(ctypes.c_void_p(handle), ctypes.byref(value))
        states[name] = text(value.value) if status == 0 else "unreadable"
    return states


def torch_switches() -> dict[str, str]:
    """Return the switches of torch's own cuBLAS, and the library as "torch.blas".

    None where this process does not compute with CUDA through torch.
    """
    import torch

    try:
        if torch.version.cuda is None or not torch.cuda.is_initialized():
            return {}
        handle = int(torch.cuda.current_blas_handle())
    except AttributeError:
        return {}
    except Exception:  # a vendor's torch of the CUDA style raises what it likes
        return dict.fromkeys(SWITCHES, "unreadable")
    # Symbols are looked up in what torch's library is linked against: another cuBLAS in this process is not asked.
    library = load(Path(torch.__file__).parent / "lib" / "libtorch_cuda.so")
    if library is None:
        return dict.fromkeys(SWITCHES, "unreadable")
    return switches(library, handle) | named("torch.blas", library)


def named(name: str, library: Any) -> dict[str, str]:
    """Return {name: file and SHA-256 of the cuBLAS in which a library's GEMM is}; nothing where that is not known."""
    path = file_of(getattr(library, "cublasGemmEx", None))
    try:
        return {} if path is None else {name: f"{path.name} sha256 {_sha256(path)}"}
    except OSError:
        return {}


def file_of(function: Any) -> Path | None:
    """Return the file of the library that a function of ctypes is in; None where that is not known."""
    info = _Info()
    try:
        known = function is not None and _dladdr()(ctypes.cast(function, ctypes.c_void_p), ctypes.byref(info))
        return Path(os.fsdecode(info.path)) if known else None
    except (OSError, AttributeError, ValueError, TypeError):
        return None


class _Info(ctypes.Structure):
    """Dl_info of dladdr(3)."""

    _fields_: ClassVar = [
        ("path", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    ]


def _dladdr() -> Any:
    return ctypes.CDLL(None).dladdr


@cache
def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load(path: Path) -> ctypes.CDLL | None:
    """Return a shared library, with those that it is linked against; None where it cannot be had."""
    try:
        return ctypes.CDLL(str(path))
    except OSError:
        return None
