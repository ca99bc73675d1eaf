"""The signed documents: one table of what each is, the types of the small ones, and the one way to make them.

Every document is an in-toto Statement v1 in a DSSE envelope. The numbers at the code lines are the steps of
``docs/verification.md``. Documents are opened by `certify.trust.opening`; what one is worth is judged elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from operator import attrgetter
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar, cast

import msgspec
from msgspec import Meta

from bench.errors import RefusedError
from bench.record import Document, Name, Sha256, Text, Tool, UtcTime, digest, encode, identifier
from certify.documents import dsse

PAYLOAD_TYPE = "application/vnd.in-toto+json"
RECORD_SUFFIX = ".record.dsse.json"  # of a record's file, after its node's name
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"

P = TypeVar("P")
Role = Literal["root", "operator", "witness", "node", "registry"]
Level = Literal["signature", "trusted", "recomputed", "audited"]
DigestName = Literal["sha256", "rfc6962-sha256"]


@dataclass(frozen=True, slots=True)
class DocumentKind:
    """What a document is. `subject` is filled in from the predicate; `digest` says what is hashed."""

    name: str
    predicate: str  # "module:Class", imported when a document of the kind is first opened
    roles: tuple[Role, ...]  # the only ones whose keys may sign it
    subject: str
    cap: str  # the field of `Caps` that limits its size
    digest: Literal["sha256", "rfc6962-sha256", "predicate"] = "predicate"  # SHA-256 of its own canonical predicate
    centre: str | None = "centre_id"  # where the predicate names the centre that its signer must be bound to
    signed_as: str | None = None  # where the predicate names which of several roles signs it

    @property
    def predicate_type(self) -> str:
        """The predicate type as documents of the kind write it."""
        return f"urn:petaseal:{self.name}/v0.2"


_KINDS = (
    DocumentKind(
        name="node-record",
        predicate="bench.record:NodeRecord",
        roles=("node",),
        subject="{0.node_id}.samples.csv.gz",
        digest="sha256",
        cap="record_bytes",
    ),
    DocumentKind(
        name="campaign",
        predicate="bench.record:Campaign",
        roles=("operator",),
        subject="{0.campaign_id}.campaign.json",
        cap="campaign_bytes",
    ),
    DocumentKind(
        name="capacity-statement",
        predicate="certify.documents.statement:CapacityStatement",
        roles=("operator",),
        subject="records.jsonl",
        digest="rfc6962-sha256",
        centre="centre.centre_id",
        cap="statement_bytes",
    ),
    DocumentKind(
        name="baseline",
        predicate="certify.documents.kinds:Baseline",
        roles=("operator",),
        subject="{0.centre_id}.baseline.json",
        cap="baseline_bytes",
    ),
    DocumentKind(
        name="witness",
        predicate="certify.documents.kinds:Witness",
        roles=("witness",),
        subject="statement.json",
        digest="sha256",
        cap="witness_bytes",
    ),
    DocumentKind(
        name="receipt",
        predicate="certify.documents.kinds:Receipt",
        roles=("registry",),
        subject="statement.json",
        digest="sha256",
        cap="witness_bytes",
    ),
    DocumentKind(
        name="heartbeat",
        predicate="certify.documents.kinds:Heartbeat",
        roles=("node",),
        subject="{0.node_id}.heartbeat.json",
        cap="witness_bytes",
    ),
    DocumentKind(
        name="evidence",
        predicate="certify.documents.evidence:ImportedEvidence",
        roles=("operator", "witness"),
        subject="{0.kind}.output.txt",
        digest="sha256",
        cap="evidence_bytes",
        signed_as="by",
    ),
    DocumentKind(
        name="trust-root",
        predicate="certify.trust.trusted_set:TrustRoot",
        roles=("root",),
        subject="trust-root.json",
        centre=None,
        cap="trust_bytes",
    ),
    DocumentKind(
        name="revocations",
        predicate="certify.trust.revocations:Revocations",
        roles=("root",),
        subject="revocations.json",
        centre=None,
        cap="trust_bytes",
    ),
)
DOCUMENTS: Mapping[str, DocumentKind] = {kind.name: kind for kind in _KINDS}


# Predicate types that no verifier takes any more: v0.1, under which nothing was ever released (docs/formats.md).
WITHDRAWN = frozenset(f"urn:petaseal:{name}/v0.1" for name in DOCUMENTS if name != "evidence")  # which v0.2 added


class Subject(Document, frozen=True, kw_only=True):
    """What a document speaks of: a name and exactly one digest."""

    name: Text
    digest: dict[DigestName, Sha256]


class Statement(
    Document, Generic[P], frozen=True, kw_only=True, rename={"type": "_type", "predicate_type": "predicateType"}
):
    """An in-toto Statement v1 whose predicate is of a known type."""

    type: Text
    subject: Annotated[tuple[Subject, ...], Meta(min_length=1, max_length=1)]
    predicate_type: Text
    predicate: P


class _StatementHeader(NamedTuple):
    """The types of a statement, whatever its predicate."""

    type: str
    predicate_type: str


@dataclass(frozen=True, slots=True)
class OpenedDocument(Generic[P]):
    """A document that was opened. `payload` are the bytes that were signed."""

    predicate: P
    subject_digest: str
    payload: bytes
    payload_sha256: str
    signers: frozenset[str]  # ids of the keys whose signatures hold and are trusted
    named: frozenset[str] = frozenset()  # ids of all keys that the envelope names, known or not
    self_asserted: bool = False  # a record under a key that nobody enrolled: integrity, not identity


def prepare() -> None:
    """Make what opening a document of any kind needs, before there are threads (`dsse.prepare`)."""
    dsse.prepare(*(_statement_type(name) for name in DOCUMENTS))
    dsse.prepare_envelopes()


def make_document(name: str, predicate: Any, subject_digest: str | None = None) -> bytes:
    """Return the canonical payload of a new document, which `dsse.seal(payload, PAYLOAD_TYPE, keys)` signs.

    Args:
        name: a key of `DOCUMENTS`.
        predicate: a value of the document's type.
        subject_digest: hex digest of what the document speaks of; None where that is the predicate itself.

    Raises:
        RefusedError: a verifier would refuse the payload, with the verifier's code.
    """
    kind = DOCUMENTS[name]
    is_own_subject = kind.digest == "predicate"
    if is_own_subject != (subject_digest is None):
        raise ValueError(f"a {name} {'names its own digest' if is_own_subject else 'needs the digest of its subject'}")
    value = digest(predicate) if subject_digest is None else subject_digest
    algorithm: DigestName = "sha256" if kind.digest == "predicate" else kind.digest
    statement = Statement[Any](
        type=STATEMENT_TYPE,
        subject=(Subject(name=kind.subject.format(predicate), digest={algorithm: value}),),
        predicate_type=kind.predicate_type,
        predicate=predicate,
    )
    payload = encode(statement)
    parse_payload(name, payload, "the new document")
    return payload


def parse_payload(name: str, payload: bytes, where: object = None) -> OpenedDocument[Any]:
    """Return a document's payload as a typed value, without its signatures. See `Verifier.open` for verified ones.

    Raises:
        RefusedError: `statement-type-wrong`, `format-withdrawn`, `predicate-type-wrong`, `subject-wrong`, or a code of
            `dsse.decode`.
    """
    kind = DOCUMENTS[name]
    try:
        statement = dsse.decode(payload, _statement_type(name), where)  # 7
    except RefusedError as error:
        if error.code != "json-invalid":  # the cause, where it is another document
            _check_types(_header(payload), kind, name, where)
        raise
    _check_types(statement, kind, name, where)  # 8
    (subject,) = statement.subject
    algorithm = "sha256" if kind.digest == "predicate" else kind.digest
    if subject.name != kind.subject.format(statement.predicate) or set(subject.digest) != {algorithm}:
        raise RefusedError("subject-wrong", f"names a subject that a {name} cannot have", where=where)
    value = subject.digest[algorithm]
    if kind.digest == "predicate" and value != digest(statement.predicate):
        raise RefusedError("subject-wrong", "the digest of its subject is not that of its predicate", where=where)
    payload_sha256 = hashlib.sha256(payload).hexdigest()
    return OpenedDocument(statement.predicate, value, payload, payload_sha256, frozenset())


def centre_of(name: str, predicate: Any) -> str | None:
    """Return the centre that a document speaks for, if its kind has one."""
    path = DOCUMENTS[name].centre
    centre: str | None = attrgetter(path)(predicate) if path else None
    return centre


def role_of_document(name: str, predicate: Any) -> Role:
    """Return the role whose key must sign a document: the only one of its kind, or the one that it names."""
    kind = DOCUMENTS[name]
    if kind.signed_as is None:
        return kind.roles[0]
    role: Role = getattr(predicate, kind.signed_as)
    return role


def predicate_type_of(name: str) -> type[Any]:
    """Return the struct of a document's predicate, importing it on first use."""
    module, _, symbol = DOCUMENTS[name].predicate.partition(":")
    kind: type[Any] = getattr(import_module(module), symbol)
    return kind


@cache
def _statement_type(name: str) -> type[Statement[Any]]:
    return cast("type[Statement[Any]]", Statement[predicate_type_of(name)])  # type: ignore[misc]


def _header(payload: bytes) -> _StatementHeader | None:
    try:
        fields = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])  # of a field that stands twice, the last
        return _StatementHeader(*(msgspec.json.decode(fields[name], type=str) for name in ("_type", "predicateType")))
    except (msgspec.ValidationError, KeyError):
        return None


def _check_types(
    header: Statement[Any] | _StatementHeader | None, kind: DocumentKind, name: str, where: object
) -> None:
    if header is None:
        return
    if header.type != STATEMENT_TYPE:
        raise RefusedError("statement-type-wrong", "is not an in-toto Statement v1", where=where)
    if header.predicate_type in WITHDRAWN:
        what = f"is {header.predicate_type!r}, a format that was withdrawn before any release"
        fix = "make it anew with this version of petaseal; for a statement: measure and certify again"
        raise RefusedError("format-withdrawn", what, where=where, fix=fix)
    if header.predicate_type != kind.predicate_type:
        raise RefusedError("predicate-type-wrong", f"is {header.predicate_type!r}, not a {name}", where=where)


class BaselineDevice(Document, frozen=True, kw_only=True):
    """A device that stood in the centre before; every known identity of it, in the form that is compared."""

    uuid: Text | None
    serial: Text | None
    die_id: Text | None

    def __post_init__(self) -> None:
        names = (self.uuid, self.serial, self.die_id)
        if not any(names):
            raise RefusedError("baseline-device-without-identity", "the baseline has a device without any identity")
        for name in names:
            if name is not None and identifier(name) is None:
                raise ValueError(f"the device identity {name!r} is a placeholder")


class NothingBefore(Document, frozen=True, kw_only=True):
    """That a centre had no device before, and how that is known: the operator's word, with the paper's digest."""

    evidence: Text
    evidence_sha256: Sha256 | None = None


class Baseline(Document, frozen=True, kw_only=True):
    """The devices that a centre had before the ones that it claims as newly added (docs/policies.md).

    An inventory without devices says expressly that there were none: a list that was lost is no empty baseline.
    """

    centre_id: Name
    taken_at: UtcTime
    devices: tuple[BaselineDevice, ...]
    nothing_before: NothingBefore | None = None

    def __post_init__(self) -> None:
        if self.devices and self.nothing_before is not None:
            raise ValueError("the baseline lists devices, and says that there was nothing before")
        if not self.devices and self.nothing_before is None:
            what = "the baseline lists no device, and does not say by what evidence there was none"
            raise RefusedError("baseline-empty", what)


class Witness(Document, frozen=True, kw_only=True):
    """What a witness checked of a statement, and when; the subject is the statement's payload."""

    centre_id: Name
    witnessed_at: UtcTime
    level: Level
    checks: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=64)]
    tool: Tool


class Receipt(Document, frozen=True, kw_only=True):
    """What a registry decided about a statement that came to it, and when; the subject is the statement's payload."""

    centre_id: Name
    received_at: UtcTime
    decision: Literal["accepted", "refused"]
    code: Name | None  # of a refusal
    level: Level | None  # that the registry itself reached; null where it refused

    def __post_init__(self) -> None:
        if (self.decision == "accepted") != (self.code is None) or (self.code is None) != (self.level is not None):
            raise ValueError("the receipt contradicts itself: a refusal has a code, and only what is accepted a level")


class Heartbeat(Document, frozen=True, kw_only=True):
    """That a node whose record was certified is there: signed by the key of its record, under the registry's nonce."""

    centre_id: Name
    node_id: Name
    nonce: Sha256  # from the registry, good once
    sent_at: UtcTime  # by the node's clock
    devices_sha256: Sha256  # of the identities of all its devices, as they are now
    signer_spki: Annotated[str, Meta(min_length=1, max_length=512)]  # base64 DER SubjectPublicKeyInfo
