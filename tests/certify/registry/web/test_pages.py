"""Pages as functions of values: what stands on them, in which language, and what never does."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bench.language import messages
from bench.units import MFLOP_PER_PFLOP as PFLOPS
from certify.policy.centre import CLASSES, Bilingual
from certify.registry.api.common import ENDED, REACHED
from certify.registry.api.views import CentreDetail
from certify.registry.web import centre_list, chart, files, language, overview, pages, wording
from certify.registry.web.wording import Lang
from tests.certify.registry.shown import (
    NOW,
    alarm,
    centre,
    city,
    decision,
    detail,
    every_page,
    frame,
    history,
    lifecycle,
    line,
    policies,
    pool,
    reached,
    summary,
    trend,
)
from tests.certify.statement.statements import with_fabric

CLOSING = "</main><script>alert(1)</script>"
WEB = Path(pages.__file__).parent
VOID = {"meta", "link", "input", "br", "rect", "path", "circle", "ellipse"}


class Read(HTMLParser):
    """What a page says, outside and inside its tags, and whether its elements close."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def attributes(self, name: str) -> list[str]:
        """Return all values of an attribute."""
        return [value for _, attributes in self.tags if (value := attributes.get(name)) is not None]


LANGS: tuple[Lang, ...] = ("zh", "en")
ALL = {(lang, name): page for lang in LANGS for name, page in every_page(lang).items()}


@pytest.mark.parametrize(("lang", "name"), ALL)
def test_every_page_is_well_formed_and_loads_nothing_from_elsewhere(lang: Lang, name: str) -> None:
    page = ALL[lang, name]
    read = Read(page)
    assert read.open == []
    ids = read.attributes("id")
    assert len(ids) == len(set(ids))
    assert read.attributes("style") == []
    assert not [attribute for _, found in read.tags for attribute in found if attribute.startswith("on")]
    assert all(
        address.startswith(("/", "#", "?")) for one in ("href", "src", "action") for address in read.attributes(one)
    )
    assert all(found.get("src") for tag, found in read.tags if tag == "script")
    assert ("html", {"lang": wording.TAGS[lang]}) in read.tags
    assert sum(tag == "h1" for tag, _ in read.tags) == sum(tag == "main" for tag, _ in read.tags) == 1
    tables = page.count("<table")
    assert page.count("<caption") == tables == page.count('class="scroll')
    assert all("scope" in found for tag, found in read.tags if tag == "th")


@pytest.mark.parametrize("name", sorted({name for _, name in ALL}))
def test_no_word_of_the_other_language_is_the_pages_own(name: str) -> None:
    zh, en = Read(ALL["zh", name]).text, Read(ALL["en", name]).text
    assert re.search("认证|证书", zh + en) is None
    ours = {key: text for key, text in wording.texts().items() if len(text.en) > 20 and "{" not in text.en}
    assert [key for key, text in ours.items() if text.en in zh and text.en not in text.zh] == []
    assert [key for key, text in ours.items() if text.zh in en and text.zh not in text.en] == []


def test_every_text_is_used_and_stands_in_both_languages() -> None:
    sources = "".join(path.read_text() for path in [*(WEB / "templates").glob("*.j2"), *WEB.glob("*.py")])
    exact = set(re.findall(r"""["']([a-z][a-z0-9_.-]+)["']""", sources))
    families = set(re.findall(r"""t\(["']([a-z.]+\.)["'] ~""", sources)) | {"error.", "missing."}
    families |= {f"{prefix}." for prefix in re.findall(r"""known\("(\w+)"\)""", sources)} | {
        "class.",
        "state.",
        "place.",
    }
    unused = {key for key in wording.texts() if key not in exact and not key.startswith(tuple(families))}
    assert unused == set()
    for key, text in wording.texts().items():
        places = [re.findall(r"{(\w+)}", one) for one in (text.zh, text.en)]
        assert sorted(places[0]) == sorted(places[1]), key
        words = re.sub(r"{\w+}", "", text.zh)
        assert key == "nav.language" or not re.search(r"\w", words) or re.search(r"[\u4e00-\u9fff]", words), key
        assert key == "nav.language" or not re.search(r"[\u4e00-\u9fff]", text.en), key


@pytest.mark.parametrize("path", sorted((WEB / "templates").glob("*.j2")), ids=lambda path: str(path.name))
def test_no_template_holds_a_word_of_its_own(path: Path) -> None:
    source = re.sub(r"{%.*?%}|{{.*?}}|{#.*?#}", "", path.read_text(), flags=re.DOTALL)
    words = re.findall(r"[^\W\d_]{2,}", Read(source).text)
    assert set(words) <= {"petaseal", "UTC"}
    shown = [value for name in ("title", "aria-label", "alt", "placeholder") for value in Read(source).attributes(name)]
    assert "".join(shown) == ""


@pytest.mark.parametrize("path", [*(WEB / "assets").glob("*.mjs"), *WEB.glob("*.py")], ids=lambda path: str(path.name))
def test_no_code_holds_a_chinese_word(path: Path) -> None:
    assert re.search(r"[\u4e00-\u9fff]", path.read_text()) is None


def test_words_that_the_printed_statement_has_too_are_the_same() -> None:
    table = wording.texts()
    for prefix, area in (("class", "class"), ("verdict", "outcome"), ("grade", "grade")):
        for name, text in messages()[area].items():
            assert (table[f"{prefix}.{name}"].zh, table[f"{prefix}.{name}"].en) == (text.zh, text.en)
    for kind, text in messages()["warning"].items():
        assert table[f"warn.{kind}"].zh.startswith(text.zh)


def test_every_state_class_and_level_has_its_word() -> None:
    named = {"state": (*REACHED, *ENDED), "class": CLASSES, "level": ("signature", "trusted", "recomputed")}
    assert all(f"{prefix}.{name}" in wording.texts() for prefix, names in named.items() for name in names)


def test_the_overview_tells_value_gap_and_verdict_on_each_basis() -> None:
    text = Read(pages.overview(frame("zh"), (city(),), lifecycle())).text.replace(wording.NBSP, " ")
    # the targets in the unit of their text, and every figure beside it in the same
    for told in ("可核验下限", "1.999 EFLOPS", "差 98.000 EFLOPS", "若按草案发布", "未达到", "另有 16 台无标称"):
        assert told in text
    assert "> 100 EFLOPS" in text
    assert "为目标的 99.9 %" in text  # of 999,999 ppm: it never rounds up to 100.0
    assert "2,000.0" not in text  # 1,999.96 is never shown as 2,000.0
    assert "if issued as drafted" in Read(pages.overview(frame("en"), (city(),), lifecycle())).text
    assert "若按草案发布" not in Read(pages.overview(frame("zh"), (city("wuhan-2025"),), lifecycle())).text
    assert "没有评分" in text
    assert "记账" in text
    assert re.search(r"未提交记录，仅为声明\s*2", text)


def test_a_column_has_one_unit_and_a_small_figure_is_not_nothing() -> None:
    assert overview.unit_of([PFLOPS, 1]) == "PFLOPS"
    assert overview.unit_of([PFLOPS - 1, None]) == "TFLOPS"
    assert [overview.in_unit(one, "EFLOPS", bare=True) for one in (0, 1, 10**6, 999_999 * PFLOPS, 6_700 * PFLOPS)] == [
        "0",
        "<0.000001",
        "0.000001",
        "999.9",
        "6.700",
    ]


def test_the_overview_names_the_absent_and_who_reached_2000p() -> None:
    page = pages.overview(frame("en"), (city(),), lifecycle(), (reached(),), (trend(),))
    text = Read(page).text.replace(wording.NBSP, " ")
    for told in (
        "gz-zengcheng",
        "it never submitted",
        "7.000",
        "Who reached 2,000 PFLOPS",
        "the nearest first (21 in all)",
        "115.5 %",
        "The sums over time",
    ):
        assert told in text
    assert "pass" not in re.findall(r"[a-z]+", text)
    assert page.count('class="curve curve-schedulable"') == 2


def test_precisions_are_never_in_one_life_cycle_table() -> None:
    page = Read(pages.overview(frame("en"), (), lifecycle())).text
    assert page.index("Intelligent compute (FP16)") < page.index("Supercomputing (FP64)")
    assert [page.count(word) for word in ("declared", "schedulable", "revoked")] == [2, 2, 2]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ["a", "b", "c"]),
        ({"q": "bravo"}, ["b"]),
        ({"q": "中心 c"}, ["c"]),
        ({"district": "东湖"}, ["b"]),
        ({"class": "edge"}, ["c"]),
        ({"class": "nothing", "state": "nothing", "page": "x", "sort": "nothing"}, ["a", "b", "c"]),
        ({"state": "revoked"}, ["a"]),
        ({"sort": "certified", "order": "desc"}, ["b", "a", "c"]),
        ({"sort": "certified"}, ["c", "a", "b"]),
        ({"page": "2"}, []),
    ],
)
def test_centres_are_searched_filtered_and_sorted_by_the_address(query: dict[str, str], expected: list[str]) -> None:
    found = [
        centre("a", name=Bilingual(zh="中心 a", en="Alpha"), state="revoked"),
        centre("b", name=Bilingual(zh="中心 b", en="Bravo"), district="东湖", classes=(line(pflops=9000),)),
        centre("c", name=Bilingual(zh="中心 c", en="Charlie"), classes=(line("edge", "fp16", 1),)),
    ]
    page = centre_list.centres(frame("en"), found, (), centre_list.read_ask(query))
    assert re.findall(r"<code>(\w)</code>", page) == expected


def test_centres_are_filtered_by_city_also_where_the_city_is_a_province() -> None:
    places = (("a", "CN-110108"), ("b", "CN-440115"), ("c", "CN-440106"), ("d", "CN-440000"), ("e", None))
    found = [centre(name, jurisdiction=place) for name, place in places]
    page = centre_list.centres(frame("en"), found, (), centre_list.read_ask({"city": "CN-110000"}))
    assert re.findall(r"<code>(\w)</code>", page) == ["a"]
    assert re.findall(r'<option value="(CN-\d+)"', page) == ["CN-110000", "CN-440100"]


def test_what_is_asked_for_survives_in_every_link() -> None:
    ask = centre_list.read_ask({"q": "a&b <x>", "class": "edge", "sort": "alarms", "order": "desc"})
    assert centre_list.ask_query(ask) == "?q=a%26b+%3Cx%3E&sort=alarms&order=desc&class=edge"
    page = centre_list.centres(frame("en"), [centre()], (), ask)
    assert 'value="a&amp;b &lt;x&gt;"' in page
    assert "sort=operator&amp;class=edge" in page
    assert 'aria-sort="descending"' in page


def test_many_centres_are_shown_in_pages() -> None:
    many = [centre(f"c{n:04d}") for n in range(centre_list.ROWS + 1)]
    first, second = (centre_list.centres(frame("en"), many, (), centre_list.CentresAsk(page=n)) for n in (1, 2))
    assert first.count("data-text=") == centre_list.ROWS
    assert second.count("data-text=") == 1
    assert "?page=2" in first
    assert 'rel="next"' not in second
    assert "data-complete" not in first + second


@pytest.mark.parametrize("lang", LANGS)
@pytest.mark.parametrize(("changes", "kind"), [({"simulated": True}, "simulated"), ({"grade": "smoke"}, "smoke")])
def test_what_proves_nothing_says_so_in_every_view(lang: Lang, changes: dict[str, Any], kind: str) -> None:
    mark, warning = (wording.texts()[f"{one}.{kind}"] for one in ("mark", "warn"))
    doubtful = summary(**changes)
    whole = CentreDetail(
        summary=centre(), pools=(pool(**changes),), statements=(doubtful,), attempts=(), external_ids=()
    )
    for page in (
        centre_list.centres(frame(lang), [centre()], [pool(**changes)], centre_list.CentresAsk()),
        pages.centre(frame(lang), whole, ()),
        pages.statement(frame(lang), detail(summary=doubtful), None, policies()),
    ):
        assert wording.said(mark, lang) in Read(page).text
    assert wording.said(warning, lang) in Read(pages.centre(frame(lang), whole, ())).text
    assert (
        wording.said(mark, lang)
        not in Read(centre_list.centres(frame(lang), [centre()], [pool()], centre_list.CentresAsk())).text
    )


def test_an_ended_pool_that_proves_nothing_does_not_mark_its_centre() -> None:
    page = centre_list.centres(
        frame("en"), [centre()], [pool(), pool(simulated=True, state="expired")], centre_list.CentresAsk()
    )
    assert "proves nothing" not in page


def test_words_of_others_stay_words() -> None:
    name = Bilingual(zh=f"{CLOSING}{{{{ 7*7 }}}}", en=f'"{CLOSING}')
    hostile = centre(name=name, operator=CLOSING, district=CLOSING)
    for page in (
        centre_list.centres(frame("zh"), [hostile], (), centre_list.CentresAsk(q="script")),
        pages.statement(frame("en"), detail(summary=summary(name=name), operator=CLOSING), None, {}),
        pages.alarms(frame("zh"), [alarm(title=name, centre_id=CLOSING)], CLOSING),
        pages.refused(frame("zh"), [decision(detail=CLOSING, centre_id=CLOSING, kind=CLOSING)], None),
        pages.error(frame("zh", CLOSING), 404, CLOSING),
    ):
        assert "alert(1)" not in "".join(re.findall(r"<script.*?</script>", page, re.DOTALL))
        assert Read(page).open == []


def test_sentences_of_alarms_are_not_public() -> None:
    assert "1234abcd" not in ALL["zh", "alarms"] + ALL["en", "centre"]


def test_sentences_of_refusals_are_shown_where_they_were_told() -> None:
    told, untold = (pages.refused(frame("en"), [decision(detail=one)], None) for one in ("it does not hold", None))
    assert ("it does not hold" in told, "Detail" in told) == (True, True)
    assert "Detail" not in untold


def test_attempts_that_were_not_submitted_come_first() -> None:
    page = ALL["en", "attempts"]
    assert (
        page.index("opened, not submitted (1)")
        < page.index("open (1)")
        < page.index("submitted (1)</h2>", page.index("open (1)"))
    )


def test_figures_are_truncated_with_sensible_digits() -> None:
    shown = [
        wording.rate(n).replace(wording.NBSP, " ") for n in (None, 0, 1, 1_999_960_000_000, 99_999_999_999, 40_000_000)
    ]
    assert shown == ["n/a", "0 PFLOPS", "1 MFLOPS", "1,999.9 PFLOPS", "99.999 PFLOPS", "40.000 TFLOPS"]


def test_a_history_is_a_chart_of_each_class_that_ends_now() -> None:
    one, other = chart.charts(history(), NOW)
    assert [len(one.points), len(other.points)] == [4, 1]
    assert one.first < one.last == NOW
    rates = [point.certified_mflop_s for point in one.points]
    assert rates[:3] == sorted(rates[:3])
    assert all(0 <= p.x <= one.width and 0 <= p.y <= one.height for p in (*one.points, *other.points))
    assert one.curve.startswith(f"M{one.points[0].x} {one.points[0].y}H")
    assert chart.charts([], NOW) == ()


def test_statements_that_prove_nothing_have_charts_of_their_own() -> None:
    kinds = [one.proves_nothing for one in chart.charts((summary(1), summary(2, simulated=True)), NOW)]
    assert kinds == [None, None, "simulated", "simulated"]


def test_a_page_of_an_error_tells_its_code_in_the_language() -> None:
    assert "没有这个页面" in pages.error(frame("zh"), 404, "not-found")
    assert "令牌" in pages.error(frame("zh"), 401, "token-missing")
    assert "cannot be shown" in pages.error(frame("en"), 418)


@pytest.mark.parametrize(
    ("accepted", "lang"),
    [
        ("", "zh"),
        ("en", "en"),
        ("en-GB,en;q=0.9,zh;q=0.8", "en"),
        ("zh-Hant-TW, en;q=0.5", "zh"),
        ("de, en;q=0.2", "en"),
        ("en;q=0", "zh"),
        ("en;q=x, zh;q=0.1", "zh"),
        ("*", "zh"),
    ],
)
def test_the_language_is_what_the_browser_likes_best(accepted: str, lang: Lang) -> None:
    assert language(accepted) == lang


def test_the_verifier_that_is_served_is_the_one_that_is_installed() -> None:
    served = files.assets()
    assert served["verifier.mjs"].content == (WEB.parent.parent / "verifier.mjs").read_bytes()
    assert {"schemas/capacity-statement.schema.json", "schemas/node-record.schema.json"} <= served.keys()
    assert "签名" in served["reasons.zh.json"].content.decode()
    assert len({asset.etag for asset in served.values()}) == len(served)


@pytest.mark.parametrize("lang", LANGS)
def test_the_fabric_stands_beside_the_condition_of_one_facility(lang: Lang) -> None:
    fabric = with_fabric(40, ("fabric-rank-missing",)).statement.fabric
    shown = {
        "guangzhou": pages.statement(frame(lang), detail(fabric=fabric), None, {}),
        "unmeasured": pages.statement(frame(lang), detail(), None, {}),
    }
    headline = {
        "zh": "网络互连：部分连通（40 组），网络损失 7.1 %",
        "en": "fabric: partly (40 groups), network loss 7.1 %",
    }
    assert f"{headline[lang]} <code>fabric-rank-missing</code>" in shown["guangzhou"]
    assert "pod-11" in shown["guangzhou"]
    assert "pod-12" not in shown["guangzhou"]
    assert "<code>fabric-not-measured</code>" in shown["unmeasured"]
    assert "<code>network-loss</code>" not in shown["unmeasured"]
