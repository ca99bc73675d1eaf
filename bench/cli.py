"""The commands ``devices`` and ``run``. Everything heavy is imported inside: ``petaseal --help`` must stay fast.

Errors leave as `PetasealError`; the root turns them into one sentence and an exit status. What signs and judges is
handed in as a `Sealing`: this room does not know how.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TextIO

import typer

from bench.errors import InputError, Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.devices.base import Found
    from bench.node import Event, Request
    from bench.record import Campaign, DeviceModel, NodeRecord, Precision, Profile

DeviceOption = Annotated[
    str, typer.Option("--device", help='"all", or a list like "cpu", "cuda:0,cuda:1", "fake:8" (eight scripted fakes)')
]
PrecisionOption = Annotated[str, typer.Option("--precision", help='such as "fp16,fp64" (default: the profile\'s)')]
KernelOption = Annotated[str | None, typer.Option("--kernel", help="such as gemm-torch (default: the device's)")]
ScenarioOption = Annotated[Path | None, typer.Option("--scenario", help="what fake devices do (YAML)")]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object and nothing else")]


Judged = dict[tuple[str, str], dict[str, str]]  # device, precision -> reason code -> effect


class Signer(Protocol):
    """A node's key."""

    spki_b64: str

    def seal_record(self, record: NodeRecord, samples_sha256: str) -> bytes:
        """Return the signed envelope of a record, which binds its samples."""
        ...


class Sealing(Protocol):
    """What the root hands in: trust, signatures and judgement."""

    def open_campaign(self, path: Path) -> Campaign:
        """Return a campaign from its signed file."""
        ...

    def signer(self, key_file: Path | None, passphrase_file: Path | None, state_dir: Path, machine_id: str) -> Signer:
        """Return the key that is given, else the node's own, created on first use."""
        ...

    def judge(self, record: NodeRecord, campaign: Campaign, profile: Profile) -> Judged:
        """Return what the rules make of each figure."""
        ...

    def describe(self, record: NodeRecord, judged: Judged) -> list[str]:
        """Return a judged record for people, one line of text each."""
        ...


def no_ratings(model: DeviceModel) -> dict[str, int]:
    """Return no nominal rating."""
    return {}


def mount(app: typer.Typer, sealing: Sealing, nominal: Callable[[DeviceModel], dict[str, int]] = no_ratings) -> None:
    """Add the commands of this room to the root.

    Args:
        app: the root.
        sealing: signs and judges.
        nominal: returns a model's nominal ratings by precision, MFLOP/s.
    """

    @app.command(epilog="Example: petaseal devices")
    def devices(
        device: DeviceOption = "all",
        scenario: ScenarioOption = None,
        as_json: JsonOption = False,
    ) -> None:
        """Show what is on this node, with nominal ratings."""
        from bench.devices import select_devices

        use_scenario(scenario)
        show_devices(select_devices(device), nominal, as_json)

    @app.command(epilog="Example: petaseal run --profile smoke --device cpu --out results/local")
    def run(
        out: Annotated[Path, typer.Option("--out", help="folder for the record and its samples")],
        profile: Annotated[
            str | None, typer.Option("--profile", help="smoke, standard, certification or a file (default: standard)")
        ] = None,
        device: DeviceOption = "all",
        precision: PrecisionOption = "",
        kernel: KernelOption = None,
        campaign: Annotated[Path | None, typer.Option("--campaign", help="the centre's campaign (signed file)")] = None,
        key: Annotated[Path | None, typer.Option("--key", help="key that signs (default: this node's own)")] = None,
        passphrase_file: Annotated[Path | None, typer.Option("--passphrase-file", help="of the key")] = None,
        scenario: ScenarioOption = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan and measure nothing")] = False,
        as_json: JsonOption = False,
    ) -> None:
        """Measure this node and write a signed record with its samples."""
        from bench.environment import machine_id, node_id, refuse_emulation, state_dir

        use_scenario(scenario)
        refuse_emulation(os.environ)
        given = sealing.open_campaign(campaign) if campaign else None
        found, plan, precisions = choose(device, profile, precision, given)
        check_kernel(kernel)
        if dry_run:
            show_plan(found, plan, precisions, as_json)
            return
        machine = machine_id()
        name = node_id(machine)
        record_path, samples_path = out / f"{name}.record.dsse.json", out / f"{name}.samples.csv.gz"
        check_output(out, record_path)
        signer = sealing.signer(key, passphrase_file, state_dir(), machine)
        from bench.node import Request

        request = Request(found, plan, precisions, name, signer.spki_b64, given, kernel)
        try:
            record = measure_and_write(request, signer, record_path, samples_path, as_json)
        except KeyboardInterrupt:
            raise Interrupted("interrupted; the measurement was ended and nothing was left half-written") from None
        own = given or record.campaign
        assert own is not None
        judged = sealing.judge(record, own, plan)
        show_result(record, record_path, samples_path, judged, sealing, as_json)
        if went_wrong(record, judged):
            raise typer.Exit(1)


def went_wrong(record: NodeRecord, judged: Judged) -> bool:
    """Return whether a figure is void, a device failed, or nothing was measured at all.

    That a device does not have a precision is a fact about it, not a fault.
    """
    failed = any(failure.code != "unsupported-precision" for failure in record.failures)
    return failed or not record.measurements or any("void" in effects.values() for effects in judged.values())


def use_scenario(scenario: Path | None) -> None:
    """Name the fakes' scenario in the environment, where worker processes find it too, after reading it once."""
    from bench.scenario import SCENARIO_VARIABLE, read_scenario

    if scenario is not None:
        os.environ[SCENARIO_VARIABLE] = str(scenario.absolute())
        read_scenario()


def choose(
    device: str, profile: str | None, precision: str, campaign: Campaign | None
) -> tuple[list[Found], Profile, tuple[Precision, ...]]:
    """Return devices, profile and precisions of a run; those of the campaign where there is one.

    Raises:
        InputError: one of them is unknown, or the campaign does not have it.
    """
    from bench.devices import select_devices
    from bench.profile import chosen_precisions, load_profile

    plan = load_profile(profile or (campaign.profile if campaign else "standard"))
    wanted = [name.strip() for name in precision.split(",") if name.strip()]
    if campaign is None:
        return select_devices(device), plan, chosen_precisions(plan, wanted)
    windows = [window.precision for window in campaign.windows]
    for name in wanted:
        if name not in windows:
            raise InputError("unknown-precision", f"has no window for {name!r}", where=campaign.campaign_id)
    return select_devices(device), plan, tuple(p for p in windows if not wanted or p in wanted)


def check_kernel(kernel: str | None) -> None:
    """Refuse a kernel that there is not.

    Raises:
        InputError: there is none of that name.
    """
    if kernel is not None:
        from kernels.base import kernel_names

        names = kernel_names()
        if kernel not in names:
            raise InputError("unknown-kernel", f"there is no kernel {kernel!r}", fix=f"choose from {', '.join(names)}")


def check_output(out: Path, record_path: Path) -> None:
    """Refuse an output folder that could not be written after the measurement, before it; leave nothing there.

    Raises:
        InputError: it is a file, is not writable, or holds a record of this node.
    """
    import tempfile

    fix = "choose another with --out"
    there = next(path for path in (out, *out.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise InputError("output-not-folder", "is not a folder", where=there, fix=fix)
    try:
        with tempfile.TemporaryFile(dir=there):  # tells more than permissions: a file system may be read-only or full
            pass
        with contextlib.suppress(FileNotFoundError):
            os.lstat(record_path)
            raise InputError("output-exists", "exists already", where=record_path, fix=fix)
    except OSError as error:
        raise InputError("output-not-writable", f"is not writable ({error.strerror})", where=there, fix=fix) from None


def measure_and_write(
    request: Request, signer: Signer, record_path: Path, samples_path: Path, quiet: bool
) -> NodeRecord:
    """Measure, sign, and write the samples and then the record: a record that exists has its samples."""
    import hashlib

    from bench.node import measure_node

    with progress(request, quiet) as tell:
        record, samples = measure_node(request, tell)
    envelope = signer.seal_record(record, hashlib.sha256(samples).hexdigest())
    write_record(record_path, envelope, samples_path, samples)
    return record


def write_record(record_path: Path, envelope: bytes, samples_path: Path, samples: bytes) -> None:
    """Write the samples and then the record, which Ctrl-C does not part; without the record no samples are left.

    Raises:
        InputError: one of them cannot be written.
    """
    import signal
    import threading

    from bench.record import write_atomic

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    try:
        write_atomic(samples_path, samples)
        try:
            write_atomic(record_path, envelope)
        except InputError:
            samples_path.unlink()
            raise
    finally:
        if main:
            signal.signal(signal.SIGINT, before)


class progress:
    """Live progress of all devices on a terminal; nothing elsewhere."""

    def __init__(self, request: Request, quiet: bool) -> None:
        self._names = [found.device.device for found in request.found]
        self._live: Any = None
        self._rows: dict[str, tuple[str, str, str]] = dict.fromkeys(self._names, ("", "starting", ""))
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

        if event.device is None or not self._live:
            return
        rate = "" if event.rate_mflop_s is None else rate_text(event.rate_mflop_s)
        self._rows[event.device] = (event.precision or "", event.what, rate or event.text or "")
        self._live.update(self._table())

    def _table(self) -> Any:
        from rich.table import Table

        table = Table("device", "precision", "phase", "rate", box=None)
        for name in self._names:
            table.add_row(name, *self._rows[name])
        return table


def show_devices(found: Sequence[Found], nominal: Callable[[DeviceModel], dict[str, int]], as_json: bool) -> None:
    """Print devices with their identity and nominal ratings."""
    from bench.units import rate_text

    if as_json:
        from msgspec import to_builtins

        rows = [
            to_builtins(f.device) | {"model": to_builtins(f.model), "nominal_mflop_s": nominal(f.model)} for f in found
        ]
        print_json({"devices": rows})
        return
    for f in found:
        rated = ", ".join(f"{p} {rate_text(rate)}" for p, rate in sorted(nominal(f.model).items()))
        memory = "" if f.model.memory_bytes is None else f", {f.model.memory_bytes / 1e9:.0f} GB"
        units = "" if f.model.units is None else f", {f.model.units} units"
        simulated = " (simulated)" if f.model.simulated else ""
        lines = [
            f"{f.device.device:9} {f.model.vendor} {f.model.model}{simulated}{memory}{units}",
            f"          nominal: {rated or 'no rating'}",
            f"          uuid: {f.device.uuid or 'none'}",
        ]
        print_lines(lines)


def show_plan(found: Sequence[Found], plan: Profile, precisions: Sequence[Precision], as_json: bool) -> None:
    """Print what would be measured, and for how long."""
    from bench.profile import counted_ns
    from bench.schedule import LEAD_NS

    each_ns = plan.warmup_ns + plan.window_ns + plan.guard_ns + LEAD_NS
    names = [f.device.device for f in found]
    shapes = {p: [f"{s.m}x{s.n}x{s.k}" for s in plan.shapes[p]] for p in precisions}
    if as_json:
        print_json(
            {
                "devices": names,
                "profile": plan.profile,
                "grade": plan.grade,
                "precisions": list(precisions),
                "shapes": shapes,
                "warmup_ns": plan.warmup_ns,
                "window_ns": plan.window_ns,
                "counted_at_least_ns": counted_ns(plan),
                "duration_ns": each_ns * len(precisions),
            }
        )
        return
    typer.echo(f"devices    {', '.join(names)}, all at once")
    typer.echo(f"profile    {plan.profile} (grade {plan.grade} at best)")
    for name in precisions:
        typer.echo(f"{name:<10} the largest that fits and is fast enough of {', '.join(shapes[name])}")
    typer.echo(f"windows    {plan.warmup_ns / 1e9:g} s warm-up and {plan.window_ns / 1e9:g} s measured, each precision")
    typer.echo(f"duration   about {each_ns * len(precisions) / 1e9:.0f} s, and the preparation of operands before")


def show_result(
    record: NodeRecord, record_path: Path, samples_path: Path, judged: Judged, sealing: Sealing, as_json: bool
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
                        "sustained_mflop_s": f.sustained_mflop_s,
                        "certified_mflop_s": f.certified_mflop_s,
                        "upper_mflop_s": f.upper_mflop_s,
                        "codes": judged[f.device, m.precision],
                    }
                    for m in record.measurements
                    for f in m.figures()
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
