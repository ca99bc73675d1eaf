"""Small files in which Linux states one value each. One that is missing or unreadable is as one without a value."""

from __future__ import annotations

import errno
import os
from pathlib import Path

MOST_BYTES = 32 * 2**20  # of one file: the maps of a process with 10^5 of them have some megabytes
MOST_DIGITS = 30  # of one number


def content(path: Path) -> bytes:
    """Return what a file holds, and never wait for it: it may be a pipe, or have no end.

    Raises:
        OSError: it cannot be read, nothing is there to be read yet, or it holds more than `MOST_BYTES`.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as file:
        parts: list[bytes] = []
        size = 0
        while part := file.read(2**16):
            parts.append(part)
            size += len(part)
            if size > MOST_BYTES:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return b"".join(parts)


def line(path: Path) -> str:
    """Return the text of a file without the blanks around it; an empty text where it cannot be read."""
    try:
        return content(path).decode("ascii", "replace").strip()
    except OSError:
        return ""


def number(path: Path) -> int | None:
    """Return the whole number that a file holds; None where it holds none."""
    text = line(path)  # also "max", "-1" and "<unknown>" stand in such files: none of them is a number
    return whole(text)


def whole(text: str) -> int | None:
    """Return the whole number that a text is; None for any other text, such as one too long for any number."""
    return int(text) if text.isdecimal() and len(text) <= MOST_DIGITS else None


def field_number(path: Path, name: str) -> int | None:
    """Return the number of one line of the form "name value" or "name: value unit"; None where there is none."""
    for text in line(path).splitlines():
        words = text.replace(":", " ").split()
        if len(words) > 1 and words[0] == name:
            return whole(words[1])
    return None
