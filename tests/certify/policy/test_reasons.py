"""One table of reason codes: every code in the source stands in it, and it has no code that the source lacks."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from bench.errors import InputError
from bench.record.node import FailureCode
from certify.policy import reasons

ROOT = Path(__file__).resolve().parents[3]
SOURCES = [path for room in ("bench", "certify", "kernels") for path in sorted((ROOT / room).rglob("*.py"))]
ERRORS = {"InputError", "RefusedError", "DeviceError", "PetasealError"}
JUDGES = {
    "rules.py",
    "plausibility.py",
    "products.py",
    "telemetry.py",
    "parts.py",
    "tally.py",
    "scope.py",
    "closing.py",
    "ceilings.py",
}  # where an appended or returned text is a code


def raised(tree: ast.AST) -> Iterator[str]:
    """Yield the code of every error that is made with a literal code."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS and node.args:
            yield from filter(_is_code, map(_text, ast.walk(node.args[0])))


def judged(tree: ast.AST) -> Iterator[str]:
    """Yield every literal text that is appended to a list, or that stands in what a function returns."""
    for node in ast.walk(tree):
        found: list[ast.AST] = []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append":
            found = list(node.args)
        elif isinstance(node, ast.Return) and node.value is not None:
            value = node.value
            parts = [value.body, value.orelse] if isinstance(value, ast.IfExp) else [value]
            found = [element for part in parts if isinstance(part, ast.Tuple) for element in part.elts]
        for part in found:
            choices = [part.body, part.orelse] if isinstance(part, ast.IfExp) else [part]
            yield from filter(_is_code, map(_text, choices))


def _text(node: ast.AST) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _is_code(text: str) -> bool:
    return text.islower() and " " not in text


def test_every_code_in_the_source_stands_in_the_table() -> None:
    table = set(reasons.reasons())
    found: dict[str, Path] = {code: Path("FailureCode") for code in get_args(FailureCode)}
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        found |= dict.fromkeys(raised(tree), path)
        if path.name in JUDGES:
            found |= dict.fromkeys(judged(tree), path)
    assert len(found) > 80
    missing = {code: path.name for code, path in found.items() if code not in table}
    assert not missing


def test_every_code_in_the_table_is_used() -> None:
    texts = {
        node.value
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert sorted(set(reasons.reasons()) - texts) == []


def test_an_unknown_code_never_counts() -> None:
    assert reasons.effect_of("no-such-code") == "void"
    with pytest.raises(InputError) as caught:
        reasons.explain("no-such-code")
    assert caught.value.code == "unknown-name"


def test_a_code_that_was_just_added_is_explained_before_its_home_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasons, "homes", dict)
    rule, how, functions, test = reasons.home_lines("not-steady")
    assert (rule, how) == ("rule: docs/run-rules.md#r6-step-by-step", "  not known yet: run make docs")
    assert (functions, test) == ("enforced by: no function that is known", "attacked by: no test that is known")
    assert reasons.home_lines("no-such-code") == []


def test_texts_are_whole_sentences_in_both_languages() -> None:
    for code, entry in reasons.reasons().items():
        assert entry.en.endswith("."), code
        assert entry.zh.endswith("。"), code
        assert "认证" not in entry.zh, code
        assert "证书" not in entry.zh, code


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("R5", "the codes of R5 are wrong-product,"),
        ("r2", "see docs/run-rules.md#r2"),
        ("threshold", "is it threshold-not-met or hpl-threshold-differs or condition-threshold?"),
        ("not-stedy", "is it not-steady?"),
        ("R99", "see docs/reasons.md"),
        ("", "see docs/reasons.md"),
    ],
)
def test_what_is_no_code_leads_to_those_that_may_be_meant(text: str, near: str) -> None:
    with pytest.raises(InputError, match="there is no reason code") as caught:
        reasons.explain(text)
    assert near in str(caught.value)
