"""What a centre's own scheduler calls its nodes: over the API and the command line, for who may see the nodes."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from sqlalchemy import select

from bench.errors import InputError, RefusedError
from certify.commands.registry.aliases import read_names
from certify.registry.api.nodes import AliasAsk, AliasesAsk
from certify.registry.base.registry import Limits, Registry
from certify.registry.intake.aliases import change_aliases, replace_aliases
from certify.registry.service.app import create_app
from certify.registry.storage import tables
from tests.certify.registry.rows import PoolOf, add_statement
from tests.certify.registry.service.test_routes_read import bearer, code_of
from tests.certify.registry.within import Within

NAMES = {"main-0000": "gpu[001]", "main-0001": "k8s-node-2.gz.example"}
PATH = "/v1/centres/gz-1/aliases"


@pytest.fixture
def client(registry: Registry) -> Within:
    with registry.store.writing() as connection:
        for centre_id in ("gz-1", "gz-2"):
            add_statement(connection, centre_id, [PoolOf(nodes=3)], at=registry.now)
    return Within(create_app(registry))


def asked(**names: str | None) -> dict[str, Any]:
    return {"aliases": [{"node_id": node_id.replace("_", "-"), "alias": alias} for node_id, alias in names.items()]}


def test_names_are_seen_by_who_may_see_the_nodes(client: Within, registry: Registry) -> None:
    own, other = bearer(registry, "operator", "gz-1"), bearer(registry, "operator", "gz-2")
    platform, reader = bearer(registry, "platform"), bearer(registry, "reader")
    body = {"aliases": [{"node_id": node_id, "alias": alias} for node_id, alias in NAMES.items()]}
    answer = client.put(PATH, json=body, headers=own)
    assert (answer.status_code, answer.json()["unknown"]) == (200, [])
    assert client.get(PATH, headers=platform).json() == answer.json()
    for headers, wanted in ((own, NAMES), (platform, NAMES)):
        lines = client.get("/v1/nodes?centre=gz-1", headers=headers).json()["items"]
        assert {one["node_id"]: one["alias"] for one in lines if one["alias"]} == wanted
    assert {one["alias"] for one in client.get("/v1/nodes", headers=other).json()["items"]} == {None}
    for path in (PATH, "/v1/nodes?centre=gz-1"):
        assert code_of(client.get(path, headers=other)) == (403, "token-centre-differs")
        assert code_of(client.get(path, headers=reader)) == (403, "token-scope")
        assert code_of(client.get(path)) == (401, "token-missing")
    assert code_of(client.put(PATH, json=body, headers=other)) == (403, "token-centre-differs")
    for path in ("/v1/capacity", "/v1/centres/gz-1", "/en/centres/gz-1"):
        assert "gpu[001]" not in client.get(path).text
    table = client.get("/v1/nodes?format=csv&centre=gz-1", headers=own)
    assert [one["alias"] for one in csv.DictReader(io.StringIO(table.text))] == [*NAMES.values(), ""]
    with registry.store.reading() as connection:
        audit = connection.execute(select(tables.audit)).all()
    assert [(one.action, one.target, one.outcome) for one in audit][:1] == [("aliases", PATH, "done")]


def test_names_are_replaced_as_a_whole_or_one_by_one(client: Within, registry: Registry) -> None:
    own = bearer(registry, "operator", "gz-1")
    client.put(PATH, json=asked(main_0000="a", main_0001="b"), headers=own)
    first = client.get("/v1/nodes", headers=own).json()["next"]
    # two nodes exchange their names
    client.request("PATCH", PATH, json=asked(main_0000="b", main_0001="a"), headers=own)
    changed = client.get(f"/v1/nodes?since={first}", headers=own).json()
    assert (changed["changed"], [one["node_id"] for one in changed["changed_nodes"]]) == (
        [],
        ["main-0000", "main-0001"],
    )
    assert {one["node_id"]: one["alias"] for one in changed["items"]} == {"main-0000": "b", "main-0001": "a"}
    names = client.request("PATCH", PATH, json=asked(main_0000=None, old="c"), headers=own).json()
    assert names["aliases"] == [{"node_id": "main-0001", "alias": "a"}, {"node_id": "old", "alias": "c"}]
    assert names["unknown"] == ["old"]
    assert client.put(PATH, json=asked(main_0002="z"), headers=own).json()["aliases"] == [
        {"node_id": "main-0002", "alias": "z"}
    ]
    # nothing changed: no follower is told
    before = client.get("/v1/nodes", headers=own).json()["next"]
    client.put(PATH, json=asked(main_0002="z"), headers=own)
    assert client.get(f"/v1/nodes?since={before}", headers=own).json()["changed_nodes"] == []


@pytest.mark.parametrize(
    "names",
    [
        {"main_0000": "same", "main_0001": "same"},
        {"main_0000": "line\nfeed"},
        {"main_0000": "\u202egpu"},
        {"main_0000": "zero\u200bwidth"},
        {"main_0000": "e\u0301"},
        {"main_0000": " gpu"},
        {"main_0000": ""},
        {"main_0000": "x" * 254},
        {"Main": "x"},
    ],
)
def test_names_that_are_no_names_are_refused(client: Within, registry: Registry, names: dict[str, str | None]) -> None:
    own = bearer(registry, "operator", "gz-1")
    client.put(PATH, json=asked(main_0002="z"), headers=own)
    for method in ("PUT", "PATCH"):
        assert code_of(client.request(method, PATH, json=asked(**names), headers=own)) == (422, "request-invalid")
    assert len(client.get(PATH, headers=own).json()["aliases"]) == 1


def test_a_node_twice_is_refused(registry: Registry, client: Within) -> None:
    twice = AliasesAsk(aliases=(AliasAsk(node_id="a", alias="x"), AliasAsk(node_id="a", alias="y")))
    for act in (replace_aliases, change_aliases):
        with pytest.raises(RefusedError, match="twice"):
            act(registry, "gz-1", twice)
    # what another node bears already is refused too
    change_aliases(registry, "gz-1", AliasesAsk(aliases=(AliasAsk(node_id="a", alias="x"),)))
    with pytest.raises(RefusedError, match="same alias"):
        change_aliases(registry, "gz-1", AliasesAsk(aliases=(AliasAsk(node_id="b", alias="x"),)))
    replace_aliases(registry, "gz-2", AliasesAsk(aliases=(AliasAsk(node_id="b", alias="x"),)))


def test_many_small_changes_give_no_more_names_than_a_large_one(
    registry: Registry, client: Within, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("certify.registry.intake.aliases.MOST_ALIASES", 2)
    own = bearer(registry, "operator", "gz-1")
    for names in ({"a": "1"}, {"b": "2"}, {"a": "3"}):
        assert client.request("PATCH", PATH, json=asked(**names), headers=own).status_code == 200
    for method, names in (("PATCH", {"c": "4"}), ("PUT", {"a": "1", "b": "2", "c": "3"})):
        answer = client.request(method, PATH, json=asked(**names), headers=own)
        assert code_of(answer) == (422, "request-invalid")
    assert len(client.get(PATH, headers=own).json()["aliases"]) == 2
    client.request("PATCH", PATH, json=asked(a=None), headers=own)
    assert client.request("PATCH", PATH, json=asked(c="4"), headers=own).status_code == 200


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_changes_of_names_are_counted_as_submissions(registry: Registry) -> None:
    own = bearer(registry, "operator", "gz-1")
    settings = structs.replace(registry.settings, limits=Limits(submissions_per_hour=2))
    limited = Within(create_app(replace(registry, place=replace(registry.place, settings=settings))))
    answers = [limited.request("PATCH", PATH, json=asked(a=alias), headers=own).status_code for alias in "xyz"]
    assert answers == [200, 200, 429]


@pytest.mark.parametrize("alias", ["=1+1", "@SUM(1)", "\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20SUM(1)"])
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_no_name_is_a_formula_in_a_table(client: Within, registry: Registry, alias: str) -> None:
    own = bearer(registry, "operator", "gz-1")
    assert client.put(PATH, json=asked(main_0000=alias), headers=own).status_code == 200
    table = client.get("/v1/nodes?format=csv", headers=own)
    assert f"'{alias}" in [one["alias"] for one in csv.DictReader(io.StringIO(table.text))]


def test_files_of_names(tmp_path: Path) -> None:
    file = tmp_path / "names.csv"
    file.write_bytes('\ufeffnode_id,alias\r\na,"x,1"\r\nb,\r\n'.encode())
    assert read_names(file) == {"a": "x,1", "b": None}
    for content in ("a,b\n", "node_id,alias\na\n", "node_id,alias\na,x\na,y\n", "\n"):
        file.write_text(content)
        with pytest.raises(InputError) as refused:
            read_names(file)
        assert refused.value.code == "table-invalid"
