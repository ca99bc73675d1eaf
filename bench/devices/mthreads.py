"""Moore Threads: ``torch_musa``, watched through ``mthreads-gmi -q --json``.

Peak clocks, memory errors, processes and throttling are unknown here: their form is not published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from bench.devices.smi import MIB, Tool, address, quantity, told, whole
from bench.devices.smi_backend import SmiBackend, Told, usable
from bench.record.node import readable_identifier
from bench.telemetry import Reading


class MooreThreads(SmiBackend):
    """Back end of Moore Threads GPUs."""

    kind: ClassVar[str] = "musa"
    vendor: ClassVar[str] = "Moore Threads"
    vendor_ids: ClassVar[frozenset[int]] = frozenset({0x1ED5})
    tools: ClassVar[tuple[str, ...]] = ("mthreads-gmi",)
    exposes: ClassVar[tuple[str, ...]] = ("power", "clock", "temperature")
    folder: ClassVar[str] = "/usr/bin"
    files: ClassVar[tuple[str, ...]] = ("dev/mtgpu.[0-9]*",)
    variables: ClassVar[tuple[tuple[str, ...], ...]] = (("MUSA_VISIBLE_DEVICES",),)
    torch_type: ClassVar[str] = "musa"
    plugin: ClassVar[str | None] = "torch_musa"

    def rows(self, tool: Tool) -> list[Told]:
        """Return the GPUs of ``mthreads-gmi -q --json``."""
        found = tool.json("-q", "--json")
        driver = told(found.get("Driver Version"))
        rows = []
        for index, gpu in gpus(tool, found).items():
            model = told(gpu.get("Product Name"))
            if model is None:
                rows.append(Told(number=index, model="unknown", fault=tool.unknown("product name of a GPU", driver)))
                continue
            row = Told(
                number=index,
                model=model,
                uuid=readable_identifier(gpu.get("GPU UUID")),
                serial=readable_identifier(gpu.get("Serial Number")),
                pci_address=address(part(gpu, "PCI").get("Bus ID")),
                firmware=told(gpu.get("MTBios Version")),
                driver=driver,
                memory_bytes=whole(quantity(part(gpu, "FB Memory Usage").get("Total"), "MiB"), MIB) or None,
            )
            rows.append(row)
        return usable(rows)

    def reader(self, tool: Tool, row: Told) -> Callable[[], Reading | None]:
        """Return what takes one reading."""

        def take() -> Reading | None:
            gpu = gpus(tool, tool.json("-q", "-i", str(row.number), "--json")).get(row.number)
            if gpu is None:
                return None
            return Reading(
                power_mw=whole(quantity(part(gpu, "Power Readings").get("Power Draw"), "W"), 1000),
                temperature_c=whole(quantity(part(gpu, "Temperature").get("GPU Current Temp"), "C")),
                clock_mhz=whole(quantity(part(gpu, "Clocks").get("Graphics"), "MHz")),
                utilisation_ppm=whole(quantity(part(gpu, "Utilization").get("Gpu"), "%"), 10_000),
            )

        return take


def gpus(tool: Tool, found: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """Return what the tool tells of each GPU, by index.

    Raises:
        InputError: there is no list of GPUs, or one without an index.
    """
    listed = found.get("GPU")
    entries = [stripped(gpu) for gpu in listed] if isinstance(listed, list) else []
    indexes = [whole(quantity(gpu.get("Index"), "")) for gpu in entries]
    if not entries or None in indexes:
        raise tool.unknown("list of GPUs with their indexes", told(found.get("Driver Version")))
    return {index: gpu for index, gpu in zip(indexes, entries, strict=True) if index is not None}


def part(gpu: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a section of what is told of a GPU; empty where it is absent."""
    return stripped(gpu.get(name))


def stripped(found: object) -> dict[str, Any]:
    """Return a mapping with its keys trimmed: the tool writes "Power Draw " with a space."""
    return {str(key).strip(): value for key, value in found.items()} if isinstance(found, Mapping) else {}
