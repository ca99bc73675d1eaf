"""What the commands ``devices`` and ``run`` print: for people lines and a live table, for machines one JSON object."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import typer

from bench.units import efficiency, full_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.devices.base import Found
    from bench.engine.node import Event, Request
    from bench.errors import PetasealError
    from bench.record import Campaign, Device, DeviceModel, NodeRecord, Profile, Workload
    from bench.record.judged import Judged, Outlook


class Describes(Protocol):
    """Says a judged record for people."""

    def describe(self, record: NodeRecord, judged: Judged) -> list[str]:
        """Return a judged record, one line of text each."""
        ...


class progress:
    """Live progress of all devices on a terminal; nothing elsewhere."""

    def __init__(self, request: Request, quiet: bool) -> None:
        self._names = [found.device.device for found in request.found]
        self._live: Any = None
        self._rows: dict[str, tuple[str, str, str]] = dict.fromkeys(self._names, ("", "starting", ""))
        self._quiet = quiet
        self._shown = not quiet and is_terminal(sys.stderr)

    def __enter__(self) -> Callable[[Event], None]:
        if self._shown:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(self._table(), console=Console(stderr=True), refresh_per_second=4, transient=True)
            self._live.start()
        return self._tell

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()

    def _tell(self, event: Event) -> None:
        from bench.units import rate_text

        if event.what == "remark" and not self._quiet:
            typer.echo(" ".join(filter(None, (event.device, event.text))), err=True)
        if event.device is None or event.what == "remark" or not self._live:
            return
        rate = "" if event.rate_mflop_s is None else rate_text(event.rate_mflop_s)
        self._rows[event.device] = (event.workload or "", event.what, rate or event.text or "")
        self._live.update(self._table())

    def _table(self) -> Any:
        from rich.table import Table

        table = Table("device", "workload", "phase", "rate", box=None)
        for name in self._names:
            table.add_row(name, *self._rows[name])
        return table


def show_devices(
    found: Sequence[Found],
    problems: Sequence[PetasealError],
    outlook: Callable[[DeviceModel, Device], Outlook],
    as_json: bool,
) -> None:
    """Print devices with their identity and what their figures can expect, and those that cannot be used."""
    unusable = [f for problem in problems for f in getattr(problem, "found", ())]
    expected = {id(f): outlook(f.model, f.device) for f in (*found, *unusable)}
    if as_json:
        from msgspec import to_builtins

        def row(f: Found) -> dict[str, Any]:
            own = expected[id(f)]
            described = {"model": to_builtins(f.model), "nominal_mflop_s": dict(own.nominal_mflop_s)}
            source = {"source": f.model.source, "source_version": f.model.source_version, "skipped": list(f.skipped)}
            return {
                **to_builtins(f.device),
                **described,
                **source,
                "exposed": list(own.exposed),
                "expected": own.as_json(),
            }

        told = [
            {"code": p.code, "text": str(p), "devices": [row(f) for f in getattr(p, "found", ())]} for p in problems
        ]
        functions = [one for problem in problems for one in getattr(problem, "functions", ())]
        unknown = [{**one._asdict(), "vendor": one.vendor} for one in functions]
        print_json({"devices": [row(f) for f in found], "problems": told, "unknown_accelerators": unknown})
        return
    alike: dict[tuple[str, ...], list[str]] = {}  # what can be expected of a model -> the devices that it holds for
    for f in (*found, *unusable):
        name = f.device.device if f in found else "(unusable)"
        print_lines(device_lines(f, name, expected[id(f)]))
        alike.setdefault((model_text(f.model), *expected[id(f)].lines()), []).append(name)
    for (model, *lines), names in alike.items():
        print_lines(["", f"before a measurement, {model}: {', '.join(names)}", *lines])
    for problem in problems:
        typer.echo(f"cannot be used: {problem}", err=True)


def say_faulty(found: Sequence[Found]) -> list[Found]:
    """Say which devices are lost or broken, and return the others, which are measured."""
    from bench.devices.base import Faulty, sound

    for one in found:
        if isinstance(one, Faulty):
            typer.echo(f"{one.device.device} is not measured: {one.what} [{one.code}]", err=True)
    return sound(found)


def model_text(model: DeviceModel) -> str:
    """Return what a device is called, and what counts as one."""
    counts = "" if model.count_unit in ("card", "package") else f", a {model.count_unit}"
    return f"{full_name(model.vendor, model.model)}{counts}{' (simulated)' if model.simulated else ''}"


def device_lines(f: Found, name: str, expected: Outlook) -> list[str]:
    """Return one device with its identity and nominal ratings."""
    from bench.units import rate_text

    rated = ", ".join(f"{p} {rate_text(rate)}" for p, rate in sorted(expected.nominal_mflop_s.items()))
    memory = "" if f.model.memory_bytes is None else f", {f.model.memory_bytes / 1e9:.0f} GB"
    units = "" if f.model.units is None else f", {f.model.units} units"
    identity = {
        field: value
        for source in (f.device, f.model)
        for field in f.model.obtained
        if field not in ("vendor", "model") and (value := getattr(source, field, None)) is not None
    }
    lines = [
        f"{name:9} {model_text(f.model)}{memory}{units}",
        f"          nominal: {rated or 'no rating'}",
        *(f"          {field}: {value} ({f.model.obtained[field]})" for field, value in identity.items()),
    ]
    if settings := settings_text(f.model):
        lines.append(f"          set to: {settings}")
    if not any(getattr(f.device, field) for field in ("uuid", "serial", "die_id")):
        lines.append("          no stable identity: a figure of it would count 0")
    if f.model.source is not None:
        lines += [f"          {text}" for text in source_texts(f, expected.exposed)]
    return lines


def source_texts(f: Found, exposed: Sequence[str]) -> list[str]:
    """Return what a device is read through, why not through what comes before it, and what that exposes.

    Args:
        f: the device.
        exposed: what its source exposes, by the verifier's table.
    """
    version = f" {f.model.source_version}" if f.model.source_version else ""
    file = f" ({f.model.library}, sha256 {(f.model.library_sha256 or '?')[:16]})" if f.model.library else ""
    driver = f", driver {f.model.driver}" if f.model.driver else ""
    return [
        f"read through {f.model.source}{version}{file}{driver}",
        f"exposed: {', '.join(exposed) or 'nothing'}",
        *(f"not through {reason}" for reason in f.skipped),
    ]


def settings_text(model: DeviceModel) -> str:
    """Return how a device is set: limits below what it could have, and modes with what waits for a reset."""
    limit, default = model.power_limit_mw, model.power_limit_default_mw
    parts = []
    if limit is not None:
        below = "" if default in (None, limit) else f" (by default {(default or 0) / 1000:g} W)"
        parts.append(f"power limit {limit / 1000:g} W{below}")
    if model.locked_clock_mhz is not None and model.locked_clock_mhz != model.max_clock_mhz:
        parts.append(f"clock of applications {model.locked_clock_mhz} MHz")
    for name, mode in model.modes.items():
        if not name.endswith("-pending"):
            pending = model.modes.get(f"{name}-pending")
            parts.append(f"{name} {mode}" + ("" if pending is None else f" ({pending} after a reset)"))
    return ", ".join(parts)


def show_plan(
    found: Sequence[Found],
    plan: Profile,
    campaign: Campaign,
    workloads: Sequence[Workload],
    outlook: Callable[[DeviceModel, Device], Outlook],
    as_json: bool,
) -> None:
    """Print what would be measured, and what that would take."""
    from msgspec import to_builtins

    from bench.campaign.estimate import Load, estimate_of
    from bench.devices import select_devices
    from bench.profile import counted_ns

    names = [f.device.device for f in found]
    kinds = sorted({name.partition(":")[0] for name in names})
    shapes = {str(w): [f"{s.m}x{s.n}x{s.k}" for s in plan.registered(w)] for w in workloads}
    beside = {str(w): sorted({c for kind in kinds for c in plan.companions_of(kind, w)}) for w in workloads}
    rated = [outlook(f.model, f.device).tdp_mw for f in found]
    power = None if None in rated else sum(filter(None, rated)) // len(rated)
    windows = tuple(window for window in campaign.windows if window.workload in workloads)
    (host,) = select_devices("cpu")
    cores = None if any(f.model.simulated for f in found) else host.model.units
    taken = estimate_of(campaign, plan, [Load(1, len(found), power, windows, cores)])
    if as_json:
        print_json(
            {
                "devices": names,
                "profile": plan.profile,
                "grade": plan.grade,
                "precisions": list(dict.fromkeys(workload.precision for workload in workloads)),
                "workloads": [str(workload) for workload in workloads],
                "shapes": shapes,
                "companions": beside,
                "warmup_ns": plan.warmup_ns,
                "window_ns": plan.window_ns,
                "counted_at_least_ns": counted_ns(plan),
                "duration_ns": taken.duration_ns,
                "estimate": to_builtins(taken),
            }
        )
        return
    lines = [f"devices    {', '.join(names)}, all at once", f"profile    {plan.profile} (grade {plan.grade} at best)"]
    for workload in workloads:
        rule = "largest that fits and is fast enough" if workload.choice == "fixed" else "fastest in short trials"
        lines.append(f"{workload!s:<10} the {rule} of {', '.join(shapes[str(workload)])}")
        if beside[str(workload)]:
            each = f"{plan.companion_ns / 1e9:g} s each"
            lines.append(f"{'':<10} and beside it, {each}: {', '.join(beside[str(workload)])}")
    print_lines(
        [
            *lines,
            f"windows    {plan.warmup_ns / 1e9:g} s warm-up and {plan.window_ns / 1e9:g} s measured, each of these",
            *taken.lines("no rating gives the power of each of these devices"),
        ]
    )


def show_result(
    record: NodeRecord, record_path: Path, samples_path: Path, judged: Judged, sealing: Describes, as_json: bool
) -> None:
    """Print what was measured and where it lies."""
    if as_json:
        from msgspec import to_builtins

        print_json(
            {
                "node_id": record.node_id,
                "record": str(record_path),
                "samples": str(samples_path),
                "simulated": any(model.simulated for model in record.models),
                "figures": [
                    {
                        "device": f.device,
                        "precision": m.precision,
                        "choice": m.choice,
                        "shape": [m.m, m.n, m.k],
                        "sustained_mflop_s": f.sustained_mflop_s,
                        "certified_mflop_s": f.certified_mflop_s,
                        "upper_mflop_s": f.upper_mflop_s,
                        "other_load_ppm": m.other_load_ppm,
                        "steal_ppm": m.steal_ppm,
                        "mflop_s_per_w": efficiency(f.sustained_mflop_s, f.power_mean_mw),
                        **judged[f.device, str(m.workload)].as_json(),
                    }
                    for m in record.measurements
                    for f in m.figures()
                ],
                "companions": [
                    {"kernel": c.kernel, "role": c.role, "precision": c.precision, **f._asdict()}
                    for c in record.companions
                    for f in c.figures()
                ],
                "failures": to_builtins(record.failures),
            }
        )
        return
    print_lines([*sealing.describe(record, judged), f"wrote {record_path} and {samples_path.name}"])


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a person reads or writes there; a stream that was closed at the start is None."""
    return stream is not None and stream.isatty()


def print_lines(lines: Sequence[str]) -> None:
    """Print lines as they are; on a terminal those that are too long are broken, and what follows is indented."""
    if not is_terminal(sys.stdout):
        typer.echo("\n".join(lines))
        return
    from rich.cells import cell_len
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip()))
        rest = line
        if cell_len(line) > console.width:
            hanging = indent + "    "
            first, *more = Text(line.lstrip()).wrap(console, console.width - len(hanging))
            rest = "\n".join([indent + first.plain.rstrip(), *(hanging + part.plain.rstrip() for part in more)])
        typer.echo(rest)


def print_json(value: object) -> None:
    """Print one JSON object on standard output, in ASCII: it is the same under every locale."""
    import json

    typer.echo(json.dumps(value, sort_keys=True))
