"""A summary on a screen: texts measured in terminal cells, wrapped to a width, and shortened to so many lines.

Pure, and without rich, whose import costs more than a small command does: what is printed reaches a pipe the same way.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.language import Language

MOST_LINES = 25  # of a summary
LEAST_WIDTH = 80  # below it a summary is wrapped and may become longer
ENTRY_CELLS = 230  # of one entry of a summary; the whole stands under --all
HANGING = "    "

# A break may follow each wide character, but no line begins with what closes (a full stop, a bracket) or ends with
# what opens.
_OPENING = "（《【「『“‘"
_CLOSING = ",.;:!?)]、。，；：！？）》」』】”’％"
_WORDS = re.compile(r"\s+|\S+")


@dataclass(frozen=True)
class Part:
    """One part of a summary: its forms, from the fullest to the shortest. The tallest part is shortened first.

    Args:
        forms: lines of each form.
        is_copied: such as a command, of which nothing may be cut off.
        worth: by so much its height is divided before parts are compared.
    """

    forms: tuple[tuple[str, ...], ...]
    is_copied: bool = False
    worth: int = 1


def fixed(*lines: str, is_copied: bool = False) -> Part:
    """Return a part that has one form."""
    return Part((lines,), is_copied)


def whole_part(count: int, lang: Language) -> Part:
    """Return how many lines the whole has, and how to see them."""
    from bench.language import text_in  # which reads documents: --help imports none

    return fixed(text_in(lang, "summary", "whole", count=f"{count:,}"))


def listing(
    title: str, entries: Sequence[str], kind: str, lang: Language, shortest: Sequence[str] | None = None
) -> Part:
    """Return a titled list that is shortened entry by entry, with a count of those left out; nothing for no entries.

    Args:
        title: printed above; empty for none.
        entries: the most important first.
        kind: of the entries, a key of `more` in the catalogue, whose line says how many are left out.
        lang: of that line.
        shortest: what stands there when not even one entry has room; None: that line alone.
    """
    from bench.language import text_in

    if not entries:
        return Part(((),))

    def more(count: int) -> str:
        return text_in(lang, "more", kind, count=f"{count:,}")

    head = (title,) if title else ()
    forms = [] if len(entries) > MOST_LINES else [(*head, *(entry_text(entry) for entry in entries))]
    # A line that says "1 more" takes the place of that one; and one entry of many says less than the shortest form.
    for count in range(min(len(entries) - 2, MOST_LINES), 1, -1):
        forms.append((*head, *(entry_text(entry) for entry in entries[:count]), more(len(entries) - count)))
    last = [more(len(entries))] if shortest is None else shortest
    return Part((*forms, tuple(entry_text(line) for line in last)))


def entry_text(text: str) -> str:
    """Return an entry in at most `ENTRY_CELLS` cells."""
    return clipped(text, ENTRY_CELLS)


def summarised(parts: Sequence[Part], width: int | None, most: int = MOST_LINES) -> list[str]:
    """Return the lines of all parts, the tallest shortened until all are at most so many lines high.

    Args:
        parts: in the order in which they are shown.
        width: of the terminal, cells; None where no line is broken, as in a pipe.
        most: lines of the screen, which an unusual `Part.is_copied` alone can exceed.
    """
    # On a narrow screen a summary says as much as on a usual one, and becomes longer.
    room = None if width is None else max(width, LEAST_WIDTH)
    chosen = [0] * len(parts)
    heights = [[sum(height(line, room) for line in form) for form in part.forms] for part in parts]
    while sum(of_part[at] for of_part, at in zip(heights, chosen, strict=True)) > most:
        shrinking = [index for index, part in enumerate(parts) if chosen[index] + 1 < len(part.forms)]
        if not shrinking:
            break
        # The later of two: what matters most stands first.
        chosen[max(shrinking, key=lambda index: (heights[index][chosen[index]] / parts[index].worth, index))] += 1
    # A form may be much shorter than the one before it: what was left out without need comes back, worth first.
    for index in sorted(range(len(parts)), key=lambda index: -parts[index].worth):
        room_left = most - sum(of_part[at] for of_part, at in zip(heights, chosen, strict=True))
        allowed = heights[index][chosen[index]] + room_left
        chosen[index] = next((at for at in range(chosen[index]) if heights[index][at] <= allowed), chosen[index])
    lines = [(line, part.is_copied) for part, at in zip(parts, chosen, strict=True) for line in part.forms[at]]
    return _cut(lines, room, most)


def _cut(lines: Sequence[tuple[str, bool]], width: int | None, most: int) -> list[str]:
    """Return lines of which the tallest are cut to one, as far as that is needed."""
    shown = [line for line, _ in lines]
    heights = [height(line, width) for line in shown]
    while width is not None and sum(heights) > most:
        tall = [index for index, (_, is_copied) in enumerate(lines) if heights[index] > 1 and not is_copied]
        if not tall:
            break
        at = max(tall, key=lambda index: heights[index])
        shown[at], heights[at] = clipped(shown[at], width), 1
    return shown


def height(line: str, width: int | None) -> int:
    """Return how many lines of a terminal of so many cells a line takes; None: one that breaks none."""
    return 1 if width is None else len(wrapped(line, width))


def cells(text: str) -> int:
    """Return how many cells of a terminal a text takes."""
    return len(text) if text.isascii() else sum(map(_cells_of, text))


def _cells_of(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def clipped(text: str, width: int) -> str:
    """Return a text in at most so many cells, with "..." in place of the rest."""
    if cells(text) <= width:
        return text
    return f"{_first(text, max(1, width - 3)).rstrip()}..."


def padded(text: str, width: int, right: bool = False) -> str:
    """Return a text in at least so many cells; `right`: it stands at their end."""
    space = " " * (width - cells(text))
    return space + text if right else text + space


def wrapped(line: str, width: int, hanging: str = HANGING) -> list[str]:
    """Return a line as lines of at most so many cells each; what follows the first is indented by `hanging` more."""
    if cells(line) <= width:
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    hanging = (indent + hanging) if len(indent) + len(hanging) < width // 2 else ""
    lines, current = [], indent if len(indent) < width else ""
    begun = False
    for atom in _atoms(line.lstrip(), width - len(hanging)):
        if begun and cells(current) + cells(atom) > width:
            # A space that does not fit is not missed at the end of a line, nor wanted at the start of the next.
            lines.append(current.rstrip())
            current = hanging + atom.lstrip()
            begun = bool(atom.strip())
        else:
            current += atom
            begun = True
    return [*lines, current.rstrip()] if current.strip() else lines


def _atoms(text: str, width: int) -> Iterator[str]:
    """Yield what is not broken: spaces, words, single wide characters with what closes after them."""
    for word in _WORDS.findall(text):
        atom = ""
        for character in word:
            size = _cells_of(character)
            # What takes no cell belongs to the character before it.
            joined = size == 0 or character in _CLOSING or atom[-1:] in _OPENING
            joined = joined or (size == 1 and _cells_of(atom[-1:]) < 2)
            if atom and not joined:
                yield from _chopped(atom, width)
                atom = ""
            atom += character
        yield from _chopped(atom, width)


def _chopped(word: str, width: int) -> Iterator[str]:
    while cells(word) > width:
        first = _first(word, width)
        yield first
        word = word[len(first) :]
    yield word


def _first(text: str, width: int) -> str:
    """Return as much of a text's beginning as fits, at least one character."""
    used = 0
    for index, character in enumerate(text):
        used += _cells_of(character)
        if used > width and index:
            return text[:index]
    return text


def counted(count: int, noun: str, in_language: Language) -> str:
    """Return a number with its noun, such as "3 nodes"; `noun`: a key of the area ``noun``."""
    from bench.language import text_in

    return text_in(in_language, "noun", noun if count == 1 else f"{noun}s", count=f"{count:,}")
