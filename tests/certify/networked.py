"""Records with runs A, B and C of the network, as a centre writes whose devices reduce together (docs/network.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from bench.record import Campaign, Device, NodeRecord
from bench.record.network import NetworkMeasurement, NetworkWindow, RankFigure, SweepPoint
from bench.record.network.vector import VectorSum, contribution
from certify.documents import dsse
from certify.documents.kinds import parse_payload
from tests.certify import attacks
from tests.certify.measured import Measured

SECOND_NS = 10**9
TOKENS = (16_384, 4_096)
SIZES = (2**20, 2**28)
NODE_PPM, FABRIC_PPM = 850_000, 790_500  # B and C of A: contention 15 %, and a network loss of 7 % of that
Places = list[tuple[NodeRecord, Device]]  # in the order of their ranks
ChangeRow = Callable[[NodeRecord, NetworkMeasurement], NetworkMeasurement]


def with_network(campaign: Campaign, groups: int = 0, rails: bool = False, tokens: Sequence[int] = TOKENS) -> Campaign:
    """Return a campaign with windows of A, and of B and C for each T, of 20 s each, and its nodes in so many groups."""
    windows, begin_ns = [], campaign.closes_ns
    runs: list[tuple[Any, int | None]] = [("compute", None)]
    runs += [(run, t) for t in tokens for run in ("node", "fabric")]
    for run, of in runs:
        opens_ns = begin_ns + 2 * SECOND_NS
        window = NetworkWindow(
            run=run, tokens=of, load_ns=begin_ns, opens_ns=opens_ns, closes_ns=opens_ns + 20 * SECOND_NS
        )
        windows.append(window)
        begin_ns = window.closes_ns
    nodes = campaign.nodes
    if groups:
        nodes = tuple(replace(node, group=f"pod-{index % groups:02d}") for index, node in enumerate(nodes))
    return replace(campaign, network=tuple(windows), rails=rails, nodes=nodes)


@dataclass(frozen=True)
class Network:
    """How the records of a centre get their runs of the network."""

    campaign: Campaign
    campaign_sha256: str
    starts_at: str
    node_ppm: int = NODE_PPM
    fabric_ppm: int = FABRIC_PPM

    def records(self, records: Sequence[NodeRecord]) -> list[NodeRecord]:
        """Return the records with their runs: each device in each window, and exactly what they reduce together."""
        made: dict[str, list[NetworkMeasurement]] = {record.node_id: [] for record in records}
        points: dict[str, list[SweepPoint]] = {record.node_id: [] for record in records}
        labels = {node.node_id: node.group for node in self.campaign.nodes}
        members: dict[str | None, list[tuple[str, str]]] = {}  # of each group, by rank
        for record in records:
            members.setdefault(labels.get(record.node_id), []).extend(
                (record.node_id, device.device) for device in record.devices
            )
        ranks = {member: rank for group in members.values() for rank, member in enumerate(group)}
        for window in self.campaign.network:
            for label, places in self._groups(window, records, labels):
                digest = self._digest(window, places) if window.run != "compute" else None
                by_node: dict[str, list[tuple[int, Device]]] = {}
                for record, device in places:
                    rank = ranks[record.node_id, device.device]
                    by_node.setdefault(record.node_id, []).append((rank, device))
                for record in records:
                    if rows := by_node.get(record.node_id):
                        count = len(members[labels.get(record.node_id)])
                        made[record.node_id].append(self._measured(window, label, record, rows, count, digest))
                        if window.run == "fabric" and not any(one.group == label for one in points[record.node_id]):
                            points[record.node_id] += _sweep(label, len(places))
        return [
            replace(record, network=tuple(made[record.node_id]), sweep=tuple(points[record.node_id]))
            for record in records
        ]

    def _groups(
        self, window: NetworkWindow, records: Sequence[NodeRecord], labels: dict[str, str | None]
    ) -> Iterator[tuple[str | None, Places]]:
        if window.run != "fabric":
            yield from (
                (labels.get(record.node_id), [(record, device) for device in record.devices]) for record in records
            )
            return
        groups: dict[tuple[str | None, int], Places] = {}
        for record in records:
            for index, device in enumerate(record.devices):
                key = labels.get(record.node_id), index if self.campaign.rails else 0
                groups.setdefault(key, []).append((record, device))
        yield from ((label, places) for (label, _), places in groups.items())

    def _digest(self, window: NetworkWindow, places: Places) -> str:
        vector = VectorSum()
        for record, device in places:
            vector.add_contribution(self.contributed(window, record, device))
        return vector.sha256()

    def contributed(self, window: NetworkWindow, record: NodeRecord, device: Device) -> bytes:
        """Return what a device contributes in a window."""
        place, nonce = (record.node_id, device), nonce_of(window, record.node_id, device)
        return contribution(self.campaign_sha256, self.starts_at, window.opens_ns, place, nonce)

    def _measured(
        self,
        window: NetworkWindow,
        label: str | None,
        record: NodeRecord,
        rows: list[tuple[int, Device]],
        ranks: int,
        digest: str | None,
    ) -> NetworkMeasurement:
        m = record.measurements[0]
        block, elapsed_ns = 4, 18 * SECOND_NS
        part_ppm = {"compute": 10**6, "node": self.node_ppm, "fabric": self.fabric_ppm}[window.run]
        figures = []
        for rank, device in rows:
            rate = m.sustained_mflop_s[m.device.index(device.device)] * part_ppm // 10**6
            launches = rate * elapsed_ns // 10**9 * 10**6 // (2 * m.m * m.n * m.k)
            figures.append(
                RankFigure(
                    device=device.device,
                    rank=rank,
                    ranks=ranks,
                    launches=launches,
                    opened_ns=1_000_000,
                    elapsed_ns=elapsed_ns,
                    reductions=launches // block if digest else 0,
                    wrong_reductions=0,
                    nonce=nonce_of(window, record.node_id, device) if digest else None,
                    reduced_sha256=digest,
                    trouble=None,
                )
            )
        return NetworkMeasurement(
            run=window.run,
            tokens=window.tokens,
            group=label,
            backend="gloo" if digest else None,
            kernel=m.kernel,
            precision=m.precision,
            m=m.m,
            n=m.n,
            k=m.k,
            block_launches=block,
            reduction_bytes=0 if window.tokens is None else -(-2 * m.m * m.n * m.k * block // (3 * window.tokens)),
            **dict(zip(RankFigure._fields, zip(*figures, strict=True), strict=True)),
        )


def nonce_of(window: NetworkWindow, node_id: str, device: Device) -> str:
    """Return what the device's worker drew for a run."""
    return hashlib.sha256(f"{window.opens_ns} {node_id} {device.device}".encode()).hexdigest()


def _sweep(label: str | None, ranks: int) -> Iterator[SweepPoint]:
    for size in SIZES:
        elapsed_ns = size * 10  # 10 reductions at 1,000 MB/s
        yield SweepPoint(
            group=label, ranks=ranks, size_bytes=size, reductions=10, elapsed_ns=elapsed_ns, wrong_reductions=0
        )


def changed_run(
    record: NodeRecord, run: str, change: Callable[[NetworkMeasurement], NetworkMeasurement], tokens: int | None = None
) -> NodeRecord:
    """Return a record in which the measurements of one run are changed, of one T where it is given."""
    return replace(
        record,
        network=tuple(
            change(one) if one.run == run and tokens in (None, one.tokens) else one for one in record.network
        ),
    )


def changed_row(measurement: NetworkMeasurement, row: int = 0, **changes: Any) -> NetworkMeasurement:
    """Return a measurement with other values in one of its rows."""
    columns = {name: list(getattr(measurement, name)) for name in changes}
    for name, value in changes.items():
        columns[name][row] = value
    return replace(measurement, **{name: tuple(column) for name, column in columns.items()})


def lay_network(centre: Measured, change: Callable[[list[NodeRecord]], list[NodeRecord]] = lambda made: made) -> None:
    """Give the records of a centre their runs, and seal them anew; its campaign has the windows (`with_network`)."""
    campaign = attacks.campaign_of(centre)
    lines = {path: path.read_bytes() for path in sorted(centre.records.glob("*.record.dsse.json"))}
    records: list[NodeRecord] = [
        parse_payload("node-record", dsse.parse_envelope(line, attacks.CAP).payload).predicate
        for line in lines.values()
    ]
    network = Network(campaign, records[0].campaign_sha256, records[0].starts_at)
    made = {record.node_id: record for record in change(network.records(records))}
    for (path, line), record in zip(lines.items(), records, strict=True):
        new = made[record.node_id]
        path.write_bytes(attacks.resealed(line, devices=new.devices, network=new.network, sweep=new.sweep))
