"""What the tables say of devices' models: from a statement and its records, the same at intake as when filled later."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import create_engine, select

from bench.record import NodeRecord
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import OpenedDocument, parse_payload
from certify.judge.models import ModelKey, NodeModel, models_of, sum_models
from certify.policy.centre import city_code
from certify.policy.ratings import installed_ratings
from certify.registry.base.registry import Registry
from certify.registry.base.stored import stored_statement
from certify.registry.intake import ingest
from certify.registry.intake.facts import refill_record_facts, refill_statement_facts
from certify.registry.storage.city_tables import missing_lines, verdict_lines
from certify.registry.storage.columns import metadata
from certify.registry.storage.node_tables import (
    inventory_lines,
    model_lines,
    model_step_lines,
    node_models,
    tool_lines,
)
from tests.certify.measured import Measured
from tests.certify.registry.intake.test_ingest import OPERATOR, PLATFORM, rows, statement_of, submit_whole

TABLES = (inventory_lines, model_step_lines, node_models, model_lines, missing_lines, verdict_lines, tool_lines)


def test_rows_are_what_the_documents_say(registry: Registry, centre: Measured) -> None:
    submit_whole(registry, centre)
    (listed,), (step,) = rows(registry, inventory_lines), rows(registry, model_step_lines)
    (of_node,), (of_pool,) = rows(registry, node_models), rows(registry, model_lines)
    record = record_of(centre)
    model = record.models[0]
    for row in (listed, of_node, of_pool):
        assert (row.pool, row.vendor, row.model) == ("main", model.vendor, model.model)
        assert (row.count_unit, row.devices) == (model.count_unit, len(record.devices))
    assert (of_node.node_id, of_node.memory_bytes) == (record.node_id, model.memory_bytes)
    assert (of_pool.nodes, of_pool.devices_per_node, of_pool.memory_bytes_most) == (1, 1, model.memory_bytes)
    assert (of_node.devices_without_rating, of_pool.devices_without_rating) == (0, 0)
    assert (step.vendor, step.model, step.devices) == (model.vendor, model.model, 1)


def test_what_is_filled_later_is_the_same(registry: Registry, centre: Measured, other_centre: Measured) -> None:
    stored = [str(submit_whole(registry, one, PLATFORM).payload_sha256) for one in (centre, other_centre)]
    again = create_engine("sqlite://")
    metadata.create_all(again)
    with registry.store.reading() as connection, again.begin() as scratch:
        for sha256 in stored:
            found = stored_statement(connection, registry.store.objects, sha256)
            refill_statement_facts(scratch, found)
            refill_record_facts(scratch, found)
        for table in TABLES:
            query = select(table).order_by(*table.primary_key)
            there = [tuple(row) for row in connection.execute(query)]
            assert there == [tuple(row) for row in scratch.execute(query)] != []


def record_of(centre: Measured) -> NodeRecord:
    payload = parse_envelope(centre.record(0).read_bytes(), CAPS.record_bytes).payload
    opened: OpenedDocument[NodeRecord] = parse_payload("node-record", payload)
    return opened.predicate


class _OnePool:
    """Everything counts in one pool, but for the device that is named so."""

    def pool_of(self, node_id: str, device: str) -> Any:
        return None if device == "spare" else type("Pool", (), {"pool": "main"})


def shown(record: NodeRecord, rated: bool = True) -> tuple[NodeModel, ...]:
    places: Any = _OnePool()
    return models_of(record, places, {"main": "fp16"}, installed_ratings() if rated else None)


def of_models(record: NodeRecord, *memory: int | None, names: tuple[str, ...] = ()) -> NodeRecord:
    """Return a record whose devices are each of a model of their own memory."""
    base, device = record.models[0], record.devices[0]
    models = tuple(
        replace(base, memory_bytes=size, model=(names or (base.model,) * len(memory))[place])
        for place, size in enumerate(memory)
    )
    more = (replace(device, device=f"{device.device}{place}", model=place) for place in range(1, len(memory)))
    devices = (device, *more)
    return replace(record, models=models, devices=devices)


def test_memory_is_what_every_device_has(centre: Measured) -> None:
    record = record_of(centre)
    (both,) = shown(of_models(record, 64, 32))
    assert (both.devices, both.memory_bytes, both.memory_bytes_most) == (2, 32, 64)
    # what one device does not say is not known of all
    (unknown,) = shown(of_models(record, 64, None))
    assert (unknown.devices, unknown.memory_bytes, unknown.memory_bytes_most) == (2, None, None)


def test_devices_without_a_rating_are_counted_and_unknown_tables_are_no_guess(centre: Measured) -> None:
    record = record_of(centre)
    strange = of_models(record, 64, 64, names=("A-1", "B-1"))
    plain = replace(strange, models=tuple(replace(one, simulated=False, plays=None) for one in strange.models))
    assert [one.devices_without_rating for one in shown(plain)] == [1, 1]
    assert [one.devices_without_rating for one in shown(plain, rated=False)] == [None, None]


def test_sums_are_over_nodes() -> None:
    key = ModelKey("main", "Huawei", "Ascend910B2", "package")
    (whole,) = sum_models([NodeModel(key, 8, 64, 64, 0), NodeModel(key, 7, 32, 64, 7), NodeModel(key, 8, 64, 64, 0)])
    assert (whole.nodes, whole.devices, whole.devices_per_node, whole.devices_per_node_most) == (3, 23, 7, 8)
    assert (whole.memory_bytes, whole.memory_bytes_most, whole.devices_without_rating) == (32, 64, 7)


@pytest.mark.parametrize(
    ("jurisdiction", "city"),
    [
        ("CN-440115", "CN-440100"),
        ("CN-440100", "CN-440100"),
        ("CN-440000", None),
        ("CN-110108", "CN-110000"),
        ("CN-429004", "CN-429004"),
        ("CN-810000", "CN-810000"),
        ("CN", None),
        ("US-CA", None),
        (None, None),
    ],
)
def test_the_city_of_a_place(jurisdiction: str | None, city: str | None) -> None:
    assert city_code(jurisdiction) == city


def test_a_statement_without_its_records_has_its_inventory(registry: Registry, centre: Measured) -> None:
    ingest.submit_statement(registry, statement_of(centre), OPERATOR)
    assert [len(rows(registry, table)) for table in TABLES[:4]] == [1, 1, 0, 0]
