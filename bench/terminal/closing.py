"""The end of ``petaseal run``: one table, what its codes mean, and what to type next.

Pure but for `show`: figures, meanings and the screen are handed in. Nothing is judged here.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from bench.language import text
from bench.record import Workload
from bench.terminal.columns import Column, Line, Surface, painted, table
from bench.terminal.run_screen import UNKNOWN, scale_of
from bench.terminal.show import say
from bench.terminal.summary import cells, padded, wrapped
from bench.units import percent_text, ratio_ppm

if TYPE_CHECKING:
    from bench.record import Figure, NodeRecord
    from bench.record.judged import Judged

LINES = 39  # of the usual screen of 40, with the prompt below
NAMES_SHOWN = 8  # of devices, at a code
NARROW = 60  # columns, below which commands stand under their heading
NEXT_INDENT = 11  # as of all printed lines of this kind
DETAILS_SHOWN = 2  # of failures with one code
ORDER = ("void", "failed", "hold", "counts", "unsupported")  # the worst first
STYLES = {"void": "bad", "failed": "bad", "hold": "warn"}


class Row(NamedTuple):
    """One device and workload at the end of a run.

    Args:
        device: its name.
        workload: its name.
        certified_mflop_s: None where there is no figure, or a void one.
        sustained_mflop_s: None where there is no figure.
        nominal_mflop_s: None where the device is not rated.
        step: of evidence; empty where there is no figure.
        effects: reason code -> effect.
        failure: the code of why there is no figure; None where there is one.
        detail: of the failure.
    """

    device: str
    workload: str
    certified_mflop_s: int | None
    sustained_mflop_s: int | None
    nominal_mflop_s: int | None
    step: str
    effects: Mapping[str, str]
    failure: str | None = None
    detail: str = ""

    @property
    def verdict(self) -> str:
        """What becomes of it, one of `ORDER`."""
        if self.failure is not None:
            return "unsupported" if self.failure == "unsupported-precision" else "failed"
        return next((effect for effect in ("void", "hold") if effect in self.effects.values()), "counts")


class CodeGroup(NamedTuple):
    """One reason code with what it does to figures, the figures, and what is known of it beyond its meaning."""

    code: str
    verdict: str
    places: tuple[tuple[str, str], ...]  # device and workload
    details: tuple[str, ...]

    @property
    def is_failure(self) -> bool:
        """Whether it says why there is no figure."""
        return self.verdict in ("failed", "unsupported")


class RunSummary(NamedTuple):
    """What the end of a run says.

    Args:
        rows: one a device and workload.
        meaning: returns what a reason code means, a sentence.
        warnings: what holds for all of it, such as that it is simulated.
        wrote: where it lies.
        further: the commands to type next.
    """

    rows: Sequence[Row]
    meaning: Callable[[str], str]
    warnings: Sequence[str]
    wrote: str
    further: Sequence[Sequence[str]]


def rows_of(record: NodeRecord, judged: Judged, nominal_of: Callable[[Figure, Workload], int | None]) -> list[Row]:
    """Return the figures and failures of a record, the void ones first, then the held ones, then those that count."""
    rows = []
    for m in record.measurements:
        for f in m.figures():
            explained = judged[f.device, str(m.workload)]
            is_void = "void" in explained.effects.values()
            certified = None if is_void else f.certified_mflop_s  # a void figure is not called certified
            nominal = nominal_of(f, m.workload)
            rows.append(
                Row(
                    f.device,
                    str(m.workload),
                    certified,
                    f.sustained_mflop_s,
                    nominal,
                    explained.step,
                    explained.effects,
                )
            )
    for failure in record.failures:
        workload = str(Workload(failure.precision, failure.choice))
        rows.append(Row(failure.device, workload, None, None, None, "", {}, failure.code, failure.detail or ""))
    places = {device.device: place for place, device in enumerate(record.devices)}
    return sorted(rows, key=lambda row: (ORDER.index(row.verdict), places.get(row.device, len(places))))


def groups_of(rows: Sequence[Row]) -> list[CodeGroup]:
    """Return the reason codes of figures, each once, in the order of `ORDER`."""
    places: dict[tuple[str, str], list[tuple[str, str]]] = {}
    details: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows:
        codes = {row.failure: row.verdict} if row.failure is not None else dict(row.effects)
        for code, effect in codes.items():
            key = code, effect if effect in ORDER else "counts"
            places.setdefault(key, []).append((row.device, row.workload))
            details.setdefault(key, {}).update({row.detail: None} if row.detail else {})
    groups = [CodeGroup(*key, tuple(where), tuple(details[key])) for key, where in places.items()]
    return sorted(groups, key=lambda group: ORDER.index(group.verdict))


def closing_lines(closing: RunSummary, width: int | None, most: int = LINES) -> list[Line]:
    """Return the end of a run as lines; meanings are left out from the least serious on where it gets too long.

    Args:
        closing: to be shown.
        width: of a terminal; None for any: then no line is wrapped and no column dropped.
        most: lines that a screen has room for.
    """
    head = figure_lines(closing.rows, width)
    end: list[Line] = [("", "")]
    for sentence in (*closing.warnings, closing.wrote):
        end += [(line, "") for line in broken(sentence, width)]
    end += [(line, "head") for line in next_lines(closing.further, width)]
    groups = groups_of(closing.rows)
    for explained in range(len(groups), -1, -1):
        middle = code_lines(groups, closing, explained, width)
        if len(head) + len(middle) + len(end) <= most:
            break
    return [*head, *middle, *end]


def broken(line: str, width: int | None) -> list[str]:
    """Return a line as what a terminal of so many cells shows of it; None: one that breaks none."""
    return [line] if width is None else wrapped(line, width)


def figure_lines(rows: Sequence[Row], width: int | None) -> list[Line]:
    """Return the table of figures."""
    scale = scale_of([rate for row in rows for rate in (row.certified_mflop_s, row.sustained_mflop_s)])

    def share(row: Row) -> str:
        if row.nominal_mflop_s is None or row.sustained_mflop_s is None:
            return UNKNOWN
        return percent_text(ratio_ppm(row.sustained_mflop_s, row.nominal_mflop_s))

    columns = [
        Column(text("run", "device"), [row.device for row in rows], 0, right=False),
        Column(text("run", "workload"), [row.workload for row in rows], 1, right=False),
        Column(
            text("run", "certified", unit=scale.unit),
            [scale.text(row.certified_mflop_s) for row in rows],
            2,
            short=scale.unit,
        ),
        Column(text("run", "sustained"), [scale.text(row.sustained_mflop_s) for row in rows], 3),
        Column(text("run", "share"), [share(row) for row in rows], 4),
        Column(text("run", "step"), [text("step", row.step) if row.step else UNKNOWN for row in rows], 5, right=False),
        Column(text("run", "verdict"), [text("figure", row.verdict) for row in rows], 0, right=False),
    ]
    heading, *lines = table(columns, width)
    return [(heading, "dim"), *((line, STYLES.get(row.verdict, "")) for line, row in zip(lines, rows, strict=True))]


def code_lines(groups: Sequence[CodeGroup], closing: RunSummary, explained: int, width: int | None) -> list[Line]:
    """Return the codes below the table, the first `explained` of them with their meaning, the rest by name."""
    lines: list[Line] = [("", "")] if groups else []
    for verdict in ORDER:
        style, heading = STYLES.get(verdict, ""), text("codes", verdict)
        meant = [group for group in groups[:explained] if group.verdict == verdict]
        named = [group for group in groups[explained:] if group.verdict == verdict]
        if meant:
            lines += [(line, style) for line in broken(heading, width)]
        for group in meant:
            details = "".join(f" ({detail})" for detail in group.details[:DETAILS_SHOWN])
            sentence = f"  {group.code} [{where_text(group, closing.rows)}]: {closing.meaning(group.code)}{details}"
            lines += [(line, "") for line in broken(sentence, width)]
        if named:
            names = ", ".join(f"{group.code} [{where_text(group, closing.rows)}]" for group in named)
            whole = f"  {names}" if meant else f"{heading}: {names}"
            lines += [(line, "" if meant else style) for line in broken(whole, width)]
    if explained < len(groups):
        lines += [(line, "dim") for line in broken(text("run", "explained-by"), width)]
    return lines


def where_text(group: CodeGroup, rows: Sequence[Row]) -> str:
    """Return the figures that a code holds for, in few words."""
    # Of a code of figures "all" means all figures, whatever else gave none.
    every = {(row.device, row.workload) for row in rows if row.failure is None or group.is_failure}
    return places_text(group.places, every)


def places_text(places: Sequence[tuple[str, str]], every: set[tuple[str, str]]) -> str:
    """Return devices and workloads in few words, such as "all", "fp16", or "cuda:0-2,5 fp64".

    Args:
        places: device and workload of each figure.
        every: all figures of the run.
    """
    if set(places) == every:
        return text("run", "all")
    by_devices: dict[tuple[str, ...], list[str]] = {}
    for workload in dict.fromkeys(workload for _, workload in places):
        devices = tuple(device for device, one in places if one == workload)
        by_devices.setdefault(devices, []).append(workload)
    all_workloads = {workload for _, workload in every}
    parts = []
    for devices, workloads in by_devices.items():
        whole = {device for device, workload in every if workload in workloads}
        names = "" if set(devices) == whole else device_names(devices)
        of = "" if names and set(workloads) == all_workloads else " ".join(workloads)
        parts.append(" ".join(filter(None, (names, of))))
    return ", ".join(parts)


def device_names(devices: Sequence[str]) -> str:
    """Return names of devices in few words: "cuda:0-2,5"; of many kinds each, and of very many the first ones."""
    kinds: dict[str, list[int]] = {}
    plain = []
    for name in devices:
        matched = re.fullmatch(r"(.+):(\d+)", name)
        if matched is None:
            plain.append(name)
        else:
            kinds.setdefault(matched[1], []).append(int(matched[2]))
    for kind, numbers in kinds.items():
        runs: list[list[int]] = []
        for number in sorted(numbers):
            if runs and number == runs[-1][1] + 1:
                runs[-1][1] = number
            else:
                runs.append([number, number])
        shown = [str(a) if a == b else f"{a}-{b}" for a, b in runs]
        further = f",... ({len(numbers)})" if len(shown) > NAMES_SHOWN else ""
        plain.append(f"{kind}:{','.join(shown[:NAMES_SHOWN])}{further}")
    return " ".join(plain)


def next_lines(commands: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Return commands to be copied whole: a shell takes a line that ends with a backslash for the beginning of one."""
    label = text("run", "next")
    is_narrow = width is not None and width < NARROW
    indent = "  " if is_narrow else " " * NEXT_INDENT
    lines = [label] if is_narrow and commands else []
    for number, command in enumerate(commands):
        line = indent if is_narrow or number else padded(label, NEXT_INDENT)
        begun = True
        for argument in _with_values([shlex.quote(argument) for argument in command]):
            if width is not None and not begun and cells(line) + cells(argument) + 3 > width:
                lines.append(f"{line} \\")
                line, begun = f"{indent}  ", True
            line += argument if begun else f" {argument}"
            begun = False
        lines.append(line)
    return lines


def _with_values(arguments: Sequence[str]) -> list[str]:
    """Return arguments of which an option and its value are one: they stay on one line."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1].startswith("--") and " " not in joined[-1]:
            joined[-1] += f" {argument}"
        else:
            joined.append(argument)
    return joined


def show(closing: RunSummary, surface: Surface) -> None:
    """Print the end of a run; on a terminal in its width, elsewhere a line each that nothing is cut from."""
    most = LINES if surface.rows is None else max(LINES, surface.rows - 1)
    for line in closing_lines(closing, surface.columns, most):
        say(painted(line, surface))
