"""What CUDA's driver library shows to a process, in its own order. No context is created; nothing of ours is imported.

libcuda reads CUDA_VISIBLE_DEVICES once, when it is initialised: a process that has looked can no longer choose its
device. So this file is also a program, run by its path, which looks for another process and prints what it saw.

Source: CUDA Driver API, initialisation and device management.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import signal
from typing import Any, NamedTuple

LIBRARY = "libcuda.so.1"
LIBRARY_NOT_FOUND = -1
NO_DEVICE = 100
PR_SET_PDEATHSIG = 1
MULTIPROCESSORS, L2_BYTES, CAPABILITY_MAJOR, CAPABILITY_MINOR = 16, 38, 75, 76  # CUdevice_attribute


class CudaError(Exception):
    """The library cannot be loaded, or one of its functions failed: the code and its name."""

    def __init__(self, code: int, name: str) -> None:
        self.code = code
        self.name = name
        super().__init__(code, name)


class Visible(NamedTuple):
    """One device as CUDA shows it."""

    uuid: str  # 32 hex digits: of the GPU, or of the MIG instance
    pci_address: str
    units: int | None
    cache_bytes: int | None
    capability: tuple[int, int] | None


def look() -> list[Visible]:
    """Return the devices that CUDA shows to this process, in its order; the choice is then made for good.

    Raises:
        CudaError: the library is missing, or there is no device to be seen.
    """
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise CudaError(LIBRARY_NOT_FOUND, str(error)) from None

    def call(name: str, *args: Any) -> None:
        code = getattr(library, name)(*args)
        if code != 0:
            text = ctypes.c_char_p()
            library.cuGetErrorName(code, ctypes.byref(text))
            raise CudaError(code, (text.value or b"unknown").decode("ascii", "replace"))

    # With the old function a MIG instance would bear the name of its GPU; drivers before R470 have no other.
    get_uuid = "cuDeviceGetUuid_v2" if hasattr(library, "cuDeviceGetUuid_v2") else "cuDeviceGetUuid"

    def attribute(device: ctypes.c_int, number: int) -> int | None:
        value = ctypes.c_int()
        try:
            call("cuDeviceGetAttribute", ctypes.byref(value), number, device)
        except (CudaError, AttributeError):
            return None
        return value.value if value.value > 0 or number == CAPABILITY_MINOR else None

    count = ctypes.c_int()
    call("cuInit", 0)
    call("cuDeviceGetCount", ctypes.byref(count))
    seen = []
    for ordinal in range(count.value):
        device, uuid, address = ctypes.c_int(), (ctypes.c_ubyte * 16)(), ctypes.create_string_buffer(32)
        call("cuDeviceGet", ctypes.byref(device), ordinal)
        call(get_uuid, ctypes.byref(uuid), device)
        call("cuDeviceGetPCIBusId", address, len(address), device)
        major, minor = attribute(device, CAPABILITY_MAJOR), attribute(device, CAPABILITY_MINOR)
        seen.append(
            Visible(
                uuid=bytes(uuid).hex(),
                pci_address=address.value.decode("ascii", "replace"),
                units=attribute(device, MULTIPROCESSORS),
                cache_bytes=attribute(device, L2_BYTES),
                capability=None if major is None or minor is None else (major, minor),
            )
        )
    return seen


def main() -> None:
    """Print what is visible as one line of JSON: a list of devices, or the code and name of an error."""
    with contextlib.suppress(OSError, AttributeError):  # a driver that hangs must not outlive whoever asked
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        answer: list[Any] | dict[str, Any] = list(look())
    except CudaError as error:
        answer = {"code": error.code, "name": error.name}
    except AttributeError as error:  # what is called libcuda.so.1 lacks a function of CUDA 4
        answer = {"code": LIBRARY_NOT_FOUND, "name": str(error)}
    print(json.dumps(answer))  # noqa: T201


if __name__ == "__main__":
    main()
