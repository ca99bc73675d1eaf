"""Hygon DCU: a ROCm-style torch, watched through ``hy-smi`` (or the ``rocm-smi`` of the DTK), whose JSON is rocm-smi's.

Its keys say DCU or HCU where rocm-smi's say GPU, and memory comes in MiB. Energy and memory errors are unknown here.
"""

from __future__ import annotations

from typing import ClassVar

from bench.devices.amd import LIST, Amd
from bench.record.node import CountUnit


class Hygon(Amd):
    """Back end of Hygon's deep computing units."""

    kind: ClassVar[str] = "dcu"
    vendor: ClassVar[str] = "Hygon"
    vendor_ids: ClassVar[frozenset[int]] = frozenset({0x1D94})
    vga_counts: ClassVar[bool] = True
    tools: ClassVar[tuple[str, ...]] = ("hy-smi", "rocm-smi")
    folder: ClassVar[str] = "/opt/hyhal/bin"
    files: ClassVar[tuple[str, ...]] = ("dev/kfd", "dev/mkfd", "dev/dri/renderD*")
    list_arguments: ClassVar[tuple[str, ...]] = LIST
    watch_arguments: ClassVar[tuple[str, ...]] = ("--showpower", "--showtemp", "--showuse", "--showclocks")

    def count_unit(self, series: str) -> CountUnit:
        """Return "card": each DCU is one."""
        return "card"
