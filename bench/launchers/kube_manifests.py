"""The Kubernetes manifests of a campaign as plain values: an Indexed Job for a gang, a Job for its coordinator.

Pure: nothing here asks a cluster or starts a process. Fields and their Kubernetes versions: ``docs/kubernetes.md``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec

from bench.errors import InputError
from bench.launchers.base import Gang
from bench.launchers.kube_options import (
    KEY,
    LABEL,
    LABELS,
    STATE_DIR,
    SUBDOMAIN,
    VALUE,
    Options,
    is_label,
    parse_options,
    parse_tolerations,
)
from bench.record.configs import config_path, read_yaml

Manifest = dict[str, Any]
MAX_NODES = 5000  # what Kubernetes supports in one cluster
MAX_NAME = 50  # of 63: a pod's name adds "-INDEX" (5), a retry's adds "-rN"
GRACE_S = 10  # from SIGTERM to SIGKILL
KEEP_S = 7 * 86400  # a Job that ended is kept so long, so that its state can still be asked for
HOSTNAME = "kubernetes.io/hostname"


class Resource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An accelerator as a device plug-in reports it; ``configs/kubernetes/resources.yaml`` tells of each field."""

    resource: str
    vendor: str
    device: str
    counts: Literal["device", "slice"]
    basis: Literal["vendor", "third-party"]
    source: str
    note: str | None = None


class Known(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of device plug-ins and of labels."""

    resources: tuple[Resource, ...]
    topology_labels: tuple[str, ...]


@cache
def known() -> Known:
    """Return the table of device plug-ins."""
    return read_yaml(config_path("kubernetes", "resources.yaml"), Known)


def job_name(name: str) -> str:
    """Return a name for Kubernetes: itself where that is one, else what is left of it with 8 digits of its SHA-256."""
    if LABEL.fullmatch(name) and len(name) <= MAX_NAME:
        return name
    left = re.sub(r"[^a-z0-9]+", "-", name.lower())[: MAX_NAME - 9].strip("-") or "petaseal"
    return f"{left}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def selector(name: str) -> str:
    """Return the label selector of all that belongs to a gang: its Job, its retries and their pods."""
    return f"{LABELS}name=petaseal,{LABELS}instance={job_name(name)}"


def parse_gres(gres: str) -> tuple[str, int]:
    """Return a device resource and how many of it each node has.

    Args:
        gres: such as "nvidia.com/gpu:8".

    Raises:
        InputError: it has another form, or counts shares of devices.
    """
    name, _, count = gres.rpartition(":")
    domain, slash, _ = name.partition("/")
    if (
        not slash
        or not KEY.fullmatch(name)
        or domain.endswith("kubernetes.io")
        or not re.fullmatch(r"[1-9]\d{0,3}", count)
    ):
        fix = "name the device plug-in's resource and its count on a node, such as nvidia.com/gpu:8"
        raise InputError("gres-invalid", "is no device resource of Kubernetes", where=gres, fix=fix)
    if any(one.resource == name and one.counts == "slice" for one in known().resources):
        fix = "set the device plug-in so that it gives out whole devices"
        raise InputError("gres-invalid", "counts shares of devices, not devices", where=gres, fix=fix)
    return name, int(count)


def parse_partition(partition: str) -> tuple[str, str]:
    """Return the node label that stands for a partition, which Kubernetes does not have.

    Args:
        partition: such as "pool=a800".

    Raises:
        InputError: it has another form.
    """
    if not is_label(partition):
        fix = "give a label of the nodes, such as pool=a800"
        raise InputError("partition-unknown", "is no label of Kubernetes nodes", where=partition, fix=fix)
    key, _, value = partition.partition("=")
    return key, value


def gang_manifest(gang: Gang, name: str | None = None) -> Manifest:
    """Return the Indexed Job of a gang: one pod on each of its nodes, none of which ends the others.

    Args:
        gang: what to run where.
        name: of the Job (a retry has one of its own); the gang's without it.

    Raises:
        InputError: something of the gang is not possible on Kubernetes.
    """
    options = parse_options(gang.options)
    check_gang(gang, options)
    labels = {f"{LABELS}name": "petaseal", f"{LABELS}instance": job_name(gang.name), f"{LABELS}component": "node"}
    device, count = parse_gres(gang.gres) if gang.gres else (None, 0)
    needs = {name: value for name, value in (("cpu", options.cpu), ("memory", options.memory)) if value}
    # An extended resource is never overcommitted: requests and limits are the same number.
    limits = {device: str(count)} if device else {}
    spec = pod(options, gang.command, needs | limits, limits)
    container = spec["containers"][0]
    container["env"].insert(0, {"name": "PETASEAL_NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}})
    mount_machine(spec, options)
    spec["affinity"] = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": sorted(gang.nodes)}]}
                ]
            }
        },
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"labelSelector": {"matchLabels": labels}, "topologyKey": HOSTNAME}
            ]
        },
    }
    if gang.partition:
        key, value = parse_partition(gang.partition)
        spec["nodeSelector"] = {key: value}
    spec["tolerations"] = [one.manifest() for one in parse_tolerations(options.toleration)]
    if device:
        spec["tolerations"].append({"key": device, "operator": "Exists"})  # the usual taint of nodes with accelerators
    spec["tolerations"] += [
        # A node that the cluster loses sight of goes on measuring: its record is what counts.
        {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute"}
        for key in ("not-ready", "unreachable")
    ]
    body = {
        "completionMode": "Indexed",
        "completions": len(gang.nodes),
        "parallelism": len(gang.nodes),
        # A pod that fails costs its own index and nothing else. Where a cluster of 1.28 drops the first and the
        # third field, the second one keeps the others alive.
        "backoffLimitPerIndex": 0,
        "backoffLimit": 2**31 - 1,
        "podReplacementPolicy": "Failed",
        "activeDeadlineSeconds": gang.time_limit_s,
    }
    return job(name or job_name(gang.name), labels, options, body, spec)


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
    spec = pod(parsed, command, {"cpu": "1", "memory": "1Gi"}, {})
    spec["tolerations"] = [one.manifest() for one in parse_tolerations(parsed.toleration)]
    body = {
        "completions": 1,
        "parallelism": 1,
        "backoffLimit": 3,
        # Rules on exit codes are left out: the published schemas of some versions refuse a rule without conditions.
        "podFailurePolicy": {
            "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
        },
        "podReplacementPolicy": "Failed",  # never two coordinators at once
        "activeDeadlineSeconds": time_limit_s,
    }
    return job(job_name(name), labels, parsed, body, spec)


def job(name: str, labels: dict[str, str], options: Options, body: Manifest, spec: Manifest) -> Manifest:
    """Return a Job.

    Args:
        name: of the Job.
        labels: of the Job and its pods.
        options: the operator's.
        body: what is the Job's own.
        spec: of its pods.
    """
    marked = {**dict(text.split("=", 1) for text in options.label), **labels}
    place = {"namespace": options.namespace} if options.namespace else {}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, **place, "labels": dict(marked)},
        "spec": {
            **body,
            "ttlSecondsAfterFinished": KEEP_S,
            "template": {"metadata": {"labels": dict(marked)}, "spec": spec},
        },
    }


def pod(options: Options, command: Sequence[str], requests: dict[str, str], limits: dict[str, str]) -> Manifest:
    """Return the specification of a pod that sees the campaign's folder and may do as little as measuring allows."""
    rights: Manifest = {"runAsNonRoot": True, "seccompProfile": {"type": options.seccomp}}
    if options.user:
        user, _, group = options.user.partition(":")
        rights |= {"runAsNonRoot": int(user) != 0, "runAsUser": int(user), "runAsGroup": int(group)}
    if options.group:
        rights["supplementalGroups"] = [int(group) for group in options.group]
    container: Manifest = {
        "name": "petaseal",
        "image": options.image,
        "imagePullPolicy": "IfNotPresent",
        "command": [options.program],
        "args": list(command[1:]),
        "env": [{"name": "HOME", "value": "/tmp"}, {"name": "PETASEAL_STATE", "value": STATE_DIR}],  # noqa: S108
        "resources": {key: dict(value) for key, value in (("requests", requests), ("limits", limits)) if value},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "campaign", "mountPath": options.mount},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
            {"name": "state", "mountPath": STATE_DIR},
        ],
    }
    spec: Manifest = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": rights,
        "containers": [container],
        "volumes": [
            {"name": "campaign", "persistentVolumeClaim": {"claimName": options.claim}},
            {"name": "tmp", "emptyDir": {}},
            {"name": "state", "emptyDir": {}},
        ],
    }
    if options.scheduler:
        spec["schedulerName"] = options.scheduler
    if options.runtime_class:
        spec["runtimeClassName"] = options.runtime_class
    if options.pull_secret:
        spec["imagePullSecrets"] = [{"name": options.pull_secret}]
    return spec


def mount_machine(spec: Manifest, options: Options) -> None:
    """Add what ties a pod to its host: the machine id, and the folder with the node's own key where there is one."""
    machine = "/etc/machine-id"
    spec["volumes"].append({"name": "machine-id", "hostPath": {"path": machine, "type": "File"}})
    mounts = spec["containers"][0]["volumeMounts"]
    mounts.append({"name": "machine-id", "mountPath": machine, "readOnly": True})
    if options.state:
        (volume,) = [one for one in spec["volumes"] if one["name"] == "state"]
        del volume["emptyDir"]
        volume["hostPath"] = {"path": options.state, "type": "Directory"}


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


def to_yaml(manifest: Manifest) -> str:
    """Return a manifest as one document of a YAML stream, as ``kubectl apply -f`` reads it."""
    import yaml

    return "---\n" + str(yaml.safe_dump(manifest, sort_keys=False, width=1000))
