"""A statement that came as a PDF: the attached document is taken out of it, and its page compared with a new drawing.

The file is hostile until the comparison holds, so that nothing but `certify.statement.paper.contents` parses it, in a
process with limits of memory and time. Only the first bytes are compared: what a seal or a stamp appends comes after.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import msgspec

from bench.errors import InputError, MissingLibraryError, RefusedError, explained, one_line
from bench.host.python_start import start_code
from bench.record import read_given
from certify.documents.caps import CAPS, Caps
from certify.statement.paper.contents import NAME

if TYPE_CHECKING:
    from certify.policy.policies import Policy

PageStatus = Literal["same", "appended", "differs", "not-verified"]
RECORD = "petaseal-"  # begins each keyword that says what drew a page
FILE = "statement.pdf"  # in a folder of a statement's files
MAGIC = b"%PDF-"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EIO)  # with which the reading process ends when nothing can be written
HEAD = 1024  # bytes in which readers of PDFs look for `MAGIC`


class ChildAnswer(msgspec.Struct, forbid_unknown_fields=True):
    """What the reading process says of a PDF; its word is checked like the file's."""

    fault: str | None = None
    why: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    statements: Annotated[int, msgspec.Meta(ge=0)] = 0
    listed: bool = False
    keywords: Annotated[str, msgspec.Meta(max_length=4000)] = ""


class PageCheck(NamedTuple):
    """What the comparison of a PDF with a new drawing of its statement gave.

    Args:
        status: `same`; `appended`: the drawing, and bytes after it; `differs`; or `not-verified`, which is no answer.
        drawn_bytes: length of the drawing, with which the file begins; None where it does not.
        appended_bytes: that follow it.
        why: it was not compared.
        printing: what drew the page, by what the PDF says of itself.
    """

    status: PageStatus
    drawn_bytes: int | None = None
    appended_bytes: int | None = None
    why: str | None = None
    printing: dict[str, str] | None = None


@dataclass(frozen=True)
class StatementPdf:
    """A PDF and the statement that is attached to it; neither is verified yet."""

    path: Path
    content: bytes
    statement: bytes  # the envelope
    keywords: str  # in which petaseal records what drew the page

    def compare(self, policies: tuple[Policy, ...], where: object) -> PageCheck:
        """Draw the statement anew, and compare it with the beginning of the file.

        Call it once the statement is verified: whoever may sign it is then known not to be just anybody.

        Args:
            policies: those of its verdicts.
            where: the file, for error texts.
        """
        from certify.statement.paper.pdf import Printing, SignedStatement, draw, render_pdf

        recorded = Printing.read(self.keywords)
        printing = None if recorded is None else recorded._asdict()
        try:
            drawing = draw(SignedStatement.read(self.statement, where), policies)
            drawn = render_pdf(drawing)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the engine's panic is no Exception; what cannot be drawn is not compared
            return PageCheck("not-verified", why=f"it cannot be drawn here: {explained(error)}", printing=printing)
        here = drawing.printing
        # First of all, and whatever the file says of itself: the same bytes are the same page.
        if self.content.startswith(drawn):
            more = len(self.content) - len(drawn)
            return PageCheck("appended" if more else "same", len(drawn), more, printing=here._asdict())
        # A petaseal that records in another way is another one; a page without any record is no petaseal's.
        unknown = recorded is None and RECORD in self.keywords
        if not unknown and (recorded is None or recorded == here or recorded.statement != here.statement):
            return PageCheck("differs", printing=printing)
        # A forger may write there what he likes: it only ever leads to less than `same`.
        pairs = zip(here._fields, recorded or (), here, strict=recorded is not None)
        parts = [f"{name} {said[:24]} (here {ours[:24]})" for name, said, ours in pairs if said != ours]
        why = f"it says that it was drawn with another {', '.join(parts) or 'petaseal'}"
        return PageCheck("not-verified", why=why, printing=printing)


def open_paper(path: Path, caps: Caps = CAPS, *, in_folder: bool = False) -> StatementPdf | None:
    """Return what a PDF holds; None where the file is none, whatever its name, or is not there.

    Args:
        path: the file, or a folder of a statement's files.
        caps: limits of size, memory and time.
        in_folder: whether to open the PDF that lies in a folder.

    Raises:
        InputError: the file cannot be read, is too large, there is no room to take it apart, or the library that reads
            PDFs is missing.
        RefusedError: `pdf-invalid`, `pdf-encrypted`, `pdf-too-costly`, `pdf-statement-missing` or
            `pdf-statement-twice`.
    """
    if path.is_dir():
        path /= FILE
        if not in_folder or not os.path.lexists(path):
            return None
    # What else is wrong with the request comes first, and then whoever reads the statement says so.
    if not path.exists():
        return None
    content = read_given(path, caps.statement_bytes)
    start = content[:HEAD].find(MAGIC)
    if start < 0:
        return None
    if start > 0:  # some readers look past them: the file would be one thing here and another there
        raise RefusedError("pdf-invalid", f"has {start} bytes before its beginning as a PDF", where=path)
    return _look(content, path, caps)


def _look(content: bytes, path: Path, caps: Caps) -> StatementPdf:
    said, statement = _read(content, path, caps)
    if said.fault == "encrypted":
        raise RefusedError("pdf-encrypted", "is encrypted, which no PDF of petaseal is", where=path)
    if said.fault == "costly":
        what = f"takes more than {caps.pdf_memory_bytes >> 20} MiB or {caps.pdf_cpu_s} s to be read"
        raise RefusedError("pdf-too-costly", what, where=path, fix="give the statement itself")
    if said.fault is not None:
        why = one_line(re.sub(r"(\w+: )?stream <[^>]*>:? *", "", said.why), 150)
        what = f"cannot be read as a PDF: damaged, cut off, or made by another program ({why})"
        raise RefusedError("pdf-invalid", what, where=path, fix="ask for the file again")
    if said.statements > 1:
        what = f"has {said.statements} attachments that may pass for {NAME}: readers would choose differently"
        raise RefusedError("pdf-statement-twice", what, where=path)
    if said.statements == 0 or not said.listed:
        fix = "give the statement itself, or the PDF that petaseal made of it"
        raise RefusedError("pdf-statement-missing", f"has no {NAME} among its attachments", where=path, fix=fix)
    return StatementPdf(path, content, statement, said.keywords)


def _read(content: bytes, path: Path, caps: Caps) -> tuple[ChildAnswer, bytes]:
    """Have the PDF read by a process of its own, and return what that says and the attached statement."""
    import signal
    import subprocess
    import tempfile

    if importlib.util.find_spec("pikepdf") is None:
        raise MissingLibraryError("pikepdf", f"to take the statement out of a PDF ({path})", "report")
    limits = (caps.pdf_memory_bytes, caps.pdf_cpu_s, caps.statement_bytes + HEAD * HEAD)
    # A file takes the answer: how large it gets is limited by the system, where a pipe would be read without end.
    with tempfile.TemporaryFile() as answer:
        try:
            done = subprocess.run(
                # The parent's search path for modules, as for every process that petaseal starts of itself.
                [sys.executable, "-c", start_code("certify.statement.paper.contents"), *map(str, limits)],
                input=content,
                stdout=answer,
                stderr=subprocess.DEVNULL,
                timeout=caps.pdf_wall_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return ChildAnswer(fault="costly"), b""
        if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL, errno.EFBIG):
            return ChildAnswer(fault="costly"), b""
        if done.returncode in NO_ROOM:
            what = f"cannot be taken apart in {tempfile.gettempdir()} ({os.strerror(done.returncode)})"
            raise InputError("output-not-writable", what, where=path, fix="set TMPDIR to a folder with room")
        answer.seek(0)
        head = answer.readline(HEAD * HEAD)
        try:
            said: ChildAnswer | None = msgspec.json.decode(head, type=ChildAnswer)
        except msgspec.DecodeError:  # it ended before it had said anything
            said = None
        if said is None or done.returncode:  # or in the middle of what it said
            return ChildAnswer(fault="broken", why=f"the reading process ended with {done.returncode}"), b""
        return said, answer.read(caps.statement_bytes + 1)
