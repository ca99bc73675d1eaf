"""What is behind standard output: whether a person reads it, how wide it is, what its encoding can show."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TextIO

from bench.terminal.summary import Part, summarised

MIN_WIDTH = 20  # cells: a terminal that says less is not believed


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a person reads or writes there; a stream that was closed at the start is None."""
    return stream is not None and stream.isatty()


def discard_output() -> None:
    """Send the rest of the output nowhere, so that the interpreter does not stumble over it when it ends."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def encodable(text: str) -> str:
    """Return a text as standard output shows it: what its encoding lacks is escaped, and takes more cells."""
    if sys.stdout is None or sys.stdout.encoding is None:
        return text
    return text.encode(sys.stdout.encoding, sys.stdout.errors or "strict").decode(sys.stdout.encoding, "replace")


def terminal_width() -> int:
    """Return the cells of a line of the terminal on standard output."""
    return max(MIN_WIDTH, shutil.get_terminal_size().columns)


def summary_here(parts: Sequence[Part]) -> list[str]:
    """Return a summary as high as it may be where it will be printed: a terminal breaks long lines, a pipe none."""
    if not is_terminal(sys.stdout):
        return summarised(parts, None)
    escaped = [replace(part, forms=tuple(tuple(map(encodable, form)) for form in part.forms)) for part in parts]
    return summarised(escaped, terminal_width())
