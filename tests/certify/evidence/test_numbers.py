"""Printed numbers: what is printed of a value always stands for it, in any form that a locale gives it."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.evidence.numbers import printed, scaled, whole_number

FINITE = st.floats(min_value=1e-9, max_value=1e12)
FORMS = st.sampled_from([".2f", ".4e", ".3e", ".5e", ".12f", ".7f", "g", ",.2f"])


@given(value=FINITE, form=FORMS)
def test_a_printed_number_stands_for_the_value(value: float, form: str) -> None:
    number = printed(f"{value:{form}}")
    assert number is not None
    assert number.low <= Fraction(value) <= number.high
    assert number.meets(Fraction(value), Fraction(value))
    assert not number.meets(number.high + number.half, None)


@given(value=FINITE, form=st.sampled_from([".2f", ".4e", ",.2f"]))
def test_commas_and_points_change_places(value: float, form: str) -> None:
    text = f"{value:{form}}"
    turned = text.translate(str.maketrans(".,", ",."))
    assert printed(turned) == printed(text)


@given(value=st.integers(1, 2**53 - 1))
def test_whole_numbers_with_and_without_marks(value: int) -> None:
    marked = f"{value:,}"
    assert whole_number(marked) == whole_number(marked.replace(",", ".")) == value
    assert whole_number(str(value)) == (value if len(str(value)) < 16 else None)


@given(text=st.text(alphabet="0123456789.,eE+-nai ", max_size=60))
def test_any_text_is_a_number_or_none(text: str) -> None:
    number = printed(text)
    assert number is None or number.half > 0
    assert (whole_number(text) or 1) >= 1


@pytest.mark.parametrize(
    "text", ["", "nan", "inf", "-inf", "1e", "1e9999", "0x10", "1.2.3", "1,23,4.5", "\u0661", "1 2"]
)
def test_what_is_no_number(text: str) -> None:
    assert printed(text) is None
    assert whole_number(text) is None


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "9" * 17, "1e5", "9,999,999,999,999,999"])
def test_what_is_no_count(text: str) -> None:
    assert whole_number(text) is None


def test_what_a_document_cannot_hold() -> None:
    assert scaled(Fraction(3, 2), 1000) == 1500
    assert scaled(Fraction(2**53), 1) is None
    assert scaled(Fraction(-1, 2), 1) is None
