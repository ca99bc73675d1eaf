"""The page of a statement: whole in itself, bilingual, truncated, and harmless whatever a centre file says."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from msgspec.structs import replace

from bench.profile import load_profile
from bench.record import Campaign, NodeRecord
from certify.documents.statement import CapacityStatement, Totals
from certify.policy.policies import Policy, load_policy
from certify.policy.verdicts import Verdict
from certify.statement.bounds import STEPS_MEAN
from certify.statement.paper.page import render
from certify.statement.paper.view import view_of
from tests.bench.fleet import simulate
from tests.certify.judged import basis_of, centre_of, policy_of, statement_of
from tests.certify.measured import node_name, of_node, placed, simulated
from tests.certify.measured import test_campaign as campaign_of
from tests.certify.signed import new_key
from tests.certify.statement.test_build import T, amount, bounded, statement, tally

KEYID, SHA = "ab" * 32, "cd" * 32
ATTACK = "<script>alert(1)</script>\"'&<img onerror=x>"
OFFICIAL = (load_policy("guangzhou-2000p"),)


def page(found: CapacityStatement, policies: tuple[Policy, ...] | None = None) -> str:
    return render(view_of(found, policies or (policy_of(),), KEYID, SHA))


def measured_pages() -> Iterator[CapacityStatement]:
    """Yield statements of all sorts."""
    profile = load_profile("smoke")
    campaign = campaign_of(profile, ("fp16", "fp64"), 2)
    node = of_node(simulated(2, "smoke", ("fp16", "fp64")).record, 0, campaign, new_key())
    basis = basis_of(campaign, profile, policies=(policy_of(),))
    yield statement_of([node], basis)  # simulated, smoke, a node missing, FP64 shown
    yield statement(tally(amount(T)))  # met
    yield statement(tally(amount(T - 1, T - 1), old=amount(5), held=amount(3)))
    yield statement(tally())  # nothing counts
    yield statement(bounded(), accept=("no-ceiling",))  # on every step of evidence


PAGES = tuple(page(found) for found in measured_pages())


class Reader(HTMLParser):
    """Collects elements, attributes and text, and sees that what is opened is closed."""

    VOID = frozenset({"meta", "br", "img", "link", "input", "hr", "circle", "ellipse"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag in ("td", "th", "li", "p", "dt", "dd"):
            self.text += "\n"  # as a reader sees it: no cell runs into the next

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data


@pytest.mark.parametrize("text", PAGES)
def test_the_page_is_whole_in_itself(text: str) -> None:
    reader = Reader(text)
    assert reader.open == []
    assert not {"script", "link", "img", "iframe", "object", "embed", "form", "a", "base"} & {
        e for e, _ in reader.elements
    }
    for _, attributes in reader.elements:
        assert not {"src", "href", "srcset", "action", "data", "xlink:href"} & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)
    for forbidden in ("http://", "https://", "url(", "@import", "javascript:"):
        assert forbidden not in text
    assert text.startswith("<!doctype html>")
    assert '<meta charset="utf-8">' in text


@pytest.mark.parametrize("text", PAGES)
def test_the_page_is_bilingual_and_claims_nothing_it_must_not(text: str) -> None:
    assert "算力能力声明书" in text
    assert "Compute capacity statement" in text
    assert "可核验下限" in text
    for forbidden in ("认证", "证书"):
        assert forbidden not in text
    words = Reader(text).text.lower()
    for pattern in (r"\bpass(ed|es|ing)?\b", r"\bentitle", r"\bqualif", r"\bscore\b", "合格", "通过认", "达标"):
        assert not re.search(pattern, words), pattern


@pytest.mark.parametrize("text", PAGES)
def test_a_draft_says_so_in_both_languages(text: str) -> None:
    assert "如按草案印发" in text
    assert "if issued as drafted" in text


def test_a_policy_in_force_is_not_called_a_draft() -> None:
    policy = policy_of()
    policy = replace(policy, document=replace(policy.document, status="in_force", date="2026-01-01"))
    campaign = campaign_of(load_profile("smoke"), ("fp16",), 1)
    record = simulate({}, 1, "smoke", ("fp16",), node_name(0), campaign)
    text = page(statement_of([record], basis_of(campaign, "smoke", policies=(policy,))), (policy,))
    assert "如按草案印发" not in text
    assert "if issued as drafted" not in text
    assert "In force" in text


def test_what_proves_nothing_says_so_at_the_top() -> None:
    smoke, met, _, nothing, _ = PAGES
    for text, words in (
        (smoke, ("SIMULATED", "SMOKE", "模拟", "冒烟测试")),
        (nothing, ("NOTHING COUNTS", "无计入结果")),
    ):
        for word in words:
            assert word in text
            assert text.index(word) < text.index("<h2>")
    assert 'class="warn"' not in met


@pytest.mark.parametrize(
    ("mflop_s", "shown", "never"),
    [
        (1_999_960_000_000, "1,999.960 PFLOPS", "2,000.000 PFLOPS"),
        (1_999_999_999_999, "1,999.999 PFLOPS", "2,000.000 PFLOPS<"),
        (2_000_000_000_000, "2,000.000 PFLOPS", "1,999"),
        (999_999_999, "999.999 TFLOPS", "1.000 PFLOPS"),
        (999_999, "999.999 GFLOPS", "1.000 TFLOPS"),
        (999, "999 MFLOPS", "1.000 GFLOPS"),
    ],
)
def test_numbers_are_truncated(mflop_s: int, shown: str, never: str) -> None:
    text = page(statement(tally(amount(mflop_s))))
    table = text[text.index("<h2>1 ") : text.index("<h2>2 ")]
    assert shown in table
    assert never not in table


def integers(value: Any) -> set[int]:
    """Return every rate in a statement."""
    if isinstance(value, Totals | Verdict):
        return set().union(*(integers(getattr(value, name)) for name in value.__struct_fields__))
    if isinstance(value, int) and not isinstance(value, bool):
        return {value}
    if isinstance(value, tuple):
        return set().union(*map(integers, value))
    if hasattr(value, "__struct_fields__"):
        return set().union(*(integers(getattr(value, name)) for name in value.__struct_fields__))
    return set()


UNITS = {"PFLOPS": 10**9, "TFLOPS": 10**6, "GFLOPS": 10**3, "MFLOPS": 1}


def test_every_rate_on_a_page_is_one_of_the_statement_truncated() -> None:
    for found, text in zip(measured_pages(), PAGES, strict=True):
        known = integers(found)
        printed = re.findall(r"([\d,]+(?:\.\d+)?) (PFLOPS|TFLOPS|GFLOPS|MFLOPS)", Reader(text).text)
        assert len(printed) >= 5
        for number, unit in printed:
            whole, _, part = number.replace(",", "").partition(".")
            least = int(whole + part) * UNITS[unit] // 10 ** len(part)
            step = max(1, UNITS[unit] // 10 ** len(part))
            if (number, unit) == ("1", "PFLOPS"):
                continue  # the definition of the unit
            assert any(least <= value < least + step for value in known), (number, unit)


HOSTILE: tuple[dict[str, Any], ...] = (
    {"name": {"zh": ATTACK, "en": ATTACK}},
    {"operator": ATTACK},
    {"district": ATTACK},
    {"project_id": ATTACK},
    {"park": {"name": ATTACK, "evidence_sha256": SHA}},
    {"facility": {"id": ATTACK, "definition": ATTACK, "evidence_sha256": SHA}},
    {"other_subsidies": [{"name": ATTACK, "evidence_sha256": SHA}]},
)


def record_with(campaign: Campaign, **model: Any) -> NodeRecord:
    record = simulate({}, 1, "smoke", ("fp16",), node_name(0), campaign)
    return replace(record, models=(replace(record.models[0], **model),))


@pytest.mark.parametrize("changes", HOSTILE, ids=lambda changes: next(iter(changes)))
def test_hostile_text_of_a_centre_is_only_text(changes: dict[str, Any]) -> None:
    campaign = campaign_of(load_profile("smoke"), ("fp16",), 1)
    basis = basis_of(campaign, "smoke", centre_of(**changes))
    check_harmless(page(statement_of([record_with(campaign)], basis), OFFICIAL))


@pytest.mark.parametrize("field", ["vendor", "model"])
def test_hostile_text_of_a_record_is_only_text(field: str) -> None:
    campaign = campaign_of(load_profile("smoke"), ("fp16",), 1)
    record = record_with(campaign, **{field: ATTACK})
    check_harmless(page(statement_of([record], basis_of(campaign, "smoke")), OFFICIAL))


def check_harmless(text: str) -> None:
    reader = Reader(text)
    assert reader.open == []
    assert not {"script", "img"} & {element for element, _ in reader.elements}
    assert "<script" not in text
    assert html.escape(ATTACK, quote=False).replace("<", "&lt;")[:20] in text
    assert ATTACK in reader.text


def test_a_missing_node_is_counted_once_however_many_classes_it_might_be_in() -> None:
    pools = [
        {"pool": "a", "class": "intelligent", "nodes": "all", "devices": ["fake:0"]},
        {"pool": "b", "class": "supercomputing", "nodes": "all", "devices": ["fake:1"]},
    ]
    profile = load_profile("smoke")
    centre = centre_of(pools=pools)
    campaign = placed(campaign_of(profile, ("fp16", "fp64"), 2), centre)
    record = simulate({}, 2, profile, ("fp16", "fp64"), node_name(0), campaign)
    text = page(statement_of([record], basis_of(campaign, profile, centre)), OFFICIAL)
    assert f"<code>node-missing</code> × 1（{node_name(1)}）" in text
    assert "node-missing</code> × 2" not in text


def test_what_the_sums_rest_on_is_said_in_words() -> None:
    text = PAGES[-1]
    section = text[text.index("<h2>3 ") : text.index("<h2>4 ")].replace("&nbsp;", " ")
    for step, means in STEPS_MEAN.items():
        assert means["zh"] in section, step
        assert means["en"] in html.unescape(section), step
    for said in (
        "180.000 PFLOPS",
        "328.650 TFLOPS",
        "稠密标称值",
        "the rating",
        "Huawei 910B3",
        "800 / 800",
        "100 / 110",
    ):
        assert said in section, said
    assert "7.000 PFLOPS 没有可用的上限" in section
    assert "another 5.000 PFLOPS (10 devices) count only with a witness document" in section
    assert STEPS_MEAN["rating"]["zh"] not in PAGES[1]  # of what no figure stands on nothing is said


def test_the_row_newly_added_shows_the_baseline_the_new_devices_and_the_growth() -> None:
    text = Reader(page(statement(tally(amount(T - 1), old=amount(5 * T))))).text
    row = text[text.index("Newly added") : text.index("One single facility")]
    for shown in (
        "存量清单设备（台） devices in the baseline 3",
        "其中仍在（台） of them still there 1",
        "新增设备（台） new devices 1",
        "新增可核验下限 newly added certified 1,999.999 PFLOPS",
        "设备净增（台） net growth of devices -1",
        "可核验下限净增 net growth of certified 未知：没有资料说明存量设备的实测值 not known: nothing says",
    ):
        assert shown in " ".join(row.split())


def test_where_to_look_further() -> None:
    for text in PAGES:
        assert KEYID in text
        assert SHA in text
        assert "petaseal verify statement.dsse.json" in text


def test_the_page_says_how_to_verify_it() -> None:
    found = statement(tally(amount(T)))
    assert "records.jsonl --baseline baseline.dsse.json" in page(replace(found, baseline_sha256="ef" * 32))
    assert "--baseline" not in page(replace(found, baseline_sha256=None))
