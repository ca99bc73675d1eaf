"""What running a vendor's command-line tool has in common: find it, run it bounded, read its numbers and fields.

A tool's output is foreign text: what has another form than the one that a back end was written for is refused in one
sentence or is unknown, never guessed. Nothing in here knows one vendor's output.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from bench.devices.source import DeviceSource, ListedDevice
from bench.devices.tools import turns
from bench.devices.tools.texts import plain_text
from bench.errors import DeviceError, InputError, one_line
from bench.telemetry import Reading

TIMEOUT_S = 20.0  # tools written in Python take seconds on a node of eight devices
END_S = 1.0  # how long a tool that was asked to end is waited for
SILENT_S = 0.2  # how long nothing more must come of a tool that has ended, where another process holds its output
MOST_BYTES = 4 * 1024 * 1024
VISIBILITY = (  # a tool lists all devices of the node, whatever the frameworks may see
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "CUDA_VISIBLE_DEVICES",
    "ASCEND_RT_VISIBLE_DEVICES",
    "MLU_VISIBLE_DEVICES",
    "MUSA_VISIBLE_DEVICES",
    "XPU_VISIBLE_DEVICES",
)


class VendorTool(NamedTuple):
    """A vendor's command-line tool as it was found."""

    path: Path
    sha256: str | None  # None where its file may be run and not read

    @staticmethod
    def find(names: Sequence[str], folder: str = "its folder") -> VendorTool:
        """Return the first of some tools that is on PATH.

        Args:
            names: of the tools.
            folder: where the vendor puts it.

        Raises:
            InputError: none is.
        """
        for name in names:
            if (path := shutil.which(name)) is not None:
                absolute = Path(path).absolute()
                try:
                    return VendorTool(absolute, hashlib.sha256(absolute.read_bytes()).hexdigest())
                except OSError:
                    return VendorTool(absolute, None)
        raise InputError(
            "device-tool-missing",
            f"the hardware is there and {' or '.join(names)} is not on PATH",
            where=names[0],
            fix=f"install the vendor's driver tools, or add {folder} to PATH",
        )

    @property
    def name(self) -> str:
        """The tool's file name."""
        return self.path.name

    def run(self, *arguments: str, timeout_s: float | None = None) -> str:
        """Return what the tool prints. No two tools run at once, and none is started while its last run goes on.

        On the whole node each tool runs once at a time: the turn is a lock on the tool's file, so that it works for all
        users and leaves nothing behind. Where the file may not be read, or is on a file system without locks, none is.

        A tool that does not end in time is asked to (SIGTERM), and left alone if it does not: it may hold a lock of the
        driver, which the centre's own monitoring would then never get.

        Args:
            arguments: of its command line.
            timeout_s: after which it is asked to end; None for `TIMEOUT_S`.

        Raises:
            InputError: it cannot be started, fails, prints too much or does not end in time, or still runs.
        """
        with turns.ONE_AT_A_TIME:
            if turns.ending.is_set():
                raise self.failed(arguments, "is not started any more: the run has ended")
            if turns.still_runs(self.path):
                raise self.failed(arguments, "its last run has not ended yet, and it is not started twice")
            turns.starting[0]()
            printed, complained, status = self._ran(arguments, TIMEOUT_S if timeout_s is None else timeout_s)
            time.sleep(turns.PAUSE_S)
        if status != 0:
            said = next((line.strip() for line in (complained + "\n" + printed).splitlines() if line.strip()), "")
            denied = re.search(r"permission|not permitted|denied|root", said, re.IGNORECASE) is not None
            raise self.failed(arguments, f"failed with exit status {status}: {said or 'it says nothing'}", denied)
        return printed

    def _ran(self, arguments: Sequence[str], limit_s: float) -> tuple[str, str, int]:
        """Return what the tool prints to its two outputs, and its exit status."""
        # LC_ALL=C: no number and no word may depend on the language of whoever runs it.
        environ = {k: v for k, v in os.environ.items() if k not in VISIBILITY} | {"LC_ALL": "C"}
        try:
            turn = turns.take(self.path)
        except TimeoutError:
            what = "another command of petaseal on this node runs it, and it is not started twice"
            raise self.failed(arguments, what) from None
        try:
            process = subprocess.Popen(
                [self.path, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environ,
                # A group of its own, so that what a script starts can be ended with it, and Ctrl-C does not reach the
                # tool.
                start_new_session=True,
            )
        except OSError as error:
            turns.let_go(turn)
            what = f"cannot be started ({error.strerror})"
            raise self.failed(arguments, what, isinstance(error, PermissionError)) from None
        try:
            return *_read_both(process, time.monotonic() + limit_s), process.wait(timeout=limit_s)
        except (TimeoutError, subprocess.TimeoutExpired):
            raise self.failed(arguments, f"did not end within {limit_s:g} s") from None
        except OverflowError:
            raise self.failed(arguments, f"printed more than {MOST_BYTES} bytes") from None
        finally:
            if _ended(process):
                turns.let_go(turn)
            else:
                turns.left[self.path] = turns.Left(process, turn)

    def version(self, form: re.Pattern[str], *arguments: str) -> str | None:
        """Return the version that the tool prints; None where it does not know the arguments, or prints another form.

        Args:
            form: of its line, with a group round the number, and round what it is the version of if not the tool.
            arguments: of its command line.
        """
        try:
            match = form.search(self.run(*arguments))
        except InputError:
            return None
        return None if match is None else " ".join(filter(None, match.groups()))

    def failed(self, arguments: Sequence[str], what: str, denied: bool = False) -> InputError:
        """Return the error of a tool that gave no answer.

        Args:
            arguments: of its command line.
            what: happened.
            denied: whether it lacked a permission.
        """
        return InputError(
            "device-permission" if denied else "device-tool-failed",
            one_line(what, 200),
            where=f"{self.name} {' '.join(arguments)}".rstrip(),
            fix="give this user access to the devices" if denied else "run it by hand; is the driver loaded?",
        )

    def unknown(self, missed: str, version: str | None = None) -> InputError:
        """Return the error of an output that has another form than the documented one.

        Args:
            missed: what was looked for and not found.
            version: of the tool, where its output has one.
        """
        return InputError(
            "device-tool-unknown",
            f"its output has an unknown form ({'version ' + version if version else 'version unknown'}): no {missed}",
            where=self.name,
            fix="report the tool's version and output, so that its form can be added",
        )

    def json(self, *arguments: str) -> dict[str, Any]:
        """Return the JSON object that the tool prints; what stands before and after it does not count.

        Raises:
            InputError: as `run`, or there is no JSON object, or only a part of one.
        """
        printed = self.run(*arguments)
        parsed = _longest_object(printed, _NO_COMMA.sub(r'",\1"', printed))
        if not parsed:
            raise self.unknown("JSON object")
        return parsed


# Between a value and the next name, as hy-smi prints BW's power; an empty text follows its colon.
_NO_COMMA = re.compile(r'(?<=[^\s:,{\[\\])"(\s*)"(?=[^",:}\]])')


def _longest_object(*texts: str) -> dict[str, Any]:
    """Return the longest JSON object that begins a line, or with the first brace of a text; empty where none does.

    Warnings before it may have braces of their own. Of an output that was cut no inner object is taken for the whole,
    as long as it does not begin a line.
    """
    longest: tuple[int, dict[str, Any]] = (0, {})
    for text in texts:
        for begin in {text.find("{"), *(match.start() for match in re.finditer(r"^\{", text, re.MULTILINE))} - {-1}:
            try:
                parsed, end = json.JSONDecoder().raw_decode(text, begin)
            except (ValueError, RecursionError):
                continue
            longest = max(longest, (end - begin, parsed), key=lambda one: one[0])
    return longest[1]


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Ask a process to end, with whatever it started, if it still runs, and return whether it has."""
    if process.poll() is None:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=END_S)
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()
    return process.poll() is not None


def _read_both(process: subprocess.Popen[bytes], until_s: float) -> tuple[str, str]:
    """Return what a process writes to its two outputs, until both are closed, or it has ended and no more comes."""
    with selectors.DefaultSelector() as selector:
        texts: dict[Any, bytearray] = {}
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            texts[pipe] = bytearray()
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            has_ended = process.poll() is not None
            ready = selector.select(min(left_s, SILENT_S))
            if not ready and has_ended:  # a process that it left behind holds them open
                break
            for key, _ in ready:
                chunk = os.read(key.fd, 65536)
                texts[key.fileobj] += chunk
                if not chunk:
                    selector.unregister(key.fileobj)
                if len(texts[key.fileobj]) > MOST_BYTES:
                    raise OverflowError
    printed, complained = (plain_text(bytes(text)) for text in texts.values())
    return printed, complained


class ToolSource(DeviceSource):
    """A source that is a vendor's command-line tool (`bench.devices.source.DeviceSource`).

    A vendor's own gives `devices`, and `reading` or `readings`.

    Args:
        tool: as it was found.
        root: the file system's root (tests).
    """

    tools: ClassVar[tuple[str, ...]]  # its names, newest first
    folder: ClassVar[str] = "its folder"  # where the vendor's packages put it

    def __init__(self, tool: VendorTool, root: Path = Path("/")) -> None:
        super().__init__(root, tool.name, str(tool.path), tool.sha256)
        self.tool = tool

    @classmethod
    def label(cls) -> str:
        """Return the tool's name."""
        return cls.tools[0]

    @classmethod
    def open(cls, root: Path) -> Self:
        """Find the tool.

        Raises:
            InputError: it is not on PATH.
        """
        return cls(VendorTool.find(cls.tools, cls.folder), root)

    def reading(self, row: ListedDevice) -> Reading | None:
        """Return the present reading of one device; None where the tool says nothing of it.

        Raises:
            InputError: the tool fails or its output has an unknown form.
        """
        raise NotImplementedError

    def readings(self, rows: Sequence[ListedDevice]) -> dict[int, Reading | DeviceError]:
        """Return one look at all devices, one after another: at most one process of the tool runs at a time."""
        read: dict[int, Reading | DeviceError] = {}
        for row in rows:
            if (reading := self.reading(row)) is not None and reading != Reading():
                read[row.number] = reading
        return read
