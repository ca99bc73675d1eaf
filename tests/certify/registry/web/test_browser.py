"""The registry's pages in a real browser, served by the real application over loopback."""

from __future__ import annotations

import csv
import io
import json
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import ANY
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest

from certify.keys.signers import pem_text
from certify.registry.state.feeds.sheets import FORMULAS
from certify.registry.web import ROOMS as ROOMS_OF_WEB
from certify.registry.web.downloads import SHEETS
from tests.certify.browsing import chromium
from tests.certify.golden.test_documents import folder, trusted
from tests.certify.golden.test_golden import AT
from tests.certify.golden.test_golden import HERE as GOLDEN
from tests.certify.registry.served import ATTACK, NOW_NS, Site, serve
from tests.certify.registry.web.crowd import LONGEST, fill_crowd

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

LEFT = "net::ERR_ABORTED"  # the reader went on before it came
ROOMS = (
    "",
    "centres",
    "centres/gz-a",
    "centres/gz-test",
    "statements/{a}",
    "statements/{golden}",
    "alarms",
    "refused",
    "attempts",
)
CROWDED = (  # of 300 centres
    "",
    "centres",
    "centres?page=2&sort=alarms&order=desc",
    f"centres/{LONGEST}",
    "centres/gz-001",
    "statements/{a}",
    "statements/{revoked}",
    "statements/{simulated}",
    "alarms",
    "alarms?acknowledged=true",
    "alarm-groups",
    "audit",
    "refused",
    "attempts",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, as it is installed."""
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, keys: Path, empty_file: Path) -> Iterator[Site]:
    """A registry that everybody may read."""
    yield from serve(tmp_path_factory.mktemp("site") / "registry", keys, empty_file)


@dataclass
class Seen:
    """A tab, and everything in it that a reader should never meet."""

    page: Page
    faults: list[str] = field(default_factory=list)

    def show(self, address: str) -> None:
        """Go to a page."""
        self.page.goto(address, wait_until="load")

    def widen_letters(self) -> None:
        """Have all text take more room, as in another machine's fonts."""
        self.page.evaluate(
            """() => {
              const wide = new CSSStyleSheet();
              wide.replaceSync("* { letter-spacing: .06em }");
              document.adoptedStyleSheets = [wide];
            }"""
        )

    @property
    def overflow_px(self) -> int:
        """How far the page is wider than its window."""
        wide: int = self.page.evaluate("document.scrollingElement.scrollWidth - innerWidth")
        return max(0, wide)


Open = Callable[..., Seen]


@pytest.fixture
def tab(browser: Browser) -> Iterator[Open]:
    """Open tabs, each with a browser of its own; at the end none of them may have met a fault."""
    opened = []

    def new(**options: Any) -> Seen:
        context = browser.new_context(**{"locale": "zh-CN", **options})
        seen = Seen(context.new_page())
        page, told = seen.page, seen.faults.append
        page.on("console", lambda one: told(one.text) if one.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: told(str(error)))
        page.on("dialog", lambda one: told(f"dialog: {one.message}"))
        page.on("requestfailed", lambda one: told(f"{one.failure} {one.url}") if one.failure != LEFT else None)
        page.on("response", lambda answer: told(f"{answer.status} {answer.url}") if answer.status >= 400 else None)
        opened.append((context, seen))
        return seen

    yield new
    found = [fault for _, seen in opened for fault in seen.faults]
    for context, _ in opened:
        context.close()
    assert found == []


@pytest.mark.parametrize(("lang", "colours"), [("zh", "light"), ("en", "dark")])
def test_every_page_on_a_desk_and_on_a_phone(tab: Open, site: Site, lang: str, colours: str) -> None:
    seen = tab(color_scheme=colours)
    page = seen.page
    for room in ROOMS:
        seen.show(site.url(lang, room))
        for width, height in ((1400, 900), (800, 1100), (390, 844), (640, 400)):  # the last: 200 % of 1280
            page.set_viewport_size({"width": width, "height": height})
            assert seen.overflow_px == 0, (room, width)
            assert wider(page) == [], (room, width)
        seen.widen_letters()
        page.set_viewport_size({"width": 320, "height": 568})  # WCAG 2.2, 1.4.10
        assert seen.overflow_px == 0, (room, "wide letters")
        assert page.evaluate("document.documentElement.lang") == {"zh": "zh-CN", "en": "en"}[lang]
        assert page.locator("h1").count() == page.locator("[aria-current]").count() == 1
        assert faint(page) == [], room
        assert "1234abcd" not in page.content()  # an identity that a refusal's sentence tells
        if "test" in room or "golden" in room:
            assert page.get_by_text({"zh": "不能证明", "en": "proves nothing"}[lang]).first.is_visible()


def wider(page: Page) -> list[str]:
    """Return elements that are wider than the frame around them, or whose content is wider than they are."""
    found: list[str] = page.evaluate(
        """() => {
          const inner = (node) => ["INPUT", "TEXTAREA", "SELECT"].includes(node.tagName);
          const apart = (node) => node.closest("svg, .unseen, .skip")
            || (node.closest("thead") && getComputedStyle(node.closest("thead")).position === "absolute");
          return [...document.querySelectorAll("body *")].filter((node) => node.checkVisibility() && !apart(node))
            .filter((node) => {
              const frame = node.parentElement.closest(".scroll, .city, main, header, footer, body");
              const [box, around] = [node, frame].map((one) => one.getBoundingClientRect());
              return box.right > around.right + 1 || box.left < around.left - 1
                || (!inner(node) && node.clientWidth > 0 && node.scrollWidth > node.clientWidth + 1);
            }).map((node) => node.outerHTML.slice(0, 120));
        }"""
    )
    return found


def faint(page: Page) -> list[str]:
    """Return texts whose contrast with what lies behind them is below 4.5 (WCAG 2.2, 1.4.3)."""
    found: list[str] = page.evaluate(
        """() => {
          const parse = (text) => text.match(/[\\d.]+/g).map(Number);
          const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
            .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
            .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
          const behind = (node) => {
            for (let one = node; one; one = one.parentElement) {
              const colour = parse(getComputedStyle(one).backgroundColor);
              if (colour.length === 3 || colour[3] > 0) return colour;
            }
            return [255, 255, 255];
          };
          return [...document.querySelectorAll("body *")].filter((node) => node.checkVisibility()
            && [...node.childNodes].some((one) => one.nodeType === 3 && one.data.trim())).filter((node) => {
              const pair = [parse(getComputedStyle(node).color), behind(node)].map(light).sort((a, b) => b - a);
              return (pair[0] + 0.05) / (pair[1] + 0.05) < 4.5;
            }).map((node) => node.outerHTML.slice(0, 80));
        }"""
    )
    return found


def test_a_reader_comes_to_his_language_and_changes_it(tab: Open, site: Site) -> None:
    for locale, lang in (("zh-CN", "zh"), ("en-GB", "en"), ("de-DE", "zh")):
        seen = tab(locale=locale)
        seen.show(f"{site.address}/")
        assert seen.page.url == site.url(lang, "")
    seen.show(site.url("en", "centres?q=gz&sort=state"))
    with seen.page.expect_navigation():
        seen.page.get_by_role("link", name="中文").click()
    assert seen.page.url == site.url("zh", "centres?q=gz&sort=state")


@pytest.mark.parametrize("scripts", [True, False])
def test_centres_are_searched_filtered_and_sorted(tab: Open, site: Site, scripts: bool) -> None:
    from playwright.sync_api import expect

    seen = tab(java_script_enabled=scripts)
    page = seen.page
    seen.show(site.url("en", "centres"))
    shown = page.locator("#centres tbody tr:visible th code")

    def press() -> None:
        if not scripts:
            with page.expect_navigation():
                page.get_by_role("button", name="Search").click()

    def reset() -> None:
        with page.expect_navigation():
            page.get_by_role("link", name="Reset").click()

    assert sorted(shown.all_inner_texts()) == ["gz-a", "gz-evil", "gz-test", "wh-b"]
    page.get_by_label("Name, id or operator").fill("nansha")
    press()
    expect(shown).to_have_text(["gz-a"])
    page.get_by_label("Name, id or operator").fill("")
    page.get_by_label("State").select_option("declared")
    press()
    expect(shown).to_have_text(["wh-b"])
    reset()
    page.get_by_label("Class").select_option("supercomputing")
    press()
    expect(shown).to_have_text(["gz-a"])
    reset()
    for expected in ("ascending", "descending"):
        page.get_by_role("link", name="Certified by class").click()
        expect(page.locator("th[aria-sort]")).to_have_attribute("aria-sort", expected)
        expect(shown.first if expected == "descending" else shown.last).to_have_text(re.compile("^gz-(a|evil)$"))
    page.get_by_label("Name, id or operator").fill("no such centre")
    press()
    expect(shown).to_have_count(0)
    expect(page.get_by_text("No centre fits.")).to_be_visible()


def test_centres_are_filtered_by_city(tab: Open, site: Site) -> None:
    from playwright.sync_api import expect

    seen = tab()
    seen.show(site.url("zh", "centres"))
    shown = seen.page.locator("#centres tbody tr:visible th code")
    seen.page.get_by_label("城市").select_option(label="武汉市")
    expect(shown).to_have_text(["wh-b"])
    seen.show(site.url("zh", "centres?city=CN-440100"))  # as the form without scripts asks, and as a link says it
    expect(shown).to_have_text(["gz-evil", "gz-test", "gz-a"])


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory, keys: Path, empty_file: Path) -> Iterator[Site]:
    """A registry of 300 centres."""
    yield from serve(tmp_path_factory.mktemp("crowd") / "registry", keys, empty_file, fill_crowd)


def read(site: Site, lang: str, room: str, *, as_platform: bool = True) -> HTTPResponse:
    """Return what a page or file is answered with."""
    headers = {"Authorization": f"Bearer {site.named['token']}"} if as_platform else {}
    address = site.url(lang, room)
    assert address.startswith("http://127.0.0.1:")
    answer: HTTPResponse = urlopen(Request(address, headers=headers), timeout=30)
    return answer


@pytest.mark.parametrize(
    ("lang", "rooms"),
    [
        ("zh", ("", f"centres/{LONGEST}", "audit")),
        ("en", ("statements/{a}", "alarm-groups")),
        pytest.param("zh", CROWDED, marks=pytest.mark.long),
        pytest.param("en", CROWDED, marks=pytest.mark.long),
    ],
)
def test_no_element_of_a_whole_city_is_wider_than_its_frame(
    tab: Open, crowd: Site, lang: str, rooms: tuple[str, ...]
) -> None:
    headers = {"Authorization": f"Bearer {crowd.named['token']}"}
    seen = tab(extra_http_headers=headers, timezone_id="Asia/Shanghai")
    for room in rooms:
        seen.show(crowd.url(lang, room))
        for details in seen.page.locator("details").all():
            details.evaluate("node => { node.open = true }")
        for width in (1400, 800, 390):
            seen.page.set_viewport_size({"width": width, "height": 900})
            assert seen.overflow_px == 0, (room, width)
            assert wider(seen.page) == [], (room, width)
        assert seen.page.locator("[aria-current]").count() == 1, room


def test_a_phone_sorts_without_the_head_of_the_table(tab: Open, site: Site, crowd: Site) -> None:
    from playwright.sync_api import expect

    for scripts, address in ((False, crowd.url("en", "centres?q=gz-01")), (True, site.url("en", "centres"))):
        seen = tab(java_script_enabled=scripts, viewport={"width": 390, "height": 844})
        seen.show(address)
        assert seen.page.locator("#centres thead").bounding_box() == {"x": ANY, "y": ANY, "width": 1, "height": 1}
        seen.page.get_by_label("Sorted by").select_option("alarms")
        seen.page.get_by_label("Order", exact=True).select_option("desc")
        if not scripts:
            with seen.page.expect_navigation():
                seen.page.get_by_role("button", name="Search").click()
        expect(seen.page.locator("th[aria-sort]")).to_have_attribute("aria-sort", "descending")
        found = [int(one) for one in seen.page.locator("#centres tbody td:last-child").all_inner_texts()]
        assert found == sorted(found, reverse=True)
        assert len(set(found)) > 1


PAGE_OF = {  # of a list whose page does not have its name
    "lifecycle": "",
    "reached": "",
    **{f"cities/{{policy}}/{name}": "" for name in ("absent", "components", "missing", "trend")},
}


@pytest.mark.parametrize("name", [*SHEETS, "reached"])
def test_every_list_is_downloaded_as_csv(crowd: Site, name: str) -> None:
    named = {"policy": "guangzhou-2027", "centre_id": LONGEST, "sha256": crowd.named["a"]}
    path = f"{name.format(**named)}.csv"
    page = PAGE_OF.get(name, path.removesuffix(".csv").rpartition("/")[0] if "/" in name else name)
    assert f'<a download href="/zh/{path}">' in read(crowd, "zh", page).read().decode()
    answer = read(crowd, "zh", path)
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
    content = answer.read()
    assert content.startswith(BOM_UTF8)
    lines = list(csv.reader(io.StringIO(content.decode("utf-8-sig"))))
    assert len(lines) > 1
    assert {len(line) for line in lines} == {len(lines[0])}
    assert [cell for line in lines for cell in line if cell.startswith(FORMULAS)] == []


def test_every_page_with_a_list_links_to_its_csv(crowd: Site) -> None:
    assert {path for path in ROOMS_OF_WEB if path.endswith(".csv")} == {f"{name}.csv" for name in [*SHEETS, "reached"]}
    for room in CROWDED:
        assert "<a download href=" in read(crowd, "en", room).read().decode(), room


def test_the_audit_log_is_the_platforms(crowd: Site) -> None:
    for room in ("audit", "audit.csv"):
        with pytest.raises(HTTPError, match="401"):
            read(crowd, "zh", room, as_platform=False)
    assert "alarms.acknowledge" in read(crowd, "zh", "audit").read().decode()


@pytest.mark.parametrize("name", ["lifecycle", "centres", "alarms", "refused", "attempts"])
def test_a_download_has_as_many_lines_as_its_page(tab: Open, site: Site, name: str) -> None:
    path = f"{name.format(centre_id='gz-a')}.csv"
    page = {"lifecycle": ""}.get(name, name.format(centre_id="gz-a").removesuffix("/pools").removesuffix("/statements"))
    seen = tab()
    seen.show(site.url("zh", page))
    assert seen.page.locator(f"a[download][href$='/zh/{path}']").count() == 1
    answer = seen.page.request.get(site.url("zh", path))
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    lines = list(csv.DictReader(io.StringIO(answer.body().decode("utf-8-sig"))))
    shown = {"lifecycle": ".life tbody tr:not(.group)", "centres": "#centres tbody tr"}
    rows = seen.page.locator(shown[name]).count() if name in shown else None
    assert lines
    assert rows in (None, len(lines))
    assert "1234abcd" not in answer.text()


def test_a_download_holds_what_the_page_was_asked_for(tab: Open, site: Site) -> None:
    answer = tab().page.request.get(site.url("zh", "centres.csv?q=nansha&sort=valid"))
    (line,) = csv.DictReader(io.StringIO(answer.body().decode("utf-8-sig")))
    assert (line["centre_id"], line["name_zh"], line["jurisdiction"]) == ("gz-a", "南沙智算中心", "CN-440100")


def test_what_is_typed_before_the_script_runs_counts(tab: Open, site: Site) -> None:
    from playwright.sync_api import expect

    seen = tab()
    late: list[Route] = []
    seen.page.route("**/table.mjs*", lambda route: late.append(route))
    seen.page.goto(site.url("en", "centres"), wait_until="commit")
    seen.page.get_by_label("Name, id or operator").fill("nansha")
    for route in late:
        route.continue_()
    expect(seen.page.locator("#centres tbody tr:visible th code")).to_have_text(["gz-a"])


@pytest.mark.parametrize(("zone", "shown"), [("Asia/Shanghai", "2026-02-02 08:00:00 UTC+08:00"), ("UTC", None)])
def test_a_time_in_utc_has_its_readers_own_beside_it(tab: Open, site: Site, zone: str, shown: str | None) -> None:
    seen = tab(timezone_id=zone)
    seen.show(site.url("zh", "attempts"))
    times = seen.page.locator("td time[datetime^='2026-02-01']")
    assert times.first.inner_text() == "2026-02-01 00:00:00"
    assert seen.page.locator(".local").count() == (0 if shown is None else seen.page.locator("time").count())
    if shown is not None:
        assert f"({shown.replace('02-02', '02-01')})" in seen.page.locator("td:has(time)").nth(1).inner_text()


def test_words_of_others_stay_words(tab: Open, site: Site) -> None:
    seen = tab()
    for room in ("centres/gz-evil", f"centres?q={quote(ATTACK)}"):
        seen.show(site.url("zh", room))
        assert seen.page.locator("img").count() == 0
    assert seen.page.locator("input[name=q]").input_value() == ATTACK


PEM = (GOLDEN / "operator.pem.pub").read_text()
ENVELOPE = GOLDEN / "statement.dsse.json"


def altered() -> bytes:
    """Return the golden statement with one byte of its payload changed."""
    content = ENVELOPE.read_bytes()
    return content[:2000] + (b"A" if content[2000:2001] != b"A" else b"B") + content[2001:]


def other_key() -> str:
    """Return a key of another trust root."""
    found = trusted("ed25519")
    return pem_text(b"PUBLIC KEY", next(iter(found.keys.values())).spki).decode()


@pytest.mark.parametrize(
    ("envelope", "key", "records", "simulated", "answer"),
    [
        (ENVELOPE.read_bytes(), PEM, True, True, "接受 ACCEPTED"),
        (ENVELOPE.read_bytes(), PEM, False, True, "接受 ACCEPTED"),
        pytest.param(ENVELOPE.read_bytes(), PEM, False, False, "[simulated]", marks=pytest.mark.long),
        (altered(), PEM, False, True, "[signature-invalid]"),
        pytest.param(ENVELOPE.read_bytes(), other_key(), False, True, "[key-not-trusted]", marks=pytest.mark.long),
        pytest.param(ENVELOPE.read_bytes(), "nothing", False, True, "[key-invalid]", marks=pytest.mark.long),
        pytest.param(b"{}", PEM, False, True, "[schema-invalid]", marks=pytest.mark.long),
    ],
    ids=["with records", "without", "simulated", "altered", "other key", "no key", "no statement"],
)
def test_a_statement_is_verified_in_the_browser(
    tab: Open, site: Site, envelope: bytes, key: str, records: bool, simulated: bool, answer: str
) -> None:
    seen = tab()
    page = seen.page
    page.clock.set_fixed_time(AT)  # of the statement's validity
    if envelope != ENVELOPE.read_bytes():
        page.route("**/statement.dsse.json", lambda route: route.fulfill(body=envelope))
    seen.show(site.url("zh", "statements/{golden}"))
    if records:
        page.set_input_files("input[name=records]", GOLDEN / "records.jsonl")
        page.set_input_files("input[name=key-file]", GOLDEN / "operator.pem.pub")
    else:
        page.locator("textarea[name=key]").fill(key)
    if simulated:
        page.locator("input[name=simulated]").check()
    page.get_by_role("button", name="核验").click()
    page.locator(".answer.yes, .answer.no").wait_for()
    told = page.locator("#verify-answer").inner_text()
    assert answer in told
    if "ACCEPTED" in answer:
        assert "gz-test / P-2026-01 / 1" in told
        assert "0.599914 PFLOPS" in told
        assert "冒烟测试：仅检验安装，不能证明任何算力。" in told
        assert ("Merkle root" in told) == records
        assert ("no records were given" in told) != records
    assert "NOT CHECKED" in told
    assert page.get_by_text("须先信任本服务器").is_visible()


def test_a_statement_under_a_pasted_key_is_verified_in_the_browser(tab: Open, site: Site) -> None:
    seen = tab(locale="en-GB")
    page = seen.page
    page.clock.set_fixed_time(AT)
    content = (folder("ed25519") / "capacity-statement.dsse.json").read_bytes()
    page.route("**/statement.dsse.json", lambda route: route.fulfill(body=content))
    seen.show(site.url("en", "statements/{golden}"))
    page.get_by_role("button", name="Verify").click()
    assert "Give a public key first." in page.locator("#verify-answer").inner_text()
    signer = trusted("ed25519").keys[json.loads(content)["signatures"][0]["keyid"]]
    page.locator("textarea[name=key]").fill(pem_text(b"PUBLIC KEY", signer.spki).decode())
    page.locator("input[name=simulated]").check()
    page.get_by_role("button", name="Verify").click()
    page.locator(".answer.yes, .answer.no").wait_for()
    assert "ACCEPTED" in page.locator("#verify-answer").inner_text()


def test_a_printed_page_has_no_navigation(tab: Open, site: Site) -> None:
    seen = tab()
    seen.show(site.url("zh", "statements/{golden}"))
    seen.page.emulate_media(media="print")
    for hidden in ("nav", ".skip", "#verify-form"):
        assert not seen.page.locator(hidden).is_visible()
    assert seen.page.locator("h1").is_visible()
    assert seen.page.pdf(format="A4").startswith(b"%PDF")


def test_a_keyboard_reaches_the_text_and_every_table(tab: Open, site: Site) -> None:
    seen = tab()
    seen.show(site.url("en", "centres/gz-a"))
    seen.page.keyboard.press("Tab")
    assert seen.page.evaluate("document.activeElement.className") == "skip"
    seen.page.keyboard.press("Enter")
    assert seen.page.evaluate("document.activeElement.id") == "content"
    seen.page.keyboard.press("Tab")
    assert seen.page.evaluate("document.activeElement.classList.contains('scroll')")
    assert seen.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.parametrize(("lang", "told"), [("zh", "没有这个页面"), ("en", "There is no such page")])
def test_what_is_not_there_is_said_on_a_page(tab: Open, site: Site, lang: str, told: str) -> None:
    seen = tab(locale="en-GB" if lang == "en" else "zh-CN")
    page = seen.page
    for address in (
        site.url(lang, "nothing"),
        site.url(lang, "centres/none"),
        f"{site.address}/nothing",
        site.url(lang, f"statements/{'0' * 64}"),
    ):
        answer = page.goto(address)
        assert answer is not None
        assert (answer.status, answer.headers["content-type"].split(";")[0]) == (404, "text/html")
        assert page.get_by_role("heading", name=told).is_visible()
    machine = page.request.get(f"{site.address}/v1/nothing")
    assert (machine.status, machine.headers["content-type"]) == (404, "application/problem+json")
    seen.faults.clear()


def test_a_registry_that_is_read_by_token_asks_for_it(tab: Open, tmp_path: Path, keys: Path, empty_file: Path) -> None:
    from certify.registry.base import tokens
    from certify.registry.base.registry import open_registry

    served = serve(tmp_path / "registry", keys, empty_file, public_read=False)
    site = next(served)
    try:
        registry = open_registry(tmp_path / "registry", lambda: NOW_NS)
        with registry.store.writing() as connection:
            _, secret = tokens.create_token(connection, "official", "reader", None, registry.now, 1)
        registry.close()
        seen = tab(http_credentials={"username": "x", "password": secret})
        seen.page.clock.set_fixed_time(AT)
        seen.show(site.url("en", "statements/{golden}"))
        seen.page.locator("textarea[name=key]").fill(PEM)
        seen.page.locator("input[name=simulated]").check()
        seen.page.get_by_role("button", name="Verify").click()
        seen.page.locator(".answer.yes").wait_for()
        seen.faults.clear()  # the browser was asked for the password first
        refused = tab().page.request.get(site.url("en", "centres"))
        assert (refused.status, refused.headers["www-authenticate"][:5]) == (401, "Basic")
        assert "A token is needed" in refused.text()
        assert "Nansha" not in refused.text()
    finally:
        served.close()
