"""What commands print, and how an error becomes one sentence on stderr and an exit status.

0: done and good. 1: done and the answer is no. 2: wrong input or usage.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from bench.errors import InputError, PetasealError, escaped
from bench.show import is_terminal, print_json, print_lines


def report(as_json: bool, value: Any, lines: Sequence[str]) -> None:
    """Print a result: one JSON object for machines, or lines for people."""
    # A command says one thing: mixed output could be read neither by a person nor by a program.
    if as_json:
        print_json(value)
    else:
        print_lines(lines)


class RecordCounter:
    """On a terminal, how many records were done so far; nothing elsewhere.

    It appears with the first record: before, a passphrase may be asked for.
    """

    def __init__(self, done: str, quiet: bool) -> None:
        self._done = done
        # On stderr, so that what a script takes from stdout is the result and nothing else.
        self._shown = not quiet and is_terminal(sys.stderr)
        self._bar: Any = None

    def __enter__(self) -> Callable[[int], None]:
        return self._count

    def __exit__(self, *error: object) -> None:
        if self._bar:
            self._bar.stop()

    def _count(self, records: int) -> None:
        if not self._shown:
            return
        # Importing rich costs more than a small command takes: not before there is something to show.
        if self._bar is None:
            from rich.console import Console
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            text = TextColumn(f"{self._done}: {{task.completed:,}} records")
            self._bar = Progress(
                SpinnerColumn(), text, TimeElapsedColumn(), console=Console(stderr=True), transient=True
            )
            self._bar.add_task(self._done, total=None)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=records)


def escape_what_a_terminal_lacks() -> None:
    """Have both streams show what their encoding lacks as an escape, in place of ending with a traceback."""
    # A title in Chinese under LANG=C, or a file name of another locale, must not become a traceback.
    codecs.register_error("escaped", _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="escaped")


def _escaped(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    # Surrogates stand for bytes of a file's name that are no UTF-8: the same escape as everywhere else names them.
    shown = (escaped(c) if c.isascii() or "\ud800" <= c <= "\udfff" else ascii(c)[1:-1] for c in lacking)
    return "".join(shown), error.end


def fail(error: PetasealError) -> NoReturn:
    """Print one sentence on stderr and exit."""
    # Service managers start processes with stderr closed: Python then has no stream there.
    if sys.stderr is not None:
        print(f"petaseal: {error}", file=sys.stderr)  # noqa: T201
    sys.exit(error.exit_status)


def fail_system(error: OSError) -> NoReturn:
    """Say what the system refused, and exit."""
    # A full disk or a closed pipe: what is still buffered would raise once more when the interpreter ends.
    discard_output()
    fail(InputError("system-error", f"the system refused it ({error.strerror or error})", where=error.filename))


def fail_usage(error: Any) -> NoReturn:
    """Print the help of a command that was called with nothing, else one sentence on what is wrong, and exit."""
    # By name: Typer brings a command-line library of its own or imports click, by its version.
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message(), file=sys.stderr)  # noqa: T201
        sys.exit(2)
    context = getattr(error, "ctx", None)
    fix = f"see {context.command_path if context is not None else 'petaseal'} --help"
    fail(InputError("usage", error.format_message().rstrip("."), fix=fix))


def discard_output() -> None:
    """Send the rest of the output nowhere, so that the interpreter does not stumble over it when it ends."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
