"""What is looked at on every node before T0, and over all nodes together: problems that would cost a window."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.record import NodeClock
from bench.record.folder import Facts, Roster, RosterPool, alike

if TYPE_CHECKING:
    from bench.devices.base import Found

NEEDED_BYTES = 256 * 2**20  # samples of a node, with room
FLAGGED_CLOCK_NS = 10**9  # R10
NAMED = 3  # of many nodes with one problem


def look(found: Sequence[Found], pool: RosterPool, folder: Path, clock: NodeClock) -> Facts:
    """Return what a node tells of itself, and what is wrong with it.

    Args:
        found: its devices.
        pool: what the campaign expects of them.
        folder: where its record will be written.
        clock: what is known of its clock's error.
    """
    problems = []
    if pool.devices_per_node is not None and len(found) != pool.devices_per_node:
        problems.append(f"has {len(found)} devices, {pool.devices_per_node} are expected")
    if clock.uncertainty_ns is None:
        problems.append("its clock is not known to be synchronised: it would count 0 (clock-unknown)")
    elif clock.uncertainty_ns > FLAGGED_CLOCK_NS:
        problems.append(f"its clock is uncertain by {clock.uncertainty_ns / 1e9:.3f} s (clock-uncertain)")
    free = free_bytes(folder)
    if free < NEEDED_BYTES:
        problems.append(f"has {free // 2**20} MiB left for its record, {NEEDED_BYTES // 2**20} are needed")
    if not os.access(folder, os.W_OK | os.X_OK):
        problems.append("cannot write into the campaign's folder")
    return Facts(
        devices=len(found),
        models=tuple(sorted({f"{f.model.vendor} {f.model.model}" for f in found})),
        drivers=tuple(sorted({f.model.driver or "unknown" for f in found})),
        clock_source=clock.source,
        clock_uncertainty_ns=clock.uncertainty_ns,
        disk_free_bytes=free,
        problems=tuple(problems),
        found=alike(found),
    )


def free_bytes(folder: Path) -> int:
    """Return how much may still be written into a folder, bytes."""
    return shutil.disk_usage(folder).free


def fleet_problems(facts: Mapping[str, Facts], roster: Roster) -> list[str]:
    """Return what is wrong over all nodes, one sentence each: single nodes' problems together, and what is not uniform.

    Args:
        facts: node -> what it told.
        roster: of the campaign, for pools and names.
    """
    named = {node.node_id: node.name for node in roster.nodes}
    by_problem: dict[str, list[str]] = {}
    for node_id, told in sorted(facts.items()):
        for problem in told.problems:
            by_problem.setdefault(problem, []).append(named.get(node_id, node_id))
    found = [f"{some(nodes)} {problem}" for problem, nodes in by_problem.items()]
    for pool in roster.pools:
        members = [node.node_id for node in roster.nodes if node.pool == pool.pool and node.node_id in facts]
        for what, values in (
            ("drivers", {node: ", ".join(facts[node].drivers) for node in members}),
            ("models", {node: ", ".join(facts[node].models) for node in members}),
            ("numbers of devices", {node: str(facts[node].devices) for node in members}),
        ):
            counts = Counter(values.values())
            if len(counts) > 1:
                ((usual, _),) = counts.most_common(1)
                others = [f"{named[node]}: {value}" for node, value in values.items() if value != usual]
                found.append(f"pool {pool.pool} has different {what}: mostly {usual}; {some(others)}")
    return found


def some(names: Iterable[str]) -> str:
    """Return a few of many names."""
    all_names = list(names)
    rest = len(all_names) - NAMED
    return ", ".join(all_names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
