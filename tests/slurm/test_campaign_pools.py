"""Campaigns of several pools on a real Slurm: partitions, names in upper case, host lists, and nodes of two pools."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.record.folder import Folder
from certify.statement.campaign import read_campaign
from tests.bad_input.command import Answer, petaseal
from tests.slurm.cluster import Cluster, private_slurm, until
from tests.slurm.trial import Trial

G1, G2, CPU, BOTH = NODES = ("GPU-Node01", "GPU-Node02", "cpu1", "Login1")
AI = {"pool": "ai", "class": "intelligent", "nodes": "all", "partition": "gpu"}
EDGE = {"pool": "near", "class": "edge", "nodes": "all", "partition": "cpu"}


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    """Return a cluster of two partitions, in both of which one node is."""
    partitions = {"gpu": (G1, G2, BOTH), "cpu": (CPU, BOTH)}
    with (
        private_slurm(NODES, slurmd_timeout_s=3, partitions=partitions) as started,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in started.env.items():
            patch.setenv(name, value)
        yield started


@pytest.fixture
def trial(slurm: Cluster, tmp_path: Path) -> Iterator[Trial]:
    """Return a centre of this cluster without a campaign."""
    one = Trial(slurm, tmp_path)
    yield one
    one.end_launches()
    one.cancel_jobs()
    until(lambda: all(slurm.state(name) == "idle" for name in slurm.names), 60)


def create(trial: Trial, *more: object, name: str = "c1", device: str = "fake:1") -> Answer:
    """Open a campaign of both pools, with Slurm's word for who is where."""
    return petaseal(
        *("campaign", "create", "--centre", trial.root / "centre.yaml", "--key", trial.key, "--nodes", "slurm"),
        *("--profile", trial.profile, "--device", f"ai={device}", "--device", f"near={device}"),
        *("--out", trial.root / name, *more),
    )


@pytest.mark.long
def test_two_pools_of_all_nodes_are_told_apart_by_their_partitions(trial: Trial) -> None:
    trial.pools(AI, EDGE)
    refused = create(trial)
    assert (refused.status, "node-in-two-pools" in refused.err) == (2, True), refused.err
    assert f"{BOTH} in the partitions gpu and cpu" in refused.err
    assert not (trial.root / "c1").exists()
    contradicted = create(trial, "--partition", "ai=all")
    assert (contradicted.status, "partition-differs" in contradicted.err) == (2, True), contradicted.err
    made = create(trial, "--exclude", "login[1-1]=serves both")
    assert made.status == 0, made.err
    answer = trial.launch().end()
    assert answer.status == 0, answer.out
    assert "3 done" in answer.out
    found = trial.stated()
    assert {line.pool: line.counted.devices for line in found.statement.pools} == {"ai": 2, "near": 1}
    placed = {node.name: node.pool for node in Folder(trial.root / "c1").roster().nodes}
    assert placed == {G1: "ai", G2: "ai", CPU: "near"}
    assert [node.reason for node in found.statement.campaign.left_out] == ["serves both"]


@pytest.mark.long
def test_host_lists_names_in_upper_case_and_a_node_of_two_pools(trial: Trial) -> None:
    trial.pools(
        {"pool": "ai", "class": "intelligent", "nodes": ["GPU-Node[01-02]"], "devices": ["fake:0"]},
        {"pool": "near", "class": "edge", "nodes": [G1, CPU], "devices": ["fake:1"]},
    )
    made = create(trial, device="fake:2")
    assert made.status == 0, made.err
    campaign = read_campaign(Folder(trial.root / "c1"))
    pools = {"gpu-node01": ("ai", "near"), "gpu-node02": ("ai",), "cpu1": ("near",)}
    assert {node.node_id: node.pools for node in campaign.nodes} == pools
    assert [node.name for node in Folder(trial.root / "c1").roster().nodes] == [G1, G2, CPU]
    answer = trial.launch().end()
    assert answer.status == 0, answer.out
    found = trial.stated()
    assert {line.pool: (line.nodes_recorded, line.counted.devices) for line in found.statement.pools} == {
        "ai": (2, 2),
        "near": (2, 2),
    }
    assert found.not_counted == {("gpu-node02", "fake:1"): ("no-pool",), ("cpu1", "fake:0"): ("no-pool",)}
