"""AMD: torch built for ROCm, watched through ``rocm-smi --json``; units and peak clock from the kernel's KFD topology.

The keys are those of ROCm 4.3 to 7 ("Card series" became "Card Series"). ``amd-smi`` is not read: its forms differ by
release. Memory errors and throttling stand only in tables for people, and are unknown here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

from bench.devices.smi import Tool, address, quantity, told, whole
from bench.devices.smi_backend import SmiBackend, Told, usable
from bench.record.node import CountUnit, readable_identifier
from bench.telemetry import Reading

LIST = (
    "--showproductname",
    "--showuniqueid",
    "--showserial",
    "--showbus",
    "--showvbios",
    "--showdriverversion",
    "--showmeminfo",
    "vram",
)
WATCH = ("--showpower", "--showtemp", "--showuse", "--showclocks", "--showenergycounter")
TWO_DIES = re.compile(r"\bMI250X?\b", re.IGNORECASE)  # the driver lists each graphics compute die as a device
MEMORY_UNITS = {"B": 1, "MiB": 2**20}


class Amd(SmiBackend):
    """Back end of AMD accelerators."""

    kind: ClassVar[str] = "rocm"
    vendor: ClassVar[str] = "AMD"
    vendor_ids: ClassVar[frozenset[int]] = frozenset({0x1002})
    vga_counts: ClassVar[bool] = False
    tools: ClassVar[tuple[str, ...]] = ("rocm-smi",)
    exposes: ClassVar[tuple[str, ...]] = ("power", "clock", "temperature")
    folder: ClassVar[str] = "/opt/rocm/bin"
    files: ClassVar[tuple[str, ...]] = ("dev/kfd", "dev/dri/renderD*")
    variables: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("ROCR_VISIBLE_DEVICES",),
        ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"),
    )
    list_arguments: ClassVar[tuple[str, ...]] = LIST
    watch_arguments: ClassVar[tuple[str, ...]] = WATCH

    def rows(self, tool: Tool) -> list[Told]:
        """Return the devices that the tool lists, with units and clocks that the kernel driver tells."""
        found = tool.json(*self.list_arguments, "--json")
        system = lower(found.get("system"))
        nodes = kfd_nodes(self.root)
        rows = []
        for index, card in cards(tool, found).items():
            series = told(card.get("card series")) or told(card.get("device name"))
            if series is None or series.lower().startswith("0x"):
                fault = tool.unknown("card series", told(system.get("driver version")))
                rows.append(Told(number=index, model="unknown", pci_address=address(card.get("pci bus")), fault=fault))
                continue
            unique = readable_identifier(card.get("unique id"))
            serial = readable_identifier(card.get("serial number"))
            place = address(card.get("pci bus"))
            units, clock = nodes.get(place or "", (None, None))
            unit = self.count_unit(series)
            row = Told(
                number=index,
                model=series,
                keys=() if unique is None else (visible_uuid(unique),),
                uuid=unique,
                serial=None if unit == "die" else serial,  # of the board: its dies share it
                parent=serial if unit == "die" else None,
                pci_address=place,
                board_part=told(card.get("card sku")),
                count_unit=unit,
                firmware=told(card.get("vbios version")),
                driver=told(system.get("driver version")),
                memory_bytes=memory_bytes(card),
                units=units,
                max_clock_mhz=clock,
            )
            rows.append(row)
        return usable(rows)

    def count_unit(self, series: str) -> CountUnit:
        """Return how a device of a series counts."""
        return "die" if TWO_DIES.search(series) else "package" if "MI300" in series.upper() else "card"

    def choice(self, row: Told) -> str:
        """Return the device's own name where it has one: the runtime's order may differ from the tool's."""
        return row.keys[0] if row.keys else str(row.number)

    def reader(self, tool: Tool, row: Told) -> Callable[[], Reading | None]:
        """Return what takes one reading."""

        def take() -> Reading | None:
            found = tool.json("-d", str(row.number), *self.watch_arguments, "--json")
            card = cards(tool, found).get(row.number)
            return None if card is None else reading(card)

        return take


def lower(found: object) -> dict[str, Any]:
    """Return a mapping with its keys in lower case; releases differ in them. Empty for what is no mapping."""
    return {str(k).lower(): v for k, v in found.items()} if isinstance(found, Mapping) else {}


def cards(tool: Tool, found: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """Return what a JSON output tells of each card, by index.

    Raises:
        InputError: there is no card.
    """
    named = {key: lower(value) for key, value in found.items() if re.fullmatch(r"card[0-9]{1,4}", key)}
    if not named:
        raise tool.unknown("card")
    return {int(key[4:]): card for key, card in named.items()}


def reading(card: Mapping[str, Any]) -> Reading:
    """Return a reading from what the tool tells of one card, keys in lower case."""
    power = bare(card, "average graphics package power (w)", "current socket graphics package power (w)")
    hot = bare(
        card, "temperature (sensor junction) (c)", "temperature (sensor edge) (c)", "temperature (sensor core) (c)"
    )
    use = bare(card, "gpu use (%)", "dcu use (%)", "hcu use (%)")
    speed = card.get("sclk clock speed:", card.get("sclk clock speed", ""))  # hy-smi of BW writes no colon
    clock = quantity(str(speed).strip("() "), "MHz")
    return Reading(
        power_mw=whole(power, 1000),
        temperature_c=whole(hot),
        clock_mhz=whole(clock),
        utilisation_ppm=whole(use, 10_000),
        # 0 is what a device without a counter shows
        energy_mj=whole(energy // 1000) if (energy := bare(card, "accumulated energy (uj)")) else None,
    )


def bare(card: Mapping[str, Any], *names: str) -> Decimal | None:
    """Return the first of some values that is a number; the unit stands in the name."""
    return next((value for name in names if (value := quantity(card.get(name), "")) is not None), None)


def memory_bytes(card: Mapping[str, Any]) -> int | None:
    """Return a card's memory, in bytes; the unit stands in the key."""
    for unit, factor in MEMORY_UNITS.items():
        if value := quantity(card.get(f"vram total memory ({unit.lower()})"), ""):
            return whole(value, factor)
    return None


def visible_uuid(unique: str) -> str:
    """Return the name by which ROCR_VISIBLE_DEVICES knows a device: "GPU-" and 16 hex digits of its unique id."""
    return f"GPU-{unique.lower().removeprefix('0x'):0>16}"


def kfd_nodes(root: Path) -> dict[str, tuple[int | None, int | None]]:
    """Return (compute units, peak engine clock in MHz) of each GPU that the kernel driver tells of, by PCI address.

    Source: Linux, drivers/gpu/drm/amd/amdkfd/kfd_topology.c (location_id is bus, device and function).
    """
    nodes: dict[str, tuple[int | None, int | None]] = {}
    for path in (root / "sys/class/kfd/kfd/topology/nodes").glob("*/properties"):
        try:
            lines = (line.split() for line in path.read_text(encoding="ascii").splitlines())
            told_of = {line[0]: int(line[1]) for line in lines if len(line) == 2}
        except (OSError, ValueError):
            continue
        simds, each, at = told_of.get("simd_count", 0), told_of.get("simd_per_cu", 0), told_of.get("location_id", 0)
        if simds and each:
            place = f"{told_of.get('domain', 0):04x}:{at >> 8 & 0xFF:02x}:{at >> 3 & 0x1F:02x}.{at & 7}"
            nodes[place] = (simds // each, told_of.get("max_engine_clk_fcompute") or None)
    return nodes
