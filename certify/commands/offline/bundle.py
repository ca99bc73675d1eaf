"""The command ``bundle``; what it makes is `certify.offline.bundle`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from certify.commands.options import Json
from certify.commands.output import report

app = typer.Typer()


@app.command(epilog="Example: petaseal bundle --out petaseal-bundle.tar.gz --python 3.10 --python 3.12")
def bundle(
    out: Annotated[Path, typer.Option(help="Archive to make (.tar.gz); never overwrites one.")],
    platform: Annotated[
        list[str] | None, typer.Option(help="x86_64 or aarch64; may be repeated (default: both).")
    ] = None,
    python: Annotated[
        list[str] | None, typer.Option(help="Such as 3.10; may be repeated (default: the one that runs this).")
    ] = None,
    extra: Annotated[
        list[str] | None, typer.Option(help="Such as cuda12; may be repeated. torch comes only with --extra torch.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make one archive that installs petaseal on nodes without a network."""
    from packaging.utils import canonicalize_name

    from certify.offline import bundle as bundles

    # Offline nodes often have another processor and Python than the machine with a network.
    targets = bundles.targets_of(platform or bundles.MACHINES, python or [bundles.running_python()])
    with bundles.ended_like_interrupt(), bundles.progress(as_json) as note:
        made = bundles.make_bundle(out, targets, [canonicalize_name(name) for name in extra or ()], note)
    report(as_json, made.as_json(), made.lines())
