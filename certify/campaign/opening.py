"""Opening a campaign: from a centre file and the engine's nodes to a signed campaign and its folder.

I/O at the rim; which nodes take part, under which names, is decided by `enlist`, a pure function.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import msgspec

from bench.errors import InputError
from bench.record import (
    Attempt,
    Campaign,
    ExpectedNode,
    ExpectedPool,
    LeftOutNode,
    PoolClass,
    Profile,
    SharedFile,
    Workload,
    config_names,
    digest,
    encode,
    refuse_existing,
    write_atomic,
)
from bench.record.campaign import Outcome
from bench.record.fields import workload_of
from bench.record.folder import Folder, Roster, Target, check_belongs
from bench.record.windows import named_workloads, windows
from bench.units import utc_ns, utc_text
from certify.campaign.enrolment import enrolled_keys, read_node_keys
from certify.campaign.roster import Counted, EngineNode, Enlisted, Wishes, enlist
from certify.documents.dsse import seal
from certify.documents.kinds import PAYLOAD_TYPE, make_document
from certify.keys.signers import PrivateKey
from certify.policy.centre import Centre, load_centre, read_centre
from certify.policy.policies import Policy, Threshold, load_policies, load_policy
from certify.statement.baseline import baseline_path, check_day, read_baseline
from certify.statement.campaign import policies_of

SECOND_NS = 10**9
HOUR_NS = 3600 * SECOND_NS
LEAST_HEARTBEAT_NS = 5 * SECOND_NS
NEW_FOLDER = "choose another folder with --out"
HEARTBEAT_NS_PER_NODE = 5_000_000  # so that all nodes together write at most 200 files a second


class Opening(NamedTuple):
    """What ``petaseal campaign create`` was asked for."""

    centre: str
    profile: Profile
    policies: tuple[str, ...]
    out: Path
    wishes: Wishes = Wishes()
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


class Opened(NamedTuple):
    """A campaign that was opened."""

    folder: Folder
    campaign: Campaign
    profile: Profile
    roster: Roster


def open_folder(opening: Opening, key: PrivateKey, found: Sequence[EngineNode] | None, now_ns: int) -> Opened:
    """Open, sign and write a campaign.

    Args:
        opening: what was asked for.
        key: the operator's.
        found: the engine's nodes; None where the centre file names them all.
        now_ns: UTC, ns.

    Raises:
        InputError: something asked for is unknown, contradicts itself, or the folder is there.
    """
    refuse_existing(opening.out, NEW_FOLDER)
    centre, spelled = read_centre(opening.centre)
    policies = load_policies(opening.policies)
    salt = Folder(opening.previous).roster().salt if opening.previous else secrets.token_hex(16)
    counted = workloads_of(policies, centre)
    enlisted = enlist(centre.pools, found, opening.wishes, salt, counted, spelled)
    pools = measured_in(opening, centre, counted, enlisted)
    given = read_node_keys(opening.node_keys) if opening.node_keys else {}
    left_out = {text for node in enlisted.left_out for text in (node.name, node.node_id)}
    enrolled = enrolled_keys(enlisted.nodes, given, left_out, policies)
    now = utc_text(now_ns)
    starts_from = opening.starts_from or now
    check_day(centre, starts_from)
    campaign_id = f"c{now[:10].replace('-', '')}-{secrets.token_hex(4)}"
    campaign = Campaign(
        campaign_id=campaign_id,
        self_issued=False,
        purpose="capacity",
        centre_id=centre.centre_id,
        centre_sha256=digest(centre),
        challenge=opening.challenge or secrets.token_hex(32),
        challenge_source=opening.challenge_source if opening.challenge else "self",
        profile=opening.profile.profile,
        profile_sha256=digest(opening.profile),
        policies={policy.policy: digest(policy) for policy in policies},
        issued_at=now,
        starts_from=starts_from,
        starts_until=utc_text(max(utc_ns(starts_from), now_ns) + opening.within_ns),
        ramp_ns=opening.ramp_ns,
        windows=windows(opening.profile, in_order(pools), opening.ramp_ns),
        pools=pools,
        nodes=tuple(
            ExpectedNode(node_id=node.node_id, pool=node.pool, also=node.also, keyid=enrolled.get(node.node_id))
            for node in enlisted.nodes
        ),
        left_out=tuple(LeftOutNode(node_id=n.node_id, pool=n.pool, reason=n.reason) for n in enlisted.left_out),
        series=campaign_id,
        earlier=(),
    )
    roster = Roster(
        campaign_sha256=digest(campaign),
        salt=salt,
        nodes=enlisted.nodes,
        left_out=enlisted.left_out,
        pools=enlisted.pools,
        targets=targets_of(policies),
        engine=opening.engine,
        heartbeat_ns=max(LEAST_HEARTBEAT_NS, HEARTBEAT_NS_PER_NODE * len(enlisted.nodes)),
    )
    beside = files_beside(opening.centre, centre, policies)
    write_folder(opening.out, campaign, opening.profile, roster, centre, beside, key)
    return Opened(Folder(opening.out), campaign, opening.profile, roster)


def reopen(
    folder: Folder, campaign: Campaign, profile: Profile, out: Path, key: PrivateKey, challenge: str | None, now_ns: int
) -> Opened:
    """Open the next attempt of a campaign's series: the same nodes, everything measured again.

    Args:
        folder: of the attempt before.
        campaign: of the attempt before.
        profile: that it names.
        out: the new folder.
        key: the operator's.
        challenge: a new one from a witness or the registry; None to draw it.
        now_ns: UTC, ns.

    Raises:
        InputError: the new folder is there, or the old one is damaged.
    """
    refuse_existing(out, NEW_FOLDER)
    roster = folder.roster()
    check_belongs(folder, roster, campaign)
    if digest(profile) != campaign.profile_sha256:
        what = f"differs from the profile {profile.profile} that the campaign was opened with"
        raise InputError("campaign-profile-differs", what, where=folder.root, fix="create a new campaign")
    source = "witness" if campaign.challenge_source == "self" else campaign.challenge_source
    before = Attempt(
        campaign_id=campaign.campaign_id,
        campaign_sha256=digest(campaign),
        issued_at=campaign.issued_at,
        outcome=outcome_of(folder),
    )
    now = utc_text(now_ns)
    length_ns = utc_ns(campaign.starts_until) - max(utc_ns(campaign.starts_from), utc_ns(campaign.issued_at))
    again = msgspec.structs.replace(
        campaign,
        campaign_id=f"c{now[:10].replace('-', '')}-{secrets.token_hex(4)}",
        challenge=challenge or secrets.token_hex(32),
        challenge_source=source if challenge else "self",
        issued_at=now,
        starts_from=now,
        starts_until=utc_text(now_ns + length_ns),
        earlier=(*campaign.earlier, before),
    )
    own = msgspec.structs.replace(roster, campaign_sha256=digest(again))
    centre = load_centre(SharedFile(folder.centre))
    policies = [load_policy(name) for name in policies_of(folder, campaign)]
    write_folder(out, again, profile, own, centre, files_beside(SharedFile(folder.centre), centre, policies), key)
    return Opened(Folder(out), again, profile, own)


def open_spot_check(
    folder: Folder,
    campaign: Campaign,
    profile: Profile,
    out: Path,
    key: PrivateKey,
    drawn: Collection[str],
    seed: str,
    now_ns: int,
) -> Opened:
    """Open a spot check: the drawn nodes of a campaign, measured as they were, under the auditor's challenge.

    Args:
        folder: of the campaign that is checked.
        campaign: that is checked.
        profile: that it names.
        out: the new folder.
        key: the operator's.
        drawn: ids of the nodes.
        seed: the auditor's challenge.
        now_ns: UTC, ns.

    Raises:
        InputError: the new folder is there, or the old one is damaged.
    """
    refuse_existing(out, NEW_FOLDER)
    roster = folder.roster()
    now = utc_text(now_ns)
    campaign_id = f"s{now[:10].replace('-', '')}-{secrets.token_hex(4)}"
    again = msgspec.structs.replace(
        campaign,
        campaign_id=campaign_id,
        purpose="spot-check",
        challenge=seed,
        challenge_source="witness",
        issued_at=now,
        starts_from=now,
        starts_until=utc_text(now_ns + 24 * HOUR_NS),
        nodes=tuple(node for node in campaign.nodes if node.node_id in drawn),
        left_out=(),
        series=campaign_id,
        earlier=(),
    )
    own = msgspec.structs.replace(
        roster,
        campaign_sha256=digest(again),
        nodes=tuple(node for node in roster.nodes if node.node_id in drawn),
        left_out=(),
        targets=(),
    )
    centre = load_centre(SharedFile(folder.centre))
    policies = [load_policy(name) for name in policies_of(folder, campaign)]
    write_folder(out, again, profile, own, centre, files_beside(SharedFile(folder.centre), centre, policies), key)
    return Opened(Folder(out), again, profile, own)


def outcome_of(folder: Folder) -> Outcome:
    """Return what became of an attempt, as its folder tells."""
    if folder.submitted_file.exists():
        return "submitted"
    return "aborted" if folder.aborted() else "not-submitted"


def files_beside(centre_name: str, centre: Centre, policies: Sequence[Policy]) -> dict[str, bytes]:
    """Return what a statement will need besides: the signed baseline, and policies that are not installed ones.

    Raises:
        InputError, RefusedError: the baseline cannot be read, or is not the one of the centre file.
    """
    import yaml

    files = {}
    if (baseline := baseline_path(centre_name, centre)) is not None:
        # What would refuse the statement is said before the load; under the name in the centre file: a link may differ.
        files[str(centre.baseline)], _ = read_baseline(baseline, centre)
    for policy in policies:
        if policy.policy not in config_names("policies"):
            text = yaml.safe_dump(msgspec.to_builtins(policy), allow_unicode=True, sort_keys=False)
            files[f"policies/{policy.policy}.yaml"] = text.encode()
    return files


def write_folder(
    out: Path,
    campaign: Campaign,
    profile: Profile,
    roster: Roster,
    centre: Centre,
    beside: Mapping[str, bytes],
    key: PrivateKey,
) -> None:
    """Write a campaign's folder, the signed campaign last: a folder that has it is whole."""
    import yaml

    folder = Folder(out)
    payload = make_document("campaign", campaign)
    write_atomic(folder.roster_file, encode(roster) + b"\n", mode=0o600)
    text = yaml.safe_dump(msgspec.to_builtins(centre), allow_unicode=True, sort_keys=False)
    write_atomic(folder.centre, text.encode())
    for name, content in beside.items():
        write_atomic(out / name, content)
    if profile.profile not in config_names("profiles"):
        write_atomic(folder.profile, yaml.safe_dump(msgspec.to_builtins(profile), sort_keys=False).encode())
    write_atomic(folder.campaign, seal(payload, PAYLOAD_TYPE, [key]), new=True)


def workloads_of(policies: Sequence[Policy], centre: Centre) -> dict[PoolClass, str]:
    """Return what counts in each class of the centre's pools, such as fp16.

    Raises:
        InputError: the policies differ, or none counts a class of the centre.
    """
    from certify.judge.aggregate import counting_of

    counting = counting_of(policies, centre)
    return {pool.pool_class: str(counting[pool.pool_class].workload) for pool in centre.pools}


def targets_of(policies: Sequence[Policy]) -> tuple[Target, ...]:
    """Return the thresholds that a running sum is shown against."""
    return tuple(
        Target(f"{policy.policy}/{condition.condition}", tuple(condition.classes), condition.value_mflop_s)
        for policy in policies
        for condition in policy.judged
        if isinstance(condition, Threshold)
    )


def measured_in(opening: Opening, centre: Centre, counted: Counted, enlisted: Enlisted) -> tuple[ExpectedPool, ...]:
    """Return what each pool with nodes measures: what the policies count in its class, what profile and operator add.

    A node measures all its devices alike: one that has devices of two pools measures what both do.

    Raises:
        InputError: `unknown-precision`, `unknown-pool`, or `nothing-counts`: no pool measures what counts in it.
    """
    profile, named = opening.profile, {pool.pool for pool in centre.pools}
    wanted = named_workloads(profile, opening.precisions)
    added: dict[str, list[Workload]] = {name: [] for name in named}
    for name, text in opening.also:
        if name is not None and name not in named:
            fix = f"the centre has {', '.join(sorted(named))}"
            raise InputError("unknown-pool", f"the centre has no pool {name!r}", where="--also", fix=fix)
        for own in named if name is None else (name,):
            added[own] += named_workloads(profile, (text,))
    measured: dict[str, dict[Workload, None]] = {}
    for pool in sorted(centre.pools, key=lambda pool: get_args(PoolClass).index(pool.pool_class)):
        counts = workload_of(counted[pool.pool_class])
        usual = (*((counts,) if profile.registered(counts) else ()), *profile.workloads_of(pool.pool_class))
        measured[pool.pool] = dict.fromkeys((*(wanted or usual), *added[pool.pool]))
    if not any(workload_of(counted[pool.pool_class]) in measured[pool.pool] for pool in centre.pools):
        texts = sorted({str(one) for own in measured.values() for one in own})
        what = f"measures {', '.join(texts)}, and the policies count {', '.join(sorted(set(counted.values())))}"
        raise InputError("nothing-counts", what, where="campaign create", fix="choose other precisions or policies")
    taking_part = {pool for node in enlisted.nodes for pool in (node.pool, *node.also)}
    if idle := sorted(name for name in taking_part if not measured[name]):
        what = f"the profile {profile.profile} has nothing to measure in the pool {idle[0]}"
        fix = f"name it with --also {idle[0]}=WORKLOAD, or choose another profile"
        raise InputError("nothing-counts", what, where="campaign create", fix=fix)
    return tuple(
        ExpectedPool(pool=name, devices=centre.by_name[name].devices, workloads=tuple(map(str, own)))
        for name, own in measured.items()
        if name in taking_part
    )


def in_order(pools: Sequence[ExpectedPool]) -> tuple[Workload, ...]:
    """Return the workloads of all pools, each once: their windows follow one another, the intelligent pools' first."""
    return tuple(map(workload_of, dict.fromkeys(name for pool in pools for name in pool.workloads)))
