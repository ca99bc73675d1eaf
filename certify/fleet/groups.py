"""Racks and switches that are slow as a group, by the exact distribution of ranks; devices that changed, by their past.

Each device is compared with itself in the previous campaign, and its change with its model's.

Pure functions of values. Limits and rates of error: docs/fleet.md.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from certify.fleet.findings import Drift, Drifted, FleetReading, Kind, Side, SlowGroup, side_of
from certify.fleet.statistics import LEAST_VALUES, MILLION, at_most, difference_ppm, limits, median

LEAST_NODES = 3  # of a population or of a group: fewer are single nodes
GROUP_CHANCE_PPM = 50_000  # that any group is called slow by chance, over all groups of a campaign
GROUP_DISTANCE_PPM = 10_000


def slow_groups_of(kinds: Mapping[Kind, list[FleetReading]], groups: Mapping[str, str]) -> tuple[SlowGroup, ...]:
    """Return the groups of which three quarters of the nodes are slower than chance would have it.

    The rank of that node is compared with its exact distribution under a random placing of all nodes, and the chance
    with `GROUP_CHANCE_PPM` shared out over all groups that are tried (Bonferroni).
    """
    # The median of a node and not its devices: those of one node share its cooling, and are no independent witnesses.
    tried: list[tuple[Kind, str, list[float], list[float]]] = []
    for kind, readings in sorted(kinds.items()):
        rates: dict[str, list[int]] = defaultdict(list)
        for reading in readings:
            rates[reading.node_id].append(reading.sustained_mflop_s)
        nodes = {node_id: median(sorted(rates_of_node)) for node_id, rates_of_node in rates.items()}
        members: dict[str, list[float]] = defaultdict(list)
        for node_id in sorted(nodes.keys() & groups.keys()):
            members[groups[node_id]].append(nodes[node_id])
        ascending = sorted(nodes.values())
        tried += [
            (kind, group, sorted(in_group), ascending)
            for group, in_group in sorted(members.items())
            if LEAST_NODES <= len(in_group) <= len(nodes) - LEAST_NODES
        ]
    slow = filter(None, (_slow_group(*candidate, len(tried)) for candidate in tried))
    return tuple(sorted(slow, key=lambda g: (g.off_ppm, g.group, g.workload)))


def _slow_group(kind: Kind, group: str, in_group: list[float], ascending: list[float], tries: int) -> SlowGroup | None:
    """Judge one group by its nodes' rates and those of all nodes, both in ascending order."""
    spared = len(in_group) // 4  # so many good nodes do not hide a slow group
    at_least_as_fast = len(ascending) - bisect_right(ascending, in_group[len(in_group) - spared - 1])
    part, whole = at_most(spared, len(ascending), at_least_as_fast, len(in_group))
    if part * MILLION * tries > whole * GROUP_CHANCE_PPM:
        return None
    # By multiset difference: two nodes may have the same rate, and only as many as are in the group go.
    outside = Counter(ascending)
    outside.subtract(in_group)
    rest = median(sorted(outside.elements()))
    off_ppm = difference_ppm(median(in_group) / rest) if rest > 0 else 0
    if off_ppm > -GROUP_DISTANCE_PPM:
        return None
    return SlowGroup(group=group, model=kind[0], workload=kind[1], nodes=len(in_group), off_ppm=off_ppm)


def drift_since(
    readings: Sequence[FleetReading], before: Sequence[FleetReading]
) -> tuple[tuple[Drift, ...], tuple[Drifted, ...]]:
    """Compare each device with itself in the campaign before, and its change with that of its model.

    Returns:
        How each model changed in each workload; the nodes with devices whose change is unusual for their model.
    """
    rates = {(one.node_id, one.device, one.model, one.workload): one.sustained_mflop_s for one in before}
    changes: dict[Kind, list[tuple[float, FleetReading]]] = defaultdict(list)
    for one in readings:
        if (old := rates.get((one.node_id, one.device, one.model, one.workload), 0)) > 0:
            changes[one.model, one.workload].append((one.sustained_mflop_s / old, one))
    drifts: list[Drift] = []
    drifted: list[Drifted] = []
    # A new driver moves all devices of a model alike: only what leaves the changes of its model is a node's own matter.
    for kind, pairs in sorted(changes.items()):
        pairs.sort(key=lambda pair: (pair[0], pair[1].node_id, pair[1].device))
        ratios = [ratio for ratio, _ in pairs]
        middle = median(ratios)
        drifts.append(Drift(model=kind[0], workload=kind[1], pairs=len(pairs), median_ppm=difference_ppm(middle)))
        usual = limits(ratios) if len(ratios) >= LEAST_VALUES else None
        outside: dict[tuple[str, Side], list[tuple[float, str]]] = defaultdict(list)
        for ratio, one in pairs:
            if usual is not None and usual.side(ratio):
                outside[one.node_id, side_of(ratio - usual.median)].append((ratio, one.device))
        drifted += [
            Drifted(
                node_id=node_id,
                model=kind[0],
                workload=kind[1],
                side=side,
                devices=tuple(sorted(device for _, device in changed)),
                worst_ppm=difference_ppm(max(changed, key=lambda pair: abs(pair[0] - middle))[0]),
            )
            for (node_id, side), changed in outside.items()
        ]
    drifted.sort(key=lambda one: (one.worst_ppm, one.node_id, one.workload))
    return tuple(drifts), tuple(drifted)
