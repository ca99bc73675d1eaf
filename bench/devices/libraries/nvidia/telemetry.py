"""The telemetry of one GPU or MIG instance through NVML, or of one device through a library that copies NVML.

Every query that library, driver or device does not have is None, never a guess. Nothing is ever set.
Source: NVML API reference (device queries, clocks event reasons, event handling).
"""

from __future__ import annotations

from typing import Any

from bench.devices.libraries import answers
from bench.devices.libraries.nvml import SM_CLOCK, Nvml
from bench.errors import DeviceError
from bench.telemetry import Reading

GPU_SENSOR, UNCORRECTED, VOLATILE, AGGREGATE, ECC_OFF = 0, 1, 0, 1, 0
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


class NvmlSource:
    """Telemetry of one GPU or MIG instance (`bench.telemetry.ReadingSource`).

    A MIG instance shares its GPU's clock, temperature and memory errors, which are read; the GPU's power, energy and
    utilisation are not the instance's, and are left out. So with a virtual GPU in a guest.

    Args:
        nvml: the library.
        uuid: of the GPU or instance.
        handle: of it; None to find it by its uuid.
    """

    def __init__(self, nvml: Nvml, uuid: str, handle: Any = None) -> None:
        self._nvml = nvml
        self._handle = nvml.handle(uuid) if handle is None else handle
        parent = (
            nvml.parent_handle(self._handle) if self._handle is not None and uuid.upper().startswith("MIG-") else None
        )
        self._gpu = self._handle if parent is None else parent
        self._whole = parent is None and not nvml.is_share(self._gpu)
        self._xids = nvml.xids(self._gpu, None if parent is None else nvml.instance(self._handle))
        next(self._xids, 0)
        self._fault: DeviceError | None = None

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
        reading = Reading(
            power_mw=nvml.ask("nvmlDeviceGetPowerUsage", gpu) if self._whole else None,
            temperature_c=None if temperature_c is None else signed(temperature_c),
            clock_mhz=clock_mhz,
            utilisation_ppm=None if usage is None else usage.gpu * 10_000,
            throttled=None if mask is None else throttle_reasons(mask),
            ecc_uncorrected=self._ecc_uncorrected(),
            processes=self._processes(),
            energy_mj=nvml.ask("nvmlDeviceGetTotalEnergyConsumption", gpu) if self._whole else None,
        )
        return answers.believed(reading)

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
        processes = self._nvml.ask_first(PROCESSES, self._handle)
        return None if processes is None else len(processes)


def signed(value: int) -> int:
    """Return an unsigned number of 32 bits that a library meant as a signed one, such as a temperature below zero."""
    return value - 2**32 if 2**31 <= value < 2**32 else value


def throttle_reasons(mask: int) -> tuple[str, ...]:
    """Return the names of the reasons in a mask of NVML; one without a name here is "reason_0x..."."""
    bits = [1 << bit for bit in range(mask.bit_length()) if mask >> bit & 1]
    return tuple(sorted(REASONS.get(bit, f"reason_{bit:#x}") for bit in bits if bit != GPU_IDLE))
