"""``petaseal campaign``: the commands that open and collect a campaign; its others are in `launch` and `fleet`."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.errors import InputError, RefusedError
from certify.commands import fleet, launch, options
from certify.commands.evidence import hpl
from certify.commands.launch import shared_campaign
from certify.commands.options import Pairs
from certify.commands.output import RecordCounter, report

if TYPE_CHECKING:
    from bench.campaign.estimate import Estimate
    from bench.record.roster import EngineNode
    from certify.campaign.opening import CreatedCampaign
    from certify.campaign.prospects import Prospects

opening_app = typer.Typer()

Challenge = Annotated[str | None, typer.Option(help="Challenge of a witness or registry, hex (default: drawn here).")]


@opening_app.command(
    epilog="Example: petaseal campaign create --centre centre.yaml --nodes slurm --key operator.pem --out campaign"
)
def create(
    centre: Annotated[str, typer.Option(help="Centre file, or the name of an installed one.")],
    key: options.OperatorKey,
    out: Annotated[Path, typer.Option(help="Folder to make, on a file system that all nodes share.")],
    profile: Annotated[str, typer.Option(help="smoke, standard, certification or a file.")] = "certification",
    policy: Annotated[
        list[str] | None, typer.Option(help='Policy name or file; of several each: "--policy A --policy B".')
    ] = None,
    challenge: Challenge = None,
    challenge_from: Annotated[str, typer.Option(help="Who gave the challenge: witness or registry.")] = "witness",
    nodes: Annotated[
        str | None, typer.Option(help="Who knows the nodes: local, slurm, kubernetes (default: the centre file).")
    ] = None,
    partition: Annotated[Pairs, typer.Option(help="POOL=PARTITION of the engine; may be repeated.")] = None,
    gres: Annotated[Pairs, typer.Option(help="POOL=GRES of one node, such as ai=gpu:8.")] = None,
    device: Annotated[Pairs, typer.Option(help='POOL=DEVICES as for "run --device", such as ai=cuda:0,cuda:1.')] = None,
    devices: Annotated[
        Pairs,
        typer.Option(help='POOL=FILE of what "petaseal devices --json" prints on one of its nodes; may be repeated.'),
    ] = None,
    ratings: Annotated[Path | None, typer.Option(help="File of ratings, to judge these devices with.")] = None,
    device_watts: Annotated[Pairs, typer.Option(help="POOL=WATTS of one device, for the estimate.")] = None,
    exclude: Annotated[
        Pairs,
        typer.Option(help='NODES=REASON of those to leave out, such as "gpu[01-04]=bad rack".'),
    ] = None,
    precision: Annotated[
        str, typer.Option(help='What each pool measures, such as "fp16" (default: what counts in its class).')
    ] = "",
    also: Annotated[
        Pairs, typer.Option(help='[POOL=]WORKLOAD to measure besides, such as "ai=fp64" or "fp16-tuned".')
    ] = None,
    ramp: Annotated[float, typer.Option(min=0, max=3600, help="Seconds from the first node's load to the last's.")] = 0,
    starts_from: Annotated[str | None, typer.Option(help="Earliest start, UTC (default: now).")] = None,
    within: Annotated[float, typer.Option(min=0.01, max=720, help="Hours in which it must start.")] = 24,
    previous: Annotated[
        Path | None, typer.Option(help="Folder of an earlier campaign: node ids stay the same.")
    ] = None,
    node_keys: Annotated[
        Path | None, typer.Option(help='Folder of the nodes\' public keys, NODE.pub each (see "keys node").')
    ] = None,
    network: Annotated[
        bool, typer.Option("--network", help="Measure the network's share after the figures (docs/network.md).")
    ] = False,
    network_groups: Annotated[
        str | None, typer.Option(help='File of lines "pod1=gpu[001-016]", or "partition" (default: all are one).')
    ] = None,
    rails: Annotated[
        bool, typer.Option("--rails", help="The fabric is one of rails: devices of one index reduce together.")
    ] = False,
    passphrase_file: options.KeyPassphraseFile = None,
    signer: options.SignerCommand = None,
    as_json: options.Json = False,
) -> None:
    """Open a campaign: sign which nodes are measured, how, for which policies, and when they may start."""
    from bench.clock import check_clock
    from bench.profile import load_profile
    from certify.campaign.opening import open_folder
    from certify.campaign.prospects import of_files, power_of, read_files, terms_of
    from certify.campaign.roster import RosterOptions, discovered
    from certify.campaign.workloads import CreateOptions
    from certify.keys.loading import load_signing_key
    from certify.policy.centre import load_centre
    from certify.policy.hostlists import expand
    from certify.policy.ratings import load_ratings
    from certify.statement.campaign import DEFAULT_POLICIES

    check_clock()
    if challenge_from not in ("witness", "registry"):
        raise InputError("usage", "is witness or registry", where="--challenge-from")
    # A reason is optional for a quick exclusion, and every other pair needs its value.
    left_out = pairs(exclude, "--exclude", "excluded").items()
    watts = {pool: number(text, "--device-watts") for pool, text in pairs(device_watts, "--device-watts").items()}
    declared = load_centre(centre)
    files, table = read_files(pairs(devices, "--devices"), declared), load_ratings(ratings)
    rated, counts = power_of(files, declared, table)
    roster_options = RosterOptions(
        pairs(partition, "--partition"),
        pairs(gres, "--gres"),
        pairs(device, "--device"),
        # What was typed goes before what a file of devices says.
        rated | watts,
        {name: reason for text, reason in left_out for name in expand([text], "--exclude")},
        counts,
    )
    # As text: which precisions there are depends on the profile, which is read below.
    precisions = tuple(name.strip() for name in precision.split(",") if name.strip())
    opening = CreateOptions(
        centre=centre,
        profile=load_profile(profile),
        policies=tuple(policy or DEFAULT_POLICIES),
        out=out,
        roster=roster_options,
        precisions=precisions,
        also=tuple(added(text) for text in also or ()),
        challenge=options.checked_challenge(challenge),
        challenge_source=challenge_from,  # type: ignore[arg-type]
        starts_from=None if starts_from is None else options.checked_time(starts_from, "--starts-from"),
        within_ns=int(options.finite(within, "--within") * 3600e9),
        ramp_ns=int(options.finite(ramp, "--ramp") * 1e9),
        engine=nodes,
        previous=previous,
        node_keys=node_keys,
        network=network,
        network_groups=network_groups,
        rails=rails,
    )
    # Without --nodes the centre file lists them, and no engine is asked.
    known = None if nodes is None else discovered(discover, nodes, declared.pools, roster_options)
    signing = load_signing_key(key, passphrase_file, signer)
    opened = open_folder(opening, signing, known, time.time_ns())
    terms = terms_of(opened.folder, opened.campaign, opened.profile)
    show_opened(opened, as_json, of_files(terms, files, table))


@opening_app.command(epilog="Example: petaseal campaign rerun campaign --key operator.pem --out campaign-2")
def rerun(
    folder: options.CampaignFolder,
    key: options.OperatorKey,
    out: Annotated[Path, typer.Option(help="Folder to make for the next attempt.")],
    challenge: Challenge = None,
    passphrase_file: options.KeyPassphraseFile = None,
    signer: options.SignerCommand = None,
    as_json: options.Json = False,
) -> None:
    """Measure everything again: the next campaign of the same series, which names the attempts before it."""
    from bench.clock import check_clock
    from bench.profile import load_profile
    from bench.record.folder import Folder
    from certify.campaign.opening import reopen
    from certify.keys.loading import load_signing_key
    from certify.statement.campaign import read_campaign

    check_clock()
    before = Folder(folder)
    campaign = read_campaign(before)
    profile = load_profile(next(iter(before.profile_files), campaign.profile))
    signing = load_signing_key(key, passphrase_file, signer)
    opened = reopen(before, campaign, profile, out, signing, options.checked_challenge(challenge), time.time_ns())
    show_opened(opened, as_json)


@opening_app.command(epilog="Example: petaseal campaign collect campaign")
def collect(
    folder: options.CampaignFolder,
    posted: Annotated[list[Path] | None, typer.Option(help="Folder with records that were posted; repeatable.")] = None,
    as_json: options.Json = False,
) -> None:
    """Check every node's record and gather those that are whole; say what is missing, and why.

    Exit status 1: a record is missing or was refused. What was collected can be certified all the same.
    """
    gather(folder, tuple(posted or ()), as_json)


@opening_app.command(hidden=True, epilog="Example: petaseal campaign coordinate campaign")
def coordinate(folder: options.CampaignFolder, as_json: options.Json = False) -> None:
    """Publish the start once all nodes are ready, watch, and collect: where somebody else starts the nodes."""
    from bench.campaign.launch.plan import handed_over
    from bench.campaign.opening import NO_ENGINE, OpenCampaign
    from bench.campaign.running import run

    opened = OpenCampaign.at(folder, shared_campaign)
    run(opened, handed_over(opened.folder.launched(), NO_ENGINE), as_json)
    gather(folder, (), as_json)


def gather(folder: Path, posted: tuple[Path, ...], as_json: bool) -> None:
    """Collect a campaign's records and print what came of it.

    Raises:
        RefusedError: `campaign-incomplete`: a record is missing or was refused.
    """
    from bench.record.folder import Folder
    from certify.campaign.collect import collect as collected_from

    with RecordCounter("checked", as_json) as count:
        collected = collected_from(Folder(folder.absolute()), posted, count)
    lines = collected.lines()
    # The line is to be copied: also where something is missing, since the rest can be certified.
    if collected.collected:
        out = folder.absolute() / "statement"
        words = f"certify {shlex.quote(str(folder.absolute()))} --key KEY.pem --out {shlex.quote(str(out))}"
        lines.append(f"next       petaseal {words}")
    report(as_json, collected.as_json(), lines)
    if not collected.complete:
        absent, refused = len(collected.absent), len(collected.refused)
        what = f"{absent} of {collected.expected} nodes have no record that counts, {refused} file(s) were refused"
        raise RefusedError("campaign-incomplete", what, where=folder, fix="certify what there is, or rerun")


def show_opened(opened: CreatedCampaign, as_json: bool, expected: Prospects | None = None) -> None:
    """Print a new campaign, what it will take and what its devices can expect."""
    import msgspec

    campaign, roster = opened.campaign, opened.roster
    root, taken = opened.folder.root, estimate_of(opened)
    source = {"self": "drawn by the operator: nobody else vouches for it"}.get(campaign.challenge_source)
    lines = [
        f"campaign   {campaign.campaign_id} in {root}, signed",
        f"challenge  {campaign.challenge} ({source or f'given by the {campaign.challenge_source}'})",
        f"windows    {', '.join(str(window.workload) for window in campaign.windows)}; profile {campaign.profile}",
        f"policies   {', '.join(campaign.policies)}: certify judges by these, or by some of them, and by no other",
        f"start      between {campaign.starts_from} and {campaign.starts_until}",
        *taken.lines(),
        *(f"left out   {node.name}: {node.reason}" for node in roster.left_out),
        f"earlier    {len(campaign.earlier)} attempt(s) of this series" if campaign.earlier else "",
        *([] if expected is None else expected_lines(expected, opened)),
        # A single node usually is this machine.
        "" if roster.engine or len(roster.nodes) == 1 else WHOSE_NODES,
        f"next       {opened.folder.command('check')}",
        f"           {opened.folder.command('launch')} --dry-run",
    ]
    report(
        as_json,
        {
            "folder": str(root),
            "campaign": msgspec.to_builtins(campaign),
            "nodes": msgspec.to_builtins(roster.nodes),
            "estimate": msgspec.to_builtins(taken),
            **({} if expected is None else expected.as_json()),
        },
        [line for line in lines if line],
    )


def discover(engine: str, partitions: Sequence[str]) -> Sequence[EngineNode]:
    """Return the nodes of an engine's partitions, as the engine knows them."""
    from bench.launchers import load_launcher

    return load_launcher(engine).discover(partitions)


def estimate_of(opened: CreatedCampaign) -> Estimate:
    """Return what a campaign will take, by what the devices are where its nodes are this machine."""
    from bench.campaign.estimate import estimate
    from bench.campaign.opening import kinds_here

    kinds = kinds_here(opened.roster) if opened.roster.engine == "local" else {}
    return estimate(opened.campaign, opened.profile, opened.roster, kinds)


WHOSE_NODES = (
    "engine     the centre file lists the nodes: give check and launch --on slurm or --on kubernetes; without it (or"
    " with --on local) every node is a process on this machine"
)


def expected_lines(expected: Prospects, opened: CreatedCampaign) -> list[str]:
    """Return what the devices of a new campaign can expect, and of which pools nothing is known."""
    known = {one.pool for one in expected.models}
    unknown = [pool.pool for pool in opened.roster.pools if pool.pool not in known]
    lines = expected.lines()
    # A pool of which nothing is known is said so: silence would read as approval.
    if unknown:
        check = opened.folder.command("check")
        lines.append(
            f"devices    nothing is known of those of {', '.join(unknown)} yet: {check} will say what they can count,"
            " and so does --devices POOL=FILE here"
        )
    return lines


def pairs(given: Sequence[str] | None, option: str, default: str | None = None) -> dict[str, str]:
    """Return "NAME=VALUE" texts as a mapping.

    Raises:
        InputError: one has no value, or a name is given twice.
    """
    values: dict[str, str] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        value = value.strip() or (default or "")
        if not name or not value or (not equals and default is None):
            raise InputError("usage", f"{text!r} is not of the form NAME=VALUE", where=option)
        # The later of two would win in silence, and nobody could tell which was meant.
        if name in values:
            raise InputError("usage", f"names {name} twice", where=option)
        values[name] = value
    return values


def added(text: str) -> tuple[str | None, str]:
    """Return "POOL=WORKLOAD" as a pool and what it measures besides; without a pool it is for each."""
    pool, equals, workload = text.rpartition("=")
    return (pool if equals else None), workload


def number(text: str, option: str) -> int:
    """Return a positive whole number.

    Raises:
        InputError: it is none.
    """
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) < 10**6:
        raise InputError("usage", f"{text!r} is not a whole number above 0", where=option)
    return int(text)


app = options.group(launch.app, opening_app, fleet.app, hpl.app)
