"""Declared text as it may be shown: what steers a terminal, a page or the order of letters is written out instead."""

from __future__ import annotations

import unicodedata
from typing import Any, TypeVar, cast

from msgspec import Struct
from msgspec.structs import replace

from bench.errors import escaped

# Controls (ANSI escapes among them), format characters (overrides of direction, marks without width), what stands for
# nothing outside a system (private use, surrogates), and breaks of lines. Characters of these categories are stable
# between releases of Unicode, which those merely without a letter are not: the same page comes from every Python.
STEERING = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})

Value = TypeVar("Value")


def visible_text(text: str) -> str:
    """Return a text in which each character that is not seen, and moves what is, stands as its code."""
    if text.isprintable():
        return text
    return "".join(escaped(c) if unicodedata.category(c) in STEERING else c for c in text)


def visible(value: Value) -> Value:
    """Return a document of which each text is `visible_text`; it is for people, and fits no schema."""
    return cast(Value, _visible(value))


def _visible(value: Any) -> Any:
    shown = value
    if isinstance(value, str):
        shown = visible_text(value)
    elif isinstance(value, tuple):
        parts = tuple(_visible(part) for part in value)
        # most parts of a statement of 10,000 nodes hold only names, and stay what they are
        shown = value if all(a is b for a, b in zip(parts, value, strict=True)) else parts
    elif isinstance(value, dict):
        shown = {_visible(key): _visible(part) for key, part in value.items()}
    elif isinstance(value, Struct):
        parts_of = {name: getattr(value, name) for name in value.__struct_fields__}
        changed = {name: new for name, part in parts_of.items() if (new := _visible(part)) is not part}
        shown = replace(value, **changed) if changed else value
    return shown
