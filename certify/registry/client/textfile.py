"""A node's certified figures for Prometheus' node exporter (its textfile collector).

They are what a statement and its records say, and nothing is recomputed or judged here: figures of the past under the
statement's digest, beside which a dashboard can put what the node does today. Devices are named as in the record; what
identifies them is told on demand only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from bench.errors import InputError, RefusedError
from bench.record import Device, Figure, NodeRecord, read_bytes, write_atomic
from bench.units import utc_ns
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import OpenedDocument, parse_payload
from certify.documents.statement import CapacityStatement
from certify.policy.released import ratings_of
from certify.statement.claim import ClaimReader, check_root, read_all
from certify.statement.package import RECORDS, STATEMENT
from certify.trust.opening import Verifier, check_payload_type
from certify.trust.trusted_set import TrustedSet

SUFFIX = ".prom"  # the node exporter reads no other file
PAST = "as the statement certifies it: measured in the past, not a live measurement."
RATES: dict[str, tuple[str, Callable[[Figure], int]]] = {
    "certified": (f"Lower bound of the device's sustained rate in FLOP/s, {PAST}", lambda f: f.certified_mflop_s),
    "sustained": (f"Sustained rate of the device in FLOP/s, {PAST}", lambda f: f.sustained_mflop_s),
}
NOMINAL = "Vendor's rating of the device in FLOP/s, from the table that the statement binds; nobody measured it."
LABELS = ("statement", "node_id", "device", "pool", "precision", "choice", "counted")
Seen = tuple[str, NodeRecord | None]


class Written(NamedTuple):
    """A textfile for the node exporter that was written, with what it holds."""

    path: Path
    statement: str
    figures: int
    not_checked: tuple[str, ...]


class Certified(Collector):
    """The Prometheus metrics of one node's figures in a statement."""

    def __init__(self, opened: OpenedDocument[CapacityStatement], record: NodeRecord, identities: bool) -> None:
        self._statement, self._digest = opened.predicate, opened.payload_sha256
        self._record, self._identities = record, identities
        self._ratings = ratings_of(self._statement.ratings_sha256)
        self.nominal_known = self._ratings is not None

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family."""
        yield from self._about()
        families = {
            name: GaugeMetricFamily(f"petaseal_{name}_flops", text, None, LABELS) for name, (text, _) in RATES.items()
        }
        nominal = GaugeMetricFamily("petaseal_nominal_flops", NOMINAL, None, LABELS)
        for labels, device, figure in self.rows():
            for name, (_, rate) in RATES.items():
                families[name].add_metric(labels, rate(figure) * 10**6)
            model = self._record.models[device.model]
            entries = (model.vendor, model.model, model.memory_bytes, model.count_unit)
            rating = None if self._ratings is None else self._ratings.match(*entries)
            rated = rating.rates.get(labels[LABELS.index("precision")]) if rating else None  # type: ignore[call-overload]
            if rated is not None:
                nominal.add_metric(labels, rated.nominal_mflop_s * 10**6)
        yield from families.values()
        yield nominal

    def rows(self) -> Iterator[tuple[list[str], Device, Figure]]:
        """Yield the labels, the device and its figure of everything that was measured in a pool of the statement."""
        devices = {device.device: device for device in self._record.devices}
        counting = {line.pool: (line.precision, line.choice) for line in self._statement.pools}
        node_id = self._record.node_id
        left_out = {one.device for one in self._statement.not_counted if one.node_id == node_id}
        for measurement in self._record.measurements:
            for figure in measurement.figures():
                if (pool := self._statement.places.pool_of(node_id, figure.device)) is None:
                    continue
                workload = measurement.precision, measurement.choice
                counted = workload == counting[pool.pool] and figure.device not in left_out
                labels = [self._digest, node_id, figure.device, pool.pool, *workload, str(counted).lower()]
                yield labels, devices[figure.device], figure

    def _about(self) -> Iterator[Metric]:
        statement = self._statement
        info = InfoMetricFamily("petaseal_statement", f"The statement that the figures stand in, {PAST}")
        shown = {
            "statement": self._digest,
            "centre_id": statement.centre.centre_id,
            "project_id": statement.centre.project_id or "",
            "node_id": self._record.node_id,
            "sequence": str(statement.issue.sequence),
            "profile": statement.profile,
            "grade": statement.grade or "none",
            "simulated": str(statement.simulated).lower(),
        }
        info.add_metric([], shown)
        yield info
        for name, time, text in (
            ("valid_until", statement.issue.valid_until, "When the statement's validity ends"),
            ("measured_until", statement.measured_until, "When the measurement ended"),
        ):
            family = GaugeMetricFamily(
                f"petaseal_statement_{name}_timestamp_seconds", f"{text}, seconds since the epoch.", None, ["statement"]
            )
            family.add_metric([self._digest], utc_ns(time) / 10**9)
            yield family
        devices = InfoMetricFamily("petaseal_device", "A device of the node's record, as it was measured.")
        for device in self._record.devices:
            model = self._record.models[device.model]
            facts = {"node_id": self._record.node_id, "device": device.device, "vendor": model.vendor}
            facts["model"] = model.model
            if self._identities:
                facts |= {name: getattr(device, name) or "" for name in ("uuid", "serial", "die_id", "pci_address")}
            devices.add_metric([], facts)
        yield devices


def write_textfile(folder: Path, node_id: str, out: Path, identities: bool = False) -> Written:
    """Write the certified figures of one node.

    Args:
        folder: with ``statement.dsse.json`` and its ``records.jsonl``.
        node_id: the node.
        out: file of the node exporter's folder, ``*.prom``; it is replaced as a whole.
        identities: whether labels may hold what identifies devices.

    Raises:
        RefusedError: `records-root`, the records are not those of the statement; or a code of the documents.
        InputError: `node-unknown`, the statement has no record of the node; or a file cannot be read or written.
    """
    # the exporter passes over other names in silence
    if not out.name.endswith(SUFFIX):
        what = f"is not named *{SUFFIX}: the node exporter would not read it"
        raise InputError("usage", what, where=out, fix=f"call it {out.name}{SUFFIX}")
    file, lines = folder / STATEMENT, folder / RECORDS
    envelope = parse_envelope(read_bytes(file, CAPS.statement_bytes), CAPS.statement_bytes, file)
    check_payload_type(envelope, file)
    opened: OpenedDocument[CapacityStatement] = parse_payload("capacity-statement", envelope.payload, file)
    certified = Certified(opened, _record_of(node_id, lines, opened.predicate), identities)
    metrics = CollectorRegistry()
    metrics.register(certified)
    write_atomic(out, generate_latest(metrics))
    not_checked = ["who signed the statement, and whether it holds: petaseal verify says so"]
    if not certified.nominal_known:
        not_checked.append("nominal rates: the statement binds another table of ratings than is installed here")
    return Written(out, opened.payload_sha256, sum(1 for _ in certified.rows()), tuple(not_checked))


def _record_of(node_id: str, lines: Path, statement: CapacityStatement) -> NodeRecord:
    """Return a node's record, having seen that all records are those that the statement binds."""
    unnamed = TrustedSet("signature", {}, {}, (), {})  # the records' own seals are checked, and nobody's identity
    seen = list(read_all(ClaimReader(lines, Verifier(unnamed, "9999-12-31T23:59:59.999999Z"), partial(_keep, node_id))))
    check_root([payload for payload, _ in seen], statement, lines)
    records = [record for _, record in seen if record is not None]
    if not records:
        what = f"has no record of the node {node_id}"
        raise InputError("node-unknown", what, where=lines, fix="give its name in the records with --node")
    if len(records) > 1:
        raise RefusedError("node-twice", f"has {len(records)} records of the node {node_id}", where=lines)
    return records[0]


def _keep(node_id: str, opened: OpenedDocument[NodeRecord]) -> Seen:
    return opened.payload_sha256, opened.predicate if opened.predicate.node_id == node_id else None
