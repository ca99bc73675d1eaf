"""Routes that hand out stored bytes as they came: envelopes, receipts, records. Each bears its digest."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, Response, StreamingResponse

from bench.errors import InputError
from certify.registry.api.common import WhichReceipt
from certify.registry.base.access import operator_of
from certify.registry.base.registry import Registry
from certify.registry.service.openapi import OCTETS, conditional, stored
from certify.registry.service.parameters import Digest, Holder, registry_of
from certify.registry.state import attempts, queries
from certify.registry.state.cache import not_modified

DSSE = "application/vnd.petaseal.dsse+json"
LINES = "application/jsonl"

router = APIRouter()


@router.get(
    "/statements/{sha256}/envelope",
    responses=conditional(stored(DSSE, "As it was signed", "capacity-statement")),
    response_class=Response,
)
def get_envelope(request: Request, sha256: Digest) -> Response:
    """Hand out a statement as its operator signed it."""
    registry = registry_of(request)
    with registry.store.reading() as connection:
        row = queries.statement_row(connection, sha256)
    name = f"{row.centre_id}-{row.sequence}.statement.dsse.json"
    return _stored(request, registry, row.envelope_sha256, DSSE, name)


@router.get(
    "/statements/{sha256}/receipt",
    responses=conditional(stored(DSSE, "That it was accepted", "receipt")),
    response_class=Response,
)
def get_receipt(request: Request, sha256: Digest, which: WhichReceipt = "first") -> Response:
    """Hand out a signed receipt that a statement was accepted: the first, which dates it, or that of the highest level.

    `highest` is the first receipt of the highest level that the registry reached with it: `recomputed` once its records
    were taken in. Until then both are the same.
    """
    with registry_of(request).store.reading() as connection:
        content = queries.receipt_of(connection, sha256, which)
    name = "receipt" if which == "first" else "receipt-highest"
    headers = _of_bytes(hashlib.sha256(content).hexdigest(), f"{sha256[:16]}.{name}.dsse.json")
    return not_modified(request, headers) or Response(content, 200, headers, DSSE)


@router.get(
    "/statements/{sha256}/records",
    responses=conditional(stored(LINES, "records.jsonl", "node-record")),
    response_class=Response,
)
def get_records(request: Request, sha256: Digest, token: Holder) -> Response:
    """Hand out a statement's records: to its operator and to the platform."""
    registry = registry_of(request)
    with registry.store.reading() as connection:
        row = queries.statement_row(connection, sha256)
        # records name every device: they are their operator's, and no reader's
        operator_of(token, row.centre_id)
        object_sha256 = queries.records_of(connection, sha256)
    return _stored(
        request, registry, object_sha256, _lines_type(request), f"{row.centre_id}-{row.sequence}.records.jsonl"
    )


@router.get(
    "/campaigns/{sha256}/records", responses=stored(LINES, "A record a line", "node-record"), response_class=Response
)
def get_campaign_records(request: Request, sha256: Digest, token: Holder) -> Response:
    """Hand out the records that were posted of a campaign: to its operator and to the platform."""
    registry = registry_of(request)
    with registry.store.reading() as connection:
        operator_of(token, attempts.centre_of_campaign(connection, sha256))
        posted = attempts.posted_records(connection, sha256)

    def lines() -> Iterator[bytes]:
        for _, envelope_sha256 in posted:
            yield registry.store.objects.read(envelope_sha256).rstrip(b"\n") + b"\n"

    headers = {"Content-Disposition": f'attachment; filename="{sha256[:16]}.records.jsonl"'}
    return StreamingResponse(lines(), 200, headers, _lines_type(request))


def _lines_type(request: Request) -> str:
    """Return the media type of JSON lines: as plain bytes for a client that asks for these alone."""
    return OCTETS if OCTETS in request.headers.get("accept", "") else LINES


def _stored(request: Request, registry: Registry, sha256: str, media_type: str, name: str) -> Response:
    """Hand out an object, whole or a range of it."""
    path = registry.store.objects.path(sha256)
    # a row names it: that is the registry's fault (503), and not the asker's (404)
    if not path.exists():
        raise InputError("file-missing", "an object that a row names is not there", where=path)
    headers = _of_bytes(sha256, name)
    return not_modified(request, headers) or FileResponse(path, 200, headers, media_type)


def _of_bytes(sha256: str, name: str) -> dict[str, str]:
    """Return the headers of stored bytes: their digest (RFC 9530, and as it was before), and what to save them as."""
    # RFC 9530 for today's clients, RFC 3230 for those that know the old header only
    digest = base64.b64encode(bytes.fromhex(sha256)).decode()
    return {
        "ETag": f'"{sha256}"',
        "Cache-Control": "no-cache",
        "Repr-Digest": f"sha-256=:{digest}:",
        "Digest": f"sha-256={digest}",
        "Content-Disposition": f'attachment; filename="{name}"',
    }
