"""Nodes of a city that beat: their records stand as rows, their keys and heartbeats are real.

A rack is one list of nodes whose heartbeats go together; each of its answers holds the nonces of the next ones.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import msgspec

from bench.units import utc_text
from certify.documents.dsse import seal
from certify.documents.kinds import PAYLOAD_TYPE, Heartbeat, make_document
from certify.keys.signers import PrivateKey, load_scheme, spki_text
from certify.registry.api.common import Beat
from certify.registry.api.heartbeats import BATCH_NODES, BeatLines, Nonces
from certify.registry.storage.store import Store
from tests.certify.registry import rows

POOL = "main"
DEVICES = 8
IDLE_S = 2.0


@dataclass
class Node:
    """A node with its key."""

    centre_id: str
    node_id: str
    key: PrivateKey
    nonce: str = ""

    def heartbeat(self, **changes: Any) -> bytes:
        """Return the heartbeat that is due, signed now."""
        told = {
            "centre_id": self.centre_id,
            "node_id": self.node_id,
            "nonce": self.nonce,
            "sent_at": utc_text(time.time_ns()),
            "devices_sha256": rows.devices(self.centre_id, self.node_id),
            "signer_spki": spki_text(self.key.public),
        }
        return seal(make_document("heartbeat", Heartbeat(**{**told, **changes})), PAYLOAD_TYPE, [self.key])


def lay_nodes(store: Store, centres: int, nodes: int, at: str, certified_mflop_s: int = 0) -> list[Node]:
    """Store centres with one managed pool each, of nodes of eight devices, and return the nodes, silent as yet."""
    laid = []
    with store.writing() as connection:
        for number in range(centres):
            centre_id = f"city-{number:04d}"
            made = [load_scheme("ed25519").generate() for _ in range(nodes)]
            pool = rows.PoolOf(
                nodes=nodes,
                devices=DEVICES,
                certified_mflop_s=certified_mflop_s or nodes * DEVICES * rows.PFLOPS,
                keyids=tuple(key.public.keyid for key in made),
            )
            rows.add_statement(connection, centre_id, [pool], at=at)
            rows.manage(connection, centre_id, POOL, at=at)
            laid += [Node(centre_id, *pair) for pair in zip(rows.node_ids(pool), made, strict=True)]
    return laid


def racks(nodes: Sequence[Node], size: int = BATCH_NODES) -> list[list[Node]]:
    """Return nodes in racks, in their order."""
    return [list(nodes[i : i + size]) for i in range(0, len(nodes), size)]


@dataclass
class Line:
    """A connection to a registry that stays open."""

    url: str
    _used_s: float = 0.0
    _connection: http.client.HTTPConnection | None = field(default=None, repr=False)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def post(self, path: str, body: bytes, media_type: str) -> bytes:
        """Return the answer to a request, which must be good; an address that asks too often waits as it is bidden."""
        place = urlsplit(self.url)
        # the service closes a connection that is not used for 5 s
        if self._connection is not None and time.monotonic() > self._used_s + IDLE_S:
            self.close()
        self._used_s = time.monotonic()
        if self._connection is None:
            self._connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
        while True:
            self._connection.request("POST", path, body, {"content-type": media_type})
            answer = self._connection.getresponse()
            content = answer.read()
            if answer.status != 429:
                assert answer.status == 200, content
                return content
            time.sleep(float(answer.headers["retry-after"]))

    def ask_nonces(self, nodes: Sequence[Node]) -> None:
        """Ask for the first nonces of nodes, which may be of several centres."""
        of_centre: dict[str, list[Node]] = {}
        for node in nodes:
            of_centre.setdefault(node.centre_id, []).append(node)
        for centre_id, part in of_centre.items():
            for some in racks(part):
                ask = {"centre_id": centre_id, "node_ids": [node.node_id for node in some]}
                body = self.post("/v1/nonces", msgspec.json.encode(ask), "application/json")
                answer = msgspec.json.decode(body, type=Nonces)
                for node, line in zip(some, answer.lines, strict=True):
                    assert line.nonce, line
                    node.nonce = line.nonce

    def beat(self, node: Node) -> Beat:
        """Send one heartbeat."""
        answer = msgspec.json.decode(self.post("/v1/heartbeats", node.heartbeat(), "application/json"), type=Beat)
        node.nonce = answer.nonce
        return answer

    def beat_rack(self, rack: Sequence[Node]) -> BeatLines:
        """Send the heartbeats of a rack; nonces are those of the answer."""
        body = b"".join(node.heartbeat() for node in rack)
        answer = msgspec.json.decode(self.post("/v1/heartbeats/batch", body, "application/jsonl"), type=BeatLines)
        for node, line in zip(rack, answer.lines, strict=True):
            node.nonce = line.nonce or node.nonce
        return answer
