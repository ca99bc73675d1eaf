"""Every printed line of a statement ends with a code that leads to its rule, on the terminal and on the page."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from bench.record.campaign import Attempt
from certify.documents.statement import CapacityStatement
from certify.policy.policies import Policy, condition_code, describe, load_policy
from certify.policy.reasons import home_lines, homes, reasons
from certify.statement.describe import describe_statement
from certify.statement.paper.page import render
from certify.statement.paper.view import view_of
from tests.certify.judged import policy_of
from tests.certify.policy.test_2000p import GUIDE, written
from tests.certify.statement.test_build import P, T, amount, bounded, statement, tally
from tests.certify.statement.test_page import measured_pages

EARLIER = Attempt(
    campaign_id="c-before", campaign_sha256="ab" * 32, issued_at="2026-03-01T00:00:00.000000Z", outcome="aborted"
)


def measured() -> CapacityStatement:
    """Return a simulated smoke run of a campaign of two nodes of which one is missing, with FP64 shown."""
    return next(measured_pages())


def again() -> CapacityStatement:
    found = measured()
    return replace(found, campaign=replace(found.campaign, earlier=(EARLIER,)))


def on_every_step() -> CapacityStatement:
    return statement(bounded(), accept=("no-ceiling",))


def half_new() -> CapacityStatement:
    return statement(tally(amount(T - 1, T - 1), old=amount(5), held=amount(3)), nodes=2)


LINES: dict[str, tuple[Callable[[], CapacityStatement], str]] = {  # code -> a statement, and what the line says
    "statement-grade": (on_every_step, "valid until"),
    "simulated": (measured, "SIMULATED"),
    "smoke-grade": (measured, "SMOKE"),
    "nothing-counted": (lambda: statement(tally()), "NOTHING COUNTS"),
    "one-start": (measured, "all nodes at"),
    "attempt-before": (again, "attempt before: c-before"),
    "counted-sum": (on_every_step, "1020 device(s) counted"),
    "counted-nothing": (half_new, "nodes missing: 1"),
    "shown-not-counted": (measured, "shown, not counted"),
    "evidence-steps": (on_every_step, "by step of evidence"),
    "never-scheduled": (on_every_step, "never scheduled"),
    "needs-witness": (on_every_step, "without a witness"),
    "binding-limit": (on_every_step, "bounded by the rating"),
    "mixed-share": (on_every_step, "share of intelligent compute"),
    "verdict-bases": (half_new, "demanded >="),
    "verdict-growth": (half_new, "net growth"),
    "verdict-missing": (lambda: statement(tally(amount(P)), nodes=2), "nobody knows what 1 node"),
}
CONDITIONS = {  # code -> a condition of a policy
    "condition-declared": "guangzhou-2000p/park",
    "condition-baseline": "guangzhou-2000p/newly-added",
    "condition-threshold": "guangzhou-2000p/scale-2000p",
    "condition-guide": "guangzhou-2000p/guide",
    "condition-share": "guangzhou-2027/intelligent-share",
    "condition-domestic": "guangzhou-2027/domestic",
    "condition-paper": "guide-2027/guide-energy",
    "condition-not-measured": "guangzhou-2027/green-energy",
}


def page(found: CapacityStatement, policy: Policy | None = None) -> str:
    return render(view_of(found, (policy or policy_of(),), "ab" * 32, "cd" * 32))


@pytest.mark.parametrize("code", LINES)
def test_a_line_ends_with_its_code(code: str) -> None:
    make, said = LINES[code]
    found = make()
    lines = [line for line in describe_statement(found) if said in line]
    assert lines
    assert all(line.endswith(f" [{code}]") for line in lines), lines
    if not code.startswith("verdict-"):
        assert f"<code>[{code}]</code>" in page(found)


@pytest.mark.parametrize("code", CONDITIONS)
def test_a_condition_is_told_by_its_kind(tmp_path: Path, code: str) -> None:
    name, _, wanted = CONDITIONS[code].partition("/")
    policy = load_policy(written(tmp_path, GUIDE) if name == "guide-2027" else name)
    (condition,) = [one for one in policy.judged if one.condition == wanted]
    assert condition_code(condition) == code
    assert any(line.endswith(f"[{code}]") for line in describe(policy))


def test_each_code_on_the_page_leads_to_rule_function_and_test() -> None:
    for found in measured_pages():
        text = page(found)
        codes = text[text.index("<h2>7 ") :]
        rows = re.findall(r"<code>(.+?)</code></td><td.*?><code>(.+?)</code></td><td.*?><code>(.+?)</code>", codes)
        shown = {code for code, *_ in rows}
        assert set(re.findall(r"<code>\[([a-z-]+)\]</code>", text)) <= shown
        assert {finding.code for finding in found.findings} <= shown
        for code, rule, function in rows:
            assert rule == f"docs/{reasons()[code].rule}"
            assert function == homes()[code].functions[0].function


def test_a_lines_code_leads_home_in_one_step() -> None:
    for code in (*LINES, *CONDITIONS):
        rule, words, enforced, attacked = home_lines(code)
        assert reasons()[code].rule in rule
        assert words.strip(), code
        assert ".py)" in enforced, code
        assert "::test_" in attacked, code
