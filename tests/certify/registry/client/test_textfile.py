"""The node exporter's file: what the statement says of one node, under its digest, and nothing that it does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from bench.errors import InputError, RefusedError
from bench.record import NodeRecord
from bench.units import utc_ns
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import parse_payload
from certify.documents.statement import CapacityStatement
from certify.registry.client.textfile import write_textfile
from tests.certify.measured import Measured

NODE = "gpu-00101"


def parsed(file: Path) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(file.read_text())}


def payload(file: Path) -> bytes:
    return parse_envelope(file.read_bytes(), 2**26).payload


@pytest.fixture
def statement(other_centre: Measured) -> CapacityStatement:
    file = other_centre.folder / "out" / "statement.dsse.json"
    opened: CapacityStatement = parse_payload("capacity-statement", payload(file)).predicate
    return opened


@pytest.fixture
def record(other_centre: Measured) -> NodeRecord:
    opened: NodeRecord = parse_payload("node-record", payload(other_centre.record(101))).predicate
    return opened


def test_figures_are_those_of_the_record(
    tmp_path: Path, other_centre: Measured, statement: CapacityStatement, record: NodeRecord
) -> None:
    out = tmp_path / "petaseal.prom"
    made = write_textfile(other_centre.folder / "out", NODE, out)
    found = parsed(out)
    (measurement,) = record.measurements
    for name in ("certified", "sustained"):
        family = found[f"petaseal_{name}_flops"]
        assert "not a live measurement" in family.documentation
        rates = {s.labels["device"]: s.value for s in family.samples}
        assert rates == {f.device: getattr(f, f"{name}_mflop_s") * 1e6 for f in measurement.figures()}
        for sample in family.samples:
            assert sample.labels["statement"] == made.statement
            assert sample.labels["counted"] == "true"
            assert (sample.labels["pool"], sample.labels["precision"], sample.labels["choice"]) == (
                "main",
                measurement.precision,
                measurement.choice,
            )
    (info,) = (
        found["petaseal_statement"].samples
        if "petaseal_statement" in found
        else found["petaseal_statement_info"].samples
    )
    assert (info.labels["grade"], info.labels["simulated"], info.labels["node_id"]) == ("smoke", "true", NODE)
    (until,) = found["petaseal_statement_valid_until_timestamp_seconds"].samples
    assert until.value == pytest.approx(utc_ns(statement.issue.valid_until) / 1e9, abs=1e-3)
    assert made.figures == len(measurement.device)


def test_devices_are_identified_on_demand_only(tmp_path: Path, other_centre: Measured, record: NodeRecord) -> None:
    known = [value for device in record.devices for value in (device.uuid, device.serial, device.pci_address) if value]
    assert known
    plain, told = tmp_path / "plain.prom", tmp_path / "told.prom"
    write_textfile(other_centre.folder / "out", NODE, plain)
    assert not any(value in plain.read_text() for value in known)
    write_textfile(other_centre.folder / "out", NODE, told, identities=True)
    assert all(value in told.read_text() for value in known)
    assert parsed(told)


def test_records_of_another_statement_are_refused(tmp_path: Path, other_centre: Measured, centre: Measured) -> None:
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    shutil.copy(other_centre.folder / "out" / "records.jsonl", mixed)
    shutil.copy(centre.folder / "out" / "statement.dsse.json", mixed)
    with pytest.raises(RefusedError) as refused:
        write_textfile(mixed, NODE, tmp_path / "x.prom")
    assert refused.value.code == "records-root"
    assert not (tmp_path / "x.prom").exists()


@pytest.mark.parametrize(("node", "name", "code"), [("gpu-9", "x.prom", "node-unknown"), (NODE, "x.txt", "usage")])
def test_wrong_input(tmp_path: Path, other_centre: Measured, node: str, name: str, code: str) -> None:
    with pytest.raises(InputError) as refused:
        write_textfile(other_centre.folder / "out", node, tmp_path / name)
    assert refused.value.code == code


def test_a_device_that_does_not_count_is_told_as_such(
    tmp_path: Path, other_centre: Measured, statement: CapacityStatement, record: NodeRecord
) -> None:
    from msgspec.structs import replace

    from certify.documents.kinds import OpenedDocument
    from certify.documents.statement import NotCounted
    from certify.registry.client.textfile import Certified

    first = record.devices[0].device
    held = NotCounted(node_id=NODE, device=first, workload="fp16", codes=("not-steady",))
    changed = replace(statement, not_counted=(held,), ratings_sha256="0" * 64)
    certified = Certified(OpenedDocument(changed, "", b"", "ab" * 32, frozenset()), record, False)
    assert [labels[-1] for labels, device, _ in certified.rows() if device.device == first] == ["false"]
    assert not certified.nominal_known
    assert {family.name: len(family.samples) for family in certified.collect()}["petaseal_nominal_flops"] == 0
