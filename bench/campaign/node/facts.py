"""What a node finds out about itself before T0, and what is wrong with it: devices, clock, room, key, identities.

Identities leave the node as digests only: the shared folder shows nobody what is on a node.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from bench.campaign.room import free_bytes
from bench.collective.address import interface_here
from bench.environment import derived_id, machine_identities, missing_machine_id
from bench.errors import PetasealError
from bench.host.container import in_container
from bench.host.device_files import why_forbidden
from bench.host.mounts import is_fleeting, lxcfs_files
from bench.node_clock import why_unknown
from bench.record import Campaign, NodeClock
from bench.record.identities import device_keys, unshared_identities
from bench.record.roster import RosterPool
from bench.record.sources import tool
from bench.record.status import NodeFacts, alike_devices
from bench.units import shortened_list

if TYPE_CHECKING:
    from bench.devices.base import LocalDevice
    from bench.doctor.gather import ReadFor


FLAGGED_CLOCK_NS = 10**9  # R10


def facts_of_node(
    devices: Sequence[LocalDevice], pool: RosterPool, folder: Path, clock: NodeClock, needed_bytes: int
) -> NodeFacts:
    """Return a node's facts for the campaign's check: devices, clock and disk, with every problem as a clause.

    Args:
        devices: its devices.
        pool: what the campaign expects of them.
        folder: where its record will be written.
        clock: what is known of its clock's error.
        needed_bytes: what it will write there.
    """
    from bench.devices import file_patterns
    from bench.devices.base import Faulty, sound

    # A faulty device stays in the record as a failure, but has no model of its own to compare with the rest of the
    # pool.
    measured = sound(devices)
    problems = [f"{one.device.device}: {one.what} ({one.code})" for one in devices if isinstance(one, Faulty)]
    unexamined = []
    if pool.devices_per_node is not None and len(devices) != pool.devices_per_node:
        unexamined.append(f"has {len(devices)} devices, {pool.devices_per_node} are expected")
        problems += unexamined
    if clock.uncertainty_ns is None:
        why = f": {why_unknown()}" if clock.source in ("kernel", "chrony") else ""  # of this machine, not scripted
        problems.append(f"its clock is not known to be synchronised: it would count 0 (clock-unknown){why}")
    elif clock.uncertainty_ns > FLAGGED_CLOCK_NS:
        problems.append(f"its clock is uncertain by {clock.uncertainty_ns / 1e9:.3f} s (clock-uncertain)")
    free = free_bytes(folder)
    if free < needed_bytes:
        problems.append(f"has {free / 1e6:.1f} MB left for its record, {needed_bytes / 1e6:.1f} are needed")
    if (closed := why_forbidden(file_patterns(devices))) is not None:
        unexamined.append(f"its device files: {closed}")
        problems.append(unexamined[-1])
    # On NFS with root_squash the user who launched may write where root on the node may not.
    if not os.access(folder, os.W_OK | os.X_OK):
        problems.append("cannot write into the campaign's folder")
    return NodeFacts(
        devices=len(devices),
        models=tuple(sorted({f"{f.model.vendor} {f.model.model}" for f in measured})),
        drivers=tuple(sorted({f.model.driver or "unknown" for f in measured})),
        clock_source=clock.source,
        clock_uncertainty_ns=clock.uncertainty_ns,
        disk_free_bytes=free,
        problems=tuple(problems),
        unexamined=tuple(unexamined),
        tool_sha256=tool().sha256,
        found=alike_devices((one.model, one.device) for one in measured),
    )


def with_identities(facts: NodeFacts, devices: Sequence[LocalDevice], challenge: str) -> NodeFacts:
    """Return a node's facts with the digests of the identities of its machine and devices.

    Args:
        facts: of the node.
        devices: its devices. Where all are simulated the machine is left out: one machine may play many nodes.
        challenge: of the campaign, which enters every digest: those of two campaigns cannot be matched.
    """

    def hidden(identity: str) -> str:
        # With the challenge in it, the digests of two campaigns cannot be matched to follow a machine from one to the
        # next.
        return derived_id(f"campaign/{challenge}", identity)[:32]

    device_ids: dict[str, str] = {}
    for one in devices:
        keys = device_keys(one.device)
        for name, key in (*unshared_identities(one.device).items(), ("parent", keys.parent), ("board", keys.board)):
            if key is not None:
                device_ids.setdefault(hidden(key), f"{name} of {one.device.device}")
    real = any(not one.model.simulated for one in devices)
    machine = {hidden(key): name for name, key in machine_identities().items()} if real else {}
    return replace(facts, machine_ids=machine, device_ids=device_ids)


def with_key_problems(
    facts: NodeFacts,
    devices: Sequence[LocalDevice],
    keyid: str,
    enrolled: str | None,
    state: Path,
    root: Path = Path("/"),
) -> NodeFacts:
    """Return a node's facts with the problems of its key and machine id, which a pod may lose at its end.

    Args:
        facts: of the node.
        devices: its devices. Simulated ones need no machine.
        keyid: of the key that it signs with.
        enrolled: of the key that the campaign names for it, if it names one.
        state: the folder of its key, and of its machine id where the system keeps none.
        root: the file system's root (tests).
    """
    problems, remarks = list(facts.problems), list(facts.remarks)
    # A container's own file system goes with it, and with it the key that the campaign may have enrolled.
    fix = "give the option state=FOLDER of the host on Kubernetes, else a PETASEAL_STATE that lasts"
    goes = in_container(root) is True and is_fleeting(state, root)
    is_real = any(not one.model.simulated for one in devices)
    if is_real and goes and (missing := missing_machine_id(root / "etc/machine-id")) is not None:
        made = "the id that is made in its place is gone with the container, and the next one is another machine"
        problems.append(f"{missing}: {made}; mount the host's file, or {fix}")
    if enrolled not in (None, keyid):
        why = f": its key is gone with each container; {fix}" if goes else "; enrol it: petaseal keys node"
        problems.append(f"signs with another key than the campaign names for it (node-key-differs){why}")
    elif goes and enrolled is None:
        remarks.append(f"signs with a key that is gone with its container, so that none can be enrolled; {fix}")
    if hidden := lxcfs_files(root):
        remarks.append(f"sees {shortened_list(hidden)} through lxcfs, which hides others' load and cores")
    further = tuple(problems[len(facts.problems) :])
    return replace(facts, problems=tuple(problems), remarks=tuple(remarks), unexamined=(*facts.unexamined, *further))


def with_network_remarks(facts: NodeFacts, campaign: Campaign) -> NodeFacts:
    """Return a node's facts with what will keep it from reducing with the others, which costs no figure."""
    if not campaign.network:
        return facts
    remarks = []
    if find_spec("torch") is None:
        remarks.append("torch is not installed, so that it reduces nothing in the network's runs")
    try:
        interface_here()
    except PetasealError as error:
        remarks.append(f"reduces nothing in the network's runs: {error}")
    return replace(facts, remarks=(*facts.remarks, *remarks))


def with_examination(facts: NodeFacts, devices: Sequence[LocalDevice], purpose: ReadFor) -> NodeFacts:
    """Return a node's facts with what the doctor's checks come to (`bench.doctor`).

    Args:
        facts: of the node.
        devices: its devices. Where all are simulated the host is left out: one machine may play many nodes.
        purpose: what it is looked at for.
    """
    from bench.doctor.examine import OF_THE_HOST, examine
    from bench.doctor.gather import gather

    is_real = any(not one.model.simulated for one in devices)
    try:
        view = gather(devices, purpose)
    except (OSError, ValueError, PetasealError):  # it is advice: the node takes part all the same
        return facts
    return replace(facts, examination=examine(view, frozenset() if is_real else OF_THE_HOST))
