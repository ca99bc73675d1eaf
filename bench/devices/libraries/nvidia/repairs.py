"""Which memory of a GPU was replaced by spare rows, and what of it waits for a reset. Nothing is ever set.

Source: NVML API reference (row remapper; page retirement of GPUs before Ampere).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from bench.devices.libraries.nvml import Nvml
from bench.errors import DeviceError


class MemoryRepairs(NamedTuple):
    """Spare rows of a GPU's memory."""

    remapped: int  # rows that were replaced, after corrected and uncorrected errors together
    pending: bool  # others are replaced at the next reset
    failed: bool  # there was no spare row for one


def memory_repairs(nvml: Nvml, uuids: Iterable[str | None]) -> dict[str, MemoryRepairs]:
    """Return the repairs of GPUs by uuid; one that is lost, or does not report them, is left out."""
    repairs = {}
    for uuid in filter(None, uuids):
        try:
            handle = nvml.handle(uuid)
            if uuid.upper().startswith("MIG-"):
                handle = nvml.parent_handle(handle)
            rows = nvml.ask("nvmlDeviceGetRemappedRows", handle)
            pages = None if rows else nvml.ask("nvmlDeviceGetRetiredPagesPendingStatus", handle)
        except DeviceError:
            continue
        if rows is not None:
            corrected, uncorrected, pending, failed = map(int, rows)
            repairs[uuid] = MemoryRepairs(corrected + uncorrected, bool(pending), bool(failed))
        elif pages is not None:
            repairs[uuid] = MemoryRepairs(0, bool(pages), failed=False)
    return repairs
