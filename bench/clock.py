"""Clocks: the one way in which the harness reads or spends time, so that a test can script a jump or an hour.

A duration is always a difference of monotonic readings; UTC only places them in a campaign's window. Nothing else in
``bench`` may call ``time``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from bench import RELEASED, VERSION
from bench.errors import InputError
from bench.units import utc_text

PAIR_NS = 20_000  # two clocks read within this are taken as read at once
PAIR_TRIES = 5  # a busy host may interrupt each: the last is taken as it is, for the loop must not wait for it


class Clock(Protocol):
    """Time as the harness sees it."""

    def monotonic_ns(self) -> int:
        """Return a reading that never jumps, ns."""

    def utc_ns(self) -> int:
        """Return UTC, ns since the epoch; it may jump."""

    def pair_ns(self) -> tuple[int, int]:
        """Return (monotonic, UTC) of one instant, ns: what places a monotonic reading in a campaign's window."""

    def sleep_ns(self, duration_ns: int) -> None:
        """Let `duration_ns` pass."""

    def every(self, interval_ns: int, call: Callable[[], None]) -> Callable[[], None]:
        """Call `call` at each interval while other code runs; return a function that ends that."""

    def step_utc(self, at_ns: int, by_ns: int) -> None:
        """Make UTC jump by `by_ns` when the monotonic reading reaches `at_ns`: for fakes and tests."""


def check_clock() -> None:
    """Refuse a machine's clock that is before the release of petaseal: what it dates would be dated wrongly.

    Raises:
        InputError: `clock-before-release`.
    """
    now = utc_text(SystemClock().utc_ns())
    if now < RELEASED:
        what = f"the clock says {now}, and petaseal {VERSION} was released on {RELEASED}"
        raise InputError("clock-before-release", what, where="this machine", fix="set its clock to the present time")


class SystemClock:
    """The machine's own clocks."""

    def __init__(self) -> None:
        self._steps: list[tuple[int, int]] = []

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def utc_ns(self) -> int:
        # Steps are scripted for the fake device, whose worker has this clock and no other.
        if not self._steps:
            return time.time_ns()
        now = time.monotonic_ns()
        return time.time_ns() + sum(by for at, by in self._steps if now >= at)

    def pair_ns(self) -> tuple[int, int]:
        # A thread may be put aside between two readings: take those that stand close together.
        for _ in range(PAIR_TRIES):
            before = time.monotonic_ns()
            utc = self.utc_ns()
            after = time.monotonic_ns()
            if after - before <= PAIR_NS:
                break
        return after, utc

    def sleep_ns(self, duration_ns: int) -> None:
        if duration_ns > 0:
            time.sleep(duration_ns / 1e9)

    def every(self, interval_ns: int, call: Callable[[], None]) -> Callable[[], None]:
        ended = threading.Event()

        def loop() -> None:
            due = time.monotonic_ns()
            while not ended.wait(max(0, due - time.monotonic_ns()) / 1e9):
                call()
                # A slow call leaves a gap in the readings; it is never made up for by a burst.
                due = max(due + interval_ns, time.monotonic_ns())

        thread = threading.Thread(target=loop, name="every", daemon=True)
        thread.start()

        def stop() -> None:
            ended.set()
            thread.join(timeout=5)  # a call may hang in a vendor's library: the thread is a daemon, and is left there

        return stop

    def step_utc(self, at_ns: int, by_ns: int) -> None:
        self._steps.append((at_ns, by_ns))


class SimulatedClock:
    """Time that passes only in `sleep_ns`; repeated calls fall due while it passes.

    Args:
        utc_ns: UTC at the monotonic reading 0, ns since the epoch.
        drift_ppm: how much faster UTC runs than the monotonic clock.
    """

    def __init__(self, utc_ns: int = 1_767_225_600_000_000_000, drift_ppm: int = 0) -> None:
        self._now = 0
        self._utc = utc_ns
        self._drift_ppm = drift_ppm
        self._steps: list[tuple[int, int]] = []
        self._timers: list[_Timer] = []
        self._due = _NEVER

    def monotonic_ns(self) -> int:
        return self._now

    def utc_ns(self) -> int:
        now = self._now
        drifted = self._utc + now + now * self._drift_ppm // 10**6
        return drifted + sum(by for at, by in self._steps if now >= at)

    def pair_ns(self) -> tuple[int, int]:
        return self._now, self.utc_ns()

    def sleep_ns(self, duration_ns: int) -> None:
        end = self._now + max(0, duration_ns)
        while self._due <= end:
            # In the order in which they fall due: what a call reads must not depend on the order of registration.
            timer = min(self._timers, key=lambda t: t.due_ns)
            self._now = max(self._now, timer.due_ns)
            timer.due_ns += timer.interval_ns
            self._due = min(t.due_ns for t in self._timers)
            timer.call()
        self._now = max(self._now, end)

    def every(self, interval_ns: int, call: Callable[[], None]) -> Callable[[], None]:
        timer = _Timer(self._now, interval_ns, call)
        self._timers.append(timer)
        self._due = min(self._due, timer.due_ns)

        def stop() -> None:
            self._timers.remove(timer)
            self._due = min((t.due_ns for t in self._timers), default=_NEVER)

        return stop

    def step_utc(self, at_ns: int, by_ns: int) -> None:
        self._steps.append((at_ns, by_ns))


_NEVER = 2**63


class _Timer:
    def __init__(self, due_ns: int, interval_ns: int, call: Callable[[], None]) -> None:
        self.due_ns = due_ns
        self.interval_ns = interval_ns
        self.call = call


def sleep_until_utc(clock: Clock, utc_ns: int, longest_ns: int = 500_000_000) -> None:
    """Sleep until a UTC time, in short stretches so that a step of the clock meanwhile is followed.

    Args:
        utc_ns: when to return, ns since the epoch.
        longest_ns: longest stretch between two looks at the clock, ns.
    """
    while (left := utc_ns - clock.utc_ns()) > 0:
        clock.sleep_ns(min(left, longest_ns))
