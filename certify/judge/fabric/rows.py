"""One record's rows of the network's runs A, B and C (docs/network.md), into `FabricSums`. Pure functions of values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from bench.record import Device, NodeRecord
from bench.record.network import FLOP_PER_TOKEN, ITEM_BYTES, NetworkMeasurement, NetworkWindow, RankFigure
from bench.record.network.vector import contribution
from bench.units import gemm_mflop
from certify.judge.fabric.sums import FabricSums, PartKey, PointKey, PointSum, VectorPart
from certify.judge.scope import Scope
from certify.judge.timing import UTC_READING_NS

MOST_SWEEP_MB_S = 20_000_000  # more than the memory of any accelerator moves, through which every sum goes


class _Row(NamedTuple):
    """One device in one run."""

    measurement: NetworkMeasurement
    figure: RankFigure
    device: Device | None  # null: the record has none of that name
    window: NetworkWindow
    planned_ns: int  # how long the profile has a run last; 0: it says nothing of the network

    @property
    def rate_mflop_s(self) -> int | None:
        """Return its work over its time, waits included; None where the run gave none in its window."""
        m, f = self.measurement, self.figure
        if f.trouble is not None or not f.elapsed_ns or not f.launches or not self.is_inside:
            return None
        return gemm_mflop(m.m, m.n, m.k, f.launches) * 10**9 // f.elapsed_ns

    @property
    def is_inside(self) -> bool:
        """Return whether it was opened in the campaign's window, and over with it."""
        f, length_ns = self.figure, self.window.closes_ns - self.window.opens_ns
        return f.opened_ns is not None and 0 <= f.opened_ns <= length_ns - f.elapsed_ns + UTC_READING_NS

    @property
    def is_short(self) -> bool:
        """Return whether it covers less than half of its window, or of a planned one: it may be the better half."""
        return self.figure.elapsed_ns * 2 < max(self.window.closes_ns - self.window.opens_ns, self.planned_ns)

    @property
    def products(self) -> tuple[object, ...]:
        """Return what it computed."""
        m = self.measurement
        return m.kernel, m.precision, m.m, m.n, m.k

    @property
    def reduces_as_planned(self) -> bool:
        """Return whether it reduced after each block what its tokens demand: 2 bytes for each 6 T FLOP."""
        m, f = self.measurement, self.figure
        work_flop = 2 * m.m * m.n * m.k * m.block_launches
        # one reduction may be under way when the window opens, and one when it closes
        in_step = abs(f.launches - f.reductions * m.block_launches) <= 2 * m.block_launches
        return in_step and (m.reduction_bytes + ITEM_BYTES) * FLOP_PER_TOKEN * (m.tokens or 1) >= work_flop


Runs = Mapping[tuple[str, int | None], list[_Row]]


def add_network(record: NodeRecord, scope: Scope, sums: FabricSums) -> None:
    """Add what a record says of the campaign's network; a campaign without runs of it leaves `sums` as it is."""
    if not scope.campaign.network:
        return
    sums.devices += len(record.devices)
    runs = _runs(record, scope, sums)
    alone = _once(runs.get(("compute", None), ()))
    in_run_b = {row.figure.reduced_sha256 for (run, _), rows in runs.items() if run == "node" for row in rows}
    earlier: set[str | None] = set()  # nonces of the windows before
    for window in sorted(scope.campaign.network, key=lambda one: one.opens_ns):
        rows = runs.get((window.run, window.tokens), [])
        if window.run == "fabric" and window.tokens is not None:
            names = Counter(row.figure.device for row in rows)
            sums.without_row[window.tokens] += sum(one.device not in names for one in record.devices)
            inside = _once(_node_rows(record.node_id, runs.get(("node", window.tokens), []), scope))
            seen = set()
            for row in rows:
                name, digest = row.figure.device, row.figure.reduced_sha256
                key = PartKey(window.tokens, row.measurement.group, digest)
                if (part := sums.parts.get(key)) is None:
                    part = sums.parts[key] = VectorPart()
                part.nodes += key not in seen
                seen.add(key)
                part.faults.update(_row_faults(row, scope.groups.get(record.node_id), rails=scope.campaign.rails))
                if names[name] > 1:
                    part.faults.add("fabric-device-twice")
                if digest is not None and row.figure.nonce in earlier:
                    part.faults.add("fabric-vector-copied")
                part.in_run_b |= digest in in_run_b
                part.indices.add(name.rpartition(":")[2])
                _add_rank(part, record.node_id, row, scope)
                _add_rates(part, record, row, alone.get(name), inside.get(name))
        earlier.update(row.figure.nonce for row in rows if row.figure.nonce is not None)
    _add_points(record, sums)


def _runs(record: NodeRecord, scope: Scope, sums: FabricSums) -> Runs:
    """Return the record's rows by run, with the campaign's window of each."""
    windows = {(window.run, window.tokens): window for window in scope.campaign.network}
    devices = {device.device: device for device in record.devices}
    planned_ns = scope.profile.network.window_ns if scope.profile.network else 0
    runs: dict[tuple[str, int | None], list[_Row]] = {}
    for m in record.network:
        if (window := windows.get((m.run, m.tokens))) is None:
            sums.faults.add("fabric-outside-window")
        else:
            rows = (_Row(m, figure, devices.get(figure.device), window, planned_ns) for figure in m.figures())
            runs.setdefault((m.run, m.tokens), []).extend(rows)
    return runs


def _once(rows: Iterable[_Row]) -> dict[str, _Row]:
    """Return rows by device, without those that stand twice: nobody could say which of the two is right."""
    listed = list(rows)
    names = Counter(row.figure.device for row in listed)
    return {row.figure.device: row for row in listed if names[row.figure.device] == 1}


def _node_rows(node_id: str, rows: list[_Row], scope: Scope) -> list[_Row]:
    """Return the rows of run B where they show that exactly they reduced together, inside the node."""
    part = VectorPart()
    for row in rows:
        part.faults.update(_row_faults(row, None, rails=True))
        _add_rank(part, node_id, row, scope)
    digests = {row.figure.reduced_sha256 for row in rows}
    together = bool(rows) and not part.faults and part.is_counted_out(whole=False)
    return rows if together and digests == {part.vector.sha256()} else []


def _row_faults(row: _Row, group: str | None, *, rails: bool) -> Iterator[str]:
    """Yield what keeps a device's row from being part of a group.

    Args:
        row: of run B or C.
        group: that the campaign puts the node into.
        rails: whether groups are of devices of one index, which the campaign does not name.
    """
    f = row.figure
    if row.device is None:
        yield "fabric-device-foreign"
    if f.wrong_reductions:
        yield "fabric-sums-wrong"
    if f.trouble is not None or f.rank is None or f.nonce is None or f.reduced_sha256 is None:
        yield "fabric-run-failed"
        return
    if not f.reductions:
        yield "fabric-sums-wrong"
    if row.measurement.backend is None:
        yield "fabric-backend-missing"
    if not row.is_inside:
        yield "fabric-outside-window"
    if not rails and row.measurement.group != group:
        yield "fabric-group-differs"


def _add_rank(part: VectorPart, node_id: str, row: _Row, scope: Scope) -> None:
    f = row.figure
    part.ranks.append(-1 if f.rank is None else f.rank)
    part.sizes.add(f.ranks)
    if row.device is not None and f.nonce is not None and f.reduced_sha256 is not None:
        place = node_id, row.device
        values = contribution(scope.campaign_sha256, scope.starts_at, row.window.opens_ns, place, f.nonce)
        part.vector.add_contribution(values)


def _add_rates(part: VectorPart, record: NodeRecord, fabric: _Row, alone: _Row | None, inside: _Row | None) -> None:
    """Add the three rates of a device, or why they say nothing of what the network costs."""
    rates = part.rates
    if (why := _unrated(fabric, alone, inside)) is not None:
        rates.unrated.add(why)
        return
    counted = _counted_mflop_s(record, fabric)
    compute, node, whole = (row.rate_mflop_s or 0 for row in (alone, inside, fabric) if row is not None)
    # slower products ask less of the network; and no run is twice as fast as the figure that counts
    if not counted <= compute * 2 <= counted * 4 or max(node, whole) > counted * 2:
        rates.unrated.add("network-run-differs" if counted else "network-products-differ")
        return
    rates.devices += 1
    rates.compute_mflop_s += compute
    rates.node_mflop_s += node
    rates.fabric_mflop_s += whole
    rates.counted_mflop_s += counted


def _unrated(fabric: _Row, alone: _Row | None, inside: _Row | None) -> str | None:
    """Return why the runs of a device cannot be compared; None where they can."""
    if alone is None or inside is None or None in (row.rate_mflop_s for row in (fabric, alone, inside)):
        return "network-run-missing"
    if alone.is_short or inside.is_short or fabric.is_short:
        return "network-run-short"
    b, c = inside.measurement, fabric.measurement
    if not alone.products == inside.products == fabric.products:
        return "network-products-differ"
    # B with more to reduce than C would be slow, and the network seem to cost nothing
    same = b.block_launches == c.block_launches and b.reduction_bytes <= c.reduction_bytes
    return None if same and inside.reduces_as_planned and fabric.reduces_as_planned else "network-reductions-differ"


def _counted_mflop_s(record: NodeRecord, row: _Row) -> int:
    """Return what a device sustained in the counted window of the same products; 0 where there is none."""
    for m in record.measurements:
        if (m.kernel, m.precision, m.m, m.n, m.k) == row.products and row.figure.device in m.device:
            return m.sustained_mflop_s[m.device.index(row.figure.device)]
    return 0


def _add_points(record: NodeRecord, sums: FabricSums) -> None:
    points: dict[PointKey, PointSum] = {}
    for one in record.sweep:
        key = PointKey(one.group, one.ranks, one.size_bytes)
        rate = one.size_bytes * one.reductions * 1000 // one.elapsed_ns
        point = PointSum(1, rate, not one.wrong_reductions and rate <= MOST_SWEEP_MB_S)
        points[key] = point.joined(points.get(key))._replace(nodes=1)
    for key, point in points.items():
        sums.points[key] = point.joined(sums.points.get(key))
