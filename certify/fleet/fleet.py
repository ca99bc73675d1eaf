"""What a campaign says about its nodes: which are slow, throttled, drifted or too fast, and the sum without them.

Pure functions of values; nothing here changes what counts. The rules, their limits and their rates of error stand in
docs/fleet.md. Rates are compared as sustained, sums are of certified MFLOP/s, and nothing is extrapolated.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bench.errors import RefusedError
from bench.record.fields import filled
from certify.fleet.findings import (
    Diagnosis,
    Drifted,
    FleetReading,
    Kind,
    OddNode,
    Outlier,
    Population,
    Reason,
    Side,
    SlowGroup,
    Spread,
    TakeOut,
    Throttling,
    WorkloadSum,
    side_of,
)
from certify.fleet.groups import LEAST_NODES, drift_since, slow_groups_of
from certify.fleet.statistics import LEAST_VALUES, MILLION, UsualRange, difference_ppm, limits, median, two_populations

THROTTLED_PPM = 10_000  # of the window; less costs less than what an outlier differs by
BELOW_GROUP_PPM = 20_000  # a node that is slower than its slow group by more has a fault of its own
GROUPS_NAMED = 3  # a population in more groups than these is not a matter of its groups


class _ComparedReadings(NamedTuple):
    """Readings that are compared with each other: one model, one workload, one population."""

    readings: list[FleetReading]
    limits: UsualRange | None  # None: too few devices to tell what is usual

    def ratio(self, reading: FleetReading) -> float:
        return reading.sustained_mflop_s / self.limits.median if self.limits else 1.0


def diagnose(
    readings: Sequence[FleetReading], groups: Mapping[str, str] | None = None, before: Sequence[FleetReading] = ()
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
    kinds: dict[Kind, list[FleetReading]] = defaultdict(list)
    for reading in readings:
        kinds[reading.model, reading.workload].append(reading)
    spreads: list[Spread] = []
    outliers: list[Outlier] = []
    odd_nodes: list[OddNode] = []
    for kind, of_kind in sorted(kinds.items()):
        of_kind.sort(key=lambda r: (r.sustained_mflop_s, r.node_id, r.device))
        parts = _parts(of_kind)
        spreads.append(_spread(kind, of_kind, parts, groups))
        # Nodes first: a device that is slow with its whole node is the node's fault, and is listed under it.
        odd = _odd_nodes(kind, parts)
        odd_nodes += odd
        devices = Counter(reading.node_id for reading in of_kind)
        for part in parts:
            outliers += _outliers(part, devices, {(one.node_id, one.side) for one in odd})
    drifts, drifted = drift_since(readings, before)
    # The worst first, since people read the top of a list; names break ties, so that a diagnosis can be repeated.
    outliers.sort(key=lambda o: (-abs(o.off_ppm), o.node_id, o.device, o.workload))
    odd_nodes.sort(key=lambda n: (-abs(n.off_ppm), n.node_id, n.workload))
    slow_groups = slow_groups_of(kinds, groups)
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


def sums_without(readings: Iterable[FleetReading], nodes: set[str]) -> tuple[WorkloadSum, ...]:
    """Return each workload's certified sum with and without some nodes, as exact integers."""
    of_workload: dict[str, list[FleetReading]] = defaultdict(list)
    for reading in readings:
        of_workload[reading.workload].append(reading)
    stay = {name: [one for one in whole if one.node_id not in nodes] for name, whole in of_workload.items()}
    return tuple(
        WorkloadSum(
            workload=name,
            devices=len(whole),
            certified_mflop_s=sum(reading.certified_mflop_s for reading in whole),
            devices_without=len(stay[name]),
            certified_without_mflop_s=sum(reading.certified_mflop_s for reading in stay[name]),
        )
        for name, whole in sorted(of_workload.items())
    )


def _check(readings: Sequence[FleetReading]) -> None:
    """Refuse two readings of one device in one workload: its weight in every median would be doubled."""
    seen = set()
    for reading in readings:
        key = (reading.node_id, reading.device, reading.workload)
        if key in seen:
            where = f"{reading.node_id} {reading.device}"
            raise RefusedError("duplicate-device", f"has two readings of {reading.workload}", where=where)
        seen.add(key)


def _nodes(readings: Iterable[FleetReading]) -> set[str]:
    return {reading.node_id for reading in readings}


def _parts(ascending: list[FleetReading]) -> list[_ComparedReadings]:
    """Return the populations of one model in one workload, one or two.

    What is slower or faster in one or two nodes only is a fault and no population: the limits of the rest judge it.
    """
    rates = [reading.sustained_mflop_s for reading in ascending]
    if len(rates) < LEAST_VALUES:
        return [_ComparedReadings(ascending, None)]
    cut = two_populations(rates)
    if cut is None:
        return [_ComparedReadings(ascending, limits(rates))]
    slower, faster = ascending[:cut], ascending[cut:]
    if min(len(_nodes(slower)), len(_nodes(faster))) >= LEAST_NODES:
        return [_ComparedReadings(slower, limits(rates[:cut])), _ComparedReadings(faster, limits(rates[cut:]))]
    # the limits of the larger part: those of all would be stretched by the fault that they are to show
    return [_ComparedReadings(ascending, limits(rates[:cut] if cut > len(rates) - cut else rates[cut:]))]


def _spread(
    kind: Kind, ascending: list[FleetReading], parts: list[_ComparedReadings], groups: Mapping[str, str]
) -> Spread:
    return Spread(
        model=kind[0],
        workload=kind[1],
        devices=len(ascending),
        nodes=len(_nodes(ascending)),
        median_mflop_s=int(median([r.sustained_mflop_s for r in ascending])),
        populations=tuple(_population(part, groups, len(parts) > 1) for part in parts),
    )


def _population(part: _ComparedReadings, groups: Mapping[str, str], one_of_two: bool) -> Population:
    nodes = _nodes(part.readings)
    in_groups = {groups.get(node_id) for node_id in nodes}
    # A population that lies in few racks points at those racks; with a node of no known rack it does not.
    few = tuple(sorted(map(str, in_groups))) if one_of_two and None not in in_groups else ()
    centre = part.limits.median if part.limits else median([r.sustained_mflop_s for r in part.readings])
    return Population(
        devices=len(part.readings),
        nodes=len(nodes),
        median_mflop_s=int(centre),
        low_mflop_s=max(0, int(part.limits.low)) if part.limits else None,
        high_mflop_s=int(part.limits.high) if part.limits else None,
        groups=few if len(few) <= GROUPS_NAMED else (),
    )


def _outside(part: _ComparedReadings) -> list[tuple[FleetReading, float]]:
    """Return the readings outside of the limits of their part, each with its ratio to the median."""
    if part.limits is None:
        return []
    return [(one, part.ratio(one)) for one in part.readings if part.limits.side(one.sustained_mflop_s)]


def _odd_nodes(kind: Kind, parts: list[_ComparedReadings]) -> list[OddNode]:
    """Return the nodes that are slow or fast as a whole: by their median among all nodes, or most devices being so."""
    ratios: dict[str, list[float]] = defaultdict(list)
    for part in parts:
        for reading in part.readings:
            ratios[reading.node_id].append(part.ratio(reading))
    # A node of one device has no median of its own: it is judged as a device.
    medians = {node_id: median(sorted(of_node)) for node_id, of_node in ratios.items() if len(of_node) > 1}
    usual = limits(sorted(medians.values())) if len(medians) >= LEAST_VALUES else None
    odd = Counter((one.node_id, side_of(ratio - 1)) for part in parts for one, ratio in _outside(part))
    return [
        OddNode(
            node_id=node_id,
            model=kind[0],
            workload=kind[1],
            side=side_of(middle - 1),
            devices=len(ratios[node_id]),
            off_ppm=difference_ppm(middle),
        )
        for node_id, middle in medians.items()
        if (usual is not None and usual.side(middle)) or 2 * odd[node_id, side_of(middle - 1)] > len(ratios[node_id])
    ]


def _outliers(part: _ComparedReadings, devices: Mapping[str, int], odd: set[tuple[str, Side]]) -> list[Outlier]:
    """Return the outliers of a part, with how far their clock and power differ from those of its usual devices.

    A device that is as slow as its clock is low points at cooling or a power cap; one that is slow at the usual clock
    points at the device itself.

    Args:
        part: readings that are compared with each other.
        devices: how many readings each node has of this model and workload.
        odd: nodes that are slow or fast as a whole.
    """
    outside = _outside(part)
    # Without the outliers themselves: a rack of throttled devices must not lower the clock that is called usual.
    strange = {(reading.node_id, reading.device) for reading, _ in outside}
    usual = [one for one in part.readings if (one.node_id, one.device) not in strange]
    clock = _median_of(reading.clock_mean_mhz for reading in usual)
    power = _median_of(reading.power_mean_mw for reading in usual)
    outliers = []
    for reading, ratio in outside:
        side, is_only = side_of(ratio - 1), devices[reading.node_id] == 1
        outliers.append(
            filled(
                Outlier,
                reading,
                side=side,
                scope="only" if is_only else "node" if (reading.node_id, side) in odd else "device",
                off_ppm=difference_ppm(ratio),
                clock_off_ppm=_off(reading.clock_mean_mhz, clock),
                power_off_ppm=_off(reading.power_mean_mw, power),
            )
        )
    return outliers


def _median_of(values: Iterable[int | None]) -> float | None:
    known = sorted(value for value in values if value is not None)
    return median(known) if known else None


def _off(value: int | None, centre: float | None) -> int | None:
    return difference_ppm(value / centre) if value is not None and centre else None


def _throttling(readings: Sequence[FleetReading]) -> tuple[Throttling, ...]:
    worst: dict[str, dict[str, int]] = defaultdict(dict)
    for one in readings:
        if one.throttled_ppm is not None and one.throttled_ppm > THROTTLED_PPM:
            devices = worst[one.node_id]
            devices[one.device] = max(devices.get(one.device, 0), one.throttled_ppm)
    throttled = [
        Throttling(node_id=node_id, devices=len(devices), worst_ppm=max(devices.values()))
        for node_id, devices in worst.items()
    ]
    return tuple(sorted(throttled, key=lambda t: (-t.worst_ppm, t.node_id)))


def _take_out(
    outliers: list[Outlier],
    odd: list[OddNode],
    drifted: Sequence[Drifted],
    groups: Mapping[str, str],
    slow_groups: Sequence[SlowGroup],
) -> tuple[TakeOut, ...]:
    """Return the nodes with a finding that is theirs and not their group's, those with most reasons first.

    What a whole rack or a whole population has in common is no reason to take out one of its nodes.
    """
    shared = {(one.group, one.model, one.workload): one.off_ppm - BELOW_GROUP_PPM for one in slow_groups}
    reasons: dict[str, set[Reason]] = defaultdict(set)
    devices: dict[str, set[str]] = defaultdict(set)

    # A node that is slow with its rack is not taken out, unless it is slower than the rack by more: the rack is to be
    # mended. What is too fast is never excused by a group, since no cooling makes a device faster than its model.
    def against(one: OddNode | Outlier | Drifted, reason: Reason, off_ppm: int, taken: Iterable[str]) -> None:
        group = groups.get(one.node_id, "")
        if one.side == "fast" or off_ppm < shared.get((group, one.model, one.workload), MILLION):
            reasons[one.node_id].add(reason)
            devices[one.node_id].update(taken)

    for node in odd:
        against(node, "slow-node" if node.side == "slow" else "fast-node", node.off_ppm, ())
    for one in outliers:
        if one.scope != "node":
            against(one, "slow-device" if one.side == "slow" else "fast-device", one.off_ppm, (one.device,))
    for change in drifted:
        if change.side == "slow":  # what became faster may have been repaired
            against(change, "drifted", change.worst_ppm, change.devices)
    taken = [
        TakeOut(node_id=node_id, devices=tuple(sorted(devices[node_id])), reasons=tuple(sorted(why)))
        for node_id, why in reasons.items()
    ]
    return tuple(sorted(taken, key=lambda t: (-len(t.reasons), -len(t.devices), t.node_id)))
