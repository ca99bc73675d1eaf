"""A seccomp filter on a process that is started for it: system calls that a container's runtime refuses."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import subprocess
import sys
from pathlib import Path

import pytest

NUMBERS = {
    "x86_64": {"adjtimex": 159, "clock_adjtime": 305, "openat": 257},
    "aarch64": {"adjtimex": 171, "clock_adjtime": 266, "openat": 56},
}.get(platform.machine(), {})
LOAD, AND, EQUAL, RETURN = 0x20, 0x54, 0x15, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000
NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER = 38, 22, 2
SOURCE = Path(__file__).parent.parent.parent


class Program(ctypes.Structure):
    """struct sock_fprog of <linux/filter.h>."""

    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def deny(calls: str, error: int = errno.EPERM) -> None:
    """Let calls fail from here on in this process and its children.

    Args:
        calls: names with commas between; "openat" fails where it would open for reading and writing alone.
        error: errno with which they fail.
    """
    steps = [(LOAD, 0, 0, 0)]
    for name in calls.split(","):
        if name == "openat":
            # of another number skip: load the flags, keep the access mode, fail for O_RDWR, load the number again
            steps += [(EQUAL, 0, 4, NUMBERS[name]), (LOAD, 0, 0, 32), (AND, 0, 0, os.O_ACCMODE)]
            steps += [(EQUAL, 0, 1, os.O_RDWR), (RETURN, 0, 0, FAIL | error), (LOAD, 0, 0, 0)]
        else:
            steps += [(EQUAL, 0, 1, NUMBERS[name]), (RETURN, 0, 0, FAIL | error)]
    steps.append((RETURN, 0, 0, ALLOW))
    program = Program(len(steps), b"".join(struct.pack("HBBI", *step) for step in steps))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(SET_SECCOMP, FILTER, ctypes.byref(program), 0, 0):
        sys.exit(77)


def filtered(calls: str, code: str, error: int = errno.EPERM) -> str:
    """Return what Python code prints in a process in which calls fail; skips the test where there are no filters.

    Args:
        calls: as for `deny`; none with "".
        code: to run.
        error: errno with which they fail.
    """
    if sys.platform != "linux" or not NUMBERS:
        pytest.skip("no seccomp filters for this machine here")
    first = f"from tests.bench.seccomp import deny; deny({calls!r}, {error})\n" if calls else ""
    line = [sys.executable, "-c", first + code]
    done = subprocess.run(line, cwd=SOURCE, capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("this kernel takes no seccomp filter")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
