"""Each hold of a figure names a way in which it could be too high, each note says why it is none: docs/run-rules.md."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from certify.policy.reasons import effect_of, reasons

PAGE = Path(__file__).parents[3] / "docs/run-rules.md"
# Pages whose notes and holds are those of figures; the others speak of documents, fleets and registries.
OF_FIGURES = {"run-rules.md", "audit.md", "formats.md", "policies.md"}


def table() -> dict[str, tuple[str, str]]:
    """Return the page's table: code -> (how the figure could be too high, effect)."""
    section = PAGE.read_text(encoding="utf-8").partition("## What holds and what is noted")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.+`) \| (.+) \| (note|hold|void) \|$", section, flags=re.MULTILINE)
    return {code: (why, effect) for codes, why, effect in rows for code in re.findall(r"`([^`]+)`", codes)}


def test_each_hold_and_note_of_a_figure_has_its_sentence() -> None:
    pages = {code: entry.rule.partition("#")[0] for code, entry in reasons().items()}
    wanted = {code for code, page in pages.items() if page in OF_FIGURES and effect_of(code) in ("note", "hold")}
    assert wanted - table().keys() == set()


def test_the_effects_are_those_of_the_table_of_reasons() -> None:
    for code, (why, effect) in table().items():
        assert reasons()[code].effect == effect, code
        if effect == "note":  # a note says why the figure cannot be too high by it, or what stands against that
            assert re.match(r"not\b|says nothing|it is above", why), code
        else:
            assert not re.match(r"not\b", why), code


def test_each_rule_is_judged_where_the_page_says() -> None:
    judged: dict[int, set[str]] = {}
    for path in sorted((PAGE.parents[1] / "certify/judge").glob("*.py")):
        for top in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(top, ast.FunctionDef) and (number := re.match(r"r(\d+)_", top.name)):
                judged.setdefault(int(number[1]), set()).update({path.name, top.name})
    rows = re.findall(r"^\| R(\d+) \|.*\| ([^|]+) \|$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert {int(number): set(re.findall(r"`([^`]+)`", cell)) for number, cell in rows} == judged
    assert judged.keys() == set(range(1, 16))
