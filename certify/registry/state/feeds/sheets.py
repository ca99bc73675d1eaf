"""Lists as CSV (RFC 4180), for people with a spreadsheet: one line for each item, with the fields of its type.

A bilingual name becomes two columns, a list of plain values one cell with spaces in between, and a list of things that
have fields of their own (the models of a pool) one cell of JSON.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from certify.policy.centre import Bilingual
from certify.registry.api.nodes import StepSum

# what a spreadsheet would compute, and the wide forms that one in Chinese or Japanese takes for the same
FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_NUMBERS = "_pflops"  # such a text is a number of this registry's own


def csv_of(kind: type[msgspec.Struct], items: Iterable[msgspec.Struct]) -> bytes:
    """Return items as CSV: rates as integers in MFLOP/s, and where their type has them again in PFLOPS.

    Args:
        kind: the type of the items.
        items: in their order.
    """
    names = kind.__struct_fields__
    bilingual = {field.name for field in msgspec.structs.fields(kind) if field.type is Bilingual}
    columns = [column for name in names for column in _columns(name, name in bilingual)]
    return _written(columns, ([cell for name in names for cell in _cells(name, getattr(item, name))] for item in items))


def csv_lines(names: Sequence[str], lines: Iterable[Sequence[object]]) -> bytes:
    """Return lines of plain values as CSV, under the names of their columns."""
    return _written(names, ([_cell(*each) for each in zip(names, line, strict=True)] for line in lines))


def _written(names: Sequence[str], lines: Iterable[Sequence[object]]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(names)
    writer.writerows(lines)
    return out.getvalue().encode()


def _columns(name: str, bilingual: bool) -> tuple[str, ...]:
    return (f"{name}_zh", f"{name}_en") if bilingual else (name,)


def _cells(name: str, value: object) -> Iterator[object]:
    if isinstance(value, Bilingual):
        yield from (_cell(name, value.zh), _cell(name, value.en))
    else:
        yield _cell(name, value)


def _cell(name: str, value: object) -> object:
    """Return a value as a cell; a text that a spreadsheet would compute gets an apostrophe before it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, int):
        return value
    text = _list_text(value) if isinstance(value, tuple) else str(value)
    # CSV injection (OWASP): a pool named =HYPERLINK(...) runs in whoever opens the file
    return f"'{text}" if text.startswith(FORMULAS) and not name.endswith(_NUMBERS) else text


def _list_text(values: tuple[Any, ...]) -> str:
    if any(isinstance(one, msgspec.Struct) and not isinstance(one, StepSum) for one in values):
        return msgspec.json.encode(values).decode()
    return " ".join(str(one) for one in values)
