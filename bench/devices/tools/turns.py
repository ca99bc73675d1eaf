"""Whose turn it is to run a vendor's tool: one run at a time, in this process and of each tool on the node.

The node's turn is a lock (flock) on the tool's own file: it works for all users, needs no folder and leaves nothing
behind. Where that file may not be read, or its file system has no locks, there are no turns between commands.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

TURN_S = 30.0  # how long another command of petaseal, which runs the tool, is waited for
PAUSE_S = 0.03  # between two runs, in which another command gets its turn


class Left(NamedTuple):
    """A tool that was asked to end and still ran, and the turn that is released once it has ended."""

    process: subprocess.Popen[bytes]
    turn: int | None


ONE_AT_A_TIME = threading.Lock()
left: dict[Path, Left] = {}
starting: list[Callable[[], None]] = [lambda: None]  # its first is called before each run
ending = threading.Event()  # this process is to end: it starts no tool any more


def still_runs(tool: Path) -> bool:
    """Return whether a tool still runs that this process asked to end; if it has ended, its turn is released."""
    one = left.get(tool)
    if one is None or one.process.poll() is None:
        return one is not None
    let_go(left.pop(tool).turn)
    return False


def wait_for_left() -> None:
    """Wait until no tool that this process asked to end runs: until then no other command starts it."""
    for one in list(left.values()):
        one.process.wait()


def take(tool: Path) -> int | None:
    """Wait for the node's turn to run a tool and return the descriptor that holds it; None where there are no turns.

    Args:
        tool: its file.

    Raises:
        TimeoutError: another command of petaseal has it, and does not let it go.
    """
    try:
        descriptor = os.open(tool, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    until_s = time.monotonic() + TURN_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() >= until_s or ending.wait(PAUSE_S / 3):
                os.close(descriptor)
                raise TimeoutError from None
        except OSError:
            os.close(descriptor)
            return None


def let_go(turn: int | None) -> None:
    """Release a turn, so that another process may call the tool."""
    if turn is not None:
        os.close(turn)
