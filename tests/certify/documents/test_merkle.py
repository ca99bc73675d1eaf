"""RFC 6962 trees: published vectors, and the recursive definition as the reference."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import RefusedError
from certify.documents import merkle

# Certificate Transparency's reference leaves and the roots of their first n (google/certificate-transparency).
LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
PROOFS = {  # (leaf, size) -> path, of the same source
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
}
leaf_lists = st.lists(st.binary(max_size=8), min_size=1, max_size=40)


def by_definition(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + by_definition(leaves[:k]) + by_definition(leaves[k:])).digest()


def path_by_definition(m: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 6962 section 2.1.1, word for word."""
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m < k:
        return [*path_by_definition(m, leaves[:k]), by_definition(leaves[k:])]
    return [*path_by_definition(m - k, leaves[k:]), by_definition(leaves[:k])]


def root_of(leaves: list[bytes]) -> bytes:
    tree = merkle.Tree()
    for leaf in leaves:
        tree.add(leaf)
    return tree.root()


@pytest.mark.parametrize("size", range(9))
def test_published_roots(size: int) -> None:
    assert root_of(LEAVES[:size]).hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size"), PROOFS)
def test_published_proofs(index: int, size: int) -> None:
    proof = merkle.prove(LEAVES[:size], index)
    assert [step.hex() for step in proof] == PROOFS[index, size]
    assert merkle.verify_inclusion(LEAVES[index], index, size, proof, bytes.fromhex(ROOTS[size]))


@given(leaf_lists)
def test_root_is_the_recursive_definition(leaves: list[bytes]) -> None:
    assert root_of(leaves) == by_definition(leaves)


@given(leaf_lists, st.data())
def test_every_leaf_can_be_proven_and_no_other(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof, root, size = merkle.prove(leaves, index), root_of(leaves), len(leaves)
    assert proof == path_by_definition(index, leaves)
    assert merkle.verify_inclusion(leaves[index], index, size, proof, root)
    assert not merkle.verify_inclusion(leaves[index] + b"x", index, size, proof, root)
    assert not merkle.verify_inclusion(leaves[index], index, size, [*proof, root], root)
    assert not merkle.verify_inclusion(leaves[index], index, size, proof, bytes(32))
    if proof:
        assert not merkle.verify_inclusion(leaves[index], index, size, proof[:-1], root)
        assert not merkle.verify_inclusion(leaves[index], index, size, [bytes(32), *proof[1:]], root)


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_an_index_outside_the_tree_is_never_included(index: int, size: int) -> None:
    assert not merkle.verify_inclusion(b"", index, size, [], hashlib.sha256(b"").digest())
    with pytest.raises(ValueError):
        merkle.prove([b""] * size, index)


def test_a_proof_is_as_long_as_the_tree_is_high() -> None:
    leaf, sibling = b"leaf", bytes(32)
    alone = merkle.leaf_hash(leaf)
    assert merkle.verify_inclusion(leaf, 0, 1, [], alone)
    assert not merkle.verify_inclusion(leaf, 0, 2, [], alone)
    above = merkle.node_hash(sibling, alone)
    assert merkle.verify_inclusion(leaf, 1, 2, [sibling], above)
    assert not merkle.verify_inclusion(leaf, 0, 1, [sibling], above)


def test_memory_grows_with_the_logarithm() -> None:
    tree = merkle.Tree()
    for n in range(1, 5000):
        tree.add(n.to_bytes(2, "big"))
        assert len(tree._peaks) == n.bit_count()


def test_record_root_is_that_of_the_digest_bytes() -> None:
    digests = sorted(hashlib.sha256(bytes([i])).hexdigest() for i in range(11))
    assert merkle.record_root(digests) == by_definition([bytes.fromhex(d) for d in digests]).hex()
    assert all(a < b for a, b in pairwise(digests))


@pytest.mark.parametrize(
    ("digests", "code"),
    [([], "no-records"), (["11" * 32, "11" * 32], "record-twice"), (["22" * 32, "11" * 32], "records-unsorted")],
)
def test_records_are_distinct_ascending_and_some(digests: list[str], code: str) -> None:
    with pytest.raises(RefusedError) as refused:
        merkle.record_root(digests)
    assert refused.value.code == code
