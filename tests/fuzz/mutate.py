"""Changes to a valid input that a fuzzer of bytes finds late: whole values of JSON, whole blocks, lines and lengths."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from typing import Any

LIMITS = (0, -1, 1, 7, 2**31, 2**53 - 1, 2**53, -(2**53), 2**63, 2**64, 10**18)
TEXTS = (
    *(
        "",
        " ",
        "a",
        "A",
        "gz-centre",
        "null",
        "NaN",
        "../x",
        "a" * 64,
        "0" * 64,
        "a" * 300,
        "2026-02-30T08:00:00.000000Z",
    ),
    *(
        "2026-03-01T08:00:00.000000Z",
        "2026-03-01T08:00:00Z",
        "\u00e9",
        "e\u0301",
        "\uff11",
        "\u200b",
        "\u202e",
        "\x7f",
        "\n",
    ),
    *("\ud7ff", "\U0010ffff", "AA==", "AB=="),
)
VALUES: tuple[Any, ...] = (*LIMITS, *TEXTS, None, True, False, 1.0, 0.5, [], {}, [[]], {"": None})


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Return an input that differs from `data` in one place, as the choices of `rng` have it."""
    return rng.choice(CHANGES)(data, rng) if data else rng.randbytes(rng.randrange(40))


def _json(data: bytes, rng: random.Random) -> bytes:
    """Change one value of canonical JSON and write it canonically again, its own digest put right now and then."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return _bytes(data, rng)
    holder: list[Any] = [document]
    _change_inside(holder, rng)
    document = holder[0]
    if isinstance(document, dict) and rng.random() < 0.8:
        _put_right(document)
    try:
        return _written(document) + (b"\n" if data.endswith(b"\n") else b"")
    except (ValueError, UnicodeEncodeError):
        return data


def _written(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _put_right(document: dict[str, Any]) -> None:
    match document:
        case {"predicate": predicate, "subject": [{"digest": {"sha256": str()} as digest}]}:
            digest["sha256"] = hashlib.sha256(_written(predicate)).hexdigest()


def _change_inside(holder: Any, rng: random.Random) -> None:
    """Walk to a random place below a container, and change what is there."""
    while True:
        key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        inside = holder[key]
        if not (isinstance(inside, dict | list) and inside) or rng.random() < 0.15:
            break
        holder = inside
    way = rng.randrange(6)
    if way == 0 and isinstance(inside, int):
        holder[key] = inside + rng.choice((-1, 1))
    elif way == 1 and isinstance(inside, str) and inside:
        at = rng.randrange(len(inside))
        holder[key] = inside[:at] + rng.choice(TEXTS) + inside[at + rng.randrange(2) :]
    elif way == 2 and isinstance(holder, list):
        holder.insert(key, inside)
    elif way == 3:
        del holder[key]
        if isinstance(holder, list) and not holder:
            holder.append(rng.choice(VALUES))
    elif way == 4 and isinstance(holder, dict):
        holder[rng.choice(list(holder))] = inside
    else:
        holder[key] = rng.choice(VALUES)


def _bytes(data: bytes, rng: random.Random) -> bytes:
    """Change, cut out, double or move some bytes, in whole blocks of a tar now and then."""
    unit = rng.choice((1, 1, 1, 4, 512))
    start = rng.randrange(len(data)) // unit * unit
    end = min(len(data), start + unit * rng.randrange(1, 8))
    part = data[start:end]
    return rng.choice(
        (
            data[:start] + bytes([rng.randrange(256)]) + data[start + 1 :],
            data[:start] + bytes([data[start] ^ 1 << rng.randrange(8)]) + data[start + 1 :],
            data[:start] + data[end:],
            data[:end] + part + data[end:],
            data[:start] + part[::-1] + data[end:],
            data[:start],
            data + part,
        )
    )


def _lines(data: bytes, rng: random.Random) -> bytes:
    """Leave out, double, swap or join lines."""
    lines = data.split(b"\n")
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    way = rng.randrange(3)
    if way == 0:
        del lines[at]
    elif way == 1:
        lines.insert(other, lines[at])
    else:
        lines[at], lines[other] = lines[other], lines[at]
    return b"\n".join(lines)


def _word(data: bytes, rng: random.Random) -> bytes:
    """Put another number or text where a comma, a colon or a line ends."""
    ends = [at for at, byte in enumerate(data) if byte in b",: \n"]
    if not ends:
        return _bytes(data, rng)
    at = rng.choice(ends)
    after = next((end for end in ends if end > at), len(data))
    value = rng.choice((*map(str, LIMITS), *TEXTS))
    return data[: at + 1] + value.encode() + data[after:]


CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (_json, _json, _bytes, _lines, _word)
