"""Signs of hardware on the PCI bus: they tell "there is no such device" from "it cannot be used".

Reads sysfs only: no driver, library or permission is needed, and nothing is opened.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

# Classes of PCI functions that compute (PCI Code and ID Assignment Specification, 1.1): (base class,) whole, or with
# one sub-class. A card's audio, USB and bridge functions are of other classes and do not count.
COMPUTING = {(0x03,), (0x12,), (0x0B, 0x40)}
# Of a vendor that no back end knows, these alone mean an accelerator: a display of a server's console or of a virtual
# machine is a display controller too, and engines for encryption and compression are co-processors.
ACCELERATORS = {(0x12,), (0x03, 0x02)}
# Engines of processors that call themselves processing accelerators and compute no products: (vendor, device).
ENGINES = {
    (0x19E5, 0xA250),  # Kunpeng: compression (ZIP)
    (0x19E5, 0xA251),  # its virtual functions
}
# Vendors whose processing accelerators or 3D controllers are no accelerators of a centre.
NO_ACCELERATORS = {
    0x10EE: "AMD (Xilinx)",  # FPGAs compute what somebody put into them
    0x1172: "Altera",
    0x1414: "Microsoft",  # Hyper-V and WSL show the host's graphics as one
    0x15B3: "NVIDIA (Mellanox)",  # DPUs
    0x177D: "Marvell (Cavium)",  # DPUs and baseband processors
    0x1DD8: "AMD (Pensando)",  # DPUs
}
VENDORS = {0x1DED: "T-Head", 0x1E36: "Enflame", 0x1EE0: "Biren"}  # without a back end; the PCI-SIG's ids


class PciFunction(NamedTuple):
    """One function on the bus.

    Args:
        pci_address: like "0000:17:00.0".
        vendor_id: assigned by the PCI-SIG, such as 0x10de.
        device_id: the vendor's own; None where it cannot be read.
        pci_class: base class and sub-class, such as 0x1200.
        is_virtual: whether it is a virtual function of another one on this bus.
    """

    pci_address: str
    vendor_id: int
    device_id: int | None
    pci_class: int
    is_virtual: bool

    @property
    def vendor(self) -> str | None:
        """The vendor's name, where it is one without a back end that is known by name."""
        return VENDORS.get(self.vendor_id)

    def is_of(self, classes: Collection[tuple[int, ...]]) -> bool:
        """Return whether the function is of one of some classes and no engine of a processor."""
        base, sub = self.pci_class >> 8, self.pci_class & 0xFF
        return not {(base,), (base, sub)}.isdisjoint(classes) and (self.vendor_id, self.device_id) not in ENGINES


def functions(root: Path = Path("/")) -> Iterator[PciFunction]:
    """Yield the functions on the bus whose vendor and class can be read, in no order.

    Args:
        root: the file system's root (tests).
    """
    for folder in (root / "sys/bus/pci/devices").glob("*"):
        vendor, kind, device = (_number(folder / name) for name in ("vendor", "class", "device"))
        if vendor is not None and kind is not None:
            yield PciFunction(folder.name.lower(), vendor, device, kind >> 8, (folder / "physfn").exists())


def present(vendor_ids: Collection[int], root: Path = Path("/")) -> list[str]:
    """Return the PCI addresses of the computing functions of some vendors, sorted, like "0000:17:00.0".

    Display controllers, processing accelerators and co-processors count; a function whose files cannot be read does
    not.

    Args:
        vendor_ids: assigned by the PCI-SIG, such as 0x10de.
        root: the file system's root (tests).
    """
    return sorted(one.pci_address for one in functions(root) if one.vendor_id in vendor_ids and one.is_of(COMPUTING))


def unknown_accelerators(
    vendor_ids: Collection[int], claimed: Collection[str | None], root: Path = Path("/")
) -> list[PciFunction]:
    """Return the accelerators on the bus that no back end speaks for, by address.

    Args:
        vendor_ids: of the vendors that back ends know.
        claimed: PCI addresses of the devices that were found, whoever found them.
        root: the file system's root (tests).
    """
    speaks = {*vendor_ids, *NO_ACCELERATORS}
    return sorted(
        one
        for one in functions(root)
        if one.is_of(ACCELERATORS)
        and one.vendor_id not in speaks
        and one.pci_address not in claimed
        and not one.is_virtual
    )


def _number(file: Path) -> int | None:
    """Return the hexadecimal number that a file of sysfs holds; None where it cannot be read."""
    try:
        return int(file.read_text(), 16)
    except (OSError, ValueError):
        return None
