"""Nodes with a library that copies NVML, or with ROCm's older one: compiled from C, put where the vendor does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.devices.libraries.nvml_like import HgmlSource, IxmlSource, NvmlLikeSource
from tests.fake_libraries import compile_library, install, lines, write_script
from tests.fake_nvidia import SOURCES

NVML = str(SOURCES / "nvml.c")
IXML_LACKS = (  # which go-ixml's header does not have
    "nvmlInitWithFlags",
    "nvmlDeviceGetEnforcedPowerLimit",
    "nvmlDeviceGetTotalEccErrors",
    "nvmlDeviceGetTotalEnergyConsumption",
    "nvmlDeviceGetComputeRunningProcesses_v2",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetVirtualizationMode",
    "nvmlDeviceGetApplicationsClock",
    "nvmlDeviceGetCurrentClocksEventReasons",
)
FOLDERS = {IxmlSource: "usr/local/corex/lib64", HgmlSource: "opt/hyhal/lib"}
ILUVATAR, HYGON, T_HEAD = 0x1E3E, 0x1D94, 0x1DED  # PCI vendor ids


def ixml(*without: str) -> Path:
    """Return a compiled ``libixml.so`` with Iluvatar's functions, but for some."""
    return compile_library(NVML, "libixml.so", without=(*IXML_LACKS, *without), options=("-DIXML",))


def hgml(*without: str) -> Path:
    """Return a compiled ``libhgml.so`` with all functions of NVML, but for some."""
    return compile_library(NVML, "libhgml.so", without=without, prefixes=("nvml", "hgml"))


def chip(index: int = 0, more: tuple[str, ...] = (), **changes: object) -> str:
    """Return the lines of one device; a change of None leaves a line out."""
    values: dict[str, object] = {
        "uuid": f"GPU-{index:08x}-1111-2222-3333-444455556666",
        "name": "Fake BI",
        "serial": f"31{index:07d}",
        "part": "BI-0031-7",
        "vbios": "3.1.2.0017",
        "pci": f"0:{0x31 + index:x}",
        "pci_ids": f"{0x0001 << 16 | ILUVATAR:#x}",
        "memory": 32 * 2**30,
        "free": 2**30,
        "max_clock": 1500,
        "ecc": 1,
        "clock": 1350,
        "power": 187_000,
        "temperature": 58,
        "usage": 97,
        "uncorrected": 2,
        "processes": 1,
        "power_limit": 250_000,
        "default_limit": 250_000,
        "max_limit": 300_000,
    }
    return lines("gpu", values | changes, more)


def opened(
    monkeypatch: pytest.MonkeyPatch,
    root: Path,
    script: str,
    kind: type[NvmlLikeSource] = IxmlSource,
    library: Path | None = None,
    folder: str | None = None,
) -> Any:
    """Return a source over a library that answers as a script says.

    Args:
        monkeypatch: of the test.
        root: of the node's file system.
        script: what the library answers.
        kind: of source.
        library: compiled; None for Iluvatar's or Hygon's as a whole.
        folder: where it lies; None for the vendor's first.
    """
    made = library or (ixml() if kind is IxmlSource else hgml())
    install(made, root, folder or FOLDERS[kind])
    monkeypatch.setenv("FAKE_NVIDIA", str(write_script(root, script)))
    return kind.open(root)
