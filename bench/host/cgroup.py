"""What control groups allow this process: CPU time and memory, in versions 1 and 2 and with both at once.

A limit may stand on any group above the process's own (Slurm's job folder, a pod's), and the kernel applies them all.
So the least counts, from the process's own group up to the highest that is mounted here.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from bench.host.files import field_number, line, number, whole
from bench.host.mounts import parse_mounts

UNLIMITED_BYTES = 2**60  # version 1 writes "no limit" as the largest multiple of a page, just below 2**63


class CgroupLimits(NamedTuple):
    """What the groups of this process allow it; None where none of them sets a limit."""

    quota_mcpu: int | None  # CPU time: thousandths of a CPU, rounded up
    memory_bytes: int | None
    memory_free_bytes: int | None  # of the scarcest; page cache that was not touched lately counts as free


class Hierarchy(NamedTuple):
    """A mounted hierarchy of control groups."""

    root: str  # the group that is seen at `point`
    point: str
    controllers: frozenset[str]  # of version 1; the hierarchy of version 2 names none


def read_limits(root: Path = Path("/")) -> CgroupLimits:
    """Return the least limits over all groups that this process is in.

    Args:
        root: the file system's root (tests).
    """
    quotas = [quota for folder in group_folders("cpu", root) if (quota := _quota_mcpu(folder)) is not None]
    memory = [limit for folder in group_folders("memory", root) for limit in _memory_limits(folder)]
    return CgroupLimits(
        quota_mcpu=min(quotas, default=None),
        memory_bytes=min((limit for limit, _ in memory), default=None),
        memory_free_bytes=min((max(0, limit - used) for limit, used in memory), default=None),
    )


def group_folders(controller: str, root: Path) -> list[Path]:
    """Return the folders of this process's groups that may limit what a controller governs, the lowest first.

    Args:
        controller: such as "cpu"; version 2 has one hierarchy for all.
        root: the file system's root.
    """
    folders = []
    paths = group_paths(line(root / "proc/self/cgroup"))
    mounts = cgroup_mounts(line(root / "proc/self/mountinfo"))
    for named in (controller, ""):
        # Of several mounts of one hierarchy the one that shows the most groups above the process.
        seen = [m for m in mounts if (named in m.controllers if named else not m.controllers)]
        if named in paths and seen:
            mount = min(seen, key=lambda m: (not _is_below(paths[named], m.root), len(m.root)))
            top = root / mount.point.lstrip("/")
            lowest = _group_folder(top, mount.root, paths[named])
            folders += [lowest, *(parent for parent in lowest.parents if parent.is_relative_to(top))]
    return folders


def group_paths(text: str) -> dict[str, str]:
    """Return the path of this process's group for each controller of version 1, and for "" that of version 2.

    Args:
        text: of /proc/self/cgroup: lines like "4:cpu,cpuacct:/slurm/uid_0/job_5" and "0::/system.slice/x.service".
    """
    paths = {}
    for one in text.splitlines():
        number_, _, rest = one.partition(":")
        controllers, _, path = rest.partition(":")
        if number_.isdecimal() and path.startswith("/"):
            paths.update(dict.fromkeys(controllers.split(","), path))
    return paths


def cgroup_mounts(text: str) -> list[Hierarchy]:
    """Return the mounted hierarchies of control groups.

    Args:
        text: of /proc/self/mountinfo.
    """
    return [
        Hierarchy(one.root, one.point, frozenset(one.options.split(",") if one.kind == "cgroup" else ()))
        for one in parse_mounts(text)
        if one.kind in ("cgroup", "cgroup2")
    ]


def _group_folder(top: Path, mount_root: str, path: str) -> Path:
    """Return the folder of a group below a mount point, or that of the nearest group above it that is there.

    In a container the path may be that of the host, of which only the end is mounted, or lead out of the namespace
    ("/../pod"); then the longest end of it that is there is taken, at last the mount itself: a container's own group.
    """
    parts, below = _parts(path), _is_below(path, mount_root)
    if below:
        parts = parts[len(_parts(mount_root)) :]
    while parts and not top.joinpath(*parts).is_dir():
        parts = parts[:-1] if below else parts[1:]
    return top.joinpath(*parts)


def _is_below(path: str, mount_root: str) -> bool:
    above = _parts(mount_root)
    return ".." not in f"{mount_root}/{path}".split("/") and _parts(path)[: len(above)] == above


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", "..")]


def _quota_mcpu(folder: Path) -> int | None:
    """Return the CPU time that one group allows: of version 2, else of version 1."""
    fields = line(folder / "cpu.max").split()  # "max 100000" is no limit
    if len(fields) != 2:
        fields = [line(folder / "cpu.cfs_quota_us"), line(folder / "cpu.cfs_period_us")]  # -1 is no limit
    quota, period = map(whole, fields)
    return -(-quota * 1000 // period) if quota is not None and period else None


def _memory_limits(folder: Path) -> list[tuple[int, int]]:
    """Return limits on the memory of one group, each with what is used of it, in bytes."""
    stat = folder / "memory.stat"
    if (limit := number(folder / "memory.max")) is not None:  # of version 2: "max" is no limit
        return [(limit, _used(number(folder / "memory.current"), field_number(stat, "inactive_file")))]
    used = _used(number(folder / "memory.usage_in_bytes"), field_number(stat, "total_inactive_file"))
    # Version 1 reports the least of the groups above too, also where these are not mounted here.
    limits = (number(folder / "memory.limit_in_bytes"), field_number(stat, "hierarchical_memory_limit"))
    return [(limit, used) for limit in limits if limit is not None and limit < UNLIMITED_BYTES]


def _used(usage_bytes: int | None, inactive_file_bytes: int | None) -> int:
    return max(0, (usage_bytes or 0) - (inactive_file_bytes or 0))


def meminfo_bytes(name: str, root: Path = Path("/")) -> int | None:
    """Return one line of /proc/meminfo, such as "MemTotal", in bytes; None where it is not there."""
    kib = field_number(root / "proc/meminfo", name)
    return None if kib is None else kib * 1024


def available_bytes(root: Path = Path("/")) -> int | None:
    """Return the memory that this process and its children can still have, in bytes; None where nothing says."""
    # In a container /proc/meminfo shows the whole host's memory, of which its groups may allow a part.
    known = (meminfo_bytes("MemAvailable", root), read_limits(root).memory_free_bytes)
    return min((size for size in known if size is not None), default=None)
