"""Children of the test's own process, for what only several processes show: races, deaths, inherited files."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable


class Child:
    """A forked process that does one thing; it says one word when it has come so far, and may wait for a word."""

    def __init__(self, work: Callable[[Child], object]) -> None:
        self._said, said = os.pipe()
        heard, self._tell = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(said)
            os.close(heard)
            return
        os.close(self._said)  # so that whoever waits for a dead one reads an end
        os.close(self._tell)
        self._said, self._tell = heard, said
        status = 1
        try:
            status = int(bool(work(self)))
        except BaseException:
            traceback.print_exc()
        os._exit(status)

    def say(self, word: str = "here") -> None:
        """Tell the other side."""
        os.write(self._tell, f"{word}\n".encode())

    def hear(self) -> str:
        """Wait for the other side; an empty text means that it has ended."""
        text = b""
        while not text.endswith(b"\n") and (one := os.read(self._said, 1)):
            text += one
        return text.decode().strip()

    def kill(self) -> None:
        """End it as the kernel does where memory is short."""
        os.kill(self.pid, signal.SIGKILL)

    def status(self) -> int:
        """Wait for its end."""
        _, status = os.waitpid(self.pid, 0)
        os.close(self._said)
        os.close(self._tell)
        return os.waitstatus_to_exitcode(status)
