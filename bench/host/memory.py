"""How much memory of this host its processes can have: what is free, and no more than control groups allow."""

from __future__ import annotations

from pathlib import Path

from bench.host.cgroup import read_limits
from bench.host.files import field_number


def meminfo_bytes(name: str, root: Path = Path("/")) -> int | None:
    """Return one line of /proc/meminfo, such as "MemTotal", in bytes; None where it is not there."""
    kib = field_number(root / "proc/meminfo", name)
    return None if kib is None else kib * 1024


def available_bytes(root: Path = Path("/")) -> int | None:
    """Return the memory that this process and its children can still have, in bytes; None where nothing tells."""
    known = (meminfo_bytes("MemAvailable", root), read_limits(root).memory_free_bytes)
    return min((size for size in known if size is not None), default=None)
