"""What each source reports as its version: one further run of a tool at most, and no error where it reports none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from bench.devices import DEVICES
from bench.devices.libraries.amdgpu import AmdgpuSource
from bench.devices.libraries.amdsmi import AmdSmiSource
from bench.devices.libraries.cndev import HOME, CndevSource
from bench.devices.libraries.dcmi import DcmiSource
from bench.devices.libraries.mtml import MtmlSource
from bench.devices.libraries.mxsml import MxsmlSource
from bench.devices.libraries.nvml_like import HgmlSource, IxmlSource
from bench.devices.libraries.rsmi import RsmiSource
from bench.devices.source import DeviceSource
from bench.devices.tools.tool import ToolSource
from bench.devices.vendor import VendorBackend
from tests.bench.vendors.nvml_copies import FOLDERS, NVML, chip, hgml, ixml
from tests.bench.vendors.tools import SAMPLES, VENDORS, Vendor, backend_of, bus, script
from tests.fake_amdgpu import build, mi300x
from tests.fake_libraries import compile_library, install, write_script

IX_HEAD = "|  IX-ML: {}       Driver Version: 4.3.0       CUDA Version: 10.2          |"
CNMON_HEAD = "| CNMON {}                                               Driver v6.2.29 |"


# Tools
class Printed(NamedTuple):
    """What a tool prints to arguments that only its version is asked with, and the version; None for no such run."""

    kind: str
    arguments: str | None
    text: str
    version: str | None


PRINTED = [
    Printed("rocm", "--version", "ROCM-SMI version: 3.0.0+2f52cb7\nROCM-SMI-LIB version: 7.6.0\n", "3.0.0+2f52cb7"),
    Printed("rocm", "--version", "ROCM-SMI-LIB version: 5.7.0\n", "ROCM-SMI-LIB 5.7.0"),
    Printed("rocm", "--version", "WARNING: 1.2.3 is old\nROCM-SMI version: 4.0.0+4179531dcd\n", "4.0.0+4179531dcd"),
    Printed("rocm", "--version", "ROCM-SMI version: unknown\n", None),
    Printed("dcu", "--version", "HY-SMI version: 1.4.1\n", "1.4.1"),
    Printed("dcu", "--version", "ROCM-SMI version: 1.4.1\nROCM-SMI-LIB version: 5.0.0\n", "1.4.1"),
    Printed("dcu", "--version", "usage: hy-smi [-h] 2.0.1\n", None),
    Printed("corex", "", f"+---+\n{IX_HEAD.format('4.4.0')}\n| 0   Iluvatar BI-V150 |\n", "IX-ML 4.4.0"),
    Printed("corex", "", f"+---+\n{IX_HEAD.format('N/A')}\n| 0   Iluvatar BI-V150 |\n", None),
    Printed("mlu", "", f"Fri Mar 06 11:58:48 2026\n+---+\n{CNMON_HEAD.format('v6.5.48')}\n", "6.5.48"),
    Printed("mlu", "", "| Driver v6.2.29 |\n", None),
    Printed("musa", "-v", "mthreads-gmi version: 1.14.0\n", "1.14.0"),
    Printed("musa", "-v", "mthreads-gmi version : 2.3.3\n", "2.3.3"),
    Printed("npu", None, "", "24.1.rc3"),
    Printed("maca", None, "", "2.2.8"),
    Printed("kunlun", None, "", None),  # its head is "XPU-SMI" with no number, then the driver's
]


class Installed(NamedTuple):
    """A vendor's tool on PATH as a source, and the file in which each of its runs is a line."""

    source: DeviceSource
    log: Path

    def taken(self) -> list[str]:
        """Return the arguments of the runs since the last time."""
        found = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return found


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Vendor, Mapping[str, str]], Installed]:
    """Return what puts a vendor's executable on PATH that knows the samples' arguments and some more."""

    def build(vendor: Vendor, more: Mapping[str, str]) -> Installed:
        (tmp_path / "bin").mkdir()
        files = {arguments: SAMPLES / file for arguments, file in vendor.answers.items()}
        for number, (arguments, text) in enumerate(more.items()):
            files[arguments] = tmp_path / f"printed{number}"
            files[arguments].write_text(text)
        cases = "\n".join(f"'{arguments}') cat '{file}' ;;" for arguments, file in files.items())
        log = tmp_path / "runs"
        body = f'echo "$*" >> {log}\ncase "$*" in\n{cases}\n*) echo "unknown option: $*" >&2; exit 2 ;;\nesac\n'
        script(tmp_path / "bin" / vendor.tool, body)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
        backend = type(backend_of(vendor.kind))
        return Installed(backend.sources[-1].open(bus(tmp_path, backend, vendor.pci_class, vendor.functions)), log)

    return build


def test_every_tool_has_its_version_here() -> None:
    assert {one.kind for one in PRINTED} == set(VENDORS)


@pytest.mark.parametrize("printed", PRINTED, ids=lambda one: f"{one.kind} {one.version}")
def test_a_tool_reports_its_version(
    printed: Printed, installed: Callable[[Vendor, Mapping[str, str]], Installed]
) -> None:
    """It is asked once, after it has listed, and in no look."""
    vendor = VENDORS[printed.kind]
    node = installed(vendor, {} if printed.arguments is None else {printed.arguments: printed.text})
    rows = node.source.devices()
    assert node.source.version == printed.version
    runs = node.taken()
    assert [one for one in runs if one not in vendor.answers] == [
        one for one in (printed.arguments,) if one is not None
    ]
    node.source.readings(rows)
    assert printed.arguments is None or printed.arguments not in node.taken()


@pytest.mark.parametrize("kind", sorted({one.kind for one in PRINTED if one.arguments is not None}))
def test_a_tool_that_does_not_know_the_question_has_no_version(
    kind: str, installed: Callable[[Vendor, Mapping[str, str]], Installed]
) -> None:
    node = installed(VENDORS[kind], {})
    rows = node.source.devices()
    assert (len(rows), node.source.version) == (2, None)
    assert node.source.readings(rows)


@pytest.mark.parametrize(
    "answer", ["sleep 30", "echo ROCM-SMI version: 9.9.9; exit 1", "echo '{\"a\": 1.2.3}'", "head -c 99 /dev/urandom"]
)
def test_a_question_without_an_answer_costs_the_version_alone(
    answer: str, installed: Callable[[Vendor, Mapping[str, str]], Installed], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = installed(VENDORS["rocm"], {})
    path = node.log.parent / "bin/rocm-smi"
    path.write_text(path.read_text().replace("*) echo", f"--version) {answer} ;;\n*) echo"))
    monkeypatch.setattr("bench.devices.tools.tool.TIMEOUT_S", 1.0)
    rows = node.source.devices()
    assert (len(rows), node.source.version) == (2, None)
    assert node.source.readings(rows)


# Libraries
class Put(NamedTuple):
    """A fake library: what it is compiled from, where the vendor puts it, and how it is asked for its version."""

    source: type[DeviceSource]
    file: str
    library: str
    folder: str
    variable: str
    script: str
    function: str
    version: str


LIBRARIES = [
    Put(
        DcmiSource,
        "dcmi.c",
        "libdcmi.so",
        "usr/local/Ascend/driver/lib64/driver",
        "FAKE_DCMI",
        "",
        "dcmi_get_dcmi_version",
        "24.1.0",
    ),
    Put(CndevSource, "cndev.c", "libcndev.so", f"{HOME}/lib64", "FAKE_CNDEV", "", "cndevGetLibVersion", "3.12.4"),
    Put(MtmlSource, "mtml.c", "libmtml.so", "usr/local/musa/lib", "FAKE_MTML", "", "mtmlLibraryGetVersion", "2.2.0"),
    Put(
        MxsmlSource,
        "mxsml.c",
        "libmxsml.so",
        "opt/mxdriver/lib",
        "FAKE_MXSML",
        "maca 3.3.0.15\ndevice\n",
        "mxSmlGetMacaVersion",
        "MACA 3.3.0.15",
    ),
    Put(RsmiSource, "rsmi.c", "librocm_smi64.so", "opt/hyhal/lib", "FAKE_RSMI", "", "rsmi_version_get", "7.4.1"),
    Put(
        AmdSmiSource, "amdsmi.c", "libamd_smi.so", "opt/rocm/lib", "FAKE_AMDSMI", "", "amdsmi_get_lib_version", "26.0.2"
    ),
    Put(
        IxmlSource,
        NVML,
        "libixml.so",
        FOLDERS[IxmlSource],
        "FAKE_NVIDIA",
        chip(),
        "nvmlSystemGetNVMLVersion",
        "12.550.54.14",
    ),
    Put(
        HgmlSource,
        NVML,
        "libhgml.so",
        FOLDERS[HgmlSource],
        "FAKE_NVIDIA",
        chip(),
        "hgmlSystemGetNVMLVersion",
        "12.550.54.14",
    ),
]


def compiled(put: Put, *without: str) -> Path:
    if put.file == NVML:
        return (ixml if put.source is IxmlSource else hgml)(*without)
    return compile_library(put.file, put.library, without=without)


def test_every_library_has_its_version_here() -> None:
    backends = [backend_of(kind) for kind in DEVICES if kind not in ("cpu", "cuda", "fake", "torch")]
    sources = {source for backend in backends for source in backend.sources if not issubclass(source, ToolSource)}
    assert sources == {put.source for put in LIBRARIES} | {AmdgpuSource}
    assert all(issubclass(type(backend), VendorBackend) for backend in backends)


@pytest.mark.parametrize("put", LIBRARIES, ids=lambda put: put.source.label())
def test_a_library_reports_its_version(put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEUWARE_HOME", raising=False)
    monkeypatch.setenv(put.variable, str(write_script(tmp_path, put.script)))
    install(compiled(put), tmp_path, put.folder)
    source = put.source.open(tmp_path)
    assert source.version == put.version
    source.close()


@pytest.mark.parametrize(
    "put", [put for put in LIBRARIES if put.source is not AmdSmiSource], ids=lambda put: put.source.label()
)
@pytest.mark.parametrize("absent", [True, False])
def test_a_library_without_the_function_has_no_version(
    put: Put, absent: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or with one that refuses; amdsmi's layouts go by its version, and it is not used without one."""
    monkeypatch.delenv("NEUWARE_HOME", raising=False)
    refusal = "" if absent else f"answer {put.function} 3\n"
    monkeypatch.setenv(put.variable, str(write_script(tmp_path, refusal + put.script)))
    install(compiled(put, *((put.function,) if absent else ())), tmp_path, put.folder)
    source = put.source.open(tmp_path)
    assert source.version is None
    source.close()


@pytest.mark.parametrize(("driver", "version"), [("6.12.12", "6.12.12"), (None, "6.8.0-fake")])
def test_the_kernels_files_have_its_drivers_version(driver: str | None, version: str, tmp_path: Path) -> None:
    """The kernel's, where the driver is that of its tree."""
    build(tmp_path, mi300x(1), driver=driver)
    assert AmdgpuSource.open(tmp_path).version == version
