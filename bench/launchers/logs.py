"""Logs of what engines start, and their ends as people are shown them.

Others may write where logs lie: no link is followed, and nobody is waited for.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from bench.errors import one_line

END_BYTES = 2**13
SAFELY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def opened(log: Path) -> BinaryIO:
    """Return a log to append to, made where it is missing.

    Raises:
        OSError: it cannot be written, or is no regular file.
    """
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | SAFELY, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is not a regular file")
    return open(descriptor, "ab")


def last_line(log: Path) -> str:
    """Return the last line of a log that is not blank; "" where there is none or it cannot be read."""
    lines = [line for line in read_end(log).splitlines() if line.strip()]
    return one_line(lines[-1], 300) if lines else ""


def read_end(log: Path) -> str:
    """Return the last kilobytes of a log; "" where it is no regular file, or cannot be read."""
    try:
        descriptor = os.open(log, os.O_RDONLY | SAFELY)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return ""
            file.seek(max(0, status.st_size - END_BYTES))
            return file.read(END_BYTES).decode(errors="replace")
    except OSError:
        return ""
