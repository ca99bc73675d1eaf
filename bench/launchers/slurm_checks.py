"""What is refused before it is handed over to Slurm, which would let it wait for ever. Pure functions of values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from bench.errors import InputError, one_line
from bench.launchers.base import Gang
from bench.launchers.slurm_words import NODE_NAME, PartitionNode, Reservation

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
OPTION = re.compile(r"--([a-z][a-z-]+)=\S[^\n]*")  # without "=" salloc might take the next option for its value
FIXED = (
    *("job-name", "nodes", "ntasks", "ntasks-per-node", "nodefile", "nodelist", "exclude", "exclusive", "gres"),
    *("no-kill", "time", "time-min", "partition", "reservation", "kill-command", "chdir", "immediate", "no-shell"),
    *(
        "begin",
        "deadline",
        "dependency",
        "clusters",
        "overcommit",
        "oversubscribe",
        "usage",
        "help",
        "version",
        "quiet",
    ),
)
NODES_FIX = "leave it out, or have it put in order"


def check_form(gang: Gang) -> None:
    """Refuse a gang that no command line can be made of.

    Raises:
        InputError: a name, path or option is not acceptable, or there is no node, or one is named twice.
    """
    for name in (gang.name, gang.partition, gang.reservation):
        if name is not None and not NAME.fullmatch(name):
            raise InputError("gang-invalid", f"{one_line(name, 80)!r} is no name of a job, partition or reservation")
    for node in gang.nodes:
        if not NODE_NAME.fullmatch(node):
            raise InputError("gang-invalid", f"{one_line(node, 80)!r} is no name of a node", where=gang.name)
    if not gang.nodes or len(set(gang.nodes)) < len(gang.nodes):
        what = "names a node twice" if gang.nodes else "has no node"
        raise InputError("gang-invalid", what, where=gang.name)
    if gang.time_limit_s <= 0 or not gang.command:
        raise InputError("gang-invalid", "has no command or no time", where=gang.name)
    if not gang.log_dir.is_absolute() or re.search(r"[\\\n]", str(gang.log_dir)):
        what = "a folder for logs is an absolute path without a backslash"
        raise InputError("gang-invalid", what, where=one_line(str(gang.log_dir)))
    for option in gang.options:
        check_option(option)


def check_option(option: str) -> None:
    """Refuse an option that is not of salloc's long form, or that would change what a gang is.

    Raises:
        InputError: it is such an option; salloc takes a part of a name for the whole, so that parts are refused too.
    """
    match = OPTION.fullmatch(option)
    if match is None:
        what = f"{one_line(option, 80)!r} is no option of the form --name=value"
        raise InputError("gang-invalid", what, where="salloc")
    # GNU getopt takes --node for --nodelist where that is the only option that begins so.
    if any(fixed.startswith(match[1]) for fixed in FIXED):
        what, fix = f"--{match[1]} is decided by the campaign", "leave it away"
        raise InputError("gang-invalid", what, where="salloc", fix=fix)


def check_partitions(partitions: Sequence[str], seen: Sequence[PartitionNode]) -> None:
    """Refuse a partition that there is not.

    Raises:
        InputError: one of them has no node that this user may see.
    """
    there = sorted({one.partition for one in seen})
    for name in partitions:
        if name not in there:
            what = f"there is no partition {one_line(name, 80)!r} with nodes that this user may see"
            fix = f"choose from {one_line(', '.join(there), 200)}" if there else None
            raise InputError("partition-unknown", what, where="Slurm", fix=fix)


def check_nodes(gang: Gang, seen: Sequence[PartitionNode], reservations: Mapping[str, Reservation]) -> None:
    """Refuse a gang that could never start.

    Args:
        gang: what is to start.
        seen: each node of its partition once.
        reservations: all that there are.

    Raises:
        InputError: a node is unknown, cannot be used, is reserved for others or has too few accelerators; there is no
            such reservation; or the partition does not allow so long a job.
    """
    there = {one.name: one for one in seen}
    missing = [name for name in gang.nodes if name not in there]
    if missing:
        what = f"{len(missing)} of {len(gang.nodes)} nodes are not there, such as {missing[0]}"
        raise InputError("node-unusable", what, where=gang.partition or "Slurm", fix="compare them with sinfo")
    if gang.reservation is not None and gang.reservation not in reservations:
        fix = f"choose from {one_line(', '.join(sorted(reservations)), 200)}" if reservations else None
        raise InputError("unknown-reservation", f"there is no reservation {gang.reservation!r}", where="Slurm", fix=fix)
    # Slurm would accept such a job and keep it pending for ever, with every other node of the pool.
    for one in (there[name] for name in gang.nodes):
        why = _unusable(one, gang, reservations)
        if why is not None:
            raise InputError("node-unusable", why, where=one.name, fix=NODES_FIX)
        if one.limit_s is not None and minutes(gang.time_limit_s) * 60 > one.limit_s:
            what = f"allows a job {one.limit_s} s, and this one needs {gang.time_limit_s} s"
            raise InputError("partition-limit", what, where=one.partition, fix="choose another partition")


def _unusable(one: PartitionNode, gang: Gang, reservations: Mapping[str, Reservation]) -> str | None:
    """Return why a node cannot take part in a gang (one clause); None where it can."""
    if one.problem is not None:
        return f"cannot be used ({one.problem})"
    # A node's state says at most that it is reserved, not for whom.
    holders = sorted(name for name, held in reservations.items() if held.active and one.name in held.nodes)
    if gang.reservation is not None and one.name not in reservations[gang.reservation].nodes:
        return f"is not in the reservation {gang.reservation}"
    if gang.reservation is None and holders:
        return f"is reserved ({', '.join(holders)})"
    if gang.gres is not None and not offers(one.gres, gang.gres):
        return f"has {one.gres or 'no accelerator'}, and {gang.gres} is asked for"
    return None


def offers(there: str | None, asked: str) -> bool:
    """Return whether a node has the accelerators that are asked for; a kind without a type means any type."""
    for part in asked.split(","):
        kind, _, count = part.rpartition(":")
        pairs = [one.rpartition(":") for one in (there or "").split(",")]
        having = sum(int(n) for name, _, n in pairs if name == kind or name.startswith(f"{kind}:"))
        if not kind or not count.isdigit() or having < int(count):
            return False
    return True


def minutes(seconds: int) -> int:
    """Return a time limit in whole minutes, Slurm's smallest unit."""
    return -(-seconds // 60)
