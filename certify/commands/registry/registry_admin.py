"""The commands of ``petaseal registry`` for who runs one: ``init``, ``serve``, ``backup`` and the like.

Everything of the registry is imported inside the commands: it needs the extra ``petaseal[registry]``.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.errors import InputError, RefusedError
from bench.record import config_path
from bench.terminal.show import is_terminal
from certify.commands.options import Json, RegistryPassphraseFile, checked_fingerprint, utc_now
from certify.commands.output import report
from certify.commands.registry.show import libraries

if TYPE_CHECKING:
    from certify.registry.maintenance.backup import BackupInfo
    from certify.registry.maintenance.refill import Refilled
    from certify.registry.storage.store import Store

app = typer.Typer()

Dir = Annotated[Path, typer.Argument(metavar="DIR", help="The registry's folder, with registry.yaml.")]


@app.command(
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
    rehearsal: Annotated[
        bool,
        typer.Option(
            "--rehearsal", help="A rehearsal: simulated statements alone, which add up. It proves nothing, for ever."
        ),
    ] = False,
    passphrase_file: RegistryPassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Make a registry: its settings, its database, and the trust root that it begins with."""
    from certify.policy.centre import Bilingual

    given = checked_fingerprint(fingerprint)
    with libraries("to run a registry"):
        from certify.registry.service.init import InitOptions, init_registry

        name = Bilingual(zh=name_zh, en=name_en)
        options = InitOptions(folder, key, trust, given, name, passphrase_file, database, simulated, rehearsal)
        made = init_registry(options, utc_now())
    shown = {
        "settings": str(made.settings),
        "keyid": made.keyid,
        "trust_id": made.trust_id,
        "fingerprint": made.fingerprint,
        "deploy": str(config_path("deploy")),
        "not_checked": list(made.not_checked),
    }
    lines = [
        *(["a rehearsal: simulated centres add up in it, and it proves nothing"] if rehearsal else []),
        f"{made.settings}: read it; every setting says what it does",
        f"receipts are signed by {made.keyid}",
        f"trust root {made.trust_id}, fingerprint {made.fingerprint}",
        *(f"NOT CHECKED: {what}" for what in made.not_checked),
        "what comes next:",
        f"  petaseal registry token new {folder} --name NAME --scope operator --centre CENTRE --out operator.token",
        f"  petaseal registry token new {folder} --name NAME --scope platform --out platform.token",
        f"  petaseal registry serve {folder}",
        f"files for nginx, systemd, containers, Prometheus and Grafana lie in {config_path('deploy')}",
    ]
    report(as_json, shown, lines)


@app.command(epilog="Example: petaseal registry serve registry --tls-cert cert.pem --tls-key key.pem")
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
    root_path: Annotated[
        str, typer.Option(metavar="PATH", help="Path below which a reverse proxy has the registry, as /petaseal.")
    ] = "",
) -> None:
    """Serve a registry until it is told to end; requests that are running are answered first."""
    # A key alone would leave the service without TLS, against what was meant.
    if (tls_cert is None) and tls_key is not None:
        raise InputError("usage", "--tls-key is the key of --tls-cert", fix="give both")
    with libraries("to serve a registry"):
        from certify.registry.base.registry import load_place, open_registry
        from certify.registry.base.serving import serving_alone
        from certify.registry.service.init import open_store
        from certify.registry.service.serve import run

        with serving_alone(load_place(folder), utc_now()):
            with contextlib.closing(open_store(folder)) as store:  # says in a sentence what is wrong with the database
                say_unfilled(refilled(store))
                say_foreign(store)
            with contextlib.closing(open_registry(folder)) as opened:
                run(opened, host, port, tls_cert, tls_key, None, tuple(forwarded_from or ()), root_path)


@app.command(epilog="Example: petaseal registry migrate registry")
def migrate(folder: Dir, as_json: Json = False) -> None:
    """Bring the database to this version's tables; "serve" does it too."""
    with opened(folder) as store:
        from certify.registry.storage.migrations import current

        done = refilled(store, as_json)
        # Opening has brought the tables up to date; this only reads which revision they are of.
        with store.reading() as connection:
            revision = current(connection)
    shown = {"revision": revision, "filled": done.filled, "not_filled": list(done.left)}
    lines = [f"{folder}: the tables are of revision {revision}"]
    if done.filled:
        lines.append(f"{done.filled:,} statement(s) of before were filled into the newer tables")
    report(as_json, shown, [*lines, *(f"NOT FILLED: {what}" for what in done.left)])


@app.command(epilog="Example: petaseal registry backup registry --out backups/2026-03-01")
def backup(folder: Dir, out: Annotated[Path, typer.Option(help="Folder to make.")], as_json: Json = False) -> None:
    """Copy everything into a new folder, while the registry runs."""
    with libraries("to run a registry"):
        from certify.registry.base.registry import open_registry
        from certify.registry.maintenance.backup import backup as copy

        with contextlib.closing(open_registry(folder, reading=True)) as there, telling(as_json) as note:
            made = copy(there, out, note)
    report(as_json, *_shown(made, f"petaseal registry restore {out} DIR"))


@app.command(epilog="Example: petaseal registry restore backups/2026-03-01 registry")
def restore(
    source: Annotated[Path, typer.Argument(metavar="BACKUP", help="Folder that a backup made.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the new registry: missing or empty.")],
    database: Annotated[str, typer.Option(help="sqlite, or the URL of an empty PostgreSQL database.")] = "sqlite",
    as_json: Json = False,
) -> None:
    """Make a registry of a backup, after every digest in it was checked."""
    with libraries("to run a registry"):
        from certify.registry.maintenance.backup import restore as fill

        with telling(as_json) as note:
            made = fill(source, folder, database, note)
    report(as_json, *_shown(made, f"petaseal registry check {folder}"))


@app.command(epilog="Example: petaseal registry check registry")
def check(folder: Dir, as_json: Json = False) -> None:
    """Verify everything that is stored anew; exit 1 where something is not as it was."""
    with libraries("to run a registry"):
        from certify.registry.base.registry import open_registry
        from certify.registry.maintenance.integrity import check as verify

        with contextlib.closing(open_registry(folder, reading=True)) as there, telling(as_json) as note:
            # rows that an upgrade has yet to fill would seem to have been deleted
            refilled(there.store, as_json)
            checked = verify(there, note)
    report(as_json, checked.as_json(), checked.lines())
    if checked.problems:
        raise RefusedError("registry-damaged", f"has {len(checked.problems)} fault(s)", where=folder)


@app.command(epilog="Example: petaseal registry prune registry")
def prune(folder: Dir, as_json: Json = False) -> None:
    """Drop bodies of refused submissions as refused_days and refused_bytes say; "serve" does it too."""
    with libraries("to run a registry"):
        from certify.registry.base.registry import open_registry
        from certify.registry.maintenance.retention import drop_refused

        with contextlib.closing(open_registry(folder)) as there, telling(as_json) as note:
            done = drop_refused(there, note)
    line = f"{folder}: {done.bodies:,} bodies of refused submissions were dropped, {done.size_bytes:,} bytes"
    report(as_json, done._asdict(), [line])


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Store]:
    """Yield the database of a registry's folder; its key is not needed."""
    with libraries("to run a registry"):
        from certify.registry.service.init import open_store

        with contextlib.closing(open_store(folder)) as store:
            yield store


def refilled(store: Store, quiet: bool = False) -> Refilled:
    """Fill the newer tables of a database that was upgraded, and show on a terminal how far it is."""
    from certify.registry.maintenance.refill import refill

    with telling(quiet) as note:
        return refill(store, note)


def say_unfilled(done: Refilled) -> None:
    """Name on stderr the statements whose stored documents are damaged: they are served without what is missing."""
    for what in done.left:
        typer.echo(f"NOT FILLED: {what}; see: petaseal registry check", err=True)


def say_foreign(store: Store) -> None:
    """Name on stderr the tables of a database that something else made; the registry goes on next to them."""
    from certify.registry.storage.migrations import foreign_tables, listed

    with store.reading() as connection:
        names = foreign_tables(connection)
    if names:
        typer.echo(f"NOTE: the database holds tables of something else as well: {listed(names)}", err=True)


@contextlib.contextmanager
def telling(quiet: bool) -> Iterator[Callable[[str, int], None]]:
    """Show on a terminal how far it is; nothing elsewhere."""
    if quiet or not is_terminal(sys.stderr):
        yield lambda what, done: None
        return
    from rich.console import Console

    with Console(stderr=True).status("reading") as status:
        yield lambda what, done: status.update(f"{what}: {done:,}")


def _shown(made: BackupInfo, following: str) -> tuple[dict[str, Any], list[str]]:
    """Return a backup for machines and for people."""
    import msgspec

    manifest = made.manifest
    lines = [
        f"{made.folder}: as it stood at {manifest.made_at}, change {manifest.change}",
        f"  {sum(manifest.rows.values()):,} rows",
        f"  {manifest.objects.count:,} objects of {manifest.objects.size_bytes:,} bytes",
        f"  sha256 {made.sha256} (keep it elsewhere: nobody signs a backup)",
        *(f"  NOT IN IT: {name}" for name in manifest.left_out),
        f"what comes next: {following}",
    ]
    return {"folder": str(made.folder), "sha256": made.sha256, "manifest": msgspec.to_builtins(manifest)}, lines
