"""Hygon DCU: a ROCm-style torch."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from bench.devices.libraries.nvml_like import HgmlSource
from bench.devices.libraries.rsmi import RsmiSource
from bench.devices.source import DeviceSource, ListedDevice
from bench.devices.tools.hy_smi import HySmi
from bench.devices.tools.texts import address
from bench.devices.vendors.amd import Amd

SHARES = "etc/vdev/docker"  # in a container that is given virtual DCUs, a file for each
INSTANCE = "DMI_MIG_VISIBLE_DEVICE"  # names the instance (MIG) that a container is given
_PLACE = re.compile(r"^PciBusId:\s*(\S+)", re.MULTILINE)


class Hygon(Amd):
    """Back end of Hygon's deep computing units."""

    kind: ClassVar[str] = "dcu"
    vendor: ClassVar[str] = "Hygon"
    vendor_ids: ClassVar[frozenset[int]] = frozenset({0x1D94})
    vga_counts: ClassVar[bool] = True
    files: ClassVar[tuple[str, ...]] = ("dev/kfd", "dev/mkfd", "dev/dri/renderD*")
    sources: ClassVar[tuple[type[DeviceSource], ...]] = (HgmlSource, RsmiSource, HySmi)

    def listing(self, functions: Sequence[str]) -> tuple[DeviceSource, list[ListedDevice], tuple[str, ...]]:
        """Return the source and what it lists; a card of which this container has a share alone is a slice."""
        source, rows, skipped = super().listing(functions)
        places = shared_places(self.root)
        return (
            source,
            [shared(row) if INSTANCE in os.environ or row.pci_address in places else row for row in rows],
            skipped,
        )


def shared_places(root: Path) -> set[str | None]:
    """Return the PCI addresses of the cards of which a container has virtual DCUs.

    Args:
        root: the file system's root (tests).
    """
    texts = []
    for path in (root / SHARES).glob("*.conf"):
        with contextlib.suppress(OSError):  # one that this user may not read is not this container's
            texts.append(path.read_text(encoding="utf-8", errors="replace"))
    return {address(place) for text in texts for place in _PLACE.findall(text)} - {None}


def shared(row: ListedDevice) -> ListedDevice:
    """Return a share of a card: the card's identity is its parent's, and its units and its power are not its own."""
    exposes = None if row.exposes is None else tuple(name for name in row.exposes if name != "power")
    whole = row.serial or row.parent or row.uuid
    return row._replace(
        count_unit="slice", parent=whole, uuid=None, serial=None, units=None, memory_bytes=None, exposes=exposes
    )
