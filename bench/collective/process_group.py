"""The ranks that reduce together, through torch.distributed: how they are joined, and how a reduction is awaited.

A collective operation may hang where a rank is lost. It is therefore begun and then looked at: each has a time after
which it counts as failed, on every back end alike.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from bench.collective.members import HOST_BACKEND
from bench.collective.orders import Timing
from bench.units import SECOND_NS

LOOK_NS = 100_000  # between two looks at a reduction that goes on; longer, the longer it does
LOOK_SHARE = 50  # of the time that it has taken so far
# Who is lost is asked in the store: a library that ends the process at an error leaves nobody to ask.
LEFT_TO_US = {"TORCH_NCCL_ASYNC_ERROR_HANDLING": "0", "HCCL_ASYNC_ERROR_HANDLING": "0"}
QUIET = {"TORCH_CPP_LOG_LEVEL": "ERROR"}  # of a rank that is gone torch would print stacks
INTERFACE_OF = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "HCCL_SOCKET_IFNAME")


class ReductionError(Exception):
    """A reduction did not end, or ended with an error."""


class World:
    """All ranks of a group, joined once; those that reduce together in a run are a part of them.

    Args:
        store: of torch, under the group's token.
        backend: torch's name, such as "nccl".
        rank: of this process.
        ranks: of the group.
        target: torch's name of this process's device.
        timing: of its reductions.

    Raises:
        Exception: whatever torch raises where ranks cannot be joined.
    """

    def __init__(self, store: Any, backend: str, rank: int, ranks: int, target: str, timing: Timing) -> None:
        import torch
        from torch import distributed

        self.backend = backend
        self.device = "cpu" if backend == HOST_BACKEND else target
        self._ranks = ranks
        self._groups: dict[tuple[int, ...], Any] = {}
        self.limit_ns = timing.reduction_ns + timing.grace_ns
        self.begun_ns = time.monotonic_ns()  # of the latest reduction
        # Only Gloo keeps the time itself. The others' own watchdog would end the process: it gets time enough to stay
        # out of it.
        limit_ns = timing.reduction_ns if backend == HOST_BACKEND else 10 * self.limit_ns
        self._timeout = timedelta(microseconds=limit_ns // 1000)
        if self.device != "cpu":
            getattr(torch, torch.device(target).type).set_device(torch.device(target))
        distributed.init_process_group(
            backend, store=store, rank=rank, world_size=ranks, timeout=self._timeout, group_name="petaseal"
        )

    def part(self, ranks: Sequence[int]) -> Any:
        """Return the process group of some ranks, of which this process is one; each of them asks for it."""
        from torch import distributed

        key = tuple(ranks)
        if key not in self._groups:
            # Only those that are in it meet: the nodes of a centre need not wait for each other's groups.
            self._groups[key] = (
                distributed.group.WORLD
                if len(key) == self._ranks
                else distributed.new_group(
                    list(key), timeout=self._timeout, backend=self.backend, use_local_synchronization=True
                )
            )
        return self._groups[key]

    def begin(self, tensor: Any, group: Any) -> Any:
        """Begin to add a tensor up over a group, in place, and return what is awaited.

        Raises:
            ReductionError: it cannot begin.
        """
        from torch import distributed

        self.begun_ns = time.monotonic_ns()
        try:
            return distributed.all_reduce(tensor, group=group, async_op=True)
        except Exception as error:
            raise ReductionError(str(error)) from error

    def wait(self, work: Any) -> None:
        """Wait for a reduction.

        Raises:
            ReductionError: it failed, or did not end in time.
        """
        try:
            while not work.is_completed():
                waited_ns = time.monotonic_ns() - self.begun_ns
                if waited_ns > self.limit_ns:
                    raise ReductionError("it did not end in time")
                # A look costs the host time that CPUs compute with; 2 % late is as good as in time.
                time.sleep(max(LOOK_NS, min(waited_ns, SECOND_NS // 2) // LOOK_SHARE) / SECOND_NS)
            work.wait()  # of what failed it raises the error; a device's stream goes on behind the rest
        except ReductionError:
            raise
        except Exception as error:
            raise ReductionError(str(error)) from error


def set_environment(interface: str | None) -> None:
    """Have the libraries that reduce use a network interface, and leave errors to this process.

    Only where the environment says nothing: an operator who names something else means it.
    """
    for variable, value in (LEFT_TO_US | QUIET).items():
        os.environ.setdefault(variable, value)
    if interface is not None:
        for variable in INTERFACE_OF:
            # "=" for the very name: NCCL would take a prefix.
            os.environ.setdefault(variable, f"={interface}" if variable.startswith("NCCL") else interface)
