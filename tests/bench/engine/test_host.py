"""What real workers get of their host, and runs that do not fit into its memory."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bench.devices import select_devices
from bench.devices.base import LocalDevice
from bench.engine import node
from bench.engine.fit import host_bytes, refuse_unfit
from bench.engine.node import measure_node
from bench.engine.workers import Event
from bench.errors import InputError
from bench.host.cpus import parse_cpus, usable_cores, usable_cpus
from bench.host.share import DevicePlace, Host, read_host
from bench.profile import load_profile
from bench.record import Shape, Workload
from tests.bench.devices.test_devices import tree
from tests.bench.engine.test_node import SHORT, failed, request
from tests.bench.host.groups import inside, limited
from tests.bench.processes import children

WORKLOADS = (Workload("fp16", "fixed"), Workload("fp64", "fixed"))


def test_a_cpu_is_measured_by_pinned_threads_on_every_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the launcher set; the node is divided into two, as far as it has the cores for two NUMA nodes."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    true = read_host([DevicePlace(True, None)])
    firsts = sorted({core: cpu for cpu, core in sorted(true.cores.items(), reverse=True)}.values())
    half = (len(firsts) + 1) // 2
    nodes = {number: frozenset(part) for number, part in enumerate((firsts[:half], firsts[half:])) if part}
    monkeypatch.setattr(node, "read_host", lambda places: true._replace(numa=nodes))
    masks: list[frozenset[int]] = []

    def watch(event: Event) -> None:
        if event.what == "window":
            (worker,) = children()
            for task in Path(f"/proc/{worker}/task").iterdir():
                status = (task / "status").read_text()
                masks.append(parse_cpus(status.partition("Cpus_allowed_list:")[2].splitlines()[0]))

    tiny = replace(SHORT, shapes={"fp64": (Shape(m=64, n=64, k=64),)})
    record, _ = measure_node(request("cpu", "fp64", profile=tiny), watch)
    assert set(masks) == set(nodes.values())  # each thread on one node, and all nodes have some
    assert failed(record) == []
    (measurement,) = record.measurements
    assert (measurement.kernel, measurement.device, measurement.method) == ("gemm-numpy", ("cpu:0",), "native")
    assert not record.models[0].simulated
    (figure,) = measurement.figures()
    assert figure.row_error_ppm is not None
    assert figure.launches % 30 == 0
    (threads,) = measurement.threads
    assert threads == record.models[0].units == usable_cores(usable_cpus())
    assert record.environment.cpus == len(os.sched_getaffinity(0))
    (blas,) = (text for name, text in record.environment.libraries.items() if name.endswith(".blas"))
    assert record.environment.libraries["numpy"]
    assert re.fullmatch(rf"(OpenBLAS|MKL) \d.*, {threads} threads?", blas)


class Enough(Exception):
    """What is to be seen was seen."""


def test_a_worker_is_bound_to_the_numa_node_of_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    last = max(usable_cpus())
    cores = {cpu: str(cpu) for cpu in usable_cpus()}
    monkeypatch.setattr(node, "read_host", lambda places: Host(cores, None, {1: frozenset({last}), 7: frozenset()}))
    found = [
        LocalDevice(one.model, replace(one.device, numa_node=place))
        for one, place in zip(select_devices("fake:3"), (1, 7, None), strict=True)
    ]
    seen: list[Event] = []
    masks: list[set[int]] = []

    def tell(event: Event) -> None:
        seen.append(event)
        if event.what == "campaign":  # all are ready
            masks.extend(os.sched_getaffinity(pid) for pid in children())
            raise Enough

    with pytest.raises(Enough):
        measure_node(request("fake:3")._replace(devices=found), tell)
    assert masks == [{last}, set(cores), set(cores)]
    assert os.sched_getaffinity(0) == set(cores)
    remarks = [event for event in seen if event.what == "remark" and "NUMA" in str(event.text)]
    assert [event.device for event in remarks] == ["fake:1"]


def card(**more: Any) -> LocalDevice:
    """Return an accelerator that is not simulated."""
    (fake,) = select_devices("fake:1")
    return LocalDevice(
        replace(fake.model, simulated=False, memory_bytes=80 * 10**9, cache_bytes=50 * 2**20, **more), fake.device
    )


def test_what_a_worker_needs_on_the_host() -> None:
    profile = load_profile("certification")
    largest = max(s.m * s.k + s.k * s.n for s in profile.registered(WORKLOADS[1])) * 8
    assert host_bytes(card(), profile, WORKLOADS) == 1500 * 10**6 + largest
    assert host_bytes(card(), profile, ()) == 1500 * 10**6
    small = replace(profile, shapes={"fp16": (Shape(m=16_384, n=16_384, k=64),)})  # its product is the largest
    assert host_bytes(card(), small, WORKLOADS[:1]) == 1500 * 10**6 + 2 * 16_384**2 + 128 * 2**20
    assert host_bytes(select_devices("fake:1")[0], profile, WORKLOADS) == 100 * 10**6


def test_a_run_that_does_not_fit_is_refused_before_it_starts(tmp_path: Path) -> None:
    profile = load_profile("certification")
    each = host_bytes(card(), profile, WORKLOADS)
    root = tree(
        tmp_path,
        {
            "proc/meminfo": f"MemTotal: 999999999 kB\nMemAvailable: {8 * each // 1024 + 1} kB\n",
            "proc/self/cgroup": "3:memory:/slurm/job_5/step_0\n",
            "proc/self/mountinfo": "34 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
            "sys/fs/cgroup/memory/slurm/job_5/step_0/memory.limit_in_bytes": "9223372036854771712",
        },
    )
    refuse_unfit([card()] * 8, profile, WORKLOADS, root)
    with pytest.raises(InputError, match=r"9 workers need about [0-9.]+ GB of its memory and [0-9.]+ GB can be had;"):
        refuse_unfit([card()] * 9, profile, WORKLOADS, root)
    job = root / "sys/fs/cgroup/memory/slurm/job_5/memory.limit_in_bytes"
    job.write_text(str(7 * each))
    with pytest.raises(InputError, match=r"8 workers need .*, in control groups that allow .*--device .host-memory."):
        refuse_unfit([card()] * 8, profile, WORKLOADS, root)
    refuse_unfit([card()] * 7, profile, WORKLOADS, root)
    refuse_unfit([card()] * 8, profile, WORKLOADS, tmp_path / "a machine that tells nothing")


DRY_RUN = """
import sys
from tests.bench.app import main
sys.argv = "petaseal run --profile smoke --device cpu --dry-run --out nowhere".split()
sys.stderr = sys.stdout
try: main()
except SystemExit as end: print("status", end.code)
"""


def test_a_dry_run_under_a_real_memory_limit_says_so() -> None:
    size = str(256 * 2**20)
    with limited("memory", {"memory.max": size, "memory.limit_in_bytes": size}) as group:
        told = inside(group, DRY_RUN).splitlines()
    assert told[-1] == "status 2"
    assert told[-2].startswith("this node: a worker needs about ")
    assert "in control groups that allow 0.3 GB; " in told[-2]
    assert told[-2].endswith("[host-memory]")
