"""What the doctor reads of a node: its devices once, its kernel's files, the folder, and this process's environment."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from bench.clock import SystemClock
from bench.devices import load_backend
from bench.devices.base import Faulty, LocalDevice
from bench.devices.libraries.nvidia.repairs import MemoryRepairs
from bench.doctor.software import read_software
from bench.doctor.view import DeviceView, FolderView, HostView, NodeView
from bench.errors import PetasealError, denied
from bench.host.cgroup import meminfo_bytes, read_limits
from bench.host.container import in_container
from bench.host.cpus import usable_cpus
from bench.host.kernel_log import kernel_errors, read_kernel_log
from bench.host.mounts import lxcfs_files
from bench.host.pci_links import read_link
from bench.host.processes import running
from bench.host.tuning import read_tuning
from bench.node_clock import why_unknown
from bench.record import NodeClock
from bench.telemetry import Reading, other_load_now, read_load
from bench.units import SECOND_NS

READING_S = 5.0  # for which the first reading of each device is waited, beyond the reader's own start
POLL_S = 0.05
MPS_PROGRAMS = ("nvidia-cuda-mps-control", "nvidia-cuda-mps-server")
MPS_VARIABLES = ("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT")


class ReadFor(NamedTuple):
    """What a node is to be measured for, which decides what its checks demand.

    Args:
        folder: where records would be written; None: nowhere yet.
        needed_bytes: what would be written there.
        refuses_busy: whether the profile refuses devices that others use.
        clock: what is known of the node's clock.
        against: device -> codes that will keep its figure from counting; None: they are not asked for.
        is_quick: read no device, no load and no log, which takes seconds.
    """

    folder: Path | None
    needed_bytes: int
    refuses_busy: bool
    clock: NodeClock
    against: Mapping[str, tuple[str, ...]] | None = None
    is_quick: bool = False


def gather(
    devices: Sequence[LocalDevice],
    purpose: ReadFor,
    problems: Sequence[PetasealError] = (),
    colliding: Sequence[PetasealError] = (),
    root: Path = Path("/"),
) -> NodeView:
    """Return a node as it is now. Whatever cannot be read is left out, and stops nothing.

    Args:
        devices: of the node, faulty ones among them.
        purpose: what it is looked at for.
        problems: why other devices, which are there, cannot be used.
        colliding: why no record can hold its devices together.
        root: the file system's root (tests).
    """
    sound = [one for one in devices if not isinstance(one, Faulty)]
    kinds = sorted({one.device.device.partition(":")[0] for one in sound})
    readings = {} if purpose.is_quick else first_readings(sound)
    repairs = memory_repairs(sound)
    clock = purpose.clock
    is_ours = clock.uncertainty_ns is None and clock.source in ("kernel", "chrony")  # and no scripted one
    return NodeView(
        devices=tuple(
            DeviceView(
                one,
                readings.get(one.device.device),
                repairs.get(one.device.uuid or ""),
                None if (address := one.device.pci_address) is None else read_link(address, root),
            )
            for one in sound
        ),
        faulty=tuple(one for one in devices if isinstance(one, Faulty)),
        unusable=tuple(map(str, problems)),
        colliding=tuple(map(str, colliding)),
        against=purpose.against,
        refuses_busy=purpose.refuses_busy,
        clock=clock,
        clock_why=why_unknown() if is_ours else "",
        host=read_host_view(any(one.model.kind == "cpu" for one in sound), purpose.is_quick, root),
        folder=None if purpose.folder is None else read_folder(purpose.folder, purpose.needed_bytes),
        software=read_software(kinds, os.environ, root),
    )


def read_host_view(measures_cpu: bool, is_quick: bool, root: Path = Path("/")) -> HostView:
    """Return what the host's kernel shows.

    Args:
        measures_cpu: whether its processors are to be measured: then others' load is looked at, for seconds.
        is_quick: look at no load and no log.
        root: the file system's root (tests).
    """
    cpus = usable_cpus()
    log = None if is_quick else read_kernel_log(root)
    programs = running(MPS_PROGRAMS, root)
    variables = [f"{name}={os.environ[name]}" for name in MPS_VARIABLES if os.environ.get(name)]
    looks = measures_cpu and not is_quick and root == Path("/")
    return HostView(
        tuning=read_tuning(cpus, root),
        errors=None if log is None else kernel_errors(log),
        limits=read_limits(root) if (root / "proc/self/cgroup").exists() else None,
        cpus=len(cpus),
        memory_bytes=meminfo_bytes("MemTotal", root),
        is_container=in_container(root),
        hidden=tuple(lxcfs_files(root)),
        mps=None if programs is None and not variables else (*(programs or ()), *variables),
        other_load_ppm=other_load_now(SystemClock(), lambda: read_load(())) if looks else None,
    )


def read_folder(folder: Path, needed_bytes: int) -> FolderView:
    """Return what a folder takes, and by what time it stamps a new file. Nothing stays in it."""
    try:
        before_ns = time.time_ns()
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"petaseal")
            file.flush()
            # Of a file system on the network the server gives the stamp, once the bytes are there.
            os.fsync(file.fileno())
            stamp_ns = os.fstat(file.fileno()).st_mtime_ns
        after_ns = time.time_ns()
        status = os.statvfs(folder)
    except OSError as error:
        return FolderView(denied(folder, error), needed_bytes=needed_bytes)
    early, late = stamp_ns - before_ns, stamp_ns - after_ns
    free = status.f_bavail * status.f_frsize if status.f_blocks else None
    return FolderView(None, free, needed_bytes, 0 if early >= 0 >= late else min(early, late, key=abs))


def first_readings(devices: Sequence[LocalDevice]) -> dict[str, Reading]:
    """Return one reading of each device that gives one, taken while nothing of ours is on it."""
    from bench.terminal.watch import watching

    readings: dict[str, Reading] = {}
    if not devices:
        return readings
    # One look: a second would come when the reader's own context may count as a process.
    with watching(devices, 60 * SECOND_NS) as (watch, _):
        until_s = time.monotonic() + READING_S
        while len(readings) < len(devices) and time.monotonic() < until_s:
            rows = watch.rows()
            readings |= {row.device: row.reading for row in rows if row.reading != Reading()}
            if all(row.fault is not None or row.device in readings for row in rows):
                break
            time.sleep(POLL_S)
    return readings


def memory_repairs(devices: Sequence[LocalDevice]) -> dict[str, MemoryRepairs]:
    """Return the spare rows of devices by uuid, of the kinds whose back end asks for them."""
    repairs: dict[str, MemoryRepairs] = {}
    for kind in sorted({one.device.device.partition(":")[0] for one in devices}):
        backend = load_backend(kind)
        if hasattr(backend, "repairs"):
            with suppress(PetasealError):
                repairs |= backend.repairs([one for one in devices if one.device.device.startswith(f"{kind}:")])
    return repairs
