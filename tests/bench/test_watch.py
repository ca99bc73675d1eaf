"""``petaseal devices --watch``: a table that is redrawn in place, lines, or JSON, until Ctrl-C."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.devices import select_devices
from bench.devices.reader import Taken
from bench.errors import DeviceError
from bench.telemetry import Reading
from bench.terminal.watch import HEADINGS, LEGEND, LatestReadings, Screen, WatchRow
from tests.fake_nvidia import environment, gpu

WHOLE = Reading(
    power_mw=650_250,
    temperature_c=63,
    clock_mhz=1755,
    utilisation_ppm=994_000,
    throttled=("power cap", "thermal"),
    ecc_uncorrected=2,
    processes=1,
)


def row(reading: Reading, **changes: Any) -> WatchRow:
    return WatchRow("npu:0", "Huawei Ascend910B3", reading, 0, None)._replace(**changes)


def test_what_is_not_exposed_is_a_dash_and_never_0() -> None:
    assert row(WHOLE).cells()[2:] == ("650.2", "63", "1755", "99", "power cap, thermal", "2", "1", "0 s")
    assert row(Reading(), age_ns=None).cells()[2:] == ("-",) * 8
    none = Reading(power_mw=0, temperature_c=0, clock_mhz=0, utilisation_ppm=0, throttled=(), ecc_uncorrected=0)
    assert row(none, age_ns=12 * 10**9).cells()[2:] == ("0.0", "0", "0", "0", "nothing", "0", "-", "12 s")
    assert len(row(WHOLE).cells()) == len(HEADINGS)
    assert row(Reading(), fault="lost [device-lost]").cells()[6] == "lost [device-lost]"


class Lost:
    """A source that this process reads itself, which says that its device is lost."""

    def read(self) -> Reading | None:
        raise DeviceError("device-lost", "is gone")


def test_the_newest_reading_of_each_device_with_its_age() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    found = select_devices("fake:3")

    def send(*messages: Taken) -> None:
        for message in messages:
            theirs.send(msgspec.json.encode(message))

    watch = LatestReadings(found, {"fake:0": ours}, {"fake:1": Lost()})
    first, second, third = watch.rows()
    assert (first.reading, first.age_ns, first.fault) == (Reading(), None, None)
    assert second.fault == "is gone [device-lost]"
    assert (third.reading, third.fault) == (Reading(), None)
    at_ns = time.monotonic_ns()
    send(Taken(at_ns - 9 * 10**9, Reading(power_mw=1)), Taken(at_ns - 5 * 10**9, WHOLE))
    (first, *_) = watch.rows()
    assert first.reading == WHOLE
    assert first.age_ns is not None
    assert 5 <= first.age_ns / 10**9 < 8
    send(Taken(at_ns, None, ("device-failed", "does not answer")))
    (first, *_) = watch.rows()
    assert (first.reading, first.fault) == (WHOLE, "does not answer [device-failed]")
    send(Taken(at_ns, Reading(power_mw=2)))
    (first, *_) = watch.rows()
    assert (first.reading, first.fault) == (Reading(power_mw=2), None)
    theirs.close()
    assert watch.rows()[0].reading == Reading(power_mw=2)
    ours.close()


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen(as_json=False) as screen:
        screen.show([row(WHOLE)], ["the source does not answer"], "2026-03-01T08:00:00.000000Z")
    assert capsys.readouterr().out.splitlines() == [
        LEGEND,
        "the source does not answer",
        "2026-03-01T08:00:00.000000Z npu:0 Huawei Ascend910B3: power W 650.2, temp C 63, clock MHz 1755, "
        "use % 99, throttled by power cap, thermal, ECC 2, processes 1, age 0 s",
    ]


SCRIPT = "slow_us 0\n" + gpu(0) + gpu(1)


def command(*more: str) -> list[str]:
    return [sys.executable, "-m", "tests.bench.app", "devices", "--device", "cuda", "--watch", *more]


def lines_until(process: subprocess.Popen[str], enough: Callable[[Sequence[str]], bool]) -> list[str]:
    lines: list[str] = []
    assert process.stdout is not None
    while not enough(lines):
        line = process.stdout.readline()
        assert line, "it ended by itself"
        lines.append(line)
    return lines


def interrupt(process: subprocess.Popen[Any]) -> int:
    process.send_signal(signal.SIGINT)
    return process.wait(timeout=30)


def plain_sigint() -> None:
    """Restore what a shell's background job is started without."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_one_json_object_a_second_until_ctrl_c(tmp_path: Path) -> None:
    env = environment(tmp_path, gpu(0) + gpu(1), PETASEAL_STATE=str(tmp_path / "state"))
    with subprocess.Popen(
        command("--json"), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=plain_sigint
    ) as process:
        begun_s = time.monotonic()
        looks = [json.loads(line) for line in lines_until(process, lambda lines: len(lines) == 3)]
        assert time.monotonic() - begun_s > 1.9
        assert interrupt(process) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    for look in looks:
        assert [device["device"] for device in look["devices"]] == ["cuda:0", "cuda:1"]
    last = looks[-1]["devices"][0]
    assert set(last) == {"device", "model", "age_ns", "fault", *Reading._fields}
    assert last["power_mw"] > 0
    assert last["fault"] is None


@pytest.mark.parametrize("columns", [80, 160])
def test_a_terminal_redraws_in_place_and_is_left_in_order(tmp_path: Path, columns: int) -> None:
    """The cursor that a live table hides is shown again, and the terminal has the settings it had."""
    env = environment(tmp_path, gpu(0) + gpu(1), PETASEAL_STATE=str(tmp_path / "state"), TERM="xterm")
    env |= {"COLUMNS": str(columns), "LINES": "24"}
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    before = termios.tcgetattr(theirs)
    shown = b""

    def read_until(enough: Callable[[], bool]) -> None:
        """Read what is shown: a terminal that nobody reads stops whoever writes to it."""
        nonlocal shown
        until_s = time.monotonic() + 60
        while not enough():
            assert time.monotonic() < until_s, shown
            if select.select([ours], [], [], 0.2)[0]:
                shown += os.read(ours, 65536)

    with subprocess.Popen(command(), env=env, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=plain_sigint) as p:
        try:
            read_until(lambda: shown.count(b"throttled by") >= 3 and b"0 s" in shown)
            p.send_signal(signal.SIGINT)
            read_until(lambda: p.poll() is not None)
        finally:
            p.kill()
    assert p.returncode == 0
    read_until(lambda: not select.select([ours], [], [], 0.2)[0])
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)
    assert b"\x1b[1A" in shown  # the cursor goes up: nothing scrolls
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l") >= 0
    assert LEGEND.encode()[:20] in shown
    assert b"cuda:1" in shown
    plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", shown).decode().splitlines()
    heads = next(line for line in plain if line.startswith("device"))
    assert all(heading in heads for heading in HEADINGS if columns > 80 or heading != "model")
