"""Numbers as they are printed: each stands for all values that round to it, and two agree where their ranges meet.

Exact fractions, not floats: a forged exponent must neither overflow nor be rounded into agreement.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from bench.units import MAX_INTEGER

_LONGEST = 48  # letters of a number; the longest that a tool prints has 28
_NUMBER = re.compile(r"([+-]?)([0-9][0-9.,]*|[.,][0-9]+)(?:[eEdD]([+-]?[0-9]{1,3}))?")
_GROUPS = re.compile(r"[0-9]{1,3}(?:([.,])[0-9]{3})(?:\1[0-9]{3})*")


class Printed(NamedTuple):
    """A printed number: its value, half a unit of its last digit, and how many digits it has that say something."""

    value: Fraction
    half: Fraction
    digits: int

    @property
    def low(self) -> Fraction:
        """The least value that is printed so."""
        return self.value - self.half

    @property
    def high(self) -> Fraction:
        """The greatest value that is printed so."""
        return self.value + self.half

    def meets(self, low: Fraction, high: Fraction | None) -> bool:
        """Return whether a range holds a value that is printed so; no upper end: it is not bounded."""
        return self.high >= low and (high is None or self.low <= high)


def printed(text: str) -> Printed | None:
    """Return a printed number, or None for what is none: words, NaN, infinity, an exponent beyond any double's.

    A comma is the decimal one where it stands alone; where commas and points stand, the last is the decimal one and
    the others part thousands.
    """
    match = _NUMBER.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        return None
    whole, decimals = _parts(match[2])
    if whole is None:
        return None
    scale = Fraction(10) ** int(match[3] or 0)
    unit = scale / 10 ** len(decimals)
    size = int((whole + decimals) or "0") * unit
    digits = len((whole + decimals).lstrip("0")) or len(decimals)
    return Printed(-size if match[1] == "-" else size, unit / 2, digits)


def _parts(mantissa: str) -> tuple[str | None, str]:
    """Return the digits before and after the decimal mark; None where the marks are no number's."""
    marks = [letter for letter in mantissa if letter in ".,"]
    if len(marks) > 1 and len(set(marks)) == 1:
        return _ungrouped(mantissa), ""
    whole, mark, decimals = mantissa.rpartition(marks[-1]) if marks else (mantissa, "", "")
    if len(marks) > 1 and (mark in whole or (whole := _ungrouped(whole) or "") == ""):
        return None, ""
    return whole, decimals


def _ungrouped(text: str) -> str | None:
    return re.sub("[.,]", "", text) if _GROUPS.fullmatch(text) else None


def whole_number(text: str) -> int | None:
    """Return a printed count above 0, with or without marks between thousands; None for anything else."""
    digits = text if re.fullmatch("[0-9]{1,15}", text) else _ungrouped(text) if len(text) <= _LONGEST else None
    number = int(digits) if digits else 0
    return number if 0 < number <= MAX_INTEGER else None


def scaled(value: Fraction, factor: int) -> int | None:
    """Return a value in smaller units as documents hold it, truncated; None beyond what they hold or below 0."""
    number = int(value * factor)
    return number if 0 <= number <= MAX_INTEGER and value >= 0 else None


def count(text: str) -> int | None:
    """Return a count of 0 or more, printed as a number of any form, 1e+06 too; None for anything else."""
    number = printed(text)
    return None if number is None else scaled(number.value, 1)
