"""``petaseal registry``: the commands of who talks to a registry. For who runs one: `registry_admin`.

Everything of the registry is imported inside the commands: it needs the extra ``petaseal[registry]``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.errors import InputError, PetasealError, RefusedError
from certify.commands.registry import registry_admin as registry_admin_cli
from certify.commands.registry.registry_admin import libraries

if TYPE_CHECKING:
    from bench.record import Device
    from certify.registry.client.client import Registry
    from certify.registry.client.push import Sent

Emit = Callable[[bool, Any, list[str]], None]
Devices = Callable[[str], Sequence["Device"]]  # what --device names -> those of this node

TOKEN_VARIABLE = "PETASEAL_TOKEN"  # noqa: S105 (names the variable)
TOKEN_BYTES = 4096

Url = Annotated[str, typer.Option(help="The registry, such as https://registry.example.")]
TokenFile = Annotated[
    Path | None, typer.Option(help=f"File whose first line is a token (default: the variable {TOKEN_VARIABLE}).")
]
Ca = Annotated[Path | None, typer.Option(help="PEM file of the only authorities that may vouch for the registry.")]
Timeout = Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds to wait for a connection or an answer.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]


def mount(app: typer.Typer, emit: Emit, machine_id: Callable[[], str], devices: Devices) -> None:
    """Add ``petaseal registry``.

    Args:
        app: the root.
        emit: prints a result for machines or for people.
        machine_id: returns this machine's id, which its node key is named after.
        devices: lists this node's devices.
    """
    registry = typer.Typer(help="Run a registry of statements, or talk to one.", no_args_is_help=True)
    app.add_typer(registry, name="registry")
    registry_admin_cli.mount(registry, emit)
    _mount_submitting(registry, emit)
    _mount_reading(registry, emit)
    _mount_acting(registry, emit)
    _mount_node(registry, emit, machine_id, devices)


def _mount_submitting(registry: typer.Typer, emit: Emit) -> None:
    @registry.command(
        epilog="Example: petaseal registry push statement --url https://registry.example --token-file token"
    )
    def push(
        path: Annotated[
            Path,
            typer.Argument(
                help="Statement's folder or package, records.jsonl, campaign, node records, or one of them."
            ),
        ],
        url: Url,
        token_file: TokenFile = None,
        statement: Annotated[
            str | None, typer.Option(help="Payload digest of the statement that records.jsonl belongs to.")
        ] = None,
        ca: Ca = None,
        timeout: Timeout = 30.0,
        as_json: Json = False,
    ) -> None:
        """Submit what a registry takes, and keep its receipts; exit 1 where it refuses."""
        with connected(url, token_file, ca, timeout) as there:
            from certify.registry.client.push import push

            report(push(there, path, statement), emit, as_json)

    @registry.command(
        epilog="Example: petaseal registry revoke revocations.json --url https://registry.example --token-file token"
    )
    def revoke(
        path: Annotated[Path, typer.Argument(metavar="LIST", help="Signed list (petaseal trust revoke --list).")],
        url: Url,
        token_file: TokenFile = None,
        ca: Ca = None,
        timeout: Timeout = 30.0,
        as_json: Json = False,
    ) -> None:
        """Submit a signed revocation list, as the platform."""
        with connected(url, token_file, ca, timeout) as there:
            from certify.registry.client.push import push

            report(push(there, path, only=("revocations",)), emit, as_json)

    @registry.command(
        epilog="Example: petaseal registry challenge --url https://registry.example --centre gz-park-1"
        " --token-file token"
    )
    def challenge(
        url: Url,
        centre: Annotated[str, typer.Option(help="Centre whose campaign it opens.")],
        token_file: TokenFile = None,
        ca: Ca = None,
        timeout: Timeout = 30.0,
        as_json: Json = False,
    ) -> None:
        """Draw a challenge for one campaign."""
        import msgspec

        with connected(url, token_file, ca, timeout) as there:
            drawn = there.draw_challenge(centre)
        lines = [
            f"challenge {drawn.challenge}",
            f"for one campaign of {drawn.centre_id} that is opened before {drawn.expires_at}:",
            f"  petaseal campaign create --challenge {drawn.challenge} --challenge-from registry ...",
        ]
        emit(as_json, msgspec.to_builtins(drawn), lines)


def _mount_reading(registry: typer.Typer, emit: Emit) -> None:
    @registry.command(
        epilog="Example: petaseal registry pull --url https://registry.example --statement 3f1c... --out statement"
    )
    def pull(
        url: Url,
        statement: Annotated[str | None, typer.Option(help="Payload digest of a statement.")] = None,
        campaign: Annotated[
            str | None, typer.Option(help="Digest of a campaign, for the records posted of it.")
        ] = None,
        feed: Annotated[bool, typer.Option("--feed", help="The capacity of all centres, as JSON and CSV.")] = False,
        out: Annotated[Path | None, typer.Option(help="Folder for what is fetched.")] = None,
        follow: Annotated[
            bool, typer.Option("--follow", help="With --feed: print what changes, one JSON object a line, for ever.")
        ] = False,
        since: Annotated[
            str | None, typer.Option(help='With --follow: "next" of the last line that was taken.')
        ] = None,
        every: Annotated[float, typer.Option(min=0.1, max=86_400, help="With --follow: seconds between looks.")] = 10.0,
        token_file: TokenFile = None,
        ca: Ca = None,
        timeout: Timeout = 30.0,
        as_json: Json = False,
    ) -> None:
        """Fetch a statement with its receipt, a campaign's records, or the feed."""
        from certify.commands.trust import checked_digest

        if (statement is not None) + (campaign is not None) + feed != 1:
            raise InputError("usage", "give exactly one of --statement, --campaign and --feed")
        if follow and not feed:
            raise InputError("usage", "--follow is for the feed", fix="give it with --feed")
        if (out is None) != follow:
            raise InputError(
                "usage", "--out names the folder for what is fetched, and --follow prints it", where="--out"
            )
        with connected(url, token_file, ca, timeout) as there:
            from certify.registry.client import pull as pulling

            if out is None:
                _print_changes(there, since, every)
                return
            if statement is not None:
                pulled = pulling.pull_statement(there, checked_digest(statement, "--statement"), out)
            elif campaign is not None:
                pulled = pulling.pull_campaign(there, checked_digest(campaign, "--campaign"), out)
            else:
                pulled = pulling.pull_feed(there, out)
        shown = {"files": [str(file) for file in pulled.files], "unchanged": pulled.unchanged}
        lines = [str(file) for file in pulled.files]
        if pulled.unchanged:
            lines.append(f"{pulled.unchanged} record(s) were there before")
        lines += [f"NOT FETCHED: {what}" for what in pulled.not_there]
        if statement is not None:
            lines.append(f"check it with: petaseal verify {out} --trust trust-root.json")
        emit(as_json, {**shown, "not_fetched": list(pulled.not_there)}, lines)

    @registry.command(epilog="Example: petaseal registry status --url https://registry.example --centre gz-park-1")
    def status(
        url: Url,
        centre: Annotated[str | None, typer.Option(help="Centre to look at (default: all together).")] = None,
        token_file: TokenFile = None,
        ca: Ca = None,
        timeout: Timeout = 30.0,
        as_json: Json = False,
    ) -> None:
        """Show what a registry is and its sums, or one centre's pools, attempts and alarms."""
        import msgspec

        with connected(url, token_file, ca, timeout) as there:
            from certify.commands.registry import show as showing

            if centre is None:
                service, lifecycle = there.service(), there.lifecycle()
                shown = {"service": service, "lifecycle": lifecycle}
                emit(as_json, msgspec.to_builtins(shown), showing.service_lines(url, service, lifecycle))
                return
            detail, alarms = there.centre(centre), list(there.alarms(centre=centre))
            found = {"centre": detail, "alarms": alarms}
            emit(as_json, msgspec.to_builtins(found), showing.centre_lines(detail, detail.attempts, alarms))


def _mount_acting(registry: typer.Typer, emit: Emit) -> None:
    @registry.command(
        epilog="Example: petaseal registry act manage --url https://registry.example --centre gz-park-1 --pool main"
        ' --reason "contract 2026-17" --token-file token'
    )
    def act(
        what: Annotated[str, typer.Argument(metavar="ACT", help="register, deregister, manage or release.")],
        url: Url,
        centre: Annotated[str, typer.Option(help="Centre of the pool.")],
        pool: Annotated[str, typer.Option(help="The pool.")],
        reason: Annotated[str, typer.Option(help="Why, in one line: it stands in the register.")],
        project: Annotated[
            str | None, typer.Option(help="Project of the centre, where its statements name one.")
        ] = None,
        external_id: Annotated[
            list[str] | None, typer.Option(help="SCHEME=VALUE issued elsewhere (算力标识); may be repeated.")
        ] = None,
        token_file: TokenFile = None,
        ca: Ca = None,
        timeout: Timeout = 30.0,
        as_json: Json = False,
    ) -> None:
        """Register a pool, take it under management, or end that, as the platform."""
        import msgspec

        with connected(url, token_file, ca, timeout) as there:
            from certify.registry.api import ActAsk

            given = [text.partition("=") for text in external_id or ()]
            asked = {
                "act": what,
                "centre_id": centre,
                "project_id": project,
                "pool": pool,
                "reason": reason,
                "external_ids": [{"scheme": scheme, "value": value} for scheme, _, value in given],
            }
            try:
                done = there.act(msgspec.convert(asked, ActAsk))
            except msgspec.ValidationError as error:
                from bench.record.fields import in_words

                raise InputError("usage", in_words(error), where="act") from None
        lines = [f"{done.act}: {done.centre_id}, pool {done.pool}, at {done.at}: {done.reason}"]
        emit(as_json, msgspec.to_builtins(done), lines)


def _mount_node(registry: typer.Typer, emit: Emit, machine_id: Callable[[], str], devices: Devices) -> None:
    @registry.command(
        epilog="Example: petaseal registry heartbeat --url https://registry.example --centre gz-park-1 --node node17"
        " --every 120"
    )
    def heartbeat(
        url: Url,
        centre: Annotated[str, typer.Option(help="Centre of the node.")],
        node: Annotated[str, typer.Option(help="The node's name in the records.")],
        key: Annotated[Path | None, typer.Option(help="Key that signed its record (default: this node's own).")] = None,
        passphrase_file: Annotated[Path | None, typer.Option(help="Passphrase of the key, as first line.")] = None,
        device: Annotated[str, typer.Option(help='Devices that are certified, as for "petaseal run".')] = "all",
        listing: Annotated[
            Path | None,
            typer.Option("--devices", help="What petaseal devices --json printed, read for each heartbeat."),
        ] = None,
        every: Annotated[
            float | None, typer.Option(min=1, max=86_400, help="Seconds between two; goes on for ever.")
        ] = None,
        ca: Ca = None,
        timeout: Timeout = 30.0,
        as_json: Json = False,
    ) -> None:
        """Tell the registry that a certified node is there with its devices; exit 1 where they are others."""
        import msgspec

        from bench.record.files import state_dir
        from certify.keys import files as keys
        from certify.keys.loading import load_signing_key

        own = load_signing_key(key, passphrase_file) if key else keys.node_key(state_dir(), machine_id())

        def found() -> Sequence[Device]:
            return devices(device) if listing is None else _listed(listing, node)

        with connected(url, None, ca, timeout) as there:
            from certify.registry.client.heartbeat import Heart

            heart = Heart(there, centre, node, own, found)
            beats = [heart.beat()] if every is None else heart.keep_beating(every, tell=tell)
            for beat in beats:
                state = "on-line" if beat.online else f"NOT ON-LINE [{beat.code}]"
                lines = [f"{beat.seen_at} {beat.node_id} {state}; the next one before {beat.stale_at}"]
                emit(as_json, msgspec.to_builtins(beat), lines)
        if every is None and not beat.online:
            raise RefusedError(
                beat.code or "devices-differ", "its devices are not those that were certified", where=node
            )

    @registry.command(
        epilog="Example: petaseal registry textfile statement --node node17 --out /var/lib/node_exporter/petaseal.prom"
    )
    def textfile(
        folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a statement and its records.")],
        node: Annotated[str, typer.Option(help="The node's name in the records.")],
        out: Annotated[Path, typer.Option(help="File for the node exporter (*.prom); it is replaced.")],
        identities: Annotated[
            bool, typer.Option("--identities", help="Tell uuid, serial, die id and PCI address of devices too.")
        ] = False,
        as_json: Json = False,
    ) -> None:
        """Write a node's certified figures for Prometheus' node exporter."""
        with libraries("to write metrics"):
            from certify.registry.client.textfile import write_textfile

            made = write_textfile(folder, node, out, identities)
        shown = {"out": str(made.path), "statement": made.statement, "figures": made.figures}
        lines = [f"{made.path}: {made.figures} figure(s) of {node}", f"statement {made.statement}"]
        lines += [f"NOT CHECKED: {what}" for what in made.not_checked]
        emit(as_json, {**shown, "not_checked": list(made.not_checked)}, lines)


@contextlib.contextmanager
def connected(url: str, token_file: Path | None, ca: Path | None, timeout_s: float) -> Iterator[Registry]:
    """Yield a client of the registry at a URL, with the token of a file or of the environment."""
    token = read_token(token_file)
    with libraries("to talk to a registry"):
        from certify.registry.client.client import Registry

        with Registry(url, token, timeout_s, ca) as registry:
            yield registry


def read_token(file: Path | None) -> str | None:
    """Return the token of a file, else of the environment, else none.

    Raises:
        InputError: `token-file-invalid`, there is none in it; the text is not told.
    """
    if file is None:
        where, text = TOKEN_VARIABLE, os.environ.get(TOKEN_VARIABLE)
        if not text:
            return None
    else:
        from bench.record import read_given

        where, text = str(file), read_given(file, TOKEN_BYTES).decode("utf-8", "replace")
    token = text.splitlines()[0].strip() if text.strip() else ""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError("token-file-invalid", "does not begin with a line that is a token", where=where)
    return token


def report(sending: Iterable[Sent], emit: Emit, as_json: bool) -> None:
    """Print what the registry decided, also where something goes wrong on the way.

    Raises:
        RefusedError: the first refusal.
        InputError: what went wrong on the way.
    """
    sent: list[Sent] = []
    failure: PetasealError | None = None
    try:
        sent.extend(sending)
    except PetasealError as error:
        failure = error
    for one in sent:
        if one.decided.decision == "refused" and failure is None:
            assert one.decided.code is not None
            failure = RefusedError(one.decided.code, one.decided.detail or "is refused", where=one.path)
    if sent:
        shown = {"accepted": failure is None, "decisions": [one.as_json() for one in sent]}
        emit(as_json, shown, [line for one in sent for line in one.lines()])
    if failure is not None:
        raise failure


def tell(error: PetasealError) -> None:
    """Say on the side what goes wrong and is outlived."""
    typer.echo(f"petaseal: {error}", err=True)


def _print_changes(there: Registry, since: str | None, every_s: float) -> None:
    import json

    import msgspec

    for changes in there.follow(since, every_s, tell):
        shown = {
            "at": changes.at,
            "next": changes.cursor,
            "centres": changes.centres,
            "items": msgspec.to_builtins(changes.items),
            "gone": [dict(zip(("centre_id", "project_id", "pool"), pool, strict=True)) for pool in changes.gone],
        }
        typer.echo(json.dumps(shown, sort_keys=True))


def _listed(file: Path, node_id: str) -> list[Device]:
    """Return the usable devices that ``petaseal devices --json`` printed."""
    from bench.record import read_given
    from certify.documents.caps import CAPS
    from certify.fleet.retest import parse_listing

    state = parse_listing(node_id, read_given(file, CAPS.record_bytes), file)
    return [part.device for part in state.parts if part.trouble is None]
