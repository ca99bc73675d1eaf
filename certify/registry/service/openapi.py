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
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from bench.errors import one_line
from certify.policy.reasons import reasons
from certify.registry.api import cities, common, heartbeats, nodes, oversight, reached, views
from certify.registry.base.failures import ErrorAnswer, failure_of
from certify.registry.service import examples
from certify.registry.service.parameters import describe_parameter

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
    headers = {"Location": f"{request.app.state.root_path}{location}"} if location else None
    return Json(decision, 200 if decision.repeated else 201, headers)


OPEN = ("/healthz", "/readyz", "/v1/heartbeats", "/v1/heartbeats/batch", "/v1/nonces")  # no token is needed, ever
ALWAYS = (429, 500, 503)  # statuses of errors that every operation may answer
BODY = (400, 408, 409, 413, 415, 422, 507)  # and of those that read a body
TAGS = {
    "service": "Whether the registry answers, and how it fares",
    "presence": "Nodes say that they are there: nonces and heartbeats",
    "submit": "Documents are submitted, and the platform acts",
    "read": "What stands in the registry now",
    "oversight": "Alarms and the audit log",
}
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
    cities.Lifecycle,
    tuple[cities.City, ...],
    cities.City,
    reached.Trend,
    tuple[reached.Reached, ...],
    common.Page[views.Alarm],
    common.Page[oversight.AlarmGroup],
    oversight.AcknowledgementAsk,
    oversight.Acknowledgement,
    common.Page[oversight.AuditLine],
    common.ChallengeAsk,
    common.Drawn,
    common.Page[views.AttemptLine],
    common.Nonce,
    heartbeats.NoncesAsk,
    heartbeats.Nonces,
    common.Beat,
    heartbeats.BeatLines,
    common.ActAsk,
    common.ActDone,
    views.DeviceHistory,
    nodes.NodeFeed,
    nodes.Aliases,
    nodes.AliasesAsk,
    common.Page[views.ExternalIdentifier],
)
ENVELOPE_SCHEMA = {
    "title": "Envelope",
    "description": "A DSSE envelope of a document of petaseal. Payload and envelope are canonical JSON: no white space "
    "between tokens, keys in order.",
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
OCTETS = "application/octet-stream"
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
        kind: type of the JSON answer.
        status: of it.
        description: what that status means.
        further: further statuses with the same answer, as ``s200="..."``.
    """
    texts = {status: description} | {int(name.removeprefix("s")): text for name, text in further.items()}
    return {
        each: {"description": text, "content": {"application/json": {"schema": schema(kind)}}}
        for each, text in texts.items()
    }


def conditional(described: Answers) -> Answers:
    """Return the same of a route that answers 304 to who names the ETag of what it would answer."""
    return {**described, 304: {"description": "Nothing changed since the answer with the ETag in If-None-Match"}}


def csv_too(described: Answers) -> Answers:
    """Return the same of a list that is to be had as CSV too."""
    described[200]["content"]["text/csv"] = {"schema": {"type": "string"}}
    described[200]["headers"] = {
        "Link": {"description": "The page that follows, as rel=next (RFC 8288)", "schema": {"type": "string"}}
    }
    return described


def text(description: str, example: str) -> Answers:
    """Return what a route answers that writes plain text."""
    return {
        200: {"description": description, "content": {"text/plain": {"schema": {"type": "string"}, "example": example}}}
    }


def stored(media_type: str, description: str, document: str) -> Answers:
    """Return what a route answers that hands out documents: one envelope, or JSON lines of many.

    Generated clients know no JSON lines, and take them as bytes: who asks for these by Accept gets them.
    """
    if media_type.endswith("+json"):
        return {200: {"description": description, "content": {media_type: _envelope(document)}}}
    content = {each: _lines(document) for each in (media_type, OCTETS)}
    return {200: {"description": description, "content": content}}


def takes(media_types: Sequence[str], kind: Any = None, document: str = "") -> dict[str, Any]:
    """Return what a route takes, for its `openapi_extra=`: a type, an envelope, or JSON lines of envelopes.

    One media type stands in the document for all that are taken: a generated client chooses no other by itself, and
    generators warn of those that they do not know. The description names all of them.

    Args:
        media_types: all that the route takes.
        kind: type of a JSON body that is no envelope.
        document: kind of the documents in envelopes.
    """
    if kind is not None:
        described, media_type, content = "JSON", media_types[0], {"schema": schema(kind)}
    elif "application/json" in media_types:
        described, media_type, content = f"A {document} in its envelope", "application/json", _envelope(document)
    else:
        described, media_type, content = f"An envelope of a {document} a line", OCTETS, _lines(document)
    body = {
        "required": True,
        "description": f"{described}; as {' or '.join(media_types)}, plain or with Content-Encoding gzip.",
        "content": {media_type: content},
    }
    return {"requestBody": body}


def _envelope(document: str) -> dict[str, Any]:
    return {"schema": _ENVELOPE, "example": examples.envelope_example(document)}


def _lines(document: str) -> dict[str, Any]:
    return {"schema": _BYTES, "example": examples.lines_example(document)}


def operation_id(route: APIRoute) -> str:
    """Return what generated clients call an operation: the name of the function that answers it."""
    return route.name


def document(app: FastAPI, public_read: bool, root_path: str = "") -> dict[str, Any]:
    """Return the OpenAPI document of an application, whose addresses begin with `root_path`."""
    made = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version=app.openapi_version,
        summary=app.summary,
        description=app.description,
        routes=app.routes,
        tags=[{"name": name, "description": description} for name, description in TAGS.items()],
        servers=[{"url": root_path or "/"}],
    )
    # from msgspec, which reads and writes them: a second set of models could differ from it
    references, schemas = _published(KINDS)
    by_schema = {msgspec.json.encode(each, order="sorted"): kind for each, kind in zip(references, KINDS, strict=True)}
    components = made.setdefault("components", {})
    components["schemas"] = {**schemas, "Envelope": ENVELOPE_SCHEMA}
    components["responses"] = {"Problem": _problem("An error, whose reason code is `code`")}
    components.setdefault("securitySchemes", {})["token"] = {"type": "http", "scheme": "bearer"}
    for path, operations in made["paths"].items():
        for operation in operations.values():
            if not public_read and path not in OPEN:
                operation.setdefault("security", [{"token": []}])
            _describe(operation, path, by_schema)
    return made


def _problem(description: str) -> dict[str, Any]:
    content = {"schema": schema(common.Problem), "example": examples.example(common.Problem)}
    return {"description": description, "content": {PROBLEM: content}}


def _describe(operation: dict[str, Any], path: str, by_schema: dict[bytes, Any]) -> None:
    """Add to an operation what follows from what it is: summary, examples, and the errors that it may answer."""
    operation["summary"] = operation["description"].partition("\n")[0].rstrip(".")
    for parameter in operation.get("parameters", ()):
        describe_parameter(parameter)
    contents = [answer.get("content", {}) for answer in operation["responses"].values()]
    for content in [*contents, operation.get("requestBody", {}).get("content", {})]:
        # FastAPI puts null where a route's response class has no media type
        kind = by_schema.get(msgspec.json.encode(content.get("application/json", {}).get("schema"), order="sorted"))
        if kind is not None:
            content["application/json"]["example"] = examples.example(kind)
            if "text/csv" in content:
                content["text/csv"]["example"] = examples.csv_example(kind)
    # FastAPI's own error type, which no route of this service answers with
    operation["responses"].pop("422", None)
    statuses = {
        *ALWAYS,
        *(BODY if "requestBody" in operation else ()),
        *((401, 403) if "security" in operation else ()),
    }
    statuses |= ({404} if "{" in path else set()) | ({400, 422} if "parameters" in operation else set())
    for status in sorted(statuses):
        operation["responses"].setdefault(str(status), {"$ref": "#/components/responses/Problem"})
    operation["responses"].setdefault("default", _problem("Another error"))
