"""MetaX's management library ``libmxsml.so``: its functions, structs and constants, each asked for one thing.

Names, argument order and structs are those of MetaX's header MxSml.h (release 2.3.1) and of the published binding
(``gpustack_runtime.detector.pymxsml``). Memory is in KiB, power in mW, temperature in 0.01 C, clocks in MHz and use in
per cent there. A function that came later than the first release is asked where it is: an older driver exposes less.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from ctypes import POINTER, byref, c_char, c_char_p, c_int, c_long, c_uint, c_ulong, c_ulonglong
from typing import Any, ClassVar

from bench.devices.libraries import answers
from bench.devices.libraries.loading import Library, alike
from bench.devices.tools.texts import reported_text

SUCCESS, NO_DEVICE, INVALID_DEVICE_ID, INSUFFICIENT_SIZE, FUNCTION_NOT_FOUND = 0, 2, 6, 10, 999
PERMISSION_DENIED, OPEN_DEVICE_FILE_FAILURE = 8, 21
IDLE = 0x1  # a reason for a low clock that is no throttling
REASONS = {
    0x2: "applications_limit",
    0x4: "over_power",
    0x8: "chip_over_temperature",
    0x10: "vr_over_temperature",
    0x20: "hbm_over_temperature",
    0x40: "thermal_over_temperature",
    0x80: "peak_current",
    0x100: "power_brake",
    0x200: "di_dt",
    0x400: "utilisation_dynamic",
    0x8000_0000: "other",
}
MOST_WAYS, MOST_CLOCKS, MOST_PROCESSES, MOST_SGPUS = 8, 16, 64, 16
UNKNOWN = 0xFFFF_FFFF  # what an unsigned field says where nothing is known


class MxsmlDeviceInfo(ctypes.Structure):
    """A device's attributes."""

    _fields_: ClassVar = [
        ("device_id", c_uint),
        ("type", c_uint),
        ("bdf", c_char * 32),
        ("gpu_id", c_uint),
        ("node_id", c_uint),
        ("uuid", c_char * 96),
        ("brand", c_uint),
        ("mode", c_uint),
        ("name", c_char * 32),
    ]


class MxsmlDeviceIds(ctypes.Structure):
    """Indexes of virtual devices."""

    _fields_: ClassVar = [("number", c_int), ("device_id", c_int * 128)]


class MxsmlMemoryInfo(ctypes.Structure):
    """Memory, KiB."""

    _fields_ = alike(c_long, "visible_total visible_used total used xtt_total xtt_used")


class MxsmlWay(ctypes.Structure):
    """One way of the board's power supply: mV, mA, mW."""

    _fields_: ClassVar = [("voltage", c_uint), ("current", c_uint), ("power", c_uint)]


class MxsmlProcessGpu(ctypes.Structure):
    """What a process has on one GPU."""

    _fields_: ClassVar = [("bdf", c_char * 32), ("gpu_id", c_uint), ("memory_bytes", c_ulong)]


class MxsmlProcess(ctypes.Structure):
    """A process with a context on a GPU."""

    _fields_: ClassVar = [
        ("pid", c_uint),
        ("name", c_char * 64),
        ("gpu_number", c_uint),
        ("gpus", MxsmlProcessGpu * 64),
    ]


class MxsmlEccErrors(ctypes.Structure):
    """Memory errors, counted since they were last reset."""

    _fields_ = alike(c_uint, "sram_corrected sram_uncorrected dram_corrected dram_uncorrected retired_pages")


class MxsmlUnavailable(ctypes.Structure):
    """Why a device is not available."""

    _fields_: ClassVar = [("code", c_int), ("reason", c_char * 64)]


class MxsmlSgpu(ctypes.Structure):
    """A slice of a GPU (sGPU); its quotas in MiB and per cent."""

    _fields_: ClassVar = [
        *alike(
            c_uint, "parent_id sgpu_id memory_quota software_queue_priority compute_quota minor device_queue_priority"
        ),
        ("uuid", c_char * 96),
    ]


# Function -> types of its arguments. Those of `COUNTS` return a number, the error string a text, all others a code.
FUNCTIONS: Mapping[str, tuple[Any, ...]] = {
    "mxSmlInit": (),
    "mxSmlGetErrorString": (c_uint,),
    "mxSmlGetMacaVersion": (c_char_p, POINTER(c_uint)),
    "mxSmlGetDeviceCount": (),
    "mxSmlGetPfDeviceCount": (),
    "mxSmlGetDeviceInfo": (c_uint, POINTER(MxsmlDeviceInfo)),
    "mxSmlGetLimitedDeviceInfo": (c_uint, POINTER(MxsmlDeviceInfo)),
    "mxSmlGetVirtualDevicesByPhysicalId": (c_uint, POINTER(MxsmlDeviceIds)),
    "mxSmlGetDeviceVersion": (c_uint, c_uint, c_char_p, POINTER(c_uint)),
    "mxSmlGetChipSerial": (c_uint, c_char_p, POINTER(c_uint)),
    "mxSmlGetBoardSerial": (c_uint, c_char_p, POINTER(c_uint)),
    "mxSmlGetMemoryInfo": (c_uint, POINTER(MxsmlMemoryInfo)),
    "mxSmlGetTemperatureInfo": (c_uint, c_uint, POINTER(c_int)),
    "mxSmlGetBoardPowerInfo": (c_uint, POINTER(c_uint), POINTER(MxsmlWay)),
    "mxSmlGetBoardPowerLimit": (c_uint, POINTER(c_uint)),
    "mxSmlGetClocks": (c_uint, c_uint, POINTER(c_uint), POINTER(c_uint)),
    "mxSmlGetDpmIpClockInfo": (c_uint, c_uint, POINTER(c_uint), POINTER(c_uint)),
    "mxSmlGetDeviceIpUsage": (c_uint, c_uint, POINTER(c_int)),
    "mxSmlGetCurrentClocksThrottleReason": (c_uint, POINTER(c_ulonglong)),
    "mxSmlGetEccState": (c_uint, POINTER(c_uint)),
    "mxSmlGetTotalEccErrors": (c_uint, POINTER(MxsmlEccErrors)),
    "mxSmlGetSingleGpuProcess": (c_uint, POINTER(c_uint), POINTER(MxsmlProcess)),
    "mxSmlGetDeviceUnavailableReason": (c_uint, POINTER(MxsmlUnavailable)),
    # of the vendor's header alone: the binding has none of these
    "mxSmlGetDeviceState": (c_uint, POINTER(c_int)),
    "mxSmlGetSgpuToggle": (c_uint, POINTER(c_uint)),
    "mxSmlGetSgpuCount": (c_uint,),
    "mxSmlGetSgpuInfo": (c_uint, c_uint, POINTER(MxsmlSgpu)),
}
COUNTS = frozenset({"mxSmlGetDeviceCount", "mxSmlGetPfDeviceCount", "mxSmlGetSgpuCount"})
NEEDED = ("mxSmlInit", "mxSmlGetDeviceCount", "mxSmlGetDeviceInfo", "mxSmlGetBoardPowerInfo", "mxSmlGetClocks")


class Mxsml:
    """The library's functions, each asked for one thing.

    Args:
        library: as it was loaded.
    """

    def __init__(self, library: Library) -> None:
        self._functions = {
            name: library.function(name, *arguments, result=c_char_p if name == "mxSmlGetErrorString" else c_uint)
            for name, arguments in FUNCTIONS.items()
        }
        self._processes = (MxsmlProcess * MOST_PROCESSES)()

    def status(self, function: str, *arguments: Any) -> int:
        """Return the code of a call, `FUNCTION_NOT_FOUND` where this release lacks the function."""
        called = self._functions[function]
        return FUNCTION_NOT_FOUND if called is None else int(called(*arguments))

    def why(self, code: int) -> str:
        """Return what the library says that a code means."""
        called = self._functions["mxSmlGetErrorString"]
        text = None if called is None else text_of(called(code))
        return f"code {code}" if text is None else f"{text} (code {code})"

    def count(self, function: str, *arguments: Any) -> int:
        """Return what a counting function returns; 0 where this release lacks it."""
        number = self.status(function, *arguments)
        return 0 if number == FUNCTION_NOT_FOUND and self._functions[function] is None else number

    def struct(self, function: str, kind: type[Any], *arguments: Any) -> Any:
        """Return the struct that a function fills, its last argument; None where it fails or is missing."""
        filled = kind()
        return filled if self.status(function, *arguments, byref(filled)) == SUCCESS else None

    def number(self, function: str, kind: type[Any], *arguments: Any) -> int | None:
        """Return the number that a function fills in, its last argument; None where it fails or is missing."""
        filled = self.struct(function, kind, *arguments)
        return None if filled is None else int(filled.value)

    def text(self, function: str, size: int, *arguments: Any) -> str | None:
        """Return the text that a function fills in; None where it fails, is missing, or says nothing."""
        buffer, length = ctypes.create_string_buffer(size), c_uint(size)
        return text_of(buffer.value) if self.status(function, *arguments, buffer, byref(length)) == SUCCESS else None

    def power_mw(self, number: int) -> int | None:
        """Return the board's power, the sum over the ways of its supply; None where one of them is unknown."""
        size, ways = c_uint(MOST_WAYS), (MxsmlWay * MOST_WAYS)()
        if self.status("mxSmlGetBoardPowerInfo", number, byref(size), ways) != SUCCESS or size.value > MOST_WAYS:
            return None
        powers = [way.power for way in ways[: size.value]]
        return None if UNKNOWN in powers else answers.power_mw(sum(powers))

    def clock_mhz(self, number: int, domain: int) -> int | None:
        """Return the present clock of a domain."""
        size, clocks = c_uint(MOST_CLOCKS), (c_uint * MOST_CLOCKS)()
        if self.status("mxSmlGetClocks", number, domain, byref(size), clocks) != SUCCESS or not size.value:
            return None
        return answers.clock_mhz(clocks[0])

    def highest_clock_mhz(self, number: int, domain: int) -> int | None:
        """Return the highest clock of a domain's levels."""
        size, clocks = c_uint(MOST_CLOCKS), (c_uint * MOST_CLOCKS)()
        if self.status("mxSmlGetDpmIpClockInfo", number, domain, clocks, byref(size)) != SUCCESS:
            return None
        levels = map(answers.clock_mhz, clocks[: min(size.value, MOST_CLOCKS)])
        return max((level for level in levels if level is not None), default=None)

    def processes(self, number: int) -> int | None:
        """Return how many processes have a context on a device."""
        count = c_uint(MOST_PROCESSES)
        code = self.status("mxSmlGetSingleGpuProcess", number, byref(count), self._processes)
        return int(count.value) if code in (SUCCESS, INSUFFICIENT_SIZE) and count.value != UNKNOWN else None

    def ecc_uncorrected(self, number: int) -> int | None:
        """Return the uncorrected errors of both kinds of memory; None where error correction is off."""
        if self.number("mxSmlGetEccState", c_uint, number) == 0:
            return None
        errors = self.struct("mxSmlGetTotalEccErrors", MxsmlEccErrors, number)
        if errors is None or UNKNOWN in (errors.sram_uncorrected, errors.dram_uncorrected):
            return None
        return int(errors.sram_uncorrected + errors.dram_uncorrected)

    def throttled(self, number: int) -> tuple[str, ...] | None:
        """Return the reasons for which the clocks are throttled."""
        mask = self.number("mxSmlGetCurrentClocksThrottleReason", c_ulonglong, number)
        if mask is None or mask in (UNKNOWN, 2**64 - 1):
            return None
        bits = [1 << bit for bit in range(mask.bit_length()) if mask >> bit & 1]
        return tuple(sorted(REASONS.get(bit, f"reason_{bit:#x}") for bit in bits if bit != IDLE))

    def unavailable(self, number: int) -> str | None:
        """Return why the driver does not let a device be used, one clause; None where it does or does not say."""
        if self.number("mxSmlGetDeviceState", c_int, number) != 0:
            return None
        why = self.struct("mxSmlGetDeviceUnavailableReason", MxsmlUnavailable, number)
        said = None if why is None else text_of(why.reason)
        return f"the driver reports that the GPU is not available ({said or 'it gives no reason'})"

    def slices(self, number: int) -> list[Any]:
        """Return the slices (sGPU) of a device that are seen from here."""
        count = self.count("mxSmlGetSgpuCount", number)
        filled = (self.struct("mxSmlGetSgpuInfo", MxsmlSgpu, number, sgpu) for sgpu in range(MOST_SGPUS))
        return [] if count in (0, UNKNOWN) else [one for one in filled if one is not None] or [None] * min(count, 2)


def text_of(value: bytes | None) -> str | None:
    """Return a text up to its first NUL, trimmed; None for a placeholder and for bytes that are no text."""
    return reported_text(answers.text(value))
