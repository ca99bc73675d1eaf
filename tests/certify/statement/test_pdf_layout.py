"""The pages of a statement's PDF: whatever it says, nothing leaves its page or its cell, and lists end."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bench.record import ExpectedNode
from certify.documents.statement import CapacityStatement, Finding, NotCounted
from certify.policy.centre import Bilingual, Evidenced, Facility
from certify.policy.policies import load_policy
from certify.policy.reasons import reasons
from certify.statement.paper.sheet import MOST_LINES
from tests.certify.judged import policy_of
from tests.certify.statement.drawn import MM, Page, Word, of_centre, pages_of, pdf_of, text_of, unbroken
from tests.certify.statement.test_build import P, T, amount, bounded, statement, tally
from tests.certify.statement.test_page import measured_pages

ROOT = Path(__file__).parents[3]
SIDE, TOP, BOTTOM = 14 * MM, 4 * MM, 5 * MM  # margins; head and foot stand in those above and below
ROUNDING = 0.6  # points: a glyph's box and what it draws differ
CHINESE = ("广东省广州市南沙区人工智能与高性能计算融合创新示范园区算力基础设施建设运营" * 10)[:200]
WIDE, NARROW = "W" * 256, "i" * 256
SHA = "ab" * 32
MET = statement(tally(amount(10_000 * P + 123_456_789, devices=80_000)))


def saying(text: str) -> CapacityStatement:
    """Return a statement that says one text wherever its centre, devices and policies may say any."""
    paper = Evidenced(name=text, evidence_sha256=SHA)
    found = of_centre(
        statement(bounded(), accept=("no-ceiling",)),
        name=Bilingual(zh=text, en=text),
        operator=text,
        district=text,
        project_id=text,
        park=paper,
        facility=Facility(id=text, definition=text, evidence_sha256=SHA),
        other_subsidies=(paper,) * 30,
    )
    return replace(
        found,
        rules=text,
        inventory=tuple(replace(one, vendor=text, model=text, count_unit=text) for one in found.inventory),
        ceilings=tuple(replace(one, vendor=text, model=text) for one in found.ceilings),
        verdicts=tuple(replace(one, clause=text) for one in found.verdicts),
    )


def named(name: str) -> CapacityStatement:
    """Return a statement with names as long as they may be."""
    nodes = (ExpectedNode(node_id=name, pool=name),) * 40
    lines = (NotCounted(node_id=name, device="cuda:99999", workload="fp64-tuned", codes=(name, name, name)),) * 40
    return replace(
        MET,
        campaign=replace(MET.campaign, campaign_id=name, nodes=nodes),
        pools=tuple(replace(one, pool=name) for one in MET.pools * 3),
        not_counted=lines,
        profile=name,
        centre=replace(MET.centre, centre_id=name),
    )


def pools(count: int) -> CapacityStatement:
    many = tuple(replace(MET.pools[0], pool=f"pool-{i:02d}-of-the-great-hall") for i in range(count))
    inventory = tuple(
        replace(found, pool=pool.pool, vendor="Huawei", model="Ascend 910B3 64GB")
        for pool in many
        for found in next(measured_pages()).inventory
    )
    return replace(MET, pools=many, inventory=inventory)


def nodes(count: int, absent: int = 0) -> CapacityStatement:
    expected = tuple(ExpectedNode(node_id=f"gpu-{i:05d}", pool="main") for i in range(count))
    missing = tuple(
        NotCounted(node_id=node.node_id, device=None, workload=None, codes=("node-missing",))
        for node in expected[:absent]
    )
    return replace(MET, campaign=replace(MET.campaign, nodes=expected), not_counted=missing)


def every_finding() -> CapacityStatement:
    found = tuple(
        Finding(code=code, effect=reason.effect, workload=workload, devices=10**9)
        for code, reason in reasons().items()
        for workload in ("fp16", "fp64-tuned")
    )
    return replace(MET, findings=found)


def unrated() -> CapacityStatement:
    """Return a statement whose devices have no ratings, in part, and whose numbers are as long as they may be."""
    sums = tally(amount(2**53 - 1, devices=2**52))
    found = statement(sums)
    lines = [replace(one, counted=replace(one.counted, devices_without_rating=2**51)) for one in found.classes]
    return replace(found, classes=tuple(lines))


CASES: dict[str, Callable[[], CapacityStatement]] = {
    "200 Chinese characters": lambda: saying(CHINESE),
    "256 wide letters": lambda: saying(WIDE),
    "256 narrow letters": lambda: saying(NARROW),
    "256 commas": lambda: saying("，" * 256),
    "256 dashes": lambda: saying("—" * 256),
    "256 brackets": lambda: saying("（" * 256),
    "256 spaces": lambda: saying("a" + "\u00a0" * 254 + "b"),
    "256 characters that the font lacks": lambda: saying("\U00020bb7" * 256),
    "256 different ones": lambda: saying("".join(chr(0x20C00 + i) for i in range(256))),
    "right to left": lambda: saying(("שלום مرحبا " * 30)[:256].strip()),
    "names of 63 letters": lambda: named("w" * 63),
    "names of 63 dashes": lambda: named("a" + "-" * 61 + "b"),
    "nothing is counted": lambda: statement(tally()),
    "5 pools": lambda: pools(5),
    "40 pools": lambda: pools(40),
    "256 pools": lambda: pools(256),
    "150 nodes": lambda: nodes(150, 9),
    "10,000 nodes": lambda: nodes(10_000),
    "10,000 nodes are absent": lambda: nodes(10_000, 10_000),
    "every finding": every_finding,
    "numbers of 16 digits": unrated,
}


def slack(character: str, word: Word) -> float:
    """Return how far a glyph's box may reach over: Chinese brackets and stops are set half as wide as their boxes."""
    return 0.6 * (word.bottom - word.top) if unicodedata.category(character)[0] == "P" else ROUNDING


def check_pages(pages: list[Page]) -> None:
    """Check that all words stand within their pages, and none on another."""
    for number, page in enumerate(pages, 1):
        for word in page.words:
            where = f"page {number}: {word}"
            assert word.left >= SIDE - slack(word.text[0], word), where
            assert word.right <= page.width - SIDE + slack(word.text[-1], word), where
            assert word.top >= TOP, where
            assert word.bottom <= page.height - BOTTOM, where
        check_apart(number, page.words)


def check_apart(number: int, words: list[Word]) -> None:
    """Check that no word stands on another: one that leaves its cell stands on its neighbour, or close to it."""
    # In the order of their middles: only neighbours in it can stand on one line.
    ordered = sorted(words, key=lambda word: word.top + word.bottom)
    for i, one in enumerate(ordered):
        for other in ordered[i + 1 :]:
            # Boxes are as high as the font, which is more than the lines are apart: their middles must be.
            if (other.top + other.bottom - one.top - one.bottom) / 2 > 2.0:
                break
            if other.left > one.right or one.left > other.right:
                continue
            first, second = sorted((one, other), key=lambda word: word.left)
            between = max(slack(first.text[-1], first), slack(second.text[0], second))
            assert first.right - second.left <= between, f"page {number}: {first} and {second}"


@pytest.mark.parametrize("name", CASES)
def test_nothing_leaves_its_page_or_its_cell(name: str) -> None:
    made = pdf_of(CASES[name]())
    pages = pages_of(made)
    if name != "nothing is counted":  # its watermark stands across the page
        check_pages(pages)
    assert len(pages) <= 16
    text = unbroken(text_of(made))
    for words in ("盖章处", "6核验", "Signingkey"):
        assert words in text


def test_the_check_finds_what_leaves_its_cell() -> None:
    inside = Word("a", 100.0, 100.0, 150.0, 110.0)
    page = Page(210 * MM, 297 * MM, [inside])
    check_pages([page])
    for bad in (
        inside._replace(left=140.0, right=190.0),
        inside._replace(left=560.0, right=580.0),
        inside._replace(top=840.0, bottom=845.0),
    ):
        with pytest.raises(AssertionError):
            check_pages([page._replace(words=[inside, bad])])


@pytest.mark.parametrize(
    ("found", "most"),
    [
        (lambda: statement(tally(amount(T))), 1),
        (lambda: next(measured_pages()), 1),  # with every warning, two workloads and a missing node
        (lambda: pools(40), 2),
        (lambda: nodes(150), 2),
    ],
)
def test_it_has_few_pages(found: Callable[[], CapacityStatement], most: int) -> None:
    assert len(pages_of(pdf_of(found()))) <= most


def test_the_annex_ends_and_says_how_many_more_there_are() -> None:
    text = text_of(pdf_of(nodes(10_000)))
    assert f"gpu-{MOST_LINES - 1:05d}" in text
    assert f"gpu-{MOST_LINES:05d}" not in text
    assert "and 9,700 more: in the attachment" in text
    both = text_of(pdf_of(nodes(10_000, 200)))
    assert "gpu-00099" in both
    assert len(re.findall(r"gpu-\d{5}", both)) <= MOST_LINES + 6


def test_many_policies_each_with_all_its_conditions() -> None:
    policies = tuple(load_policy(name) for name in ("guangzhou-2000p", "guangzhou-2027", "wuhan-2025"))
    verdicts = tuple(
        replace(MET.verdicts[0], policy=policy.policy, condition=condition.condition, clause=condition.clause.ref)
        for policy in policies
        for condition in policy.judged
    )
    made = pdf_of(replace(MET, verdicts=verdicts), policies)
    check_pages(pages_of(made))
    text = unbroken(text_of(made))
    for policy in policies:
        assert unbroken(policy.title.zh) in text
        for condition in policy.judged:
            assert unbroken(condition.title.zh) in text
            assert unbroken(f"［{condition.clause.ref}］") in text


def test_a_policy_of_long_words() -> None:
    policy = policy_of()
    conditions: tuple[Any, ...] = tuple(replace(one, title=Bilingual(zh=CHINESE, en=WIDE)) for one in policy.conditions)
    policy = replace(policy, title=Bilingual(zh=WIDE, en=CHINESE), conditions=conditions)
    check_pages(pages_of(pdf_of(MET, (policy,))))


def test_what_the_template_says_itself_is_in_the_bold_font() -> None:
    from certify.statement.paper.drawable import fonts
    from certify.statement.paper.pdf import TEMPLATE
    from certify.statement.paper.sheet import WATERMARKS

    said = TEMPLATE.read_text() + str(WATERMARKS)
    letters = {c for c in said if unicodedata.category(c) == "Lo"}
    assert letters <= set(fonts().bold)


def test_what_would_take_a_page_of_two_lines_is_set_tighter() -> None:
    paper = (ROOT / "results/example-2000p/statement.pdf").read_bytes()
    first, annex = text_of(paper, 1), text_of(paper, 2)
    assert "盖章处" in first
    assert "核验命令" in first
    assert "only a witness or a spot check does" in " ".join(first.split())
    assert "附页" in annex
    assert len(pages_of(paper)) == 2
