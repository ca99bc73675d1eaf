"""Checks of the host that the devices are in: its kernel's settings, its limits, and who else is there. Pure."""

from __future__ import annotations

from bench.doctor.outcomes import ABSENT, FINE, CheckCase, Outcome, findings, one_finding, unread
from bench.doctor.view import NodeView
from bench.telemetry import MOST_OTHER_LOAD_PPM
from bench.units import percent_text, shortened_list

GB = 10**9
TRANSLATED = ("DMA",)  # how the kernel's names of domains begin in which addresses are translated


def foreign_load(view: NodeView) -> Outcome:
    """Others use the processors that are to be measured."""
    if not any(one.is_cpu for one in view.devices):
        return ABSENT
    load = view.host.other_load_ppm
    if load is None:
        return unread("not-shown")
    cases = [CheckCase({"share": percent_text(load, 0)}, None, view.refuses_busy)] if load > MOST_OTHER_LOAD_PPM else []
    return findings(cases)


def mps(view: NodeView) -> Outcome:
    """NVIDIA's multi-process service runs, or the environment asks for it."""
    if not any(one.local.device.device.startswith("cuda:") for one in view.devices):
        return ABSENT
    if view.host.mps is None:
        return unread("not-shown")
    return one_finding(bool(view.host.mps), what=", ".join(view.host.mps))


def governor(view: NodeView) -> Outcome:
    """A CPU's governor is none that asks for the highest clock."""
    names = view.host.tuning.governors
    return unread("not-shown") if names is None else one_finding(names != ("performance",), names=", ".join(names))


def boost(view: NodeView) -> Outcome:
    """The CPUs may not go above their nominal clock."""
    allowed = view.host.tuning.boost
    return unread("not-shown") if allowed is None else one_finding(not allowed)


def cpu_clock_cap(view: NodeView) -> Outcome:
    """A CPU's clock is capped below its highest."""
    cap, highest = view.host.tuning.capped_mhz, view.host.tuning.highest_mhz
    return unread("not-shown") if cap is None else one_finding(cap > 0, cap=cap, highest=highest)


def numa_balancing(view: NodeView) -> Outcome:
    """The kernel moves pages between the nodes of its memory."""
    balances, nodes = view.host.tuning.numa_balancing, view.host.tuning.numa_nodes
    if balances is None:
        return unread("not-shown")
    # With one node there is nowhere to move a page to.
    return one_finding(balances and (nodes or 2) > 1, nodes=nodes or "?")


def smt(view: NodeView) -> Outcome:
    """Two threads share each core that is to be measured."""
    if not any(one.is_cpu for one in view.devices):
        return ABSENT
    active = view.host.tuning.smt
    return unread("not-shown") if active is None else one_finding(active)


def iommu(view: NodeView) -> Outcome:
    """The IOMMU translates the devices' addresses."""
    kinds = view.host.tuning.iommu
    if kinds is None:
        return unread("not-shown")
    translated = [kind for kind in kinds if kind.startswith(TRANSLATED)]
    return one_finding(bool(translated), kinds=", ".join(translated))


def cpu_quota(view: NodeView) -> Outcome:
    """A control group allows less time than there are CPUs."""
    if view.host.limits is None:
        return unread("not-shown")
    quota = view.host.limits.quota_mcpu
    return one_finding(
        quota is not None and quota < 1000 * view.host.cpus, quota=(quota or 0) / 1000, cpus=view.host.cpus
    )


def memory_limit(view: NodeView) -> Outcome:
    """A control group allows less memory than the host has."""
    limits, total = view.host.limits, view.host.memory_bytes
    if limits is None or total is None:
        return unread("not-shown")
    limit = limits.memory_bytes
    if limit is None or limit >= total:
        return FINE
    return one_finding(True, limit=f"{limit / GB:.1f}", total=f"{total / GB:.1f}")


def hidden_host(view: NodeView) -> Outcome:
    """A container's file system stands in for the kernel's files."""
    return one_finding(bool(view.host.hidden), files=shortened_list(view.host.hidden))


HOST_CHECKS = (
    foreign_load,
    mps,
    governor,
    boost,
    cpu_clock_cap,
    cpu_quota,
    memory_limit,
    numa_balancing,
    smt,
    iommu,
    hidden_host,
)
