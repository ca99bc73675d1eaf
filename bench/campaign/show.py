"""A campaign on the terminal: a live table while it goes on, lines and JSON for one look. Nothing is computed here."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.campaign.board import BoardLine, Overview
from bench.errors import one_line
from bench.language import Language, language, said_in, text, text_in
from bench.terminal.screen import is_terminal, summary_here
from bench.terminal.show import print_json, print_lines, say
from bench.terminal.summary import Part, fixed, listing, whole_part
from bench.units import pflops_text, rate_text, shortened_list

if TYPE_CHECKING:
    from bench.campaign.launch.plan import LaunchPlan
    from bench.campaign.launch.preflight import PreflightResult
    from bench.campaign.opening import OpenCampaign
    from bench.record.roster import Roster

SHOWN = 15  # nodes in trouble, of thousands
WORST = ("failed", "lost", "void", "aborted")


def lines(view: Overview, lang: Language = "en", shown: int | None = SHOWN) -> list[str]:
    """Return the board of a campaign as printed lines, with so many nodes in trouble; None: all of them."""
    troubled = _troubled(view, lang)
    nodes = troubled if shown is None else troubled[:shown]
    left = len(troubled) - len(nodes)
    return [
        said_phase(view.phase, lang),
        *_waiting(view, lang),
        *_unready(view, lang),
        _nodes_line(view, lang),
        *_start(view, lang),
        *_shapes(view, lang),
        *_live(view, lang),
        *_so_far(view, lang),
        *_against(view, lang),
        *nodes,
        *([text_in(lang, "status", "more-nodes-json", count=left)] if left else []),
    ]


def summary(view: Overview, lang: Language, *remarks: str) -> list[Part]:
    """Return the parts of a campaign's summary: how far it is, the sum against the thresholds, who is in trouble."""
    troubled, against = _troubled(view, lang), _against(view, lang)
    waiting = [*_waiting(view, lang), *_unready(view, lang)]

    def entries(key: str, texts: Sequence[str], worth: int = 1) -> Part:
        return replace(listing("", texts, key, lang), worth=worth)

    return [
        fixed(said_phase(view.phase, lang), _nodes_line(view, lang), *_start(view, lang)),
        entries("waiting", waiting),
        entries("sums", _so_far(view, lang), worth=2),
        entries("thresholds", against, worth=2),
        entries("rates", _live(view, lang)),
        entries("nodes", troubled),
        entries("shapes", _shapes(view, lang)),
        whole_part(len(lines(view, lang, None)) + len(remarks), lang),
        fixed(*remarks, is_copied=True),
    ]


def said_phase(phase: str, lang: Language) -> str:
    """Return a phase in a language."""
    how = phase.removeprefix("is over: ")
    ending = said_in(lang, "ending", how)
    if ending != how:
        return text_in(lang, "campaign_phase", "ended", how=ending)
    return said_in(lang, "campaign_phase", phase)


def _waiting(view: Overview, lang: Language) -> list[str]:
    return [text_in(lang, "status", "waiting", what=line) for line in view.waiting]


def _unready(view: Overview, lang: Language) -> list[str]:
    return [text_in(lang, "status", "unready", what=line) for line in view.unready]


def _nodes_line(view: Overview, lang: Language) -> str:
    counts = text_in(lang, "status", "comma").join(
        text_in(lang, "status", "count", count=count, place=text_in(lang, "place", place))
        for place, count in view.places.items()
        if count
    )
    return text_in(
        lang, "status", "nodes", expected=view.expected, counts=counts, late=view.late, left_out=view.left_out
    )


def _start(view: Overview, lang: Language) -> list[str]:
    return [text_in(lang, "status", "start", starts=view.starts_at, ends=view.ends_at)] if view.starts_at else []


def _shapes(view: Overview, lang: Language) -> list[str]:
    return [
        text_in(
            lang,
            "status",
            "shape",
            what=one.precision,
            product=one.product,
            shape=f"{one.shape.m} x {one.shape.n} x {one.shape.k}",
            chosen=one.chosen_by,
            devices=one.devices,
        )
        for one in view.shapes
    ]


def _live(view: Overview, lang: Language) -> list[str]:
    rates = view.live_mflop_s.items()
    return [text_in(lang, "status", "just-now", name=name, rate=rate_text(value)) for name, value in rates]


def _so_far(view: Overview, lang: Language) -> list[str]:
    sums = view.certified_mflop_s.items()
    return [
        text_in(lang, "status", "so-far", name=text_in(lang, "class_code", name), rate=rate_text(value))
        for name, value in sums
    ]


def _against(view: Overview, lang: Language) -> list[str]:
    """Return the running sums against the thresholds; before the first record 0 % would read as a failure."""
    return [
        text_in(
            lang,
            "status",
            "against",
            name=one.name,
            certified=pflops_text(one.certified_mflop_s),
            demanded=pflops_text(one.threshold_mflop_s),
            share=one.certified_mflop_s * 1000 // one.threshold_mflop_s / 10,
        )
        for one in (view.against if view.certified_mflop_s else ())
    ]


def _troubled(view: Overview, lang: Language) -> list[str]:
    """Return the nodes that must be looked after, the worst first."""
    troubled = sorted((line for line in view.nodes if trouble(line)), key=_how_bad)
    return [f"  {line.name}: {trouble(line, lang)}" for line in troubled]


def _how_bad(line: BoardLine) -> tuple[int, int]:
    """Return the place of a node in trouble among others, the worst first; what was ended from outside is no fault."""
    if line.place in WORST:
        return WORST.index(line.place), 0
    return len(WORST) + (not line.late), line.rate_mflop_s or 0


def trouble(line: BoardLine, lang: Language = "en") -> str | None:
    """Return what should be known of a node, None where all is well."""
    if line.place in ("void", "failed", "aborted", "lost"):
        return f"{text_in(lang, 'place', line.place)}{f': {one_line(line.message)}' if line.message else ''}"
    late = text_in(lang, "status", "late", at=line.ready_at) if line.late else None
    slow = said_in(lang, "straggler", line.straggler) if line.straggler else None
    return "; ".join(filter(None, (late, slow))) or None


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
        """Show the board of a campaign: the live table, or a line where the phase has changed."""
        if self._live:
            self._live.update(table(view))
        elif (
            not self._quiet
            and (phase := view.phase.partition(",")[0]) != self._phase
            and not phase.startswith(("starts in", "is over"))  # the one counts down, the other is the last screen
        ):
            self._phase = phase
            say(re.split("[,，]", said_phase(view.phase, language()))[0], aside=True)

    def remark(self, text: str) -> None:
        """Print one event of the campaign, a line."""
        text = one_line(text)  # nodes' own words are in it
        if self._live:
            self._live.console.print(text, highlight=False, markup=False)
        elif not self._quiet:
            say(text, aside=True)


def table(view: Overview) -> Any:
    """Return a campaign at one moment as a rich table."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    lang = language()
    places = (text_in(lang, "place", place) for place, count in view.places.items() if count)
    counts = Table(*places, text_in(lang, "statement_lines", "of"), box=None)
    counts.add_row(*(str(count) for count in view.places.values() if count), str(view.expected))
    rest = [text for text in lines(view, lang) if text != _nodes_line(view, lang)]
    return Group(Text(rest[0]), counts, *(Text(text) for text in rest[1:]))


def show_check(problems: Sequence[str], seen: Sequence[str], reported: int, expected: int) -> list[str]:
    """Return the printed lines of a check of all nodes (`petaseal campaign launch --check`)."""
    first = f"{reported} of {expected} nodes told of themselves"
    return [
        first,
        *(f"  {line}" for line in seen),
        *(f"  {problem}" for problem in problems or ["no problem was found"]),
    ]


def next_line(command: str, *words: str | Path) -> str:
    """Return the command that comes next, to be copied into a shell as it is."""
    return text("summary", "next", command=f"{command} {shlex.join(map(str, words))}")


def unheard_lines(looked: PreflightResult, roster: Roster) -> list[str]:
    """Return which nodes reported nothing and why, those together that have one reason, the most first."""
    pools = dict(looked.waiting)
    silent = [node for node in roster.nodes if node.node_id not in looked.known]
    by_reason: dict[str, list[str]] = {}
    for node in silent:
        # A pool whose job still waits is said once, and not for each of its nodes.
        if node.pool not in pools:
            by_reason.setdefault(looked.unheard.get(node.node_id, "told nothing"), []).append(node.name)
    most_first = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    return [*pools.values(), *(f"{shortened_list(names)} {why}" for why, names in most_first)]


def unchecked_lines(looked: PreflightResult, roster: Roster, timeout_s: float) -> list[str]:
    """Return which nodes were heard of and did not end their look, and why."""
    unchecked = []
    for node in roster.nodes:
        status = looked.known.get(node.node_id)
        if status is not None and status.state != "checked":
            late = f"had not ended its look after {timeout_s:g} s; give a longer --timeout"
            unchecked.append(f"{node.name} {late if status.message is None else f'{status.state}: {status.message}'}")
    return unchecked


def show_dry_run(opened: OpenCampaign, plan: LaunchPlan, detach: bool, again: Sequence[str], as_json: bool) -> None:
    """Print what a launch would take, whom it leaves out, and the exact commands.

    What is not a command or a manifest begins with "#", so that the whole can be kept in a file and used as it is.

    Args:
        opened: campaign.
        plan: of the launch.
        detach: whether a pod would coordinate.
        again: options of the launch.
        as_json: whether one JSON object is printed.
    """
    import msgspec

    from bench.campaign.estimate import estimate
    from bench.campaign.launch.detached import coordinates, coordinator_of
    from bench.campaign.launch.plan import gangs
    from bench.campaign.opening import kinds_here
    from bench.campaign.room import free_bytes, needed_bytes
    from bench.launchers import load_launcher

    launcher = load_launcher(plan.engine)
    kinds = kinds_here(opened.roster) if plan.engine == "local" else {}
    estimated = estimate(opened.campaign, opened.profile, opened.roster, kinds, plan.lead_ns)
    commands = [text for gang in gangs(opened, plan) for text in launcher.describe(gang)]
    if detach:
        commands += coordinates(plan.engine).describe_coordinator(*coordinator_of(opened, plan))
    left_out = [f"{node.name}: {node.reason}" for node in opened.roster.left_out]
    free = free_bytes(opened.folder.root)
    nodes = [node.node_id for node in opened.roster.nodes]
    needed = sum(needed_bytes(opened, nodes, {}))
    if as_json:
        print_json(
            {
                "estimate": msgspec.to_builtins(estimated),
                "left_out": left_out,
                "commands": commands,
                "disk_free_bytes": free,
                "disk_needed_bytes": needed,
            }
        )
        return
    remarks = [
        *estimated.lines(),
        f"disk       {free / 1e9:.1f} GB free in the shared folder, {needed / 1e9:.3f} needed for records",
        *(f"left out   {text}" for text in left_out),
        "nodes' clocks, drivers, devices and permissions: petaseal campaign check, and again before the start",
        next_line("campaign launch", opened.folder.root, *again),
    ]
    print_lines([*(f"# {line}" for line in remarks), ""])
    say("\n".join(commands))  # as they are, to be copied


def show_view(view: Overview, as_json: bool, *remarks: str | None, show_all: bool = False) -> None:
    """Print the board of a campaign, with remarks where it is not JSON: a summary, or the whole."""
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(view))
        return
    lang, known = language(), [remark for remark in remarks if remark is not None]
    print_lines([*lines(view, lang, None), *known] if show_all else summary_here(summary(view, lang, *known)))
