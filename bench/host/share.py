"""The CPUs of this host, divided among the workers that measure its devices. Pure, but for `read_host`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.host.cpus import core_of, numa_cpus, numa_nodes, quota_cpus, usable_cpus


class Host(NamedTuple):
    """The CPUs of a node that its workers share."""

    cores: Mapping[int, str]  # of each logical CPU that may be used
    quota: int | None  # whole CPUs of time, over all of them
    numa: Mapping[int, frozenset[int]]  # logical CPUs of each NUMA node that a device belongs to; of CPUs, of all


class DevicePlace(NamedTuple):
    """What decides a device's share of the host: whether it is a CPU, and its NUMA node."""

    is_cpu: bool
    numa_node: int | None


class NumaPart(NamedTuple):
    """Logical CPUs of one NUMA node, one of each core, and how many threads of a worker compute on them."""

    node: int | None  # None: the kernel names none
    cpus: tuple[int, ...]
    threads: int


class WorkerShare(NamedTuple):
    """The threads and logical CPUs that one worker may use."""

    threads: int
    cpus: tuple[int, ...] | None  # that it is bound to; None: not bound
    remark: str | None = None
    parts: tuple[NumaPart, ...] = ()  # of processors that are measured: where each of its threads computes


def read_host(places: Sequence[DevicePlace], root: Path = Path("/")) -> Host:
    """Return what this process may use, with the NUMA nodes of its devices."""
    nodes = {place.numa_node for place in places if place.numa_node is not None}
    if any(place.is_cpu for place in places):
        nodes.update(numa_nodes(root))
    return Host(
        cores={cpu: core_of(cpu, root) for cpu in usable_cpus()},
        quota=quota_cpus(root),
        numa={node: numa_cpus(node, root) for node in nodes},
    )


def divide(places: Sequence[DevicePlace], host: Host) -> list[WorkerShare]:
    """Return each worker's share, in the devices' order.

    Processors, measured as a device, compute with every core, each NUMA node's by threads that stay there. The worker
    of an accelerator is bound to the node of its device and shares that node's cores with those of the same node; the
    workers whose node is not known, or has no CPU that may be used, each get their part of all cores.
    """
    accelerators = sum(not place.is_cpu for place in places)
    allowed = {node: tuple(sorted(cpus & host.cores.keys())) for node, cpus in host.numa.items()}

    def share(place: DevicePlace) -> WorkerShare:
        if place.is_cpu:
            return _share_of_processors(host)
        node = place.numa_node
        if node is None:
            return WorkerShare(_threads(host, tuple(host.cores), accelerators, accelerators), None)
        if not (cpus := allowed.get(node, ())):
            remark = f"not bound to NUMA node {node}: this process may run on none of its CPUs"
            return WorkerShare(_threads(host, tuple(host.cores), accelerators, accelerators), None, remark)
        near = sum(not other.is_cpu and other.numa_node == node for other in places)
        return WorkerShare(_threads(host, cpus, near, accelerators), cpus)

    return [share(place) for place in places]


def _share_of_processors(host: Host) -> WorkerShare:
    """Return the share of all processors: a thread a core, or as many as the quota keeps busy, on the fewest nodes."""
    threads = _threads(host, tuple(host.cores), 1, 1)
    first: dict[str, int] = {}  # two threads on one core's siblings would slow each other down, and leave a core idle
    for cpu in sorted(host.cores):
        first.setdefault(host.cores[cpu], cpu)
    node_of = {cpu: node for node, cpus in host.numa.items() for cpu in cpus}
    by_node: dict[int | None, list[int]] = {}
    for cpu in sorted(first.values()):
        by_node.setdefault(node_of.get(cpu), []).append(cpu)
    parts, left = [], threads
    for node, cpus in sorted(by_node.items(), key=lambda one: (-len(one[1]), one[1])):
        if left:  # memory of a node without a thread would be far from all of them
            parts.append(NumaPart(node, tuple(cpus), min(left, len(cpus))))
            left -= parts[-1].threads
    parts.sort(key=lambda part: part.cpus)
    return WorkerShare(threads, tuple(sorted(cpu for part in parts for cpu in part.cpus)), None, tuple(parts))


def _threads(host: Host, cpus: Sequence[int], near: int, workers: int) -> int:
    """Return a worker's threads: its part of the cores of some CPUs, and of the quota, which is the whole host's."""
    cores = len({host.cores[cpu] for cpu in cpus}) // near
    return max(1, cores if host.quota is None else min(cores, host.quota // workers))
