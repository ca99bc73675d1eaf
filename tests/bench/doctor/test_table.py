"""The table and the code are one: a row for each check, a rule that is there, and a code that does count 0."""

from __future__ import annotations

import string

import pytest

from bench.doctor.examine import CHECKS, COUNTS
from bench.doctor.fleet_checks import FLEET_CHECKS
from bench.doctor.outcomes import Why
from bench.doctor.table import DoctorRow, doctor_table, rows_with
from bench.language import Message, messages_of
from certify.commands.launch import SAID_BY_CHECK, code_rows
from certify.policy.reasons import effect_of, mending, reasons
from tests.codes.homes import DOCS, sections

ROWS = doctor_table().checks


def test_every_row_has_a_function_and_every_function_a_row() -> None:
    assert set(ROWS) == {*CHECKS, *FLEET_CHECKS, COUNTS}
    assert ROWS.keys() >= SAID_BY_CHECK


@pytest.mark.parametrize("check", ROWS)
def test_the_rule_of_a_row_is_a_section_of_the_documentation(check: str) -> None:
    page, _, anchor = ROWS[check].rule.partition("#")
    assert (DOCS / page).is_file()
    assert anchor in sections(page)


def test_a_row_that_counts_0_names_the_code_of_it() -> None:
    for check, row in ROWS.items():
        if row.moves == "zero" and check != COUNTS:  # whose findings are codes themselves
            assert row.code is not None, check
            assert effect_of(row.code) in ("hold", "void"), check
        else:
            assert row.code is None, check


def test_rows_stand_by_their_weight() -> None:
    order = ["zero", "figure", "nothing"]
    places = [order.index(row.moves) for row in ROWS.values()]
    assert places == sorted(places)


def texts(row: DoctorRow) -> dict[str, Message]:
    return {name: getattr(row, name) for name in ("title", "finding", "why", "do")}


@pytest.mark.parametrize("check", ROWS)
def test_the_texts_of_a_row_say_the_same_in_both_languages(check: str) -> None:
    def names(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}

    for name, message in texts(ROWS[check]).items():
        assert message.en.isascii(), name
        assert names(message.en) == names(message.zh), name
        assert not {"认证", "证书"} & {message.zh[i : i + 2] for i in range(len(message.zh))}, name
        if name in ("why", "do"):
            assert message.en.endswith("."), name
            assert message.zh.endswith("。"), name
            assert names(message.en) <= names(ROWS[check].finding.en), name


def test_the_codes_of_the_table_are_rows_of_their_own_before_the_checks() -> None:
    rows = code_rows()
    assert list(rows)[: len(mending())] == list(mending())
    for code in mending():
        assert (rows[code].code, rows[code].rule, rows[code].finding.en) == (
            code,
            reasons()[code].rule,
            reasons()[code].en,
        )
        assert rows[code].do.zh == mending()[code].zh
    assert rows_with({}) == ROWS


def test_each_reason_why_a_check_cannot_be_made_has_a_text() -> None:
    assert set(messages_of("unread")) == set(Why.__args__)  # type: ignore[attr-defined]
