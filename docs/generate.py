"""Make what is made in docs/: JSON Schemas of the documents from their types, and the page of reason codes.

`make docs` runs it; a test fails when the committed files are not what it makes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, get_args

import msgspec

from certify.documents.kinds import DOCUMENTS, Statement, predicate_type_of
from certify.policy.reasons import Effect, reasons

DOCS = Path(__file__).resolve().parent
EFFECTS = {
    "note": "The figure counts; the code stands beside it.",
    "hold": "The figure counts 0, unless the policy names the code in `accept`; such sums are kept apart.",
    "void": "The figure counts 0.",
    "limit": "Records are not judged: the statement is at most `trusted`; a command that must judge them refuses.",
    "refuse": "A document is not accepted: exit status 1.",
    "input": "The input or usage is wrong and nothing was done: exit status 2.",
    "verdict": "Why a condition of a policy has the verdict it has.",
}


def schemas() -> dict[str, str]:
    """Return the JSON Schema of each document's payload, by file name."""
    made = {}
    for name, kind in DOCUMENTS.items():
        schema: dict[str, Any] = msgspec.json.schema(Statement[predicate_type_of(name)])  # type: ignore[misc]
        schema = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": f"{name} ({kind.predicate_type})",
            **schema,
        }
        made[f"schemas/{name}.schema.json"] = json.dumps(schema, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    return made


def reason_page() -> str:
    """Return the page of reason codes, by effect."""
    lines = [
        "# Reason codes",
        "",
        "Made from `configs/reasons.yaml` by `make docs`. Every code has one effect: see `petaseal explain CODE`.",
    ]
    for effect in get_args(Effect):
        lines += ["", f"## {effect}", "", EFFECTS[effect], "", "| code | from | meaning | 含义 |", "|---|---|---|---|"]
        lines += [
            f"| `{code}` | {entry.rule} | {entry.en} | {entry.zh} |"
            for code, entry in sorted(reasons().items())
            if entry.effect == effect
        ]
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """Return every generated file, by its name below docs/."""
    return {**schemas(), "reasons.md": reason_page()}


def main() -> None:
    """Write the files that differ."""
    for name, content in pages().items():
        path = DOCS / name
        if not path.exists() or path.read_text() != content:
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)
            print(f"wrote docs/{name}", file=sys.stderr)


if __name__ == "__main__":
    main()
