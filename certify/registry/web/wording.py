"""Words and numbers of the pages: every text in both languages, and how a figure, a time or a code is shown.

What is shown is truncated, never rounded up (`bench.units`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from bench.record import Grade, read_yaml
from bench.units import MFLOP_PER_PFLOP, percent_text, rate_text, truncated
from certify.policy.centre import Bilingual
from certify.policy.reasons import reasons
from certify.registry.api.common import TrustStatus

Lang = Literal["zh", "en"]
LANGS: tuple[Lang, ...] = get_args(Lang)
TAGS: dict[Lang, str] = {"zh": "zh-CN", "en": "en"}  # BCP 47
NBSP = "\u00a0"
SENSIBLE = 100 * MFLOP_PER_PFLOP  # from here one digit after the point says enough


@cache
def texts() -> dict[str, Bilingual]:
    """Return every text by its key."""
    return read_yaml(Path(__file__).with_name("texts.yaml"), dict[str, Bilingual])


def said(text: Bilingual, lang: Lang) -> str:
    """Return the Chinese or the English form of a text."""
    return text.zh if lang == "zh" else text.en


def wording(lang: Lang) -> Callable[..., str]:
    """Return the function that gives a text of `texts.yaml` in a language, its places filled in."""
    table = texts()

    def text(key: str, **values: object) -> str:
        return said(table[key], lang).format(**values) if values else said(table[key], lang)

    return text


def reason_text(code: str | None, lang: Lang) -> str:
    """Return what a reason code means; nothing for one that the table lacks."""
    entry = reasons().get(code or "")
    return "" if entry is None else entry.zh if lang == "zh" else entry.en


def known(prefix: str, value: str, lang: Lang) -> str:
    """Return the word for a value of a closed list, or the value itself where a later registry knows more of them."""
    entry = texts().get(f"{prefix}.{value}")
    return value if entry is None else said(entry, lang)


def missing_text(code: str, lang: Lang) -> str:
    """Return why statements count nothing in a city's sum."""
    worded = known("missing", code, lang)
    return worded if worded != code else reason_text(code, lang) or code


def rate(mflop_s: int | None) -> str:
    """Return a rate as a text, truncated, with as many digits as make sense."""
    if mflop_s == 0:
        return f"0{NBSP}PFLOPS"
    if mflop_s is not None and mflop_s >= SENSIBLE:
        return f"{truncated(mflop_s, MFLOP_PER_PFLOP, 1)}{NBSP}PFLOPS"
    return rate_text(mflop_s).replace(" ", NBSP)


def percent(ppm: int | None) -> str:
    """Return a ratio as per cent, truncated."""
    return percent_text(ppm).replace(" ", NBSP)


def moment(text: str) -> str:
    """Return a time to the second, without its zone: the heading names it."""
    return f"{text[:10]} {text[11:19]}"


def count(number: int) -> str:
    """Return a count with its thousands parted."""
    return f"{number:,}"


def proves_nothing(simulated: bool, grade: Grade | None) -> str | None:
    """Return which warning a statement bears: the part of its keys after ``warn.`` and ``mark.``."""
    if simulated:
        return "simulated"
    return {"smoke": "smoke", None: "nothing"}.get(grade)


@dataclass(frozen=True)
class Site:
    """What every page says of its registry."""

    name: Bilingual
    version: str
    keyid: str
    accepts_simulated: bool
    root_path: str = ""  # before every path of its pages, assets and API
    rehearsal: bool = False  # simulated statements add up in it, and they alone


@dataclass(frozen=True)
class Frame:
    """The address of a page. `path` is the part after the language; `query` has its question mark or is empty."""

    site: Site
    lang: Lang
    path: str
    query: str
    at: str
    trust: TrustStatus | None = None

    @property
    def tag(self) -> str:
        """The language as a browser knows it."""
        return TAGS[self.lang]

    @property
    def other(self) -> Lang:
        """The language that the page is not in."""
        return "en" if self.lang == "zh" else "zh"

    def url(self, path: str, lang: Lang | None = None) -> str:
        """Return the address of a page in this language or another."""
        return self.at_root(f"/{lang or self.lang}/{path}")

    def at_root(self, path: str) -> str:
        """Return the address of a path of the registry."""
        return f"{self.site.root_path}{path}"
