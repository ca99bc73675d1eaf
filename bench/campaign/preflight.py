"""What is looked at on every node before T0, and over all nodes together: problems that would cost a window.

Machines and devices of different nodes are compared by digests of their identities, so that the shared folder shows
nobody what is on a node. Records that share a device are all refused by `petaseal campaign collect`.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bench.environment import derived_id, machine_identities
from bench.record import NodeClock
from bench.record.folder import Facts, Roster, RosterPool, alike
from bench.record.identities import device_keys, own_identities
from bench.units import some

if TYPE_CHECKING:
    from bench.devices.base import Found

NEEDED_BYTES = 256 * 2**20  # samples of a node, with room
FLAGGED_CLOCK_NS = 10**9  # R10


def look(found: Sequence[Found], pool: RosterPool, folder: Path, clock: NodeClock) -> Facts:
    """Return what a node tells of itself, and what is wrong with it.

    Args:
        found: its devices.
        pool: what the campaign expects of them.
        folder: where its record will be written.
        clock: what is known of its clock's error.
    """
    from bench.devices.base import Faulty, sound

    measured = sound(found)
    problems = [f"{one.device.device}: {one.what} ({one.code})" for one in found if isinstance(one, Faulty)]
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
        models=tuple(sorted({f"{f.model.vendor} {f.model.model}" for f in measured})),
        drivers=tuple(sorted({f.model.driver or "unknown" for f in measured})),
        clock_source=clock.source,
        clock_uncertainty_ns=clock.uncertainty_ns,
        disk_free_bytes=free,
        problems=tuple(problems),
        found=alike(measured),
    )


def with_identities(facts: Facts, found: Sequence[Found], challenge: str) -> Facts:
    """Return what a node tells of itself with the digests of what identifies it and its devices.

    Args:
        facts: of the node.
        found: its devices. A node of simulated ones alone tells of no machine, of which many may play one each.
        challenge: of the campaign; in another one the digests are others.
    """

    def hidden(identity: str) -> str:
        return derived_id(f"campaign/{challenge}", identity)[:32]

    devices: dict[str, str] = {}
    for one in found:
        keys = device_keys(one.device)
        for name, key in (*own_identities(one.device).items(), ("parent", keys.parent), ("board", keys.board)):
            if key is not None:
                devices.setdefault(hidden(key), f"{name} of {one.device.device}")
    real = any(not one.model.simulated for one in found)
    machine = {hidden(key): name for name, key in machine_identities().items()} if real else {}
    return replace(facts, machine_ids=machine, device_ids=devices)


def twins(facts: Mapping[str, Facts], named: Mapping[str, str]) -> dict[str, str]:
    """Return the nodes that report a device of another node, each with why no record of it could be collected.

    Args:
        facts: node -> what it told.
        named: node -> its name.
    """
    found: dict[str, str] = {}
    for nodes, keys in _shared({node: told.device_ids for node, told in facts.items()}).items():
        for node in nodes:
            other = next(n for n in nodes if n != node)
            own, its = facts[node].device_ids[keys[0]], facts[other].device_ids[keys[0]]
            found.setdefault(node, f"the {own} is the {its} of {named.get(other, other)} too [duplicate-device]")
    return found


def _shared(told: Mapping[str, Mapping[str, str]]) -> dict[tuple[str, ...], list[str]]:
    """Return the digests that several nodes tell, by these nodes."""
    holders: dict[str, list[str]] = {}
    for node_id, keys in sorted(told.items()):
        for key in keys:
            holders.setdefault(key, []).append(node_id)
    found: dict[tuple[str, ...], list[str]] = {}
    for key, nodes in holders.items():
        if len(nodes) > 1:
            found.setdefault(tuple(nodes), []).append(key)
    return found


def _identity_problems(facts: Mapping[str, Facts], named: Mapping[str, str]) -> list[str]:
    found = []
    for nodes, keys in _shared({node: told.machine_ids for node, told in facts.items()}).items():
        names, what = some(named.get(n, n) for n in nodes), facts[nodes[0]].machine_ids[keys[0]]
        found.append(f"{names} have one {what}: they are one machine, or copies of one image")
    for nodes, keys in _shared({node: told.device_ids for node, told in facts.items()}).items():
        places = some(f"{facts[n].device_ids[keys[0]]} on {named.get(n, n)}" for n in nodes)
        what = "one identity" if len(keys) == 1 else f"{len(keys)} identities"
        found.append(f"{places} are the same ({what}): none of these records could be collected [duplicate-device]")
    return found


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
    found += _identity_problems(facts, named)
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
