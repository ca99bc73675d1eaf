"""The commands that give advice: ``explain`` says what a code means, ``doctor`` what is wrong before a measurement."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from certify.commands.options import Json, JsonAlone, Lang, OwnRatings
from certify.commands.output import report

if TYPE_CHECKING:
    from bench.devices.base import LocalDevice
    from bench.doctor.gather import ReadFor
    from bench.doctor.report import DoctorReport
    from bench.record import Profile
    from certify.policy.reasons import Mending, Reason

app = typer.Typer()


@app.command(epilog="Example: petaseal explain not-steady")
def explain(
    code: Annotated[str, typer.Argument(metavar="CODE", help="Reason code, as printed in brackets.")],
    lang: Lang = None,
    as_json: Json = False,
) -> None:
    """Say what a reason code means and does, its rule, the function that enforces it and the test that attacks it."""
    import msgspec

    from certify.policy import reasons

    entry, mended, home = reasons.explain(code), reasons.mending().get(code), reasons.home_of(code)
    said = msgspec.to_builtins(home)
    value = {
        "code": code,
        **msgspec.to_builtins(entry),
        "mend": msgspec.to_builtins(mended),
        "rule_text": said["text"],
        "functions": said["functions"],
        "further_functions": said["further"],
        "test": said["test"],
    }
    lines = [
        f"{code} ({entry.effect}, {entry.rule})",
        *(f"  {text}" for text in _texts(entry, lang)),
        *(f"  {text}" for text in (() if mended is None else _texts(mended, lang))),
        *(f"  {line}" for line in reasons.home_lines(code, "zh" if lang == "zh" else "en")),
    ]
    report(as_json, value, lines)


def _texts(entry: Reason | Mending, lang: str | None) -> tuple[str, ...]:
    """Return what is known of a code in the language that was asked for; in both where none was."""
    return {"en": (entry.en,), "zh": (entry.zh,)}.get(lang or "", (entry.en, entry.zh))


@app.command(epilog="Example: petaseal doctor --folder records")
def doctor(
    campaign: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", readable=False, help="a campaign's folder: what all its nodes reported"),
    ] = None,
    device: Annotated[str, typer.Option("--device", help='"all", or a list like "cuda:0,cuda:1"')] = "all",
    scenario: Annotated[Path | None, typer.Option("--scenario", help="what fake devices do (YAML)")] = None,
    pool_class: Annotated[
        str | None,
        typer.Option("--class", help="of the pool that it is for (default: supercomputing for CPUs, else intelligent)"),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option("--policy", help="policy name or file; may be repeated (default: guangzhou-2000p)"),
    ] = None,
    profile: Annotated[str, typer.Option("--profile", help="smoke, standard, certification or a file")] = "standard",
    folder: Annotated[Path, typer.Option("--folder", help="where records and samples would be written")] = Path(),
    ratings: OwnRatings = None,
    whole: Annotated[bool, typer.Option("--all", help="show every check, and every line")] = False,
    lang: Lang = None,
    as_json: JsonAlone = False,
) -> None:
    """Look for what moves this node's figures before they are measured, or over all nodes of a campaign.

    Exit status 1: a device would count 0. What only lowers a figure is said, and is no failure.
    """
    from bench.doctor.show import show_report
    from bench.scenario import use_scenario
    from bench.terminal.show import print_json
    from certify.commands.launch import campaign_report

    use_scenario(scenario)
    if campaign is not None:
        examined = campaign_report(campaign, ratings)
    else:
        examined = node_report(device, folder, policy or (), pool_class, profile, ratings)
    if as_json:
        print_json(examined.as_json())
    else:
        show_report(examined, whole)
    if examined.counts_0:
        raise typer.Exit(1)


def node_report(
    device: str, folder: Path, policies: Sequence[str], pool_class: str | None, profile_name: str, ratings: Path | None
) -> DoctorReport:
    """Return what the doctor says of this node.

    Args:
        device: which devices, as on the command line.
        folder: where records would be written.
        policies: that the figures are for.
        pool_class: of the pool that they are for; None: the usual one of such devices.
        profile_name: by which they would be measured.
        ratings: table of ratings in place of the installed one.
    """
    from bench.devices import survey_devices
    from bench.devices.base import Faulty
    from bench.doctor.examine import examine
    from bench.doctor.gather import gather
    from bench.doctor.report import THIS_NODE, models_of, report_of
    from bench.profile import load_profile
    from bench.record.identities import collisions
    from bench.terminal.show import unusable_of
    from certify.commands.launch import code_rows
    from certify.judge.expectation import demands_of
    from certify.policy.policies import load_policy
    from certify.policy.ratings import load_ratings
    from certify.statement.campaign import DEFAULT_POLICIES
    from certify.statement.outlook import outlook_of

    # Names that were typed wrongly answer before devices are asked for seconds.
    profile, table = load_profile(profile_name), load_ratings(ratings)
    demands = [one for name in policies or DEFAULT_POLICIES for one in demands_of(load_policy(name))]
    usable, problems = survey_devices(device)
    usual = "supercomputing" if all(one.model.kind == "cpu" for one in usable) else "intelligent"
    purpose = purpose_of(usable, folder, profile, pool_class or usual)
    wanted = [demand for demand in demands if demand.pool_class == (pool_class or usual)]
    against = {one.device.device: outlook_of(one.model, one.device, table, wanted).against for one in usable}
    broken = {problem: unusable_of(problem) for problem in problems}
    faulty = [one for devices in broken.values() for one in devices if isinstance(one, Faulty)]
    view = gather(
        [*usable, *faulty],
        purpose._replace(against=against),
        [problem for problem, devices in broken.items() if not any(isinstance(one, Faulty) for one in devices)],
        collisions([one.device for one in usable]),
    )
    return report_of(code_rows(), {THIS_NODE: examine(view)}, models=models_of((one.model, 1) for one in usable))


def purpose_of(devices: Sequence[LocalDevice], folder: Path, profile: Profile, pool_class: str) -> ReadFor:
    """Return what a node on its own is looked at for.

    Args:
        devices: that would be measured.
        folder: where the record would be written.
        profile: by which they would be measured.
        pool_class: that they would count in.

    Raises:
        InputError: `usage`: the profile measures nothing in that class.
    """
    from bench.campaign.estimate import room_bytes
    from bench.doctor.gather import ReadFor
    from bench.engine.node import clock_of
    from bench.engine.schedule import self_issued
    from bench.profile import chosen_workloads

    workloads = chosen_workloads(profile, pool_class, (), ())
    planned = self_issued(profile, workloads, "node", "0" * 32, 0)
    return ReadFor(folder, room_bytes(planned, profile, len(devices)), profile.busy == "refuse", clock_of(devices))
