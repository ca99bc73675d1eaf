"""Bounded reads of files that others may have put there.

`read_bytes` is for folders that others write to: it follows no link and never blocks. `read_given` is for what the
user names on the command line: a file, a link to one, a pipe such as ``<(...)``, or ``/dev/stdin``.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TypeVar

from bench.errors import InputError, denied

STDIN = Path("/dev/stdin")
Named = TypeVar("Named", Path, "Path | None")


class SharedFile(str):
    """The name of a file in a folder that others write to: no link is followed there."""

    __slots__ = ()


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """Return the content of a regular file of at most `max_bytes` bytes.

    Symbolic links, FIFOs, devices and folders are refused without blocking on them.

    Raises:
        InputError: the file is missing, not regular, unreadable, empty or too large.
    """
    # One open, and everything else of its descriptor: a name that is checked first may be another file when it is read.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise InputError("file-missing", "no such file", where=path) from None
    except OSError as error:
        if os.path.islink(path):
            raise InputError("not-regular-file", "is a symbolic link", where=path, fix="give the file itself") from None
        raise _cannot_read(path, error) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError("not-regular-file", "is not a regular file", where=path)
    return _content_of(descriptor, path, max_bytes)


def read_given(path: Path, max_bytes: int) -> bytes:
    """Return the content, at most `max_bytes` bytes, of what the user names.

    A pipe gives its content once; it is remembered, so that a command may ask for it again.

    Raises:
        InputError: it is missing, neither a file nor a pipe, unreadable, empty or too large.
    """
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        what = "is a symbolic link to what is not there" if os.path.islink(path) else "no such file"
        raise InputError("file-missing", what, where=path) from None
    except OSError as error:
        raise _cannot_read(path, error) from None
    if stat.S_ISREG(status.st_mode):
        return _content_of(_opened(path), path, max_bytes)
    is_socket = stat.S_ISSOCK(status.st_mode) and path == STDIN  # of some remote shells; it cannot be opened
    if not stat.S_ISFIFO(status.st_mode) and not is_socket:
        raise InputError("not-regular-file", "is neither a file nor a pipe", where=path)
    key = status.st_dev, status.st_ino
    if key not in _pipes:
        _pipes[key] = _content_of(os.dup(0) if is_socket else _opened(path), path, max_bytes)
    if len(_pipes[key]) > max_bytes:
        raise InputError("file-too-large", f"has {len(_pipes[key])} bytes, more than {max_bytes}", where=path)
    return _pipes[key]


_pipes: dict[tuple[int, int], bytes] = {}  # by device and inode: one pipe may have several names


def followed(path: Named) -> Named:
    """Return the file that the user's link leads to, for what is read where no link is followed; else the path."""
    return path.resolve() if path is not None and path.is_symlink() and path.is_file() else path


def _opened(path: Path) -> int:
    """Open a file or pipe; a pipe without a writer is empty, and is not waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise _cannot_read(path, error) from None
    os.set_blocking(descriptor, True)
    return descriptor


def _content_of(descriptor: int, where: object, max_bytes: int) -> bytes:
    """Return what an open file or pipe holds, at most `max_bytes` bytes, and close it.

    Raises:
        InputError: it is unreadable, empty or too large.
    """
    try:
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if status.st_size > max_bytes:
                raise InputError("file-too-large", f"has {status.st_size} bytes, more than {max_bytes}", where=where)
            # One byte more than is allowed: a file that grows while it is read is noticed.
            content = file.read((status.st_size if stat.S_ISREG(status.st_mode) else max_bytes) + 1)
    except OSError as error:
        raise _cannot_read(where, error) from None
    if len(content) > max_bytes:
        raise InputError("file-too-large", f"grew beyond the {max_bytes} bytes allowed", where=where)
    if not content:
        raise InputError("file-empty", "is empty", where=where)
    return content


def _cannot_read(where: object, error: OSError) -> InputError:
    """Return the error for a file that the system does not let this process read."""
    why = denied(where, error) if isinstance(where, Path) else error.strerror
    return InputError("file-unreadable", f"cannot be read ({why})", where=where)
