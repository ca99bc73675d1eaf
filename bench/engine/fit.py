"""Whether a run fits into the memory of its host: refused before it starts, not ended by the kernel half-way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.devices.base import LocalDevice
from bench.errors import InputError
from bench.host.cgroup import available_bytes, read_limits
from bench.profile import needed_bytes, output_bytes
from bench.record import Profile, Shape, Workload, least_operand_bytes
from bench.record.plan import operand_bytes

# What a worker holds before it has operands: Python and its libraries. A driver's context, where there is one, is most.
WORKER_BYTES = {"simulated": 100 * 10**6, "cpu": 300 * 10**6, "accelerator": 1500 * 10**6}
CHECKED_BYTES = 128 * 2**20  # of operands that are made again for the check on the host, at any time


def refuse_unfit(
    devices: Sequence[LocalDevice], profile: Profile, workloads: Sequence[Workload], root: Path = Path("/")
) -> None:
    """Refuse a run whose workers together need more memory of the host than they can have.

    Args:
        devices: measured all at once.
        profile: with the shapes.
        workloads: to measure.
        root: the file system's root (tests).

    Raises:
        InputError: `host-memory`.
    """
    # The kernel kills the largest process when memory is out: that would be a worker, minutes into its window.
    available = available_bytes(root)
    needed = sum(host_bytes(one, profile, workloads) for one in devices)
    if available is None or needed <= available:
        return
    limit = read_limits(root).memory_bytes
    bound = "" if limit is None else f", in control groups that allow {limit / 1e9:.1f} GB"
    workers = f"{len(devices)} workers need" if len(devices) > 1 else "a worker needs"
    raise InputError(
        "host-memory",
        f"{workers} about {needed / 1e9:.1f} GB of its memory and {available / 1e9:.1f} GB can be had{bound}",
        where="this node",
        fix="ask for more memory, or name fewer devices with --device",
    )


def host_bytes(device: LocalDevice, profile: Profile, workloads: Iterable[Workload]) -> int:
    """Return about how much memory of the host the worker of one device needs, in bytes.

    An accelerator's worker makes both operands of one set on the host, and at the end holds one product there with the
    part of the operands that is made again to check it; the shape is the largest that fits into the device. Processors
    hold every operand set in that memory, and take the shape that fits: the smallest must.
    """
    model = device.model
    if model.simulated:
        return WORKER_BYTES["simulated"]
    least = least_operand_bytes(model)
    if model.kind == "cpu":
        smallest = [min(needed_bytes(s, w, least) for s in profile.registered(w)) for w in workloads]
        return WORKER_BYTES["cpu"] + sum(smallest)

    def fits(shape: Shape, workload: Workload) -> bool:
        return model.memory_bytes is None or needed_bytes(shape, workload, least) <= model.memory_bytes

    on_host = [_set_bytes(s, w) for w in workloads for s in profile.registered(w) if fits(s, w)]
    return WORKER_BYTES["accelerator"] + max(on_host, default=0)


def _set_bytes(shape: Shape, workload: Workload) -> int:
    return max(operand_bytes(workload, shape.m, shape.n, shape.k), output_bytes(shape, workload) + CHECKED_BYTES)
