"""Whether a folder lies on a network file system, where SQLite's write-ahead log does not work.

All processes that use the log share memory of one machine (sqlite.org/wal.html): over a network two machines, or a
server that caches, corrupt the database without a word.
"""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

# linux/magic.h, and of file systems outside of the kernel what their modules say. FUSE has one number for all that is
# served by a process, local or not: there the name decides.
_BY_NUMBER = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB2",
    0x01021997: "9p",
    0x5346414F: "AFS",
    0x6B414653: "AFS",
    0x00C36400: "Ceph",
    0x73757245: "Coda",
    0x564C: "NCP",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
    0x19830326: "BeeGFS",
    0xAAD7AAEA: "PanFS",
    0x20030528: "OrangeFS",
    0x7461636F: "OCFS2",
    0x01161970: "GFS2",
    0x786F4256: "vboxsf",
}
_BY_NAME = {
    **{name.lower(): name for name in _BY_NUMBER.values()},
    "nfs4": "NFS",
    "smb3": "SMB",
    "smbfs": "SMB",
    "ncpfs": "NCP",
    "fhgfs": "BeeGFS",
    "panfs": "PanFS",
    "wekafs": "WekaFS",
    "acfs": "ACFS",
    "dvs": "DVS",
    "glusterfs": "GlusterFS",
    "davfs": "WebDAV",
}
_FUSE = {  # the part of a type's name after "fuse."
    "sshfs": "sshfs",
    "glusterfs": "GlusterFS",
    "ceph": "Ceph",
    "cephfs": "Ceph",
    "ceph-fuse": "Ceph",
    "beegfs": "BeeGFS",
    "s3fs": "s3fs",
    "goofys": "goofys",
    "gcsfuse": "gcsfuse",
    "rclone": "rclone",
    "juicefs": "JuiceFS",
    "mfs": "MooseFS",
    "lizardfs": "LizardFS",
    "davfs": "WebDAV",
    "davfs2": "WebDAV",
    "smbnetfs": "SMB",
    "curlftpfs": "curlftpfs",
    "nfs": "NFS",
    "alluxio-fuse": "Alluxio",
}
_ESCAPED = re.compile(r"\\([0-7]{3})")  # a blank, tab, line feed or backslash in a path of mountinfo
MOUNTS = Path("/proc/self/mountinfo")


def network_of_number(number: int) -> str | None:
    """Return the name of a network file system by the number that statfs(2) gives, None where it is none that is known.

    Args:
        number: `f_type`, of which the lower 32 bits count: 32-bit systems have it signed.
    """
    return _BY_NUMBER.get(number & 0xFFFFFFFF)


def network_of_type(name: str) -> str | None:
    """Return the name of a network file system by its type in a list of mounts, None where it is none that is known."""
    kind, _, served_by = name.lower().partition(".")
    return _FUSE.get(served_by) if kind in ("fuse", "fuseblk") else _BY_NAME.get(kind)


def type_of(path: Path, mountinfo: str) -> str | None:
    """Return the type of the file system that an absolute path lies on, as proc(5) lists mounts; None: not listed."""
    best: tuple[int, str] | None = None
    for line in mountinfo.splitlines():
        before, dash, after = line.partition(" - ")
        fields = before.split()
        if not dash or len(fields) < 5:
            continue
        point = Path(_ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), fields[4]))
        # of two mounts at one place the later one is seen
        if path.is_relative_to(point) and (best is None or len(point.parts) >= best[0]):
            best = (len(point.parts), after.split()[0])
    return None if best is None else best[1]


def network_file_system(folder: Path) -> str | None:
    """Return the name of the network file system that a folder lies on, None where it is local or unknown."""
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    if (number := _number_of(place)) is not None and (name := network_of_number(number)) is not None:
        return name
    try:
        kind = type_of(place, MOUNTS.read_text(errors="surrogateescape"))
    except OSError:  # no proc here, or another system
        return None
    return None if kind is None else network_of_type(kind)


def _number_of(path: Path) -> int | None:
    """Return `f_type` of statfs(2), which Python's own `os.statvfs` leaves out; None where there is no such call."""
    try:
        statfs = ctypes.CDLL(None, use_errno=True).statfs
    except (OSError, AttributeError):
        return None
    answer = (ctypes.c_long * 64)()  # larger than any struct statfs; its first word is the type
    return int(answer[0]) if statfs(os.fsencode(path), answer) == 0 else None
