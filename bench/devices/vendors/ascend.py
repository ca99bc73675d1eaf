"""Huawei Ascend: ``torch_npu``."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from bench.devices.base import StackFacts
from bench.devices.libraries.dcmi import DcmiSource
from bench.devices.source import DeviceSource
from bench.devices.tools.npu_smi import NpuSmi
from bench.devices.tools.npu_smi_forms import REFUSED
from bench.devices.vendor import VendorBackend
from bench.devices.vendors.ascend_chips import names_another
from bench.record import Device
from bench.units import MAX_INTEGER


class Ascend(VendorBackend):
    """Back end of Ascend processors."""

    kind: ClassVar[str] = "npu"
    record_kind: ClassVar[Literal["gpu", "npu"]] = "npu"
    vendor: ClassVar[str] = "Huawei"
    vendor_ids: ClassVar[frozenset[int]] = frozenset({0x19E5})
    vga_counts: ClassVar[bool] = False  # the console graphics of Huawei's servers
    sources: ClassVar[tuple[type[DeviceSource], ...]] = (DcmiSource, NpuSmi)
    variables: ClassVar[tuple[tuple[str, ...], ...]] = (("ASCEND_RT_VISIBLE_DEVICES",),)
    torch_type: ClassVar[str] = "npu"
    plugin: ClassVar[str | None] = "torch_npu"
    files: ClassVar[tuple[str, ...]] = (
        "dev/davinci[0-9]*",
        "dev/davinci_manager",
        "dev/devmm_svm",
        "dev/hisi_hdc",
    )
    tool_in_pod: ClassVar[str] = "let Ascend Docker Runtime put it there: the plug-in is to be started after it"
    no_fp64: ClassVar[str | None] = "torch_npu computes FP64 products in FP32: the processor has no FP64 matrix path"

    def start_stack(self) -> None:
        """Let torch_npu use operators that are compiled: on 910A and 310P it would compile each shape anew."""
        from kernels.gemm_torch import compile_nothing

        compile_nothing()

    def another(self, device: Device) -> str | None:
        """Return that torch's uuid is another die's than the one that was found."""
        uuid = str(getattr(_properties(), "uuid", ""))
        if device.die_id is None or not names_another(uuid, device.die_id):
            return None
        return f"torch computes on the device of the uuid {uuid}, the one that was found is the die {device.die_id}"

    def stack_facts(self) -> StackFacts | None:
        """Return the size of the L2 cache and how many cube cores there are, as torch_npu reports them."""
        properties = _properties()
        sizes = [getattr(properties, name, None) for name in ("L2_cache_size", "cube_core_num")]
        cache, units = (size if isinstance(size, int) and 0 < size <= MAX_INTEGER else None for size in sizes)
        return StackFacts(cache, units)

    def hint(self, what: str) -> str | None:
        """Return what -8005 and -8020 of the driver mean; None for the rest."""
        meaning = "the device belongs to another container, or this process is not in the group of its device files"
        return meaning if REFUSED.search(what) else None


def _properties() -> Any:
    """Return what torch_npu knows of its device 0; None where it refuses."""
    import torch

    try:
        return torch.npu.get_device_properties(0)
    except Exception:  # a vendor's module raises what it likes
        return None
