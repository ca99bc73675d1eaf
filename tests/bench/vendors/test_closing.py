"""A source gives back what it takes: it is closed by whoever opened it, and a thousand looks cost no file or memory."""

from __future__ import annotations

import gc
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest

from bench.devices.libraries import cndev
from bench.devices.libraries.amdgpu import AmdgpuSource
from bench.devices.libraries.amdsmi import AmdSmiSource
from bench.devices.libraries.cndev import CndevSource
from bench.devices.libraries.dcmi import DcmiSource
from bench.devices.libraries.mtml import FOLDERS as MTML_FOLDERS
from bench.devices.libraries.mtml import MtmlSource
from bench.devices.libraries.mxsml import MxsmlSource
from bench.devices.libraries.nvml_like import HgmlSource, IxmlSource
from bench.devices.libraries.rsmi import RsmiSource
from bench.devices.source import DeviceSource, Fault, ListedDevice
from bench.devices.vendor import VendorBackend
from bench.errors import InputError
from tests.bench.vendors import (
    nvml_copies,
    test_amdsmi,
    test_cndev,
    test_dcmi,
    test_mtml,
    test_mxsml,
    test_rsmi,
)
from tests.fake_amdgpu import build, mi300x
from tests.fake_libraries import compile_library, install, lines, write_script


class Case(NamedTuple):
    """A source and its fake library: how it is made, where it lies, which variable names its script, and that."""

    source: type[DeviceSource]
    library: Callable[[], Path] | None
    folder: str = ""
    variable: str = ""
    script: str = ""
    ends: str | None = None  # the function that ends what the source began; None where the vendor has none


CASES = {
    "amdgpu": Case(AmdgpuSource, None),
    "amdsmi": Case(
        AmdSmiSource,
        lambda: compile_library("amdsmi.c", "libamd_smi.so"),
        test_amdsmi.FOLDER,
        "FAKE_AMDSMI",
        lines("device", test_amdsmi.GPU) + lines("device", test_amdsmi.SECOND),
        "amdsmi_shut_down",
    ),
    "dcmi": Case(
        DcmiSource, lambda: compile_library("dcmi.c", "libdcmi.so"), test_dcmi.FOLDER, "FAKE_DCMI", test_dcmi.PAIR
    ),
    "cndev": Case(
        CndevSource,
        lambda: compile_library("cndev.c", "libcndev.so"),
        f"{cndev.HOME}/lib64",
        "FAKE_CNDEV",
        test_cndev.mlu(0) + test_cndev.mlu(1),
        "cndevRelease",
    ),
    "hgml": Case(
        HgmlSource,
        nvml_copies.hgml,
        nvml_copies.FOLDERS[HgmlSource],
        "FAKE_NVIDIA",
        "".join(nvml_copies.chip(index, pci_ids=hex(nvml_copies.HYGON)) for index in range(2)),
        "hgmlShutdown",
    ),
    "ixml": Case(
        IxmlSource,
        nvml_copies.ixml,
        nvml_copies.FOLDERS[IxmlSource],
        "FAKE_NVIDIA",
        nvml_copies.chip(0) + nvml_copies.chip(1),
        "nvmlShutdown",
    ),
    "rsmi": Case(
        RsmiSource,
        test_rsmi.rsmi,
        test_rsmi.FOLDER,
        "FAKE_RSMI",
        test_rsmi.dcu(0) + test_rsmi.dcu(1),
        "rsmi_shut_down",
    ),
    "mtml": Case(
        MtmlSource,
        lambda: compile_library("mtml.c", "libmtml.so"),
        MTML_FOLDERS[-1],
        "FAKE_MTML",
        test_mtml.gpu(0) + test_mtml.gpu(1),
        "mtmlLibraryShutDown",
    ),
    "mxsml": Case(
        MxsmlSource,
        lambda: compile_library("mxsml.c", "libmxsml.so"),
        test_mxsml.FOLDER,
        "FAKE_MXSML",
        lines("device", test_mxsml.GPU) + lines("device", test_mxsml.SECOND),
    ),
}


def node(case: Case, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set a node up; return the file in which its library logs its calls."""
    if case.library is None:
        build(root, mi300x(2))
        return root / "log"
    install(case.library(), root, case.folder)
    monkeypatch.delenv("NEUWARE_HOME", raising=False)
    monkeypatch.setenv(case.variable, str(write_script(root, f"log {root / 'log'}\n" + case.script)))
    return root / "log"


def backend(case: Case, root: Path, *more: type[DeviceSource]) -> VendorBackend:
    """Return a back end that reads through one source, and then others."""

    class Backend(VendorBackend):
        kind = "acme"
        vendor = "Acme"
        vendor_ids = frozenset({0xFFF1})
        sources = (case.source, *more)
        variables = (("ACME_VISIBLE_DEVICES",),)

    return Backend(root)


def calls(log: Path, function: str) -> int:
    return sum(line.split()[1] == function for line in log.read_text().splitlines())


class Open(DeviceSource):
    """A source that says whether it is open."""

    exposes: ClassVar[tuple[str, ...]] = ()
    listed: ClassVar[list[ListedDevice]] = []
    open_: ClassVar[int] = 0

    @classmethod
    def open(cls, root: Path) -> Any:
        """Open the source."""
        Open.open_ += 1
        return cls(root, "acme", None, None)

    def devices(self) -> list[ListedDevice]:
        """Return what the test says."""
        return self.listed

    def close(self) -> None:
        """Close the source."""
        Open.open_ -= 1


FAULT = Fault("device-failed", "is broken")


@pytest.mark.parametrize("rows", [[], [ListedDevice(0, "A1", fault=FAULT)]], ids=["none is listed", "all are broken"])
def test_a_source_that_is_passed_over_is_closed(tmp_path: Path, rows: list[ListedDevice]) -> None:
    class First(Open):
        listed = rows

    class Last(Open):
        listed: ClassVar[list[ListedDevice]] = [ListedDevice(0, "A1")]

    Open.open_ = 0
    vendor = backend(Case(First, None), tmp_path, Last)
    source, _, skipped = vendor.listing([])
    assert (Open.open_, len(skipped), type(source)) == (1, 1, Last)
    source.close()
    assert [one.device.device for one in vendor.look("0")] == ["acme:0"]
    assert Open.open_ == 0


def test_a_source_is_closed_where_no_device_is_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class One(Open):
        listed: ClassVar[list[ListedDevice]] = [ListedDevice(0, "A1")]

    Open.open_ = 0
    vendor = backend(Case(One, None), tmp_path)
    found = vendor.look("0")
    monkeypatch.setenv("ACME_VISIBLE_DEVICES", "7")
    for ask in (lambda: vendor.look("0"), lambda: vendor.watch(found)):
        with pytest.raises(InputError, match="names no Acme device"):
            ask()
    assert Open.open_ == 0


@pytest.mark.parametrize("name", CASES)
def test_what_a_library_began_is_ended(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    log = node(case, tmp_path, monkeypatch)
    vendor = backend(case, tmp_path)
    found = vendor.look("0")
    assert case.ends is None or calls(log, case.ends) == 1
    watch = vendor.watch(found)
    assert watch.read()
    assert case.ends is None or calls(log, case.ends) == 1
    watch.close()
    assert case.ends is None or calls(log, case.ends) == 2


LOOKS = 400


@pytest.mark.parametrize("name", CASES)
def test_hundreds_of_looks_take_no_file_and_no_memory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    node(case, tmp_path, monkeypatch)
    source = case.source.open(tmp_path)
    rows = source.devices()
    look = source.readings(rows)
    assert len(look) == len(rows) == 2

    def looks(count: int) -> tuple[int, int]:
        for _ in range(count):
            source.readings(rows)
        gc.collect()
        return len(os.listdir("/proc/self/fd")), tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        files, size = looks(100)
        files_after, size_after = looks(LOOKS)
    finally:
        tracemalloc.stop()
        source.close()
    assert files_after <= files
    assert size_after - size < 24 * LOOKS  # bytes of Python's memory: the smallest object takes as many
