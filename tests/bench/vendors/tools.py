"""Fake vendors' tools: a table from arguments to sample outputs, in this process and as an executable on PATH."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bench.devices import load_backend
from bench.devices.opened_vendor import OpenedVendor
from bench.devices.source import ListedDevice
from bench.devices.tools.tool import ToolSource, VendorTool
from bench.devices.vendor import VendorBackend
from bench.errors import InputError
from bench.telemetry import Reading

SAMPLES = Path(__file__).parent / "samples"
ROCM_LIST = "--showproductname --showuniqueid --showserial --showbus --showvbios --showdriverversion --showmeminfo vram"
ROCM_WATCH = "--showpower --showtemp --showuse --showclocks --showenergycounter --json"
HY_WATCH = "--showpower --showtemp --showuse --showclocks --json"
IX_LIST = "--query-gpu=index,name,uuid,serial,pci.bus_id,memory.total,driver_version --format=csv,noheader"
IX_WATCH = "--query-gpu=index,temperature.gpu,utilization.gpu,gpu.power.draw --format=csv,noheader"


class Vendor(NamedTuple):
    """One vendor's tool with what it answers, and the class and address of its devices on the bus."""

    kind: str
    tool: str
    pci_class: str
    functions: tuple[str, ...]
    answers: Mapping[str, str]  # arguments -> name of the sample
    variable: str
    chosen: str  # value of the variable for device 0


VENDORS = {
    "rocm": Vendor(
        "rocm",
        "rocm-smi",
        "0x120000",
        ("0000:0c:00.0", "0000:22:00.0"),
        {f"{ROCM_LIST} --json": "rocm-smi-list-mi300x.json", ROCM_WATCH: "rocm-smi-watch-mi300x.json"},
        "ROCR_VISIBLE_DEVICES",
        "GPU-5f0e1d2c3b4a5968",
    ),
    "dcu": Vendor(
        "dcu",
        "hy-smi",
        "0x0b4000",
        ("0000:9f:00.0", "0000:a3:00.0"),
        {f"{ROCM_LIST} --json": "hy-smi-list.json", HY_WATCH: "hy-smi-watch.json"},
        "ROCR_VISIBLE_DEVICES",
        "GPU-3a5a1c0f2e4d6b8a",
    ),
    "npu": Vendor(
        "npu",
        "npu-smi",
        "0x120000",
        ("0000:c0:00.0", "0000:c5:00.0"),
        {
            "info": "npu-smi-info-910b.txt",
            "info -m": "npu-smi-m-910b.txt",
            "info -t board -i 0": "npu-smi-board-910b-0.txt",
            "info -t board -i 0 -c 0": "npu-smi-board-910b-0-0.txt",
            "info -t board -i 5": "npu-smi-board-910b-5.txt",
            "info -t board -i 5 -c 0": "npu-smi-board-910b-5-0.txt",
            "info -t common -i 0": "npu-smi-common-910b-0.txt",
            "info -t common -i 5": "npu-smi-common-910b-5.txt",
            "info -t ecc -i 0 -c 0": "npu-smi-ecc-910b.txt",
        },
        "ASCEND_RT_VISIBLE_DEVICES",
        "0",
    ),
    "mlu": Vendor(
        "mlu",
        "cnmon",
        "0x120000",
        ("0000:4f:00.0", "0000:50:00.0"),
        {"info": "cnmon-info.txt"},
        "MLU_VISIBLE_DEVICES",
        "0",
    ),
    "musa": Vendor(
        "musa",
        "mthreads-gmi",
        "0x030000",
        ("0000:12:00.0", "0000:36:00.0"),
        {"-q --json": "mthreads-gmi-q.json"},
        "MUSA_VISIBLE_DEVICES",
        "0",
    ),
    "maca": Vendor(
        "maca",
        "mx-smi",
        "0x038000",
        ("0000:0e:00.0", "0000:21:00.0"),
        {"": "mx-smi.txt", "-L": "mx-smi-L.txt"},
        "CUDA_VISIBLE_DEVICES",
        "0",
    ),
    "corex": Vendor(
        "corex",
        "ixsmi",
        "0x120000",
        ("0000:8a:00.0", "0000:8d:00.0"),
        {IX_LIST: "ixsmi-list.txt", IX_WATCH: "ixsmi-watch.txt"},
        "CUDA_VISIBLE_DEVICES",
        "0",
    ),
    "kunlun": Vendor(
        "kunlun",
        "xpu-smi",
        "0x120000",
        ("0000:16:00.0", "0000:84:00.0"),
        {"-q": "xpu-smi-q.txt"},
        "XPU_VISIBLE_DEVICES",
        "0",
    ),
}
ASCEND_910C = {
    "info": "npu-smi-info-910c.txt",
    "info -m": "npu-smi-m-910c.txt",
    "info -t board -i 0": "npu-smi-board-910c-0.txt",
    "info -t board -i 0 -c 0": "npu-smi-board-910c-0-0.txt",
    "info -t board -i 0 -c 1": "npu-smi-board-910c-0-1.txt",
    "info -t common -i 0": "npu-smi-common-910c-0.txt",
    "info -t ecc -i 0 -c 1": "npu-smi-ecc-910b.txt",
}
ASCEND_950 = {
    "info": "npu-smi-info-950.txt",
    "info -m": "npu-smi-m-950.txt",
    "info -t board -i 0": "npu-smi-board-950.txt",
    "info -t board -i 1": "npu-smi-board-950.txt",
    "info -t common -i 0": "npu-smi-common-950.txt",
    "info -t common -i 1": "npu-smi-common-950.txt",
    "info -t ecc -i 0": "npu-smi-ecc-910b.txt",
}
ASCEND_310P = {
    "info": "npu-smi-info-310p.txt",
    "info -m": "npu-smi-m-310p.txt",
    "info -t common -i 2944": "npu-smi-common-310p.txt",
    "info -t board -i 2944 -c 0": "npu-smi-board-310p-0.txt",
    "info -t board -i 2944 -c 1": "npu-smi-board-310p-1.txt",
}

# kind -> device, and its reading as the samples tell it
READINGS = {
    "rocm": (
        0,
        Reading(power_mw=742_500, temperature_c=71, clock_mhz=1673, utilisation_ppm=10**6, energy_mj=962_825_096),
    ),
    "dcu": (1, Reading(power_mw=287_000, temperature_c=62, clock_mhz=1400, utilisation_ppm=985_000)),
    "npu": (
        0,
        Reading(
            power_mw=303_400,
            temperature_c=61,
            clock_mhz=1650,
            utilisation_ppm=970_000,
            ecc_uncorrected=1,
            processes=2,
        ),
    ),
    "mlu": (0, Reading(power_mw=97_000, temperature_c=47, utilisation_ppm=990_000, processes=1)),
    "musa": (0, Reading(power_mw=401_550, temperature_c=71, clock_mhz=1650, utilisation_ppm=10**6)),
    "maca": (0, Reading(power_mw=341_000, temperature_c=63, utilisation_ppm=990_000, processes=1)),
    "corex": (0, Reading(power_mw=168_000, temperature_c=66, utilisation_ppm=970_000)),
    "kunlun": (
        0,
        Reading(
            power_mw=388_500,
            temperature_c=64,
            clock_mhz=1450,
            utilisation_ppm=980_000,
            ecc_uncorrected=2,
            processes=2,
        ),
    ),
}


def sample(name: str) -> str:
    """Return a sample output."""
    return (SAMPLES / name).read_text(encoding="utf-8")


def texts(answers: Mapping[str, str]) -> dict[str, str]:
    """Return arguments -> sample output."""
    return {arguments: sample(name) for arguments, name in answers.items()}


class Canned(VendorTool):
    """A tool that answers from a table; other arguments fail as with a real one."""

    answers: Mapping[str, str]

    def run(self, *arguments: str, timeout_s: float | None = None) -> str:
        """Return the table's answer."""
        found = self.answers.get(" ".join(arguments))
        if found is None:
            raise InputError("device-tool-failed", "failed with exit status 2", where=self.name)
        return found


def canned(answers: Mapping[str, str]) -> Canned:
    """Return a tool that answers these texts."""
    tool = Canned(Path("/opt/vendor/tool"), None)
    tool.answers = answers
    return tool


def bus(root: Path, backend: type[VendorBackend], pci_class: str, functions: tuple[str, ...]) -> Path:
    """Put a vendor's devices on the PCI bus of a file system's root."""
    for function in functions:
        folder = root / "sys/bus/pci/devices" / function
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "vendor").write_text(f"{min(backend.vendor_ids):#06x}\n")
        (folder / "class").write_text(f"{pci_class}\n")
    return root


def install(folder: Path, name: str, answers: Mapping[str, str]) -> Path:
    """Put an executable on a folder that prints the samples for their arguments.

    It fails where its environment is not the plain one that `VendorTool.run` promises.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cases = "\n".join(f"'{arguments}') cat '{SAMPLES / file}' ;;" for arguments, file in answers.items())
    return script(
        folder / name,
        f"""[ "$LC_ALL" = C ] || exit 3
env | grep -q _VISIBLE_DEVICES= && exit 4
echo "a warning" >&2
case "$*" in
{cases}
*) echo "unknown option: $*" >&2; exit 2 ;;
esac
""",
    )


def script(path: Path, body: str) -> Path:
    """Write an executable shell script."""
    path.write_text(f"#!/bin/sh\n{body}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def source_of(kind: str, answers: Mapping[str, str], root: Path = Path("/nowhere")) -> ToolSource:
    """Return a vendor's tool as a source that answers from a table."""
    last = type(backend_of(kind)).sources[-1]
    assert issubclass(last, ToolSource)
    return last(canned(answers), root)


def opened_at(kind: str, pci_address: str | None) -> OpenedVendor:
    """Return a vendor's device at an address, opened, that nothing reads."""
    backend = backend_of(kind)
    source = source_of(kind, {})
    found = backend._local_device(source, 0, ListedDevice(number=0, model="x", pci_address=pci_address), ())
    return OpenedVendor(backend, found)


def backend_of(kind: str, root: Path = Path("/nowhere")) -> VendorBackend:
    """Return a vendor's back end with another root of the file system."""
    backend: Any = type(load_backend(kind))(root)  # type: ignore[call-arg]
    assert isinstance(backend, VendorBackend)
    return backend
