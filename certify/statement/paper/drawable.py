"""Which characters the fonts of a PDF have, and what is printed in place of those that they lack.

A PDF/A may hold no character without a glyph, and declared text is anybody's. Nothing is guessed and nothing left out:
in place of a character stands 〓 with a number, under which a note gives its code point.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Set
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from bench.errors import InputError, MissingLibraryError

REGULAR, BOLD = "NotoSansSC-Regular.ttf", "NotoSansSC-Bold-GB2312.ttf"
PURPOSE = "to draw a statement as PDF"
MOST_CHARACTERS = 640  # of one text: a centre may list dozens of subsidies in one row
MOST_NARROW = 96  # of one in a narrow column, where a model of 256 characters would fill a page
MOST_NOTES = 60  # of code points
# A line breaks at spaces and between Chinese characters; what has neither, such as a row of commas, gets places where
# it may break.
_UNBREAKABLE = r"[^\s\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff]"
_LONG_RUN = re.compile(_UNBREAKABLE + "{25,}")
_NARROW_RUN = re.compile(_UNBREAKABLE + "{7,}")
_SEGMENT = re.compile(r"[^-._/:]*[-._/:]{1,4}|[^-._/:]+")  # of a long run: a line breaks best behind these
_STEP, _WHOLE = 4, 6  # characters between two breaks, and of a segment that stays whole
# Marks stand over the character before them, however many there are; format characters reorder or hide others. Of what
# the fonts have, no release of Python sorts one differently.
_NEVER = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp", "Mn", "Me", "Mc"})

Item = str | int | None  # a part of a text: characters, the number of a note, or a place where a line may break


class FontSet(NamedTuple):
    """The two fonts of a PDF.

    Args:
        folder: that holds them and no other font.
        sha256: over the digests of both.
        regular: characters that the regular one has.
        bold: characters that the bold one has.
    """

    folder: Path
    sha256: str
    regular: Set[str]
    bold: Set[str]


@cache
def fonts() -> FontSet:
    """Return the fonts of the distribution `petaseal-fonts`, whose digests were checked.

    Raises:
        MissingLibraryError: it is not installed, or fontTools is not.
        InputError: `font-altered`.
    """
    try:
        import petaseal_fonts
        from fontTools.ttLib import TTFont
    except ImportError as error:
        raise MissingLibraryError(str(error.name).split(".")[0].replace("_", "-"), PURPOSE, "report") from None

    folder = petaseal_fonts.FOLDER
    digests = petaseal_fonts.SHA256
    # A font that was exchanged draws another figure than the one that was signed, and the text beneath stays right.
    check_fonts(folder, digests)
    have = {}
    for name in (REGULAR, BOLD):
        with TTFont(folder / name, lazy=True) as font:
            have[name] = frozenset(map(chr, font.getBestCmap()))
    known = "".join(f"{name}:{digests[name]}\n" for name in sorted(digests))
    return FontSet(folder, hashlib.sha256(known.encode()).hexdigest(), have[REGULAR], have[BOLD])


def check_fonts(folder: Path, digests: dict[str, str]) -> None:
    """Refuse a folder of fonts that holds others than those of the digests.

    Raises:
        InputError: `font-altered`.
    """
    there = {path.name for path in folder.iterdir() if path.suffix.lower() in (".ttf", ".otf", ".ttc", ".otc")}
    for name in sorted(there | set(digests)):
        path = folder / name
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest() if name in there else None
        if sha256 is None or digests.get(name) != sha256:
            what = "is missing" if sha256 is None else "is not a font that petaseal-fonts was released with"
            raise InputError("font-altered", what, where=path, fix="install petaseal-fonts again")


class DrawnText:
    """Makes the texts of one PDF drawable, and keeps which characters it could not draw.

    Args:
        regular: characters that the font has.
        bold: characters that the font of headings has.
    """

    def __init__(self, regular: Set[str], bold: Set[str]) -> None:
        self._regular, self._bold = regular, bold
        self._not_bold: set[str] = set()
        self._numbers: dict[str, int] = {}  # character -> its note

    def notes(self) -> list[str]:
        """Return the code points of the characters that were not drawn, by their numbers from 1 on."""
        return [f"U+{ord(character):04X}" for character in self._numbers]

    def not_bold(self) -> str:
        """Return the characters that were drawn and that the bold font lacks."""
        return "".join(sorted(self._not_bold))

    def value(self, value: Any) -> Any:
        """Return a JSON value in which every text is one that `text` makes.

        Keys are ours and stay; so does a text that the font draws as it is.
        """
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {key: self.value(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(each) for each in value]
        return value

    def text(self, text: str, narrow: bool = False) -> str | list[Item]:
        """Return a text that the font draws as it is, else its parts.

        Args:
            text: anybody's.
            narrow: for a narrow column: a line may break within shorter words.
        """
        most = MOST_NARROW if narrow else MOST_CHARACTERS
        if len(text) > most:
            text = f"{text[:most]}… (+{len(text) - most})"
        items = [item for part in self._parts(text) for item in _breakable(part, narrow)]
        return items[0] if len(items) == 1 and isinstance(items[0], str) else items

    def narrow(self, text: str) -> str | list[Item]:
        """Return a text for a narrow column."""
        return self.text(text, narrow=True)

    def _parts(self, text: str) -> Iterator[str | int]:
        plain = ""
        for character in text:
            if unicodedata.category(character) == "Zs" and character != "\u3000":
                character = " "  # one that no line may break at looks the same
            if self._is_drawn(character):
                plain += character
                if character not in self._bold:
                    self._not_bold.add(character)
                continue
            if plain:
                yield plain
            plain = ""
            yield self._numbers.setdefault(character, len(self._numbers) + 1)
        if plain or not text:
            yield plain

    def _is_drawn(self, character: str) -> bool:
        return character in self._regular and unicodedata.category(character) not in _NEVER


def _breakable(part: str | int, narrow: bool) -> Iterator[Item]:
    """Yield the pieces of a part, with None wherever a line may break in addition."""
    if isinstance(part, int):
        yield part
        return
    at = 0
    for run in (_NARROW_RUN if narrow else _LONG_RUN).finditer(part):
        if run.start() > at:
            yield part[at : run.start()]
        for number, piece in enumerate(_pieces(run[0])):
            if number:
                yield None
            yield piece
        at = run.end()
    if at < len(part) or not part:
        yield part[at:]


def _pieces(run: str) -> Iterator[str]:
    """Yield the pieces of a long run of characters, between which a line may break."""
    for segment in _SEGMENT.findall(run):
        step = _STEP if len(segment) > _WHOLE else _WHOLE
        yield from (segment[start : start + step] for start in range(0, len(segment), step))
