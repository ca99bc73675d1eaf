"""Versions of a vendor's stack: what torch was built for, its plug-in, and the toolkits that are installed.

A toolkit's own version file is read where its vendor's installer puts it, or where the environment says that it lies.
Sources: the installation guides of CANN, ROCm, DTK, MACA and MUSA.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from bench.errors import one_line

PLUG_INS = ("torch_npu", "torch_mlu", "torch_musa", "torch_gcu", "torch_xmlir")
BUILT_FOR = {"cuda": "cuda", "hip": "rocm", "cann": "cann", "musa": "musa", "maca": "maca", "dtk": "dtk"}
MOST_BYTES = 4096  # of a version file
NUMBER = re.compile(r"[0-9]+(?:[.][0-9A-Za-z]+)+(?:[-+_.][0-9A-Za-z.]+)*")


class Toolkit(NamedTuple):
    """Where a vendor's toolkit states its version."""

    name: str
    variables: tuple[str, ...]  # that name its folder
    folders: tuple[str, ...]  # where its installer puts it
    files: tuple[str, ...]  # in that folder; {arch} is the machine's


TOOLKITS = (
    Toolkit(
        "cann",
        ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH"),
        ("usr/local/Ascend/ascend-toolkit/latest", "usr/local/Ascend/cann"),
        ("{arch}-linux/ascend_toolkit_install.info",),
    ),
    Toolkit("rocm", ("ROCM_PATH",), ("opt/rocm",), (".info/version",)),
    Toolkit("dtk", (), ("opt/dtk",), (".info/version",)),
    Toolkit("maca", ("MACA_PATH",), ("opt/maca",), ("Version.txt",)),
    Toolkit("musa", ("MUSA_HOME",), ("usr/local/musa",), ("version.json",)),
)


def stack_versions(environ: Mapping[str, str] | None = None, root: Path = Path("/")) -> dict[str, str]:
    """Return the versions of the accelerator's stack by name: cuda, rocm, cann, maca ... and torch's plug-ins.

    What torch itself says that it was built for comes before what is installed on the node.

    Args:
        environ: environment variables; None for this process's.
        root: the file system's root (tests).
    """
    versions = _installed(os.environ if environ is None else environ, root)
    torch = sys.modules.get("torch")
    for attribute, name in BUILT_FOR.items():
        built_for = getattr(getattr(torch, "version", None), attribute, None)
        if isinstance(built_for, str) and built_for:
            versions[name] = built_for
    for name in PLUG_INS:
        if name in sys.modules:
            try:
                versions[name] = version(name)
            except PackageNotFoundError:
                versions[name] = str(getattr(sys.modules[name], "__version__", ""))
    if "torch_npu" in sys.modules:
        with suppress(Exception):  # an older one has no such function
            off = sys.modules["torch"].npu.is_jit_compile_false()
            versions["torch_npu.jit_compile"] = "off" if off else "on"
    return {name: text for name, value in versions.items() if (text := one_line(value, 100))}


def _installed(environ: Mapping[str, str], root: Path) -> dict[str, str]:
    versions = {}
    for toolkit in TOOLKITS:
        named = [Path(environ[name]) for name in toolkit.variables if environ.get(name)]
        for folder in [*named, *(root / path for path in toolkit.folders)]:
            texts = (_version_in(folder / file.format(arch=platform.machine())) for file in toolkit.files)
            if text := next(filter(None, texts), None):
                versions[toolkit.name] = text
                break
    return versions


def _version_in(path: Path) -> str | None:
    """Return the first version number of a file; of a file with a line ``version=``, the one there."""
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES).decode("ascii", "replace")
    except OSError:
        return None
    line = next((line for line in text.splitlines() if line.strip().lower().startswith("version=")), text)
    match = NUMBER.search(line)
    return match[0] if match else None
