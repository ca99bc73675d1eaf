"""What a verification says beside its answer: each line has a code, and names nothing that is not given to it."""

from __future__ import annotations

import re
from string import Formatter

import pytest

from bench.language import messages_of
from certify.policy.lines import code_of, line, line_in
from certify.policy.reasons import effect_of, reasons
from certify.samples import rebuild

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
    ("fabric-not-recomputed", {}),
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
    ("page-appended", {"count": 9}),
    ("page-not-verified", {"why": "no fonts"}),
    ("qr-unsigned", {}),
    ("evidence-not-given", {"count": 1}),
    ("evidence-output-not-given", {"count": 1}),
    ("evidence-nodes-not-compared", {}),
    ("evidence-key-not-given", {"count": 1}),
]


@pytest.mark.parametrize(("code", "values"), GIVEN)
def test_a_line_ends_with_its_code(code: str, values: dict[str, object]) -> None:
    printed = line(code, **values)
    assert printed.endswith(f" [{code}]")
    assert {name for _, name, _, _ in Formatter().parse(messages_of("line")[code].en) if name} == values.keys()
    assert all(str(value) in printed for value in values.values())
    assert not re.search(r"[{}]", printed)


def test_every_line_is_a_reason_of_its_own_kind() -> None:
    assert [code for code, _ in GIVEN] == list(messages_of("line"))
    assert all(effect_of(code) == "line" for code in messages_of("line"))
    sections = ("lines-of-a-verification", "a-pdf-and-its-page", "the-qr-code")
    homes = {f"verification.md#{section}" for section in sections}
    said = {code for code, entry in reasons().items() if entry.effect == "line" and entry.rule in homes}
    assert said == messages_of("line").keys()


@pytest.mark.parametrize(("code", "values"), GIVEN)
def test_a_line_is_said_in_chinese_with_its_code_and_values(code: str, values: dict[str, object]) -> None:
    printed = line(code, **values)
    chinese = line_in("zh", printed)
    assert chinese.endswith(f" [{code}]")
    assert chinese == f"{messages_of('line')[code].zh.format(**values)} [{code}]"
    assert code_of(printed) == code_of(chinese) == code
    assert line_in("en", printed) == printed


def test_a_line_with_a_code_of_the_rules_has_its_chinese_meaning() -> None:
    said = line_in("zh", "records, rules, sums and verdicts: of another version [expired]")
    assert reasons()["expired"].zh.rstrip("。") in said
    assert "of another version" in said
    assert line_in("zh", "no code at all") == "no code at all"


def test_what_samples_do_not_show_is_said_in_chinese() -> None:
    said = {one.en: one.zh for one in messages_of("samples").values()}
    assert said.keys() == {rebuild.WITHOUT_SAMPLES, rebuild.SIMULATED, rebuild.NO_SILICON, rebuild.NO_POWER}
    for english, chinese in said.items():
        assert line_in("zh", line("samples-partly", what=english, count=3)) == (
            f"{messages_of('line')['samples-partly'].zh.format(what=chinese, count=3)} [samples-partly]"
        )
