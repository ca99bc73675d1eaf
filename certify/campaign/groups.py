"""Which nodes of a campaign reduce together, such as those of a pod: from a file of groups, or by partition. Pure but
for reading the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from bench.errors import InputError, one_line
from bench.record.fields import Name, in_words
from bench.record.reading import read_given
from bench.record.roster import RosterNode
from bench.units import shortened_list
from certify.campaign.roster import RosterEntries
from certify.campaign.workloads import CreateOptions
from certify.policy.hostlists import expand

OPTION = "--network-groups"
BY_PARTITION = "partition"
MAX_BYTES = 16 * 2**20


def groups_asked_for(options: CreateOptions, entries: RosterEntries) -> dict[str, str]:
    """Return the group of each node by its id; none where all nodes are one group.

    Raises:
        InputError: `network-unplanned`: the profile says not how; or `network-group-invalid`.
    """
    if not options.network:
        if options.network_groups is not None or options.rails:
            given = OPTION if options.network_groups is not None else "--rails"
            raise InputError("usage", "belongs to --network, which is not given", where=given)
        return {}
    if not options.profile.network:
        what = f"the profile {options.profile.profile} does not say how the network is measured"
        fix = "give it a section network:, as profile smoke has, or choose another profile"
        raise InputError("network-unplanned", what, where="--network", fix=fix)
    if options.network_groups is None:
        return {}
    if options.network_groups == BY_PARTITION:
        partitions = {pool.pool: pool.partition or pool.pool for pool in entries.pools}
        return {node.node_id: checked_name(partitions[node.pool], OPTION) for node in entries.nodes}
    file = Path(options.network_groups)
    return groups_of(read_given(file, MAX_BYTES).decode("utf-8", "replace"), entries, file)


def groups_of(text: str, entries: RosterEntries, where: object) -> dict[str, str]:
    """Return the group of each node by its id, as a file says it: lines NAME=HOSTLIST, such as pod1=n[001-016].

    Args:
        text: of the file; empty lines and those that begin with # say nothing.
        entries: the campaign's nodes, under the engine's names or their ids, and those that are left out.
        where: the file, for the message.

    Raises:
        InputError: `network-group-invalid`: a line is none, or a node is unknown, in two groups or in none; or
            `host-list-invalid`.
    """
    nodes: dict[str, RosterNode] = {}
    for node in entries.nodes:
        nodes |= {node.node_id.lower(): node, node.name.lower(): node}
    left_out = {name.lower() for one in entries.left_out for name in (one.name, one.node_id)}
    groups: dict[str, str] = {}
    for group, hosts in _lines(text, where):
        for host in expand([hosts], where):
            if host.lower() in left_out:
                continue
            if (listed := nodes.get(host.lower())) is None:
                raise _invalid(f"names the node {one_line(host, 80)}, which is not the campaign's", where)
            if groups.setdefault(listed.node_id, group) != group:
                raise _invalid(f"has {listed.name} in two groups, {groups[listed.node_id]} and {group}", where)
    if missing := [node.name for node in entries.nodes if node.node_id not in groups]:
        raise _invalid(f"has no group for {shortened_list(missing)}", where)
    return groups


def checked_name(text: str, where: object) -> str:
    """Return a group's name.

    Raises:
        InputError: `network-group-invalid`: it is none.
    """
    try:
        return msgspec.convert(text, Name)
    except msgspec.ValidationError as error:
        raise _invalid(f"has the group {one_line(text, 80)!r}, which is no name ({in_words(error)})", where) from None


def _lines(text: str, where: object) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not (stripped := line.strip()) or stripped.startswith("#"):
            continue
        name, equals, hosts = (part.strip() for part in stripped.partition("="))
        if not equals or not hosts:
            raise _invalid(f"has the line {number}, {one_line(stripped, 80)!r}, which is not NAME=NODES", where)
        yield checked_name(name, where), hosts


def _invalid(what: str, where: object) -> InputError:
    fix = "write a line for each group, such as pod1=gpu[001-016], with every node in one of them"
    return InputError("network-group-invalid", what, where=where, fix=fix)
