"""The home of each reason code: its rule's words, the functions that yield it, and the test that tries to break it.

`configs/homes.json` holds it, so that an installed petaseal can say it too; `make docs` makes it from the pages, the
source and the tests (`sites`, `naming`), and a test fails where it is not current.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.codes import naming, sites

DOCS = sites.ROOT / "docs"
ATTACKED = Path(__file__).parent / "attacked.yaml"
LONGEST = 700  # letters of a rule's text
MOST_FUNCTIONS = 3  # of the functions that yield a code, those that are named; how many more there are is said


class Section(NamedTuple):
    """A section of a page: its anchor, how deep its heading is, and its lines, those of sections within it too."""

    anchor: str
    depth: int
    lines: list[str]


def anchor_of(heading: str) -> str:
    """Return the anchor that a heading gets: in lower case, without marks, with hyphens for spaces."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip().lower())
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


@cache
def sections(page: str) -> dict[str, Section]:
    """Return the sections of a page of docs/ by their anchors."""
    found: list[Section] = []
    is_code = False
    for line in (DOCS / page).read_text().splitlines():
        is_code ^= line.startswith("```")
        heading = None if is_code else re.match(r"(#+) (.*)", line)
        if heading:
            found.append(Section(anchor_of(heading[2]), len(heading[1]), []))
            continue
        for place, section in enumerate(found):
            if all(later.depth > section.depth for later in found[place + 1 :]):
                section.lines.append(line)
    return {section.anchor: section for section in found}


def _blocks(lines: list[str]) -> Iterator[str]:
    """Yield paragraphs, items of lists and rows of tables."""
    block: list[str] = []
    for line in [*lines, ""]:
        if not line.strip() or line.startswith("|") or re.match(r"\s*([-*]|\d+\.) ", line):
            if block:
                yield " ".join(block)
            block = []
        if line.strip():
            block.append(line.strip())


def _plain(text: str) -> str:
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("**", "").replace("`", "").strip()


def _row(row: str) -> str:
    """Return a row of a table as a text: without the cells that only list other codes."""
    cells = [cell.strip() for cell in row.strip("|").split(" | ")]
    kept = [cell for cell in cells if cell.count("`") <= 4 or len(cell) > 30 * cell.count("`")]
    if cells and cells[0].isdigit():
        kept[0] = f"step {cells[0]}"
    return "; ".join(cell for cell in kept if cell)


def rule_text(rule: str, code: str) -> str:
    """Return the words of a page that name a code: a row, an item or a sentence; nothing where none do."""
    page, _, anchor = rule.partition("#")
    section = sections(page).get(anchor) if (DOCS / page).is_file() else None
    for block in _blocks(section.lines) if section else ():
        if f"`{code}`" not in block:
            continue
        text = _row(block) if block.startswith("|") else block
        sentences = re.split(r"(?<=[.;:])\s+(?=[A-Z`*])", text)
        if len(text) > LONGEST // 2 and not block.startswith("|"):
            text = next(sentence for sentence in sentences if f"`{code}`" in sentence)
        text = _plain(text)
        return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    return ""


@cache
def chosen_tests() -> dict[str, str]:
    """Return the test that breaks each code, as it was chosen by running them (`attack --choose`)."""
    chosen: dict[str, str] = yaml.safe_load(ATTACKED.read_text()) or {}
    return chosen


def tests_of(code: str) -> list[str]:
    """Return the tests that name a code, the chosen one first, wherever it was moved to since."""
    named = [one.test for one in naming.tests_naming(frozenset(reasons()))[code]]
    chosen = chosen_tests().get(code)
    if chosen is not None and chosen not in named:
        name = chosen.rpartition("::")[2]
        chosen = next((test for test in named if test.rpartition("::")[2] == name), None)
    return named if chosen is None else [chosen, *(test for test in named if test != chosen)]


@cache
def reasons() -> dict[str, dict[str, Any]]:
    """Return the table of reason codes as it is written."""
    table: dict[str, dict[str, Any]] = yaml.safe_load((sites.ROOT / "configs" / "reasons.yaml").read_text())
    return table


def homes() -> dict[str, dict[str, Any]]:
    """Return the home of each code."""
    found = sites.sites_of(reasons().keys())
    made = {}
    for code, entry in reasons().items():
        places = [{"function": site.function, "file": site.file} for site in found[code]]
        made[code] = {
            "text": rule_text(entry["rule"], code),
            "functions": places[:MOST_FUNCTIONS],
            "further": max(0, len(places) - MOST_FUNCTIONS),
            "test": next(iter(tests_of(code)), None),
        }
    return made


def homes_file() -> str:
    """Return the file, a line for each code."""
    lines = [f"{json.dumps(code)}: {json.dumps(home, ensure_ascii=False)}" for code, home in sorted(homes().items())]
    return "{\n" + ",\n".join(lines) + "\n}\n"
