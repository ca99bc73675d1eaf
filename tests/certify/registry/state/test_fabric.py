"""What the network's runs show of a statement, in the feed of pools."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from sqlalchemy import select

from certify.registry.intake.facts import store_statement_facts
from certify.registry.state.feed import EVERYTHING, feed
from certify.registry.storage.city_tables import fabric_lines
from certify.registry.storage.store import Store
from tests.certify.registry.rows import T0, add_statement, open_store
from tests.certify.statement.statements import CASES, with_fabric

STALE_S = 300


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store("sqlite", tmp_path)
    yield opened
    opened.close()


def test_the_feed_says_whether_a_statement_s_devices_are_connected(store: Store) -> None:
    shown = {"gz-whole": with_fabric(1), "gz-pods": with_fabric(40), "gz-without": CASES["counted"]()}
    with store.writing() as connection:
        for centre_id, case in shown.items():
            # `add_statement` has the lines of the figures
            facts = replace(case.statement, inventory=(), ceilings=(), classes=(), verdicts=())
            store_statement_facts(connection, facts, add_statement(connection, centre_id))
        assert len(connection.execute(select(fabric_lines)).all()) == 2
    items = msgspec.json.decode(feed(store, T0, STALE_S, EVERYTHING).json())["items"]
    assert {one["centre_id"]: (one["fabric"], one["fabric_groups"], one["network_loss_ppm"]) for one in items} == {
        "gz-whole": ("connected", 1, 70_001),
        "gz-pods": ("partly", 40, 70_001),
        "gz-without": (None, None, None),
    }
    table = feed(store, T0, STALE_S, EVERYTHING, as_csv=True).content.decode()
    assert "network_loss_ppm" in table.splitlines()[0]
