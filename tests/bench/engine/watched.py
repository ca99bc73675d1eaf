"""Fakes that the node's reader reads, as it reads a vendor's devices: what it meets stands in a file.

The file is JSON, named by PETASEAL_WATCHED: `look_s` (how long a look takes), `from_look` (the number of the look that
begins to behave as `then` says: "hang", "crash", "lost", "odd"). Each look leaves a line in the file beside it. What
hangs goes on when the file `released` is there.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.devices import DEVICES
from bench.devices.base import LocalDevice
from bench.devices.fake import Fake
from bench.errors import DeviceError
from bench.telemetry import Reading

if TYPE_CHECKING:
    import pytest

VARIABLE = "PETASEAL_WATCHED"


def hang(folder: Path) -> None:
    """Hang in C, a minute at most, until the file `released` is in a folder."""
    end = time.monotonic() + 60
    while not (folder / "released").exists() and time.monotonic() < end:
        ctypes.CDLL(None).usleep(100_000)


class Watched(Fake):
    """A fake whose worker reads nothing."""

    def watch(self, found: Sequence[LocalDevice]) -> WatchedDevices:
        """Begin to read fakes."""
        return WatchedDevices([one.device.device for one in found])


class WatchedDevices:
    """Fakes being read."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def read(self) -> dict[str, Reading | DeviceError]:
        """Take a look, as the file says."""
        file = Path(os.environ[VARIABLE])
        script = json.loads(file.read_text())
        looks = file.with_suffix(".looks")
        with looks.open("a") as lines:
            lines.write(f"{os.getpid()} {time.monotonic_ns()}\n")
        number = len(looks.read_text().splitlines())
        time.sleep(script.get("look_s", 0.0))
        if number >= script.get("from_look", 10**9):
            if script["then"] == "hang":
                hang(file.parent)
            if script["then"] == "crash" and (number == script["from_look"] or script.get("again")):
                ctypes.string_at(0)
            if script["then"] == "odd" and number == script["from_look"]:
                return {name: Reading(power_mw=2**70) for name in self.names}
            if script["then"] == "lost":
                lost = DeviceError("device-lost", "the device has fallen off the bus")
                return {name: lost if name == self.names[0] else Reading(power_mw=number) for name in self.names}
        return {name: Reading(power_mw=1000 * number, clock_mhz=1500, processes=0) for name in self.names}

    def close(self) -> None:
        """Let go."""


def register(folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, back_end: type[object], lines: str = "") -> None:
    """Put a back end into the table of this process, its workers and its readers.

    Args:
        folder: for what they run first.
        monkeypatch: of the test.
        kind: of device.
        back_end: its class.
        lines: that they run before anything else.
    """
    value = f"{back_end.__module__}:{back_end.__name__}"
    (folder / "sitecustomize.py").write_text(
        f"import bench.devices\nbench.devices.DEVICES[{kind!r}] = {value!r}\n{lines}\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *sys.path]))
    monkeypatch.setitem(DEVICES, kind, value)


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, lines: str = "", **script: object) -> Path:
    """Let fakes of this process, its workers and its reader be watched; return the file of their looks.

    Args:
        folder: for the files.
        monkeypatch: of the test.
        lines: that the reader and the workers run before anything else.
        script: what the reader meets.
    """
    register(folder, monkeypatch, "fake", Watched, lines)
    file = folder / "watched.json"
    file.write_text(json.dumps(script))
    monkeypatch.setenv(VARIABLE, str(file))
    return file.with_suffix(".looks")
