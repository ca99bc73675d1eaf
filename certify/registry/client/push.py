"""Sending what lies on a disk to a registry: each document goes where its predicate type says, receipts are kept."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bench.errors import InputError, OutputExistsError, RefusedError
from bench.record import followed, read_bytes, write_atomic
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import DOCUMENTS, PAYLOAD_TYPE, parse_payload
from certify.registry.api import Decided
from certify.registry.client.client import Registry
from certify.statement import package
from certify.statement.package import RECORDS, STATEMENT
from certify.statement.records import RECORD_SUFFIX
from certify.trust.witness import documents_in

CAMPAIGN = "campaign.dsse.json"
RECEIPT = "receipt.dsse.json"  # `certify.trust.receipt.receipts_in` finds both beside a statement
RECORDS_RECEIPT = "receipt-records.dsse.json"
BESIDE = ("baseline", "witness")  # what a statement may be verified with
TAKEN = ("capacity-statement", *BESIDE, "campaign", "node-record", "revocations")
MOST_BYTES = max(getattr(CAPS, DOCUMENTS[name].cap) for name in TAKEN)


class Sent(NamedTuple):
    """A document that was sent, and what the registry made of it."""

    path: Path
    kind: str
    decided: Decided
    receipt: Path | None  # where it was written

    def as_json(self) -> dict[str, Any]:
        """Return it for machines."""
        written = None if self.receipt is None else str(self.receipt)
        return {"path": str(self.path), "kind": self.kind, **msgspec.to_builtins(self.decided), "receipt_file": written}

    def lines(self) -> list[str]:
        """Return it for people."""
        decided = self.decided
        again = ", as it was before: nothing new was stored" if decided.repeated else ""
        level = f", level {decided.level}" if decided.level else ""
        lines = [f"{decided.decision.upper()} {self.kind} {self.path.name} at {decided.at}{level}{again}"]
        if decided.code is not None:
            lines.append(f"  [{decided.code}] {decided.detail}")
        if decided.payload_sha256 is not None:
            lines.append(f"  sha256  {decided.payload_sha256}")
        lines += [f"  note    {note}" for note in decided.notes]
        if self.receipt is not None:
            lines.append(f"  receipt {self.receipt}")
        return lines


class _Header(msgspec.Struct, rename={"predicate_type": "predicateType"}):
    predicate_type: str


def push(registry: Registry, path: Path, statement: str | None = None, only: tuple[str, ...] = TAKEN) -> Iterator[Sent]:
    """Send a file, a package, or what is in a folder; a refusal ends what depends on it.

    Args:
        registry: where to.
        path: folder or package of a statement; folder of a campaign or of its records; or one document, or
            ``records.jsonl``.
        statement: payload digest of the statement that ``records.jsonl`` belongs to; None: the one beside it.
        only: kinds of documents that may be sent.

    Raises:
        InputError: `document-not-submitted`, there is nothing that a registry takes; or it cannot be reached.
        RefusedError: the registry refuses and keeps nothing of it, as with a wrong token.
    """
    if path.is_dir():
        yield from _folder(registry, path)
    elif path.name.endswith(package.SUFFIXES):
        stem = next(path.name.removesuffix(suffix) for suffix in sorted(package.SUFFIXES) if path.name.endswith(suffix))
        with package.opened(path) as folder:
            for sent in _statement(registry, folder):
                name = f"{stem}.{RECEIPT if sent.kind == 'capacity-statement' else RECORDS_RECEIPT}"
                yield _kept(sent._replace(path=path), path.with_name(name))
    elif path.suffix == ".jsonl":
        sha256 = statement or _payload_sha256(path.with_name(STATEMENT))
        yield _records(registry, path, sha256)
    else:
        yield _document(registry, followed(path), only)


def _folder(registry: Registry, folder: Path) -> Iterator[Sent]:
    if (folder / STATEMENT).exists():
        for sent in _statement(registry, folder):
            kept = RECEIPT if sent.kind == "capacity-statement" else RECORDS_RECEIPT
            yield _kept(sent, folder / kept)
        return
    records = sorted(p for p in folder.rglob(f"*{RECORD_SUFFIX}") if not p.name.startswith("."))
    campaign = folder / CAMPAIGN
    if not records and not campaign.exists():
        what = f"holds no {STATEMENT}, no {CAMPAIGN} and no file named *{RECORD_SUFFIX}"
        raise InputError("document-not-submitted", what, where=folder)
    if campaign.exists():
        yield (sent := _document(registry, campaign, TAKEN))
        if sent.decided.decision == "refused":
            return
    done: set[bytes] = set()  # a campaign's folder holds the collected ones twice
    for path in records:
        content = hashlib.sha256(read_bytes(path, CAPS.record_bytes)).digest()
        if content not in done:
            done.add(content)
            yield _document(registry, path, TAKEN)


def _statement(registry: Registry, folder: Path) -> Iterator[Sent]:
    """Send a statement after what it is verified with, and its records once it is accepted.

    Receipts are not written yet.
    """
    file, records, baseline = folder / STATEMENT, folder / RECORDS, folder / "baseline.dsse.json"
    for path in (*([baseline] if baseline.exists() else []), *documents_in(folder)):
        yield _document(registry, path, BESIDE)
    decided = registry.submit_statement(file)
    sha256 = _payload_sha256(file)
    yield Sent(file, "capacity-statement", _checked(decided, sha256, file), None)
    if decided.decision == "accepted" and records.exists():
        yield Sent(records, "records", _checked(registry.submit_records(sha256, records), sha256, records), None)


def _records(registry: Registry, path: Path, sha256: str) -> Sent:
    decided = _checked(registry.submit_records(sha256, path), sha256, path)
    return _kept(Sent(path, "records", decided, None), path.with_name(RECORDS_RECEIPT))


def _document(registry: Registry, path: Path, only: tuple[str, ...]) -> Sent:
    """Send one document where its type says."""
    content = read_bytes(path, MOST_BYTES)
    kind, payload = _kind_of(content, path)
    if kind not in only:
        wanted = ", ".join(only)
        raise InputError("document-not-submitted", f"is a {kind}; this command sends: {wanted}", where=path)
    if kind == "node-record":
        campaign_sha256 = parse_payload(kind, payload, path).predicate.campaign_sha256
        decided = registry.submit_record(campaign_sha256, content)
    elif kind == "campaign":
        decided = registry.submit_campaign(content)
    elif kind == "revocations":
        decided = registry.revoke(content)
    elif kind in BESIDE:
        decided = registry.submit_baseline(content) if kind == "baseline" else registry.submit_witness(content)
        return Sent(path, kind, decided, None)  # its receipt dates nothing that a verifier asks for
    else:
        decided = registry.submit_statement(content)
    decided = _checked(decided, hashlib.sha256(payload).hexdigest(), path)
    name = RECEIPT if path.name == STATEMENT else f"{path.name.removesuffix('.dsse.json')}.{RECEIPT}"
    return _kept(Sent(path, kind, decided, None), path.with_name(name))


def _kind_of(content: bytes, path: Path) -> tuple[str, bytes]:
    """Return which document a file holds, and its payload."""
    envelope = parse_envelope(content, MOST_BYTES, path)
    try:
        header = msgspec.json.decode(envelope.payload, type=_Header)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        header = _Header("")
    for name, kind in DOCUMENTS.items():
        if kind.predicate_type == header.predicate_type and envelope.payload_type == PAYLOAD_TYPE:
            return name, envelope.payload
    raise RefusedError("predicate-type-wrong", "is no document of petaseal", where=path)


def _payload_sha256(file: Path) -> str:
    if not file.exists():
        fix = "name the statement with --statement SHA256"
        raise InputError("file-missing", "the statement of these records is not beside them", where=file, fix=fix)
    envelope = parse_envelope(read_bytes(file, CAPS.statement_bytes), CAPS.statement_bytes, file)
    return hashlib.sha256(envelope.payload).hexdigest()


def _checked(decided: Decided, payload_sha256: str, path: Path) -> Decided:
    """Return a decision whose receipt is of what was sent; whose signature it bears is for a verifier to say."""
    if decided.receipt is not None:
        envelope = parse_envelope(base64.b64decode(decided.receipt), CAPS.witness_bytes, "the receipt")
        opened = parse_payload("receipt", envelope.payload, "the receipt")
        if (opened.subject_digest, opened.predicate.decision) != (payload_sha256, decided.decision):
            raise RefusedError("receipt-differs", "the receipt is of something else than was sent", where=path)
    return decided


def _kept(sent: Sent, file: Path) -> Sent:
    """Write the receipt beside what was sent, and never in the place of another: an earlier one dates it better."""
    if sent.decided.receipt is None or sent.kind in BESIDE:
        return sent
    if sent.decided.decision == "refused":
        file = file.with_name(f"refused.{file.name}")
    content = base64.b64decode(sent.decided.receipt)
    try:
        write_atomic(file, content, new=True)
    except OutputExistsError:
        if not _holds(file, content):
            name = file.name.removesuffix(".dsse.json")
            file = file.with_name(f"{name}-{hashlib.sha256(content).hexdigest()[:16]}.dsse.json")
            write_atomic(file, content)
    return sent._replace(receipt=file)


def _holds(file: Path, content: bytes) -> bool:
    with contextlib.suppress(InputError):
        return read_bytes(file, len(content)) == content
    return False
