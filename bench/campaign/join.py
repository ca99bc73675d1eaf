"""A node's part in a campaign: report, prepare, wait for the agreed start, measure, leave the record in the folder.

Started once on every node by the centre's engine. It ends within seconds when the campaign is aborted or SIGTERM comes,
and never leaves half a record; started again, it goes on where a record is still missing.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec

from bench.campaign.clocks import CHECK_NS, Question, read_question
from bench.campaign.estimate import room_bytes
from bench.campaign.preflight import look, with_identities, with_own_key
from bench.clock import Clock, SystemClock
from bench.errors import InputError, Interrupted, OutputExistsError, PetasealError, RefusedError, explained
from bench.output import Place, Reserved, rescue, rescued, reserved, undisturbed
from bench.record import Campaign, NodeRecord, Profile, exclusive_lock
from bench.record.files import state_dir
from bench.record.folder import ClockAnswer, Folder, Roster, RosterNode, State, Status, Sums, check_belongs
from bench.record.shapes import ChosenShape, SettledShape
from bench.units import utc_ns, utc_text

if TYPE_CHECKING:
    from bench.engine.node import Event

SECOND_NS = 10**9
POLL_NS = SECOND_NS  # for shapes, T0 and the end: one look at one file
WRITE_NS = 1200 * SECOND_NS  # how long a node tries to write its record
PATIENCE_NS = 600 * SECOND_NS  # after the campaign's last possible T0
T = TypeVar("T")


class Signer(Protocol):
    """A node's key (`bench.cli.Signer`)."""

    spki_b64: str

    def seal_record(self, record: NodeRecord, samples_sha256: str) -> bytes:
        """Return the signed envelope of a record, which binds its samples."""
        ...


class Part(msgspec.Struct, frozen=True):
    """What a node takes part in."""

    folder: Folder
    roster: Roster
    node: RosterNode
    campaign: Campaign
    profile: Profile


def part_of(folder: Folder, campaign: Campaign, profile: Profile, name: str | None) -> Part:
    """Return this node's part in a campaign.

    Args:
        folder: of the campaign.
        campaign: signed, from the folder.
        profile: that it names.
        name: the engine's name of this node, or its id; None to take it from what the engine set.

    Raises:
        InputError: this node's name is not known, or the campaign does not expect it.
        RefusedError: the folder holds files of two campaigns.
    """
    roster = folder.roster()
    check_belongs(folder, roster, campaign)
    own = name or os.environ.get("PETASEAL_NODE") or os.environ.get("SLURMD_NODENAME")
    if not own:
        raise InputError(
            "node-unknown", "which node this is cannot be told", where="campaign join", fix="give it with --node"
        )
    return Part(folder, roster, roster.node_named(own), campaign, profile)


class Reporter:
    """This node's status: told whenever it changes and at each heartbeat, which also looks whether all is to end."""

    def __init__(self, part: Part, clock: Clock) -> None:
        now = utc_text(clock.utc_ns())
        self._part = part
        self._clock = clock
        self._lock = threading.Lock()
        self._status = Status(node_id=part.node.node_id, state="arrived", at=now, arrived_at=now)
        self._rates: dict[str, int] = {}
        self._told_ns = 0
        self._first_opens_ns: int | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="heartbeat", daemon=True)

    def __enter__(self) -> Reporter:
        self.set()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join(timeout=5)

    def set(self, **changes: Any) -> None:
        """Change the status and tell it at once; where the folder is away for a while, the next heartbeat tells it."""
        with self._lock:
            self._status = msgspec.structs.replace(self._status, at=utc_text(self._clock.utc_ns()), **changes)
            self._told_ns = self._clock.monotonic_ns()
            with contextlib.suppress(InputError):
                self._part.folder.write_status(self._status)

    def tell(self, event: Event) -> None:
        """Take an event of the measurement; rates travel with the next heartbeat."""
        if event.what == "start":
            self._change("measuring")
        elif event.what == "concluding":
            self._change("concluding")
        elif event.what == "failed":
            self.set(message=f"{event.device} {event.workload}: {event.text}")
        elif event.rate_mflop_s is not None and event.device is not None:
            with self._lock:
                self._rates[event.device] = event.rate_mflop_s
                self._status = msgspec.structs.replace(
                    self._status,
                    workload=event.workload,
                    phase=event.what,
                    rate_mflop_s=sum(self._rates.values()),
                )

    def start(self, first_opens_ns: int) -> None:
        """Take note of when the first window opens, UTC ns: from then on the clock is asked for no more."""
        self._first_opens_ns = first_opens_ns

    def await_question(self, before: Question | None, most_ns: int) -> None:
        """Let some time pass at most until the coordinator has asked what this node's clock says, if one is there.

        Args:
            before: what stood there before this node was prepared, which may be of a coordinator that is gone.
            most_ns: how long to wait.
        """
        if before is None:
            return
        until_ns = self._clock.monotonic_ns() + most_ns
        while self._clock.monotonic_ns() < until_ns:
            answer = self._status.clock
            if answer is not None and answer.round != before.round:
                return
            self._clock.sleep_ns(POLL_NS // 10)

    def _answer(self) -> None:
        """Answer the coordinator's question after this node's clock, each round once."""
        if self._first_opens_ns is not None and self._clock.utc_ns() >= self._first_opens_ns:
            return
        asked, before = read_question(self._part.folder), self._status.clock
        if asked is None or (asked.nodes is not None and self._status.node_id not in asked.nodes):
            return
        if before is None or before.round != asked.round:
            self.set(clock=ClockAnswer(asked.round, utc_text(self._clock.utc_ns())))

    def _change(self, state: State) -> None:
        if self._status.state != state:
            self.set(state=state)

    def _watch(self) -> None:
        """Tell of this node and its clock until it ends; end it when the campaign is aborted."""
        aborted = False
        while not self._ended.wait(POLL_NS / SECOND_NS):
            with contextlib.suppress(OSError):  # the shared folder may be away for a while
                aborted = self._part.folder.aborted()
            if aborted:
                os.kill(os.getpid(), signal.SIGTERM)
                return
            self._answer()
            if self._clock.monotonic_ns() - self._told_ns >= self._part.roster.heartbeat_ns:
                self.set()


class AgreedStart:
    """Shapes and T0 as the coordinator publishes them in the folder (`bench.engine.node.Start`)."""

    def __init__(self, part: Part, reporter: Reporter, clock: Clock) -> None:
        self._part = part
        self._reporter = reporter
        self._clock = clock
        self._looked_ns = -POLL_NS
        self._known_ns: int | None = None
        self._refused: str | None = None

    def known_ns(self) -> int | None:
        """Return T0, UTC ns, once it is published; looks at most once a second."""
        now = self._clock.monotonic_ns()
        if self._known_ns is None and now - self._looked_ns >= POLL_NS:
            self._looked_ns = now
            published = self._part.folder.started()
            self._known_ns = None if published is None else utc_ns(published.starts_at)
            self._refused = None if published is None else published.refused.get(self._part.node.node_id)
            if self._known_ns is not None:
                self._reporter.start(self._known_ns + self._part.campaign.windows[0].opens_ns)
        return self._known_ns

    def settle(self, chosen: tuple[ChosenShape, ...]) -> tuple[SettledShape, ...]:
        """Report what devices chose and wait for the shapes of the campaign; once T0 is agreed there are no others.

        Raises:
            InputError: `campaign-window-passed`.
        """
        self._reporter.set(state="prepared", chosen=chosen)

        def shapes() -> tuple[SettledShape, ...] | None:
            settled = self._part.folder.settled()
            return settled.shapes if settled is not None else () if self.known_ns() is not None else None

        return self._published(shapes)

    def wait_ns(self, devices: int) -> int:
        """Report ready and wait for T0.

        Raises:
            InputError: `campaign-window-passed`.
            RefusedError: `duplicate-device`: another node reports a device of this one; `clock-differs`.
        """
        self._reporter.set(state="ready", ready_at=utc_text(self._clock.utc_ns()), ready_devices=devices)
        return self._published(self.known_ns)

    def _published(self, look: Callable[[], T | None]) -> T:
        jitter = Random(self._part.node.node_id)  # noqa: S311 (so that thousands of nodes do not look at one moment)
        last_ns = utc_ns(self._part.campaign.starts_until) + PATIENCE_NS
        while (known := look()) is None:
            if self._clock.utc_ns() > last_ns:
                what = f"was to start until {self._part.campaign.starts_until}, and nobody started it"
                raise InputError("campaign-window-passed", what, where=self._part.campaign.campaign_id)
            self._clock.sleep_ns(int(POLL_NS * (0.5 + jitter.random())))
        if self._refused is not None:
            what, _, code = self._refused.removesuffix("]").rpartition(" [")
            fix = "petaseal campaign check names all such nodes" if code == "duplicate-device" else None
            raise RefusedError(code, what, where=self._part.node.name, fix=fix)
        return known


def join(
    part: Part,
    signer: Signer,
    sums: Callable[[NodeRecord], dict[str, Sums]],
    check_only: bool = False,
    clock: Clock | None = None,
) -> Path | None:
    """Take part in a campaign and return the record that was written; None where nothing but a check was asked for.

    Args:
        part: which campaign, and which of its nodes this is.
        signer: this node's key.
        sums: what the rules make of a record, for the status.
        check_only: look at the node, report, and measure nothing.
        clock: this machine's clocks.

    Raises:
        InputError: another process takes part for this node, or what `measure_node` raises.
        Interrupted: SIGTERM came, or the campaign was aborted.
    """
    own = place_of(part).record
    if own.exists() and not check_only:
        return own
    clock = clock or SystemClock()
    os.environ["PETASEAL_NODE"] = part.node.node_id
    with contextlib.ExitStack() as stack:
        with reporting_failure(part, clock):
            kept = stack.enter_context(only_process(part, check_only))
        stack.enter_context(ended_by_sigterm())
        reporter = stack.enter_context(Reporter(part, clock))
        try:
            return _measure(part, signer, sums, clock, reporter, kept)
        except (KeyboardInterrupt, Interrupted):
            reporter.set(state="aborted", ended_at=utc_text(clock.utc_ns()), message="ended from outside")
            raise Interrupted("the node's part was ended from outside; nothing was left half-written") from None
        except BaseException as error:
            reporter.set(state="failed", ended_at=utc_text(clock.utc_ns()), message=explained(error))
            raise


@contextlib.contextmanager
def reporting_failure(part: Part, clock: Clock | None = None) -> Iterator[None]:
    """Report what keeps this node from taking part at all; where another process takes part, that one reports."""
    try:
        yield
    except Exception as error:
        if not (isinstance(error, PetasealError) and error.code in ("node-joined-twice", "output-exists")):
            clock = clock or SystemClock()
            now = utc_text(clock.utc_ns())
            Reporter(part, clock).set(state="failed", ended_at=now, message=explained(error))
        raise


def _measure(
    part: Part,
    signer: Signer,
    sums: Callable[[NodeRecord], dict[str, Sums]],
    clock: Clock,
    reporter: Reporter,
    kept: Reserved | None,
) -> Path | None:
    from bench.devices import select_devices
    from bench.engine.node import Request, clock_of, measure_node
    from bench.environment import refuse_emulation

    unset = refuse_emulation(os.environ)
    pool = part.roster.pool_of(part.node)
    found = select_devices(pool.device)
    needed_bytes = room_bytes(part.campaign, part.profile, len(found))
    facts = look(found, pool, part.folder.root, clock_of(found), needed_bytes)
    facts = with_identities(facts, found, part.campaign.challenge)
    enrolled = next((node.keyid for node in part.campaign.nodes if node.node_id == part.node.node_id), None)
    keyid = hashlib.sha256(base64.b64decode(signer.spki_b64)).hexdigest()
    facts = with_own_key(facts, found, keyid, enrolled, state_dir())
    if kept is None:
        before = read_question(part.folder)
        reporter.set(state="prepared", facts=facts)
        reporter.await_question(before, CHECK_NS)
        reporter.set(state="checked", facts=facts, ended_at=utc_text(clock.utc_ns()))
        return None
    reporter.set(state="preparing", facts=facts)
    request = Request(
        found,
        part.profile,
        (),
        part.node.node_id,
        signer.spki_b64,
        part.campaign,
        AgreedStart(part, reporter, clock),
        unset=unset,
    )
    record, samples = measure_node(request, reporter.tell, clock)
    envelope = signer.seal_record(record, hashlib.sha256(samples).hexdigest())
    write_patiently(kept, envelope, samples, clock)
    reporter.set(
        state="done", ended_at=record.ended_at, sums=sums(record), rate_mflop_s=None, phase=None, workload=None
    )
    return kept.place.record


def write_patiently(kept: Reserved, envelope: bytes, samples: bytes, clock: Clock) -> None:
    """Write what was measured; a shared file system that is away for a while must not cost it.

    Meanwhile it is kept elsewhere: the engine may end this process at any time.

    Raises:
        InputError: `record-rescued`: it could not be written for `WRITE_NS`, the place is taken, or the node's part
            was ended; or `output-not-writable`, and no other place takes it.
    """
    deadline = clock.monotonic_ns() + WRITE_NS
    elsewhere: Path | None = None
    while True:
        with undisturbed():
            try:
                kept.write(envelope, samples)
                break
            except InputError as error:
                elsewhere = elsewhere or rescue(kept.place.name, envelope, samples)
                reported = rescued(error, elsewhere)
                if isinstance(error, OutputExistsError) or clock.monotonic_ns() > deadline:
                    raise reported from None
        try:
            clock.sleep_ns(5 * SECOND_NS)
        except (KeyboardInterrupt, Interrupted):
            raise reported from None
    if elsewhere is not None:
        shutil.rmtree(elsewhere, ignore_errors=True)


def place_of(part: Part) -> Place:
    """Return where a node's record and samples go."""
    return Place(part.folder.records(part.node.node_id), part.node.node_id)


@contextlib.contextmanager
def only_process(part: Part, check_only: bool) -> Iterator[Reserved | None]:
    """Keep a second process from taking part for the same node, and a place for its record where it measures.

    Raises:
        InputError: `node-joined-twice`, or a code of `reserved`.
    """
    name = f"petaseal-{os.getuid()}-{part.campaign.campaign_id}-{part.node.node_id}.lock"
    what = "takes part already, in another process"
    held = InputError("node-joined-twice", what, where=part.node.name, fix="wait for it, or end it")
    with exclusive_lock(Path(tempfile.gettempdir()) / name, held, transient=True):  # the folder may have no locks
        if check_only:
            yield None
        else:
            with reserved(place_of(part), held, "make room there, or let this node's user write there") as kept:
                yield kept


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """While this holds, SIGTERM ends the measurement as Ctrl-C does: workers are killed, the status says so."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
