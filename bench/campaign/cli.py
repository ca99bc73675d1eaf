"""The commands of a campaign at work: ``launch``, ``status``, ``abort``, ``check``, and ``join``, which each node runs.

Errors leave as `PetasealError`. What reads a signature is handed in as a `Sealing`, as for ``run``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from bench.cli import RatingsOption
from bench.errors import RefusedError
from bench.show import print_json, print_lines

if TYPE_CHECKING:
    from bench.campaign.running import Open
    from bench.cli import Sealing
    from bench.record import NodeRecord
    from bench.record.folder import FoundModel, Sums

Dir = Annotated[
    Path, typer.Argument(metavar="DIR", readable=False, help="the campaign's folder, which all nodes share")
]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object and nothing else")]
On = Annotated[
    str | None, typer.Option("--on", help="local, slurm or kubernetes (default: where the nodes were taken from)")
]
Options = Annotated[
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


class Prospects(Protocol):
    """What the devices can expect that a campaign's nodes told of."""

    @property
    def problems(self) -> list[str]:
        """What cannot count, one sentence for each model."""
        ...

    def lines(self) -> list[str]:
        """Return it for people."""
        ...

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        ...


# From a campaign's folder and a file of ratings: from what each node told of its devices, what these can expect
Foresee = Callable[["Open", Path | None], Callable[["Mapping[str, Sequence[FoundModel]]"], Prospects]]


def mount(app: typer.Typer, sealing: Sealing, foresee: Foresee) -> None:
    """Add the commands of this room to ``petaseal campaign``.

    Args:
        app: of the campaign's commands.
        sealing: signs and judges.
        foresee: says what the devices of a campaign can expect.
    """

    @app.command(epilog="Example: petaseal campaign launch campaign --on slurm --dry-run")
    def launch(
        context: typer.Context,
        folder: Dir,
        on: On = None,
        reservation: Reservation = None,
        engine_option: Options = None,
        ready_timeout: Annotated[
            float, typer.Option(min=1, max=DAY_S, help="seconds to wait for nodes once the first runs")
        ] = 1800,
        lead: Annotated[
            float, typer.Option(min=1, max=DAY_S, help="seconds from publishing the start to the start")
        ] = 15,
        retries: Annotated[
            int, typer.Option(min=0, help="how often a node that fails before the start is started again")
        ] = 1,
        require_all: Annotated[
            bool, typer.Option("--require-all", help="start with every node, or not at all")
        ] = False,
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
        as_json: Json = False,
    ) -> None:
        """Hand the nodes to the engine, start them all at one time, and watch until every record is there.

        Killed at any moment, the same command goes on where it was. Exit status 1: not every node gave its record.
        """
        from bench.campaign.readiness import least_asked
        from bench.campaign.running import Open, hand_over, plan_of, run
        from bench.campaign.show import next_line, same_options, show_dry_run, show_view

        opened = Open(folder, sealing)
        plan = plan_of(opened, on, engine_option, reservation)._replace(
            ready_timeout_ns=int(ready_timeout * 1e9),
            lead_ns=int(lead * 1e9),
            retries=retries,
            least=least_asked(opened.roster, least or (), require_all),
            finish_ns=int(finish * 1e9),
        )
        if dry_run:
            show_dry_run(opened, plan, detach, same_options(context, "dry_run"), as_json)
            return
        if detach:
            hand_over(opened, plan)
            print_lines([f"handed to {plan.engine}", next_line("campaign status", folder)])
            return
        view = run(opened, plan, as_json)
        show_view(view, as_json, next_line("campaign collect", opened.folder.root))
        done = view.places["done"] + view.places["void"]
        if done < view.expected:
            what = f"{view.expected - done} of {view.expected} nodes gave no record"
            raise RefusedError(
                "campaign-incomplete", what, where=folder, fix=f"see: {opened.folder.command('collect')}"
            )

    @app.command(epilog="Example: petaseal campaign check campaign --on slurm")
    def check(
        context: typer.Context,
        folder: Dir,
        on: On = None,
        reservation: Reservation = None,
        engine_option: Options = None,
        timeout: Annotated[float, typer.Option(min=1, max=DAY_S, help="seconds to wait for all nodes")] = 600,
        ratings: RatingsOption = None,
        as_json: Json = False,
    ) -> None:
        """Look at every node before anything is measured: devices and what they can count, drivers, clocks, disk."""
        from bench.campaign.preflight import fleet_problems, fleet_remarks, seen
        from bench.campaign.running import Open, look, plan_of
        from bench.campaign.show import next_line, same_options, show_check, unchecked_lines, unheard_lines

        opened = Open(folder, sealing)
        outlook = foresee(opened, ratings)
        plan = plan_of(opened, on, engine_option, reservation)._replace(check_only=True)
        looked = look(opened, plan, timeout, as_json)
        known = looked.known
        told = {node: status.facts for node, status in known.items() if status.facts is not None}
        problems = [*unheard_lines(looked, opened.roster), *fleet_problems(told, opened.roster), *looked.clocks]
        problems += unchecked_lines(looked, opened.roster, timeout)
        found = outlook({node: facts.found for node, facts in told.items()})
        problems += found.problems
        if as_json:
            import msgspec

            print_json(
                {
                    "expected": len(opened.roster.nodes),
                    "facts": {node: msgspec.to_builtins(value) for node, value in told.items()},
                    "problems": problems,
                    "waiting": [line for _, line in looked.waiting],
                    **found.as_json(),
                }
            )
        else:
            shown = show_check(problems, seen(told, opened.roster), len(told), len(opened.roster.nodes))
            remarks = [f"  note: {remark}" for remark in fleet_remarks(told, opened.roster)]
            same = same_options(context, "timeout", "ratings")
            after = [] if problems else [next_line("campaign launch", opened.folder.root, *same)]
            print_lines([*shown, *remarks, *found.lines(), *after])
        if problems:
            raise RefusedError("preflight-failed", f"{len(problems)} problem(s) were found", where=folder)

    @app.command(epilog="Example: petaseal campaign status campaign")
    def status(
        folder: Dir,
        watch: Annotated[bool, typer.Option("--watch", help="go on until the campaign is over")] = False,
        as_json: Json = False,
    ) -> None:
        """Show where every node stands, and the running sum against the thresholds."""
        from bench.campaign.follow import follow
        from bench.campaign.running import Open
        from bench.campaign.show import show_view

        opened = Open(folder, sealing, public=True)
        view = follow(opened, watch and not as_json)
        show_view(view, as_json, opened.withheld)

    @app.command(epilog="Example: petaseal campaign abort campaign")
    def abort(folder: Dir, as_json: Json = False) -> None:
        """End all load within seconds; records that are written stay, windows that are not over are lost."""
        from bench.campaign.abort import abort as end

        root = folder.absolute()
        done = end(root, sealing)
        problem = "; ".join(done.problems) or None
        if as_json:
            print_json({"aborted": str(root), "problem": problem, "ended": done.ended})
        else:
            flagged = "aborted; every node ends its load within seconds"
            marked = [] if done.is_unmarked else [f"{root}: {flagged}"]
            print_lines([*done.ended, *done.problems, *marked])
        if done.error is not None:
            raise done.error

    @app.command(hidden=True, epilog="Example: petaseal campaign join campaign --node gpu-node-1")
    def join(
        folder: Dir,
        node: Annotated[
            str | None, typer.Option("--node", help="the engine's name of this node (default: from the engine)")
        ] = None,
        check_only: Annotated[bool, typer.Option("--check", help="look at the node and measure nothing")] = False,
        key: Annotated[Path | None, typer.Option("--key", help="key that signs (default: this node's own)")] = None,
        passphrase_file: Annotated[Path | None, typer.Option("--passphrase-file", help="of the key")] = None,
        as_json: Json = False,
    ) -> None:
        """Take part in a campaign as one of its nodes: what the engine runs on each."""
        from bench.campaign.join import join as take_part
        from bench.campaign.join import part_of, reporting_failure
        from bench.campaign.running import Open, sums_of
        from bench.clock import check_clock
        from bench.environment import machine_id
        from bench.record.files import state_dir

        check_clock()
        opened = Open(folder, sealing)
        part = part_of(opened.folder, opened.campaign, opened.profile, node)
        with reporting_failure(part):
            signer = sealing.signer(key, passphrase_file, state_dir(), machine_id())

        def sums(record: NodeRecord) -> dict[str, Sums]:
            judged = sealing.judge(record, opened.campaign, opened.profile)
            return sums_of(record, judged, opened.campaign, part.node, opened.roster)

        written = take_part(part, signer, sums, check_only)
        if as_json:
            print_json({"node_id": part.node.node_id, "record": None if written is None else str(written)})
        else:
            print_lines([f"{part.node.name}: {'checked' if written is None else f'wrote {written.name}'}"])
