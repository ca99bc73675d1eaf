"""The pods of Kubernetes Jobs as plain values: what they may do, and what they see of the campaign and their host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.errors import InputError
from bench.launchers.kube_options import MACHINE, STATE_DIR, VENDORS, Options, pairs, parse_partition
from bench.launchers.kube_vendors import HostPath, Vendor

Manifest = dict[str, Any]
GRACE_S = 10  # from SIGTERM to SIGKILL


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
        "env": [
            {"name": name, "value": value}
            for name, value in {"HOME": "/tmp", "PETASEAL_STATE": STATE_DIR, **pairs(options.env)}.items()  # noqa: S108
        ],
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
    if options.pull_secret:
        spec["imagePullSecrets"] = [{"name": options.pull_secret}]
    return spec


def node_selector(labels: dict[str, str], partition: str | None) -> Manifest:
    """Return the labels that nodes must bear.

    Raises:
        InputError: the partition asks for another value of a label.
    """
    if partition:
        key, value = parse_partition(partition)
        if labels.get(key, value) != value:
            what = f"{key}={labels[key]} differs from the partition {partition}"
            raise InputError("option-invalid", what, where="node-selector")
        labels = {key: value, **labels}
    return {"nodeSelector": labels} if labels else {}


def mount_machine(spec: Manifest, options: Options) -> None:
    """Add what ties a pod to its host: the machine id, and the folder with the node's own key where there is one."""
    spec["volumes"].append({"name": "machine-id", "hostPath": {"path": MACHINE, "type": "File"}})
    mounts = spec["containers"][0]["volumeMounts"]
    mounts.append({"name": "machine-id", "mountPath": MACHINE, "readOnly": True})
    if options.state:
        (volume,) = [one for one in spec["volumes"] if one["name"] == "state"]
        del volume["emptyDir"]
        volume["hostPath"] = {"path": options.state, "type": "Directory"}


def host_paths(options: Options, vendor: Vendor | None) -> list[tuple[str, str | None]]:
    """Return the paths that pods see of their host, with the type of each where it is known.

    Raises:
        InputError: the vendor's paths are asked for, and the table lists none.
    """
    listed: tuple[HostPath, ...] = vendor.host_paths if vendor else ()
    if VENDORS in options.host_path and not listed:
        fix = "look up what the vendor's container runtime puts in, and give each as host-path=/PATH"
        what = f"no path is known that pods with {vendor.vendor if vendor else 'these'} devices need from their host"
        raise InputError("option-invalid", what, where="host-path", fix=fix)
    found: dict[str, str | None] = {path: None for path in options.host_path if path != VENDORS}
    if VENDORS in options.host_path:
        found |= {one.path: one.type for one in listed}
    if options.mount in found:
        raise InputError("option-invalid", f"{options.mount} is where the claim is mounted", where="host-path")
    return sorted(found.items())


def mount_host_paths(spec: Manifest, paths: Sequence[tuple[str, str | None]]) -> None:
    """Add what a pod sees of its host, read-only at the same path."""
    for index, (path, kind) in enumerate(paths):
        name = f"host-{index}"
        spec["volumes"].append({"name": name, "hostPath": {"path": path, **({"type": kind} if kind else {})}})
        mount = {"name": name, "mountPath": path, "readOnly": True}
        spec["containers"][0]["volumeMounts"].append(mount)
