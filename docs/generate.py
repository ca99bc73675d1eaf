"""Make what is made: JSON Schemas of the documents from their types, the home of each reason code, and their page.

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
sys.path.insert(0, str(DOCS.parent))  # where this runs as a script

from tests.codes.homes import homes, homes_file  # noqa: E402

PUBLISHED_AS = {"ReferenceMeasurement": "Companion"}  # type -> its name in the schemas, which stays
EFFECTS = {
    "note": "The figure counts; the code stands beside it.",
    "hold": "The figure counts 0, unless the policy names the code in `accept`; such sums are kept apart.",
    "void": "The figure counts 0.",
    "limit": "Records are not judged: the statement is at most `trusted`; a command that must judge them refuses.",
    "refuse": "A document is not accepted: exit status 1.",
    "input": "The input or usage is wrong and nothing was done: exit status 2.",
    "verdict": "Why a condition of a policy has the verdict it has.",
    "condition": "A kind of a policy's conditions: what is asked, and how it is judged.",
    "line": "A line that a statement or a verification prints: what a figure rests on, or what nobody checked.",
}


def published(schema: Any) -> Any:
    """Return a schema in which every type has the name that it was published under."""
    if isinstance(schema, dict):
        return {PUBLISHED_AS.get(key, key): published(value) for key, value in schema.items()}
    if isinstance(schema, list):
        return [published(value) for value in schema]
    if isinstance(schema, str):
        path, _, name = schema.rpartition("/")
        return f"{path}/{PUBLISHED_AS[name]}" if path and name in PUBLISHED_AS else PUBLISHED_AS.get(schema, schema)
    return schema


def schemas() -> dict[str, str]:
    """Return the JSON Schema of each document's payload, by file name."""
    made = {}
    for name, kind in DOCUMENTS.items():
        schema: dict[str, Any] = msgspec.json.schema(Statement[predicate_type_of(name)])  # type: ignore[misc]
        schema = published(schema)
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
        "Made from `configs/reasons.yaml` by `make docs`. Every code has one effect. Its rule stands in the section",
        "that is named, the function yields it, and the test tries to get past it: it fails where the check is gone.",
        "`petaseal explain CODE` says all of this.",
    ]
    home = homes()
    for effect in get_args(Effect):
        lines += ["", f"## {effect}", "", EFFECTS[effect], ""]
        lines += ["| code | meaning | 含义 | rule | function | test |", "|---|---|---|---|---|---|"]
        lines += [
            f"| `{code}` | {entry.en} | {entry.zh} | [{entry.rule}]({entry.rule}) | {_functions(home[code])}"
            f" | `{home[code]['test']}` |"
            for code, entry in sorted(reasons().items())
            if entry.effect == effect
        ]
    return "\n".join(lines) + "\n"


def _functions(home: dict[str, Any]) -> str:
    """Return the functions that yield a code, each with a link to its file."""
    if not home["functions"]:
        return "none"  # of a code that is being added: tests/codes/test_homes.py names it
    first, *others = home["functions"]
    more = len(others) + home["further"]
    return f"[{first['function']}](../{first['file']}){f' and {more} more' if more else ''}"


def pages() -> dict[str, str]:
    """Return every generated file, by its name below docs/."""
    return {**schemas(), "reasons.md": reason_page(), "../configs/homes.json": homes_file()}


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
