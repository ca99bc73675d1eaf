"""Operands: the published generator, the recipe step by step in plain Python, and golden digests."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest

from kernels import operands
from kernels.base import PRECISIONS, GemmProblem, Precision
from kernels.operands import CHUNK, Operands, decode, digest, make_quantiles, normals, quantiles, stream

from .products import CHALLENGE

MASK = 2**64 - 1


def philox4x64_10(counter: tuple[int, ...], key: tuple[int, ...]) -> tuple[int, ...]:
    """Philox4x64-10 after Salmon, Moraes, Dror and Shaw (SC 2011), for a check of numpy's."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        x, y = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = (y >> 64) ^ c1 ^ k0, y & MASK, (x >> 64) ^ c3 ^ k1, x & MASK
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & MASK, (k1 + 0xBB67AE8584CAA73B) & MASK
    return c0, c1, c2, c3


# The known answers for philox4x64 10 of Random123 (D. E. Shaw Research), kat_vectors: counter, key, result.
KNOWN_ANSWERS = """
0000000000000000 0000000000000000 0000000000000000 0000000000000000 0000000000000000 0000000000000000
16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b
ffffffffffffffff ffffffffffffffff ffffffffffffffff ffffffffffffffff ffffffffffffffff ffffffffffffffff
87b092c3013fe90b 438c3c67be8d0224 9cc7d7c69cd777b6 a09caebf594f0ba0
243f6a8885a308d3 13198a2e03707344 a4093822299f31d0 082efa98ec4e6c89 452821e638d01377 be5466cf34e90c6c
a528f45403e61d95 38c72dbd566e9788 a5a1610e72fd18b5 57bd43b5e52b7fe6
"""


@pytest.mark.parametrize("case", range(3))
def test_known_answers_of_philox(case: int) -> None:
    words = [int(word, 16) for word in KNOWN_ANSWERS.split()][10 * case : 10 * case + 10]
    counter, key, result = tuple(words[:4]), tuple(words[4:6]), tuple(words[6:])
    assert philox4x64_10(counter, key) == result
    before = sum(word << 64 * i for i, word in enumerate(counter)) - 1  # numpy steps its counter first
    generator = np.random.Philox(key=key[0] | key[1] << 64, counter=before % 2**256)
    assert tuple(int(word) for word in generator.random_raw(4)) == result


def operands_of(precision: Precision, m: int = 40, n: int = 36, k: int = 33) -> Operands:
    return Operands(GemmProblem("gemm-numpy", precision, m, n, k), CHALLENGE, "cpu:0")


def audited(precision: Precision, operand: str, index: int) -> float:
    """Value `index` of an ungraded operand of set 1 of `operands_of`, by the documented recipe in plain Python."""
    array = ["petaseal/operand/v1", CHALLENGE, "cpu:0", precision, [40, 36, 33], 1, operand]
    key = struct.unpack("<2Q", hashlib.sha256(json.dumps(array).replace(", ", ",").encode()).digest()[:16])
    size = {"fp16": 2, "bf16": 2, "fp32": 4, "fp64": 8}[precision]
    block, place = divmod(index * size, 32)
    data = struct.pack("<4Q", *philox4x64_10((block + 1, 0, 0, 0), (key[0], key[1])))
    word = int.from_bytes(data[place : place + size], "little")
    file = (Path(operands.__file__).with_name("normal_quantiles.npy")).read_bytes()
    q = struct.unpack("<65536d", file[-8 * 65536 :])
    if size == 2:
        return float(np.float16(q[word])) if precision == "fp16" else float(struct.unpack("<f", bf16_bytes(q[word]))[0])
    bits = 8 * size - 16
    i, f = word >> bits, word & (2**bits - 1)
    step = (q[i + 1] - q[i - 1]) / 2 if 0 < i < 65535 else q[1] - q[0]
    value = q[i] + (2 * f + 1 - 2**bits) / 2 ** (bits + 1) * step
    return value if precision == "fp64" else float(np.float32(value))


def bf16_bytes(value: float) -> bytes:
    """The nearest of the two neighbouring bf16 values, as a float32 with 16 zero bits; the table has no ties."""
    low = struct.unpack("<I", struct.pack("<f", value))[0] & 0xFFFF0000
    candidates = [struct.pack("<I", low), struct.pack("<I", low + 0x10000)]
    return min(candidates, key=lambda c: abs(struct.unpack("<f", c)[0] - value))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("operand", ["a", "b"])
def test_operands_follow_the_documented_recipe(precision: Precision, operand: str) -> None:
    rows = operands_of(precision).rows(1, operand, 0, 33, graded=False)
    values = decode(rows, precision, np.float64).reshape(-1)
    for index in (0, 1, 2, 3, 4, 5, 15, 16, 17, 100, 999, values.size - 1):
        assert values[index] == audited(precision, operand, index)


GOLDEN: dict[Precision, dict[str, str]] = {
    "fp16": {
        "a": "844a62d8477b97a4ad04e80b8d5ac9b5239e6ddda3a26db5ed5d6606814ac4a4",
        "b": "4f4966d5cf2b161c3a839359c4d012f8976153fd7111f552bbb9aeedeb54e590",
    },
    "bf16": {
        "a": "e244db589f09e16aa0493fa250d1f06a3e22a85b8facd1e0718e5512a0836456",
        "b": "cd0bcf4bddbfcc855e526bc94ae1a09d2c7f90b186c90612e621ec5a4b5686dc",
    },
    "fp32": {
        "a": "ab9846bdb7a1325a3864d2fb5bc5e4d0ab3ed09070f6b12d8b605512175bdb49",
        "b": "fa96d246a5642944e4f7da9abc3d46cb7c0522ea40244beb599bd5c5faab463d",
    },
    "fp64": {
        "a": "dc8d56714e02bfc85a99108aa502b9c0f590df6893031153b41c4e68b9785c52",
        "b": "0344bc20777f29f9b79174ba9a22d8e8b15fa334c4e1604edfff1fd28c67e5a7",
        "grading": "6541f38c0713d747a2883574f890f6838943f078fed1fd2fb040c341ef1757b3",
    },
}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_golden_digests(precision: Precision) -> None:
    assert operands_of(precision).make(1).sha256 == GOLDEN[precision]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_any_rows_are_the_same_rows(precision: Precision) -> None:
    source = operands_of(precision, m=70, n=1000, k=131)
    whole = source.rows(0, "b", 0, 131)
    assert whole.size > CHUNK
    for first, count in ((0, 1), (1, 1), (7, 60), (130, 1)):
        assert np.array_equal(source.rows(0, "b", first, count), whole[first : first + count])


def test_every_part_of_the_key_matters() -> None:
    p = GemmProblem("gemm-numpy", "fp32", 40, 36, 33)
    keys = [
        Operands(p, CHALLENGE, "cpu:0").key(0, "a"),
        Operands(p, CHALLENGE, "cpu:0").key(0, "b"),
        Operands(p, CHALLENGE, "cpu:0").key(1, "a"),
        Operands(p, CHALLENGE, "cpu:1").key(0, "a"),
        Operands(p, CHALLENGE[::-1], "cpu:0").key(0, "a"),
        Operands(GemmProblem("gemm-numpy", "fp64", 40, 36, 33), CHALLENGE, "cpu:0").key(0, "a"),
        Operands(GemmProblem("gemm-numpy", "fp32", 40, 33, 36), CHALLENGE, "cpu:0").key(0, "a"),
    ]
    assert len(set(keys)) == len(keys)
    assert (
        Operands(GemmProblem("gemm-torch", "fp32", 40, 36, 33), CHALLENGE, "cpu:0").key(0, "a") == keys[0]
    )  # same work


def test_the_table_is_the_pinned_one_and_antisymmetric() -> None:
    q = quantiles()
    assert q.shape == (65536,)
    assert np.array_equal(q, -q[::-1])
    assert bool((np.diff(q) > 0).all())
    np.testing.assert_allclose(q, make_quantiles(), rtol=4e-16 * 8)


def test_another_table_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operands, "TABLE_SHA256", "0" * 64)
    quantiles.cache_clear()
    with pytest.raises(ValueError, match="not the table of this version"):
        quantiles()
    monkeypatch.undo()
    assert len(quantiles()) == 65536


@pytest.mark.parametrize("precision", PRECISIONS)
def test_values_are_standard_normal(precision: Precision) -> None:
    values = decode(normals(b"0123456789abcdef", precision, 0, 1 << 20), precision, np.float64)
    assert abs(values.mean()) < 5e-3
    assert abs(values.var() - 1) < 1e-2
    assert abs((values**4).mean() - 3) < 5e-2
    assert 4 < np.abs(values).max() < 4.5
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 5e-3


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_complement_of_a_word_is_the_negative_value(precision: Precision, monkeypatch: pytest.MonkeyPatch) -> None:
    key = b"0123456789abcdef"
    plain = decode(normals(key, precision, 0, 4096), precision, np.float64)
    monkeypatch.setattr(operands, "stream", lambda *args: ~stream(*args))
    assert np.array_equal(decode(normals(key, precision, 0, 4096), precision, np.float64), -plain)


def test_grading_is_uniform_and_leaves_the_product_as_it_was() -> None:
    source = operands_of("fp64", m=33, n=34, k=65_000)
    e = source.grading(0)
    assert e is not None
    counts = np.bincount(e.astype(np.int64) + 32)
    assert len(counts) == 65
    assert bool((np.abs(counts - 1000) < 200).all())
    plain, graded = source.rows(0, "a", 0, 2, graded=False), source.rows(0, "a", 0, 2)
    assert np.array_equal(graded, np.ldexp(plain, e.astype(np.int64)))
    b, graded_b = source.rows(0, "b", 9, 3, graded=False), source.rows(0, "b", 9, 3)
    assert np.array_equal(graded_b, np.ldexp(b, -e[9:12].astype(np.int64)[:, None]))
    assert np.array_equal(graded[:, 9:12] * graded_b[:, 0], plain[:, 9:12] * b[:, 0])  # every summand, bit for bit
    assert operands_of("fp32").grading(0) is None


def test_row_norms_are_those_of_the_ungraded_operand() -> None:
    source = operands_of("fp64")
    np.testing.assert_allclose(
        source.make(0).row_norms, np.linalg.norm(source.rows(0, "a", 0, 40, graded=False), axis=1), rtol=1e-14
    )


def test_digests_are_of_little_endian_values() -> None:
    value = np.array([[1.5, -2.0]])
    assert digest(value) == digest(value.astype(">f8")) == hashlib.sha256(struct.pack("<2d", 1.5, -2.0)).hexdigest()
    assert digest(np.asfortranarray(np.arange(6.0).reshape(2, 3))) == digest(np.arange(6.0))
