"""AMD: torch built for ROCm."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import ClassVar

from bench.devices.base import LocalDevice
from bench.devices.libraries.amdgpu import AmdgpuSource, why_not_computing
from bench.devices.libraries.amdsmi import AmdSmiSource
from bench.devices.source import DeviceSource, ListedDevice
from bench.devices.tools.rocm_smi import RocmSmi
from bench.devices.vendor import VendorBackend

ROCM = "opt/rocm"  # where AMD's packages put it


class Amd(VendorBackend):
    """Back end of AMD accelerators."""

    kind: ClassVar[str] = "rocm"
    vendor: ClassVar[str] = "AMD"
    vendor_ids: ClassVar[frozenset[int]] = frozenset({0x1002})
    vga_counts: ClassVar[bool] = False
    files: ClassVar[tuple[str, ...]] = ("dev/kfd", "dev/dri/renderD*")
    sources: ClassVar[tuple[type[DeviceSource], ...]] = (AmdgpuSource, AmdSmiSource, RocmSmi)
    variables: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("ROCR_VISIBLE_DEVICES",),
        ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"),
    )

    def look(self, argument: str | None) -> list[LocalDevice]:
        """Return the devices; none where all are a desktop's graphics and ROCm is not installed.

        The kernel offers to compute on any graphics of AMD: that a driver is loaded says nothing of what it is for.
        """
        devices = super().look(argument)
        graphics = [one for one in devices if self._is_vga(one.device.pci_address or "")]
        meant = argument is not None or self.vga_counts or len(graphics) < len(devices)
        return devices if meant or (self.root / ROCM).exists() or shutil.which("rocm-smi") else []

    def listing(self, functions: Sequence[str]) -> tuple[DeviceSource, list[ListedDevice], tuple[str, ...]]:
        """Return what the first source lists; nothing where no process may compute, whatever a tool can list.

        Raises:
            InputError: as `VendorBackend.listing`; `device-permission`.
        """
        if AmdgpuSource in self.sources and (closed := why_not_computing(self.root)) is not None:
            raise closed
        return super().listing(functions)

    def choice(self, row: ListedDevice) -> str:
        """Return the device's own name where it has one: the runtime's order may differ from the tool's."""
        return row.keys[0] if row.keys else str(row.number)
