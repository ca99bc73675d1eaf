"""Heartbeats: fresh nonces, the record's key, clocks, and devices that are not those that were certified."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from bench.errors import RefusedError
from bench.units import utc_text
from certify.documents import dsse
from certify.documents.kinds import PAYLOAD_TYPE, Heartbeat, make_document
from certify.keys.signers import PrivateKey, spki_text
from certify.registry.base.registry import Registry as Opened
from certify.registry.intake import presence
from certify.registry.storage import tables
from tests.certify.measured import Measured
from tests.certify.registry.intake.test_ingest import refused, rows, submit, submit_whole
from tests.certify.registry.laid import CENTRE, Laid

if TYPE_CHECKING:
    from certify.registry.base.registry import Registry

SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
NODE = "gpu-00000"
MINUTE = 60 * 10**9


def devices_of(registry: Registry) -> str:
    with registry.store.reading() as connection:
        return str(connection.execute(select(tables.node_lines.c.devices_sha256)).scalars().first())


def heartbeat(registry: Registry, key: PrivateKey, **changes: Any) -> bytes:
    """Return the heartbeat that is due."""
    told = {
        "centre_id": CENTRE,
        "node_id": NODE,
        "nonce": changes.get("nonce") or presence.nonce(registry, CENTRE, NODE).nonce,
        "sent_at": registry.now,
        "devices_sha256": devices_of(registry),
        "signer_spki": spki_text(key.public),
    }
    payload = make_document("heartbeat", Heartbeat(**{**told, **changes}))
    return dsse.seal(payload, PAYLOAD_TYPE, [key])


def at(registry: Registry, clock_ns: Callable[[], int]) -> Opened:
    return replace(registry, clock_ns=clock_ns)


def test_heartbeats_chain_nonces(registry: Registry, centre: Measured, place: Laid) -> None:
    submit_whole(registry, centre)
    key = place.key("node")
    first = presence.beat(registry, heartbeat(registry, key))
    assert (first.online, first.code) == (True, None)
    second = presence.beat(registry, heartbeat(registry, key, nonce=first.nonce))
    assert second.nonce != first.nonce
    assert presence.nonce(registry, CENTRE, NODE).nonce == second.nonce
    (row,) = rows(registry, tables.presence)
    assert (row.beats, row.seen_at, row.keyid) == (2, second.seen_at, place.keyid("node"))
    # of the two only the first is news to a follower
    assert [one.kind for one in rows(registry, tables.changes)][2:] == ["presence"]


@SQLITE
def test_a_heartbeat_counts_once(registry: Registry, centre: Measured, place: Laid) -> None:
    submit_whole(registry, centre)
    content = heartbeat(registry, place.key("node"))
    presence.beat(registry, content)
    assert refused(lambda: presence.beat(registry, content)) == "nonce-differs"
    stale = heartbeat(registry, place.key("node"), nonce="0" * 64)
    assert refused(lambda: presence.beat(registry, stale)) == "nonce-differs"
    (row,) = rows(registry, tables.presence)
    assert row.beats == 1


@SQLITE
def test_who_may_beat(registry: Registry, centre: Measured, place: Laid) -> None:
    assert refused(lambda: presence.nonce(registry, CENTRE, NODE)) == "node-unknown"
    submit(registry, centre)  # only declared
    assert refused(lambda: presence.nonce(registry, CENTRE, NODE)) == "node-unknown"
    submit_whole(registry, centre)
    for name, code in (
        ("other-node", "centre-not-allowed"),
        ("operator", "role-not-allowed"),
        ("witness", "role-not-allowed"),
    ):
        content = heartbeat(registry, place.key(name))
        assert refused(lambda content=content: presence.beat(registry, content)) == code  # type: ignore[misc]
    from tests.certify.signed import new_key

    stranger = heartbeat(registry, new_key())
    assert refused(lambda: presence.beat(registry, stranger)) == "signer-mismatch"
    two = heartbeat(registry, place.key("node"), node_id="gpu-00099")
    assert refused(lambda: presence.beat(registry, two)) == "node-unknown"
    record = next(centre.records.glob("*.record.dsse.json")).read_bytes()
    assert refused(lambda: presence.beat(registry, record)) == "predicate-type-wrong"
    (row,) = rows(registry, tables.presence)
    assert (row.beats, row.seen_at) == (0, None)


@SQLITE
@pytest.mark.parametrize("minutes", [-10, 10])
def test_clocks_agree(registry: Registry, centre: Measured, place: Laid, minutes: int) -> None:
    submit_whole(registry, centre)
    sent_at = utc_text(time.time_ns() + minutes * MINUTE)
    content = heartbeat(registry, place.key("node"), sent_at=sent_at)
    assert refused(lambda: presence.beat(registry, content)) == "heartbeat-time"


@SQLITE
def test_other_devices_are_told(registry: Registry, centre: Measured, place: Laid) -> None:
    submit_whole(registry, centre)
    answer = presence.beat(registry, heartbeat(registry, place.key("node"), devices_sha256="ab" * 32))
    assert (answer.online, answer.code) == (False, "devices-differ")
    answer = presence.beat(registry, heartbeat(registry, place.key("node")))
    assert answer.online
    assert [one.kind for one in rows(registry, tables.changes)][2:] == ["presence", "presence"]


@SQLITE
def test_a_node_that_was_silent_comes_back(registry: Registry, centre: Measured, place: Laid, tmp_path: Path) -> None:
    submit_whole(registry, centre)
    presence.beat(registry, heartbeat(registry, place.key("node")))
    later_ns = time.time_ns() + 10 * MINUTE
    later = at(registry, lambda: later_ns)
    presence.beat(later, heartbeat(later, place.key("node")))
    (row,) = rows(registry, tables.presence)
    assert (row.beats, row.seen_at) == (1, utc_text(later_ns))
    assert [one.kind for one in rows(registry, tables.changes)][2:] == ["presence", "presence"]


@SQLITE
def test_a_revoked_node_is_not_heard(registry: Registry, centre: Measured, place: Laid) -> None:
    from certify.registry.intake import ingest
    from tests.certify.registry.intake.test_ingest import PLATFORM

    submit_whole(registry, centre)
    content = heartbeat(registry, place.key("node"))
    listed = place.revocations(keyids=(place.keyid("node"),))
    assert ingest.submit_revocations(registry, listed, PLATFORM).decision == "accepted"
    with pytest.raises(RefusedError) as error:
        presence.beat(registry, content)
    assert error.value.code == "key-revoked"
