"""The commands of a campaign at work: ``launch``, ``check``, ``status``, ``abort``, and ``join``, which a node runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.errors import RefusedError
from bench.terminal.show import print_lines
from certify.commands.options import All, JsonAlone, Lang, NodeKey, NodePassphraseFile, OwnRatings
from certify.commands.output import report
from certify.commands.run import node_signer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.campaign.opening import OpenCampaign
    from bench.doctor.report import DoctorReport
    from bench.doctor.table import DoctorRow
    from bench.record import Campaign, NodeRecord
    from bench.record.status import NodeFacts, ReportedSums

app = typer.Typer()

Dir = Annotated[
    Path, typer.Argument(metavar="DIR", readable=False, help="the campaign's folder, which all nodes share")
]
On = Annotated[
    str | None, typer.Option("--on", help="local, slurm or kubernetes (default: where the nodes were taken from)")
]
EngineOptions = Annotated[
    list[str] | None,
    typer.Option("--engine-option", help="handed to the engine as it is, such as --account=x; repeatable"),
]
Least = Annotated[
    list[str] | None,
    typer.Option(
        "--least",
        metavar="POOL=N",
        help="how many nodes of a pool must be ready: ai=14, ai=80%, or 80% of each; repeatable (default: 90%)",
    ),
]
DAY_S = 86_400.0
Reservation = Annotated[str | None, typer.Option("--reservation", help="the engine's reservation to run in")]


@app.command(epilog="Example: petaseal campaign launch campaign --on slurm --dry-run")
def launch(
    context: typer.Context,
    folder: Dir,
    on: On = None,
    reservation: Reservation = None,
    engine_option: EngineOptions = None,
    ready_timeout: Annotated[
        float, typer.Option(min=1, max=DAY_S, help="seconds to wait for nodes once the first runs")
    ] = 1800,
    lead: Annotated[float, typer.Option(min=1, max=DAY_S, help="seconds from publishing the start to the start")] = 15,
    retries: Annotated[
        int, typer.Option(min=0, help="how often a node that fails before the start is started again")
    ] = 1,
    require_all: Annotated[bool, typer.Option("--require-all", help="start with every node, or not at all")] = False,
    least: Least = None,
    finish: Annotated[
        float, typer.Option(min=1, max=DAY_S, help="seconds for the last records after the last window")
    ] = 1800,
    detach: Annotated[
        bool, typer.Option("--detach", help="kubernetes: let a pod coordinate and collect, and return at once")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print the estimate and the exact commands; start nothing")
    ] = False,
    as_json: JsonAlone = False,
) -> None:
    """Hand the nodes to the engine, start them all at one time, and watch until every record is there.

    Killed at any moment, the same command goes on where it was. Exit status 1: not every node gave its record.
    """
    from bench.campaign.launch.detached import hand_over
    from bench.campaign.launch.plan import plan_of
    from bench.campaign.launch.readiness import least_asked
    from bench.campaign.opening import OpenCampaign
    from bench.campaign.running import run
    from bench.campaign.show import next_line, show_dry_run, show_view

    opened = OpenCampaign.at(folder, shared_campaign)
    plan = plan_of(opened, on, engine_option, reservation)._replace(
        ready_timeout_ns=int(ready_timeout * 1e9),
        lead_ns=int(lead * 1e9),
        retries=retries,
        least=least_asked(opened.roster, least or (), require_all),
        finish_ns=int(finish * 1e9),
    )
    # Before anything is handed to the engine or written into the folder.
    if dry_run:
        show_dry_run(opened, plan, detach, same_options(context, "dry_run"), as_json)
        return
    if detach:
        hand_over(opened, plan)
        print_lines([f"handed to {plan.engine}", next_line("campaign status", folder)])
        return
    view = run(opened, plan, as_json)
    show_view(view, as_json, next_line("campaign collect", opened.folder.root))
    # A void record has arrived: measuring again would not make it better.
    done = view.places["done"] + view.places["void"]
    if done < view.expected:
        what = f"{view.expected - done} of {view.expected} nodes gave no record"
        raise RefusedError("campaign-incomplete", what, where=folder, fix=f"see: {opened.folder.command('collect')}")


@app.command(epilog="Example: petaseal campaign check campaign --on slurm")
def check(
    context: typer.Context,
    folder: Dir,
    on: On = None,
    reservation: Reservation = None,
    engine_option: EngineOptions = None,
    timeout: Annotated[float, typer.Option(min=1, max=DAY_S, help="seconds to wait for all nodes")] = 600,
    ratings: OwnRatings = None,
    whole: Annotated[bool, typer.Option("--all", help="show every check of the doctor, and every line")] = False,
    lang: Lang = None,
    as_json: JsonAlone = False,
) -> None:
    """Look at every node before anything is measured: devices and what they can count, drivers, clocks, disk.

    What moves the figures is shown as `petaseal doctor` shows it.
    """
    import msgspec

    from bench.campaign.launch.plan import plan_of
    from bench.campaign.launch.preflight import fleet_problems, fleet_remarks, seen
    from bench.campaign.opening import OpenCampaign
    from bench.campaign.running import look
    from bench.campaign.show import next_line, show_check, unchecked_lines, unheard_lines
    from bench.doctor.show import show_report
    from certify.campaign.prospects import of_nodes, terms_of
    from certify.policy.ratings import load_ratings

    opened = OpenCampaign.at(folder, shared_campaign)
    # What keeps figures from counting is read first: it must not be found out after all nodes were asked.
    table, terms = load_ratings(ratings), terms_of(opened.folder, opened.campaign, opened.profile)
    plan = plan_of(opened, on, engine_option, reservation)._replace(check_only=True)
    looked = look(opened, plan, timeout, as_json)
    facts = {node: status.facts for node, status in looked.known.items() if status.facts is not None}
    names = {node.node_id: node.name for node in opened.roster.nodes}
    expected = of_nodes(terms, {node: reported.found for node, reported in facts.items()}, names, table)
    doctor = fleet_report(opened, facts)
    problems = [
        *unheard_lines(looked, opened.roster),
        *fleet_problems(facts, opened.roster),
        *looked.clocks,
        *unchecked_lines(looked, opened.roster, timeout),
        *expected.problems,
        *(f"{one.where}: {one.sentence('en')} ({one.row.code})" for one in doctor.findings if one.counts_0),
    ]
    value = {
        "expected": len(names),
        "facts": {node: msgspec.to_builtins(reported) for node, reported in facts.items()},
        "problems": problems,
        "waiting": [line for _, line in looked.waiting],
        "doctor": doctor.as_json(),
        **expected.as_json(),
    }
    shown = show_check(problems, seen(facts, opened.roster), len(facts), len(names))
    remarks = [f"  note: {remark}" for remark in fleet_remarks(facts, opened.roster)]
    report(as_json, value, [*shown, *remarks, *expected.lines()])
    if not as_json:
        show_report(doctor, whole)
        same = same_options(context, "timeout", "ratings", "whole", "lang")
        print_lines([] if problems else [next_line("campaign launch", opened.folder.root, *same)])
    if problems:
        raise RefusedError("preflight-failed", f"{len(problems)} problem(s) were found", where=folder)


def fleet_report(opened: OpenCampaign, facts: Mapping[str, NodeFacts]) -> DoctorReport:
    """Return what the doctor adds to a check of all nodes: what the check itself says in its sentences is left out."""
    from bench.doctor.fleet_checks import FleetView
    from bench.doctor.report import models_of, report_of

    models = models_of((one.model, len(one.names)) for its in facts.values() for one in its.found)
    rows = {check: row for check, row in code_rows().items() if check not in SAID_BY_CHECK}
    fleet = FleetView(facts, opened.roster)
    return report_of(rows, fleet.examinations, models=models, fleet=fleet)


# What `campaign check` says of nodes in sentences of its own (`bench.campaign.node.facts`, `preflight`).
SAID_BY_CHECK = frozenset(
    """device-fault clock-unknown clock-wide disk folder node-problem fleet-identity fleet-machine fleet-clock
    fleet-devices fleet-models fleet-drivers fleet-silent""".split()  # noqa: SIM905 - read more easily than a list
)


def campaign_report(root: Path, ratings: Path | None) -> DoctorReport:
    """Return what the doctor says of a campaign's nodes, by what each reported last (`petaseal campaign check`)."""
    from bench.campaign.opening import OpenCampaign
    from bench.doctor.fleet_checks import FleetView
    from bench.doctor.report import models_of, report_of
    from bench.record.folder import survey
    from bench.record.status import DoctorFinding, Status
    from certify.campaign.prospects import of_nodes, terms_of
    from certify.policy.ratings import load_ratings

    opened = OpenCampaign.at(root, shared_campaign)
    table, terms = load_ratings(ratings), terms_of(opened.folder, opened.campaign, opened.profile)
    names = {node.node_id: node.name for node in opened.roster.nodes}
    known: dict[str, Status] = {}
    survey(opened.folder, known, names.keys())
    facts = {node: status.facts for node, status in known.items() if status.facts is not None}
    expected = of_nodes(terms, {node: its.found for node, its in facts.items()}, names, table)
    codes = [
        (DoctorFinding(code, {}, (), counts_0=True), tuple(sorted(one.nodes)))
        for one in expected.models
        for code in one.outlook.against
    ]
    models = models_of((one.model, len(one.names)) for its in facts.values() for one in its.found)
    fleet = FleetView(facts, opened.roster)
    return report_of(code_rows(), fleet.examinations, codes, models, fleet)


def code_rows() -> dict[str, DoctorRow]:
    """Return every row of the doctor's table, with the meanings of the codes that are known beforehand."""
    from bench.doctor.table import rows_with
    from bench.language import Message
    from certify.policy.reasons import mending, reasons

    table = reasons()
    return rows_with({code: (table[code].rule, Message(en=table[code].en, zh=table[code].zh)) for code in mending()})


@app.command(epilog="Example: petaseal campaign status campaign")
def status(
    folder: Dir,
    watch: Annotated[bool, typer.Option("--watch", help="go on until the campaign is over")] = False,
    show_all: All = False,
    lang: Lang = None,
    as_json: JsonAlone = False,
) -> None:
    """Show where every node stands, and the running sum against the thresholds."""
    from bench.campaign.follow import follow
    from bench.campaign.opening import OpenCampaign
    from bench.campaign.show import show_view

    opened = OpenCampaign.at(folder, shared_campaign, public=True)
    view = follow(opened, watch and not as_json)
    show_view(view, as_json, opened.withheld, show_all=show_all)


@app.command(epilog="Example: petaseal campaign abort campaign")
def abort(folder: Dir, as_json: JsonAlone = False) -> None:
    """End all load within seconds; records that are written stay, windows that are not over are lost."""
    from bench.campaign.abort import abort as end

    root = folder.absolute()
    done = end(root, shared_campaign)
    # One sentence of all problems for machines, which look whether there is any.
    value = {"aborted": str(root), "problem": "; ".join(done.problems) or None, "ended": done.ended}
    marked = [] if done.is_unmarked else [f"{root}: aborted; every node ends its load within seconds"]
    report(as_json, value, [*done.ended, *done.problems, *marked])
    # The flag and the jobs first, the complaint about the folder last: load must end whatever else is wrong.
    if done.error is not None:
        raise done.error


@app.command(hidden=True, epilog="Example: petaseal campaign join campaign --node gpu-node-1")
def join(
    folder: Dir,
    node: Annotated[
        str | None, typer.Option("--node", help="the engine's name of this node (default: from the engine)")
    ] = None,
    check_only: Annotated[bool, typer.Option("--check", help="look at the node and measure nothing")] = False,
    key: NodeKey = None,
    passphrase_file: NodePassphraseFile = None,
    as_json: JsonAlone = False,
) -> None:
    """Take part in a campaign as one of its nodes: what the engine runs on each."""
    from bench.campaign.node.join import join as take_part
    from bench.campaign.node.join import reporting_failure
    from bench.campaign.node.reporter import sums_of
    from bench.campaign.node.task import part_of
    from bench.campaign.opening import OpenCampaign
    from bench.clock import check_clock
    from bench.environment import machine_id
    from certify.statement.describe import judge_record

    check_clock()
    opened = OpenCampaign.at(folder, shared_campaign)
    part = part_of(opened.folder, opened.campaign, opened.profile, node)
    # The coordinator waits for this node: it must hear of a key that cannot be read.
    with reporting_failure(part):
        signer = node_signer(key, passphrase_file, machine_id())

    def sums(record: NodeRecord) -> dict[str, ReportedSums]:
        judged = judge_record(record, opened.campaign, opened.profile)
        return sums_of(record, judged, opened.campaign, part.node, opened.roster)

    # The sums are for the operator's screen only: `certify` judges each record anew, and believes none of them.
    written = take_part(part, signer, sums, check_only)
    value = {"node_id": part.node.node_id, "record": None if written is None else str(written)}
    report(as_json, value, [f"{part.node.name}: {'checked' if written is None else f'wrote {written.name}'}"])


def shared_campaign(path: Path) -> Campaign:
    """Return the campaign in a folder that others write to; who signed it is checked by ``certify``."""
    from certify.statement.campaign import parsed_campaign

    return parsed_campaign(path, shared=True)


def same_options(context: typer.Context, *without: str) -> list[str]:
    """Return the options of a command line as they were given, for one that comes after it.

    Args:
        context: of the command.
        without: names of parameters that the next command does not take.
    """
    words = []
    for option in context.command.params:
        name = option.name or ""
        source = context.get_parameter_source(name)
        # Defaults are left out: the line stays short, and a later release may choose a better default.
        if option.param_type_name != "option" or name in without or source is None or source.name != "COMMANDLINE":
            continue
        value = context.params[name]
        for one in value if isinstance(value, list | tuple) else [value]:
            words += [option.opts[0]] if one is True else [option.opts[0], str(one)]
    return words
