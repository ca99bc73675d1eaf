"""The processors of this node, taken together as one device: what a bare machine, and every test, can measure."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

from bench.clock import Clock
from bench.devices.base import LocalDevice, StackFacts, described_device, described_model, parse_index
from bench.engine.measure import EventTimer
from bench.environment import derived_id, dmi_identity, machine_id
from bench.host.cgroup import available_bytes, meminfo_bytes
from bench.host.cpus import usable_cores, usable_cpus
from bench.host.files import line
from bench.record import NodeClock, Precision
from bench.sensors import EXPOSES, CpuSource

if TYPE_CHECKING:
    from kernels.base import Kernel

VENDORS = {
    "authenticamd": "AMD",
    "genuineintel": "Intel",
    "hygongenuine": "Hygon",
    "centaurhauls": "Zhaoxin",
    "shanghai": "Zhaoxin",
}
# Arm's registry of implementers, as Linux prints them ("CPU implementer" in /proc/cpuinfo).
IMPLEMENTERS = {0x41: "Arm", 0x48: "HiSilicon", 0x4E: "NVIDIA", 0x51: "Qualcomm", 0x70: "Phytium", 0xC0: "Ampere"}
PARTS = {
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4F): "Neoverse-V2",
    (0x48, 0xD01): "Kunpeng-920 (TaiShan v110)",
    (0x48, 0xD02): "TaiShan v120",
    (0x70, 0x662): "FTC662",
    (0x70, 0x663): "FTC663",
    (0xC0, 0xAC3): "Ampere-1",
}
# What /proc/cpuinfo calls them on x86, Arm and LoongArch, the widest first. SVE's name takes its length in bits.
INSTRUCTION_SETS = {
    "amx_tile": "amx",
    "avx512f": "avx512",
    "avx2": "avx2",
    "avx": "avx",
    "sse2": "sse2",
    "sme": "sme",
    "sve": "sve",
    "asimd": "neon",
    "neon": "neon",
    "lasx": "lasx",
    "lsx": "lsx",
}
# Linux drivers whose highest frequency is that of the firmware's table; boost may go beyond it.
WITHOUT_BOOST = frozenset({"acpi-cpufreq", "pcc-cpufreq"})


class Cpu:
    """Back end of the node's processors.

    Args:
        root: the file system's root (tests).
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def find(self, argument: str | None) -> list[LocalDevice]:
        """Return the one device that all processors of this node make up."""
        parse_index("cpu", argument, 1)
        fields = cpuinfo(self.root)
        cpus = usable_cpus()
        vendor, model = name_of(fields)
        machine = dmi_identity(self.root)  # outlives the system on the disk; only root may read it
        described = described_model(
            kind="cpu",
            vendor=vendor,
            model=model,
            count_unit="package",
            obtained={
                "vendor": "host_attested",
                "model": "host_attested",
                "uuid": "asserted" if machine is None else "host_attested",
            },
            firmware=_short(fields.get("microcode")),
            memory_bytes=meminfo_bytes("MemTotal", self.root),
            cache_bytes=last_level_cache_bytes(cpus, self.root),
            units=usable_cores(cpus, self.root),
            max_clock_mhz=max_clock_mhz(cpus, self.root),
            instruction_set=instruction_set(fields, self.root),
            source="linux",
            exposes=EXPOSES,
        )
        device = described_device(
            device="cpu:0",
            uuid=derived_id("cpu", machine_id() if machine is None else machine[1]),
        )
        return [LocalDevice(described, device)]

    def open(self, local: LocalDevice, clock: Clock) -> OpenedCpu:
        """Return the processors for measuring."""
        return OpenedCpu(clock, self.root)

    def node_clock(self) -> NodeClock | None:
        """Return None: a real machine has a real clock."""
        return None


class OpenedCpu:
    """The processors, being measured by this process."""

    target = "cpu"

    def __init__(self, clock: Clock, root: Path) -> None:
        self._clock = clock
        self._root = root

    def kernel(self) -> Kernel:
        """Return the numpy GEMM: it needs nothing but the base dependencies."""
        from kernels.base import load_kernel

        return load_kernel("gemm-numpy")

    def unsupported(self, precision: Precision) -> str | None:
        """Return None: what a processor lacks, its kernel up-casts and says so."""
        return None

    def memory_bytes(self) -> int | None:
        """Return half of the memory that is available to this process, in bytes."""
        available = available_bytes(self._root)
        return None if available is None else available // 2

    def source(self) -> CpuSource:
        """Return the kernel's sensors."""
        return CpuSource(usable_cpus(), self._clock, self._root)

    def timer(self) -> EventTimer | None:
        """Return None: a processor has no time of its own."""
        return None

    def stack_facts(self) -> StackFacts | None:
        """Return None: its back end reports all."""
        return None

    def begin(self, precision: Precision, opens_ns: int) -> None:
        """Do nothing."""


def cpuinfo(root: Path) -> dict[str, str]:
    """Return the fields of the first processor in /proc/cpuinfo, names in lower case."""
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    fields: dict[str, str] = {}
    for one in text.splitlines():
        name, colon, value = one.partition(":")
        if colon:
            fields.setdefault(name.strip().lower(), value.strip())
    return fields


def name_of(fields: dict[str, str]) -> tuple[str, str]:
    """Return vendor and model from /proc/cpuinfo; Arm processors name an implementer and a part instead."""
    model = _short(fields.get("model name"))
    vendor = VENDORS.get(fields.get("vendor_id", "").strip().lower(), _short(fields.get("vendor_id")))
    try:
        implementer, part = int(fields["cpu implementer"], 16), int(fields["cpu part"], 16)
    except (KeyError, ValueError):
        return vendor or "unknown", model or platform.machine() or "unknown"
    unnamed = f"implementer 0x{implementer:02x} part 0x{part:03x}"
    return vendor or IMPLEMENTERS.get(implementer, "unknown"), model or PARTS.get((implementer, part), unnamed)


def last_level_cache_bytes(cpus: list[int], root: Path) -> int | None:
    """Return the size of all last-level caches together, in bytes; None where the kernel does not report it."""
    caches: dict[tuple[int, str], int] = {}
    for cpu in cpus:
        for index in range(8):
            level, size = (_cpu_file(root, cpu, f"cache/index{index}/{name}") for name in ("level", "size"))
            shared = _cpu_file(root, cpu, f"cache/index{index}/shared_cpu_list") or str(cpu)
            if level.isdigit() and (count := _size_bytes(size)):
                caches[int(level), shared] = count
    last = max((level for level, _ in caches), default=0)
    return sum(count for (level, _), count in caches.items() if level == last) or None if last >= 2 else None


def _size_bytes(text: str) -> int:
    factor = {"K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1:].upper(), 1)
    digits = text.rstrip("KMGkmg")
    return int(digits) * factor if digits.isdigit() else 0


def max_clock_mhz(cpus: list[int], root: Path) -> int | None:
    """Return the highest clock that any usable processor supports, MHz; None where the kernel does not report it."""
    if any(_cpu_file(root, cpu, "cpufreq/scaling_driver") in WITHOUT_BOOST for cpu in cpus):
        return None
    khz = [int(text) for cpu in cpus if (text := _cpu_file(root, cpu, "cpufreq/cpuinfo_max_freq")).isdigit()]
    return max(khz) // 1000 if khz and max(khz) >= 1000 else None


def instruction_set(fields: dict[str, str], root: Path) -> str | None:
    """Return the widest instruction set that a GEMM may use; None where the kernel does not report it.

    Args:
        fields: of /proc/cpuinfo.
        root: the file system's root.
    """
    flags = {*fields.get("flags", "").split(), *fields.get("features", "").split()}
    known = next((name for flag, name in INSTRUCTION_SETS.items() if flag in flags), None)
    if known != "sve":
        return known
    length_bytes = line(root / "proc/sys/abi/sve_default_vector_length")
    return f"sve{8 * int(length_bytes)}" if length_bytes.isdigit() and len(length_bytes) < 6 else None


def _cpu_file(root: Path, cpu: int, name: str) -> str:
    return line(root / f"sys/devices/system/cpu/cpu{cpu}" / name)


def _short(text: str | None) -> str | None:
    flat = " ".join((text or "").split())
    return flat[:200] if flat and flat.isprintable() else None
