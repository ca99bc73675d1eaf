"""What one signed statement claims beside its sums: number, validity, and the identities that its records show.

A record is opened by its own seal and a statement by the verifier's keys; no rule, sum or verdict is judged here. What
claims say against each other is `certify.statement.conflicts`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from bench.errors import PetasealError, RefusedError
from bench.record import NodeRecord, digest, read_given
from bench.record.identities import DeviceKeys, device_keys
from bench.units import utc_ns
from certify.documents.caps import CAPS
from certify.documents.kinds import Opened, open_document, open_record
from certify.documents.merkle import record_root
from certify.policy.centre import centre_problem
from certify.policy.policies import Policy
from certify.policy.pools import Places
from certify.policy.released import policy_of
from certify.statement.age import check_age, check_validity
from certify.statement.build import CapacityStatement, Issue
from certify.statement.campaign import check_campaign
from certify.statement.records import PARALLEL_FROM_BYTES, Chunk, chunks_of, envelopes
from certify.trust.receipt import earliest_receipt, receipts_in
from certify.trust.trusted_set import TrustedSet
from certify.trust.witness import dated_by, documents_in, gather_witnesses, most_witnesses
from certify.workers import spread

T = TypeVar("T")
Chain = tuple[str, str | None]  # centre and project, whose statements are numbered together


class Shown(NamedTuple):
    """What is compared of one record of a statement."""

    payload_sha256: str
    samples_sha256: str
    node_id: str
    signer: str  # key id
    devices: list[DeviceKeys]


class Holdings:
    """What the records of one statement show: devices, machines and samples, each by what identifies it.

    A device that stands in none of the statement's pools was seen and is not claimed.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._signed: dict[str, str | None] = {}  # key id -> its one node, or None where it signed for several
        self.devices: dict[str, str] = {}  # identity -> node/device
        self.parents: dict[str, str] = {}  # identity that a whole may go by -> node/device of a part, a claimed one
        self.claimed: set[str] = set()  # node/device
        self.samples: dict[str, set[str]] = {}  # digest of a record's samples -> the records that bind it

    @classmethod
    def of(
        cls,
        places: Places,
        devices: Mapping[str, str],
        parents: Mapping[str, str],
        claimed: Iterable[str],
        machines: Mapping[str, str],
        samples: Mapping[str, set[str]],
    ) -> Holdings:
        """Return holdings, or a part of them, whose records were read before."""
        held = cls(places)
        held.devices, held.parents, held.claimed = dict(devices), dict(parents), set(claimed)
        held.samples, held._signed = dict(samples), dict(machines)
        return held

    def see(self, record: Shown) -> None:
        """Add one record."""
        node_id = record.node_id
        self._signed[record.signer] = node_id if self._signed.setdefault(record.signer, node_id) == node_id else None
        self.samples.setdefault(record.samples_sha256, set()).add(record.payload_sha256)
        for keys in record.devices:
            place = f"{node_id}/{keys.device}"
            self.devices.update((key, place) for key in keys.own)
            if self._places.pool_of(node_id, keys.device) is not None:
                self.claimed.add(place)
                self.parents.update((key, place) for key in keys.wholes)
            for key in keys.wholes:
                self.parents.setdefault(key, place)

    @cached_property
    def machines(self) -> dict[str, str]:
        """Key id -> node id, of the keys that tell a machine: those that signed for one node only."""
        return {keyid: node_id for keyid, node_id in self._signed.items() if node_id is not None}

    @property
    def shared_keys(self) -> int:
        """The number of keys that signed for several nodes, and so tell no machine."""
        return sum(node_id is None for node_id in self._signed.values())


@dataclass(frozen=True)
class Claim:
    """A signed statement, and what its records show where they were read. `where` names it in texts."""

    where: str
    statement: CapacityStatement
    payload_sha256: str
    holdings: Holdings | None = None
    unread: str = "its records were not given"  # why there are no holdings

    @property
    def issue(self) -> Issue:
        """Its number, times and predecessors."""
        return self.statement.issue

    @property
    def chain(self) -> Chain:
        """What its number counts in."""
        return self.statement.centre.centre_id, self.statement.centre.project_id

    @property
    def measurement(self) -> tuple[str, str]:
        """The campaign and its start: what was measured once may be stated again."""
        return self.statement.campaign_sha256, self.statement.starts_at

    @cached_property
    def window_ns(self) -> tuple[int, int]:
        """From the first load until the last core window closes, UTC ns: its devices were busy here."""
        starts_ns, campaign = utc_ns(self.statement.starts_at), self.statement.campaign
        return starts_ns + campaign.windows[0].load_ns, starts_ns + campaign.closes_ns

    @property
    def name(self) -> str:
        """The statement for people."""
        return f"{self.where} (number {self.issue.sequence} of {chain_text(self.chain)})"


def chain_text(chain: Chain) -> str:
    """Return a chain for people."""
    centre_id, project_id = chain
    return centre_id if project_id is None else f"{centre_id}, project {project_id}"


@dataclass(frozen=True)
class Reader(Generic[T]):
    """Opens the records of one share, each by its own seal, and keeps a part; runs in a worker process."""

    source: Path
    trust: TrustedSet
    at: str
    keep: Callable[[Opened[NodeRecord]], T]  # can be pickled
    dated: str | None = None  # when a witness saw the statement that binds the records

    def __call__(self, chunk: Chunk) -> list[T]:
        """Return what is kept of a share.

        Raises:
            RefusedError: a record is not whole, or `keep` refuses it.
        """
        found = envelopes(self.source, chunk)
        return [self.keep(open_record(content, self.trust, self.at, where, self.dated)) for where, content in found]


def read_all(reader: Reader[T]) -> Iterator[T]:
    """Yield what a reader keeps of every record, in their order.

    Raises:
        InputError, RefusedError: with the code of the first fault.
    """
    shares, size = chunks_of(reader.source)
    count = 0
    for part in spread(reader, shares, parallel=size >= PARALLEL_FROM_BYTES, where=reader.source):
        count += len(part)
        if count > CAPS.records:
            raise RefusedError("records-too-many", f"has more than {CAPS.records} records", where=reader.source)
        yield from part


def read_claim(path: Path, trust: TrustedSet, at: str) -> Claim:
    """Return the claim of a statement that is signed and trusted, with the records that lie beside it.

    Records that are missing, or are not those that the statement binds, leave a claim without holdings: its number and
    its validity stand all the same.

    Args:
        path: a folder with ``statement.dsse.json``, or a statement; ``records.jsonl`` lies in the same folder.
        trust: the verifier's keys.
        at: the time that keys must be valid at, in the form of `UtcTime`.

    Raises:
        InputError: the statement cannot be read.
        RefusedError: it is not signed by who may sign it, was revoked, or contradicts itself.
    """
    file = path / "statement.dsse.json" if path.is_dir() else path
    opened, dated = open_dated(file, trust, at, where=path)
    statement = opened.predicate
    _check_alone(opened, path)
    claim = Claim(str(path), statement, opened.payload_sha256)
    records = file.parent / "records.jsonl"
    if not os.path.lexists(records):
        return claim
    try:
        holdings = _read_holdings(records, statement, trust, at, dated)
    except PetasealError as error:
        return Claim(claim.where, statement, claim.payload_sha256, unread=f"its records are refused: {error}")
    return Claim(claim.where, statement, claim.payload_sha256, holdings)


def open_dated(
    file: Path,
    trust: TrustedSet,
    at: str,
    witnesses: Sequence[Path] = (),
    policies: Sequence[Policy] = (),
    where: Path | None = None,
    receipts: Sequence[Path] = (),
) -> tuple[Opened[CapacityStatement], str | None]:
    """Return a statement that is signed, trusted and not revoked, and when a witness or registry saw it, if one did.

    A witness document or receipt that lies beside it and is bad is passed over, as nobody vouched for it.

    Args:
        file: the statement.
        trust: the verifier's keys.
        at: the time that keys must be valid at.
        witnesses: witness documents that the user gave.
        policies: that it may have been judged by, beside the installed ones.
        where: what it is called in error texts; its file by default.
        receipts: registries' receipts that the user gave.

    Raises:
        InputError: a file cannot be read.
        RefusedError: with the code of the first fault of the statement, or of a document that was given.
    """
    dates: list[str | None] = []

    def dated(parsed: Opened[CapacityStatement]) -> str | None:
        seen, _ = gather_witnesses(witnesses, documents_in(file.parent), parsed, trust, at)
        demanded = most_witnesses(known_policies(parsed.predicate, policies)) if seen else 0
        receipt, _ = earliest_receipt(receipts, receipts_in(file.parent), parsed, trust, at)
        found = [dated_by(seen, demanded), None if receipt is None else receipt.received_at]
        dates.append(min((date for date in found if date is not None), default=None))
        return dates[0]

    content = read_given(file, CAPS.statement_bytes)
    opened: Opened[CapacityStatement] = open_document("capacity-statement", content, trust, at, where or file, dated)
    trust.check_withdrawn(opened.payload_sha256, at, where or file)
    return opened, dates[0]


def known_policies(statement: CapacityStatement, policies: Sequence[Policy] = ()) -> Iterator[Policy]:
    """Yield the policies of a statement that are petaseal's or given; what else it names is not known here."""
    given = {digest(policy): policy for policy in policies}
    for ref in statement.policies:
        policy = given[ref.sha256] if ref.sha256 in given else policy_of(ref.sha256)
        if policy is not None and policy.policy == ref.policy:
            yield policy


def _check_alone(opened: Opened[CapacityStatement], where: Path) -> None:
    """Refuse a statement that contradicts itself, as `statement_checks` does, whose answer depends on the time too.

    Raises:
        RefusedError: with the code of the first fault.
    """
    statement, issue = opened.predicate, opened.predicate.issue
    policies = tuple(known_policies(statement))
    for holds, code, what in (
        (
            (issue.sequence == 1) == (issue.previous_sha256 is None)
            and set(issue.supersedes) <= {issue.previous_sha256},
            "sequence-invalid",
            "names another statement before it than it can have",
        ),
        (
            digest(statement.campaign) == statement.campaign_sha256
            and digest(statement.centre) == statement.centre_sha256,
            "campaign-differs",
            "binds another campaign or centre than it holds",
        ),
        (
            statement.measured_from <= statement.measured_until <= issue.issued_at <= issue.valid_until,
            "times-reversed",
            "is issued before its measurement ended, or after its validity",
        ),
        (
            opened.subject_digest == statement.records_root,
            "records-root",
            "names one Merkle root as its subject and another inside",
        ),
    ):
        if not holds:
            raise RefusedError(code, what, where=where)
    if (problem := centre_problem(statement.centre)) is not None:
        raise RefusedError(*problem, where=where)
    check_campaign(statement.campaign, statement.centre, statement.starts_at, issue.issued_at)
    check_validity(statement, policies, where)
    check_age(statement, lambda sha256: None, policies, where)


def _read_holdings(
    records: Path, statement: CapacityStatement, trust: TrustedSet, at: str, dated: str | None = None
) -> Holdings:
    holdings, payloads = Holdings(statement.places), []
    keep = partial(_show, statement.campaign_sha256, statement.starts_at)
    for shown in read_all(Reader(records, trust, at, keep, dated)):
        holdings.see(shown)
        payloads.append(shown.payload_sha256)
    check_root(payloads, statement, records)
    return holdings


def check_root(payloads: Sequence[str], statement: CapacityStatement, where: Path) -> None:
    """Refuse records that are not all those that a statement binds.

    Raises:
        RefusedError: `records-root`, `record-twice` or `records-unsorted`.
    """
    if record_root(payloads) != statement.records_root:
        raise RefusedError("records-root", "holds other records than the statement binds", where=where)


def _show(campaign_sha256: str, starts_at: str, opened: Opened[NodeRecord]) -> Shown:
    """Return what is compared of a record of a measurement; a copied record of another one claims nothing here."""
    record = opened.predicate
    if (record.campaign_sha256, record.starts_at) != (campaign_sha256, starts_at):
        raise RefusedError("campaign-differs", "the record is of another campaign", where=record.node_id)
    (signer,) = opened.signers
    keys = [device_keys(device) for device in record.devices]
    return Shown(opened.payload_sha256, opened.subject_digest, record.node_id, signer, keys)
