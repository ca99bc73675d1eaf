"""How well this node's clock is known (R10): the kernel's own bound, else chrony's.

The kernel keeps a bound only where whatever steers the clock reports one: ntpd and systemd-timesyncd do, chrony with
``rtcsync``. In a pod there is no other way: chronyc is not in the image, and the host's chronyd cannot be reached. Of
PTP nothing can be learned from a bare ``phc2sys``; under chrony (``refclock PHC``) it is chrony's to say.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import shutil
import subprocess
from decimal import Decimal, InvalidOperation

from bench.host.container import in_container
from bench.record import NodeClock

CHRONY_S = 5
CHRONY_FIELDS = 14  # of `chronyc -c tracking`: 4 the system's offset, 10 root delay, 11 root dispersion, 13 leap status


def node_clock() -> NodeClock:
    """Return the bound on this node's clock error, unknown where nothing keeps one."""
    kernel = kernel_clock()
    if kernel.uncertainty_ns is not None:
        return kernel
    # The kernel comes first, since it answers in a container too; chrony without rtcsync gives it no bound.
    bound = chrony_bound_ns(chrony_tracking())
    return kernel if bound is None else NodeClock(source="chrony", uncertainty_ns=bound)


def chrony_tracking() -> str:
    """Return what chrony says of the clock, empty where there is none."""
    try:
        done = subprocess.run(
            ["chronyc", "-c", "tracking"],
            capture_output=True,
            text=True,
            timeout=CHRONY_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def chrony_bound_ns(tracking: str) -> int | None:
    """Return chrony's bound: |offset| + root dispersion + root delay / 2, ns; None where it is not synchronised.

    Source: chrony's manual, "tracking": the maximum error of the clock.
    """
    fields = tracking.strip().split(",")
    if len(fields) != CHRONY_FIELDS or fields[13] == "Not synchronised":
        return None
    try:
        offset, delay, dispersion = (Decimal(fields[i]) for i in (4, 10, 11))
    except InvalidOperation:
        return None
    bound = abs(offset) + dispersion + delay / 2
    return int(bound * 10**9) + 1 if bound.is_finite() else None


class _Timex(ctypes.Structure):
    # struct timex of <sys/timex.h>, as far as the fields that are read; the rest is room that the kernel may fill.
    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),  # microseconds
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("room", ctypes.c_long * 32),
    )


STA_UNSYNC = 0x0040
GROWTH_US = 500  # the kernel raises its bound by this at the end of each second, and shows 0 just after it was set
TIME_ERROR = 5


# Where a container runtime refuses clock_adjtime, which glibc asks by since 2.31, it may let the older call through.
ADJTIMEX = {"x86_64": 159, "aarch64": 171, "riscv64": 171, "loongarch64": 171, "ppc64le": 124, "s390x": 124}
REFUSALS = (errno.EPERM, errno.EACCES, errno.ENOSYS)


def kernel_clock() -> NodeClock:
    """Return the kernel's own bound on its clock error (adjtimex), unknown where the clock is not synchronised."""
    result, _, state = ask_kernel()
    unsure = result in (-1, TIME_ERROR) or state.status & STA_UNSYNC or state.maxerror < 0
    return NodeClock(source="kernel", uncertainty_ns=None if unsure else (state.maxerror + GROWTH_US) * 1000)


def ask_kernel() -> tuple[int, int, _Timex]:
    """Return what the kernel answers of its clock: the call's result (-1: it failed), its errno, the clock's state."""
    state = _Timex()
    try:
        library = ctypes.CDLL(None, use_errno=True)
        result, failed = library.adjtimex(ctypes.byref(state)), ctypes.get_errno()
        number = ADJTIMEX.get(platform.machine())
        if result == -1 and failed in REFUSALS and number is not None:
            result = library.syscall(ctypes.c_long(number), ctypes.byref(state))
    except (OSError, AttributeError):
        return -1, errno.ENOSYS, state
    return result, failed if result == -1 else 0, state


def why_unknown() -> str:
    """Return why the error of this node's clock is not known, and what to do about it: clauses of a printed line."""
    result, failed, _ = ask_kernel()
    inside = in_container() is True
    if result == -1:
        name = errno.errorcode.get(failed, str(failed))
        what = f"the kernel's bound may not be read here (clock_adjtime and adjtimex: {name}, {os.strerror(failed)})"
        if not inside:
            return what
        runtime = (
            "the container runtime's seccomp profile refuses it: containerd from 1.3.8 or 1.4.0 and Docker from 20.10"
        )
        return f"{what}; {runtime} allow it, on Kubernetes the option seccomp=Unconfined too"
    what = "the kernel says that nothing keeps it synchronised"
    if inside:
        return f"{what}: let chrony run with rtcsync on the host, whose chronyd cannot be asked from a container"
    asked = "chronyc tells no bound either" if shutil.which("chronyc") else "chronyc is not installed"
    return f"{what}, and {asked}: start chrony (with rtcsync), ntpd or systemd-timesyncd"
