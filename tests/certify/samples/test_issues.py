"""Issues: those of each code are listed up to a number, and a fault is named whatever stands before it."""

from __future__ import annotations

from certify.samples.summary import MOST_OF_A_CODE, Issues, SampleIssue


def test_thousands_of_notes_hide_no_fault() -> None:
    issues = Issues()
    for i in range(2000):
        issues.report("power-flat", f"n{i}", "flat")
    issues.report("samples-differ", "n", "other times")
    whole = Issues()
    whole.add(issues)
    assert whole.listed[-1].code == "samples-differ"
    assert whole.first == SampleIssue("samples-differ", "n", "other times")
    assert whole.weighing == 1


def test_what_is_not_listed_is_counted() -> None:
    one, whole = Issues(), Issues()
    for i in range(MOST_OF_A_CODE + 5):
        one.report("samples-differ", f"n{i}", "other times")
    whole.add(one)
    whole.add(one)
    assert len(whole.listed) == MOST_OF_A_CODE
    assert whole.counts["samples-differ"] == whole.weighing == 2 * (MOST_OF_A_CODE + 5)
