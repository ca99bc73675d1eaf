"""A registry's server that dies, again and again: each life is a real process, ended by a real SIGKILL.

A process that has imported everything forks a life, which opens the registry and serves it as ``petaseal registry
serve`` does. It dies from outside, at a time, or kills itself just before or after a step that an accident could fall
between: a file renamed or flushed to the disk, a line of SQL, a transaction committed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType
from typing import Any

STEPS = {"replace": 4, "fsync": 8, "commit": 10, "sql": 110}  # and about how many of each there are in two ingests


class Death:
    """Kills this process at the n-th step of a kind, before or after it is done."""

    def __init__(self, kind: str, number: int, after: bool) -> None:
        self.kind, self.left, self.after = kind, number, after

    def met(self, kind: str) -> bool:
        """Count a step; tell whether it is the last one of this life."""
        if kind != self.kind:
            return False
        self.left -= 1
        return self.left == 0

    def around(self, kind: str, call: Any) -> Any:
        """Return a function that does the same and may be the last that is done."""

        def step(*arguments: Any, **named: Any) -> Any:
            last = self.met(kind)
            if last and not self.after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*arguments, **named)
            if last:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return step

    def lie_in_wait(self, store: Any) -> None:
        """Begin to count; what happened until the service was up is not counted."""
        os.replace = self.around("replace", os.replace)
        os.fsync = self.around("fsync", os.fsync)
        dialect = store.engine.dialect
        dialect.do_commit = self.around("commit", dialect.do_commit)
        dialect.do_execute = self.around("sql", dialect.do_execute)
        dialect.do_executemany = self.around("sql", dialect.do_executemany)


def main() -> None:
    """Fork a life for each line of stdin: the registry's folder, and how it dies where it does that itself."""
    import uvicorn  # noqa: F401 - so that no life spends its time on imports

    from certify.registry.intake import ingest  # noqa: F401 - likewise
    from certify.registry.service import app, serve  # noqa: F401 - likewise

    for line in sys.stdin:
        root, death = json.loads(line)
        pid = os.fork()
        if pid == 0:
            try:
                _live(Path(root), death)
            except BaseException:
                traceback.print_exc()
            os._exit(1)
        _, status = os.waitpid(pid, 0)
        print("ended", os.waitstatus_to_exitcode(status), flush=True)


def _live(root: Path, death: Any) -> None:
    from certify.registry.base import registry as service
    from certify.registry.base import verifying
    from certify.registry.service import serve
    from certify.registry.state import cache

    registry = service.open_registry(root)
    # The process that verifies is forked as well, while there is one thread: to start it afresh takes a second.
    vars(verifying)["get_context"] = lambda method: get_context("fork")
    registry.verifier._started().submit(os.getpid).result()
    cache.current_snapshot(
        registry.store, registry.now, registry.settings
    )  # `serve` does it: not all lives should end there
    if death is not None:
        Death(*death).lie_in_wait(registry.store)
    print(os.getpid(), flush=True)
    serve.run(registry, port=0)


NOWHERE = "http://127.0.0.1:9"  # nothing listens there


class Lives:
    """The process that forks lives, of which one runs at a time."""

    def __init__(self, root: Path, log: Path) -> None:
        self._root = root
        self.log = log
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-c", "from tests.certify.registry.lives import main; main()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )

    def __enter__(self) -> Lives:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        assert self._process.stdout is not None
        self._process.stdout.close()

    @contextlib.contextmanager
    def life(self, death: tuple[str, int, bool] | None = None) -> Iterator[tuple[int, str]]:
        """Yield a life's process id and URL; it is killed at the end if it is not dead before.

        One that dies while it starts is reached at no URL.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([str(self._root), death]) + "\n")
        self._process.stdin.flush()
        pid, line = self._line(), self._line()
        stillborn = line.split() == ["ended", str(-signal.SIGKILL)]
        assert stillborn or " at http" in line, (line, self.log.read_text()[-2000:])
        if stillborn:
            yield int(pid), NOWHERE
            return
        try:
            yield int(pid), line.split()[-1]
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
            ended = self._line()
            assert ended.split() == ["ended", str(-signal.SIGKILL)], (ended, self.log.read_text()[-2000:])

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line not in ("", "ended 1\n"), self.log.read_text()[-2000:]
        return line
