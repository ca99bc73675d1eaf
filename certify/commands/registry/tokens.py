"""``petaseal registry token``: who may submit, act and read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.errors import InputError
from certify.commands.options import Json, utc_now
from certify.commands.output import report
from certify.commands.registry.registry_admin import Dir, opened

if TYPE_CHECKING:
    from certify.registry.base.tokens import Token, TokenLine

app = typer.Typer(help="Say who may submit, act and read.", no_args_is_help=True)

SecretFile = Annotated[
    Path | None,
    typer.Option("--out", help="File for the secret (0600), in place of the terminal; never overwrites one."),
]
TokenDays = Annotated[int, typer.Option(min=1, max=3660, help="Days until it expires.")]
TokenId = Annotated[int, typer.Argument(metavar="ID", help="Number of the token.")]
SCOPES = ("operator", "platform", "reader", "metrics")


@app.command(
    epilog="Example: petaseal registry token new registry --name 'Park 1' --scope operator --centre gz-park-1"
    " --out park1.token"
)
def new(
    folder: Dir,
    name: Annotated[str | None, typer.Option(help="Whose it is, for people.")] = None,
    scope: Annotated[str | None, typer.Option(help=", ".join(SCOPES))] = None,
    centre: Annotated[str | None, typer.Option(help="The one centre of an operator.")] = None,
    days: TokenDays = 366,
    table: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="TABLE",
            help="Many tokens in place of one: CSV with the columns name, scope, centre[, days]; --out is a new folder"
            " with a file for each.",
        ),
    ] = None,
    out: SecretFile = None,
    as_json: Json = False,
) -> None:
    """Make a token, or those of a table. A secret is shown once, and only its SHA-256 is kept."""
    if table is not None:
        single = {"--name": name, "--scope": scope, "--centre": centre}
        if given := [option for option, value in single.items() if value is not None]:
            raise InputError("usage", "is of one token; the table has a column for it", where=given[0])
        # many secrets on a terminal, or in one file, are given to whoever takes the first
        if out is None:
            raise InputError("usage", "is missing: the folder for the files of the table's tokens", where="--out")
        report(as_json, *_many(folder, table, out, days))
        return
    if name is None:
        raise InputError("usage", "is missing", where="--name", fix="give it, or --from TABLE")
    # The scopes are the registry's: a typing error is one sentence, without opening its database.
    if scope not in SCOPES:
        raise InputError("usage", f"is one of {', '.join(SCOPES)}", where="--scope")
    with opened(folder) as store:
        from certify.registry.base import tokens as stored

        _free(out)
        with store.writing() as connection:
            made = stored.create_token(connection, name, scope, centre, utc_now(), days)  # type: ignore[arg-type]
            _write(out, made[1])  # before it is committed: a secret that nobody has is of no use
    report(as_json, *_new(*made, out))


@app.command(epilog="Example: petaseal registry token rotate registry 3 --out park1.token")
def rotate(
    folder: Dir,
    token: TokenId,
    days: TokenDays = 366,
    out: SecretFile = None,
    as_json: Json = False,
) -> None:
    """Put a new token in the place of one, which ends at once."""
    with opened(folder) as store:
        from certify.registry.base import tokens as stored

        _free(out)
        with store.writing() as connection:
            made = stored.rotate_token(connection, token, utc_now(), days)
            _write(out, made[1])
    report(as_json, *_new(*made, out))


@app.command(epilog="Example: petaseal registry token revoke registry 3")
def revoke(
    folder: Dir,
    token: TokenId,
    as_json: Json = False,
) -> None:
    """End a token at once."""
    with opened(folder) as store:
        from certify.registry.base import tokens as stored

        now = utc_now()
        with store.writing() as connection:
            stored.revoke_token(connection, token, now)
    report(as_json, {"id": token, "revoked": True}, [f"token {token} is revoked"])


@app.command("list", epilog="Example: petaseal registry token list registry")
def listed(folder: Dir, as_json: Json = False) -> None:
    """List all tokens there ever were. Secrets are not kept, and so not shown."""
    with opened(folder) as store:
        from certify.commands.registry.show import table
        from certify.registry.base import tokens as stored

        with store.reading() as connection:
            known = stored.list_tokens(connection)
        now = utc_now()
        rows = [(str(line.token.id), *_facts(line, now)) for line in known]
        headings = ("id", "name", "scope", "centre", "expires at", "state")
        shown = [dict(zip((heading.replace(" ", "_") for heading in headings), row, strict=True)) for row in rows]
        lines = table("tokens", headings, rows, right=(0,)) if rows else ["there is no token yet"]
    report(as_json, {"tokens": shown}, lines)


def _many(folder: Path, file: Path, out: Path, days: int) -> tuple[dict[str, Any], list[str]]:
    """Make the tokens of a table, and return what was made: never a secret."""
    from certify.commands.registry.show import table
    from certify.registry.base.token_table import create_tokens, read_tokens

    wanted = read_tokens(file, days)  # before the database is opened: a row at fault costs nothing
    with opened(folder) as store:
        made = create_tokens(store, wanted, utc_now(), out)
    headings = ("id", "name", "scope", "centre", "expires at", "file")
    rows = [(str(t.id), t.name, t.scope, t.centre_id or "-", t.expires_at, path.name) for t, path in made]
    shown = [
        {"id": t.id, "name": t.name, "scope": t.scope, "centre_id": t.centre_id, "expires_at": t.expires_at}
        | {"out": str(path)}
        for t, path in made
    ]
    return {"out": str(out), "tokens": shown}, [*table("tokens", headings, rows, right=(0,)), f"secrets in {out}"]


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
    # The one time that it is shown: stored is its SHA-256, which gives nobody the secret back.
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
