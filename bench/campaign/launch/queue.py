"""What is said of a gang that waits in the engine's queue, and of nodes of a running gang that report nothing.

The engine's words are repeated beside their plain meaning; of a silent node the last line of its log is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from bench.errors import one_line
from bench.launchers.base import Gang, GangState, LogEnd, Speaks
from bench.units import SECOND_NS, utc_ns

ENDED_NS = 5 * SECOND_NS  # from the end of a node's task to taking it as failed: a status may be on its way
LINE_NS = 15 * SECOND_NS  # from the last line of a log to taking it as what ended the node's part
NO_LOG_NS = 60 * SECOND_NS  # until a log must be seen: a network file system may show new files as late as this
NEVER_NS = 2**63
MOST_LOGS = 200  # read for one look


def waiting_line(pool: str, state: GangState, engine: str, now_ns: int | None = None) -> str:
    """Return that the gang of a pool waits, since when, why, and until when.

    Args:
        pool: whose gang it is.
        state: of the gang, which is queued.
        engine: its name.
        now_ns: UTC, ns, to say how long it has waited.
    """
    job = "its gang" if state.job_id is None else f"job {state.job_id}"
    text = f"pool {pool}: {job} waits in the queue of {engine}"
    if state.since is not None:
        text += f" since {short(state.since)}"
        if now_ns is not None:
            text += f" ({max(0, now_ns - utc_ns(state.since)) // (60 * SECOND_NS)} min)"
    if state.reason is not None:
        text += f": {state.means} ({state.reason})" if state.means else f": {state.reason}"
    if state.advice is not None:
        text += f"; it will never start as it is: {state.advice}"
    elif state.expected_at is not None:
        text += f"; {engine} expects it to start at {short(state.expected_at)}"
    return one_line(text)


def waiting_lines(gangs: Sequence[Gang], states: Mapping[str, GangState], engine: str, now_ns: int) -> tuple[str, ...]:
    """Return a line for each gang that waits in the engine's queue."""
    known = [(gang.pool, states.get(gang.name)) for gang in gangs]
    return tuple(waiting_line(pool, state, engine, now_ns) for pool, state in known if is_waiting(state))


def is_waiting(state: GangState | None) -> TypeGuard[GangState]:
    """Return whether the engine itself has said that a gang waits; one that was just handed over may run at once."""
    return state is not None and state.phase == "queued" and state.job_id is not None


def short(utc: str) -> str:
    """Return a UTC time without its fraction of a second."""
    return f"{utc[:19]}Z"


class Unheard:
    """Says why nodes report nothing: by their logs, as far as the launcher can show them.

    Args:
        launcher: the engine; of one that is no `bench.launchers.base.Speaks` nothing is known.
    """

    def __init__(self, launcher: Any) -> None:
        self._launcher: Speaks | None = launcher if hasattr(launcher, "log_ends") else None
        self._seen: dict[str, tuple[LogEnd, int]] = {}  # node's name -> the end of its log, and when it was first seen

    def find(self, gang: Gang, state: GangState, silent: Sequence[str], now_ns: int) -> dict[str, str]:
        """Return the silent nodes of a running gang whose log has long been the same, each with why it is silent.

        Args:
            gang: whose nodes they are.
            state: of the gang.
            silent: nodes that have reported nothing.
            now_ns: monotonic time, ns.
        """
        if self._launcher is None or state.phase != "running" or not silent:  # thousands of logs are not listed in vain
            return {}
        due = {}
        for name, end in self._launcher.log_ends(gang, state, silent[:MOST_LOGS]).items():
            if name not in self._seen or self._seen[name][0] != end:
                self._seen[name] = end, now_ns
            elif now_ns - self._seen[name][1] > _patience_ns(end):
                due[name] = end
        return {name: self._why(gang, end) for name, end in due.items()}

    def reasons(self, gang: Gang, state: GangState, silent: Sequence[str]) -> dict[str, str]:
        """Return why some nodes are silent, whose gang is over or has had its time."""
        if self._launcher is None or not silent:
            return {}
        return {name: self._why(gang, end) for name, end in self._launcher.log_ends(gang, state, silent).items()}

    def forget(self, names: Sequence[str]) -> None:
        """Begin anew with some nodes, which are started again."""
        for name in names:
            self._seen.pop(name, None)

    def ended(self, gang: Gang, state: GangState) -> str:
        """Return how a gang ended, in the engine's words, with the last line of a log."""
        reason = state.reason or "the engine gives no reason"
        if self._launcher is None:
            return reason
        ends = self._launcher.log_ends(gang, state, gang.nodes[:MOST_LOGS])
        line = next((end.line for end in ends.values() if end.line), None) or self._launcher.launch_words(gang)
        return f"{reason}; the last line of its log: {line}" if line else reason

    def _why(self, gang: Gang, end: LogEnd) -> str:
        if end.line:
            return f"reported nothing; the last line of its log: {end.line}"
        if end.line is not None:
            return "reported nothing, and its log is empty"
        what = f"reported nothing and left no log in {gang.log_dir}: it does not see that folder, or did not start"
        launch = self._launcher.launch_words(gang) if self._launcher is not None else None
        return f"{what}; the last line of the launch's log: {launch}" if launch else what


def _patience_ns(end: LogEnd) -> int:
    """Return how long a silent node's log must have had an end until the node is taken as failed, ns."""
    if end.is_over:
        return ENDED_NS
    return NO_LOG_NS if end.line is None else LINE_NS if end.line else NEVER_NS
