"""A cupy whose device is main memory: numpy arrays with pointers, cuBLAS's column-major GEMM, and its ways to fail."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kernels.operands import Array

CODES: dict[int, type[np.generic]] = {0: np.float32, 1: np.float64, 2: np.float16, 14: np.uint16}  # cudaDataType_t
COMPUTE: dict[int, type[np.generic]] = {68: np.float32, 69: np.float32, 70: np.float64, 71: np.float64}
LAUNCH = Callable[[str, tuple[Any, ...]], None]


class CUDARuntimeError(RuntimeError):
    """As cupy's."""


class DeviceArray(np.ndarray[Any, Any]):
    """An array on the device: it leaves only by `get`, and is computed on with its own kind only."""

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self.ctypes.data)

    def get(self) -> Array:
        return np.array(self, copy=True, subok=False)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        for one in inputs:
            if isinstance(one, np.ndarray) and not isinstance(one, DeviceArray) and one.ndim:
                raise TypeError(f"Unsupported type {type(one)}")
        assert ufunc is not np.matmul, "a check must not use the path that it checks"
        outs = {"out": tuple(_plain(one) for one in options.pop("out"))} if "out" in options else {}
        result = getattr(ufunc, method)(*(_plain(one) for one in inputs), **outs, **options)
        return _device(result) if isinstance(result, (np.ndarray, np.generic)) else result


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, DeviceArray) else value


def _device(value: Any) -> Any:
    return np.ascontiguousarray(value).reshape(np.shape(value)).view(DeviceArray)


def column_major(pointer: int, code: int, leading: int, rows: int, columns: int) -> Array:
    """Return the matrix that BLAS means by a pointer, a type and a leading dimension; writing to it writes there."""
    assert leading >= rows, "CUBLAS_STATUS_INVALID_VALUE"
    dtype = np.dtype(CODES[code])
    memory = memoryview((ctypes.c_char * (leading * columns * dtype.itemsize)).from_address(pointer))
    whole: Array = np.ndarray((columns, leading), dtype, memory.cast("B"))
    return whole.T[:rows]


class FakeCublas:
    """cuBLAS through cupy's binding, on one handle."""

    __file__ = "/nowhere/cublas.so"

    def __init__(self) -> None:
        self.mode = 0
        self.computed: list[int] = []
        self.spoil: Callable[[Array], Array] = lambda product: product

    def setMathMode(self, handle: int, mode: int) -> None:
        self.mode = mode

    def getMathMode(self, handle: int) -> int:
        return self.mode

    def gemmEx(self, handle: int, transa: int, transb: int, m: int, n: int, k: int, *rest: int) -> None:
        alpha, a, type_a, lda, b, type_b, ldb, beta, c, type_c, ldc, compute, algo = rest
        assert handle == FakeDevice.cublas_handle
        assert (transa, transb, algo) == (0, 0, -1)
        scalar = {68: ctypes.c_float, 69: ctypes.c_float, 70: ctypes.c_double, 71: ctypes.c_double}[compute]
        assert (scalar.from_address(alpha).value, scalar.from_address(beta).value) == (1.0, 0.0)
        self.computed.append(compute)
        one, other = (
            _decoded(column_major(*which), COMPUTE[compute])
            for which in ((a, type_a, lda, m, k), (b, type_b, ldb, k, n))
        )
        column_major(c, type_c, ldc, m, n)[...] = _encoded(self.spoil(one @ other), type_c)


def _decoded(matrix: Array, dtype: Any) -> Array:
    if matrix.dtype == np.uint16:
        matrix = (matrix.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return matrix.astype(dtype)


def _encoded(matrix: Array, code: int) -> Array:
    if CODES[code] is not np.uint16:
        return matrix.astype(CODES[code])
    bits = np.ascontiguousarray(matrix, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)  # to nearest even


class FakeCupy:
    """What a test may set: how many devices, of which compute capability, and what a launched kernel does."""

    def __init__(self) -> None:
        self.count = 1
        self.driver: str | None = None  # what the runtime says where it has no driver
        self.capability = "80"
        self.attributes = {"MultiProcessorCount": 2, "L2CacheSize": 1 << 20}
        self.free_bytes = 1 << 28
        self.hip = False
        self.cublas = FakeCublas()
        self.nvrtc: Any = None
        self.launch: LAUNCH = lambda function, arguments: None
        self.launched: list[tuple[Any, ...]] = []
        self.has_random = True  # cuRAND can be loaded

    def random(self, size: tuple[int, int], dtype: Any) -> Any:
        """Return random numbers in the types that cuRAND has."""
        if not self.has_random:
            raise ImportError("libcurand.so.10: cannot open shared object file")
        assert dtype in (np.float32, np.float64)
        return _device(np.random.default_rng(1).standard_normal(size).astype(dtype))

    def install(self, monkeypatch: pytest.MonkeyPatch) -> FakeCupy:
        """Put the modules where imports find them."""
        runtime = SimpleNamespace(is_hip=self.hip, getDeviceCount=self._device_count)
        cuda = _module("cupy.cuda", runtime=runtime, Device=lambda index=0: FakeDevice(self, index))
        pool = SimpleNamespace(free_all_blocks=lambda: None)
        cupy = _module(
            "cupy",
            cuda=cuda,
            asarray=_device,
            ascontiguousarray=_device,
            empty=lambda *a: _device(np.empty(*a)),
            zeros=lambda *a: _device(np.zeros(*a)),
            full=lambda *a: _device(np.full(*a)),
            tile=lambda array, times: _device(np.tile(_plain(array), times)),
            RawModule=lambda path: FakeModule(self, Path(path)),
            get_default_memory_pool=lambda: pool,
            random=SimpleNamespace(standard_normal=self.random),
        )
        libraries = _module("cupy_backends.cuda.libs", cublas=self.cublas, nvrtc=self.nvrtc)
        backends = _module("cupy_backends.cuda", libs=libraries)
        linalg = _module("cupyx.scipy.linalg", lu_factor=_lu_factor, lu_solve=_lu_solve)
        scipy = _module("cupyx.scipy", linalg=linalg)
        extra = (_module("cupyx", scipy=scipy), scipy, linalg)
        modules = (cupy, cuda, _module("cupy_backends", cuda=backends), backends, libraries, *extra)
        for module in modules:
            monkeypatch.setitem(sys.modules, module.__name__, module)
        return self

    def _device_count(self) -> int:
        if self.driver is not None:
            raise CUDARuntimeError(self.driver)
        return self.count


def _lu_factor(a: Any, *, overwrite_a: bool, check_finite: bool) -> tuple[Any, Any]:
    assert not overwrite_a
    assert not check_finite
    return _device(np.array(_plain(a))), _device(np.arange(len(a), dtype=np.int32))  # factorised when it is used


def _lu_solve(factors: tuple[Any, Any], b: Any, *, check_finite: bool) -> Any:
    assert not check_finite
    return _device(np.linalg.solve(_plain(factors[0]), _plain(b)))


def _module(name: str, **content: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(content)
    return module


class FakeDevice:
    """A device, current within ``with``."""

    cublas_handle = 4711

    def __init__(self, owner: FakeCupy, index: int) -> None:
        assert index < owner.count
        self.compute_capability = owner.capability
        self.attributes = owner.attributes
        self.mem_info = (owner.free_bytes, owner.free_bytes)

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...

    def synchronize(self) -> None: ...


class FakeModule:
    """Loaded machine code."""

    def __init__(self, owner: FakeCupy, path: Path) -> None:
        assert path.read_bytes().startswith(b"\x7fELF")
        self.owner = owner

    def get_function(self, name: str) -> Callable[[Iterable[int], Iterable[int], tuple[Any, ...]], None]:
        def launch(grid: Iterable[int], block: Iterable[int], arguments: tuple[Any, ...]) -> None:
            self.owner.launched.append((name, tuple(grid), tuple(block)))
            assert not any(
                isinstance(argument, (int, float)) and not isinstance(argument, np.generic) for argument in arguments
            )
            self.owner.launch(name, arguments)

        return launch
