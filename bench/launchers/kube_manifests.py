"""The Kubernetes manifests of a campaign: an Indexed Job for a gang, a Job for its coordinator, and their values.

Pure: nothing here asks a cluster or starts a process. Fields and their Kubernetes versions: ``docs/kubernetes.md``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from bench.errors import InputError, one_line
from bench.launchers.base import Gang
from bench.launchers.kube_options import LABEL, LABELS, STATE_DIR, SUBDOMAIN, VALUE, Options, pairs, parse_options
from bench.launchers.kube_pods import Manifest, host_values, manifest_of, node_selector, pod_values
from bench.launchers.kube_vendors import parse_gres, vendor_of

MAX_NODES = 5000  # what Kubernetes supports in one cluster
JOB_NODES = 500  # every pod lists its Job's nodes: 75 MB for 5000 nodes, which in one Job would be ten times that
MAX_NAME = 50  # of 63: a pod's name adds "-INDEX" (4), the Jobs of a large gang add "-pN" (4), a retry "-rN" (4)
HOSTNAME = "kubernetes.io/hostname"
IMAGE_LABELS = ("kubernetes.io/arch", "kubernetes.io/os")  # what the image demands of a node, the coordinator's too
MIN_MEMBER = "scheduling.volcano.sh/group-min-member"
SCHEDULE_POLICY = "huawei.com/schedule_policy"
DEVICE_CORES, DEVICE_GIB = 2, 4  # a worker a device: one thread feeds it, one reads and checks; torch and host operands


def job_name(name: str) -> str:
    """Return a name for Kubernetes: itself where that is one, else what is left of it with 8 digits of its SHA-256."""
    if LABEL.fullmatch(name) and len(name) <= MAX_NAME:
        return name
    left = re.sub(r"[^a-z0-9]+", "-", name.lower())[: MAX_NAME - 9].strip("-") or "petaseal"
    return f"{left}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def selector(name: str) -> str:
    """Return the label selector of all that belongs to a gang: its Job, its retries and their pods."""
    return f"{LABELS}name=petaseal,{LABELS}instance={job_name(name)}"


def gang_jobs(gang: Gang, name: str | None = None) -> dict[str, tuple[str, ...]]:
    """Return the names of a gang's Jobs, with the nodes of each: as few Jobs as 500 nodes a Job allow, alike in size.

    Args:
        gang: what to run where; the same gang is always divided alike.
        name: of the only Job (a retry has one of its own), the beginning of several; the gang's without it.
    """
    name, nodes = name or job_name(gang.name), sorted(gang.nodes)
    count = -(-len(nodes) // JOB_NODES)
    if count < 2:
        return {name: tuple(nodes)}
    ends = [len(nodes) * index // count for index in range(count + 1)]
    return {f"{name}-p{index + 1}": tuple(nodes[ends[index] : ends[index + 1]]) for index in range(count)}


def gang_manifests(gang: Gang, name: str | None = None) -> list[Manifest]:
    """Return the Indexed Jobs of a gang: one pod on each of its nodes, none of which ends the others.

    Args:
        gang: what to run where.
        name: as of `gang_jobs`.

    Raises:
        InputError: something of the gang is not possible on Kubernetes.
    """
    options = parse_options(gang.options)
    check_gang(gang, options)
    return [gang_job(gang, options, name, nodes) for name, nodes in gang_jobs(gang, name).items()]


def gang_job(gang: Gang, options: Options, name: str, nodes: Sequence[str]) -> Manifest:
    """Return one Job of a gang.

    Args:
        gang: what to run where.
        options: the operator's.
        name: of the Job.
        nodes: on which it has a pod each; no other Job of the gang has one there.
    """
    labels = {f"{LABELS}name": "petaseal", f"{LABELS}instance": job_name(gang.name), f"{LABELS}component": "node"}
    device, count = parse_gres(gang.gres) if gang.gres else (None, 0)
    vendor = vendor_of(device) if device else None
    needs = {"cpu": options.cpu or str(DEVICE_CORES * max(1, count))}
    needs["memory"] = options.memory or f"{DEVICE_GIB * (count + 1)}Gi"
    # An extended resource is never overcommitted: requests and limits are the same number.
    limits = {device: str(count)} if device else {}
    groups = options.group or (tuple(str(number) for number in vendor.default_groups()) if vendor else ())
    values = {
        **pod_values(options._replace(group=groups), gang.command),
        **job_values(name, labels, options, gang_size(options, len(nodes))),
        **host_values(options, vendor),
        "pods": len(nodes),
        "nodes": list(nodes),
        "gang_labels": labels,
        "time_limit_s": gang.time_limit_s,
        "requests": needs | limits,
        "limits": limits or None,
        "node_selector": node_selector(pairs(options.node_selector), gang.partition),
        # the usual taint of nodes with accelerators
        "device_toleration": [{"key": device, "operator": "Exists"}] if device else [],
    }
    return manifest_of("gang", values)


def gang_size(options: Options, pods: int) -> dict[str, str]:
    """Return the annotation that makes Volcano take a Job's pods for one gang; nothing for any other scheduler.

    Without it Volcano makes a gang of one of every Job. Its controller reads it from the pods' owner, so from the Job.

    Args:
        options: the operator's; their own number holds where a Job has so many pods.
        pods: of the Job.
    """
    given = pairs(options.annotation).get(MIN_MEMBER)
    if given is None and options.scheduler != "volcano":
        return {}
    if given is not None and not re.fullmatch(r"[1-9]\d{0,5}", given):
        raise InputError("option-invalid", f"{MIN_MEMBER} is no number of pods", where="annotation")
    return {MIN_MEMBER: str(min(pods, int(given or pods)))}


def remarks(gang: Gang) -> list[str]:
    """Return what an operator should look up before a gang is applied, as far as the table of vendors knows.

    Args:
        gang: what to run where; possible on Kubernetes.
    """
    options = parse_options(gang.options)
    vendor = vendor_of(parse_gres(gang.gres)[0]) if gang.gres else None
    if vendor is None:
        return []
    texts = [] if options.group else [vendor.group_remark()]
    if vendor.id == "huawei" and options.scheduler == "volcano" and SCHEDULE_POLICY not in pairs(options.annotation):
        texts.append(f"MindCluster's Volcano wants annotation={SCHEDULE_POLICY}=... by product, of 950 always")
    return [text for text in texts if text]


def coordinator_manifest(
    name: str, command: Sequence[str], log_dir: Path, time_limit_s: int, options: Sequence[str]
) -> Manifest:
    """Return the Job of a campaign's coordinator: one pod without accelerators, on any node.

    It is over when the coordinator ends with 0, or fails four times; a pod taken away by the cluster costs no attempt.

    Args:
        name: unique for the campaign.
        command: what it runs; its first word stands for petaseal.
        log_dir: a folder of the campaign.
        time_limit_s: after so many seconds it is ended.
        options: as a gang's.

    Raises:
        InputError: something of it is not possible on Kubernetes.
    """
    parsed = parse_options(options)
    check_job(command, log_dir, time_limit_s, parsed)
    labels = {f"{LABELS}name": "petaseal", f"{LABELS}instance": job_name(name), f"{LABELS}component": "coordinator"}
    chosen = {key: value for key, value in pairs(parsed.node_selector).items() if key in IMAGE_LABELS}
    values = {
        **pod_values(parsed, command),
        **job_values(job_name(name), labels, parsed, {}),
        "time_limit_s": time_limit_s,
        "node_selector": node_selector(chosen, None),
    }
    return manifest_of("coordinator", values)


def job_values(name: str, labels: dict[str, str], options: Options, annotations: dict[str, str]) -> Manifest:
    """Return the values of a Job itself.

    Args:
        name: of the Job.
        labels: of the Job and its pods.
        options: the operator's.
        annotations: of the Job alone, in addition to the operator's.
    """
    # Schedulers read some annotations from the Job and some from its pods.
    given = {key: value for key, value in pairs(options.annotation).items() if key != MIN_MEMBER}
    return {
        "name": name,
        "labels": {**pairs(options.label), **labels},
        "annotations": given | annotations or None,
        "pod_annotations": given or None,
    }


def check_gang(gang: Gang, options: Options) -> None:
    """Refuse a gang that Kubernetes could not run.

    Raises:
        InputError: it is empty or too large, a name is no host name, or it asks for what Kubernetes does not have.
    """
    check_job(gang.command, gang.log_dir, gang.time_limit_s, options)
    where = gang.name
    if not gang.nodes:
        raise InputError("gang-invalid", "has no node", where=where)
    if len(gang.nodes) > MAX_NODES:
        raise InputError("gang-invalid", f"has more than {MAX_NODES} nodes", where=where, fix="divide the pool")
    if len(set(gang.nodes)) != len(gang.nodes):
        raise InputError("gang-invalid", "names a node twice", where=where)
    for node in gang.nodes:
        if not (SUBDOMAIN.fullmatch(node) and VALUE.fullmatch(node)):
            raise InputError("gang-invalid", f"names {node!r}, which is no host name of Kubernetes", where=where)
    if gang.node_keys and not options.state:
        what = "the campaign names each node's key, and without the option state each pod makes a new one"
        fix = f"give a folder of the hosts that keeps it, such as state={STATE_DIR}"
        raise InputError("option-missing", what, where=where, fix=fix)
    if gang.reservation:
        fix = "taint the nodes and give the option toleration=KEY=VALUE:NoSchedule"
        raise InputError("gang-invalid", "names a reservation, which Kubernetes does not have", where=where, fix=fix)


def check_job(command: Sequence[str], log_dir: Path, time_limit_s: int, options: Options) -> None:
    """Refuse a command that no pod could run, and a campaign that no pod could see.

    Raises:
        InputError: there is no command or no time, or the folder is not below what the claim holds.
    """
    if len(command) < 2 or time_limit_s < 1:
        raise InputError("gang-invalid", "has no command or no time", where=" ".join(command))
    if not log_dir.is_relative_to(options.mount) or ".." in log_dir.parts:
        fix = "put the campaign there, or give another option mount=..."
        raise InputError("option-invalid", f"is not below {options.mount}, where the claim is", where=log_dir, fix=fix)


def to_yaml(manifest: Manifest, comments: Sequence[str] = ()) -> str:
    """Return a manifest as one document of a YAML stream, as ``kubectl apply -f`` reads it.

    Args:
        manifest: as plain values.
        comments: lines for people who read it.
    """
    import yaml

    header = "".join(f"# {one_line(text, 400)}\n" for text in comments)
    return "---\n" + header + str(yaml.safe_dump(manifest, sort_keys=False, width=1000))
