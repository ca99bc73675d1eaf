"""The PDF of a statement: what it holds, that its bytes are a function of the statement, and that text is only text."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pikepdf
import pytest
from msgspec.structs import replace

from bench.errors import InputError, MissingLibraryError
from bench.units import rate_text
from certify.documents.statement import CapacityStatement
from certify.policy.centre import Bilingual
from certify.statement.paper import drawable, pdf
from certify.statement.paper.drawable import MOST_CHARACTERS, DrawnText, check_fonts, fonts
from certify.statement.paper.pdf import ATTACHMENT, Printing, SignedStatement, draw, qr_text, statement_pdf
from tests.bad_input.command import petaseal
from tests.certify.judged import policy_of
from tests.certify.measured import Measured, measured
from tests.certify.statement.drawn import KEY, code_in, of_centre, pages_of, pdf_of, run, sealed, text_of, unbroken
from tests.certify.statement.test_build import P, amount, statement, tally
from tests.certify.statement.test_page import measured_pages

NAMES = ("smoke", "met", "held", "nothing", "bounded")
STATEMENTS = dict(zip(NAMES, measured_pages(), strict=True))
PDFS = {name: pdf_of(found) for name, found in STATEMENTS.items()}


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """A measured centre whose statement was made by ``certify``."""
    made = measured(tmp_path_factory.mktemp("centre"), profile="smoke", precisions=("fp16",))
    made.certify()
    return made


@pytest.mark.parametrize("name", NAMES)
def test_the_signed_statement_is_its_one_attachment(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(PDFS[name])
    assert "1 embedded files" in run("pdfdetach", "-list", tmp_path / "a.pdf").decode()
    run("pdfdetach", "-savefile", ATTACHMENT, "-o", tmp_path / "out.json", tmp_path / "a.pdf")
    assert (tmp_path / "out.json").read_bytes() == sealed(STATEMENTS[name])
    assert "No syntax or stream encoding errors" in run("qpdf", "--check", tmp_path / "a.pdf").decode()


@pytest.mark.parametrize("name", NAMES)
def test_it_is_an_accessible_archival_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(PDFS[name])
    with pikepdf.open(tmp_path / "a.pdf") as document, document.open_metadata() as metadata:
        assert (metadata["pdfaid:part"], metadata["pdfaid:conformance"], metadata["pdfuaid:part"]) == ("3", "A", "1")
        assert str(document.Root.Lang) == "zh-CN"
        assert document.Root.MarkInfo.Marked
        assert "算力能力声明书" in metadata["dc:title"]
        assert document.Root.ViewerPreferences.DisplayDocTitle
        # Its date is the statement's, and not that of the machine.
        assert str(document.docinfo["/CreationDate"]).startswith(
            "D:" + re.sub(r"\D", "", STATEMENTS[name].issue.issued_at)[:14]
        )
        (attached,) = document.Root.AF
        assert (str(attached.F), str(attached.AFRelationship)) == (ATTACHMENT, "/Source")
    tags = run("pdfinfo", "-struct", tmp_path / "a.pdf").decode(errors="replace")
    for tag in ("H1", "H2", "Table", "TH", "Figure"):
        assert re.search(rf"\b{tag}\b", tags), tag


@pytest.mark.parametrize("name", NAMES)
def test_figures_verdicts_and_keys_come_back_as_text(name: str) -> None:
    found, text = STATEMENTS[name], text_of(PDFS[name])
    for line in found.classes:
        for rate in (line.counted.certified_mflop_s, line.counted.sustained_mflop_s, line.counted.upper_mflop_s):
            assert rate_text(rate) in text
        assert f"{line.counted.devices:,} / {line.counted.devices + line.untested.devices:,}" in text
        for step in line.steps:
            assert f"{step.step} {rate_text(step.certified_mflop_s)}" in text
    assert text.count("［二(六)") == 5
    for words in ("操作方声明，未核验 declared, not verified", "盖章处", "5 未证明 Not shown", "可核验下限"):
        assert words in text
    assert KEY.public.keyid in unbroken(text)
    assert SignedStatement.read(sealed(found)).payload_sha256 in unbroken(text)


def test_every_condition_has_its_verdict_and_a_word_of_explanation() -> None:
    text = text_of(PDFS["met"])
    for title in ("产业园区内", "新增", "单体", "智能算力规模2000P以上", "符合相关要求"):
        assert title in unbroken(text)
    assert "达到 met" in text
    assert "已证明的部分足以满足该条件 what was shown is enough for it" in text
    assert "guide-not-issued" in text
    assert "要求 demanded ≥ 2,000.000 PFLOPS" in text


@pytest.mark.parametrize("name", NAMES)
def test_neither_word_that_it_must_not_say(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(PDFS[name])
    with pikepdf.open(tmp_path / "a.pdf") as document, document.open_metadata() as metadata:
        said = text_of(PDFS[name]) + "".join(map(str, metadata.values()))
    assert not re.search(r"认\s*证|证\s*书", said)
    assert not re.search(r"\bpass(ed|es)?\b|\bentitle|\bscore\b|合格|达标", said.lower())


@pytest.mark.parametrize(
    ("name", "mark"), [("smoke", "SIMULATED"), ("smoke", "SMOKE TEST"), ("nothing", "NOTHING COUNTS")]
)
def test_what_proves_nothing_is_marked_on_every_page(name: str, mark: str) -> None:
    nodes = tuple(replace(STATEMENTS[name].campaign.nodes[0], node_id=f"n{i}") for i in range(400))
    long = replace(STATEMENTS[name], campaign=replace(STATEMENTS[name].campaign, nodes=nodes))
    made = pdf_of(long)
    count = len(pages_of(made))
    assert count > 1
    for page in range(1, count + 1):
        assert unbroken(mark) in unbroken(
            run("pdftotext", "-raw", "-f", page, "-l", page, "-", "-", input=made).decode()
        )
        assert mark not in text_of(PDFS["met"])


@pytest.mark.parametrize("name", NAMES)
def test_the_code_on_it_is_read_by_a_scanner(name: str, tmp_path: Path) -> None:
    signed = SignedStatement.read(sealed(STATEMENTS[name]))
    said = code_in(PDFS[name], tmp_path)
    assert said == qr_text(signed.statement, signed.payload_sha256)
    assert re.fullmatch(r"PETASEAL1:sha256:[0-9a-f]{64}:gz-test/1:[\d.]+[PTGM]FLOPS", said)


def test_a_long_number_is_read_by_a_scanner_too(tmp_path: Path) -> None:
    found = of_centre(statement(tally(amount(2**53 - 1))), centre_id="x" * 63)
    assert "x" * 63 in code_in(pdf_of(found), tmp_path)


DRAW = """
import hashlib, sys
from pathlib import Path
from certify.policy.policies import load_policy
from certify.statement.paper.pdf import SignedStatement, statement_pdf
signed = SignedStatement.read(Path(sys.argv[1]).read_bytes())
print(hashlib.sha256(statement_pdf(signed, (load_policy("guangzhou-2000p"),))).hexdigest())
"""


def test_the_same_statement_makes_the_same_bytes_anywhere(centre: Measured, tmp_path: Path) -> None:
    out = centre.folder / "out"
    expected = hashlib.sha256((out / "statement.pdf").read_bytes()).hexdigest()
    here = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    for number, others in enumerate(
        (
            {"TZ": "Asia/Shanghai", "LANG": "zh_CN.UTF-8", "PYTHONHASHSEED": "1"},
            {
                "TZ": "America/Los_Angeles",
                "LC_ALL": "C",
                "SOURCE_DATE_EPOCH": "86400",
                "TYPST_FONT_PATHS": "/usr/share",
            },
        )
    ):
        folder = tmp_path / f"folder {number}"
        folder.mkdir()
        (folder / "s.json").write_bytes((out / ATTACHMENT).read_bytes())
        said = run(sys.executable, "-c", DRAW, "s.json", cwd=folder, env={**here, **others, "HOME": str(folder)})
        assert said.decode().strip() == expected


def test_the_attachment_alone_makes_it_again(centre: Measured, tmp_path: Path) -> None:
    from certify.policy.policies import load_policy

    made = (centre.folder / "out" / "statement.pdf").read_bytes()
    (tmp_path / "a.pdf").write_bytes(made)
    with pikepdf.open(tmp_path / "a.pdf") as document:
        content = document.attachments[ATTACHMENT].get_file().read_bytes()
        said = Printing.read(str(document.docinfo["/Keywords"]))
    drawing = draw(SignedStatement.read(content), (load_policy("guangzhou-2000p"),))
    assert drawing.printing == said
    assert pdf.render_pdf(drawing) == made


@pytest.mark.parametrize("keywords", ["", "petaseal-engine=typst 0.15.2", "a=b, petaseal-words="])
def test_a_file_that_does_not_say_what_printed_it(keywords: str) -> None:
    assert Printing.read(keywords) is None


# Text that is anybody's

MARKUP = (
    '#panic("x")',
    '#read("/etc/passwd")',
    '#pdf.attach("a", bytes("b"))',
    "$ x^2 $ *bold* _soft_ `raw` = head",
    "[#link] @ref <label> \\u{41} // comment /* */",
    '"; #let sheet = 1 "',
    "~ -- --- ... 'a' \"b\"",
)


@pytest.mark.parametrize("text", MARKUP)
def test_markup_in_a_name_is_only_text(text: str) -> None:
    found = of_centre(STATEMENTS["met"], name=Bilingual(zh=text, en=text), operator=text, project_id=text)
    made = pdf_of(found)
    assert unbroken(text_of(made)).count(unbroken(text)) >= 4
    assert made.count(b"/EmbeddedFile") == PDFS["met"].count(b"/EmbeddedFile")


def test_characters_that_the_font_lacks_are_printed_as_code_points() -> None:
    name = "\U00020bb7田中心䶮堃"
    text = unbroken(text_of(pdf_of(of_centre(STATEMENTS["met"], name=Bilingual(zh=name, en=name)))))
    number = "".join(re.findall(r"〓(\d)田中心䶮堃", text)[:1])
    assert f"{number}U+20BB7" in text
    assert "\U00020bb7" not in text


STEERING = {
    "an ANSI escape": "\x1b[31mred\x1b[0m",
    "a bell": "a\x07b",
    "an override": "a\u202etxt.exe",
    "Hebrew": "שלום",
    "Arabic": "مرحبا",
    "a zero-width space": "a\u200bb",
    "a line break": "a\nb\u2028c",
    "marks without end": "e" + "\u0301" * 100,
    "a private character": "\ue000",
    "an emoji": "\U0001f600",
    "half a pair": "\ud800",
}


@pytest.mark.parametrize("name", STEERING)
def test_what_steers_text_is_never_drawn(name: str) -> None:
    text = STEERING[name]
    draw = DrawnText(fonts().regular, fonts().bold)
    items = draw.text(text)
    assert isinstance(items, list)
    drawn = [item for item in items if isinstance(item, str)]
    for character in "".join(drawn):
        assert unicodedata.category(character)[0] not in "CM"
        assert unicodedata.bidirectional(character) not in ("R", "AL", "RLO", "RLE", "AN")
    assert all(re.fullmatch(r"U\+[0-9A-F]{4,6}", note) for note in draw.notes())
    assert len(draw.notes()) == len({item for item in items if isinstance(item, int)})


def test_a_text_without_end_is_cut_and_says_so() -> None:
    drawn = DrawnText(fonts().regular, fonts().bold).text("字" * (MOST_CHARACTERS + 7))
    assert drawn == "字" * MOST_CHARACTERS + "… (+7)"


# Fonts, and a machine without the extra


def test_a_font_that_was_changed_is_refused(tmp_path: Path) -> None:
    whole, digests = b"font", {"a.ttf": hashlib.sha256(b"font").hexdigest()}
    (tmp_path / "a.ttf").write_bytes(whole)
    check_fonts(tmp_path, digests)
    for change in ("a.ttf", "b.ttf", "c.OTF"):
        before = (tmp_path / change).read_bytes() if (tmp_path / change).exists() else None
        (tmp_path / change).write_bytes(b"another")
        with pytest.raises(InputError) as refused:
            check_fonts(tmp_path, digests)
        assert refused.value.code == "font-altered"
        if before is None:
            (tmp_path / change).unlink()
        else:
            (tmp_path / change).write_bytes(before)
    (tmp_path / "a.ttf").unlink()
    with pytest.raises(InputError, match="missing"):
        check_fonts(tmp_path, digests)


@pytest.mark.parametrize("module", ["typst", "segno", "petaseal_fonts", "fontTools.ttLib"])
def test_a_library_that_is_not_installed_is_named(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawable.fonts.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingLibraryError) as missing:
        statement_pdf(SignedStatement.read(sealed(STATEMENTS["met"])), (policy_of(),))
    assert "pip install 'petaseal[report]'" in str(missing.value)
    assert module.split(".")[0].replace("_", "-") in str(missing.value)


def test_another_typst_than_the_pinned_one_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = re.findall(r'"typst==([\d.]+)"', (Path(__file__).resolve().parents[3] / "pyproject.toml").read_text())
    assert pinned == [pdf.ENGINE]
    monkeypatch.setattr(pdf, "version", lambda name: "0.14.8")
    with pytest.raises(MissingLibraryError, match=r"typst 0\.15\.2 is not installed"):
        pdf.printing()


def test_without_the_extra_certify_makes_no_pdf_and_says_so(
    centre: Measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "typst", None)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "statement.pdf").write_bytes(b"of a run that was killed")
    made = centre.certify(tmp_path / "out")
    assert sorted(os.listdir(tmp_path / "out")) == ["records.jsonl", "statement.dsse.json", "statement.html"]
    (note,) = [note for note in made.notes if "statement.pdf" in note]
    assert "typst is not installed" in note
    assert "pip install 'petaseal[report]'" in note


# The command


def test_report_pdf_draws_what_certify_drew(centre: Measured, tmp_path: Path) -> None:
    out = centre.folder / "out"
    answer = petaseal("report", "pdf", out, "--out", tmp_path / "a.pdf", "--json")
    assert answer.status == 0
    assert (tmp_path / "a.pdf").read_bytes() == (out / "statement.pdf").read_bytes()
    value: dict[str, Any] = json.loads(answer.out)
    assert value["sha256"] == hashlib.sha256((tmp_path / "a.pdf").read_bytes()).hexdigest()
    assert petaseal("report", "pdf", out / ATTACHMENT).code == "output-exists"
    packed = petaseal("package", out, "--out", tmp_path / "p.tar.gz", "--json")
    assert "statement.pdf" in json.loads(packed.out)["members"]
    assert petaseal("report", "pdf", tmp_path / "p.tar.gz").status == 0
    assert (tmp_path / "statement.pdf").read_bytes() == (out / "statement.pdf").read_bytes()


def test_report_pdf_of_what_is_no_statement(tmp_path: Path) -> None:
    (tmp_path / "no.json").write_bytes(b"{}")
    for name, code in (("no.json", "schema-invalid"), ("none.json", "file-missing")):
        assert petaseal("report", "pdf", tmp_path / name).code == code
    assert not (tmp_path / "statement.pdf").exists()


def test_what_the_sums_rest_on_is_on_it() -> None:
    text = text_of(PDFS["bounded"])
    for said in ("Huawei 910B3", "800 / 800", "100 / 110", "328.650 TFLOPS", "稠密标称值 the rating"):
        assert said in text
    assert "其中 7.000 PFLOPS 没有可用的上限" in text


def huge() -> CapacityStatement:
    return statement(tally(amount(10_000 * P, devices=80_000)))


def test_sums_of_ten_thousand_pflops_stand_on_one_line() -> None:
    assert "10,000.000 PFLOPS 10,000.000 PFLOPS 10,000.000 PFLOPS 10,000.000 PFLOPS 80,000 / 80,000" in text_of(
        pdf_of(huge())
    )


def test_a_signed_statement_of_several_keys_names_each() -> None:
    from certify.documents.dsse import seal
    from certify.documents.kinds import PAYLOAD_TYPE, make_document
    from tests.certify.judged import ROOT
    from tests.certify.signed import new_key

    keys = [new_key(), new_key()]
    content = seal(make_document("capacity-statement", STATEMENTS["met"], ROOT), PAYLOAD_TYPE, keys)
    text = unbroken(text_of(statement_pdf(SignedStatement.read(content), (policy_of(),))))
    for key in keys:
        assert key.public.keyid in text
