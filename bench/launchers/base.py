"""What a launcher must offer: the centre's own engine, which places, starts and ends; petaseal does not.

Nothing in here knows a campaign, a record or a device. Nothing is kept in memory between two calls: whoever started a
gang may be killed, and finds it again by the gang's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from bench.record.roster import EngineNode

Phase = Literal["absent", "queued", "running", "ended"]


class Gang(NamedTuple):
    """All nodes of one pool, which start together."""

    name: str  # name of the job, unique for the campaign and the pool: by it a killed launcher finds its job again
    pool: str
    nodes: tuple[str, ...]  # the engine's names
    command: tuple[str, ...]  # what every node runs; absolute paths
    log_dir: Path
    time_limit_s: int
    partition: str | None = None
    gres: str | None = None  # for each node, such as "gpu:8"
    reservation: str | None = None
    # Further options for the engine, as the user gave them (account, quality of service, ...)
    options: tuple[str, ...] = ()
    user: int | None = None  # number of the user whose job is asked for or ended; None: of whoever asks
    # Whether the campaign names each node's own key, so that it must outlive what the engine starts there
    node_keys: bool = False


class GangState(NamedTuple):
    """The state of a gang, as the engine reports it."""

    phase: Phase  # "absent": the engine knows no such job (any more)
    job_id: str | None = None
    reason: str | None = None  # why it waits, or how it ended, in the engine's words
    lost: tuple[str, ...] = ()  # nodes of a running gang that the engine itself has given up
    since: str | None = None  # since when it waits or runs, UTC; None where the engine does not say
    means: str | None = None  # what the reason means, in plain words
    advice: str | None = None  # what to do, where it will never start as it is
    expected_at: str | None = None  # when the engine expects it to start, UTC


class LogEnd(NamedTuple):
    """The end of what a node's task printed."""

    line: str | None  # the last line, "" where it printed nothing, None where there is no log
    is_over: bool  # whether the engine knows that the task has ended


class Speaks(Protocol):
    """A launcher that can show what its tasks have printed (a `Launcher` may lack it)."""

    def log_ends(self, gang: Gang, state: GangState, nodes: Sequence[str]) -> dict[str, LogEnd]:
        """Return the end of the newest log of some nodes; of one whose task surely works there may be none."""

    def launch_words(self, gang: Gang) -> str | None:
        """Return the last line that the launch itself printed, None where there is none."""


class Launcher(Protocol):
    """A centre's engine. Every method may raise `InputError`.

    The code "engine-unreachable" says that the engine did not answer, which says nothing of the gang: ask again.
    One that is not to be asked for gangs as often as the coordinator would says so by an attribute `asks_every_ns`.
    """

    def discover(self, partitions: Sequence[str]) -> list[EngineNode]:
        """Return every node of some partitions (all, if none is given), each once."""

    def submit(self, gang: Gang) -> None:
        """Hand a gang over to the engine, where it waits for its nodes and survives the death of the caller.

        Returns as soon as the engine knows the gang. What could never start is refused before.
        """

    def state(self, gang: Gang) -> GangState:
        """Return how far a gang is; it is found by its name."""

    def retry(self, gang: Gang, nodes: Sequence[str]) -> None:
        """Run the command once more on some nodes inside the running gang, and return at once."""

    def cancel(self, gang: Gang) -> None:
        """End all of a gang's load within seconds; nothing happens where there is none."""

    def describe(self, gang: Gang) -> list[str]:
        """Return the exact command lines or manifests that `submit` would use; asks the engine nothing."""
