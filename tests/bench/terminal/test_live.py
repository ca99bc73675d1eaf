"""The screen of a run on a real terminal: what it leaves behind, whatever happens to it meanwhile."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from bench.devices import select_devices
from bench.engine.node import NodeRequest
from bench.engine.progress import SoFar
from bench.engine.workers import Event
from bench.profile import load_profile
from bench.record import Workload
from bench.telemetry import Reading
from bench.terminal import live
from bench.terminal.live import ENTER, ERASE, LEAVE, RunProgress, Yardstick
from tests.bench.fleet import SPKI

LOOK = SoFar(10**9, tuple([10**9] * 30), 3, 1, 1, Reading(650_000, 62, 1755))
REQUEST = NodeRequest(select_devices("fake:2"), load_profile("smoke"), (Workload("fp16"),), "node-1", SPKI)


def is_wrong(workload: Workload, so_far: SoFar) -> bool:
    return so_far.row_error_ppm is None


YARDSTICK = Yardstick({("fake:0", "fp16"): 10**9}, is_wrong, None)


class PseudoTerminal:
    """A terminal whose reader is this test, which keeps all that is written to it."""

    def __init__(self, columns: int = 100, rows: int = 40) -> None:
        self.reader, self.writer = pty.openpty()
        self.shown = b""
        self.resize(columns, rows)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.writer, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read_until(self, enough: Callable[[], bool], seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not enough():
            assert time.monotonic() < end, self.shown
            if select.select([self.reader], [], [], 0.1)[0]:
                self.shown += os.read(self.reader, 65536)

    def has(self, *texts: str) -> Callable[[], bool]:
        return lambda: all(text.encode() in self.shown for text in texts)

    def rest(self) -> bytes:
        """Return everything once nothing comes any more."""
        while select.select([self.reader], [], [], 0.2)[0]:
            self.shown += os.read(self.reader, 65536)
        return self.shown


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[PseudoTerminal]:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setattr(live, "REDRAWN_S", 0.05)
    made = PseudoTerminal()
    yield made
    for end in (made.reader, made.writer):
        with contextlib.suppress(OSError):  # the test may have closed it
            os.close(end)


@contextlib.contextmanager
def measuring(terminal: PseudoTerminal) -> Iterator[Callable[[Event], None]]:
    """Show a run on a terminal that is standard error meanwhile."""
    # Not in the fixture: pytest puts its own stream there before the test is called.
    with (
        open(os.dup(terminal.writer), "w", encoding="utf-8") as stream,
        mock.patch.object(sys, "stderr", stream),
        RunProgress(REQUEST, quiet=False, yardstick=YARDSTICK) as report,
    ):
        yield report


def window(device: str = "fake:0", so_far: SoFar = LOOK) -> Event:
    return Event("window", device, "fp16", 312_000_000, so_far=so_far)


def test_a_screen_comes_and_goes_and_remarks_stay(terminal: PseudoTerminal) -> None:
    before = termios.tcgetattr(terminal.writer)
    with measuring(terminal) as report:
        report(window())
        report(window("fake:1", LOOK.__class__(1, (1,), 1, None, None, Reading())))
        report(Event("remark", "fake:0", text="a remark"))
        os.write(sys.stderr.fileno(), b"a library's own words\n")
        terminal.read_until(terminal.has("1, WRONG", "312.0"))
    shown = terminal.rest()
    assert shown.startswith(ENTER.encode())
    within, after = shown.split(LEAVE.encode())
    assert b"\x1b[1;31mfake:1" in within
    assert b"library" not in within  # it would be drawn over, and lost
    assert b"fake:0 a remark" in within
    assert after.decode().splitlines() == ["fake:0 a remark", "a library's own words"]
    assert termios.tcgetattr(terminal.writer) == before
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_restores_the_screen(terminal: PseudoTerminal, error: type[BaseException]) -> None:
    def fail() -> None:
        with measuring(terminal) as report:
            report(window())
            terminal.read_until(terminal.has("measuring"))
            raise error

    with pytest.raises(error):
        fail()
    assert terminal.rest().endswith(LEAVE.encode())


def test_another_size_is_drawn_anew_at_the_next_moment(terminal: PseudoTerminal) -> None:
    with measuring(terminal) as report:
        report(window())
        terminal.read_until(terminal.has("verified"))
        terminal.resize(40, 10)
        terminal.shown = b""
        terminal.read_until(terminal.has(ERASE, "fake:1"))
        narrow = terminal.shown.split(ERASE.encode())[1]
    assert b"verified" not in narrow
    assert b"sustained" in narrow


def test_no_colour_and_a_terminal_that_cannot_move_its_cursor(
    terminal: PseudoTerminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    with measuring(terminal) as report:
        report(window())
        terminal.read_until(terminal.has("measuring"))
    assert re.search(rb"\x1b\[[0-9;]*m", terminal.rest()) is None
    terminal.shown = b""
    monkeypatch.setenv("TERM", "dumb")
    with measuring(terminal) as report:
        for event in (Event("warmup", "fake:0", "fp16", 1), window(), window(), Event("concluding", "fake:0")):
            report(event)
        report(Event("remark", text="a remark"))
    assert terminal.rest().decode().splitlines() == ["fp16 warm-up", "fp16 measuring", "concluding", "a remark"]


def test_nothing_but_remarks_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for quiet, expected in ((False, "a remark\n"), (True, "")):
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        with RunProgress(REQUEST, quiet, YARDSTICK) as report:
            report(window())
            report(Event("remark", text="a remark"))
        assert stream.getvalue() == expected


def test_a_terminal_that_is_stopped_stops_nothing(terminal: PseudoTerminal) -> None:
    """As by Ctrl-S: nothing is read, and the terminal takes no more; the thread that measures does not notice."""
    os.set_blocking(terminal.writer, False)
    try:
        while os.write(terminal.writer, b"x" * 1024):
            pass
    except BlockingIOError:
        os.set_blocking(terminal.writer, True)
    with measuring(terminal) as report:
        begun = time.monotonic()
        for _ in range(100):
            report(window())
        assert time.monotonic() - begun < 1
        reading = threading.Timer(0.5, terminal.rest)
        reading.start()
    reading.join()
    assert time.monotonic() - begun < live.STOPPED_S + 5


def test_a_terminal_that_is_closed_stops_nothing(terminal: PseudoTerminal) -> None:
    with measuring(terminal) as report:
        terminal.read_until(terminal.has("preparing"))
        os.close(terminal.reader)
        time.sleep(0.3)
        report(window())


def test_sigterm_restores_the_screen(tmp_path: Path) -> None:
    code = (
        "import time; from tests.bench.terminal.test_live import *\n"
        "with RunProgress(REQUEST, False, YARDSTICK) as report:\n"
        "    report(window()); time.sleep(60)\n"
    )
    terminal = PseudoTerminal()
    environment = {**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8", "PETASEAL_STATE": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", code], stderr=terminal.writer, env=environment) as process:
        try:
            terminal.read_until(terminal.has("measuring"))
            process.terminate()
            terminal.read_until(lambda: process.poll() is not None)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGTERM
    assert LEAVE.encode() in terminal.rest()
