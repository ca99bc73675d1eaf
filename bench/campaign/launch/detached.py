"""A campaign whose coordinator runs on the engine itself: what is submitted before this machine is left alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bench.campaign.opening import OpenCampaign
from bench.errors import InputError
from bench.units import utc_text

if TYPE_CHECKING:
    from bench.campaign.launch.plan import LaunchPlan


class Coordinates(Protocol):
    """A launcher on which the coordinator itself can run."""

    def submit_coordinator(
        self, name: str, command: Sequence[str], log_dir: Path, time_limit_s: int, options: Sequence[str]
    ) -> None:
        """Submit the coordinator to the engine as a job of its own."""

    def describe_coordinator(
        self, name: str, command: Sequence[str], log_dir: Path, time_limit_s: int, options: Sequence[str]
    ) -> list[str]:
        """Return what `submit_coordinator` would use."""


def coordinator_of(opened: OpenCampaign, plan: LaunchPlan) -> tuple[str, tuple[str, ...], Path, int, tuple[str, ...]]:
    """Return what a coordinator on the engine itself is started with: name, command, logs, time limit, options."""
    from bench.campaign.launch.plan import gangs

    all_gangs = gangs(opened, plan)
    command = (*plan.command[:-2], "coordinate", plan.command[-1])
    limit_s = max(gang.time_limit_s for gang in all_gangs)
    return f"petaseal-{opened.campaign.campaign_id}-coordinator", command, opened.folder.logs, limit_s, plan.options


def coordinates(engine: str) -> Coordinates:
    """Return the launcher of an engine on which the coordinator itself can run.

    Raises:
        InputError: it cannot.
    """
    from bench.launchers import load_launcher

    launcher: Any = load_launcher(engine)
    if not hasattr(launcher, "submit_coordinator"):
        raise InputError("usage", f"{engine} does not run the coordinator itself", where="--detach", fix="leave it out")
    coordinating: Coordinates = launcher
    return coordinating


def hand_over(opened: OpenCampaign, plan: LaunchPlan) -> None:
    """Submit all gangs and the coordinator, and return.

    The coordinator there does not know the engine: what failed before the start is started again here.
    """
    from bench.campaign.launch.plan import gangs, launched_by
    from bench.clock import SystemClock
    from bench.launchers import load_launcher

    engine, launcher, folder = coordinates(plan.engine), load_launcher(plan.engine), opened.folder
    now = utc_text(SystemClock().utc_ns())
    folder.write_launched(launched_by(plan, now))  # the coordinator takes from it what was asked for here
    ids = {node.name: node.node_id for node in opened.roster.nodes}
    for gang in gangs(opened, plan):
        phase = launcher.state(gang).phase
        known = {name: folder.status(ids[name]) for name in gang.nodes} if folder.started() is None else {}
        failed = [
            name for name, status in known.items() if status is not None and status.state in ("failed", "aborted")
        ]
        is_there = phase in ("queued", "running")
        # A gang that waits or runs well is left alone: to submit it again would put it to the end of the queue.
        if is_there and not (phase == "running" and failed):
            continue
        for name in failed:  # else the coordinator would take them for given up before they have begun
            folder.status_file(ids[name]).unlink(missing_ok=True)
        if is_there:
            launcher.retry(gang, failed)
        else:
            launcher.submit(gang)
    engine.submit_coordinator(*coordinator_of(opened, plan))
