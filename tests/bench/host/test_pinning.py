"""Threads pinned to NUMA nodes and memory spread over them, in real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.host.cpus import usable_cpus
from bench.host.pinning import pin_threads, spread_memory
from bench.host.share import NumaPart

PIN = """
import json, sys, threading
import numpy, torch
from pathlib import Path
from bench.host.cpus import parse_cpus
from bench.host.pinning import pin_threads
from bench.host.share import NumaPart
from bench.host.threads import set_threads
from kernels.operands import side_by_side, use_threads

parts = [NumaPart(node, tuple(cpus), threads) for node, cpus, threads in json.loads(sys.argv[1])]
threads = sum(part.threads for part in parts)
set_threads(threads)
use_threads(threads)
started = threading.Barrier(threads)
side_by_side(lambda at: started.wait(30), range(threads))
numpy.ones((256, 256)) @ numpy.ones((256, 256))
torch.mm(torch.ones(512, 512), torch.ones(512, 512))
refused = pin_threads(parts)
masks = [
    sorted(parse_cpus((task / "status").read_text().partition("Cpus_allowed_list:")[2].splitlines()[0]))
    for task in sorted(Path("/proc/self/task").iterdir(), key=lambda task: int(task.name))
]
print(json.dumps([refused, masks]))
"""


def test_every_thread_of_numpy_torch_and_python_is_pinned_to_one_node() -> None:
    """Four threads compute on two nodes, each of which is one of this machine's CPUs, or both are its only one."""
    first, last = usable_cpus()[0], usable_cpus()[-1]
    parts = json.dumps([[0, [first], 2], [1, [last], 2]])
    done = subprocess.run([sys.executable, "-c", PIN, parts], capture_output=True, text=True, check=True, timeout=60)
    refused, masks = json.loads(done.stdout)
    assert refused == 0
    assert masks[0] == [first]  # the thread that calls the libraries computes the first part
    assert all(mask in ([first], [last]) for mask in masks)
    assert masks.count([last]) >= 2 + 2 + 2  # of the pool that makes operands, of OpenBLAS and of OpenMP
    assert len(masks) >= 1 + 4 + 3 + 3


def test_cpus_that_may_not_be_used_are_counted_as_refused() -> None:
    """As where CPUs went offline, or a container forbids it; nothing to pin is nothing refused."""
    before = os.sched_getaffinity(0)
    beyond = NumaPart(0, (max(before) + 1000,), 1)
    assert pin_threads([beyond]) >= 1
    assert os.sched_getaffinity(0) == before
    assert pin_threads([]) == 0


SPREAD = """
import json, sys
import numpy
from bench.host.pinning import spread_memory
from bench.host.share import NumaPart

spread = spread_memory([NumaPart(node, (0,), 1) for node in json.loads(sys.argv[1])])
touched = numpy.ones(2**24)
lines = open("/proc/self/numa_maps").read().splitlines()
print(json.dumps([spread, [line.split()[1] for line in lines if "anon=32" in line or "anon=3276" in line]]))
"""


@pytest.mark.skipif(not Path("/proc/self/numa_maps").exists(), reason="a kernel without NUMA")
def test_memory_of_several_nodes_comes_from_all_of_them() -> None:
    """A machine of one node takes the part of the mask that it has."""
    command = [sys.executable, "-c", SPREAD, "[0, 1]"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    spread, policies = json.loads(done.stdout)
    assert spread
    assert policies
    assert all(policy.startswith("interleave") for policy in policies)


def test_memory_of_one_node_is_left_to_the_thread_that_touches_it() -> None:
    assert spread_memory([NumaPart(0, (0,), 1)])
    assert spread_memory([NumaPart(None, (0,), 1)])
    assert not spread_memory([NumaPart(0, (0,), 1), NumaPart(2000, (1,), 1)])  # no such node can be named
