"""Which devices CUDA lets a process measure: its own list, and in place of a GPU in MIG mode the instances on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from bench.devices.libraries.nvml import Gpu, normal_address
from bench.devices.vendors import libcuda
from bench.devices.vendors.libcuda import Visible
from bench.errors import InputError

VISIBLE = "CUDA_VISIBLE_DEVICES"
ANSWERS_WITHIN_S = 180  # without persistence mode every GPU is first woken up
# What libcuda answers to its initialisation (CUresult): reason code, what is wrong, what to do.
CUDA_TROUBLES = {
    libcuda.LIBRARY_NOT_FOUND: (
        "driver-library-missing",
        "libcuda.so.1 cannot be loaded although NVML answers",
        "install the driver's CUDA library, in a container set NVIDIA_DRIVER_CAPABILITIES=compute,utility",
    ),
    34: (
        "driver-library-missing",
        "the libcuda.so.1 that is found is the toolkit's stub",
        "take the folder stubs out of LD_LIBRARY_PATH",
    ),
    800: ("device-permission", "CUDA refuses this user", "give it access to /dev/nvidia*"),
    802: ("driver-failed", "CUDA is not ready: the fabric is down", "start the service nvidia-fabricmanager"),
    803: ("driver-mismatch", "the CUDA library and the kernel driver are of different versions", "restart the node"),
    804: (
        "driver-mismatch",
        "CUDA's compatibility library does not support this GPU",
        "take it out of LD_LIBRARY_PATH",
    ),
}
NOTHING_VISIBLE = (libcuda.NO_DEVICE, 101)  # the latter where CUDA_VISIBLE_DEVICES names a device twice


class Entry(NamedTuple):
    """A device that can be measured; `visible` is None where CUDA shows it only to a process of its own."""

    gpu: Gpu
    visible: Visible | None


def look_outside(environ: Mapping[str, str]) -> list[Visible]:
    """Return what CUDA shows to a process of its own with this environment; nothing where it shows nothing.

    Raises:
        InputError: CUDA does not start.
    """
    command = [sys.executable, "-I", "-S", libcuda.__file__]
    try:
        done = subprocess.run(command, env=dict(environ), capture_output=True, timeout=ANSWERS_WITHIN_S, check=False)
        answer = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        what = f"CUDA did not answer within {ANSWERS_WITHIN_S} s"
        raise InputError("driver-failed", what, where="cuda", fix="see: nvidia-smi") from None
    except ValueError:
        what = f"the process that asks CUDA ended with status {done.returncode}"
        raise InputError("driver-failed", what, where="cuda", fix="see: nvidia-smi") from None
    if isinstance(answer, list):
        return msgspec.convert(answer, list[Visible])
    if answer["code"] in NOTHING_VISIBLE:
        return []
    code, what, fix = CUDA_TROUBLES.get(
        answer["code"], ("driver-failed", f"CUDA does not start: {answer['name']}", "see: nvidia-smi")
    )
    raise InputError(code, what, where="cuda", fix=fix)


def arrange(gpus: Sequence[Gpu], seen: Sequence[Visible], chosen: str | None) -> list[Entry]:
    """Return what can be measured: CUDA's devices in its order, and in place of a GPU in MIG mode its instances.

    CUDA shows a process one MIG instance at most and then no whole GPU (MIG user guide, CUDA device enumeration), and
    each worker sees but its own device. So with MIG all are listed: those that CUDA_VISIBLE_DEVICES names as MIG
    instances, else all instances of the GPU that CUDA shows one of, and of every GPU where the variable is not set.

    Args:
        gpus: what NVML reports.
        seen: what CUDA shows.
        chosen: CUDA_VISIBLE_DEVICES, None where it is not set.

    Raises:
        InputError: nothing is visible, or CUDA shows what NVML does not know.
    """
    if not seen:
        unused = "" if chosen is None else f" with {VISIBLE}={chosen!r}"
        idle = any(gpu.in_mig_mode and not instances_of(gpu, gpus) for gpu in gpus)
        fix = f"correct or unset {VISIBLE}" if unused else "create MIG instances" if idle else "see: nvidia-smi"
        raise InputError(
            "device-not-visible", f"CUDA shows no device{unused}; NVML has {len(gpus)}", where="cuda", fix=fix
        )
    shown = {visible.uuid: visible for visible in seen}
    instances = [Entry(gpu, shown.get(gpu.hex_uuid)) for gpu in gpus if gpu.parent is not None]
    named = [entry for name in (chosen or "").split(",") if (entry := _instance_named(name.strip(), instances))]
    if named:
        return list(dict.fromkeys(named))
    if instances and chosen is None:
        return [Entry(gpu, shown.get(gpu.hex_uuid)) for gpu in gpus if not gpu.in_mig_mode]
    entries: list[Entry] = []
    for visible in seen:
        instance = next((e.gpu for e in instances if e.gpu.hex_uuid == visible.uuid), None)
        if instance is not None:
            entries += [e for e in instances if e.gpu.parent == instance.parent]
            continue
        gpu = next((gpu for gpu in gpus if gpu.parent is None and is_same(gpu, visible, gpu.hex_uuid)), None)
        if gpu is None:
            what = f"CUDA shows a device at {visible.pci_address} that NVML does not know"
            raise InputError("driver-failed", what, where="cuda")
        entries.append(Entry(gpu, visible))
    return entries


def is_same(gpu: Gpu, visible: Visible, uuid: str | None) -> bool:
    """Return whether CUDA shows a GPU: by its PCI address, where both report one, else by its uuid.

    Args:
        gpu: as NVML lists it.
        visible: as CUDA shows it.
        uuid: that CUDA should show for it, hex; None where that is unknown.
    """
    address = normal_address(visible.pci_address)
    if address and gpu.pci_address:
        return address == gpu.pci_address
    return uuid is None or visible.uuid == uuid


def arrange_by_nvml(gpus: Sequence[Gpu], chosen: str | None) -> list[Entry]:
    """Return what `arrange` returns, and what is lost or broken in its place, without asking CUDA.

    With a lost GPU CUDA does not start, or leaves it out and numbers the rest anew. NVML's
    order stays: that of the bus, which is CUDA's own among equal GPUs. Each worker names its GPU by uuid, whatever its
    number.

    Args:
        gpus: what NVML reports.
        chosen: CUDA_VISIBLE_DEVICES, None where it is not set.

    Raises:
        InputError: nothing is visible.
    """
    wholes = [gpu for gpu in gpus if gpu.parent is None]
    nameless = iter([gpu for gpu in wholes if not gpu.uuid])
    wanted: list[Gpu] = []
    for name in map(str, range(len(wholes))) if chosen is None else chosen.split(","):
        gpu = _named(name.strip(), gpus, wholes) or (next(nameless, None) if name.strip().startswith("GPU-") else None)
        if gpu is None:
            break  # as CUDA does
        wanted += instances_of(gpu, gpus) if gpu.in_mig_mode else [gpu]
    if not wanted:
        what = f"{VISIBLE}={chosen!r} names none of the {len(wholes)} GPUs that NVML has"
        raise InputError("device-not-visible", what, where="cuda", fix=f"correct or unset {VISIBLE}")
    return [Entry(gpu, None) for place, gpu in enumerate(wanted) if not any(gpu is one for one in wanted[:place])]


def _named(name: str, gpus: Sequence[Gpu], wholes: Sequence[Gpu]) -> Gpu | None:
    """Return what an entry of CUDA_VISIBLE_DEVICES names: a number in NVML's order, or a uuid, maybe abbreviated."""
    if name.isascii() and name.isdigit():
        return wholes[int(name)] if len(name) < 5 and int(name) < len(wholes) else None
    fitting = [gpu for gpu in gpus if name.startswith(("GPU-", "MIG-")) and gpu.uuid.startswith(name)]
    return fitting[0] if len(fitting) == 1 else None


def instances_of(gpu: Gpu, gpus: Sequence[Gpu]) -> list[Gpu]:
    """Return the MIG instances of a GPU."""
    return [other for other in gpus if other.parent == gpu.uuid]


def _instance_named(name: str, instances: Sequence[Entry]) -> Entry | None:
    """Return the MIG instance that an entry of CUDA_VISIBLE_DEVICES names; it may be abbreviated."""
    if not name.startswith("MIG-"):
        return None
    fitting = [entry for entry in instances if entry.gpu.uuid.startswith(name)]
    return fitting[0] if len(fitting) == 1 else None


def cuda_name(entry: Entry) -> str:
    """Return what CUDA_VISIBLE_DEVICES must be for a device to be the only one."""
    if entry.gpu.parent is not None or entry.visible is None:
        return entry.gpu.uuid
    digits = entry.visible.uuid
    return f"GPU-{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def view(entry: Entry) -> Visible | None:
    """Return how CUDA shows a device, if need be alone; None where it does not."""
    if entry.visible is not None or entry.gpu.fault is not None:
        return entry.visible
    try:
        seen = look_outside({**os.environ, VISIBLE: cuda_name(entry)})
    except InputError:
        return None
    return seen[0] if len(seen) == 1 else None
