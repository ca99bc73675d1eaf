"""A node's part in a campaign: report, prepare, wait for the agreed start, measure, leave the record in the folder.

Started once on every node by the centre's engine. It ends within seconds when the campaign is aborted or SIGTERM comes,
and never leaves half a record; started again, it goes on where a record is still missing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from random import Random
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from bench.campaign.preflight import look
from bench.clock import Clock, SystemClock
from bench.errors import InputError, Interrupted, PetasealError
from bench.record import Campaign, NodeRecord, Profile, exclusive_lock
from bench.record.folder import Folder, Roster, RosterNode, State, Status, Sums, check_belongs
from bench.units import utc_ns, utc_text

if TYPE_CHECKING:
    from bench.engine.node import Event

SECOND_NS = 10**9
POLL_NS = SECOND_NS  # for T0 and for the end: one look at one file
WRITE_NS = 1200 * SECOND_NS  # how long a node tries to write its record
PATIENCE_NS = 600 * SECOND_NS  # after the campaign's last possible T0


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
        elif event.rate_mflop_s is not None and event.device is not None:
            with self._lock:
                self._rates[event.device] = event.rate_mflop_s
                self._status = msgspec.structs.replace(
                    self._status,
                    workload=event.workload,
                    phase=event.what,
                    rate_mflop_s=sum(self._rates.values()),
                )

    def _change(self, state: State) -> None:
        if self._status.state != state:
            self.set(state=state)

    def _watch(self) -> None:
        """Tell of this node until it ends; end it when the campaign is aborted."""
        aborted = False
        while not self._ended.wait(POLL_NS / SECOND_NS):
            with contextlib.suppress(OSError):  # the shared folder may be away for a while
                aborted = self._part.folder.aborted()
            if aborted:
                os.kill(os.getpid(), signal.SIGTERM)
                return
            if self._clock.monotonic_ns() - self._told_ns >= self._part.roster.heartbeat_ns:
                self.set()


class AgreedStart:
    """T0 as the coordinator publishes it in the folder (`bench.engine.node.Start`)."""

    def __init__(self, part: Part, reporter: Reporter, clock: Clock) -> None:
        self._part = part
        self._reporter = reporter
        self._clock = clock
        self._looked_ns = -POLL_NS
        self._known_ns: int | None = None

    def known_ns(self) -> int | None:
        """Return T0, UTC ns, once it is published; looks at most once a second."""
        now = self._clock.monotonic_ns()
        if self._known_ns is None and now - self._looked_ns >= POLL_NS:
            self._looked_ns = now
            published = self._part.folder.started()
            self._known_ns = None if published is None else utc_ns(published.starts_at)
        return self._known_ns

    def wait_ns(self, devices: int) -> int:
        """Report ready and wait for T0.

        Raises:
            InputError: `campaign-window-passed`.
        """
        self._reporter.set(state="ready", ready_at=utc_text(self._clock.utc_ns()), ready_devices=devices)
        jitter = Random(self._part.node.node_id)  # noqa: S311 (so that thousands of nodes do not look at one moment)
        last_ns = utc_ns(self._part.campaign.starts_until) + PATIENCE_NS
        while (known := self.known_ns()) is None:
            if self._clock.utc_ns() > last_ns:
                what = f"was to start until {self._part.campaign.starts_until}, and nobody started it"
                raise InputError("campaign-window-passed", what, where=self._part.campaign.campaign_id)
            self._clock.sleep_ns(int(POLL_NS * (0.5 + jitter.random())))
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
    own = part.folder.records(part.node.node_id) / f"{part.node.node_id}.record.dsse.json"
    if own.exists() and not check_only:
        return own
    clock = clock or SystemClock()
    os.environ["PETASEAL_NODE"] = part.node.node_id
    with only_process(part), ended_by_sigterm(), Reporter(part, clock) as reporter:
        try:
            return _measure(part, signer, sums, check_only, clock, reporter, own)
        except (KeyboardInterrupt, Interrupted):
            reporter.set(state="aborted", ended_at=utc_text(clock.utc_ns()), message="ended from outside")
            raise Interrupted("the node's part was ended from outside; nothing was left half-written") from None
        except PetasealError as error:
            reporter.set(state="failed", ended_at=utc_text(clock.utc_ns()), message=str(error))
            raise
        except BaseException as error:
            reporter.set(state="failed", ended_at=utc_text(clock.utc_ns()), message=type(error).__name__)
            raise


def _measure(
    part: Part,
    signer: Signer,
    sums: Callable[[NodeRecord], dict[str, Sums]],
    check_only: bool,
    clock: Clock,
    reporter: Reporter,
    own: Path,
) -> Path | None:
    from bench.devices import select_devices
    from bench.engine.node import Request, clock_of, measure_node
    from bench.environment import refuse_emulation
    from bench.output import write_record

    refuse_emulation(os.environ)
    (pool,) = (pool for pool in part.roster.pools if pool.pool == part.node.pool)
    wanted = pool.device if part.node.also is None else f"{pool.device},{part.node.also}"
    found = select_devices(wanted)
    if part.node.also is not None:  # how many these are, the pool does not say
        pool = msgspec.structs.replace(pool, devices_per_node=None)
    facts = look(found, pool, part.folder.root, clock_of(found))
    if check_only:
        reporter.set(state="checked", facts=facts, ended_at=utc_text(clock.utc_ns()))
        return None
    reporter.set(state="preparing", facts=facts)
    request = Request(
        found,
        part.profile,
        part.roster.precisions,
        part.node.node_id,
        signer.spki_b64,
        part.campaign,
        AgreedStart(part, reporter, clock),
    )
    record, samples = measure_node(request, reporter.tell, clock)
    envelope = signer.seal_record(record, hashlib.sha256(samples).hexdigest())
    samples_path = own.with_name(f"{part.node.node_id}.samples.csv.gz")
    write_patiently(lambda: write_record(own, envelope, samples_path, samples), clock)
    reporter.set(
        state="done", ended_at=record.ended_at, sums=sums(record), rate_mflop_s=None, phase=None, workload=None
    )
    return own


def write_patiently(write: Callable[[], None], clock: Clock) -> None:
    """Write what was measured; a shared file system that is away for a while must not cost it.

    Raises:
        InputError: it could not be written for `WRITE_NS`.
    """
    deadline = clock.monotonic_ns() + WRITE_NS
    while True:
        try:
            write()
            return
        except InputError:
            if clock.monotonic_ns() > deadline:
                raise
        clock.sleep_ns(5 * SECOND_NS)


def only_process(part: Part) -> AbstractContextManager[bool]:
    """Keep a second process on this machine from taking part for the same node.

    Raises:
        InputError: `node-joined-twice`.
    """
    name = f"petaseal-{os.getuid()}-{part.campaign.campaign_id}-{part.node.node_id}.lock"
    what = "takes part already, in another process on this machine"
    held = InputError("node-joined-twice", what, where=part.node.name, fix="wait for it, or end it")
    return exclusive_lock(Path(tempfile.gettempdir()) / name, held, transient=True)


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
