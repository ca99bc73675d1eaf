"""A node's part in a campaign: report, prepare, wait for the agreed start, measure, leave the record in the folder.

Started once on every node by the centre's engine. It ends within seconds when the campaign is aborted or SIGTERM comes,
and never leaves half a record; started again, it goes on where a record is still missing.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from bench.campaign.estimate import room_bytes
from bench.campaign.node.facts import (
    facts_of_node,
    with_examination,
    with_identities,
    with_key_problems,
    with_network_remarks,
)
from bench.campaign.node.reporter import Reporter
from bench.campaign.node.start import AgreedStart
from bench.campaign.node.task import NodeTask
from bench.clock import Clock, SystemClock
from bench.errors import InputError, Interrupted, PetasealError, explained
from bench.output import NodeFiles, NodeSigner, Reserved, reserved, write_patiently
from bench.record import NodeRecord, exclusive_lock
from bench.record.files import state_dir
from bench.record.folder import read_question
from bench.record.status import ReportedSums
from bench.units import utc_text

CHECK_NS = 10 * 10**9  # that a node which is only looked at waits for a question


def join(
    part: NodeTask,
    signer: NodeSigner,
    sums: Callable[[NodeRecord], dict[str, ReportedSums]],
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
    record = place_of(part).record
    if record.exists() and not check_only:
        return record
    clock = clock or SystemClock()
    # Workers and scripted devices inherit it: what they make up for a node must differ from node to node.
    os.environ["PETASEAL_NODE"] = part.node.node_id
    with contextlib.ExitStack() as stack:
        with reporting_failure(part, clock):
            place = stack.enter_context(only_process(part, check_only))
        stack.enter_context(ended_by_sigterm())
        reporter = stack.enter_context(Reporter(part, clock))
        try:
            return _measure(part, signer, sums, clock, reporter, place)
        except (KeyboardInterrupt, Interrupted):
            reporter.set(state="aborted", ended_at=utc_text(clock.utc_ns()), message="ended from outside")
            raise Interrupted("the node's part was ended from outside; nothing was left half-written") from None
        except BaseException as error:
            reporter.set(state="failed", ended_at=utc_text(clock.utc_ns()), message=explained(error))
            raise


@contextlib.contextmanager
def reporting_failure(part: NodeTask, clock: Clock | None = None) -> Iterator[None]:
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
    part: NodeTask,
    signer: NodeSigner,
    sums: Callable[[NodeRecord], dict[str, ReportedSums]],
    clock: Clock,
    reporter: Reporter,
    place: Reserved | None,
) -> Path | None:
    from bench.devices import select_devices
    from bench.doctor.gather import ReadFor
    from bench.engine.node import NodeRequest, clock_of, measure_node
    from bench.environment import refuse_emulation

    # Before torch or a vendor's library is imported, which read such variables once.
    unset = refuse_emulation(os.environ)
    pool = part.roster.pool_of(part.node)
    devices = select_devices(pool.device)
    needed_bytes = room_bytes(part.campaign, part.profile, len(devices))
    node_clock = clock_of(devices)
    facts = facts_of_node(devices, pool, part.folder.root, node_clock, needed_bytes)
    facts = with_identities(facts, devices, part.campaign.challenge)
    enrolled = next((node.keyid for node in part.campaign.nodes if node.node_id == part.node.node_id), None)
    keyid = hashlib.sha256(base64.b64decode(signer.spki_b64)).hexdigest()
    facts = with_key_problems(facts, devices, keyid, enrolled, state_dir())
    facts = with_network_remarks(facts, part.campaign)
    # A node that is to measure is awaited by all others: it reads what takes no time.
    refuses_busy, is_quick = part.profile.busy == "refuse", place is not None
    folder = None if is_quick else part.folder.root
    purpose = ReadFor(folder, needed_bytes, refuses_busy, node_clock, is_quick=is_quick)
    facts = with_examination(facts, devices, purpose)
    # The question that stands there is noted first: it may be of a coordinator that is gone, and its answer compares
    # nothing.
    if place is None:
        before = read_question(part.folder)
        reporter.set(state="prepared", facts=facts)
        reporter.await_question(before, CHECK_NS)
        reporter.set(state="checked", facts=facts, ended_at=utc_text(clock.utc_ns()))
        return None
    reporter.set(state="preparing", facts=facts)
    request = NodeRequest(
        devices,
        part.profile,
        (),
        part.node.node_id,
        signer.spki_b64,
        part.campaign,
        AgreedStart(part, reporter, clock),
        unset=unset,
    )
    record, samples = measure_node(request, reporter.take, clock)
    # Signed in memory: what is written first and signed later could be changed in between by whoever writes there.
    envelope = signer.sign(record, hashlib.sha256(samples).hexdigest())
    write_patiently(place, envelope, samples, clock)
    reporter.set(
        state="done", ended_at=record.ended_at, sums=sums(record), rate_mflop_s=None, phase=None, workload=None
    )
    return place.place.record


def place_of(part: NodeTask) -> NodeFiles:
    """Return where a node's record and samples go."""
    return NodeFiles(part.folder.records(part.node.node_id), part.node.node_id)


@contextlib.contextmanager
def only_process(part: NodeTask, check_only: bool) -> Iterator[Reserved | None]:
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
            with reserved(place_of(part), held, "make room there, or let this node's user write there") as place:
                yield place


@contextlib.contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """While this holds, SIGTERM ends the measurement as Ctrl-C does: workers are killed, the status says so."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Interrupted

    # Slurm and Kubernetes both send SIGTERM first, and SIGKILL some seconds later.
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
