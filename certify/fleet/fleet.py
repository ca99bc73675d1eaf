"""What a campaign says about its nodes: which are slow, throttled, drifted or too fast, and the sum without them.

Pure functions of values; nothing here changes what counts. The rules, their limits and their rates of error stand in
docs/fleet.md. Rates are compared as sustained, sums are of certified MFLOP/s, and nothing is extrapolated.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bench.errors import RefusedError
from certify.fleet.findings import (
    Diagnosis,
    Drift,
    Drifted,
    OddNode,
    Outlier,
    Population,
    Reading,
    Reason,
    Side,
    SlowGroup,
    Spread,
    Sum,
    TakeOut,
    Throttling,
    lines,
)
from certify.fleet.statistics import LEAST_VALUES, Limits, at_most, limits, median, two_populations

MILLION = 10**6
LEAST_NODES = 3  # of a population or of a group: fewer are single nodes
THROTTLED_PPM = 10_000  # of the window; less costs less than what an outlier differs by
GROUP_CHANCE_PPM = 50_000  # that any group is called slow by chance, over all groups of a campaign
GROUP_DISTANCE_PPM = 10_000
GROUP_OWN_PPM = 20_000  # a node that is slower than its slow group by more has a fault of its own
GROUPS_NAMED = 3  # a population in more groups than these is not a matter of its groups

__all__ = ["Diagnosis", "Reading", "diagnose", "lines", "sums_without"]

Kind = tuple[str, str]  # model, workload


class _Part(NamedTuple):
    """Readings that are compared with each other."""

    readings: list[Reading]
    limits: Limits | None

    def ratio(self, reading: Reading) -> float:
        return reading.sustained_mflop_s / self.limits.median if self.limits else 1.0


def diagnose(
    readings: Sequence[Reading], groups: Mapping[str, str] | None = None, before: Sequence[Reading] = ()
) -> Diagnosis:
    """Return what a campaign's readings say.

    Args:
        readings: of every device that gave a figure.
        groups: rack or switch by node id; nodes without one belong to none.
        before: the readings of the same centre's previous campaign.

    Raises:
        RefusedError: `duplicate-device`: two readings of one device in one workload.
    """
    groups = groups or {}
    _check(readings)
    _check(before)
    kinds: dict[Kind, list[Reading]] = defaultdict(list)
    for reading in readings:
        kinds[reading.model, reading.workload].append(reading)
    spreads: list[Spread] = []
    outliers: list[Outlier] = []
    odd_nodes: list[OddNode] = []
    for kind, mine in sorted(kinds.items()):
        mine.sort(key=lambda r: (r.sustained_mflop_s, r.node_id, r.device))
        parts = _parts(mine)
        spreads.append(_spread(kind, mine, parts, groups))
        odd = _odd_nodes(kind, parts)
        odd_nodes += odd
        devices = Counter(reading.node_id for reading in mine)
        for part in parts:
            outliers += _outliers(part, devices, {(one.node_id, one.side) for one in odd})
    drifts, drifted = _drift(readings, before)
    outliers.sort(key=lambda o: (-abs(o.off_ppm), o.node_id, o.device, o.workload))
    odd_nodes.sort(key=lambda n: (-abs(n.off_ppm), n.node_id, n.workload))
    slow_groups = _slow_groups(kinds, groups)
    take_out = _take_out(outliers, odd_nodes, drifted, groups, slow_groups)
    return Diagnosis(
        spreads=tuple(spreads),
        outliers=tuple(outliers),
        odd_nodes=tuple(odd_nodes),
        slow_groups=slow_groups,
        throttling=_throttling(readings),
        throttling_untold=sum(reading.throttled_ppm is None for reading in readings),
        drifts=drifts,
        drifted=drifted,
        take_out=take_out,
        sums=sums_without(readings, {one.node_id for one in take_out}),
    )


def sums_without(readings: Iterable[Reading], nodes: set[str]) -> tuple[Sum, ...]:
    """Return each workload's certified sum with and without some nodes, as exact integers."""
    whole: Counter[str] = Counter()
    rest: Counter[str] = Counter()
    devices: Counter[str] = Counter()
    devices_rest: Counter[str] = Counter()
    for reading in readings:
        whole[reading.workload] += reading.certified_mflop_s
        devices[reading.workload] += 1
        if reading.node_id not in nodes:
            rest[reading.workload] += reading.certified_mflop_s
            devices_rest[reading.workload] += 1
    return tuple(
        Sum(
            workload=workload,
            devices=devices[workload],
            certified_mflop_s=whole[workload],
            devices_without=devices_rest[workload],
            certified_without_mflop_s=rest[workload],
        )
        for workload in sorted(whole)
    )


def _check(readings: Sequence[Reading]) -> None:
    seen = set()
    for reading in readings:
        key = (reading.node_id, reading.device, reading.workload)
        if key in seen:
            where = f"{reading.node_id} {reading.device}"
            raise RefusedError("duplicate-device", f"has two readings of {reading.workload}", where=where)
        seen.add(key)


def _nodes(readings: Iterable[Reading]) -> set[str]:
    return {reading.node_id for reading in readings}


def _parts(ascending: list[Reading]) -> list[_Part]:
    """Split what is two populations. What is slower or faster in one or two nodes only is a fault and no population:
    it is judged by the limits of the others."""
    rates = [reading.sustained_mflop_s for reading in ascending]
    if len(rates) < LEAST_VALUES:
        return [_Part(ascending, None)]
    cut = two_populations(rates)
    if cut is None:
        return [_Part(ascending, limits(rates))]
    slower, faster = ascending[:cut], ascending[cut:]
    if min(len(_nodes(slower)), len(_nodes(faster))) >= LEAST_NODES:
        return [_Part(slower, limits(rates[:cut])), _Part(faster, limits(rates[cut:]))]
    return [_Part(ascending, limits(rates[:cut] if cut > len(rates) - cut else rates[cut:]))]


def _spread(kind: Kind, ascending: list[Reading], parts: list[_Part], groups: Mapping[str, str]) -> Spread:
    return Spread(
        model=kind[0],
        workload=kind[1],
        devices=len(ascending),
        nodes=len(_nodes(ascending)),
        median_mflop_s=int(median([r.sustained_mflop_s for r in ascending])),
        populations=tuple(_population(part, groups, len(parts) > 1) for part in parts),
    )


def _population(part: _Part, groups: Mapping[str, str], one_of_two: bool) -> Population:
    nodes = _nodes(part.readings)
    own = {groups.get(node_id) for node_id in nodes}
    few = tuple(sorted(group for group in own if group is not None)) if one_of_two and None not in own else ()
    centre = part.limits.median if part.limits else median([r.sustained_mflop_s for r in part.readings])
    return Population(
        devices=len(part.readings),
        nodes=len(nodes),
        median_mflop_s=int(centre),
        low_mflop_s=max(0, int(part.limits.low)) if part.limits else None,
        high_mflop_s=int(part.limits.high) if part.limits else None,
        groups=few if len(few) <= GROUPS_NAMED else (),
    )


def _side(sign: float) -> Side:
    return "slow" if sign < 0 else "fast"


def _ppm(ratio: float) -> int:
    return round((ratio - 1) * MILLION)


def _outside(part: _Part) -> list[tuple[Reading, float]]:
    """Return the readings outside of the limits of their part, each with its ratio to the median."""
    if part.limits is None:
        return []
    return [(one, part.ratio(one)) for one in part.readings if part.limits.side(one.sustained_mflop_s)]


def _odd_nodes(kind: Kind, parts: list[_Part]) -> list[OddNode]:
    """Return the nodes that are slow or fast as a whole: by their median among all nodes, or most devices being so."""
    ratios: dict[str, list[float]] = defaultdict(list)
    for part in parts:
        for reading in part.readings:
            ratios[reading.node_id].append(part.ratio(reading))
    medians = {node_id: median(sorted(mine)) for node_id, mine in ratios.items() if len(mine) > 1}
    usual = limits(sorted(medians.values())) if len(medians) >= LEAST_VALUES else None
    odd = Counter((one.node_id, _side(ratio - 1)) for part in parts for one, ratio in _outside(part))
    return [
        OddNode(
            node_id=node_id,
            model=kind[0],
            workload=kind[1],
            side=_side(middle - 1),
            devices=len(ratios[node_id]),
            off_ppm=_ppm(middle),
        )
        for node_id, middle in medians.items()
        if (usual is not None and usual.side(middle)) or 2 * odd[node_id, _side(middle - 1)] > len(ratios[node_id])
    ]


def _outliers(part: _Part, devices: Mapping[str, int], odd: set[tuple[str, Side]]) -> list[Outlier]:
    """Return the outliers of a part, their clock and power beside those of its usual devices.

    Args:
        part: readings that are compared with each other.
        devices: how many readings each node has of this model and workload.
        odd: nodes that are slow or fast as a whole.
    """
    found = _outside(part)
    strange = {(reading.node_id, reading.device) for reading, _ in found}
    usual = [one for one in part.readings if (one.node_id, one.device) not in strange]
    clock = _median_of(reading.clock_mean_mhz for reading in usual)
    power = _median_of(reading.power_mean_mw for reading in usual)
    outliers = []
    for reading, ratio in found:
        side, alone = _side(ratio - 1), devices[reading.node_id] == 1
        outliers.append(
            Outlier(
                node_id=reading.node_id,
                device=reading.device,
                model=reading.model,
                workload=reading.workload,
                side=side,
                scope="only" if alone else "node" if (reading.node_id, side) in odd else "device",
                sustained_mflop_s=reading.sustained_mflop_s,
                off_ppm=_ppm(ratio),
                clock_off_ppm=_off(reading.clock_mean_mhz, clock),
                power_off_ppm=_off(reading.power_mean_mw, power),
                temperature_max_c=reading.temperature_max_c,
                throttled_ppm=reading.throttled_ppm,
            )
        )
    return outliers


def _median_of(values: Iterable[int | None]) -> float | None:
    known = sorted(value for value in values if value is not None)
    return median(known) if known else None


def _off(value: int | None, centre: float | None) -> int | None:
    return _ppm(value / centre) if value is not None and centre else None


def _slow_groups(kinds: Mapping[Kind, list[Reading]], groups: Mapping[str, str]) -> tuple[SlowGroup, ...]:
    """Return the groups of which three quarters of the nodes are slower than chance would have it.

    The rank of that node is compared with its exact distribution under a random placing of all nodes, and the chance
    with `GROUP_CHANCE_PPM` shared out over all groups that are tried (Bonferroni).
    """
    tried: list[tuple[Kind, str, list[float], list[float]]] = []
    for kind, readings in sorted(kinds.items()):
        rates: dict[str, list[int]] = defaultdict(list)
        for reading in readings:
            rates[reading.node_id].append(reading.sustained_mflop_s)
        nodes = {node_id: median(sorted(mine)) for node_id, mine in rates.items()}
        members: dict[str, list[float]] = defaultdict(list)
        for node_id in sorted(nodes.keys() & groups.keys()):
            members[groups[node_id]].append(nodes[node_id])
        ascending = sorted(nodes.values())
        tried += [
            (kind, group, sorted(own), ascending)
            for group, own in sorted(members.items())
            if LEAST_NODES <= len(own) <= len(nodes) - LEAST_NODES
        ]
    found = filter(None, (_slow_group(*one, len(tried)) for one in tried))
    return tuple(sorted(found, key=lambda g: (g.off_ppm, g.group, g.workload)))


def _slow_group(kind: Kind, group: str, own: list[float], ascending: list[float], tries: int) -> SlowGroup | None:
    """Judge one group: `own` are its nodes' rates and `ascending` those of all nodes, both in ascending order."""
    spared = len(own) // 4  # so many good nodes do not hide a slow group
    at_least_as_fast = len(ascending) - bisect_right(ascending, own[len(own) - spared - 1])
    part, whole = at_most(spared, len(ascending), at_least_as_fast, len(own))
    if part * MILLION * tries > whole * GROUP_CHANCE_PPM:
        return None
    others = Counter(ascending)
    others.subtract(own)
    rest = median(sorted(others.elements()))
    off_ppm = _ppm(median(own) / rest) if rest > 0 else 0
    if off_ppm > -GROUP_DISTANCE_PPM:
        return None
    return SlowGroup(group=group, model=kind[0], workload=kind[1], nodes=len(own), off_ppm=off_ppm)


def _throttling(readings: Sequence[Reading]) -> tuple[Throttling, ...]:
    worst: dict[str, dict[str, int]] = defaultdict(dict)
    for one in readings:
        if one.throttled_ppm is not None and one.throttled_ppm > THROTTLED_PPM:
            mine = worst[one.node_id]
            mine[one.device] = max(mine.get(one.device, 0), one.throttled_ppm)
    found = [Throttling(node_id=n, devices=len(mine), worst_ppm=max(mine.values())) for n, mine in worst.items()]
    return tuple(sorted(found, key=lambda t: (-t.worst_ppm, t.node_id)))


def _drift(readings: Sequence[Reading], before: Sequence[Reading]) -> tuple[tuple[Drift, ...], tuple[Drifted, ...]]:
    """Compare each device with itself in the campaign before, and its change with that of its model."""
    rates = {(one.node_id, one.device, one.model, one.workload): one.sustained_mflop_s for one in before}
    changes: dict[Kind, list[tuple[float, Reading]]] = defaultdict(list)
    for one in readings:
        if (old := rates.get((one.node_id, one.device, one.model, one.workload), 0)) > 0:
            changes[one.model, one.workload].append((one.sustained_mflop_s / old, one))
    drifts: list[Drift] = []
    drifted: list[Drifted] = []
    for kind, pairs in sorted(changes.items()):
        pairs.sort(key=lambda pair: (pair[0], pair[1].node_id, pair[1].device))
        ratios = [ratio for ratio, _ in pairs]
        middle = median(ratios)
        drifts.append(Drift(model=kind[0], workload=kind[1], pairs=len(pairs), median_ppm=_ppm(middle)))
        usual = limits(ratios) if len(ratios) >= LEAST_VALUES else None
        outside: dict[tuple[str, Side], list[tuple[float, str]]] = defaultdict(list)
        for ratio, one in pairs:
            if usual is not None and usual.side(ratio):
                outside[one.node_id, _side(ratio - usual.median)].append((ratio, one.device))
        drifted += [
            Drifted(
                node_id=node_id,
                model=kind[0],
                workload=kind[1],
                side=side,
                devices=tuple(sorted(device for _, device in found)),
                worst_ppm=_ppm(max(found, key=lambda pair: abs(pair[0] - middle))[0]),
            )
            for (node_id, side), found in outside.items()
        ]
    drifted.sort(key=lambda one: (one.worst_ppm, one.node_id, one.workload))
    return tuple(drifts), tuple(drifted)


def _take_out(
    outliers: list[Outlier],
    odd: list[OddNode],
    drifted: Sequence[Drifted],
    groups: Mapping[str, str],
    slow_groups: Sequence[SlowGroup],
) -> tuple[TakeOut, ...]:
    """Return the nodes that evidence of their own speaks against, those with most of it first.

    What a whole rack or a whole population has in common is no reason to take out one of its nodes.
    """
    shared = {(one.group, one.model, one.workload): one.off_ppm - GROUP_OWN_PPM for one in slow_groups}
    reasons: dict[str, set[Reason]] = defaultdict(set)
    devices: dict[str, set[str]] = defaultdict(set)

    def against(one: OddNode | Outlier | Drifted, reason: Reason, off_ppm: int, found: Iterable[str]) -> None:
        group = groups.get(one.node_id, "")
        if one.side == "fast" or off_ppm < shared.get((group, one.model, one.workload), MILLION):
            reasons[one.node_id].add(reason)
            devices[one.node_id].update(found)

    for node in odd:
        against(node, "slow-node" if node.side == "slow" else "fast-node", node.off_ppm, ())
    for one in outliers:
        if one.scope != "node":
            against(one, "slow-device" if one.side == "slow" else "fast-device", one.off_ppm, (one.device,))
    for change in drifted:
        if change.side == "slow":
            against(change, "drifted", change.worst_ppm, change.devices)
    found = [
        TakeOut(node_id=node_id, devices=tuple(sorted(devices[node_id])), reasons=tuple(sorted(why)))
        for node_id, why in reasons.items()
    ]
    return tuple(sorted(found, key=lambda t: (-len(t.reasons), -len(t.devices), t.node_id)))
