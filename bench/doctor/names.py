"""Many names as one short text: "cuda:0-7", "gpu[001-016,020]". Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby

from bench.units import shortened_list

NUMBERED = re.compile(r"(.*?)(\d{1,9})(\D*)")
SHOWN = 3  # groups of names
SHOWN_RANGES = 4


def device_names(names: Iterable[str]) -> str:
    """Return devices as "cuda:0-3,5"."""
    return _shortened(names, "{0}{1}{2}")


def node_names(names: Iterable[str]) -> str:
    """Return nodes as host lists: "gpu[001-016,020]"; a single one as it is."""
    return _shortened(names, "{0}[{1}]{2}")


def _shortened(names: Iterable[str], form: str) -> str:
    """Return names whose last numbers are of one width, and the rest equal, as one entry."""
    groups: dict[tuple[str, str, int], set[int]] = {}
    plain: list[str] = []
    for name in dict.fromkeys(names):
        match = NUMBERED.fullmatch(name)
        if match is None:
            plain.append(name)
            continue
        before, digits, after = match.groups()
        # Numbers of one width, or written without zeros before them, may stand in one range.
        width = len(digits) if digits.startswith("0") and len(digits) > 1 else 0
        groups.setdefault((before, after, width or _plain_width(form, digits)), set()).add(int(digits))
    texts = []
    for (before, after, width), numbers in groups.items():
        ranges = _ranges(sorted(numbers), width)
        many = shortened_list(ranges, SHOWN_RANGES).replace(", ", ",")
        single = len(numbers) == 1
        texts.append(f"{before}{many}{after}" if single else form.format(before, many, after))
    return shortened_list([*texts, *plain], SHOWN)


def _plain_width(form: str, digits: str) -> int:
    """Return the width by which a number without zeros is grouped: of host lists its digits, of devices none."""
    return len(digits) if "[" in form else 0


def _ranges(numbers: list[int], width: int) -> list[str]:
    """Return sorted numbers as ranges: "0-3", "5"."""
    ranges = []
    for _, members in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in members]
        first, last = (f"{number:0{width}d}" for number in (run[0], run[-1]))
        ranges.append(first if len(run) == 1 else f"{first}-{last}")
    return ranges
