"""Short trials of shapes on one device (R4). What a trial gives chooses a shape and is recorded; it is no figure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.clock import Clock
from bench.record import Shape

if TYPE_CHECKING:
    from kernels.base import Prepared

TRIAL_NS = 30_000_000
TRIAL_ROUNDS = 3
FINAL_NS = 2_000_000_000  # of load for each of the fastest: what is fast in a burst need not be when power is short
TRIAL_LAUNCHES = 3
FAR_TOO_LONG = 8


class Trials:
    """Tries shapes one after another and keeps the operands of the last, for the next trial or for the measurement.

    Args:
        make: puts the operands of a shape on the device.
        clock: this machine's clocks.
        longest_ns: how long a launch may take.
        reuse: whether a shape that fits into the memory of the operands kept may be tried there, with their numbers.
    """

    def __init__(self, make: Callable[[Shape], Prepared], clock: Clock, longest_ns: int, reuse: bool) -> None:
        self._make = make
        self._clock = clock
        self._longest_ns = longest_ns
        self._reuse = reuse
        self._kept: tuple[Shape, Prepared] | None = None
        self.times: dict[Shape, int | None] = {}

    def __call__(self, shape: Shape) -> int | None:
        """Return the mean time of a launch, ns; None where the device has too little memory for the shape."""
        self.times[shape] = self._try(shape, TRIAL_NS)
        return self.times[shape]

    def longer(self, shape: Shape) -> int | None:
        """Return the mean time of a launch over seconds of load, ns, for a shape that was tried: bursts run cool."""
        self.times[shape] = self._try(shape, FINAL_NS)
        return self.times[shape]

    def take(self, shape: Shape) -> Prepared | None:
        """Return the operands of a shape if they are those kept, which the caller then owns; all others are freed."""
        if self._kept is not None and self._kept[0] == shape:
            prepared = self._kept[1]
            self._kept = None
            return prepared
        self.close()
        return None

    def _try(self, shape: Shape, long_ns: int) -> int | None:
        try:
            if self._reuse and self._kept is not None:
                problem = replace(self._kept[1].problem, m=shape.m, n=shape.n, k=shape.k)
                try:
                    view = self._kept[1].reshaped(problem)
                except ValueError:  # it is larger
                    pass
                else:
                    return self._time(view, long_ns)
            self.close()
            self._kept = (shape, self._make(shape))
            return self._time(self._kept[1], long_ns)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self.close()
            return None

    def close(self) -> None:
        """Free the operands kept."""
        if self._kept is not None:
            self._kept[1].close()
            self._kept = None

    def _time(self, prepared: Prepared, long_ns: int) -> int:
        """Return the time of a launch after a first one, ns, the least of some rounds; of the first if far too long.

        A busy host slows a round down; it never speeds one up, and one slow round must not choose a small shape.
        """
        begun = self._clock.monotonic_ns()
        prepared.launch(0, 1)
        prepared.synchronize()
        first = self._clock.monotonic_ns() - begun
        if first > FAR_TOO_LONG * self._longest_ns:
            return first
        if long_ns > TRIAL_NS:
            return self._time_round(prepared, long_ns)
        return min(self._time_round(prepared, long_ns) for _ in range(TRIAL_ROUNDS))

    def _time_round(self, prepared: Prepared, long_ns: int) -> int:
        begun = last = self._clock.monotonic_ns()
        launches, more = 0, TRIAL_LAUNCHES
        while last - begun < long_ns:
            prepared.launch(launches, more)
            prepared.synchronize()
            launches += more
            more *= 2  # launches of a microsecond are timed by the thousand
            last = self._clock.monotonic_ns()
        return max(1, (last - begun) // launches)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that there is too little memory: each library has a type of its own for it."""
    named = type(error).__name__ == "OutOfMemoryError" or "out of memory" in str(error).lower()
    return isinstance(error, MemoryError) or named
