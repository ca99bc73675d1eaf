"""``petaseal policy``: by what statements are judged."""

from __future__ import annotations

from typing import Annotated

import typer

from certify.commands.options import Json, Lang, group
from certify.commands.output import report

app = group()


@app.command("list", epilog="Example: petaseal policy list --json")
def listed(lang: Lang = None, as_json: Json = False) -> None:
    """List the installed policies."""
    from bench.record import config_names
    from certify.policy.policies import in_both, load_policy

    policies = [load_policy(name) for name in config_names("policies")]
    report(
        as_json,
        {"policies": [{"policy": p.policy, "title": p.title.en, "status": p.document.status} for p in policies]},
        [f"{p.policy:20} {p.document.status:10} {in_both(p.title, lang, ' ')}" for p in policies],
    )


@app.command("show", epilog="Example: petaseal policy show guangzhou-2000p")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="Installed policy, or a policy file.")],
    lang: Lang = None,
    as_json: Json = False,
) -> None:
    """Print a policy: what it counts and every condition with its clause."""
    import msgspec

    from certify.policy.policies import describe, load_policy

    policy = load_policy(name)
    report(as_json, msgspec.to_builtins(policy), describe(policy, lang))
