"""A back end for accelerators of a vendor that petaseal does not know: this one file, and one entry point.

Acme's tool prints one line for each card:

    $ acme-tool list
    0 | Acme A1 | A1-0017 | 0000:17:00.0 | 64 GiB
    $ acme-tool watch 0
    351.5 W | 64 C | 1450 MHz | N/A
"""

from __future__ import annotations

from collections.abc import Callable

from bench.devices.smi import Tool, address, quantity, told, whole
from bench.devices.smi_backend import SmiBackend, Told
from bench.telemetry import Reading

COLUMNS = 5


class Acme(SmiBackend):
    """Back end of kind "acme"."""

    kind = "acme"  # the entry point's name
    vendor = "Acme"  # as in the ratings table
    vendor_ids = frozenset({0xFFF1})  # PCI: tells "no such device" from "it cannot be used"
    tools = ("acme-tool",)
    exposes = ("power", "clock", "temperature", "ecc")  # what readings have of R13's quantities
    folder = "/opt/acme/bin"
    variables = (("ACME_VISIBLE_DEVICES",),)
    torch_type = "acme"
    plugin = "torch_acme"  # imported when the device is measured: it adds the type to torch
    no_fp64 = "Acme's library computes FP64 products in FP32"

    def rows(self, tool: Tool) -> list[Told]:
        """Return the cards that the tool lists."""
        rows = []
        for line in tool.run("list").splitlines():
            columns = [column.strip() for column in line.split("|")]
            if len(columns) != COLUMNS or (number := whole(quantity(columns[0], ""))) is None:
                raise tool.unknown(f"line of {COLUMNS} columns")
            row = Told(
                number=number,
                model=told(columns[1]) or "unknown",
                serial=told(columns[2]),
                pci_address=address(columns[3]),
                memory_bytes=whole(quantity(columns[4], "GiB"), 2**30),
            )
            rows.append(row)
        return rows

    def reader(self, tool: Tool, row: Told) -> Callable[[], Reading | None]:
        """Return what takes one reading; what the tool does not tell stays None."""

        def take() -> Reading | None:
            power, temperature, clock, errors = tool.run("watch", str(row.number)).split("|")
            return Reading(
                power_mw=whole(quantity(power, "W"), 1000),
                temperature_c=whole(quantity(temperature, "C")),
                clock_mhz=whole(quantity(clock, "MHz")),
                ecc_uncorrected=whole(quantity(errors, "")),
            )

        return take
