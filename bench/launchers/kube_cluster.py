"""What a Kubernetes cluster tells of nodes, Jobs and pods, and what a campaign makes of it.

Pure: values of ``kubectl get -o json`` in, nodes and sentences out. The types take no more than is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from bench.errors import InputError, one_line
from bench.launchers.kube_manifests import HOSTNAME
from bench.launchers.kube_options import Toleration, parse_partition
from bench.launchers.kube_vendors import known, shares_device
from bench.record.roster import EngineNode

HARMLESS = "PreferNoSchedule"  # the effect of a taint that keeps nobody away


class Metadata(msgspec.Struct, frozen=True, rename="camel"):
    """Name and labels of an object."""

    name: str
    labels: dict[str, str] = {}
    creation_timestamp: str = ""


class Condition(msgspec.Struct, frozen=True, rename="camel"):
    """One thing that the cluster says of an object."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""


class Taint(msgspec.Struct, frozen=True):
    """What keeps pods away from a node."""

    key: str
    effect: str
    value: str = ""


class NodeSpec(msgspec.Struct, frozen=True):
    """How a node is to be used."""

    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()


class NodeStatus(msgspec.Struct, frozen=True):
    """What a node has, and how it is."""

    capacity: dict[str, str] = {}
    allocatable: dict[str, str] = {}
    conditions: tuple[Condition, ...] = ()


class Node(msgspec.Struct, frozen=True):
    """A node of the cluster."""

    metadata: Metadata
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class JobSpec(msgspec.Struct, frozen=True):
    """How many pods a Job has, and whether it may have them yet."""

    completions: int = 1
    suspend: bool = False


class JobStatus(msgspec.Struct, frozen=True):
    """How many of a Job's pods are how far."""

    active: int = 0
    ready: int = 0
    succeeded: int = 0
    failed: int = 0
    conditions: tuple[Condition, ...] = ()


class Job(msgspec.Struct, frozen=True):
    """A Job of the cluster."""

    metadata: Metadata
    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()


class Nodes(msgspec.Struct, frozen=True):
    """What ``kubectl get nodes -o json`` prints."""

    items: tuple[Node, ...]


class Jobs(msgspec.Struct, frozen=True):
    """What ``kubectl get jobs -o json`` prints."""

    items: tuple[Job, ...]


def accelerator(node: Node) -> tuple[str | None, str | None]:
    """Return a node's accelerators as "RESOURCE:COUNT", and what is wrong with them, if anything."""
    shares = None
    for one in known().resources:
        there, healthy = (
            devices(where.get(one.resource, "0")) for where in (node.status.capacity, node.status.allocatable)
        )
        if not there:
            continue
        if one.counts == "slice":
            shares = shares or f"its device plug-in gives out shares of devices only ({one.resource})"
            continue
        sick = f"{there - healthy} of {there} {one.resource} are not healthy" if healthy < there else None
        return (f"{one.resource}:{healthy}" if healthy else None), sick
    unlisted = sorted(name for name, count in node.status.capacity.items() if devices(count) and shares_device(name))
    if unlisted and not shares:
        shares = f"its device plug-in gives out shares of devices only ({unlisted[0]})"
    return None, shares


def is_ready(node: Node) -> bool:
    """Return whether the cluster hears from a node."""
    return any(one.type == "Ready" and one.status == "True" for one in node.status.conditions)


def devices(quantity: str) -> int:
    """Return a number of devices; 0 where it is no plain number."""
    return int(quantity) if quantity.isascii() and quantity.isdigit() else 0


def problem(node: Node, tolerated: Sequence[Toleration]) -> str | None:
    """Return why a node cannot take part, None where it can.

    Args:
        node: as the API server lists it.
        tolerated: taints that the gang's pods tolerate, in addition to those named after a device resource.
    """
    if not is_ready(node):
        reasons = [one.message or one.reason for one in node.status.conditions if one.type == "Ready"]
        return one_line(": ".join(["not ready", *filter(None, reasons)]), 120)
    if node.spec.unschedulable:
        return "cordoned"
    named = {one.resource for one in known().resources}
    for taint in node.spec.taints:
        if taint.effect != HARMLESS and taint.key not in named and not is_tolerated(taint, tolerated):
            text = f"{taint.key}={taint.value}" if taint.value else taint.key
            return f"tainted {text}:{taint.effect}"
    label = node.metadata.labels.get(HOSTNAME)
    if label != node.metadata.name:
        return f"its label {HOSTNAME} is {label or 'missing'} and not its name"
    return accelerator(node)[1]


def is_tolerated(taint: Taint, tolerated: Sequence[Toleration]) -> bool:
    """Return whether pods with these tolerations may run on a node with a taint."""
    return any(
        one.key == taint.key and one.effect == taint.effect and one.value in (None, taint.value) for one in tolerated
    )


def engine_nodes(
    nodes: Iterable[Node], partitions: Sequence[str], tolerated: Sequence[Toleration] = ()
) -> list[EngineNode]:
    """Return the nodes of some partitions, each once, sorted by name.

    Args:
        nodes: of the cluster.
        partitions: node labels "KEY=VALUE"; all nodes without any.
        tolerated: taints that do not matter.

    Raises:
        InputError: no node is in one of the partitions.
    """
    wanted = {partition: parse_partition(partition) for partition in partitions}
    nodes_by_name = {}
    empty = set(wanted)
    for node in nodes:
        labels = node.metadata.labels
        names = [name for name, (key, value) in wanted.items() if labels.get(key) == value]
        empty -= set(names)
        if names or not wanted:
            group = next((labels[key] for key in known().topology_labels if labels.get(key)), None)
            gres = accelerator(node)[0]
            name = node.metadata.name
            nodes_by_name[name] = EngineNode(name, names[0] if names else None, gres, group, problem(node, tolerated))
    if empty:
        fix = "see: kubectl get nodes --show-labels"
        raise InputError("partition-unknown", "no node bears this label", where=sorted(empty)[0], fix=fix)
    return [nodes_by_name[name] for name in sorted(nodes_by_name)]


def is_over(job: Job) -> bool:
    """Return whether a Job is over, well or not."""
    return any(one.type in ("Complete", "Failed") and one.status == "True" for one in job.status.conditions)


def settled(jobs: Iterable[Job]) -> int:
    """Return how many pods of some Jobs wait no longer."""
    return sum(job.status.ready + job.status.succeeded + job.status.failed for job in jobs)


def is_whole(jobs: Sequence[Job], names: Iterable[str]) -> bool:
    """Return whether a gang is in the cluster, and not only the first of its Jobs, of which no pod has begun yet.

    Args:
        jobs: of the gang and its retries, as the cluster knows them.
        names: of the gang's own Jobs.
    """
    return bool(jobs) and ({job.metadata.name for job in jobs}.issuperset(names) or settled(jobs) > 0)


def outcome(jobs: Iterable[Job]) -> str:
    """Return how Jobs that are over ended, in the cluster's words: the failed one's, where one failed."""
    jobs = list(jobs)
    ends = [one for job in jobs for one in job.status.conditions if one.type in ("Complete", "Failed")]
    last = min((one for one in ends if one.status == "True"), key=lambda one: one.type != "Failed")
    succeeded, failed = sum(job.status.succeeded for job in jobs), sum(job.status.failed for job in jobs)
    counts = f"{succeeded} succeeded, {failed} failed"
    return one_line(f"{last.type}{f' ({last.reason})' if last.reason else ''}: {counts}", 200)


def refuse_node(
    node: EngineNode | None,
    name: str,
    wanted: tuple[str, int] | None,
    label: str | None = None,
    is_unknown: bool = False,
) -> None:
    """Refuse a node that could never take its pod.

    Args:
        node: as the cluster knows it; None where it does not.
        name: of the node.
        wanted: the device resource and its count, where the gang asks for one.
        label: that the nodes were asked for by.
        is_unknown: its devices may be given out by DRA: that its status counts none says nothing.

    Raises:
        InputError: it is unknown, has a problem, or has fewer devices than are asked for.
    """
    fix = "leave it out of the pool, or mend it"
    if node is None:
        bearing = f" with the label {label}" if label else ""
        raise InputError("node-unusable", f"the cluster has no such node{bearing}", where=name, fix=fix)
    if node.problem:
        raise InputError("node-unusable", node.problem, where=name, fix=fix)
    if node.gres is None and is_unknown:
        return
    if wanted and any(one.resource == wanted[0] for one in known().resources):  # of another the cluster tells nothing
        resource, _, count = (node.gres or ":0").rpartition(":")
        if resource != wanted[0] or int(count) < wanted[1]:
            text = f"has {node.gres or 'no accelerator'}, and {wanted[0]}:{wanted[1]} is asked for"
            raise InputError("node-unusable", text, where=name, fix=fix)
