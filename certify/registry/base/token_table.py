"""Tokens in bulk: the rows of a table, each with a file of its own for the secret; all of them, or none."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import msgspec
from sqlalchemy import Connection

from bench.errors import InputError, PetasealError
from bench.record import Name, read_given, refuse_existing, write_atomic
from certify.documents.table import TableRow, read_table
from certify.registry.api.common import Scope
from certify.registry.base.tokens import MAX_DAYS, Token, create_token
from certify.registry.storage.store import Store

TABLE_BYTES = 2**20
MAX_TOKENS = 10_000  # of one table: thirty times the centres of a large city


class WantedToken(NamedTuple):
    """A row of the table."""

    row: TableRow
    name: str
    scope: Scope
    centre_id: str | None
    days: int


def read_tokens(file: Path, days: int) -> tuple[WantedToken, ...]:
    """Return the tokens that a table asks for.

    Args:
        file: CSV with the columns name, scope, centre and, where wanted, days.
        days: until a token expires whose row does not say.

    Raises:
        InputError: `table-invalid`; it names the row.
    """
    rows = read_table(read_given(file, TABLE_BYTES), file, ("name", "scope", "centre"), ("days",), MAX_TOKENS)
    wanted = [_wanted(row, days) for row in rows]
    first: dict[tuple[str, str, str | None], WantedToken] = {}
    for one in wanted:
        before = first.setdefault((one.name, one.scope, one.centre_id), one)
        # a row that was pasted twice makes a secret that nobody looks after
        if before is not one:
            raise one.row.fault(f"is the same token as that of {before.row.where.rpartition(', ')[2]}")
    return tuple(wanted)


def _wanted(row: TableRow, days: int) -> WantedToken:
    name, scope, centre, wished = (row.values[column] for column in ("name", "scope", "centre", "days"))
    if not name or not name.isprintable():
        raise row.fault("has no name that can be printed")
    if scope not in get_args(Scope):
        raise row.fault(f"the scope {scope!r} is none of {', '.join(get_args(Scope))}")
    if bool(centre) != (scope == "operator"):
        raise row.fault(f"a token of scope {scope} {'is of no centre' if centre else 'needs a centre'}")
    try:
        centre_id = msgspec.convert(centre, Name) if centre else None
    except msgspec.ValidationError:
        fix = "use lower case letters, digits, dots, dashes and underscores"
        raise row.fault(f"{centre!r} is not a name of a centre", fix) from None
    if wished and not (wished.isascii() and wished.isdigit() and 1 <= int(wished) <= MAX_DAYS):
        raise row.fault(f"the days {wished!r} are no number from 1 to {MAX_DAYS}")
    return WantedToken(row, name, scope, centre_id, int(wished) if wished else days)  # type: ignore[arg-type]


def create_tokens(store: Store, wanted: Sequence[WantedToken], now: str, out: Path) -> list[tuple[Token, Path]]:
    """Make tokens, and write each secret to a file of its own that only its owner can read.

    Args:
        store: of the registry.
        wanted: of `read_tokens`.
        now: the present.
        out: folder to make for the files.

    Raises:
        InputError: `output-exists` or `output-not-writable`; nothing was made.
    """
    refuse_existing(out, "choose another folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # of a name that nobody takes for the result, and only its owner's (mkdtemp)
        folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    except OSError as error:
        raise InputError("output-not-writable", f"cannot be made ({error.strerror})", where=out) from None
    try:
        with store.writing() as connection:
            made = [_create(connection, one, now, folder) for one in wanted]
            # before it is committed: a secret that nobody has is of no use
            folder.rename(out)
            folder = out
    except BaseException:
        # nothing was committed: these secrets open nothing, and would be handed out
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return [(token, out / name) for token, name in made]


def _create(connection: Connection, one: WantedToken, now: str, folder: Path) -> tuple[Token, str]:
    try:
        token, secret = create_token(connection, one.name, one.scope, one.centre_id, now, one.days)
    except PetasealError as error:
        raise one.row.blame(error) from None
    name = f"{one.centre_id or one.scope}-{token.id}.token"
    write_atomic(folder / name, f"{secret}\n".encode(), 0o600, new=True)
    return token, name
