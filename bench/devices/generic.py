"""Anything that registers with ``torch.accelerator`` and has no back end of its own here.

torch tells little of such a device: mostly a name. What identifies it is null unless its module exposes a real uuid,
there is no telemetry, and what that is worth is the rules' business.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from bench.clock import Clock
from bench.devices.base import LocalDevice, check_same, described_device, described_model, index_of, parse_index
from bench.devices.pci import present
from bench.devices.torch_device import OpenedTorch
from bench.errors import InputError, one_line
from bench.record import Device, DeviceModel, NodeClock
from bench.record.identities import readable_identifier
from bench.record.node import Obtained

# Of these torch device types another file of this room measures the devices.
TORCH_BACKEND = frozenset({"cuda", "npu", "mlu", "musa"})
EXCLUDED_PLUGINS = frozenset({"torch_npu", "torch_mlu", "torch_musa"})  # packages that add those types to torch
GPU_TYPES = frozenset({"xpu", "mps", "vulkan"})
INTEL = 0x8086  # the vendor whose type ("xpu") is part of torch itself
TORCH_BACKENDS = "torch.backends"  # torch's own group of entry points, by which it loads what others add


class Torch:
    """Back end of whatever else torch computes on.

    Importing torch takes seconds, so ``find(None)`` does it only where something says that it may find a device: a
    package that adds a device type to torch, a Mac, or an Intel GPU on the bus. ``find("0")`` always does.

    Args:
        root: the file system's root (tests).
    """

    vendor_ids: ClassVar[frozenset[int]] = frozenset({INTEL})

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def find(self, argument: str | None) -> list[LocalDevice]:
        """Return the accelerators that torch lists and no other back end measures."""
        if argument is None and not announced(self.root):
            return []
        kind, count = accelerator()
        if argument is not None and not count:
            elsewhere = f"torch's {kind} devices have a back end of their own"
            reason = elsewhere if kind in TORCH_BACKEND else "torch tells of no accelerator"
            raise InputError("no-device", reason, where=f"torch:{argument}", fix="see: petaseal devices")
        return [LocalDevice(*_described(kind, index)) for index in parse_index("torch", argument, count)]

    def open(self, local: LocalDevice, clock: Clock) -> OpenedTorch:
        """Return an accelerator for measuring."""
        index, kind = index_of(local), accelerator()[0]
        check_same(local, _described(kind, index)[1])
        return OpenedTorch(f"{kind}:{index}")

    def node_clock(self) -> NodeClock | None:
        """Return None: a real machine has a real clock."""
        return None


def announced(root: Path = Path("/")) -> bool:
    """Return whether torch may have an accelerator that no other back end measures, without importing torch.

    Args:
        root: the file system's root (tests).
    """
    if find_spec("torch") is None:
        return False
    plugins = {point.value.partition(":")[0].partition(".")[0] for point in entry_points(group=TORCH_BACKENDS)}
    added = os.environ.get("TORCH_DEVICE_BACKEND_AUTOLOAD", "1") == "1" and bool(plugins - EXCLUDED_PLUGINS)
    return added or sys.platform == "darwin" or bool(present({INTEL}, root))


def accelerator() -> tuple[str, int]:
    """Return torch's accelerator as (type, number of devices that this file measures); the type is "" for none.

    Raises:
        InputError: torch cannot be imported, or fails to load what another package adds to it.
    """
    try:
        import torch
    except (ImportError, RuntimeError) as error:  # RuntimeError: what another package adds to torch fails to load
        added = isinstance(error, RuntimeError)
        raise InputError(
            "missing-library",
            f"cannot be imported ({one_line(str(error), 200)})",
            where="torch",
            fix="repair that package, or do without it: TORCH_DEVICE_BACKEND_AUTOLOAD=0"
            if added
            else "pip install 'petaseal[torch]'",
        ) from None
    api = getattr(torch, "accelerator", None)  # since torch 2.6
    if api is None or not api.is_available():
        return "", 0
    kind = str(api.current_accelerator().type)
    return kind, 0 if kind in TORCH_BACKEND else int(api.device_count())


def _described(kind: str, index: int) -> tuple[DeviceModel, Device]:
    """Return what torch's module of a device type tells of one device."""
    import torch

    module = getattr(torch, kind, None)
    properties = _ask(module, "get_device_properties", index)
    name = _text(_ask(module, "get_device_name", index)) or _text(getattr(properties, "name", None))
    vendor = _text(getattr(properties, "vendor", None))
    uuid = getattr(properties, "uuid", None)
    uuid = readable_identifier(uuid.hex() if isinstance(uuid, bytes) else uuid)
    cache = _size(properties, "L2_cache_size") or _size(properties, "last_level_cache_size")
    obtained: dict[str, Obtained] = dict.fromkeys(("vendor", "model"), "asserted")  # no driver told them
    obtained |= {
        field: "host_attested" for field, value in (("vendor", vendor), ("model", name), ("uuid", uuid)) if value
    }
    model = described_model(
        kind="gpu" if kind in GPU_TYPES else "npu",
        vendor=vendor or "unknown",
        model=name or kind,
        count_unit="card",
        obtained=obtained,
        driver=_text(getattr(properties, "driver_version", None)),
        memory_bytes=_size(properties, "total_memory"),
        cache_bytes=cache,
    )
    return model, described_device(device=f"torch:{index}", uuid=uuid)


def _ask(module: Any, function: str, index: int) -> Any:
    """Return what a function of a device type's module tells of one device; None where it does not."""
    try:
        return getattr(module, function)(index)
    except Exception:  # whoever wrote the module decides what it raises; a name is not worth a measurement
        return None


def _text(value: object) -> str | None:
    return one_line(value, 100) or None if isinstance(value, str) else None


def _size(properties: object, field: str) -> int | None:
    value = getattr(properties, field, None)
    return value if type(value) is int and value > 0 else None
