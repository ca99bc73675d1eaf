"""Every text of the catalogue is used, none is missing, and both languages say the same values."""

from __future__ import annotations

import ast
import io
import string
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from bench.errors import InputError
from bench.language import both, choose_language, language, locale_language, messages, messages_of, text

ROOT = Path(__file__).resolve().parents[2]


class Use(NamedTuple):
    """One use of the catalogue: its place, the expression of its area, that of its key, and the values that it gives.

    No key: any of the area. No values: they cannot be told from the source.
    """

    where: str
    area: ast.expr
    key: ast.expr | None
    values: set[str] | None


AT = {"text": 0, "both": 0, "text_in": 1, "messages_of": 0, "said_in": 1}  # function -> place of the area
ANY_KEY = ("messages_of", "said_in")


def uses() -> Iterator[Use]:
    """Yield each use of the catalogue in the product."""
    for room in ("bench", "certify"):
        for path in (ROOT / room).rglob("*.py"):
            source = path.read_text()
            if "bench.language" not in source:
                continue
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in AT:
                    area, *after = node.args[AT[node.func.id] :]
                    key = None if node.func.id in ANY_KEY else after[0]
                    given = {one.arg for one in node.keywords if one.arg is not None}
                    known = given if len(given) == len(node.keywords) else None
                    yield Use(f"{path.relative_to(ROOT)}:{node.lineno}", area, key, known)


def literals(node: ast.expr) -> set[str] | None:
    """Return the texts that an argument can be, as far as it is a literal or a choice of two; else None."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {node.value}
    if isinstance(node, ast.IfExp):
        first, second = literals(node.body), literals(node.orelse)
        return None if first is None or second is None else first | second
    return None


def keys_of(use: Use) -> set[str]:
    """Return the keys that a use can have; those of the whole area where it is computed, such as a code."""
    (area,) = literals(use.area) or {""}
    assert area in messages(), f"{use.where}: no area {area!r}: its name must be a literal"
    keys = None if use.key is None else literals(use.key)
    return set(messages()[area]) if keys is None else keys


def test_no_key_is_missing_and_none_is_unused() -> None:
    used: dict[str, set[str]] = {}
    for use in uses():
        (area,) = literals(use.area) or {""}
        used.setdefault(area, set()).update(keys_of(use))
    known = {area: set(keys) for area, keys in messages().items()}
    assert {area: keys - known[area] for area, keys in used.items() if keys - known[area]} == {}, "missing"
    assert {area: keys - used.get(area, set()) for area, keys in known.items() if keys - used.get(area, set())} == {}


def test_each_use_gives_the_values_that_its_text_names() -> None:
    checked = 0
    for use in uses():
        if use.key is None or use.values is None or literals(use.key) is None:
            continue
        (area,) = literals(use.area) or {""}
        for key in keys_of(use):
            assert names(messages()[area][key].en) == use.values, f"{use.where}: {area}.{key}"
            checked += 1
    assert checked > 50


def test_an_area_that_is_not_there() -> None:
    with pytest.raises(InputError, match="no such file"):
        messages_of("nowhere")


def names(message: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(message) if name is not None}


def test_both_languages_name_the_same_values() -> None:
    for area, keys in messages().items():
        for key, message in keys.items():
            assert names(message.en) == names(message.zh), f"{area}.{key}"
            assert message.en.isascii() or "×" in message.en, f"{area}.{key}: English is ASCII, for any terminal"
            assert not message.zh or not message.zh.isascii() or message.zh == message.en, (
                f"{area}.{key}: is that Chinese?"
            )


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "en"),
        ({"LANG": "C"}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_TW"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": ""}, "zh"),
    ],
)
def test_the_locale_says_the_language(environment: dict[str, str], expected: str) -> None:
    assert locale_language(environment) == expected


def test_a_choice_goes_before_the_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "en_US.UTF-8")
    try:
        choose_language("zh")
        assert language() == "zh"
        assert text("verdict", "met") == both("verdict", "met")["zh"]
    finally:
        choose_language(None)
    assert text("verdict", "met") == both("verdict", "met")["en"]


def test_what_cannot_show_chinese_is_written_to_in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    for encoding, expected in (("ascii", "en"), ("latin-1", "en"), ("utf-8", "zh"), ("gbk", "zh")):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        assert language() == expected
    monkeypatch.setattr(sys, "stdout", None)  # closed at the start
    assert language() == "zh"
