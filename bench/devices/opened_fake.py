"""A scripted accelerator at work: its queue, its clock, its kernel and what it reads, all as the script says.

Its products are real, of small operands, so that the check of R5 is real too.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

from bench.clock import Clock, SimulatedClock
from bench.devices.base import StackFacts
from bench.errors import DeviceError
from bench.record import Precision
from bench.scenario import Noise, Scenario, Throttle, Wrong, interpolate
from bench.telemetry import Reading
from bench.units import SECOND_NS

if TYPE_CHECKING:
    from kernels.base import Accumulate, GemmProblem, Kernel, Method, Prepared, PreparedTrial, Residual


INNER = 64  # the products that are really computed are at most this large in each dimension


class OpenedFake:
    """One fake, and the queue of work on it."""

    target = "fake"

    def __init__(self, scenario: Scenario, index: int, clock: Clock) -> None:
        self.clock = clock
        self.script = scenario.script(index)
        self._memory_bytes = scenario.memory_bytes
        self._index = index
        self._noise = Noise(self.script, index)
        self._busy_ns = 0
        self._opens_ns: int | None = None
        self._load_ns = clock.monotonic_ns()
        self._contexts = 0
        self._answered_ns: int | None = None

    def kernel(self) -> Kernel:
        """Return the kernel of fakes."""
        return FakeKernel(self)

    def unsupported(self, precision: Precision) -> str | None:
        """Return None: the script's kernel says what it has no rate for."""
        return None

    def memory_bytes(self) -> int | None:
        """Return the scripted memory, less a tenth."""
        return self._memory_bytes * 9 // 10

    def source(self) -> OpenedFake:
        """Return itself: the fake's readings are scripted."""
        return self

    def timer(self) -> FakeTimer | None:
        """Return the device's own time, unless the script has none."""
        return None if self.script.event_ppm is None else FakeTimer(self.clock, self.script.event_ppm)

    def stack_facts(self) -> StackFacts | None:
        """Return None: its back end reports all."""
        return None

    def begin(self, precision: Precision, opens_ns: int) -> None:
        """Place the script's times; be late where it says so."""
        self._opens_ns = opens_ns
        self._load_ns = self.clock.monotonic_ns()
        if self.script.utc_step_at_s is not None:
            self.clock.step_utc(opens_ns + _ns(self.script.utc_step_at_s), _ns(self.script.utc_step_s))
        self.clock.sleep_ns(_ns(self.script.late_s))

    def work(self, flop: int, precision: Precision, loading_ns: int = 0) -> None:
        """Put work into the queue, behind what loads or compiles its kernel."""
        start = max(self._busy_ns, self.clock.monotonic_ns()) + loading_ns
        self._accidents(self._second(start), precision)
        self._busy_ns = start + max(1, int(flop / self._flop_per_ns(start, precision)))

    def wait(self) -> None:
        """Let the queue run empty."""
        self.clock.sleep_ns(self._busy_ns - self.clock.monotonic_ns())

    def taken(self) -> None:
        """Note that this process has a context on the device."""
        self._contexts = 1

    def is_wrong(self, precision: Precision) -> Wrong | None:
        """Return how products are wrong at present."""
        script, second = self.script, self._second(self.clock.monotonic_ns())
        begun = script.wrong_from_s is None or _since(second, script.wrong_from_s)
        return script.wrong if begun and self._applies(precision) else None

    def contributes_wrongly(self) -> bool:
        """Return whether it contributes wrong numbers to sums at present (`bench.collective`)."""
        return bool(_since(self._second(self.clock.monotonic_ns()), self.script.wrong_sums_from_s))

    def read(self) -> Reading | None:
        """Return the fake's scripted reading at the present time."""
        script, now = self.script, self.clock.monotonic_ns()
        second = self._second(now)
        if not script.telemetry:
            return None
        if self._answered_ns is not None and now - self._answered_ns < _ns(script.telemetry_interval_s):
            return None
        self._answered_ns = now
        slow = self._throttle(second)
        warm = 1 - 2.718281828 ** (-(now - self._load_ns) / SECOND_NS / script.temperature_rise_s)
        share = slow.rate_ppm if slow else 10**6
        energy_mj = None
        if script.energy_ppm is not None:
            energy_mj = script.power_mw * (now - self._load_ns) // SECOND_NS * (10**6 + script.energy_ppm) // 10**6
        return Reading(
            power_mw=script.power_mw * share // 10**6,
            temperature_c=script.temperature_c - round(script.temperature_rise_c * (1 - warm)),
            clock_mhz=script.clock_mhz * share // 10**6,
            utilisation_ppm=10**6,
            throttled=(slow.reason,) if slow else (),
            ecc_uncorrected=int(_since(second, script.ecc_error_at_s)),
            energy_mj=energy_mj,
            processes=script.foreign_before + self._contexts + _since(second, script.foreign_from_s),
        )

    def _second(self, at_ns: int) -> float | None:
        return None if self._opens_ns is None else (at_ns - self._opens_ns) / SECOND_NS

    def _applies(self, precision: Precision) -> bool:
        return self.script.only is None or self.script.only == precision

    def _throttle(self, second: float | None) -> Throttle | None:
        if second is None:
            return None
        return next((t for t in self.script.throttle if t.from_s <= second < t.to_s), None)

    def _flop_per_ns(self, at_ns: int, precision: Precision) -> float:
        second = self._second(at_ns)
        rate = float(self.script.rate_gflop_s[precision])
        if second is None:
            return rate
        slow = self._throttle(second)
        if slow:
            rate *= slow.rate_ppm / 1e6
        return rate * self._noise.factor(second) * interpolate(self.script.curve, second) / 1e6

    def _accidents(self, second: float | None, precision: Precision) -> None:
        if second is None or not self._applies(precision):
            return
        script, scripted = self.script, isinstance(self.clock, SimulatedClock)
        if _since(second, script.fail_at_s):
            raise RuntimeError("the fake device reports an illegal memory access")
        if _since(second, script.die_at_s):
            if scripted:
                raise DeviceError("device-lost", "the worker process died")
            os.kill(os.getpid(), signal.SIGKILL)
        if _since(second, script.hang_at_s):
            if scripted:
                raise DeviceError("device-hung", "the device did not answer in time")
            while True:
                self.clock.sleep_ns(3600 * SECOND_NS)


class FakeTimer:
    """The fake's own time: the host's, longer by so many parts per million."""

    def __init__(self, clock: Clock, event_ppm: int) -> None:
        self._clock = clock
        self._event_ppm = event_ppm

    def mark(self) -> object:
        """Return the present time."""
        return self._clock.monotonic_ns()

    def between_ns(self, first: Any, last: Any) -> int:
        """Return the time between two marks, ns."""
        elapsed: int = last - first
        return elapsed + elapsed * self._event_ppm // 10**6


class FakeKernel:
    """A GEMM, or a solve, whose time is scripted and whose outputs are those of small operands.

    Args:
        device: the fake.
        name: gemm-fake, lu-fake or mixed-fake.
    """

    def __init__(self, device: OpenedFake, name: str = "gemm-fake") -> None:
        self._device = device
        self.name = name
        self._loaded: set[GemmProblem] = set()

    def supports(self, precision: Precision, target: str) -> str | None:
        """Return None where the script has a rate for the precision."""
        return None if precision in self._device.script.rate_gflop_s else f"the script has no rate for {precision}"

    def solver(self, name: str) -> FakeKernel:
        """Return the kernel of the fake's solves."""
        return FakeKernel(self._device, name)

    def switches(self) -> dict[str, str]:
        """Return the one switch that a fake has."""
        return {"fake.emulation": "off"}

    def prepare(
        self, problem: GemmProblem, challenge: str, device: str, target: str, min_operand_bytes: int, min_sets: int = 2
    ) -> Prepared:
        """Generate small operands in as many sets as the whole problem would need."""
        return FakePrepared(self, problem, challenge, device, min_operand_bytes, min_sets)

    def prepare_trial(self, problem: GemmProblem, target: str) -> PreparedTrial:
        """Return two operand sets of which only the time is real."""
        return FakeTrial(self, problem, 0, 2)

    @property
    def device(self) -> OpenedFake:
        """The fake that it computes on."""
        return self._device

    def loading_ns(self, problem: GemmProblem) -> int:
        """Return how long this launch of a problem has to load: the first one of its shape does."""
        if problem in self._loaded:
            return 0
        self._loaded.add(problem)
        return self._device.script.first_launch_ns


class FakeTrial:
    """Operands on a fake whose products are not checked (`kernels.base.PreparedTrial`)."""

    def __init__(self, kernel: FakeKernel, problem: GemmProblem, min_operand_bytes: int, min_sets: int) -> None:
        set_bytes = problem.set_bytes
        limit = kernel.device.script.memory_limit_bytes
        if limit is not None and max(min_sets * set_bytes, min_operand_bytes) > limit:
            raise MemoryError(f"the fake device has room for {limit} bytes")
        self.problem = problem
        self.operand_sets = max(min_sets, -(-min_operand_bytes // set_bytes))
        self.operand_bytes = self.operand_sets * set_bytes
        self._kernel = kernel
        self._fake = kernel.device

    def launch(self, first: int, count: int) -> None:
        """Let time pass for `count` launches, and for what has to be loaded before them."""
        loading_ns = self._kernel.loading_ns(self.problem)
        self._fake.work(count * self.problem.flop, self.problem.precision, loading_ns)

    def synchronize(self) -> None:
        """Wait for the scripted time."""
        self._fake.wait()

    def close(self) -> None:
        """Free nothing."""


class FakePrepared(FakeTrial):
    """Operands on a fake (`kernels.base.Prepared`)."""

    def __init__(
        self,
        kernel: FakeKernel,
        problem: GemmProblem,
        challenge: str,
        device: str,
        min_operand_bytes: int,
        min_sets: int,
    ) -> None:
        from kernels.base import SOLVERS, load_kernel, load_solver

        super().__init__(kernel, problem, min_operand_bytes, min_sets)
        self.method: Method = "native"
        name, sizes = problem.kernel.replace("fake", "numpy"), (problem.m, problem.n, problem.k)
        small = type(problem)(name, problem.precision, *(min(INNER, size) for size in sizes))
        load = load_solver if name in SOLVERS else load_kernel
        inner: Any = load(name).prepare(small, challenge, device, "cpu", 0, self.operand_sets)
        self.accumulate: Accumulate = inner.accumulate
        self.operand_sha256: dict[str, str] = inner.operand_sha256
        self._inner: Any = inner
        self._pending: set[int] = set(range(self.operand_sets))  # outputs that are asked for before the next check
        self._fake.taken()

    def launch(self, first: int, count: int) -> None:
        """Let the scripted time of `count` launches pass; compute only the outputs that may be checked."""
        super().launch(first, count)
        if self._pending:
            for index in {
                i % self.operand_sets for i in range(first, first + min(count, self.operand_sets))
            } & self._pending:
                self._compute(index)
                self._pending.discard(index)

    def poison(self, set_index: int) -> None:
        """Fill one output with NaN."""
        self._inner.poison(set_index)
        self._pending.add(set_index)

    def check(self, set_index: int, seed: int) -> Residual:
        """Probe the small product."""
        return self._inner.check(set_index, seed)  # type: ignore[no-any-return]

    def check_on_host(self, set_index: int, seed: int) -> Residual:
        """Probe the small product on the host."""
        self._compute(set_index)  # the last launch, of which only the time was spent
        return self._inner.check_on_host(set_index, seed)  # type: ignore[no-any-return]

    def close(self) -> None:
        """Free the operands."""
        self._inner.close()

    def _compute(self, index: int) -> None:
        wrong = self._fake.is_wrong(self.problem.precision)
        if wrong == "stale":
            return
        self._inner.launch(index, 1)
        out = self._inner._sets[index][2]
        if wrong == "zero":
            out.fill(0)
        elif wrong == "nan":
            out[-1, -1] = float("nan")
        elif wrong == "element":
            out[0, 0] += 8
        elif wrong == "bf16":
            import numpy as np

            bits = out.astype(np.float32).view(np.uint32)
            out[...] = ((bits + 0x8000) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def _since(second: float | None, at_s: float | None) -> bool:
    return second is not None and at_s is not None and second >= at_s


def _ns(second: float) -> int:
    return round(second * SECOND_NS)
