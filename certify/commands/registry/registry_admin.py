"""The commands of ``petaseal registry`` for who runs one: ``init``, ``serve``, ``token``, ``backup`` and the like.

Everything of the registry is imported inside the commands: it needs the extra ``petaseal[registry]``.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.errors import InputError, MissingLibraryError, RefusedError

if TYPE_CHECKING:
    from certify.registry.service.tokens import Token, TokenLine
    from certify.registry.storage.backup import Kept
    from certify.registry.storage.store import Store

Emit = Callable[[bool, Any, list[str]], None]
Dir = Annotated[Path, typer.Argument(metavar="DIR", help="The registry's folder, with registry.yaml.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
SecretFile = Annotated[
    Path | None,
    typer.Option("--out", help="File for the secret (0600), in place of the terminal; never overwrites one."),
]
TokenDays = Annotated[int, typer.Option(min=1, max=3660, help="Days until it expires.")]
SCOPES = ("operator", "platform", "reader", "metrics")


def mount(registry: typer.Typer, emit: Emit) -> None:
    """Add the commands to the group."""
    _mount_running(registry, emit)
    _mount_keeping(registry, emit)
    tokens = typer.Typer(help="Say who may submit, act and read.", no_args_is_help=True)
    registry.add_typer(tokens, name="token")
    _mount_tokens(tokens, emit)


def _mount_running(registry: typer.Typer, emit: Emit) -> None:
    @registry.command(
        epilog="Example: petaseal registry init registry --key registry.pem --trust trust-root.json"
        " --fingerprint 3f1c... --name-zh 广州市算力登记平台 --name-en 'Guangzhou registry'"
    )
    def init(
        folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.")],
        key: Annotated[Path, typer.Option(help="The registry's private key (PEM), which signs receipts.")],
        trust: Annotated[Path, typer.Option(help="Signed trust root, in which the key has the role registry.")],
        fingerprint: Annotated[
            str | None, typer.Option(help="The trust root's fingerprint, where it was not accepted here before.")
        ] = None,
        name_zh: Annotated[str, typer.Option(help="Name in Chinese.")] = "算力登记平台",
        name_en: Annotated[str, typer.Option(help="Name in English.")] = "Compute capacity registry",
        database: Annotated[
            str, typer.Option(help="sqlite (a file in DIR), or postgresql+psycopg://user@host/name.")
        ] = "sqlite",
        simulated: Annotated[
            bool, typer.Option("--simulated", help="Accept simulated statements, for trying things out.")
        ] = False,
        passphrase_file: Annotated[Path | None, typer.Option(help="Passphrase of the key, as first line.")] = None,
        as_json: Json = False,
    ) -> None:
        """Make a registry: its settings, its database, and the trust root that it begins with."""
        from bench.units import utc_text
        from certify.commands.trust import checked_digest
        from certify.policy.centre import Bilingual

        given = None if fingerprint is None else checked_digest(fingerprint, "--fingerprint")
        with libraries("to run a registry"):
            from certify.registry.service.init import Founding, found

            name = Bilingual(zh=name_zh, en=name_en)
            founding = Founding(folder, key, trust, given, name, passphrase_file, database, simulated)
            made = found(founding, utc_text(time.time_ns()))
        shown = {
            "settings": str(made.settings),
            "keyid": made.keyid,
            "trust_id": made.trust_id,
            "fingerprint": made.fingerprint,
            "not_checked": list(made.not_checked),
        }
        lines = [
            f"{made.settings}: read it; every setting says what it does",
            f"receipts are signed by {made.keyid}",
            f"trust root {made.trust_id}, fingerprint {made.fingerprint}",
            *(f"NOT CHECKED: {what}" for what in made.not_checked),
            "what comes next:",
            f"  petaseal registry token new {folder} --name NAME --scope operator --centre CENTRE --out operator.token",
            f"  petaseal registry token new {folder} --name NAME --scope platform --out platform.token",
            f"  petaseal registry serve {folder}",
        ]
        emit(as_json, shown, lines)

    @registry.command(epilog="Example: petaseal registry serve registry --tls-cert cert.pem --tls-key key.pem")
    def serve(
        folder: Dir,
        host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
        port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any that is free.")] = 8600,
        tls_cert: Annotated[Path | None, typer.Option(help="Certificates (PEM), the server's own first.")] = None,
        tls_key: Annotated[Path | None, typer.Option(help="Private key of the certificate (PEM).")] = None,
        forwarded_from: Annotated[
            list[str] | None,
            typer.Option(help="Address of a reverse proxy whose X-Forwarded-* are believed; may be repeated."),
        ] = None,
    ) -> None:
        """Serve a registry until it is told to end; requests that are running are answered first."""
        if (tls_cert is None) and tls_key is not None:
            raise InputError("usage", "--tls-key is the key of --tls-cert", fix="give both")
        with libraries("to serve a registry"):
            from certify.registry.service.init import stored
            from certify.registry.service.registry import open_registry
            from certify.registry.service.serve import run

            stored(folder).close()  # says in one sentence what is wrong with the database
            opened = open_registry(folder)
            with contextlib.closing(opened):
                run(opened, host, port, tls_cert, tls_key, trusted_proxies=tuple(forwarded_from or ()))

    @registry.command(epilog="Example: petaseal registry migrate registry")
    def migrate(folder: Dir, as_json: Json = False) -> None:
        """Bring the database to this version's tables; "serve" does it too."""
        with opened(folder) as store:
            from certify.registry.storage.migrations import current

            with store.reading() as connection:
                revision = current(connection)
        emit(as_json, {"revision": revision}, [f"{folder}: the tables are of revision {revision}"])


def _mount_keeping(registry: typer.Typer, emit: Emit) -> None:
    @registry.command(epilog="Example: petaseal registry backup registry --out backups/2026-03-01")
    def backup(folder: Dir, out: Annotated[Path, typer.Option(help="Folder to make.")], as_json: Json = False) -> None:
        """Copy everything into a new folder, while the registry runs."""
        with libraries("to run a registry"):
            from certify.registry.service.registry import open_registry
            from certify.registry.storage.backup import backup as copy

            with contextlib.closing(open_registry(folder)) as there, telling(as_json) as tell:
                kept = copy(there, out, tell)
        emit(as_json, *_kept(kept, f"petaseal registry restore {out} DIR"))

    @registry.command(epilog="Example: petaseal registry restore backups/2026-03-01 registry")
    def restore(
        source: Annotated[Path, typer.Argument(metavar="BACKUP", help="Folder that a backup made.")],
        folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the new registry: missing or empty.")],
        database: Annotated[str, typer.Option(help="sqlite, or the URL of an empty PostgreSQL database.")] = "sqlite",
        as_json: Json = False,
    ) -> None:
        """Make a registry of a backup, after every digest in it was checked."""
        with libraries("to run a registry"):
            from certify.registry.storage.backup import restore as fill

            with telling(as_json) as tell:
                kept = fill(source, folder, database, tell)
        emit(as_json, *_kept(kept, f"petaseal registry check {folder}"))

    @registry.command(epilog="Example: petaseal registry check registry")
    def check(folder: Dir, as_json: Json = False) -> None:
        """Verify everything that is stored anew; exit 1 where something is not as it was."""
        with libraries("to run a registry"):
            from certify.registry.service.registry import open_registry
            from certify.registry.storage.integrity import check as verify

            with contextlib.closing(open_registry(folder)) as there, telling(as_json) as tell:
                checked = verify(there, tell)
        emit(as_json, checked.as_json(), checked.lines())
        if checked.problems:
            raise RefusedError("registry-damaged", f"has {len(checked.problems)} fault(s)", where=folder)


def _mount_tokens(tokens: typer.Typer, emit: Emit) -> None:
    @tokens.command(
        epilog="Example: petaseal registry token new registry --name 'Park 1' --scope operator --centre gz-park-1"
        " --out park1.token"
    )
    def new(
        folder: Dir,
        name: Annotated[str, typer.Option(help="Whose it is, for people.")],
        scope: Annotated[str, typer.Option(help=", ".join(SCOPES))],
        centre: Annotated[str | None, typer.Option(help="The one centre of an operator.")] = None,
        days: TokenDays = 366,
        out: SecretFile = None,
        as_json: Json = False,
    ) -> None:
        """Make a token. Its secret is shown once, and only its SHA-256 is kept."""
        if scope not in SCOPES:
            raise InputError("usage", f"is one of {', '.join(SCOPES)}", where="--scope")
        with opened(folder) as store:
            from certify.registry.service import tokens as kept

            _free(out)
            with store.writing() as connection:
                made = kept.new(connection, name, scope, centre, _now(), days)  # type: ignore[arg-type]
                _write(out, made[1])  # before it is committed: a secret that nobody has is of no use
        emit(as_json, *_new(*made, out))

    @tokens.command(epilog="Example: petaseal registry token rotate registry 3 --out park1.token")
    def rotate(
        folder: Dir,
        token: Annotated[int, typer.Argument(metavar="ID", help="Number of the token.")],
        days: TokenDays = 366,
        out: SecretFile = None,
        as_json: Json = False,
    ) -> None:
        """Put a new token in the place of one, which ends at once."""
        with opened(folder) as store:
            from certify.registry.service import tokens as kept

            _free(out)
            with store.writing() as connection:
                made = kept.rotate(connection, token, _now(), days)
                _write(out, made[1])
        emit(as_json, *_new(*made, out))

    @tokens.command(epilog="Example: petaseal registry token revoke registry 3")
    def revoke(
        folder: Dir,
        token: Annotated[int, typer.Argument(metavar="ID", help="Number of the token.")],
        as_json: Json = False,
    ) -> None:
        """End a token at once."""
        with opened(folder) as store:
            from certify.registry.service import tokens as kept

            now = _now()
            with store.writing() as connection:
                kept.revoke(connection, token, now)
        emit(as_json, {"id": token, "revoked": True}, [f"token {token} is revoked"])

    @tokens.command("list", epilog="Example: petaseal registry token list registry")
    def listed(folder: Dir, as_json: Json = False) -> None:
        """List all tokens there ever were. Secrets are not kept, and so not shown."""
        with opened(folder) as store:
            from certify.commands.registry.show import table
            from certify.registry.service import tokens as kept

            with store.reading() as connection:
                found = kept.listed(connection)
            now = _now()
            rows = [(str(line.token.id), *_facts(line, now)) for line in found]
            heads = ("id", "name", "scope", "centre", "expires at", "state")
            shown = [dict(zip((head.replace(" ", "_") for head in heads), row, strict=True)) for row in rows]
            lines = table("tokens", heads, rows, right=(0,)) if rows else ["there is no token yet"]
        emit(as_json, {"tokens": shown}, lines)


@contextlib.contextmanager
def libraries(purpose: str) -> Iterator[None]:
    """Say in one sentence which library is missing, and how to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in ("certify", "bench", "kernels"):
            raise
        raise MissingLibraryError(error.name.split(".")[0], purpose, "registry") from None


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Store]:
    """Yield the database of a registry's folder; its key is not needed."""
    with libraries("to run a registry"):
        from certify.registry.service.init import stored

        with contextlib.closing(stored(folder)) as store:
            yield store


@contextlib.contextmanager
def telling(quiet: bool) -> Iterator[Callable[[str, int], None]]:
    """Show on a terminal how far it is; nothing elsewhere."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield lambda what, done: None
        return
    from rich.console import Console

    with Console(stderr=True).status("reading") as status:
        yield lambda what, done: status.update(f"{what}: {done:,}")


def _kept(kept: Kept, following: str) -> tuple[dict[str, Any], list[str]]:
    """Return a backup for machines and for people."""
    import msgspec

    manifest = kept.manifest
    lines = [
        f"{kept.folder}: as it stood at {manifest.made_at}, change {manifest.change}",
        f"  {sum(manifest.rows.values()):,} rows",
        f"  {manifest.objects.count:,} objects of {manifest.objects.size_bytes:,} bytes",
        f"  sha256 {kept.sha256} (keep it elsewhere: nobody signs a backup)",
        *(f"  NOT IN IT: {name}" for name in manifest.left_out),
        f"what comes next: {following}",
    ]
    return {"folder": str(kept.folder), "sha256": kept.sha256, "manifest": msgspec.to_builtins(manifest)}, lines


def _new(token: Token, secret: str, out: Path | None) -> tuple[dict[str, Any], list[str]]:
    """Return a new token; its secret only where it is in no file."""
    shown: dict[str, Any] = {
        "id": token.id,
        "name": token.name,
        "scope": token.scope,
        "centre_id": token.centre_id,
        "expires_at": token.expires_at,
    }
    of_centre = f" of {token.centre_id}" if token.centre_id else ""
    lines = [f"token {token.id}: {token.name}, {token.scope}{of_centre}, until {token.expires_at}"]
    if out is not None:
        return {**shown, "out": str(out)}, [*lines, f"secret in {out}"]
    return {**shown, "secret": secret}, [*lines, secret, "nobody can show this secret again"]


def _facts(line: TokenLine, now: str) -> tuple[str, ...]:
    token = line.token
    state = "revoked" if line.revoked_at else "expired" if token.expires_at <= now else "good"
    return token.name, token.scope, token.centre_id or "-", token.expires_at, state


def _free(out: Path | None) -> None:
    """Refuse a file that is there, before a token is made for it."""
    from bench.record import refuse_existing

    if out is not None:
        refuse_existing(out)


def _write(out: Path | None, secret: str) -> None:
    from bench.record import write_atomic

    if out is not None:
        write_atomic(out, f"{secret}\n".encode(), 0o600, new=True)


def _now() -> str:
    from bench.units import utc_text

    return utc_text(time.time_ns())
