"""Processes that still hang in a vendor's call although their command is over: no further command hangs there too.

A reader is never killed, so a node whose driver is stuck would gather one with every command. One that stays behind
listens on a name that the kernel forgets with it (an abstract socket); the next reader leaves that source out.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import struct
from collections.abc import Iterable

_PEER = struct.Struct("3i")  # struct ucred of unix(7): process, user, group


def name_of(source: str, root: str) -> str:
    """Return how a source of a node is called here.

    Args:
        source: its label.
        root: the file system's root of its back end (tests).
    """
    return f"{source}-{hashlib.sha256(root.encode()).hexdigest()[:16]}"


def _address(name: str) -> str:
    return f"\0petaseal-stuck-{name}"[:100]


def mark(names: Iterable[str]) -> list[socket.socket]:
    """Let other processes know that this one hangs in some sources; return what holds that as long as it is open.

    Args:
        names: of the sources (`name_of`).
    """
    held = []
    for name in names:
        one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        held.append(one)
        with contextlib.suppress(OSError):  # another one has hung there for longer
            one.bind(_address(name))
            one.listen()
    return held


def known(sources: Iterable[str], root: str) -> dict[str, str]:
    """Return those of some sources in which a process hangs, one of this user or of root, each with a clause.

    Args:
        sources: their labels.
        root: as in `name_of`.
    """
    stuck = {}
    for source in sources:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one, contextlib.suppress(OSError):
            one.setblocking(False)
            one.connect(_address(name_of(source, root)))
            peer = one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
            pid, user, _ = _PEER.unpack(peer)
            if user in (0, os.geteuid()):
                stuck[source] = f"process {pid} of an earlier command still hangs in it"
    return stuck
