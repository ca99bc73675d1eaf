"""The one place where an error becomes an HTTP status, a reason code for the client, and details for the log.

An answer names a reason code and a sentence. What failed inside goes to the log, under the id that the answer bears.
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

from bench.errors import InputError, PetasealError, RefusedError, one_line, public_text
from bench.record.fields import in_words

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
    "alarm-unknown": 404,
    "alarm-not-acknowledged": 409,
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
    "batch-too-large": 413,
    "document-too-large": 413,
    "media-type-wrong": 415,
    "rate-limited": 429,
    "internal": 500,
    "unavailable": 503,
    "worker-lost": 503,
    "trust-not-current": 503,
    "disk-full": 507,
}


# What a client cannot have caused: the registry's own files, and every other InputError than those above. It is told
# that the service is not available, and no more.
INTERNAL_CODES = ("trust-root-", "key-file-", "key-passphrase-")


_BY_STATUS = {404: "not-found", 405: "method-not-allowed", 413: "document-too-large", 415: "media-type-wrong"}


class LimitedError(RefusedError):
    """Too many requests."""

    def __init__(self, what: str, retry_after_s: int) -> None:
        super().__init__("rate-limited", what, fix=f"try again after {retry_after_s} s")
        self.retry_after_s = retry_after_s


class ErrorAnswer(NamedTuple):
    """The HTTP answer to an error; `logged` goes to the log and never to the client."""

    status: int
    code: str
    detail: str
    headers: Mapping[str, str] = {}
    logged: Mapping[str, Any] = {}


def failure_of(error: Exception) -> ErrorAnswer:
    """Return what is answered to an error, whichever it is."""
    match error:
        case LimitedError():
            return _client_answer(error, 429, {"Retry-After": str(error.retry_after_s)})
        # order matters: an asker must not learn from a 422 that the registry's own key file cannot be read
        case PetasealError() if error.code.startswith(INTERNAL_CODES) or (
            isinstance(error, InputError) and error.code not in STATUS
        ):
            return ErrorAnswer(503, "unavailable", _WAIT, _RETRY, {"error": one_line(str(error))})
        case PetasealError():
            status = STATUS.get(error.code, 422)
            return _client_answer(error, status, _RETRY if status == 503 else {})
        case RequestValidationError():
            faults = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
            return ErrorAnswer(422, "request-invalid", one_line(faults))
        case msgspec.ValidationError() | msgspec.DecodeError():
            return ErrorAnswer(422, "request-invalid", one_line(in_words(error)))
        case HTTPException():
            code = _BY_STATUS.get(error.status_code, "request-invalid" if error.status_code < 500 else "unavailable")
            detail = one_line(error.detail or HTTPStatus(error.status_code).phrase)
            return ErrorAnswer(error.status_code, code, detail, error.headers or {})
        case DataError():  # PostgreSQL keeps no text with a NUL, and no number beyond its type
            return ErrorAnswer(422, "request-invalid", "a text or a number of it cannot be stored")
        case OperationalError() | InterfaceError() | PoolTimeout():
            cause = one_line(str(error.orig), 200) if isinstance(error, DBAPIError) else "no connection is free"
            full = "disk is full" in cause or "No space left" in cause
            logged = {"error": type(error).__name__, "cause": cause}
            return _FULL._replace(logged=logged) if full else ErrorAnswer(503, "unavailable", _WAIT, _RETRY, logged)
        case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _FULL._replace(logged={"error": errno.errorcode[error.errno]})
        # anything else is a fault of the program: a code and an id for the asker, places for the log
        case _:
            frames = traceback.extract_tb(error.__traceback__)[-12:]  # places, and no text: it could quote a document
            where = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
            detail = "the registry failed; its log tells why under this id"
            return ErrorAnswer(500, "internal", detail, {}, {"error": type(error).__name__, "where": where})


_WAIT = "the registry cannot answer at the moment; nothing was done"


_RETRY = {"Retry-After": str(RETRY_S)}


_FULL = ErrorAnswer(507, "disk-full", "the registry's disk is full; nothing was stored")


def _client_answer(error: PetasealError, status: int, headers: Mapping[str, str]) -> ErrorAnswer:
    place = "" if error.where is None else f"{public_text(error.where)}: "
    fix = f"; {error.fix}" if error.fix else ""
    return ErrorAnswer(status, error.code, one_line(f"{place}{error.what}{fix}"), headers)
