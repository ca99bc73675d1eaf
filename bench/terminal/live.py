"""``petaseal run`` while it measures: one line a device on a terminal, redrawn once a second, and nothing elsewhere.

The node's process draws, in a thread of its own: a terminal that is stopped (Ctrl-S) stops the drawing and not the
measurement. Its screen is a second one, so that no size that it is changed to leaves anything behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TextIO

from bench.errors import one_line
from bench.language import text
from bench.record import Precision, Workload
from bench.record.fields import workload_of
from bench.terminal.columns import painted, surface_of
from bench.terminal.run_screen import DeviceNow, RunNow, frame
from bench.terminal.show import say

if TYPE_CHECKING:
    from bench.campaign.estimate import Estimate
    from bench.engine.node import NodeRequest
    from bench.engine.progress import SoFar
    from bench.engine.workers import Event

REDRAWN_S = 1.0  # more often would take CPU time that a processor's figure needs
MOST_ASIDE_BYTES = 65536
STOPPED_S = 2.0  # how long a screen that nobody reads is waited for
ERASE = "\x1b[2J"
ENTER = f"\x1b[?1049h\x1b[?25l{ERASE}"  # the second screen, without a cursor
LEAVE = "\x1b[H\x1b[J\x1b[?25h\x1b[?1049l"


class Yardstick(NamedTuple):
    """What a run's figures are held against while they are measured.

    Args:
        nominal_mflop_s: by device and precision, as far as they are rated.
        is_wrong: whether outputs with the errors so far void a figure of a workload.
        taken: what the run will take.
    """

    nominal_mflop_s: Mapping[tuple[str, Precision], int]
    is_wrong: Callable[[Workload, SoFar], bool]
    taken: Estimate | None


class RunProgress:
    """Live progress of all devices on a terminal; elsewhere remarks alone.

    Args:
        request: what is measured.
        quiet: whether nothing at all is shown.
        yardstick: what figures are held against; None for nothing.
    """

    def __init__(self, request: NodeRequest, quiet: bool, yardstick: Yardstick | None = None) -> None:
        self._quiet = quiet
        self._yardstick = yardstick
        self._surface = surface_of(sys.stderr, os.environ)
        self._screen: TextIO | None = None
        self._aside: IO[bytes] | None = None
        self._is_live = not quiet and self._surface.moves
        names = [one.device.device for one in request.devices]
        self._now = RunNow(request.node_id, request.profile.profile, [DeviceNow(name) for name in names])
        if yardstick is not None and yardstick.taken is not None:
            self._now.prepared_by_ns = time.time_ns() + yardstick.taken.prepare_ns
            self._now.after_start_ns = yardstick.taken.duration_ns - yardstick.taken.prepare_ns
        self._news: list[str] = []  # at the bottom of the screen
        self._shown_phase = ""
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._draw_on, name="screen", daemon=True)

    def __enter__(self) -> Callable[[Event], None]:
        if self._is_live:
            self._take_terminal()
            self._on_termination(self._terminated, signal.SIG_DFL)
            self._thread.start()
        return self._report

    def __exit__(self, *error: object) -> None:
        if self._is_live:
            self._give_back()
            self._on_termination(signal.SIG_DFL, self._terminated)

    def _take_terminal(self) -> None:
        """Have the screen alone write to the terminal: what else comes on standard error is shown after it."""
        # Remarks, and what vendors' libraries say in the workers, would be drawn over and lost.
        number = sys.stderr.fileno()
        encoding, errors = sys.stderr.encoding, sys.stderr.errors
        self._screen = os.fdopen(os.dup(number), "w", encoding=encoding, errors=errors)
        self._aside = tempfile.TemporaryFile()  # noqa: SIM115 - until the end
        os.dup2(self._aside.fileno(), number)

    def _give_back(self) -> None:
        """End the drawing, restore standard error, and show what came on it meanwhile."""
        self._ended.set()
        # A terminal that takes nothing is not waited for.
        self._thread.join(timeout=STOPPED_S)
        if self._screen is None or self._aside is None:
            return
        sys.stderr.flush()
        os.dup2(self._screen.fileno(), sys.stderr.fileno())
        self._aside.seek(0)
        for line in self._aside.read()[-MOST_ASIDE_BYTES:].decode(errors="replace").splitlines():
            say(one_line(line), aside=True)
        self._aside.close()
        if not self._thread.is_alive():  # else it waits for a terminal that was stopped, and has the stream
            with contextlib.suppress(OSError):
                self._screen.close()
        self._screen = self._aside = None

    def _report(self, event: Event) -> None:
        """Take an event of the measurement, from the thread that measures: nothing is drawn or computed here."""
        if event.what == "remark":
            # On stderr: a remark must not end up in the JSON of a script.
            remark = " ".join(filter(None, (event.device, event.text)))
            self._news.append(one_line(remark))
            if not self._quiet:
                say(remark, aside=True)
            return
        if event.what == "failed":
            self._news.append(one_line(f"{event.device} {event.workload}: {event.text}"))
        with self._lock:
            self._now.take(event)
            if (device := self._now.device(event.device)) is not None and self._yardstick is not None:
                self._hold_against(device, self._yardstick)
        if not self._quiet and not self._is_live and self._surface.columns is not None:
            self._say_phase(event)

    def _hold_against(self, device: DeviceNow, yardstick: Yardstick) -> None:
        """Say what a device's figure is a share of, and whether its products are wrong."""
        if not device.workload:
            return  # while operands are prepared
        workload = workload_of(device.workload)
        device.nominal_mflop_s = yardstick.nominal_mflop_s.get((device.name, workload.computed))
        if device.so_far is not None:
            device.is_wrong = yardstick.is_wrong(workload, device.so_far)

    def _say_phase(self, event: Event) -> None:
        """Say a new phase on a terminal whose cursor cannot be moved, a line for each."""
        phase = " ".join(filter(None, (event.workload, text("phase", event.what) if event.device else None)))
        if phase and event.what in ("preheat", "warmup", "window", "concluding") and phase != self._shown_phase:
            self._shown_phase = phase
            say(phase, aside=True)

    def _draw_on(self) -> None:
        """Draw until the end, and leave the terminal as it was."""
        screen = self._screen
        assert screen is not None
        # A terminal that was closed takes nothing: the measurement goes on, and its record is written.
        with contextlib.suppress(OSError, ValueError):
            try:
                write(screen, ENTER)
                self._redraw(screen)
            finally:
                write(screen, LEAVE)

    def _redraw(self, screen: TextIO) -> None:
        """Draw once a second, until the end."""
        before = self._surface
        while not self._ended.is_set():
            surface = surface_of(screen, os.environ)
            with self._lock:
                lines = frame(self._now, surface.columns or 80, surface.rows or 24, time.time_ns(), self._news)
            erased = "" if surface == before else ERASE  # a terminal of another size may have moved lines
            before = surface
            shown = "\x1b[K\r\n".join(painted(line, surface) for line in lines)
            write(screen, f"{erased}\x1b[H{shown}\x1b[K\x1b[J")
            self._ended.wait(REDRAWN_S)

    def _terminated(self, number: int, stack: object) -> None:
        """Restore the terminal and end as the signal ends a process."""
        self._give_back()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _on_termination(self, handler: Any, before: Any) -> None:
        """Have a signal that ends this process meet a handler, where it does not meet another one already."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) == before:
                signal.signal(number, handler)


def write(screen: TextIO, shown: str) -> None:
    """Write to a terminal in one piece: nothing else comes between."""
    screen.write(shown)
    screen.flush()
