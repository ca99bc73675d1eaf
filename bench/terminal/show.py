"""What commands print: lines for people, one JSON object for machines."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from bench.terminal.screen import discard_output, encodable, terminal_width
from bench.terminal.screen import is_terminal as is_terminal
from bench.terminal.summary import wrapped
from bench.units import efficiency, full_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.devices.base import LocalDevice
    from bench.errors import PetasealError
    from bench.output import NodeFiles
    from bench.record import Campaign, Device, DeviceModel, NodeRecord, Profile, Workload
    from bench.record.judged import DeviceOutlook, Judged

CLOSED_PIPE = 141  # exit status: 128 + SIGPIPE, as other tools end


def show_devices(
    usable: Sequence[LocalDevice],
    problems: Sequence[PetasealError],
    outlook: Callable[[DeviceModel, Device], DeviceOutlook],
    as_json: bool,
) -> None:
    """Print devices with their identity and what their figures can expect, and those that cannot be used."""
    if as_json:
        print_json(devices_json(usable, problems, outlook))
        return
    unusable = [device for problem in problems for device in unusable_of(problem)]
    alike: dict[tuple[str, ...], list[str]] = {}  # what can be expected of a model -> the devices that it holds for
    for f in (*usable, *unusable):
        name, expected = f.device.device if f in usable else "(unusable)", outlook(f.model, f.device)
        print_lines(device_lines(f, name, expected))
        alike.setdefault((model_text(f.model), *expected.lines), []).append(name)
    for (model, *lines), names in alike.items():
        print_lines(["", f"before a measurement, {model}: {', '.join(names)}", *lines])
    for problem in problems:
        say(f"cannot be used: {problem}", aside=True)


def devices_json(
    usable: Sequence[LocalDevice],
    problems: Sequence[PetasealError],
    outlook: Callable[[DeviceModel, Device], DeviceOutlook],
) -> dict[str, Any]:
    """Return the JSON value of ``petaseal devices --json`` (docs/devices.md)."""
    from msgspec import to_builtins

    from bench.devices.base import UnknownAcceleratorError

    def row(f: LocalDevice) -> dict[str, Any]:
        expected = outlook(f.model, f.device)
        return {
            **to_builtins(f.device),
            "model": to_builtins(f.model),
            "nominal_mflop_s": dict(expected.nominal_mflop_s),
            "source": f.model.source,
            "source_version": f.model.source_version,
            "skipped": list(f.skipped),
            "exposed": list(expected.exposed),
            "expected": dict(expected.as_json),
        }

    unknown = [one for problem in problems if isinstance(problem, UnknownAcceleratorError) for one in problem.functions]
    return {
        "devices": [row(f) for f in usable],
        "problems": [{"code": p.code, "text": str(p), "devices": [row(f) for f in unusable_of(p)]} for p in problems],
        "unknown_accelerators": [{**one._asdict(), "vendor": one.vendor} for one in unknown],
    }


def unusable_of(problem: PetasealError) -> Sequence[LocalDevice]:
    """Return the devices that a problem is of, as far as they said what they are."""
    from bench.devices.base import UnusableError

    return problem.devices if isinstance(problem, UnusableError) else ()


def say_faulty(devices: Sequence[LocalDevice]) -> list[LocalDevice]:
    """Say which devices are lost or broken, and return the others, which are measured."""
    from bench.devices.base import Faulty, sound

    for one in devices:
        if isinstance(one, Faulty):
            say(f"{one.device.device} is not measured: {one.what} [{one.code}]", aside=True)
    return sound(devices)


def model_text(model: DeviceModel) -> str:
    """Return what a device is called, and what counts as one."""
    counts = "" if model.count_unit in ("card", "package") else f", a {model.count_unit}"
    return f"{full_name(model.vendor, model.model)}{counts}{' (simulated)' if model.simulated else ''}"


def device_lines(f: LocalDevice, name: str, expected: DeviceOutlook) -> list[str]:
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


def source_texts(f: LocalDevice, exposed: Sequence[str]) -> list[str]:
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
    devices: Sequence[LocalDevice],
    plan: Profile,
    campaign: Campaign,
    workloads: Sequence[Workload],
    outlook: Callable[[DeviceModel, Device], DeviceOutlook],
    as_json: bool,
) -> None:
    """Print what would be measured, and what that would take."""
    from msgspec import to_builtins

    from bench.campaign.estimate import Load, estimate_of
    from bench.devices import select_devices
    from bench.profile import counted_ns

    names = [f.device.device for f in devices]
    kinds = sorted({name.partition(":")[0] for name in names})
    shapes = {str(w): [f"{s.m}x{s.n}x{s.k}" for s in plan.registered(w)] for w in workloads}
    references = {str(w): sorted({c for kind in kinds for c in plan.references_of(kind, w)}) for w in workloads}
    # The power of all is a guess as soon as that of one is not known.
    rated = [outlook(f.model, f.device).tdp_mw for f in devices]
    power = None if None in rated else sum(filter(None, rated)) // len(rated)
    windows = tuple(window for window in campaign.windows if window.workload in workloads)
    # The check on the host takes its cores, also where an accelerator is measured.
    (host,) = select_devices("cpu")
    # Simulated devices compute next to nothing: the host's cores would say nothing of the time.
    cores = None if any(f.model.simulated for f in devices) else host.model.units
    taken = estimate_of(campaign, plan, [Load(1, len(devices), power, windows, cores)])
    if as_json:
        print_json(
            {
                "devices": names,
                "profile": plan.profile,
                "grade": plan.grade,
                "precisions": list(dict.fromkeys(workload.precision for workload in workloads)),
                "workloads": [str(workload) for workload in workloads],
                "shapes": shapes,
                "companions": references,
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
        rule = "fastest in short trials" if workload.choice == "tuned" else "largest that fits and is fast enough"
        lines.append(f"{workload!s:<10} the {rule} of {', '.join(shapes[str(workload)])}")
        if references[str(workload)]:
            each = f"{plan.companion_ns / 1e9:g} s each"
            lines.append(f"{'':<10} and beside it, {each}: {', '.join(references[str(workload)])}")
    print_lines(
        [
            *lines,
            f"windows    {plan.warmup_ns / 1e9:g} s warm-up and {plan.window_ns / 1e9:g} s measured, each of these",
            *taken.lines("no rating gives the power of each of these devices"),
        ]
    )


def result_json(record: NodeRecord, files: NodeFiles, judged: Judged) -> dict[str, Any]:
    """Return the JSON value of ``petaseal run --json``.

    Args:
        record: what was measured.
        files: where it was written.
        judged: what the rules make of each figure.
    """
    from msgspec import to_builtins

    return {
        "node_id": record.node_id,
        "record": str(files.record),
        "samples": str(files.samples),
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


def say(text: str, *, aside: bool = False) -> None:
    """Print text at once; `aside`: on standard error. A stream that was closed at the start takes nothing.

    Raises:
        SystemExit: who reads standard output has seen enough, as in ``petaseal verify ... | head -1``.
    """
    stream = sys.stderr if aside else sys.stdout
    if stream is None:
        return
    try:
        stream.write(f"{text}\n")
        stream.flush()  # who follows a launch through a pipe reads each line when it is said
    except BrokenPipeError:
        if aside:
            raise
        # No fault, and no answer either: the command-line library would make it 1, which is an answer.
        discard_output()
        sys.exit(CLOSED_PIPE)


def print_lines(lines: Sequence[str]) -> None:
    """Print lines as they are; on a terminal those that are too long are broken, and what follows is indented."""
    # A pipe or a file takes lines as they are: a script must not meet one that was broken in two.
    if not is_terminal(sys.stdout):
        say("\n".join(lines))
        return
    for line in lines:
        say("\n".join(wrapped(encodable(line), terminal_width())))


def print_json(value: object) -> None:
    """Print one JSON object on standard output, in ASCII: it is the same under every locale."""
    import json

    say(json.dumps(value, sort_keys=True))
