"""A campaign on a cluster in this process, from its nodes to its records: a real kubectl, pods that are processes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from bench.launchers import kubernetes
from bench.record.folder import Folder
from tests.bad_input.command import Answer, petaseal, process
from tests.bench.kube_server import Fault, KubeServer
from tests.bench.kubelet import Kubelets, running
from tests.bench.launchers.test_kube_asking import SINCE, cluster, pods, wait_for  # noqa: F401 (the fixture)
from tests.bench.launchers.test_kubernetes import node
from tests.slurm.cluster import until
from tests.slurm.trial import BRIEF, SCENARIO

CAMPAIGN_S = 90


class Centre:
    """A centre whose two nodes are the cluster's, and its campaign."""

    def __init__(self, root: Path, cluster: KubeServer) -> None:  # noqa: F811
        self.root, self.cluster, self.folder = root, cluster, root / "lustre" / "c1"
        self.folder.parent.mkdir()
        self.key = root / "operator.pem"
        cluster.objects["nodes"].clear()
        for name in ("gpu-a", "gpu-b"):
            cluster.add("nodes", node(name, {"nvidia.com/gpu": "2"}, labels={"pool": "a800"}))
        demo = yaml.safe_load((Path(__file__).parents[3] / "configs/centres/demo.yaml").read_text())
        pool = {"pool": "ai", "class": "intelligent", "nodes": "all", "devices": "all"}
        (root / "centre.yaml").write_text(yaml.safe_dump({**demo, "centre_id": "test", "pools": [pool]}))
        (root / "brief.yaml").write_text(yaml.safe_dump(msgspec.to_builtins(BRIEF)))
        (root / "all.yaml").write_text(yaml.safe_dump(SCENARIO))
        assert petaseal("keys", "new", "--no-passphrase", "--out", self.key).status == 0

    def options(self) -> Iterator[str]:
        for text in ("image=repo/petaseal:0.2.0", "claim=campaigns", f"mount={self.root / 'lustre'}"):
            yield from ("--engine-option", text)

    def create(self) -> Answer:
        return petaseal(
            *("campaign", "create", "--centre", self.root / "centre.yaml", "--key", self.key, "--out", self.folder),
            *("--profile", self.root / "brief.yaml", "--nodes", "kubernetes", "--partition", "ai=pool=a800"),
            *("--device", "ai=fake:2"),
        )

    def launch(self, *more: object) -> Answer:
        own = ("--on", "kubernetes", "--lead", 3, *self.options(), *more)
        return petaseal("campaign", "launch", self.folder, *own)


@pytest.fixture
def centre(tmp_path: Path, cluster: KubeServer) -> Centre:  # noqa: F811
    made = Centre(tmp_path, cluster)
    answer = made.create()
    assert answer.status == 0, answer.err
    return made


@pytest.fixture
def kubelets(tmp_path: Path, centre: Centre) -> Iterator[Kubelets]:
    with running(centre.cluster, tmp_path / "kubelets", {"PETASEAL_SCENARIO": str(tmp_path / "all.yaml")}) as made:
        yield made


def coordinator(cluster: KubeServer) -> Any:  # noqa: F811
    (pod,) = [one for one in pods(cluster) if one["metadata"]["labels"]["app.kubernetes.io/component"] == "coordinator"]
    return pod


@pytest.mark.long
def test_a_detached_campaign_collects_by_itself(centre: Centre, kubelets: Kubelets) -> None:
    """Handed over while the server fails, then handed over; the coordinator is a pod, and asks no cluster at all."""
    centre.cluster.faults.append(Fault("jobs", "PATCH", 503, "ServiceUnavailable", "apiserver is shutting down"))
    failed = centre.launch("--detach")
    assert (failed.status, failed.code) == (2, "engine-unreachable")
    assert not pods(centre.cluster)
    centre.cluster.faults.clear()
    answer = centre.launch("--detach")
    assert answer.status == 0, answer.err
    assert len(pods(centre.cluster)) == 3
    pod = coordinator(centre.cluster)
    name = pod["metadata"]["name"]
    until(lambda: pod["status"]["phase"] in ("Succeeded", "Failed"), CAMPAIGN_S)
    assert pod["status"]["phase"] == "Succeeded", kubelets.said(name)
    assert "kubectl" not in kubelets.said(name)
    collected = process("campaign", "collect", centre.folder, "--json")
    assert collected.status == 0, collected.err
    assert json.loads(collected.out)["absent"] == []
    records = sorted(path.name for path in (centre.folder / "collected").glob("*.dsse.json"))
    assert len(records) == 2


@pytest.mark.long
def test_a_detached_launch_that_stopped_before_the_start_is_launched_again(centre: Centre, kubelets: Kubelets) -> None:
    """The first pod of a node fails, so that the coordinator stops; launched again, both start anew."""
    start = kubelets.start
    broken: list[str] = []

    def start_broken(pod: dict[str, Any]) -> None:
        if pod["spec"].get("nodeName") == "gpu-b" and not broken:
            broken.append(pod["metadata"]["name"])
            pod["spec"]["containers"][0]["env"].append({"name": "PETASEAL_SCENARIO", "value": "/nowhere"})
        start(pod)

    kubelets.start = start_broken  # type: ignore[method-assign]
    for ends in ("Failed", "Succeeded"):
        answer = centre.launch("--detach", "--require-all")
        assert answer.status == 0, answer.err
        pod = coordinator(centre.cluster)
        name = pod["metadata"]["name"]
        until(lambda pod=pod: pod["status"]["phase"] in ("Succeeded", "Failed"), CAMPAIGN_S)  # type: ignore[misc]
        assert pod["status"]["phase"] == ends, kubelets.said(name)
        launched = Folder(centre.folder).launched()
        assert launched is not None
        assert (launched.engine, launched.least) == ("kubernetes", {"ai": 2})
        if ends == "Failed":
            assert "pool ai: 1 of 2 nodes are ready (2 needed)" in (launched.refused or ""), kubelets.said(name)
            assert petaseal("campaign", "status", centre.folder).out.startswith("did not start")
        with centre.cluster.lock:  # its next pod has another name in a cluster, and the same one here
            centre.cluster.objects["pods"].pop(name)
            kubelets.processes.pop(name)
            shutil.rmtree(kubelets.folder / name)
    assert (len(list((centre.folder / "collected").glob("*.dsse.json"))), broken != []) == (2, True)


@pytest.mark.long
def test_check_names_an_image_that_cannot_be_pulled(centre: Centre, kubelets: Kubelets) -> None:
    start = kubelets.start

    def pull(pod: dict[str, Any]) -> None:
        if pod["spec"]["nodeName"] == "gpu-b":
            wait_for(pod, "ErrImagePull", "manifest unknown")
        else:
            start(pod)

    kubelets.start = pull  # type: ignore[method-assign]
    answer = petaseal("campaign", "check", centre.folder, "--on", "kubernetes", "--timeout", 12, *centre.options())
    assert answer.status == 1
    assert "gpu-b told nothing" in answer.out
    (said,) = [line for line in answer.err.splitlines() if "have not begun" in line]
    assert "1 of 1 waiting pods: ErrImagePull (the image is not on the node and cannot be pulled): manifest" in said
    assert f"since {SINCE}" in said
    assert not centre.cluster.objects["jobs"]


@pytest.mark.long
def test_a_pod_that_fails_is_retried_and_its_engine_left_alone(
    centre: Centre, kubelets: Kubelets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Launched from a host: the first pod of one node cannot start, and a Job of its own starts another."""
    monkeypatch.setattr(kubernetes.KubernetesLauncher, "asks_every_ns", 11 * 10**9)
    start = kubelets.start
    broken: list[str] = []

    def start_broken(pod: dict[str, Any]) -> None:
        if pod["spec"]["nodeName"] == "gpu-b" and not broken:
            broken.append(pod["metadata"]["name"])
            pod["spec"]["containers"][0]["env"].append({"name": "PETASEAL_SCENARIO", "value": "/nowhere"})
        start(pod)

    kubelets.start = start_broken  # type: ignore[method-assign]
    answer = centre.launch()
    assert answer.status == 0, answer.err + "".join(kubelets.said(name) for name in kubelets.processes)
    assert "gpu-b failed" in answer.err
    assert any(name.endswith("-r1-0") for name in kubelets.processes)
    lists = [one for one in centre.cluster.asked if one.method == "GET" and one.path.endswith(("/pods", "/nodes"))]
    assert not centre.cluster.objects["jobs"]  # ended and gone
    assert len(lists) < 20
