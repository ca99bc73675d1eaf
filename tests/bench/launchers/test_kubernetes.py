"""Kubernetes manifests against the real schemas of several versions, and against what schemas miss; what kubectl tells.

Nothing here runs on a cluster. The ``kubectl`` on PATH is a script of ours that notes its arguments and answers from
files; one test asks a real kubectl, where there is one, whether it understands our command lines.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import InputError
from bench.launchers.base import Gang
from bench.launchers.kube_cluster import Node, Nodes, engine_nodes
from bench.launchers.kube_manifests import (
    MAX_NAME,
    MAX_NODES,
    coordinator_manifest,
    gang_manifests,
    job_name,
    selector,
    to_yaml,
)
from bench.launchers.kube_options import ACCEPT, LABEL, NEEDED, parse_options, parse_tolerations
from bench.launchers.kube_pods import Manifest
from bench.launchers.kube_vendors import known, parse_gres
from bench.launchers.kubernetes import KubernetesLauncher, kubectl, read

NEWEST = ("1.35", "1.36", "1.37")
VERSIONS = ("1.28", "1.29", "1.31", "1.33", *NEWEST)  # the oldest and the newest that are said to work, and between
DIR = Path("/lustre/campaigns/c1")
FEW = ("image=repo/petaseal:0.2.0", "claim=campaigns", "mount=/lustre/campaigns")
ALL = (
    *FEW,
    "program=/opt/petaseal/bin/petaseal",
    "namespace=hpc",
    "user=1000:1000",
    "group=44",
    "group=109",
    "toleration=dedicated=hpc:NoSchedule",
    "toleration=maintenance:NoExecute",
    "label=kueue.x-k8s.io/queue-name=hpc",
    "annotation=huawei.com/schedule_policy=chip8-node8",
    "annotation=scheduling.volcano.sh/queue-name=hpc",
    "node-selector=host-arch=huawei-arm",
    "node-selector=kubernetes.io/arch=arm64",
    "env=HSA_OVERRIDE=a b=c",
    "host-path=/usr/lib64/liburma.so.0",
    "scheduler=volcano",
    "runtime-class=nvidia",
    "pull-secret=registry",
    "state=/var/lib/petaseal",
    "cpu=64",
    "memory=512Gi",
    "seccomp=Unconfined",
)
WHOLE = [one.resource for one in known().resources if one.counts == "device"]
COORDINATE = ("/opt/petaseal", "campaign", "coordinate", str(DIR))


def gang(nodes: int = 4, gres: str | None = "nvidia.com/gpu:8", options: tuple[str, ...] = FEW, **more: Any) -> Gang:
    names = tuple(f"gpu-{index:04d}.hall-b" for index in range(nodes))
    command = ("/opt/petaseal", "campaign", "join", str(DIR))
    return Gang("c1-smart", "smart", names, command, DIR / "logs", 7200, gres=gres, options=options)._replace(**more)


def gang_manifest(one: Gang) -> Manifest:
    (manifest,) = gang_manifests(one)
    return manifest


def pod_of(manifest: Manifest) -> Any:
    return manifest["spec"]["template"]["spec"]


def container_of(manifest: Manifest) -> Any:
    (container,) = pod_of(manifest)["containers"]
    return container


def refused(code: str, call: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        call()
    assert caught.value.code == code
    return str(caught.value)


# The real schemas
def validate(manifest: Manifest, version: str) -> None:
    assert kubernetes_validate.validate(manifest, version, strict=True) == version


def test_the_newest_schemas_are_the_newest_there_are() -> None:
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    there = {tuple(int(part) for part in re.findall(r"\d+", path.name)[:2]) for path in folder.iterdir()}
    assert [".".join(map(str, version)) for version in sorted(there)[-3:]] == list(NEWEST)


@pytest.mark.parametrize(
    "version", [*NEWEST, *(pytest.param(v, marks=pytest.mark.long) for v in VERSIONS if v not in NEWEST)]
)
def test_manifests_hold_against_the_schemas(version: str) -> None:
    """Every vendor's resource, from one node to a thousand, with few and with all options, as kubectl would read it."""
    assert len(WHOLE) >= 12
    gangs = [gang(4, f"{resource}:8", options=ALL if index % 2 else FEW) for index, resource in enumerate(WHOLE)]
    gangs += [gang(1, None), gang(1000, options=ALL, partition="pool=a800"), gang(1000, "huawei.com/Ascend910:16")]
    text = "".join(line for one in gangs for line in KubernetesLauncher().describe(one))
    for options in (FEW, ALL):
        text += "".join(KubernetesLauncher().describe_coordinator("c1", COORDINATE, DIR / "logs", 7200, options))
    documents = list(yaml.safe_load_all(text))
    assert len(documents) == len(gangs) + 2 + 2  # a gang of a thousand is two Jobs
    for document in documents:
        validate(document, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_schemas_would_notice(version: str) -> None:
    def misspelt(manifest: Manifest) -> None:
        pod_of(manifest)["tolerations"][0]["efect"] = "NoSchedule"

    def mistyped(manifest: Manifest) -> None:
        manifest["spec"]["completions"] = "4"

    def unknown(manifest: Manifest) -> None:
        manifest["spec"]["gang"] = True

    def nameless(manifest: Manifest) -> None:
        del container_of(manifest)["name"]

    for spoil in (misspelt, mistyped, unknown, nameless):
        manifest = copy.deepcopy(gang_manifest(gang()))
        spoil(manifest)
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(manifest, version, strict=True)


def test_older_versions_do_not_know_the_fields() -> None:
    with pytest.raises(kubernetes_validate.ValidationError, match="backoffLimitPerIndex"):
        kubernetes_validate.validate(gang_manifest(gang()), "1.27", strict=True)


# What schemas miss
def check_rules(manifest: Manifest, nodes: tuple[str, ...]) -> None:
    """Assert what an API server demands of an Indexed Job beyond its schema, and what a gang demands of it."""
    spec, pod, container = manifest["spec"], pod_of(manifest), container_of(manifest)
    name = manifest["metadata"]["name"]
    assert spec["completionMode"] == "Indexed"
    assert pod["restartPolicy"] == "Never"
    assert spec["completions"] == spec["parallelism"] == len(nodes)
    assert spec["backoffLimitPerIndex"] == 0
    assert spec["backoffLimit"] > 10 * MAX_NODES
    assert "maxFailedIndexes" not in spec
    assert spec["podReplacementPolicy"] == "Failed"
    assert len(f"{name}-{len(nodes) - 1}") <= 63
    assert LABEL.fullmatch(name)
    labels = spec["template"]["metadata"]["labels"]
    (against,) = pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert against["topologyKey"] == "kubernetes.io/hostname"
    chosen = against["labelSelector"]["matchLabels"]
    assert chosen.items() <= labels.items()
    assert chosen["app.kubernetes.io/instance"] == labels["app.kubernetes.io/instance"]
    required = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (term,) = required["nodeSelectorTerms"]
    (where,) = term["matchExpressions"]
    assert (where["key"], where["operator"]) == ("kubernetes.io/hostname", "In")
    assert sorted(where["values"]) == sorted(nodes)
    limits, requests = container["resources"].get("limits", {}), container["resources"].get("requests", {})
    for resource, amount in limits.items():
        assert "/" in resource
        assert requests[resource] == amount
        assert int(amount) >= 1
    assert {one for one in requests if "/" in one} == set(limits)
    volumes = [volume["name"] for volume in pod["volumes"]]
    mounts = [mount["name"] for mount in container["volumeMounts"]]
    paths = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert sorted(volumes) == sorted(mounts)
    assert len({*volumes}) == len(volumes)
    assert len({*paths}) == len(paths)


def test_a_gang_is_an_indexed_job() -> None:
    one = gang()
    manifest = gang_manifest(one)
    check_rules(manifest, one.nodes)
    assert manifest["metadata"]["name"] == "c1-smart"
    assert manifest["spec"]["activeDeadlineSeconds"] == one.time_limit_s
    assert "namespace" not in manifest["metadata"]
    container, pod = container_of(manifest), pod_of(manifest)
    assert container["command"] == ["petaseal"]
    assert container["args"] == ["campaign", "join", str(DIR)]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "8"}
    (node,) = [variable for variable in container["env"] if variable["name"] == "PETASEAL_NODE"]
    assert node["valueFrom"]["fieldRef"]["fieldPath"] == "spec.nodeName"
    assert {"name": "campaign", "mountPath": "/lustre/campaigns"} in container["volumeMounts"]
    assert {"name": "machine-id", "mountPath": "/etc/machine-id", "readOnly": True} in container["volumeMounts"]
    assert {"key": "nvidia.com/gpu", "operator": "Exists"} in pod["tolerations"]
    unreachable = [one for one in pod["tolerations"] if one["key"] == "node.kubernetes.io/unreachable"]
    assert [one.get("tolerationSeconds") for one in unreachable] == [None]


def test_a_pod_may_do_little() -> None:
    for manifest in (gang_manifest(gang()), coordinator_manifest("c1", COORDINATE, DIR, 60, FEW)):
        container, pod = container_of(manifest), pod_of(manifest)
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        writable = [m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")]
        assert writable == ["/lustre/campaigns", "/tmp", "/var/lib/petaseal"]


def test_options_reach_the_pod() -> None:
    manifest = gang_manifest(gang(options=ALL, partition="pool=a800"))
    check_rules(manifest, gang().nodes)
    container, pod = container_of(manifest), pod_of(manifest)
    assert manifest["metadata"]["namespace"] == "hpc"
    assert manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "hpc"
    assert pod["nodeSelector"] == {"pool": "a800", "host-arch": "huawei-arm", "kubernetes.io/arch": "arm64"}
    assert pod["securityContext"]["runAsUser"] == 1000
    assert pod["securityContext"]["supplementalGroups"] == [44, 109]
    assert pod["securityContext"]["seccompProfile"] == {"type": "Unconfined"}
    assert pod["schedulerName"] == "volcano"
    assert pod["runtimeClassName"] == "nvidia"
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["tolerations"][:2] == [
        {"key": "dedicated", "operator": "Equal", "value": "hpc", "effect": "NoSchedule"},
        {"key": "maintenance", "operator": "Exists", "effect": "NoExecute"},
    ]
    assert {"name": "state", "hostPath": {"path": "/var/lib/petaseal", "type": "Directory"}} in pod["volumes"]
    assert container["command"] == ["/opt/petaseal/bin/petaseal"]
    assert container["resources"]["requests"] == {"cpu": "64", "memory": "512Gi", "nvidia.com/gpu": "8"}
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "8"}


def test_root_is_only_given_when_asked_for() -> None:
    manifest = gang_manifest(gang(options=(*FEW, "user=0:0")))
    assert pod_of(manifest)["securityContext"]["runAsNonRoot"] is False


def test_the_coordinator_is_one_pod_without_accelerators() -> None:
    manifest = coordinator_manifest("c1 (autumn)", COORDINATE, DIR / "logs", 9000, ALL)
    spec, pod, container = manifest["spec"], pod_of(manifest), container_of(manifest)
    assert spec["completions"] == spec["parallelism"] == 1
    assert "completionMode" not in spec
    assert pod["restartPolicy"] == "Never"
    assert "affinity" not in pod
    assert "limits" not in container["resources"]
    assert container["args"] == ["campaign", "coordinate", str(DIR)]
    assert spec["activeDeadlineSeconds"] == 9000
    assert [rule["action"] for rule in spec["podFailurePolicy"]["rules"]] == ["Ignore"]
    assert "machine-id" not in {volume["name"] for volume in pod["volumes"]}


# Names
@settings(deadline=None)
@given(st.text(max_size=120))
def test_any_name_becomes_a_label(name: str) -> None:
    made = job_name(name)
    assert LABEL.fullmatch(made)
    assert len(made) <= MAX_NAME
    assert made == name or re.search(r"-[0-9a-f]{8}$", made)
    assert job_name(made) == made
    assert all(re.fullmatch(r"[\w.-]{1,63}", part.partition("=")[2]) for part in selector(name).split(","))


@settings(deadline=None)
@given(st.lists(st.text(max_size=70), unique=True, max_size=20))
def test_names_stay_apart(names: list[str]) -> None:
    assert len({job_name(name) for name in names}) == len(names)


HOSTS = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,18}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,18}[a-z0-9])?){0,2}", fullmatch=True)


@pytest.mark.long
@settings(deadline=None)
@given(
    nodes=st.lists(HOSTS.filter(lambda text: len(text) <= 63), unique=True, min_size=1, max_size=30),
    name=st.text(max_size=80),
    gres=st.none() | st.builds("{}:{}".format, st.sampled_from(WHOLE), st.integers(1, 64)),
    options=st.lists(st.sampled_from(ALL[3:]), unique_by=lambda text: text.partition("=")[0]),
    seconds=st.integers(1, 10**6),
)
def test_any_gang_keeps_the_rules(nodes: list[str], name: str, gres: str, options: list[str], seconds: int) -> None:
    one = gang(options=(*FEW, *options), gres=gres)._replace(nodes=tuple(nodes), name=name, time_limit_s=seconds)
    manifest = gang_manifest(one)
    check_rules(manifest, one.nodes)
    assert yaml.safe_load(to_yaml(manifest)) == manifest


def test_two_pools_have_two_jobs_and_selectors() -> None:
    one, other = gang(name="c1-smart"), gang(name="c1-super")
    assert gang_manifest(one)["metadata"]["name"] != gang_manifest(other)["metadata"]["name"]
    assert selector(one.name) != selector(other.name)


# What is refused
@pytest.mark.parametrize("missing", NEEDED)
def test_an_option_that_is_needed(missing: str) -> None:
    options = [text for text in FEW if not text.startswith(f"{missing}=")]
    assert missing in refused("option-missing", lambda: parse_options(options))


def test_all_options_that_are_needed_are_named_at_once() -> None:
    told = refused("option-missing", lambda: parse_options(["namespace=hpc"]))
    assert "needs the options image, claim, mount" in told
    assert told.count("--engine-option ") == len(NEEDED)


@pytest.mark.parametrize("text", ["account=hpc", "image", "", "=x", "Image=x", "namespaces=hpc"])
def test_an_option_that_there_is_not(text: str) -> None:
    refused("option-unknown", lambda: parse_options([*FEW, text]))


@pytest.mark.parametrize(
    "text",
    [
        "namespace=HPC",
        "namespace=a\n",
        "user=1000",
        "user=root:root",
        "group=video",
        "toleration=dedicated",
        "toleration=dedicated=hpc",
        "toleration=dedicated:Never",
        "toleration=:NoSchedule",
        "label=queue",
        "label=app.kubernetes.io/name=other",
        "scheduler=",
        "state=lib",
        "state=/var/../etc",
        "cpu=0",
        "cpu=many",
        "memory=512 GiB",
        "seccomp=none",
        "program=sh -c",
    ],
)
def test_an_option_of_another_form(text: str) -> None:
    told = refused("option-invalid", lambda: parse_options([*FEW, text]))
    assert "such as" in told


def test_an_option_given_twice() -> None:
    refused("option-invalid", lambda: parse_options([*FEW, "claim=other"]))


@pytest.mark.parametrize("mount", ["", "/", "/tmp", "/var/lib/petaseal", "lustre", "/lustre/", "/lu:stre", "/a/../b"])
def test_where_the_claim_cannot_be_mounted(mount: str) -> None:
    refused("option-invalid", lambda: parse_options([*FEW[:2], f"mount={mount}"]))


def test_every_example_is_accepted() -> None:
    for accepts, example in ACCEPT.values():
        assert accepts(example)


def test_a_campaign_that_no_pod_could_see() -> None:
    away = gang(log_dir=Path("/home/somebody/c1/logs"))
    assert "/lustre/campaigns" in refused("option-invalid", lambda: gang_manifest(away))
    refused("option-invalid", lambda: gang_manifest(gang(log_dir=Path("/lustre/campaigns/../c1"))))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"nodes": ()}, "no node"),
        ({"nodes": ("a", "a")}, "twice"),
        ({"nodes": ("gpu_1",)}, "gpu_1"),
        ({"nodes": ("a" * 64,)}, "no host name"),
        ({"nodes": tuple(f"n{index}" for index in range(MAX_NODES + 1))}, "more than"),
        ({"reservation": "maint"}, "toleration"),
        ({"time_limit_s": 0}, "no time"),
        ({"command": ("petaseal",)}, "no command"),
    ],
)
def test_a_gang_that_cannot_be(changes: dict[str, Any], told: str) -> None:
    assert told in refused("gang-invalid", lambda: gang_manifest(gang()._replace(**changes)))


@pytest.mark.parametrize("gres", ["gpu:8", "nvidia.com/gpu", "nvidia.com/gpu:0", "nvidia.com/gpu:eight", "cpu:8", ":8"])
def test_a_device_resource_of_another_form(gres: str) -> None:
    refused("gres-invalid", lambda: parse_gres(gres))


@pytest.mark.parametrize("resource", [one.resource for one in known().resources if one.counts == "slice"])
def test_shares_of_devices_are_refused(resource: str) -> None:
    assert "shares" in refused("gres-invalid", lambda: parse_gres(f"{resource}:8"))


def test_a_resource_that_is_not_in_the_table_is_used_as_given() -> None:
    assert parse_gres("example.com/npu:16") == ("example.com/npu", 16)


def test_the_table_of_resources() -> None:
    names = [one.resource for one in known().resources]
    assert len(set(names)) == len(names)
    assert all(one.source for one in known().resources)
    vendors = {one.vendor for one in known().vendors if any(name.counts == "device" for name in one.resources)}
    assert vendors >= {"NVIDIA", "AMD", "Huawei", "Cambricon", "Hygon", "Moore Threads", "MetaX", "Iluvatar CoreX"}


# What a cluster tells
def node(name: str, gres: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    """Return a node as ``kubectl get nodes -o json`` shows it, shortened."""
    amounts = {"cpu": "128", "ephemeral-storage": "1Ti", "memory": "2113407640Ki", "pods": "110", **(gres or {})}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "uid": "0a1b",
            "annotations": {"node.alpha.kubernetes.io/ttl": "0"},
            "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"} | more.get("labels", {}),
        },
        "spec": {"podCIDR": "10.244.1.0/24", **more.get("spec", {})},
        "status": {
            "addresses": [{"address": "10.0.0.5", "type": "InternalIP"}],
            "allocatable": amounts | more.get("allocatable", {}),
            "capacity": amounts,
            "conditions": more.get(
                "conditions",
                [
                    {"type": "MemoryPressure", "status": "False", "reason": "KubeletHasSufficientMemory"},
                    {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting"},
                ],
            ),
            "nodeInfo": {"kubeletVersion": "v1.31.2", "architecture": "amd64"},
        },
    }


LOST = [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "message": "Kubelet stopped posting."}]
EIGHT = {"nvidia.com/gpu": "8"}
ZONE, RACK = "topology.kubernetes.io/zone", "topology.kubernetes.io/rack"
TAINTED = [
    {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"},
    {"key": "old", "effect": "PreferNoSchedule"},
]
CORDONED = {"unschedulable": True, "taints": [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]}
CLUSTER = [
    node("gpu-b", EIGHT, labels={RACK: "r7", ZONE: "z1", "pool": "a"}),
    node("gpu-a", EIGHT, labels={ZONE: "z1", "pool": "a"}, spec={"taints": TAINTED}),
    node("gpu-c", EIGHT, spec=CORDONED),
    node("gpu-d", EIGHT, conditions=LOST),
    node("gpu-e", EIGHT, spec={"taints": [{"key": "dedicated", "value": "hpc", "effect": "NoSchedule"}]}),
    node("gpu-f", EIGHT, allocatable={"nvidia.com/gpu": "6"}),
    node("npu-a", {"huawei.com/Ascend910": "16"}),
    node("dcu-a", {"hygon.com/dcu": "0", "hygon.com/dcunum": "32"}),
    node("cpu-a"),
    node("cpu-b", labels={"kubernetes.io/hostname": "ip-10-0-0-9"}),
    node("cpu-c", conditions=[]),
]


def cluster() -> Nodes:
    return read(json.dumps({"apiVersion": "v1", "kind": "List", "items": CLUSTER}), Nodes)


def test_nodes_of_a_cluster() -> None:
    found = {one.name: one for one in engine_nodes(cluster().items, ())}
    assert list(found) == sorted(found)
    assert {name: one.problem for name, one in found.items()} == {
        "cpu-a": None,
        "cpu-b": "its label kubernetes.io/hostname is ip-10-0-0-9 and not its name",
        "cpu-c": "not ready",
        "dcu-a": "its device plug-in gives out shares of devices only (hygon.com/dcunum)",
        "gpu-a": None,
        "gpu-b": None,
        "gpu-c": "cordoned",
        "gpu-d": "not ready: Kubelet stopped posting.",
        "gpu-e": "tainted dedicated=hpc:NoSchedule",
        "gpu-f": "2 of 8 nvidia.com/gpu are not healthy",
        "npu-a": None,
    }
    assert found["gpu-a"].gres == "nvidia.com/gpu:8"
    assert found["gpu-f"].gres == "nvidia.com/gpu:6"
    assert found["npu-a"].gres == "huawei.com/Ascend910:16"
    assert found["cpu-a"].gres is None
    assert (found["gpu-a"].group, found["gpu-b"].group, found["npu-a"].group) == ("z1", "r7", None)
    assert {one.partition for one in found.values()} == {None}
    for one in found.values():
        if one.gres:
            parse_gres(one.gres)


def test_partitions_are_labels() -> None:
    assert [(one.name, one.partition) for one in engine_nodes(cluster().items, ("pool=a",))] == [
        ("gpu-a", "pool=a"),
        ("gpu-b", "pool=a"),
    ]
    refused("partition-unknown", lambda: engine_nodes(cluster().items, ("pool=a", "pool=b")))
    refused("partition-unknown", lambda: engine_nodes(cluster().items, ("a800",)))


@pytest.mark.parametrize(
    ("text", "tolerated"),
    [
        ("dedicated=hpc:NoSchedule", True),
        ("dedicated:NoSchedule", True),
        ("dedicated=other:NoSchedule", False),
        ("dedicated:NoExecute", False),
    ],
)
def test_a_taint_that_is_tolerated_is_no_problem(text: str, tolerated: bool) -> None:
    (found,) = [one for one in engine_nodes(cluster().items, (), parse_tolerations([text])) if one.name == "gpu-e"]
    assert (found.problem is None) is tolerated


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"items": [{"metadata": {}}]}', "not JSON", "[" * 100_000])
def test_what_is_not_kubectl_is_refused(text: str) -> None:
    refused("engine-failed", lambda: read(text, Nodes))


def test_a_node_of_one_name_only_is_read() -> None:
    assert read('{"metadata": {"name": "a"}}', Node).metadata.name == "a"


# kubectl's arguments and failures
SCRIPT = """#!/bin/sh
PATH=/usr/bin:/bin
here={folder}
printf '%s\\n' "$*" >> $here/calls
case " $* " in *" apply "*) cat >> $here/applied;; esac
kind=$(printf '%s' "$3" | tr ',' '-')
[ -f $here/$2-$kind.err ] && cat $here/$2-$kind.err >&2 && exit 1
[ -f $here/$2-$kind.out ] && cat $here/$2-$kind.out
exit 0
"""


class Kubectl:
    """A ``kubectl`` that notes its arguments and answers "get nodes" with ``get-nodes.out``, or ``.err`` and fails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "bin" / "kubectl"
        self.file.parent.mkdir()
        self.file.write_text(SCRIPT.format(folder=folder))
        self.file.chmod(0o755)
        self.answer("get-nodes.out", {"items": [node(name, EIGHT) for name in gang().nodes]})
        self.answer("get-jobs.out", {"items": []})

    def answer(self, name: str, content: object) -> None:
        text = content if isinstance(content, str) else json.dumps(content)
        (self.folder / name).write_text(text)

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [line.removeprefix("--request-timeout=60s ") for line in lines]


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kubectl:
    made = Kubectl(tmp_path)
    monkeypatch.setenv("PATH", str(made.file.parent))  # and no real one
    return made


def job_of(name: str, over: bool = False, **status: Any) -> dict[str, Any]:
    ended = [
        {"type": "FailureTarget", "status": "True"},
        {"type": "Failed", "status": "True", "reason": "FailedIndexes"},
    ]
    return {
        "metadata": {"name": name, "labels": {}},
        "spec": {"completions": 4, "parallelism": 4},
        "status": {**status, **({"conditions": ended} if over else {})},
    }


CHOSEN = "-l app.kubernetes.io/name=petaseal,app.kubernetes.io/instance=c1-smart"
APPLY = "apply --server-side --field-manager=petaseal -f -"


def test_submit(engine: Kubectl) -> None:
    KubernetesLauncher().submit(gang())
    assert engine.calls() == [f"get jobs {CHOSEN} -o json", "get nodes -o json", APPLY]
    assert (engine.folder / "applied").read_text() == "".join(KubernetesLauncher().describe(gang()))


def test_describe_asks_nobody(engine: Kubectl) -> None:
    KubernetesLauncher().describe(gang())
    assert engine.calls() == []


def test_the_namespace_reaches_every_call(engine: Kubectl) -> None:
    launcher, one = KubernetesLauncher(), gang(options=(*FEW, "namespace=hpc"))
    launcher.submit(one)
    launcher.state(one)
    launcher.cancel(one)
    calls = [line for line in engine.calls() if " nodes " not in line]
    assert len(calls) == 4
    assert all("-n hpc" in line for line in calls)


def test_submit_again(engine: Kubectl) -> None:
    engine.answer("get-jobs.out", {"items": [job_of("c1-smart", ready=4)]})
    refused("gang-exists", lambda: KubernetesLauncher().submit(gang()))
    assert all(not line.startswith(("apply", "delete")) for line in engine.calls())
    engine.answer("get-jobs.out", {"items": [job_of("c1-smart", over=True), job_of("c1-smart-r1", over=True)]})
    KubernetesLauncher().submit(gang())
    assert engine.calls()[2:] == ["delete jobs c1-smart c1-smart-r1 --ignore-not-found --timeout=60s", APPLY]


@pytest.mark.parametrize(
    ("nodes", "gres", "told"),
    [
        (CLUSTER[:1], "nvidia.com/gpu:8", "gpu-a: the cluster has no such node"),
        ([*CLUSTER[:1], node("gpu-a", EIGHT, spec={"unschedulable": True})], "nvidia.com/gpu:8", "gpu-a: cordoned"),
        (CLUSTER[:2], "nvidia.com/gpu:16", "has nvidia.com/gpu:8, and nvidia.com/gpu:16 is asked for"),
        (CLUSTER[:2], "amd.com/gpu:8", "has nvidia.com/gpu:8, and amd.com/gpu:8 is asked for"),
        ([*CLUSTER[:1], node("gpu-a")], "nvidia.com/gpu:8", "has no accelerator"),
    ],
)
def test_a_gang_that_could_never_start(engine: Kubectl, nodes: list[Any], gres: str, told: str) -> None:
    engine.answer("get-nodes.out", {"items": nodes})
    one = gang(gres=gres)._replace(nodes=("gpu-b", "gpu-a"))
    assert told in refused("node-unusable", lambda: KubernetesLauncher().submit(one))
    assert APPLY not in engine.calls()


def test_a_user_who_may_not_list_nodes(engine: Kubectl) -> None:
    engine.answer("get-nodes.err", 'Error from server (Forbidden): nodes is forbidden: User "op" cannot list "nodes"\n')
    launcher = KubernetesLauncher()
    assert "cannot list" in refused("engine-forbidden", lambda: launcher.discover(()))
    launcher.submit(gang())
    assert APPLY in engine.calls()
    engine.answer("get-jobs.out", {"items": [job_of("c1-smart", ready=4)]})
    assert launcher.state(gang()).lost == ()


def test_all_nodes_ready_needs_no_pods(engine: Kubectl) -> None:
    engine.answer("get-jobs.out", {"items": [job_of("c1-smart", active=4, ready=4)]})
    state = KubernetesLauncher().state(gang())
    assert (state.phase, state.reason, state.lost) == ("running", None, ())
    assert not [line for line in engine.calls() if " pods " in line]


def test_retry(engine: Kubectl) -> None:
    launcher, nodes = KubernetesLauncher(), gang().nodes[:2]
    refused("gang-over", lambda: launcher.retry(gang(), nodes))
    engine.answer("get-jobs.out", {"items": [job_of("c1-smart", ready=3), job_of("c1-smart-r1")]})
    head = "NAME   READY   STATUS   RESTARTS   AGE   IP   NODE   NOMINATED NODE   READINESS GATES"
    rows = [
        f"pod-{name}   0/1   {status}   0   2m   <none>   {name}   <none>   <none>"
        for name, status in zip(gang().nodes, ("Running", "Error") * 2, strict=True)
    ]
    engine.answer("get-pods.out", "\n".join([head, *rows]))
    engine.calls()
    launcher.retry(gang(), nodes)
    applied, deleted = engine.calls()[-2:]
    assert deleted == "delete pods pod-gpu-0000.hall-b --ignore-not-found --wait=false"
    assert applied == APPLY
    manifest = yaml.safe_load((engine.folder / "applied").read_text())
    check_rules(manifest, nodes)
    assert manifest["metadata"]["name"] == "c1-smart-r2"
    labels = gang_manifest(gang())["spec"]["template"]["metadata"]["labels"]
    assert manifest["spec"]["template"]["metadata"]["labels"] == labels
    for version in (VERSIONS[0], VERSIONS[-1]):
        validate(manifest, version)


def test_cancel(engine: Kubectl) -> None:
    KubernetesLauncher().cancel(gang())
    assert engine.calls() == [f"delete jobs,pods {CHOSEN} --ignore-not-found --wait=false"]


def test_discover(engine: Kubectl) -> None:
    engine.answer("get-nodes.out", {"items": CLUSTER})
    found = KubernetesLauncher(["dedicated:NoSchedule"]).discover(())
    assert [one.name for one in found if one.problem is None] == ["cpu-a", "gpu-a", "gpu-b", "gpu-e", "npu-a"]


def test_the_coordinator_is_applied(engine: Kubectl) -> None:
    KubernetesLauncher().submit_coordinator("c1", COORDINATE, DIR / "logs", 9000, FEW)
    assert engine.calls()[1:] == [APPLY]  # after the question whether it is there and over
    assert yaml.safe_load((engine.folder / "applied").read_text())["metadata"]["name"] == "c1"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (
            "The connection to the server 10.0.0.1:6443 was refused - did you specify the right host or port?",
            "unreachable",
        ),
        ("error: failed to download openapi: Get: dial tcp 10.0.0.1:6443: connect: connection refused", "unreachable"),
        ("Unable to connect to the server: dial tcp 10.0.0.1:6443: i/o timeout", "unreachable"),
        (
            "E1122 memcache.go:265] attempt 1\nError from server (InternalError): etcdserver: leader changed",
            "unreachable",
        ),
        ('Error from server (Forbidden): jobs.batch is forbidden: User "op" cannot list', "forbidden"),
        ("error: You must be logged in to the server (Unauthorized)", "failed"),
        ('The Job "c1" is invalid: spec.template: Invalid value: field is immutable', "failed"),
        ("", "failed"),
    ],
)
def test_failures_are_one_sentence(engine: Kubectl, text: str, code: str) -> None:
    engine.answer("get-jobs.err", f"{text}\n\n")
    told = refused(f"engine-{code}", lambda: KubernetesLauncher().state(gang()))
    assert "\n" not in told
    assert text.rpartition("\n")[2][:200] in told
    assert "kubectl get jobs" in told


def test_kubectl_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "--dry-run" in refused("engine-missing", lambda: KubernetesLauncher().discover(()))
    assert KubernetesLauncher().describe(gang())


def test_kubectl_cannot_be_run(engine: Kubectl) -> None:
    engine.file.write_text("neither a script nor a program")
    refused("engine-failed", lambda: kubectl(("version",)))


REAL = shutil.which("kubectl")


def test_a_real_kubectl_understands_the_command_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cluster: every call must get as far as a server that is not there, and not fail for its arguments."""
    if REAL is None:
        assert not os.environ.get("CI"), "kubectl is not installed (Debian: kubernetes-client)"
        pytest.skip("kubectl is not installed")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        server = f"http://127.0.0.1:{closed.getsockname()[1]}"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "none", "cluster": {"server": server}}],
        "contexts": [{"name": "none", "context": {"cluster": "none", "user": ""}}],
        "current-context": "none",
    }
    (tmp_path / "config").write_text(json.dumps(config))
    for name in [name for name in os.environ if name.startswith("KUBE")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    launcher, one = KubernetesLauncher(), gang(options=(*FEW, "namespace=hpc"))
    calls: list[Callable[[], object]] = [
        lambda: launcher.discover(()),
        lambda: launcher.state(one),
        lambda: launcher.cancel(one),
        lambda: launcher.submit_coordinator("c1", COORDINATE, DIR / "logs", 9000, FEW),
        lambda: kubectl(("delete", "jobs", "-n", "hpc", "a", "b", "--ignore-not-found", "--timeout=60s")),
        lambda: kubectl(("delete", "pods", "-n", "hpc", "a", "--ignore-not-found", "--wait=false")),
    ]
    for call in calls:
        refused("engine-unreachable", call)
