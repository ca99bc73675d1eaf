"""Iluvatar CoreX: a torch of the CUDA style."""

from __future__ import annotations

from typing import ClassVar

from bench.devices.libraries.nvml_like import IxmlSource
from bench.devices.source import DeviceSource
from bench.devices.tools.ixsmi import Ixsmi
from bench.devices.vendor import VendorBackend


class Iluvatar(VendorBackend):
    """Back end of Iluvatar CoreX GPUs."""

    kind: ClassVar[str] = "corex"
    vendor: ClassVar[str] = "Iluvatar CoreX"
    vendor_ids: ClassVar[frozenset[int]] = frozenset({0x1E3E})
    files: ClassVar[tuple[str, ...]] = ("dev/iluvatar[0-9]*",)
    sources: ClassVar[tuple[type[DeviceSource], ...]] = (IxmlSource, Ixsmi)
    variables: ClassVar[tuple[tuple[str, ...], ...]] = (("CUDA_VISIBLE_DEVICES",),)
