"""One node on its own: what ``petaseal run`` measures, from when on, and the record that it leaves."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from bench.devices import DeviceSurvey, select_devices
from bench.devices.base import LocalDevice
from bench.engine.node import NodeRequest, measure_node
from bench.engine.schedule import CampaignStart, FixedStart, self_issued
from bench.errors import InputError
from bench.output import NodeSigner, Reserved
from bench.profile import chosen_workloads, load_profile
from bench.record import Campaign, NodeRecord, Profile, Workload
from bench.record.judged import Judged
from bench.terminal.live import RunProgress, Yardstick
from bench.units import utc_ns
from kernels.base import kernel_names


class RequestedWorkloads(NamedTuple):
    """What a run was asked to measure; () and None: what its profile says of the class of its devices."""

    precisions: Sequence[str]
    pool_class: str | None
    also: Sequence[str]


class RunPlan(NamedTuple):
    """The devices, workloads and profile of a run on this node."""

    devices: list[LocalDevice]
    profile: Profile
    workloads: tuple[Workload, ...]

    def self_issued(self) -> Campaign:
        """Return the campaign that a node would issue for itself, as far as its times matter."""
        return self_issued(self.profile, self.workloads, "node", "0" * 32, 0)


def plan_run(
    device: str, profile: str | None, requested: RequestedWorkloads, campaign: Campaign | None, survey: DeviceSurvey
) -> RunPlan:
    """Return devices, profile and workloads of a run; in a campaign those that it has windows for.

    Raises:
        InputError: one of them is unknown, or the campaign does not have it.
    """
    plan = load_profile(profile or (campaign.profile if campaign else "standard"))
    if campaign is None:
        devices = select_devices(device, survey)
        # Processors alone are bought for FP64 (supercomputing), accelerators for FP16 (intelligent).
        usual = "supercomputing" if all(one.model.kind == "cpu" for one in devices) else "intelligent"
        pool_class = requested.pool_class or usual
        return RunPlan(devices, plan, chosen_workloads(plan, pool_class, requested.precisions, requested.also))
    if requested.pool_class is not None or requested.also:
        what = "--class and --also are for a node on its own: the campaign says what each pool measures"
        raise InputError("usage", what, where=campaign.campaign_id)
    # A campaign's windows are signed: a workload without one would not count.
    windows = {str(window.workload): window.workload for window in campaign.windows}
    for name in requested.precisions:
        if name not in windows:
            raise InputError("unknown-precision", f"has no window for {name!r}", where=campaign.campaign_id)
    workloads = tuple(windows[name] for name in windows if name in (requested.precisions or windows))
    return RunPlan(select_devices(device, survey), plan, workloads)


def start_of(campaign: Campaign | None, node: str | None, start: str | None) -> CampaignStart | None:
    """Return when a campaign's nodes start, as far as it was agreed by hand; None without a campaign.

    Raises:
        InputError: there is no campaign to name a node or a start of, or the time is not of the form.
    """
    if campaign is None:
        if node is not None or start is not None:
            raise InputError("usage", "--node and --start are those of a campaign", fix="give it with --campaign")
        return None
    try:
        return FixedStart(utc_ns(start or campaign.starts_from))
    except ValueError as error:
        raise InputError("time-invalid", str(error), where="--start") from None


def check_kernel(kernel: str | None) -> None:
    """Refuse a kernel that there is not.

    Raises:
        InputError: there is none of that name.
    """
    # Kernels of plug-ins are looked up only where one is named.
    if kernel is not None and kernel not in (names := kernel_names()):
        raise InputError("unknown-kernel", f"there is no kernel {kernel!r}", fix=f"choose from {', '.join(names)}")


def measure_and_write(
    request: NodeRequest, signer: NodeSigner, place: Reserved, quiet: bool, yardstick: Yardstick
) -> NodeRecord:
    """Measure, sign, and write the samples and then the record: a record that exists has its samples."""
    # Written before the screen is left: a terminal that was stopped must not keep a record from the disk.
    with RunProgress(request, quiet, yardstick) as report:
        record, samples = measure_node(request, report)
        # The record binds its samples by their digest: an auditor can ask for them later.
        envelope = signer.sign(record, hashlib.sha256(samples).hexdigest())
        place.write_or_rescue(envelope, samples)
    return record


def went_wrong(record: NodeRecord, judged: Judged) -> bool:
    """Return whether a figure is void, a device failed, or nothing was measured at all.

    That a device does not have a precision is a fact about it, not a fault.
    """
    failed = any(failure.code != "unsupported-precision" for failure in record.failures)
    return failed or not record.measurements or any("void" in one.effects.values() for one in judged.values())
