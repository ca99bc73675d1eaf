"""Processes of this host by name. Only names are looked at: no user, path or argument."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from bench.host.files import line

COMM = 15  # characters of a process's name that the kernel keeps


def running(names: Collection[str], root: Path = Path("/")) -> list[str] | None:
    """Return which programs run, of some that are named; None where the processes cannot be listed.

    Args:
        names: of programs.
        root: the file system's root (tests).
    """
    folders = [path for path in (root / "proc").glob("[0-9]*") if path.name.isdecimal()]
    if not folders:
        return None
    present = {line(folder / "comm") for folder in folders}
    return [name for name in names if name[:COMM] in present]
