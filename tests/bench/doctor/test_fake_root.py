"""What is read of a node over file systems made for it: as they are, empty, of another form, and closed."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from bench.doctor.examine import CHECKS
from bench.doctor.gather import read_folder, read_host_view
from bench.doctor.software import distribution_folder, lacking, read_software, torch_built_for
from bench.doctor.view import DeviceView, NodeView
from bench.environment import VARIABLES
from bench.host.cpus import usable_cpus
from bench.host.pci_links import read_link
from tests.bench.devices.test_devices import tree
from tests.bench.doctor.test_checks import cpu, gpu
from tests.bench.host.test_cgroup import V2

CPU = f"sys/devices/system/cpu/cpu{usable_cpus()[0]}/cpufreq"
PCI = "sys/bus/pci/devices/0000:17:00.0"
G = "sys/fs/cgroup"
GROUP = {"proc/self/cgroup": "0::/job\n", "proc/self/mountinfo": V2}
LXCFS = "40 30 0:40 /proc/stat /proc/stat rw - fuse.lxcfs lxcfs rw\n"
KMSG = "6,1,2,-;NVRM: Xid (PCI:0000:17:00): 79, pid=1, GPU has fallen off the bus.\n"
FULL = {"current_link_width": "16", "max_link_width": "16", "current_link_speed": "32.0 GT/s PCIe"}
LINK = {f"{PCI}/{name}": text for name, text in (FULL | {"max_link_speed": "32.0 GT/s PCIe"}).items()}
# check -> (files of a node with it, files of a node without)
CASES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "governor": ({f"{CPU}/scaling_governor": "schedutil\n"}, {f"{CPU}/scaling_governor": "performance\n"}),
    "boost": (
        {"sys/devices/system/cpu/intel_pstate/no_turbo": "1\n"},
        {"sys/devices/system/cpu/cpufreq/boost": "1\n"},
    ),
    "cpu-clock-cap": (
        {f"{CPU}/scaling_max_freq": "2000000\n", f"{CPU}/cpuinfo_max_freq": "3700000\n"},
        {f"{CPU}/scaling_max_freq": "3700000\n", f"{CPU}/cpuinfo_max_freq": "3700000\n"},
    ),
    "smt": ({"sys/devices/system/cpu/smt/active": "1\n"}, {"sys/devices/system/cpu/smt/active": "0\n"}),
    "numa-balancing": (
        {
            "proc/sys/kernel/numa_balancing": "1\n",
            "sys/devices/system/node/node0/cpulist": "0\n",
            "sys/devices/system/node/node1/cpulist": "1\n",
        },
        {"proc/sys/kernel/numa_balancing": "0\n"},
    ),
    "iommu": ({"sys/kernel/iommu_groups/0/type": "DMA-FQ\n"}, {"sys/kernel/iommu_groups/0/type": "identity\n"}),
    "cpu-quota": ({**GROUP, f"{G}/job/cpu.max": "50000 100000\n"}, {**GROUP, f"{G}/job/cpu.max": "max 100000\n"}),
    "memory-limit": (
        {**GROUP, f"{G}/job/memory.max": "1000000\n", "proc/meminfo": "MemTotal: 64000 kB\n"},
        {**GROUP, f"{G}/job/memory.max": "max\n", "proc/meminfo": "MemTotal: 64000 kB\n"},
    ),
    "hidden-host": ({"proc/self/mountinfo": LXCFS}, {"proc/self/mountinfo": V2}),
    "mps": ({"proc/77/comm": "nvidia-cuda-mps\n"}, {"proc/77/comm": "bash\n"}),
    "kernel-log": ({"dev/kmsg": KMSG}, {"dev/kmsg": "6,1,2,-;Linux version 6.8\n"}),
    "pcie-width": ({**LINK, f"{PCI}/current_link_width": "8\n"}, LINK),
    "pcie-speed": ({**LINK, f"{PCI}/current_link_speed": "2.5 GT/s PCIe\n"}, LINK),
    "emulation-library": ({"etc/ld.so.preload": "/opt/lib/libozIMMU.so\n"}, {"etc/ld.so.preload": "\n"}),
}


def view_of(root: Path) -> NodeView:
    """Return a node of a processor and a GPU as a root shows it."""
    link = read_link("00000000:17:00.0", root)
    return NodeView(
        devices=(DeviceView(cpu()), DeviceView(gpu(), link=link)),
        host=read_host_view(True, False, root),
        software=read_software((), {}, root),
    )


@pytest.mark.parametrize("check", CASES)
def test_a_file_system_with_a_finding_and_one_without(check: str, tmp_path: Path) -> None:
    wrong, sound = (view_of(tree(tmp_path / str(place), files)) for place, files in enumerate(CASES[check]))
    assert CHECKS[check](wrong).state == "finding"
    assert CHECKS[check](sound).state == "fine"


@pytest.mark.parametrize("check", sorted(CASES.keys() - {"hidden-host", "emulation-library"}))
def test_an_empty_root_and_one_that_is_not_there_say_nothing(check: str, tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "nowhere"):
        assert CHECKS[check](view_of(root)).state == "unread"


@pytest.mark.parametrize("check", sorted(CASES.keys() - {"hidden-host", "emulation-library"}))
def test_files_that_cannot_be_read_say_nothing(check: str, tmp_path: Path) -> None:
    """A folder in the place of each file: nobody can read it as one, root neither."""
    for name in CASES[check][0]:
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    assert CHECKS[check](view_of(tmp_path)).state != "finding"


@pytest.mark.parametrize(
    "text",
    ["", "\x00\xff", "-1", "<unknown>", "9" * 40, "9" * 5000, f"0::{'9' * 5000}.{'9' * 5000} GT/s", "a b c\n" * 3],
)
def test_files_of_another_form_are_no_error(text: str, tmp_path: Path) -> None:
    view_of(tree(tmp_path, {name: text for files in CASES.values() for name in files[0]}))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["a pipe", "no end"])
def test_files_that_never_end_are_not_waited_for(make: Callable[[Path], None], tmp_path: Path) -> None:
    for name in {"etc/os-release", "proc/cpuinfo", *(name for files in CASES.values() for name in files[0])}:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        make(tmp_path / name)
    view = view_of(tmp_path)
    assert {CHECKS[check](view).state for check in CASES} <= {"unread", "fine"}


# --- the folder ---


def test_a_folder_that_is_writable_stamps_by_this_clock_and_keeps_nothing(tmp_path: Path) -> None:
    told = read_folder(tmp_path, 1)
    assert told.refusal is None
    assert told.clock_off_ns is not None
    assert abs(told.clock_off_ns) < 10**9
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_none_is_said_with_why(tmp_path: Path) -> None:
    assert read_folder(tmp_path / "nowhere", 1).refusal == "No such file or directory"
    (tmp_path / "file").write_text("")
    assert read_folder(tmp_path / "file", 1).refusal == "Not a directory"


def test_a_file_server_with_another_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fstat

    class Stamped:
        def __init__(self, status: os.stat_result) -> None:
            self.st_mtime_ns = status.st_mtime_ns - 90 * 10**9

        st_mode = 0o100600
        st_size = 0
        st_blksize = 4096

    monkeypatch.setattr("bench.doctor.gather.os.fstat", lambda descriptor: Stamped(real(descriptor)))
    off = read_folder(tmp_path, 1).clock_off_ns
    assert off is not None
    assert -91 * 10**9 < off < -89 * 10**9


# --- the environment ---


def test_each_variable_that_run_refuses_is_said_and_none_that_it_takes_away() -> None:
    environ = {variable.name: "emulate" for variable in VARIABLES}
    told = read_software((), environ).enabling
    assert {name for name, _ in told} == {variable.name for variable in VARIABLES if not variable.taken_away}
    assert read_software((), dict.fromkeys(environ, "")).enabling == ()


def test_variables_that_put_packages_first() -> None:
    assert read_software((), {"PYTHONPATH": "/x", "LD_PRELOAD": "/x/libgemmul8.so"}).python_path == ("PYTHONPATH",)
    assert read_software((), {"LD_PRELOAD": "/x/libGEMMul8.so"}).emulation == ("gemmul8",)


def test_the_petaseal_that_runs_is_the_installed_one_and_another_is_named(tmp_path: Path) -> None:
    assert read_software((), {}).elsewhere == ()

    def elsewhere(name: str) -> ModuleSpec:
        return ModuleSpec(name, None, origin=str(tmp_path / name / "__init__.py"))

    assert read_software((), {}, find=elsewhere).elsewhere == (str(tmp_path),)


def test_the_folder_of_an_editable_distribution_is_that_of_its_sources(tmp_path: Path) -> None:
    from importlib.metadata import PathDistribution

    info = tmp_path / "site" / "petaseal-1.dist-info"
    tree(info, {"METADATA": "Name: petaseal\n"})
    assert distribution_folder(PathDistribution(info)) == tmp_path / "site"
    tree(info, {"direct_url.json": f'{{"url": "file://{tmp_path}/a%20b", "dir_info": {{"editable": true}}}}'})
    assert distribution_folder(PathDistribution(info)) == tmp_path / "a b"
    tree(info, {"direct_url.json": "no json"})
    assert distribution_folder(PathDistribution(info)) == tmp_path / "site"


@pytest.mark.parametrize(
    ("text", "built_for"),
    [
        ("__version__ = '2.9.0+cu126'\ncuda: Optional[str] = '12.6'\nhip: Optional[str] = None\n", {"cuda"}),
        ("cuda = None\nhip = '6.2.41133'\n", {"hip"}),
        ("cuda: Optional[str] = None\nhip: Optional[str] = None\nxpu: Optional[str] = None\n", set()),
        ("", set()),
    ],
)
def test_what_torch_is_built_for(text: str, built_for: set[str]) -> None:
    assert torch_built_for(text) == built_for


@pytest.mark.parametrize(
    ("kind", "torch", "plug_ins", "what"),
    [
        ("cpu", None, (), None),
        ("cuda", None, (), "torch is not installed"),
        ("cuda", "cuda = '12.6'", (), None),
        ("cuda", "cuda = None", (), "torch is built for processors alone"),
        ("rocm", "cuda = '12.6'", (), "torch is built for cuda"),
        ("npu", "cuda = None", (), "torch_npu is not installed"),
        ("npu", "cuda = None", ("torch_npu",), None),
    ],
)
def test_a_stack_that_does_not_match_the_vendor(
    kind: str, torch: str | None, plug_ins: tuple[str, ...], what: str | None, tmp_path: Path
) -> None:
    tree(tmp_path, {"torch/__init__.py": "", "torch/version.py": torch or ""})
    there = {**({"torch": tmp_path / "torch" / "__init__.py"} if torch else {}), **dict.fromkeys(plug_ins, tmp_path)}

    def find(name: str) -> ModuleSpec | None:
        return ModuleSpec(name, None, origin=str(there[name])) if name in there else None

    assert lacking(kind, find) == what
