"""The threads of a process pinned to NUMA nodes, and its memory where they compute.

A GEMM library starts its threads where the process was, and the kernel moves them as it likes: away from the memory
that they use. One process computes on all nodes of a machine, so each thread is bound to the cores of one node.
"""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from collections.abc import Sequence
from pathlib import Path

from bench.host.share import NumaPart

MPOL_INTERLEAVE = 3  # <linux/mempolicy.h>
# The number of the system call, which libc has no function for: x86-64's own, and that of all architectures since.
SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237, "loongarch64": 237, "riscv64": 237}
MASK_BITS = 1024  # the most nodes that Linux can be built for


def pin_threads(parts: Sequence[NumaPart]) -> int:
    """Bind every thread of this process to the CPUs of one NUMA node; return how many could not be bound.

    Threads of a library compute in the order in which it started them, after the thread that calls it: neighbours in
    this order share a part of the product, and so a node. It is to be called once all threads have been started.

    Args:
        parts: the nodes with the threads that compute on each, in order.
    """
    places = [part.cpus for part in parts for _ in range(part.threads)]
    if not places:
        return 0
    main, ours = threading.main_thread().native_id, {one.native_id for one in threading.enumerate()}
    libraries = [task for task in _tasks() if task not in ours]
    helpers = sorted(task for task in ours - {main} if task is not None)
    wanted = dict(zip(helpers, (places[i % len(places)] for i in range(len(helpers))), strict=True))
    # The calling thread computes the first part, the library's the others.
    wanted |= {task: places[1 + i % (len(places) - 1)] if places[1:] else places[0] for i, task in enumerate(libraries)}
    refused = sum(not _bound(task, cpus) for task, cpus in wanted.items())
    return refused + (not _bound(0, places[0]))


def spread_memory(parts: Sequence[NumaPart]) -> bool:
    """Have the memory that this process touches from now on come from all nodes in turn; return whether it does.

    With one node nothing is to be done: memory comes from the node of the thread that touches it first. Of several
    nodes every thread reads all of one operand, so that no node's memory is to serve them all.
    """
    nodes = [part.node for part in parts if part.node is not None]
    if len(nodes) < 2:
        return True
    call = SET_MEMPOLICY.get(platform.machine())
    if call is None or max(nodes) >= MASK_BITS:
        return False
    word_bits = 8 * ctypes.sizeof(ctypes.c_ulong)
    mask = (ctypes.c_ulong * (MASK_BITS // word_bits))()
    for node in nodes:
        mask[node // word_bits] |= 1 << node % word_bits
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.syscall(call, MPOL_INTERLEAVE, mask, MASK_BITS + 1)) == 0  # a container may forbid it


def _tasks() -> list[int]:
    """Return the threads of this process, in the order in which they were started."""
    return sorted(int(one.name) for one in Path("/proc/self/task").iterdir())


def _bound(task: int, cpus: Sequence[int]) -> bool:
    """Bind one thread, 0 for the calling one; return whether it is bound, or has ended."""
    try:
        os.sched_setaffinity(task, cpus)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return True
