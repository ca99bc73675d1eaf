"""One shape for each model, with real processes: three nodes of one model, of which two have less memory."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.campaign.launch.coordinator import Coordinator
from bench.campaign.launch.plan import LaunchPlan
from bench.campaign.opening import OpenCampaign
from bench.clock import SystemClock
from bench.profile import load_profile
from bench.record import NodeRecord
from bench.record.folder import Folder
from bench.scenario import SCENARIO_VARIABLE
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import parse_payload
from certify.statement.campaign import read_campaign
from tests.bad_input.command import petaseal, started
from tests.bench.test_run import quick, until
from tests.certify.measured import centre_yaml

LIMITS = {"a1": None, "a2": 3 * 2**20, "a3": 2**20}  # a1 is quick enough for 1024; the others have room for 512 and 256
SECOND_NS = 10**9


def a_campaign(place: Path) -> Folder:
    pool = {"pool": "main", "class": "intelligent", "nodes": list(LIMITS), "devices": "all"}
    (place / "centre.yaml").write_text(yaml.safe_dump(centre_yaml(pools=[pool]), allow_unicode=True))
    assert petaseal("keys", "new", "--out", place / "operator.pem", "--no-passphrase").status == 0
    create = ("campaign", "create", "--centre", place / "centre.yaml", "--key", place / "operator.pem")
    what = ("--profile", quick(place), "--precision", "fp16", "--device", "main=fake:2")
    assert petaseal(*create, "--out", place / "c", *what).status == 0
    return Folder(place / "c")


def joining(folder: Folder, node: str) -> subprocess.Popen[str]:
    scenario = folder.root.parent / f"{node}.yaml"
    script = {"rate_gflop_s": {"fp16": 700}, "memory_limit_bytes": LIMITS[node]}
    scenario.write_text(yaml.safe_dump({"cache_bytes": 2**18, "default": script}))
    environment = {**os.environ, SCENARIO_VARIABLE: str(scenario)}
    return started("campaign", "join", folder.root, "--node", node, env=environment)


@pytest.mark.long
def test_the_smallest_shape_is_run_by_all_and_a_late_node_that_cannot_is_refused_before_t0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PETASEAL_STATE", str(tmp_path / "state"))
    folder = a_campaign(tmp_path)
    roster, campaign = folder.roster(), read_campaign(folder)
    ids = {node.name: node.node_id for node in roster.nodes}
    nodes = {name: joining(folder, name) for name in ("a1", "a2")}

    def state_of(name: str) -> Any:
        status = folder.status(ids[name])
        return None if status is None else status.state

    until(lambda: state_of("a1") == state_of("a2") == "prepared")
    plan = LaunchPlan("none", (), lead_ns=3 * SECOND_NS, finish_ns=60 * SECOND_NS, refresh_ns=SECOND_NS // 5)
    remarks: list[str] = []
    opened = OpenCampaign(folder, campaign, load_profile(str(folder.profile)), roster)
    of = (opened, plan, None, SystemClock())
    first = Coordinator(*of, remark=remarks.append)
    first.nodes.survey()
    first.publish_shapes(first.nodes.in_states("prepared"))
    nodes["a3"] = joining(folder, "a3")
    view = Coordinator(*of, remark=remarks.append).run()  # as if the first had been killed
    for name, process in nodes.items():
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, (name, out, err)
    places = {line.name: line.place for line in view.nodes}
    assert places.pop("a3") == "void"
    assert set(places.values()) <= {"done", "void"}  # on a busy machine a figure may be held
    choice = "fp16 of petaseal Fake-1: 512 x 512 x 512, the choice of 2 of 4 devices"
    assert f"{choice}, on a2; the others prepare anew" in remarks

    records = {name: record_of(folder, ids[name]) for name in ids}
    for name in ("a1", "a2"):
        assert [m.m for m in records[name].measurements] == [512]
        assert records[name].failures == ()
    assert records["a3"].measurements == ()
    assert [f.code for f in records["a3"].failures] == ["shape-not-settled"] * 2
    start = folder.started()
    assert start is not None
    assert records["a3"].ready_at < start.starts_at

    shown = petaseal("campaign", "status", folder.root)
    assert f"shape      {choice}" in shown.out
    assert "a3: void: fake:1 fp16: shape-not-settled: only 512 x 512 x 512 is settled for its model" in shown.out
    collected = petaseal("campaign", "collect", folder.root, "--json")
    assert json.loads(collected.out)["collected"] == 3, collected.err


def record_of(folder: Folder, node_id: str) -> NodeRecord:
    content = (folder.records(node_id) / f"{node_id}.record.dsse.json").read_bytes()
    envelope = parse_envelope(content, len(content))
    record = parse_payload("node-record", envelope.payload).predicate
    assert isinstance(record, NodeRecord)
    return record
