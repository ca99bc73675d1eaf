"""What the commands of a campaign do: open its folder, launch or go on, look at its nodes, follow it, end it.

Everything heavy is imported inside: ``petaseal --help`` must stay fast.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bench.errors import InputError, Interrupted
from bench.record import Campaign, NodeRecord, Profile, SharedFile, Workload, config_names, write_atomic
from bench.record.folder import Folder, Launched, Roster, Status, Sums, check_belongs, survey
from bench.record.judged import Judged
from bench.units import utc_text

if TYPE_CHECKING:
    from bench.campaign.board import Overview
    from bench.campaign.coordinator import Plan
    from bench.cli import Sealing

PROGRAM = "petaseal"
NOBODY = "none"  # the engine where somebody else starts the nodes


class Open:
    """A campaign's folder with everything in it that a command needs."""

    def __init__(self, folder: Path, sealing: Sealing) -> None:
        from bench.profile import load_profile

        self.folder: Folder = Folder(folder.absolute())
        self.roster: Roster = self.folder.roster()
        self.campaign: Campaign = sealing.open_campaign(self.folder.campaign, shared=True)
        check_belongs(self.folder, self.roster, self.campaign)
        known = self.campaign.profile in config_names("profiles")
        self.profile: Profile = load_profile(self.campaign.profile if known else SharedFile(self.folder.profile))


def engine_of(opened: Open, on: str | None) -> str:
    """Return the engine that is asked for, else the one that has launched it, else the one that knows the nodes.

    Raises:
        InputError: `engine-differs`: another engine has launched the campaign.
    """
    launched = opened.folder.launched()
    if launched is None or opened.folder.started() is None:
        return on or (launched.engine if launched else None) or opened.roster.engine or "local"
    if on not in (None, launched.engine):
        what = f"was launched on {launched.engine} and has started"
        raise InputError("engine-differs", what, where=f"--on {on}", fix="leave --on out")
    return launched.engine


def plan_of(opened: Open, on: str | None, options: list[str] | None, reservation: str | None) -> Plan:
    """Return how a campaign is launched on an engine."""
    from bench.campaign.coordinator import Plan
    from bench.launchers import load_launcher

    engine = engine_of(opened, on)
    load_launcher(engine)  # is there such an engine?
    beside = Path(sys.executable).with_name(PROGRAM)
    program = [str(beside)] if beside.exists() else [sys.executable, "-m", "certify"]
    return Plan(
        engine=engine,
        command=(*program, "campaign", "join", str(opened.folder.root)),
        options=tuple(options or ()),
        reservation=reservation,
    )


def run(opened: Open, plan: Plan, quiet: bool) -> Overview:
    """Launch a campaign or go on with it, and return how it ended."""
    from bench.campaign.coordinator import Coordinator
    from bench.campaign.show import Live
    from bench.clock import SystemClock
    from bench.launchers import load_launcher

    launcher = None if plan.engine == NOBODY else load_launcher(plan.engine)
    with Live(quiet) as live:
        coordinator = Coordinator(
            opened.folder,
            opened.campaign,
            opened.profile,
            opened.roster,
            plan,
            launcher,
            SystemClock(),
            live.show,
            live.remark,
        )
        try:
            return coordinator.run()
        except KeyboardInterrupt:
            what = "interrupted; the nodes go on: run it again to watch, or end them with petaseal campaign abort"
            raise Interrupted(what) from None


def look(opened: Open, plan: Plan, timeout_s: float, quiet: bool) -> dict[str, Any]:
    """Have every node look at itself and return what each told."""
    from bench.campaign.coordinator import Coordinator
    from bench.campaign.show import Live
    from bench.clock import SystemClock
    from bench.launchers import load_launcher

    with Live(quiet) as live:
        launcher = load_launcher(plan.engine)
        coordinator = Coordinator(
            opened.folder,
            opened.campaign,
            opened.profile,
            opened.roster,
            plan._replace(ready_timeout_ns=int(timeout_s * 1e9)),
            launcher,
            SystemClock(),
            remark=live.remark,
        )
        return dict(coordinator.look())


class Coordinates(Protocol):
    """A launcher on which the coordinator itself can run."""

    def submit_coordinator(
        self, name: str, command: Sequence[str], log_dir: Path, time_limit_s: int, options: Sequence[str]
    ) -> None:
        """Start the coordinator."""
        ...

    def describe_coordinator(
        self, name: str, command: Sequence[str], log_dir: Path, time_limit_s: int, options: Sequence[str]
    ) -> list[str]:
        """Return what `submit_coordinator` would use."""
        ...


def coordinator_of(opened: Open, plan: Plan) -> tuple[str, tuple[str, ...], Path, int, tuple[str, ...]]:
    """Return what a coordinator on the engine itself is started with: name, command, logs, time limit, options."""
    from bench.campaign.coordinator import gangs

    all_gangs = gangs(opened.folder, opened.campaign, opened.profile, opened.roster, plan)
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
    found: Coordinates = launcher
    return found


def hand_over(opened: Open, plan: Plan) -> None:
    """Submit all gangs and the coordinator, and return."""
    from bench.campaign.coordinator import gangs
    from bench.clock import SystemClock
    from bench.launchers import load_launcher

    engine, launcher = coordinates(plan.engine), load_launcher(plan.engine)
    now = utc_text(SystemClock().utc_ns())
    opened.folder.write_launched(Launched(plan.engine, plan.options, plan.reservation, plan.command, now))
    for gang in gangs(opened.folder, opened.campaign, opened.profile, opened.roster, plan):
        if launcher.state(gang).phase not in ("queued", "running"):
            launcher.submit(gang)
    engine.submit_coordinator(*coordinator_of(opened, plan))


def follow(opened: Open, watch: bool) -> Overview:
    """Return a campaign at this moment; with `watch`, show it until it is over."""
    from bench.campaign.board import overview
    from bench.campaign.show import Live
    from bench.clock import SystemClock

    clock = SystemClock()
    known: dict[str, Status] = {}
    ids = frozenset(node.node_id for node in opened.roster.nodes)
    with Live(not watch) as live:
        while True:
            survey(opened.folder, known, ids)
            launched = opened.folder.launched()
            lost = launched.lost if launched else ()
            started = opened.folder.started()
            settled = opened.folder.settled()
            view = overview(opened.roster, opened.campaign, started, known, lost, clock.utc_ns(), settled)
            ended = launched is not None and launched.ended_at is not None
            if not watch or ended or (view.is_over and started is not None):
                return view
            live.show(view)
            clock.sleep_ns(2 * 10**9)


def end(opened: Open) -> str | None:
    """Abort a campaign: the nodes see the flag, and the engine ends its jobs. Return what could not be done."""
    from bench.campaign.coordinator import Plan, gangs
    from bench.launchers import load_launcher

    write_atomic(opened.folder.abort_file, b"aborted\n")
    launched = opened.folder.launched()
    if launched is None or launched.engine == NOBODY:
        return None
    plan = Plan(launched.engine, launched.command, launched.options, launched.reservation)
    launcher = load_launcher(launched.engine)
    try:
        for checks in (False, True):
            own = plan._replace(check_only=checks)
            for gang in gangs(opened.folder, opened.campaign, opened.profile, opened.roster, own):
                launcher.cancel(gang)
    except InputError as error:
        return f"the engine's jobs could not be ended ({error}); the nodes end by themselves"
    return None


def sums_of(record: NodeRecord, judged: Judged) -> dict[str, Sums]:
    """Return what a record counts by workload, as far as its own node can judge it."""

    found: dict[str, list[int]] = {}
    for measurement in record.measurements:
        for figure in measurement.figures():
            sums = found.setdefault(str(measurement.workload), [0, 0, 0, 0])
            effects = judged[figure.device, str(measurement.workload)].effects.values()
            if "void" in effects:
                sums[3] += 1
            elif "hold" in effects:
                sums[2] += 1
            else:
                sums[0] += 1
                sums[1] += figure.certified_mflop_s
    for failure in record.failures:
        found.setdefault(str(Workload(failure.precision, failure.choice)), [0, 0, 0, 0])[3] += 1
    return {workload: Sums(*sums) for workload, sums in found.items()}
