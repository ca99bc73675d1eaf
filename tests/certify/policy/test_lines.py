"""What a verification says beside its answer: each line has a code, and names nothing that is not given to it."""

from __future__ import annotations

import re
from string import Formatter

import pytest

from certify.policy.lines import LINES, line
from certify.policy.reasons import effect_of, reasons

GIVEN: list[tuple[str, dict[str, object]]] = [
    ("key-given", {}),
    ("revocations-not-given", {"since": "2026"}),
    ("rollback-not-remembered", {}),
    ("rollback-not-locked", {}),
    ("signed-before-revocation", {"keyid": "k", "revoked_at": "2027", "reason": "stolen", "seen_at": "2026"}),
    ("witness-skipped", {"name": "w.json", "reason": "json-invalid"}),
    ("receipt-skipped", {"name": "r.json", "reason": "json-invalid"}),
    ("witnesses-cut", {"count": 1, "most": 8, "names": "w9.json"}),
    ("receipts-cut", {"count": 1, "most": 8, "names": "r9.json"}),
    ("challenge-self-chosen", {}),
    ("challenge-unproven", {"source": "witness"}),
    ("campaign-unbound", {}),
    ("attempts-unproven", {"count": 2}),
    ("absences-unproven", {"count": 2}),
    ("records-not-given", {}),
    ("self-asserted", {"count": 4}),
    ("table-given", {"name": "the policy ours"}),
    ("samples-not-given", {}),
    ("samples-blind", {}),
    ("samples-partly", {"what": "power", "count": 2}),
    ("notes-shortened", {"most": 30, "count": 31}),
    ("first-issue-not-given", {"sha256": "ab"}),
    ("others-not-given", {}),
    ("others-few", {"count": 2}),
    ("predecessor-not-given", {}),
    ("other-refused", {"where": "two", "error": "expired"}),
    ("other-simulated", {"where": "two"}),
    ("records-not-compared", {"why": "not given"}),
    ("other-records-not-compared", {"where": "two", "why": "not given"}),
    ("keys-shared", {"where": "two", "count": 3}),
    ("numbers-missing", {"numbers": "2", "chain": "a-centre"}),
    ("later-unknown", {"chain": "a-centre", "number": 3}),
]


@pytest.mark.parametrize(("code", "values"), GIVEN)
def test_a_line_ends_with_its_code(code: str, values: dict[str, object]) -> None:
    printed = line(code, **values)
    assert printed.endswith(f" [{code}]")
    assert {name for _, name, _, _ in Formatter().parse(LINES[code]) if name} == values.keys()
    assert all(str(value) in printed for value in values.values())
    assert not re.search(r"[{}]", printed)


def test_every_line_is_a_reason_of_its_own_kind() -> None:
    assert [code for code, _ in GIVEN] == list(LINES)
    assert all(effect_of(code) == "line" for code in LINES)
    home = "verification.md#lines-of-a-verification"
    assert {code for code, entry in reasons().items() if entry.rule == home} == LINES.keys()
