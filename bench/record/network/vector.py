"""The reduced vector of one facility: each device contributes integers, and only all of them together give the sum.

A verifier recomputes it from the records: the list of devices, and the nonces that their workers drew for the run.
Exact in FP32: elements are below 128, so that sums of 131,072 devices stay below 2^24.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from bench.record.fields import encode
from bench.record.node import Device

ELEMENTS = 1024
MOST_RANKS = 2**24 // 128
DOMAIN = "petaseal/reduced-vector/v1"
_SEVEN_BITS = bytes(value & 127 for value in range(256))
_LANES = 4
_EVERY_FOURTH = int.from_bytes(b"\xff\0\0\0" * (ELEMENTS // _LANES), "little")


def contribution(campaign_sha256: str, starts_at: str, window_ns: int, place: tuple[str, Device], nonce: str) -> bytes:
    """Return what a device contributes: `ELEMENTS` integers from 0 to 127, a byte each.

    Args:
        campaign_sha256: of the campaign's document, whose challenge is in it.
        starts_at: T0.
        window_ns: when the run's core window opens after T0: no two runs of a campaign share a vector.
        place: the node's id, and the device as its record lists it.
        nonce: drawn by the device's worker for the run, lower-case hex.
    """
    node_id, device = place
    identity = [node_id, device.device, device.uuid, device.serial, device.die_id]
    seed = hashlib.sha256(encode([DOMAIN, campaign_sha256, starts_at, window_ns, *identity, nonce])).digest()
    return hashlib.shake_128(seed).digest(ELEMENTS).translate(_SEVEN_BITS)


def reduced_sha256(values: Iterable[int]) -> str:
    """Return the digest of a reduced vector: its elements as unsigned 32-bit integers, least byte first."""
    return hashlib.sha256(b"".join(value.to_bytes(4, "little") for value in values)).hexdigest()


@dataclass
class VectorSum:
    """The sum of contributions, without numpy: a verifier adds up those of 100,000 devices.

    Each lane is one integer that holds every fourth element in 32 bits, so that one addition adds 256 elements and no
    element reaches its neighbour before `MOST_RANKS` were added.
    """

    lanes: tuple[int, ...] = (0,) * _LANES

    def add_contribution(self, values: bytes) -> None:
        """Add what one device contributed (`contribution`)."""
        whole = int.from_bytes(values, "little")
        self.lanes = tuple(lane + (whole >> 8 * place & _EVERY_FOURTH) for place, lane in enumerate(self.lanes))

    def add(self, other: VectorSum) -> None:
        """Add the sum over other devices."""
        self.lanes = tuple(map(int.__add__, self.lanes, other.lanes))

    def sha256(self) -> str:
        """Return the digest of the reduced vector, as `reduced_sha256` gives it."""
        words = (struct.unpack(f"<{ELEMENTS // _LANES}I", lane.to_bytes(ELEMENTS, "little")) for lane in self.lanes)
        return reduced_sha256(value for four in zip(*words, strict=True) for value in four)
