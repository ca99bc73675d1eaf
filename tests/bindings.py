"""Published bindings of vendors' libraries, with which a test compares names, order of arguments and layouts.

They come without what they depend on (group ``bindings`` of pyproject.toml), and each is loaded from its file alone:
the packages around them import much. Nothing of them is the product's.
"""

from __future__ import annotations

import ctypes
import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

DETECTOR = "gpustack_runtime/detector"


def published(monkeypatch: pytest.MonkeyPatch, file: str) -> ModuleType:
    """Return a published binding as nobody has used it. Where it is not installed the test is skipped, save in CI.

    Args:
        monkeypatch: of the test, which ends the module's life in `sys.modules`.
        file: below the installed packages, such as "gpustack_runtime/detector/pydcmi/__init__.py" or "pymtml.py".
    """
    package = PathFinder.find_spec(file.split("/")[0].removesuffix(".py"))
    if package is None or package.origin is None:
        assert not os.environ.get("CI"), f"{file} is not installed: see the group bindings in pyproject.toml"
        pytest.skip(f"{file} is not installed")
    path = Path(package.origin).parent / Path(*Path(file).parts[1:]) if "/" in file else Path(package.origin)
    spec = spec_from_file_location(f"published_{path.parent.name}_{path.stem.strip('_')}", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


class Passed(NamedTuple):
    """One argument as a C function gets it.

    Args:
        points: whether it is a pointer.
        bytes: of the number, or of what the pointer points to; None for a handle, a buffer and a bare integer.
    """

    points: bool
    bytes: int | None


def passed(argument: Any, kind: Any = None) -> Passed:
    """Return how an argument is passed, whichever way a binding writes it.

    Args:
        argument: a number, a pointer to one or to a structure, a buffer, a handle.
        kind: its type, where the function says it.
    """
    if isinstance(argument, int):
        pointer = kind is ctypes.c_void_p
        return Passed(pointer, None if pointer or kind is None else ctypes.sizeof(kind))
    if type(argument).__name__ == "CArgObject":  # of byref
        buffer = isinstance(argument._obj, ctypes.Array)
        return Passed(True, None if buffer else ctypes.sizeof(argument._obj))
    number = isinstance(argument, ctypes._SimpleCData) and not isinstance(argument, ctypes.c_void_p)
    return Passed(not number, ctypes.sizeof(argument) if number else None)


def alike(ours: tuple[Passed, ...], theirs: tuple[Passed, ...]) -> bool:
    """Return whether two calls pass the same, as far as both say."""
    return [one.points for one in ours] == [one.points for one in theirs] and all(
        None in (one.bytes, other.bytes) or one.bytes == other.bytes for one, other in zip(ours, theirs, strict=True)
    )


class Spied:
    """A function that keeps its last call and answers a code; `ctypes` sets its types."""

    argtypes: Any = None
    restype: Any = None

    def __init__(self, name: str, code: int) -> None:
        self.name = name
        self.code = code
        self.last: tuple[Passed, ...] | None = None

    def __call__(self, *arguments: Any) -> int:
        """Keep how the arguments are passed."""
        kinds = [None] * len(arguments) if self.argtypes is None else self.argtypes
        self.last = tuple(passed(argument, kind) for argument, kind in zip(arguments, kinds, strict=True))
        return self.code


class Spy:
    """A library that has every function.

    Args:
        code: that each answers.
    """

    def __init__(self, code: int = 0) -> None:
        self._code = code
        self._functions: dict[str, Spied] = {}

    def __getattr__(self, name: str) -> Spied:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._functions.setdefault(name, Spied(name, self._code))

    def take(self) -> dict[str, tuple[Passed, ...]]:
        """Return how each function was called since the last time."""
        calls = {name: function.last for name, function in self._functions.items() if function.last is not None}
        self._functions.clear()
        return calls
