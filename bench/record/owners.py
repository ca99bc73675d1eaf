"""Whose a file or folder is, for errors about missing rights."""

from __future__ import annotations

import errno
import os
import pwd
import stat
from pathlib import Path


def denied(path: Path, error: OSError) -> str:
    """Return why the system did something or not, and where rights are missing whose file or folder it was.

    Args:
        path: that was to be read, or the folder that was to be written into.
        error: what the system said.
    """
    why = error.strerror or str(error)
    if error.errno not in (errno.EACCES, errno.EPERM):
        return why
    for one in (path.absolute(), *path.absolute().parents):
        try:
            status = one.stat()
        except OSError:
            continue
        mode = stat.S_IMODE(status.st_mode)
        return f"{why}: {one} belongs to {user_name(status.st_uid)}, mode {mode:04o}, and this is {user_name()}"
    return why


def user_name(uid: int | None = None) -> str:
    """Return a user's name, else the number; by default of the user of this process."""
    uid = os.geteuid() if uid is None else uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
