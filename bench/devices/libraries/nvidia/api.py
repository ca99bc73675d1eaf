"""NVML's functions over a library that copies NVML under another file name, by ctypes: the 30 that are asked.

pynvml loads ``libnvidia-ml.so.1`` alone. `NvmlApi` offers pynvml's functions, with its names, arguments and answers,
over any library whose functions are NVML's behind a prefix; `bench.devices.libraries.nvml.Nvml` reads either.
Source: NVML API reference; Iluvatar, go-ixml (pkg/ixml/api.h).
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

from bench.devices.libraries.loading import Library, alike

UINT, ULONG, POINTER = ctypes.c_uint, ctypes.c_ulonglong, ctypes.c_void_p
TEXT = ctypes.c_char * 96  # the longest of NVML's texts
TOO_SMALL = 7  # nvmlReturn_t
INITIALISED = "nvmlInitWithFlags"


class PciInfo(ctypes.Structure):
    """nvmlPciInfo_t."""

    _fields_ = (
        ("busIdLegacy", ctypes.c_char * 16),
        *alike(UINT, "domain bus device pciDeviceId pciSubSystemId"),
        ("busId", ctypes.c_char * 32),
    )


class MemoryInfo(ctypes.Structure):
    """nvmlMemory_t, bytes."""

    _fields_ = (("total", ULONG), ("free", ULONG), ("used", ULONG))


class Utilization(ctypes.Structure):
    """nvmlUtilization_t, percent."""

    _fields_ = (("gpu", UINT), ("memory", UINT))


class Counted(ctypes.c_uint):
    """The number of items for which a null pointer has no room: no layout of an item needs to be known."""


class NvmlFunction(NamedTuple):
    """How a function is called.

    Args:
        names: behind the library's prefix, newest first; one that begins with a small letter is whole.
        arguments: that go in, in order.
        answers: that come back by reference, behind them; a text is followed by its size.
        pick: which of several answers counts; None for all.
    """

    names: tuple[str, ...]
    arguments: tuple[Any, ...]
    answers: tuple[Any, ...]
    pick: int | None = None


def _of_device(name: str, *answers: Any, arguments: tuple[Any, ...] = (), older: tuple[str, ...] = ()) -> NvmlFunction:
    return NvmlFunction((name, *older), (POINTER, *arguments), answers)


FUNCTIONS: dict[str, NvmlFunction] = {  # by pynvml's names
    INITIALISED: NvmlFunction(("InitWithFlags",), (UINT,), ()),
    "nvmlInit_v2": NvmlFunction(("Init_v2", "Init"), (), ()),
    "nvmlShutdown": NvmlFunction(("Shutdown",), (), ()),
    "nvmlSystemGetDriverVersion": NvmlFunction(("SystemGetDriverVersion",), (), (TEXT,)),
    "nvmlSystemGetNVMLVersion": NvmlFunction(("SystemGetNVMLVersion", "SystemGetHGMLVersion"), (), (TEXT,)),
    "nvmlDeviceGetCount": NvmlFunction(("DeviceGetCount_v2",), (), (UINT,)),
    "nvmlDeviceGetHandleByIndex": NvmlFunction(("DeviceGetHandleByIndex_v2",), (UINT,), (POINTER,)),
    "nvmlDeviceGetName": _of_device("DeviceGetName", TEXT),
    "nvmlDeviceGetUUID": _of_device("DeviceGetUUID", TEXT),
    "nvmlDeviceGetSerial": _of_device("DeviceGetSerial", TEXT),
    "nvmlDeviceGetBoardPartNumber": _of_device("DeviceGetBoardPartNumber", TEXT),
    "nvmlDeviceGetVbiosVersion": _of_device("DeviceGetVbiosVersion", TEXT),
    "nvmlDeviceGetPciInfo": _of_device("DeviceGetPciInfo_v3", PciInfo),
    "nvmlDeviceGetMemoryInfo": _of_device("DeviceGetMemoryInfo", MemoryInfo),
    "nvmlDeviceGetVirtualizationMode": _of_device("DeviceGetVirtualizationMode", ULONG),
    "nvmlDeviceGetMaxClockInfo": _of_device("DeviceGetMaxClockInfo", UINT, arguments=(UINT,)),
    "nvmlDeviceGetApplicationsClock": _of_device("DeviceGetApplicationsClock", UINT, arguments=(UINT,)),
    "nvmlDeviceGetEnforcedPowerLimit": _of_device(
        "DeviceGetEnforcedPowerLimit", UINT, older=("DeviceGetPowerManagementLimit",)
    ),
    "nvmlDeviceGetPowerManagementDefaultLimit": _of_device("DeviceGetPowerManagementDefaultLimit", UINT),
    "nvmlDeviceGetPowerManagementLimitConstraints": _of_device("DeviceGetPowerManagementLimitConstraints", UINT, UINT),
    "nvmlDeviceGetPersistenceMode": _of_device("DeviceGetPersistenceMode", UINT),
    "nvmlDeviceGetComputeMode": _of_device("DeviceGetComputeMode", UINT),
    "nvmlDeviceGetEccMode": _of_device("DeviceGetEccMode", UINT, UINT),
    "nvmlDeviceGetClockInfo": _of_device("DeviceGetClockInfo", UINT, arguments=(UINT,)),
    "nvmlDeviceGetPowerUsage": _of_device("DeviceGetPowerUsage", UINT),
    "nvmlDeviceGetTemperature": _of_device("DeviceGetTemperature", UINT, arguments=(UINT,)),
    "nvmlDeviceGetUtilizationRates": _of_device("DeviceGetUtilizationRates", Utilization),
    "nvmlDeviceGetCurrentClocksThrottleReasons": _of_device(
        "DeviceGetCurrentClocksThrottleReasons", ULONG, older=("DeviceGetCurrentClocksEventReasons",)
    ),
    "nvmlDeviceGetTotalEccErrors": _of_device("DeviceGetTotalEccErrors", ULONG, arguments=(UINT, UINT)),
    "nvmlDeviceGetComputeRunningProcesses_v3": _of_device(
        "DeviceGetComputeRunningProcesses_v3",
        Counted,
        older=("DeviceGetComputeRunningProcesses_v2", "DeviceGetComputeRunningProcesses"),
    ),
    "nvmlDeviceGetTotalEnergyConsumption": _of_device("DeviceGetTotalEnergyConsumption", ULONG),
}
NEEDED = ("DeviceGetCount_v2", "DeviceGetHandleByIndex_v2", "DeviceGetName")


class NvmlLikeError(Exception):
    """A function answered a code other than success.

    Args:
        value: of nvmlReturn_t.
    """

    def __init__(self, value: int) -> None:
        super().__init__(f"code {value}")
        self.value = value


class NvmlApi:
    """The functions of `FUNCTIONS` as pynvml has them; an `AttributeError` says that the library lacks one.

    Args:
        library: that is asked.
        prefix: of its functions, such as "nvml".
        functions: that are asked of it, by pynvml's names.
    """

    NVMLError = NvmlLikeError

    def __init__(self, library: Library, prefix: str, functions: Mapping[str, NvmlFunction] = FUNCTIONS) -> None:
        self._library = library
        self._prefix = prefix
        self._functions = functions

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._functions:
            raise AttributeError(name)
        function = self._functions[name]
        types = [*function.arguments, *(kind for answer in function.answers for kind in _sent_for(answer))]
        wholes = (f"{self._prefix}{each}" if each[0].isupper() else each for each in function.names)
        pointer = next((exported for whole in wholes if (exported := self._library.function(whole, *types))), None)
        if pointer is None:
            raise AttributeError(name)
        call = partial(_call, pointer, function)
        setattr(self, name, call)
        return call

    def nvmlInit(self) -> None:
        """Initialise the library by whichever of NVML's functions for it it has."""
        if hasattr(self, INITIALISED):
            self.nvmlInitWithFlags(0)
        else:
            self.nvmlInit_v2()


def _sent_for(answer: Any) -> tuple[Any, ...]:
    """Return the types of what is sent for an answer: where it is put, and what follows that."""
    return (POINTER, UINT) if answer is TEXT else (POINTER, POINTER) if answer is Counted else (POINTER,)


def _call(pointer: Any, function: NvmlFunction, *arguments: Any) -> Any:
    """Return what a function answers, as pynvml does: a number, a text, a structure, or a list of several.

    Raises:
        NvmlLikeError: it answers another code than success.
    """
    answers = [kind() for kind in function.answers]
    sent = list(arguments[: len(function.arguments)])
    for answer in answers:
        sent.append(ctypes.byref(answer))
        sent += [ctypes.sizeof(answer)] if isinstance(answer, TEXT) else [None] if isinstance(answer, Counted) else []
    code = pointer(*sent)
    if code and not (code == TOO_SMALL and function.answers == (Counted,)):
        raise NvmlLikeError(code)
    values = [_value(answer) for answer in answers]
    return values[function.pick or 0] if len(values) == 1 or function.pick is not None else values


def _value(answer: Any) -> Any:
    if isinstance(answer, TEXT):
        return answer.value.decode()
    if isinstance(answer, Counted):
        return range(answer.value)  # pynvml lists them; nothing but their number is asked for
    return answer if isinstance(answer, ctypes.Structure) else answer.value
