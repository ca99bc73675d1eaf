"""NVIDIA's management library through pynvml (nvidia-ml-py): what identifies a GPU, and its telemetry.

Every query that library, driver or GPU does not have is None, never a guess. Nothing is ever set.
Source: NVML API reference (device queries, event handling, multi-instance GPU management).
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from bench.devices.nvml_settings import Settings, settings
from bench.errors import DeviceError
from bench.record import readable_identifier
from bench.record.node import FailureCode
from bench.telemetry import Reading

EXPOSES = ("power", "clock", "temperature", "throttle", "ecc", "processes")  # of a GPU; the power is not an instance's
HANDLE = "nvmlDeviceGetHandleByIndex"
# What NVML answers of a GPU on which nothing can be computed (nvmlReturn_t): a code of the record's failures, a clause.
FAULTS: dict[int, tuple[FailureCode, str]] = {
    15: ("device-lost", "NVML says that the GPU is lost: it has fallen off the bus"),
    16: ("device-failed", "NVML says that the GPU must be reset"),
}
# The same, where it is asked for the GPU itself; drivers also say "unknown error" of one that has fallen off the bus.
FAULTS_OF_HANDLE: dict[int, tuple[FailureCode, str]] = {
    8: ("device-failed", "NVML says that the GPU's power cables are not attached as they must be"),
    11: ("device-failed", "NVML says that the GPU's interrupts do not arrive"),
    999: ("device-failed", "NVML cannot reach the GPU and says only: unknown error"),
}
SM_CLOCK, GPU_SENSOR, UNCORRECTED, VOLATILE, AGGREGATE, ECC_OFF, MIG_ENABLED = 1, 0, 1, 0, 1, 0, 1
NOT_AVAILABLE = {2**32 - 1, 2**64 - 1}
XID_EVENT = 0x8
ANY_INSTANCE = 2**32 - 1
MOST_EVENTS = 64
FALLEN_OFF_THE_BUS = 79
# Errors of an application, whose GPU is sound (NVIDIA, Xid errors). If it was ours, its next launch fails by itself.
APPLICATION_XIDS = frozenset({13, 31, 43, 45, 68, 109})
# The same question by the names of newer and of older drivers.
TEMPERATURE = ("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature")
PROCESSES = ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2")
REASONS_FOR_THE_CLOCK = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
GPU_IDLE = 0x1  # a reason for a low clock that is no throttling
REASONS = {
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake",
    0x100: "display_clock",
    0x200: "board_limit",
    0x400: "reliability",
}


class Gpu(NamedTuple):
    """What NVML tells of a GPU, or of a MIG instance on one (then `parent` is that GPU's uuid)."""

    uuid: str
    parent: str | None
    in_mig_mode: bool
    pci_address: str
    model: str | None
    serial: str | None
    board_part: str | None
    firmware: str | None
    memory_bytes: int | None
    units: int | None  # told for MIG instances only
    max_clock_mhz: int | None
    settings: Settings = Settings()
    fault: tuple[FailureCode, str] | None = None  # of one that is lost or broken; then its uuid may be ""

    @property
    def hex_uuid(self) -> str:
        """The 32 hex digits of the uuid, or all of it where its form is older ("MIG-GPU-.../1/0")."""
        return bare_uuid(self.uuid)


def bare_uuid(uuid: str) -> str:
    """Return the hex digits of "GPU-..." or "MIG-...", which are what CUDA tells; another form is returned whole."""
    digits = re.sub("^(gpu|mig)-", "", uuid.lower()).replace("-", "")
    return digits if re.fullmatch("[0-9a-f]{32}", digits) else uuid


def normal_address(text: str) -> str:
    """Return a PCI address in the one form, whatever the width of its domain: "0000:17:00.0"."""
    match = re.fullmatch("([0-9a-f]{1,8}):([0-9a-f]{2}:[0-9a-f]{2}[.][0-7])", text.strip().lower())
    return f"{int(match[1], 16):04x}:{match[2]}" if match else text.strip().lower()


class Nvml:
    """The initialised library.

    Raises:
        ImportError: nvidia-ml-py is not installed.
        pynvml.NVMLError: the library is missing, or does not come to terms with the driver.
    """

    def __init__(self) -> None:
        import pynvml

        self._api = pynvml
        pynvml.nvmlInit()

    def driver(self) -> str | None:
        """Return the driver's version."""
        return self._text("nvmlSystemGetDriverVersion")

    def gpus(self) -> list[Gpu]:
        """Return all GPUs in NVML's order, each followed by its MIG instances; one that is lost bears its fault."""
        found = []
        for index in range(self.ask("nvmlDeviceGetCount") or 0):
            handle = None
            try:
                handle = self.ask(HANDLE, index)
                found += self._with_instances(handle)
            except DeviceError as error:
                found.append(self._faulty(handle, error))
        return found

    def handle(self, uuid: str) -> Any:
        """Return the handle of a GPU or MIG instance, None where NVML does not find it.

        Raises:
            DeviceError: it is lost or must be reset.
        """
        try:
            return self.ask("nvmlDeviceGetHandleByUUID", uuid.encode())
        except DeviceError:  # NVML answers so where any GPU of the node is lost
            found = next(
                (handle for handle in self._handles() if self._text("nvmlDeviceGetUUID", handle) == uuid), None
            )
            if found is None:
                raise
            return found

    def _handles(self) -> Iterator[Any]:
        """Yield the handles of all GPUs that answer, and of their MIG instances."""
        for index in range(self.ask("nvmlDeviceGetCount") or 0):
            with contextlib.suppress(DeviceError):
                if (handle := self.ask(HANDLE, index)) is not None:
                    yield handle
                    yield from filter(None, self._slots(handle))

    def _slots(self, handle: Any) -> list[Any]:
        """Return the handles of a GPU's MIG instances; None for a slot that is empty."""
        slots = range(self.ask("nvmlDeviceGetMaxMigDeviceCount", handle) or 0)
        return [self.ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, slot) for slot in slots]

    def parent_handle(self, handle: Any) -> Any:
        """Return the handle of the GPU that a MIG instance is on."""
        return self.ask("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", handle)

    def instance(self, handle: Any) -> tuple[int, int] | None:
        """Return the numbers of the GPU instance and compute instance that are a MIG instance."""
        gpu, compute = (self.ask(f"nvmlDeviceGet{kind}InstanceId", handle) for kind in ("Gpu", "Compute"))
        return None if gpu is None or compute is None else (gpu, compute)

    def free_bytes(self, handle: Any) -> int | None:
        """Return the memory that is free at present."""
        memory = self.ask("nvmlDeviceGetMemoryInfo", handle)
        return None if memory is None else int(memory.free)

    def ask(self, function: str, *args: Any) -> Any:
        """Return what a function answers, None where library, driver or device does not have it.

        Raises:
            DeviceError: the GPU is lost or must be reset.
        """
        try:
            answer = getattr(self._api, function)(*args)
        except self._api.NVMLError as error:
            fault = (FAULTS | FAULTS_OF_HANDLE if function == HANDLE else FAULTS).get(error.value)
            if fault is not None:
                raise DeviceError(*fault) from None
            return None
        except (AttributeError, UnicodeDecodeError):  # an older pynvml; bytes that are no text
            return None
        return None if isinstance(answer, int) and answer in NOT_AVAILABLE else answer

    def ask_first(self, functions: Iterable[str], *args: Any) -> Any:
        """Return the answer of the first of some functions that has one."""
        return next((answer for name in functions if (answer := self.ask(name, *args)) is not None), None)

    def _text(self, function: str, *args: Any) -> str | None:
        """Return text that tells something: placeholders such as "N/A" and "0" are None."""
        answer = self.ask(function, *args)
        text = " ".join((answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer or "").split())
        return readable_identifier(text[:200]) if text.isprintable() else None

    def _with_instances(self, handle: Any) -> list[Gpu]:
        gpu = self._describe(handle, None)
        if gpu is None:
            return []
        handles = self._slots(handle) if gpu.in_mig_mode else []
        return [gpu, *(found for instance in handles if (found := self._describe(instance, gpu)))]

    def _faulty(self, handle: Any, error: DeviceError) -> Gpu:
        """Return what is still told of a GPU that is lost or must be reset."""

        def text(function: str) -> str | None:
            try:
                return None if handle is None else self._text(function, handle)
            except DeviceError:
                return None

        return Gpu(
            uuid=text("nvmlDeviceGetUUID") or "",
            parent=None,
            in_mig_mode=False,
            pci_address="",
            model=text("nvmlDeviceGetName"),
            serial=text("nvmlDeviceGetSerial"),
            board_part=None,
            firmware=None,
            memory_bytes=None,
            units=None,
            max_clock_mhz=None,
            fault=("device-lost" if error.code == "device-lost" else "device-failed", error.what),
        )

    def _describe(self, handle: Any, parent: Gpu | None) -> Gpu | None:
        if handle is None:
            return None
        uuid, memory = self._text("nvmlDeviceGetUUID", handle), self.ask("nvmlDeviceGetMemoryInfo", handle)
        if uuid is None:
            return None
        told = Gpu(
            uuid=uuid,
            parent=None,
            in_mig_mode=False,
            pci_address="",
            model=self._text("nvmlDeviceGetName", handle),
            serial=None,
            board_part=None,
            firmware=None,
            memory_bytes=None if memory is None else int(memory.total),
            units=None,
            max_clock_mhz=None,
            settings=Settings(),
        )
        if parent is not None:  # its serial is the board's, and no identity of an instance
            attributes = self.ask("nvmlDeviceGetAttributes_v2", handle)
            return told._replace(
                parent=parent.uuid,
                pci_address=parent.pci_address,
                board_part=parent.board_part,
                firmware=parent.firmware,
                units=None if attributes is None else attributes.multiprocessorCount or None,
                max_clock_mhz=parent.max_clock_mhz,
                settings=parent.settings.of_instance(),
            )
        mode, pci = self.ask("nvmlDeviceGetMigMode", handle), self.ask("nvmlDeviceGetPciInfo", handle)
        address = b"" if pci is None else pci.busId or pci.busIdLegacy
        return told._replace(
            in_mig_mode=mode is not None and mode[0] == MIG_ENABLED,
            pci_address=normal_address(address.decode("ascii", "replace") if isinstance(address, bytes) else address),
            serial=self._text("nvmlDeviceGetSerial", handle),
            board_part=self._text("nvmlDeviceGetBoardPartNumber", handle),
            firmware=self._text("nvmlDeviceGetVbiosVersion", handle),
            max_clock_mhz=self.ask("nvmlDeviceGetMaxClockInfo", handle, SM_CLOCK) or None,
            settings=settings(self.ask, handle),
        )

    def xids(self, handle: Any, instance: tuple[int, int] | None) -> Iterator[int]:
        """Watch a GPU for critical errors: from now on, each step yields the next one, or 0 where there is none.

        Args:
            handle: of a whole GPU.
            instance: GPU and compute instance whose errors alone are wanted; None for all.
        """
        events = self.ask("nvmlEventSetCreate")
        supported = self.ask("nvmlDeviceGetSupportedEventTypes", handle)
        if events is None or not (supported or 0) & XID_EVENT:
            return
        try:
            self._api.nvmlDeviceRegisterEvents(handle, XID_EVENT, events)
        except (self._api.NVMLError, AttributeError):
            return
        yield 0
        while True:
            event = self.ask("nvmlEventSetWait", events, 0)  # NVML_ERROR_TIMEOUT where nothing has happened
            if event is None:
                yield 0
            elif event.eventType & XID_EVENT and _concerns(event, instance):
                yield int(event.eventData)


def _concerns(event: Any, instance: tuple[int, int] | None) -> bool:
    told = event.gpuInstanceId, event.computeInstanceId
    return instance is None or ANY_INSTANCE in told or told == instance


class NvmlSource:
    """Telemetry of one GPU or MIG instance (`bench.telemetry.Source`).

    A MIG instance shares its GPU's clock, temperature and memory errors, which are told; the GPU's power, energy and
    utilisation are not the instance's, and are not.
    """

    def __init__(self, nvml: Nvml, uuid: str) -> None:
        self._nvml = nvml
        self._own = nvml.handle(uuid)
        parent = nvml.parent_handle(self._own) if self._own is not None and uuid.upper().startswith("MIG-") else None
        self._gpu = self._own if parent is None else parent
        self._whole = parent is None
        self._xids = nvml.xids(self._gpu, None if self._whole else nvml.instance(self._own))
        next(self._xids, 0)
        self._fault: DeviceError | None = None
        self.in_use = False
        """Whether our own context is on the device: a count of 0 processes then means that they are hidden."""

    def read(self) -> Reading:
        """Return the present reading.

        Raises:
            DeviceError: the GPU is lost, must be reset, or reports a critical error (XID).
        """
        nvml, gpu = self._nvml, self._gpu
        if self._fault is None:
            self._fault = self._new_fault()
        if self._fault is not None:  # told once by the driver, and for good
            raise self._fault
        clock_mhz = nvml.ask("nvmlDeviceGetClockInfo", gpu, SM_CLOCK)
        temperature_c = nvml.ask_first(TEMPERATURE, gpu, GPU_SENSOR)
        mask = nvml.ask_first(REASONS_FOR_THE_CLOCK, gpu)
        usage = nvml.ask("nvmlDeviceGetUtilizationRates", gpu) if self._whole else None
        return Reading(
            power_mw=nvml.ask("nvmlDeviceGetPowerUsage", gpu) if self._whole else None,
            temperature_c=None if temperature_c is None else max(0, temperature_c),
            clock_mhz=clock_mhz,
            utilisation_ppm=None if usage is None else min(100, usage.gpu) * 10_000,
            throttled=None if mask is None else throttle_reasons(mask),
            ecc_uncorrected=self._ecc_uncorrected(),
            processes=self._processes(),
            energy_mj=nvml.ask("nvmlDeviceGetTotalEnergyConsumption", gpu) if self._whole else None,
        )

    def _new_fault(self) -> DeviceError | None:
        for _ in range(MOST_EVENTS):
            xid = next(self._xids, 0)
            if not xid:
                break
            if xid not in APPLICATION_XIDS:
                code = "device-lost" if xid == FALLEN_OFF_THE_BUS else "device-failed"
                return DeviceError(code, f"the GPU reports a critical error (XID {xid})")
        return None

    def _ecc_uncorrected(self) -> int | None:
        mode = self._nvml.ask("nvmlDeviceGetEccMode", self._gpu)
        if mode is not None and mode[0] == ECC_OFF:
            return None
        for counter in (VOLATILE, AGGREGATE):
            count: int | None = self._nvml.ask("nvmlDeviceGetTotalEccErrors", self._gpu, UNCORRECTED, counter)
            if count is not None:
                return count
        return None

    def _processes(self) -> int | None:
        processes = self._nvml.ask_first(PROCESSES, self._own)
        if processes is None or (self.in_use and not processes):
            return None
        return len(processes)


def throttle_reasons(mask: int) -> tuple[str, ...]:
    """Return the names of the reasons in a mask of NVML; one without a name here is "reason_0x..."."""
    bits = [1 << bit for bit in range(mask.bit_length()) if mask >> bit & 1]
    return tuple(sorted(REASONS.get(bit, f"reason_{bit:#x}") for bit in bits if bit != GPU_IDLE))


def loaded_library(maps: Path = Path("/proc/self/maps")) -> tuple[str | None, str | None]:
    """Return the path of the management library that this process has loaded, and its SHA-256; None where unknown."""
    try:
        lines = maps.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None, None
    path = next((line.split(maxsplit=5)[5] for line in lines if "libnvidia-ml.so" in line), None)
    if path is None:
        return None, None
    try:
        status = Path(path).stat()
        return path, _sha256(path, status.st_mtime_ns, status.st_size)
    except OSError:  # replaced since: "(deleted)"
        return path, None


@lru_cache(maxsize=4)
def _sha256(path: str, mtime_ns: int, size: int) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
