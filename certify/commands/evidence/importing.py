"""``petaseal import``: sign what another tool printed as evidence for a statement, with what was checked of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from bench.errors import InputError, RefusedError
from certify.commands import options
from certify.commands.output import report

if TYPE_CHECKING:
    from certify.evidence.output import Family
    from certify.statement.brought.importing import ImportRequest

_OFFSET = re.compile(r"([+-])(\d{1,2})(?::?(\d\d))?", re.ASCII)
MOST_OFFSET_MINUTES = 14 * 60  # of any zone
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Output of the tool; each becomes a document.")]
ForCampaign = Annotated[
    Path,
    typer.Option("--campaign", help="Signed campaign, its folder, or the record of a node that measured alone."),
]
OfCentre = Annotated[
    str | None, typer.Option("--centre", help="Centre file; needed where a node measured alone, without a campaign.")
]
Nodes = Annotated[
    list[str] | None,
    typer.Option(
        "--nodes",
        help="Host list of the nodes on which the tool ran (default: all), as the engine names them; may be repeated.",
    ),
]
OfPool = Annotated[str | None, typer.Option("--pool", help="Pool whose devices computed (default: of several).")]
Key = Annotated[list[Path], typer.Option("--key", help="Private key (PEM) of who brings it; may be repeated.")]
AsRole = Annotated[str, typer.Option("--as", metavar="operator|witness", help="The role of that key.")]
Out = Annotated[Path, typer.Option("--out", help="Folder for the documents; nothing in it is overwritten.")]
Offset = Annotated[
    str | None, typer.Option("--utc-offset", help="Of the local times in the output, such as +08:00: it prints none.")
]
Collective = Annotated[str | None, typer.Option(help="Where the output names none, such as all-reduce.")]
Ranks = Annotated[int | None, typer.Option(min=1, help="Processes, where the output does not say.")]


@app.command("hpl", epilog="Example: petaseal import hpl hpl.out --campaign DIR --key operator.pem --out DIR/evidence")
def import_hpl(
    files: Files,
    campaign: ForCampaign,
    key: Key,
    out: Out,
    centre: OfCentre = None,
    nodes: Nodes = None,
    pool: OfPool = None,
    as_role: AsRole = "operator",
    utc_offset: Offset = None,
    passphrase_file: options.KeysPassphraseFile = None,
    signer: options.SignerCommand = None,
    lang: options.Lang = None,
    as_json: options.Json = False,
) -> None:
    """Check and sign what HPL, HPCC, HPL-MxP or HPCG printed.

    Every run is checked, and those that pass are evidence; a statement shows them and never adds them to its sums.
    """
    from certify.evidence.output import ReaderOptions
    from certify.statement.brought.importing import ImportRequest

    read = ReaderOptions(utc_offset_minutes=_offset_minutes(utc_offset))
    role, named = _role(as_role), tuple(nodes or ())
    request = ImportRequest("hpl", tuple(files), campaign, out, role, centre, named, pool, read)
    _import(request, key, passphrase_file, signer, as_json=as_json)


def _add_bus_command(family: Family, printed_by: str, example: str) -> None:
    """Add the command of one tool that measures a bus."""

    @app.command(
        family,
        help=f"Check and sign what {printed_by}: supporting evidence, which never counts.",
        epilog=f"Example: petaseal import {family} {example} --campaign DIR --key operator.pem --out DIR/evidence",
    )
    def import_buses(
        files: Files,
        campaign: ForCampaign,
        key: Key,
        out: Out,
        centre: OfCentre = None,
        nodes: Nodes = None,
        pool: OfPool = None,
        as_role: AsRole = "operator",
        collective: Collective = None,
        ranks: Ranks = None,
        passphrase_file: options.KeysPassphraseFile = None,
        signer: options.SignerCommand = None,
        lang: options.Lang = None,
        as_json: options.Json = False,
    ) -> None:
        from certify.evidence.output import ReaderOptions
        from certify.statement.brought.importing import ImportRequest

        read = ReaderOptions(collective=_collective(collective), ranks=ranks)
        role, named = _role(as_role), tuple(nodes or ())
        request = ImportRequest(family, tuple(files), campaign, out, role, centre, named, pool, read)
        _import(request, key, passphrase_file, signer, as_json=as_json)


_add_bus_command("nccl-tests", "nccl-tests printed, text or JSON", "all.json")
_add_bus_command("hccl-test", "hccl_test printed", "all.txt")


def _import(
    request: ImportRequest, key: list[Path], passphrase_file: Path | None, signer: str | None, *, as_json: bool
) -> None:
    """Import the files, print what was read of each, and end with 1 where no run of any passed."""
    from bench.clock import check_clock
    from bench.language import language
    from bench.record.sources import tool
    from certify.keys.loading import load_signing_key
    from certify.statement.brought.imported import imported_lines
    from certify.statement.brought.importing import import_files

    check_clock()
    keys = [load_signing_key(path, passphrase_file, signer) for path in key]
    if len({one.public.keyid for one in keys}) != len(keys):
        raise RefusedError("signature-duplicate", "one key is given twice", where="--key")
    made = import_files(request, keys, tool(), options.utc_now())
    passed = any(one.has_passed for one in made)
    lines = [line for one in made for line in imported_lines(one, language())]
    report(as_json, {"passed": passed, "documents": [one.as_json() for one in made]}, lines)
    # Raised after the report, which says of each run why it is no evidence.
    if not passed:
        raise RefusedError("evidence-none-passed", "no run passed: there is nothing to bring", where=request.files[0])


def _role(text: str) -> Literal["operator", "witness"]:
    if text == "operator":
        return "operator"
    if text == "witness":
        return "witness"
    raise InputError("usage", f"{text[:20]!r} is neither operator nor witness", where="--as")


def _collective(text: str | None) -> str | None:
    """Return the name of a collective that was typed, in the form that documents use."""
    from certify.evidence.buses import FACTORS

    if text is None or text in FACTORS:
        return text
    raise InputError("usage", f"{text[:40]!r} is none of {', '.join(FACTORS)}", where="--collective")


def _offset_minutes(text: str | None) -> int | None:
    """Return an offset from UTC that was typed, in minutes."""
    if text is None:
        return None
    match = _OFFSET.fullmatch(text)
    minutes = 0 if match is None else int(match[2]) * 60 + int(match[3] or 0)
    if match is None or minutes > MOST_OFFSET_MINUTES or int(match[3] or 0) >= 60:
        raise InputError("usage", f"{text[:20]!r} is no offset such as +08:00 or -03:30", where="--utc-offset")
    return -minutes if match[1] == "-" else minutes
