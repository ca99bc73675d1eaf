"""Kunlunxin: a torch of the CUDA style, watched through ``xpu-smi -q`` (``xpu_smi`` in older releases).

Intel has another tool of the same name, whose output is refused as unknown. Throttling is unknown here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar, Literal

from bench.devices.smi import MIB, Tool, address, fields, quantity, told, whole
from bench.devices.smi_backend import SmiBackend, Told, usable
from bench.record.node import readable_identifier
from bench.telemetry import Reading

Fields = dict[tuple[str, ...], str]
_XPU = re.compile(r"XPU ([0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7])")


class Kunlunxin(SmiBackend):
    """Back end of Kunlunxin XPUs."""

    kind: ClassVar[str] = "kunlun"
    record_kind: ClassVar[Literal["gpu", "npu"]] = "npu"
    vendor: ClassVar[str] = "Kunlunxin"
    vendor_ids: ClassVar[frozenset[int]] = frozenset({0x1D22})
    tools: ClassVar[tuple[str, ...]] = ("xpu-smi", "xpu_smi")
    exposes: ClassVar[tuple[str, ...]] = ("power", "clock", "temperature", "ecc", "processes")
    folder: ClassVar[str] = "/usr/local/bin"
    files: ClassVar[tuple[str, ...]] = ("dev/xpu[0-9]*", "dev/xpuctrl")
    variables: ClassVar[tuple[tuple[str, ...], ...]] = (("XPU_VISIBLE_DEVICES",), ("CUDA_VISIBLE_DEVICES",))

    def rows(self, tool: Tool) -> list[Told]:
        """Return the XPUs of ``xpu-smi -q``, in its order."""
        printed = tool.run("-q")
        driver = told(dict(fields(printed)).get(("Driver Version",)))
        rows = []
        for index, (bus, xpu) in enumerate(xpus(tool, printed, driver)):
            model = told(xpu.get(("Product Name",)))
            if model is None:
                fault = tool.unknown("product name of an XPU", driver)
                rows.append(Told(number=index, model="unknown", pci_address=address(bus), fault=fault))
                continue
            row = Told(
                number=index,
                model=model,
                uuid=readable_identifier(xpu.get(("XPU UUID",))),
                serial=readable_identifier(xpu.get(("Serial Number",))),
                pci_address=address(bus),
                board_part=told(xpu.get(("XPU Part Number",))),
                firmware=told(xpu.get(("Firmware Version", "ALL Version"))),
                driver=driver,
                memory_bytes=whole(quantity(xpu.get(("Memory Usage", "Total")), "MiB"), MIB) or None,
            )
            rows.append(row)
        return usable(rows)

    def reader(self, tool: Tool, row: Told) -> Callable[[], Reading | None]:
        """Return what takes one reading."""

        def take() -> Reading | None:
            found = xpus(tool, tool.run("-i", str(row.number), "-q"), None)
            xpu = next((fields_of for bus, fields_of in found if address(bus) == row.pci_address), None)
            if xpu is None:
                return None
            errors = xpu.get(("ECC Errors", "Volatile", "DRAM Uncorrectable"))
            return Reading(
                power_mw=whole(quantity(xpu.get(("Power Readings", "Power Draw")), "W"), 1000),
                temperature_c=whole(quantity(xpu.get(("Temperature", "XPU Current Temp")), "C")),
                clock_mhz=whole(quantity(xpu.get(("Clocks", "Cluster")), "MHz")),
                utilisation_ppm=whole(quantity(xpu.get(("Utilization", "Xpu")), "%"), 10_000),
                ecc_uncorrected=whole(quantity(errors, "")),
                processes=processes(xpu),
            )

        return take


def xpus(tool: Tool, printed: str, version: str | None) -> list[tuple[str, Fields]]:
    """Return (PCI bus id, fields by their headings) of each XPU; "Process ID" is counted under ("Process ID",).

    Raises:
        InputError: there is no XPU.
    """
    found: list[tuple[str, Fields]] = []
    count = 0
    for path, value in fields(printed):
        heading = next((match for name in path if (match := _XPU.fullmatch(name))), None)
        if heading is None:
            continue
        if not found or found[-1][0] != heading[1]:
            found.append((heading[1], {}))
            count = 0
        if path[-1] == "Process ID":
            count += 1
            found[-1][1]["Process ID",] = str(count)
        else:
            found[-1][1].setdefault(path[path.index(heading[0]) + 1 :], value)
    if not found:
        raise tool.unknown("XPU", version)
    return found


def processes(xpu: Fields) -> int | None:
    """Return how many processes are listed; None where nothing is said of processes."""
    if xpu.get(("Processes",)) == "None":
        return 0
    return whole(quantity(xpu.get(("Process ID",)), ""))
