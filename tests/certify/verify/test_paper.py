"""A statement as PDF: it is taken out, verified, and its page compared; and the text of a QR code.

Every attack of `papers` is made on a true PDF of a statement whose signature holds: what is refused is the paper.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from bench.errors import InputError, RefusedError
from bench.host.python_start import start_code
from certify.documents.caps import CAPS
from certify.statement.paper import contents, drawable, opening, pdf
from certify.statement.paper.opening import open_paper
from certify.statement.paper.qr import QrCode
from certify.verify.report import VerificationReport
from tests.bad_input.command import Answer, petaseal
from tests.certify.measured import Measured, measured
from tests.certify.statement import papers
from tests.certify.statement.papers import REFUSED, UNVERIFIED, appended_to
from tests.certify.verify.test_verifier import code

PDF = "statement.pdf"
HALF = 'print(\'{"statements": 1, "listed": true}\\n{\'); raise SystemExit(1)'  # of an answer


class Papers(NamedTuple):
    """A centre with two statements as PDFs, which one operator signed."""

    centre: Measured
    first: bytes
    second: bytes


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    centre = measured(tmp_path_factory.mktemp("centre"), nodes=2, profile="smoke")
    centre.certify()
    again = centre.folder / "again"
    centre.certify(again, sequence=2, previous=centre.folder / "out" / papers.NAME)
    return Papers(centre, (centre.folder / "out" / PDF).read_bytes(), (again / PDF).read_bytes())


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have PDFs read in this process, which takes a tenth of the time and is not limited."""

    def read(content: bytes, path: Path, caps: object) -> tuple[object, bytes]:
        said, statement = contents.answer(content)
        return msgspec.convert(said, opening.ChildAnswer), statement

    monkeypatch.setattr(opening, "_read", read)


def verified(made: Papers, content: bytes, folder: Path, **changes: object) -> VerificationReport:
    """Verify a PDF as the command does."""
    file = folder / "given"  # what it is, its name does not say
    file.write_bytes(content)
    return made.centre.verify(made.centre.folder / "out", statement=file, paper=open_paper(file), **changes)


def answer(made: Papers, file: object, *more: object) -> Answer:
    return petaseal("verify", file, "--public-key", made.centre.public_key, "--accept-simulated", *more)


# --- the page --------------------------------------------------------------------------------------------------------


def test_a_pdf_is_verified_as_its_statement_is_and_its_page_is_the_statement_s(made: Papers, tmp_path: Path) -> None:
    report = verified(made, made.first, tmp_path, require=("recomputed", "page"))
    plain = made.centre.verify()
    assert (code(report), report.unmet, report.level) == (None, [], "recomputed")
    assert report.checked == [*plain.checked, "page"]
    assert report.not_checked == plain.not_checked
    page = report.as_json()["page"]
    assert (page["status"], page["drawn_bytes"], page["appended_bytes"]) == ("same", len(made.first), 0)
    assert page["printing"]["engine"].startswith("typst ")
    assert plain.as_json()["page"] is None


def test_the_attachment_is_the_signed_file_to_the_last_byte(made: Papers, tmp_path: Path) -> None:
    (tmp_path / "given").write_bytes(made.first)
    opened = open_paper(tmp_path / "given")
    assert opened is not None
    assert opened.statement == (made.centre.folder / "out" / papers.NAME).read_bytes()
    assert papers.NAME == contents.NAME == pdf.ATTACHMENT


@pytest.mark.parametrize("name", REFUSED)
def test_a_changed_pdf_is_refused(made: Papers, tmp_path: Path, in_process: None, name: str) -> None:
    change, expected = REFUSED[name]
    changed = change(made.first, made.second)
    assert changed != made.first
    try:
        found = code(verified(made, changed, tmp_path))
    except RefusedError as error:
        found = error.code
    assert found == expected


@pytest.mark.parametrize("name", UNVERIFIED)
def test_a_page_that_names_another_printing_is_not_compared_and_never_good(
    made: Papers, tmp_path: Path, in_process: None, name: str
) -> None:
    change, why = UNVERIFIED[name]
    report = verified(made, change(made.first), tmp_path, require=("page",))
    assert report.refusal is None
    assert report.page is not None
    assert (report.page.status, report.page.drawn_bytes) == ("not-verified", None)
    assert why in (report.page.why or "")
    (said,) = [line for line in report.not_checked if line.endswith("[page-not-verified]")]
    assert said.startswith("page not verified: ")
    assert "page" not in report.checked
    assert report.unmet == [f"page is required, and it was not verified: {report.page.why}"]


@pytest.mark.parametrize("name", papers.APPENDED)
def test_what_is_appended_is_said_and_not_checked(made: Papers, tmp_path: Path, in_process: None, name: str) -> None:
    changed = appended_to(made.first, name)
    more = len(changed) - len(made.first)
    report = verified(made, changed, tmp_path)
    assert not report.refused
    assert report.page is not None
    assert (report.page.status, report.page.drawn_bytes, report.page.appended_bytes) == (
        "appended",
        len(made.first),
        more,
    )
    (said,) = [line for line in report.not_checked if line.endswith("[page-appended]")]
    assert said.startswith(f"{more:,} bytes appended after rendering: not checked")
    assert "page" not in report.checked
    required = verified(made, changed, tmp_path, require=("page",))
    assert required.unmet == [f"page is required, and {more:,} bytes were appended to it"]


def test_an_appended_annotation_repaints_the_page_and_the_original_is_given_back(made: Papers, tmp_path: Path) -> None:
    """The forgery is a real one: what a reader of PDFs shows is another verdict."""
    painted, out = tmp_path / "painted.pdf", tmp_path / "original.pdf"
    painted.write_bytes(papers.repainted(made.first, (300, 400, 580, 440), "2000P: MET"))
    shown = answer(made, painted, "--original", out)
    assert shown.status == 0
    assert "bytes appended after rendering: not checked" in shown.out
    assert out.read_bytes() == made.first
    pictures = [drawn(file) for file in (painted, out)]
    assert pictures[0] != pictures[1]
    again = answer(made, painted, "--original", out)
    assert (again.status, again.code) == (2, "output-exists")
    refused = answer(made, painted, "--require", "page")
    assert (refused.status, refused.code) == (1, "requirement-unmet")


def drawn(file: Path) -> bytes:
    """Return the picture of a PDF's first page."""
    done = subprocess.run(["pdftoppm", "-r", "40", "-l", "1", file], capture_output=True, check=True)
    return done.stdout


def test_a_page_of_another_engine_is_not_compared_and_its_original_not_known(
    made: Papers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.pdf"
    with monkeypatch.context() as patch:
        patch.setattr(pdf, "ENGINE", "0.14.2")
        patch.setattr(pdf, "version", lambda name: "0.14.2")
        made.centre.certify(tmp_path / "older")
    shown = answer(made, tmp_path / "older" / PDF)
    assert shown.status == 0
    assert "PAGE NOT VERIFIED, rely on no figure that it shows: it says that" in shown.out
    assert "it was drawn with another engine typst 0.14.2 (here typst " in shown.out
    asked = answer(made, tmp_path / "older" / PDF, "--original", out)
    assert (asked.status, asked.code) == (1, "requirement-unmet")
    assert not out.exists()


@pytest.mark.parametrize("what", ["template", "fonts"])
def test_a_page_of_another_template_or_other_fonts_is_not_compared(
    made: Papers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_process: None, what: str
) -> None:
    with monkeypatch.context() as patch:
        if what == "template":
            other = tmp_path / "other.typ"
            other.write_bytes(pdf.TEMPLATE.read_bytes().replace(b"8pt", b"7.9pt", 1))
            patch.setattr(pdf, "TEMPLATE", other)
        else:
            others = drawable.fonts()._replace(sha256="ab" * 32)
            patch.setattr(pdf, "fonts", lambda: others)
        made.centre.certify(tmp_path / "older")
    report = verified(made, (tmp_path / "older" / PDF).read_bytes(), tmp_path, records=tmp_path / "older/records.jsonl")
    assert report.refusal is None
    assert report.page is not None
    assert report.page.status == "not-verified"
    assert f"another {what} " in (report.page.why or "")


@pytest.mark.parametrize("library", ["typst", "segno", "petaseal_fonts"])
def test_without_what_draws_a_page_it_is_not_verified(
    made: Papers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_process: None, library: str
) -> None:
    drawable.fonts.cache_clear()
    monkeypatch.setitem(sys.modules, library, None)
    report = verified(made, made.first, tmp_path, require=("page",))
    monkeypatch.undo()
    assert report.refusal is None
    assert report.page is not None
    assert "pip install 'petaseal[report]'" in (report.page.why or "")
    assert len(report.unmet) == 1


def test_without_what_reads_a_pdf_one_sentence_says_what_to_install(
    made: Papers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pikepdf", None)
    refused = answer(made, made.centre.folder / "out" / PDF)
    assert (refused.status, refused.code) == (2, "missing-library")
    assert "pikepdf is not installed" in refused.err
    assert "pip install 'petaseal[report]'" in refused.err


def test_an_engine_that_panics_ends_nothing(
    made: Papers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_process: None
) -> None:
    class PanicException(BaseException):
        """As pyo3 raises it."""

    def panic(drawing: object) -> bytes:
        raise PanicException("index out of bounds")

    monkeypatch.setattr(pdf, "render_pdf", panic)
    report = verified(made, made.first, tmp_path)
    assert report.page is not None
    assert report.page.why == "it cannot be drawn here: PanicException: index out of bounds"


# --- the process that reads a PDF ------------------------------------------------------------------------------------


def refused_as(content: bytes, folder: Path, **limits: int) -> str:
    """Return the code with which a PDF is refused when it is opened under other limits."""
    (folder / "given").write_bytes(content)
    with pytest.raises((RefusedError, InputError)) as caught:
        open_paper(folder / "given", dataclasses.replace(CAPS, **limits))
    assert isinstance(caught.value, RefusedError | InputError)
    return caught.value.code


def test_a_bomb_ends_in_its_own_process(made: Papers, tmp_path: Path) -> None:
    changed = papers.bombed(made.first, 256 << 20)
    assert len(changed) < len(made.first) + 20_000
    assert refused_as(changed, tmp_path, pdf_memory_bytes=400 << 20) == "pdf-too-costly"


def test_a_pdf_that_takes_too_long_is_given_up(made: Papers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused_as(made.first, tmp_path, pdf_wall_s=0) == "pdf-too-costly"  # by the verifier's patience
    endless = "contents.answer = lambda content: [0 for i in iter(int, 1)]"
    monkeypatch.setattr(
        opening,
        "start_code",
        lambda module: (
            f"{start_code('certify.statement.paper.contents').rpartition(';')[0]};"
            f" from certify.statement.paper import contents; {endless}; contents.main()"
        ),
    )
    assert refused_as(made.first, tmp_path, pdf_cpu_s=1) == "pdf-too-costly"  # by the system


def test_the_real_process_says_what_it_says_in_this_one(made: Papers, tmp_path: Path) -> None:
    names = ("its end is cut off", "encrypted, and open to all", "no attachment", "two, one at a paper clip")
    for name in names:
        change, expected = REFUSED[name]
        assert refused_as(change(made.first, made.second), tmp_path) == expected


def test_a_process_that_says_nothing_is_no_answer(
    made: Papers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words in ("import os; os.abort()", "print('{\"statements\": -1}')", "print('x' * 9999999)", HALF):
        monkeypatch.setattr(opening, "start_code", lambda module, words=words: words)
        assert refused_as(made.first, tmp_path) == "pdf-invalid"


def test_a_folder_of_downloads_runs_nothing(made: Papers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PDF comes with others' files: Python looks for modules in the working folder first, where one lets it."""
    for name in ("json", "pikepdf", "io", "certify", "encodings"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w')")
    (tmp_path / "given").write_bytes(made.first)
    monkeypatch.chdir(tmp_path)
    assert open_paper(Path("given")) is not None
    assert not Path("ran").exists()


def test_a_full_disk_is_no_damaged_statement(made: Papers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("r+b", buffering=0) as full:
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda: full)
        assert refused_as(made.first, tmp_path) == "output-not-writable"


def test_a_file_of_a_gigabyte_is_refused_by_its_size(tmp_path: Path) -> None:
    file = tmp_path / "given"
    file.write_bytes(b"%PDF-1.7\n")
    os.truncate(file, 1 << 30)
    with pytest.raises(InputError) as caught:
        open_paper(file)
    assert caught.value.code == "file-too-large"


# --- a PDF among other files -----------------------------------------------------------------------------------------


def test_a_pdf_in_a_folder_is_compared_where_that_is_required(made: Papers, tmp_path: Path) -> None:
    folder = tmp_path / "statement"
    shutil.copytree(made.centre.folder / "out", folder)
    assert "statement.pdf, which lies there, was not opened" in answer(made, folder, "--all").out
    assert answer(made, folder, "--require", "page").status == 0
    # One of another statement, which is good in itself.
    (folder / PDF).write_bytes(made.second)
    assert answer(made, folder).status == 0
    other = answer(made, folder, "--require", "page")
    assert (other.status, other.code) == (1, "page-differs")
    (folder / PDF).unlink()
    assert answer(made, folder, "--require", "page").code == "requirement-unmet"


def test_a_pdf_in_an_archive_is_compared_where_that_is_required(made: Papers, tmp_path: Path) -> None:
    whole = tmp_path / "statement.tar.gz"
    assert petaseal("package", made.centre.folder / "out", "--out", whole).status == 0
    with tarfile.open(whole) as archive:
        assert PDF in archive.getnames()
    assert answer(made, whole, "--require", "page").status == 0
    named = tmp_path / "pdf.tar.gz"
    named.write_bytes(made.first)
    assert answer(made, named).code.startswith("archive-")


@pytest.mark.parametrize(
    ("more", "status", "expected"),
    [
        (("--require", "pages"), 2, "unknown-name"),
        (("--require", "page"), 1, "requirement-unmet"),
        (("--original", "new.pdf"), 2, "usage"),
        (("--statement", "x"), 2, "usage"),
    ],
)
def test_what_goes_with_a_pdf_only(made: Papers, more: tuple[str, ...], status: int, expected: str) -> None:
    refused = answer(made, made.centre.folder / "out" / papers.NAME, *more)
    assert (refused.status, refused.code) == (status, expected)
    assert not Path("new.pdf").exists()


# --- the QR code -----------------------------------------------------------------------------------------------------

CHANGED: dict[str, tuple[Callable[[str], str], str, str]] = {
    "another digest": (lambda text: text.replace(text[17:25], "00000000"), "qr-differs", "the digest is"),
    "another number": (lambda text: text.replace("/1:", "/2:"), "qr-differs", "the number is"),
    "another centre": (lambda text: text.replace(":gz", ":sz"), "qr-differs", "the number is"),
    "another total": (lambda text: text.replace("PFLOPS", "EFLOPS"), "qr-differs", "the total is"),
    "nothing": (lambda text: "", "qr-malformed", ""),
    "capitals": (str.upper, "qr-malformed", ""),
    "small letters": (str.lower, "qr-malformed", ""),
    "a digest in capitals": (lambda text: text.replace(text[17:81], text[17:81].upper()), "qr-malformed", ""),
    "text after it": (lambda text: text + " and more", "qr-malformed", ""),
    "a field after it": (lambda text: text + ":x", "qr-malformed", ""),
    "a line after it": (lambda text: text + "\n", "qr-malformed", ""),
    "text before it": (lambda text: "QR-Code:" + text, "qr-malformed", ""),
    "no total": (lambda text: text.rpartition(":")[0], "qr-malformed", ""),
    "another form": (lambda text: text.replace("PETASEAL1", "PETASEAL2"), "qr-malformed", ""),
    "a digit of another script": (lambda text: text.replace("/1:", "/١:"), "qr-malformed", ""),
    "a short digest": (lambda text: text.replace(text[17:19], "", 1), "qr-malformed", ""),
}


@pytest.fixture(scope="module")
def text(made: Papers) -> str:
    """Return the text of the code on the first page, as a scanner reads it from the picture."""
    picture = made.centre.folder / "page"
    subprocess.run(
        ["pdftoppm", "-r", "110", "-l", "1", "-png", "-singlefile", made.centre.folder / "out" / PDF, picture],
        check=True,
    )
    read = ["zbarimg", "--quiet", "--raw", f"{picture}.png"]
    return subprocess.run(read, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True).stdout.strip()


@pytest.mark.parametrize("name", [papers.NAME, PDF, ""])
def test_a_code_leads_to_its_statement(made: Papers, text: str, name: str) -> None:
    found = petaseal("verify", "--qr", text, "--statement", made.centre.folder / "out" / name)
    assert (found.status, found.err) == (0, "")
    assert found.out.startswith("QR CODE AGREES: ")
    assert "[qr-unsigned]" in found.out
    value = json.loads(petaseal("verify", made.centre.folder / "out" / name, "--qr", text, "--json").out)
    assert value["qr"]["agrees"] is True
    assert "accepted" not in value  # of a statement that nobody verified


def test_a_code_is_compared_with_a_statement_that_is_verified(made: Papers, text: str) -> None:
    found = answer(made, made.centre.folder / "out" / PDF, "--qr", text, "--json")
    value = json.loads(found.out)
    assert (found.status, value["accepted"]) == (0, True)
    assert value["checked"][-2:] == ["QR code", "page"]
    other = answer(made, made.centre.folder / "again" / PDF, "--qr", text)
    assert (other.status, other.code) == (1, "qr-differs")
    assert other.out.startswith("REFUSED: qr-differs")


@pytest.mark.parametrize("name", CHANGED)
def test_a_changed_code_is_refused(made: Papers, text: str, name: str) -> None:
    change, expected, words = CHANGED[name]
    changed = change(text)
    assert changed != text
    refused = petaseal("verify", "--qr", changed, "--statement", made.centre.folder / "out" / papers.NAME)
    assert refused.code == expected
    assert refused.status == (1 if expected == "qr-differs" else 2)
    assert words in refused.err
    assert refused.err.count(" in the code and ") == (expected == "qr-differs")


def test_every_difference_is_named(made: Papers, text: str) -> None:
    read = QrCode.parse(text)
    changed = f"PETASEAL1:sha256:{'0' * 64}:x/9:9EFLOPS"
    refused = petaseal("verify", "--qr", changed, "--statement", made.centre.folder / "out" / papers.NAME)
    for name, was, said in zip(read._fields, QrCode.parse(changed), read, strict=True):
        assert f"the {name} is {was} in the code and {said} in the statement" in refused.err


def test_a_missing_library_is_looked_for_and_not_loaded() -> None:
    """Whoever verifies no PDF pays for none: a process of its own shows what the command loads."""
    assert find_spec("pikepdf") is not None
    script = (
        "import sys; import certify.statement.paper.opening, certify.statement.paper.qr, certify.verify.verifier;"
        "print([name for name in ('pikepdf', 'typst', 'segno', 'fontTools') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
