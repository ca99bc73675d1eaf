"""MetaX: a torch of the CUDA style."""

from __future__ import annotations

from typing import ClassVar

from bench.devices.libraries.mxsml import MxsmlSource
from bench.devices.source import DeviceSource
from bench.devices.tools.mx_smi import MxSmi
from bench.devices.vendor import VendorBackend


class MetaX(VendorBackend):
    """Back end of MetaX GPUs."""

    kind: ClassVar[str] = "maca"
    vendor: ClassVar[str] = "MetaX"
    vendor_ids: ClassVar[frozenset[int]] = frozenset({0x9999})
    files: ClassVar[tuple[str, ...]] = ("dev/mxcd", "dev/dri/renderD*")
    sources: ClassVar[tuple[type[DeviceSource], ...]] = (MxsmlSource, MxSmi)
    variables: ClassVar[tuple[tuple[str, ...], ...]] = (("CUDA_VISIBLE_DEVICES",),)
