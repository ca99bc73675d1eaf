"""Finished answers: given again while they hold, and not a moment longer, nor to anybody else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection
from starlette.requests import Request

from bench.units import utc_ns
from certify.registry.base import tokens
from certify.registry.base.registry import Registry
from certify.registry.service.app import create_app
from certify.registry.state.cache import MAX_RESPONSE_BYTES, ResponseCache, basis_of, reader_of
from certify.registry.state.queries import Said
from certify.registry.storage import tables
from tests.certify.registry import rows
from tests.certify.registry.rows import after
from tests.certify.registry.within import Within

CENTRE = "/v1/centres/gz-1"
OPENED_S = 60


@pytest.fixture
def now(registry: Registry) -> str:
    return registry.now


@pytest.fixture
def statement(registry: Registry, now: str) -> str:
    envelope = registry.store.objects.put(b'{"payload":"","payloadType":"","signatures":[]}')
    with registry.store.writing() as connection:
        rows.add_statement(connection, "wh-1", at=now)
        return rows.add_statement(connection, "gz-1", at=now, valid_days=1, envelope_sha256=envelope)


@pytest.fixture
def client(registry: Registry, statement: str, monkeypatch: pytest.MonkeyPatch) -> Within:
    monkeypatch.setattr("certify.registry.state.queries.said_of", lambda *_: Said((), ()))  # no document was submitted
    return Within(create_app(registry))


def set_clock(registry: Registry, at: str) -> None:
    object.__setattr__(registry, "clock_ns", lambda: utc_ns(at))


def made(client: Within, path: str, monkeypatch: pytest.MonkeyPatch) -> tuple[bool, Any]:
    """Ask, and tell whether the answer was made anew."""
    kept: list[object] = []
    keep = ResponseCache.keep

    def noted(*given: Any) -> None:
        kept.append(given)
        keep(*given)

    monkeypatch.setattr(ResponseCache, "keep", noted)
    answer = client.get(path)
    monkeypatch.setattr(ResponseCache, "keep", keep)
    assert answer.status_code == 200, answer.text
    return bool(kept), answer


def decide(connection: Connection, statement: str, at: str) -> None:
    row = {"at": at, "kind": "statement", "decision": "refused", "code": "x", "detail": "of a device", "level": None}
    connection.execute(tables.decisions.insert(), row | {"payload_sha256": statement, "centre_id": "gz-1"})


def draw(connection: Connection, at: str) -> None:
    row = {"challenge": "c" * 64, "centre_id": "gz-1", "issued_at": at, "expires_at": after(at, OPENED_S)}
    connection.execute(tables.challenges.insert(), row | {"token_id": 1})


Write = Callable[[Connection, str, str], object]
WRITES: dict[str, tuple[Write, tuple[str, ...]]] = {  # what is written, and which answers that changes
    "decision": (lambda c, s, now: decide(c, s, now), ("statement", "centre")),
    "challenge": (lambda c, s, now: draw(c, now), ("centre",)),
    "act": (lambda c, s, now: rows.add_act(c, "register", "gz-1", at=now), ("statement", "centre", "page", "centres")),
    "revocation": (
        lambda c, s, now: rows.add_end(c, s, at=now, effective_at=now),
        ("statement", "centre", "page", "centres"),
    ),
    "alarm": (
        lambda c, s, now: rows.add_alarm(c, rows.sha("refused"), s, "wh-1", "gz-1", at=now),
        ("statement", "centre", "page", "centres"),
    ),
    "elsewhere": (lambda c, s, now: rows.add_act(c, "register", "wh-1", at=now), ("centres",)),
}


@pytest.mark.parametrize("what", WRITES)
def test_an_answer_is_made_anew_when_what_it_tells_was_written(
    client: Within, registry: Registry, statement: str, now: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = {
        "statement": f"/v1/statements/{statement}",
        "centre": CENTRE,
        "page": "/v1/statements?centre=gz-1",
        "centres": "/v1/centres?limit=2",
    }
    for path in paths.values():
        first, again = made(client, path, monkeypatch), made(client, path, monkeypatch)
        assert (first[0], again[0]) == (True, False)
        assert (first[1].content, first[1].headers["etag"]) == (again[1].content, again[1].headers["etag"])
        assert first[1].headers["x-request-id"] != again[1].headers["x-request-id"]
        assert client.get(path, headers={"If-None-Match": again[1].headers["etag"]}).status_code == 304
    write, changes = WRITES[what]
    with registry.store.writing() as connection:
        write(connection, statement, now)
    fresh = Within(create_app(registry))
    for name, path in paths.items():
        anew, answer = made(client, path, monkeypatch)
        assert anew == (name in changes), name
        assert answer.content == fresh.get(path).content, name


def test_time_alone_changes_an_answer(
    client: Within, registry: Registry, statement: str, now: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with registry.store.writing() as connection:
        draw(connection, now)
    set_clock(registry, now)
    assert client.get(CENTRE).json()["attempts"][0]["state"] == "open"
    set_clock(registry, after(now, OPENED_S - 1))
    assert not made(client, CENTRE, monkeypatch)[0]
    set_clock(registry, after(now, OPENED_S))
    assert client.get(CENTRE).json()["attempts"][0]["state"] == "not-submitted"
    set_clock(registry, after(now, 1))  # a clock that was set back
    assert client.get(CENTRE).json()["attempts"][0]["state"] == "open"
    path = f"/v1/statements/{statement}"
    assert client.get(path).json()["summary"]["state"] == "certified"
    set_clock(registry, after(now, 86_400))
    assert client.get(path).json()["summary"]["state"] == "expired"


def test_what_depends_on_the_asker_is_not_kept(
    client: Within, registry: Registry, statement: str, now: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with registry.store.writing() as connection:
        decide(connection, statement, now)
        _, secret = tokens.create_token(connection, "all", "platform", None, now, 1)
    path, bearer = f"/v1/statements/{statement}", {"Authorization": f"Bearer {secret}"}
    told = []
    for headers in (bearer, {}, bearer, {}):
        answer = client.get(path, headers=headers)
        told.append(answer.json()["decisions"][0]["detail"])
    assert told == ["of a device", None, "of a device", None]
    assert client.get(path, headers={"Authorization": "Bearer ptr_unknown"}).status_code == 401
    assert client.head(path).content == b""


def test_only_what_anybody_may_have_is_looked_for(registry: Registry) -> None:
    answers = ResponseCache(registry)
    scope = {"method": "GET", "path": "/v1", "query_string": b"a=1", "state": {"token": None}, "headers": []}
    assert answers.may_have(scope) == ("/v1", b"a=1")
    assert answers.may_have({**scope, "headers": [(b"accept", b"text/csv, */*")]}) is None  # what is stored is JSON
    assert answers.may_have({**scope, "method": "POST"}) is None
    assert answers.may_have({**scope, "state": {"token": ValueError()}}) is None


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_few_answers_are_kept(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ResponseCache(registry)
    basis = basis_of(reader_of(registry.store).now(registry.now, 300))
    scopes = [{"type": "http", "method": "GET", "path": f"/{i}", "query_string": b"", "headers": []} for i in range(4)]

    def keep(number: int, content: bytes) -> None:
        answers.keep(Request({**scopes[number], "state": {"token": None}}), content, {}, basis)

    def kept() -> list[int]:
        return [number for number in range(4) if answers.has((f"/{number}", b""))]

    monkeypatch.setattr("certify.registry.state.cache.MAX_RESPONSES", 2)
    for number in range(3):
        keep(number, b"x")
    assert kept() == [1, 2]
    assert answers.find(("/1", b"")) == (b"x", {})
    keep(3, b"x")
    assert kept() == [1, 3]  # the one not asked for longest was forgotten
    monkeypatch.setattr("certify.registry.state.cache.MAX_TOTAL_BYTES", 10)
    keep(0, b"x" * 10)
    assert kept() == [0]
    keep(1, b"x" * (MAX_RESPONSE_BYTES + 1))
    assert kept() == [0]
