"""One device from its first trial to its figures: what a worker process does, and a test does in its own process.

No process, pipe or file in here. An error in one precision is the caller's to record; the next can still be measured.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, get_args

import msgspec

from bench.checks import draw_checks, final_seed, probe_seed
from bench.clock import Clock, sleep_until_utc
from bench.devices.base import Found, Opened
from bench.environment import normal_switches
from bench.errors import DeviceError, PetasealError, one_line
from bench.measure import Measured, Row, Span, Task, Worst, measure
from bench.profile import batch_of, choose_shape, longest_launch_ns
from bench.record import Figure, Precision, Profile, Shape, least_operand_bytes
from bench.record.node import FailureCode, Method
from bench.telemetry import Sampler, read

if TYPE_CHECKING:
    from kernels.base import Kernel, Prepared

LIBRARIES: tuple[str, ...] = ("numpy", "torch", "cupy")
TRIAL_NS = 30_000_000
TRIAL_ROUNDS = 3
TRIAL_LAUNCHES = 3
FAR_TOO_LONG = 8
FAILURES: tuple[str, ...] = get_args(FailureCode)


class Facts(msgspec.Struct, frozen=True):
    """What a measurement is of: devices that agree in all of it share one `Measurement`."""

    kernel: str
    precision: Precision
    accumulate: Precision
    method: Method
    m: int
    n: int
    k: int
    operand_sets: int
    operand_bytes: int


class UtcWindow(msgspec.Struct, frozen=True):
    """A campaign's window of one precision as one device sees it: its own ramp slot included. UTC, ns."""

    load_ns: int
    opens_ns: int
    closes_ns: int
    stops_ns: int


class Ready(NamedTuple):
    """A prepared precision: operands on the device, and how many launches are stamped together."""

    facts: Facts
    batch: int
    prepared: Prepared


class Result(NamedTuple):
    """A finished precision."""

    facts: Facts
    figure: Figure
    throttle_reasons: tuple[str, ...]


class Session:
    """The measurement of one device.

    Args:
        found: the device.
        opened: the same, opened by this process.
        profile: how to measure.
        challenge: of the campaign, lower-case hex.
        clock: this machine's clocks.
        kernel: name of the kernel; None for the device's own choice.
    """

    def __init__(
        self,
        found: Found,
        opened: Opened,
        profile: Profile,
        challenge: str,
        clock: Clock,
        kernel: str | None = None,
    ) -> None:
        self._found = found
        self._name = found.device.device
        self._opened = opened
        self._profile = profile
        self._challenge = challenge
        self._clock = clock
        self._source = opened.source()
        self._before = read(self._source)  # before our own context is on the device
        self._kernel = opened.kernel() if kernel is None else _load_kernel(kernel)
        self._ready: dict[Precision, Ready] = {}
        self._measured: dict[Precision, Measured] = {}
        self.rows: list[Row] = []

    def switches(self) -> dict[str, str]:
        """Set every reduced-precision switch off and return how each reads; libraries are told elsewhere."""
        return normal_switches({k: v for k, v in self._kernel.switches().items() if not k.endswith(".blas")})

    def libraries(self) -> dict[str, str]:
        """Return the libraries that compute, with their versions: those that this process has imported."""
        imported = {name: sys.modules[name] for name in LIBRARIES if name in sys.modules}
        found = {name: str(getattr(module, "__version__", "")) for name, module in imported.items()}
        found |= {name: value for name, value in self._kernel.switches().items() if name.endswith(".blas")}
        return {name: one_line(value, 200) for name, value in found.items() if value}

    def prepare(self, precision: Precision, shared_by: int = 1) -> Facts:
        """Choose a shape by trial (R4), put the operands on the device (R3) and compute the checks' references.

        Args:
            precision: to prepare.
            shared_by: how many precisions share the device's memory.

        Raises:
            DeviceError: the precision is not supported, or no shape fits.
        """
        reason = self._kernel.supports(precision, self._opened.target)
        if reason is not None:
            raise DeviceError("unsupported-precision", reason, where=self._name)
        memory = self._opened.memory_bytes()
        least = least_operand_bytes(self._found.model)
        kept: dict[Shape, Prepared] = {}

        def trial(shape: Shape) -> int:
            for old in kept.values():
                old.close()
            kept.clear()
            kept[shape] = self._prepare(shape, precision, 0)
            launch_ns = self._time(kept[shape])
            self._row(precision, "trial", f"launch_{shape.m}x{shape.n}x{shape.k}_ns", launch_ns)
            times[shape] = launch_ns
            return launch_ns

        times: dict[Shape, int] = {}
        share = None if memory is None else memory // shared_by
        shape, _ = choose_shape(self._profile, precision, least, share, trial)
        prepared = kept.pop(shape, None)
        for other in kept.values():
            other.close()
        if prepared is None or prepared.operand_bytes < least:
            if prepared is not None:
                prepared.close()
            prepared = self._prepare(shape, precision, least)
        for operand_set in range(prepared.operand_sets):
            prepared.launch(operand_set, 1)
            prepared.synchronize()
            prepared.check(operand_set, probe_seed(self._challenge, self._name, precision, operand_set))
        for operand, digest in prepared.operand_sha256.items():
            self._row(precision, "prepare", f"operand_{operand}_sha256", digest)
        facts = Facts(
            kernel=prepared.problem.kernel,
            precision=precision,
            accumulate=prepared.accumulate,
            method=prepared.method,
            m=shape.m,
            n=shape.n,
            k=shape.k,
            operand_sets=prepared.operand_sets,
            operand_bytes=prepared.operand_bytes,
        )
        self._ready[precision] = Ready(facts, batch_of(self._profile, times[shape]), prepared)
        return facts

    def measure(
        self, precision: Precision, window: UtcWindow, tell: Callable[[str, int], None] = lambda p, r: None
    ) -> None:
        """Wait for the device's ramp slot and measure one precision in its window.

        Raises:
            DeviceError: too few launches were finished in the window.
        """
        facts, batch, prepared = self._ready[precision]
        profile = self._profile
        checks = draw_checks(self._challenge, self._name, precision, facts.operand_sets, profile.verified_launches)
        sampler = Sampler(self._source, self._clock, profile.telemetry_interval_ns, self._before)
        sleep_until_utc(self._clock, window.load_ns)
        monotonic, utc = self._clock.pair_ns()
        apart = monotonic - utc
        span = Span(
            load_ns=window.load_ns + apart,
            opens_ns=window.opens_ns + apart,
            closes_ns=window.closes_ns + apart,
            stops_ns=window.stops_ns + apart,
            opens_utc_ns=window.opens_ns,
        )
        self._opened.begin(precision, span.opens_ns)
        task = Task(self._name, profile, span, batch, checks)
        self._measured[precision] = measure(prepared, task, self._clock, sampler, self._opened.timer(), tell)

    def conclude(self, precision: Precision) -> Result:
        """Check the last output on the host (R5), after all windows, and return the figure."""
        facts, _, prepared = self._ready[precision]
        measured = self._measured[precision]
        worst = Worst()
        worst.row_error_ppm, worst.rms_error_ppm = measured.figure.row_error_ppm, measured.figure.rms_error_ppm
        worst.add(prepared.check_on_host(measured.last_set, final_seed(self._challenge, self._name, precision)))
        self.rows += measured.rows
        figure = measured.figure._replace(row_error_ppm=worst.row_error_ppm, rms_error_ppm=worst.rms_error_ppm)
        return Result(facts, figure, measured.throttle_reasons)

    def _prepare(self, shape: Shape, precision: Precision, least_bytes: int) -> Prepared:
        from kernels.base import Problem

        problem = Problem(self._kernel.name, precision, shape.m, shape.n, shape.k)
        return self._kernel.prepare(problem, self._challenge, self._name, self._opened.target, least_bytes)

    def _time(self, prepared: Prepared) -> int:
        """Return the time of a launch after a first one, ns, the least of some rounds; of the first if far too long.

        A busy host slows a round down; it never speeds one up, and one slow round must not choose a small shape.
        """
        begun = self._clock.monotonic_ns()
        prepared.launch(0, 1)
        prepared.synchronize()
        first = self._clock.monotonic_ns() - begun
        if first > FAR_TOO_LONG * longest_launch_ns(self._profile):
            return first
        return min(self._time_round(prepared) for _ in range(TRIAL_ROUNDS))

    def _time_round(self, prepared: Prepared) -> int:
        begun = last = self._clock.monotonic_ns()
        launches, more = 0, TRIAL_LAUNCHES
        while last - begun < TRIAL_NS:
            prepared.launch(launches, more)
            prepared.synchronize()
            launches += more
            more *= 2  # launches of a microsecond are timed by the thousand
            last = self._clock.monotonic_ns()
        return max(1, (last - begun) // launches)

    def _row(self, precision: str, phase: str, quantity: str, value: int | str) -> None:
        self.rows.append(Row(self._name, precision, phase, 0, quantity, value))


def failure_of(error: BaseException) -> tuple[FailureCode, str]:
    """Return the code and a short text for an error on a device, without paths: a record names no place of a node."""
    kind = type(error).__name__
    text = error.what if isinstance(error, PetasealError) else f"{kind}: {error}" if str(error) else kind
    text = one_line(re.sub(r"(?:~|\.{0,2})(?:/[\w.+-]+){2,}", "<path>", text), 200)
    if isinstance(error, DeviceError) and error.code in FAILURES:
        return error.code, text  # type: ignore[return-value]
    if isinstance(error, MemoryError) or kind == "OutOfMemoryError":
        return "out-of-memory", text
    return "device-failed", text


def _load_kernel(name: str) -> Kernel:
    from kernels.base import load_kernel

    return load_kernel(name)
