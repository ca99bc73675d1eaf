"""A fake Ascend runtime, compiled from C++: what the real torch_npu stands on, over the host's memory and clock.

torch_npu is the published wheel, in a folder of its own (``make .venv/.npu``): torch loads it wherever it is installed,
so no other test may see it. Processes of these tests find it through PYTHONPATH, the libraries of the fake through
LD_LIBRARY_PATH, and the script of the node through FAKE_ASCEND (script.h).

The names that torch_npu leaves undefined are read from the wheel: what is not written in acl.cpp answers 0. Types and
constants are those of the headers that the wheel brings.
"""

from __future__ import annotations

import atexit
import os
import platform
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tests.fake_libraries import compile_library, lines, write_script

SOURCES = Path(__file__).parent
PLUGIN = Path(sys.prefix) / "npu"  # where the Makefile installs torch_npu
EMPTY = ("hccl", "ge_runner", "graph", "acl_tdt_channel")  # libraries that torch_npu needs and calls nothing of
FLAGS = ("-shared", "-fPIC", "-std=c++17", "-O3", "-march=native", "-Wall", "-Werror")
GIB = 2**30


@cache
def plugin() -> Path:
    """Return the folder of torch_npu. Without it the test is skipped, save in CI where there is a wheel for it."""
    if platform.machine() != "x86_64" or sys.version_info[:2] != (3, 11):
        pytest.skip("torch_npu is tested on x86-64 with CPython 3.11")
    for missing, there in (
        ("torch_npu is not installed: make test-npu", (PLUGIN / "torch_npu").is_dir()),
        ("there is no C++ compiler for the fake Ascend runtime", shutil.which("g++") and shutil.which("nm")),
    ):
        if not there:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    return PLUGIN


def undefined(package: Path) -> list[str]:
    """Return the functions of the runtime that torch_npu's libraries leave undefined."""
    libraries = [*package.glob("*.so"), *package.glob("lib/*.so")]
    listed = subprocess.run(["nm", "-D", "--undefined-only", *libraries], check=True, capture_output=True, text=True)
    return sorted(
        set(re.findall(r" U ((?:acl|Hccl|Msprof|rt)[A-Z]\w*|acl(?:rt|op|mdl)\w+)$", listed.stdout, re.MULTILINE))
    )


@cache
def built() -> Path:
    """Compile the fake, once a session, and return the folder of its libraries."""
    package = plugin() / "torch_npu"
    folder = Path(mkdtemp(prefix="petaseal-fake-ascend-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    headers = [f"-I{package / 'include' / 'third_party' / 'acl' / 'inc'}", f"-I{SOURCES}"]

    def link(name: str, *arguments: str | Path) -> None:
        library = f"lib{name}.so"
        command = ["g++", *FLAGS, *headers, f"-Wl,-soname,{library}", "-o", folder / library, *arguments]
        subprocess.run(command, check=True)

    for part in ("compiler", "opp", "runtime"):  # torch_npu looks whether CANN is whole
        (folder / part).mkdir()
    stubs = folder / "stubs.cpp"
    stubs.write_text(
        'extern "C" {\n'
        + "".join(f"__attribute__((weak)) int {name}() {{ return 0; }}\n" for name in undefined(package))
        + "}\n"
    )
    nothing = folder / "nothing.cpp"
    nothing.write_text("")
    for name in EMPTY:
        link(name, nothing)
    link("ascendcl", SOURCES / "acl.cpp", stubs)
    link("acl_op_compiler", SOURCES / "compiler.cpp")
    link("opapi", SOURCES / "opapi.cpp", f"-L{folder}", "-lascendcl", "-Wl,--no-undefined")
    shutil.copy(compile_library("dcmi.c", "libdcmi.so"), folder)
    return folder


def die(index: int) -> str:
    """Return the 16 bytes, as hex, that identify a fake processor."""
    return f"2a51c0f420e1109c8a023459{index:08x}"


def npu(index: int = 0, **changes: object) -> str:
    """Return the script's lines of a processor; a change of None leaves a line out."""
    words: dict[str, object] = {"uuid": die(index), "memory": 64 * GIB, "cache": 2**20, "cube": 24, "vector": 48}
    named = (f"{name} {value}\n" for name, value in (words | changes).items() if value is not None)
    return "".join(["device\n", *named])


def managed(*numbers: int) -> str:
    """Return the script of the management library (tests/fake_libraries/dcmi.c) of the cards with these processors."""
    return "".join(
        lines("device", {"card": logic, "serial": f"1024B71234{number:02}", "product": "IT21HMDA"})
        + lines(
            "part",
            {
                "logic": logic,
                "chip": "910B2",
                "cores": 24,
                "die": " ".join(die(number)[at : at + 8] for at in range(0, 32, 8)) + " 43820091",
                "pci": f"0:c{number:x}:0.0",
                "hbm": 65536,
                "power": 3034,  # in 0.1 W
                "temperature": 61,
                "clock": 1650,
                "rated": 1800,
                "use": 97,
                "hbm_errors": 0,
                "processes": "0 @2 1",  # ours is there from the second reading on
            },
        )
        for logic, number in enumerate(numbers)
    )


def environment(folder: Path, script: str, **more: str) -> dict[str, str]:
    """Return the environment of a process on a node of two processors with this fake.

    Args:
        folder: where the scripts are written.
        script: what the fake runtime does.
        more: variables besides.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "fake-ascend.txt"
    path.write_text(script)
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("ASCEND", "NPU_", "PYTHONPATH"))}
    fixed = {
        "LD_LIBRARY_PATH": str(built()),
        "PYTHONPATH": str(plugin()),
        "FAKE_ASCEND": str(path),
        "FAKE_DCMI": str(write_script(folder, managed(0, 1))),
        "ASCEND_HOME_PATH": str(built()),  # as CANN's set_env.sh sets them
        "ASCEND_OPP_PATH": str(built() / "opp"),
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    return {**plain, **fixed, **more}
