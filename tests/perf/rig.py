"""One device in a process of its own, measured by the real `Session`: what all parts of the accelerator run share.

A process that has a context on a device finds itself there, so that nothing else measures the device in the parent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from bench.clock import Clock, SystemClock
from bench.devices import load_backend, select_devices
from bench.devices.base import DeviceWatch, LocalDevice, OpenDevice
from bench.engine.assemble import RecordParts, node_record
from bench.engine.compute import DeviceRequest
from bench.engine.schedule import self_issued, utc_window
from bench.engine.session import PreparedWorkload, Session, WorkloadFacts
from bench.errors import DeviceError
from bench.profile import load_profile
from bench.record import Figure, NodeClock, Precision, Profile, Shape
from bench.reference.measurements import ReferenceResult
from bench.telemetry import Reading
from bench.units import rate_text, utc_ns
from certify.statement.describe import judge_record

if TYPE_CHECKING:
    from kernels.base import Prepared

SECOND_NS = 10**9
CHALLENGE = "5eed" * 8
T = TypeVar("T")


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What one part of the run found: `lines` for people, the other fields for machines."""

    part: str
    precision: Precision
    lines: tuple[str, ...] = ()


class Setup(NamedTuple):
    """What is measured, and how long one stretch under load lasts, s."""

    device: str
    precision: Precision
    seconds: float


class Run(NamedTuple):
    """One window of one workload, judged."""

    facts: WorkloadFacts
    figure: Figure
    codes: dict[str, str]  # reason code -> effect
    beside: list[ReferenceResult]
    throttle_reasons: tuple[str, ...]
    conclude_s: float

    @property
    def rate(self) -> int:
        """Sustained rate, MFLOP/s."""
        return self.figure.sustained_mflop_s

    @property
    def shape(self) -> str:
        """The shape for people."""
        return f"{self.facts.m} x {self.facts.n} x {self.facts.k}"

    def text(self) -> str:
        """Return rate, clock and power in one line."""
        f = self.figure
        clock = "" if f.clock_mean_mhz is None else f", {f.clock_mean_mhz} MHz"
        power = "" if f.power_mean_mw is None else f", {f.power_mean_mw / 1000:.0f} W"
        heat = "" if f.temperature_max_c is None else f", {f.temperature_max_c} C"
        slow = f", throttled ({', '.join(self.throttle_reasons)})" if self.throttle_reasons else ""
        return f"{self.shape}: {rate_text(self.rate)}{clock}{power}{heat}{slow}"


def alone(function: Callable[..., T], *arguments: object) -> T:
    """Return what a function returns in a process of its own, which ends with it.

    Raises:
        Exception: what the function raised.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


class WatchSource:
    """Telemetry of one device that this process reads (`bench.telemetry.ReadingSource`)."""

    def __init__(self, watch: DeviceWatch, name: str) -> None:
        self._watch = watch
        self._name = name

    def read(self) -> Reading | None:
        """Return the present reading."""
        reading = self._watch.read().get(self._name)
        if isinstance(reading, DeviceError):
            raise reading
        return reading


def open_device(found: LocalDevice, clock: Clock) -> OpenDevice:
    """Return a device opened by this process, which reads it too: no node is there whose reader could."""
    backend: Any = load_backend(found.device.device.partition(":")[0])
    source = WatchSource(backend.watch([found]), found.device.device) if hasattr(backend, "watch") else None
    opened: Any = backend.open(found, clock)
    if source is not None:
        opened.source = lambda: source
    return opened  # type: ignore[no-any-return]


@cache
def opened_once(device: str) -> tuple[LocalDevice, OpenDevice, Clock]:
    """Return a device opened by this process: opening it hides the others, and so changes the names of devices."""
    (found,) = select_devices(device)
    clock = SystemClock()
    return found, open_device(found, clock), clock


def profile_of(setup: Setup, **changes: Any) -> Profile:
    """Return the profile ``certification`` with a window of `setup.seconds`, fixed shapes and no companions."""
    window_ns = round(setup.seconds * SECOND_NS)
    base = load_profile("certification")
    short: dict[str, Any] = {
        "measured": {"intelligent": (setup.precision,)},
        "warmup_ns": window_ns // 2,
        "window_ns": window_ns,
        "guard_ns": window_ns // 20,
        "stagger_ns": 0,
        "launches_per_subwindow": 4,  # the least (R4): a short window shall have the shapes of a long one
        "telemetry_interval_ns": min(base.telemetry_interval_ns, max(window_ns // 20, 1)),
        "busy": "flag",
        "companion_ns": max(window_ns // 4, SECOND_NS // 5),
        "kernels": {},
    }
    return replace(base, **(short | changes))


def only(setup: Setup, shape: Shape, **changes: Any) -> Profile:
    """Return `profile_of` with one shape."""
    return profile_of(setup, shapes={setup.precision: (shape,)}, **changes)


class Rig:
    """A device opened by this process, and its session.

    Args:
        setup: what to measure.
        profile: how.
        kernel: name of the kernel, None for the device's own.
        tamper: what is put between the session and the device.
    """

    def __init__(
        self,
        setup: Setup,
        profile: Profile,
        kernel: str | None = None,
        tamper: Callable[[OpenDevice], OpenDevice] = lambda opened: opened,
    ) -> None:
        self.found, opened, self.clock = opened_once(setup.device)
        self.setup = setup
        self.profile = profile
        (self.workload,) = profile.workloads_of("intelligent")
        self.name = self.found.device.device
        self.opened = tamper(opened)
        self.session = Session(DeviceRequest(self.found, profile, CHALLENGE, kernel=kernel), self.opened, self.clock)
        self.switches: dict[str, str] = {}  # as they read when the operands were in place (R1)
        self.operands_s = 0.0  # of `prepare`: putting operands on the device
        self.prepare_s = 0.0

    @property
    def ready(self) -> PreparedWorkload:
        """What `prepare` prepared."""
        return self.session._ready[self.workload]

    @property
    def prepared(self) -> Prepared:
        """The operands on the device."""
        return self.ready.prepared

    def prepare(self) -> WorkloadFacts:
        """Choose a shape, put the operands on the device and compute the references, as a worker does."""
        make = self.session.compute.prepare

        def timed(*arguments: Any) -> Prepared:
            with stopwatch() as taken:
                prepared = make(*arguments)
            self.operands_s += taken()
            return prepared

        self.session.compute.prepare = timed  # type: ignore[method-assign, assignment]
        with stopwatch() as taken:
            facts = self.session.prepare(self.workload)
        self.prepare_s = taken()
        self.switches = self.session.compute.switches()
        return facts

    def run(self) -> Run:
        """Measure one window that begins now, and return it as the rules judge it."""
        started_ns = self.clock.utc_ns()
        campaign = self_issued(self.profile, (self.workload,), "perf", CHALLENGE, started_ns)
        starts_ns = utc_ns(campaign.starts_from)
        window = utc_window(campaign.windows[0], self.profile, starts_ns)
        self.session.references.clear()
        self.session.measure(self.workload, window)
        self.session.measure_references(self.workload, window)
        with stopwatch() as taken:
            result = self.session.conclude(self.workload)
        facts = RecordParts(
            node_id="perf",
            signer_spki="",
            profile=self.profile,
            campaign=campaign,
            starts_ns=starts_ns,
            started_ns=started_ns,
            ready_ns=started_ns,
            ended_ns=self.clock.utc_ns(),
            clock=NodeClock(source="self", uncertainty_ns=0),
            libraries=self.session.compute.libraries(),
            switches=self.switches,
            devices=(self.found,),
            results=(result,),
            references=self.session.references,
            failures=(),
            shares={},
            rows=(),
        )
        codes = judge_record(node_record(facts), campaign, self.profile)[self.name, str(self.workload)].effects
        return Run(
            result.facts, result.figure, dict(codes), list(self.session.references), result.throttle_reasons, taken()
        )


@contextmanager
def stopwatch() -> Iterator[Callable[[], float]]:
    """Give a function that tells the seconds of the block, once it has ended."""
    begin = end = time.perf_counter()
    try:
        yield lambda: end - begin
    finally:
        end = time.perf_counter()


def bare_product(prepared: Prepared) -> Callable[[Any, Any, Any], object]:
    """Return a library's own call for (A, B, output), without anything of ours around it.

    Raises:
        ValueError: it is not known for this kernel, or there is none (numpy up-casts FP16).
    """
    kernel = prepared.problem.kernel
    if kernel == "gemm-torch":
        import torch

        return lambda a, b, out: torch.mm(a, b, out=out)
    if kernel == "gemm-numpy" and prepared.method == "native":
        import numpy as np

        return lambda a, b, out: np.matmul(a, b, out=out)
    if kernel == "lu-numpy":
        import numpy as np

        return lambda a, b, out: np.linalg.solve(a, b)
    if kernel == "lu-torch":
        import torch

        return lambda a, b, out: torch.linalg.lu_solve(*torch.linalg.lu_factor(a), b)
    raise ValueError(f"no bare call is known for {prepared.problem.precision} by {kernel}")
