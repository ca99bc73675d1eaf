"""Alarms with the platform's word on them, groups of alarms, and the audit log: rights, filters, pages and CSV."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from certify.registry.api.common import Scope
from certify.registry.base.registry import Registry
from certify.registry.maintenance.retention import drop_refused
from certify.registry.service.app import create_app
from certify.registry.storage import tables
from certify.registry.storage.store import audit
from certify.registry.storage.upkeep import acknowledgements
from tests.bad_input.command import petaseal
from tests.certify.registry import rows
from tests.certify.registry.laid import Laid
from tests.certify.registry.maintenance.test_retention import flood, keeping
from tests.certify.registry.rows import PoolOf
from tests.certify.registry.service.test_routes_read import bearer, code_of
from tests.certify.registry.serving import new_token, serving
from tests.certify.registry.within import Within

SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
A, B, C = "gz-a", "wh-b", "sz-c"


@pytest.fixture
def client(registry: Registry) -> Within:
    """The application over a registry of three alarms, two of them between the same centres."""
    with registry.store.writing() as connection:
        one, two, three = (rows.add_statement(connection, centre, (PoolOf(),)) for centre in (A, B, C))
        rows.add_alarm(connection, one, two, A, B, devices=8)
        rows.add_alarm(connection, two, one, B, A, devices=16)
        rows.add_alarm(connection, three, None, C, None, code="facility-shared", devices=0)
    return Within(create_app(registry))


def acknowledge(client: Within, number: object, headers: dict[str, str], **ask: Any) -> Any:
    body = {"reason": "moved, letter 17", **ask}
    return client.post(f"/v1/alarms/{number}/acknowledgement", json=body, headers=headers)


def numbers(answer: Any) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["items"]]


def test_an_alarm_is_acknowledged_and_that_withdrawn(client: Within, registry: Registry) -> None:
    platform, operator = bearer(registry, "platform"), bearer(registry, "operator", B)
    done = acknowledge(client, 1, platform)
    assert (done.status_code, done.json()["acknowledged"]) == (201, True)
    assert numbers(client.get("/v1/alarms?acknowledged=true")) == [1]
    assert numbers(client.get("/v1/alarms?acknowledged=false")) == [3, 2]
    word = {
        who: next(one for one in client.get("/v1/alarms", headers=head).json()["items"] if one["id"] == 1)
        for who, head in (("public", {}), ("operator", operator), ("platform", platform))
    }
    assert word["public"]["acknowledgement"]["acknowledged"] is True
    assert (word["public"]["what"], word["public"]["acknowledgement"]["reason"]) == (None, None)
    assert word["operator"]["acknowledgement"]["reason"] == "moved, letter 17"
    assert word["operator"]["acknowledgement"]["token_id"] is None
    assert word["platform"]["acknowledgement"]["token_id"] == 1
    assert acknowledge(client, 1, platform, acknowledged=False, reason="it did not move").status_code == 201
    assert numbers(client.get("/v1/alarms?acknowledged=true")) == []
    with registry.store.reading() as connection:
        said = connection.execute(select(acknowledgements).order_by(acknowledgements.c.id)).all()
    assert [(one.acknowledged, one.reason) for one in said] == [(True, "moved, letter 17"), (False, "it did not move")]


ATTACKS: dict[str, tuple[Scope | None, str | None, tuple[int, str]]] = {
    "the centre that an alarm is about": ("operator", A, (403, "token-scope")),
    "the other centre of it": ("operator", B, (403, "token-scope")),
    "a reader": ("reader", None, (403, "token-scope")),
    "a scraper": ("metrics", None, (403, "token-scope")),
    "somebody without a token": (None, None, (401, "token-missing")),
}


def test_only_the_platform_acknowledges(client: Within, registry: Registry) -> None:
    for name, (scope, of, expected) in ATTACKS.items():
        headers = {} if scope is None else bearer(registry, scope, of)
        assert code_of(acknowledge(client, 1, headers)) == expected, name
    assert numbers(client.get("/v1/alarms?acknowledged=true")) == []


def test_what_cannot_be_acknowledged(client: Within, registry: Registry) -> None:
    platform = bearer(registry, "platform")
    assert code_of(acknowledge(client, 99, platform)) == (404, "alarm-unknown")
    assert code_of(acknowledge(client, 1, platform, acknowledged=False)) == (409, "alarm-not-acknowledged")
    for reason in ("", "   ", "\u3000", "a\0b", "two\nlines", "\x1b[2J", "\x9b2J", "x" * 257):
        assert code_of(acknowledge(client, 1, platform, reason=reason)) == (422, "request-invalid"), repr(reason)
        act = {"act": "register", "centre_id": A, "pool": "main", "reason": reason}
        assert code_of(client.post("/v1/acts", json=act, headers=platform)) == (422, "request-invalid"), repr(reason)
    assert code_of(acknowledge(client, "x", platform)) == (422, "request-invalid")


def test_alarms_in_groups(client: Within, registry: Registry) -> None:
    acknowledge(client, 2, bearer(registry, "platform"))
    groups = client.get("/v1/alarm-groups").json()["items"]
    shown = [(one["code"], one["centre_id"], one["other_centre_id"], one["alarms"], one["open"]) for one in groups]
    assert shown == [("facility-shared", C, None, 1, 1), ("device-claimed-twice", A, B, 2, 1)]
    assert (groups[1]["devices"], groups[1]["last_id"]) == (16, 2)
    by_statement = client.get("/v1/alarm-groups?by=statement&code=device-claimed-twice").json()["items"]
    assert [(one["centre_id"], one["alarms"]) for one in by_statement] == [(B, 1), (A, 1)]
    first = client.get("/v1/alarm-groups?limit=1").json()
    second = client.get(f"/v1/alarm-groups?limit=1&cursor={first['next']}").json()
    assert [first["items"][0], second["items"][0]] == groups
    assert second["next"] is None
    assert client.get("/v1/alarm-groups?acknowledged=true").json()["items"][0]["alarms"] == 1


@pytest.fixture
def logged(registry: Registry) -> Within:
    """The application over a registry with an audit log of five lines."""
    with registry.store.writing() as connection:
        for day, action, outcome in (
            (1, "statement", "accepted"),
            (2, "records", "signature-invalid"),
            (3, "manage", "done"),
            (4, "=1+1", "done"),
        ):
            audit(connection, f"2026-03-0{day}T08:00:00.500000Z", day, action, "target", outcome, "request")
        audit(connection, "2026-03-05T08:00:00.000000Z", None, "drop-refused", "3 bodies", "done", "")
    return Within(create_app(registry))


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("", [5, 4, 3, 2, 1]),
        ("since=2026-03-03", [5, 4, 3]),
        ("until=2026-03-03", [2, 1]),
        ("since=2026-03-02T08:00:00Z&until=2026-03-03T08:00:01Z", [3, 2]),
        ("token=2", [2]),
        ("action=manage", [3]),
        ("outcome=done&limit=2", [5, 4]),
    ],
)
def test_the_audit_log_is_filtered(logged: Within, registry: Registry, asked: str, found: list[int]) -> None:
    assert numbers(logged.get(f"/v1/audit?{asked}", headers=bearer(registry, "platform"))) == found


@SQLITE
def test_the_audit_log_as_csv(logged: Within, registry: Registry) -> None:
    """Attack: a text of the log is a spreadsheet's formula."""
    platform = bearer(registry, "platform")
    answer = logged.get("/v1/audit?format=csv&limit=2", headers=platform)
    assert answer.headers["content-type"].startswith("text/csv")
    lines = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert [line["action"] for line in lines] == ["drop-refused", "'=1+1"]
    following = answer.headers["link"].partition("<")[2].partition(">")[0]
    lines = list(csv.DictReader(io.StringIO(logged.get(following, headers=platform).content.decode("utf-8-sig"))))
    assert [line["id"] for line in lines] == ["3", "2"]


@SQLITE
def test_the_audit_log_is_the_platforms(logged: Within, registry: Registry) -> None:
    assert code_of(logged.get("/v1/audit")) == (401, "token-missing")
    for scope, of in (("operator", A), ("reader", None)):
        answer = logged.get("/v1/audit", headers=bearer(registry, scope, of))  # type: ignore[arg-type]
        assert code_of(answer) == (403, "token-scope")
    assert code_of(logged.get("/v1/audit?since=today", headers=bearer(registry, "platform"))) == (
        422,
        "request-invalid",
    )


@SQLITE
def test_the_page_says_which_are_open(client: Within, registry: Registry) -> None:
    acknowledge(client, 3, bearer(registry, "platform"), reason="names gpu-00000")
    page = client.get("/en/alarms?acknowledged=true").text
    assert ("Acknowledged" in page, "facility-shared" in page, "device-claimed-twice" in page) == (True, True, False)
    assert "gpu-00000" not in page
    assert "facility-shared" not in client.get("/en/alarms?acknowledged=false").text


@SQLITE
def test_a_dropped_body_is_said_of_its_decision(registry: Registry) -> None:
    (body,) = flood(registry, 1)
    drop_refused(keeping(registry, refused_bytes=0))
    client = Within(create_app(registry))
    (public,) = client.get("/v1/decisions").json()["items"]
    (shown,) = client.get("/v1/decisions", headers=bearer(registry, "platform")).json()["items"]
    assert (public["object_sha256"], shown["object_sha256"]) == (None, body)
    assert public["body_dropped_at"] == shown["body_dropped_at"] is not None


@SQLITE
def test_the_commands(place: Laid, registry: Registry, tmp_path: Path) -> None:
    with registry.store.writing() as connection:
        one, two = (rows.add_statement(connection, centre, (PoolOf(),)) for centre in (A, B))
        rows.add_alarm(connection, one, two, A, B)
        said = tables.alarms.c.id
        number = connection.execute(select(said)).scalar_one()
    secret = tmp_path / "platform.token"
    secret.write_text(new_token(place.root, "platform"))
    with serving(place.root) as url:
        there = ("--url", url, "--token-file", secret)
        done = petaseal("registry", "acknowledge", number, "--reason", "letter 17", *there)
        assert (done.status, "is acknowledged" in done.out) == (0, True), done
        assert "acknowledged" in petaseal("registry", "alarms", *there).out
        assert petaseal("registry", "alarms", "--open", *there).out == "there is no alarm\n"
        assert "device-claimed-twice" in petaseal("registry", "alarms", "--grouped", *there).out
        assert petaseal("registry", "acknowledge", number, "--reason", "no", "--withdraw", *there).status == 0
        again = petaseal("registry", "acknowledge", number, "--reason", "no", "--withdraw", *there)
        assert (again.status, again.code) == (1, "alarm-not-acknowledged")
        assert "acknowledge" in petaseal("registry", "audit", "--outcome", "done", *there).out
