"""Proofs of inclusion: that one record is among those of a statement, checkable without the others (RFC 6962).

A proof is a file of canonical JSON that is not signed: everything in it is checked against a statement that is.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from bench.errors import InputError, RefusedError
from bench.record import Count, Document, Name, NodeRecord, Positive, Sha256, encode, read_given, write_atomic
from bench.units import rate_text
from certify.audit.run import open_statement
from certify.documents import dsse
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import OpenedDocument, parse_payload
from certify.documents.merkle import prove, record_root, verify_inclusion
from certify.documents.statement import CapacityStatement
from certify.statement.records import chunks_of, envelopes
from certify.trust.opening import check_payload_type
from certify.trust.store import Anchor

KIND: Literal["urn:petaseal:record-proof/v0.2"] = "urn:petaseal:record-proof/v0.2"
MOST_LEVELS = 64


class Proof(Document, frozen=True, kw_only=True):
    """One record and its way to the root. `record` is the exact line of ``records.jsonl``, in base64."""

    kind: Literal["urn:petaseal:record-proof/v0.2"]
    statement_sha256: Sha256  # of the statement's payload
    node_id: Name
    record: bytes
    leaf_index: Count
    tree_size: Positive
    audit_path: Annotated[tuple[Sha256, ...], Meta(max_length=MOST_LEVELS)]


def make_proof(statement: Path, records: Path, node_id: str) -> Proof:
    """Return the proof of one node's record. Signatures are not checked here, but by `check_proof`.

    Args:
        statement: the statement's file.
        records: ``records.jsonl`` or a folder of records.
        node_id: whose record is proven.

    Raises:
        InputError: `unknown-name`: no record is of that node.
        RefusedError: the records are not the statement's, or not whole.
    """
    content = read_given(statement, CAPS.statement_bytes)
    envelope = parse_envelope(content, CAPS.statement_bytes, statement)
    check_payload_type(envelope, statement)
    opened: OpenedDocument[CapacityStatement] = parse_payload("capacity-statement", envelope.payload, statement)
    digests: list[str] = []
    proven: tuple[str, bytes] | None = None
    for share in chunks_of(records)[0]:
        for where, line in envelopes(records, share):
            payload = parse_envelope(line, CAPS.record_bytes, where).payload
            digests.append(hashlib.sha256(payload).hexdigest())
            # The search for bytes first: parsing costs far more, and a statement has up to 200,000 records.
            if node_id.encode() in payload and _node_of(payload, where) == node_id:
                proven = digests[-1], line
            if len(digests) > CAPS.records:
                raise RefusedError("records-too-many", f"has more than {CAPS.records} records", where=records)
    if proven is None:
        raise InputError("unknown-name", f"there is no record of the node {node_id}", where=records)
    digests.sort()
    if record_root(digests) != opened.predicate.records_root:
        raise RefusedError("records-root", "are not the records of the statement", where=records)
    index = digests.index(proven[0])
    return Proof(
        kind=KIND,
        statement_sha256=opened.payload_sha256,
        node_id=node_id,
        record=proven[1],
        leaf_index=index,
        tree_size=len(digests),
        audit_path=tuple(step.hex() for step in prove([bytes.fromhex(d) for d in digests], index)),
    )


def _node_of(payload: bytes, where: object) -> str:
    record: NodeRecord = parse_payload("node-record", payload, where).predicate
    return record.node_id


def write_proof(proof: Proof, out: Path) -> None:
    """Write a proof; never over a file that is there.

    Raises:
        InputError: `output-exists`, or the file cannot be written.
    """
    write_atomic(out, encode(proof) + b"\n", new=True)


class Proven(NamedTuple):
    """A record that is proven to be a statement's, and what the proof does not show."""

    record: OpenedDocument[NodeRecord]
    not_checked: tuple[str, ...]


def check_proof(
    path: Path,
    statement: Path,
    anchor: Anchor,
    at: str,
    now: str,
    witnesses: tuple[Path, ...] = (),
    receipts: tuple[Path, ...] = (),
) -> Proven:
    """Return the record in a proof, after every check that needs no other record.

    Args:
        path: of the proof.
        statement: the signed statement.
        anchor: whose keys count.
        at: the time that keys must be valid at.
        now: the present, at which a trust root must be fresh.
        witnesses: documents that date the statement, in addition to those in its folder.
        receipts: registries' receipts, likewise.

    Raises:
        RefusedError: `proof-invalid`, `proof-differs`, or a code of the statement or the record.
        InputError: a file cannot be read.
    """
    verifier, opened, not_checked = open_statement(statement, anchor, at, now, witnesses, receipts=receipts)
    content = read_given(path, CAPS.proof_bytes)
    proof = _parse(content, path)
    if proof.statement_sha256 != opened.payload_sha256:
        raise RefusedError("proof-differs", "is of a record of another statement", where=path)
    record = verifier.record(proof.record, path)
    if record.predicate.node_id != proof.node_id:
        raise RefusedError("proof-invalid", "holds the record of another node than it names", where=path)
    s = opened.predicate
    steps = [bytes.fromhex(step) for step in proof.audit_path]
    leaf, root = bytes.fromhex(record.payload_sha256), bytes.fromhex(s.records_root)
    # The root stands twice in a statement: a proof against the one would say nothing of the other.
    if opened.subject_digest != s.records_root:
        raise RefusedError("records-root", "names one Merkle root as its subject and another inside", where=statement)
    if proof.tree_size != s.records or not verify_inclusion(leaf, proof.leaf_index, proof.tree_size, steps, root):
        raise RefusedError("proof-invalid", "does not lead to the root of the statement's records", where=path)
    campaign = (record.predicate.campaign_sha256, record.predicate.starts_at)
    if campaign != (s.campaign_sha256, s.starts_at):
        raise RefusedError("campaign-differs", "holds a record of another campaign than the statement's", where=path)
    return Proven(record, (*not_checked, "whether its figures count: that rests on all records"))


def _parse(content: bytes, path: Path) -> Proof:
    """Return a proof in its one form: canonical JSON and one newline.

    Raises:
        RefusedError: `proof-invalid`.
    """
    try:
        proof = dsse.decode_exact(content.removesuffix(b"\n"), Proof, path)
    except RefusedError as error:
        raise RefusedError("proof-invalid", f"is not a proof ({error.what})", where=path) from None
    if not content.endswith(b"\n"):
        raise RefusedError("proof-invalid", "does not end with a newline", where=path)
    return proof


def describe(proven: Proven) -> list[str]:
    """Return a proven record's figures as printed lines."""
    record = proven.record
    r = record.predicate
    text = [
        f"record     {record.payload_sha256}",
        f"           node {r.node_id}, campaign {r.campaign_id}, started {r.starts_at}",
        f"           sealed by {next(iter(record.signers))[:16]}…{' (self-asserted)' if record.self_asserted else ''}",
    ]
    for m in r.measurements:
        for f in m.figures():
            rates = f"certified {rate_text(f.certified_mflop_s)}, sustained {rate_text(f.sustained_mflop_s)}"
            text.append(f"{f.device:10} {m.workload}, {m.m} x {m.n} x {m.k}: {rates}")
    text += [f"{f.device:10} {f.precision}: no figure ({f.code})" for f in r.failures]
    text += [f"NOT CHECKED: {what}" for what in proven.not_checked]
    text.append("The record is among those of the statement.")
    return text


def as_json(proven: Proven) -> dict[str, object]:
    """Return a proven record as the JSON value of ``--json``."""
    return {
        "included": True,
        "payload_sha256": proven.record.payload_sha256,
        "self_asserted": proven.record.self_asserted,
        "not_checked": list(proven.not_checked),
        "predicate": msgspec.to_builtins(proven.record.predicate),
    }
