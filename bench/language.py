"""The language of what people see on a terminal: English or Chinese, each text once, in ``configs/messages/``.

Machines read ``--json``, which knows no language; codes, commands, options and file names are the same in both.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from functools import cache
from typing import Literal, get_args

from bench.record import Document, Text, config_path, read_yaml

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)


class Message(Document, frozen=True, kw_only=True):
    """One text in both languages; ``{name}`` stands for a value that `text` is called with."""

    en: Text
    zh: str  # may be empty: what joins sentences

    def in_language(self, language: Language) -> str:
        """Return the text in one language."""
        return self.zh if language == "zh" else self.en


_NAME = re.compile(r"\\\{(\w+)\\\}")  # of a value, in a template that `re.escape` has passed


class _Chosen:
    """What `--lang` chose, once for a process; None: what the locale says."""

    language: Language | None = None


def choose_language(language: Language | None) -> None:
    """Have `text` return one language from now on; None: that of the locale."""
    _Chosen.language = language


def language() -> Language:
    """Return the language of what people see: the one chosen, else Chinese under a Chinese locale, else English."""
    chosen = _Chosen.language or locale_language(os.environ)
    # Escapes in place of every character could be read by nobody.
    return "en" if chosen == "zh" and not _shows_chinese() else chosen


def _shows_chinese() -> bool:
    """Return whether the encoding of standard output has Chinese characters; a stream that is closed has no say."""
    encoding = getattr(sys.stdout, "encoding", None)
    try:
        return "\u6587".encode(encoding or "utf-8") != b""
    except UnicodeEncodeError:
        return False


def locale_language(environment: Mapping[str, str]) -> Language:
    """Return the language of the locale that an environment sets for messages (POSIX: LC_ALL, LC_MESSAGES, LANG)."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := environment.get(name):
            return "zh" if value.lower().startswith("zh") else "en"
    return "en"


@cache
def messages_of(area: str) -> dict[str, Message]:
    """Return one area of the catalogue, such as a command's, by key.

    Raises:
        InputError: `file-missing`, there is no such area.
    """
    # A file for each: a command parses what it shows, and not the whole catalogue.
    return read_yaml(config_path("messages", f"{area}.yaml"), dict[str, Message])


def messages() -> dict[str, dict[str, Message]]:
    """Return the whole catalogue: by area and key."""
    return {path.stem: messages_of(path.stem) for path in sorted(config_path("messages").glob("*.yaml"))}


def text(area: str, key: str, **values: object) -> str:
    """Return a text of the catalogue in the chosen language.

    Args:
        area: of the catalogue; always a literal, so that a test finds what is missing or unused.
        key: in that area.
        values: for the names in braces.

    Raises:
        KeyError: the catalogue lacks it, or a value lacks for one of its names.
    """
    return messages_of(area)[key].in_language(language()).format(**values)


def text_in(in_language: Language, area: str, key: str, **values: object) -> str:
    """Return a text in a given language, for what is pure and for what machines read; arguments as for `text`."""
    return messages_of(area)[key].in_language(in_language).format(**values)


def said_in(in_language: Language, area: str, english: str) -> str:
    """Return a sentence in a language, from the English one of an area that a report has; an unknown one as it is."""
    if in_language != "en":
        for message in messages_of(area).values():
            if (values := values_of(message, english)) is not None:
                return message.in_language(in_language).format(**values)
    return english


def values_of(message: Message, english: str) -> dict[str, str] | None:
    """Return the values in an English sentence; None where it is not of that message."""
    # Reports are JSON before they are a screen, so that the values stand in the sentence: its template finds them.
    match = re.fullmatch(_NAME.sub(r"(?P<\1>.*)", re.escape(message.en)), english, re.DOTALL)
    return None if match is None else match.groupdict()


def both(area: str, key: str, **values: object) -> dict[str, str]:
    """Return a text in each language, for what shows both; arguments as for `text`."""
    return {one: text_in(one, area, key, **values) for one in LANGUAGES}
