"""Who made and who signed the records: keys that several nodes share, petaseals that nobody knows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bench.record import NodeRecord, Tool
from bench.record.sources import tool
from certify.keys.signers import load_scheme
from certify.policy import tools as released
from certify.registry.base.stored import stored_statement
from certify.registry.intake import facts
from certify.registry.maintenance.integrity import check
from certify.registry.maintenance.refill import FILLERS
from certify.registry.state import cache, queries
from certify.registry.storage import node_tables, tables
from tests.certify.registry.intake.test_ingest import OTHERS, rows, submit_whole
from tests.certify.registry.laid import CENTRE, OTHER, Laid, certified

if TYPE_CHECKING:
    from certify.registry.api.views import StatementDetail
    from certify.registry.base.registry import Registry

CHANGED = Tool(version="0.2.0", sha256="ab" * 32)


def detail_of(registry: Registry, sha256: str) -> StatementDetail:
    with registry.store.reading() as connection:
        snapshot = cache.reader_of(registry.store).present(connection, registry.now, 300)
        return queries.statement_detail(connection, snapshot, registry.store.objects, sha256, lambda centre_id: True)


def by(made: Tool, only: int | None = None) -> Callable[[int, NodeRecord], NodeRecord]:
    """Return what makes records tell another petaseal: all of them, or that of one node."""
    return lambda index, record: replace(record, tool=made) if only in (None, index) else record


# What the second centre measured in the same time under the key of the first's image: number of its first node, what
# becomes of it, and the alarm that there is.
CLONED: dict[str, tuple[int, str, set[str]]] = {
    "an image cloned with its key, in two centres": (1, "accepted", {"node-key-shared"}),
    "one machine under two names in two windows": (
        0,
        "refused",
        {"device-in-two-windows", "device-claimed-twice", "machine-in-two-windows", "claims-related"},
    ),
}


@pytest.mark.parametrize("name", CLONED)
def test_a_key_in_two_centres_tells_no_machine_and_devices_do(
    registry: Registry, place: Laid, tmp_path: Path, name: str
) -> None:
    first, decision, alarms = CLONED[name]
    key = load_scheme("ed25519").generate()
    here, one = certified(tmp_path / "here", place.keys, CENTRE, signing=key)
    there, two = certified(tmp_path / "there", place.keys, OTHER, first=first, campaign_id="2026-04", signing=key)
    assert submit_whole(registry, here).decision == "accepted"
    assert submit_whole(registry, there, OTHERS).decision == decision
    raised = rows(registry, tables.alarms)
    assert {alarm.code for alarm in raised} - {"facility-shared"} == alarms
    assert {(alarm.payload_sha256, alarm.other_sha256) for alarm in raised} == {
        (two.payload_sha256, one.payload_sha256)
    }


def test_a_key_of_several_nodes_is_named(registry: Registry, place: Laid, tmp_path: Path) -> None:
    centre, made = certified(tmp_path / "centre", place.keys, nodes=3)
    decided = submit_whole(registry, centre)
    keyid = place.keyid("node")
    note = f"key {keyid[:16]}… signed for 3 nodes, so that it tells no machine:"
    assert any(what.startswith(note) and what.endswith("[node-key-shared]") for what in decided.notes)
    assert any(what.startswith(note) for what in made.notes), "certify says it too"
    assert any(line.startswith(f"NOTE: {note}") for line in made.lines())
    (shared,) = detail_of(registry, made.payload_sha256).shared_keys
    assert (shared.keyid, shared.nodes, shared.note) == (keyid, 3, "node-key-shared")
    assert check(registry).ok, check(registry).lines()


def test_tools_are_listed_and_unknown_ones_noted(
    registry: Registry, place: Laid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(released, "released_tools", dict)
    changes = {0: CHANGED, 1: tool(), 2: tool()}
    centre, made = certified(
        tmp_path / "centre", place.keys, nodes=3, change=lambda index, record: by(changes[index])(index, record)
    )
    assert sum("[tool-unknown]" in what for what in made.notes) == 1
    decided = submit_whole(registry, centre)
    (noted,) = [what for what in decided.notes if "[tool-unknown]" in what]
    assert noted.startswith("1 record(s) were made by a petaseal '0.2.0'")
    detail = detail_of(registry, made.payload_sha256)
    assert detail.records_root == made.statement.records_root
    known, changed = detail.tools
    assert (known.records, known.known, known.note, known.release) == (2, True, None, tool().version)
    assert (changed.sha256, changed.records, changed.known, changed.note) == ("ab" * 32, 1, False, "tool-unknown")
    monkeypatch.setattr(released, "released_tools", lambda: {"ab" * 32: "0.2.0"})
    assert [one.release for one in detail_of(registry, made.payload_sha256).tools] == [tool().version, "0.2.0"]
    assert check(registry).ok, check(registry).lines()


def test_statements_of_the_first_tables_are_filled_in(
    registry: Registry, place: Laid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they were before these tables were: intake stores nothing in them."""
    centre, made = certified(tmp_path / "centre", place.keys, nodes=3, change=by(CHANGED, only=2))
    with monkeypatch.context() as patch:
        for name in ("store_record_facts", "store_makers"):
            patch.setattr(facts, name, lambda *_: None)
        assert submit_whole(registry, centre).decision == "accepted"
    assert not detail_of(registry, made.payload_sha256).tools
    with registry.store.writing() as connection:
        facts.refill_record_facts(connection, stored_statement(connection, registry.store.objects, made.payload_sha256))
    assert facts.refill_record_facts in FILLERS
    found = {(row.sha256, row.records) for row in rows(registry, node_tables.tool_lines)}
    assert found == {("ab" * 32, 1), (centre_tool(centre), 2)}
    assert [(row.keyid, row.nodes) for row in rows(registry, node_tables.key_lines)] == [(place.keyid("node"), 3)]
    assert check(registry).ok, check(registry).lines()


def centre_tool(centre: object) -> str:
    """Return the digest that the simulated records tell, unless they were changed."""
    from tests.certify.measured import simulated

    return simulated(1, "smoke", ("fp16",)).record.tool.sha256


def test_many_keys_and_tools_are_a_short_list() -> None:
    from certify.judge.identities import SignedNodes

    signed = SignedNodes()
    for number in range(30):
        signed.see(f"{number // 2:064x}", f"node-{number}")
    assert len(signed.lines()) == 11
    assert signed.lines()[-1] == "5 more keys signed for several nodes each [node-key-shared]"
    counted = released.count_tools((str(number), f"{number:064x}") for number in range(12))
    assert len(released.unknown_lines(counted)) == 11
    assert released.count_tools([("b", "1"), ("a", "1"), ("b", "1")])[0] == ("b", "1", 2)
