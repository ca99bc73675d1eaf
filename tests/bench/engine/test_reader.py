"""Vendors' devices are listed and read by one process: what hangs there, ends it, or must never run twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from bench.devices import load_backend, reader
from bench.devices.base import Backend, Faulty, LocalDevice, UnusableError
from bench.devices.reader import ListingRefused, ReaderListing, ReaderProcess, find_apart
from bench.devices.tools.tool import VendorTool
from bench.engine.node import NodeRequest, measure_node
from bench.engine.workers import Event
from bench.errors import InputError
from bench.record import NodeRecord
from tests.bench.acme import LIBRARY_MW, TOOL_MW, VARIABLE, Acme8, AcmeOfOneSource, put_tool
from tests.bench.engine.test_node import LIMITS, SHORT, failed
from tests.bench.engine.test_readings import figures, remarks, until
from tests.bench.engine.watched import register
from tests.bench.fleet import workloads_in
from tests.bench.processes import children, readers, workers

S = 10**9
Node = Callable[..., Backend]


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """Return what sets up a node with eight devices of a vendor with a library and a tool."""
    monkeypatch.setattr(reader, "skipped", {})
    monkeypatch.setattr("bench.engine.readings.skipped", reader.skipped)

    def build(library: str = "works", lines: str = "", back_end: type = Acme8, **more: str) -> Backend:
        register(tmp_path, monkeypatch, "acme", back_end, lines)
        file = tmp_path / "acme.json"
        file.write_text(json.dumps({"library": library} | more))
        monkeypatch.setenv(VARIABLE, str(file))
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
        return load_backend("acme")

    return build


def held(folder: Path) -> str:
    """Return what a tool does that is silent until the file `released` is in a folder."""
    return f"for i in $(seq 600); do [ -e {folder}/released ] && break; sleep 0.1; done"


def listed(backend: Backend, within_s: float = 20.0) -> list[LocalDevice]:
    return find_apart(backend, None, within_s)


def measured(found: list[LocalDevice], events: list[Event], **changes: int) -> NodeRecord:
    profile = replace(SHORT, **changes)
    asked = NodeRequest(found, profile, workloads_in(profile, ("fp16",)), "node-1", "SPKI", timeouts=LIMITS)
    return measure_node(asked, events.append)[0]


def powers(record: NodeRecord) -> set[int | None]:
    return {figure.power_mean_mw for figure in figures(record)}


# Listing
def test_devices_are_listed_by_another_process_that_ends(acme: Node, tmp_path: Path) -> None:
    found = listed(acme_on_bus(acme(), tmp_path))
    assert [one.device.device for one in found] == [f"acme:{index}" for index in range(8)]
    assert {one.model.source for one in found} == {"acme"}
    assert found[3].visibility == (("ACME_VISIBLE_DEVICES", "3"),)
    pids = {int(line.split()[0]) for line in (tmp_path / "acme.pids").read_text().splitlines()}
    assert len(pids) == 1
    assert os.getpid() not in pids
    assert readers(tmp_path) == []


def acme_on_bus(backend: Backend, root: Path) -> Backend:
    """Give a node the devices on its bus."""
    folder = root / "sys/bus/pci/devices/0000:17:00.0"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vendor").write_text("0xac3e\n")
    (folder / "class").write_text("0x120000\n")
    backend.root = root  # type: ignore[attr-defined]
    return backend


def test_a_node_without_the_vendors_hardware_starts_no_process(
    acme: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "ReaderProcess", None)
    assert acme().find(None) == []


def test_a_library_that_hangs_is_left_and_the_tool_lists(acme: Node, tmp_path: Path) -> None:
    put_tool(tmp_path / "bin")
    backend = acme_on_bus(acme("hangs"), tmp_path)
    found = listed(backend, 2)
    assert {(one.model.source, one.skipped) for one in found} == {
        ("acme-smi", ("acmelibrary: did not answer within 2 s",))
    }
    assert len(readers(tmp_path)) == 1  # in its call, and nobody ends it
    begun = time.monotonic()
    assert len(listed(backend, 2)) == 8
    assert time.monotonic() - begun < 2  # it is known to hang
    (tmp_path / "released").touch()
    assert until(lambda: readers(tmp_path) == [], 10)


def test_a_library_that_ends_its_process_is_skipped(acme: Node, tmp_path: Path) -> None:
    put_tool(tmp_path / "bin")
    found = listed(acme_on_bus(acme("crashes"), tmp_path))
    assert {one.model.source for one in found} == {"acme-smi"}
    assert found[0].skipped == ("acmelibrary: ended the process that reads it (signal 11)",)
    assert readers(tmp_path) == []


def test_the_last_source_that_ends_its_process_is_one_sentence(acme: Node, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="signal 11") as error:
        listed(acme_on_bus(acme("crashes", back_end=AcmeOfOneSource), tmp_path))
    assert (error.value.code, error.value.where) == ("device-tool-failed", "acmelibrary")


def test_what_both_sources_lack_is_said_at_once(acme: Node, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="acme-smi is not on PATH") as error:
        listed(acme_on_bus(acme("missing"), tmp_path))
    assert error.value.code == "device-tool-missing"
    with pytest.raises(InputError, match="not on the loader's path") as error:
        listed(acme_on_bus(acme("missing", back_end=AcmeOfOneSource), tmp_path))
    assert (error.value.code, error.value.where) == ("device-library-missing", "libacme.so")


def test_interrupting_the_listing_leaves_no_process(
    acme: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(process: ReaderProcess, timeout_s: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ReaderProcess, "receive", interrupt)
    with pytest.raises(KeyboardInterrupt):
        listed(acme_on_bus(acme(), tmp_path))
    assert until(lambda: readers(tmp_path) == [], 5)


def test_errors_and_lost_devices_come_over_whole(acme: Node, tmp_path: Path) -> None:
    found = listed(acme_on_bus(acme(), tmp_path))
    lost = Faulty(*found[0][:2], "device-lost", "is gone", ("why",))
    (there, again) = ReaderListing.of([found[1], lost]).devices()
    assert (there, isinstance(there, Faulty)) == (found[1], False)
    assert isinstance(again, Faulty)
    assert (again, again.code, again.what, again.skipped) == (lost, "device-lost", "is gone", ("why",))
    error = ListingRefused.of(InputError("device-permission", "no", where="x", fix="y")).error()
    assert (error.code, error.what, error.where, error.fix) == ("device-permission", "no", "x", "y")
    unusable = ListingRefused.of(UnusableError(error, [lost])).error()
    assert isinstance(unusable, UnusableError)
    assert isinstance(unusable.devices[0], Faulty)


# Reading
def test_eight_devices_and_one_process_of_the_tool_at_a_time(acme: Node, tmp_path: Path) -> None:
    put_tool(tmp_path / "bin", "sleep 0.3; seq 0 7")
    backend = acme_on_bus(acme("missing"), tmp_path)
    found, events = listed(backend), list[Event]()
    record = measured(found, events, warmup_ns=S, window_ns=4 * S)
    assert failed(record) == []
    assert powers(record) == {TOOL_MW}
    assert {2 <= figure.samples <= 5 for figure in figures(record)} == {True}  # once a second, for all of them
    assert not (tmp_path / "bin/overlaps").exists()
    assert readers(tmp_path) == children() == workers(str(tmp_path / "bin/acme-smi")) == []


@pytest.mark.long
def test_a_tool_that_goes_silent_costs_readings_and_is_neither_killed_nor_started_twice(
    acme: Node, tmp_path: Path
) -> None:
    silent = f"if [ $(wc -l < {tmp_path}/bin/runs) -gt 3 ]; then trap '' TERM; {held(tmp_path)}; fi; seq 0 7"
    tool = put_tool(tmp_path / "bin", silent)
    backend = acme_on_bus(acme("missing", "import bench.devices.tools.tool as t; t.TIMEOUT_S = 0.5"), tmp_path)
    found, events = listed(backend), list[Event]()
    record = measured(found[:2], events, warmup_ns=S, window_ns=4 * S)
    assert failed(record) == []
    runs = (tmp_path / "bin/runs").read_text().splitlines()
    assert len(runs) == 4  # two lists, a look, and the one that is silent
    assert any("did not end within 0.5 s" in text for text in remarks(events))
    assert Path(f"/proc/{runs[-1].split()[0]}").exists()  # it was asked to end, and does as it likes
    assert not (tmp_path / "bin/overlaps").exists()
    (tmp_path / "released").touch()
    assert until(lambda: workers(str(tool)) == [], 10)


@pytest.mark.long
def test_a_library_that_ends_two_readers_is_left_for_the_tool(acme: Node, tmp_path: Path) -> None:
    put_tool(tmp_path / "bin")
    backend = acme_on_bus(acme("crashes when read"), tmp_path)
    found, events = listed(backend), list[Event]()
    assert {one.model.source for one in found} == {"acme"}
    record = measured(found[:2], events, warmup_ns=6 * S, window_ns=3 * S)
    assert failed(record) == []
    assert powers(record) == {TOOL_MW}
    assert any("the next source is read" in text for text in remarks(events))


def test_devices_are_read_through_the_library_first(acme: Node, tmp_path: Path) -> None:
    put_tool(tmp_path / "bin")
    found, events = listed(acme_on_bus(acme(), tmp_path)), list[Event]()
    record = measured(found[:2], events)
    assert powers(record) == {LIBRARY_MW}
    assert not (tmp_path / "bin/runs").exists()
    assert {figure.samples > 5 for figure in figures(record)} == {True}  # as often as the profile says
    assert events[-1].what != "remark"


def test_another_device_in_its_place_is_not_measured(acme: Node, tmp_path: Path) -> None:
    found = listed(acme_on_bus(acme(), tmp_path))
    other = LocalDevice(found[0].model, replace(found[0].device, serial="A1-OTHER"))
    record = measured([other, found[1]], [], warmup_ns=2 * S)
    assert failed(record) == [("acme:0", "fp16", "device-differs")]
    assert record.measurements[0].device == ("acme:1",)


def test_a_parent_that_is_killed_leaves_no_reader_and_no_tool(acme: Node, tmp_path: Path) -> None:
    tool = put_tool(tmp_path / "bin", "sleep 3; seq 0 7")
    acme_on_bus(acme("missing"), tmp_path)
    script = f"""
from pathlib import Path
from tests.bench.engine.test_reader import *
backend = load_backend("acme")
backend.root = Path({str(tmp_path)!r})
measured(listed(backend)[:1], Printed())
"""
    with subprocess.Popen([sys.executable, "-u", "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert any("warmup" in line for line in parent.stdout)
        assert until(lambda: len(workers(str(tool))) == 1, 5)
        parent.send_signal(signal.SIGKILL)
    assert until(lambda: (readers(tmp_path), workers(str(tool))) == ([], []), 10)


class Printed(list[Event]):
    """Events that are printed."""

    def append(self, event: Event) -> None:
        print(event.what)


# The tool itself
def test_a_tool_that_ends_when_it_is_asked_may_be_started_again(tmp_path: Path) -> None:
    path = put_tool(tmp_path, "sleep 20")
    tool = VendorTool(path, None)
    for _ in range(2):
        with pytest.raises(InputError, match=r"did not end within 0\.3 s"):
            tool.run("watch", timeout_s=0.3)
    assert len((tmp_path / "runs").read_text().splitlines()) == 2


def test_a_tool_that_does_not_end_is_not_started_twice(tmp_path: Path) -> None:
    path = put_tool(tmp_path, held(tmp_path), "trap '' TERM")
    tool = VendorTool(path, None)
    with pytest.raises(InputError, match=r"did not end within 0\.3 s"):
        tool.run("watch", timeout_s=0.3)
    with pytest.raises(InputError, match="is not started twice") as error:
        tool.run("list")
    assert error.value.code == "device-tool-failed"
    assert len((tmp_path / "runs").read_text().splitlines()) == 1

    (tmp_path / "released").touch()

    def again() -> bool:
        try:
            return tool.run("list").splitlines()[0] == "0"
        except InputError:
            return False

    assert until(again, 8)
