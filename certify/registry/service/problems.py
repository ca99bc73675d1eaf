"""What every answer of the registry looks like: JSON by msgspec, and one place where errors become statuses.

An error is told as ``application/problem+json`` (RFC 9457) with a reason code. What failed inside is told to the log,
under the id that the answer bears, and to nobody else.
"""

from __future__ import annotations

import errno
import traceback
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from bench.errors import InputError, PetasealError, RefusedError, one_line, public_text
from bench.record.fields import in_words
from certify.policy.reasons import reasons
from certify.registry.api import Decided, Problem

PROBLEM = "application/problem+json"
RETRY_S = 5  # after which a service that is unavailable is asked again

STATUS: dict[str, int] = {  # of codes whose status is not 422
    "request-invalid": 422,
    "cursor-invalid": 400,
    "body-cut-off": 400,
    "body-invalid": 400,
    "token-missing": 401,
    "token-invalid": 401,
    "token-scope": 403,
    "token-centre-differs": 403,
    "not-found": 404,
    "statement-unknown": 404,
    "centre-unknown": 404,
    "campaign-unknown": 404,
    "city-unknown": 404,
    "device-unknown": 404,
    "node-unknown": 404,
    "pool-unknown": 404,
    "method-not-allowed": 405,
    "body-slow": 408,
    "act-out-of-order": 409,
    "nonce-differs": 409,
    "document-too-large": 413,
    "media-type-wrong": 415,
    "rate-limited": 429,
    "internal": 500,
    "unavailable": 503,
    "worker-lost": 503,
    "disk-full": 507,
}
# What a client cannot have caused: the registry's own files, and every other InputError than those above. It is told
# that the service is not available, and no more.
OWN = ("trust-root-", "key-file-", "key-passphrase-")
_BY_STATUS = {404: "not-found", 405: "method-not-allowed", 413: "document-too-large", 415: "media-type-wrong"}


class LimitedError(RefusedError):
    """Too many requests."""

    def __init__(self, what: str, retry_after_s: int) -> None:
        super().__init__("rate-limited", what, fix=f"try again after {retry_after_s} s")
        self.retry_after_s = retry_after_s


class Json(Response):
    """An answer that msgspec writes."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the bytes of a value."""
        return msgspec.json.encode(content)


class Failure(NamedTuple):
    """An error as it is answered; `logged` is for the log alone."""

    status: int
    code: str
    detail: str
    headers: Mapping[str, str] = {}
    logged: Mapping[str, Any] = {}


def failure_of(error: Exception) -> Failure:
    """Return what is answered to an error, whichever it is."""
    match error:
        case LimitedError():
            return _told(error, 429, {"Retry-After": str(error.retry_after_s)})
        case PetasealError() if error.code.startswith(OWN) or (
            isinstance(error, InputError) and error.code not in STATUS
        ):
            return Failure(503, "unavailable", _WAIT, _RETRY, {"error": one_line(str(error))})
        case PetasealError():
            status = STATUS.get(error.code, 422)
            return _told(error, status, _RETRY if status == 503 else {})
        case RequestValidationError():
            found = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
            return Failure(422, "request-invalid", one_line(found))
        case msgspec.ValidationError() | msgspec.DecodeError():
            return Failure(422, "request-invalid", one_line(in_words(error)))
        case HTTPException():
            code = _BY_STATUS.get(error.status_code, "request-invalid" if error.status_code < 500 else "unavailable")
            detail = one_line(error.detail or HTTPStatus(error.status_code).phrase)
            return Failure(error.status_code, code, detail, error.headers or {})
        case DataError():  # PostgreSQL keeps no text with a NUL, and no number beyond its type
            return Failure(422, "request-invalid", "a text or a number of it cannot be stored")
        case OperationalError() | InterfaceError() | PoolTimeout():
            cause = one_line(str(error.orig), 200) if isinstance(error, DBAPIError) else "no connection is free"
            full = "disk is full" in cause or "No space left" in cause
            logged = {"error": type(error).__name__, "cause": cause}
            return _FULL._replace(logged=logged) if full else Failure(503, "unavailable", _WAIT, _RETRY, logged)
        case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _FULL._replace(logged={"error": errno.errorcode[error.errno]})
        case _:
            frames = traceback.extract_tb(error.__traceback__)[-12:]  # places, and no text: it could quote a document
            where = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
            detail = "the registry failed; its log tells why under this id"
            return Failure(500, "internal", detail, {}, {"error": type(error).__name__, "where": where})


_WAIT = "the registry cannot answer at the moment; nothing was done"
_RETRY = {"Retry-After": str(RETRY_S)}
_FULL = Failure(507, "disk-full", "the registry's disk is full; nothing was stored")


def _told(error: PetasealError, status: int, headers: Mapping[str, str]) -> Failure:
    place = "" if error.where is None else f"{public_text(error.where)}: "
    fix = f"; {error.fix}" if error.fix else ""
    return Failure(status, error.code, one_line(f"{place}{error.what}{fix}"), headers)


def problem(failure: Failure, request: Request, receipt: str | None = None) -> Response:
    """Return the answer that tells an error."""
    request.state.code = failure.code  # for the log
    reason = reasons().get(failure.code)
    content = Problem(
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


def decided(decision: Decided, request: Request, location: str | None = None) -> Response:
    """Return the answer to a submission: 201 accepted, 200 accepted before, 422 refused and kept as refused."""
    if decision.decision == "refused":
        assert decision.code is not None
        detail = decision.detail or "the submission was refused"
        return problem(Failure(422, decision.code, one_line(detail)), request, decision.receipt)
    return Json(decision, 200 if decision.repeated else 201, {"Location": location} if location else None)
