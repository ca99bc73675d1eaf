"""The OpenAPI document: what routes say of themselves, with the schemas of the types that msgspec reads and writes.

Every error of every route is one `Problem`, and so the document says it once for each route, as its default.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from certify.registry import api as types
from certify.registry.service.problems import PROBLEM

TEMPLATE = "#/components/schemas/{name}"
KINDS: tuple[Any, ...] = (
    types.Problem,
    types.Health,
    types.Service,
    types.Decided,
    types.Page[types.Decision],
    types.Page[types.StatementSummary],
    types.StatementDetail,
    types.Page[types.NodeCapacity],
    types.Page[types.CentreSummary],
    types.CentreDetail,
    types.Capacity,
    types.Lifecycle,
    tuple[types.City, ...],
    types.City,
    types.Page[types.Alarm],
    types.ChallengeAsk,
    types.Drawn,
    types.Page[types.AttemptLine],
    types.Nonce,
    types.Beat,
    types.ActAsk,
    types.ActDone,
    types.DeviceHistory,
    types.Page[types.ExternalIdentifier],
)
ENVELOPE_SCHEMA = {
    "title": "Envelope",
    "description": "A DSSE envelope; its payload is a document of petaseal in canonical JSON.",
    "type": "object",
    "properties": {
        "payload": {"type": "string", "contentEncoding": "base64"},
        "payloadType": {"type": "string"},
        "signatures": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "properties": {"keyid": {"type": "string"}, "sig": {"type": "string", "contentEncoding": "base64"}},
                "required": ["keyid", "sig"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["payload", "payloadType", "signatures"],
    "additionalProperties": False,
}
_ENVELOPE = {"$ref": TEMPLATE.format(name="Envelope")}
_BYTES = {"type": "string", "format": "binary"}
Answers = dict[int | str, dict[str, Any]]


def schema(kind: Any) -> dict[str, Any]:
    """Return how a route names the schema of a type."""
    (found,), _ = msgspec.json.schema_components((kind,), ref_template=TEMPLATE)
    return found


def answers(kind: Any, status: int = 200, told: str = "Done", **others: str) -> Answers:
    """Return what a route answers where all is well, for its `responses=`.

    Args:
        kind: type of the JSON answer; None where there is none.
        status: of it.
        told: what that status means.
        others: further statuses with the same answer, as ``s200="..."``.
    """
    content = {} if kind is None else {"content": {"application/json": {"schema": schema(kind)}}}
    texts = {status: told} | {int(name.removeprefix("s")): text for name, text in others.items()}
    return {each: {"description": text, **content} for each, text in texts.items()}


def files(media_type: str, told: str) -> Answers:
    """Return the same of a route that answers with bytes."""
    return {200: {"description": told, "content": {media_type: {"schema": _BYTES}}}}


def takes(media_types: Sequence[str], kind: Any = None) -> dict[str, Any]:
    """Return what a route takes, for its `openapi_extra=`: a type, an envelope, or bytes."""

    def of(media_type: str) -> dict[str, Any]:
        if kind is not None:
            return schema(kind)
        return _ENVELOPE if "json" in media_type.split("/")[1].split("+") else _BYTES

    content = {media_type: {"schema": of(media_type)} for media_type in media_types}
    return {"requestBody": {"required": True, "content": content}}


def document(app: FastAPI, public_read: bool) -> dict[str, Any]:
    """Return the OpenAPI document of an application."""
    made = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version=app.openapi_version,
        summary=app.summary,
        description=app.description,
        routes=app.routes,
    )
    _, schemas = msgspec.json.schema_components(KINDS, ref_template=TEMPLATE)
    components = made.setdefault("components", {})
    components["schemas"] = {**schemas, "Envelope": ENVELOPE_SCHEMA}
    components.setdefault("securitySchemes", {})["token"] = {"type": "http", "scheme": "bearer"}
    failed = {"description": "An error", "content": {PROBLEM: {"schema": schema(types.Problem)}}}
    for path, operations in made["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            operation["responses"].setdefault("default", failed)
            if not public_read and path not in ("/healthz", "/readyz", "/v1/heartbeats"):
                operation.setdefault("security", [{"token": []}])
    return made
