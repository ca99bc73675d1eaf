"""The page in a browser and on paper; and page, PDF and terminal say the same, of every sort of statement."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bench.language import LANGUAGES, Language, both, messages_of
from bench.record import NodeRecord
from bench.units import rate_text
from certify.documents.statement import PoolLine
from certify.keys.files import new_key
from certify.policy.policies import Condition, condition_code
from certify.policy.verdicts import Verdict
from certify.statement.describe import describe_statement, warnings_of
from certify.statement.paper.page import render
from certify.statement.paper.pdf import SignedStatement, statement_pdf
from certify.statement.paper.summary import summary_of
from certify.statement.paper.view import view_of
from certify.statement.paper.visible import visible, visible_text
from tests.bad_input.command import petaseal
from tests.certify.browsing import check_page, chromium
from tests.certify.campaign.test_rehearsal import arguments, laid
from tests.certify.fleet.test_diagnose import lay_out, run, scaled, void
from tests.certify.statement.statements import BEYOND_FONTS, CASES, HEBREW, LONG_NAME, LONG_WORD, STEERING, Case
from tests.certify.statement.test_page import Reader

if TYPE_CHECKING:
    from playwright.sync_api import Page

KEYID, SHA = "ab" * 32, "cd" * 32
FIGURE = re.compile(r"[+-]?[\d,]+(?:\.\d+)?\s?(?:[PTG]FLOPS|MFLOPS)")
BROWSED = ("met", "simulated", "hostile", "many-pools")  # the widest, and what looks most unlike the others


@cache
def case(name: str) -> Case:
    return CASES[name]()


@cache
def page_of(name: str) -> str:
    return render(view_of(*case(name), KEYID, SHA))


@cache
def pdf_text(name: str) -> str:
    """Return the text of the PDF, in the order in which it was drawn."""
    signed = SignedStatement(b"{}", case(name).statement, (KEYID,), SHA)
    return text_of(statement_pdf(signed, case(name).policies))


def text_of(pdf: bytes) -> str:
    told = subprocess.run(["pdftotext", "-raw", "-", "-"], input=pdf, capture_output=True, timeout=60, check=True)
    return told.stdout.decode()


def terminal(name: str, lang: Language) -> str:
    return "\n".join(describe_statement(case(name).statement, lang=lang))


OUTCOMES = {re.sub(r"\s", "", message.zh) for message in messages_of("outcome").values()}
VERDICT_WORD = "|".join(sorted(OUTCOMES, key=len, reverse=True))


def figures(text: str) -> set[str]:
    return {re.sub(r"\s", "", found.lstrip("+-")) for found in FIGURE.findall(text)}


def flat(text: str) -> str:
    """Return a text without what breaks its lines."""
    return re.sub(r"[\s\u200b\u00a0]", "", text)


# --- page, PDF and terminal say the same ---


@pytest.mark.parametrize("name", CASES)
def test_page_pdf_and_terminal_show_the_same_figures(name: str) -> None:
    on_page, on_paper = figures(Reader(page_of(name)).text), figures(pdf_text(name))
    on_terminal = {lang: figures(terminal(name, lang)) for lang in LANGUAGES}
    of_pools = {figure for pool in visible(case(name).statement).pools for figure in figures(pool_figures(pool))}
    assert on_terminal["zh"] == on_terminal["en"]
    assert on_terminal["en"] <= on_page
    assert on_page - {"1PFLOPS"} <= on_paper | of_pools
    assert on_paper - {"1PFLOPS"} <= on_page | of_pools
    assert len(on_terminal["en"]) >= 2
    check_sums(name)


def check_sums(name: str) -> None:
    """Fail where the figures of a class do not stand in their columns, one after the other, or behind their names."""
    page, paper = flat(Reader(page_of(name)).text), flat(pdf_text(name))
    for line in case(name).statement.classes:
        sums = line.counted
        rates = {"certified": sums.certified_mflop_s, "sustained": sums.sustained_mflop_s, "upper": sums.upper_mflop_s}
        row = flat("".join(map(rate_text, rates.values())))
        assert row in page
        assert row in paper
        for lang in LANGUAGES:
            for key, rate in rates.items():
                assert flat(both("total", key)[lang] + rate_text(rate)) in flat(terminal(name, lang))


def pool_figures(pool: PoolLine) -> str:
    """Return the figures of one pool, of which each form shows as many as it has room for."""
    sums = pool.counted
    rates = (sums.certified_mflop_s, sums.sustained_mflop_s, sums.upper_mflop_s, sums.nominal_mflop_s)
    return " ".join(map(rate_text, rates))


@pytest.mark.parametrize("name", CASES)
def test_page_pdf_and_terminal_give_the_same_verdicts(name: str) -> None:
    statement, policies = case(name)
    titles = {(p.policy, c.condition): c for p in policies for c in p.judged}
    conditions = [titles[verdict.policy, verdict.condition] for verdict in statement.verdicts]
    assert re.findall(r'class="v"><b class="(\w+)">', page_of(name)) == [one.verdict for one in statement.verdicts]
    page, paper = (rows_of(flat(text), conditions) for text in (Reader(page_of(name)).text, pdf_text(name)))
    shown = {lang: terminal(name, lang).splitlines() for lang in LANGUAGES}
    for verdict, condition, on_page, on_paper in zip(statement.verdicts, conditions, page, paper, strict=True):
        said = {both("outcome", verdict.verdict)["zh"], *(both("outcome", one.verdict)["zh"] for one in verdict.bases)}
        assert f"[{condition_code(condition)}]" in on_page
        for row in (on_page, on_paper):
            assert OUTCOMES.intersection(re.findall(VERDICT_WORD, row)) == {flat(one) for one in said}, condition
            for reason in (verdict.reason, *(basis.reason for basis in verdict.bases)):
                assert reason is None or reason in row
            assert figures_of(verdict) <= figures(row)
        for lang in LANGUAGES:
            at = [i for i, one in enumerate(shown[lang]) if one.startswith(f"{verdict.policy}/{verdict.condition}: ")]
            (line,) = (shown[lang][i] for i in at)
            assert both("word", verdict.verdict)[lang] in line
            assert verdict.reason is None or verdict.reason in line
            assert figures_of(verdict) <= figures(flat("\n".join(shown[lang][at[0] : at[0] + 12])))


def rows_of(text: str, conditions: Sequence[Condition]) -> list[str]:
    """Return what stands between the title of each condition and that of the next."""
    text, rows = text[text.index("4条件判定") : text.index("5未证明")], []
    for condition in conditions:
        before, _, text = text.partition(flat(condition.title.en))
        rows.append(before)
    return [*rows[1:], text]


def figures_of(verdict: Verdict) -> set[str]:
    """Return the rates of a verdict, as they are shown."""
    rates = [b.observed_mflop_s for b in verdict.bases if verdict.without_rating in (None, 0) or b.basis != "nominal"]
    rates += [verdict.growth.newly_added_mflop_s] if verdict.growth else []
    return {flat(rate_text(rate)) for rate in rates} if verdict.threshold_ppm is None else set()


@pytest.mark.parametrize("name", CASES)
def test_page_pdf_and_terminal_bear_the_same_warnings_codes_and_digests(name: str) -> None:
    statement = case(name).statement
    page, paper = flat(Reader(page_of(name)).text), flat(pdf_text(name))
    for kind in ("simulated", "smoke", "nothing"):
        words, holds = both("warning", kind), kind in warnings_of(statement)
        for lang in LANGUAGES:
            said = flat(words[lang])
            assert [said in one for one in (page, paper, flat(terminal(name, lang)))] == [holds] * 3, (kind, lang)
    for digest in (KEYID, SHA, statement.records_root):
        assert digest in page
        assert digest in paper
    for finding in statement.findings:
        assert finding.code in page
        assert finding.code in paper


@pytest.mark.parametrize("name", CASES)
def test_the_sentences_for_an_official_are_the_same_everywhere(name: str) -> None:
    statement, policies = case(name)
    sentences = summary_of(visible(statement), policies)
    page, paper = flat(Reader(page_of(name)).text), flat(pdf_text(name))
    for one in sentences:
        assert flat(one["zh"]) in page
        assert flat(one["en"]) in page
    if not warnings_of(statement):
        assert flat(sentences[0]["zh"]) in paper
    for lang in LANGUAGES:
        assert sentences[0][lang] in terminal(name, lang)
        assert sentences[-1][lang] in terminal(name, lang)


# --- the sentences themselves ---

SAID = {
    "counted": (
        "1,909.123 PFLOPS、实测持续 1,924.345 PFLOPS：未达到；标称 2,310.789 PFLOPS：达到。原文未规定口径",
        "not met; nominal rating",
    ),
    "met": ("标称 12,345.678 PFLOPS：达到", "thresholds with insufficient evidence: 5 (The centre does not declare"),
    "baseline": ("新增智能算力，要求不低于 2,000.000 PFLOPS", "Nodes without a record, which count nothing: 2"),
    "low-grade": ("级别：标准", "insufficient evidence (A counted figure is below"),
    "simulated": (
        "未能证明本中心可持续提供任何算力：设备为模拟",
        "was shown to sustain nothing: its devices were simulated",
    ),
    "smoke": ("未能证明本中心可持续提供任何算力：仅数秒", "sustain nothing: a smoke test"),
    "nothing": ("没有符合规则的测量结果", "sustain nothing: no figure met the rules"),
    "fp64-only": (
        "新增智能算力（本声明无此类资源池）",
        "newly added intelligent compute (no pool of it in this statement)",
    ),
    "both-classes": ("、超算算力 FP64 41.000 PFLOPS", ", and 41.000 PFLOPS of supercomputing in FP64"),
    "no-rating": ("5.000 PFLOPS + 3 台", "5.000 PFLOPS + 3 device(s) without rating"),
    "no-baseline": ("智能算力，要求不低于", "1 x declared, not verified"),
}


@pytest.mark.parametrize("name", SAID)
def test_what_an_official_reads_first(name: str) -> None:
    said = summary_of(*case(name))
    for lang, words in zip(("zh", "en"), SAID[name], strict=True):
        text = "\n".join(one[lang] for one in said)
        assert words in text
        assert "pass" not in text
        assert "合格" not in text
    proven = [one["en"] for one in said if "was shown to sustain nothing" not in one["en"]]
    assert any("was shown to sustain" in one for one in proven) is not bool(warnings_of(case(name).statement))


def test_of_many_policies_the_first_are_said_and_the_rest_counted() -> None:
    statement = case("counted").statement
    (verdict,) = [one for one in statement.verdicts if one.condition == "scale-2000p"]
    many = replace(statement, verdicts=tuple(replace(verdict, policy=f"policy-{i}") for i in range(12)))
    said = summary_of(many)
    assert [one["en"].split(",")[0] for one in said[1:9]] == [f"policy-{i}" for i in range(8)]
    assert said[9] == both("statement", "more", count=4)
    assert len(said) == 11


# --- hostile and large ---


def test_declared_text_neither_moves_its_neighbours_nor_steers_a_terminal() -> None:
    text, whole = page_of("hostile"), "".join(terminal("hostile", lang) for lang in LANGUAGES)
    for character in "\u202e\u202c\u2066\u2069\x1b":
        assert character not in text
        assert character not in whole
    assert visible_text(STEERING) == r"\x202egnitupmoc\x202c \x1b[31mred\x1b[0m\x2066a\x2069"
    assert visible_text(STEERING) in Reader(text).text
    assert LONG_NAME[:200] in Reader(text).text
    assert f"<bdi>{HEBREW}</bdi>" in text
    assert f"{BEYOND_FONTS[0]}U+20BB7{BEYOND_FONTS[1:]}" in Reader(text).text
    assert "另有 20 项 and 20 more" in Reader(text).text
    assert Reader(text).open == []


def test_what_is_shown_leaves_every_other_text_as_it_is() -> None:
    for text in ("", "广州 南沙　智算中心", "e\u0301", "א ב", "a\u00a0b", BEYOND_FONTS):
        assert visible_text(text) == text
    for name in ("counted", "many-nodes"):
        assert visible(case(name).statement) == case(name).statement


def test_the_page_of_ten_thousand_nodes_is_short_and_quickly_made() -> None:
    made = case("many-nodes")
    assert len(made.statement.campaign.nodes) == 10_000
    begin = time.process_time()
    text = render(view_of(*made, KEYID, SHA))
    assert time.process_time() - begin < 5
    assert len(text) < 300_000
    assert "另有 and 55 more" in " ".join(Reader(text).text.split())


# --- in a browser ---


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    """A tab of Chromium."""
    with chromium() as browser:
        yield browser.new_context(offline=True).new_page()


@pytest.mark.parametrize(
    "name", [*BROWSED, *(pytest.param(one, marks=pytest.mark.long) for one in CASES if one not in BROWSED)]
)
def test_nothing_is_cut_on_a_desk_on_a_phone_and_on_paper(tab: Page, tmp_path: Path, name: str) -> None:
    text = page_of(name)
    printed = check_page(tab, text, tmp_path, name)
    assert figures(Reader(text).text) <= figures(" ".join(printed.split()))
    assert SHA in flat(printed)


def test_a_heading_and_its_table_are_not_parted_and_no_row_is(tab: Page, tmp_path: Path) -> None:
    tab.set_content(page_of("many-pools"))
    tab.pdf(path=tmp_path / "page.pdf", format="A4", prefer_css_page_size=True)
    sheets = text_of((tmp_path / "page.pdf").read_bytes()).split("\f")[:-1]
    assert len(sheets) >= 4
    for sheet in sheets:
        lines = [line for line in sheet.splitlines() if line.strip()]
        assert not re.match(r"\d [\u4e00-\u9fff]", lines[-1]), lines[-1]  # a heading at the end of a sheet
        assert "[binding-limit]" not in lines[-1]
    pools = [i for i, sheet in enumerate(sheets) if "hall-00.accelerators" in sheet]
    later = [sheet for sheet in sheets[pools[0] + 1 :] if sheet.count("hall-39.accelerators")]
    assert later, "the list goes on"
    assert later[0].index("Pool") < later[0].index("hall-39"), "the head of a table stands on each of its sheets"


def test_the_other_pages_are_not_cut_either(tab: Page, tmp_path: Path) -> None:
    """A diagnosis that found something of every kind, and a rehearsal."""

    def change(index: int, record: NodeRecord) -> NodeRecord:
        if index == 1:
            return void(record)
        named = replace(record, models=(replace(record.models[0], model=LONG_WORD, plays="petaseal-fake-1"),))
        return scaled(named if index == 6 else record, 900_000 if index == 2 else 1_000_000)

    new_key(tmp_path / "key.pem", None)
    folder = lay_out(tmp_path / "campaign", tmp_path / "key.pem", 12, change)
    out = run(folder, tmp_path / "key.pem").out
    for file in (out / "index.html", rehearsed(tmp_path)):
        text = file.read_text()
        printed = check_page(tab, text, tmp_path, file.name)
        assert figures(Reader(text).text) <= figures(" ".join(printed.split()))


def rehearsed(folder: Path) -> Path:
    """Return the page of a rehearsal."""
    answer = petaseal(*arguments(laid(folder / "centre"), folder / "rehearsal"), "--rehearse", "--times", 2000)
    assert answer.status == 0
    return folder / "rehearsal" / "rehearsal.html"
