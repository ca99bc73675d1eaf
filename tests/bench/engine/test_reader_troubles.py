"""What goes wrong in the process that reads on a real node: libraries that misbehave, tools, limits, two commands."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import msgspec
import pytest

from bench.devices import DEVICES, load_backend, reader
from bench.devices.libraries.loading import load_library
from bench.devices.reader import END_S, ReaderProcess, Taken, find_apart
from bench.devices.source import DeviceSource, ListedDevice
from bench.devices.tools import turns
from bench.devices.tools.tool import VendorTool
from bench.engine import node
from bench.engine.node import measure_node
from bench.engine.readings import ReceivedReadings
from bench.engine.workers import Event
from bench.errors import DeviceError, InputError
from bench.telemetry import Reading, read_load
from tests.bench.acme import TOOL_MW, Acme8, AcmeLibrary, AcmeSmi, put_tool
from tests.bench.engine.test_node import failed, request
from tests.bench.engine.test_reader import Node, acme, acme_on_bus, held, listed, measured, powers
from tests.bench.engine.test_readings import figures, remarks, until
from tests.bench.engine.watched import install
from tests.bench.processes import READER, children, readers, workers

S = 10**9
BOREAL_MW = 333_000
__all__ = ["acme"]


@pytest.fixture(scope="session")
def unruly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a shared library that misbehaves."""
    return compiled(
        tmp_path_factory.mktemp("unruly") / "libunruly.so", Path(__file__).with_name("unruly.c").read_text()
    )


def compiled(path: Path, source: str, *options: str) -> Path:
    """Compile a shared library."""
    command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path), *options]
    subprocess.run(command, input=source, text=True, check=True)
    return path


class OtherForms(AcmeSmi):
    """A tool that writes serial numbers in another form than the library."""

    def devices(self) -> list[ListedDevice]:
        """Return the devices."""
        return [row._replace(pci_address=f"0000:{row.number:02x}:00.0", serial=None) for row in super().devices()]


class LibraryWithPlaces(AcmeLibrary):
    """A library that names places on the bus; of its devices the first is gone once the file `gone` is there."""

    def devices(self) -> list[ListedDevice]:
        """Return the devices."""
        rows = [row._replace(pci_address=f"0000:{row.number:02x}:00.0") for row in super().devices()]
        gone = (Path(os.environ["PETASEAL_ACME"]).parent / "gone").exists()
        return rows[1:] if gone else rows


class WithPlaces(Acme8):
    """A back end whose sources write identities in two forms."""

    sources: ClassVar[tuple[type[DeviceSource], ...]] = (LibraryWithPlaces, OtherForms)

    def listing(self, functions: Sequence[str]) -> tuple[DeviceSource, list[ListedDevice], tuple[str, ...]]:
        """Return the devices, wherever they are on the bus."""
        return super().listing(())


class Wordy(AcmeLibrary):
    """A library whose devices have a name that no record holds."""

    def devices(self) -> list[ListedDevice]:
        """Return the devices."""
        return [row._replace(model="A" * 5000) for row in super().devices()]


class OfWordyLibrary(Acme8):
    """A back end of that."""

    sources: ClassVar[tuple[type[DeviceSource], ...]] = (Wordy,)


class Raising(AcmeLibrary):
    """A library whose binding fails as none should."""

    def devices(self) -> list[ListedDevice]:
        """Fail."""
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")


class OfRaisingLibrary(Acme8):
    """A back end of that, with a tool behind it."""

    sources: ClassVar[tuple[type[DeviceSource], ...]] = (Raising, AcmeSmi)


class Slow(AcmeSmi):
    """A tool that is asked for each device by itself."""

    def complete(self, row: ListedDevice) -> ListedDevice:
        """Ask again."""
        self.tool.run("list")
        return row


class OfSlowTool(Acme8):
    """A back end of that."""

    sources: ClassVar[tuple[type[DeviceSource], ...]] = (Slow,)


class BorealLibrary(AcmeLibrary):
    """Another vendor's library, which works."""

    @classmethod
    def open(cls, root: Path) -> Self:
        """Open it."""
        return cls(root, "boreal", "/usr/lib/libboreal.so", None)

    def devices(self) -> list[ListedDevice]:
        """Return one device."""
        return [ListedDevice(number=0, model="Boreal B1", serial="B1-0")]

    def readings(self, rows: Sequence[ListedDevice]) -> dict[int, Reading | DeviceError]:
        """Return one look."""
        return {row.number: Reading(power_mw=BOREAL_MW, processes=0) for row in rows}


class Boreal(Acme8):
    """A back end of that, with a tool behind it."""

    kind = "boreal"
    vendor = "Boreal"
    sources: ClassVar[tuple[type[DeviceSource], ...]] = (BorealLibrary, AcmeSmi)


# Libraries
@pytest.mark.parametrize("when", ["", " when listed"])
@pytest.mark.parametrize(
    ("does", "what"),
    [
        ("exits", "exit status 0"),
        ("aborts", "signal 6"),
        ("forks", "exit status 3"),
        ("closes", "closed the connection|exit status 0"),
    ],
)
def test_a_library_that_ends_its_process_costs_itself(
    does: str, what: str, when: str, acme: Node, tmp_path: Path, unruly: Path
) -> None:
    put_tool(tmp_path / "bin")
    backend = acme_on_bus(acme(f"{does}{when}", shared=str(unruly)), tmp_path)
    begun = time.monotonic()
    found = listed(backend)
    assert time.monotonic() - begun < 12
    assert {one.model.source for one in found} == {"acme-smi"}
    assert any(part in found[0].skipped[0] for part in what.split("|"))


def test_what_a_library_prints_and_which_signals_it_takes_disturb_nobody(
    acme: Node, tmp_path: Path, unruly: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    backend = acme_on_bus(acme("meddles", shared=str(unruly)), tmp_path)
    found, events = listed(backend), list[Event]()
    record = measured(found[:2], events)
    assert failed(record) == []
    assert {figure.samples > 3 for figure in figures(record)} == {True}
    assert "unruly" not in "".join(capfd.readouterr())
    assert until(lambda: readers(tmp_path) == children() == [], 5)


@pytest.mark.long
@pytest.mark.parametrize("does", ["forks", "closes"])
def test_a_library_that_ends_readers_is_left_for_a_tool_of_other_forms(
    does: str, acme: Node, tmp_path: Path, unruly: Path
) -> None:
    put_tool(tmp_path / "bin")
    backend = acme_on_bus(acme(f"{does} when read", shared=str(unruly), back_end=WithPlaces), tmp_path)
    found, events = listed(backend), list[Event]()
    assert {one.model.source for one in found} == {"acme"}
    record = measured(found[:2], events, warmup_ns=8 * S, window_ns=3 * S)
    assert failed(record) == []
    assert powers(record) == {TOOL_MW}


@pytest.mark.long
def test_a_library_that_ends_readers_costs_no_other_vendors(
    acme: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_tool(tmp_path / "bin")
    value = f"{Boreal.__module__}:Boreal"
    monkeypatch.setitem(DEVICES, "boreal", value)
    lines = f"bench.devices.DEVICES['boreal'] = {value!r}"
    found = listed(acme_on_bus(acme("crashes when read", lines), tmp_path))
    boreal = listed(acme_on_bus(load_backend("boreal"), tmp_path))
    events: list[Event] = []
    record = measured([found[0], boreal[0]], events, warmup_ns=8 * S, window_ns=3 * S)
    assert failed(record) == []
    assert powers(record) == {TOOL_MW, BOREAL_MW}
    said = remarks(events)
    assert any("acmelibrary of Acme is left out" in text for text in said)
    assert not any("boreal" in text.lower() and "left out" in text for text in said)
    assert any("read through acme-smi, and the record names acme" in text for text in said)


@pytest.mark.long
def test_commands_on_a_stuck_node_leave_one_process(acme: Node, tmp_path: Path) -> None:
    put_tool(tmp_path / "bin")
    backend = acme_on_bus(acme("hangs"), tmp_path)
    assert len(listed(backend, 2)) == 8
    (left,) = readers(tmp_path)
    time.sleep(END_S + 1)
    reader.skipped.clear()  # another command does not know
    begun = time.monotonic()
    (why,) = listed(backend, 8)[0].skipped
    assert time.monotonic() - begun < 5
    assert why == f"acmelibrary: process {left} of an earlier command still hangs in it"
    assert readers(tmp_path) == [left]
    (tmp_path / "released").touch()
    assert until(lambda: readers(tmp_path) == [], 10)
    (tmp_path / "acme.json").write_text('{"library": "works"}')
    assert listed(backend)[0].model.source == "acme"


def test_a_device_that_is_gone_from_a_new_listing_costs_no_neighbour(acme: Node, tmp_path: Path) -> None:
    backend: Any = acme_on_bus(acme(back_end=WithPlaces), tmp_path)
    found = listed(backend)
    (tmp_path / "gone").touch()
    # before anything is measured a device in another's place is refused ...
    first = backend.watch(found).read()
    assert {str(getattr(value, "code", "read")) for value in first.values()} == {"device-differs", "device-failed"}
    # ... and when a reader is replaced, each is read as itself
    backend.is_resumed = True
    again = backend.watch(found).read()
    assert set(again) == {f"acme:{index}" for index in range(1, 8)}
    assert all(isinstance(value, Reading) for value in again.values())


def test_a_question_that_fails_for_one_device_costs_no_device(
    acme: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend: Any = acme_on_bus(acme(), tmp_path)
    found = listed(backend)

    def complete(source: DeviceSource, row: ListedDevice) -> ListedDevice:
        raise InputError("device-tool-failed", "did not end within 20 s")

    monkeypatch.setattr(AcmeLibrary, "complete", complete)
    assert {type(value) for value in backend.watch(found).read().values()} == {Reading}


def test_a_name_that_no_record_holds_is_one_sentence(acme: Node, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no record can hold") as error:
        listed(acme_on_bus(acme(back_end=OfWordyLibrary), tmp_path))
    assert error.value.code == "device-tool-unknown"


def test_a_source_that_raises_what_it_should_not_costs_itself(acme: Node, tmp_path: Path) -> None:
    put_tool(tmp_path / "bin")
    found = listed(acme_on_bus(acme(back_end=OfRaisingLibrary), tmp_path))
    assert {one.model.source for one in found} == {"acme-smi"}
    assert "UnicodeDecodeError" in found[0].skipped[0]


def test_a_library_whose_own_library_is_missing_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = compiled(tmp_path / "libacmehal.so", "int hal(void) { return 0; }")
    source = "int hal(void); int acme_init(void) { return hal(); }"
    compiled(tmp_path / "libacme.so", source, f"-L{tmp_path}", "-lacmehal")
    needed.unlink()
    script = f"""
import sys; sys.path[:] = {sys.path!r}
from bench.devices.libraries.loading import load_library
load_library("Acme", ["libacme.so"], needed=["acme_init"])
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"LD_LIBRARY_PATH": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert "cannot be used: libacmehal.so" in done.stderr
    with pytest.raises(InputError) as error:
        load_library("Acme", ["libacme-that-is-nowhere.so"], needed=[])
    assert error.value.code == "device-library-missing"


# The process itself
def test_a_node_without_room_for_a_process(acme: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = acme_on_bus(acme(), tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "removed"))
    with pytest.raises(InputError, match=r"cannot be started \(No such file") as error:
        listed(backend)
    assert error.value.code == "device-tool-failed"


def test_a_reader_that_cannot_be_started_costs_readings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch)
    real, tries = subprocess.Popen, list[str]()

    def limited(command: list[str], **others: Any) -> Any:
        if READER in command[2] and not tries:
            tries.append("refused")
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return real(command, **others)

    monkeypatch.setattr(subprocess, "Popen", limited)
    events: list[Event] = []
    record, _ = measure_node(request("fake:1"), events.append)
    assert failed(record) == []
    assert figures(record)[0].samples > 0
    assert any("cannot be started (Resource temporarily" in text for text in remarks(events))


def test_no_terminal_ends_a_reader_in_a_call(acme: Node, tmp_path: Path) -> None:
    tool = put_tool(tmp_path / "bin")
    tool.write_text(tool.read_text().replace("list) seq", f"list) {held(tmp_path)}; seq"))
    backend: Any = acme_on_bus(acme("missing"), tmp_path)
    process = ReaderProcess()
    process.send(reader.Find(reader.SourceClass.of(backend), None, {}))
    assert until(lambda: len(workers(str(tool))) >= 1, 10)
    pid = process.process.pid
    assert os.getsid(pid) == pid  # a terminal that is closed, Ctrl-C and Ctrl-Z do not reach it
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGINT):
        os.kill(pid, number)
    time.sleep(1.5)
    assert process.process.poll() is None
    assert workers(str(tool))
    (tmp_path / "released").touch()
    assert process.process.wait(10) == 0
    process.end()
    assert (tmp_path / "bin/runs").read_text().count("\n") == 1


@pytest.mark.long
def test_a_reader_that_is_to_end_starts_no_tool_and_outlives_the_one_it_left(
    acme: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "TURN_S", 1.0)
    put_tool(tmp_path / "bin", before=f"trap '' TERM; {held(tmp_path)}")
    lines = "import bench.devices.tools.tool as t; t.TIMEOUT_S = 0.5"
    backend: Any = acme_on_bus(acme("missing", lines, back_end=OfSlowTool), tmp_path)
    with pytest.raises(InputError, match=r"did not end within 0\.5 s"):
        listed(backend)
    assert len(readers(tmp_path)) == 1  # it holds the node's turn
    with pytest.raises(InputError, match="another command of petaseal on this node"):
        VendorTool(tmp_path / "bin/acme-smi", None).run("list")
    (tmp_path / "released").touch()
    assert until(lambda: readers(tmp_path) == [], 10)


@pytest.mark.long
def test_a_tool_that_is_asked_many_times_is_waited_for(acme: Node, tmp_path: Path) -> None:
    put_tool(tmp_path / "bin", before="sleep 0.5")
    backend = acme_on_bus(acme("missing", back_end=OfSlowTool), tmp_path)
    assert len(find_apart(backend, None, 3)) == 8  # 4.5 s together, and none of them takes 3 s


@pytest.mark.long
def test_the_first_look_of_a_slow_tool_is_before_any_worker(
    acme: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_tool(tmp_path / "bin", before="sleep 0.4")
    backend = acme_on_bus(acme("missing", back_end=OfSlowTool), tmp_path)
    found, events = listed(backend), list[Event]()
    monkeypatch.setattr("bench.engine.readings.FIRST_LOOK_S", 2.0)
    record = measured(found[:2], events)
    assert failed(record) == []
    assert not any("goes on without" in text for text in remarks(events))


def test_what_the_reader_takes_of_the_cpus_is_no_load_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch)
    known: list[set[int]] = []

    def look(pids: Any) -> Any:
        known.append({*pids} & {*readers(tmp_path)})
        return read_load(pids)

    monkeypatch.setattr(node, "read_load", look)
    measure_node(request("fake:1"))
    assert [len(pids) for pids in known] == [1, 1]


# Readings
def test_a_reading_that_no_message_holds_costs_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, from_look=2, then="odd")
    events: list[Event] = []
    record, _ = measure_node(request("fake:1"), events.append)
    assert failed(record) == []
    assert figures(record)[0].samples > 0


def test_what_cannot_be_read_on_a_workers_socket_is_passed_over() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        received = ReceivedReadings(theirs)
        ours.send(b'{"no": "reading"}')
        ours.send(msgspec.json.encode(Taken(5, Reading(power_mw=7))))
        assert until(lambda: [one.at_ns for one in received.after(0)] == [5], 5)
        ours.shutdown(socket.SHUT_RDWR)


# Tools
def test_a_tool_that_leaves_a_process_with_its_output_open_has_answered(tmp_path: Path) -> None:
    path = put_tool(tmp_path, f"({held(tmp_path)}) & seq 0 7")
    begun = time.monotonic()
    assert VendorTool(path, None).run("watch").split() == [str(index) for index in range(8)]
    assert time.monotonic() - begun < 5
    (tmp_path / "released").touch()


def test_two_commands_take_turns_at_a_tool(tmp_path: Path) -> None:
    path = put_tool(tmp_path / "bin", "sleep 0.3; seq 0 7")
    script = f"""
import sys; sys.path[:] = {sys.path!r}
from pathlib import Path
from bench.devices.tools.tool import VendorTool
for _ in range(6):
    VendorTool(Path({str(path)!r}), None).run("watch", sys.argv[1])
"""
    both = [subprocess.Popen([sys.executable, "-c", script, name]) for name in ("one", "two")]
    assert [process.wait(60) for process in both] == [0, 0]
    assert not (tmp_path / "bin/overlaps").exists()
    order = [line.split()[-1] for line in (tmp_path / "bin/runs").read_text().splitlines()]
    assert sorted(order) == ["one"] * 6 + ["two"] * 6
    begun = order.index("two" if order[0] == "one" else "one")
    shared = order[begun : 12 - begun]
    assert sum(a != b for a, b in itertools.pairwise(shared)) >= len(shared) // 2, order  # nobody starves


def test_a_tool_that_may_not_be_read_or_is_replaced_has_no_turn_to_wait_for(tmp_path: Path) -> None:
    path = put_tool(tmp_path)
    turn = turns.take(path)
    assert turn is not None
    other = put_tool(tmp_path / "new")
    shutil.move(other, path)  # as a package's update does
    again = turns.take(path)
    assert again is not None
    turns.let_go(turn)
    turns.let_go(again)
    assert turns.take(tmp_path / "missing") is None
