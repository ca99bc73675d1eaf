"""A vendor with a library and a tool, of whose devices fakes do the work: both behave as a file says.

The file is JSON, named by PETASEAL_ACME: `library` is "works", "missing", or what it does and when: "hangs", "crashes"
or a function of `shared`, a shared library, when it is opened, " when listed" or " when read". What hangs goes on when
the file `released` is there. Whoever opens or reads through the library leaves its process id in the file beside it.
The tool is a script on PATH.
"""

from __future__ import annotations

import ctypes
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from bench.clock import Clock
from bench.devices.base import OpenDevice
from bench.devices.fake import Fake
from bench.devices.source import DeviceSource, ListedDevice
from bench.devices.tools.texts import quantity, whole
from bench.devices.tools.tool import ToolSource
from bench.devices.vendor import VendorBackend
from bench.errors import DeviceError, InputError
from bench.telemetry import Reading
from tests.bench.engine.watched import hang

VARIABLE = "PETASEAL_ACME"
LIBRARY_MW, TOOL_MW = 111_000, 222_000


def _meet(what: str) -> None:
    """Behave as the file says, where it speaks of what is done now."""
    file = Path(os.environ[VARIABLE])
    script = json.loads(file.read_text())
    with file.with_suffix(".pids").open("a") as pids:
        pids.write(f"{os.getpid()} {what}\n")
    if script["library"] == f"hangs{what}":
        hang(file.parent)
    if script["library"] == f"crashes{what}":
        ctypes.string_at(0)
    does = script["library"].removesuffix(what)
    if "shared" in script and does + what == script["library"] and does.isidentifier():
        getattr(ctypes.CDLL(script["shared"]), does)()


class AcmeLibrary(DeviceSource):
    """The library."""

    exposes = ("power",)

    @classmethod
    def open(cls, root: Path) -> Self:
        """Open it, as the file says."""
        if json.loads(Path(os.environ[VARIABLE]).read_text())["library"] == "missing":
            raise InputError("device-library-missing", "libacme.so is not on the loader's path", where="libacme.so")
        _meet("")
        return cls(root, "acme", "/usr/lib/libacme.so", None)

    def devices(self) -> list[ListedDevice]:
        """Return eight devices."""
        _meet(" when listed")
        return [ListedDevice(number=index, model="Acme A1", serial=f"A1-{index}") for index in range(8)]

    def readings(self, rows: Sequence[ListedDevice]) -> dict[int, Reading | DeviceError]:
        """Return one look, as the file says."""
        _meet(" when read")
        return {row.number: Reading(power_mw=LIBRARY_MW, processes=0) for row in rows}


class AcmeSmi(ToolSource):
    """The tool: `acme-smi list` and `acme-smi watch` print a line for each device."""

    tools = ("acme-smi",)
    exposes = ("power",)
    folder = "/opt/acme/bin"

    def devices(self) -> list[ListedDevice]:
        """Return the devices that the tool lists."""
        lines = self.tool.run("list").splitlines()
        return [ListedDevice(number=int(line), model="Acme A1", serial=f"A1-{line}") for line in lines]

    def readings(self, rows: Sequence[ListedDevice]) -> dict[int, Reading | DeviceError]:
        """Return one look at all devices, by one run of the tool."""
        numbers = [int(line) for line in self.tool.run("watch").splitlines()]
        return {number: Reading(power_mw=whole(quantity(f"{TOOL_MW}", ""))) for number in numbers}


class Acme8(VendorBackend):
    """Back end of kind "acme"."""

    kind = "acme"
    vendor = "Acme"
    vendor_ids = frozenset({0xAC3E})
    sources: ClassVar[tuple[type[DeviceSource], ...]] = (AcmeLibrary, AcmeSmi)
    variables = (("ACME_VISIBLE_DEVICES",),)

    def open(self, found: Any, clock: Clock) -> OpenDevice:  # type: ignore[override]
        """Return a fake in its place, after the variable is set."""
        os.environ.update(found.visibility)
        return Fake().open(found, clock)


class AcmeOfOneSource(Acme8):
    """A back end without a tool."""

    sources: ClassVar[tuple[type[DeviceSource], ...]] = (AcmeLibrary,)


def put_tool(folder: Path, watch: str = "seq 0 7", before: str = "") -> Path:
    """Put the tool on a folder; it notes every run and every overlap of two in files there.

    Args:
        folder: for the tool and its notes.
        watch: what it does when it is to watch.
        before: what it does first.
    """
    folder.mkdir(exist_ok=True)
    path = folder / "acme-smi"
    path.write_text(f"""#!/bin/bash
{before}
echo "$$ $*" >> {folder}/runs
mkdir {folder}/running 2>/dev/null || echo "$*" >> {folder}/overlaps
case "$1" in
list) seq 0 7 ;;
watch) {watch} ;;
esac
rmdir {folder}/running
""")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path
