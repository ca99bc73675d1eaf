"""What a window has given so far, for who watches: values that a worker's loop hands over once or twice a second.

Nothing here is part of a record. The loop only copies integers that it has; bounds are computed by who shows them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from bench.record import SUBWINDOWS, Bounds, throughput_bounds
from bench.telemetry import Reading


class SoFar(msgspec.Struct, frozen=True):
    """A measurement at one moment: the part of its window that is over, its checks, and the newest reading.

    Args:
        work_mflop: of the parts, MFLOP.
        parts_ns: host time of 30 consecutive parts of equal launch count (R9); one part where there are fewer units
            of launches than that, and none before the window.
        verified: launches whose product was checked.
        row_error_ppm: the largest error of a row among them (R5); None: not a number, or a stale product.
        rms_error_ppm: the largest root mean square error among them; None as above.
        reading: the newest of the device.
    """

    work_mflop: int
    parts_ns: tuple[int, ...]
    verified: int
    row_error_ppm: int | None
    rms_error_ppm: int | None
    reading: Reading

    def bounds(self) -> Bounds | None:
        """Return R9's bounds of what is over; None where there is too little for a bound."""
        if len(self.parts_ns) != SUBWINDOWS or min(self.parts_ns) <= 0:
            return None
        return throughput_bounds(self.work_mflop, self.parts_ns)

    def sustained_mflop_s(self) -> int | None:
        """Return the rate over all of what is over, MFLOP/s; None before the window."""
        elapsed_ns = sum(self.parts_ns)
        return self.work_mflop * 10**9 // elapsed_ns if elapsed_ns > 0 else None


class Report(Protocol):
    """What a measuring loop calls now and then; it decides itself how often it passes something on."""

    def __call__(self, phase: str, rate_mflop_s: int, look: Callable[[], SoFar] | None = None) -> None:
        """Take a phase with its present rate; `look` returns the rest, and is called only where it is passed on."""


def silent(phase: str, rate_mflop_s: int, look: Callable[[], SoFar] | None = None) -> None:
    """Report nothing."""
