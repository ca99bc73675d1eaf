"""Worker processes as the system shows them."""

from __future__ import annotations

import os
from pathlib import Path

WORKER, READER = "bench.engine.worker", "bench.devices.reader_main"


def children(parent: int | None = None, marker: str = WORKER) -> list[int]:
    """Return the worker processes of a process, this one by default, or others with a text in their command line."""
    own = os.getpid() if parent is None else parent
    return [pid for pid in workers(marker) if _parent(pid) == own]


def readers(folder: Path) -> list[int]:
    """Return the processes that read devices and know of a test's folder, whoever started them."""
    return sorted({*workers(READER)} & {*workers(str(folder))})


def workers(marker: str = WORKER) -> list[int]:
    """Return all processes with a text in their command line or environment, except zombies."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            content = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue
        if marker.encode() in content and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return sorted(found)


def _parent(pid: int) -> int:
    try:
        return int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
