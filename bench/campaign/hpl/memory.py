"""The memory that a node gives to an HPL run: as its operator writes it, or as its devices reported it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bench.campaign.hpl.problem import Library
from bench.errors import InputError
from bench.record.status import AlikeDevices

ON_DEVICES: tuple[Library, ...] = ("nvidia", "rocm")  # whose HPL keeps the matrix in the memory of the accelerators
_SIZE = re.compile(r"([0-9]{1,9})\s*([MGT])(iB|B|)")


def parse_size(text: str) -> int:
    """Return a size such as "512GiB", "512G" (the same) or "549GB", bytes.

    Raises:
        InputError: `usage`.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or int(match[1]) == 0:
        raise InputError("usage", f"is no size: {text[:40]!r}", where="--memory", fix='write it as "512GiB"')
    base = 1000 if match[3] == "B" else 1024
    return int(match[1]) * int(base ** ("MGT".index(match[2]) + 2))


def node_memory(found: Sequence[AlikeDevices], library: Library) -> int | None:
    """Return the memory of one node that a library's HPL can use, bytes; None where the node did not report it.

    Args:
        found: the node's devices.
        library: decides whether it is that of the accelerators, all added, or of the host, which its processors share.
    """
    if library in ON_DEVICES:
        sizes = [one.model.memory_bytes for one in found if one.model.kind != "cpu" for _ in one.names]
    else:
        sizes = [one.model.memory_bytes for one in found if one.model.kind == "cpu"][:1]
    known = [size for size in sizes if size is not None]
    return sum(known) if known and len(known) == len(sizes) else None
