"""The template of Kubernetes Jobs, and the values of their pods: what they may do, and what they see of their host."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from bench.errors import InputError
from bench.launchers.kube_options import VENDORS, Options, pairs, parse_partition, parse_tolerations
from bench.launchers.kube_vendors import HostPath, Vendor
from bench.record.configs import config_path, read_yaml

Manifest = dict[str, Any]


def manifest_of(kind: Literal["gang", "coordinator"], values: Mapping[str, Any]) -> Manifest:
    """Return the Job that ``configs/kubernetes/job.yaml`` describes, as plain values.

    Values are put into the parsed document and never into its text, so that none can be read as YAML.

    Args:
        kind: of Job, a section of the template.
        values: by the names that the template has them under.
    """
    template = read_yaml(config_path("kubernetes", "job.yaml"), dict[str, Manifest])
    section = {name: _filled(value, values) for name, value in template[kind].items()}
    return dict(_filled(template["job"], {**values, **section}))


def _filled(part: Any, values: Mapping[str, Any]) -> Any:
    """Return a part of the template with the values in it; a field without a value is left out."""
    if isinstance(part, str) and part.startswith("$"):
        return copy.deepcopy(values[part[1:]])  # labels stand in several places, and YAML would join them by an alias
    if isinstance(part, dict):
        fields = {key: _filled(value, values) for key, value in part.items()}
        return {key: value for key, value in fields.items() if value is not None}
    if isinstance(part, list):
        entries: list[Any] = []
        for entry in part:
            value = _filled(entry, values)
            entries += value if isinstance(value, list) else [value]
        return entries
    return part


def pod_values(options: Options, command: Sequence[str]) -> Manifest:
    """Return the values of a pod that sees the campaign's folder and may do as little as measuring allows."""
    user, _, group = (options.user or "").partition(":")
    return {
        **options._asdict(),
        "pull_secrets": [{"name": options.pull_secret}] if options.pull_secret else None,
        "chosen_tolerations": [toleration.manifest() for toleration in parse_tolerations(options.toleration)],
        "non_root": not user or int(user) != 0,
        "user": int(user) if user else None,
        "group": int(group) if user else None,
        "groups": [int(number) for number in options.group] or None,
        "arguments": list(command[1:]),
        "variables": [{"name": name, "value": value} for name, value in pairs(options.env).items()],
    }


def host_values(options: Options, vendor: Vendor | None) -> Manifest:
    """Return the values of a pod's host folders: the one with the node's key, if any, and read-only paths.

    Raises:
        InputError: the vendor's paths are asked for, and the table lists none.
    """
    paths = [(f"host-{index}", *entry) for index, entry in enumerate(host_paths(options, vendor))]
    return {
        "state_in_pod": None if options.state else {},
        "state_on_host": {"path": options.state, "type": "Directory"} if options.state else None,
        "host_mounts": [{"name": name, "mountPath": path, "readOnly": True} for name, path, _ in paths],
        "host_volumes": [
            {"name": name, "hostPath": {"path": path, **({"type": kind} if kind else {})}} for name, path, kind in paths
        ],
    }


def node_selector(labels: dict[str, str], partition: str | None) -> dict[str, str] | None:
    """Return the labels that nodes must bear, None without any.

    Raises:
        InputError: the partition asks for another value of a label.
    """
    if partition:
        key, value = parse_partition(partition)
        if labels.get(key, value) != value:
            what = f"{key}={labels[key]} differs from the partition {partition}"
            raise InputError("option-invalid", what, where="node-selector")
        labels = {key: value, **labels}
    return labels or None


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
    paths: dict[str, str | None] = {path: None for path in options.host_path if path != VENDORS}
    if VENDORS in options.host_path:
        paths |= {one.path: one.type for one in listed}
    if options.mount in paths:
        raise InputError("option-invalid", f"{options.mount} is where the claim is mounted", where="host-path")
    return sorted(paths.items())
