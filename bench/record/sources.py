"""Which petaseal this is: its version, and the digest of its own sources, by which a record names who measured."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from bench.record.node import Tool

PACKAGES = ("bench", "kernels", "certify")
SOURCE_SUFFIXES = (".py", ".cu", ".cuh")


@cache  # some megabytes are hashed, and nothing replaces the sources of a running process
def tool() -> Tool:
    """Return the harness's version and the SHA-256 over its own sources: sorted names with the digest of each file."""
    from importlib.metadata import PackageNotFoundError, version

    root = Path(__file__).resolve().parent.parent.parent
    total = hashlib.sha256()
    for path in sorted(p for package in PACKAGES for p in (root / package).rglob("*") if p.suffix in SOURCE_SUFFIXES):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{content}  {path.relative_to(root).as_posix()}\n".encode())
    try:
        text = version("petaseal")
    except PackageNotFoundError:
        text = "uninstalled"
    return Tool(version=text, sha256=total.hexdigest())
