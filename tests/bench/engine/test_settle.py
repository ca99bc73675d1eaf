"""One shape for each model, on a node: devices whose own choice is another prepare anew before T0, or are refused."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from msgspec.structs import replace

from bench.clock import SimulatedClock, SystemClock
from bench.devices.fake import Fake
from bench.engine.compute import DeviceRequest
from bench.engine.node import measure_node
from bench.engine.schedule import FixedStart
from bench.engine.session import Session
from bench.engine.workers import Event
from bench.errors import DeviceError
from bench.record import ExpectedPool, Kernels, NodeRecord, Shape, Workload
from bench.record.campaign import windows
from bench.scenario import SCENARIO_VARIABLE, Scenario
from bench.units import utc_text
from tests.bench.campaigns import chose
from tests.bench.engine.test_node import SHORT, Agreed, campaign, request
from tests.bench.fleet import BEGIN_NS, workloads_in
from tests.bench.processes import children

SMALL, MIDDLE, LARGE = (Shape(m=size, n=size, k=size) for size in (256, 512, 1024))
PROFILE = replace(SHORT, shapes={"fp16": (SMALL, MIDDLE, LARGE)})
FP16 = Workload("fp16")
LITTLE = {"memory_limit_bytes": 3 * 2**20}  # two sets of 512, not of 1024
SLOW = {"rate_gflop_s": {"fp16": 20}}  # 1024 takes 107 ms, and a window of 900 ms has 30 times 4 launches at least


def scripted(place: Path, monkeypatch: pytest.MonkeyPatch, devices: dict[str, Any]) -> None:
    told = {"default": {"rate_gflop_s": {"fp16": 700}}, "devices": devices, "cache_bytes": 2**20}
    (place / "scenario.yaml").write_text(yaml.safe_dump(told))
    monkeypatch.setenv(SCENARIO_VARIABLE, str(place / "scenario.yaml"))


def measure(agreed: Agreed, devices: str = "fake:2", told: list[Event] | None = None, **changes: Any) -> NodeRecord:
    profile = replace(PROFILE, **changes)
    wanted = workloads_in(profile, ("fp16",))
    pool = ExpectedPool(pool="self", workloads=tuple(map(str, wanted)))
    given = campaign(profile, 0, pools=(pool,), windows=windows(profile, wanted))
    given = replace(given, starts_until=utc_text(SystemClock().utc_ns() + 600 * 10**9))
    events = [] if told is None else told
    record, _ = measure_node(request(devices, profile=profile, campaign=given)._replace(start=agreed), events.append)
    assert children() == []
    return record


def sizes(record: NodeRecord) -> dict[tuple[str, ...], int]:
    return {m.device: m.m for m in record.measurements if m.choice == "fixed"}


def test_devices_that_cannot_run_the_settled_shape_are_refused_before_t0_and_their_neighbour_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their tuned shapes are their own, and stay."""
    scripted(tmp_path, monkeypatch, {"1": LITTLE, "2": SLOW})
    told: list[Event] = []
    agreed = Agreed(10**9, [], [], size=1024)
    record = measure(agreed, "fake:3", told, choices=("fixed", "tuned"), tuned_shapes={"fp16": (SMALL,)})
    assert [(c.precision, c.shape.m, c.devices) for c in agreed.chosen] == [
        *(("fp16", size, 1) for size in (1024, 512, 256)),
    ]
    assert agreed.ready == [3]  # each has something to measure
    refused = [(f.device, f.choice, f.code, f.detail) for f in record.failures]
    only = "only 1024 x 1024 x 1024 is settled for its model"
    little, slow = (
        "not even the smallest fp16 shape fits into the memory",
        "one launch of the smallest fp16 shape takes ",
    )
    assert refused[0] == ("fake:1", "fixed", "shape-not-settled", f"{only}: {little}")
    assert refused[1][:3] == ("fake:2", "fixed", "shape-not-settled")
    assert str(refused[1][3]).startswith(f"{only}: {slow}")
    assert len(refused) == 2
    assert [(m.choice, m.device, m.m) for m in record.measurements] == [
        ("fixed", ("fake:0",), 1024),
        ("tuned", ("fake:0", "fake:1", "fake:2"), 256),
    ]
    whats = [event.what for event in told]
    assert whats.index("failed") < whats.index("start")


def test_a_campaign_that_is_started_by_hand_settles_nothing() -> None:
    assert FixedStart(0).settle((chose(1024),)) == ()


def test_a_self_issued_campaign_keeps_each_device_s_own_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(tmp_path, monkeypatch, {"1": LITTLE})
    record, _ = measure_node(request("fake:2", profile=PROFILE))
    assert sizes(record) == {("fake:0",): 1024, ("fake:1",): 512}


def test_what_is_measured_beside_the_figure_is_prepared_anew_too() -> None:
    """The second path has the settled shape; digests of operands that nothing was computed with are gone."""
    fake = Fake(msgspec.convert({"cache_bytes": 2**20}, Scenario))
    profile = replace(PROFILE, kernels={"fake": Kernels(figure="gemm-fake", companions={"fp16": ("gemm-fake",)})})
    (found,) = fake.find("1")
    clock = SimulatedClock(BEGIN_NS)
    challenge = hashlib.sha256(b"settle").hexdigest()
    session = Session(DeviceRequest(found, profile, challenge), fake.open(found, clock), clock)
    assert session.prepare(FP16).m == 1024
    facts = session.settle(FP16, SMALL)
    assert (facts.m, facts.n, facts.k) == (256, 256, 256)
    after = [row for row in session.rows if row.phase == "prepare"]
    assert len(after) == len({row.quantity for row in after}) == 2 * facts.operand_sets
    (path,) = session._reference_tasks[FP16]
    assert path.prepared is not None
    assert path.prepared.problem.m == 256  # type: ignore[union-attr]
    with pytest.raises(DeviceError) as refused:
        session.settle(FP16, Shape(m=2**20, n=2**20, k=2**20))
    assert refused.value.code == "shape-not-settled"
