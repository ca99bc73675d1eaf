"""What all devices that torch computes on have in common: memory, events and the kernel. No vendor in here.

A vendor's back end subclasses `OpenedTorch` and adds what torch does not tell: telemetry and refusals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bench.engine.measure import EventTimer
from bench.record import Precision
from bench.telemetry import Reading, ReadingSource

if TYPE_CHECKING:
    from bench.devices.base import StackFacts
    from kernels.base import Kernel


class TorchTimer:
    """Time by torch's events of one device (`bench.engine.measure.EventTimer`).

    Args:
        target: torch's name of the device, such as "cuda:0".

    Raises:
        Exception: whatever the device's module raises where it has no timed events.
    """

    def __init__(self, target: str) -> None:
        import torch

        device = torch.device(target)
        module: Any = getattr(torch, device.type, None)
        self._new: Callable[[], Any]
        if hasattr(module, "Event") and hasattr(module, "current_stream"):
            self._new = lambda: module.Event(enable_timing=True)
            self._stream = module.current_stream(device)
        else:
            self._new = lambda: torch.Event(device=device, enable_timing=True)
            self._stream = torch.accelerator.current_stream(device)

    def mark(self) -> object:
        """Record an event behind what was launched so far on the device's current stream."""
        event = self._new()
        event.record(self._stream)  # by name: the process's current device may be another
        return event

    def between_ns(self, first: Any, last: Any) -> int:
        """Return the device's own time between two events, ns; waits for the last."""
        last.synchronize()
        return round(float(first.elapsed_time(last)) * 1_000_000)  # torch tells milliseconds


def free_bytes(target: str) -> int | None:
    """Return how many bytes of a device's memory are free at present; None where torch does not report it.

    Args:
        target: torch's name of the device, such as "cuda:0".
    """
    import torch

    device = torch.device(target)
    module: Any = getattr(torch, device.type, None)
    ask = getattr(module, "mem_get_info", None) or getattr(torch.accelerator, "get_memory_info", None)
    if ask is None:
        return None
    try:
        free = int(ask(device)[0])
    except (RuntimeError, NotImplementedError, AssertionError, AttributeError, TypeError, ValueError):
        return None
    return free if free >= 0 else None


class NoSource:
    """Telemetry of a device that has no readings (`bench.telemetry.ReadingSource`)."""

    def read(self) -> Reading | None:
        """Return None: there is no reading."""
        return None


class OpenedTorch:
    """A device that torch computes on, being measured by this process (`bench.devices.base.OpenDevice`).

    Args:
        target: torch's name of the device in this process, such as "cuda:0".
    """

    def __init__(self, target: str) -> None:
        self.target = target

    def kernel(self) -> Kernel:
        """Return the GEMM by torch."""
        from kernels.base import load_kernel

        return load_kernel("gemm-torch")

    def unsupported(self, precision: Precision) -> str | None:
        """Return None: only a trial launch shows what the stack supports."""
        return None

    def memory_bytes(self) -> int | None:
        """Return nine tenths of the memory that is free at present, in bytes."""
        free = free_bytes(self.target)
        return None if free is None else free * 9 // 10

    def source(self) -> ReadingSource:
        """Return a source without readings."""
        return NoSource()

    def timer(self) -> EventTimer | None:
        """Return the device's events; None where torch has none, or they measure no time."""
        try:
            timer = TorchTimer(self.target)
            first, last = timer.mark(), timer.mark()
            return timer if timer.between_ns(first, last) >= 0 else None
        except Exception:  # a device's module raises what it likes; the figure then stands on host time alone
            return None

    def stack_facts(self) -> StackFacts | None:
        """Return None: torch is not asked."""
        return None

    def begin(self, precision: Precision, opens_ns: int) -> None:
        """Do nothing: a device known to torch alone has no scripted load."""
