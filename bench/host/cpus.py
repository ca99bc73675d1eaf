"""The CPUs that this process may use, their cores, and the NUMA nodes that CPUs and devices belong to."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from bench.host.cgroup import read_limits
from bench.host.files import line, number, whole

MOST_CPUS = 2**20  # a list may name more by two numbers than memory holds


def usable_cpus() -> list[int]:
    """Return the logical CPUs that this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def core_of(cpu: int, root: Path = Path("/")) -> str:
    """Return a text that logical CPUs of one core share and no others have."""
    return line(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu)


def quota_cpus(root: Path = Path("/")) -> int | None:
    """Return the CPU time that control groups allow, in whole CPUs; None where there is no limit.

    A part of a CPU counts as one: 1.5 CPUs keep two threads busy for three quarters of the time, and one thread would
    leave a third of them unused.
    """
    quota = read_limits(root).quota_mcpu
    return None if quota is None else max(1, -(-quota // 1000))


def usable_cores(cpus: Iterable[int], root: Path = Path("/")) -> int:
    """Return how many cores may be used: siblings are one, and a quota of CPU time bounds them."""
    # Two threads of one core share its floating-point units: a second GEMM thread there slows the first one down.
    cores, quota = len({core_of(cpu, root) for cpu in cpus}), quota_cpus(root)
    return max(1, cores if quota is None else min(cores, quota))


def numa_node(pci_address: str | None, root: Path = Path("/")) -> int | None:
    """Return the NUMA node of a PCI function; None where the kernel does not know it (-1).

    Args:
        pci_address: like "0000:17:00.0"; some vendors write the domain with eight digits.
        root: the file system's root.
    """
    domain, colon, rest = (pci_address or "").lower().partition(":")
    if not colon or "/" in rest:
        return None
    return number(root / "sys/bus/pci/devices" / f"{domain[-4:]}:{rest}" / "numa_node")


def numa_cpus(node: int, root: Path = Path("/")) -> frozenset[int]:
    """Return the logical CPUs of a NUMA node."""
    return parse_cpus(line(root / f"sys/devices/system/node/node{node}/cpulist"))


def numa_nodes(root: Path = Path("/")) -> list[int]:
    """Return the NUMA nodes that have CPUs; none where the kernel does not say."""
    folders = (root / "sys/devices/system/node").glob("node*")
    nodes = [int(text) for one in folders if (text := one.name.removeprefix("node")).isdigit()]
    return sorted(node for node in nodes if numa_cpus(node, root))


def parse_cpus(text: str) -> frozenset[int]:
    """Return the CPUs of a list like "0-3,8,10-11", the form of the kernel's files."""
    cpus: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        lowest, highest = whole(first), whole(last or first)
        if lowest is not None and highest is not None and highest < MOST_CPUS:
            cpus.update(range(lowest, highest + 1))
    return frozenset(cpus)
