"""Fake management libraries, compiled from C: real shared objects that answer as a script says (script.h).

The source under test is the real one. A library's file in this folder includes script.h; a test compiles it once a
session, puts it where the vendor does, and names the script's file in the library's environment variable.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest

SOURCES = Path(__file__).parent
MACHINE_AT = 18  # of e_machine in an ELF file, two bytes


@cache
def _folder() -> Path:
    folder = Path(mkdtemp(prefix="petaseal-fake-libraries-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def compile_library(
    source: str,
    library: str,
    *,
    without: tuple[str, ...] = (),
    prefixes: tuple[str, str] | None = None,
    options: tuple[str, ...] = (),
) -> Path:
    """Compile a fake library, once a session, and return its path, alone in its folder.

    Without a compiler the test is skipped, save in CI.

    Args:
        source: file in this folder, such as "dcmi.c", or the path of another one.
        library: file name, such as "libdcmi.so".
        without: functions that it lacks, as an older release.
        prefixes: what the names in the source begin with, and what those in the library begin with instead.
        options: of the compiler besides, such as "-DNAME=VALUE" and "-lm".
    """
    compiler = shutil.which("cc")
    if compiler is None:
        assert not os.environ.get("CI"), f"there is no C compiler for the fake {library}"
        pytest.skip(f"there is no C compiler for the fake {library}")
    folder = Path(mkdtemp(dir=_folder()))
    text = (SOURCES / source).read_text()
    if prefixes is not None:
        text = re.sub(rf"\b{prefixes[0]}(?=[A-Z])", prefixes[1], text)
    # A function that is left out has another name, which nobody asks for. There is no soname: a process that has loaded
    # one test's library by its path would be given that one again for another test's.
    others = [f"-D{name}=left_out_{name}" for name in without]
    include = [f"-I{SOURCES}", f"-I{(SOURCES / source).parent}"]
    command = [compiler, "-shared", "-fPIC", "-O1", "-D_GNU_SOURCE", *include, *others, "-x", "c", "-", *options]
    subprocess.run([*command, "-o", folder / library], input=text, text=True, check=True)
    return folder / library


def of_another_machine(library: Path, folder: Path) -> Path:
    """Write a library as of another architecture into a folder, and return its path.

    Args:
        library: a compiled one.
        folder: where the other one is written.
    """
    content = bytearray(library.read_bytes())
    content[MACHINE_AT : MACHINE_AT + 2] = b"\xf3\x00"  # RISC-V
    folder.mkdir(parents=True, exist_ok=True)
    (folder / library.name).write_bytes(content)
    return folder / library.name


def install(library: Path, root: Path, folder: str) -> Path:
    """Copy a library to where a vendor puts it under a root, and return the path.

    Args:
        library: a compiled one.
        root: of a file system.
        folder: of the vendor, with or without a slash before it.
    """
    place = root / folder.lstrip("/")
    place.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(library, place / library.name))


def lines(begin: str, values: Mapping[str, object], more: Iterable[str] = ()) -> str:
    """Return the lines of a device; a value of None leaves its line out.

    Args:
        begin: the word that begins it: "device", "part".
        values: by word.
        more: lines of another form, such as "answer FUNCTION 3".
    """
    named = (f"{word} {_escaped(str(value))}" for word, value in values.items() if value is not None)
    return "".join(f"{line}\n" for line in (begin, *named, *more))


def write_script(folder: Path, script: str) -> Path:
    """Write a script and return its path, which the library's environment variable must name.

    Args:
        folder: where it is written.
        script: the library's lines, then the devices'.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "script.txt"
    path.unlink(missing_ok=True)  # a library that reads scripts again knows another one by its inode
    path.write_text(script)
    return path


def _escaped(text: str) -> str:
    return "".join(rf"\x{ord(letter):02x}" if letter in "\0\n\r" else letter for letter in text)
