"""A centre's signed campaign and its closing document: opening them, and whether they belong where they are used."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from bench.errors import InputError, RefusedError
from bench.record import Campaign, Profile, SharedFile, config_names, digest, read_bytes, read_given, read_profile
from bench.record.campaign import ends_ns
from bench.record.closing import Closing
from bench.record.folder import CLOSING, Folder
from bench.units import utc_ns, utc_text
from certify.documents.caps import CAPS
from certify.documents.dsse import decode, parse_envelope
from certify.documents.kinds import RECORD_SUFFIX, OpenedDocument, parse_payload
from certify.policy.centre import Centre
from certify.policy.policies import EACH_POLICY, Policy
from certify.policy.pools import split_problem
from certify.policy.released import profile_of
from certify.statement.attendance import read_absences
from certify.statement.baseline import check_day
from certify.trust.opening import Verifier, check_payload_type


def open_campaign(path: Path, verifier: Verifier, *, shared: bool = False) -> Campaign:
    """Return a centre's signed campaign; `shared`: from a folder that others write to.

    Raises:
        RefusedError: `campaign-self-issued`, or a code of `Verifier.open`.
    """
    content = read_bytes(path, CAPS.campaign_bytes) if shared else read_given(path, CAPS.campaign_bytes)
    opened: OpenedDocument[Campaign] = verifier.open("campaign", content, path)
    if opened.predicate.self_issued:
        raise RefusedError("campaign-self-issued", "is self-issued, not the centre's", where=path)
    return opened.predicate


def parsed_campaign(path: Path, *, shared: bool = False) -> Campaign:
    """Return a campaign by its form alone; `shared`: from a folder that others write to.

    A node has no key to check its signature by: the record binds its digest, and ``certify`` checks.
    """
    content = read_bytes(path, CAPS.campaign_bytes) if shared else read_given(path, CAPS.campaign_bytes)
    envelope = parse_envelope(content, CAPS.campaign_bytes, path)
    check_payload_type(envelope, path)
    campaign: Campaign = parse_payload("campaign", envelope.payload, path).predicate
    return campaign


def read_campaign(folder: Folder) -> Campaign:
    """Return the campaign in a folder, whose signature `certify` checks.

    Raises:
        InputError: `campaign-folder-invalid`.
        RefusedError: it is no campaign.
    """
    if not folder.campaign.exists():
        what = "is not the folder of a campaign: it holds no campaign.dsse.json"
        raise InputError(
            "campaign-folder-invalid", what, where=folder.root, fix="make one with: petaseal campaign create"
        )
    return parsed_campaign(folder.campaign, shared=True)


def policies_of(folder: Folder, campaign: Campaign) -> tuple[str, ...]:
    """Return the policies that a campaign was opened for, each by its name, or by its file in the campaign's folder."""
    files = {name: folder.policy(name) for name in campaign.policies}
    return tuple(SharedFile(file) if file.exists() else name for name, file in files.items())


def check_campaign(campaign: Campaign, centre: Centre, starts_at: str, issued_at: str) -> None:
    """Refuse a campaign of another centre, or whose times contradict each other or were not over at `issued_at`.

    Raises:
        RefusedError: `centre-differs`, `pool-differs`, `campaign-invalid`, `window-invalid`, `issued-before-measured`
            or `baseline-differs`: what was there before would be of a day after the measurement.
    """
    if not campaign.self_issued and campaign.centre_id != centre.centre_id:
        raise RefusedError(
            "centre-differs", f"the campaign is of the centre {campaign.centre_id}", where=centre.centre_id
        )
    # A spot check is signed by the same key, and its records state no capacity.
    if campaign.purpose != "capacity":
        raise RefusedError("campaign-invalid", f"the campaign is a {campaign.purpose}", where=campaign.campaign_id)
    check_centre(campaign, centre)
    # A node signs its own start; two of them would have chosen their windows one after the other.
    if campaign.self_issued and len(campaign.nodes) != 1:
        raise RefusedError("campaign-invalid", "a self-issued campaign is of one node", where=campaign.campaign_id)
    if not campaign.self_issued and (problem := split_problem(campaign, centre)) is not None:
        raise RefusedError("pool-differs", problem, where=campaign.campaign_id)
    nodes = [node.node_id for node in campaign.nodes] + [node.node_id for node in campaign.left_out]
    # A slow node that is simply not named would otherwise vanish from the sum without a trace.
    listed = {node for pool in centre.pools if pool.nodes != "all" for node in pool.nodes}
    if not campaign.self_issued and (hidden := listed - set(nodes)):
        what = f"the campaign neither names nor leaves out the node {min(hidden)} of the centre"
        raise RefusedError("campaign-invalid", what, where=campaign.campaign_id)
    if len(set(nodes)) != len(nodes):
        raise RefusedError("campaign-invalid", "the campaign names a node twice", where=campaign.campaign_id)
    # One machine that answers under two names would count twice.
    keyids = [node.keyid for node in campaign.nodes if node.keyid is not None]
    if len(set(keyids)) != len(keyids):
        what = "the campaign names one key for two nodes: every node has a key of its own"
        raise RefusedError("campaign-invalid", what, where=campaign.campaign_id)
    if (problem := campaign.split_problem()) is not None:
        raise RefusedError("campaign-invalid", problem, where=campaign.campaign_id)
    problem = campaign.windows_problem() or campaign.start_problem(starts_at)
    if problem is not None:
        raise RefusedError("window-invalid", problem, where=campaign.campaign_id)
    # A statement over windows that are still to come could be signed with any figures.
    if (over_ns := ends_ns(campaign, starts_at)) > utc_ns(issued_at):
        what = f"the measurement that began at {starts_at} is not over at {issued_at}, the time of issue"
        fix = f"its windows end at {utc_text(over_ns)}: issue the statement after that"
        raise RefusedError("issued-before-measured", what, where=campaign.campaign_id, fix=fix)
    check_day(centre, starts_at)


def check_centre(campaign: Campaign, centre: Centre) -> None:
    """Refuse another centre file than the one that the campaign was opened for: it is declared before the measurement.

    Raises:
        RefusedError: `centre-differs`.
    """
    if campaign.centre_sha256 is not None and campaign.centre_sha256 != digest(centre):
        what = "the centre file is another than the one that the campaign was opened for"
        raise RefusedError("centre-differs", what, where=centre.centre_id, fix="open a campaign for it")


def check_policies(campaign: Campaign, policies: Iterable[Policy]) -> None:
    """Refuse a policy that the campaign was not opened for: it is chosen before the figures are known.

    Raises:
        RefusedError: `policy-unknown`.
    """
    for policy in policies:
        if campaign.policies and campaign.policies.get(policy.policy) != digest(policy):
            what = f"was not opened for this policy {policy.policy}, but for {', '.join(sorted(campaign.policies))}"
            fix = f"create a campaign for all that it shall be judged by: {EACH_POLICY}"
            raise RefusedError("policy-unknown", what, where=campaign.campaign_id, fix=fix)


def check_windows(campaign: Campaign, profile: Profile) -> None:
    """Refuse windows that are not as long as the profile says.

    Raises:
        RefusedError: `window-invalid`.
    """
    for window in campaign.windows:
        warmup_ns = window.opens_ns - window.load_ns - campaign.ramp_ns
        if warmup_ns < profile.warmup_ns or window.closes_ns - window.opens_ns != profile.window_ns:
            raise RefusedError(
                "window-invalid",
                f"the {window.workload} window is not as long as the profile {profile.profile} says",
                where=campaign.campaign_id,
            )


def is_installed(profile_sha256: str) -> bool:
    """Return whether a profile is one of those that come with petaseal."""
    return any(digest(read_profile(name)) == profile_sha256 for name in config_names("profiles"))


def find_profile(campaign: Campaign, files: tuple[str, ...]) -> Profile:
    """Return the profile that a campaign binds, from the files given, the installed ones and those of a release.

    Raises:
        RefusedError: none of them has the digest.
    """
    profile = profile_of(campaign.profile_sha256, files)
    if profile is not None:
        check_windows(campaign, profile)
        return profile
    raise RefusedError(
        "profile-unknown",
        f"the profile {campaign.profile!r} of the campaign is not among the known ones",
        where=campaign.campaign_id,
        fix="give its file with --profile",
    )


def read_closing(folder: Path) -> Closing | None:
    """Return the closing document in the folder of records; None where the records were measured without a coordinator.

    Raises:
        RefusedError: it is damaged.
    """
    path = folder / CLOSING
    if not os.path.lexists(path):
        return None
    return decode(read_bytes(path, CAPS.campaign_bytes).removesuffix(b"\n"), Closing, path)


def check_closing(
    closing: Closing | None, campaign: Campaign, campaign_sha256: str, starts_at: str, where: object
) -> None:
    """Refuse a closing document of another campaign or of another start.

    Raises:
        RefusedError: `closing-differs`.
    """
    problem = None if closing is None else closing.problem(campaign, campaign_sha256, starts_at)
    if problem is not None:
        raise RefusedError("closing-differs", f"the closing document {problem}", where=where)


DEFAULT_POLICIES = ("guangzhou-2000p",)


class StatementSource(NamedTuple):
    """The files and policies that a statement is made from."""

    records: Path
    campaign: Path | None
    centre: str
    profile: str | None
    policies: tuple[str, ...]


def of_campaign(
    records: Path, campaign: Path | None, centre: str | None, profile: str | None, policies: tuple[str, ...]
) -> StatementSource:
    """Return what a statement is made of; of a campaign's folder all of it that was not given lies there.

    Raises:
        InputError: no centre was given, or the campaign's records were not collected.
    """
    folder = Folder(records)
    if folder.campaign.exists() and folder.roster_file.exists():
        if not folder.collected.is_dir():
            fix = f"collect them with: petaseal campaign collect {records}"
            raise InputError("records-not-collected", "its records were not collected", where=records, fix=fix)
        # A profile of the user's lies in the campaign's folder, so that every node measures by the same one.
        profile_file = next(iter(folder.profile_files), None)
        campaign_of = read_campaign(folder)
        check_collected(folder, campaign_of)
        return StatementSource(
            folder.collected,
            campaign or folder.campaign,
            centre or SharedFile(folder.centre),
            profile or profile_file,
            policies or policies_of(folder, campaign_of),
        )
    if centre is None:
        raise InputError("centre-missing", "which centre this is was not said", where=records, fix="give --centre")
    return StatementSource(records, campaign, centre, profile, policies or DEFAULT_POLICIES)


def check_collected(folder: Folder, campaign: Campaign) -> None:
    """Refuse a collection that lacks a record which has come since.

    Raises:
        InputError: `records-not-collected`.
    """
    for node_id, code in read_absences(folder.collected, campaign).items():
        # A record that came late is a figure that somebody may wish away: it has to be collected, and judged.
        late = folder.records(node_id) / f"{node_id}{RECORD_SUFFIX}"
        if code != "record-refused" and late.exists():
            what = f"the record of {node_id} came after the others were collected"
            fix = f"collect them again with: petaseal campaign collect {folder.root}"
            raise InputError("records-not-collected", what, where=folder.root, fix=fix)
