"""The one table of reason codes: what each means, and what it does to a figure or a document.

Effects: ``note`` counts; ``hold`` counts 0 unless the policy accepts the code; ``void`` counts 0; ``limit`` means that
records are not judged, so that their statement is at most trusted; ``refuse`` means that a document is not accepted
(exit 1); ``input`` means that nothing was done (exit 2); ``verdict`` explains a verdict; ``condition`` is a kind of a
policy's conditions; ``line`` is a line that a statement or a verification prints, such as what was NOT CHECKED.

Every code leads home: ``rule`` is a section of docs/ that says the rule, and ``configs/homes.json``, which
``make docs`` derives from the source and the tests, has the rule's words, the functions that yield the code and the
test that breaks it.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import msgspec

from bench.errors import InputError
from bench.language import Language, text_in
from bench.record import Document, Text, config_path, read_yaml

Effect = Literal["note", "hold", "void", "limit", "refuse", "input", "verdict", "condition", "line"]


class Reason(Document, frozen=True, kw_only=True):
    """One reason code: its effect, the section of docs/ that says its rule (``page.md#anchor``), and its texts."""

    effect: Effect
    rule: Text
    en: Text
    zh: Text
    witness: bool = False  # a hold that a policy may accept where a witness recomputed the statement


class Enforcer(Document, frozen=True, kw_only=True):
    """A function that yields a code, by its full name, and the file that it stands in."""

    function: str
    file: str


class Home(Document, frozen=True, kw_only=True):
    """What stands behind a code: the rule's words, the functions that yield it, the test that fails without them."""

    text: str
    functions: tuple[Enforcer, ...]
    further: int  # functions that are not named
    test: str | None  # path::function


class Mending(Document, frozen=True, kw_only=True):
    """Who can do what about a code that is known before anything is measured."""

    en: Text
    zh: Text


class _Mended(msgspec.Struct):
    """The part of the doctor's table that is about codes; its checks are `bench.doctor`'s to read."""

    codes: dict[str, Mending]


@cache
def mending() -> dict[str, Mending]:
    """Return the table of what can be done beforehand, by code."""
    return read_yaml(config_path("doctor.yaml"), _Mended).codes


@cache
def reasons() -> dict[str, Reason]:
    """Return the table, by code."""
    return read_yaml(config_path("reasons.yaml"), dict[str, Reason])


@cache
def homes() -> dict[str, Home]:
    """Return what stands behind each code."""
    return msgspec.json.decode(config_path("homes.json").read_bytes(), type=dict[str, Home])


def home_of(code: str) -> Home:
    """Return what stands behind a code of the table."""
    # a code that a contributor has just added has no home until the generated table is made anew
    return homes().get(code) or Home(text="not known yet: run make docs", functions=(), further=0, test=None)


def home_lines(code: str, lang: Language = "en") -> list[str]:
    """Return the rule, the functions and the test behind a code as printed lines; none for an unknown code."""
    entry = reasons().get(code)
    if entry is None:
        return []
    home = home_of(code)
    further = text_in(lang, "explain", "further", count=home.further) if home.further else ""
    functions = ", ".join(f"{one.function} ({one.file})" for one in home.functions)
    functions = functions or text_in(lang, "explain", "no-function")
    return [
        text_in(lang, "explain", "rule", rule=f"docs/{entry.rule}"),
        f"  {home.text}",
        text_in(lang, "explain", "enforced", functions=functions + further),
        text_in(lang, "explain", "attacked", test=home.test or text_in(lang, "explain", "no-test")),
    ]


def effect_of(code: str) -> Effect:
    """Return the effect of a code; a code that the table lacks voids, so that nothing unknown ever counts."""
    return _effects().get(code, "void")


@cache
def _effects() -> dict[str, Effect]:
    return {code: entry.effect for code, entry in reasons().items()}


def explain(code: str) -> Reason:
    """Return a code's entry.

    Raises:
        InputError: there is no such code.
    """
    try:
        return reasons()[code]
    except KeyError:
        raise InputError("unknown-name", f"there is no reason code {code!r}", fix=_near(code)) from None


def _near(text: str) -> str:
    """Return which codes somebody may have meant: those of a rule, those that hold the word, those spelled alike."""
    from difflib import get_close_matches

    anchor = f"run-rules.md#{text.lower()}"
    of_rule = [code for code, entry in reasons().items() if entry.rule.partition("-step")[0] == anchor]
    if of_rule:
        return f"the codes of {text.upper()} are {', '.join(of_rule)}; see docs/{anchor}"
    near = [code for code in reasons() if text in code.split("-")][:3]
    near = get_close_matches(text, reasons(), n=3, cutoff=0.75) or near
    return f"is it {' or '.join(near)}? see docs/reasons.md" if near else "see docs/reasons.md"
