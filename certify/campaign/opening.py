"""Opening a campaign: from a centre file and the engine's nodes to a signed campaign and its folder.

I/O at the rim; which nodes take part, under which names, is decided by `compile_roster`, a pure function.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.errors import InputError
from bench.record import (
    Attempt,
    Campaign,
    ExpectedNode,
    LeftOutNode,
    Profile,
    SharedFile,
    config_names,
    digest,
    encode,
    refuse_existing,
    write_atomic,
)
from bench.record.campaign import Outcome, network_windows, windows
from bench.record.folder import Folder, check_belongs
from bench.record.roster import EngineNode, Roster
from bench.units import utc_ns, utc_text
from certify.campaign.enrolment import enrolled_keys, read_node_keys
from certify.campaign.groups import groups_asked_for
from certify.campaign.roster import RosterEntries, compile_roster
from certify.campaign.workloads import HOUR_NS, CreateOptions, in_order, pools_measured, targets_of, workloads_of
from certify.documents.dsse import seal
from certify.documents.kinds import PAYLOAD_TYPE, make_document
from certify.keys.signers import PrivateKey
from certify.policy.centre import Centre, load_centre, read_centre
from certify.policy.policies import Policy, load_policies, load_policy
from certify.statement.baseline import baseline_path, check_day, read_baseline
from certify.statement.campaign import policies_of

SECOND_NS = 10**9
LEAST_HEARTBEAT_NS = 5 * SECOND_NS
NEW_FOLDER = "choose another folder with --out"
HEARTBEAT_NS_PER_NODE = 5_000_000  # so that all nodes together write at most 200 files a second


class CreatedCampaign(NamedTuple):
    """A campaign that was created: its folder, and what was signed."""

    folder: Folder
    campaign: Campaign
    profile: Profile
    roster: Roster


def open_folder(
    options: CreateOptions, key: PrivateKey, known: Sequence[EngineNode] | None, now_ns: int
) -> CreatedCampaign:
    """Open, sign and write a campaign.

    Args:
        options: what was asked for.
        key: the operator's.
        known: the engine's nodes; None where the centre file names them all.
        now_ns: UTC, ns.

    Raises:
        InputError: something asked for is unknown, contradicts itself, or the folder is there.
    """
    refuse_existing(options.out, NEW_FOLDER)
    centre, spelled = read_centre(options.centre)
    policies = load_policies(options.policies)
    # The same salt gives the same ids, so that two campaigns of a centre can be compared node by node.
    salt = Folder(options.previous).roster().salt if options.previous else secrets.token_hex(16)
    counted = workloads_of(policies, centre)
    entries = compile_roster(centre.pools, known, options.roster, salt, counted, spelled)
    pools = pools_measured(options, centre, counted, entries)
    given = read_node_keys(options.node_keys) if options.node_keys else {}
    left_out = {text for node in entries.left_out for text in (node.name, node.node_id)}
    enrolled = enrolled_keys(entries.nodes, given, left_out, policies)
    groups = groups_asked_for(options, entries)
    now = utc_text(now_ns)
    starts_from = options.starts_from or now
    check_day(centre, starts_from)
    campaign_id = _campaign_id("c", now)
    counted_windows = windows(options.profile, in_order(pools), options.ramp_ns)
    campaign = Campaign(
        campaign_id=campaign_id,
        self_issued=False,
        purpose="capacity",
        centre_id=centre.centre_id,
        centre_sha256=digest(centre),
        challenge=options.challenge or secrets.token_hex(32),
        challenge_source=options.challenge_source if options.challenge else "self",
        profile=options.profile.profile,
        profile_sha256=digest(options.profile),
        policies={policy.policy: digest(policy) for policy in policies},
        issued_at=now,
        starts_from=starts_from,
        starts_until=utc_text(max(utc_ns(starts_from), now_ns) + options.within_ns),
        ramp_ns=options.ramp_ns,
        windows=counted_windows,
        pools=pools,
        nodes=tuple(
            ExpectedNode(
                node_id=node.node_id,
                pool=node.pool,
                also=node.also,
                keyid=enrolled.get(node.node_id),
                group=groups.get(node.node_id),
            )
            for node in entries.nodes
        ),
        left_out=tuple(LeftOutNode(node_id=n.node_id, pool=n.pool, reason=n.reason) for n in entries.left_out),
        series=campaign_id,
        earlier=(),
        network=network_windows(options.profile, counted_windows, options.ramp_ns) if options.network else (),
        rails=options.rails,
    )
    roster = _roster_of(campaign, entries, salt, policies, options.engine)
    supporting = supporting_files(options.centre, centre, policies)
    write_folder(options.out, campaign, options.profile, roster, centre, supporting, key)
    return CreatedCampaign(Folder(options.out), campaign, options.profile, roster)


def _roster_of(
    campaign: Campaign, entries: RosterEntries, salt: str, policies: Sequence[Policy], engine: str | None
) -> Roster:
    """Return the private file of a campaign: the engine's names of its nodes, and how often each of them writes."""
    return Roster(
        campaign_sha256=digest(campaign),
        salt=salt,
        nodes=entries.nodes,
        left_out=entries.left_out,
        pools=entries.pools,
        targets=targets_of(policies),
        engine=engine,
        heartbeat_ns=max(LEAST_HEARTBEAT_NS, HEARTBEAT_NS_PER_NODE * len(entries.nodes)),
    )


def _campaign_id(prefix: str, now: str) -> str:
    """Return a new campaign's id: its kind, its day, and 32 bits, so that two opened on one day differ."""
    return f"{prefix}{now[:10].replace('-', '')}-{secrets.token_hex(4)}"


def reopen(
    folder: Folder, campaign: Campaign, profile: Profile, out: Path, key: PrivateKey, challenge: str | None, now_ns: int
) -> CreatedCampaign:
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
    # As much time to start as the attempt before had, counted from when it could begin.
    length_ns = utc_ns(campaign.starts_until) - max(utc_ns(campaign.starts_from), utc_ns(campaign.issued_at))
    again = msgspec.structs.replace(
        campaign,
        campaign_id=_campaign_id("c", now),
        challenge=challenge or secrets.token_hex(32),
        challenge_source=source if challenge else "self",
        issued_at=now,
        starts_from=now,
        starts_until=utc_text(now_ns + length_ns),
        earlier=(*campaign.earlier, before),
    )
    roster = msgspec.structs.replace(roster, campaign_sha256=digest(again))
    centre = load_centre(SharedFile(folder.centre))
    policies = [load_policy(name) for name in policies_of(folder, campaign)]
    write_folder(
        out, again, profile, roster, centre, supporting_files(SharedFile(folder.centre), centre, policies), key
    )
    return CreatedCampaign(Folder(out), again, profile, roster)


def open_spot_check(
    folder: Folder,
    campaign: Campaign,
    profile: Profile,
    out: Path,
    key: PrivateKey,
    drawn: Collection[str],
    seed: str,
    now_ns: int,
) -> CreatedCampaign:
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
    campaign_id = _campaign_id("s", now)
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
        network=(),  # of single nodes the network's share says nothing
    )
    roster = msgspec.structs.replace(
        roster,
        campaign_sha256=digest(again),
        nodes=tuple(node for node in roster.nodes if node.node_id in drawn),
        left_out=(),
        targets=(),
    )
    centre = load_centre(SharedFile(folder.centre))
    policies = [load_policy(name) for name in policies_of(folder, campaign)]
    write_folder(
        out, again, profile, roster, centre, supporting_files(SharedFile(folder.centre), centre, policies), key
    )
    return CreatedCampaign(Folder(out), again, profile, roster)


def outcome_of(folder: Folder) -> Outcome:
    """Return the outcome of an attempt, by the files of its folder."""
    if folder.submitted_file.exists():
        return "submitted"
    return "aborted" if folder.aborted() else "not-submitted"


def supporting_files(centre_name: str, centre: Centre, policies: Sequence[Policy]) -> dict[str, bytes]:
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
    supporting: Mapping[str, bytes],
    key: PrivateKey,
) -> None:
    """Write a campaign's folder, the signed campaign last: a folder that has it is whole."""
    import yaml

    folder = Folder(out)
    payload = make_document("campaign", campaign)
    # It names the centre's hosts, which the signed documents do not: for its owner alone.
    write_atomic(folder.roster_file, encode(roster) + b"\n", mode=0o600)
    text = yaml.safe_dump(msgspec.to_builtins(centre), allow_unicode=True, sort_keys=False)
    write_atomic(folder.centre, text.encode())
    for name, content in supporting.items():
        write_atomic(out / name, content)
    if profile.profile not in config_names("profiles"):
        write_atomic(folder.profile, yaml.safe_dump(msgspec.to_builtins(profile), sort_keys=False).encode())
    write_atomic(folder.campaign, seal(payload, PAYLOAD_TYPE, [key]), new=True)
