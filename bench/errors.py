"""The one tree of errors: every refusal is one sentence with a reason code and what to do next.

Only the command line turns an error into an exit status. The texts of the codes stand in ``configs/reasons.yaml``.
"""

from __future__ import annotations

import errno
import os
import pwd
import re
import stat
from pathlib import Path


class PetasealError(Exception):
    """Base of every error that petaseal raises on purpose.

    Args:
        code: reason code, a key of ``configs/reasons.yaml`` (``petaseal explain CODE`` prints its text).
        what: what is wrong, a clause without a full stop.
        where: the file, field or device concerned, if any.
        fix: what to do about it, a clause without a full stop, if it is not obvious.
    """

    exit_status = 2

    def __init__(self, code: str, what: str, *, where: object = None, fix: str | None = None) -> None:
        self.code = code
        self.what = what
        self.where = None if where is None else str(where)
        self.fix = fix
        super().__init__(code, what)

    def __str__(self) -> str:
        parts = [self.what if self.where is None else f"{self.where}: {self.what}"]
        if self.fix:
            parts.append(self.fix)
        return one_line(f"{'; '.join(parts)} [{self.code}]")


class InputError(PetasealError):
    """The input or the usage is wrong; nothing was done (exit status 2)."""


class MissingLibraryError(InputError):
    """An optional library is not installed: says what is missing, what it is for and how to install it."""

    def __init__(self, library: str, purpose: str, extra: str) -> None:
        super().__init__(
            "missing-library",
            f"{library} is not installed; it is needed {purpose}",
            fix=f"install it with: pip install 'petaseal[{extra}]'",
        )


class OutputExistsError(InputError):
    """Something stands already where a new file or folder was to be made."""

    def __init__(
        self, where: object, what: str = "exists, and is never overwritten", fix: str = "choose another name"
    ) -> None:
        super().__init__("output-exists", what, where=where, fix=fix)


class RefusedError(PetasealError):
    """The input was understood and the answer is no: a document is invalid or a requirement is not met (exit 1)."""

    exit_status = 1


class DeviceError(PetasealError):
    """A device failed, hung or gave wrong products while it was measured (exit status 1)."""

    exit_status = 1


class Interrupted(PetasealError):
    """Somebody pressed Ctrl-C, or ended the input that a question was asked on."""

    exit_status = 130

    def __init__(self, what: str = "interrupted; nothing was left half-written") -> None:
        super().__init__("interrupted", what)


def one_line(text: str, limit: int = 500) -> str:
    """Return `text` on one line, printable and bounded: error texts quote hostile input."""
    # A terminal obeys control characters, and a log takes a newline for a new entry.
    flat = "".join(c if c.isprintable() else escaped(c) for c in text)
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def explained(error: BaseException) -> str:
    """Return what an exception says on one line: the system's errors which file and why, others their first line."""
    if isinstance(error, PetasealError):
        return str(error)
    kind = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return one_line(": ".join(str(part) for part in (error.filename, error.strerror) if part) + f" [{kind}]")
    first = main_line(str(error))
    return one_line(f"{kind}: {first}" if first else kind)


# CANN's message, which names the cause, stands below torch_npu's line with the function and a number: "EZ9999: Inner
# Error!", "EL0004: ...".
_ASCEND_MESSAGE = re.compile(r"^(?:\[Error\]: *)?(E[A-Z]?\d{4,5}: .+)$", re.MULTILINE)


def main_line(text: str) -> str:
    """Return the line of an error's text that says most: the first, after the library's message that it quotes."""
    first = next(iter(text.strip().splitlines()), "")
    quoted = _ASCEND_MESSAGE.search(text)
    return first if quoted is None or quoted[1] == first else f"{quoted[1].strip()} ({first})"


def escaped(character: str) -> str:
    """Return how a character is shown that cannot be printed; of a file's name that is not UTF-8, each byte."""
    code = ord(character)
    return f"\\x{code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code:02x}"


def public_text(text: str) -> str:
    """Return a short text without paths: a record names no place of a node."""
    return one_line(re.sub(r"(?:~|\.{0,2})(?:/[\w.+-]+){2,}", "<path>", text), 200)


def denied(path: Path, error: OSError) -> str:
    """Return why the system did something or not, and where rights are missing whose file or folder it was.

    Args:
        path: that was to be read, or the folder that was to be written into.
        error: what the system said.
    """
    why = error.strerror or str(error)
    if error.errno not in (errno.EACCES, errno.EPERM):
        return why
    # Of the nearest folder above that can be looked at: a missing file has no owner.
    for one in (path.absolute(), *path.absolute().parents):
        try:
            status = one.stat()
        except OSError:
            continue
        mode = stat.S_IMODE(status.st_mode)
        return f"{why}: {one} belongs to {user_name(status.st_uid)}, mode {mode:04o}, and this is {user_name()}"
    return why


def user_name(uid: int | None = None) -> str:
    """Return a user's name, else the number; by default of the user of this process."""
    uid = os.geteuid() if uid is None else uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
