"""The plug-in that adds the device type "petadev" to torch, as torch loads it by itself (entry point torch.backends).

It stands alone: `tests.privateuse1` copies it beside the library that it compiles.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

DEVICES = 2


def autoload() -> None:
    """Register the device type; with PETADEV_BARE, a module that offers only what torch itself must have."""
    import torch

    library = ctypes.CDLL(str(Path(__file__).with_name("libpetadev.so")))
    library.petadev_free_bytes.restype = ctypes.c_int64

    def index_of(device: Any) -> int:
        return int(getattr(device, "index", device) or 0)

    def properties(device: Any = None) -> SimpleNamespace:
        return SimpleNamespace(
            name="Petadev One",
            vendor="petaseal tests",
            uuid=f"5eed0000-0000-4000-8000-00000000000{index_of(device) + 1}",
            total_memory=1 << 33,
            L2_cache_size=1 << 20,
            driver_version="1.0",
        )

    def memory(device: Any = None) -> tuple[int, int]:
        return int(library.petadev_free_bytes(index_of(device))), 1 << 33

    module = SimpleNamespace(is_available=lambda: True, device_count=lambda: DEVICES, current_device=lambda: 0)
    if not os.environ.get("PETADEV_BARE"):
        module.get_device_properties = properties
        if "memory-hidden" not in os.environ.get("PETADEV_FAULTS", "").split(","):
            module.mem_get_info = memory
    torch.set_num_threads(1)
    torch.utils.rename_privateuse1_backend("petadev")
    torch._register_device_module("petadev", module)
