"""What a PDF holds, read in a process of its own: a hostile file can end this process, and nothing else.

`certify.statement.paper.opening` starts it with the PDF as input. It judges nothing: it says how often a statement is
attached and gives the attached bytes, as one line of JSON and what follows it.
"""

from __future__ import annotations

import errno
import io
import json
import os
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any

NAME = "statement.dsse.json"  # of the attachment
LONGEST = 200  # characters of a text that is passed on


def main() -> None:
    """Read a PDF from stdin, and write what it holds to stdout; the arguments are limits of bytes and seconds."""
    import resource

    memory, seconds, most = map(int, sys.argv[1:4])
    # Hard limits, set before the first byte is read: a bomb ends in an error here and not in the verifier's memory.
    for kind, limit in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, most),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (limit, limit))
    said, statement = answer(sys.stdin.buffer.read())
    left = memoryview(json.dumps(said).encode() + b"\n" + statement)
    try:
        while left:  # by hand: Python's own buffer loses the rest where a disk takes a part
            left = left[os.write(sys.stdout.fileno(), left) :]
    except OSError as error:  # half an answer would pass for a damaged statement
        os._exit(error.errno or errno.EIO)


def answer(content: bytes) -> tuple[dict[str, object], bytes]:
    """Return what `look` does, or why it cannot say anything of a PDF."""
    try:
        return look(content)
    except MemoryError:
        return {"fault": "costly"}, b""
    except Exception as error:  # whatever the library makes of hostile bytes
        why = f"{type(error).__name__}: {error}"[:LONGEST]
        return {"fault": "costly" if "bad_alloc" in why else "broken", "why": why}, b""  # as the C++ below calls it


def look(content: bytes) -> tuple[dict[str, object], bytes]:
    """Return what a PDF says of itself and how many statements are attached, and the attached statement if it is one.

    Raises:
        Exception: whatever the library raises: it is no PDF, or a damaged one.
    """
    import pikepdf

    try:
        # Without recovery: what one reader repairs into another file is no file that two readers agree on.
        pdf = pikepdf.open(io.BytesIO(content), attempt_recovery=False, suppress_warnings=True)
    except pikepdf.PasswordError:
        return {"fault": "encrypted"}, b""
    if pdf.is_encrypted:
        return {"fault": "encrypted"}, b""
    attached, listed = _attached(pdf)
    said: dict[str, Any] = {
        "statements": len(attached),
        "listed": bool(attached) and listed,
        "keywords": _keywords(pdf),
    }
    return said, attached[0].read_bytes() if said["listed"] and len(attached) == 1 else b""


def _attached(pdf: Any) -> tuple[list[Any], bool]:
    """Return the streams that are attached under the statement's name, and whether a list of attachments names one.

    Each object of the file is looked at, used or not, whoever leads to it: the catalogue's lists of attachments, a
    page's, an annotation's, or nobody.
    """
    import pikepdf

    streams: dict[Any, Any] = {}
    specs = [spec for spec in _file_specifications(pdf) if _is_named(spec)]
    entries = []
    names = pdf.Root.get("/Names", {}).get("/EmbeddedFiles")
    if names is not None:
        entries = [(key, spec) for key, spec in pikepdf.NameTree(names).items()]
    named = [spec for key, spec in entries if _is_name(key) or _is_named(spec)]
    for spec in (*specs, *named):
        for stream in spec.get("/EF", {}).values():
            # A direct object has the number (0, 0) and is an object of its own; a stream never is direct.
            streams[stream.objgen] = stream
    return list(streams.values()), bool(named)


def _file_specifications(pdf: Any) -> Iterator[Any]:
    """Yield each dictionary of a file that leads to embedded bytes."""
    import pikepdf

    for top in pdf.objects:
        waiting = [top]
        while waiting:
            one = waiting.pop()
            if isinstance(one, pikepdf.Dictionary | pikepdf.Stream):
                if "/EF" in one:
                    yield one
                parts = [part for _, part in one.items()]
            elif isinstance(one, pikepdf.Array):
                parts = list(one)
            else:
                continue
            # What is an object of its own is looked at as one: a circle has no end else.
            waiting += [part for part in parts if isinstance(part, pikepdf.Object) and not part.is_indirect]


def _is_named(spec: Any) -> bool:
    return any(_is_name(str(spec[key])) for key in ("/F", "/UF", "/DOS", "/Mac", "/Unix") if key in spec)


def _is_name(text: str) -> bool:
    """Whether a file system, or a reader of the list of attachments, may take a text for the statement's name."""
    last = text.replace("\\", "/").rpartition("/")[2]
    return unicodedata.normalize("NFKC", last).casefold().strip() == NAME


def _keywords(pdf: Any) -> str:
    """Return the keywords that a PDF bears, in which petaseal records what drew its page."""
    return str(pdf.docinfo.get("/Keywords", ""))[: 10 * LONGEST] if "/Info" in pdf.trailer else ""
