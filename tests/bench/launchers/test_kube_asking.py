"""What the Kubernetes launcher asks: a real kubectl against an API server in this process, which fails as one does."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.launchers import kubernetes
from bench.launchers.base import Gang, GangState
from bench.launchers.kube_manifests import gang_manifests, selector
from bench.launchers.kube_waiting import Pod, table, why_one
from bench.launchers.kubernetes import ASKS_EVERY_NS, KubernetesLauncher, kubectl
from tests.bench.kube_server import NOW, Fault, KubeServer, serving
from tests.bench.launchers.test_kubernetes import EIGHT, FEW, LOST, gang, node, refused

SINCE = "2026-11-30T08:00:00.000000Z"
POOL = {"pool": "a800"}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubeServer]:
    """Four nodes with eight devices each, and kubectl's configuration for their server."""
    if shutil.which("kubectl") is None:
        assert not os.environ.get("CI"), "kubectl is not installed (Debian: kubernetes-client)"
        pytest.skip("kubectl is not installed")
    for name in [name for name in os.environ if name.startswith("KUBE")]:
        monkeypatch.delenv(name)
    made = KubeServer()
    for name in gang().nodes:
        made.add("nodes", node(name, EIGHT, labels=POOL))
    with serving(made, tmp_path) as environ:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        yield made


def pods(cluster: KubeServer) -> list[Any]:
    return list(cluster.objects["pods"].values())


def wait_for(pod: Any, reason: str, message: str = "", **conditions: str) -> None:
    """Let a pod's container wait, on its node."""
    pod["status"]["containerStatuses"] = [{"state": {"waiting": {"reason": reason, "message": message}}}]
    pod["status"]["conditions"] += [{"type": name, "status": value} for name, value in conditions.items()]


def unschedulable(pod: Any, message: str) -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    pod["status"]["conditions"] = [{**condition, "lastTransitionTime": NOW}]
    pod["spec"]["nodeName"] = ""


def run_pod(cluster: KubeServer, pod: Any, phase: str = "Running") -> None:
    """Let a pod run or end, and count it in its Job as the Job's controller does."""
    pod["status"] = {"phase": phase, "conditions": [], "startTime": NOW}
    job = cluster.objects["jobs"][pod["metadata"]["ownerReferences"][0]["name"]]
    key = {"Running": "ready", "Succeeded": "succeeded", "Failed": "failed"}[phase]
    job["status"][key] = job["status"].get(key, 0) + 1


# How far a gang is
def test_from_queue_to_end(cluster: KubeServer) -> None:
    launcher, one = KubernetesLauncher(), gang()
    assert launcher.state(one) == GangState("absent")
    launcher.submit(one)
    assert sorted(pod["spec"]["nodeName"] for pod in pods(cluster)) == sorted(one.nodes)
    refused("gang-exists", lambda: launcher.submit(one))
    for pod in pods(cluster):
        unschedulable(pod, "0/4 nodes are available: 4 Insufficient nvidia.com/gpu.")
    queued = launcher.state(one)
    assert (queued.phase, queued.job_id, queued.since) == ("queued", "job/c1-smart", SINCE)
    what = "Unschedulable: 0/4 nodes are available: 4 Insufficient nvidia.com/gpu."
    assert queued.reason == f"4 of 4 waiting pods: {what}"
    for pod in pods(cluster)[:3]:
        run_pod(cluster, pod)
    wait_for(pods(cluster)[3], "ImagePullBackOff", "Back-off pulling image")
    pods(cluster)[3]["status"]["conditions"][0]["status"] = "True"
    running = launcher.state(one)
    assert (running.phase, running.since, running.lost) == ("running", SINCE, ())
    assert running.reason is not None
    assert running.reason.startswith("1 of 1 waiting pods: ImagePullBackOff (the image is not on the node")
    run_pod(cluster, pods(cluster)[3], "Failed")
    assert launcher.state(one) == GangState("running", "job/c1-smart")
    cluster.objects["jobs"]["c1-smart"]["status"]["conditions"] = [
        {"type": "Failed", "status": "True", "reason": "FailedIndexes"}
    ]
    ended = launcher.state(one)
    assert (ended.phase, ended.reason) == ("ended", "Failed (FailedIndexes): 0 succeeded, 1 failed")
    launcher.submit(one)  # which replaces the Job that is over
    assert launcher.state(one).phase == "queued"
    launcher.cancel(one)
    assert launcher.state(one) == GangState("absent")
    assert not pods(cluster)


def test_a_calm_gang_costs_its_jobs_alone(cluster: KubeServer) -> None:
    launcher = KubernetesLauncher()
    launcher.submit(gang())
    for pod in pods(cluster):
        run_pod(cluster, pod)
    launcher.state(gang())
    mark = len(cluster.asked)
    assert launcher.state(gang()).phase == "running"
    assert [one.path.rpartition("/")[2] for one in cluster.asked[mark:] if "namespaces" in one.path] == ["jobs"]
    assert not [one for one in cluster.asked[mark:] if one.path.endswith("/nodes")]


def test_a_lost_node_is_lost(cluster: KubeServer) -> None:
    """The cluster takes its pod's readiness from the Job, deletes a node that is gone, and says which is not ready."""
    launcher, one = KubernetesLauncher(), gang(partition="pool=a800")
    launcher.submit(one)
    for pod in pods(cluster):
        run_pod(cluster, pod)
    cluster.objects["jobs"]["c1-smart"]["status"]["ready"] = 2
    cluster.objects["nodes"]["gpu-0001.hall-b"]["status"]["conditions"] = LOST
    del cluster.objects["nodes"]["gpu-0002.hall-b"]
    mark = len(cluster.asked)
    assert launcher.state(one).lost == ("gpu-0001.hall-b", "gpu-0002.hall-b")
    (asked,) = [one for one in cluster.asked[mark:] if one.path.endswith("/nodes")]
    assert asked.query["labelSelector"] == "pool=a800"


def test_who_may_not_list_nodes_sees_no_lost_ones(cluster: KubeServer) -> None:
    launcher = KubernetesLauncher()
    cluster.faults.append(Fault("nodes", "GET", 403, "Forbidden", 'nodes is forbidden: User "op" cannot list'))
    refused("engine-forbidden", lambda: launcher.discover(()))
    launcher.submit(gang())
    run_pod(cluster, pods(cluster)[0])
    assert launcher.state(gang()).lost == ()


def test_a_job_that_kueue_has_not_admitted(cluster: KubeServer) -> None:
    launcher, one = KubernetesLauncher(), gang(options=(*FEW, "label=kueue.x-k8s.io/queue-name=hpc"))
    (manifest,) = gang_manifests(one)
    manifest["spec"]["suspend"] = True
    cluster.apply(manifest)
    condition = {"type": "Suspended", "status": "True", "reason": "JobSuspended", "lastTransitionTime": NOW}
    manifest["status"]["conditions"] = [condition]
    waits = launcher.state(one)
    assert (waits.phase, waits.since) == ("queued", SINCE)
    what = "c1-smart is suspended: Kueue's queue hpc has not admitted it: see: kubectl get workloads"
    assert waits.reason == what


def test_a_job_without_pods_says_where_to_look(cluster: KubeServer) -> None:
    """As a namespace leaves it that refuses host paths: the Job is there, and no pod ever is."""
    launcher = KubernetesLauncher()
    launcher.submit(gang())
    cluster.objects["pods"].clear()
    cluster.objects["jobs"]["c1-smart"]["status"] = {}
    waits = launcher.state(gang())
    assert waits.reason is not None
    assert "Pod Security" in waits.reason
    assert waits.reason.endswith("kubectl describe job c1-smart")


@pytest.mark.parametrize(
    ("reason", "message", "conditions", "text"),
    [
        (
            "ErrImagePull",
            "not found",
            {},
            "ErrImagePull (the image is not on the node and cannot be pulled): not found",
        ),
        (
            "ContainerCreating",
            "",
            {"PodReadyToStartContainers": "True"},
            "ContainerCreating: its image is being pulled;",
        ),
        ("ContainerCreating", "", {"PodReadyToStartContainers": "False"}, "its volumes or its network are not there"),
        ("ContainerCreating", "", {}, "its image is being pulled, or a volume of it is not mounted"),
        ("CreateContainerConfigError", "runAsNonRoot", {}, "CreateContainerConfigError: runAsNonRoot"),
    ],
)
def test_why_a_container_waits(
    cluster: KubeServer, reason: str, message: str, conditions: dict[str, str], text: str
) -> None:
    launcher = KubernetesLauncher()
    launcher.submit(gang())
    for pod in pods(cluster):
        wait_for(pod, reason, message, **conditions)
    state = launcher.state(gang())
    assert state.reason is not None
    assert text in state.reason
    assert state.since == SINCE


def test_the_usual_cause_comes_first_and_others_are_counted(cluster: KubeServer) -> None:
    launcher = KubernetesLauncher()
    launcher.submit(gang())
    for pod in pods(cluster)[1:]:
        unschedulable(pod, "no node")
    wait_for(pods(cluster)[0], "ErrImagePull", "not found")
    assert launcher.state(gang()).reason == "3 of 4 waiting pods: Unschedulable: no node; 1 ErrImagePull"


def test_a_gated_pod_and_one_of_an_odd_form() -> None:
    gated = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "lastTransitionTime": "soon"}
    pod = kubernetes.read(json.dumps({"metadata": {"name": "a"}, "status": {"conditions": [gated]}}), Pod)
    assert why_one(pod, "SchedulingGated") == ("SchedulingGated", None)
    assert table("") == []
    assert table("NAME   STATUS\na") == [{"NAME": "a"}]


# A retry
def test_a_retry_deletes_the_old_pods_of_its_nodes(cluster: KubeServer) -> None:
    launcher, one = KubernetesLauncher(), gang()
    refused("gang-over", lambda: launcher.retry(one, one.nodes[:1]))
    launcher.submit(one)
    for index, pod in enumerate(pods(cluster)):
        run_pod(cluster, pod, "Failed" if index == 1 else "Running")
        if index == 1:
            wait_for(pod, "Error")
    launcher.retry(one, one.nodes[:2])
    deleted = [asked.path.rpartition("/")[2] for asked in cluster.asked if asked.method == "DELETE"]
    assert deleted == ["c1-smart-0"]  # that of the second node is over
    again = cluster.objects["jobs"]["c1-smart-r1"]
    assert again["spec"]["completions"] == 2
    assert launcher.state(one).job_id == "job/c1-smart"


# Nodes
def test_nodes_are_asked_for_by_label(cluster: KubeServer) -> None:
    cluster.add("nodes", node("other", EIGHT))
    assert len(KubernetesLauncher().discover(())) == 5
    mark = len(cluster.asked)
    assert len(KubernetesLauncher().discover(("pool=a800",))) == 4
    (asked,) = [one for one in cluster.asked[mark:] if one.path.endswith("/nodes")]
    assert asked.query["labelSelector"] == "pool=a800"
    refused("partition-unknown", lambda: KubernetesLauncher().discover(("pool=a800", "pool=b")))


def test_a_node_without_the_pools_label_is_refused(cluster: KubeServer) -> None:
    del cluster.objects["nodes"]["gpu-0003.hall-b"]["metadata"]["labels"]["pool"]
    text = refused("node-unusable", lambda: KubernetesLauncher().submit(gang(partition="pool=a800")))
    assert "no such node with the label pool=a800" in text


def slices(*names: str) -> list[Any]:
    return [
        {"metadata": {"name": f"s-{name}"}, "spec": {"nodeName": name, "driver": "gpu.nvidia.com"}} for name in names
    ]


def test_devices_that_dra_gives_out_are_unknown_and_not_refused(cluster: KubeServer) -> None:
    for name in gang().nodes:
        cluster.add("nodes", node(name))
    text = refused("node-unusable", lambda: KubernetesLauncher().submit(gang()))
    assert "has no accelerator" in text
    for one in slices(*gang().nodes[1:]):
        cluster.add("resourceslices", one)
    text = refused("node-unusable", lambda: KubernetesLauncher().submit(gang()))
    assert text.startswith(gang().nodes[0])  # the one node of which nothing is known
    cluster.add("resourceslices", slices(gang().nodes[0])[0])
    KubernetesLauncher().submit(gang())
    assert len(pods(cluster)) == 4


def test_too_few_devices_are_refused_also_where_dra_is_served(cluster: KubeServer) -> None:
    for one in slices(*gang().nodes):
        cluster.add("resourceslices", one)
    refused("node-unusable", lambda: KubernetesLauncher().submit(gang(gres="nvidia.com/gpu:16")))


def test_a_cluster_that_serves_no_slices_has_no_dra(cluster: KubeServer) -> None:
    cluster.is_served = False
    for name in gang().nodes:
        cluster.add("nodes", node(name))
    refused("node-unusable", lambda: KubernetesLauncher().submit(gang()))


def test_who_may_not_list_slices_is_not_refused_for_them(cluster: KubeServer) -> None:
    cluster.faults.append(Fault("resourceslices", "GET", 403, "Forbidden", "resourceslices is forbidden"))
    for name in gang().nodes:
        cluster.add("nodes", node(name))
    KubernetesLauncher().submit(gang())
    assert len(pods(cluster)) == 4


# How a server fails
@pytest.mark.parametrize(
    ("fault", "code", "text"),
    [
        (
            Fault("jobs", "GET", 403, "Forbidden", 'jobs.batch is forbidden: User "op" cannot list'),
            "forbidden",
            "cannot",
        ),
        (Fault("jobs", "GET", 409, "Conflict", "the object has been modified"), "failed", "modified"),
        (Fault("jobs", "GET", 429, "TooManyRequests", "too many requests"), "unreachable", "too many requests"),
        (Fault("jobs", "GET", 500, "InternalError", "etcdserver: leader changed"), "unreachable", "leader"),
        (Fault("jobs", "GET", 503, "ServiceUnavailable", "apiserver is shutting down"), "unreachable", "shutting"),
        (Fault("jobs", "GET", 504, "Timeout", "request did not complete"), "unreachable", "did not complete"),
        (Fault("jobs", "GET", 401, "Unauthorized", "Unauthorized"), "failed", "logged in"),
        (Fault("jobs", "GET", 0), "unreachable", "unexpected EOF"),
        (Fault("jobs", "GET", -1), "unreachable", "does not answer"),
    ],
)
def test_a_server_that_fails(
    cluster: KubeServer, monkeypatch: pytest.MonkeyPatch, fault: Fault, code: str, text: str
) -> None:
    monkeypatch.setattr(kubernetes, "REQUEST_S", 1)
    cluster.faults.append(fault)
    said = refused(f"engine-{code}", lambda: KubernetesLauncher().state(gang()))
    assert text in said
    assert "\n" not in said


def test_a_list_that_expired_between_its_pages_says_nothing(cluster: KubeServer) -> None:
    cluster.page = 2
    launcher = KubernetesLauncher()
    launcher.submit(gang())
    run_pod(cluster, pods(cluster)[0])
    cluster.faults.append(Fault("pods", "GET", 410, "Expired", "The provided continue parameter is too old", 99))
    refused("engine-unreachable", lambda: launcher.state(gang()))
    cluster.faults.clear()
    assert launcher.state(gang()).phase == "running"


def test_a_moment_of_too_many_requests_costs_nothing(cluster: KubeServer) -> None:
    cluster.faults.append(Fault("jobs", "GET", 429, "TooManyRequests", "too many requests", times=3))
    assert KubernetesLauncher().state(gang()).phase == "absent"


def test_an_apply_that_conflicts(cluster: KubeServer) -> None:
    what = 'Apply failed with 1 conflict: conflict with "kueue": .spec.parallelism'
    cluster.faults.append(Fault("jobs", "PATCH", 409, "Conflict", what))
    assert "conflict" in refused("engine-failed", lambda: KubernetesLauncher().submit(gang()))


# What asking costs
def big_node(name: str) -> Any:
    """Return a node as large as one with accelerators is: the images that lie on it, and the labels of its features."""
    images = [{"names": [f"registry.example/{i:02d}/train@sha256:{i:064x}"] * 2, "sizeBytes": 10**9} for i in range(50)]
    labels = {f"feature.node.kubernetes.io/cpu-cpuid.FEATURE{i:03d}": "true" for i in range(80)}
    made = node(name, EIGHT, labels={**labels, **POOL})
    made["status"]["images"] = images
    return made


MANY = [150, pytest.param(1500, marks=pytest.mark.long)]


@pytest.mark.parametrize("count", MANY)
@pytest.mark.parametrize(("what", "least"), [("calm", 100), ("one waits", 50), ("all wait", 2), ("one is lost", 3)])
def test_what_asking_costs(cluster: KubeServer, count: int, what: str, least: int) -> None:
    """Bytes from the server for one question, as it was put before (`-o json` of Jobs, pods and nodes) and is now."""
    names = tuple(f"gpu-{index:04d}.hall-b" for index in range(count))
    one: Gang = gang(options=FEW, partition="pool=a800")._replace(nodes=names)
    cluster.objects["nodes"].clear()
    for name in names:
        cluster.add("nodes", big_node(name))
    for manifest in gang_manifests(one):
        cluster.apply(manifest)
    for index, pod in enumerate(pods(cluster)):
        if what == "all wait" or (what == "one waits" and index == 0):
            unschedulable(pod, f"0/{count} nodes are available")
        else:
            run_pod(cluster, pod)
    if what == "one is lost":
        next(iter(cluster.objects["jobs"].values()))["status"]["ready"] -= 1
    kubectl(("get", "jobs", "-l", selector(one.name)))  # what kubectl learns of the server first
    mark = len(cluster.asked)
    kubectl(("get", "jobs", "-l", selector(one.name), "-o", "json"))
    if what != "calm":
        kubectl(("get", "pods", "-l", selector(one.name), "-o", "json"))
    if what != "all wait":
        kubectl(("get", "nodes", "-o", "json"))
    before = cluster.bytes_since(mark)
    mark = len(cluster.asked)
    state = KubernetesLauncher().state(one)
    now = cluster.bytes_since(mark)
    assert state.phase == ("queued" if what == "all wait" else "running")
    assert (state.reason is None) is (what in ("calm", "one is lost"))
    print(f"{count} nodes, {what}: {before / 1e6:.2f} MB before, {now / 1e6:.2f} MB now ({before / now:.0f} times)")
    assert before > least * now
    assert ASKS_EVERY_NS == 30 * 10**9
