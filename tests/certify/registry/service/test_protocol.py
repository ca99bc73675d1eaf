"""Bytes on a connection that two readers could take for different requests, and a server that takes none of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certify.registry.laid import lay_registry
from tests.certify.registry.listening import Served, served
from tests.certify.registry.service.raw import exchange

HOST = b"Host: registry\r\n"
ASKED = b"GET /healthz HTTP/1.1\r\n" + HOST
SENT = b"POST /v1/heartbeats HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
HIDDEN = b"GET /v1 HTTP/1.1\r\n" + HOST + b"\r\n"  # that a second reader would find behind the first request

ATTACKS: dict[str, tuple[bytes, str]] = {
    "length-and-chunks": (SENT + b"Content-Length: 5\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + HIDDEN, "both"),
    "chunks-and-length": (SENT + CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n" + HIDDEN, "both"),
    "two-lengths": (SENT + b"Content-Length: 2\r\nContent-Length: 9\r\n\r\n{}" + HIDDEN, ""),
    "two-lengths-in-one": (SENT + b"Content-Length: 2, 9\r\n\r\n{}" + HIDDEN, ""),
    "two-lengths-that-agree": (SENT + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}" + HIDDEN, "more than one"),
    "two-lengths-in-one-that-agree": (SENT + b"Content-Length: 2, 2\r\n\r\n{}" + HIDDEN, "more than one"),
    "length-with-sign": (SENT + b"Content-Length: +2\r\n\r\n{}" + HIDDEN, ""),
    "length-in-hex": (SENT + b"Content-Length: 0x2\r\n\r\n{}" + HIDDEN, ""),
    "length-below-zero": (SENT + b"Content-Length: -1\r\n\r\n" + HIDDEN, ""),
    "length-of-nothing": (SENT + b"Content-Length:\r\n\r\n" + HIDDEN, ""),
    "chunks-twice": (SENT + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + HIDDEN, ""),
    "chunks-in-two-headers": (SENT + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n" + HIDDEN, ""),
    "coding-unknown": (SENT + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + HIDDEN, ""),
    "coding-identity": (SENT + b"Transfer-Encoding: identity\r\n\r\n" + HIDDEN, ""),
    "coding-with-tab": (SENT + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + HIDDEN, ""),
    "chunks-of-http-1-0": (SENT.replace(b"1.1", b"1.0") + CHUNKED + b"\r\n0\r\n\r\n" + HIDDEN, "HTTP/1.0"),
    "bare-lf-after-request-line": (b"GET /healthz HTTP/1.1\n" + HOST + b"\r\n", "LF"),
    "bare-lf-after-header": (ASKED + b"A: b\nC: d\r\n\r\n", "LF"),
    "bare-lf-at-end-of-head": (ASKED + b"A: b\r\n\n" + HIDDEN, "LF"),
    "bare-lf-throughout": (ASKED.replace(b"\r", b"") + b"\n", "LF"),
    "bare-cr-in-header": (ASKED + b"A: b\rC: d\r\n\r\n", ""),
    "folded-by-space": (ASKED + b"A: b\r\n c\r\n\r\n", "folded"),
    "folded-by-tab": (SENT + b"Transfer-Encoding:\r\n\tchunked\r\n\r\n0\r\n\r\n" + HIDDEN, "folded"),
    "folded-first-header": (b"GET /healthz HTTP/1.1\r\n A: b\r\n" + HOST + b"\r\n", ""),
    "space-before-colon": (ASKED + b"Transfer-Encoding : chunked\r\n\r\n", ""),
    "nul-in-value": (ASKED + b"A: b\0c\r\n\r\n", ""),
    "nul-in-name": (ASKED + b"A\0: b\r\n\r\n", ""),
    "nul-in-target": (b"GET /health\0z HTTP/1.1\r\n" + HOST + b"\r\n", ""),
    "control-in-value": (ASKED + b"A: b\x7fc\r\n\r\n", ""),
    "header-without-colon": (ASKED + b"garbage\r\n\r\n", ""),
    "header-without-name": (ASKED + b": b\r\n\r\n", ""),
    "no-host": (b"GET /healthz HTTP/1.1\r\n\r\n", ""),
    "two-hosts": (ASKED + HOST + b"\r\n", ""),
    "host-with-a-path": (b"GET /healthz HTTP/1.1\r\nHost: registry/elsewhere\r\n\r\n", "Host"),
    "host-with-a-query": (b"GET /healthz HTTP/1.1\r\nHost: registry?a=b\r\n\r\n", "Host"),
    "host-with-a-fragment": (b"GET /v1/pools?nonsense=1 HTTP/1.1\r\nHost: registry#\r\n\r\n", "Host"),
    "host-with-a-user": (b"GET /healthz HTTP/1.1\r\nHost: elsewhere@registry\r\n\r\n", "Host"),
    "host-of-two": (b"GET /healthz HTTP/1.1\r\nHost: registry, elsewhere\r\n\r\n", "Host"),
    "host-of-bytes": (b"GET /healthz HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n", "Host"),
    "http-0-9": (b"GET /healthz\r\n\r\n", ""),
    "http-2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""),
    "http-9-9": (ASKED.replace(b"1.1", b"9.9") + b"\r\n", "HTTP/1.1"),
    "http-lower-case": (ASKED.replace(b"HTTP", b"http") + b"\r\n", ""),
    "absolute-target": (b"GET http://elsewhere/healthz HTTP/1.1\r\n" + HOST + b"\r\n", "target"),
    "double-slash-target": (b"GET //elsewhere/healthz HTTP/1.1\r\n" + HOST + b"\r\n", "target"),
    "asterisk-target": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", "target"),
    "connect-target": (b"CONNECT elsewhere:443 HTTP/1.1\r\n" + HOST + b"\r\n", "target"),
    "relative-target": (b"GET healthz HTTP/1.1\r\n" + HOST + b"\r\n", "target"),
    "two-spaces": (b"GET  /healthz HTTP/1.1\r\n" + HOST + b"\r\n", ""),
    "space-in-target": (b"GET /health z HTTP/1.1\r\n" + HOST + b"\r\n", ""),
    "method-of-no-letters": (b"G[T /healthz HTTP/1.1\r\n" + HOST + b"\r\n", ""),
    "method-of-bytes": (b"\x16\x03\x01\x02\x00 / HTTP/1.1\r\n" + HOST + b"\r\n", ""),
    "empty-line-first": (b"\r\n\r\n\r\n", ""),
    "headers-by-hundreds": (ASKED + b"A: b\r\n" * 200 + b"\r\n", "100 headers"),
    "header-of-megabytes": (ASKED + b"A: " + b"b" * 2**20 + b"\r\n\r\n", ""),
    "head-just-too-long": (ASKED + b"A: " + b"b" * 2**14 + b"\r\n\r\n", ""),
    "target-just-too-long": (b"GET /" + b"a" * 2**14 + b" HTTP/1.1\r\n" + HOST + b"\r\n", ""),
    "chunk-of-bare-lf": (SENT + CHUNKED + b"\r\n2\n{}\n0\n\n" + HIDDEN, ""),
    "chunk-longer-than-said": (SENT + CHUNKED + b"\r\n1\r\n{}\r\n0\r\n\r\n" + HIDDEN, ""),
    "chunk-of-no-number": (SENT + CHUNKED + b"\r\n-2\r\n{}\r\n0\r\n\r\n" + HIDDEN, ""),
    "chunk-beyond-64-bits": (SENT + CHUNKED + b"\r\n" + b"F" * 21 + b"\r\n{}\r\n0\r\n\r\n" + HIDDEN, ""),
    "chunk-extension-with-cr": (SENT + CHUNKED + b"\r\n2;a\rb\r\n{}\r\n0\r\n\r\n" + HIDDEN, "before a chunk"),
    "chunk-extension-with-nul": (SENT + CHUNKED + b"\r\n2;a\0b\r\n{}\r\n0\r\n\r\n" + HIDDEN, "before a chunk"),
    "last-chunk-extension-with-cr": (SENT + CHUNKED + b"\r\n2\r\n{}\r\n0;a\rb\r\n\r\n" + HIDDEN, ""),
    "end-of-chunks-by-bare-lf": (SENT + CHUNKED + b"\r\n2\r\n{}\r\n0\r\n\n" + HIDDEN, "LF"),
    "trailer-by-bare-lf": (SENT + CHUNKED + b"\r\n2\r\n{}\r\n0\r\nA: b\n\r\n" + HIDDEN, "LF"),
    "trailer-folded": (SENT + CHUNKED + b"\r\n2\r\n{}\r\n0\r\nA: b\r\n c\r\n\r\n" + HIDDEN, "folded"),
    "trailer": (SENT + CHUNKED + b"\r\n2\r\n{}\r\n0\r\nContent-Length: 5\r\n\r\n" + HIDDEN, "trailers"),
}  # what is sent, and a word of the answer


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Served]:
    """A registry as it is served."""
    with served(lay_registry(tmp_path_factory.mktemp("raw") / "registry", keys).root) as running:
        yield running


@pytest.mark.parametrize("pieces", ["at once", "in pieces"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_request_that_is_read_in_two_ways_is_refused(service: Served, attack: str, pieces: str) -> None:
    sent, told = ATTACKS[attack]
    before = len(service.requests())
    answers = exchange(service.port, sent, 7 if pieces == "in pieces" and len(sent) < 2**13 else len(sent))
    assert [answer.status for answer in answers] == [400], answers
    problem = json.loads(answers[0].body)
    assert problem["code"] == "request-invalid"
    assert told in problem["detail"], problem
    assert "frame-ancestors 'none'" in answers[0].headers["content-security-policy"]
    # a route that has begun to read a body learns that it was cut off, and does nothing
    assert [line for line in service.requests()[before:] if (line["status"] or 400) < 400] == []


def test_what_is_no_request_is_counted(service: Served) -> None:
    exchange(service.port, ATTACKS["bare-lf-throughout"][0], 4096)
    with service.client() as client:
        lines = client.get("/metrics").text.splitlines()
    (count,) = [
        line for line in lines if line.startswith("petaseal_registry_requests_total") and 'method="other"' in line
    ]
    assert 'route="none",status="4xx"' in count
    assert float(count.split()[-1]) >= 1


def test_what_is_well_formed_is_answered(service: Served) -> None:
    honest = {
        "one": (ASKED + b"\r\n", [200]),
        "two behind each other": ((ASKED + b"\r\n") * 2, [200, 200]),
        "a body in chunks": (SENT + CHUNKED + b"\r\n1;a=b\r\n{\r\n1\r\n}\r\n0\r\n\r\n" + ASKED + b"\r\n", [422, 200]),
        "a body of a length": (SENT + b"Content-Length: 2\r\n\r\n{}" + ASKED + b"\r\n", [422, 200]),
        "many small chunks": (
            SENT + CHUNKED + b"\r\n" + b"1\r\n \r\n" * 9000 + b"0\r\n\r\n" + ASKED + b"\r\n",
            [422, 200],
        ),
        "HTTP/1.0": (b"GET /healthz HTTP/1.0\r\n\r\n", [200]),
        "tabs and bytes in a value": (ASKED + b"A:\t b \xe5\xb9\xbf \t\r\n\r\n", [200]),
        "an unknown method": (ASKED.replace(b"GET", b"BREW") + b"\r\n", [405]),
        "an address as host": (ASKED.replace(b"registry", b"[2001:db8::1]:8600") + b"\r\n", [200]),
        "a name and a port as host": (ASKED.replace(b"registry", b"city_1.example:8600") + b"\r\n", [200]),
        "no name as host": (ASKED.replace(b"registry", b"") + b"\r\n", [200]),
        "a hundred headers": (ASKED + b"A: b\r\n" * 99 + b"\r\n", [200]),
    }
    for name, (sent, statuses) in honest.items():
        answers = exchange(service.port, sent, 4096)
        assert [answer.status for answer in answers] == statuses, name
        assert all(b"request-invalid" not in answer.body for answer in answers), name
