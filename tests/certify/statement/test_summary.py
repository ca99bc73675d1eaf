"""The summary of a statement: 25 lines whatever it holds, the answer first, and nothing hidden without a count."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest
from msgspec.structs import replace

from bench.errors import RefusedError
from bench.language import LANGUAGES, Language
from bench.terminal.summary import MOST_LINES, cells, height, summarised, wrapped
from bench.units import rate_text
from certify.documents.statement import CapacityStatement
from certify.policy.capacity import NodeMost
from certify.policy.lines import line
from certify.policy.missing import Lack
from certify.statement.describe import describe_statement
from certify.statement.paper.summary import summary_of as official_summary
from certify.statement.summary import IssuedStatement, statement_parts
from certify.trust.dating import DatedReceipt, Witnessed
from certify.verify.describe import describe_report, summary_of
from certify.verify.report import VerificationReport
from tests.certify.statement.extremes import NODES, OUTCOMES, POLICIES, huge
from tests.certify.statement.test_build import P, T, amount, bounded, statement, tally

WIDTHS = (None, 80, 120, 200)  # None: a pipe
SCREENS = list(product(LANGUAGES, WIDTHS))
KEYS = tuple(f"{number:02}" * 32 for number in range(8))
CHINESE = re.compile("[一-鿿]")
NAMES = re.compile(r"  [a-z0-9/, -]+")
NOT_CHECKED = [
    line("key-given"),
    line("challenge-self-chosen"),
    line("attempts-unproven", count=3),
    line("absences-unproven", count=NODES // 2),
    line("records-not-given"),
    line("samples-partly", what="power against energy, smoothness, copies: the device exposes no power", count=3),
    line("others-not-given"),
    *(line("witness-skipped", name=f"witness-{number}" + "x" * 300, reason="json-invalid") for number in range(20)),
]


def report(found: CapacityStatement, **fields: object) -> VerificationReport:
    """Return what a verification says that has much to say."""
    return VerificationReport(
        at="2026-03-01T08:00:00.000000Z",
        statement=found,
        payload_sha256="cd" * 32,
        signers=KEYS,
        trust_root=f"city version 3 {'ef' * 32}",
        witnesses=tuple(Witnessed(key, "2026-03-01T08:00:00.000000Z", "recomputed") for key in KEYS),
        receipt=DatedReceipt("ab" * 32, "2026-03-01T08:00:00.000000Z", "trusted"),
        level="trusted",
        self_asserted=7,
        signers_of_records=3,
        checked=["signature", "records"],
        not_checked=list(NOT_CHECKED),
        notes=tuple(f"note {number} on samples [time-invalid]" for number in range(30)),
        **fields,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(("lang", "width"), SCREENS)
def test_whatever_a_statement_holds_its_summary_is_one_screen(lang: Language, width: int | None) -> None:
    shown = summarised(summary_of(report(huge()), lang), width)
    assert sum(height(text, width) for text in shown) <= MOST_LINES
    assert all(text.isprintable() for text in shown)
    assert width is None or all(cells(part) <= width for text in shown for part in wrapped(text, width))
    if lang == "zh":
        assert [text for text in shown if not CHINESE.search(text) and not NAMES.fullmatch(text)] == []
    else:
        (title,) = (text for text in shown if "statement 1" in text or "算算" in text)
        assert all(text.isascii() for text in shown if text != title)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_narrow_terminal_gets_the_same_lines_broken(lang: Language) -> None:
    narrow, usual = (summarised(summary_of(report(huge()), lang), width) for width in (40, 80))
    assert narrow == usual
    assert all(cells(part) <= 40 for text in narrow for part in wrapped(text, 40))


@pytest.mark.parametrize(("lang", "width"), SCREENS)
def test_every_threshold_and_everything_not_checked_is_there_or_counted(lang: Language, width: int | None) -> None:
    """Each of 36 thresholds is named with its verdict, or counted; of 27 things not checked the number stands there."""
    shown = summarised(summary_of(report(huge()), lang), width)
    assert sum(f"{POLICIES} " in text and "threshold" in text for text in shown) == len(OUTCOMES) or (
        sum(f"{POLICIES} 项门槛" in text for text in shown) == len(OUTCOMES)
    )
    word = {"en": "NOT CHECKED", "zh": "未核验"}[lang]
    said = [text for text in shown if word in text]
    listed = [text for text in said if text.endswith("]")]
    left = [int(number) for text in said for number in re.findall(r"\b(\d+) (?:more NOT|things|项)", text)]
    assert len(listed) + sum(left) == len(NOT_CHECKED) or sum(left) == len(NOT_CHECKED)
    assert all("--all" in text for text in said if not text.endswith("]"))


@pytest.mark.parametrize("lang", LANGUAGES)
def test_each_threshold_says_its_verdict_its_meaning_and_its_values(lang: Language) -> None:
    few = replace(huge(), verdicts=huge().verdicts[:4])
    text = "\n".join(summarised(statement_parts(few, False, lang), None))
    values = rate_text(1900 * P)
    meaning = {
        "en": ("not met: even with", "insufficient evidence: what was shown", "met: what was shown is enough"),
        "zh": ("未达到：", "证据不足：", "达到：已证明"),
    }[lang]
    assert all(part in text for part in meaning)
    for name in ("scale-met", "scale-not-met", "scale-insufficient-evidence"):
        (entry,) = (one for one in text.splitlines() if f"policy-00-of-a-city/{name}" in one)
        assert values in entry
        assert rate_text(T) in entry


def test_the_figures_of_each_class_are_those_of_the_statement() -> None:
    found = statement(bounded(), accept=("no-ceiling",))
    counted = found.classes[0].counted
    for lang, width in SCREENS:
        text = "\n".join(summarised(statement_parts(found, False, lang), width))
        for rate in (counted.certified_mflop_s, counted.sustained_mflop_s, counted.upper_mflop_s):
            assert rate_text(rate) in text
        assert f"{counted.devices:,}" in text
        assert official_summary(found)[0][lang] in text


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_node_without_a_record_stands_once_with_what_it_could_add(lang: Language) -> None:
    found = statement(tally(amount(T), largest={"main": NodeMost(P // 10**3)}), nodes=2)
    (of_class,) = found.classes
    assert (of_class.nodes_missing, of_class.missing_at_most_mflop_s) == (1, P // 10**3)
    text = "\n".join(summarised(statement_parts(found, False, lang), 80))
    amount_text = rate_text(P // 10**3)
    said = {
        "en": f"without a record: 1 node, which could add at most {amount_text}\n  node-missing: 1 node, ",
        "zh": f"无记录：1 个节点，至多可增加 {amount_text}\n  node-missing：1 个节点，",
    }[lang]
    assert said in text
    assert {"en": "no record", "zh": "缺失节点"}[lang] not in text


def test_what_is_worst_stands_first() -> None:
    shown = summarised(statement_parts(replace(huge(), verdicts=huge().verdicts[:4]), False, "en"), None)
    text = "\n".join(shown)
    assert "void: code-49, 491 devices, fp16" in text
    assert text.index("code-49") < text.index("code-46")
    assert text.index("not met") < text.index("insufficient evidence:") < text.index("met: what was shown is enough")


def test_a_good_statement_says_so_in_its_first_lines() -> None:
    found = statement(tally(amount(T + P)))
    shown = summarised(
        summary_of(VerificationReport(at="t", statement=found, level="audited", signers=KEYS[:1]), "en"), 80
    )
    assert shown[0].startswith("ACCEPTED: level audited")
    assert "This centre was shown to sustain" in shown[1]


def test_a_refusal_is_one_line_in_both_languages() -> None:
    refused = VerificationReport(at="t", refusal=RefusedError("expired", "is over"))
    assert summarised(summary_of(refused, "en"), None) == describe_report(refused) == ["REFUSED: expired, at t"]
    assert summarised(summary_of(refused, "zh"), None) == ["不予接受：expired，时间 t"]


@pytest.mark.parametrize(("lang", "width"), SCREENS)
def test_what_certify_prints_is_one_screen_too(lang: Language, width: int | None) -> None:
    lacking = tuple(
        Lack(f"policy-{number}", f"condition-{number}", "not-declared", f"evidence.{number}", f"the paper {number}")
        for number in range(60)
    )
    notes = tuple(f"{number} records of an unknown petaseal [tool-unknown]" for number in range(9))
    made = IssuedStatement(huge(), Path("statement"), KEYS, "cd" * 32, lacking, notes)
    shown = summarised(made.summary(lang), width)
    assert sum(height(text, width) for text in shown) <= MOST_LINES
    assert {"en": "MISSING: ", "zh": "缺少："}[lang] in "\n".join(shown)
    assert str(Path("statement")) in shown[-1]


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_whole_is_longer_and_says_how_long(lang: Language) -> None:
    whole = describe_report(report(huge()), lang)
    shown = summarised(summary_of(report(huge()), lang), None)
    assert f"{len(whole):,}" in shown[-1]
    assert "--all" in shown[-1]
    assert len([text for text in whole if text.startswith(("NOT CHECKED: ", "未核验："))]) == len(NOT_CHECKED)
    assert all(text.isprintable() for text in whole)


def test_the_whole_is_chinese_as_far_as_it_is_sentences() -> None:
    english, chinese = (describe_statement(huge(), lang=lang) for lang in LANGUAGES)
    assert len(english) == len(chinese)
    names = re.compile(r"[a-z0-9/_.-]+: |  (node|record)-|policy-")  # nodes, conditions and codes with what they are
    assert [text for text in chinese if not CHINESE.search(text) and not names.search(text)] == []
