"""What the commands of a campaign do: open its folder, launch or go on, look at its nodes, follow it, end it.

Everything heavy is imported inside: ``petaseal --help`` must stay fast.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from bench.errors import InputError, Interrupted, PetasealError
from bench.record import Campaign, NodeRecord, PoolClass, Profile, SharedFile, Workload, config_names, digest
from bench.record.configs import read_yaml
from bench.record.folder import (
    Folder,
    LeftOut,
    Roster,
    RosterNode,
    RosterPool,
    Status,
    Sums,
    check_belongs,
)
from bench.record.judged import Judged
from bench.record.owners import denied
from bench.units import utc_text

if TYPE_CHECKING:
    from bench.campaign.board import Overview
    from bench.campaign.estimate import Kind
    from bench.campaign.plan import Plan
    from bench.cli import Sealing

PROGRAM = "petaseal"
NOBODY = "none"  # the engine where somebody else starts the nodes


class Open:
    """A campaign's folder with everything in it that a command needs.

    Args:
        folder: of the campaign.
        sealing: reads the signed campaign.
        public: go on without the roster, which only its owner may read: nodes are then named by their ids.

    Raises:
        InputError: it is not the folder of a campaign, or something in it is damaged or cannot be read.
    """

    def __init__(self, folder: Path, sealing: Sealing, public: bool = False) -> None:
        from bench.profile import load_profile

        self.folder: Folder = Folder(folder.absolute())
        self.withheld: str | None = None  # why nodes are named by their ids
        try:
            self.roster: Roster = self.folder.roster()
            self.campaign: Campaign = sealing.open_campaign(self.folder.campaign, shared=True)
        except OSError as error:  # the folder itself may not be entered
            what = f"cannot be read ({denied(self.folder.root, error)})"
            raise InputError("file-unreadable", what, where=self.folder.root) from None
        except InputError as error:
            if not public or error.code != "file-unreadable" or error.where != str(self.folder.roster_file):
                raise
            self.withheld = f"nodes are named by their ids: {error.what}"
            self.campaign = sealing.open_campaign(self.folder.campaign, shared=True)
            self.roster = public_roster(self.folder, self.campaign)
        check_belongs(self.folder, self.roster, self.campaign)
        known = self.campaign.profile in config_names("profiles")
        self.profile: Profile = load_profile(self.campaign.profile if known else SharedFile(self.folder.profile))


class _Pool(msgspec.Struct, frozen=True):
    pool: str
    pool_class: PoolClass = msgspec.field(name="class")


class _Centre(msgspec.Struct, frozen=True):
    """What a centre file says of its pools."""

    pools: tuple[_Pool, ...]


def public_roster(folder: Folder, campaign: Campaign) -> Roster:
    """Return what a campaign's roster would be as far as its public files tell."""
    centre = read_yaml(folder.centre, _Centre)
    classes = {pool.pool: pool.pool_class for pool in centre.pools}
    return Roster(
        campaign_sha256=digest(campaign),
        salt="",
        nodes=tuple(RosterNode(node.node_id, node.node_id, node.pool, None, node.also) for node in campaign.nodes),
        left_out=tuple(LeftOut(node.node_id, node.node_id, node.pool, node.reason) for node in campaign.left_out),
        pools=tuple(
            RosterPool(pool.pool, classes.get(pool.pool, "general"), pool.workloads[0], "", None, None, None, None)
            for pool in campaign.pools
        ),
        targets=(),
        heartbeat_ns=5 * 10**9,
    )


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
    from bench.campaign.plan import Plan
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
            end_it = opened.folder.command("abort")
            what = f"interrupted; the nodes go on: run it again to watch, or end them with: {end_it}"
            raise Interrupted(what) from None


class Looked(NamedTuple):
    """What came of having every node look at itself."""

    known: dict[str, Status]
    """Node -> what it reported."""
    unheard: dict[str, str]
    """Node -> why it reported nothing, as far as that is known."""
    waiting: tuple[tuple[str, str], ...]
    """Pool -> the line that says why its job still waited at the end."""
    clocks: list[str]
    """Which clocks differ, a sentence each."""


def look(opened: Open, plan: Plan, timeout_s: float, quiet: bool) -> Looked:
    """Have every node look at itself and return what each reported."""
    from bench.campaign.clocks import sentences
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
        known, silence = coordinator.look()
        differing = sentences(coordinator.clocks.problems(known), coordinator.nodes.names)
        return Looked(dict(known), silence.nodes, silence.waiting, differing)


def kinds_here(roster: Roster) -> dict[str, Kind]:
    """Return what the devices of each pool are, of a campaign whose nodes are this machine."""
    from bench.campaign.estimate import kind_of
    from bench.devices import Survey, survey_devices

    found, survey = {}, Survey()
    for pool in roster.pools:
        with contextlib.suppress(PetasealError):  # what is wrong with them the launch says
            if devices := survey_devices(pool.device, survey)[0]:
                found[pool.pool] = kind_of(",".join(one.device.device for one in devices))
    return found


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
    from bench.campaign.plan import gangs

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
    """Submit all gangs and the coordinator, and return.

    The coordinator there does not know the engine: what failed before the start is started again here.
    """
    from bench.campaign.plan import gangs, launched_by
    from bench.clock import SystemClock
    from bench.launchers import load_launcher

    engine, launcher, folder = coordinates(plan.engine), load_launcher(plan.engine), opened.folder
    now = utc_text(SystemClock().utc_ns())
    folder.write_launched(launched_by(plan, now))  # the coordinator takes from it what was asked for here
    ids = {node.name: node.node_id for node in opened.roster.nodes}
    for gang in gangs(folder, opened.campaign, opened.profile, opened.roster, plan):
        phase = launcher.state(gang).phase
        known = {name: folder.status(ids[name]) for name in gang.nodes} if folder.started() is None else {}
        failed = [
            name for name, status in known.items() if status is not None and status.state in ("failed", "aborted")
        ]
        is_there = phase in ("queued", "running")
        if is_there and not (phase == "running" and failed):
            continue
        for name in failed:  # else the coordinator would take them for given up before they have begun
            folder.status_file(ids[name]).unlink(missing_ok=True)
        if is_there:
            launcher.retry(gang, failed)
        else:
            launcher.submit(gang)
    engine.submit_coordinator(*coordinator_of(opened, plan))


def sums_of(
    record: NodeRecord, judged: Judged, campaign: Campaign, node: RosterNode, roster: Roster
) -> dict[str, Sums]:
    """Return what a record counts by workload, as far as its own node can judge it.

    A mixed node measures on all its devices what each of its pools counts; what counts is only what the device's own
    pool does.
    """
    counted = {pool.pool: pool.workload for pool in roster.pools if pool.pool in node.pools}
    found: dict[str, list[int]] = {}

    def of(device: str, workload: Workload) -> list[int] | None:
        own, name = counted.get(campaign.pool_of(node.node_id, device) or ""), str(workload)
        is_others = name != own and name in counted.values()
        return None if is_others else found.setdefault(name, [0, 0, 0, 0])

    for measurement in record.measurements:
        for figure in measurement.figures():
            if (sums := of(figure.device, measurement.workload)) is None:
                continue
            effects = judged[figure.device, str(measurement.workload)].effects.values()
            if "void" in effects:
                sums[3] += 1
            elif "hold" in effects:
                sums[2] += 1
            else:
                sums[0] += 1
                sums[1] += figure.certified_mflop_s
    for failure in record.failures:
        if (sums := of(failure.device, Workload(failure.precision, failure.choice))) is not None:
            sums[3] += 1
    return {workload: Sums(*sums) for workload, sums in found.items()}
