"""The command as a user gives it, in this process or as one of its own, and what an answer of no must look like."""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import typer.main

from certify.commands.root import main

put_together = cache(typer.main.get_command)  # takes longer than most commands, and keeps nothing of a call
SENTENCE = re.compile(r"petaseal: [^\n]+ \[([a-z0-9-]+)\]\n")


class Answer(NamedTuple):
    """What a command left."""

    status: int
    out: str
    err: str

    @property
    def code(self) -> str:
        """The reason code of the one sentence on stderr, which there must be."""
        match = SENTENCE.fullmatch(self.err)
        assert match is not None, self.err
        assert len(self.err) <= 520
        return match[1]


def petaseal(*args: object) -> Answer:
    """Run a command in this process, with no terminal; a warning or an error of ours fails the test."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["petaseal", *map(str, args)])
        patch.setattr(typer.main, "get_command", put_together)
        with pytest.raises(SystemExit) as ended:
            main()
    return Answer(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def started(*args: object, **options: object) -> subprocess.Popen[str]:
    """Start a command as a process and the leader of its group."""
    settings: dict[str, object] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-m", "certify", *map(str, args)]
    return subprocess.Popen(command, text=True, start_new_session=True, **{**settings, **options})  # type: ignore


def process(*args: object, **options: object) -> Answer:
    """Run a command as a process."""
    running = started(*args, **options)
    out, err = running.communicate(timeout=120)
    return Answer(running.returncode, out or "", err or "")


def contents(folder: Path) -> dict[str, bytes | str]:
    """Return everything below a folder, to compare what was there with what is there; links are not followed."""
    found: dict[str, bytes | str] = {}
    for root, folders, files in os.walk(folder):
        for name in folders:
            found[os.path.relpath(os.path.join(root, name), folder)] = "folder"
        for name in files:
            path = Path(root) / name
            regular = stat.S_ISREG(path.lstat().st_mode)
            found[str(path.relative_to(folder))] = path.read_bytes() if regular else "no file"
    return found
