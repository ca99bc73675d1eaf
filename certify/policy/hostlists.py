"""Lists of node names as Slurm writes them: ``gpu[001-016,020]``, ``r[1-2]n[01-04],login1``. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain, product
from math import prod

from bench.errors import InputError, one_line

# a text of a few letters, [1-999999999], must not fill the memory of whoever reads the file
MAX_NODES = 200_000
MAX_TEXT = 255  # letters of a name beside its numbers: DNS has no longer one
_PIECES = re.compile(r"\[([^\[\]]*)\]|([^\[\],]+)|([\[\],])")
_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")


def expand(texts: Iterable[str], where: object, most: int = MAX_NODES) -> list[str]:
    """Return the names that host lists stand for, in their order.

    Args:
        texts: host lists, or plain names.
        where: for the message.
        most: names that they may stand for, `MAX_NODES` where that is less.

    Raises:
        InputError: `host-list-invalid`: one is no host list, has a name of more than `MAX_TEXT` letters, or they stand
            for more than `most` names.
    """
    names: list[str] = []
    most = min(most, MAX_NODES)
    for text in texts:
        for parts in _entries(text, where):
            if len(parts) > MAX_TEXT or sum(len(part) for part in parts if isinstance(part, str)) > MAX_TEXT:
                raise _invalid(text, f"has a name of more than {MAX_TEXT} letters", where)
            if len(names) + prod(map(_count, parts)) > most:
                left = "" if most == MAX_NODES else " that other lists of the file leave to it"
                raise _invalid(text, f"stands for more than {most:,} nodes{left}", where)
            names += map("".join, product(*map(_names, parts)))
    return names


Range = tuple[int, int, int]  # first, last, digits
Part = str | list[Range]  # a text, or what stands in brackets


def _entries(text: str, where: object) -> Iterator[list[Part]]:
    """Yield the parts of each entry of a list that commas outside of brackets divide."""
    parts: list[Part] = []
    for brackets, plain, stray in _PIECES.findall(text):
        if plain:
            parts.append(plain)
        elif stray == ",":
            yield _entry(parts, text, where)
            parts = []
        elif stray:
            raise _invalid(text, f"has a {stray!r} without its counterpart", where)
        else:
            parts.append([_range(one, text, where) for one in brackets.split(",")])
    yield _entry(parts, text, where)


def _entry(parts: list[Part], text: str, where: object) -> list[Part]:
    if not parts:
        raise _invalid(text, "has an empty name", where)
    return parts


def _range(text: str, whole: str, where: object) -> Range:
    matched = _RANGE.fullmatch(text)
    if matched is None:
        raise _invalid(whole, f"has [{one_line(text, 40)}] where numbers are wanted, such as [001-016,020]", where)
    first, last = matched[1], matched[2] or matched[1]
    if int(first) > int(last):
        raise _invalid(whole, f"has the range {text}, which runs backwards", where)
    return int(first), int(last), len(first)


def _count(part: Part) -> int:
    return 1 if isinstance(part, str) else sum(last - first + 1 for first, last, _ in part)


def _names(part: Part) -> Iterable[str]:
    if isinstance(part, str):
        return (part,)
    return chain.from_iterable((f"{n:0{digits}}" for n in range(first, last + 1)) for first, last, digits in part)


def _invalid(text: str, what: str, where: object) -> InputError:
    fix = 'write names, or lists of them such as "gpu[001-016,020]"'
    return InputError("host-list-invalid", f"the host list {one_line(text, 80)!r} {what}", where=where, fix=fix)


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return a key by which names stand as people count: node 2 before node 10."""
    # Python refuses to read thousands of digits as one number.
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name[:256]) if part]
