"""A certified node's sign of life: signed by the key of its record, under the registry's nonce, with what is in it now.

It says that the node is there with the devices that were certified, and nothing of what they reach today.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from bench.errors import PetasealError, RefusedError
from bench.record import Device
from bench.record.identities import device_keys
from bench.units import utc_text
from certify.documents.dsse import seal
from certify.documents.kinds import PAYLOAD_TYPE, Heartbeat, make_document
from certify.judge.identities import devices_digest
from certify.keys.signers import PrivateKey, spki_text
from certify.registry.api.common import Beat, Nonce
from certify.registry.client.client import RegistryClient

T = TypeVar("T")


def make_heartbeat(nonce: Nonce, devices: Iterable[Device], key: PrivateKey, now: str) -> bytes:
    """Return a signed heartbeat.

    Args:
        nonce: that the registry gave for the node.
        devices: of the node, as they are now.
        key: that signed the node's record.
        now: the present, in the form of `UtcTime`.
    """
    beat = Heartbeat(
        centre_id=nonce.centre_id,
        node_id=nonce.node_id,
        nonce=nonce.nonce,
        sent_at=now,
        devices_sha256=devices_digest(map(device_keys, devices)),
        signer_spki=spki_text(key.public),
    )
    return seal(make_document("heartbeat", beat), PAYLOAD_TYPE, [key])


class KeepsBeating(ABC, Generic[T]):
    """Sends heartbeats for ever: what `beat` sends and returns is of one node, or of a rack."""

    @abstractmethod
    def beat(self) -> T:
        """Send what is due once."""

    def keep_beating(
        self,
        every_s: float,
        sleep: Callable[[float], None] = time.sleep,
        report: Callable[[PetasealError], None] = lambda error: None,
    ) -> Iterator[T]:
        """Yield each answer, for ever; a failure is reported, and the next heartbeat is a new attempt.

        Raises:
            RefusedError: the registry says no: sending it again would change nothing.
        """
        while True:
            try:
                yield self.beat()
            except PetasealError as error:
                # an unknown node or a wrong key stays so: a loop would hide it from its operator
                if isinstance(error, RefusedError) and error.code not in ("rate-limited", "nonce-differs"):
                    raise
                report(error)
            sleep(every_s)


class Heart(KeepsBeating[Beat]):
    """Keeps one node on-line; each answer holds the nonce of the next heartbeat.

    Args:
        registry: that it is sent to.
        centre_id: of the node.
        node_id: its name in the records.
        key: that signed its record.
        devices: lists its devices, anew for each heartbeat.
        clock_ns: UTC, ns.
    """

    def __init__(
        self,
        registry: RegistryClient,
        centre_id: str,
        node_id: str,
        key: PrivateKey,
        devices: Callable[[], Sequence[Device]],
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._registry, self._centre_id, self._node_id = registry, centre_id, node_id
        self._key, self._devices, self._clock_ns = key, devices, clock_ns
        self._next: Nonce | None = None

    def beat(self) -> Beat:
        """Send one heartbeat.

        Raises:
            RefusedError: the registry does not know the node, or not under this key.
            InputError: it cannot be reached.
        """
        devices = self._devices()
        nonce, self._next = self._next, None  # spent, whatever becomes of it
        try:
            # saves a request: each answer holds the nonce of the next heartbeat
            answer = self._send(nonce, devices)
        except RefusedError as error:
            if nonce is None or error.code != "nonce-differs":
                raise
            answer = self._send(None, devices)  # somebody else asked for one since, or the registry was restored
        self._next = Nonce(centre_id=answer.centre_id, node_id=answer.node_id, nonce=answer.nonce)
        return answer

    def _send(self, nonce: Nonce | None, devices: Sequence[Device]) -> Beat:
        nonce = nonce or self._registry.nonce(self._centre_id, self._node_id)
        return self._registry.beat(make_heartbeat(nonce, devices, self._key, utc_text(self._clock_ns())))
