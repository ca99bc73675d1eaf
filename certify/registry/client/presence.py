"""The part of the client that nodes use: nonces and heartbeats, of one node or of a rack. It needs no token."""

from __future__ import annotations

from collections.abc import Sequence

from certify.registry.api import common
from certify.registry.api.heartbeats import BeatLines, Nonces, NoncesAsk
from certify.registry.client.calls import ClientCalls
from certify.registry.client.transport import TransportRequest, path_part

DSSE = "application/vnd.petaseal.dsse+json"
JSONL = "application/jsonl"


class PresenceClient(ClientCalls):
    """Asks for nonces and sends heartbeats."""

    def nonce(self, centre_id: str, node_id: str) -> common.Nonce:
        """Return what the node's next heartbeat must carry."""
        return self._get(f"/nodes/{path_part(centre_id)}/{path_part(node_id)}/nonce", common.Nonce)

    def beat(self, heartbeat: bytes) -> common.Beat:
        """Send a signed heartbeat; its nonce is good once, so that it is not sent again."""
        answer = self._transport.ask(
            TransportRequest("POST", "/heartbeats", headers={"content-type": DSSE}, body=heartbeat, repeatable=False)
        )
        return self._decoded(self._transport.check(answer), common.Beat)

    def nonces(self, centre_id: str, node_ids: Sequence[str]) -> Nonces:
        """Return what the next heartbeats of up to 64 nodes must carry, or for each why there is none."""
        return self._send("POST", "/nonces", NoncesAsk(centre_id=centre_id, node_ids=tuple(node_ids)), Nonces)

    def beat_many(self, heartbeats: Sequence[bytes]) -> BeatLines:
        """Send the signed heartbeats of up to 64 nodes; each is answered by itself, accepted or refused."""
        body = b"".join(one.removesuffix(b"\n") + b"\n" for one in heartbeats)
        headers = {"content-type": JSONL}
        request = TransportRequest("POST", "/heartbeats/batch", headers=headers, body=body, repeatable=False)
        return self._decoded(self._transport.check(self._transport.ask(request)), BeatLines)
