"""How a campaign is launched: what the operator asks for, and the engine's gangs that come of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from bench.launchers.base import Gang
from bench.record import Campaign, Profile
from bench.record.folder import Folder, Launched, Roster

SECOND_NS = 10**9


class Plan(NamedTuple):
    """How a launch is done."""

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


def launched_by(plan: Plan, at: str) -> Launched:
    """Return what is remembered of a launch that begins at a time, UTC."""
    times = {"ready_timeout_ns": plan.ready_timeout_ns, "lead_ns": plan.lead_ns, "finish_ns": plan.finish_ns}
    return Launched(
        plan.engine, plan.options, plan.reservation, plan.command, at, least=dict(plan.least), times_ns=times
    )


def handed_over(launched: Launched | None, engine: str) -> Plan:
    """Return the plan of a coordinator to which a launch handed over, with what the operator asked for there."""
    plan = Plan(engine, ())
    if launched is None:
        return plan
    times = launched.times_ns
    return plan._replace(
        least=launched.least,
        ready_timeout_ns=times.get("ready_timeout_ns", plan.ready_timeout_ns),
        lead_ns=times.get("lead_ns", plan.lead_ns),
        finish_ns=times.get("finish_ns", plan.finish_ns),
    )


def gangs(folder: Folder, campaign: Campaign, profile: Profile, roster: Roster, plan: Plan) -> list[Gang]:
    """Return one gang for each pool that has a node, with the engine's limit on its time."""
    beside = sum(profile.accompanied_ns(window.workload) for window in campaign.windows)
    load_ns = campaign.closes_ns + profile.guard_ns + beside
    limit_ns = plan.ready_timeout_ns + plan.settle_timeout_ns + plan.lead_ns + load_ns + plan.finish_ns
    found = []
    for pool in roster.pools:
        nodes = tuple(node.name for node in roster.nodes if node.pool == pool.pool)
        if nodes:
            found.append(
                Gang(
                    name=gang_name(campaign.campaign_id, pool.pool, plan.check_only),
                    pool=pool.pool,
                    nodes=nodes,
                    command=(*plan.command, "--check") if plan.check_only else plan.command,
                    log_dir=folder.logs,
                    time_limit_s=-(-limit_ns // SECOND_NS),
                    partition=pool.partition,
                    gres=pool.gres,
                    reservation=plan.reservation,
                    options=plan.options,
                    node_keys=any(node.keyid is not None for node in campaign.nodes if node.pool == pool.pool),
                )
            )
    return found
