"""What AMD's compute driver (KFD) reports below /sys: its nodes in the runtime's order, and who uses them.

Files of the kernel, readable without root; nothing is opened for writing, and no process or library is needed.
Source: Linux, drivers/gpu/drm/amd/amdkfd/kfd_topology.c and kfd_process.c.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

TOPOLOGY = "sys/class/kfd/kfd/topology/nodes"
PROCESSES = "sys/class/kfd/kfd/proc"
VRAM_HEAPS = frozenset({1, 2})  # visible and not visible to the host (HSA_HEAPTYPE_FRAME_BUFFER_*)
MOST_BYTES = 64 * 1024


class KfdNode(NamedTuple):
    """One GPU, or one partition of a GPU, that the runtime lists.

    Args:
        gpu_id: by which KFD names it.
        pci_address: of its function, or of a function 0 whose partition it is, by where `location_id` points.
        partition: its place among the partitions of its function; None where it may be the whole.
        unique_id: by which the runtime names it; None where the chip has none.
        device_id: assigned by AMD (PCI).
        units: compute units.
        max_clock_mhz: of the compute engines.
        memory_bytes: of its own memory banks.
        gfx_target: such as 90402 (9.4.2).
    """

    gpu_id: str
    pci_address: str
    partition: int | None
    unique_id: int | None
    device_id: int
    units: int | None
    max_clock_mhz: int | None
    memory_bytes: int | None
    gfx_target: int


class Topology(NamedTuple):
    """The nodes that this process may use, in order, and how many of them it may not."""

    nodes: list[KfdNode]
    hidden: int


def read(path: Path | str) -> bytes | None:
    """Return what a file of the kernel holds; None where it is missing, refuses or has nothing to say at present."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(descriptor, MOST_BYTES)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def text(path: Path | str) -> str | None:
    """Return the one line of a file of the kernel, trimmed of blanks and NUL bytes; None where there is none."""
    content = read(path)
    line = "" if content is None else content.decode("utf-8", "replace").replace("\0", " ").strip()
    return " ".join(line.split()) or None


def number(path: Path | str) -> int | None:
    """Return the decimal number that a file of the kernel holds; None where it holds none."""
    content = read(path)
    try:
        return None if content is None else int(content)
    except ValueError:
        return None


def numbers(path: Path | str) -> dict[str, int] | None:
    """Return what a file of lines "name number" holds; None where it cannot be read."""
    content = read(path)
    if content is None:
        return None
    lines = (line.split() for line in content.decode("ascii", "replace").splitlines())
    return {line[0]: int(line[1]) for line in lines if len(line) == 2 and line[1].isdecimal() and line[1].isascii()}


def topology(root: Path = Path("/")) -> Topology:
    """Return the GPU nodes in the order of their numbers, which is the runtime's (ROCr, HIP).

    A container's device cgroup makes the kernel refuse the files of the nodes that it was not given; the runtime
    passes over these, and does not count them.

    Args:
        root: the file system's root (tests).
    """
    folders = [path for path in (root / TOPOLOGY).glob("*") if path.name.isdecimal()]
    nodes, hidden = [], 0
    for folder in sorted(folders, key=lambda path: int(path.name)):
        properties, gpu_id = numbers(folder / "properties"), text(folder / "gpu_id")
        if properties is None:
            hidden += _refuses(folder / "properties")
        elif properties.get("simd_count"):
            nodes.append(_node(folder, properties, gpu_id or "", root))
    return Topology(nodes, hidden)


def processes(root: Path = Path("/")) -> dict[str, int] | None:
    """Return how many processes hold memory or queues on each GPU, by its `gpu_id`; None where that is not shown.

    A process that only opened the driver has entries of all GPUs, with no memory: it does not count.

    Args:
        root: the file system's root (tests).
    """
    counts: dict[str, int] = {}
    try:
        for folder in (root / PROCESSES).iterdir():
            for gpu_id in _used(folder):
                counts[gpu_id] = counts.get(gpu_id, 0) + 1
    except OSError:
        return None
    return counts


def _used(folder: Path) -> set[str]:
    """Return the GPUs on which a process holds memory or queues; none of one that has just ended.

    Raises:
        OSError: its files refuse.
    """
    try:
        held = {path.name.removeprefix("vram_"): path.read_bytes() for path in folder.glob("vram_*")}
        of_queues = {path.read_text("ascii").strip() for path in folder.glob("queues/*/gpuid")}
    except (FileNotFoundError, ProcessLookupError):
        return set()
    return {gpu_id for gpu_id, size in held.items() if size.strip() not in (b"", b"0")} | of_queues


def _refuses(path: Path) -> bool:
    """Return whether a file is there and refuses to be read, as that of a GPU which a container was not given."""
    try:
        path.read_bytes()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _node(folder: Path, properties: dict[str, int], gpu_id: str, root: Path) -> KfdNode:
    simds, each, at = properties["simd_count"], properties.get("simd_per_cu", 0), properties.get("location_id", 0)
    domain = properties.get("domain", 0)
    place = f"{domain:04x}:{at >> 8 & 0xFF:02x}:{at >> 3 & 0x1F:02x}"
    # Of a partition the lowest bits, or in later kernels the highest, are its place and not the function's.
    partition = at >> 28 & 0xF or at & 7
    if at & 7 and (root / "sys/bus/pci/devices" / f"{place}.{at & 7}").exists():
        place, partition = f"{place}.{at & 7}", at >> 28 & 0xF
    else:
        place = f"{place}.0"
    return KfdNode(
        gpu_id=gpu_id,
        pci_address=place,
        partition=partition or None,
        unique_id=properties.get("unique_id") or None,
        device_id=properties.get("device_id", 0),
        units=simds // each if each else None,
        max_clock_mhz=properties.get("max_engine_clk_fcompute") or None,
        memory_bytes=_memory(folder),
        gfx_target=properties.get("gfx_target_version", 0),
    )


def function_of(address: str, root: Path = Path("/")) -> str:
    """Return the PCI address of the function that a partition is of.

    AMD's libraries and tools write the partition's place where the function's stands: such a function is not there.

    Args:
        address: as they report it.
        root: the file system's root (tests).
    """
    functions, first = root / "sys/bus/pci/devices", f"{address[:-1]}0"
    return first if not (functions / address).exists() and (functions / first).exists() else address


def _memory(folder: Path) -> int | None:
    banks = [numbers(path) or {} for path in (folder / "mem_banks").glob("*/properties")]
    return sum(bank.get("size_in_bytes", 0) for bank in banks if bank.get("heap_type") in VRAM_HEAPS) or None
