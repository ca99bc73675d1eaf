"""The signed documents: one table of what each is, and the one way to make and to open them.

Every document is an in-toto Statement v1 in a DSSE envelope. Opening follows the verifier's order: the numbers at
the code lines are those of ``docs/verification.md``. The rules of trust stand in
``certify.trust.trusted_set``; what a statement or record is worth is judged elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, NamedTuple, TypeVar, cast

import msgspec
from msgspec import Meta

from bench.errors import RefusedError
from bench.record import Document, Name, NodeRecord, Sha256, Text, Tool, UtcTime, digest, encode, identifier
from certify.documents import canonical, dsse
from certify.documents.caps import CAPS, Caps
from certify.keys.signers import PublicKey, public_key

if TYPE_CHECKING:
    from certify.trust.trusted_set import TrustedSet

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"

P = TypeVar("P")
Role = Literal["root", "operator", "witness", "node", "registry"]
Level = Literal["signature", "trusted", "recomputed", "audited"]
DigestName = Literal["sha256", "rfc6962-sha256"]


@dataclass(frozen=True, slots=True)
class DocumentKind:
    """What a document is. `subject` is filled in from the predicate; `digest` says what is hashed."""

    predicate_type: str
    predicate: str  # "module:Class", imported when a document of the kind is first opened
    role: Role  # the only one whose keys may sign it
    subject: str
    digest: Literal["sha256", "rfc6962-sha256", "predicate"]  # "predicate": SHA-256 of its own canonical predicate
    centre: str | None  # where the predicate names the centre that its signer must be bound to
    cap: str  # the field of `Caps` that limits its size


DOCUMENTS: dict[str, DocumentKind] = {
    "node-record": DocumentKind(
        predicate_type="urn:petaseal:node-record/v0.2",
        predicate="bench.record:NodeRecord",
        role="node",
        subject="{0.node_id}.samples.csv.gz",
        digest="sha256",
        centre="centre_id",
        cap="record_bytes",
    ),
    "campaign": DocumentKind(
        predicate_type="urn:petaseal:campaign/v0.2",
        predicate="bench.record:Campaign",
        role="operator",
        subject="{0.campaign_id}.campaign.json",
        digest="predicate",
        centre="centre_id",
        cap="campaign_bytes",
    ),
    "capacity-statement": DocumentKind(
        predicate_type="urn:petaseal:capacity-statement/v0.2",
        predicate="certify.statement.build:CapacityStatement",
        role="operator",
        subject="records.jsonl",
        digest="rfc6962-sha256",
        centre="centre.centre_id",
        cap="statement_bytes",
    ),
    "baseline": DocumentKind(
        predicate_type="urn:petaseal:baseline/v0.2",
        predicate="certify.documents.kinds:Baseline",
        role="operator",
        subject="{0.centre_id}.baseline.json",
        digest="predicate",
        centre="centre_id",
        cap="baseline_bytes",
    ),
    "witness": DocumentKind(
        predicate_type="urn:petaseal:witness/v0.2",
        predicate="certify.documents.kinds:Witness",
        role="witness",
        subject="statement.json",
        digest="sha256",
        centre="centre_id",
        cap="witness_bytes",
    ),
    "receipt": DocumentKind(
        predicate_type="urn:petaseal:receipt/v0.2",
        predicate="certify.documents.kinds:Receipt",
        role="registry",
        subject="statement.json",
        digest="sha256",
        centre="centre_id",
        cap="witness_bytes",
    ),
    "heartbeat": DocumentKind(
        predicate_type="urn:petaseal:heartbeat/v0.2",
        predicate="certify.documents.kinds:Heartbeat",
        role="node",
        subject="{0.node_id}.heartbeat.json",
        digest="predicate",
        centre="centre_id",
        cap="witness_bytes",
    ),
    "trust-root": DocumentKind(
        predicate_type="urn:petaseal:trust-root/v0.2",
        predicate="certify.trust.trusted_set:TrustRoot",
        role="root",
        subject="trust-root.json",
        digest="predicate",
        centre=None,
        cap="trust_bytes",
    ),
    "revocations": DocumentKind(
        predicate_type="urn:petaseal:revocations/v0.2",
        predicate="certify.trust.trusted_set:Revocations",
        role="root",
        subject="revocations.json",
        digest="predicate",
        centre=None,
        cap="trust_bytes",
    ),
}


# Predicate types that no verifier takes any more: v0.1, under which nothing was ever released (docs/formats.md).
WITHDRAWN = frozenset(f"urn:petaseal:{name}/v0.1" for name in DOCUMENTS)


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


class _Header(NamedTuple):
    """The types of a statement, whatever its predicate."""

    type: str
    predicate_type: str


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


@dataclass(frozen=True, slots=True)
class Opened(Generic[P]):
    """A document that was opened. `payload` are the bytes that were signed."""

    predicate: P
    subject_digest: str
    payload: bytes
    payload_sha256: str
    signers: frozenset[str]  # ids of the keys whose signatures hold and are trusted
    named: frozenset[str] = frozenset()  # ids of all keys that the envelope names, known or not
    self_asserted: bool = False  # a record under a key that nobody enrolled: integrity, not identity


def prepare() -> None:
    """Make what opening a document of any kind needs, before there are threads (`canonical.prepare`)."""
    canonical.prepare(*(_statement_type(name) for name in DOCUMENTS))
    dsse.prepare()


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
    own = kind.digest == "predicate"
    if own != (subject_digest is None):
        raise ValueError(f"a {name} {'names its own digest' if own else 'needs the digest of its subject'}")
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


def parse_payload(name: str, payload: bytes, where: object = None) -> Opened[Any]:
    """Return a document's payload as a typed value, without its signatures. See `open_document` for verified ones.

    Raises:
        RefusedError: `statement-type-wrong`, `format-withdrawn`, `predicate-type-wrong`, `subject-wrong`, or a code of
            `canonical.decode`.
    """
    kind = DOCUMENTS[name]
    try:
        statement = canonical.decode(payload, _statement_type(name), where)  # 7
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
    return Opened(statement.predicate, value, payload, payload_sha256, frozenset())


def open_document(
    name: str,
    content: bytes,
    trust: TrustedSet,
    at: str,
    where: object = None,
    dated: Callable[[Opened[Any]], str | None] = lambda opened: None,
    caps: Caps = CAPS,
) -> Opened[Any]:
    """Return a verified document: signed by enough keys that may sign it, for its centre, at that time.

    Args:
        name: a key of `DOCUMENTS`, the kind that is expected. (Trust roots: `certify.trust.root`.)
        content: the file.
        trust: the verifier's keys and their roles; none is ever taken from the document.
        at: the time that keys must be valid at, in the form of `UtcTime`.
        where: what the content is, for the error text.
        dated: when somebody else saw the document (parsed, not yet trusted), None where nobody did.
        caps: limits.

    Raises:
        RefusedError: with the code of the first step that fails.
    """
    envelope = dsse.parse_envelope(content, getattr(caps, DOCUMENTS[name].cap), where, caps)  # 1, 2, 3
    signers = dsse.verify_signatures(envelope, trust.keys, where)  # 5, after the trust root was opened as 4
    if not signers:
        raise RefusedError("key-not-trusted", "is signed by no key that is trusted", where=where)
    check_payload_type(envelope, where)  # 6
    opened = parse_payload(name, envelope.payload, where)  # 7, 8
    named = frozenset(signature.keyid for signature in envelope.signatures)
    opened = replace(opened, named=named)
    signers = trust.check(name, signers, centre_of(name, opened.predicate), at, where, dated(opened))  # 5, 9, 10
    return replace(opened, signers=signers)


def open_record(
    content: bytes,
    trust: TrustedSet,
    at: str,
    where: object = None,
    dated: str | None = None,
    caps: Caps = CAPS,
) -> Opened[NodeRecord]:
    """Return a verified node record: `open_own` of a ``node-record``."""
    return open_own("node-record", content, trust, at, where, dated, caps)


def open_own(
    name: str,
    content: bytes,
    trust: TrustedSet,
    at: str,
    where: object = None,
    dated: str | None = None,
    caps: Caps = CAPS,
) -> Opened[Any]:
    """Return a verified document of a node. Its key may be one that nobody enrolled: then the document says so.

    It names its signer's key in the payload, so that it can be checked alone; that key signs it, and no other.

    Args:
        name: ``node-record`` or ``heartbeat``.
        content: the file, or a line of ``records.jsonl``.
        trust: the verifier's keys: one that has another role, is revoked or belongs to another centre is refused.
        at: the time that an enrolled key must be valid at, in the form of `UtcTime`.
        where: what the content is, for the error text.
        dated: when somebody else saw the statement that binds the record, None where nobody did.
        caps: limits.

    Raises:
        RefusedError: `signer-mismatch`, or with the code of the step that fails.
    """
    envelope = dsse.parse_envelope(content, getattr(caps, DOCUMENTS[name].cap), where, caps)  # 1, 2, 3
    check_payload_type(envelope, where)  # 6
    opened = parse_payload(name, envelope.payload, where)  # 7, 8
    key = public_key(spki_bytes(opened.predicate.signer_spki, where), where, thorough=False)
    if any(signature.keyid != key.keyid for signature in envelope.signatures):
        raise RefusedError("signer-mismatch", "is signed by another key than the one it names", where=where)
    signers = dsse.verify_signatures(envelope, {key.keyid: key}, where)  # 5
    enrolled = trust.check_record_key(key.keyid, opened.predicate.centre_id, at, where, dated)  # 9, 10
    return replace(opened, signers=signers, self_asserted=not enrolled)


def check_payload_type(envelope: dsse.Envelope, where: object = None) -> None:
    """Refuse an envelope of anything but an in-toto statement.

    Raises:
        RefusedError: `payload-type-wrong`.
    """
    if envelope.payload_type != PAYLOAD_TYPE:
        raise RefusedError(
            "payload-type-wrong", f"has a payload of type {envelope.payload_type!r}, not {PAYLOAD_TYPE}", where=where
        )


def centre_of(name: str, predicate: Any) -> str | None:
    """Return the centre that a document speaks for, if its kind has one."""
    path = DOCUMENTS[name].centre
    centre: str | None = attrgetter(path)(predicate) if path else None
    return centre


def spki_text(key: PublicKey) -> str:
    """Return a key as documents hold it: its DER SubjectPublicKeyInfo in base64."""
    return base64.b64encode(key.spki).decode()


def spki_bytes(text: str, where: object = None) -> bytes:
    """Return the DER of a key in a document.

    Raises:
        RefusedError: `base64-not-canonical`.
    """
    try:
        spki = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        spki = b""
    if not spki or base64.b64encode(spki).decode() != text:
        raise RefusedError("base64-not-canonical", "holds a key that is not standard base64", where=where)
    return spki


def predicate_type_of(name: str) -> type[Any]:
    """Return the struct of a document's predicate, importing it on first use."""
    module, _, symbol = DOCUMENTS[name].predicate.partition(":")
    kind: type[Any] = getattr(import_module(module), symbol)
    return kind


@cache
def _statement_type(name: str) -> type[Statement[Any]]:
    return cast("type[Statement[Any]]", Statement[predicate_type_of(name)])  # type: ignore[misc]


def _header(payload: bytes) -> _Header | None:
    try:
        fields = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])  # of a field that stands twice, the last
        return _Header(*(msgspec.json.decode(fields[name], type=str) for name in ("_type", "predicateType")))
    except (msgspec.ValidationError, KeyError):
        return None


def _check_types(header: Statement[Any] | _Header | None, kind: DocumentKind, name: str, where: object) -> None:
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
