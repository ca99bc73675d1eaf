"""What is looked at on every node before T0, and over all nodes together: problems that would cost a window.

Machines and devices of different nodes are compared by digests of their identities, so that the shared folder shows
nobody what is on a node. Records that share a device are all refused by `petaseal campaign collect`.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from bench.environment import derived_id, machine_identities, missing_machine_id
from bench.errors import InputError
from bench.host.container import in_container
from bench.host.device_files import why_forbidden
from bench.host.mounts import is_fleeting, lxcfs_files
from bench.node_clock import why_unknown
from bench.record import NodeClock
from bench.record.folder import Facts, Roster, RosterPool, alike
from bench.record.identities import device_keys, own_identities
from bench.record.owners import denied
from bench.units import some

if TYPE_CHECKING:
    from bench.devices.base import Found

FLAGGED_CLOCK_NS = 10**9  # R10


def look(found: Sequence[Found], pool: RosterPool, folder: Path, clock: NodeClock, needed_bytes: int) -> Facts:
    """Return what a node tells of itself, and what is wrong with it.

    Args:
        found: its devices.
        pool: what the campaign expects of them.
        folder: where its record will be written.
        clock: what is known of its clock's error.
        needed_bytes: what it will write there.
    """
    from bench.devices import file_patterns
    from bench.devices.base import Faulty, sound

    measured = sound(found)
    problems = [f"{one.device.device}: {one.what} ({one.code})" for one in found if isinstance(one, Faulty)]
    if pool.devices_per_node is not None and len(found) != pool.devices_per_node:
        problems.append(f"has {len(found)} devices, {pool.devices_per_node} are expected")
    if clock.uncertainty_ns is None:
        why = f": {why_unknown()}" if clock.source in ("kernel", "chrony") else ""  # of this machine, not scripted
        problems.append(f"its clock is not known to be synchronised: it would count 0 (clock-unknown){why}")
    elif clock.uncertainty_ns > FLAGGED_CLOCK_NS:
        problems.append(f"its clock is uncertain by {clock.uncertainty_ns / 1e9:.3f} s (clock-uncertain)")
    free = free_bytes(folder)
    if free < needed_bytes:
        problems.append(f"has {free / 1e6:.1f} MB left for its record, {needed_bytes / 1e6:.1f} are needed")
    if (closed := why_forbidden(file_patterns(found))) is not None:
        problems.append(f"its device files: {closed}")
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
        found=alike((one.model, one.device) for one in measured),
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


def with_own_key(
    facts: Facts, found: Sequence[Found], keyid: str, enrolled: str | None, state: Path, root: Path = Path("/")
) -> Facts:
    """Return what a node tells of itself with what is wrong with its key and its machine id, as in a pod it may be.

    Args:
        facts: of the node.
        found: its devices. Simulated ones need no machine.
        keyid: of the key that it signs with.
        enrolled: of the key that the campaign names for it, if it names one.
        state: the folder of its key, and of its machine id where the system keeps none.
        root: the file system's root (tests).
    """
    problems, remarks = list(facts.problems), list(facts.remarks)
    fix = "give the option state=FOLDER of the host on Kubernetes, else a PETASEAL_STATE that lasts"
    goes = in_container(root) is True and is_fleeting(state, root)
    is_real = any(not one.model.simulated for one in found)
    if is_real and goes and (missing := missing_machine_id(root / "etc/machine-id")) is not None:
        made = "the id that is made in its place is gone with the container, and the next one is another machine"
        problems.append(f"{missing}: {made}; mount the host's file, or {fix}")
    if enrolled not in (None, keyid):
        why = f": its key is gone with each container; {fix}" if goes else "; enrol it: petaseal keys node"
        problems.append(f"signs with another key than the campaign names for it (node-key-differs){why}")
    elif goes and enrolled is None:
        remarks.append(f"signs with a key that is gone with its container, so that none can be enrolled; {fix}")
    if hidden := lxcfs_files(root):
        remarks.append(f"sees {some(hidden)} through lxcfs, which hides others' load and cores")
    return replace(facts, problems=tuple(problems), remarks=tuple(remarks))


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


class Room(NamedTuple):
    """What a folder still takes; None where its file system does not say."""

    free_bytes: int | None
    free_files: int | None
    problem: str | None = None  # why it does not take even a try


def free_bytes(folder: Path) -> int:
    """Return how much may still be written into a folder, bytes."""
    told = os.statvfs(folder)
    return told.f_bavail * told.f_frsize


def room_in(folder: Path, try_bytes: int) -> Room:
    """Return what a folder still takes.

    Args:
        folder: of the campaign.
        try_bytes: written there and removed again: a quota shows in nothing else.

    Raises:
        InputError: `output-not-writable`, for another reason than that it is full.
    """
    told = os.statvfs(folder)
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
        told.f_bavail * told.f_frsize if told.f_blocks else None, told.f_favail if told.f_files else None, problem
    )


def seen(facts: Mapping[str, Facts], roster: Roster) -> list[str]:
    """Return what the nodes reported of themselves, for people: by pool, and the worst clock and disk of all.

    Args:
        facts: node -> what it reported.
        roster: of the campaign, for pools and names.
    """
    named = {node.node_id: node.name for node in roster.nodes}
    lines = []
    by_pools: dict[tuple[str, ...], list[Facts]] = {}
    for member in roster.nodes:
        if member.node_id in facts:
            by_pools.setdefault(member.pools, []).append(facts[member.node_id])
    for pools, own in by_pools.items():
        models = sorted({model for one in own for model in one.models})
        drivers = sorted({driver for one in own for driver in one.drivers})
        lines.append(
            f"pool {'+'.join(pools)}: {len(own)} nodes with {sum(one.devices for one in own)} devices"
            f" ({some(models)}), driver {some(drivers)}"
        )
    known = {named[node]: told for node, told in sorted(facts.items(), key=lambda one: named[one[0]])}
    bounds = {name: told.clock_uncertainty_ns for name, told in known.items() if told.clock_uncertainty_ns is not None}
    if bounds:
        worst = max(bounds, key=lambda name: bounds[name])
        by = f"{worst}, by {known[worst].clock_source}"
        lines.append(f"clocks: {len(bounds)} known, the worst within {bounds[worst] / 1e6:.3f} ms ({by})")
    if known:
        fullest = min(known, key=lambda name: known[name].disk_free_bytes // 10**8)
        free = known[fullest].disk_free_bytes
        lines.append(f"disk: at least {free / 1e9:.1f} GB free in the campaign's folder ({fullest})")
    return lines


def fleet_problems(facts: Mapping[str, Facts], roster: Roster) -> list[str]:
    """Return what is wrong over all nodes, one sentence each: single nodes' problems together, and what is not uniform.

    Args:
        facts: node -> what it told.
        roster: of the campaign, for pools and names.
    """
    named = {node.node_id: node.name for node in roster.nodes}
    found = _together({node_id: told.problems for node_id, told in facts.items()}, named)
    found += _identity_problems(facts, named)
    alike: dict[tuple[str, ...], list[str]] = {}  # a mixed node has other devices than the rest of its pool
    for one in roster.nodes:
        if one.node_id in facts:
            alike.setdefault(one.pools, []).append(one.node_id)
    for pools, members in alike.items():
        for what, values in (
            ("drivers", {node: ", ".join(facts[node].drivers) for node in members}),
            ("models", {node: ", ".join(facts[node].models) for node in members}),
            ("numbers of devices", {node: str(facts[node].devices) for node in members}),
        ):
            counts = Counter(values.values())
            if len(counts) > 1:
                ((usual, _),) = counts.most_common(1)
                others = [f"{named[node]}: {value}" for node, value in values.items() if value != usual]
                found.append(f"pool {'+'.join(pools)} has different {what}: mostly {usual}; {some(others)}")
    return found


def fleet_remarks(facts: Mapping[str, Facts], roster: Roster) -> list[str]:
    """Return what is to be known of nodes and costs nothing, one sentence each."""
    named = {node.node_id: node.name for node in roster.nodes}
    return _together({node_id: told.remarks for node_id, told in facts.items()}, named)


def _together(sentences: Mapping[str, Sequence[str]], named: Mapping[str, str]) -> list[str]:
    """Return what single nodes tell, those together that tell the same, what most tell first."""
    nodes: dict[str, list[str]] = {}
    for node_id, told in sorted(sentences.items()):
        for sentence in told:
            nodes.setdefault(sentence, []).append(named.get(node_id, node_id))
    most_first = sorted(nodes.items(), key=lambda item: -len(item[1]))
    return [f"{some(names)}: {sentence}" for sentence, names in most_first]
