"""What is read over HTTP: rights, conditional requests, pages, CSV and downloads."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select

from bench.units import DAY_NS, utc_ns, utc_text
from certify.registry.api.common import Scope
from certify.registry.api.views import PoolCapacity
from certify.registry.base import tokens
from certify.registry.base.registry import Registry, open_registry
from certify.registry.service.app import create_app
from certify.registry.state.cache import reader_of
from certify.registry.state.feed import csv_of
from certify.registry.storage import tables
from tests.certify.registry import rows
from tests.certify.registry.laid import lay_registry
from tests.certify.registry.rows import PoolOf, add_statement, after
from tests.certify.registry.within import Within

HOUR_S = 3600


@pytest.fixture
def client(registry: Registry) -> Within:
    return Within(create_app(registry))


@pytest.fixture
def now(registry: Registry) -> str:
    return registry.now


def bearer(registry: Registry, scope: Scope, centre_id: str | None = None) -> dict[str, str]:
    with registry.store.writing() as connection:
        _, secret = tokens.create_token(connection, scope, scope, centre_id, registry.now, 1)
    return {"Authorization": f"Bearer {secret}"}


def write_envelope(registry: Registry, content: bytes = b"{}") -> str:
    return registry.store.objects.put(content)


def code_of(answer: Any) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def test_the_feed_is_conditional(client: Within, registry: Registry, now: str) -> None:
    with registry.store.writing() as connection:
        add_statement(connection, "gz-1", at=now)
    answer = client.get("/v1/capacity")
    assert answer.status_code == 200
    (item,) = answer.json()["items"]
    assert (item["certified_mflop_s"], item["certified_pflops"]) == (2 * 10**12, "2000.000000")
    tag = answer.headers["etag"]
    assert client.get("/v1/capacity", headers={"If-None-Match": tag}).status_code == 304
    assert client.get("/v1/capacity", headers={"If-None-Match": f'"x", {tag}'}).status_code == 304
    assert client.get("/v1/capacity?state=expired", headers={"If-None-Match": tag}).json()["items"] == []
    with registry.store.writing() as connection:
        rows.add_act(connection, "register", "gz-1", at=now)
    answer = client.get("/v1/capacity", headers={"If-None-Match": tag})
    assert (answer.status_code, answer.json()["items"][0]["state"]) == (200, "registered")


def test_the_feed_is_followed_by_its_link(client: Within, registry: Registry, now: str) -> None:
    with registry.store.writing() as connection:
        add_statement(connection, "gz-1", at=now, district="南沙")
    answer = client.get("/v1/capacity", params={"district": "南沙"})
    assert len(answer.json()["items"]) == 1
    following = answer.links["next"]["url"]
    answer = client.get(following)
    assert (answer.json()["changed"], "etag" in answer.headers) == ([], False)
    with registry.store.writing() as connection:
        add_statement(connection, "gz-2", at=now)
    answer = client.get(answer.links["next"]["url"])
    assert (answer.json()["changed"], answer.json()["items"]) == (["gz-2"], [])  # of another district
    assert code_of(client.get("/v1/capacity?since=x")) == (400, "cursor-invalid")


def test_the_feed_as_csv(client: Within, registry: Registry, now: str) -> None:
    with registry.store.writing() as connection:
        add_statement(connection, "gz-1", at=now, district='=HYPERLINK("http://x")', project_id="-2+3")
        rows.add_external_id(connection, "gz-1", "a,b", project_id="-2+3", pool="main", at=now)
    answer = client.get("/v1/capacity", headers={"Accept": "text/csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.content == client.get("/v1/capacity?format=csv").content
    assert answer.text.count("\r\n") == 2
    (line,) = csv.DictReader(io.StringIO(answer.text))
    assert tuple(line) == PoolCapacity.__struct_fields__
    assert line["district"] == '\'=HYPERLINK("http://x")'
    assert line["project_id"] == "'-2+3"
    assert (line["certified_mflop_s"], line["certified_pflops"]) == ("2000000000000", "2000.000000")
    assert (line["simulated"], line["ended_at"], line["external_ids"]) == ("false", "", "csmc:a,b")
    assert client.get("/v1/capacity?format=json", headers={"Accept": "text/csv"}).json()["changed"] is None


def test_only_text_is_defused(registry: Registry, now: str) -> None:
    with registry.store.writing() as connection:
        add_statement(connection, "gz-1", at=now)
    pools = list(reader_of(registry.store).now(now, 300).pools)
    assert b"'" not in csv_of(pools)


def test_statements_are_paged_by_their_keys(client: Within, registry: Registry, now: str) -> None:
    with registry.store.writing() as connection:
        for number in range(7):  # two of them received at one moment
            add_statement(connection, f"gz-{number % 2}", at=after(now, -HOUR_S + number // 2))
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = client.get("/v1/statements", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        found += page["items"]
        cursor = page["next"]
        if len(found) == 4:
            with registry.store.writing() as connection:
                add_statement(connection, "gz-9", at=now)  # comes before all that are still to be told
        if cursor is None:
            break
    assert len({one["payload_sha256"] for one in found}) == 7
    assert [one["received_at"] for one in found] == sorted((one["received_at"] for one in found), reverse=True)
    states = [one["state"] for one in found]
    assert (states.count("superseded"), states.count("certified")) == (5, 2)
    old = next(one for one in found if one["state"] == "superseded")
    after_it = next(one for one in found if one["previous_sha256"] == old["payload_sha256"])
    assert old["ended_at"] == after_it["received_at"]
    for query, count in (("state=superseded", 5), ("state=certified", 3), ("centre=gz-0", 4), ("class=edge", 0)):
        assert len(client.get(f"/v1/statements?{query}").json()["items"]) == count, query
    assert client.get("/v1/statements?level=trusted").json()["items"] == []
    assert code_of(client.get("/v1/statements?cursor=x")) == (400, "cursor-invalid")
    assert code_of(client.get("/v1/statements?limit=501"))[0] == 422
    assert code_of(client.get("/v1/statements?project=%00"))[0] == 422


def test_a_statement_tells_what_was_decided(client: Within, registry: Registry, now: str) -> None:
    payload: dict[str, Any] = {"predicate": {"verdicts": [], "ceilings": []}}
    content = json.dumps(
        {
            "payload": base64.b64encode(json.dumps(payload).encode()).decode(),
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [{"keyid": "0" * 64, "sig": base64.b64encode(b"x" * 64).decode()}],
        },
        separators=(",", ":"),
    ).encode()
    with registry.store.writing() as connection:
        statement = add_statement(connection, "gz-1", at=now, envelope_sha256=write_envelope(registry, content))
        decision = {"at": now, "kind": "statement", "decision": "accepted", "code": None, "detail": "uuid:abc"}
        decision |= {"level": "trusted", "payload_sha256": statement, "object_sha256": None, "centre_id": "gz-1"}
        connection.execute(tables.decisions.insert(), decision | {"token_id": 1, "receipt": b"signed"})
        connection.execute(tables.signers.insert(), {"statement": statement, "keyid": "f" * 64})
    told = client.get(f"/v1/statements/{statement}").json()
    assert told["summary"]["payload_sha256"] == statement
    assert (told["signers"], told["verdicts"], told["superseded_by"]) == (["f" * 64], [], None)
    assert [one["detail"] for one in told["decisions"]] == [None]
    assert "nodes" not in told["links"]
    own = bearer(registry, "operator", "gz-1")
    told = client.get(f"/v1/statements/{statement}", headers=own).json()
    assert [one["detail"] for one in told["decisions"]] == ["uuid:abc"]
    assert set(told["links"]) == {"envelope", "receipt", "page", "records", "nodes"}
    answer = client.get(told["links"]["envelope"])
    sha256 = hashlib.sha256(content)
    assert answer.content == content
    assert answer.headers["etag"] == f'"{sha256.hexdigest()}"'
    assert answer.headers["repr-digest"] == f"sha-256=:{base64.b64encode(sha256.digest()).decode()}:"
    assert answer.headers["content-disposition"] == 'attachment; filename="gz-1-1.statement.dsse.json"'
    assert client.get(told["links"]["envelope"], headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    assert client.get(told["links"]["receipt"]).content == b"signed"
    for part in ("", "/envelope", "/receipt"):
        assert code_of(client.get(f"/v1/statements/{'0' * 64}{part}")) == (404, "statement-unknown")


def test_nodes_and_records_are_for_those_with_the_right(client: Within, registry: Registry, now: str) -> None:
    lines = b'{"a":1}\n{"b":2}\n'
    with registry.store.writing() as connection:
        statement = add_statement(connection, "gz-1", [PoolOf(nodes=3)], at=now, level="trusted")
        rows.recompute(connection, statement, [PoolOf(nodes=3)], at=now, records_sha256=write_envelope(registry, lines))
        rows.beat(connection, "gz-1", "main-0001", at=now)
        rows.beat(connection, "gz-1", "main-0002", at=now, same=False)
    for part in ("nodes", "records"):
        path = f"/v1/statements/{statement}/{part}"
        assert code_of(client.get(path)) == (401, "token-missing")
        assert code_of(client.get(path, headers=bearer(registry, "reader"))) == (403, "token-scope")
        other = bearer(registry, "operator", "gz-2")
        assert code_of(client.get(path, headers=other)) == (403, "token-centre-differs")
    own, platform = bearer(registry, "operator", "gz-1"), bearer(registry, "platform")
    path = f"/v1/statements/{statement}"
    assert client.get(f"{path}/records", headers=own).content == lines
    assert client.get(f"{path}/records", headers=own | {"Range": "bytes=0-7"}).content == lines[:8]
    first = client.get(f"{path}/nodes?limit=2", headers=platform).json()
    second = client.get(f"{path}/nodes", params={"limit": 2, "cursor": first["next"]}, headers=platform).json()
    assert [one["online"] for one in first["items"] + second["items"]] == [False, True, False]
    assert second["next"] is None


def test_centres_are_searched_and_paged(client: Within, registry: Registry, now: str) -> None:
    with registry.store.writing() as connection:
        for number in range(5):
            district = "Nansha" if number % 2 else "Panyu"
            add_statement(connection, f"gz-{number}", at=now, district=district, operator=f"Firm {number}")
    first = client.get("/v1/centres?limit=3").json()
    second = client.get("/v1/centres", params={"limit": 3, "cursor": first["next"]}).json()
    assert [one["centre_id"] for one in first["items"] + second["items"]] == [f"gz-{number}" for number in range(5)]
    for query, count in (
        ("q=FIRM 3", 1),
        ("q=中心", 5),
        ("district=Nansha", 2),
        ("class=edge", 0),
        ("state=expired", 0),
    ):
        assert len(client.get(f"/v1/centres?{query}").json()["items"]) == count, query
    told = client.get("/v1/centres/gz-1").json()
    assert (len(told["pools"]), len(told["statements"]), told["attempts"]) == (1, 1, [])
    assert code_of(client.get("/v1/centres/gz-8")) == (404, "centre-unknown")


def test_sums_are_told(client: Within, registry: Registry, now: str) -> None:
    with registry.store.writing() as connection:
        add_statement(connection, "gz-1", at=now)
    answer = client.get("/v1/lifecycle")
    assert [line["state"] for line in answer.json()["lines"]] == ["declared", "certified"]
    assert client.get("/v1/lifecycle", headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    answer = client.get("/v1/cities")
    assert [one["policy"] for one in answer.json()] == ["guangzhou-2027", "wuhan-2025"]
    one = client.get("/v1/cities/guangzhou-2027").json()
    assert one["components"][0]["counted"]["certified_mflop_s"] == 2 * 10**12
    assert one["conditions"][0]["clause_text"] == "到2027年，全市智算规模突破100 EFLOPS"
    assert code_of(client.get("/v1/cities/atlantis")) == (404, "city-unknown")


def test_alarms_and_decisions(client: Within, registry: Registry, now: str) -> None:
    with registry.store.writing() as connection:
        statement = add_statement(connection, "gz-1", at=now)
        for number in range(3):
            rows.add_alarm(connection, rows.sha(number), statement, "gz-2", "gz-1", at=now)
            decision: dict[str, Any] = {"at": now, "kind": "statement", "decision": "refused"}
            decision |= {"code": "device-claimed-twice"}
            decision |= {"detail": "claims uuid:abc", "level": None, "payload_sha256": rows.sha(number)}
            decision |= {"object_sha256": None, "centre_id": "gz-2", "token_id": 1, "receipt": None}
            connection.execute(tables.decisions.insert(), decision)
    first = client.get("/v1/alarms?limit=2").json()
    second = client.get("/v1/alarms", params={"limit": 2, "cursor": first["next"]}).json()
    assert [one["id"] for one in first["items"] + second["items"]] == [3, 2, 1]
    assert first["items"][0]["title"]["zh"].startswith("同一设备")
    assert len(client.get("/v1/alarms?centre=gz-1").json()["items"]) == 3
    assert client.get("/v1/alarms?centre=gz-3").json()["items"] == []
    told = client.get("/v1/decisions?decision=refused&centre=gz-2&kind=statement").json()["items"]
    assert [(one["code"], one["detail"]) for one in told] == [("device-claimed-twice", None)] * 3
    told = client.get("/v1/decisions", headers=bearer(registry, "platform")).json()["items"]
    assert told[0]["detail"] == "claims uuid:abc"
    assert client.get("/v1/attempts").json() == {"items": [], "next": None}


def test_where_a_device_was_counted_is_for_the_platform(client: Within, registry: Registry, now: str) -> None:
    with registry.store.writing() as connection:
        for number, centre_id in enumerate(("gz-1", "gz-1", "gz-2")):
            statement = add_statement(connection, centre_id, at=after(now, number - HOUR_S))
            row = {"statement": statement, "kind": "device", "value": "abcdef12", "place": "n1/cuda:0"}
            connection.execute(tables.identities.insert(), row | {"claimed": centre_id == "gz-1"})
    assert code_of(client.get("/v1/devices/uuid:abcdef12")) == (401, "token-missing")
    assert code_of(client.get("/v1/devices/x", headers=bearer(registry, "operator", "gz-1"))) == (403, "token-scope")
    platform = bearer(registry, "platform")
    for spelling in ("uuid:abcdef12", "serial:ABCDEF12", "GPU-ABCDEF12", "abcdef-12"):
        told = client.get(f"/v1/devices/{spelling}", headers=platform).json()
        states = [(one["centre_id"], one["state"], one["claimed"]) for one in told["sightings"]]
        assert states == [("gz-2", "certified", False), ("gz-1", "certified", True), ("gz-1", "superseded", True)]
        assert told["counted_in"] == told["sightings"][1]["statement"]
    for unknown in ("serial:abcdef13", "0", "N/A%20"):
        assert client.get(f"/v1/devices/{unknown}", headers=platform).status_code == 404


def test_identifiers_that_others_issued(client: Within, registry: Registry, now: str) -> None:
    with registry.store.writing() as connection:
        statement = add_statement(connection, "gz-1", at=now)
        rows.add_external_id(connection, "gz-1", "a b", statement=statement, at=now)
        rows.add_external_id(connection, "gz-1", "a b", pool="main", at=now)
    told = client.get("/v1/identifiers/csmc/a%20b").json()["items"]
    assert [(one["pool"], one["source"]) for one in told] == [("main", "platform"), (None, "statement")]
    assert client.get("/v1/identifiers/csmc/other").json() == {"items": [], "next": None}


def test_the_service_says_what_it_is(client: Within, registry: Registry) -> None:
    told = client.get("/v1").json()
    spki = base64.b64decode(told["registry_spki"])
    assert hashlib.sha256(spki).hexdigest() == told["registry_keyid"] == registry.key.public.keyid
    assert " version 1, " in told["trust_root"]


def test_metrics(client: Within, registry: Registry, now: str) -> None:
    def read() -> dict[tuple[str, ...], float]:
        families = text_string_to_metric_families(client.get("/metrics").text)
        return {
            (one.name, *(one.labels[label] for label in sorted(one.labels))): one.value
            for family in families
            for one in family.samples
        }

    assert ("petaseal_registry_last_submission_seconds",) not in read()
    with registry.store.writing() as connection:
        for _ in range(2):
            statement = add_statement(connection, "gz-1", [PoolOf(certified_mflop_s=7)], at=now)
        rows.manage(connection, "gz-1", at=now)
        rows.beat(connection, "gz-1", "main-0000", at=now)
        rows.add_alarm(connection, rows.sha(1), statement, "gz-2", "gz-1", at=now)
        decision = {"at": utc_text(utc_ns(now) - DAY_NS), "kind": "statement", "decision": "accepted", "code": None}
        decision |= {"detail": None, "level": None, "payload_sha256": None, "object_sha256": None, "centre_id": "gz-1"}
        connection.execute(tables.decisions.insert(), decision | {"token_id": 1, "receipt": None})
    for _ in range(2):  # what was counted before is not counted again
        found = read()
        assert found["petaseal_registry_statements", "schedulable"] == 1
        assert found["petaseal_registry_statements", "superseded"] == 1
        assert found["petaseal_registry_certified_flops", "intelligent", "fp16", "schedulable"] == 7 * 10**6
        assert found["petaseal_registry_nodes_online",] == 1
        assert found["petaseal_registry_decisions_total", "", "accepted", "statement"] == 1
        assert found["petaseal_registry_alarms", "device-claimed-twice"] == 1
        assert found["petaseal_registry_last_submission_seconds",] >= 86_400


def test_a_closed_registry_is_read_with_a_token(tmp_path: Path, keys: Path, database: str) -> None:
    registry = open_registry(lay_registry(tmp_path / "closed", keys, database, public_read=False).root)
    client = Within(create_app(registry))
    paths = ("", "/capacity", "/statements", "/centres", "/lifecycle", "/cities", "/alarms", "/decisions", "/attempts")
    own = bearer(registry, "reader")
    for path in paths:
        assert code_of(client.get(f"/v1{path}")) == (401, "token-missing")
        assert client.get(f"/v1{path}", headers=own).status_code == 200
    assert code_of(client.get("/metrics")) == (401, "token-missing")
    assert client.get("/metrics", headers=bearer(registry, "metrics")).status_code == 200
    registry.close()


def test_an_object_that_is_gone_is_not_the_askers_fault(client: Within, registry: Registry, now: str) -> None:
    with registry.store.writing() as connection:
        statement = add_statement(connection, "gz-1", at=now)
        assert connection.scalar(select(tables.statements.c.envelope_sha256))
    assert code_of(client.get(f"/v1/statements/{statement}/envelope")) == (503, "unavailable")
