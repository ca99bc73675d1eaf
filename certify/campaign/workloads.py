"""What a campaign measures: what the policies count in a pool's class, and what profile and operator add. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from bench.errors import InputError
from bench.record import ExpectedPool, PoolClass, Profile, Workload
from bench.record.campaign import named_workloads
from bench.record.fields import workload_of
from bench.record.roster import ThresholdTarget
from certify.campaign.roster import Counted, RosterEntries, RosterOptions
from certify.policy.centre import Centre
from certify.policy.policies import Policy, Threshold

HOUR_NS = 3600 * 10**9


class CreateOptions(NamedTuple):
    """What ``petaseal campaign create`` was asked for."""

    centre: str
    profile: Profile
    policies: tuple[str, ...]
    out: Path
    roster: RosterOptions = RosterOptions()
    precisions: tuple[str, ...] = ()  # texts of workloads that each pool measures, in place of the profile's
    also: tuple[tuple[str | None, str], ...] = ()  # a pool, None for each, and the text of a workload besides
    challenge: str | None = None
    challenge_source: Literal["witness", "registry"] = "witness"
    starts_from: str | None = None
    within_ns: int = 24 * HOUR_NS
    ramp_ns: int = 0
    engine: str | None = None  # that knows the nodes
    node_keys: Path | None = None  # folder of the nodes' public keys
    previous: Path | None = None  # an earlier campaign's folder: node ids stay the same
    network: bool = False  # measure the network's share after the counted windows
    network_groups: str | None = None  # a file of groups, or "partition"; None: all nodes are one
    rails: bool = False  # run C joins the devices of one index only


def workloads_of(policies: Sequence[Policy], centre: Centre) -> dict[PoolClass, str]:
    """Return what counts in each class of the centre's pools, such as fp16.

    Raises:
        InputError: the policies differ, or none counts a class of the centre.
    """
    from certify.judge.scope import counting_of

    counting = counting_of(policies, centre)
    return {pool.pool_class: str(counting[pool.pool_class].workload) for pool in centre.pools}


def targets_of(policies: Sequence[Policy]) -> tuple[ThresholdTarget, ...]:
    """Return the thresholds that a running sum is shown against."""
    return tuple(
        ThresholdTarget(f"{policy.policy}/{condition.condition}", tuple(condition.classes), condition.value_mflop_s)
        for policy in policies
        for condition in policy.judged
        if isinstance(condition, Threshold)
    )


def pools_measured(
    options: CreateOptions, centre: Centre, counted: Counted, entries: RosterEntries
) -> tuple[ExpectedPool, ...]:
    """Return what each pool with nodes measures: what the policies count in its class, what profile and operator add.

    A node measures all its devices alike: one that has devices of two pools measures what both do.

    Raises:
        InputError: `unknown-precision`, `unknown-pool`, or `nothing-counts`: no pool measures what counts in it.
    """
    profile, named = options.profile, {pool.pool for pool in centre.pools}
    # Named by the operator, they replace what the profile would measure; --also adds to either.
    wanted = named_workloads(profile, options.precisions)
    added: dict[str, list[Workload]] = {name: [] for name in named}
    for name, text in options.also:
        if name is not None and name not in named:
            fix = f"the centre has {', '.join(sorted(named))}"
            raise InputError("unknown-pool", f"the centre has no pool {name!r}", where="--also", fix=fix)
        for pool_name in named if name is None else (name,):
            added[pool_name] += named_workloads(profile, (text,))
    measured: dict[str, dict[Workload, None]] = {}
    # The order of classes is that of the windows: it must not depend on how the centre file lists its pools.
    for pool in sorted(centre.pools, key=lambda pool: get_args(PoolClass).index(pool.pool_class)):
        counts = workload_of(counted[pool.pool_class])
        usual = (*((counts,) if profile.registered(counts) else ()), *profile.workloads_of(pool.pool_class))
        measured[pool.pool] = dict.fromkeys((*(wanted or usual), *added[pool.pool]))
    # Refused before the load: every figure would be measured, and the statement would add up to 0.
    if not any(workload_of(counted[pool.pool_class]) in measured[pool.pool] for pool in centre.pools):
        texts = sorted({str(one) for workloads in measured.values() for one in workloads})
        what = f"measures {', '.join(texts)}, and the policies count {', '.join(sorted(set(counted.values())))}"
        raise InputError("nothing-counts", what, where="campaign create", fix="choose other precisions or policies")
    taking_part = {pool for node in entries.nodes for pool in (node.pool, *node.also)}
    if idle := sorted(name for name in taking_part if not measured[name]):
        what = f"the profile {profile.profile} has nothing to measure in the pool {idle[0]}"
        fix = f"name it with --also {idle[0]}=WORKLOAD, or choose another profile"
        raise InputError("nothing-counts", what, where="campaign create", fix=fix)
    return tuple(
        ExpectedPool(pool=name, devices=centre.by_name[name].devices, workloads=tuple(map(str, workloads)))
        for name, workloads in measured.items()
        if name in taking_part
    )


def in_order(pools: Sequence[ExpectedPool]) -> tuple[Workload, ...]:
    """Return the workloads of all pools, each once: their windows follow one another, the intelligent pools' first."""
    return tuple(map(workload_of, dict.fromkeys(name for pool in pools for name in pool.workloads)))
