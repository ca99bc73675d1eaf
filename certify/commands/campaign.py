"""The commands that open, collect and look into campaigns: ``create``, ``rerun``, ``collect``, ``coordinate``.

What goes on between them (``launch``, ``status``, ``abort``) is `bench.campaign.cli`. What only ``bench`` can do is
handed in by the root command, as `Engines`.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.errors import InputError, RefusedError

if TYPE_CHECKING:
    from bench.campaign.estimate import Estimate
    from bench.record import Profile
    from certify.campaign.opening import Opened
    from certify.campaign.prospects import Prospects
    from certify.campaign.roster import EngineNode

Key = Annotated[Path, typer.Option(help="Operator's private key (PEM).")]
PassphraseFile = Annotated[Path | None, typer.Option(help="File whose first line is the key's passphrase.")]
SignerCommand = Annotated[
    str | None, typer.Option("--signer", help="Command that signs for a key on a token; --key is then its public key.")
]
Challenge = Annotated[str | None, typer.Option(help="Challenge of a witness or registry, hex (default: drawn here).")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
Dir = Annotated[Path, typer.Argument(metavar="DIR", readable=False, help="The campaign's folder.")]
Pairs = list[str] | None


@dataclass(frozen=True)
class Engines:
    """What ``bench`` does for this room."""

    discover: Callable[[str, Sequence[str]], Sequence[EngineNode]]  # engine, partitions -> its nodes
    load_profile: Callable[[str], Profile]
    estimate: Callable[[Opened], Estimate]  # what a campaign will take
    coordinate: Callable[[Path, bool], bool]  # publish the start and watch; whether every record is there
    # launch on an engine with options and a reservation, or go on; whether every record is there
    launch: Callable[[Path, str | None, Sequence[str], str | None, bool], bool]


def mount(
    app: typer.Typer, engines: Engines, emit: Callable[[bool, Any, list[str]], None], counting: Callable[..., Any]
) -> None:
    """Add the commands of this room to ``petaseal campaign``."""

    @app.command(
        epilog="Example: petaseal campaign create --centre centre.yaml --nodes slurm --key operator.pem --out campaign"
    )
    def create(
        centre: Annotated[str, typer.Option(help="Centre file, or the name of an installed one.")],
        key: Key,
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
        device: Annotated[
            Pairs, typer.Option(help='POOL=DEVICES as for "run --device", such as ai=cuda:0,cuda:1.')
        ] = None,
        devices: Annotated[
            Pairs,
            typer.Option(
                help='POOL=FILE of what "petaseal devices --json" prints on one of its nodes; may be repeated.'
            ),
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
        ramp: Annotated[
            float, typer.Option(min=0, max=3600, help="Seconds from the first node's load to the last's.")
        ] = 0,
        starts_from: Annotated[str | None, typer.Option(help="Earliest start, UTC (default: now).")] = None,
        within: Annotated[float, typer.Option(min=0.01, max=720, help="Hours in which it must start.")] = 24,
        previous: Annotated[
            Path | None, typer.Option(help="Folder of an earlier campaign: node ids stay the same.")
        ] = None,
        node_keys: Annotated[
            Path | None, typer.Option(help='Folder of the nodes\' public keys, NODE.pub each (see "keys node").')
        ] = None,
        passphrase_file: PassphraseFile = None,
        signer: SignerCommand = None,
        as_json: Json = False,
    ) -> None:
        """Open a campaign: sign which nodes are measured, how, for which policies, and when they may start."""
        from bench.clock import check_clock
        from certify.campaign.opening import Opening, open_folder
        from certify.campaign.prospects import of_files, power_of, read_files, terms_of
        from certify.campaign.roster import Wishes, discovered
        from certify.keys.loading import load_signing_key
        from certify.policy.centre import load_centre
        from certify.policy.hostlists import expand
        from certify.policy.ratings import load_ratings
        from certify.statement.issue import DEFAULT_POLICIES

        check_clock()
        if challenge_from not in ("witness", "registry"):
            raise InputError("usage", "is witness or registry", where="--challenge-from")
        left_out = pairs(exclude, "--exclude", "excluded").items()
        watts = {pool: number(text, "--device-watts") for pool, text in pairs(device_watts, "--device-watts").items()}
        declared = load_centre(centre)
        files, table = read_files(pairs(devices, "--devices"), declared), load_ratings(ratings)
        rated, counts = power_of(files, declared, table)
        wishes = Wishes(
            pairs(partition, "--partition"),
            pairs(gres, "--gres"),
            pairs(device, "--device"),
            rated | watts,
            {name: reason for text, reason in left_out for name in expand([text], "--exclude")},
            counts,
        )
        precisions = tuple(name.strip() for name in precision.split(",") if name.strip())
        opening = Opening(
            centre=centre,
            profile=engines.load_profile(profile),
            policies=tuple(policy or DEFAULT_POLICIES),
            out=out,
            wishes=wishes,
            precisions=precisions,
            also=tuple(added(text) for text in also or ()),
            challenge=checked_challenge(challenge),
            challenge_source=challenge_from,  # type: ignore[arg-type]
            starts_from=checked_time(starts_from),
            within_ns=int(finite(within, "--within") * 3600e9),
            ramp_ns=int(finite(ramp, "--ramp") * 1e9),
            engine=nodes,
            previous=previous,
            node_keys=node_keys,
        )
        found = None if nodes is None else discovered(engines.discover, nodes, declared.pools, wishes)
        signing = load_signing_key(key, passphrase_file, signer)
        opened = open_folder(opening, signing, found, time.time_ns())
        terms = terms_of(opened.folder, opened.campaign, opened.profile)
        show_opened(opened, as_json, of_files(terms, files, table))

    @app.command(epilog="Example: petaseal campaign rerun campaign --key operator.pem --out campaign-2")
    def rerun(
        folder: Dir,
        key: Key,
        out: Annotated[Path, typer.Option(help="Folder to make for the next attempt.")],
        challenge: Challenge = None,
        passphrase_file: PassphraseFile = None,
        signer: SignerCommand = None,
        as_json: Json = False,
    ) -> None:
        """Measure everything again: the next campaign of the same series, which names the attempts before it."""
        from bench.clock import check_clock
        from bench.record.folder import Folder
        from certify.campaign.opening import reopen
        from certify.keys.loading import load_signing_key
        from certify.statement.campaign import read_campaign

        check_clock()
        before = Folder(folder)
        campaign = read_campaign(before)
        profile = engines.load_profile(next(iter(before.own_profile), campaign.profile))
        signing = load_signing_key(key, passphrase_file, signer)
        opened = reopen(before, campaign, profile, out, signing, checked_challenge(challenge), time.time_ns())
        show_opened(opened, as_json)

    @app.command(epilog="Example: petaseal campaign collect campaign")
    def collect(
        folder: Dir,
        posted: Annotated[
            list[Path] | None, typer.Option(help="Folder with records that were posted; repeatable.")
        ] = None,
        as_json: Json = False,
    ) -> None:
        """Check every node's record and gather those that are whole; say what is missing, and why.

        Exit status 1: a record is missing or was refused. What was collected can be certified all the same.
        """
        gather(folder, tuple(posted or ()), as_json)

    @app.command(hidden=True, epilog="Example: petaseal campaign coordinate campaign")
    def coordinate(folder: Dir, as_json: Json = False) -> None:
        """Publish the start once all nodes are ready, watch, and collect: where somebody else starts the nodes."""
        engines.coordinate(folder, as_json)
        gather(folder, (), as_json)

    @app.command(epilog="Example: petaseal campaign diagnose campaign --public-key operator.pem.pub")
    def diagnose(
        folder: Dir,
        public_key: Annotated[Path | None, typer.Option(help="The operator's public key.")] = None,
        trust: Annotated[Path | None, typer.Option(help="Signed trust root, in place of the key.")] = None,
        previous: Annotated[Path | None, typer.Option(help="Folder of an earlier campaign of the centre.")] = None,
        out: Annotated[Path | None, typer.Option(help="Folder for the page and its pictures.")] = None,
        as_json: Json = False,
    ) -> None:
        """Find slow nodes, devices and racks, throttling and drift; say which to take out and what the sum becomes."""
        from certify.fleet.diagnose import diagnose_campaign

        with counting("read", as_json) as tell:
            found = diagnose_campaign(
                folder.absolute(),
                now_ns=time.time_ns(),
                public_key=public_key,
                trust=trust,
                previous=previous,
                out=out,
                progress=tell,
            )
        emit(as_json, found.as_json(), found.lines())

    @app.command(
        "spot-check",
        epilog="Example: petaseal campaign spot-check statement.dsse.json --records records.jsonl"
        " --public-key operator.pem.pub --seed 0123456789abcdef0123456789abcdef --fraction 0.05"
        " --campaign campaign --key operator.pem --on slurm --out spot",
    )
    def spot_check(
        statement: Annotated[Path, typer.Argument(metavar="STATEMENT", help="statement.dsse.json")],
        records: Annotated[Path, typer.Option(help="records.jsonl, or a folder of record envelopes.")],
        seed: Annotated[str, typer.Option(help="The auditor's challenge, hex, told after the statement was signed.")],
        fraction: Annotated[float, typer.Option(help="Of the nodes of each class, above 0 and at most 1.")],
        campaign: Annotated[Path, typer.Option(help="Folder of the campaign that the statement was made of.")],
        key: Key,
        out: Annotated[Path, typer.Option(help="Folder of the spot check; goes on where it is there already.")],
        public_key: Annotated[Path | None, typer.Option(help="The operator's public key.")] = None,
        trust: Annotated[Path | None, typer.Option(help="Signed trust root, in place of the key.")] = None,
        on: Annotated[
            str | None, typer.Option(help="local, slurm or kubernetes (default: where the nodes were taken from).")
        ] = None,
        engine_option: Annotated[Pairs, typer.Option(help="Handed to the engine as it is.")] = None,
        reservation: Annotated[str | None, typer.Option(help="The engine's reservation to run in.")] = None,
        baseline: Annotated[Path | None, typer.Option(help="The signed baseline that the statement binds.")] = None,
        policy: Annotated[list[str] | None, typer.Option(help="Further policy file.")] = None,
        profile: Annotated[list[str] | None, typer.Option(help="Further profile file.")] = None,
        ratings: Annotated[list[str] | None, typer.Option(help="Further file of ratings to judge with.")] = None,
        accept_simulated: Annotated[bool, typer.Option(help="Do not refuse a simulated statement.")] = False,
        passphrase_file: PassphraseFile = None,
        as_json: Json = False,
    ) -> None:
        """Draw nodes that nobody could foresee, measure them again, and say with what confidence the claim stands."""
        from bench.record import followed
        from bench.record.folder import Folder
        from certify.campaign.collect import collect as collected_from
        from certify.campaign.opening import open_spot_check
        from certify.fleet.spot_check_run import Request, drawn, judged
        from certify.keys.loading import load_signing_key
        from certify.statement.campaign import read_campaign

        request = Request(
            statement=statement,
            records=followed(records),
            seed=checked_challenge(seed, "--seed") or "",
            fraction_ppm=round(finite(fraction, "--fraction") * 10**6),
            now_ns=time.time_ns(),
            public_key=public_key,
            trust=trust,
            baseline=followed(baseline),
            policies=tuple(policy or ()),
            profiles=tuple(profile or ()),
            ratings=tuple(ratings or ()),
            accept_simulated=accept_simulated,
        )
        checked, again = Folder(campaign.absolute()), Folder(out.absolute())
        draw = drawn(request)
        if not again.campaign.exists():
            before = read_campaign(checked)
            plan = engines.load_profile(next(iter(checked.own_profile), before.profile))
            signing = load_signing_key(key, passphrase_file)
            open_spot_check(checked, before, plan, again.root, signing, draw.nodes, request.seed, time.time_ns())
        engines.launch(again.root, on, engine_option or (), reservation, as_json)
        with counting("checked", as_json) as tell:
            collected = collected_from(again, (), tell)
        request = replace(request, now_ns=time.time_ns())
        found = judged(request, again.collected, again.campaign, collected.names, again.root / "spot-check.json")
        emit(as_json, found.as_json(), found.lines())
        if found.refusal is not None:
            raise found.refusal

    def gather(folder: Path, posted: tuple[Path, ...], as_json: bool) -> None:
        from bench.record.folder import Folder
        from certify.campaign.collect import collect as collected_from

        with counting("checked", as_json) as tell:
            collected = collected_from(Folder(folder.absolute()), posted, tell)
        lines = collected.lines()
        if collected.collected:
            out = folder.absolute() / "statement"
            words = f"certify {shlex.quote(str(folder.absolute()))} --key KEY.pem --out {shlex.quote(str(out))}"
            lines.append(f"next       petaseal {words}")
        emit(as_json, collected.as_json(), lines)
        if not collected.complete:
            absent, refused = len(collected.absent), len(collected.refused)
            what = f"{absent} of {collected.expected} nodes have no record that counts, {refused} file(s) were refused"
            raise RefusedError("campaign-incomplete", what, where=folder, fix="certify what there is, or rerun")

    def show_opened(opened: Opened, as_json: bool, expected: Prospects | None = None) -> None:
        import msgspec

        campaign, roster = opened.campaign, opened.roster
        root, taken = opened.folder.root, engines.estimate(opened)
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
            "" if roster.engine or len(roster.nodes) == 1 else WHOSE_NODES,
            f"next       {opened.folder.command('check')}",
            f"           {opened.folder.command('launch')} --dry-run",
        ]
        emit(
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


WHOSE_NODES = (
    "engine     the centre file lists the nodes: give check and launch --on slurm or --on kubernetes; without it (or"
    " with --on local) every node is a process on this machine"
)


def expected_lines(expected: Prospects, opened: Opened) -> list[str]:
    """Return what the devices of a new campaign can expect, and of which pools nothing is known."""
    known = {one.pool for one in expected.models}
    unknown = [pool.pool for pool in opened.roster.pools if pool.pool not in known]
    lines = expected.lines()
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
    found: dict[str, str] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        value = value.strip() or (default or "")
        if not name or not value or (not equals and default is None):
            raise InputError("usage", f"{text!r} is not of the form NAME=VALUE", where=option)
        if name in found:
            raise InputError("usage", f"names {name} twice", where=option)
        found[name] = value
    return found


def added(text: str) -> tuple[str | None, str]:
    """Return "POOL=WORKLOAD" as a pool and what it measures besides; without a pool it is for each."""
    pool, equals, workload = text.rpartition("=")
    return (pool if equals else None), workload


def finite(value: float, option: str) -> float:
    """Return a number that is one: "nan" lies within any limits.

    Raises:
        InputError: it is none.
    """
    if not math.isfinite(value):
        raise InputError("usage", f"{value} is not a number", where=option)
    return value


def number(text: str, option: str) -> int:
    """Return a positive whole number.

    Raises:
        InputError: it is none.
    """
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) < 10**6:
        raise InputError("usage", f"{text!r} is not a whole number above 0", where=option)
    return int(text)


def checked_challenge(text: str | None, option: str = "--challenge") -> str | None:
    """Return a challenge in the one form that documents use.

    Raises:
        InputError: `challenge-invalid`.
    """
    import msgspec

    from bench.record import Challenge as Form

    if text is None:
        return None
    try:
        return msgspec.convert(text.lower(), Form)
    except msgspec.ValidationError:
        what = f"{text!r} is not 32 to 64 hex digits"
        raise InputError("challenge-invalid", what, where=option) from None


def checked_time(text: str | None) -> str | None:
    """Return a time in the one form that documents use.

    Raises:
        InputError: `time-invalid`.
    """
    from bench.units import utc_ns

    try:
        return None if text is None else (utc_ns(text), text)[1]
    except ValueError as error:
        raise InputError("time-invalid", str(error), where="--starts-from") from None
