"""CNDev's functions and the structures that they fill, of cndev.h, as far as petaseal asks for them.

A structure with a `version` is filled only where the version is one that the library knows; the caller sets it. The
layouts are those of the versions 5 and 6, which are alike. Source: Cambricon, cndev.h of CNToolkit 3 and 4.
"""

from __future__ import annotations

from ctypes import (
    POINTER,
    Structure,
    c_char,
    c_char_p,
    c_int32,
    c_int64,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any

from bench.devices.libraries.loading import alike

VERSION = ("version", c_int32)


class CndevCardInfo(Structure):
    """How many cards there are."""

    _fields_ = (VERSION, ("number", c_uint32))


class CndevLibVersion(Structure):
    """The library's version."""

    _fields_ = (VERSION, ("major", c_uint32), ("minor", c_uint32), ("build", c_uint32))


class CndevVersionInfo(Structure):
    """Versions of the card's controller and of the driver."""

    _fields_ = (VERSION, ("mcu", c_uint32 * 3), ("driver", c_uint32 * 3))


class CndevUUID(Structure):
    """The card's UUID."""

    _fields_ = (VERSION, ("uuid", c_char * 37), ("ncsUUID64", c_uint64))


class CndevCardSN(Structure):
    """Serial numbers of the card and of its mother board; their hexadecimal digits are what is printed on them."""

    _fields_ = (VERSION, ("sn", c_uint64), ("motherBoardSn", c_uint64))


class CndevCardName(Structure):
    """The card's name, as a number that the library has a text for."""

    _fields_ = (VERSION, ("id", c_int32))


class CndevPCIeInfoV2(Structure):
    """Where the card is on the PCI bus."""

    _fields_ = (
        ("subsystemId", c_uint32),
        ("deviceId", c_uint32),
        ("vendor", c_uint16),
        ("subsystemVendor", c_uint16),
        *alike(c_uint32, "domain bus device function"),
        ("moduleId", c_uint16),
        ("slotId", c_uint16),
        ("reserved", c_uint32 * 8),
    )


class CndevPCIeInfo(Structure):
    """The same of older releases."""

    _fields_ = (
        VERSION,
        ("subsystemId", c_uint32),
        ("deviceId", c_uint32),
        ("vendor", c_uint16),
        ("subsystemVendor", c_uint16),
        *alike(c_uint32, "domain bus device function"),
        ("physicalSlot", c_char_p),
        ("slotID", c_int32),
    )


class CndevMemoryInfoV2(Structure):
    """Memory, in units that the header calls MB and cnmon prints as MiB."""

    _fields_ = (
        *alike(c_int64, "physicalMemoryTotal physicalMemoryUsed reservedMemory virtualMemoryTotal virtualMemoryUsed"),
        ("globalMemory", c_uint64),
        ("reserved", c_uint64 * 16),
    )


class CndevMemoryInfo(Structure):
    """The same of older releases."""

    _fields_ = (
        VERSION,
        *alike(c_int64, "physicalMemoryTotal physicalMemoryUsed virtualMemoryTotal virtualMemoryUsed channelNumber"),
        ("channelMemoryUsed", c_int64 * 20),
        ("globalMemory", c_uint64),
    )


class CndevDevicePowerInfo(Structure):
    """Power and its limit, W."""

    _fields_ = (*alike(c_int32, "usage cap machine tdp maxPower"), ("reserved", c_int32 * 16))


class CndevPowerInfo(Structure):
    """The same of older releases."""

    _fields_ = (
        VERSION,
        *alike(c_int32, "usage cap usageDecimal machine capDecimal"),
        *alike(c_uint16, "thermalDesignPower instantaneousPowerUsage instantaneousPowerUsageDecimal"),
    )


class CndevPowerLimit(Structure):
    """A limit of power, W."""

    _fields_ = (VERSION, ("powerLimit", c_uint16), ("powerLimitDecimal", c_uint16))


class CndevPowerLimitRange(Structure):
    """The least and the highest limit of power that can be set, W."""

    _fields_ = (VERSION, *alike(c_uint16, "minPowerLimit minPowerLimitDecimal maxPowerLimit maxPowerLimitDecimal"))


class CndevTemperatureInfo(Structure):
    """Temperatures, degrees Celsius."""

    _fields_ = (
        VERSION,
        ("board", c_int32),
        ("cluster", c_int32 * 20),
        ("memoryDie", c_int32 * 8),
        *alike(c_int32, "chip airInlet airOutlet memory videoInput cpu isp"),
    )


class CndevFrequencyInfo(Structure):
    """Clocks of the cores, MHz: now, the default, and the range that can be set."""

    _fields_ = (
        VERSION,
        ("boardFreq", c_int32),
        ("ddrFreq", c_int32),
        ("overtempDfsFlag", c_uint8),
        ("fastDfsFlag", c_uint8),
        ("mluClusterFreqCount", c_uint16),
        ("mluClusterFreq", c_uint16 * 20),
        ("boardDefaultFreq", c_int32),
        ("boardFreqArange", c_int32 * 2),
    )


class CndevUtilizationInfo(Structure):
    """Utilisation of all cores and of each, %."""

    _fields_ = (VERSION, ("averageCoreUtilization", c_int32), ("coreUtilization", c_int32 * 80))


class CndevECCInfo(Structure):
    """Counts of memory errors since the driver was loaded."""

    _fields_ = (
        VERSION,
        *alike(c_uint64, "oneBitError multipleOneError multipleError multipleMultipleError correctedError"),
        *alike(c_uint64, "uncorrectedError totalError addressForbiddenError"),
    )


class CndevMode(Structure):
    """A switch: 0 off, 1 on. So are cndevEccMode_t, cndevMimMode_t and cndevSMLUMode_t laid out."""

    _fields_ = (VERSION, ("mode", c_int32))


class CndevCount(Structure):
    """A count of cores."""

    _fields_ = (VERSION, ("count", c_int32))


class CndevVfState(Structure):
    """A bit for each virtual function of the card that is in use."""

    _fields_ = (VERSION, ("vfState", c_int32))


class CndevProcessInfo(Structure):
    """A process with a context on the card."""

    _fields_ = (VERSION, ("pid", c_uint32), ("physicalMemoryUsed", c_uint64), ("virtualMemoryUsed", c_uint64))


class CndevThrottle(Structure):
    """Reasons for a lowered clock, each 0 or 1, in the order of `THROTTLE_REASONS`."""

    _fields_ = (VERSION, ("reasons", c_int32 * 6))


THROTTLE_REASONS = ("tdp", "power_setting", "clock_setting", "frequency_locked", "power_brake", "thermal_slowdown")


class CndevHealth(Structure):
    """Whether the card and its driver are sound."""

    _fields_ = (VERSION, ("health", c_int32), ("deviceState", c_int32), ("driverState", c_int32))


class CndevIncident(Structure):
    """One finding of the library about a card that is not sound."""

    _fields_ = (
        ("system", c_int32),
        ("health", c_int32),
        ("msg", c_char * 512),
        ("device_id", c_uint32),
        ("bdf", c_uint32),
        ("code", c_int32),
        ("category", c_uint32),
        ("severity", c_uint32),
    )


class CndevHealthV2(Structure):
    """Whether the card and its driver are sound, and what is not; the library fills all places for findings."""

    _fields_ = (
        *alike(c_int32, "health deviceState driverState overallHealth"),
        ("incident_count", c_uint32),
        ("incidents", CndevIncident * 64),
        ("reserved", c_uint32 * 8),
    )


Handle = c_int32
Out = c_void_p  # a structure
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "cndevInit": (c_int32,),
    "cndevRelease": (),
    "cndevGetDeviceHandleByIndex": (c_int32, POINTER(Handle)),
    "cndevGetCardNameStringByDevId": (Handle,),
    "cndevGetCardNameString": (c_int32,),
    "cndevGetDeviceCount": (Out,),
    "cndevGetLibVersion": (Out,),
    "cndevGetProcessInfo": (POINTER(c_uint32), Out, Handle),
    "cndevGetEccMode": (Out, Out, Handle),
} | dict.fromkeys(
    (
        "cndevGetVersionInfo",
        "cndevGetUUID",
        "cndevGetCardSN",
        "cndevGetCardName",
        "cndevGetPCIeInfoV2",
        "cndevGetPCIeInfo",
        "cndevGetMemoryUsageV2",
        "cndevGetMemoryUsage",
        "cndevGetDevicePowerInfo",
        "cndevGetPowerInfo",
        "cndevGetPowerManagementDefaultLimitation",
        "cndevGetPowerManagementLimitationRange",
        "cndevGetTemperatureInfo",
        "cndevGetFrequencyInfo",
        "cndevGetDeviceUtilizationInfo",
        "cndevGetECCInfo",
        "cndevGetPerformanceThrottleReason",
        "cndevGetCardHealthStateV2",
        "cndevGetCardHealthState",
        "cndevGetCoreCount",
        "cndevGetMimMode",
        "cndevGetSMLUMode",
        "cndevGetCardVfState",
    ),
    (Out, Handle),
)
TEXTS = ("cndevGetCardNameStringByDevId", "cndevGetCardNameString")  # the functions that return a text
# What tells the same, by the names of newer and of older releases.
PLACE = (("cndevGetPCIeInfoV2", CndevPCIeInfoV2), ("cndevGetPCIeInfo", CndevPCIeInfo))
MEMORY = (("cndevGetMemoryUsageV2", CndevMemoryInfoV2), ("cndevGetMemoryUsage", CndevMemoryInfo))
POWER = (("cndevGetDevicePowerInfo", CndevDevicePowerInfo), ("cndevGetPowerInfo", CndevPowerInfo))
HEALTH = (("cndevGetCardHealthStateV2", CndevHealthV2), ("cndevGetCardHealthState", CndevHealth))
