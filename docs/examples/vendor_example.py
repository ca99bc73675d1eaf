"""A back end for accelerators of a vendor that petaseal does not know: this one file, and one entry point.

Acme's tool prints one line for each card:

    $ acme-tool list
    0 | Acme A1 | A1-0017 | 0000:17:00.0 | 64 GiB
    $ acme-tool watch 0
    351.5 W | 64 C | 1450 MHz | N/A
"""

from __future__ import annotations

from bench.devices.libraries import answers
from bench.devices.source import ListedDevice
from bench.devices.tools.texts import address, quantity, reported_text, whole
from bench.devices.tools.tool import ToolSource
from bench.devices.vendor import VendorBackend
from bench.telemetry import Reading

COLUMNS = 5


class AcmeTool(ToolSource):
    """The tool as a source of devices and readings."""

    tools = ("acme-tool",)
    exposes = ("power", "clock", "temperature", "ecc")  # what readings have of R13's quantities
    folder = "/opt/acme/bin"

    def devices(self) -> list[ListedDevice]:
        """Return the cards that the tool lists."""
        rows = []
        for line in self.tool.run("list").splitlines():
            columns = [column.strip() for column in line.split("|")]
            if len(columns) != COLUMNS or (number := whole(quantity(columns[0], ""))) is None:
                raise self.tool.unknown(f"line of {COLUMNS} columns")
            row = ListedDevice(
                number=number,
                model=reported_text(columns[1]) or "unknown",
                serial=reported_text(columns[2]),
                pci_address=address(columns[3]),
                memory_bytes=whole(quantity(columns[4], "GiB"), 2**30),
            )
            rows.append(row)
        return rows

    def reading(self, row: ListedDevice) -> Reading:
        """Return the present reading of a card; what the tool does not report stays None."""
        columns = self.tool.run("watch", str(row.number)).split("|")
        if len(columns) != len(self.exposes):
            raise self.tool.unknown(f"line of {len(self.exposes)} columns")
        power, temperature, clock, errors = columns
        return Reading(
            power_mw=answers.power_mw(whole(quantity(power, "W"), 1000)),
            temperature_c=answers.temperature_c(quantity(temperature, "C")),
            clock_mhz=answers.clock_mhz(quantity(clock, "MHz")),
            ecc_uncorrected=whole(quantity(errors, "")),
        )


class Acme(VendorBackend):
    """Back end of kind "acme"."""

    kind = "acme"  # the entry point's name
    vendor = "Acme"  # as in the ratings table
    vendor_ids = frozenset({0xFFF1})  # PCI: tells "no such device" from "it cannot be used"
    sources = (AcmeTool,)
    variables = (("ACME_VISIBLE_DEVICES",),)
    torch_type = "acme"
    plugin = "torch_acme"  # imported when the device is measured: it adds the type to torch
    no_fp64 = "Acme's library computes FP64 products in FP32"
