"""The rim without a wire: how errors are told, what is counted, how bodies are unpacked, what is logged."""

from __future__ import annotations

import base64
import errno
import gzip
import itertools
import json
import logging
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import anyio
import msgspec
import pytest
from anyio import CapacityLimiter
from fastapi import FastAPI, Request
from sqlalchemy.exc import DataError, IntegrityError, OperationalError
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse
from starlette.types import Message

from bench.errors import InputError, PetasealError, RefusedError
from certify.policy.reasons import reasons
from certify.registry.api.common import Decided, Problem, Scope
from certify.registry.base import tokens
from certify.registry.base.access import operator_of
from certify.registry.base.failures import STATUS, LimitedError, failure_of
from certify.registry.base.registry import Limits, Registry
from certify.registry.base.tokens import Token
from certify.registry.service import parameters
from certify.registry.service.http.bodies import ENVELOPE, GZIP_MEMBERS, LINES, BodyRule, read, read_into
from certify.registry.service.middleware import Buckets, Gate, JsonLines, RequestMiddleware, client_of
from certify.registry.service.openapi import Json, decided, handle
from certify.registry.state.traffic import Traffic
from tests.certify.registry.within import Within

AT = "2026-03-01T00:00:00.000000Z"
SECRET = "never-to-be-seen"


@pytest.fixture
def database() -> str:
    """One is enough here."""
    return "sqlite"


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


# --- errors ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RefusedError("signature-invalid", "no"), 422, "signature-invalid"),
        (RefusedError("token-missing", "no"), 401, "token-missing"),
        (RefusedError("token-centre-differs", "no"), 403, "token-centre-differs"),
        (RefusedError("statement-unknown", "no"), 404, "statement-unknown"),
        (InputError("cursor-invalid", "no"), 400, "cursor-invalid"),
        (RefusedError("document-too-large", "no"), 413, "document-too-large"),
        (LimitedError("no", 7), 429, "rate-limited"),
        (RefusedError("trust-root-expired", SECRET), 503, "unavailable"),  # the registry's own root
        (InputError("yaml-invalid", SECRET, where="/srv/registry/policy.yaml"), 503, "unavailable"),
        (InputError("worker-lost", "no"), 503, "worker-lost"),
        (HTTPException(404), 404, "not-found"),
        (HTTPException(405, headers={"Allow": "GET"}), 405, "method-not-allowed"),
        (HTTPException(400), 400, "request-invalid"),
        (msgspec.ValidationError("no"), 422, "request-invalid"),
        (OperationalError("SELECT " + SECRET, {"a": SECRET}, Exception("connection refused")), 503, "unavailable"),
        (OperationalError("INSERT", {}, Exception("database or disk is full")), 507, "disk-full"),
        (DataError("INSERT", {"a": SECRET}, Exception(SECRET)), 422, "request-invalid"),
        (OSError(errno.ENOSPC, SECRET), 507, "disk-full"),
        (OSError(errno.EACCES, SECRET), 500, "internal"),
        (IntegrityError("INSERT " + SECRET, {"a": SECRET}, Exception(SECRET)), 500, "internal"),
        (RuntimeError(SECRET), 500, "internal"),
        (KeyError(SECRET), 500, "internal"),
    ],
)
def test_every_error_has_one_status_and_tells_no_secret(error: Exception, status: int, code: str) -> None:
    failure = failure_of(raised(error))
    assert (failure.status, failure.code) == (status, code)
    assert SECRET not in failure.detail
    if status == 500:
        assert SECRET not in str(failure.logged)
        assert any("test_middleware.py" in place for place in failure.logged["where"])
    if status in (429, 503):
        assert int(failure.headers["Retry-After"]) > 0


def test_an_error_names_no_place_of_this_machine() -> None:
    failure = failure_of(RefusedError("records-root", "differ", where="/srv/registry/objects/ab/abcd", fix="look"))
    assert failure.detail == "<path>: differ; look"


def test_every_code_with_a_status_is_a_reason_code() -> None:
    assert set(STATUS) <= set(reasons())


# --- what is counted -------------------------------------------------------------------------------------------------
def test_a_bucket_holds_a_burst_and_fills_up_again() -> None:
    buckets = Buckets(per_s=2.0, burst=3)
    for _ in range(3):
        buckets.take("a", 100.0)
    with pytest.raises(LimitedError) as caught:
        buckets.take("a", 100.0)
    assert caught.value.retry_after_s == 1
    buckets.take("b", 100.0)  # somebody else's is full
    buckets.take("a", 100.5)
    with pytest.raises(LimitedError):
        buckets.take("a", 100.5)
    for _ in range(3):  # never more than the burst
        buckets.take("a", 9999.0)
    with pytest.raises(LimitedError):
        buckets.take("a", 9999.0)
    with pytest.raises(LimitedError):
        buckets.take("a", 5.0)  # a clock that goes back fills nothing


def test_waiting_as_long_as_told_is_enough() -> None:
    buckets = Buckets(per_s=0.01, burst=1)
    buckets.take("a", 0.0)
    with pytest.raises(LimitedError) as caught:
        buckets.take("a", 3.0)
    buckets.take("a", 3.0 + caught.value.retry_after_s)


def test_the_number_of_remembered_clients_is_bounded() -> None:
    buckets = Buckets(per_s=1.0, burst=1, most=100)
    for number in range(1000):
        buckets.take(f"client {number}", 0.0)
    assert len(buckets._left) == 100


def test_clients_of_one_network_of_ipv6_are_one() -> None:
    assert client_of("2001:db8:1:2:aaaa::1") == client_of("2001:db8:1:2:ffff::9") != client_of("2001:db8:1:3::1")
    assert client_of("192.0.2.1") != client_of("192.0.2.2")
    assert client_of(None) == client_of(None)
    assert client_of("testclient") != client_of(None)


def test_a_token_has_its_own_bucket_and_submissions_their_own_budget() -> None:
    gate = Gate(Limits(requests_per_minute=1, burst=1, submissions_per_hour=2), itertools.repeat(0.0).__next__)
    token = Token(1, "t", "operator", "gz-test", AT)
    gate.request(token, "192.0.2.1")
    gate.request(None, "192.0.2.1")
    for client in (token, None):
        with pytest.raises(LimitedError):
            gate.request(client, "192.0.2.1")

    async def submit() -> None:
        for _ in range(2):
            async with gate.turn(token):
                pass
        async with gate.turn(token, counted=False):
            pass
        with pytest.raises(LimitedError):
            async with gate.turn(token):
                pass
        async with gate.turn(replace(token, id=2)):
            pass

    anyio.run(submit)


# --- bodies ----------------------------------------------------------------------------------------------------------
def body(
    pieces: list[bytes], *, cut: bool = False, kind: str = "application/json", silent: bool = False, **headers: str
) -> Request:
    """Return a request whose body comes in these pieces."""
    given = {"content-type": kind} | {name.replace("_", "-"): value for name, value in headers.items()}
    raw = [(name.encode(), value.encode()) for name, value in given.items()]

    async def messages() -> AsyncIterator[Message]:
        for piece in pieces:
            yield {"type": "http.request", "body": piece, "more_body": True}
        if silent:
            await anyio.sleep_forever()
        yield {"type": "http.disconnect"} if cut else {"type": "http.request", "body": b"", "more_body": False}

    return Request({"type": "http", "method": "POST", "headers": raw}, messages().__anext__)


def take(request: Request, cap_bytes: int = 2**20, idle_s: float = 30.0, whole_s: float | None = None) -> bytes:
    async def run() -> bytes:
        return await read(request, BodyRule((*ENVELOPE, *LINES), cap_bytes, idle_s, whole_s), CapacityLimiter(1))

    return anyio.run(run)


def refusal(request: Request, **how: Any) -> str:
    with pytest.raises(PetasealError) as caught:
        take(request, **how)
    return caught.value.code


def split(content: bytes, size: int) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


@pytest.mark.parametrize("size", [1, 7, 1000, 10**9])
def test_a_body_comes_in_any_pieces_packed_or_not(size: int) -> None:
    content = bytes(range(256)) * 8
    assert take(body(split(content, size))) == content
    assert take(body(split(gzip.compress(content, mtime=0), size), content_encoding="gzip")) == content
    members = b"".join(gzip.compress(part, mtime=0) for part in split(content, 500))
    assert take(body(split(members, size), content_encoding="x-gzip")) == content


def test_a_body_as_large_as_the_cap_is_taken_and_one_byte_more_is_not() -> None:
    content = b"x" * 3_000_000
    packed = gzip.compress(content, mtime=0)
    for pieces, encoding in ((split(content, 65_536), "identity"), ([packed], "gzip")):
        assert take(body(pieces, content_encoding=encoding), cap_bytes=3_000_000) == content
        assert refusal(body(pieces, content_encoding=encoding), cap_bytes=2_999_999) == "document-too-large"


def test_a_body_that_announces_too_much_is_refused_before_a_byte_is_read() -> None:
    request = body([], silent=True, content_length=str(2**30))
    assert refusal(request) == "document-too-large"
    assert refusal(body([], silent=True, content_length="many")) == "document-too-large"


def test_a_gzip_bomb_stops_at_the_cap() -> None:
    written = []
    bomb = gzip.compress(bytes(2**26), 1)  # 64 MiB in 300 kB

    async def run() -> None:
        how = BodyRule(LINES, 2**20, 30.0)
        request = body([bomb], kind=LINES[0], content_encoding="gzip")
        await read_into(request, how, lambda piece: written.append(len(piece)), CapacityLimiter(1))

    with pytest.raises(RefusedError) as caught:
        anyio.run(run)
    assert caught.value.code == "document-too-large"
    assert sum(written) <= 2**20


@pytest.mark.long
def test_members_without_content_do_not_burn_time_for_ever() -> None:
    empty = gzip.compress(b"", mtime=0)
    assert take(body([empty * 10], content_encoding="gzip")) == b""
    assert refusal(body([empty * (GZIP_MEMBERS + 1)], content_encoding="gzip"), cap_bytes=2**23) == "body-invalid"


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"not gzip",
        gzip.compress(b"content", mtime=0)[:-1],
        gzip.compress(b"content", mtime=0)[:5],
        gzip.compress(b"content", mtime=0) + b"trailing",
        zlib.compress(b"content"),
        gzip.compress(b"content", mtime=0)[:-8] + bytes(8),
    ],
)
def test_damaged_gzip_is_refused(packed: bytes) -> None:
    assert refusal(body([packed] if packed else [], content_encoding="gzip")) == "body-invalid"


def test_a_cut_off_or_slow_body_is_refused() -> None:
    assert refusal(body([b"{"], cut=True)) == "body-cut-off"
    assert refusal(body([b"{"], silent=True), idle_s=0.01) == "body-slow"
    assert refusal(body([b"{"], silent=True), whole_s=0.01) == "body-slow"


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_body_of_another_type_is_refused(kind: str) -> None:
    assert refusal(body([b"{}"], kind=kind)) == "media-type-wrong"


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "zstd"])
def test_a_body_that_is_packed_otherwise_is_refused(encoding: str) -> None:
    assert refusal(body([b"{}"], content_encoding=encoding)) == "media-type-wrong"


# --- the rim ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def log() -> Iterator[list[str]]:
    """What is logged, as it would stand in the log."""
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(JsonLines().format(record))

    logger, handler = logging.getLogger("petaseal.registry"), Kept()
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)
    logger.setLevel(level)


def small(registry: Registry, max_requests: int = 10, **limits: int) -> FastAPI:
    """Return an application of a few routes inside the rim."""
    app = FastAPI(openapi_url=None, exception_handlers={HTTPException: handle})
    app.state.registry, app.state.root_path = registry, ""
    gate = Gate(Limits(**limits), itertools.repeat(0.0).__next__)
    traffic = Traffic()
    app.add_middleware(RequestMiddleware, registry=registry, gate=gate, max_requests=max_requests, traffic=traffic)

    @app.get("/v1/open")
    def opened(token: parameters.Reader) -> Response:
        return Json({"token": None if token is None else token.name})

    @app.get("/v1/figures")
    def figures(token: parameters.Scraper) -> Response:
        return Response("1")

    @app.get("/v1/mine")
    def mine(token: parameters.Holder) -> Response:
        operator_of(token, "gz-test")
        return Response("mine")

    @app.post("/v1/all")
    def everything(token: parameters.Platform) -> Response:
        return Response("all")

    @app.get("/fail")
    def fail() -> Response:
        raise RuntimeError(SECRET)

    @app.get("/break")
    def breaks() -> Response:
        def content() -> Iterator[bytes]:
            yield b"begun"
            raise RuntimeError(SECRET)

        return StreamingResponse(content())

    @app.get("/healthz")
    def health() -> Response:
        return Response("well", headers={"Cache-Control": "public, max-age=5"})

    return app


@pytest.fixture
def secrets(registry: Registry) -> dict[str, str]:
    """A token of each scope, the other centre's, and one that was revoked."""
    wanted: dict[str, tuple[Scope, str | None]] = {
        "operator": ("operator", "gz-test"),
        "other": ("operator", "wh-test"),
        "platform": ("platform", None),
        "reader": ("reader", None),
        "metrics": ("metrics", None),
        "revoked": ("platform", None),
    }
    with registry.store.writing() as connection:
        made = {name: tokens.create_token(connection, name, *of, registry.now, 30) for name, of in wanted.items()}
        tokens.revoke_token(connection, made["revoked"][0].id, registry.now)
    return {name: secret for name, (_, secret) in made.items()}


def closed(registry: Registry) -> Registry:
    """Return the registry with reading by token only."""
    settings = msgspec.structs.replace(registry.settings, public_read=False)
    return replace(registry, place=replace(registry.place, settings=settings))


RIGHTS = {  # path -> who may, where reading is public; and where it is not
    "GET /v1/open": ("none operator other platform reader metrics", "operator other platform reader"),
    "GET /v1/figures": ("none operator other platform reader metrics", "operator other platform reader metrics"),
    "GET /v1/mine": ("operator platform", "operator platform"),
    "POST /v1/all": ("platform", "platform"),
}


@pytest.mark.parametrize("public", [True, False])
@pytest.mark.parametrize("route", RIGHTS)
def test_what_each_token_is_good_for(registry: Registry, secrets: dict[str, str], route: str, public: bool) -> None:
    client = Within(small(registry if public else closed(registry)))
    method, _, path = route.partition(" ")
    allowed = set()
    for name in ("none", *secrets):
        headers = {} if name == "none" else {"authorization": f"Bearer {secrets[name]}"}
        answer = client.request(method, path, headers=headers)
        if answer.status_code == 200:
            allowed.add(name)
            continue
        code = {"none": "token-missing", "revoked": "token-invalid", "other": "token-centre-differs"}.get(name)
        problem = msgspec.json.decode(answer.content, type=Problem)
        assert problem.code == (code if answer.status_code != 403 or name == "other" else "token-scope") or (
            name == "other" and problem.code == "token-scope"
        )
        assert (answer.status_code == 401) == (name in ("none", "revoked"))
        if answer.status_code == 401:
            assert answer.headers["www-authenticate"] == 'Bearer realm="petaseal"'
    assert allowed == set(RIGHTS[route][0 if public else 1].split())


@pytest.mark.parametrize("given", ["Bearer", "Bearer ptr_x", "Basic !!", "Basic /w==", "Digest a", "", "Bearer é"])
def test_a_token_that_is_none_is_not_the_same_as_no_token(registry: Registry, given: str) -> None:
    answer = Within(small(registry)).get("/v1/open", headers={"authorization": given.encode()})
    assert (answer.status_code, answer.json()["code"]) == (401, "token-invalid")


def test_a_browser_may_read_with_a_password_and_never_write(registry: Registry, secrets: dict[str, str]) -> None:
    client = Within(small(closed(registry)))
    password = base64.b64encode(f"anybody:{secrets['platform']}".encode()).decode()
    headers = {"authorization": f"Basic {password}"}
    assert client.get("/v1/open", headers=headers).json() == {"token": "platform"}
    assert client.post("/v1/all", headers=headers).status_code == 401


def test_every_answer_has_the_headers_that_protect_readers(registry: Registry, secrets: dict[str, str]) -> None:
    client = Within(small(registry), base_url="https://registry.test")
    bearer = {"authorization": f"Bearer {secrets['platform']}"}
    answers = [
        client.get("/v1/open"),
        client.get("/v1/open", headers=bearer),
        client.get("/nothing"),
        client.get("/fail"),
        client.head("/v1/open"),
        client.put("/v1/all"),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 404, 500, 200, 405]
    for answer in answers:
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["permissions-policy"]
        assert answer.headers["strict-transport-security"].startswith("max-age=")
        assert "server" not in answer.headers
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["instance"] == answer.headers["x-request-id"]
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)
    kept = [answer.headers["cache-control"] for answer in answers]
    assert kept == ["no-cache", "no-store", "no-store", "no-store", "no-cache", "no-store"]
    assert answers[4].content == b""
    assert answers[5].headers["allow"] == "POST"
    plain = Within(small(registry)).get("/healthz")
    assert "strict-transport-security" not in plain.headers
    assert plain.headers["cache-control"] == "public, max-age=5"
    assert Within(small(closed(registry))).get("/healthz").headers["cache-control"] == "no-store"


def test_too_many_requests_are_told_when_to_come_again(registry: Registry, secrets: dict[str, str]) -> None:
    client = Within(small(registry, requests_per_minute=60, burst=2))
    bearer = {"authorization": f"Bearer {secrets['platform']}"}
    statuses = [client.get("/v1/open").status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    answer = client.get("/v1/open")
    assert (answer.headers["retry-after"], answer.json()["code"]) == ("1", "rate-limited")
    wrong = client.get("/v1/open", headers={"authorization": "Bearer ptr_guess"})
    assert wrong.status_code == 429  # guessing is counted on the address
    assert client.get("/v1/open", headers=bearer).status_code == 200
    assert client.get("/healthz").status_code == 200


def test_more_requests_at_once_than_it_takes_are_told_to_come_again(registry: Registry) -> None:
    client = Within(small(registry, max_requests=0))
    answer = client.get("/v1/open")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert client.get("/healthz").status_code == 200


def test_an_answer_that_breaks_off_is_logged_and_tells_nothing(registry: Registry, log: list[str]) -> None:
    with pytest.raises(AssertionError):  # the transport's: the application went without an end
        Within(small(registry)).get("/break")
    (line,) = map(json.loads, log)
    assert (line["status"], line["error"]) == (200, "RuntimeError")
    assert SECRET not in log[0]


def test_each_request_is_one_line_without_secrets(registry: Registry, secrets: dict[str, str], log: list[str]) -> None:
    client = Within(small(registry))
    for name, secret in secrets.items():
        client.get(f"/v1/open?token={secret}", headers={"authorization": f"Bearer {secret}"})
        client.get(f"/{secret}/%0A{name}")
    failed = client.get("/fail")
    assert len(log) == 2 * len(secrets) + 1
    assert not any(secret in line for secret in secrets.values() for line in log)
    assert not any("\n" in line for line in log)
    line = json.loads(log[0])
    assert line | {"at": 0, "ms": 0, "request_id": 0} == {
        "at": 0,
        "level": "info",
        "logger": "petaseal.registry",
        "message": "request",
        "method": "GET",
        "path": "/v1/open",
        "status": 200,
        "code": None,
        "ms": 0,
        "token": 1,
        "request_id": 0,
        "address": "127.0.0.1",
    }
    line = json.loads(log[-1])
    assert (line["level"], line["error"], line["code"]) == ("error", "RuntimeError", "internal")
    assert line["request_id"] == failed.json()["instance"]
    assert SECRET not in log[-1]
    assert SECRET not in failed.text


def test_a_line_of_somebody_else_tells_no_exception_text() -> None:
    try:
        raise ValueError(SECRET)
    except ValueError as error:
        info = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("uvicorn.error", logging.ERROR, "", 0, "failed with ptr_%s", ("abc",), info)
    line = json.loads(JsonLines().format(record))
    assert (line["message"], line["error"], line["level"]) == ("failed with ptr_…", "ValueError", "error")


def test_a_database_that_is_gone_spoils_only_what_needs_it(registry: Registry, secrets: dict[str, str]) -> None:
    class Gone:
        def reading(self) -> None:
            raise OperationalError("SELECT", {}, Exception("connection refused"))

    client = Within(small(replace(registry, store=Gone())))  # type: ignore[arg-type]
    bearer = {"authorization": f"Bearer {secrets['platform']}"}
    assert client.get("/v1/open").status_code == 200
    assert client.get("/healthz", headers=bearer).status_code == 200
    answer = client.get("/v1/open", headers=bearer)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


def decision(**changes: Any) -> Decided:
    given = {"decision": "accepted", "at": AT, "code": None, "detail": None, "level": "trusted", "receipt": "cmVj"}
    return Decided(**{**given, "payload_sha256": "ab" * 32, **changes})


@pytest.mark.parametrize(
    ("given", "status", "kind"),
    [
        (decision(), 201, "application/json"),
        (decision(repeated=True), 200, "application/json"),
        (decision(decision="refused", code="expired", detail="it is over"), 422, "application/problem+json"),
        (decision(decision="refused", code="expired", repeated=True), 422, "application/problem+json"),
    ],
)
def test_a_decision_is_answered(given: Decided, status: int, kind: str) -> None:
    app = FastAPI(openapi_url=None)
    app.state.root_path = "/below"

    async def answer(request: Request) -> Response:
        request.state.request_id = "id"
        return decided(given, request, "/v1/statements/x")

    app.add_api_route("/", answer, response_class=Response)
    told = Within(app).get("/")
    assert (told.status_code, told.headers["content-type"]) == (status, kind)
    if status == 422:
        problem = msgspec.json.decode(told.content, type=Problem)
        assert (problem.code, problem.receipt) == ("expired", "cmVj")
    else:
        assert msgspec.json.decode(told.content, type=Decided) == given
        assert told.headers["location"] == "/below/v1/statements/x"
