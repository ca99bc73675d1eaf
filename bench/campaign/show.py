"""A campaign on the terminal: a live table while it goes on, lines and JSON for one look. Nothing is computed here."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bench.campaign.board import Line, Overview
from bench.errors import one_line
from bench.show import is_terminal, print_json, print_lines
from bench.units import pflops_text, rate_text, some

if TYPE_CHECKING:
    from bench.campaign.plan import Plan
    from bench.campaign.running import Looked, Open
    from bench.record.folder import Roster

SHOWN = 15  # nodes in trouble, of thousands
WORST = ("failed", "lost", "void", "aborted")


def lines(view: Overview) -> list[str]:
    """Return a campaign at one moment for people."""
    counts = ", ".join(f"{count} {place}" for place, count in view.places.items() if count)
    found = [
        f"{view.phase}",
        *(f"waiting    {line}" for line in view.waiting),
        *(f"not ready  {line}" for line in view.unready),
        f"nodes      {view.expected} expected: {counts}; {view.late} late, {view.left_out} left out",
    ]
    if view.starts_at:
        found.append(f"start      {view.starts_at}; the last window closes at {view.ends_at} (ETA)")
    found += [f"shape      {shape}" for shape in view.shapes]
    for name, value in view.live_mflop_s.items():
        found.append(f"just now   {name}: {rate_text(value)} (sustained, under load)")
    for name, value in view.certified_mflop_s.items():
        found.append(f"so far     {name}: {rate_text(value)} (certified, as the nodes say)")
    for against in view.against if view.certified_mflop_s else ():
        share = against.certified_mflop_s * 1000 // against.threshold_mflop_s / 10
        demanded = pflops_text(against.threshold_mflop_s)
        found.append(
            f"against    {against.name}: {pflops_text(against.certified_mflop_s)} of {demanded} PFLOPS ({share} %)"
        )
    troubled = sorted((line for line in view.nodes if trouble(line)), key=_how_bad)
    found += [f"  {line.name}: {trouble(line)}" for line in troubled[:SHOWN]]
    if len(troubled) > SHOWN:
        found.append(f"  and {len(troubled) - SHOWN} more; see --json")
    return found


def _how_bad(line: Line) -> tuple[int, int]:
    """Return the place of a node in trouble among others, the worst first; what was ended from outside is no fault."""
    if line.place in WORST:
        return WORST.index(line.place), 0
    return len(WORST) + (not line.late), line.rate_mflop_s or 0


def trouble(line: Line) -> str | None:
    """Return what should be known of a node, None where all is well."""
    if line.place in ("void", "failed", "aborted", "lost"):
        return f"{line.place}{f': {one_line(line.message)}' if line.message else ''}"
    late = f"late: ready at {line.ready_at}" if line.late else None
    return "; ".join(filter(None, (late, line.straggler))) or None


class Live:
    """The live table of a launch on a terminal; elsewhere what happens, a line each."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._live: Any = None
        self._shown = not quiet and is_terminal(sys.stderr)
        self._phase = ""
        self._remarks: list[str] = []

    def __enter__(self) -> Live:
        if self._shown:
            from rich.console import Console
            from rich.live import Live as RichLive

            self._live = RichLive(console=Console(stderr=True), refresh_per_second=2, transient=True)
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, view: Overview) -> None:
        """Show a campaign at one moment."""
        if self._live:
            self._live.update(table(view))
        elif (
            not self._quiet
            and (phase := view.phase.partition(",")[0]) != self._phase
            and not phase.startswith(("starts in", "is over"))  # the one counts down, the other is the last screen
        ):
            self._phase = phase
            typer.echo(phase, err=True)

    def remark(self, text: str) -> None:
        """Say what happened."""
        text = one_line(text)  # nodes' own words are in it
        if self._live:
            self._live.console.print(text, highlight=False, markup=False)
        elif not self._quiet:
            typer.echo(text, err=True)


def table(view: Overview) -> Any:
    """Return a campaign at one moment as a rich table."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    counts = Table(*(place for place, count in view.places.items() if count), "of", box=None)
    counts.add_row(*(str(count) for count in view.places.values() if count), str(view.expected))
    rest = [text for text in lines(view) if not text.startswith("nodes ")]
    return Group(Text(rest[0]), counts, *(Text(text) for text in rest[1:]))


def show_check(problems: Sequence[str], seen: Sequence[str], told: int, expected: int) -> list[str]:
    """Return what looking at all nodes gave, for people."""
    first = f"{told} of {expected} nodes told of themselves"
    return [
        first,
        *(f"  {line}" for line in seen),
        *(f"  {problem}" for problem in problems or ["no problem was found"]),
    ]


def next_line(command: str, *words: str | Path) -> str:
    """Return the command that comes next, to be copied into a shell as it is."""
    return f"next       petaseal {command} {shlex.join(map(str, words))}"


def unheard_lines(looked: Looked, roster: Roster) -> list[str]:
    """Return which nodes reported nothing and why, those together that have one reason, the most first."""
    pools = dict(looked.waiting)
    silent = [node for node in roster.nodes if node.node_id not in looked.known]
    by_reason: dict[str, list[str]] = {}
    for node in silent:
        if node.pool not in pools:
            by_reason.setdefault(looked.unheard.get(node.node_id, "told nothing"), []).append(node.name)
    most_first = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    return [*pools.values(), *(f"{some(names)} {why}" for why, names in most_first)]


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
        if option.param_type_name != "option" or name in without or source is None or source.name != "COMMANDLINE":
            continue
        value = context.params[name]
        for one in value if isinstance(value, list | tuple) else [value]:
            words += [option.opts[0]] if one is True else [option.opts[0], str(one)]
    return words


def unchecked_lines(looked: Looked, roster: Roster, timeout_s: float) -> list[str]:
    """Return which nodes were heard of and did not end their look, and why."""
    found = []
    for node in roster.nodes:
        status = looked.known.get(node.node_id)
        if status is not None and status.state != "checked":
            late = f"had not ended its look after {timeout_s:g} s; give a longer --timeout"
            found.append(f"{node.name} {late if status.message is None else f'{status.state}: {status.message}'}")
    return found


def show_dry_run(opened: Open, plan: Plan, detach: bool, again: Sequence[str], as_json: bool) -> None:
    """Print what a launch would take, whom it leaves out, and the exact commands.

    What is not a command or a manifest begins with "#", so that the whole can be kept in a file and used as it is.

    Args:
        opened: campaign.
        plan: of the launch.
        detach: whether a pod would coordinate.
        again: options of the launch.
        as_json: for machines.
    """
    import msgspec

    from bench.campaign.estimate import estimate
    from bench.campaign.plan import gangs
    from bench.campaign.preflight import free_bytes
    from bench.campaign.readiness import needed_bytes
    from bench.campaign.running import coordinates, coordinator_of, kinds_here
    from bench.launchers import load_launcher

    launcher = load_launcher(plan.engine)
    kinds = kinds_here(opened.roster) if plan.engine == "local" else {}
    found = estimate(opened.campaign, opened.profile, opened.roster, kinds, plan.lead_ns)
    commands = [
        text
        for gang in gangs(opened.folder, opened.campaign, opened.profile, opened.roster, plan)
        for text in launcher.describe(gang)
    ]
    if detach:
        commands += coordinates(plan.engine).describe_coordinator(*coordinator_of(opened, plan))
    left_out = [f"{node.name}: {node.reason}" for node in opened.roster.left_out]
    free = free_bytes(opened.folder.root)
    nodes = [node.node_id for node in opened.roster.nodes]
    needed = sum(needed_bytes(opened.campaign, opened.profile, opened.roster, nodes, {}))
    if as_json:
        print_json(
            {
                "estimate": msgspec.to_builtins(found),
                "left_out": left_out,
                "commands": commands,
                "disk_free_bytes": free,
                "disk_needed_bytes": needed,
            }
        )
        return
    told = [
        *found.lines(),
        f"disk       {free / 1e9:.1f} GB free in the shared folder, {needed / 1e9:.3f} needed for records",
        *(f"left out   {text}" for text in left_out),
        "nodes' clocks, drivers, devices and permissions: petaseal campaign check, and again before the start",
        next_line("campaign launch", opened.folder.root, *again),
    ]
    print_lines([*(f"# {line}" for line in told), ""])
    typer.echo("\n".join(commands))  # as they are, to be copied


def show_view(view: Overview, as_json: bool, *remarks: str | None) -> None:
    """Print a campaign at one moment, and for people some remarks on it."""
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(view))
    else:
        print_lines([*lines(view), *filter(None, remarks)])
