"""Answers packed with gzip: which, for whom, and once for everybody."""

from __future__ import annotations

import base64
import gzip

import pytest
from starlette.datastructures import Headers

from certify.registry.base.registry import Registry
from certify.registry.service.app import create_app
from certify.registry.service.http.packing import PackedBodies, may_pack
from tests.certify.registry.rows import add_statement
from tests.certify.registry.service.test_routes_read import bearer
from tests.certify.registry.within import Within

SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
PLAIN = {"Accept-Encoding": "identity"}


@pytest.fixture
def client(registry: Registry) -> Within:
    with registry.store.writing() as connection:
        for number in range(8):
            add_statement(connection, f"gz-{number}", at=registry.now)
    return Within(create_app(registry))


@SQLITE
@pytest.mark.parametrize("path", ["/v1/centres", "/v1/statements", "/v1/capacity?format=csv", "/en/centres", "/zh/"])
def test_long_answers_are_packed(client: Within, path: str) -> None:
    plain, packed = client.get(path, headers=PLAIN), client.get(path, headers={"Accept-Encoding": "br, gzip;q=0.5"})
    assert (plain.headers.get("content-encoding"), packed.headers["content-encoding"]) == (None, "gzip")
    if path.startswith("/v1"):  # a page shows its time
        assert plain.content == packed.content
    assert int(packed.headers["content-length"]) < int(plain.headers["content-length"]) // 2
    for answer in (plain, packed):
        assert "Accept-Encoding" in answer.headers["vary"]


@SQLITE
def test_conditional_requests_hold_for_both(client: Within) -> None:
    tag = client.get("/v1/centres", headers=PLAIN).headers["etag"]
    assert client.get("/v1/centres").headers["etag"] == tag
    for headers in (PLAIN, {"Accept-Encoding": "gzip"}):
        again = client.get("/v1/centres", headers={**headers, "If-None-Match": tag})
        assert (again.status_code, again.content) == (304, b"")
        assert "content-encoding" not in again.headers
        assert "Accept-Encoding" in again.headers["vary"]
    whole = client.head("/v1/centres", headers={"Accept-Encoding": "gzip"})
    assert (whole.headers["content-encoding"], whole.content) == ("gzip", b"")


@SQLITE
def test_a_strong_tag_is_of_the_plain_bytes(client: Within) -> None:
    names = [one for one in client.get("/en/centres").text.split('"') if one.endswith((".css", ".js"))]
    assert names
    for name in names:
        plain = client.get(name, headers=PLAIN)
        if len(plain.content) < 1024:
            continue
        packed = client.get(name)
        assert plain.headers["etag"].startswith('"')
        assert packed.headers["etag"] == f"W/{plain.headers['etag']}"
        assert client.get(name, headers={"If-None-Match": packed.headers["etag"]}).status_code == 304


@SQLITE
def test_short_answers_and_stored_passwords_are_not_packed(client: Within, registry: Registry) -> None:
    assert "content-encoding" not in client.get("/healthz").headers
    token = bearer(registry, "platform")
    assert client.get("/v1/centres", headers=token).headers["content-encoding"] == "gzip"
    password = base64.b64encode(f"any:{token['Authorization'].removeprefix('Bearer ')}".encode()).decode()
    assert "content-encoding" not in client.get("/v1/centres", headers={"Authorization": f"Basic {password}"}).headers


@SQLITE
def test_readers_of_one_second_cost_one_packing(client: Within, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[bytes] = set()
    packed = PackedBodies.packed

    def noted(self: PackedBodies, body: bytes) -> bytes:
        seen.add(body)
        return packed(self, body)

    monkeypatch.setattr(PackedBodies, "packed", noted)
    for _ in range(20):
        client.get("/v1/capacity")
    assert len(seen) <= 3  # a second may end meanwhile


def test_bodies_stay_within_their_bound() -> None:
    bodies = PackedBodies(4000)
    texts = [bytes([number]) + bytes(range(256)) * 3 for number in range(40)]
    for text in texts:
        assert gzip.decompress(bodies.packed(text)) == text
    assert bodies._bytes <= 4000
    assert bodies.packed(texts[-1]) == bodies.packed(texts[-1])
    assert bodies.packings == len(texts)
    bodies.packed(texts[0])  # was dropped
    assert bodies.packings == len(texts) + 1


@pytest.mark.parametrize(
    ("accepted", "packs"),
    [("gzip", True), ("GZIP ; q=1", True), ("gzip;q=0", False), ("br", False), ("", False), ("identity, gzip", True)],
)
def test_who_takes_gzip(accepted: str, packs: bool) -> None:
    assert may_pack(Headers({"accept-encoding": accepted})) is packs
