"""What the commands of a campaign do: open its folder, launch or go on, look at its nodes, follow it, end it.

Everything heavy is imported inside: ``petaseal --help`` must stay fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.campaign.launch.preflight import PreflightResult
from bench.campaign.opening import NO_ENGINE, OpenCampaign
from bench.errors import Interrupted

if TYPE_CHECKING:
    from bench.campaign.board import Overview
    from bench.campaign.launch.plan import LaunchPlan


def run(opened: OpenCampaign, plan: LaunchPlan, quiet: bool) -> Overview:
    """Launch a campaign or go on with it, and return how it ended."""
    from bench.campaign.launch.coordinator import Coordinator
    from bench.campaign.show import Live
    from bench.clock import SystemClock
    from bench.launchers import load_launcher

    launcher = None if plan.engine == NO_ENGINE else load_launcher(plan.engine)
    with Live(quiet) as live:
        coordinator = Coordinator(
            opened,
            plan,
            launcher,
            SystemClock(),
            live.show,
            live.remark,
        )
        try:
            return coordinator.run()
        except KeyboardInterrupt:
            end_it = opened.folder.command("abort")
            what = f"interrupted; the nodes go on: run it again to watch, or end them with: {end_it}"
            raise Interrupted(what) from None


def look(opened: OpenCampaign, plan: LaunchPlan, timeout_s: float, quiet: bool) -> PreflightResult:
    """Have every node look at itself and return what each reported."""
    from bench.campaign.launch.clocks import sentences
    from bench.campaign.launch.coordinator import Coordinator
    from bench.campaign.show import Live
    from bench.clock import SystemClock
    from bench.launchers import load_launcher

    with Live(quiet) as live:
        launcher = load_launcher(plan.engine)
        coordinator = Coordinator(
            opened,
            plan._replace(ready_timeout_ns=int(timeout_s * 1e9)),
            launcher,
            SystemClock(),
            remark=live.remark,
        )
        known, silence = coordinator.look()
        differing = sentences(coordinator.clocks.problems(known), coordinator.nodes.names)
        return PreflightResult(dict(known), silence.nodes, silence.waiting, differing)
