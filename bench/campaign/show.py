"""A campaign on the terminal: a live table while it goes on, lines and JSON for one look. Nothing is computed here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from bench.campaign.board import Line, Overview
from bench.errors import one_line
from bench.show import is_terminal, print_json, print_lines
from bench.units import pflops_text, rate_text

if TYPE_CHECKING:
    from bench.campaign.coordinator import Plan
    from bench.campaign.running import Open

SHOWN = 15  # nodes in trouble, of thousands


def lines(view: Overview) -> list[str]:
    """Return a campaign at one moment for people."""
    counts = ", ".join(f"{count} {place}" for place, count in view.places.items() if count)
    found = [
        f"{view.phase}",
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
    troubled = [line for line in view.nodes if trouble(line)]
    found += [f"  {line.name}: {trouble(line)}" for line in troubled[:SHOWN]]
    if len(troubled) > SHOWN:
        found.append(f"  and {len(troubled) - SHOWN} more; see --json")
    return found


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
            and not phase.startswith("starts in")
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


def show_check(problems: Sequence[str], told: int, expected: int) -> list[str]:
    """Return what looking at all nodes gave, for people."""
    first = f"{told} of {expected} nodes told of themselves"
    return [first, *(f"  {problem}" for problem in problems or ["no problem was found"])]


def show_dry_run(opened: Open, plan: Plan, detach: bool, as_json: bool) -> None:
    """Print what a launch would take, whom it leaves out, and the exact commands."""
    import msgspec

    from bench.campaign.coordinator import gangs
    from bench.campaign.estimate import estimate
    from bench.campaign.preflight import free_bytes
    from bench.campaign.running import coordinates, coordinator_of
    from bench.launchers import load_launcher

    launcher = load_launcher(plan.engine)
    found = estimate(opened.campaign, opened.profile, opened.roster)
    commands = [
        text
        for gang in gangs(opened.folder, opened.campaign, opened.profile, opened.roster, plan)
        for text in launcher.describe(gang)
    ]
    if detach:
        commands += coordinates(plan.engine).describe_coordinator(*coordinator_of(opened, plan))
    left_out = [f"{node.name}: {node.reason}" for node in opened.roster.left_out]
    free = free_bytes(opened.folder.root)
    if as_json:
        print_json(
            {
                "estimate": msgspec.to_builtins(found),
                "left_out": left_out,
                "commands": commands,
                "disk_free_bytes": free,
            }
        )
        return
    told = [
        *found.lines(),
        f"disk       {free / 1e9:.1f} GB free in the shared folder",
        *(f"left out   {text}" for text in left_out),
        "nodes' clocks, drivers, devices and permissions: petaseal campaign check, and again before the start",
        "",
    ]
    print_lines(told)
    typer.echo("\n".join(commands))  # as they are, to be copied


def show_view(view: Overview, as_json: bool) -> None:
    """Print a campaign at one moment."""
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(view))
    else:
        print_lines(lines(view))
