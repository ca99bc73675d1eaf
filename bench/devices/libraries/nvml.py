"""NVIDIA's management library through pynvml (nvidia-ml-py): its questions, and what identifies a GPU.

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

from bench.devices.libraries.nvidia.settings import GpuSettings, settings
from bench.errors import DeviceError
from bench.record import readable_identifier
from bench.record.node import FailureCode
from bench.units import MAX_INTEGER

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
SM_CLOCK, MIG_ENABLED = 1, 1
NOT_AVAILABLE = {2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1}
VGPU_GUEST = 2  # nvmlGpuVirtualizationMode_t; 1 is pass-through, which gives a guest the whole GPU
XID_EVENT = 0x8
ANY_INSTANCE = 2**32 - 1


class Gpu(NamedTuple):
    """Facts that NVML reports of a GPU, or of a MIG instance on one (then `parent` is that GPU's uuid)."""

    uuid: str
    parent: str | None = None
    in_mig_mode: bool = False
    pci_address: str = ""
    model: str | None = None
    serial: str | None = None
    board_part: str | None = None
    firmware: str | None = None
    memory_bytes: int | None = None
    units: int | None = None  # told for MIG instances only
    max_clock_mhz: int | None = None
    settings: GpuSettings = GpuSettings()
    share: bool = False  # of a GPU that other virtual machines compute on too (vGPU)
    fault: tuple[FailureCode, str] | None = None  # of one that is lost or broken; then its uuid may be ""

    @property
    def hex_uuid(self) -> str:
        """The 32 hex digits of the uuid, or all of it where its form is older ("MIG-GPU-.../1/0")."""
        return bare_uuid(self.uuid)


def bare_uuid(uuid: str) -> str:
    """Return the hex digits of "GPU-..." or "MIG-...", as CUDA reports them; another form is returned whole."""
    digits = re.sub("^(gpu|mig)-", "", uuid.lower()).replace("-", "")
    return digits if re.fullmatch("[0-9a-f]{32}", digits) else uuid


def normal_address(text: str) -> str:
    """Return a PCI address in the one form, whatever its domain's width: "0000:17:00.0"; "" for an all-zero one."""
    match = re.fullmatch("([0-9a-f]{1,8}):([0-9a-f]{2}:[0-9a-f]{2}[.][0-7])", text.strip().lower())
    address = f"{int(match[1], 16):04x}:{match[2]}" if match else text.strip().lower()
    return "" if address == "0000:00:00.0" else address


class Nvml:
    """The initialised library.

    Args:
        api: its functions; None for pynvml, which is NVIDIA's.

    Raises:
        ImportError: nvidia-ml-py is not installed.
        pynvml.NVMLError: the library is missing, or does not fit the driver.
    """

    def __init__(self, api: Any = None) -> None:
        if api is None:
            import pynvml

            api = pynvml
        self.api = api
        api.nvmlInit()

    def driver(self) -> str | None:
        """Return the driver's version."""
        return self.text("nvmlSystemGetDriverVersion")

    def version(self) -> str | None:
        """Return the library's version (nvmlSystemGetNVMLVersion); None where it does not report one."""
        return self.text("nvmlSystemGetNVMLVersion")

    def gpus(self) -> list[Gpu]:
        """Return all GPUs in NVML's order, each followed by its MIG instances; one that is lost bears its fault."""
        gpus = []
        for index in range(self.ask("nvmlDeviceGetCount") or 0):
            handle = None
            try:
                handle = self.ask(HANDLE, index)
                gpus += self._with_instances(handle)
            except DeviceError as error:
                gpus.append(self._faulty(handle, error))
        return gpus

    def handle(self, uuid: str) -> Any:
        """Return the handle of a GPU or MIG instance, None where NVML does not find it.

        Raises:
            DeviceError: it is lost or must be reset.
        """
        try:
            return self.ask("nvmlDeviceGetHandleByUUID", uuid.encode())
        except DeviceError:  # NVML answers so where any GPU of the node is lost
            device = next(
                (handle for handle in self._handles() if self.text("nvmlDeviceGetUUID", handle) == uuid), None
            )
            if device is None:
                raise
            return device

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

    def is_share(self, handle: Any) -> bool:
        """Return whether a GPU is a virtual one in a guest: a share of another, of a size that NVML does not report."""
        return bool(self.ask("nvmlDeviceGetVirtualizationMode", handle) == VGPU_GUEST)

    def settings(self, handle: Any) -> GpuSettings:
        """Return how a whole GPU is set."""
        return settings(self.ask, handle)

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
            answer = getattr(self.api, function)(*args)
        except self.api.NVMLError as error:
            fault = (FAULTS | FAULTS_OF_HANDLE if function == HANDLE else FAULTS).get(error.value)
            if fault is not None:
                raise DeviceError(*fault) from None
            return None
        except (AttributeError, UnicodeDecodeError):  # an older pynvml; bytes that are no text
            return None
        unknown = isinstance(answer, int) and (answer in NOT_AVAILABLE or answer > MAX_INTEGER)
        return None if unknown else answer

    def ask_first(self, functions: Iterable[str], *args: Any) -> Any:
        """Return the answer of the first of some functions that has one."""
        return next((answer for name in functions if (answer := self.ask(name, *args)) is not None), None)

    def text(self, function: str, *args: Any) -> str | None:
        """Return a text of NVML; None for placeholders such as "N/A" and "0"."""
        answer = self.ask(function, *args)
        text = " ".join((answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer or "").split())
        return readable_identifier(text[:200]) if text.isprintable() else None

    def _with_instances(self, handle: Any) -> list[Gpu]:
        gpu = self._describe(handle, None)
        if gpu is None:
            return []
        handles = self._slots(handle) if gpu.in_mig_mode else []
        return [gpu, *(one for instance in handles if (one := self._describe(instance, gpu)))]

    def _faulty(self, handle: Any, error: DeviceError) -> Gpu:
        """Return what is still told of a GPU that is lost or must be reset."""

        def text(function: str) -> str | None:
            try:
                return None if handle is None else self.text(function, handle)
            except DeviceError:
                return None

        return Gpu(
            uuid=text("nvmlDeviceGetUUID") or "",
            model=text("nvmlDeviceGetName"),
            serial=text("nvmlDeviceGetSerial"),
            fault=("device-lost" if error.code == "device-lost" else "device-failed", error.what),
        )

    def _describe(self, handle: Any, parent: Gpu | None) -> Gpu | None:
        if handle is None:
            return None
        uuid, memory = self.text("nvmlDeviceGetUUID", handle), self.ask("nvmlDeviceGetMemoryInfo", handle)
        if uuid is None:
            return None
        gpu = Gpu(
            uuid=uuid,
            model=self.text("nvmlDeviceGetName", handle),
            memory_bytes=None if memory is None else int(memory.total),
        )
        if parent is not None:  # its serial is the board's, and no identity of an instance
            attributes = self.ask("nvmlDeviceGetAttributes_v2", handle)
            return gpu._replace(
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
        return gpu._replace(
            in_mig_mode=mode is not None and mode[0] == MIG_ENABLED,
            pci_address=normal_address(address.decode("ascii", "replace") if isinstance(address, bytes) else address),
            serial=self.text("nvmlDeviceGetSerial", handle),
            board_part=self.text("nvmlDeviceGetBoardPartNumber", handle),
            firmware=self.text("nvmlDeviceGetVbiosVersion", handle),
            max_clock_mhz=self.ask("nvmlDeviceGetMaxClockInfo", handle, SM_CLOCK) or None,
            settings=self.settings(handle),
            share=self.is_share(handle),
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
            self.api.nvmlDeviceRegisterEvents(handle, XID_EVENT, events)
        except (self.api.NVMLError, AttributeError):
            return
        yield 0
        while True:
            event = self.ask("nvmlEventSetWait", events, 0)  # NVML_ERROR_TIMEOUT where nothing has happened
            if event is None:
                yield 0
            elif event.eventType & XID_EVENT and _concerns(event, instance):
                yield int(event.eventData)


def _concerns(event: Any, instance: tuple[int, int] | None) -> bool:
    concerned = event.gpuInstanceId, event.computeInstanceId
    return instance is None or ANY_INSTANCE in concerned or concerned == instance


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
