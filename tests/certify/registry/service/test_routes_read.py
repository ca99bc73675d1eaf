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
from certify.registry.state.feeds.sheets import csv_of
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
    fields = [name for name in PoolCapacity.__struct_fields__ if name != "name"]
    assert sorted(line) == sorted([*fields, "name_en", "name_zh"])
    assert (line["name_zh"], line["jurisdiction"], line["city"]) == ("中心 gz-1", "CN-440100", "CN-440100")
    (model,) = json.loads(line["models"])
    assert (model["vendor"], model["model"], model["memory_bytes"]) == ("NVIDIA", "NVIDIA H20", 96 * 2**30)
    assert line["district"] == '\'=HYPERLINK("http://x")'
    assert line["project_id"] == "'-2+3"
    assert (line["certified_mflop_s"], line["certified_pflops"]) == ("2000000000000", "2000.000000")
    assert (line["simulated"], line["ended_at"], line["external_ids"]) == ("false", "", "csmc:a,b")
    assert client.get("/v1/capacity?format=json", headers={"Accept": "text/csv"}).json()["changed"] is None


PLACES = {"gz-1": "CN-440115", "gz-2": "CN-440100", "fs-1": "CN-440600", "wh-1": "CN-420100", "nowhere": None}


@pytest.fixture
def places(client: Within, registry: Registry, now: str) -> Within:
    """Centres in several places, with devices of several vendors."""
    pools = {
        "gz-1": PoolOf(vendor="Huawei", model="Ascend910B2", memory_bytes=64 * 2**30),
        "gz-2": PoolOf(),
        "fs-1": PoolOf(vendor="Huawei", model="Ascend910B4", memory_bytes=32 * 2**30),
        "wh-1": PoolOf(vendor="NVIDIA", model="NVIDIA H200", memory_bytes=141 * 10**9),
    }
    with registry.store.writing() as connection:
        for centre_id, jurisdiction in PLACES.items():
            pool = pools.get(centre_id, PoolOf(vendor="Hygon", model="K100_AI", memory_bytes=None))
            add_statement(connection, centre_id, [pool], at=now, jurisdiction=jurisdiction)
    return client


@pytest.mark.parametrize(
    ("asked", "centres"),
    [
        ("jurisdiction=CN-440100", ["gz-1", "gz-2"]),
        ("jurisdiction=CN-440115", ["gz-1"]),
        ("jurisdiction=CN-44", ["fs-1", "gz-1", "gz-2"]),
        ("jurisdiction=CN", ["fs-1", "gz-1", "gz-2", "wh-1"]),
        ("vendor=HUAWEI", ["fs-1", "gz-1"]),
        ("model=nvidia%20h20", ["gz-2"]),
        ("model=NVIDIA%20H20*", ["gz-2", "wh-1"]),
        ("vendor=Huawei&model=Ascend910B*&jurisdiction=CN-440100", ["gz-1"]),
        ("vendor=NVIDIA&model=Ascend910B2", []),
        ("vendor=Hygon", ["nowhere"]),
        ("state=certified&model=Ascend910B4", ["fs-1"]),
        ("state=managed&model=Ascend910B4", []),
    ],
)
def test_lists_are_asked_by_place_and_model(places: Within, asked: str, centres: list[str]) -> None:
    for path in ("capacity", "centres", "statements"):
        found = {item["centre_id"] for item in places.get(f"/v1/{path}?{asked}").json()["items"]}
        assert (path, sorted(found)) == (path, centres)


def test_the_feed_says_where_and_what(places: Within) -> None:
    (pool,) = places.get("/v1/capacity?centre=gz-1").json()["items"]
    assert (pool["name"], pool["jurisdiction"]) == ({"zh": "中心 gz-1", "en": "Centre gz-1"}, "CN-440115")
    assert (pool["city"], pool["devices_without_rating"], pool["models_left_out"]) == ("CN-440100", 0, 0)
    assert pool["models"] == [
        {
            "vendor": "Huawei",
            "model": "Ascend910B2",
            "count_unit": "card",
            "devices": 8,
            "nodes": 1,
            "devices_per_node": 8,
            "devices_per_node_most": 8,
            "memory_bytes": 64 * 2**30,
            "memory_bytes_most": 64 * 2**30,
            "devices_without_rating": 0,
            "steps": [{"step": "silicon", "devices": 8, "certified_mflop_s": 2 * 10**12}],
        }
    ]


def test_models_of_what_is_only_declared_are_those_of_the_statement(
    client: Within, registry: Registry, now: str
) -> None:
    with registry.store.writing() as connection:
        add_statement(connection, "gz-1", [PoolOf(nodes=3)], at=now, level="trusted")
    (model,) = client.get("/v1/capacity").json()["items"][0]["models"]
    assert (model["model"], model["devices"]) == ("NVIDIA H20", 24)
    assert (model["nodes"], model["memory_bytes"], model["devices_per_node"]) == (None, None, None)


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("/v1/capacity?jurisdicton=CN-440100", "jurisdicton"),
        ("/v1/capacity?State=expired", "State"),
        ("/v1?x=", "x"),
        ("/v1/openapi.json?x=1", "x"),
        ("/v1/centres/gz-1?limit=5", "limit"),
        ("/v1/statements?class=edge&klass=edge", "klass"),
        ("/v1/capacity?state=expired&state=managed", "state"),
        ("/v1/decisions?limit=1&limit=1", "limit"),
        ("/v1/nodes/gz-1/node/nonce?fast=1", "fast"),
    ],
)
def test_parameters_that_no_route_takes_are_refused(client: Within, path: str, parameter: str) -> None:
    answer = client.get(path)
    assert code_of(answer) == (422, "request-invalid")
    assert parameter in answer.json()["detail"]
    posted = client.post(f"/v1/heartbeats?{parameter}=1", content=b"{}")
    assert code_of(posted) == (422, "request-invalid")
    assert client.get(f"/en/centres?{parameter}=1").status_code == 200


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_every_operation_of_the_api_refuses_what_it_does_not_take(client: Within, registry: Registry) -> None:
    token = bearer(registry, "platform")
    paths = client.get("/v1/openapi.json").json()["paths"]
    operations = [(method, path) for path, each in paths.items() for method in each if path.startswith("/v1")]
    assert len(operations) >= 35
    for method, path in operations:
        place = path.replace("{sha256}", "ab" * 32).replace("{", "").replace("}", "")
        answer = client.request(method.upper(), f"{place}?zzz=1", headers=token)
        assert (method, path, *code_of(answer)) == (method, path, 422, "request-invalid")
        assert "zzz" in answer.json()["detail"]


def test_only_text_is_defused(registry: Registry, now: str) -> None:
    with registry.store.writing() as connection:
        add_statement(connection, "gz-1", at=now)
    pools = list(reader_of(registry.store).now(now, 300).pools)
    assert b"'" not in csv_of(PoolCapacity, pools)


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
    receipts = {"receipt", "receipt_first", "receipt_highest"}
    assert set(told["links"]) == {"envelope", *receipts, "page", "records", "nodes"}
    answer = client.get(told["links"]["envelope"])
    sha256 = hashlib.sha256(content)
    assert answer.content == content
    assert answer.headers["etag"] == f'"{sha256.hexdigest()}"'
    assert answer.headers["repr-digest"] == f"sha-256=:{base64.b64encode(sha256.digest()).decode()}:"
    assert answer.headers["content-disposition"] == 'attachment; filename="gz-1-1.statement.dsse.json"'
    assert client.get(told["links"]["envelope"], headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    assert client.get(told["links"]["receipt"]).content == b"signed"
    assert client.get(told["links"]["receipt_highest"]).content == b"signed"  # so far there is no other
    with registry.store.writing() as connection:
        for receipt in (b"recomputed", b"recomputed again"):
            row = decision | {"kind": "records", "level": "recomputed", "token_id": 1, "receipt": receipt}
            connection.execute(tables.decisions.insert(), row)
    wanted = {"receipt": b"signed", "receipt_first": b"signed", "receipt_highest": b"recomputed"}
    assert {name: client.get(told["links"][name]).content for name in wanted} == wanted
    assert client.get(f"/v1/statements/{statement}/receipt?which=newest").status_code == 422
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


@pytest.mark.parametrize(
    ("path", "column"),
    [
        ("centres", "centre_id"),
        ("statements", "payload_sha256"),
        ("alarms", "other_centre_id"),
        ("decisions", "decision"),
        ("attempts", "challenge"),
    ],
)
def test_lists_are_to_be_had_as_csv_page_by_page(client: Within, registry: Registry, path: str, column: str) -> None:
    now = registry.now
    with registry.store.writing() as connection:
        for number in (1, 2, 3):
            sha256 = add_statement(connection, f"gz-{number}", at=now, name_zh="南沙, 智算")
            rows.add_alarm(connection, sha256, sha256, f"gz-{number}", "gz-9")
            values: dict[str, Any] = {
                "at": now,
                "kind": "statement",
                "object_sha256": None,
                "centre_id": f"gz-{number}",
            }
            values |= {"code": None, "detail": None, "level": "trusted", "decision": "accepted", "receipt": b"{}"}
            connection.execute(tables.decisions.insert(), values | {"payload_sha256": sha256, "token_id": 1})
            drawn = {"challenge": f"{number:032x}", "centre_id": f"gz-{number}", "issued_at": now, "token_id": 1}
            connection.execute(tables.challenges.insert(), drawn | {"expires_at": after(now, HOUR_S)})
    plain = client.get(f"/v1/{path}", params={"limit": 2})
    # the JSON answer is stored in the response cache under the same address, and is not what is asked for here
    assert client.get(f"/v1/{path}", params={"limit": 2}).headers["vary"].startswith("Accept")
    answer = client.get(f"/v1/{path}", params={"limit": 2}, headers={"Accept": "text/csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    assert f'filename="{path}.csv"' in answer.headers["content-disposition"]
    found = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert [line[column] for line in found] == [str(item[column]) for item in plain.json()["items"]]
    following = answer.headers["link"].removeprefix("<").removesuffix('>; rel="next"')
    last = client.get(following, headers={"Accept": "text/csv"})
    found += csv.DictReader(io.StringIO(last.content.decode("utf-8-sig")))
    assert "link" not in last.headers
    whole = client.get(f"/v1/{path}", params={"format": "json"}, headers={"Accept": "text/csv"}).json()["items"]
    assert [line[column] for line in found] == [str(item[column]) for item in whole]
    assert len(whole) == 3
    assert client.get(f"/v1/{path}", params={"format": "csv"}).headers["content-type"].startswith("text/csv")
