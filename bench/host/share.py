"""The CPUs of this host, divided among the workers that measure its devices. Pure, but for `read_host`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.host.cpus import core_of, numa_cpus, quota_cpus, usable_cpus


class Host(NamedTuple):
    """The CPUs of a node that its workers share."""

    cores: Mapping[int, str]  # of each logical CPU that may be used
    quota: int | None  # whole CPUs of time, over all of them
    numa: Mapping[int, frozenset[int]]  # logical CPUs of each NUMA node that a device belongs to


class DevicePlace(NamedTuple):
    """What decides a device's share of the host: whether it is a CPU, and its NUMA node."""

    is_cpu: bool
    numa_node: int | None


class WorkerShare(NamedTuple):
    """The threads and logical CPUs that one worker may use."""

    threads: int
    cpus: tuple[int, ...] | None  # that it is bound to; None: not bound
    remark: str | None = None


def read_host(places: Sequence[DevicePlace], root: Path = Path("/")) -> Host:
    """Return what this process may use, with the NUMA nodes of its devices."""
    nodes = {place.numa_node for place in places if place.numa_node is not None}
    return Host(
        cores={cpu: core_of(cpu, root) for cpu in usable_cpus()},
        quota=quota_cpus(root),
        numa={node: numa_cpus(node, root) for node in nodes},
    )


def divide(places: Sequence[DevicePlace], host: Host) -> list[WorkerShare]:
    """Return each worker's share, in the devices' order.

    Processors, measured as a device, compute with every core, and their worker is bound to no NUMA node. The worker of
    an accelerator is bound to the node of its device and shares that node's cores with those of the same node; the
    workers whose node is not known, or has no CPU that may be used, each get their part of all cores.
    """
    accelerators = sum(not place.is_cpu for place in places)
    allowed = {node: tuple(sorted(cpus & host.cores.keys())) for node, cpus in host.numa.items()}

    def share(place: DevicePlace) -> WorkerShare:
        if place.is_cpu:
            return WorkerShare(_threads(host, tuple(host.cores), 1, 1), None)
        node = place.numa_node
        if node is None:
            return WorkerShare(_threads(host, tuple(host.cores), accelerators, accelerators), None)
        if not (cpus := allowed.get(node, ())):
            remark = f"not bound to NUMA node {node}: this process may run on none of its CPUs"
            return WorkerShare(_threads(host, tuple(host.cores), accelerators, accelerators), None, remark)
        near = sum(not other.is_cpu and other.numa_node == node for other in places)
        return WorkerShare(_threads(host, cpus, near, accelerators), cpus)

    return [share(place) for place in places]


def _threads(host: Host, cpus: Sequence[int], near: int, workers: int) -> int:
    """Return a worker's threads: its part of the cores of some CPUs, and of the quota, which is the whole host's."""
    cores = len({host.cores[cpu] for cpu in cpus}) // near
    return max(1, cores if host.quota is None else min(cores, host.quota // workers))
