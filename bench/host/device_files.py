"""Why this process cannot use the files of devices: whose they are, and who this process is.

Opening says most, as a container's device cgroup refuses (EPERM) what the mode allows; where devices work, nothing is
opened, and the mode alone is looked at.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from bench.units import shortened_list

FLAGS = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


def device_files(patterns: Sequence[str], root: Path = Path("/")) -> list[Path]:
    """Return the files that some patterns name, sorted.

    Args:
        patterns: below the root, such as "dev/davinci[0-9]*".
        root: the file system's root (tests).
    """
    return sorted({path for pattern in patterns for path in root.glob(pattern)})


def why_unusable(patterns: Sequence[str], root: Path = Path("/")) -> str | None:
    """Return why device files cannot be opened, by opening each; None where all can be, or none is named.

    To be called where devices do not work anyway: to open one may have effects of its own.
    """
    if not patterns:
        return None
    files = device_files(patterns, root)
    if not files:
        return f"no device file is here ({', '.join(f'/{pattern}' for pattern in patterns)})"
    # Read and write, as a driver opens it; not blocking, and no terminal: a device file may be one.
    return _why({path: number for path in files if (number := _refusal(path))}, root)


def why_forbidden(patterns: Sequence[str], root: Path = Path("/")) -> str | None:
    """Return which device files this process may not use by their mode; None where there is none. Opens nothing."""
    files = device_files(patterns, root)
    closed = [path for path in files if not os.access(path, os.R_OK | os.W_OK, effective_ids=True)]
    return _why(dict.fromkeys(closed, errno.EACCES), root)


def _refusal(path: Path) -> int:
    """Return the errno with which a file cannot be opened; 0 where it can."""
    try:
        os.close(os.open(path, FLAGS))
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _why(closed: dict[Path, int], root: Path) -> str | None:
    """Return in words why files are closed, those together that are closed for one reason."""
    by_reason: dict[str, list[str]] = {}
    for path, number in closed.items():
        by_reason.setdefault(_reason(path, number), []).append(f"/{path.relative_to(root)}")
    return "; ".join(f"{shortened_list(paths, 2)} {reason}" for reason, paths in by_reason.items()) or None


def _reason(path: Path, number: int) -> str:
    name = errno.errorcode.get(number, str(number))
    try:
        stat = path.stat()
    except OSError:
        return f"cannot be opened ({name})"
    # By number: names of users and groups would have to be looked up, which a container cannot and a record may not.
    groups = sorted({os.getegid(), *os.getgroups()})
    whose = f"owner {stat.st_uid}, group {stat.st_gid}, mode {stat.st_mode & 0o7777:04o}"
    who = f"this process is user {os.geteuid()} of the groups {', '.join(map(str, groups))}"
    text = f"cannot be opened ({name}: {whose}; {who})"
    if number == errno.EPERM:
        return f"{text}: the container was not given it, a mounted host path alone is refused by its device cgroup"
    if number == errno.EACCES and stat.st_mode & 0o060 == 0o060 and stat.st_gid not in groups:
        return f"{text}: add the group {stat.st_gid} (on Kubernetes the option group={stat.st_gid})"
    return text
