"""``petaseal devices --watch``: all devices once a second, in place on a terminal, elsewhere a line each.

The readings are those of a measurement: the node's one reader takes them (`bench.engine.readings`). What a source does
not expose is shown as "-" and never as 0.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from bench.devices.reader import Taken
from bench.errors import DeviceError, PetasealError, one_line
from bench.telemetry import Reading, ReadingSource, Sample, read
from bench.terminal.show import is_terminal, model_text, print_json, say
from bench.units import SECOND_NS, utc_text

if TYPE_CHECKING:
    from bench.devices.base import LocalDevice
    from bench.engine.readings import NodeReadings

UNKNOWN = "-"
LEGEND = f"{UNKNOWN}: not exposed by the device's source, or not read yet; age: of the reading"
HEADINGS = ("device", "model", "power W", "temp C", "clock MHz", "use %", "throttled by", "ECC", "processes", "age")
REMARKS_SHOWN = 5  # the newest: the table must stay on one screen
WIDE = 110  # columns of a terminal, from which on the models have room next to the readings
MESSAGE_BYTES = 65536  # a reading takes some hundred


class WatchRow(NamedTuple):
    """One device at one moment.

    Args:
        device: its name.
        model: what it is called.
        reading: the newest; an empty one before the first.
        age_ns: of the reading, ns; None before the first.
        fault: why its measurement would end, where its source says so.
    """

    device: str
    model: str
    reading: Reading
    age_ns: int | None
    fault: str | None

    def cells(self) -> tuple[str, ...]:
        """Return the row as text, in the order of `HEADINGS`."""
        one = self.reading
        reasons = None if one.throttled is None else ", ".join(one.throttled) or "nothing"
        shown = (
            None if one.power_mw is None else f"{one.power_mw / 1000:.1f}",
            one.temperature_c,
            one.clock_mhz,
            None if one.utilisation_ppm is None else one.utilisation_ppm // 10_000,
            self.fault or reasons,
            one.ecc_uncorrected,
            one.processes,
            None if self.age_ns is None else f"{self.age_ns // SECOND_NS} s",
        )
        return (self.device, self.model, *(UNKNOWN if value is None else str(value) for value in shown))

    def as_json(self) -> dict[str, Any]:
        """Return the row as a JSON value, with the names and units of `Reading`; null is what is not exposed."""
        identity = {"device": self.device, "model": self.model, "age_ns": self.age_ns, "fault": self.fault}
        return identity | self.reading._asdict()


class LatestReadings:
    """The newest reading of each device.

    Args:
        devices: that are watched.
        ends: of the sockets on which the node's reader sends its readings, by device.
        sources: of the devices that this process reads itself.
    """

    def __init__(
        self, devices: Sequence[LocalDevice], ends: Mapping[str, socket.socket], sources: Mapping[str, ReadingSource]
    ) -> None:
        self._models = {one.device.device: model_text(one.model) for one in devices}
        self._ends = ends
        self._sources = sources
        self._newest: dict[str, Sample] = {}
        self._faults: dict[str, str] = {}

    def rows(self) -> list[WatchRow]:
        """Return all devices as they are now."""
        for name, source in self._sources.items():
            try:
                reading = read(source)
            except DeviceError as error:
                self._faults[name] = one_line(str(error))
            else:
                self._faults.pop(name, None)  # it answers again: a fault is shown as long as it lasts
                if reading is not None:
                    self._newest[name] = Sample(time.monotonic_ns(), reading)
        for name, end in self._ends.items():
            self._receive(name, end)
        now_ns = time.monotonic_ns()
        rows = []
        for name, model in self._models.items():
            sample = self._newest.get(name)
            reading, age_ns = (Reading(), None) if sample is None else (sample.reading, now_ns - sample.at_ns)
            rows.append(WatchRow(name, model, reading, age_ns, self._faults.get(name)))
        return rows

    def _receive(self, name: str, end: socket.socket) -> None:
        """Take what the reader has sent of a device since the last time."""
        for taken in _received(end):
            if taken.fault is not None:
                self._faults[name] = f"{one_line(taken.fault[1])} [{taken.fault[0]}]"
            elif taken.reading is not None:
                self._faults.pop(name, None)
                self._newest[name] = Sample(taken.at_ns, taken.reading)


def _received(end: socket.socket) -> Iterator[Taken]:
    """Yield the messages that wait on a socket of the node's reader."""
    with contextlib.suppress(OSError):  # there is none, or no more
        while data := end.recv(MESSAGE_BYTES, socket.MSG_DONTWAIT):
            yield msgspec.json.decode(data, type=Taken)


class Screen:
    """Where the devices are shown: in place on a terminal, as lines elsewhere, as one JSON object a second.

    Args:
        as_json: whether JSON is printed.
    """

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._live: Any = None
        self._remarks: list[str] = []

    def __enter__(self) -> Screen:
        if not self._as_json and is_terminal(sys.stdout):
            from rich.live import Live

            self._live = Live(auto_refresh=False)  # once a second is enough: a thread of its own would take CPU time
            self._live.start()
        elif not self._as_json:
            say(LEGEND)
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, rows: Sequence[WatchRow], remarks: Sequence[str], at: str) -> None:
        """Show the devices at one moment.

        Args:
            rows: the devices.
            remarks: what is new of the sources, a sentence each.
            at: the time, UTC.
        """
        if self._as_json:
            print_json({"at": at, "devices": [row.as_json() for row in rows], "remarks": list(remarks)})
            return
        self._remarks = [*self._remarks, *remarks][-REMARKS_SHOWN:]
        if self._live:
            self._live.update(self._table(rows, at, self._live.console.width >= WIDE), refresh=True)
            return
        for text in remarks:
            say(text)
        for row in rows:
            named = zip(HEADINGS[2:], row.cells()[2:], strict=True)
            say(f"{at} {row.device} {row.model}: " + ", ".join(f"{name} {text}" for name, text in named))

    def _table(self, rows: Sequence[WatchRow], at: str, with_model: bool) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        places = [place for place, heading in enumerate(HEADINGS) if with_model or heading != "model"]
        table = Table(box=None, pad_edge=False)
        for place in places:
            table.add_column(HEADINGS[place], justify="left" if place in (0, 1, 6) else "right", no_wrap=place != 6)
        for row in rows:
            cells = row.cells()
            table.add_row(*(Text(cells[place]) for place in places))
        return Group(Text(at), table, Text(LEGEND), *map(Text, self._remarks))


def _source_of(device: LocalDevice) -> ReadingSource | None:
    """Return where this process reads a device that the node's reader does not; None where it cannot be opened.

    Opening a device makes it the only visible one, by the environment: that is put back for the next one.
    """
    from bench.clock import SystemClock
    from bench.devices import load_backend

    before = dict(os.environ)
    try:
        return load_backend(device.device.device.partition(":")[0]).open(device, SystemClock()).source()
    except PetasealError:
        return None
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def watching(devices: Sequence[LocalDevice], interval_ns: int) -> Iterator[tuple[LatestReadings, NodeReadings]]:
    """Read devices while this holds: give their newest readings, and the node's reader, which has remarks.

    Args:
        devices: that are read.
        interval_ns: between two looks.
    """
    from bench.engine.readings import NodeReadings
    from bench.output import undisturbed

    readings = NodeReadings(devices, interval_ns)
    sources: dict[str, ReadingSource] = {}
    ends: dict[str, socket.socket] = {}
    for one in devices:
        name = one.device.device
        if (end := readings.worker_end(name)) is not None:
            ends[name] = end
        elif one.model.source is not None and (source := _source_of(one)) is not None:
            sources[name] = source
    try:
        readings.start()
        yield LatestReadings(devices, ends, sources), readings
    finally:
        with undisturbed():  # a second Ctrl-C would leave the reader running
            readings.stop()


def watch_devices(devices: Sequence[LocalDevice], as_json: bool) -> None:
    """Show devices once a second until Ctrl-C.

    Args:
        devices: that are watched.
        as_json: whether one JSON object is printed each second, in place of a table.
    """
    with (
        contextlib.suppress(KeyboardInterrupt),
        watching(devices, SECOND_NS) as (watch, readings),
        Screen(as_json) as screen,
    ):
        due_s = time.monotonic()
        while True:
            screen.show(watch.rows(), readings.remarks(), utc_text(time.time_ns()))
            # A screen that was late is not made up for: two updates at once would show the same readings.
            due_s = max(due_s + 1, time.monotonic())
            time.sleep(max(0.0, due_s - time.monotonic()))
