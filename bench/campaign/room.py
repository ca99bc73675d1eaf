"""Disk space in the shared folder: what it still takes, and what the records of a campaign need."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.campaign.estimate import room_bytes
from bench.campaign.opening import OpenCampaign
from bench.errors import InputError, denied
from bench.record.status import Status

MOST_DEVICES = 1024  # that one record holds
FILES = 8  # that a node makes: status, samples, record, lock, drafts of them, and its share of the shards


class Room(NamedTuple):
    """What a folder still takes; None where its file system does not say."""

    free_bytes: int | None
    free_files: int | None
    problem: str | None = None  # why it does not take even a try


def free_bytes(folder: Path) -> int:
    """Return how much may still be written into a folder, bytes."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def room_in(folder: Path, try_bytes: int) -> Room:
    """Return what a folder still takes.

    Args:
        folder: of the campaign.
        try_bytes: written there and removed again: a quota shows in nothing else.

    Raises:
        InputError: `output-not-writable`, for another reason than that it is full.
    """
    fs = os.statvfs(folder)
    problem = None
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(os.urandom(try_bytes))  # zeros might take no room
            file.flush()
            os.fsync(file.fileno())  # a file system on the network may refuse no sooner
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                "output-not-writable", f"is not writable ({denied(folder, error)})", where=folder
            ) from None
        problem = error.strerror
    return Room(
        fs.f_bavail * fs.f_frsize if fs.f_blocks else None,
        fs.f_favail if fs.f_files else None,
        problem,
    )


def needed_bytes(opened: OpenCampaign, nodes: Collection[str], known: Mapping[str, Status]) -> list[int]:
    """Return what each of some nodes will write into the shared folder at most, bytes."""
    # Of mixed nodes each pool expects other devices; one look for each combination is enough for thousands of nodes.
    roster = opened.roster
    expected = {
        node.pools: roster.pool_of(node).devices_per_node for node in {n.pools: n for n in roster.nodes}.values()
    }
    devices = {
        node_id: min(max(status.facts.devices, 0), MOST_DEVICES)  # its word, or that of whoever writes there
        for node_id, status in known.items()
        if status.facts is not None
    }
    return [
        room_bytes(opened.campaign, opened.profile, devices.get(node.node_id, expected[node.pools]))
        for node in roster.nodes
        if node.node_id in nodes
    ]


def no_room(room: Room, each_bytes: Sequence[int]) -> str | None:
    """Return why a folder does not take what nodes will write, None where it does.

    Args:
        room: what it takes.
        each_bytes: that a node will write.
    """
    nodes, all_bytes = len(each_bytes), sum(each_bytes)
    needed = f"the records of {nodes} nodes need {all_bytes / 1e6:,.1f} MB"
    if room.free_bytes is not None and room.free_bytes < all_bytes:
        return f"has {room.free_bytes / 1e6:,.1f} MB left, and {needed}"
    if room.free_files is not None and room.free_files < nodes * FILES:
        return f"takes {room.free_files:,} more files, and the records of {nodes} nodes need {nodes * FILES:,}"
    return None if room.problem is None else f"takes no more ({room.problem}), and {needed}"
