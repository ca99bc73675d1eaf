"""Hygon's ``hy-smi`` (or the ``rocm-smi`` of the DTK), whose JSON is rocm-smi's.

Its keys say DCU or HCU where rocm-smi's say GPU, and memory comes in MiB. On BW commas are missing between values, more
than the address stands under "PCI Bus", and a unique id is not hex, so that no visibility variable knows it. Energy and
memory errors are unknown here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from bench.devices.source import ListedDevice
from bench.devices.tools.rocm_smi import RocmSmi
from bench.record.identities import identifier
from bench.record.node import CountUnit

_BASE_BOARD = re.compile(r"\bSN:\s*(\S+)")
_HEX = re.compile("(?:0x)?[0-9a-f]{1,16}", re.IGNORECASE)


class HySmi(RocmSmi):
    """The devices that ``hy-smi`` lists, and their readings."""

    tools: ClassVar[tuple[str, ...]] = ("hy-smi", "rocm-smi")
    folder: ClassVar[str] = "/opt/hyhal/bin"
    watch_arguments: ClassVar[tuple[str, ...]] = ("--showpower", "--showtemp", "--showuse", "--showclocks")

    def count_unit(self, series: str, *ids: object) -> CountUnit:
        """Return "card": each DCU is one."""
        return "card"

    def _listed(self, index: int, card: Mapping[str, Any], driver: str | None) -> ListedDevice:
        place, _, behind = str(card.get("pci bus")).partition("-->")
        row = super()._listed(index, {**card, "pci bus": place}, driver)
        base = _BASE_BOARD.search(behind)  # all modules of a base board show its serial number, and are no dies of it
        if base is not None and identifier(row.serial) == identifier(base[1]):
            row = row._replace(serial=None)
        return row if row.uuid is None or _HEX.fullmatch(row.uuid) else row._replace(keys=())
