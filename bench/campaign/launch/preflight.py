"""What the nodes reported before T0, held against each other: problems that would cost a window.

Machines and devices of different nodes are compared by digests of their identities, so that the shared folder shows
nobody what is on a node. Records that share a device are all refused by `petaseal campaign collect`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bench.record.roster import Roster
from bench.record.status import NodeFacts, Status
from bench.units import shortened_list


def twins(facts: Mapping[str, NodeFacts], named: Mapping[str, str]) -> dict[str, str]:
    """Return the nodes that report a device which another node reports too, each with the reason (`duplicate-device`).

    Args:
        facts: node id -> what it reported.
        named: node id -> the engine's name of it.
    """
    why: dict[str, str] = {}
    for nodes, keys in _shared({node: its.device_ids for node, its in facts.items()}).items():
        for node in nodes:
            other = next(n for n in nodes if n != node)
            name, other_name = facts[node].device_ids[keys[0]], facts[other].device_ids[keys[0]]
            why.setdefault(node, f"the {name} is the {other_name} of {named.get(other, other)} too [duplicate-device]")
    return why


def _shared(digests: Mapping[str, Mapping[str, str]]) -> dict[tuple[str, ...], list[str]]:
    """Return the digests that several nodes tell, by these nodes."""
    # One pass over all digests: thousands of nodes are compared without comparing each with each.
    holders: dict[str, list[str]] = {}
    for node_id, keys in sorted(digests.items()):
        for key in keys:
            holders.setdefault(key, []).append(node_id)
    shared: dict[tuple[str, ...], list[str]] = {}
    for key, nodes in holders.items():
        if len(nodes) > 1:
            shared.setdefault(tuple(nodes), []).append(key)
    return shared


def identity_problems(facts: Mapping[str, NodeFacts], named: Mapping[str, str]) -> list[str]:
    """Return which nodes report one machine or one device, a sentence each.

    Args:
        facts: node id -> what it reported.
        named: node id -> the engine's name of it.
    """
    problems = []
    for nodes, keys in _shared({node: its.machine_ids for node, its in facts.items()}).items():
        names, what = shortened_list(named.get(n, n) for n in nodes), facts[nodes[0]].machine_ids[keys[0]]
        problems.append(f"{names} have one {what}: they are one machine, or copies of one image")
    for nodes, keys in _shared({node: its.device_ids for node, its in facts.items()}).items():
        places = shortened_list(f"{facts[n].device_ids[keys[0]]} on {named.get(n, n)}" for n in nodes)
        what = "one identity" if len(keys) == 1 else f"{len(keys)} identities"
        problems.append(f"{places} are the same ({what}): none of these records could be collected [duplicate-device]")
    return problems


def seen(facts: Mapping[str, NodeFacts], roster: Roster) -> list[str]:
    """Return what the nodes reported as printed lines: devices by pool, and the worst clock and disk of all.

    Args:
        facts: node id -> what it reported.
        roster: of the campaign, for pools and names.
    """
    named = {node.node_id: node.name for node in roster.nodes}
    lines = []
    by_pools: dict[tuple[str, ...], list[NodeFacts]] = {}
    for member in roster.nodes:
        if member.node_id in facts:
            by_pools.setdefault(member.pools, []).append(facts[member.node_id])
    for pools, members in by_pools.items():
        models = sorted({model for one in members for model in one.models})
        drivers = sorted({driver for one in members for driver in one.drivers})
        lines.append(
            f"pool {'+'.join(pools)}: {len(members)} nodes with {sum(one.devices for one in members)} devices"
            f" ({shortened_list(models)}), driver {shortened_list(drivers)}"
        )
    known = {named[node]: its for node, its in sorted(facts.items(), key=lambda one: named[one[0]])}
    bounds = {name: its.clock_uncertainty_ns for name, its in known.items() if its.clock_uncertainty_ns is not None}
    if bounds:
        worst = max(bounds, key=lambda name: bounds[name])
        by = f"{worst}, by {known[worst].clock_source}"
        lines.append(f"clocks: {len(bounds)} known, the worst within {bounds[worst] / 1e6:.3f} ms ({by})")
    if known:
        fullest = min(known, key=lambda name: known[name].disk_free_bytes // 10**8)
        free = known[fullest].disk_free_bytes
        lines.append(f"disk: at least {free / 1e9:.1f} GB free in the campaign's folder ({fullest})")
    return lines


def fleet_problems(facts: Mapping[str, NodeFacts], roster: Roster) -> list[str]:
    """Return what is wrong with the nodes, a sentence each: alike problems joined, then what is not uniform.

    Args:
        facts: node id -> what it reported.
        roster: of the campaign, for pools and names.
    """
    named = {node.node_id: node.name for node in roster.nodes}
    problems = _together({node_id: its.problems for node_id, its in facts.items()}, named)
    problems += identity_problems(facts, named)
    alike_devices: dict[tuple[str, ...], list[str]] = {}  # a mixed node has other devices than the rest of its pool
    for one in roster.nodes:
        if one.node_id in facts:
            alike_devices.setdefault(one.pools, []).append(one.node_id)
    for pools, members in alike_devices.items():
        for what, values in (
            ("drivers", {node: ", ".join(facts[node].drivers) for node in members}),
            ("models", {node: ", ".join(facts[node].models) for node in members}),
            ("numbers of devices", {node: str(facts[node].devices) for node in members}),
        ):
            # The majority is named as usual, so that one odd node among hundreds is what is read first.
            counts = Counter(values.values())
            if len(counts) > 1:
                ((usual, _),) = counts.most_common(1)
                unusual = [f"{named[node]}: {value}" for node, value in values.items() if value != usual]
                problems.append(
                    f"pool {'+'.join(pools)} has different {what}: mostly {usual}; {shortened_list(unusual)}"
                )
    return problems


def fleet_remarks(facts: Mapping[str, NodeFacts], roster: Roster) -> list[str]:
    """Return what is to be known of nodes and costs nothing, one sentence each."""
    named = {node.node_id: node.name for node in roster.nodes}
    return _together({node_id: reported.remarks for node_id, reported in facts.items()}, named)


def _together(sentences: Mapping[str, Sequence[str]], named: Mapping[str, str]) -> list[str]:
    """Return what single nodes tell, those together that tell the same, what most tell first."""
    nodes: dict[str, list[str]] = {}
    for node_id, of_node in sorted(sentences.items()):
        for sentence in of_node:
            nodes.setdefault(sentence, []).append(named.get(node_id, node_id))
    most_first = sorted(nodes.items(), key=lambda item: -len(item[1]))
    return [f"{shortened_list(names)}: {sentence}" for sentence, names in most_first]


class PreflightResult(NamedTuple):
    """What came of having every node look at itself."""

    known: dict[str, Status]  # node -> what it reported
    unheard: dict[str, str]  # node -> why it reported nothing, as far as that is known
    waiting: tuple[tuple[str, str], ...]  # pool -> the line that says why its job still waited at the end
    clocks: list[str]  # which clocks differ, a sentence each
