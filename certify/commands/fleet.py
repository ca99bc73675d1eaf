"""The commands that look into a measured campaign: ``diagnose``, and ``spot-check``, which measures anew."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from bench.language import language
from certify.commands import options
from certify.commands.launch import shared_campaign
from certify.commands.output import RecordCounter, in_short, report

app = typer.Typer()


@app.command(epilog="Example: petaseal campaign diagnose campaign --public-key operator.pem.pub")
def diagnose(
    folder: options.CampaignFolder,
    public_key: options.OperatorPublicKey = None,
    trust: options.TrustInstead = None,
    previous: Annotated[Path | None, typer.Option(help="Folder of an earlier campaign of the centre.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the page and its pictures.")] = None,
    show_all: options.All = False,
    lang: options.Lang = None,
    as_json: options.Json = False,
) -> None:
    """Find slow nodes, devices and racks, throttling and drift; say which to take out and what the sum becomes."""
    from certify.fleet.diagnose import diagnose_campaign

    with RecordCounter("read", as_json) as count:
        diagnosis = diagnose_campaign(
            folder.absolute(),
            now_ns=time.time_ns(),
            public_key=public_key,
            trust=trust,
            previous=previous,
            out=out,
            progress=count,
        )
    shown = in_short(diagnosis.summary(language()), diagnosis.lines(language()), show_all)
    report(as_json, diagnosis.as_json(), shown)


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
    key: options.OperatorKey,
    out: Annotated[Path, typer.Option(help="Folder of the spot check; goes on where it is there already.")],
    public_key: options.OperatorPublicKey = None,
    trust: options.TrustInstead = None,
    on: Annotated[
        str | None, typer.Option(help="local, slurm or kubernetes (default: where the nodes were taken from).")
    ] = None,
    engine_option: Annotated[options.Pairs, typer.Option(help="Handed to the engine as it is.")] = None,
    reservation: Annotated[str | None, typer.Option(help="The engine's reservation to run in.")] = None,
    baseline: options.Baseline = None,
    policy: Annotated[list[str] | None, typer.Option(help="Further policy file.")] = None,
    profile: Annotated[list[str] | None, typer.Option(help="Further profile file.")] = None,
    ratings: options.FurtherRatings = None,
    accept_simulated: options.AcceptSimulated = False,
    passphrase_file: options.KeyPassphraseFile = None,
    as_json: options.Json = False,
) -> None:
    """Draw nodes that nobody could foresee, measure them again, and say with what confidence the claim stands."""
    from bench.campaign.launch.plan import plan_of
    from bench.campaign.opening import OpenCampaign
    from bench.campaign.running import run
    from bench.profile import load_profile
    from bench.record import followed
    from bench.record.folder import Folder
    from certify.campaign.collect import collect as collected_from
    from certify.campaign.opening import open_spot_check
    from certify.fleet.spot_check_claims import SpotCheckRequest
    from certify.fleet.spot_check_run import draw_spot_check, judge_spot_check
    from certify.keys.loading import load_signing_key
    from certify.statement.campaign import read_campaign

    request = SpotCheckRequest(
        statement=statement,
        records=followed(records),
        seed=options.checked_challenge(seed, "--seed") or "",
        fraction_ppm=round(options.finite(fraction, "--fraction") * 10**6),
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
    draw = draw_spot_check(request)
    # A spot check of hundreds of nodes is interrupted now and then: one that was opened is gone on with.
    if not again.campaign.exists():
        before = read_campaign(checked)
        plan = load_profile(next(iter(checked.profile_files), before.profile))
        signing = load_signing_key(key, passphrase_file)
        open_spot_check(checked, before, plan, again.root, signing, draw.nodes, request.seed, time.time_ns())
    opened = OpenCampaign.at(again.root, shared_campaign)
    absent = dict.fromkeys((pool.pool for pool in opened.roster.pools), 0)  # the absent count against the claim
    run(opened, plan_of(opened, on, engine_option, reservation)._replace(least=absent), as_json)
    with RecordCounter("checked", as_json) as count:
        collected = collected_from(again, (), count)
    # Hours have passed: what is judged now is judged for now.
    request = replace(request, now_ns=time.time_ns())
    judgement = judge_spot_check(
        request, again.collected, again.campaign, collected.names, again.root / "spot-check.json"
    )
    report(as_json, judgement.as_json(), judgement.lines())
    # Raised after the report, which says what was measured: it cost an auditor hours.
    if judgement.refusal is not None:
        raise judgement.refusal
