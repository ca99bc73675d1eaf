"""Errors of devices in the kernel's log: NVIDIA's Xids, other drivers' errors, memory and bus errors (AER).

The log of /dev/kmsg is read, else the journal's. Both may be closed to this user, which is a third answer beside errors
and none. Sources: NVIDIA's "Xid errors", the kernel's documentation of /dev/kmsg and PCIe AER.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

MOST_BYTES = 16 * 2**20
MOST_RECORD = 8192  # bytes of one record of /dev/kmsg
JOURNAL = ("journalctl", "--dmesg", "--boot", "--no-pager", "--quiet", "--output=cat", "--lines=50000")
JOURNAL_S = 10
ADDRESS = re.compile(r"\b[0-9a-f]{4,8}:[0-9a-f]{2}(?::[0-9a-f]{2}(?:[.][0-7])?)?\b", re.IGNORECASE)
XID = re.compile(rf"NVRM: Xid \(PCI:({ADDRESS.pattern})\): (\d+)", re.IGNORECASE)
# A driver's line about a device: its name, and a word that none of its ordinary lines has.
# Two patterns, the second from where the first ended: one of both would look through a long line once for each driver.
DRIVERS = "amdgpu|hydcu|hycu|ascend|davinci|cambricon|mtgpu|metax|iluvatar|kunlun|xpu"
_TROUBLE = (
    "uncorrectable|uncorrected error|gpu reset|ring \\w+ timeout|fatal error|heartbeat (?:lost|fail)|"
    "device lost|hbm .{0,100}error|double.?bit"
)
DRIVER = re.compile(rf"\b(?:{DRIVERS})\b", re.IGNORECASE)
TROUBLE = re.compile(rf"\b(?:{_TROUBLE})", re.IGNORECASE)
AER = re.compile("AER: |PCIe Bus Error: severity=(?=Uncorrect)")
GRAVE = re.compile("Uncorrect(?:ed|able)|Fatal")


class KernelError(NamedTuple):
    """One kind of error of one device.

    Args:
        address: of the PCI function, as far as the line names one: "0000:17:00"; "" without.
        what: such as "Xid 79".
    """

    address: str
    what: str


def kernel_errors(text: str) -> dict[KernelError, int]:
    """Return the errors in a kernel's log with how often each stands there. Pure.

    Args:
        text: of /dev/kmsg, dmesg or a journal: a message a line.
    """
    counts: dict[KernelError, int] = {}
    for line in text.splitlines():
        for error in _errors(line):
            counts[error] = counts.get(error, 0) + 1
    return counts


def _errors(line: str) -> Iterator[KernelError]:
    """Yield the device error that a line of the log reports, if any."""
    if match := XID.search(line):
        yield KernelError(_function(match[1]), f"Xid {match[2]}")
    elif (reported := AER.search(line)) and GRAVE.search(line, reported.end()):
        # The port that reports it is named before the device that it is of.
        yield KernelError(_function(*ADDRESS.findall(line)[-1:]), "PCIe AER")
    elif (driver := DRIVER.search(line)) and (trouble := TROUBLE.search(line, driver.end())):
        place = ADDRESS.search(line)
        yield KernelError(_function(place[0] if place else ""), f"{driver[0]}: {trouble[0]}".lower())


def _function(address: str = "") -> str:
    """Return an address without its function, in the one form: "0000:17:00"; "" for none."""
    if not address:
        return ""
    domain, _, rest = address.lower().partition(".")[0].partition(":")
    return f"{domain[-4:]}:{rest if ':' in rest else f'{rest}:00'}"


def read_kernel_log(root: Path = Path("/")) -> str | None:
    """Return the kernel's log since the boot; None where this user may read none.

    Args:
        root: the file system's root (tests): of another one there is no journal to ask.
    """
    with suppress(OSError):
        return _kmsg(root / "dev/kmsg")
    return _journal() if root == Path("/") else None


def _kmsg(path: Path) -> str:
    """Return what stands in /dev/kmsg at present.

    Raises:
        OSError: it is not there, or not this user's to read.
    """
    content = bytearray()
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        while len(content) < MOST_BYTES:
            try:
                part = os.read(descriptor, MOST_RECORD)
            except BlockingIOError:  # the newest message was read
                break
            except BrokenPipeError:  # messages were overwritten meanwhile: the next read goes on after them
                continue
            if not part:
                break
            content += part
    finally:
        os.close(descriptor)
    return content.decode("utf-8", "replace")


def _journal() -> str | None:
    """Return the kernel's messages of this boot as the journal has them; None where it shows this user none."""
    try:
        done = subprocess.run(
            JOURNAL, capture_output=True, timeout=JOURNAL_S, check=False, stdin=subprocess.DEVNULL, close_fds=True
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    # A user without the right gets an empty journal and a hint, and a kernel that boots says something.
    return done.stdout[-MOST_BYTES:].decode("utf-8", "replace") if done.returncode == 0 and done.stdout else None
