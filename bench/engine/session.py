"""One device from its first trial to its figures: what a worker process does, and a test does in its own process.

No process, pipe or file in here. An error in one precision is the caller's to record; the next can still be measured.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple, get_args

import msgspec

from bench.clock import Clock, sleep_until_utc
from bench.devices.base import Found, Opened
from bench.engine.measure import Measured, Row, Span, Task, Worst, measure
from bench.environment import loaded_emulation, normal_switches
from bench.errors import DeviceError, PetasealError, explained, one_line, public_text
from bench.host.threads import computing_threads, set_threads
from bench.profile import MOST_SETS, Trial, batch_of, choose_fixed, choose_tuned, longest_launch_ns, needed_bytes
from bench.record import Choice, Figure, Precision, Profile, Shape, Workload, least_operand_bytes
from bench.record.node import FailureCode, Method
from bench.record.plan import ROLES, CompanionRole, role_of
from bench.reference.checks import draw_checks, final_seed, probe_seed
from bench.reference.companions import Beside, Stand, first_launch, run_beside, seed_beside, try_path
from bench.telemetry import Sampler, Source, Stream, read
from bench.trials import Trials, is_out_of_memory, timed_launch
from bench.versions import stack_versions

if TYPE_CHECKING:
    from kernels.base import Kernel, Prepared, PreparedTrial, Problem

LIBRARIES: tuple[str, ...] = ("numpy", "torch", "cupy")
FAILURES: tuple[str, ...] = get_args(FailureCode)


class Facts(msgspec.Struct, frozen=True):
    """What a measurement is of: devices that agree in all of it share one `Measurement`."""

    kernel: str
    precision: Precision
    choice: Choice
    accumulate: Precision
    method: Method
    m: int
    n: int
    k: int
    operand_sets: int
    operand_bytes: int

    @property
    def workload(self) -> Workload:
        """What is measured."""
        return Workload(self.precision, self.choice)


class UtcWindow(msgspec.Struct, frozen=True):
    """A campaign's window of one workload as one device sees it: its own ramp slot included. UTC, ns."""

    load_ns: int
    opens_ns: int
    closes_ns: int
    stops_ns: int
    preheats_ns: int | None = None  # when it may load already before its ramp slot


class Ready(NamedTuple):
    """A prepared workload: operands on the device, and how many launches are stamped together."""

    facts: Facts
    batch: int
    prepared: Prepared


class Result(NamedTuple):
    """A finished workload."""

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
        kernel: name of the kernel; None for the profile's, or where it has none for this kind, the device's own.
        node_id: of the node: checks of equal devices on many nodes must not fall into one moment.
        threads: of the host that this device's process may use; None for as many as its libraries take.
        stream: the device's readings, where the node's reader takes them; None where this process does.
    """

    def __init__(
        self,
        found: Found,
        opened: Opened,
        profile: Profile,
        challenge: str,
        clock: Clock,
        kernel: str | None = None,
        node_id: str = "",
        threads: int | None = None,
        stream: Stream | None = None,
    ) -> None:
        self._found = found
        self._name = found.device.device
        self._place = f"{node_id}/{self._name}"
        self._kind = self._name.partition(":")[0]
        self._opened = opened
        self._profile = profile
        self._challenge = challenge
        self._clock = clock
        self._source: Source | Stream
        # before our own context is on the device
        if stream is None:
            self._source = opened.source()
            self._before = read(self._source)
        else:
            self._source, self._before = stream, stream.before()
        named = profile.kernels.get(self._kind)
        self._kernel = self._kernel_named(kernel or (named.figure if named else None))
        self.stack = opened.stack_facts()
        if self.stack is not None:
            self._found = found._replace(model=self.stack.of(found.model))
        self._least_bytes = least_operand_bytes(self._found.model)
        self._threads = threads
        self._share_host()
        if kernel is None and named is None:
            self._kernel = self._kernel_of_all_cores()
        self._switches = self._kernel.switches()
        self._seen: dict[Precision, Trial] = {}
        self._first_launch_ns: dict[tuple[Precision, Shape], int] = {}
        self._shares: dict[Workload, int | None] = {}  # of the device's memory, bytes
        self._ready: dict[Workload, Ready] = {}
        self._measured: dict[Workload, Measured] = {}
        self._stands: dict[Workload, list[Stand]] = {}
        self.beside: list[Beside] = []
        self.rows: list[Row] = []
        self.remarks: list[str] = []

    def switches(self) -> dict[str, str]:
        """Set every reduced-precision switch off and return how each reads; libraries are told elsewhere.

        To be asked once the operands are in place: a library tells of itself only when it has been used.
        """
        self._switches |= self._kernel.switches()
        return normal_switches({k: v for k, v in self._switches.items() if not k.endswith(".blas")})

    def libraries(self) -> dict[str, str]:
        """Return the libraries that compute, with their versions: those that this process has imported."""
        imported = {name: sys.modules[name] for name in LIBRARIES if name in sys.modules}
        found = {name: str(getattr(module, "__version__", "")) for name, module in imported.items()}
        found |= {name: value for name, value in self._switches.items() if name.endswith(".blas")}
        found |= stack_versions()
        found |= dict.fromkeys(loaded_emulation(), "loaded")
        return {name: one_line(value, 200) for name, value in found.items() if value}

    def prepare(self, workload: Workload, shared_by: int = 1) -> Facts:
        """Choose a shape by trial (R4), put the operands on the device (R3) and compute the checks' references.

        Args:
            workload: to prepare.
            shared_by: how many workloads, this one among them, have still to find room in the device's memory.

        Raises:
            DeviceError: somebody else uses the device, the precision is not supported, or no shape fits.
        """
        precision = workload.precision
        if self._profile.busy == "refuse" and self._before is not None and self._before.processes:
            raise DeviceError(
                "device-busy", f"{self._before.processes} other process(es) have a context on it", where=self._name
            )
        reason = self._opened.unsupported(precision) or self._kernel.supports(precision, self._opened.target)
        if reason is not None:
            raise DeviceError("unsupported-precision", reason, where=self._name)
        names = self._profile.companions_of(self._kind, workload)
        memory = self._opened.memory_bytes()
        share = None if memory is None else memory // (shared_by + len(names))
        self._shares[workload] = share
        chosen, prepared = self._choose(self._profile, workload, share)
        return self._put(workload, chosen, prepared)

    def settle(self, workload: Workload, shape: Shape) -> Facts:
        """Prepare a workload anew, in the shape that its campaign settled for all devices of this model (R4).

        Raises:
            DeviceError: `shape-not-settled`: it does not fit into the memory, or one launch takes too long.
        """
        self._ready.pop(workload).prepared.close()
        for stand in self._stands.pop(workload):
            if stand.prepared is not None:
                stand.prepared.close()
        self.rows = [row for row in self.rows if (row.workload, row.phase) != (str(workload), "prepare")]
        only = msgspec.structs.replace(self._profile, shapes={workload.precision: (shape,)})
        try:
            chosen, prepared = self._choose(only, workload, self._shares[workload])
        except DeviceError as error:
            if error.code not in ("no-shape", "out-of-memory"):
                raise
            text = f"only {shape.m} x {shape.n} x {shape.k} is settled for its model: {error.what}"
            raise DeviceError("shape-not-settled", text, where=self._name) from None
        return self._put(workload, chosen, prepared)

    def _put(self, workload: Workload, chosen: Trial, prepared: Prepared) -> Facts:
        """Compute the checks' references, and prepare what is measured beside the workload."""
        for operand_set in range(prepared.operand_sets):
            self._first_launch(workload.precision, chosen.shape, timed_launch(prepared, self._clock, operand_set))
            prepared.check(operand_set, probe_seed(self._challenge, self._place, str(workload), operand_set))
        for operand, digest in prepared.operand_sha256.items():
            self._row(workload, "prepare", f"operand_{operand}_sha256", digest)
        facts = Facts(
            kernel=prepared.problem.kernel,
            precision=workload.precision,
            choice=workload.choice,
            accumulate=prepared.accumulate,
            method=prepared.method,
            m=prepared.problem.m,
            n=prepared.problem.n,
            k=prepared.problem.k,
            operand_sets=prepared.operand_sets,
            operand_bytes=prepared.operand_bytes,
        )
        assert chosen.launch_ns is not None
        self._ready[workload] = Ready(facts, batch_of(self._profile, chosen.launch_ns), prepared)
        names = self._profile.companions_of(self._kind, workload)
        self._stands[workload] = [self._stand(name, workload, chosen.shape) for name in names]
        self._say_threads()
        return facts

    def measure(
        self, workload: Workload, window: UtcWindow, tell: Callable[[str, int], None] = lambda p, r: None
    ) -> None:
        """Wait for the device's ramp slot and measure one workload in its window.

        Raises:
            DeviceError: too few launches were finished in the window, or telemetry tells of a fault.
        """
        facts, batch, prepared = self._ready[workload]
        profile = self._profile
        checks = draw_checks(self._challenge, self._place, str(workload), facts.operand_sets, profile.verified_launches)
        sampler = self._sampler()
        begins_ns = window.load_ns if window.preheats_ns is None else window.preheats_ns
        sleep_until_utc(self._clock, begins_ns)
        monotonic, utc = self._clock.pair_ns()
        apart = monotonic - utc
        span = Span(
            load_ns=window.load_ns + apart,
            opens_ns=window.opens_ns + apart,
            closes_ns=window.closes_ns + apart,
            stops_ns=window.stops_ns + apart,
            opens_utc_ns=window.opens_ns,
        )
        self._opened.begin(workload.precision, span.opens_ns)
        task = Task(self._name, workload, profile, span, batch, checks)
        self._measured[workload] = measure(prepared, task, self._clock, sampler, self._opened.timer(), tell)

    def load_companions(self, workload: Workload, roles: Collection[CompanionRole]) -> None:
        """Launch once what stands beside a workload: a first launch loads or compiles, and has no part in its time."""
        for stand in self._stands[workload]:
            if stand.role in roles:
                first_launch(stand)

    def accompany(
        self,
        workload: Workload,
        window: UtcWindow,
        tell: Callable[[str, int], None] = lambda p, r: None,
        roles: Collection[CompanionRole] = ROLES,
    ) -> None:
        """Measure what stands beside a workload, one after another from the end of a window's guard on."""
        for slot, stand in enumerate(s for s in self._stands[workload] if s.role in roles):
            ends_utc_ns = window.stops_ns + (slot + 1) * self._profile.companion_ns
            tell(stand.kernel, 0)
            beside = run_beside(stand, self._name, self._challenge, self._clock, self._sampler(), ends_utc_ns)
            self.beside.append(beside)

    def conclude(self, workload: Workload) -> Result:
        """Check the last output on the host (R5), after all windows, and return the figure."""
        facts, _, prepared = self._ready[workload]
        measured = self._measured[workload]
        worst = Worst()
        worst.row_error_ppm, worst.rms_error_ppm = measured.figure.row_error_ppm, measured.figure.rms_error_ppm
        worst.add(prepared.check_on_host(measured.last_set, final_seed(self._challenge, self._place, str(workload))))
        self.rows += measured.rows
        figure = measured.figure._replace(
            row_error_ppm=worst.row_error_ppm,
            rms_error_ppm=worst.rms_error_ppm,
            threads=self._computing(),
            first_launch_ns=self._first_launch_ns[facts.precision, Shape(m=facts.m, n=facts.n, k=facts.k)],
        )
        return Result(facts, figure, measured.throttle_reasons)

    def _share_host(self) -> None:
        """Let this process use its share of the host's cores, by its own threads and by the libraries that compute."""
        from kernels.operands import use_threads

        if self._threads is not None:
            use_threads(self._threads)
            if self._found.model.kind == "cpu":
                set_threads(self._threads)

    def _kernel_of_all_cores(self) -> Kernel:
        """Return the device's own kernel; torch's where numpy's BLAS is built for fewer threads than there are cores.

        The OpenBLAS of numpy's wheels stops at 64 threads: half of a node with two processors would be idle.
        """
        if self._threads is None or (self._computing() or self._threads) >= self._threads or not find_spec("torch"):
            return self._kernel
        kernel = self._kernel_named("gemm-torch")
        kernel.switches()  # it imports torch
        self._share_host()
        return kernel

    def _computing(self) -> int | None:
        """Return how many threads of the host compute the products; None where an accelerator does."""
        return computing_threads(self._kernel.name) if self._found.model.kind == "cpu" else None

    def _say_threads(self) -> None:
        computing, cores = self._computing(), self._found.model.units
        if computing is not None and cores is not None and computing < cores:
            remark = (
                f"only {computing} of {cores} cores compute: the library uses no more threads (--kernel names another)"
            )
            self.remarks += [] if remark in self.remarks else [remark]

    def _choose(self, profile: Profile, workload: Workload, memory_bytes: int | None) -> tuple[Trial, Prepared]:
        """Return the chosen shape with operands in place: as many sets as R3 asks for."""
        precision, least = workload.precision, self._least_bytes
        longest_ns = longest_launch_ns(profile)

        def make(shape: Shape) -> PreparedTrial:
            return self._prepare_trial(shape, precision)

        units, most_sets = self._found.model.units, None if self._found.model.kind == "cpu" else MOST_SETS
        while True:
            trials = Trials(make, self._clock, longest_ns)
            if workload.choice == "tuned":
                seen = self._seen.get(precision)
                if seen is None:
                    seen = choose_fixed(profile, workload, least, memory_bytes, trials, units, most_sets)
                chosen = choose_tuned(profile, workload, least, memory_bytes, trials, seen, trials.longer, most_sets)
            else:
                chosen = choose_fixed(profile, workload, least, memory_bytes, trials, units, most_sets)
                self._seen[precision] = chosen
            for shape, first_ns in trials.first_launch_ns.items():
                self._row(workload, "trial", f"first_launch_{shape.m}x{shape.n}x{shape.k}_ns", first_ns)
                self._first_launch(precision, shape, first_ns)
            for shape, launch_ns in trials.times.items():
                name = f"launch_{shape.m}x{shape.n}x{shape.k}_ns"
                self._row(workload, "trial", name, "out-of-memory" if launch_ns is None else launch_ns)
                if launch_ns is None:
                    self._too_large(workload, shape)
            try:
                return chosen, self._prepare(chosen.shape, precision, least)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            # All its operand sets together did not fit: as if the device had less memory, without this shape.
            self._too_large(workload, chosen.shape)
            memory_bytes = needed_bytes(chosen.shape, precision, least) - 1

    def _stand(self, name: str, workload: Workload, shape: Shape) -> Stand:
        """Return what stands beside a workload, prepared, or the reason why it cannot be."""
        from kernels.base import load_companion

        role, precision, target = role_of(name), workload.precision, self._opened.target
        try:
            if role != "path":
                companion = load_companion(name)
                if (reason := companion.supports(precision, target)) is not None:
                    return Stand(name, role, precision, None, reason)
                seed = probe_seed(self._challenge, self._name, f"{workload}/{name}", 0)
                return Stand(name, role, precision, companion.prepare(precision, target, seed), None)
            kernel = self._kernel_named(name)
            if (reason := kernel.supports(precision, target)) is not None:
                return Stand(name, role, precision, None, reason)
            self._switches = kernel.switches() | self._switches
            prepared = self._prepare(shape, precision, self._least_bytes, kernel)
            try_path(prepared, seed_beside(self._challenge, self._name, precision, name))
            return Stand(name, role, precision, prepared, None)
        except Exception as error:
            return Stand(name, role, precision, None, failure_of(error)[1])

    def _first_launch(self, precision: Precision, shape: Shape, elapsed_ns: int) -> None:
        """Take note of the first launch of a shape, or of an operand set of it: the longest is recorded."""
        key = precision, Shape(m=shape.m, n=shape.n, k=shape.k)
        self._first_launch_ns[key] = max(elapsed_ns, self._first_launch_ns.get(key, 0))

    def _prepare(self, shape: Shape, precision: Precision, least_bytes: int, kernel: Kernel | None = None) -> Prepared:
        kernel = kernel or self._kernel
        problem = _problem(kernel, precision, shape)
        return kernel.prepare(problem, self._challenge, self._name, self._opened.target, least_bytes)

    def _prepare_trial(self, shape: Shape, precision: Precision) -> PreparedTrial:
        """Return operands of the device's own random numbers; those of R2 where another's kernel has no others."""
        if not hasattr(self._kernel, "prepare_trial"):
            return self._prepare(shape, precision, 0)
        return self._kernel.prepare_trial(_problem(self._kernel, precision, shape), self._opened.target)

    def _kernel_named(self, name: str | None) -> Kernel:
        own = self._opened.kernel()
        if name is None or name == own.name:
            return own
        from kernels.base import load_kernel

        return load_kernel(name)

    def _sampler(self) -> Sampler:
        return Sampler(self._source, self._clock, self._profile.telemetry_interval_ns, self._before)

    def _too_large(self, workload: Workload, shape: Shape) -> None:
        self.remarks.append(f"{workload}: {shape.m} x {shape.n} x {shape.k} does not fit into the memory")

    def _row(self, workload: Workload, phase: str, quantity: str, value: int | str) -> None:
        self.rows.append(Row(self._name, str(workload), phase, 0, quantity, value))


def _problem(kernel: Kernel, precision: Precision, shape: Shape) -> Problem:
    from kernels.base import Problem

    return Problem(kernel.name, precision, shape.m, shape.n, shape.k)


def failure_of(error: BaseException) -> tuple[FailureCode, str]:
    """Return the code and a short text for an error on a device, without paths: a record names no place of a node."""
    text = public_text(error.what if isinstance(error, PetasealError) else explained(error))
    if isinstance(error, DeviceError) and error.code in FAILURES:
        return error.code, text  # type: ignore[return-value]
    if is_out_of_memory(error):
        return "out-of-memory", text
    return "device-failed", text
