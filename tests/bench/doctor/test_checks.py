"""Each check of a node over synthetic facts: what it says of a bad node, a sound one, and one that hides it."""

from __future__ import annotations

from typing import Any

import pytest

from bench.devices.base import Faulty, LocalDevice, described_device, described_model
from bench.devices.libraries.nvidia.repairs import MemoryRepairs
from bench.doctor.examine import CHECKS, OF_THE_HOST, examine
from bench.doctor.report import lacks
from bench.doctor.table import doctor_table
from bench.doctor.view import DeviceView, FolderView, HostView, NodeView, SoftwareView
from bench.host.cgroup import CgroupLimits
from bench.host.kernel_log import KernelError
from bench.host.pci_links import PciLink
from bench.host.tuning import HostTuning
from bench.record import NodeClock
from bench.telemetry import Reading

SOUND: dict[str, Any] = {
    "modes": {"persistence": "on", "compute": "default", "mig": "off", "ecc": "on", "confidential": "off"},
    "power_limit_mw": 700_000,
    "power_limit_default_mw": 700_000,
    "locked_clock_mhz": 1980,
    "max_clock_mhz": 1980,
    "driver": "550.54",
    "firmware": "96.00.01",
    "library": "libnvidia-ml.so.1",
}
AT_REST = Reading(throttled=(), ecc_uncorrected=0, processes=0)
FULL_LINK = PciLink(16, 16, 32_000, 32_000)


def gpu(index: int = 0, kind: str = "cuda", vendor: str = "NVIDIA", **facts: Any) -> LocalDevice:
    """Return an accelerator of which everything is in order but for some facts."""
    model = described_model(kind="gpu", vendor=vendor, model="H200", obtained={}, count_unit="card", **SOUND | facts)
    address = f"0000:{0x17 + index:02x}:00.0"
    return LocalDevice(model, described_device(device=f"{kind}:{index}", uuid=f"GPU-{index}", pci_address=address))


def cpu() -> LocalDevice:
    model = described_model(kind="cpu", vendor="Acme", model="CPU", obtained={}, count_unit="package")
    return LocalDevice(model, described_device(device="cpu:0"))


def seen(local: LocalDevice | None = None, **changes: Any) -> DeviceView:
    return DeviceView(
        local or gpu(), **{"reading": AT_REST, "repairs": MemoryRepairs(0, False, False), "link": FULL_LINK, **changes}
    )


def gpus(**facts: Any) -> NodeView:
    """Return a node of one GPU with some facts of its model."""
    return NodeView(devices=(seen(gpu(**facts)),))


def read(**reading: Any) -> NodeView:
    return NodeView(devices=(seen(reading=AT_REST._replace(**reading)),))


def modes(**changed: str) -> NodeView:
    return gpus(modes={**SOUND["modes"], **{name.replace("_", "-"): mode for name, mode in changed.items()}})


def host(device: LocalDevice | None = None, **changes: Any) -> NodeView:
    return NodeView(devices=(seen(device or cpu()),), host=HostView(**changes))


def tuned(**changes: Any) -> NodeView:
    return host(tuning=HostTuning(**changes))


def clock(bound_ns: int | None, why: str = "") -> NodeView:
    return NodeView(clock=NodeClock(source="chrony", uncertainty_ns=bound_ns), clock_why=why)


def folder(**changes: Any) -> NodeView:
    return NodeView(folder=FolderView(**{"free_bytes": 10**9, "needed_bytes": 10**6, "clock_off_ns": 0, **changes}))


def software(device: LocalDevice | None = None, **changes: Any) -> NodeView:
    return NodeView(devices=(seen(device),), software=SoftwareView(**changes))


FAULTY = Faulty(gpu().model, gpu(1).device, "device-lost", "has fallen off the bus")
XID = {KernelError("0000:17:00", "Xid 79"): 2, KernelError("0000:99:00", "PCIe AER"): 1}
# check -> (a node with it, what the sentence is filled with, a node without it, one that does not say; None: each says)
CASES: dict[str, tuple[NodeView, list[dict[str, str]], NodeView, NodeView | None]] = {
    "device-fault": (
        NodeView(devices=(seen(),), faulty=(FAULTY,)),
        [{"what": "has fallen off the bus", "code": "device-lost"}],
        NodeView(devices=(seen(),)),
        None,
    ),
    "device-unusable": (NodeView(unusable=("no driver",)), [{"what": "no driver"}], NodeView(), None),
    "identity-shared": (NodeView(colliding=("one uuid",)), [{"what": "one uuid"}], NodeView(), None),
    "compute-prohibited": (modes(compute="prohibited"), [{"mode": "prohibited"}], gpus(), gpus(modes={})),
    "compute-exclusive": (modes(compute="exclusive-process"), [{"mode": "exclusive-process"}], gpus(), gpus(modes={})),
    "persistence": (modes(persistence="off"), [{"mode": "off"}], gpus(), gpus(modes={})),
    "mig": (modes(mig="on"), [{"mode": "on"}], gpus(), gpus(modes={})),
    "confidential": (modes(confidential="on"), [{"mode": "on"}], gpus(), gpus(modes={})),
    "ecc-off": (modes(ecc="off"), [{"mode": "off"}], gpus(), gpus(modes={})),
    "mode-pending": (modes(ecc_pending="off"), [{"mode": "ecc", "now": "on", "next": "off"}], gpus(), gpus(modes={})),
    "power-cap": (
        gpus(power_limit_mw=500_000),
        [{"limit": "500", "default": "700"}],
        gpus(),
        gpus(power_limit_default_mw=None),
    ),
    "clock-cap": (
        gpus(locked_clock_mhz=1500),
        [{"cap": "1500", "highest": "1980"}],
        gpus(),
        gpus(locked_clock_mhz=None),
    ),
    "throttled": (
        read(throttled=("hw_slowdown", "sw_power_cap")),
        [{"reasons": "hw_slowdown, sw_power_cap"}],
        gpus(),
        read(throttled=None),
    ),
    "foreign-process": (read(processes=2), [{"count": "2"}], gpus(), read(processes=None)),
    "ecc-errors": (
        read(ecc_uncorrected=3),
        [{"count": "3"}],
        gpus(),
        NodeView(devices=(seen(reading=None),)),
    ),
    "rows-remapped": (
        NodeView(devices=(seen(repairs=MemoryRepairs(4, True, True)),)),
        [{"state": "pending, failed", "count": "4"}],
        gpus(),
        NodeView(devices=(seen(repairs=None),)),
    ),
    "pcie-width": (
        NodeView(devices=(seen(link=FULL_LINK._replace(width=8)),)),
        [{"width": "8", "highest": "16"}],
        gpus(),
        NodeView(devices=(seen(link=PciLink(None, 16, None, None)),)),
    ),
    "pcie-speed": (
        NodeView(devices=(seen(link=FULL_LINK._replace(speed_mt_s=2_500)),)),
        [{"speed": "2.5", "highest": "32"}],
        gpus(),
        NodeView(devices=(seen(link=PciLink(16, 16, None, 32_000)),)),
    ),
    "kernel-log": (
        host(gpu(), errors=XID),
        [{"errors": "Xid 79 x 2", "address": ""}, {"errors": "PCIe AER", "address": " (0000:99:00)"}],
        host(errors={}),
        host(),
    ),
    "versions": (
        NodeView(devices=(seen(), seen(gpu(1, firmware="96.00.02")))),
        [{"model": "NVIDIA H200", "what": "firmware", "versions": "96.00.01, 96.00.02"}],
        NodeView(devices=(seen(), seen(gpu(1)))),
        gpus(driver=None, firmware=None, library=None),
    ),
    "foreign-load": (host(other_load_ppm=400_000), [{"share": "40 %"}], host(other_load_ppm=50_000), host()),
    "mps": (
        host(gpu(), mps=("nvidia-cuda-mps-control",)),
        [{"what": "nvidia-cuda-mps-control"}],
        host(gpu(), mps=()),
        host(gpu()),
    ),
    "governor": (
        tuned(governors=("performance", "powersave")),
        [{"names": "performance, powersave"}],
        tuned(governors=("performance",)),
        tuned(),
    ),
    "boost": (tuned(boost=False), [{}], tuned(boost=True), tuned()),
    "cpu-clock-cap": (
        tuned(capped_mhz=2000, highest_mhz=3700),
        [{"cap": "2000", "highest": "3700"}],
        tuned(capped_mhz=0, highest_mhz=0),
        tuned(),
    ),
    "numa-balancing": (
        tuned(numa_balancing=True, numa_nodes=2),
        [{"nodes": "2"}],
        tuned(numa_balancing=True, numa_nodes=1),
        tuned(),
    ),
    "smt": (tuned(smt=True), [{}], tuned(smt=False), tuned()),
    "iommu": (
        tuned(iommu=("DMA-FQ", "identity")),
        [{"kinds": "DMA-FQ"}],
        tuned(iommu=("identity",)),
        tuned(),
    ),
    "cpu-quota": (
        host(limits=CgroupLimits(1500, None, None), cpus=4),
        [{"quota": "1.5", "cpus": "4"}],
        host(limits=CgroupLimits(4000, None, None), cpus=4),
        host(),
    ),
    "memory-limit": (
        host(limits=CgroupLimits(None, 8 * 10**9, None), memory_bytes=64 * 10**9),
        [{"limit": "8.0", "total": "64.0"}],
        host(limits=CgroupLimits(None, None, None), memory_bytes=64 * 10**9),
        host(limits=CgroupLimits(None, None, None)),
    ),
    "hidden-host": (host(hidden=("/proc/stat",)), [{"files": "/proc/stat"}], host(), None),
    "emulation-variable": (
        software(enabling=(("NVIDIA_TF32_OVERRIDE", "TF32"),)),
        [{"name": "NVIDIA_TF32_OVERRIDE", "effect": "TF32"}],
        software(),
        None,
    ),
    "emulation-library": (software(emulation=("ozimmu",)), [{"names": "ozimmu"}], software(), None),
    "clock-unknown": (clock(None, "chronyd is not there"), [{"why": "chronyd is not there"}], clock(10**6), None),
    "clock-zero": (clock(0), [{"source": "chrony"}], clock(10**6), None),
    "clock-wide": (clock(2 * 10**9), [{"bound": "2.000", "source": "chrony"}], clock(10**6), None),
    "folder": (folder(refusal="Permission denied"), [{"why": "Permission denied"}], folder(), None),
    "disk": (folder(free_bytes=1000), [{"free": "0.0", "needed": "1.0"}], folder(), folder(free_bytes=None)),
    "file-clock": (folder(clock_off_ns=-90 * 10**9), [{"seconds": "-90.0"}], folder(), folder(clock_off_ns=None)),
    "stack": (
        software(lacking={"cuda": "torch is not installed"}),
        [{"what": "torch is not installed"}],
        software(),
        None,
    ),
    "shadowed": (software(elsewhere=("/home/x",)), [{"folders": "/home/x"}], software(), None),
    "python-path": (software(python_path=("PYTHONPATH",)), [{"names": "PYTHONPATH"}], software(), None),
}


def test_every_check_has_a_case_and_a_row() -> None:
    table = doctor_table().checks
    assert set(CASES) == set(CHECKS)
    assert CHECKS.keys() <= table.keys()
    assert CHECKS.keys() >= OF_THE_HOST


@pytest.mark.parametrize("check", CASES)
def test_a_check_says_what_is_wrong_what_is_fine_and_what_it_cannot_see(check: str) -> None:
    wrong, values, sound, hidden = CASES[check]
    outcome = CHECKS[check](wrong)
    assert (outcome.state, [case.values for case in outcome.cases]) == ("finding", values)
    # The sentence and what to do are filled by exactly what the check gives.
    row = doctor_table().checks[check]
    for given in values:
        assert not any(lacks(text, given) for text in (row.finding, row.why, row.do))
    assert CHECKS[check](sound).state == "fine"
    assert hidden is None or CHECKS[check](hidden).state == "unread"


@pytest.mark.parametrize("check", sorted(CHECKS.keys() - {"device-fault"}))
def test_what_a_node_does_not_have_is_no_finding(check: str) -> None:
    """Nothing is there at all: no device, no folder, and a kernel that shows nothing."""
    outcome = CHECKS[check](NodeView(clock=NodeClock(source="kernel", uncertainty_ns=10**6)))
    assert outcome.cases == ()


def test_a_device_that_says_nothing_is_not_fine_because_its_neighbour_is() -> None:
    both = NodeView(devices=(seen(), seen(gpu(1, power_limit_mw=None))))
    assert CHECKS["power-cap"](both).state == "unread"
    third = NodeView(devices=(*both.devices, seen(gpu(2, power_limit_mw=300_000))))
    assert [case.device for case in CHECKS["power-cap"](third).cases] == ["cuda:2"]


def test_modes_of_nvidia_are_nothing_of_another_vendor() -> None:
    view = NodeView(devices=(seen(gpu(0, "npu", "Huawei", modes={}), repairs=None),))
    for check in ("mig", "persistence", "confidential", "compute-prohibited", "mps"):
        assert CHECKS[check](view).state == "absent", check
    for check in ("mode-pending", "ecc-off", "rows-remapped"):  # which theirs have too, and no tool of theirs reports
        assert CHECKS[check](view).state == "unread", check


def test_no_process_that_is_seen_in_a_container_is_not_none() -> None:
    inside = HostView(is_container=True)
    assert CHECKS["foreign-process"](gpus()._replace(host=inside)).why == "hidden"
    assert CHECKS["foreign-process"](read(processes=1)._replace(host=inside)).state == "finding"


def test_equal_findings_of_devices_are_one_and_a_profile_decides_about_busy_ones() -> None:
    view = NodeView(devices=tuple(seen(gpu(index), reading=AT_REST._replace(processes=1)) for index in range(3)))
    (one,) = [finding for finding in examine(view).findings if finding.check == "foreign-process"]
    assert (one.devices, one.values, one.counts_0) == (("cuda:0", "cuda:1", "cuda:2"), {"count": "1"}, True)
    (lenient,) = [f for f in examine(view._replace(refuses_busy=False)).findings if f.check == "foreign-process"]
    assert lenient.counts_0 is False


def test_codes_that_are_known_beforehand_are_findings_of_their_devices() -> None:
    view = NodeView(devices=(seen(), seen(gpu(1))), against={"cuda:0": (), "cuda:1": ("no-identity",)})
    (one,) = [finding for finding in examine(view).findings if finding.check == "no-identity"]
    assert (one.devices, one.counts_0) == (("cuda:1",), True)
    assert "counts" not in examine(view).fine
    assert "counts" in examine(view._replace(against={"cuda:0": (), "cuda:1": ()})).fine
    assert "counts" not in examine(view._replace(against=None)).fine


def test_every_check_comes_to_one_outcome() -> None:
    for view, _, _, _ in CASES.values():
        its = examine(view)
        places = [*{one.check for one in its.findings}, *its.fine, *its.unread, *its.absent]
        assert sorted(places) == sorted(CHECKS)


def test_a_text_of_a_driver_is_one_short_line() -> None:
    (one,) = [f for f in examine(NodeView(unusable=("a\nb" + "x" * 9999,))).findings if f.check == "device-unusable"]
    assert one.values["what"].startswith("a\\x0ab")
    assert len(one.values["what"]) == 300
