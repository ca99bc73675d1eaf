"""Kunlunxin: ``xpu-smi -q`` of XRE 5, one run for all XPUs. Throttling is unknown here.

The tool reports the versions of the driver and of XPU-RT, and none of its own: its version is unknown.

Two other tools go by nearly this name, and are refused in one sentence: ``xpu_smi`` of XRE 4 and older, which prints a
table, and Intel's ``xpu-smi``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from bench.devices.libraries import answers
from bench.devices.source import Fault, ListedDevice, usable
from bench.devices.tools.texts import MIB, address, fields, quantity, reported_text, whole
from bench.devices.tools.tool import ToolSource, VendorTool
from bench.errors import DeviceError, InputError
from bench.record.identities import readable_identifier
from bench.telemetry import Reading

Fields = dict[tuple[str, ...], str]
SWITCH = {"enabled": "on", "disabled": "off"}
_XPU = re.compile(r"XPU ([0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7])")
_ATTACHED = re.compile(r"^Attached XPUs\s*:\s*(\d{1,2})\s*$", re.MULTILINE)
_OLD_TABLE = re.compile(r"\|\s*DevID\s*\|\s*PCI Addr\s*\|")
_INTEL = re.compile(r"Intel\b.{0,20}\bXPU", re.IGNORECASE)
_VIRTUAL = "0x36851d22"  # device and vendor id of a virtual function; others have it in the product's name


class XpuSmi(ToolSource):
    """The devices that ``xpu-smi`` lists, and their readings."""

    tools: ClassVar[tuple[str, ...]] = ("xpu-smi", "xpu_smi")
    exposes: ClassVar[tuple[str, ...]] = ("power", "clock", "temperature", "ecc", "processes")
    folder: ClassVar[str] = "/usr/local/bin"

    def devices(self) -> list[ListedDevice]:
        """Return the XPUs of ``xpu-smi -q``, in its order."""
        printed = self._queried()
        driver = reported_text(dict(fields(printed)).get(("Driver Version",)))
        listed = xpus(self.tool, printed, driver)
        attached = _ATTACHED.search(printed)
        rows = [self._listed(number, bus, xpu, driver) for number, (bus, xpu) in enumerate(listed)]
        what = f"it counts {attached and attached[1]} XPUs as attached, and reports {len(listed)} of them"
        silent = range(len(rows), 0 if attached is None else int(attached[1]))
        rows += [
            ListedDevice(number, "unknown", fault=Fault("device-failed", what, self.tool.name)) for number in silent
        ]
        return usable(rows)

    def readings(self, rows: Sequence[ListedDevice]) -> dict[int, Reading | DeviceError]:
        """Return one look at all XPUs, by one run of the tool."""
        listed = {
            place: xpu for bus, xpu in xpus(self.tool, self.tool.run("-q")) if (place := address(bus)) is not None
        }
        looks = {row.number: reading_of(row, listed[row.pci_address]) for row in rows if row.pci_address in listed}
        return {number: look for number, look in looks.items() if look != Reading()}

    def _queried(self) -> str:
        """Return what ``-q`` prints.

        Raises:
            InputError: the tool fails, or is another one of this name.
        """
        try:
            printed = self.tool.run("-q")
        except InputError as error:
            if "exit status" not in error.what:
                raise  # it hangs, or cannot be started: no second one is
            try:
                self._refuse_unknown(self.tool.run())
            except InputError as other:
                raise (other if other.code == "device-tool-unknown" else error) from None
            raise
        self._refuse_unknown(printed)
        return printed

    def _refuse_unknown(self, printed: str) -> None:
        """Refuse another tool of this name.

        Raises:
            InputError: it is one.
        """
        old, intel = _OLD_TABLE.search(printed), _INTEL.search(printed)
        if old is None and intel is None:
            return
        whose = "Intel's" if old is None else "the xpu_smi of XRE 4 or older, another tool"
        raise InputError(
            "device-tool-unknown",
            f"it is {whose}, and not Kunlunxin's xpu-smi, which petaseal reads from XRE 5 on",
            where=self.tool.name,
            fix="put the xpu-smi of XRE 5 (driver 5.0 or newer) before it on PATH",
        )

    def _listed(self, number: int, bus: str, xpu: Fields, driver: str | None) -> ListedDevice:
        place, model = address(bus), reported_text(xpu.get(("Product Name",)))
        if model is None:
            fault = Fault.of(self.tool.unknown("product name of an XPU", driver))
            return ListedDevice(number, "unknown", pci_address=place, fault=fault)
        ecc = SWITCH.get(xpu.get(("Ecc Mode", "Current"), "").lower())
        row = ListedDevice(
            number,
            model,
            uuid=readable_identifier(xpu.get(("XPU UUID",))),
            serial=readable_identifier(xpu.get(("Serial Number",))),
            pci_address=place,
            board_part=reported_text(xpu.get(("XPU Part Number",))),
            firmware=reported_text(xpu.get(("Firmware Version", "ALL Version"))),
            driver=driver,
            memory_bytes=whole(quantity(xpu.get(("Memory Usage", "Total")), "MiB"), MIB) or None,
            power_limit_mw=answers.power_mw(
                whole(quantity(xpu.get(("Power Readings", "Enforced Power Limit")), "W"), 1000)
            ),
            modes=() if ecc is None else (("ecc", ecc),),
        )
        if model.endswith("-PF"):
            what = "it is the physical function of an XPU that is cut into virtual ones: nothing computes on it"
            return row._replace(fault=Fault("device-tool-failed", what, self.tool.name))
        function = self.root / "sys/bus/pci/devices" / str(place) / "physfn"
        device = xpu.get(("PCI", "Device Id"), "").lower()
        if "-VF" not in model and device != _VIRTUAL and not function.exists():
            return row
        return row._replace(
            count_unit="slice",
            parent=address(function.resolve().name) if function.exists() else row.serial,
            serial=None,
            power_limit_mw=None,
            exposes=tuple(name for name in self.exposes if name != "power"),
        )


def reading_of(row: ListedDevice, xpu: Fields) -> Reading:
    """Return the present reading of an XPU: what a slice does not have of its own is unknown."""
    is_slice = row.count_unit == "slice"
    reading = Reading(
        power_mw=None if is_slice else whole(quantity(xpu.get(("Power Readings", "Power Draw")), "W"), 1000),
        temperature_c=whole(quantity(xpu.get(("Temperature", "XPU Current Temp")), "C")),
        clock_mhz=whole(quantity(xpu.get(("Clocks", "Cluster")), "MHz")),
        utilisation_ppm=whole(quantity(xpu.get(("Utilization", "Xpu")), "%"), 10_000),
        ecc_uncorrected=whole(quantity(xpu.get(("ECC Errors", "Volatile", "DRAM Uncorrectable")), "")),
        processes=processes(xpu),
    )
    return answers.believed(reading)


def xpus(tool: VendorTool, printed: str, version: str | None = None) -> list[tuple[str, Fields]]:
    """Return (PCI bus id, fields by their headings) of each XPU; "Process ID" is counted under ("Process ID",).

    Raises:
        InputError: there is no XPU.
    """
    listed: list[tuple[str, Fields]] = []
    count = 0
    for path, value in fields(printed):
        heading = next((match for name in path if (match := _XPU.fullmatch(name))), None)
        if heading is None:
            continue
        if not listed or listed[-1][0] != heading[1]:
            listed.append((heading[1], {}))
            count = 0
        if path[-1] == "Process ID":
            count += 1
            listed[-1][1]["Process ID",] = str(count)
        else:
            listed[-1][1].setdefault(path[path.index(heading[0]) + 1 :], value)
    if not listed:
        raise tool.unknown("XPU", version)
    return listed


def processes(xpu: Fields) -> int | None:
    """Return how many processes are listed; None where nothing is said of processes."""
    if xpu.get(("Processes",)) == "None":
        return 0
    return whole(quantity(xpu.get(("Process ID",)), ""))
