"""The nodes' clocks against the coordinator's, through the folder that they share (R10).

The coordinator asks in ``clock.json``, nodes answer in their status with the time by their own clock. An honest node
answers after it was asked and before its answer is seen. How late it reads the question is the folder's to say, so that
of several rounds one that fits is enough; a clock that is seconds off fits in none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import msgspec

from bench.clock import Clock
from bench.errors import InputError
from bench.node_clock import node_clock
from bench.record import Campaign, NodeClock, digest, encode, read_bytes, replacing, write_atomic
from bench.record.closing import Closing, Exchange, bound_ns, closing_of
from bench.record.folder import CLOCK_BYTES, UNREADABLE, Folder, read_question
from bench.record.status import Published, Question, State, Status
from bench.units import SECOND_NS, shortened_list, utc_ns, utc_text

ROUNDS = 5  # that a node answers before its clock is taken to differ
ROUND_NS = 2 * SECOND_NS  # from one round to the next, while answers are missing
SILENT_NS = 10 * SECOND_NS  # T0 waits no longer for a node that does not answer
MOST_ROUNDS = 10**9  # what is beyond was written by somebody else: nodes would read no question after the last number
MOST_NAMED = 1000  # nodes in one question: above, all answer
MOST_SAID = 10  # nodes that are named one by one
LONG_NS = 2**62  # longer than any trip through a folder
WAITING: frozenset[State] = frozenset({"prepared", "ready"})
STARTED: frozenset[State] = WAITING | {"measuring"}  # that came after T0
FIX = "see what steers it with chronyc tracking, there and where the campaign is launched"


def difference(off_ns: int) -> str:
    """Return in words by how much a clock differs at least (`Exchange.off_ns`)."""
    way = "ahead of" if off_ns > 0 else "behind"
    return f"its clock is at least {abs(off_ns) // 1000 / 1e6:.6f} s {way} the coordinator's"


def sentences(differing: Mapping[str, str], names: Mapping[str, str]) -> list[str]:
    """Return what is wrong with nodes' clocks, a sentence for each node, or one where many differ.

    Args:
        differing: node -> what is wrong with its clock.
        names: node -> its name.
    """
    if len(differing) > MOST_SAID:
        named = shortened_list(names[node] for node in sorted(differing))
        return [f"the clocks of {named} differ from the coordinator's (clock-differs): {FIX}"]
    return [f"{names[node]}: {why}: {FIX}" for node, why in sorted(differing.items())]


@dataclass
class _ComparedNode:
    """What is known of one node's clock."""

    best: Exchange | None = None
    answers: int = 0
    round: int = 0  # that was answered last
    unanswered_ns: int | None = None  # when it was first asked what it has not answered; monotonic

    @property
    def is_open(self) -> bool:
        """Whether another round may still show that its clock is right, whatever the bounds."""
        return self.best is None or (self.best.off_ns(0) != 0 and self.answers < ROUNDS)


class Clocks:
    """The comparison of all nodes' clocks with this machine's, in one launch.

    Args:
        folder: of the campaign.
        campaign: signed.
        clock: this machine's clocks.
        remark: called with what happened, a sentence each.
    """

    def __init__(self, folder: Folder, campaign: Campaign, clock: Clock, remark: Callable[[str], None]) -> None:
        self._folder, self._campaign, self._clock, self._remark = folder, campaign, clock, remark
        self._campaign_sha256 = digest(campaign)
        self._nodes: dict[str, _ComparedNode] = {}
        self._questions: dict[int, tuple[int, frozenset[str]]] = {}  # round -> when it was asked, UTC ns, and whom
        self._round: int | None = None
        self._asked_ns = 0  # monotonic
        self._written: Closing | None = None

    @cached_property
    def clock_error(self) -> NodeClock:
        """How well this machine's clock is known."""
        return node_clock()

    def compare(self, known: Mapping[str, Status], lost: set[str], published: Published | None) -> None:
        """Take what nodes have answered, ask those whose clock is not known to be right, and write what closes.

        Args:
            known: node -> its latest status.
            lost: nodes that give no sign of life.
            published: T0, once it is agreed: nodes that come later are asked until the first window opens.
        """
        self._take(known)
        if published is not None:
            late = self._clock.utc_ns() >= utc_ns(published.starts_at) + self._campaign.windows[0].opens_ns
            if not late or self._written is None:
                self._close(published)
            if late:
                return
        states = WAITING if published is None else STARTED
        there = {node for node, status in known.items() if status.state in states} - lost
        self._ask({node for node in there if self._of(node).is_open})

    def awaited(self, nodes: set[str]) -> set[str]:
        """Return those of some nodes whose answer T0 still waits for."""
        now = self._clock.monotonic_ns()
        asked = {node: self._of(node) for node in nodes}
        return {
            node
            for node, one in asked.items()
            if one.is_open and (one.unanswered_ns is None or now - one.unanswered_ns < SILENT_NS)
        }

    def refused(self, known: Mapping[str, Status]) -> dict[str, str]:
        """Return the nodes whose clock differs from this one's in every round, each with by how much at least."""
        refused = {}
        for node, one in self._nodes.items():
            if one.answers >= ROUNDS and one.best is not None and (off := one.best.off_ns(self._bound_ns(known, node))):
                refused[node] = f"{difference(off)}: {FIX} [clock-differs]"
        return refused

    def problems(self, known: Mapping[str, Status]) -> dict[str, str]:
        """Return the nodes whose clock certainly differs, however slow the folder is, each with what is wrong."""
        problems = {}
        for node, one in self._nodes.items():
            if one.best is not None and (off := one.best.off_ns(self._bound_ns(known, node), LONG_NS)):
                problems[node] = f"{difference(off)}, and it would be refused (clock-differs)"
        return problems

    def _of(self, node: str) -> _ComparedNode:
        return self._nodes.setdefault(node, _ComparedNode())

    def _bound_ns(self, known: Mapping[str, Status], node: str) -> int:
        """Return what a node's clock and this one may be off by together, as far as both tell it, ns."""
        facts = known[node].facts if node in known else None
        return bound_ns(self.clock_error) + ((facts.clock_uncertainty_ns or 0) if facts is not None else 0)

    def _take(self, known: Mapping[str, Status]) -> None:
        seen_ns = self._clock.utc_ns()
        for node, status in known.items():
            one, answer = self._of(node), status.clock
            if answer is None or answer.round == one.round:
                continue
            one.round = answer.round
            asked_ns, nodes = self._questions.get(answer.round, (0, frozenset[str]()))
            if node not in nodes:
                continue  # it was asked by a coordinator before this one, or could not answer at once
            one.answers += 1
            one.unanswered_ns = None
            exchange = Exchange(asked_ns, utc_ns(answer.answered_at), seen_ns)
            if one.best is None or abs(exchange.off_ns(0)) < abs(one.best.off_ns(0)):
                one.best = exchange

    def _ask(self, nodes: set[str]) -> None:
        now = self._clock.monotonic_ns()
        if self._round is None:  # the file is there before the nodes look: what is not there, some clients remember
            before = read_question(self._folder)
            self._round = 0 if before is None or before.round > MOST_ROUNDS else before.round
            if before is None:
                self._write(Question(0, utc_text(self._clock.utc_ns()), ()))
        missing = {node for node in nodes if self._of(node).unanswered_ns is not None}
        if not nodes or (missing and now - self._asked_ns < ROUND_NS):
            return
        self._round += 1
        self._asked_ns = now
        asked_at = utc_text(self._clock.utc_ns())
        self._questions[self._round] = utc_ns(asked_at), frozenset(nodes)
        named = tuple(sorted(nodes)) if len(nodes) <= MOST_NAMED else None
        for node in nodes - missing:
            self._of(node).unanswered_ns = now
        self._write(Question(self._round, asked_at, named))

    def _write(self, question: Question) -> None:
        target = replacing(self._folder.clock_file, mode=None, flush="nothing")
        with contextlib.suppress(InputError), target as file:  # the shared folder may be away for a while
            file.write(encode(question))

    def _close(self, published: Published) -> None:
        """Write the campaign's closing document, again whenever more is known."""
        if self._written is None:
            self._take_over(published)
            if self.clock_error.uncertainty_ns is None:
                self._remark(
                    "the error of the coordinator's own clock is not known: nodes are compared as if it were 0"
                )
        settled = self._folder.settled()
        closing = closing_of(
            self._campaign_sha256,
            published.starts_at,
            published.published_at,
            self.clock_error,
            {node: one.best for node, one in self._nodes.items() if one.best is not None},
            () if settled is None else settled.shapes,
        )
        if closing != self._written:
            with contextlib.suppress(InputError):  # the shared folder may be away for a while
                write_atomic(self._folder.closing_file, encode(closing) + b"\n")
                self._written = closing

    def _take_over(self, published: Published) -> None:
        """Take what a coordinator before this one knew: the nodes may not answer again."""
        path, before = self._folder.closing_file, None
        with contextlib.suppress(OSError, InputError, *UNREADABLE):
            before = msgspec.json.decode(read_bytes(path, CLOCK_BYTES), type=Closing)
        if before is None or before.problem(self._campaign, self._campaign_sha256, published.starts_at) is not None:
            return  # others may write there too
        t0_ns = utc_ns(before.starts_at)
        for node, exchange in before.exchanges.items():
            if self._of(node).best is None:
                self._of(node).best = Exchange(*(t0_ns + ns for ns in exchange))
