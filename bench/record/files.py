"""Files at the rim: bounded reads of hostile input, and writes that are atomic.

What is read may be anything that somebody put there; what is written is either whole or absent.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bench.errors import InputError


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """Return the content of a regular file of at most `max_bytes` bytes.

    Symbolic links, FIFOs, devices and folders are refused without blocking on them.

    Raises:
        InputError: the file is missing, not regular, unreadable, empty or too large.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise InputError("file-missing", "no such file", where=path) from None
    except OSError as error:
        if os.path.islink(path):
            raise InputError("not-regular-file", "is a symbolic link", where=path, fix="give the file itself") from None
        raise InputError("file-unreadable", f"cannot be read ({error.strerror})", where=path) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise InputError("not-regular-file", "is not a regular file", where=path)
        if status.st_size > max_bytes:
            raise InputError("file-too-large", f"has {status.st_size} bytes, more than {max_bytes}", where=path)
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            content = file.read(min(status.st_size, max_bytes) + 1)
    except OSError as error:
        raise InputError("file-unreadable", f"cannot be read ({error.strerror})", where=path) from None
    finally:
        os.close(descriptor)
    if len(content) > max_bytes:
        raise InputError("file-too-large", f"grew beyond the {max_bytes} bytes allowed", where=path)
    if not content:
        raise InputError("file-empty", "is empty", where=path)
    return content


def state_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Return where a node keeps its own key and identity, and a verifier the trust roots that it accepted.

    It is $PETASEAL_STATE, else the user's state folder.
    """
    environ = os.environ if environ is None else environ
    if environ.get("PETASEAL_STATE"):
        return Path(environ["PETASEAL_STATE"])
    base = environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "petaseal"


def write_atomic(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file whole or not at all: a temporary beside it, flushed to disk, then renamed over it.

    Raises:
        InputError: the folder is missing, is a file, is not writable, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(descriptor, mode)
                os.fsync(descriptor)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise InputError("output-not-writable", f"cannot be written ({error.strerror})", where=path) from None
