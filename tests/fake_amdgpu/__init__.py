"""A fake node of AMD GPUs: the files of KFD, sysfs and hwmon below a root, as the amdgpu driver writes them.

The reader under test is the real one. Files may be changed, taken away or closed while it reads; its driver version
begins with "petaseal-fake", which marks whatever was measured with it as simulated.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

DRIVER = "petaseal-fake-6.12.12"
VRAM_BYTES = 206_141_652_992
RAS_BLOCKS = ("umc", "sdma", "gfx", "mmhub", "xgmi_wafl")
UNIQUE_ID = 0x5F0E1D2C3B4A5900


@dataclass
class FakeGpu:
    """One PCI function and the KFD nodes on it; None leaves a file out.

    Args:
        bus: of its PCI address.
        partitions: KFD nodes on it.
        metrics: content of ``gpu_metrics``.
        own_ids: whether each partition has a unique id of its own, as newer kernels give it.
        hidden: whether the container may not use it.
        started: whether the driver made a KFD node of it.
    """

    bus: int
    name: str | None = "AMD Instinct MI300X"
    unique_id: int | None = None
    serial: str | None = None
    device_id: int = 0x74A1
    subsystem: int = 0x74A1
    pci_class: int = 0x120000
    units: int = 304
    clock_mhz: int = 2100
    gfx_target: int = 90402
    memory_bytes: int = VRAM_BYTES
    compute: str | None = "SPX"
    memory: str | None = "NPS1"
    partitions: int = 1
    own_ids: bool = False
    power: Mapping[str, object] = field(default_factory=lambda: {"power1_input": 712_000_000})
    temperatures: Mapping[str, object] = field(default_factory=lambda: {"junction": 71_000, "mem": 63_000})
    clock_hz: object | None = 1_673_000_000
    busy: object | None = 100
    metrics: bytes | None = None
    errors: Mapping[str, str] | None = field(default_factory=lambda: dict.fromkeys(RAS_BLOCKS, "ue: 0\nce: 0\nde: 0\n"))
    hidden: bool = False
    started: bool = True

    @property
    def pci_address(self) -> str:
        """The address of its function."""
        return f"0000:{self.bus:02x}:00.0"

    def gpu_ids(self) -> list[int]:
        """Return KFD's numbers of its nodes."""
        return [1000 * self.bus + place for place in range(self.partitions)]


def mi300x(count: int = 8, **changes: object) -> list[FakeGpu]:
    """Return GPUs of a node of MI300X."""
    gpus = [
        FakeGpu(bus=0x0C + 0x10 * index, unique_id=UNIQUE_ID + index, serial=f"69244100{index:04d}")
        for index in range(count)
    ]
    return [_changed(gpu, changes) for gpu in gpus]


def mi250x(boards: int = 1, **changes: object) -> list[FakeGpu]:
    """Return the dies of some MI250X: the power is the first die's alone, the serial number is the board's."""
    gpus = [
        FakeGpu(
            bus=0x29 + 3 * (2 * board + die),
            name="AMD INSTINCT MI250X",
            unique_id=UNIQUE_ID + 0x20 + 2 * board + die,
            serial=f"PCB04823{board:04d}",
            device_id=0x7408,
            subsystem=0x0B0C,
            units=110,
            clock_mhz=1700,
            gfx_target=90010,
            memory_bytes=68_702_699_520,
            compute=None,
            memory=None,
            power={"power1_average": 0 if die else 418_000_000},
            temperatures={"edge": 51_000, "junction": 58_000, "mem": 55_000},
        )
        for board in range(boards)
        for die in range(2)
    ]
    return [_changed(gpu, changes) for gpu in gpus]


def build(root: Path, gpus: Sequence[FakeGpu], *, processors: int = 2, driver: str | None = DRIVER) -> Path:
    """Write the files of a node and return its root.

    Args:
        root: below which.
        gpus: in the order of KFD's nodes.
        processors: KFD nodes of CPUs, which come first.
        driver: version of the module; None for that of the kernel's tree, which has none of its own.
    """
    nodes = root / "sys/class/kfd/kfd/topology/nodes"
    for place in range(processors):
        _write(nodes / str(place) / "properties", "cpu_cores_count 96\nsimd_count 0\nmem_banks_count 1\n")
        _write(nodes / str(place) / "gpu_id", "0\n")
    place = processors
    for gpu in gpus:
        _function(root, gpu)
        for partition in range(gpu.partitions if gpu.started else 0):
            _node(nodes / str(place), gpu, partition)
            place += 1
    (root / "sys/class/kfd/kfd/proc").mkdir(parents=True, exist_ok=True)
    _write(root / "proc/sys/kernel/osrelease", "6.8.0-fake\n")
    if driver is not None:
        _write(root / "sys/module/amdgpu/version", f"{driver}\n")
    _write(root / "dev/kfd", "")
    return root


def set_processes(root: Path, holders: Mapping[int, Mapping[int, int]], queues: Iterable[tuple[int, int]] = ()) -> None:
    """Write the processes that use the compute driver, in place of those before.

    Args:
        root: of the node.
        holders: process id -> {gpu_id: bytes of its memory}.
        queues: (process id, gpu_id) of their queues.
    """
    folder = root / "sys/class/kfd/kfd/proc"
    for process, held in holders.items():
        (folder / str(process) / "queues").mkdir(parents=True, exist_ok=True)
        for gpu_id, size in held.items():
            _write(folder / str(process) / f"vram_{gpu_id}", f"{size}\n")
            _write(folder / str(process) / f"sdma_{gpu_id}", "0\n")
    for number, (process, gpu_id) in enumerate(queues):
        _write(folder / str(process) / f"queues/{number}/gpuid", f"{gpu_id}\n")


def _changed(gpu: FakeGpu, changes: Mapping[str, object]) -> FakeGpu:
    for name, value in changes.items():
        setattr(gpu, name, value)
    return gpu


def _function(root: Path, gpu: FakeGpu) -> None:
    function = root / "sys/bus/pci/devices" / gpu.pci_address
    unique_id = None if gpu.unique_id is None else f"{gpu.unique_id:016x}"
    files: dict[str, object | None] = {
        "vendor": "0x1002",
        "device": f"0x{gpu.device_id:04x}",
        "subsystem_device": f"0x{gpu.subsystem:04x}",
        "class": f"0x{gpu.pci_class:06x}",
        "unique_id": unique_id,
        "serial_number": gpu.serial,
        "product_name": gpu.name,
        "product_number": "102-G30211-0C",
        "vbios_version": "113-M3000100-102",
        "mem_info_vram_total": gpu.memory_bytes,
        "current_compute_partition": gpu.compute,
        "current_memory_partition": gpu.memory,
        "gpu_busy_percent": gpu.busy,
    }
    for name, value in files.items():
        if value is not None:
            _write(function / name, f"{value}\n")
    if gpu.metrics is not None:
        (function / "gpu_metrics").write_bytes(gpu.metrics)
    (function / "config").write_bytes(struct.pack("<HH", 0x1002, gpu.device_id) + bytes(60))
    for block, text in (gpu.errors or {}).items():
        _write(function / f"ras/{block}_err_count", text)
    _sensors(function / "hwmon/hwmon3", gpu)
    (root / "sys/bus/pci/drivers/amdgpu").mkdir(parents=True, exist_ok=True)
    if not (function / "driver").is_symlink():
        (function / "driver").symlink_to("../../drivers/amdgpu")


def _sensors(hwmon: Path, gpu: FakeGpu) -> None:
    _write(hwmon / "name", "amdgpu\n")
    caps = {"power1_cap": 750_000_000, "power1_cap_default": 750_000_000, "power1_cap_max": 750_000_000}
    for name, value in {**caps, **gpu.power}.items():
        _write(hwmon / name, f"{value}\n")
    for place, (label, value) in enumerate(gpu.temperatures.items(), 1):
        _write(hwmon / f"temp{place}_label", f"{label}\n")
        _write(hwmon / f"temp{place}_input", f"{value}\n")
    if gpu.clock_hz is not None:
        _write(hwmon / "freq1_label", "sclk\n")
        _write(hwmon / "freq1_input", f"{gpu.clock_hz}\n")


def _node(folder: Path, gpu: FakeGpu, partition: int) -> None:
    unique_id = (gpu.unique_id or 0) + (0x1000 * (partition + 1) if gpu.own_ids else 0)
    properties = {
        "cpu_cores_count": 0,
        "simd_count": gpu.units * 4 // gpu.partitions,
        "mem_banks_count": 1,
        "simd_per_cu": 4,
        "gfx_target_version": gpu.gfx_target,
        "vendor_id": 0x1002,
        "device_id": gpu.device_id,
        "location_id": gpu.bus << 8 | partition,
        "domain": 0,
        "max_engine_clk_fcompute": gpu.clock_mhz,
        "unique_id": unique_id,
        "num_xcc": 8 // gpu.partitions,
    }
    if gpu.hidden:  # reading a folder fails as the kernel's refusal does, for root too
        (folder / "properties").mkdir(parents=True)
        return
    _write(folder / "properties", "".join(f"{name} {value}\n" for name, value in properties.items()))
    _write(folder / "gpu_id", f"{gpu.gpu_ids()[partition]}\n")
    _write(folder / "name", "ip discovery\n")
    bank = f"heap_type 1\nsize_in_bytes {gpu.memory_bytes // gpu.partitions}\nflags 0\nwidth 8192\nmem_clk_max 1300\n"
    _write(folder / "mem_banks/0/properties", bank)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
