"""The link of a PCI function to its host: width and speed, as they are and as the function could have them (sysfs)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from bench.host.files import line, number, whole


class PciLink(NamedTuple):
    """A PCI Express link; None is what sysfs does not show."""

    width: int | None
    max_width: int | None
    speed_mt_s: int | None  # 10^6 transfers/s of each lane
    max_speed_mt_s: int | None


def read_link(pci_address: str, root: Path = Path("/")) -> PciLink:
    """Return the link of a PCI function.

    Args:
        pci_address: like "0000:17:00.0"; some vendors write the domain with eight digits.
        root: the file system's root (tests).
    """
    domain, _, rest = pci_address.lower().partition(":")
    if not rest or "/" in rest:
        return PciLink(None, None, None, None)
    folder = root / "sys/bus/pci/devices" / f"{domain[-4:]}:{rest}"
    # A width of 0, and of 255 of the highest, stands where the function does not say.
    widths = [number(folder / f"{which}_link_width") for which in ("current", "max")]
    width, max_width = (value if value and value < 255 else None for value in widths)
    speeds = [parse_speed(line(folder / f"{which}_link_speed")) for which in ("current", "max")]
    return PciLink(width, max_width, *speeds)


def parse_speed(text: str) -> int | None:
    """Return a speed like "16.0 GT/s PCIe" or "8 GT/s" in MT/s; None for another text, such as "Unknown"."""
    words = text.split()
    if len(words) < 2 or words[1] != "GT/s" or whole(words[0].replace(".", "", 1)) is None:
        return None
    integer, _, part = words[0].partition(".")
    return int(integer or 0) * 1000 + int(f"{part:0<3}"[:3]) or None
