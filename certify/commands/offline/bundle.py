"""The command ``bundle``; what it makes is `certify.offline.bundle`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def mount(app: typer.Typer) -> None:
    """Add the command to the root."""

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
        as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")] = False,
    ) -> None:
        """Make one archive that installs petaseal on nodes without a network."""
        from certify.offline import bundle as bundles
        from certify.offline.wheels import normalised

        targets = bundles.targets_of(platform or bundles.MACHINES, python or [bundles.running_python()])
        with bundles.ended_like_interrupt(), bundles.progress(as_json) as tell:
            made = bundles.make_bundle(out, targets, [normalised(name) for name in extra or ()], tell)
        typer.echo(json.dumps(made.as_json(), sort_keys=True) if as_json else "\n".join(made.lines()))
