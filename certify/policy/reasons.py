"""The one table of reason codes: what each means, and what it does to a figure or a document.

Effects: ``note`` counts; ``hold`` counts 0 unless the policy accepts the code; ``void`` counts 0; ``limit`` means that
records are not judged, so that their statement is at most trusted; ``refuse`` means that a document is not accepted
(exit 1); ``input`` means that nothing was done (exit 2); ``verdict`` explains a verdict.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

from bench.errors import InputError
from bench.record import Document, Text, config_path, read_yaml

Effect = Literal["note", "hold", "void", "limit", "refuse", "input", "verdict"]


class Reason(Document, frozen=True, kw_only=True):
    """One reason code: its effect, the rule or section it comes from, and its texts."""

    effect: Effect
    rule: Text
    en: Text
    zh: Text
    witness: bool = False  # a hold that a policy may accept where a witness recomputed the statement


class Mending(Document, frozen=True, kw_only=True):
    """Who can do what about a code that is known before anything is measured."""

    en: Text
    zh: Text


@cache
def mending() -> dict[str, Mending]:
    """Return the table of what can be done beforehand, by code."""
    return read_yaml(config_path("mending.yaml"), dict[str, Mending])


@cache
def reasons() -> dict[str, Reason]:
    """Return the table, by code."""
    return read_yaml(config_path("reasons.yaml"), dict[str, Reason])


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
        raise InputError("unknown-name", f"there is no reason code {code!r}", fix="see docs/reasons.md") from None
