"""One reader a node, real processes: what hangs, ends or loses a device, and what that costs."""

from __future__ import annotations

import gzip
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from msgspec.structs import replace

from bench.devices.reader import Taken
from bench.engine.node import measure_node
from bench.engine.readings import ReceivedReadings
from bench.engine.workers import Event
from bench.errors import DeviceError
from bench.record import Figure, NodeRecord
from bench.telemetry import Reading
from tests.bench.engine.test_node import SHORT, failed, request
from tests.bench.engine.watched import install
from tests.bench.processes import children, readers

S = 10**9


def figures(record: NodeRecord) -> list[Figure]:
    return [figure for one in record.measurements for figure in one.figures()]


def until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def remarks(events: list[Event]) -> list[str]:
    return [str(event.text) for event in events if event.what == "remark"]


def test_one_reader_reads_all_devices_and_each_reading_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = install(tmp_path, monkeypatch, look_s=0.15)
    seen: list[int] = []
    events: list[Event] = []

    def tell(event: Event) -> None:
        events.append(event)
        if event.what == "window":
            seen.append(len(readers(tmp_path)))

    record, samples = measure_node(request("fake:3"), tell)
    assert failed(record) == []
    assert seen
    assert set(seen) == {1}, (remarks(events), looks.exists() and looks.read_text()[:300])
    assert (readers(tmp_path), children()) == ([], [])
    assert len({line.split()[0] for line in looks.read_text().splitlines()}) == 1
    rows = [line.split(",") for line in gzip.decompress(samples).decode().splitlines()]
    for number in range(3):
        powers = [row[5] for row in rows if row[0] == f"fake:{number}" and row[4] == "power_mw"]
        assert 3 <= len(powers) <= 14  # at 150 ms each, although one is asked for every 50 ms
        assert len(set(powers)) == len(powers)
    for figure in figures(record):
        assert figure.power_mean_mw
        assert figure.foreign_processes is None  # 0 seen while ours is there: they are hidden
    assert remarks(events) == []


def test_a_reading_stands_at_its_own_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = install(tmp_path, monkeypatch, look_s=0.3)
    record, samples = measure_node(request("fake:1"))
    assert failed(record) == []
    taken = [int(line.split()[1]) for line in looks.read_text().splitlines()]
    rows = [line.split(",") for line in gzip.decompress(samples).decode().splitlines()]
    at = {int(row[5]): int(row[3]) for row in rows if row[4] == "power_mw"}
    assert len(at) >= 2
    first = min(at)
    for power, opened_ns in at.items():
        apart = taken[power // 1000 - 1] - taken[first // 1000 - 1]
        assert abs((opened_ns - at[first]) - apart) < 100_000_000


def test_a_source_that_hangs_leaves_a_gap_and_its_reader_is_not_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung = "import bench.devices.reader_main as r; r.HUNG_NS = 10**9; r.TICK_S = 0.2"
    install(tmp_path, monkeypatch, hung, from_look=2, then="hang")
    events: list[Event] = []
    record, _ = measure_node(request("fake:2"), events.append)
    assert failed(record) == []
    assert len(figures(record)) == 2
    for figure in figures(record):
        assert (figure.samples, figure.power_samples, figure.power_gap_ns) == (0, 0, None)
    assert any("has not answered" in text for text in remarks(events))
    assert len(readers(tmp_path)) == 1  # in its call: it is asked to end, and never made to
    (tmp_path / "released").touch()
    assert until(lambda: readers(tmp_path) == [], 10)


def test_a_source_that_never_answers_does_not_hold_the_measurement_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, from_look=1, then="hang")
    monkeypatch.setattr("bench.engine.readings.FIRST_LOOK_S", 0.5)
    events: list[Event] = []
    record, _ = measure_node(request("fake:1"), events.append)
    assert failed(record) == []
    assert figures(record)[0].samples == 0
    assert any("no reading within 0.5 s" in text for text in remarks(events))
    (tmp_path / "released").touch()
    assert until(lambda: readers(tmp_path) == [], 10)


def test_a_reader_that_its_source_ends_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = install(tmp_path, monkeypatch, look_s=0.05, from_look=3, then="crash")
    events: list[Event] = []
    record, _ = measure_node(request("fake:2", profile=replace(SHORT, warmup_ns=3 * S)), events.append)
    assert failed(record) == []
    assert all(figure.power_samples for figure in figures(record))
    assert len({line.split()[0] for line in looks.read_text().splitlines()}) == 2
    assert any("signal 11" in text for text in remarks(events))
    assert readers(tmp_path) == []


def test_a_device_that_telemetry_says_is_lost_ends_its_own_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, look_s=0.05, from_look=4, then="lost")
    record, _ = measure_node(request("fake:2", profile=replace(SHORT, warmup_ns=2 * S)))
    assert failed(record) == [("fake:0", "fp16", "device-lost")]
    assert record.failures[0].detail == "the device has fallen off the bus"
    assert record.measurements[0].device == ("fake:1",)
    assert readers(tmp_path) == []


def test_interrupting_ends_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, look_s=0.05)

    def interrupt(event: Event) -> None:
        if event.what == "warmup":
            assert len(readers(tmp_path)) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_node(request("fake:1"), interrupt)
    assert (readers(tmp_path), children()) == ([], [])


def test_the_reader_of_a_parent_that_is_killed_ends_after_its_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, from_look=2, then="hang")
    script = "from tests.bench.engine.test_node import *; measure_node(request('fake:1'), print)"
    environ = {**os.environ, "PYTHONPATH": os.environ["PYTHONPATH"], "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen([sys.executable, "-c", script], env=environ, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert any("warmup" in line for line in parent.stdout)
        parent.send_signal(signal.SIGKILL)
    assert len(readers(tmp_path)) == 1  # in its call, which nobody interrupts
    (tmp_path / "released").touch()
    assert until(lambda: readers(tmp_path) == [], 10)


# What a worker receives
class Ends(NamedTuple):
    """A device's readings, and the socket into which the reader writes them."""

    received: ReceivedReadings
    reader: socket.socket

    def send(self, *taken: Taken) -> None:
        for one in taken:
            self.reader.send(msgspec.json.encode(one))


@pytest.fixture
def ends() -> Iterator[Callable[..., Ends]]:
    """Return what starts to receive, after some readings were sent."""
    open_sockets: list[socket.socket] = []

    def receive(*taken: Taken) -> Ends:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        open_sockets.extend((ours, theirs))
        for one in taken:
            ours.send(msgspec.json.encode(one))
        return Ends(ReceivedReadings(theirs), ours)

    yield receive
    for end in open_sockets:
        end.close()


def test_before_is_what_came_before_this_process_listened(ends: Callable[..., Ends]) -> None:
    received, reader = ends(Taken.of(1, Reading(power_mw=5)), Taken.of(2, Reading(power_mw=6, processes=2)))
    Ends(received, reader).send(Taken.of(3, Reading(processes=4)))
    assert until(lambda: len(received.after(0)) == 3, 5)
    assert received.before() == Reading(power_mw=5, processes=2)
    assert [sample.at_ns for sample in received.after(1)] == [2, 3]
    assert ends().received.before() is None


def test_a_fault_is_received_as_the_error_that_it_is(ends: Callable[..., Ends]) -> None:
    received = ends(Taken.of(1, DeviceError("device-lost", "is gone"))).received
    with pytest.raises(DeviceError, match="is gone") as error:
        received.before()
    assert error.value.code == "device-lost"
    with pytest.raises(DeviceError):
        received.after(0)
    assert received.after(1) == []
