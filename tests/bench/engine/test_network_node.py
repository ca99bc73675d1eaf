"""A node's part in the network's runs with real workers: what it records, and that no figure is lost with a rank."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from msgspec.structs import replace

from bench.clock import SystemClock
from bench.devices import select_devices
from bench.engine.node import NodeRequest, measure_node
from bench.engine.schedule import self_issued
from bench.engine.workers import Event
from bench.record import Workload
from bench.record.campaign import network_windows
from bench.record.network import NetworkPlan
from bench.scenario import SCENARIO_VARIABLE
from bench.units import utc_ns
from tests.bench.engine.test_node import LIMITS, SHORT
from tests.bench.processes import children

pytest.importorskip("torch")
SECOND_NS = 10**9
PLAN = NetworkPlan(
    tokens=(16384,),
    warmup_ns=SECOND_NS // 2,
    window_ns=2 * SECOND_NS,
    block_ns=SECOND_NS // 20,
    join_ns=20 * SECOND_NS,  # to load torch on a busy machine
    reduction_ns=3 * SECOND_NS,
    sweep_bytes=(4096,),
)
PROFILE = replace(SHORT, window_ns=4 * SECOND_NS, network=PLAN)
T0_IN_NS = 6 * SECOND_NS


@pytest.mark.long
def test_a_rank_that_dies_in_run_c_takes_no_figure_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = self_issued(PROFILE, (Workload("fp16"),), "node-1", "ab" * 16, SystemClock().utc_ns() + T0_IN_NS)
    campaign = replace(campaign, self_issued=False, network=network_windows(PROFILE, campaign.windows))
    last, counted = campaign.network[-1], campaign.windows[-1]
    dies_s = (last.opens_ns + PLAN.window_ns // 2 - counted.opens_ns) / SECOND_NS
    scenario = {"default": {"rate_gflop_s": {"fp16": 700}}, "devices": {"1": {"die_at_s": dies_s}}}
    (tmp_path / "scenario.yaml").write_text(yaml.safe_dump(scenario))
    monkeypatch.setenv(SCENARIO_VARIABLE, str(tmp_path / "scenario.yaml"))
    monkeypatch.setenv("PETASEAL_NETWORK_INTERFACE", "lo")
    devices, seen = select_devices("fake:2"), list[Event]()
    request = NodeRequest(devices, PROFILE, (), "node-1", "SPKI", campaign, timeouts=LIMITS)
    record, _ = measure_node(request, seen.append)
    assert not children()
    assert not record.failures
    assert [m.device for m in record.measurements] == [("fake:0", "fake:1")]
    rows = {m.run: dict(zip(m.device, m.figures(), strict=True)) for m in record.network}
    assert list(rows) == ["compute", "node", "fabric"]
    for run in ("compute", "node"):
        assert [(row.trouble, row.launches > 0) for row in rows[run].values()] == [(None, True)] * 2, run
    assert len({row.reduced_sha256 for row in rows["node"].values()}) == 1
    assert rows["fabric"]["fake:0"].trouble == "lost node-1 fake:1, which did not answer in time"
    assert rows["fabric"]["fake:1"].trouble == "the worker was ended by signal 9"
    assert record.sweep == ()
    ended_ns = time.time_ns() - utc_ns(campaign.starts_from) - last.closes_ns
    assert ended_ns < 2 * PLAN.reduction_ns + 12 * SECOND_NS
    assert any(event.what == "network" and "rank 0 of 2, gloo" in (event.text or "") for event in seen)
