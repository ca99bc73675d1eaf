"""Every reason code leads home: to a section that says its rule, to the functions that yield it, to a test."""

from __future__ import annotations

import pytest

from certify.policy.reasons import home_lines, homes, reasons
from tests.codes import homes as made
from tests.codes import naming, sites
from tests.codes.attack import survivors

CODES = frozenset(reasons())


def test_each_rule_is_a_section_that_names_its_code() -> None:
    nowhere, silent = [], []
    for code, entry in reasons().items():
        page, _, anchor = entry.rule.partition("#")
        section = made.sections(page).get(anchor) if (made.DOCS / page).is_file() else None
        if section is None:
            nowhere.append((code, entry.rule))
        elif not any(f"`{code}`" in line for line in section.lines):
            silent.append((code, entry.rule))
    assert nowhere == []
    assert silent == []


def test_a_test_names_each_code() -> None:
    nobody = [code for code, tests in naming.tests_naming(CODES).items() if not tests and code not in survivors()]
    assert nobody == []


def test_a_function_yields_each_code() -> None:
    for code, found in sites.sites_of(CODES).items():
        assert found, code
        assert all((sites.ROOT / site.file).is_file() for site in found), code


def test_the_table_says_what_explain_prints() -> None:
    assert homes().keys() == reasons().keys()  # that it is current: tests/test_docs.py
    for code, home in homes().items():
        assert home.text, code
        assert home.functions, code
        assert home_lines(code)[0] == f"rule: docs/{reasons()[code].rule}"
    assert home_lines("no-such-code") == []


def test_the_chosen_tests_are_of_codes() -> None:
    assert made.chosen_tests().keys() <= CODES


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("The steps", "the-steps"),
        ("R12, step by step", "r12-step-by-step"),
        ("guangzhou-2027: the same draft, `whole` city", "guangzhou-2027-the-same-draft-whole-city"),
        ("[Age](x.md) and validity", "age-and-validity"),
    ],
)
def test_anchors_are_those_of_the_headings(heading: str, anchor: str) -> None:
    assert made.anchor_of(heading) == anchor
