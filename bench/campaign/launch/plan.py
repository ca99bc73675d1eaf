"""How a campaign is launched: what the operator asks for, and the engine's gangs that come of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from bench.campaign.opening import OpenCampaign
from bench.errors import InputError
from bench.launchers.base import Gang
from bench.record.campaign import load_ends_ns
from bench.record.status import Launched
from bench.units import SECOND_NS


class LaunchPlan(NamedTuple):
    """How a campaign is launched: its engine, the command of each node, and the coordinator's timeouts, ns."""

    engine: str
    command: tuple[str, ...]  # what every node runs
    options: tuple[str, ...] = ()
    reservation: str | None = None
    ready_timeout_ns: int = 1800 * SECOND_NS  # from the moment when the first gang runs
    settle_timeout_ns: int = 660 * SECOND_NS  # from publishing shapes, for nodes that prepare anew
    lead_ns: int = 15 * SECOND_NS  # from publishing T0 to T0
    retries: int = 1  # of nodes that failed before T0
    least: Mapping[str, int] = MappingProxyType({})  # pool -> of its nodes must be ready; else the usual share of them
    refresh_ns: int = 2 * SECOND_NS
    finish_ns: int = 1800 * SECOND_NS  # after the last window, until every record must be there
    check_only: bool = False  # look at the nodes and measure nothing


def gang_name(campaign_id: str, pool: str, check_only: bool) -> str:
    """Return the name by which the engine knows the gang of a pool."""
    return f"petaseal-{campaign_id}-{pool}{'-check' if check_only else ''}"


def launched_by(plan: LaunchPlan, at: str) -> Launched:
    """Return what is remembered of a launch that begins at a time, UTC."""
    times = {"ready_timeout_ns": plan.ready_timeout_ns, "lead_ns": plan.lead_ns, "finish_ns": plan.finish_ns}
    return Launched(
        plan.engine, plan.options, plan.reservation, plan.command, at, least=dict(plan.least), times_ns=times
    )


def handed_over(launched: Launched | None, engine: str) -> LaunchPlan:
    """Return the plan of a coordinator to which a launch handed over, with what the operator asked for there."""
    plan = LaunchPlan(engine, ())
    if launched is None:
        return plan
    times = launched.times_ns
    return plan._replace(
        least=launched.least,
        ready_timeout_ns=times.get("ready_timeout_ns", plan.ready_timeout_ns),
        lead_ns=times.get("lead_ns", plan.lead_ns),
        finish_ns=times.get("finish_ns", plan.finish_ns),
    )


def gangs(opened: OpenCampaign, plan: LaunchPlan) -> list[Gang]:
    """Return one gang for each pool that has a node, with the engine's limit on its time."""
    campaign, profile = opened.campaign, opened.profile
    load_ns = load_ends_ns(campaign, profile)
    # The limit begins when the gang runs, and may then wait for the last of the other gangs before anything is
    # measured.
    limit_ns = plan.ready_timeout_ns + plan.settle_timeout_ns + plan.lead_ns + load_ns + plan.finish_ns
    of_pools = []
    for pool in opened.roster.pools:
        nodes = tuple(node.name for node in opened.roster.nodes if node.pool == pool.pool)
        if nodes:
            of_pools.append(
                Gang(
                    name=gang_name(campaign.campaign_id, pool.pool, plan.check_only),
                    pool=pool.pool,
                    nodes=nodes,
                    command=(*plan.command, "--check") if plan.check_only else plan.command,
                    log_dir=opened.folder.logs,
                    time_limit_s=-(-limit_ns // SECOND_NS),
                    partition=pool.partition,
                    gres=pool.gres,
                    reservation=plan.reservation,
                    options=plan.options,
                    node_keys=any(node.keyid is not None for node in campaign.nodes if node.pool == pool.pool),
                )
            )
    return of_pools


PROGRAM = "petaseal"


def engine_of(opened: OpenCampaign, on: str | None) -> str:
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


def plan_of(opened: OpenCampaign, on: str | None, options: list[str] | None, reservation: str | None) -> LaunchPlan:
    """Return how a campaign is launched on an engine."""
    from bench.campaign.launch.plan import LaunchPlan
    from bench.launchers import load_launcher

    engine = engine_of(opened, on)
    load_launcher(engine)  # is there such an engine?
    # The program of this very installation: another one on a node's PATH may be of another release.
    installed = Path(sys.executable).with_name(PROGRAM)
    program = [str(installed)] if installed.exists() else [sys.executable, "-m", "certify"]
    return LaunchPlan(
        engine=engine,
        command=(*program, "campaign", "join", str(opened.folder.root)),
        options=tuple(options or ()),
        reservation=reservation,
    )
