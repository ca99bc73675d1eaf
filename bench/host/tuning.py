"""How this host's kernel is set where that moves a rate: governor, boost, clock caps, SMT, NUMA balancing, IOMMU.

Nothing is ever set. What a kernel or a virtual machine does not show is None. Sources: the kernel's documentation of
cpufreq, intel_pstate, /sys/devices/system/cpu/smt, numa_balancing and iommu_groups.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from bench.host.files import line, number

CPU = "sys/devices/system/cpu"
SWITCHES = {"0": False, "1": True}


class HostTuning(NamedTuple):
    """Settings of the kernel; None is what is not shown here."""

    governors: tuple[str, ...] | None = None  # of the CPUs that may be used, each once
    boost: bool | None = None
    capped_mhz: int | None = None  # the highest clock that a capped CPU may have; 0: none is capped
    highest_mhz: int | None = None  # that the same CPU could have
    smt: bool | None = None
    numa_balancing: bool | None = None
    numa_nodes: int | None = None
    iommu: tuple[str, ...] | None = None  # kinds of domains that devices are in, such as DMA, DMA-FQ, identity


def read_tuning(cpus: Iterable[int], root: Path = Path("/")) -> HostTuning:
    """Return how the kernel is set.

    Args:
        cpus: that this process may use.
        root: the file system's root (tests).
    """
    folders = [root / CPU / f"cpu{cpu}" / "cpufreq" for cpu in cpus]
    governors = sorted({name for folder in folders if (name := line(folder / "scaling_governor"))})
    capped, highest = _cap(folders)
    balancing = line(root / "proc/sys/kernel/numa_balancing")
    nodes = sum(path.name.removeprefix("node").isdecimal() for path in (root / "sys/devices/system/node").glob("node*"))
    return HostTuning(
        governors=tuple(governors) or None,
        boost=_boost(root),
        capped_mhz=capped,
        highest_mhz=highest,
        smt=SWITCHES.get(line(root / CPU / "smt/active")),
        numa_balancing=balancing != "0" if balancing.isdecimal() else None,
        numa_nodes=nodes or None,
        iommu=_iommu(root),
    )


def _boost(root: Path) -> bool | None:
    """Return whether CPUs may go above their nominal clock: intel_pstate says "no turbo", others "boost"."""
    forbidden = SWITCHES.get(line(root / CPU / "intel_pstate/no_turbo"))
    return SWITCHES.get(line(root / CPU / "cpufreq/boost")) if forbidden is None else not forbidden


def _cap(folders: Iterable[Path]) -> tuple[int | None, int | None]:
    """Return the lowest cap of all CPUs and what that one could have, MHz; (0, 0) where none is capped."""
    limits = [(number(folder / "scaling_max_freq"), number(folder / "cpuinfo_max_freq")) for folder in folders]
    known = [(cap, highest) for cap, highest in limits if cap and highest]
    if not known:
        return None, None
    cap, highest = min(known, key=lambda pair: pair[0] / pair[1])
    return (cap // 1000, highest // 1000) if cap < highest else (0, 0)


def _iommu(root: Path) -> tuple[str, ...] | None:
    """Return the kinds of domains that devices' addresses are translated in; () where no IOMMU is in use."""
    groups = root / "sys/kernel/iommu_groups"
    if not groups.is_dir():
        return None
    return tuple(sorted({kind for group in groups.glob("*") if (kind := line(group / "type"))}))
