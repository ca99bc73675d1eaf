"""The service as it runs: a process of its own, a real port, and clients that mean no good."""

from __future__ import annotations

import datetime
import gzip
import json
import re
import select as waiting
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from sqlalchemy import select

from bench.errors import InputError
from certify.campaign.rehearsal import rehearse
from certify.registry.api.common import Decided, Problem, Scope
from certify.registry.base import tokens
from certify.registry.base.registry import Registry
from certify.registry.service import app, serve
from certify.registry.service.app import create_app
from certify.registry.service.openapi import KINDS, OPEN, PUBLISHED_AS
from certify.registry.storage import tables
from certify.statement.issue import IssueRequest
from tests.certify.measured import Measured
from tests.certify.registry.laid import CENTRE, OTHER, Laid, lay_registry
from tests.certify.registry.listening import Served, new_token, opened, served
from tests.certify.registry.postgres import Postgres
from tests.certify.registry.within import Within

ENVELOPE = {"content-type": "application/vnd.petaseal.dsse+json"}
LINES = {"content-type": "application/jsonl"}
MIB = 2**20


@pytest.fixture
def database() -> str:
    """One is enough, but where a test names the other."""
    return "sqlite"


@dataclass(frozen=True)
class Running:
    """A service, its folder, and the secrets of some tokens. It is shared: tests count only what they did."""

    service: Served
    root: Path
    secrets: dict[str, str]

    def client(self, who: str | None = "operator") -> httpx.Client:
        return self.service.client(None if who is None else self.secrets[who])

    def rows(self, table: Any) -> list[Any]:
        with opened(self.root) as registry, registry.store.reading() as connection:
            return list(connection.execute(select(table)))

    def decisions(self) -> int:
        return len(self.rows(tables.decisions))

    def staged(self) -> list[Path]:
        return list((self.root / "objects" / "tmp").iterdir())

    def statement(self, centre: Measured) -> str:
        """Return the address of a statement, submitted."""
        with self.client() as client:
            return str(client.post("/v1/statements", content=statement(centre), headers=ENVELOPE).headers["location"])


def running(folder: Path, keys: Path, **limits: int) -> Iterator[Running]:
    root = lay_registry(folder / "registry", keys, limits=limits).root
    scopes: tuple[Scope, ...] = ("operator", "platform", "reader")
    secrets = {scope: new_token(root, scope)[1] for scope in scopes} | {"guess": "ptr_guess"}
    with served(root) as service:
        yield Running(service, root, secrets)
    log = service.log.read_text()
    assert log
    assert not any(secret in log for secret in secrets.values())


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Running]:
    """A service with the limits of every day."""
    yield from running(tmp_path_factory.mktemp("calm"), keys)


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Running]:
    """A service that waits for nobody and takes little."""
    yield from running(tmp_path_factory.mktemp("strict"), keys, header_s=3, body_idle_s=3, upload_bytes=MIB)


def problem_of(answer: httpx.Response) -> Problem:
    assert answer.headers["content-type"] == "application/problem+json"
    return msgspec.json.decode(answer.content, type=Problem)


def statement(centre: Measured) -> bytes:
    return (centre.folder / "out" / "statement.dsse.json").read_bytes()


def records(centre: Measured) -> bytes:
    return (centre.folder / "out" / "records.jsonl").read_bytes()


def answer_on(connection: socket.socket) -> tuple[int, bytes]:
    """Return the status and the body of what comes on a bare connection, until it is closed or whole."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(65_536)
        if not piece:
            return 0, received
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(re.search(rb"(?i)content-length: (\d+)", head).group(1))  # type: ignore[union-attr]
    while len(body) < length:
        body += connection.recv(65_536)
    return int(head.split()[1]), body


def head_of(method: str, path: str, secret: str, **headers: str) -> bytes:
    given = {"host": "registry", "authorization": f"Bearer {secret}"} | headers
    lines = [f"{method} {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in given.items())]
    return "\r\n".join([*lines, "", ""]).encode()


# --- what it takes in -------------------------------------------------------------------------------------------------
def test_a_rehearsal_is_no_statement(calm: Running, centre: Measured, tmp_path: Path) -> None:
    asked = IssueRequest(
        records=centre.records,
        centre=str(centre.centre),
        policies=("guangzhou-2000p",),
        keys=(centre.key,),
        campaign=centre.campaign,
        out=tmp_path / "rehearsal",
    )
    rehearse(asked, 1000)
    with calm.client() as client:
        for headers in (ENVELOPE, {"content-type": "application/json"}):
            content = (tmp_path / "rehearsal" / "rehearsal.json").read_bytes()
            refused = client.post("/v1/statements", content=content, headers=headers)
            assert (refused.status_code, problem_of(refused).code) == (422, "schema-invalid")


def test_a_statement_and_its_records_over_http(calm: Running, centre: Measured) -> None:
    before, asked = len(calm.rows(tables.audit)), []
    with calm.client() as client:
        client.event_hooks["response"] = [lambda answer: asked.append(answer.headers["x-request-id"])]
        first = client.post("/v1/statements", content=statement(centre), headers=ENVELOPE)
        made = msgspec.json.decode(first.content, type=Decided)
        assert (first.status_code, made.decision, made.level) == (201, "accepted", "trusted")
        path = first.headers["location"]
        assert path == f"/v1/statements/{made.payload_sha256}"
        packed = {**LINES, "content-encoding": "gzip"}
        second = client.put(f"{path}/records", content=gzip.compress(records(centre)), headers=packed)
        assert (second.status_code, second.json()["level"]) == (201, "recomputed")
        again = client.post("/v1/statements", content=statement(centre), headers=ENVELOPE)
        assert (again.status_code, again.json()["repeated"], again.json()["receipt"]) == (200, True, made.receipt)
        refused = client.post("/v1/statements", content=b"{}", headers=ENVELOPE)
        assert (refused.status_code, problem_of(refused).code) == (422, "schema-invalid")
    told = calm.rows(tables.audit)[before:]
    assert [(row.action, row.outcome) for row in told] == [
        ("statement", "accepted"),
        ("records", "accepted"),
        ("statement", "repeated"),
        ("statement", "schema-invalid"),
    ]
    assert [row.request_id for row in told] == asked
    assert calm.staged() == []


def test_a_body_that_is_cut_off_stores_nothing(calm: Running, centre: Measured) -> None:
    path = calm.statement(centre)
    before = calm.decisions()
    for method, where, kind in (("POST", "/v1/statements", ENVELOPE), ("PUT", f"{path}/records", LINES)):
        connection = calm.service.connect()
        length = {"content_type": kind["content-type"], "content_length": "1000"}
        connection.sendall(head_of(method, where, calm.secrets["operator"], **length) + b"{" * 999)
        connection.close()
    with calm.client() as client:
        assert client.put(f"{path}/records", content=records(centre), headers=LINES).status_code in (200, 201)
    assert [line["code"] for line in calm.service.requests()].count("body-cut-off") == 2
    assert calm.decisions() - before <= 1
    assert calm.staged() == []


def test_reads_are_answered_while_every_submission_waits(calm: Running) -> None:
    with opened(calm.root) as registry, ThreadPoolExecutor(64) as pool:

        def submit(number: int) -> int:
            with calm.client(("operator", "platform")[number % 2]) as client:
                return client.post("/v1/statements", content=b"%d" % number, headers=ENVELOPE).status_code

        with registry.store.writing():  # nobody else can decide anything
            submitted = [pool.submit(submit, number) for number in range(48)]
            with calm.client(None) as client:
                for _ in range(10):
                    assert client.get("/readyz").status_code == 200
                    assert client.get("/v1/lifecycle").status_code == 200
            assert not any(one.done() for one in submitted)
        assert {one.result() for one in submitted} == {422}


# --- clients that are slow, or send too much -------------------------------------------------------------------------
def test_a_client_whose_headers_do_not_end_is_left(strict: Running) -> None:
    silent, begun, second = (strict.service.connect() for _ in range(3))
    begun.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    second.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer_on(second)[0] == 200
    second.sendall(b"GET /healthz HT")
    for connection in (silent, begun, second):
        assert connection.recv(1) == b""
        connection.close()
    with strict.client(None) as client:
        assert client.get("/healthz").status_code == 200


def test_a_client_whose_body_does_not_come_is_told_so(strict: Running, centre: Measured) -> None:
    path = strict.statement(centre)
    before = strict.decisions()
    slow = []
    for method, where, kind in (
        ("POST", "/v1/statements", ENVELOPE),
        ("PUT", f"{path}/records", LINES),
        ("POST", "/v1/heartbeats", ENVELOPE),
        ("POST", "/v1/heartbeats/batch", LINES),
    ):
        connection = strict.service.connect()
        length = {"content_type": kind["content-type"], "content_length": "1000"}
        connection.sendall(head_of(method, where, strict.secrets["operator"], **length) + b"{")
        slow.append(connection)
    for connection in slow:
        status, body = answer_on(connection)
        assert (status, json.loads(body)["code"]) == (408, "body-slow")
        assert connection.recv(1) == b""  # the rest of the body is not waited for
        connection.close()
    assert strict.decisions() == before
    assert strict.staged() == []


def send_all_of(connection: socket.socket, piece: bytes, count: int) -> int:
    """Send pieces until they are sent or an answer comes, as clients do, and return how many were sent."""
    for number in range(count):
        if waiting.select([connection], [], [], 0)[0]:
            return number
        connection.sendall(piece)
    return count


def test_a_gigabyte_is_refused_at_the_cap_in_constant_memory(strict: Running, centre: Measured) -> None:
    path = strict.statement(centre)
    piece = b"100000\r\n" + bytes(MIB) + b"\r\n"
    before, peak = strict.decisions(), strict.service.peak_bytes()
    for method, where, kind in (("POST", "/v1/statements", ENVELOPE), ("PUT", f"{path}/records", LINES)):
        for how in ({"content_length": str(2**30)}, {"transfer_encoding": "chunked"}):
            connection = strict.service.connect()
            head = head_of(method, where, strict.secrets["operator"], content_type=kind["content-type"], **how)
            connection.sendall(head)
            if "transfer_encoding" in how:
                assert send_all_of(connection, piece, 1024) < 1024
            status, body = answer_on(connection)  # where its length was told, before a byte of it was sent
            assert (status, json.loads(body)["code"]) == (413, "document-too-large")
            connection.close()
    assert strict.service.peak_bytes() - peak < 32 * MIB
    assert strict.decisions() == before
    assert strict.staged() == []


def test_a_gzip_bomb_is_refused_in_constant_memory(strict: Running, centre: Measured) -> None:
    path = strict.statement(centre)
    bomb = gzip.compress(bytes(256 * MIB), 1)
    peak = strict.service.peak_bytes()
    with strict.client() as client:
        for method, where, kind in (("POST", "/v1/statements", ENVELOPE), ("PUT", f"{path}/records", LINES)):
            packed = {**kind, "content-encoding": "gzip"}
            answer = client.request(method, where, content=bomb[: MIB - 1], headers=packed)
            assert (answer.status_code, problem_of(answer).code) == (413, "document-too-large")
    assert strict.service.peak_bytes() - peak < 32 * MIB
    assert strict.staged() == []


# --- what it answers to what is wrong ------------------------------------------------------------------------------
def test_what_is_wrong_is_told_as_a_problem(calm: Running) -> None:
    nothing = "0" * 64
    json_type = {"content-type": "application/json"}
    wrong: list[tuple[str, str, str, dict[str, Any], int, str]] = [
        ("", "POST", "/v1/statements", {}, 401, "token-missing"),
        ("guess", "POST", "/v1/statements", {}, 401, "token-invalid"),
        ("reader", "POST", "/v1/statements", {}, 403, "token-scope"),
        ("operator", "POST", "/v1/revocations", {}, 403, "token-scope"),
        ("operator", "POST", "/v1/acts", {}, 403, "token-scope"),
        ("operator", "POST", "/v1/challenges", {"json": {"centre_id": OTHER}}, 403, "token-centre-differs"),
        ("", "GET", "/v1/nothing", {}, 404, "not-found"),
        ("", "GET", "/v1/openapi.json/", {}, 404, "not-found"),
        ("", "GET", "/v1/docs", {}, 404, "not-found"),
        ("operator", "PUT", f"/v1/statements/{nothing}/records", {}, 404, "statement-unknown"),
        ("operator", "DELETE", "/v1/statements", {}, 405, "method-not-allowed"),
        ("operator", "POST", "/v1/statements", {"content": b"{}"}, 415, "media-type-wrong"),
        (
            "operator",
            "POST",
            "/v1/statements",
            {"content": b"{}", "headers": {**json_type, "content-encoding": "br"}},
            415,
            "media-type-wrong",
        ),
        ("operator", "PUT", "/v1/statements/x/records", {}, 422, "request-invalid"),
        ("operator", "POST", "/v1/statements", {"content": b"\xff", "headers": json_type}, 422, "json-invalid"),
        ("platform", "POST", "/v1/acts", {"content": b"{", "headers": json_type}, 422, "request-invalid"),
        ("platform", "POST", "/v1/acts", {"json": {"act": "manage", "x": 1}}, 422, "request-invalid"),
        ("platform", "POST", "/v1/challenges", {"json": {"centre_id": "UPPER"}}, 422, "request-invalid"),
        ("", "POST", "/v1/heartbeats", {"content": bytes(70_000), "headers": json_type}, 413, "document-too-large"),
    ]
    for who, method, path, named, status, code in wrong:
        with calm.client(who or None) as client:
            answer = client.request(method, path, **named)
        problem = problem_of(answer)
        assert (answer.status_code, problem.status, problem.code) == (status, status, code), (method, path)
        assert problem.type == f"urn:petaseal:reason:{code}"
        assert problem.instance == answer.headers["x-request-id"]
        assert "Traceback" not in answer.text
        if status == 405:
            assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}


def test_requests_and_submissions_have_their_budgets(tmp_path: Path, keys: Path) -> None:
    for metered in running(tmp_path, keys, requests_per_minute=1, burst=10, submissions_per_hour=2):
        with metered.client() as client:
            answers = [client.post("/v1/statements", content=b"{}", headers=ENVELOPE) for _ in range(3)]
            assert [problem_of(one).code for one in answers] == ["schema-invalid", "schema-invalid", "rate-limited"]
            assert int(answers[2].headers["retry-after"]) > 60
            assert client.get("/v1/lifecycle").status_code == 200
        with metered.client(None) as client:
            for _ in range(10):
                assert client.get("/v1/lifecycle").status_code == 200
            limited = client.get("/v1/lifecycle")
            assert (limited.status_code, problem_of(limited).code) == (429, "rate-limited")
            assert 0 < int(limited.headers["retry-after"]) <= 60
        with metered.client() as client:
            assert client.get("/v1/lifecycle").status_code == 200  # somebody else's


def test_what_is_not_http_is_told_as_a_problem_too(calm: Running) -> None:
    connection = calm.service.connect()
    connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
    status, body = answer_on(connection)
    assert (status, json.loads(body)["code"]) == (400, "request-invalid")
    connection.close()


def test_tokens_are_rotated_and_revoked_under_a_running_service(calm: Running) -> None:
    number, first = new_token(calm.root)

    def code(secret: str) -> str:
        with calm.service.client(secret) as client:
            return problem_of(client.post("/v1/statements", content=b"{}", headers=ENVELOPE)).code

    assert code(first) == "schema-invalid"
    with opened(calm.root) as registry:
        with registry.store.writing() as connection:
            second_token, second = tokens.rotate_token(connection, number, registry.now, 1)
        assert (code(first), code(second)) == ("token-invalid", "schema-invalid")
        with registry.store.writing() as connection:
            tokens.revoke_token(connection, second_token.id, registry.now)
            _, expired = tokens.create_token(connection, "old", "operator", CENTRE, "2026-01-01T00:00:00.000000Z", 1)
        assert (code(second), code(expired)) == ("token-invalid", "token-invalid")


# --- what it is ready for ------------------------------------------------------------------------------------------
def test_a_database_that_goes_away_and_comes_back(tmp_path: Path, keys: Path, postgres: Postgres) -> None:
    name = postgres.new_database()
    place = lay_registry(tmp_path / "registry", keys, postgres.url(name))
    _, secret = new_token(place.root)
    with served(place.root) as service, service.client(secret) as client:
        assert client.get("/readyz").json()["checks"]["database"] == "ok"
        postgres.stop()
        try:
            away = client.get("/readyz")
            assert (away.status_code, away.json()["status"]) == (503, "unavailable")
            assert away.json()["checks"] == {"database": "unavailable", "objects": "ok", "trust": "ok"}
            for answer in (
                client.get("/v1/statements"),
                client.post("/v1/statements", content=b"{}", headers=ENVELOPE),
            ):
                assert (answer.status_code, problem_of(answer).code) == (503, "unavailable")
                assert int(answer.headers["retry-after"]) > 0
            assert client.get("/healthz").status_code == 200
        finally:
            postgres.start()
        assert client.get("/readyz").status_code == 200
        assert client.post("/v1/statements", content=b"{}", headers=ENVELOPE).status_code == 422
    postgres.drop(name)


def test_it_is_not_ready_without_its_trust_root_or_its_disk(
    registry: Registry, place: Laid, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Within(create_app(registry))
    assert client.get("/readyz").status_code == 200
    place.trust.rename(place.root / "away.json")
    answer = client.get("/readyz")
    # the version before it is followed: a balancer that takes the registry away would silence every node
    assert (answer.status_code, answer.json()["checks"]["trust"]) == (200, "file-missing")
    assert answer.json()["trust"]["state"] == "file-refused"

    def full(registry: Registry) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(app, "_objects", full)
    assert client.get("/readyz").json()["checks"]["objects"] == "unavailable"
    assert client.get("/healthz").status_code == 200


def test_a_check_that_hangs_has_failed(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = threading.Event()
    monkeypatch.setattr(app, "READY_S", 0.05)
    monkeypatch.setattr(app, "_database", lambda registry: let_go.wait(60))
    answer = Within(create_app(registry)).get("/readyz")
    let_go.set()
    assert (answer.status_code, answer.json()["checks"]["database"]) == (503, "slow")


# --- how it is served ----------------------------------------------------------------------------------------------
def test_it_ends_with_status_0_after_the_requests_that_run(place: Laid) -> None:
    _, secret = new_token(place.root)
    service = Served(place.root)
    connection, idle = service.connect(), service.connect()
    kind = ENVELOPE["content-type"]
    connection.sendall(head_of("POST", "/v1/statements", secret, content_type=kind, content_length="2") + b"{")
    with service.client() as client:
        assert client.get("/healthz").status_code == 200  # the other request is being read by now
    service.process.send_signal(signal.SIGTERM)
    assert idle.recv(1) == b""
    connection.sendall(b"}")
    status, body = answer_on(connection)
    assert (status, json.loads(body)["code"]) == (422, "schema-invalid")
    assert service.process.wait(60) == 0
    connection.close()
    idle.close()
    assert service.process.stdout is not None
    service.process.stdout.close()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for this machine, and its key under a passphrase."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = tmp_path / "server.crt", tmp_path / "server.key"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    locked = serialization.BestAvailableEncryption(b"open")
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, locked))
    return files


def test_it_is_served_over_tls_and_believes_the_proxy_that_is_named(
    place: Laid, certificate: tuple[Path, Path]
) -> None:
    crt, key = map(str, certificate)
    tls = {"ssl_certfile": crt, "ssl_keyfile": key, "ssl_keyfile_password": "open"}
    with served(place.root, **tls, trusted_proxies=["127.0.0.1"]) as service:
        assert service.url.startswith("https://")
        known = ssl.create_default_context(cafile=crt)
        with httpx.Client(base_url=f"https://localhost:{service.port}", verify=known, trust_env=False) as client:
            answer = client.get("/healthz")
            assert (answer.status_code, answer.headers["strict-transport-security"]) == (200, "max-age=31536000")
            told = client.get("/healthz", headers={"x-forwarded-for": "192.0.2.7", "x-forwarded-proto": "http"})
            assert "strict-transport-security" not in told.headers
    assert [line["address"] for line in service.requests()] == ["127.0.0.1", "192.0.2.7"]


def test_a_proxy_that_is_not_named_is_not_believed(calm: Running) -> None:
    with calm.client(None) as client:
        answer = client.get("/healthz", headers={"x-forwarded-for": "192.0.2.7", "x-forwarded-proto": "https"})
    assert "strict-transport-security" not in answer.headers
    assert {line["address"] for line in calm.service.requests()} == {"127.0.0.1"}


@pytest.mark.parametrize("password", [None, "wrong"])
def test_a_key_that_does_not_open_is_wrong_input_and_asks_nobody(
    registry: Registry, certificate: tuple[Path, Path], password: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "_log_as_json", lambda: None)  # the log of this process is pytest's
    with pytest.raises(InputError) as caught:
        serve.run(
            registry, port=0, ssl_certfile=certificate[0], ssl_keyfile=certificate[1], ssl_keyfile_password=password
        )
    assert caught.value.code == "tls-invalid"


def test_an_address_that_is_taken_is_wrong_input(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "_log_as_json", lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InputError) as caught:
        serve.run(registry, port=taken.getsockname()[1])
    assert caught.value.code == "address-in-use"


# --- what it says of itself ----------------------------------------------------------------------------------------
def test_the_openapi_document_names_only_what_it_holds(registry: Registry) -> None:
    document = Within(create_app(registry)).get("/v1/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert named <= set(document["components"]["schemas"])
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for name, published in PUBLISHED_AS.items():
        assert name not in json.dumps(document)
        assert document["components"]["schemas"][published]["title"] == published
    assert len(KINDS) == len(set(KINDS))
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            problem = operation["responses"]["default"]["content"]["application/problem+json"]["schema"]
            assert problem == {"$ref": "#/components/schemas/Problem"}
            assert operation.get("description") or operation.get("summary"), (path, method)
            if method in ("post", "put"):
                assert operation["requestBody"]["required"]
                assert ("security" in operation) == (path not in OPEN)


def test_many_requests_at_once_are_all_answered(registry: Registry) -> None:
    transport = httpx.ASGITransport(create_app(registry, max_requests=8))

    async def ask() -> list[int]:
        statuses: list[int] = []
        async with httpx.AsyncClient(transport=transport, base_url="http://registry.test") as client:

            async def one() -> None:
                statuses.append((await client.get("/readyz")).status_code)

            async with anyio.create_task_group() as group:
                for _ in range(64):
                    group.start_soon(one)
        return statuses

    statuses = anyio.run(ask)
    assert len(statuses) == 64
    assert set(statuses) == {200, 503}
