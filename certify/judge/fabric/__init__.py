"""What run C of the network shows: which devices reduced together, and what the network costs them (docs/network.md).

`rows` adds a record to `sums`, in any order and in any process; here the sums are judged. A group is shown where the
reduced vector that its records name is the one that exactly its devices give. What a device counts never depends on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from bench.record.network.vector import MOST_RANKS
from bench.units import MAX_INTEGER, ratio_ppm
from certify.documents.statement import BandwidthLine, Fabric, FabricGroup, NetworkLine
from certify.judge.fabric.sums import FabricSums, PartKey, PointKey, RunRates, VectorPart
from certify.judge.scope import Scope

STANDARD_TOKENS = (16_384, 4_096)  # of a profile that says nothing of the network
NOISE_PPM = 20_000  # by which a run with reductions may seem faster than one without
MOST_DIFFERENCE_PPM = 100_000  # between run A and the counted figure of the same devices
MOST_CONTENTION_PPM = 400_000  # 19 % is usual inside a node: above twice that, B may hide what the network costs
MOST_SIZES = 32
CODES = (
    # of a group that is not shown, the most telling first
    "fabric-device-twice",
    "fabric-vector-copied",
    "fabric-sums-wrong",
    "fabric-device-foreign",
    "fabric-rank-missing",
    "fabric-vector-differs",
    "fabric-outside-window",
    "fabric-backend-missing",
    "fabric-group-differs",
    "fabric-run-failed",
    "fabric-run-missing",
    # of what the network costs
    "network-tokens-differ",
    "network-run-missing",
    "network-run-short",
    "network-products-differ",
    "network-reductions-differ",
    "network-run-differs",
    "network-rate-rises",
    "network-contention-high",
    "network-sweep-wrong",
)
Shown = Mapping[int, Sequence[tuple[PartKey, VectorPart]]]  # tokens -> the whole groups of that run C


def fabric_of(sums: FabricSums, scope: Scope, node_ids: set[str]) -> Fabric | None:
    """Return what the runs of a campaign show of its devices; None where it has no run of the network.

    Args:
        sums: over all records of the statement.
        scope: that the records are judged against.
        node_ids: that have a record.
    """
    if not scope.campaign.network:
        return None
    codes = set(sums.faults)
    shown = _whole_groups(sums, scope, node_ids, codes)
    if not shown or any(sums.without_row.values()):
        codes.add("fabric-run-missing")
    # each T has a run of its own: the one that shows most is evidence enough
    best = max(shown.values(), key=lambda parts: sum(len(part.ranks) for _, part in parts), default=[])
    groups = sorted(
        (FabricGroup(group=_name_of(*one, scope), nodes=one[1].nodes, devices=len(one[1].ranks)) for one in best),
        key=lambda one: (-one.devices, -one.nodes, one.group or ""),
    )
    losses, bandwidths = tuple(_losses(shown, scope, codes)), tuple(_bandwidths(best, sums, codes))
    whole = [one for one in groups if one.devices == sums.devices]
    return Fabric(
        state="connected" if whole else "partly" if groups else "not-shown",
        devices=sum(one.devices for one in groups),
        of_devices=sums.devices,
        groups=tuple(groups),
        codes=tuple(sorted(codes, key=CODES.index)),
        losses=losses,
        bandwidths=bandwidths,
    )


def _name_of(key: PartKey, part: VectorPart, scope: Scope) -> str | None:
    """Return what a group is called: as the campaign names it, and where it is a rail by the index of its devices."""
    if not scope.campaign.rails or len(part.indices) > 1:
        return key.group
    rail = f"rail-{min(part.indices)}"
    return rail if key.group is None else f"{key.group[:50]}.{rail}"  # still a name


class _Claims(NamedTuple):
    """What is said anywhere in run C: by T and group all ranks that have a vector, and the T of each vector."""

    ranks: dict[tuple[int, str | None], set[int]]
    without_vector: set[tuple[int, str | None]]
    runs: Counter[str | None]

    @classmethod
    def of(cls, sums: FabricSums) -> _Claims:
        """Return the claims of all parts."""
        claims = cls({}, set(), Counter(digest for _, digest in {(key.tokens, key.digest) for key in sums.parts}))
        for key, part in sums.parts.items():
            if key.digest is None:
                claims.without_vector.add((key.tokens, key.group))
            else:
                claims.ranks.setdefault((key.tokens, key.group), set()).update(part.ranks)
        return claims


def _whole_groups(
    sums: FabricSums, scope: Scope, node_ids: set[str], codes: set[str]
) -> dict[int, list[tuple[PartKey, VectorPart]]]:
    """Return the groups that are shown, by T, and add why the others are not to `codes`."""
    campaign, claims = scope.campaign, _Claims.of(sums)
    absent = {node.group for node in campaign.nodes if node.node_id not in node_ids}
    shown: dict[int, list[tuple[PartKey, VectorPart]]] = {
        window.tokens: [] for window in campaign.network if window.run == "fabric" and window.tokens is not None
    }
    for key, part in sums.parts.items():
        lacking = (bool(absent) if campaign.rails else key.group in absent) or bool(sums.without_row[key.tokens])
        faults = part.faults or set(_part_fault(key, part, claims, lacking=lacking, rails=campaign.rails))
        if faults:
            codes |= faults
        else:
            shown[key.tokens].append((key, part))
    return shown


def _part_fault(key: PartKey, part: VectorPart, claims: _Claims, *, lacking: bool, rails: bool) -> Iterator[str]:
    """Yield why the rows of one reduced vector are no group; nothing where exactly they reduced together."""
    place, count = (key.tokens, key.group), len(part.ranks)
    if part.is_counted_out(whole=not rails) and count <= MOST_RANKS and part.vector.sha256() == key.digest:
        return
    if claims.runs[key.digest] > 1 or part.in_run_b:
        yield "fabric-vector-copied"
    elif len(set(part.ranks)) < count:
        yield "fabric-device-twice"
    elif len(part.sizes) > 1 or len(claims.ranks[place]) >= max(part.sizes):
        yield "fabric-vector-differs"  # all ranks are there, and not all agree
    else:
        # where every device of the campaign's group has its row, who reduced with them is none of its devices
        yield "fabric-rank-missing" if lacking or place in claims.without_vector else "fabric-device-foreign"


def _losses(shown: Shown, scope: Scope, codes: set[str]) -> Iterator[NetworkLine]:
    """Yield what the network costs the devices of whole groups, for each T that the profile fixes."""
    plan = scope.profile.network
    for tokens, parts in shown.items():
        total = RunRates()
        for _, part in parts:
            total.add(part.rates)
        codes |= total.unrated
        a, b, c = total.compute_mflop_s, total.node_mflop_s, total.fabric_mflop_s
        if tokens not in (plan.tokens if plan else STANDARD_TOKENS):
            codes.add("network-tokens-differ")
            continue
        if not a or not b or a + b + c > MAX_INTEGER:
            continue
        line = _loss_line(tokens, total.devices, a, b, c)
        if abs(a - total.counted_mflop_s) * 10**6 > MOST_DIFFERENCE_PPM * total.counted_mflop_s:
            codes.add("network-run-differs")
        if min(line.contention_ppm, line.network_loss_ppm) < -NOISE_PPM:
            codes.add("network-rate-rises")
        if line.contention_ppm > MOST_CONTENTION_PPM:
            codes.add("network-contention-high")
        yield line


def _loss_line(tokens: int, devices: int, compute: int, node: int, fabric: int) -> NetworkLine:
    """Return a line of losses from the rates of runs A, B and C, MFLOP/s; a loss is rounded up."""
    retained, inside, between = (
        ratio_ppm(part, of) or 0 for part, of in ((fabric, compute), (node, compute), (fabric, node))
    )
    return NetworkLine(
        tokens=tokens,
        devices=devices,
        compute_mflop_s=compute,
        node_mflop_s=node,
        fabric_mflop_s=fabric,
        contention_ppm=10**6 - inside,
        network_loss_ppm=10**6 - between,
        retained_ppm=retained,
    )


def _bandwidths(
    parts: Sequence[tuple[PartKey, VectorPart]], sums: FabricSums, codes: set[str]
) -> Iterator[BandwidthLine]:
    """Yield the bandwidth of the slowest group by size, where all nodes of all groups measured it."""
    for size in sorted({key.size_bytes for key in sums.points})[:MOST_SIZES]:
        keys = [PointKey(key.group, len(part.ranks), size) for key, part in parts]
        points = [sums.points.get(key) for key in keys]
        if any(point is not None and not point.right for point in points):
            codes.add("network-sweep-wrong")
            continue
        slowest = [
            (point.algorithm_mb_s, key.ranks)
            for key, point, (_, part) in zip(keys, points, parts, strict=True)
            if point is not None and point.nodes >= part.nodes
        ]
        if parts and len(slowest) == len(parts):
            rate, ranks = min(slowest)
            bus = rate * 2 * (ranks - 1) // ranks
            yield BandwidthLine(size_bytes=size, ranks=ranks, algorithm_mb_s=rate, bus_mb_s=bus)
