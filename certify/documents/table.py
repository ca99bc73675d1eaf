"""Tables that an administrator fills in, as a spreadsheet saves them: CSV in UTF-8 whose first row names the columns.

What is wrong is said of the row at fault, by the number that a spreadsheet shows, and then nothing of the table counts.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping
from typing import NamedTuple

from bench.errors import InputError, PetasealError


class TableRow(NamedTuple):
    """A row: where it stands, for error texts, and its values by column; "" where the table lacks the column."""

    where: str
    values: Mapping[str, str]

    def fault(self, what: str, fix: str | None = None) -> InputError:
        """Return the error that names this row."""
        return InputError("table-invalid", what, where=self.where, fix=fix)

    def blame(self, error: PetasealError) -> InputError:
        """Return an error that a value of this row gave, as one that names the row."""
        place = "" if error.where is None else f"{error.where}: "
        return InputError(error.code, f"{place}{error.what}", where=self.where, fix=error.fix)


def read_table(
    content: bytes, where: object, needed: Collection[str], optional: Collection[str], max_rows: int
) -> tuple[TableRow, ...]:
    """Return the rows of a table; empty ones are left out, and values lose the blanks around them.

    Args:
        content: the file.
        where: its name, for error texts.
        needed: columns that it must have.
        optional: columns that it may have.
        max_rows: cap on their number.

    Raises:
        InputError: `table-invalid`.
    """
    try:
        text = content.decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader]
    except UnicodeDecodeError:
        raise InputError("table-invalid", "is not UTF-8 text", where=where, fix="save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise InputError("table-invalid", f"is not CSV ({error})", where=where, fix="save it as CSV") from None
    filled = [(number, cells) for number, cells in lines if any(cells)]
    columns = filled[0][1] if filled else []
    fix = f"its first row names the columns: {','.join([*needed, *(f'[{one}]' for one in optional)])}"
    if len(set(columns)) != len(columns) or not set(needed) <= set(columns) <= {*needed, *optional}:
        raise InputError("table-invalid", f"has the columns {','.join(columns) or 'of none'}", where=where, fix=fix)
    if not 1 <= len(filled) - 1 <= max_rows:
        what = f"has {len(filled) - 1} rows; it may have from 1 to {max_rows}"
        raise InputError("table-invalid", what, where=where)
    rows = []
    for number, cells in filled[1:]:
        place = f"{where}, row {number}"
        if len(cells) != len(columns):
            raise InputError("table-invalid", f"has {len(cells)} values, and not {len(columns)}", where=place)
        empty = dict.fromkeys(optional, "")
        rows.append(TableRow(place, {**empty, **dict(zip(columns, cells, strict=True))}))
    return tuple(rows)
