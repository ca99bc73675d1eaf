"""RFC 6962 Merkle trees over the payload digests of records: root, inclusion proof, verification.

Leaves are digests in ascending order, each once; the order is verified, so that a set of records has one root and a
record cannot be listed twice. Hashes only; no document is known here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from bench.errors import RefusedError


def leaf_hash(data: bytes) -> bytes:
    """Return H(0x00 || data) (RFC 6962 section 2.1)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return H(0x01 || left || right) (RFC 6962 section 2.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """The root of leaves that arrive one by one, in memory of O(log n) hashes."""

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []  # roots of the complete subtrees, the largest first: the binary digits of `size`

    def add(self, data: bytes) -> None:
        """Append a leaf."""
        peak = leaf_hash(data)
        size = self.size
        while size & 1:
            peak = node_hash(self._peaks.pop(), peak)
            size >>= 1
        self._peaks.append(peak)
        self.size += 1

    def root(self) -> bytes:
        """Return the Merkle tree hash of the leaves so far; that of no leaves is H() (RFC 6962 section 2.1)."""
        if not self._peaks:
            return hashlib.sha256(b"").digest()
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = node_hash(peak, root)
        return root


class RecordTree:
    """The root over the payload digests of a statement's records, which must ascend."""

    def __init__(self) -> None:
        self._tree = Tree()
        self._last = ""

    @property
    def size(self) -> int:
        """The number of records so far."""
        return self._tree.size

    def add(self, payload_sha256: str) -> None:
        """Append the next record.

        Args:
            payload_sha256: lower-case hex SHA-256 of the record's payload.

        Raises:
            RefusedError: `record-twice` or `records-unsorted`.
        """
        # Ascending digests leave one order for one set, so that one set of records has one root.
        if payload_sha256 <= self._last:
            if payload_sha256 == self._last:
                raise RefusedError("record-twice", f"the record {payload_sha256[:16]}… is listed twice")
            raise RefusedError("records-unsorted", f"the record {payload_sha256[:16]}… is not in ascending order")
        self._tree.add(bytes.fromhex(payload_sha256))
        self._last = payload_sha256

    def root(self) -> str:
        """Return the hex root.

        Raises:
            RefusedError: `no-records`; nothing is never a set of records.
        """
        if not self.size:
            raise RefusedError("no-records", "there is no record")
        return self._tree.root().hex()


def record_root(payload_sha256s: Iterable[str]) -> str:
    """Return the hex root over ascending hex payload digests (see `RecordTree`)."""
    tree = RecordTree()
    for digest in payload_sha256s:
        tree.add(digest)
    return tree.root()


def prove(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the inclusion proof of a leaf: the sibling hashes from the leaf up (RFC 6962 section 2.1.1).

    Args:
        leaves: the data of all leaves, in order.
        index: the leaf that is proven, 0 <= index < len(leaves).
    """
    if not 0 <= index < len(leaves):
        raise ValueError(f"leaf {index} of {len(leaves)}")
    level = [leaf_hash(leaf) for leaf in leaves]
    proof = []
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            proof.append(level[sibling])
        pairs = range(0, len(level) - 1, 2)
        odd = level[-1:] if len(level) % 2 else []  # moves up as it is, which builds RFC 6962's split at powers of two
        level = [node_hash(level[i], level[i + 1]) for i in pairs] + odd
        index //= 2
    return proof


def verify_inclusion(data: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Return whether `proof` shows that `data` is leaf `index` of `size` under `root` (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    hashed, last = leaf_hash(data), size - 1
    for sibling in proof:
        if last == 0:
            return False
        if index & 1 or index == last:
            hashed = node_hash(sibling, hashed)
            while index and not index & 1:
                index >>= 1
                last >>= 1
        else:
            hashed = node_hash(hashed, sibling)
        index >>= 1
        last >>= 1
    return last == 0 and hashed == root
