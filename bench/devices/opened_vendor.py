"""A device of a vendor, opened for computing by the worker that measures it: through torch, after the vendor's plug-in.

A worker asks torch and its plug-in alone; sources are read in another process (`bench.devices.reader`).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, ClassVar, Protocol

from bench.devices.base import LocalDevice, StackFacts
from bench.devices.torch_device import OpenedTorch
from bench.errors import DeviceError, InputError, one_line
from bench.record import Device, Precision

if TYPE_CHECKING:
    from kernels.base import Kernel


class Stack(Protocol):
    """What a vendor's back end says of the stack that computes on its devices."""

    vendor: ClassVar[str]
    torch_type: ClassVar[str]
    plugin: ClassVar[str | None]
    no_fp64: ClassVar[str | None]

    def start_stack(self) -> None:
        """Set what the vendor's torch needs before its first launch."""

    def another(self, device: Device) -> str | None:
        """Return what torch's device 0 is where that is another device."""

    def stack_facts(self) -> StackFacts | None:
        """Return what torch reports of its device 0."""


class OpenedVendor(OpenedTorch):
    """A device that torch computes on (`bench.devices.base.OpenDevice`).

    Args:
        backend: of its vendor.
        found: the device.
    """

    def __init__(self, backend: Stack, local: LocalDevice) -> None:
        super().__init__(f"{backend.torch_type}:0")
        self._backend = backend
        self._device = local.device

    def kernel(self) -> Kernel:
        """Return the GEMM by torch, after the vendor's package has added its device type and the device is the one.

        Raises:
            InputError: torch or the vendor's package cannot be imported.
            DeviceError: torch's device is another than the one that was opened.
        """
        for package in filter(None, ("torch", self._backend.plugin)):
            try:
                importlib.import_module(package)
            except (ImportError, OSError, RuntimeError) as error:
                cause = error.__cause__ or error  # torch names a plug-in that fails to load, and its cause says why
                said = one_line(str(cause).strip().partition("\n")[0] or type(cause).__name__, 150)
                raise InputError(
                    "missing-library",
                    f"{package} cannot be imported ({said}); {self._backend.vendor} devices compute through it",
                    where=package,
                    fix=f"install the torch that {self._backend.vendor} publishes, and load its environment script",
                ) from None
        self._backend.start_stack()
        seen, listed = _torch_address(self._backend.torch_type), self._device.pci_address
        if None not in (seen, listed) and seen != str(listed)[:-2]:
            raise DeviceError(
                "device-differs",
                f"torch computes on the device at {seen}, the one that was found is at {listed}",
                where=self._device.device,
            )
        if (other := self._backend.another(self._device)) is not None:
            raise DeviceError("device-differs", other, where=self._device.device)
        return super().kernel()

    def stack_facts(self) -> StackFacts | None:
        """Return what torch reports of the device beyond the vendor's sources."""
        return self._backend.stack_facts()

    def unsupported(self, precision: Precision) -> str | None:
        """Return why the vendor's stack does not compute FP64, where that is documented."""
        return self._backend.no_fp64 if precision == "fp64" else None


def _torch_address(torch_type: str) -> str | None:
    """Return the PCI address, without the function, of torch's device 0; None where torch does not tell it."""
    import torch

    try:
        properties = getattr(torch, torch_type).get_device_properties(0)
        parts = [int(getattr(properties, f"pci_{name}_id")) for name in ("domain", "bus", "device")]
        known = any(parts) and min(parts) >= 0  # some leave them all 0, or -1
        return "{:04x}:{:02x}:{:02x}".format(*parts) if known else None
    except Exception:  # a vendor's module raises what it likes; then the visibility variable alone tells
        return None
