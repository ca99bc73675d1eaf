"""The devices of one source while they are measured: one look at all of them at a time."""

from __future__ import annotations

from bench.devices.source import DeviceSource, ListedDevice
from bench.devices.tools.tool import ToolSource
from bench.errors import DeviceError
from bench.record import DeviceModel
from bench.telemetry import Reading


class SourceWatch:
    """Devices of one vendor that are read through one source (`bench.devices.base.DeviceWatch`).

    Args:
        source: opened.
        rows: what it lists, by device.
        faults: devices that it does not list, or lists as others than were found.
        remark: what differs from the source that listed them for the record, a clause.
    """

    def __init__(
        self, source: DeviceSource, rows: dict[str, ListedDevice], faults: dict[str, DeviceError], remark: str | None
    ) -> None:
        self.remark = remark
        self._source = source
        self._rows = rows
        self._faults = faults

    def read(self) -> dict[str, Reading | DeviceError]:
        """Return one look at all devices, by device."""
        if not self._rows:
            return dict(self._faults)
        readings = self._source.readings(list(self._rows.values()))
        return {name: readings[row.number] for name, row in self._rows.items() if row.number in readings} | self._faults

    @property
    def starts_tool(self) -> bool:
        """Whether a look starts processes of a tool."""
        return isinstance(self._source, ToolSource)

    def close(self) -> None:
        """Close the source of all watched devices."""
        self._source.close()


def differing_source(model: DeviceModel, source: DeviceSource) -> str | None:
    """Return how a source differs from the one that listed the devices for the record; None where it does not."""
    if model.source != source.name:
        return f"it is read through {source.name}, and the record names {model.source}, which listed the devices"
    if model.library_sha256 != source.sha256:
        return f"the file of {source.name} is another one than the record names: it was replaced meanwhile"
    return None
