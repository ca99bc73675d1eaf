"""CPUs, cores, quotas and NUMA nodes of fake machines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.host.cpus import numa_cpus, numa_node, numa_nodes, parse_cpus, usable_cores, usable_cpus
from bench.host.share import DevicePlace, Host, NumaPart, WorkerShare, divide, read_host
from tests.bench.devices.test_devices import cores, tree

CPU, UNKNOWN = DevicePlace(True, None), DevicePlace(False, None)


def near(node: int) -> DevicePlace:
    return DevicePlace(False, node)


def host(count: int, quota: int | None = None, nodes: int = 2, threads: int = 1) -> Host:
    """Return a host of so many cores, each of so many logical CPUs, in NUMA nodes of equal size."""
    cpus = {cpu: str(cpu % count) for cpu in range(count * threads)}
    numa = {n: frozenset(cpu for cpu in cpus if cpu % count * nodes // count == n) for n in range(nodes)}
    return Host(cpus, quota, numa)


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("0-3,8,10-11\n", {0, 1, 2, 3, 8, 10, 11}), ("", set()), ("5", {5}), ("a,-1,3-x,4", {4}), ("7-6", set())],
)
def test_lists_of_cpus(text: str, cpus: set[int]) -> None:
    assert parse_cpus(text) == cpus


@pytest.mark.parametrize(
    ("address", "node"),
    [
        ("0000:17:00.0", 1),
        ("00000000:17:00.0", 1),
        ("0000:C1:00.0", 0),
        ("0000:18:00.0", None),  # the kernel does not know: -1
        ("0000:99:00.0", None),
        ("../..:x", None),
        ("", None),
        (None, None),
    ],
)
def test_the_numa_node_of_a_device(tmp_path: Path, address: str | None, node: int | None) -> None:
    known = {"0000:17:00.0": "1\n", "0000:c1:00.0": "0\n", "0000:18:00.0": "-1\n"}
    root = tree(tmp_path, {f"sys/bus/pci/devices/{name}/numa_node": text for name, text in known.items()})
    assert numa_node(address, root) == node


def test_what_a_fake_machine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(2, 16)))
    root = tree(
        tmp_path,
        cores(8, threads=2)
        | {"sys/devices/system/node/node0/cpulist": "0-3,8-11", "sys/devices/system/node/node1/cpulist": "4-7,12-15"},
    )
    assert usable_cpus() == list(range(2, 16))
    assert usable_cores(usable_cpus(), root) == 8  # each core has one logical CPU left at least
    assert numa_cpus(1, root) == {4, 5, 6, 7, 12, 13, 14, 15}
    read = read_host([near(1), CPU, UNKNOWN], root)
    assert (len(read.cores), len(set(read.cores.values())), read.quota, list(read.numa)) == (14, 8, None, [0, 1])
    assert list(read_host([near(1), UNKNOWN], root).numa) == [1]  # those of the devices; processors compute on all
    (tmp_path / "sys/devices/system/node/node2").mkdir()  # of memory only
    assert numa_nodes(root) == [0, 1]
    assert numa_nodes(tmp_path / "a machine that tells nothing") == []


def test_eight_workers_on_96_cores_get_12_each() -> None:
    two_sockets = host(96, threads=2)
    shares = divide([near(n // 4) for n in range(8)], two_sockets)
    assert [share.threads for share in shares] == [12] * 8
    assert {share.cpus for share in shares[:4]} == {tuple(sorted(two_sockets.numa[0]))}
    assert {share.cpus for share in shares[4:]} == {tuple(sorted(two_sockets.numa[1]))}
    assert [share.threads for share in divide([UNKNOWN] * 8, two_sockets)] == [12] * 8
    assert [share.threads for share in divide([UNKNOWN] * 8, host(96, quota=16))] == [2] * 8
    assert [share.threads for share in divide([near(0)] * 8, host(4))] == [1] * 8


def test_processors_use_every_core_by_threads_that_stay_on_their_numa_node() -> None:
    (share,) = divide([CPU], host(96, threads=2))
    assert (share.threads, share.cpus) == (96, tuple(range(96)))  # one logical CPU of each core
    assert share.parts == (NumaPart(0, tuple(range(48)), 48), NumaPart(1, tuple(range(48, 96)), 48))
    assert [share.threads for share in divide([CPU, near(1), near(1)], host(8))] == [8, 2, 2]
    assert divide([CPU, near(1), near(1)], host(8))[0] == divide([CPU], host(8))[0]


def test_processors_under_a_quota_compute_on_the_fewest_numa_nodes() -> None:
    (share,) = divide([CPU], host(96, quota=3, threads=2))
    assert (share.threads, share.parts) == (3, (NumaPart(0, tuple(range(48)), 3),))
    assert share.cpus == tuple(range(48))
    (share,) = divide([CPU], host(8, quota=6))
    assert share.parts == (NumaPart(0, (0, 1, 2, 3), 4), NumaPart(1, (4, 5, 6, 7), 2))


def test_processors_of_a_job_compute_on_the_cpus_that_it_was_given() -> None:
    """The siblings that a job has, of cores in both sockets, and CPUs of which the kernel names no node."""
    whole = host(8, threads=2)
    given = {cpu: core for cpu, core in whole.cores.items() if cpu in (2, 3, 4, 10, 13, 14, 15)}
    (share,) = divide([CPU], whole._replace(cores=given))  # 2 and 10 are one core
    assert share.parts == (NumaPart(0, (2, 3), 2), NumaPart(1, (4, 13, 14, 15), 4))
    (share,) = divide([CPU], whole._replace(numa={}))
    assert share.parts == (NumaPart(None, tuple(range(8)), 8),)
    (share,) = divide([CPU], whole._replace(cores=given, quota=4))
    assert share.parts == (NumaPart(1, (4, 13, 14, 15), 4),)  # the node that holds all of them


def test_a_node_whose_cpus_may_not_be_used_binds_nobody() -> None:
    """As in a job that was given the CPUs of the other socket, or for a node that has memory only."""
    two = host(8)
    job = two._replace(cores={cpu: str(cpu) for cpu in two.numa[0]})
    (other,) = divide([near(1)], job)
    assert (other.threads, other.cpus) == (4, None)
    assert other.remark == "not bound to NUMA node 1: this process may run on none of its CPUs"
    half = two._replace(cores={cpu: str(cpu) for cpu in (2, 3, 4, 5)})
    assert divide([near(0), near(1)], half) == [WorkerShare(2, (2, 3)), WorkerShare(2, (4, 5))]
