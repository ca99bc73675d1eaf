"""AMD: ``rocm-smi --json``, where neither the kernel's files nor the library can be read; units from KFD's topology.

The keys are those of ROCm 4.3 to 7 ("Card series" became "Card Series"). ``amd-smi`` is not read: its forms differ by
release. Memory errors and throttling stand only in tables for people, and are unknown here. The tool takes a lock in
/dev/shm for each device: one run covers all cards, and no two run at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

from bench.devices.libraries.amd import kfd
from bench.devices.libraries.amd.kfd import KfdNode
from bench.devices.libraries.amdgpu import FUNCTIONS, WHOLE_GPU, count_unit, is_virtual, numeric_id
from bench.devices.libraries.answers import believed
from bench.devices.source import Fault, ListedDevice, usable
from bench.devices.tools.texts import VERSION, address, quantity, reported_text, whole
from bench.devices.tools.tool import ToolSource, VendorTool
from bench.errors import DeviceError
from bench.record.identities import readable_identifier
from bench.record.node import CountUnit
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
# of the tool; only of its library before ROCm 6. Hygon's tool has its name in the same line.
_VERSION = re.compile(rf"\b(?:ROCM|HY)-SMI version:\s*{VERSION}|\b(ROCM-SMI-LIB) version:\s*{VERSION}", re.IGNORECASE)
MEMORY_UNITS = {"B": 1, "MiB": 2**20}


class RocmSmi(ToolSource):
    """The devices that ``rocm-smi`` lists, and their readings."""

    tools: ClassVar[tuple[str, ...]] = ("rocm-smi",)
    exposes: ClassVar[tuple[str, ...]] = ("power", "clock", "temperature")
    folder: ClassVar[str] = "/opt/rocm/bin"
    list_arguments: ClassVar[tuple[str, ...]] = LIST
    watch_arguments: ClassVar[tuple[str, ...]] = WATCH

    def devices(self) -> list[ListedDevice]:
        """Return the devices that the tool lists, with the units and clocks that the kernel driver reports."""
        printed = self.tool.json(*self.list_arguments, "--json")
        driver = reported_text(lower(printed.get("system")).get("driver version"))
        nodes = {node.pci_address: node for node in kfd.topology(self.root).nodes}
        rows = [self._listed(index, card, driver) for index, card in cards(self.tool, printed).items()]
        slots: dict[str, list[ListedDevice]] = {}
        for row in rows:
            slots.setdefault((row.pci_address or f"?{row.number}").partition(".")[0], []).append(row)
        known = [row for parts in slots.values() for row in self._as_parts(parts, nodes)]
        listed = usable(sorted(known, key=lambda row: row.number))
        self.version = self.tool.version(_VERSION, "--version")
        return listed

    def _as_parts(self, rows: list[ListedDevice], nodes: Mapping[str, KfdNode]) -> list[ListedDevice]:
        """Return what the tool lists in one slot: a GPU, or the partitions of one, in whose place it shows the whole's.

        Args:
            rows: of one slot.
            nodes: of KFD by PCI address; of one GPU all partitions have as many units.
        """
        place = rows[0].pci_address and kfd.function_of(rows[0].pci_address, self.root)
        node = nodes.get(place or "")
        if node is not None:
            rows = [row._replace(units=node.units, max_clock_mhz=node.max_clock_mhz) for row in rows]
        mode = kfd.text(self.root / FUNCTIONS / str(place) / "current_compute_partition")
        is_part = (mode or WHOLE_GPU).upper() != WHOLE_GPU or (node is not None and node.partition is not None)
        if len(rows) == 1 and not is_part and not is_virtual(rows[0].model):
            return rows
        whole = next((row.uuid for row in rows if row.uuid), None)
        return [
            row._replace(
                uuid=None if whole is None else f"{whole}-{part}",
                keys=(),
                serial=None,
                pci_address=place,
                parent=whole or place,
                count_unit="slice",
                memory_bytes=None if node is None else node.memory_bytes,
                exposes=tuple(name for name in self.exposes if name != "power"),
            )
            for part, row in enumerate(rows)
        ]

    def _listed(self, index: int, card: Mapping[str, Any], driver: str | None) -> ListedDevice:
        """Return one card of the list; with its fault, where the tool does not know its name."""
        place = address(card.get("pci bus"))
        series = reported_text(card.get("card series")) or reported_text(card.get("device name"))
        if series is None or series.lower().startswith("0x"):
            fault = Fault.of(self.tool.unknown("card series", driver))
            return ListedDevice(number=index, model="unknown", pci_address=place, fault=fault)
        unique = readable_identifier(card.get("unique id"))
        return ListedDevice(
            number=index,
            model=series,
            keys=() if unique is None else (visible_uuid(unique),),
            uuid=unique,
            serial=readable_identifier(card.get("serial number")),
            pci_address=place,
            board_part=reported_text(card.get("card sku")),
            count_unit=self.count_unit(series, card.get("card model"), card.get("device id")),
            firmware=reported_text(card.get("vbios version")),
            driver=driver,
            memory_bytes=memory_bytes(card),
        )

    def count_unit(self, series: str, *ids: object) -> CountUnit:
        """Return how a device of a series counts.

        Args:
            series: its name.
            ids: PCI ids that the tool reports of it; other texts do not count.
        """
        return count_unit(series, *(numeric_id(str(one)) for one in ids if str(one).lower().startswith("0x")))

    def reading(self, row: ListedDevice) -> Reading | None:
        """Return the present reading of one card, out of a look at all."""
        return self._looks([row]).get(row.number)

    def readings(self, rows: Sequence[ListedDevice]) -> dict[int, Reading | DeviceError]:
        """Return one look at all cards, by one run of the tool."""
        return dict(self._looks(rows))

    def _looks(self, rows: Sequence[ListedDevice]) -> dict[int, Reading]:
        seen = cards(self.tool, self.tool.json(*self.watch_arguments, "--json"))
        looks = {row.number: reading(seen[row.number]) for row in rows if row.number in seen}
        slices = {row.number for row in rows if row.count_unit == "slice"}  # what is shown of these is the whole's
        primed = {"power_mw": None, "utilisation_ppm": None, "energy_mj": None}
        looks = {number: look._replace(**primed) if number in slices else look for number, look in looks.items()}
        return {number: look for number, look in looks.items() if look != Reading()}


def lower(parsed: object) -> dict[str, Any]:
    """Return a mapping with its keys in lower case; releases differ in them. Empty for what is no mapping."""
    return {str(k).lower(): v for k, v in parsed.items()} if isinstance(parsed, Mapping) else {}


def cards(tool: VendorTool, printed: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """Return the fields of each card in a JSON output, by index.

    Raises:
        InputError: there is no card.
    """
    named = {key: lower(value) for key, value in printed.items() if re.fullmatch(r"card[0-9]{1,4}", key)}
    if not named:
        raise tool.unknown("card")
    return {int(key[4:]): card for key, card in named.items()}


def reading(card: Mapping[str, Any]) -> Reading:
    """Return a reading from the tool's fields of one card, keys in lower case."""
    power = bare(card, "average graphics package power (w)", "current socket graphics package power (w)")
    hot = bare(
        card, "temperature (sensor junction) (c)", "temperature (sensor edge) (c)", "temperature (sensor core) (c)"
    )
    use = bare(card, "gpu use (%)", "dcu use (%)", "hcu use (%)")
    speed = card.get("sclk clock speed:", card.get("sclk clock speed", ""))  # hy-smi of BW writes no colon
    clock = quantity(str(speed).strip("() \t"), "MHz")
    seen = Reading(
        power_mw=whole(power, 1000),  # 0 is what a second die shows, whose power is its parent's
        temperature_c=whole(hot),
        clock_mhz=whole(clock),
        utilisation_ppm=whole(use, 10_000) if use is not None and use <= 100 else None,
        energy_mj=whole(energy // 1000) if (energy := bare(card, "accumulated energy (uj)")) else None,
    )
    return believed(seen)


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
