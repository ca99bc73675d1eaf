"""The command ``package``; what it makes is `certify.statement.package`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from certify.commands.options import Json
from certify.commands.output import report

app = typer.Typer()


@app.command(epilog="Example: petaseal package statement --out statement.tar")
def package(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with a statement and its records.")],
    out: Annotated[Path, typer.Option(help="Package to make (.tar, or .tar.gz); never overwrites one.")],
    samples: Annotated[
        Path | None, typer.Option(help="Folder with the records' samples (default: those in DIR/samples).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Pack a statement and its files into one archive.

    "verify", "witness" and "audit" take it in place of the files.
    """
    from certify.statement.package import pack

    made = pack(folder, out, samples)
    report(as_json, made.as_json(), made.lines())
