"""Answers of the registry, and the OpenAPI document, in which routes say what they answer.

An answer is JSON by msgspec. An error is reported as ``application/problem+json`` (RFC 9457) with a reason code. What
failed inside is written to the log alone, under the id that the answer bears (`certify.registry.base.failures`).
Every error of every route is one `Problem`, and so the document says it once for each route, as its default.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from bench.errors import one_line
from certify.policy.reasons import reasons
from certify.registry.api import common, views
from certify.registry.base.failures import ErrorAnswer, failure_of

PROBLEM = "application/problem+json"


class Json(Response):
    """An answer that msgspec writes."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the bytes of a value."""
        return msgspec.json.encode(content)


def problem(failure: ErrorAnswer, request: Request, receipt: str | None = None) -> Response:
    """Return the problem document of an error, as an answer."""
    request.state.code = failure.code  # for the log
    reason = reasons().get(failure.code)
    content = common.Problem(
        type=f"urn:petaseal:reason:{failure.code}",
        title=HTTPStatus(failure.status).phrase if reason is None else reason.en,
        status=failure.status,
        detail=failure.detail,
        code=failure.code,
        instance=request.state.request_id,
        receipt=receipt,
    )
    headers = dict(failure.headers)
    if failure.status == 401:  # a browser asks its user on a page, and never behind an API's back
        scheme = "Bearer" if request.url.path.startswith("/v1") else "Basic"
        headers["WWW-Authenticate"] = f'{scheme} realm="petaseal"'
    return Json(content, failure.status, headers, PROBLEM)


async def handle(request: Request, error: Exception) -> Response:
    """Answer an error that the framework itself found."""
    failure = failure_of(error)
    if failure.status == 405:  # the framework names the methods of one route; an address may have several
        failure = failure._replace(headers={"Allow": ", ".join(_methods(request))})
    return problem(failure, request)


def _methods(request: Request) -> list[str]:
    """Return the methods that an address knows."""
    routes = request.app.router.routes
    known = []
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        scope: Scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in routes):
            known.append(method)
    return [*known, "HEAD"] if "GET" in known else known


def decided(decision: common.Decided, request: Request, location: str | None = None) -> Response:
    """Return the answer to a submission: 201 accepted, 200 accepted before, 422 refused (and stored as refused)."""
    if decision.decision == "refused":
        # 422 and not 200: a script that looks at the status alone must not take a refusal for success
        assert decision.code is not None
        detail = decision.detail or "the submission was refused"
        return problem(ErrorAnswer(422, decision.code, one_line(detail)), request, decision.receipt)
    return Json(decision, 200 if decision.repeated else 201, {"Location": location} if location else None)


TEMPLATE = "#/components/schemas/{name}"
PUBLISHED_AS = {"CapacityFeed": "Capacity"}  # type -> its name in this document, which stays
KINDS: tuple[Any, ...] = (
    common.Problem,
    common.Health,
    common.Service,
    common.Decided,
    common.Page[views.Decision],
    common.Page[views.StatementSummary],
    views.StatementDetail,
    common.Page[views.NodeCapacity],
    common.Page[views.CentreSummary],
    views.CentreDetail,
    views.CapacityFeed,
    views.Lifecycle,
    tuple[views.City, ...],
    views.City,
    common.Page[views.Alarm],
    common.ChallengeAsk,
    common.Drawn,
    common.Page[views.AttemptLine],
    common.Nonce,
    common.Beat,
    common.ActAsk,
    common.ActDone,
    views.DeviceHistory,
    common.Page[views.ExternalIdentifier],
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


def _published(kinds: tuple[Any, ...]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the schemas of types and of what they consist of, under the names that they were published under."""
    made = msgspec.json.encode(msgspec.json.schema_components(kinds, ref_template=TEMPLATE)).decode()
    for name, published in PUBLISHED_AS.items():
        for before, after in (
            (f'"{name}"', f'"{published}"'),
            (TEMPLATE.format(name=name), TEMPLATE.format(name=published)),
        ):
            made = made.replace(before, after)
    parts: tuple[list[dict[str, Any]], dict[str, Any]] = tuple(msgspec.json.decode(made))
    return parts


def schema(kind: Any) -> dict[str, Any]:
    """Return how a route names the schema of a type."""
    (reference,), _ = _published((kind,))
    return reference


def answers(kind: Any, status: int = 200, description: str = "Done", **further: str) -> Answers:
    """Return what a route answers where all is well, for its `responses=`.

    Args:
        kind: type of the JSON answer; None where there is none.
        status: of it.
        description: what that status means.
        further: further statuses with the same answer, as ``s200="..."``.
    """
    content = {} if kind is None else {"content": {"application/json": {"schema": schema(kind)}}}
    texts = {status: description} | {int(name.removeprefix("s")): text for name, text in further.items()}
    return {each: {"description": text, **content} for each, text in texts.items()}


def files(media_type: str, description: str) -> Answers:
    """Return the same of a route that answers with bytes."""
    return {200: {"description": description, "content": {media_type: {"schema": _BYTES}}}}


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
    # from msgspec, which reads and writes them: a second set of models could differ from it
    _, schemas = _published(KINDS)
    components = made.setdefault("components", {})
    components["schemas"] = {**schemas, "Envelope": ENVELOPE_SCHEMA}
    components.setdefault("securitySchemes", {})["token"] = {"type": "http", "scheme": "bearer"}
    failed = {"description": "An error", "content": {PROBLEM: {"schema": schema(common.Problem)}}}
    for path, operations in made["paths"].items():
        for operation in operations.values():
            # FastAPI's own error type, which no route of this service answers with
            operation["responses"].pop("422", None)
            operation["responses"].setdefault("default", failed)
            if not public_read and path not in ("/healthz", "/readyz", "/v1/heartbeats"):
                operation.setdefault("security", [{"token": []}])
    return made
