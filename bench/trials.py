"""Short trials of shapes on one device (R4): they choose a shape and are recorded, and are never a figure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bench.clock import Clock
from bench.record import Shape

if TYPE_CHECKING:
    from kernels.base import PreparedTrial

TRIAL_NS = 30_000_000
TRIAL_ROUNDS = 3
FINAL_NS = 2_000_000_000  # of load for each of the fastest: what is fast in a burst need not be when power is short
TRIAL_LAUNCHES = 3
FAR_TOO_LONG = 8  # times the longest launch: such a shape is not tried for more rounds


class Trials:
    """Tries shapes one after another, each on operands of its own.

    Args:
        make: puts the operands of a shape on the device.
        clock: this machine's clocks.
        longest_ns: how long a launch may take.
    """

    def __init__(self, make: Callable[[Shape], PreparedTrial], clock: Clock, longest_ns: int) -> None:
        self._make = make
        self._clock = clock
        self._longest_ns = longest_ns
        self.times: dict[Shape, int | None] = {}
        self.first_launch_ns: dict[Shape, int] = {}  # what loads or compiles: recorded, and never judged

    def __call__(self, shape: Shape) -> int | None:
        """Return the mean time of a launch, ns; None where the device has too little memory for the shape."""
        self.times[shape] = self._try(shape, TRIAL_NS)
        return self.times[shape]

    def longer(self, shape: Shape) -> int | None:
        """Return the mean time of a launch over seconds of load, ns, for a shape that was tried: bursts run cool."""
        self.times[shape] = self._try(shape, FINAL_NS)
        return self.times[shape]

    def _try(self, shape: Shape, long_ns: int) -> int | None:
        try:
            prepared = self._make(shape)
            try:
                return self._time(shape, prepared, long_ns)
            finally:
                prepared.close()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return None

    def _time(self, shape: Shape, prepared: PreparedTrial, long_ns: int) -> int:
        """Return the time of a launch, ns: the least of some rounds, or that of the second launch if far too long.

        The first one loads or compiles, for up to 20 s on some stacks, which says nothing of the rate. A busy host
        slows a round down; it never speeds one up, and one slow round must not choose a small shape.
        """
        first = timed_launch(prepared, self._clock, 0)
        self.first_launch_ns[shape] = max(first, self.first_launch_ns.get(shape, 0))
        second = timed_launch(prepared, self._clock, 1)
        if second > FAR_TOO_LONG * self._longest_ns:
            return second
        if long_ns > TRIAL_NS:
            return self._time_round(prepared, long_ns)
        return min(self._time_round(prepared, long_ns) for _ in range(TRIAL_ROUNDS))

    def _time_round(self, prepared: PreparedTrial, long_ns: int) -> int:
        begun = last = self._clock.monotonic_ns()
        launches, more = 0, TRIAL_LAUNCHES
        while last - begun < long_ns:
            prepared.launch(launches, more)
            prepared.synchronize()
            launches += more
            more *= 2  # launches of a microsecond are timed by the thousand
            last = self._clock.monotonic_ns()
        return max(1, (last - begun) // launches)


def timed_launch(prepared: PreparedTrial, clock: Clock, number: int) -> int:
    """Launch once, wait, and return how long both took, ns."""
    begun = clock.monotonic_ns()
    prepared.launch(number, 1)
    prepared.synchronize()
    return clock.monotonic_ns() - begun


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that there is too little memory: each library has a type of its own for it."""
    # By name and text: no library is imported to ask for its type.
    named = type(error).__name__ == "OutOfMemoryError" or "out of memory" in str(error).lower()
    return isinstance(error, MemoryError) or named
