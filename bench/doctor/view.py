"""What the doctor knows of a node, as it was read: the one argument of every check. None is what cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from bench.devices.base import Faulty, LocalDevice
from bench.devices.libraries.nvidia.repairs import MemoryRepairs
from bench.host.cgroup import CgroupLimits
from bench.host.kernel_log import KernelError
from bench.host.pci_links import PciLink
from bench.host.tuning import HostTuning
from bench.record import NodeClock
from bench.telemetry import Reading


class DeviceView(NamedTuple):
    """One device that can be measured."""

    local: LocalDevice
    reading: Reading | None = None
    repairs: MemoryRepairs | None = None
    link: PciLink | None = None

    @property
    def name(self) -> str:
        """Its name, such as cuda:0."""
        return self.local.device.device

    @property
    def is_cpu(self) -> bool:
        """Whether it is the host's processors."""
        return self.local.model.kind == "cpu"


class HostView(NamedTuple):
    """What the host's kernel shows."""

    tuning: HostTuning = HostTuning()
    errors: Mapping[KernelError, int] | None = None  # in the kernel's log
    limits: CgroupLimits | None = None
    cpus: int = 1
    memory_bytes: int | None = None
    is_container: bool | None = None
    hidden: tuple[str, ...] = ()  # files that lxcfs stands in for
    mps: tuple[str, ...] | None = None  # signs of NVIDIA's multi-process service
    other_load_ppm: int | None = None  # of the CPUs' time


class FolderView(NamedTuple):
    """The folder that records are written into."""

    refusal: str | None = None  # why nothing can be written there
    free_bytes: int | None = None
    needed_bytes: int = 0
    clock_off_ns: int | None = None  # of its file stamps against this host's clock, at least


class SoftwareView(NamedTuple):
    """The environment of this process, and the packages in it."""

    enabling: tuple[tuple[str, str], ...] = ()  # variables that switch on emulation, each with its effect (R1)
    emulation: tuple[str, ...] = ()  # libraries that are loaded, or would be into each process
    elsewhere: tuple[str, ...] = ()  # folders of petaseal's modules that are not the installed distribution's
    python_path: tuple[str, ...] = ()  # variables that put further packages before the environment's own
    lacking: Mapping[str, str] = {}  # kind of device -> what of the stack that computes on it is missing


class NodeView(NamedTuple):
    """A node before it is measured."""

    devices: tuple[DeviceView, ...] = ()
    faulty: tuple[Faulty, ...] = ()
    unusable: tuple[str, ...] = ()  # why devices that are there cannot be used, a sentence each
    colliding: tuple[str, ...] = ()  # why no record could hold its devices together, a sentence each
    # Device -> codes that will keep its figure from counting; None where the whole campaign is asked, and no node.
    against: Mapping[str, tuple[str, ...]] | None = None
    refuses_busy: bool = True  # whether the profile refuses to measure a device that others use
    clock: NodeClock = NodeClock(source="kernel", uncertainty_ns=None)
    clock_why: str = ""  # why its error is not known
    host: HostView = HostView()
    folder: FolderView | None = None
    software: SoftwareView = SoftwareView()
