"""CUDA C compiled by NVRTC for the device at hand and loaded with cupy, which is imported where it is used.

cupy's own ``RawModule(code=...)`` names the architecture itself, without the "a" that wgmma needs: so the machine code
is compiled here and given to ``RawModule(path=...)``.
"""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

SOURCES = Path(__file__).with_name("cuda")
ARCHITECTURE_SPECIFIC = frozenset({"90", "100"})  # compute capabilities whose own instructions need sm_90a, sm_100a


class Nvrtc(Protocol):
    """What is used of NVRTC, named as cupy's binding names it."""

    def createProgram(self, source: str, name: str, headers: tuple[()], names: tuple[()]) -> int: ...
    def compileProgram(self, program: int, options: tuple[str, ...]) -> None: ...
    def getProgramLog(self, program: int) -> str: ...
    def getCUBIN(self, program: int) -> bytes: ...
    def destroyProgram(self, program: int) -> None: ...


def architecture(capability: str) -> str:
    """Return what NVRTC calls a compute capability such as "80" or "90"."""
    return f"sm_{capability}" + ("a" if capability in ARCHITECTURE_SPECIFIC else "")


def compile_source(nvrtc: Nvrtc, source: str, name: str, capability: str, defines: Mapping[str, int]) -> bytes:
    """Return the machine code (cubin) of a source for one compute capability.

    Raises:
        ValueError: NVRTC does not compile it: too old for the device, say.
    """
    target = architecture(capability)
    options = (f"--gpu-architecture={target}", "--std=c++17", *(f"-D{key}={value}" for key, value in defines.items()))
    program = nvrtc.createProgram(source, name, (), ())
    try:
        nvrtc.compileProgram(program, options)
        return bytes(nvrtc.getCUBIN(program))
    except RuntimeError as error:
        log = [line for line in nvrtc.getProgramLog(program).splitlines() if "error" in line]
        raise ValueError(f"NVRTC does not compile {name} for {target}: {log[0] if log else error}") from None
    finally:
        nvrtc.destroyProgram(program)


def unavailable(target: str) -> str | None:
    """Return why cupy does not compute on `target`, in one clause; None where it does."""
    kind, _, index = target.partition(":")
    if kind != "cuda" or not index.isdecimal():
        return f"cupy computes on CUDA devices only, not on {target}"
    try:
        from cupy.cuda import runtime
    except ImportError:
        return "cupy is not installed (pip install 'petaseal[cuda12]' or 'petaseal[cuda13]')"
    if runtime.is_hip:
        return "this cupy was built for ROCm"
    try:
        count = int(runtime.getDeviceCount())
    except RuntimeError as error:  # no driver, one that is too old, or no device
        return first_line(error)
    return None if int(index) < count else f"CUDA has {count} devices, and none is {target}"


def first_line(error: BaseException) -> str:
    """Return an error of a library as one clause."""
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(". ")


def device(target: str) -> Any:
    """Return cupy's device of a target such as "cuda:0"."""
    import cupy

    return cupy.cuda.Device(int(target.partition(":")[2]))


def load(file: str, function: str, capability: str, defines: Mapping[str, int]) -> Any:
    """Compile ``kernels/cuda/<file>`` and return one of its kernels, loaded on the current device.

    Raises:
        ValueError: NVRTC does not compile it.
    """
    import cupy
    from cupy_backends.cuda.libs import nvrtc

    cubin = compile_source(nvrtc, (SOURCES / file).read_text(encoding="ascii"), file, capability, defines)
    # Its path is read while it is made: the file need not outlive the call.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{file}.cubin"
        path.write_bytes(whole(cubin))
        return cupy.RawModule(path=str(path)).get_function(function)


def whole(cubin: bytes) -> bytes:
    """Return machine code with the last byte that cupy's binding takes for the end of a text and cuts off: a zero.

    The last program header ends there, and a driver may refuse a file that is shorter than its headers say.
    """
    return cubin + b"\0" if len(cubin) % 8 == 7 else cubin  # ELF of 64 bits: its headers are aligned to 8


def identical(array: Any, expected: Any) -> bool:
    """Return whether a device array holds exactly the values of a host array; NaN is never right."""
    return bool(np.array_equal(array.get(), expected))


class PreparedCuda(ABC):
    """One of these kernels on a device, with what it is launched with (`kernels.base.PreparedReference`).

    Args:
        target: the device.
    """

    _kernel: Any
    _blocks: int
    _threads: int  # per block
    _arguments: tuple[Any, ...]
    _result: Any  # one of the arguments: what is verified

    def __init__(self, target: str) -> None:
        self._device = device(target)

    def launch(self, count: int) -> None:
        """Enqueue `count` launches, each of which begins anew."""
        with self._device:
            for _ in range(count):
                self._kernel((self._blocks,), (self._threads,), self._arguments)

    def synchronize(self) -> None:
        """Wait until every launch has ended."""
        self._device.synchronize()

    def verify(self) -> bool:
        """Return whether every element of the result is exact; poisons them, so that each check needs a launch."""
        with self._device:
            right = self._is_exact()
            self._result.fill(float("nan"))
        return right

    @abstractmethod
    def _is_exact(self) -> bool:
        """Return whether the result is what it must be to the last bit."""

    def close(self) -> None:
        """Free the memory."""
        del self._arguments, self._result, self._kernel
