"""A fake NVIDIA driver, compiled from C: libnvidia-ml.so.1 and libcuda.so.1 that answer as a script says (nvidia.h).

The back end under test and pynvml are the real ones. They load the fakes in processes of their own, which find them
through LD_LIBRARY_PATH and the script through FAKE_NVIDIA.
"""

from __future__ import annotations

import os
import shutil
from functools import cache
from pathlib import Path

from tests.fake_libraries import compile_library, lines

SOURCES = Path(__file__).parent
LIBRARIES = {"libnvidia-ml.so.1": "nvml.c", "libcuda.so.1": "cuda.c"}
NEWER = (  # functions that an older driver does not have
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetTemperatureV",
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetTotalEnergyConsumption",
    "nvmlEventSetCreate",
    "nvmlEventSetFree",
    "nvmlDeviceGetSupportedEventTypes",
    "nvmlDeviceRegisterEvents",
    "nvmlEventSetWait_v2",
    "cuDeviceGetUuid_v2",
)
GIB = 2**30


@cache
def built(old: bool = False) -> Path:
    """Compile the fakes, once a session, and return their folder. Without a compiler the test is skipped, save in CI.

    Args:
        old: as an older driver, which lacks functions.
    """
    without = NEWER if old else ()
    folder = compile_library(str(SOURCES / "nvml.c"), "libnvidia-ml.so.1", without=without).parent
    shutil.copy(compile_library(str(SOURCES / "cuda.c"), "libcuda.so.1", without=without), folder)
    return folder


def uuid(index: int) -> str:
    """Return the uuid of a fake GPU."""
    return f"GPU-{index:08x}-a5a5-4b4b-8c8c-0123456789ab"


def mig_uuid(index: int) -> str:
    """Return the uuid of a fake MIG instance."""
    return f"MIG-{index:08x}-5a5a-5c5c-9d9d-ba9876543210"


def gpu(index: int = 0, **changes: object) -> str:
    """Return the lines of a GPU; a change of None leaves a line out."""
    values: dict[str, object] = {
        "uuid": uuid(index),
        "name": "NVIDIA Fake-1",
        "serial": f"165002{index:07d}",
        "part": "900-21010-0300-030",
        "vbios": "96.00.99.00.01",
        "pci": f"0:{0xB0 + index:x}",
        "memory": 4 * GIB,
        "free": 2 * GIB,
        "sms": 132,
        "l2": 2**20,
        "max_clock": 1980,
        "capability": "9 0",
        "ecc": 1,
        "clock": 1755,
        "power": 650_000,
        "temperature": 61,
        "usage": 100,
        "processes": "0 @2 1",  # ours is there from the second reading on
    }
    return lines("gpu", values | changes)


def mig(index: int, **changes: object) -> str:
    """Return the lines of a MIG instance on the GPU before."""
    values: dict[str, object] = {
        "uuid": mig_uuid(index),
        "name": "NVIDIA Fake-1 MIG 1g.1gb",
        "memory": GIB,
        "free": GIB // 2,
        "sms": 16,
        "l2": 2**17,
        "gi": 7 + index,
        "ci": 0,
        "processes": "0 @2 1",
    }
    return lines("mig", values | changes)


def environment(folder: Path, script: str, *, libraries: Path | None = None, **more: str) -> dict[str, str]:
    """Return the environment of a process on a node with this fake.

    Args:
        folder: where the script is written.
        script: what the fake does.
        libraries: folder of the fakes; None for the newer driver.
        more: variables besides.
    """
    path = folder / "fake-nvidia.txt"
    path.write_text(script)
    fakes = str(built() if libraries is None else libraries)
    plain = {name: value for name, value in os.environ.items() if not name.startswith("CUDA_")}
    # One thread each: workers whose threads wait for each other on few cores are slower than any device.
    fixed = {"LD_LIBRARY_PATH": fakes, "FAKE_NVIDIA": str(path), "OPENBLAS_NUM_THREADS": "1"}
    return {**plain, **fixed, **more}
