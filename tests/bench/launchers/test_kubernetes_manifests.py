"""Kubernetes manifests: how a large gang is divided into Jobs, and what an operator's options make of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.launchers.kube_cluster import Nodes, accelerator
from bench.launchers.kube_manifests import (
    JOB_NODES,
    MAX_NODES,
    MIN_MEMBER,
    SCHEDULE_POLICY,
    coordinator_manifest,
    gang_jobs,
    gang_manifests,
    job_name,
    selector,
    to_yaml,
)
from bench.launchers.kube_options import ACCEPT, LABEL, parse_options
from bench.launchers.kube_vendors import Fact, Vendor, known, parse_gres, vendor_of
from bench.launchers.kubernetes import KubernetesLauncher, read
from bench.record.configs import config_path
from tests.bench.launchers.test_kubernetes import (
    ALL,
    APPLY,
    COORDINATE,
    DIR,
    FEW,
    NEWEST,
    REAL,
    Kubectl,
    check_rules,
    engine,
    gang,
    job_of,
    node,
    pod_of,
    refused,
    validate,
)

__all__ = ["engine"]  # the fixture


# A gang of many nodes
@pytest.mark.parametrize(("nodes", "jobs"), [(1, 1), (500, 1), (501, 2), (1500, 3), (MAX_NODES, 10)])
def test_a_gang_is_divided_into_jobs_of_at_most_500_nodes(nodes: int, jobs: int) -> None:
    one = gang(nodes)
    divided = gang_jobs(one)
    assert len(divided) == jobs
    assert [name for names in divided.values() for name in names] == sorted(one.nodes)
    sizes = {len(names) for names in divided.values()}
    assert max(sizes) <= JOB_NODES
    assert max(sizes) - min(sizes) <= 1
    assert gang_jobs(one._replace(nodes=one.nodes[::-1])) == divided
    manifests = gang_manifests(one)
    assert [manifest["metadata"]["name"] for manifest in manifests] == list(divided)
    for manifest in manifests:
        check_rules(manifest, divided[manifest["metadata"]["name"]])
        labels = manifest["metadata"]["labels"]
        assert all(labels[key] == value for key, value in (pair.split("=") for pair in selector(one.name).split(",")))


def test_no_pod_lists_more_nodes_than_its_job_has() -> None:
    """Of 5,000 nodes with names of 25 letters each pod lists 500: 75 MB in all and not 750."""
    names = tuple(f"gpu-{index:04d}.row-b.hall-2.dc" for index in range(MAX_NODES))
    manifests = gang_manifests(gang()._replace(nodes=names))
    sizes = [len(yaml.safe_dump(pod_of(manifest), default_flow_style=True)) for manifest in manifests]
    assert max(sizes) < 20_000
    assert sum(sizes) * JOB_NODES < 100_000_000


def test_the_jobs_of_a_large_gang_are_one(engine: Kubectl) -> None:
    """Submitted with one call, and counted together; it has ended when all have."""
    launcher, one = KubernetesLauncher(), gang(1200)
    engine.answer("get-nodes.out", {"items": []})
    engine.answer("get-nodes.err", "Error from server (Forbidden): nodes is forbidden\n")
    launcher.submit(one)
    assert engine.calls()[-1] == APPLY
    names = [document["metadata"]["name"] for document in yaml.safe_load_all((engine.folder / "applied").read_text())]
    assert names == ["c1-smart-p1", "c1-smart-p2", "c1-smart-p3"]
    assert len(launcher.describe(one)) == 3

    def jobs(*states: dict[str, int | bool]) -> None:
        made = [
            job_of(name, bool(state.pop("over", False)), **state) for name, state in zip(names, states, strict=False)
        ]
        engine.answer("get-jobs.out", {"items": made})

    jobs({}, {}, {})
    assert launcher.state(one).phase == "queued"
    refused("gang-exists", lambda: launcher.submit(one))
    jobs({"over": True, "succeeded": 4}, {"ready": 3}, {})
    state = launcher.state(one)
    assert (state.phase, state.job_id) == ("running", "job/c1-smart-p1,job/c1-smart-p2,job/c1-smart-p3")
    jobs(*({"over": True, "succeeded": 3, "failed": index} for index in range(3)))
    ended = launcher.state(one)
    assert (ended.phase, ended.reason) == ("ended", "Failed (FailedIndexes): 9 succeeded, 3 failed")


def test_a_submission_that_was_cut_off_is_made_again(engine: Kubectl) -> None:
    """Where one Job of three is there, and none of its pods has begun, the gang is absent and submitted anew."""
    launcher, one = KubernetesLauncher(), gang(1200)
    engine.answer("get-nodes.err", "Error from server (Forbidden): nodes is forbidden\n")
    engine.answer("get-jobs.out", {"items": [job_of("c1-smart-p1", active=4)]})
    assert launcher.state(one).phase == "absent"
    launcher.submit(one)
    assert engine.calls()[-2:] == ["delete jobs c1-smart-p1 --ignore-not-found --timeout=60s", APPLY]
    engine.answer("get-jobs.out", {"items": [job_of("c1-smart-p1", active=4, ready=1)]})
    assert launcher.state(one).phase == "running"


def test_many_nodes_are_retried_as_several_jobs(engine: Kubectl) -> None:
    one = gang(1200)
    engine.answer("get-jobs.out", {"items": [job_of(name, ready=3) for name in gang_jobs(one)]})
    KubernetesLauncher().retry(one, one.nodes[:600])
    made = list(yaml.safe_load_all((engine.folder / "applied").read_text()))
    assert [manifest["metadata"]["name"] for manifest in made] == ["c1-smart-r3-p1", "c1-smart-r3-p2"]
    for manifest in made:
        check_rules(
            manifest, gang_jobs(one._replace(nodes=one.nodes[:600]), "c1-smart-r3")[manifest["metadata"]["name"]]
        )


def test_the_longest_names_are_names_of_pods() -> None:
    one = gang(MAX_NODES)._replace(name="petaseal-2026-11-30-" + 60 * "x")
    for name in gang_jobs(one, f"{job_name(one.name)}-r99"):
        assert LABEL.fullmatch(f"{name}-{JOB_NODES - 1}")


# Options
def test_annotations_reach_the_job_and_its_pods() -> None:
    given = (f"annotation={SCHEDULE_POLICY}=chip8-node8", "annotation=example.com/note=a b=c, 高")
    (manifest,) = gang_manifests(gang(gres="huawei.com/Ascend910:8", options=(*FEW, *given)))
    wanted = {SCHEDULE_POLICY: "chip8-node8", "example.com/note": "a b=c, 高"}
    assert manifest["metadata"]["annotations"] == manifest["spec"]["template"]["metadata"]["annotations"] == wanted
    assert "annotations" not in gang_manifests(gang())[0]["metadata"]


def test_variables_reach_the_container() -> None:
    for manifest in (
        *gang_manifests(gang(options=(*FEW, "env=A=b=c", "env=EMPTY="))),
        coordinator_manifest("c1", COORDINATE, DIR, 60, (*FEW, "env=A=b=c", "env=EMPTY=")),
    ):
        (container,) = pod_of(manifest)["containers"]
        assert container["env"][-2:] == [{"name": "A", "value": "b=c"}, {"name": "EMPTY", "value": ""}]
        assert {"name": "HOME", "value": "/tmp"} in container["env"]


def test_what_reads_like_the_template_is_text() -> None:
    """Values are put in after the template is parsed: neither YAML nor another placeholder can be smuggled in."""
    texts = ("$image", "null", 'x", y: {z: [1]} # ', "*labels", "- a: b")
    given = tuple(f"env=V{number}={text}" for number, text in enumerate(texts))
    notes = tuple(f"annotation=n{number}={text}" for number, text in enumerate(texts))
    for manifest in (
        *gang_manifests(gang(options=(*FEW, *given, *notes))),
        coordinator_manifest("c1", COORDINATE, DIR, 60, (*FEW, *given, *notes)),
    ):
        (container,) = pod_of(manifest)["containers"]
        assert [variable["value"] for variable in container["env"][-len(texts) :]] == list(texts)
        assert tuple(manifest["metadata"]["annotations"].values()) == texts
        assert yaml.safe_load(to_yaml(manifest)) == manifest


def test_the_template_says_the_same_of_each_kind_of_job() -> None:
    template = yaml.safe_load(config_path("kubernetes", "job.yaml").read_text())
    assert set(template) == {"job", "gang", "coordinator"}
    assert set(template["gang"]) <= set(template["coordinator"])  # what only a gang's Job has is null or [] there


def test_selectors_choose_the_nodes() -> None:
    options = (*FEW, "node-selector=host-arch=huawei-arm", "node-selector=kubernetes.io/arch=arm64")
    (manifest,) = gang_manifests(gang(options=options, partition="pool=a2"))
    assert pod_of(manifest)["nodeSelector"] == {
        "pool": "a2",
        "host-arch": "huawei-arm",
        "kubernetes.io/arch": "arm64",
    }
    coordinator = pod_of(coordinator_manifest("c1", COORDINATE, DIR, 60, options))
    assert coordinator["nodeSelector"] == {"kubernetes.io/arch": "arm64"}  # what the image demands, wherever it runs
    told = refused(
        "option-invalid", lambda: gang_manifests(gang(options=(*FEW, "node-selector=pool=b"), partition="pool=a2"))
    )
    assert "pool=b differs from the partition pool=a2" in told


def test_the_vendor_s_group_is_given_where_its_number_is_known() -> None:
    def groups(gres: str, *options: str) -> object:
        (manifest,) = gang_manifests(gang(gres=gres, options=(*FEW, *options)))
        return pod_of(manifest)["securityContext"].get("supplementalGroups")

    assert groups("huawei.com/npu:8") == groups("huawei.com/Ascend910B3:8") == [1000]
    assert groups("huawei.com/npu:8", "group=1001") == [1001]
    assert groups("nvidia.com/gpu:8") is None
    assert groups("amd.com/gpu:8") is None
    coordinator = coordinator_manifest("c1", COORDINATE, DIR, 60, FEW)
    assert "supplementalGroups" not in pod_of(coordinator)["securityContext"]


def test_a_dry_run_says_what_is_to_be_looked_up() -> None:
    def said(gres: str, *options: str) -> list[str]:
        (text,) = KubernetesLauncher().describe(gang(gres=gres, options=(*FEW, *options)))
        assert yaml.safe_load(text)["kind"] == "Job"
        return [line for line in text.splitlines() if line.startswith("#")]

    (line,) = said("amd.com/gpu:8")
    assert "belong to render, video" in line
    assert "ls -ln /dev/kfd /dev/dri/*" in line
    assert said("amd.com/gpu:8", "group=109", "group=44") == []
    assert "HwHiAiUser (1000 assumed)" in said("huawei.com/Ascend910:8")[0]
    assert "is not known" in said("metax-tech.com/gpu:8")[0]
    (policy,) = said("huawei.com/npu:8", "group=1000", "scheduler=volcano")
    assert f"annotation={SCHEDULE_POLICY}" in policy
    assert (
        said("huawei.com/npu:8", "group=1000", "scheduler=volcano", f"annotation={SCHEDULE_POLICY}=chip1-node8") == []
    )
    assert said("nvidia.com/gpu:8") == said("example.com/gpu:8") == []


def test_paths_of_the_host_where_there_is_no_vendor_s_runtime() -> None:
    options = (*FEW, "host-path=vendor", "host-path=/usr/lib64/liburma.so.0")
    (manifest,) = gang_manifests(gang(gres="huawei.com/npu:8", options=options))
    check_rules(manifest, gang().nodes)
    pod = pod_of(manifest)
    paths = {one["name"]: one["hostPath"] for one in pod["volumes"] if one["name"].startswith("host-")}
    mounts = {one["name"]: one for one in pod["containers"][0]["volumeMounts"] if one["name"].startswith("host-")}
    assert {paths[name]["path"] for name in paths} == {
        "/usr/local/Ascend/driver/lib64",
        "/usr/local/Ascend/driver/tools",
        "/usr/local/Ascend/driver/version.info",
        "/usr/local/dcmi",
        "/usr/local/bin/npu-smi",
        "/etc/ascend_install.info",
        "/usr/lib64/liburma.so.0",
    }
    for name, mount in mounts.items():
        assert mount == {"name": name, "mountPath": paths[name]["path"], "readOnly": True}
    assert {paths[name].get("type") for name in paths} == {"File", "Directory", None}
    assert not [one for one in pod_of(gang_manifests(gang())[0])["volumes"] if one["name"].startswith("host-")]
    assert not [
        one for one in pod_of(coordinator_manifest("c1", COORDINATE, DIR, 60, options))["volumes"] if "hostPath" in one
    ]


@pytest.mark.parametrize("gres", ["nvidia.com/gpu:8", "example.com/gpu:8", None])
def test_a_vendor_whose_paths_nobody_knows(gres: str | None) -> None:
    one = gang(gres=gres, options=(*FEW, "host-path=vendor"))
    assert "no path is known" in refused("option-invalid", lambda: gang_manifests(one))


def test_a_path_of_the_host_over_the_campaign() -> None:
    one = gang(options=(*FEW, "host-path=/lustre/campaigns"))
    assert "where the claim is" in refused("option-invalid", lambda: gang_manifests(one))


@pytest.mark.parametrize(
    ("gres", "cpu", "memory"),
    [("nvidia.com/gpu:8", "16", "36Gi"), ("huawei.com/Ascend910:16", "32", "68Gi"), (None, "2", "4Gi")],
)
def test_cores_and_memory_are_requested_and_never_limited(gres: str | None, cpu: str, memory: str) -> None:
    """A pod with devices alone is of the class BestEffort, which gets what the others leave."""
    (manifest,) = gang_manifests(gang(gres=gres))
    (container,) = pod_of(manifest)["containers"]
    requests = container["resources"]["requests"]
    assert (requests["cpu"], requests["memory"]) == (cpu, memory)
    assert not {"cpu", "memory"} & set(container["resources"].get("limits", {}))
    (manifest,) = gang_manifests(gang(gres=gres, options=(*FEW, "cpu=96", "memory=1Ti")))
    assert pod_of(manifest)["containers"][0]["resources"]["requests"].items() >= {"cpu": "96", "memory": "1Ti"}.items()


def test_the_coordinator_has_no_runtime_class() -> None:
    """A node without the handler, which need not have devices, would refuse it."""
    options = (*FEW, "runtime-class=ascend")
    assert pod_of(gang_manifests(gang(options=options))[0])["runtimeClassName"] == "ascend"
    assert "runtimeClassName" not in pod_of(coordinator_manifest("c1", COORDINATE, DIR, 60, options))


# Gangs
def test_volcano_is_told_how_large_each_job_is() -> None:
    """Without the annotation Volcano makes a gang of one of every Job."""
    sizes = [
        (manifest["metadata"]["annotations"][MIN_MEMBER], manifest["spec"]["completions"])
        for manifest in gang_manifests(gang(1001, options=(*FEW, "scheduler=volcano")))
    ]
    assert sizes == [("333", 333), ("334", 334), ("334", 334)]
    (manifest,) = gang_manifests(gang(options=(*FEW, "scheduler=volcano")))
    assert MIN_MEMBER not in manifest["spec"]["template"]["metadata"].get("annotations", {})
    for other in ("scheduler=hami-scheduler", "namespace=hpc"):
        assert "annotations" not in gang_manifests(gang(options=(*FEW, other)))[0]["metadata"]


def test_a_smaller_gang_may_be_asked_for() -> None:
    options = (*FEW, "scheduler=volcano", f"annotation={MIN_MEMBER}=3")
    assert gang_manifests(gang(4, options=options))[0]["metadata"]["annotations"] == {MIN_MEMBER: "3"}
    assert gang_manifests(gang(1, options=options))[0]["metadata"]["annotations"] == {MIN_MEMBER: "1"}  # as in a retry
    assert "annotations" not in coordinator_manifest("c1", COORDINATE, DIR, 60, options)["metadata"]
    wrong = gang(options=(*FEW, f"annotation={MIN_MEMBER}=all"))
    assert "no number" in refused("option-invalid", lambda: gang_manifests(wrong))


# The node's own key
def test_a_campaign_with_node_keys_demands_a_folder_for_them() -> None:
    told = refused("option-missing", lambda: gang_manifests(gang(node_keys=True)))
    assert "state=/var/lib/petaseal" in told
    (manifest,) = gang_manifests(gang(node_keys=True, options=(*FEW, "state=/var/lib/petaseal")))
    assert {"name": "state", "hostPath": {"path": "/var/lib/petaseal", "type": "Directory"}} in pod_of(manifest)[
        "volumes"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "annotation=key",
        "annotation=a b=c",
        "annotation=a=line\nline",
        f"annotation=a={'x' * 5000}",
        "env=A",
        "env=1A=b",
        "env=HOME=/root",
        "env=PETASEAL_NODE=other",
        "env=A=b\n",
        "node-selector=arch",
        "node-selector=a=b c",
        "host-path=lib",
        "host-path=/a/../b",
        "host-path=/etc/machine-id",
        "host-path=/",
    ],
)
def test_an_option_that_no_pod_could_have(text: str) -> None:
    refused("option-invalid", lambda: parse_options([*FEW, text]))


@pytest.mark.parametrize("name", ["annotation", "env", "node-selector", "label"])
def test_a_key_given_twice(name: str) -> None:
    assert "twice" in refused("option-invalid", lambda: parse_options([*FEW, f"{name}=a=1", f"{name}=a=2"]))
    parse_options([*FEW, f"{name}=a=1", f"{name}=a=1", f"{name}=b=2"])


# Names
@pytest.mark.parametrize(
    "resource",
    [
        "nvidia.com/mig-1g.5gb",
        "nvidia.com/gpu.partitioned.mig-3g.40gb",
        "nvidia.com/gpumem",
        "nvidia.com/gpucores",
        "volcano.sh/vgpu-number",
        "amd.com/dpx_nps1",
        "amd.com/qpx_nps4",
        "amd.com/cpx_nps2",
        "huawei.com/npu-core",
        "huawei.com/Ascend910-8c",
        "huawei.com/Ascend310P-4c.3cpu",
        "huawei.com/Ascend910B4-memory",
        "huawei.com/Ascend910B4-core",
        "cambricon.com/mlu370.smlu.vcore",
        "cambricon.com/mlu370.share",
        "cambricon.com/mlu370.mim-2m.8gb",
        "hygon.com/dcu-share-2",
        "mthreads.com/sgpu-memory",
        "iluvatar.ai/vgpu",
        "iluvatar.ai/BI-V150-vgpu",
        "enflame.com/drs-gcu",
        "enflame.com/vgcu",
        "birentech.com/1-8-gpu",
        "birentech.com/vgpu",
        "alibabacloud.com/ppu-share",
        "alibabacloud.com/ppu-core.percentage",
        "tencent.com/vcuda-core",
        "aliyun.com/gpu-mem",
        "deviceclass.resource.kubernetes.io/mig.nvidia.com",
    ],
)
def test_shares_are_refused_by_the_form_of_their_name(resource: str) -> None:
    assert resource not in {one.resource for one in known().resources}
    assert "shares" in refused("gres-invalid", lambda: parse_gres(f"{resource}:8"))
    told = node("a", {resource: "8"})
    found = read(json.dumps({"items": [told]}), Nodes).items[0]
    assert accelerator(found) == (None, f"its device plug-in gives out shares of devices only ({resource})")


@pytest.mark.parametrize(
    "resource",
    [
        *(one.resource for one in known().resources if one.counts == "device"),
        "cambricon.com/mlu590",
        "huawei.com/Ascend950",
        "iluvatar.com/corex-gpu",
        "deviceclass.resource.kubernetes.io/gpu.nvidia.com",
    ],
)
def test_whole_devices_are_none(resource: str) -> None:
    assert parse_gres(f"{resource}:8") == (resource, 8)
    assert vendor_of(resource) is not None


def test_what_is_shared_and_no_accelerator() -> None:
    found = read(json.dumps({"items": [node("a", {"rdma/hca_shared_devices": "63", "cpu": "64"})]}), Nodes).items[0]
    assert accelerator(found) == (None, None)


def test_names_of_today() -> None:
    assert {"huawei.com/npu", "alibabacloud.com/ppu", "enflame-tech.com/gcu"} <= {
        one.resource for one in known().resources
    }
    refused("gres-invalid", lambda: parse_gres("resource.kubernetes.io/gpu.nvidia.com:8"))


# The table of vendors, the page and the recipes
PAGE = (Path(__file__).parents[3] / "docs" / "kubernetes.md").read_text()
RECIPE = config_path("kubernetes", "Containerfile").read_text()


def names(vendor: Vendor) -> str:
    """Return a vendor's row in the page's table of names."""
    plugin = f"{fact(vendor.plugin)}{f' ({vendor.plugin.note})' if vendor.plugin.note else ''}"
    listed = [
        ", ".join(f"`{one.resource}` {one.basis}" for one in vendor.resources if one.counts == counts) or "-"
        for counts in ("device", "slice")
    ]
    return f"| {vendor.vendor} | {plugin} | {' | '.join(listed)} |"


def needs(vendor: Vendor) -> str:
    """Return a vendor's row in the page's table of what pods need."""
    groups = ", ".join(f"{one.name} {one.number or '?'} {one.basis}" for one in vendor.groups or ())
    groups = groups or ("none K" if vendor.groups == () else "?")
    paths = ", ".join(f"`{one.path}` {one.basis}" for one in vendor.host_paths)
    tool = f"{fact(vendor.tool)}{f' ({vendor.tool.note})' if vendor.tool.note else ''}"
    cells = (fact(vendor.runtime_class), f"{groups}: `{vendor.device_files}`", paths or "-", tool, fact(vendor.image))
    return f"| `{vendor.id}` | {' | '.join(cells)} |"


def fact(one: Fact | None) -> str:
    return f"{one.name} {one.basis}" if one else "-"


@pytest.mark.parametrize("vendor", known().vendors, ids=lambda vendor: vendor.id)
def test_the_page_has_the_table_s_rows(vendor: Vendor) -> None:
    assert names(vendor) in PAGE.splitlines()
    assert needs(vendor) in PAGE.splitlines()


@pytest.mark.parametrize("name", ACCEPT)
def test_the_page_names_every_option(name: str) -> None:
    assert re.search(rf"^\| .*`{name}`", PAGE, re.MULTILINE)


def test_the_page_says_what_was_never_run() -> None:
    assert "**They were never run on a cluster.**" in PAGE


def stage(vendor: str) -> str:
    found = re.search(rf"^FROM \$\{{BASE\}} AS {vendor}\n(.*?)(?=^FROM|^#|\Z)", RECIPE, re.MULTILINE | re.DOTALL)
    assert found, vendor
    return found[1]


def test_there_is_a_recipe_for_each_vendor() -> None:
    assert set(re.findall(r"^FROM \$\{BASE\} AS (\w+)$", RECIPE, re.MULTILINE)) == {one.id for one in known().vendors}
    for vendor in known().vendors:
        setup = re.findall(r"PETASEAL_SETUP=(\S+)", stage(vendor.id))
        assert setup == ([vendor.setup.name] if vendor.setup else [])
        for path in vendor.host_paths:
            if path.path in ("/opt/hyhal", "/opt/mxdriver", "/usr/local/Ascend/driver/lib64"):
                assert path.path in stage(vendor.id)  # what is mounted is looked for


def test_petaseal_in_the_image_reads_the_vendor_s_environment(tmp_path: Path) -> None:
    """The recipe's own line makes the program, which is run here as a pod would: without a login shell."""
    (line,) = re.findall(r"^RUN (printf .*?) \\\n && chmod", RECIPE, re.MULTILINE | re.DOTALL)
    program = tmp_path / "petaseal"
    real = tmp_path / "real"
    real.write_text('#!/bin/sh\necho "$LD_LIBRARY_PATH|$*"\n')
    real.chmod(0o755)
    line = line.replace("/usr/local/bin/petaseal", str(program)).replace("/opt/petaseal/bin/petaseal", str(real))
    subprocess.run(["/bin/sh", "-c", line], check=True)
    program.chmod(0o755)
    setup = tmp_path / "set_env.sh"
    setup.write_text('echo "toolkit: $#"\nexport LD_LIBRARY_PATH=/toolkit/lib64:$LD_LIBRARY_PATH\nfalse\n')

    def run(**environment: str) -> subprocess.CompletedProcess[str]:
        line = [str(program), "campaign", "join", "/a b"]
        return subprocess.run(line, env=environment, capture_output=True, text=True, check=False)

    plain = run(LD_LIBRARY_PATH="/driver")
    assert (plain.returncode, plain.stdout) == (0, "/driver|campaign join /a b\n")
    done = run(LD_LIBRARY_PATH="/driver", PETASEAL_SETUP=str(setup))
    assert (done.returncode, done.stdout) == (0, "/toolkit/lib64:/driver|campaign join /a b\n")
    assert done.stderr == "toolkit: 0\n"
    missing = run(PETASEAL_SETUP="/nowhere/set_env.sh")
    assert missing.returncode == 2
    assert "/nowhere/set_env.sh cannot be read" in missing.stderr


# What Kubernetes itself reads
def all_vendors() -> str:
    """Return the manifests of each vendor with few and with all options, of a large pool, and of coordinators."""
    launcher = KubernetesLauncher()
    text = "".join(launcher.describe(gang(1200, options=(*FEW, "scheduler=volcano"))))
    for vendor in known().vendors:
        first = next(one.resource for one in vendor.resources if one.counts == "device")
        paths = ("host-path=vendor",) if vendor.host_paths else ()
        many = (*(text for text in ALL if not text.startswith("group=")), *paths)
        for options in ((*FEW, *paths), many):
            text += "".join(launcher.describe(gang(gres=f"{first}:8", options=options, partition="pool=a")))
    for options in (FEW, ALL):
        text += "".join(launcher.describe_coordinator("c1", COORDINATE, DIR / "logs", 60, options))
    return text


@pytest.mark.parametrize("version", NEWEST)
def test_every_vendor_s_manifests_hold_against_the_newest_schemas(version: str) -> None:
    documents = list(yaml.safe_load_all(all_vendors()))
    assert len(documents) == 3 + 2 * len(known().vendors) + 2
    for document in documents:
        validate(document, version)


@pytest.mark.skipif(REAL is None and not os.environ.get("CI"), reason="kubectl is not installed")
def test_a_real_kubectl_reads_every_vendor_s_manifests(tmp_path: Path) -> None:
    """No server is asked: kubectl parses the stream, annotates each object and prints it."""
    assert REAL, "kubectl is not installed (Debian: kubernetes-client)"
    text = all_vendors()
    (tmp_path / "all.yaml").write_text(text)
    line = [REAL, "annotate", "--local", "-f", "all.yaml", "petaseal.io/read=yes", "-o", "json"]
    done = subprocess.run(line, cwd=tmp_path, env={"HOME": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    printed: list[Any] = []
    decoder, at = json.JSONDecoder(), 0
    while done.stdout[at:].strip():
        at = done.stdout.index("{", at)
        value, at = decoder.raw_decode(done.stdout, at)
        printed += value["items"] if value["kind"] == "List" else [value]
    sent = list(yaml.safe_load_all(text))
    assert len(printed) == len(sent)
    for one, other in zip(printed, sent, strict=True):
        assert one["metadata"]["annotations"].pop("petaseal.io/read") == "yes"
        other["metadata"].setdefault("annotations", {})
        assert one == other
