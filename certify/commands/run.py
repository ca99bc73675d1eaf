"""The commands ``devices`` and ``run``: what is on this node, and what it sustains."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.errors import InputError, Interrupted
from certify.commands.options import JsonAlone, Lang, NodeKey, NodePassphraseFile, OwnRatings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bench.devices.base import LocalDevice
    from bench.output import NodeFiles, NodeSigner
    from bench.record import Device, DeviceModel, NodeRecord, Precision
    from bench.record.judged import DeviceOutlook, Judged
    from bench.run import RunPlan
    from bench.terminal.closing import RunSummary
    from bench.terminal.live import Yardstick

    Nominal = Mapping[tuple[str, Precision], int]

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
    from bench.terminal.show import say, show_devices
    from certify.statement.outlook import foresee

    use_scenario(scenario)
    # Policies and ratings are read first: a typing error answers before devices are asked for seconds.
    outlook = foresee(policy or (), ratings)
    usable, unusable = survey_devices(device)
    if watch:
        from bench.terminal.watch import watch_devices

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
    show_all: Annotated[
        bool, typer.Option("--all", help="at the end also every figure's shape, bound and codes, and the references")
    ] = False,
    lang: Lang = None,
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
    from bench.terminal.show import print_json, result_json, say_faulty, show_plan
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
    nominal = rated(sound, foresee((), None))
    # Not for a dry run: what is not dated needs no true time.
    check_clock()
    machine = machine_id()
    # What is published names no machine, not even by a digest that whoever knows its id can make again.
    files = NodeFiles(out, node or node_id(os.urandom(16).hex() if replace_identities else machine))
    try:
        # The place is kept before the measurement: hours of it must not end at a file that cannot be written.
        with reserved(files) as place:
            signer = node_signer(key, passphrase_file, machine)
            asked = (*plan, files.name, signer.spki_b64, given, agreed, kernel)
            request = NodeRequest(*asked, replace_identities=replace_identities, unset=unset)
            record = running.measure_and_write(request, signer, place, as_json, yardstick(plan, sound, nominal))
    except KeyboardInterrupt:
        raise Interrupted("interrupted; the measurement was ended and nothing was left half-written") from None
    # On its own a node issues a campaign for itself, which its record carries.
    measured_for = given or record.campaign
    assert measured_for is not None
    judged = judge_record(record, measured_for, plan.profile)
    if as_json:
        print_json(result_json(record, files, judged))
    else:
        further = next_commands(out, profile, campaign, [one.model.kind for one in sound])
        summary = closing_of(record, files, judged, nominal, plan.profile.grade, further)
        show_end(summary, describe_record(record, judged) if show_all else ())
    # The record is written all the same: it is evidence also of what failed.
    if running.went_wrong(record, judged):
        raise typer.Exit(1)


def show_end(summary: RunSummary, described: Sequence[str]) -> None:
    """Print the end of a run, after the whole of it where that was asked for."""
    from bench.terminal.closing import show
    from bench.terminal.columns import surface_of
    from bench.terminal.show import print_lines

    if described:
        print_lines([*described, ""])
    show(summary, surface_of(sys.stdout, os.environ))


def rated(devices: Sequence[LocalDevice], outlook: Callable[[DeviceModel, Device], DeviceOutlook]) -> Nominal:
    """Return the nominal rates of devices, by device and precision, as far as they are rated."""
    return {
        (one.device.device, precision): rate
        for one in devices
        for precision, rate in outlook(one.model, one.device).nominal_mflop_s.items()
    }


def yardstick(plan: RunPlan, devices: Sequence[LocalDevice], nominal: Nominal) -> Yardstick:
    """Return what a run's figures are held against while they are measured."""
    from bench.campaign.estimate import Load, estimate_of, kind_of
    from bench.terminal.live import Yardstick
    from certify.judge.case import is_wrong, residual_limits

    campaign = plan.self_issued()
    kinds = Counter(kind_of(one.device.device.partition(":")[0]) for one in devices)
    loads = [Load(1, count, None, campaign.windows, os.cpu_count(), kind) for kind, count in kinds.items()]
    taken = estimate_of(campaign, plan.profile, loads) if loads else None
    return Yardstick(nominal, lambda workload, so_far: is_wrong(so_far, residual_limits(*workload)), taken)


def closing_of(
    record: NodeRecord,
    files: NodeFiles,
    judged: Judged,
    nominal: Nominal,
    grade: str,
    further: Sequence[Sequence[str]],
) -> RunSummary:
    """Return what the end of a run says of its record."""
    from bench.language import language, text
    from bench.terminal.closing import RunSummary, rows_of
    from certify.policy.reasons import reasons

    def meaning(code: str) -> str:
        entry = reasons().get(code)
        return "" if entry is None else entry.zh if language() == "zh" else entry.en

    rows = rows_of(record, judged, lambda figure, workload: nominal.get((figure.device, workload.computed)))
    warnings = [text("warning", "simulated")] if any(model.simulated for model in record.models) else []
    warnings += [text("warning", "smoke")] if grade == "smoke" else []
    solves = dict.fromkeys(m.workload for m in record.measurements if m.workload.is_solve)
    warnings += [f"{one}: {text('choice', f'{one.choice}-note')}" for one in solves]
    wrote = text("run", "wrote", record=files.record, samples=files.samples.name)
    return RunSummary(rows, meaning, warnings, wrote, further)


def next_commands(out: Path, profile: str | None, campaign: Path | None, kinds: Sequence[str]) -> list[list[str]]:
    """Return what to type after a run, with names that can be copied: files that are here, or that it makes.

    Args:
        out: where the record lies.
        profile: as it was given.
        campaign: as it was given.
        kinds: of the devices.
    """
    key, centre = Path("operator.pem"), "centre.yaml"
    commands = [] if key.exists() else [["petaseal", "keys", "new", "--out", str(key)]]
    if not Path(centre).exists():
        if set(kinds) == {"cpu"}:
            centre = "demo"  # whose one pool is of processors
        else:
            commands.append(["petaseal", "centre", "new", "--out", centre])
    command = ["petaseal", "certify", str(out), "--centre", centre]
    command += ["--campaign", str(campaign)] if campaign is not None else []
    # An installed profile is known by its name; a file of one's own is not.
    command += ["--profile", profile] if profile is not None and Path(profile).is_file() else []
    return [*commands, [*command, "--key", str(key), "--out", str(out / "statement")]]


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
