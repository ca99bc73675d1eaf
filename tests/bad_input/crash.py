"""A process that runs commands in children of its own, each stopped by a signal at one call of the system.

It is certain where it strikes, unlike a signal from outside. The step is counted over every call that changes a file.
It imports everything once and has no threads, so that a child costs little and may be forked.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bad_input.command import Answer, put_together

CALLS = ("open", "mkdir", "fchmod", "fsync", "replace", "link", "unlink", "rename", "write")
NOT_REACHED = 77


@contextmanager
def crashing() -> Iterator[Callable[..., Answer]]:
    """Start the process; what is yielded takes a signal's name, a step and a command, and returns what it left."""
    command = [sys.executable, "-m", "tests.bad_input.crash"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def crash(name: str, step: int, *arguments: object) -> Answer:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps([name, step, list(map(str, arguments))]) + "\n")
            process.stdin.flush()
            return Answer(*json.loads(process.stdout.readline()))

        yield crash


def strike(name: str, step: int) -> list[int]:
    """Have a signal strike at a step; return what counts them."""
    left = [step]
    opening = os.open

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if real is opening and not args[1] & (os.O_WRONLY | os.O_RDWR):
                return real(*args, **options)
            left[0] -= 1
            if left[0] == -1:
                os.kill(os.getpid(), signal.Signals[name])
            return real(*args, **options)

        return call

    for call in CALLS:
        setattr(os, call, counted(getattr(os, call)))
    return left


def child(name: str, step: int, arguments: list[str]) -> None:
    """Run one command: one of petaseal's, or the writing of a record."""
    from bench import output
    from certify.__main__ import main

    status, left = 0, strike(name, step)
    try:
        if arguments[0] == "write-record":
            out = Path(arguments[1])
            output.write_record(out / "n.record.dsse.json", b"record", out / "n.samples.csv.gz", b"samples")
        else:
            sys.argv = ["petaseal", *arguments]
            main()
    except SystemExit as ended:
        status = int(ended.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(NOT_REACHED if left[0] >= 0 else status)


def serve() -> None:
    """Answer each line on standard input."""
    import jinja2  # noqa: F401
    import typer.main

    import certify.statement.issue
    import certify.verify.verifier  # noqa: F401
    from certify.commands.root import app
    from certify.policy.ratings import installed_ratings
    from certify.policy.reasons import effect_of

    typer.main.get_command = put_together
    put_together(app)
    installed_ratings()
    effect_of("upcast")
    for line in sys.stdin:
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            pid = os.fork()
            if pid == 0:
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                child(*json.loads(line))
            _, status = os.waitpid(pid, 0)
            out.seek(0)
            err.seek(0)
            print(json.dumps([os.waitstatus_to_exitcode(status), out.read(), err.read()]), flush=True)


if __name__ == "__main__":
    serve()
