"""Moore Threads: ``torch_musa``."""

from __future__ import annotations

from typing import ClassVar

from bench.devices.libraries.mtml import MtmlSource
from bench.devices.source import DeviceSource
from bench.devices.tools.mthreads_gmi import MthreadsGmi
from bench.devices.vendor import VendorBackend


class MooreThreads(VendorBackend):
    """Back end of Moore Threads GPUs."""

    kind: ClassVar[str] = "musa"
    vendor: ClassVar[str] = "Moore Threads"
    vendor_ids: ClassVar[frozenset[int]] = frozenset({0x1ED5})
    files: ClassVar[tuple[str, ...]] = ("dev/mtgpu.[0-9]*",)
    sources: ClassVar[tuple[type[DeviceSource], ...]] = (MtmlSource, MthreadsGmi)
    variables: ClassVar[tuple[tuple[str, ...], ...]] = (("MUSA_VISIBLE_DEVICES",),)
    torch_type: ClassVar[str] = "musa"
    plugin: ClassVar[str | None] = "torch_musa"
