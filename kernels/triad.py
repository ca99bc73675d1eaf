"""Memory bandwidth as STREAM's triad measures it: a = b + s c in double precision (reference of role "bandwidth")."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels import cuda_module
from kernels.base import Precision, Role

FILE, FUNCTION, THREADS = "triad.cu", "triad_fp64", 256
SCALE = 3.0
PERIOD = 1_048_573  # values that repeat; a prime, so that no power of two maps the arrays onto themselves
REPEATS = 128  # arrays of 1 GiB each, ten times any last-level cache
CACHES = 4  # an array is at least so many last-level caches long


def repeats(free_bytes: int, cache_bytes: int) -> int | None:
    """Return how often the period is repeated in each of three arrays; None where memory has no room beyond the cache.

    Args:
        free_bytes: free memory of the device; at most half of it is taken.
        cache_bytes: of its last-level cache.
    """
    fitting = min(REPEATS, free_bytes // 2 // (3 * 8 * PERIOD)) & ~1  # even: two values are read at a time
    return fitting if fitting and fitting * 8 * PERIOD >= CACHES * cache_bytes else None


class PreparedTriad(cuda_module.PreparedCuda):
    """Three arrays in a device's memory (`kernels.base.PreparedReference`)."""

    launch_flop = 0
    _threads = THREADS

    def __init__(self, target: str, times: int, seed: int) -> None:
        import cupy

        generator = np.random.default_rng(seed)
        b, c = (generator.integers(-(2**31), 2**31, PERIOD).astype(np.float64) for _ in range(2))
        super().__init__(target)
        with self._device:
            self._kernel = cuda_module.load(FILE, FUNCTION, self._device.compute_capability, {"THREADS": THREADS})
            self._result = cupy.full(times * PERIOD, float("nan"))
            operands = [cupy.tile(cupy.asarray(part), times) for part in (b, c)]
            self._expected = cupy.asarray(b + SCALE * c)  # integers below 2^34: exact, fused or not
        pairs = times * PERIOD // 2
        self._blocks = -(-pairs // THREADS)
        self._arguments = (self._result, *operands, np.float64(SCALE), np.int64(pairs))
        self.launch_bytes = 3 * 8 * times * PERIOD

    def _is_exact(self) -> bool:
        return bool((self._result.reshape(-1, PERIOD) == self._expected).all())

    def close(self) -> None:
        """Free the memory."""
        super().close()
        del self._expected


class Triad:
    """The reference kernel triad (`kernels.base.ReferenceKernel`)."""

    name = "triad"
    role: Role = "bandwidth"

    def supports(self, precision: Precision, target: str) -> str | None:
        """Return None where bandwidth is measured on `target`, else the reason."""
        if precision != "fp64":
            return f"{self.name} measures fp64, not {precision}"
        reason = cuda_module.unavailable(target)
        if reason is not None:
            return reason
        try:
            device = cuda_module.device(target)
            if _repeats(device) is None:
                return "the device has no room for arrays beyond its last-level cache"
            with device:
                cuda_module.load(FILE, FUNCTION, device.compute_capability, {"THREADS": THREADS})
        except (RuntimeError, ValueError, ImportError) as error:
            return cuda_module.first_line(error)
        return None

    def prepare(self, precision: Precision, target: str, seed: int) -> PreparedTriad:
        """Put the arrays drawn from `seed` on `target`.

        Raises:
            ValueError: `supports` gives a reason.
        """
        reason = self.supports(precision, target)
        times = None if reason is not None else _repeats(cuda_module.device(target))
        if times is None:
            raise ValueError(f"{self.name} does not measure {precision} on {target}: {reason}")
        return PreparedTriad(target, times, seed)


def _repeats(device: Any) -> int | None:
    return repeats(int(device.mem_info[0]), int(device.attributes["L2CacheSize"]))
