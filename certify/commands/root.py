"""The root command line: mounts every command and is the one place that turns errors into exit statuses.

0: done and good. 1: done and the answer is no. 2: wrong input or usage. Nothing heavy is imported before a command
runs, so that ``petaseal --help`` and shell completion stay quick.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

import bench.campaign.cli
import bench.cli
from bench.errors import InputError, Interrupted, PetasealError, RefusedError, escaped
from bench.show import is_terminal, print_json, print_lines
from certify.commands import audit as audit_cli
from certify.commands import campaign as campaign_cli
from certify.commands import centre as centre_cli
from certify.commands import trust as trust_cli
from certify.commands import witness as witness_cli
from certify.commands.campaign import Engines
from certify.commands.offline import bundle as bundle_cli
from certify.commands.offline import package as package_cli
from certify.commands.registry import registry as registry_cli
from certify.commands.signing import Sealing, foresee, foresee_campaign
from certify.commands.trust import checked_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.campaign.estimate import Estimate
    from bench.launchers.base import EngineNode
    from bench.record import Device, Profile, Tool
    from certify.campaign.opening import Opened

app = typer.Typer(
    name="petaseal",
    help="Measure the sustained FP16 and FP64 throughput of a computing centre, and sign the figure.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"petaseal {version('petaseal')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Measure the sustained FP16 and FP64 throughput of a computing centre, and sign the figure."""


keys_app = typer.Typer(help="Make and show keys.", no_args_is_help=True)
centre_app = typer.Typer(help="Describe a centre and its baseline inventory.", no_args_is_help=True)
policy_app = typer.Typer(help="Show the policies that statements are judged by.", no_args_is_help=True)
bench.cli.mount(app, Sealing(), foresee)
app.add_typer(keys_app, name="keys")
app.add_typer(centre_app, name="centre")
app.add_typer(policy_app, name="policy")
campaign_app = typer.Typer(help="Measure a whole centre in one window.", no_args_is_help=True)
app.add_typer(campaign_app, name="campaign")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
PassphraseFile = Annotated[
    Path | None, typer.Option(help="File whose first line is the key's passphrase (never asked without a terminal).")
]
SignerCommand = Annotated[
    str | None, typer.Option("--signer", help="Command that signs for a key on a token; --key is then its public key.")
]


def emit(as_json: bool, value: Any, lines: list[str]) -> None:
    """Print a result: one JSON object for machines, or lines for people."""
    if as_json:
        print_json(value)
    else:
        print_lines(lines)


class counting:
    """On a terminal, how many records were done so far; nothing elsewhere.

    It appears with the first record: before, a passphrase may be asked for.
    """

    def __init__(self, what: str, quiet: bool) -> None:
        self._what = what
        self._shown = not quiet and is_terminal(sys.stderr)
        self._bar: Any = None

    def __enter__(self) -> Callable[[int], None]:
        return self._tell

    def __exit__(self, *error: object) -> None:
        if self._bar:
            self._bar.stop()

    def _tell(self, records: int) -> None:
        if not self._shown:
            return
        if self._bar is None:
            from rich.console import Console
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            text = TextColumn(f"{self._what}: {{task.completed:,}} records")
            self._bar = Progress(
                SpinnerColumn(), text, TimeElapsedColumn(), console=Console(stderr=True), transient=True
            )
            self._bar.add_task(self._what, total=None)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=records)


@app.command(epilog="Example: petaseal certify results/run1 --centre centre.yaml --key operator.pem --out statement")
def certify(
    records: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="Folder with the node records of one campaign, or of the campaign itself."),
    ],
    key: Annotated[list[Path], typer.Option(help="Operator's private key (PEM); may be repeated, and each signs.")],
    out: Annotated[Path, typer.Option(help="Folder for the statement, its records and its page.")],
    centre: Annotated[str | None, typer.Option(help="Centre file, or the name of an installed one (demo).")] = None,
    policy: Annotated[list[str] | None, typer.Option(help="Policy name or file; may be repeated.")] = None,
    campaign: Annotated[Path | None, typer.Option(help="Signed campaign; not for self-issued runs.")] = None,
    profile: Annotated[str | None, typer.Option(help="Profile file, if the run used one of its own.")] = None,
    sequence: Annotated[int, typer.Option(min=1, help="Number of this statement for the centre and project.")] = 1,
    previous: Annotated[Path | None, typer.Option(help="The statement before this one, which it supersedes.")] = None,
    valid_days: Annotated[int, typer.Option(min=1, help="Validity after the end of the measurement, days.")] = 366,
    rehearse: Annotated[
        bool,
        typer.Option("--rehearse", help="Sign nothing: show the verdicts as if the devices were real. Proves nothing."),
    ] = False,
    times: Annotated[
        int | None, typer.Option(min=1, help="With --rehearse: how many nodes each node stands for.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    signer: SignerCommand = None,
    as_json: Json = False,
) -> None:
    """Judge the records of one campaign, add them up and sign the capacity statement."""
    from bench.clock import check_clock
    from bench.record import write_atomic
    from bench.record.folder import Folder
    from certify.statement import issue

    check_clock()
    if len(set(policy or ())) != len(policy or ()):
        raise InputError("usage", "a policy is named twice", where="--policy")
    if times is not None and not rehearse:
        raise InputError("usage", "goes with --rehearse: a statement never extrapolates", where="--times")
    whole = issue.of_campaign(records, campaign, centre, profile, tuple(policy or ()))
    request = issue.Request(
        records=whole.records,
        centre=whole.centre,
        policies=whole.policies,
        campaign=whole.campaign,
        profile=whole.profile,
        sequence=sequence,
        previous=previous,
        valid_days=valid_days,
        keys=tuple(key),
        passphrase_file=passphrase_file,
        signer=signer,
        out=out,
    )
    if rehearse:
        from certify.campaign import rehearsal

        with counting("judged", as_json) as tell:
            shown = rehearsal.rehearse(request, times or 1, tell)
        emit(as_json, shown.as_json(), shown.lines())
        return
    with counting("judged", as_json) as tell:
        made = issue.certify(request, tell)
    if whole.records != records:  # a campaign's folder remembers what became of it
        write_atomic(Folder(records).submitted_file, f"{made.payload_sha256}\n".encode())
    emit(as_json, made.as_json(), [*made.lines(), issue.next_line(request, made)])


@app.command(
    epilog="Example: petaseal verify statement.dsse.json --public-key operator.pem.pub --records records.jsonl"
)
def verify(
    statement: Annotated[
        Path, typer.Argument(metavar="STATEMENT", help="statement.dsse.json, or a folder or package of its files.")
    ],
    trust: Annotated[Path | None, typer.Option(help="Signed trust root that says whose keys count.")] = None,
    public_key: Annotated[Path | None, typer.Option(help="The operator's public key, obtained out of band.")] = None,
    fingerprint: Annotated[
        str | None, typer.Option(help="The trust root's fingerprint, where no version of it was accepted before.")
    ] = None,
    revocations: Annotated[Path | None, typer.Option(help="Revocation list of the trust root.")] = None,
    witness: Annotated[list[Path] | None, typer.Option(help="Witness document; may be repeated.")] = None,
    witness_key: Annotated[
        list[Path] | None, typer.Option(help="A witness's public key, beside --public-key; may be repeated.")
    ] = None,
    receipt: Annotated[list[Path] | None, typer.Option(help="A registry's receipt; may be repeated.")] = None,
    records: Annotated[Path | None, typer.Option(help="records.jsonl, or a folder of record envelopes.")] = None,
    samples: Annotated[Path | None, typer.Option(help="Folder with the records' samples (level audited).")] = None,
    at: Annotated[str | None, typer.Option(help="Answer for this UTC time, as 2026-03-01T08:00:00.000000Z.")] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(help="Level (signature, trusted, recomputed, audited) or condition POLICY/ID; may be repeated."),
    ] = None,
    baseline: Annotated[Path | None, typer.Option(help="The signed baseline that the statement binds.")] = None,
    policy: Annotated[list[str] | None, typer.Option(help="Further policy file to recompute with.")] = None,
    profile: Annotated[list[str] | None, typer.Option(help="Further profile file to judge with.")] = None,
    ratings: Annotated[list[str] | None, typer.Option(help="Further file of ratings to judge with.")] = None,
    others: Annotated[
        list[Path] | None, typer.Option(help="Other statements, or their folders, to compare with; may be repeated.")
    ] = None,
    accept_simulated: Annotated[bool, typer.Option(help="Do not refuse a simulated statement.")] = False,
    as_json: Json = False,
) -> None:
    """Check a statement: signature, trust, records, rules, sums and verdicts."""
    import time

    from bench.record import followed
    from bench.record.files import state_dir
    from bench.units import utc_ns
    from certify.statement import package
    from certify.verify import verifier as checking

    try:
        moment = time.time_ns() if at is None else utc_ns(at)
    except ValueError as error:
        raise InputError("time-invalid", str(error), where="--at") from None
    request = checking.Request(
        statement=statement,
        trust=trust,
        public_key=public_key,
        fingerprint=None if fingerprint is None else checked_digest(fingerprint, "--fingerprint"),
        state=state_dir(),
        revocations=revocations,
        witnesses=tuple(witness or ()),
        witness_keys=tuple(witness_key or ()),
        receipts=tuple(receipt or ()),
        records=followed(records),
        samples=followed(samples),
        at_ns=moment,
        at_present=at is None,
        now_ns=time.time_ns(),
        require=tuple(require or ()),
        baseline=followed(baseline),
        policies=tuple(policy or ()),
        profiles=tuple(profile or ()),
        ratings=tuple(ratings or ()),
        accept_simulated=accept_simulated,
        others=tuple(others or ()),
    )
    with package.opened(followed(statement)) as place:
        with counting("checked", as_json) as tell:
            report = checking.verify(checking.in_folder(request, place), tell)
        shown, lines = report.as_json(), report.lines()
        emit(as_json, package.named(shown, place, statement), package.named(lines, place, statement))
        if report.refusal is not None:
            raise report.refusal
    if report.unmet:
        raise RefusedError("requirement-unmet", "; ".join(report.unmet), where=statement)


@keys_app.command("new", epilog="Example: petaseal keys new --out operator.pem")
def keys_new(
    out: Annotated[Path, typer.Option(help="Private key file to make (PEM, 0600); OUT.pub is made beside it.")],
    scheme: Annotated[str, typer.Option(help="Signature algorithm: ed25519 or sm2.")] = "ed25519",
    no_passphrase: Annotated[bool, typer.Option("--no-passphrase", help="Do not encrypt the private key.")] = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Make a key pair, Ed25519 or SM2; never overwrites one."""
    from certify.keys import files as keys
    from certify.keys.loading import read_passphrase

    if no_passphrase and passphrase_file is not None:
        raise InputError("usage", "--no-passphrase and --passphrase-file exclude each other", fix="give one of them")
    algorithm = keys.scheme_named(scheme, "--scheme")
    passphrase = None if no_passphrase else read_passphrase(passphrase_file, f"new passphrase for {out}", confirm=True)
    made = keys.new_key(out, passphrase, algorithm)
    public = f"{out}.pub"
    emit(
        as_json,
        {"private": str(out), "public": public, "keyid": made.keyid, "scheme": made.scheme},
        [f"private key {out}", f"public key  {public}", f"key id      {made.keyid}", f"scheme      {made.scheme}"],
    )


@keys_app.command("show", epilog="Example: petaseal keys show operator.pem.pub")
def keys_show(public_key: Annotated[Path, typer.Argument(help="Public key (PEM).")], as_json: Json = False) -> None:
    """Print the key id of a public key: compare it with what its owner told you."""
    from certify.keys import files as keys

    loaded = keys.load_public(public_key)
    emit(as_json, {"keyid": loaded.keyid, "scheme": loaded.scheme}, [f"{loaded.scheme} {loaded.keyid}"])


@keys_app.command("node", epilog="Example: petaseal keys node --out /shared/node-keys/node17.pub")
def keys_node(
    out: Annotated[Path, typer.Option(help="Public key file to make, named after this node (NODE.pub).")],
    as_json: Json = False,
) -> None:
    """Write the public half of this node's own key, which is made on first use: for "campaign create --node-keys"."""
    from bench.environment import machine_id
    from bench.record.files import state_dir
    from certify.keys import files as keys

    public = keys.node_key(state_dir(), machine_id()).public
    keys.write_public(out, public)
    emit(as_json, {"public": str(out), "keyid": public.keyid}, [f"public key  {out}", f"key id      {public.keyid}"])


@policy_app.command("list", epilog="Example: petaseal policy list --json")
def policy_list(as_json: Json = False) -> None:
    """List the installed policies."""
    from bench.record import config_names
    from certify.policy.policies import load_policy

    found = [load_policy(name) for name in config_names("policies")]
    emit(
        as_json,
        {"policies": [{"policy": p.policy, "title": p.title.en, "status": p.document.status} for p in found]},
        [f"{p.policy:20} {p.document.status:10} {p.title.zh} {p.title.en}" for p in found],
    )


@policy_app.command("show", epilog="Example: petaseal policy show guangzhou-2000p")
def policy_show(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="Installed policy, or a policy file.")],
    as_json: Json = False,
) -> None:
    """Print a policy: what it counts and every condition with its clause."""
    import msgspec

    from certify.policy.policies import describe, load_policy

    policy = load_policy(name)
    emit(as_json, msgspec.to_builtins(policy), describe(policy))


@app.command(epilog="Example: petaseal explain not-steady")
def explain(
    code: Annotated[str, typer.Argument(metavar="CODE", help="Reason code, as printed in brackets.")],
    as_json: Json = False,
) -> None:
    """Say what a reason code means and what it does."""
    import msgspec

    from certify.policy import reasons

    entry, mended = reasons.explain(code), reasons.mending().get(code)
    emit(
        as_json,
        {"code": code, **msgspec.to_builtins(entry), "mend": msgspec.to_builtins(mended)},
        [
            f"{code} ({entry.effect}, {entry.rule})",
            *(f"  {text}" for text in (entry.en, entry.zh)),
            *(f"  {text}" for text in (() if mended is None else (mended.en, mended.zh))),
        ],
    )


def _tool() -> Tool:
    from bench.environment import tool

    return tool()


def _discover(engine: str, partitions: Sequence[str]) -> Sequence[EngineNode]:
    from bench.launchers import load_launcher

    return load_launcher(engine).discover(partitions)


def _profile(name_or_file: str) -> Profile:
    from bench.profile import load_profile

    return load_profile(name_or_file)


def _estimate(opened: Opened) -> Estimate:
    from bench.campaign.estimate import estimate
    from bench.campaign.running import kinds_here

    kinds = kinds_here(opened.roster) if opened.roster.engine == "local" else {}
    return estimate(opened.campaign, opened.profile, opened.roster, kinds)


def _coordinate(folder: Path, quiet: bool) -> bool:
    from bench.campaign.plan import handed_over
    from bench.campaign.running import NOBODY, Open, run

    opened = Open(folder, Sealing())
    view = run(opened, handed_over(opened.folder.launched(), NOBODY), quiet)
    return view.places["done"] + view.places["void"] == view.expected


def _launch(folder: Path, on: str | None, options: Sequence[str], reservation: str | None, quiet: bool) -> bool:
    from bench.campaign.running import Open, plan_of, run

    opened = Open(folder, Sealing())
    least = dict.fromkeys((pool.pool for pool in opened.roster.pools), 0)  # in a spot check the absent count against it
    plan = plan_of(opened, on, list(options), reservation)._replace(least=least)
    view = run(opened, plan, quiet)
    return view.places["done"] + view.places["void"] == view.expected


def _machine_id() -> str:
    from bench.environment import machine_id

    return machine_id()


def _devices(wanted: str) -> list[Device]:
    from bench.devices import survey_devices

    found, _ = survey_devices(wanted)
    return [one.device for one in found]


bundle_cli.mount(app)
centre_cli.mount(centre_app, emit)
trust_cli.mount(app, emit)
witness_cli.mount(app, emit, counting, _tool)
audit_cli.mount(app, emit, counting)
package_cli.mount(app, emit)
registry_cli.mount(app, emit, _machine_id, _devices)
bench.campaign.cli.mount(campaign_app, Sealing(), foresee_campaign)
campaign_cli.mount(campaign_app, Engines(_discover, _profile, _estimate, _coordinate, _launch), emit, counting)


def main() -> NoReturn:
    """Run the command line and exit: the one place where an error becomes one sentence and an exit status."""
    codecs.register_error("escaped", lambda error: _escaped(error))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal of another encoding shows what it lacks as an escape
            stream.reconfigure(errors="escaped")
    try:
        status = app(prog_name="petaseal", standalone_mode=False)
        if status == Interrupted.exit_status:
            raise Interrupted
    except PetasealError as error:
        fail(error)
    except (KeyboardInterrupt, typer.Abort):
        fail(Interrupted())
    except OSError as error:
        discard_output()
        fail(InputError("system-error", f"the system refused it ({error.strerror or error})", where=error.filename))
    except Exception as error:
        if not hasattr(error, "format_message"):  # not a usage error of the command-line library: a defect of ours
            raise
        fail_usage(error)
    sys.exit(status if isinstance(status, int) else 0)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    shown = (escaped(c) if c.isascii() or "\ud800" <= c <= "\udfff" else ascii(c)[1:-1] for c in lacking)
    return "".join(shown), error.end


def fail_usage(error: Any) -> NoReturn:
    """Print the help of a command that was called with nothing, else one sentence on what is wrong, and exit."""
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message(), file=sys.stderr)  # noqa: T201
        sys.exit(2)
    context = getattr(error, "ctx", None)
    fix = f"see {context.command_path if context is not None else 'petaseal'} --help"
    fail(InputError("usage", error.format_message().rstrip("."), fix=fix))


def fail(error: PetasealError) -> NoReturn:
    """Print one sentence on stderr and exit."""
    if sys.stderr is not None:
        print(f"petaseal: {error}", file=sys.stderr)  # noqa: T201
    sys.exit(error.exit_status)


def discard_output() -> None:
    """Send the rest of the output nowhere, so that the interpreter does not stumble over it when it ends."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
