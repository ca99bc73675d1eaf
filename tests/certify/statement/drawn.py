"""Statements that are drawn as PDF, and what the tools of other people read in it: poppler, qpdf, zbar."""

from __future__ import annotations

import re
import subprocess
from html import unescape
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from certify.documents.dsse import seal
from certify.documents.kinds import PAYLOAD_TYPE, make_document
from certify.documents.statement import CapacityStatement
from certify.policy.policies import Policy
from certify.statement.paper.pdf import SignedStatement, statement_pdf
from tests.certify.judged import ROOT, policy_of
from tests.certify.signed import new_key

KEY = new_key()
MM = 72 / 25.4


class Word(NamedTuple):
    """A word on a page and the box that it stands in, in points from the upper left corner."""

    text: str
    left: float
    top: float
    right: float
    bottom: float


class Page(NamedTuple):
    """A page and its words."""

    width: float
    height: float
    words: list[Word]


def sealed(statement: CapacityStatement) -> bytes:
    """Return the signed file of a statement."""
    return seal(make_document("capacity-statement", statement, ROOT), PAYLOAD_TYPE, [KEY])


def pdf_of(statement: CapacityStatement, policies: tuple[Policy, ...] | None = None) -> bytes:
    """Return the PDF of a statement that is signed for it."""
    return statement_pdf(SignedStatement.read(sealed(statement)), policies or (policy_of(),))


def of_centre(statement: CapacityStatement, **centre: Any) -> CapacityStatement:
    """Return a statement whose centre declares something else."""
    return replace(statement, centre=replace(statement.centre, **centre))


def run(*command: object, **options: Any) -> bytes:
    """Return what a tool prints; it must end with 0."""
    done: subprocess.CompletedProcess[bytes] = subprocess.run(
        [str(word) for word in command], capture_output=True, **options
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def text_of(pdf: bytes, page: int | None = None) -> str:
    """Return the text of a PDF or of one page, in the order of reading, each run of blanks as one."""
    pages = () if page is None else ("-f", page, "-l", page)
    return re.sub(r"\s+", " ", run("pdftotext", *pages, "-", "-", input=pdf).decode())


def unbroken(text: str) -> str:
    """Return a text without any blanks: a line may break anywhere in a long word."""
    return re.sub(r"\s+", "", text)


def pages_of(pdf: bytes) -> list[Page]:
    """Return the pages of a PDF with the boxes of their words."""
    pages: list[Page] = []
    for line in run("pdftotext", "-bbox", "-", "-", input=pdf).decode(errors="replace").splitlines():
        if found := re.search(r'<page width="([\d.]+)" height="([\d.]+)"', line):
            pages.append(Page(float(found[1]), float(found[2]), []))
        box = r'<word xMin="([-\d.]+)" yMin="([-\d.]+)" xMax="([-\d.]+)" yMax="([-\d.]+)">(.*)</word>'
        if found := re.search(box, line):
            left, top, right, bottom = map(float, found.groups()[:4])
            pages[-1].words.append(Word(unescape(found[5]), left, top, right, bottom))
    return pages


def code_in(pdf: bytes, folder: Path) -> str:
    """Return what the QR code of the first page says to a scanner."""
    (folder / "one.pdf").write_bytes(pdf)
    run("pdftoppm", "-r", 110, "-f", 1, "-l", 1, "-singlefile", "-png", folder / "one.pdf", folder / "one")
    return run("zbarimg", "--quiet", "--raw", folder / "one.png").decode().strip()
