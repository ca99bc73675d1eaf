"""The commands ``devices`` and ``run``: what is on this node, and what it sustains."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.errors import InputError, Interrupted
from certify.commands.options import JsonAlone, NodeKey, NodePassphraseFile, OwnRatings

if TYPE_CHECKING:
    from bench.output import NodeSigner
    from bench.record import NodeRecord

app = typer.Typer()

Devices = Annotated[
    str, typer.Option("--device", help='"all", or a list like "cpu", "cuda:0,cuda:1", "fake:8" (eight scripted fakes)')
]
Precisions = Annotated[
    str, typer.Option("--precision", help='such as "fp16,fp64-tuned" (default: what the profile measures in the class)')
]
OfClass = Annotated[
    str | None,
    typer.Option("--class", help="of the pool that it is for (default: supercomputing for CPUs, else intelligent)"),
]
Also = Annotated[str, typer.Option("--also", help='measured besides, such as "fp64,fp16-tuned"')]
Kernel = Annotated[str | None, typer.Option("--kernel", help="such as gemm-torch (default: the device's)")]
Scenario = Annotated[Path | None, typer.Option("--scenario", help="what fake devices do (YAML)")]


@app.command(epilog="Example: petaseal devices")
def devices(
    device: Devices = "all",
    scenario: Scenario = None,
    policy: Annotated[
        list[str] | None,
        typer.Option("--policy", help="policy name or file; may be repeated (default: every installed one)"),
    ] = None,
    ratings: OwnRatings = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="show power, temperature, clock ... once a second, until Ctrl-C")
    ] = False,
    as_json: JsonAlone = False,
) -> None:
    """Show what is on this node, what would bound its figures, and whether these can count."""
    from bench.devices import survey_devices
    from bench.record.identities import collisions
    from bench.scenario import use_scenario
    from bench.show import say, show_devices
    from certify.statement.outlook import foresee

    use_scenario(scenario)
    # Policies and ratings are read first: a typing error answers before devices are asked for seconds.
    outlook = foresee(policy or (), ratings)
    usable, unusable = survey_devices(device)
    if watch:
        from bench.watch import watch_devices

        for problem in unusable:
            say(f"cannot be used: {problem}", aside=True)
        watch_devices(usable, as_json)
        return
    # Two devices of one identity would count once: better known now than after the measurement.
    problems = [*unusable, *collisions([one.device for one in usable])]
    show_devices(usable, problems, outlook, as_json)
    if problems:
        raise typer.Exit(1)


@app.command(epilog="Example: petaseal run --profile smoke --device cpu --out results/local")
def run(
    out: Annotated[Path, typer.Option("--out", help="folder for the record and its samples")],
    profile: Annotated[
        str | None, typer.Option("--profile", help="smoke, standard, certification or a file (default: standard)")
    ] = None,
    device: Devices = "all",
    precision: Precisions = "",
    pool_class: OfClass = None,
    also: Also = "",
    kernel: Kernel = None,
    campaign: Annotated[Path | None, typer.Option("--campaign", help="the centre's campaign (signed file)")] = None,
    node: Annotated[str | None, typer.Option("--node", help="the campaign's name of this node")] = None,
    start: Annotated[
        str | None, typer.Option("--start", help="the campaign's agreed start, UTC (default: its earliest)")
    ] = None,
    key: NodeKey = None,
    passphrase_file: NodePassphraseFile = None,
    scenario: Scenario = None,
    replace_identities: Annotated[
        bool,
        typer.Option("--replace-identities", help="make up uuids, serials and addresses: to publish; counts 0"),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print the plan, its time and energy, and measure nothing")
    ] = False,
    as_json: JsonAlone = False,
) -> None:
    """Measure this node and write a signed record with its samples."""
    from bench import run as running
    from bench.clock import check_clock
    from bench.devices import DeviceSurvey, faulty_neighbours
    from bench.engine.fit import refuse_unfit
    from bench.engine.node import NodeRequest
    from bench.environment import machine_id, node_id, refuse_emulation
    from bench.output import NodeFiles, reserved
    from bench.scenario import use_scenario
    from bench.show import say_faulty, show_plan, show_result
    from certify.statement.campaign import parsed_campaign
    from certify.statement.describe import describe_record, judge_record
    from certify.statement.outlook import foresee

    use_scenario(scenario)
    # The workers inherit what is left of the environment: it is cleaned before anything of a device is loaded.
    unset = refuse_emulation(os.environ)
    given = parsed_campaign(campaign) if campaign else None
    # All that can be refused by what was typed is refused before a device is opened.
    agreed = running.start_of(given, node, start)
    if replace_identities and given is not None:
        raise InputError("usage", "--replace-identities is for a record of its own", fix="leave --campaign out")
    survey = DeviceSurvey()
    requested = running.RequestedWorkloads(names(precision), pool_class, names(also))
    plan = running.plan_run(device, profile, requested, given, survey)
    running.check_kernel(kernel)
    # One broken card must not keep seven from being measured: it is named, and left out.
    sound = say_faulty([*plan.devices, *faulty_neighbours(device, plan.devices, survey)])
    if dry_run:
        refuse_unfit(sound, plan.profile, plan.workloads)
        timed = given or plan.self_issued()
        show_plan(sound, plan.profile, timed, plan.workloads, foresee((), None), as_json)
        return
    # Not for a dry run: what is not dated needs no true time.
    check_clock()
    machine = machine_id()
    files = NodeFiles(out, node or node_id(machine))
    try:
        # The place is kept before the measurement: hours of it must not end at a file that cannot be written.
        with reserved(files) as place:
            signer = node_signer(key, passphrase_file, machine)
            request = NodeRequest(
                *(*plan, files.name, signer.spki_b64, given, agreed, kernel),
                replace_identities=replace_identities,
                unset=unset,
            )
            record = running.measure_and_write(request, signer, place, as_json)
    except KeyboardInterrupt:
        raise Interrupted("interrupted; the measurement was ended and nothing was left half-written") from None
    # On its own a node issues a campaign for itself, which its record carries.
    measured_for = given or record.campaign
    assert measured_for is not None
    judged = judge_record(record, measured_for, plan.profile)
    show_result(record, files, judged, describe_record(record, judged), as_json)
    # The record is written all the same: it is evidence also of what failed.
    if running.went_wrong(record, judged):
        raise typer.Exit(1)


def names(text: str) -> list[str]:
    """Return the names in a list like "fp16,fp64"."""
    return [name.strip() for name in text.split(",") if name.strip()]


def node_signer(key_file: Path | None, passphrase_file: Path | None, machine_id: str) -> NodeSigner:
    """Return what signs a node's records: the key given, else the node's own, made on first use."""
    from bench.output import NodeSigner
    from bench.record.files import state_dir
    from certify.documents.dsse import seal
    from certify.documents.kinds import PAYLOAD_TYPE, make_document
    from certify.keys import files as keys
    from certify.keys.loading import load_signing_key
    from certify.keys.signers import spki_text

    key = keys.node_key(state_dir(), machine_id) if key_file is None else load_signing_key(key_file, passphrase_file)

    def sign(record: NodeRecord, samples_sha256: str) -> bytes:
        return seal(make_document("node-record", record, samples_sha256), PAYLOAD_TYPE, [key])

    return NodeSigner(spki_text(key.public), sign)
