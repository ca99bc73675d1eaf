"""PDFs that somebody changed after they were drawn: how each is made, by hand or with pikepdf.

`appended` is what a seal or a stamp does to a file (an incremental update); what it appends may also paint over the
page. What `resaved` changes is written anew from the first byte.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable, Mapping

import pikepdf

Change = Callable[[pikepdf.Pdf], object]


def resaved(content: bytes, change: Change, **saving: object) -> bytes:
    """Return a PDF that was opened, changed and saved."""
    pdf = pikepdf.open(io.BytesIO(content))
    change(pdf)
    out = io.BytesIO()
    pdf.save(out, **saving)  # type: ignore[arg-type]
    return out.getvalue()


def appended(content: bytes, objects: Mapping[int, bytes], root: int | None = None) -> bytes:
    """Return a PDF with an incremental update: objects by number, which replace those of before or are new."""
    pdf = pikepdf.open(io.BytesIO(content))
    size = max(int(pdf.trailer["/Size"]), *(number + 1 for number in objects))
    before = int(re.findall(rb"startxref\s+(\d+)", content)[-1])
    made = bytearray(content)
    if not content.endswith(b"\n"):
        made += b"\n"
    places = {}
    for number, body in objects.items():
        places[number] = len(made)
        made += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(made)
    made += b"xref\n"
    for number, place in sorted(places.items()):
        made += b"%d 1\n%010d 00000 n \n" % (number, place)
    catalogue = root or pdf.Root.objgen[0]
    kept = b"/Root %d 0 R/Info %d 0 R/Prev %d" % (catalogue, pdf.trailer.Info.objgen[0], before)
    made += b"trailer\n<</Size %d%s>>\nstartxref\n%d\n%%%%EOF\n" % (size, kept, start)
    return bytes(made)


def stream(body: bytes, entries: bytes = b"") -> bytes:
    """Return a stream object."""
    return b"<<%s/Length %d>>stream\n%s\nendstream" % (entries, len(body), body)


def next_number(content: bytes) -> int:
    """Return the number of the first object that a PDF has not."""
    pdf = pikepdf.open(io.BytesIO(content))
    return int(pdf.trailer["/Size"])


def repainted(content: bytes, box: tuple[int, int, int, int], words: str) -> bytes:
    """Return a PDF with an appended annotation that paints other words over a part of its first page, in points."""
    number = next_number(content)
    left, bottom, right, top = box
    paint = (
        f"1 1 1 rg 0 0 {right - left} {top - bottom} re f 0 g BT /F1 {top - bottom - 3} Tf 2 3 Td ({words}) Tj ET"
    ).encode()
    font = b"<</Font<</F1<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>"
    area = b"/BBox[0 0 %d %d]" % (right - left, top - bottom)
    form = stream(paint, b"/Type/XObject/Subtype/Form" + area + b"/Resources" + font)
    note = b"<</Type/Annot/Subtype/Stamp/F 4/Rect[%d %d %d %d]/AP<</N %d 0 R>>>>" % (*box, number + 1)
    return annotated(content, note, {number + 1: form})


def annotated(content: bytes, note: bytes, objects: Mapping[int, bytes]) -> bytes:
    """Return a PDF with an appended annotation on its first page, which is the next object, and further objects."""
    number = next_number(content)
    pdf = pikepdf.open(io.BytesIO(content))
    page = pdf.pages[0].obj
    text = page.unparse(resolved=True)
    assert text.endswith(b">>")
    changed = text[:-2] + b"/Annots[%d 0 R]>>" % number
    return appended(content, {page.objgen[0]: changed, number: note, **objects})


def sealed(content: bytes) -> bytes:
    """Return a PDF with what an electronic seal appends: a signature field with a blob, and its picture."""
    number = next_number(content)
    blob = b"<</Type/Sig/Filter/Adobe.PPKLite/SubFilter/adbe.pkcs7.detached/ByteRange[0 9 9 9]/Contents<%s>>>" % (
        b"30" * 2000
    )
    picture = stream(b"1 0 0 RG 3 3 60 60 re S", b"/Type/XObject/Subtype/Form/BBox[0 0 66 66]")
    field = b"<</Type/Annot/Subtype/Widget/FT/Sig/T(seal)/F 132/Rect[400 40 466 106]/V %d 0 R/AP<</N %d 0 R>>>>" % (
        number + 1,
        number + 2,
    )
    return annotated(content, field, {number + 1: blob, number + 2: picture})


# --- attacks: each is given a true PDF of petaseal, and one of another statement that the same operator signed -------
NAME = "statement.dsse.json"
Attack = Callable[[bytes, bytes], bytes]


def attached_to(content: bytes) -> bytes:
    """Return the statement that is attached to a PDF."""
    pdf = pikepdf.open(io.BytesIO(content))  # kept while its objects are used: without it they are memory that is gone
    return bytes(pdf.attachments[NAME].get_file().read_bytes())


def _place(content: bytes) -> tuple[int, int]:
    """Return the numbers of the attachment's file specification and of its stream."""
    pdf = pikepdf.open(io.BytesIO(content))
    spec = pdf.attachments[NAME].obj
    return int(spec.objgen[0]), int(spec.EF.F.objgen[0])


def _attach(statement: bytes, key: str = NAME, name: str = NAME) -> Change:
    def change(pdf: pikepdf.Pdf) -> None:
        pdf.attachments[key] = pikepdf.AttachedFileSpec(pdf, statement, filename=name)

    return change


def _another_associated_file(pdf: pikepdf.Pdf) -> None:
    spec = pikepdf.AttachedFileSpec(pdf, b"{}", filename=NAME)
    pdf.pages[0].obj.AF = pikepdf.Array([pdf.make_indirect(spec.obj)])


def _words_exchanged(pdf: pikepdf.Pdf) -> None:
    page = pdf.pages[0]
    body = page.Contents.read_bytes()
    first, second = re.findall(rb"\[[^\]]*\]TJ", body)[:2]
    assert first != second
    body = body.replace(first, b"FIRST").replace(second, first).replace(b"FIRST", second)
    page.obj.Contents = pdf.make_stream(body)


def _claims(**printing: str) -> Change:
    """Return a change of what a PDF says of its printing."""

    def change(pdf: pikepdf.Pdf) -> None:
        _words_exchanged(pdf)
        said = str(pdf.docinfo["/Keywords"])
        for name, value in printing.items():
            said = re.sub(rf"(petaseal-{name}=)[^,]*", rf"\g<1>{value}", said)
        pdf.docinfo["/Keywords"] = said

    return change


def _unsaid(pdf: pikepdf.Pdf) -> None:
    _words_exchanged(pdf)
    del pdf.docinfo["/Keywords"]


def _update(content: bytes, spec: bytes | None = None, body: bytes | None = None, **more: bytes) -> bytes:
    """Return a PDF with an update of the attachment's specification, of its stream, or of the catalogue's names."""
    number, stream_number = _place(content)
    objects = {}
    if spec is not None:
        objects[number] = spec
    if body is not None:
        objects[stream_number] = body
    if (names := more.get("names")) is not None:
        pdf = pikepdf.open(io.BytesIO(content))
        catalogue = pdf.Root.unparse(resolved=True)
        changed = re.sub(rb"/EmbeddedFiles <<.*?>>", b"/EmbeddedFiles " + names, catalogue)
        assert changed != catalogue
        objects[pdf.Root.objgen[0]] = changed
    return appended(content, objects)


def _hidden(content: bytes) -> bytes:
    """Return a PDF with another statement at a paper clip on its page."""
    number = next_number(content)
    note = b"<</Type/Annot/Subtype/FileAttachment/Rect[0 0 9 9]/FS<</Type/Filespec/F(%s)/EF<</F %d 0 R>>>>>>"
    return annotated(content, note % (NAME.encode(), number + 1), {number + 1: stream(b"{}", b"/Type/EmbeddedFile")})


def _only_at_a_clip(content: bytes) -> bytes:
    number, _ = _place(content)
    bare = _update(content, names=b"<</Names[]>>")
    return annotated(bare, b"<</Type/Annot/Subtype/FileAttachment/Rect[0 0 9 9]/FS %d 0 R>>" % number, {})


def bomb(size: int) -> bytes:
    """Return zeros that were compressed twice: a thousand bytes for a thousand million."""
    packer = zlib.compressobj(9)
    once = b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()
    return stream(zlib.compress(once, 9), b"/Type/EmbeddedFile/Filter[/FlateDecode/FlateDecode]")


def _loop(content: bytes) -> bytes:
    place = len(content) + 1
    table = b"\nxref\n0 0\ntrailer\n<</Size 9/Root 1 0 R/Prev %d>>\nstartxref\n%d\n%%%%EOF\n"
    return content + table % (place, place)


def _two_streams(content: bytes) -> bytes:
    _, number = _place(content)
    more = next_number(content)
    spec = b"<</Type/Filespec/F(%s)/UF(%s)/EF<</F %d 0 R/UF %d 0 R>>>>" % (NAME.encode(), NAME.encode(), number, more)
    return appended(content, {_place(content)[0]: spec, more: stream(b"{}", b"/Type/EmbeddedFile")})


def _unused(content: bytes) -> bytes:
    number = next_number(content)
    spec = b"<</Type/Filespec/F(%s)/EF<</F %d 0 R>>>>" % (NAME.encode(), number + 1)
    return appended(content, {number: b"[[%s]]" % spec, number + 1: stream(b"{}")})


REFUSED: dict[str, tuple[Attack, str]] = {
    "its end is cut off": (lambda pdf, other: pdf[:-1000], "pdf-invalid"),
    "its beginning alone": (lambda pdf, other: pdf[:2000], "pdf-invalid"),
    "its first bytes are cut off": (lambda pdf, other: pdf[9:], "json-invalid"),
    "five bytes": (lambda pdf, other: b"%PDF-", "pdf-invalid"),
    "a line before it": (lambda pdf, other: b"\n" + pdf, "pdf-invalid"),
    "an archive before it": (lambda pdf, other: b"PK\3\4" + bytes(500) + pdf, "pdf-invalid"),
    "a statement before it": (lambda pdf, other: attached_to(pdf)[:900] + pdf, "pdf-invalid"),
    "a table of objects that leads to itself": (lambda pdf, other: _loop(pdf), "pdf-invalid"),
    "an attachment that is no stream": (
        lambda pdf, other: _update(pdf, b"<</Type/Filespec/F(%s)/EF<</F 7>>>>" % NAME.encode()),
        "pdf-invalid",
    ),
    "an attachment that cannot be unpacked": (
        lambda pdf, other: _update(pdf, body=stream(b"abc", b"/Filter/FlateDecode")),
        "pdf-invalid",
    ),
    "encrypted, and open to all": (
        lambda pdf, other: resaved(pdf, lambda _: None, encryption=pikepdf.Encryption(owner="o", user="")),
        "pdf-encrypted",
    ),
    "encrypted with a password": (
        lambda pdf, other: resaved(pdf, lambda _: None, encryption=pikepdf.Encryption(owner="o", user="u")),
        "pdf-encrypted",
    ),
    "no attachment": (lambda pdf, other: resaved(pdf, _without), "pdf-statement-missing"),
    "an attachment of another name": (
        lambda pdf, other: resaved(resaved(pdf, _without), _attach(attached_to(pdf), "a.json", "a.json")),
        "pdf-statement-missing",
    ),
    "the statement at a paper clip only": (lambda pdf, other: _only_at_a_clip(pdf), "pdf-statement-missing"),
    "a list of attachments that leads to itself": (
        lambda pdf, other: appended(
            _update(pdf, names=b"%d 0 R" % next_number(pdf)),
            {next_number(pdf): b"<</Limits[(a)(z)]/Kids[%d 0 R]>>" % next_number(pdf)},
        ),
        "pdf-statement-missing",
    ),
    "two in the list": (lambda pdf, other: resaved(pdf, _attach(attached_to(other), "b.json")), "pdf-statement-twice"),
    "two in the list, by the list's names": (
        lambda pdf, other: resaved(pdf, _attach(attached_to(other), f"a/{NAME}", "b.json")),
        "pdf-statement-twice",
    ),
    "two in the list, one in capitals": (
        lambda pdf, other: resaved(pdf, _attach(b"{}", "B", "Statement.DSSE.json")),
        "pdf-statement-twice",
    ),
    "two, one of a page": (lambda pdf, other: resaved(pdf, _another_associated_file), "pdf-statement-twice"),
    "two, one at a paper clip": (lambda pdf, other: _hidden(pdf), "pdf-statement-twice"),
    "two, one that nothing leads to": (lambda pdf, other: _unused(pdf), "pdf-statement-twice"),
    "two under one entry": (lambda pdf, other: _two_streams(pdf), "pdf-statement-twice"),
    "words exchanged on the page": (lambda pdf, other: resaved(pdf, _words_exchanged), "page-differs"),
    "written anew, and nothing changed": (lambda pdf, other: resaved(pdf, lambda _: None), "page-differs"),
    "one number changed in its place": (
        lambda pdf, other: pdf.replace(b"/MediaBox[0 0 595", b"/MediaBox[0 0 594"),
        "page-differs",
    ),
    "its last byte is cut off": (lambda pdf, other: pdf[:-1], "page-differs"),
    "words exchanged, and no record of what drew it": (lambda pdf, other: resaved(pdf, _unsaid), "page-differs"),
    "another signed statement in its place": (
        lambda pdf, other: resaved(resaved(pdf, _without), _attach(attached_to(other))),
        "page-differs",
    ),
    "another signed statement in an update": (
        lambda pdf, other: _update(pdf, body=stream(attached_to(other), b"/Type/EmbeddedFile")),
        "page-differs",
    ),
}


def _without(pdf: pikepdf.Pdf) -> None:
    del pdf.attachments[NAME]


def bombed(content: bytes, size: int) -> bytes:
    """Return a PDF whose attachment unpacks to so many bytes."""
    return _update(content, body=bomb(size))


# What a forger writes who wants his page not to be compared: no answer is no good answer.
UNVERIFIED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "another engine is named": (
        lambda pdf: resaved(pdf, _claims(engine="typst 0.16.0")),
        "another engine typst 0.16.0",
    ),
    "another template is named": (lambda pdf: resaved(pdf, _claims(template="ab" * 32)), "another template abab"),
    "other fonts are named": (lambda pdf: resaved(pdf, _claims(fonts="cd" * 32)), "another fonts cdcd"),
    "other words are named": (lambda pdf: resaved(pdf, _claims(words="ef" * 32)), "another words efef"),
    "an engine that steers a terminal": (lambda pdf: resaved(pdf, _claims(engine="\x1b[32mok")), "another engine"),
    "another form of the record": (lambda pdf: resaved(pdf, _claims(engine="x, petaseal-more=y")), "another petaseal"),
    "another engine is named in an update": (
        lambda pdf: _retold(resaved(pdf, _words_exchanged)),
        "another engine typst 9",
    ),
}


def _retold(content: bytes) -> bytes:
    """Return a PDF whose appended information names another engine."""
    pdf = pikepdf.open(io.BytesIO(content))
    said = re.sub(r"typst [0-9.]+", "typst 9", str(pdf.docinfo["/Keywords"]))
    return appended(content, {pdf.docinfo.objgen[0]: b"<</Keywords(%s)>>" % said.encode()})


APPENDED: dict[str, Callable[[bytes], bytes]] = {
    "a line": lambda pdf: pdf + b"\n",
    "an annotation that paints over a verdict": lambda pdf: repainted(pdf, (300, 400, 580, 440), "2000P: MET"),
    "a seal": sealed,
    "a seal on a seal": lambda pdf: sealed(sealed(pdf)),
    "an archive": lambda pdf: pdf + b"PK\5\6" + bytes(18),
    "another engine that is named": lambda pdf: _retold(pdf),
    "another catalogue": lambda pdf: _update(pdf, names=b"<</Names[(%s)%d 0 R]>>" % (NAME.encode(), _place(pdf)[0])),
}


def appended_to(content: bytes, name: str) -> bytes:
    """Return a PDF with what `APPENDED` appends to it."""
    changed = APPENDED[name](content)
    assert changed.startswith(content)
    return changed
