"""Signs of hardware on the PCI bus: they tell "there is no such device" from "it cannot be used".

Reads sysfs only: no driver, library or permission is needed, and nothing is opened.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

# Classes of PCI functions that compute (PCI Code and ID Assignment Specification, 1.1): (base class,) whole, or with
# one sub-class. A card's audio, USB and bridge functions are of other classes and do not count.
COMPUTING = {(0x03,), (0x12,), (0x0B, 0x40)}


def present(vendor_ids: Collection[int], root: Path = Path("/")) -> list[str]:
    """Return the PCI addresses of the computing functions of some vendors, sorted, like "0000:17:00.0".

    Display controllers, processing accelerators and co-processors count; a function whose files cannot be read does
    not.

    Args:
        vendor_ids: assigned by the PCI-SIG, such as 0x10de.
        root: the file system's root (tests).
    """
    addresses = []
    for function in (root / "sys/bus/pci/devices").glob("*"):
        try:
            vendor, kind = (int((function / name).read_text(), 16) for name in ("vendor", "class"))
        except (OSError, ValueError):
            continue
        base, sub = kind >> 16, kind >> 8 & 0xFF
        if vendor in vendor_ids and COMPUTING & {(base,), (base, sub)}:
            addresses.append(function.name.lower())
    return sorted(addresses)
