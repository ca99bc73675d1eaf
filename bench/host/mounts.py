"""What is mounted where this process runs: folders that are gone with its container, files that lxcfs stands in for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from bench.host.files import line

# A pod's emptyDir lies on the node's disk, in a folder of the pod; the rest lies in memory or in the container's layer.
EMPTY_DIR = "/kubernetes.io~empty-dir/"
FLEETING = frozenset({"tmpfs", "ramfs", "overlay", "aufs", "fuse-overlayfs", "fuse.fuse-overlayfs"})


class Mount(NamedTuple):
    """A mount of this process."""

    root: str  # what of the file system is seen at `point`
    point: str
    kind: str
    options: str  # of the file system


def parse_mounts(text: str) -> list[Mount]:
    """Return the mounts of /proc/self/mountinfo, later ones after those that they hide.

    Args:
        text: of the file.
    """
    mounts = []
    for one in text.splitlines():
        before, _, after = one.partition(" - ")
        fields, (kind, _, options) = before.split(" "), [*after.split(" "), "", "", ""][:3]
        if len(fields) > 4:
            mounts.append(Mount(_unescaped(fields[3]), _unescaped(fields[4]), kind, options))
    return mounts


def is_fleeting(folder: Path, root: Path = Path("/")) -> bool:
    """Return whether what is written into a folder of a container is gone with it.

    Args:
        folder: absolute.
        root: the file system's root (tests).
    """
    above = {str(folder), *map(str, folder.parents)}
    holding = [mount for mount in parse_mounts(line(root / "proc/self/mountinfo")) if mount.point in above]
    if not holding:
        return False
    deepest = max(enumerate(holding), key=lambda entry: (len(entry[1].point), entry[0]))[1]
    return deepest.kind in FLEETING or EMPTY_DIR in f"{deepest.root}/"


def lxcfs_files(root: Path = Path("/")) -> list[str]:
    """Return the files of the kernel that lxcfs stands in for, such as /proc/stat: they hide the host's load and cores.

    Args:
        root: the file system's root (tests).
    """
    mounts = parse_mounts(line(root / "proc/self/mountinfo"))
    seen = {mount.point for mount in mounts if mount.kind == "fuse.lxcfs"}
    return sorted(point for point in seen if point.startswith(("/proc/", "/sys/")))


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
