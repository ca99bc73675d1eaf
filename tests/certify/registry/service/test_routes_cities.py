"""Cities over the API: who is expected, additive fields, trend and 2000P, and their tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.errors import InputError
from certify.registry.base.registry import Registry, load_place, open_registry
from certify.registry.service.app import create_app
from tests.certify.registry import rows
from tests.certify.registry.laid import CENTRE, OTHER, lay_registry
from tests.certify.registry.rows import PFLOPS, PoolOf, add_statement, after
from tests.certify.registry.within import Within

CITY = "/v1/cities/guangzhou-2027"


@contextmanager
def served(root: Path, keys: Path, database: str, **settings: Any) -> Iterator[tuple[Registry, Within]]:
    registry = open_registry(lay_registry(root, keys, database, **settings).root)
    try:
        yield registry, Within(create_app(registry))
    finally:
        registry.close()


def absent(client: Within) -> list[tuple[str, str]]:
    return [(one["centre_id"], one["code"]) for one in client.get(CITY).json()["absent"]]


def test_whoever_has_an_operator_is_expected_unless_the_settings_say_who(
    tmp_path: Path, keys: Path, database: str
) -> None:
    with served(tmp_path / "a", keys, database) as (registry, client):
        assert absent(client) == [(CENTRE, "never-submitted"), (OTHER, "never-submitted")]
        with registry.store.writing() as connection:
            add_statement(connection, CENTRE, at=registry.now)
        assert absent(client) == [(OTHER, "never-submitted")]
        scale = client.get(CITY).json()["conditions"][0]
        assert (scale["target"], scale["target_unit"]) == (100, "EFLOPS")
        assert scale["verdict"]["reason"] == "centre-absent"
        assert [gap["reached_ppm"] for gap in scale["gaps"]] == [20_000, 20_200, 40_000]
        # a bad file in the root's place makes nobody expected any less
        (tmp_path / "a" / "trust-root.json").write_text("{}")
        assert absent(client) == [(OTHER, "never-submitted")]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_list_and_the_closed_decide_who_is_expected(tmp_path: Path, keys: Path, database: str) -> None:
    listed = {"guangzhou-2027": [CENTRE, "gz-nansha"]}
    with served(tmp_path / "a", keys, database, expected=listed, closed=[CENTRE]) as (_, client):
        assert absent(client) == [("gz-nansha", "never-submitted")]
        assert {one["centre_id"] for one in client.get("/v1/cities/wuhan-2025").json()["absent"]} == {OTHER}
    lay_registry(tmp_path / "b", keys, expected={"shenzhen": []})
    with pytest.raises(InputError, match="expects centres of shenzhen, which is no city here"):
        load_place(tmp_path / "b")


def test_a_trend_and_who_reached_2000p_are_answered_as_tables_too(tmp_path: Path, keys: Path, database: str) -> None:
    with served(tmp_path / "a", keys, database) as (registry, client):
        now = registry.now
        with registry.store.writing() as connection:
            add_statement(connection, "gz-1", [PoolOf(certified_mflop_s=5 * PFLOPS)], at=after(now, -2 * 86_400))
            add_statement(connection, "gz-1", [PoolOf(certified_mflop_s=7 * PFLOPS)], at=after(now, -10))
            rows.manage(connection, "gz-1", at=after(now, -5))
        answer = client.get(f"{CITY}/trend")
        points = [one for one in answer.json()["points"] if one["pool_class"] == "intelligent"]
        found = [(one["certified_mflop_s"], one["managed_mflop_s"]) for one in points]
        assert (found[0], found[-1]) == ((5 * PFLOPS, 0), (7 * PFLOPS, 7 * PFLOPS))
        table = client.get(f"{CITY}/trend", headers={"Accept": "text/csv"}).text.splitlines()
        assert table[0].startswith("at,pool_class,precision,certified_mflop_s,managed_mflop_s,schedulable_mflop_s")
        assert len(table) == 1 + len(answer.json()["points"])
        assert client.get("/v1/cities/shenzhen/trend").json()["code"] == "city-unknown"
        (one,) = client.get("/v1/reached").json()
        assert (one["policy"], one["target"], one["not_judged"]) == ("guangzhou-2000p", 2000, 1)
        assert client.get("/v1/reached?format=csv").text.startswith(
            "policy,condition,target,target_unit,list,centre_id"
        )
        page = client.get("/en/").text
        assert "The sums over time" in page
        assert "Who reached 2,000 PFLOPS" in page
