"""Two servers on one PostgreSQL and one folder: what is written by one is at once what the other answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from bench.errors import RefusedError
from bench.units import utc_text
from certify.documents.dsse import seal
from certify.documents.kinds import PAYLOAD_TYPE, Heartbeat, make_document
from certify.keys.signers import spki_text
from certify.registry.api.common import ActAsk
from certify.registry.api.views import CapacityFeed
from certify.registry.base.tokens import revoke_token
from certify.registry.client.client import RegistryClient
from certify.registry.client.feed import Changes, Feed
from certify.registry.storage import tables
from tests.certify.measured import Measured, node_name
from tests.certify.registry.laid import CENTRE, OTHER, Laid
from tests.certify.registry.listening import Served, new_token, opened, served

POOL = "main"


class Pair:
    """Two servers, and clients that take turns between them."""

    def __init__(self, laid: Laid, servers: tuple[Served, Served], tokens: dict[str, str]) -> None:
        self.laid, self.servers, self.tokens = laid, servers, tokens
        self._turn = count()

    def client(self, which: int, who: str = "platform") -> RegistryClient:
        """Return a client of one server."""
        return RegistryClient(self.servers[which].url, self.tokens[who])

    def ask(self, since: str | None) -> CapacityFeed:
        """Return the feed, from the one and then from the other."""
        with self.client(next(self._turn) % 2) as client:
            return client.capacity(since=since)

    def push(self, which: int, centre: Measured, who: str) -> str:
        """Submit a statement and its records, each to another server."""
        out = centre.folder / "out"
        with self.client(which, who) as one, self.client(1 - which, who) as other:
            first = one.submit_statement(out / "statement.dsse.json")
            assert first.payload_sha256 is not None
            assert other.submit_statement(out / "statement.dsse.json").receipt == first.receipt
            assert other.submit_records(first.payload_sha256, out / "records.jsonl").level == "recomputed"
        return first.payload_sha256

    def act(self, which: int, act: str) -> None:
        """Register or manage the first centre's pool."""
        ask = ActAsk(act=act, centre_id=CENTRE, project_id=f"P-{CENTRE}", pool=POOL, reason="contract")  # type: ignore[arg-type]
        with self.client(which) as client:
            client.act(ask)

    def heartbeat(self, nonce: str) -> bytes:
        """Return a signed heartbeat of the first centre's node."""
        with opened(self.laid.root) as registry, registry.store.reading() as connection:
            of_node = tables.node_lines.c.node_id == node_name(0)
            devices = connection.scalars(select(tables.node_lines.c.devices_sha256).where(of_node)).first()
        key = self.laid.key("node")
        told = Heartbeat(
            centre_id=CENTRE,
            node_id=node_name(0),
            nonce=nonce,
            sent_at=utc_text(time.time_ns()),
            devices_sha256=str(devices),
            signer_spki=spki_text(key.public),
        )
        return seal(make_document("heartbeat", told), PAYLOAD_TYPE, [key])

    def nonce(self, which: int) -> str:
        """Return what the node's next heartbeat must carry, as one server says it."""
        with self.servers[which].client() as client:
            answer = client.get(f"/v1/nodes/{CENTRE}/{node_name(0)}/nonce")
        return str(answer.json()["nonce"])

    def beat(self, which: int, content: bytes) -> dict[str, Any]:
        """Send a heartbeat to one server."""
        with self.servers[which].client() as client:
            answer = client.post("/v1/heartbeats", content=content, headers={"content-type": "application/json"})
        value: dict[str, Any] = answer.json()
        return value


@pytest.fixture
def pair(place: Laid) -> Iterator[Pair]:
    """Two running servers of one registry."""
    operators = {"operator": CENTRE, "other": OTHER}
    tokens = {who: new_token(place.root, "operator", centre_id)[1] for who, centre_id in operators.items()}
    tokens["platform"] = new_token(place.root, "platform")[1]
    with ExitStack() as stack:
        servers = stack.enter_context(served(place.root)), stack.enter_context(served(place.root))
        yield Pair(place, servers, tokens)


@pytest.mark.long
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_what_one_server_writes_the_other_answers(
    pair: Pair, centre: Measured, other_centre: Measured, tmp_path: Path
) -> None:
    feed = Feed(pair.ask)

    def step(*centres: str) -> Changes | None:
        """Poll the next server, and see that it names what was written since the last poll, and nothing twice."""
        changes = feed.poll()
        seen = set() if changes is None else {item.centre_id for item in changes.items}
        assert seen == set(centres)
        again = feed.poll()  # the other server knows of nothing more
        assert again is None
        return changes

    step()
    sha256 = pair.push(0, centre, "operator")
    step(CENTRE)
    pair.act(1, "register")
    step(CENTRE)
    pair.act(0, "manage")
    managed = step(CENTRE)
    assert managed is not None
    assert {item.state for item in managed.items} == {"managed"}

    # a nonce is of the registry, whichever server gave it, and counts once
    nonce = pair.nonce(0)
    assert pair.nonce(1) == nonce
    content = pair.heartbeat(nonce)
    heard = pair.beat(1, content)
    assert heard["online"] is True
    assert pair.nonce(0) == heard["nonce"] != nonce
    assert pair.beat(0, content)["code"] == "nonce-differs"
    online = step(CENTRE)
    assert online is not None
    assert [item.nodes_online for item in online.items] == [1]
    assert pair.beat(0, pair.heartbeat(heard["nonce"]))["online"] is True
    step()  # a node that is heard of anyway is no news

    pair.push(1, other_centre, "other")
    step(CENTRE, OTHER)  # an alarm names both: they share a facility
    with pair.client(0) as one, pair.client(1) as two:
        # a follower that switched holds what either server tells whole
        for client in (one, two):
            assert {item.centre_id: item.state for item in client.capacity().items} == {
                pool[0]: item.state for pool, item in feed.pools.items()
            }
        assert one.statement(sha256) == two.statement(sha256)
        one.records(sha256, tmp_path / "one.jsonl")
        two.records(sha256, tmp_path / "two.jsonl")
        assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
        drawn = one.draw_challenge(CENTRE)
        assert [line.challenge for line in two.attempts(CENTRE) if line.challenge == drawn.challenge]
        revoked = pair.laid.revocations(statements=(sha256,))
        assert two.revoke(revoked).decision == "accepted"
        assert one.statement(sha256).summary.state == "revoked"
    step(CENTRE)

    # a token that is revoked at one's database is refused by both
    token_id, secret = new_token(pair.laid.root, "platform")
    pair.tokens["short"] = secret
    for which in (0, 1):
        with pair.client(which, "short") as client:
            assert list(client.centres())
    with opened(pair.laid.root) as registry, registry.store.writing() as connection:
        revoke_token(connection, token_id, registry.now)
    for which in (0, 1):
        with pair.client(which, "short") as client, pytest.raises(RefusedError) as refused:
            client.draw_challenge(CENTRE)
        assert refused.value.code == "token-invalid"

    # one ends, and the follower goes on with the other
    assert pair.servers[0].stop() == 0
    pair.servers = pair.servers[1], pair.servers[1]
    with RegistryClient(pair.servers[1].url) as client:
        assert {item.centre_id for item in client.capacity().items} == {CENTRE, OTHER}
    step()
