"""Cambricon MLU: ``torch_mlu``."""

from __future__ import annotations

from typing import ClassVar, Literal

from bench.devices.libraries.cndev import CndevSource
from bench.devices.source import DeviceSource
from bench.devices.tools.cnmon import CAMBRICON, Cnmon
from bench.devices.vendor import VendorBackend


class Cambricon(VendorBackend):
    """Back end of Cambricon MLUs."""

    kind: ClassVar[str] = "mlu"
    record_kind: ClassVar[Literal["gpu", "npu"]] = "npu"
    vendor: ClassVar[str] = "Cambricon"
    vendor_ids: ClassVar[frozenset[int]] = CAMBRICON
    files: ClassVar[tuple[str, ...]] = ("dev/cambricon_dev[0-9]*", "dev/cambricon_ctl")
    tool_in_pod: ClassVar[str] = "let the device plug-in put it there: its option --cnmon-path"
    sources: ClassVar[tuple[type[DeviceSource], ...]] = (CndevSource, Cnmon)
    variables: ClassVar[tuple[tuple[str, ...], ...]] = (("MLU_VISIBLE_DEVICES",),)
    torch_type: ClassVar[str] = "mlu"
    plugin: ClassVar[str | None] = "torch_mlu"
    no_fp64: ClassVar[str | None] = "torch_mlu computes FP64 products as FP32: the processor has no FP64 path"
