"""The entry point of the command: nothing is imported from ``kernels`` and ``bench`` before they are known to be ours.

Another distribution's package of the same name may stand earlier on the path (ADR 1), and may hold anything; so may
another release of what petaseal needs, where the environment names the folders of a ``module load``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from functools import partial
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import NoReturn

HOME = Path(__file__).resolve().parent.parent
DEPENDENCIES = ("cryptography", "jinja2", "msgspec", "numpy", "rich", "typer", "yaml")  # of every command


def foreign_package() -> str | None:
    """Return what stands in for one of petaseal's own packages, as a sentence, or None."""
    # Common names: a user's own folder "bench" in the working directory comes first on the path.
    for name in ("kernels", "bench"):
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            return f"the package {name!r} of petaseal is missing; install petaseal again"
        if Path(spec.origin).resolve() != HOME / name / "__init__.py":
            return (
                f"the package {name!r} is not petaseal's own but {spec.origin};"
                " install petaseal into a virtual environment of its own"
            )
    return None


def foreign_dependency() -> str | None:
    """Return which package that petaseal needs $PYTHONPATH replaces by another, as a sentence, or None."""
    named = {Path(folder).resolve() for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder}
    installed_from = [folder for folder in sys.path if Path(folder).resolve() not in named]
    for name in DEPENDENCIES if named else ():
        first, installed = find_spec(name), PathFinder.find_spec(name, installed_from)
        if first is not None and installed is not None and first.origin != installed.origin:
            return (
                f"PYTHONPATH puts another package {name!r} ({first.origin}) before the one that petaseal was installed"
                " with; unset PYTHONPATH, or unload the module that sets it"
            )
    return None


def ended(process: int, number: int, frame: FrameType | None) -> None:
    """Say that SIGTERM ended the command, and leave as Ctrl-C does: workers end, and nothing stays half-written."""
    signal.signal(number, signal.SIG_DFL)  # a second one ends at once
    if os.getpid() != process:
        os.kill(os.getpid(), number)
    sentence = b"petaseal: ended by SIGTERM; nothing was left half-written [interrupted]\n"
    with contextlib.suppress(OSError):  # not by sys.stderr, which may be in the middle of a line
        os.write(2, sentence)
    sys.exit(128 + number)


def main() -> NoReturn:
    """Run the command line if all its packages are petaseal's own."""
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, partial(ended, os.getpid()))
    if (problem := foreign_package() or foreign_dependency()) is not None:
        sys.exit(refused(problem, "foreign-package"))
    try:
        from certify.commands.root import main as command
    except KeyboardInterrupt:
        print("petaseal: interrupted; nothing was done [interrupted]", file=sys.stderr)  # noqa: T201
        sys.exit(130)
    command()


def refused(sentence: str, code: str) -> int:
    """Print a sentence as `certify.commands.root` does, which cannot be imported yet, and return the exit status."""
    flat = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in sentence)
    print(f"petaseal: {flat} [{code}]", file=sys.stderr)  # noqa: T201
    return 2


if __name__ == "__main__":
    main()
