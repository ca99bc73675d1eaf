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
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from bench.errors import InputError, one_line
from bench.units import MAX_INTEGER

TIMEOUT_S = 20.0  # tools written in Python take seconds on a node of eight devices
MOST_BYTES = 4 * 1024 * 1024
MIB = 2**20
PLACEHOLDERS = frozenset(
    {"", "-", "--", "n/a", "na", "none", "null", "unknown", "not supported", "[n/a]", "[not supported]"}
)
VISIBILITY = (  # a tool lists all devices of the node, whatever the frameworks may see
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "CUDA_VISIBLE_DEVICES",
    "ASCEND_RT_VISIBLE_DEVICES",
    "MLU_VISIBLE_DEVICES",
    "MUSA_VISIBLE_DEVICES",
    "XPU_VISIBLE_DEVICES",
)


class Tool(NamedTuple):
    """A vendor's command-line tool as it was found."""

    path: Path
    sha256: str | None  # None where its file may be run and not read

    @staticmethod
    def find(names: Sequence[str], folder: str = "its folder") -> Tool:
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
                    return Tool(absolute, hashlib.sha256(absolute.read_bytes()).hexdigest())
                except OSError:
                    return Tool(absolute, None)
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

    def run_together(self, *commands: tuple[str, ...]) -> list[str]:
        """Return what the tool prints for several command lines, run at once: a reading must not take a second.

        Raises:
            InputError: as `run`, of the first that fails.
        """
        with ThreadPoolExecutor(len(commands)) as pool:
            return list(pool.map(lambda arguments: self.run(*arguments), commands))

    def run(self, *arguments: str, timeout_s: float | None = None) -> str:
        """Return what the tool prints.

        Args:
            arguments: of its command line.
            timeout_s: after which it is ended; None for `TIMEOUT_S`.

        Raises:
            InputError: it cannot be started, fails, prints too much or does not end in time.
        """
        limit_s = TIMEOUT_S if timeout_s is None else timeout_s
        environ = {k: v for k, v in os.environ.items() if k not in VISIBILITY} | {"LC_ALL": "C"}
        try:
            process = subprocess.Popen(
                [self.path, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environ,
                start_new_session=True,
            )
        except OSError as error:
            what = f"cannot be started ({error.strerror})"
            raise self.failed(arguments, what, isinstance(error, PermissionError)) from None
        with process:
            try:
                printed, complained = _read_both(process, time.monotonic() + limit_s)
                status = process.wait(timeout=limit_s)
            except (TimeoutError, subprocess.TimeoutExpired):
                raise self.failed(arguments, f"did not end within {limit_s:g} s") from None
            except OverflowError:
                raise self.failed(arguments, f"printed more than {MOST_BYTES} bytes") from None
            finally:
                if process.poll() is None:
                    with contextlib.suppress(OSError):
                        os.killpg(process.pid, signal.SIGKILL)  # and whatever it started, which holds the pipes
        if status != 0:
            said = next((line.strip() for line in (complained + "\n" + printed).splitlines() if line.strip()), "")
            denied = re.search(r"permission|not permitted|denied|root", said, re.IGNORECASE) is not None
            raise self.failed(arguments, f"failed with exit status {status}: {said or 'it says nothing'}", denied)
        return printed

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
            version: of the tool, where its output tells it.
        """
        return InputError(
            "device-tool-unknown",
            f"its output has an unknown form ({'version ' + version if version else 'version unknown'}): no {missed}",
            where=self.name,
            fix="report the tool's version and output, so that its form can be added",
        )

    def json(self, *arguments: str) -> dict[str, Any]:
        """Return the JSON object that the tool prints; lines before and after it do not count.

        Raises:
            InputError: as `run`, or there is no JSON object.
        """
        printed = self.run(*arguments)
        begin, end = printed.find("{"), printed.rfind("}")
        text = printed[begin : end + 1] if 0 <= begin < end else ""
        found = _parsed(text) or _parsed(_NO_COMMA.sub('","', text))
        if not isinstance(found, dict):
            raise self.unknown("JSON object")
        return found


# Between a value and the next name, as hy-smi prints BW's power; an empty text follows its colon.
_NO_COMMA = re.compile(r'(?<=[^\s:,{\[\\])""(?=[^",:}\]])')


def _parsed(text: str) -> Any:
    """Return what a text in JSON is; None for another."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _read_both(process: subprocess.Popen[bytes], until_s: float) -> tuple[str, str]:
    """Return what a process writes to its two outputs, until both are closed."""
    with selectors.DefaultSelector() as selector:
        texts: dict[Any, bytearray] = {}
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            texts[pipe] = bytearray()
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            left_s = until_s - time.monotonic()
            ready = selector.select(left_s) if left_s > 0 else []
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                chunk = os.read(key.fd, 65536)
                texts[key.fileobj] += chunk
                if not chunk:
                    selector.unregister(key.fileobj)
                if len(texts[key.fileobj]) > MOST_BYTES:
                    raise OverflowError
    printed, complained = (bytes(text).decode("utf-8", "replace") for text in texts.values())
    return printed, complained


_QUANTITY = re.compile(r"\s*(\d{1,16}(?:\.\d{1,9})?)\s*(%|[A-Za-z]*)\s*", re.ASCII)


def quantity(text: object, unit: str) -> Decimal | None:
    """Return a number that stands with exactly one unit ("" for a bare number), or None: N/A, another unit, no number.

    Args:
        text: such as "87.5 W"; letters of the unit in any case.
        unit: what it must be.
    """
    match = _QUANTITY.fullmatch(str(text)) if isinstance(text, (str, int, float)) else None
    if match is None or match[2].lower() != unit.lower():
        return None
    return Decimal(match[1])


def whole(value: Decimal | None, factor: int = 1) -> int | None:
    """Return a quantity times a factor as a whole number, rounded down; None for none and for what no record holds."""
    number = None if value is None else int(value * factor)
    return None if number is None or number > MAX_INTEGER else number


def told(value: object) -> str | None:
    """Return a text as a record holds it: one trimmed line, or None for a placeholder."""
    text = "" if value is None else str(value).strip()
    return None if text.lower() in PLACEHOLDERS else one_line(text, 200)


_ADDRESS = re.compile(r"(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])", re.IGNORECASE)


def address(text: object) -> str | None:
    """Return a PCI address in the one form, "0000:17:00.0", or None for what is none, or all zero: never a device's."""
    match = _ADDRESS.fullmatch(str(text).strip())
    if match is None or (domain := int(match[1] or "0", 16)) > 0xFFFF:
        return None
    bus, device, function = int(match[2], 16), int(match[3], 16), match[4]
    return f"{domain:04x}:{bus:02x}:{device:02x}.{function}" if domain or bus or device or int(function) else None


_FIELD = re.compile(r"(.*?\S)\s+:(?:\s+(.*?))?\s*", re.ASCII)


def fields(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield (headings and name, value) of every "name : value" line, where indentation tells what stands under what.

    A line without " : " is a heading of the lines that are indented further, and is yielded with the value "".
    """
    above: list[tuple[int, str]] = []
    for line in text.expandtabs(8).splitlines():
        if not line.strip():
            continue
        indent = len(line) - len(line.lstrip())
        while above and above[-1][0] >= indent:
            above.pop()
        match = _FIELD.fullmatch(line.strip())
        name, value = (match[1], match[2] or "") if match else (line.strip(), "")
        yield (*(heading for _, heading in above), name), value
        if not value:
            above.append((indent, name))
