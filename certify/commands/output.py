"""What commands print, and how an error becomes one sentence on stderr and an exit status.

0: done and good. 1: done and the answer is no. 2: wrong input or usage.
"""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from bench.errors import InputError, PetasealError, escaped
from bench.terminal.screen import discard_output, is_terminal, summary_here
from bench.terminal.show import print_json, print_lines
from bench.terminal.summary import Part


def report(as_json: bool, value: Any, lines: Sequence[str]) -> None:
    """Print a result: one JSON object for machines, or lines for people."""
    # A command says one thing: mixed output could be read neither by a person nor by a program.
    if as_json:
        print_json(value)
    else:
        print_lines(lines)


def in_short(parts: Sequence[Part], whole: Sequence[str], show_all: bool) -> list[str]:
    """Return what is printed for people: the whole under ``--all``, else a summary of one screen."""
    # In a pipe as well: `--all` and `--json` are there for scripts, and one command says one thing.
    return list(whole) if show_all else summary_here(parts)


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


def keep_output_whole() -> None:
    """Give stdout a buffer where it has none, so that a disk that takes a part of a text is an error.

    Under PYTHONUNBUFFERED, which images of containers set, Python leaves out the rest and says nothing.
    """
    stream = sys.stdout
    if isinstance(stream, io.TextIOWrapper) and isinstance(stream.buffer, io.FileIO):
        # With each line it is handed on, for which the variable is there.
        whole = io.BufferedWriter(stream.buffer)
        sys.stdout = io.TextIOWrapper(whole, stream.encoding, stream.errors, line_buffering=True)


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
        if (meaning := _meaning(error.code)) is not None:
            print(f"          {meaning}", file=sys.stderr)  # noqa: T201
    sys.exit(error.exit_status)


def _meaning(code: str) -> str | None:
    """Return what a code means, in Chinese where that is the language; None elsewhere: the sentence has said it."""
    from bench.language import language

    if language() == "en":
        return None
    from certify.policy.reasons import reasons

    return reasons()[code].zh if code in reasons() else None


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
