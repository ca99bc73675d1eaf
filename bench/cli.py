"""The commands ``devices`` and ``run``. Everything heavy is imported inside: ``petaseal --help`` must stay fast.

Errors leave as `PetasealError`; the root turns them into one sentence and an exit status. What signs and judges is
handed in as a `Sealing`: this room does not know how.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, Protocol

import typer

from bench.errors import InputError, Interrupted
from bench.show import progress, say_faulty, show_devices, show_plan, show_result

if TYPE_CHECKING:
    from bench.devices import Survey
    from bench.devices.base import Found
    from bench.engine.node import Request, Start
    from bench.output import Reserved
    from bench.record import Campaign, Device, DeviceModel, NodeRecord, Profile, Workload
    from bench.record.judged import Judged, Outlook

DeviceOption = Annotated[
    str, typer.Option("--device", help='"all", or a list like "cpu", "cuda:0,cuda:1", "fake:8" (eight scripted fakes)')
]
PrecisionOption = Annotated[
    str, typer.Option("--precision", help='such as "fp16,fp64-tuned" (default: what the profile measures in the class)')
]
ClassOption = Annotated[
    str | None,
    typer.Option("--class", help="of the pool that it is for (default: supercomputing for CPUs, else intelligent)"),
]
AlsoOption = Annotated[str, typer.Option("--also", help='measured besides, such as "fp64,fp16-tuned"')]
KernelOption = Annotated[str | None, typer.Option("--kernel", help="such as gemm-torch (default: the device's)")]
ScenarioOption = Annotated[Path | None, typer.Option("--scenario", help="what fake devices do (YAML)")]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object and nothing else")]
RatingsOption = Annotated[Path | None, typer.Option("--ratings", help="file of ratings in place of the installed ones")]


class Signer(Protocol):
    """A node's key."""

    spki_b64: str

    def seal_record(self, record: NodeRecord, samples_sha256: str) -> bytes:
        """Return the signed envelope of a record, which binds its samples."""
        ...


class Sealing(Protocol):
    """What the root hands in: trust, signatures and judgement."""

    def open_campaign(self, path: Path, *, shared: bool = False) -> Campaign:
        """Return a campaign from its signed file; `shared`: in a folder that others write to."""
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


# From policies and a file of ratings: what the figures of a device on this node can expect.
Foresee = Callable[[Sequence[str], Path | None], Callable[["DeviceModel", "Device"], "Outlook"]]


def mount(app: typer.Typer, sealing: Sealing, foresee: Foresee) -> None:
    """Add the commands of this room to the root.

    Args:
        app: the root.
        sealing: signs and judges.
        foresee: says what a device's figures can expect.
    """

    @app.command(epilog="Example: petaseal devices")
    def devices(
        device: DeviceOption = "all",
        scenario: ScenarioOption = None,
        policy: Annotated[
            list[str] | None,
            typer.Option("--policy", help="policy name or file; may be repeated (default: every installed one)"),
        ] = None,
        ratings: RatingsOption = None,
        watch: Annotated[
            bool, typer.Option("--watch", help="show power, temperature, clock ... once a second, until Ctrl-C")
        ] = False,
        as_json: JsonOption = False,
    ) -> None:
        """Show what is on this node, what would bound its figures, and whether these can count."""
        from bench.devices import survey_devices
        from bench.record.identities import collisions

        use_scenario(scenario)
        outlook = foresee(policy or (), ratings)
        found, unusable = survey_devices(device)
        if watch:
            from bench.watch import watch_devices

            for problem in unusable:
                typer.echo(f"cannot be used: {problem}", err=True)
            watch_devices(found, as_json)
            return
        problems = [*unusable, *collisions([one.device for one in found])]
        show_devices(found, problems, outlook, as_json)
        if problems:
            raise typer.Exit(1)

    @app.command(epilog="Example: petaseal run --profile smoke --device cpu --out results/local")
    def run(
        out: Annotated[Path, typer.Option("--out", help="folder for the record and its samples")],
        profile: Annotated[
            str | None, typer.Option("--profile", help="smoke, standard, certification or a file (default: standard)")
        ] = None,
        device: DeviceOption = "all",
        precision: PrecisionOption = "",
        pool_class: ClassOption = None,
        also: AlsoOption = "",
        kernel: KernelOption = None,
        campaign: Annotated[Path | None, typer.Option("--campaign", help="the centre's campaign (signed file)")] = None,
        node: Annotated[str | None, typer.Option("--node", help="the campaign's name of this node")] = None,
        start: Annotated[
            str | None, typer.Option("--start", help="the campaign's agreed start, UTC (default: its earliest)")
        ] = None,
        key: Annotated[Path | None, typer.Option("--key", help="key that signs (default: this node's own)")] = None,
        passphrase_file: Annotated[Path | None, typer.Option("--passphrase-file", help="of the key")] = None,
        scenario: ScenarioOption = None,
        replace_identities: Annotated[
            bool,
            typer.Option("--replace-identities", help="make up uuids, serials and addresses: to publish; counts 0"),
        ] = False,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="print the plan, its time and energy, and measure nothing")
        ] = False,
        as_json: JsonOption = False,
    ) -> None:
        """Measure this node and write a signed record with its samples."""
        from bench.clock import check_clock
        from bench.devices import Survey, faulty_neighbours
        from bench.engine.fit import refuse_unfit
        from bench.environment import machine_id, node_id, refuse_emulation
        from bench.output import Place, reserved
        from bench.record.files import state_dir

        use_scenario(scenario)
        unset = refuse_emulation(os.environ)
        given = sealing.open_campaign(campaign) if campaign else None
        agreed = start_of(given, node, start)
        if replace_identities and given is not None:
            raise InputError("usage", "--replace-identities is for a record of its own", fix="leave --campaign out")
        survey = Survey()
        wanted = Wanted(names(precision), pool_class, names(also))
        found, plan, workloads = choose(device, profile, wanted, given, survey)
        check_kernel(kernel)
        sound = say_faulty([*found, *faulty_neighbours(device, found, survey)])
        if dry_run:
            refuse_unfit(sound, plan, workloads)
            show_plan(sound, plan, given or alone(plan, workloads), workloads, foresee((), None), as_json)
            return
        check_clock()
        machine = machine_id()
        name = node or node_id(machine)
        place = Place(out, name)
        try:
            with reserved(place) as kept:
                signer = sealing.signer(key, passphrase_file, state_dir(), machine)
                from bench.engine.node import Request

                spki_b64 = signer.spki_b64
                request = Request(
                    *(found, plan, workloads, name, spki_b64, given, agreed, kernel),
                    replace_identities=replace_identities,
                    unset=unset,
                )
                record = measure_and_write(request, signer, kept, as_json)
        except KeyboardInterrupt:
            raise Interrupted("interrupted; the measurement was ended and nothing was left half-written") from None
        own = given or record.campaign
        assert own is not None
        judged = sealing.judge(record, own, plan)
        show_result(record, place.record, place.samples, judged, sealing, as_json)
        if went_wrong(record, judged):
            raise typer.Exit(1)


def start_of(campaign: Campaign | None, node: str | None, start: str | None) -> Start | None:
    """Return when a campaign's nodes start, as far as it was agreed by hand; None without a campaign.

    Raises:
        InputError: there is no campaign to name a node or a start of, or the time is not of the form.
    """
    from bench.engine.node import FixedStart
    from bench.units import utc_ns

    if campaign is None:
        if node is not None or start is not None:
            raise InputError("usage", "--node and --start are those of a campaign", fix="give it with --campaign")
        return None
    try:
        return FixedStart(utc_ns(start or campaign.starts_from))
    except ValueError as error:
        raise InputError("time-invalid", str(error), where="--start") from None


def went_wrong(record: NodeRecord, judged: Judged) -> bool:
    """Return whether a figure is void, a device failed, or nothing was measured at all.

    That a device does not have a precision is a fact about it, not a fault.
    """
    failed = any(failure.code != "unsupported-precision" for failure in record.failures)
    return failed or not record.measurements or any("void" in one.effects.values() for one in judged.values())


def use_scenario(scenario: Path | None) -> None:
    """Name the fakes' scenario in the environment, where worker processes find it too, after reading it once."""
    from bench.scenario import SCENARIO_VARIABLE, read_scenario

    if scenario is not None:
        os.environ[SCENARIO_VARIABLE] = _lasting(scenario)
        read_scenario()


def _lasting(file: Path) -> str:
    """Return a name under which worker processes find a file too: a pipe gives its content once, and to this one."""
    from bench.record.configs import YAML_MAX_BYTES
    from bench.record.reading import read_given

    if not file.is_fifo():
        return str(file.absolute())
    copy = os.memfd_create(file.name)
    os.write(copy, read_given(file, YAML_MAX_BYTES))
    return f"/proc/{os.getpid()}/fd/{copy}"


class Wanted(NamedTuple):
    """What a run was asked to measure; () and None: what its profile says of the class of its devices."""

    precisions: Sequence[str]
    pool_class: str | None
    also: Sequence[str]


def names(text: str) -> list[str]:
    """Return the names in a list like "fp16,fp64"."""
    return [name.strip() for name in text.split(",") if name.strip()]


def choose(
    device: str, profile: str | None, wanted: Wanted, campaign: Campaign | None, survey: Survey | None = None
) -> tuple[list[Found], Profile, tuple[Workload, ...]]:
    """Return devices, profile and workloads of a run; in a campaign those that it has windows for.

    Raises:
        InputError: one of them is unknown, or the campaign does not have it.
    """
    from bench.devices import select_devices
    from bench.profile import chosen_workloads, load_profile

    plan = load_profile(profile or (campaign.profile if campaign else "standard"))
    if campaign is None:
        found = select_devices(device, survey)
        usual = "supercomputing" if all(one.model.kind == "cpu" for one in found) else "intelligent"
        return found, plan, chosen_workloads(plan, wanted.pool_class or usual, wanted.precisions, wanted.also)
    if wanted.pool_class is not None or wanted.also:
        what = "--class and --also are for a node on its own: the campaign says what each pool measures"
        raise InputError("usage", what, where=campaign.campaign_id)
    windows = {str(window.workload): window.workload for window in campaign.windows}
    for name in wanted.precisions:
        if name not in windows:
            raise InputError("unknown-precision", f"has no window for {name!r}", where=campaign.campaign_id)
    return (
        select_devices(device, survey),
        plan,
        tuple(windows[name] for name in windows if name in (wanted.precisions or windows)),
    )


def alone(plan: Profile, workloads: Sequence[Workload]) -> Campaign:
    """Return the campaign that a node would issue for itself, as far as its times matter."""
    from bench.engine.schedule import self_issued

    return self_issued(plan, workloads, "node", "0" * 32, 0)


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


def measure_and_write(request: Request, signer: Signer, kept: Reserved, quiet: bool) -> NodeRecord:
    """Measure, sign, and write the samples and then the record: a record that exists has its samples."""
    import hashlib

    from bench.engine.node import measure_node

    with progress(request, quiet) as tell:
        record, samples = measure_node(request, tell)
    envelope = signer.seal_record(record, hashlib.sha256(samples).hexdigest())
    kept.write_or_rescue(envelope, samples)
    return record
