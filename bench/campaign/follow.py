"""A campaign as it is seen from another window: by its folder, and by the engine where its jobs still wait."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from bench.campaign.abort import launcher_user
from bench.campaign.board import CampaignProgress, Overview, overview
from bench.campaign.launch.gangs import ENGINE_NS
from bench.campaign.launch.plan import LaunchPlan, gangs
from bench.campaign.launch.queue import is_waiting, waiting_line
from bench.campaign.opening import NO_ENGINE, OpenCampaign
from bench.campaign.show import Live
from bench.clock import Clock, SystemClock
from bench.errors import PetasealError
from bench.language import text_in
from bench.launchers import load_launcher
from bench.record.folder import Folder, survey
from bench.record.status import Launched, Status


def ending(folder: Folder, launched: Launched | None) -> str | None:
    """Return how a campaign ended, a clause; None where its folder shows no end."""
    if folder.aborted():
        return text_in("en", "ending", "aborted")
    if launched is not None and launched.ended_at is not None and launched.refused is None:  # else it may yet begin
        return text_in("en", "ending", "launch-ended", at=launched.ended_at)
    return None


class Queue:
    """Asks the engine from another window whether a campaign's jobs wait; what it does not answer is said so.

    Args:
        opened: the campaign.
        clock: this machine's clocks.
    """

    def __init__(self, opened: OpenCampaign, clock: Clock) -> None:
        self._opened = opened
        self._clock = clock
        self._asked_ns: int | None = None
        self._lines: tuple[str, ...] = ()

    def lines(self, launched: Launched | None, known: Collection[str]) -> tuple[str, ...]:
        """Return a line for each gang that waits; the engine is asked now and then, for pools that report nothing.

        Args:
            launched: what the launch left in the folder.
            known: nodes that have reported.
        """
        now = self._clock.monotonic_ns()
        if self._asked_ns is None or now - self._asked_ns >= ENGINE_NS:
            self._asked_ns = now
            self._lines = self._ask(launched, known)
        return self._lines

    def _ask(self, launched: Launched | None, known: Collection[str]) -> tuple[str, ...]:
        opened, folder = self._opened, self._opened.folder
        engine = launched.engine if launched is not None else opened.roster.engine
        if engine in (None, NO_ENGINE) or not folder.lock_file.exists():  # nobody has launched or checked it
            return ()
        plan = LaunchPlan(engine, (), launched.options if launched is not None else (), check_only=launched is None)
        heard = {node.pool for node in opened.roster.nodes if node.node_id in known}
        user, lines = launcher_user(folder), []
        try:
            launcher = load_launcher(engine)
            for gang in gangs(opened, plan):
                state = launcher.state(gang._replace(user=user)) if gang.pool not in heard else None
                if is_waiting(state):
                    lines.append(waiting_line(gang.pool, state, engine, self._clock.utc_ns()))
        except PetasealError as error:
            return (f"{engine} could not be asked whether jobs wait: {error.what}",)
        return tuple(lines)


def follow(opened: OpenCampaign, watch: bool) -> Overview:
    """Return a campaign at this moment; with `watch`, show it until it is over."""
    clock = SystemClock()
    known: dict[str, Status] = {}
    ids = frozenset(node.node_id for node in opened.roster.nodes)
    queue = Queue(opened, clock)
    with Live(not watch) as live:
        while True:
            survey(opened.folder, known, ids)
            launched = opened.folder.launched()
            lost = launched.lost if launched else ()
            started = opened.folder.started()
            settled = opened.folder.settled()
            ended = ending(opened.folder, launched)
            is_waited_for = started is None and not ended and (launched is None or launched.ended_at is None)
            waiting = queue.lines(launched, known) if is_waited_for else ()
            now_ns = clock.utc_ns()
            progress = CampaignProgress(known, started, lost, settled, waiting, ended)
            view = overview(opened.roster, opened.campaign, progress, now_ns)
            if launched is not None and launched.refused and started is None and not ended:
                phase = f"did not start: {launched.refused}"
                view = msgspec.structs.replace(view, phase=phase, unready=launched.unready)
            is_left = ended or (launched is not None and launched.ended_at is not None)
            if not watch or is_left or (view.is_over and started is not None):
                return view
            live.show(view)
            clock.sleep_ns(2 * 10**9)
