"""``statement.pdf``: the statement on paper, PDF/A-3a and PDF/UA-1, with the signed statement as its one attachment.

The bytes are a function of the signed envelope, of the policies that it binds, and of what prints them: engine,
template, fonts, and petaseal's words (docs/paper.md). No clock, place, locale or font of the machine enters, so that
whoever has the same draws the same bytes again from the attachment alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from bench.errors import MissingLibraryError
from bench.units import SECOND_NS, rate_text, utc_ns
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import parse_payload
from certify.documents.statement import CapacityStatement
from certify.policy.policies import Policy
from certify.statement.paper.drawable import PURPOSE, DrawnText, fonts
from certify.statement.paper.sheet import sheet_of
from certify.statement.paper.view import StatementView, view_of

ENGINE = "0.15.2"  # of typst, as the extra pins it: another draws other bytes, which nobody could draw again
ATTACHMENT = "statement.dsse.json"
STANDARDS = ("a-3a", "ua-1")
TEMPLATE = Path(__file__).with_name("statement.typ")


class Printing(NamedTuple):
    """What prints a PDF, beside the statement: the same in all four makes the same bytes.

    Args:
        engine: name and version of the typesetter.
        template: SHA-256 of ``statement.typ``.
        fonts: SHA-256 over those of the fonts.
        words: SHA-256 of all that is handed to the template, petaseal's words among it; "" before a statement is drawn.
        statement: payload digest of the one that is drawn: that the words of another differ is no other petaseal.
    """

    engine: str
    template: str
    fonts: str
    words: str = ""
    statement: str = ""

    def keywords(self) -> list[str]:
        """Return the keywords that stand in the PDF's metadata, from which `read` makes this again."""
        return [f"petaseal-{name}={value}" for name, value in self._asdict().items()]

    def text(self) -> str:
        """Return the line that is printed on the page: without the words, of whose digest it would be a part."""
        return f"{self.engine} · template {self.template[:16]} · fonts {self.fonts[:16]}"

    @classmethod
    def read(cls, keywords: str) -> Printing | None:
        """Return what a PDF says of its printing; None where it says nothing of the kind.

        Args:
            keywords: of the PDF's metadata.
        """
        known = dict(re.findall(r"petaseal-([a-z]+)=([^,=]{1,80})", keywords))
        return cls(*(known[name] for name in cls._fields)) if set(known) == set(cls._fields) else None


class SignedStatement(NamedTuple):
    """A signed statement as it is read, whose signatures are not verified.

    Args:
        content: the whole file ``statement.dsse.json``.
        statement: what it says.
        keyids: of the signatures, in their order.
        payload_sha256: of what was signed.
    """

    content: bytes
    statement: CapacityStatement
    keyids: tuple[str, ...]
    payload_sha256: str

    @classmethod
    def read(cls, content: bytes, where: object = None) -> SignedStatement:
        """Return the statement in a file.

        Raises:
            RefusedError: it is none; a code of `parse_envelope` or of `parse_payload`.
        """
        envelope = parse_envelope(content, CAPS.statement_bytes, where)
        opened = parse_payload("capacity-statement", envelope.payload, where)
        keyids = tuple(signature.keyid for signature in envelope.signatures)
        return cls(content, opened.predicate, keyids, hashlib.sha256(envelope.payload).hexdigest())


class Drawing(NamedTuple):
    """A statement that is ready to be printed.

    Args:
        sheet: what its pages hold, as JSON.
        content: the signed statement.
        issued_ns: when it was issued, which is the PDF's date.
        printing: what prints it.
    """

    sheet: bytes
    content: bytes
    issued_ns: int
    printing: Printing


def printing() -> Printing:
    """Return what prints PDFs here.

    Raises:
        MissingLibraryError: the extra ``report`` is not installed, or another typst than it pins.
        InputError: `font-altered`.
    """
    try:
        import segno  # noqa: F401 - what else of the extra is missing is said before the work
        import typst  # noqa: F401
    except ImportError as error:
        raise MissingLibraryError(str(error.name), PURPOSE, "report") from None
    if version("typst") != ENGINE:
        raise MissingLibraryError(f"typst {ENGINE}", f"{PURPOSE}, and {version('typst')} draws another", "report")
    template = hashlib.sha256(TEMPLATE.read_bytes()).hexdigest()
    return Printing(f"typst {version('typst')}", template, fonts().sha256)


def statement_pdf(signed: SignedStatement, policies: tuple[Policy, ...]) -> bytes:
    """Return the PDF of a signed statement.

    Args:
        signed: the statement.
        policies: those that it binds, in its order.

    Raises:
        MissingLibraryError, InputError: as for `printing`.
    """
    return render_pdf(draw(signed, policies))


def pdf_if_installed(signed: SignedStatement, policies: tuple[Policy, ...]) -> tuple[bytes | None, tuple[str, ...]]:
    """Return the PDF of a statement, or None and what to say where the extra ``report`` is not installed.

    Raises:
        InputError: `font-altered`.
    """
    try:
        return statement_pdf(signed, policies), ()
    except MissingLibraryError as error:
        return None, (f"there is no statement.pdf: {error.what}; {error.fix}",)


def draw(signed: SignedStatement, policies: tuple[Policy, ...]) -> Drawing:
    """Return a statement ready to be printed, with what prints it; arguments and errors as for `statement_pdf`."""
    view = view_of(signed.statement, policies, " ".join(signed.keyids), signed.payload_sha256)
    sheet, printed = _sheet(view, printing())
    return Drawing(sheet, signed.content, utc_ns(signed.statement.issue.issued_at), printed)


def render_pdf(drawing: Drawing) -> bytes:
    """Return the bytes of a PDF: set tighter where that saves a page, such as one of two lines.

    Args:
        drawing: of a statement (`draw`).
    """
    loose = _compiled(drawing, {})
    if _pages(loose) == 1:
        return loose
    tight = _compiled(drawing, {"tight": "yes"})
    return tight if _pages(tight) < _pages(loose) else loose


def _compiled(drawing: Drawing, inputs: dict[str, str]) -> bytes:
    import typst

    files = {"main.typ": TEMPLATE.read_bytes(), "sheet.json": drawing.sheet, ATTACHMENT: drawing.content}
    # The fonts are read from one folder whose every font was checked; the engine's embedded ones are left out.
    faces = typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=[str(fonts().folder)])
    made: Any = typst.compile(
        files,  # type: ignore[call-overload]
        font_paths=faces,
        ignore_system_fonts=True,
        format="pdf",
        pdf_standards=list(STANDARDS),
        timestamp=drawing.issued_ns // SECOND_NS,
        sys_inputs=inputs,
    )
    return bytes(made)


def _pages(pdf: bytes) -> int:
    """Return how many pages a PDF has that was just drawn; the engine writes its tree of pages as one node."""
    found = re.search(rb"/Type/Pages/Count (\d+)", pdf)
    return int(found[1]) if found else 1


def number_of(statement: CapacityStatement) -> str:
    """Return the number of a statement as it is printed: centre, project, sequence."""
    centre = statement.centre
    return f"{centre.centre_id} / {centre.project_id or '—'} / {statement.issue.sequence}"


def qr_text(statement: CapacityStatement, payload_sha256: str) -> str:
    """Return what the QR code says: payload digest, centre and sequence, certified bookkeeping sum.

    The sum is truncated as on the page.
    """
    total = rate_text(statement.bookkeeping.certified_mflop_s).replace(" ", "").replace(",", "")
    return f"PETASEAL1:sha256:{payload_sha256}:{statement.centre.centre_id}/{statement.issue.sequence}:{total}"


def _sheet(view: StatementView, printer: Printing) -> tuple[bytes, Printing]:
    """Return the sheet as canonical JSON, and the printing with the digest of the words."""
    text = qr_text(view.statement, view.payload_sha256)
    code, modules = _qr(text)
    drawn = DrawnText(fonts().regular, fonts().bold)
    number = number_of(view.statement)
    command = f"petaseal verify {ATTACHMENT} --public-key OPERATOR.pub --records records.jsonl"
    if view.statement.baseline_sha256:
        command += " --baseline baseline.dsse.json"
    if view.statement.evidence:
        command += " --evidence evidence"
    sheet = sheet_of(view, number, drawn) | {
        "title": f"算力能力声明书 Compute capacity statement {_plain(drawn.text(number))}",
        "payload_short": view.payload_sha256[:16],
        "qr": code,
        "qr_modules": modules,
        "qr_text": text,
        "command": drawn.text(command),
        "printing": printer.text(),
    }
    digest = hashlib.sha256(_json(sheet)).hexdigest()
    printer = printer._replace(words=digest, statement=view.payload_sha256)
    return _json(sheet | {"keywords": printer.keywords()}), printer


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def _plain(text: str | list[Any]) -> str:
    """Return a drawn text as one string, for metadata."""
    items = [text] if isinstance(text, str) else text
    return "".join("〓" if isinstance(item, int) else item or "" for item in items)


def _qr(text: str) -> tuple[str, int]:
    """Return a QR code as SVG, and how many modules wide it is.

    It is drawn from its modules: a library's own SVG may differ by its release.
    """
    import segno

    rows = list(segno.make(text, error="m", micro=False, boost_error=False).matrix_iter(border=4))
    path = "".join(f"M{x} {y}h1v1h-1z" for y, row in enumerate(rows) for x, dark in enumerate(row) if dark)
    size = len(rows)
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}"><path d="{path}"/></svg>', size
