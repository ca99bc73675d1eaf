"""NVIDIA GPUs and MIG instances: those that CUDA shows, in its order, matched with NVML by PCI address or uuid.

CUDA decides what there is to be measured, NVML tells what it is and how it fares (`bench.devices.libraries.nvml`).
Nothing here changes a clock, a limit or a mode. A driver whose version begins with "petaseal-fake" is the one of the
tests: what it shows is marked simulated, and computed on the CPU.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from bench.clock import Clock
from bench.devices import pci
from bench.devices.base import Faulty, LocalDevice, UnusableError, check_same, index_of, parse_index
from bench.devices.libraries.nvidia.repairs import MemoryRepairs, memory_repairs
from bench.devices.libraries.nvidia.telemetry import NvmlSource
from bench.devices.libraries.nvml import EXPOSES, Gpu, Nvml, loaded_library, normal_address
from bench.devices.torch_device import OpenedTorch
from bench.devices.vendors import libcuda
from bench.devices.vendors.cuda_visible import (
    VISIBLE,
    Entry,
    arrange,
    arrange_by_nvml,
    cuda_name,
    is_same,
    look_outside,
    view,
)
from bench.devices.vendors.libcuda import CudaError, Visible
from bench.engine.measure import EventTimer
from bench.errors import DeviceError, InputError, MissingLibraryError
from bench.record import Device, DeviceModel, NodeClock, Precision
from bench.telemetry import Reading

if TYPE_CHECKING:
    from kernels.base import Kernel

NVIDIA = frozenset({0x10DE})  # PCI vendor id
FAKE_DRIVER = "petaseal-fake"
AT_ONCE = 8
FIRST_WITH_BF16 = (8, 0)  # compute capability
GIVE_THE_DRIVER = "install the NVIDIA driver, in a container start it with the NVIDIA Container Toolkit"

# What NVML answers to its initialisation (nvmlReturn_t): reason code, what is wrong, what to do.
LIBRARY_NOT_FOUND, DRIVER_NOT_LOADED = 12, 9
NVML_TROUBLES = {
    LIBRARY_NOT_FOUND: ("driver-library-missing", "libnvidia-ml.so.1 cannot be loaded", GIVE_THE_DRIVER),
    DRIVER_NOT_LOADED: ("driver-not-loaded", "the NVIDIA kernel driver is not loaded", "load it: modprobe nvidia"),
    18: (
        "driver-mismatch",
        "the NVIDIA kernel driver and its library are of different versions",
        "restart the node, or the container, after the driver's upgrade",
    ),
    4: (
        "device-permission",
        "the NVIDIA driver refuses this user",
        "give it access to /dev/nvidiactl and /dev/nvidia*",
    ),
}


class Nvidia:
    """Back end of kind "cuda".

    Args:
        root: the file system's root, for signs of hardware.
    """

    vendor_ids: ClassVar[frozenset[int]] = NVIDIA

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def find(self, argument: str | None) -> list[LocalDevice]:
        """Return the GPUs and MIG instances that CUDA shows, lost ones among them; a GPU in MIG mode is its instances.

        Raises:
            InputError: there is no such device, or it cannot be used, and why.
        """
        nvml = self._nvml(argument)
        if nvml is None:
            return []
        driver, library = nvml.driver(), (*loaded_library(), nvml.version())
        try:
            entries = self._entries(nvml, argument)
        except InputError as error:
            there = enumerate(nvml.gpus())
            raise UnusableError(error, [describe(i, gpu, None, driver, library) for i, gpu in there]) from None
        indexes = parse_index("cuda", argument, len(entries))
        chosen = [entries[index] for index in indexes]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            views = list(pool.map(view, chosen))
        return [
            describe(index, entry.gpu, visible, driver, library)
            for index, entry, visible in zip(indexes, chosen, views, strict=True)
        ]

    def watch(self, devices: Sequence[LocalDevice]) -> NvmlWatch:
        """Begin to read GPUs and instances through NVML."""
        nvml = self._nvml("0")
        assert nvml is not None
        return NvmlWatch(nvml, devices)

    def repairs(self, devices: Sequence[LocalDevice]) -> dict[str, MemoryRepairs]:
        """Return the spare rows of GPUs by uuid, as far as they report them."""
        nvml = self._nvml("0")
        assert nvml is not None
        return memory_repairs(nvml, (one.device.uuid for one in devices))

    def open(self, local: LocalDevice, clock: Clock) -> OpenedNvidia:
        """Make a device the only one that CUDA shows to this process, and return it.

        Raises:
            InputError: there is no such device, or it cannot be used.
            DeviceError: another device has taken its place.
        """
        index = index_of(local)
        nvml = self._nvml(str(index))
        assert nvml is not None
        entries = self._entries(nvml, str(index))
        entry = entries[parse_index("cuda", str(index), len(entries))[0]]
        visible = view(entry)
        check_same(local, describe(index, entry.gpu, visible, None, (None, None, None)).device)
        os.environ[VISIBLE] = cuda_name(entry)
        os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        return OpenedNvidia(nvml, entry.gpu, visible, is_fake(nvml.driver()))

    def node_clock(self) -> NodeClock | None:
        """Return None: the node's clock is the kernel's."""
        return None

    def _nvml(self, argument: str | None) -> Nvml | None:
        """Return the library; None where all devices are asked for and there is no sign of any."""
        expected = argument is not None or bool(pci.present(NVIDIA, self._root))
        try:
            return Nvml()
        except ImportError:
            if not expected:
                return None
            raise MissingLibraryError("nvidia-ml-py", "to tell NVIDIA GPUs apart", "cuda12") from None
        except Exception as error:  # pynvml.NVMLError, which cannot be named before it is imported
            value = getattr(error, "value", None)
            if not expected and value in (LIBRARY_NOT_FOUND, DRIVER_NOT_LOADED):
                return None
            trouble = NVML_TROUBLES.get(value) if isinstance(value, int) else None
            code, what, fix = trouble or ("driver-failed", f"NVML does not start: {error}", "see: nvidia-smi")
            raise InputError(code, what, where="cuda", fix=fix) from None

    def _entries(self, nvml: Nvml, argument: str | None) -> list[Entry]:
        gpus = nvml.gpus()
        if not gpus:
            if argument is None and not pci.present(NVIDIA, self._root):
                return []
            raise InputError(
                "device-not-visible",
                "the NVIDIA driver shows no GPU to this process",
                where="cuda",
                fix="give it access to /dev/nvidia*, or in a container give that the GPUs",
            )
        if any(gpu.fault for gpu in gpus):
            return arrange_by_nvml(self._placed(gpus), os.environ.get(VISIBLE))
        return arrange(gpus, look_outside(os.environ), os.environ.get(VISIBLE))

    def _placed(self, gpus: Sequence[Gpu]) -> list[Gpu]:
        """Return GPUs with the addresses of those that do not tell theirs: the others that are on the bus, in order."""
        known = {gpu.pci_address for gpu in gpus}
        free = [address for address in pci.present(NVIDIA, self._root) if address not in known]
        if len(free) != sum(not gpu.pci_address for gpu in gpus):  # a container may see more of the bus than of GPUs
            return list(gpus)
        left = iter(free)
        return [gpu if gpu.pci_address else gpu._replace(pci_address=next(left)) for gpu in gpus]


def is_fake(driver: str | None) -> bool:
    """Return whether the driver is the one of the tests."""
    return (driver or "").startswith(FAKE_DRIVER)


def describe(
    index: int,
    gpu: Gpu,
    visible: Visible | None,
    driver: str | None,
    library: tuple[str | None, str | None, str | None],
) -> LocalDevice:
    """Return a device as a record holds it.

    Args:
        index: in the kind's order.
        gpu: what NVML reports.
        visible: what CUDA reports.
        driver: its version.
        library: path, SHA-256 and version of the management library.
    """
    device = Device(
        device=f"cuda:{index}",
        model=0,
        uuid=gpu.uuid or None,
        serial=gpu.serial,
        die_id=None,
        pci_address=gpu.pci_address or None,
        parent=gpu.parent,
        numa_node=None,
    )
    fields = {
        "vendor": "NVIDIA",
        "model": gpu.model,
        "board_part": gpu.board_part,
        "firmware": gpu.firmware,
        **{name: getattr(device, name) for name in ("uuid", "serial", "pci_address", "parent")},
    }
    whole = gpu.parent is None and not gpu.share
    model = DeviceModel(
        kind="gpu",
        vendor="NVIDIA",
        model=gpu.model or "unknown",
        bin=None,
        board_part=gpu.board_part,
        simulated=is_fake(driver),
        plays=None,
        count_unit="card" if whole else "slice",
        obtained={name: "host_attested" for name, value in fields.items() if value is not None},
        firmware=gpu.firmware,
        driver=driver,
        library=library[0],
        library_sha256=library[1],
        memory_bytes=gpu.memory_bytes,
        cache_bytes=None if visible is None else visible.cache_bytes,
        # CUDA reports all units of the GPU that a virtual one is a share of
        units=gpu.units or (None if visible is None or gpu.share else visible.units),
        max_clock_mhz=gpu.max_clock_mhz,
        **gpu.settings._asdict() | {"modes": dict(gpu.settings.modes)},
        instruction_set=None,
        source="nvml",
        source_version=library[2],
        exposes=EXPOSES if whole else EXPOSES[1:],
    )
    return LocalDevice(model, device) if gpu.fault is None else Faulty(model, device, *gpu.fault)


class NvmlWatch:
    """GPUs and instances that one process reads through NVML (`bench.devices.base.DeviceWatch`)."""

    def __init__(self, nvml: Nvml, devices: Sequence[LocalDevice]) -> None:
        self._sources: dict[str, NvmlSource] = {}
        self._faults: dict[str, DeviceError] = {}
        for one in devices:
            try:
                self._sources[one.device.device] = NvmlSource(nvml, one.device.uuid or "")
            except DeviceError as error:
                self._faults[one.device.device] = error

    def read(self) -> dict[str, Reading | DeviceError]:
        """Return the present reading, or the fault, of each device by its name."""
        readings: dict[str, Reading | DeviceError] = dict(self._faults)
        for name, source in self._sources.items():
            try:
                readings[name] = source.read()
            except DeviceError as error:
                readings[name] = error
        return readings

    def close(self) -> None:
        """Leave NVML as it is: the process ends."""


class OpenedNvidia(OpenedTorch):
    """A GPU or MIG instance that this process measures, as "cuda:0".

    Args:
        nvml: the management library.
        gpu: what the library reports.
        visible: how CUDA shows it, None where that is unknown.
        simulated: whether the driver is a fake; then products are computed on the CPU.
    """

    def __init__(self, nvml: Nvml, gpu: Gpu, visible: Visible | None, simulated: bool) -> None:
        super().__init__("cpu" if simulated else "cuda:0")
        self._nvml = nvml
        self._gpu = gpu
        self._visible = visible
        self._simulated = simulated
        self._checked = False

    def kernel(self) -> Kernel:
        """Return the GEMM by torch."""
        if not self._simulated:
            return super().kernel()
        from kernels.base import load_kernel

        return load_kernel("gemm-numpy")

    def unsupported(self, precision: Precision) -> str | None:
        """Return why a precision is not native: BF16 came with compute capability 8.0, and is emulated before.

        Raises:
            DeviceError: CUDA shows this process another device than the one that was opened.
        """
        self._check()
        capability = self._visible.capability if self._visible else None
        if precision == "bf16" and capability is not None and capability < FIRST_WITH_BF16:
            return f"a GPU of compute capability {capability[0]}.{capability[1]} has no BF16 arithmetic"
        return None

    def memory_bytes(self) -> int | None:
        """Return nine tenths of the memory that is free at present, in bytes.

        Raises:
            DeviceError: CUDA shows this process another device than the one that was opened.
        """
        self._check()
        if not self._simulated:
            return super().memory_bytes()
        free = self._nvml.free_bytes(self._nvml.handle(self._gpu.uuid))
        return None if free is None else free * 9 // 10

    def timer(self) -> EventTimer | None:
        """Return the device's events; a fake driver has none."""
        return None if self._simulated else super().timer()

    def _check(self) -> None:
        """Ask CUDA, once a first reading was taken, which device it shows to this process."""
        if self._checked:
            return
        try:
            seen = libcuda.look()
        except CudaError as error:
            raise DeviceError("device-failed", f"CUDA does not start: {error.name}") from None
        if len(seen) != 1 or not self._is_this(seen[0]):
            shown = ", ".join(normal_address(one.pci_address) or one.uuid for one in seen) or "nothing"
            meant = f"the device at {self._gpu.pci_address}" if self._gpu.pci_address else self._gpu.uuid
            raise DeviceError("device-differs", f"CUDA shows {shown} where {meant} was opened")
        self._checked = True

    def _is_this(self, seen: Visible) -> bool:
        expected: str | None = self._visible.uuid if self._visible else self._gpu.hex_uuid
        if len(expected or "") != 32:  # the uuid of a MIG instance had another form before R470
            expected = None
        return is_same(self._gpu, seen, expected) and expected in (None, seen.uuid)
