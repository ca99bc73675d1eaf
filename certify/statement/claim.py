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
from certify.documents.kinds import OpenedDocument
from certify.documents.merkle import record_root
from certify.documents.statement import CapacityStatement, Issue
from certify.judge.identities import SignedNodes
from certify.policy.centre import centre_problem
from certify.policy.policies import Policy
from certify.policy.pools import Places
from certify.policy.released import policy_of
from certify.policy.tools import ToolCount, count_tools, unknown_lines
from certify.statement.age import check_age, check_validity
from certify.statement.campaign import check_campaign
from certify.statement.records import PARALLEL_FROM_BYTES, Chunk, chunks_of, envelopes
from certify.trust.dating import Attestations, date_statement
from certify.trust.opening import Verifier
from certify.trust.revocations import RevokedRecords
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


class DeviceIndex:
    """What the records of one statement show: devices, machines and samples, each by what identifies it.

    A device that stands in none of the statement's pools was seen and is not claimed.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self.signed = SignedNodes()
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
    ) -> DeviceIndex:
        """Return an index, or a part of one, whose records were read before."""
        held = cls(places)
        held.devices, held.parents, held.claimed = dict(devices), dict(parents), set(claimed)
        held.samples, held.signed = dict(samples), SignedNodes(machines)
        return held

    def see(self, record: Shown) -> None:
        """Index the devices, samples and signing key of one record."""
        node_id = record.node_id
        self.signed.see(record.signer, node_id)
        self.samples.setdefault(record.samples_sha256, set()).add(record.payload_sha256)
        for keys in record.devices:
            place = f"{node_id}/{keys.device}"
            self.devices.update((key, place) for key in keys.unshared)
            if self._places.pool_of(node_id, keys.device) is not None:
                self.claimed.add(place)
                self.parents.update((key, place) for key in keys.wholes)
            for key in keys.wholes:
                self.parents.setdefault(key, place)

    @cached_property
    def machines(self) -> dict[str, str]:
        """Key id -> node id, of the keys that identify a machine: those that signed for one node only."""
        return self.signed.machines

    @property
    def shared_keys(self) -> int:
        """The number of keys that signed for several nodes, and so identify no machine."""
        return len(self.signed.shared)


def makers_of(
    records: Iterable[tuple[str, str, tuple[str, str]]],
) -> tuple[tuple[ToolCount, ...], tuple[str, ...]]:
    """Return which petaseals made a statement's records, and the lines of unknown ones and of keys of several nodes.

    Args:
        records: of each the id of the key that signed it, its node, and version and digest of its petaseal.
    """
    signed, tools = SignedNodes(), []
    for keyid, node_id, tool in records:
        signed.see(keyid, node_id)
        tools.append(tool)
    counted = count_tools(tools)
    return counted, (*signed.lines(), *unknown_lines(counted))


@dataclass(frozen=True)
class Claim:
    """A signed statement, and what its records show where they were read. `where` names it in texts."""

    where: str
    statement: CapacityStatement
    payload_sha256: str
    device_index: DeviceIndex | None = None
    unread: str = "its records were not given"  # why there is no device index

    @property
    def issue(self) -> Issue:
        """Its number, times and predecessors."""
        return self.statement.issue

    @property
    def chain(self) -> Chain:
        """The centre and project whose statements its sequence number counts."""
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
        """How printed lines name the statement."""
        return f"{self.where} (number {self.issue.sequence} of {chain_text(self.chain)})"


def chain_text(chain: Chain) -> str:
    """Return a chain's centre and project as a text."""
    centre_id, project_id = chain
    return centre_id if project_id is None else f"{centre_id}, project {project_id}"


@dataclass(frozen=True)
class ClaimReader(Generic[T]):
    """Opens the records of one share, each by its own seal, and keeps a part; runs in a worker process."""

    source: Path
    verifier: Verifier  # of the statement that binds the records
    keep: Callable[[OpenedDocument[NodeRecord]], T]  # can be pickled

    def __call__(self, chunk: Chunk) -> list[T]:
        """Return what is kept of a share.

        Raises:
            RefusedError: a record is not whole, or `keep` refuses it.
        """
        return [self.keep(self.verifier.record(content, where)) for where, content in envelopes(self.source, chunk)]


def read_all(reader: ClaimReader[T]) -> Iterator[T]:
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


def read_claim(path: Path, verifier: Verifier) -> Claim:
    """Return the claim of a statement that is signed and trusted, with the records in its folder.

    Records that are missing, or are not those that the statement binds, leave a claim without a device index: its
    number and its validity count all the same.

    Args:
        path: a folder with ``statement.dsse.json``, or a statement; ``records.jsonl`` lies in the same folder.
        verifier: whose keys count, at its time.

    Raises:
        InputError: the statement cannot be read.
        RefusedError: it is not signed by who may sign it, was revoked, or contradicts itself.
    """
    file = path / "statement.dsse.json" if path.is_dir() else path
    opened, verifier = open_attested(file, verifier, where=path)
    statement = opened.predicate
    _check_consistency(opened, path)
    claim = Claim(str(path), statement, opened.payload_sha256)
    records = file.parent / "records.jsonl"
    # Its number and validity speak against others without them; what is not there is said by `unread`.
    if not os.path.lexists(records):
        return claim
    try:
        device_index = _read_device_index(records, statement, verifier)
    except PetasealError as error:
        return Claim(claim.where, statement, claim.payload_sha256, unread=f"its records are refused: {error}")
    return Claim(claim.where, statement, claim.payload_sha256, device_index)


def open_attested(
    file: Path,
    verifier: Verifier,
    witnesses: Sequence[Path] = (),
    policies: Sequence[Policy] = (),
    where: Path | None = None,
    receipts: Sequence[Path] = (),
) -> tuple[OpenedDocument[CapacityStatement], Verifier]:
    """Return a statement that is signed, trusted and not revoked, and the verifier of what it binds.

    That verifier knows when a witness or registry had seen the statement, and with it its records and its baseline. A
    witness document or receipt in the statement's folder that is bad is skipped, since the user did not name it.

    Args:
        file: the statement.
        verifier: whose keys count, at its time.
        witnesses: witness documents that the user gave.
        policies: that it may have been judged by, beside the installed ones.
        where: what it is called in error texts; its file by default.
        receipts: registries' receipts that the user gave.

    Raises:
        InputError: a file cannot be read.
        RefusedError: with the code of the first fault of the statement, or of a document that was given.
    """
    content, name = read_given(file, CAPS.statement_bytes), where or file
    parsed = verifier.authenticate("capacity-statement", content, name)
    files = Attestations.around(file.parent, witnesses, receipts)
    dating = date_statement(parsed, files, verifier, lambda statement: known_policies(statement, policies))
    verifier = verifier.attesting(dating.attested_before)
    opened = verifier.authorize("capacity-statement", parsed, name)
    records = RevokedRecords.of(opened.predicate)
    verifier.trust.check_withdrawn(opened.payload_sha256, records, verifier.at, name)
    return opened, verifier


def known_policies(statement: CapacityStatement, policies: Sequence[Policy] = ()) -> Iterator[Policy]:
    """Yield the policies of a statement that are petaseal's or given; what else it names is not known here."""
    given = {digest(policy): policy for policy in policies}
    for ref in statement.policies:
        policy = given[ref.sha256] if ref.sha256 in given else policy_of(ref.sha256)
        if policy is not None and policy.policy == ref.policy:
            yield policy


def _check_consistency(opened: OpenedDocument[CapacityStatement], where: Path) -> None:
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


def _read_device_index(records: Path, statement: CapacityStatement, verifier: Verifier) -> DeviceIndex:
    device_index, payloads = DeviceIndex(statement.places), []
    keep = partial(_show, statement.campaign_sha256, statement.starts_at)
    for shown in read_all(ClaimReader(records, verifier, keep)):
        device_index.see(shown)
        payloads.append(shown.payload_sha256)
    check_root(payloads, statement, records)
    return device_index


def check_root(payloads: Sequence[str], statement: CapacityStatement, where: Path) -> None:
    """Refuse records that are not all those that a statement binds.

    Raises:
        RefusedError: `records-root`, `record-twice` or `records-unsorted`.
    """
    if record_root(payloads) != statement.records_root:
        raise RefusedError("records-root", "holds other records than the statement binds", where=where)


def _show(campaign_sha256: str, starts_at: str, opened: OpenedDocument[NodeRecord]) -> Shown:
    """Return what is compared of a record of a measurement; a copied record of another one claims nothing here."""
    record = opened.predicate
    # Whoever publishes a statement could add a rival's record to it, and so accuse him of a claim that he never made.
    if (record.campaign_sha256, record.starts_at) != (campaign_sha256, starts_at):
        raise RefusedError("campaign-differs", "the record is of another campaign", where=record.node_id)
    (signer,) = opened.signers
    keys = [device_keys(device) for device in record.devices]
    return Shown(opened.payload_sha256, opened.subject_digest, record.node_id, signer, keys)
