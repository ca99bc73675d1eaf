"""Real worker processes, real time: what hangs, dies or is ended, and what it leaves behind."""

from __future__ import annotations

import gzip
import os
import signal
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from msgspec.structs import replace

from bench.clock import SystemClock
from bench.collective.orders import Rendezvous
from bench.devices import select_devices
from bench.engine.node import NodeRequest, measure_node
from bench.engine.schedule import self_issued
from bench.engine.workers import Event, WorkerTimeouts
from bench.errors import InputError, RefusedError
from bench.profile import load_profile
from bench.record import Campaign, NodeRecord, Profile, Shape, Workload
from bench.record.campaign import LEAD_NS
from bench.record.shapes import ChosenShape, SettledShape
from bench.scenario import SCENARIO_VARIABLE
from bench.units import utc_ns, utc_text
from tests.bench.fleet import workloads_in
from tests.bench.processes import children

SHORT = replace(
    load_profile("smoke"),
    warmup_ns=300_000_000,
    window_ns=900_000_000,
    guard_ns=100_000_000,
    launches_per_subwindow=4,
    telemetry_interval_ns=50_000_000,
    shapes={p: (Shape(m=1024, n=1024, k=1024),) for p in ("fp16", "fp64")},
)
LIMITS = WorkerTimeouts(prepare_ns=60 * 10**9, grace_ns=2_500_000_000, conclude_ns=60 * 10**9)
SCRIPT = {"rate_gflop_s": {"fp16": 700, "fp64": 700}}


@pytest.fixture
def scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def write(**devices: Any) -> None:
        file = tmp_path / "scenario.yaml"
        named = {name.strip("d"): script for name, script in devices.items()}
        file.write_text(yaml.safe_dump({"default": SCRIPT, "devices": named}))
        monkeypatch.setenv(SCENARIO_VARIABLE, str(file))

    write()
    return write


def request(devices: str, *precisions: Any, profile: Profile = SHORT, campaign: Campaign | None = None) -> NodeRequest:
    wanted = workloads_in(profile, precisions or ("fp16",))
    return NodeRequest(select_devices(devices), profile, wanted, "node-1", "SPKI", campaign, timeouts=LIMITS)


def measured(record: NodeRecord) -> dict[str, tuple[str, ...]]:
    return {m.precision: m.device for m in record.measurements}


def failed(record: NodeRecord) -> list[tuple[str, str, str]]:
    return [(f.device, f.precision, f.code) for f in record.failures]


def test_all_devices_at_once_in_one_window_and_no_worker_left(scenario: Any) -> None:
    seen: list[Event] = []
    record, samples = measure_node(request("fake:2", "fp16", "fp64"), seen.append)
    assert measured(record) == {"fp16": ("fake:0", "fake:1"), "fp64": ("fake:0", "fake:1")}
    assert record.failures == ()
    assert samples[:2] == b"\x1f\x8b"
    assert children() == []
    whats = [event.what for event in seen]
    assert whats.index("preparing") < whats.index("ready") < whats.index("campaign") < whats.index("measured")
    for measurement in record.measurements:
        assert measurement.other_load_ppm is None or 0 <= measurement.other_load_ppm <= 10**6
        for figure in measurement.figures():
            assert figure.opened_ns >= 0
            assert figure.verified_launches > 0
    assert record.environment.libraries["numpy"]
    assert record.campaign is not None
    assert utc_ns(record.started_at) <= utc_ns(record.campaign.issued_at) <= utc_ns(record.ended_at)


BROKEN = """
import bench.engine.compute

def libraries(self):
    raise OSError(28, "No space left on device", "/scratch/cache/kernel.so")

bench.engine.compute.Compute.libraries = libraries
"""


def test_a_worker_that_an_error_ends_says_which(scenario: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(BROKEN)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    record, _ = measure_node(request("fake:1", "fp16"))
    assert failed(record) == [("fake:0", "fp16", "device-failed")]
    said = "the worker ended with status 1: <path>: No space left on device [OSError]"
    assert record.failures[0].detail == said
    assert children() == []


def test_a_device_that_somebody_uses_is_refused_or_flagged_as_the_profile_says(scenario: Any) -> None:
    scenario(d0={"foreign_before": 2})
    record, _ = measure_node(request("fake:2", "fp16", profile=replace(SHORT, busy="refuse")))
    assert failed(record) == [("fake:0", "fp16", "device-busy")]
    assert "2 other process(es)" in str(record.failures[0].detail)
    assert measured(record) == {"fp16": ("fake:1",)}
    record, _ = measure_node(request("fake:2", "fp16", profile=replace(SHORT, busy="flag")))
    assert [f.foreign_processes for m in record.measurements for f in m.figures()] == [2, 0]


def test_a_shape_that_does_not_fit_makes_room_for_a_smaller_one_and_that_is_said(scenario: Any) -> None:
    shapes = {"fp16": tuple(Shape(m=n, n=n, k=n) for n in (256, 512, 1024))}
    scenario(d0={"memory_limit_bytes": 4 * 512 * 512 * 2})
    told: list[str | None] = []
    profile = replace(SHORT, shapes=shapes)
    request_ = request("fake:2", "fp16", profile=profile)
    found = [f._replace(model=replace(f.model, cache_bytes=2**16)) for f in request_.devices]
    record, samples = measure_node(
        request_._replace(devices=found), lambda event: told.append(event.text) if event.what == "remark" else None
    )
    assert failed(record) == []
    assert {m.n: m.device for m in record.measurements} == {512: ("fake:0",), 1024: ("fake:1",)}
    assert told == ["fp16: 1024 x 1024 x 1024 does not fit into the memory"]
    assert "fake:0,fp16,trial,0,launch_1024x1024x1024_ns,out-of-memory" in gzip.decompress(samples).decode()


def test_a_hung_and_a_failing_device_are_recorded_and_their_neighbour_finishes(scenario: Any) -> None:
    scenario(d0={"hang_at_s": 0.2, "only": "fp64"}, d1={"fail_at_s": 0.1, "only": "fp16"})
    record, _ = measure_node(request("fake:3", "fp16", "fp64"))
    assert measured(record) == {"fp16": ("fake:2",), "fp64": ("fake:1", "fake:2")}
    assert failed(record) == [
        ("fake:0", "fp16", "device-hung"),  # measured, and never handed over
        ("fake:0", "fp64", "device-hung"),
        ("fake:1", "fp16", "device-failed"),
    ]
    assert children() == []


def test_a_worker_that_is_killed_is_lost_and_its_neighbour_finishes(scenario: Any) -> None:
    killed: list[int] = []

    def kill_one(event: Event) -> None:
        if event.what == "window" and not killed:
            killed.append(children()[0])
            os.kill(killed[0], signal.SIGKILL)

    record, _ = measure_node(request("fake:2"), kill_one)
    assert len(killed) == 1
    ((device, precision, code),) = failed(record)
    assert (precision, code) == ("fp16", "device-lost")
    assert record.failures[0].detail == "the worker was ended by signal 9"
    assert measured(record) == {"fp16": ({"fake:0": "fake:1", "fake:1": "fake:0"}[device],)}


@pytest.mark.long
def test_a_worker_that_is_stopped_counts_as_hung(scenario: Any) -> None:
    stopped: list[int] = []

    def stop_one(event: Event) -> None:
        if event.what == "ready" and not stopped:
            stopped.append(children()[0])
            os.kill(stopped[0], signal.SIGSTOP)

    record, _ = measure_node(request("fake:2"), stop_one)
    assert [code for _, _, code in failed(record)] == ["device-hung"]
    assert len(record.measurements[0].device) == 1
    assert children() == []


def test_a_kernel_that_cannot_be_had_is_a_failure_of_every_device(scenario: Any) -> None:
    record, _ = measure_node(request("fake:2")._replace(kernel="gemm-absent"))
    assert record.measurements == ()
    assert [f.code for f in record.failures] == ["device-failed"] * 2


def test_interrupting_ends_all_workers(scenario: Any) -> None:
    def interrupt(event: Event) -> None:
        if event.what == "warmup":
            assert len(children()) == 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_node(request("fake:2"), interrupt)
    assert children() == []


def campaign(profile: Profile, in_ns: int, **changes: Any) -> Campaign:
    own = self_issued(profile, (Workload("fp16"),), "node-1", "ab" * 16, SystemClock().utc_ns() + in_ns)
    return replace(own, **{"self_issued": False, "centre_id": "centre", "campaign_id": "c1", **changes})


@pytest.mark.parametrize(
    ("in_s", "changes", "code"),
    [
        (-9, {}, "campaign-window-passed"),
        (9, {"nodes": ()}, "node-not-expected"),
        (9, {"profile_sha256": "0" * 64}, "campaign-profile-differs"),
    ],
)
def test_a_campaign_that_this_node_cannot_take_part_in(
    scenario: Any, in_s: int, changes: dict[str, Any], code: str
) -> None:
    with pytest.raises(InputError) as refused:
        measure_node(request("fake:1", campaign=campaign(SHORT, in_s * 10**9, **changes)))
    assert refused.value.code == code
    assert children() == []


def test_a_node_that_is_ready_after_half_the_warm_up_misses_the_window_and_says_so(scenario: Any) -> None:
    late_ns = SHORT.warmup_ns * 3 // 4 + LEAD_NS
    record, _ = measure_node(request("fake:1", campaign=campaign(SHORT, -late_ns)))
    assert failed(record) == [("fake:0", "fp16", "late")]
    assert record.measurements == ()
    assert record.starts_at < record.started_at <= record.ready_at <= record.ended_at
    assert children() == []


class Agreed(NamedTuple):
    """A start that is agreed only once this node is ready, as a coordinator does it; so are shapes."""

    in_ns: int
    ready: list[int]
    chosen: list[ChosenShape]
    size: int | None = None  # that is settled for every model; None: nothing is

    def known_ns(self) -> int | None:
        return None

    def settle(self, chosen: tuple[ChosenShape, ...]) -> tuple[SettledShape, ...]:
        self.chosen.extend(chosen)
        size = self.size
        if size is None:
            return ()
        return tuple(SettledShape(c.product, c.precision, Shape(m=size, n=size, k=size), 9, 1) for c in chosen)

    def wait_ns(self, devices: int) -> int:
        self.ready.append(devices)
        return SystemClock().utc_ns() // 1000 * 1000 + self.in_ns

    def meet(self, group: str | None, offered: Rendezvous | None) -> Rendezvous | None:
        return offered


def test_the_start_is_agreed_once_the_devices_are_ready(scenario: Any) -> None:
    given = replace(campaign(SHORT, 0), starts_until=utc_text(SystemClock().utc_ns() + 600 * 10**9))
    agreed = Agreed(10**9, [], [])
    record, _ = measure_node(request("fake:2", campaign=given)._replace(start=agreed))
    assert agreed.ready == [2]
    assert failed(record) == []
    assert utc_ns(record.starts_at) - utc_ns(record.ready_at) >= 10**9
    with pytest.raises(RefusedError) as refused:
        measure_node(request("fake:1", campaign=given)._replace(start=Agreed(3600 * 10**9, [], [])))
    assert refused.value.code == "window-invalid"
    assert children() == []
