"""What is said of gangs that wait and of nodes that report nothing: pure lines, and logs with the time passed in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.campaign.launch.queue import ENDED_NS, LINE_NS, NO_LOG_NS, Unheard, waiting_line, waiting_lines
from bench.launchers.base import Gang, GangState, LogEnd
from bench.units import utc_ns

AT = "2026-03-01T08:00:00.000000Z"
GANG = Gang("petaseal-c1-ai", "ai", ("n1", "n2"), ("petaseal",), Path("/shared/logs"), 60)


class Logs:
    """An engine that shows the ends of logs."""

    def __init__(self, **ends: LogEnd) -> None:
        self.ends = ends

    def log_ends(self, gang: Gang, state: GangState, nodes: Sequence[str]) -> dict[str, LogEnd]:
        return {node: end for node, end in self.ends.items() if node in nodes}

    def launch_words(self, gang: Gang) -> str | None:
        return "srun: error: n1: task 0: Exited with exit code 2"


@pytest.mark.parametrize(
    ("state", "line"),
    [
        (
            GangState("queued", "12", "pending: Resources", since=AT, means="nodes are in use"),
            "pool ai: job 12 waits in the queue of slurm since 2026-03-01T08:00:00Z (61 min):"
            " nodes are in use (pending: Resources)",
        ),
        (
            GangState("queued", "12", "pending: Priority", expected_at="2026-03-01T10:00:00.000000Z"),
            "pool ai: job 12 waits in the queue of slurm: pending: Priority;"
            " slurm expects it to start at 2026-03-01T10:00:00Z",
        ),
        (
            GangState("queued", "12", "pending: JobHeldUser", means="its own user holds it", advice="release it"),
            "pool ai: job 12 waits in the queue of slurm: its own user holds it (pending: JobHeldUser);"
            " it will never start as it is: release it",
        ),
        (GangState("queued"), "pool ai: its gang waits in the queue of slurm"),
    ],
)
def test_a_gang_that_waits(state: GangState, line: str) -> None:
    assert waiting_line("ai", state, "slurm", utc_ns("2026-03-01T09:01:02.000000Z")) == line


def test_only_what_the_engine_itself_calls_queued_waits() -> None:
    for state in (GangState("queued"), GangState("running", "12"), GangState("ended", "12"), GangState("absent")):
        assert waiting_lines([GANG], {GANG.name: state}, "slurm", utc_ns(AT)) == ()
    assert waiting_lines([GANG], {}, "slurm", utc_ns(AT)) == ()
    (line,) = waiting_lines([GANG], {GANG.name: GangState("queued", "12")}, "slurm", utc_ns(AT))
    assert "job 12" in line


@pytest.mark.parametrize(
    ("end", "patience_ns", "why"),
    [
        (LogEnd("execve: No such file", True), ENDED_NS, "reported nothing; the last line of its log: execve: No such"),
        (LogEnd("Traceback", False), LINE_NS, "reported nothing; the last line of its log: Traceback"),
        (LogEnd("", True), ENDED_NS, "reported nothing, and its log is empty"),
        (LogEnd(None, True), ENDED_NS, "left no log in /shared/logs: it does not see that folder, or did not start"),
        (LogEnd(None, False), NO_LOG_NS, "the last line of the launch's log: srun: error: n1: task 0: Exited"),
    ],
)
def test_a_silent_node_is_judged_by_its_log_in_time(end: LogEnd, patience_ns: int, why: str) -> None:
    unheard, running = Unheard(Logs(n1=end)), GangState("running", "12")
    assert unheard.find(GANG, running, ["n1", "n2"], 0) == {}
    assert unheard.find(GANG, running, ["n1", "n2"], patience_ns) == {}
    found = unheard.find(GANG, running, ["n1", "n2"], patience_ns + 1)
    assert found.keys() == {"n1"}
    assert why in found["n1"]
    assert unheard.find(GANG, running, ["n2"], patience_ns + 2) == {}
    unheard.forget(["n1"])
    assert unheard.find(GANG, running, ["n1"], patience_ns + 3) == {}


def test_a_node_that_works_or_whose_engine_shows_no_logs_is_never_judged_by_them() -> None:
    for unheard in (Unheard(Logs(n1=LogEnd("", False))), Unheard(object()), Unheard(None)):
        for now_ns in (0, 10**15):
            assert unheard.find(GANG, GangState("running", "12"), ["n1"], now_ns) == {}
    assert Unheard(object()).ended(GANG, GangState("ended", "12", "completed")) == "completed"


def test_where_all_nodes_report_no_log_is_looked_for() -> None:
    class Unasked(Logs):
        def log_ends(self, gang: Gang, state: GangState, nodes: Sequence[str]) -> dict[str, LogEnd]:
            raise AssertionError("the logs of thousands of nodes were listed")

    assert Unheard(Unasked()).find(GANG, GangState("running", "12"), [], 0) == {}
    assert Unheard(Unasked()).reasons(GANG, GangState("running", "12"), []) == {}


def test_a_gang_that_ended_is_said_with_its_last_line() -> None:
    unheard = Unheard(Logs(n2=LogEnd("no such file", True)))
    text = "completed; the last line of its log: no such file"
    assert unheard.ended(GANG, GangState("ended", "12", "completed")) == text
    text = "completed; the last line of its log: srun: error: n1: task 0: Exited with exit code 2"
    assert Unheard(Logs()).ended(GANG, GangState("ended", "12", "completed")) == text
