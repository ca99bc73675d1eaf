"""What vendors' tools print, as values: numbers with exactly one unit, addresses, placeholders, indented fields."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal

from bench.errors import one_line
from bench.units import MAX_INTEGER

MIB = 2**20


VERSION = r"v?(\d{1,6}(?:\.\d{1,6}){1,3}(?:[+-][\w.]{1,40})?)(?!\S)"  # such as 5.10.13, and 4.0.0+4179531dcd


PLACEHOLDERS = frozenset(
    {"", "-", "--", "n/a", "na", "none", "null", "unknown", "not supported", "[n/a]", "[not supported]"}
)


_NO_TEXT = re.compile("\x1b\\[[0-9;?]*[A-Za-z]|\ufeff|\0")  # colours of a terminal, a mark of the byte order, padding


def plain_text(printed: bytes) -> str:
    """Return what a tool prints as text, without what a terminal or another system would not show."""
    return _NO_TEXT.sub("", printed.decode("utf-8", "replace"))


_QUANTITY = re.compile(r"\s*(\d{1,16}(?:\.\d{1,9})?)\s*(%|[A-Za-z]*)\s*", re.ASCII)


def quantity(text: object, unit: str) -> Decimal | None:
    """Return a number that stands with exactly one unit ("" for a bare number), or None: N/A, another unit, no number.

    Args:
        text: such as "87.5 W"; letters of the unit in any case.
        unit: what it must be.
    """
    match = _QUANTITY.fullmatch(str(text)) if isinstance(text, (str, int, float)) else None
    if match is None or match[2].lower() != unit.lower():
        return None
    return Decimal(match[1])


def whole(value: Decimal | None, factor: int = 1) -> int | None:
    """Return a quantity times a factor as a whole number, rounded down; None for none and for what no record holds."""
    number = None if value is None else int(value * factor)
    return None if number is None or number > MAX_INTEGER else number


def reported_text(value: object) -> str | None:
    """Return a text as a record holds it: one trimmed line, or None for a placeholder."""
    text = "" if value is None else str(value).strip()
    return None if text.lower() in PLACEHOLDERS else one_line(text, 200)


_ADDRESS = re.compile(r"(?:([0-9a-f]{1,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])", re.IGNORECASE)


def address(text: object) -> str | None:
    """Return a PCI address in the one form, "0000:17:00.0", or None for what is none, or all zero: never a device's."""
    match = _ADDRESS.fullmatch(str(text).strip())
    # Tools write domains of 4 and of 8 digits; records hold the form of the kernel, with 4.
    if match is None or (domain := int(match[1] or "0", 16)) > 0xFFFF:
        return None
    bus, device, function = int(match[2], 16), int(match[3], 16), match[4]
    return f"{domain:04x}:{bus:02x}:{device:02x}.{function}" if domain or bus or device or int(function) else None


_FIELD = re.compile(r"(.*?\S)\s+:(?:\s+(.*?))?\s*", re.ASCII)


def fields(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield (headings and name, value) of every "name : value" line, where indentation shows what is under a heading.

    A line without " : " is a heading of the lines that are indented further, and is yielded with the value "".
    """
    above: list[tuple[int, str]] = []
    for line in text.expandtabs(8).splitlines():
        if not line.strip():
            continue
        indent = len(line) - len(line.lstrip())
        while above and above[-1][0] >= indent:
            above.pop()
        match = _FIELD.fullmatch(line.strip())
        name, value = (match[1], match[2] or "") if match else (line.strip(), "")
        yield (*(heading for _, heading in above), name), value
        if not value:
            above.append((indent, name))
