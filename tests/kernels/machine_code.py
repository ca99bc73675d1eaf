"""What NVRTC makes of the CUDA sources, without a driver or a device: compiled, disassembled, and looked into."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from kernels import cuda_module


def _file(pattern: str) -> Path:
    """Return a file of NVIDIA's packages, whose folders differ between versions; skip without it, but fail in CI."""
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(root).glob(pattern)):
            return path
    said = f"no {pattern} in the packages of `make`: nvidia-cuda-nvrtc-cu12 and nvidia-cuda-nvdisasm are for Linux only"
    if os.environ.get("CI") == "true":
        pytest.fail(said)
    pytest.skip(said)


class Nvrtc:
    """NVRTC's C interface under the names that cupy's binding gives it (`kernels.cuda_module.Nvrtc`)."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(str(_file("cuda_nvrtc/lib/libnvrtc.so.12")))

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            raise RuntimeError(f"{name} returned {status}")

    def createProgram(self, source: str, name: str, headers: tuple[()], names: tuple[()]) -> int:
        program = ctypes.c_void_p()
        text = (source.encode(), name.encode())
        self._call("nvrtcCreateProgram", ctypes.byref(program), *text, len(headers), None, None)
        assert program.value
        return program.value

    def compileProgram(self, program: int, options: tuple[str, ...]) -> None:
        encoded = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        self._call("nvrtcCompileProgram", ctypes.c_void_p(program), len(options), encoded)

    def getProgramLog(self, program: int) -> str:
        return self._content("nvrtcGetProgramLog", program).rstrip(b"\0").decode()

    def getCUBIN(self, program: int) -> bytes:
        return self._content("nvrtcGetCUBIN", program)

    def _content(self, name: str, program: int) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"{name}Size", ctypes.c_void_p(program), ctypes.byref(size))
        content = ctypes.create_string_buffer(size.value)
        self._call(name, ctypes.c_void_p(program), content)
        return content.raw

    def destroyProgram(self, program: int) -> None:
        self._call("nvrtcDestroyProgram", ctypes.byref(ctypes.c_void_p(program)))


class Instruction(NamedTuple):
    """One instruction of machine code: its name with modifiers, and the label that it jumps to, if any."""

    name: str
    label: str | None


class Function(NamedTuple):
    """One kernel: its instructions, and which of them each label stands before."""

    instructions: list[Instruction]
    labels: dict[str, int]
    frame_bytes: int | None  # local memory of each thread; None where the file does not say


class Finding(NamedTuple):
    """Where an instruction stands: how often in all, how often in the loop, and how many others share that loop."""

    total: int
    in_loop: int
    others_in_loop: int  # without NOP, which the compiler puts between matrix instructions where nothing else can issue


LINE = re.compile(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)([^;]*)")
LABEL = re.compile(r"(\.L_x_\d+):")
START = re.compile(r"\.text\.(\w+):")
FRAME = re.compile(r"EIATTR_FRAME_SIZE\b.*?index@\((\w+)\)\s*/\*\w+\*/\s*\.word\s+(0x[0-9a-f]+)", re.DOTALL)
TARGET = re.compile(r"`\((\.L_x_\d+)\)")


def compiled(source: str, name: str, capability: str, defines: Mapping[str, int]) -> bytes:
    """Return the machine code of a source, compiled as on a device."""
    return cuda_module.compile_source(Nvrtc(), source, name, capability, defines)


def disassembled(cubin: bytes, folder: Path) -> dict[str, Function]:
    """Return the kernels in machine code, by name."""
    path = folder / "code.cubin"
    path.write_bytes(cubin)
    done = subprocess.run([_file("*/bin/nvdisasm"), path], capture_output=True, text=True, check=True)
    return parsed(done.stdout)


def parsed(text: str) -> dict[str, Function]:
    """Return the kernels in nvdisasm's text, by name."""
    frames = {name: int(size, 16) for name, size in FRAME.findall(text)}
    functions: dict[str, Function] = {}
    current = Function([], {}, None)
    for line in text.splitlines():
        if start := START.match(line):
            current = functions.setdefault(start[1], Function([], {}, frames.get(start[1])))
        elif label := LABEL.match(line):
            current.labels[label[1]] = len(current.instructions)
        elif found := LINE.match(line):
            target = TARGET.search(found[2])
            current.instructions.append(Instruction(found[1], target[1] if target else None))
    return functions


def find(function: Function, name: str) -> Finding:
    """Return where the instructions called `name` (with or without modifiers) stand: a loop ends in a jump back."""
    here = [at for at, instruction in enumerate(function.instructions) if f"{instruction.name}.".startswith(f"{name}.")]
    loops = [
        range(function.labels[instruction.label], at + 1)
        for at, instruction in enumerate(function.instructions)
        if instruction.label is not None and function.labels.get(instruction.label, at + 1) <= at
    ]
    inside = [loop for loop in loops if any(at in loop for at in here)]
    loop = min(inside, key=len, default=range(0))
    count = sum(at in loop for at in here)
    idle = sum(function.instructions[at].name == "NOP" for at in loop)
    return Finding(len(here), count, len(loop) - count - idle)


def spills(function: Function) -> int:
    """Return how many instructions read or write local memory: there are none where everything fits in registers."""
    return sum(instruction.name.split(".")[0] in ("STL", "LDL") for instruction in function.instructions)
