"""``petaseal report html``: what stands on the page, the same bytes each time, and what is wrong with a source."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bench.errors import InputError, PetasealError
from bench.language import messages_of
from bench.record.folder import Folder
from bench.units import rate_text
from certify.campaign.candidates import SAMPLES_SUFFIX
from certify.campaign.collect import collect
from certify.documents.kinds import RECORD_SUFFIX
from certify.fleet.fleet import diagnose
from certify.policy.hostlists import natural_key
from certify.report.canvas import AxisRange
from certify.report.figures import DrawnReference
from certify.report.make import ReportMade, ReportRequest, chosen_nodes, make_report
from certify.report.page import ReportContent, render_report, roof_of
from certify.report.plots import Roof, per_watt_plot, roofline
from certify.report.reading import read_records
from certify.report.source import GivenFiles, find_source
from certify.report.timeline import TimedNode, TimeFrame, node_plot
from certify.report.view import figure_row
from tests.certify.browsing import chromium
from tests.certify.measured import BEGIN_NS
from tests.certify.report.campaign import Laid, lay_campaign

if TYPE_CHECKING:
    from playwright.sync_api import Browser

AT = "2027-01-01T00:00:00.000000Z"
NOW_NS = BEGIN_NS + 86_400 * 10**9
LONG = "<b>节点</b>&" + "超长名称" * 45
NAMES = ("gpu-a", "gpu-b", "gpu-c", LONG)


def test_ticks_have_the_digits_by_which_they_differ() -> None:
    drawn = per_watt_plot([(1, 1_610_000), (2, 1_625_000), (3, 1_650_000)], "", "p")
    ticks = [text for text in re.findall(r"<text[^>]*>([^<]*)</text>", drawn) if re.fullmatch(r"\d+\.\d+", text)]
    assert len(ticks) >= 2
    assert len(set(ticks)) == len(ticks)


@pytest.fixture(scope="module")
def laid(tmp_path_factory: pytest.TempPathFactory) -> Laid:
    """A campaign of seven nodes: one throttles, one is slow, one without telemetry has a long name with markup."""
    kinds = {0: "throttled", 1: "slow", 3: "blind"}
    return lay_campaign(tmp_path_factory.mktemp("laid"), 7, 4, kinds=kinds, names=NAMES)


@pytest.fixture(scope="module")
def page(laid: Laid, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its report."""
    made = draw(laid.folder.root, tmp_path_factory.mktemp("page") / "report.html")
    assert made.problems == ()
    return made.page


@pytest.fixture
def copy(laid: Laid, tmp_path: Path) -> Path:
    """A copy of the campaign's folder, to be damaged."""
    return shutil.copytree(laid.folder.root, tmp_path / "campaign")


def draw(folder: Path, out: Path, **more: object) -> ReportMade:
    return make_report(ReportRequest(folder, out, GivenFiles(), NOW_NS, **more))  # type: ignore[arg-type]


def words(page: Path) -> str:
    """Return the text of a page."""
    return words_of(page.read_text())


def words_of(source: str) -> str:
    text = re.sub(r"<style>.*?</style>", " ", source, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", text)).split())


def of_node(folder: Path, laid: Laid, name: str, suffix: str) -> Path:
    """Return the file of a node by the engine's name."""
    node = next(one.node_id for one in laid.folder.roster().nodes if one.name == name)
    return Folder(folder).records(node) / f"{node}{suffix}"


def test_the_page_shows_what_is_planted(page: Path) -> None:
    text = words(page)
    assert "SIMULATED: measured on simulated devices" in text
    assert "gpu-a, gpu-b" in text  # to take out
    assert "gpu-b 整个节点偏慢 node slow as a whole petaseal Fake-1 fp16 -12.6 %" in text
    assert "gpu-a fake:1 设备偏慢 device slow" in text
    assert re.search(r"功率上限 power cap [56]\.\d %", text)
    assert re.search(r"温度降频 temperature [34]\.\d %", text)
    assert "频率 clock 未知 not known" in text  # of the node without telemetry
    assert "no source of telemetry" in page.read_text()
    assert "throttled 44.4 %" in text
    assert "the silicon at the highest observed clock observed-clock 469.263 TFLOPS" in text
    assert text.count("limit observed-clock 469.263 TFLOPS ( silicon )") >= 16  # each figure's
    assert "1,335 / 2,048 = 65.2 %" in text
    assert "NOT CHECKED: the campaign's signature" in text
    assert "triad) was not measured" in text


def test_nothing_comes_from_elsewhere_and_nothing_runs(page: Path) -> None:
    source = page.read_text()
    assert "<script" not in source
    assert not re.search(r"\bon\w+=", re.sub(r">[^<]*<", "><", source))
    assert set(re.findall(r"https?://[^\"' <]+", source)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert "<b>节点</b>" not in source
    assert "&lt;b&gt;节点&lt;/b&gt;&amp;" in source
    names = re.findall(r' id="([^"]+)"', source)
    assert len(names) == len(set(names))
    assert set(re.findall(r'(?:href="#|url\(#)([\w.-]+)', source)) <= set(names)


def test_it_says_what_it_was_drawn_from(page: Path, laid: Laid) -> None:
    source = page.read_text()
    for samples in (laid.folder.root / "records").rglob(f"*{SAMPLES_SUFFIX}"):
        assert hashlib.sha256(samples.read_bytes()).hexdigest() in source
    assert len(re.findall(r"<code>[0-9a-f]{64}</code>", source)) == 14
    assert "A rendering for the operator" in source


def test_every_text_of_the_area_stands_on_the_page() -> None:
    room = Path(sys.modules["certify.report.make"].__file__ or "").parent
    source = "".join(path.read_text() for path in sorted(room.iterdir()) if path.suffix in (".j2", ".py"))
    computed = ("ceiling_", "lack_", "clock_", "node_", "device_", "samples_")
    lacking = {key for key in messages_of("report") if f'"{key}"' not in source and f"w.{key}." not in source}
    assert {key for key in lacking if not key.startswith(computed)} == set()


def test_the_same_input_gives_the_same_bytes(laid: Laid, page: Path, tmp_path: Path) -> None:
    """In another process, folder, time zone and language, with another style of matplotlib's."""
    moved = shutil.copytree(laid.folder.root, tmp_path / "elsewhere")
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 9\nfont.size: 30\nbackend: agg\n")
    environment = {
        **os.environ,
        "TZ": "Asia/Shanghai",
        "LANG": "zh_CN.UTF-8",
        "MATPLOTLIBRC": str(tmp_path),
        "PYTHONHASHSEED": "7",
    }
    command = [str(Path(sys.executable).with_name("petaseal")), "report", "html", str(moved), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "report.html").read_bytes() == page.read_bytes()
    assert "共 7 份记录" in done.stdout


def missing(path: Path) -> None:
    path.unlink()


def other(path: Path) -> None:
    path.write_bytes(gzip.compress(b"device,workload,phase,offset_ns,quantity,value\n"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("suffix", "damage", "code", "whole"),
    [
        (SAMPLES_SUFFIX, missing, "samples-missing", True),
        (SAMPLES_SUFFIX, other, "samples-differ", False),
        (SAMPLES_SUFFIX, cut, "samples-differ", False),
        (RECORD_SUFFIX, cut, "json-invalid", False),
    ],
)
def test_one_bad_file_is_said_and_the_others_are_drawn(
    copy: Path, laid: Laid, tmp_path: Path, suffix: str, damage: Callable[[Path], None], code: str, whole: bool
) -> None:
    path = of_node(copy, laid, "gpu-b", suffix)
    damage(path)
    made = draw(copy, tmp_path / "report.html")
    (problem,) = made.problems
    assert (problem.where, problem.code) == (path.name, code)
    assert made.is_whole == whole
    text = words(made.page)
    assert f"{path.name}: {problem.what} {code}" in text
    assert made.records == (7 if suffix == SAMPLES_SUFFIX else 6)
    if suffix == SAMPLES_SUFFIX:  # the record's own 30 sub-windows are drawn all the same
        assert "no samples" in made.page.read_text()
    else:
        assert "Expected nodes without a record here (1): gpu-b" in text


def test_a_record_of_another_campaign_is_left_out(copy: Path, laid: Laid, tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    foreign = lay_campaign(tmp_path / "foreign", 1, 1).folder
    (stranger,) = (foreign.root / "records").rglob(f"*{RECORD_SUFFIX}")
    shutil.copy(stranger, of_node(copy, laid, "gpu-b", RECORD_SUFFIX).parent)
    made = draw(copy, tmp_path / "report.html")
    assert [(one.where, one.code) for one in made.problems] == [(stranger.name, "campaign-differs")]
    assert made.records == 7


def test_one_machine_under_two_names_is_drawn_once(copy: Path, laid: Laid, tmp_path: Path) -> None:
    path = of_node(copy, laid, "gpu-b", RECORD_SUFFIX)
    path.with_name(f"zz{RECORD_SUFFIX}").write_bytes(path.read_bytes())
    made = draw(copy, tmp_path / "report.html")
    assert [one.code for one in made.problems] == ["file-name-differs"]


def test_where_nothing_can_be_drawn_nothing_is_written(copy: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    for path in (copy / "records").rglob(f"*{RECORD_SUFFIX}"):
        path.write_bytes(b"{}")
    with pytest.raises(PetasealError, match="no record can be drawn; the first"):
        draw(copy, out)
    shutil.rmtree(copy / "records")
    with pytest.raises(InputError, match="has no record yet"):
        draw(copy, out)
    with pytest.raises(InputError, match="holds no record"):
        draw(tmp_path, out)
    assert not out.exists()
    out.write_text("here")
    with pytest.raises(InputError, match="never overwritten"):
        draw(copy, out)


def test_collected_records_and_the_operator_s_key(copy: Path, laid: Laid, tmp_path: Path, page: Path) -> None:
    assert collect(Folder(copy)).complete
    made = draw(copy, tmp_path / "r.html", public_key=laid.key.with_name("operator.pem.pub"))
    assert "NOT CHECKED: the campaign's signature" not in words(made.page)
    assert made.records == 7
    plain = draw(copy / "collected", tmp_path / "plain.html")  # records without their campaign's folder around them
    assert "No centre is known here" in words(plain.page)
    moved = shutil.copytree(copy / "collected", tmp_path / "alone" / "collected")
    with pytest.raises(InputError, match="give it with --campaign"):
        draw(moved, tmp_path / "x.html")


def test_single_nodes_are_chosen_by_name(copy: Path, tmp_path: Path) -> None:
    made = draw(copy, tmp_path / "r.html", nodes=("gpu-b",))
    assert made.drawn == 1
    assert "1 / 7 个节点画出随时间的变化" in words(made.page)
    with pytest.raises(InputError, match="no record of the node nowhere"):
        draw(copy, tmp_path / "r2.html", nodes=("nowhere",))


def test_a_node_whose_devices_all_failed(tmp_path: Path) -> None:
    laid = lay_campaign(tmp_path, 1, 2, kinds={0: "dead"}, names=["\u202egnp.exe\x1b[31m"])
    made = draw(laid.folder.root, tmp_path / "r.html")
    text = words(made.page)
    assert "Not measured : fake:0 fp16 device-failed" in text
    assert "NOTHING COUNTS" in text
    assert "\u202e" not in made.page.read_text()
    assert made.problems == ()


def test_names_stand_as_people_count() -> None:
    assert sorted(["n10", "n2", "m3", "n2a", ""], key=natural_key) == ["", "m3", "n2", "n2a", "n10"]


def test_of_many_nodes_those_with_findings_are_drawn(laid: Laid, monkeypatch: pytest.MonkeyPatch) -> None:
    from certify.report import make

    monkeypatch.setattr(make, "MOST_NODES", 2)
    source = find_source(laid.folder.root, GivenFiles(), None, AT)
    records = read_records(source, AT, lambda done: None).records
    compared = [one.reading for record in records for one in record.figures if not one.blocking]
    chosen = chosen_nodes(source, records, diagnose(compared), ())
    assert {source.names[node_id] for node_id in chosen} == {"gpu-a", "gpu-b"}


def test_the_roofline_has_what_was_measured_beside_and_nothing_else(laid: Laid) -> None:
    source = find_source(laid.folder.root, GivenFiles(), None, AT)
    record = read_records(source, AT, lambda done: None).records[0]
    (kind,) = {one.kind for one in record.figures}

    def reference(**changes: object) -> DrawnReference:
        blank = DrawnReference("fake:0", kind[0], "issue-mma", "ceiling", "fp16", 400_000_000, None, None)
        return replace(blank, **changes)

    references = (
        reference(),
        reference(kernel="triad", role="bandwidth", precision="fp64", rate_mflop_s=None, rate_mb_s=3_300_000),
        reference(kernel="issue-fma", precision="fp64", rate_mflop_s=60_000_000),  # of another precision
        reference(kernel="issue-wgmma", rate_mflop_s=None, trouble="not built"),
        reference(model="another", rate_mflop_s=1),
    )
    measured = replace(record, references=references)
    content = ReportContent(source, [measured], diagnose([]), {})
    roof = roof_of(content, kind, record.figures, 0)
    assert [label for label, _ in roof.lines] == [
        "nominal 460.062 TFLOPS",
        "issue-mma 400.000 TFLOPS",
        f"binding limit {rate_text(roof.lines[-1][1])}",
    ]
    assert roof.bandwidth_mb_s == 3_300_000
    assert roof.intensity == pytest.approx(2 * 8192**3 / (3 * 8192**2 * 2))
    text = words_of(render_report(content))
    assert "issue-mma 400.000 TFLOPS" in text
    assert "memory, triad 3,300 GB/s" in text
    assert "was not measured: no slope" not in text


def test_a_source_that_tells_no_reason_shows_how_near_the_power_limit_was(laid: Laid) -> None:
    source = find_source(laid.folder.root, GivenFiles(), None, AT)
    # Nodes' names, and so their order, are made anew each time: one of them has no telemetry.
    records = read_records(source, AT, lambda done: None).records
    known = next(one for record in records for one in record.figures if one.figure.power_mean_mw)
    one = replace(known, power_limit_mw=known.figure.power_mean_mw, codes=("throttled", "x"))
    row = figure_row(one, None, 0, frozenset({"x"}))
    assert row.near_cap == "100.0 %"
    assert [part.key for part in row.why] == ["reached", "clock_unknown", "checks", "waves", "rest"]
    assert row.unknown == ("gaps",)
    assert row.codes == ("throttled",)
    assert figure_row(replace(one, ceiling=None), None, 0, frozenset()).why == ()


def test_the_command_says_each_problem_on_one_line_of_stderr(copy: Path, laid: Laid, tmp_path: Path) -> None:
    of_node(copy, laid, "gpu-b", SAMPLES_SUFFIX).write_bytes(b"\x1b[31m")
    path = of_node(copy, laid, "gpu-a", RECORD_SUFFIX)
    path.write_bytes(path.read_bytes()[:50])
    command = [str(Path(sys.executable).with_name("petaseal")), "report", "html", str(copy), "--json"]
    command += ["--out", str(tmp_path / "r.html")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LANG": "C"})
    assert done.returncode == 1
    assert [line[:10] for line in done.stderr.splitlines()] == ["petaseal: ", "petaseal: "]
    told = json.loads(done.stdout)
    assert [one["code"] for one in told["problems"]] == ["json-invalid", "samples-differ"]
    assert told["sha256"] == hashlib.sha256((tmp_path / "r.html").read_bytes()).hexdigest()


def test_the_extra_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch, laid: Laid, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.backends.backend_svg", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.backends", None)
    with pytest.raises(InputError, match=r"pip install 'petaseal\[report\]'"):
        draw(laid.folder.root, tmp_path / "r.html")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, as it is installed."""
    with chromium() as started:
        yield started


OVERFLOWS = """() => {
  const wide = document.documentElement.clientWidth, bad = [];
  for (const e of document.querySelectorAll("body *")) {
    const r = e.getBoundingClientRect();
    if (e.closest("svg") && e.tagName !== "svg") continue;
    if (r.width && (r.right > wide + 0.5 || r.left < -0.5)) bad.push(`${e.tagName}.${e.className} ${r.right}`);
    if (e.matches("p,td,th,div,figure,li,h3") && e.scrollWidth > e.clientWidth + 1 && e.clientWidth) bad.push(`${e.tagName}.${e.className} is cut`);
  }
  for (const s of document.querySelectorAll("svg")) {
    const v = s.getBoundingClientRect();
    for (const t of s.querySelectorAll("text")) {
      const r = t.getBoundingClientRect();
      if (r.left < v.left - 1 || r.right > v.right + 1 || r.top < v.top - 1 || r.bottom > v.bottom + 1) bad.push(`${t.textContent} leaves its plot`);
    }
  }
  return [document.documentElement.scrollWidth, bad];
}"""  # noqa: E501


@pytest.mark.parametrize("width", [390, 900, 1440])
def test_nothing_overflows_on_a_screen(browser: Browser, page: Path, width: int) -> None:
    tab = browser.new_page(viewport={"width": width, "height": 900})
    try:
        tab.goto(page.as_uri())
        assert tab.evaluate(OVERFLOWS) == [width, []]
        sizes = tab.evaluate("[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height)")
        assert len(sizes) > 100
        assert min(sizes) > 6  # of a plot at 390 px, still legible
    finally:
        tab.close()


def test_no_text_leaves_a_plot_whatever_it_shows(browser: Browser, laid: Laid, tmp_path: Path) -> None:
    """Windows of seconds and of days, rates of MFLOPS and of PFLOPS, one device and thousands."""
    source = find_source(laid.folder.root, GivenFiles(), None, AT)
    record = read_records(source, AT, lambda done: None).records[0]
    node = TimedNode(record.figures * 2, (None,) * 8, "a node", "")
    ranges = (AxisRange(0.96, 1.04), AxisRange(123_456, 123_789), AxisRange(-1e-9, 1e-9), AxisRange(0, 9.9))
    drawn: list[str] = []
    for (low, high), rate in zip(((-203, 1003), (-3, 3.2), (-300, 100_000.5), (-0.5, 999.9)), ranges, strict=True):
        readings = (rate, AxisRange(0, 100_000), AxisRange(-40, 105))
        for figures in (node.figures[:1], node.figures):
            one = node._replace(figures=figures, series=node.series[: len(figures)], prefix=f"p{len(drawn)}")
            drawn.append(node_plot(one, TimeFrame(AxisRange(low, high), rate, readings, "TFLOPS", high)))
    limit = ("binding limit 371.258 TFLOPS", 371_258_000)
    for slope, mflop_s in {None: 1, 1: 999, 10**6: 10**6, 8 * 10**6: 123_456_789, 7: 10**12}.items():
        lines = [(f"issue-wgmma {rate_text(mflop_s)}", mflop_s), limit]
        drawn.append(roofline(Roof(2730.6, [mflop_s, max(1, mflop_s // 3)], slope, lines, "", "r")))
    drawn.append(per_watt_plot([(number, 123_456 + number) for number in range(1, 1501)], "watts", "w"))
    drawn.append(per_watt_plot([(1, None), (2, 1)], "watts", "v"))
    page = tmp_path / "plots.html"
    page.write_text("<meta charset=utf-8><body style='width:400px;font-family:sans-serif'>" + "".join(drawn))
    tab = browser.new_page(viewport={"width": 900, "height": 900})
    try:
        tab.goto(page.as_uri())
        assert tab.evaluate(OVERFLOWS) == [900, []]
    finally:
        tab.close()


def test_nothing_leaves_the_paper(browser: Browser, page: Path, tmp_path: Path) -> None:
    tab = browser.new_page()
    try:
        tab.goto(page.as_uri())
        tab.pdf(path=str(tmp_path / "r.pdf"), prefer_css_page_size=True)
    finally:
        tab.close()
    if shutil.which("pdftotext") is None:
        assert os.environ.get("CI") != "true", "pdftotext is missing (Debian: poppler-utils)"
        pytest.skip("pdftotext is missing")
    told = subprocess.run(["pdftotext", "-bbox", tmp_path / "r.pdf", "-"], capture_output=True, text=True, check=True)
    pages = told.stdout.split("<page ")[1:]
    assert pages
    for one in pages:
        wide, tall = (float(size) for size in re.findall(r'(?:width|height)="([\d.]+)"', one)[:2])
        assert (round(wide), round(tall)) == (595, 842)
        for box in re.findall(r'<word xMin="([\d.-]+)" yMin="([\d.-]+)" xMax="([\d.-]+)" yMax="([\d.-]+)"', one):
            left, top, right, bottom = map(float, box)
            assert 20 < left <= right < wide - 20
            assert 15 < top <= bottom < tall - 10
        assert "SIMULATED" in one  # on every sheet
