"""Kunlunxin: a torch of the CUDA style."""

from __future__ import annotations

from typing import ClassVar, Literal

from bench.devices.source import DeviceSource
from bench.devices.tools.xpu_smi import XpuSmi
from bench.devices.vendor import VendorBackend


class Kunlunxin(VendorBackend):
    """Back end of Kunlunxin XPUs."""

    kind: ClassVar[str] = "kunlun"
    record_kind: ClassVar[Literal["gpu", "npu"]] = "npu"
    vendor: ClassVar[str] = "Kunlunxin"
    vendor_ids: ClassVar[frozenset[int]] = frozenset({0x1D22, 0x2057})  # of Baidu (K and R series), of Kunlunxin (P800)
    files: ClassVar[tuple[str, ...]] = ("dev/xpu[0-9]*", "dev/xpuctrl")
    sources: ClassVar[tuple[type[DeviceSource], ...]] = (XpuSmi,)
    variables: ClassVar[tuple[tuple[str, ...], ...]] = (("XPU_VISIBLE_DEVICES",), ("CUDA_VISIBLE_DEVICES",))
