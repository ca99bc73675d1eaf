"""What computes on one device: its kernel, the process's share of the host's cores, and the operands made with both."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple, get_args

from bench.devices.base import LocalDevice, OpenDevice
from bench.environment import loaded_emulation, normal_switches
from bench.errors import DeviceError, PetasealError, explained, one_line, public_text
from bench.host.pinning import pin_threads, spread_memory
from bench.host.share import NumaPart
from bench.host.threads import computing_threads, set_threads
from bench.record import Choice, Profile, Shape, Workload, least_operand_bytes
from bench.record.node import FailureCode
from bench.record.plan import kernel_for
from bench.trials import is_out_of_memory
from bench.versions import stack_versions

if TYPE_CHECKING:
    from kernels.base import GemmProblem, Kernel, Prepared, PreparedTrial

LIBRARIES: tuple[str, ...] = ("numpy", "torch", "cupy")
MEMORY_REMARK = "memory could not be spread over the NUMA nodes that compute: the figure may be low"
FAILURES: tuple[str, ...] = get_args(FailureCode)


class DeviceRequest(NamedTuple):
    """What to measure on one device, and as part of which campaign."""

    detected: LocalDevice
    profile: Profile
    challenge: str  # of the campaign, lower-case hex
    node_id: str = ""  # of the node: checks of equal devices on many nodes must not fall into one moment
    kernel: str | None = None  # None: the profile's, or where it has none for this kind, the device's own
    threads: int | None = None  # of the host that this process may use; None: as many as its libraries take
    parts: tuple[NumaPart, ...] = ()  # of processors: the NUMA nodes that its threads compute on

    @property
    def name(self) -> str:
        """The device's name on its node, such as cuda:0."""
        return self.detected.device.device

    @property
    def kind(self) -> str:
        """The kind of device, such as cuda: profiles name kernels by it."""
        return self.name.partition(":")[0]


class Compute:
    """The kernel of one device, with everything that decides how it computes.

    Args:
        request: which device, with which kernel and how many threads of the host.
        opened: the device, opened by this process.
    """

    def __init__(self, request: DeviceRequest, opened: OpenDevice) -> None:
        self._request = request
        self._opened = opened
        in_profile = request.profile.kernels.get(request.kind)
        self.kernel = self.kernel_named(request.kernel or (in_profile.figure if in_profile else None))
        # What only the vendor's framework can say (cache, cores): it must be imported first, and the kernel did that.
        self.stack = opened.stack_facts()
        self.model = request.detected.model if self.stack is None else self.stack.of(request.detected.model)
        self.least_operand_bytes = least_operand_bytes(self.model)
        self._share_host()
        if request.kernel is None and in_profile is None:
            self.kernel = self._kernel_of_all_cores()
        self._switches = self.kernel.switches()
        self._solvers: dict[Choice, Kernel] = {}

    def switches(self) -> dict[str, str]:
        """Set every reduced-precision switch off and return how each reads; libraries are reported elsewhere.

        To be asked once the operands are in place: a library reports its switches only when it has been used.
        """
        self._switches |= self.kernel.switches()
        return normal_switches({k: v for k, v in self._switches.items() if not k.endswith(".blas")})

    def libraries(self) -> dict[str, str]:
        """Return the libraries that compute, with their versions: those that this process has imported."""
        imported = {name: sys.modules[name] for name in LIBRARIES if name in sys.modules}
        versions = {name: str(getattr(module, "__version__", "")) for name, module in imported.items()}
        versions |= {name: value for name, value in self._switches.items() if name.endswith(".blas")}
        if self.model.kind == "cpu" and self.kernel.name.endswith("-torch"):
            from kernels.blas import torch_blas

            versions |= torch_blas()
        versions |= stack_versions()
        versions |= dict.fromkeys(loaded_emulation(), "loaded")
        return {name: one_line(value, 200) for name, value in versions.items() if value}

    def unsupported(self, workload: Workload) -> str | None:
        """Return why the device or its kernel has no such workload; None where both have it."""
        precision = workload.precision
        if (reason := self._opened.unsupported(precision)) is not None:
            return reason
        try:
            kernel = self.kernel_of(workload)
        except ValueError as error:  # a third party's library has products alone
            return str(error)
        return kernel.supports(precision, self._opened.target)

    def kernel_of(self, workload: Workload) -> Kernel:
        """Return what computes a workload: the kernel of products, or for solves its library's own (R15).

        Raises:
            ValueError: the library has no such kernel.
        """
        if not workload.is_solve:
            return self.kernel
        if workload.choice not in self._solvers:
            from kernels.base import load_solver

            name = kernel_for(workload.choice, self.kernel.name)
            own = getattr(self.kernel, "solver", None)  # of a fake, whose kernels are bound to the device
            self._solvers[workload.choice] = load_solver(name) if own is None else own(name)
            self._switches = self._solvers[workload.choice].switches() | self._switches
        return self._solvers[workload.choice]

    def threads(self) -> int | None:
        """Return how many threads of the host compute the products; None where an accelerator does."""
        return computing_threads(self.kernel.name) if self.model.kind == "cpu" else None

    def settle_threads(self) -> list[str]:
        """Keep every thread on its NUMA node, and return what makes a processor's figure low.

        To be called once operands are in place and were multiplied: by then every library has started its threads.
        """
        refused, computing, cores = pin_threads(self._request.parts), self.threads(), self.model.units
        remarks = [] if self._memory_spread else [MEMORY_REMARK]
        if refused:
            remarks.append(f"{refused} threads could not be bound to a NUMA node: the figure may be low")
        if computing is not None and cores is not None and computing < cores:
            what = "the library uses no more threads (--kernel names another)"
            remarks.append(f"only {computing} of {cores} cores compute: {what}")
        return remarks

    def prepare(self, shape: Shape, workload: Workload) -> Prepared:
        """Return the operand sets of a figure on the device: as many as R3 asks for, of R2's numbers."""
        return self._prepare(self.kernel_of(workload), shape, workload, self.least_operand_bytes)

    def prepare_trial(self, shape: Shape, workload: Workload) -> PreparedTrial:
        """Return operands of the device's own random numbers; those of R2 where a plug-in's kernel has no others."""
        kernel = self.kernel_of(workload)
        if not hasattr(kernel, "prepare_trial"):
            return self._prepare(kernel, shape, workload, 0)
        return kernel.prepare_trial(_problem(kernel, workload, shape), self._opened.target)

    def prepare_cross_check(self, kernel: Kernel, shape: Shape, workload: Workload) -> Prepared:
        """Return the same operands, multiplied by a second kernel, whose switches are recorded with the first one's."""
        # Where both name a switch, the figure's kernel has the last word: it is the one that is recorded and judged.
        self._switches = kernel.switches() | self._switches
        return self._prepare(kernel, shape, workload, self.least_operand_bytes)

    def kernel_named(self, name: str | None) -> Kernel:
        """Return a kernel by its name; the device's own for None.

        Raises:
            ValueError: there is no such kernel.
        """
        default = self._opened.kernel()
        if name is None or name == default.name:
            return default
        from kernels.base import load_kernel

        return load_kernel(name)

    def _prepare(self, kernel: Kernel, shape: Shape, workload: Workload, least_bytes: int) -> Prepared:
        request, problem = self._request, _problem(kernel, workload, shape)
        return kernel.prepare(problem, request.challenge, request.name, self._opened.target, least_bytes)

    def _share_host(self) -> None:
        """Let this process use its share of the host's cores, by its own threads and by the libraries that compute."""
        from kernels.operands import use_threads

        self._memory_spread = spread_memory(self._request.parts)
        threads = self._request.threads
        if threads is not None:
            use_threads(threads)
            if self.model.kind == "cpu":
                set_threads(threads)

    def _kernel_of_all_cores(self) -> Kernel:
        """Return the device's own kernel; torch's where numpy's BLAS is built for fewer threads than there are cores.

        The OpenBLAS of numpy's wheels stops at 64 threads: half of a node with two processors would be idle.
        """
        threads = self._request.threads
        if threads is None or (self.threads() or threads) >= threads or not find_spec("torch"):
            return self.kernel
        kernel = self.kernel_named("gemm-torch")
        kernel.switches()  # it imports torch, whose threads can be set only then
        self._share_host()
        return kernel


def _problem(kernel: Kernel, workload: Workload, shape: Shape) -> GemmProblem:
    from kernels.base import GemmProblem, SolveProblem

    kind = SolveProblem if workload.is_solve else GemmProblem
    return kind(kernel.name, workload.precision, shape.m, shape.n, shape.k)


def failure_of(error: BaseException) -> tuple[FailureCode, str]:
    """Return the code and a short text for an error on a device, without paths: a record names no place of a node."""
    text = public_text(error.what if isinstance(error, PetasealError) else explained(error))
    if isinstance(error, DeviceError) and error.code in FAILURES:
        return error.code, text  # type: ignore[return-value]
    if is_out_of_memory(error):
        return "out-of-memory", text
    return "device-failed", text
