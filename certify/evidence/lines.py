"""The lines of a file that another program wrote: bounded in length and in number, text of one encoding."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bench.errors import InputError

MOST_BYTES = 64 * 2**20  # a day of a collective library's debug lines; a gigabyte is no benchmark's output
LONGEST_LINE = 64 * 2**10  # nothing of a benchmark's own is longer than a few hundred letters
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_UTF8_MARK = b"\xef\xbb\xbf"
_LINE = re.compile(rb"[^\r\n]+")
# What stands before each line: a log's time, Open MPI's and MPICH's rank and stream, Slurm's rank.
_BEFORE = re.compile(
    r"^(?:[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(?:Z|[+-][0-9:]+) )?"
    r"(?:\[(?:[\w.-]{1,99}@)?[0-9]+(?:,[0-9]+)?\](?:<std(?:out|err)>:? ?)?| {0,6}[0-9]+: )?"
)


class Lines:
    """The lines of one file, in order, without their ends and without a log's time or a launcher's rank before them.

    A carriage return ends a line too, since progress is printed with it; empty lines are left out, and so is a line
    longer than `LONGEST_LINE`.

    Args:
        content: of the file.
        where: how an error names it.

    Raises:
        InputError: longer than `MOST_BYTES`, or not text in UTF-8 or an encoding that extends ASCII.
    """

    def __init__(self, content: bytes, where: object) -> None:
        self.content = content.removeprefix(_UTF8_MARK)
        self.where = where
        self.skipped = 0  # lines that were too long
        if len(content) > MOST_BYTES:
            raise too_large(where)
        what = "is text in UTF-16" if content.startswith(_UTF16) else "has NUL bytes" if b"\0" in content else None
        if what is not None:
            fix = "bring the output as the tool wrote it, in UTF-8"
            raise InputError("evidence-not-text", what, where=where, fix=fix)

    def __iter__(self) -> Iterator[str]:
        for match in _LINE.finditer(self.content):
            if match.end() - match.start() > LONGEST_LINE:
                self.skipped += 1
            else:
                yield _BEFORE.sub("", match[0].decode("utf-8", "replace"), count=1)


def too_large(where: object) -> InputError:
    """Return the error that refuses a file which is longer than `MOST_BYTES`."""
    return InputError(
        "evidence-too-large",
        f"is larger than {MOST_BYTES // 2**20} MiB, which no benchmark prints",
        where=where,
        fix="bring the file that the benchmark itself wrote, without the output of other programs",
    )
