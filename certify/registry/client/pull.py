"""Fetching what a registry hands out: a statement with its proof and records, a campaign's records, the feed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.errors import OutputExistsError, RefusedError
from bench.record import refuse_existing, replacing, write_atomic
from bench.record.files import flush_folder
from certify.documents.caps import CAPS
from certify.documents.dsse import parse_envelope
from certify.documents.kinds import parse_payload
from certify.registry.client.client import Registry
from certify.registry.client.push import RECEIPT
from certify.statement.package import RECORDS, STATEMENT
from certify.statement.records import RECORD_SUFFIX

NOT_OURS = ("token-missing", "token-scope", "token-centre-differs", "not-found", "records-unknown")


class Pulled(NamedTuple):
    """What was fetched."""

    files: tuple[Path, ...]
    not_there: tuple[str, ...] = ()  # what was not handed out, and why
    unchanged: int = 0  # files that were there before


def pull_statement(registry: Registry, payload_sha256: str, out: Path) -> Pulled:
    """Write a statement, its receipt and, where the token has the right to them, its records.

    Raises:
        InputError: `output-exists`.
        RefusedError: the registry has no such statement, or hands out another.
    """
    for name in (STATEMENT, RECEIPT, RECORDS):
        refuse_existing(out / name)
    envelope, receipt = registry.envelope(payload_sha256), registry.receipt(payload_sha256)
    parsed = parse_envelope(receipt, CAPS.witness_bytes, "the receipt")
    if parse_payload("receipt", parsed.payload, "the receipt").subject_digest != payload_sha256:
        raise RefusedError("receipt-differs", "the receipt is of another statement", where=payload_sha256)
    write_atomic(out / STATEMENT, envelope, new=True)
    write_atomic(out / RECEIPT, receipt, new=True)
    try:
        registry.records(payload_sha256, out / RECORDS)
    except RefusedError as error:
        if error.code not in NOT_OURS:
            raise
        return Pulled((out / STATEMENT, out / RECEIPT), (f"{RECORDS}: {error.what} [{error.code}]",))
    return Pulled((out / STATEMENT, out / RECEIPT, out / RECORDS))


def pull_campaign(registry: Registry, campaign_sha256: str, out: Path) -> Pulled:
    """Write the records that were posted of a campaign, as ``petaseal certify`` reads them; more may come later.

    Raises:
        RefusedError: `campaign-differs`, the registry hands out a record of another campaign.
        InputError: `output-exists`, another record of a node is there; or `output-not-writable`.
    """
    files, unchanged = [], 0
    for content in registry.campaign_records(campaign_sha256):
        payload = parse_envelope(content, CAPS.record_bytes, "a record").payload
        record = parse_payload("node-record", payload, "a record").predicate
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


def pull_feed(registry: Registry, out: Path) -> Pulled:
    """Write the feed as it is now, for programs and for spreadsheets; what was there is replaced."""
    capacity = msgspec.json.format(msgspec.json.encode(registry.capacity()), indent=1)
    write_atomic(out / "capacity.json", capacity + b"\n")
    write_atomic(out / "capacity.csv", registry.capacity_csv().encode())
    return Pulled((out / "capacity.json", out / "capacity.csv"))
