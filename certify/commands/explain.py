"""``petaseal explain``: what a reason code means, which rule stands behind it, who enforces it, and who attacks it."""

from __future__ import annotations

from typing import Annotated

import typer

from certify.commands.options import Json
from certify.commands.output import report

app = typer.Typer()


@app.command(epilog="Example: petaseal explain not-steady")
def explain(
    code: Annotated[str, typer.Argument(metavar="CODE", help="Reason code, as printed in brackets.")],
    as_json: Json = False,
) -> None:
    """Say what a reason code means and does, its rule, the function that enforces it and the test that attacks it."""
    import msgspec

    from certify.policy import reasons

    entry, mended, home = reasons.explain(code), reasons.mending().get(code), reasons.home_of(code)
    said = msgspec.to_builtins(home)
    value = {
        "code": code,
        **msgspec.to_builtins(entry),
        "mend": msgspec.to_builtins(mended),
        "rule_text": said["text"],
        "functions": said["functions"],
        "further_functions": said["further"],
        "test": said["test"],
    }
    lines = [
        f"{code} ({entry.effect}, {entry.rule})",
        *(f"  {text}" for text in (entry.en, entry.zh)),
        *(f"  {text}" for text in (() if mended is None else (mended.en, mended.zh))),
        *(f"  {line}" for line in reasons.home_lines(code)),
    ]
    report(as_json, value, lines)
