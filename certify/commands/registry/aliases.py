"""``petaseal registry alias``: what a centre's own scheduler calls its nodes."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Annotated

import typer

from bench.errors import InputError
from certify.commands.options import Json
from certify.commands.output import report
from certify.commands.registry.show import Ca, Timeout, TokenFile, Url, connected

FILE_BYTES = 2**24
HEADING = ("node_id", "alias")
app = typer.Typer()


@app.command(
    epilog="Example: petaseal registry alias names.csv --url https://registry.example --centre gz-park-1"
    " --token-file token"
)
def alias(
    url: Url,
    centre: Annotated[str, typer.Option(help="Centre of the nodes.")],
    file: Annotated[
        Path | None,
        typer.Argument(help="CSV with the columns node_id and alias (default: print the names that there are)."),
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Change the nodes of the file alone; an empty alias takes the name away.")
    ] = False,
    token_file: TokenFile = None,
    ca: Ca = None,
    timeout: Timeout = 30.0,
    as_json: Json = False,
) -> None:
    """Say what a centre's own scheduler calls its nodes, as its operator."""
    import msgspec

    if update and file is None:
        raise InputError("usage", "--update is for a file of names", where="--update")
    names = None if file is None else read_names(file)
    with connected(url, token_file, ca, timeout) as there:
        if names is None:
            result = there.aliases(centre)
        elif update:
            result = there.change_aliases(centre, names)
        else:
            result = there.replace_aliases(centre, {node: name for node, name in names.items() if name is not None})
    lines = [",".join(HEADING), *(_line(one.node_id, one.alias) for one in result.aliases)]
    if names is not None:
        lines = [f"{centre}: {len(result.aliases)} node(s) have an alias"]
    lines += [f"note: no statement in force has a record of the node {node_id}" for node_id in result.unknown]
    report(as_json, msgspec.to_builtins(result), lines)


def read_names(file: Path) -> dict[str, str | None]:
    """Return the names of a CSV file by node; None where the alias is empty.

    Raises:
        InputError: `table-invalid`, it has other columns, or a node twice.
    """
    from bench.record import read_given
    from certify.documents.table import read_table
    from certify.registry.api.nodes import MOST_ALIASES

    names: dict[str, str | None] = {}
    for row in read_table(read_given(file, FILE_BYTES), file, HEADING, (), MOST_ALIASES):
        node_id, name = row.values["node_id"], row.values["alias"]
        if node_id in names:
            raise row.fault(f"has the node {node_id} again")
        names[node_id] = name or None
    return names


def _line(*cells: str) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(cells)
    return out.getvalue()
