"""The one table of the doctor's checks, ``configs/doctor.yaml``: what each is about, why it matters and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Literal

from bench.language import Message
from bench.record import Document, Name, Text, config_path, read_yaml

# What a finding does: a device counts 0, its figure is lower than it could be, or nothing that shows in the figure.
Moves = Literal["zero", "figure", "nothing"]
WEIGHT: Mapping[Moves, int] = {"zero": 0, "figure": 1, "nothing": 2}


class DoctorRow(Document, frozen=True, kw_only=True):
    """One check: its texts, the section of docs/ with its rule, and what a finding of it does."""

    title: Message
    moves: Moves
    code: Name | None = None  # reason code of a figure that counts 0 for it
    rule: Text  # page.md#anchor
    finding: Message  # with the names of its values in braces
    why: Message
    do: Message


class DoctorTable(Document, frozen=True, kw_only=True):
    """The whole table: checks in the order of their weight, and what to do about codes that are known beforehand."""

    checks: dict[str, DoctorRow]
    codes: dict[str, Message]


@cache
def doctor_table() -> DoctorTable:
    """Return the installed table."""
    return read_yaml(config_path("doctor.yaml"), DoctorTable)


def rows_with(meanings: Mapping[str, tuple[str, Message]]) -> dict[str, DoctorRow]:
    """Return every row: the checks, and one for each code that is known beforehand, which make a device count 0.

    Args:
        meanings: code -> its rule and what it means, of the table of reason codes.
    """
    table = doctor_table()
    counts = table.checks["counts"]
    codes = {
        code: DoctorRow(
            title=Message(en=code, zh=code),
            moves="zero",
            code=code,
            rule=meanings[code][0],
            finding=meanings[code][1],
            why=counts.why,
            do=do,
        )
        for code, do in table.codes.items()
        if code in meanings
    }
    # Before the checks: what keeps a whole model from counting is read first.
    return codes | table.checks
