"""What the stack reports of a device: it decides on operands (R3) and reaches the record's model."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from bench.clock import SimulatedClock
from bench.devices.base import LocalDevice, StackFacts, with_stack_facts
from bench.devices.fake import Fake
from bench.engine import messages
from bench.engine.compute import DeviceRequest
from bench.engine.session import Session
from bench.engine.worker import ready
from bench.profile import load_profile
from bench.record import Workload
from bench.scenario import Scenario

FP16 = Workload("fp16", "fixed")
BARE = {"cache_bytes": None, "units": None}


def devices(count: int, **changes: object) -> list[LocalDevice]:
    """Return fakes of one model."""
    found = Fake(Scenario()).find(str(count))
    return [one._replace(model=replace(one.model, **{**BARE, **changes})) for one in found]


@pytest.mark.parametrize(
    ("model", "facts", "cache_bytes", "units"),
    [
        (BARE, StackFacts(2**20, 24), 2**20, 24),
        ({"cache_bytes": 2**21, "units": 20}, StackFacts(2**20, 24), 2**21, 20),
        ({"cache_bytes": None, "units": 25}, StackFacts(None, 24), None, 24),
        ({"cache_bytes": None, "units": 25}, StackFacts(), None, 25),
        ({**BARE, "count_unit": "slice"}, StackFacts(2**20, 24), 2**20, None),
    ],
)
def test_a_model_with_what_its_stack_reports(
    model: dict[str, object], facts: StackFacts, cache_bytes: int | None, units: int | None
) -> None:
    (one,) = devices(1, **model)
    found = facts.of(one.model)
    assert (found.cache_bytes, found.units) == (cache_bytes, units)


def test_devices_of_one_model_stay_one_model() -> None:
    found = devices(3)
    names = [one.device.device for one in found]
    facts = StackFacts(2**20, 24)
    merged = with_stack_facts(found, {names[0]: facts, names[2]: facts})  # one failed before it said anything
    assert [one.model for one in merged] == [facts.of(found[0].model)] * 3
    assert [one.device for one in merged] == [one.device for one in found]
    assert with_stack_facts(found, {}) == [LocalDevice(one.model, one.device) for one in found]
    differing = with_stack_facts(found, {names[0]: facts, names[2]: StackFacts(2**21, 24)})
    assert [one.model.cache_bytes for one in differing] == [2**20, None, 2**21]


@pytest.mark.parametrize(("facts", "least"), [(StackFacts(3 * 2**20, 24), 6 * 2**20), (None, 2**30)])
def test_operands_are_as_large_as_the_reported_cache_wants(
    facts: StackFacts | None, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (found,) = devices(1)
    clock = SimulatedClock()
    backend = Fake(Scenario())
    opened = backend.open(found, clock)
    monkeypatch.setattr(type(opened), "stack_facts", lambda self: facts)
    session = Session(DeviceRequest(found, load_profile("smoke"), "ab" * 16), opened, clock)
    prepared = session.prepare(FP16)
    assert least <= prepared.operand_bytes
    assert facts is None or prepared.operand_bytes < 2**30
    answer = messages.answer(messages.encode(ready(session, [prepared], [])))
    assert isinstance(answer, messages.WorkerReady)
    assert answer.stack == facts
