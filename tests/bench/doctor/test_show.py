"""The doctor's table on terminals of any width, in both languages, and as lines for a pipe."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rich.cells import cell_len

from bench.doctor.examine import examine
from bench.doctor.report import THIS_NODE, DoctorReport, report_of
from bench.doctor.show import MOST_LINES, OF_A_CHECK, report_lines
from bench.language import Language, choose_language
from bench.record.status import DoctorFinding, Examination
from bench.terminal.summary import wrapped
from certify.commands.launch import code_rows
from tests.bench.doctor.test_checks import CASES

WIDTHS = (40, 60, 80, 100, 200)


@pytest.fixture(params=["en", "zh"])
def spoken(request: pytest.FixtureRequest) -> Iterator[Language]:
    choose_language(request.param)
    yield request.param
    choose_language(None)


def everything() -> DoctorReport:
    """Return the report of a node on which every check finds something."""
    findings = tuple(finding for wrong, _, _, _ in CASES.values() for finding in examine(wrong).findings)
    return report_of(code_rows(), {THIS_NODE: Examination(findings, unread={"counts": "not-shown"})})


def lines(report: DoctorReport, whole: bool, width: int | None) -> list[str]:
    return [line for line, _ in report_lines(report, whole, width)]


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_is_wider_than_the_terminal_and_a_summary_fits_one_screen(spoken: Language, width: int) -> None:
    for whole in (False, True):
        shown = lines(everything(), whole, width)
        assert max(map(cell_len, shown)) <= width
    assert len(lines(everything(), False, width)) <= MOST_LINES


def test_what_counts_0_stands_first_and_keeps_its_lines_longest(spoken: Language) -> None:
    effects = {"en": ("counts 0", "lower", "note"), "zh": ("计为 0", "偏低", "提示")}[spoken]
    shown = [line for line in lines(everything(), True, 200) if line.startswith(effects)]
    places = [effects.index(next(effect for effect in effects if line.startswith(effect))) for line in shown]
    assert places == sorted(places)
    assert set(places) == {0, 1, 2}
    # Where there is no room the last lines are left out, and that is said.
    assert "--all" in lines(everything(), False, 100)[-3]


def test_a_report_for_a_pipe_is_whole_lines(spoken: Language) -> None:
    report = report_of(code_rows(), {THIS_NODE: examine(CASES["power-cap"][0])})
    long = [line for line in lines(report, False, None) if cell_len(line) > 100]
    assert long or spoken == "zh"
    assert len(lines(report, False, None)) <= MOST_LINES


def test_a_node_without_a_finding_says_so() -> None:
    shown = lines(report_of(code_rows(), {THIS_NODE: Examination(fine=("smt",), absent=("mps",))}), False, 80)
    assert shown == [
        "this node: no device that can be used",
        "nothing was noticed",
        "checks: 1 fine, 0 cannot be read here, 1 do not apply; --all shows each",
    ]


def test_all_shows_each_check_with_its_rule_and_what_could_not_be_read() -> None:
    shown = "\n".join(lines(everything(), True, None))
    assert "[power-cap; docs/run-rules.md#what-holds-and-what-is-noted]" in shown
    assert "unread" in shown
    for check in ("mig", "foreign-process", "governor"):
        assert f"[{check}; " in shown


def test_many_findings_of_one_check_are_some_and_how_many_more() -> None:
    many = tuple(DoctorFinding("ecc-errors", {"count": str(count)}, (f"cuda:{count}",)) for count in range(1, 9))
    report = report_of(code_rows(), {THIS_NODE: Examination(many)})
    shown = lines(report, False, 120)
    assert sum("uncorrected memory error" in line for line in shown) == OF_A_CHECK
    assert any("and 5 more of this kind" in line for line in shown)
    assert sum("uncorrected memory error" in line for line in lines(report, True, 120)) == 8


@pytest.mark.parametrize(
    ("line", "width", "parts"),
    [
        ("one two three", 8, ["one two", "three"]),
        ("由节点管理员重置，或更换。", 10, ["由节点管理", "员重置，或", "更换。"]),
        ("设备（docs/ratings.md）", 12, ["设备", "（docs/rating", "s.md）"]),
        ("x" * 25, 10, ["x" * 10, "x" * 10, "x" * 5]),
        ("", 10, [""]),
    ],
)
def test_lines_are_broken_between_chinese_letters_and_at_blanks(line: str, width: int, parts: list[str]) -> None:
    got = wrapped(line, width, hanging="")
    assert "".join(got).replace(" ", "") == line.replace(" ", "")
    assert max(map(cell_len, got)) <= width
    if width != 12:
        assert got == parts
