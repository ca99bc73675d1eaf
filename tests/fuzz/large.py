"""Inputs of a given length that a parser may need more than its share of time for."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path

PATTERNS = (
    *(
        b"[",
        b"{",
        b'{"a":',
        b'"',
        b"\\",
        b'\\"',
        b"\\u0000",
        b"[],{},",
        b"0",
        b"-",
        b"9",
        b"1e9,",
        b"Z",
        b'Z"',
        b"\x00",
    ),
    *(
        b" ",
        b"\n",
        b"\r\n",
        b"a: ",
        b"- ",
        b"- - ",
        b"a: [",
        b"? ",
        b"&a ",
        b"*a ",
        b"!x ",
        b"{a: ",
        b"'",
        b"|\n ",
        b"#",
        b"%",
    ),
    *(
        b"\t",
        b"-----BEGIN ",
        b"-----",
        b"AAAA\n",
        b"=",
        b",",
        b",,,,,\n",
        b"\xff",
        b"\xf0\x9f\x98\x80",
        "e\u0301".encode(),
    ),
    *(b"\x30\x80", b"\x30\x82\xff\xff", b"a\n: b\n", b"2026-03-01T08:00:00.000000Z"),
)


def large_inputs(seeds: Sequence[Path], length: int) -> Iterator[bytes]:
    """Yield large inputs: one pattern repeated, alone and inside each seed; and each seed repeated."""
    contents = [seed.read_bytes() for seed in seeds]
    for pattern in PATTERNS:
        filled = (pattern * (length // len(pattern) + 1))[:length]
        yield filled
        yield gzip.compress(filled, mtime=0)
        for content in contents:
            middle = len(content) // 2
            for at in (middle, len(content)):
                yield (content[:at] + filled)[: length - (len(content) - at)] + content[at:]
    for content in contents:
        yield (content * (length // len(content) + 1))[:length]
        yield gzip.compress(content * (50 * length // len(content)), mtime=0)[:length]
        yield (
            b"-----BEGIN PUBLIC KEY-----\n" + base64.b64encode(bytes(length * 2 // 3)) + b"\n-----END PUBLIC KEY-----\n"
        )
