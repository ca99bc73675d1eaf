"""Submitting files to a registry, and fetching what it hands out: statements with their records, campaigns, the feed.

The predicate type of a document chooses its route; receipts are written.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bench.errors import InputError, OutputExistsError, RefusedError, one_line
from bench.record import followed, read_bytes, refuse_existing, replacing, write_atomic
from bench.record.files import flush_folder
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import DOCUMENTS, PAYLOAD_TYPE, RECORD_SUFFIX, parse_payload
from certify.registry.api.common import Decided
from certify.registry.client.client import RegistryClient
from certify.statement import package
from certify.statement.package import RECORDS, STATEMENT
from certify.trust.dating import witness_documents_in, witnesses_not_read

CAMPAIGN = "campaign.dsse.json"
RECEIPT = "receipt.dsse.json"  # `certify.trust.dating.receipts_in` finds both beside a statement
RECORDS_RECEIPT = "receipt-records.dsse.json"
SUPPORTING = ("baseline", "witness")  # what a statement may be verified with
SUBMITTABLE = ("capacity-statement", *SUPPORTING, "campaign", "node-record", "revocations")
MOST_BYTES = max(getattr(CAPS, DOCUMENTS[name].cap) for name in SUBMITTABLE)


class Sent(NamedTuple):
    """A document that was sent, and what the registry made of it."""

    path: Path
    kind: str
    decided: Decided
    receipt: Path | None  # where it was written
    not_sent: tuple[str, ...] = ()  # what lies there and was left out

    def as_json(self) -> dict[str, Any]:
        """Return the submission's result as the JSON value of ``--json``."""
        written = None if self.receipt is None else str(self.receipt)
        decided = msgspec.to_builtins(self.decided)
        files = {"receipt_file": written, "not_sent": list(self.not_sent)}
        return {"path": str(self.path), "kind": self.kind, **decided, **files}

    def lines(self) -> list[str]:
        """Return the submission's result as printed lines."""
        decided = self.decided
        again = ", as it was before: nothing new was stored" if decided.repeated else ""
        level = f", level {decided.level}" if decided.level else ""
        lines = [f"{decided.decision.upper()} {self.kind} {self.path.name} at {decided.at}{level}{again}"]
        if decided.code is not None:
            lines.append(f"  [{decided.code}] {decided.detail}")
        if decided.payload_sha256 is not None:
            lines.append(f"  sha256  {decided.payload_sha256}")
        lines += [f"  note    {note}" for note in decided.notes]
        lines += [one_line(f"  NOT SENT: {what}", 1000) for what in self.not_sent]
        if self.receipt is not None:
            lines.append(f"  receipt {self.receipt}")
        return lines


class _SubmissionHeader(msgspec.Struct, rename={"predicate_type": "predicateType"}):
    predicate_type: str


def push(
    registry: RegistryClient, path: Path, statement: str | None = None, only: tuple[str, ...] = SUBMITTABLE
) -> Iterator[Sent]:
    """Submit a file, a package, or the documents of a folder; after a refusal nothing that depends on it is sent.

    Args:
        registry: where to.
        path: folder or package of a statement; folder of a campaign or of its records; or one document, or
            ``records.jsonl``.
        statement: payload digest of the statement that ``records.jsonl`` belongs to; None: the one in the same folder.
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
                yield _write_receipt(sent._replace(path=path), path.with_name(name))
    elif path.suffix == ".jsonl":
        sha256 = statement or _payload_sha256(path.with_name(STATEMENT))
        yield _records(registry, path, sha256)
    else:
        yield _document(registry, followed(path), only)


def _folder(registry: RegistryClient, folder: Path) -> Iterator[Sent]:
    if (folder / STATEMENT).exists():
        for sent in _statement(registry, folder):
            receipt = RECEIPT if sent.kind == "capacity-statement" else RECORDS_RECEIPT
            yield _write_receipt(sent, folder / receipt)
        return
    records = sorted(p for p in folder.rglob(f"*{RECORD_SUFFIX}") if not p.name.startswith("."))
    campaign = folder / CAMPAIGN
    if not records and not campaign.exists():
        what = f"holds no {STATEMENT}, no {CAMPAIGN} and no file named *{RECORD_SUFFIX}"
        raise InputError("document-not-submitted", what, where=folder)
    if campaign.exists():
        # before its records: the registry takes none of a campaign that it does not know
        yield (sent := _document(registry, campaign, SUBMITTABLE))
        if sent.decided.decision == "refused":
            return
    done: set[bytes] = set()  # a campaign's folder holds the collected ones twice
    for path in records:
        content = hashlib.sha256(read_bytes(path, CAPS.record_bytes)).digest()
        if content not in done:
            done.add(content)
            yield _document(registry, path, SUBMITTABLE)


def _statement(registry: RegistryClient, folder: Path) -> Iterator[Sent]:
    """Send a statement after what it is verified with, and its records once it is accepted.

    Receipts are not written yet.
    """
    file, records, baseline = folder / STATEMENT, folder / RECORDS, folder / "baseline.dsse.json"
    # before the statement, whose verification needs them
    for path in (*([baseline] if baseline.exists() else []), *witness_documents_in(folder)):
        yield _document(registry, path, SUPPORTING)
    decided = registry.submit_statement(file)
    sha256 = _payload_sha256(file)
    yield Sent(file, "capacity-statement", _checked(decided, sha256, file), None, witnesses_not_read(folder))
    if decided.decision == "accepted" and records.exists():
        yield Sent(records, "records", _checked(registry.submit_records(sha256, records), sha256, records), None)


def _records(registry: RegistryClient, path: Path, sha256: str) -> Sent:
    decided = _checked(registry.submit_records(sha256, path), sha256, path)
    return _write_receipt(Sent(path, "records", decided, None), path.with_name(RECORDS_RECEIPT))


def _document(registry: RegistryClient, path: Path, only: tuple[str, ...]) -> Sent:
    """Send one document where its type says."""
    content = read_bytes(path, MOST_BYTES)
    kind, payload = _kind_of(content, path)
    # what lies in a folder decides nothing: `revoke` sends revocations, and nothing that somebody put beside them
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
    elif kind in SUPPORTING:
        decided = registry.submit_baseline(content) if kind == "baseline" else registry.submit_witness(content)
        return Sent(path, kind, decided, None)  # its receipt dates nothing that a verifier asks for
    else:
        decided = registry.submit_statement(content)
    decided = _checked(decided, hashlib.sha256(payload).hexdigest(), path)
    name = RECEIPT if path.name == STATEMENT else f"{path.name.removesuffix('.dsse.json')}.{RECEIPT}"
    return _write_receipt(Sent(path, kind, decided, None), path.with_name(name))


def _kind_of(content: bytes, path: Path) -> tuple[str, bytes]:
    """Return which document a file holds, and its payload."""
    envelope = parse_envelope(content, MOST_BYTES, path)
    try:
        header = msgspec.json.decode(envelope.payload, type=_SubmissionHeader)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        header = _SubmissionHeader("")
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
        # a receipt of another statement would date the wrong one once it is filed
        if (opened.subject_digest, opened.predicate.decision) != (payload_sha256, decided.decision):
            raise RefusedError("receipt-differs", "the receipt is of something else than was sent", where=path)
    return decided


def _write_receipt(sent: Sent, file: Path) -> Sent:
    """Write the receipt next to the file that was sent. An earlier one is not replaced: it dates the file better."""
    if sent.decided.receipt is None or sent.kind in SUPPORTING:
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


NOT_OURS = ("token-missing", "token-scope", "token-centre-differs", "not-found", "records-unknown")


class Pulled(NamedTuple):
    """What was fetched."""

    files: tuple[Path, ...]
    not_there: tuple[str, ...] = ()  # what was not handed out, and why
    unchanged: int = 0  # files that were there before


def pull_statement(registry: RegistryClient, payload_sha256: str, out: Path) -> Pulled:
    """Write a statement, its receipts and, where the token has the right to them, its records.

    The first receipt dates the statement. That of the highest level is written where it is another one.

    Raises:
        InputError: `output-exists`.
        RefusedError: the registry has no such statement, or hands out another.
    """
    # before anything is fetched: half a statement beside an older half would verify as neither
    for name in (STATEMENT, RECEIPT, RECORDS_RECEIPT, RECORDS):
        refuse_existing(out / name)
    contents = {STATEMENT: registry.envelope(payload_sha256), RECEIPT: registry.receipt(payload_sha256)}
    if (highest := registry.receipt(payload_sha256, "highest")) != contents[RECEIPT]:
        contents[RECORDS_RECEIPT] = highest
    for name, content in contents.items():
        if name != STATEMENT:
            _check_receipt(content, payload_sha256)
    for name, content in contents.items():
        write_atomic(out / name, content, new=True)
    files = tuple(out / name for name in contents)
    try:
        registry.records(payload_sha256, out / RECORDS)
    except RefusedError as error:
        if error.code not in NOT_OURS:
            raise
        return Pulled(files, (f"{RECORDS}: {error.what} [{error.code}]",))
    return Pulled((*files, out / RECORDS))


def _check_receipt(content: bytes, payload_sha256: str) -> None:
    """Refuse a receipt that is of another statement than the one that was asked for."""
    parsed = parse_envelope(content, CAPS.witness_bytes, "the receipt")
    if parse_payload("receipt", parsed.payload, "the receipt").subject_digest != payload_sha256:
        raise RefusedError("receipt-differs", "the receipt is of another statement", where=payload_sha256)


def pull_campaign(registry: RegistryClient, campaign_sha256: str, out: Path) -> Pulled:
    """Write the records that were posted of a campaign, as ``petaseal certify`` reads them; more may come later.

    Raises:
        RefusedError: `campaign-differs`, the registry hands out a record of another campaign.
        InputError: `output-exists`, another record of a node is there; or `output-not-writable`.
    """
    files, unchanged = [], 0
    for content in registry.campaign_records(campaign_sha256):
        payload = parse_envelope(content, CAPS.record_bytes, "a record").payload
        record = parse_payload("node-record", payload, "a record").predicate
        # the name of the file comes from the record, and so must not be believed before this
        if record.campaign_sha256 != campaign_sha256:
            raise RefusedError("campaign-differs", "is of another campaign", where=record.node_id)
        file = out / f"{record.node_id}{RECORD_SUFFIX}"
        if not os.path.lexists(file):
            with replacing(file, new=True, flush="content") as written:
                written.write(content)
            files.append(file)
        elif file.read_bytes() == content:
            unchanged += 1
        else:
            raise OutputExistsError(file, "is there with another content", "choose another --out")
    if files:
        flush_folder(out, needed=False)  # once for all of their names
    return Pulled(tuple(files), () if files or unchanged else ("no record was posted yet",), unchanged)


def pull_nodes(registry: RegistryClient, out: Path) -> Pulled:
    """Write what each node gives now, for programs and for spreadsheets; what was there is replaced."""
    nodes = msgspec.json.format(msgspec.json.encode(registry.nodes_now()), indent=1)
    write_atomic(out / "nodes.json", nodes + b"\n")
    write_atomic(out / "nodes.csv", registry.nodes_csv().encode())
    return Pulled((out / "nodes.json", out / "nodes.csv"))


def pull_feed(registry: RegistryClient, out: Path) -> Pulled:
    """Write the feed as it is now, for programs and for spreadsheets; what was there is replaced."""
    capacity = msgspec.json.format(msgspec.json.encode(registry.capacity()), indent=1)
    write_atomic(out / "capacity.json", capacity + b"\n")
    write_atomic(out / "capacity.csv", registry.capacity_csv().encode())
    return Pulled((out / "capacity.json", out / "capacity.csv"))
